// SPDX-License-Identifier: GPL-2.0-only
/*
 * The primary's data path.
 *
 *   port_in    a client's frame: a copy to the secondary, then to the guest
 *   guest_out  a frame P of the guest: leaves at once if S has vouched for it,
 *              else it is held
 *   link_in    a frame S of the secondary's guest: compared; what it vouches
 *              for leaves
 *   control    run by the daemon: commit, failover, time-outs, reclaim
 *
 * Outside COLO guest and port are one plain wire. The clients' numbers are the
 * guest's inside of the port: translate.h.
 */
#include "control.h"
#include "stream.h"
#include "datagram.h"
#include "gate.h"
#include "inplace.h"
#include "mirror.h"
#include "passthrough.h"
#include "router.h"
#include "span.h"
#include "translate.h"

char _license[] SEC("license") = "GPL";

/* What could not be held is dropped: the guest sends it again, or it is lost. */
static __always_inline int unheld(const struct colo_flow_key *key, __u32 reason, __u32 seq)
{
	COUNT(p_unheld);
	request(reason, key, seq);
	return CTX_DROP;
}

/*
 * What XDP has released is still on its way: what may leave goes to p_ready, and
 * the daemon is told. A function of its own, as is the next, for the stack's sake.
 */
__noinline int flight_ask(struct colo_flow *f)
{
	if (!f || !flight_of(f, bpf_ktime_get_ns()))
		return 0;
	release_pending(f);
	return 1;
}

static __always_inline void release_init(struct release *r, struct __sk_buff *ctx,
					 struct colo_flow *f, __u32 ifindex, __u32 l4_off,
					 __u64 now)
{
	ctx_forget_queue(ctx);
	r->ctx = ctx;
	r->flow = f;
	r->self = COLO_NONE;
	r->end = END_MATCHED;
	r->ifindex = ifindex;
	r->l4_off = l4_off;
	r->partial = -1;
	r->ended = 0;
	r->spent = 0;
	release_set_later(f, f->p_ready.count || lease_is_out(now),
			  flight_has_been(f) && flight_ask(f));
}

/*
 * The flow of scratch.pkt, locked and brought to the open epoch. NULL: there
 * is none to be had. An element that was recycled between look-up and lock is
 * recognised by its key.
 */
static __always_inline struct colo_flow *flow_get_locked(struct scratch *s, __u64 epoch)
{
	struct colo_flow *f;
	int i;

#pragma unroll
	for (i = 0; i < LOOKUP_TRIES; i++) {
		f = flow_get(s, epoch);
		if (!f)
			return NULL;
		if (!word_lock(&f->lock))
			return NULL;
		if (key_equal(&f->key, &s->pkt.key))
			return f;
		word_unlock_stale(&f->lock);
	}
	return NULL;
}

/* Whether frames of P are held that a commit, at the latest, lets go. */
static __always_inline __u32 flow_holds(const struct colo_flow *f)
{
	return f->p_held.count + f->p_ackwait.count + f->p_commit.count;
}

static __always_inline void flow_commit(struct colo_flow *f, __u64 epoch)
{
	drop_waiting(&f->s_wait, END_COMMITTED);
	stream_commit(f);
	f->flags &= ~(COLO_F_MISMATCH | COLO_F_WATCH | COLO_F_PENDING);
	f->epoch = epoch;
}

/*
 * A commit reaches a flow when its first packet of the new epoch comes, unless
 * it holds something: such flows the daemon visits first. 0: not yet visited.
 */
static __always_inline int flow_is_current(struct colo_flow *f, __u64 epoch)
{
	if (f->epoch >= epoch)
		return 1;
	if (flow_holds(f) || f->s_next_epoch.count)
		return 0;
	flow_commit(f, epoch);
	return 1;
}

/*
 * Hold P's packet in a queue of its flow. Returns its record or COLO_NONE,
 * then it is counted and asked for.
 */
