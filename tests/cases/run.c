// SPDX-License-Identifier: GPL-2.0-only
/* Runs case files: TAP on stdout, one line a case. */
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/resource.h>

#include "cases.h"
#include "log.h"
#include "replay.h"

bool verbose;

static volatile sig_atomic_t stopping;

static struct {
	unsigned int passed, failed, explained, not_run, number;
} totals;

static void on_signal(int number)
{
	stopping = number;
}

static void show_put(const struct statement *st, const struct frame *frame)
{
	char *text;

	if (!verbose)
		return;
	text = decode_print(frame);
	printf("#   %-8s %s\n", verb_name(st->verb), text);
	free(text);
}

static void put(struct run *run, const struct statement *st)
{
	bool from_guest = st->verb != VERB_C;
	struct frame *frame;
	char *error = NULL;
	int err;

	if (st->verb == VERB_I)
		frame = sent_control(run->test, st, &error);
	else
		frame = build_frame(&st->spec, from_guest, run->test->offloads, &error);
	if (!frame) {
		run_fail(run, "%s:%d: %s", st->file, st->line, error ? error : "no memory");
		free(error);
		return;
	}
	show_put(st, frame);
	sent_note(st->verb, &st->spec, frame);
	err = run->proxy->put(run, st->verb, sent_epoch_diff(st), frame);
	run->stirred_ns = now_ns();
	if (err)
		run_fail(run, "%s:%d: the frame cannot be put in: %s", st->file, st->line,
			 strerror(-err));
	run->proxy->poll(run, 0);
	if (frame->bad_csum)
		frames_add(&run->in, frame);
	else
		frame_free(frame);
}

static void let_pass(struct run *run, uint32_t ms)
{
	uint64_t until = now_ns() + ms * NSEC_PER_MSEC;

	while (now_ns() < until && !stopping && !run->error)
		run->proxy->poll(run, until);
}

static void act(struct run *run, const struct statement *st, int err)
{
	run->stirred_ns = now_ns();
	if (err)
		run_fail(run, "%s:%d: %s: %s", st->file, st->line, st->text, strerror(-err));
	run->proxy->poll(run, 0);
}

static void execute(struct run *run, const struct statement *st)
{
	if (verbose)
		printf("# %s:%d: %s\n", st->file, st->line, st->text);
	switch (st->verb) {
	case VERB_SIDE:
	case VERB_SET:
		break;
	case VERB_P:
	case VERB_S:
	case VERB_C:
	case VERB_G:
	case VERB_I:
		put(run, st);
		break;
	case VERB_WAIT:
		let_pass(run, st->number);
		break;
	case VERB_COMMIT:
		act(run, st, run->proxy->commit(run, st->number));
		if (run->side == SIDE_SECONDARY)
			sent_commit();
		break;
	case VERB_DROP:
		run->drop += st->number;
		break;
	case VERB_FAILOVER:
		act(run, st, run->proxy->failover(run));
		run->failed_over = true;
		break;
	case VERB_LEASE:
		act(run, st, run->proxy->lease(run, st->last ? run->lease_ms : st->number));
		break;
	case VERB_SWITCH:
		act(run, st, run->proxy->switch_role(run, st->side));
		run->failed_over = false;
		break;
	case VERB_TRANSLATION:
		sent_translated(st);
		act(run, st, run->proxy->translation(run, st));
		break;
	default:
		expect(run, st);
	}
}

static void print_lines(const char *text)
{
	while (*text) {
		int len = strcspn(text, "\n");

		printf("# %.*s\n", len, text);
		text += len + (text[len] == '\n');
	}
}

static void report(const struct testcase *test, bool ok, const char *error, const char *note)
{
	printf("%sok %u - %s%s\n", ok ? "" : "not ", ++totals.number, test->title,
	       note ? note : "");
	if (error)
		print_lines(error);
	if (ok)
		totals.passed++;
	else
		totals.failed++;
	fflush(stdout);
}

/* Against QEMU a difference passes if the case's title names what it follows from. */
static void report_difference(const struct testcase *test, const char *error)
{
	char *why = rows_explain(test->title);

	report(test, why, error, NULL);
	printf("# %s\n",
	       why ? why : "unexplained: the title names no row or rule by which QEMU differs");
	totals.explained += !!why;
	free(why);
}

static bool report_not_run(const struct testcase *test, struct proxy *proxy)
{
	const struct statement *st = proxy->cannot(test);

	if (!st)
		return false;
	totals.not_run++;
	printf("ok %u - %s # SKIP %s cannot run %s:%d: %s\n", ++totals.number, test->title,
	       proxy->name, st->file, st->line, st->text);
	return true;
}

