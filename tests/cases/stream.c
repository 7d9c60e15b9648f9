// SPDX-License-Identifier: GPL-2.0-only
/* The model of TCP: rules 3, 5, 6, 7 and 13, unit by unit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <colo/abi.h>

#include "model.h"

#define NUMBERS_MAX (1 << 30) /* further apart numbers have no serial order */
#define JUMP_MAX    (1 << 29)

static bool in_span(const struct model_flow *flow, uint32_t from, uint32_t to)
{
	return flow->has_span && seq_diff(flow->from, from) <= 0 && seq_diff(to, flow->to) <= 0;
}

static bool ack_known(const struct model_flow *flow, const struct packet *p)
{
	return !(p->flags & TCP_ACK) || (flow->has_s_ack && seq_diff(p->ack, flow->s_ack) <= 0);
}

/*
 * By sequence number, behind those that are equal; an RST, whose number may be
 * an old one, behind all that came before it.
 */
static void insert(struct items *items, struct item *item)
{
	unsigned int at = items->count;

	items_add(items, item);
	if (item->packet->flags & TCP_RST && at &&
	    seq_diff(item->packet->seq, items->list[at - 1]->packet->next) < 0)
		return;
	while (at && seq_diff(item->packet->seq, items->list[at - 1]->packet->seq) < 0) {
		items->list[at] = items->list[at - 1];
		at--;
	}
	items->list[at] = item;
}

static bool overlap(const struct packet *a, const struct packet *b, uint32_t *from,
		    uint32_t *to)
{
	*from = seq_diff(a->seq, b->seq) < 0 ? b->seq : a->seq;
	*to = seq_diff(a->next, b->next) < 0 ? a->next : b->next;
	return seq_diff(*from, *to) < 0;
}

/* Behind the urgent byte, where there is one at or behind `at`, else `at`. */
static uint32_t urgent(const struct packet *p, uint32_t at)
{
	uint32_t end = p->seq + (p->bytes[p->l4 + 18] << 8 | p->bytes[p->l4 + 19]);

	return p->flags & TCP_URG && seq_diff(at, end) < 0 ? end : at;
}

static bool urgent_differs(const struct packet *a, const struct packet *b, uint32_t at)
{
	return urgent(a, at) != urgent(b, at) ||
	       (a->seq == b->seq && (a->flags ^ b->flags) & TCP_URG);
}

static bool contradicts(const struct packet *a, const struct packet *b)
{
	uint32_t from, to;

	if (!overlap(a, b, &from, &to))
		return false;
	if (urgent_differs(a, b, from))
		return true;
	for (; from != to; from++) {
		if (packet_unit(a, from) != packet_unit(b, from))
			return true;
	}
	return false;
}

/*
 * A side that shows two values at one place, or goes on behind its own RST,
 * while the first is not settled: which is compared is a matter of timing.
 */
static void check_own(struct model *model, struct model_flow *flow, const struct items *items,
		      const struct packet *p)
{
	/* After a mismatch nothing is compared. */
	for (unsigned int i = 0; i < items->count && !flow->mismatch; i++) {
		const struct packet *q = items->list[i]->packet;

		if (contradicts(p, q))
			model_unjudged(model, flow, "one side contradicts itself");
		if ((p->flags & TCP_RST && seq_diff(p->seq, q->next) < 0) ||
		    (q->flags & TCP_RST &&
		     (p->flags & TCP_RST ? p->seq != q->seq : seq_diff(q->seq, p->next) < 0)))
			model_unjudged(model, flow,
				       "units at or behind an RST of the same side");
	}
}

/* Nothing of P was seen: what S has shown is of the life to come. */
static bool is_fresh(const struct model_flow *flow)
{
	return !flow->has_isn && !flow->has_span && !flow->has_sent && !flow->has_p_ack;
}

