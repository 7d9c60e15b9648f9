// SPDX-License-Identifier: GPL-2.0-only
/* Both ends of the channel in one process, and strangers on plain sockets. */
#include "unit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "channel.h"

#define MS 1000000ULL

/* What the methods get: one end. */
struct daemon {
	struct channel *channel;
	int ups, downs;
	struct channel_request *kept;
	int heard;
};

static struct loop *loop;
static struct daemon p, s;
static char said[16384]; /* what was logged, of messages() */
static __u32 port;
static struct secret secret;

static void run_for(__u64 ns)
{
	__u64 end = unit_now() + ns;

	while (unit_now() < end)
		assert_int_equal(loop_once(loop, end), 0);
}

static void changed(struct daemon *d, bool up)
{
	if (up)
		d->ups++;
	else
		d->downs++;
}

static void echo(struct daemon *d, json_t *arguments, struct channel_request *request)
{
	d->heard++;
	channel_reply(request, json_incref(json_object_get(arguments, "text")));
}

static void refuse(struct daemon *d, json_t *arguments, struct channel_request *request)
{
	(void)d;
	(void)arguments;
	channel_refuse(request, "not %s", "today");
}

static void keep(struct daemon *d, json_t *arguments, struct channel_request *request)
{
	(void)arguments;
	d->kept = request;
}

static const struct channel_method methods[] = {
	{"echo", echo},
	{"refuse", refuse},
	{"keep", keep},
	{},
};

/* A port that nobody listens on. */
static __u32 free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	close(fd);
	return ntohs(address.sin_port);
}

static void open_end(struct daemon *d, bool primary, const struct secret *key)
{
	struct channel_options options = {
		.loop = loop,
		.daemon = d,
		.secret = *key,
		.self = primary ? "primary" : "secondary",
		.peer = primary ? "secondary" : "primary",
		.address = primary ? "127.0.0.1" : "127.0.0.2",
		.peer_address = primary ? "127.0.0.2" : "127.0.0.1",
		.port = port,
		.connects = primary,
		.changed = changed,
	};

	memset(d, 0, sizeof(*d));
	d->channel = channel_open(&options);
	assert_non_null(d->channel);
	assert_int_equal(channel_methods(d->channel, methods), 0);
}

static void open_both(void)
{
	open_end(&s, false, &secret);
	open_end(&p, true, &secret);
	run_until(channel_is_up(p.channel) && channel_is_up(s.channel));
}

static int set_up(void **state)
{
	(void)state;
	unit_capture_begin();
	loop = loop_new();
	port = free_port();
	memset(&secret, 7, sizeof(secret));
	memset(&p, 0, sizeof(p));
	memset(&s, 0, sizeof(s));
	return !loop;
}

static int tear_down(void **state)
{
	(void)state;
	channel_close(p.channel);
	channel_close(s.channel);
	loop_free(loop);
	unit_capture_end(said, sizeof(said));
	return 0;
}

/* How often a text was logged since the test began; that much is forgotten. */
static int messages(const char *text)
{
	int count = 0;

	unit_capture_end(said, sizeof(said));
	unit_capture_begin();
	for (const char *at = said; (at = strstr(at, text)); at++)
		count++;
	return count;
}

/* --------------------------------------------------------------- calls --- */

struct answer {
	int count;
	json_t *value;
	char error[256];
};

static void on_answer(void *context, json_t *value, const char *error)
{
	struct answer *answer = context;

	answer->count++;
	answer->value = json_incref(value);
	snprintf(answer->error, sizeof(answer->error), "%s", error ? error : "");
}

static void both_call(void **state)
{
	struct answer a = {}, b = {};

	(void)state;
	open_both();
	assert_int_equal(p.ups, 1);
	assert_int_equal(s.ups, 1);
	assert_int_equal(channel_call(p.channel, "echo", json_pack("{s:s}", "text", "a\n\"b"),
				      1000, on_answer, &a),
			 0);
	assert_int_equal(channel_call(s.channel, "echo", json_pack("{s:[i,n]}", "text", 5),
				      1000, on_answer, &b),
			 0);
	assert_int_equal(a.count + b.count, 0);
	run_until(a.count && b.count);
	assert_string_equal(json_string_value(a.value), "a\n\"b");
	assert_int_equal(json_array_size(b.value), 2);
	json_decref(a.value);
	json_decref(b.value);
}

static void refusals(void **state)
{
	struct answer a = {}, b = {};

	(void)state;
	open_both();
	channel_call(p.channel, "refuse", NULL, 1000, on_answer, &a);
	channel_call(p.channel, "fly", NULL, 1000, on_answer, &b);
	run_until(a.count && b.count);
	assert_null(a.value);
	assert_string_equal(a.error, "not today");
	assert_non_null(strstr(b.error, "fly: no such method"));
}

