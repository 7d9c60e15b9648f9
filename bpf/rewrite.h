/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The rewriter: on the link, everything is in the primary's numbers. What the
 * secondary's guest sends gets P's sequence numbers and timestamps, what the
 * client sends gets S's (rules 14 and 15).
 *
 * P's ISN and TSval come from a clone of P's own SYN or SYN-ACK, never from a
 * client's ACK. An offset lives as long as its epoch; until it is known, S's
 * SYN and the client's segments wait.
 */
#ifndef COLO_BPF_REWRITE_H
#define COLO_BPF_REWRITE_H

#include "lock.h"
#include "numbers.h"
#include "quote.h"

#define CLIENT_WAIT_MAX 64   /* client segments of a flow that wait */
#define DROP_MAX        1024 /* more than any queue of a flow has */
#define LOOKUP_TRIES    2

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct colo_flow_key);
	__type(value, struct colo_rewrite);
} flows SEC(".maps");

static __always_inline struct colo_rewrite *rewrite_find(const struct colo_flow_key *key)
{
	struct colo_rewrite *f = bpf_map_lookup_elem(&flows, key);

	if (!f || !word_lock(&f->lock))
		return NULL;
	if (key_equal(&f->key, key))
		return f;
	word_unlock_stale(&f->lock);
	return NULL;
}

/* The flow of scratch.pkt, made if it is new, locked; NULL: table full. */
static __always_inline struct colo_rewrite *rewrite_get(struct scratch *s, __u64 epoch)
{
	const struct colo_flow_key *key = &s->pkt.key;
	struct colo_rewrite *f = &s->rewrite, *found;
	int i;

	/* one that is being reclaimed is not there the next time */
	for (i = 0; i < LOOKUP_TRIES; i++) {
		if (!bpf_map_lookup_elem(&flows, key)) {
			__builtin_memset(f, 0, sizeof(*f));
			f->key = *key;
			f->epoch = epoch;
			f->syn_frame = COLO_NONE;
			queue_init(&f->c_wait);
			queue_init(&f->c_sent);
			if (!bpf_map_update_elem(&flows, key, f, BPF_NOEXIST))
				COUNT(flows_created);
		}
		found = rewrite_find(key);
		if (found)
			return found;
	}
	return NULL;
}

static long drop_step(__u32 step __unused, void *arg)
{
	struct colo_queue **q = arg;
	__u32 idx = (*q)->head;

	if (idx == COLO_NONE)
		return 1;
	queue_remove(*q, idx);
	frame_give(idx);
	return 0;
}

/* What waits for an offset that will never come, or for an ack, is dropped. */
static __always_inline void rewrite_forget(struct colo_rewrite *f)
{
	struct colo_queue *q = &f->c_wait, *sent = &f->c_sent;

	if (f->syn_frame != COLO_NONE) {
		frame_give(f->syn_frame);
		f->syn_frame = COLO_NONE;
	}
	if (q->count) {
		COUNT_N(rw_in_dropped, q->count);
		bpf_loop(DROP_MAX, drop_step, &q, 0);
	}
	if (sent->count)
		bpf_loop(DROP_MAX, drop_step, &sent, 0);
	f->flags &= ~(COLO_RW_G_ACK | COLO_RW_RECOVER);
}

/*
 * A new epoch: the guest is a copy of the primary's, offsets are gone. P's ISN
 * stays if it is of the new epoch, whose news may have come first.
 */
static __always_inline void rewrite_reset(struct colo_rewrite *f, __u64 epoch)
{
	if (f->epoch == epoch)
		return;
	rewrite_forget(f);
	f->flags &= COLO_RW_ECHO | COLO_RW_P_KNOWN |
		    (f->p_epoch == epoch ? COLO_RW_P_ISN | COLO_RW_P_TS : 0);
	f->seq_delta = 0;
	f->ts_delta = 0;
	f->epoch = epoch;
}

/*
 * The client's SYN begins a life if there is none. In one it may be a stray,
 * which the guest answers without giving the connection up (RFC 5961): only
 * the guest's own SYN ends it.
 */
static __always_inline void rewrite_client_syn(struct colo_rewrite *f, __u32 isn)
{
	if (f->flags & (COLO_RW_S_ISN | COLO_RW_OFFSET | COLO_RW_OLD))
		return;
	f->flags |= COLO_RW_C_ISN;
	f->c_isn = isn;
}

/* The guest begins a new life of the tuple. P's ISN of the one before is used up. */
static __always_inline void rewrite_new_life(struct colo_rewrite *f)
{
	rewrite_forget(f);
	if (f->flags & COLO_RW_P_USED)
		f->flags &= ~(COLO_RW_P_ISN | COLO_RW_P_TS);
	f->flags &= COLO_RW_P_ISN | COLO_RW_P_TS | COLO_RW_P_USED | COLO_RW_P_KNOWN |
		    COLO_RW_C_ISN;
	f->seq_delta = 0;
	f->ts_delta = 0;
}

/*
 * Both ISNs are known: what is between them is the offset of this life, if it
 * is one: two SYN-ACKs must answer the same SYN.
 */
static __always_inline void rewrite_offset(struct colo_rewrite *f)
{
	if (f->flags & COLO_RW_OFFSET || !(f->flags & COLO_RW_P_ISN) ||
	    !(f->flags & COLO_RW_S_ISN) || f->p_epoch != f->epoch ||
	    (f->p_c_isn && f->s_c_isn && f->p_c_isn != f->s_c_isn))
		return;
	f->seq_delta = f->p_isn - f->s_isn;
	f->ts_delta = 0;
	if (f->flags & COLO_RW_P_TS && f->flags & COLO_RW_S_TS)
		f->ts_delta = f->p_tsval - f->s_tsval;
	f->flags |= COLO_RW_OFFSET | COLO_RW_P_USED;
}

