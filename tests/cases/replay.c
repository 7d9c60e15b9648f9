// SPDX-License-Identifier: GPL-2.0-only
/*
 * Replays captures: each frame as the guest's output, the secondary's side
 * equal, cut differently, reordered, or with a byte flipped. After every frame
 * the engine's verdict is held against the model's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "datapath.h"
#include "judge.h"
#include "release.h"
#include "replay.h"
#include "vary.h"

#define PORTION     4096 /* frames between two commits */
#define PORTION_BIG 400  /* ... of these larger than a small block of the pool */
#define BIG         2048
#define FLIPS_MAX   64  /* flows of a run that have a byte flipped */
#define WAIT_MS     500 /* for what must leave */
#define BUCKETS     65536
#define QUIET_EVERY 64 /* events between two looks at what should not be there */

const char *const spoil_names[SPOILS] = {
	[SPOIL_NOTHING] = "nothing", [SPOIL_BYTE] = "byte",     [SPOIL_LOSE] = "lose",
	[SPOIL_DOUBLE] = "double",   [SPOIL_EXPECT] = "expect", [SPOIL_FLIP] = "flip",
};

/* What became of a frame of the file in the first run. */
struct fate {
	bool left;
	bool shown;
	uint32_t from, to; /* TCP: the units that S's own frame has vouched for */
	bool own;          /* S's own frame let it go: a flip of it shows */
	bool last;         /* TCP: nothing behind it was vouched for */
};

/* A flip while nothing may leave past it. */
struct watch {
	const struct flip *flip;
	struct packet_key key;
	bool stream, active;
	bool unsure; /* what is behind it may have been vouched for in another way */
	uint32_t at; /* TCP */
	unsigned int number;
};

struct replay {
	const struct replay_options *options;
	const struct capture *capture;
	enum variant variant;
	struct run run;
	struct datapath *dp;
	struct judge judge;
	struct colo_counters base;
	struct fate *fates;
	uint64_t seed;
	uint64_t p_put, s_put;                   /* frames, of this run */
	unsigned int left, held, unfit, skipped; /* frames of P, of this run */
	struct flip flips[FLIPS_MAX];
	struct watch watches[FLIPS_MAX];
	unsigned int flip_count, past; /* bytes that left past one */
	unsigned int spoiled;
	unsigned int portions;
	bool failed;
};

static struct {
	unsigned int number, passed, failed;
	unsigned long frames;
} totals;

static volatile sig_atomic_t *stop;

/* ---- the proxy ---------------------------------------------------------- */

#define SETTING(k, v)                                  \
	{                                              \
		.verb = VERB_SET, .key = k, .value = v \
	}

/* Nothing ends by time; tables that hold a portion of both sides. */
static struct statement settings[] = {
	SETTING("compare_timeout_ms", "86400000"),
	SETTING("reorder_ms", "86400000"),
	SETTING("reorder_window", "64"),
	SETTING("queue_max", "16384"),
	SETTING("flow_grace_ms", "86400000"),
	SETTING("flow_idle_ms", "86400000"),
	SETTING("max_flows", "262144"),
	SETTING("max_frames", "32768"),
	SETTING("small_blocks", "24576"),
	SETTING("big_blocks", "1280"),
};

static struct testcase the_case = {.title = "pcap", .side = SIDE_PRIMARY, .offloads = true};

static void make_case(void)
{
	unsigned int count = sizeof(settings) / sizeof(settings[0]);

	for (unsigned int i = 0; i + 1 < count; i++)
		settings[i].next = &settings[i + 1];
	the_case.first = settings;
	wire_mtu = REPLAY_MTU;
}

static uint64_t came(struct replay *r, bool of_p)
{
	struct colo_counters now;

	datapath_counters(r->dp, &now);
	return of_p ? now.p_frames : now.s_frames;
}

