// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>

#include <linux/bpf.h>

#include <bpf/bpf.h>

#include "work.h"

#define IDLE_MAX 1000   /* runs without any progress: locks are not taken for that long */
#define RUNS_MAX 100000 /* for the loop's sake */

/* The first `count` entries. What a signal has kept from being run says AGAIN. */
static int run(struct datapath *dp, __u32 count)
{
	unsigned char packet[COLO_CONTROL_LEN] = {};
	struct __sk_buff context = {};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet, .data_size_in = sizeof(packet),
		    .ctx_in = &context, .ctx_size_in = sizeof(context), .repeat = (int)count);
	int err;

	for (__u32 i = 0; i < count; i++)
		dp->work[i].result = COLO_CONTROL_AGAIN;
	err = bpf_prog_test_run_opts(dp->prog_fd[PROG_CONTROL], &opts);
	return err == -EINTR ? 0 : err;
}

int work_once(struct datapath *dp, const struct colo_control *control)
{
	int err;

	dp->work[0] = *control;
	err = run(dp, 1);
	return err ? err : (int)dp->work[0].result;
}

/* Those that are not done move to the front; *progress: frames were ended. */
static __u32 keep_undone(struct datapath *dp, __u32 count, bool *progress)
{
	__u32 undone = 0;

	*progress = false;
	for (__u32 i = 0; i < count; i++) {
		__u32 result = dp->work[i].result;

		if (result != COLO_CONTROL_AGAIN)
			*progress = true;
		if (result & COLO_CONTROL_AGAIN)
			dp->work[undone++] = dp->work[i];
	}
	return undone;
}

int work_finish(struct work *work)
{
	int idle = 0, err = 0;
	bool progress;

	for (int i = 0; work->count && !err; i++) {
		err = run(work->dp, work->count);
		if (err)
			break;
		work->count = keep_undone(work->dp, work->count, &progress);
		idle = progress ? 0 : idle + 1;
		if (idle > IDLE_MAX || i > RUNS_MAX)
			err = -EBUSY;
	}
	work->count = 0;
	if (!work->error)
		work->error = err;
	return work->error;
}

void work_add(struct work *work, const struct colo_flow_key *key, __u64 until_ns)
{
	struct colo_control *to = &work->dp->work[work->count++];

	memset(to, 0, sizeof(*to));
	to->op = work->op;
	to->epoch = work->dp->session->epoch;
	to->key = *key;
	to->until_ns = until_ns;
	to->in_order = work->in_order;
	if (work->count == COLO_WORK_MAX)
		work_finish(work);
}