static __always_inline __u32 hold(struct __sk_buff *ctx, struct colo_flow *f, __u32 seq)
{
	struct colo_config *c = config_get();
	__u32 idx;

	if (!c || flow_holds(f) + f->p_ready.count >= c->queue_max) {
		unheld(&f->key, COLO_REASON_QUEUE_FULL, seq);
		return COLO_NONE;
	}
	idx = frame_take(ctx, COLO_FRAME_P, f->epoch, f->seen_ns);
	if (idx == COLO_NONE)
		unheld(&f->key, COLO_REASON_POOL_FULL, seq);
	return idx;
}

/* A P frame that only a commit can let go. */
static __always_inline int p_to_commit(struct __sk_buff *ctx, struct colo_flow *f, __u32 reason)
{
	__u32 idx = hold(ctx, f, 0);

	if (idx == COLO_NONE)
		return CTX_DROP;
	queue_append(&f->p_commit, idx);
	COUNT(p_held);
	request(reason, &f->key, 0);
	return CTX_DROP;
}

/*
 * The secondary learns P's ISN from a copy of P's own SYN. It goes while the
 * flow is locked and in its new life, so S's answer to it finds that life.
 */
static __always_inline void tell_isn(struct __sk_buff *ctx, __u64 epoch)
{
	struct colo_config *c = config_get();

	if (c && !link_send_copy(ctx, COLO_LINK_CONTROL, epoch, c->link_ifindex))
		COUNT(control_sent);
}

/*
 * The units of scratch.pkt, which is held now, are behind all that S has shown, and
 * nothing before them may leave that has not: there is nothing to do but to wait.
 */
static __always_inline int p_waits(const struct colo_flow *f, const struct packet *p)
{
	struct colo_frame *head = frame_at(f->p_held.head);

	return head && head->vouched == head->released && stream_is_usual(f) &&
	       !f->s_wait.count && !(p->flags & (COLO_FR_SYN | COLO_FR_RST)) &&
	       seq_leq(f->vouch_end, p->seq);
}

static __always_inline int p_stream(struct __sk_buff *ctx, struct release *r, struct packet *p)
{
	struct colo_flow *f = r->flow;
	struct scratch *s = scratch_get();
	int covered, fresh, ret;
	__u32 idx;

	if (!s)
		return CTX_DROP;
	stream_note_p(f, p);
	if (p->flags & COLO_FR_SYN)
		tell_isn(ctx, f->epoch);
	covered = ack_covered(f, p->flags, p->ack);
	if (p->flags & COLO_FR_RST)
		fresh = !stream_rst_again(f, p);
	else
		fresh = p->seq != p->end && !vouched_for(f, p->seq, p->end);
	if (!fresh && covered && !(f->flags & COLO_F_LATER)) {
		COUNT(p_covered);
		ret = ctx_send_copy(ctx, r->ifindex);
		if (ret)
			COUNT(port_failed);
		return CTX_DROP;
	}
	idx = hold(ctx, f, p->seq);
	if (idx == COLO_NONE)
		return CTX_DROP;
	if (!fresh) {
		if (covered)
			release_ready_mark(r, idx);
		queue_append(covered ? &f->p_ready : &f->p_ackwait, idx);
		COUNT(p_held);
		return CTX_DROP;
	}
	stream_insert(&f->p_held, idx, p->seq, p->flags);
	if (p_waits(f, p)) {
		COUNT(p_held);
		return CTX_DROP;
	}
	if (p->flags & COLO_FR_SYN && syn_options(idx) & SYN_UNTRANSLATABLE)
		request(COLO_REASON_UNTRANSLATABLE, &f->key, p->seq);
	s->carrier = COLO_NONE;
	stream_match(f);
	r->self = idx;
	release_stream(r);
	if (r->self != COLO_NONE)
		COUNT(p_held);
	return CTX_DROP;
}

static __always_inline int p_datagram(struct __sk_buff *ctx, struct release *r,
				      struct packet *p)
{
	__u32 idx;

	if (p->gso_size) /* several datagrams in one: cannot be cut here */
		return unheld(&r->flow->key, COLO_REASON_UNTRANSLATABLE, 0);
	idx = hold(ctx, r->flow, 0);
	if (idx == COLO_NONE)
		return CTX_DROP;
	r->self = idx;
	datagram_from_p(r, idx);
	if (r->self != COLO_NONE)
		COUNT(p_held);
	return CTX_DROP;
}

