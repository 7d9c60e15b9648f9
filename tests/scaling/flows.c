// SPDX-License-Identifier: GPL-2.0-only
/*
 * A table full of flows: what it costs those that are active, a commit, the
 * memory, and whether all of it comes back when they end.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/bpf.h>

#include <bpf/bpf.h>

#include "release.h"
#include "scaling.h"

#define ACTIVE  1000
#define ROUNDS  31
#define PAIRS   8000 /* a round: some 70 ms */
#define COMMITS 11
#define MB      1e6
#define NSEC    1e9
#define PAYLOAD 64

static struct rig big, small;
static struct load all, few, alone;
static double undisturbed; /* pairs/s of `few` */

static double spent_ms(uint64_t begun)
{
	return (scale_now() - begun) / 1e6;
}

static double ratio(double part, double whole)
{
	return whole ? part / whole : 0;
}

/* ---- the table is filled ------------------------------------------------------ */

static bool open_rigs(uint32_t flows)
{
	struct colo_config sizes = {.max_flows = flows}, few_sizes = {.max_flows = ACTIVE};
	uint64_t begun = memory_current(), opened;
	struct colo_config *c;

	if (rig_open(&big, COLO_ROLE_PRIMARY, &sizes))
		return false;
	opened = memory_current();
	c = big.dp.config;
	figure("attached: %.1f MB (%u flows, %u frames, %u blocks of 2 KB, %u of 64 KB)",
	       (opened - begun) / MB, c->max_flows, c->max_frames, c->small_blocks,
	       c->big_blocks);
	return !rig_open(&small, COLO_ROLE_PRIMARY, &few_sizes);
}

/* `few` are spread over all: each thousandth, say. The others are `all`'s. */
static void share_out(uint32_t flows)
{
	const struct frame_kind kind = {.payload = PAYLOAD};

	few = (struct load){&big, kind, 0, 1, ACTIVE, 0, 0, 1};
	all = (struct load){&big, kind, ACTIVE, 1, flows - ACTIVE, 0, 0, 1};
	alone = (struct load){&small, kind, 0, 1, ACTIVE, 0, 0, 1};
}

static void fill(void)
{
	uint64_t before = memory_current(), begun = scale_now(), cpu;
	uint32_t half = all.count / 2;
	struct colo_counters c;
	int err;

	err = load_run(&alone, ACTIVE, &cpu);
	/* in the middle of the others */
	if (!err)
		err = load_run(&all, half, &cpu);
	if (!err)
		err = load_run(&few, ACTIVE, &cpu);
	if (!err)
		err = load_run(&all, all.count - half, &cpu);
	c = rig_counters(&big);
	figure("filled in %.1f s; memory %.1f MB before, %.1f MB at the peak: %.0f bytes a flow",
	       spent_ms(begun) / 1e3, before / MB, memory_current() / MB,
	       ratio(memory_current() - before, rig_flows(&big)));
	claim(!err && rig_flows(&big) == all.count + few.count && !c.p_unheld && !c.s_unheld,
	      "%u flows are in the table, each released a pair of frames",
	      all.count + few.count);
	claim(!big.dp.session->request_epoch, "no checkpoint was asked for");
}

/* ---- throughput ---------------------------------------------------------------- */

struct rates {
	double pairs[ROUNDS];   /* per second of one CPU */
	double program[ROUNDS]; /* ns a pair, of the programs alone */
};

static int measure(struct load *load, struct rates *rates, unsigned int i)
{
	uint64_t before = rig_program_ns(load->rig), cpu = 1;
	int err = load_run(load, PAIRS, &cpu);

	rates->pairs[i] = PAIRS * NSEC / cpu;
	rates->program[i] = (double)(rig_program_ns(load->rig) - before) / PAIRS;
	return err;
}

/* The rounds take turns, so that what else runs here disturbs all alike. */
static void throughput(uint32_t flows)
{
	static struct rates with[3];
	static double part[3][ROUNDS];
	int stats = bpf_enable_stats(BPF_STATS_RUN_TIME), err = 0;
	double medians[3];

	for (unsigned int i = 0; i < ROUNDS && !err; i++) {
		err = measure(&alone, &with[0], i);
		err = measure(&few, &with[1], i) ?: err;
		err = measure(&all, &with[2], i) ?: err;
		for (int j = 0; j < 3; j++)
			part[j][i] = ratio(with[j].pairs[i], with[0].pairs[i]);
	}
	close(stats);
	claim(!err, "every pair arrived");
	for (int j = 0; j < 3; j++)
		medians[j] = scale_median(with[j].pairs, ROUNDS);
	undisturbed = medians[1];
	figure("pairs/s of one CPU: %.0f with %u flows in a table of %u, %.0f with %u of %u, %.0f with all of them",
	       medians[0], ACTIVE, ACTIVE, medians[1], ACTIVE, flows, medians[2]);
	figure("the programs' part of a pair: %.0f, %.0f, %.0f ns",
	       scale_median(with[0].program, ROUNDS), scale_median(with[1].program, ROUNDS),
	       scale_median(with[2].program, ROUNDS));
	claim(scale_median(part[1], ROUNDS) >= 0.9,
	      "%u active of %u: throughput %.3f of that with a table of %u (0.9 at least)",
	      ACTIVE, flows, scale_median(part[1], ROUNDS), ACTIVE);
	claim(scale_median(part[2], ROUNDS) >= 0.5,
	      "all %u active: throughput %.3f of that with a table of %u (0.5 at least)", flows,
	      scale_median(part[2], ROUNDS), ACTIVE);
}

