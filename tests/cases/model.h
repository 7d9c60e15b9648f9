/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the rules say about P's frames: which leave, when, and in which order,
 * and when a checkpoint is asked for. Flows are lists of frames, streams are
 * compared unit by unit: a model as plain as they are, without slots, locks or
 * carriers, to judge the engine by.
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
	uint64_t came;    /* by the model's clock */
	uint64_t number;  /* among all that came */
	bool partner;     /* an RST or a datagram: the other side has it too */
	bool unkept;      /* a table was full: the proxy says that it has dropped it */
	bool left;        /* P: the rules let it go, whole */
	bool gone;        /* P: it was seen to leave whole */
	bool at_commit;   /* P: only a commit let it go */
	const char *held; /* P: why it did not leave at once, if that is settled */
};

struct items {
	struct item **list;
	unsigned int count, room;
};

/* Two packets in fragments are one (rule 9). */
struct binding {
	uint32_t p, s;
};

struct model_flow {
	struct packet_key key;
	struct items all;             /* P's frames since the last commit */
	struct items open;            /* of these: may leave, and have not been seen to */
	struct items held, acks, old; /* P's, by lane */
	struct items waiting;         /* S's */
	struct items early;           /* S's of the epoch to come */
	struct binding *bindings;
	unsigned int binding_count, binding_room;
	uint64_t seen; /* when the last frame came */
	bool tracked;  /* it has a place in the proxy's table */
	bool closed;   /* P has sent a FIN or an RST in this life */
	bool mismatch;
	bool unjudged; /* one side contradicts itself: nothing follows from the rules */
	bool lost;     /* ... for good: its numbers are in no order */
	const char *unjudged_why;
	/* TCP */
	bool has_isn, has_span, has_sent, has_p_ack, has_s_ack, has_s_isn, has_next_ack;
	bool s_old, s_unseen, has_left;
	uint32_t isn, s_isn;
	uint32_t from, to;    /* the interval that is vouched for */
	uint32_t first, next; /* all that P has sent in this life */
	uint32_t p_ack, s_ack;
	uint32_t s_next_ack;      /* S's, in the life with s_isn that P is not in */
	uint32_t left_from, left; /* units in between have left */
	uint32_t mismatch_at;     /* S's other unit */
	bool both_rst;            /* the RST with these numbers both have sent */
	uint32_t rst_seq, rst_ack;
	unsigned int rst_more;    /* S once more than P */
	struct model_flow *chain; /* in its bucket */
	struct model_flow *next_flow;
};

struct model {
	struct model_flow **buckets;
	unsigned int bucket_count;
	struct model_flow *flows; /* all */
	unsigned int window;      /* reorder_window */
	unsigned int queue_max, flows_max;
	uint64_t now, reorder, timeout; /* ms; 0: nothing ends by time */
	uint64_t numbers;               /* of items, so far */
	struct items due;               /* became free to leave by the last event */
	int request;                    /* enum colo_reason, the first of the epoch */
	uint32_t or_request;            /* bits of other reasons that came with it */
	bool unjudged;                  /* some flow was, in this epoch */
	bool one_source;      /* both sides are of one capture: what differs is its own */
	bool passing;         /* time is, and no request stands from before */
	bool wire;            /* after a failover */
	unsigned int tracked; /* flows */
	uint64_t passed, dropped, malformed; /* for the counters */
	const char *wrong;                   /* what the proxy says of itself cannot be */
};

void items_add(struct items *items, struct item *item);
void items_remove(struct items *items, unsigned int at);
void items_clear(struct items *items);

/* Without bounds and time-outs until they are set. */
struct model *model_new(unsigned int buckets);
void model_free(struct model *model);
/* A frame has come; the items are the caller's, and stay until the next commit. */
void model_p(struct model *model, struct item *item);
void model_s(struct model *model, struct item *item);
/* ... of the epoch to come: this one stays until the commit after the next. */
void model_s_early(struct model *model, struct item *item);
void model_commit(struct model *model);
/* ... and what it let go was looked at. */
void model_committed(struct model *model);
void model_failover(struct model *model);
/* The flow's place in the table was given back. */
void model_forget(struct model *model, struct model_flow *flow);
/* The clock goes on, the daemon looks. */
void model_pass(struct model *model, uint64_t ms);
struct model_flow *model_flow(struct model *model, const struct packet_key *key, bool make);
/* Does anything wait that came by then? */
bool model_waits(struct model *model, uint64_t by);
/* Does a flow of datagrams have some on both sides that do not agree? */
bool model_disputed(struct model *model);
/* P's frames that have not left whole. */
unsigned int model_held(const struct model *model);
/* Why P's frame has not left: the rule and the reason. */
void model_why(const struct item *item, char *to, size_t size);

/* Two datagrams of one flow have the same content. */
bool model_content_equal(const struct packet *a, const struct packet *b);

/* For the two halves of the model. */
void model_let_go(struct model *model, struct item *item, enum lane lane);
void model_request(struct model *model, int reason);
void model_unjudged(struct model *model, struct model_flow *flow, const char *why);
/* Is P's frame, which has to be kept, kept? If not, that is asked for. */
bool model_keeps(struct model *model, struct item *item);

/* stream.c: TCP */
void stream_p(struct model *model, struct model_flow *flow, struct item *item);
void stream_s(struct model *model, struct model_flow *flow, struct item *item);
/* P has sent these units. */
void stream_sent(struct model_flow *flow, uint32_t from, uint32_t to);
void stream_commit(struct model_flow *flow);
/* S's frame has something that is not compared. */
bool stream_waits(const struct item *item);
void stream_why(const struct item *item, char *to, size_t size);

#endif
