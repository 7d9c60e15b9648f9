/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who goes on alone. Never two do:
 *
 * - a peer that says itself that it is out has shut its port before it said so,
 *   and stays out of this session for good;
 * - a peer that is lost is taken over from only when the policy grants it: the
 *   fence's command has succeeded, the witness has given the session to this
 *   host and gives it to no other, or the operator insists;
 * - under a lease the primary's programs let nothing leave after it. A secondary
 *   takes over only when the lease has surely run out.
 *
 * The lease: a secondary in COLO echoes the primary's heartbeats, and promises
 * with each (HEARTBEAT_PROMISE) not to take over within lease_ms since that one
 * came. The primary's lease ends lease_ms after that one was sent, by its own
 * clock. 1/16 is added for clocks that run at different rates.
 *
 * Each COLO is a session with a random id, made by the primary at QEMU's stage
 * primary-start and told to the secondary over the channel before either guest
 * runs. It is pinned, in the map `session`, with the lease that both agreed on.
 */
#ifndef COLO_TAKEOVER_H
#define COLO_TAKEOVER_H

#include <stdbool.h>
#include <jansson.h>

#include "channel.h"
#include "loop.h"

struct daemon;
struct ask;
struct child;
struct heartbeat;

/* A stage of QEMU's that was announced. */
struct stage {
	char name[32];
	__u64 epoch;
	bool ack;     /* QEMU waits for our answer */
	bool marks;   /* which is to name a mark in the guest's input */
	__u64 marked; /* the one that it names, 0: none */
};

struct takeover {
	/* a session that begins */
	struct stage stage;
	__u64 begin_ns; /* when the secondary was told, 0: nothing is under way */

	/* the lease */
	__u64 lease_ns;    /* as in the map, unless paused */
	bool lease_out;    /* it has run out, and that was said */
	bool paused;       /* the map says that it is out, whatever it is */
	__u64 promised_ns; /* secondary: no promise is older than known since then */

	/* a claim */
	bool claiming;
	bool asking; /* no promise is made any more */
	__u64 fenced_ns;
	struct child *fence;
	struct ask *ask;
	bool may_hold; /* the witness may have given us the session, and we do not want it */
	struct loop_timer timer;
	struct loop_timer release_timer;
	char said[160];
};

extern const struct channel_method takeover_methods[];

/* At the daemon's start, once it knows its state. */
void takeover_adopt(struct daemon *d);
void takeover_close(struct daemon *d);

/* ------------------------------------------------------------- session --- */

/* Is there one? All 0: there is none. */
bool takeover_has_session(const struct daemon *d);
/* The same on both hosts? */
bool takeover_same_session(const struct daemon *d, const struct heartbeat *theirs);

/*
 * Primary: QEMU has announced d->stage. Make a session and tell the secondary;
 * EVENT_BEGUN or EVENT_NOT_BEGUN follows from the loop, with d->stage as it was.
 * 0 or -errno.
 */
int takeover_begin(struct daemon *d);
/* Secondary: no session until the primary tells one. */
void takeover_forget(struct daemon *d);

/* --------------------------------------------------------------- lease --- */

/* Is one asked for in this session? */
bool takeover_leased(const struct daemon *d);
/* Primary: begins with the session, ends when this side is alone. */
void takeover_lease_begin(struct daemon *d);
void takeover_lease_end(struct daemon *d);
/* Primary: a heartbeat has come. */
void takeover_lease_renew(struct daemon *d);
/*
 * Primary: nothing leaves, as if it had run out, with a lease or without; and
 * until it is again what it was. Pinned: a daemon that adopts it is paused.
 */
void takeover_lease_pause(struct daemon *d);
int takeover_lease_go_on(struct daemon *d);
/* Primary: has it run out? Looked at each heartbeat. */
void takeover_lease_watch(struct daemon *d, __u64 now);
/* Secondary: may a heartbeat promise? */
bool takeover_promises(const struct daemon *d);
/* Secondary: when the primary's lease has surely run out. 0: at once. */
__u64 takeover_lease_over(const struct daemon *d);

/* --------------------------------------------------------------- claim --- */

/* Set the policy to work: EVENT_GRANTED or EVENT_REFUSED follows, or nothing. */
void takeover_claim(struct daemon *d);
/* Not needed any more. A session that the witness may have given is given back. */
void takeover_unclaim(struct daemon *d);
/* The same, and what was granted stays with us. */
void takeover_settle(struct daemon *d);

json_t *takeover_describe(const struct daemon *d);

#endif
