/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the daemon wants done: one entry of `control_work` a run. BPF_PROG_RUN
 * costs more than most of what it is for, so it repeats the program on one
 * packet, whose content is lost when it carries a frame; its cb[] is not.
 */
#ifndef COLO_BPF_CONTROL_H
#define COLO_BPF_CONTROL_H

#include "maps.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COLO_WORK_MAX);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct colo_control);
} control_work SEC(".maps");

/* The entry of this run, in scratch.control; NULL: there is none, or it has to wait. */
static __always_inline struct colo_control *control_next(struct __sk_buff *ctx,
							 struct scratch *s)
{
	__u32 at = ctx->cb[0];
	struct colo_control *work = bpf_map_lookup_elem(&control_work, &at), *before;

	if (!work)
		return NULL;
	ctx->cb[0] = at + 1;
	if (work->in_order && at) {
		at--;
		before = bpf_map_lookup_elem(&control_work, &at);
		if (!before || before->result & COLO_CONTROL_AGAIN)
			return NULL;
	}
	s->control = *work;
	return &s->control;
}

static __always_inline __u32 control_done(struct __sk_buff *ctx, __u32 result)
{
	__u32 at = ctx->cb[0] - 1;
	struct colo_control *work = bpf_map_lookup_elem(&control_work, &at);

	if (work)
		work->result = result;
	return result;
}

#endif
