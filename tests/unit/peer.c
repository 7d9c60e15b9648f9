// SPDX-License-Identifier: GPL-2.0-only
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "peer.h"

#define MS 1000000ULL

static const struct secret secret = {{1, 2, 3}};

static const struct heartbeat example = {
	.role = COLO_ROLE_SECONDARY,
	.state = SESSION_TAKING,
	.flags = HEARTBEAT_QEMU_GONE | HEARTBEAT_PROMISE,
	.epoch = 0x123456789abcdef0ULL,
	.session = "sixteen bytes...",
	.nonce = 0xfedcba9876543210ULL,
	.sent_ns = 42,
	.echo_nonce = 0x1122334455667788ULL,
	.echo_ns = 0x8877665544332211ULL,
	.name = "pair-7",
};

static void encode(unsigned char bytes[HEARTBEAT_BYTES])
{
	heartbeat_encode(&example, &secret, bytes);
}

static void round_trip(void **state)
{
	unsigned char bytes[HEARTBEAT_BYTES];
	struct heartbeat got;

	(void)state;
	encode(bytes);
	assert_memory_equal(bytes, "COLO", 4);
	assert_int_equal(heartbeat_decode(&got, &secret, bytes, sizeof(bytes)), 0);
	assert_int_equal(got.role, example.role);
	assert_int_equal(got.state, example.state);
	assert_int_equal(got.flags, example.flags);
	assert_true(got.epoch == example.epoch);
	assert_memory_equal(got.session, example.session, SESSION_ID_BYTES);
	assert_true(got.nonce == example.nonce);
	assert_true(got.sent_ns == example.sent_ns);
	assert_true(got.echo_nonce == example.echo_nonce);
	assert_true(got.echo_ns == example.echo_ns);
	assert_string_equal(got.name, example.name);
}

static void truncated(void **state)
{
	unsigned char bytes[HEARTBEAT_BYTES];
	struct heartbeat got;

	(void)state;
	encode(bytes);
	for (size_t length = 0; length < HEARTBEAT_BYTES; length++)
		assert_int_equal(heartbeat_decode(&got, &secret, bytes, length), -EMSGSIZE);
}

/* One bit is wrong, wherever: it is no message. */
static void damaged(void **state)
{
	unsigned char bytes[HEARTBEAT_BYTES];
	struct heartbeat got;

	(void)state;
	for (int bit = 0; bit < HEARTBEAT_BYTES * 8; bit++) {
		int wanted = bit < 32 ? -EBADMSG : bit < 48 ? -EPROTO : -EACCES;

		encode(bytes);
		bytes[bit / 8] ^= 1 << (bit % 8);
		assert_int_equal(heartbeat_decode(&got, &secret, bytes, sizeof(bytes)), wanted);
	}
}

/* Made by who knows the secret, but of no state or role that there is. */
static void nonsense(void **state)
{
	unsigned char bytes[HEARTBEAT_BYTES];
	struct heartbeat beat, got;

	(void)state;
	for (int i = 0; i < 3; i++) {
		beat = example;
		if (i == 0)
			beat.role = COLO_ROLE_NONE;
		else if (i == 1)
			beat.role = 9;
		else
			beat.state = SESSION_STATES;
		heartbeat_encode(&beat, &secret, bytes);
		assert_int_equal(heartbeat_decode(&got, &secret, bytes, sizeof(bytes)),
				 -EBADMSG);
	}
}

/* What this host has sent itself is not taken for the peer's. */
static void reflected(void **state)
{
	unsigned char bytes[HEARTBEAT_BYTES];
	struct secret ours, theirs;
	struct heartbeat got;

	(void)state;
	heartbeat_key(&ours, &secret, "primary");
	heartbeat_key(&theirs, &secret, "secondary");
	heartbeat_encode(&example, &ours, bytes);
	assert_int_equal(heartbeat_decode(&got, &theirs, bytes, sizeof(bytes)), -EACCES);
}