/* A frame goes in; back when its program has run. */
static int put(struct replay *r, const struct packet *p, bool of_p)
{
	struct frame frame = {
		.bytes = p->bytes,
		.len = p->len,
		.gso = p->gso,
		.partial = p->gso,
		.l4_off = p->l4,
	};
	uint64_t want = of_p ? ++r->p_put : ++r->s_put, until;
	int err = colo_proxy.put(&r->run, of_p ? VERB_P : VERB_S, 0, &frame);

	if (err) {
		judge_fail(&r->judge, "frame %u of %s cannot be put in: %s", p->number,
			   of_p ? "P" : "S", strerror(-err));
		of_p ? r->p_put-- : r->s_put--;
		return err;
	}
	until = now_ns() + WAIT_MS * NSEC_PER_MSEC;
	while (came(r, of_p) < want) {
		if (now_ns() < until)
			continue;
		judge_fail(&r->judge, "frame %u of %s has not reached the program", p->number,
			   of_p ? "P" : "S");
		of_p ? r->p_put-- : r->s_put--;
		return -EIO;
	}
	return 0;
}

/* ---- what left ---------------------------------------------------------- */

/* Counts what leaves past a flipped byte, by the frame alone. */
static void watch_flips(struct replay *r, const struct frame *frame)
{
	struct packet out = {.len = frame->len, .bytes = frame->bytes};

	packet_dissect(&out);
	for (unsigned int i = 0; i < r->flip_count; i++) {
		const struct watch *w = &r->watches[i];
		const struct model_flow *flow;

		if (!w->active || w->unsure || memcmp(&w->key, &out.key, sizeof(out.key)))
			continue;
		flow = model_flow(r->judge.model, &w->key, false);
		if (flow && flow->unjudged)
			continue;
		/* What is before it in a flow of datagrams has left before it came. */
		if (!w->stream)
			r->past += out.end - out.l4;
		if (!w->stream || !out.data_len || seq_diff(out.next, w->at) <= 0)
			continue;
		r->past += seq_diff(w->at, out.seq) > 0 ? out.next - w->at : out.data_len;
	}
	free(out.why);
}

static void take_frame(struct replay *r, struct frame *frame)
{
	enum spoil spoil = r->spoiled ? SPOIL_NOTHING : r->options->spoil;

	if (r->flip_count)
		watch_flips(r, frame);
	if (spoil == SPOIL_BYTE)
		frame->bytes[frame->len - 1] ^= 1;
	if (spoil == SPOIL_DOUBLE)
		judge_frame(&r->judge, frame);
	r->spoiled++;
	if (spoil != SPOIL_LOSE)
		judge_frame(&r->judge, frame);
}

static bool take_frames(struct replay *r)
{
	struct frames *out = &r->run.out[OUTLET_PORT];
	bool any;

	colo_proxy.poll(&r->run, 0);
	any = out->count;
	for (unsigned int i = 0; i < out->count; i++)
		take_frame(r, out->list[i]);
	for (enum outlet o = 0; o < OUTLETS; o++)
		frames_clear(&r->run.out[o]);
	return any;
}

/* All that the last event let go has to leave; nothing else may. */
static void look(struct replay *r)
{
	uint64_t until = 0;

	take_frames(r);
	while (!judge_is_done(&r->judge) && !*stop) {
		if (take_frames(r) || !until)
			until = now_ns() + WAIT_MS * NSEC_PER_MSEC;
		if (now_ns() > until)
			break;
	}
	judge_due(&r->judge);
}

/* ---- a portion ---------------------------------------------------------- */

static struct fate *fate_of(struct replay *r, const struct packet *p)
{
	return &r->fates[p->number - 1];
}

static void begin_watch(struct replay *r, const struct packet *p)
{
	for (unsigned int i = 0; i < r->flip_count; i++) {
		struct watch *w = &r->watches[i];

		if (r->flips[i].number == p->number)
			w->active = true;
		/* A new life of the tuple is another stream. */
		else if (w->active && p->flags & TCP_SYN &&
			 !memcmp(&w->key, &p->key, sizeof(p->key)))
			w->active = false;
	}
}

