// SPDX-License-Identifier: GPL-2.0-only
/* Random sequences, as cases of one flow in the case language. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "differ.h"
#include "random.h"

#define EVENTS_MAX 40

const char *const domain_names[DOMAINS] = {
	[DOMAIN_TCP_SAME] = "TCP, same cuts",
	[DOMAIN_UDP_SAME] = "UDP, equal order",
	[DOMAIN_ICMP_SAME] = "ICMP, equal order",
	[DOMAIN_FRAG_SAME] = "UDP fragments, equal order",
	[DOMAIN_TCP_CUTS] = "TCP, other cuts, retransmissions, acks",
	[DOMAIN_TCP_FLAGS] = "TCP, SYN, FIN, RST",
	[DOMAIN_TCP_PLACE] = "TCP, bytes elsewhere",
	[DOMAIN_UDP_ORDER] = "UDP, other order",
	[DOMAIN_UDP_CSUM] = "UDP, other checksum fields",
	[DOMAIN_IP_HEADER] = "SCTP, GRE, ESP, other IP headers",
	[DOMAIN_IPV6_TAGS] = "IPv6 and tags",
	[DOMAIN_TCP_TIMED] = "TCP, and the time-out",
};

/* ---- a sequence in the making -------------------------------------------- */

struct events {
	char *text[EVENTS_MAX];
	unsigned int count;
};

struct maker {
	enum domain domain;
	char head[200];   /* tags, protocol and flow */
	uint32_t start;   /* TCP: the first number */
	uint32_t ack;     /* ... and the first ack */
	unsigned int len; /* of the stream */
	int differs;      /* the byte where S is another, -1 */
	uint32_t shift;   /* S's numbers are higher by */
	unsigned int id;  /* a frame of P has its own */
	struct events side[2];
};

