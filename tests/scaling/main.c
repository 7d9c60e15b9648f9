// SPDX-License-Identifier: GPL-2.0-only
/* tests/scale: parts, claims and figures. */
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <bpf/libbpf.h>

#include "scaling.h"

bool verbose; /* of the case runner's parts */

static struct scale scale = {.flows = 100000};
static const char *only;
/* Of all parts, each of which has a process of its own. */
static struct {
	unsigned int passed, failed;
} * counts;

void claim(bool holds, const char *format, ...)
{
	va_list args;

	if (holds)
		counts->passed++;
	else
		counts->failed++;
	printf("%sok %u - ", holds ? "" : "not ", counts->passed + counts->failed);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
}

void figure(const char *format, ...)
{
	va_list args;

	printf("# ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
}

void turns_end(struct turns *turns)
{
	turns_stop(turns);
	figure("the daemon: %u turns, the longest %.2f ms, %.2f s of a CPU", turns->count,
	       turns->longest_ns / 1e6, turns->cpu_ns / 1e9);
	claim(!turns->error && turns->longest_ns < TURN_MAX_NS,
	      "no turn of the daemon takes %llu ms", TURN_MAX_NS / 1000000);
}

static const struct {
	const char *name;
	void (*run)(const struct scale *scale);
} parts[] = {
	{"flows", part_flows}, {"secondary", part_rewrite}, {"order", part_order},
	{"ring", part_ring},   {"bounds", part_bounds},
};

static unsigned int part;

static int run_part(void)
{
	if (rig_enter())
		return 1;
	scale_cpu(0);
	parts[part].run(&scale);
	return 0;
}

/* A cgroup each: what one frees later is not the next one's. */
static int run_parts(void)
{
	for (part = 0; part < sizeof(parts) / sizeof(*parts); part++) {
		if (only && strcmp(only, parts[part].name))
			continue;
		printf("# --- %s\n", parts[part].name);
		if (memory_inside(run_part))
			claim(false, "%s came to its end", parts[part].name);
	}
	printf("%u passed, %u failed\n", counts->passed, counts->failed);
	return counts->failed || !counts->passed;
}

static int usage(void)
{
	fprintf(stderr, "usage: scale [--full] [--flows N] [--only PART]\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"full", no_argument, NULL, 'f'},
		{"flows", required_argument, NULL, 'n'},
		{"only", required_argument, NULL, 'o'},
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'f') {
			scale.full = true;
			scale.flows = 1000000;
		} else if (option == 'n') {
			scale.flows = strtoul(optarg, NULL, 0);
		} else if (option == 'o') {
			only = optarg;
		} else {
			return usage();
		}
	}
	if (optind != argc || scale.flows < 4000)
		return usage();
	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	return counts == MAP_FAILED ? 1 : run_parts();
}
