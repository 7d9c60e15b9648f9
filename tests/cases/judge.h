/* SPDX-License-Identifier: GPL-2.0-only */
/* Holds what has left against the model. */
#ifndef CASES_JUDGE_H
#define CASES_JUDGE_H

#include "model.h"

struct judge {
	struct model *model;
	unsigned int failures;
	unsigned int whole, cut; /* frames that left: P's very frame, another cut */
	unsigned int unjudged;   /* ... of flows of which the rules say nothing */
	bool quiet;              /* failures are not printed */
	char *first;             /* the first one; free it */
};

#define FAILURES_MAX 20 /* lines of a run */

/* P's very frame, but for its checksums. */
bool judge_is_whole(const struct packet *p, const struct packet *out);
/* The header of a segment that was cut out of P's. */
bool judge_header_fits(const struct packet *p, const struct packet *out);
/* A frame has left. */
void judge_frame(struct judge *judge, const struct frame *frame);
/* Has all left that the last events let go? */
bool judge_is_done(const struct judge *judge);
/* What has not is a failure; done with it either way. */
void judge_due(struct judge *judge);
void judge_fail(struct judge *judge, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
