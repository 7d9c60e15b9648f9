/* SPDX-License-Identifier: GPL-2.0-only */
/* The settings of the configuration file, a row each. */
#ifndef COLO_SETTINGS_H
#define COLO_SETTINGS_H

#include <stddef.h>

#include "config.h"

enum setting_type {
	SETTING_TEXT,   /* const char * */
	SETTING_NUMBER, /* __u32, within min and max */
	SETTING_CHOICE, /* int, index in `choices`, min at least */
	SETTING_PATHS,  /* the paths of a struct config_host */
	SETTING_DISKS,  /* the disks of the struct config */
};

enum setting_change {
	CHANGE_RESTART, /* not while a daemon runs */
	CHANGE_IDLE,    /* not in COLO: both hosts have agreed on it */
	CHANGE_LIVE,
	CHANGE_SHARED, /* a default of both hosts' settings, which are looked at */
};

struct setting {
	const char *group; /* "": none */
	const char *name;
	enum setting_type type;
	enum setting_change change;
	size_t offset; /* in struct config */
	__u32 min, max;
	__u32 number;     /* default of a number or a choice */
	const char *text; /* default of a text, NULL: none */
	bool required;
	const char *const *choices; /* NULL at the end */
	/* What is needed in place of `text`, NULL: it is well-formed. */
	const char *(*check)(const char *text);
};

extern const struct setting settings[];
extern const unsigned int settings_count;

static inline void *setting_value(const struct setting *setting, const struct config *config)
{
	return (char *)config + setting->offset;
}

/* The row of that name, NULL: there is none. */
const struct setting *setting_find(const char *group, const char *name);

/* "takeover.policy" */
void setting_name(char *to, size_t size, const struct setting *setting);

json_t *setting_describe(const struct setting *setting, const struct config *config);

#endif
