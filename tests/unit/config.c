// SPDX-License-Identifier: GPL-2.0-only
#include "unit.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

#include "config.h"
#include "words.h"

static char directory[] = "/tmp/colo-unit.XXXXXX";
static char file[64], secret[64];

#define LINE1 "role = \"primary\"; guest = \"vm0\"; port = \"eth1\"; link = \"eth2\";\n"
#define LINE2 "primary = { address = \"10.99.0.1\"; qmp = \"/run/p\"; };\n"
#define LINE3 "secondary = { address = \"10.99.0.2\"; qmp = \"/run/s\"; };\n"
#define LINE4 "secret_file = \"SECRET\";\n"

static void write_file(const char *path, const char *text, mode_t mode)
{
	FILE *to = fopen(path, "w");

	assert_non_null(to);
	fputs(text, to);
	fclose(to);
	assert_int_equal(chmod(path, mode), 0);
}

/* SECRET in the text is the path of the secret. */
static struct config *load(const char *text, char messages[4096])
{
	const char *at = strstr(text, "SECRET");
	struct config *config;
	char all[8192];

	if (at)
		snprintf(all, sizeof(all), "%.*s%s%s", (int)(at - text), text, secret, at + 6);
	else
		snprintf(all, sizeof(all), "%s", text);
	write_file(file, all, 0644);
	unit_capture_begin();
	config = config_load(file);
	unit_capture_end(messages, 4096);
	return config;
}

/* A file that is well: the four lines, and more. */
static struct config *load_with(const char *more, char messages[4096])
{
	char text[4096];

	snprintf(text, sizeof(text), LINE1 LINE2 LINE3 LINE4 "%s", more);
	return load(text, messages);
}

static void defaults(void **state)
{
	char messages[4096];
	struct config *c = load_with("", messages);

	(void)state;
	assert_non_null(c);
	assert_string_equal(messages, "");
	assert_int_equal(c->role, COLO_ROLE_PRIMARY);
	assert_string_equal(config_self(c)->address, "10.99.0.1");
	assert_string_equal(config_peer(c)->address, "10.99.0.2");
	assert_string_equal(config_self(c)->name, "primary");
	assert_string_equal(config_peer(c)->name, "secondary");
	assert_string_equal(config_peer(c)->guest, "vm0");
	assert_string_equal(config_peer(c)->qmp, "/run/s");
	assert_null(c->netdev);
	assert_int_equal(c->disks, 0);
	assert_int_equal(c->nbd_port, 9999);
	assert_int_equal(c->migration_port, 9998);
	assert_int_equal(c->peer_port, 7730);
	assert_int_equal(c->channel_port, 7731);
	assert_int_equal(c->heartbeat_ms, 50);
	assert_int_equal(c->peer_timeout_ms, 200);
	assert_int_equal(c->qemu_timeout_ms, 5000);
	assert_int_equal(c->ack_timeout_ms, 5000);
	assert_int_equal(c->takeover.policy, TAKEOVER_MANUAL);
	assert_int_equal(c->takeover.fence_timeout_ms, 10000);
	assert_int_equal(c->takeover.lease_ms, 0);
	assert_int_equal(c->checkpoint.period_ms, 20000);
	assert_int_equal(c->checkpoint.min_distance_ms, 5);
	assert_int_equal(c->checkpoint.stop_percent, 40);
	assert_int_equal(c->proxy.compare_timeout_ms, 3000);
	assert_int_equal(c->proxy.max_flows, 1000000);
	assert_int_equal(c->hooks, HOOKS_AUTO);
	config_free(c);
}

