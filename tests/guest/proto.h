/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the test guest's server (guestd.c) and the client tools agree on.
 *
 * One fixed 64-byte message serves every service. Its checksum covers all
 * that precedes it, and its number tells a lost, doubled or reordered answer
 * from the right one. All fields are little endian, as both ends are x86.
 */
#ifndef COLO_TEST_PROTO_H
#define COLO_TEST_PROTO_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
	PORT_HTTP = 80,
	PORT_RR = 7000,     /* message -> message and (size - 64) bytes */
	PORT_DOWN = 7001,   /* message {size} -> size bytes, message */
	PORT_UP = 7002,     /* message {size}, size bytes -> message */
	PORT_RANDOM = 7003, /* as PORT_RR, the answer's fill is random */
	PORT_APPEND = 7004, /* message -> on the disk, synced -> message */
	PORT_UDP = 7005,    /* datagram message -> datagram message */
	PORT_WORK = 7006,   /* message {size} -> size rounds of work, message {its sum} */
	PORT_CODE = 7007,   /* message {number} -> code is written and run, message {its sum} */
	PORT_COUNT = 7008,  /* as PORT_UDP, the answer says what came so far: struct count */
};

/*
 * What a guest has received of one sequence of datagrams. Its answer to a
 * datagram has these as size and data_sum: a guest that has lost one, got one
 * twice or in another place answers otherwise from there on.
 */
#define COUNT_STREAMS 64 /* the request's size says which */

struct count {
	uint64_t received;
	uint64_t sum; /* of their numbers, in their order */
};

#define MSG_MAGIC      0x434f4c4fu /* "OLOC" on the wire */
#define MSG_MAX_ANSWER (64 * 1024)

struct msg {
	uint32_t magic;
	uint32_t reserved;
	uint64_t number;   /* of the request; the answer repeats it */
	uint64_t size;     /* bytes asked for, or that the peer counted */
	uint64_t data_sum; /* of the bytes beside the message */
	uint8_t fill[24];
	uint64_t sum; /* of the 56 bytes above */
};

_Static_assert(sizeof(struct msg) == 64, "the message is 64 bytes");

/*
 * A running checksum over words of 8 bytes. It must not depend on how the
 * stream was cut into reads, so the bytes of an unfinished word are kept.
 */
struct sum {
	uint64_t hash;
	uint64_t bytes;
	uint8_t part[8];
};

static inline void sum_word(struct sum *s, const uint8_t *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof(word));
	s->hash = (s->hash ^ word) * 0x9e3779b97f4a7c15ull;
	s->hash ^= s->hash >> 29;
}

static inline void sum_add(struct sum *s, const void *data, size_t len)
{
	const uint8_t *at = data;
	size_t part = s->bytes % 8;

	s->bytes += len;
	if (part) {
		size_t take = len < 8 - part ? len : 8 - part;

		memcpy(s->part + part, at, take);
		if (part + take < 8)
			return;
		sum_word(s, s->part);
		at += take;
		len -= take;
	}
	for (; len >= 8; at += 8, len -= 8)
		sum_word(s, at);
	memcpy(s->part, at, len);
}

static inline uint64_t sum_end(const struct sum *s)
{
	struct sum end = *s;
	size_t part = s->bytes % 8;

	if (part) {
		memset(end.part + part, 0, 8 - part);
		sum_word(&end, end.part);
	}
	return end.hash ^ s->bytes;
}

static inline uint64_t sum_of(const void *data, size_t len)
{
	struct sum s = {0};

	sum_add(&s, data, len);
	return sum_end(&s);
}

static inline void msg_seal(struct msg *m)
{
	m->magic = MSG_MAGIC;
	m->sum = sum_of(m, offsetof(struct msg, sum));
}

static inline int msg_ok(const struct msg *m)
{
	return m->magic == MSG_MAGIC && m->sum == sum_of(m, offsetof(struct msg, sum));
}

static inline void count_add(struct count *c, uint64_t number)
{
	uint64_t words[2] = {c->sum, number};

	c->received++;
	c->sum = sum_of(words, sizeof(words));
}

/*
 * PORT_CODE: request n writes code into page n % CODE_PAGES that gives n, and
 * runs all pages. A page that no request has written gives 0.
 */
#define CODE_PAGES 64

static inline uint64_t code_sum(uint64_t first, uint64_t number)
{
	uint64_t sum = 0;

	for (uint64_t n = number; n + CODE_PAGES > number && n >= first; n--)
		sum += (uint32_t)n;
	return sum;
}

/* Work for a processor that leaves memory alone. */
static inline uint64_t work(uint64_t rounds)
{
	uint64_t x = 0x853c49e6748fea9bull;

	while (rounds--) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
	}
	return x;
}

/*
 * The pattern of bulk data: byte n of a stream is pattern[n % PATTERN_PERIOD].
 * The period is a prime, so that bytes that are moved by any frame or buffer
 * size show, and it is doubled in memory so that a run needs no wrapping.
 */
#define PATTERN_PERIOD 65521u

static inline void pattern_fill(uint8_t *pattern)
{
	uint64_t x = 0x853c49e6748fea9bull;

	for (size_t i = 0; i < PATTERN_PERIOD; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		pattern[i] = x >> 24;
	}
	memcpy(pattern + PATTERN_PERIOD, pattern, PATTERN_PERIOD);
}

#endif
