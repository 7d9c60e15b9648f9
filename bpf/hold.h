/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Held frames: records, blocks of the pool, and the queues of a flow. All of
 * it runs under the flow's lock.
 */
#ifndef COLO_BPF_HOLD_H
#define COLO_BPF_HOLD_H

#include "event.h"
#include "freelist.h"
#include "parse.h"

#define CHUNK 4096 /* bytes that are copied at a time */

static __always_inline struct colo_frame *frame_at(__u32 idx)
{
	return bpf_map_lookup_elem(&frames, &idx);
}

static __always_inline void frame_state(struct colo_frame *fr, __u32 idx, __u32 state)
{
	struct colo_frame_mark *mark = bpf_map_lookup_elem(&frame_marks, &idx);
	struct colo_session *ses = session_get();
	__u64 bit, before;

	if (state != COLO_FRAME_FREE && ses) {
		bit = 1ULL << (idx >> ses->frame_shift & 63);
		/* before the state: whoever sees that looks at it */
		if (!(ses->frames_used & bit)) {
			before = __sync_fetch_and_or(&ses->frames_used, bit);
			asm volatile("" ::"r"(before)); /* one that is asked for is in order */
		}
	}
	fr->state = state;
	if (mark)
		mark->state = state;
}

#define POOL_SHIFT     16
#define POOL_BYTE(off) ((off) & (COLO_BIG_SIZE - 1))

/* The entry of the pool that an offset lies in. */
static __always_inline __u8 *pool_entry(__u32 off)
{
	__u32 entry = off >> POOL_SHIFT;

	return bpf_map_lookup_elem(&pool, &entry);
}

/* The pool at an offset; the slack behind the entry lets CHUNK bytes follow. */
static __always_inline __u8 *pool_at(__u32 off)
{
	__u8 *entry = pool_entry(off);

	return entry ? entry + POOL_BYTE(off) : NULL;
}

static __always_inline __u32 block_take(__u32 len)
{
	__u32 off = COLO_NONE;

	if (len <= COLO_SMALL_SIZE)
		off = list_take(COLO_LIST_SMALL);
	if (off != COLO_NONE)
		return off;
	if (len <= COLO_BIG_SIZE && !bpf_map_pop_elem(&free_big, &off))
		return off;
	return COLO_NONE;
}

static __always_inline void block_give(__u32 off)
{
	struct colo_config *c = config_get();

	if (!c)
		return;
	if (off >> POOL_SHIFT < COLO_SMALL_ENTRIES(c->small_blocks))
		list_give(COLO_LIST_SMALL, off);
	else
		bpf_map_push_elem(&free_big, &off, 0);
}

/*
 * Copy len bytes of the packet into the pool: whole chunks, then the rest. The
 * two are apart for the verifier, which else follows each length at each step.
 */
__noinline int pool_load(struct ctx_buff *ctx, __u32 from, __u32 to, __u32 len)
{
	__u8 *at;
	int i;

	for (i = 0; i < COLO_BIG_SIZE / CHUNK; i++) {
		if (len < CHUNK)
			break;
		at = pool_at(to);
		if (!at || ctx_load(ctx, from, at, CHUNK))
			return -1;
		from += CHUNK;
		to += CHUNK;
		len -= CHUNK;
	}
	if (!len)
		return 0;
	if (len >= CHUNK)
		return -1;
	at = pool_at(to);
	BOUND(len, CHUNK - 1);
	return at ? ctx_load(ctx, from, at, len) : -1;
}

/* Copy len bytes of the pool into the packet. */
__noinline int pool_store(struct ctx_buff *ctx, __u32 to, __u32 from, __u32 len)
{
	__u8 *at;
	int i;

	for (i = 0; i < COLO_BIG_SIZE / CHUNK; i++) {
		if (len < CHUNK)
			break;
		at = pool_at(from);
		if (!at || ctx_store(ctx, to, at, CHUNK))
			return -1;
		from += CHUNK;
		to += CHUNK;
		len -= CHUNK;
	}
	if (!len)
		return 0;
	if (len >= CHUNK)
		return -1;
	at = pool_at(from);
	BOUND(len, CHUNK - 1);
	return at ? ctx_store(ctx, to, at, len) : -1;
}

