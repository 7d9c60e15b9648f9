// SPDX-License-Identifier: GPL-2.0-only
/* Draws sequences, puts each to both, and wants a rule for what differs. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "differ.h"
#include "log.h"
#include "random.h"

#define SETTLE_MS     100  /* for colo-bpf to do what the rules say */
#define BARRIER_MS    2000 /* for QEMU to answer at all */
#define QEMU_FLOWS    8000 /* it wipes its table above 16384 */
#define TIMED_PERCENT 2    /* of the sequences wait for a time-out */
#define SLOW_MS       40   /* a timed sequence that took longer proves nothing */

bool verbose;

static volatile sig_atomic_t stopping;

/* What the self-test falsifies. */
static struct {
	bool ours, qemu, request;
} alter;
static bool stop_early; /* with the first failure */

static struct {
	unsigned int sequences, agreed, differed, slow, steps, failed;
} totals, domains[DOMAINS];

/* ---- one of the two ------------------------------------------------------ */

struct party {
	struct proxy *proxy;
	struct run run;
	unsigned int taken;                        /* of what has left */
	bool left[SPACE];                          /* units of the stream */
	unsigned int order[SENT_MAX], order_count; /* in this step */
	unsigned int requests;
	bool disorder;             /* in this step */
	unsigned int asked_before; /* before the last commit was read */
	bool altered;
};

struct sequence {
	struct testcase *test;
	char *text;
	enum domain domain;
	struct truth truth;
	struct party party[2];
	bool diverged; /* QEMU's state is another: no more comparison with it */
	bool differs;
	char *fault;
};

static void fault(struct sequence *q, const char *what, const struct statement *st)
{
	if (!q->fault && asprintf(&q->fault, "%s, at: %s", what, st->text) < 0)
		abort();
}

static void mark_out(struct party *party, enum who who, struct truth *t, unsigned int i)
{
	t->p[i].out[who] = true;
	if (party->order_count < SENT_MAX)
		party->order[party->order_count++] = i;
}

static bool is_exact(const struct frame *frame, const struct sent *p, enum who who)
{
	return !p->out[who] && p->frame->len == frame->len &&
	       !memcmp(p->frame->bytes, frame->bytes, frame->len);
}

/*
 * Units leave. New ones before those that P has sent below them: disorder; what
 * brings no unit may overtake.
 */
static void mark_units(struct party *party, const struct truth *t, const struct view *v,
		       bool is_new)
{
	unsigned int at = v->seq - t->base;
	unsigned int units = v->data_len + !!(v->flags & TCP_SYN) + !!(v->flags & TCP_FIN);

	for (unsigned int u = at - at % SPACE; units && is_new && u < at; u++)
		party->disorder |= t->unit[0][u % SPACE] >= 0 && !party->left[u % SPACE];
	for (unsigned int i = 0; i < units; i++)
		party->left[(at + i) % SPACE] = true;
}

/* Frames whose bytes have left in other segments are out, too. */
static void complete(struct party *party, enum who who, struct truth *t)
{
	for (unsigned int i = 0; i < t->p_count; i++) {
		struct sent *p = &t->p[i];
		bool all = p->has_new && !p->out[who];

		for (uint32_t seq = p->spec->seq; all && seq != p->end; seq++)
			all = party->left[(seq - t->base) % SPACE];
		if (all)
			mark_out(party, who, t, i);
	}
}

/* The frame of P that this is, uncut. */
static struct sent *take_exact(struct sequence *q, enum who who, const struct frame *frame)
{
	struct party *party = &q->party[who];

	for (unsigned int i = 0; i < q->truth.p_count; i++) {
		if (!is_exact(frame, &q->truth.p[i], who))
			continue;
		mark_out(party, who, &q->truth, i);
		return &q->truth.p[i];
	}
	return NULL;
}

/* One release is overlooked, of each that is to be falsified. */
static bool overlook(struct party *party, enum who who)
{
	if (party->altered || !(who == OURS ? alter.ours : alter.qemu))
		return false;
	party->altered = true;
	return true;
}

static bool is_barrier(const struct frame *frame)
{
	return frame->len > 30 && frame->bytes[26] == 10 && frame->bytes[27] == 250;
}

