/* SPDX-License-Identifier: GPL-2.0-only */
/* Two guests that send what they have to send, as statements of the case language. */
#ifndef STREAMS_GENERATE_H
#define STREAMS_GENERATE_H

#include "oracle.h"
#include "random.h"

#define FLOWS_MAX 20
#define LIVES_MAX 5
#define CUTS_MAX  24
#define WIRE_MAX  48
#define HEAD_MAX  160

enum { OF_P, OF_S };

/* What S does otherwise than P, until it is P's copy. */
enum difference {
	SAME,
	OTHER_BYTES,
	ENDS_EARLY, /* a FIN where P has data */
	GOES_ON,    /* data where P has a FIN or an RST */
	RESETS,     /* an RST where P has data */
	OTHER_OPTIONS,
	OTHER_URGENT,
	OTHER_PLACE, /* the same bytes at other numbers */
	LEAVES_OUT,  /* a datagram, or bytes for ever */
	ONE_MORE,
	DIFFERENCES,
};

struct life {
	uint32_t isn;        /* number of the first unit */
	bool syn;            /* it has one: else it was there before */
	bool active;         /* the guest opens */
	bool fin;            /* ends with a FIN */
	bool resets;         /* ... or with an RST */
	unsigned int len;    /* bytes */
	unsigned int client; /* bytes that the client has sent so far */
	uint32_t client_isn;
	unsigned int options; /* which */
};

struct cut {
	unsigned int from, until;
};

/* How far a guest is in a TCP flow. */
struct guest {
	unsigned int life;
	bool syn, fin, rst; /* were sent */
	unsigned int next;  /* bytes that it has sent */
	unsigned int ack;   /* bytes of the client that it has acked */
	struct cut cuts[CUTS_MAX];
	unsigned int cut_count;
};

struct flow_maker {
	bool tcp;
	bool fragments; /* its datagrams are in fragments; TCP: now and then */
	char head[HEAD_MAX];
	char name; /* of the pattern of its bytes */
	bool v6;
	/* TCP */
	struct life life[LIVES_MAX];
	unsigned int lives;
	struct guest side[2];
	unsigned int step;    /* both cut alike, to that many bytes; 0: each as it likes */
	bool urgent;          /* ... and some of it is */
	bool stamps;          /* timestamps on every segment */
	unsigned int segment; /* the longest */
	/* all else: frames sent */
	unsigned int sent[2];
	unsigned int id[2];
	unsigned int size;   /* of the longest */
	unsigned int repeat; /* so many contents there are */
	/* S */
	enum difference difference;
	unsigned int at; /* byte or datagram */
	bool drawn;      /* for this epoch */
};

/* Percentages, where nothing else is said. */
struct knobs {
	unsigned int flows, steps;                /* how many */
	unsigned int delay, loss, twice, reorder; /* on the link */
	unsigned int p_reorder;                   /* of what leaves the guest */
	unsigned int again;                       /* retransmissions */
	unsigned int differs;                     /* flows of an epoch */
	unsigned int commits, early, waits, failovers;
	unsigned int handshakes, ends, lives, s_first;
	unsigned int tcp, fragments, others;
	unsigned int odd;      /* frames that cannot be followed */
	unsigned int catch_up; /* S shows all of P in the end */
	bool offloads, gso;
};

struct maker {
	FILE *to;
	enum domain domain;
	struct knobs k;
	unsigned int epoch;
	struct flow_maker flow[FLOWS_MAX];
	unsigned int flows;
	/* S's frames on the link, the oldest first */
	struct {
		char *text;
		unsigned int epoch;
	} wire[WIRE_MAX];
	unsigned int on_wire;
	char *p_late; /* P's frame that the next overtakes */
	bool stopped; /* P, for a checkpoint */
	bool alone;   /* after a failover */
};

/* generate.c: a frame of a side, without its letter */
void emit(struct maker *m, int side, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* All that P has sent is out: nothing overtakes what comes next. */
void flush_p(struct maker *m);

/* What need not agree: ids, ttl, ... */
const char *free_fields(const struct flow_maker *f, bool with_id);

/* tcp.c */
void tcp_begin(struct maker *m, struct flow_maker *f);
void tcp_send(struct maker *m, struct flow_maker *f, int side);
/* S is P's copy now. */
void tcp_copy(struct flow_maker *f);
bool tcp_behind(const struct flow_maker *f);

/* datagrams.c */
void datagram_begin(struct flow_maker *f, unsigned int number);
void datagram_send(struct maker *m, struct flow_maker *f, int side);

/* translate.c: a case of side secondary */
void generate_secondary(struct maker *m);

#endif
