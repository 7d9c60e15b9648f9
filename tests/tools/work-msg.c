// SPDX-License-Identifier: GPL-2.0-only
/* Numbered requests, each answered by a message: rr, random, append, udp. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"

static uint8_t pattern[2 * PATTERN_PERIOD];

static struct msg request(uint64_t number, uint64_t size)
{
	struct msg m = {.number = number, .size = size};

	/* Bytes that differ from request to request, and are known. */
	for (size_t i = 0; i < sizeof(m.fill); i++)
		m.fill[i] = (uint8_t)(number * 31 + i);
	msg_seal(&m);
	return m;
}

/* Is m the answer to request `number`, and nothing but it? */
static int check_answer(struct run *r, const struct msg *m, uint64_t number, uint64_t size,
			int port)
{
	struct msg want = request(number, size);

	if (!msg_ok(m))
		return run_error(r, "answer %llu: wrong checksum", (unsigned long long)number);
	if (m->number != number)
		return run_error(r, "answer %llu where %llu was due",
				 (unsigned long long)m->number, (unsigned long long)number);
	want.reserved = 1;
	if (port == PORT_RANDOM)
		memcpy(want.fill, m->fill, sizeof(want.fill));
	if (port == PORT_CODE) /* of a guest that no other client has asked for this */
		want.data_sum = code_sum(r->opt->first, number);
	msg_seal(&want);
	if (memcmp(m, &want, sizeof(want)))
		return run_error(r, "answer %llu: altered", (unsigned long long)number);
	return 0;
}

static int receive_answer(struct run *r, int fd, uint64_t number, uint64_t size, int port)
{
	static uint8_t body[MSG_MAX_ANSWER];
	struct msg m;

	if (run_recv(r, fd, &m, sizeof(m)) || check_answer(r, &m, number, size, port) ||
	    run_recv(r, fd, body, size - sizeof(m)))
		return -1;
	if (memcmp(body, pattern, size - sizeof(m)))
		return run_error(r, "answer %llu: altered body", (unsigned long long)number);
	return 0;
}

/* To --host, and to --also if there is one; -1 where there is no connection. */
static void connect_all(struct run *r, int port, int fd[2])
{
	fd[0] = run_connect(r, port);
	fd[1] = fd[0] >= 0 && r->opt->also ? run_connect_to(r, r->opt->also, port) : -1;
}

static int send_to_all(struct run *r, const int fd[2], const struct msg *m)
{
	for (int i = 0; i < 2; i++)
		if (fd[i] >= 0 && run_send(r, fd[i], m, sizeof(*m)))
			return -1;
	return 0;
}

static int receive_from_all(struct run *r, const int fd[2], uint64_t number, uint64_t size,
			    int port)
{
	for (int i = 0; i < 2; i++)
		if (fd[i] >= 0 && receive_answer(r, fd[i], number, size, port))
			return -1;
	return 0;
}

/*
 * Up to --window requests are under way; their answers come in order. With
 * --also a request is answered when both guests have: what COLO does with two.
 */
