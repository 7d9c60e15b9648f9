// SPDX-License-Identifier: GPL-2.0-only
/*
 * The server in the test guest: one thread, one epoll loop, and the same
 * input gives the same output bytes, but on PORT_RANDOM. Two guests that run
 * it in lock-step differ where a test wants them to, and nowhere else.
 *
 * A connection is either reading a request or writing an answer. It does not
 * read ahead while it writes, so a slow client holds up only itself.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto.h"

#define APPEND_LOG "/disk/append.log"
#define IN_MAX     4096

struct conn {
	int fd;
	int port;
	int listening;
	int closing; /* close when the answer is out */

	uint8_t in[IN_MAX]; /* the request, as far as it is here */
	size_t in_len;

	uint8_t head[256]; /* an answer is: head, body, tail */
	size_t head_len, head_done;
	uint64_t body_len, body_done;
	struct msg tail;
	size_t tail_len, tail_done;
	struct sum body_sum; /* of what is out, for the tail of a download */

	uint64_t upload_left; /* an upload takes the input while > 0 */
	struct msg upload;
};

static uint8_t pattern[2 * PATTERN_PERIOD];
static struct count counts[COUNT_STREAMS];
static int epfd;
static int log_fd = -1;

static void die(const char *what)
{
	fprintf(stderr, "guestd: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void watch(struct conn *c, int op, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};

	if (epoll_ctl(epfd, op, c->fd, &ev))
		die("epoll_ctl");
}

static void conn_close(struct conn *c)
{
	close(c->fd);
	free(c);
}

static int answering(const struct conn *c)
{
	return c->head_done < c->head_len || c->body_done < c->body_len ||
	       c->tail_done < c->tail_len;
}

/* Returns the bytes written, 0 when the socket is full, -1 when it is dead. */
static ssize_t put(struct conn *c, const void *data, size_t len, int more)
{
	ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	return n < 0 ? -1 : n;
}

static int put_body(struct conn *c)
{
	while (c->body_done < c->body_len) {
		const uint8_t *at = pattern + c->body_done % PATTERN_PERIOD;
		uint64_t left = c->body_len - c->body_done;
		size_t len = left < PATTERN_PERIOD ? left : PATTERN_PERIOD;
		ssize_t n = put(c, at, len, len < left || c->tail_len);

		if (n <= 0)
			return n;
		if (c->tail_len)
			sum_add(&c->body_sum, at, n);
		c->body_done += n;
	}
	return 0;
}

/* Goes on with the answer; -1 when the connection is dead. */
static int answer(struct conn *c)
{
	ssize_t n;

	if (c->head_done < c->head_len) {
		n = put(c, c->head + c->head_done, c->head_len - c->head_done, c->body_len > 0);
		if (n < 0)
			return -1;
		c->head_done += n;
		if (c->head_done < c->head_len)
			return 0;
	}
	if (put_body(c))
		return -1;
	if (c->body_done < c->body_len || c->tail_done >= c->tail_len)
		return 0;
	if (!c->tail_done) {
		c->tail.data_sum = sum_end(&c->body_sum);
		msg_seal(&c->tail);
	}
	n = put(c, (uint8_t *)&c->tail + c->tail_done, c->tail_len - c->tail_done, 0);
	if (n < 0)
		return -1;
	c->tail_done += n;
	return 0;
}

static void answer_begin(struct conn *c, const void *head, size_t head_len, uint64_t body_len)
{
	memcpy(c->head, head, head_len);
	c->head_len = head_len;
	c->head_done = 0;
	c->body_len = body_len;
	c->body_done = 0;
	c->tail_len = 0;
	c->tail_done = 0;
}

static void append(const struct msg *m)
{
	if (log_fd < 0) {
		log_fd = open(APPEND_LOG, O_WRONLY | O_CREAT | O_APPEND, 0644);
		if (log_fd < 0)
			die(APPEND_LOG);
	}
	if (write(log_fd, m, sizeof(*m)) != sizeof(*m) || fsync(log_fd))
		die(APPEND_LOG);
}

/*
 * A checkpoint copies the kernel's random state, too: for long after it both
 * guests draw the same numbers. The time at which each does so is its own.
 */
static void fill_random(struct msg *m)
{
	uint64_t ticks = __builtin_ia32_rdtsc();

	if (getrandom(m->fill, sizeof(m->fill), 0) != sizeof(m->fill))
		die("getrandom");
	for (size_t i = 0; i < sizeof(ticks); i++)
		m->fill[i] ^= ticks >> 8 * i;
}

/*
 * Code that changes all the time, and stays for some while: whoever translates
 * it must notice when a checkpoint brings another.
 */
static uint64_t run_code(uint64_t number)
{
	static uint8_t *pages;
	uint64_t sum = 0;
	uint8_t *page;

	if (!pages) {
		pages = mmap(NULL, CODE_PAGES * 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (pages == MAP_FAILED)
			die("mmap");
		for (int i = 0; i < CODE_PAGES; i++)
			memcpy(pages + i * 4096, "\xb8\0\0\0\0\xc3", 6);
	}
	/* mov $number, %eax; ret */
	page = pages + number % CODE_PAGES * 4096;
	for (int i = 0; i < 4; i++)
		page[1 + i] = number >> 8 * i;
	for (int i = 0; i < CODE_PAGES; i++) {
		uint32_t (*code)(void) = (uint32_t(*)(void))(pages + i * 4096);

		sum += code();
	}
	return sum;
}

static struct msg reply_to(int port, const struct msg *request)
{
	struct msg m = *request;

	if (port == PORT_RANDOM)
		fill_random(&m);
	if (port == PORT_CODE)
		m.data_sum = run_code(m.number);
	if (port == PORT_APPEND)
		append(request);
	m.reserved = 1;
	msg_seal(&m);
	return m;
}

/* One message of 64 bytes is here: -1 when it is none of ours. */
static int serve_msg(struct conn *c)
{
	struct msg m;

	memcpy(&m, c->in, sizeof(m));
	if (!msg_ok(&m))
		return -1;
	if (c->port == PORT_UP) {
		c->upload = m;
		c->upload_left = m.size;
		memset(&c->body_sum, 0, sizeof(c->body_sum));
		return 0;
	}
	if (c->port == PORT_DOWN) {
		answer_begin(c, "", 0, m.size);
		memset(&c->body_sum, 0, sizeof(c->body_sum));
		c->tail = m;
		c->tail_len = sizeof(c->tail);
		return 0;
	}
	if (m.size < sizeof(m) || m.size > MSG_MAX_ANSWER)
		return -1;
	m = reply_to(c->port, &m);
	answer_begin(c, &m, sizeof(m), m.size - sizeof(m));
	return 0;
}

/* Takes what belongs to an upload; the answer follows its last byte. */
static size_t take_upload(struct conn *c, const uint8_t *data, size_t len)
{
	if (len > c->upload_left)
		len = c->upload_left;
	sum_add(&c->body_sum, data, len);
	c->upload_left -= len;
	if (!c->upload_left) {
		c->upload.reserved = 1;
		c->upload.data_sum = sum_end(&c->body_sum);
		msg_seal(&c->upload);
		answer_begin(c, &c->upload, sizeof(c->upload), 0);
	}
	return len;
}

/* GET /N answers with N bytes of the pattern; everything else with 404. */
static void serve_http(struct conn *c, char *request)
{
	unsigned long long size = 0;
	int found = sscanf(request, "GET /%llu HTTP/1.", &size) == 1;
	char head[256];
	int len;

	c->closing = strcasestr(request, "\r\nConnection: close") ||
		     !strstr(request, " HTTP/1.1\r\n");
	len = snprintf(head, sizeof(head),
		       "HTTP/1.1 %s\r\nServer: guestd\r\n"
		       "Content-Type: application/octet-stream\r\n"
		       "Content-Length: %llu\r\nConnection: %s\r\n\r\n",
		       found ? "200 OK" : "404 Not Found", found ? size : 0,
		       c->closing ? "close" : "keep-alive");
	answer_begin(c, head, len, found ? size : 0);
}

static void consume(struct conn *c, size_t len)
{
	c->in_len -= len;
	memmove(c->in, c->in + len, c->in_len);
}

/*
 * Serves one request of those in c->in. Returns 1 when there was one, 0 when
 * more input is needed, -1 when the input makes no sense.
 */
static int serve_one(struct conn *c)
{
	if (c->upload_left) {
		if (!c->in_len)
			return 0;
		consume(c, take_upload(c, c->in, c->in_len));
		return 1;
	}
	if (c->port == PORT_HTTP) {
		uint8_t *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);

		if (!end)
			return c->in_len == sizeof(c->in) ? -1 : 0;
		end[2] = 0;
		serve_http(c, (char *)c->in);
		consume(c, end + 4 - c->in);
		return 1;
	}
	if (c->in_len < sizeof(struct msg))
		return 0;
	if (serve_msg(c))
		return -1;
	consume(c, sizeof(struct msg));
	return 1;
}

/* Serves until input or room is missing; -1 when the connection ends. */
static int serve(struct conn *c)
{
	for (;;) {
		int rc;

		if (answer(c))
			return -1;
		if (answering(c))
			return 0;
		if (c->closing)
			return -1;
		rc = serve_one(c);
		if (rc <= 0)
			return rc;
	}
}

/* An upload is read in large pieces, past the small buffer of requests. */
static int receive_upload(struct conn *c)
{
	static uint8_t bulk[256 * 1024];
	size_t want = c->upload_left < sizeof(bulk) ? c->upload_left : sizeof(bulk);
	ssize_t n = recv(c->fd, bulk, want, MSG_DONTWAIT);

	if (n > 0)
		take_upload(c, bulk, n);
	return n > 0 || (n < 0 && errno == EAGAIN) ? 0 : -1;
}

static int receive(struct conn *c)
{
	ssize_t n;

	if (c->upload_left && !c->in_len)
		return receive_upload(c);
	n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);
	if (n > 0)
		c->in_len += n;
	return n > 0 || (n < 0 && errno == EAGAIN) ? 0 : -1;
}