static void all_set(void **state)
{
	char messages[4096];
	struct config *c = load(
		"role = \"secondary\"; # comment\n"
		"secret_file = \"SECRET\"; netdev = \"net0\"; hooks = \"never\";\n"
		"primary: { address: \"fd00::1\"; paths: [\"192.0.2.1\", \"fd01::1\"];\n"
		"  qmp: \"/p\"; guest: \"g1\"; port: \"p1\"; link: \"l1\"; };\n"
		"secondary: { address: \"fd00::2\"; paths: [\"192.0.2.2\", \"fd01::2\"];\n"
		"  qmp: \"/s\"; guest: \"g2\"; port: \"p2\"; link: \"l2\"; };\n"
		"disks = ( { node = \"d0\"; replica = \"r0\"; }, { node = \"d1\"; replica = \"r1\" } );\n"
		"nbd_port = 1; migration_port = 2; peer_port = 3; channel_port = 65535;\n"
		"heartbeat_ms = 10; peer_timeout_ms = 40; qemu_timeout_ms = 100; ack_timeout_ms = 200;\n"
		"takeover = { policy = \"witness\"; witness = \"tcp:[fd02::3]:99\"; lease_ms = 30;\n"
		"  fence = \"/bin/sh -c 'exit 0' %h %a %n %%\"; fence_timeout_ms = 50; };\n"
		"checkpoint = { period_ms = 10; min_distance_ms = 10; stop_percent = 100; };\n"
		"proxy = { flow_idle_ms = 4294967295L; max_flows = 16; };\n",
		messages);

	(void)state;
	assert_string_equal(messages, "");
	assert_non_null(c);
	assert_string_equal(config_self(c)->guest, "g2");
	assert_string_equal(config_peer(c)->link, "l1");
	assert_int_equal(config_self(c)->paths, 2);
	assert_string_equal(config_self(c)->path[1], "fd01::2");
	assert_string_equal(c->netdev, "net0");
	assert_int_equal(c->hooks, HOOKS_NEVER);
	assert_int_equal(c->disks, 2);
	assert_string_equal(c->disk[1].node, "d1");
	assert_string_equal(c->disk[1].replica, "r1");
	assert_int_equal(c->channel_port, 65535);
	assert_int_equal(c->takeover.policy, TAKEOVER_WITNESS);
	assert_string_equal(c->takeover.witness, "tcp:[fd02::3]:99");
	assert_int_equal(c->takeover.lease_ms, 30);
	assert_int_equal(c->proxy.flow_idle_ms, 0xffffffff);
	config_free(c);
}

static void witness_has_a_lease(void **state)
{
	char messages[4096];
	struct config *c = load_with(
		"takeover = { policy = \"witness\"; witness = \"file:/d\"; };", messages);

	(void)state;
	assert_non_null(c);
	assert_int_equal(c->takeover.lease_ms, 200);
	config_free(c);
}

