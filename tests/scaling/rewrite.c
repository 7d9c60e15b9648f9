// SPDX-License-Identifier: GPL-2.0-only
/*
 * The secondary's table, which has the TCP flows: what a full one costs those
 * that are active, and whether the memory comes back.
 */
#include <errno.h>
#include <unistd.h>
#include <linux/bpf.h>

#include <bpf/bpf.h>

#include "scaling.h"

#define ACTIVE  1000
#define ROUNDS  15
#define PAIRS   8000
#define PAYLOAD 64

static struct rig big, small;

static double rate(struct load *load, double *program_ns, int *err)
{
	uint64_t before = rig_program_ns(load->rig), cpu = 1;
	int result = load_run(load, PAIRS, &cpu);

	*program_ns = (double)(rig_program_ns(load->rig) - before) / PAIRS;
	*err = *err ?: result;
	return PAIRS * 1e9 / cpu;
}

static void throughput(struct load *few, struct load *alone, uint32_t flows)
{
	double part[ROUNDS], rates[2][ROUNDS], program[2][ROUNDS];
	int stats = bpf_enable_stats(BPF_STATS_RUN_TIME), err = 0;

	for (int i = 0; i < ROUNDS; i++) {
		rates[0][i] = rate(alone, &program[0][i], &err);
		rates[1][i] = rate(few, &program[1][i], &err);
		part[i] = rates[1][i] / rates[0][i];
	}
	close(stats);
	figure("pairs/s of one CPU: %.0f with %u flows in a table of %u, %.0f with %u of %u",
	       scale_median(rates[0], ROUNDS), ACTIVE, ACTIVE, scale_median(rates[1], ROUNDS),
	       ACTIVE, flows);
	figure("the programs' part of a pair: %.0f, %.0f ns", scale_median(program[0], ROUNDS),
	       scale_median(program[1], ROUNDS));
	claim(!err && scale_median(part, ROUNDS) >= 0.9,
	      "%u active of %u: throughput %.3f of that with a table of %u (0.9 at least)",
	      ACTIVE, flows, scale_median(part, ROUNDS), ACTIVE);
}

/* All but the active ones are reset, and are gone in time. */
static void end(const struct scale *scale, struct load *all, struct load *few, uint64_t before)
{
	const uint64_t wait_ns = (scale->full ? 60 : 10) * 1000000000ULL;
	uint64_t cpu, ended, peak = memory_current();
	struct turns turns;
	int err = 0;

	if (all->at)
		err = load_run(all, all->count - all->at, &cpu);
	all->kind.rst = true;
	err = load_run(all, all->count, &cpu) ?: err;
	big.dp.config->flow_grace_ms = scale->full ? 10000 : 1000;
	ended = scale_now();
	if (err || turns_begin(&turns, &big)) {
		claim(false, "they end");
		return;
	}
	while (rig_flows(&big) > few->count && scale_now() < ended + wait_ns)
		usleep(1000);
	claim(rig_flows(&big) == few->count, "those that were reset are gone after %.1f s",
	      (scale_now() - ended) / 1e9);
	while (scale_now() < ended + wait_ns)
		usleep(100000);
	turns_end(&turns);
	memory_back(before, peak, (scale_now() - ended) / 1e9);
}

void part_rewrite(const struct scale *scale)
{
	const struct frame_kind kind = {.payload = PAYLOAD};
	struct colo_config sizes = {.max_flows = scale->flows},
			   few_sizes = {.max_flows = ACTIVE};
	struct load few = {&big, kind, 1, 2, ACTIVE, 0, 0, 1};
	struct load all = {&big, kind, 1 + 2 * ACTIVE, 2, scale->flows - ACTIVE, 0, 0, 1};
	struct load alone = {&small, kind, 1, 2, ACTIVE, 0, 0, 1};
	uint64_t before, cpu;
	int err;

	if (rig_open(&big, COLO_ROLE_SECONDARY, &sizes)) {
		claim(false, "an instance");
		return;
	}
	err = rig_open(&small, COLO_ROLE_SECONDARY, &few_sizes);
	before = memory_current();
	if (!err)
		err = load_run(&alone, ACTIVE, &cpu) ?: load_run(&few, ACTIVE, &cpu);
	if (!err)
		err = load_run(&all, all.count, &cpu);
	claim(!err && rig_flows(&big) == scale->flows, "%u flows are in the secondary's table",
	      scale->flows);
	figure("secondary: %.0f bytes a flow",
	       ((double)memory_current() - (double)before) / scale->flows);
	throughput(&few, &alone, scale->flows);
	end(scale, &all, &few, before);
	rig_close(&small);
	rig_close(&big);
}