__noinline int frame_give(__u32 idx)
{
	struct colo_frame *fr = frame_at(idx);

	if (!fr)
		return 0;
	if (fr->data_off != COLO_NONE)
		block_give(fr->data_off);
	frame_state(fr, idx, COLO_FRAME_FREE);
	fr->data_off = COLO_NONE;
	list_give(COLO_LIST_FRAMES, idx);
	COUNT(frames_given);
	return 0;
}

/* All that a record says of a packet, but for its copy of the headers. */
static __always_inline void frame_fill(struct colo_frame *fr, const struct packet *p, __u64 now)
{
	fr->next = COLO_NONE;
	fr->prev = COLO_NONE;
	fr->held_ns = now;
	fr->flags = p->flags;
	fr->seq = p->seq;
	fr->end = p->end;
	fr->vouched = p->seq;
	fr->released = p->seq;
	fr->ack = p->ack;
	fr->window = p->window;
	fr->urg_ptr = p->urg_ptr;
	fr->data_len = p->data_len;
	fr->hdr_len = p->hdr_len;
	fr->l3_off = p->l3_off;
	fr->l4_off = p->l4_off;
	fr->gso_size = p->gso_size;
	fr->vlan_tci = p->vlan_tci;
	fr->vlan_proto = p->vlan_proto;
	fr->key = p->key;
}

/*
 * Keep the packet that scratch.pkt describes. Returns the record's index, or
 * COLO_NONE with nothing kept: no record, no block, or the packet unreadable.
 */
__noinline __u32 frame_take(struct ctx_buff *ctx, __u32 state, __u64 epoch, __u64 now)
{
	struct scratch *s = scratch_get();
	struct colo_frame *fr;
	__u32 idx, off = COLO_NONE;

	if (!s)
		return COLO_NONE;
	idx = list_take(COLO_LIST_FRAMES);
	if (idx == COLO_NONE)
		return COLO_NONE;
	COUNT(frames_taken);
	fr = frame_at(idx);
	if (!fr)
		return COLO_NONE;
	fr->data_off = COLO_NONE;
	if (s->pkt.data_len) {
		off = block_take(s->pkt.data_len);
		if (off == COLO_NONE || pool_load(ctx, s->pkt.data_off, off, s->pkt.data_len)) {
			fr->data_off = off;
			frame_give(idx);
			return COLO_NONE;
		}
	}
	frame_fill(fr, &s->pkt, now);
	__builtin_memcpy(fr->hdr, s->pkt.hdr, COLO_HDR_MAX);
	fr->data_off = off;
	fr->epoch = epoch;
	frame_state(fr, idx, state);
	return idx;
}

static __always_inline void queue_init(struct colo_queue *q)
{
	q->head = COLO_NONE;
	q->tail = COLO_NONE;
	q->count = 0;
}

/* Insert behind the record `after`, COLO_NONE: at the head. */
static __always_inline void queue_insert(struct colo_queue *q, __u32 idx, __u32 after)
{
	struct colo_frame *fr = frame_at(idx), *a, *b;
	__u32 before = q->head;

	if (!fr)
		return;
	a = frame_at(after);
	if (a)
		before = a->next;
	b = frame_at(before);
	fr->prev = after;
	fr->next = before;
	if (a)
		a->next = idx;
	else
		q->head = idx;
	if (b)
		b->prev = idx;
	else
		q->tail = idx;
	q->count++;
}

static __always_inline void queue_append(struct colo_queue *q, __u32 idx)
{
	queue_insert(q, idx, q->tail);
}

static __always_inline void queue_remove(struct colo_queue *q, __u32 idx)
{
	struct colo_frame *fr = frame_at(idx), *a, *b;

	if (!fr)
		return;
	a = frame_at(fr->prev);
	b = frame_at(fr->next);
	if (a)
		a->next = fr->next;
	else
		q->head = fr->next;
	if (b)
		b->prev = fr->prev;
	else
		q->tail = fr->prev;
	q->count--;
}

/* The queue of two whose first frame came first; it may be empty. */
static __always_inline struct colo_queue *older_queue(struct colo_queue *a,
						      struct colo_queue *b)
{
	struct colo_frame *x = frame_at(a->head), *y = frame_at(b->head);

	return !x || (y && y->held_ns < x->held_ns) ? b : a;
}

#endif