static void spoil_expectation(struct replay *r, struct item *item)
{
	struct model_flow *flow = item->flow;

	if (r->options->spoil != SPOIL_EXPECT || r->spoiled || !r->judge.model->due.count)
		return;
	r->spoiled = 1;
	r->judge.model->due.count = 0;
	flow->open.count = 0;
}

/* Of what P's frame waits with: behind it is what was vouched for before. */
static uint32_t new_units_end(const struct item *item)
{
	const struct model_flow *flow = item->flow;
	uint32_t end = item->packet->next;

	if (flow->has_span && seq_diff(item->matched, flow->from) < 0 &&
	    seq_diff(flow->from, end) < 0)
		end = flow->from;
	return end;
}

static void event(struct replay *r, const struct timed *timed, struct item *items,
		  struct item *item)
{
	struct item *p = &items[timed->from];
	bool left = p->left, last = false;
	uint32_t matched = p->matched, to = 0;
	struct fate *fate;

	item->packet = timed->packet;
	if (verbose)
		printf("# %s frame %u\n", timed->of_p ? "P" : "S", timed->packet->number);
	if (p->flow) {
		to = new_units_end(p);
		last = !p->flow->has_span || p->flow->to == matched;
	}
	if (timed->of_p)
		begin_watch(r, timed->packet);
	if (put(r, timed->packet, timed->of_p))
		return;
	if (timed->of_p)
		model_p(r->judge.model, item);
	else
		model_s(r->judge.model, item);
	spoil_expectation(r, item);
	look(r);
	if (r->variant != VARY_S_AFTER || timed->of_p || left || !p->left)
		return;
	fate = fate_of(r, timed->packet);
	fate->own = p->lane == LANE_DATA && !p->flow->unjudged;
	fate->from = matched;
	fate->to = to;
	fate->last = last;
}

/* What did not leave, with the rule and the reason. */
static void show_held(struct replay *r, struct item *item, const struct packet *p)
{
	char flow[256], why[256];
	struct fate *fate = fate_of(r, p);
	const char *to_commit = "";

	if (p->class == PACKET_UNFIT)
		snprintf(why, sizeof(why), "%s; not replayed", p->why);
	else
		model_why(item, why, sizeof(why));
	if (p->class == PACKET_MALFORMED)
		to_commit = ": malformed; held to the commit, checkpoint asked for";
	else if (p->class == PACKET_TCP_FRAGMENT)
		to_commit = ", checkpoint asked for";
	packet_print_flow(flow, sizeof(flow), p);
	/* Once for all runs, and where a run differs from the first. */
	if (r->variant == VARY_S_AFTER || (r->variant < VARY_FLIP_AFTER && fate->left))
		printf("# frame %u: %s: %s%s\n", p->number, flow, why, to_commit);
	else if (verbose)
		printf("# frame %u: %s: %s%s\n", p->number, flow, why, to_commit);
}

static void note_fates(struct replay *r, struct packet *packets, unsigned int count,
		       struct item *items)
{
	for (unsigned int i = 0; i < count; i++) {
		struct packet *p = &packets[i];
		bool left = p->class != PACKET_UNFIT && items[i].packet && items[i].left;

		if (items[i].packet && items[i].flow->unjudged)
			left = items[i].gone;
		if (left)
			r->left++;
		else if (p->class == PACKET_UNFIT)
			r->unfit++;
		else
			r->held++;
		if (!left && (items[i].packet || p->class == PACKET_UNFIT))
			show_held(r, &items[i], p);
		if (r->variant == VARY_S_AFTER)
			fate_of(r, p)->left = left;
	}
}

static const char *reason_name(int reason)
{
	return reason == COLO_REASON_NONE ? "none" : reason_names[reason];
}

/*
 * Mismatches of datagrams say payload or length, by which frames are compared,
 * and may come before the window is full: how far is looked for a partner is bounded.
 */
