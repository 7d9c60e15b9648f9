// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <stdlib.h>

#include <bpf/bpf.h>

#include "commands.h"
#include "datapath.h"
#include "history.h"
#include "options.h"
#include "output.h"

#define SHOWN 20

/* What is shown of each, and of all together. */
static const struct column {
	const char *name;
	size_t offset;
} columns[] = {
#define COLUMN(name, member)                                   \
	{                                                      \
		name, offsetof(struct colo_checkpoint, member) \
	}
	COLUMN("request", primary_took_ns.request),
	COLUMN("stop", primary_took_ns.stop),
	COLUMN("device", primary_took_ns.device),
	COLUMN("ram", primary_took_ns.ram),
	COLUMN("transfer", primary_took_ns.transfer),
	COLUMN("commit", primary_took_ns.commit),
	COLUMN("load", primary_took_ns.load),
	COLUMN("resume", primary_took_ns.resume),
	COLUMN("standstill", standstill_ns),
	COLUMN("s-receive", secondary_took_ns.receive),
	COLUMN("s-flush", secondary_took_ns.flush),
	COLUMN("s-load", secondary_took_ns.load),
#undef COLUMN
};

#define COLUMNS (sizeof(columns) / sizeof(*columns))

static __u64 value_of(const struct colo_checkpoint *c, const struct column *column)
{
	return *(const __u64 *)((const char *)c + column->offset);
}

static json_t *milliseconds(__u64 ns)
{
	return json_sprintf("%.2f", (double)ns / 1e6);
}

/* The other role's columns are empty, or those that only a newer QEMU fills. */
static bool is_empty(const struct colo_checkpoint *list, __u32 count,
		     const struct column *column)
{
	for (__u32 i = 0; i < count; i++)
		if (value_of(&list[i], column))
			return false;
	return true;
}

/* The same as text: a line each, times in milliseconds. */
static json_t *describe_row(const struct colo_checkpoint *list, __u32 count,
			    const struct colo_checkpoint *c)
{
	json_t *full = history_describe(c), *row = json_object();
	static const char *const copied[] = {"epoch", "reason", "end"};

	for (size_t i = 0; i < sizeof(copied) / sizeof(*copied); i++)
		output_set(row, copied[i], json_incref(json_object_get(full, copied[i])));
	for (size_t i = 0; i < COLUMNS; i++)
		if (!is_empty(list, count, &columns[i]))
			output_set(row, columns[i].name,
				   milliseconds(value_of(c, &columns[i])));
	output_number(row, "pages", c->ram_pages);
	output_number(row, "kB", (c->ram_bytes + c->device_bytes) / 1000);
	json_decref(full);
	return row;
}

static int by_value(const void *a, const void *b)
{
	__u64 x = *(const __u64 *)a, y = *(const __u64 *)b;

	return (x > y) - (x < y);
}

/* Median and maximum of a column over those that are done. */
static json_t *describe_column(const struct colo_checkpoint *list, __u32 count,
			       const struct column *column)
{
	__u64 *values = calloc(count + 1, sizeof(*values));
	json_t *row = json_object();
	__u32 done = 0;

	for (__u32 i = 0; values && i < count; i++)
		if (list[i].end == COLO_CHECKPOINT_DONE)
			values[done++] = value_of(&list[i], column);
	if (done)
		qsort(values, done, sizeof(*values), by_value);
	output_text(row, "of", column->name);
	if (common.json) {
		output_number(row, "median_ns", done ? values[(done - 1) / 2] : 0);
		output_number(row, "max_ns", done ? values[done - 1] : 0);
	} else {
		output_set(row, "median", milliseconds(done ? values[(done - 1) / 2] : 0));
		output_set(row, "max", milliseconds(done ? values[done - 1] : 0));
	}
	free(values);
	return row;
}

/*
 * How much of the time the pair stood still for the checkpoints shown, from
 * the first one's end to the last one's, in the last session.
 */
static double standstill_percent(const struct colo_checkpoint *list, __u32 count)
{
	__u64 stood = 0, first = 0, last = 0;

	for (__u32 i = 0; i < count; i++) {
		if (list[i].session_ns != list[count - 1].session_ns || !list[i].ended_ns)
			continue;
		if (first)
			stood += list[i].standstill_ns;
		else
			first = list[i].ended_ns;
		last = list[i].ended_ns;
	}
	return last > first ? 100.0 * (double)stood / (double)(last - first) : 0;
}

static json_t *describe(const struct colo_checkpoint *list, __u32 count, __u64 all)
{
	json_t *object = json_object(), *rows = json_array(), *figures = json_array();

	for (__u32 i = 0; i < count; i++)
		json_array_append_new(rows, common.json ? history_describe(&list[i]) :
							  describe_row(list, count, &list[i]));
	for (size_t i = 0; i < COLUMNS; i++)
		if (common.json || !is_empty(list, count, &columns[i]))
			json_array_append_new(figures,
					      describe_column(list, count, &columns[i]));
	output_set(object, "checkpoints", rows);
	output_set(object, "figures", figures);
	output_set(object, "standstill_percent", json_real(standstill_percent(list, count)));
	output_number(object, "shown", count);
	output_number(object, "all", all);
	return object;
}

/* The last `wanted`, oldest first. Returns how many; *all: how many there were. */
static __u32 read_last(const struct datapath *dp, struct colo_checkpoint *list, __u32 wanted,
		       __u64 *all)
{
	struct colo_checkpoint c;
	__u32 count = 0;

	*all = 0;
	for (__u32 i = 0; i < COLO_CHECKPOINTS; i++)
		if (dp->checkpoints[i].number > *all)
			*all = dp->checkpoints[i].number;
	for (__u64 n = *all > wanted ? *all - wanted + 1 : 1; n <= *all; n++) {
		__u32 key = (n - 1) % COLO_CHECKPOINTS;

		/* One that is being written, or was overwritten, is left out. */
		if (!bpf_map_lookup_elem(dp->map_fd[MAP_CHECKPOINTS], &key, &c) &&
		    c.number == n)
			list[count++] = c;
	}
	return count;
}

int cmd_checkpoints(int argc, char **argv)
{
	const char *name = NULL;
	__u32 wanted = SHOWN;
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .required = true, .value = &name},
		{OPTION_NUMBER, .name = "count", .argument = "N", .value = &wanted, .min = 1,
		 .max = COLO_CHECKPOINTS, .help = "show the last N (20)"},
		{OPTION_END},
	};
	int status =
		options_parse("checkpoints", command_summary("checkpoints"), rows, argc, argv);
	struct colo_checkpoint *list;
	struct datapath dp;
	__u64 all;
	int err;

	if (status != -1)
		return status;
	if (datapath_open(name, &dp))
		return EXIT_FAILED;
	list = calloc(wanted, sizeof(*list));
	if (!list) {
		datapath_close(&dp);
		return EXIT_FAILED;
	}
	wanted = read_last(&dp, list, wanted, &all);
	datapath_close(&dp);
	err = output(describe(list, wanted, all));
	free(list);
	return err ? EXIT_FAILED : EXIT_OK;
}