static void name_always_ends(void **state)
{
	unsigned char bytes[HEARTBEAT_BYTES];
	struct heartbeat beat = example, got;

	(void)state;
	memset(beat.name, 'x', sizeof(beat.name));
	heartbeat_encode(&beat, &secret, bytes);
	assert_int_equal(heartbeat_decode(&got, &secret, bytes, sizeof(bytes)), 0);
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
	const __u64 t = 1000000 * MS; /* the last over the link */
	const struct {
		bool known, leaving;
		__u64 other_ns, refused_ns, now_ns;
		enum peer_health health;
	} rows[] = {
		{false, false, 0, 0, t + 900 * MS, PEER_UNKNOWN},
		{false, false, 0, t, t + 900 * MS, PEER_UNKNOWN},
		{true, false, 0, 0, t, PEER_ALIVE},
		{true, false, 0, 0, t + 200 * MS, PEER_ALIVE},
		{true, false, 0, 0, t + 201 * MS, PEER_LOST},
		{true, false, 0, t + 60 * MS, t + 201 * MS, PEER_DOWN},
		{true, false, 0, t + 60 * MS, t + 260 * MS, PEER_DOWN},
		{true, false, 0, t + 60 * MS, t + 261 * MS, PEER_LOST},
		{true, true, 0, 0, t + 10 * MS, PEER_DOWN},
		{true, true, 0, 0, t + 201 * MS, PEER_LOST},
		{true, false, t + 100 * MS, 0, t + 200 * MS, PEER_ALIVE},
		{true, false, t + 100 * MS, 0, t + 201 * MS, PEER_LINK_DOWN},
		{true, false, t + 100 * MS, t + 101 * MS, t + 300 * MS, PEER_LINK_DOWN},
		{true, false, t + 100 * MS, 0, t + 301 * MS, PEER_LOST},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct peer peer = {
			.lost_ns = 200 * MS,
			.refused_ns = rows[i].refused_ns,
			.known = rows[i].known,
			.last.flags = rows[i].leaving ? HEARTBEAT_LEAVING : 0,
			.paths = 2,
			.path[0].heard_ns = t,
			.path[1].heard_ns = rows[i].other_ns,
		};

		assert_int_equal(peer_judge(&peer, rows[i].now_ns), rows[i].health);
	}
}

/* ------------------------------------------------- two, over loopback --- */

static struct config config[2];
static struct peer peer[2];
static int news[2];
static __u64 now;

static void on_news(void *context)
{
	++*(int *)context;
}

static void open_peer(int i)
{
	assert_int_equal(peer_open(&peer[i], &config[i], now), 0);
	news[i] = 0;
}

static int set_up(void **state)
{
	static const char *const addresses[2] = {"127.0.1.1", "127.0.1.2"};
	static const char *const others[2] = {"127.0.2.1", "127.0.2.2"};

	(void)state;
	now = 5000 * MS;
	for (int i = 0; i < 2; i++) {
		struct config *c = &config[i];

		memset(c, 0, sizeof(*c));
		c->role = i ? COLO_ROLE_SECONDARY : COLO_ROLE_PRIMARY;
		c->secret = secret;
		c->peer_port = 17730 + getpid() % 10000;
		c->peer_timeout_ms = 200;
		for (int j = 0; j < 2; j++)
			c->host[j] = (struct config_host){
				.name = j ? "secondary" : "primary",
				.address = addresses[j],
				.path = {others[j]},
				.paths = 1,
				.link = "lo",
			};
	}
	for (int i = 0; i < 2; i++)
		open_peer(i);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	peer_close(&peer[0]);
	peer_close(&peer[1]);
	return 0;
}

static void say(int i, enum session_state what)
{
	struct heartbeat beat = {.role = config[i].role, .state = what};

	now += MS;
	peer_send(&peer[i], &beat, now);
}

static void hear(int i)
{
	now += MS;
	peer_receive(&peer[i], now, on_news, &news[i]);
}

/* Until each counts the other's. */
static void meet(void)
{
	say(0, SESSION_COLO);
	say(1, SESSION_COLO);
	hear(1); /* answers a stranger */
	hear(0); /* and that counts */
	say(0, SESSION_COLO);
	hear(1);
	assert_int_equal(peer_judge(&peer[0], now), PEER_ALIVE);
	assert_int_equal(peer_judge(&peer[1], now), PEER_ALIVE);
	hear(0);
	news[0] = news[1] = 0;
}

static void first_words(void **state)
{
	(void)state;
	say(0, SESSION_COLO);
	assert_int_equal(peer_judge(&peer[0], now), PEER_UNKNOWN);
	/* Nothing to answer with as yet. */
	hear(1);
	hear(0);
	assert_int_equal(news[0] + news[1], 0);
	meet();
	assert_int_equal(peer[0].last.state, SESSION_COLO);
	assert_int_equal(peer[0].last.role, COLO_ROLE_SECONDARY);
}

/* Two paths: each message is news once, and both are heard. */
static void paths(void **state)
{
	int fd;

	(void)state;
	meet();
	say(1, SESSION_TAKING);
	hear(0);
	assert_int_equal(news[0], 1);
	assert_int_equal(peer[0].last.state, SESSION_TAKING);
	assert_true(peer[0].path[0].heard_ns == now && peer[0].path[1].heard_ns == now);
	/* The link is cut: what comes over the other is as good. */
	fd = peer[1].path[0].fd;
	peer[1].path[0].fd = -1;
	for (int i = 0; i < 30; i++) {
		now += 10 * MS;
		say(1, SESSION_EXITED);
		hear(0);
	}
	peer[1].path[0].fd = fd;
	assert_int_equal(news[0], 31);
	assert_int_equal(peer[0].last.state, SESSION_EXITED);
	assert_int_equal(peer_judge(&peer[0], now), PEER_LINK_DOWN);
	say(1, SESSION_COLO);
	hear(0);
	assert_int_equal(peer_judge(&peer[0], now), PEER_ALIVE);
}

