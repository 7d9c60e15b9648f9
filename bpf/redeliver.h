/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The secondary's guest may lose a client's segment that the primary's got: its
 * receive buffer is full at another moment. The client sends it again only
 * once it is told of a gap, but all that it hears is the primary, whose ack
 * waits for the secondary's: nothing would move before the time-out of rule
 * 12. So the secondary keeps what its guest has not acknowledged and delivers
 * it again itself, as a sender would: when the guest's acks show a gap or its
 * window has opened, when the client repeats itself, and when none of that
 * happens but time passes.
 */
#ifndef COLO_BPF_REDELIVER_H
#define COLO_BPF_REDELIVER_H

#include "rewrite.h"

#define KEPT_MAX    512          /* segments of a flow */
#define REPEATS     3            /* acks that say that one is missing (RFC 5681) */
#define AGAIN_NS    3000000ULL   /* one segment is not given more often */
#define OVERDUE_NS  50000000ULL  /* above the delay of an ack, 40 ms in Linux */
#define KNOWN_NS    10000000ULL  /* ... where the guest has said that one is missing */
#define OVERDUE_MAX 800000000ULL /* both are doubled each time, up to this */
#define OVERDUE_END 10           /* times; then it is the client's to repeat */

/* The guest has acknowledged what it was given again, and nothing else since. */
static __always_inline int only_given_came(const struct colo_rewrite *f)
{
	return f->flags & COLO_RW_PROBE && f->g_ack == f->given;
}

static __always_inline int is_overdue(const struct colo_frame *fr, const struct colo_rewrite *f,
				      __u64 now)
{
	__u64 ns = f->g_ack_repeats || only_given_came(f) ? KNOWN_NS : OVERDUE_NS;

	ns <<= f->overdue & 15;
	return fr->held_ns + (ns < OVERDUE_MAX ? ns : OVERDUE_MAX) <= now;
}

/*
 * Keep a segment that goes to the guest; its header is in scratch.out. They are in
 * the order of their ends: what adds no end is kept already, or came out of order.
 */
static __always_inline void redeliver_keep(struct __sk_buff *ctx, struct scratch *s,
					   struct colo_rewrite *f, struct colo_session *ses)
{
	struct colo_frame *fr = NULL, *tail = frame_at(f->c_sent.tail);
	__u32 idx;

