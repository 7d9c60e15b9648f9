// SPDX-License-Identifier: GPL-2.0-only
/* The model: flows, datagrams, commits. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>

#include <colo/abi.h>

#include "model.h"

#define WINDOW_MAX 64 /* of reorder_window */

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

struct model *model_new(unsigned int buckets)
{
	struct model *model = calloc(1, sizeof(*model));

	model->buckets = calloc(buckets, sizeof(*model->buckets));
	model->bucket_count = buckets;
	model->window = WINDOW_MAX;
	model->queue_max = model->flows_max = UINT_MAX;
	return model;
}

static void clear_flow(struct model_flow *flow)
{
	items_clear(&flow->all);
	items_clear(&flow->open);
	items_clear(&flow->held);
	items_clear(&flow->acks);
	items_clear(&flow->old);
	items_clear(&flow->waiting);
	items_clear(&flow->early);
	free(flow->bindings);
}

void model_free(struct model *model)
{
	struct model_flow *next;

	for (struct model_flow *flow = model->flows; flow; flow = next) {
		next = flow->next_flow;
		clear_flow(flow);
		free(flow);
	}
	items_clear(&model->due);
	free(model->buckets);
	free(model);
}

static unsigned int hash(const struct packet_key *key)
{
	const uint8_t *at = (const uint8_t *)key;
	uint32_t sum = 2166136261U;

	for (unsigned int i = 0; i < sizeof(*key); i++)
		sum = (sum ^ at[i]) * 16777619U;
	return sum ^ sum >> 16;
}

struct model_flow *model_flow(struct model *model, const struct packet_key *key, bool make)
{
	struct model_flow **at = &model->buckets[hash(key) % model->bucket_count];

	while (*at && memcmp(&(*at)->key, key, sizeof(*key)))
		at = &(*at)->chain;
	if (!*at && make) {
		*at = calloc(1, sizeof(**at));
		(*at)->key = *key;
		(*at)->next_flow = model->flows;
		model->flows = *at;
	}
	return *at;
}

void model_request(struct model *model, int reason)
{
	if (model->request == COLO_REASON_NONE)
		model->request = reason;
	/* In what order the daemon looks at flows is open. */
	if (model->passing)
		model->or_request |= 1U << reason;
}

static unsigned int flow_holds(const struct model_flow *flow)
{
	return flow->held.count + flow->acks.count + flow->old.count;
}

