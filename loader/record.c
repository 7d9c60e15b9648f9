// SPDX-License-Identifier: GPL-2.0-only
/*
 * What QEMU's stages say of a checkpoint goes into its history, from the
 * secondary to the primary's, and to those that follow the events.
 */
#include <string.h>

#include "clock.h"
#include "daemon.h"
#include "log.h"

#define TOLD_MS 1000 /* it is not worth more waiting */

void record_open(struct daemon *d)
{
	history_open(&d->history, d->dp.checkpoints, d->dp.abi.role, d->dp.session->epoch,
		     d->dp.session->commit_ns);
}

void record_map(struct daemon *d)
{
	d->history.ring = d->dp.checkpoints;
}

void record_stage(struct daemon *d, const json_t *figures)
{
	history_stage(&d->history, d->stage.name, d->stage.epoch, figures, clock_now());
}

static void answer_told(void *context, json_t *value, const char *error)
{
	(void)context;
	(void)value;
	if (error)
		log_debug("peer: what a checkpoint took here: %s", error);
}

/* Without a channel the primary's history does without. */
static void tell_load(struct daemon *d, json_t *load)
{
	if (load && channel_is_up(d->channel))
		channel_call(d->channel, "checkpoint-load", json_incref(load), TOLD_MS,
			     answer_told, NULL);
}

void record_stage_end(struct daemon *d, const json_t *figures)
{
	history_stage_end(&d->history, d->stage.name, d->dp.session->epoch, clock_now());
	if (!strcmp(d->stage.name, "secondary-reset"))
		tell_load(d, json_object_get(figures, "load"));
}

/* The guest runs again: the checkpoint is over, and the next may be due. */
void record_resume(struct daemon *d)
{
	json_t *event = history_describe(&d->history.last);

	json_object_set_new(event, "event", json_string("checkpoint"));
	server_publish(d, event);
	replica_ask(d);
	if (d->ask_ns != NO_TIMER)
		d->ask_ns = 0;
}

static void peer_load(struct daemon *d, json_t *arguments, struct channel_request *request)
{
	if (history_peer_load(&d->history, arguments))
		channel_refuse(request, "no such checkpoint in this session");
	else
		channel_reply(request, NULL);
}

const struct channel_method record_methods[] = {
	{"checkpoint-load", peer_load},
	{NULL, NULL},
};
