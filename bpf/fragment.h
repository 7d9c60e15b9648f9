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

#define BINDINGS_MAX 8192 /* packets in fragments, of one epoch */

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
 * The least recently used go first: a packet of which no fragment came while
 * BINDINGS_MAX others were bound is not waited for by any client.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2 * BINDINGS_MAX);
	__type(key, struct fragment_id);
	__type(value, struct fragment_binding);
} fragments SEC(".maps");

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

__noinline int fragment_bind(__u32 idx, __u32 other)
{
	struct colo_frame *fr = frame_at(idx);
	struct fragment_binding b = {.other = other};
	struct fragment_id id;

	if (!fr)
		return -1;
	b.bound_ns = bpf_ktime_get_ns();
	id.key = fr->key;
	id.id = fr->ack;
	id.state = fr->state;
	return bpf_map_update_elem(&fragments, &id, &b, BPF_ANY);
}

#endif
