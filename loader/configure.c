// SPDX-License-Identifier: GPL-2.0-only
/* colo-bpf config: what a configuration file says, and whether it may. */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "config.h"
#include "log.h"
#include "options.h"
#include "output.h"

/* NULL: *status is what to end with. */
static struct config *load(int argc, char **argv, const char *command, const char *summary,
			   int *status)
{
	const char *name = NULL, *file = NULL;
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .value = &name},
		{OPTION_TEXT, .name = "config", .argument = "FILE", .value = &file,
		 .help = "the file (" CONFIG_DIR "/NAME.conf)"},
		{OPTION_END},
	};
	char path[256];

	*status = options_parse(command, summary, rows, argc, argv);
	if (*status == -1 && !name == !file)
		*status = options_bad(command, "NAME or --config FILE is needed");
	if (*status != -1)
		return NULL;
	if (name)
		config_default_path(path, sizeof(path), name);
	*status = EXIT_FAILED;
	return config_load(file ? file : path);
}

static int check(int argc, char **argv)
{
	int status;
	struct config *config =
		load(argc, argv, "config check", "Say what is wrong with the file", &status);

	if (!config)
		return status;
	log_info("%s: is well", config->path);
	config_free(config);
	return EXIT_OK;
}

static int show(int argc, char **argv)
{
	int status;
	struct config *config =
		load(argc, argv, "config show", "Show all settings with their values", &status);

	if (!config)
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
