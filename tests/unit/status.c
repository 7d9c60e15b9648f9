// SPDX-License-Identifier: GPL-2.0-only
/* `colo-bpf status` after a take-over: what it says is in the map. Root. */
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

static int make_flows(void **state)
{
	(void)state;
	dp.map_fd[MAP_FLOWS] =
		bpf_map_create(BPF_MAP_TYPE_HASH, "flows", sizeof(struct colo_flow_key),
			       sizeof(struct colo_rewrite), config.max_flows, NULL);
	return dp.map_fd[MAP_FLOWS] < 0;
}

static int close_flows(void **state)
{
	(void)state;
	return close(dp.map_fd[MAP_FLOWS]);
}

static void put(unsigned int port, __u32 flags, __u32 seq_delta, __u32 ts_delta)
{
	struct colo_rewrite rewrite = {
		.flags = flags,
		.seq_delta = seq_delta,
		.ts_delta = ts_delta,
	};

	rewrite.key.sport = port;
	assert_int_equal(
		bpf_map_update_elem(dp.map_fd[MAP_FLOWS], &rewrite.key, &rewrite, BPF_ANY), 0);
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
	put(1, COLO_RW_OFFSET, 5, 0);
	put(2, COLO_RW_OFFSET, 0, 5);
	put(3, COLO_RW_OFFSET, 0, 0); /* equal numbers: nothing to translate */
	put(4, COLO_RW_ECHO, 0, 0);
	assert_int_equal(translated(), 2);
	/* one side's FIN closes nothing yet */
	put(1, COLO_RW_OFFSET | COLO_RW_G_FIN, 5, 0);
	assert_int_equal(translated(), 2);
	put(1, COLO_RW_OFFSET | COLO_RW_G_FIN | COLO_RW_C_FIN, 5, 0);
	assert_int_equal(translated(), 1);
	put(2, COLO_RW_OFFSET | COLO_RW_RST, 0, 5);
	assert_int_equal(translated(), 0);
}

static void before_a_take_over(void **state)
{
	(void)state;
	session.mode = COLO_MODE_SECONDARY;
	assert_int_equal(translated(), -1);
	session.mode = COLO_MODE_ACTIVE;
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test_setup_teardown(flows_that_are_left, make_flows, close_flows),
	cmocka_unit_test_setup_teardown(before_a_take_over, make_flows, close_flows),
};

UNIT_RUN(status, tests)
