/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The secondary's guest may lose a client's segment that the primary's got: its
 * receive buffer is full at another moment. The client sends it again only
 * once it is told of a gap, but all that it hears is the primary, whose ack
 * waits for the secondary's: nothing would move before the time-out of rule
 * 12. So the secondary keeps what its guest has not acknowledged and delivers
 * it again itself.
 */
#ifndef COLO_BPF_REDELIVER_H
#define COLO_BPF_REDELIVER_H

#include "rewrite.h"

#define KEPT_MAX 512        /* segments of a flow */
#define REPEATS  3          /* acks that say that one is missing (RFC 5681) */
#define AGAIN_NS 3000000ULL /* one segment is not given more often */

/* Keep a segment that goes to the guest; its header is in scratch.out. */
static __always_inline void redeliver_keep(struct __sk_buff *ctx, struct scratch *s,
					   struct colo_rewrite *f)
{
	struct colo_frame *fr = NULL;
	__u32 idx;

	if (f->c_sent.count < KEPT_MAX) {
		idx = frame_take(ctx, COLO_FRAME_C, f->epoch);
		fr = frame_at(idx);
	}
	if (!fr) {
		COUNT(rw_in_unkept);
		return;
	}
	__builtin_memcpy(fr->hdr, s->out, COLO_HDR_MAX);
	queue_append(&f->c_sent, idx);
	COUNT(rw_in_kept);
}

struct acked {
	struct colo_rewrite *flow;
	__u32 ack;
};

static long acked_step(__u32 step __unused, void *arg)
{
	struct acked *a = arg;
	struct colo_queue *q = &a->flow->c_sent;
	__u32 idx = q->head;
	struct colo_frame *fr = frame_at(idx);

	if (!fr || seq_lt(a->ack, fr->end))
		return 1;
	queue_remove(q, idx);
	frame_give(idx);
	return 0;
}

/* Whether an ack of the guest in scratch.pkt says that a segment is missing. */
static __always_inline int ack_shows_gap(struct scratch *s, struct colo_rewrite *f)
{
	struct packet *p = &s->pkt;
	struct options o;

	if (f->g_ack_repeats >= REPEATS)
		return 1;
	if (p->hdr_len < p->l4_off + TCP_LEN + 12)
		return 0;
	__builtin_memcpy(s->out, p->hdr, COLO_HDR_MAX);
	options_of_out(&o, s, p->l4_off, p->hdr_len);
	/* the first block may be a duplicate's (RFC 2883), below the ack */
	return o.sack && seq_lt(p->ack, get32(s, o.sack));
}

/*
 * A segment that comes behind newer ones is an old one to the guest, by its time
 * stamp (PAWS, RFC 7323 5.3). The client's own repetition would have a new one, so
 * what is given again gets the newest that the guest has seen.
 */
__noinline int redeliver_stamp(__u32 idx, __u32 tsval)
{
	struct colo_frame *fr = frame_at(idx);
	struct scratch *s = scratch_get();
	struct options o;

	if (!fr || !s)
		return 0;
	__builtin_memcpy(s->out, fr->hdr, COLO_HDR_MAX);
	options_of_out(&o, s, fr->l4_off, fr->hdr_len);
	if (!o.ts || !seq_lt(get32(s, o.ts), tsval))
		return 0;
	out32(s, o.ts, tsval);
	__builtin_memcpy(fr->hdr, s->out, COLO_HDR_MAX);
	return 0;
}

/* The time stamp of scratch.pkt at `at` behind TSval's place: 0 its own, 4 the echo. */
static __always_inline void redeliver_stamped(struct scratch *s, __u32 idx, __u32 at)
{
	struct packet *p = &s->pkt;
	struct options o;

	if (idx == COLO_NONE)
		return;
	__builtin_memcpy(s->out, p->hdr, COLO_HDR_MAX);
	options_of_out(&o, s, p->l4_off, p->hdr_len);
	if (o.ts)
		redeliver_stamp(idx, get32(s, o.ts + at));
}

/* The segment to give again, if any: the first that the guest has not. */
static __always_inline __u32 redeliver_due(struct colo_rewrite *f)
{
	struct colo_frame *fr = frame_at(f->c_sent.head);
	__u64 now = bpf_ktime_get_ns();

	if (!fr || seq_lt(f->g_ack, fr->seq) || fr->held_ns + AGAIN_NS > now)
		return COLO_NONE;
	fr->held_ns = now;
	f->redelivered++;
	COUNT(rw_in_redelivered);
	return f->c_sent.head;
}

static __always_inline void recover_begin(struct colo_rewrite *f)
{
	struct colo_frame *fr = frame_at(f->c_sent.tail);

	if (!fr)
		return;
	f->recover = fr->end;
	f->flags |= COLO_RW_RECOVER;
}

/* The guest acknowledges: what it has is forgotten. Returns as redeliver_due(). */
static __always_inline __u32 redeliver_ack(struct scratch *s, struct colo_rewrite *f)
{
	struct packet *p = &s->pkt;
	struct acked a = {.flow = f, .ack = p->ack};
	__u32 due;
	int gap;

	if (!(p->flags & COLO_FR_ACK) || p->flags & (COLO_FR_SYN | COLO_FR_RST))
		return COLO_NONE;
	if (f->flags & COLO_RW_G_ACK && f->g_ack == p->ack && !p->data_len)
		f->g_ack_repeats++;
	else
		f->g_ack_repeats = 0;
	f->g_ack = p->ack;
	f->flags |= COLO_RW_G_ACK;
	if (!f->c_sent.count)
		return COLO_NONE;
	bpf_loop(KEPT_MAX + 1, acked_step, &a, 0);
	if (!f->c_sent.count)
		return COLO_NONE;
	gap = ack_shows_gap(s, f);
	if (f->flags & COLO_RW_RECOVER) {
		if (!seq_lt(p->ack, f->recover))
			f->flags &= ~COLO_RW_RECOVER;
		else if (!f->g_ack_repeats)
			gap = 1; /* the next gap */
	}
	if (!gap)
		return COLO_NONE;
	if (!(f->flags & COLO_RW_RECOVER))
		recover_begin(f);
	due = redeliver_due(f);
	redeliver_stamped(s, due, 4);
	return due;
}

/* The client repeats what the guest has: it waits for an ack of what it has not. */
static __always_inline __u32 redeliver_repeated(struct scratch *s, struct colo_rewrite *f)
{
	__u32 due;

	if (!(f->flags & COLO_RW_G_ACK) || !f->c_sent.count || seq_lt(f->g_ack, s->pkt.end))
		return COLO_NONE;
	recover_begin(f);
	due = redeliver_due(f);
	redeliver_stamped(s, due, 0);
	return due;
}

/* Give it, with the packet as carrier, which is lost by that. */
static __always_inline void redeliver(struct __sk_buff *ctx, struct scratch *s, __u32 idx,
				      __u32 guest)
{
	struct colo_frame *fr = frame_at(idx);
	int how = carrier_how(ctx, s, guest);

	if (fr && how >= 0)
		emit_range(ctx, idx, fr->seq, fr->end, how);
}

#endif
