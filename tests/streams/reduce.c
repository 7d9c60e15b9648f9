// SPDX-License-Identifier: GPL-2.0-only
/* A failing scenario without the lines that its fault does not need. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"

#define LINES_MAX 1024

struct lines {
	char *line[LINES_MAX];
	bool gone[LINES_MAX];
	unsigned int count;
	unsigned int head; /* `case` and `set`, which stay */
};

static void split(struct lines *lines, char *text)
{
	char *line;

	while ((line = strsep(&text, "\n")) && lines->count < LINES_MAX)
		lines->line[lines->count++] = line;
	while (lines->head < lines->count && (!strncmp(lines->line[lines->head], "case", 4) ||
					      !strncmp(lines->line[lines->head], "s", 1)))
		lines->head++;
}

static char *join(const struct lines *lines)
{
	char *text = NULL;
	size_t size = 0;
	FILE *to = open_memstream(&text, &size);

	for (unsigned int i = 0; i < lines->count; i++) {
		if (!lines->gone[i] && *lines->line[i])
			fprintf(to, "%s\n", lines->line[i]);
	}
	fclose(to);
	return text;
}

/* Numbers apart: those change when lines go. */
static bool same_fault(const char *a, const char *b)
{
	while (a && b) {
		while (isdigit((unsigned char)*a))
			a++;
		while (isdigit((unsigned char)*b))
			b++;
		if (*a != *b)
			return false;
		if (!*a)
			return true;
		a++;
		b++;
	}
	return false;
}

static bool still_fails(const struct lines *lines, const char *fault)
{
	char *text = join(lines);
	struct outcome outcome;
	bool fails;

	scenario_run(text, SPOIL_NOTHING, &outcome);
	fails = same_fault(outcome.fault, fault);
	free(outcome.fault);
	free(text);
	return fails;
}

/* Takes out `size` lines at a time, from the end on. True if any could go. */
static bool take_out(struct lines *lines, unsigned int size, const char *fault)
{
	bool any = false;

	for (unsigned int end = lines->count; end > lines->head && !stopping();) {
		unsigned int from = end > lines->head + size ? end - size : lines->head;
		bool before[LINES_MAX], fewer = false;

		memcpy(before, lines->gone, sizeof(before));
		for (unsigned int i = from; i < end; i++) {
			fewer |= !lines->gone[i] && *lines->line[i];
			lines->gone[i] = true;
		}
		if (fewer && still_fails(lines, fault))
			any = true;
		else
			memcpy(lines->gone, before, sizeof(before));
		end = from;
	}
	return any;
}

char *reduce(const char *text, const char *fault)
{
	struct lines *lines = calloc(1, sizeof(*lines));
	char *copy = strdup(text), *reduced;

	split(lines, copy);
	for (unsigned int size = lines->count / 2; size; size /= 2)
		take_out(lines, size, fault);
	while (take_out(lines, 1, fault))
		;
	reduced = join(lines);
	free(copy);
	free(lines);
	return reduced;
}
