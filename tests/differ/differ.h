/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Random sequences of both sides' frames, put to colo-bpf and to QEMU's
 * colo-compare; what differs has to follow from a rule. README.md says how.
 */
#ifndef DIFFER_H
#define DIFFER_H

#include "cases.h"

/* ---- generate.c ---------------------------------------------------------- */

/* What a sequence is drawn from; the first ones are where both must agree. */
enum domain {
	DOMAIN_TCP_SAME,  /* IPv4 TCP, both sides cut alike */
	DOMAIN_UDP_SAME,  /* IPv4 UDP, S in P's order */
	DOMAIN_ICMP_SAME, /* likewise echo replies */
	DOMAIN_FRAG_SAME, /* UDP fragments */
	DOMAIN_TCP_CUTS,  /* other cuts, retransmissions, reordering, acks */
	DOMAIN_TCP_FLAGS, /* SYN, FIN, RST */
	DOMAIN_TCP_PLACE, /* S's bytes at another place of the stream */
	DOMAIN_UDP_ORDER, /* S in another order */
	DOMAIN_UDP_CSUM,  /* other checksum fields */
	DOMAIN_IP_HEADER, /* SCTP, GRE, ESP with other IP headers */
	DOMAIN_IPV6_TAGS, /* TCP and UDP that QEMU does not compare */
	DOMAIN_TCP_TIMED, /* TCP, and then the time-out */
	DOMAINS,
};

#define DOMAIN_AGREE DOMAIN_TCP_CUTS /* below: both must agree */

extern const char *const domain_names[DOMAINS];

/* A whole case in the case language; free it. */
char *generate(enum domain domain, unsigned int number);

/* ---- truth.c: what the rules say of the sequence so far ------------------- */

#define SENT_MAX 128
#define SPACE    4096 /* of sequence numbers in a sequence */

struct sent {
	const struct spec *spec;
	struct frame *frame; /* of P */
	uint32_t end;        /* TCP */
	bool has_new;        /* units that were not vouched for when it came */
	bool matched;        /* a datagram with its partner */
	bool due;            /* the rules want it out by now */
	bool may;            /* ... or allow it */
	bool committed;      /* ... because of a commit */
	unsigned int epoch;
	bool out[2]; /* it has left, by enum who */
};

enum who { OURS, QEMUS };

struct truth {
	struct sent p[SENT_MAX], s[SENT_MAX];
	unsigned int p_count, s_count;
	unsigned int epoch;
	bool mismatch;  /* of this epoch */
	bool patient;   /* datagrams may come in any order */
	bool overtaken; /* in this step only by what brings no byte that had not left */
	/* TCP: units by their distance from base; -1: none */
	bool based, begun;
	uint32_t base;
	int16_t unit[2][SPACE]; /* P's and S's */
	unsigned int vouch_start, vouch_end;
	bool has_ack, has_p_ack, p_reset, s_reset;
	uint32_t ack, p_ack;
	unsigned int reset_at;
	uint32_t last_s_ack;
	unsigned int syn_epoch[2];
	char syn[2][64]; /* the options that have to agree */
};

void truth_begin(struct truth *t);
void truth_end(struct truth *t);
void truth_put(struct truth *t, enum verb verb, const struct spec *spec,
	       const struct frame *frame);
void truth_commit(struct truth *t);
/* S has shown all units of that frame at their place. */
bool truth_shown(const struct truth *t, const struct sent *p);
bool truth_ack_covered(const struct truth *t, const struct sent *p);
/* P's held frames or S's waiting ones: what a time-out asks for. */
bool truth_waits(const struct truth *t);

/* ---- classes.c: by which rule a difference is right ------------------------ */

enum difference {
	QEMU_EARLY,  /* QEMU has released what the rules hold */
	QEMU_LATE,   /* QEMU holds what the rules release */
	QEMU_ASKS,   /* QEMU asked for a checkpoint, the rules do not */
	QEMU_SILENT, /* the rules ask for one, QEMU does not */
	QEMU_AGAIN,  /* QEMU asked more than once */
	QEMU_ORDER,  /* the same frames in another order */
	DIFFERENCES,
};

extern const char *const difference_names[DIFFERENCES];

struct class
{
	const char *rule;
	const char *text;
	enum difference difference;
	bool (*is)(const struct truth *t, const struct sent *p);
	unsigned int count; /* of the differences that it explains */
	unsigned int alone; /* ... and no other class does */
	bool off;           /* of the self-test: as if it were not there */
};

extern struct class classes[];
extern const unsigned int classes_count;

/* NULL: unexplained. p: the frame of EARLY and LATE. */
struct class *classify(enum difference difference, const struct truth *t, const struct sent *p);

#endif
