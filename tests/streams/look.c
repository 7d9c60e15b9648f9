// SPDX-License-Identifier: GPL-2.0-only
/*
 * After each step on a primary: what has left, what is held and what was asked
 * for against the models, each frame of P in the counters.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario.h"

const char *const spoils[SPOILS] = {
	[SPOIL_NOTHING] = "nothing", [SPOIL_BYTE] = "byte",     [SPOIL_LOSE] = "lose",
	[SPOIL_DOUBLE] = "double",   [SPOIL_SWAP] = "swap",     [SPOIL_LATE] = "late",
	[SPOIL_ACK] = "ack",         [SPOIL_CSUM] = "csum",     [SPOIL_REQUEST] = "request",
	[SPOIL_SILENT] = "silent",   [SPOIL_REASON] = "reason", [SPOIL_HELD] = "held",
	[SPOIL_LEAK] = "leak",       [SPOIL_S] = "s",           [SPOIL_DEAF] = "deaf",
	[SPOIL_FORGET] = "forget",
};

/* ---- what left ------------------------------------------------------------------ */

bool once(struct scenario *s, enum spoil spoil)
{
	if (s->spoil != spoil || s->spoilt)
		return false;
	s->spoilt = true;
	return true;
}

/* Higher than anyone has said, and the checksum goes with it. */
static void raise_ack(struct frame *frame, const struct packet *p)
{
	uint8_t *ack = frame->bytes + p->l4 + 8, *csum = frame->bytes + p->l4 + 16;
	uint32_t sum;

	sum = (uint16_t) ~(csum[0] << 8 | csum[1]);
	sum += (uint16_t) ~(ack[0] << 8 | ack[1]);
	ack[0] ^= 0x10;
	sum += ack[0] << 8 | ack[1];
	sum = sum_fold(sum);
	csum[0] = ~sum >> 8;
	csum[1] = ~sum;
}

/* Falsifies what it is told to falsify, and hands the frame on. */
static void hand_on(struct scenario *s, struct frame *frame,
		    void (*judge)(struct scenario *s, struct frame *frame))
{
	struct packet out = {.len = frame->len, .bytes = frame->bytes};

	packet_dissect(&out);
	free(out.why);
	if (out.class == PACKET_STREAM && out.flags & TCP_ACK && once(s, SPOIL_ACK))
		raise_ack(frame, &out);
	if (out.class == PACKET_STREAM && once(s, SPOIL_CSUM))
		frame->bytes[out.l4 + 16] ^= 0x55;
	if (once(s, SPOIL_BYTE))
		frame->bytes[frame->len - 1] ^= 1;
	if (once(s, SPOIL_DOUBLE))
		judge(s, frame);
	judge(s, frame);
	s->outcome->left++;
}

static void swap(struct scenario *s, struct frames *out)
{
	for (unsigned int i = 0; s->spoil == SPOIL_SWAP && i + 1 < out->count; i++) {
		struct frame *first = out->list[i], *second = out->list[i + 1];

		if (s->spoilt || is_barrier(first) || is_barrier(second) ||
		    (first->len == second->len &&
		     !memcmp(first->bytes, second->bytes, first->len)))
			continue;
		out->list[i] = second;
		out->list[i + 1] = first;
		s->spoilt = true;
	}
}

void judge_outlet(struct scenario *s, enum outlet outlet,
		  void (*judge)(struct scenario *s, struct frame *frame))
{
	struct frames *out = &s->run.out[outlet];
	struct frame *late = s->late[outlet];

	swap(s, out);
	s->late[outlet] = NULL;
	if (late)
		hand_on(s, late, judge);
	frame_free(late);
	for (unsigned int i = 0; i < out->count; i++) {
		struct frame *frame = out->list[i];

		if (is_barrier(frame) || once(s, SPOIL_LOSE))
			continue;
		if (once(s, SPOIL_LATE))
			s->late[outlet] = frame_new(frame->bytes, frame->len);
		else
			hand_on(s, frame, judge);
	}
}

static void judge_one(struct scenario *s, struct frame *frame)
{
	struct packet out = {.len = frame->len, .bytes = frame->bytes};
	char *why;

	packet_dissect(&out);
	why = ledger_out(s->ledger, &out);
	free(out.why);
	if (why)
		fault(s, "%s", why);
	free(why);
	if (s->spoil != SPOIL_DEAF && s->spoil != SPOIL_FORGET)
		judge_frame(&s->judge, frame);
}

/* A client's frame, or all of its segments, and nothing else. */
static void judge_client(struct scenario *s, enum outlet outlet, const struct packet *want)
{
	const char *where = outlet == OUTLET_GUEST ? "to the guest" : "over the link";
	struct frames *frames = &s->run.out[outlet];
	uint32_t done = want ? want->seq : 0;
	unsigned int i;

	for (i = 0; i < frames->count && want; i++) {
		struct frame *frame = frames->list[i];
		struct packet out = {.len = frame->len, .bytes = frame->bytes};

		packet_dissect(&out);
		free(out.why);
		if (frame->fault)
			fault(s, "a client's frame: %s", frame->fault);
		if (!packet_is_of(want, &out, done, &done))
			fault(s, "a client's frame has changed on its way %s", where);
		if (done == want->next)
			want = NULL;
	}
	if (want)
		fault(s, "a client's frame has not gone %s", where);
	if (i < frames->count)
		fault(s, "a frame too many has gone %s", where);
}

