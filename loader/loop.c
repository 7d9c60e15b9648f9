// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "clock.h"
#include "loop.h"

#define READY_MAX 32 /* descriptors at a time */

struct watch {
	struct watch *next;
	int fd; /* -1: removed, freed when nothing of epoll's can point to it */
	loop_ready *ready;
	void *context;
};

struct loop {
	int epoll;
	int clock; /* epoll's own time-out counts in milliseconds */
	struct watch *watches;
	struct loop_timer *timers;
	bool removed;
};

struct loop *loop_new(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return NULL;
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	loop->clock = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	/* The clock has no watch: it wakes, and that is all. */
	if (loop->epoll >= 0 && loop->clock >= 0 &&
	    !epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->clock, &event))
		return loop;
	loop_free(loop);
	return NULL;
}

static void sweep(struct loop *loop, bool all)
{
	struct watch **at = &loop->watches, *watch;

	while ((watch = *at)) {
		if (!all && watch->fd >= 0) {
			at = &watch->next;
			continue;
		}
		*at = watch->next;
		free(watch);
	}
	loop->removed = false;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	sweep(loop, true);
	if (loop->clock >= 0)
		close(loop->clock);
	if (loop->epoll >= 0)
		close(loop->epoll);
	free(loop);
}

static struct watch *find(const struct loop *loop, int fd)
{
	struct watch *watch = loop->watches;

	while (watch && watch->fd != fd)
		watch = watch->next;
	return watch;
}

int loop_add(struct loop *loop, int fd, __u32 events, loop_ready *ready, void *context)
{
	struct watch *watch = calloc(1, sizeof(*watch));
	struct epoll_event event = {.events = events, .data.ptr = watch};
	int err;

	if (!watch)
		return -ENOMEM;
	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event)) {
		err = -errno;
		free(watch);
		return err;
	}
	*watch = (struct watch){loop->watches, fd, ready, context};
	loop->watches = watch;
	return 0;
}

void loop_change(struct loop *loop, int fd, __u32 events)
{
	struct epoll_event event = {.events = events, .data.ptr = find(loop, fd)};

	if (event.data.ptr)
		epoll_ctl(loop->epoll, EPOLL_CTL_MOD, fd, &event);
}

void loop_remove(struct loop *loop, int fd)
{
	struct watch *watch = fd < 0 ? NULL : find(loop, fd);

	if (!watch)
		return;
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, fd, NULL);
	watch->fd = -1;
	loop->removed = true;
}

/* -------------------------------------------------------------- timers --- */

void loop_timer_stop(struct loop *loop, struct loop_timer *timer)
{
	struct loop_timer **at = &loop->timers;

	if (!timer->armed)
		return;
	while (*at && *at != timer)
		at = &(*at)->next;
	if (*at)
		*at = timer->next;
	timer->armed = false;
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, __u64 due_ns)
{
	loop_timer_stop(loop, timer);
	timer->due_ns = due_ns;
	if (due_ns == NO_TIMER)
		return;
	timer->next = loop->timers;
	timer->armed = true;
	loop->timers = timer;
}

static struct loop_timer *first_timer(const struct loop *loop)
{
	struct loop_timer *first = loop->timers;

	for (struct loop_timer *timer = first; timer; timer = timer->next)
		if (timer->due_ns < first->due_ns)
			first = timer;
	return first;
}

/* Those that are due. As many as there are: one may set itself to now again. */
static void fire_timers(struct loop *loop)
{
	struct loop_timer *timer;
	__u64 now = clock_now();
	unsigned int bound = 0;

	for (timer = loop->timers; timer; timer = timer->next)
		bound++;
	while (bound-- && (timer = first_timer(loop)) && timer->due_ns <= now) {
		loop_timer_stop(loop, timer);
		timer->fire(timer->context);
	}
}

/* ---------------------------------------------------------------- wait --- */

static void set_clock(struct loop *loop, __u64 due_ns)
{
	struct itimerspec spec = {
		.it_value.tv_sec = due_ns / 1000000000ULL,
		.it_value.tv_nsec = due_ns % 1000000000ULL,
	};

	if (due_ns == NO_TIMER)
		spec = (struct itimerspec){};
	else if (!due_ns)
		spec.it_value.tv_nsec = 1; /* 0 would disarm it */
	timerfd_settime(loop->clock, TFD_TIMER_ABSTIME, &spec, NULL);
}

int loop_once(struct loop *loop, __u64 until_ns)
{
	const struct loop_timer *first = first_timer(loop);
	struct epoll_event events[READY_MAX];
	int count;

	if (first && first->due_ns < until_ns)
		until_ns = first->due_ns;
	set_clock(loop, until_ns);
	count = epoll_wait(loop->epoll, events, READY_MAX, -1);
	if (count < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < count; i++) {
		struct watch *watch = events[i].data.ptr;

		/* The clock, or what one before has removed. */
		if (watch && watch->fd >= 0)
			watch->ready(watch->context, events[i].events);
	}
	fire_timers(loop);
	if (loop->removed)
		sweep(loop, false);
	return 0;
}
