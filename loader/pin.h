/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where an instance is pinned:
 *
 *   COLO_PIN_ROOT/NAME/maps/MAP    the maps of enum datapath_map
 *                     /progs/PROG  the programs of enum datapath_prog
 *                     /links/MARK  what attach changed on the devices; tc of
 *                                  6.1 has no links: empty directories, see
 *                                  install.c
 */
#ifndef COLO_PIN_H
#define COLO_PIN_H

#include <limits.h>
#include <stdbool.h>

/* Longest: the root, two names and the separators. */
#define PIN_PATH_MAX 256

/* "" for a part that is not wanted. */
void pin_path(char path[PIN_PATH_MAX], const char *name, const char *folder, const char *leaf);

/* Is NAME one that can be a directory: [A-Za-z0-9._-]{1,31}, no leading dot. */
bool pin_name_valid(const char *name);

/* Is a BPF file system there? */
bool pin_mounted(void);

/* Mount one if not. 0 or -errno, with a message. */
int pin_mount(void);

/* Is this mount namespace another than that of process 1? */
bool pin_private_mounts(void);

/* Make the directories of NAME. -EEXIST: it is there; no message for that. */
int pin_make(const char *name);

/* Remove NAME and all in it. */
int pin_remove(const char *name);

/* Where NAME's pins are made anew before they take the place of the old ones. */
void pin_hidden(char hidden[64], const char *name);

/* Two instances change their places at one blow. With a message. */
int pin_exchange(const char *a, const char *b);

/* A mark is there or not; made, looked for. */
int pin_mark(const char *name, const char *mark);
bool pin_marked(const char *name, const char *mark);

/* Call with the name of each instance until it returns non-zero. */
int pin_each(int (*call)(const char *name, void *context), void *context);

#endif
