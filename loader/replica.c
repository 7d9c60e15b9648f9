// SPDX-License-Identifier: GPL-2.0-only
/*
 * The primary's guest is not told when a write to its replica fails: its own
 * disk has the data. QEMU makes no further checkpoint then (qemu-glue/patches),
 * but says nothing until the next one is due. So it is asked each second and
 * after each checkpoint, and at once when the block layer reports an error.
 */
#include <stdio.h>
#include <string.h>

#include "daemon.h"
#include "disks.h"
#include "log.h"

#define ASK_EACH_NS (1000 * MS_NS)

static bool is_watched(const struct daemon *d)
{
	return d->session.role == COLO_ROLE_PRIMARY && d->session.state == SESSION_COLO &&
	       !plain_has_not_begun(d);
}

/* QEMU's answer counts until it has failed over. */
static bool is_open(const struct daemon *d)
{
	return is_watched(d) || d->session.state == SESSION_EXITED ||
	       d->session.state == SESSION_TAKING || d->session.state == SESSION_CLAIMING ||
	       d->session.state == SESSION_FORCING;
}

/*
 * A peer that lives is asked to yield. Without one, COLO's own channel brings
 * the end to the other QEMU: the checkpoint that is asked for fails.
 */
static void failed(struct daemon *d, const char *what)
{
	if (!d->replica.failed) {
		log_error(
			"%s: %s: the other host has no copy of the disk any more, this one goes on alone; see to the disk there, then `colo-bpf resync %s`",
			d->options.name, what, d->options.name);
		server_publish(d, json_pack("{s:s, s:s}", "event", "replica", "error", what));
	}
	d->replica.failed = true;
	if (!is_watched(d))
		return;
	if (d->peer.health == PEER_ALIVE || d->peer.health == PEER_LINK_DOWN)
		daemon_event(d, EVENT_REPLICA_FAILED);
	else
		hooks_ask(d, d->dp.session->epoch, "replica");
}

static void answer_status(void *context, json_t *value, const char *error)
{
	struct daemon *d = context;
	const char *what;

	d->replica.asked = false;
	if (error) {
		log_warning("QEMU: query-xen-replication-status: %s", error);
		return;
	}
	if (!is_open(d) || !json_is_true(json_object_get(value, "error")))
		return;
	what = json_string_value(json_object_get(value, "desc"));
	failed(d, what ? what : "a replica has failed");
}

void replica_ask(struct daemon *d)
{
	bool open = d->qmp && qmp_is_open(d->qmp);

	/* What a connection that is closed was asked, it does not answer. */
	d->replica.asked = d->replica.asked && open;
	if (!is_watched(d) || d->replica.asked || !open)
		return;
	/* The answer may come before qmp_execute() returns. */
	d->replica.asked = true;
	if (qmp_execute(d->qmp, false, "query-xen-replication-status", NULL, answer_status, d))
		d->replica.asked = false;
}

void replica_watch(struct daemon *d, __u64 now)
{
	if (!is_watched(d)) {
		d->replica.ask_ns = NO_TIMER;
		d->replica.failed = d->replica.failed && is_open(d);
		return;
	}
	if (d->replica.ask_ns != NO_TIMER && now < d->replica.ask_ns)
		return;
	d->replica.ask_ns = now + ASK_EACH_NS;
	replica_ask(d);
}

void replica_event(struct daemon *d, const char *name, json_t *data)
{
	const char *node = NULL, *what = NULL, *why = NULL;
	char text[256];

	if (!is_watched(d))
		return;
	if (!strcmp(name, "QUORUM_REPORT_BAD"))
		json_unpack(data, "{s:s, s?s, s?s}", "node-name", &node, "type", &what, "error",
			    &why);
	else if (!strcmp(name, "BLOCK_IO_ERROR"))
		json_unpack(data, "{s?s, s?s, s?s}", "node-name", &node, "operation", &what,
			    "reason", &why);
	if (!node)
		return;
	snprintf(text, sizeof(text), "QEMU: node %s: %s: %s", node, what ? what : "error",
		 why ? why : "failed");
	if (disks_is_replica(d, node)) {
		failed(d, text);
	} else {
		log_error("%s", text);
		replica_ask(d);
	}
}
