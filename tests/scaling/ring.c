// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ring buffer of events is full, as it is when no daemon reads it: no packet
 * may leave for that, the request has to stand, and the next daemon has to find
 * what it was not told.
 */
#include <stdlib.h>

#include <bpf/bpf.h>

#include "release.h"
#include "scaling.h"

#define FLOWS   4000 /* an event of each is more than the ring takes */
#define PAYLOAD 64

static struct rig rig;
static const struct frame_kind kind = {.payload = PAYLOAD};

/* P and S say different things in flow i of UDP. Each is to be watched. */
static int differ(uint32_t flow, uint32_t times)
{
	static struct batch p, s;
	int err = 0;

	for (uint32_t n = 0; n < times && !err; n++) {
		p.count = s.count = 0;
		batch_add(&p, 2 * flow, 10 + 2 * n, &kind);
		batch_add(&s, 2 * flow, 11 + 2 * n, &kind);
		err = batch_from_guest(&rig, &p) ?:
						   batch_from_link(&rig, &s, COLO_LINK_OUTPUT, 1);
	}
	return err;
}

static int fill_ring(void)
{
	int err = 0;

	for (uint32_t i = 1; i < FLOWS && !err; i++)
		err = differ(i, 1);
	return err;
}

static bool ends_add_up(const struct colo_counters *c)
{
	return c->p_held == c->p_matched + c->p_committed + c->p_failed_over + c->p_discarded;
}

static void ring_is_full(void)
{
	struct colo_counters c;
	int err;

	err = fill_ring();
	c = rig_counters(&rig);
	figure("%u flows to be watched: %llu events of them did not find room", FLOWS - 1,
	       (unsigned long long)c.events_lost);
	claim(!err && c.events_lost > 0 && c.events_lost < FLOWS, "the ring of events is full");
	err = differ(0, rig.dp.config->reorder_window + 1);
	c = rig_counters(&rig);
	claim(!err && c.mismatches == 1 && rig.dp.session->request_epoch == 1 &&
		      rig.dp.session->request_reason == COLO_REASON_PAYLOAD,
	      "a mismatch asks for its checkpoint all the same");
	claim(!rig_arrived(&rig) && !c.p_unheld && !c.s_unheld, "nothing left, all is held");
}

/* What a daemon does that begins now. */
static void daemon_comes(void)
{
	const uint64_t bound = scale_now() + 3000000000ULL;
	struct colo_counters c;
	uint64_t begun = scale_now();
	int err = 0;

	do {
		err = rig_daemon(&rig);
		c = rig_counters(&rig);
	} while (!err && c.mismatches < FLOWS && scale_now() < bound);
	figure("the daemon found all in %.0f ms", (scale_now() - begun) / 1e6);
	claim(!err && c.mismatches == FLOWS, "a daemon finds the flows whose event was lost");
	claim(c.req_payload == 1, "and one request was made");
	err = release_commit(&rig.dp, 1);
	c = rig_counters(&rig);
	claim(!err && rig_arrived(&rig) == c.p_held && ends_add_up(&c) &&
		      c.frames_taken == c.frames_given,
	      "the commit lets all %llu leave", (unsigned long long)c.p_held);
}

void part_ring(const struct scale *scale)
{
	const struct colo_config sizes = {.max_flows = FLOWS};

	(void)scale;
	if (rig_open(&rig, COLO_ROLE_PRIMARY, &sizes)) {
		claim(false, "an instance");
		return;
	}
	ring_is_full();
	daemon_comes();
	rig_close(&rig);
}
