/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Loss on the link (rule 12): each side says at least every 10 ms what it has
 * sent, and looks whether as much has come of what the other says.
 */
#ifndef COLO_LOADER_LINK_H
#define COLO_LOADER_LINK_H

#include "datapath.h"

#define LINK_COUNTS_LEN 64 /* bytes of a frame of counts with its tag */

/* Nothing has been sent or received yet. 0 or -errno. */
int link_start(struct datapath *dp);

/*
 * Say and judge. Sets dp->link.next_ns. 0 or -errno; a loss is no error, it
 * asks for a checkpoint.
 */
int link_tick(struct datapath *dp, __u64 now);

/* The frame that says `sent`, tagged, in LINK_COUNTS_LEN bytes. */
void link_counts_frame(unsigned char frame[LINK_COUNTS_LEN], const struct colo_link_count *sent,
		       __u64 asked_epoch, enum colo_reason reason);

#endif
