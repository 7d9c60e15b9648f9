// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"
#include "control.h"
#include "log.h"
#include "options.h"
#include "output.h"

int cmd_events(int argc, char **argv)
{
	const char *name = NULL;
	__u32 count = 0;
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .required = true, .value = &name},
		{OPTION_NUMBER, .name = "count", .argument = "N", .value = &count, .min = 1,
		 .max = 0xffffffff, .help = "end after N events"},
		{OPTION_END},
	};
	int status = options_parse("events", command_summary("events"), rows, argc, argv);
	struct control_client client;
	json_t *event = NULL;
	int err;

	if (status != -1)
		return status;
	err = control_reach(&client, name);
	if (err)
		return EXIT_FAILED;
	err = control_send(&client, "events");
	while (!err && (event = control_receive(&client, -1))) {
		if (!json_object_get(event, "event")) {
			json_decref(event);
			continue;
		}
		err = output_line(event);
		if (count && !--count)
			break;
	}
	control_close(&client);
	if (!event)
		log_error("%s: the daemon ended", name);
	return err || !event ? EXIT_FAILED : EXIT_OK;
}