/* The answer of one comes when that of another is long there, or too late. */
static void later(void **state)
{
	struct answer a = {}, b = {}, c = {};

	(void)state;
	open_both();
	channel_call(p.channel, "keep", NULL, 3000, on_answer, &a);
	channel_call(p.channel, "echo", json_pack("{s:i}", "text", 1), 1000, on_answer, &b);
	run_until(b.count && s.kept);
	assert_int_equal(a.count, 0);
	channel_reply(s.kept, NULL);
	run_until(a.count);
	assert_true(json_is_null(a.value));
	json_decref(b.value);
	channel_call(p.channel, "keep", NULL, 20, on_answer, &c);
	run_until(c.count);
	assert_string_equal(c.error, "keep: the peer has not answered in time");
	channel_reply(s.kept, json_true());
	run_for(50 * MS);
	assert_int_equal(c.count, 1);
}

static void long_lines(void **state)
{
	size_t length = 5 << 20;
	char *text = malloc(length + 1);
	struct answer a = {};

	(void)state;
	memset(text, 'x', length);
	text[length] = 0;
	open_both();
	channel_call(p.channel, "echo", json_pack("{s:s}", "text", text), 5000, on_answer, &a);
	run_until(a.count);
	assert_int_equal(json_string_length(a.value), length);
	json_decref(a.value);
	free(text);
}

/* The peer ends: its calls fail, and it comes back. */
static void comes_back(void **state)
{
	struct channel_request *kept;
	struct answer a = {}, b = {};

	(void)state;
	open_both();
	channel_call(p.channel, "keep", NULL, 5000, on_answer, &a);
	run_until(s.kept);
	kept = s.kept;
	channel_close(s.channel);
	s.channel = NULL;
	run_until(a.count);
	assert_string_equal(a.error, CHANNEL_LOST);
	assert_int_equal(p.downs, 1);
	assert_int_equal(channel_call(p.channel, "echo", NULL, 1000, on_answer, &b), -ENOTCONN);
	/* Nobody is there any more to get it. */
	channel_reply(kept, json_true());
	open_end(&s, false, &secret);
	run_until(p.ups == 2 && s.ups == 1);
	channel_call(p.channel, "echo", json_pack("{s:i}", "text", 1), 1000, on_answer, &b);
	run_until(b.count);
	assert_int_equal(json_integer_value(b.value), 1);
}

static void wrong_secret(void **state)
{
	struct secret other = secret;

	(void)state;
	other.key[31] ^= 1;
	open_end(&s, false, &secret);
	open_end(&p, true, &other);
	/* Three tries at least; each side says it once. */
	run_for(350 * MS);
	assert_int_equal(p.ups + s.ups, 0);
	assert_false(channel_is_up(p.channel) || channel_is_up(s.channel));
	assert_int_equal(messages("the peer does not know the secret"), 2);
	/* The right one gets through after it. */
	channel_close(p.channel);
	open_end(&p, true, &secret);
	run_until(p.ups && s.ups);
}

static void same_host(void **state)
{
	(void)state;
	open_end(&s, false, &secret);
	open_end(&p, true, &secret);
	channel_close(p.channel);
	p.channel = channel_open(&(struct channel_options){
		.loop = loop,
		.daemon = &p,
		.secret = secret,
		.self = "secondary",
		.peer = "primary",
		.address = "127.0.0.1",
		.peer_address = "127.0.0.2",
		.port = port,
		.connects = true,
		.changed = changed,
	});
	run_for(350 * MS);
	assert_int_equal(p.ups + s.ups, 0);
	assert_int_equal(messages("and so is this one: `role` must differ"), 2);
}

/* ----------------------------------------------------------- strangers --- */

/* A peer by hand: it connects to s as the primary would. */
struct stranger {
	int fd;
	char in[65536];
	size_t length;
	struct secret key; /* to send with */
	__u64 count;
};

static void hex(char *to, const unsigned char *from, size_t length)
{
	for (size_t i = 0; i < length; i++)
		snprintf(to + 2 * i, 3, "%02x", from[i]);
}

