// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "heartbeat.h"

/* The offset of each field. */
enum {
	AT_MAGIC = 0,
	AT_VERSION = 4,
	AT_ROLE = 6,
	AT_STATE = 7,
	AT_FLAGS = 8, /* 4 bytes behind it are 0 */
	AT_EPOCH = 16,
	AT_SESSION = 24,
	AT_NONCE = 40,
	AT_SENT = 48,
	AT_ECHO_NONCE = 56,
	AT_ECHO = 64,
	AT_NAME = 72,
	AT_MAC = 104,
};

_Static_assert(AT_MAC + SECRET_MAC_BYTES == HEARTBEAT_BYTES, "the code is last");

static void put(unsigned char *to, __u64 value, int bytes)
{
	while (bytes--) {
		to[bytes] = value;
		value >>= 8;
	}
}

static __u64 get(const unsigned char *from, int bytes)
{
	__u64 value = 0;

	while (bytes--)
		value = value << 8 | *from++;
	return value;
}

void heartbeat_key(struct secret *key, const struct secret *secret, const char *sender)
{
	char label[64] = {};

	snprintf(label, sizeof(label), "colo-bpf heartbeat %d %s", HEARTBEAT_VERSION, sender);
	secret_derive(key, secret, label, sizeof(label));
}

void heartbeat_encode(const struct heartbeat *beat, const struct secret *key,
		      unsigned char bytes[HEARTBEAT_BYTES])
{
	memset(bytes, 0, HEARTBEAT_BYTES);
	put(bytes + AT_MAGIC, HEARTBEAT_MAGIC, 4);
	put(bytes + AT_VERSION, HEARTBEAT_VERSION, 2);
	put(bytes + AT_ROLE, beat->role, 1);
	put(bytes + AT_STATE, beat->state, 1);
	put(bytes + AT_FLAGS, beat->flags, 4);
	put(bytes + AT_EPOCH, beat->epoch, 8);
	memcpy(bytes + AT_SESSION, beat->session, SESSION_ID_BYTES);
	put(bytes + AT_NONCE, beat->nonce, 8);
	put(bytes + AT_SENT, beat->sent_ns, 8);
	put(bytes + AT_ECHO_NONCE, beat->echo_nonce, 8);
	put(bytes + AT_ECHO, beat->echo_ns, 8);
	memcpy(bytes + AT_NAME, beat->name, strnlen(beat->name, sizeof(beat->name) - 1));
	secret_mac(bytes + AT_MAC, key, bytes, AT_MAC);
}

int heartbeat_decode(struct heartbeat *beat, const struct secret *key,
		     const unsigned char *bytes, size_t length)
{
	memset(beat, 0, sizeof(*beat));
	if (length < AT_ROLE)
		return -EMSGSIZE;
	if (get(bytes + AT_MAGIC, 4) != HEARTBEAT_MAGIC)
		return -EBADMSG;
	if (get(bytes + AT_VERSION, 2) != HEARTBEAT_VERSION)
		return -EPROTO;
	if (length < HEARTBEAT_BYTES)
		return -EMSGSIZE;
	if (!secret_verify(bytes + AT_MAC, key, bytes, AT_MAC))
		return -EACCES;
	beat->role = get(bytes + AT_ROLE, 1);
	beat->state = get(bytes + AT_STATE, 1);
	beat->flags = get(bytes + AT_FLAGS, 4);
	beat->epoch = get(bytes + AT_EPOCH, 8);
	memcpy(beat->session, bytes + AT_SESSION, SESSION_ID_BYTES);
	beat->nonce = get(bytes + AT_NONCE, 8);
	beat->sent_ns = get(bytes + AT_SENT, 8);
	beat->echo_nonce = get(bytes + AT_ECHO_NONCE, 8);
	beat->echo_ns = get(bytes + AT_ECHO, 8);
	memcpy(beat->name, bytes + AT_NAME, sizeof(beat->name) - 1);
	if ((beat->role != COLO_ROLE_PRIMARY && beat->role != COLO_ROLE_SECONDARY) ||
	    beat->state >= SESSION_STATES)
		return -EBADMSG;
	return 0;
}
