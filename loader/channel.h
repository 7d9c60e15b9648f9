/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The channel between the daemons of the two hosts: one TCP connection over
 * the link, JSON a line, calls in both directions.
 *
 * The host that the configuration calls `primary` connects, the other listens,
 * whatever has become of their roles since. A connection that ends is made anew
 * by itself; what was called and not answered by then has failed.
 *
 * Both send a hello at once: {"colo-bpf-channel": VERSION, "host": "primary",
 * "nonce": 64 hex digits}. From the secret and both nonces each direction has a
 * key of its own (secret_derive), and from then on a line is
 *
 *	MAC JSON		64 hex digits, a blank, an object
 *
 * with the code of the number of the line (8 bytes, big endian, from 0) and its
 * JSON. Line 0 is {"proof": "primary"}. So who does not know the secret cannot
 * put in, repeat, leave out or change a line; anybody on the link can read it.
 *
 *	{"call": ID, "method": NAME, "arguments": {...}}
 *	{"answer": ID, "value": ANY} or {"answer": ID, "error": TEXT}
 */
#ifndef COLO_CHANNEL_H
#define COLO_CHANNEL_H

#include <stdbool.h>
#include <jansson.h>
#include <linux/types.h>

#include "loop.h"
#include "secret.h"

#define CHANNEL_VERSION 1
/* What an answer says when the connection ended before it came. */
#define CHANNEL_LOST "the channel to the peer was lost"

struct channel;
struct daemon;

struct channel_options {
	struct loop *loop;
	struct daemon *daemon; /* for the methods */
	struct secret secret;
	const char *self; /* the hosts' names: "primary", "secondary" */
	const char *peer;
	const char *address; /* on the link: this host's, the peer's */
	const char *peer_address;
	const char *device; /* the link, or NULL */
	__u32 port;
	bool connects;                             /* or listens */
	void (*changed)(struct daemon *, bool up); /* or NULL */
};

/* The strings are to outlive it. NULL after a message. */
struct channel *channel_open(const struct channel_options *options);
void channel_close(struct channel *channel);

/* Is the peer there, and has it shown that it knows the secret? */
bool channel_is_up(const struct channel *channel);

/* The peer is silent: what is connected to it is of no more use. */
void channel_lost(struct channel *channel);

/* Why it is not: the last complaint, "" if there was none. */
const char *channel_trouble(const struct channel *channel);

/* value: borrowed, NULL if there is an error: the peer's text, CHANNEL_LOST, or a time-out. */
typedef void channel_answer(void *context, json_t *value, const char *error);

/*
 * Call a method of the peer's. `arguments` are taken over and may be NULL. The
 * answer comes once, never from within this call. 0, or -errno: -ENOTCONN, the
 * channel is not up; then no answer comes.
 */
int channel_call(struct channel *channel, const char *method, json_t *arguments,
		 __u32 timeout_ms, channel_answer *answer, void *context);

/* A call of the peer's: to be answered once, now or later; that frees it. */
struct channel_request;

/* The value is taken over; NULL: null. */
void channel_reply(struct channel_request *request, json_t *value);
void channel_refuse(struct channel_request *request, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

struct channel_method {
	const char *name; /* NULL ends a table */
	/* arguments: borrowed, an object */
	void (*handle)(struct daemon *d, json_t *arguments, struct channel_request *request);
};

/* Tables are added, and stay. 0 or -ENOSPC. */
int channel_methods(struct channel *channel, const struct channel_method *table);

#endif
