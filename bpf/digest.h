/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A keyed digest of a datagram's content, by which the partner of a frame is
 * found where several wait. What it finds is then compared byte by byte.
 *
 * NH over pairs of 32-bit words, twice, the second time with the key shifted by
 * a pair (Toeplitz): for two contents of the same length that differ, both
 * 64-bit sums are equal with a probability of at most 2^-64 over the key (Black,
 * Halevi, Krawczyk, Krovetz, Rogaway: UMAC, CRYPTO '99, theorem 4.2). The key
 * is as long as the longest content, random, and new with each start of COLO.
 */
#ifndef COLO_BPF_DIGEST_H
#define COLO_BPF_DIGEST_H

#include "compare.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct colo_digest_key);
} digest_key SEC(".maps");

static __always_inline __u64 nh(__u64 m, __u64 k)
{
	__u64 low = (__u32)m + (__u32)k, high = (m >> 32) + (k >> 32);

	return (low & 0xffffffff) * (high & 0xffffffff);
}

struct nh_walk {
	__u64 sum;
	__u32 at;   /* in the pool */
	__u32 from; /* in the key */
	__u32 left;
};

/* 32 bytes; a callback, for the verifier, which would else follow 2048 steps. */
static long nh_step(__u32 step __unused, void *arg)
{
	struct colo_digest_key *key = ZERO_KEY(digest_key);
	struct nh_walk *w = arg;
	__u8 *entry = pool_entry(w->at);
	const __u64 *m, *k;

	if (!key || !entry || w->left < 32)
		return 1;
	m = (const __u64 *)(entry + POOL_BYTE(w->at));
	k = (const __u64 *)((__u8 *)key->word + POOL_BYTE(w->from));
	w->sum += nh(m[0], k[0]) + nh(m[1], k[1]) + nh(m[2], k[2]) + nh(m[3], k[3]);
	w->at += 32;
	w->from += 32;
	w->left -= 32;
	return 0;
}

/* NH of n bytes of the pool, with the key from byte `from` on. */
__noinline __u64 pool_nh(__u32 at, __u32 n, __u32 from)
{
	struct nh_walk w = {.at = at, .from = from, .left = n};
	struct colo_digest_key *key = ZERO_KEY(digest_key);
	__u8 *entry = pool_entry(at);
	const __u64 *m, *k;
	int i;

	if (!key || !entry)
		return 0;
	bpf_loop(COLO_BIG_SIZE / 32, nh_step, &w, 0);
	for (i = 0; i < 4; i++) {
		m = (const __u64 *)(entry + POOL_BYTE(w.at));
		k = (const __u64 *)((__u8 *)key->word + POOL_BYTE(w.from));
		if (w.left < 8)
			break;
		w.sum += nh(m[0], k[0]);
		w.at += 8;
		w.from += 8;
		w.left -= 8;
	}
	n = w.left & 7;
	return n ? w.sum + nh(m[0] & LOW_BYTES(n), k[0]) : w.sum;
}

/*
 * Fill in a frame's digest, of its content without its checksum field: what
 * lies before it (8 bytes at most, the key's first words) and what is behind.
 */
__noinline int frame_digest(__u32 idx)
{
	struct colo_frame *fr = frame_at(idx);
	__u32 off, n = 0;

	if (!fr)
		return -1;
	if (fr->flags & COLO_FR_DIGEST)
		return 0;
	off = csum_of(fr, &n);
	if (!off || fr->data_len < off + n)
		off = n = 0;
	off += n;
	fr->digest[0] = pool_nh(fr->data_off + off, fr->data_len - off, 16);
	fr->digest[1] = pool_nh(fr->data_off + off, fr->data_len - off, 24);
	off -= n;
	fr->digest[0] += pool_nh(fr->data_off, off, 0);
	fr->digest[1] += pool_nh(fr->data_off, off, 8);
	fr->flags |= COLO_FR_DIGEST;
	return 0;
}

/* 0: the digests of two frames are equal, or there are none. */
__noinline int digest_differ(__u32 a_idx, __u32 b_idx)
{
	struct colo_frame *a = frame_at(a_idx), *b = frame_at(b_idx);

	if (!a || !b || frame_digest(a_idx) || frame_digest(b_idx))
		return 0;
	return a->data_len != b->data_len || a->digest[0] != b->digest[0] ||
	       a->digest[1] != b->digest[1];
}

#endif
