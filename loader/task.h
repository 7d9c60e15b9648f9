/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A procedure of the daemon that reads from top to bottom, though QEMU and the
 * peer answer late: a coroutine of the event loop. It runs until it waits, and
 * goes on when what it waits for has come. Only one runs at a time, and no lock
 * is needed.
 */
#ifndef COLO_TASK_H
#define COLO_TASK_H

#include <stdbool.h>
#include <jansson.h>
#include <linux/types.h>

#include "qmp.h"

struct daemon;
struct task;

/* All tasks of a daemon. */
struct tasks {
	struct task *first;
	__u64 news; /* events that QEMU has sent */
};

/*
 * 0: done; else the task has failed, and task_error() says why. It is to undo
 * what it has begun before it returns, see task_undo_all().
 */
typedef int task_main(struct task *task, struct daemon *d, void *context);

/* The end, in the loop's context. error: NULL if it went well. */
typedef void task_done(struct daemon *d, const char *name, const char *error);

/*
 * Starts at once and runs until it first waits. The context is freed with the
 * task (free()), also when it cannot be started. 0 or -errno.
 */
int task_start(struct tasks *tasks, struct daemon *d, const char *name, task_main *main,
	       void *context, task_done *done);

/* The task of that name that runs, or NULL. */
struct task *task_find(const struct tasks *tasks, const char *name);

/* What it waits for fails with this text, and all that it waits for from there on. */
void task_cancel(struct task *task, const char *why);

/* Cancel all, and run what they undo as far as that does not wait. */
void tasks_end(struct tasks *tasks);

/* QEMU has sent an event. */
void tasks_news(struct tasks *tasks);

/* Conditions that are waited for, and timers: in each turn of the loop. */
void tasks_run(struct tasks *tasks, __u64 now_ns);
__u64 tasks_next(const struct tasks *tasks);

/* ---- within a task: these wait ------------------------------------------ */

/*
 * A QMP command of this side's QEMU: its return value, which is the caller's, or
 * NULL, and the task has failed with the command's name and QEMU's text. The
 * arguments are taken over.
 */
json_t *task_qmp(struct task *task, bool oob, const char *command, json_t *arguments);

/* The same where only success counts. */
bool task_do(struct task *task, const char *command, json_t *arguments);

/* Where an error is nothing: its value or NULL, and the task has not failed. */
json_t *task_try(struct task *task, const char *command, json_t *arguments);
json_t *task_try_oob(struct task *task, const char *command, json_t *arguments);

/* A call of the peer's daemon, likewise. */
json_t *task_call(struct task *task, const char *method, json_t *arguments, __u32 timeout_ms);

/*
 * Until QEMU has said something since `seen` (task_news_count()), or the time is
 * over: for loops that look at a state, then wait for it to change. False:
 * cancelled.
 */
__u64 task_news_count(const struct task *task);
bool task_news(struct task *task, __u64 seen, __u32 timeout_ms);

/* False: cancelled. */
bool task_sleep(struct task *task, __u32 ms);

/* The same, and it is no failure if it does not. */
bool task_try_until(struct task *task, bool (*holds)(struct daemon *d), __u32 timeout_ms);

/* Until the condition holds; it is looked at whenever the daemon wakes. */
bool task_until(struct task *task, bool (*holds)(struct daemon *d), __u32 timeout_ms,
		const char *what);

/* ---- within a task: failure ---------------------------------------------- */

/* Says why the task fails; the first reason stands. Returns false. */
bool task_fail(struct task *task, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
const char *task_error(const struct task *task);

/* It goes on all the same: the next failure is to be told, not this one. */
void task_error_clear(struct task *task);

/*
 * What undoes a step that was taken. It may wait; what it fails at is logged. The
 * argument is taken over.
 */
typedef void task_undo_step(struct task *task, json_t *argument);
void task_undo(struct task *task, task_undo_step *step, json_t *argument);

/* A QMP command here that undoes it, or a call of the peer. */
void task_undo_qmp(struct task *task, const char *command, json_t *arguments);
void task_undo_call(struct task *task, const char *method, json_t *arguments);

/* In reverse order; what cannot be undone is logged. For good: forget them all. */
void task_undo_all(struct task *task);
void task_undo_none(struct task *task);

#endif
