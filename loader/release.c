// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <stdbool.h>

#include <sys/random.h>

#include <bpf/bpf.h>

#include "link.h"
#include "log.h"
#include "release.h"

#define MS            1000000ULL
#define SCAN_MAX_NS   (1000 * MS) /* lost events are found by then */
#define OVERDUE_NS    (100 * MS)  /* how often what is overdue is looked at */
#define SWEEP_NS      (1000 * MS) /* how often idle flows are looked for */
#define SWEEP_BATCH   512
#define SWEEP_BATCHES 64 /* at most, a sweep */
#define ALL_EPOCHS    (~0ULL)
#define ROUNDS_MAX    20     /* through all flows, for those whose lock was taken */
#define AGAIN_MAX     100000 /* runs on one flow, for the loop's sake */

static __u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* ------------------------------------------------------------- control --- */

/* Frames ended, COLO_CONTROL_AGAIN added if more are left, or -errno. */
static int control_once(struct datapath *dp, const struct colo_control *control)
{
	unsigned char packet[COLO_CONTROL_LEN] = {};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet, .data_size_in = sizeof(packet),
		    .repeat = 1);
	int err;

	memcpy(packet, control, sizeof(*control));
	err = bpf_prog_test_run_opts(dp->prog_fd[PROG_CONTROL], &opts);
	return err ? err : (int)opts.retval;
}

/* Until nothing is left to do on this flow. Frames ended, or -errno. */
static int control_flow(struct datapath *dp, enum colo_control_op op,
			const struct colo_flow_key *key)
{
	struct colo_control control = {
		.op = op,
		.epoch = dp->session->epoch,
		.key = *key,
	};
	int ended = 0, idle = 0, result;

	for (int i = 0; i < AGAIN_MAX; i++) {
		result = control_once(dp, &control);
		if (result < 0)
			return result;
		ended += result & ~COLO_CONTROL_AGAIN;
		if (!(result & COLO_CONTROL_AGAIN))
			return ended;
		/* Its lock may be taken; not for that long. */
		idle = result == COLO_CONTROL_AGAIN ? idle + 1 : 0;
		if (idle > 1000)
			break;
	}
	return -EBUSY;
}

/* --------------------------------------------------------------- flows --- */

/* A flow that has frames. */
struct waiting {
	struct colo_flow_key key;
	__u64 oldest_ns;
	bool primary; /* frames of P, of S */
	bool secondary;
};

struct waiting_list {
	struct waiting *flow;
	__u32 count;
};

/* Input that is kept waits for nothing. */
static bool is_waiting(enum colo_frame_state state)
{
	return state != COLO_FRAME_FREE && state != COLO_FRAME_I;
}

static int by_key(const void *a, const void *b)
{
	const struct waiting *x = a, *y = b;

	return memcmp(&x->key, &y->key, sizeof(x->key));
}

static int by_age(const void *a, const void *b)
{
	const struct waiting *x = a, *y = b;

	return (x->oldest_ns > y->oldest_ns) - (x->oldest_ns < y->oldest_ns);
}

static void merge_flows(struct waiting_list *list)
{
	__u32 last = 0;

	if (!list->count)
		return;
	qsort(list->flow, list->count, sizeof(*list->flow), by_key);
	for (__u32 i = 1; i < list->count; i++) {
		struct waiting *to = &list->flow[last], *from = &list->flow[i];

		if (by_key(to, from)) {
			list->flow[++last] = *from;
			continue;
		}
		if (from->oldest_ns < to->oldest_ns)
			to->oldest_ns = from->oldest_ns;
		to->primary |= from->primary;
		to->secondary |= from->secondary;
	}
	list->count = last + 1;
	qsort(list->flow, list->count, sizeof(*list->flow), by_age);
}

/*
 * The flows that have frames of epochs before `below`, the one with the oldest
 * frame first. The records
 * are read while the programs change them: a key may be that of a frame which
 * has just left, which `control` sees under the flow's lock.
 */
static int find_flows(struct datapath *dp, __u64 below, struct waiting_list *list)
{
	__u32 count = 0;

	list->count = 0;
	list->flow = NULL;
	for (__u32 i = 0; i < dp->max_frames; i++)
		count += is_waiting(dp->frames[i].state);
	if (!count)
		return 0;
	/* Some more may have come since. */
	count += 64;
	list->flow = malloc(count * sizeof(*list->flow));
	if (!list->flow)
		return -ENOMEM;
	for (__u32 i = 0; i < dp->max_frames && list->count < count; i++) {
		const volatile struct colo_frame *frame = &dp->frames[i];
		struct waiting *flow = &list->flow[list->count];
		enum colo_frame_state state = frame->state;

		if (!is_waiting(state) || frame->epoch >= below)
			continue;
		/* A client's frame is of no epoch (rule 16). */
		if (below != ALL_EPOCHS && state == COLO_FRAME_C)
			continue;
		memcpy(&flow->key, (const void *)&frame->key, sizeof(flow->key));
		flow->oldest_ns = frame->held_ns;
		flow->primary = state == COLO_FRAME_P;
		flow->secondary = state == COLO_FRAME_S;
		list->count++;
	}
	merge_flows(list);
	return 0;
}

