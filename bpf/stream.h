/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * TCP: two streams of units (SYN, bytes, FIN), compared by sequence number,
 * however either guest cut them (rules 5 to 7).
 */
#ifndef COLO_BPF_STREAM_H
#define COLO_BPF_STREAM_H

#include "options.h"
#include "release.h"

#define WALK_MAX     (1 << 14) /* steps through a flow's queues */
#define CARRIER_WALK 8         /* P frames that one S frame may release whole */

struct place {
	__u32 at;
	__u32 seq;
};

static long place_step(__u32 step __unused, void *arg)
{
	struct place *p = arg;
	struct colo_frame *fr = frame_at(p->at);

	if (!fr || seq_leq(fr->seq, p->seq))
		return 1;
	p->at = fr->prev;
	return 0;
}

/*
 * Insert by sequence number, behind those that are equal. An RST, which may
 * have a number that its sender has passed, is behind all that came before it.
 */
static __always_inline void stream_insert(struct colo_queue *q, __u32 idx, __u32 seq,
					  __u32 flags)
{
	struct place p = {.at = q->tail, .seq = seq};
	struct colo_frame *tail = frame_at(q->tail);

	if (tail && flags & COLO_FR_RST && seq_lt(seq, tail->end))
		tail = NULL;
	if (tail && seq_lt(seq, tail->seq))
		bpf_loop(WALK_MAX, place_step, &p, 0);
	queue_insert(q, idx, p.at);
}

struct match {
	struct colo_flow *flow;
	__u32 p;
	__u32 s;
	__u32 reason; /* a mismatch was found */
	__u32 seq;    /* and where */
};

static __always_inline long match_failed(struct match *m, __u32 reason, __u32 seq)
{
	m->reason = reason;
	m->seq = seq;
	return 1;
}

static __always_inline void match_remove_s(struct match *m, struct colo_frame *s)
{
	__u32 next = s->next, idx = m->s;
	struct scratch *sc = scratch_get();

	queue_remove(&m->flow->s_wait, idx);
	if (s->flags & COLO_FR_MATCHED)
		COUNT(s_matched);
	else
		COUNT(s_inside);
	if (sc && sc->carrier == idx)
		sc->carrier_done = 1; /* its bytes are needed a little longer */
	else
		frame_give(idx);
	m->s = next;
}

/* S's RST is one that both have sent already. */
static __always_inline int rst_known(const struct colo_flow *f, const struct colo_frame *s)
{
	return f->flags & COLO_F_BOTH_RST && s->seq == f->rst_seq && s->ack == f->rst_ack;
}

/* P's next is an RST: S must show one at the same place, and nothing there. */
static __always_inline long match_rst(struct match *m, struct colo_frame *p,
				      struct colo_frame *s)
{
	if (s->flags & COLO_FR_RST) {
		if (s->seq != p->seq)
			return match_failed(m, COLO_REASON_FLAGS, p->seq);
		/* an RST may bring a text (RFC 9293 3.5.2), which leaves too */
		if (p->data_len != s->data_len ||
		    (p->data_len && pool_differ(p->data_off, s->data_off, p->data_len)))
			return match_failed(m, COLO_REASON_PAYLOAD, p->seq);
		p->flags |= COLO_FR_MATCHED;
		s->flags |= COLO_FR_MATCHED;
		if (!s->data_len && !rst_known(m->flow, s)) {
			m->flow->rst_more = 0;
			m->flow->rst_seq = s->seq;
			m->flow->rst_ack = s->ack;
			m->flow->flags |= COLO_F_BOTH_RST;
		}
		m->p = p->next;
		match_remove_s(m, s);
		return 0;
	}
	if (vouched_for(m->flow, s->seq, s->end)) {
		match_remove_s(m, s); /* P has shown the same before its RST */
		return 0;
	}
	if (seq_lt(p->seq, s->end) && s->vouched != s->end)
		return match_failed(m, COLO_REASON_FLAGS, p->seq);
	m->s = s->next;
	return 0;
}

