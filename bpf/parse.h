/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a packet to its flow key, class, offsets and TCP fields. Lengths come
 * from the headers, never from the frame (rule 8); every header is checked.
 */
#ifndef COLO_BPF_PARSE_H
#define COLO_BPF_PARSE_H

#include "ctx.h"

#define ETHERTYPE_IP    0x0800
#define ETHERTYPE_ARP   0x0806
#define ETHERTYPE_RARP  0x8035
#define ETHERTYPE_VLAN  0x8100
#define ETHERTYPE_IPV6  0x86dd
#define ETHERTYPE_QINQ  0x88a8
#define ETHERTYPE_LLDP  0x88cc

#define PROTO_HOPOPTS   0
#define PROTO_ICMP      1
#define PROTO_IGMP      2
#define PROTO_TCP       6
#define PROTO_UDP       17
#define PROTO_ROUTING   43
#define PROTO_FRAGMENT  44
#define PROTO_ICMPV6    58
#define PROTO_DSTOPTS   60

#define ETH_LEN         14
#define IPV6_LEN        40
#define EXT_HEADERS_MAX 6

enum parse_direction {
	FROM_GUEST,  /* source is the guest */
	FROM_CLIENT, /* destination is the guest */
};

enum parse_result {
	PARSE_OK,
	PARSE_MALFORMED,
};

static __always_inline __u8 hdr8(const struct packet *p, __u32 off)
{
	return p->hdr[in_hdr(off)];
}

static __always_inline __u16 hdr16(const struct packet *p, __u32 off)
{
	return bpf_ntohs(*(const __be16 *)(p->hdr + in_hdr(off)));
}

static __always_inline __u32 hdr32(const struct packet *p, __u32 off)
{
	return bpf_ntohl(*(const __be32 *)(p->hdr + in_hdr(off)));
}

/* The addresses at src and dst, n bytes each, seen from the guest. */
static __always_inline void parse_addrs(struct packet *p, __u32 src, __u32 dst, int n,
					enum parse_direction dir)
{
	__u32 mine = dir == FROM_GUEST ? src : dst;
	__u32 other = dir == FROM_GUEST ? dst : src;
	int i;

#pragma unroll
	for (i = 0; i < n; i++) {
		p->key.saddr[i] = hdr8(p, mine + i);
		p->key.daddr[i] = hdr8(p, other + i);
	}
}

static __always_inline void parse_ports(struct packet *p, enum parse_direction dir)
{
	__be16 src = bpf_htons(hdr16(p, p->l4_off));
	__be16 dst = bpf_htons(hdr16(p, p->l4_off + 2));

	p->key.sport = dir == FROM_GUEST ? src : dst;
	p->key.dport = dir == FROM_GUEST ? dst : src;
}

static __always_inline int parse_tcp(struct packet *p, __u32 l4_len, enum parse_direction dir)
{
	__u32 l4 = p->l4_off, hlen;
	__u8 fl;

	if (l4_len < 20)
		return PARSE_MALFORMED;
	hlen = (hdr8(p, l4 + 12) >> 4) * 4;
	if (hlen < 20 || hlen > l4_len || l4 + hlen > COLO_HDR_MAX)
		return PARSE_MALFORMED;
	parse_ports(p, dir);
	p->class = COLO_CLASS_TCP;
	p->data_off = l4 + hlen;
	p->data_len = l4_len - hlen;
	p->hdr_len = p->data_off;
	p->seq = hdr32(p, l4 + 4);
	p->ack = hdr32(p, l4 + 8);
	p->window = hdr16(p, l4 + 14);
	p->urg_ptr = hdr16(p, l4 + 18);
	fl = hdr8(p, l4 + 13);
	p->flags = COLO_FR_TCP;
	p->flags |= fl & 0x01 ? COLO_FR_FIN : 0;
	p->flags |= fl & 0x02 ? COLO_FR_SYN : 0;
	p->flags |= fl & 0x04 ? COLO_FR_RST : 0;
	p->flags |= fl & 0x08 ? COLO_FR_PSH : 0;
	p->flags |= fl & 0x10 ? COLO_FR_ACK : 0;
	p->flags |= fl & 0x20 ? COLO_FR_URG : 0;
	p->end = p->seq + p->data_len + !!(fl & 0x01) + !!(fl & 0x02);
	if (fl & 0x04)
		p->end = p->seq; /* data of an RST is no part of the stream */
	return PARSE_OK;
}

