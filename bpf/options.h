/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * TCP options of the header that lies in scratch.out.
 */
#ifndef COLO_BPF_OPTIONS_H
#define COLO_BPF_OPTIONS_H

#include "hold.h"

#define TCP_LEN       20
#define TCPOPT_END    0
#define TCPOPT_NOP    1
#define TCPOPT_MSS    2
#define TCPOPT_WSCALE 3
#define TCPOPT_SACKOK 4
#define TCPOPT_SACK   5
#define TCPOPT_TS     8
#define TCPOPT_MD5    19
#define TCPOPT_AO     29
#define TCPOPT_MPTCP  30
#define TCPOPT_MAX    40 /* bytes of options */

struct options {
	struct scratch *s;
	__u32 off;
	__u32 end;
	__u32 mss;
	__u32 wscale;
	__u32 kinds;    /* bit n: option n is there */
	__u32 ts;       /* offset of TSval, 0: none */
	__u32 sack;     /* offset of the first edge, 0: none */
	__u32 sack_len; /* bytes of edges */
};

/* One option; 1 at the end of the list. */
static long option_step(__u32 step __unused, void *arg)
{
	struct options *o = arg;
	__u32 off = o->off, kind, len;

	if (off + 1 > o->end || off > COLO_HDR_MAX)
		return 1;
	kind = o->s->out[in_hdr(off)];
	if (kind == TCPOPT_END)
		return 1;
	if (kind == TCPOPT_NOP) {
		o->off = off + 1;
		return 0;
	}
	len = o->s->out[in_hdr(off + 1)];
	if (len < 2 || off + len > o->end)
		return 1;
	if (kind == TCPOPT_MSS && len == 4)
		o->mss = *(__u16 *)(o->s->out + in_hdr(off + 2));
	else if (kind == TCPOPT_WSCALE && len == 3)
		o->wscale = o->s->out[in_hdr(off + 2)];
	else if (kind == TCPOPT_TS && len == 10)
		o->ts = off + 2;
	else if (kind == TCPOPT_SACK) {
		o->sack = off + 2;
		o->sack_len = len - 2;
	}
	if (kind < 32)
		o->kinds |= 1U << kind;
	o->off = off + len;
	return 0;
}

/* The options of a TCP header at l4 in scratch.out that ends at `end`. */
static __always_inline void options_scan(struct options *o, struct scratch *s, __u32 l4,
					 __u32 end)
{
	__builtin_memset(o, 0, sizeof(*o));
	o->s = s;
	o->off = l4 + TCP_LEN;
	o->end = end;
	if (o->off < end)
		bpf_loop(TCPOPT_MAX, option_step, o, 0);
}

#define SYN_KEYED (1U << TCPOPT_MD5 | 1U << TCPOPT_AO | 1U << TCPOPT_MPTCP)
#define SYN_KINDS                                                                         \
	(1U << TCPOPT_MSS | 1U << TCPOPT_WSCALE | 1U << TCPOPT_SACKOK | 1U << TCPOPT_TS | \
	 SYN_KEYED)
/* In syn_options(): keys that differ between the guests, a checkpoint evens them. */
#define SYN_UNTRANSLATABLE ((__u64)SYN_KEYED << 32)

/*
 * What of a SYN's options must agree: MSS, window scale, SACK permitted,
 * timestamps present (rule 7). One number that can be compared.
 */
__noinline __u64 syn_options(__u32 idx)
{
	struct colo_frame *fr = frame_at(idx);
	struct scratch *s = scratch_get();
	struct options o;

	if (!fr || !s)
		return 0;
	__builtin_memcpy(s->out, fr->hdr, COLO_HDR_MAX);
	options_scan(&o, s, fr->l4_off, fr->hdr_len);
	return (__u64)(o.kinds & SYN_KINDS) << 32 | o.mss << 8 | o.wscale;
}

#endif
