/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Flows that the operator lets leave uncompared.
 */
#ifndef COLO_BPF_PASSTHROUGH_H
#define COLO_BPF_PASSTHROUGH_H

#include "lease.h"
#include "parse.h"

struct passthrough_walk {
	const struct colo_flow_key *key;
	struct colo_passthrough *found;
};

static __always_inline __u32 address_differs(const __u8 *address, const __u32 *rule,
					     const __u32 *mask)
{
	const __u32 *a = (const __u32 *)address;

	return ((a[0] ^ rule[0]) & mask[0]) | ((a[1] ^ rule[1]) & mask[1]) |
	       ((a[2] ^ rule[2]) & mask[2]) | ((a[3] ^ rule[3]) & mask[3]);
}

static __always_inline int port_outside(__be16 port, const __u16 *range)
{
	__u16 p = bpf_ntohs(port);

	return p < range[0] || p > range[1];
}

static long passthrough_step(__u32 i, void *arg)
{
	struct passthrough_walk *w = arg;
	const struct colo_flow_key *key = w->key;
	struct colo_passthrough *r = bpf_map_lookup_elem(&passthrough, &i);

	if (!r)
		return 1;
	if (!r->used || (r->ethertype && r->ethertype != key->ethertype) ||
	    (r->match_proto && r->proto != key->proto) ||
	    address_differs(key->saddr, r->guest_addr, r->guest_mask) ||
	    address_differs(key->daddr, r->client_addr, r->client_mask) ||
	    port_outside(key->sport, r->guest_ports) ||
	    port_outside(key->dport, r->client_ports))
		return 0;
	w->found = r;
	return 1;
}

/* Whether a rule lets the flow of scratch.pkt pass; `count`: it is a frame of P. */
__noinline int passthrough_match(__u32 count)
{
	struct colo_config *c = ZERO_KEY(config);
	struct scratch *s = scratch_get();
	struct passthrough_walk w = {};

	if (!c || !s ||
	    (s->pkt.key.ethertype != bpf_htons(ETHERTYPE_IP) &&
	     s->pkt.key.ethertype != bpf_htons(ETHERTYPE_IPV6)))
		return 0;
	w.key = &s->pkt.key;
	bpf_loop(c->passthrough, passthrough_step, &w, 0);
	if (w.found && count && !lease_is_out(bpf_ktime_get_ns()))
		__sync_fetch_and_add(&w.found->frames, 1);
	return w.found != NULL;
}

#endif
