// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>

#include "bench.h"
#include "sink.h"

#define GUEST_ADDRESS 0x0a09000aU /* 10.9.0.10 */
#define FIRST_SEQ     1000U
#define PERIOD        65536 /* the streams repeat themselves after that */
#define PAYLOAD_MAX   65536

struct headers {
	struct ethhdr eth;
	struct iphdr ip;
	union {
		struct tcphdr tcp;
		struct {
			struct udphdr udp;
			uint32_t number; /* the first bytes of the payload */
		};
	};
} __attribute__((packed));

static const struct kind kinds[] = {
	{"tcp64", true, 64, 0},
	{"tcp1448", true, 1448, 0},
	{"tcp64k", true, 45 * 1448, 1448},
	{"udp64", false, 64, 0},
};

static unsigned char stream[PERIOD + PAYLOAD_MAX];

const struct kind *kind_find(const char *name)
{
	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (!strcmp(kinds[i].name, name))
			return &kinds[i];
	return NULL;
}

static uint16_t sum16(const void *at, unsigned int words, uint32_t sum)
{
	const uint16_t *word = at;

	while (words--)
		sum += *word++;
	sum = (sum & 0xffff) + (sum >> 16);
	return sum + (sum >> 16);
}

static void make_tcp(struct headers *h, const struct kind *kind)
{
	h->tcp = (struct tcphdr){
		.source = htons(80),
		.dest = htons(5000),
		.ack_seq = htonl(7),
		.doff = sizeof(h->tcp) / 4,
		.ack = 1,
		.window = htons(1000),
	};
	if (kind->gso) /* what a guest leaves to the device: the sum of the pseudo-header */
		h->tcp.check =
			sum16(&h->ip.saddr, 4,
			      htons(IPPROTO_TCP) + htons(sizeof(h->tcp) + kind->payload));
}

static void make_head(unsigned char *at, uint32_t flow, const struct kind *kind)
{
	struct headers *h = (void *)at;
	unsigned int l4 = kind->tcp ? sizeof(h->tcp) : sizeof(h->udp);

	h->eth = (struct ethhdr){
		.h_dest = {2, 0, 0, 0, 0, 1},
		.h_source = {2, 0, 0, 0, 0, 0x10},
		.h_proto = htons(ETH_P_IP),
	};
	h->ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		.tot_len = htons(sizeof(h->ip) + l4 + kind->payload),
		.frag_off = htons(IP_DF),
		.ttl = 64,
		.protocol = kind->tcp ? IPPROTO_TCP : IPPROTO_UDP,
		.saddr = htonl(GUEST_ADDRESS),
		.daddr = htonl(SINK_CLIENT_NET + flow),
	};
	h->ip.check = ~sum16(&h->ip, sizeof(h->ip) / 2, 0);
	if (kind->tcp) {
		make_tcp(h, kind);
		return;
	}
	h->udp = (struct udphdr){
		.source = htons(53),
		.dest = htons(6000),
		.len = htons(l4 + kind->payload),
	};
}

static void fill_stream(void)
{
	uint32_t state = 1;

	for (unsigned int i = 0; i < PERIOD; i++) {
		state = state * 1103515245 + 12345;
		stream[i] = state >> 16;
	}
	memcpy(stream + PERIOD, stream, PAYLOAD_MAX);
}

int frames_make(struct frames *frames, const struct kind *kind, uint32_t flows)
{
	const struct headers *h = NULL;
	unsigned int l3 = sizeof(h->eth) + sizeof(h->ip);

	fill_stream();
	memset(frames, 0, sizeof(*frames));
	frames->kind = kind;
	frames->flows = flows;
	frames->head = l3 + (kind->tcp ? sizeof(h->tcp) : sizeof(h->udp) + sizeof(h->number));
	frames->length = l3 + (kind->tcp ? sizeof(h->tcp) : sizeof(h->udp)) + kind->payload;
	if (kind->gso)
		frames->vnet = (struct virtio_net_hdr){
			.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
			.hdr_len = frames->head,
			.gso_size = kind->gso,
			.csum_start = l3,
			.csum_offset = offsetof(struct tcphdr, check),
		};
	frames->heads = calloc(flows, HEAD_ROOM);
	frames->rounds = calloc(flows, sizeof(*frames->rounds));
	if (!frames->heads || !frames->rounds)
		return -ENOMEM;
	for (uint32_t i = 0; i < flows; i++)
		make_head(frames->heads[i], i, kind);
	return 0;
}

static void swap(void *a, void *b, size_t size)
{
	unsigned char kept[8];

	memcpy(kept, a, size);
	memcpy(a, b, size);
	memcpy(b, kept, size);
}

int frames_make_client(struct frames *frames, const struct kind *kind, uint32_t flows)
{
	int err = frames_make(frames, kind, flows);

	for (uint32_t i = 0; !err && i < flows; i++) {
		struct headers *h = (void *)frames->heads[i];

		swap(h->eth.h_dest, h->eth.h_source, ETH_ALEN);
		swap(&h->ip.saddr, &h->ip.daddr, sizeof(h->ip.saddr));
		swap(&h->tcp.source, &h->tcp.dest, sizeof(h->tcp.source)); /* UDP's, too */
	}
	return err;
}

void frames_free(struct frames *frames)
{
	free(frames->heads);
	free(frames->rounds);
	memset(frames, 0, sizeof(*frames));
}

void frames_next(struct frames *frames, uint32_t flow, struct ready *ready)
{
	const struct kind *kind = frames->kind;
	struct headers *h = (void *)ready->head;
	uint32_t round = frames->rounds[flow]++, at = 0;

	memcpy(ready->head, frames->heads[flow], HEAD_ROOM);
	if (kind->tcp) {
		at = round * kind->payload;
		h->tcp.seq = htonl(FIRST_SEQ + at);
	} else {
		h->number = htonl(round);
	}
	ready->parts[0] = (struct iovec){h, frames->head};
	ready->parts[1] = (struct iovec){stream + at % PERIOD, frames->length - frames->head};
}
