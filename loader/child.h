/* SPDX-License-Identifier: GPL-2.0-only */
/* A program that runs beside the event loop, for a bounded time. */
#ifndef COLO_CHILD_H
#define COLO_CHILD_H

#include "loop.h"

struct child;

/*
 * Run argv, without a shell, in a process group of its own, with nothing on
 * standard input. done: once, from the loop; status: its exit status, -1 if a
 * signal ended it, as it does after timeout_ms. NULL: it could not be started;
 * errno says why.
 */
struct child *child_start(struct loop *loop, char *const *argv, __u32 timeout_ms,
			  void (*done)(void *context, int status), void *context);

/* End it and what it has started; done is not called. NULL is nothing. */
void child_kill(struct child *child);

#endif
