// SPDX-License-Identifier: GPL-2.0-only
/*
 * One side, driven by a line a measurement, answered by a line of JSON:
 *
 *	open KIND FLOWS HELD
 *	fill
 *	run|race FLOWS WINDOW MS
 *	cpus CPUS WINDOW MS
 *	wire|wire-in FLOWS MS
 *	hold FLOWS COUNT
 *	latency COUNT
 *	stats on|off		whether run times of programs are taken
 *	close
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/bpf.h>

#include <bpf/bpf.h>

#include "bench.h"

#define MS 1000000ULL

static const struct side *side;
static struct kind const *kind;

static int say(int err)
{
	if (err)
		printf("{\"error\": \"%s\"}\n", strerror(-err));
	else
		printf("{}\n");
	fflush(stdout);
	return err;
}

static void say_took(int err, const struct took *took)
{
	if (err) {
		say(err);
		return;
	}
	printf("{\"pairs\": %llu, \"wall_ns\": %llu, \"cpu_ns\": %llu, \"program_ns\": %llu, \"daemon_ns\": %llu}\n",
	       (unsigned long long)took->pairs, (unsigned long long)took->wall_ns,
	       (unsigned long long)took->cpu_ns, (unsigned long long)took->program_ns,
	       (unsigned long long)took->daemon_ns);
	fflush(stdout);
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void latency(uint32_t count)
{
	uint32_t *ns = calloc(count, sizeof(*ns));
	int err = ns && count ? side->latency(count, ns) : -EINVAL;

	if (err) {
		say(err);
	} else {
		qsort(ns, count, sizeof(*ns), by_value);
		printf("{\"p50\": %u, \"p99\": %u, \"max\": %u}\n", ns[count / 2],
		       ns[(uint64_t)count * 99 / 100], ns[count - 1]);
		fflush(stdout);
	}
	free(ns);
}

static int open_side(const char *name, uint32_t flows, uint32_t held)
{
	struct setup setup = {kind_find(name), flows, held};

	kind = setup.kind;
	return kind && flows ? side->open(&setup) : -EINVAL;
}

static int stats(bool on)
{
	static int fd = -1;

	if (fd >= 0)
		close(fd);
	fd = on ? bpf_enable_stats(BPF_STATS_RUN_TIME) : -1;
	return on && fd < 0 ? -errno : 0;
}

/* Each has numbers behind it, as many as it takes. */
static int measure(const char *word, const uint32_t number[3], struct took *took)
{
	if (!strcmp(word, "run") && side->run)
		return side->run(number[0], number[1], number[2] * MS, took);
	if (!strcmp(word, "race") && side->race)
		return side->race(number[0], number[1], number[2] * MS, took);
	if (!strcmp(word, "cpus") && side->cpus)
		return side->cpus(number[0], number[1], number[2] * MS, took);
	if (!strcmp(word, "hold") && side->hold)
		return side->hold(number[0], number[1], took);
	if (!strcmp(word, "wire") && side->wire)
		return side->wire(number[0], number[1] * MS, took);
	if (!strcmp(word, "wire-in") && side->wire_in)
		return side->wire_in(number[0], number[1] * MS, took);
	return -EOPNOTSUPP;
}

static void obey(const char *line)
{
	uint32_t number[3] = {};
	struct took took = {};
	char word[32] = "", name[32] = "";

	sscanf(line, "%31s %u %u %u", word, &number[0], &number[1], &number[2]);
	if (sscanf(line, "open %31s %u %u", name, &number[0], &number[1]) == 3)
		say(open_side(name, number[0], number[1]));
	else if (sscanf(line, "stats %31s", name) == 1)
		say(stats(!strcmp(name, "on")));
	else if (!strcmp(word, "latency") && side->latency)
		latency(number[0]);
	else if (!strcmp(word, "fill") && side->fill)
		say(side->fill());
	else if (!strcmp(word, "close"))
		side->close(), say(0);
	else
		say_took(measure(word, number, &took), &took);
}

static const struct {
	const char *name;
	const struct side *side;
} sides[] = {
	{"ours", &ours_side}, {"xdp", &xdp_side},       {"peer", &peer_side},
	{"wire", &wire_side}, {"bridge", &bridge_side},
};

int main(int argc, char **argv)
{
	char line[256];

	for (unsigned int i = 0; argc > 1 && i < sizeof(sides) / sizeof(*sides); i++)
		if (!strcmp(argv[1], sides[i].name))
			side = sides[i].side;
	peer_binary = argc > 2 ? argv[2] : NULL;
	if (!side || (side == &peer_side && !peer_binary)) {
		fprintf(stderr, "usage: bench-proxy ours | xdp | peer QEMU | wire | bridge\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	while (fgets(line, sizeof(line), stdin))
		obey(line);
	side->close();
	return 0;
}