static void take(struct sequence *q, enum who who, const struct statement *st)
{
	struct party *party = &q->party[who];
	struct frames *out = &party->run.out[OUTLET_PORT];
	const struct sent *p;
	struct view v;
	int reason;

	for (; party->taken < out->count; party->taken++) {
		const struct frame *frame = out->list[party->taken];

		if (is_barrier(frame) || overlook(party, who))
			continue;
		decode_frame(frame, &v);
		p = take_exact(q, who, frame);
		if (v.kind == KIND_TCP && v.has_l4)
			mark_units(party, &q->truth, &v, !p || p->has_new);
		if (!p && (who == QEMUS || v.kind != KIND_TCP))
			fault(q,
			      who == QEMUS ? "QEMU sent what P did not send" :
					     "colo-bpf sent what P did not send",
			      st);
	}
	if (who == OURS)
		complete(party, who, &q->truth);
	party->requests = party->proxy->requests(&party->run, &reason) - party->asked_before;
	if (who == QEMUS && alter.request)
		party->requests++;
}

/* ---- QEMU's turn --------------------------------------------------------- */

/* A datagram through both inputs: when it comes out, all before it is done. */
static struct frame *barrier_frame(void)
{
	static uint32_t number;
	uint8_t bytes[4] = {++number >> 24, number >> 16, number >> 8, number};
	struct spec spec = {
		.kind = KIND_UDP,
		.set = FIELD_FLOW | FIELD_DATA,
		.data = bytes,
		.data_len = sizeof(bytes),
	};
	char *error = NULL;

	text_flow("10.250.0.1:9>10.250.0.2:9", true, &spec.flow);
	return build_frame(&spec, true, false, &error);
}

static void barrier(struct sequence *q, const struct statement *st)
{
	struct party *party = &q->party[QEMUS];
	struct frames *out = &party->run.out[OUTLET_PORT];
	uint64_t until = now_ns() + BARRIER_MS * NSEC_PER_MSEC;
	struct frame *frame = barrier_frame();
	unsigned int seen = party->taken;
	bool back = false;

	if (party->proxy->put(&party->run, VERB_P, 0, frame) ||
	    party->proxy->put(&party->run, VERB_S, 0, frame))
		fault(q, "QEMU takes no frame", st);
	while (!back && now_ns() < until && !party->run.error) {
		party->proxy->poll(&party->run, until);
		for (; seen < out->count; seen++)
			back |= out->list[seen]->len == frame->len &&
				!memcmp(out->list[seen]->bytes, frame->bytes, frame->len);
	}
	/* What it asked for is on another socket, and older. */
	party->proxy->poll(&party->run, 0);
	if (!back)
		fault(q, party->run.error ? party->run.error : "QEMU does not answer", st);
	frame_free(frame);
}

/* Another socket: what is put after it was read is handled after it. */
static void commit_qemu(struct sequence *q, const struct statement *st)
{
	struct party *party = &q->party[QEMUS];
	int reason;

	qemu_pipelined = false;
	party->proxy->commit(&party->run, 0);
	qemu_pipelined = true;
	barrier(q, st);
	party->asked_before = party->proxy->requests(&party->run, &reason);
}

static void step_qemu(struct sequence *q, const struct statement *st, struct frame *frame)
{
	struct party *party = &q->party[QEMUS];

	if (frame)
		party->proxy->put(&party->run, st->verb, 0, frame);
	if (st->verb == VERB_COMMIT)
		commit_qemu(q, st);
	else
		barrier(q, st);
	take(q, QEMUS, st);
}

/* ---- colo-bpf's turn ----------------------------------------------------- */

static bool as_the_rules_say(const struct sequence *q, bool request)
{
	const struct truth *t = &q->truth;

	for (unsigned int i = 0; i < t->p_count; i++) {
		if (t->p[i].out[OURS] != t->p[i].due && !t->p[i].may)
			return false;
	}
	return !!q->party[OURS].requests == request;
}

static void why_not(struct sequence *q, const struct statement *st, bool request)
{
	const struct truth *t = &q->truth;
	char text[200];

	for (unsigned int i = 0; i < t->p_count; i++) {
		if (t->p[i].out[OURS] == t->p[i].due || t->p[i].may)
			continue;
		snprintf(text, sizeof(text), "colo-bpf %s P's frame %u, the rules %s it",
			 t->p[i].out[OURS] ? "has released" : "holds", i + 1,
			 t->p[i].due ? "release" : "hold");
		fault(q, text, st);
	}
	if (!q->fault)
		fault(q,
		      request ? "colo-bpf has not asked, the rules do" :
				"colo-bpf has asked, the rules do not",
		      st);
}

