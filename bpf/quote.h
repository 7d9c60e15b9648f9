/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The TCP header that an ICMP error quotes is in the numbers of whom the error
 * is for, so it is translated as well (rule 14): path MTU discovery looks at
 * the sequence number in it.
 */
#ifndef COLO_BPF_QUOTE_H
#define COLO_BPF_QUOTE_H

#include "numbers.h"

#define QUOTE_OFF      8  /* of the quoted packet, from the ICMP header */
#define QUOTE_SEQ_END  8  /* bytes of TCP up to the end of seq: what each quote has */
#define QUOTE_ACK_END  12 /* ... of ack */
#define QUOTE_CSUM_END 18 /* ... of the checksum */
#define QUOTE_EXT_MAX  4

/* Does an ICMP header of this kind quote a packet? */
static __always_inline int icmp_quotes(const struct packet *p)
{
	__u8 type = hdr8(p, p->l4_off);

	if (p->class == COLO_CLASS_ICMP)
		return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
	return p->class == COLO_CLASS_ICMP6 && type >= 1 && type <= 4;
}

/* Where TCP begins in the quoted IPv6 packet at `ip`, 0: it has none. */
static __always_inline __u32 quote_skip_ext(const struct packet *p, __u32 ip)
{
	__u32 off = ip + IPV6_LEN, proto = hdr8(p, ip + 6), len;
	int i;

	for (i = 0; i < QUOTE_EXT_MAX; i++) {
		if (proto == PROTO_TCP)
			return off;
		if (proto != PROTO_HOPOPTS && proto != PROTO_ROUTING &&
		    proto != PROTO_DSTOPTS && proto != PROTO_FRAGMENT)
			return 0;
		len = (hdr8(p, off + 1) + 1) * 8;
		if (proto == PROTO_FRAGMENT) {
			if (hdr16(p, off + 2) & 0xfff8)
				return 0;
			len = 8;
		}
		proto = hdr8(p, off);
		off += len;
		if (off > COLO_HDR_MAX)
			return 0;
	}
	return proto == PROTO_TCP ? off : 0;
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
		tcp = quote_skip_ext(p, ip);
		src = ip + 8;
		dst = ip + 24;
		n = 16;
	}
	if (!tcp || tcp + QUOTE_SEQ_END > p->l4_off + p->data_len ||
	    tcp + QUOTE_SEQ_END > COLO_HDR_MAX)
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

/*
 * How far the quoted TCP header can be translated: to its end if that is there,
 * else without its options.
 */
static __always_inline __u32 quote_end(const struct packet *p, __u32 tcp)
{
	__u32 there = p->l4_off + p->data_len, end;

	if (there > COLO_HDR_MAX)
		there = COLO_HDR_MAX;
	end = tcp + (hdr8(p, tcp + 12) >> 4) * 4;
	if (tcp + TCP_LEN <= there)
		return end >= tcp + TCP_LEN && end <= there ? end : tcp + TCP_LEN;
	return tcp + ((there - tcp) & ~3U);
}

/*
 * The quoted header in the other side's numbers, in scratch.out: as if what its
 * sender's packet has undergone on its way had not happened. 0: it stays as it
 * is.
 */
static __always_inline int quote_rewrite(struct scratch *s, __u32 tcp, __u32 end,
					 enum parse_direction dir, __u32 seq_delta,
					 __u32 ts_delta)
{
	struct packet *p = &s->pkt;

	__builtin_memcpy(s->out, p->hdr, COLO_HDR_MAX);
	if (dir == FROM_CLIENT) {
		numbers_out(s, tcp, end, -seq_delta, -ts_delta);
		return 1;
	}
	if (tcp + QUOTE_ACK_END > end)
		return 0;
	if (tcp + QUOTE_ACK_END + 4 <= end && !(hdr8(p, tcp + 13) & 0x10))
		return 0;
	numbers_in(s, tcp, end, -seq_delta, -ts_delta);
	return 1;
}

/* Put the header in scratch.out into the packet; both checksums follow. */
static __always_inline int quote_replace(struct __sk_buff *ctx, struct scratch *s, __u32 tcp,
					 __u32 end)
{
	struct packet *p = &s->pkt;
	__u32 n = end - tcp, sum; /* 8 to 60 */
	__s64 diff;

	asm volatile("" : "+r"(n));
	n &= 60;
	diff = bpf_csum_diff((__be32 *)(p->hdr + in_hdr(tcp)), n,
			     (__be32 *)(s->out + in_hdr(tcp)), n, 0);
	if (tcp + QUOTE_CSUM_END <= end) {
		sum = (__u16) ~*(__be16 *)(s->out + in_hdr(tcp + 16));
		*(__be16 *)(s->out + in_hdr(tcp + 16)) =
			~csum_fold(csum_fold(sum) + csum_fold(diff));
		diff = bpf_csum_diff((__be32 *)(p->hdr + in_hdr(tcp)), n,
				     (__be32 *)(s->out + in_hdr(tcp)), n, 0);
	}
	if (bpf_l4_csum_replace(ctx, p->l4_off + 2, 0, diff, 0))
		return -1;
	BOUND(n, 63);
	return bpf_skb_store_bytes(ctx, tcp, s->out + in_hdr(tcp), n, 0);
}

/*
 * scratch.pkt is an ICMP error that `dir` sent; put the TCP header that it
 * quotes, at tcp, into the numbers of whom it goes to. The deltas are the
 * client's numbers - the guest's. 1: translated, 0: nothing to do, negative: the
 * packet must not go on.
 */
static __always_inline int quote_shift(struct __sk_buff *ctx, struct scratch *s, __u32 tcp,
				       enum parse_direction dir, __u32 seq_delta,
				       __u32 ts_delta)
{
	__u32 end;

	if (!seq_delta && !ts_delta)
		return 0;
	end = quote_end(&s->pkt, tcp);
	if (!quote_rewrite(s, tcp, end, dir, seq_delta, ts_delta))
		return 0;
	return quote_replace(ctx, s, tcp, end) ? -1 : 1;
}

#endif
