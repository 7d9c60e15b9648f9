// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "config.h"
#include "daemon.h"
#include "disks.h"
#include "log.h"
#include "names.h"
#include "output.h"
#include "pair.h"
#include "progress.h"
#include "release.h"
#include "translations.h"

#define PREPARE_MS  10000
#define CHANNEL_MS  3000
#define NEWS_MS     200
#define IN_COLO_MS  10000
#define DOWNTIME_MS 30 /* how long QEMU may stop the guest for the last of its RAM */

struct bring_up {
	bool resync;
	bool disks_equal;
};

/* ---- at the peer ------------------------------------------------------------------ */

struct prepare {
	struct channel_request *request;
	json_t *arguments;
};

static bool check_status(struct task *task, const char *const *good, const char *what)
{
	json_t *value = task_qmp(task, false, "query-status", NULL);
	const char *status = json_string_value(json_object_get(value, "status"));
	bool found = false;

	for (; status && *good; good++)
		found = found || !strcmp(status, *good);
	if (status && !found)
		task_fail(task, "QEMU's state is \"%s\": %s", status, what);
	json_decref(value);
	return found;
}

static bool set_capabilities(struct task *task, bool on, bool primary)
{
	json_t *list = json_pack("[{s:s, s:b}]", "capability", "x-colo", "state", on);

	json_array_append_new(list,
			      json_pack("{s:s, s:b}", "capability", "events", "state", on));
	if (primary)
		json_array_append_new(list, json_pack("{s:s, s:b}", "capability",
						      "pause-before-switchover", "state", on));
	return task_do(task, "migrate-set-capabilities",
		       json_pack("{s:o}", "capabilities", list));
}

static void undo_capabilities(struct task *task, json_t *argument)
{
	set_capabilities(task, false, json_is_true(argument));
}

static bool take_role(struct task *task, struct daemon *d, enum colo_role role)
{
	int err;

	if (d->session.role == role)
		return true;
	err = daemon_switch_role(d, role);
	if (err)
		return task_fail(task, "the data path cannot become a %s: %s", name_role(role),
				 strerror(-err));
	return true;
}

/* QEMU was started with an address, or is told one now. */
static bool listen_for_migration(struct task *task, struct daemon *d)
{
	char uri[128];
	json_t *value, *channel;

	snprintf(uri, sizeof(uri), "%u", d->config->migration_port);
	channel = json_pack("{s:s, s:{s:s, s:s, s:s, s:s}}", "channel-type", "main", "addr",
			    "transport", "socket", "type", "inet", "host",
			    config_self(d->config)->address, "port", uri);
	value = task_try(task, "migrate-incoming", json_pack("{s:[o]}", "channels", channel));
	json_decref(value);
	return true;
}

static bool prepare_steps(struct task *task, struct daemon *d, json_t **answer)
{
	static const char *const waiting[] = {"inmigrate", NULL};
	json_t *mine;

	if (!check_status(task, waiting,
			  "start the secondary's anew, with `-incoming defer` or an address"))
		return false;
	mine = disks_describe(task, d, true);
	if (!mine || !take_role(task, d, COLO_ROLE_SECONDARY)) {
		json_decref(mine);
		return false;
	}
	*answer = json_pack("{s:o}", "disks", mine);
	if (!set_capabilities(task, true, false))
		return false;
	task_undo(task, undo_capabilities, json_false());
	return disks_export(task, d) && listen_for_migration(task, d);
}

static int prepare_main(struct task *task, struct daemon *d, void *context)
{
	struct prepare *prepare = context;
	json_t *answer = NULL;

	if (prepare_steps(task, d, &answer)) {
		task_undo_none(task);
		channel_reply(prepare->request, answer);
		return 0;
	}
	json_decref(answer);
	task_undo_all(task);
	channel_refuse(prepare->request, "%s", task_error(task));
	return -EIO;
}

