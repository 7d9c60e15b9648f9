/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Command lines from a table: what is parsed, checked and printed as help is
 * one row per option.
 */
#ifndef COLO_OPTIONS_H
#define COLO_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>

#define EXIT_OK     0
#define EXIT_FAILED 1
#define EXIT_USAGE  2

enum option_type {
	OPTION_END,
	OPTION_NAME,   /* positional: the instance's name, checked */
	OPTION_FLAG,   /* value: bool * */
	OPTION_TEXT,   /* value: const char ** */
	OPTION_NUMBER, /* value: __u32 *, within min and max */
	OPTION_CHOICE, /* value: int *, index in `choices` */
};

struct option_row {
	enum option_type type;
	const char *name; /* "role" for --role */
	char letter;      /* 0: none */
	bool required;
	const char *argument; /* as shown in the help: "DEV" */
	const char *help;
	void *value;
	__u32 min, max;
	const char *const *choices; /* NULL at the end */
};

struct command {
	const char *name;
	const char *summary; /* one line */
	int (*run)(int argc, char **argv);
};

/* Every command has --json, --verbose, --netns and --help besides its own. */
struct common_options {
	bool json;
	bool verbose;
	const char *netns;
};

extern struct common_options common;

/*
 * Parse argv (argv[0] is the command) by the rows, the last of which has type
 * OPTION_END, and enter --netns. Returns -1 to go on, or the exit status to end
 * with: after --help, or after a message about a bad command line.
 */
int options_parse(const char *command, const char *summary, const struct option_row *rows,
		  int argc, char **argv);

/*
 * A command that has commands of its own, argv[1]: run that one. Its usage is
 * printed for --help, a list of them in a message if there is no such one.
 */
int options_run(const char *command, const struct command *commands, size_t count, int argc,
		char **argv);

/* A message about the command line, and how to get help. Returns EXIT_USAGE. */
int options_bad(const char *command, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
