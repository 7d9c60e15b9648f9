/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The state machine that drives one side of the pair, as a table: in a state,
 * an event leads to an action and to the next state. It does nothing itself;
 * the daemon feeds it and carries the actions out.
 */
#ifndef COLO_SESSION_H
#define COLO_SESSION_H

#include <colo/abi.h>

enum session_state {
	SESSION_IDLE,    /* no COLO: primary a wire, secondary shut */
	SESSION_COLO,    /* the pair runs */
	SESSION_EXITED,  /* QEMU left COLO with an error; who goes on is open */
	SESSION_TAKING,  /* wants to go on alone, waits for the peer to yield */
	SESSION_FAILING, /* QEMU was told to fail over, its stage is awaited */
	SESSION_ALONE,   /* the survivor */
	SESSION_LOST,    /* the other side goes on, or the guest is gone: shut */
	SESSION_STATES,
	SESSION_BEFORE, /* in the table: the state before TAKING */
};

enum session_event {
	/* stages of QEMU's hooks */
	EVENT_START,
	EVENT_STOP,
	EVENT_COMMIT,
	EVENT_RESET,
	EVENT_FAILOVER,
	/* QEMU */
	EVENT_COLO_EXIT,
	EVENT_QEMU_GONE,
	/* what the peer's silence means; sent again while it lasts */
	EVENT_PEER_UNKNOWN,
	EVENT_PEER_ALIVE,
	EVENT_PEER_DOWN,
	EVENT_PEER_LOST,
	/* what the peer says; likewise */
	EVENT_PEER_QEMU_GONE,
	EVENT_PEER_TAKING,
	EVENT_PEER_ACTIVE,
	EVENT_PEER_YIELDED,
	/* the peer has not answered TAKING in time */
	EVENT_TAKE_TIMEOUT,
	/* the operator's failover, with a peer that lives and without */
	EVENT_OPERATOR_TAKE,
	EVENT_OPERATOR_FAILOVER,
	SESSION_EVENTS,
};

enum session_action {
	ACTION_NONE,
	ACTION_START,          /* open the epoch, mode by role, acknowledge */
	ACTION_STOP,           /* mark the input, acknowledge */
	ACTION_COMMIT,         /* release what is held, acknowledge */
	ACTION_RESET,          /* clear offsets, acknowledge */
	ACTION_FAILOVER,       /* release all, be active, announce, acknowledge */
	ACTION_FAIL_OVER_QEMU, /* the block part, then x-colo-lost-heartbeat */
	ACTION_TAKE,           /* tell the peer, start the clock */
	ACTION_NOT_TAKEN,      /* say so */
	ACTION_YIELD,          /* discard, shut */
	ACTION_GONE,           /* tell the peer, discard, shut */
	ACTION_SPLIT,          /* both are active: say so, loudly */
	ACTION_REFUSE,         /* a stage that must not happen: acknowledge it with an error */
	SESSION_ACTIONS,
};

struct session_row {
	unsigned int roles; /* 1 << enum colo_role */
	enum session_state state;
	enum session_event event;
	enum session_action action;
	enum session_state next;
};

struct session {
	enum colo_role role;
	enum session_state state;
	enum session_state before; /* TAKING */
	/* 0 or -errno: then the state stays as it was. */
	int (*act)(void *context, enum session_action action, enum session_event event);
	/* After a change of the state. */
	void (*changed)(void *context, enum session_state from, enum session_event event);
	void *context;
};

extern const char *const session_state_names[SESSION_STATES];
extern const char *const session_event_names[SESSION_EVENTS];

/* The row for it, NULL: the event means nothing in this state. */
const struct session_row *session_look_up(enum colo_role role, enum session_state state,
					  enum session_event event);

/* 0; -ENOENT: no row; what the action returned. */
int session_handle(struct session *session, enum session_event event);

#endif
