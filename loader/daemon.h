/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The daemon: one epoll loop that owns a data path and drives QEMU. run.c has
 * the loop and the command line, daemon.c what happens, hooks.c QEMU's side,
 * server.c the control socket.
 */
#ifndef COLO_DAEMON_H
#define COLO_DAEMON_H

#include <stdbool.h>
#include <jansson.h>
#include <linux/types.h>

#include "channel.h"
#include "config.h"
#include "datapath.h"
#include "history.h"
#include "loop.h"
#include "peer.h"
#include "plain.h"
#include "qmp.h"
#include "session.h"
#include "takeover.h"
#include "task.h"
#include "watchdog.h"

#define MS_NS 1000000ULL

/* What the command line says besides the configuration. */
struct daemon_options {
	const char *name;
	const char *config;      /* path of the file */
	const char *on_failover; /* file of QMP commands, or NULL */
};

struct server;

/* What is known of the primary's replica (replica.c). */
struct replica {
	bool asked;   /* QEMU's answer is awaited */
	bool failed;  /* and it was said */
	__u64 ask_ns; /* when QEMU is to be asked the next time */
};

struct daemon {
	struct daemon_options options;
	struct config *config;
	struct loop *loop;
	struct datapath dp;
	struct session session;
	struct qmp *qmp;
	struct peer peer;
	struct watchdog watchdog;
	struct takeover takeover;
	struct server *server;
	struct ring_buffer *ring;
	struct channel *channel;
	struct tasks tasks;
	struct history history;
	struct replica replica;
	struct plain plain;
	struct loop_timer connect; /* when QEMU's socket is tried again */
	int connect_error;         /* of the last try, so that it is said once */
	char connect_problem[256]; /* likewise of QMP itself */

	struct stage stage; /* the one that is being handled */
	__u8 guest_mac[6];  /* as QEMU says, 0 if it has several NICs */
	bool hooks;         /* QEMU's are enabled, or plain.on */
	bool qemu_gone;
	bool qemu_over;    /* it has failed over, and nobody here had told it */
	struct stage over; /* ... and waits for the answer to that */
	struct loop_timer over_timer;
	struct loop_timer alone_timer; /* the rest of a failover */
	int announced;                 /* addresses of the guest */
	char refusal[160];             /* why COLO does not begin, for QEMU */
	__u64 joined_ns;               /* sent_ns of the heartbeat that first said COLO */
	__u64 asked_epoch;             /* last epoch for which QEMU was asked */
	__u64 tried_ns;                /* when QEMU's channel to the peer was tried */

	bool split; /* both sides are active; was said */

	bool ending;
	bool leaving; /* by a signal: the data path goes on */
	int status;   /* exit status */

	/* CLOCK_MONOTONIC, NO_TIMER if nothing is to be done */
	__u64 tick_ns;
	__u64 heartbeat_ns;
	__u64 ask_ns;
	__u64 take_ns;
};

/* daemon.c */
void daemon_init(struct daemon *d);
int daemon_adopt(struct daemon *d);   /* the session's state, from the maps */
void daemon_timers(struct daemon *d); /* do what is due */
__u64 daemon_next(const struct daemon *d);
void daemon_heartbeat(struct daemon *d);
void daemon_peer_input(struct daemon *d);
void daemon_channel_changed(struct daemon *d, bool up);
int daemon_ring_event(void *d, void *data, size_t size);
void daemon_event(struct daemon *d, enum session_event event);
void daemon_end(struct daemon *d, int status);
json_t *daemon_status(struct daemon *d);
/* The data path takes the other role; outside COLO. 0 or -errno. */
int daemon_switch_role(struct daemon *d, enum colo_role role);
/* Operator's commands: NULL, or what is wrong. */
const char *daemon_checkpoint(struct daemon *d);
const char *daemon_failover(struct daemon *d, bool force);

/* reload.c: time-outs of the proxy into the map; the file anew, on SIGHUP. */
void daemon_set_proxy(struct daemon *d);
void daemon_reload(struct daemon *d);

/* hooks.c */
/* QEMU's socket is taken when it is there, and again when another QEMU comes. */
void hooks_connect(struct daemon *d);
void hooks_close(struct daemon *d);
void hooks_ack(struct daemon *d, const char *error); /* NULL: done */
/* The same for a stage that is answered later. */
void hooks_ack_stage(struct daemon *d, const struct stage *stage, const char *error);
void hooks_ask(struct daemon *d, __u64 epoch, const char *reason);
/* QEMU is at a stage, as its hooks would say; it waits for no answer. */
void hooks_stage(struct daemon *d, const char *name, __u64 epoch);
/* Of the commands that the hooks are, those that are not in query-commands' answer. */
#define HOOKS_COMMANDS 4
extern const char *const hooks_commands[HOOKS_COMMANDS];
json_t *hooks_missing(json_t *commands);
void hooks_fail_over(struct daemon *d);
void hooks_configure(struct daemon *d); /* QEMU's time-out for our answers */
bool hooks_check_file(const char *path);

/*
 * record.c: the history of checkpoints. Around what is done at a stage, with
 * the event's data or the answer to x-query-colo-proxy.
 */
void record_open(struct daemon *d);
void record_map(struct daemon *d); /* the maps were opened anew */
void record_stage(struct daemon *d, const json_t *figures);
void record_stage_end(struct daemon *d, const json_t *figures);
void record_resume(struct daemon *d);
extern const struct channel_method record_methods[];

/*
 * replica.c: the primary watches its replica, which its guest does not wait
 * for. When it has lost something this side goes on alone.
 */
void replica_watch(struct daemon *d, __u64 now); /* asks QEMU, if it is time to */
void replica_ask(struct daemon *d);              /* ... now */
void replica_event(struct daemon *d, const char *name, json_t *data);

/* server.c */
/* Is a daemon behind the control socket of that instance? */
bool server_is_there(const char *name);
int server_open(struct daemon *d);
void server_close(struct daemon *d);
/* To all that follow the events; taken over. */
void server_publish(struct daemon *d, json_t *event);

/* notify.c: to the service manager (sd_notify(3)), if there is one. */
void notify_manager(const char *state);

#endif
