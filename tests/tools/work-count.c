// SPDX-License-Identifier: GPL-2.0-only
/*
 * Numbered datagrams that do not wait for their answers, in --window sequences
 * by turns. Each answer says what the guest has received of its sequence so
 * far, so it is right only if no datagram was lost, doubled or misplaced. The
 * numbers of each sequence begin at --first, the guest's count with 1.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"

struct stream {
	int fd;
	struct count due; /* what the next answer has to say */
	uint64_t *sent_ns;
	uint64_t sent, answered;
};

#define UNDER_WAY 65536 /* datagrams of a stream without an answer */

static int open_streams(struct run *r, struct stream *streams)
{
	int room = 8 * 1024 * 1024;

	for (unsigned int i = 0; i < r->opt->window; i++) {
		struct stream *s = &streams[i];

		s->sent_ns = calloc(UNDER_WAY, sizeof(*s->sent_ns));
		s->fd = run_connect(r, PORT_COUNT);
		if (!s->sent_ns || s->fd < 0)
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
	struct msg m = {.number = r->opt->first + s->sent, .size = stream};

	msg_seal(&m);
	if (s->sent - s->answered >= UNDER_WAY)
		return run_error(r, "stream %u: %u datagrams without an answer", stream,
				 UNDER_WAY);
	s->sent_ns[s->sent++ % UNDER_WAY] = now_ns();
	return run_send(r, s->fd, &m, sizeof(m));
}

static int check_answer(struct run *r, struct stream *s, unsigned int stream,
			const struct msg *m)
{
	uint64_t number = r->opt->first + s->answered;

	count_add(&s->due, number);
	if (!msg_ok(m) || m->reserved != 1)
		return run_error(r, "stream %u, answer %llu: altered", stream,
				 (unsigned long long)number);
	if (m->number != number)
		return run_error(r, "stream %u: answer %llu where %llu was due, %llu received",
				 stream, (unsigned long long)m->number,
				 (unsigned long long)number, (unsigned long long)m->size);
	if (m->size != s->due.received || m->data_sum != s->due.sum)
		return run_error(r, "stream %u, answer %llu: %llu were received, in order: %s",
				 stream, (unsigned long long)number,
				 (unsigned long long)m->size,
				 m->data_sum == s->due.sum ? "yes" : "no");
	run_answer(r, s->sent_ns[s->answered++ % UNDER_WAY]);
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
		left += streams[i].answered < streams[i].sent;
	}
	return left;
}

static int is_due(const struct run *r, uint64_t sent)
{
	return r->opt->rate <= 0 ||
	       now_ns() >= r->start_ns + (uint64_t)(sent * 1e9 / r->opt->rate);
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
	if (open_streams(r, streams))
		return;
	/* all streams get as many */
	while (!r->errors && (run_goes_on(r, sent) || sent % r->opt->window)) {
		for (; is_due(r, sent) && (run_goes_on(r, sent) || sent % r->opt->window);
		     sent++)
			if (send_one(r, &streams[sent % r->opt->window], sent % r->opt->window))
				return;
		take_answers(r, streams);
	}
	until = now_ns() + (uint64_t)(r->opt->timeout * 1e9);
	while (!r->errors && left && now_ns() < until)
		left = take_answers(r, streams);
	if (left > 0)
		run_error(r, "%d streams have not got all of their answers", left);
}
