// SPDX-License-Identifier: GPL-2.0-only
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "log.h"
#include "options.h"
#include "pin.h"

#define ROWS_MAX  48
#define FIRST_KEY 256 /* of options without a letter */

struct common_options common;

static const struct option_row common_rows[] = {
	{OPTION_FLAG, .name = "json", .letter = 'j', .value = &common.json,
	 .help = "print JSON"},
	{OPTION_FLAG, .name = "verbose", .letter = 'v', .value = &common.verbose,
	 .help = "say more on stderr"},
	{OPTION_TEXT, .name = "netns", .argument = "NETNS", .value = &common.netns,
	 .help = "work in that network namespace: a name under /run/netns, or a path"},
	{OPTION_FLAG, .name = "help", .letter = 'h', .help = "this text"},
	{OPTION_END},
};

/* The rows of the command and the common ones, as one list. */
struct table {
	const struct option_row *row[ROWS_MAX];
	bool seen[ROWS_MAX];
	int count;
};

static void table_add(struct table *table, const struct option_row *rows)
{
	for (; rows->type != OPTION_END && table->count < ROWS_MAX - 1; rows++)
		table->row[table->count++] = rows;
}

static void help_row(const struct option_row *row)
{
	char left[64];

	snprintf(left, sizeof(left), "%c%c%s --%s%s%s", row->letter ? '-' : ' ',
		 row->letter ? row->letter : ' ', row->letter ? "," : " ", row->name,
		 row->argument ? " " : "", row->argument ? row->argument : "");
	printf("  %-32s %s%s\n", left, row->help, row->required ? " (required)" : "");
	if (row->type == OPTION_CHOICE) {
		printf("  %-32s one of:", "");
		for (int i = 0; row->choices[i]; i++)
			printf(" %s", row->choices[i]);
		printf("\n");
	}
}

static void help(const char *command, const char *summary, const struct table *table)
{
	printf("Usage: colo-bpf %s", command);
	for (int i = 0; i < table->count; i++)
		if (table->row[i]->type == OPTION_NAME)
			printf(table->row[i]->required ? " %s" : " [%s]",
			       table->row[i]->argument);
	printf(" [OPTION...]\n%s.\n\n", summary);
	for (int i = 0; i < table->count; i++)
		if (table->row[i]->type != OPTION_NAME)
			help_row(table->row[i]);
}

int options_bad(const char *command, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_error("%s%s%s; see `colo-bpf %s%s--help`", command, *command ? ": " : "", text,
		  command, *command ? " " : "");
	return EXIT_USAGE;
}

static int set_number(const char *command, const struct option_row *row, const char *text)
{
	unsigned long long number;
	char *end;

	errno = 0;
	number = strtoull(text, &end, 0);
	if (!isdigit((unsigned char)*text) || *end || errno || number < row->min ||
	    number > row->max)
		return options_bad(command, "--%s \"%s\": a number from %u to %u is needed",
				   row->name, text, row->min, row->max);
	*(__u32 *)row->value = number;
	return -1;
}

static int set_choice(const char *command, const struct option_row *row, const char *text)
{
	char list[256] = "";

	for (int i = 0; row->choices[i]; i++) {
		size_t used = strlen(list);

		if (!strcmp(row->choices[i], text)) {
			*(int *)row->value = i;
			return -1;
		}
		snprintf(list + used, sizeof(list) - used, " %s", row->choices[i]);
	}
	return options_bad(command, "--%s \"%s\": is none of%s", row->name, text, list);
}

static int set_value(const char *command, const struct option_row *row, const char *text)
{
	switch (row->type) {
	case OPTION_FLAG:
		*(bool *)row->value = true;
		return -1;
	case OPTION_TEXT:
		if (!*text)
			return options_bad(command, "--%s: is empty", row->name);
		*(const char **)row->value = text;
		return -1;
	case OPTION_NAME:
		if (!pin_name_valid(text))
			return options_bad(
				command,
				"%s \"%s\": 1 to 31 of A-Z a-z 0-9 . _ - are a name, and no . or - begins it",
				row->argument, text);
		*(const char **)row->value = text;
		return -1;
	case OPTION_NUMBER:
		return set_number(command, row, text);
	case OPTION_CHOICE:
		return set_choice(command, row, text);
	case OPTION_END:
		break;
	}
	return -1;
}

static void getopt_tables(const struct table *table, struct option *longs, char *letters)
{
	int n = 0;

	*letters++ = ':';
	for (int i = 0; i < table->count; i++) {
		const struct option_row *row = table->row[i];

		if (row->type == OPTION_NAME)
			continue;
		longs[n++] = (struct option){
			row->name, row->type == OPTION_FLAG ? no_argument : required_argument,
			NULL, FIRST_KEY + i};
		if (!row->letter)
			continue;
		*letters++ = row->letter;
		if (row->type != OPTION_FLAG)
			*letters++ = ':';
	}
	memset(&longs[n], 0, sizeof(longs[n]));
	*letters = 0;
}

