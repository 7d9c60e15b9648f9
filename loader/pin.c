// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <colo/abi.h>

#include "log.h"
#include "pin.h"

#define BPFFS "/sys/fs/bpf"

void pin_path(char path[PIN_PATH_MAX], const char *name, const char *folder, const char *leaf)
{
	snprintf(path, PIN_PATH_MAX, "%s%s%s%s%s%s%s", COLO_PIN_ROOT, *name ? "/" : "", name,
		 *folder ? "/" : "", folder, *leaf ? "/" : "", leaf);
}

bool pin_name_valid(const char *name)
{
	size_t length = strlen(name);

	return length > 0 && length < sizeof(((struct colo_abi *)0)->name) && name[0] != '.' &&
	       name[0] != '-' &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			    "abcdefghijklmnopqrstuvwxyz0123456789._-") == length;
}

bool pin_mounted(void)
{
	struct statfs fs;

	return !statfs(BPFFS, &fs) && (unsigned long)fs.f_type == BPF_FS_MAGIC;
}

int pin_mount(void)
{
	int err;

	if (pin_mounted())
		return 0;
	if (!mount("bpf", BPFFS, "bpf", 0, "mode=0700"))
		return 0;
	err = -errno;
	log_error("%s is no BPF file system, and mounting one failed: %s", BPFFS,
		  strerror(-err));
	return err;
}

bool pin_private_mounts(void)
{
	struct stat ours, theirs;

	return !stat("/proc/self/ns/mnt", &ours) && !stat("/proc/1/ns/mnt", &theirs) &&
	       ours.st_ino != theirs.st_ino;
}

static int make_directory(const char *path)
{
	int err;

	if (!mkdir(path, 0700))
		return 0;
	err = -errno;
	if (err != -EEXIST)
		log_error("%s: cannot be made: %s", path, strerror(-err));
	return err;
}

int pin_make(const char *name)
{
	static const char *const folders[] = {"", "maps", "progs", "links"};
	char path[PIN_PATH_MAX];
	int err;

	err = make_directory(COLO_PIN_ROOT);
	if (err && err != -EEXIST)
		return err;
	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
		pin_path(path, name, folders[i], "");
		err = make_directory(path);
		if (err)
			return err;
	}
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path) ? -errno : 0;
}

int pin_remove(const char *name)
{
	char path[PIN_PATH_MAX];
	int err;

	pin_path(path, name, "", "");
	err = nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	if (err == -1)
		err = -errno;
	/* The root goes with the last instance. */
	rmdir(COLO_PIN_ROOT);
	return err;
}

/* No instance's name begins so. */
void pin_hidden(char hidden[64], const char *name)
{
	snprintf(hidden, 64, "~%s", name);
}

int pin_exchange(const char *a, const char *b)
{
	char from[PIN_PATH_MAX], to[PIN_PATH_MAX];
	int err;

	pin_path(from, a, "", "");
	pin_path(to, b, "", "");
	if (!renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE))
		return 0;
	err = -errno;
	log_error("%s and %s: cannot be exchanged: %s", from, to, strerror(-err));
	return err;
}

int pin_mark(const char *name, const char *mark)
{
	char path[PIN_PATH_MAX];

	pin_path(path, name, "links", mark);
	return make_directory(path);
}

bool pin_marked(const char *name, const char *mark)
{
	char path[PIN_PATH_MAX];

	pin_path(path, name, "links", mark);
	return !access(path, F_OK);
}

int pin_each(int (*call)(const char *name, void *context), void *context)
{
	struct dirent *entry;
	DIR *dir = opendir(COLO_PIN_ROOT);
	int err = 0;

	if (!dir)
		return 0;
	while (!err && (entry = readdir(dir)))
		if (entry->d_name[0] != '.' && entry->d_name[0] != '~')
			err = call(entry->d_name, context);
	closedir(dir);
	return err;
}
