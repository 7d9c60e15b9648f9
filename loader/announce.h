/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guest goes on here: gratuitous ARP and unsolicited neighbour
 * advertisements on the port, in its name.
 */
#ifndef COLO_ANNOUNCE_H
#define COLO_ANNOUNCE_H

#include "addresses.h"
#include "datapath.h"

/*
 * A frame for each of the addresses from number `from` on; without a MAC that
 * is not 0 none. 0 or -errno.
 */
int announce(const struct datapath *dp, const __u8 mac[6], const struct addresses *addresses,
	     int from);

#endif
