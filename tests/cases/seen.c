// SPDX-License-Identifier: GPL-2.0-only
/* What has left, and what it adds up to: streams and acks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

#define STREAM_MAX (16U << 20)

void frames_add(struct frames *frames, struct frame *frame)
{
	if (frames->count == frames->room) {
		frames->room = frames->room ? 2 * frames->room : 16;
		frames->list = realloc(frames->list, frames->room * sizeof(*frames->list));
	}
	frames->list[frames->count++] = frame;
}

void frames_clear(struct frames *frames)
{
	for (unsigned int i = 0; i < frames->count; i++)
		frame_free(frames->list[i]);
	free(frames->list);
	memset(frames, 0, sizeof(*frames));
}

/* Where a side's stream can leave: a secondary's by the link, later by the port. */
static struct frames *outlets(struct run *run, unsigned int i)
{
	if (i == 0)
		return &run->out[OUTLET_PORT];
	return i == 1 && run->test->side == SIDE_SECONDARY ? &run->out[OUTLET_LINK] : NULL;
}

/* Is this frame of the flow's latest life? *begun: that life's SYN has left. */
static bool of_life(const struct view *v, const struct flow *flow, bool *begun)
{
	uint32_t isn;

	if (*begun || !sent_life(flow, &isn))
		return true;
	*begun = v->flags & TCP_SYN && v->seq == isn;
	return *begun;
}

static bool of_flow(const struct frame *frame, const struct flow *flow, struct view *v)
{
	decode_frame(frame, v);
	return v->kind == KIND_TCP && v->has_l4 && flow_equal(&v->flow, flow);
}

/* One frame's bytes into the map of [A, B); NULL or what is wrong. */
static char *cover(const struct flow *flow, const struct view *v, uint32_t from, uint32_t len,
		   uint8_t *covered)
{
	uint32_t seq = v->seq + (v->flags & TCP_SYN ? 1 : 0);
	char *why = NULL;

	for (unsigned int i = 0; i < v->data_len; i++, seq++) {
		int sent = sent_check(flow, seq, v->data[i]);

		if (seq - from < len && sent > 0) {
			covered[seq - from] = 1;
			continue;
		}
		if (asprintf(&why,
			     seq - from >= len ? "byte %u has left, which is outside" :
			     sent < 0 ? "another byte has left at %u than P sent there" :
					"a byte has left at %u, where P sent none",
			     seq) < 0)
			why = NULL;
		return why ? why : strdup("no memory");
	}
	return NULL;
}

static char *cover_outlet(struct run *run, struct frames *frames, const struct statement *st,
			  uint8_t *covered)
{
	static const struct spec any = {.kind = KIND_ANY};
	const struct flow *flow = &st->spec.flow;
	bool begun = false;
	struct view v;
	char *why;

	for (unsigned int i = 0; i < frames->count; i++) {
		if (!of_flow(frames->list[i], flow, &v) || !of_life(&v, flow, &begun))
			continue;
		why = match_frame(&any, frames->list[i], &run->in);
		if (!why)
			why = cover(flow, &v, st->number, st->last - st->number, covered);
		if (why)
			return why;
	}
	return NULL;
}

/* Frames that only carried the stream need no other look. */
static void use_up(struct run *run, const struct flow *flow, enum seen seen, bool data)
{
	struct frames *frames;
	struct view v;

	for (unsigned int o = 0; (frames = outlets(run, o)); o++) {
		for (unsigned int i = 0; i < frames->count; i++) {
			struct frame *frame = frames->list[i];

			if (frame->seen == SEEN_NOT && of_flow(frame, flow, &v) &&
			    (!data || v.data_len))
				frame->seen = seen;
		}
	}
}

int seen_stream(struct run *run, const struct statement *st, char **why)
{
	uint32_t len = st->last - st->number, missing = 0;
	struct frames *frames;
	uint8_t *covered;

	*why = NULL;
	if (len > STREAM_MAX) {
		*why = strdup("the range is above 16 MB");
		return -1;
	}
	covered = calloc(1, len + 1);
	for (unsigned int o = 0; !*why && (frames = outlets(run, o)); o++)
		*why = cover_outlet(run, frames, st, covered);
	while (missing < len && covered[missing])
		missing++;
	free(covered);
	if (*why)
		return -1;
	if (missing < len) {
		if (asprintf(why, "byte %u has not left", st->number + missing) < 0)
			*why = NULL;
		return 1;
	}
	use_up(run, &st->spec.flow, SEEN_DONE, true);
	return 0;
}

int seen_ack(struct run *run, const struct statement *st, char **why)
{
	struct frames *frames;
	bool any = false;
	uint32_t highest = 0;
	struct view v;

	for (unsigned int o = 0; (frames = outlets(run, o)); o++) {
		bool begun = false;

		for (unsigned int i = 0; i < frames->count; i++) {
			if (!of_flow(frames->list[i], &st->spec.flow, &v) ||
			    !of_life(&v, &st->spec.flow, &begun) || !(v.flags & TCP_ACK))
				continue;
			if (!any || (int32_t)(v.ack - highest) > 0)
				highest = v.ack;
			any = true;
		}
	}
	*why = NULL;
	if (any && highest == st->number) {
		use_up(run, &st->spec.flow, SEEN_ACK, false);
		return 0;
	}
	if (asprintf(why, any ? "the highest ack that left is %u" : "no ack has left",
		     highest) < 0)
		*why = NULL;
	return any && (int32_t)(highest - st->number) > 0 ? -1 : 1;
}
