/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sums of the payload in the pool.
 */
#ifndef COLO_BPF_CHECKSUM_H
#define COLO_BPF_CHECKSUM_H

#include "compare.h"

#define CSUM_CHUNK 512 /* bpf_csum_diff() takes no more before 6.13 */

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

#endif
