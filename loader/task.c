// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <sys/mman.h>

#include "channel.h"
#include "clock.h"
#include "daemon.h"
#include "log.h"
#include "task.h"

#define STACK_BYTES  (256 << 10)
#define GUARD_BYTES  4096
#define UNDO_CALL_MS 5000
#define ERROR_BYTES  512

enum wait {
	WAIT_NOTHING,
	WAIT_ANSWER,
	WAIT_TIME,
	WAIT_UNTIL,
	WAIT_NEWS,
};

/* An answer that is outstanding; the task may be cancelled before it comes. */
struct pending {
	struct task *task; /* NULL: nobody waits any more */
};

struct undo {
	struct undo *next;
	task_undo_step *step;
	json_t *argument;
};

struct task {
	struct task *next;
	struct daemon *d;
	const char *name;
	task_main *main;
	void *context;
	task_done *done;
	int result;
	bool ended;

	char *stack;
	ucontext_t self, loop;

	enum wait wait;
	struct pending *pending;
	__u64 until_ns;
	bool (*holds)(struct daemon *d);
	bool held; /* the condition has come true, not the time-out */
	__u64 seen;

	json_t *value; /* of the answer */
	char *answer_error;

	char *cancelled; /* why */
	bool undoing;
	char error[ERROR_BYTES];
	struct undo *undo;
};

/* makecontext() passes ints only. */
static struct task *entering;

static void task_enter(void)
{
	struct task *task = entering;

	task->result = task->main(task, task->d, task->context);
	task->ended = true;
	swapcontext(&task->self, &task->loop);
}

static void task_free(struct task *task)
{
	task_undo_none(task);
	json_decref(task->value);
	free(task->answer_error);
	free(task->cancelled);
	free(task->context);
	if (task->stack)
		munmap(task->stack, STACK_BYTES);
	free(task);
}

static void task_unlink(struct tasks *tasks, struct task *task)
{
	struct task **at = &tasks->first;

	while (*at && *at != task)
		at = &(*at)->next;
	if (*at)
		*at = task->next;
}

static void task_resume(struct task *task)
{
	struct daemon *d = task->d;
	const char *error = NULL;

	task->wait = WAIT_NOTHING;
	swapcontext(&task->loop, &task->self);
	if (!task->ended)
		return;
	task_unlink(&d->tasks, task);
	if (task->result)
		error = *task->error ? task->error : "failed";
	if (task->done)
		task->done(d, task->name, error);
	task_free(task);
}

int task_start(struct tasks *tasks, struct daemon *d, const char *name, task_main *main,
	       void *context, task_done *done)
{
	struct task *task = calloc(1, sizeof(*task));

	if (!task) {
		free(context);
		return -ENOMEM;
	}
	task->d = d;
	task->name = name;
	task->main = main;
	task->context = context;
	task->done = done;
	task->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (task->stack == MAP_FAILED) {
		task->stack = NULL;
		task_free(task);
		return -ENOMEM;
	}
	mprotect(task->stack, GUARD_BYTES, PROT_NONE);
	getcontext(&task->self);
	task->self.uc_stack.ss_sp = task->stack + GUARD_BYTES;
	task->self.uc_stack.ss_size = STACK_BYTES - GUARD_BYTES;
	makecontext(&task->self, task_enter, 0);
	task->next = tasks->first;
	tasks->first = task;
	entering = task;
	task_resume(task);
	return 0;
}

struct task *task_find(const struct tasks *tasks, const char *name)
{
	struct task *task = tasks->first;

	while (task && strcmp(task->name, name))
		task = task->next;
	return task;
}

/* ---- waiting --------------------------------------------------------------- */

static bool task_is_cancelled(struct task *task)
{
	if (!task->cancelled || task->undoing)
		return false;
	task_fail(task, "%s", task->cancelled);
	return true;
}

static void task_wait(struct task *task, enum wait wait)
{
	task->wait = wait;
	swapcontext(&task->self, &task->loop);
}

static void on_answer(void *context, json_t *value, const char *error)
{
	struct pending *pending = context;
	struct task *task = pending->task;

	free(pending);
	if (!task)
		return;
	task->pending = NULL;
	task->value = error ? NULL : json_incref(value ? value : json_null());
	task->answer_error = error ? strdup(error) : NULL;
	/* One that fails at once is answered before anybody waits. */
	if (task->wait == WAIT_ANSWER)
		task_resume(task);
}

