// SPDX-License-Identifier: GPL-2.0-only
/* A witness's memory, programs that run beside the loop, and asking a witness. */
#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "ask.h"
#include "child.h"
#include "grant.h"

#define MS      1000000ULL
#define SESSION "0123456789abcdef0123456789abcdef"
#define OTHER   "ffffffffffffffffffffffffffffffff"

static char directory[64];
static char holder[GRANT_HOST + 1];
static struct loop *loop;

static int set_up(void **state)
{
	(void)state;
	strcpy(directory, "/tmp/colo-unit.XXXXXX");
	loop = loop_new();
	return !mkdtemp(directory) || !loop;
}

static int tear_down(void **state)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;
	char path[512];

	(void)state;
	while ((entry = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
		unlink(path);
	}
	closedir(dir);
	loop_free(loop);
	return rmdir(directory);
}

/* --------------------------------------------------------------- memory -- */

static void claimed_once(void **state)
{
	(void)state;
	assert_int_equal(grant_holder(directory, SESSION, holder), 0);
	assert_string_equal(holder, "");
	assert_int_equal(grant_claim(directory, SESSION, "secondary", holder), 0);
	assert_string_equal(holder, "secondary");
	/* Again, by a daemon that was restarted. */
	assert_int_equal(grant_claim(directory, SESSION, "secondary", holder), 0);
	assert_int_equal(grant_claim(directory, SESSION, "primary", holder), 1);
	assert_string_equal(holder, "secondary");
	assert_int_equal(grant_claim(directory, OTHER, "primary", holder), 0);
	assert_int_equal(grant_holder(directory, SESSION, holder), 0);
	assert_string_equal(holder, "secondary");
}

static void given_back(void **state)
{
	(void)state;
	assert_int_equal(grant_release(directory, SESSION, "primary", holder), 0);
	assert_int_equal(grant_claim(directory, SESSION, "secondary", holder), 0);
	assert_int_equal(grant_release(directory, SESSION, "primary", holder), 1);
	assert_string_equal(holder, "secondary");
	assert_int_equal(grant_release(directory, SESSION, "secondary", holder), 0);
	assert_int_equal(grant_claim(directory, SESSION, "primary", holder), 0);
}

/* Twenty at once, ten for each host: one host has it, whoever asks. */
static void at_once(void **state)
{
	int got[2] = {};
	pid_t pid[20];

	(void)state;
	for (int i = 0; i < 20; i++) {
		pid[i] = fork();
		if (!pid[i])
			_exit(grant_claim(directory, SESSION, i % 2 ? "primary" : "secondary",
					  holder));
	}
	for (int i = 0; i < 20; i++) {
		int status;

		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
		got[i % 2] += WEXITSTATUS(status) == 0;
	}
	assert_true((got[0] == 10 && !got[1]) || (got[1] == 10 && !got[0]));
}

static void damaged(void **state)
{
	char path[128];
	FILE *file;

	(void)state;
	snprintf(path, sizeof(path), "%s/" SESSION, directory);
	file = fopen(path, "w");
	assert_non_null(file);
	fclose(file);
	assert_int_equal(grant_claim(directory, SESSION, "primary", holder), -EBADMSG);
	assert_int_equal(grant_claim("/no/such", SESSION, "primary", holder), -ENOENT);
}

static void names(void **state)
{
	(void)state;
	assert_true(grant_session_valid(SESSION));
	assert_false(grant_session_valid(SESSION "0"));
	assert_false(grant_session_valid("0123456789ABCDEF0123456789abcdef"));
	assert_false(grant_session_valid("../23456789abcdef0123456789abcdef"));
	assert_true(grant_host_valid("primary"));
	assert_false(grant_host_valid(""));
	assert_false(grant_host_valid("a b"));
	assert_false(grant_host_valid("seventeen-letters"));
}

/* ------------------------------------------------------------- children -- */

struct end {
	int count;
	int status;
};

static void on_done(void *context, int status)
{
	struct end *end = context;

	end->count++;
	end->status = status;
}

static struct child *start(struct end *end, const char *script, __u32 timeout_ms)
{
	char *const argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)script, NULL};

	memset(end, 0, sizeof(*end));
	return child_start(loop, argv, timeout_ms, on_done, end);
}

static void statuses(void **state)
{
	static const struct {
		const char *script;
		int status;
	} rows[] = {
		{"exit 0", 0},
		{"exit 7", 7},
		{"kill -9 $$", -1},
		/* nothing to read, and no signal is blocked */
		{"read x && exit 1; exit 3", 3},
		{"kill -TERM $$; exit 0", -1},
	};
	struct end end;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		assert_non_null(start(&end, rows[i].script, 5000));
		run_until(end.count);
		assert_int_equal(end.status, rows[i].status);
	}
}

static bool is_there(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return !access(path, F_OK);
}

/* Too late: it ends, and what it has started, too. */
static void too_late(void **state)
{
	char script[256];
	struct end end;
	__u64 begin = unit_now();

	(void)state;
	snprintf(script, sizeof(script), "(sleep 0.3; touch %s/late) & wait", directory);
	assert_non_null(start(&end, script, 100));
	run_until(end.count);
	assert_int_equal(end.status, -1);
	assert_true(unit_now() - begin >= 100 * MS);
	while (unit_now() < begin + 600 * MS)
		loop_once(loop, begin + 600 * MS);
	assert_false(is_there("late"));
	assert_int_equal(end.count, 1);
}