/* What span_find() has found was sent by P, in the flow that it is of. */
__noinline int span_note(__u64 epoch)
{
	struct scratch *s = scratch_get();
	struct colo_flow *f;

	if (!s)
		return 0;
	s->pkt.key = s->span.key;
	f = flow_get_locked(s, epoch);
	if (!f)
		return 0;
	if (flow_is_current(f, epoch))
		stream_sent(f, s->span.seq, s->span.end);
	word_unlock(&f->lock);
	return 0;
}

static __always_inline int p_frame(struct __sk_buff *ctx, struct scratch *s,
				   struct colo_session *ses, __u32 port, int parsed)
{
	struct packet *p = &s->pkt;
	int cut = parsed == PARSE_OK && p->key.fragment && p->class == COLO_CLASS_TCP;
	struct release r;
	struct colo_flow *f;
	int ret;

	f = flow_get_locked(s, ses->epoch);
	if (!f)
		return unheld(&p->key, COLO_REASON_FLOW_FULL, p->seq);
	f->seen_ns = bpf_ktime_get_ns();
	release_init(&r, ctx, f, port, p->l4_off, f->seen_ns);
	if (!flow_is_current(f, ses->epoch))
		ret = unheld(&p->key, COLO_REASON_QUEUE_FULL, p->seq);
	else if (parsed == PARSE_MALFORMED)
		ret = p_to_commit(ctx, f, COLO_REASON_MALFORMED);
	else if (cut)
		ret = p_to_commit(ctx, f, COLO_REASON_UNTRANSLATABLE);
	else if (p->flags & COLO_FR_TCP)
		ret = p_stream(ctx, &r, p);
	else
		ret = p_datagram(ctx, &r, p);
	if (cut)
		cut = span_find(f, p->ack);
	word_unlock(&f->lock);
	if (cut > 0)
		span_note(ses->epoch);
	return ret;
}

static __always_inline enum colo_action action_of(__u32 class)
{
	enum colo_action *a = bpf_map_lookup_elem(&policy, &class);

	return a ? *a : COLO_ACTION_COMPARE;
}

/* The secondary goes on translating what is not compared: it needs P's ISN. */
static __always_inline int pass_uncompared(struct __sk_buff *ctx, const struct packet *p,
					   const struct colo_session *ses,
					   const struct colo_config *c)
{
	if (p->flags & COLO_FR_TCP && p->flags & COLO_FR_SYN)
		tell_isn(ctx, ses->epoch);
	return ctx_send(c->port_ifindex);
}

/* What passes uncompared is not held for the lease, but dropped. */
static __always_inline int leased(const struct colo_session *ses)
{
	if (!ses->lease_ns || !lease_is_out(bpf_ktime_get_ns()))
		return 1;
	COUNT(p_unleased);
	return 0;
}

SEC("tc")
int guest_out(struct __sk_buff *ctx)
{
	struct colo_session *ses = session_get();
	struct colo_config *c = config_get();
	struct scratch *s = scratch_get();
	int parsed;

	if (!ses || !c || !s)
		return CTX_DROP;
	if (ses->mode == COLO_MODE_WIRE || ses->mode == COLO_MODE_ACTIVE) {
		COUNT(wire_out);
		return ctx_send(c->port_ifindex);
	}
	if (ses->mode != COLO_MODE_PRIMARY) {
		COUNT(shut_out);
		return CTX_DROP;
	}
	COUNT(p_frames);
	parsed = packet_parse(ctx, FROM_GUEST);
	if (parsed < 0) {
		COUNT(parse_failed);
		return unheld(&s->pkt.key, COLO_REASON_MALFORMED, 0);
	}
	/* what does not parse is of no class: no policy lets it go */
	if (parsed == PARSE_MALFORMED) {
		COUNT(parse_failed);
		return p_frame(ctx, s, ses, c->port_ifindex, parsed);
	}
	router_note(ses, &s->pkt);
	if (c->passthrough && passthrough_match(1)) {
		if (!leased(ses))
			return CTX_DROP;
		COUNT(p_passthrough);
		return pass_uncompared(ctx, &s->pkt, ses, c);
	}
	switch (action_of(s->pkt.class)) {
	case COLO_ACTION_PASS:
		if (!leased(ses))
			return CTX_DROP;
		COUNT(p_policy_pass);
		return pass_uncompared(ctx, &s->pkt, ses, c);
	case COLO_ACTION_DROP:
		COUNT(p_policy_drop);
		return CTX_DROP;
	default:
		break;
	}
	return p_frame(ctx, s, ses, c->port_ifindex, parsed);
}

