// SPDX-License-Identifier: GPL-2.0-only
#include "unit.h"

#include <time.h>
#include <unistd.h>

#include <sys/epoll.h>

#include "loop.h"

#define MS 1000000ULL

struct end {
	struct loop *loop;
	int fd;
	int other; /* is removed when fd is ready, if not -1 */
	int calls;
};

static void on_ready(void *context, __u32 events)
{
	struct end *end = context;
	char byte;

	assert_true(events & EPOLLIN);
	assert_int_equal(read(end->fd, &byte, 1), 1);
	end->calls++;
	loop_remove(end->loop, end->other);
}

static void descriptors(void **state)
{
	struct loop *loop = loop_new();
	struct end end = {.loop = loop, .other = -1};
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	end.fd = fd[0];
	assert_int_equal(loop_add(loop, fd[0], EPOLLIN, on_ready, &end), 0);
	assert_int_equal(write(fd[1], "ab", 2), 2);
	assert_int_equal(loop_once(loop, NO_TIMER), 0);
	assert_int_equal(loop_once(loop, NO_TIMER), 0);
	assert_int_equal(end.calls, 2);
	/* Nothing to read: until the bound. */
	assert_int_equal(loop_once(loop, 0), 0);
	loop_change(loop, fd[0], 0);
	assert_int_equal(write(fd[1], "c", 1), 1);
	assert_int_equal(loop_once(loop, unit_now() + MS), 0);
	assert_int_equal(end.calls, 2);
	loop_remove(loop, fd[0]);
	assert_int_equal(loop_once(loop, unit_now() + MS), 0);
	assert_int_equal(end.calls, 2);
	loop_free(loop);
	close(fd[0]);
	close(fd[1]);
}

/* Both are ready at once; the first that is called removes the other. */
static void removed_while_ready(void **state)
{
	struct loop *loop = loop_new();
	struct end end[2];
	int fd[2][2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pipe(fd[i]), 0);
		assert_int_equal(write(fd[i][1], "a", 1), 1);
		end[i] = (struct end){loop, fd[i][0], -1, 0};
		assert_int_equal(loop_add(loop, fd[i][0], EPOLLIN, on_ready, &end[i]), 0);
	}
	end[0].other = end[1].fd;
	end[1].other = end[0].fd;
	assert_int_equal(loop_once(loop, NO_TIMER), 0);
	assert_int_equal(loop_once(loop, unit_now() + MS), 0);
	assert_int_equal(end[0].calls + end[1].calls, 1);
	loop_free(loop);
	for (int i = 0; i < 4; i++)
		close(fd[i / 2][i % 2]);
}

struct clock {
	struct loop *loop;
	struct loop_timer timer;
	int fired;
	int again; /* that many more, at once */
	struct clock *stop;
};

static void on_fire(void *context)
{
	struct clock *clock = context;

	clock->fired++;
	if (clock->again-- > 0)
		loop_timer_set(clock->loop, &clock->timer, 0);
	if (clock->stop)
		loop_timer_stop(clock->loop, &clock->stop->timer);
}

static void timers(void **state)
{
	struct loop *loop = loop_new();
	struct clock clock[3] = {};
	__u64 start = unit_now();

	(void)state;
	for (int i = 0; i < 3; i++) {
		clock[i].loop = loop;
		clock[i].timer.fire = on_fire;
		clock[i].timer.context = &clock[i];
		loop_timer_set(loop, &clock[i].timer, start + (i + 1) * 5 * MS);
	}
	/* The second is moved, the third stopped by the first. */
	loop_timer_set(loop, &clock[1].timer, start + 8 * MS);
	clock[0].stop = &clock[2];
	while (!clock[1].fired)
		assert_int_equal(loop_once(loop, NO_TIMER), 0);
	assert_true(unit_now() - start >= 8 * MS);
	assert_int_equal(clock[0].fired, 1);
	assert_int_equal(loop_once(loop, start + 20 * MS), 0);
	assert_int_equal(clock[2].fired, 0);
	assert_true(unit_now() - start >= 20 * MS);
	loop_free(loop);
}

/* One that is always due does not keep the loop for itself. */
static void timer_at_once(void **state)
{
	struct loop *loop = loop_new();
	struct clock clock = {.loop = loop, .again = 3};

	(void)state;
	clock.timer.fire = on_fire;
	clock.timer.context = &clock;
	loop_timer_set(loop, &clock.timer, 0);
	for (int i = 1; i <= 4; i++) {
		assert_int_equal(loop_once(loop, NO_TIMER), 0);
		assert_int_equal(clock.fired, i);
	}
	loop_free(loop);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(descriptors),
	cmocka_unit_test(removed_while_ready),
	cmocka_unit_test(timers),
	cmocka_unit_test(timer_at_once),
};

UNIT_RUN(loop, tests)