static bool may_become_secondary(const struct daemon *d, const char **why)
{
	switch (d->session.state) {
	case SESSION_IDLE:
		/* a primary that never was in a pair serves its clients */
		if (d->session.role == COLO_ROLE_PRIMARY) {
			*why = "it is a primary itself";
			return false;
		}
		return true;
	case SESSION_LOST:
		return true;
	case SESSION_ALONE:
		*why = "it is a survivor, too: one of the two guests must be ended";
		return false;
	default:
		*why = "it is in COLO";
		return false;
	}
}

static void on_prepare(struct daemon *d, json_t *arguments, struct channel_request *request)
{
	struct prepare *prepare;
	const char *why = NULL;

	(void)arguments;
	if (!may_become_secondary(d, &why) || task_find(&d->tasks, "prepare")) {
		channel_refuse(request, "%s", why ? why : "it prepares already");
		return;
	}
	prepare = calloc(1, sizeof(*prepare));
	if (!prepare) {
		channel_refuse(request, "out of memory");
		return;
	}
	prepare->request = request;
	task_start(&d->tasks, d, "prepare", prepare_main, prepare, NULL);
}

static int unprepare_main(struct task *task, struct daemon *d, void *context)
{
	(void)context;
	json_decref(task_try(task, "nbd-server-stop", NULL));
	(void)d;
	return 0;
}

static void on_unprepare(struct daemon *d, json_t *arguments, struct channel_request *request)
{
	(void)arguments;
	task_start(&d->tasks, d, "unprepare", unprepare_main, NULL, NULL);
	channel_reply(request, json_true());
}

static void on_translations(struct daemon *d, json_t *arguments,
			    struct channel_request *request)
{
	int err = translations_import(&d->dp, json_object_get(arguments, "flows"));

	if (err)
		channel_refuse(request, "its translations cannot be kept: %s", strerror(-err));
	else
		channel_reply(request, json_true());
}

const struct channel_method pair_methods[] = {
	{"prepare", on_prepare},
	{"translations", on_translations},
	{"unprepare", on_unprepare},
	{NULL, NULL},
};

/* ---- at the side that has the guest ----------------------------------------------- */

static bool check_self(struct task *task, struct daemon *d)
{
	static const char *const fit[] = {"running", "prelaunch", "paused", NULL};
	json_t *value = task_qmp(task, false, "query-migrate-capabilities", NULL), *item;
	bool colo = false;
	size_t i;

	(void)d;
	json_array_foreach(value, i, item)
		colo = colo || qmp_text_is(json_object_get(item, "capability"), "x-colo");
	json_decref(value);
	if (!value)
		return false;
	if (!colo)
		return task_fail(
			task,
			"this QEMU has no COLO (capability x-colo): too old, or built without --enable-replication");
	return check_status(task, fit, "a guest that runs, or waits to be started, is needed");
}

/* The peer's QEMU waits, its disks are exported and fit. */
static bool prepare_peer(struct task *task, struct daemon *d, const struct bring_up *how)
{
	json_t *mine = disks_describe(task, d, false), *answer = NULL;
	bool fit = false;

	(void)how;
	if (mine)
		answer = task_call(task, "prepare", json_pack("{s:s}", "pair", d->options.name),
				   PREPARE_MS);
	if (answer) {
		task_undo_call(task, "unprepare", NULL);
		fit = disks_compare(task, d, mine, json_object_get(answer, "disks"));
	}
	json_decref(answer);
	json_decref(mine);
	return fit;
}

static bool set_parameters(struct task *task, struct daemon *d)
{
	return task_do(task, "migrate-set-parameters",
		       json_pack("{s:I, s:I, s:I}", "max-bandwidth", (json_int_t)4 << 30,
				 "downtime-limit", (json_int_t)DOWNTIME_MS,
				 "x-checkpoint-delay",
				 (json_int_t)d->config->checkpoint.period_ms));
}

static bool migration_ended(const char *status)
{
	return !strcmp(status, "cancelled") || !strcmp(status, "failed") ||
	       !strcmp(status, "completed") || !strcmp(status, "none");
}

