// SPDX-License-Identifier: GPL-2.0-only
/*
 * The secondary's data path.
 *
 *   link_in    a client's frame from the primary: translated, to the guest;
 *              a control frame: P's own SYN or SYN-ACK
 *   guest_out  a frame S of the guest: translated, to the primary
 *   port_in    shut until this side takes over
 *   control    run by the daemon: reset, failover, reclaim
 *
 * After a failover guest and port are a wire, but for the flows whose numbers
 * differ from what their clients know: those are translated at the port.
 */
#include "control.h"
#include "redeliver.h"
#include "replay.h"
#include "router.h"
#include "takeover.h"

char _license[] SEC("license") = "GPL";

enum verdict {
	PASS, /* as it is */
	TRANSLATED,
	WAITS, /* kept, or dropped because it could not be */
};

static __always_inline int is_stream(const struct packet *p, int parsed)
{
	return parsed == PARSE_OK && p->flags & COLO_FR_TCP;
}

/* S's SYN or SYN-ACK: it tells S's ISN, and waits for P's. */
static __always_inline enum verdict out_syn(struct __sk_buff *ctx, struct scratch *s,
					    struct colo_rewrite *f)
{
	struct packet *p = &s->pkt;
	__u32 tsval;

	if (!(f->flags & COLO_RW_S_ISN) || f->s_isn != p->seq) {
		if (f->flags & COLO_RW_S_ISN)
			rewrite_new_life(f);
		sent_forget(f);
		f->flags &= ~(COLO_RW_OLD | COLO_RW_ECHO | COLO_RW_C_FIN | COLO_RW_RST);
		if (!(p->flags & COLO_FR_FIN))
			f->flags &= ~COLO_RW_G_FIN;
		f->s_isn = p->seq;
		f->s_c_isn = p->flags & COLO_FR_ACK ? p->ack : 0;
		f->flags |= COLO_RW_S_ISN;
		if (syn_tsval(s, &tsval)) {
			f->s_tsval = tsval;
			f->flags |= COLO_RW_S_TS;
		}
		rewrite_offset(f);
		/* after a checkpoint S repeats what P has begun: the same number */
		if (f->flags & COLO_RW_P_KNOWN && f->p_isn == p->seq)
			f->flags |= COLO_RW_OFFSET;
	}
	if (f->flags & COLO_RW_OFFSET)
		return TRANSLATED;
	COUNT(rw_syn_waited);
	if (!f->s_wait.count) /* else it is a repetition */
		wait_add(ctx, f, &f->s_wait, COLO_FRAME_S);
	return WAITS;
}

static __always_inline enum verdict out_stream(struct __sk_buff *ctx, struct scratch *s,
					       struct colo_rewrite *f)
{
	struct packet *p = &s->pkt;

	if (p->flags & COLO_FR_SYN)
		return out_syn(ctx, s, f);
	if (rewrite_refuses(f, p))
		return PASS;
	if (f->flags & COLO_RW_OFFSET)
		return f->seq_delta || f->ts_delta ? TRANSLATED : PASS;
	if (!(f->flags & COLO_RW_S_ISN)) {
		/* older than the epoch, or refuses the SYN */
		if (!(p->flags & COLO_FR_RST))
			f->flags |= COLO_RW_OLD;
		return PASS;
	}
	COUNT(rw_syn_waited);
	if (wait_add(ctx, f, &f->s_wait, COLO_FRAME_S))
		COUNT(rw_untranslatable);
	return WAITS;
}

/* An ICMP error that quotes a TCP header. */
static __always_inline enum verdict quoting(struct __sk_buff *ctx, const struct packet *p,
					    int parsed, enum parse_direction dir)
{
	int ret;

	if (parsed != PARSE_OK || p->key.fragment || !icmp_quotes(p))
		return PASS;
	ret = rewrite_quote(ctx, dir);
	return ret < 0 ? WAITS : ret ? TRANSLATED : PASS;
}

static __always_inline void note_end(struct colo_rewrite *f, __u32 flags, __u32 fin)
{
	if (flags & COLO_FR_FIN)
		f->flags |= fin;
	if (flags & COLO_FR_RST)
		f->flags |= COLO_RW_RST;
}

/* Apply the flow's offsets to the packet that leaves. */
static __always_inline int out_translate(struct __sk_buff *ctx, struct scratch *s,
					 struct colo_rewrite *f)
{
	struct packet *p = &s->pkt;

	__builtin_memcpy(s->out, p->hdr, COLO_HDR_MAX);
	rewrite_out(s, f, p->l4_off, p->hdr_len);
	return hdr_replace(ctx);
}

