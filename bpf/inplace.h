/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The usual case of TCP: S's frame has just the units of P's, which are the next to
 * leave. It is compared where it lies and carries P's out, without a record of its
 * own. All else is stream.h's.
 */
#ifndef COLO_BPF_INPLACE_H
#define COLO_BPF_INPLACE_H

#include "compare.h"
#include "progress.h"

#define SEGMENT_STEPS 64 /* of 64 bytes: more than a page has */
#define PAYLOAD_END   4096

/* Nothing is special about the flow, and something is vouched for in it. */
static __always_inline int stream_is_usual(const struct colo_flow *f)
{
	const __u32 odd = COLO_F_MISMATCH | COLO_F_S_OLD | COLO_F_S_UNSEEN | COLO_F_PENDING |
			  COLO_F_RST | COLO_F_BOTH_RST;

	return !(f->flags & odd) && f->flags & COLO_F_VOUCHED && !s_is_ahead(f);
}

/* 0: the len bytes of the packet at `at` are those of the pool at `off`. */
__noinline int payload_differs(struct ctx_buff *ctx, __u32 at, __u32 off, __u32 len)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *s;
	__u8 *p = pool_entry(off);
	int i;

	/* what lies behind that is beyond the offsets' mask */
	if (!p || at + len > PAYLOAD_END)
		return 1;
	for (i = 0; i < SEGMENT_STEPS; i++) {
		if (len < 64)
			break;
		s = data + (at & (PAYLOAD_END - 1));
		if (s + 64 > end ||
		    differ64((const __u64 *)(p + POOL_BYTE(off)), (const __u64 *)s))
			return 1;
		at += 64;
		off += 64;
		len -= 64;
	}
	for (i = 0; i < 8; i++) {
		if (len < 8)
			break;
		s = data + (at & (PAYLOAD_END - 1));
		if (s + 8 > end || *(const __u64 *)(p + POOL_BYTE(off)) != *(const __u64 *)s)
			return 1;
		at += 8;
		off += 8;
		len -= 8;
	}
	for (i = 0; i < 8; i++) {
		if (!len)
			return 0;
		s = data + (at & (PAYLOAD_END - 1));
		if (s + 1 > end || p[POOL_BYTE(off)] != *s)
			return 1;
		at++;
		off++;
		len--;
	}
	return 1;
}

/* S's frame is the partner of this one of P, which is the next to leave. */
static __always_inline int is_partner(const struct colo_flow *f, const struct colo_frame *fr,
				      const struct packet *p)
{
	const __u32 odd = COLO_FR_SYN | COLO_FR_FIN | COLO_FR_RST | COLO_FR_URG;
	struct colo_frame *next = frame_at(fr->next);

	return !f->s_wait.count && !f->p_commit.count && !f->s_next_epoch.count &&
	       fr->seq == p->seq && fr->end == p->end && p->data_len &&
	       fr->hdr_len == p->hdr_len && fr->l3_off == p->l3_off &&
	       fr->l4_off == p->l4_off && !fr->vlan_proto && !((fr->flags | p->flags) & odd) &&
	       fr->vouched == fr->seq && fr->released == fr->seq && f->vouch_end == fr->seq &&
	       (!next || seq_leq(fr->end, next->seq));
}

#endif