/*
 * URG and its pointer must agree (rule 7): to the letter where both segments
 * begin alike; else both have the same urgent byte before them, or none.
 */
static __always_inline int urgent_differs(const struct colo_frame *p,
					  const struct colo_frame *s, __u32 pos)
{
	__u32 p_end = p->seq + p->urg_ptr, s_end = s->seq + s->urg_ptr;
	int p_urg = p->flags & COLO_FR_URG, s_urg = s->flags & COLO_FR_URG;

	if (p->seq != s->seq) {
		p_urg = p_urg && seq_lt(pos, p_end);
		s_urg = s_urg && seq_lt(pos, s_end);
	}
	return !p_urg != !s_urg || (p_urg && p_end != s_end);
}

/*
 * How many of n bytes at pool offsets a and b are equal before the first that
 * is not; there is one.
 */
static __always_inline __u32 match_equal(__u32 a, __u32 b, __u32 n)
{
	__u32 low = 0, mid;
	int i;

	for (i = 0; i < 17; i++) {
		if (n - low <= 1)
			break;
		mid = low + (n - low) / 2;
		if (pool_differ(a, b, mid))
			n = mid;
		else
			low = mid;
	}
	return low;
}

/*
 * Compare both streams from pos, which lies in p and in s. Returns how far
 * they are equal; m->reason is set if there is a difference.
 */
static __always_inline __u32 match_units(struct match *m, struct colo_frame *p,
					 struct colo_frame *s, __u32 pos)
{
	__u32 p0 = p->seq + !!(p->flags & COLO_FR_SYN);
	__u32 s0 = s->seq + !!(s->flags & COLO_FR_SYN);
	__u32 p1 = p->end - !!(p->flags & COLO_FR_FIN);
	__u32 s1 = s->end - !!(s->flags & COLO_FR_FIN);
	__u32 end = seq_lt(p1, s1) ? p1 : s1;
	const struct colo_flow *f = m->flow;
	int p_syn = seq_lt(pos, p0), s_syn = seq_lt(pos, s0);
	int p_fin = pos == p1 && p1 != p->end;
	int s_fin = pos == s1 && s1 != s->end;

	if (p_syn != s_syn || p_fin != s_fin) {
		match_failed(m, COLO_REASON_FLAGS, pos);
		return pos;
	}
	if (p_syn) {
		if (syn_options(m->p) != syn_options(m->s)) {
			match_failed(m, COLO_REASON_FLAGS, pos);
			return pos;
		}
		return pos + 1;
	}
	if (p_fin)
		return pos + 1;
	if (urgent_differs(p, s, pos)) {
		match_failed(m, COLO_REASON_FLAGS, pos);
		return pos;
	}
	/* what is vouched for behind is not compared again */
	if (f->flags & COLO_F_VOUCHED && seq_lt(pos, f->vouch_start) &&
	    seq_lt(f->vouch_start, end))
		end = f->vouch_start;
	if (pool_differ(p->data_off + (pos - p0), s->data_off + (pos - s0), end - pos)) {
		pos += match_equal(p->data_off + (pos - p0), s->data_off + (pos - s0),
				   end - pos);
		match_failed(m, COLO_REASON_PAYLOAD, pos);
		return pos;
	}
	return end;
}