static void run_case(const struct testcase *test, struct proxy *proxy)
{
	struct run run = {.test = test, .proxy = proxy, .side = test->side, .epoch = 1};

	if (test->error) {
		report(test, false, test->error, NULL);
		return;
	}
	if (report_not_run(test, proxy))
		return;
	if (verbose)
		printf("# %s:%d: case %s\n", test->file, test->line, test->title);
	if (!proxy->begin(&run)) {
		run.stirred_ns = now_ns();
		for (const struct statement *st = test->first; st && !run.error && !stopping;
		     st = st->next)
			execute(&run, st);
		proxy->end(&run);
	}
	if (stopping)
		printf("# interrupted in: %s\n", test->title);
	else if (run.error && proxy == &qemu_proxy)
		report_difference(test, run.error);
	else
		report(test, !run.error, run.error, NULL);
	free(run.error);
	for (enum outlet o = 0; o < OUTLETS; o++)
		frames_clear(&run.out[o]);
	frames_clear(&run.in);
	sent_clear();
}

static int usage(void)
{
	fprintf(stderr,
		"usage: tests/cases/run [-v] [--against colo-bpf|qemu] [--context tc|xdp] FILE...\n"
		"       tests/cases/run --elements [FILE...]\n"
		"       tests/cases/run [-v] [--seed N] [--spoil WHAT] --pcap FILE...\n"
		"  -v         print every statement and frame\n"
		"  --against  what runs the cases (colo-bpf)\n"
		"  --context  where colo-bpf's primary looks at frames first (tc)\n"
		"  --pcap     the files are captures, replayed as the guest's output\n"
		"  --elements what the cases are made of, or can be (no FILE)\n"
		"  --seed     of cuts, orders and flips (1)\n"
		"  --spoil    for selftests, must fail: byte, lose, double, expect, flip\n");
	return 2;
}

static struct proxy *find_proxy(const char *name)
{
	struct proxy *const proxies[] = {&colo_proxy, &qemu_proxy};

	for (unsigned int i = 0; i < 2; i++) {
		if (!strcmp(proxies[i]->name, name))
			return proxies[i];
	}
	return NULL;
}

static bool find_spoil(const char *name, enum spoil *spoil)
{
	for (*spoil = 0; *spoil < SPOILS; (*spoil)++) {
		if (!strcmp(spoil_names[*spoil], name))
			return true;
	}
	return false;
}

static int run_files(struct proxy *proxy, char **files)
{
	struct testcase *first = NULL, **end = &first;
	unsigned int count = 0;

	for (; *files; files++) {
		*end = parse_file(*files);
		for (; *end; end = &(*end)->next)
			count++;
	}
	printf("1..%u\n", count);
	for (struct testcase *test = first; test && !stopping; test = test->next)
		run_case(test, proxy);
	proxy->close();
	if (proxy == &qemu_proxy)
		printf("# same verdict %u, differences explained %u, cannot run %u, unexplained %u\n",
		       totals.passed - totals.explained, totals.explained, totals.not_run,
		       totals.failed);
	if (count > 100)
		totals.failed += !colo_report_xdp();
	printf("%u passed, %u failed\n", totals.passed, totals.failed);
	fflush(stdout);
	if (stopping)
		return 128 + stopping;
	return totals.failed || !count;
}

/* Of the files, or of the language. */
static int list_elements(char **files)
{
	if (!*files)
		parse_list();
	for (; *files; files++)
		parse_file(*files);
	return 0;
}

/*
 * Cases are about milliseconds: what else the machine does must not come
 * between. Where that is refused they are as steady as the machine is idle.
 */
static void go_first(void)
{
	struct sched_param first = {.sched_priority = 1};

	if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &first))
		setpriority(PRIO_PROCESS, 0, -20);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"against", required_argument, NULL, 'a'},
		{"context", required_argument, NULL, 'c'},
		{"pcap", no_argument, NULL, 'p'},
		{"seed", required_argument, NULL, 's'},
		{"spoil", required_argument, NULL, 'S'},
		{"verbose", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{"elements", no_argument, NULL, 'e'},
		{0},
	};
	struct replay_options captures = {.seed = 1};
	struct proxy *proxy = &colo_proxy;
	bool pcap = false;
	int option;

	while ((option = getopt_long(argc, argv, "vh", options, NULL)) != -1) {
		if (option == 'v')
			verbose = true;
		else if (option == 'e')
			elements = true;
		else if (option == 'a')
			proxy = find_proxy(optarg);
		else if (option == 'c' && !colo_find_context(optarg))
			continue;
		else if (option == 'p')
			pcap = true;
		else if (option == 's' && !text_number(optarg, UINT64_MAX, &captures.seed))
			continue;
		else if (option == 'S' && find_spoil(optarg, &captures.spoil))
			continue;
		else
			return usage();
		if (!proxy)
			return usage();
	}
	if (elements)
		return list_elements(argv + optind);
	if (optind == argc || (pcap && proxy != &colo_proxy))
		return usage();
	log_max_level = verbose ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING;
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGHUP, on_signal);
	signal(SIGPIPE, SIG_IGN);
	if (devices_enter())
		return 1;
	if (proxy == &colo_proxy && !pcap)
		go_first();
	captures.files = argv + optind;
	return pcap ? replay(&captures, &stopping) : run_files(proxy, argv + optind);
}
