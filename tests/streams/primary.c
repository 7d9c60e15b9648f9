// SPDX-License-Identifier: GPL-2.0-only
/* A scenario on a primary: each statement goes to the programs and to the models. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rules.h"
#include "scenario.h"

#define BUCKETS 64

/* All blocks of the size that this payload needs are in use. */
static bool blocks_are_out(const struct datapath *dp, unsigned int len)
{
	__u32 small = dp->config->small_blocks, used_small = 0, used_big = 0;

	for (__u32 i = 0; i < dp->max_frames; i++) {
		if (dp->frames[i].state == COLO_FRAME_FREE ||
		    dp->frames[i].data_off == COLO_NONE)
			continue;
		if (dp->frames[i].data_off >> 16 < COLO_SMALL_ENTRIES(small))
			used_small++;
		else
			used_big++;
	}
	return used_big == dp->config->big_blocks &&
	       (len > COLO_SMALL_SIZE || used_small == small);
}

/* A frame was dropped for want of a place: there has to have been none. */
static void check_unkept(struct scenario *s, const struct item *item, unsigned int free_before)
{
	const struct model *model = s->judge.model;
	const struct packet *p = item->packet;
	const struct model_flow *flow = item->flow;
	unsigned int len = p->class == PACKET_STREAM ? p->data_len : p->end - p->l4, held;

	if (!item->unkept)
		return;
	if (!flow || item->left) {
		fault(s, "rule 12: a frame was dropped that need not be kept");
		return;
	}
	held = s->at->verb == VERB_P ? flow->held.count + flow->acks.count + flow->old.count :
				       flow->waiting.count + flow->early.count;
	if (!flow->tracked || held >= model->queue_max || !free_before || flow->unjudged ||
	    blocks_are_out(s->dp, len))
		return;
	fault(s, "rule 12: a frame was dropped, and there was a place for it");
}

static unsigned int records_free(const struct scenario *s)
{
	return s->dp->max_frames - (s->now.frames_taken - s->now.frames_given);
}

static void put_p(struct scenario *s)
{
	struct frame *frame = build(s, true, s->run.test->offloads);
	unsigned int before = records_free(s);
	uint64_t unheld = s->now.p_unheld;
	struct packet *p;
	struct item *item;

	if (!frame)
		return;
	p = packet_of(s, frame);
	item = item_of(s, p);
	put(s, frame);
	read_counters(s);
	item->unkept = s->now.p_unheld != unheld;
	model_p(s->judge.model, item);
	ledger_p(s->ledger, p, item->unkept);
	check_unkept(s, item, before);
	frame_free(frame);
	look(s);
}

/* What S has sent is not what comes. */
static void alter(struct scenario *s, struct frame *frame)
{
	const struct spec *spec = &s->at->spec;

	if (spec->data_len > 8 && !frame->partial && !s->at->epoch_diff && once(s, SPOIL_S))
		frame->bytes[frame->len - 1 - spec->pad] ^= 1;
}

static void put_s(struct scenario *s)
{
	struct frame *frame = build(s, true, s->run.test->offloads);
	bool lost = s->run.drop, early = s->at->epoch_diff > 0;
	unsigned int before = records_free(s);
	uint64_t unheld = s->now.s_unheld, came = s->now.s_frames;
	struct packet *p;
	struct item *item;

	if (!frame)
		return;
	p = packet_of(s, frame);
	item = item_of(s, p);
	if (!lost)
		alter(s, frame);
	put(s, frame);
	frame_free(frame);
	s->said |= !s->at->epoch_diff;
	s->gap |= lost && !s->at->epoch_diff;
	s->next_said |= early;
	s->next_gap |= lost && early;
	if (lost) {
		look(s);
		return;
	}
	if (s->run.failed_over)
		wait_for(s, &s->now.link_foreign, ++s->foreign);
	else
		wait_for(s, &s->now.s_frames, came + 1);
	item->unkept = s->now.s_unheld != unheld && p->class != PACKET_MALFORMED &&
		       p->class != PACKET_TCP_FRAGMENT;
	if (s->at->epoch_diff >= 0 && !s->run.failed_over) {
		if (early)
			model_s_early(s->judge.model, item);
		else
			model_s(s->judge.model, item);
		if (s->spoil != SPOIL_DEAF)
			ledger_s(s->ledger, p, early, item->unkept);
		check_unkept(s, item, before);
	}
	look(s);
}

