/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A primary releases only while it holds a lease, where one is asked for: when
 * it has run out another host may be the active one (rule 2).
 */
#ifndef COLO_BPF_LEASE_H
#define COLO_BPF_LEASE_H

#include "maps.h"

/* Has it run out? A reading of the clock from before a wait for a lock is too old. */
static __always_inline int lease_is_out(__u64 now)
{
	struct colo_session *ses = session_get();
	__u64 lease = ses ? *(volatile __u64 *)&ses->lease_ns : 1;

	return lease && now >= lease;
}

#endif
