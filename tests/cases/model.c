// SPDX-License-Identifier: GPL-2.0-only
/* The model: flows, datagrams, commits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>

#include <colo/abi.h>

#include "model.h"

void items_add(struct items *items, struct item *item)
{
	if (items->count == items->room) {
		items->room = items->room ? 2 * items->room : 8;
		items->list = realloc(items->list, items->room * sizeof(*items->list));
	}
	items->list[items->count++] = item;
}

void items_remove(struct items *items, unsigned int at)
{
	items->count--;
	memmove(items->list + at, items->list + at + 1,
		(items->count - at) * sizeof(*items->list));
}

void items_clear(struct items *items)
{
	free(items->list);
	memset(items, 0, sizeof(*items));
}

struct model *model_new(void)
{
	return calloc(1, sizeof(struct model));
}

static void clear_flow(struct model_flow *flow)
{
	items_clear(&flow->all);
	items_clear(&flow->open);
	items_clear(&flow->held);
	items_clear(&flow->acks);
	items_clear(&flow->old);
	items_clear(&flow->waiting);
	items_clear(&flow->optional);
}

void model_free(struct model *model)
{
	for (unsigned int i = 0; model && i < MODEL_BUCKETS; i++) {
		struct model_flow *next;

		for (struct model_flow *flow = model->buckets[i]; flow; flow = next) {
			next = flow->chain;
			clear_flow(flow);
			free(flow);
		}
	}
	if (model)
		items_clear(&model->due);
	free(model);
}

static unsigned int hash(const struct packet_key *key)
{
	const uint8_t *at = (const uint8_t *)key;
	uint32_t sum = 2166136261U;

	for (unsigned int i = 0; i < sizeof(*key); i++)
		sum = (sum ^ at[i]) * 16777619U;
	return (sum ^ sum >> 16) % MODEL_BUCKETS;
}

struct model_flow *model_flow(struct model *model, const struct packet_key *key, bool make)
{
	struct model_flow **at = &model->buckets[hash(key)];

	while (*at && memcmp(&(*at)->key, key, sizeof(*key)))
		at = &(*at)->chain;
	if (!*at && make) {
		*at = calloc(1, sizeof(**at));
		(*at)->key = *key;
	}
	return *at;
}

void model_request(struct model *model, int reason)
{
	if (model->request == COLO_REASON_NONE)
		model->request = reason;
}

/* The rules say nothing of this flow any more, until the next commit. */
void model_unjudged(struct model *model, struct model_flow *flow, const char *why)
{
	if (!flow->unjudged)
		flow->unjudged_why = why;
	flow->unjudged = true;
	model->unjudged = true;
}

/* P's frame may leave, whole: it must. */
void model_let_go(struct model *model, struct item *item, enum lane lane)
{
	struct model_flow *flow = item->flow;
	bool known = false;

	item->left = true;
	item->lane = lane;
	item->allowed = item->packet->next;
	for (unsigned int i = 0; i < flow->open.count; i++)
		known |= flow->open.list[i] == item;
	if (!known)
		items_add(&flow->open, item);
	if (!flow->unjudged)
		items_add(&model->due, item);
}

/* It may leave, and a commit must let it go. */
void model_may_go(struct model *model, struct item *item)
{
	unsigned int due = model->due.count;

	model_let_go(model, item, LANE_ACK);
	model->due.count = due;
	item->optional = true;
	items_add(&item->flow->optional, item);
}

/* ---- datagrams (rules 3 and 9) ------------------------------------------ */

/* Content of L4, but for its checksum field; of fragments the place, too. */
bool model_content_equal(const struct packet *a, const struct packet *b)
{
	unsigned int len = a->end - a->l4, size, skip = packet_csum(a, &size);

	if (len != b->end - b->l4 || a->place != b->place)
		return false;
	if (!skip)
		return !memcmp(a->bytes + a->l4, b->bytes + b->l4, len);
	skip -= a->l4;
	return !memcmp(a->bytes + a->l4, b->bytes + b->l4, skip) &&
	       !memcmp(a->bytes + a->l4 + skip + size, b->bytes + b->l4 + skip + size,
		       len - skip - size);
}

