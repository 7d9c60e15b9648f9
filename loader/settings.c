// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>

#include "output.h"
#include "peer.h"
#include "settings.h"
#include "words.h"

const char *const config_policy_names[] = {
	[TAKEOVER_MANUAL] = "manual",
	[TAKEOVER_FENCE] = "fence",
	[TAKEOVER_WITNESS] = "witness",
	NULL,
};

static const char *const roles[] = {
	[COLO_ROLE_NONE] = "none",
	[COLO_ROLE_PRIMARY] = "primary",
	[COLO_ROLE_SECONDARY] = "secondary",
	NULL,
};

const char *const config_context_names[] = {
	[COLO_CONTEXT_TC] = "tc",
	[COLO_CONTEXT_XDP] = "xdp",
	NULL,
};

static const char *const hooks[] = {
	[HOOKS_AUTO] = "auto",
	[HOOKS_NEVER] = "never",
	NULL,
};

/* -------------------------------------------------------------- checks --- */

static const char *check_device(const char *text)
{
	return strlen(text) < sizeof(((struct colo_abi *)0)->guest) && !strpbrk(text, "/ \t") ?
		       NULL :
		       "the name of a device, up to 15 characters, is needed";
}

static const char *check_address(const char *text)
{
	unsigned char bytes[16];

	return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1 ?
		       NULL :
		       "a numeric address is needed";
}

static const char *check_path(const char *text)
{
	return *text == '/' ? NULL : "a path that begins with / is needed";
}

static const char *check_socket(const char *text)
{
	return *text == '/' && strlen(text) < 108 ?
		       NULL :
		       "a path that begins with /, up to 107 characters, is needed";
}

static const char *check_node(const char *text)
{
	return strlen(text) < 32 ? NULL : "a node's name, up to 31 characters, is needed";
}

static const char *check_fence(const char *text)
{
	static const struct word_value values[] = {{'h', ""}, {'a', ""}, {'n', ""}, {}};
	const char *why;
	char **words = words_split(text, values, &why);

	if (words && *words[0] != '/')
		why = "a command line that begins with a path from / is needed";
	words_free(words);
	return why;
}

static const char *check_witness(const char *text)
{
	struct sockaddr_storage address;
	socklen_t length;

	if (!strncmp(text, "file:/", 6))
		return NULL;
	if (!strncmp(text, "tcp:", 4) && !peer_parse_endpoint(text + 4, &address, &length))
		return NULL;
	return "tcp:ADDR:PORT, tcp:[ADDR6]:PORT or file:/DIRECTORY is needed";
}

/* --------------------------------------------------------------- table --- */

#define AT(field) .offset = offsetof(struct config, field)

#define NUMBER(grp, nm, field, chg, low, high, dflt)                                   \
	{                                                                              \
		.group = (grp), .name = (nm), .type = SETTING_NUMBER, .change = (chg), \
		AT(field), .min = (low), .max = (high), .number = (dflt)               \
	}
#define TEXT(grp, nm, field, chg, chk)                                               \
	{                                                                            \
		.group = (grp), .name = (nm), .type = SETTING_TEXT, .change = (chg), \
		AT(field), .check = (chk)                                            \
	}

#define HOST(grp, index)                                                             \
	{.group = (grp),                                                             \
	 .name = "address",                                                          \
	 .type = SETTING_TEXT,                                                       \
	 AT(host[index].address),                                                    \
	 .required = true,                                                           \
	 .check = check_address},                                                    \
		{.group = (grp),                                                     \
		 .name = "paths",                                                    \
		 .type = SETTING_PATHS,                                              \
		 AT(host[index]),                                                    \
		 .check = check_address},                                            \
		TEXT(grp, "qmp", host[index].qmp, CHANGE_RESTART, check_socket),     \
		TEXT(grp, "guest", host[index].guest, CHANGE_RESTART, check_device), \
		TEXT(grp, "port", host[index].port, CHANGE_RESTART, check_device),   \
		TEXT(grp, "link", host[index].link, CHANGE_RESTART, check_device)

