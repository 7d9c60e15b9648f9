/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A QEMU that hangs. Its monitor is asked out of band, its main loop by a plain
 * command; each has qemu_timeout_ms for its answer.
 *
 * A main loop that is late may wait for a peer that fell silent: once, its
 * connections to the peer (migration, NBD) are yanked, and it has that time
 * again. A monitor that is late cannot be told anything any more. Then, in COLO,
 * that QEMU counts as gone: the port is shut, the peer is told and goes on.
 */
#ifndef COLO_WATCHDOG_H
#define COLO_WATCHDOG_H

#include <stdbool.h>
#include <jansson.h>

#include "loop.h"

struct daemon;

struct watchdog {
	struct loop_timer timer;
	__u64 oob_ns; /* when what is not yet answered was asked, 0: nothing is */
	__u64 plain_ns;
	bool yanked;       /* since the last plain answer */
	bool late;         /* was said */
	json_t *instances; /* of query-yank: what there was to yank */
};

/* QEMU's monitor is ready: from now on it is watched, until it is stopped. */
void watchdog_start(struct daemon *d);
void watchdog_stop(struct daemon *d);

#endif
