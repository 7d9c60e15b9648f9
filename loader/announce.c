// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/icmp6.h>
#include <netinet/ip6.h>
#include <sys/socket.h>

#include "announce.h"
#include "log.h"

#define FRAME_MAX 128

/* A frame that is made from front to back. */
struct frame {
	__u8 bytes[FRAME_MAX];
	size_t length;
};

static void *add(struct frame *frame, size_t length)
{
	void *at = frame->bytes + frame->length;

	frame->length += length;
	return at;
}

static void add_word(struct frame *frame, __u16 word)
{
	__be16 value = htons(word);

	memcpy(add(frame, sizeof(value)), &value, sizeof(value));
}

/* Two tags as 802.1ad has them. */
static void add_ethernet(struct frame *frame, const struct guest_address *from,
			 const __u8 to[ETH_ALEN], const __u8 mac[ETH_ALEN])
{
	memcpy(add(frame, ETH_ALEN), to, ETH_ALEN);
	memcpy(add(frame, ETH_ALEN), mac, ETH_ALEN);
	for (int i = 0; i < 2 && from->vlan[i]; i++) {
		add_word(frame, i == 0 && from->vlan[1] ? ETH_P_8021AD : ETH_P_8021Q);
		add_word(frame, ntohs(from->vlan[i]));
	}
}

/* Gratuitous ARP: a request for what the sender has itself (RFC 5227 3). */
static void make_arp(struct frame *frame, const struct guest_address *address,
		     const __u8 mac[ETH_ALEN])
{
	static const __u8 everybody[ETH_ALEN] = {255, 255, 255, 255, 255, 255};

	add_ethernet(frame, address, everybody, mac);
	add_word(frame, ETH_P_ARP);
	add_word(frame, ARPHRD_ETHER);
	add_word(frame, ETH_P_IP);
	add_word(frame, ETH_ALEN << 8 | sizeof(struct in_addr));
	add_word(frame, ARPOP_REQUEST);
	memcpy(add(frame, ETH_ALEN), mac, ETH_ALEN);
	memcpy(add(frame, sizeof(struct in_addr)), address->bytes, sizeof(struct in_addr));
	add(frame, ETH_ALEN); /* nobody's */
	memcpy(add(frame, sizeof(struct in_addr)), address->bytes, sizeof(struct in_addr));
	add(frame, 18); /* the shortest frame there is */
}

/* Over the pseudo-header of RFC 8200 8.1, too. */
static __be16 icmp6_checksum(const struct ip6_hdr *ip, const void *message, size_t length)
{
	const __u8 *addresses = (const __u8 *)&ip->ip6_src, *bytes = message;
	__u32 sum = length + IPPROTO_ICMPV6;

	for (size_t i = 0; i < 2 * sizeof(struct in6_addr); i += 2)
		sum += addresses[i] << 8 | addresses[i + 1];
	for (size_t i = 0; i < length; i += 2)
		sum += bytes[i] << 8 | bytes[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons(~sum);
}

/*
 * Unsolicited neighbour advertisement (RFC 4861 7.2.6). Whoever had the guest
 * for a router would take it for none without the flag.
 */
static void make_na(struct frame *frame, const struct guest_address *address,
		    const __u8 mac[ETH_ALEN], bool router)
{
	static const __u8 all_nodes[ETH_ALEN] = {0x33, 0x33, 0, 0, 0, 1};
	const size_t length = sizeof(struct nd_neighbor_advert) + 2 + ETH_ALEN;
	struct nd_neighbor_advert *na;
	struct ip6_hdr ip = {
		.ip6_vfc = 6 << 4,
		.ip6_plen = htons(length),
		.ip6_nxt = IPPROTO_ICMPV6,
		.ip6_hlim = 255,
		.ip6_dst.s6_addr = {0xff, 0x02, [15] = 1},
	};
	struct {
		struct nd_neighbor_advert na;
		__u8 option[2 + ETH_ALEN];
	} message = {
		.na.nd_na_type = ND_NEIGHBOR_ADVERT,
		.na.nd_na_flags_reserved = ND_NA_FLAG_OVERRIDE |
					   (router ? ND_NA_FLAG_ROUTER : 0),
		.option = {ND_OPT_TARGET_LINKADDR, 1},
	};

	add_ethernet(frame, address, all_nodes, mac);
	add_word(frame, ETH_P_IPV6);
	na = &message.na;
	memcpy(&ip.ip6_src, address->bytes, sizeof(ip.ip6_src));
	memcpy(&na->nd_na_target, address->bytes, sizeof(na->nd_na_target));
	memcpy(message.option + 2, mac, ETH_ALEN);
	na->nd_na_cksum = icmp6_checksum(&ip, &message, length);
	memcpy(add(frame, sizeof(ip)), &ip, sizeof(ip));
	memcpy(add(frame, length), &message, length);
}

static int send_frame(int fd, const struct datapath *dp, const struct frame *frame)
{
	struct sockaddr_ll to = {
		.sll_family = AF_PACKET,
		.sll_ifindex = dp->config->port_ifindex,
		.sll_halen = ETH_ALEN,
	};

	memcpy(to.sll_addr, frame->bytes, ETH_ALEN);
	return sendto(fd, frame->bytes, frame->length, 0, (struct sockaddr *)&to, sizeof(to)) <
			       0 ?
		       -errno :
		       0;
}

int announce(const struct datapath *dp, const __u8 mac[ETH_ALEN],
	     const struct addresses *addresses, int from)
{
	static const __u8 none[ETH_ALEN];
	int fd, err = 0;

	if (!memcmp(mac, none, ETH_ALEN) || from >= addresses->count)
		return 0;
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	for (int i = from; !err && i < addresses->count; i++) {
		const struct guest_address *address = &addresses->list[i];
		struct frame frame = {};

		if (address->ethertype == htons(ETH_P_IP))
			make_arp(&frame, address, mac);
		else
			make_na(&frame, address, mac, dp->session->guest_routes);
		err = send_frame(fd, dp, &frame);
	}
	close(fd);
	return err;
}
