// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the guests of this case have sent, by flow and life: the bytes that
 * `expect stream` compares with, and the SYNs that an `I` answers.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

struct segment {
	uint32_t seq;
	uint32_t len;
	uint8_t *data;
	unsigned int life;
	struct segment *next;
};

/* A flow as the guest sends it. */
struct stream {
	struct flow flow;
	bool has_isn;
	uint32_t isn;      /* of its latest life */
	unsigned int life; /* the number of it; 0: it had no earlier one */
	/* side secondary: a life has a number of the primary's and one of the guest's */
	bool has_own;
	uint32_t own;   /* the guest's */
	bool waits_own; /* only the primary's is known so far */
	bool waits_isn; /* ... the guest's */
	uint32_t shift; /* P's number - the guest's */
	struct segment *segments;
	struct stream *next;
};

/* The last SYN of a flow, whoever sent it, by the guest's view of the flow. */
struct syn {
	struct flow flow;
	bool from_client;
	struct spec spec;
	struct syn *next;
};

static struct stream *streams;
static struct syn *syns;

bool flow_equal(const struct flow *a, const struct flow *b)
{
	return a->src.family == b->src.family && a->dst.family == b->dst.family &&
	       !memcmp(a->src.bytes, b->src.bytes, 16) &&
	       !memcmp(a->dst.bytes, b->dst.bytes, 16) && a->sport == b->sport &&
	       a->dport == b->dport;
}

static struct flow flow_back(const struct flow *flow)
{
	return (struct flow){flow->dst, flow->src, flow->dport, flow->sport};
}

static void forget_segments(struct stream *stream)
{
	struct segment *segment;

	while ((segment = stream->segments)) {
		stream->segments = segment->next;
		free(segment->data);
		free(segment);
	}
}

void sent_clear(void)
{
	struct stream *stream;
	struct syn *syn;

	while ((stream = streams)) {
		streams = stream->next;
		forget_segments(stream);
		free(stream);
	}
	while ((syn = syns)) {
		syns = syn->next;
		free(syn);
	}
}

static struct stream *find_stream(const struct flow *flow, bool make)
{
	struct stream *stream = streams;

	while (stream && !flow_equal(&stream->flow, flow))
		stream = stream->next;
	if (!stream && make) {
		stream = calloc(1, sizeof(*stream));
		stream->flow = *flow;
		stream->next = streams;
		streams = stream;
	}
	return stream;
}

static struct syn *find_syn(const struct flow *flow, bool from_client)
{
	struct syn *syn = syns;

	while (syn && !(syn->from_client == from_client && flow_equal(&syn->flow, flow)))
		syn = syn->next;
	return syn;
}

/* By its bytes: a SYN may have been written as a raw frame. */
static void note_syn(bool from_client, const struct view *v)
{
	struct syn *syn = calloc(1, sizeof(*syn));
	struct spec *spec = &syn->spec;

	syn->flow = from_client ? flow_back(&v->flow) : v->flow;
	syn->from_client = from_client;
	spec->kind = KIND_TCP;
	spec->flow = v->flow;
	spec->seq = v->seq;
	spec->flags = v->flags;
	spec->opt_len = v->opt_len;
	if (v->opt_len)
		memcpy(spec->opt, v->opt, v->opt_len);
	spec->vlans = v->vlans;
	memcpy(spec->vlan, v->vlan, sizeof(spec->vlan));
	syn->next = syns; /* the latest is found first */
	syns = syn;
}

static void note_life(struct stream *stream, uint32_t isn)
{
	if (stream->has_isn && stream->isn == isn)
		return;
	if (stream->has_isn || stream->segments)
		stream->life++;
	stream->has_isn = true;
	stream->isn = isn;
}

/* P's SYN: one that repeats what a take-over has left it is of that life. */
static void note_own_syn(struct stream *stream, uint32_t isn)
{
	if (stream->has_isn && stream->isn == isn + stream->shift)
		return;
	stream->shift = 0;
	note_life(stream, isn);
}

void sent_translated(const struct statement *st)
{
	struct stream *stream = find_stream(&st->spec.flow, true);

	stream->shift = st->translation.seq;
	if (st->translation.isn < 0)
		return;
	stream->has_isn = true;
	stream->isn = st->translation.isn + stream->shift;
}

static void note_data(struct stream *stream, const struct view *v)
{
	struct segment *segment = calloc(1, sizeof(*segment));

	segment->seq = v->seq + (v->flags & TCP_SYN ? 1 : 0) + stream->shift;
	segment->len = v->data_len;
	segment->life = stream->life;
	segment->data = malloc(v->data_len + 1);
	memcpy(segment->data, v->data, v->data_len);
	segment->next = stream->segments;
	stream->segments = segment;
}

/* Both are known: what the guest has sent of this life is in P's numbers, too. */
static void set_shift(struct stream *stream)
{
	uint32_t shift = stream->isn - stream->own;

	for (struct segment *s = stream->segments; s; s = s->next) {
		if (s->life == stream->life)
			s->seq += shift - stream->shift;
	}
	stream->shift = shift;
	stream->waits_own = stream->waits_isn = false;
}

/* The primary's SYN or SYN-ACK. */
static void note_isn(struct stream *stream, uint32_t isn)
{
	if (stream->waits_isn) {
		stream->isn = isn;
		stream->has_isn = true;
		set_shift(stream);
		return;
	}
	if (stream->has_isn && stream->isn == isn)
		return;
	note_life(stream, isn);
	stream->waits_own = true;
}

