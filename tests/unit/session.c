// SPDX-License-Identifier: GPL-2.0-only
#include "unit.h"

#include <errno.h>
#include <stdbool.h>
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
		       EVENTS(EVENT_START, EVENT_BEGUN, EVENT_STOP, EVENT_COMMIT, EVENT_STOP,
			      EVENT_COMMIT));
	assert_int_equal(session.state, SESSION_COLO);
	assert_int_equal(log.actions, 6);
	assert_int_equal(log.action[0], ACTION_BEGIN);
	assert_int_equal(log.action[1], ACTION_START);
	assert_int_equal(log.action[2], ACTION_STOP);
	assert_int_equal(log.action[3], ACTION_COMMIT);
	assert_int_equal(log.action[4], ACTION_STOP);
	assert_int_equal(log.action[5], ACTION_COMMIT);
	assert_int_equal(log.changes, 2);

	session = play(&log, COLO_ROLE_SECONDARY, SESSION_IDLE,
		       EVENTS(EVENT_START, EVENT_BEGUN, EVENT_RESET));
	assert_int_equal(session.state, SESSION_COLO);
	assert_int_equal(log.actions, 2);
	assert_int_equal(log.action[0], ACTION_START);
	assert_int_equal(log.action[1], ACTION_RESET);
}

struct way {
	enum colo_role role;
	enum session_event events[6];
	enum session_state end;
	enum session_action last;
};

#define PRIMARY   COLO_ROLE_PRIMARY
#define SECONDARY COLO_ROLE_SECONDARY
#define WAY(role, end, last, ...)                              \
	{                                                      \
		role, {__VA_ARGS__, SESSION_EVENTS}, end, last \
	}

/* From one state: events, the state that they lead to, what is done last. */
static void check_ways(enum session_state from, const struct way *ways, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct log log;
		struct session session = play(&log, ways[i].role, from, ways[i].events);
		enum session_action last = log.actions ? log.action[log.actions - 1] :
							 ACTION_NONE;

		if (session.state != ways[i].end || last != ways[i].last)
			print_message("way %zu\n", i);
		assert_int_equal(session.state, ways[i].end);
		assert_int_equal(last, ways[i].last);
	}
}

#define CHECK_WAYS(from, ways) check_ways(from, ways, sizeof(ways) / sizeof(*(ways)))

