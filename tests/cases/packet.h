/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Replay of captures: a captured frame, what its headers say, and what the
 * rules make of it. Written from the rules, apart from the engine's own code.
 */
#ifndef CASES_PACKET_H
#define CASES_PACKET_H

#include "cases.h"

#define REPLAY_MTU \
	16000          /* of the devices; the kernel resizes no larger packet that is not GSO */
#define PACKET_L2   22 /* Ethernet's header with two tags */
#define PACKET_MIN  14 /* a tap takes nothing shorter */
#define PACKET_MAX  (65535 + PACKET_L2)
#define HEADERS_MAX 160 /* COLO_HDR_MAX: what lies behind cannot be followed */
#define EXTS_LIMIT  5   /* extension headers of IPv6 that are followed */

/* What rules 9 and 10 make of a frame. */
enum packet_class {
	PACKET_PASS,         /* ARP and its like: P leaves, S is dropped */
	PACKET_DROP,         /* neither leaves: the operator's policy */
	PACKET_STREAM,       /* TCP */
	PACKET_DATAGRAM,     /* all else that is compared */
	PACKET_TCP_FRAGMENT, /* held to the commit */
	PACKET_MALFORMED,    /* held to the commit */
	PACKET_UNFIT,        /* cannot be put in: no program sees it */
};

/* The flow of rule 9. */
struct packet_key {
	uint8_t src[16], dst[16];
	uint16_t sport, dport;
	uint16_t vlan[VLANS_MAX];
	uint16_t ethertype;
	uint8_t proto;
	uint8_t fragment;
	uint8_t malformed;
	uint8_t unused;
};

struct packet {
	unsigned int number; /* in its file, from 1 */
	unsigned int len;
	unsigned int cut; /* bytes that the capture has lost of it */
	uint8_t *bytes;
	enum packet_class class;
	char *why;    /* PACKET_MALFORMED, PACKET_UNFIT: the rule and the reason */
	bool alone;   /* S's copy cannot cross the link */
	bool through; /* PACKET_PASS: by a passthrough rule */
	struct packet_key key;
	unsigned int tags;
	unsigned int l3, l4; /* offsets, 0: none */
	unsigned int end;    /* of what counts: no padding */
	/* TCP: units are the SYN, the bytes, the FIN */
	uint32_t seq, next, ack;
	uint8_t flags;
	unsigned int data, data_len;
	/* fragments */
	uint32_t place, id;
	/* it goes in as a GSO frame, its checksum left to the device */
	bool gso;
};

struct capture {
	const char *path;
	struct packet *packets;
	unsigned int count, room;
	char *note;  /* what is wrong with the file, though frames were read */
	bool broken; /* ... and frames are missing by it that cannot be counted */
};

/* capture.c: 0, or -1 with a line on *error. */
int capture_read(const char *path, struct capture *capture, char **error);
void capture_free(struct capture *capture);

/* dissect.c */
void packet_dissect(struct packet *packet);
/* The operator's rules on what was dissected, which may set another class; or NULL. */
extern void (*packet_rules)(struct packet *packet);
/* It is to go in: can it, and how? After packet_dissect(). */
void packet_prepare(struct packet *packet);
void packet_free(struct packet *packet);
/* The value at a unit of a TCP segment: a byte, or one of these. */
enum { UNIT_SYN = 256, UNIT_FIN, UNIT_NONE };
int packet_unit(const struct packet *packet, uint32_t at);
bool packet_has_units(const struct packet *packet);
/*
 * First and last fragment of a TCP packet: its flow, and the units that it has.
 * False: it is none.
 */
bool packet_span(const struct packet *first, const struct packet *last, struct packet_key *key,
		 uint32_t *from, uint32_t *to);
/* Where in its packet's L4 a fragment is. */
unsigned int packet_fragment_offset(const struct packet *packet);
bool packet_is_last_fragment(const struct packet *packet);
/* The L4 checksum field: its offset, 0 if there is none; *len its size. */
unsigned int packet_csum(const struct packet *packet, unsigned int *len);
bool packet_csum_good(const struct packet *packet);
bool packet_ip_csum_good(const struct packet *packet);
/* MSS, window scale, ...: a SYN with keys that differ between the guests (rule 14). */
bool packet_keyed(const struct packet *packet);
/* Two SYNs do not agree in what rule 7 names of their options. */
bool packet_options_differ(const struct packet *a, const struct packet *b);
void packet_print_flow(char *to, size_t size, const struct packet *packet);

static inline int seq_diff(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b);
}

#endif
