/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the daemon does with held frames: it walks the frame records, finds
 * the flows that have any, and runs the program `control` on each, which works
 * under the flow's lock and sends on the port. All return 0 or -errno.
 */
#ifndef COLO_RELEASE_H
#define COLO_RELEASE_H

#include "datapath.h"

/*
 * Primary: the guest has stopped. What comes from now on is of epoch + 1, and
 * the mark says so in the guest's tap.
 */
int release_stop(struct datapath *dp, __u64 epoch, __u64 *mark);

/* Primary: epoch + 1 opens; all held P leave in order, S of `epoch` is dropped. */
int release_commit(struct datapath *dp, __u64 epoch);

/*
 * session.lease_ns was renewed after it had run out, or is no more: what could
 * have left meanwhile leaves, and only then what comes after it. Should it run
 * out again, the rest goes on waiting for the next call.
 */
int release_lease(struct datapath *dp);

/*
 * This host is the only one from now on, and needs no lease: all held leave,
 * then mode WIRE or ACTIVE.
 */
int release_failover(struct datapath *dp);
/*
 * And once more, when nobody waits for it any more: for what a program was at
 * while that was done, which takes as long as the flow table is large.
 */
int release_failover_end(struct datapath *dp);

/*
 * Primary, whose guest has stopped for a checkpoint: as a commit, for what was
 * held before `before_ns`. The rest stays held. Meant for a lease that is out,
 * so that nothing leaves yet.
 */
int release_commit_before(struct datapath *dp, __u64 epoch, __u64 before_ns);

/* This side lost or is being detached: all held are dropped, mode SHUT. */
int release_discard(struct datapath *dp);

/*
 * Time-outs: asks for a checkpoint where a wait has run out. now_ns is
 * CLOCK_MONOTONIC. Sets *next_ns to when it wants to be called again.
 */
int release_tick(struct datapath *dp, __u64 now_ns, __u64 *next_ns);

/* When the oldest frame of P came that is held, and not for the lease; 0: none is. */
__u64 release_oldest(const struct datapath *dp);

/* A ring buffer event: what it needs besides telling QEMU (WATCH, RELEASE). */
int release_event(struct datapath *dp, const struct colo_event *event, __u64 *next_ns);

/* Ask for a checkpoint, as the programs do: one an epoch. */
int release_request(struct datapath *dp, enum colo_reason reason);

/*
 * Secondary: `epoch` + 1 opens, a new life of the guest; offsets and what waits
 * for one are cleared. mark: where the mark goes that its tap has between the
 * two lives; behind it comes the input that was kept for the new one. NULL: the
 * primary has set none, the guest goes on with what is in its tap.
 */
int release_reset(struct datapath *dp, __u64 epoch, __u64 *mark);

/* COLO starts: epoch 1, mode PRIMARY or SECONDARY. */
int release_start(struct datapath *dp, __u64 epoch);

#endif
