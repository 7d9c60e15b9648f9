/* SPDX-License-Identifier: GPL-2.0-only */
/* The command line's part of a procedure that a daemon runs: ask, follow, say how it ended. */
#ifndef COLO_FOLLOW_H
#define COLO_FOLLOW_H

#include <jansson.h>

/*
 * Ask the daemon of NAME for `request` (taken over), print the progress of
 * `procedure` until it has ended. SIGINT cancels it. The exit status.
 */
int follow_procedure(const char *name, const char *procedure, json_t *request);

#endif
