// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bounds that take more frames to reach than a packet case has lines: bindings
 * of fragments, client segments that wait for an offset, segments that are kept
 * until the secondary's guest has them.
 */
#include <string.h>
#include <arpa/inet.h>

#include "release.h"
#include "scaling.h"

#define BINDINGS 8192 /* bpf/fragment.h */
#define WAITING  64   /* bpf/rewrite.h */
#define KEPT     512  /* bpf/redeliver.h */
#define MORE     8
#define RECORDS  1024
#define SOME     200

#define IP_ID    18 /* offsets in a frame */
#define IP_FRAG  20

static const struct frame_kind kind = {.payload = 64};
static struct batch batch, answer;
static struct rig rig;

/* ---- fragments --------------------------------------------------------------- */

/* The first fragment of packet `id`; the rest never comes. */
static void add_fragment(struct batch *to, uint32_t number, uint16_t id)
{
	unsigned char *frame = to->frame[to->count];
	const uint16_t more = htons(0x2000), net_id = htons(id);

	batch_add(to, 0, number, &kind);
	memcpy(frame + IP_ID, &net_id, sizeof(net_id));
	memcpy(frame + IP_FRAG, &more, sizeof(more));
}

/* Pairs of packets [from, to), P's with the id n and S's with another. */
static int fragments(uint32_t from, uint32_t to, uint64_t epoch)
{
	int err = 0;

	for (uint32_t n = from; n < to && !err; n++) {
		batch.count = answer.count = 0;
		add_fragment(&batch, n, n);
		add_fragment(&answer, n, n + 20000);
		err = batch_from_guest(&rig, &batch) ?:
			      batch_from_link(&rig, &answer, COLO_LINK_OUTPUT, epoch);
	}
	return err;
}

static void bindings(void)
{
	const struct colo_config sizes = {.max_flows = 16};
	struct colo_counters c;
	int err;

	err = rig_open(&rig, COLO_ROLE_PRIMARY, &sizes);
	/* the time-out of datagrams is not what is looked at */
	if (!err)
		rig.dp.config->reorder_ms = 1000;
	err = err ?: fragments(0, BINDINGS, 1);
	claim(!err && rig_arrived(&rig) == BINDINGS && !rig.dp.session->request_epoch,
	      "%u packets in fragments are bound in an epoch", BINDINGS);
	err = err ?: fragments(BINDINGS, BINDINGS + 1, 1);
	c = rig_counters(&rig);
	claim(!err && rig_arrived(&rig) == BINDINGS && c.p_held - c.p_matched == 1 &&
		      rig.dp.session->request_reason == COLO_REASON_FLOW_FULL,
	      "one more is held, and asks for a checkpoint");
	err = err ?: fragments(0, 1, 1);
	claim(!err && rig_arrived(&rig) == BINDINGS,
	      "what is behind it waits, though it is bound");
	err = err ?: release_commit(&rig.dp, 1);
	claim(!err && rig_arrived(&rig) == BINDINGS + 2, "the commit lets them leave");
	err = err ?: fragments(BINDINGS, 2 * BINDINGS, 2);
	claim(!err && rig_arrived(&rig) == 2 * BINDINGS + 2 &&
		      rig.dp.session->request_epoch == 1,
	      "and as many again are bound");
	rig_close(&rig);
}

/* ---- what comes for the secondary's guest ------------------------------------- */

/* The first opens the connection if it is new. */
static int clients(uint32_t flow, uint32_t count, bool new)
{
	const struct frame_kind open = {.payload = 64, .syn = true};
	int err = 0;

	for (uint32_t n = 0; n < count && !err; n++) {
		batch.count = 0;
		batch_add_client(&batch, flow, n, new && !n ? &open : &kind);
		err = batch_from_link(&rig, &batch, COLO_LINK_INPUT, 1);
	}
	return err;
}

static void waiting(void)
{
	const struct colo_config sizes = {.max_flows = 16};
	struct colo_counters c;
	int err;

	err = rig_open(&rig, COLO_ROLE_SECONDARY, &sizes) ?: clients(1, 1 + WAITING, true);
	c = rig_counters(&rig);
	claim(!err && c.rw_in == 1 && c.rw_in_queued == WAITING && !c.rw_in_dropped &&
		      !rig.dp.session->request_epoch,
	      "%u client segments wait for an offset", WAITING);
	err = err ?: clients(1, MORE, false);
	c = rig_counters(&rig);
	claim(!err && c.rw_in == 1 && c.rw_in_dropped == MORE &&
		      rig.dp.session->request_reason == COLO_REASON_QUEUE_FULL,
	      "more are dropped, counted and asked for: none passes untranslated");
	err = err ?: release_commit(&rig.dp, 1);
	c = rig_counters(&rig);
	claim(!err && c.rw_in_dropped == WAITING + MORE,
	      "a reset ends the wait, and each is counted");
	rig_close(&rig);
}

static void kept(void)
{
	const struct colo_config sizes = {.max_flows = 16};
	struct colo_counters c;
	int err;

	err = rig_open(&rig, COLO_ROLE_SECONDARY, &sizes) ?: clients(1, KEPT + MORE, false);
	c = rig_counters(&rig);
	claim(!err && c.rw_in == KEPT + MORE && c.rw_in_kept == KEPT && c.rw_in_unkept == MORE,
	      "%u segments are kept until the guest has them; more go to it and are counted",
	      KEPT);
	claim(!rig.dp.session->request_epoch, "which asks for nothing");
	rig_close(&rig);
}

/* ---- the pool ----------------------------------------------------------------- */

static int hold(uint32_t from, uint32_t to)
{
	int err = 0;

	for (uint32_t n = from; n < to && !err; n++) {
		batch.count = 0;
		batch_add(&batch, 1, n, &kind);
		err = batch_from_guest(&rig, &batch);
	}
	return err;
}

/* What a CPU keeps in its magazine is not lost for the others. */
static void whole_pool(void)
{
	const struct colo_config sizes = {
		.max_flows = 16, .max_frames = RECORDS, .small_blocks = RECORDS};
	struct colo_counters c;
	int err;

	err = rig_open(&rig, COLO_ROLE_PRIMARY, &sizes) ?: hold(0, SOME);
	err = err ?: release_commit(&rig.dp, 1);
	scale_cpu(1);
	err = err ?: hold(SOME, SOME + RECORDS);
	c = rig_counters(&rig);
	claim(!err && c.p_held == SOME + RECORDS && c.p_committed == SOME && !c.p_unheld &&
		      !rig.dp.session->request_epoch,
	      "a CPU holds %u frames in as many records, some of which another gave back",
	      RECORDS);
	err = err ?: hold(SOME + RECORDS, SOME + RECORDS + 1);
	c = rig_counters(&rig);
	claim(!err && c.p_unheld == 1 &&
		      rig.dp.session->request_reason == COLO_REASON_POOL_FULL,
	      "one more is not held, and asks for a checkpoint");
	scale_cpu(0);
	rig_close(&rig);
}

void part_bounds(const struct scale *scale)
{
	(void)scale;
	bindings();
	waiting();
	kept();
	whole_pool();
}