static struct pending *pending_new(struct task *task)
{
	struct pending *pending = calloc(1, sizeof(*pending));

	if (!pending)
		return NULL;
	pending->task = task;
	task->pending = pending;
	json_decref(task->value);
	free(task->answer_error);
	task->value = NULL;
	task->answer_error = NULL;
	return pending;
}

/* What has come for `what`. */
static json_t *take_answer(struct task *task, const char *what)
{
	json_t *value;

	if (task->pending)
		task_wait(task, WAIT_ANSWER);
	if (task_is_cancelled(task))
		return NULL;
	if (!task->value) {
		task_fail(task, "%s: %s", what,
			  task->answer_error ? task->answer_error : "no answer");
		return NULL;
	}
	value = task->value;
	task->value = NULL;
	return value;
}

json_t *task_qmp(struct task *task, bool oob, const char *command, json_t *arguments)
{
	struct qmp *qmp = task->d->qmp;
	struct pending *pending;
	int err = -ENOTCONN;

	if (task_is_cancelled(task) || !(pending = pending_new(task))) {
		json_decref(arguments);
		return NULL;
	}
	if (qmp)
		err = qmp_execute(qmp, oob, command, arguments, on_answer, pending);
	else
		json_decref(arguments);
	if (err) {
		free(pending);
		task->pending = NULL;
		task_fail(task, "%s: %s", command,
			  err == -ENOTCONN ? "QEMU is not connected" : strerror(-err));
		return NULL;
	}
	return take_answer(task, command);
}

bool task_do(struct task *task, const char *command, json_t *arguments)
{
	json_t *value = task_qmp(task, false, command, arguments);

	json_decref(value);
	return value;
}

static json_t *try(struct task *task, bool oob, const char *command, json_t *arguments)
{
	char before[ERROR_BYTES];
	json_t *value;

	memcpy(before, task->error, sizeof(before));
	value = task_qmp(task, oob, command, arguments);
	if (!value)
		log_debug("%s: %s", task->name, task->error);
	if (!task->cancelled)
		memcpy(task->error, before, sizeof(before));
	return value;
}

json_t *task_try(struct task *task, const char *command, json_t *arguments)
{
	return try(task, false, command, arguments);
}

json_t *task_try_oob(struct task *task, const char *command, json_t *arguments)
{
	return try(task, true, command, arguments);
}

json_t *task_call(struct task *task, const char *method, json_t *arguments, __u32 timeout_ms)
{
	char what[64];
	struct pending *pending;
	int err;

	snprintf(what, sizeof(what), "the peer, %s", method);
	if (task_is_cancelled(task) || !(pending = pending_new(task))) {
		json_decref(arguments);
		return NULL;
	}
	err = channel_call(task->d->channel, method, arguments, timeout_ms, on_answer, pending);
	if (err) {
		free(pending);
		task->pending = NULL;
		task_fail(task, "%s: %s", what,
			  err == -ENOTCONN ? "its daemon is not connected" : strerror(-err));
		return NULL;
	}
	return take_answer(task, what);
}

bool task_sleep(struct task *task, __u32 ms)
{
	if (task_is_cancelled(task))
		return false;
	task->until_ns = clock_now() + ms * MS_NS;
	task_wait(task, WAIT_TIME);
	return !task_is_cancelled(task);
}

bool task_try_until(struct task *task, bool (*holds)(struct daemon *d), __u32 timeout_ms)
{
	if (task_is_cancelled(task))
		return false;
	if (holds(task->d))
		return true;
	task->holds = holds;
	task->held = false;
	task->until_ns = clock_now() + timeout_ms * MS_NS;
	task_wait(task, WAIT_UNTIL);
	return !task_is_cancelled(task) && task->held;
}

bool task_until(struct task *task, bool (*holds)(struct daemon *d), __u32 timeout_ms,
		const char *what)
{
	if (task_try_until(task, holds, timeout_ms))
		return true;
	return task_fail(task, "%s: not within %u ms", what, timeout_ms);
}

__u64 task_news_count(const struct task *task)
{
	return task->d->tasks.news;
}

bool task_news(struct task *task, __u64 seen, __u32 timeout_ms)
{
	if (task_is_cancelled(task))
		return false;
	if (task->d->tasks.news != seen)
		return true;
	task->seen = seen;
	task->until_ns = clock_now() + timeout_ms * MS_NS;
	task_wait(task, WAIT_NEWS);
	return !task_is_cancelled(task);
}

