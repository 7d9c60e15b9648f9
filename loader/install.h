/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The places at the devices where the programs of an instance are, and the
 * marks of what attach did to a device beside that: tc of Linux 6.1 has no
 * links, so they are empty directories in links/ of the pins, `clsact-IFINDEX`
 * (the qdisc was made) and `promisc-IFINDEX` (the device was not promiscuous).
 */
#ifndef COLO_INSTALL_H
#define COLO_INSTALL_H

#include "datapath.h"
#include "tc.h"

struct hook {
	const char *option; /* how the user named the device */
	const char *device;
	__u32 ifindex;
	enum tc_side side;
	enum datapath_prog prog;
};

#define HOOKS 4

/* What is attached, as it is pinned. */
void hooks_from(struct hook hook[HOOKS], const struct colo_abi *abi);

/* The id of a program, 0 if the descriptor is none. */
__u32 hook_prog_id(int fd);

#define MARKS 3
extern const char *const hook_marks[MARKS];
void hook_mark(char mark[64], const char *what, __u32 ifindex);

#endif
