// SPDX-License-Identifier: GPL-2.0-only
/* Draws scenarios by their seeds and runs them; a failing one is shown, and reduced. */
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "oracle.h"

#define FAILURES_SHOWN 10

bool verbose;

static volatile sig_atomic_t stopped;
static const char *only; /* part of a domain's name */

static struct {
	unsigned int scenarios, failed, steps, frames, left, commits, requests;
} totals, domains[DOMAINS];

bool stopping(void)
{
	return stopped;
}

static void on_signal(int number)
{
	stopped = number;
}

/* That of scenario 0 is the run's own, so that one can be had alone. */
static uint64_t seed_of(uint64_t seed, unsigned int scenario)
{
	return seed + scenario * 0x9e3779b97f4a7c15ULL;
}

static void print_case(const char *text, int until)
{
	for (int line = 1; *text && (!until || line <= until); line++) {
		int len = strcspn(text, "\n");

		printf("#     %.*s\n", len, text);
		text += len + (text[len] == '\n');
	}
}

static void show(const char *text, const struct outcome *outcome)
{
	char *reduced;

	printf("# FAILED: %s\n", outcome->fault);
	if (verbose)
		print_case(text, outcome->line);
	reduced = reduce(text, outcome->fault);
	print_case(reduced, 0);
	free(reduced);
	fflush(stdout);
}

static void add_up(enum domain domain, const struct outcome *outcome)
{
	unsigned int *to[] = {&totals.scenarios, &domains[domain].scenarios};

	(*to[0])++;
	(*to[1])++;
	for (unsigned int i = 0; i < 2; i++) {
		typeof(&totals) t = i ? (void *)&domains[domain] : (void *)&totals;

		t->failed += !!outcome->fault;
		t->steps += outcome->steps;
		t->frames += outcome->frames;
		t->left += outcome->left;
		t->commits += outcome->commits;
		t->requests += outcome->requests;
	}
}

static bool run_one(uint64_t seed, enum spoil spoil)
{
	struct outcome outcome;
	enum domain domain;
	char *text = generate(seed, &domain);
	bool ok;

	if (only && !strstr(domain_names[domain], only)) {
		free(text);
		return true;
	}
	if (verbose)
		printf("# seed %" PRIu64 ": %s\n", seed, domain_names[domain]);
	scenario_run(text, spoil, &outcome);
	ok = !outcome.fault;
	if (!stopped)
		add_up(domain, &outcome);
	if (!ok && !stopped)
		printf("# tests/oracle --scenarios 1 --seed %" PRIu64 "\n", seed);
	if (!ok && spoil != SPOIL_NOTHING)
		printf("# FAILED: %s\n", outcome.fault);
	else if (!ok && !stopped)
		show(text, &outcome);
	free(outcome.fault);
	free(text);
	return ok;
}

static void print_row(const char *name, typeof(&totals) t)
{
	printf("# %-34s %9u %9u %9u %9u %9u %9u %6u\n", name, t->scenarios, t->steps, t->frames,
	       t->left, t->commits, t->requests, t->failed);
}

static void print_summary(uint64_t seed, uint64_t ns)
{
	printf("# %-34s %9s %9s %9s %9s %9s %9s %6s\n", "domain", "scenarios", "steps",
	       "frames", "left", "commits", "requests", "failed");
	for (enum domain d = 0; d < DOMAINS; d++)
		print_row(domain_names[d], (void *)&domains[d]);
	print_row("all", &totals);
	printf("# seed %" PRIu64 ": %.0f scenarios/s, %.0f frames/s\n", seed,
	       totals.scenarios * 1e9 / ns, totals.frames * 1e9 / ns);
}

/* Cases of a file, held against the models; what they expect is not looked at. */
static void run_file(const char *path)
{
	struct testcase *first = parse_file(path);
	struct outcome outcome;

	for (const struct testcase *test = first; test && !stopped; test = test->next) {
		scenario_case(test, SPOIL_NOTHING, &outcome);
		printf("%sok %u - %s\n", outcome.fault ? "not " : "", ++totals.scenarios,
		       test->title);
		if (outcome.fault)
			printf("# line %d: %s\n", outcome.line, outcome.fault);
		totals.failed += !!outcome.fault;
		free(outcome.fault);
	}
	parse_free(first);
}

static bool find_spoil(const char *name, enum spoil *spoil)
{
	for (*spoil = 0; *spoil < SPOILS; (*spoil)++) {
		if (!strcmp(spoils[*spoil], name))
			return true;
	}
	return false;
}

/* One CPU for us and for all that our frames bring about: nothing runs beside us. */
static int stay_here(void)
{
	cpu_set_t set;
	int cpu = sched_getcpu();

	CPU_ZERO(&set);
	CPU_SET(cpu < 0 ? 0 : cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

static int usage(void)
{
	fprintf(stderr,
		"usage: tests/oracle [-v] [--scenarios N] [--seed N]\n"
		"       tests/oracle [-v] FILE...\n"
		"  --scenarios  how many (1000)\n"
		"  --seed       of them; one alone has its own (the clock's)\n"
		"  --domain     only those scenarios whose domain has this in its name\n"
		"  --context    where a primary looks at frames first, tc or xdp (tc)\n"
		"  FILE         cases, held against the models\n"
		"  --spoil WHAT for the self-test: falsify something once a scenario\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"scenarios", required_argument, NULL, 'n'},
		{"seed", required_argument, NULL, 's'},
		{"domain", required_argument, NULL, 'd'},
		{"spoil", required_argument, NULL, 'S'},
		{"context", required_argument, NULL, 'c'},
		{"verbose", no_argument, NULL, 'v'},
		{0},
	};
	uint64_t scenarios = 1000, seed = now_ns(), begun;
	enum spoil spoil = SPOIL_NOTHING;
	int option, err = 0;

	while (!err && (option = getopt_long(argc, argv, "v", options, NULL)) != -1) {
		if (option == 'v')
			verbose = true;
		else if (option == 'n')
			err = text_number(optarg, 100000000, &scenarios) || !scenarios;
		else if (option == 's')
			err = text_number(optarg, UINT64_MAX, &seed);
		else if (option == 'd')
			only = optarg;
		else if (option == 'c')
			err = colo_find_context(optarg);
		else if (option == 'S')
			err = !find_spoil(optarg, &spoil);
		else
			err = -1;
	}
	if (err)
		return usage();
	log_max_level = LOG_LEVEL_WARNING;
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGPIPE, SIG_IGN);
	colo_silent = true;
	if (stay_here() || devices_enter())
		return 1;
	begun = now_ns();
	if (optind == argc)
		printf("# seed %" PRIu64 "\n", seed);
	for (char **file = argv + optind; *file; file++)
		run_file(*file);
	for (unsigned int i = 0; optind == argc && i < scenarios && !stopped; i++) {
		if (!run_one(seed_of(seed, i), spoil) &&
		    (spoil != SPOIL_NOTHING || totals.failed >= FAILURES_SHOWN))
			break;
	}
	colo_proxy.close();
	if (optind == argc)
		print_summary(seed, now_ns() - begun);
	if (optind == argc && scenarios > 100)
		totals.failed += !colo_report_xdp();
	printf("%u passed, %u failed\n", totals.scenarios - totals.failed, totals.failed);
	return totals.failed || stopped || !totals.scenarios;
}
