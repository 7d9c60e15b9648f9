/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Checksums of frames that are made anew from the pool, of their headers in
 * scratch.out and of their payload in the pool.
 */
#ifndef COLO_BPF_CHECKSUM_H
#define COLO_BPF_CHECKSUM_H

#include "compare.h"

#define CSUM_CHUNK  512 /* bpf_csum_diff() takes no more before 6.13 */
#define HOW_PARTIAL 2   /* of emit.h: the carrier's checksum is partial */

static __always_inline __u16 csum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Sum of len bytes of the pool, unfolded. */
__noinline __u32 pool_csum(__u32 off, __u32 len, __u32 sum)
{
	__u32 n, word;
	__u8 *at;
	int i;

	for (i = 0; i < COLO_BIG_SIZE / CSUM_CHUNK; i++) {
		if (len < CSUM_CHUNK)
			break;
		at = pool_at(off);
		if (!at)
			return 0;
		sum = bpf_csum_diff(NULL, 0, (__be32 *)at, CSUM_CHUNK, sum);
		off += CSUM_CHUNK;
		len -= CSUM_CHUNK;
	}
	/*
	 * Opaque to the compiler: clang 19 makes one look-up of this one and the
	 * loop's, and enters the loop in its middle. Its end then falls through to
	 * where it began, which the verifier of 6.1 takes for an endless loop.
	 */
	asm volatile("" : "+r"(off));
	n = len & (CSUM_CHUNK - 4);
	at = pool_at(off);
	if (!at)
		return 0;
	sum = bpf_csum_diff(NULL, 0, (__be32 *)at, n, sum);
	len &= 3;
	at = pool_at(off + n);
	if (!len || !at)
		return sum;
	word = *(__u32 *)at & (__u32)LOW_BYTES(len);
	return csum_fold(sum) + csum_fold(word);
}

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

#endif
