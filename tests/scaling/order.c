// SPDX-License-Identifier: GPL-2.0-only
/*
 * The order in which releases leave when P's frames come on one CPU and S's on
 * the other, as fast as both can: where they are sent, and at the client's end.
 *
 * A veth hands a frame to the queue of the CPU that sends it, and two CPUs'
 * queues have no order between them. So at the client's end the flows are
 * hashed over one queue (receive packet steering), as a NIC hashes them; what
 * two queues make of the same order is printed beside it.
 *
 * In the context XDP one flow's frames leave by XDP and by tc, which are handed to
 * the port at other times; there a daemon has to run beside it.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include <bpf/libbpf.h>

#include "scaling.h"
#include "sink.skel.h"

#define FLOWS    32   /* at most: half of UDP, half of TCP */
#define AHEAD    24   /* rounds that one side may be ahead of the other */
#define STRETCH  1024 /* frames of each side, then the clock is looked at */
#define PAYLOAD  1024
#define STALL_NS 5000000000ULL

/* One side; a round has a frame of each flow. */
struct side {
	struct rig *rig;
	unsigned int cpu;
	bool guest;
	bool halves; /* its segments are half as long */
	uint32_t flows;
	uint32_t block;
	uint32_t first, last;   /* rounds */
	volatile uint32_t sent; /* likewise */
	const struct side *other;
	int error;
};

/*
 * How far the other side has to be before this one sends its round: they lead
 * by turns, a block of rounds each, and the other follows when the block is
 * there. Without blocks they race.
 */
static uint32_t other_first(const struct side *side, uint32_t round)
{
	uint32_t block = side->block, last;

	if (!block || (round / block & 1) == side->guest)
		return round > AHEAD ? round - AHEAD : 0;
	last = round / block * block + block - 1;
	return last < side->last ? last : side->last;
}

static int wait_turn(struct side *side, uint32_t round)
{
	uint64_t stall = scale_now() + STALL_NS;

	while (side->other->sent < other_first(side, round)) {
		if (side->other->error || scale_now() > stall)
			return -ETIMEDOUT;
		sched_yield();
	}
	return 0;
}

static int send_round(struct side *side, uint32_t round)
{
	static __thread struct batch batch;
	const struct frame_kind kind = {.payload = PAYLOAD};
	const struct frame_kind half = {.payload = PAYLOAD / 2};

	batch.count = 0;
	for (uint32_t flow = 0; flow < side->flows; flow++) {
		if (!side->halves || !(flow & 1)) {
			batch_add(&batch, flow, round, &kind);
			continue;
		}
		batch_add(&batch, flow, 2 * round, &half);
		batch_add(&batch, flow, 2 * round + 1, &half);
	}
	return side->guest ? batch_from_guest(side->rig, &batch) :
			     batch_from_link(side->rig, &batch, COLO_LINK_OUTPUT, 1);
}

static void *side_run(void *context)
{
	struct side *side = context;

	scale_cpu(side->cpu);
	for (uint32_t round = side->first; round <= side->last && !side->error; round++) {
		side->error = wait_turn(side, round) ?: send_round(side, round);
		side->sent = round;
	}
	return NULL;
}

struct shape {
	const char *what;
	uint32_t flows;
	uint32_t block; /* rounds in which one side leads */
	bool halves;
	bool steer; /* one queue at the client */
};

/* Rounds from `first` on. */
static int run_sides(struct rig *rig, const struct shape *shape, uint32_t first)
{
	struct side sides[2] = {
		{.rig = rig, .cpu = 0, .guest = true, .other = &sides[1]},
		{.rig = rig, .cpu = 1, .halves = shape->halves, .other = &sides[0]},
	};
	pthread_t threads[2];

	for (int i = 0; i < 2; i++) {
		sides[i].flows = shape->flows;
		sides[i].block = shape->block;
		sides[i].first = first;
		sides[i].last = first + STRETCH / shape->flows - 1;
		sides[i].sent = first - 1;
	}
	if (pthread_create(&threads[0], NULL, side_run, &sides[0]))
		return -EAGAIN;
	if (pthread_create(&threads[1], NULL, side_run, &sides[1]))
		sides[1].error = -EAGAIN;
	else
		pthread_join(threads[1], NULL);
	pthread_join(threads[0], NULL);
	return sides[0].error ?: sides[1].error;
}

