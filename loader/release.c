// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <stdbool.h>

#include <sys/random.h>

#include <bpf/bpf.h>

#include "clock.h"
#include "link.h"
#include "log.h"
#include "release.h"
#include "sweep.h"
#include "work.h"

#define MS          1000000ULL
#define SCAN_MAX_NS (1000 * MS) /* lost events are found by then */
#define OVERDUE_NS  (100 * MS)  /* how often what is overdue is looked at */
#define KEPT_NS     (10 * MS)   /* ... whether the guest has acknowledged what it got */
#define KEPT_SHARE  8           /* ... but the pause is so much longer than the look */
#define ALL_EPOCHS  (~0ULL)
#define ROUNDS_MAX  20 /* through all flows, for those whose lock was taken */

/* --------------------------------------------------------------- flows --- */

/* A flow that has frames. */
struct waiting {
	struct colo_flow_key key;
	__u64 oldest_ns;
	bool primary; /* frames of P, of S, of a client */
	bool secondary;
	bool client;
};

struct waiting_list {
	struct waiting *flow;
	__u32 count;
};

enum which {
	WHICH_ALL,
	WHICH_UNREADY, /* all but those that wait for the lease only */
	WHICH_READY,   /* these */
};

/* Input that is kept waits for nothing. */
static bool is_waiting(const struct datapath *dp, __u32 i, enum which which)
{
	enum colo_frame_state state = dp->marks[i].state;

	if (state == COLO_FRAME_FREE || state == COLO_FRAME_I)
		return false;
	if (which == WHICH_ALL)
		return true;
	return (state == COLO_FRAME_P && dp->frames[i].flags & COLO_FR_READY) ==
	       (which == WHICH_READY);
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
		to->client |= from->client;
	}
	list->count = last + 1;
	qsort(list->flow, list->count, sizeof(*list->flow), by_age);
}

/*
 * The flows that have frames of epochs before `below`, the one with the oldest
 * frame first. The records are read while the programs change them: a key may
 * be that of a frame which has just left, which `control` sees under the flow's
 * lock.
 */
static int find_flows(struct datapath *dp, enum which which, __u64 below,
		      struct waiting_list *list)
{
	__u32 count = 0;

	list->count = 0;
	list->flow = NULL;
	for (__u32 i = datapath_frame(dp, 0); i < dp->max_frames; i = datapath_frame(dp, i + 1))
		count += is_waiting(dp, i, which);
	if (!count)
		return 0;
	/* Some more may have come since. */
	count += 64;
	list->flow = malloc(count * sizeof(*list->flow));
	if (!list->flow)
		return -ENOMEM;
	for (__u32 i = datapath_frame(dp, 0); i < dp->max_frames && list->count < count;
	     i = datapath_frame(dp, i + 1)) {
		const volatile struct colo_frame *frame = &dp->frames[i];
		struct waiting *flow = &list->flow[list->count];
		enum colo_frame_state state = dp->marks[i].state;

		if (!is_waiting(dp, i, which) || frame->epoch >= below)
			continue;
		/* A client's frame is of no epoch (rule 16). */
		if (below != ALL_EPOCHS && state == COLO_FRAME_C)
			continue;
		memcpy(&flow->key, (const void *)&frame->key, sizeof(flow->key));
		flow->oldest_ns = frame->held_ns;
		flow->primary = state == COLO_FRAME_P;
		flow->secondary = state == COLO_FRAME_S;
		flow->client = state == COLO_FRAME_C;
		list->count++;
	}
	merge_flows(list);
	return 0;
}

/* One step of several that are all done, whatever becomes of one: the first error counts. */
static int first_error(int before, int result)
{
	return before ? before : result;
}

static int work_on(struct work *work, struct waiting_list *list)
{
	for (__u32 i = 0; i < list->count; i++)
		work_add(work, &list->flow[i].key, 0);
	free(list->flow);
	return work_finish(work);
}

/*
 * `op` on every flow that has frames. A program that did not get a flow's lock
 * in time leaves the flow as it was: all with frames of epochs before `below`
 * are looked at again. 0, or the first error.
 */