static bool reason_fits(const struct replay *r, int expected, int actual)
{
	if (expected == actual || r->judge.model->unjudged)
		return true;
	if (actual != COLO_REASON_PAYLOAD && actual != COLO_REASON_LENGTH)
		return false;
	return expected == COLO_REASON_PAYLOAD || model_disputed(r->judge.model);
}

/* Rule 11: one request, with the first reason; none where nothing is amiss. */
static void check_request(struct replay *r)
{
	int expected = r->judge.model->request, actual;
	unsigned int count = colo_proxy.requests(&r->run, &actual);

	if (count > 1)
		judge_fail(&r->judge, "rule 11: %u requests in an epoch", count);
	if (!reason_fits(r, expected, actual))
		judge_fail(&r->judge, "rule 11: a request for %s, expected %s",
			   reason_name(actual), reason_name(expected));
}

/* Rule 12: what waits asks for a checkpoint when its time is over; nothing else does. */
static void check_timeout(struct replay *r)
{
	bool waits = model_waits(r->judge.model, UINT64_MAX);
	__u64 next;
	int actual;

	r->dp->config->compare_timeout_ms = 0;
	r->dp->watch.scan_ns = 0;
	release_tick(r->dp, now_ns(), &next);
	r->dp->config->compare_timeout_ms = 86400000;
	r->dp->watch.scan_ns = 0;
	colo_proxy.requests(&r->run, &actual);
	if (r->judge.model->unjudged)
		return;
	if (waits && actual == COLO_REASON_NONE)
		judge_fail(&r->judge,
			   "rule 12: frames wait, and no time-out asks for a checkpoint");
	else if (!waits && actual == COLO_REASON_TIMEOUT)
		judge_fail(&r->judge,
			   "rule 12: a time-out asks for a checkpoint, and nothing waits");
}

static void check_count(struct replay *r, const char *name, uint64_t is, uint64_t should)
{
	if (is != should)
		judge_fail(&r->judge, "counter %s: %llu, expected %llu", name,
			   (unsigned long long)is, (unsigned long long)should);
}

static void check_counters(struct replay *r)
{
	struct colo_counters now;

	datapath_counters(r->dp, &now);
	check_count(r, "p_frames", now.p_frames, r->p_put);
	check_count(r, "p_policy_pass", now.p_policy_pass, r->judge.model->passed);
	check_count(r, "parse_failed", now.parse_failed, r->judge.model->malformed);
	check_count(r, "p_unheld", now.p_unheld, 0);
	check_count(r, "port_failed", now.port_failed, 0);
	check_count(r, "lock_failed", now.lock_failed, 0);
	check_count(r, "events_lost", now.events_lost, 0);
}

static void commit(struct replay *r)
{
	int err = colo_proxy.commit(&r->run, 0);

	if (err)
		judge_fail(&r->judge, "the commit: %s", strerror(-err));
	for (unsigned int i = 0; i < r->flip_count; i++)
		r->watches[i].active = false;
	model_commit(r->judge.model);
	look(r);
	model_committed(r->judge.model);
}

static void run_portion(struct replay *r, struct packet *packets, unsigned int count)
{
	struct schedule schedule = {0};
	struct item *items, *others;
	unsigned int other = 0;
	bool spoil_flip = r->options->spoil == SPOIL_FLIP;

	vary(&schedule, packets, count, r->variant, r->flips, spoil_flip ? 0 : r->flip_count,
	     &r->seed);
	items = calloc(count + 1, sizeof(*items));
	others = calloc(schedule.count + 1, sizeof(*others));
	for (unsigned int i = 0; i < schedule.count && !*stop; i++) {
		struct timed *timed = &schedule.list[i];

		event(r, timed, items, timed->of_p ? &items[timed->from] : &others[other++]);
	}
	check_request(r);
	check_timeout(r);
	note_fates(r, packets, count, items);
	commit(r);
	check_counters(r);
	r->portions++;
	free(items);
	free(others);
	schedule_clear(&schedule);
}

