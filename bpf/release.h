/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Frames of P leave: by a match, a commit or a failover, under the flow's
 * lock, and in order (rules 1 to 4 and 6). While the lease has run out, what
 * may leave goes to p_ready instead, in the order in which it would have left,
 * and all else is as if it had. What comes after it goes behind it, until the
 * daemon, which renews the lease, has let it go. It is the same while a frame
 * that XDP has released is still on its way (flight.h).
 */
#ifndef COLO_BPF_RELEASE_H
#define COLO_BPF_RELEASE_H

#include "emit.h"
#include "flight.h"
#include "flow.h"
#include "lease.h"
#include "progress.h"

#define ACKWAIT_WALK 1024 /* frames that are looked at for a covered ack */
#define RELEASE_MAX  64   /* frames a program run may release */

enum frame_end {
	END_MATCHED,
	END_COMMITTED,
	END_FAILED_OVER,
	END_DISCARDED,
};

struct release {
	struct __sk_buff *ctx;
	struct colo_flow *flow;
	__u32 self; /* the frame that the packet itself is, or COLO_NONE */
	__u32 end;  /* enum frame_end */
	__u32 ifindex;
	__u32 l4_off; /* of the packet, for a partial checksum */
	int partial;  /* -1: not known yet */
	__u32 ended;
	__u32 spent; /* the packet was a carrier: it is nobody's frame any more */
	__u32 next;  /* of the walk through p_ackwait */
};

static __always_inline void count_p_end(__u32 end)
{
	struct colo_counters *c = ZERO_KEY(counters);

	if (!c)
		return;
	switch (end) {
	case END_MATCHED:
		c->p_matched++;
		break;
	case END_COMMITTED:
		c->p_committed++;
		break;
	case END_FAILED_OVER:
		c->p_failed_over++;
		break;
	default:
		c->p_discarded++;
		break;
	}
}

static __always_inline void count_s_end(__u32 end)
{
	struct colo_counters *c = ZERO_KEY(counters);

	if (!c)
		return;
	switch (end) {
	case END_MATCHED:
		c->s_matched++;
		break;
	case END_COMMITTED:
		c->s_committed++;
		break;
	case END_FAILED_OVER:
		c->s_failed_over++;
		break;
	default:
		c->s_discarded++;
		break;
	}
}

/*
 * Frames that could leave but found no carrier: the daemon is told, which runs
 * `control` on the flow.
 */
static __always_inline void release_pending(struct colo_flow *f)
{
	if (f->flags & COLO_F_PENDING)
		return;
	f->flags |= COLO_F_PENDING;
	event_send(COLO_EVENT_RELEASE, COLO_REASON_NONE, f->epoch, &f->key, 0);
}

/* How the packet can carry a made frame; -1 if it cannot. */
static __always_inline int release_how(struct release *r, const struct colo_frame *fr)
{
	if (r->partial < 0)
		r->partial = ctx_csum_is_partial(r->ctx, r->l4_off);
	if (r->partial < 0 || (r->partial && fr->l4_off != r->l4_off))
		return -1;
	return r->ifindex << HOW_IFINDEX | (r->partial ? HOW_PARTIAL : 0);
}

/* The units [from, to) of a frame of P leave. Negative: they did not. */
static __always_inline int release_units(struct release *r, __u32 idx,
					 const struct colo_frame *fr, __u32 from, __u32 to)
{
	int how, ret;

	if (idx == r->self && !r->spent && from == fr->seq && to == fr->end) {
		ret = ctx_send_copy(r->ctx, r->ifindex);
	} else {
		how = release_how(r, fr);
		if (how < 0)
			return -1;
		r->spent = 1;
		if (fr->flags & COLO_FR_TCP)
			ret = emit_range(r->ctx, idx, from, to, how);
		else
			ret = datagram_headers(idx, how) ?:
				      out_send(r->ctx, idx, 0, fr->data_len, how);
		if (ret < 0)
			return ret;
	}
	if (ret)
		COUNT(port_failed);
	return 0;
}

