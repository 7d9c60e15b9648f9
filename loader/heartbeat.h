/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the daemons of a pair send each other each heartbeat_ms, and at once when
 * something changed: a UDP datagram of HEARTBEAT_BYTES with a code by the secret.
 */
#ifndef COLO_HEARTBEAT_H
#define COLO_HEARTBEAT_H

#include <stddef.h>
#include <linux/types.h>

#include <colo/abi.h>

#include "secret.h"
#include "session.h"

#define HEARTBEAT_MAGIC   0x434f4c4fU /* "COLO" */
#define HEARTBEAT_VERSION 2
#define HEARTBEAT_BYTES   136
#define SESSION_ID_BYTES  COLO_SESSION_ID

enum heartbeat_flag {
	HEARTBEAT_QEMU_GONE = 1 << 0, /* my QEMU is gone, for good; my port is shut */
	HEARTBEAT_LEAVING = 1 << 1,   /* my daemon ends, all else goes on */
	HEARTBEAT_PROMISE = 1 << 2,   /* see takeover.h: no take-over within the lease */
	HEARTBEAT_SHUT = 1 << 3,      /* my guest can send nothing to the clients */
	HEARTBEAT_LINK_DOWN = 1 << 4, /* I hear you on another path only */
};

struct heartbeat {
	enum colo_role role;
	enum session_state state;
	__u32 flags; /* enum heartbeat_flag */
	__u64 epoch;
	__u8 session[SESSION_ID_BYTES]; /* all 0: none */
	__u64 nonce;      /* of the sender's daemon: another with each start of it */
	__u64 sent_ns;    /* by the sender's clock, higher each time */
	__u64 echo_nonce; /* the last one that the sender has got: its nonce and sent_ns */
	__u64 echo_ns;
	char name[32]; /* the sender's instance, for people */
};

/* The key of what the host of that name sends ("primary", "secondary"). */
void heartbeat_key(struct secret *key, const struct secret *secret, const char *sender);

/* On the wire: big endian, the code last. */
void heartbeat_encode(const struct heartbeat *beat, const struct secret *key,
		      unsigned char bytes[HEARTBEAT_BYTES]);

/*
 * 0; -EBADMSG: not one of ours; -EPROTO: of another version; -EMSGSIZE: cut off;
 * -EACCES: made with another secret, or by this host itself.
 */
int heartbeat_decode(struct heartbeat *beat, const struct secret *key,
		     const unsigned char *bytes, size_t length);

#endif
