// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>

#include <bpf/libbpf.h>

#include <colo/abi.h>

#include "commands.h"
#include "options.h"
#include "output.h"
#include "peer.h"

int cmd_version(int argc, char **argv)
{
	const struct option_row rows[] = {{OPTION_END}};
	int status = options_parse("version", command_summary("version"), rows, argc, argv);
	json_t *object;
	char text[32];

	if (status != -1)
		return status;
	object = json_object();
	output_text(object, "colo-bpf", COLO_VERSION);
	output_number(object, "abi", COLO_ABI_VERSION);
	output_number(object, "peer_protocol", HEARTBEAT_VERSION);
	snprintf(text, sizeof(text), "%u.%u", libbpf_major_version(), libbpf_minor_version());
	output_text(object, "libbpf", text);
	return output(object) ? EXIT_FAILED : EXIT_OK;
}