/* A frame of P has left whole, or is dropped for good. */
static __always_inline void release_end(struct release *r, struct colo_queue *q, __u32 idx)
{
	queue_remove(q, idx);
	if (idx == r->self) {
		COUNT(p_at_once);
		r->self = COLO_NONE;
	} else {
		count_p_end(r->end);
	}
	if (r->end == END_MATCHED)
		r->flow->matched++;
	frame_give(idx);
	r->ended++;
}

/*
 * Whether what may leave goes to p_ready: until the lease is there again, or what
 * XDP has released before has left.
 */
static __always_inline void release_set_later(struct colo_flow *f, __u32 later, __u32 flight)
{
	f->flags &= ~(COLO_F_LATER | COLO_F_FLIGHT);
	if (flight)
		f->flags |= COLO_F_LATER | COLO_F_FLIGHT;
	if (later)
		f->flags |= COLO_F_LATER;
}

/* A frame of P may leave, but not now: it is about to go to p_ready. */
static __always_inline void release_ready_mark(struct release *r, __u32 idx)
{
	struct colo_frame *fr = frame_at(idx);

	if (fr)
		fr->flags |= r->end == END_COMMITTED ? COLO_FR_READY | COLO_FR_COMMITTED :
						       COLO_FR_READY;
	COUNT(p_waited);
	r->ended++;
	if (r->flow->flags & COLO_F_FLIGHT)
		COUNT(xdp_waited);
}

static __always_inline void release_later(struct release *r, struct colo_queue *q, __u32 idx)
{
	queue_remove(q, idx);
	release_ready_mark(r, idx);
	queue_append(&r->flow->p_ready, idx);
}

/* One of those that have waited for the lease leaves, or is dropped for good. */
static long release_ready_step(__u32 step __unused, void *arg)
{
	struct release *r = arg;
	struct colo_flow *f = r->flow;
	__u32 idx = f->p_ready.head, end = r->end;
	struct colo_frame *fr = frame_at(idx);

	if (!fr)
		return 1;
	if (end != END_DISCARDED) {
		if (release_units(r, idx, fr, fr->released, fr->end))
			COUNT(port_failed);
		r->end = fr->flags & COLO_FR_COMMITTED ? END_COMMITTED : END_MATCHED;
	}
	release_end(r, &f->p_ready, idx);
	r->end = end;
	return 0;
}

/* Frames without a new unit that S's ack has reached, in their order. */
static long release_ackwait_step(__u32 step __unused, void *arg)
{
	struct release *r = arg;
	struct colo_flow *f = r->flow;
	__u32 idx = r->next;
	struct colo_frame *fr = frame_at(idx);

	if (!fr)
		return 1;
	r->next = fr->next;
	if (!ack_covered(f, fr->flags, fr->ack))
		return 0;
	if (f->flags & COLO_F_LATER) {
		release_later(r, &f->p_ackwait, idx);
		return 0;
	}
	if (release_units(r, idx, fr, fr->seq, fr->end)) {
		release_pending(f);
		return 1;
	}
	release_end(r, &f->p_ackwait, idx);
	return 0;
}

/*
 * A retransmission of what has left meanwhile brings no new unit any more: its
 * ack may wait, what is behind it need not.
 */
static __always_inline int stream_repeats(const struct colo_flow *f,
					  const struct colo_frame *fr)
{
	return f->flags & COLO_F_P_LEFT && !(fr->flags & COLO_FR_RST) &&
	       fr->vouched == fr->end && seq_leq(f->p_left_start, fr->seq) &&
	       seq_leq(fr->end, f->p_left);
}

