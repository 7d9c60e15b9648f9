// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "output.h"

#define CELL    128
#define COLUMNS 32

void output_set(json_t *object, const char *name, json_t *value)
{
	json_object_set_new(object, name, value);
}

void output_text(json_t *object, const char *name, const char *text)
{
	output_set(object, name, text ? json_string(text) : json_null());
}

void output_number(json_t *object, const char *name, __u64 number)
{
	output_set(object, name, json_integer((json_int_t)number));
}

void output_flag(json_t *object, const char *name, int flag)
{
	output_set(object, name, json_boolean(flag));
}

static const char *scalar(const json_t *value, char cell[CELL])
{
	switch (json_typeof(value)) {
	case JSON_STRING:
		return json_string_value(value);
	case JSON_INTEGER:
		snprintf(cell, CELL, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		return cell;
	case JSON_REAL:
		snprintf(cell, CELL, "%g", json_real_value(value));
		return cell;
	case JSON_TRUE:
		return "yes";
	case JSON_FALSE:
		return "no";
	default:
		return "-";
	}
}

static void text_value(json_t *value, int depth);

static void text_object(json_t *object, int depth)
{
	int width = 0;
	const char *name;
	char cell[CELL];
	json_t *member;

	json_object_foreach(object, name, member)
		if ((int)strlen(name) > width)
			width = strlen(name);
	json_object_foreach(object, name, member) {
		if (json_is_object(member) || json_is_array(member)) {
			printf("%*s%s:\n", depth * 2, "", name);
			text_value(member, depth + 1);
		} else {
			printf("%*s%-*s  %s\n", depth * 2, "", width, name,
			       scalar(member, cell));
		}
	}
}

static const char *cell_text(json_t *row, const char *name, char cell[CELL])
{
	const json_t *value = json_object_get(row, name);

	return value ? scalar(value, cell) : "-";
}

static int column_width(json_t *array, const char *name)
{
	int width = strlen(name);
	char cell[CELL];
	json_t *row;
	size_t i;

	json_array_foreach(array, i, row) {
		int n = strlen(cell_text(row, name, cell));

		width = n > width ? n : width;
	}
	return width;
}

/* The columns are the members of the first row. */
static void text_table(json_t *array, int depth)
{
	json_t *first = json_array_get(array, 0), *row, *member;
	int width[COLUMNS] = {}, column = 0;
	const char *name;
	char cell[CELL];
	size_t i;

	printf("%*s", depth * 2, "");
	json_object_foreach(first, name, member) {
		if (column == COLUMNS)
			break;
		width[column] = column_width(array, name);
		printf("%-*s  ", width[column++], name);
	}
	printf("\n");
	json_array_foreach(array, i, row) {
		column = 0;
		printf("%*s", depth * 2, "");
		json_object_foreach(first, name, member) {
			if (column == COLUMNS)
				break;
			printf("%-*s  ", width[column++], cell_text(row, name, cell));
		}
		printf("\n");
	}
}

static void text_value(json_t *value, int depth)
{
	char cell[CELL];
	json_t *element;
	size_t i;

	if (json_is_object(value)) {
		text_object(value, depth);
	} else if (json_is_array(value) && json_is_object(json_array_get(value, 0))) {
		text_table(value, depth);
	} else if (json_is_array(value)) {
		json_array_foreach(value, i, element)
			printf("%*s%s\n", depth * 2, "", scalar(element, cell));
	} else {
		printf("%*s%s\n", depth * 2, "", scalar(value, cell));
	}
}

static int finish(void)
{
	return fflush(stdout) || ferror(stdout) ? -EIO : 0;
}

int output(json_t *value)
{
	if (common.json) {
		json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
		printf("\n");
	} else {
		text_value(value, 0);
	}
	json_decref(value);
	return finish();
}

int output_line(json_t *value)
{
	json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
	printf("\n");
	json_decref(value);
	return finish();
}
