/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Runs of the program `control`: many flows for one system call, which costs
 * more than most of what a run does. All return 0 or -errno unless they say
 * otherwise.
 */
#ifndef COLO_WORK_H
#define COLO_WORK_H

#include "datapath.h"

/* One run: what the program returns, or -errno. */
int work_once(struct datapath *dp, const struct colo_control *control);

/* `op` on many flows. Zeroed but for the first three. */
struct work {
	struct datapath *dp;
	enum colo_control_op op;
	bool in_order; /* an entry is not begun before the one before it is done */
	__u32 count;   /* entries that wait for work_finish() or for more */
	int error;     /* the first */
};

/* until_ns: as in struct colo_control. */
void work_add(struct work *work, const struct colo_flow_key *key, __u64 until_ns);

/* Until nothing is left to do on any of them. */
int work_finish(struct work *work);

#endif
