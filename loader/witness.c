// SPDX-License-Identifier: GPL-2.0-only
/*
 * colo-bpf witness: the third place that says which of two hosts goes on. As a
 * service, a line each way (docs/colo-bpf.8, WITNESS), or for one question.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "ask.h"
#include "clock.h"
#include "commands.h"
#include "daemon.h"
#include "log.h"
#include "options.h"
#include "peer.h"

#define CLIENTS_MAX 64
#define IDLE_NS     (10000 * MS_NS) /* who says nothing for so long is let go */

struct service {
	struct loop *loop;
	const char *directory;
	int listener;
	int signals;
	bool ending;
	struct visitor *visitors;
};

struct visitor {
	struct visitor *next;
	struct service *service;
	int fd;
	bool greeted;
	struct loop_timer timer;
	size_t length;
	char line[WITNESS_LINE];
};

/* ------------------------------------------------------------- visitors -- */

static void visitor_end(struct visitor *visitor)
{
	struct visitor **at = &visitor->service->visitors;

	while (*at != visitor)
		at = &(*at)->next;
	*at = visitor->next;
	loop_timer_stop(visitor->service->loop, &visitor->timer);
	loop_remove(visitor->service->loop, visitor->fd);
	close(visitor->fd);
	free(visitor);
}

static void on_idle(void *context)
{
	visitor_end(context);
}

static void answer(char *text, size_t size, const char *directory, const char *verb,
		   const char *session, const char *host)
{
	char holder[GRANT_HOST + 1] = "";
	bool claim = !strcmp(verb, "claim"), release = !strcmp(verb, "release");
	int result;

	if (!grant_session_valid(session) || ((claim || release) && !grant_host_valid(host))) {
		snprintf(text, size, "error claim|release SESSION HOST, show SESSION\n");
		return;
	}
	if (claim)
		result = grant_claim(directory, session, host, holder);
	else if (release)
		result = grant_release(directory, session, host, holder);
	else
		result = grant_holder(directory, session, holder);
	if (result < 0) {
		log_error("%s: session %s: %s", directory, session, strerror(-result));
		snprintf(text, size, "error %s\n", strerror(-result));
	} else if (result > 0) {
		snprintf(text, size, "refused %s\n", holder);
	} else if (release) {
		snprintf(text, size, "released\n");
	} else {
		snprintf(text, size, *holder ? "granted %s\n" : "free\n", holder);
	}
	if ((claim || release) && result >= 0)
		log_info("session %s: %s by %s: %.*s", session, verb, host,
			 (int)strcspn(text, "\n"), text);
}

/* False: the visitor is gone. */
static bool got_line(struct visitor *visitor, char *line)
{
	char text[WITNESS_LINE], *verb, *session, *host, *rest;

	if (!visitor->greeted) {
		visitor->greeted = !strcmp(line, WITNESS_GREETING);
		if (!visitor->greeted)
			visitor_end(visitor);
		return visitor->greeted;
	}
	verb = strtok_r(line, " ", &rest);
	session = strtok_r(NULL, " ", &rest);
	host = strtok_r(NULL, " ", &rest);
	answer(text, sizeof(text), visitor->service->directory, verb ? verb : "",
	       session ? session : "", host ? host : "");
	if (send(visitor->fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text))
		return true;
	visitor_end(visitor);
	return false;
}

static void on_line(void *context, __u32 events)
{
	struct visitor *visitor = context;
	char line[WITNESS_LINE], *end;
	ssize_t n;

	(void)events;
	n = recv(visitor->fd, visitor->line + visitor->length,
		 sizeof(visitor->line) - visitor->length, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		visitor_end(visitor);
		return;
	}
	visitor->length += n;
	loop_timer_set(visitor->service->loop, &visitor->timer, clock_now() + IDLE_NS);
	while ((end = memchr(visitor->line, '\n', visitor->length))) {
		size_t length = end - visitor->line;

		memcpy(line, visitor->line, length);
		line[length] = 0;
		visitor->length -= length + 1;
		memmove(visitor->line, end + 1, visitor->length);
		if (!got_line(visitor, line))
			return;
	}
	if (visitor->length == sizeof(visitor->line))
		visitor_end(visitor);
}

/* The oldest visitor goes, so that nobody can keep the others out. */
static void bound_visitors(struct service *service)
{
	struct visitor *oldest = service->visitors;
	int count = 0;

	for (struct visitor *v = service->visitors; v; v = v->next, count++)
		oldest = v;
	if (count == CLIENTS_MAX)
		visitor_end(oldest);
}

