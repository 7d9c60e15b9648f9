/* SPDX-License-Identifier: GPL-2.0-only */
/* How far a long step has come: events for those who follow the daemon. */
#ifndef COLO_PROGRESS_H
#define COLO_PROGRESS_H

#include <linux/types.h>

struct daemon;

struct progress {
	const char *step;
	__u64 begun_ns;
	__u64 said_ns;
};

struct progress progress_begin(const char *step);

/* Bytes done and in all; publishes an event, at most each 200 ms and at the end. */
void progress_step(struct daemon *d, struct progress *progress, __u64 done, __u64 all);

#endif
