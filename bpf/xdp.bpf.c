// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fast path of a primary whose devices have XDP: a plain segment of TCP is
 * held before there is a packet for it, and its partner's frame carries it out.
 *
 *   guest_out_xdp  a frame P of the guest: held, or an ack that leaves at once
 *   link_in_xdp    a frame S of the secondary's guest that is P's held one
 *   xdp_flushed    XDP's frames have been handed to the port: flight.h
 *   xdp_refused    ... or one has not
 *
 * What is not the simple case goes on to tc as it came, nothing counted and
 * nothing changed, and primary.bpf.c has all of the rules: what is done here is
 * what it would do.
 *
 * An object of its own, all of whose maps but the scratch are primary.bpf.c's.
 */
#define COLO_XDP

#include "checksum.h"
#include "flight.h"
#include "inplace.h"
#include "lease.h"
#include "linkcount.h"
#include "progress.h"

char _license[] SEC("license") = "GPL";

#define HDR_ROOM 128 /* Ethernet, IPv6 and TCP with all options are less */
#define L4_MASK  63  /* likewise to where TCP begins */
#define BULK     16  /* DEV_MAP_BULK_SIZE: frames that the kernel gathers */

/* What the data path must be like (all else is for tc). */
static __always_inline int session_is_simple(const struct colo_session *ses,
					     const struct colo_config *c, __u64 now)
{
	__u32 class = COLO_CLASS_TCP;
	enum colo_action *action = bpf_map_lookup_elem(&policy, &class);

	/* translations are made behind tc's way out of the port */
	return ses->mode == COLO_MODE_PRIMARY && c->xdp_frame_max && !c->passthrough &&
	       !ses->translations && action && *action == COLO_ACTION_COMPARE &&
	       !lease_is_out(now);
}

/* A flow of the open epoch in its usual state, in which something is vouched for. */
static __always_inline int flow_is_simple(const struct colo_flow *f,
					  const struct colo_session *ses)
{
	return f->epoch == *(volatile __u64 *)&ses->epoch && stream_is_usual(f) &&
	       !f->p_ready.count;
}

/* On its way to the port on another CPU, whose frames have no order with ours. */
static __always_inline int flight_elsewhere(const struct colo_xdp_last *last, __u64 now)
{
	return last->cpu != bpf_get_smp_processor_id() && flight_is_up(last, now);
}

/* One more is on its way. */
static __always_inline void flight_note(struct colo_xdp_last *last, __u64 now)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct colo_xdp_cpu *c = bpf_map_lookup_elem(&xdp_cpus, &cpu);

	if (!c)
		return;
	last->serial = ++c->sent;
	last->cpu = cpu;
	last->ns = now;
}

static __always_inline void key_addrs(struct colo_flow_key *key, const void *src,
				      const void *dst, int words)
{
	__u32 *s = (__u32 *)key->saddr, *d = (__u32 *)key->daddr;
	const __u32 *from = src, *to = dst;
	int i;

#pragma unroll
	for (i = 0; i < 4; i++) {
		s[i] = i < words ? from[i] : 0;
		d[i] = i < words ? to[i] : 0;
	}
}

struct ports {
	__be16 source;
	__be16 dest;
	__be32 seq;
	__be32 ack;
	__u8 words; /* data offset in its upper half */
	__u8 flags;
	__be16 window;
	__be16 csum;
	__be16 urg_ptr;
};

