// SPDX-License-Identifier: GPL-2.0-only
/*
 * QEMU's side of the daemon: the hooks of qemu-glue/patches, over QMP.
 *
 * Stages are answered out of band, for QEMU's main loop may be blocked in a
 * join while a stage is waited for.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "daemon.h"
#include "log.h"
#include "names.h"
#include "pair.h"

#define CONNECT_NS       (100 * MS_NS)
#define CONNECT_AGAIN_NS (1000 * MS_NS) /* after QMP itself has failed */

static const struct {
	const char *name;
	enum session_event event;
} stages[] = {
	{"primary-start", EVENT_START},   {"secondary-start", EVENT_START},
	{"primary-stop", EVENT_STOP},     {"primary-commit", EVENT_COMMIT},
	{"secondary-reset", EVENT_RESET}, {"failover", EVENT_FAILOVER},
};

/* It is over, and the session does not depend on it. */
#define STAGE_RESUME "primary-resume"

static void publish_stage(struct daemon *d)
{
	server_publish(d, json_pack("{s:s, s:s, s:I}", "event", "stage", "stage", d->stage.name,
				    "epoch", (json_int_t)d->stage.epoch));
}

/* figures: of the checkpoint, as history_stage() takes them. */
static void handle_stage(struct daemon *d, const char *name, __u64 epoch, bool ack, bool marks,
			 const json_t *figures)
{
	snprintf(d->stage.name, sizeof(d->stage.name), "%s", name);
	d->stage.epoch = epoch;
	d->stage.ack = ack;
	d->stage.marks = marks;
	d->stage.marked = 0;
	record_stage(d, figures);
	for (size_t i = 0; i < sizeof(stages) / sizeof(*stages); i++) {
		if (strcmp(stages[i].name, name))
			continue;
		log_debug("QEMU: stage %s, epoch %llu", name, epoch);
		daemon_event(d, stages[i].event);
		record_stage_end(d, figures);
		publish_stage(d);
		return;
	}
	if (!strcmp(name, STAGE_RESUME)) {
		record_resume(d);
		return;
	}
	log_error("QEMU: stage \"%s\" is unknown here: its hooks are newer than this colo-bpf",
		  name);
}

void hooks_stage(struct daemon *d, const char *name, __u64 epoch)
{
	handle_stage(d, name, epoch, false, false, NULL);
}

static void on_event(void *context, const char *name, json_t *data)
{
	struct daemon *d = context;
	const char *text = NULL;
	json_int_t epoch = 0;
	int ack = 1, marks = 0;

	tasks_news(&d->tasks);
	if (!strcmp(name, "COLO_PROXY_STAGE")) {
		if (json_unpack(data, "{s:s, s:I, s?b, s?b}", "stage", &text, "epoch", &epoch,
				"ack", &ack, "mark", &marks))
			log_error("QEMU: event %s without stage or epoch", name);
		else
			handle_stage(d, text, epoch, ack, marks, data);
	} else if (!strcmp(name, "COLO_EXIT")) {
		json_unpack(data, "{s?s}", "reason", &text);
		log_info("QEMU: COLO_EXIT, reason %s", text ? text : "none");
		replica_ask(d);
		daemon_event(d, EVENT_COLO_EXIT);
	} else if (!strcmp(name, "RESUME")) {
		history_running(&d->history, clock_now());
	} else {
		replica_event(d, name, data);
	}
	if (d->plain.on)
		plain_event(d, name, data, qmp_event_ns(d->qmp));
}

static void answer_logged(void *context, json_t *value, const char *error)
{
	char *command = context;

	(void)value;
	if (error)
		log_info("QEMU: %s: %s", command, error);
	free(command);
}

/* The answer is only logged. */
static int run_command(struct daemon *d, bool oob, const char *command, json_t *arguments)
{
	char *name = strdup(command);
	int err = -ENOMEM;

	if (name)
		err = qmp_execute(d->qmp, oob, command, arguments, answer_logged, name);
	else
		json_decref(arguments);
	if (err)
		free(name);
	return err;
}

static void answer_ack(void *context, json_t *value, const char *error)
{
	(void)context;
	(void)value;
	if (error)
		log_error("QEMU: x-colo-proxy-ack: %s (the answer came too late?)", error);
}

void hooks_ack_stage(struct daemon *d, const struct stage *stage, const char *error)
{
	json_t *arguments;

	if (!stage->ack || !d->qmp)
		return;
	arguments = json_pack("{s:s, s:I, s:s*}", "stage", stage->name, "epoch",
			      (json_int_t)stage->epoch, "error", error);
	if (stage->marked)
		json_object_set_new(arguments, "mark", json_integer(stage->marked));
	qmp_execute(d->qmp, true, "x-colo-proxy-ack", arguments, answer_ack, d);
}

