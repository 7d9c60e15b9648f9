// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <bpf/bpf.h>

#include "daemon.h"
#include "log.h"

#define ADDRESSES_MAX 64
#define FLOWS_MAX     65536 /* looked through for addresses */

struct arp_frame {
	struct ethhdr ethernet;
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__be32 sender;
	__u8 target_mac[6];
	__be32 target;
	__u8 padding[18];
} __attribute__((packed));

static int guest_addresses(const struct datapath *dp, __be32 address[ADDRESSES_MAX])
{
	struct colo_flow_key key, *last = NULL;
	int count = 0;

	for (int i = 0; i < FLOWS_MAX && count < ADDRESSES_MAX; i++) {
		__be32 found;
		int j = 0;

		if (bpf_map_get_next_key(dp->map_fd[MAP_FLOWS], last, &key))
			break;
		last = &key;
		if (key.ethertype != htons(ETH_P_IP))
			continue;
		memcpy(&found, key.saddr, sizeof(found));
		while (j < count && address[j] != found)
			j++;
		if (j == count)
			address[count++] = found;
	}
	return count;
}

static int send_arp(int fd, const struct datapath *dp, const __u8 mac[6], __be32 address)
{
	struct sockaddr_ll to = {
		.sll_family = AF_PACKET,
		.sll_ifindex = dp->config->port_ifindex,
		.sll_halen = ETH_ALEN,
		.sll_addr = {255, 255, 255, 255, 255, 255},
	};
	struct arp_frame frame = {
		.ethernet.h_proto = htons(ETH_P_ARP),
		.hardware = htons(ARPHRD_ETHER),
		.protocol = htons(ETH_P_IP),
		.hardware_length = ETH_ALEN,
		.protocol_length = sizeof(__be32),
		.operation = htons(ARPOP_REQUEST),
		.sender = address,
		.target = address,
	};

	memset(frame.ethernet.h_dest, 255, ETH_ALEN);
	memcpy(frame.ethernet.h_source, mac, ETH_ALEN);
	memcpy(frame.sender_mac, mac, ETH_ALEN);
	return sendto(fd, &frame, sizeof(frame), 0, (struct sockaddr *)&to, sizeof(to)) < 0 ?
		       -errno :
		       0;
}

int announce_guest(const struct datapath *dp, const __u8 mac[6])
{
	static const __u8 none[ETH_ALEN];
	__be32 address[ADDRESSES_MAX];
	int count = guest_addresses(dp, address);
	int fd, err = 0;

	if (!memcmp(mac, none, ETH_ALEN) || !count)
		return -ENODATA;
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	for (int i = 0; !err && i < count; i++)
		err = send_arp(fd, dp, mac, address[i]);
	close(fd);
	return err ? err : count;
}