static void add(struct events *events, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void add(struct events *events, const char *format, ...)
{
	va_list args;

	if (events->count == EVENTS_MAX)
		return;
	va_start(args, format);
	if (vasprintf(&events->text[events->count++], format, args) < 0)
		abort();
	va_end(args);
}

static void swap(struct events *events, unsigned int a, unsigned int b)
{
	char *text = events->text[a];

	events->text[a] = events->text[b];
	events->text[b] = text;
}

/* Fields that need not agree; ids of P are its frames' names. */
static const char *free_fields(struct maker *m, int side)
{
	static char text[100];
	bool v6 = strchr(m->head, '[') || strstr(m->head, "::");
	int len = 0;

	if (!side)
		len = v6 ? 0 : snprintf(text, sizeof(text), " ipid=%u", ++m->id);
	else if (!v6)
		len = snprintf(text, sizeof(text), " ipid=%u", 1000 + below(60000));
	text[len] = 0;
	if (chance(30))
		len += snprintf(text + len, sizeof(text) - len, " ttl=%u", between(2, 255));
	if (chance(20))
		snprintf(text + len, sizeof(text) - len, " tos=%u", below(256));
	return text;
}

/* Stream bytes [from, until) of a side. */
static const char *stream_bytes(const struct maker *m, int side, unsigned int from,
				unsigned int until)
{
	static char text[200];
	unsigned int at = m->differs;

	if (from == until)
		return "";
	if (side && m->differs >= 0 && at >= from && at < until)
		snprintf(text, sizeof(text), " data=A[%u:%u]+B[%u:%u]+A[%u:%u]", from, at, at,
			 at + 1, at + 1, until);
	else
		snprintf(text, sizeof(text), " data=A[%u:%u]", from, until);
	return text;
}

static void add_segment(struct maker *m, int side, unsigned int from, unsigned int until,
			uint32_t ack, const char *flags)
{
	uint32_t seq = m->start + from + (side ? m->shift : 0);
	char bytes[200];

	snprintf(bytes, sizeof(bytes), "%s", stream_bytes(m, side, from, until));
	/* The window names a frame of P where no id can. */
	add(&m->side[side], "%c %s seq=%u ack=%u fl=%s win=%u%s%s", side ? 'S' : 'P', m->head,
	    seq, ack, flags, side ? 2000 + below(60000) : 1000 + m->side[0].count,
	    free_fields(m, side), bytes);
}

static void tcp_head(struct maker *m, unsigned int number)
{
	snprintf(m->head, sizeof(m->head), "tcp 10.9.0.10:80>10.9.0.1:%u",
		 1024 + number % 60000);
	m->start = chance(25) ? 0U - between(0, 700) : any();
	m->ack = chance(10) ? 0U - 2 : any();
	m->len = between(1, 900);
	m->differs = chance(20) ? (int)below(m->len) : -1;
}

/* Both cut alike, and say the same acks. */
static void make_same(struct maker *m)
{
	unsigned int from = 0, until;
	uint32_t ack = m->ack;

	while (from < m->len && m->side[0].count < 10) {
		until = between(from + 1, from + 300);
		if (until > m->len)
			until = m->len;
		ack += chance(30) ? below(500) : 0;
		for (int side = 0; side < 2; side++)
			add_segment(m, side, from, until, ack, chance(30) ? "AP" : "A");
		from = until;
	}
}

/* One side's segments: cut at random, some again, some swapped, acks between. */
static void make_side(struct maker *m, int side, bool fin)
{
	unsigned int from = 0, until, before = 0;
	uint32_t ack = m->ack;

	while (from < m->len && m->side[side].count < 14) {
		until = between(from + 1, from + 400);
		if (until > m->len)
			until = m->len;
		ack += chance(25) ? below(100) : 0;
		add_segment(m, side, from, until, ack,
			    fin && until == m->len && chance(50) ? "FA" : "A");
		if (chance(15))
			add_segment(m, side, chance(50) ? before : from,
				    chance(50) ? until : from + 1, ack, "A");
		if (chance(15))
			add_segment(m, side, until, until, ack + (chance(50) ? 10 : 0), "A");
		before = from;
		from = until;
	}
	if (chance(70))
		add_segment(m, side, from, from, m->ack + 1600, "A");
	for (unsigned int i = 2; i < m->side[side].count; i++) {
		if (chance(10))
			swap(&m->side[side], i - 1, i);
	}
	/* The frame that begins the stream begins the sequence. */
}

static void make_flags(struct maker *m)
{
	static const char *const options[] = {
		"mss:1460",
		"mss:1400",
		"mss:1460/ws:7",
		"mss:1460/sackok",
		"mss:1460/nop/nop/ts:1,2",
	};
	unsigned int which = below(5), other = chance(25) ? below(5) : which;

	if (chance(60)) {
		for (int side = 0; side < 2; side++)
			add(&m->side[side], "%c %s seq=%u ack=%u fl=SA opt=%s%s",
			    side ? 'S' : 'P', m->head, m->start - 1, m->ack,
			    options[side ? other : which], free_fields(m, side));
	}
	if (chance(50)) {
		make_same(m);
	} else {
		make_side(m, 0, false);
		make_side(m, 1, false);
	}
	if (chance(25)) {
		/* P and, as a rule, S reset. */
		bool both = chance(70);

		for (int side = 0; side < (both ? 2 : 1); side++)
			add_segment(m, side, m->len, m->len, m->ack, "RA");
		if (!both && chance(70))
			add_segment(m, 1, m->len, m->len + 10, m->ack, "A");
		return;
	}
	for (int side = 0; side < 2; side++) {
		if (chance(85))
			add_segment(m, side, m->len, m->len, m->ack + 1600, "FA");
	}
}

static void make_tcp(struct maker *m, unsigned int number)
{
	tcp_head(m, number);
	switch (m->domain) {
	case DOMAIN_TCP_SAME:
		make_same(m);
		break;
	case DOMAIN_TCP_FLAGS:
		make_flags(m);
		break;
	case DOMAIN_TCP_PLACE:
		m->differs = -1;
		m->shift = m->len + below(100);
		make_same(m);
		break;
	case DOMAIN_TCP_TIMED:
		if (chance(40)) {
			make_same(m);
			break;
		}
		/* fall through */
	default:
		make_side(m, 0, false);
		make_side(m, 1, false);
	}
}

/* Datagrams: contents by number, equal ones now and then. */
static void make_datagrams(struct maker *m, const char *kind, unsigned int number)
{
	unsigned int count = between(1, 7), differs = chance(30) ? below(count) : count;
	bool csum = m->domain == DOMAIN_UDP_CSUM;

	snprintf(m->head, sizeof(m->head), kind, 1024 + number % 60000);
	if (m->domain == DOMAIN_UDP_ORDER || m->domain == DOMAIN_UDP_CSUM)
		differs = count;
	for (unsigned int i = 0; i < count; i++) {
		unsigned int from = chance(15) ? 0 : i * 100, len = between(0, 90);

		for (int side = 0; side < 2; side++)
			add(&m->side[side], "%c %s%s%s data=%c[%u:%u]", side ? 'S' : 'P',
			    m->head, free_fields(m, side),
			    csum && chance(40) ? !side || chance(50) ? " csum=0" : " csum=bad" :
						 "",
			    side && i == differs ? 'B' : 'A', from,
			    from + len + (side && i == differs ? below(2) : 0));
	}
	for (unsigned int i = 1; m->domain == DOMAIN_UDP_ORDER && i < count; i++)
		swap(&m->side[1], i, below(i + 1));
}

/* Each datagram in two or three fragments; S's ids are S's own. */
static void make_fragments(struct maker *m)
{
	unsigned int count = between(1, 4);

	snprintf(m->head, sizeof(m->head), "udp 10.9.0.10:53>10.9.%u.%u:6000", 1 + below(250),
		 1 + below(250));
	for (unsigned int i = 0; i < count; i++) {
		unsigned int parts = between(2, 3);

		for (unsigned int part = 0; part < parts; part++) {
			for (int side = 0; side < 2; side++)
				add(&m->side[side], "%c %s ipid=%u frag=%u%s data=A[%u:%u]",
				    side ? 'S' : 'P', m->head, (side ? 5000 : 100) + i,
				    part * 64 + (part ? 8 : 0), part + 1 < parts ? ",more" : "",
				    i * 500 + part * 64, i * 500 + part * 64 + 64);
		}
	}
}

static void make_other(struct maker *m)
{
	static const unsigned int protocols[] = {132, 47, 50, 99};
	unsigned int count = between(1, 5);

	snprintf(m->head, sizeof(m->head), "ip 10.9.0.10>10.9.%u.%u proto=%u", 1 + below(250),
		 1 + below(250), protocols[below(4)]);
	for (unsigned int i = 0; i < count; i++) {
		for (int side = 0; side < 2; side++)
			add(&m->side[side], "%c %s%s data=A[%u:%u]", side ? 'S' : 'P', m->head,
			    free_fields(m, side), i * 50, i * 50 + 40);
	}
}

static void make_uncompared(struct maker *m, unsigned int number)
{
	static const char *const heads[][2] = {
		{"tcp [fd00::10]:80>[fd00::1]:%u", "udp [fd00::10]:53>[fd00::1]:%u"},
		{"vlan=7 tcp 10.9.0.10:80>10.9.0.1:%u", "vlan=7 udp 10.9.0.10:53>10.9.0.1:%u"},
		{"vlan=9,7 tcp [fd00::10]:80>[fd00::1]:%u",
		 "vlan=9,7 udp [fd00::10]:53>[fd00::1]:%u"},
	};
	unsigned int which = below(3);

	if (chance(40)) {
		make_datagrams(m, heads[which][1], number);
		return;
	}
	tcp_head(m, number);
	snprintf(m->head, sizeof(m->head), heads[which][0], 1024 + number % 60000);
	make_side(m, 0, false);
	make_side(m, 1, false);
}

static void make(struct maker *m, unsigned int number)
{
	switch (m->domain) {
	case DOMAIN_UDP_SAME:
	case DOMAIN_UDP_ORDER:
	case DOMAIN_UDP_CSUM:
		make_datagrams(m, "udp 10.9.0.10:53>10.9.0.1:%u", number);
		break;
	case DOMAIN_ICMP_SAME:
		make_datagrams(m, "icmp 10.9.0.10>10.9.0.1 type=0 code=0 id=%u", number);
		break;
	case DOMAIN_FRAG_SAME:
		make_fragments(m);
		break;
	case DOMAIN_IP_HEADER:
		make_other(m);
		break;
	case DOMAIN_IPV6_TAGS:
		make_uncompared(m, number);
		break;
	default:
		make_tcp(m, number);
	}
}

/*
 * Both sides' frames, merged at random. Where the order within the flow is all
 * that makes QEMU right, P and S take turns.
 */
static void merge(struct maker *m, FILE *to)
{
	bool turns = m->domain == DOMAIN_UDP_SAME || m->domain == DOMAIN_ICMP_SAME ||
		     m->domain == DOMAIN_FRAG_SAME;
	unsigned int at[2] = {0, 0}, all = m->side[0].count + m->side[1].count;
	unsigned int commit = chance(20) ? below(all) : all;
	bool s_first = chance(50);

	for (unsigned int i = 0; at[0] + at[1] < all; i++) {
		int side = chance(50);

		if (turns)
			side = (at[0] + at[1]) % 2 != s_first;
		if (at[side] == m->side[side].count)
			side = !side;
		if (i >= commit && (!turns || at[0] == at[1])) {
			fprintf(to, "commit\n");
			commit = all;
			/* S's new life goes on where P is. */
			if (m->domain == DOMAIN_TCP_SAME ||
			    (m->domain == DOMAIN_TCP_FLAGS && !at[0]))
				at[1] = at[0];
		}
		if (at[side] == m->side[side].count)
			side = !side;
		if (at[side] == m->side[side].count)
			break;
		fprintf(to, "%s\n", m->side[side].text[at[side]++]);
	}
}

char *generate(enum domain domain, unsigned int number)
{
	struct maker m = {.domain = domain, .differs = -1};
	char *text = NULL;
	size_t size = 0;
	FILE *to = open_memstream(&text, &size);

	make(&m, number);
	fprintf(to, "case sequence %u: %s\n", number, domain_names[domain]);
	fprintf(to, "set compare_timeout_ms %u\n", domain == DOMAIN_TCP_TIMED ? 60 : 60000);
	fprintf(to, "set reorder_ms %u\n", domain == DOMAIN_UDP_ORDER ? 60000 : 1);
	merge(&m, to);
	fprintf(to, domain == DOMAIN_TCP_TIMED ? "wait 130\n" : "commit\n");
	fclose(to);
	for (int side = 0; side < 2; side++) {
		for (unsigned int i = 0; i < m.side[side].count; i++)
			free(m.side[side].text[i]);
	}
	return text;
}