SEC("tc")
int port_in(struct __sk_buff *ctx)
{
	struct colo_session *ses = session_get();
	struct colo_config *c = config_get();
	struct scratch *s = scratch_get();
	__u32 bytes;
	int parsed;
	__u64 epoch;

	if (!ses || !c || !s)
		return CTX_DROP;
	if (ses->mode == COLO_MODE_WIRE || ses->mode == COLO_MODE_ACTIVE) {
		COUNT(wire_in);
		return wire_arrival(ctx, ses, c->guest_ifindex);
	}
	if (ses->mode != COLO_MODE_PRIMARY) {
		COUNT(shut_in);
		return CTX_DROP;
	}
	COUNT(in_frames);
	parsed = packet_parse(ctx, FROM_CLIENT);
	if (parsed != PARSE_OK)
		COUNT(in_parse_failed);
	bytes = link_tcp_bytes(&s->pkt, parsed);
	if (ses->translations && translate_arrival(ctx, parsed) < 0)
		return CTX_DROP;
	if (!gate_enter(ses))
		return CTX_DROP;
	/* read once: tag and count must be of the same epoch */
	epoch = *(volatile __u64 *)&ses->input_epoch;
	link_count(&link_sent, epoch, bytes);
	/* first the link: the control frame of an answer must not overtake it */
	if (link_send_copy(ctx, COLO_LINK_INPUT, epoch, c->link_ifindex))
		COUNT(in_mirror_failed);
	else
		COUNT(in_mirrored);
	/* a copy: the packet itself would be sent behind the gate */
	ctx_send_copy(ctx, c->guest_ifindex);
	gate_leave();
	return CTX_DROP;
}

/* S's packet is kept until P's comes. */
static __always_inline __u32 s_keep(struct __sk_buff *ctx, struct colo_flow *f, __u64 epoch,
				    __u32 seq)
{
	struct colo_config *c = config_get();
	__u32 reason = COLO_REASON_POOL_FULL, idx = COLO_NONE;

	if (!c || f->s_wait.count + f->s_next_epoch.count >= c->queue_max)
		reason = COLO_REASON_QUEUE_FULL;
	else
		idx = frame_take(ctx, COLO_FRAME_S, epoch, f->seen_ns);
	if (idx == COLO_NONE) {
		COUNT(s_unheld);
		request(reason, &f->key, seq);
	}
	return idx;
}

/* Returns whether the packet was used. */
static __always_inline int s_in_place(struct __sk_buff *ctx, struct release *r,
				      struct scratch *s)
{
	struct colo_flow *f = r->flow;
	__u32 idx = f->p_held.head, seq, end;
	struct colo_frame *fr = frame_at(idx);
	const struct packet *p = &s->pkt;
	int ret;

	if (!fr || !stream_is_usual(f) || f->flags & COLO_F_LATER || !is_partner(f, fr, p) ||
	    !ack_covered(f, fr->flags, fr->ack) ||
	    payload_differs(ctx, p->data_off, fr->data_off, p->data_len))
		return 0;
	s->carrier = idx; /* its payload is S's */
	ret = carrier_send(ctx, idx, r->ifindex);
	if (ret < 0)
		return 0;
	if (ret)
		COUNT(port_failed);
	seq = fr->seq;
	end = fr->end;
	r->spent = 1;
	vouch(f, seq, seq, end);
	stream_left(f, seq, end);
	release_end(r, &f->p_held, idx);
	COUNT(s_matched);
	COUNT(p_released_whole);
	return 1;
}

static __always_inline void s_stream(struct __sk_buff *ctx, struct release *r,
				     struct scratch *s)
{
	struct colo_flow *f = r->flow;
	struct packet *p = &s->pkt;
	__u32 idx;

