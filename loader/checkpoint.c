// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"
#include "control.h"
#include "options.h"

int cmd_checkpoint(int argc, char **argv)
{
	const char *name = NULL;
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .required = true, .value = &name},
		{OPTION_END},
	};
	int status =
		options_parse("checkpoint", command_summary("checkpoint"), rows, argc, argv);
	json_t *value;

	if (status != -1)
		return status;
	value = control_call(name, "checkpoint", NULL);
	json_decref(value);
	return value ? EXIT_OK : EXIT_FAILED;
}
