/* SPDX-License-Identifier: GPL-2.0-only */
/* The secondary's side of a replay: what it sends instead of P's frames, and when. */
#ifndef CASES_VARY_H
#define CASES_VARY_H

#include "packet.h"

#define STEP 4 /* of a time: P's frame i of a portion comes at i * STEP */

/* A frame of one side at its time; equal times: in the order of the list. */
struct timed {
	struct packet *packet;
	bool own; /* to be freed with the list */
	bool of_p;
	unsigned int from; /* the captured frame that it is or ends with, in the portion */
	long when;
};

struct schedule {
	struct timed *list;
	unsigned int count, room;
};

enum variant {
	VARY_S_AFTER,
	VARY_S_BEFORE,
	VARY_P_AHEAD,
	VARY_S_AHEAD,
	VARY_RECUT,
	VARY_REORDER,
	VARY_FLIP_AFTER,
	VARY_FLIP_BEFORE,
	VARIANTS,
};

extern const char *const variant_names[VARIANTS];

/* One byte that S sends otherwise. */
struct flip {
	unsigned int number; /* of the frame in the file */
	unsigned int offset; /* in the frame */
	uint8_t with;        /* xor */
};

uint64_t vary_random(uint64_t *seed);
/* Both sides' frames of a portion in the order in which they come. */
void vary(struct schedule *schedule, struct packet *packets, unsigned int count,
	  enum variant variant, const struct flip *flips, unsigned int flip_count,
	  uint64_t *seed);
void schedule_clear(struct schedule *schedule);

#endif
