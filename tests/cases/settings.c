// SPDX-License-Identifier: GPL-2.0-only
/* `set` of a case, for our programs: their options and the policy per class. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "settings.h"

#define OPTION(name, size)                                      \
	{                                                       \
#name, offsetof(struct colo_config, name), size \
	}

static const struct {
	const char *name;
	size_t offset;
	bool size; /* of a map: takes an attach of its own */
} options[] = {
	OPTION(compare_timeout_ms, false), OPTION(reorder_ms, false),
	OPTION(reorder_window, false),     OPTION(queue_max, false),
	OPTION(flow_grace_ms, false),      OPTION(flow_idle_ms, false),
	OPTION(max_flows, true),           OPTION(max_frames, true),
	OPTION(small_blocks, true),        OPTION(big_blocks, true),
};

static const char *const class_names[COLO_CLASS_MAX] = {
	"tcp", "udp", "icmp", "icmp6", "ip_other", "arp",
	"nd",  "mld", "igmp", "lldp",  "stp",      "eth_other",
};

static const char *const action_names[] = {"compare", "pass", "drop"};

/* set policy.CLASS compare|pass|drop: 0 done, -1 no such thing, 1 not this */
static int set_policy(const struct statement *st, __u32 *policy)
{
	if (strncmp(st->key, "policy.", 7))
		return 1;
	for (unsigned int c = 0; c < COLO_CLASS_MAX; c++) {
		if (strcmp(class_names[c], st->key + 7))
			continue;
		for (unsigned int a = 0; a < 3; a++) {
			if (!strcmp(action_names[a], st->value)) {
				policy[c] = a;
				return 0;
			}
		}
	}
	return -1;
}

static const struct {
	const char *name;
	size_t offset;
} parts[] = {
	{"passthrough.protocol", offsetof(struct passthrough_text, protocol)},
	{"passthrough.guest", offsetof(struct passthrough_text, guest)},
	{"passthrough.guest_port", offsetof(struct passthrough_text, guest_port)},
	{"passthrough.client", offsetof(struct passthrough_text, client)},
	{"passthrough.client_port", offsetof(struct passthrough_text, client_port)},
};

/* set passthrough.WHAT VALUE: of one rule, as on the command line */
static int set_passthrough(const struct statement *st, struct passthrough_text *rule)
{
	for (unsigned int i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (strcmp(parts[i].name, st->key))
			continue;
		*(const char **)((char *)rule + parts[i].offset) = st->value;
		return 0;
	}
	return 1;
}

/* The lease is given at the begin, and not renewed. */
static int set_lease(const struct statement *st, struct run *run)
{
	uint64_t number;

	if (strcmp(st->key, "lease_ms") && strcmp(st->key, "lease-ms"))
		return 1;
	if (text_number(st->value, UINT32_MAX, &number) || !number)
		return -1;
	run->lease_ms = number;
	return 0;
}

/* An option of `attach` has dashes where the map has underscores. */
static bool same_name(const char *name, const char *key)
{
	for (; *name && (*name == *key || (*name == '_' && *key == '-')); name++)
		key++;
	return *name == *key;
}

static int set_config(const struct statement *st, struct colo_config *config, bool sizes)
{
	uint64_t number;

	for (unsigned int i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (!same_name(options[i].name, st->key))
			continue;
		if (text_number(st->value, UINT32_MAX, &number))
			return -1;
		if (options[i].size == sizes)
			*(__u32 *)((char *)config + options[i].offset) = number;
		return 0;
	}
	return -1;
}

/* All `set` of a case: into config (only sizes, or only the others), policy and rule. */
int set_options(struct run *run, struct colo_config *config, bool sizes, __u32 *policy,
		struct passthrough_text *rule)
{
	for (const struct statement *st = run->test->first; st; st = st->next) {
		int err = 0;

		if (st->verb != VERB_SET || !strcmp(st->key, "offloads"))
			continue;
		err = set_policy(st, policy);
		if (err > 0)
			err = set_passthrough(st, rule);
		if (err > 0)
			err = set_lease(st, run);
		if (err > 0)
			err = set_config(st, config, sizes);
		if (err) {
			run_fail(run, "%s:%d: set %s %s: no such option or value", st->file,
				 st->line, st->key, st->value);
			return -1;
		}
	}
	return 0;
}

void settings_list(void)
{
	char name[48];

	for (unsigned int i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		element_of("set", options[i].name);
	element_of("set", "lease_ms");
	for (unsigned int i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		element_of("set", parts[i].name);
	for (unsigned int c = 0; c < COLO_CLASS_MAX; c++) {
		snprintf(name, sizeof(name), "policy.%s", class_names[c]);
		element_of("set", name);
	}
}