static void datagrams_settle(struct model *model, struct model_flow *flow)
{
	unsigned int unmatched = 0;

	while (flow->held.count && flow->held.list[0]->partner) {
		model_let_go(model, flow->held.list[0], LANE_DATA);
		items_remove(&flow->held, 0);
	}
	for (unsigned int i = 0; i < flow->held.count; i++)
		unmatched += !flow->held.list[i]->partner;
	if (unmatched && flow->waiting.count &&
	    (unmatched > MODEL_WINDOW || flow->waiting.count > MODEL_WINDOW)) {
		flow->mismatch = true;
		model_request(model, COLO_REASON_PAYLOAD);
	}
}

/* Two sets of fragments with one content: which id binds which is chance. */
static void check_binding(struct model *model, struct model_flow *flow, const struct item *p,
			  const struct item *s)
{
	if (flow->key.fragment && p->packet->id != s->packet->id)
		model_unjudged(model, flow, "equal fragments of several packets");
}

static void datagram_p(struct model *model, struct model_flow *flow, struct item *item)
{
	for (unsigned int i = 0; i < flow->waiting.count && !flow->mismatch; i++) {
		struct item *s = flow->waiting.list[i];

		if (!model_content_equal(item->packet, s->packet))
			continue;
		check_binding(model, flow, item, s);
		item->partner = s->partner = true;
		items_remove(&flow->waiting, i);
		break;
	}
	items_add(&flow->held, item);
	datagrams_settle(model, flow);
}

static void datagram_s(struct model *model, struct model_flow *flow, struct item *item)
{
	for (unsigned int i = 0; i < flow->held.count && !flow->mismatch; i++) {
		struct item *p = flow->held.list[i];

		if (p->partner || !model_content_equal(p->packet, item->packet))
			continue;
		check_binding(model, flow, p, item);
		p->partner = item->partner = true;
		datagrams_settle(model, flow);
		return;
	}
	items_add(&flow->waiting, item);
	datagrams_settle(model, flow);
}

static void datagram_why(const struct item *item, char *to, size_t size)
{
	const struct items *held = &item->flow->held;

	if (!item->partner && item->packet->alone)
		snprintf(to, size, "rule 1: S's copy is too short for the link's tag");
	else if (!item->partner)
		snprintf(to, size, "rule 1: S has not sent it");
	else
		snprintf(to, size, "rule 3: behind frame %u of its flow",
			 held->count ? held->list[0]->packet->number : 0);
}

/* ---- all ---------------------------------------------------------------- */

/* The stream of a fragmented packet: rule 9 counts its range as sent. */
static void fragment_of_stream(struct model *model, const struct packet *p)
{
	const uint8_t *l4 = p->bytes + p->l4;
	struct packet_key key = p->key;

	if (p->end - p->l4 < 4 || p->place & (key.ethertype == 0x86dd ? 0xfff8 : 0x1fff))
		return;
	key.fragment = 0;
	key.sport = l4[0] << 8 | l4[1];
	key.dport = l4[2] << 8 | l4[3];
	model_flow(model, &key, true)->lost = true;
}

static void hold_to_commit(struct model *model, struct item *item, int reason)
{
	item->lane = LANE_OLD;
	items_add(&item->flow->old, item);
	model_request(model, reason);
}

static struct model_flow *take(struct model *model, struct item *item)
{
	item->flow = model_flow(model, &item->packet->key, true);
	item->matched = item->allowed = item->seen = item->packet->seq;
	if (item->flow->lost)
		model_unjudged(model, item->flow, "its numbers are in no order");
	return item->flow;
}