static int find_row(const struct table *table, int key)
{
	if (key >= FIRST_KEY)
		return key - FIRST_KEY;
	for (int i = 0; i < table->count; i++)
		if (table->row[i]->letter == key)
			return i;
	return -1;
}

static int parse_options(const char *command, const char *summary, struct table *table,
			 int argc, char **argv)
{
	struct option longs[ROWS_MAX];
	char letters[2 * ROWS_MAX];
	int key, row, status = -1;

	getopt_tables(table, longs, letters);
	optind = 0;
	opterr = 0;
	while (status == -1 && (key = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		if (key == ':')
			return options_bad(command, "%s: needs a value", argv[optind - 1]);
		row = key == '?' ? -1 : find_row(table, key);
		if (row < 0)
			return options_bad(command, "\"%s\": no such option", argv[optind - 1]);
		if (table->row[row]->letter == 'h') {
			help(command, summary, table);
			return EXIT_OK;
		}
		table->seen[row] = true;
		status = set_value(command, table->row[row], optarg);
	}
	return status;
}

static int parse_positional(const char *command, struct table *table, int argc, char **argv)
{
	int status = -1;

	for (int i = 0; status == -1 && i < table->count; i++) {
		if (table->row[i]->type != OPTION_NAME || optind >= argc)
			continue;
		table->seen[i] = true;
		status = set_value(command, table->row[i], argv[optind++]);
	}
	if (status == -1 && optind < argc)
		return options_bad(command, "\"%s\": one argument too many", argv[optind]);
	return status;
}

static int check_required(const char *command, const struct table *table)
{
	for (int i = 0; i < table->count; i++) {
		const struct option_row *row = table->row[i];

		if (!row->required || table->seen[i])
			continue;
		if (row->type == OPTION_NAME)
			return options_bad(command, "%s is missing", row->argument);
		return options_bad(command, "--%s %s is missing", row->name, row->argument);
	}
	return -1;
}

/* The network namespace alone: mounts, and so the pins, stay the same. */
static int enter_netns(const char *command)
{
	char path[256];
	int fd;

	if (!common.netns)
		return -1;
	snprintf(path, sizeof(path), "%s%s", strchr(common.netns, '/') ? "" : "/run/netns/",
		 common.netns);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET)) {
		log_error("%s: --netns %s: %s", command, path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return EXIT_FAILED;
	}
	close(fd);
	return -1;
}

int options_parse(const char *command, const char *summary, const struct option_row *rows,
		  int argc, char **argv)
{
	struct table table = {};
	int status;

	memset(&common, 0, sizeof(common));
	table_add(&table, rows);
	table_add(&table, common_rows);
	status = parse_options(command, summary, &table, argc, argv);
	if (status == -1)
		status = parse_positional(command, &table, argc, argv);
	if (status == -1)
		status = check_required(command, &table);
	if (status != -1)
		return status;
	if (common.verbose)
		log_max_level = LOG_LEVEL_DEBUG;
	return enter_netns(command);
}

/* "a, b or c" with the separators " " and " " for "a b c" */
static void list_commands(char *text, size_t size, const struct command *commands, size_t count,
			  const char *between, const char *last)
{
	size_t used = 0;

	*text = 0;
	for (size_t i = 0; i < count && used < size; i++) {
		const char *separator = !i ? "" : i == count - 1 ? last : between;

		used += snprintf(text + used, size - used, "%s%s", separator, commands[i].name);
	}
}

int options_run(const char *command, const struct command *commands, size_t count, int argc,
		char **argv)
{
	const char *what = argc > 1 ? argv[1] : NULL;
	char list[128];

	if (what && (!strcmp(what, "--help") || !strcmp(what, "-h"))) {
		list_commands(list, sizeof(list), commands, count, "|", "|");
		printf("Usage: colo-bpf %s %s NAME [OPTION...]\n%s.\n\n", command, list,
		       command_summary(command));
		for (size_t i = 0; i < count; i++)
			printf("  %-6s %s\n", commands[i].name, commands[i].summary);
		return EXIT_OK;
	}
	for (size_t i = 0; what && i < count; i++)
		if (!strcmp(commands[i].name, what))
			return commands[i].run(argc - 1, argv + 1);
	if (!what) {
		list_commands(list, sizeof(list), commands, count, ", ", " or ");
		return options_bad(command, "%s is missing", list);
	}
	list_commands(list, sizeof(list), commands, count, " ", " ");
	return options_bad(command, "\"%s\": is none of %s", what, list);
}