void hooks_ack(struct daemon *d, const char *error)
{
	hooks_ack_stage(d, &d->stage, error);
	d->stage.ack = false;
}

static void answer_ask(void *context, json_t *value, const char *error)
{
	struct daemon *d = context;

	if (error) {
		/* It was missed that COLO ended: this daemon is younger. */
		log_error("QEMU: x-colo-proxy-checkpoint: %s", error);
		if (!d->ending && qmp_is_open(d->qmp))
			daemon_event(d, EVENT_COLO_EXIT);
	} else if (!json_is_true(json_object_get(value, "accepted"))) {
		log_debug("QEMU: the epoch was closed already");
	}
}

void hooks_ask(struct daemon *d, __u64 epoch, const char *reason)
{
	if (!d->qmp || !d->hooks)
		return;
	if (d->plain.on) {
		plain_ask(d);
		return;
	}
	qmp_execute(d->qmp, true, "x-colo-proxy-checkpoint",
		    json_pack("{s:I, s:s}", "epoch", (json_int_t)epoch, "reason", reason),
		    answer_ask, d);
}

/* ------------------------------------------------------------- failover --- */

/* One command a line: 0, or -1 after a message. */
static int each_line(const char *path, struct daemon *d)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;
	int number = 0, err = 0;

	if (!file) {
		log_error("--on-failover-qmp %s: %s", path, strerror(errno));
		return -1;
	}
	while (!err && getline(&line, &size, file) >= 0) {
		const char *command = NULL, *oob = NULL;
		json_t *arguments = NULL, *object;
		json_error_t why;

		number++;
		if (line[strspn(line, " \t\r\n")] == 0 || *line == '#')
			continue;
		object = json_loads(line, 0, &why);
		if (!object ||
		    json_unpack(object, "{s?s, s?s, s?o}", "execute", &command, "exec-oob",
				&oob, "arguments", &arguments) ||
		    !command == !oob) {
			log_error(
				"--on-failover-qmp %s:%d: is no {\"execute\" or \"exec-oob\": COMMAND, \"arguments\": {...}}",
				path, number);
			err = -1;
		} else if (d) {
			/* Yank is for a main loop that is stuck. */
			run_command(d, oob || !strcmp(command, "yank"), oob ? oob : command,
				    json_incref(arguments));
		}
		json_decref(object);
	}
	free(line);
	fclose(file);
	return err;
}

bool hooks_check_file(const char *path)
{
	return !each_line(path, NULL);
}

static void answer_lost(void *context, json_t *value, const char *error)
{
	struct daemon *d = context;

	(void)value;
	if (error && d->session.state == SESSION_FAILING)
		log_error(
			"QEMU: x-colo-lost-heartbeat: %s: it does not fail over; `colo-bpf failover %s` tries again",
			error, d->options.name);
}

/*
 * First COLO's channel is torn: QEMU's main loop may wait on a peer that fell
 * silent in the middle of a checkpoint, and every command that is not out of
 * band waits for the main loop.
 *
 * Then the disk, as COLO's documentation has it: the secondary's NBD server
 * ends, so that a primary that still lives cannot write to the new disk. What
 * a primary needs depends on its block graph: --on-failover-qmp.
 */
void hooks_fail_over(struct daemon *d)
{
	if (!d->options.on_failover) {
		pair_fail_over(d);
		return;
	}
	run_command(d, true, "yank",
		    json_pack("{s:[{s:s}]}", "instances", "type", "migration"));
	if (d->options.on_failover)
		each_line(d->options.on_failover, d);
	else if (d->session.role == COLO_ROLE_SECONDARY)
		run_command(d, false, "nbd-server-stop", NULL);
	qmp_execute(d->qmp, false, "x-colo-lost-heartbeat", NULL, answer_lost, d);
}

/* -------------------------------------------------------------- connect --- */

static void connect_later(struct daemon *d, __u64 after_ns);

/* Another QEMU may come: what is wrong is said once, and tried on. */
static void give_up(struct daemon *d, const char *what, const char *why)
{
	char text[256];

	snprintf(text, sizeof(text), "%s: %s", what, why);
	if (strcmp(text, d->connect_problem))
		log_error("%s: %s", config_self(d->config)->qmp, text);
	snprintf(d->connect_problem, sizeof(d->connect_problem), "%s", text);
	connect_later(d, CONNECT_AGAIN_NS);
}

