/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The event loop: descriptors that are waited for, and timers. One thread; what
 * is called may add, change and remove whatever it likes, itself included.
 */
#ifndef COLO_LOOP_H
#define COLO_LOOP_H

#include <stdbool.h>
#include <linux/types.h>

#define NO_TIMER (~0ULL)

struct loop;

/* events: EPOLLIN and so on (sys/epoll.h). */
typedef void loop_ready(void *context, __u32 events);

/* Part of whatever it belongs to; {} is one that does not run. */
struct loop_timer {
	__u64 due_ns; /* CLOCK_MONOTONIC */
	void (*fire)(void *context);
	void *context;
	struct loop_timer *next;
	bool armed;
};

struct loop *loop_new(void);
void loop_free(struct loop *loop);

/* 0 or -errno. A descriptor is removed before it is closed. */
int loop_add(struct loop *loop, int fd, __u32 events, loop_ready *ready, void *context);
void loop_change(struct loop *loop, int fd, __u32 events);
void loop_remove(struct loop *loop, int fd);

/* Fires once, at due_ns; setting it again moves it. NO_TIMER: not at all. */
void loop_timer_set(struct loop *loop, struct loop_timer *timer, __u64 due_ns);
void loop_timer_stop(struct loop *loop, struct loop_timer *timer);

/*
 * Wait until something is ready or due, or until_ns (NO_TIMER: no bound), and
 * call what belongs to it. 0 or -errno.
 */
int loop_once(struct loop *loop, __u64 until_ns);

#endif
