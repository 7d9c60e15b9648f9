// SPDX-License-Identifier: GPL-2.0-only
#include <string.h>

#include "clock.h"
#include "daemon.h"
#include "log.h"
#include "watchdog.h"

#define ASK_NS (1000 * MS_NS) /* how often, at most */

static void say(struct daemon *d, const char *what)
{
	server_publish(d, json_pack("{s:s, s:s}", "event", "qemu", "state", what));
}

/* An answer, also an error, is a sign of life; one of a connection that ended is not. */
static void answer_plain(void *context, json_t *value, const char *error)
{
	struct daemon *d = context;

	(void)value;
	(void)error;
	if (!d->qmp || !qmp_is_open(d->qmp))
		return;
	if (d->watchdog.late) {
		log_info("QEMU: its main loop answers again");
		say(d, "answers");
	}
	d->watchdog.plain_ns = 0;
	d->watchdog.late = false;
	d->watchdog.yanked = false;
}

static void answer_oob(void *context, json_t *value, const char *error)
{
	struct daemon *d = context;

	(void)error;
	if (!d->qmp || !qmp_is_open(d->qmp))
		return;
	d->watchdog.oob_ns = 0;
	if (!json_is_array(value))
		return;
	json_decref(d->watchdog.instances);
	d->watchdog.instances = json_incref(value);
}

static void answer_yank(void *context, json_t *value, const char *error)
{
	(void)context;
	(void)value;
	if (error)
		log_info("QEMU: yank: %s", error);
}

static bool is_to_peer(const json_t *instance)
{
	const char *type = json_string_value(json_object_get(instance, "type"));

	return type && (!strcmp(type, "migration") || !strcmp(type, "block-node"));
}

/* One by one: an instance that is gone makes the whole command fail. */
static void yank(struct daemon *d)
{
	json_t *instance;
	size_t i;

	json_array_foreach(d->watchdog.instances, i, instance)
		if (is_to_peer(instance))
			qmp_execute(d->qmp, true, "yank",
				    json_pack("{s:[O]}", "instances", instance), answer_yank,
				    d);
}

/*
 * Where the peer could go on instead. Elsewhere nobody would be served by a shut
 * port; and a migration may be a start or a resync.
 */
static bool has_peer(const struct daemon *d)
{
	return d->session.state == SESSION_COLO || d->session.state == SESSION_EXITED ||
	       d->session.state == SESSION_TAKING;
}

static void gone(struct daemon *d)
{
	log_error("QEMU: counts as gone");
	say(d, "gone");
	d->qemu_gone = true;
	daemon_event(d, EVENT_QEMU_GONE);
}

static void late(struct daemon *d, const char *what, const char *state)
{
	if (!d->watchdog.late) {
		log_error("QEMU: its %s has not answered for %u ms", what,
			  d->config->qemu_timeout_ms);
		say(d, state);
	}
	d->watchdog.late = true;
}

static void look(struct daemon *d, __u64 now)
{
	__u64 patience = d->config->qemu_timeout_ms * MS_NS;
	struct watchdog *watchdog = &d->watchdog;

	if (watchdog->oob_ns && now >= watchdog->oob_ns + patience) {
		late(d, "monitor", "monitor-late");
		if (has_peer(d) && !d->qemu_gone)
			gone(d);
	} else if (watchdog->plain_ns && now >= watchdog->plain_ns + patience) {
		late(d, "main loop", "main-loop-late");
		if (!has_peer(d))
			return;
		if (watchdog->yanked && !d->qemu_gone) {
			gone(d);
		} else if (!watchdog->yanked) {
			watchdog->yanked = true;
			watchdog->plain_ns = now;
			yank(d);
		}
	}
}

static void ask(struct daemon *d, __u64 now)
{
	struct watchdog *watchdog = &d->watchdog;

	if (!watchdog->oob_ns && !qmp_execute(d->qmp, true, "query-yank", NULL, answer_oob, d))
		watchdog->oob_ns = now;
	if (!watchdog->plain_ns &&
	    !qmp_execute(d->qmp, false, "query-status", NULL, answer_plain, d))
		watchdog->plain_ns = now;
}

static void on_timer(void *context)
{
	struct daemon *d = context;
	__u64 now = clock_now(), period = d->config->qemu_timeout_ms * MS_NS / 4;

	if (!d->qmp || !qmp_is_open(d->qmp))
		return;
	look(d, now);
	if (qmp_is_open(d->qmp))
		ask(d, now);
	if (!qmp_is_open(d->qmp))
		return;
	loop_timer_set(d->loop, &d->watchdog.timer, now + (period < ASK_NS ? period : ASK_NS));
}

void watchdog_start(struct daemon *d)
{
	watchdog_stop(d);
	d->watchdog.timer.fire = on_timer;
	d->watchdog.timer.context = d;
	loop_timer_set(d->loop, &d->watchdog.timer, 0);
}

void watchdog_stop(struct daemon *d)
{
	loop_timer_stop(d->loop, &d->watchdog.timer);
	json_decref(d->watchdog.instances);
	memset(&d->watchdog, 0, sizeof(d->watchdog));
}