/* One step of the walk through both queues; 1 when there is nothing to do. */
static long match_step(__u32 step __unused, void *arg)
{
	struct match *m = arg;
	struct colo_flow *f = m->flow;
	struct colo_frame *p = frame_at(m->p), *s;
	struct scratch *sc = scratch_get();
	__u32 pos, end;

	if (!p)
		return 1;
	pos = p->vouched;
	if (pos == p->end && (!(p->flags & COLO_FR_RST) || p->flags & COLO_FR_MATCHED)) {
		m->p = p->next;
		/* the next may begin before this one's end: what S has shown there, too */
		p = frame_at(m->p);
		if (p && seq_lt(p->vouched, pos))
			m->s = f->s_wait.head;
		return 0;
	}
	if (f->flags & COLO_F_VOUCHED) {
		if (seq_lt(f->vouch_end, pos) && !(p->flags & COLO_FR_RST))
			return 1; /* P has a gap */
		if (seq_leq(f->vouch_start, pos) && seq_lt(pos, f->vouch_end) &&
		    pos != p->end) {
			p->vouched = seq_lt(p->end, f->vouch_end) ? p->end : f->vouch_end;
			return 0;
		}
	}
	s = frame_at(m->s);
	if (!s)
		return 1;
	if (p->flags & COLO_FR_RST)
		return match_rst(m, p, s);
	if (s->flags & COLO_FR_RST) {
		if (seq_leq(s->seq, pos))
			return match_failed(m, COLO_REASON_FLAGS, pos);
		return 1;
	}
	if (seq_leq(s->end, pos)) {
		if (vouched_for(f, s->seq, s->end))
			match_remove_s(m, s);
		else
			m->s = s->next;
		return 0;
	}
	if (seq_lt(pos, s->seq))
		return 1; /* S has a gap */
	end = match_units(m, p, s, pos);
	if (end == pos)
		return 1;
	if (sc && sc->carrier == m->s && sc->compared_to == pos)
		sc->compared_to = end;
	vouch(f, p->seq, pos, end);
	p->vouched = end;
	if (seq_leq(pos, s->vouched))
		s->vouched = end;
	s->flags |= COLO_FR_MATCHED;
	/* it is of this life, whether its SYN has come or not */
	if (s->flags & COLO_FR_ACK)
		note_s_ack(f, s->ack);
	return m->reason != 0;
}

/*
 * S repeats the RST that both have sent, or the link has doubled it: it waits
 * for nothing. Should P repeat its own, it has been shown.
 */
static __always_inline int match_rst_again(struct colo_flow *f, const struct colo_frame *s)
{
	struct colo_frame *p = frame_at(f->p_held.tail);

	if (s->data_len || !rst_known(f, s) ||
	    (p && p->flags & COLO_FR_RST && !(p->flags & COLO_FR_MATCHED)))
		return 0;
	f->rst_more++;
	return 1;
}

/*
 * S's frames at the head that have nothing left to vouch for; what is kept for P
 * to repeat may lie before them.
 */
static long match_clean_step(__u32 step __unused, void *arg)
{
	struct match *m = arg;
	struct colo_frame *s = frame_at(m->s);

	if (!s)
		return 1;
	if (s->flags & COLO_FR_RST ? match_rst_again(m->flow, s) :
				     vouched_for(m->flow, s->seq, s->end)) {
		match_remove_s(m, s);
		return 0;
	}
	if (s->flags & COLO_FR_RST || s->vouched != s->end)
		return 1;
	m->s = s->next;
	return 0;
}

static long units_before_step(__u32 step __unused, void *arg)
{
	__u32 *at = arg;
	struct colo_frame *fr = frame_at(*at);

	if (!fr || !(fr->flags & COLO_FR_RST))
		return 1;
	*at = fr->prev;
	return 0;
}

/*
 * P's last word is an RST, and S shows units behind all of P's: S has not ended
 * there, whatever of P's is still to be compared.
 */
static __always_inline void match_behind_rst(struct match *m)
{
	struct colo_frame *p = frame_at(m->flow->p_held.tail), *s;

	if (!p || !(p->flags & COLO_FR_RST))
		return;
	/* behind the units that S has shown there may be its own RST, also doubled */
	m->s = m->flow->s_wait.tail;
	bpf_loop(WALK_MAX, units_before_step, &m->s, 0);
	s = frame_at(m->s);
	if (!s || p->flags & COLO_FR_MATCHED || !seq_lt(p->seq, s->end) ||
	    (m->flow->flags & COLO_F_P_SEEN && !seq_lt(m->flow->p_next, s->end)))
		return;
	match_failed(m, COLO_REASON_FLAGS, p->seq);
}