/* `tag`: bytes of the link's tag, which is in front of the ethertype. */
static __always_inline int parse_segment(struct packet *p, const struct ports *tcp, __u32 l4,
					 __u32 l4_len)
{
	__u32 hlen = (tcp->words >> 4) * 4;

	/* ACK alone or with PSH; ECN's two bits are nobody's business here */
	if ((tcp->flags & 0x37) != 0x10 || hlen < sizeof(*tcp) || hlen > l4_len ||
	    l4 + hlen > HDR_ROOM)
		return 0;
	p->key.sport = tcp->source;
	p->key.dport = tcp->dest;
	p->key.vlan[0] = 0;
	p->key.vlan[1] = 0;
	p->key.proto = PROTO_TCP;
	p->key.fragment = 0;
	p->class = COLO_CLASS_TCP;
	p->flags = COLO_FR_TCP | COLO_FR_ACK | (tcp->flags & 0x08 ? COLO_FR_PSH : 0);
	p->seq = bpf_ntohl(tcp->seq);
	p->ack = bpf_ntohl(tcp->ack);
	p->window = bpf_ntohs(tcp->window);
	p->urg_ptr = bpf_ntohs(tcp->urg_ptr);
	p->l3_off = ETH_LEN;
	p->l4_off = l4;
	p->hdr_len = p->data_off = l4 + hlen;
	p->data_len = l4_len - hlen;
	p->end = p->seq + p->data_len;
	p->gso_size = 0;
	p->vlan_tci = 0;
	p->vlan_proto = 0;
	return 1;
}

/*
 * Fills scratch.pkt but for its copy of the headers, with the offsets of the frame
 * without its first tag, which is `tag` bytes long. 0: it is not plain TCP.
 */
static __always_inline int parse_plain(struct ctx_buff *ctx, struct packet *p, __u32 tag)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u8 *l3 = data + ETH_LEN + tag;
	__u32 total, len;
	__be16 type;

	if (l3 + 20 + sizeof(struct ports) > end)
		return 0;
	len = ctx_len(ctx) - tag;
	type = *(__be16 *)(l3 - 2);
	p->len = len;
	p->key.ethertype = type;
	if (type == bpf_htons(ETHERTYPE_IP)) {
		total = bpf_ntohs(*(__be16 *)(l3 + 2));
		if (l3[0] != 0x45 || l3[9] != PROTO_TCP || total < 20 ||
		    *(__be16 *)(l3 + 6) & bpf_htons(0x3fff) || total > len - ETH_LEN)
			return 0;
		key_addrs(&p->key, l3 + 12, l3 + 16, 1);
		return parse_segment(p, (struct ports *)(l3 + 20), ETH_LEN + 20, total - 20);
	}
	if (type != bpf_htons(ETHERTYPE_IPV6) || l3 + IPV6_LEN + sizeof(struct ports) > end)
		return 0;
	total = bpf_ntohs(*(__be16 *)(l3 + 4));
	if (l3[0] >> 4 != 6 || l3[6] != PROTO_TCP || total > len - ETH_LEN - IPV6_LEN)
		return 0;
	key_addrs(&p->key, l3 + 8, l3 + 24, 4);
	return parse_segment(p, (struct ports *)(l3 + IPV6_LEN), ETH_LEN + IPV6_LEN, total);
}

/*
 * The flow of scratch.pkt, locked. NULL: there is none, it is another's by now, or
 * its lock is taken: tc waits for that, nobody here.
 */
static __always_inline struct colo_flow *flow_try(struct scratch *s)
{
	struct colo_flow *f = bpf_map_lookup_elem(&flows, &s->pkt.key);

	if (!f || !word_trylock(&f->lock))
		return NULL;
	if (key_equal(&f->key, &s->pkt.key))
		return f;
	word_unlock_stale(&f->lock);
	return NULL;
}

/*
 * The sum of the pseudo-header and of TCP's header in a copy of the headers. By
 * hand: of so few words a helper's call is the larger part.
 */
static __always_inline __u16 header_sum(const struct packet *p, const __u8 *hdr)
{
	const __u32 *w = (const __u32 *)p->key.saddr;
	__u32 l4 = p->l4_off & L4_MASK, n = p->hdr_len - p->l4_off, i;
	__u64 sum = bpf_htonl(n + p->data_len) + (__u64)bpf_htonl(PROTO_TCP);

#pragma unroll
	for (i = 0; i < 8; i++)
		sum += w[i];
	w = (const __u32 *)(hdr + l4);
#pragma unroll
	for (i = 0; i < 8; i++)
		if (i * 4 < n)
			sum += w[i];
	/* more than three time stamps' worth of options */
	for (; i < 15; i++)
		if (i * 4 < n)
			sum += w[i];
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	return csum_fold(sum);
}

