// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>

#include "log.h"
#include "peer.h"
#include "urgent.h"

#define READ_MAX 64           /* datagrams of a path at a time */
#define PROBE_NS 500000000ULL /* a try that has no answer by then is given up */
#define LINK     0            /* the first path */

const char *const peer_health_names[] = {
	[PEER_UNKNOWN] = "unknown",  [PEER_ALIVE] = "alive", [PEER_LINK_DOWN] = "link-down",
	[PEER_DOWN] = "daemon-down", [PEER_LOST] = "lost",
};

/* ----------------------------------------------------------- addresses --- */

/* Split "[A]:P", "A:P", "A" (an IPv6 address without brackets has no port). */
static int split_address(const char *text, char host[64], const char **port)
{
	const char *end, *colon;
	size_t length;

	*port = NULL;
	if (*text == '[') {
		end = strchr(++text, ']');
		if (!end || (end[1] && end[1] != ':'))
			return -EINVAL;
		*port = end[1] ? end + 2 : NULL;
		length = end - text;
	} else {
		colon = strchr(text, ':');
		if (colon && strchr(colon + 1, ':'))
			colon = NULL;
		*port = colon ? colon + 1 : NULL;
		length = colon ? (size_t)(colon - text) : strlen(text);
	}
	if (!length || length >= 64)
		return -EINVAL;
	memcpy(host, text, length);
	host[length] = 0;
	return 0;
}

int peer_parse_address(const char *text, struct sockaddr_storage *address, socklen_t *length)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
	unsigned long number = PEER_PORT;
	const char *port;
	char host[64], *end;

	memset(address, 0, sizeof(*address));
	if (split_address(text, host, &port))
		return -EINVAL;
	if (port) {
		number = strtoul(port, &end, 10);
		if (*port < '0' || *port > '9' || *end || !number || number > 65535)
			return -EINVAL;
	}
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(number);
		*length = sizeof(*v4);
		return 0;
	}
	if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(number);
		*length = sizeof(*v6);
		return 0;
	}
	return -EINVAL;
}

int peer_parse_endpoint(const char *text, struct sockaddr_storage *address, socklen_t *length)
{
	const char *port;
	char host[64];

	if (split_address(text, host, &port) || !port)
		return -EINVAL;
	return peer_parse_address(text, address, length);
}

void peer_text(char *text, size_t size, const char *address, __u32 port)
{
	snprintf(text, size, strchr(address, ':') ? "[%s]:%u" : "%s:%u", address, port);
}

/* -------------------------------------------------------------- sockets - */

int peer_resolve(const char *address, __u32 port, const char *device,
		 struct sockaddr_storage *to, socklen_t *length)
{
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)to;
	char text[80];

	peer_text(text, sizeof(text), address, port);
	if (peer_parse_address(text, to, length))
		return -EINVAL;
	if (device && to->ss_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr))
		v6->sin6_scope_id = if_nametoindex(device);
	return 0;
}

void peer_free_bind(int fd, int family)
{
	int one = 1;

	if (family == AF_INET)
		setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof(one));
	else
		setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &one, sizeof(one));
}

static int set_options(int fd, int family, const char *device)
{
	int one = 1;

	urgent(fd, family);
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	peer_free_bind(fd, family);
	if (device && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, strlen(device)))
		return -errno;
	return 0;
}

