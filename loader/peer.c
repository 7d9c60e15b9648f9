// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <endian.h>
#include <netinet/in.h>

#include "log.h"
#include "peer.h"

#define READ_MAX 64           /* datagrams at a time */
#define PROBE_NS 500000000ULL /* a try that has no answer by then is given up */

const char *const peer_health_names[] = {
	[PEER_UNKNOWN] = "unknown",
	[PEER_ALIVE] = "alive",
	[PEER_DOWN] = "daemon-down",
	[PEER_LOST] = "lost",
};

/* The message's layout: the offset of each field. */
enum {
	AT_MAGIC = 0,
	AT_VERSION = 4,
	AT_ROLE = 6,
	AT_STATE = 7,
	AT_FLAGS = 8,
	AT_EPOCH = 16,
	AT_SEQUENCE = 24,
	AT_NAME = 32,
};

static void put(unsigned char *to, __u64 value, int bytes)
{
	while (bytes--) {
		to[bytes] = value;
		value >>= 8;
	}
}

static __u64 get(const unsigned char *from, int bytes)
{
	__u64 value = 0;

	while (bytes--)
		value = value << 8 | *from++;
	return value;
}

void peer_encode(const struct peer_message *message, unsigned char bytes[PEER_BYTES])
{
	memset(bytes, 0, PEER_BYTES);
	put(bytes + AT_MAGIC, PEER_MAGIC, 4);
	put(bytes + AT_VERSION, PEER_VERSION, 2);
	put(bytes + AT_ROLE, message->role, 1);
	put(bytes + AT_STATE, message->state, 1);
	put(bytes + AT_FLAGS, message->flags, 4);
	put(bytes + AT_EPOCH, message->epoch, 8);
	put(bytes + AT_SEQUENCE, message->sequence, 8);
	memcpy(bytes + AT_NAME, message->name,
	       strnlen(message->name, sizeof(message->name) - 1));
}

int peer_decode(struct peer_message *message, const unsigned char *bytes, size_t length)
{
	memset(message, 0, sizeof(*message));
	if (length < AT_ROLE)
		return -EMSGSIZE;
	if (get(bytes + AT_MAGIC, 4) != PEER_MAGIC)
		return -EBADMSG;
	if (get(bytes + AT_VERSION, 2) != PEER_VERSION)
		return -EPROTO;
	if (length < PEER_BYTES)
		return -EMSGSIZE;
	message->role = get(bytes + AT_ROLE, 1);
	message->state = get(bytes + AT_STATE, 1);
	message->flags = get(bytes + AT_FLAGS, 4);
	message->epoch = get(bytes + AT_EPOCH, 8);
	message->sequence = get(bytes + AT_SEQUENCE, 8);
	memcpy(message->name, bytes + AT_NAME, sizeof(message->name) - 1);
	if ((message->role != COLO_ROLE_PRIMARY && message->role != COLO_ROLE_SECONDARY) ||
	    message->state >= SESSION_STATES)
		return -EBADMSG;
	return 0;
}

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

void peer_text(char *text, size_t size, const char *address, __u32 port)
{
	snprintf(text, size, strchr(address, ':') ? "[%s]:%u" : "%s:%u", address, port);
}

/* The same port here, on any address: the device says which. */
static void local_address(const struct sockaddr_storage *peer, struct sockaddr_storage *local)
{
	memset(local, 0, sizeof(*local));
	local->ss_family = peer->ss_family;
	if (peer->ss_family == AF_INET)
		((struct sockaddr_in *)local)->sin_port =
			((const struct sockaddr_in *)peer)->sin_port;
	else
		((struct sockaddr_in6 *)local)->sin6_port =
			((const struct sockaddr_in6 *)peer)->sin6_port;
}

