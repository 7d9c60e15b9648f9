/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Heartbeats between the daemons of the two hosts: small UDP messages over the
 * link, sent each heartbeat_ms and at once when something changed.
 *
 * When messages stop to come, the daemon or its host may be gone. Then a TCP
 * connection to the same port is tried, which nobody listens on: a host that
 * lives refuses it, and the peer is DOWN; its data path and QEMU may go on.
 * Without an answer the peer is LOST. (The "port unreachable" that UDP gets is
 * no such answer: Linux sends one a second.)
 */
#ifndef COLO_PEER_H
#define COLO_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <linux/types.h>

#include <colo/abi.h>

#include "session.h"

#define PEER_MAGIC   0x434f4c4fU /* "COLO" */
#define PEER_VERSION 1
#define PEER_PORT    7730
#define PEER_BYTES   64

enum peer_message_flag {
	PEER_QEMU_GONE = 1 << 0,  /* my QEMU is gone, for good */
	PEER_LEAVING = 1 << 1,    /* my daemon ends, all else goes on */
	PEER_INELIGIBLE = 1 << 2, /* my guest cannot take over */
};

struct peer_message {
	enum colo_role role;
	enum session_state state;
	__u32 flags; /* enum peer_message_flag */
	__u64 epoch;
	__u64 sequence;
	char name[32]; /* the sender's instance, for people */
};

/* On the wire: big endian, PEER_BYTES long (a later version may be longer). */
void peer_encode(const struct peer_message *message, unsigned char bytes[PEER_BYTES]);

/*
 * 0; -EBADMSG: not a message of ours (magic, role, state); -EPROTO: another
 * version; -EMSGSIZE: cut off.
 */
int peer_decode(struct peer_message *message, const unsigned char *bytes, size_t length);

/* ADDR, ADDR:PORT, [ADDR6], [ADDR6]:PORT. 0 or -EINVAL. */
int peer_parse_address(const char *text, struct sockaddr_storage *address, socklen_t *length);

/* ADDR:PORT or [ADDR6]:PORT */
void peer_text(char *text, size_t size, const char *address, __u32 port);

enum peer_health {
	PEER_UNKNOWN, /* never heard of */
	PEER_ALIVE,
	PEER_DOWN, /* its host answers, its daemon does not */
	PEER_LOST,
};

extern const char *const peer_health_names[];

struct peer {
	int fd;
	__u64 lost_ns;    /* silence that is a loss */
	__u64 heard_ns;   /* the last message */
	__u64 refused_ns; /* the last sign of its host alone */
	bool leaving;     /* it said so in its last message */
	bool warned;      /* about what it sends */
	enum peer_health health;
	__u64 sequence;
	struct peer_message last;
	struct sockaddr_storage address;
	socklen_t address_length;
	char device[16];
	int probe_fd;   /* a connection that is being tried, or -1 */
	__u64 probe_ns; /* since when */
};

/*
 * Open the socket, bound to the link device; port: of the address. 0 or -errno
 * with a message.
 */
int peer_open(struct peer *peer, const char *address, const char *device, __u32 lost_ms,
	      __u64 now_ns);
void peer_close(struct peer *peer);

void peer_send(struct peer *peer, struct peer_message *message);

/*
 * Read one message. 1: it is in peer->last; 0: nothing more to read.
 */
int peer_receive(struct peer *peer, __u64 now_ns);

/* Look for its host, if the peer is silent: call it each heartbeat. */
void peer_probe(struct peer *peer, __u64 now_ns);

/* What the silence means by now. */
enum peer_health peer_judge(const struct peer *peer, __u64 now_ns);

#endif