/* When it was sent that the other has echoed; and what that has promised. */
static void echoes(void **state)
{
	struct heartbeat promise = {.role = COLO_ROLE_SECONDARY, .flags = HEARTBEAT_PROMISE};
	__u64 sent, came;

	(void)state;
	meet();
	say(0, SESSION_COLO);
	sent = now;
	hear(1);
	came = now;
	say(0, SESSION_COLO); /* not heard when the promise is made */
	now += MS;
	peer_send(&peer[1], &promise, now);
	assert_true(peer[1].promise_ns == came);
	hear(0);
	assert_true(peer[0].echoed_ns == sent);
	assert_int_equal(peer[0].last.flags, HEARTBEAT_PROMISE);
	hear(1);
	say(1, SESSION_COLO);
	assert_true(peer[1].promise_ns == came);
}

/* A daemon that has just started is known at its second message. */
static void restart(void **state)
{
	(void)state;
	meet();
	peer_close(&peer[1]);
	open_peer(1);
	now += 10 * MS;
	say(1, SESSION_IDLE);
	hear(0);
	assert_int_equal(news[0], 0);
	hear(1); /* the answers, one a path */
	assert_int_equal(news[1], 2);
	say(1, SESSION_IDLE);
	hear(0);
	assert_int_equal(news[0], 1);
	assert_int_equal(peer[0].last.state, SESSION_IDLE);
}

/* A socket that is not the peer's, on a path of its own: who sends is not looked at. */
static int stranger_socket(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(config[0].peer_port)};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	inet_pton(AF_INET, "127.0.2.1", &to.sin_addr);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

/* What the peer would send now, without sending it. */
static void record(struct heartbeat *beat, enum session_state what)
{
	now += MS;
	peer[1].sent_ns = now;
	*beat = (struct heartbeat){
		.role = COLO_ROLE_SECONDARY,
		.state = what,
		.nonce = peer[1].nonce,
		.sent_ns = now,
		.echo_nonce = peer[1].last.nonce,
		.echo_ns = peer[1].last.sent_ns,
	};
}

static void replay(int fd, const struct heartbeat *beat, int count)
{
	unsigned char bytes[HEARTBEAT_BYTES];

	heartbeat_encode(beat, &peer[0].key_in, bytes);
	assert_int_equal(send(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
	hear(0);
	assert_int_equal(news[0], count);
}

static void replayed(void **state)
{
	int fd = stranger_socket();
	struct heartbeat fresh, old, gone;

	(void)state;
	meet();
	/* One that is new counts, wherever it comes from: but once. */
	record(&fresh, SESSION_TAKING);
	replay(fd, &fresh, 1);
	replay(fd, &fresh, 1);
	/* One that was lost, and is older than what has come since. */
	record(&old, SESSION_LOST);
	now += 500 * MS;
	say(1, SESSION_COLO);
	hear(0);
	peer[0].path[1].sent_ns = 0;
	replay(fd, &old, 2);
	assert_int_equal(peer[0].last.state, SESSION_COLO);
	/* One of a daemon that is gone. */
	record(&gone, SESSION_ALONE);
	peer_close(&peer[1]);
	open_peer(1);
	now += 10 * MS;
	say(1, SESSION_IDLE);
	hear(0);
	hear(1);
	say(1, SESSION_IDLE);
	hear(0);
	assert_int_equal(news[0], 3);
	replay(fd, &gone, 3);
	assert_int_equal(peer[0].last.state, SESSION_IDLE);
	/* And all of them to a new daemon here: it has sent nothing like what they echo. */
	peer_close(&peer[0]);
	open_peer(0);
	say(0, SESSION_COLO);
	replay(fd, &fresh, 0);
	replay(fd, &gone, 0);
	assert_int_equal(peer_judge(&peer[0], now), PEER_UNKNOWN);
	close(fd);
}

/* Junk and other versions change nothing, and are told once. */
static void foreign(void **state)
{
	unsigned char bytes[HEARTBEAT_BYTES];
	int fd = stranger_socket();
	char said[1024];

	(void)state;
	meet();
	encode(bytes);
	unit_capture_begin();
	for (int i = 0; i < 3; i++) {
		assert_int_equal(send(fd, "junk", 4, 0), 4);
		assert_int_equal(send(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
		hear(0);
	}
	unit_capture_end(said, sizeof(said));
	assert_string_equal(
		said,
		"colo-bpf: warning: peer: datagrams that are no heartbeats come to its port\n");
	peer[0].warned = false;
	unit_capture_begin();
	assert_int_equal(send(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
	hear(0);
	unit_capture_end(said, sizeof(said));
	assert_non_null(strstr(said, "made with another secret"));
	assert_int_equal(news[0], 0);
	close(fd);
}

#define PAIR(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(round_trip),
	cmocka_unit_test(truncated),
	cmocka_unit_test(damaged),
	cmocka_unit_test(nonsense),
	cmocka_unit_test(reflected),
	cmocka_unit_test(name_always_ends),
	cmocka_unit_test(addresses),
	cmocka_unit_test(judged),
	PAIR(first_words),
	PAIR(paths),
	PAIR(echoes),
	PAIR(restart),
	PAIR(replayed),
	PAIR(foreign),
};

UNIT_RUN(peer, tests)
