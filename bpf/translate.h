/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * After a take-over a flow's client knows numbers that the guest does not use:
 * those of a guest that is no more. The flow is translated at the port for as
 * long as it lives, by whoever owns the port, outside mirror and compare,
 * which work in the guest's numbers (rule 15). So no commit touches it, and it
 * lasts over any number of take-overs, the offset of each added to it.
 */
#ifndef COLO_BPF_TRANSLATE_H
#define COLO_BPF_TRANSLATE_H

#include <linux/errno.h>

#include "lock.h"
#include "numbers.h"
#include "quote.h"

/* 1: found and locked, 0: there is none, negative: its lock was not got. */
static __always_inline int translation_find(const struct colo_flow_key *key,
					    struct colo_translation **found)
{
	struct colo_translation *t = bpf_map_lookup_elem(&translations, key);

	*found = t;
	if (!t)
		return 0;
	if (!word_lock(&t->lock))
		return -1;
	if (key_equal(&t->key, key))
		return 1;
	word_unlock_stale(&t->lock);
	return 0;
}

/*
 * Make the one that scratch.translation is. The count is never below the number
 * of entries: who sees 0 does not look. Negative: there was no memory at once,
 * which the next try has.
 */
static __always_inline int translation_add(struct scratch *s, struct colo_session *ses)
{
	struct colo_translation *t = &s->translation;
	long err;

	__sync_fetch_and_add(&ses->translations, 1);
	err = bpf_map_update_elem(&translations, &t->key, t, BPF_NOEXIST);
	if (!err) {
		COUNT(tr_created);
		return 0;
	}
	__sync_fetch_and_sub(&ses->translations, 1);
	if (err == -ENOMEM)
		return -1;
	COUNT(tr_full);
	return 0;
}

/* Delete what translation_find() has found with this key; it is unlocked then. */
static __always_inline void translation_delete(struct colo_translation *t,
					       const struct colo_flow_key *key)
{
	struct colo_session *ses = session_get();

	/* who waits for its lock finds no key in it */
	__builtin_memset(&t->key, 0, sizeof(t->key));
	if (bpf_map_delete_elem(&translations, key)) {
		t->key = *key;
		word_unlock(&t->lock);
		return;
	}
	COUNT(tr_ended);
	if (ses)
		__sync_fetch_and_sub(&ses->translations, 1);
	word_unlock_stale(&t->lock);
}

/* The guest's SYN with this number is of a life that is not this one's. */
static __always_inline int translation_is_old(const struct colo_translation *t, __u32 isn)
{
	return !(t->flags & COLO_TR_ISN) || t->isn != isn;
}

/*
 * The guest begins a new life of the tuple, or refuses one, which a SYN of the
 * client's alone does not say: it may be a stray (RFC 5961). The RST that
 * refuses has the number 0 (RFC 9293 3.10.7.1), in anybody's numbers.
 */
static __always_inline int translation_ends(const struct colo_translation *t,
					    const struct packet *p)
{
	if (p->flags & COLO_FR_SYN)
		return translation_is_old(t, p->seq);
	return t->flags & COLO_TR_C_SYN && p->flags & COLO_FR_RST && p->flags & COLO_FR_ACK &&
	       !p->seq && p->ack == t->c_syn;
}

/* The primary's guest has begun a life with this ISN: what is there is of one before. */
static __always_inline void translation_new_life(const struct colo_flow_key *key, __u32 isn)
{
	struct colo_translation *t;

	if (translation_find(key, &t) <= 0)
		return;
	if (translation_is_old(t, isn))
		translation_delete(t, key);
	else
		word_unlock(&t->lock);
}

static __always_inline void translation_forget(const struct colo_flow_key *key)
{
	struct colo_translation *t;

	if (translation_find(key, &t) > 0)
		translation_delete(t, key);
}

/*
 * FINs of both sides, or an RST, if the guest takes it for one: what it sends
 * after a client's says that it does not (RFC 5961).
 */
static __always_inline void translation_note_end(struct colo_translation *t, __u32 flags,
						 enum parse_direction dir)
{
	if (flags & COLO_FR_FIN)
		t->flags |= dir == FROM_GUEST ? COLO_TR_G_FIN : COLO_TR_C_FIN;
	if (flags & COLO_FR_RST)
		t->flags |= COLO_TR_RST;
	else if (dir == FROM_GUEST)
		t->flags &= ~COLO_TR_RST;
}

static __always_inline void translation_note_echo(struct colo_translation *t, __u32 echo)
{
	if (t->flags & COLO_TR_ECHO && !seq_lt(t->ts_echo, echo))
		return;
	t->ts_echo = echo;
	t->flags |= COLO_TR_ECHO;
	t->flags &= ~COLO_TR_AHEAD;
}

/* Its client knows the guest's numbers, but may have seen a clock that is ahead. */
static __always_inline int translation_is_watch(const struct colo_translation *t)
{
	return !t->seq_delta && !t->ts_delta;
}

/*
 * The guest's segment into scratch.out. TSval must not fall below what the
 * client has echoed, or its PAWS would drop it for ever. Returns whether
 * anything has changed.
 */
static __always_inline int translation_out(struct scratch *s, struct colo_translation *t)
{
	struct packet *p = &s->pkt;
	struct options o;
	__u32 tsval;

	__builtin_memcpy(s->out, p->hdr, COLO_HDR_MAX);
	options_of_out(&o, s, p->l4_off, p->hdr_len);
	if (o.ts) {
		tsval = get32(s, o.ts) + t->ts_delta;
		if (t->flags & COLO_TR_ECHO && seq_lt(tsval, t->ts_echo)) {
			t->ts_delta += t->ts_echo - tsval;
			tsval = t->ts_echo;
		}
		t->flags |= COLO_TR_AHEAD;
		out32(s, o.ts, tsval);
	}
	out32(s, p->l4_off + 4, p->seq + t->seq_delta);
	return t->seq_delta || (o.ts && t->ts_delta);
}

