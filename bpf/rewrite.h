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

#define WAIT_MAX 64   /* segments of a flow and side that wait */
#define DROP_MAX 1024 /* more than any queue of a flow has */

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

	found = rewrite_find(key);
	if (found)
		return found;
	/* it is new, or was being reclaimed and is not there any more */
	__builtin_memset(f, 0, sizeof(*f));
	f->key = *key;
	f->epoch = epoch;
	queue_init(&f->s_wait);
	queue_init(&f->c_wait);
	queue_init(&f->c_sent);
	if (!bpf_map_update_elem(&flows, key, f, BPF_NOEXIST))
		COUNT(flows_created);
	return rewrite_find(key);
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

/* What the guest has not acknowledged it is not given again. */
static __always_inline void sent_forget(struct colo_rewrite *f)
{
	struct colo_queue *q = &f->c_sent;

	if (q->count)
		bpf_loop(DROP_MAX, drop_step, &q, 0);
	f->flags &= ~(COLO_RW_G_ACK | COLO_RW_RECOVER | COLO_RW_PROBE);
}

/* What waits for an offset that will never come, or for an ack, is dropped. */
static __always_inline void rewrite_forget(struct colo_rewrite *f)
{
	struct colo_queue *q;

	COUNT_N(rw_in_dropped, f->c_wait.count);
	q = &f->s_wait;
	if (q->count)
		bpf_loop(DROP_MAX, drop_step, &q, 0);
	q = &f->c_wait;
	if (q->count)
		bpf_loop(DROP_MAX, drop_step, &q, 0);
	sent_forget(f);
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
static __always_inline void rewrite_client_syn(struct colo_rewrite *f, const struct packet *p)
{
	f->flags |= COLO_RW_C_SYN;
	f->c_isn = p->seq;
	f->c_syn = p->end;
	if (!(f->flags & (COLO_RW_S_ISN | COLO_RW_OFFSET | COLO_RW_OLD)))
		f->flags |= COLO_RW_C_ISN;
}

/*
 * The guest refuses the client's SYN, whatever life the tuple had before: such
 * an RST has the number 0 (RFC 9293 3.10.7.1), in anybody's numbers.
 */
static __always_inline int rewrite_refuses(const struct colo_rewrite *f, const struct packet *p)
{
	return f->flags & COLO_RW_C_SYN && p->flags & COLO_FR_RST && p->flags & COLO_FR_ACK &&
	       !p->seq && p->ack == f->c_syn;
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

/* A life that begins in this epoch, whoever's SYN was seen: it will have an offset. */
static __always_inline int rewrite_begins(const struct colo_rewrite *f)
{
	return f->flags & (COLO_RW_C_ISN | COLO_RW_S_ISN) ||
	       (f->flags & COLO_RW_P_ISN && !(f->flags & (COLO_RW_P_USED | COLO_RW_OLD)));
}

/* What an ack of a SYN with data means, of whatever part of them: its ISN + 1. */
static __always_inline __u32 rewrite_answers(const struct colo_rewrite *f, __u32 ack)
{
	return f->flags & COLO_RW_C_SYN && ack - f->c_isn - 1 < f->c_syn - f->c_isn ?
		       f->c_isn + 1 :
		       ack;
}

/*
 * Both ISNs are known: what is between them is the offset of this life, if it
 * is one: two SYN-ACKs must answer the same SYN.
 */
static __always_inline void rewrite_offset(struct colo_rewrite *f)
{
	if (f->flags & COLO_RW_OFFSET || !(f->flags & COLO_RW_P_ISN) ||
	    !(f->flags & COLO_RW_S_ISN) || f->p_epoch != f->epoch ||
	    (f->p_c_isn && f->s_c_isn &&
	     rewrite_answers(f, f->p_c_isn) != rewrite_answers(f, f->s_c_isn)))
		return;
	f->seq_delta = f->p_isn - f->s_isn;
	f->ts_delta = 0;
	if (f->flags & COLO_RW_P_TS && f->flags & COLO_RW_S_TS)
		f->ts_delta = f->p_tsval - f->s_tsval;
	f->flags |= COLO_RW_OFFSET | COLO_RW_P_USED;
}

/* Translate the TCP header at l4 in scratch.out that the secondary's guest made. */
static __always_inline void rewrite_out(struct scratch *s, const struct colo_rewrite *f,
					__u32 l4, __u32 end)
{
	numbers_out(s, l4, end, f->seq_delta, f->ts_delta);
}

/* Translate the TCP header of a client. */
static __always_inline void rewrite_in(struct scratch *s, const struct colo_rewrite *f,
				       __u32 l4, __u32 end, __u32 flags)
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

/*
 * scratch.pkt is an ICMP error that `direction` sent: put the TCP header that it
 * quotes into the numbers of whom it goes to. As quote_shift().
 */
__noinline int rewrite_quote(struct __sk_buff *ctx, int direction)
{
	struct scratch *s = scratch_get();
	struct colo_session *ses = session_get();
	__u32 tcp, seq_delta = 0, ts_delta = 0;
	struct colo_rewrite *f;

	if (!s || !ses)
		return -1;
	tcp = quote_find(s, direction);
	if (!tcp)
		return 0;
	f = rewrite_find(&s->quoted);
	if (!f)
		return 0;
	if (f->epoch == ses->epoch && f->flags & COLO_RW_OFFSET) {
		seq_delta = f->seq_delta;
		ts_delta = f->ts_delta;
	}
	word_unlock(&f->lock);
	return quote_shift(ctx, s, tcp, direction, seq_delta, ts_delta);
}

/* Keep the packet in a queue of segments that wait, which is bounded. */
static __always_inline int wait_add(struct __sk_buff *ctx, struct colo_rewrite *f,
				    struct colo_queue *q, __u32 state)
{
	__u32 idx = COLO_NONE, reason = COLO_REASON_QUEUE_FULL;

	if (q->count < WAIT_MAX) {
		idx = frame_take(ctx, state, f->epoch, f->seen_ns);
		reason = COLO_REASON_POOL_FULL;
	}
	if (idx == COLO_NONE) {
		request(reason, &f->key, 0);
		return -1;
	}
	queue_append(q, idx);
	return 0;
}

struct wait_send {
	struct __sk_buff *ctx;
	struct colo_rewrite *flow;
	int how;
	int out; /* of the guest, else of the client */
};

static long wait_send_step(__u32 step __unused, void *arg)
{
	struct wait_send *w = arg;
	struct colo_rewrite *f = w->flow;
	struct colo_queue *q = w->out ? &f->s_wait : &f->c_wait;
	__u32 idx = q->head;
	struct colo_frame *fr = frame_at(idx);
	struct scratch *s = scratch_get();
	int ret;

	if (!fr || !s)
		return 1;
	__builtin_memcpy(s->out, fr->hdr, COLO_HDR_MAX);
	if (w->out)
		rewrite_out(s, f, fr->l4_off, fr->hdr_len);
	else
		rewrite_in(s, f, fr->l4_off, fr->hdr_len, fr->flags);
	out_to_frame(s, fr);
	ret = emit_range(w->ctx, idx, fr->seq, fr->end, w->how);
	if (!w->out) {
		COUNT(rw_in);
		if (!ret)
			COUNT(rw_in_translated);
	} else if (w->how & HOW_LINK) {
		COUNT(rw_out);
		if (!ret)
			COUNT(rw_out_translated);
		link_count(&link_sent, fr->epoch, fr->data_len);
	} else {
		COUNT(active_out);
		if (ret)
			COUNT(port_failed);
	}
	queue_remove(q, idx);
	frame_give(idx);
	return 0;
}

/* What waited for the offset leaves: the guest's frames, or the client's to it. */
static __always_inline void wait_send(struct __sk_buff *ctx, struct colo_rewrite *f, int how,
				      int out)
{
	struct wait_send w = {.ctx = ctx, .flow = f, .how = how, .out = out};

	bpf_loop(WAIT_MAX + 1, wait_send_step, &w, 0);
}

#endif