/* ---- from the loop --------------------------------------------------------- */

void task_cancel(struct task *task, const char *why)
{
	if (task->cancelled)
		return;
	task->cancelled = strdup(why);
	if (task->undoing)
		return;
	if (task->pending)
		task->pending->task = NULL;
	task->pending = NULL;
	if (task->wait != WAIT_NOTHING)
		task_resume(task);
}

void tasks_end(struct tasks *tasks)
{
	struct task *task;

	while ((task = tasks->first)) {
		task_cancel(task, "the daemon ends");
		if (tasks->first != task)
			continue;
		/* It waits while it undoes: what is left of that stays undone. */
		task_unlink(tasks, task); /* NOLINT: it is there, so it was not freed */
		if (task->pending)
			task->pending->task = NULL;
		task_free(task);
	}
}

static bool task_is_due(struct task *task, __u64 now_ns)
{
	if (task->wait == WAIT_UNTIL && task->holds(task->d)) {
		task->held = true;
		return true;
	}
	if (task->wait == WAIT_NEWS && task->d->tasks.news != task->seen)
		return true;
	return task->wait > WAIT_ANSWER && now_ns >= task->until_ns;
}

void tasks_news(struct tasks *tasks)
{
	tasks->news++;
}

void tasks_run(struct tasks *tasks, __u64 now_ns)
{
	struct task *task = tasks->first;

	while (task) {
		if (!task_is_due(task, now_ns)) { /* NOLINT: who ends is in the list no more */
			task = task->next;
			continue;
		}
		task_resume(task);
		task = tasks->first; /* any may have ended by that */
	}
}

__u64 tasks_next(const struct tasks *tasks)
{
	__u64 next = NO_TIMER;

	for (const struct task *task = tasks->first; task; task = task->next)
		if (task->wait > WAIT_ANSWER && task->until_ns < next)
			next = task->until_ns;
	return next;
}

/* ---- failure ---------------------------------------------------------------- */

bool task_fail(struct task *task, const char *format, ...)
{
	char text[ERROR_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (task->undoing)
		log_warning("%s: cannot be undone: %s", task->name, text);
	else if (!*task->error)
		memcpy(task->error, text, sizeof(text));
	return false;
}

void task_error_clear(struct task *task)
{
	*task->error = 0;
}

const char *task_error(const struct task *task)
{
	return task->error;
}

void task_undo(struct task *task, task_undo_step *step, json_t *argument)
{
	struct undo *undo = calloc(1, sizeof(*undo));

	if (!undo) {
		json_decref(argument);
		return;
	}
	undo->step = step;
	undo->argument = argument;
	undo->next = task->undo;
	task->undo = undo;
}

static void undo_qmp(struct task *task, json_t *argument)
{
	json_decref(task_qmp(task, false,
			     json_string_value(json_object_get(argument, "command")),
			     json_incref(json_object_get(argument, "arguments"))));
}

static void undo_call(struct task *task, json_t *argument)
{
	json_decref(task_call(task, json_string_value(json_object_get(argument, "command")),
			      json_incref(json_object_get(argument, "arguments")),
			      UNDO_CALL_MS));
}

void task_undo_qmp(struct task *task, const char *command, json_t *arguments)
{
	task_undo(task, undo_qmp,
		  json_pack("{s:s, s:o*}", "command", command, "arguments", arguments));
}

void task_undo_call(struct task *task, const char *method, json_t *arguments)
{
	task_undo(task, undo_call,
		  json_pack("{s:s, s:o*}", "command", method, "arguments", arguments));
}

static struct undo *undo_pop(struct task *task)
{
	struct undo *undo = task->undo;

	if (undo)
		task->undo = undo->next;
	return undo;
}

static void undo_free(struct undo *undo)
{
	json_decref(undo->argument);
	free(undo);
}

void task_undo_all(struct task *task)
{
	struct undo *undo;

	task->undoing = true;
	while ((undo = undo_pop(task))) {
		undo->step(task, undo->argument);
		undo_free(undo);
	}
	task->undoing = false;
}

void task_undo_none(struct task *task)
{
	struct undo *undo;

	while ((undo = undo_pop(task)))
		undo_free(undo);
}
