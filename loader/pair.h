/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a running guest to a pair in COLO, and back to one: the procedures that
 * the operator starts, as tasks.
 *
 *	start	a primary that runs for itself, and a secondary that waits
 *	resync	a survivor, whichever it was, and a fresh secondary
 *
 * Both are the same steps: the survivor is made a primary, the peer a secondary.
 */
#ifndef COLO_PAIR_H
#define COLO_PAIR_H

#include "channel.h"
#include "task.h"

/* What the peer's daemon may call. */
extern const struct channel_method pair_methods[];

/* Begin: NULL, or why it cannot be begun. The end is published as an event. */
const char *pair_start(struct daemon *d, bool resync, bool disks_equal);

/* The operator thought better of it. */
const char *pair_cancel(struct daemon *d);

/* QEMU is there: a start or resync whose daemon has died before its end is cancelled. */
void pair_clear(struct daemon *d);

/*
 * QEMU's stage primary-start: before the primary's guest runs in COLO the
 * secondary has the translations that the survivor's clients depend on. Answers
 * the stage, now or later.
 */
int pair_start_stage(struct daemon *d);

/*
 * This side goes on alone: QEMU is told, and its disks. `d->session` waits in
 * the state FAILING for QEMU's stage.
 */
int pair_fail_over(struct daemon *d);

#endif
