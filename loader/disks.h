/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The disks of the pair: at the primary a quorum node over the local disk, to
 * which the replica is added as a second child; at the secondary, which exports
 * the replica by NBD, the graph that QEMU's docs/block-replication.txt has.
 *
 *	device - quorum "node" - local disk
 *	                       - replication(primary) "colo-replica-N" - nbd "colo-nbd-N"
 *
 * All are steps of a task: they wait, and say by task_fail() what went wrong.
 */
#ifndef COLO_DISKS_H
#define COLO_DISKS_H

#include "task.h"

/* All nodes of the configuration are there: [{"node", "bytes"}...], or NULL. */
json_t *disks_describe(struct task *task, struct daemon *d, bool secondary);

/* As many, and of the same size? */
bool disks_compare(struct task *task, struct daemon *d, json_t *mine, json_t *peers);

/* Secondary: the replicas are exported; undone by undo steps. */
bool disks_export(struct task *task, struct daemon *d);

/* Primary: NBD clients of the peer's exports. */
bool disks_connect(struct task *task, struct daemon *d);

/* ... copy all, while the guest runs, and go on copying what it writes. */
bool disks_sync(struct task *task, struct daemon *d);

/* ... with the guest stopped: end the copies, and replicate from here on. */
bool disks_switch(struct task *task, struct daemon *d, bool synced);

/*
 * The survivor's part: no replica any more. On a primary the children are taken
 * out of the quorum; with `all` the nodes, too, once QEMU has left COLO.
 */
bool disks_part(struct task *task, struct daemon *d);
bool disks_remove(struct task *task, struct daemon *d);

/*
 * Instances for QMP's yank: COLO's channel, and the NBD clients of a primary.
 * One that is not there fails the whole command, so each is for one of its own.
 */
json_t *disks_yank(struct daemon *d, bool nbd);

/* A node of a replica of ours: a write to it has failed. */
bool disks_is_replica(struct daemon *d, const char *node);

#endif