/* Line 5 of the file, what is said of it. */
static void faults(void **state)
{
	static const struct {
		const char *line;
		const char *words; /* behind "FILE:" */
	} rows[] = {
		{"heartbeat = 50;", "5: heartbeat: no such setting"},
		{"takeover = { polcy = \"fence\"; };", "5: takeover.polcy: no such setting"},
		{"takeover = 1;", "5: takeover: a group, { ... }, is needed"},
		{"heartbeat_ms = \"50\";", "5: heartbeat_ms: a number from 1 to 10000"},
		{"heartbeat_ms = 0;", "5: heartbeat_ms: a number from 1 to 10000"},
		{"heartbeat_ms = -5;", "5: heartbeat_ms: a number from 1 to 10000"},
		{"heartbeat_ms = 5000000000L;", "5: heartbeat_ms: a number from 1 to 10000"},
		{"heartbeat_ms = 50.0;", "5: heartbeat_ms: a number from 1 to 10000"},
		{"heartbeat_ms = 50", NULL},
		{"heartbeat_ms 50;", "5: syntax error"},
		{"role = \"secondary\";", "5: duplicate setting name"},
		{"hooks = \"maybe\";", "5: hooks: one of \"auto\", \"never\" is needed"},
		{"hooks = 1;", "5: hooks: one of \"auto\", \"never\" is needed"},
		{"netdev = \"\";", "5: netdev: a text in quotes is needed"},
		{"netdev = 7;", "5: netdev: a text in quotes is needed"},
		{"qmp = \"relative\";", "5: qmp \"relative\": a path that begins with /"},
		{"disks = \"d0\";", "5: disks: a list, ( { node"},
		{"disks = ( \"d0\" );", "5: disks: { node = \"NODE\"; replica = \"NODE\"; }"},
		{"disks = ( { node = \"d0\"; } );", "5: disks: { node = \"NODE\"; replica"},
		{"disks = ( { node = \"d0\"; replica = \"r\"; size = 1; } );",
		 "5: disks: size: no such setting"},
		{"heartbeat_ms = 150;", "5: peer_timeout_ms 200: must be at least twice"},
		{"peer_timeout_ms = 90;", "5: peer_timeout_ms 90: must be at least twice"},
		{"nbd_port = 9998;", "5: nbd_port and migration_port are both 9998"},
		{"channel_port = 7730;", "5: peer_port and channel_port are both 7730"},
		{"nbd_port = 65536;", "5: nbd_port: a number from 1 to 65535"},
		{"takeover = { policy = \"pray\"; };",
		 "5: takeover.policy: one of \"manual\", \"fence\", \"witness\" is needed"},
		{"takeover = { policy = \"fence\"; };",
		 "5: takeover.policy \"fence\": takeover.fence is missing"},
		{"takeover = { policy = \"witness\"; };",
		 "5: takeover.policy \"witness\": takeover.witness is missing"},
		{"takeover = { fence = \"fence %h\"; };", "a path from / is needed"},
		{"takeover = { fence = \"/bin/true 'x\"; };", "a quote in it does not end"},
		{"takeover = { fence = \"/bin/true %z\"; };", "a % with an unknown letter"},
		{"takeover = { fence = \"/bin/true %\"; };", "a % with an unknown letter"},
		{"takeover = { fence = \" \"; };", "5: takeover.fence \" \": is empty"},
		{"takeover = { fence = \"/no/such %h\"; };",
		 "5: takeover.fence: /no/such: No such file"},
		{"takeover = { witness = \"host\"; };", "tcp:ADDR:PORT, tcp:[ADDR6]:PORT or"},
		{"takeover = { witness = \"tcp:10.0.0.1\"; };", "tcp:ADDR:PORT, tcp:[ADDR6]"},
		{"takeover = { witness = \"tcp:[fd00::1]\"; };", "tcp:ADDR:PORT, tcp:[ADDR6]"},
		{"takeover = { witness = \"file:dir\"; };", "tcp:ADDR:PORT, tcp:[ADDR6]:PORT"},
		{"takeover = { lease_ms = 99; };",
		 "5: takeover.lease_ms 99: must be at least twice heartbeat_ms 50"},
		{"takeover = { policy = \"witness\"; witness = \"file:/d\"; lease_ms = 0; };",
		 "5: takeover.lease_ms 0: with a witness the primary needs a lease"},
		{"checkpoint = { stop_percent = 101; };",
		 "5: checkpoint.stop_percent: a number"},
		{"checkpoint = { period_ms = 4; };", "is more than checkpoint.period_ms 4"},
		{"proxy = { big_blocks = 16384; };", "5: proxy: 8192 small_blocks and 16384"},
		{"proxy = { guest_ifindex = 1; };", "5: proxy.guest_ifindex: no such setting"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char messages[4096], begin[128];
		struct config *c = load_with(rows[i].line, messages);

		if (!c != !!rows[i].words)
			print_message("%s\n%s", rows[i].line, messages);
		assert_true(!c == !!rows[i].words);
		config_free(c);
		if (!rows[i].words)
			continue;
		snprintf(begin, sizeof(begin), "colo-bpf: error: %s:5: ", file);
		if (strncmp(messages, begin, strlen(begin)) || !strstr(messages, rows[i].words))
			print_message("%s\n%s", rows[i].line, messages);
		assert_memory_equal(messages, begin, strlen(begin));
		assert_non_null(strstr(messages, rows[i].words));
	}
}

/* Hosts that do not fit together: the whole text, what is said. */
static void hosts(void **state)
{
	static const struct {
		const char *text;
		const char *words;
	} rows[] = {
		{LINE2 LINE3 LINE4, ": role is missing"},
		{LINE1 LINE2 LINE3, ": secret_file is missing"},
		{LINE1 LINE2 LINE4, ": secondary.address is missing"},
		{LINE1 LINE2 LINE4, ": secondary.qmp is missing (or qmp, for both hosts)"},
		{"role = \"primary\";\n" LINE2 LINE3 LINE4,
		 ": primary.guest is missing (or guest"},
		{"role = \"none\";\n", ":1: role: one of \"primary\", \"secondary\" is needed"},
		{LINE1 LINE2 "secondary = { address = \"10.99.0.1\"; qmp = \"/s\"; };" LINE4,
		 ":3: secondary.address: 10.99.0.1 is the primary's, too"},
		{LINE1 LINE2 "secondary = { address = \"fd00::1\"; qmp = \"/s\"; };" LINE4,
		 ":3: secondary.address: fd00::1 is of another family"},
		{LINE1 LINE2 "secondary = { address = \"host\"; qmp = \"/s\"; };" LINE4,
		 ":3: secondary.address \"host\": a numeric address is needed"},
		{LINE1 LINE2
		 "secondary = { address = \"10.99.0.2\"; qmp = \"/s\"; paths = [ \"10.1.1.1\" ]; };" LINE4,
		 ":3: paths: the primary has 0, the secondary 1"},
		{LINE1 LINE2
		 "secondary = { address = \"10.99.0.2\"; qmp = \"/s\"; paths = \"10.1.1.1\"; };" LINE4,
		 ":3: secondary.paths: a list of addresses"},
		{LINE1 LINE2
		 "secondary = { address = \"10.99.0.2\"; qmp = \"/s\"; link = \"vm0\"; };" LINE4,
		 ":1: secondary: guest, port and link must be three devices"},
		{LINE1 LINE2
		 "secondary = { address = \"10.99.0.2\"; qmp = \"/s\"; link = \"a-very-long-name\"; };" LINE4,
		 ":3: secondary.link \"a-very-long-name\": the name of a device, up to 15"},
		{LINE1 LINE2 LINE3 "secret_file = \"/no/such\";",
		 ":4: secret_file /no/such: No such file"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char messages[4096], words[256];

		assert_null(load(rows[i].text, messages));
		snprintf(words, sizeof(words), "%s%s", file, rows[i].words);
		if (!strstr(messages, words))
			print_message("%s\n%s", words, messages);
		assert_non_null(strstr(messages, words));
	}
}

/* All faults are told, not the first. */
static void many_faults(void **state)
{
	char messages[4096];
	int lines = 0;

	(void)state;
	assert_null(load("role = \"third\";\nguest = 1;\nfly = 2;\n" LINE2 LINE3
			 "takeover = {\n policy = \"fence\";\n lease = 1; };\n",
			 messages));
	for (const char *at = messages; (at = strchr(at, '\n')); at++)
		lines++;
	/* role, guest, fly, lease, no fence; and missing: secret_file, port and link of both */
	assert_int_equal(lines, 10);
	assert_non_null(strstr(messages, ":8: takeover.lease: no such setting"));
	assert_non_null(strstr(messages, ":7: takeover.policy"));
}

static void secrets(void **state)
{
	static const char bytes32[] = "0123456789abcdef0123456789abcdef";
	char messages[4096];
	struct config *a, *b;

	(void)state;
	a = load_with("", messages);
	assert_non_null(a);
	write_file(secret, "0123456789abcdef0123456789abcde", 0600);
	assert_null(load_with("", messages));
	assert_non_null(strstr(messages, "has fewer than 32 bytes"));
	write_file(secret, bytes32, 0644);
	assert_null(load_with("", messages));
	assert_non_null(strstr(messages, "others than its owner may use it"));
	write_file(secret, bytes32, 0400);
	b = load_with("", messages);
	assert_non_null(b);
	assert_memory_not_equal(&a->secret, &b->secret, sizeof(a->secret));
	config_free(a);
	config_free(b);
	chmod(secret, 0600);
}

static void includes(void **state)
{
	char path[64], messages[4096];

	(void)state;
	snprintf(path, sizeof(path), "%s/more", directory);
	write_file(path, "\npeer_timeout_ms = 7;\n", 0644);
	assert_null(load_with("@include \"more\"\n", messages));
	assert_non_null(strstr(messages, " more:2: peer_timeout_ms: a number from 10"));
	write_file(path, "\npeer_timeout_ms = 70;\n", 0644);
	assert_null(load_with("@include \"more\"\n", messages));
	assert_non_null(strstr(messages, " more:2: peer_timeout_ms 70: must be"));
}

static void described(void **state)
{
	char messages[4096];
	struct config *c = load_with("checkpoint = { period_ms = 70; };", messages);
	json_t *object, *group;

	(void)state;
	assert_non_null(c);
	object = config_describe(c);
	assert_string_equal(json_string_value(json_object_get(object, "role")), "primary");
	group = json_object_get(object, "checkpoint");
	assert_int_equal(json_integer_value(json_object_get(group, "period_ms")), 70);
	assert_int_equal(json_integer_value(json_object_get(group, "stop_percent")), 40);
	group = json_object_get(object, "secondary");
	assert_string_equal(json_string_value(json_object_get(group, "link")), "eth2");
	assert_true(json_is_null(json_object_get(object, "netdev")));
	/* The key stays where it is. */
	assert_null(json_object_get(object, "secret"));
	json_decref(object);
	config_free(c);
}

/* From the plain file to one with a line more. */
static void replaced(void **state)
{
	static const struct {
		const char *line;
		bool idle, in_colo;
	} rows[] = {
		{"", true, true},
		{"heartbeat_ms = 20;", true, true},
		{"proxy = { reorder_ms = 5; };", true, true},
		{"proxy = { max_flows = 5; };", false, false},
		{"takeover = { fence = \"/bin/true\"; };", true, true},
		{"takeover = { policy = \"fence\"; fence = \"/bin/true\"; };", true, false},
		{"takeover = { lease_ms = 300; };", true, false},
		{"peer_port = 99;", false, false},
		{"disks = ( { node = \"a\"; replica = \"b\"; } );", false, false},
		{"qmp = \"/other\";", true, true}, /* both hosts say their own */
	};
	char messages[4096];
	struct config *now = load_with("", messages), *next;
	bool idle, in_colo;

	(void)state;
	assert_non_null(now);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		next = load_with(rows[i].line, messages);
		assert_non_null(next);
		unit_capture_begin();
		idle = config_may_replace(now, next, false);
		in_colo = config_may_replace(now, next, true);
		unit_capture_end(messages, sizeof(messages));
		if (idle != rows[i].idle || in_colo != rows[i].in_colo)
			print_message("%s\n%s", rows[i].line, messages);
		assert_int_equal(idle, rows[i].idle);
		assert_int_equal(in_colo, rows[i].in_colo);
		config_free(next);
	}
	config_free(now);
}

static void command_words(void **state)
{
	static const struct word_value values[] = {{'h', "p q"}, {'a', "10.0.0.1"}, {}};
	static const struct {
		const char *text;
		const char *words[6];
	} rows[] = {
		{"/x", {"/x"}},
		{"  /x\ty \n", {"/x", "y"}},
		{"/x 'a b' \"c 'd\"", {"/x", "a b", "c 'd"}},
		{"/x '' a''b", {"/x", "", "ab"}},
		{"/x %h -%a- %%h", {"/x", "p q", "-10.0.0.1-", "%h"}},
		{"/x '%h'", {"/x", "p q"}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const char *why;
		char **words = words_split(rows[i].text, values, &why);
		int n = 0;

		assert_non_null(words);
		for (; rows[i].words[n]; n++) {
			assert_non_null(words[n]);
			assert_string_equal(words[n], rows[i].words[n]);
		}
		assert_null(words[n]);
		words_free(words);
	}
}

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(directory))
		return -1;
	snprintf(file, sizeof(file), "%s/x.conf", directory);
	snprintf(secret, sizeof(secret), "%s/secret", directory);
	write_file(secret, "Something of at least thirty-two bytes.", 0600);
	return 0;
}

static int tear_down(void **state)
{
	static const char *const names[] = {"x.conf", "secret", "more"};
	char path[64];

	(void)state;
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
		unlink(path);
	}
	return rmdir(directory);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(defaults),
	cmocka_unit_test(all_set),
	cmocka_unit_test(witness_has_a_lease),
	cmocka_unit_test(faults),
	cmocka_unit_test(hosts),
	cmocka_unit_test(many_faults),
	cmocka_unit_test(secrets),
	cmocka_unit_test(includes),
	cmocka_unit_test(described),
	cmocka_unit_test(replaced),
	cmocka_unit_test(command_words),
};

struct unit_result unit_config(void)
{
	struct unit_result result = {sizeof(tests) / sizeof(*tests), 0};

	result.failed = cmocka_run_group_tests_name("config", tests, set_up, tear_down);
	return result;
}
