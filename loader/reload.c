// SPDX-License-Identifier: GPL-2.0-only
/*
 * What of the configuration goes into the data path, and SIGHUP: it is read
 * anew, and taken over as a whole or not at all.
 */
#include <stdio.h>

#include "clock.h"
#include "daemon.h"
#include "log.h"

/* The programs read these with each packet. */
void daemon_set_proxy(struct daemon *d)
{
	const struct colo_config *from = &d->config->proxy;
	struct colo_config *to = d->dp.config;

	to->compare_timeout_ms = from->compare_timeout_ms;
	to->reorder_ms = from->reorder_ms;
	to->reorder_window = from->reorder_window;
	to->queue_max = from->queue_max;
	to->flow_grace_ms = from->flow_grace_ms;
	to->flow_idle_ms = from->flow_idle_ms;
}

static void take(struct daemon *d, struct config *next)
{
	/* the channel, the peer and tasks that wait point into it */
	next->before = d->config;
	d->config = next;
	daemon_set_proxy(d);
	d->peer.lost_ns = next->peer_timeout_ms * MS_NS;
	d->heartbeat_ns = 0;
	hooks_configure(d);
}

static void notify_reloading(void)
{
	char text[64];

	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%llu", clock_now() / 1000);
	notify_manager(text);
}

/* What the pair has agreed on counts: it is in COLO, or comes to be. */
static bool is_agreed(const struct daemon *d)
{
	switch (d->session.state) {
	case SESSION_IDLE:
	case SESSION_ALONE:
	case SESSION_LOST:
		return task_find(&d->tasks, "start") || task_find(&d->tasks, "resync");
	default:
		return true;
	}
}

void daemon_reload(struct daemon *d)
{
	struct config *next;

	notify_reloading();
	next = config_load(d->options.config);
	if (next && config_may_replace(d->config, next, is_agreed(d))) {
		take(d, next);
		log_info("%s: taken over anew", d->options.config);
	} else {
		config_free(next);
		log_error("%s: nothing of it is taken over, all goes on as before",
			  d->options.config);
	}
	notify_manager("READY=1");
}
