// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "log.h"
#include "options.h"

static const struct command commands[] = {
#define COLO_COMMAND(name, summary) {#name, summary, cmd_##name},
	COLO_COMMANDS(COLO_COMMAND)
#undef COLO_COMMAND
};

#define COMMANDS (sizeof(commands) / sizeof(*commands))

static void usage(void)
{
	printf("Usage: colo-bpf COMMAND [NAME] [OPTION...]\n\n"
	       "The network proxy of QEMU COLO, in the kernel.\n\n");
	for (size_t i = 0; i < COMMANDS; i++)
		printf("  %-12s %s\n", commands[i].name, commands[i].summary);
	printf("\n`colo-bpf COMMAND --help` shows a command's options; colo-bpf(8) has the rest.\n");
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;

	log_libbpf(1);
	if (!name)
		return options_bad("", "a command is missing");
	if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
		usage();
		return EXIT_OK;
	}
	if (!strcmp(name, "--version"))
		name = "version";
	for (size_t i = 0; i < COMMANDS; i++)
		if (!strcmp(commands[i].name, name))
			return commands[i].run(argc - 1, argv + 1);
	return options_bad("", "\"%s\": no such command", name);
}