static __always_inline int in_translate(struct __sk_buff *ctx, struct scratch *s,
					struct colo_rewrite *f)
{
	struct packet *p = &s->pkt;

	__builtin_memcpy(s->out, p->hdr, COLO_HDR_MAX);
	rewrite_in(s, f, p->l4_off, p->hdr_len, p->flags);
	return hdr_replace(ctx);
}

/* The packet leaves now: it is a carrier afterwards. */
static __always_inline void out_send_first(struct __sk_buff *ctx, struct scratch *s,
					   __u64 epoch, struct colo_config *c)
{
	link_count(&link_sent, epoch, link_tcp_bytes(&s->pkt, PARSE_OK));
	link_send_copy(ctx, COLO_LINK_OUTPUT, epoch, c->link_ifindex);
	COUNT(rw_out);
}

static __always_inline int colo_out(struct __sk_buff *ctx, struct scratch *s,
				    struct colo_session *ses, struct colo_config *c)
{
	int how, parsed = packet_parse(ctx, FROM_GUEST);
	enum verdict v = quoting(ctx, &s->pkt, parsed, FROM_GUEST);
	/* read once: tag and count must be of the same epoch */
	__u64 epoch = *(volatile __u64 *)&ses->epoch;
	__u32 again = COLO_NONE;
	struct colo_rewrite *f;

	if (parsed == PARSE_OK)
		router_note(ses, &s->pkt);
	if (is_stream(&s->pkt, parsed)) {
		f = rewrite_get(s, epoch);
		if (!f) {
			COUNT(rw_untranslatable);
			request(COLO_REASON_FLOW_FULL, &s->pkt.key, s->pkt.seq);
			return CTX_DROP;
		}
		rewrite_reset(f, epoch);
		f->seen_ns = bpf_ktime_get_ns();
		note_end(f, s->pkt.flags, COLO_RW_G_FIN);
		again = redeliver_ack(s, f);
		v = out_stream(ctx, s, f);
		if (v == TRANSLATED && out_translate(ctx, s, f))
			v = WAITS;
		if (v == TRANSLATED && f->c_wait.count) {
			/* this SYN is the last thing that they waited for */
			out_send_first(ctx, s, epoch, c);
			how = carrier_how(ctx, s, c->guest_ifindex);
			if (how >= 0)
				wait_send(ctx, f, how, 0);
			v = WAITS;
		} else if (v != WAITS && again != COLO_NONE) {
			out_send_first(ctx, s, epoch, c);
			redeliver(ctx, s, f, again, c->guest_ifindex);
			v = WAITS;
		}
		word_unlock(&f->lock);
	}
	if (v == WAITS)
		return CTX_DROP;
	if (v == TRANSLATED)
		COUNT(rw_out_translated);
	COUNT(rw_out);
	link_count(&link_sent, epoch, link_tcp_bytes(&s->pkt, parsed));
	return link_send(ctx, COLO_LINK_OUTPUT, epoch, c->link_ifindex);
}

SEC("tc")
int guest_out(struct __sk_buff *ctx)
{
	struct colo_session *ses = session_get();
	struct colo_config *c = config_get();
	struct scratch *s = scratch_get();

	if (!ses || !c || !s)
		return CTX_DROP;
	switch (ses->mode) {
	case COLO_MODE_SECONDARY:
		return colo_out(ctx, s, ses, c);
	case COLO_MODE_ACTIVE:
		COUNT(active_out);
		return ctx_send(c->port_ifindex);
	case COLO_MODE_WIRE:
		COUNT(wire_out);
		return ctx_send(c->port_ifindex);
	default:
		COUNT(shut_out);
		return CTX_DROP;
	}
}

static __always_inline enum verdict in_stream(struct __sk_buff *ctx, struct scratch *s,
					      struct colo_rewrite *f)
{
	struct packet *p = &s->pkt;

	note_end(f, p->flags, COLO_RW_C_FIN);
	if (p->flags & COLO_FR_SYN && !(p->flags & COLO_FR_ACK)) {
		rewrite_client_syn(f, p);
		return PASS;
	}
	rewrite_note_echo(s, f);
	if (!(p->flags & COLO_FR_ACK))
		return PASS;
	if (f->flags & COLO_RW_OFFSET) {
		if (!f->seq_delta && !f->ts_delta)
			return PASS;
		return in_translate(ctx, s, f) ? WAITS : TRANSLATED;
	}
	if (rewrite_begins(f)) {
		if (wait_add(ctx, f, &f->c_wait, COLO_FRAME_C))
			COUNT(rw_in_dropped);
		else
			COUNT(rw_in_queued);
		return WAITS;
	}
	f->flags |= COLO_RW_OLD;
	return PASS; /* older than the epoch: offset 0 */
}

