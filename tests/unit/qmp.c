// SPDX-License-Identifier: GPL-2.0-only
/* The QMP client against a scripted QEMU at the other end of a socket pair. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>

#include "qmp.h"

#define GREETING     "{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\r\n"
#define GREETING_OLD "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"
#define CAPABLE      "{\"return\": {}, \"id\": \"colo-0\"}\r\n"

struct rig {
	struct qmp *qmp;
	int qemu;
	int ready, oob, events, answers, errors, closed, error;
	char event[64];
	char text[256];  /* of the last error */
	char value[128]; /* of the last answer */
};

static void on_ready(void *context, bool oob)
{
	struct rig *rig = context;

	rig->ready++;
	rig->oob = oob;
}

static void on_event(void *context, const char *name, json_t *data)
{
	struct rig *rig = context;

	(void)data;
	rig->events++;
	snprintf(rig->event, sizeof(rig->event), "%s", name);
}

static void on_closed(void *context, int error, const char *text)
{
	struct rig *rig = context;

	rig->closed++;
	rig->error = error;
	snprintf(rig->text, sizeof(rig->text), "%s", text);
}

static void on_answer(void *context, json_t *value, const char *error)
{
	struct rig *rig = context;

	if (error) {
		rig->errors++;
		snprintf(rig->text, sizeof(rig->text), "%s", error);
	} else {
		char *dump = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

		rig->answers++;
		snprintf(rig->value, sizeof(rig->value), "%s", dump);
		free(dump);
	}
}

static int open_rig(void **state)
{
	static const struct qmp_handler handler = {on_ready, on_event, on_closed};
	struct rig *rig = calloc(1, sizeof(*rig));
	int fd[2];

	if (!rig || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd)) {
		free(rig);
		return -1;
	}
	rig->qmp = qmp_new(fd[0], &handler, rig);
	rig->qemu = fd[1];
	*state = rig;
	return 0;
}

static int close_rig(void **state)
{
	struct rig *rig = *state;

	qmp_free(rig->qmp);
	if (rig->qemu >= 0)
		close(rig->qemu);
	free(rig);
	return 0;
}

static void say(struct rig *rig, const char *text)
{
	assert_int_equal(write(rig->qemu, text, strlen(text)), strlen(text));
	qmp_input(rig->qmp);
}

/* What the client has sent, as one string. */
static const char *heard(struct rig *rig)
{
	static char text[65536];
	ssize_t n = read(rig->qemu, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = 0;
	return text;
}

static void make_ready(struct rig *rig)
{
	say(rig, GREETING);
	assert_non_null(strstr(heard(rig), "\"enable\":[\"oob\"]"));
	say(rig, CAPABLE);
	assert_int_equal(rig->ready, 1);
	assert_true(rig->oob);
}

static void answers_find_their_commands(void **state)
{
	struct rig *rig = *state;

	make_ready(rig);
	qmp_execute(rig->qmp, false, "one", NULL, on_answer, rig);
	qmp_execute(rig->qmp, true, "two", json_pack("{s:i}", "x", 1), on_answer, rig);
	assert_string_equal(
		heard(rig),
		"{\"execute\":\"one\",\"id\":\"colo-1\"}\n"
		"{\"exec-oob\":\"two\",\"arguments\":{\"x\":1},\"id\":\"colo-2\"}\n");
	/* Out of band: in another order. */
	say(rig, "{\"return\": 2, \"id\": \"colo-2\"}\r\n");
	assert_string_equal(rig->value, "2");
	say(rig, "{\"return\": {\"a\": 1}, \"id\": \"colo-1\"}\r\n");
	assert_string_equal(rig->value, "{\"a\":1}");
	assert_int_equal(rig->answers, 2);
}

static void without_oob(void **state)
{
	struct rig *rig = *state;

	say(rig, GREETING_OLD);
	assert_non_null(strstr(heard(rig), "\"enable\":[]"));
	say(rig, CAPABLE);
	assert_false(rig->oob);
	qmp_execute(rig->qmp, true, "two", NULL, on_answer, rig);
	assert_non_null(strstr(heard(rig), "\"execute\":\"two\""));
}

static void commands_wait_until_ready(void **state)
{
	struct rig *rig = *state;

	qmp_execute(rig->qmp, false, "early", NULL, on_answer, rig);
	assert_string_equal(heard(rig), "");
	make_ready(rig);
	assert_non_null(strstr(heard(rig), "\"early\""));
}

static void slow(void **state)
{
	static const char text[] = GREETING CAPABLE
		"{\"event\": \"STOP\", \"timestamp\": {}}\r\n";
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		char byte[2] = {text[i]};

		say(rig, byte);
	}
	assert_int_equal(rig->ready, 1);
	assert_int_equal(rig->events, 1);
	assert_string_equal(rig->event, "STOP");
}

