// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"
#include "follow.h"
#include "options.h"

int cmd_resync(int argc, char **argv)
{
	const char *name = NULL;
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .required = true, .value = &name},
		{OPTION_END},
	};
	int status = options_parse("resync", command_summary("resync"), rows, argc, argv);

	if (status != -1)
		return status;
	return follow_procedure(name, "resync", json_pack("{s:s}", "command", "resync"));
}