/*
 * TCP in fragments: the numbers are in the first, the others pass. Of a life
 * whose offset is not known yet it cannot wait, the client repeats it.
 */
static __always_inline enum verdict in_fragment(struct __sk_buff *ctx, struct scratch *s,
						struct colo_session *ses)
{
	struct packet *p = &s->pkt;
	enum verdict v = PASS;
	struct colo_rewrite *f;

	if (p->seq & FRAGMENT_OFFSET(p))
		return PASS;
	p->key.fragment = 0;
	if (parse_tcp(p, p->data_len, FROM_CLIENT) != PARSE_OK)
		return PASS;
	f = rewrite_find(&p->key);
	if (!f)
		return PASS;
	rewrite_reset(f, ses->epoch);
	if (f->flags & COLO_RW_OFFSET) {
		if (f->seq_delta || f->ts_delta)
			v = in_translate(ctx, s, f) ? WAITS : TRANSLATED;
	} else if (rewrite_begins(f)) {
		COUNT(rw_in_dropped);
		v = WAITS;
	}
	word_unlock(&f->lock);
	return v;
}

/* The segment's header as the guest gets it is in scratch.out. */
static __always_inline __u32 in_keep(struct __sk_buff *ctx, struct scratch *s,
				     struct colo_rewrite *f, struct colo_session *ses)
{
	enum repeats what = client_repeats(&s->pkt, f);

	if (!(f->flags & COLO_RW_G_ACK) || seq_lt(f->g_ack, s->pkt.end))
		redeliver_keep(ctx, s, f, ses);
	return redeliver_repeated(s, f, what);
}

/* Inside the gate. */
static __always_inline void colo_in(struct __sk_buff *ctx, struct scratch *s,
				    struct colo_session *ses, struct colo_config *c,
				    __u64 epoch)
{
	__u64 life = *(volatile __u64 *)&ses->input_epoch;
	enum verdict v = PASS;
	__u32 again = COLO_NONE;
	struct colo_rewrite *f;
	int parsed;

	COUNT(in_frames);
	if (bpf_skb_vlan_pop(ctx))
		return;
	parsed = packet_parse(ctx, FROM_CLIENT);
	if (parsed != PARSE_OK)
		COUNT(in_parse_failed);
	link_count(&link_received, epoch, link_tcp_bytes(&s->pkt, parsed));
	if (epoch < life && ses->input_mark) {
		COUNT(rw_in_old);
		return;
	}
	/* one for a life to come is given to this one too, which may survive */
	if (input_keep(ctx, epoch, life) && epoch <= life)
		return;
	v = quoting(ctx, &s->pkt, parsed, FROM_CLIENT);
	if (s->pkt.key.fragment && s->pkt.class == COLO_CLASS_TCP) {
		v = in_fragment(ctx, s, ses);
	} else if (is_stream(&s->pkt, parsed)) {
		f = rewrite_get(s, ses->epoch);
		if (!f) {
			COUNT(rw_in_dropped);
			request(COLO_REASON_FLOW_FULL, &s->pkt.key, s->pkt.seq);
			return;
		}
		rewrite_reset(f, ses->epoch);
		f->seen_ns = bpf_ktime_get_ns();
		v = in_stream(ctx, s, f);
		if (s->pkt.flags & COLO_FR_RST)
			sent_forget(f);
		if (v != WAITS && s->pkt.data_len && s->pkt.flags & COLO_FR_ACK &&
		    !(s->pkt.flags & (COLO_FR_SYN | COLO_FR_RST)))
			again = in_keep(ctx, s, f, ses);
		if (again != COLO_NONE) {
			ctx_send_copy(ctx, c->guest_ifindex);
			COUNT(rw_in);
			redeliver(ctx, s, f, again, c->guest_ifindex);
			v = WAITS;
		}
		word_unlock(&f->lock);
	}
	if (v == WAITS)
		return;
	if (v == TRANSLATED)
		COUNT(rw_in_translated);
	COUNT(rw_in);
	ctx_send_copy(ctx, c->guest_ifindex);
}