static void conn_event(struct conn *c, uint32_t events)
{
	if (((events & ~EPOLLOUT) && !answering(c) && receive(c)) || serve(c)) {
		conn_close(c);
		return;
	}
	watch(c, EPOLL_CTL_MOD, answering(c) ? EPOLLOUT : EPOLLIN);
}

static struct conn *conn_new(int fd, int port)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		die("calloc");
	c->fd = fd;
	c->port = port;
	watch(c, EPOLL_CTL_ADD, EPOLLIN);
	return c;
}

/* Work takes long, so it has a process of its own, behind all other services. */
static void work_apart(int fd)
{
	struct msg m;

	if (fork())
		return;
	/* Other connections end when guestd closes them, and not with this. */
	if (dup2(fd, STDIN_FILENO) || close_range(3, ~0U, 0) || nice(19) != 19 ||
	    fcntl(STDIN_FILENO, F_SETFL, 0))
		die("work");
	fd = STDIN_FILENO;
	while (recv(fd, &m, sizeof(m), MSG_WAITALL) == sizeof(m) && msg_ok(&m)) {
		m.data_sum = work(m.size);
		m.reserved = 1;
		msg_seal(&m);
		if (send(fd, &m, sizeof(m), MSG_NOSIGNAL) != sizeof(m))
			break;
	}
	_exit(0);
}

