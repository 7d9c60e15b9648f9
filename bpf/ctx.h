/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one place that knows what kind of context a program runs on. The engine
 * reads and writes packets only through these.
 */
#ifndef COLO_BPF_CTX_H
#define COLO_BPF_CTX_H

#include <linux/pkt_cls.h>

#include "maps.h"

/*
 * For the verifier of 6.1, which keeps no lower bound through a mask: a length
 * that is known to be 1 .. mask + 1 is shown to be so.
 */
#define BOUND(len, mask)                      \
	do {                                  \
		(len) -= 1;                   \
		asm volatile("" : "+r"(len)); \
		(len) &= (mask);              \
		(len) += 1;                   \
	} while (0)

#ifdef COLO_XDP

/*
 * XDP: a frame is complete, tags and all, and is all that there is of it. What
 * tc alone can do (send a copy, resize it at will) has no place here.
 */
#define ctx_buff xdp_md

static __always_inline __u32 ctx_len(const struct ctx_buff *ctx)
{
	return ctx->data_end - ctx->data;
}

static __always_inline __u32 ctx_gso_size(const struct ctx_buff *ctx __unused)
{
	return 0;
}

static __always_inline int ctx_tag(const struct ctx_buff *ctx __unused, __be16 *proto __unused,
				   __be16 *tci __unused)
{
	return 0;
}

static __always_inline int ctx_load(struct ctx_buff *ctx, __u32 off, void *to, __u32 len)
{
	return bpf_xdp_load_bytes(ctx, off, to, len);
}

static __always_inline int ctx_store(struct ctx_buff *ctx, __u32 off, const void *from,
				     __u32 len)
{
	return bpf_xdp_store_bytes(ctx, off, (void *)from, len);
}

#else /* tc */

#define ctx_buff        __sk_buff
#define CTX_DROP        TC_ACT_SHOT
#define CTX_STACK       TC_ACT_OK
#define CTX_NEXT        TC_ACT_UNSPEC /* the filters behind this one go on */
#define CTX_STORE_FLAGS (BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH)

static __always_inline __u32 ctx_len(const struct ctx_buff *ctx)
{
	return ctx->len;
}

/* 0: it is no GSO frame. */
static __always_inline __u32 ctx_gso_size(const struct ctx_buff *ctx)
{
	return ctx->gso_size;
}

/* The tag that the device has stripped, if there is one. */
static __always_inline int ctx_tag(const struct ctx_buff *ctx, __be16 *proto, __be16 *tci)
{
	if (!ctx->vlan_present)
		return 0;
	*proto = ctx->vlan_proto;
	*tci = bpf_htons(ctx->vlan_tci);
	return 1;
}

static __always_inline int ctx_load(struct ctx_buff *ctx, __u32 off, void *to, __u32 len)
{
	return bpf_skb_load_bytes(ctx, off, to, len);
}

static __always_inline int ctx_store(struct ctx_buff *ctx, __u32 off, const void *from,
				     __u32 len)
{
	return bpf_skb_store_bytes(ctx, off, from, len, CTX_STORE_FLAGS);
}

/*
 * A device of several queues takes the one that the packet came by, where it
 * knows that: a flow's packets of the guest and of the link would leave by two,
 * which have no order between them. So it does not know, and goes by the flow.
 */
static __always_inline void ctx_forget_queue(struct ctx_buff *ctx)
{
	ctx->queue_mapping = 0;
}

/* Send a copy now, while a flow's lock is held: order is the lock's order. */
static __always_inline int ctx_send_copy(struct ctx_buff *ctx, __u32 ifindex)
{
	return bpf_clone_redirect(ctx, ifindex, 0);
}

/* Send the packet itself, when the program returns. */
static __always_inline int ctx_send(__u32 ifindex)
{
	return bpf_redirect(ifindex, 0);
}

/* Whether the tag that the device has stripped is this one (0: none). */
static __always_inline int ctx_tagged_as(struct ctx_buff *ctx, __be16 proto, __be16 tci)
{
	if (!ctx->vlan_present)
		return !proto;
	return ctx->vlan_proto == proto && bpf_htons(ctx->vlan_tci) == tci;
}

/*
 * Whether the packet's L4 checksum is partial (CHECKSUM_PARTIAL), which no
 * field tells: without the pseudo-header flag bpf_l4_csum_replace() changes a
 * complete checksum and leaves a partial one alone. `off` is that of any 16
 * bits of the packet; they are as before afterwards. Negative on failure.
 */
static __always_inline int ctx_csum_is_partial(struct ctx_buff *ctx, __u32 off)
{
	__u16 before, after;

	if (ctx_load(ctx, off, &before, sizeof(before)))
		return -1;
	if (bpf_l4_csum_replace(ctx, off, 0, bpf_htonl(1), 0))
		return -1;
	if (ctx_load(ctx, off, &after, sizeof(after)))
		return -1;
	if (before == after)
		return 1;
	if (bpf_skb_store_bytes(ctx, off, &before, sizeof(before), 0))
		return -1;
	return 0;
}

#endif /* COLO_XDP */

#endif
