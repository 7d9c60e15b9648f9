// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest and port outside COLO: our programs, or a bridge of the kernel on the
 * same devices. The sender's part is in both.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>

#include "bench.h"
#include "scaling.h"

#define CHUNK     64
#define ARRIVE_NS 1000000000ULL

static struct rig rig;
static struct frames p_frames, c_frames;
static int client = -1;
static bool open_now;

/* Nothing is received on it. */
static int client_open(void)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = rig.client};
	int on = 1;

	client = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (client < 0 || bind(client, (struct sockaddr *)&to, sizeof(to)) ||
	    setsockopt(client, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) ||
	    setsockopt(client, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)))
		return -errno;
	return 0;
}

/* The programs go, the devices stay, and the bridge knows who is where. */
static int bridge_instead(void)
{
	char guest[IF_NAMESIZE], port[IF_NAMESIZE], line[512];
	int err;

	snprintf(guest, sizeof(guest), "%s", rig.dp.abi.guest);
	snprintf(port, sizeof(port), "%s", rig.dp.abi.port);
	datapath_close(&rig.dp);
	err = datapath_detach(rig.name);
	rig.open = false;
	snprintf(line, sizeof(line),
		 "ip link add name bridge type bridge && ip link set dev bridge up && "
		 "ip link set dev %s master bridge && ip link set dev %s master bridge && "
		 "bridge fdb replace 02:00:00:00:00:10 dev %s master static && "
		 "bridge fdb replace 02:00:00:00:00:01 dev %s master static",
		 guest, port, guest, port);
	return err ?: system(line) ? -EIO : 0;
}

static int open_side(const struct setup *setup, bool bridge)
{
	const struct colo_config config = {
		.max_flows = 1024,
		.max_frames = 1024,
		.small_blocks = 64,
		.big_blocks = 64,
	};
	int err = rig_enter();

	scale_cpu(0);
	rig_counts_only = true;
	rig_offloads = setup->kind->gso;
	err = err ?: frames_make(&p_frames, setup->kind, setup->flows);
	err = err ?: frames_make_client(&c_frames, setup->kind, setup->flows);
	err = err ?: rig_open(&rig, COLO_ROLE_PRIMARY, &config);
	err = err ?: client_open();
	open_now = !err;
	if (err)
		return err;
	rig.dp.session->mode = COLO_MODE_WIRE;
	return bridge ? bridge_instead() : 0;
}

static int wire_open(const struct setup *setup)
{
	return open_side(setup, false);
}

static int bridge_open(const struct setup *setup)
{
	return open_side(setup, true);
}

static void wire_close(void)
{
	if (!open_now)
		return;
	close(client);
	frames_free(&p_frames);
	frames_free(&c_frames);
	rig_close(&rig);
	open_now = false;
}

static int wire_out(uint32_t flows, uint64_t for_ns, struct took *took)
{
	uint64_t begun = scale_now(), cpu = scale_cpu_ns() + softirq_threads_ns();
	uint64_t end, arrived = rig_arrived(&rig);
	uint32_t flow = 0;

	do {
		struct ready ready = {};

		for (int i = 0; i < CHUNK; i++) {
			struct iovec parts[3] = {{&p_frames.vnet, sizeof(p_frames.vnet)}};

			frames_next(&p_frames, flow, &ready);
			memcpy(parts + 1, ready.parts, sizeof(ready.parts));
			if (writev(rig.guest, parts, 3) < 0)
				return -errno;
			flow = flow + 1 < flows ? flow + 1 : 0;
		}
		took->pairs += CHUNK;
	} while (scale_now() < begun + for_ns);
	for (end = scale_now() + ARRIVE_NS; rig_arrived(&rig) - arrived < took->pairs;)
		if (scale_now() > end)
			return -EIO;
	took->cpu_ns = scale_cpu_ns() + softirq_threads_ns() - cpu;
	took->wall_ns = scale_now() - begun;
	return 0;
}

static uint64_t guest_takes(void)
{
	static unsigned char frame[70000];
	uint64_t count = 0;

	while (read(rig.guest, frame, sizeof(frame)) > 0)
		count++;
	return count;
}

static int wire_in(uint32_t flows, uint64_t for_ns, struct took *took)
{
	uint64_t begun = scale_now(), cpu = scale_cpu_ns() + softirq_threads_ns(), taken = 0;
	uint64_t end;
	uint32_t flow = 0;

	do {
		struct ready ready[CHUNK];
		struct iovec parts[CHUNK][3];
		struct mmsghdr messages[CHUNK] = {};

		for (int i = 0; i < CHUNK; i++) {
			frames_next(&c_frames, flow, &ready[i]);
			parts[i][0] = (struct iovec){&c_frames.vnet, sizeof(c_frames.vnet)};
			memcpy(&parts[i][1], ready[i].parts, sizeof(ready[i].parts));
			messages[i].msg_hdr =
				(struct msghdr){.msg_iov = parts[i], .msg_iovlen = 3};
			flow = flow + 1 < flows ? flow + 1 : 0;
		}
		if (sendmmsg(client, messages, CHUNK, 0) != CHUNK)
			return errno ? -errno : -EIO;
		took->pairs += CHUNK;
		taken += guest_takes();
	} while (scale_now() < begun + for_ns);
	for (end = scale_now() + ARRIVE_NS; taken < took->pairs; taken += guest_takes())
		if (scale_now() > end)
			return -EIO;
	took->cpu_ns = scale_cpu_ns() + softirq_threads_ns() - cpu;
	took->wall_ns = scale_now() - begun;
	return 0;
}

const struct side wire_side = {
	.open = wire_open,
	.close = wire_close,
	.wire = wire_out,
	.wire_in = wire_in,
};

const struct side bridge_side = {
	.open = bridge_open,
	.close = wire_close,
	.wire = wire_out,
	.wire_in = wire_in,
};