/* All that both have sent, each byte of the streams and each datagram. */
static bool all_left(const struct sink_count *count, uint64_t frames)
{
	return count->payload == frames / 2 * PAYLOAD &&
	       count->frames - count->segments == frames / 2;
}

/* Until the time is over. How many frames each side has sent, or negative. */
static long run_stretches(struct rig *rig, const struct shape *shape, uint64_t for_ns)
{
	uint64_t end = scale_now() + for_ns;
	long frames = 0;

	do {
		int err = run_sides(rig, shape, 1 + frames / shape->flows);

		if (err)
			return err;
		frames += STRETCH;
	} while (scale_now() < end);
	return frames;
}

/* The daemon: woken by the ring, as the real one. */
struct watch {
	struct rig *rig;
	pthread_t thread;
	volatile bool stop;
	int error;
};

static void *watch_run(void *context)
{
	struct watch *watch = context;

	scale_precedence(true);
	while (!watch->stop) {
		ring_buffer__poll(watch->rig->ring, 1);
		watch->error = watch->error ?: rig_daemon(watch->rig);
	}
	return NULL;
}

/* As frames of XDP are not seen where they leave, only the client's end is looked at. */
static void run_xdp(const struct shape *shape, uint64_t for_ns)
{
	const struct colo_config sizes = {.max_flows = 64};
	const struct sink_count *far;
	struct watch watch = {};
	struct colo_counters c;
	struct rig rig;
	uint64_t begun;
	long frames;
	double took;
	int err;

	rig_context = COLO_CONTEXT_XDP;
	err = rig_open(&rig, COLO_ROLE_PRIMARY, &sizes);
	rig_context = COLO_CONTEXT_TC;
	watch.rig = &rig;
	if (!err)
		err = -pthread_create(&watch.thread, NULL, watch_run, &watch);
	if (err) {
		claim(false, "XDP, %s: %s", shape->what, strerror(-err));
		rig_close(&rig);
		return;
	}
	begun = scale_now();
	frames = run_stretches(&rig, shape, for_ns);
	took = (scale_now() - begun) / 1e9;
	far = &rig.sink->bss->far_count;
	for (begun = scale_now();
	     frames > 0 && !all_left(far, frames) && scale_now() < begun + STALL_NS;)
		sched_yield();
	watch.stop = true;
	pthread_join(watch.thread, NULL);
	c = rig_counters(&rig);
	figure("XDP, %s: %.0f pairs/s; of %llu segments of P %llu held by XDP, %llu matched by it, for it %llu frames waited",
	       shape->what, frames / took, far->segments, (unsigned long long)c.xdp_held,
	       (unsigned long long)c.xdp_matched, (unsigned long long)c.xdp_waited);
	figure("... out of order at the client: %llu of %llu; not taken by the port: %llu",
	       far->inverted, far->frames, (unsigned long long)c.xdp_lost);
	claim(frames > 0 && !watch.error && all_left(far, frames) && !far->repeated,
	      "XDP, %s: all of it left, once", shape->what);
	claim(shape->halves || c.xdp_matched, "XDP, %s: some of it by XDP", shape->what);
	claim(!far->inverted, "XDP, %s: it came in the guest's order", shape->what);
	rig_close(&rig);
}

static bool one_poll_left(const struct rig *rig)
{
	return rig->sink->bss->far_count.payload == 3 * PAYLOAD;
}

/*
 * One poll of the link has a frame that XDP releases, which then waits for the end
 * of the poll, and behind it some that go to tc before that end: what they release
 * of the same flow must not leave first.
 */
