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
	SESSION_IDLE,     /* no COLO: primary a wire, secondary shut */
	SESSION_STARTING, /* COLO begins: both sides are to know the session */
	SESSION_COLO,     /* the pair runs */
	SESSION_EXITED,   /* QEMU left COLO with an error; who goes on is open */
	SESSION_TAKING,   /* wants to go on alone, waits for the peer to yield */
	SESSION_CLAIMING, /* the peer is lost: the policy decides who goes on */
	SESSION_FORCING,  /* the operator has decided: as TAKING, but it ends that way */
	SESSION_FAILING,  /* QEMU was told to fail over, its stage is awaited */
	SESSION_ALONE,    /* the survivor */
	SESSION_LOST,     /* the other side goes on, or the guest is gone: shut */
	SESSION_STATES,
	SESSION_BEFORE, /* in the table: that before STARTING, TAKING, CLAIMING */
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
	/* the primary has told the secondary the session, or could not */
	EVENT_BEGUN,
	EVENT_NOT_BEGUN,
	/* what the peer's heartbeats mean; sent again while it lasts */
	EVENT_PEER_ALIVE,     /* and it is in this session */
	EVENT_PEER_LINK_DOWN, /* ... but not over the link */
	EVENT_PEER_DOWN,
	EVENT_PEER_LOST,
	/* what the peer says; likewise */
	EVENT_PEER_QEMU_GONE,
	EVENT_PEER_TAKING,
	EVENT_PEER_ACTIVE,
	EVENT_PEER_YIELDED,
	EVENT_PEER_OUT,      /* it knows nothing of this session, and is not shut */
	EVENT_PEER_SURVIVOR, /* it is the survivor of a session that is not ours */
	/* the primary's replica has lost something; sent again while it lasts */
	EVENT_REPLICA_FAILED,
	/* the policy */
	EVENT_GRANTED,
	EVENT_REFUSED,
	/* the peer has not answered TAKING in time; FORCING has lasted long enough */
	EVENT_TAKE_TIMEOUT,
	EVENT_FORCED,
	/* the operator's failover: with a peer that is heard, without, with --force */
	EVENT_OPERATOR_TAKE,
	EVENT_OPERATOR_CLAIM,
	EVENT_OPERATOR_FORCE,
	SESSION_EVENTS,
};

enum session_action {
	ACTION_NONE,
	ACTION_BEGIN,          /* primary: make a session, tell the secondary */
	ACTION_START,          /* open the epoch, mode by role, acknowledge */
	ACTION_END,            /* COLO did not begin: shut */
	ACTION_STOP,           /* mark the input, acknowledge */
	ACTION_COMMIT,         /* release what is held, acknowledge */
	ACTION_RESET,          /* clear offsets, acknowledge */
	ACTION_OVER,           /* QEMU has failed over without our word: acknowledged later */
	ACTION_FAILOVER,       /* release all, be active, announce, acknowledge */
	ACTION_FAIL_OVER_QEMU, /* the block part, then x-colo-lost-heartbeat */
	ACTION_TAKE,           /* tell the peer, start the clock */
	ACTION_NOT_TAKEN,      /* say so */
	ACTION_CLAIM,          /* set the policy to work: fence, witness, or the operator */
	ACTION_UNCLAIM,        /* call it back */
	ACTION_FORCE,          /* tell the peer, wait for the lease's end */
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
	enum session_state before; /* STARTING, TAKING, CLAIMING, FORCING */
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