	if (tail && !seq_lt(tail->end, s->pkt.end))
		return;
	if (f->c_sent.count < KEPT_MAX) {
		idx = frame_take(ctx, COLO_FRAME_C, f->epoch, f->seen_ns);
		fr = frame_at(idx);
	}
	if (!fr) {
		COUNT(rw_in_unkept);
		return;
	}
	__builtin_memcpy(fr->hdr, s->out, COLO_HDR_MAX);
	if (!f->c_sent.count)
		f->g_ack_repeats = 0;
	queue_append(&f->c_sent, idx);
	COUNT(rw_in_kept);
	if (!ses->kept)
		ses->kept = 1;
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

/* The guest says nothing but that there is more room than there was: `then`. */
static __always_inline int window_opened(const struct colo_rewrite *f, __u32 then)
{
	return f->g_ack_repeats && f->g_window > 2 * then;
}

/* Where the first SACK block of the ack in scratch.pkt is. */
enum sacked {
	SACKED_NOTHING,
	SACKED_ABOVE, /* something is missing before it */
	SACKED_BELOW, /* it has come twice (RFC 2883) */
};

__noinline int ack_sacked(void)
{
	struct scratch *s = scratch_get();
	struct packet *p;
	struct options o;

	if (!s)
		return SACKED_NOTHING;
	p = &s->pkt;
	if (p->hdr_len < p->l4_off + TCP_LEN + 12)
		return SACKED_NOTHING;
	__builtin_memcpy(s->out, p->hdr, COLO_HDR_MAX);
	options_of_out(&o, s, p->l4_off, p->hdr_len);
	if (!o.sack)
		return SACKED_NOTHING;
	return seq_lt(p->ack, get32(s, o.sack)) ? SACKED_ABOVE : SACKED_BELOW;
}

/* One that says that something came twice is no repetition. */
static __always_inline void ack_count(const struct packet *p, struct colo_rewrite *f)
{
	if (!(f->flags & COLO_RW_G_ACK) || f->g_ack != p->ack || p->data_len)
		f->g_ack_repeats = 0;
	else if (!f->c_sent.count || ack_sacked() != SACKED_BELOW)
		f->g_ack_repeats++;
}

/*
 * Whether an ack of the guest in scratch.pkt says that a segment is missing, or may
 * be: there was little room when it came.
 */
static __always_inline int ack_shows_gap(const struct colo_rewrite *f, __u32 window)
{
	return f->g_ack_repeats >= REPEATS || window_opened(f, window) ||
	       ack_sacked() == SACKED_ABOVE;
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

/* The first segment is given again. */
static __always_inline void redeliver_note(struct colo_rewrite *f, struct colo_frame *fr,
					   __u64 now)
{
	fr->held_ns = now;
	fr->flags |= COLO_FR_GIVEN;
	f->given = fr->end;
	f->given_window = f->g_window;
	f->redelivered++;
	COUNT(rw_in_redelivered);
}

/* The first segment that is kept is the first that the guest has not. */
static __always_inline int redeliver_fits(const struct colo_rewrite *f,
					  const struct colo_frame *fr)
{
	return !(f->flags & COLO_RW_G_ACK) || !seq_lt(f->g_ack, fr->seq);
}

/*
 * The segment to give again, if any: the first that the guest has not. Soon again
 * only if there is more room for it now.
 */
static __always_inline __u32 redeliver_due(struct colo_rewrite *f)
{
	struct colo_frame *fr = frame_at(f->c_sent.head);
	__u64 now = bpf_ktime_get_ns();

	if (!fr || !redeliver_fits(f, fr) ||
	    (fr->flags & COLO_FR_GIVEN && fr->held_ns + AGAIN_NS > now &&
	     !window_opened(f, f->given_window)))
		return COLO_NONE;
	redeliver_note(f, fr, now);
	return f->c_sent.head;
}

static __always_inline void recover_begin(struct colo_rewrite *f)
{
	struct colo_frame *fr = frame_at(f->c_sent.tail);

	if (!fr)
		return;
	f->recover = fr->end;
	f->flags |= COLO_RW_RECOVER;
	f->flags &= ~COLO_RW_PROBE;
}

/* The guest acknowledges: what it has is forgotten. Returns as redeliver_due(). */
static __always_inline __u32 redeliver_ack(struct scratch *s, struct colo_rewrite *f)
{
	struct packet *p = &s->pkt;
	struct acked a = {.flow = f, .ack = p->ack};
	__u32 due, window = f->g_window;
	struct colo_frame *fr;
	int gap, more;

	if (p->flags & COLO_FR_RST)
		sent_forget(f);
	if (!(p->flags & COLO_FR_ACK) || p->flags & (COLO_FR_SYN | COLO_FR_RST))
		return COLO_NONE;
	ack_count(p, f);
	more = f->g_ack != p->ack;
	if (more)
		f->overdue = 0;
	f->g_ack = p->ack;
	f->g_window = p->window;
	f->flags |= COLO_RW_G_ACK;
	if (!f->c_sent.count)
		return COLO_NONE;
	bpf_loop(KEPT_MAX + 1, acked_step, &a, 0);
	fr = frame_at(f->c_sent.head);
	if (!fr || !seq_lt(p->ack, f->recover))
		f->flags &= ~(COLO_RW_RECOVER | COLO_RW_PROBE);
	if (!fr)
		return COLO_NONE;
	/* its time begins anew (RFC 6298 5.3) */
	if (more && !(fr->flags & COLO_FR_GIVEN))
		fr->held_ns = f->seen_ns;
	gap = ack_shows_gap(f, window);
	if (f->flags & COLO_RW_PROBE) {
		/* it had more than that: it is slow, and has lost nothing (RFC 5682) */
		if (seq_lt(f->given, p->ack))
			f->flags &= ~(COLO_RW_RECOVER | COLO_RW_PROBE);
	} else if (f->flags & COLO_RW_RECOVER && !f->g_ack_repeats) {
		gap = 1; /* the next gap */
	}
	if (!gap)
		return COLO_NONE;
	if (!(f->flags & COLO_RW_RECOVER) || f->flags & COLO_RW_PROBE)
		recover_begin(f);
	due = redeliver_due(f);
	redeliver_stamped(s, due, 4);
	return due;
}

/* What the client may repeat: what the guest has, or just what it lacks. */
enum repeats {
	REPEATS_NOTHING,
	REPEATS_HAD,
	REPEATS_LACKED,
};

static __always_inline enum repeats client_repeats(const struct packet *p,
						   const struct colo_rewrite *f)
{
	struct colo_frame *fr = frame_at(f->c_sent.head);

	if (!fr || !(f->flags & COLO_RW_G_ACK) || !redeliver_fits(f, fr))
		return REPEATS_NOTHING;
	if (!seq_lt(f->g_ack, p->end))
		return REPEATS_HAD;
	return p->seq == f->g_ack ? REPEATS_LACKED : REPEATS_NOTHING;
}

/*
 * It waits for an ack of what the guest has not. What it lacked comes with this
 * packet, and its ack will show what else it lacks.
 */
static __always_inline __u32 redeliver_repeated(struct scratch *s, struct colo_rewrite *f,
						enum repeats what)
{
	__u32 due;

	if (what == REPEATS_NOTHING)
		return COLO_NONE;
	recover_begin(f);
	/* the newest that the guest has seen */
	redeliver_stamped(s, f->c_sent.tail, 0);
	if (what == REPEATS_LACKED)
		return COLO_NONE;
	due = redeliver_due(f);
	redeliver_stamped(s, due, 0);
	return due;
}

/* What the guest lacks of it. */
static __always_inline void redeliver_send(struct __sk_buff *ctx, const struct colo_rewrite *f,
					   __u32 idx, int how)
{
	struct colo_frame *fr = frame_at(idx);
	__u32 seq;

	if (!fr)
		return;
	seq = fr->seq;
	if (f->flags & COLO_RW_G_ACK && seq_lt(seq, f->g_ack) && seq_lt(f->g_ack, fr->end))
		seq = f->g_ack;
	emit_range(ctx, idx, seq, fr->end, how);
}

/* Give it, with the packet as carrier, which is lost by that. */
static __always_inline void redeliver(struct __sk_buff *ctx, struct scratch *s,
				      const struct colo_rewrite *f, __u32 idx, __u32 guest)
{
	int how = carrier_how(ctx, s, guest);

	if (how >= 0)
		redeliver_send(ctx, f, idx, how);
}

/* The TSval of a record, which is left as it is if it has none. */
static __always_inline int frame_tsval(struct scratch *s, __u32 idx, __u32 *tsval)
{
	struct colo_frame *fr = frame_at(idx);
	struct options o;

	if (!fr)
		return 0;
	__builtin_memcpy(s->out, fr->hdr, COLO_HDR_MAX);
	options_of_out(&o, s, fr->l4_off, fr->hdr_len);
	if (o.ts)
		*tsval = get32(s, o.ts);
	return !!o.ts;
}

/* By the daemon: the guest has not said anything about the first segment for long. */
static __always_inline void redeliver_overdue(struct __sk_buff *ctx, struct scratch *s,
					      struct colo_rewrite *f, __u32 guest)
{
	__u32 idx = f->c_sent.head, tsval, probe;
	struct colo_frame *fr = frame_at(idx);
	__u64 now = bpf_ktime_get_ns();

	if (!fr || !is_overdue(fr, f, now) || !redeliver_fits(f, fr))
		return;
	if (f->overdue == OVERDUE_END) {
		sent_forget(f);
		return;
	}
	probe = !f->g_ack_repeats && !only_given_came(f);
	f->overdue++;
	recover_begin(f);
	if (probe)
		f->flags |= COLO_RW_PROBE;
	redeliver_note(f, fr, now);
	if (frame_tsval(s, f->c_sent.tail, &tsval))
		redeliver_stamp(idx, tsval);
	redeliver_send(ctx, f, idx, guest << HOW_IFINDEX);
}

#endif
