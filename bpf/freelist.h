/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is free: records, and small and big blocks of the pool. Each list is a
 * stack, whose lock all CPUs share; before those of records and of small blocks
 * each CPU has a magazine, which serves as long as it gives back as much as it
 * takes.
 *
 * A magazine is its CPU's, but when a stack is empty its last ones are taken from
 * whoever has them: a pool is full only when all of it is in use. So it has a
 * word that says busy, too, for which nobody waits.
 */
#ifndef COLO_BPF_FREELIST_H
#define COLO_BPF_FREELIST_H

#include "maps.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COLO_MAGAZINES);
	__type(key, __u32);
	__type(value, struct colo_magazine);
} magazines SEC(".maps");

static __always_inline struct colo_magazine *magazine_of(__u32 cpu, __u32 list)
{
	__u32 key = cpu * COLO_MAGAZINES + list;

	return bpf_map_lookup_elem(&magazines, &key);
}

static __always_inline int magazine_enter(struct colo_magazine *m)
{
	return !*(volatile __u32 *)&m->busy && !__sync_lock_test_and_set(&m->busy, 1);
}

static __always_inline void magazine_leave(struct colo_magazine *m)
{
	__sync_lock_test_and_set(&m->busy, 0);
}

static __always_inline __u32 magazine_take(struct colo_magazine *m)
{
	__u32 n, value = COLO_NONE;

	if (!*(volatile __u32 *)&m->count || !magazine_enter(m))
		return COLO_NONE;
	n = *(volatile __u32 *)&m->count - 1;
	if (n < COLO_MAGAZINE) {
		value = m->value[n];
		m->count = n;
	}
	magazine_leave(m);
	return value;
}

static __always_inline int magazine_give(struct colo_magazine *m, __u32 value)
{
	__u32 n;
	int given;

	if (*(volatile __u32 *)&m->count >= m->depth || !magazine_enter(m))
		return 0;
	n = *(volatile __u32 *)&m->count;
	given = n < m->depth && n < COLO_MAGAZINE;
	if (given) {
		m->value[n] = value;
		m->count = n + 1;
	}
	magazine_leave(m);
	return given;
}

struct steal {
	__u32 list;
	__u32 value;
};

static long steal_step(__u32 cpu, void *arg)
{
	struct steal *s = arg;
	struct colo_magazine *m = magazine_of(cpu, s->list);

	if (!m)
		return 1; /* that was the last */
	s->value = magazine_take(m);
	return s->value != COLO_NONE;
}

/* COLO_NONE: there is none. */
__noinline __u32 list_take(__u32 list)
{
	struct colo_magazine *m = magazine_of(bpf_get_smp_processor_id(), list);
	struct steal s = {.list = list, .value = COLO_NONE};

	if (m)
		s.value = magazine_take(m);
	if (s.value != COLO_NONE)
		return s.value;
	if (list == COLO_LIST_FRAMES ? !bpf_map_pop_elem(&free_frames, &s.value) :
				       !bpf_map_pop_elem(&free_small, &s.value))
		return s.value;
	s.value = COLO_NONE;
	bpf_loop(COLO_CPUS_MAX, steal_step, &s, 0);
	return s.value;
}

__noinline int list_give(__u32 list, __u32 value)
{
	struct colo_magazine *m = magazine_of(bpf_get_smp_processor_id(), list);

	if (m && magazine_give(m, value))
		return 0;
	return list == COLO_LIST_FRAMES ? bpf_map_push_elem(&free_frames, &value, 0) :
					  bpf_map_push_elem(&free_small, &value, 0);
}

#endif
