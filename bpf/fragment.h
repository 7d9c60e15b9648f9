/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fragments are matched by flow, place and bytes. The first match binds the
 * primary's packet id to the secondary's until the next commit, and later
 * fragments of the two must follow it: else fragments of two packets of S
 * could vouch for one of P that S has never made (rule 9).
 */
#ifndef COLO_BPF_FRAGMENT_H
#define COLO_BPF_FRAGMENT_H

#include "hold.h"

#define BINDINGS_MAX 8192 /* packets in fragments that may be bound in an epoch */

struct fragment_id {
	struct colo_flow_key key;
	__u32 id;
	__u32 state; /* COLO_FRAME_P or COLO_FRAME_S: whose id */
};

struct fragment_binding {
	__u64 bound_ns; /* of this epoch, if not before session.commit_ns */
	__u32 other;    /* the id of the other side's packet */
	__u32 reserved;
};

/*
 * Two entries a packet; those of closed epochs are the least recently used and
 * make room. None of the open epoch does, for there are twice as many entries
 * as it may have: then nothing is bound any more, and P is held (rule 12).
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4 * BINDINGS_MAX);
	__type(key, struct fragment_id);
	__type(value, struct fragment_binding);
} fragments SEC(".maps");

/* Of one epoch: it begins at that commit. */
struct fragment_count {
	__u64 commit_ns;
	__u64 bound;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fragment_count);
} fragments_bound SEC(".maps");

/* Whether `fr` is bound to another packet than the one with the id `other`. */
__noinline int fragment_elsewhere(__u32 idx, __u32 other)
{
	struct colo_frame *fr = frame_at(idx);
	struct colo_session *ses = session_get();
	struct fragment_binding *b;
	struct fragment_id id;

	if (!fr || !ses)
		return 1;
	id.key = fr->key;
	id.id = fr->ack;
	id.state = fr->state;
	b = bpf_map_lookup_elem(&fragments, &id);
	return b && b->bound_ns >= ses->commit_ns && b->other != other;
}

/* Whether one more packet may be bound in this epoch. */
static __always_inline int fragment_room(const struct colo_session *ses)
{
	struct fragment_count *c = ZERO_KEY(fragments_bound);
	__u64 began = ses->commit_ns, before;

	if (!c)
		return 0;
	before = c->commit_ns;
	if (before != began &&
	    __sync_val_compare_and_swap(&c->commit_ns, before, began) == before)
		c->bound = 0;
	return __sync_fetch_and_add(&c->bound, 1) < BINDINGS_MAX;
}

__noinline int fragment_bind(__u32 idx, __u32 other)
{
	struct colo_frame *fr = frame_at(idx);
	struct colo_session *ses = session_get();
	struct fragment_binding new = {.other = other}, *b;
	struct fragment_id id;

	if (!fr || !ses)
		return -1;
	id.key = fr->key;
	id.id = fr->ack;
	id.state = fr->state;
	b = bpf_map_lookup_elem(&fragments, &id);
	if (b && b->bound_ns >= ses->commit_ns)
		return 0;
	if (id.state == COLO_FRAME_P && !fragment_room(ses)) {
		request(COLO_REASON_FLOW_FULL, &fr->key, 0);
		return -1;
	}
	new.bound_ns = bpf_ktime_get_ns();
	return bpf_map_update_elem(&fragments, &id, &new, BPF_ANY);
}

#endif