static void new_life(struct model_flow *flow, uint32_t isn)
{
	bool fresh = is_fresh(flow);
	while (flow->acks.count || flow->held.count) {
		struct items *from = &flow->acks;

		if (!flow->acks.count ||
		    (flow->held.count &&
		     flow->held.list[0]->number < flow->acks.list[0]->number))
			from = &flow->held;
		items_add(&flow->old, from->list[0]);
		items_remove(from, 0);
	}
	flow->s_unseen = false;
	for (unsigned int i = 0; i < flow->old.count; i++)
		flow->old.list[i]->held =
			"rule 5: of a life that a new SYN has ended, held to the commit";
	if (flow->has_s_isn && flow->s_isn == isn) {
		flow->s_old = false;
		flow->s_ack = flow->s_next_ack;
		flow->has_s_ack = flow->has_next_ack;
	} else if (flow->has_s_isn || !fresh) {
		flow->waiting.count = 0;
		flow->has_s_ack = false;
		flow->s_old = true;
	} else {
		/* It may have had a life that is forgotten. */
		flow->has_s_ack = false;
		flow->s_unseen = true;
	}
	flow->has_s_isn = false;
	flow->has_isn = true;
	flow->isn = isn;
	flow->has_span = flow->has_sent = flow->has_p_ack = flow->has_left = false;
	flow->mismatch = flow->closed = flow->both_rst = false;
}

/* Serial numbers that far apart are before and behind each other. */
static void check_jump(struct model *model, struct model_flow *flow, uint32_t from, uint32_t to)
{
	int jump = seq_diff(to, from);

	if (jump <= JUMP_MAX && jump >= -JUMP_MAX)
		return;
	flow->lost = true;
	model_unjudged(model, flow, "its numbers are in no order");
}

void stream_sent(struct model_flow *flow, uint32_t from, uint32_t to)
{
	if (!flow->has_sent || seq_diff(from, flow->first) < 0)
		flow->first = from;
	if (!flow->has_sent || seq_diff(flow->next, to) < 0)
		flow->next = to;
	flow->has_sent = true;
	if (flow->next - flow->first > NUMBERS_MAX)
		flow->first = flow->next - NUMBERS_MAX;
}

static void note_sent(struct model *model, struct model_flow *flow, const struct packet *p)
{
	if (flow->has_sent)
		check_jump(model, flow, flow->next, p->seq);
	if (flow->has_p_ack && p->flags & TCP_ACK)
		check_jump(model, flow, flow->p_ack, p->ack);
	if (packet_has_units(p))
		stream_sent(flow, p->seq, p->next);
	if (p->flags & TCP_ACK && (!flow->has_p_ack || seq_diff(flow->p_ack, p->ack) < 0)) {
		flow->p_ack = p->ack;
		flow->has_p_ack = true;
	}
}

/* S's unit at a place of the stream, UNIT_NONE: it has not shown one. */
static int unit_of_s(struct model *model, struct model_flow *flow, uint32_t at,
		     struct item **whose)
{
	int unit = UNIT_NONE;

	for (unsigned int i = 0; i < flow->waiting.count; i++) {
		struct item *s = flow->waiting.list[i];
		int shown;

		if (seq_diff(at, s->packet->seq) < 0)
			break;
		shown = packet_unit(s->packet, at);
		if (shown == UNIT_NONE)
			continue;
		if (unit != UNIT_NONE && unit != shown)
			model_unjudged(model, flow, "one side contradicts itself");
		if (unit == UNIT_NONE) {
			unit = shown;
			*whose = s;
		}
	}
	return unit;
}

static bool s_has_reset(const struct model_flow *flow, uint32_t at)
{
	for (unsigned int i = 0; i < flow->waiting.count; i++) {
		const struct packet *s = flow->waiting.list[i]->packet;

		if (s->flags & TCP_RST && seq_diff(s->seq, at) <= 0)
			return true;
	}
	return false;
}

static void mismatch(struct model *model, struct model_flow *flow, uint32_t at, int reason)
{
	flow->mismatch = true;
	flow->mismatch_at = at;
	model_request(model, reason);
}

