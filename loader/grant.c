// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "grant.h"

bool grant_session_valid(const char *session)
{
	return strlen(session) == GRANT_SESSION &&
	       strspn(session, "0123456789abcdef") == GRANT_SESSION;
}

bool grant_host_valid(const char *host)
{
	size_t length = strlen(host);

	return length && length <= GRANT_HOST &&
	       strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789-") == length;
}

static int sync_directory(const char *directory)
{
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = fd < 0 || fsync(fd) ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return err;
}

/* A file of its own with the host in it, on the disk. */
static int make_file(char *path, size_t size, const char *directory, const char *host)
{
	char line[GRANT_HOST + 2];
	int length = snprintf(line, sizeof(line), "%s\n", host);
	int fd, err = 0;

	snprintf(path, size, "%s/.new-XXXXXX", directory);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, line, length) != length || fsync(fd))
		err = errno ? -errno : -EIO;
	if (close(fd) && !err)
		err = -errno;
	if (err)
		unlink(path);
	return err;
}

int grant_holder(const char *directory, const char *session, char holder[GRANT_HOST + 1])
{
	char path[PATH_MAX], line[GRANT_HOST + 2] = "";
	ssize_t length;
	int fd, err;

	*holder = 0;
	snprintf(path, sizeof(path), "%s/%s", directory, session);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	length = read(fd, line, sizeof(line) - 1);
	err = length < 0 ? -errno : 0;
	close(fd);
	if (err)
		return err;
	line[strcspn(line, "\n")] = 0;
	if (!grant_host_valid(line))
		return -EBADMSG;
	strcpy(holder, line);
	return 0;
}

static int judge(const char *host, const char *holder)
{
	return *holder && strcmp(holder, host) ? 1 : 0;
}

int grant_claim(const char *directory, const char *session, const char *host,
		char holder[GRANT_HOST + 1])
{
	char path[PATH_MAX], made[PATH_MAX];
	int err;

	err = make_file(made, sizeof(made), directory, host);
	if (err)
		return err;
	snprintf(path, sizeof(path), "%s/%s", directory, session);
	if (link(made, path))
		err = errno == EEXIST ? 1 : -errno;
	unlink(made);
	/* That of another may not be on the disk yet, either. */
	if (err >= 0) {
		int synced = sync_directory(directory);

		if (synced)
			return synced;
	}
	if (!err) {
		strcpy(holder, host);
		return 0;
	}
	if (err > 0)
		err = grant_holder(directory, session, holder);
	if (!err && !*holder) /* given back just now */
		err = -EAGAIN;
	return err ? err : judge(host, holder);
}

int grant_release(const char *directory, const char *session, const char *host,
		  char holder[GRANT_HOST + 1])
{
	char path[PATH_MAX];
	int err = grant_holder(directory, session, holder);

	if (err || judge(host, holder))
		return err ? err : 1;
	if (!*holder)
		return 0;
	/* Nobody else takes away what this host has. */
	snprintf(path, sizeof(path), "%s/%s", directory, session);
	if (unlink(path) && errno != ENOENT)
		return -errno;
	*holder = 0;
	return sync_directory(directory);
}
