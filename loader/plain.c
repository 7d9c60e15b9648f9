// SPDX-License-Identifier: GPL-2.0-only
#include <string.h>

#include "clock.h"
#include "daemon.h"
#include "log.h"
#include "plain.h"
#include "release.h"

#define LOOK_NS  (100 * MS_NS)  /* where is the secondary? */
#define ASK_NS   (1000 * MS_NS) /* a checkpoint that is to mend something */
#define TELL_MS  1000
#define BEGIN_MS 5000

static bool is_primary(const struct daemon *d)
{
	return d->session.role == COLO_ROLE_PRIMARY;
}

/* QEMU is in COLO, as far as this side knows, or was until just now. */
static bool in_colo(const struct daemon *d)
{
	enum colo_mode mode = d->dp.session->mode;

	return mode == COLO_MODE_PRIMARY || mode == COLO_MODE_SECONDARY;
}

static void stage(struct daemon *d, const char *name, __u64 epoch)
{
	hooks_stage(d, name, epoch);
}

/* ---- primary ----------------------------------------------------------------------- */

/* One that mends what was missed, not too often. */
static void ask_again(struct daemon *d)
{
	__u64 now = clock_now();

	if (d->session.state != SESSION_COLO || now < d->plain.asked_ns + ASK_NS)
		return;
	d->plain.asked_ns = now;
	plain_ask(d);
}

static void answer_where(void *context, json_t *value, const char *error)
{
	struct daemon *d = context;
	__u64 epoch = json_integer_value(json_object_get(value, "epoch"));

	if (error || !d->plain.on || !is_primary(d) || !in_colo(d))
		return;
	if (json_is_true(json_object_get(value, "unsure")) || epoch > d->dp.session->epoch) {
		/* A daemon has missed a checkpoint: the next one is the same for both. */
		if (epoch > d->plain.closing)
			d->plain.closing = epoch;
		ask_again(d);
	} else if (d->plain.paused_ns && epoch == d->dp.session->epoch) {
		stage(d, "primary-commit", epoch - 1);
		stage(d, "primary-resume", epoch - 1);
	} else if (d->plain.paused_ns && clock_now() > d->plain.paused_ns + ASK_NS) {
		/* The guest was stopped by something else. */
		ask_again(d);
	}
}

/* The secondary tells it by itself; this is for what was missed. */
static void on_timer(void *context)
{
	struct daemon *d = context;

	if (!d->plain.on)
		return;
	if (is_primary(d) && in_colo(d) && channel_is_up(d->channel))
		channel_call(d->channel, "plain-where", json_object(), TELL_MS, answer_where,
			     d);
	loop_timer_set(d->loop, &d->plain.timer, clock_now() + LOOK_NS);
}

static void answer_nothing(void *context, json_t *value, const char *error)
{
	(void)context;
	(void)value;
	if (error)
		log_debug("peer: %s", error);
}

static void primary_stopped(struct daemon *d, __u64 time_ns)
{
	__u64 epoch = d->dp.session->epoch;
	int err;

	if (d->plain.closing > epoch)
		epoch = d->plain.closing;
	d->plain.paused_ns = clock_now();
	takeover_lease_pause(d);
	stage(d, "primary-stop", epoch);
	err = release_commit_before(&d->dp, epoch, time_ns);
	if (err)
		log_error("checkpoint %llu: some of what is held waits for the next one: %s",
			  epoch, strerror(-err));
	channel_call(d->channel, "plain-stop", json_pack("{s:I}", "epoch", (json_int_t)epoch),
		     TELL_MS, answer_nothing, d);
}

int plain_commit(struct daemon *d)
{
	d->plain.paused_ns = 0;
	return takeover_lease_go_on(d);
}

static void on_resumed(struct daemon *d, json_t *arguments, struct channel_request *request)
{
	__u64 epoch = json_integer_value(json_object_get(arguments, "epoch"));

	channel_reply(request, json_true());
	if (!is_primary(d) || !d->plain.paused_ns || epoch + 1 != d->dp.session->epoch)
		return;
	stage(d, "primary-commit", epoch);
	stage(d, "primary-resume", epoch);
}

/* ---- secondary --------------------------------------------------------------------- */

static void on_stop(struct daemon *d, json_t *arguments, struct channel_request *request)
{
	d->plain.closing = json_integer_value(json_object_get(arguments, "epoch"));
	channel_reply(request, json_true());
}

static void on_where(struct daemon *d, json_t *arguments, struct channel_request *request)
{
	(void)arguments;
	channel_reply(request,
		      json_pack("{s:I, s:b}", "epoch", (json_int_t)d->dp.session->epoch,
				"unsure", d->plain.unsure));
}

