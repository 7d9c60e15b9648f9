// SPDX-License-Identifier: GPL-2.0-only
/* Both guests' frames: cheap to make, and the same for both. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "scaling.h"

#define GUEST_ADDRESS 0x0a09000aU /* 10.9.0.10 */
#define FIRST_SEQ     1000U
#define STREAM_PERIOD 65536 /* the streams repeat themselves after that */

struct headers {
	struct ethhdr eth;
	struct iphdr ip;
	union {
		struct tcphdr tcp;
		struct udphdr udp;
	};
} __attribute__((packed));

static uint16_t ip_checksum(struct iphdr ip)
{
	const uint16_t *words = (const void *)&ip;
	uint32_t sum = 0;

	for (unsigned int i = 0; i < sizeof(ip) / 2; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

/* The streams' bytes from `seq` on: the same however they are cut. */
static const unsigned char *stream_at(uint32_t seq)
{
	static unsigned char bytes[STREAM_PERIOD + FRAME_ROOM];
	static bool filled;
	uint32_t state = 1;

	for (unsigned int i = 0; !filled && i < STREAM_PERIOD; i++) {
		state = state * 1103515245 + 12345;
		bytes[i] = state >> 16;
	}
	if (!filled)
		memcpy(bytes + STREAM_PERIOD, bytes, FRAME_ROOM);
	__atomic_store_n(&filled, true, __ATOMIC_RELEASE);
	return bytes + seq % STREAM_PERIOD;
}

static unsigned int frame_make(unsigned char *at, uint32_t flow, uint32_t round,
			       const struct frame_kind *kind)
{
	static const struct ethhdr eth = {
		.h_dest = {2, 0, 0, 0, 0, 1},
		.h_source = {2, 0, 0, 0, 0, 0x10},
		.h_proto = __builtin_bswap16(ETH_P_IP),
	};
	bool tcp = flow & 1;
	struct headers *h = (void *)at;
	unsigned int l4 = tcp ? sizeof(h->tcp) : sizeof(h->udp);
	unsigned int head = sizeof(h->eth) + sizeof(h->ip) + l4;
	uint32_t seq = FIRST_SEQ + round * kind->payload;
	uint32_t number[2] = {htonl(flow), htonl(round)};

	h->eth = eth;
	h->ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		.tot_len = htons(sizeof(h->ip) + l4 + kind->payload),
		.frag_off = htons(IP_DF),
		.ttl = 64,
		.protocol = tcp ? IPPROTO_TCP : IPPROTO_UDP,
		.saddr = htonl(GUEST_ADDRESS),
		.daddr = htonl(SINK_CLIENT_NET + flow),
	};
	h->ip.check = ip_checksum(h->ip);
	if (tcp) {
		h->tcp = (struct tcphdr){
			.source = htons(80),
			.dest = htons(5000),
			.seq = htonl(seq),
			.ack_seq = kind->syn ? 0 : htonl(7),
			.doff = sizeof(h->tcp) / 4,
			.ack = !kind->syn,
			.syn = kind->syn,
			.fin = kind->fin,
			.rst = kind->rst,
			.window = htons(1000),
		};
		memcpy(at + head, stream_at(seq), kind->payload);
	} else {
		h->udp = (struct udphdr){
			.source = htons(53),
			.dest = htons(6000),
			.len = htons(l4 + kind->payload),
		};
		memcpy(at + head, stream_at(0), kind->payload);
		memcpy(at + head, number, sizeof(number));
	}
	return head + kind->payload;
}

void batch_add(struct batch *batch, uint32_t flow, uint32_t round,
	       const struct frame_kind *kind)
{
	unsigned int i = batch->count++;

	batch->length[i] = frame_make(batch->frame[i], flow, round, kind);
}

void batch_add_client(struct batch *batch, uint32_t flow, uint32_t round,
		      const struct frame_kind *kind)
{
	struct headers *h = (void *)batch->frame[batch->count];
	struct headers guest;

	batch_add(batch, flow, round, kind);
	guest = *h;
	h->ip.saddr = guest.ip.daddr;
	h->ip.daddr = guest.ip.saddr;
	h->tcp.source = guest.tcp.dest; /* UDP has its ports there, too */
	h->tcp.dest = guest.tcp.source;
}

void guest_reads(struct rig *rig)
{
	unsigned char frame[FRAME_ROOM + 64];

	while (read(rig->guest, frame, sizeof(frame)) > 0)
		continue;
}

int batch_from_guest(struct rig *rig, const struct batch *batch)
{
	static struct virtio_net_hdr vnet;

	for (unsigned int i = 0; i < batch->count; i++) {
		struct iovec parts[] = {
			{&vnet, sizeof(vnet)},
			{(void *)batch->frame[i], batch->length[i]},
		};

		if (writev(rig->guest, parts, 2) < 0)
			return -errno;
	}
	return 0;
}

int batch_from_link(struct rig *rig, const struct batch *batch, enum colo_link_kind kind,
		    uint64_t epoch)
{
	uint16_t tag[2] = {htons(COLO_LINK_PROTO), htons(colo_link_vid(kind, epoch))};
	static struct virtio_net_hdr vnet;
	struct mmsghdr messages[BATCH] = {};
	struct iovec parts[BATCH][4];

	for (unsigned int i = 0; i < batch->count; i++) {
		unsigned char *frame = (void *)batch->frame[i];

		parts[i][0] = (struct iovec){&vnet, sizeof(vnet)};
		parts[i][1] = (struct iovec){frame, 2 * ETH_ALEN};
		parts[i][2] = (struct iovec){tag, sizeof(tag)};
		parts[i][3] =
			(struct iovec){frame + 2 * ETH_ALEN, batch->length[i] - 2 * ETH_ALEN};
		messages[i].msg_hdr.msg_iov = parts[i];
		messages[i].msg_hdr.msg_iovlen = 4;
	}
	for (unsigned int done = 0; done < batch->count;) {
		int sent = sendmmsg(rig->other, messages + done, batch->count - done, 0);

		if (sent < 0)
			return -errno;
		done += sent;
	}
	return 0;
}
