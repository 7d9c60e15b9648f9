// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <string.h>

#include <bpf/bpf.h>

#include "clock.h"
#include "commands.h"
#include "control.h"
#include "names.h"
#include "options.h"
#include "output.h"
#include "pin.h"
#include "policy.h"
#include "status.h"
#include "translations.h"

static json_t *describe_request(const struct datapath *dp)
{
	const volatile struct colo_session *session = dp->session;
	json_t *object = json_object();

	output_number(object, "epoch", session->request_epoch);
	output_text(object, "reason", name_reason(session->request_reason));
	output_flag(object, "open", session->epoch && session->request_epoch == session->epoch);
	return object;
}

static json_t *describe_frames(const struct datapath *dp)
{
	__u32 count[COLO_FRAME_I + 1] = {}, ready = 0;
	json_t *object = json_object();

	for (__u32 i = datapath_frame(dp, 0); i < dp->max_frames;
	     i = datapath_frame(dp, i + 1)) {
		enum colo_frame_state state = dp->marks[i].state;

		if (state != COLO_FRAME_FREE && state <= COLO_FRAME_I)
			count[state]++;
		ready += state == COLO_FRAME_P && dp->frames[i].flags & COLO_FR_READY;
	}
	output_number(object, "primary", count[COLO_FRAME_P]);
	output_number(object, "lease", ready); /* of these, wait for the lease only */
	output_number(object, "secondary", count[COLO_FRAME_S]);
	output_number(object, "client", count[COLO_FRAME_C]);
	output_number(object, "input", count[COLO_FRAME_I]);
	output_number(object, "free",
		      dp->max_frames - count[COLO_FRAME_P] - count[COLO_FRAME_S] -
			      count[COLO_FRAME_C] - count[COLO_FRAME_I]);
	return object;
}

/* How much longer frames may leave, null: no lease is asked for. */
static json_t *describe_lease(const struct datapath *dp)
{
	__u64 end = dp->session->lease_ns, now = clock_now();

	if (!end)
		return json_null();
	return json_integer(end > now ? (end - now) / 1000000 : 0);
}

/* What leaves though nobody vouches for it, beside what always does. */
static json_t *describe_risks(const struct datapath *dp)
{
	json_t *list = json_array(), *rules = passthrough_describe(dp), *rule;
	size_t i;

	for (__u32 c = 0; dp->abi.role == COLO_ROLE_PRIMARY && c < COLO_CLASS_MAX; c++) {
		if (policy_get(dp, c) != COLO_ACTION_PASS ||
		    policy_default[c] == COLO_ACTION_PASS)
			continue;
		json_array_append_new(list, json_sprintf("class %s leaves uncompared",
							 name_class(c)));
	}
	json_array_foreach(rules, i, rule) {
		json_array_append_new(
			list,
			json_sprintf(
				"passthrough rule %lld: %lld frames have left uncompared",
				(long long)json_integer_value(json_object_get(rule, "rule")),
				(long long)json_integer_value(json_object_get(rule, "frames"))));
	}
	json_decref(rules);
	return list;
}

json_t *status_describe(const struct datapath *dp)
{
	json_t *object = json_object();

	output_text(object, "name", dp->abi.name);
	output_text(object, "role", name_role(dp->abi.role));
	output_text(object, "mode", name_mode(dp->session->mode));
	output_number(object, "epoch", dp->session->epoch);
	output_text(object, "guest", dp->abi.guest);
	output_text(object, "port", dp->abi.port);
	output_text(object, "link", dp->abi.link);
	output_text(object, "context", name_context(dp->abi.context));
	/* of a primary in the context XDP: the port takes frames of it */
	output_set(object, "xdp",
		   dp->abi.context == COLO_CONTEXT_XDP ?
			   json_boolean(dp->abi.role == COLO_ROLE_PRIMARY &&
					dp->config->xdp_frame_max) :
			   json_null());
	output_text(object, "peer", *dp->abi.peer ? dp->abi.peer : NULL);
	output_number(object, "abi", dp->abi.version);
	output_set(object, "request", describe_request(dp));
	output_set(object, "held", describe_frames(dp));
	output_number(object, "translated_flows", translations_count(dp));
	output_set(object, "lease_ms", describe_lease(dp));
	output_set(object, "risks", describe_risks(dp));
	return object;
}

static json_t *describe_name(const char *name)
{
	struct datapath dp;
	json_t *object;
	int running;

	object = control_call(name, "status", &running);
	if (object || running)
		return object;
	if (datapath_open(name, &dp))
		return NULL;
	object = status_describe(&dp);
	output_set(object, "daemon", json_null());
	datapath_close(&dp);
	return object;
}

static int add_name(const char *name, void *context)
{
	json_t *row = json_object(), *object = describe_name(name);
	static const char *const columns[] = {"name",  "role", "mode", "epoch",
					      "guest", "port", "link"};

	for (size_t i = 0; i < sizeof(columns) / sizeof(*columns); i++) {
		json_t *value = json_object_get(object, columns[i]);

		output_set(row, columns[i],
			   value ? json_incref(value) :
			   i     ? json_null() :
				   json_string(name));
	}
	json_decref(object);
	json_array_append_new(context, row);
	return 0;
}

int cmd_status(int argc, char **argv)
{
	const char *name = NULL;
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .value = &name},
		{OPTION_END},
	};
	int status = options_parse("status", command_summary("status"), rows, argc, argv);
	json_t *object;

	if (status != -1)
		return status;
	if (name) {
		object = describe_name(name);
	} else {
		object = json_array();
		pin_each(add_name, object);
	}
	if (!object)
		return EXIT_FAILED;
	return output(object) ? EXIT_FAILED : EXIT_OK;
}