static void judge_others(struct scenario *s)
{
	judge_client(s, OUTLET_GUEST, s->client);
	judge_client(s, OUTLET_LINK, s->run.failed_over ? NULL : s->client);
	s->client = NULL;
}

/* ---- what the proxy says ----------------------------------------------------------- */

static const char *name_of(int reason)
{
	return reason == COLO_REASON_NONE ? "none" : reason_names[reason];
}

/* Rule 11: one request an epoch, with the first reason, as soon as there is one. */
static void judge_request(struct scenario *s)
{
	const struct model *model = s->judge.model;
	unsigned int count;
	int reason;

	count = colo_proxy.requests(&s->run, &reason);
	if (!count && once(s, SPOIL_REQUEST))
		count = 1, reason = COLO_REASON_TIMEOUT;
	if (count && once(s, SPOIL_SILENT))
		count = 0, reason = COLO_REASON_NONE;
	if (count && once(s, SPOIL_REASON))
		reason = reason == COLO_REASON_TIMEOUT ? COLO_REASON_FLAGS :
							 COLO_REASON_TIMEOUT;
	if (count > 1)
		fault(s, "rule 11: %u requests in an epoch", count);
	if (model->unjudged)
		return;
	if (reason != model->request && !(model->or_request & 1U << reason))
		fault(s, "rule 11: a request for %s, expected %s", name_of(reason),
		      name_of(model->request));
	else if (!!count != (model->request != COLO_REASON_NONE))
		fault(s, "rule 11: %s request", count ? "a" : "no");
}

void count_records(const struct datapath *dp, unsigned int *of_p, unsigned int *all)
{
	*of_p = *all = 0;
	for (__u32 i = 0; i < dp->max_frames; i++) {
		enum colo_frame_state state = dp->frames[i].state;

		*of_p += state == COLO_FRAME_P;
		*all += state != COLO_FRAME_FREE;
	}
}

/* Rule 2: each frame of P has one end, is held, or has left at once. */
static void judge_counters(struct scenario *s)
{
	const struct colo_counters *c = &s->now;
	const struct model *model = s->judge.model;
	unsigned int of_p, all;
	int64_t held, taken, came;

	held = c->p_held - c->p_matched - c->p_committed - c->p_failed_over - c->p_discarded;
	taken = c->frames_taken - c->frames_given;
	came = c->p_policy_pass + c->p_policy_drop + c->p_passthrough + c->p_covered +
	       c->p_at_once + c->p_held + c->p_unheld;
	count_records(s->dp, &of_p, &all);
	held -= once(s, SPOIL_HELD);
	taken += once(s, SPOIL_LEAK);
	if (held != of_p)
		fault(s, "rule 2: %" PRId64 " frames are held by the counters, %u records",
		      held, of_p);
	if (taken != all)
		fault(s, "%" PRId64 " records are in use by the counters, %u are not free",
		      taken, all);
	if (came != (int64_t)c->p_frames)
		fault(s, "rule 2: %" PRIu64 " frames of P came, %" PRId64 " have a verdict",
		      (uint64_t)c->p_frames, came);
	if (c->port_failed + c->lock_failed + c->events_lost + c->link_failed)
		fault(s, "%s has failed",
		      c->port_failed ? "a send on the port" :
		      c->lock_failed ? "a lock" :
		      c->events_lost ? "an event" :
				       "a send on the link");
	if (c->flows_created - c->flows_closed != model->tracked)
		fault(s, "%" PRIu64 " flows are there, not %u",
		      (uint64_t)(c->flows_created - c->flows_closed), model->tracked);
	if (!model->unjudged && held != model_held(model))
		fault(s, "%" PRId64 " frames are held, not %u", held, model_held(model));
	if (c->p_policy_pass + c->p_passthrough != model->passed + s->barriers_in)
		fault(s, "rule 10: %" PRIu64 " frames passed uncompared, not %" PRIu64,
		      (uint64_t)(c->p_policy_pass + c->p_passthrough),
		      model->passed + s->barriers_in);
	if (c->p_policy_drop != model->dropped)
		fault(s, "rule 10: frames were dropped by policy, or not");
}

void look(struct scenario *s)
{
	settle(s);
	if (s->outcome->fault)
		return;
	if (!s->run.failed_over)
		s->barriers_in = s->barriers;
	judge_outlet(s, OUTLET_PORT, judge_one);
	judge_others(s);
	if (s->spoil != SPOIL_DEAF && s->spoil != SPOIL_FORGET)
		judge_due(&s->judge);
	if (s->judge.first)
		fault(s, "%s", s->judge.first);
	if (s->judge.model->wrong)
		fault(s, "rule 12: %s", s->judge.model->wrong);
	judge_request(s);
	judge_counters(s);
	for (enum outlet o = 0; o < OUTLETS; o++)
		frames_clear(&s->run.out[o]);
}
