/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef COLO_LOADER_CLOCK_H
#define COLO_LOADER_CLOCK_H

#include <time.h>

#include <linux/types.h>

static inline __u64 clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* CLOCK_MONOTONIC, ns: what timers are set by, and the programs' times are. */
static inline __u64 clock_now(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static inline __u64 earlier(__u64 a, __u64 b)
{
	return a < b ? a : b;
}

static inline __u64 later(__u64 a, __u64 b)
{
	return a > b ? a : b;
}

#endif