/* Compare as far as both are there. A mismatch is said once and stands. */
__noinline int stream_match(struct colo_flow *f)
{
	struct match m = {};

	if (!f)
		return 0;
	if (f->flags & COLO_F_MISMATCH || s_is_ahead(f))
		return 0;
	m.flow = f;
	m.p = f->p_held.head;
	m.s = f->s_wait.head;
	bpf_loop(WALK_MAX, match_step, &m, 0);
	m.s = f->s_wait.head;
	if (f->s_wait.count)
		bpf_loop(WALK_MAX, match_clean_step, &m, 0);
	if (!m.reason)
		match_behind_rst(&m);
	if (m.reason) {
		f->flags |= COLO_F_MISMATCH;
		f->mismatches++;
		COUNT(mismatches);
		request(m.reason, &f->key, m.seq);
	}
	return 0;
}

/* All that P has sent is common to both now (rule 13). */
static __always_inline void stream_commit(struct colo_flow *f)
{
	if (f->flags & COLO_F_P_SEEN) {
		if (!(f->flags & COLO_F_VOUCHED) || seq_lt(f->p_first, f->vouch_start))
			f->vouch_start = f->p_first;
		f->vouch_end = f->p_next;
		f->flags |= COLO_F_VOUCHED;
		vouch_bound(f);
	}
	/* S is P's copy: what S's life before has acked counts no more */
	f->flags &= ~(COLO_F_S_ACK | COLO_F_S_OLD | COLO_F_S_UNSEEN | COLO_F_S_ISN |
		      COLO_F_S_NEXT_ACK | COLO_F_BOTH_RST);
	if (f->flags & COLO_F_P_ACK) {
		f->s_ack = f->p_ack;
		f->flags |= COLO_F_S_ACK;
	}
}

/* Nothing of P has been seen, so all that came of S is of the life to come. */
static __always_inline int stream_is_fresh(const struct colo_flow *f)
{
	return !(f->flags & (COLO_F_ISN | COLO_F_VOUCHED | COLO_F_P_SEEN | COLO_F_P_ACK));
}

/* What is held waits for the commit, in the order in which it came. */
static long old_life_step(__u32 step __unused, void *arg)
{
	struct colo_flow **f = arg;
	struct colo_queue *q = older_queue(&(*f)->p_ackwait, &(*f)->p_held);
	__u32 idx = q->head;

	if (idx == COLO_NONE)
		return 1;
	queue_remove(q, idx);
	queue_append(&(*f)->p_commit, idx);
	return 0;
}

/*
 * A new life of the flow: what is held of the old one only a commit releases.
 * S's frames stay if they cannot be of that; until S's SYN comes they ack only
 * where their bytes are P's: there may have been a life before, forgotten.
 */
static __always_inline void stream_new_life(struct colo_flow *f, __u32 isn)
{
	__u32 keep = COLO_F_PENDING | COLO_F_WATCH | COLO_F_LATER;
	int fresh = stream_is_fresh(f);

	bpf_loop(WALK_MAX, old_life_step, &f, 0);
	if (f->flags & COLO_F_S_ISN && f->s_isn == isn) {
		f->s_ack = f->s_next_ack;
		f->flags &= ~COLO_F_S_ACK;
		if (f->flags & COLO_F_S_NEXT_ACK)
			f->flags |= COLO_F_S_ACK;
		keep |= COLO_F_S_ISN | COLO_F_S_ACK;
	} else if (!fresh || f->flags & COLO_F_S_ISN) {
		drop_waiting(&f->s_wait, END_DISCARDED);
		f->flags |= COLO_F_S_OLD;
	} else {
		f->flags |= COLO_F_S_UNSEEN;
	}
	keep |= COLO_F_S_OLD | COLO_F_S_UNSEEN;
	f->flags = COLO_F_TCP | COLO_F_ISN | (f->flags & keep);
	f->isn = isn;
}

