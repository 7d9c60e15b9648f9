// SPDX-License-Identifier: GPL-2.0-only
#include <string.h>

#include "commands.h"
#include "datapath.h"
#include "log.h"
#include "options.h"
#include "output.h"

struct counter {
	const char *name;
	const char *text;
};

static const struct counter counters[] = {
#define COLO_COUNTER_ROW(name, text) {#name, text},
	COLO_COUNTERS(COLO_COUNTER_ROW)
#undef COLO_COUNTER_ROW
};

/* As JSON {name: value}; as text with what each means. */
static json_t *describe(const struct colo_counters *sum, bool all)
{
	const __u64 *value = (const __u64 *)sum;
	json_t *list = common.json ? json_object() : json_array();

	for (size_t i = 0; i < sizeof(counters) / sizeof(*counters); i++) {
		json_t *row;

		if (common.json) {
			output_number(list, counters[i].name, value[i]);
			continue;
		}
		if (!value[i] && !all)
			continue;
		row = json_object();
		output_text(row, "counter", counters[i].name);
		output_number(row, "value", value[i]);
		output_text(row, "meaning", counters[i].text);
		json_array_append_new(list, row);
	}
	return list;
}

int cmd_stats(int argc, char **argv)
{
	const char *name = NULL;
	bool all = false;
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .required = true, .value = &name},
		{OPTION_FLAG, .name = "all", .letter = 'a', .value = &all,
		 .help = "as text, too, those that are 0"},
		{OPTION_END},
	};
	int status = options_parse("stats", command_summary("stats"), rows, argc, argv);
	struct colo_counters sum;
	struct datapath dp;
	int err;

	if (status != -1)
		return status;
	if (datapath_open(name, &dp))
		return EXIT_FAILED;
	err = datapath_counters(&dp, &sum);
	datapath_close(&dp);
	if (err) {
		log_error("%s: the counters cannot be read: %s", name, strerror(-err));
		return EXIT_FAILED;
	}
	return output(describe(&sum, all)) ? EXIT_FAILED : EXIT_OK;
}