static void one_poll(void)
{
	const struct colo_config sizes = {.max_flows = 64};
	const struct frame_kind kind = {.payload = PAYLOAD}, half = {.payload = PAYLOAD / 2};
	static struct batch batch;
	struct colo_counters c;
	struct rig rig;
	uint64_t end;
	int err;

	rig_context = COLO_CONTEXT_XDP;
	err = rig_open(&rig, COLO_ROLE_PRIMARY, &sizes);
	rig_context = COLO_CONTEXT_TC;
	/* the first one of a flow is tc's */
	for (uint32_t round = 1; round <= 3; round++)
		batch_add(&batch, 1, round, &kind);
	err = err ?: batch_from_guest(&rig, &batch);
	batch.count = 0;
	batch_add(&batch, 1, 1, &kind);
	err = err ?: batch_from_link(&rig, &batch, COLO_LINK_OUTPUT, 1);
	err = err ?: rig_thread_link(&rig, 0);
	batch.count = 0;
	batch_add(&batch, 1, 2, &kind);
	batch_add(&batch, 1, 6, &half);
	batch_add(&batch, 1, 7, &half);
	/* the stack hands over eight together */
	for (uint32_t round = 0; round < 16; round++)
		batch_add(&batch, 0, round, &kind);
	scale_precedence(true);
	err = err ?: batch_from_link(&rig, &batch, COLO_LINK_OUTPUT, 1);
	scale_precedence(false);
	for (end = scale_now() + STALL_NS; !err && !one_poll_left(&rig) && scale_now() < end;)
		err = rig_daemon(&rig);
	c = rig_counters(&rig);
	figure("XDP, one poll: %llu segments have left, %llu by XDP, for which %llu frames waited",
	       rig.sink->bss->far_count.segments, (unsigned long long)c.xdp_matched,
	       (unsigned long long)c.xdp_waited);
	claim(!err && one_poll_left(&rig) && c.xdp_matched == 1 && c.xdp_waited,
	      "XDP, one poll: what tc releases behind it waits (%d)", err);
	claim(!rig.sink->bss->far_count.inverted,
	      "XDP, one poll: it came in the guest's order");
	rig_close(&rig);
}

/* Where the port takes none of its frames XDP releases one, and no more. */
static void refused(void)
{
	const struct colo_config sizes = {.max_flows = 64};
	const struct frame_kind kind = {.payload = PAYLOAD};
	static struct batch batch;
	struct colo_counters c;
	struct rig rig;
	int err;

	rig_context = COLO_CONTEXT_XDP;
	rig_refuses = true;
	err = rig_open(&rig, COLO_ROLE_PRIMARY, &sizes);
	rig_context = COLO_CONTEXT_TC;
	rig_refuses = false;
	for (uint32_t round = 1; round <= 4 && !err; round++) {
		batch.count = 0;
		batch_add(&batch, 1, round, &kind);
		err = batch_from_guest(&rig, &batch) ?:
			      batch_from_link(&rig, &batch, COLO_LINK_OUTPUT, 1);
	}
	c = rig_counters(&rig);
	claim(!err && c.xdp_matched == 1 && c.xdp_lost == 1 && !rig.dp.config->xdp_frame_max &&
		      c.p_matched == 4 && rig_arrived(&rig) == 3,
	      "XDP, a port that takes no such frame: one is lost, the others leave by tc");
	/* the guest sends it again */
	batch.count = 0;
	batch_add(&batch, 1, 2, &kind);
	err = err ?: batch_from_guest(&rig, &batch);
	claim(!err && rig_arrived(&rig) == 4, "... and it, when it comes again");
	rig_close(&rig);
}

