// SPDX-License-Identifier: GPL-2.0-only
#include <string.h>

#include "commands.h"
#include "control.h"
#include "log.h"
#include "options.h"
#include "output.h"

/* A state on the way. */
static bool is_passing(const char *state)
{
	static const char *const states[] = {"taking", "claiming", "forcing", "failing"};

	for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++)
		if (!strcmp(state, states[i]))
			return true;
	return false;
}

/* Follow the daemon until it is alone, or has given up. */
static int follow(struct control_client *client, const char *name, __u32 timeout_ms)
{
	json_t *line;

	while ((line = control_receive(client, timeout_ms))) {
		const char *error, *state;
		int status = -1;

		error = json_string_value(json_object_get(line, "error"));
		state = json_string_value(json_object_get(line, "to"));
		if (error) {
			log_error("%s: %s", name, error);
			status = EXIT_FAILED;
		} else if (state && !strcmp(state, "alone")) {
			status = EXIT_OK;
		} else if (state && !is_passing(state)) {
			log_error("%s: is \"%s\" now; the daemon's messages say why", name,
				  state);
			status = EXIT_FAILED;
		}
		json_decref(line);
		if (status != -1)
			return status;
	}
	log_error(
		"%s: has not failed over within %u ms; see its `status` and the daemon's messages",
		name, timeout_ms);
	return EXIT_FAILED;
}

int cmd_failover(int argc, char **argv)
{
	const char *name = NULL;
	__u32 timeout_ms = 10000;
	bool force = false;
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .required = true, .value = &name},
		{OPTION_FLAG, .name = "force", .value = &force,
		 .help = "whatever the policy says: the peer's host is surely off"},
		{OPTION_NUMBER, .name = "timeout-ms", .argument = "MS", .value = &timeout_ms,
		 .min = 1, .max = 600000, .help = "wait that long for it (10000)"},
		{OPTION_END},
	};
	int status = options_parse("failover", command_summary("failover"), rows, argc, argv);
	struct control_client client;
	int err;

	if (status != -1)
		return status;
	err = control_reach(&client, name);
	if (err)
		return EXIT_FAILED;
	err = control_send(&client, "events");
	if (!err)
		err = control_send_object(&client, json_pack("{s:s, s:b}", "command",
							     "failover", "force", force));
	status = err ? EXIT_FAILED : follow(&client, name, timeout_ms);
	control_close(&client);
	return status;
}