static void put_client(struct scenario *s)
{
	struct frame *frame = build(s, false, s->run.test->offloads);
	uint64_t came = s->now.in_frames, wired = s->now.wire_in;

	if (!frame)
		return;
	s->client = packet_of(s, frame);
	if (frame->partial)
		packet_finish(s->client);
	put(s, frame);
	frame_free(frame);
	if (s->run.failed_over)
		wait_for(s, &s->now.wire_in, wired + 1);
	else
		wait_for(s, &s->now.in_frames, came + 1);
	look(s);
}

/* ---- epochs ------------------------------------------------------------------------ */

static void commit(struct scenario *s)
{
	uint64_t committed = s->now.p_committed, held = model_held(s->judge.model);
	bool judged = !s->judge.model->unjudged;
	int err;

	s->outcome->requests += s->judge.model->request != COLO_REASON_NONE;
	s->outcome->commits++;
	err = colo_proxy.commit(&s->run, 0);
	if (err)
		fault(s, "the commit: %s", strerror(-err));
	model_commit(s->judge.model);
	if (s->spoil != SPOIL_FORGET)
		ledger_commit(s->ledger);
	s->said = s->next_said;
	s->gap = s->next_gap;
	s->next_said = s->next_gap = false;
	look(s);
	if (judged && s->now.p_committed - committed != held)
		fault(s, "rule 2: %" PRIu64 " frames left by the commit, not %" PRIu64,
		      (uint64_t)s->now.p_committed - committed, held);
	model_committed(s->judge.model);
}

static void failover(struct scenario *s)
{
	uint64_t failed_over = s->now.p_failed_over, held = model_held(s->judge.model);
	bool judged = !s->judge.model->unjudged;
	int err;

	err = colo_proxy.failover(&s->run);
	s->run.failed_over = true;
	if (err)
		fault(s, "the failover: %s", strerror(-err));
	model_failover(s->judge.model);
	ledger_failover(s->ledger);
	look(s);
	if (judged && s->now.p_failed_over - failed_over != held)
		fault(s, "rule 2: %" PRIu64 " frames left by the failover, not %" PRIu64,
		      (uint64_t)s->now.p_failed_over - failed_over, held);
	model_committed(s->judge.model);
}

void primary_step(struct scenario *s)
{
	switch (s->at->verb) {
	case VERB_P:
		put_p(s);
		break;
	case VERB_S:
		put_s(s);
		break;
	case VERB_C:
		put_client(s);
		break;
	case VERB_WAIT:
		let_pass(s);
		break;
	case VERB_COMMIT:
		commit(s);
		break;
	default:
		failover(s);
	}
}

static uint64_t setting(const struct testcase *test, const char *key, uint64_t otherwise)
{
	uint64_t number;

	for (const struct statement *st = test->first; st; st = st->next) {
		if (st->verb == VERB_SET && !strcmp(st->key, key) &&
		    !text_number(st->value, UINT32_MAX, &number))
			return number;
	}
	return otherwise;
}

void primary_begin(struct scenario *s)
{
	struct colo_config *config = s->dp->config;
	struct model *model;

	s->clock_ns = now_ns();
	s->judge.quiet = true;
	s->judge.model = model = model_new(BUCKETS);
	s->ledger = ledger_new();
	rules_set(s->run.test);
	model->reorder = config->reorder_ms;
	model->timeout = config->compare_timeout_ms;
	model->window = config->reorder_window;
	model->queue_max = config->queue_max;
	model->flows_max = config->max_flows;
	s->grace = config->flow_grace_ms;
	s->idle = config->flow_idle_ms;
	s->reclaims = setting(s->run.test, "flow_idle_ms", 0);
	config->reorder_ms *= SCALE;
	config->compare_timeout_ms *= SCALE;
	config->flow_grace_ms *= SCALE;
	config->flow_idle_ms *= SCALE;
	read_counters(s);
}

/* Two commits more: the first for all that is held, the next for S's of its epoch. */
void primary_end(struct scenario *s)
{
	char *why;

	for (unsigned int i = 0; i < 2 && !s->run.failed_over && !s->outcome->fault; i++)
		commit(s);
	if (s->outcome->fault)
		return;
	if (s->now.frames_taken != s->now.frames_given)
		fault(s, "%" PRIu64 " records are not given back in the end",
		      (uint64_t)(s->now.frames_taken - s->now.frames_given));
	why = ledger_end(s->ledger);
	if (why)
		fault(s, "%s", why);
	free(why);
	colo_proxy.end(&s->run);
	if (s->run.error)
		fault(s, "%s", s->run.error);
}