static __always_inline int parse_l4(struct packet *p, __u32 proto, __u32 l4_len,
				    enum parse_direction dir)
{
	__u8 type;

	p->key.proto = proto;
	p->data_off = p->l4_off;
	p->data_len = l4_len;
	p->hdr_len = p->l4_off;
	p->class = COLO_CLASS_IP_OTHER;
	if (p->key.fragment) {
		if (proto == PROTO_TCP)
			p->class = COLO_CLASS_TCP;
		return PARSE_OK;
	}
	switch (proto) {
	case PROTO_TCP:
		return parse_tcp(p, l4_len, dir);
	case PROTO_UDP:
		if (l4_len < 8 || hdr16(p, p->l4_off + 4) < 8 ||
		    hdr16(p, p->l4_off + 4) > l4_len)
			return PARSE_MALFORMED;
		parse_ports(p, dir);
		p->class = COLO_CLASS_UDP;
		p->flags = COLO_FR_UDP;
		return PARSE_OK;
	case PROTO_ICMP:
		p->class = COLO_CLASS_ICMP;
		return l4_len < 8 ? PARSE_MALFORMED : PARSE_OK;
	case PROTO_IGMP:
		/* a class that passes is that of its own family only */
		if (p->key.ethertype == bpf_htons(ETHERTYPE_IP))
			p->class = COLO_CLASS_IGMP;
		return PARSE_OK;
	case PROTO_ICMPV6:
		if (p->key.ethertype != bpf_htons(ETHERTYPE_IPV6))
			return PARSE_OK;
		if (l4_len < 4)
			return PARSE_MALFORMED;
		type = hdr8(p, p->l4_off);
		p->class = COLO_CLASS_ICMP6;
		if (type >= 133 && type <= 137)
			p->class = COLO_CLASS_ND;
		else if ((type >= 130 && type <= 132) || type == 143)
			p->class = COLO_CLASS_MLD;
		return PARSE_OK;
	}
	return PARSE_OK;
}

/* `place` is offset and more-fragments as in the header: 0 is a whole packet. */
static __always_inline void parse_fragment(struct packet *p, __u32 place, __u32 id)
{
	p->key.fragment = place != 0;
	p->seq = place;
	p->end = place;
	p->ack = id;
}

static __always_inline int parse_ipv4(struct packet *p, enum parse_direction dir)
{
	__u32 l3 = p->l3_off, ihl, total;

	if (l3 + 20 > p->len || hdr8(p, l3) >> 4 != 4)
		return PARSE_MALFORMED;
	ihl = (hdr8(p, l3) & 15) * 4;
	total = hdr16(p, l3 + 2);
	if (ihl < 20 || total < ihl || l3 + total > p->len)
		return PARSE_MALFORMED;
	parse_addrs(p, l3 + 12, l3 + 16, 4, dir);
	parse_fragment(p, hdr16(p, l3 + 6) & 0x3fff, hdr16(p, l3 + 4));
	p->l4_off = l3 + ihl;
	return parse_l4(p, hdr8(p, l3 + 9), total - ihl, dir);
}

static __always_inline int parse_ipv6(struct packet *p, enum parse_direction dir)
{
	__u32 l3 = p->l3_off, off = l3 + IPV6_LEN, proto, total, len;
	int i;

	if (off > p->len || hdr8(p, l3) >> 4 != 6)
		return PARSE_MALFORMED;
	proto = hdr8(p, l3 + 6);
	total = IPV6_LEN + hdr16(p, l3 + 4);
	if (l3 + total > p->len)
		return PARSE_MALFORMED;
	parse_addrs(p, l3 + 8, l3 + 24, 16, dir);
	for (i = 0; i < EXT_HEADERS_MAX; i++) {
		if (proto != PROTO_HOPOPTS && proto != PROTO_ROUTING &&
		    proto != PROTO_DSTOPTS && proto != PROTO_FRAGMENT)
			break;
		len = 8;
		if (proto == PROTO_FRAGMENT)
			parse_fragment(p, hdr16(p, off + 2) & 0xfff9, hdr32(p, off + 4));
		else
			len = (hdr8(p, off + 1) + 1) * 8;
		proto = hdr8(p, off);
		off += len;
		if (off > l3 + total || off > COLO_HDR_MAX - 20)
			return PARSE_MALFORMED;
		if (p->key.fragment)
			break;
	}
	if (i == EXT_HEADERS_MAX)
		return PARSE_MALFORMED;
	p->l4_off = off;
	return parse_l4(p, proto, l3 + total - off, dir);
}