/* device: of the link; NULL for another path, whose addresses say where it is. */
static int path_socket(struct peer_path *path, const struct sockaddr_storage *local,
		       const char *device)
{
	int err;

	path->fd = socket(path->to.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (path->fd < 0)
		return -errno;
	err = set_options(path->fd, path->to.ss_family, device);
	if (!err && bind(path->fd, (const struct sockaddr *)local, path->to_length))
		err = -errno;
	/* So that a link without an address in the peer's network is found now. */
	if (!err && device && connect(path->fd, (struct sockaddr *)&path->to, path->to_length))
		err = -errno;
	return err;
}

static int path_open(struct peer *peer, const struct config *config, const char *ours,
		     const char *theirs, __u64 now_ns)
{
	bool link = !peer->paths;
	struct peer_path *path = &peer->path[peer->paths++];
	struct sockaddr_storage local;
	int err;

	*path = (struct peer_path){
		.peer = peer, .fd = -1, .address = theirs, .heard_ns = now_ns};
	err = peer_resolve(ours, config->peer_port, peer->device, &local, &path->to_length);
	if (!err)
		err = peer_resolve(theirs, config->peer_port, peer->device, &path->to,
				   &path->to_length);
	if (!err)
		err = path_socket(path, &local, link ? peer->device : NULL);
	if (err)
		log_error("peer %s: no socket for heartbeats%s%s: %s%s", theirs,
			  link ? " on " : "", link ? peer->device : "", strerror(-err),
			  err == -ENETUNREACH ? " (has the link an address in its network?)" :
						"");
	return err;
}

int peer_open(struct peer *peer, const struct config *config, __u64 now_ns)
{
	const struct config_host *self = config_self(config), *other = config_peer(config);
	int err;

	memset(peer, 0, sizeof(*peer));
	peer->probe_fd = -1;
	peer->lost_ns = config->peer_timeout_ms * 1000000ULL;
	snprintf(peer->device, sizeof(peer->device), "%s", self->link);
	heartbeat_key(&peer->key_out, &config->secret, self->name);
	heartbeat_key(&peer->key_in, &config->secret, other->name);
	while (!peer->nonce)
		secret_random(&peer->nonce, sizeof(peer->nonce));
	err = path_open(peer, config, self->address, other->address, now_ns);
	for (__u32 i = 0; !err && i < self->paths; i++)
		err = path_open(peer, config, self->path[i], other->path[i], now_ns);
	return err;
}

static void probe_end(struct peer *peer)
{
	if (peer->probe_fd >= 0)
		close(peer->probe_fd);
	peer->probe_fd = -1;
}

void peer_close(struct peer *peer)
{
	probe_end(peer);
	for (__u32 i = 0; i < peer->paths; i++)
		if (peer->path[i].fd >= 0)
			close(peer->path[i].fd);
	peer->paths = 0;
}

/* ----------------------------------------------------------------- send -- */

static void path_send(const struct peer_path *path, const unsigned char bytes[HEARTBEAT_BYTES])
{
	bool link = path == &path->peer->path[LINK];
	const struct sockaddr *to = link ? NULL : (const struct sockaddr *)&path->to;
	socklen_t length = link ? 0 : path->to_length;

	/* An error is that of the one before; peer_judge() sees the silence. */
	if (sendto(path->fd, bytes, HEARTBEAT_BYTES, 0, to, length) < 0)
		sendto(path->fd, bytes, HEARTBEAT_BYTES, 0, to, length);
}

static void complete(struct peer *peer, struct heartbeat *beat, __u64 now_ns)
{
	/* Two in one tick of the clock are two, too. */
	peer->sent_ns = now_ns > peer->sent_ns ? now_ns : peer->sent_ns + 1;
	beat->nonce = peer->nonce;
	beat->sent_ns = peer->sent_ns;
}

void peer_send(struct peer *peer, const struct heartbeat *news, __u64 now_ns)
{
	unsigned char bytes[HEARTBEAT_BYTES];
	struct heartbeat beat = *news;

	peer->said = beat;
	complete(peer, &beat, now_ns);
	beat.echo_nonce = peer->last.nonce;
	beat.echo_ns = peer->last.sent_ns;
	if (beat.flags & HEARTBEAT_PROMISE)
		peer->promise_ns = peer->last_ns;
	heartbeat_encode(&beat, &peer->key_out, bytes);
	for (__u32 i = 0; i < peer->paths; i++)
		path_send(&peer->path[i], bytes);
}

/*
 * To a daemon that is new, or to whoever repeats what an old one has sent: what
 * this side said last, with the echo that it needs to send one that counts.
 */
static void answer_stranger(struct peer_path *path, const struct heartbeat *theirs,
			    __u64 now_ns)
{
	struct peer *peer = path->peer;
	struct heartbeat beat = peer->said;
	unsigned char bytes[HEARTBEAT_BYTES];

	if (beat.role == COLO_ROLE_NONE) /* nothing yet */
		return;
	complete(peer, &beat, now_ns);
	beat.echo_nonce = theirs->nonce;
	beat.echo_ns = theirs->sent_ns;
	beat.flags &= ~HEARTBEAT_PROMISE;
	heartbeat_encode(&beat, &peer->key_out, bytes);
	path_send(path, bytes);
}

/* -------------------------------------------------------------- receive -- */

static void warn_once(struct peer *peer, int err)
{
	if (peer->warned)
		return;
	peer->warned = true;
	log_warning(
		"peer: %s",
		err == -EPROTO ?
			"its daemon speaks another version: use the same colo-bpf on both hosts" :
		err == -EACCES ?
			"its heartbeats are made with another secret: secret_file must be the same on both hosts" :
			"datagrams that are no heartbeats come to its port");
}

/* Does it count: is it none that somebody has kept? */
static bool counts(const struct peer_path *path, const struct heartbeat *beat)
{
	const struct peer *peer = path->peer;

	if (beat->echo_nonce != peer->nonce || beat->echo_ns > peer->sent_ns)
		return false;
	/* A daemon that is new echoes what none before it has. */
	if (beat->nonce != peer->last.nonce)
		return beat->echo_ns > peer->echoed_ns;
	return beat->sent_ns > path->sent_ns &&
	       beat->sent_ns + peer->lost_ns >= peer->last.sent_ns;
}

/* Is it the newest? What comes over several paths comes several times. */
static bool take(struct peer_path *path, const struct heartbeat *beat, __u64 now_ns)
{
	struct peer *peer = path->peer;
	bool same = beat->nonce == peer->last.nonce;

	for (__u32 i = 0; !same && i < peer->paths; i++)
		peer->path[i].sent_ns = 0;
	path->heard_ns = now_ns;
	path->sent_ns = beat->sent_ns;
	if (beat->echo_ns > peer->echoed_ns)
		peer->echoed_ns = beat->echo_ns;
	if (same && beat->sent_ns <= peer->last.sent_ns)
		return false;
	peer->known = true;
	peer->last = *beat;
	peer->last_ns = now_ns;
	peer->refused_ns = 0;
	return true;
}

static void path_receive(struct peer_path *path, __u64 now_ns, void (*call)(void *context),
			 void *context)
{
	for (int i = 0; i < READ_MAX; i++) {
		unsigned char bytes[512];
		struct heartbeat beat;
		ssize_t n = recv(path->fd, bytes, sizeof(bytes), 0);
		int err;

		if (n < 0 && (errno == EAGAIN || errno == ENOTCONN))
			break;
		if (n < 0) /* what became of one that was sent */
			continue;
		err = heartbeat_decode(&beat, &path->peer->key_in, bytes, n);
		if (err)
			warn_once(path->peer, err);
		else if (!counts(path, &beat) && beat.echo_nonce != path->peer->nonce)
			answer_stranger(path, &beat, now_ns);
		else if (counts(path, &beat) && take(path, &beat, now_ns))
			call(context);
	}
}

void peer_receive(struct peer *peer, __u64 now_ns, void (*call)(void *context), void *context)
{
	for (__u32 i = 0; i < peer->paths; i++)
		path_receive(&peer->path[i], now_ns, call, context);
}

/* ---------------------------------------------------------------- judge -- */

static void probe_begin(struct peer *peer, __u64 now_ns)
{
	const struct peer_path *link = &peer->path[LINK];
	int fd = socket(link->to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, peer->device, strlen(peer->device));
	if (connect(fd, (const struct sockaddr *)&link->to, link->to_length) &&
	    errno != EINPROGRESS) {
		if (errno == ECONNREFUSED)
			peer->refused_ns = now_ns;
		close(fd);
		return;
	}
	peer->probe_fd = fd;
	peer->probe_ns = now_ns;
}

/* Refused, or taken by another service: its host lives. */
static void probe_look(struct peer *peer, __u64 now_ns)
{
	struct pollfd poll_fd = {.fd = peer->probe_fd, .events = POLLOUT};
	socklen_t length = sizeof(int);
	int err = 0;

	if (poll(&poll_fd, 1, 0) == 1) {
		getsockopt(peer->probe_fd, SOL_SOCKET, SO_ERROR, &err, &length);
		if (!err || err == ECONNREFUSED)
			peer->refused_ns = now_ns;
		probe_end(peer);
	} else if (now_ns > peer->probe_ns + PROBE_NS) {
		probe_end(peer);
	}
}

static bool leaving(const struct peer *peer)
{
	return peer->last.flags & HEARTBEAT_LEAVING;
}

void peer_probe(struct peer *peer, __u64 now_ns)
{
	if (peer->probe_fd >= 0)
		probe_look(peer, now_ns);
	if (peer->probe_fd < 0 &&
	    (leaving(peer) || now_ns > peer_heard_ns(peer) + peer->lost_ns / 4))
		probe_begin(peer, now_ns);
}

__u64 peer_heard_ns(const struct peer *peer)
{
	__u64 heard = 0;

	for (__u32 i = 0; i < peer->paths; i++)
		if (peer->path[i].heard_ns > heard)
			heard = peer->path[i].heard_ns;
	return heard;
}

enum peer_health peer_judge(const struct peer *peer, __u64 now_ns)
{
	bool silent = now_ns > peer_heard_ns(peer) + peer->lost_ns;

	if (!peer->known)
		return PEER_UNKNOWN;
	if (!silent && !leaving(peer))
		return now_ns > peer->path[LINK].heard_ns + peer->lost_ns ? PEER_LINK_DOWN :
									    PEER_ALIVE;
	if (leaving(peer) && !silent)
		return PEER_DOWN;
	if (peer->refused_ns && now_ns <= peer->refused_ns + peer->lost_ns)
		return PEER_DOWN;
	return PEER_LOST;
}

void peer_watch_paths(struct peer *peer, __u64 now_ns)
{
	/* That of a peer that is silent everywhere is said elsewhere. */
	bool heard = now_ns <= peer_heard_ns(peer) + peer->lost_ns;

	for (__u32 i = 0; heard && peer->paths > 1 && i < peer->paths; i++) {
		struct peer_path *path = &peer->path[i];
		bool silent = now_ns > path->heard_ns + peer->lost_ns;

		if (silent == path->silent)
			continue;
		path->silent = silent;
		if (silent)
			log_warning("peer: nothing is heard from %s%s", path->address,
				    i == LINK ? ", over the link" : "");
		else
			log_info("peer: %s is heard%s", path->address,
				 i == LINK ? ", over the link" : "");
	}
}
