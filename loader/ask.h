/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Asking a witness (colo-bpf witness): over TCP, or in a directory that the
 * hosts share, by a process of its own, for such a file system can hang.
 */
#ifndef COLO_ASK_H
#define COLO_ASK_H

#include "grant.h"
#include "loop.h"

/* What a witness and who asks it send first, a line each way. */
#define WITNESS_GREETING "colo-bpf witness 1"
#define WITNESS_LINE     128 /* bytes of a line, at most */

/* Exit status of `colo-bpf witness --claim` besides EXIT_OK and EXIT_FAILED. */
#define WITNESS_REFUSED 3

enum ask_what {
	ASK_CLAIM,
	ASK_RELEASE,
};

enum ask_result {
	ASK_YES,
	ASK_NO,      /* another host has it */
	ASK_NOTHING, /* the witness was not reached, or has failed */
};

struct ask;

/*
 * witness: tcp:ADDR:PORT or file:/DIRECTORY. done: once, from the loop, within
 * timeout_ms; why: with ASK_NOTHING, the reason. NULL: no memory for it.
 */
struct ask *ask_start(struct loop *loop, const char *witness, enum ask_what what,
		      const char *session, const char *host, __u32 timeout_ms,
		      void (*done)(void *context, enum ask_result result, const char *why),
		      void *context);

/* Stop waiting; what was asked may have been done. done is not called. */
void ask_cancel(struct ask *ask);

#endif
