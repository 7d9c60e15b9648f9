/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The TCP header that an ICMP error quotes is in the numbers of whom the error
 * is for, so it is translated as well (rule 14): path MTU discovery looks at
 * the sequence number in it.
 */
#ifndef COLO_BPF_QUOTE_H
#define COLO_BPF_QUOTE_H

#include "emit.h"

#define QUOTE_OFF     8  /* of the quoted packet, from the ICMP header */
#define QUOTE_ACK_END 12 /* bytes of TCP up to the end of ack */

/* Does an ICMP header of this kind quote a packet? */
static __always_inline int icmp_quotes(const struct packet *p)
{
	__u8 type = hdr8(p, p->l4_off);

	if (p->class == COLO_CLASS_ICMP)
		return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
	return p->class == COLO_CLASS_ICMP6 && type >= 1 && type <= 4;
}

/*
 * Find the quoted TCP header and make scratch.quoted its flow's key. Returns
 * its offset, 0 if there is none. `dir`: who sent the error; the quoted packet
 * was sent by the other.
 */
static __always_inline __u32 quote_find(struct scratch *s, enum parse_direction dir)
{
	struct colo_flow_key *key = &s->quoted;
	struct packet *p = &s->pkt;
	__u32 ip = p->l4_off + QUOTE_OFF, tcp, src, dst, n = 4;
	__be16 sport, dport;
	__u32 i;

	__builtin_memset(key, 0, sizeof(*key));
	key->ethertype = p->key.ethertype;
	key->vlan[0] = p->key.vlan[0];
	key->vlan[1] = p->key.vlan[1];
	key->proto = PROTO_TCP;
	if (p->class == COLO_CLASS_ICMP) {
		if (hdr8(p, ip + 9) != PROTO_TCP || hdr16(p, ip + 6) & 0x1fff)
			return 0;
		tcp = ip + (hdr8(p, ip) & 15) * 4;
		src = ip + 12;
		dst = ip + 16;
	} else {
		if (hdr8(p, ip + 6) != PROTO_TCP)
			return 0;
		tcp = ip + IPV6_LEN;
		src = ip + 8;
		dst = ip + 24;
		n = 16;
	}
	if (tcp + 8 > p->l4_off + p->data_len || tcp + 8 > COLO_HDR_MAX)
		return 0;
	if (dir == FROM_GUEST) { /* the client's packet is quoted */
		i = src;
		src = dst;
		dst = i;
	}
	for (i = 0; i < 16; i++) {
		if (i >= n)
			break;
		key->saddr[i] = hdr8(p, src + i);
		key->daddr[i] = hdr8(p, dst + i);
	}
	sport = bpf_htons(hdr16(p, tcp));
	dport = bpf_htons(hdr16(p, tcp + 2));
	key->sport = dir == FROM_GUEST ? dport : sport;
	key->dport = dir == FROM_GUEST ? sport : dport;
	return tcp;
}

static __always_inline int quote_replace(struct __sk_buff *ctx, const struct packet *p,
					 __u32 off, __u32 add)
{
	__be32 old = bpf_htonl(hdr32(p, off));
	__be32 new = bpf_htonl(hdr32(p, off) + add);

	if (bpf_l4_csum_replace(ctx, p->l4_off + 2, old, new, sizeof(new)))
		return -1;
	return bpf_skb_store_bytes(ctx, off, &new, sizeof(new), 0);
}

/*
 * scratch.pkt is an ICMP error that `dir` sent; put the TCP header that it
 * quotes, at tcp, into the numbers of whom it goes to: `delta` is the client's
 * sequence number - the guest's. 1: translated, 0: nothing to do, negative: the
 * packet must not go on.
 */
static __always_inline int quote_shift(struct __sk_buff *ctx, const struct packet *p, __u32 tcp,
				       enum parse_direction dir, __u32 delta)
{
	if (!delta)
		return 0;
	if (dir == FROM_CLIENT)
		return quote_replace(ctx, p, tcp + 4, -delta) ? -1 : 1;
	if (tcp + QUOTE_ACK_END > p->l4_off + p->data_len || tcp + QUOTE_ACK_END > COLO_HDR_MAX)
		return 0;
	return quote_replace(ctx, p, tcp + 8, delta) ? -1 : 1;
}

#endif
