/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The link: the tag goes on, a copy leaves, the tag comes off; and what the other
 * side says of its counts.
 */
#ifndef COLO_BPF_MIRROR_H
#define COLO_BPF_MIRROR_H

#include "linkcount.h"

/* A control frame without its tag that tells what the other side has sent. */
static __always_inline int link_counts_receive(struct __sk_buff *ctx, struct scratch *s)
{
	struct colo_link_peer *peer = ZERO_KEY(link_peer);
	struct colo_link_counts *c = &s->counts;

	if (!peer || s->pkt.key.ethertype != bpf_htons(COLO_LINK_ETHERTYPE) ||
	    s->pkt.key.vlan[0] || ctx_load(ctx, ETH_LEN, c, sizeof(*c)) ||
	    c->magic != bpf_htonl(COLO_LINK_MAGIC) || c->version != bpf_htons(COLO_ABI_VERSION))
		return 0;
	__sync_fetch_and_add(&peer->serial, 1); /* odd: being written */
	peer->sent.epoch = bpf_be64_to_cpu(c->epoch);
	peer->sent.tcp_bytes = bpf_be64_to_cpu(c->tcp_bytes);
	peer->sent.frames = bpf_be64_to_cpu(c->frames);
	peer->asked_epoch = bpf_be64_to_cpu(c->asked_epoch);
	peer->asked_reason = bpf_ntohs(c->asked_reason);
	__sync_fetch_and_add(&peer->serial, 1);
	return 1;
}

/* A copy of the packet over the link; the packet is as before afterwards. */
static __always_inline int link_send_copy(struct __sk_buff *ctx, __u32 kind, __u64 epoch,
					  __u32 ifindex)
{
	int ret;

	if (bpf_skb_vlan_push(ctx, bpf_htons(COLO_LINK_PROTO), colo_link_vid(kind, epoch)))
		return -1;
	ret = bpf_clone_redirect(ctx, ifindex, 0);
	if (bpf_skb_vlan_pop(ctx))
		return -1;
	if (ret)
		COUNT(link_failed);
	return ret;
}

/* The packet itself over the link. */
static __always_inline int link_send(struct __sk_buff *ctx, __u32 kind, __u64 epoch,
				     __u32 ifindex)
{
	if (bpf_skb_vlan_push(ctx, bpf_htons(COLO_LINK_PROTO), colo_link_vid(kind, epoch))) {
		COUNT(link_failed);
		return CTX_DROP;
	}
	return bpf_redirect(ifindex, 0);
}

/*
 * What kind of frame came over the link, from its tag; COLO_LINK_NONE: not
 * ours, it belongs to the host's stack. *ahead: how many epochs it is ahead.
 */
static __always_inline __u32 link_receive(struct __sk_buff *ctx, __u64 epoch, int *ahead)
{
	__u32 tci, kind;

	if (!ctx->vlan_present || ctx->vlan_proto != bpf_htons(COLO_LINK_PROTO))
		return COLO_LINK_NONE;
	tci = ctx->vlan_tci & 0xfff;
	kind = colo_link_kind(tci);
	if (kind != COLO_LINK_NONE)
		*ahead = colo_link_epoch_diff(tci, epoch);
	return kind;
}

#endif
