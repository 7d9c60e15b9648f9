/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Comparison of bytes that both lie in the pool. A release rests on this and
 * on nothing else (contract 6).
 */
#ifndef COLO_BPF_COMPARE_H
#define COLO_BPF_COMPARE_H

#include "hold.h"

/* The first n bytes of 8 in memory order, 0 < n < 8. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LOW_BYTES(n) (~0ULL >> (64 - 8 * (n)))
#else
#define LOW_BYTES(n) (~0ULL << (64 - 8 * (n)))
#endif

/*
 * The sum of differences is opaque to the compiler: clang 19 makes a jump of each
 * of its words, eight a step of pool_differ(), and the verifier gives up after
 * 8192 jumps.
 */
static __always_inline __u64 differ64(const __u64 *a, const __u64 *b)
{
	__u64 differ = (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) |
		       (a[4] ^ b[4]) | (a[5] ^ b[5]) | (a[6] ^ b[6]) | (a[7] ^ b[7]);

	asm volatile("" : "+r"(differ));
	return differ;
}

/* 0: the len bytes at pool offsets a and b are equal. */
__noinline int pool_differ(__u32 a, __u32 b, __u32 len)
{
	__u8 *p = pool_entry(a), *s = pool_entry(b);
	__u64 x, y;
	int i;

	if (!p || !s || len > COLO_BIG_SIZE)
		return 1;
	for (i = 0; i < COLO_BIG_SIZE / 64; i++) {
		if (len < 64)
			break;
		if (differ64((const __u64 *)(p + POOL_BYTE(a)),
			     (const __u64 *)(s + POOL_BYTE(b))))
			return 1;
		a += 64;
		b += 64;
		len -= 64;
	}
	for (i = 0; i < 8; i++) {
		if (len < 8)
			break;
		x = *(const __u64 *)(p + POOL_BYTE(a));
		y = *(const __u64 *)(s + POOL_BYTE(b));
		if (x != y)
			return 1;
		a += 8;
		b += 8;
		len -= 8;
	}
	if (!len)
		return 0;
	x = *(const __u64 *)(p + POOL_BYTE(a));
	y = *(const __u64 *)(s + POOL_BYTE(b));
	len &= 7;
	return ((x ^ y) & LOW_BYTES(len)) != 0;
}

/* The bits of a fragment's place that are its offset. */
#define FRAGMENT_OFFSET(fr) ((fr)->key.ethertype == bpf_htons(ETHERTYPE_IPV6) ? 0xfff8 : 0x1fff)

/*
 * Where in the L4 content the checksum field is, which is not compared
 * (rule 9); 0 if there is none.
 */
static __always_inline __u32 csum_field(__u32 proto, __u32 *len)
{
	*len = 2;
	switch (proto) {
	case PROTO_UDP:
		return 6;
	case PROTO_ICMP:
	case PROTO_ICMPV6:
		return 2;
	case 132: /* SCTP, CRC32c */
		*len = 4;
		return 8;
	}
	return 0;
}

/* Where the frame's checksum field is; 0 also where a fragment has none. */
static __always_inline __u32 csum_of(const struct colo_frame *fr, __u32 *len)
{
	if (fr->flags & COLO_FR_WHOLE || (fr->key.fragment && fr->seq & FRAGMENT_OFFSET(fr)))
		return 0;
	return csum_field(fr->key.proto, len);
}

/*
 * 0: two datagrams of different size begin alike, as far as the shorter goes.
 * UDP's header has the length in it and is left out.
 */
__noinline int datagram_starts_differ(__u32 p_idx, __u32 s_idx)
{
	struct colo_frame *p = frame_at(p_idx), *s = frame_at(s_idx);
	__u32 n, len, off;

	if (!p || !s)
		return 1;
	len = p->data_len < s->data_len ? p->data_len : s->data_len;
	off = csum_field(p->key.proto, &n);
	if (p->flags & COLO_FR_WHOLE || p->key.fragment)
		off = 0;
	else if (off)
		off += n;
	if (len <= off)
		return 0;
	return pool_differ(p->data_off + off, s->data_off + off, len - off);
}

/* 0: two datagrams of one flow have the same content, but for the checksum. */
__noinline int datagram_differ(__u32 p_idx, __u32 s_idx)
{
	struct colo_frame *p = frame_at(p_idx), *s = frame_at(s_idx);
	__u32 off, n = 0;

	if (!p || !s || p->data_len != s->data_len || p->seq != s->seq)
		return 1;
	if (!p->data_len)
		return 0;
	off = csum_of(p, &n);
	if (!off || p->data_len < off + n)
		return pool_differ(p->data_off, s->data_off, p->data_len);
	if (pool_differ(p->data_off, s->data_off, off))
		return 1;
	off += n;
	return pool_differ(p->data_off + off, s->data_off + off, p->data_len - off);
}

#endif