static void accept_all(const struct conn *listener)
{
	int one = 1, fd;

	while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (listener->port == PORT_WORK) {
			work_apart(fd);
			close(fd);
		} else {
			conn_new(fd, listener->port);
		}
	}
}

static struct msg count_reply(const struct msg *request)
{
	struct count *count = &counts[request->size % COUNT_STREAMS];
	struct msg m = *request;

	count_add(count, request->number);
	m.reserved = 1;
	m.size = count->received;
	m.data_sum = count->sum;
	msg_seal(&m);
	return m;
}

static void echo_datagrams(const struct conn *c)
{
	struct sockaddr_in from;
	socklen_t from_len = sizeof(from);
	struct msg m;

	while (recvfrom(c->fd, &m, sizeof(m), MSG_DONTWAIT | MSG_TRUNC,
			(struct sockaddr *)&from, &from_len) == sizeof(m)) {
		if (msg_ok(&m)) {
			m = c->port == PORT_COUNT ? count_reply(&m) : reply_to(PORT_UDP, &m);
			sendto(c->fd, &m, sizeof(m), MSG_DONTWAIT, (struct sockaddr *)&from,
			       from_len);
		}
		from_len = sizeof(from);
	}
}

static void serve_port(int type, int port)
{
	struct sockaddr_in any = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
	};
	int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int one = 1, room = 8 * 1024 * 1024;

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* Whoever counts must not lose any here. */
	if (type == SOCK_DGRAM) {
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	}
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)))
		die("bind");
	if (type == SOCK_STREAM && listen(fd, 1024))
		die("listen");
	conn_new(fd, port)->listening = 1;
}

int main(void)
{
	static const int tcp_ports[] = {PORT_HTTP,   PORT_RR,     PORT_DOWN, PORT_UP,
					PORT_RANDOM, PORT_APPEND, PORT_WORK, PORT_CODE};
	struct epoll_event events[64];

	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	pattern_fill(pattern);
	epfd = epoll_create1(EPOLL_CLOEXEC);
	if (epfd < 0)
		die("epoll_create1");
	for (size_t i = 0; i < sizeof(tcp_ports) / sizeof(*tcp_ports); i++)
		serve_port(SOCK_STREAM, tcp_ports[i]);
	serve_port(SOCK_DGRAM, PORT_UDP);
	serve_port(SOCK_DGRAM, PORT_COUNT);
	printf("guestd: ready\n");
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(epfd, events, 64, -1);

		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;

			if (!c->listening)
				conn_event(c, events[i].events);
			else if (c->port == PORT_UDP || c->port == PORT_COUNT)
				echo_datagrams(c);
			else
				accept_all(c);
		}
	}
}