	f->flags |= COLO_F_TCP;
	if (p->flags & COLO_FR_SYN)
		stream_s_syn(f, p->seq);
	if (stream_s_old(f, p->flags)) {
		COUNT(s_old_life);
		return;
	}
	if (stream_old_rst(r, p))
		return;
	if (!(f->flags & COLO_F_S_OLD))
		stream_note_s(f, p->flags, p->ack);
	if (!(p->flags & COLO_FR_RST) &&
	    (p->seq == p->end || (!s_is_ahead(f) && vouched_for(f, p->seq, p->end)))) {
		COUNT(s_inside);
		release_stream(r);
		return;
	}
	if (s_in_place(ctx, r, s)) {
		if (f->p_ackwait.count)
			release_stream(r);
		return;
	}
	idx = s_keep(ctx, f, f->epoch, p->seq);
	if (idx == COLO_NONE)
		return;
	stream_insert(&f->s_wait, idx, p->seq, p->flags);
	s->carrier = idx;
	s->carrier_done = 0;
	s->compared_to = p->seq;
	stream_match(f);
	if (s->compared_to == p->end)
		stream_carry(r, s);
	if (s->carrier_done)
		frame_give(idx);
	release_stream(r);
	if (f->s_wait.count)
		COUNT(s_waited);
}

static __always_inline void s_datagram(struct __sk_buff *ctx, struct release *r)
{
	__u32 idx = s_keep(ctx, r->flow, r->flow->epoch, 0);

	if (idx != COLO_NONE && datagram_from_s(r, idx))
		COUNT(s_waited);
}

/* S's frames that came before the commit are S's frames of this epoch now. */
static long early_step(__u32 step __unused, void *arg)
{
	struct release *r = arg;
	struct colo_flow *f = r->flow;
	__u32 idx = f->s_next_epoch.head;
	struct colo_frame *fr = frame_at(idx);

	if (!fr)
		return 1;
	queue_remove(&f->s_next_epoch, idx);
	if (fr->epoch != f->epoch) {
		COUNT(s_old_epoch);
		frame_give(idx);
	} else if (fr->flags & COLO_FR_TCP) {
		if (fr->flags & COLO_FR_SYN)
			stream_s_syn(f, fr->seq);
		stream_note_s(f, fr->flags, fr->ack);
		if (!(fr->flags & COLO_FR_RST) &&
		    (fr->seq == fr->end ||
		     (!s_is_ahead(f) && vouched_for(f, fr->seq, fr->end)))) {
			COUNT(s_inside);
			frame_give(idx);
		} else {
			stream_insert(&f->s_wait, idx, fr->seq, fr->flags);
		}
	} else {
		queue_append(&f->s_wait, idx);
	}
	return 0;
}

/*
 * S's frame of an epoch that is not yet open here, or not for this flow. The
 * daemon opens the epoch and then looks which flows hold frames: should it have
 * looked before this one was there, the flow holds no other, and is brought to
 * the epoch here. The exchange is the barrier between the two looks.
 */
static __always_inline void s_early(struct __sk_buff *ctx, struct release *r,
				    struct colo_session *ses, __u64 epoch)
{
	struct colo_flow *f = r->flow;
	__u32 idx = s_keep(ctx, f, epoch, 0);

	if (idx == COLO_NONE)
		return;
	queue_append(&f->s_next_epoch, idx);
	COUNT(s_next_epoch);
	__sync_lock_test_and_set(&f->lock, lock_me());
	if (ses->epoch < epoch || flow_holds(f))
		return;
	flow_commit(f, epoch);
	bpf_loop(WALK_MAX, early_step, r, 0);
}

static __always_inline void s_frame(struct __sk_buff *ctx, struct scratch *s,
				    struct colo_session *ses, __u32 port, __u64 epoch)
{
	struct packet *p = &s->pkt;
	struct release r;
	struct colo_flow *f;
	__u64 open;

