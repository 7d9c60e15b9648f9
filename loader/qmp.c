// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "bytes.h"
#include "clock.h"
#include "log.h"
#include "qmp.h"

#define LINE_MAX_BYTES (16U << 20) /* query-qmp-schema has 200 KB */

enum qmp_state {
	QMP_GREETING,
	QMP_CAPABILITIES,
	QMP_READY,
	QMP_CLOSED,
};

#define STEP_NS 1000000 /* the two clocks differ by that more or less: one was set */

struct moment {
	long long monotonic, real;
};

struct qmp_command {
	struct qmp_command *next;
	unsigned long id;
	char name[64];
	qmp_answer *answer;
	void *context;
};

struct qmp {
	int fd;
	struct loop *loop; /* that watches fd, or NULL */
	bool writes;       /* ... for writing, too */
	enum qmp_state state;
	bool oob;
	unsigned long last_id;
	long long event_ns;    /* of the last event, CLOCK_REALTIME */
	struct moment emptied; /* when there was nothing more to read */
	struct bytes in;
	size_t searched; /* of `in`: has no newline up to here */
	struct bytes out;
	struct bytes waiting; /* until the client is ready */
	struct qmp_command *commands;
	struct qmp_handler handler;
	void *context;
};

struct qmp *qmp_new(int fd, const struct qmp_handler *handler, void *context)
{
	struct qmp *qmp = calloc(1, sizeof(*qmp));

	if (!qmp)
		return NULL;
	qmp->fd = fd;
	qmp->handler = *handler;
	qmp->context = context;
	return qmp;
}