/* P's own SYN or SYN-ACK: its ISN and TSval are P's of this life. */
static __always_inline void control_frame(struct __sk_buff *ctx, struct scratch *s,
					  struct colo_session *ses, struct colo_config *c,
					  __u64 epoch, int ahead)
{
	struct packet *p = &s->pkt;
	struct colo_rewrite *f;
	int how, parsed;
	__u32 tsval;

	COUNT(control_received);
	if (bpf_skb_vlan_pop(ctx))
		return;
	parsed = packet_parse(ctx, FROM_GUEST);
	if (parsed < 0 || link_counts_receive(ctx, s))
		return;
	if (ahead < 0 || !is_stream(p, parsed) || !(p->flags & COLO_FR_SYN))
		return;
	if (ses->translations)
		translation_new_life(&p->key, p->seq);
	f = rewrite_get(s, ses->epoch);
	if (!f) {
		request(COLO_REASON_FLOW_FULL, &p->key, p->seq);
		return;
	}
	rewrite_reset(f, ses->epoch);
	f->seen_ns = bpf_ktime_get_ns();
	/* one that P has sent in an epoch before begins nothing: S has it, too */
	if (f->flags & COLO_RW_P_KNOWN && f->p_isn == p->seq && f->p_epoch != epoch)
		goto unlock;
	if (!(f->flags & (COLO_RW_P_ISN | COLO_RW_P_USED)) || f->p_isn != p->seq) {
		f->p_isn = p->seq;
		f->p_c_isn = p->flags & COLO_FR_ACK ? p->ack : 0;
		f->p_epoch = epoch;
		f->flags |= COLO_RW_P_ISN | COLO_RW_P_KNOWN;
		f->flags &= ~(COLO_RW_P_TS | COLO_RW_P_USED);
		if (syn_tsval(s, &tsval)) {
			f->p_tsval = tsval;
			f->flags |= COLO_RW_P_TS;
		}
	}
	rewrite_offset(f);
	if (epoch == ses->epoch && f->flags & COLO_RW_OFFSET) {
		how = carrier_how(ctx, s, c->link_ifindex);
		if (how >= 0 && f->s_wait.count)
			wait_send(ctx, f, how | HOW_LINK, 1);
		how = how & HOW_PARTIAL;
		if (f->c_wait.count)
			wait_send(ctx, f, how | c->guest_ifindex << HOW_IFINDEX, 0);
	}
unlock:
	word_unlock(&f->lock);
}

/* Inside the gate. */
static __always_inline void link_frame(struct __sk_buff *ctx, struct scratch *s,
				       struct colo_session *ses, struct colo_config *c)
{
	/* read once: what the tag means must not change on the way */
	__u64 epoch = *(volatile __u64 *)&ses->epoch;
	int ahead = 0;

	switch (link_receive(ctx, epoch, &ahead)) {
	case COLO_LINK_INPUT:
		colo_in(ctx, s, ses, c, epoch + ahead);
		break;
	case COLO_LINK_CONTROL:
		control_frame(ctx, s, ses, c, epoch + ahead, ahead);
		break;
	default:
		COUNT(link_foreign);
		break;
	}
}

SEC("tc")
int link_in(struct __sk_buff *ctx)
{
	struct colo_session *ses = session_get();
	struct colo_config *c = config_get();
	struct scratch *s = scratch_get();
	int ahead;

	if (!ses || !c || !s)
		return CTX_DROP;
	if (link_receive(ctx, 0, &ahead) == COLO_LINK_NONE)
		return CTX_STACK;
	if (ses->mode != COLO_MODE_SECONDARY) {
		COUNT(link_foreign);
		return CTX_DROP;
	}
	if (gate_enter(ses)) {
		link_frame(ctx, s, ses, c);
		gate_leave();
	}
	return CTX_DROP;
}

SEC("tc")
int port_in(struct __sk_buff *ctx)
{
	struct colo_session *ses = session_get();
	struct colo_config *c = config_get();

	if (!ses || !c)
		return CTX_DROP;
	switch (ses->mode) {
	case COLO_MODE_ACTIVE:
		COUNT(active_in);
		return wire_arrival(ctx, ses, c->guest_ifindex);
	case COLO_MODE_WIRE:
		COUNT(wire_in);
		return wire_arrival(ctx, ses, c->guest_ifindex);
	default:
		COUNT(shut_in);
		return CTX_DROP;
	}
}

/* --- run by the daemon --------------------------------------------------- */

/*
 * A life whose P ISN is unknown has told the client nothing: it goes on in
 * S's own numbers.
 */
