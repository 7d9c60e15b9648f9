// SPDX-License-Identifier: GPL-2.0-only
/* `colo-bpf status` of take-overs and leases: what it says is in the maps. Root. */
#include "clock.h"
#include "unit.h"

#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <jansson.h>

#include "status.h"

static struct colo_config config = {.max_flows = 16};
static struct colo_session session = {.epoch = 3, .mode = COLO_MODE_ACTIVE};
static struct datapath dp = {
	.abi = {.role = COLO_ROLE_SECONDARY, .name = "unit"},
	.config = &config,
	.session = &session,
};

static int make_map(void **state)
{
	(void)state;
	session.translations = 0;
	dp.map_fd[MAP_TRANSLATIONS] =
		bpf_map_create(BPF_MAP_TYPE_HASH, "translations", sizeof(struct colo_flow_key),
			       sizeof(struct colo_translation), config.max_flows, NULL);
	return dp.map_fd[MAP_TRANSLATIONS] < 0;
}

static int close_map(void **state)
{
	(void)state;
	return close(dp.map_fd[MAP_TRANSLATIONS]);
}

static void put(unsigned int port, __u32 flags, __u32 seq_delta, __u32 ts_delta)
{
	struct colo_translation t = {
		.flags = flags,
		.seq_delta = seq_delta,
		.ts_delta = ts_delta,
	};

	t.key.sport = port;
	assert_int_equal(bpf_map_update_elem(dp.map_fd[MAP_TRANSLATIONS], &t.key, &t, BPF_ANY),
			 0);
	session.translations++;
}

/* -1: status does not say. */
static long long translated(void)
{
	json_t *object = status_describe(&dp), *number;
	long long count = -1;

	number = json_object_get(object, "translated_flows");
	if (number)
		count = json_integer_value(number);
	json_decref(object);
	return count;
}

static void flows_that_are_left(void **state)
{
	(void)state;
	assert_int_equal(translated(), 0);
	put(1, COLO_TR_ISN, 5, 0);
	put(2, COLO_TR_ISN, 0, 5);
	put(3, COLO_TR_ECHO, 0, 0); /* its client knows the guest's numbers */
	assert_int_equal(translated(), 2);
	/* one side's FIN closes nothing yet */
	put(1, COLO_TR_ISN | COLO_TR_G_FIN, 5, 0);
	assert_int_equal(translated(), 2);
	put(1, COLO_TR_ISN | COLO_TR_G_FIN | COLO_TR_C_FIN, 5, 0);
	assert_int_equal(translated(), 1);
	put(2, COLO_TR_ISN | COLO_TR_RST, 0, 5);
	assert_int_equal(translated(), 0);
}

static json_int_t lease_ms(bool *asked)
{
	json_t *object = status_describe(&dp), *value;
	json_int_t left;

	value = json_object_get(object, "lease_ms");
	assert_non_null(value);
	*asked = json_is_integer(value);
	left = json_integer_value(value);
	json_decref(object);
	return left;
}

static void lease(void **state)
{
	bool asked;

	(void)state;
	lease_ms(&asked);
	assert_false(asked);
	session.lease_ns = clock_now() + 60000 * 1000000ULL;
	assert_in_range(lease_ms(&asked), 50000, 60000);
	assert_true(asked);
	session.lease_ns = clock_now() - 1;
	assert_int_equal(lease_ms(&asked), 0);
	assert_true(asked);
	session.lease_ns = 0;
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test_setup_teardown(flows_that_are_left, make_map, close_map),
	cmocka_unit_test_setup_teardown(lease, make_map, close_map),
};

UNIT_RUN(status, tests)
