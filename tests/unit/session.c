// SPDX-License-Identifier: GPL-2.0-only
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "session.h"

struct log {
	enum session_action action[64];
	int actions;
	int changes;
	int fail; /* what the next action returns */
};

static int act(void *context, enum session_action action, enum session_event event)
{
	struct log *log = context;

	(void)event;
	log->action[log->actions++] = action;
	return log->fail;
}

static void changed(void *context, enum session_state from, enum session_event event)
{
	(void)from;
	(void)event;
	((struct log *)context)->changes++;
}

/* Feed events, ended by SESSION_EVENTS, to a new session. */
static struct session play(struct log *log, enum colo_role role, enum session_state state,
			   const enum session_event *events)
{
	struct session session = {
		.role = role, .state = state, .act = act, .changed = changed, .context = log};

	memset(log, 0, sizeof(*log));
	for (; *events != SESSION_EVENTS; events++)
		session_handle(&session, *events);
	return session;
}

#define EVENTS(...) ((const enum session_event[]){__VA_ARGS__, SESSION_EVENTS})

static void checkpoints(void **state)
{
	struct session session;
	struct log log;

	(void)state;
	session = play(&log, COLO_ROLE_PRIMARY, SESSION_IDLE,
		       EVENTS(EVENT_START, EVENT_STOP, EVENT_COMMIT, EVENT_STOP, EVENT_COMMIT));
	assert_int_equal(session.state, SESSION_COLO);
	assert_int_equal(log.actions, 5);
	assert_int_equal(log.action[0], ACTION_START);
	assert_int_equal(log.action[1], ACTION_STOP);
	assert_int_equal(log.action[2], ACTION_COMMIT);
	assert_int_equal(log.action[3], ACTION_STOP);
	assert_int_equal(log.action[4], ACTION_COMMIT);
	assert_int_equal(log.changes, 1);

	session =
		play(&log, COLO_ROLE_SECONDARY, SESSION_IDLE, EVENTS(EVENT_START, EVENT_RESET));
	assert_int_equal(session.state, SESSION_COLO);
	assert_int_equal(log.action[1], ACTION_RESET);
}

/* In COLO: one event, the states that follow from it and what is done last. */
static void ways_out(void **state)
{
	static const struct {
		enum colo_role role;
		enum session_event events[4];
		enum session_state end;
		enum session_action last;
	} rows[] = {
		/* the peer is gone: this side goes on */
		{COLO_ROLE_PRIMARY,
		 {EVENT_PEER_LOST, SESSION_EVENTS},
		 SESSION_FAILING,
		 ACTION_FAIL_OVER_QEMU},
		{COLO_ROLE_SECONDARY,
		 {EVENT_PEER_QEMU_GONE, EVENT_FAILOVER, SESSION_EVENTS},
		 SESSION_ALONE,
		 ACTION_FAILOVER},
		/* its daemon alone is gone: nothing */
		{COLO_ROLE_PRIMARY,
		 {EVENT_PEER_DOWN, SESSION_EVENTS},
		 SESSION_COLO,
		 ACTION_NONE},
		{COLO_ROLE_SECONDARY,
		 {EVENT_PEER_DOWN, SESSION_EVENTS},
		 SESSION_COLO,
		 ACTION_NONE},
		/* our guest is gone */
		{COLO_ROLE_PRIMARY,
		 {EVENT_QEMU_GONE, SESSION_EVENTS},
		 SESSION_LOST,
		 ACTION_GONE},
		/* QEMU fails on both sides, both live: the primary goes on */
		{COLO_ROLE_PRIMARY,
		 {EVENT_COLO_EXIT, EVENT_PEER_ALIVE, SESSION_EVENTS},
		 SESSION_TAKING,
		 ACTION_TAKE},
		{COLO_ROLE_SECONDARY,
		 {EVENT_COLO_EXIT, EVENT_PEER_ALIVE, SESSION_EVENTS},
		 SESSION_EXITED,
		 ACTION_NONE},
		{COLO_ROLE_SECONDARY,
		 {EVENT_COLO_EXIT, EVENT_PEER_TAKING, SESSION_EVENTS},
		 SESSION_LOST,
		 ACTION_YIELD},
		/* ... and a secondary without any word of its peer waits */
		{COLO_ROLE_SECONDARY,
		 {EVENT_COLO_EXIT, EVENT_PEER_UNKNOWN, SESSION_EVENTS},
		 SESSION_EXITED,
		 ACTION_NONE},
		{COLO_ROLE_SECONDARY,
		 {EVENT_COLO_EXIT, EVENT_PEER_LOST, SESSION_EVENTS},
		 SESSION_FAILING,
		 ACTION_FAIL_OVER_QEMU},
		/* the operator: first the peer yields */
		{COLO_ROLE_SECONDARY,
		 {EVENT_OPERATOR_TAKE, EVENT_PEER_YIELDED, SESSION_EVENTS},
		 SESSION_FAILING,
		 ACTION_FAIL_OVER_QEMU},
		{COLO_ROLE_SECONDARY,
		 {EVENT_OPERATOR_TAKE, EVENT_TAKE_TIMEOUT, SESSION_EVENTS},
		 SESSION_COLO,
		 ACTION_NOT_TAKEN},
		{COLO_ROLE_PRIMARY,
		 {EVENT_COLO_EXIT, EVENT_OPERATOR_TAKE, EVENT_TAKE_TIMEOUT, SESSION_EVENTS},
		 SESSION_EXITED,
		 ACTION_NOT_TAKEN},
		/* both want: the primary */
		{COLO_ROLE_SECONDARY,
		 {EVENT_OPERATOR_TAKE, EVENT_PEER_TAKING, SESSION_EVENTS},
		 SESSION_LOST,
		 ACTION_YIELD},
		{COLO_ROLE_PRIMARY,
		 {EVENT_OPERATOR_TAKE, EVENT_PEER_TAKING, SESSION_EVENTS},
		 SESSION_TAKING,
		 ACTION_TAKE},
	};
	struct session session;
	struct log log;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		session = play(&log, rows[i].role, SESSION_COLO, rows[i].events);
		if (session.state != rows[i].end)
			print_message("row %zu\n", i);
		assert_int_equal(session.state, rows[i].end);
		assert_int_equal(log.actions ? log.action[log.actions - 1] : ACTION_NONE,
				 rows[i].last);
	}
}