/* ---- the guest's frames -------------------------------------------------------- */

/*
 * Whether the checksum of a segment without payload is complete, which XDP cannot
 * ask: one that was left to the device nobody would complete.
 */
static __always_inline int ack_is_complete(struct ctx_buff *ctx, struct scratch *s)
{
	struct packet *p = &s->pkt;
	__u32 n = p->hdr_len;

	BOUND(n, 127);
	if (n != p->hdr_len || ctx_load(ctx, 0, p->hdr, n))
		return 0;
	return header_sum(p, p->hdr) == 0xffff;
}

/* It brings no new unit, and S has acked as much: it leaves. */
static __always_inline int p_ack(struct ctx_buff *ctx, struct scratch *s, struct colo_flow *f,
				 const struct colo_config *c, __u64 now)
{
	struct colo_counters *count = ZERO_KEY(counters);

	if (!count || !ack_covered(f, s->pkt.flags, s->pkt.ack) ||
	    flight_elsewhere(&f->xdp_ack, now) || !ack_is_complete(ctx, s))
		return XDP_PASS;
	stream_note_units(f, &s->pkt);
	flight_note(&f->xdp_ack, now);
	f->seen_ns = now;
	count->p_frames++;
	count->p_covered++;
	count->xdp_covered++;
	return bpf_redirect(c->port_ifindex, 0);
}

/* As frame_take(), by the shortest way. */
static __always_inline __u32 segment_take(struct ctx_buff *ctx, const struct packet *p,
					  __u64 epoch, __u64 now)
{
	__u32 idx, off, n = p->hdr_len;
	struct colo_frame *fr;

	idx = list_take(COLO_LIST_FRAMES);
	if (idx == COLO_NONE)
		return COLO_NONE;
	COUNT(frames_taken);
	fr = frame_at(idx);
	if (!fr)
		return COLO_NONE;
	off = block_take(p->data_len);
	fr->data_off = off;
	BOUND(n, 127);
	if (off == COLO_NONE || ctx_load(ctx, 0, fr->hdr, n) ||
	    pool_load(ctx, p->data_off, off, p->data_len)) {
		frame_give(idx);
		return COLO_NONE;
	}
	frame_fill(fr, p, now);
	fr->epoch = epoch;
	frame_state(fr, idx, COLO_FRAME_P);
	return idx;
}

/* Its units are all new, and behind what is held: it waits for S's. */
static __always_inline int p_hold(struct ctx_buff *ctx, const struct packet *p,
				  struct colo_flow *f, const struct colo_config *c, __u64 now)
{
	struct colo_counters *count = ZERO_KEY(counters);
	struct colo_frame *tail = frame_at(f->p_held.tail);
	__u32 idx;

	if (!count || seq_lt(p->seq, f->vouch_end) || f->s_wait.count ||
	    (tail && seq_lt(p->seq, tail->end)) ||
	    f->p_held.count + f->p_ackwait.count + f->p_commit.count >= c->queue_max)
		return XDP_PASS;
	idx = segment_take(ctx, p, f->epoch, now);
	if (idx == COLO_NONE)
		return XDP_PASS;
	stream_note_units(f, p);
	queue_append(&f->p_held, idx);
	f->seen_ns = now;
	count->p_frames++;
	count->p_held++;
	count->xdp_held++;
	return XDP_DROP;
}

