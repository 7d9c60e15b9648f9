// SPDX-License-Identifier: GPL-2.0-only
#include <string.h>

#include "commands.h"

const char *command_summary(const char *name)
{
#define COLO_COMMAND(command, summary) \
	if (!strcmp(name, #command))   \
		return summary;
	COLO_COMMANDS(COLO_COMMAND)
#undef COLO_COMMAND
	return "";
}