/* Frames that are no IP: the key is the MACs, all behind the header counts. */
static __always_inline void parse_other(struct packet *p, __u32 type, enum parse_direction dir)
{
	parse_addrs(p, 6, 0, 6, dir);
	p->class = COLO_CLASS_ETH_OTHER;
	if (type == ETHERTYPE_ARP || type == ETHERTYPE_RARP)
		p->class = COLO_CLASS_ARP;
	else if (type == ETHERTYPE_LLDP)
		p->class = COLO_CLASS_LLDP;
	else if (type < 1536 && hdr32(p, 0) == 0x0180c200 && hdr16(p, 4) == 0)
		p->class = COLO_CLASS_STP;
	p->l4_off = p->l3_off;
	p->hdr_len = p->l3_off;
	p->data_off = p->l3_off;
	p->data_len = p->len - p->l3_off;
	p->flags = COLO_FR_WHOLE;
}

/*
 * What cannot be followed keeps the key of a non-IP frame with the ethertype
 * 0: it is held whole, and only a commit lets it go.
 */
static __always_inline void parse_failed_packet(struct packet *p, enum parse_direction dir)
{
	__builtin_memset(&p->key, 0, sizeof(p->key));
	p->l3_off = ETH_LEN;
	parse_other(p, 0, dir);
	p->class = COLO_CLASS_ETH_OTHER;
}

/* Tags: one that the device has stripped, and those in the frame; two count. */
static __always_inline __u32 parse_tags(struct ctx_buff *ctx, struct packet *p)
{
	__u32 off = 12, type = hdr16(p, off), n = 0;
	int i;

	p->vlan_tci = 0;
	p->vlan_proto = 0;
	if (ctx_tag(ctx, &p->vlan_proto, &p->vlan_tci)) {
		p->key.vlan[0] = p->vlan_tci & bpf_htons(0x0fff);
		n = 1;
	}
	for (i = 0; i < 2; i++) {
		if (type != ETHERTYPE_VLAN && type != ETHERTYPE_QINQ)
			break;
		if (n < 2)
			p->key.vlan[n & 1] = bpf_htons(hdr16(p, off + 2)) & bpf_htons(0x0fff);
		n++;
		off += 4;
		type = hdr16(p, off);
	}
	p->l3_off = off + 2;
	return n > 2 ? 0 : type;
}

/*
 * Fills scratch.pkt. PARSE_MALFORMED: pkt holds the frame as one that cannot
 * be followed. Negative: the frame cannot even be read.
 */
__noinline int packet_parse(struct ctx_buff *ctx, int direction)
{
	enum parse_direction dir = direction;
	struct scratch *s = scratch_get();
	struct packet *p;
	__u32 n, type;
	int ret = PARSE_OK;

	if (!s)
		return -1;
	p = &s->pkt;
	__builtin_memset(&p->key, 0, sizeof(p->key));
	p->len = ctx_len(ctx);
	p->flags = 0;
	p->seq = p->end = p->ack = 0;
	p->gso_size = ctx_gso_size(ctx);
	n = p->len;
	if (n < ETH_LEN)
		return -1;
	if (n > COLO_HDR_MAX)
		n = COLO_HDR_MAX;
	else
		__builtin_memset(p->hdr, 0, COLO_HDR_MAX);
	if (ctx_load(ctx, 0, p->hdr, n))
		return -1;
	type = parse_tags(ctx, p);
	p->key.ethertype = bpf_htons(type);
	if (type == ETHERTYPE_IP)
		ret = parse_ipv4(p, dir);
	else if (type == ETHERTYPE_IPV6)
		ret = parse_ipv6(p, dir);
	else if (type && p->l3_off <= p->len)
		parse_other(p, type, dir);
	else
		ret = PARSE_MALFORMED;
	if (ret == PARSE_MALFORMED)
		parse_failed_packet(p, dir);
	return ret;
}

#endif
