// SPDX-License-Identifier: GPL-2.0-only
/* HTTP/1.1 GETs of --size bytes; header and body are checked byte by byte. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"

#define DEFAULT_SIZE 1000u

static uint8_t pattern[2 * PATTERN_PERIOD];

/* Reads up to the empty line and not a byte further. Returns its length. */
static ssize_t receive_head(struct run *r, int fd, char *head, size_t room)
{
	size_t len = 0;

	while (len < room) {
		/* Byte by byte would be slow: peek, then take what is ours. */
		ssize_t n = recv(fd, head + len, room - len, MSG_PEEK);
		char *end;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return run_error(r, "no HTTP header: %s",
					 n ? strerror(errno) : "closed");
		end = memmem(head, len + n, "\r\n\r\n", 4);
		if (end)
			n = end + 4 - head - len;
		if (run_recv(r, fd, head + len, n))
			return -1;
		len += n;
		if (end)
			return len;
	}
	return run_error(r, "HTTP header too long");
}

static int check_head(struct run *r, char *head, size_t len, uint64_t size)
{
	char want[256];

	snprintf(want, sizeof(want),
		 "HTTP/1.1 200 OK\r\nServer: guestd\r\n"
		 "Content-Type: application/octet-stream\r\n"
		 "Content-Length: %llu\r\nConnection: %s\r\n\r\n",
		 (unsigned long long)size, r->opt->keepalive ? "keep-alive" : "close");
	if (len != strlen(want) || memcmp(head, want, len))
		return run_error(r, "unexpected HTTP header: %.*s", (int)(len < 60 ? len : 60),
				 head);
	return 0;
}

static int check_body(struct run *r, int fd, uint64_t size)
{
	static uint8_t bulk[PATTERN_PERIOD];

	for (uint64_t done = 0; done < size;) {
		size_t part = size - done < sizeof(bulk) ? size - done : sizeof(bulk);

		if (run_recv(r, fd, bulk, part))
			return -1;
		if (memcmp(bulk, pattern + done % PATTERN_PERIOD, part))
			return run_error(r, "other bytes in an HTTP body");
		done += part;
	}
	return 0;
}

static int check_close(struct run *r, int fd)
{
	char byte;
	ssize_t n;

	do
		n = recv(fd, &byte, 1, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return run_error(r, "at the end: %s", strerror(errno));
	return n ? run_error(r, "bytes after the HTTP body") : 0;
}

static int get(struct run *r, int fd, uint64_t size)
{
	char text[256], head[1024];
	ssize_t head_len;
	int len = snprintf(text, sizeof(text), "GET /%llu HTTP/1.1\r\nHost: guest\r\n%s\r\n",
			   (unsigned long long)size,
			   r->opt->keepalive ? "" : "Connection: close\r\n");

	if (run_send(r, fd, text, len))
		return -1;
	head_len = receive_head(r, fd, head, sizeof(head));
	if (head_len < 0 || check_head(r, head, head_len, size) || check_body(r, fd, size))
		return -1;
	return r->opt->keepalive ? 0 : check_close(r, fd);
}

void work_http(struct run *r)
{
	uint64_t size = r->opt->size ? r->opt->size : DEFAULT_SIZE;
	int fd = -1;

	pattern_fill(pattern);
	while (run_goes_on(r, r->answers)) {
		uint64_t begin;

		run_pace(r, r->answers);
		begin = now_ns();
		if (fd < 0)
			fd = run_connect(r, PORT_HTTP);
		if (fd < 0 || get(r, fd, size))
			break;
		if (!r->opt->keepalive) {
			close(fd);
			fd = -1;
		}
		run_answer(r, begin);
	}
	if (fd >= 0)
		close(fd);
}
