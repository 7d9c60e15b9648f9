// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "child.h"
#include "clock.h"

struct child {
	struct loop *loop;
	pid_t pid;
	int pidfd;
	struct loop_timer timer;
	void (*done)(void *context, int status);
	void *context;
};

static void forget(struct child *child)
{
	loop_timer_stop(child->loop, &child->timer);
	loop_remove(child->loop, child->pidfd);
	if (child->pidfd >= 0)
		close(child->pidfd);
	free(child);
}

static void on_end(void *context, __u32 events)
{
	struct child *child = context;
	int status = 0;

	(void)events;
	if (waitpid(child->pid, &status, WNOHANG) != child->pid)
		return;
	if (child->done)
		child->done(child->context, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	forget(child);
}

/*
 * It may not end at once, or ever, if it waits for a device: then it is nobody's
 * any more, and on_end() reaps it some time. Until then the group is its own.
 */
void child_kill(struct child *child)
{
	if (!child)
		return;
	kill(-child->pid, SIGKILL);
	child->done = NULL;
	loop_timer_stop(child->loop, &child->timer);
	if (child->pidfd < 0 || waitpid(child->pid, NULL, WNOHANG) == child->pid)
		forget(child);
}

static void on_late(void *context)
{
	struct child *child = context;
	void (*done)(void *context, int status) = child->done;
	void *whose = child->context;

	child_kill(child);
	if (done)
		done(whose, -1);
}

/* The daemon blocks signals that it reads from a descriptor. */
static int set_attributes(posix_spawnattr_t *attributes)
{
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(attributes, &none);
	posix_spawnattr_setsigdefault(attributes, &all);
	posix_spawnattr_setpgroup(attributes, 0);
	return posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK |
							    POSIX_SPAWN_SETSIGDEF |
							    POSIX_SPAWN_SETPGROUP);
}

static int start(pid_t *pid, char *const *argv)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int err;

	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	err = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY,
					       0);
	if (!err)
		err = posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	if (!err)
		err = set_attributes(&attributes);
	if (!err)
		err = posix_spawn(pid, argv[0], &actions, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return err;
}

struct child *child_start(struct loop *loop, char *const *argv, __u32 timeout_ms,
			  void (*done)(void *context, int status), void *context)
{
	struct child *child = calloc(1, sizeof(*child));
	int err;

	if (!child)
		return NULL;
	*child = (struct child){.loop = loop, .done = done, .context = context};
	err = start(&child->pid, argv);
	if (err) {
		free(child);
		errno = err;
		return NULL;
	}
	child->timer.fire = on_late;
	child->timer.context = child;
	loop_timer_set(loop, &child->timer, clock_now() + timeout_ms * 1000000ULL);
	child->pidfd = pidfd_open(child->pid, 0);
	err = child->pidfd < 0 ? -errno : loop_add(loop, child->pidfd, EPOLLIN, on_end, child);
	if (err) {
		child_kill(child);
		errno = -err;
		return NULL;
	}
	return child;
}
