/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What commands print: a JSON value, shown as JSON or as text. There is no
 * other way to stdout, so both forms say the same.
 */
#ifndef COLO_OUTPUT_H
#define COLO_OUTPUT_H

#include <jansson.h>
#include <linux/types.h>

/*
 * Print and release `value`. As text, an object is a line a member, an array
 * of objects a table. 0, or -errno when stdout cannot be written.
 */
int output(json_t *value);

/* The same on one line, for streams. */
int output_line(json_t *value);

/* Set a member; the value is taken over. */
void output_set(json_t *object, const char *name, json_t *value);
void output_text(json_t *object, const char *name, const char *text);
void output_number(json_t *object, const char *name, __u64 number);
void output_flag(json_t *object, const char *name, int flag);

#endif