static void stranger_open(struct stranger *x)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

	memset(x, 0, sizeof(*x));
	inet_pton(AF_INET, "127.0.0.2", &address.sin_addr);
	x->fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(x->fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

static void stranger_say(struct stranger *x, const char *text)
{
	assert_int_equal(send(x->fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Has s closed it? What it says is kept. */
static bool stranger_closed(struct stranger *x)
{
	ssize_t n;

	loop_once(loop, unit_now() + MS);
	while ((n = recv(x->fd, x->in + x->length, sizeof(x->in) - x->length - 1,
			 MSG_DONTWAIT)) > 0)
		x->length += n;
	x->in[x->length] = 0;
	return !n || (n < 0 && errno != EAGAIN);
}

static int stranger_lines(struct stranger *x)
{
	int lines = 0;

	stranger_closed(x);
	for (const char *at = x->in; (at = strchr(at, '\n')); at++)
		lines++;
	return lines;
}

/* A line with the code for this number. */
static void stranger_line(struct stranger *x, char *line, size_t size, __u64 count,
			  const char *json)
{
	unsigned char all[1024], mac[SECRET_MAC_BYTES];
	char code[2 * SECRET_MAC_BYTES + 1];

	for (int i = 0; i < 8; i++)
		all[i] = count >> (56 - 8 * i);
	snprintf((char *)all + 8, sizeof(all) - 8, "%s", json);
	secret_mac(mac, &x->key, all, 8 + strlen(json));
	hex(code, mac, sizeof(mac));
	snprintf(line, size, "%s %s\n", code, json);
}

static void stranger_send(struct stranger *x, const char *json)
{
	char line[2048];

	stranger_line(x, line, sizeof(line), x->count++, json);
	stranger_say(x, line);
}

/* Hello and proof, with the right secret. */
static void stranger_join(struct stranger *x)
{
	unsigned char label[128] = "colo-bpf channel 1 primary";
	char hello[256], nonce[65];
	json_t *theirs;

	stranger_open(x);
	memset(label + 64, 3, 32);
	hex(nonce, label + 64, 32);
	snprintf(hello, sizeof(hello),
		 "{\"colo-bpf-channel\": 1, \"host\": \"primary\", \"nonce\": \"%s\"}\n",
		 nonce);
	stranger_say(x, hello);
	run_until(stranger_lines(x) == 2);
	theirs = json_loads(x->in, JSON_DISABLE_EOF_CHECK, NULL);
	assert_non_null(theirs);
	for (int i = 0; i < 32; i++)
		sscanf(json_string_value(json_object_get(theirs, "nonce")) + 2 * i, "%2hhx",
		       &label[96 + i]);
	json_decref(theirs);
	secret_derive(&x->key, &secret, label, sizeof(label));
	stranger_send(x, "{\"proof\":\"primary\"}");
	run_until(channel_is_up(s.channel));
}

static void stranger_close(struct stranger *x)
{
	close(x->fd);
}

/* What is said first, and s hangs up. */
static void junk(void **state)
{
	static const char *const rows[] = {
		"GET / HTTP/1.1\r\n",
		"\n",
		"{}\n",
		"[1]\n",
		"{\"colo-bpf-channel\": \"1\"}\n",
		"{\"colo-bpf-channel\": 2, \"host\": \"primary\", \"nonce\": \"00\"}\n",
		"{\"colo-bpf-channel\": 1, \"host\": \"primary\", \"nonce\": \"00\"}\n",
		"{\"colo-bpf-channel\": 1, \"host\": \"secondary\", \"nonce\": "
		"\"0000000000000000000000000000000000000000000000000000000000000000\"}\n",
		"{\"colo-bpf-channel\": 1, \"host\": \"primary\", \"nonce\": "
		"\"000000000000000000000000000000000000000000000000000000000000000G\"}\n",
		"{\"colo-bpf-channel\": 1, \"host\": \"primary\", \"nonce\": "
		"\"0000000000000000000000000000000000000000000000000000000000000000\"}\n"
		"{\"call\":1,\"method\":\"echo\",\"arguments\":{}}\n",
		"{\"colo-bpf-channel\": 1, \"host\": \"primary\", \"nonce\": "
		"\"0000000000000000000000000000000000000000000000000000000000000000\"}\n"
		"0000000000000000000000000000000000000000000000000000000000000000 "
		"{\"call\":1,\"method\":\"echo\",\"arguments\":{}}\n",
	};
	struct stranger x;

	(void)state;
	open_end(&s, false, &secret);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		stranger_open(&x);
		stranger_say(&x, rows[i]);
		run_until(stranger_closed(&x));
		stranger_close(&x);
	}
	/* A line that does not end. */
	stranger_open(&x);
	for (int i = 0; i < 20; i++)
		send(x.fd, "0123456789abcdef0123456789abcdef", 32, MSG_NOSIGNAL);
	run_until(stranger_closed(&x));
	stranger_close(&x);
	assert_int_equal(s.ups + s.heard, 0);
	assert_int_equal(messages("no daemon of colo-bpf"), 1);
	assert_non_null(strstr(said, "speaks version 2 of the channel, this one 1"));
	assert_non_null(strstr(said, "a line without an end"));
	open_end(&p, true, &secret);
	run_until(p.ups && s.ups);
}

static void by_hand(void **state)
{
	struct stranger x;

	(void)state;
	open_end(&s, false, &secret);
	stranger_join(&x);
	stranger_send(&x, "{\"call\":9,\"method\":\"echo\",\"arguments\":{\"text\":4}}");
	run_until(stranger_lines(&x) == 3);
	assert_non_null(strstr(x.in, "{\"answer\":9,\"value\":4}"));
	/* Neither a call nor an answer that is waited for: nothing comes of it. */
	stranger_send(&x, "{\"answer\":77,\"value\":4}");
	stranger_send(&x, "{}");
	stranger_send(&x, "{\"call\":10,\"method\":\"echo\",\"arguments\":[]}");
	run_until(stranger_lines(&x) == 4);
	assert_non_null(strstr(x.in, "{\"answer\":10,\"error\":\"echo: no such method"));
	stranger_close(&x);
	run_until(s.downs == 1);
}

#define CALL "{\"call\":9,\"method\":\"echo\",\"arguments\":{\"text\":4}}"

/* One line, then another that is not the next one of the peer. */
static void not_the_next(void **state)
{
	static const struct {
		const char *what;
		int count; /* the number that its code is of */
		int flip;  /* this character of it is changed, -1: none */
	} rows[] = {
		{"the same again", 1, -1}, {"one is left out", 3, -1},
		{"its code", 2, 0},        {"its code's last digit", 2, 63},
		{"the blank", 2, 64},      {"its text", 2, 70},
	};
	char line[2048];
	struct stranger x;

	(void)state;
	open_end(&s, false, &secret);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		s.heard = 0;
		stranger_join(&x);
		stranger_send(&x, CALL);
		run_until(s.heard == 1);
		stranger_line(&x, line, sizeof(line), rows[i].count, CALL);
		if (rows[i].flip >= 0)
			line[rows[i].flip] ^= 1;
		stranger_say(&x, line);
		run_until(stranger_closed(&x));
		if (s.heard != 1)
			print_message("%s\n", rows[i].what);
		assert_int_equal(s.heard, 1);
		assert_false(channel_is_up(s.channel));
		stranger_close(&x);
	}
}

/* All that a connection was told, told to the next one: its nonce is another. */
static void replayed(void **state)
{
	char lines[4096], hello[256];
	struct stranger x, y;

	(void)state;
	open_end(&s, false, &secret);
	stranger_join(&x);
	stranger_send(&x, CALL);
	run_until(s.heard == 1);
	snprintf(hello, sizeof(hello),
		 "{\"colo-bpf-channel\": 1, \"host\": \"primary\", \"nonce\": \"%s\"}\n",
		 "0303030303030303030303030303030303030303030303030303030303030303");
	stranger_line(&x, lines, sizeof(lines), 0, "{\"proof\":\"primary\"}");
	stranger_open(&y);
	stranger_say(&y, hello);
	stranger_say(&y, lines);
	run_until(stranger_closed(&y));
	assert_int_equal(s.heard, 1);
	assert_int_equal(s.ups, 1);
	/* And what s has said itself does not serve, either. */
	stranger_close(&y);
	stranger_open(&y);
	run_until(stranger_lines(&y) == 1);
	stranger_say(&y, y.in);
	run_until(stranger_closed(&y));
	assert_int_equal(s.ups, 1);
	stranger_close(&x);
	stranger_close(&y);
}

/* Who says nothing is let go, and is in nobody's way meanwhile. */
static void silent(void **state)
{
	struct stranger x[12];

	(void)state;
	open_end(&s, false, &secret);
	for (int i = 0; i < 12; i++) {
		stranger_open(&x[i]);
		run_until(stranger_lines(&x[i]) == 1);
	}
	open_end(&p, true, &secret);
	run_until(p.ups && s.ups);
	for (int i = 0; i < 12; i++) {
		run_until(stranger_closed(&x[i]));
		stranger_close(&x[i]);
	}
	assert_true(channel_is_up(s.channel));
	assert_int_equal(s.downs, 0);
}

/* The peer begins anew, and nobody told that the connection before is gone. */
static void half_open(void **state)
{
	struct answer a = {};
	struct stranger x;

	(void)state;
	open_end(&s, false, &secret);
	stranger_join(&x);
	channel_call(s.channel, "echo", NULL, 5000, on_answer, &a);
	open_end(&p, true, &secret);
	run_until(p.ups == 1);
	run_until(s.ups == 2);
	assert_int_equal(a.count, 1);
	assert_string_equal(a.error, CHANNEL_LOST);
	assert_true(stranger_closed(&x));
	stranger_close(&x);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static const struct CMUnitTest tests[] = {
	TEST(both_call),  TEST(refusals),  TEST(later),        TEST(long_lines),
	TEST(comes_back), TEST(same_host), TEST(wrong_secret), TEST(junk),
	TEST(by_hand),    TEST(replayed),  TEST(not_the_next), TEST(silent),
	TEST(half_open),
};

UNIT_RUN(channel, tests)