const struct setting settings[] = {
	{.group = "",
	 .name = "role",
	 .type = SETTING_CHOICE,
	 AT(role),
	 .required = true,
	 .min = COLO_ROLE_PRIMARY,
	 .choices = roles},
	TEXT("", "guest", shared.guest, CHANGE_SHARED, check_device),
	TEXT("", "port", shared.port, CHANGE_SHARED, check_device),
	TEXT("", "link", shared.link, CHANGE_SHARED, check_device),
	TEXT("", "qmp", shared.qmp, CHANGE_SHARED, check_socket),
	{.group = "",
	 .name = "context",
	 .type = SETTING_CHOICE,
	 AT(context),
	 .choices = config_context_names,
	 .number = COLO_CONTEXT_TC},
	HOST("primary", 0),
	HOST("secondary", 1),
	{.group = "",
	 .name = "secret_file",
	 .type = SETTING_TEXT,
	 AT(secret_file),
	 .required = true,
	 .check = check_path},
	TEXT("", "netdev", netdev, CHANGE_RESTART, NULL),
	{.group = "", .name = "disks", .type = SETTING_DISKS, AT(disk), .check = check_node},
	NUMBER("", "nbd_port", nbd_port, CHANGE_IDLE, 1, 65535, 9999),
	NUMBER("", "migration_port", migration_port, CHANGE_IDLE, 1, 65535, 9998),
	NUMBER("", "peer_port", peer_port, CHANGE_RESTART, 1, 65535, PEER_PORT),
	NUMBER("", "channel_port", channel_port, CHANGE_RESTART, 1, 65535, 7731),
	NUMBER("", "heartbeat_ms", heartbeat_ms, CHANGE_LIVE, 1, 10000, 50),
	NUMBER("", "peer_timeout_ms", peer_timeout_ms, CHANGE_LIVE, 10, 600000, 200),
	NUMBER("", "qemu_timeout_ms", qemu_timeout_ms, CHANGE_LIVE, 100, 600000, 5000),
	NUMBER("", "ack_timeout_ms", ack_timeout_ms, CHANGE_LIVE, 100, 600000, 5000),

	{.group = "takeover",
	 .name = "policy",
	 .type = SETTING_CHOICE,
	 .change = CHANGE_IDLE,
	 AT(takeover.policy),
	 .choices = config_policy_names,
	 .number = TAKEOVER_MANUAL},
	TEXT("takeover", "fence", takeover.fence, CHANGE_LIVE, check_fence),
	NUMBER("takeover", "fence_timeout_ms", takeover.fence_timeout_ms, CHANGE_LIVE, 10,
	       600000, 10000),
	NUMBER("takeover", "fence_delay_ms", takeover.fence_delay_ms, CHANGE_LIVE, 0, 600000,
	       100),
	TEXT("takeover", "witness", takeover.witness, CHANGE_IDLE, check_witness),
	NUMBER("takeover", "lease_ms", takeover.lease_ms, CHANGE_IDLE, 0, 600000, 0),
	NUMBER("takeover", "daemon_timeout_ms", takeover.daemon_timeout_ms, CHANGE_LIVE, 100,
	       3600000, 5000),

	NUMBER("checkpoint", "period_ms", checkpoint.period_ms, CHANGE_LIVE, 1, 3600000, 20000),
	NUMBER("checkpoint", "min_distance_ms", checkpoint.min_distance_ms, CHANGE_LIVE, 0,
	       3600000, 5),
	NUMBER("checkpoint", "stop_percent", checkpoint.stop_percent, CHANGE_LIVE, 1, 100, 40),

	NUMBER("proxy", "compare_timeout_ms", proxy.compare_timeout_ms, CHANGE_LIVE, 1, 3600000,
	       3000),
	NUMBER("proxy", "reorder_ms", proxy.reorder_ms, CHANGE_LIVE, 1, 60000, 2),
	NUMBER("proxy", "reorder_window", proxy.reorder_window, CHANGE_LIVE, 1, 64, 8),
	NUMBER("proxy", "queue_max", proxy.queue_max, CHANGE_LIVE, 1, 1 << 20, 4096),
	NUMBER("proxy", "flow_grace_ms", proxy.flow_grace_ms, CHANGE_LIVE, 1, 86400000, 10000),
	NUMBER("proxy", "flow_idle_ms", proxy.flow_idle_ms, CHANGE_LIVE, 1, 0xffffffff, 600000),
	NUMBER("proxy", "max_flows", proxy.max_flows, CHANGE_RESTART, 1, 1 << 24, 1000000),
	NUMBER("proxy", "max_frames", proxy.max_frames, CHANGE_RESTART, 1, 1 << 22, 32768),
	NUMBER("proxy", "small_blocks", proxy.small_blocks, CHANGE_RESTART, 1, 1 << 19, 8192),
	NUMBER("proxy", "big_blocks", proxy.big_blocks, CHANGE_RESTART, 1, 1 << 14, 768),

	{.group = "",
	 .name = "hooks",
	 .type = SETTING_CHOICE,
	 AT(hooks),
	 .choices = hooks,
	 .number = HOOKS_AUTO},
};

const unsigned int settings_count = sizeof(settings) / sizeof(*settings);

_Static_assert(sizeof(settings) / sizeof(*settings) <= CONFIG_SETTINGS, "a line for each");

const struct setting *setting_find(const char *group, const char *name)
{
	for (unsigned int i = 0; i < settings_count; i++)
		if (!strcmp(settings[i].group, group) && !strcmp(settings[i].name, name))
			return &settings[i];
	return NULL;
}

void setting_name(char *to, size_t size, const struct setting *setting)
{
	snprintf(to, size, "%s%s%s", setting->group, *setting->group ? "." : "", setting->name);
}

static json_t *describe_disks(const struct config *config)
{
	json_t *list = json_array();

	for (__u32 i = 0; i < config->disks; i++) {
		json_t *disk = json_object();

		output_text(disk, "node", config->disk[i].node);
		output_text(disk, "replica", config->disk[i].replica);
		json_array_append_new(list, disk);
	}
	return list;
}

json_t *setting_describe(const struct setting *setting, const struct config *config)
{
	const void *value = setting_value(setting, config);
	const struct config_host *host = value;
	const char *text;
	json_t *list;

	switch (setting->type) {
	case SETTING_TEXT:
		text = *(const char *const *)value;
		return text ? json_string(text) : json_null();
	case SETTING_NUMBER:
		return json_integer(*(const __u32 *)value);
	case SETTING_CHOICE:
		return json_string(setting->choices[*(const int *)value]);
	case SETTING_PATHS:
		list = json_array();
		for (__u32 i = 0; i < host->paths; i++)
			json_array_append_new(list, json_string(host->path[i]));
		return list;
	case SETTING_DISKS:
		return describe_disks(config);
	}
	return NULL;
}