static void run_order(const struct shape *shape, uint64_t for_ns)
{
	const struct colo_config sizes = {.max_flows = 64};
	const struct sink_count *near, *far;
	struct colo_counters c;
	struct rig rig;
	uint64_t begun;
	long frames;
	double took;
	int err;

	err = rig_open(&rig, COLO_ROLE_PRIMARY, &sizes);
	if (!err && shape->steer)
		err = rig_steer(&rig, 0);
	begun = scale_now();
	frames = err ? err : run_stretches(&rig, shape, for_ns);
	took = (scale_now() - begun) / 1e9;
	if (frames < 0) {
		claim(false, "%s: %s", shape->what, strerror(-frames));
		rig_close(&rig);
		return;
	}
	near = &rig.sink->bss->near_count;
	far = &rig.sink->bss->far_count;
	for (begun = scale_now(); !all_left(far, frames) && scale_now() < begun + STALL_NS;)
		sched_yield();
	c = rig_counters(&rig);
	figure("%s: %.0f pairs/s; %llu frames of P left when S came, %llu when P came, %llu locks not got",
	       shape->what, frames / took, (unsigned long long)c.p_matched,
	       (unsigned long long)c.p_at_once, (unsigned long long)c.lock_failed);
	figure("... out of order where they leave: %llu of %llu, at the client: %llu of %llu",
	       near->inverted, near->frames, far->inverted, far->frames);
	claim(all_left(near, frames) && all_left(far, frames) && !near->repeated,
	      "%s: all of it left, once", shape->what);
	claim(!near->inverted, "%s: it left in the guest's order", shape->what);
	claim(!shape->steer || !far->inverted, "%s: and came in it", shape->what);
	rig_close(&rig);
}

/* A guest that does not count upwards: were it not seen, nothing would be. */
static void control(void)
{
	const struct colo_config sizes = {.max_flows = 64};
	const struct frame_kind kind = {.payload = PAYLOAD};
	struct batch *batch = &(struct batch){};
	struct rig rig;
	int err;

	err = rig_open(&rig, COLO_ROLE_PRIMARY, &sizes);
	batch_add(batch, 0, 2, &kind);
	batch_add(batch, 0, 1, &kind);
	batch_add(batch, 1, 2, &kind);
	if (!err)
		err = batch_from_guest(&rig, batch) ?:
			      batch_from_link(&rig, batch, COLO_LINK_OUTPUT, 1);
	claim(!err && rig_arrived(&rig) == 3 && rig.sink->bss->near_count.inverted == 1 &&
		      rig.sink->bss->far_count.inverted == 1,
	      "numbers that go down are counted");
	rig_close(&rig);
}

/*
 * Frames of a flow that come from the guest and from the link leave by one of
 * the port's queues, which have no order between them.
 */
static void one_queue(uint32_t flow)
{
	const struct colo_config sizes = {.max_flows = 64};
	const struct frame_kind kind = {.payload = PAYLOAD};
	static struct batch batch;
	struct rig rig;
	int err, used = 0;

	rig_queues = 4;
	err = rig_open(&rig, COLO_ROLE_PRIMARY, &sizes);
	rig_queues = 1;
	for (uint32_t round = 1; round <= 64 && !err; round++) {
		batch.count = 0;
		batch_add(&batch, flow, round, &kind);
		if (round & 1)
			err = batch_from_guest(&rig, &batch);
		err = err ?: batch_from_link(&rig, &batch, COLO_LINK_OUTPUT, 1);
		if (!(round & 1))
			err = err ?: batch_from_guest(&rig, &batch);
	}
	if (!err)
		used = rig_queues_used(&rig);
	claim(!err && used == 1, "a flow of %s leaves by one of the port's four queues (%d)",
	      flow & 1 ? "TCP" : "UDP", used);
	rig_close(&rig);
}

void part_order(const struct scale *scale)
{
	const uint64_t for_ns = (scale->full ? 20 : 3) * 1000000000ULL;
	const struct shape shapes[] = {
		{"32 flows, each leads 16 rounds", 32, 16, false, true},
		{"2 flows, each leads a round", 2, 1, false, true},
		{"2 flows, who comes", 2, 0, false, true},
		{"2 flows, S cuts in halves", 2, 1, true, true},
		{"2 flows, two queues at the client", 2, 1, false, false},
	};

	control();
	for (uint32_t flow = 0; flow < 4; flow++)
		one_queue(flow);
	for (unsigned int i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
		run_order(&shapes[i], for_ns);
	one_poll();
	refused();
	for (unsigned int i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
		if (shapes[i].steer)
			run_xdp(&shapes[i], for_ns);
}
