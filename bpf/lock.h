/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The lock of a flow: a word taken by compare-and-swap, not a bpf_spin_lock.
 * Helpers (copy, send) must be called under it, so that what a flow releases
 * leaves in the order in which it was decided, whichever CPU decided. Holders
 * run with softirqs off and are never preempted by a task; a waiter gives up
 * after LOCK_SPINS, and the packet is then dropped, counted and a checkpoint
 * asked for.
 */
#ifndef COLO_BPF_LOCK_H
#define COLO_BPF_LOCK_H

#include "event.h"

#define LOCK_SPINS (1 << 21) /* some 10 ms: a hypervisor may take the holder's CPU away */

struct lock_wait {
	__u32 *lock;
	__u32 me;
	__u32 got;
};

/* What a holder writes: CPUs differ, and on one there is one holder at a time. */
static __always_inline __u32 lock_me(void)
{
	return bpf_get_smp_processor_id() + 1;
}

static long lock_try(__u32 step __unused, void *arg)
{
	struct lock_wait *w = arg;

	/* looks first: a write that fails takes the holder's cache line away */
	if (*(volatile __u32 *)w->lock || __sync_val_compare_and_swap(w->lock, 0, w->me))
		return 0;
	w->got = 1;
	return 1;
}

static __always_inline int word_lock(__u32 *lock)
{
	struct lock_wait w = {.lock = lock, .me = lock_me()};

	if (!__sync_val_compare_and_swap(lock, 0, w.me))
		return 1;
	bpf_loop(LOCK_SPINS, lock_try, &w, 0);
	if (!w.got)
		COUNT(lock_failed);
	return w.got;
}

/* Without waiting. */
static __always_inline int word_trylock(__u32 *lock)
{
	return !*(volatile __u32 *)lock && !__sync_val_compare_and_swap(lock, 0, lock_me());
}

static __always_inline void word_unlock(__u32 *lock)
{
	__sync_lock_test_and_set(lock, 0);
}

/*
 * Of an element that may have been deleted: another flow may live in its
 * memory by now and be locked by another CPU.
 */
static __always_inline void word_unlock_stale(__u32 *lock)
{
	__sync_val_compare_and_swap(lock, lock_me(), 0);
}

static __always_inline int key_equal(const struct colo_flow_key *a,
				     const struct colo_flow_key *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;
	__u32 diff = 0;
	unsigned int i;

#pragma unroll
	for (i = 0; i < sizeof(*a) / 4; i++)
		diff |= x[i] ^ y[i];
	return !diff;
}

#endif