static void on_visitor(void *context, __u32 events)
{
	static const char greeting[] = WITNESS_GREETING "\n";
	struct service *service = context;
	int fd = accept4(service->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct visitor *visitor;

	(void)events;
	if (fd < 0)
		return;
	bound_visitors(service);
	visitor = calloc(1, sizeof(*visitor));
	if (!visitor || loop_add(service->loop, fd, EPOLLIN, on_line, visitor)) {
		free(visitor);
		close(fd);
		return;
	}
	visitor->service = service;
	visitor->fd = fd;
	visitor->timer.fire = on_idle;
	visitor->timer.context = visitor;
	visitor->next = service->visitors;
	service->visitors = visitor;
	loop_timer_set(service->loop, &visitor->timer, clock_now() + IDLE_NS);
	send(fd, greeting, sizeof(greeting) - 1, MSG_NOSIGNAL);
}

/* -------------------------------------------------------------- service -- */

static void on_signal(void *context, __u32 events)
{
	struct service *service = context;

	(void)events;
	service->ending = true;
}

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static int open_listener(const char *text)
{
	struct sockaddr_storage address;
	socklen_t length;
	int fd, err, one = 1;

	peer_parse_endpoint(text, &address, &length);
	fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&address, length) || listen(fd, 64)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

static int serve_opened(struct service *service, const char *text)
{
	int err;

	err = loop_add(service->loop, service->listener, EPOLLIN, on_visitor, service);
	if (!err)
		err = loop_add(service->loop, service->signals, EPOLLIN, on_signal, service);
	if (!err) {
		log_info("%s: the witness listens, its memory is %s", text, service->directory);
		notify_manager("READY=1");
	}
	while (!err && !service->ending)
		err = loop_once(service->loop, NO_TIMER);
	for (struct visitor *visitor = service->visitors, *next; visitor; visitor = next) {
		next = visitor->next;
		visitor_end(visitor);
	}
	return err;
}

static int serve(const char *directory, const char *text)
{
	struct service service = {.loop = loop_new(), .directory = directory};
	int err = service.loop ? 0 : -ENOMEM;

	service.listener = open_listener(text);
	service.signals = open_signals();
	if (!err && service.listener < 0)
		err = service.listener;
	else if (!err && service.signals < 0)
		err = -errno;
	if (!err)
		err = serve_opened(&service, text);
	if (err)
		log_error("--listen %s: %s", text, strerror(-err));
	if (service.listener >= 0)
		close(service.listener);
	if (service.signals >= 0)
		close(service.signals);
	loop_free(service.loop);
	return err ? EXIT_FAILED : EXIT_OK;
}

/* ---------------------------------------------------------- one question - */

struct question {
	const char *directory;
	const char *listen;
	const char *claim;
	const char *release;
	const char *show;
	const char *host;
};

static int check(const struct question *q)
{
	const char *session = q->claim ? q->claim : q->release ? q->release : q->show;
	struct sockaddr_storage address;
	socklen_t length;

	if (!!q->listen + !!q->claim + !!q->release + !!q->show != 1)
		return options_bad("witness",
				   "one of --listen, --claim, --release and --show is needed");
	if (q->listen && peer_parse_endpoint(q->listen, &address, &length))
		return options_bad("witness",
				   "--listen \"%s\": is not ADDR:PORT or [ADDR6]:PORT",
				   q->listen);
	if (session && !grant_session_valid(session))
		return options_bad("witness", "\"%s\": a session has 32 hex digits", session);
	if ((q->claim || q->release) && (!q->host || !grant_host_valid(q->host)))
		return options_bad("witness", "--host HOST is needed");
	if (access(q->directory, W_OK | X_OK)) {
		log_error("--dir %s: %s", q->directory, strerror(errno));
		return EXIT_FAILED;
	}
	return -1;
}

static int ask(const struct question *q)
{
	const char *session = q->claim ? q->claim : q->release ? q->release : q->show;
	const char *verb = q->claim ? "claim" : q->release ? "release" : "show";
	char text[WITNESS_LINE];

	answer(text, sizeof(text), q->directory, verb, session, q->host ? q->host : "");
	if (!strncmp(text, "error", 5))
		return EXIT_FAILED;
	printf("%s", text);
	return !strncmp(text, "refused", 7) ? WITNESS_REFUSED : EXIT_OK;
}

int cmd_witness(int argc, char **argv)
{
	struct question q = {};
	const struct option_row rows[] = {
		{OPTION_TEXT, .name = "dir", .required = true, .argument = "DIR",
		 .value = &q.directory, .help = "where it remembers: a file a session"},
		{OPTION_TEXT, .name = "listen", .argument = "ADDR:PORT", .value = &q.listen,
		 .help = "serve the daemons of any number of pairs"},
		{OPTION_TEXT, .name = "claim", .argument = "SESSION", .value = &q.claim,
		 .help = "or: may --host go on alone? (3: another host may)"},
		{OPTION_TEXT, .name = "release", .argument = "SESSION", .value = &q.release,
		 .help = "or: --host gives it back"},
		{OPTION_TEXT, .name = "show", .argument = "SESSION", .value = &q.show,
		 .help = "or: who has it"},
		{OPTION_TEXT, .name = "host", .argument = "HOST", .value = &q.host,
		 .help = "primary or secondary, as the configuration calls it"},
		{OPTION_END},
	};
	int status = options_parse("witness", command_summary("witness"), rows, argc, argv);

	if (status == -1)
		status = check(&q);
	if (status != -1)
		return status;
	return q.listen ? serve(q.directory, q.listen) : ask(&q);
}