static __always_inline __u32 control_failover(struct __sk_buff *ctx, struct colo_rewrite *f,
					      __u32 port, __u64 epoch)
{
	__u32 ended = f->c_wait.count + f->s_wait.count;

	if (f->epoch == epoch && f->s_wait.count)
		wait_send(ctx, f, port << HOW_IFINDEX, 1);
	rewrite_forget(f);
	return ended;
}

static __always_inline int rewrite_closed(const struct colo_rewrite *f)
{
	const __u32 fins = COLO_RW_G_FIN | COLO_RW_C_FIN;

	return f->flags & COLO_RW_RST || (f->flags & fins) == fins;
}

static __always_inline int reclaim_due(const struct colo_rewrite *f)
{
	struct colo_session *ses = session_get();
	struct colo_config *c = config_get();
	__u64 limit;

	if (!c || !ses || f->s_wait.count || f->c_wait.count)
		return 0;
	limit = c->flow_idle_ms;
	if (f->flags & COLO_RW_OFFSET && !(f->flags & COLO_RW_MOVED) &&
	    f->epoch == ses->epoch && (f->seq_delta || f->ts_delta))
		limit = ~0U; /* its client knows P's numbers for as long as it lives */
	if (rewrite_closed(f))
		limit = c->flow_grace_ms;
	return f->seen_ns + limit * 1000000ULL <= bpf_ktime_get_ns();
}

static __always_inline int waits_since(const struct colo_queue *q, __u64 ns)
{
	struct colo_frame *fr = frame_at(q->head);

	return fr && fr->held_ns <= ns;
}

/* What waits for a number that does not come: the primary's, or the guest's. */
static __always_inline void timeout(const struct colo_rewrite *f)
{
	struct colo_config *c = config_get();
	__u64 since;

	if (!c)
		return;
	since = bpf_ktime_get_ns() - c->compare_timeout_ms * 1000000ULL;
	if (waits_since(&f->s_wait, since) || waits_since(&f->c_wait, since))
		request(COLO_REASON_TIMEOUT, &f->key, f->s_isn);
}

SEC("tc")
int control(struct __sk_buff *ctx)
{
	struct colo_session *ses = session_get();
	struct colo_config *c = config_get();
	struct scratch *s = scratch_get();
	struct colo_control *op;
	struct colo_rewrite *f;
	__u32 ret = 0;
	int closed;

	if (!c || !ses || !s)
		return 0;
	op = control_next(ctx, s);
	if (!op)
		return 0;
	if (op->op == COLO_CONTROL_REQUEST)
		return control_done(ctx, request(op->reason, &op->key, 0));
	if (op->op == COLO_CONTROL_MARK)
		return control_done(ctx, gate_mark(ctx, ses, s, c->guest_ifindex, 1));
	if (op->op == COLO_CONTROL_REPLAY)
		return control_done(ctx, replay(ctx, c->guest_ifindex));
	if (op->op == COLO_CONTROL_FORGET)
		return control_done(ctx, replay(ctx, 0));
	if (op->op == COLO_CONTROL_TRANSLATE)
		return control_done(ctx, takeover_move(op->all_fit));
	if (op->op == COLO_CONTROL_EXPIRE)
		return control_done(ctx, translation_expire(s));
	f = rewrite_find(&op->key);
	if (!f)
		return control_done(ctx, 0);
	switch (op->op) {
	case COLO_CONTROL_COMMIT:
		rewrite_reset(f, op->epoch);
		break;
	case COLO_CONTROL_FAILOVER:
		ret = control_failover(ctx, f, c->port_ifindex, ses->epoch);
		break;
	case COLO_CONTROL_DISCARD:
		rewrite_forget(f);
		break;
	case COLO_CONTROL_TIMEOUT:
		timeout(f);
		if (f->epoch == ses->epoch && ses->mode == COLO_MODE_SECONDARY)
			redeliver_overdue(ctx, s, f, c->guest_ifindex);
		break;
	case COLO_CONTROL_RECLAIM:
		if (!reclaim_due(f))
			break;
		closed = rewrite_closed(f);
		rewrite_forget(f);
		/* who waits for its lock finds no key in it */
		__builtin_memset(&f->key, 0, sizeof(f->key));
		if (bpf_map_delete_elem(&flows, &op->key)) {
			f->key = op->key;
			break;
		}
		COUNT(flows_closed);
		word_unlock_stale(&f->lock);
		if (closed && ses->mode == COLO_MODE_SECONDARY && ses->translations)
			translation_forget(&op->key);
		return control_done(ctx, 1);
	default:
		break;
	}
	word_unlock(&f->lock);
	return control_done(ctx, ret);
}