/* No capability can be changed, and no node deleted, before it is really over. */
static void undo_migrate(struct task *task, json_t *argument)
{
	bool over;

	(void)argument;
	if (!task_do(task, "migrate_cancel", NULL))
		return;
	do {
		__u64 seen = task_news_count(task);
		json_t *value = task_qmp(task, false, "query-migrate", NULL);
		const char *status = json_string_value(json_object_get(value, "status"));

		over = !status || migration_ended(status);
		json_decref(value);
		if (!over && !task_news(task, seen, NEWS_MS))
			over = true;
	} while (!over);
}

static bool migrate(struct task *task, struct daemon *d)
{
	char port[8];
	json_t *channel;

	snprintf(port, sizeof(port), "%u", d->config->migration_port);
	channel = json_pack("{s:s, s:{s:s, s:s, s:s, s:s}}", "channel-type", "main", "addr",
			    "transport", "socket", "type", "inet", "host",
			    config_peer(d->config)->address, "port", port);
	if (!task_do(task, "migrate", json_pack("{s:[o]}", "channels", channel)))
		return false;
	task_undo(task, undo_migrate, NULL);
	return true;
}

/* One look at the migration. *status: a copy of ours. */
static bool migration_look(struct task *task, struct daemon *d, struct progress *progress,
			   char status[32])
{
	json_t *value = task_qmp(task, false, "query-migrate", NULL), *ram;
	const char *text = json_string_value(json_object_get(value, "status"));
	const char *why = json_string_value(json_object_get(value, "error-desc"));
	bool going = text;

	snprintf(status, 32, "%s", text ? text : "none");
	ram = json_object_get(value, "ram");
	if (ram)
		progress_step(d, progress,
			      json_integer_value(json_object_get(ram, "transferred")),
			      json_integer_value(json_object_get(ram, "transferred")) +
				      json_integer_value(json_object_get(ram, "remaining")));
	if (going && migration_ended(status))
		going = task_fail(task,
				  "the guest's state could not be copied: migration %s%s%s",
				  status, why ? ": " : "", why ? why : "");
	json_decref(value);
	return going;
}

/*
 * The RAM is copied while the guest runs. Before QEMU hands over it waits, with
 * the guest stopped: then the copies of the disks end and the replication takes
 * their place, so that no write falls between.
 */
static bool copy_state(struct task *task, struct daemon *d, bool synced)
{
	struct progress progress = progress_begin("state");
	bool switched = false;
	char status[32];
	__u64 seen;

	for (;;) {
		seen = task_news_count(task);
		if (!migration_look(task, d, &progress, status))
			return false;
		if (!strcmp(status, "colo"))
			return true;
		if (!strcmp(status, "pre-switchover") && !switched) {
			switched = true;
			if (!disks_switch(task, d, synced) ||
			    (d->plain.on && !plain_start(task, d)) ||
			    !task_do(task, "migrate-continue",
				     json_pack("{s:s}", "state", "pre-switchover")))
				return false;
			continue;
		}
		if (!task_news(task, seen, NEWS_MS))
			return false;
	}
}

static bool both_in_colo(struct daemon *d)
{
	return d->session.state == SESSION_COLO && d->peer.last.state == SESSION_COLO &&
	       !plain_has_not_begun(d);
}

static bool channel_up(struct daemon *d)
{
	return channel_is_up(d->channel);
}

/* It may be about to connect, after a peer that has just begun. */
static bool check_peer(struct task *task, struct daemon *d)
{
	const char *trouble = channel_trouble(d->channel);

	if (channel_is_up(d->channel))
		return true;
	if (task_try_until(task, channel_up, CHANNEL_MS))
		return true;
	return task_fail(task, "the peer's daemon is not connected%s%s", *trouble ? ": " : "",
			 trouble);
}

static bool bring_up_steps(struct task *task, struct daemon *d, const struct bring_up *how)
{
	bool sync = !how->disks_equal && d->config->disks;

	if (!check_self(task, d) || !check_peer(task, d) ||
	    !take_role(task, d, COLO_ROLE_PRIMARY))
		return false;
	if (!disks_remove(task, d) || !prepare_peer(task, d, how))
		return false;
	if (!disks_connect(task, d) || (sync && !disks_sync(task, d)))
		return false;
	if (!set_parameters(task, d) || !set_capabilities(task, true, true))
		return false;
	task_undo(task, undo_capabilities, json_true());
	if (!migrate(task, d) || !copy_state(task, d, sync))
		return false;
	return task_until(task, both_in_colo, IN_COLO_MS, "COLO on both sides");
}