bool model_keeps(struct model *model, struct item *item)
{
	bool full = flow_holds(item->flow) >= model->queue_max;

	if (full && !item->unkept && !item->flow->unjudged)
		model->wrong = "a frame of P is held beyond queue_max";
	if (item->unkept)
		model_request(model, full ? COLO_REASON_QUEUE_FULL : COLO_REASON_POOL_FULL);
	return !item->unkept;
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

	item->left = true;
	item->lane = lane;
	item->allowed = item->packet->next;
	/* What may have left in part has its turn now. */
	for (unsigned int i = 0; i < flow->open.count; i++) {
		if (flow->open.list[i] == item)
			items_remove(&flow->open, i);
	}
	items_add(&flow->open, item);
	if (!flow->unjudged)
		items_add(&model->due, item);
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

/* Equal as far as the shorter goes, but for the header's length and checksum. */
static bool starts_equal(const struct packet *a, const struct packet *b)
{
	static const struct {
		uint8_t proto, header;
	} skips[] = {
		{IPPROTO_UDP, 8}, {IPPROTO_ICMP, 4}, {IPPROTO_ICMPV6, 4}, {IPPROTO_SCTP, 12}};
	unsigned int len, skip = 0;

	len = a->end - a->l4 < b->end - b->l4 ? a->end - a->l4 : b->end - b->l4;
	for (unsigned int i = 0; i < 4 && !a->key.fragment; i++)
		skip = skips[i].proto == a->key.proto ? skips[i].header : skip;
	return len <= skip ||
	       !memcmp(a->bytes + a->l4 + skip, b->bytes + b->l4 + skip, len - skip);
}

static struct item *first_alone(const struct model_flow *flow)
{
	for (unsigned int i = 0; i < flow->held.count; i++) {
		if (!flow->held.list[i]->partner)
			return flow->held.list[i];
	}
	return NULL;
}

static void datagrams_differ(struct model *model, struct model_flow *flow)
{
	const struct packet *p = first_alone(flow)->packet;
	const struct packet *s = flow->waiting.list[0]->packet;
	bool length = p->end - p->l4 != s->end - s->l4 && starts_equal(p, s);

	flow->mismatch = true;
	model_request(model, length ? COLO_REASON_LENGTH : COLO_REASON_PAYLOAD);
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
	if (unmatched && flow->waiting.count && !flow->mismatch &&
	    (unmatched > model->window || flow->waiting.count > model->window))
		datagrams_differ(model, flow);
}

/* Rule 9: the first match binds the id of P's packet to that of S's, each way. */
static bool bound(struct model_flow *flow, uint32_t p, uint32_t s)
{
	if (!flow->key.fragment)
		return true;
	for (unsigned int i = 0; i < flow->binding_count; i++) {
		const struct binding *b = &flow->bindings[i];

		if (b->p == p || b->s == s)
			return b->p == p && b->s == s;
	}
	if (flow->binding_count == flow->binding_room) {
		flow->binding_room = flow->binding_room ? 2 * flow->binding_room : 8;
		flow->bindings =
			realloc(flow->bindings, flow->binding_room * sizeof(*flow->bindings));
	}
	flow->bindings[flow->binding_count++] = (struct binding){p, s};
	return true;
}

static bool partners(struct model_flow *flow, struct item *p, struct item *s)
{
	if (!model_content_equal(p->packet, s->packet) ||
	    !bound(flow, p->packet->id, s->packet->id))
		return false;
	p->partner = s->partner = true;
	return true;
}

static void datagram_p(struct model *model, struct model_flow *flow, struct item *item)
{
	if (!model_keeps(model, item))
		return;
	for (unsigned int i = 0; i < flow->waiting.count && !flow->mismatch; i++) {
		if (!partners(flow, item, flow->waiting.list[i]))
			continue;
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

		if (p->partner || !partners(flow, p, item))
			continue;
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

/* Rule 9: unmatched frames of both sides have stood for reorder_ms. */
static void datagrams_age(struct model *model, struct model_flow *flow)
{
	const struct item *p = first_alone(flow);
	uint64_t since;

	if (flow->mismatch || !p || !flow->waiting.count)
		return;
	since = flow->waiting.list[0]->came;
	if (p->came > since)
		since = p->came;
	if (since + model->reorder <= model->now)
		datagrams_differ(model, flow);
}

/* ---- all ---------------------------------------------------------------- */

/* What a fragmented packet, of which both ends are there, brings its stream. */
static void fragment_of_stream(struct model *model, const struct model_flow *flow, uint32_t id)
{
	const struct packet *first = NULL, *last = NULL;
	struct model_flow *stream;
	struct packet_key key;
	uint32_t from, to;

	for (unsigned int i = 0; i < flow->old.count; i++) {
		const struct packet *p = flow->old.list[i]->packet;

		if (p->id == id && !packet_fragment_offset(p))
			first = p;
		if (p->id == id && packet_is_last_fragment(p))
			last = p;
	}
	if (!first || !last || !packet_span(first, last, &key, &from, &to))
		return;
	stream = model_flow(model, &key, true);
	if (!stream->tracked && model->tracked >= model->flows_max)
		return;
	model->tracked += !stream->tracked;
	stream->tracked = true;
	stream->seen = model->now;
	stream_sent(stream, from, to);
}

static void hold_to_commit(struct model *model, struct item *item, int reason)
{
	if (!model_keeps(model, item))
		return;
	item->lane = LANE_OLD;
	items_add(&item->flow->old, item);
	model_request(model, reason);
	if (item->packet->class == PACKET_TCP_FRAGMENT)
		fragment_of_stream(model, item->flow, item->packet->id);
}

/* The flow of a frame that is compared; NULL: the table has no place for it. */
static struct model_flow *take(struct model *model, struct item *item)
{
	struct model_flow *flow = model_flow(model, &item->packet->key, true);
	bool full = !flow->tracked && model->tracked >= model->flows_max;

	item->flow = flow;
	item->matched = item->allowed = item->seen = item->packet->seq;
	item->came = flow->seen = model->now;
	item->number = ++model->numbers;
	if (flow->lost)
		model_unjudged(model, flow, "its numbers are in no order");
	if (full && !item->unkept)
		model->wrong = "there is one flow more than max_flows";
	if (full)
		model_request(model, COLO_REASON_FLOW_FULL);
	else if (!flow->tracked)
		flow->tracked = ++model->tracked;
	return full ? NULL : flow;
}

/* What leaves uncompared has no place in the table. */
static void pass(struct model *model, struct item *item)
{
	item->flow = model_flow(model, &item->packet->key, true);
	item->seen = item->packet->seq;
	model_let_go(model, item, LANE_DATA);
}

static void compare_p(struct model *model, struct item *item)
{
	struct model_flow *flow = take(model, item);

	if (!flow)
		return;
	items_add(&flow->all, item);
	switch (item->packet->class) {
	case PACKET_STREAM:
		stream_p(model, flow, item);
		break;
	case PACKET_DATAGRAM:
		datagram_p(model, flow, item);
		break;
	case PACKET_TCP_FRAGMENT:
		item->held = "rule 9: fragmented TCP, held to the commit";
		hold_to_commit(model, item, COLO_REASON_UNTRANSLATABLE);
		break;
	default:
		item->held = item->packet->why;
		hold_to_commit(model, item, COLO_REASON_MALFORMED);
	}
}

void model_p(struct model *model, struct item *item)
{
	enum packet_class class = item->packet->class;

	model->malformed += class == PACKET_MALFORMED && !model->wire;
	if (class == PACKET_PASS || model->wire) {
		model->passed += !model->wire;
		pass(model, item);
		items_add(&item->flow->all, item);
	} else if (class == PACKET_DROP) {
		model->dropped++;
	} else {
		compare_p(model, item);
	}
}

static void compare_s(struct model *model, struct item *item, bool early)
{
	struct model_flow *flow;

	if (item->packet->class == PACKET_TCP_FRAGMENT)
		model_request(model, COLO_REASON_UNTRANSLATABLE);
	if (item->packet->class == PACKET_MALFORMED)
		model_request(model, COLO_REASON_MALFORMED);
	if (model->wire ||
	    (item->packet->class != PACKET_STREAM && item->packet->class != PACKET_DATAGRAM))
		return;
	flow = take(model, item);
	if (!flow)
		return;
	if (item->unkept) {
		/* Its ack may have been noted: what that lets go is left open. */
		model_request(model,
			      flow->waiting.count + flow->early.count >= model->queue_max ?
				      COLO_REASON_QUEUE_FULL :
				      COLO_REASON_POOL_FULL);
		model->or_request |= 1 << COLO_REASON_QUEUE_FULL | 1 << COLO_REASON_POOL_FULL;
		model_unjudged(model, flow, "a frame of S was not kept");
	} else if (early) {
		items_add(&flow->early, item);
	} else if (item->packet->class == PACKET_STREAM) {
		stream_s(model, flow, item);
	} else {
		datagram_s(model, flow, item);
	}
}

void model_s(struct model *model, struct item *item)
{
	compare_s(model, item, false);
}

void model_s_early(struct model *model, struct item *item)
{
	compare_s(model, item, true);
}

static void let_all_go(struct model *model, struct items *items, enum lane lane)
{
	for (unsigned int i = 0; i < items->count; i++) {
		items->list[i]->at_commit = true;
		model_let_go(model, items->list[i], lane);
	}
	items->count = 0;
}

/* Rule 13: held P go out in order, S's waiting output is dropped. */
static void flow_commit(struct model *model, struct model_flow *flow)
{
	let_all_go(model, &flow->old, LANE_OLD);
	let_all_go(model, &flow->acks, LANE_ACK);
	let_all_go(model, &flow->held, LANE_DATA);
	flow->waiting.count = 0;
	flow->binding_count = 0;
}

void model_commit(struct model *model)
{
	for (struct model_flow *flow = model->flows; flow; flow = flow->next_flow) {
		flow_commit(model, flow);
		stream_commit(flow);
	}
	model->request = COLO_REASON_NONE;
	model->or_request = 0;
}

/* What S has said in the epoch to come it says now. */
static void feed_early(struct model *model, struct model_flow *flow)
{
	for (unsigned int i = 0; i < flow->early.count; i++) {
		struct item *item = flow->early.list[i];

		if (item->packet->class == PACKET_STREAM)
			stream_s(model, flow, item);
		else
			datagram_s(model, flow, item);
	}
	flow->early.count = 0;
}

void model_committed(struct model *model)
{
	model->unjudged = false;
	for (struct model_flow *flow = model->flows; flow; flow = flow->next_flow) {
		flow->all.count = flow->open.count = 0;
		flow->unjudged = flow->mismatch = false;
		feed_early(model, flow);
	}
}

/* Nobody is left to compare with. */
void model_failover(struct model *model)
{
	for (struct model_flow *flow = model->flows; flow; flow = flow->next_flow) {
		flow_commit(model, flow);
		flow->early.count = 0;
	}
	model->wire = true;
}

void model_forget(struct model *model, struct model_flow *flow)
{
	struct model_flow blank = {
		.key = flow->key,
		.all = flow->all,
		.open = flow->open,
		.held = flow->held,
		.acks = flow->acks,
		.old = flow->old,
		.waiting = flow->waiting,
		.early = flow->early,
		.bindings = flow->bindings,
		.binding_room = flow->binding_room,
		.unjudged = flow->unjudged,
		.unjudged_why = flow->unjudged_why,
		.chain = flow->chain,
		.next_flow = flow->next_flow,
	};

	*flow = blank;
	flow->waiting.count = 0;
	model->tracked--;
}

static bool is_stream(const struct model_flow *flow)
{
	return flow->key.proto == IPPROTO_TCP && !flow->key.fragment;
}

static bool came_by(const struct items *items, uint64_t by, bool (*waits)(const struct item *))
{
	for (unsigned int i = 0; i < items->count; i++) {
		if (items->list[i]->came <= by && waits(items->list[i]))
			return true;
	}
	return false;
}

static bool always(const struct item *item)
{
	(void)item;
	return true;
}

static bool alone(const struct item *item)
{
	return item->packet->class != PACKET_DATAGRAM || !item->partner;
}

bool model_waits(struct model *model, uint64_t by)
{
	for (const struct model_flow *flow = model->flows; flow; flow = flow->next_flow) {
		if (came_by(&flow->old, by, always) || came_by(&flow->acks, by, always) ||
		    came_by(&flow->held, by, alone) ||
		    came_by(&flow->waiting, by, is_stream(flow) ? stream_waits : always))
			return true;
	}
	return false;
}

void model_pass(struct model *model, uint64_t ms)
{
	model->passing = model->request == COLO_REASON_NONE;
	model->now += ms;
	for (struct model_flow *flow = model->flows; flow && !model->wire;
	     flow = flow->next_flow) {
		if (model->reorder && !is_stream(flow))
			datagrams_age(model, flow);
	}
	if (!model->wire && model->timeout && model->now >= model->timeout &&
	    model_waits(model, model->now - model->timeout))
		model_request(model, COLO_REASON_TIMEOUT);
	model->passing = false;
}

bool model_disputed(struct model *model)
{
	for (const struct model_flow *flow = model->flows; flow; flow = flow->next_flow) {
		if (flow->held.count && flow->waiting.count &&
		    flow->held.list[0]->packet->class == PACKET_DATAGRAM)
			return true;
	}
	return false;
}

unsigned int model_held(const struct model *model)
{
	unsigned int count = 0;

	for (const struct model_flow *flow = model->flows; flow; flow = flow->next_flow)
		count += flow_holds(flow);
	return count;
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