	f = flow_get_locked(s, ses->epoch);
	if (!f) {
		COUNT(s_unheld);
		request(COLO_REASON_FLOW_FULL, &p->key, p->seq);
		return;
	}
	f->seen_ns = bpf_ktime_get_ns();
	release_init(&r, ctx, f, port, p->l4_off, f->seen_ns);
	open = ses->epoch;
	if (epoch < f->epoch)
		COUNT(s_old_epoch); /* a commit came in between */
	else if (!flow_is_current(f, open) || epoch > f->epoch)
		s_early(ctx, &r, ses, epoch);
	else if (epoch < f->epoch)
		COUNT(s_old_epoch);
	else if (p->flags & COLO_FR_TCP)
		s_stream(ctx, &r, s);
	else
		s_datagram(ctx, &r);
	word_unlock(&f->lock);
}

static __always_inline int s_received(struct __sk_buff *ctx, struct colo_session *ses,
				      __u32 port, __u64 epoch, int ahead)
{
	struct scratch *s = scratch_get();
	struct colo_config *c = config_get();
	int parsed;

	COUNT(s_frames);
	if (ahead < 0) {
		COUNT(s_old_epoch);
		return CTX_DROP;
	}
	if (!s || !c || ahead > 1 || bpf_skb_vlan_pop(ctx)) {
		COUNT(s_unheld);
		return CTX_DROP;
	}
	parsed = packet_parse(ctx, FROM_GUEST);
	link_count(&link_received, epoch + ahead, link_tcp_bytes(&s->pkt, parsed));
	if (parsed != PARSE_OK) {
		COUNT(s_unheld);
		request(COLO_REASON_MALFORMED, &s->pkt.key, 0);
		return CTX_DROP;
	}
	if (c->passthrough && passthrough_match(0)) {
		COUNT(s_passthrough);
		return CTX_DROP;
	}
	if (action_of(s->pkt.class) != COLO_ACTION_COMPARE) {
		COUNT(s_policy_drop);
		return CTX_DROP;
	}
	if (s->pkt.key.fragment && s->pkt.class == COLO_CLASS_TCP) {
		COUNT(s_unheld);
		request(COLO_REASON_UNTRANSLATABLE, &s->pkt.key, 0);
		return CTX_DROP;
	}
	s_frame(ctx, s, ses, port, epoch + ahead);
	return CTX_DROP;
}

SEC("tc")
int link_in(struct __sk_buff *ctx)
{
	struct colo_session *ses = session_get();
	struct colo_config *c = config_get();
	struct scratch *s = scratch_get();
	int ahead = 0;
	__u64 epoch;

	if (!ses || !c || !s)
		return CTX_DROP;
	/* read once: what the tag means must not change on the way */
	epoch = *(volatile __u64 *)&ses->epoch;
	switch (link_receive(ctx, epoch, &ahead)) {
	case COLO_LINK_NONE:
		return CTX_STACK;
	case COLO_LINK_OUTPUT:
		if (ses->mode != COLO_MODE_PRIMARY)
			break;
		return s_received(ctx, ses, c->port_ifindex, epoch, ahead);
	case COLO_LINK_CONTROL:
		if (ses->mode != COLO_MODE_PRIMARY || bpf_skb_vlan_pop(ctx) ||
		    packet_parse(ctx, FROM_GUEST) < 0 || !link_counts_receive(ctx, s))
			break;
		COUNT(control_received);
		return CTX_DROP;
	default:
		break;
	}
	COUNT(link_foreign);
	return CTX_DROP;
}

/* --- run by the daemon --------------------------------------------------- */

/*
 * What has waited for the lease leaves first, in a run of its own, if that is
 * there again. Who is alone needs none, and what is dropped none either.
 */
static __always_inline int control_ready(struct release *r, enum colo_control_op op)
{
	struct colo_flow *f = r->flow;

	if (!f->p_ready.count || op > COLO_CONTROL_DISCARD)
		return 0;
	if (op < COLO_CONTROL_FAILOVER && lease_is_out(bpf_ktime_get_ns()))
		return 0;
	r->end = op == COLO_CONTROL_DISCARD ? END_DISCARDED : END_MATCHED;
	bpf_loop(RELEASE_MAX, release_ready_step, r, 0);
	return 1;
}