/*
 * A restarted daemon goes on where the one before it was. QEMU keeps its mode
 * until it has failed over, and its epoch after that: no mode and an epoch is
 * a failover that went on without a daemon, no epoch another QEMU.
 */
static void adopt_qemu(struct daemon *d, const char *mode, __u64 epoch)
{
	bool failing = d->session.state == SESSION_FAILING;

	if (failing && strcmp(mode, "none")) {
		/* told while it was not connected */
		hooks_fail_over(d);
		return;
	}
	if ((d->session.state != SESSION_COLO && !failing) || strcmp(mode, "none"))
		return;
	log_warning("%s: QEMU is not in COLO any more", d->options.name);
	snprintf(d->stage.name, sizeof(d->stage.name), "%s", epoch ? "failover" : "none");
	d->stage.ack = false;
	daemon_event(d, epoch ? EVENT_FAILOVER : EVENT_QEMU_GONE);
}

static void answer_query(void *context, json_t *value, const char *error)
{
	struct daemon *d = context;
	const char *stage = NULL, *mode = "none";
	json_int_t epoch = 0, stage_epoch = 0;
	int marks = 0;

	if (error) {
		give_up(d, "x-query-colo-proxy", error);
		return;
	}
	json_unpack(value, "{s?s, s?I, s?{s:s, s:I, s?b}}", "mode", &mode, "epoch", &epoch,
		    "pending", "stage", &stage, "epoch", &stage_epoch, "mark", &marks);
	d->hooks = true;
	d->qemu_gone = false;
	d->connect_problem[0] = 0;
	log_info("%s: %s, mode %s, epoch %llu; QEMU: mode %s%s%s", d->options.name,
		 session_state_names[d->session.state], name_mode(d->dp.session->mode),
		 d->dp.session->epoch, mode, stage ? ", waits at " : "", stage ? stage : "");
	history_adopt(&d->history, value, clock_now());
	if (stage)
		handle_stage(d, stage, stage_epoch, true, marks, value);
	else
		adopt_qemu(d, mode, epoch);
	if (!stage && !strcmp(mode, "none"))
		pair_clear(d);
}

/* The NIC of that name, or the only one. */
static json_t *find_nic(json_t *nics, const char *name)
{
	json_t *nic;
	size_t i;

	if (!name)
		return json_array_size(nics) == 1 ? json_array_get(nics, 0) : NULL;
	json_array_foreach(nics, i, nic)
		if (qmp_text_is(json_object_get(nic, "name"), name))
			return nic;
	return NULL;
}

/* The guest's MAC, to announce it. */
static void answer_nics(void *context, json_t *value, const char *error)
{
	struct daemon *d = context;
	const char *text;
	__u8 mac[6];

	text = json_string_value(
		json_object_get(find_nic(value, d->config->netdev), "main-mac"));
	if (error || !text ||
	    sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3],
		   &mac[4], &mac[5]) != 6)
		return;
	memcpy(d->guest_mac, mac, sizeof(mac));
}

static void answer_set(void *context, json_t *value, const char *error)
{
	struct daemon *d = context;

	(void)value;
	if (error)
		give_up(d, "x-colo-proxy-set", error);
}

static void configure(struct daemon *d)
{
	qmp_execute(d->qmp, false, "x-colo-proxy-set",
		    json_pack("{s:b, s:I}", "enable", 1, "ack-timeout",
			      (json_int_t)d->config->ack_timeout_ms),
		    answer_set, d);
}

void hooks_configure(struct daemon *d)
{
	if (!d->qmp || !d->hooks || !qmp_is_open(d->qmp))
		return;
	if (!d->plain.on)
		configure(d);
	if (d->dp.session->mode == COLO_MODE_PRIMARY)
		run_command(d, false, "migrate-set-parameters",
			    json_pack("{s:I}", "x-checkpoint-delay",
				      (json_int_t)d->config->checkpoint.period_ms));
}

const char *const hooks_commands[HOOKS_COMMANDS] = {
	"x-colo-proxy-set",
	"x-colo-proxy-checkpoint",
	"x-colo-proxy-ack",
	"x-query-colo-proxy",
};

json_t *hooks_missing(json_t *commands)
{
	json_t *missing = json_array(), *entry;
	bool found[HOOKS_COMMANDS] = {};
	size_t i;

	json_array_foreach(commands, i, entry) {
		const char *name = json_string_value(json_object_get(entry, "name"));

		for (size_t j = 0; name && j < HOOKS_COMMANDS; j++)
			found[j] = found[j] || !strcmp(name, hooks_commands[j]);
	}
	for (size_t j = 0; j < HOOKS_COMMANDS; j++)
		if (!found[j])
			json_array_append_new(missing, json_string(hooks_commands[j]));
	return missing;
}

