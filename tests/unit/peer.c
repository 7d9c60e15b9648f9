// SPDX-License-Identifier: GPL-2.0-only
#include "unit.h"

#include <errno.h>
#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "peer.h"

#define MS 1000000ULL

static const struct peer_message example = {
	.role = COLO_ROLE_SECONDARY,
	.state = SESSION_TAKING,
	.flags = PEER_QEMU_GONE,
	.epoch = 0x123456789abcdef0ULL,
	.sequence = 42,
	.name = "pair-7",
};

static void round_trip(void **state)
{
	unsigned char bytes[PEER_BYTES];
	struct peer_message got;

	(void)state;
	peer_encode(&example, bytes);
	assert_memory_equal(bytes, "COLO", 4);
	assert_int_equal(peer_decode(&got, bytes, sizeof(bytes)), 0);
	assert_int_equal(got.role, example.role);
	assert_int_equal(got.state, example.state);
	assert_int_equal(got.flags, example.flags);
	assert_true(got.epoch == example.epoch);
	assert_true(got.sequence == example.sequence);
	assert_string_equal(got.name, example.name);
}

static void longer_is_accepted(void **state)
{
	unsigned char bytes[PEER_BYTES + 40] = {};
	struct peer_message got;

	(void)state;
	peer_encode(&example, bytes);
	assert_int_equal(peer_decode(&got, bytes, sizeof(bytes)), 0);
}

static void truncated(void **state)
{
	unsigned char bytes[PEER_BYTES];
	struct peer_message got;

	(void)state;
	peer_encode(&example, bytes);
	for (size_t length = 0; length < PEER_BYTES; length++)
		assert_int_equal(peer_decode(&got, bytes, length), -EMSGSIZE);
}

/* One byte is wrong: what comes of it. */
static void damaged(void **state)
{
	static const struct {
		int at;
		unsigned char value;
		int err;
	} rows[] = {
		{0, 'X', -EBADMSG},                  /* magic */
		{3, 'o', -EBADMSG}, {5, 2, -EPROTO}, /* version */
		{6, 0, -EBADMSG},                    /* role */
		{6, 9, -EBADMSG},   {7, SESSION_STATES, -EBADMSG},
		{7, 255, -EBADMSG},
	};
	unsigned char bytes[PEER_BYTES];
	struct peer_message got;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		peer_encode(&example, bytes);
		bytes[rows[i].at] = rows[i].value;
		assert_int_equal(peer_decode(&got, bytes, sizeof(bytes)), rows[i].err);
	}
}

static void name_always_ends(void **state)
{
	unsigned char bytes[PEER_BYTES];
	struct peer_message got;

	(void)state;
	peer_encode(&example, bytes);
	memset(bytes + 32, 'x', 32);
	assert_int_equal(peer_decode(&got, bytes, sizeof(bytes)), 0);
	assert_int_equal(strlen(got.name), 31);
}

static void addresses(void **state)
{
	static const struct {
		const char *text;
		int family; /* 0: refused */
		int port;
	} rows[] = {
		{"10.0.0.1", AF_INET, PEER_PORT},
		{"10.0.0.1:99", AF_INET, 99},
		{"fe80::1", AF_INET6, PEER_PORT},
		{"[fe80::1]", AF_INET6, PEER_PORT},
		{"[fe80::1]:65535", AF_INET6, 65535},
		{"", 0, 0},
		{"host.example", 0, 0},
		{"10.0.0.1:", 0, 0},
		{"10.0.0.1:0", 0, 0},
		{"10.0.0.1:65536", 0, 0},
		{"10.0.0.1:12x", 0, 0},
		{"10.0.0.1:-1", 0, 0},
		{"10.0.0.256", 0, 0},
		{"[fe80::1", 0, 0},
		{"[fe80::1]7730", 0, 0},
	};
	struct sockaddr_storage address;
	socklen_t length;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		int err = peer_parse_address(rows[i].text, &address, &length);

		assert_int_equal(err, rows[i].family ? 0 : -EINVAL);
		if (err)
			continue;
		assert_int_equal(address.ss_family, rows[i].family);
		/* sin_port and sin6_port are at the same place. */
		assert_int_equal(ntohs(((struct sockaddr_in *)&address)->sin_port),
				 rows[i].port);
	}
}

static void judged(void **state)
{
	const __u64 t = 1000000 * MS; /* the last message */
	const struct {
		__u64 sequence, refused_ns, now_ns;
		bool leaving;
		enum peer_health health;
	} rows[] = {
		{0, 0, t + 900 * MS, false, PEER_UNKNOWN},
		{0, t, t + 900 * MS, false, PEER_UNKNOWN},
		{1, 0, t, false, PEER_ALIVE},
		{1, 0, t + 200 * MS, false, PEER_ALIVE},
		{1, 0, t + 201 * MS, false, PEER_LOST},
		{1, t + 60 * MS, t + 201 * MS, false, PEER_DOWN},
		{1, t + 60 * MS, t + 260 * MS, false, PEER_DOWN},
		{1, t + 60 * MS, t + 261 * MS, false, PEER_LOST},
		{1, 0, t + 10 * MS, true, PEER_DOWN},
		{1, 0, t + 201 * MS, true, PEER_LOST},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct peer peer = {
			.lost_ns = 200 * MS,
			.heard_ns = t,
			.refused_ns = rows[i].refused_ns,
			.leaving = rows[i].leaving,
			.last.sequence = rows[i].sequence,
		};

		assert_int_equal(peer_judge(&peer, rows[i].now_ns), rows[i].health);
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(round_trip),       cmocka_unit_test(longer_is_accepted),
	cmocka_unit_test(truncated),        cmocka_unit_test(damaged),
	cmocka_unit_test(name_always_ends), cmocka_unit_test(addresses),
	cmocka_unit_test(judged),
};

UNIT_RUN(peer, tests)
