// SPDX-License-Identifier: GPL-2.0-only
#include <stdbool.h>

#include "commands.h"
#include "control.h"
#include "datapath.h"
#include "log.h"
#include "options.h"

static bool daemon_runs(const char *name)
{
	struct control_client client;

	if (control_open(&client, name))
		return false;
	control_close(&client);
	return true;
}

int cmd_detach(int argc, char **argv)
{
	const char *name = NULL;
	bool force = false;
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .required = true, .value = &name},
		{OPTION_FLAG, .name = "force", .value = &force,
		 .help = "remove the pins only: the devices are gone, or the instance is not whole"},
		{OPTION_END},
	};
	int status = options_parse("detach", command_summary("detach"), rows, argc, argv);

	if (status != -1)
		return status;
	if (daemon_runs(name)) {
		log_error("%s: its daemon runs: end that first", name);
		return EXIT_FAILED;
	}
	return (force ? datapath_unpin(name) : datapath_detach(name)) ? EXIT_FAILED : EXIT_OK;
}
