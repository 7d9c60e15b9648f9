// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <stdbool.h>

#include <sys/random.h>

#include <bpf/bpf.h>

#include "link.h"
#include "log.h"
#include "release.h"
#include "translations.h"

#define MS            1000000ULL
#define SCAN_MAX_NS   (1000 * MS) /* lost events are found by then */
#define OVERDUE_NS    (100 * MS)  /* how often what is overdue is looked at */
#define SWEEP_NS      (1000 * MS) /* how often idle flows are looked for */
#define SWEEP_BATCH   512
#define SWEEP_BATCHES 64 /* at most, a sweep */
#define ALL_EPOCHS    (~0ULL)
#define ROUNDS_MAX    20     /* through all flows, for those whose lock was taken */
#define AGAIN_MAX     100000 /* runs on one flow, for the loop's sake */

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
static int control_until(struct datapath *dp, enum colo_control_op op,
			 const struct colo_flow_key *key, __u64 until_ns)
{
	struct colo_control control = {
		.op = op,
		.epoch = dp->session->epoch,
		.key = *key,
		.until_ns = until_ns,
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

static int control_flow(struct datapath *dp, enum colo_control_op op,
			const struct colo_flow_key *key)
{
	return control_until(dp, op, key, 0);
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

enum which {
	WHICH_ALL,
	WHICH_UNREADY, /* all but those that wait for the lease only */
	WHICH_READY,   /* these */
};

/* Input that is kept waits for nothing. */
static bool is_waiting(const volatile struct colo_frame *frame, enum which which)
{
	enum colo_frame_state state = frame->state;
	bool ready = state == COLO_FRAME_P && frame->flags & COLO_FR_READY;

	if (state == COLO_FRAME_FREE || state == COLO_FRAME_I)
		return false;
	return which == WHICH_ALL || ready == (which == WHICH_READY);
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
	for (__u32 i = 0; i < dp->max_frames; i++)
		count += is_waiting(&dp->frames[i], which);
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

		if (!is_waiting(frame, which) || frame->epoch >= below)
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
		if (!round)
			err = find_flows(dp, WHICH_ALL, ALL_EPOCHS, &list);
		else
			err = find_flows(dp, below == ALL_EPOCHS ? WHICH_ALL : WHICH_UNREADY,
					 below, &list);
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
	for (__u32 i = 0; i < dp->max_frames; i++)
		count += dp->frames[i].state == COLO_FRAME_P;
	if (!count)
		return 0;
	*list = calloc(count, sizeof(**list));
	if (!*list)
		return -1;
	for (__u32 i = 0; i < dp->max_frames && found < count; i++) {
		const volatile struct colo_frame *frame = &dp->frames[i];

		if (frame->state != COLO_FRAME_P)
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
static int control_in_order(struct datapath *dp, enum colo_control_op op)
{
	struct held *list;
	long count = find_held(dp, &list);
	int err = 0;

	for (long i = 0; i < count; i++) {
		const struct held *next = i + 1 < count ? &list[i + 1] : NULL;
		int result;

		if (next && !memcmp(&list[i].key, &next->key, sizeof(next->key)))
			continue;
		result = control_until(dp, op, &list[i].key,
				       !next || list[i].last ? 0 : next->ns);
		if (result < 0 && !err)
			err = result;
	}
	free(list);
	return count < 0 ? -ENOMEM : err;
}

/* ------------------------------------------------------------ the ends --- */

static void open_epoch(struct datapath *dp, __u64 epoch)
{
	dp->session->commit_ns = datapath_now();
	/* One store: a program sees the old epoch or the new one. */
	__atomic_store_n(&dp->session->epoch, epoch, __ATOMIC_SEQ_CST);
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
	open_epoch(dp, epoch);
	dp->session->mode = dp->abi.role == COLO_ROLE_PRIMARY ? COLO_MODE_PRIMARY :
								COLO_MODE_SECONDARY;
	return 0;
}

int release_commit(struct datapath *dp, __u64 epoch)
{
	int err, late;

	if (dp->session->epoch <= epoch)
		open_epoch(dp, epoch + 1);
	err = control_in_order(dp, COLO_CONTROL_COMMIT);
	late = control_all(dp, COLO_CONTROL_COMMIT, epoch + 1);
	return err ? err : late;
}

/* To the guest goes what is behind `read`, NULL: nothing; all is forgotten. */
static int replay(struct datapath *dp, const struct colo_link_count *read)
{
	struct colo_control control = {
		.op = COLO_CONTROL_REPLAY,
		.read.epoch = ~0ULL,
	};
	int result = COLO_CONTROL_AGAIN;

	if (dp->abi.role != COLO_ROLE_SECONDARY)
		return 0;
	if (read)
		control.read = *read;
	for (int i = 0; i < ROUNDS_MAX && result == COLO_CONTROL_AGAIN; i++)
		result = control_once(dp, &control);
	return result == COLO_CONTROL_AGAIN ? -EBUSY : result < 0 ? result : 0;
}

int release_reset(struct datapath *dp, __u64 epoch, const struct colo_link_count *read)
{
	int err = release_commit(dp, epoch);
	int late = replay(dp, read);

	return err ? err : late;
}

static bool lease_is_out(const struct datapath *dp)
{
	__u64 lease = dp->session->lease_ns;

	return lease && datapath_now() >= lease;
}

int release_lease(struct datapath *dp)
{
	struct waiting_list list;
	int err = 0;

	for (int round = 0; round < ROUNDS_MAX && !lease_is_out(dp); round++) {
		err = find_flows(dp, WHICH_READY, ALL_EPOCHS, &list);
		for (__u32 i = 0; i < list.count; i++) {
			int result = control_flow(dp, COLO_CONTROL_RELEASE, &list.flow[i].key);

			if (result < 0 && !err)
				err = result;
		}
		free(list.flow);
		if (!list.count || err)
			return err;
	}
	return lease_is_out(dp) ? 0 : -EBUSY;
}

/* A secondary's offsets become translations at the port. */
static int translate(struct datapath *dp)
{
	struct colo_control control = {
		.op = COLO_CONTROL_TRANSLATE,
	};
	int result = COLO_CONTROL_AGAIN;

	if (dp->abi.role != COLO_ROLE_SECONDARY)
		return 0;
	for (int i = 0; i < ROUNDS_MAX && result == COLO_CONTROL_AGAIN; i++)
		result = control_once(dp, &control);
	return result == COLO_CONTROL_AGAIN ? -EBUSY : result < 0 ? result : 0;
}

/* One step of several that are all done, whatever becomes of one: the first error counts. */
static int first_error(int before, int result)
{
	return before ? before : result;
}

int release_failover(struct datapath *dp)
{
	bool primary = dp->abi.role == COLO_ROLE_PRIMARY;
	int err;

	/* who is the only one needs no lease */
	dp->session->lease_ns = 0;
	/* what leaves from here on finds its translation */
	err = translate(dp);
	err = first_error(err, control_in_order(dp, COLO_CONTROL_FAILOVER));
	err = first_error(err, control_all(dp, COLO_CONTROL_FAILOVER, ALL_EPOCHS));
	dp->session->mode = primary ? COLO_MODE_WIRE : COLO_MODE_ACTIVE;
	/* What came between the two. */
	err = first_error(err, translate(dp));
	err = first_error(err, control_all(dp, COLO_CONTROL_FAILOVER, ALL_EPOCHS));
	return first_error(err, replay(dp, NULL));
}

int release_discard(struct datapath *dp)
{
	int err;

	dp->session->mode = COLO_MODE_SHUT;
	err = control_all(dp, COLO_CONTROL_DISCARD, ALL_EPOCHS);
	return err ? err : replay(dp, NULL);
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
	int err = find_flows(dp, WHICH_UNREADY, ALL_EPOCHS, &list);

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
static bool looks_idle(const struct datapath *dp, bool closed, __u64 seen_ns, __u64 now)
{
	return now >
	       seen_ns + MS * (closed ? dp->config->flow_grace_ms : dp->config->flow_idle_ms);
}

static bool flow_looks_idle(const struct datapath *dp, const void *value, __u64 now)
{
	const struct colo_flow *flow = value;

	return looks_idle(dp, flow->flags & (COLO_F_RST | COLO_F_P_FIN), flow->seen_ns, now);
}

static bool rewrite_looks_idle(const struct datapath *dp, const void *value, __u64 now)
{
	const __u32 fins = COLO_RW_G_FIN | COLO_RW_C_FIN;
	const struct colo_rewrite *rewrite = value;
	bool closed = rewrite->flags & COLO_RW_RST || (rewrite->flags & fins) == fins;

	return looks_idle(dp, closed, rewrite->seen_ns, now);
}

static bool translation_looks_idle(const struct datapath *dp, const void *value, __u64 now)
{
	const struct colo_translation *t = value;

	return looks_idle(dp, translation_ended(t), t->seen_ns, now);
}

/* A table whose elements end some time after they were last used. */
struct sweep {
	int fd;
	size_t size; /* of a value */
	enum colo_control_op op;
	bool (*looks_idle)(const struct datapath *dp, const void *value, __u64 now);
};

/*
 * Look through a table for idle elements, some thousands at a time; the next
 * sweep goes on where this one ended.
 */
static int sweep_table(struct datapath *dp, const struct sweep *sweep,
		       struct datapath_cursor *cursor, __u64 now)
{
	struct colo_flow_key *keys = calloc(SWEEP_BATCH, sizeof(*keys));
	char *values = calloc(SWEEP_BATCH, sweep->size);
	int err = keys && values ? 0 : -ENOMEM;

	for (int batch = 0; !err && batch < SWEEP_BATCHES; batch++) {
		__u32 count = SWEEP_BATCH, next = 0;
		int result;

		result = bpf_map_lookup_batch(sweep->fd, cursor->valid ? &cursor->at : NULL,
					      &next, keys, values, &count, NULL);
		if (result && result != -ENOENT) {
			/* A bucket longer than the batch: begin anew. */
			cursor->valid = false;
			err = result == -ENOSPC || result == -EINVAL ? 0 : result;
			break;
		}
		for (__u32 i = 0; i < count; i++)
			if (sweep->looks_idle(dp, values + i * sweep->size, now))
				control_flow(dp, sweep->op, &keys[i]);
		cursor->at = next;
		cursor->valid = !result;
		if (result)
			break;
	}
	free(values);
	free(keys);
	return err;
}

static int sweep_flows(struct datapath *dp, __u64 now)
{
	const bool primary = dp->abi.role == COLO_ROLE_PRIMARY;
	const struct sweep flows = {
		.fd = dp->map_fd[MAP_FLOWS],
		.size = primary ? sizeof(struct colo_flow) : sizeof(struct colo_rewrite),
		.op = COLO_CONTROL_RECLAIM,
		.looks_idle = primary ? flow_looks_idle : rewrite_looks_idle,
	};
	const struct sweep translations = {
		.fd = dp->map_fd[MAP_TRANSLATIONS],
		.size = sizeof(struct colo_translation),
		.op = COLO_CONTROL_EXPIRE,
		.looks_idle = translation_looks_idle,
	};
	struct datapath_watch *watch = &dp->watch;
	int err, late = 0;

	err = sweep_table(dp, &flows, &watch->flows, now);
	if (dp->session->translations)
		late = sweep_table(dp, &translations, &watch->translations, now);
	watch->sweep_ns = now + SWEEP_NS;
	return err ? err : late;
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
		const volatile struct colo_frame *frame = &dp->frames[i];
		__u64 held = frame->held_ns;

		if (frame->state == COLO_FRAME_P && is_waiting(frame, WHICH_UNREADY) &&
		    (!oldest || held < oldest))
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