/* The guest's; of a life that nobody else knows it is in the guest's own numbers. */
static void note_own(struct stream *stream, uint32_t own)
{
	if (stream->has_own && stream->own == own)
		return;
	stream->has_own = true;
	stream->own = own;
	if (stream->waits_own) {
		set_shift(stream);
		return;
	}
	stream->waits_isn = !stream->has_isn || stream->isn != own;
	note_life(stream, own);
	stream->shift = 0;
}

/* The secondary's guest is the primary's copy now: it has the same numbers. */
void sent_commit(void)
{
	for (struct stream *stream = streams; stream; stream = stream->next) {
		stream->shift = 0;
		stream->has_own = stream->waits_own = stream->waits_isn = false;
	}
}

void sent_note(enum verb verb, const struct spec *spec, const struct frame *frame)
{
	struct stream *stream;
	struct view v;

	if (verb == VERB_I) {
		note_isn(find_stream(&spec->flow, true), spec->seq);
		return;
	}
	decode_frame(frame, &v);
	if (v.kind != KIND_TCP || !v.has_l4 || verb == VERB_S)
		return;
	if (v.flags & TCP_SYN && (verb == VERB_G || !(v.flags & TCP_ACK)))
		note_syn(verb == VERB_C, &v);
	if (verb == VERB_C)
		return;
	stream = find_stream(&v.flow, true);
	if (v.flags & TCP_SYN && verb == VERB_P)
		note_own_syn(stream, v.seq);
	if (v.flags & TCP_SYN && verb == VERB_G)
		note_own(stream, v.seq);
	if (v.data_len)
		note_data(stream, &v);
}

int sent_check(const struct flow *flow, uint32_t seq, uint8_t byte)
{
	struct stream *stream = find_stream(flow, false);
	int found = 0;

	for (struct segment *s = stream ? stream->segments : NULL; s; s = s->next) {
		if (s->life != stream->life || seq - s->seq >= s->len)
			continue;
		if (s->data[seq - s->seq] == byte)
			return 1;
		found = -1;
	}
	return found;
}

/* P has sent this unit, in whatever life and with whatever byte. */
bool sent_ever(const struct flow *flow, uint32_t seq)
{
	struct stream *stream = find_stream(flow, false);

	for (struct segment *s = stream ? stream->segments : NULL; s; s = s->next) {
		if (seq - s->seq < s->len)
			return true;
	}
	return false;
}

bool sent_life(const struct flow *flow, uint32_t *isn)
{
	struct stream *stream = find_stream(flow, false);

	if (!stream || !stream->life)
		return false;
	*isn = stream->isn;
	return true;
}

/* Does the client open this flow? Its SYN may stand behind the `I`. */
static const struct spec *opener(const struct testcase *test, const struct flow *flow,
				 bool *by_client)
{
	struct syn *client = find_syn(flow, true), *own = find_syn(flow, false);
	struct flow back = flow_back(flow);

	*by_client = client;
	if (client)
		return &client->spec;
	if (own)
		return &own->spec;
	for (const struct statement *st = test->first; st; st = st->next) {
		if (st->verb != VERB_C || st->spec.kind != KIND_TCP ||
		    !flow_equal(&st->spec.flow, &back))
			continue;
		*by_client = (st->spec.flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
		return *by_client ? &st->spec : NULL;
	}
	return NULL;
}

/* The client's TSval, which a SYN-ACK echoes. */
static uint32_t tsval_of(const struct spec *spec)
{
	const uint8_t *opt = spec->opt;

	unsigned int size;

	for (unsigned int i = 0; i < spec->opt_len && opt[i]; i += size) {
		size = opt[i] == 1 ? 1 : i + 1 < spec->opt_len && opt[i + 1] ? opt[i + 1] : 40;
		if (opt[i] == 8 && i + 10 <= spec->opt_len)
			return (uint32_t)opt[i + 2] << 24 | opt[i + 3] << 16 | opt[i + 4] << 8 |
			       opt[i + 5];
	}
	return 0;
}

struct frame *sent_control(const struct testcase *test, const struct statement *st,
			   char **error)
{
	struct spec spec = {.kind = KIND_TCP, .set = FIELD_FLOW, .flow = st->spec.flow};
	const struct spec *syn;
	char options[64];
	bool by_client;
	uint32_t ecr = 0;

	syn = opener(test, &spec.flow, &by_client);
	spec.seq = st->spec.seq;
	spec.flags = TCP_SYN;
	if (by_client) {
		spec.flags |= TCP_ACK;
		spec.ack = syn->seq + 1;
		ecr = tsval_of(syn);
	}
	/* The tags are those of the flow, unless the statement has its own. */
	if (st->spec.vlans || syn) {
		const struct spec *tags = st->spec.vlans ? &st->spec : syn;

		spec.vlans = tags->vlans;
		memcpy(spec.vlan, tags->vlan, sizeof(spec.vlan));
	}
	snprintf(options, sizeof(options), "mss:1460");
	if (st->spec.set & FIELD_ACK)
		snprintf(options, sizeof(options), "mss:1460/ts:%u,%u", st->spec.ack, ecr);
	spec_options(options, spec.opt, &spec.opt_len);
	return build_frame(&spec, true, false, error);
}

/*
 * How the primary tags a client's frame: if its guest has not read it at the
 * next commit, it came when that had stopped, and is the next epoch's.
 */
static int input_epoch_diff(const struct statement *st)
{
	uint32_t behind = 0;

	for (; st && st->verb != VERB_FAILOVER; st = st->next) {
		if (st->verb == VERB_COMMIT)
			return behind <= st->number;
		behind += st->verb == VERB_C;
	}
	return 0;
}

int sent_epoch_diff(const struct statement *st)
{
	if (st->verb == VERB_C && !st->epoch_diff)
		return input_epoch_diff(st);
	return st->epoch_diff;
}