/* [from, to) was compared equal, in a frame of P that is equal from its start on. */
static void vouch(struct model_flow *flow, uint32_t start, uint32_t from, uint32_t to)
{
	if (!flow->has_span) {
		flow->has_span = true;
		flow->from = from;
		flow->to = to;
		return;
	}
	if (seq_diff(flow->from, to) <= 0 && seq_diff(from, flow->from) < 0)
		flow->from = start;
	if (seq_diff(from, flow->to) <= 0 && seq_diff(flow->to, to) < 0)
		flow->to = to;
	if (flow->to - flow->from > NUMBERS_MAX)
		flow->from = flow->to - NUMBERS_MAX;
}

/* S has acked as far as this, in the life that P is in. */
static void hear_ack(struct model_flow *flow, uint32_t ack)
{
	if (!flow->has_s_ack || seq_diff(flow->s_ack, ack) < 0)
		flow->s_ack = ack;
	flow->has_s_ack = true;
}

/* Compares P's frame as far as both sides are there. False: it is not through. */
static bool compare_units(struct model *model, struct model_flow *flow, struct item *item)
{
	const struct packet *p = item->packet;
	uint32_t at = item->matched;

	while (at != p->next) {
		struct item *s = NULL;
		int unit;

		if (flow->has_span && seq_diff(flow->to, at) < 0)
			break; /* a hole before it */
		if (flow->has_span && seq_diff(flow->from, at) <= 0 &&
		    seq_diff(at, flow->to) < 0) {
			at = seq_diff(p->next, flow->to) < 0 ? p->next : flow->to;
			item->matched = at;
			continue;
		}
		unit = unit_of_s(model, flow, at, &s);
		if (unit == UNIT_NONE && s_has_reset(flow, at))
			mismatch(model, flow, at, COLO_REASON_FLAGS);
		if (unit == UNIT_NONE)
			break;
		if (model->one_source && urgent_differs(p, s->packet, at))
			model_unjudged(model, flow, "one side contradicts itself");
		/* Which of two differences at a place is found first is open. */
		if (model->request == COLO_REASON_NONE && urgent_differs(p, s->packet, at))
			model->or_request |= 1U << COLO_REASON_FLAGS;
		if (unit != packet_unit(p, at)) {
			mismatch(model, flow, at,
				 unit < 256 && packet_unit(p, at) < 256 ? COLO_REASON_PAYLOAD :
									  COLO_REASON_FLAGS);
			break;
		}
		if (urgent_differs(p, s->packet, at) ||
		    (unit == UNIT_SYN && packet_options_differ(p, s->packet))) {
			mismatch(model, flow, at, COLO_REASON_FLAGS);
			break;
		}
		vouch(flow, p->seq, at, at + 1);
		if (s->matched == at)
			s->matched++;
		/* It is of this life, whether its SYN has come or not. */
		if (s->packet->flags & TCP_ACK)
			hear_ack(flow, s->packet->ack);
		item->matched = ++at;
	}
	return at == p->next;
}

/* This RST of S's is the one that both have sent. */
static bool rst_known(const struct model_flow *flow, const struct packet *s)
{
	return flow->both_rst && s->seq == flow->rst_seq && s->ack == flow->rst_ack;
}

static bool compare_reset(struct model *model, struct model_flow *flow, struct item *item)
{
	const struct packet *p = item->packet;

	for (unsigned int i = 0; i < flow->waiting.count && !item->partner; i++) {
		struct item *s = flow->waiting.list[i];

		if (!(s->packet->flags & TCP_RST))
			continue;
		if (s->packet->seq != p->seq) {
			mismatch(model, flow, p->seq, COLO_REASON_FLAGS);
			return false;
		}
		if (s->packet->data_len != p->data_len ||
		    memcmp(s->packet->bytes + s->packet->data, p->bytes + p->data,
			   p->data_len)) {
			mismatch(model, flow, p->seq, COLO_REASON_PAYLOAD);
			return false;
		}
		item->partner = true;
		if (!p->data_len && !rst_known(flow, s->packet)) {
			flow->both_rst = true;
			flow->rst_seq = s->packet->seq;
			flow->rst_ack = s->packet->ack;
			flow->rst_more = 0;
		}
		items_remove(&flow->waiting, i);
	}
	return item->partner;
}

