/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A witness's memory: for each session of a pair that has ended, which of its
 * two hosts was the one to go on. One file a session in a directory, named by
 * its 32 hex digits, with the host's name and a newline in it. It is put there
 * by link(2), which only one can do, also on a file system that several hosts
 * share, and is on the disk before the answer is given.
 */
#ifndef COLO_GRANT_H
#define COLO_GRANT_H

#include <stdbool.h>
#include <stddef.h>

#define GRANT_SESSION 32 /* hex digits */
#define GRANT_HOST    16 /* characters of a host's name, at most */

bool grant_session_valid(const char *session);
bool grant_host_valid(const char *host);

/*
 * 0: `host` has it, now or since earlier; 1: another has, it is in `holder`;
 * -errno: it could not be found out.
 */
int grant_claim(const char *directory, const char *session, const char *host,
		char holder[GRANT_HOST + 1]);

/* Give it back. 0: `host` has it not, or not any more; as above. */
int grant_release(const char *directory, const char *session, const char *host,
		  char holder[GRANT_HOST + 1]);

/* 0: who has it, "" if nobody has; -errno. */
int grant_holder(const char *directory, const char *session, char holder[GRANT_HOST + 1]);

#endif
