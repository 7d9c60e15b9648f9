/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * TCP in fragments cannot be followed as a stream, so its packets are held to
 * the commit; what they bring counts as sent all the same (rule 9), or the
 * stream would have a hole for ever.
 */
#ifndef COLO_BPF_SPAN_H
#define COLO_BPF_SPAN_H

#include "stream.h"

#define FRAGMENT_MORE(fr) ((fr)->key.ethertype == bpf_htons(ETHERTYPE_IPV6) ? 1 : 0x2000)

struct span_walk {
	__u32 at;
	__u32 id;
	__u32 first;
	__u32 last;
};

static long span_step(__u32 step __unused, void *arg)
{
	struct span_walk *w = arg;
	struct colo_frame *fr = frame_at(w->at);

	if (!fr)
		return 1;
	if (fr->ack == w->id && !(fr->seq & FRAGMENT_OFFSET(fr)))
		w->first = w->at;
	if (fr->ack == w->id && !(fr->seq & FRAGMENT_MORE(fr)))
		w->last = w->at;
	w->at = fr->next;
	return 0;
}

static __always_inline __u32 held32(const struct colo_frame *fr, __u32 off)
{
	return off <= COLO_HDR_MAX - 4 ? bpf_ntohl(*(const __be32 *)(fr->hdr + off)) : 0;
}

/*
 * If the first and the last fragment of the packet are held, its units go to
 * scratch.span. Returns 1 then. In IPv4 the offset is in units of 8 bytes.
 */
__noinline int span_find(struct colo_flow *f, __u32 id)
{
	struct scratch *s = scratch_get();
	struct span_walk w = {.id = id, .first = COLO_NONE, .last = COLO_NONE};
	struct colo_frame *first, *last;
	__u32 l4, offset, words, flags;

	if (!f || !s)
		return 0;
	w.at = f->p_commit.head;
	bpf_loop(WALK_MAX, span_step, &w, 0);
	first = frame_at(w.first);
	last = frame_at(w.last);
	if (!first || !last || first->data_len < TCP_LEN)
		return 0;
	l4 = first->l4_off;
	offset = last->seq & FRAGMENT_OFFSET(last);
	if (last->key.ethertype == bpf_htons(ETHERTYPE_IP))
		offset *= 8;
	words = held32(first, l4 + 12);
	flags = words >> 16;
	words >>= 28;
	if (offset + last->data_len < words * 4)
		return 0;
	s->span.key = first->key;
	s->span.key.fragment = 0;
	s->span.key.sport = bpf_htons(held32(first, l4) >> 16);
	s->span.key.dport = bpf_htons(held32(first, l4));
	s->span.seq = held32(first, l4 + 4);
	s->span.end = s->span.seq + offset + last->data_len - words * 4 + (flags & 1) +
		      (flags >> 1 & 1);
	return 1;
}

#endif