/* S repeats the RST that both have sent; P is about to show another, or none. */
static bool repeats_rst(const struct model_flow *flow, const struct packet *s)
{
	const struct item *last = flow->held.count ? flow->held.list[flow->held.count - 1] :
						     NULL;

	return s->flags & TCP_RST && !s->data_len && rst_known(flow, s) &&
	       !(last && last->packet->flags & TCP_RST && !last->partner);
}

/* Rule 7: at or beyond P's RST S shows units that P has not sent. */
static void compare_beyond(struct model *model, struct model_flow *flow)
{
	const struct packet *p;

	if (!flow->held.count || flow->mismatch)
		return;
	p = flow->held.list[flow->held.count - 1]->packet;
	if (!(p->flags & TCP_RST) || flow->held.list[flow->held.count - 1]->partner)
		return;
	for (unsigned int i = 0; i < flow->waiting.count; i++) {
		const struct packet *s = flow->waiting.list[i]->packet;

		if (packet_has_units(s) && seq_diff(p->seq, s->next) < 0 &&
		    (!flow->has_sent || seq_diff(flow->next, s->next) < 0)) {
			mismatch(model, flow, p->seq, COLO_REASON_FLAGS);
			return;
		}
	}
}

static void compare(struct model *model, struct model_flow *flow)
{
	for (unsigned int i = 0; i < flow->held.count && !flow->mismatch; i++) {
		struct item *item = flow->held.list[i];
		bool through;

		if (item->packet->flags & TCP_RST)
			through = item->partner || compare_reset(model, flow, item);
		else
			through = compare_units(model, flow, item);
		if (!through)
			break;
	}
	compare_beyond(model, flow);
	/* What S has shown of the interval is used up. */
	for (unsigned int i = flow->waiting.count; i--;) {
		const struct packet *s = flow->waiting.list[i]->packet;

		if (!(s->flags & TCP_RST) && in_span(flow, s->seq, s->next))
			items_remove(&flow->waiting, i);
	}
	/* ... and RSTs said again, up to what is still to be compared. */
	for (unsigned int i = 0; i < flow->waiting.count;) {
		const struct item *s = flow->waiting.list[i];

		if (repeats_rst(flow, s->packet)) {
			flow->rst_more++;
			items_remove(&flow->waiting, i);
		} else if (s->packet->flags & TCP_RST || s->matched != s->packet->next) {
			break;
		} else {
			i++;
		}
	}
}

static void note_left(struct model_flow *flow, uint32_t from, uint32_t to)
{
	if (!flow->has_left || seq_diff(flow->left, from) < 0) {
		flow->left_from = from;
		flow->left = to;
	}
	flow->has_left = true;
	if (seq_diff(to, flow->left_from) < 0)
		return;
	if (seq_diff(from, flow->left_from) < 0)
		flow->left_from = from;
	if (seq_diff(flow->left, to) < 0)
		flow->left = to;
}

static bool is_through(const struct item *item)
{
	return item->packet->flags & TCP_RST ? item->partner :
					       item->matched == item->packet->next;
}

/* A retransmission of what has left meanwhile: only its ack waits. */
static bool repeats(const struct model_flow *flow, const struct item *item)
{
	const struct packet *p = item->packet;

	return is_through(item) && !(p->flags & TCP_RST) && flow->has_left &&
	       seq_diff(p->next, flow->left) <= 0 && seq_diff(p->seq, flow->left_from) >= 0;
}

/*
 * Which of the held frames goes next, if it can. In what order two of the same
 * place leave is open: the next one goes if only its ack is old enough.
 */