static void step_ours(struct sequence *q, const struct statement *st, struct frame *frame,
		      bool request)
{
	struct party *party = &q->party[OURS];
	uint64_t until = now_ns() + SETTLE_MS * NSEC_PER_MSEC;

	if (st->verb == VERB_COMMIT)
		party->proxy->commit(&party->run, 0);
	else if (frame)
		party->proxy->put(&party->run, st->verb, 0, frame);
	party->run.stirred_ns = now_ns();
	for (;;) {
		party->proxy->poll(&party->run, 0);
		take(q, OURS, st);
		if (as_the_rules_say(q, request))
			return;
		if (now_ns() > until || q->fault)
			break;
		party->proxy->poll(&party->run, until);
	}
	why_not(q, st, request);
}

/* ---- the difference ------------------------------------------------------- */

static void differ(struct sequence *q, enum difference difference, const struct sent *p,
		   const struct statement *st)
{
	struct class *class = classify(difference, &q->truth, p);
	char text[200];

	if (verbose)
		printf("#   %s frame %d: %s %s\n", difference_names[difference],
		       p ? (int)(p - q->truth.p) + 1 : 0, class ? class->rule : "-",
		       class ? class->text : "unexplained");
	q->differs = true;
	/* Its second request changes nothing. */
	if (difference != QEMU_AGAIN)
		q->diverged = true;
	if (class)
		return;
	snprintf(text, sizeof(text), "unexplained: %s (frame %d of P)",
		 difference_names[difference], p ? (int)(p - q->truth.p) + 1 : 0);
	fault(q, text, st);
}

static bool same_order(const struct sequence *q)
{
	const struct party *a = &q->party[OURS], *b = &q->party[QEMUS];

	return a->order_count == b->order_count &&
	       !memcmp(a->order, b->order, a->order_count * sizeof(a->order[0]));
}

/* Ours has to leave in order, whatever QEMU does. */
static void check_order(struct sequence *q, const struct statement *st)
{
	const struct party *party = &q->party[OURS];
	bool back = party->disorder;

	for (unsigned int i = 1; i < party->order_count && !q->truth.based; i++)
		back |= party->order[i] < party->order[i - 1];
	if (back)
		fault(q, "colo-bpf releases out of order", st);
}

static void compare(struct sequence *q, const struct statement *st, bool request, bool *again)
{
	struct truth *t = &q->truth;
	unsigned int asked = q->party[QEMUS].requests;

	for (unsigned int i = 0; i < t->p_count; i++) {
		const struct sent *p = &t->p[i];

		if (p->out[QEMUS] != p->due && !p->may)
			differ(q, p->due ? QEMU_LATE : QEMU_EARLY, p, st);
	}
	if (!!asked != request)
		differ(q, asked ? QEMU_ASKS : QEMU_SILENT, NULL, st);
	if (request && asked > 1 && !*again)
		*again = true, differ(q, QEMU_AGAIN, NULL, st);
	t->overtaken = !q->party[QEMUS].disorder;
	if (!q->diverged && !same_order(q))
		differ(q, QEMU_ORDER, NULL, st);
}

static void step(struct sequence *q, const struct statement *st, bool *again)
{
	struct truth *t = &q->truth;
	struct frame *frame = NULL;
	char *error = NULL;
	bool request;

	q->party[OURS].order_count = q->party[QEMUS].order_count = 0;
	q->party[OURS].disorder = q->party[QEMUS].disorder = false;
	if (st->verb == VERB_COMMIT) {
		truth_commit(t);
		*again = false;
	} else if (st->verb == VERB_P || st->verb == VERB_S) {
		frame = build_frame(&st->spec, true, false, &error);
		if (!frame) {
			fault(q, error, st);
			return;
		}
		truth_put(t, st->verb, &st->spec, frame);
		sent_note(st->verb, &st->spec, frame);
	}
	request = t->mismatch || (st->verb == VERB_WAIT && truth_waits(t));
	if (st->verb == VERB_WAIT) {
		uint64_t until = now_ns() + st->number * NSEC_PER_MSEC;

		while (now_ns() < until && !stopping)
			q->party[OURS].proxy->poll(&q->party[OURS].run, until);
	}
	step_ours(q, st, frame, request);
	check_order(q, st);
	if (!q->fault && !q->diverged) {
		step_qemu(q, st, frame);
		if (!q->fault)
			compare(q, st, request, again);
	}
	totals.steps++;
	frame_free(frame);
}

/* ---- a sequence ----------------------------------------------------------- */

