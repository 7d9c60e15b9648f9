/* SPDX-License-Identifier: GPL-2.0-only */
/* A scenario that runs. */
#ifndef STREAMS_SCENARIO_H
#define STREAMS_SCENARIO_H

#include "datapath.h"
#include "oracle.h"

/*
 * A millisecond of a scenario is SCALE of them for the programs. It passes by
 * making what waits older; what a scenario takes itself is no time.
 */
#define SCALE 300

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
	struct kept *kept;
	struct colo_counters now;
	uint32_t barriers; /* put */
	enum spoil spoil;
	bool spoilt;
	struct frame *late[OUTLETS];
	/* a primary */
	struct judge judge;
	struct ledger *ledger;
	uint64_t barriers_in;  /* ... while the proxy was in COLO */
	uint64_t foreign;      /* frames of S after a failover */
	struct packet *client; /* is to reach the guest and the link */
	bool said, gap;        /* S has sent, and some was lost, in this epoch */
	bool next_said, next_gap;
	uint64_t clock_ns; /* when time last passed */
	bool reclaims;     /* flows end by time */
	uint64_t grace, idle;
	/* a secondary */
	struct rewriter *rewriter;
};

/* rig.c */
void fault(struct scenario *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *remember(struct scenario *s, void *memory);
struct packet *packet_of(struct scenario *s, const struct frame *frame);
struct item *item_of(struct scenario *s, const struct packet *p);
/* A checksum that is left to the device is finished on the way. */
void packet_finish(struct packet *p);
/* `out` is p, or a segment of it that begins at `from`; *until: how far it goes. */
bool packet_is_of(const struct packet *p, const struct packet *out, uint32_t from,
		  uint32_t *until);
bool is_barrier(const struct frame *frame);
void read_counters(struct scenario *s);
/* What came from the link or a client is done on another way than the barrier. */
void wait_for(struct scenario *s, const __u64 *counter, uint64_t want);
/* All that the last event has brought about is out, and read. */
void settle(struct scenario *s);
/* The statement's frame, NULL after a fault; and into the programs with it. */
struct frame *build(struct scenario *s, bool from_guest, bool offloads);
void put(struct scenario *s, struct frame *frame);

/* look.c */
bool once(struct scenario *s, enum spoil spoil);
void judge_outlet(struct scenario *s, enum outlet outlet,
		  void (*judge)(struct scenario *s, struct frame *frame));
void count_records(const struct datapath *dp, unsigned int *of_p, unsigned int *all);
void look(struct scenario *s);

/* time.c: `wait` on a primary */
void let_pass(struct scenario *s);

/* primary.c, secondary.c */
void primary_begin(struct scenario *s);
void primary_step(struct scenario *s);
void primary_end(struct scenario *s);
void secondary_begin(struct scenario *s);
void secondary_step(struct scenario *s);
void secondary_end(struct scenario *s);

#endif