static __always_inline __u32 control_commit(struct release *r, __u64 epoch)
{
	struct colo_flow *f = r->flow;

	if (f->epoch >= epoch)
		return 0;
	r->end = END_COMMITTED;
	bpf_loop(RELEASE_MAX, release_all_step, r, 0);
	if (flow_holds(f)) /* or it came later than is asked for */
		return r->ended | (r->ended >= RELEASE_MAX ? COLO_CONTROL_AGAIN : 0);
	flow_commit(f, epoch);
	if (f->s_next_epoch.count)
		bpf_loop(WALK_MAX, early_step, r, 0);
	return r->ended;
}

static __always_inline __u32 control_end(struct release *r, __u32 end)
{
	struct colo_flow *f = r->flow;

	r->end = end;
	release_set_later(f, 0, 0);
	bpf_loop(RELEASE_MAX, release_all_step, r, 0);
	if (flow_holds(f)) /* or it came later than is asked for */
		return r->ended | (r->ended >= RELEASE_MAX ? COLO_CONTROL_AGAIN : 0);
	drop_waiting(&f->s_wait, end);
	drop_waiting(&f->s_next_epoch, end);
	f->flags &= ~(COLO_F_WATCH | COLO_F_PENDING);
	return r->ended;
}

static __always_inline __u32 control_release(struct release *r)
{
	struct colo_flow *f = r->flow;

	if (f->flags & COLO_F_TCP)
		release_stream(r);
	else
		release_datagrams(r);
	if (r->ended >= RELEASE_MAX)
		return r->ended | COLO_CONTROL_AGAIN;
	f->flags &= ~COLO_F_PENDING;
	return r->ended;
}

struct oldest {
	struct colo_flow *flow;
	__u32 at;
	__u64 ns;
};

static long oldest_step(__u32 step __unused, void *arg)
{
	struct oldest *o = arg;
	struct colo_frame *fr = frame_at(o->at);
	int waits;

	if (!fr)
		return 1;
	/*
	 * A matched datagram waits for others; of a stream, for an ack or its tail.
	 * What of S was compared is kept should P repeat it, and waits for nothing;
	 * what lies inside what is vouched for is only not yet dropped.
	 */
	if (fr->flags & COLO_FR_TCP)
		waits = fr->state == COLO_FRAME_P || fr->flags & COLO_FR_RST ||
			(fr->vouched != fr->end &&
			 (s_is_ahead(o->flow) || !vouched_for(o->flow, fr->seq, fr->end)));
	else
		waits = !(fr->flags & COLO_FR_MATCHED);
	if (waits && fr->held_ns < o->ns)
		o->ns = fr->held_ns;
	o->at = fr->next;
	return 0;
}

static __always_inline __u64 queue_oldest(struct colo_flow *f, const struct colo_queue *q)
{
	struct oldest o = {.flow = f, .at = q->head, .ns = ~0ULL};

	if (q->count)
		bpf_loop(WALK_MAX, oldest_step, &o, 0);
	return o.ns;
}

static __always_inline __u64 earlier(__u64 a, __u64 b)
{
	return a < b ? a : b;
}

/* A function of its own, as is the next: what they need is not on control()'s stack. */
__noinline int control_timeout(struct colo_flow *f)
{
	struct colo_config *c = config_get();
	__u64 now = bpf_ktime_get_ns(), p, s, all;

	if (!c || !f)
		return 0;
	p = queue_oldest(f, &f->p_held);
	s = queue_oldest(f, &f->s_wait);
	if (f->flags & COLO_F_WATCH && p != ~0ULL && s != ~0ULL &&
	    (p > s ? p : s) + c->reorder_ms * 1000000ULL <= now) {
		datagram_mismatch(f);
		return 0;
	}
	if (f->flags & COLO_F_WATCH) {
		/* others stand there now: watched anew */
		f->flags &= ~COLO_F_WATCH;
		datagram_check(f);
	}
	all = earlier(earlier(p, s),
		      earlier(queue_oldest(f, &f->p_ackwait), queue_oldest(f, &f->p_commit)));
	if (all != ~0ULL && all + c->compare_timeout_ms * 1000000ULL <= now)
		request(COLO_REASON_TIMEOUT, &f->key, f->vouch_end);
	return 0;
}