/*
 * `op` on every flow that has frames. A program that did not get a flow's lock
 * in time leaves the flow as it was: all with frames of epochs before `below`
 * are looked at again. 0, or the first error.
 */
static int control_all(struct datapath *dp, enum colo_control_op op, __u64 below)
{
	struct waiting_list list;
	int err = 0;

	for (int round = 0; round < ROUNDS_MAX; round++) {
		err = find_flows(dp, round ? below : ALL_EPOCHS, &list);
		for (__u32 i = 0; i < list.count; i++) {
			int result = control_flow(dp, op, &list.flow[i].key);

			if (result < 0 && !err)
				err = result;
		}
		free(list.flow);
		if (!list.count || err)
			return err;
	}
	return -EBUSY;
}

/* ------------------------------------------------------------ the ends --- */

static void open_epoch(struct datapath *dp, __u64 epoch)
{
	dp->session->commit_ns = now_ns();
	/* One store: a program sees the old epoch or the new one. */
	__atomic_store_n(&dp->session->epoch, epoch, __ATOMIC_SEQ_CST);
}

/* The epoch opens for output, and for input where no mark has opened it before. */
static void open_both(struct datapath *dp, __u64 epoch)
{
	open_epoch(dp, epoch);
	if (dp->session->input_epoch >= epoch)
		return;
	dp->session->input_mark = 0;
	dp->session->input_epoch = epoch;
}

int release_request(struct datapath *dp, enum colo_reason reason)
{
	struct colo_control control = {
		.op = COLO_CONTROL_REQUEST,
		.reason = reason,
	};

	return control_once(dp, &control);
}

/* Nobody outside can make frames of one digest. */
static int new_digest_key(struct datapath *dp)
{
	struct colo_digest_key *key;
	__u32 zero = 0;
	int err;

	if (dp->abi.role != COLO_ROLE_PRIMARY)
		return 0;
	key = malloc(sizeof(*key));
	if (!key)
		return -ENOMEM;
	for (size_t done = 0; done < sizeof(*key);) {
		ssize_t got = getrandom((char *)key + done, sizeof(*key) - done, 0);

		if (got > 0)
			done += got;
	}
	err = bpf_map_update_elem(dp->map_fd[MAP_DIGEST_KEY], &zero, key, 0);
	free(key);
	return err;
}

int release_start(struct datapath *dp, __u64 epoch)
{
	int err;

	err = release_discard(dp);
	if (!err)
		err = datapath_clear_flows(dp);
	if (err)
		return err;
	err = new_digest_key(dp);
	if (!err)
		err = link_start(dp);
	if (err)
		return err;
	memset(&dp->watch, 0, sizeof(dp->watch));
	dp->session->request_epoch = 0;
	dp->session->request_reason = COLO_REASON_NONE;
	dp->session->gate_shut = 0;
	dp->session->input_epoch = 0;
	open_both(dp, epoch);
	dp->session->mode = dp->abi.role == COLO_ROLE_PRIMARY ? COLO_MODE_PRIMARY :
								COLO_MODE_SECONDARY;
	return 0;
}

int release_commit(struct datapath *dp, __u64 epoch)
{
	if (dp->session->epoch <= epoch)
		open_both(dp, epoch + 1);
	return control_all(dp, COLO_CONTROL_COMMIT, epoch + 1);
}

/* Run until it has nothing more to do. */
static int control_whole(struct datapath *dp, const struct colo_control *control)
{
	int result, idle = 0;

	do {
		result = control_once(dp, control);
		if (result < 0)
			return result;
		idle = result == COLO_CONTROL_AGAIN ? idle + 1 : 0;
	} while (result & COLO_CONTROL_AGAIN && idle < ROUNDS_MAX);
	return result & COLO_CONTROL_AGAIN ? -EBUSY : 0;
}

/* No client can guess it. */
static int new_mark(__u64 *mark)
{
	do {
		if (getrandom(mark, sizeof(*mark), 0) != sizeof(*mark))
			return -errno;
		*mark >>= 1; /* JSON's integers are signed */
	} while (!*mark);
	return 0;
}

