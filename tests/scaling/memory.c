// SPDX-License-Identifier: GPL-2.0-only
/*
 * A memory cgroup of our own: BPF maps, and what is allocated for them later by
 * whom it may be, are charged to the cgroup of who made the map.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "scaling.h"

static char group[128];
static const char *current_file;
static pid_t child;

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t length = strlen(text);
	int err = fd < 0 || write(fd, text, length) != length ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return err;
}

/* Version 2 where it has the memory controller, else version 1. */
static int group_make(void)
{
	static const struct {
		const char *root;
		const char *file;
	} kinds[] = {
		{"/sys/fs/cgroup", "memory.current"},
		{"/sys/fs/cgroup/unified", "memory.current"},
		{"/sys/fs/cgroup/memory", "memory.usage_in_bytes"},
	};
	char path[192];

	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		snprintf(path, sizeof(path), "%s/cgroup.subtree_control", kinds[i].root);
		write_text(path, "+memory");
		snprintf(group, sizeof(group), "%s/colo-scale-%d", kinds[i].root, getpid());
		if (mkdir(group, 0755))
			continue;
		current_file = kinds[i].file;
		snprintf(path, sizeof(path), "%s/%s", group, current_file);
		if (!access(path, R_OK))
			return 0;
		rmdir(group);
	}
	current_file = NULL;
	return -ENOENT;
}

uint64_t memory_current(void)
{
	unsigned long long bytes = 0;
	char path[192];
	FILE *file;

	if (!current_file)
		return 0;
	snprintf(path, sizeof(path), "%s/%s", group, current_file);
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (fscanf(file, "%llu", &bytes) != 1)
		bytes = 0;
	fclose(file);
	return bytes;
}

void memory_back(uint64_t before, uint64_t peak, double after_s)
{
	double now = memory_current(), ratio = before ? now / before : 0;

	figure("memory: %.1f MB before, %.1f MB at the peak, %.1f MB %.0f s after they ended",
	       before / 1e6, peak / 1e6, now / 1e6, after_s);
	claim(ratio > 0.9 && ratio < 1.1,
	      "the memory is back to %.3f of what it was (within a tenth)", ratio);
}

static void pass_on(int number)
{
	kill(child, number);
}

static int run_child(int (*inside)(void))
{
	char path[192], pid[16];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(pid, sizeof(pid), "%d", getpid());
	snprintf(path, sizeof(path), "%s/cgroup.procs", group);
	if (current_file && write_text(path, pid))
		current_file = NULL;
	return inside();
}

int memory_inside(int (*inside)(void))
{
	int status = 0;

	group_make();
	fflush(stdout);
	child = fork();
	if (!child) {
		int status = run_child(inside);

		fflush(NULL);
		_exit(status);
	}
	signal(SIGINT, pass_on);
	signal(SIGTERM, pass_on);
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		continue;
	rig_remove(child);
	if (current_file)
		rmdir(group);
	if (WIFSIGNALED(status))
		fprintf(stderr, "scale: %s\n", strsignal(WTERMSIG(status)));
	return child > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
