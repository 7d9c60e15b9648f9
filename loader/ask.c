// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/epoll.h>
#include <sys/socket.h>

#include "ask.h"
#include "clock.h"
#include "options.h"
#include "peer.h"
#include "child.h"

#define OURSELVES "/proc/self/exe"

static const char *const verbs[] = {
	[ASK_CLAIM] = "claim",
	[ASK_RELEASE] = "release",
};

struct ask {
	struct loop *loop;
	int fd;              /* tcp, or -1 */
	struct child *child; /* file, or NULL */
	struct loop_timer timer;
	enum ask_what what;
	bool sent;
	char question[WITNESS_LINE];
	size_t length;
	char answer[2 * WITNESS_LINE];
	char why[128];
	void (*done)(void *context, enum ask_result result, const char *why);
	void *context;
};

void ask_cancel(struct ask *ask)
{
	const struct linger at_once = {.l_onoff = 1};

	if (!ask)
		return;
	loop_timer_stop(ask->loop, &ask->timer);
	child_kill(ask->child);
	if (ask->fd >= 0) {
		loop_remove(ask->loop, ask->fd);
		/* or the kernel would go on repeating a question that is answered otherwise by now */
		setsockopt(ask->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		close(ask->fd);
	}
	free(ask);
}

static void finish(struct ask *ask, enum ask_result result, const char *why)
{
	void (*done)(void *context, enum ask_result result, const char *why) = ask->done;
	void *context = ask->context;
	char text[sizeof(ask->why)];

	snprintf(text, sizeof(text), "%s", why);
	ask_cancel(ask);
	done(context, result, text);
}

static void on_late(void *context)
{
	struct ask *ask = context;

	finish(ask, ASK_NOTHING, *ask->why ? ask->why : "no answer in time");
}

/* ------------------------------------------------------------------ tcp -- */

/* The line behind the greeting. */
static void got_answer(struct ask *ask, const char *line)
{
	if (!strncmp(line, "granted ", 8) || !strcmp(line, "released"))
		finish(ask, ASK_YES, "");
	else if (!strncmp(line, "refused ", 8))
		finish(ask, ASK_NO, line + 8);
	else if (!strncmp(line, "error ", 6))
		finish(ask, ASK_NOTHING, line + 6);
	else
		finish(ask, ASK_NOTHING, "it is no witness, or one of another version");
}

static void look(struct ask *ask)
{
	size_t greeting = strlen(WITNESS_GREETING);
	char *end = strchr(ask->answer, '\n'), *last;

	if (!end)
		return;
	if (end != ask->answer + greeting || memcmp(ask->answer, WITNESS_GREETING, greeting)) {
		got_answer(ask, "");
		return;
	}
	last = strchr(end + 1, '\n');
	if (!last)
		return;
	*last = 0;
	got_answer(ask, end + 1);
}

static void send_question(struct ask *ask)
{
	size_t length = strlen(ask->question);

	/* A line fits into an empty socket. */
	ask->sent = send(ask->fd, ask->question, length, MSG_NOSIGNAL) == (ssize_t)length;
	if (ask->sent)
		loop_change(ask->loop, ask->fd, EPOLLIN);
	else
		finish(ask, ASK_NOTHING, strerror(errno));
}

static void on_ready(void *context, __u32 events)
{
	struct ask *ask = context;
	socklen_t size = sizeof(int);
	int err = 0;
	ssize_t n;

	(void)events;
	if (!ask->sent) {
		getsockopt(ask->fd, SOL_SOCKET, SO_ERROR, &err, &size);
		if (err)
			finish(ask, ASK_NOTHING, strerror(err));
		else
			send_question(ask);
		return;
	}
	n = recv(ask->fd, ask->answer + ask->length, sizeof(ask->answer) - 1 - ask->length, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		finish(ask, ASK_NOTHING, n ? strerror(errno) : "it hung up");
		return;
	}
	ask->length += n;
	ask->answer[ask->length] = 0;
	look(ask);
}

static int start_tcp(struct ask *ask, const char *text)
{
	struct sockaddr_storage address;
	socklen_t length;

	if (peer_parse_endpoint(text, &address, &length))
		return -EINVAL;
	ask->fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (ask->fd < 0)
		return -errno;
	if (connect(ask->fd, (struct sockaddr *)&address, length) && errno != EINPROGRESS)
		return -errno;
	return loop_add(ask->loop, ask->fd, EPOLLOUT, on_ready, ask);
}

/* ----------------------------------------------------------------- file -- */

static void on_end(void *context, int status)
{
	struct ask *ask = context;

	ask->child = NULL;
	if (status == EXIT_OK)
		finish(ask, ASK_YES, "");
	else if (status == WITNESS_REFUSED)
		finish(ask, ASK_NO, "");
	else
		finish(ask, ASK_NOTHING,
		       status < 0 ? "no answer in time" : "see the message above");
}

static int start_file(struct ask *ask, const char *directory, const char *session,
		      const char *host, __u32 timeout_ms)
{
	char what[16];
	char *const argv[] = {
		(char *)OURSELVES,
		(char *)"witness",
		(char *)"--dir",
		(char *)directory,
		what,
		(char *)session,
		(char *)"--host",
		(char *)host,
		NULL,
	};

	snprintf(what, sizeof(what), "--%s", verbs[ask->what]);
	ask->child = child_start(ask->loop, argv, timeout_ms, on_end, ask);
	return ask->child ? 0 : -errno;
}

struct ask *ask_start(struct loop *loop, const char *witness, enum ask_what what,
		      const char *session, const char *host, __u32 timeout_ms,
		      void (*done)(void *context, enum ask_result result, const char *why),
		      void *context)
{
	struct ask *ask = calloc(1, sizeof(*ask));
	int err;

	if (!ask)
		return NULL;
	ask->loop = loop;
	ask->fd = -1;
	ask->what = what;
	ask->done = done;
	ask->context = context;
	ask->timer.fire = on_late;
	ask->timer.context = ask;
	snprintf(ask->question, sizeof(ask->question), WITNESS_GREETING "\n%s %s %s\n",
		 verbs[what], session, host);
	if (!strncmp(witness, "file:", 5))
		err = start_file(ask, witness + 5, session, host, timeout_ms);
	else
		err = start_tcp(ask, witness + 4);
	if (err)
		snprintf(ask->why, sizeof(ask->why), "%s", strerror(-err));
	/* What failed at once is told from the loop, too; a process has its own bound. */
	loop_timer_set(loop, &ask->timer,
		       err ? 0 :
			     clock_now() + (timeout_ms + (ask->child ? 1000 : 0)) * 1000000ULL);
	return ask;
}
