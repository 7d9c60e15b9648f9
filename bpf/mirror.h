/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sending over the link: the tag goes on, a copy leaves, the tag comes off.
 */
#ifndef COLO_BPF_MIRROR_H
#define COLO_BPF_MIRROR_H

#include "event.h"
#include "ctx.h"

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
