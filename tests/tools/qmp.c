// SPDX-License-Identifier: GPL-2.0-only
/*
 * qmp: runs QMP commands and waits for events, over one connection.
 *
 *	qmp SOCKET STEP...
 *
 *	COMMAND ['{"json": "arguments"}']	prints its return value
 *	--hmp 'LINE'				prints what the monitor says
 *	--wait-event NAME			prints the event
 *
 * options, which hold for the steps after them:
 *	--match KEY=VALUE	an event counts only if its data has this
 *				(a path with dots; reset by --wait-event)
 *	--timeout SECONDS	bound of each step and of connecting (10)
 *	--oob			commands are sent out of band
 *	--quiet			prints nothing but errors
 *
 * Events that come while a command runs are kept for a later --wait-event.
 * Exit status: 0 all went well, 1 QMP said no or the time ran out, 2 usage.
 */
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct qmp {
	const char *path;
	int fd;
	double timeout;
	int oob, quiet;
	const char *match;
	json_t *events; /* those that nobody waited for yet */
	char *in;       /* what was read and is not yet a line */
	size_t in_len, in_room;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void print(const struct qmp *q, const json_t *value)
{
	if (q->quiet)
		return;
	json_dumpf(value, stdout, JSON_ENCODE_ANY | JSON_COMPACT);
	putchar('\n');
	fflush(stdout);
}

/* QEMU makes the socket some time after its start: try until the bound. */
static int qmp_connect(struct qmp *q)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	double until = now() + q->timeout;

	if (strlen(q->path) >= sizeof(to.sun_path)) {
		fprintf(stderr, "qmp: %s: the path is too long\n", q->path);
		return -1;
	}
	strcpy(to.sun_path, q->path);
	q->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	while (connect(q->fd, (struct sockaddr *)&to, sizeof(to))) {
		if ((errno != ENOENT && errno != ECONNREFUSED) || now() >= until) {
			fprintf(stderr, "qmp: %s: %s\n", q->path, strerror(errno));
			return -1;
		}
		poll(NULL, 0, 20);
	}
	return 0;
}

static int fill(struct qmp *q, double until, const char *what)
{
	struct pollfd p = {.fd = q->fd, .events = POLLIN};
	int left_ms = (until - now()) * 1000;
	ssize_t n;

	if (left_ms < 0 || poll(&p, 1, left_ms) == 0) {
		fprintf(stderr, "qmp: %s: %s did not come within %g s\n", q->path, what,
			q->timeout);
		return -1;
	}
	if (q->in_room - q->in_len < 4096) {
		q->in_room += 65536;
		q->in = realloc(q->in, q->in_room);
		if (!q->in)
			return -1;
	}
	n = read(q->fd, q->in + q->in_len, q->in_room - q->in_len);
	if (n <= 0) {
		fprintf(stderr, "qmp: %s: %s while waiting for %s\n", q->path,
			n ? strerror(errno) : "closed by QEMU", what);
		return -1;
	}
	q->in_len += n;
	return 0;
}

/* The next object from QEMU, or NULL after a message. */
static json_t *receive(struct qmp *q, double until, const char *what)
{
	json_error_t error;
	json_t *object;
	char *end;
	size_t len;

	while (!q->in_len || !(end = memchr(q->in, '\n', q->in_len)))
		if (fill(q, until, what))
			return NULL;
	len = end + 1 - q->in;
	object = json_loadb(q->in, len, 0, &error);
	memmove(q->in, q->in + len, q->in_len - len);
	q->in_len -= len;
	if (!object)
		fprintf(stderr, "qmp: %s: not JSON: %s\n", q->path, error.text);
	return object;
}

static int send_object(struct qmp *q, json_t *object)
{
	char *text = json_dumps(object, JSON_COMPACT);
	size_t len = text ? strlen(text) : 0;
	int rc = 0;

	for (size_t done = 0; done < len;) {
		ssize_t n = send(q->fd, text + done, len - done, MSG_NOSIGNAL);

		if (n < 0) {
			fprintf(stderr, "qmp: %s: %s\n", q->path, strerror(errno));
			rc = -1;
			break;
		}
		done += n;
	}
	free(text);
	return text ? rc : -1;
}

/* Sends a command; returns its return value, or NULL after a message. */
static json_t *execute(struct qmp *q, const char *name, json_t *arguments)
{
	json_t *command = json_object(), *answer, *value = NULL;
	double until = now() + q->timeout;

	json_object_set_new(command, q->oob ? "exec-oob" : "execute", json_string(name));
	json_object_set_new(command, "id", json_integer(1));
	if (arguments)
		json_object_set(command, "arguments", arguments);
	if (send_object(q, command))
		goto out;
	while ((answer = receive(q, until, name))) {
		json_t *error = json_object_get(answer, "error");

		value = json_incref(json_object_get(answer, "return"));
		if (error)
			fprintf(stderr, "qmp: %s: %s: %s\n", q->path, name,
				json_string_value(json_object_get(error, "desc")));
		else if (json_object_get(answer, "event"))
			json_array_append(q->events, answer);
		json_decref(answer);
		if (error || value)
			break;
	}
out:
	json_decref(command);
	return value;
}

