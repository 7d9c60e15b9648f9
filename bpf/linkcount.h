/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The counts by which a loss on the link is found.
 */
#ifndef COLO_BPF_LINKCOUNT_H
#define COLO_BPF_LINKCOUNT_H

#include "event.h"
#include "parse.h"

/* A frame has gone or come over the link; tcp_bytes 0: it counts as a frame. */
static __always_inline void link_count(void *map, __u64 epoch, __u32 tcp_bytes)
{
	__u32 slot = epoch & 1;
	struct colo_link_count *c = bpf_map_lookup_elem(map, &slot);

	if (!c || c->epoch > epoch)
		return;
	if (c->epoch < epoch) {
		c->epoch = epoch;
		c->tcp_bytes = 0;
		c->frames = 0;
	}
	if (tcp_bytes)
		c->tcp_bytes += tcp_bytes;
	else
		c->frames++;
}

/* The payload that scratch.pkt counts with, 0: it is a frame. */
static __always_inline __u32 link_tcp_bytes(const struct packet *p, int parsed)
{
	return parsed == PARSE_OK && p->flags & COLO_FR_TCP ? p->data_len : 0;
}

#endif