/* Vouched units at the head of the stream, as far as S's ack allows. */
static long release_stream_step(__u32 step __unused, void *arg)
{
	struct release *r = arg;
	struct colo_flow *f = r->flow;
	__u32 idx = f->p_held.head, to, seq;
	struct colo_frame *fr = frame_at(idx);

	if (!fr)
		return 1;
	if (!ack_covered(f, fr->flags, fr->ack)) {
		if (stream_repeats(f, fr)) {
			queue_remove(&f->p_held, idx);
			queue_append(&f->p_ackwait, idx);
			return 0;
		}
		/* another of the same place may have an older ack */
		seq = fr->seq;
		idx = fr->next;
		fr = frame_at(idx);
		if (!fr || fr->seq != seq || !ack_covered(f, fr->flags, fr->ack))
			return 1;
	}
	to = fr->vouched;
	if (fr->flags & COLO_FR_RST) {
		if (!(fr->flags & COLO_FR_MATCHED))
			return 1;
	} else if (fr->flags & COLO_FR_SYN && to != fr->end) {
		return 1;
	} else if (to == fr->released || (to != fr->end && f->flags & COLO_F_MISMATCH)) {
		return 1; /* before a mismatch the head waits for its tail, and the commit */
	}
	if (f->flags & COLO_F_LATER) {
		if (to != fr->end)
			return 1; /* it leaves with its tail */
		stream_left(f, fr->seq, to);
		release_later(r, &f->p_held, idx);
		return 0;
	}
	if (release_units(r, idx, fr, fr->released, to)) {
		release_pending(f);
		return 1;
	}
	fr->released = to;
	stream_left(f, fr->seq, to);
	if (to != fr->end)
		return 1;
	release_end(r, &f->p_held, idx);
	return 0;
}

static long release_datagram_step(__u32 step __unused, void *arg)
{
	struct release *r = arg;
	struct colo_flow *f = r->flow;
	__u32 idx = f->p_held.head;
	struct colo_frame *fr = frame_at(idx);

	if (!fr || !(fr->flags & COLO_FR_MATCHED))
		return 1;
	if (!(f->flags & COLO_F_LATER) && release_units(r, idx, fr, fr->seq, fr->end)) {
		release_pending(f);
		return 1;
	}
	if (f->p_matched_held)
		f->p_matched_held--;
	if (f->flags & COLO_F_LATER)
		release_later(r, &f->p_held, idx);
	else
		release_end(r, &f->p_held, idx);
	return 0;
}

static __always_inline void release_stream(struct release *r)
{
	struct colo_flow *f = r->flow;

	if (f->p_held.count)
		bpf_loop(RELEASE_MAX, release_stream_step, r, 0);
	r->next = f->p_ackwait.head;
	if (f->p_ackwait.count)
		bpf_loop(ACKWAIT_WALK, release_ackwait_step, r, 0);
	if (r->ended >= RELEASE_MAX)
		release_pending(f);
}

static __always_inline void release_datagrams(struct release *r)
{
	if (r->flow->p_held.count)
		bpf_loop(RELEASE_MAX, release_datagram_step, r, 0);
	if (r->ended >= RELEASE_MAX)
		release_pending(r->flow);
}

/*
 * All that is held, whatever was vouched for: what only a commit can release
 * is the oldest, the rest in the order in which it came, a stream's in its own.
 */
static long release_all_step(__u32 step __unused, void *arg)
{
	struct release *r = arg;
	struct colo_flow *f = r->flow;
	struct colo_queue *q = &f->p_commit;
	struct scratch *s = scratch_get();
	struct colo_frame *fr;
	__u32 idx;

	if (!q->count)
		q = older_queue(&f->p_ackwait, &f->p_held);
	idx = q->head;
	fr = frame_at(idx);
	if (!fr || !s || (s->control.until_ns && s->control.until_ns <= fr->held_ns))
		return 1;
	if (q == &f->p_held && fr->flags & COLO_FR_MATCHED && f->p_matched_held)
		f->p_matched_held--;
	if (f->flags & COLO_F_LATER) {
		release_later(r, q, idx);
		return 0;
	}
	if (r->end != END_DISCARDED && release_units(r, idx, fr, fr->released, fr->end))
		COUNT(port_failed);
	release_end(r, q, idx);
	return 0;
}

struct drop {
	struct colo_queue *queue;
	__u32 end;
};

static long drop_step(__u32 step __unused, void *arg)
{
	struct drop *d = arg;
	__u32 idx = d->queue->head;

	if (idx == COLO_NONE)
		return 1;
	queue_remove(d->queue, idx);
	count_s_end(d->end);
	frame_give(idx);
	return 0;
}

/* Frames of S that wait are dropped. */
static __always_inline void drop_waiting(struct colo_queue *q, __u32 end)
{
	struct drop d = {.queue = q, .end = end};

	if (q->count)
		bpf_loop(1 << 16, drop_step, &d, 0);
}

#endif
