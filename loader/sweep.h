/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Closed and idle flows and translations are looked for in turns of bounded
 * length, so that neither a commit nor the data path waits for a table of a
 * million.
 */
#ifndef COLO_SWEEP_H
#define COLO_SWEEP_H

#include "datapath.h"

/* One turn, where one is due; dp->watch says how far it came. 0 or -errno. */
int sweep(struct datapath *dp, __u64 now_ns);

/* When the next is due. */
__u64 sweep_next(const struct datapath *dp);

#endif