static void all_at_once(void **state)
{
	struct rig *rig = *state;

	say(rig, GREETING CAPABLE "{\"event\": \"A\"}\n\n{\"event\": \"B\"}\n");
	assert_int_equal(rig->events, 2);
	assert_string_equal(rig->event, "B");
}

static void errors_are_answers(void **state)
{
	struct rig *rig = *state;

	make_ready(rig);
	qmp_execute(rig->qmp, false, "x", NULL, on_answer, rig);
	say(rig,
	    "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such\"}, \"id\": \"colo-1\"}\n");
	assert_int_equal(rig->errors, 1);
	assert_string_equal(rig->text, "no such");
	assert_int_equal(rig->closed, 0);
	/* of no command: only logged, that is off here */
	say(rig, "{\"return\": {}, \"id\": \"colo-77\"}\n");
	say(rig, "{\"return\": {}}\n");
	assert_true(qmp_is_open(rig->qmp));
}

static void junk(void **state)
{
	static const char *const lines[] = {
		"SSH-2.0-OpenSSH_9.2\r\n", "[1, 2]\n", "42\n",       "{\"a\": \n",
		"{\"QMP\": 1}\n",          "{}\n",     "\"text\"\n", "\x01\xff\xfe\n",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		struct rig *rig;

		close_rig(state);
		if (open_rig(state)) {
			fail();
			return;
		}
		rig = *state;
		say(rig, lines[i]);
		assert_int_equal(rig->closed, 1);
		assert_int_equal(rig->error, -EPROTO);
		assert_true(strlen(rig->text) > 10);
		assert_int_equal(qmp_execute(rig->qmp, false, "x", NULL, NULL, NULL),
				 -ENOTCONN);
	}
}

static void junk_later(void **state)
{
	struct rig *rig = *state;

	make_ready(rig);
	qmp_execute(rig->qmp, false, "x", NULL, on_answer, rig);
	say(rig, "{\"neither\": 1}\n");
	assert_int_equal(rig->error, -EPROTO);
	assert_int_equal(rig->errors, 1); /* the command has its end */
	assert_int_equal(rig->closed, 1);
}

static void dropped(void **state)
{
	struct rig *rig = *state;

	make_ready(rig);
	qmp_execute(rig->qmp, false, "x", NULL, on_answer, rig);
	qmp_execute(rig->qmp, false, "y", NULL, on_answer, rig);
	close(rig->qemu);
	rig->qemu = -1;
	qmp_input(rig->qmp);
	assert_int_equal(rig->closed, 1);
	assert_int_equal(rig->error, 0);
	assert_int_equal(rig->errors, 2);
	qmp_input(rig->qmp);
	assert_int_equal(rig->closed, 1);
}

static void dropped_while_writing(void **state)
{
	struct rig *rig = *state;

	make_ready(rig);
	close(rig->qemu);
	rig->qemu = -1;
	qmp_execute(rig->qmp, false, "x", NULL, on_answer, rig);
	assert_int_equal(rig->closed, 1);
	assert_int_equal(rig->error, 0);
}

/* QEMU does not read: nothing is lost, nothing blocks. */
static void full_socket(void **state)
{
	struct rig *rig = *state;
	size_t bytes = 0;
	int sent = 0;

	make_ready(rig);
	while (!qmp_wants_write(rig->qmp) && sent < 100000) {
		qmp_execute(rig->qmp, false, "command", NULL, NULL, NULL);
		sent++;
	}
	assert_true(qmp_wants_write(rig->qmp));
	for (int i = 0; i < 1000; i++) {
		bytes += strlen(heard(rig));
		qmp_output(rig->qmp);
	}
	assert_false(qmp_wants_write(rig->qmp));
	assert_true(bytes > (size_t)sent * 30);
}

#define RIG_TEST(f) cmocka_unit_test_setup_teardown(f, open_rig, close_rig)

static const struct CMUnitTest tests[] = {
	RIG_TEST(answers_find_their_commands),
	RIG_TEST(without_oob),
	RIG_TEST(commands_wait_until_ready),
	RIG_TEST(slow),
	RIG_TEST(all_at_once),
	RIG_TEST(errors_are_answers),
	RIG_TEST(junk),
	RIG_TEST(junk_later),
	RIG_TEST(dropped),
	RIG_TEST(dropped_while_writing),
	RIG_TEST(full_socket),
};

UNIT_RUN(qmp, tests)