static bool find_next(struct model_flow *flow, unsigned int *at)
{
	*at = 0;
	while (*at < flow->held.count) {
		struct item *item = flow->held.list[*at];

		if (ack_known(flow, item->packet))
			return true;
		if (!repeats(flow, item))
			break;
		items_add(&flow->acks, item);
		items_remove(&flow->held, *at);
	}
	return ++*at < flow->held.count &&
	       flow->held.list[*at]->packet->seq == flow->held.list[0]->packet->seq &&
	       ack_known(flow, flow->held.list[*at]->packet);
}

/* Rule 3: the head of the stream leaves, as far as it is vouched for and acked. */
static void release(struct model *model, struct model_flow *flow)
{
	unsigned int at;

	while (find_next(flow, &at)) {
		struct item *item = flow->held.list[at];
		const struct packet *p = item->packet;

		if (!is_through(item)) {
			/* Its vouched head may leave at once, or with its tail. */
			if (item->matched != item->allowed && !(p->flags & TCP_SYN)) {
				if (item->allowed == p->seq)
					items_add(&flow->open, item);
				item->lane = LANE_DATA;
				item->allowed = item->matched;
				note_left(flow, p->seq, item->matched);
			}
			break;
		}
		items_remove(&flow->held, at);
		note_left(flow, p->seq, p->next);
		model_let_go(model, item, LANE_DATA);
	}
	for (unsigned int i = 0; i < flow->acks.count;) {
		struct item *item = flow->acks.list[i];

		if (!ack_known(flow, item->packet)) {
			i++;
			continue;
		}
		items_remove(&flow->acks, i);
		model_let_go(model, item, LANE_ACK);
	}
}

/* P repeats an RST that S has shown as often. */
static bool repeats_shown(struct model_flow *flow, const struct packet *p)
{
	if (!flow->both_rst || !flow->rst_more || p->seq != flow->rst_seq || p->data_len)
		return false;
	flow->rst_more--;
	return true;
}

void stream_p(struct model *model, struct model_flow *flow, struct item *item)
{
	const struct packet *p = item->packet;
	bool fresh;

	if (p->flags & TCP_SYN && (!flow->has_isn || flow->isn != p->seq))
		new_life(flow, p->seq);
	note_sent(model, flow, p);
	flow->closed |= p->flags & (TCP_FIN | TCP_RST);
	if (p->flags & TCP_RST)
		fresh = !repeats_shown(flow, p);
	else
		fresh = packet_has_units(p) && !in_span(flow, p->seq, p->next);
	if (!fresh && ack_known(flow, p)) {
		model_let_go(model, item, LANE_ACK);
		return;
	}
	if (!model_keeps(model, item))
		return;
	if (fresh) {
		if (p->flags & TCP_SYN && packet_keyed(p))
			model_request(model, COLO_REASON_UNTRANSLATABLE);
		check_own(model, flow, &flow->held, p);
		insert(&flow->held, item);
		/* What S shows of a life to come says nothing of this one. */
		if (!flow->has_s_isn)
			compare(model, flow);
	} else {
		items_add(&flow->acks, item);
	}
	release(model, flow);
}

static void note_s_syn(struct model_flow *flow, uint32_t isn)
{
	if (flow->has_isn && flow->isn == isn) {
		/* What it has shown of another life in between is of no use. */
		if (flow->has_s_isn)
			flow->waiting.count = 0;
		flow->has_s_isn = flow->has_next_ack = flow->s_old = flow->s_unseen = false;
		return;
	}
	if (flow->has_s_isn && flow->s_isn == isn)
		return;
	if (!is_fresh(flow) || flow->has_s_isn)
		flow->waiting.count = 0;
	flow->has_next_ack = flow->s_old = flow->s_unseen = flow->both_rst = false;
	flow->has_s_isn = true;
	flow->s_isn = isn;
}

