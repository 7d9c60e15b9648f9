/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How far the two streams of a TCP flow are: what both have sent and acked, what
 * is vouched for and what has left.
 */
#ifndef COLO_BPF_PROGRESS_H
#define COLO_BPF_PROGRESS_H

#include "flow.h"
#include "serial.h"

/*
 * S has begun a life of the tuple that P has not: its frames wait, and say
 * nothing of the one that P is in.
 */
static __always_inline int s_is_ahead(const struct colo_flow *f)
{
	return f->flags & COLO_F_S_ISN && !(f->flags & COLO_F_ISN && f->isn == f->s_isn);
}

static __always_inline int vouched_for(const struct colo_flow *f, __u32 seq, __u32 end)
{
	return f->flags & COLO_F_VOUCHED && seq_leq(f->vouch_start, seq) &&
	       seq_leq(end, f->vouch_end);
}

/*
 * Serial numbers compare right within 2^31. What is a gigabyte back no TCP
 * sends again, so the interval is not longer.
 */
#define VOUCH_MAX (1U << 30)

static __always_inline void vouch_bound(struct colo_flow *f)
{
	if (f->vouch_end - f->vouch_start > VOUCH_MAX)
		f->vouch_start = f->vouch_end - VOUCH_MAX;
	if (f->p_next - f->p_first > VOUCH_MAX)
		f->p_first = f->p_next - VOUCH_MAX;
}

/* [from, to) is vouched for now; p0 is where its frame began. */
static __always_inline void vouch(struct colo_flow *f, __u32 p0, __u32 from, __u32 to)
{
	if (!(f->flags & COLO_F_VOUCHED)) {
		f->flags |= COLO_F_VOUCHED;
		f->vouch_start = from;
		f->vouch_end = to;
		return;
	}
	if (seq_leq(f->vouch_start, to) && seq_lt(p0, f->vouch_start) &&
	    seq_lt(from, f->vouch_start))
		f->vouch_start = p0;
	if (seq_leq(from, f->vouch_end) && seq_lt(f->vouch_end, to))
		f->vouch_end = to;
	vouch_bound(f);
}

/* S has acked as far as this, in the life that P is in. */
static __always_inline void note_s_ack(struct colo_flow *f, __u32 ack)
{
	if (f->flags & COLO_F_S_ACK && seq_leq(ack, f->s_ack))
		return;
	f->s_ack = ack;
	f->flags |= COLO_F_S_ACK;
}

/* P has sent the units [seq, end). */
static __always_inline void stream_sent(struct colo_flow *f, __u32 seq, __u32 end)
{
	if (!(f->flags & COLO_F_P_SEEN) || seq_lt(seq, f->p_first))
		f->p_first = seq;
	if (!(f->flags & COLO_F_P_SEEN) || seq_lt(f->p_next, end))
		f->p_next = end;
	f->flags |= COLO_F_TCP | COLO_F_P_SEEN;
}

/* What a segment of P has, its flags SYN, FIN and RST aside. */
static __always_inline void stream_note_units(struct colo_flow *f, const struct packet *p)
{
	f->flags |= COLO_F_TCP;
	if (p->end != p->seq)
		stream_sent(f, p->seq, p->end);
	if (p->flags & COLO_FR_ACK &&
	    (!(f->flags & COLO_F_P_ACK) || seq_lt(f->p_ack, p->ack))) {
		f->p_ack = p->ack;
		f->flags |= COLO_F_P_ACK;
	}
}

static __always_inline void stream_note_s(struct colo_flow *f, __u32 flags, __u32 ack)
{
	if (!(flags & COLO_FR_ACK) || f->flags & COLO_F_S_UNSEEN)
		return;
	if (s_is_ahead(f)) {
		if (!(f->flags & COLO_F_S_NEXT_ACK) || seq_lt(f->s_next_ack, ack))
			f->s_next_ack = ack;
		f->flags |= COLO_F_S_NEXT_ACK;
		return;
	}
	note_s_ack(f, ack);
}

static __always_inline int ack_covered(const struct colo_flow *f, __u32 flags, __u32 ack)
{
	if (!(flags & COLO_FR_ACK))
		return 1;
	return f->flags & COLO_F_S_ACK && seq_leq(ack, f->s_ack);
}

/* The units [from, to) of P have left: [p_left_start, p_left) grows, if they touch it. */
static __always_inline void stream_left(struct colo_flow *f, __u32 from, __u32 to)
{
	if (!(f->flags & COLO_F_P_LEFT) || seq_lt(f->p_left, from)) {
		f->p_left_start = from;
		f->p_left = to;
	}
	f->flags |= COLO_F_P_LEFT;
	if (seq_lt(to, f->p_left_start))
		return;
	if (seq_lt(from, f->p_left_start))
		f->p_left_start = from;
	if (seq_lt(f->p_left, to))
		f->p_left = to;
}

#endif
