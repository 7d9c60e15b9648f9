/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The control socket of a daemon, COLO_RUN_DIR/NAME.sock: JSON, a line each
 * way. {"command": "status" | "checkpoint" | "failover" | "start" | "resync" |
 * "cancel" | "events"} ("failover" with "force", "start" with "disks-equal": true
 * or without) is answered
 * by {"return": ...} or {"error": TEXT}; after "events", objects with a member
 * "event" follow as things happen.
 */
#ifndef COLO_CONTROL_H
#define COLO_CONTROL_H

#include <jansson.h>

#define COLO_RUN_DIR "/run/colo-bpf"

struct control_client {
	int fd;
	char *buffer;
	size_t length;
	size_t size;
};

/* The path of the socket of NAME. */
void control_path(char *path, size_t size, const char *name);

/* 0; -ENOENT or -ECONNREFUSED: no daemon. No message. */
int control_open(struct control_client *client, const char *name);
/* The same, with a message. */
int control_reach(struct control_client *client, const char *name);
void control_close(struct control_client *client);

int control_send(struct control_client *client, const char *command);
/* With more members than "command"; taken over. */
int control_send_object(struct control_client *client, json_t *request);

/* The next line, NULL: none in timeout_ms (-1: no bound) or the daemon ended. */
json_t *control_receive(struct control_client *client, int timeout_ms);

/*
 * One command: its "return", or NULL with a message. *running, if not NULL,
 * becomes 0 and no message is printed if there is no daemon.
 */
json_t *control_call(const char *name, const char *command, int *running);

#endif