static void stream(struct run *r, int port)
{
	const struct options *o = r->opt;
	uint64_t size = o->size > sizeof(struct msg) ? o->size : sizeof(struct msg);
	uint64_t *sent_ns = calloc(o->window, sizeof(*sent_ns));
	uint64_t sent = 0;
	int fd[2];

	pattern_fill(pattern);
	if (!sent_ns || size > MSG_MAX_ANSWER) {
		run_error(r, "window or size too large");
		return;
	}
	connect_all(r, port, fd);
	while (!r->errors) {
		while (sent - r->answers < o->window && run_goes_on(r, sent)) {
			struct msg m = request(o->first + sent, size);

			run_pace(r, sent);
			sent_ns[sent % o->window] = now_ns();
			if (send_to_all(r, fd, &m))
				break;
			sent++;
		}
		if (r->errors || sent == r->answers ||
		    receive_from_all(r, fd, o->first + r->answers, size, port))
			break;
		run_answer(r, sent_ns[r->answers % o->window]);
	}
	for (int i = 0; i < 2; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	free(sent_ns);
}

void work_rr(struct run *r)
{
	stream(r, PORT_RR);
}

void work_random(struct run *r)
{
	stream(r, PORT_RANDOM);
}

void work_code(struct run *r)
{
	stream(r, PORT_CODE);
}

void work_append(struct run *r)
{
	stream(r, PORT_APPEND);
}

/* --size rounds of work each; the guest's sum must be the same as ours. */
void work_work(struct run *r)
{
	uint64_t sent = 0, sum = 0;
	int fd = run_connect(r, PORT_WORK);

	while (fd >= 0 && run_goes_on(r, sent)) {
		struct msg m = request(r->opt->first + sent, r->opt->size);
		uint64_t sent_ns = now_ns();

		if (run_send(r, fd, &m, sizeof(m)) || run_recv(r, fd, &m, sizeof(m)))
			break;
		run_answer(r, sent_ns);
		if (!msg_ok(&m) || m.number != r->opt->first + sent)
			run_error(r, "answer %llu: altered", (unsigned long long)sent);
		if (sent++ && m.data_sum != sum)
			run_error(r, "answer %llu: another sum", (unsigned long long)sent);
		sum = m.data_sum;
	}
	if (fd >= 0)
		close(fd);
	/* Not while it is measured. */
	if (!r->errors && sent && sum != work(r->opt->size))
		run_error(r, "the sum is wrong");
}

/* When each request of the run was sent; 0: it has had its answer. */
struct datagrams {
	uint64_t *sent_ns;
	uint64_t sent, room;
};

static void datagram_sent(struct datagrams *d)
{
	if (d->sent == d->room) {
		d->room = d->room ? 2 * d->room : 4096;
		d->sent_ns = realloc(d->sent_ns, d->room * sizeof(*d->sent_ns));
		if (!d->sent_ns) {
			fprintf(stderr, "client: out of memory\n");
			exit(2);
		}
	}
	d->sent_ns[d->sent++] = now_ns();
}

/*
 * One answer: of those that were sent, whole, and for the first time. Returns 1
 * for that to the last request, 0 for a late one, -1 when none came or it is
 * wrong.
 */
static int receive_datagram(struct run *r, int fd, struct datagrams *d, int flags)
{
	uint64_t first = r->opt->first, last = d->sent - 1, at = last;
	struct msg m;
	ssize_t n = recv(fd, &m, sizeof(m), flags | MSG_TRUNC);

	if (n < 0 && errno == EINTR && !stop_asked)
		return 0;
	if (n < 0 && (errno == EAGAIN || stop_asked))
		return -1;
	if (n != sizeof(m))
		return run_error(r, "recv: %s", n < 0 ? strerror(errno) : "another length");
	if (m.number >= first && m.number - first < last)
		at = m.number - first;
	if (check_answer(r, &m, first + at, sizeof(m), PORT_UDP))
		return -1;
	if (!d->sent_ns[at])
		return run_error(r, "answer %llu came twice", (unsigned long long)m.number);
	run_answer(r, d->sent_ns[at]);
	d->sent_ns[at] = 0;
	return at == last;
}

/*
 * Each request is sent once: one whose answer does not come within --timeout
 * is lost, unless it comes later. An answer that is altered or comes twice is
 * an error. With --window 0 nothing waits: requests go out at --rate.
 */
void work_udp(struct run *r)
{
	struct datagrams d = {0};
	int fd = run_connect(r, PORT_UDP);
	int flags = r->opt->window ? 0 : MSG_DONTWAIT;

	while (fd >= 0 && run_goes_on(r, d.sent)) {
		struct msg m = request(r->opt->first + d.sent, sizeof(m));
		int got;

		run_pace(r, d.sent);
		datagram_sent(&d);
		if (run_send(r, fd, &m, sizeof(m)))
			break;
		do
			got = receive_datagram(r, fd, &d, flags);
		while (!got || (got > 0 && flags));
	}
	r->lost = d.sent - r->answers;
	if (fd >= 0)
		close(fd);
	free(d.sent_ns);
}

/*
 * The guest's log of PORT_APPEND, taken from its disk: requests --first and up
 * in order, each whole and once, and --count of them at least. More may be
 * there, whose answers did not come before the client ended.
 */
void work_check_log(struct run *r)
{
	const struct options *o = r->opt;
	uint64_t records = 0;
	struct msg m;
	FILE *f = o->check_file ? fopen(o->check_file, "rb") : NULL;

	if (!f) {
		run_error(r, "cannot read %s", o->check_file ? o->check_file : "(no --file)");
		return;
	}
	while (!r->errors && fread(&m, sizeof(m), 1, f) == 1) {
		if (!msg_ok(&m) || m.number != o->first + records)
			run_error(r, "record %llu is not request %llu",
				  (unsigned long long)records,
				  (unsigned long long)(o->first + records));
		records++;
		run_answer(r, now_ns());
	}
	fclose(f);
	if (!r->errors && records < o->count)
		run_error(r, "%llu records, %llu were acknowledged",
			  (unsigned long long)records, (unsigned long long)o->count);
}
