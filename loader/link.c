// SPDX-License-Identifier: GPL-2.0-only
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <colo/link.h>

#include "link.h"
#include "log.h"
#include "release.h"

#define MS      1000000ULL
#define SAY_NS  (10 * MS)  /* a frame of counts each, while there is traffic */
#define IDLE_NS (100 * MS) /* outside COLO */
#define REPEATS 2          /* so often a last count is said, should one be lost */
/*
 * What the count covers may still lie in another queue of the device or of
 * another CPU when the count itself is read.
 */
#define SETTLE_NS (20 * MS)

struct counts_frame {
	struct ethhdr ethernet;
	__be16 tci;
	__be16 type;
	struct colo_link_counts counts;
} __attribute__((packed));

_Static_assert(sizeof(struct counts_frame) <= LINK_COUNTS_LEN, "frame of counts");

void link_counts_frame(unsigned char bytes[LINK_COUNTS_LEN], const struct colo_link_count *sent,
		       __u64 asked_epoch, enum colo_reason reason)
{
	struct counts_frame frame = {
		.ethernet.h_proto = htons(COLO_LINK_PROTO),
		.tci = htons(colo_link_vid(COLO_LINK_CONTROL, sent->epoch)),
		.type = htons(COLO_LINK_ETHERTYPE),
		.counts.magic = htonl(COLO_LINK_MAGIC),
		.counts.version = htons(COLO_ABI_VERSION),
		.counts.epoch = htobe64(sent->epoch),
		.counts.tcp_bytes = htobe64(sent->tcp_bytes),
		.counts.frames = htobe64(sent->frames),
		.counts.asked_epoch = htobe64(asked_epoch),
		.counts.asked_reason = htons(reason),
	};

	/* to everyone on a link of two; from a local address of no device */
	memset(frame.ethernet.h_dest, 0xff, ETH_ALEN);
	memcpy(frame.ethernet.h_source,
	       "\x02"
	       "colo\x01",
	       ETH_ALEN);
	memset(bytes, 0, LINK_COUNTS_LEN);
	memcpy(bytes, &frame, sizeof(frame));
}

/*
 * dp->link.cpus is kept until the datapath is closed: each look at the counts
 * needs it. A daemon that finds COLO begun has not been at link_start(). The
 * number of CPUs, or -errno.
 */
static int room_for_counts(struct datapath *dp)
{
	int cpus = libbpf_num_possible_cpus();

	if (cpus > 0 && !dp->link.cpus)
		dp->link.cpus = calloc(cpus, sizeof(*dp->link.cpus));
	return cpus <= 0 || dp->link.cpus ? cpus : -ENOMEM;
}

static int clear_counts(struct datapath *dp, enum datapath_map map)
{
	int cpus = room_for_counts(dp), err = 0;

	if (cpus < 0)
		return cpus;
	memset(dp->link.cpus, 0, cpus * sizeof(*dp->link.cpus));
	for (__u32 slot = 0; !err && slot < 2; slot++)
		err = bpf_map_update_elem(dp->map_fd[map], &slot, dp->link.cpus, 0);
	return err;
}

int link_start(struct datapath *dp)
{
	int err = clear_counts(dp, MAP_LINK_SENT);

	if (!err)
		err = clear_counts(dp, MAP_LINK_RECEIVED);
	memset((void *)dp->link_peer, 0, sizeof(*dp->link_peer));
	memset(&dp->link.said, 0, sizeof(dp->link.said));
	dp->link.repeats = 0;
	memset(&dp->link.pending, 0, sizeof(dp->link.pending));
	dp->link.pending_ns = 0;
	dp->link.next_ns = 0;
	return err;
}

/* The sum over all CPUs of one epoch. */
static int sum_counts(struct datapath *dp, enum datapath_map map, __u64 epoch,
		      struct colo_link_count *sum)
{
	int cpus = room_for_counts(dp), err;
	struct colo_link_count *all = dp->link.cpus;
	__u32 slot = epoch & 1;

	if (cpus < 0)
		return cpus;
	err = bpf_map_lookup_elem(dp->map_fd[map], &slot, all);
	*sum = (struct colo_link_count){.epoch = epoch};
	for (int i = 0; !err && i < cpus; i++) {
		if (all[i].epoch != epoch)
			continue;
		sum->tcp_bytes += all[i].tcp_bytes;
		sum->frames += all[i].frames;
	}
	return err;
}