/* Nothing but the policy's word, or the peer's own, lets a side go on alone. */
static void from_colo(void **state)
{
	static const struct way ways[] = {
		/* the peer is lost */
		WAY(PRIMARY, SESSION_CLAIMING, ACTION_CLAIM, EVENT_PEER_LOST),
		WAY(SECONDARY, SESSION_CLAIMING, ACTION_CLAIM, EVENT_PEER_LOST),
		WAY(SECONDARY, SESSION_CLAIMING, ACTION_CLAIM, EVENT_PEER_OUT),
		WAY(SECONDARY, SESSION_FAILING, ACTION_FAIL_OVER_QEMU, EVENT_PEER_LOST,
		    EVENT_GRANTED),
		WAY(PRIMARY, SESSION_LOST, ACTION_YIELD, EVENT_PEER_LOST, EVENT_REFUSED),
		WAY(PRIMARY, SESSION_COLO, ACTION_UNCLAIM, EVENT_PEER_LOST, EVENT_PEER_ALIVE),
		WAY(SECONDARY, SESSION_COLO, ACTION_UNCLAIM, EVENT_PEER_LOST,
		    EVENT_PEER_LINK_DOWN),
		WAY(PRIMARY, SESSION_EXITED, ACTION_UNCLAIM, EVENT_PEER_LOST, EVENT_COLO_EXIT,
		    EVENT_PEER_LINK_DOWN),
		WAY(SECONDARY, SESSION_LOST, ACTION_GONE, EVENT_PEER_LOST, EVENT_QEMU_GONE),
		WAY(SECONDARY, SESSION_LOST, ACTION_YIELD, EVENT_PEER_LOST, EVENT_PEER_ACTIVE,
		    EVENT_GRANTED),
		/* it says itself that it is out */
		WAY(SECONDARY, SESSION_ALONE, ACTION_FAILOVER, EVENT_PEER_QEMU_GONE,
		    EVENT_FAILOVER),
		WAY(PRIMARY, SESSION_FAILING, ACTION_FAIL_OVER_QEMU, EVENT_PEER_YIELDED),
		WAY(PRIMARY, SESSION_FAILING, ACTION_FAIL_OVER_QEMU, EVENT_PEER_LOST,
		    EVENT_PEER_YIELDED),
		/* its daemon alone is gone: nothing */
		WAY(PRIMARY, SESSION_COLO, ACTION_NONE, EVENT_PEER_DOWN),
		WAY(SECONDARY, SESSION_COLO, ACTION_NONE, EVENT_PEER_DOWN),
		/* the replica is no copy any more: the primary, once the peer yields */
		WAY(PRIMARY, SESSION_TAKING, ACTION_TAKE, EVENT_REPLICA_FAILED),
		WAY(PRIMARY, SESSION_FAILING, ACTION_FAIL_OVER_QEMU, EVENT_REPLICA_FAILED,
		    EVENT_REPLICA_FAILED, EVENT_PEER_YIELDED),
		WAY(SECONDARY, SESSION_COLO, ACTION_NONE, EVENT_REPLICA_FAILED),
		/* our guest is gone */
		WAY(PRIMARY, SESSION_LOST, ACTION_GONE, EVENT_QEMU_GONE),
		/* the link is cut, both live and know it: the secondary yields */
		WAY(PRIMARY, SESSION_TAKING, ACTION_TAKE, EVENT_PEER_LINK_DOWN),
		WAY(SECONDARY, SESSION_COLO, ACTION_NONE, EVENT_PEER_LINK_DOWN),
		WAY(SECONDARY, SESSION_LOST, ACTION_YIELD, EVENT_PEER_LINK_DOWN,
		    EVENT_PEER_TAKING),
		/* QEMU fails on both sides, both live: the primary goes on */
		WAY(PRIMARY, SESSION_TAKING, ACTION_TAKE, EVENT_COLO_EXIT, EVENT_PEER_ALIVE),
		WAY(SECONDARY, SESSION_EXITED, ACTION_NONE, EVENT_COLO_EXIT, EVENT_PEER_ALIVE),
		WAY(SECONDARY, SESSION_LOST, ACTION_YIELD, EVENT_COLO_EXIT, EVENT_PEER_TAKING),
		WAY(SECONDARY, SESSION_CLAIMING, ACTION_CLAIM, EVENT_COLO_EXIT,
		    EVENT_PEER_LOST),
		WAY(PRIMARY, SESSION_CLAIMING, ACTION_CLAIM, EVENT_COLO_EXIT, EVENT_PEER_DOWN),
		/* QEMU fails over by somebody else's word: no more than that it left COLO */
		WAY(SECONDARY, SESSION_EXITED, ACTION_OVER, EVENT_FAILOVER),
		WAY(SECONDARY, SESSION_CLAIMING, ACTION_OVER, EVENT_PEER_LOST, EVENT_FAILOVER),
		WAY(SECONDARY, SESSION_FAILING, ACTION_FAIL_OVER_QEMU, EVENT_FAILOVER,
		    EVENT_PEER_LOST, EVENT_GRANTED),
		/* the operator: first the peer yields */
		WAY(SECONDARY, SESSION_FAILING, ACTION_FAIL_OVER_QEMU, EVENT_OPERATOR_TAKE,
		    EVENT_PEER_YIELDED),
		WAY(SECONDARY, SESSION_COLO, ACTION_NOT_TAKEN, EVENT_OPERATOR_TAKE,
		    EVENT_TAKE_TIMEOUT),
		WAY(PRIMARY, SESSION_EXITED, ACTION_NOT_TAKEN, EVENT_COLO_EXIT,
		    EVENT_OPERATOR_TAKE, EVENT_TAKE_TIMEOUT),
		WAY(PRIMARY, SESSION_EXITED, ACTION_NOT_TAKEN, EVENT_OPERATOR_TAKE,
		    EVENT_COLO_EXIT, EVENT_TAKE_TIMEOUT),
		WAY(PRIMARY, SESSION_CLAIMING, ACTION_CLAIM, EVENT_OPERATOR_TAKE,
		    EVENT_PEER_LOST),
		WAY(PRIMARY, SESSION_COLO, ACTION_UNCLAIM, EVENT_OPERATOR_TAKE, EVENT_PEER_LOST,
		    EVENT_PEER_ALIVE),
		WAY(PRIMARY, SESSION_CLAIMING, ACTION_CLAIM, EVENT_OPERATOR_CLAIM),
		/* ... or not: then his word stands */
		WAY(SECONDARY, SESSION_FAILING, ACTION_FAIL_OVER_QEMU, EVENT_OPERATOR_FORCE,
		    EVENT_FORCED),
		WAY(SECONDARY, SESSION_FORCING, ACTION_FORCE, EVENT_PEER_LOST,
		    EVENT_OPERATOR_FORCE, EVENT_PEER_ALIVE, EVENT_PEER_LOST),
		WAY(SECONDARY, SESSION_LOST, ACTION_YIELD, EVENT_OPERATOR_FORCE,
		    EVENT_PEER_ACTIVE, EVENT_FORCED),
		/* both want: the primary */
		WAY(SECONDARY, SESSION_LOST, ACTION_YIELD, EVENT_OPERATOR_TAKE,
		    EVENT_PEER_TAKING),
		WAY(PRIMARY, SESSION_TAKING, ACTION_TAKE, EVENT_OPERATOR_TAKE,
		    EVENT_PEER_TAKING),
		WAY(SECONDARY, SESSION_LOST, ACTION_YIELD, EVENT_OPERATOR_FORCE,
		    EVENT_PEER_TAKING),
		WAY(PRIMARY, SESSION_FORCING, ACTION_FORCE, EVENT_OPERATOR_FORCE,
		    EVENT_PEER_TAKING),
	};

	(void)state;
	CHECK_WAYS(SESSION_COLO, ways);
}

