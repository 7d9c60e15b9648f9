/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Frames made anew from the pool. BPF cannot make a packet, so the packet that
 * the program runs on is the carrier: it is resized, overwritten and its copy
 * is sent, as often as needed. Its own content is lost by that.
 */
#ifndef COLO_BPF_EMIT_H
#define COLO_BPF_EMIT_H

#include "checksum.h"
#include "mirror.h"

#define SEGMENT_MIN  512 /* a smaller gso_size is not honoured */
#define SEGMENTS_MAX (COLO_BIG_SIZE / SEGMENT_MIN)

/* How a made frame is sent: an ifindex above these bits. */
#define HOW_LAST    1 /* it ends its frame: FIN and PSH belong to it */
#define HOW_PARTIAL 2 /* the carrier's checksum is partial */
#define HOW_LINK    4 /* over the link, as output of the open epoch */
#define HOW_IFINDEX 8 /* bits to shift */

#define TCP_FL_FIN  0x01
#define TCP_FL_PSH  0x08
#define TCP_FL_URG  0x20

/* Sum of n bytes (a multiple of 4, at most 60) of scratch.out. */
static __always_inline __u32 out_csum(struct scratch *s, __u32 off, __u32 n, __u32 sum)
{
	asm volatile("" : "+r"(n));
	n &= 60;
	return bpf_csum_diff(NULL, 0, (__be32 *)(s->out + in_hdr(off)), n, sum);
}

/* Sum of the pseudo-header of a held frame with l4_len bytes of L4. */
__noinline __u32 pseudo_csum(__u32 idx, __u32 l4_len)
{
	struct colo_frame *fr = frame_at(idx);
	struct scratch *s = scratch_get();
	__be32 *w;

	if (!fr || !s)
		return 0;
	w = (__be32 *)s->pseudo;
	__builtin_memcpy(s->pseudo, fr->key.saddr, 32);
	w[8] = bpf_htonl(l4_len);
	w[9] = bpf_htonl(fr->key.proto);
	return bpf_csum_diff(NULL, 0, w, 40, 0);
}

static __always_inline void out16(struct scratch *s, __u32 off, __u16 value)
{
	*(__be16 *)(s->out + in_hdr(off)) = bpf_htons(value);
}

static __always_inline void out32(struct scratch *s, __u32 off, __u32 value)
{
	*(__be32 *)(s->out + in_hdr(off)) = bpf_htonl(value);
}

/* Length fields and the IPv4 header's checksum of scratch.out. */
static __always_inline void out_l3(struct scratch *s, const struct colo_flow_key *k, __u32 l3,
				   __u32 l4, __u32 l4_len, __u32 id_add)
{
	__u32 sum;

	if (k->ethertype == bpf_htons(ETHERTYPE_IPV6)) {
		out16(s, l3 + 4, l4 - l3 - IPV6_LEN + l4_len);
		return;
	}
	out16(s, l3 + 2, l4 - l3 + l4_len);
	if (id_add)
		out16(s, l3 + 4, bpf_ntohs(*(__be16 *)(s->out + in_hdr(l3 + 4))) + id_add);
	out16(s, l3 + 10, 0);
	sum = out_csum(s, l3, l4 - l3, 0);
	*(__be16 *)(s->out + in_hdr(l3 + 10)) = ~csum_fold(sum);
}

/*
 * Put scratch.out and n payload bytes of a held frame, from index `from`, into
 * the carrier and send its copy. A function of its own: 6.1 allows 512 bytes
 * of stack for a chain of calls.
 */
__noinline int out_send(struct __sk_buff *ctx, __u32 idx, __u32 from, __u32 n, __u32 how)
{
	struct colo_frame *fr = frame_at(idx);
	struct scratch *s = scratch_get();
	__u32 hdr_len, tagged;

	if (!fr || !s)
		return -1;
	hdr_len = fr->hdr_len;
	tagged = ctx_tagged_as(ctx, fr->vlan_proto, fr->vlan_tci);
	/* a tag taken off brings the next one out of the frame: L4 moves */
	if (!tagged && ctx->vlan_present)
		bpf_skb_vlan_pop(ctx);
	if (!tagged && ctx->vlan_present) {
		if (how & HOW_PARTIAL)
			return -1;
		bpf_skb_vlan_pop(ctx);
	}
	if (hdr_len < ETH_LEN || hdr_len > COLO_HDR_MAX)
		return -1;
	if (bpf_skb_change_tail(ctx, hdr_len + n, 0))
		return -1;
	BOUND(hdr_len, 255);
	if (ctx_store(ctx, 0, s->out, hdr_len))
		return -1;
	if (n && pool_store(ctx, fr->hdr_len, fr->data_off + from, n))
		return -1;
	if (fr->vlan_proto && !tagged)
		bpf_skb_vlan_push(ctx, fr->vlan_proto, bpf_ntohs(fr->vlan_tci));
	if (how & HOW_LINK)
		return link_send_copy(ctx, COLO_LINK_OUTPUT, fr->epoch, how >> HOW_IFINDEX);
	return ctx_send_copy(ctx, how >> HOW_IFINDEX);
}

/*
 * The headers of one TCP segment of a held frame, with n payload bytes from
 * index at, into scratch.out.
 */