/* ---- commits -------------------------------------------------------------------- */

/* A datagram of P's in each of `count` flows, spread over the table. */
static int hold_some(uint32_t count)
{
	struct load held = all;
	static struct batch batch;
	int err = 0;

	held.round = 1000 + big.dp.session->epoch;
	for (uint32_t i = 0; i < count && !err; i += batch.count) {
		for (batch.count = 0; batch.count < BATCH && i + batch.count < count;)
			batch_add(&batch,
				  all.first + (i + batch.count) * (all.count / count) / 2 * 2,
				  held.round, &all.kind);
		err = batch_from_guest(&big, &batch);
	}
	return err;
}

/* *whole becomes false if not all that was held has left. */
static double commit_ms(uint32_t held, bool *whole)
{
	uint64_t epoch = big.dp.session->epoch, want, begun;
	double took;
	int err = hold_some(held);

	want = rig_arrived(&big) + held;
	scale_precedence(true);
	begun = scale_now();
	err = release_commit(&big.dp, epoch) ?: err;
	took = spent_ms(begun);
	scale_precedence(false);
	few.epoch = all.epoch = epoch + 1;
	*whole &= !err && rig_arrived(&big) == want;
	return took;
}

static void commits(uint32_t flows)
{
	double full[COMMITS], empty[COMMITS], worst = 0;
	bool whole = true;

	for (unsigned int i = 0; i < COMMITS; i++) {
		full[i] = commit_ms(ACTIVE, &whole);
		empty[i] = commit_ms(0, &whole);
		if (full[i] > worst)
			worst = full[i];
	}
	figure("a commit with %u flows: median %.2f ms, longest %.2f ms, if %u hold a frame; %.3f ms if none does",
	       flows, scale_median(full, COMMITS), worst, ACTIVE, scale_median(empty, COMMITS));
	claim(whole, "each of %u commits let all leave that was held", 2 * COMMITS);
	claim(scale_median(full, COMMITS) < 5,
	      "a commit with %u flows, %u of which hold a frame, takes less than 5 ms", flows,
	      ACTIVE);
}

/* ---- they end -------------------------------------------------------------------- */

/* The rest of the round, then one in which every stream ends. */
static void end_flows(uint32_t grace_ms)
{
	uint64_t cpu;
	int err = 0;

	if (all.at)
		err = load_run(&all, all.count - all.at, &cpu);
	all.kind.fin = true;
	if (!err)
		err = load_run(&all, all.count, &cpu);
	if (!err)
		err = load_run(&few, few.count, &cpu); /* they were not to be idle */
	claim(!err, "every flow's last pair arrived");
	big.dp.config->flow_grace_ms = grace_ms;
	big.dp.config->flow_idle_ms = grace_ms;
}

/* `few` go on, while the daemon takes the others away. */
static void reclaim(uint64_t bound_ns, uint64_t ended)
{
	static double rates[4096];
	unsigned int count = 0;
	double longest = 0;
	uint64_t cpu, begun = 0;
	__u64 flows = rig_flows(&big);
	int err = 0;

	while (!err && rig_flows(&big) > few.count && scale_now() < ended + bound_ns) {
		err = load_run(&few, PAIRS / 8, &cpu);
		if (rig_flows(&big) == flows)
			continue;
		if (!begun)
			begun = scale_now();
		if (count < sizeof(rates) / sizeof(*rates))
			rates[count++] = PAIRS / 8 * NSEC / cpu;
	}
	/* were this process kept from running for the grace time, some were idle */
	err = err ?: load_run(&few, few.count, &cpu);
	longest = ratio(scale_median(rates, count), undisturbed);
	claim(!err, "every pair of those that are active arrived");
	claim(rig_flows(&big) == few.count,
	      "the others are gone %.1f s after they ended, in %.1f s",
	      (scale_now() - ended) / NSEC, (scale_now() - begun) / NSEC);
	claim(longest >= 0.8, "throughput meanwhile: %.3f of that before (0.8 at least)",
	      longest);
}

static void end(const struct scale *scale, uint64_t before)
{
	const uint64_t wait_ns = scale->full ? 60 * NSEC : 10 * NSEC;
	uint64_t ended, peak = memory_current();
	struct turns turns;

	end_flows(scale->full ? 10000 : 1000);
	ended = scale_now();
	if (turns_begin(&turns, &big)) {
		claim(false, "a thread for the daemon's part");
		return;
	}
	reclaim(wait_ns, ended);
	while (scale_now() < ended + wait_ns)
		usleep(100000);
	turns_end(&turns);
	memory_back(before, peak, (scale_now() - ended) / NSEC);
}

void part_flows(const struct scale *scale)
{
	uint64_t before;

	if (!open_rigs(scale->flows)) {
		claim(false, "two instances");
		return;
	}
	before = memory_current();
	claim(before, "there is a memory cgroup to look at");
	share_out(scale->flows);
	fill();
	throughput(scale->flows);
	commits(scale->flows);
	end(scale, before);
	rig_close(&small);
	rig_close(&big);
}