static void called_back(void **state)
{
	struct child *child;
	struct end end;
	__u64 until;

	(void)state;
	child = start(&end, "sleep 100", 5000);
	assert_non_null(child);
	child_kill(child);
	until = unit_now() + 50 * MS;
	while (unit_now() < until)
		loop_once(loop, until);
	assert_int_equal(end.count, 0);
	child_kill(NULL);
}

static void not_there(void **state)
{
	char *const argv[] = {(char *)"/no/such", NULL};
	struct end end = {};

	(void)state;
	assert_null(child_start(loop, argv, 100, on_done, &end));
	assert_int_equal(errno, ENOENT);
}

/* --------------------------------------------------------------- asking -- */

struct reply {
	int count;
	enum ask_result result;
	char why[128];
};

static void on_reply(void *context, enum ask_result result, const char *why)
{
	struct reply *reply = context;

	reply->count++;
	reply->result = result;
	snprintf(reply->why, sizeof(reply->why), "%s", why);
}

static int listener(char *witness, size_t size)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	snprintf(witness, size, "tcp:127.0.0.1:%u", ntohs(address.sin_port));
	return fd;
}

/* What a witness says, and what that means. */
static void answers(void **state)
{
	static const struct {
		const char *says;
		enum ask_result result;
		const char *why;
	} rows[] = {
		{"colo-bpf witness 1\ngranted primary\n", ASK_YES, ""},
		{"colo-bpf witness 1\nreleased\n", ASK_YES, ""},
		{"colo-bpf witness 1\nrefused secondary\n", ASK_NO, "secondary"},
		{"colo-bpf witness 1\nerror No space left\n", ASK_NOTHING, "No space left"},
		{"colo-bpf witness 2\ngranted primary\n", ASK_NOTHING, "it is no witness"},
		{"colo-bpf witness 1\ngrantedprimary\n", ASK_NOTHING, "it is no witness"},
		{"HTTP/1.1 400 Bad Request\n\n", ASK_NOTHING, "it is no witness"},
		{"colo-bpf witness 1\ngranted", ASK_NOTHING, "no answer in time"},
		{"", ASK_NOTHING, "no answer in time"},
	};
	char witness[64], heard[256];
	int fd = listener(witness, sizeof(witness));

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		bool silent = !strcmp(rows[i].why, "no answer in time");
		struct reply reply = {};
		ssize_t n;
		int client;

		assert_non_null(ask_start(loop, witness, ASK_CLAIM, SESSION, "primary",
					  silent ? 200 : 5000, on_reply, &reply));
		client = accept(fd, NULL, NULL);
		assert_int_equal(send(client, rows[i].says, strlen(rows[i].says), 0),
				 strlen(rows[i].says));
		run_until(reply.count);
		assert_int_equal(reply.result, rows[i].result);
		assert_memory_equal(reply.why, rows[i].why, strlen(rows[i].why));
		n = recv(client, heard, sizeof(heard) - 1, 0);
		assert_true(n > 0);
		heard[n] = 0;
		assert_string_equal(heard, "colo-bpf witness 1\nclaim " SESSION " primary\n");
		close(client);
	}
	close(fd);
}

/* Nobody listens; or who does hangs up. */
static void no_witness(void **state)
{
	struct reply reply = {};
	char witness[64];
	int fd = listener(witness, sizeof(witness)), client;

	(void)state;
	assert_non_null(ask_start(loop, witness, ASK_RELEASE, SESSION, "primary", 5000,
				  on_reply, &reply));
	client = accept(fd, NULL, NULL);
	close(client);
	run_until(reply.count);
	assert_int_equal(reply.result, ASK_NOTHING);
	close(fd);
	memset(&reply, 0, sizeof(reply));
	assert_non_null(ask_start(loop, witness, ASK_CLAIM, SESSION, "primary", 5000, on_reply,
				  &reply));
	assert_int_equal(reply.count, 0);
	run_until(reply.count);
	assert_int_equal(reply.result, ASK_NOTHING);
	assert_string_equal(reply.why, "Connection refused");
}

static void ask_called_back(void **state)
{
	struct reply reply = {};
	char witness[64];
	int fd = listener(witness, sizeof(witness)), client;
	struct ask *ask;
	__u64 until;

	(void)state;
	ask = ask_start(loop, witness, ASK_CLAIM, SESSION, "primary", 20, on_reply, &reply);
	client = accept(fd, NULL, NULL);
	ask_cancel(ask);
	until = unit_now() + 60 * MS;
	while (unit_now() < until)
		loop_once(loop, until);
	assert_int_equal(reply.count, 0);
	close(client);
	close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static const struct CMUnitTest tests[] = {
	TEST(claimed_once), TEST(given_back), TEST(at_once),    TEST(damaged),
	TEST(names),        TEST(statuses),   TEST(too_late),   TEST(called_back),
	TEST(not_there),    TEST(answers),    TEST(no_witness), TEST(ask_called_back),
};

UNIT_RUN(grant, tests)
