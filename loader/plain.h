/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A QEMU without the hooks of qemu-glue/patches, or with `hooks = "never"`:
 * what it does is seen from the events that every QEMU sends, after it was
 * done, and nothing waits for this daemon.
 *
 * A checkpoint, in order: the secondary's STOP, the primary's STOP, the
 * secondary's RESUME, the primary's RESUME. At the primary's STOP all that is
 * held goes to the end that a commit gives it, but as if the lease had run out:
 * nothing leaves, be it released by that or by a match. At the secondary's
 * RESUME its daemon opens the next epoch and tells the primary's, and all that
 * leaves. If that RESUME does not come, it is a take-over that decides.
 *
 * An event may come late. What the primary's guest has sent since QEMU says it
 * was stopped is none of that checkpoint's, and waits for the next.
 */
#ifndef COLO_PLAIN_H
#define COLO_PLAIN_H

#include <stdbool.h>
#include <jansson.h>
#include <linux/types.h>

#include "channel.h"
#include "loop.h"

struct daemon;
struct task;

struct plain {
	bool on;         /* QEMU has no hooks, or they are not to be used */
	bool unsure;     /* secondary: this daemon has not seen its last checkpoint */
	bool stopped;    /* secondary: QEMU's STOP in COLO, and no RESUME since */
	bool migrated;   /* primary: QEMU has handed over to COLO */
	bool began;      /* primary: and the guest runs in it */
	__u64 closing;   /* the epoch that a checkpoint closes, as the primary says */
	__u64 paused_ns; /* primary: since when nothing leaves for a checkpoint, 0: it may */
	__u64 asked_ns;  /* primary: when a checkpoint was asked for on our own account */
	struct loop_timer timer;
};

extern const struct channel_method plain_methods[];

/* QEMU is there, and has no hooks. */
void plain_begin(struct daemon *d);

/* time_ns: when QEMU says it was, CLOCK_MONOTONIC. */
void plain_event(struct daemon *d, const char *name, json_t *data, __u64 time_ns);

/* The checkpoint that has stopped the primary is valid: what it lets go leaves. */
int plain_commit(struct daemon *d);

/* Ask for a checkpoint. */
void plain_ask(struct daemon *d);

/* Before QEMU hands over to COLO, the guest stopped: both data paths begin. */
bool plain_start(struct task *task, struct daemon *d);
/* QEMU has not come to COLO since; if it does not, the guest goes on alone. */
bool plain_has_not_begun(const struct daemon *d);
void plain_not_started(struct daemon *d);

#endif