/* The client's segment into scratch.out; likewise. */
static __always_inline int translation_in(struct scratch *s, struct colo_translation *t)
{
	struct packet *p = &s->pkt;
	__u32 echo;

	if (!(p->flags & COLO_FR_ACK)) {
		if (p->flags & COLO_FR_SYN) {
			t->c_syn = p->end;
			t->flags |= COLO_TR_C_SYN;
		}
		return 0;
	}
	if (numbers_echo(s, &echo))
		translation_note_echo(t, echo);
	if (translation_is_watch(t))
		return 0;
	__builtin_memcpy(s->out, p->hdr, COLO_HDR_MAX);
	numbers_in(s, p->l4_off, p->hdr_len, t->seq_delta, t->ts_delta);
	return 1;
}

static __always_inline int translate_stream(struct __sk_buff *ctx, struct scratch *s,
					    enum parse_direction dir)
{
	struct packet *p = &s->pkt;
	struct colo_translation *t;
	int ret = translation_find(&p->key, &t);

	if (ret <= 0 || !t)
		return ret;
	if (dir == FROM_GUEST && translation_ends(t, p)) {
		translation_delete(t, &p->key);
		return 0;
	}
	if (!translation_is_watch(t))
		t->seen_ns = bpf_ktime_get_ns();
	translation_note_end(t, p->flags, dir);
	ret = dir == FROM_GUEST ? translation_out(s, t) : translation_in(s, t);
	if (ret && hdr_replace(ctx))
		ret = -1;
	word_unlock(&t->lock);
	return ret;
}

/* An ICMP error that quotes a TCP header. */
static __always_inline int translate_quote(struct __sk_buff *ctx, struct scratch *s,
					   enum parse_direction dir)
{
	__u32 tcp = quote_find(s, dir), seq_delta, ts_delta;
	struct colo_translation *t;
	int ret;

	if (!tcp)
		return 0;
	ret = translation_find(&s->quoted, &t);
	if (ret <= 0 || !t)
		return ret;
	seq_delta = t->seq_delta;
	ts_delta = t->ts_delta;
	word_unlock(&t->lock);
	return quote_shift(ctx, s, tcp, dir, seq_delta, ts_delta);
}

/*
 * Translate the packet that scratch.pkt describes, if its flow is one of the
 * translated. 1: it was, 0: it goes on as it is, negative: it must not go on.
 * Of TCP in fragments the first has the numbers.
 */
__noinline int translate(struct __sk_buff *ctx, int direction)
{
	enum parse_direction dir = direction;
	struct scratch *s = scratch_get();
	struct packet *p;

	if (!s)
		return -1;
	p = &s->pkt;
	if (p->key.fragment) {
		if (p->class != COLO_CLASS_TCP || p->seq & FRAGMENT_OFFSET(p))
			return 0;
		p->key.fragment = 0;
		if (parse_tcp(p, p->data_len, dir) != PARSE_OK)
			return 0;
	}
	if (p->flags & COLO_FR_TCP)
		return translate_stream(ctx, s, dir);
	return icmp_quotes(p) ? translate_quote(ctx, s, dir) : 0;
}

/* A client's packet, parsed, has come in at the port. Negative: it must not go on. */
static __always_inline int translate_arrival(struct __sk_buff *ctx, int parsed)
{
	int ret = parsed == PARSE_OK ? translate(ctx, FROM_CLIENT) : 0;

	if (ret > 0)
		COUNT(tr_in);
	if (ret < 0)
		COUNT(tr_failed);
	return ret;
}

/* Guest and port are one wire, but for the flows that are translated. */
static __always_inline int wire_arrival(struct __sk_buff *ctx, const struct colo_session *ses,
					__u32 guest)
{
	if (ses->translations && translate_arrival(ctx, packet_parse(ctx, FROM_CLIENT)) < 0)
		return CTX_DROP;
	return ctx_send(guest);
}

/*
 * Whether a translation is to be deleted: its flow has ended a while ago, or it
 * watched a clock that has long passed what the client could have seen of the
 * other's. On a secondary in COLO nobody sees whether the primary's are idle.
 */
static __always_inline int translation_due(const struct colo_translation *t)
{
	const __u32 fins = COLO_TR_G_FIN | COLO_TR_C_FIN;
	struct colo_session *ses = session_get();
	struct colo_config *c = config_get();
	__u64 limit;

	if (!c || !ses)
		return 0;
	if (t->flags & COLO_TR_RST || (t->flags & fins) == fins)
		limit = c->flow_grace_ms;
	else if (translation_is_watch(t))
		limit = t->flags & COLO_TR_ECHO && !(t->flags & COLO_TR_AHEAD) ?
				c->flow_idle_ms :
				c->flow_grace_ms;
	else if (ses->mode == COLO_MODE_SECONDARY)
		return 0;
	else
		limit = ~0U; /* its client knows these numbers for as long as it lives */
	return t->seen_ns + limit * 1000000ULL <= bpf_ktime_get_ns();
}

/* Delete the translation of the flow in scratch.control, if its time has come. */
static __always_inline __u32 translation_expire(struct scratch *s)
{
	const struct colo_flow_key *key = &s->control.key;
	struct colo_translation *t;
	int ret = translation_find(key, &t);

	if (ret < 0)
		return COLO_CONTROL_AGAIN;
	if (!ret || !t)
		return 0;
	if (!translation_due(t)) {
		word_unlock(&t->lock);
		return 0;
	}
	translation_delete(t, key);
	return 1;
}

#endif