int peer_open(struct peer *peer, const char *text, const char *device, __u32 lost_ms,
	      __u64 now_ns)
{
	struct sockaddr_storage address, local;
	socklen_t length;
	int fd, err, one = 1;

	memset(peer, 0, sizeof(*peer));
	peer->fd = -1;
	peer->probe_fd = -1;
	peer->lost_ns = lost_ms * 1000000ULL;
	peer->heard_ns = now_ns;
	if (peer_parse_address(text, &address, &length)) {
		log_error("peer \"%s\": is not ADDR, ADDR:PORT or [ADDR6]:PORT", text);
		return -EINVAL;
	}
	local_address(&address, &local);
	fd = socket(address.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (address.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, strlen(device)) ||
	    bind(fd, (struct sockaddr *)&local, length) ||
	    connect(fd, (struct sockaddr *)&address, length)) {
		err = -errno;
		log_error("peer %s: no socket for it on %s: %s%s", text, device, strerror(-err),
			  err == -ENETUNREACH ? " (has the link an address in its network?)" :
						"");
		close(fd);
		return err;
	}
	peer->fd = fd;
	peer->address = address;
	peer->address_length = length;
	snprintf(peer->device, sizeof(peer->device), "%s", device);
	return 0;
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
	if (peer->fd >= 0)
		close(peer->fd);
	peer->fd = -1;
}

void peer_send(struct peer *peer, struct peer_message *message)
{
	unsigned char bytes[PEER_BYTES];

	if (peer->fd < 0)
		return;
	message->sequence = ++peer->sequence;
	peer_encode(message, bytes);
	/* An error is that of the one before; peer_judge() sees the silence. */
	if (send(peer->fd, bytes, sizeof(bytes), 0) < 0)
		send(peer->fd, bytes, sizeof(bytes), 0);
}

static void warn_once(struct peer *peer, int err)
{
	if (peer->warned)
		return;
	peer->warned = true;
	log_warning(
		"peer: %s",
		err == -EPROTO ?
			"its daemon speaks another version: use the same colo-bpf on both hosts" :
			"datagrams that are no heartbeats come to its port");
}

int peer_receive(struct peer *peer, __u64 now_ns)
{
	unsigned char bytes[512];

	for (int i = 0; peer->fd >= 0 && i < READ_MAX; i++) {
		struct peer_message message;
		ssize_t n = recv(peer->fd, bytes, sizeof(bytes), 0);
		int err;

		if (n < 0 && (errno == EAGAIN || errno == ENOTCONN))
			break;
		if (n < 0) /* what became of one that was sent */
			continue;
		err = peer_decode(&message, bytes, n);
		if (err) {
			warn_once(peer, err);
			continue;
		}
		peer->last = message;
		peer->heard_ns = now_ns;
		peer->refused_ns = 0;
		peer->leaving = message.flags & PEER_LEAVING;
		return 1;
	}
	return 0;
}

static void probe_begin(struct peer *peer, __u64 now_ns)
{
	int fd = socket(peer->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, peer->device, strlen(peer->device));
	if (connect(fd, (struct sockaddr *)&peer->address, peer->address_length) &&
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

void peer_probe(struct peer *peer, __u64 now_ns)
{
	if (peer->probe_fd >= 0)
		probe_look(peer, now_ns);
	if (peer->fd >= 0 && peer->probe_fd < 0 &&
	    (peer->leaving || now_ns > peer->heard_ns + peer->lost_ns / 4))
		probe_begin(peer, now_ns);
}

enum peer_health peer_judge(const struct peer *peer, __u64 now_ns)
{
	bool silent = now_ns > peer->heard_ns + peer->lost_ns;

	if (peer->health == PEER_UNKNOWN && !peer->last.sequence)
		return PEER_UNKNOWN;
	if (!silent && !peer->leaving)
		return PEER_ALIVE;
	if (peer->leaving && !silent)
		return PEER_DOWN;
	if (peer->refused_ns && now_ns <= peer->refused_ns + peer->lost_ns)
		return PEER_DOWN;
	return PEER_LOST;
}
