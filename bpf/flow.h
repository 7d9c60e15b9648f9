/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The flow table of a primary.
 */
#ifndef COLO_BPF_FLOW_H
#define COLO_BPF_FLOW_H

#include "lock.h"

#define LOOKUP_TRIES 2

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct colo_flow_key);
	__type(value, struct colo_flow);
} flows SEC(".maps");

static __always_inline void flow_template(struct colo_flow *f, const struct colo_flow_key *key,
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
	f->p_ready.head = f->p_ready.tail = COLO_NONE;
}

/* The flow of the key, made if it is new; NULL if the table is full. */
static __always_inline struct colo_flow *flow_get(struct scratch *s, __u64 epoch)
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