/* Translate the TCP header at l4 in scratch.out that the secondary's guest made. */
static __always_inline void rewrite_out(struct scratch *s, struct colo_rewrite *f, __u32 l4,
					__u32 end)
{
	struct options o;

	out32(s, l4 + 4, get32(s, l4 + 4) + f->seq_delta);
	options_of_out(&o, s, l4, end);
	if (o.ts)
		out32(s, o.ts, get32(s, o.ts) + f->ts_delta);
}

/* Translate the TCP header of a client. */
static __always_inline void rewrite_in(struct scratch *s, struct colo_rewrite *f, __u32 l4,
				       __u32 end, __u32 flags)
{
	if (flags & COLO_FR_ACK)
		numbers_in(s, l4, end, f->seq_delta, f->ts_delta);
}

/* The highest TSecr of the client: how far P's clock was seen. */
static __always_inline void rewrite_note_echo(struct scratch *s, struct colo_rewrite *f)
{
	__u32 echo;

	if (!numbers_echo(s, &echo))
		return;
	if (!(f->flags & COLO_RW_ECHO) || seq_lt(f->ts_echo, echo))
		f->ts_echo = echo;
	f->flags |= COLO_RW_ECHO;
}

/* TSval of the SYN that scratch.pkt is; 1 if there is one. */
static __always_inline int syn_tsval(struct scratch *s, __u32 *tsval)
{
	struct options o;

	__builtin_memcpy(s->out, s->pkt.hdr, COLO_HDR_MAX);
	options_of_out(&o, s, s->pkt.l4_off, s->pkt.hdr_len);
	if (!o.ts)
		return 0;
	*tsval = get32(s, o.ts);
	return 1;
}

/* Put the translated header back into a record that waits. */
static __always_inline void out_to_frame(struct scratch *s, struct colo_frame *fr)
{
	__builtin_memcpy(fr->hdr, s->out, COLO_HDR_MAX);
	fr->seq = get32(s, fr->l4_off + 4);
	fr->end = fr->seq + fr->data_len + !!(fr->flags & COLO_FR_SYN) +
		  !!(fr->flags & COLO_FR_FIN);
}

/* How this packet can carry a frame to ifindex; negative if it cannot. */
static __always_inline int carrier_how(struct __sk_buff *ctx, struct scratch *s, __u32 ifindex)
{
	int partial = ctx_csum_is_partial(ctx, s->pkt.l4_off);

	if (partial < 0)
		return -1;
	return ifindex << HOW_IFINDEX | (partial ? HOW_PARTIAL : 0);
}

/* S's SYN or SYN-ACK that waited leaves over the link in P's numbers. */
static __always_inline void syn_send(struct __sk_buff *ctx, struct colo_rewrite *f, int how)
{
	struct colo_frame *fr = frame_at(f->syn_frame);
	struct scratch *s = scratch_get();
	__u32 idx = f->syn_frame;

	if (!fr || !s)
		return;
	__builtin_memcpy(s->out, fr->hdr, COLO_HDR_MAX);
	rewrite_out(s, f, fr->l4_off, fr->hdr_len);
	out_to_frame(s, fr);
	if (!emit_range(ctx, idx, fr->seq, fr->end, how))
		COUNT(rw_out_translated);
	COUNT(rw_out);
	link_count(&link_sent, fr->epoch, fr->data_len);
	frame_give(idx);
	f->syn_frame = COLO_NONE;
}

/*
 * scratch.pkt is an ICMP error that `direction` sent: put the TCP header that it
 * quotes into the numbers of whom it goes to. As quote_shift().
 */
__noinline int rewrite_quote(struct __sk_buff *ctx, int direction)
{
	struct scratch *s = scratch_get();
	struct colo_session *ses = session_get();
	struct colo_rewrite *f;
	__u32 tcp, delta = 0;

	if (!s || !ses)
		return -1;
	tcp = quote_find(s, direction);
	if (!tcp)
		return 0;
	f = rewrite_find(&s->quoted);
	if (!f)
		return 0;
	if (f->epoch == ses->epoch && f->flags & COLO_RW_OFFSET)
		delta = f->seq_delta;
	word_unlock(&f->lock);
	return quote_shift(ctx, &s->pkt, tcp, direction, delta);
}

struct c_wait {
	struct __sk_buff *ctx;
	struct colo_rewrite *flow;
	int how;
};

static long c_wait_send_step(__u32 step __unused, void *arg)
{
	struct c_wait *w = arg;
	struct colo_rewrite *f = w->flow;
	__u32 idx = f->c_wait.head;
	struct colo_frame *fr = frame_at(idx);
	struct scratch *s = scratch_get();

	if (!fr || !s)
		return 1;
	__builtin_memcpy(s->out, fr->hdr, COLO_HDR_MAX);
	rewrite_in(s, f, fr->l4_off, fr->hdr_len, fr->flags);
	out_to_frame(s, fr);
	if (!emit_range(w->ctx, idx, fr->seq, fr->end, w->how))
		COUNT(rw_in_translated);
	COUNT(rw_in);
	queue_remove(&f->c_wait, idx);
	frame_give(idx);
	return 0;
}

/* Client segments that waited for the offset go to the guest. */
static __always_inline void c_wait_send(struct __sk_buff *ctx, struct colo_rewrite *f, int how)
{
	struct c_wait w = {.ctx = ctx, .flow = f, .how = how};

	if (f->c_wait.count)
		bpf_loop(CLIENT_WAIT_MAX + 1, c_wait_send_step, &w, 0);
}

#endif
