// SPDX-License-Identifier: GPL-2.0-only
/* The table that a resync copies, on real maps. */
#include "clock.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <linux/if_ether.h>

#include <bpf/bpf.h>

#include "translations.h"

#define ROOM 4

static int errors = -1; /* where they went */

/* A data path of which only that map is there. */
static int set_up(void **state)
{
	struct datapath *dp = calloc(1, sizeof(*dp));

	memset(dp->map_fd, -1, sizeof(dp->map_fd));
	dp->session = calloc(1, sizeof(*dp->session));
	dp->config = calloc(1, sizeof(*dp->config));
	dp->abi.role = COLO_ROLE_SECONDARY;
	strcpy(dp->abi.name, "unit");
	dp->map_fd[MAP_TRANSLATIONS] =
		bpf_map_create(BPF_MAP_TYPE_HASH, "translations", sizeof(struct colo_flow_key),
			       sizeof(struct colo_translation), ROOM, NULL);
	*state = dp;
	return dp->map_fd[MAP_TRANSLATIONS] < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	struct datapath *dp = *state;

	if (errors >= 0) {
		dup2(errors, STDERR_FILENO);
		close(errors);
		errors = -1;
	}
	close(dp->map_fd[MAP_TRANSLATIONS]);
	free((void *)dp->session);
	free(dp->config);
	free(dp);
	return 0;
}

/* What is refused says so: not here. */
static void be_quiet(void)
{
	int null = open("/dev/null", O_WRONLY);

	errors = dup(STDERR_FILENO);
	assert_true(null >= 0 && errors >= 0);
	dup2(null, STDERR_FILENO);
	close(null);
}

static struct colo_translation example(__u16 port)
{
	struct colo_translation t = {
		.key = {.ethertype = htons(ETH_P_IP),
			.proto = 6,
			.sport = htons(80),
			.dport = htons(port)},
		.seen_ns = clock_now() - 5000000000ULL,
		.flags = COLO_TR_ISN,
		.isn = 9000,
		.seq_delta = 0xffffe0c0,
		.ts_delta = 7,
	};

	inet_pton(AF_INET, "10.9.0.10", t.key.saddr);
	inet_pton(AF_INET, "10.9.0.1", t.key.daddr);
	return t;
}

static struct colo_translation example6(void)
{
	struct colo_translation t = example(5000);

	t.key.ethertype = htons(ETH_P_IPV6);
	t.key.vlan[0] = htons(300);
	t.key.vlan[1] = htons(5);
	inet_pton(AF_INET6, "fd00::10", t.key.saddr);
	inet_pton(AF_INET6, "fd00::1", t.key.daddr);
	t.flags = COLO_TR_ECHO | COLO_TR_C_FIN;
	t.isn = 0;
	t.ts_echo = 0xfffffffe;
	return t;
}

static void put(struct datapath *dp, const struct colo_translation *t)
{
	assert_int_equal(
		bpf_map_update_elem(dp->map_fd[MAP_TRANSLATIONS], &t->key, t, BPF_NOEXIST), 0);
	dp->session->translations++;
}

static void assert_has(struct datapath *dp, const struct colo_translation *want)
{
	struct colo_translation got;

	assert_int_equal(bpf_map_lookup_elem(dp->map_fd[MAP_TRANSLATIONS], &want->key, &got),
			 0);
	assert_memory_equal(&got.key, &want->key, sizeof(got.key));
	assert_int_equal(got.flags, want->flags);
	assert_int_equal(got.isn, want->isn);
	assert_int_equal(got.seq_delta, want->seq_delta);
	assert_int_equal(got.ts_delta, want->ts_delta);
	assert_int_equal(got.ts_echo, want->ts_echo);
	assert_in_range(got.seen_ns, want->seen_ns - 2000000, want->seen_ns + 1000000000);
}

static unsigned int entries(struct datapath *dp)
{
	struct colo_flow_key key, *last = NULL;
	unsigned int count = 0;

	for (; !bpf_map_get_next_key(dp->map_fd[MAP_TRANSLATIONS], last, &key); last = &key)
		count++;
	return count;
}

