// SPDX-License-Identifier: GPL-2.0-only
/*
 * One scenario on a primary: each statement goes to the programs and to the
 * models; what left, what is held and what was asked for has to be the same.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>

#include <bpf/bpf.h>

#include "datapath.h"
#include "link.h"
#include "oracle.h"
#include "release.h"
#include "rules.h"
#include "scenario.h"

#define BUCKETS    64
#define KEYS_MAX   64   /* flows of a scenario whose flows end by time */
#define SLICE_MS   10   /* of a wait, between two looks of the daemon */
#define BARRIER_MS 2000 /* for a frame to get through at all */
/*
 * A millisecond of a scenario is SCALE of them for the programs, so that what a
 * scenario takes itself is no time. It passes by making what waits older.
 */
#define SCALE 100

const char *const spoils[SPOILS] = {
	[SPOIL_NOTHING] = "nothing", [SPOIL_BYTE] = "byte",       [SPOIL_LOSE] = "lose",
	[SPOIL_DOUBLE] = "double",   [SPOIL_SWAP] = "swap",       [SPOIL_LATE] = "late",
	[SPOIL_ACK] = "ack",         [SPOIL_CSUM] = "csum",       [SPOIL_REQUEST] = "request",
	[SPOIL_SILENT] = "silent",   [SPOIL_REASON] = "reason",   [SPOIL_HELD] = "held",
	[SPOIL_LEAK] = "leak",       [SPOIL_S] = "s",             [SPOIL_DEAF] = "deaf",
	[SPOIL_FORGET] = "forget",
};

void fault(struct scenario *s, const char *format, ...)
{
	va_list args;

	if (s->outcome->fault)
		return;
	va_start(args, format);
	if (vasprintf(&s->outcome->fault, format, args) < 0)
		abort();
	va_end(args);
	s->outcome->line = s->at ? s->at->line : 0;
}

/* ---- what is kept until the end --------------------------------------------- */

static void *remember(struct scenario *s, void *memory)
{
	struct kept *kept = malloc(sizeof(*kept));

	kept->memory = memory;
	kept->next = s->kept;
	s->kept = kept;
	return memory;
}

static struct packet *packet_of(struct scenario *s, const struct frame *frame)
{
	struct packet *p = remember(s, calloc(1, sizeof(*p)));

	p->len = frame->len;
	p->bytes = remember(s, malloc(frame->len + 1));
	memcpy(p->bytes, frame->bytes, frame->len);
	p->number = s->at->line;
	packet_dissect(p);
	if (p->why)
		remember(s, p->why);
	return p;
}

static struct item *item_of(struct scenario *s, const struct packet *p)
{
	struct item *item = remember(s, calloc(1, sizeof(*item)));

	item->packet = p;
	return item;
}

/* ---- to the programs ---------------------------------------------------------- */

/* An LLDP frame, which passes; when it has left, all before it has. */
static void put_barrier(struct scenario *s)
{
	uint8_t bytes[60] = {1, 0x80, 0xc2, 0, 0, 14, 2, 0, 0, 0, 0, 0x10, 0x88, 0xcc, 'b', 'a'};
	struct frame frame = {.bytes = bytes, .len = sizeof(bytes)};

	s->barriers++;
	memcpy(bytes + 20, &s->barriers, sizeof(s->barriers));
	if (colo_proxy.put(&s->run, VERB_P, 0, &frame))
		fault(s, "the guest's device takes no frame");
}

static bool is_barrier(const struct frame *frame)
{
	return frame->len == 60 && frame->bytes[12] == 0x88 && frame->bytes[13] == 0xcc &&
	       frame->bytes[14] == 'b';
}

static void read_counters(struct scenario *s)
{
	datapath_counters(s->dp, &s->now);
}

/* What came from the link or a client is done on another way than the barrier. */
static void wait_for(struct scenario *s, const __u64 *counter, uint64_t want)
{
	uint64_t until = now_ns() + BARRIER_MS * NSEC_PER_MSEC;

	for (read_counters(s); *counter < want; read_counters(s)) {
		if (now_ns() < until)
			continue;
		fault(s, "a frame has not reached the program");
		return;
	}
}

