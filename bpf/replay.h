/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Input is one stream across epochs (rule 16). What comes behind the primary's
 * mark (gate.h) is for the guest's new life, which the secondary may not have
 * begun yet: it is kept, as it came, and given when it has.
 */
#ifndef COLO_BPF_REPLAY_H
#define COLO_BPF_REPLAY_H

#include "emit.h"
#include "gate.h"
#include "lock.h"

#define REPLAY_BATCH 32 /* frames that are given under the lock at a time */

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

static __always_inline int input_is_empty(const struct colo_input_ring *ring)
{
	return *(volatile __u64 *)&ring->first == *(volatile __u64 *)&ring->next;
}

/* Under the lock: is what is kept being given to this life? */
static __always_inline int input_is_given(const struct colo_input_ring *ring, __u64 life)
{
	struct colo_input *in = input_at(ring->first);
	struct colo_frame *fr = in ? frame_at(in->frame) : NULL;

	return !input_is_empty(ring) && fr && fr->epoch <= life;
}

/* The ring takes no more than a quarter of the records. */
static __always_inline int input_is_full(const struct colo_input_ring *ring)
{
	struct colo_config *c = config_get();
	__u64 count = ring->next - ring->first;

	return count >= COLO_INPUTS || (c && count >= c->max_frames / 4);
}

/* Under the lock. */
static __always_inline int input_append(struct __sk_buff *ctx, struct colo_input_ring *ring,
					__u64 epoch)
{
	struct colo_input *in = input_at(ring->next);
	struct colo_frame *fr;
	__u32 idx;

	if (!in || input_is_full(ring))
		return 0;
	idx = frame_take(ctx, COLO_FRAME_I, epoch, bpf_ktime_get_ns());
	fr = frame_at(idx);
	if (!fr)
		return 0;
	/* any 16 bits will do to tell */
	if (ctx_csum_is_partial(ctx, 0))
		fr->flags |= COLO_FR_PARTIAL;
	in->frame = idx;
	ring->next++;
	return 1;
}

/*
 * Keep the packet that scratch.pkt describes, whose tag says `epoch`, if it is
 * for a life to come, or for this one but others before it are not given yet.
 * One for this life that is late, others for the next have come before it, is
 * not kept: the next has it with its state. Returns whether it is kept.
 */
__noinline int input_keep(struct __sk_buff *ctx, __u64 epoch, __u64 life)
{
	struct colo_input_ring *ring = ZERO_KEY(input_ring);
	int kept = 0, due = 1;

	if (!ring || (epoch <= life && input_is_empty(ring)))
		return 0;
	if (word_lock(&ring->lock)) {
		due = epoch > life || input_is_given(ring, life);
		if (due)
			kept = input_append(ctx, ring, epoch);
		word_unlock(&ring->lock);
	}
	if (due && !kept)
		COUNT(rw_in_unkept);
	return kept;
}

/* As it came, but for a checksum that was left to the device. */
static __always_inline int input_send(struct __sk_buff *ctx, __u32 idx, __u32 guest)
{
	struct colo_frame *fr = frame_at(idx);
	struct scratch *s = scratch_get();
	int how = guest << HOW_IFINDEX;

	if (!s || !fr)
		return -1;
	if (fr->flags & COLO_FR_TCP && (fr->gso_size || fr->flags & COLO_FR_PARTIAL))
		return emit_range(ctx, idx, fr->seq, fr->end, how);
	if (fr->flags & COLO_FR_PARTIAL) {
		if (datagram_headers(idx, how))
			return -1;
	} else {
		__builtin_memcpy(s->out, fr->hdr, COLO_HDR_MAX);
	}
	return out_send(ctx, idx, 0, fr->data_len, how);
}

struct replay {
	struct __sk_buff *ctx;
	__u32 guest; /* 0: forget them */
	__u32 sent;
	__u32 left;
};

static long replay_step(__u32 step __unused, void *arg)
{
	struct colo_input_ring *ring = ZERO_KEY(input_ring);
	struct replay *r = arg;
	struct colo_input *in;

	if (!ring || ring->first == ring->next)
		return 1;
	in = input_at(ring->first);
	if (!in)
		return 1;
	if (r->guest && !input_send(r->ctx, in->frame, r->guest)) {
		COUNT(rw_in_replayed);
		r->sent++;
	}
	frame_give(in->frame);
	ring->first++;
	r->left = ring->first != ring->next;
	return 0;
}

/*
 * Give the guest what is kept, or forget it; some at a time, for whoever has a
 * frame to keep waits meanwhile.
 */
static __always_inline __u32 replay(struct __sk_buff *ctx, __u32 guest)
{
	struct colo_input_ring *ring = ZERO_KEY(input_ring);
	struct replay r = {.ctx = ctx, .guest = guest};

	if (!ring)
		return 0;
	if (!word_lock(&ring->lock))
		return COLO_CONTROL_AGAIN;
	bpf_loop(REPLAY_BATCH, replay_step, &r, 0);
	word_unlock(&ring->lock);
	return r.sent | (r.left ? COLO_CONTROL_AGAIN : 0);
}

#endif