int qmp_connect(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, err;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* Takes the command with that id out of the list. */
static struct qmp_command *command_take(struct qmp *qmp, unsigned long id)
{
	struct qmp_command **at = &qmp->commands, *command;

	for (; (command = *at); at = &command->next) {
		if (command->id != id)
			continue;
		*at = command->next;
		return command;
	}
	return NULL;
}

static void command_end(struct qmp_command *command, json_t *value, const char *error)
{
	if (command->answer)
		command->answer(command->context, value, error);
	free(command);
}

static void qmp_close(struct qmp *qmp, int error, const char *text)
{
	struct qmp_command *command;

	if (qmp->state == QMP_CLOSED)
		return;
	qmp->state = QMP_CLOSED;
	if (qmp->loop)
		loop_remove(qmp->loop, qmp->fd);
	close(qmp->fd);
	qmp->fd = -1;
	while ((command = qmp->commands)) {
		qmp->commands = command->next;
		command_end(command, NULL, text);
	}
	if (qmp->handler.closed)
		qmp->handler.closed(qmp->context, error, text);
}

void qmp_free(struct qmp *qmp)
{
	if (!qmp)
		return;
	memset(&qmp->handler, 0, sizeof(qmp->handler));
	qmp_close(qmp, 0, "the client ends");
	bytes_free(&qmp->in);
	bytes_free(&qmp->out);
	bytes_free(&qmp->waiting);
	free(qmp);
}

int qmp_fd(const struct qmp *qmp)
{
	return qmp->fd;
}

bool qmp_is_open(const struct qmp *qmp)
{
	return qmp->state != QMP_CLOSED;
}

bool qmp_text_is(const json_t *value, const char *text)
{
	return json_is_string(value) && !strcmp(json_string_value(value), text);
}

bool qmp_wants_write(const struct qmp *qmp)
{
	return qmp->state != QMP_CLOSED && qmp->out.length;
}

static void ready(void *context, __u32 events)
{
	struct qmp *qmp = context;

	if (events & EPOLLOUT)
		qmp_output(qmp);
	if (events & ~EPOLLOUT)
		qmp_input(qmp);
}

int qmp_watch(struct qmp *qmp, struct loop *loop)
{
	int err = loop_add(loop, qmp->fd, EPOLLIN, ready, qmp);

	if (err)
		return err;
	qmp->loop = loop;
	qmp->writes = false;
	qmp_output(qmp);
	return 0;
}

static void watch_writes(struct qmp *qmp)
{
	bool writes = qmp_wants_write(qmp);

	if (!qmp->loop || qmp->state == QMP_CLOSED || writes == qmp->writes)
		return;
	qmp->writes = writes;
	loop_change(qmp->loop, qmp->fd, writes ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

void qmp_output(struct qmp *qmp)
{
	while (qmp_wants_write(qmp)) {
		ssize_t n = send(qmp->fd, qmp->out.data, qmp->out.length, MSG_NOSIGNAL);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0) {
			int err = errno == EPIPE || errno == ECONNRESET ? 0 : -errno;

			qmp_close(qmp, err,
				  err ? strerror(-err) : "QEMU closed the connection");
			return;
		}
		bytes_drop(&qmp->out, n);
	}
	watch_writes(qmp);
}

static int send_object(struct bytes *to, json_t *object)
{
	char *text = json_dumps(object, JSON_COMPACT);
	int err = -ENOMEM;

	if (text)
		err = bytes_add(to, text, strlen(text));
	if (!err)
		err = bytes_add(to, "\n", 1);
	free(text);
	json_decref(object);
	return err;
}

int qmp_execute(struct qmp *qmp, bool oob, const char *name, json_t *arguments,
		qmp_answer *answer, void *context)
{
	struct qmp_command *command;
	struct bytes *to;
	json_t *object;
	char id[32];
	int err;

	if (!qmp || qmp->state == QMP_CLOSED) {
		json_decref(arguments);
		return -ENOTCONN;
	}
	to = qmp->state == QMP_READY ? &qmp->out : &qmp->waiting;
	command = calloc(1, sizeof(*command));
	object = json_object();
	if (!command || !object) {
		free(command);
		json_decref(object);
		json_decref(arguments);
		return -ENOMEM;
	}
	command->id = ++qmp->last_id;
	command->answer = answer;
	command->context = context;
	snprintf(command->name, sizeof(command->name), "%s", name);
	snprintf(id, sizeof(id), "colo-%lu", command->id);
	/* Before the client is ready nobody knows whether QEMU can. */
	json_object_set_new(
		object, oob && (qmp->oob || qmp->state != QMP_READY) ? "exec-oob" : "execute",
		json_string(name));
	if (arguments)
		json_object_set_new(object, "arguments", arguments);
	json_object_set_new(object, "id", json_string(id));
	err = send_object(to, object);
	if (err) {
		free(command);
		return err;
	}
	command->next = qmp->commands;
	qmp->commands = command;
	log_debug("QMP: %s", name);
	qmp_output(qmp);
	return 0;
}

/* --------------------------------------------------------------- input --- */

static void got_greeting(struct qmp *qmp, json_t *object)
{
	json_t *list, *item, *object_out;
	size_t i;

	list = json_object_get(json_object_get(object, "QMP"), "capabilities");
	if (!json_is_array(list)) {
		qmp_close(qmp, -EPROTO, "the socket's first line is no QMP greeting");
		return;
	}
	json_array_foreach(list, i, item)
		if (json_is_string(item) && !strcmp(json_string_value(item), "oob"))
			qmp->oob = true;
	object_out = json_pack("{s:s, s:{s:[s*]}, s:s}", "execute", "qmp_capabilities",
			       "arguments", "enable", qmp->oob ? "oob" : NULL, "id", "colo-0");
	if (!object_out || send_object(&qmp->out, object_out)) {
		qmp_close(qmp, -ENOMEM, "out of memory");
		return;
	}
	qmp->state = QMP_CAPABILITIES;
	qmp_output(qmp);
}

static void got_capabilities(struct qmp *qmp, json_t *object)
{
	if (!json_object_get(object, "return")) {
		qmp_close(qmp, -EPROTO, "qmp_capabilities was refused");
		return;
	}
	qmp->state = QMP_READY;
	if (bytes_add(&qmp->out, qmp->waiting.data, qmp->waiting.length)) {
		qmp_close(qmp, -ENOMEM, "out of memory");
		return;
	}
	qmp->waiting.length = 0;
	qmp_output(qmp);
	if (qmp->state == QMP_READY && qmp->handler.ready)
		qmp->handler.ready(qmp->context, qmp->oob);
}

static void got_answer(struct qmp *qmp, json_t *object)
{
	json_t *error = json_object_get(object, "error");
	json_t *id = json_object_get(object, "id");
	struct qmp_command *command = NULL;
	const char *text = NULL;
	unsigned long number;

	if (error) {
		text = json_string_value(json_object_get(error, "desc"));
		text = text ? text : "error without a description";
	}
	if (json_is_string(id) && sscanf(json_string_value(id), "colo-%lu", &number) == 1)
		command = command_take(qmp, number);
	if (command)
		command_end(command, json_object_get(object, "return"), text);
	else if (text)
		log_warning("QMP: an error that belongs to no command: %s", text);
}

static long long event_time(json_t *event)
{
	json_int_t seconds = 0, microseconds = 0;

	json_unpack(event, "{s:{s:I, s:I}}", "timestamp", "seconds", &seconds, "microseconds",
		    &microseconds);
	return (seconds * 1000000 + microseconds) * 1000;
}

static struct moment moment_now(void)
{
	return (struct moment){clock_now(), clock_ns(CLOCK_REALTIME)};
}

unsigned long long qmp_event_ns(const struct qmp *qmp)
{
	struct moment now = moment_now(), then = qmp->emptied;
	long long step = (now.real - now.monotonic) - (then.real - then.monotonic);
	long long at = now.monotonic - (now.real - qmp->event_ns);

	if (llabs(step) > STEP_NS || at > now.monotonic || at < 0)
		return then.monotonic;
	return at;
}

static void got_object(struct qmp *qmp, json_t *object)
{
	json_t *event = json_object_get(object, "event");

	if (qmp->state == QMP_GREETING) {
		got_greeting(qmp, object);
	} else if (json_is_string(event)) {
		log_debug("QMP: event %s", json_string_value(event));
		qmp->event_ns = event_time(object);
		if (qmp->handler.event)
			qmp->handler.event(qmp->context, json_string_value(event),
					   json_object_get(object, "data"));
	} else if (!json_object_get(object, "return") && !json_object_get(object, "error")) {
		qmp_close(qmp, -EPROTO, "a line is neither an answer nor an event");
	} else if (qmp->state == QMP_CAPABILITIES) {
		got_capabilities(qmp, object);
	} else {
		got_answer(qmp, object);
	}
}

static void got_line(struct qmp *qmp, const char *line, size_t length)
{
	char text[256];
	json_error_t error;
	json_t *object;

	while (length && (line[length - 1] == '\r' || line[length - 1] == ' '))
		length--;
	if (!length)
		return;
	object = json_loadb(line, length, 0, &error);
	if (!json_is_object(object)) {
		snprintf(text, sizeof(text),
			 "a line is no JSON object (%s): is it a QMP socket?",
			 object ? "another type" : error.text);
		qmp_close(qmp, -EPROTO, text);
	} else {
		got_object(qmp, object);
	}
	json_decref(object);
}

/* All whole lines that have come; a callback may close the client. */
static void take_lines(struct qmp *qmp)
{
	size_t start = 0;
	char *newline;

	while (qmp->state != QMP_CLOSED && qmp->searched < qmp->in.length) {
		newline = memchr(qmp->in.data + qmp->searched, '\n',
				 qmp->in.length - qmp->searched);
		if (!newline) {
			qmp->searched = qmp->in.length;
			break;
		}
		got_line(qmp, qmp->in.data + start, newline - (qmp->in.data + start));
		start = newline + 1 - qmp->in.data;
		qmp->searched = start;
	}
	bytes_drop(&qmp->in, start);
	qmp->searched -= start;
}

void qmp_input(struct qmp *qmp)
{
	char buffer[16384];

	while (qmp->state != QMP_CLOSED) {
		struct moment before = moment_now();
		ssize_t n = recv(qmp->fd, buffer, sizeof(buffer), 0);

		if (n < 0 && errno == EAGAIN)
			qmp->emptied = before;
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0 && errno != ECONNRESET) {
			qmp_close(qmp, -errno, strerror(errno));
			return;
		}
		if (n <= 0) {
			qmp_close(qmp, 0, "QEMU closed the connection");
			return;
		}
		if (bytes_add(&qmp->in, buffer, n)) {
			qmp_close(qmp, -ENOMEM, "out of memory");
			return;
		}
		take_lines(qmp);
		if (qmp->in.length > LINE_MAX_BYTES)
			qmp_close(qmp, -EPROTO,
				  "a line of more than 16 MB: is it a QMP socket?");
	}
}
