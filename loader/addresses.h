/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guest's addresses, as its flows have them: what is to be announced when
 * it goes on at another port.
 */
#ifndef COLO_ADDRESSES_H
#define COLO_ADDRESSES_H

#include <linux/types.h>

struct colo_flow_key;
struct datapath;

#define ADDRESSES_MAX 64

struct guest_address {
	__u8 bytes[16]; /* IPv4: the first 4 */
	__be16 vlan[2]; /* tags, outermost first, 0: none */
	__be16 ethertype;
};

struct addresses {
	struct guest_address list[ADDRESSES_MAX];
	int count;
};

/* That of a flow, if it is one that a guest can have, and new. */
void addresses_note(struct addresses *addresses, const struct colo_flow_key *key);

/* All that the flow table has: it takes as long as the table is large. */
void addresses_scan(struct addresses *addresses, const struct datapath *dp);

#endif
