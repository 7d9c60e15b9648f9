/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the rules allow, frame by frame: a model as plain as they are, without
 * slots, locks or carriers, to judge the engine by.
 */
#ifndef CASES_MODEL_H
#define CASES_MODEL_H

#include "packet.h"

/* Frames of a lane leave in order; rule 3 knows no order between lanes. */
enum lane {
	LANE_DATA, /* what brings units, datagrams */
	LANE_ACK,  /* what brings no new unit */
	LANE_OLD,  /* what only a commit releases */
	LANES,
};

/* A frame of P or S in a run. */
struct item {
	const struct packet *packet;
	struct model_flow *flow;
	enum lane lane;
	uint32_t matched; /* units below are the other side's too */
	uint32_t allowed; /* P: units below may have left */
	uint32_t seen;    /* P: units below were seen to leave */
	bool partner;     /* an RST or a datagram: the other side has it too */
	bool left;        /* P: the rules let it go, whole */
	bool gone;        /* P: it was seen to leave whole */
	bool optional;    /* P: it may leave, and need not before the commit */
	bool at_commit;   /* P: only a commit let it go */
	const char *held; /* P: why it did not leave at once, if that is settled */
};

struct items {
	struct item **list;
	unsigned int count, room;
};

struct model_flow {
	struct packet_key key;
	struct items all;             /* P's frames since the last commit */
	struct items open;            /* of these: may leave, and have not been seen to */
	struct items held, acks, old; /* P's, by lane */
	struct items waiting;         /* S's */
	struct items optional;
	bool mismatch;
	bool unjudged; /* one side contradicts itself: nothing follows from the rules */
	bool lost;     /* ... for good: its numbers are in no order */
	const char *unjudged_why;
	/* TCP */
	bool has_isn, has_span, has_sent, has_p_ack, has_s_ack, has_s_isn, has_next_ack;
	bool s_old, has_left;
	uint32_t isn, s_isn;
	uint32_t from, to;    /* the interval that is vouched for */
	uint32_t first, next; /* all that P has sent in this life */
	uint32_t p_ack, s_ack;
	uint32_t s_next_ack;      /* S's, in the life with s_isn that P is not in */
	uint32_t left_from, left; /* units in between have left */
	bool has_rst;             /* both have sent an RST without a text, this one: */
	uint32_t rst_seq, rst_ack;
	unsigned int rst_more; /* S so often more than P */
	uint32_t mismatch_at;  /* S's other unit */
	uint32_t doubt; /* from here up to it the units are equal, in a segment that is not */
	struct model_flow *chain;
};

#define MODEL_BUCKETS 65536
#define MODEL_WINDOW  64 /* reorder_window */

struct model {
	struct model_flow *buckets[MODEL_BUCKETS];
	struct items due;           /* became free to leave by the last event */
	int request;                /* enum colo_reason, the first of the epoch */
	bool unjudged;              /* some flow was, in this epoch */
	uint64_t passed, malformed; /* for the counters */
};

void items_add(struct items *items, struct item *item);
void items_remove(struct items *items, unsigned int at);
void items_clear(struct items *items);

struct model *model_new(void);
void model_free(struct model *model);
/* A frame has come; the items are the caller's, and stay until the next commit. */
void model_p(struct model *model, struct item *item);
void model_s(struct model *model, struct item *item);
void model_commit(struct model *model);
/* ... and what it let go was looked at. */
void model_committed(struct model *model);
struct model_flow *model_flow(struct model *model, const struct packet_key *key, bool make);
/* Does anything wait for a time-out? */
bool model_waits(struct model *model);
/* Does a flow of datagrams have some on both sides that do not agree? */
bool model_disputed(struct model *model);
/* Why P's frame has not left: the rule and the reason. */
void model_why(const struct item *item, char *to, size_t size);

/* Two datagrams of one flow have the same content. */
bool model_content_equal(const struct packet *a, const struct packet *b);

/* For the two halves of the model. */
void model_may_go(struct model *model, struct item *item);
void model_let_go(struct model *model, struct item *item, enum lane lane);
void model_request(struct model *model, int reason);
void model_unjudged(struct model *model, struct model_flow *flow, const char *why);

/* stream.c: TCP */
void stream_p(struct model *model, struct model_flow *flow, struct item *item);
void stream_s(struct model *model, struct model_flow *flow, struct item *item);
void stream_commit(struct model_flow *flow);
bool stream_waits(const struct model_flow *flow);
void stream_why(const struct item *item, char *to, size_t size);

#endif
