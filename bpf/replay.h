/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Input is one stream across epochs (rule 16). The secondary's guest becomes
 * the primary's copy as that was when it stopped: what the primary had not
 * read by then, the copy has to get, though the guest before it did. So the
 * last frames of the clients are kept as they came, each with how much the
 * primary had sent up to it, in the units of the link's counts.
 */
#ifndef COLO_BPF_REPLAY_H
#define COLO_BPF_REPLAY_H

#include "emit.h"
#include "lock.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COLO_INPUTS);
	__type(key, __u32);
	__type(value, struct colo_input);
} inputs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct colo_input_ring);
} input_ring SEC(".maps");

static __always_inline struct colo_input *input_at(__u64 ordinal)
{
	__u32 slot = ordinal % COLO_INPUTS;

	return bpf_map_lookup_elem(&inputs, &slot);
}

static __always_inline void input_forget(struct colo_input *in)
{
	if (in->frame)
		frame_give(in->frame - 1);
	in->frame = 0;
}

/* The ring takes no more than a quarter of the records. */
static __always_inline void input_bound(const struct colo_input_ring *ring)
{
	struct colo_config *c = config_get();
	__u32 room = c ? c->max_frames / 4 : 0;
	struct colo_input *in;

	if (room >= COLO_INPUTS || ring->next < room)
		return;
	in = input_at(ring->next - room);
	if (in)
		input_forget(in);
}

/* Keep the packet that scratch.pkt describes, which was sent in `epoch`. */
__noinline int input_keep(struct __sk_buff *ctx, __u64 epoch, __u32 tcp_bytes)
{
	struct colo_input_ring *ring = ZERO_KEY(input_ring);
	struct colo_frame *fr;
	struct colo_input *in;
	__u32 idx;

	if (!ring || !word_lock(&ring->lock))
		return 0;
	in = input_at(ring->next);
	if (!in)
		goto out;
	input_forget(in);
	input_bound(ring);
	idx = frame_take(ctx, COLO_FRAME_I, epoch);
	fr = frame_at(idx);
	if (fr) {
		in->frame = idx + 1;
		/* any 16 bits will do to tell */
		if (ctx_csum_is_partial(ctx, 0))
			fr->flags |= COLO_FR_PARTIAL;
	} else {
		COUNT(rw_in_unkept);
	}
	if (ring->count.epoch < epoch) {
		ring->count.epoch = epoch;
		ring->count.tcp_bytes = 0;
		ring->count.frames = 0;
	}
	if (tcp_bytes)
		ring->count.tcp_bytes += tcp_bytes;
	else
		ring->count.frames++;
	in->stream = tcp_bytes != 0;
	in->after = ring->count;
	ring->next++;
out:
	word_unlock(&ring->lock);
	return 0;
}

struct replay {
	struct __sk_buff *ctx;
	__u64 at;
	__u32 guest;
	__u32 sent;
};

/* Whether the primary had not read all of it. */
static __always_inline int input_unread(const struct colo_input *in,
					const struct colo_link_count *read)
{
	if (in->after.epoch != read->epoch)
		return in->after.epoch > read->epoch;
	return in->stream ? in->after.tcp_bytes > read->tcp_bytes :
			    in->after.frames > read->frames;
}

/* As it came, but for a checksum that was left to the device. */
static __always_inline int input_send(struct replay *r, __u32 idx, const struct colo_frame *fr)
{
	struct scratch *s = scratch_get();
	int how = r->guest << HOW_IFINDEX;

	if (!s)
		return -1;
	if (fr->flags & COLO_FR_TCP && (fr->gso_size || fr->flags & COLO_FR_PARTIAL))
		return emit_range(r->ctx, idx, fr->seq, fr->end, how);
	if (fr->flags & COLO_FR_PARTIAL) {
		if (datagram_headers(idx, how))
			return -1;
	} else {
		__builtin_memcpy(s->out, fr->hdr, COLO_HDR_MAX);
	}
	return out_send(r->ctx, idx, 0, fr->data_len, how);
}

static long replay_step(__u32 step __unused, void *arg)
{
	struct colo_input_ring *ring = ZERO_KEY(input_ring);
	struct scratch *s = scratch_get();
	struct replay *r = arg;
	struct colo_input *in = input_at(r->at);
	struct colo_frame *fr;

	if (!ring || !s || !in || r->at >= ring->next)
		return 1;
	r->at++;
	fr = frame_at(in->frame - 1);
	if (!fr || !input_unread(in, &s->control.read)) {
		input_forget(in);
	} else if (!input_send(r, in->frame - 1, fr)) {
		COUNT(rw_in_replayed);
		r->sent++;
	}
	return 0;
}

/*
 * Give the guest what the primary had not read (control.read), and forget the
 * rest: the primary may not have read it the next time either.
 */
static __always_inline __u32 replay(struct __sk_buff *ctx, __u32 guest)
{
	struct colo_input_ring *ring = ZERO_KEY(input_ring);
	struct replay r = {.ctx = ctx, .guest = guest};

	if (!ring)
		return 0;
	if (!word_lock(&ring->lock))
		return COLO_CONTROL_AGAIN;
	r.at = ring->next > COLO_INPUTS ? ring->next - COLO_INPUTS : 0;
	bpf_loop(COLO_INPUTS, replay_step, &r, 0);
	word_unlock(&ring->lock);
	return r.sent;
}

#endif