static int control_all(struct datapath *dp, enum colo_control_op op, __u64 below)
{
	struct waiting_list list;

	for (int round = 0; round < ROUNDS_MAX; round++) {
		struct work work = {.dp = dp, .op = op};
		int err;

		if (!round)
			err = find_flows(dp, WHICH_ALL, ALL_EPOCHS, &list);
		else
			err = find_flows(dp, below == ALL_EPOCHS ? WHICH_ALL : WHICH_UNREADY,
					 below, &list);
		err = first_error(err, work_on(&work, &list));
		if (!list.count || err)
			return err;
	}
	return -EBUSY;
}

/* ------------------------------------------------------------- in order --- */

/* A held frame of P. */
struct held {
	struct colo_flow_key key;
	__u64 ns;
	bool last; /* of its flow */
};

static int held_by_key(const void *a, const void *b)
{
	const struct held *x = a, *y = b;
	int differ = memcmp(&x->key, &y->key, sizeof(x->key));

	return differ ? differ : (x->ns > y->ns) - (x->ns < y->ns);
}

static int held_by_age(const void *a, const void *b)
{
	const struct held *x = a, *y = b;

	return (x->ns > y->ns) - (x->ns < y->ns);
}

/* All of P's that are held, in the order in which they came. -1: no memory. */
static long find_held(struct datapath *dp, struct held **list)
{
	long count = 0, found = 0;

	*list = NULL;
	for (__u32 i = datapath_frame(dp, 0); i < dp->max_frames; i = datapath_frame(dp, i + 1))
		count += dp->marks[i].state == COLO_FRAME_P;
	if (!count)
		return 0;
	*list = calloc(count, sizeof(**list));
	if (!*list)
		return -1;
	for (__u32 i = datapath_frame(dp, 0); i < dp->max_frames && found < count;
	     i = datapath_frame(dp, i + 1)) {
		const volatile struct colo_frame *frame = &dp->frames[i];

		if (dp->marks[i].state != COLO_FRAME_P)
			continue;
		memcpy(&(*list)[found].key, (const void *)&frame->key, sizeof(frame->key));
		(*list)[found++].ns = frame->held_ns;
	}
	qsort(*list, found, sizeof(**list), held_by_key);
	for (long i = 0; i < found; i++)
		(*list)[i].last = i + 1 == found || memcmp(&(*list)[i].key, &(*list)[i + 1].key,
							   sizeof((*list)[i].key));
	qsort(*list, found, sizeof(**list), held_by_age);
	return found;
}

/*
 * What is held leaves in the order in which it came, over all flows: a run for
 * each stretch of one flow. What a program holds meanwhile is left to who calls.
 */
static int control_in_order(struct datapath *dp, enum colo_control_op op, __u64 before_ns)
{
	struct work work = {.dp = dp, .op = op, .in_order = true};
	struct held *list;
	long count = find_held(dp, &list);

	/* by age: those that came later are at the end */
	while (before_ns && count > 0 && list[count - 1].ns >= before_ns)
		count--;

	for (long i = 0; i < count; i++) {
		const struct held *next = i + 1 < count ? &list[i + 1] : NULL;

		if (next && !memcmp(&list[i].key, &next->key, sizeof(next->key)))
			continue;
		work_add(&work, &list[i].key, !next || list[i].last ? before_ns : next->ns);
	}
	free(list);
	return count < 0 ? -ENOMEM : work_finish(&work);
}

/* ------------------------------------------------------------ the ends --- */

static void open_epoch(struct datapath *dp, __u64 epoch)
{
	dp->session->commit_ns = clock_now();
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

	return work_once(dp, &control);
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
	int err, late;

	if (dp->session->epoch <= epoch)
		open_both(dp, epoch + 1);
	err = control_in_order(dp, COLO_CONTROL_COMMIT, 0);
	late = control_all(dp, COLO_CONTROL_COMMIT, epoch + 1);
	return err ? err : late;
}

