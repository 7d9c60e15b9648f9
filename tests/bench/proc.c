// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

uint64_t thread_ns(int pid, int tid)
{
	unsigned long long ns = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", pid, tid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (fscanf(file, "%llu", &ns) != 1)
		ns = 0;
	fclose(file);
	return ns;
}

static bool name_begins(const char *path, const char *name)
{
	char line[64] = "";
	FILE *file = fopen(path, "re");
	bool begins;

	if (!file)
		return false;
	begins = fgets(line, sizeof(line), file) && !strncmp(line, name, strlen(name));
	fclose(file);
	return begins;
}

int thread_named(int pid, const char *name)
{
	struct dirent *entry;
	char path[320];
	int found = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", pid, entry->d_name);
		if (name_begins(path, name))
			found = atoi(entry->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

#define CPUS_MAX 64

/* Their ids do not change: they are looked for once. */
static unsigned int find_softirq_threads(int tids[CPUS_MAX])
{
	unsigned int count = 0;
	struct dirent *entry;
	char path[320];
	DIR *dir = opendir("/proc");

	while (dir && count < CPUS_MAX && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		if (atoi(entry->d_name) && name_begins(path, "ksoftirqd/"))
			tids[count++] = atoi(entry->d_name);
	}
	if (dir)
		closedir(dir);
	return count;
}

uint64_t softirq_threads_ns(void)
{
	static int tids[CPUS_MAX];
	static unsigned int count;
	uint64_t sum = 0;

	if (!count)
		count = find_softirq_threads(tids);
	for (unsigned int i = 0; i < count; i++)
		sum += thread_ns(tids[i], tids[i]);
	return sum;
}
