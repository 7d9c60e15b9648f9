// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>

#include <bpf/bpf.h>

#include "commands.h"
#include "datapath.h"
#include "log.h"
#include "names.h"
#include "options.h"
#include "output.h"
#include "policy.h"

const enum colo_action policy_default[COLO_CLASS_MAX] = {
	[COLO_CLASS_ARP] = COLO_ACTION_PASS,  [COLO_CLASS_ND] = COLO_ACTION_PASS,
	[COLO_CLASS_MLD] = COLO_ACTION_PASS,  [COLO_CLASS_IGMP] = COLO_ACTION_PASS,
	[COLO_CLASS_LLDP] = COLO_ACTION_PASS, [COLO_CLASS_STP] = COLO_ACTION_PASS,
};

int policy_fill(int fd)
{
	int err = 0;

	for (__u32 i = 0; !err && i < COLO_CLASS_MAX; i++)
		err = bpf_map_update_elem(fd, &i, &policy_default[i], 0);
	return err;
}

enum colo_action policy_get(const struct datapath *dp, __u32 class)
{
	enum colo_action action = COLO_ACTION_COMPARE;

	bpf_map_lookup_elem(dp->map_fd[MAP_POLICY], &class, &action);
	return action;
}

static json_t *describe(const struct datapath *dp)
{
	json_t *list = json_array();

	for (__u32 i = 0; i < COLO_CLASS_MAX; i++) {
		json_t *row = json_object();

		output_text(row, "class", name_class(i));
		output_text(row, "action", name_action(policy_get(dp, i)));
		output_text(row, "default", name_action(policy_default[i]));
		json_array_append_new(list, row);
	}
	return list;
}

static int set(const struct datapath *dp, __u32 class, enum colo_action action)
{
	int err = bpf_map_update_elem(dp->map_fd[MAP_POLICY], &class, &action, 0);

	if (err) {
		log_error("%s: the map `policy` cannot be written: %s", dp->abi.name,
			  strerror(-err));
		return EXIT_FAILED;
	}
	if (action == COLO_ACTION_PASS && policy_default[class] != COLO_ACTION_PASS)
		log_warning(
			"%s: frames of class %s leave uncompared from now on: after a failover clients may see another state",
			dp->abi.name, name_class(class));
	return EXIT_OK;
}

int cmd_policy(int argc, char **argv)
{
	static const char *classes[COLO_CLASS_MAX + 1], *actions[COLO_ACTION_DROP + 2];
	int class = -1, action = -1, status;
	const char *name = NULL;
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .required = true, .value = &name},
		{OPTION_CHOICE, .name = "class", .argument = "CLASS", .value = &class,
		 .choices = classes, .help = "set the action of this class"},
		{OPTION_CHOICE, .name = "action", .argument = "ACTION", .value = &action,
		 .choices = actions, .help = "to this one"},
		{OPTION_END},
	};
	struct datapath dp;

	for (int i = 0; i < COLO_CLASS_MAX; i++)
		classes[i] = name_class(i);
	for (int i = 0; i <= COLO_ACTION_DROP; i++)
		actions[i] = name_action(i);
	status = options_parse("policy", command_summary("policy"), rows, argc, argv);
	if (status != -1)
		return status;
	if ((class < 0) != (action < 0))
		return options_bad("policy", "--class and --action go together");
	if (datapath_open(name, &dp))
		return EXIT_FAILED;
	if (class >= 0)
		status = set(&dp, class, action);
	else
		status = output(describe(&dp)) ? EXIT_FAILED : EXIT_OK;
	datapath_close(&dp);
	return status;
}
