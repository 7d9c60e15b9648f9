/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What must not wait behind the bulk that goes over the same link: RAM, disks,
 * the clients' frames.
 */
#ifndef COLO_URGENT_H
#define COLO_URGENT_H

/* What the socket sends is first in this host's queue, and says so to switches. */
void urgent(int fd, int family);

#endif
