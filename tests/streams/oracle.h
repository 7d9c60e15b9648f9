/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Random streams of both guests, and what has to become of them after each
 * step. README.md says how.
 */
#ifndef ORACLE_H
#define ORACLE_H

#include "judge.h"

/* What a failing part of the oracle is shown with: tests/streams/selftest. */
enum spoil {
	SPOIL_NOTHING,
	/* of what leaves */
	SPOIL_BYTE,   /* a byte of a frame is another */
	SPOIL_LOSE,   /* a frame is overlooked */
	SPOIL_DOUBLE, /* a frame is seen twice */
	SPOIL_SWAP,   /* two frames of one flow in the other order */
	SPOIL_LATE,   /* a frame is seen a step later */
	SPOIL_ACK,    /* an ack is higher, its checksum right */
	SPOIL_CSUM,   /* a checksum is wrong */
	/* of what the proxy says */
	SPOIL_REQUEST, /* a request that was not made */
	SPOIL_SILENT,  /* one that was made is overlooked */
	SPOIL_REASON,  /* another reason */
	SPOIL_HELD,    /* one frame less is held */
	SPOIL_LEAK,    /* one record more is in use */
	/* of what the models are told */
	SPOIL_S,      /* a frame of S has another byte on the link */
	SPOIL_DEAF,   /* the ledger is told nothing of S, and the model is not asked */
	SPOIL_FORGET, /* the ledger is told of no commit, likewise */
	SPOILS,
};

extern const char *const spoils[SPOILS];

/* ---- generate.c, ... : a scenario as a case in the case language ---------- */

enum domain {
	DOMAIN_TCP,       /* other cuts, retransmissions, acks, mismatches */
	DOMAIN_LINK,      /* ... over a link that loses, doubles, reorders */
	DOMAIN_LIVES,     /* SYN, FIN, RST, the tuple again */
	DOMAIN_GSO,       /* up to 64 KB a frame */
	DOMAIN_DATAGRAMS, /* UDP, ICMP, all else */
	DOMAIN_FRAGMENTS,
	DOMAIN_MIXED,
	DOMAIN_TIME,  /* time-outs, gaps of the link, idle flows */
	DOMAIN_FULL,  /* tables that are full */
	DOMAIN_RULES, /* policy, passthrough */
	DOMAIN_SECONDARY,
	DOMAINS,
};

extern const char *const domain_names[DOMAINS];

/* Of this seed; free it. */
char *generate(uint64_t seed, enum domain *domain);

/* ---- ledger.c: rules 1, 2, 3 and 6, of what has left and of nothing else --- */

struct ledger *ledger_new(void);
void ledger_free(struct ledger *ledger);
/* A frame of P; unkept: the proxy has dropped it. */
void ledger_p(struct ledger *ledger, const struct packet *p, bool unkept);
/* A frame of S. early: of the epoch to come; of one that is not kept the ack counts. */
void ledger_s(struct ledger *ledger, const struct packet *s, bool early, bool unkept);
void ledger_commit(struct ledger *ledger);
void ledger_failover(struct ledger *ledger);
/* What has left; NULL, or what is wrong with it: free it. */
char *ledger_out(struct ledger *ledger, const struct packet *out);
/* All that P has sent has left, as often as it was sent. Likewise. */
char *ledger_end(struct ledger *ledger);

/* ---- scenario.c ------------------------------------------------------------ */

struct outcome {
	char *fault; /* NULL: none; free it */
	int line;    /* of the text, where it was seen */
	bool secondary;
	unsigned int steps, frames, left, requests, commits;
};

/* Puts a case to the programs; what it expects itself is not looked at. */
void scenario_run(const char *text, enum spoil spoil, struct outcome *outcome);
void scenario_case(const struct testcase *test, enum spoil spoil, struct outcome *outcome);
bool stopping(void);

/* ---- reduce.c: the same fault with fewer lines; free it --------------------- */

char *reduce(const char *text, const char *fault);

#endif
