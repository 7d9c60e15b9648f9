// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "datapath.h"
#include "log.h"
#include "names.h"
#include "options.h"
#include "output.h"
#include "translations.h"

struct flag_name {
	unsigned int flag;
	const char *name;
};

static const struct flag_name primary_flags[] = {
	{COLO_F_MISMATCH, "mismatch"},
	{COLO_F_WATCH, "watch"},
	{COLO_F_PENDING, "pending"},
	{COLO_F_P_FIN, "fin"},
	{COLO_F_C_FIN, "client_fin"},
	{COLO_F_RST, "rst"},
	{0, NULL},
};

static const struct flag_name secondary_flags[] = {
	{COLO_RW_P_ISN, "p_isn"},
	{COLO_RW_S_ISN, "s_isn"},
	{COLO_RW_OFFSET, "offset"},
	{COLO_RW_G_FIN, "fin"},
	{COLO_RW_C_FIN, "client_fin"},
	{COLO_RW_RST, "rst"},
	{0, NULL},
};

static void add_flags(json_t *row, unsigned int flags, const struct flag_name *names)
{
	char text[128] = "";

	for (; names->name; names++) {
		if (!(flags & names->flag))
			continue;
		if (*text)
			strcat(text, ",");
		strcat(text, names->name);
	}
	output_text(row, "flags", *text ? text : "-");
}

/* The digest of the oldest datagram of a queue, if it was needed. */
static void add_digest(json_t *row, const char *name, const struct datapath *dp,
		       const struct colo_queue *queue)
{
	char text[40] = "";

	if (queue->count && queue->head < dp->max_frames &&
	    dp->frames[queue->head].flags & COLO_FR_DIGEST)
		snprintf(text, sizeof(text), "%016llx%016llx",
			 dp->frames[queue->head].digest[0], dp->frames[queue->head].digest[1]);
	output_text(row, name, *text ? text : NULL);
}

static void add_primary(json_t *row, const struct colo_flow *flow, const struct datapath *dp)
{
	output_number(row, "epoch", flow->epoch);
	output_number(row, "held",
		      flow->p_held.count + flow->p_ackwait.count + flow->p_commit.count);
	output_number(row, "waiting", flow->s_wait.count);
	output_number(row, "matched", flow->matched);
	output_number(row, "mismatches", flow->mismatches);
	add_flags(row, flow->flags, primary_flags);
	if (!common.json)
		return;
	if (!(flow->flags & COLO_F_TCP)) {
		add_digest(row, "held_digest", dp, &flow->p_held);
		add_digest(row, "waiting_digest", dp, &flow->s_wait);
		return;
	}
	output_number(row, "vouch_start", flow->vouch_start);
	output_number(row, "vouch_end", flow->vouch_end);
	output_number(row, "p_next", flow->p_next);
	output_number(row, "p_ack", flow->p_ack);
	output_number(row, "s_ack", flow->s_ack);
}

static void add_secondary(json_t *row, const struct colo_rewrite *rewrite)
{
	output_number(row, "epoch", rewrite->epoch);
	output_number(row, "seq_delta", rewrite->seq_delta);
	output_number(row, "ts_delta", rewrite->ts_delta);
	output_number(row, "waiting", rewrite->c_wait.count);
	add_flags(row, rewrite->flags, secondary_flags);
}

struct description {
	const struct datapath *dp;
	json_t *list;
};

static void describe(const struct colo_flow_key *key, const union datapath_flow *value,
		     void *context)
{
	const struct description *d = context;
	json_t *row = name_flow(key);

	if (d->dp->abi.role == COLO_ROLE_PRIMARY)
		add_primary(row, &value->flow, d->dp);
	else
		add_secondary(row, &value->rewrite);
	json_array_append_new(d->list, row);
}

/* NULL after a message. */
static json_t *describe_all(const struct datapath *dp)
{
	struct description d = {.dp = dp, .list = json_array()};
	int err = datapath_each_flow(dp, describe, &d);

	if (!err)
		return d.list;
	log_error("%s: the flows cannot be read: %s", dp->abi.name, strerror(-err));
	json_decref(d.list);
	return NULL;
}

int cmd_flows(int argc, char **argv)
{
	const char *name = NULL;
	bool translated = false;
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .required = true, .value = &name},
		{OPTION_FLAG, .name = "translated", .value = &translated,
		 .help = "those whose clients know other numbers, since a take-over"},
		{OPTION_END},
	};
	int status = options_parse("flows", command_summary("flows"), rows, argc, argv);
	struct datapath dp;
	json_t *list;

	if (status != -1)
		return status;
	if (datapath_open(name, &dp))
		return EXIT_FAILED;
	list = translated ? translations_export(&dp) : describe_all(&dp);
	datapath_close(&dp);
	return !list || output(list) ? EXIT_FAILED : EXIT_OK;
}