static void from_idle(void **state)
{
	static const struct way ways[] = {
		/* a start that fails leads back */
		WAY(PRIMARY, SESSION_IDLE, ACTION_REFUSE, EVENT_START, EVENT_NOT_BEGUN),
		WAY(PRIMARY, SESSION_IDLE, ACTION_BEGIN, EVENT_START, EVENT_COLO_EXIT,
		    EVENT_BEGUN),
		WAY(SECONDARY, SESSION_LOST, ACTION_END, EVENT_START, EVENT_COLO_EXIT),
		/* a secondary that does not know that it began takes nothing over */
		WAY(SECONDARY, SESSION_STARTING, ACTION_START, EVENT_START, EVENT_PEER_LOST,
		    EVENT_PEER_YIELDED, EVENT_OPERATOR_FORCE),
		WAY(SECONDARY, SESSION_STARTING, ACTION_REFUSE, EVENT_START, EVENT_FAILOVER),
		WAY(SECONDARY, SESSION_IDLE, ACTION_REFUSE, EVENT_FAILOVER),
		/* QEMU's start is told from the state machine's */
		WAY(PRIMARY, SESSION_ALONE, ACTION_FAILOVER, EVENT_START, EVENT_FAILOVER),
		/* no COLO: nobody is taken over from */
		WAY(PRIMARY, SESSION_IDLE, ACTION_NONE, EVENT_PEER_LOST, EVENT_PEER_YIELDED,
		    EVENT_PEER_ACTIVE),
		/* a host that comes back, and the other is the survivor */
		WAY(PRIMARY, SESSION_LOST, ACTION_YIELD, EVENT_PEER_SURVIVOR),
		WAY(SECONDARY, SESSION_IDLE, ACTION_NONE, EVENT_PEER_SURVIVOR),
	};

	(void)state;
	CHECK_WAYS(SESSION_IDLE, ways);
}

