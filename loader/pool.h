/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The pool of held frames: its layout, and the free lists. The pool has the
 * small blocks first, then the big ones; free_small and free_big hold byte
 * offsets, free_frames indices. Popped, the low ones come first. Before two of
 * them each CPU has a magazine: bpf/freelist.h.
 */
#ifndef COLO_POOL_H
#define COLO_POOL_H

#include <colo/abi.h>

struct bpf_object;

/* Put the defaults where a field is 0. */
void pool_config_defaults(struct colo_config *config);

#define POOL_ENTRIES_MAX 16384 /* of 68 KB: 1 GB */

/* Entries of the map `pool`; 0: more than POOL_ENTRIES_MAX. */
__u32 pool_entries(const struct colo_config *config);

/* So that a word has a bit for each 1 << shift records. */
__u32 pool_frame_shift(const struct colo_config *config);

/* Empty magazines, and how much each may hold. 0 or -errno. */
int pool_magazines(int magazines, const struct colo_config *config);

/* Fill the empty free lists. 0 or -errno. */
int pool_fill(int free_frames, int free_small, int free_big, const struct colo_config *config);

/*
 * Make the free lists what pool_fill() made them. `taken`: how many were ever
 * popped from one of them since, at most; below that depth nothing changed.
 */
int pool_refill(int free_frames, int free_small, int free_big, const struct colo_config *config,
		__u64 taken);

#endif
