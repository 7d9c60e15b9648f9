/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The flow table of a primary and the lock of a flow.
 *
 * The lock is a word taken by compare-and-swap, not a bpf_spin_lock: helpers
 * (copy, send) must be called under it, so that what a flow releases leaves in
 * the order in which it was decided, whichever CPU decided. Holders run with
 * softirqs off and are never preempted by a task; a waiter gives up after
 * LOCK_SPINS, and the packet is then dropped, counted and a checkpoint asked
 * for.
 */
#ifndef COLO_BPF_FLOW_H
#define COLO_BPF_FLOW_H

#include "event.h"

#define LOCK_SPINS	(1 << 17)
#define LOOKUP_TRIES	4

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct colo_flow_key);
	__type(value, struct colo_flow);
} flows SEC(".maps");

struct lock_wait {
	struct colo_flow *flow;
	__u32 got;
};

static long lock_try(__u32 i, void *arg)
{
	struct lock_wait *w = arg;

	if (__sync_val_compare_and_swap(&w->flow->lock, 0, 1))
		return 0;
	w->got = 1;
	return 1;
}

static __always_inline int flow_lock(struct colo_flow *f)
{
	struct lock_wait w = { .flow = f };

	if (!__sync_val_compare_and_swap(&f->lock, 0, 1))
		return 1;
	bpf_loop(LOCK_SPINS, lock_try, &w, 0);
	if (!w.got)
		COUNT(lock_failed);
	return w.got;
}

static __always_inline void flow_unlock(struct colo_flow *f)
{
	__sync_lock_test_and_set(&f->lock, 0);
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

static __always_inline void flow_template(struct colo_flow *f,
					  const struct colo_flow_key *key,
					  __u64 epoch)
{
	__builtin_memset(f, 0, sizeof(*f));
	f->key = *key;
	f->epoch = epoch;
	f->p_held.head = f->p_held.tail = COLO_NONE;
	f->p_ackwait.head = f->p_ackwait.tail = COLO_NONE;
	f->p_commit.head = f->p_commit.tail = COLO_NONE;
	f->s_wait.head = f->s_wait.tail = COLO_NONE;
	f->s_next_epoch.head = f->s_next_epoch.tail = COLO_NONE;
}

/* The flow of the key, made if it is new; NULL if the table is full. */
static __always_inline struct colo_flow *flow_get(struct scratch *s,
						  __u64 epoch)
{
	const struct colo_flow_key *key = &s->pkt.key;
	struct colo_flow *f;

	f = bpf_map_lookup_elem(&flows, key);
	if (f)
		return f;
	flow_template(&s->flow, key, epoch);
	if (!bpf_map_update_elem(&flows, key, &s->flow, BPF_NOEXIST))
		COUNT(flows_created);
	return bpf_map_lookup_elem(&flows, key);
}

#endif