/* S's SYN: its frames from here on belong to the life with this ISN. */
static __always_inline void stream_s_syn(struct colo_flow *f, __u32 isn)
{
	if (f->flags & COLO_F_ISN && f->isn == isn) {
		/* a SYN of another life in between was an old one, late */
		if (s_is_ahead(f)) {
			drop_waiting(&f->s_wait, END_DISCARDED);
			f->flags &= ~(COLO_F_S_ISN | COLO_F_S_NEXT_ACK);
		}
		f->flags &= ~(COLO_F_S_OLD | COLO_F_S_UNSEEN);
		return;
	}
	if (f->flags & COLO_F_S_ISN && f->s_isn == isn)
		return;
	if (!stream_is_fresh(f) || f->flags & COLO_F_S_ISN)
		drop_waiting(&f->s_wait, END_DISCARDED);
	/* what it says from here on is of no life before */
	f->flags &= ~(COLO_F_S_NEXT_ACK | COLO_F_S_OLD | COLO_F_S_UNSEEN | COLO_F_BOTH_RST);
	f->flags |= COLO_F_S_ISN;
	f->s_isn = isn;
}

/*
 * A frame of S that is of the life before: P has begun a new one, S's SYN of
 * it has not come. S may refuse where P accepts, so an RST is looked at.
 */
static __always_inline int stream_s_old(const struct colo_flow *f, __u32 flags)
{
	return f->flags & COLO_F_S_OLD && !(flags & (COLO_FR_SYN | COLO_FR_RST));
}

struct old_rst {
	__u32 at;
	__u32 seq;
	__u32 ack;
};

static long old_rst_step(__u32 step __unused, void *arg)
{
	struct old_rst *o = arg;
	struct colo_frame *fr = frame_at(o->at);

	if (!fr || (fr->flags & COLO_FR_RST && fr->seq == o->seq && fr->ack == o->ack &&
		    !fr->data_len))
		return 1;
	o->at = fr->next;
	return 0;
}

/* S's RST answers one that P still holds of the life before: both have ended that. */
static __always_inline int stream_old_rst(struct release *r, const struct packet *p)
{
	struct colo_flow *f = r->flow;
	struct old_rst o = {.at = f->p_commit.head, .seq = p->seq, .ack = p->ack};
	struct colo_frame *fr;

	if (!(f->flags & COLO_F_S_OLD) || !(p->flags & COLO_FR_RST) || p->data_len ||
	    !f->p_commit.count)
		return 0;
	bpf_loop(WALK_MAX, old_rst_step, &o, 0);
	fr = frame_at(o.at);
	if (!fr)
		return 0;
	COUNT(s_matched);
	if (f->flags & COLO_F_LATER)
		release_later(r, &f->p_commit, o.at);
	else if (!release_units(r, o.at, fr, fr->seq, fr->end))
		release_end(r, &f->p_commit, o.at);
	return 1;
}

/* P repeats an RST that S has shown as often. */
static __always_inline int stream_rst_again(struct colo_flow *f, const struct packet *p)
{
	if (!(f->flags & COLO_F_BOTH_RST) || !f->rst_more || p->seq != f->rst_seq ||
	    p->data_len)
		return 0;
	f->rst_more--;
	return 1;
}

/* What P's segment tells about how far P is. */
static __always_inline void stream_note_p(struct colo_flow *f, const struct packet *p)
{
	if (p->flags & COLO_FR_SYN && (!(f->flags & COLO_F_ISN) || f->isn != p->seq))
		stream_new_life(f, p->seq);
	if (p->flags & COLO_FR_RST)
		f->flags |= COLO_F_RST;
	if (p->flags & COLO_FR_FIN)
		f->flags |= COLO_F_P_FIN;
	stream_note_units(f, p);
}

/*
 * The P frame that holds the unit before `end`, if all from the first one's
 * released part up to it is P's own, without a gap, and may leave.
 */
