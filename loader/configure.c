// SPDX-License-Identifier: GPL-2.0-only
/* colo-bpf config: what a configuration file says, and whether it may. */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "config.h"
#include "log.h"
#include "options.h"
#include "output.h"

static int load(int argc, char **argv, const char *command, const char *summary,
		struct config **config)
{
	const char *name = NULL, *file = NULL;
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .value = &name},
		{OPTION_TEXT, .name = "config", .argument = "FILE", .value = &file,
		 .help = "the file (" CONFIG_DIR "/NAME.conf)"},
		{OPTION_END},
	};
	int status = options_parse(command, summary, rows, argc, argv);
	char path[256];

	if (status != -1)
		return status;
	if (!name == !file)
		return options_bad(command, "NAME or --config FILE is needed");
	if (name)
		config_default_path(path, sizeof(path), name);
	*config = config_load(file ? file : path);
	return *config ? -1 : EXIT_FAILED;
}

static int check(int argc, char **argv)
{
	struct config *config = NULL;
	int status =
		load(argc, argv, "config check", "Say what is wrong with the file", &config);

	if (status != -1)
		return status;
	log_info("%s: is well", config->path);
	config_free(config);
	return EXIT_OK;
}

static int show(int argc, char **argv)
{
	struct config *config = NULL;
	int status =
		load(argc, argv, "config show", "Show all settings with their values", &config);

	if (status != -1)
		return status;
	status = output(config_describe(config)) ? EXIT_FAILED : EXIT_OK;
	config_free(config);
	return status;
}

int cmd_config(int argc, char **argv)
{
	static const struct command commands[] = {
		{"check", "Say what is wrong with the file", check},
		{"show", "Show all settings with their values", show},
	};

	return options_run("config", commands, sizeof(commands) / sizeof(*commands), argc,
			   argv);
}