static void show(const struct sequence *q)
{
	const struct truth *t = &q->truth;

	printf("# %s\n%s", q->fault, q->text);
	for (unsigned int i = 0; i < t->p_count; i++) {
		char *text = decode_print(t->p[i].frame);

		printf("# P's frame %u: rules %s, colo-bpf %s, QEMU %s: %s\n", i + 1,
		       t->p[i].due ? "out" : "held", t->p[i].out[OURS] ? "out" : "held",
		       q->diverged && !t->p[i].out[QEMUS] ? "?" :
		       t->p[i].out[QEMUS]                 ? "out" :
							    "held",
		       text);
		free(text);
	}
	printf("# requests: colo-bpf %u, QEMU %u\n", q->party[OURS].requests,
	       q->party[QEMUS].requests);
}

static bool too_slow(const struct sequence *q, uint64_t begun_ns)
{
	return q->domain == DOMAIN_TCP_TIMED && now_ns() > begun_ns + SLOW_MS * NSEC_PER_MSEC;
}

static void count(const struct sequence *q, bool slow)
{
	totals.sequences++;
	domains[q->domain].sequences++;
	if (q->fault)
		totals.failed++, domains[q->domain].failed++;
	else if (slow)
		totals.slow++, domains[q->domain].slow++;
	else if (q->differs)
		totals.differed++, domains[q->domain].differed++;
	else
		totals.agreed++, domains[q->domain].agreed++;
}

/* QEMU's process is the same for many: a last commit leaves nothing in it. */
static unsigned int clear_qemu(struct sequence *q)
{
	commit_qemu(q, q->test->first);
	return q->party[QEMUS].asked_before;
}

static bool run_sequence(enum domain domain, unsigned int number, struct run *qemu)
{
	struct sequence *q = calloc(1, sizeof(*q));
	struct run *ours = &q->party[OURS].run;
	static unsigned int asked;
	uint64_t begun_ns = now_ns();
	bool again = false, slow = false, ok;
	FILE *from;

	q->domain = domain;
	q->text = generate(domain, number);
	from = fmemopen(q->text, strlen(q->text), "r");
	q->test = parse_stream(from, "sequence");
	fclose(from);
	truth_begin(&q->truth);
	q->truth.patient = domain == DOMAIN_UDP_ORDER;
	q->party[OURS].proxy = &colo_proxy;
	q->party[QEMUS].proxy = &qemu_proxy;
	q->party[QEMUS].run = *qemu;
	q->party[QEMUS].asked_before = asked;
	*ours = (struct run){.test = q->test, .proxy = &colo_proxy, .epoch = 1};
	if (q->test->error || colo_proxy.begin(ours))
		fault(q, q->test->error ? q->test->error : ours->error, q->test->first);
	for (const struct statement *st = q->test->first; st && !q->fault && !slow;
	     st = st->next) {
		if (st->verb == VERB_WAIT)
			slow = too_slow(q, begun_ns);
		if (!slow)
			step(q, st, &again);
	}
	colo_proxy.end(ours);
	if (ours->error)
		fault(q, ours->error, q->test->first);
	asked = clear_qemu(q);
	count(q, slow);
	if (q->fault)
		show(q);
	ok = !q->fault;
	for (enum outlet o = 0; o < OUTLETS; o++) {
		frames_clear(&ours->out[o]);
		frames_clear(&q->party[QEMUS].run.out[o]);
	}
	sent_clear();
	truth_end(&q->truth);
	free(q->text);
	free(q->fault);
	free(q);
	return ok;
}

/* A QEMU whose time-out is `timeout_ms`. */
static int start_qemu(struct run *run, unsigned int timeout_ms)
{
	static struct statement set = {.verb = VERB_SET, .key = "compare_timeout_ms"};
	static struct testcase test = {.first = &set};

	snprintf(set.value, sizeof(set.value), "%u", timeout_ms);
	*run = (struct run){.test = &test, .proxy = &qemu_proxy, .epoch = 1};
	qemu_pipelined = false;
	if (qemu_proxy.begin(run)) {
		printf("# %s", run->error ? run->error : "QEMU does not come up\n");
		return -1;
	}
	frames_clear(&run->out[OUTLET_PORT]);
	qemu_pipelined = true;
	return 0;
}

static enum domain draw(unsigned int i)
{
	static const enum domain turns[] = {
		DOMAIN_TCP_SAME,  DOMAIN_UDP_SAME,  DOMAIN_TCP_CUTS,  DOMAIN_TCP_SAME,
		DOMAIN_TCP_FLAGS, DOMAIN_ICMP_SAME, DOMAIN_TCP_CUTS,  DOMAIN_UDP_ORDER,
		DOMAIN_UDP_SAME,  DOMAIN_TCP_CUTS,  DOMAIN_UDP_CSUM,  DOMAIN_FRAG_SAME,
		DOMAIN_TCP_PLACE, DOMAIN_TCP_FLAGS, DOMAIN_IP_HEADER, DOMAIN_IPV6_TAGS,
	};

