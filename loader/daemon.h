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

#include "datapath.h"
#include "peer.h"
#include "qmp.h"
#include "session.h"

#define MS_NS    1000000ULL
#define NO_TIMER (~0ULL)

enum lost_policy {
	LOST_FAILOVER,
	LOST_MANUAL,
};

struct daemon_options {
	const char *name;
	const char *qmp;         /* socket */
	const char *peer;        /* NULL: as attached */
	const char *on_failover; /* file of QMP commands, or NULL */
	__u32 heartbeat_ms;
	__u32 peer_timeout_ms;
	__u32 ack_timeout_ms; /* QEMU's, for our answers */
	__u32 wait_qmp_s;     /* for the socket to be there */
	int peer_lost;        /* enum lost_policy */
};

/* A stage of QEMU's that was announced. */
struct stage {
	char name[32];
	__u64 epoch;
	bool ack;  /* QEMU waits for our answer */
	bool mark; /* which is to name a mark */
};

struct server;

struct daemon {
	struct daemon_options options;
	struct datapath dp;
	struct session session;
	struct qmp *qmp;
	struct peer peer;
	struct server *server;
	struct ring_buffer *ring;

	struct stage stage; /* the one that is being handled */
	__u8 guest_mac[6];  /* as QEMU says, 0 if it has several NICs */
	bool hooks;         /* QEMU has them, and they are enabled */
	bool qemu_gone;
	bool peer_joined;  /* it was seen in COLO in this session */
	__u64 asked_epoch; /* last epoch for which QEMU was asked */
	__u64 tried_ns;    /* when QEMU's channel to the peer was tried */

	bool split; /* both sides are active; was said */

	bool ending;
	bool leaving; /* by a signal: the data path goes on */
	int status;   /* exit status */

	/* CLOCK_MONOTONIC, NO_TIMER if nothing is to be done */
	__u64 tick_ns;
	__u64 heartbeat_ns;
	__u64 ask_ns;
	__u64 take_ns;
	__u64 linger_ns; /* when to end after the guest is gone */
};

__u64 daemon_now(void);

/* daemon.c */
void daemon_init(struct daemon *d);
int daemon_adopt(struct daemon *d);   /* the session's state, from the maps */
void daemon_timers(struct daemon *d); /* do what is due */
__u64 daemon_next(const struct daemon *d);
void daemon_heartbeat(struct daemon *d);
void daemon_peer_input(struct daemon *d);
int daemon_ring_event(void *d, void *data, size_t size);
void daemon_event(struct daemon *d, enum session_event event);
void daemon_end(struct daemon *d, int status);
json_t *daemon_status(struct daemon *d);
/* Operator's commands: NULL, or what is wrong. */
const char *daemon_checkpoint(struct daemon *d);
const char *daemon_failover(struct daemon *d);

/* hooks.c */
int hooks_connect(struct daemon *d);
/* error NULL: done; mark 0: there is none to name. */
void hooks_ack(struct daemon *d, const char *error, __u64 mark);
void hooks_ask(struct daemon *d, __u64 epoch, const char *reason);
void hooks_fail_over(struct daemon *d);
bool hooks_check_file(const char *path);

/* server.c */
int server_open(struct daemon *d, int epoll);
void server_close(struct daemon *d);
void server_accept(struct daemon *d);
void server_client(struct daemon *d, int fd);
bool server_owns(const struct daemon *d, int fd);
bool server_is_listener(const struct daemon *d, int fd);
/* To all that follow the events; taken over. */
void server_publish(struct daemon *d, json_t *event);

/* announce.c: gratuitous ARP on the port for the guest's addresses. */
int announce_guest(const struct datapath *dp, const __u8 mac[6]);

/* notify.c: to the service manager (sd_notify(3)), if there is one. */
void notify_manager(const char *state);

#endif
