// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counts what leaves: where it is sent, under the flow's lock, and at the far
 * end, where it ends. Of the first SINK_ORDERED flows it looks at the order:
 * the number of a datagram, the sequence number of a segment.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "sink.h"

char _license[] SEC("license") = "GPL";

struct sink_count near_count;
struct sink_count far_count;
unsigned long long arrived_ns;

/* The number that came last, + 1; 0: none yet. */
unsigned long long near_last[SINK_ORDERED];
unsigned long long far_last[SINK_ORDERED];

struct numbered {
	struct ethhdr eth;
	struct iphdr ip;
	union {
		struct tcphdr tcp;
		struct {
			struct udphdr udp;
			__be32 flow;
			__be32 number;
		};
	};
} __attribute__((packed));

#define COUNT(count, field, n) __sync_fetch_and_add(&(count)->field, n)

static __always_inline void look(struct __sk_buff *skb, struct sink_count *count,
				 unsigned long long *last)
{
	unsigned long long number, old;
	struct numbered frame;
	__u32 flow;

	if (bpf_skb_load_bytes(skb, 0, &frame, sizeof(frame)) ||
	    frame.eth.h_proto != bpf_htons(ETH_P_IP)) {
		COUNT(count, foreign, 1);
		return;
	}
	COUNT(count, frames, 1);
	flow = bpf_ntohl(frame.ip.daddr) - SINK_CLIENT_NET;
	if (flow >= SINK_ORDERED)
		return;
	number = bpf_ntohl(frame.number);
	if (frame.ip.protocol == IPPROTO_TCP) {
		number = bpf_ntohl(frame.tcp.seq);
		COUNT(count, segments, 1);
		COUNT(count, payload,
		      bpf_ntohs(frame.ip.tot_len) - sizeof(frame.ip) - sizeof(frame.tcp));
	}
	old = __sync_lock_test_and_set(&last[flow], number + 1);
	if (old == number + 1)
		COUNT(count, repeated, 1);
	else if (old > number + 1)
		COUNT(count, inverted, 1);
}

SEC("tc")
int at_near(struct __sk_buff *skb)
{
	look(skb, &near_count, near_last);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int at_far(struct __sk_buff *skb)
{
	look(skb, &far_count, far_last);
	return TC_ACT_SHOT;
}

/* Costs next to nothing; `arrived_ns` is when the last one came. */
SEC("tc")
int at_far_counted(struct __sk_buff *skb)
{
	COUNT(&far_count, frames, 1);
	COUNT(&far_count, bytes, skb->len);
	arrived_ns = bpf_ktime_get_ns();
	return TC_ACT_SHOT;
}