/* ---- a run -------------------------------------------------------------- */

static unsigned int portion_end(const struct capture *capture, unsigned int from)
{
	unsigned int big = 0, at = from;

	while (at < capture->count && at - from < PORTION && big < PORTION_BIG) {
		big += capture->packets[at].len > BIG;
		at++;
	}
	return at;
}

/* A byte of S's content that is compared, and that no length hangs on. */
static bool choose_offset(struct replay *r, const struct packet *p, const struct fate *fate,
			  struct flip *flip)
{
	unsigned int from, to = p->end, head, size, csum = packet_csum(p, &size);

	if (p->class == PACKET_STREAM) {
		head = fate->from - p->seq -
		       (p->flags & TCP_SYN && fate->from != p->seq ? 1 : 0);
		from = p->data + head;
		if (seq_diff(fate->to, p->next) < 0)
			to = from + (fate->to - fate->from);
		else
			to = p->data + p->data_len;
	} else if (p->class == PACKET_DATAGRAM) {
		from = p->l4;
		if (csum)
			from = csum + size > p->l4 + 8 ? csum + size : p->l4 + 8;
	} else {
		return false;
	}
	if (from >= to || p->flags & TCP_RST)
		return false;
	flip->number = p->number;
	flip->offset = from + vary_random(&r->seed) % (to - from);
	flip->with = 1 << vary_random(&r->seed) % 8;
	return true;
}

static int flow_index(const struct replay *r, const struct packet *p)
{
	for (unsigned int i = 0; i < r->flip_count; i++) {
		if (!memcmp(&r->watches[i].key, &p->key, sizeof(p->key)))
			return i;
	}
	return -1;
}

/* In up to FLIPS_MAX flows one byte each, any of those that are compared with the same odds. */
static void choose_flips(struct replay *r)
{
	unsigned int seen[FLIPS_MAX] = {0};

	r->flip_count = 0;
	for (unsigned int i = 0; i < r->capture->count; i++) {
		const struct packet *p = &r->capture->packets[i];
		struct flip flip;
		int at;

		if (!r->fates[i].own || !choose_offset(r, p, &r->fates[i], &flip))
			continue;
		at = flow_index(r, p);
		if (at < 0 && r->flip_count == FLIPS_MAX)
			continue;
		if (at < 0)
			at = r->flip_count++;
		if (vary_random(&r->seed) % ++seen[at])
			continue;
		r->flips[at] = flip;
		r->watches[at] = (struct watch){
			.flip = &r->flips[at],
			.key = p->key,
			.stream = p->class == PACKET_STREAM,
			.at = p->seq + !!(p->flags & TCP_SYN) + flip.offset - p->data,
			.number = p->number,
		};
	}
}

/* S may match a datagram by another frame with the content that this one had. */
static bool has_double(const struct replay *r, const struct packet *p)
{
	for (unsigned int i = 0; i < r->capture->count; i++) {
		const struct packet *q = &r->capture->packets[i];

		if (q != p && q->class == p->class &&
		    !memcmp(&q->key, &p->key, sizeof(p->key)) && model_content_equal(p, q))
			return true;
	}
	return false;
}

static void check_doubles(struct replay *r)
{
	for (unsigned int i = 0; i < r->flip_count; i++) {
		const struct packet *p = &r->capture->packets[r->flips[i].number - 1];

		r->watches[i].unsure = r->watches[i].stream ? !fate_of(r, p)->last :
							      has_double(r, p);
	}
}

static void show_flips(const struct replay *r)
{
	char flow[256];

	for (unsigned int i = 0; i < r->flip_count; i++) {
		const struct flip *flip = &r->flips[i];

		packet_print_flow(flow, sizeof(flow), &r->capture->packets[flip->number - 1]);
		printf("# flipped: frame %u: %s: byte %u of the frame xor %02x\n", flip->number,
		       flow, flip->offset, flip->with);
	}
}

