/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A TCP header that lies in scratch.out, from the numbers of one into those of
 * another: sequence number and TSval of what a guest sends; ack, SACK edges
 * and TSecr of what it gets.
 */
#ifndef COLO_BPF_NUMBERS_H
#define COLO_BPF_NUMBERS_H

#include "emit.h"
#include "options.h"
#include "serial.h"

#define SACK_EDGES_MAX 8

static __always_inline __u32 get32(struct scratch *s, __u32 off)
{
	return bpf_ntohl(*(__be32 *)(s->out + in_hdr(off)));
}

static __always_inline void options_of_out(struct options *o, struct scratch *s, __u32 l4,
					   __u32 end)
{
	__u32 w0;

	__builtin_memset(o, 0, sizeof(*o));
	if (end <= l4 + TCP_LEN)
		return;
	w0 = get32(s, l4 + TCP_LEN);
	if (w0 == 0x0101080a && end == l4 + TCP_LEN + 12)
		o->ts = l4 + TCP_LEN + 4; /* what Linux sends nearly always */
	else
		options_scan(o, s, l4, end);
}

struct sack {
	struct scratch *s;
	__u32 off;
	__u32 left;
	__u32 delta;
};

static long sack_step(__u32 step __unused, void *arg)
{
	struct sack *k = arg;

	if (k->left < 4)
		return 1;
	out32(k->s, k->off, get32(k->s, k->off) - k->delta);
	k->off += 4;
	k->left -= 4;
	return 0;
}

/* What a guest has sent, in numbers that are ahead by the deltas. */
static __always_inline void numbers_out(struct scratch *s, __u32 l4, __u32 end, __u32 seq_delta,
					__u32 ts_delta)
{
	struct options o;

	out32(s, l4 + 4, get32(s, l4 + 4) + seq_delta);
	options_of_out(&o, s, l4, end);
	if (o.ts)
		out32(s, o.ts, get32(s, o.ts) + ts_delta);
}

/* What a client has sent, in the numbers of a guest that is behind by the deltas. */
static __always_inline void numbers_in(struct scratch *s, __u32 l4, __u32 end, __u32 seq_delta,
				       __u32 ts_delta)
{
	struct sack k = {.s = s, .delta = seq_delta};
	struct options o;

	out32(s, l4 + 8, get32(s, l4 + 8) - seq_delta);
	options_of_out(&o, s, l4, end);
	if (o.ts)
		out32(s, o.ts + 4, get32(s, o.ts + 4) - ts_delta);
	if (o.sack) {
		k.off = o.sack;
		k.left = o.sack_len;
		bpf_loop(SACK_EDGES_MAX, sack_step, &k, 0);
	}
}

/* TSecr of the client's segment that scratch.pkt is; 1 if there is one. */
static __always_inline int numbers_echo(struct scratch *s, __u32 *echo)
{
	const struct packet *p = &s->pkt;
	struct options o;

	if (!(p->flags & COLO_FR_ACK))
		return 0;
	__builtin_memcpy(s->out, p->hdr, COLO_HDR_MAX);
	options_of_out(&o, s, p->l4_off, p->hdr_len);
	if (o.ts)
		*echo = get32(s, o.ts + 4);
	return o.ts != 0;
}

#endif
