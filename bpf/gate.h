/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The cut in the input (rule 16). A guest that stops for a checkpoint has read
 * some of what its tap was given. QEMU takes the rest out of the tap up to a
 * mark, a frame that the daemon has put there, and sends it to the secondary
 * with the state; what the tap is given behind the mark has another epoch in
 * its tag, and the secondary keeps it for its guest's new life.
 *
 * So the tag of each frame must agree with its place before or behind the mark,
 * whichever CPU it comes on. A program puts a frame into the tap only inside
 * the gate; whoever sets the mark shuts the gate and waits until nobody is
 * inside. That costs two exchanges a frame on a cache line of the CPU's own; a
 * lock would make one CPU of all.
 */
#ifndef COLO_BPF_GATE_H
#define COLO_BPF_GATE_H

#include "ctx.h"
#include "lock.h"

/* By CPU; the loader sets how many there are. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct colo_gate);
} gates SEC(".maps");

#define GATE_SPINS (1 << 20) /* some milliseconds */
#define MARK_LEN   60        /* as long as an Ethernet frame must be */
#define MARK_AT    ETH_LEN

static __always_inline struct colo_gate *gate_of(__u32 cpu)
{
	return bpf_map_lookup_elem(&gates, &cpu);
}

static __always_inline int gate_is_shut(struct colo_session *ses)
{
	return *(volatile __u32 *)&ses->gate_shut;
}

static long gate_wait_step(__u32 step __unused, void *arg)
{
	struct colo_session **ses = arg;

	return !gate_is_shut(*ses);
}

/* The exchange is the barrier between what this CPU says and what it sees. */
static __always_inline int gate_try(struct colo_gate *g, struct colo_session *ses)
{
	__sync_lock_test_and_set(&g->inside, 1);
	if (!gate_is_shut(ses))
		return 1;
	__sync_lock_test_and_set(&g->inside, 0);
	return 0;
}

/* 0: it did not open in time, which is counted; the packet is dropped. */
static __always_inline int gate_enter(struct colo_session *ses)
{
	struct colo_gate *g = gate_of(bpf_get_smp_processor_id());

	if (!g)
		return 0;
	if (gate_try(g, ses))
		return 1;
	bpf_loop(GATE_SPINS, gate_wait_step, &ses, 0);
	if (gate_try(g, ses))
		return 1;
	COUNT(lock_failed);
	return 0;
}

static __always_inline void gate_leave(void)
{
	struct colo_gate *g = gate_of(bpf_get_smp_processor_id());

	if (g)
		__sync_lock_test_and_set(&g->inside, 0);
}

/* The count is in the map, where the verifier does not follow it. */
static long gate_empty_step(__u32 step __unused, void *arg)
{
	struct colo_session **ses = arg;
	struct colo_gate *g = gate_of((*ses)->gate_empty);

	if (!g)
		return 1; /* that was the last */
	if (!*(volatile __u32 *)&g->inside)
		(*ses)->gate_empty++;
	return 0;
}

static __always_inline void gate_open(struct colo_session *ses)
{
	__sync_lock_test_and_set(&ses->gate_shut, 0);
}

/* 0: somebody stays inside, and it is open again. */
static __always_inline int gate_shut(struct colo_session *ses)
{
	ses->gate_empty = 0;
	__sync_lock_test_and_set(&ses->gate_shut, 1);
	bpf_loop(GATE_SPINS, gate_empty_step, &ses, 0);
	if (!gate_of(ses->gate_empty))
		return 1;
	gate_open(ses);
	COUNT(lock_failed);
	return 0;
}

/* The frame that QEMU looks for: see x-colo-proxy-ack in its documentation. */
static __always_inline int mark_send(struct __sk_buff *ctx, struct scratch *s, __u64 mark,
				     __u32 guest)
{
	static const __u8 head[ETH_LEN] = {0x02, 'c', 'o', 'l', 'o', 2,    0x02,
					   'c',  'o', 'l', 'o', 1,   0x88, 0xb5};

	if (bpf_skb_change_tail(ctx, MARK_LEN, 0))
		return -1;
	__builtin_memset(s->out, 0, MARK_LEN);
	__builtin_memcpy(s->out, head, ETH_LEN);
	mark = bpf_cpu_to_be64(mark);
	__builtin_memcpy(s->out + MARK_AT, &mark, sizeof(mark));
	return ctx_store(ctx, 0, s->out, MARK_LEN) || ctx_send_copy(ctx, guest);
}

/*
 * From here on the input is that of scratch.control.epoch, and the mark says so
 * in the tap. A secondary opens the epoch with it: its guest begins a new life.
 */
static __always_inline __u32 gate_mark(struct __sk_buff *ctx, struct colo_session *ses,
				       struct scratch *s, __u32 guest, int opens)
{
	struct colo_control *op = &s->control;
	__u64 epoch = op->epoch, mark = op->mark;

	if (!gate_shut(ses))
		return COLO_CONTROL_AGAIN;
	ses->input_epoch = epoch;
	ses->input_mark = mark;
	if (opens) {
		ses->commit_ns = bpf_ktime_get_ns();
		ses->epoch = epoch;
	}
	if (mark_send(ctx, s, mark, guest))
		COUNT(mark_failed);
	gate_open(ses);
	return 0;
}

#endif
