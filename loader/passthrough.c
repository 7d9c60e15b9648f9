// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"
#include "log.h"
#include "options.h"
#include "output.h"
#include "policy.h"

static int open_primary(const char *name, struct datapath *dp)
{
	if (datapath_open(name, dp))
		return EXIT_FAILED;
	if (dp->abi.role == COLO_ROLE_PRIMARY)
		return EXIT_OK;
	log_error("%s: is a secondary: what leaves is for the primary to say", name);
	datapath_close(dp);
	return EXIT_FAILED;
}

static int add(int argc, char **argv)
{
	struct passthrough_text text = {};
	struct colo_passthrough rule;
	const char *name = NULL;
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .required = true, .value = &name},
		{OPTION_TEXT, .name = "protocol", .argument = "PROTOCOL",
		 .value = &text.protocol,
		 .help = "tcp, udp, another name of protocols(5), or a number"},
		{OPTION_TEXT, .name = "guest", .argument = "ADDR[/LENGTH]",
		 .value = &text.guest, .help = "the guest's address, or a prefix"},
		{OPTION_TEXT, .name = "guest-port", .argument = "PORT[-PORT]",
		 .value = &text.guest_port, .help = "the guest's port, or a range"},
		{OPTION_TEXT, .name = "client", .argument = "ADDR[/LENGTH]",
		 .value = &text.client, .help = "the client's address, or a prefix"},
		{OPTION_TEXT, .name = "client-port", .argument = "PORT[-PORT]",
		 .value = &text.client_port, .help = "the client's port, or a range"},
		{OPTION_END},
	};
	int status = options_parse("passthrough add", "Let flows leave uncompared", rows, argc,
				   argv);
	struct datapath dp;
	int number;

	if (status != -1)
		return status;
	if (passthrough_parse(&text, &rule))
		return EXIT_USAGE;
	status = open_primary(name, &dp);
	if (status)
		return status;
	number = passthrough_add(&dp, &rule);
	if (number >= 0) {
		log_warning(
			"%s: what rule %d lets out was vouched for by nobody: after a failover clients may see another state",
			name, number);
		status = output(passthrough_rule(number, &rule)) ? EXIT_FAILED : EXIT_OK;
	}
	datapath_close(&dp);
	return number < 0 ? EXIT_FAILED : status;
}

static int del(int argc, char **argv)
{
	__u32 number = 0;
	const char *name = NULL;
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .required = true, .value = &name},
		{OPTION_NUMBER, .name = "rule", .required = true, .argument = "N",
		 .value = &number, .min = 0, .max = COLO_PASSTHROUGH_MAX - 1,
		 .help = "its number in the list"},
		{OPTION_END},
	};
	int status =
		options_parse("passthrough del", "Compare these flows again", rows, argc, argv);
	struct datapath dp;

	if (status != -1)
		return status;
	status = open_primary(name, &dp);
	if (status)
		return status;
	status = passthrough_delete(&dp, number) ? EXIT_FAILED : EXIT_OK;
	datapath_close(&dp);
	return status;
}

static int list(int argc, char **argv)
{
	const char *name = NULL;
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .required = true, .value = &name},
		{OPTION_END},
	};
	int status = options_parse("passthrough list", "Show the rules, and what left by them",
				   rows, argc, argv);
	struct datapath dp;

	if (status != -1)
		return status;
	status = open_primary(name, &dp);
	if (status)
		return status;
	status = output(passthrough_describe(&dp)) ? EXIT_FAILED : EXIT_OK;
	datapath_close(&dp);
	return status;
}

int cmd_passthrough(int argc, char **argv)
{
	static const struct command commands[] = {
		{"add", "Let flows leave uncompared", add},
		{"del", "Compare them again", del},
		{"list", "Show the rules, and what left by them", list},
	};

	return options_run("passthrough", commands, sizeof(commands) / sizeof(*commands), argc,
			   argv);
}
