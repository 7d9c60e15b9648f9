// SPDX-License-Identifier: GPL-2.0-only
/*
 * Numbered datagrams that do not wait for their answers, in --window sequences
 * by turns. Each answer says what the guest has received of its sequence so
 * far, so it is right only if no datagram was lost, doubled or misplaced. The
 * numbers of each sequence begin at --first, the guest's count with 1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"

/*
 * Datagrams without an answer, of all streams: a tap has room for as many and
 * for what else comes while its guest stands still, however long it does.
 */
#define UNDER_WAY 600

struct datagram {
	uint64_t sent_ns;
	struct count due; /* what its answer has to say */
	int answered;
};

struct stream {
	int fd;
	struct count due; /* of the last one sent */
	struct datagram *datagram;
	uint64_t sent, oldest; /* all before that are answered */
};

/* A NIC brings all frames of a flow by one CPU, and so in their order. */
static int stay_here(struct run *r)
{
	cpu_set_t here;

	CPU_ZERO(&here);
	CPU_SET(sched_getcpu(), &here);
	if (sched_setaffinity(0, sizeof(here), &here))
		return run_error(r, "sched_setaffinity: %s", strerror(errno));
	return 0;
}

static int open_streams(struct run *r, struct stream *streams)
{
	int room = 8 * 1024 * 1024;

	for (unsigned int i = 0; i < r->opt->window; i++) {
		struct stream *s = &streams[i];

		s->datagram = calloc(UNDER_WAY, sizeof(*s->datagram));
		s->fd = run_connect(r, PORT_COUNT);
		if (!s->datagram || s->fd < 0)
			return run_error(r, "stream %u cannot be opened", i);
		/* A commit lets many go at once, and none may be lost here. */
		if (setsockopt(s->fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)))
			return run_error(r, "SO_RCVBUFFORCE: %s", strerror(errno));
		/* What a run before this one has sent. */
		for (uint64_t n = 1; n < r->opt->first; n++)
			count_add(&s->due, n);
	}
	return 0;
}

static int send_one(struct run *r, struct stream *s, unsigned int stream)
{
	struct datagram *d = &s->datagram[s->sent % UNDER_WAY];
	struct msg m = {.number = r->opt->first + s->sent++, .size = stream};

	count_add(&s->due, m.number);
	*d = (struct datagram){.sent_ns = now_ns(), .due = s->due};
	msg_seal(&m);
	return run_send(r, s->fd, &m, sizeof(m));
}

/* They may come in any order: a burst and what follows it are of two CPUs. */
static int check_answer(struct run *r, struct stream *s, unsigned int stream,
			const struct msg *m)
{
	uint64_t at = m->number - r->opt->first;
	struct datagram *d = &s->datagram[at % UNDER_WAY];

	if (!msg_ok(m) || m->reserved != 1)
		return run_error(r, "stream %u: an answer is altered", stream);
	if (at < s->oldest || at >= s->sent || d->answered)
		return run_error(r, "stream %u: answer %llu was not due", stream,
				 (unsigned long long)m->number);
	if (m->size != d->due.received || m->data_sum != d->due.sum)
		return run_error(r, "stream %u, answer %llu: %llu were received, in order: %s",
				 stream, (unsigned long long)m->number,
				 (unsigned long long)m->size,
				 m->data_sum == d->due.sum ? "yes" : "no");
	run_answer(r, d->sent_ns);
	d->answered = 1;
	while (s->oldest < s->sent && s->datagram[s->oldest % UNDER_WAY].answered)
		s->oldest++;
	return 0;
}

/* All answers that are there, or those that come in the next millisecond. */
static int take_answers(struct run *r, struct stream *streams)
{
	struct pollfd fds[COUNT_STREAMS];
	int left = 0;

	for (unsigned int i = 0; i < r->opt->window; i++)
		fds[i] = (struct pollfd){.fd = streams[i].fd, .events = POLLIN};
	if (poll(fds, r->opt->window, 1) < 0 && errno != EINTR)
		return run_error(r, "poll: %s", strerror(errno));
	for (unsigned int i = 0; i < r->opt->window; i++) {
		struct msg m;

		while (recv(fds[i].fd, &m, sizeof(m), MSG_DONTWAIT) == sizeof(m))
			if (check_answer(r, &streams[i], i, &m))
				return -1;
		left += streams[i].oldest < streams[i].sent;
	}
	return left;
}

/* Whether the stream may send its next, which is number `sent` of all. */
static int is_due(struct run *r, const struct stream *s, uint64_t sent)
{
	uint64_t now = now_ns();

	if (s->sent - s->oldest >= UNDER_WAY / r->opt->window) {
		if (now > s->datagram[s->oldest % UNDER_WAY].sent_ns + r->opt->timeout * 1e9)
			run_error(r, "answer %llu has not come in %g s",
				  (unsigned long long)(r->opt->first + s->oldest),
				  r->opt->timeout);
		return 0;
	}
	return r->opt->rate <= 0 || now >= r->start_ns + (uint64_t)(sent * 1e9 / r->opt->rate);
}

static int send_due(struct run *r, struct stream *streams, uint64_t *sent)
{
	/* all streams get as many */
	while (run_goes_on(r, *sent) || *sent % r->opt->window) {
		unsigned int stream = *sent % r->opt->window;

		if (!is_due(r, &streams[stream], *sent))
			return 1;
		if (send_one(r, &streams[stream], stream))
			return 0;
		++*sent;
	}
	return 0;
}

void work_count(struct run *r)
{
	struct stream *streams = calloc(r->opt->window, sizeof(*streams));
	uint64_t sent = 0, until;
	int left = 1;

	if (!streams || r->opt->window > COUNT_STREAMS) {
		run_error(r, "at most %d streams", COUNT_STREAMS);
		return;
	}
	if (stay_here(r) || open_streams(r, streams))
		return;
	while (!r->errors && send_due(r, streams, &sent))
		take_answers(r, streams);
	until = now_ns() + (uint64_t)(r->opt->timeout * 1e9);
	while (!r->errors && left && now_ns() < until)
		left = take_answers(r, streams);
	if (left > 0)
		run_error(r, "%d streams have not got all of their answers", left);
}
