/* SPDX-License-Identifier: GPL-2.0-only */
/* `run --pcap`: captures as the guest's side. */
#ifndef CASES_REPLAY_H
#define CASES_REPLAY_H

#include <signal.h>

#include "cases.h"

/* What selftests spoil: the run must fail. */
enum spoil {
	SPOIL_NOTHING,
	SPOIL_BYTE,   /* a byte of a frame that left */
	SPOIL_LOSE,   /* a frame that left */
	SPOIL_DOUBLE, /* a frame that left, twice */
	SPOIL_EXPECT, /* the model: a frame that it lets go must be held */
	SPOIL_FLIP,   /* S's flipped byte is P's after all */
	SPOILS,
};

struct replay_options {
	uint64_t seed;
	enum spoil spoil;
	char **files;
};

extern const char *const spoil_names[SPOILS];

/* TAP on stdout; the exit status. */
int replay(const struct replay_options *options, volatile sig_atomic_t *stopping);

#endif