SEC("xdp")
int guest_out_xdp(struct ctx_buff *ctx)
{
	struct colo_session *ses = session_get();
	struct colo_config *c = config_get();
	struct scratch *s = scratch_get();
	__u64 now = bpf_ktime_get_ns();
	struct colo_flow *f;
	int ret = XDP_PASS;

	if (!ses || !c || !s || !session_is_simple(ses, c, now) ||
	    ctx_len(ctx) > c->xdp_frame_max || !parse_plain(ctx, &s->pkt, 0))
		return XDP_PASS;
	f = flow_try(s);
	if (!f)
		return XDP_PASS;
	if (!flow_is_simple(f, ses))
		ret = XDP_PASS;
	else if (s->pkt.data_len)
		ret = p_hold(ctx, &s->pkt, f, c, now);
	else
		ret = p_ack(ctx, s, f, c, now);
	word_unlock(&f->lock);
	return ret;
}

/* ---- the secondary's frames ---------------------------------------------------- */

/* P's ack, by what S has acked with this frame. */
static __always_inline int is_covered(const struct colo_flow *f, const struct colo_frame *fr,
				      const struct packet *p)
{
	return ack_covered(f, fr->flags, fr->ack) || seq_leq(fr->ack, p->ack);
}

/* What has been compared leaves: all of it is counted, and is out of the flow. */
static __always_inline void s_matches(struct colo_flow *f, struct colo_frame *fr,
				      const struct packet *p, __u64 now)
{
	__u32 idx = f->p_held.head, seq = fr->seq, end = fr->end;

	stream_note_s(f, p->flags, p->ack);
	vouch(f, seq, seq, end);
	stream_left(f, seq, end);
	queue_remove(&f->p_held, idx);
	frame_give(idx);
	flight_note(&f->xdp_data, now);
	f->flags |= COLO_F_TCP;
	f->matched++;
	f->seen_ns = now;
}

/*
 * P's frame, from its own headers and S's payload. Its checksum is made anew: P's
 * may have been left to the device. XDP_PASS: S's frame is as it came but for
 * padding; XDP_DROP: it is spoilt, and lost as on the link.
 */
static __always_inline int s_carries(struct ctx_buff *ctx, const struct packet *p,
				     struct colo_frame *fr)
{
	__u32 n = p->hdr_len, len = p->hdr_len + p->data_len;
	__u32 at = (p->l4_off & L4_MASK) + 16, sum;

	*(__u16 *)(fr->hdr + at) = 0;
	sum = csum_fold(pool_csum(fr->data_off, p->data_len, 0)) + header_sum(p, fr->hdr);
	*(__u16 *)(fr->hdr + at) = ~csum_fold(sum);
	if (p->len != len && bpf_xdp_adjust_tail(ctx, (int)len - (int)p->len))
		return XDP_PASS;
	if (bpf_xdp_adjust_head(ctx, COLO_LINK_TAG_LEN))
		return XDP_PASS;
	BOUND(n, 127);
	return ctx_store(ctx, 0, fr->hdr, n) ? XDP_DROP : XDP_REDIRECT;
}

static __always_inline int s_release(struct ctx_buff *ctx, struct scratch *s,
				     struct colo_flow *f, const struct colo_config *c,
				     __u64 epoch, __u64 now)
{
	struct colo_counters *count = ZERO_KEY(counters);
	struct colo_frame *fr = frame_at(f->p_held.head);
	const struct packet *p = &s->pkt;
	int ret;

	if (!count || !fr || f->epoch != epoch || f->p_ackwait.count || !is_partner(f, fr, p) ||
	    !is_covered(f, fr, p) || flight_elsewhere(&f->xdp_data, now) ||
	    payload_differs(ctx, p->data_off + COLO_LINK_TAG_LEN, fr->data_off, p->data_len))
		return XDP_PASS;
	ret = s_carries(ctx, p, fr);
	if (ret != XDP_REDIRECT)
		return ret;
	s_matches(f, fr, p, now);
	link_count(&link_received, epoch, p->data_len);
	count->s_frames++;
	count->s_matched++;
	count->p_matched++;
	count->p_released_whole++;
	count->xdp_matched++;
	return bpf_redirect(c->port_ifindex, 0);
}