__noinline int segment_headers(__u32 idx, __u32 at, __u32 n, __u32 how)
{
	struct colo_frame *fr = frame_at(idx);
	struct scratch *s = scratch_get();
	__u32 l4, urg;

	if (!fr || !s)
		return -1;
	__builtin_memcpy(s->out, fr->hdr, COLO_HDR_MAX);
	l4 = fr->l4_off;
	out_l3(s, &fr->key, fr->l3_off, l4, fr->hdr_len - l4 + n,
	       fr->gso_size ? at / fr->gso_size : 0);
	if (at || !(fr->flags & COLO_FR_SYN))
		out32(s, l4 + 4, fr->seq + !!(fr->flags & COLO_FR_SYN) + at);
	if (!(how & HOW_LAST))
		s->out[in_hdr(l4 + 13)] &= ~(TCP_FL_FIN | TCP_FL_PSH);
	if (at && fr->flags & COLO_FR_URG) {
		urg = fr->urg_ptr;
		if (urg > at)
			out16(s, l4 + 18, urg - at);
		else
			s->out[in_hdr(l4 + 13)] &= ~TCP_FL_URG;
	}
	return 0;
}

/* The TCP checksum of what segment_headers() has made. */
__noinline int segment_csum(__u32 idx, __u32 at, __u32 n, __u32 how)
{
	struct colo_frame *fr = frame_at(idx);
	struct scratch *s = scratch_get();
	__u32 l4, sum, partial = how & HOW_PARTIAL;

	if (!fr || !s)
		return -1;
	l4 = fr->l4_off;
	out16(s, l4 + 16, 0);
	sum = pseudo_csum(idx, fr->hdr_len - l4 + n);
	if (!partial) {
		sum = out_csum(s, l4, fr->hdr_len - l4, sum);
		if (n)
			sum = pool_csum(fr->data_off + at, n, sum);
	}
	*(__be16 *)(s->out + in_hdr(l4 + 16)) = partial ? csum_fold(sum) : ~csum_fold(sum);
	return 0;
}

/*
 * The units [from, to) of a held TCP frame, cut at its gso_size. SYN and RST
 * leave with all of their frame.
 */
__noinline int emit_range(struct __sk_buff *ctx, __u32 idx, __u32 from, __u32 to, __u32 how)
{
	struct colo_frame *fr = frame_at(idx);
	__u32 syn, at, upto, n, seg, whole, last;
	int i, ret;

	if (!fr)
		return -1;
	syn = !!(fr->flags & COLO_FR_SYN);
	whole = to == fr->end;
	at = from - fr->seq;
	at = at > syn ? at - syn : 0;
	upto = to - fr->seq - syn;
	if (fr->flags & COLO_FR_RST || upto > fr->data_len)
		upto = fr->data_len;
	seg = fr->gso_size;
	if (!seg)
		seg = COLO_BIG_SIZE;
	else if (seg < SEGMENT_MIN)
		seg = SEGMENT_MIN;
	for (i = 0; i < SEGMENTS_MAX + 1; i++) {
		n = upto - at;
		if (n > seg)
			n = seg;
		last = whole && at + n == upto ? HOW_LAST : 0;
		if (segment_headers(idx, at, n, how | last) || segment_csum(idx, at, n, how))
			return -1;
		ret = out_send(ctx, idx, at, n, how);
		if (ret)
			return ret;
		COUNT(p_segments);
		at += n;
		if (at >= upto)
			return 0;
	}
	return -1;
}

/* A held frame that is no TCP, as P sent it, for out_send(). */
__noinline int datagram_headers(__u32 idx, __u32 how)
{
	struct colo_frame *fr = frame_at(idx);
	struct scratch *s = scratch_get();
	__u32 sum;
	__u8 *at;

	if (!fr || !s)
		return -1;
	__builtin_memcpy(s->out, fr->hdr, COLO_HDR_MAX);
	at = pool_at(fr->data_off);
	/* a partial carrier's device would put a checksum where there is none */
	if (!(fr->flags & COLO_FR_UDP) || fr->data_len < 8 || !at || !*(__be16 *)(at + 6))
		return how & HOW_PARTIAL ? -1 : 0;
	*(__be16 *)(at + 6) = 0;
	sum = pseudo_csum(idx, fr->data_len);
	if (how & HOW_PARTIAL) {
		*(__be16 *)(at + 6) = csum_fold(sum);
	} else {
		sum = pool_csum(fr->data_off, fr->data_len, sum);
		sum = (__u16)~csum_fold(sum);
		*(__be16 *)(at + 6) = sum ? sum : 0xffff;
	}
	return 0;
}

/*
 * Overwrite the packet's headers, up to TCP's end, by scratch.out. The L4
 * checksum is mended by the difference of the TCP header, which is right for
 * a complete one and, since it touches nothing else, for a partial one.
 */
__noinline int hdr_replace(struct __sk_buff *ctx)
{
	struct scratch *s = scratch_get();
	__u32 l4, n, hdr_len, diff;
	struct packet *p;

	if (!s)
		return -1;
	p = &s->pkt;
	l4 = p->l4_off;
	hdr_len = p->hdr_len;
	*(__be16 *)(s->out + in_hdr(l4 + 16)) = *(__be16 *)(p->hdr + in_hdr(l4 + 16));
	n = hdr_len - l4;
	asm volatile("" : "+r"(n));
	n &= 60;
	diff = bpf_csum_diff((__be32 *)(p->hdr + in_hdr(l4)), n,
			     (__be32 *)(s->out + in_hdr(l4)), n, 0);
	BOUND(hdr_len, 255);
	if (bpf_skb_store_bytes(ctx, 0, s->out, hdr_len, BPF_F_INVALIDATE_HASH))
		return -1;
	return bpf_l4_csum_replace(ctx, l4 + 16, 0, diff, 0);
}

#endif