void model_p(struct model *model, struct item *item)
{
	struct model_flow *flow = take(model, item);

	items_add(&flow->all, item);
	switch (item->packet->class) {
	case PACKET_PASS:
		model->passed++;
		model_let_go(model, item, LANE_DATA);
		break;
	case PACKET_STREAM:
		stream_p(model, flow, item);
		break;
	case PACKET_DATAGRAM:
		datagram_p(model, flow, item);
		break;
	case PACKET_TCP_FRAGMENT:
		item->held = "rule 9: fragmented TCP, held to the commit";
		fragment_of_stream(model, item->packet);
		hold_to_commit(model, item, COLO_REASON_UNTRANSLATABLE);
		break;
	default:
		model->malformed++;
		item->held = item->packet->why;
		hold_to_commit(model, item, COLO_REASON_MALFORMED);
	}
}

void model_s(struct model *model, struct item *item)
{
	struct model_flow *flow = take(model, item);

	switch (item->packet->class) {
	case PACKET_STREAM:
		stream_s(model, flow, item);
		break;
	case PACKET_DATAGRAM:
		datagram_s(model, flow, item);
		break;
	case PACKET_TCP_FRAGMENT:
		model_request(model, COLO_REASON_UNTRANSLATABLE);
		break;
	case PACKET_MALFORMED:
		model_request(model, COLO_REASON_MALFORMED);
		break;
	default:
		break;
	}
}

static void commit_optional(struct model *model, struct model_flow *flow)
{
	for (unsigned int i = 0; i < flow->optional.count; i++) {
		struct item *item = flow->optional.list[i];

		item->at_commit = !item->gone;
		if (!item->gone)
			model_let_go(model, item, LANE_ACK);
	}
	flow->optional.count = 0;
}

static void commit_items(struct model *model, struct items *items, enum lane lane)
{
	for (unsigned int i = 0; i < items->count; i++) {
		items->list[i]->at_commit = true;
		model_let_go(model, items->list[i], lane);
	}
	items->count = 0;
}

/* Rule 13: held P go out in order, S's waiting output is dropped. */
void model_commit(struct model *model)
{
	for (unsigned int i = 0; i < MODEL_BUCKETS; i++) {
		for (struct model_flow *flow = model->buckets[i]; flow; flow = flow->chain) {
			commit_items(model, &flow->old, LANE_OLD);
			commit_items(model, &flow->acks, LANE_ACK);
			commit_optional(model, flow);
			commit_items(model, &flow->held, LANE_DATA);
			flow->waiting.count = 0;
			stream_commit(flow);
		}
	}
	model->request = COLO_REASON_NONE;
}

void model_committed(struct model *model)
{
	for (unsigned int i = 0; i < MODEL_BUCKETS; i++) {
		for (struct model_flow *flow = model->buckets[i]; flow; flow = flow->chain) {
			flow->all.count = flow->open.count = 0;
			flow->unjudged = flow->mismatch = false;
		}
	}
	model->unjudged = false;
}

bool model_disputed(struct model *model)
{
	for (unsigned int i = 0; i < MODEL_BUCKETS; i++) {
		for (struct model_flow *flow = model->buckets[i]; flow; flow = flow->chain) {
			if (flow->held.count && flow->waiting.count &&
			    flow->held.list[0]->packet->class == PACKET_DATAGRAM)
				return true;
		}
	}
	return false;
}

bool model_waits(struct model *model)
{
	for (unsigned int i = 0; i < MODEL_BUCKETS; i++) {
		for (struct model_flow *flow = model->buckets[i]; flow; flow = flow->chain) {
			if (flow->old.count || flow->acks.count || flow->held.count)
				return true;
			if (flow->key.proto == IPPROTO_TCP && !flow->key.fragment ?
				    stream_waits(flow) :
				    flow->waiting.count)
				return true;
		}
	}
	return false;
}

void model_why(const struct item *item, char *to, size_t size)
{
	if (item->held)
		snprintf(to, size, "%s", item->held);
	else if (item->flow->unjudged)
		snprintf(to, size, "rule 5: %s; not judged", item->flow->unjudged_why);
	else if (item->packet->class == PACKET_STREAM)
		stream_why(item, to, size);
	else
		datagram_why(item, to, size);
}