static __always_inline __u32 carrier_last(struct colo_flow *f, __u32 end)
{
	__u32 idx = f->p_held.head, at = 0;
	struct colo_frame *p;
	int i;

	for (i = 0; i < CARRIER_WALK; i++) {
		p = frame_at(idx);
		if (!p || !ack_covered(f, p->flags, p->ack) ||
		    p->flags & (COLO_FR_SYN | COLO_FR_RST | COLO_FR_URG))
			return COLO_NONE;
		if (i && p->seq != at)
			return COLO_NONE;
		if (seq_leq(end, p->end))
			return seq_lt(p->seq, end) && seq_leq(end, p->vouched) ? idx :
										 COLO_NONE;
		if (p->vouched != p->end)
			return COLO_NONE;
		at = p->end;
		idx = p->next;
	}
	return COLO_NONE;
}

/*
 * S's packet gets P's headers and leaves in its place, whatever its size: a
 * GSO frame stays one. Its checksum is made anew: S's own was not compared.
 */
__noinline int carrier_send(struct __sk_buff *ctx, __u32 idx, __u32 ifindex)
{
	struct colo_frame *fr = frame_at(idx);
	struct scratch *s = scratch_get();
	__u32 l4, hdr_len;
	struct packet *p;
	int partial;

	if (!fr || !s)
		return -1;
	p = &s->pkt;
	l4 = p->l4_off;
	hdr_len = p->hdr_len;
	if (fr->hdr_len != hdr_len || fr->l4_off != l4 || fr->l3_off != p->l3_off ||
	    fr->vlan_tci != p->vlan_tci || fr->vlan_proto != p->vlan_proto)
		return -1;
	/* without the padding that S's frame may have */
	if (p->len != hdr_len + p->data_len &&
	    (p->gso_size || bpf_skb_change_tail(ctx, hdr_len + p->data_len, 0)))
		return -1;
	partial = ctx_csum_is_partial(ctx, l4 + 16);
	if (partial < 0)
		return -1;
	__builtin_memcpy(s->out, fr->hdr, COLO_HDR_MAX);
	out_l3(s, &fr->key, fr->l3_off, l4, hdr_len - l4 + p->data_len, 0);
	out32(s, l4 + 4, p->seq);
	if (p->end != fr->end)
		s->out[in_hdr(l4 + 13)] &= ~(TCP_FL_FIN | TCP_FL_PSH);
	if (segment_csum(s->carrier, 0, p->data_len, partial ? HOW_PARTIAL : 0))
		return -1;
	BOUND(hdr_len, 255);
	if (ctx_store(ctx, 0, s->out, hdr_len))
		return -1;
	return ctx_send_copy(ctx, ifindex);
}

/*
 * Let S's own packet carry what it has vouched for, if that is the next to
 * leave and lies inside it. Returns whether the packet was used.
 */
static __always_inline int stream_carry(struct release *r, struct scratch *s)
{
	struct colo_flow *f = r->flow;
	struct colo_frame *fr = frame_at(f->p_held.head);
	__u32 last, to, end = s->pkt.end;
	int i, ret;

	if (!fr || !s->pkt.data_len || f->flags & (COLO_F_MISMATCH | COLO_F_LATER) ||
	    fr->released != s->pkt.seq ||
	    s->pkt.flags & (COLO_FR_SYN | COLO_FR_RST | COLO_FR_URG))
		return 0;
	last = carrier_last(f, end);
	if (last == COLO_NONE)
		return 0;
	ret = carrier_send(r->ctx, last, r->ifindex);
	if (ret < 0)
		return 0;
	if (ret)
		COUNT(port_failed);
	COUNT(p_released_whole);
	for (i = 0; i < CARRIER_WALK; i++) {
		fr = frame_at(f->p_held.head);
		if (!fr)
			break;
		to = seq_lt(end, fr->end) ? end : fr->end;
		fr->released = to;
		stream_left(f, fr->seq, to);
		if (to != fr->end)
			break;
		release_end(r, &f->p_held, f->p_held.head);
		if (to == end)
			break;
	}
	return 1;
}

#endif