static void note_s_ack(struct model *model, struct model_flow *flow, uint32_t ack, bool ahead)
{
	uint32_t *noted = ahead ? &flow->s_next_ack : &flow->s_ack;
	bool *has = ahead ? &flow->has_next_ack : &flow->has_s_ack;

	if (*has)
		check_jump(model, flow, *noted, ack);
	if (!*has || seq_diff(*noted, ack) < 0)
		*noted = ack;
	*has = true;
}

/* S's RST answers one that P still holds of the life before: both have ended that. */
static bool ends_old(struct model *model, struct model_flow *flow, const struct packet *s)
{
	for (unsigned int i = 0; i < flow->old.count && !s->data_len; i++) {
		struct item *item = flow->old.list[i];
		const struct packet *p = item->packet;

		if (!(p->flags & TCP_RST) || p->class != PACKET_STREAM || p->seq != s->seq ||
		    p->ack != s->ack || p->data_len)
			continue;
		items_remove(&flow->old, i);
		model_let_go(model, item, LANE_ACK);
		return true;
	}
	return false;
}

void stream_s(struct model *model, struct model_flow *flow, struct item *item)
{
	const struct packet *s = item->packet;
	bool ahead;

	if (s->flags & TCP_SYN)
		note_s_syn(flow, s->seq);
	/* Of a life that P has left; S may refuse where P accepts. */
	if (flow->s_old && !(s->flags & TCP_RST))
		return;
	if (flow->s_old && ends_old(model, flow, s))
		return;
	/* S is a life ahead: nothing of it belongs to the interval. */
	ahead = flow->has_s_isn;
	if (!flow->s_old && !flow->s_unseen && s->flags & TCP_ACK)
		note_s_ack(model, flow, s->ack, ahead);
	if (s->flags & TCP_RST ||
	    (packet_has_units(s) && (ahead || !in_span(flow, s->seq, s->next)))) {
		if (flow->waiting.count)
			check_jump(model, flow, flow->waiting.list[0]->packet->seq, s->seq);
		if (flow->has_span && !ahead)
			check_jump(model, flow, flow->to, s->seq);
		check_own(model, flow, &flow->waiting, s);
		insert(&flow->waiting, item);
		if (!ahead)
			compare(model, flow);
	}
	release(model, flow);
}

void stream_commit(struct model_flow *flow)
{
	if (flow->has_sent) {
		if (!flow->has_span || seq_diff(flow->first, flow->from) < 0)
			flow->from = flow->first;
		flow->to = flow->next;
		flow->has_span = true;
		if (flow->to - flow->from > NUMBERS_MAX)
			flow->from = flow->to - NUMBERS_MAX;
	}
	flow->has_s_ack = flow->has_p_ack;
	flow->s_ack = flow->p_ack;
	flow->s_old = flow->s_unseen = flow->both_rst = false;
	flow->has_s_isn = flow->has_next_ack = false;
}

bool stream_waits(const struct item *s)
{
	return s->packet->flags & TCP_RST || s->matched != s->packet->next;
}

void stream_why(const struct item *item, char *to, size_t size)
{
	const struct model_flow *flow = item->flow;
	const struct packet *p = item->packet;
	const struct item *head = flow->held.count ? flow->held.list[0] : NULL;

	if (flow->mismatch && item->matched != p->next)
		snprintf(to, size, "rule 1: at or behind unit %u, where S has another",
			 flow->mismatch_at);
	else if (!packet_has_units(p) && !(p->flags & TCP_RST))
		snprintf(to, size, "rule 6: S has not acked %u", p->ack);
	else if (flow->has_span && seq_diff(flow->to, item->matched) < 0)
		snprintf(to, size,
			 "rule 3: %u units before it, from %u on, are not in the capture",
			 item->matched - flow->to, flow->to);
	else if (head && head != item)
		snprintf(to, size, "rule 3: behind frame %u", head->packet->number);
	else if (item->matched != p->next || p->flags & TCP_RST)
		snprintf(to, size, "rule 1: S has not sent unit %u", item->matched);
	else
		snprintf(to, size, "rule 6: S has not acked %u", p->ack);
}
