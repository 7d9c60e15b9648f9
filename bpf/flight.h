/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Frames that XDP has released and that have not left yet. The kernel gathers
 * them and hands them to the port when a poll of the device they came by ends,
 * or 16 of them are there; tc sends at once. So that nothing overtakes them
 * (rule 3), a flow knows the number, among those of its CPU, of the last one that
 * it has released, and each CPU how many of its own have left: a program at the
 * tracepoint behind the hand-over counts those (xdp_flushed), another what the
 * kernel has refused before (xdp_refused).
 */
#ifndef COLO_BPF_FLIGHT_H
#define COLO_BPF_FLIGHT_H

#include "maps.h"

/*
 * What is lost between the program and the hand-over without being counted (there is
 * no such way, but for a guest's frame on generic XDP) is not waited for longer.
 */
#define FLIGHT_MAX_NS 20000000ULL

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct colo_xdp_cpu);
} xdp_cpus SEC(".maps");

/* Is it still on its way? */
static __always_inline int flight_is_up(const struct colo_xdp_last *last, __u64 now)
{
	__u32 cpu = last->cpu;
	struct colo_xdp_cpu *c;

	if (!last->serial)
		return 0;
	c = bpf_map_lookup_elem(&xdp_cpus, &cpu);
	return c && *(volatile __u64 *)&c->flushed < last->serial &&
	       now < last->ns + FLIGHT_MAX_NS;
}

/* Has XDP ever released something of it? */
static __always_inline int flight_has_been(const struct colo_flow *f)
{
	return f->xdp_data.serial || f->xdp_ack.serial;
}

static __always_inline int flight_of(const struct colo_flow *f, __u64 now)
{
	return flight_is_up(&f->xdp_data, now) || flight_is_up(&f->xdp_ack, now);
}

#endif