	return turns[i % (sizeof(turns) / sizeof(turns[0]))];
}

static bool run_all(unsigned int sequences)
{
	unsigned int timed = (sequences * TIMED_PERCENT + 99) / 100;
	struct run qemu;

	for (unsigned int i = 0; i < sequences && !stopping; i++) {
		bool last = i >= sequences - timed;

		if (i % QEMU_FLOWS == 0 || i == sequences - timed) {
			if (i)
				qemu_proxy.end(&qemu);
			if (start_qemu(&qemu, last ? 60 : 60000))
				return false;
		}
		if (!run_sequence(last ? DOMAIN_TCP_TIMED : draw(i), i, &qemu) &&
		    (stop_early || totals.failed >= 20))
			break;
	}
	qemu_proxy.end(&qemu);
	colo_proxy.close();
	return true;
}

/* ---- the summary ----------------------------------------------------------- */

static void print_summary(uint64_t seed)
{
	printf("# seed %llu: %u sequences, %u steps\n", (unsigned long long)seed,
	       totals.sequences, totals.steps);
	printf("# %-42s %9s %9s %9s %9s\n", "domain", "sequences", "agree", "explained",
	       "failed");
	for (enum domain d = 0; d < DOMAINS; d++)
		printf("# %-42s %9u %9u %9u %9u\n", domain_names[d], domains[d].sequences,
		       domains[d].agreed, domains[d].differed, domains[d].failed);
	printf("# %-42s %9u %9u %9u %9u\n", "all", totals.sequences, totals.agreed,
	       totals.differed, totals.failed);
	if (totals.slow)
		printf("# %u timed sequences were too slow to prove anything\n", totals.slow);
	printf("#\n# the differences, by what explains them, and that alone\n");
	for (unsigned int i = 0; i < classes_count; i++)
		printf("# %2u %6u %6u  %-18s %-8s %s\n", i, classes[i].count, classes[i].alone,
		       difference_names[classes[i].difference], classes[i].rule,
		       classes[i].text);
}

/* Agreement has to have been seen, not only the lack of differences. */
static bool seen_agreement(void)
{
	for (enum domain d = 0; d < DOMAIN_AGREE; d++) {
		if (domains[d].sequences > 20 && !domains[d].agreed) {
			printf("# no sequence of \"%s\" was agreed upon\n", domain_names[d]);
			return false;
		}
	}
	return true;
}

static void on_signal(int number)
{
	stopping = number;
}

static int usage(void)
{
	fprintf(stderr, "usage: tests/differential [-v] [--sequences N] [--seed N]\n"
			"  --sequences  how many (1000)\n"
			"  --seed       of their numbers (1)\n"
			"  --alter ours|qemu|request   for the self-test: falsify a verdict\n"
			"  --forget N                  ... and a class, by its number\n");
	return 2;
}

static int parse_alter(const char *what)
{
	alter.ours = !strcmp(what, "ours");
	alter.qemu = !strcmp(what, "qemu");
	alter.request = !strcmp(what, "request");
	stop_early = true;
	return alter.ours || alter.qemu || alter.request ? 0 : -1;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"sequences", required_argument, NULL, 'n'},
		{"seed", required_argument, NULL, 's'},
		{"alter", required_argument, NULL, 'a'},
		{"forget", required_argument, NULL, 'f'},
		{"verbose", no_argument, NULL, 'v'},
		{0},
	};
	uint64_t sequences = 1000, seed = 1, number;
	int option, err = 0;

	while (!err && (option = getopt_long(argc, argv, "v", options, NULL)) != -1) {
		if (option == 'v')
			verbose = true;
		else if (option == 'n')
			err = text_number(optarg, 1000000, &sequences) || !sequences;
		else if (option == 's')
			err = text_number(optarg, UINT64_MAX, &seed);
		else if (option == 'a')
			err = parse_alter(optarg);
		else if (option == 'f' &&
			 !(err = text_number(optarg, classes_count - 1, &number)))
			classes[number].off = stop_early = true;
		else
			err = -1;
	}
	if (err || optind != argc)
		return usage();
	log_max_level = LOG_LEVEL_WARNING;
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGPIPE, SIG_IGN);
	random_seed(seed);
	if (devices_enter() || !run_all(sequences))
		return 1;
	print_summary(seed);
	if (!seen_agreement())
		totals.failed++;
	printf("%u passed, %u failed\n", totals.agreed + totals.differed, totals.failed);
	return totals.failed || stopping;
}
