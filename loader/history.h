/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The history of checkpoints, in the map `checkpoints`, and when the next one
 * may come: a guest whose answers always differ must become a slow guest, not
 * one that never runs. All times are CLOCK_MONOTONIC.
 */
#ifndef COLO_HISTORY_H
#define COLO_HISTORY_H

#include <stdbool.h>
#include <jansson.h>
#include <linux/types.h>

#include <colo/abi.h>

struct history {
	struct colo_checkpoint *ring; /* [COLO_CHECKPOINTS] */
	struct colo_checkpoint last;  /* the newest, number 0: none */
	enum colo_role role;
	__u64 session_ns; /* when this COLO began, 0: not known */
	/* What QEMU was asked for last. */
	__u64 asked_epoch;
	__u64 asked_ns;
	__u64 requested_ns;
	enum colo_reason reason;
	__u64 stage_ns; /* when the stage that is being handled was heard of */
};

/* Take up what is in the map, of this epoch (0: outside COLO). */
void history_open(struct history *h, struct colo_checkpoint *ring, enum colo_role role,
		  __u64 epoch, __u64 epoch_ns);

/* QEMU was asked for a checkpoint; requested_ns: when it was found to be needed. */
void history_asked(struct history *h, __u64 epoch, enum colo_reason reason, __u64 requested_ns,
		   __u64 now);

/*
 * A stage of QEMU's hooks, before anything is done for it. figures: an object
 * with the members `checkpoint` or `load` of QEMU's event or query; may be NULL.
 */
void history_stage(struct history *h, const char *stage, __u64 epoch, const json_t *figures,
		   __u64 now);

/* ... and after it was acknowledged; epoch: the one that is open now. */
void history_stage_end(struct history *h, const char *stage, __u64 epoch, __u64 now);

/* QEMU's answer to x-query-colo-proxy: what this daemon was not there to hear. */
void history_adopt(struct history *h, const json_t *info, __u64 now);

/* The guest runs: QEMU's event RESUME, which comes without the hooks, too. */
void history_running(struct history *h, __u64 now);

/* COLO is over; epoch: the one that is open. */
void history_over(struct history *h, __u64 epoch, __u64 now);

/*
 * Primary: the peer's figures of a checkpoint, the member `load` that QEMU gave
 * it with secondary-reset. -ENOENT: none of this session's.
 */
int history_peer_load(struct history *h, const json_t *load);

/*
 * When QEMU may be asked for the next checkpoint: min_distance_ms after the
 * guest began to run, and not before it has run for so long that the last
 * checkpoint has taken stop_percent (1 to 100) of the time. HISTORY_UNDER_WAY:
 * one is on its way.
 */
#define HISTORY_UNDER_WAY (~0ULL)

__u64 history_allowed(const struct history *h, __u32 min_distance_ms, __u32 stop_percent);

/* One checkpoint as JSON, with the names of the struct's members. */
json_t *history_describe(const struct colo_checkpoint *checkpoint);

extern const char *const history_end_names[COLO_CHECKPOINT_ENDS];

#endif