/* A daemon that was restarted finds its work done. */
static int mark_input(struct datapath *dp, __u64 epoch, __u64 *mark)
{
	struct colo_control control = {
		.op = COLO_CONTROL_MARK,
		.epoch = epoch,
	};
	int err = 0;

	if (dp->session->input_epoch < epoch) {
		err = new_mark(&control.mark);
		if (!err)
			err = control_whole(dp, &control);
	}
	*mark = dp->session->input_mark;
	return err;
}

int release_stop(struct datapath *dp, __u64 epoch, __u64 *mark)
{
	return mark_input(dp, epoch + 1, mark);
}

static int input_end(struct datapath *dp, enum colo_control_op op)
{
	struct colo_control control = {.op = op};

	return dp->abi.role == COLO_ROLE_SECONDARY ? control_whole(dp, &control) : 0;
}

int release_reset(struct datapath *dp, __u64 epoch, __u64 *mark)
{
	int err = 0, late;

	if (mark)
		err = mark_input(dp, epoch + 1, mark);
	if (!err)
		err = release_commit(dp, epoch);
	late = input_end(dp, mark ? COLO_CONTROL_REPLAY : COLO_CONTROL_FORGET);
	return err ? err : late;
}

int release_failover(struct datapath *dp)
{
	int err, late;

	err = control_all(dp, COLO_CONTROL_FAILOVER, ALL_EPOCHS);
	dp->session->mode = dp->abi.role == COLO_ROLE_PRIMARY ? COLO_MODE_WIRE :
								COLO_MODE_ACTIVE;
	/* What came between the two. */
	late = control_all(dp, COLO_CONTROL_FAILOVER, ALL_EPOCHS);
	if (!late)
		late = input_end(dp, COLO_CONTROL_FORGET);
	return err ? err : late;
}

int release_discard(struct datapath *dp)
{
	int err;

	dp->session->mode = COLO_MODE_SHUT;
	err = control_all(dp, COLO_CONTROL_DISCARD, ALL_EPOCHS);
	return err ? err : input_end(dp, COLO_CONTROL_FORGET);
}

/* --------------------------------------------------------------- timers --- */

static __u64 timeout_ns(const struct datapath *dp)
{
	return dp->config->compare_timeout_ms * MS;
}

static __u64 earlier(__u64 a, __u64 b)
{
	return a < b ? a : b;
}

static int flow_flags(struct datapath *dp, const struct colo_flow_key *key, __u32 *flags)
{
	union {
		struct colo_flow flow;
		struct colo_rewrite rewrite;
	} value;
	int err = bpf_map_lookup_elem(dp->map_fd[MAP_FLOWS], key, &value);

	if (!err)
		*flags = value.flow.flags;
	return err;
}

/* One flow that has frames: is it overdue, or was an event for it lost? */
static int scan_flow(struct datapath *dp, const struct waiting *flow, __u64 now, __u64 *next_ns)
{
	__u64 due = flow->oldest_ns + timeout_ns(dp);
	__u64 reorder = dp->config->reorder_ms * MS;
	int err = 0;
	__u32 flags;

	if (now >= due) {
		*next_ns = earlier(*next_ns, now + OVERDUE_NS);
		return control_flow(dp, COLO_CONTROL_TIMEOUT, &flow->key);
	}
	*next_ns = earlier(*next_ns, due);
	if (dp->abi.role != COLO_ROLE_PRIMARY || flow_flags(dp, &flow->key, &flags))
		return 0;
	if (flags & COLO_F_PENDING)
		err = control_flow(dp, COLO_CONTROL_RELEASE, &flow->key);
	if (err >= 0 && (flags & COLO_F_WATCH) && now >= flow->oldest_ns + reorder)
		err = control_flow(dp, COLO_CONTROL_TIMEOUT, &flow->key);
	return err;
}

static int scan_frames(struct datapath *dp, __u64 now)
{
	__u64 next = now + earlier(timeout_ns(dp), SCAN_MAX_NS);
	struct waiting_list list;
	int err = find_flows(dp, ALL_EPOCHS, &list);

	for (__u32 i = 0; i < list.count; i++) {
		int result = scan_flow(dp, &list.flow[i], now, &next);

		if (result < 0 && !err)
			err = result;
	}
	free(list.flow);
	dp->watch.scan_ns = next > now + MS ? next : now + MS;
	return err;
}

/* Flows that the ring buffer asked to look at after reorder_ms. */
static int check_watched(struct datapath *dp, __u64 now)
{
	struct datapath_watch *watch = &dp->watch;
	int err = 0;

	for (__u32 i = 0; i < watch->count;) {
		int result;

		if (watch->flow[i].due_ns > now) {
			i++;
			continue;
		}
		result = control_flow(dp, COLO_CONTROL_TIMEOUT, &watch->flow[i].key);
		if (result < 0 && !err)
			err = result;
		watch->flow[i] = watch->flow[--watch->count];
	}
	return err;
}