static int negotiate(struct qmp *q)
{
	json_t *greeting = receive(q, now() + q->timeout, "the greeting");
	json_t *arguments, *value;
	int oob = q->oob;

	if (!greeting)
		return -1;
	json_decref(greeting);
	arguments = json_pack("{s:[s]}", "enable", "oob");
	q->oob = 0;
	value = execute(q, "qmp_capabilities", arguments);
	q->oob = oob;
	json_decref(arguments);
	json_decref(value);
	return value ? 0 : -1;
}

/* Does the value that `path` (a.b.c) leads to read like `want`? */
static int reads_like(const json_t *data, const char *match)
{
	const char *want = strchr(match, '='), *at = match;
	char key[64], text[64];
	const json_t *value = data;

	if (!want)
		return 0;
	while (at < want) {
		size_t len = strcspn(at, ".=");

		if (len >= sizeof(key))
			return 0;
		memcpy(key, at, len);
		key[len] = 0;
		value = json_object_get(value, key);
		at += len + 1;
	}
	if (json_is_string(value))
		return !strcmp(json_string_value(value), want + 1);
	if (json_is_boolean(value))
		return !strcmp(json_is_true(value) ? "true" : "false", want + 1);
	snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(value));
	return json_is_integer(value) && !strcmp(text, want + 1);
}

static int is_event(const struct qmp *q, const json_t *event, const char *name)
{
	const char *is = json_string_value(json_object_get(event, "event"));

	return is && !strcmp(is, name) &&
	       (!q->match || reads_like(json_object_get(event, "data"), q->match));
}

static int wait_event(struct qmp *q, const char *name)
{
	double until = now() + q->timeout;
	json_t *event;
	size_t i;

	json_array_foreach(q->events, i, event) {
		if (!is_event(q, event, name))
			continue;
		print(q, event);
		json_array_remove(q->events, i);
		return 0;
	}
	while ((event = receive(q, until, name))) {
		int found = is_event(q, event, name);

		if (found)
			print(q, event);
		else
			json_array_append(q->events, event);
		json_decref(event);
		if (found)
			return 0;
	}
	return -1;
}

static int run_command(struct qmp *q, const char *name, json_t *arguments)
{
	json_t *value = execute(q, name, arguments);

	if (value)
		print(q, value);
	json_decref(value);
	return value ? 0 : -1;
}

/* HMP has no errors, only text: text where none is due is for the caller. */
static int run_hmp(struct qmp *q, const char *line)
{
	json_t *arguments = json_pack("{s:s}", "command-line", line);
	json_t *value = execute(q, "human-monitor-command", arguments);

	if (value && !q->quiet)
		printf("%s", json_string_value(value));
	fflush(stdout);
	json_decref(arguments);
	json_decref(value);
	return value ? 0 : -1;
}

static int usage(void)
{
	fprintf(stderr, "usage: qmp SOCKET [--timeout S] [--oob] [--quiet]\n"
			"           { COMMAND ['{ARGUMENTS}'] | --hmp 'LINE' |\n"
			"             [--match KEY=VALUE] --wait-event NAME } ...\n");
	return 2;
}

/* Takes the step at argv[*i] and moves on; 0, 1 (failed) or 2 (usage). */
static int step(struct qmp *q, int argc, char **argv, int *i)
{
	const char *word = argv[(*i)++];
	json_error_t error;
	json_t *arguments = NULL;
	int rc;

	if (!strcmp(word, "--oob") || !strcmp(word, "--quiet")) {
		*(word[2] == 'o' ? &q->oob : &q->quiet) = 1;
		return 0;
	}
	if (!strncmp(word, "--", 2)) {
		const char *value = *i < argc ? argv[(*i)++] : NULL;

		if (!value)
			return usage();
		if (!strcmp(word, "--timeout"))
			q->timeout = atof(value);
		else if (!strcmp(word, "--match"))
			q->match = value;
		else if (!strcmp(word, "--hmp"))
			return run_hmp(q, value) ? 1 : 0;
		else if (strcmp(word, "--wait-event"))
			return usage();
		else if (wait_event(q, value))
			return 1;
		else
			q->match = NULL;
		return 0;
	}
	if (*i < argc && argv[*i][0] == '{') {
		arguments = json_loads(argv[(*i)++], 0, &error);
		if (!arguments) {
			fprintf(stderr, "qmp: arguments of %s: %s\n", word, error.text);
			return 2;
		}
	}
	rc = run_command(q, word, arguments) ? 1 : 0;
	json_decref(arguments);
	return rc;
}

/* The bound counts for connecting too, wherever it was given. */
static void find_timeout(struct qmp *q, int argc, char **argv)
{
	for (int i = 2; i + 1 < argc; i++) {
		if (!strcmp(argv[i], "--timeout")) {
			q->timeout = atof(argv[i + 1]);
			return;
		}
	}
}

int main(int argc, char **argv)
{
	struct qmp q = {.timeout = 10, .events = json_array()};
	int rc = 0, i = 2;

	if (argc < 3)
		return usage();
	q.path = argv[1];
	find_timeout(&q, argc, argv);
	if (qmp_connect(&q) || negotiate(&q))
		return 1;
	while (!rc && i < argc)
		rc = step(&q, argc, argv, &i);
	json_decref(q.events);
	free(q.in);
	close(q.fd);
	return rc;
}