/* The link's tag says: output of the guest, of the open epoch. */
static __always_inline int is_output(struct ctx_buff *ctx, __u64 epoch)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 tci;

	if (data + ETH_LEN + COLO_LINK_TAG_LEN > end ||
	    *(__be16 *)(data + 12) != bpf_htons(COLO_LINK_PROTO))
		return 0;
	tci = bpf_ntohs(*(__be16 *)(data + ETH_LEN)) & 0xfff;
	return colo_link_kind(tci) == COLO_LINK_OUTPUT && !colo_link_epoch_diff(tci, epoch);
}

SEC("xdp")
int link_in_xdp(struct ctx_buff *ctx)
{
	struct colo_session *ses = session_get();
	struct colo_config *c = config_get();
	struct scratch *s = scratch_get();
	struct colo_flow *f;
	int ret = XDP_PASS;
	__u64 epoch, now;

	if (!ses || !c || !s)
		return XDP_PASS;
	/* a lease is the only one here that asks for more than a tick's precision */
	now = ses->lease_ns ? bpf_ktime_get_ns() : bpf_ktime_get_coarse_ns();
	if (!session_is_simple(ses, c, now))
		return XDP_PASS;
	epoch = *(volatile __u64 *)&ses->epoch;
	if (!is_output(ctx, epoch) || ctx_len(ctx) > c->xdp_frame_max + COLO_LINK_TAG_LEN ||
	    !parse_plain(ctx, &s->pkt, COLO_LINK_TAG_LEN))
		return XDP_PASS;
	f = flow_try(s);
	if (!f)
		return XDP_PASS;
	if (flow_is_simple(f, ses))
		ret = s_release(ctx, s, f, c, epoch, now);
	word_unlock(&f->lock);
	return ret;
}

/* ---- what has left --------------------------------------------------------------- */

struct net_device {
	int ifindex;
} __attribute__((preserve_access_index));

/* Such a device takes none, ever. */
static __always_inline void port_has_said(struct colo_config *c, int err)
{
	if (err == -6 || err == -95) /* ENXIO, EOPNOTSUPP */
		c->xdp_frame_max = 0;
}

/*
 * Frames of one CPU for one device have been handed over, at once and in their
 * order, BULK of them while more come, else all that there are.
 */
SEC("tp_btf/xdp_devmap_xmit")
int xdp_flushed(__u64 *args) /* from, to, sent, drops, err */
{
	const struct net_device *to = (void *)args[1];
	int sent = args[2], drops = args[3], err = args[4];
	struct colo_config *c = config_get();
	__u32 cpu = bpf_get_smp_processor_id();
	struct colo_xdp_cpu *mine = bpf_map_lookup_elem(&xdp_cpus, &cpu);
	__u64 flushed;

	if (!c || !mine || (__u32)to->ifindex != c->port_ifindex)
		return 0;
	flushed = mine->sent;
	if (sent + drops == BULK && mine->flushed + BULK < flushed)
		flushed = mine->flushed + BULK;
	__sync_lock_test_and_set(&mine->flushed, flushed);
	if (drops > 0)
		COUNT_N(xdp_lost, drops);
	port_has_said(c, err);
	return 0;
}

/*
 * A frame that is for the port was not even gathered. If others are, their
 * hand-over counts for it, too.
 */
SEC("tp_btf/xdp_redirect_err")
int xdp_refused(__u64 *args) /* from, prog, to, err, map type, map id, index */
{
	const struct net_device *from = (void *)args[0];
	struct colo_config *c = config_get();
	__u32 cpu = bpf_get_smp_processor_id();
	struct colo_xdp_cpu *mine = bpf_map_lookup_elem(&xdp_cpus, &cpu);

	if (!c || !mine || (__u32)args[6] != c->port_ifindex ||
	    ((__u32)from->ifindex != c->link_ifindex &&
	     (__u32)from->ifindex != c->guest_ifindex))
		return 0;
	if (mine->flushed + 1 == mine->sent)
		mine->flushed = mine->sent;
	COUNT(xdp_lost);
	port_has_said(c, args[3]);
	return 0;
}
