// SPDX-License-Identifier: GPL-2.0-only
#include "clock.h"
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>

#include "daemon.h"
#include "task.h"

/* A daemon whose QEMU is the test itself. */
struct scene {
	struct daemon d;
	int qemu;
	char heard[512]; /* the commands, a space between */
	char error[128]; /* how the task ended: "" well */
	int ended;
	bool condition;
};

static struct scene *scene;

static void say(const char *text)
{
	assert_int_equal(write(scene->qemu, text, strlen(text)), strlen(text));
	qmp_input(scene->d.qmp);
}

/* Reads the commands that are there; the last one's id goes to `id`. */
static void hear(char id[32])
{
	char buffer[4096], *line, *rest = buffer;
	ssize_t n = recv(scene->qemu, buffer, sizeof(buffer) - 1, MSG_DONTWAIT);

	buffer[n > 0 ? n : 0] = 0;
	while ((line = strsep(&rest, "\n")) && *line) {
		json_t *object = json_loads(line, 0, NULL);
		const char *name = json_string_value(json_object_get(object, "execute"));

		if (strlen(scene->heard) + 64 < sizeof(scene->heard)) {
			strcat(scene->heard, name ? name : "?");
			strcat(scene->heard, " ");
		}
		snprintf(id, 32, "%s", json_string_value(json_object_get(object, "id")));
		json_decref(object);
	}
}

/* Answers the command that waits. */
static void answer(const char *member)
{
	char id[32], text[256];

	hear(id);
	snprintf(text, sizeof(text), "{%s, \"id\": \"%s\"}\r\n", member, id);
	say(text);
}

#define OK    "\"return\": {}"
#define WRONG "\"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}"

static int begin(void **state)
{
	static const struct qmp_handler handler = {0};
	int ends[2];

	scene = calloc(1, sizeof(*scene));
	*state = scene;
	if (!scene || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends))
		return -1;
	scene->qemu = ends[1];
	scene->d.qmp = qmp_new(ends[0], &handler, &scene->d);
	say("{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n");
	answer(OK);
	scene->heard[0] = 0;
	return 0;
}

static int finish(void **state)
{
	tasks_end(&scene->d.tasks);
	qmp_free(scene->d.qmp);
	close(scene->qemu);
	free(*state);
	return 0;
}

static void done(struct daemon *d, const char *name, const char *error)
{
	(void)d;
	assert_string_equal(name, "test");
	snprintf(scene->error, sizeof(scene->error), "%s", error ? error : "");
	scene->ended++;
}

static void run(task_main *main)
{
	assert_int_equal(task_start(&scene->d.tasks, &scene->d, "test", main, NULL, done), 0);
}

static int three_steps(struct task *task, struct daemon *d, void *context)
{
	(void)d;
	(void)context;
	if (task_do(task, "one", NULL)) {
		task_undo_qmp(task, "undo-one", NULL);
		if (task_do(task, "two", NULL)) {
			task_undo_qmp(task, "undo-two", NULL);
			if (task_do(task, "three", NULL))
				return 0;
		}
	}
	task_undo_all(task);
	return -EIO;
}

static void in_order(void **state)
{
	(void)state;
	run(three_steps);
	assert_int_equal(scene->ended, 0);
	answer(OK);
	answer(OK);
	assert_int_equal(scene->ended, 0);
	answer(OK);
	assert_int_equal(scene->ended, 1);
	assert_string_equal(scene->error, "");
	assert_string_equal(scene->heard, "one two three ");
	assert_null(scene->d.tasks.first);
}

/* What was done is undone backwards, and the first error is the reason. */
static void undone(void **state)
{
	(void)state;
	run(three_steps);
	answer(OK);
	answer(OK);
	answer(WRONG);
	assert_int_equal(scene->ended, 0);
	answer(WRONG); /* undo-two: logged, and on */
	answer(OK);
	assert_int_equal(scene->ended, 1);
	assert_string_equal(scene->error, "three: no such thing");
	assert_string_equal(scene->heard, "one two three undo-two undo-one ");
}

static void cancelled(void **state)
{
	char id[32], late[96];

	(void)state;
	run(three_steps);
	answer(OK);
	hear(id);
	task_cancel(task_find(&scene->d.tasks, "test"), "by the test");
	assert_int_equal(scene->ended, 0);
	/* the answer that nobody waits for any more is no answer to the undoing */
	snprintf(late, sizeof(late), "{\"return\": {}, \"id\": \"%s\"}\r\n", id);
	say(late);
	assert_int_equal(scene->ended, 0);
	answer(OK);
	assert_int_equal(scene->ended, 1);
	assert_string_equal(scene->error, "by the test");
	assert_string_equal(scene->heard, "one two undo-one ");
}

static void qemu_ends(void **state)
{
	(void)state;
	run(three_steps);
	answer(OK);
	shutdown(scene->qemu, SHUT_RDWR);
	qmp_input(scene->d.qmp);
	assert_int_equal(scene->ended, 1);
	assert_string_equal(scene->error, "two: QEMU closed the connection");
}

static bool holds(struct daemon *d)
{
	return ((struct scene *)d)->condition;
}

static int waits(struct task *task, struct daemon *d, void *context)
{
	(void)d;
	(void)context;
	if (!task_sleep(task, 10) || !task_until(task, holds, 50, "the condition"))
		return -EIO;
	return 0;
}

static void times(void **state)
{
	__u64 begun = clock_now();

	(void)state;
	run(waits);
	tasks_run(&scene->d.tasks, begun);
	assert_int_equal(scene->ended, 0);
	assert_true(tasks_next(&scene->d.tasks) >= begun + 10 * MS_NS);
	tasks_run(&scene->d.tasks, begun + 20 * MS_NS);
	tasks_run(&scene->d.tasks, begun + 21 * MS_NS);
	assert_int_equal(scene->ended, 0);
	scene->condition = true;
	tasks_run(&scene->d.tasks, begun + 22 * MS_NS);
	assert_int_equal(scene->ended, 1);
	assert_string_equal(scene->error, "");

	scene->condition = false;
	run(waits);
	tasks_run(&scene->d.tasks, clock_now() + 20 * MS_NS);
	tasks_run(&scene->d.tasks, clock_now() + 100 * MS_NS);
	assert_int_equal(scene->ended, 2);
	assert_string_equal(scene->error, "the condition: not within 50 ms");
}

static int news(struct task *task, struct daemon *d, void *context)
{
	__u64 seen = task_news_count(task);

	(void)d;
	(void)context;
	/* one that comes between the look and the wait ends the wait at once */
	tasks_news(&d->tasks);
	if (!task_news(task, seen, 1000))
		return -EIO;
	return task_news(task, task_news_count(task), 1000) ? 0 : -EIO;
}

static void hears_news(void **state)
{
	(void)state;
	run(news);
	tasks_run(&scene->d.tasks, clock_now());
	assert_int_equal(scene->ended, 0);
	tasks_news(&scene->d.tasks);
	tasks_run(&scene->d.tasks, clock_now());
	assert_int_equal(scene->ended, 1);
	assert_string_equal(scene->error, "");
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test_setup_teardown(in_order, begin, finish),
	cmocka_unit_test_setup_teardown(undone, begin, finish),
	cmocka_unit_test_setup_teardown(cancelled, begin, finish),
	cmocka_unit_test_setup_teardown(qemu_ends, begin, finish),
	cmocka_unit_test_setup_teardown(times, begin, finish),
	cmocka_unit_test_setup_teardown(hears_news, begin, finish),
};

UNIT_RUN(task, tests)