static void report(struct replay *r, bool ok)
{
	const char *path = r->capture->path;

	printf("%sok %u - %s: %s: %u frames: %u left, %u held to a commit, %u not replayed",
	       ok ? "" : "not ", ++totals.number, path, variant_names[r->variant],
	       r->capture->count, r->left, r->held, r->unfit);
	if (r->variant >= VARY_FLIP_AFTER)
		printf("; %u flows flipped, %u bytes left past it", r->flip_count, r->past);
	if (r->judge.unjudged)
		printf("; %u frames of flows that contradict themselves left",
		       r->judge.unjudged);
	printf("\n");
	if (ok)
		totals.passed++;
	else
		totals.failed++;
	totals.frames += r->capture->count;
	fflush(stdout);
}

static int begin(struct replay *r)
{
	memset(&r->run, 0, sizeof(r->run));
	r->run.test = &the_case;
	r->run.proxy = &colo_proxy;
	r->run.replay = true;
	r->run.epoch = 1;
	memset(&r->judge, 0, sizeof(r->judge));
	r->judge.model = model_new(BUCKETS);
	r->judge.model->one_source = true;
	r->p_put = r->s_put = 0;
	r->left = r->held = r->unfit = r->past = r->spoiled = r->portions = 0;
	if (colo_proxy.begin(&r->run))
		return -1;
	r->dp = colo_datapath();
	return 0;
}

static void run_variant(struct replay *r, enum variant variant)
{
	struct capture *capture = (struct capture *)r->capture;
	bool ok = false;

	r->variant = variant;
	r->seed = r->options->seed * 1000003 + variant + 1;
	r->flip_count = 0;
	if (variant >= VARY_FLIP_AFTER) {
		choose_flips(r);
		check_doubles(r);
		show_flips(r);
	}
	if (!begin(r)) {
		for (unsigned int at = 0, end; at < capture->count && !*stop; at = end) {
			end = portion_end(capture, at);
			run_portion(r, capture->packets + at, end - at);
		}
		colo_proxy.end(&r->run);
		if (r->past)
			judge_fail(&r->judge, "rule 1: %u bytes left past a flipped one",
				   r->past);
		ok = !r->judge.failures && !r->run.error;
	}
	if (r->run.error)
		printf("#   FAILED: %s\n", r->run.error);
	free(r->run.error);
	free(r->judge.first);
	model_free(r->judge.model);
	if (!*stop)
		report(r, ok);
}

static void replay_file(const struct replay_options *options, const char *path)
{
	struct capture capture;
	struct replay *r;
	char *error = NULL;

	if (capture_read(path, &capture, &error)) {
		printf("not ok %u - %s: %s\n", ++totals.number, path, error);
		totals.failed++;
		free(error);
		return;
	}
	if (capture.note)
		printf("# %s: after frame %u: %s\n", path, capture.count, capture.note);
	r = calloc(1, sizeof(*r));
	r->options = options;
	r->capture = &capture;
	r->fates = calloc(capture.count, sizeof(*r->fates));
	for (enum variant v = 0; v < VARIANTS && !*stop; v++)
		run_variant(r, v);
	if (capture.broken) {
		printf("not ok %u - %s: read to its end: %s\n", ++totals.number, path,
		       capture.note);
		totals.failed++;
	}
	free(r->fates);
	free(r);
	capture_free(&capture);
}

int replay(const struct replay_options *options, volatile sig_atomic_t *stopping)
{
	stop = stopping;
	make_case();
	printf("# seed %llu\n", (unsigned long long)options->seed);
	for (char **file = options->files; *file && !*stop; file++)
		replay_file(options, *file);
	colo_proxy.close();
	printf("1..%u\n", totals.number);
	printf("# %lu frames replayed\n", totals.frames);
	printf("%u passed, %u failed\n", totals.passed, totals.failed);
	fflush(stdout);
	if (*stop)
		return 128 + *stop;
	return totals.failed || !totals.passed;
}