/* A guest that runs, and COLO does not: it was failed over without a daemon. */
static void answer_running(void *context, json_t *value, const char *error)
{
	struct daemon *d = context;

	if (!error)
		adopt_qemu(d, "none",
			   json_is_true(json_object_get(value, "running")) ?
				   d->dp.session->epoch :
				   0);
}

static void answer_colo_status(void *context, json_t *value, const char *error)
{
	const char *mode = json_string_value(json_object_get(value, "mode"));
	struct daemon *d = context;

	if (error || !mode) {
		give_up(d, "query-colo-status", error ? error : "no mode");
		return;
	}
	d->hooks = true;
	d->qemu_gone = false;
	d->connect_problem[0] = 0;
	log_info("%s: %s, mode %s, epoch %llu; QEMU: mode %s", d->options.name,
		 session_state_names[d->session.state], name_mode(d->dp.session->mode),
		 d->dp.session->epoch, mode);
	plain_begin(d);
	if (d->session.state == SESSION_COLO && !strcmp(mode, "none"))
		qmp_execute(d->qmp, false, "query-status", NULL, answer_running, d);
}

static void answer_commands(void *context, json_t *value, const char *error)
{
	struct daemon *d = context;
	json_t *missing;

	if (error) {
		give_up(d, "query-commands", error);
		return;
	}
	missing = hooks_missing(value);
	d->plain.on = json_array_size(missing) || d->config->hooks == HOOKS_NEVER;
	if (json_array_size(missing))
		log_warning(
			"%s: this QEMU has no hooks for a proxy outside of it: `colo-bpf probe --qmp SOCKET` says what is weaker",
			d->options.name);
	json_decref(missing);
	if (d->plain.on) {
		qmp_execute(d->qmp, false, "query-colo-status", NULL, answer_colo_status, d);
	} else {
		configure(d);
		qmp_execute(d->qmp, true, "x-query-colo-proxy", NULL, answer_query, d);
	}
	qmp_execute(d->qmp, false, "query-rx-filter", NULL, answer_nics, d);
}

static void on_ready(void *context, bool oob)
{
	struct daemon *d = context;

	if (!oob) {
		give_up(d, "no out-of-band execution",
			"give the daemon a QMP socket of its own");
		return;
	}
	qmp_execute(d->qmp, false, "query-commands", NULL, answer_commands, d);
	watchdog_start(d);
}

static void on_closed(void *context, int error, const char *text)
{
	struct daemon *d = context;

	if (d->ending)
		return;
	if (error) {
		/* QEMU may go on: a new daemon can adopt what is there. */
		give_up(d, "QMP failed", text);
		return;
	}
	watchdog_stop(d);
	d->qemu_gone = true;
	log_error("%s: %s", config_self(d->config)->qmp, text);
	daemon_event(d, EVENT_QEMU_GONE);
	connect_later(d, CONNECT_NS);
}

static const struct qmp_handler handler = {
	.ready = on_ready,
	.event = on_event,
	.closed = on_closed,
};

/* QEMU may come and go: whenever its socket is there, it is taken. */
static void on_connect_timer(void *context)
{
	struct daemon *d = context;
	const char *path = config_self(d->config)->qmp;
	int fd;

	watchdog_stop(d);
	qmp_free(d->qmp);
	d->qmp = NULL;
	d->hooks = false;
	fd = qmp_connect(path);
	if (fd >= 0)
		d->qmp = qmp_new(fd, &handler, d);
	if (!d->qmp || qmp_watch(d->qmp, d->loop)) {
		if (fd < 0 && fd != d->connect_error)
			log_info(
				"%s: %s: waiting for QEMU, with `-qmp unix:%s,server=on,wait=off`",
				path, strerror(-fd), path);
		d->connect_error = fd;
		connect_later(d, CONNECT_NS);
		return;
	}
	d->connect_error = 0;
}

static void connect_later(struct daemon *d, __u64 after_ns)
{
	d->connect.fire = on_connect_timer;
	d->connect.context = d;
	loop_timer_set(d->loop, &d->connect, clock_now() + after_ns);
}

void hooks_connect(struct daemon *d)
{
	on_connect_timer(d);
}

void hooks_close(struct daemon *d)
{
	loop_timer_stop(d->loop, &d->connect);
	qmp_free(d->qmp);
	d->qmp = NULL;
}