static void failed_action_changes_nothing(void **state)
{
	struct log log = {.fail = -EIO};
	struct session session = {.role = COLO_ROLE_PRIMARY,
				  .act = act,
				  .state = SESSION_IDLE,
				  .changed = changed,
				  .context = &log};

	(void)state;
	assert_int_equal(session_handle(&session, EVENT_START), -EIO);
	assert_int_equal(session.state, SESSION_IDLE);
	assert_int_equal(log.changes, 0);
}

static void meaningless_is_told(void **state)
{
	struct log log = {};
	struct session session = {.role = COLO_ROLE_PRIMARY,
				  .act = act,
				  .state = SESSION_IDLE,
				  .changed = changed,
				  .context = &log};

	(void)state;
	assert_int_equal(session_handle(&session, EVENT_COMMIT), -ENOENT);
	assert_int_equal(log.actions, 0);
}

/* One row a state and event, and no state without a name. */
static void table_is_sound(void **state)
{
	(void)state;
	for (int s = 0; s < SESSION_STATES; s++) {
		assert_non_null(session_state_names[s]);
		for (int e = 0; e < SESSION_EVENTS; e++) {
			const struct session_row *row;

			row = session_look_up(COLO_ROLE_PRIMARY, s, e);
			assert_true(!row || row->action < SESSION_ACTIONS);
			assert_non_null(session_event_names[e]);
		}
	}
}

/* Who lost never becomes active again by QEMU's word alone. */
static void lost_stays_shut(void **state)
{
	struct session session;
	struct log log;

	(void)state;
	session = play(&log, COLO_ROLE_SECONDARY, SESSION_LOST,
		       EVENTS(EVENT_FAILOVER, EVENT_PEER_LOST, EVENT_OPERATOR_FAILOVER,
			      EVENT_PEER_QEMU_GONE));
	assert_int_equal(session.state, SESSION_LOST);
	assert_int_equal(log.actions, 1);
	assert_int_equal(log.action[0], ACTION_REFUSE);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(checkpoints),
	cmocka_unit_test(ways_out),
	cmocka_unit_test(failed_action_changes_nothing),
	cmocka_unit_test(meaningless_is_told),
	cmocka_unit_test(table_is_sound),
	cmocka_unit_test(lost_stays_shut),
};

UNIT_RUN(session, tests)