/* All that the last event has brought about is out, and read. */
static void settle(struct scenario *s)
{
	struct frames *out = &s->run.out[OUTLET_PORT];
	uint64_t until = now_ns() + BARRIER_MS * NSEC_PER_MSEC;
	bool back = false;

	colo_proxy.poll(&s->run, 0);
	put_barrier(s);
	while (!back && !s->outcome->fault) {
		colo_proxy.poll(&s->run, 0);
		for (unsigned int i = out->count; i-- > 0 && !back;)
			back = is_barrier(out->list[i]) &&
			       !memcmp(out->list[i]->bytes + 20, &s->barriers,
				       sizeof(s->barriers));
		if (!back && now_ns() > until)
			fault(s, "nothing leaves any more, not even LLDP");
	}
	read_counters(s);
	if (s->run.error)
		fault(s, "%s", s->run.error);
}

/* ---- what left ------------------------------------------------------------------ */

static bool once(struct scenario *s, enum spoil spoil)
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

	sum = (uint16_t)~(csum[0] << 8 | csum[1]);
	sum += (uint16_t)~(ack[0] << 8 | ack[1]);
	ack[0] ^= 0x10;
	sum += ack[0] << 8 | ack[1];
	sum = sum_fold(sum);
	csum[0] = ~sum >> 8;
	csum[1] = ~sum;
}

static void judge_one(struct scenario *s, struct frame *frame)
{
	struct packet out = {.len = frame->len, .bytes = frame->bytes};
	char *why;

	packet_dissect(&out);
	if (out.class == PACKET_STREAM && out.flags & TCP_ACK && once(s, SPOIL_ACK))
		raise_ack(frame, &out);
	if (out.class == PACKET_STREAM && once(s, SPOIL_CSUM))
		frame->bytes[out.l4 + 16] ^= 0x55;
	free(out.why);
	memset(&out, 0, sizeof(out));
	out.len = frame->len;
	out.bytes = frame->bytes;
	packet_dissect(&out);
	why = ledger_out(s->ledger, &out);
	free(out.why);
	if (why)
		fault(s, "%s", why);
	free(why);
	if (s->spoil != SPOIL_DEAF && s->spoil != SPOIL_FORGET)
		judge_frame(&s->judge, frame);
	s->outcome->left++;
}

static void spoil_order(struct scenario *s, struct frames *out)
{
	for (unsigned int i = 0; s->spoil == SPOIL_SWAP && i + 1 < out->count; i++) {
		struct frame *first = out->list[i];

		if (s->spoilt || is_barrier(first) || is_barrier(out->list[i + 1]))
			continue;
		out->list[i] = out->list[i + 1];
		out->list[i + 1] = first;
		s->spoilt = true;
	}
}

/* The frame of the step before this one that was to be seen only now. */
static void judge_late(struct scenario *s)
{
	struct frame *late = s->late;

	s->late = NULL;
	if (late)
		judge_one(s, late);
	frame_free(late);
}

static void judge_port(struct scenario *s)
{
	struct frames *out = &s->run.out[OUTLET_PORT];

	spoil_order(s, out);
	judge_late(s);
	for (unsigned int i = 0; i < out->count; i++) {
		struct frame *frame = out->list[i];

		if (is_barrier(frame) || once(s, SPOIL_LOSE))
			continue;
		if (once(s, SPOIL_LATE)) {
			s->late = frame_new(frame->bytes, frame->len);
			continue;
		}
		if (once(s, SPOIL_BYTE))
			frame->bytes[frame->len - 1] ^= 1;
		if (once(s, SPOIL_DOUBLE))
			judge_one(s, frame);
		judge_one(s, frame);
	}
}

