/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Everything that is no TCP stream: frames of a flow are matched by content in
 * whatever order S's come, and leave in the order of P's (rules 3 and 9).
 */
#ifndef COLO_BPF_DATAGRAM_H
#define COLO_BPF_DATAGRAM_H

#include "digest.h"
#include "fragment.h"
#include "release.h"

#define SEARCH_MAX 128 /* frames that are looked at for a partner */

struct search {
	__u32 at;     /* where to look next; what was found */
	__u32 mine;   /* the frame whose partner is wanted */
	__u32 p_side; /* the queue is P's: skip what has a partner */
	__u32 many;   /* more than one is there: digests first */
	__u32 found;
};

/* Two frames of one flow vouch for each other. */
static __always_inline int partners(__u32 p_idx, __u32 s_idx)
{
	struct colo_frame *p = frame_at(p_idx), *s = frame_at(s_idx);

	if (!p || !s || datagram_differ(p_idx, s_idx))
		return 0;
	if (!p->key.fragment)
		return 1;
	if (fragment_elsewhere(p_idx, s->ack) || fragment_elsewhere(s_idx, p->ack))
		return 0;
	return !fragment_bind(p_idx, s->ack) && !fragment_bind(s_idx, p->ack);
}

static long search_step(__u32 step __unused, void *arg)
{
	struct search *s = arg;
	struct colo_frame *fr = frame_at(s->at);

	if (!fr)
		return 1;
	if (!(s->p_side && fr->flags & COLO_FR_MATCHED) &&
	    !(s->many && digest_differ(s->at, s->mine)) &&
	    (s->p_side ? partners(s->at, s->mine) : partners(s->mine, s->at))) {
		s->found = 1;
		return 1;
	}
	s->at = fr->next;
	return 0;
}

/* The first frame of the queue with the content of `mine`, or COLO_NONE. */
static __always_inline __u32 partner_of(struct colo_queue *q, __u32 mine, __u32 p_side)
{
	struct search s = {.at = q->head, .mine = mine, .p_side = p_side, .many = q->count > 1};

	if (q->count)
		bpf_loop(SEARCH_MAX, search_step, &s, 0);
	return s.found ? s.at : COLO_NONE;
}

static long first_unmatched_step(__u32 step __unused, void *arg)
{
	struct search *s = arg;
	struct colo_frame *fr = frame_at(s->at);

	if (!fr)
		return 1;
	if (!(fr->flags & COLO_FR_MATCHED)) {
		s->found = 1;
		return 1;
	}
	s->at = fr->next;
	return 0;
}

/* Both sides have frames without a partner and will not agree any more. */
static __always_inline void datagram_mismatch(struct colo_flow *f)
{
	struct search s = {.at = f->p_held.head};
	struct colo_frame *p, *o;
	__u32 reason = COLO_REASON_PAYLOAD;

	if (f->flags & COLO_F_MISMATCH)
		return;
	bpf_loop(SEARCH_MAX, first_unmatched_step, &s, 0);
	p = frame_at(s.at);
	o = frame_at(f->s_wait.head);
	if (p && o && p->data_len != o->data_len &&
	    !datagram_starts_differ(s.at, f->s_wait.head))
		reason = COLO_REASON_LENGTH;
	f->flags |= COLO_F_MISMATCH;
	f->mismatches++;
	COUNT(mismatches);
	request(reason, &f->key, 0);
}

/* After an arrival: too many on one side, or only time can tell. */
static __always_inline void datagram_check(struct colo_flow *f)
{
	__u32 p = f->p_held.count - f->p_matched_held;
	__u32 s = f->s_wait.count;
	struct colo_config *c = config_get();

	if (!p || !s || !c || f->flags & COLO_F_MISMATCH) {
		f->flags &= ~COLO_F_WATCH;
		return;
	}
	if (p > c->reorder_window || s > c->reorder_window) {
		datagram_mismatch(f);
		return;
	}
	if (f->flags & COLO_F_WATCH)
		return;
	f->flags |= COLO_F_WATCH;
	event_send(COLO_EVENT_WATCH, COLO_REASON_NONE, f->epoch, &f->key, 0);
}

/* P's frame idx came: held until its partner is there and all before it left. */
static __always_inline void datagram_from_p(struct release *r, __u32 idx)
{
	struct colo_flow *f = r->flow;
	struct colo_frame *fr = frame_at(idx);
	__u32 other;

	if (!fr)
		return;
	queue_append(&f->p_held, idx);
	other = partner_of(&f->s_wait, idx, 0);
	if (other != COLO_NONE && !(f->flags & COLO_F_MISMATCH)) {
		fr->flags |= COLO_FR_MATCHED;
		f->p_matched_held++;
		queue_remove(&f->s_wait, other);
		frame_give(other);
		COUNT(s_matched);
	}
	datagram_check(f);
	release_datagrams(r);
}

/* S's frame idx came. Returns whether it waits (else it was used up). */
static __always_inline int datagram_from_s(struct release *r, __u32 idx)
{
	struct colo_flow *f = r->flow;
	struct colo_frame *p;
	__u32 other;

	other = partner_of(&f->p_held, idx, 1);
	p = frame_at(other);
	if (!p || f->flags & COLO_F_MISMATCH) {
		queue_append(&f->s_wait, idx);
		datagram_check(f);
		return 1;
	}
	p->flags |= COLO_FR_MATCHED;
	f->p_matched_held++;
	frame_give(idx);
	COUNT(s_matched);
	datagram_check(f);
	release_datagrams(r);
	return 0;
}

#endif