/* The survivor brings a new pair up, and may fail at it. */
static void from_alone(void **state)
{
	static const struct way ways[] = {
		WAY(PRIMARY, SESSION_COLO, ACTION_START, EVENT_START, EVENT_BEGUN),
		WAY(PRIMARY, SESSION_ALONE, ACTION_REFUSE, EVENT_START, EVENT_NOT_BEGUN),
		WAY(SECONDARY, SESSION_ALONE, ACTION_REFUSE, EVENT_START),
		WAY(PRIMARY, SESSION_ALONE, ACTION_SPLIT, EVENT_PEER_ACTIVE),
		WAY(SECONDARY, SESSION_ALONE, ACTION_SPLIT, EVENT_PEER_SURVIVOR),
		WAY(SECONDARY, SESSION_ALONE, ACTION_NONE, EVENT_PEER_LOST, EVENT_PEER_TAKING,
		    EVENT_OPERATOR_FORCE),
	};

	(void)state;
	CHECK_WAYS(SESSION_ALONE, ways);
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

/* No state and no event without a name, and no row that leads nowhere. */
static void table_is_sound(void **state)
{
	(void)state;
	for (int s = 0; s < SESSION_STATES; s++) {
		assert_non_null(session_state_names[s]);
		for (int e = 0; e < 2 * SESSION_EVENTS; e++) {
			const struct session_row *row =
				session_look_up(e % 2 ? PRIMARY : SECONDARY, s, e / 2);

			assert_true(!row || (row->action < SESSION_ACTIONS &&
					     row->next != SESSION_STATES));
			assert_non_null(session_event_names[e / 2]);
		}
	}
}

/*
 * Whatever the state: QEMU is told to fail over only after one of these, and a
 * secondary is active only after QEMU's stage that follows from it.
 */
static void who_may_go_on(void **state)
{
	static const bool fit[SESSION_EVENTS] = {
		[EVENT_GRANTED] = true,        [EVENT_FORCED] = true,
		[EVENT_PEER_YIELDED] = true,   [EVENT_PEER_QEMU_GONE] = true,
		[EVENT_OPERATOR_TAKE] = true,  [EVENT_OPERATOR_CLAIM] = true,
		[EVENT_OPERATOR_FORCE] = true,
	};

	(void)state;
	for (int s = 0; s < SESSION_STATES; s++) {
		for (int e = 0; e < 2 * SESSION_EVENTS; e++) {
			enum colo_role role = e % 2 ? PRIMARY : SECONDARY;
			enum session_event event = e / 2;
			const struct session_row *row = session_look_up(role, s, event);

			if (!row)
				continue;
			if (row->next == SESSION_FAILING && s != SESSION_FAILING) {
				assert_int_equal(row->action, ACTION_FAIL_OVER_QEMU);
				assert_true(fit[event] && event != EVENT_OPERATOR_TAKE &&
					    event != EVENT_OPERATOR_CLAIM &&
					    event != EVENT_OPERATOR_FORCE);
			}
			if (row->action == ACTION_FAIL_OVER_QEMU)
				assert_true(fit[event]);
			if (row->action == ACTION_FAILOVER && role == SECONDARY)
				assert_true(s == SESSION_FAILING || s == SESSION_ALONE);
			if (row->next == SESSION_ALONE && s != SESSION_ALONE)
				assert_int_equal(row->action, ACTION_FAILOVER);
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
		       EVENTS(EVENT_FAILOVER, EVENT_PEER_LOST, EVENT_OPERATOR_FORCE,
			      EVENT_GRANTED, EVENT_FORCED, EVENT_PEER_QEMU_GONE));
	assert_int_equal(session.state, SESSION_LOST);
	assert_int_equal(log.actions, 1);
	assert_int_equal(log.action[0], ACTION_REFUSE);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(checkpoints),
	cmocka_unit_test(from_colo),
	cmocka_unit_test(from_idle),
	cmocka_unit_test(from_alone),
	cmocka_unit_test(failed_action_changes_nothing),
	cmocka_unit_test(meaningless_is_told),
	cmocka_unit_test(table_is_sound),
	cmocka_unit_test(who_may_go_on),
	cmocka_unit_test(lost_stays_shut),
};

UNIT_RUN(session, tests)
