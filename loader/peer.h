/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The peer as its heartbeats show it: over the link, and over other paths if the
 * configuration has any.
 *
 * A heartbeat counts only if it echoes one that this daemon has sent: so it is
 * no old one that somebody repeats. The first of a daemon that has just started
 * cannot do that; it is answered at once, and the next one can.
 *
 * When heartbeats stop to come over the link but not elsewhere, the link is
 * down. When none comes, the daemon or its host may be gone. Then a TCP
 * connection to the same port of the link's address is tried, which nobody
 * listens on: a host that lives refuses it, and the peer's daemon is DOWN; its
 * data path and QEMU may go on. Without an answer the peer is LOST. (The "port
 * unreachable" that UDP gets is no such answer: Linux sends one a second.)
 */
#ifndef COLO_PEER_H
#define COLO_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <linux/types.h>

#include "config.h"
#include "heartbeat.h"
#include "loop.h"

#define PEER_PORT 7730

/* ADDR, ADDR:PORT, [ADDR6], [ADDR6]:PORT. 0 or -EINVAL. */
int peer_parse_address(const char *text, struct sockaddr_storage *address, socklen_t *length);

/* The same, and a port there must be. */
int peer_parse_endpoint(const char *text, struct sockaddr_storage *address, socklen_t *length);

/* A host's address of the configuration; device: where a link-local one is. 0 or -EINVAL. */
int peer_resolve(const char *address, __u32 port, const char *device,
		 struct sockaddr_storage *to, socklen_t *length);

/* So that bind() takes an address which comes to its device later than the daemon. */
void peer_free_bind(int fd, int family);

/* ADDR:PORT or [ADDR6]:PORT */
void peer_text(char *text, size_t size, const char *address, __u32 port);

enum peer_health {
	PEER_UNKNOWN, /* never heard of */
	PEER_ALIVE,
	PEER_LINK_DOWN, /* heard over other paths only */
	PEER_DOWN,      /* its host answers, its daemon does not */
	PEER_LOST,
};

extern const char *const peer_health_names[];

struct peer;

struct peer_path {
	struct peer *peer;
	int fd;
	struct sockaddr_storage to;
	socklen_t to_length;
	const char *address; /* the peer's */
	__u64 heard_ns;      /* the last that counts */
	__u64 sent_ns;       /* its sent_ns */
	bool silent;         /* was said */
};

struct peer {
	__u64 lost_ns; /* silence that is a loss */
	struct secret key_in, key_out;
	__u64 nonce;                                 /* this daemon's */
	__u64 sent_ns;                               /* of the last that was sent */
	struct peer_path path[1 + CONFIG_PATHS_MAX]; /* the first is the link */
	__u32 paths;
	bool known;            /* a heartbeat that counts has come */
	struct heartbeat said; /* of this side */
	struct heartbeat last; /* the newest of the peer */
	__u64 last_ns;         /* when it came */
	__u64 echoed_ns;       /* the last of ours that it has echoed: when that was sent */
	__u64 promise_ns;      /* when the last came to which this side has made a promise */
	__u64 refused_ns;      /* the last sign of its host alone */
	bool warned;           /* about what it sends */
	enum peer_health health;
	char device[16];
	int probe_fd;   /* a connection that is being tried, or -1 */
	__u64 probe_ns; /* since when */
};

/* Open the sockets. 0 or -errno with a message; peer_close() in any case. */
int peer_open(struct peer *peer, const struct config *config, __u64 now_ns);
void peer_close(struct peer *peer);

/* Over all paths. What is not about this side's state is filled in. */
void peer_send(struct peer *peer, const struct heartbeat *news, __u64 now_ns);

/*
 * Read what has come on all paths, and call for each heartbeat that is newer
 * than those before; it is in peer->last.
 */
void peer_receive(struct peer *peer, __u64 now_ns, void (*call)(void *context), void *context);

/* Look for its host, if the peer is silent: call it each heartbeat. */
void peer_probe(struct peer *peer, __u64 now_ns);

/* When it was heard last, whatever the path. */
__u64 peer_heard_ns(const struct peer *peer);

/* What the silence means by now. */
enum peer_health peer_judge(const struct peer *peer, __u64 now_ns);

/* A path that fell silent, or speaks again: it is said, once. */
void peer_watch_paths(struct peer *peer, __u64 now_ns);

#endif