/* It is the primary's copy now. */
static void secondary_resumed(struct daemon *d)
{
	__u64 epoch = d->dp.session->epoch;

	if (d->plain.closing > epoch)
		epoch = d->plain.closing;
	d->plain.stopped = false;
	stage(d, "secondary-reset", epoch);
	d->plain.unsure = false;
	channel_call(d->channel, "plain-resumed",
		     json_pack("{s:I}", "epoch", (json_int_t)epoch), TELL_MS, answer_nothing,
		     d);
}

static void on_plain_start(struct daemon *d, json_t *arguments, struct channel_request *request)
{
	(void)arguments;
	if (!d->plain.on) {
		channel_refuse(
			request,
			"QEMU's hooks are used here and not at the peer: `hooks = \"never\"` on both");
		return;
	}
	d->plain.stopped = d->plain.unsure = false;
	d->plain.closing = 0;
	stage(d, "secondary-start", 1);
	if (d->session.state == SESSION_STARTING)
		channel_reply(request, json_true());
	else
		channel_refuse(request, "the secondary's data path does not begin");
}

const struct channel_method plain_methods[] = {
	{"plain-start", on_plain_start},
	{"plain-stop", on_stop},
	{"plain-resumed", on_resumed},
	{"plain-where", on_where},
	{NULL, NULL},
};

/* ---- QEMU -------------------------------------------------------------------------- */

static void migration_event(struct daemon *d, json_t *data)
{
	const char *status = json_string_value(json_object_get(data, "status"));

	if (!status || !in_colo(d))
		return;
	if (!strcmp(status, "colo"))
		d->plain.migrated = true;
	/* Only a take-over ends COLO's migration that way, on either side. */
	if (!strcmp(status, "completed"))
		stage(d, "failover", d->dp.session->epoch);
}

void plain_event(struct daemon *d, const char *name, json_t *data, __u64 time_ns)
{
	if (!strcmp(name, "MIGRATION")) {
		migration_event(d, data);
	} else if (!in_colo(d)) {
		return;
	} else if (!strcmp(name, "STOP")) {
		if (!is_primary(d))
			d->plain.stopped = true;
		else if (d->plain.began && d->session.state != SESSION_FAILING)
			primary_stopped(d, time_ns);
	} else if (!strcmp(name, "RESUME")) {
		d->plain.began = d->plain.began || d->plain.migrated;
		if (!is_primary(d) && d->plain.stopped)
			secondary_resumed(d);
	}
}

static void answer_ask(void *context, json_t *value, const char *error)
{
	(void)context;
	(void)value;
	if (error)
		log_error("QEMU: migrate-set-parameters: %s", error);
}

/* To set it is to ask, though it stays what it is. */
void plain_ask(struct daemon *d)
{
	qmp_execute(d->qmp, false, "migrate-set-parameters",
		    json_pack("{s:I}", "x-checkpoint-delay",
			      (json_int_t)d->config->checkpoint.period_ms),
		    answer_ask, d);
}

void plain_begin(struct daemon *d)
{
	d->plain.on = true;
	d->plain.began = d->plain.migrated = in_colo(d);
	d->plain.stopped = false;
	/* What QEMU did while nobody listened is not known. */
	d->plain.unsure = d->dp.session->mode == COLO_MODE_SECONDARY;
	if (d->takeover.paused && !d->plain.paused_ns)
		d->plain.paused_ns = clock_now();
	qmp_execute(d->qmp, false, "migrate-set-capabilities",
		    json_pack("{s:[{s:s, s:b}]}", "capabilities", "capability", "events",
			      "state", 1),
		    answer_nothing, d);
	d->plain.timer.fire = on_timer;
	d->plain.timer.context = d;
	loop_timer_set(d->loop, &d->plain.timer, clock_now() + LOOK_NS);
}

/* ---- COLO begins ------------------------------------------------------------------- */

static bool began(struct daemon *d)
{
	return d->session.state == SESSION_COLO && d->dp.session->mode == COLO_MODE_PRIMARY &&
	       d->dp.session->epoch == 1;
}

bool plain_start(struct task *task, struct daemon *d)
{
	json_t *value = task_call(task, "plain-start", json_object(), BEGIN_MS);

	json_decref(value);
	if (!value)
		return false;
	d->plain.began = d->plain.migrated = false;
	d->plain.closing = d->plain.paused_ns = 0;
	stage(d, "primary-start", 1);
	if (d->session.state != SESSION_STARTING && d->session.state != SESSION_COLO)
		return task_fail(task,
				 "the data path does not begin; the daemon's log says why");
	return task_until(task, began, BEGIN_MS, "both data paths");
}

bool plain_has_not_begun(const struct daemon *d)
{
	return d->plain.on && is_primary(d) && !d->plain.began &&
	       (d->session.state == SESSION_COLO || d->session.state == SESSION_STARTING);
}

void plain_not_started(struct daemon *d)
{
	if (d->session.state == SESSION_COLO || d->session.state == SESSION_STARTING)
		stage(d, "failover", d->dp.session->epoch);
}
