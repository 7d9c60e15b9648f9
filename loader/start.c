// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"
#include "follow.h"
#include "options.h"

int cmd_start(int argc, char **argv)
{
	const char *name = NULL;
	bool disks_equal = false;
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .required = true, .value = &name},
		{OPTION_FLAG, .name = "disks-equal", .value = &disks_equal,
		 .help = "the disks are byte for byte the same: do not copy them"},
		{OPTION_END},
	};
	int status = options_parse("start", command_summary("start"), rows, argc, argv);

	if (status != -1)
		return status;
	return follow_procedure(name, "start",
				json_pack("{s:s, s:b}", "command", "start", "disks-equal",
					  disks_equal));
}