/* Of a table, what another reads is the same, whatever it had. */
static void copied(void **state)
{
	struct colo_translation a = example(5000), b = example(5001), c = example6();
	struct datapath *dp = *state;
	json_t *list;
	char *text;

	put(dp, &a);
	put(dp, &c);
	list = translations_export(dp);
	assert_int_equal(json_array_size(list), 2);
	/* over the wire */
	text = json_dumps(list, JSON_COMPACT);
	json_decref(list);
	list = json_loads(text, 0, NULL);
	free(text);

	assert_int_equal(translations_clear(dp), 0);
	put(dp, &b);
	assert_int_equal(translations_import(dp, list), 0);
	assert_int_equal(dp->session->translations, 2);
	assert_int_equal(entries(dp), 2);
	assert_has(dp, &a);
	assert_has(dp, &c);
	json_decref(list);
}

static void nothing(void **state)
{
	struct datapath *dp = *state;
	json_t *list = translations_export(dp);

	assert_true(json_is_array(list));
	assert_int_equal(json_array_size(list), 0);
	assert_int_equal(translations_import(dp, list), 0);
	assert_int_equal(dp->session->translations, 0);
	json_decref(list);
}

#define ENTRY                                                                      \
	"\"guest\": \"10.9.0.10\", \"client\": \"10.9.0.1\", \"guest_port\": 80, " \
	"\"client_port\": 5000, \"seq_delta\": 1, \"ts_delta\": 2"
#define GOOD "{" ENTRY ", \"idle_ms\": 0}"

/* What is no list of them changes nothing. */
static void refused(void **state)
{
	static const char *const bad[] = {
		"null",
		"{}",
		"[1]",
		"[" GOOD ", {}]",
		"[" GOOD ", {" ENTRY "}]",
		"[{" ENTRY ", \"idle_ms\": -1}]",
		"[{" ENTRY ", \"idle_ms\": 1.5}]",
		"[{" ENTRY ", \"idle_ms\": 0, \"isn\": 4294967296}]",
		"[{" ENTRY ", \"idle_ms\": 0, \"echo\": \"x\"}]",
		"[{" ENTRY ", \"idle_ms\": 0, \"vlan\": 4096}]",
		"[{" ENTRY ", \"idle_ms\": 0, \"guest\": \"10.9.0\"}]",
		"[{" ENTRY ", \"idle_ms\": 0, \"guest\": \"fd00::1\"}]",
		"[{" ENTRY ", \"idle_ms\": 0, \"guest_port\": 65536}]",
		"[{" ENTRY ", \"idle_ms\": 0, \"seq_delta\": 4294967296}]",
	};
	struct colo_translation a = example(5000);
	struct datapath *dp = *state;

	be_quiet();
	put(dp, &a);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		json_t *list = json_loads(bad[i], JSON_DECODE_ANY, NULL);

		assert_non_null(list);
		assert_int_equal(translations_import(dp, list), -EINVAL);
		json_decref(list);
		assert_int_equal(entries(dp), 1);
		assert_int_equal(dp->session->translations, 1);
		assert_has(dp, &a);
	}
}

/* Half a table is none. */
static void does_not_fit(void **state)
{
	struct datapath *dp = *state;
	json_t *list = json_array(), *one = json_loads(GOOD, 0, NULL);

	be_quiet();
	for (int i = 0; i <= ROOM; i++) {
		json_t *entry = json_copy(one);

		json_object_set_new(entry, "client_port", json_integer(5000 + i));
		json_array_append_new(list, entry);
	}
	assert_int_equal(translations_import(dp, list), -E2BIG);
	assert_int_equal(entries(dp), 0);
	assert_int_equal(dp->session->translations, 0);
	json_array_remove(list, ROOM);
	assert_int_equal(translations_import(dp, list), 0);
	assert_int_equal(entries(dp), ROOM);

	json_array_clear(list);
	json_array_append(list, one);
	json_array_append(list, one);
	assert_int_equal(translations_import(dp, list), -EEXIST);
	assert_int_equal(entries(dp), 0);
	assert_int_equal(dp->session->translations, 0);
	json_decref(one);
	json_decref(list);
}

/* Idle for longer than this host has been up. */
static void long_idle(void **state)
{
	struct datapath *dp = *state;
	json_t *list = json_loads("[{" ENTRY ", \"idle_ms\": 9000000000000000000}]", 0, NULL);
	struct colo_translation a = example(5000), got;

	assert_int_equal(translations_import(dp, list), 0);
	assert_int_equal(bpf_map_lookup_elem(dp->map_fd[MAP_TRANSLATIONS], &a.key, &got), 0);
	assert_int_equal(got.seen_ns, 0);
	json_decref(list);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static const struct CMUnitTest tests[] = {
	TEST(copied), TEST(nothing), TEST(refused), TEST(long_idle), TEST(does_not_fit),
};

UNIT_RUN(translations, tests)
