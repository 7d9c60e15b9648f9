// SPDX-License-Identifier: GPL-2.0-only
/* Flows that are active: pairs of frames, in an order that no cache foresees. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "scaling.h"

#define SHUFFLE   2654435761ULL /* a prime: it has no factor with any count */
#define ARRIVE_NS 1000000000ULL

/* The next frames, of one round: a flow is in a batch once. */
static void next_batch(struct load *load, struct batch *batch, struct batch *acks,
		       uint32_t bound)
{
	static const struct frame_kind ack;

	batch->count = 0;
	if (acks)
		acks->count = 0;
	while (batch->count < BATCH && batch->count < bound) {
		uint32_t flow = load->first + load->at * SHUFFLE % load->count * load->step;

		batch_add(batch, flow, load->round, &load->kind);
		if (acks)
			batch_add_client(acks, flow, load->round, &ack);
		if (++load->at < load->count)
			continue;
		load->at = 0;
		load->round++;
		break;
	}
}

static int send_both(struct load *load, const struct batch *batch, const struct batch *acks)
{
	int err = batch_from_link(load->rig, acks, COLO_LINK_INPUT, load->epoch);

	guest_reads(load->rig);
	return err ?: batch_from_guest(load->rig, batch);
}

static int send_pairs(struct load *load, const struct batch *batch, bool guest_first)
{
	struct rig *rig = load->rig;
	int err = 0;

	if (guest_first)
		err = batch_from_guest(rig, batch);
	if (!err)
		err = batch_from_link(rig, batch, COLO_LINK_OUTPUT, load->epoch);
	if (!err && !guest_first)
		err = batch_from_guest(rig, batch);
	return err;
}

int load_run(struct load *load, uint32_t pairs, uint64_t *cpu_ns)
{
	const bool secondary = load->rig->dp.abi.role == COLO_ROLE_SECONDARY;
	static struct batch batch, acks;
	uint64_t want = rig_arrived(load->rig) + pairs, end;
	uint64_t begun = scale_cpu_ns();
	bool guest_first = true;
	int err = 0;

	for (uint32_t done = 0; !err && done < pairs; done += batch.count) {
		next_batch(load, &batch, secondary ? &acks : NULL, pairs - done);
		err = secondary ? send_both(load, &batch, &acks) :
				  send_pairs(load, &batch, guest_first);
		guest_first = !guest_first;
	}
	*cpu_ns = scale_cpu_ns() - begun;
	if (err)
		fprintf(stderr, "scale: a frame cannot be sent: %s\n", strerror(-err));
	for (end = scale_now() + ARRIVE_NS; rig_arrived(load->rig) < want && !err;)
		if (scale_now() > end)
			err = -EIO;
	return err;
}