static int bring_up_main(struct task *task, struct daemon *d, void *context)
{
	if (bring_up_steps(task, d, context)) {
		task_undo_none(task);
		return 0;
	}
	/* In COLO the state machine has the say: a failure there is a failover. */
	if (d->session.state == SESSION_IDLE || d->session.state == SESSION_ALONE ||
	    plain_has_not_begun(d)) {
		task_undo_all(task);
		plain_not_started(d);
	}
	return -EIO;
}

static void bring_up_done(struct daemon *d, const char *name, const char *error)
{
	if (error)
		log_error("%s: %s: %s", d->options.name, name, error);
	else
		log_info("%s: %s: the pair is in COLO", d->options.name, name);
	server_publish(d, json_pack("{s:s, s:s, s:b, s:s*}", "event", "done", "procedure", name,
				    "ok", !error, "error", error));
}

/* ---- a start that nobody attends any more ------------------------------------------- */

/* Whether a migration to COLO is on its way. */
static bool is_coming_up(struct task *task)
{
	json_t *capabilities = task_qmp(task, false, "query-migrate-capabilities", NULL), *item;
	json_t *value = task_qmp(task, false, "query-migrate", NULL);
	const char *status = json_string_value(json_object_get(value, "status"));
	bool colo = false, going = status && !migration_ended(status);
	size_t i;

	json_array_foreach(capabilities, i, item)
		if (qmp_text_is(json_object_get(item, "capability"), "x-colo"))
			colo = json_is_true(json_object_get(item, "state"));
	json_decref(capabilities);
	json_decref(value);
	return colo && going;
}

/* QEMU would stop the guest when it is to hand over, and wait for ever. */
static int clear_main(struct task *task, struct daemon *d, void *context)
{
	(void)context;
	if (!is_coming_up(task))
		return 0;
	log_warning(
		"%s: QEMU is at a start that no daemon attends: it is cancelled, the guest goes on alone",
		d->options.name);
	undo_migrate(task, NULL);
	disks_part(task, d);
	disks_remove(task, d);
	set_capabilities(task, false, true);
	return *task_error(task) ? -EIO : 0;
}

static void clear_done(struct daemon *d, const char *name, const char *error)
{
	if (error)
		log_error("%s: %s: %s", d->options.name, name, error);
}

void pair_clear(struct daemon *d)
{
	bool guest = d->session.state == SESSION_ALONE ||
		     (d->session.state == SESSION_IDLE && d->session.role == COLO_ROLE_PRIMARY);

	if (!guest || d->tasks.first)
		return;
	if (task_start(&d->tasks, d, "clear", clear_main, NULL, clear_done))
		log_error("%s: clear: out of memory", d->options.name);
}

const char *pair_start(struct daemon *d, bool resync, bool disks_equal)
{
	enum session_state from = resync ? SESSION_ALONE : SESSION_IDLE;
	struct bring_up *how;

	if (task_find(&d->tasks, "start") || task_find(&d->tasks, "resync"))
		return "it is under way already";
	if (task_find(&d->tasks, "clear"))
		return "what an earlier start has left is being removed: try again";
	if (d->session.state != from)
		return resync ? "this side is no survivor: `start` is for a new pair" :
		       d->session.state == SESSION_ALONE ?
				"this side is a survivor: `resync` brings a new secondary up" :
				"this side is not idle; its `status` says what it does";
	if (!resync && d->session.role != COLO_ROLE_PRIMARY)
		return "this is the secondary: start the pair on the primary's host";
	how = calloc(1, sizeof(*how));
	if (!how)
		return "out of memory";
	how->resync = resync;
	how->disks_equal = disks_equal;
	return task_start(&d->tasks, d, resync ? "resync" : "start", bring_up_main, how,
			  bring_up_done) ?
		       "out of memory" :
		       NULL;
}

