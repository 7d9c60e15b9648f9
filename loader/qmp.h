/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A QMP client on a non-blocking socket (QEMU docs/interop/qmp-spec.rst): the
 * greeting, capabilities with out-of-band execution, commands with ids, events.
 * One socket of QEMU serves one client at a time.
 */
#ifndef COLO_QMP_H
#define COLO_QMP_H

#include <stdbool.h>
#include <jansson.h>

#include "loop.h"

struct qmp;

/* An answer: `value` of "return", or the error's text (value is NULL then). */
typedef void qmp_answer(void *context, json_t *value, const char *error);

struct qmp_handler {
	/* Capabilities are negotiated. oob: QEMU executes out of band. */
	void (*ready)(void *context, bool oob);
	void (*event)(void *context, const char *name, json_t *data);
	/*
	 * The connection is of no more use: 0, QEMU closed it; -EPROTO, it
	 * speaks no QMP; another -errno. Unanswered commands are answered
	 * with an error before it. The callee may not free the client here.
	 */
	void (*closed)(void *context, int error, const char *text);
};

/* Takes over a connected stream socket. NULL: no memory. */
struct qmp *qmp_new(int fd, const struct qmp_handler *handler, void *context);

/* Connect to a Unix socket: the descriptor or -errno, no message. */
int qmp_connect(const char *path);

void qmp_free(struct qmp *qmp);

int qmp_fd(const struct qmp *qmp);
/*
 * When QEMU says that the last event was, as CLOCK_MONOTONIC. If it cannot be
 * believed, since it does not say or CLOCK_REALTIME was set meanwhile, a time
 * before it.
 */
unsigned long long qmp_event_ns(const struct qmp *qmp);
bool qmp_is_open(const struct qmp *qmp);

/* Of an answer's part, which may be missing or something else. */
bool qmp_text_is(const json_t *value, const char *text);

/* Let the loop call qmp_input() and qmp_output() until the connection ends. 0 or -errno. */
int qmp_watch(struct qmp *qmp, struct loop *loop);

/* Is something left to be written? Without a loop: poll for that, too. */
bool qmp_wants_write(const struct qmp *qmp);

/* Call when the socket is readable or writable. */
void qmp_input(struct qmp *qmp);
void qmp_output(struct qmp *qmp);

/*
 * Queue a command; it goes out at once if the client is ready. `arguments` is
 * taken over and may be NULL, so may be `answer`. oob: "exec-oob", or a plain
 * "execute" when QEMU cannot. 0 or -errno.
 */
int qmp_execute(struct qmp *qmp, bool oob, const char *command, json_t *arguments,
		qmp_answer *answer, void *context);

#endif