/* Returns 1 if the flow was deleted. Who waits for its lock finds no key in it. */
__noinline int control_reclaim(struct colo_flow *f)
{
	struct colo_config *c = config_get();
	struct scratch *s = scratch_get();
	__u64 now = bpf_ktime_get_ns(), limit;

	if (!c || !s || !f || flow_holds(f) || f->p_ready.count || f->s_wait.count ||
	    f->s_next_epoch.count)
		return 0;
	limit = c->flow_idle_ms;
	if (f->flags & (COLO_F_RST | COLO_F_P_FIN))
		limit = c->flow_grace_ms;
	if (f->seen_ns + limit * 1000000ULL > now)
		return 0;
	/* by the key in the scratch: 6.1 takes none from a function's argument */
	__builtin_memset(&f->key, 0, sizeof(f->key));
	if (bpf_map_delete_elem(&flows, &s->control.key)) {
		f->key = s->control.key;
		return 0;
	}
	COUNT(flows_closed);
	return 1;
}

#define FLIGHT_WAIT 4096

/*
 * XDP's frames leave when another CPU's poll ends, which a lock that is taken
 * here all the time would hold up.
 */
static long flight_wait(__u32 step __unused, void *arg __unused)
{
	struct scratch *s = scratch_get();
	struct colo_flow *f = s ? bpf_map_lookup_elem(&flows, &s->control.key) : NULL;

	return !f || !flight_of(f, bpf_ktime_get_ns());
}

__noinline int flight_await(void)
{
	return bpf_loop(FLIGHT_WAIT, flight_wait, NULL, 0);
}

/* Whether that has to be waited for. */
__noinline int control_flight(struct colo_flow *f, __u32 op)
{
	return f && op <= COLO_CONTROL_TIMEOUT && flight_of(f, bpf_ktime_get_ns());
}

SEC("tc")
int control(struct __sk_buff *ctx)
{
	struct colo_session *ses = session_get();
	struct colo_config *c = config_get();
	struct scratch *s = scratch_get();
	struct colo_control *op;
	struct release r;
	struct colo_flow *f;
	__u32 ret = 0;

	if (!ses || !c || !s)
		return 0;
	op = control_next(ctx, s);
	if (!op)
		return 0;
	if (op->op == COLO_CONTROL_REQUEST)
		return control_done(ctx, request(op->reason, &op->key, 0));
	if (op->op == COLO_CONTROL_EXPIRE)
		return control_done(ctx, translation_expire(s));
	if (op->op == COLO_CONTROL_MARK)
		return control_done(ctx, gate_mark(ctx, ses, s, c->guest_ifindex, 0));
	f = bpf_map_lookup_elem(&flows, &op->key);
	if (!f)
		return control_done(ctx, 0);
	if (!word_lock(&f->lock))
		return control_done(ctx, COLO_CONTROL_AGAIN);
	if (!key_equal(&f->key, &op->key)) {
		word_unlock_stale(&f->lock);
		return control_done(ctx, 0);
	}
	if (control_flight(f, op->op)) {
		word_unlock(&f->lock);
		flight_await();
		return control_done(ctx, COLO_CONTROL_AGAIN);
	}
	release_init(&r, ctx, f, c->port_ifindex, 0, bpf_ktime_get_ns());
	r.partial = 0; /* a packet made by BPF_PROG_RUN is complete */
	if (control_ready(&r, op->op)) {
		word_unlock(&f->lock);
		return r.ended | COLO_CONTROL_AGAIN;
	}
	switch (op->op) {
	case COLO_CONTROL_TIMEOUT:
		control_timeout(f);
		if (!(f->flags & COLO_F_PENDING))
			break;
		__attribute__((fallthrough));
	case COLO_CONTROL_RELEASE:
		ret = control_release(&r);
		break;
	case COLO_CONTROL_COMMIT:
		ret = control_commit(&r, op->epoch);
		break;
	case COLO_CONTROL_FAILOVER:
		ret = control_end(&r, END_FAILED_OVER);
		break;
	case COLO_CONTROL_DISCARD:
		ret = control_end(&r, END_DISCARDED);
		break;
	case COLO_CONTROL_RECLAIM:
		if (control_reclaim(f)) {
			word_unlock_stale(&f->lock);
			return control_done(ctx, 1);
		}
		break;
	default:
		break;
	}
	word_unlock(&f->lock);
	return control_done(ctx, ret);
}