/* The clients' frames go to the guest and over the link, once, and nothing else does. */
static void judge_others(struct scenario *s)
{
	for (enum outlet o = OUTLET_GUEST; o < OUTLETS; o++) {
		struct frames *out = &s->run.out[o];
		const struct frame *want = o == OUTLET_GUEST || !s->run.failed_over ?
						   s->client :
						   NULL;

		if (out->count != (want ? 1 : 0))
			fault(s, "%u frames went to the %s, not %u", out->count,
			      o == OUTLET_GUEST ? "guest" : "link", want ? 1 : 0);
		else if (want && out->list[0]->fault)
			fault(s, "a client's frame: %s", out->list[0]->fault);
		else if (want && (out->list[0]->len != want->len ||
				  memcmp(out->list[0]->bytes, want->bytes, want->len)))
			fault(s, "a client's frame has changed on its way");
	}
	frame_free(s->client);
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

static void count_records(const struct datapath *dp, unsigned int *of_p, unsigned int *all)
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

static void look(struct scenario *s)
{
	settle(s);
	if (s->outcome->fault)
		return;
	if (!s->run.failed_over)
		s->barriers_in = s->barriers;
	judge_port(s);
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

/* ---- frames --------------------------------------------------------------------- */

static struct frame *build(struct scenario *s, bool from_guest, bool offloads)
{
	char *error = NULL;
	struct frame *frame = build_frame(&s->at->spec, from_guest, offloads, &error);

	if (!frame)
		fault(s, "%s", error ? error : "no frame");
	free(error);
	return frame;
}

static void put(struct scenario *s, struct frame *frame)
{
	int err = colo_proxy.put(&s->run, s->at->verb, s->at->epoch_diff, frame);

	if (err)
		fault(s, "the frame cannot be put in: %s", strerror(-err));
	s->outcome->frames++;
}

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
	held = s->at->verb == VERB_P ?
		       flow->held.count + flow->acks.count + flow->old.count :
		       flow->waiting.count + flow->early.count;
	if (!flow->tracked || held >= model->queue_max || !free_before ||
	    flow->unjudged || blocks_are_out(s->dp, len))
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
	s->client = build(s, false, false);
	put(s, frame);
	frame_free(frame);
	if (s->run.failed_over)
		wait_for(s, &s->now.wire_in, wired + 1);
	else
		wait_for(s, &s->now.in_frames, came + 1);
	look(s);
}

/* ---- time -------------------------------------------------------------------------- */

static void age_flows(struct scenario *s, uint64_t ns)
{
	struct colo_flow_key keys[KEYS_MAX];
	int fd = s->dp->map_fd[MAP_FLOWS], count = 0;
	struct colo_flow flow;

	/* An update moves a flow: first all keys. */
	while (count < KEYS_MAX &&
	       !bpf_map_get_next_key(fd, count ? &keys[count - 1] : NULL, &keys[count]))
		count++;
	while (count--) {
		if (bpf_map_lookup_elem(fd, &keys[count], &flow))
			continue;
		flow.seen_ns -= ns;
		bpf_map_update_elem(fd, &keys[count], &flow, BPF_EXIST);
	}
}

/* What waits is older now. */
static void age(struct scenario *s, unsigned int ms)
{
	uint64_t ns = (uint64_t)ms * SCALE * NSEC_PER_MSEC;

	for (__u32 i = 0; i < s->dp->max_frames; i++) {
		volatile struct colo_frame *frame = &s->dp->frames[i];

		if (frame->state == COLO_FRAME_FREE)
			continue;
		if (frame->held_ns <= ns)
			fault(s, "this machine has not been up for %u s", ms * SCALE / 1000);
		frame->held_ns -= ns;
	}
	for (__u32 i = 0; i < s->dp->watch.count; i++)
		s->dp->watch.flow[i].due_ns -= ns;
	if (s->reclaims)
		age_flows(s, ns);
}

/* The other side says what it has sent, and the daemon looks long after. */
static void compare_counts(struct scenario *s)
{
	uint64_t told = s->now.control_received;

	if (s->said) {
		colo_say(&s->run);
		wait_for(s, &s->now.control_received, told + 1);
	}
	link_tick(s->dp, now_ns());
	if (s->dp->link.pending_ns)
		s->dp->link.pending_ns = 1;
	link_tick(s->dp, now_ns());
	if (s->gap)
		model_request(s->judge.model, COLO_REASON_LINK_GAP);
}

static struct colo_flow_key key_of(const struct packet_key *k)
{
	struct colo_flow_key key = {
		.sport = htons(k->sport),
		.dport = htons(k->dport),
		.vlan = {htons(k->vlan[0]), htons(k->vlan[1])},
		.ethertype = htons(k->ethertype),
		.proto = k->proto,
		.fragment = k->fragment,
	};

	memcpy(key.saddr, k->src, sizeof(key.saddr));
	memcpy(key.daddr, k->dst, sizeof(key.daddr));
	return key;
}

/* Rule 13: closed and idle flows go after their time, those that hold frames stay. */
static void check_reclaimed(struct scenario *s)
{
	struct model *model = s->judge.model;
	struct colo_flow value;

	for (struct model_flow *f = model->flows; f; f = f->next_flow) {
		struct colo_flow_key key = key_of(&f->key);
		uint64_t limit = f->closed ? s->grace : s->idle;
		bool busy = f->held.count || f->acks.count || f->old.count || f->early.count;
		bool old = f->seen + limit <= model->now;

		if (!f->tracked)
			continue;
		if (!bpf_map_lookup_elem(s->dp->map_fd[MAP_FLOWS], &key, &value)) {
			if (old && !busy && !f->waiting.count && !f->unjudged)
				fault(s, "rule 13: an idle flow is not reclaimed");
			continue;
		}
		if (busy || !old)
			fault(s, "rule 13: a flow is gone that %s",
			      busy ? "holds frames" : "is not idle");
		model_forget(model, f);
	}
}

static void let_pass(struct scenario *s)
{
	unsigned int left = s->at->number;
	__u64 next;

	if (!s->run.failed_over)
		compare_counts(s);
	while (left && !s->outcome->fault) {
		unsigned int ms = left < SLICE_MS ? left : SLICE_MS;

		colo_proxy.poll(&s->run, 0);
		age(s, ms);
		model_pass(s->judge.model, ms);
		s->dp->watch.scan_ns = 0;
		if (s->reclaims)
			s->dp->watch.sweep_ns = 0, s->dp->watch.cursor_valid = false;
		release_tick(s->dp, now_ns(), &next);
		if (s->reclaims)
			check_reclaimed(s);
		look(s);
		left -= ms;
	}
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

static void step(struct scenario *s)
{
	if (verbose)
		printf("# %s\n", s->at->text);
	s->outcome->steps++;
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
	case VERB_FAILOVER:
		failover(s);
		break;
	case VERB_DROP:
		s->run.drop += s->at->number;
		break;
	default:
		s->outcome->steps--;
	}
}

/* ---- all of it ----------------------------------------------------------------------- */

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

static int begin(struct scenario *s)
{
	struct testcase *test = (struct testcase *)s->run.test;
	struct colo_config *config;
	struct model *model;

	s->run.proxy = &colo_proxy;
	s->run.replay = true;
	s->run.epoch = 1;
	s->judge.quiet = true;
	s->judge.model = model = model_new(BUCKETS);
	s->ledger = ledger_new();
	rules_set(test);
	if (colo_proxy.begin(&s->run)) {
		fault(s, "%s", s->run.error);
		return -1;
	}
	s->dp = colo_datapath();
	config = s->dp->config;
	model->reorder = config->reorder_ms;
	model->timeout = config->compare_timeout_ms;
	model->window = config->reorder_window;
	model->queue_max = config->queue_max;
	model->flows_max = config->max_flows;
	s->grace = config->flow_grace_ms;
	s->idle = config->flow_idle_ms;
	s->reclaims = setting(test, "flow_idle_ms", 0);
	config->reorder_ms *= SCALE;
	config->compare_timeout_ms *= SCALE;
	config->flow_grace_ms *= SCALE;
	config->flow_idle_ms *= SCALE;
	read_counters(s);
	return 0;
}

/* Two commits more: the first for all that is held, the next for S's of its epoch. */
static void end(struct scenario *s)
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

static void clear(struct scenario *s)
{
	for (enum outlet o = 0; o < OUTLETS; o++)
		frames_clear(&s->run.out[o]);
	while (s->kept) {
		struct kept *kept = s->kept;

		s->kept = kept->next;
		free(kept->memory);
		free(kept);
	}
	frame_free(s->client);
	frame_free(s->late);
	free(s->run.error);
	free(s->judge.first);
	model_free(s->judge.model);
	ledger_free(s->ledger);
	rules_set(NULL);
}

static void run_primary(const struct testcase *test, enum spoil spoil, struct outcome *outcome)
{
	struct scenario *s = calloc(1, sizeof(*s));

	s->run.test = test;
	s->outcome = outcome;
	s->spoil = spoil;
	if (!begin(s)) {
		for (s->at = test->first; s->at && !outcome->fault && !stopping();
		     s->at = s->at->next)
			step(s);
		if (!outcome->fault && !stopping())
			end(s);
	}
	clear(s);
	free(s);
}

void scenario_case(const struct testcase *test, enum spoil spoil, struct outcome *outcome)
{
	memset(outcome, 0, sizeof(*outcome));
	if (test->error)
		outcome->fault = strdup(test->error);
	else
		run_primary(test, spoil, outcome);
}

void scenario_run(const char *text, enum spoil spoil, struct outcome *outcome)
{
	FILE *from = fmemopen((void *)text, strlen(text), "r");
	struct testcase *test = parse_stream(from, "scenario");

	fclose(from);
	scenario_case(test, spoil, outcome);
	parse_free(test);
}