/* Does a flow look as if it could go? The program decides. */
static bool looks_idle(const struct datapath *dp, __u32 flags, __u64 seen_ns, __u64 now)
{
	bool primary = dp->abi.role == COLO_ROLE_PRIMARY;
	__u32 rst = primary ? COLO_F_RST : COLO_RW_RST;
	__u32 fins = primary ? COLO_F_P_FIN : COLO_RW_G_FIN | COLO_RW_C_FIN;
	bool closed = (flags & rst) || (flags & fins) == fins;

	return now >
	       seen_ns + MS * (closed ? dp->config->flow_grace_ms : dp->config->flow_idle_ms);
}

static int sweep_value(struct datapath *dp, const struct colo_flow_key *key, const void *value,
		       __u64 now)
{
	const struct colo_rewrite *rewrite = value;
	const struct colo_flow *flow = value;
	bool idle;

	if (dp->abi.role == COLO_ROLE_PRIMARY)
		idle = looks_idle(dp, flow->flags, flow->seen_ns, now);
	else
		idle = looks_idle(dp, rewrite->flags, rewrite->seen_ns, now);
	return idle ? control_flow(dp, COLO_CONTROL_RECLAIM, key) : 0;
}

/*
 * Look through the flows for idle ones, some thousands at a time; the next
 * sweep goes on where this one ended.
 */
static int sweep_flows(struct datapath *dp, __u64 now)
{
	const size_t size = dp->abi.role == COLO_ROLE_PRIMARY ? sizeof(struct colo_flow) :
								sizeof(struct colo_rewrite);
	struct datapath_watch *watch = &dp->watch;
	struct colo_flow_key *keys = calloc(SWEEP_BATCH, sizeof(*keys));
	char *values = calloc(SWEEP_BATCH, size);
	int err = keys && values ? 0 : -ENOMEM;

	for (int batch = 0; !err && batch < SWEEP_BATCHES; batch++) {
		__u32 count = SWEEP_BATCH, next = 0;
		int result;

		result = bpf_map_lookup_batch(dp->map_fd[MAP_FLOWS],
					      watch->cursor_valid ? &watch->cursor : NULL,
					      &next, keys, values, &count, NULL);
		if (result && result != -ENOENT) {
			/* A bucket longer than the batch: begin anew. */
			watch->cursor_valid = false;
			err = result == -ENOSPC || result == -EINVAL ? 0 : result;
			break;
		}
		for (__u32 i = 0; i < count; i++)
			sweep_value(dp, &keys[i], values + i * size, now);
		watch->cursor = next;
		watch->cursor_valid = !result;
		if (result)
			break;
	}
	free(values);
	free(keys);
	watch->sweep_ns = now + SWEEP_NS;
	return err;
}

int release_tick(struct datapath *dp, __u64 now, __u64 *next_ns)
{
	struct datapath_watch *watch = &dp->watch;
	int err = 0, result;

	if (watch->count)
		err = check_watched(dp, now);
	if (now >= watch->scan_ns) {
		result = scan_frames(dp, now);
		err = err ? err : result;
	}
	if (now >= watch->sweep_ns) {
		result = sweep_flows(dp, now);
		err = err ? err : result;
	}
	if (now >= dp->link.next_ns) {
		result = link_tick(dp, now);
		err = err ? err : result;
	}
	*next_ns = earlier(earlier(watch->scan_ns, watch->sweep_ns), dp->link.next_ns);
	for (__u32 i = 0; i < watch->count; i++)
		*next_ns = earlier(*next_ns, watch->flow[i].due_ns);
	return err;
}

__u64 release_oldest(const struct datapath *dp)
{
	__u64 oldest = 0;

	for (__u32 i = 0; i < dp->max_frames; i++) {
		__u64 held = dp->frames[i].held_ns;

		if (dp->frames[i].state == COLO_FRAME_P && (!oldest || held < oldest))
			oldest = held;
	}
	return oldest;
}

int release_event(struct datapath *dp, const struct colo_event *event, __u64 *next_ns)
{
	struct datapath_watch *watch = &dp->watch;
	__u64 due = event->ns + dp->config->reorder_ms * MS;
	int result;

	switch (event->type) {
	case COLO_EVENT_RELEASE:
		result = control_flow(dp, COLO_CONTROL_RELEASE, &event->key);
		return result < 0 ? result : 0;
	case COLO_EVENT_WATCH:
		if (watch->count == DATAPATH_WATCH_MAX) {
			/* Found by its flag. */
			watch->scan_ns = earlier(watch->scan_ns, due);
		} else {
			watch->flow[watch->count].key = event->key;
			watch->flow[watch->count++].due_ns = due;
		}
		*next_ns = earlier(*next_ns, due);
		return 0;
	case COLO_EVENT_REQUEST:
		return 0;
	}
	return 0;
}