/* A flow that has frames of later comes to the epoch with the next checkpoint. */
int release_commit_before(struct datapath *dp, __u64 epoch, __u64 before_ns)
{
	struct work work = {.dp = dp, .op = COLO_CONTROL_COMMIT};
	struct waiting_list list;
	int err;

	if (dp->session->epoch <= epoch)
		open_both(dp, epoch + 1);
	err = control_in_order(dp, COLO_CONTROL_COMMIT, before_ns);
	err = first_error(err, find_flows(dp, WHICH_UNREADY, epoch + 1, &list));
	for (__u32 i = 0; i < list.count; i++)
		work_add(&work, &list.flow[i].key, before_ns);
	free(list.flow);
	return first_error(err, work_finish(&work));
}

/* Run until it has nothing more to do. */
static int work_whole(struct datapath *dp, const struct colo_control *control)
{
	int result, idle = 0;

	do {
		result = work_once(dp, control);
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
			err = work_whole(dp, &control);
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

	return dp->abi.role == COLO_ROLE_SECONDARY ? work_whole(dp, &control) : 0;
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

static bool lease_is_out(const struct datapath *dp)
{
	__u64 lease = dp->session->lease_ns;

	return lease && clock_now() >= lease;
}

int release_lease(struct datapath *dp)
{
	struct waiting_list list;

	for (int round = 0; round < ROUNDS_MAX && !lease_is_out(dp); round++) {
		struct work work = {.dp = dp, .op = COLO_CONTROL_RELEASE};
		int err = find_flows(dp, WHICH_READY, ALL_EPOCHS, &list);

		err = first_error(err, work_on(&work, &list));
		if (!list.count || err)
			return err;
	}
	return lease_is_out(dp) ? 0 : -EBUSY;
}

/* All flows that there can be have room among the translations. */
static bool translations_fit(const struct datapath *dp)
{
	struct colo_counters sum;

	if (datapath_counters(dp, &sum))
		return false;
	/* those that were cleared are not counted as closed */
	return sum.flows_created - sum.flows_closed + dp->session->translations <=
	       dp->config->max_flows;
}

/* A secondary's offsets become translations at the port. */
static int translate(struct datapath *dp)
{
	struct colo_control control = {
		.op = COLO_CONTROL_TRANSLATE,
		.all_fit = translations_fit(dp),
	};
	int result = COLO_CONTROL_AGAIN;

	if (dp->abi.role != COLO_ROLE_SECONDARY)
		return 0;
	for (int i = 0; i < ROUNDS_MAX && result == COLO_CONTROL_AGAIN; i++)
		result = work_once(dp, &control);
	return result == COLO_CONTROL_AGAIN ? -EBUSY : result < 0 ? result : 0;
}

/* What may change the state of a flow, or bring frames that wait. */
static __u64 frames_seen(const struct datapath *dp)
{
	struct colo_counters sum;

	if (datapath_counters(dp, &sum))
		return 0;
	return sum.in_frames + sum.control_received + sum.rw_out + sum.rw_syn_waited +
	       sum.p_frames + sum.s_frames;
}

int release_failover(struct datapath *dp)
{
	bool primary = dp->abi.role == COLO_ROLE_PRIMARY;
	__u64 seen = frames_seen(dp);
	int err;

	/* who is the only one needs no lease */
	dp->session->lease_ns = 0;
	/* what leaves from here on finds its translation */
	err = translate(dp);
	err = first_error(err, control_in_order(dp, COLO_CONTROL_FAILOVER, 0));
	err = first_error(err, control_all(dp, COLO_CONTROL_FAILOVER, ALL_EPOCHS));
	dp->session->mode = primary ? COLO_MODE_WIRE : COLO_MODE_ACTIVE;
	if (frames_seen(dp) == seen)
		return err;
	/* What came between the two. */
	err = first_error(err, translate(dp));
	return first_error(err, control_all(dp, COLO_CONTROL_FAILOVER, ALL_EPOCHS));
}

int release_failover_end(struct datapath *dp)
{
	int err = translate(dp);

	err = first_error(err, control_all(dp, COLO_CONTROL_FAILOVER, ALL_EPOCHS));
	return first_error(err, input_end(dp, COLO_CONTROL_FORGET));
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

/*
 * Flows whose frames wait: is one overdue, or was an event for it lost? The
 * program decides, and releases what is pending.
 */
static int scan_frames(struct datapath *dp, __u64 now)
{
	struct work work = {.dp = dp, .op = COLO_CONTROL_TIMEOUT};
	__u64 next = now + earlier(timeout_ns(dp), SCAN_MAX_NS);
	__u64 first = earlier(timeout_ns(dp), dp->config->reorder_ms * MS);
	__u64 kept_first = earlier(timeout_ns(dp), KEPT_NS), begun = clock_now();
	/* with a lease, what is ready waits for XDP's frames */
	enum which which = lease_is_out(dp) ? WHICH_UNREADY : WHICH_ALL;
	struct waiting_list list;
	int err = find_flows(dp, which, ALL_EPOCHS, &list);
	bool kept = false;

	for (__u32 i = 0; i < list.count; i++) {
		__u64 due = list.flow[i].oldest_ns + timeout_ns(dp);

		next = earlier(next, now >= due ? now + OVERDUE_NS : due);
		kept |= list.flow[i].client;
		if (now >= list.flow[i].oldest_ns + (list.flow[i].client ? kept_first : first))
			work_add(&work, &list.flow[i].key, 0);
	}
	free(list.flow);
	err = first_error(err, work_finish(&work));
	dp->watch.kept_ns = later(KEPT_NS, KEPT_SHARE * (clock_now() - begun));
	if (kept)
		next = earlier(next, now + dp->watch.kept_ns);
	dp->watch.scan_ns = later(next, now + MS);
	return err;
}

/* Flows that the ring buffer asked to look at after reorder_ms. */
static int check_watched(struct datapath *dp, __u64 now)
{
	struct work work = {.dp = dp, .op = COLO_CONTROL_TIMEOUT};
	struct datapath_watch *watch = &dp->watch;

	for (__u32 i = 0; i < watch->count;) {
		if (watch->flow[i].due_ns > now) {
			i++;
			continue;
		}
		work_add(&work, &watch->flow[i].key, 0);
		watch->flow[i] = watch->flow[--watch->count];
	}
	return work_finish(&work);
}

int release_tick(struct datapath *dp, __u64 now, __u64 *next_ns)
{
	struct datapath_watch *watch = &dp->watch;
	int err = 0;

	if (watch->count)
		err = check_watched(dp, now);
	if (dp->session->kept) {
		dp->session->kept = 0;
		watch->scan_ns = earlier(watch->scan_ns, now + later(KEPT_NS, watch->kept_ns));
	}
	if (now >= watch->scan_ns)
		err = first_error(err, scan_frames(dp, now));
	err = first_error(err, sweep(dp, now));
	if (now >= dp->link.next_ns)
		err = first_error(err, link_tick(dp, now));
	*next_ns = earlier(earlier(watch->scan_ns, sweep_next(dp)), dp->link.next_ns);
	for (__u32 i = 0; i < watch->count; i++)
		*next_ns = earlier(*next_ns, watch->flow[i].due_ns);
	return err;
}

__u64 release_oldest(const struct datapath *dp)
{
	__u64 oldest = 0;

	for (__u32 i = datapath_frame(dp, 0); i < dp->max_frames;
	     i = datapath_frame(dp, i + 1)) {
		__u64 held;

		if (dp->marks[i].state != COLO_FRAME_P || !is_waiting(dp, i, WHICH_UNREADY))
			continue;
		held = dp->frames[i].held_ns;
		if (!oldest || held < oldest)
			oldest = held;
	}
	return oldest;
}

int release_event(struct datapath *dp, const struct colo_event *event, __u64 *next_ns)
{
	struct datapath_watch *watch = &dp->watch;
	struct work work = {.dp = dp, .op = COLO_CONTROL_RELEASE};
	__u64 due = event->ns + dp->config->reorder_ms * MS;

	switch (event->type) {
	case COLO_EVENT_RELEASE:
		work_add(&work, &event->key, 0);
		return work_finish(&work);
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