const char *pair_cancel(struct daemon *d)
{
	struct task *task = task_find(&d->tasks, "start");

	task = task ? task : task_find(&d->tasks, "resync");
	if (!task)
		return "nothing is under way";
	task_cancel(task, "cancelled by the operator");
	return NULL;
}

/* ---- COLO begins ------------------------------------------------------------------- */

/* The guest stands still: no translation comes or goes meanwhile. */
static int start_stage_main(struct task *task, struct daemon *d, void *context)
{
	const struct stage *stage = context;
	json_t *flows = translations_export(&d->dp), *value = NULL;
	int err;

	if (!flows)
		task_fail(task, "the translations cannot be read");
	else
		value = task_call(task, "translations", json_pack("{s:o}", "flows", flows),
				  d->config->ack_timeout_ms / 2);
	if (!value) {
		log_error("primary-start: %s: QEMU is told to leave COLO", task_error(task));
		hooks_ack_stage(d, stage, task_error(task));
		return -EIO;
	}
	json_decref(value);
	err = release_start(&d->dp, stage->epoch);
	if (err)
		log_error("primary-start: %s: QEMU is told to leave COLO", strerror(-err));
	hooks_ack_stage(d, stage, err ? strerror(-err) : NULL);
	return err;
}

int pair_start_stage(struct daemon *d)
{
	struct stage *stage = malloc(sizeof(*stage));

	if (!stage)
		return -ENOMEM;
	*stage = d->stage;
	return task_start(&d->tasks, d, "primary-start", start_stage_main, stage, NULL);
}

/* ---- one goes on alone -------------------------------------------------------------- */

/*
 * First COLO's channel is torn, and a primary's connections to the replica:
 * QEMU's main loop may wait on a peer that fell silent in the middle of a
 * checkpoint, and every command that is not out of band waits for the main
 * loop. An instance that is not there any more is no error.
 */
static void yank_all(struct task *task, struct daemon *d)
{
	json_t *instances = disks_yank(d, d->session.role == COLO_ROLE_PRIMARY), *instance;
	size_t i;

	json_array_foreach(instances, i, instance)
		json_decref(task_try_oob(task, "yank",
					 json_pack("{s:[O]}", "instances", instance)));
	json_decref(instances);
}

static bool left_colo(struct daemon *d)
{
	return d->session.state == SESSION_ALONE || d->session.state == SESSION_LOST;
}

/* The survivor goes on, but with a part of the replica in its disks. */
static void forget_error(struct task *task, struct daemon *d)
{
	log_warning("%s: the replica was not taken from the disks: %s", d->options.name,
		    task_error(task));
	task_error_clear(task);
}

/*
 * Then the disk: the secondary's NBD server ends, so that a primary that still
 * lives cannot write to the new disk; a primary's quorum loses the replica.
 */
static int fail_over_main(struct task *task, struct daemon *d, void *context)
{
	bool primary = d->session.role == COLO_ROLE_PRIMARY;

	(void)context;
	yank_all(task, d);
	if (primary && !disks_part(task, d))
		forget_error(task, d);
	if (!primary)
		json_decref(task_try(task, "nbd-server-stop", NULL));
	if (!task_do(task, "x-colo-lost-heartbeat", NULL) ||
	    !task_until(task, left_colo, 60000, "QEMU's failover"))
		return -EIO;
	if (primary && !disks_remove(task, d))
		forget_error(task, d);
	return 0;
}

static void fail_over_done(struct daemon *d, const char *name, const char *error)
{
	(void)name;
	if (error)
		log_error("QEMU: %s: it does not fail over; `colo-bpf failover %s` tries again",
			  error, d->options.name);
}

int pair_fail_over(struct daemon *d)
{
	struct task *under_way = task_find(&d->tasks, "start");

	under_way = under_way ? under_way : task_find(&d->tasks, "resync");
	if (under_way)
		task_cancel(under_way, "one of the two sides was lost");
	if (task_find(&d->tasks, "failover"))
		return 0;
	return task_start(&d->tasks, d, "failover", fail_over_main, NULL, fail_over_done);
}