static int open_socket(struct datapath *dp)
{
	struct sockaddr_ll at = {
		.sll_family = AF_PACKET,
		.sll_ifindex = dp->config->link_ifindex,
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at))) {
		int err = -errno;

		log_error("%s: no packet socket: %s: losses on the link are found late",
			  dp->abi.link, strerror(-err));
		if (fd >= 0)
			close(fd);
		return err;
	}
	dp->link.fd = fd;
	return 0;
}

/*
 * A secondary has nobody to ask but the primary: what it has missed on the link,
 * what waits for too long, what is full. It says so until the epoch is closed.
 */
static bool wants_checkpoint(const struct datapath *dp, __u64 epoch)
{
	return dp->abi.role == COLO_ROLE_SECONDARY && dp->session->request_epoch == epoch;
}

/* A failed send is a lost frame of counts: the next covers it. */
static int say(struct datapath *dp, __u64 epoch)
{
	unsigned char frame[LINK_COUNTS_LEN];
	struct datapath_link *link = &dp->link;
	struct colo_link_count sent;
	int err;

	err = sum_counts(dp, MAP_LINK_SENT, epoch, &sent);
	if (err)
		return err;
	if (memcmp(&sent, &link->said, sizeof(sent)))
		link->repeats = 0;
	else if (link->repeats >= REPEATS && !wants_checkpoint(dp, epoch))
		return 0;
	if (link->fd < 0)
		err = open_socket(dp);
	if (err)
		return err;
	link_counts_frame(frame, &sent, wants_checkpoint(dp, epoch) ? epoch : 0,
			  dp->session->request_reason);
	if (send(link->fd, frame, sizeof(frame), 0) < 0)
		return 0;
	link->said = sent;
	link->repeats++;
	return 0;
}

static struct colo_link_peer read_peer(const struct datapath *dp)
{
	struct colo_link_peer peer;

	do {
		/* odd: a program writes, on another CPU and not for long */
		do
			peer.serial = __atomic_load_n(&dp->link_peer->serial, __ATOMIC_ACQUIRE);
		while (peer.serial & 1);
		peer.sent = *(struct colo_link_count *)&dp->link_peer->sent;
		peer.asked_epoch = dp->link_peer->asked_epoch;
		peer.asked_reason = dp->link_peer->asked_reason;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (peer.serial != __atomic_load_n(&dp->link_peer->serial, __ATOMIC_RELAXED));
	return peer;
}

static void ask(struct datapath *dp, __u64 epoch, enum colo_reason reason)
{
	if (dp->session->request_epoch != epoch)
		release_request(dp, reason < COLO_REASON_MAX ? reason : COLO_REASON_LINK_GAP);
}

static int judge(struct datapath *dp, __u64 epoch, __u64 now)
{
	struct colo_link_peer peer = read_peer(dp);
	struct datapath_link *link = &dp->link;
	struct colo_link_count received;
	int err;

	if (dp->abi.role == COLO_ROLE_PRIMARY && peer.asked_epoch == epoch)
		ask(dp, epoch, peer.asked_reason);
	if (link->pending_ns && link->pending.sent.epoch != epoch)
		link->pending_ns = 0;
	if (link->pending_ns && now >= link->pending_ns + SETTLE_NS) {
		err = sum_counts(dp, MAP_LINK_RECEIVED, epoch, &received);
		if (err)
			return err;
		if (received.tcp_bytes < link->pending.sent.tcp_bytes ||
		    received.frames < link->pending.sent.frames)
			ask(dp, epoch, COLO_REASON_LINK_GAP);
		link->pending_ns = 0;
	}
	if (!link->pending_ns && peer.sent.epoch == epoch &&
	    peer.serial != link->pending.serial) {
		link->pending = peer;
		link->pending_ns = now;
	}
	return 0;
}

int link_tick(struct datapath *dp, __u64 now)
{
	enum colo_mode mode = dp->session->mode;
	__u64 epoch = dp->session->epoch;
	int err;

	dp->link.next_ns = now + IDLE_NS;
	if (!epoch || (mode != COLO_MODE_PRIMARY && mode != COLO_MODE_SECONDARY))
		return 0;
	dp->link.next_ns = now + SAY_NS;
	err = say(dp, epoch);
	return err ? err : judge(dp, epoch, now);
}
