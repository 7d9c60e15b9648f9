/* SPDX-License-Identifier: GPL-2.0-only */
/* A scenario that runs on a primary. */
#ifndef STREAMS_SCENARIO_H
#define STREAMS_SCENARIO_H

#include "datapath.h"
#include "oracle.h"

/* Memory that is needed until the end. */
struct kept {
	void *memory;
	struct kept *next;
};

struct scenario {
	struct run run;
	const struct statement *at;
	struct outcome *outcome;
	struct datapath *dp;
	struct judge judge;
	struct ledger *ledger;
	struct kept *kept;
	struct colo_counters now;
	uint32_t barriers;    /* put */
	uint64_t barriers_in; /* ... while the proxy was in COLO */
	uint64_t foreign;     /* frames of S after a failover */
	struct frame *client; /* is to reach the guest and the link */
	bool said, gap;       /* S has sent, and some was lost, in this epoch */
	bool next_said, next_gap;
	bool reclaims; /* flows end by time */
	uint64_t grace, idle;
	enum spoil spoil;
	bool spoilt;
	struct frame *late;
};

void fault(struct scenario *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
