// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>

#include <bpf/bpf.h>

#include "clock.h"
#include "sweep.h"
#include "translations.h"
#include "work.h"

#define MS          1000000ULL
#define BATCH       256
#define TURN_NS     (1 * MS)    /* a turn begins no batch after that */
#define PAUSE_NS    (4 * MS)    /* between turns: a fifth of one CPU at most */
#define PASS_MIN_NS (1000 * MS) /* between two passes through a table */
#define PASS_MAX_NS (10000 * MS)

/*
 * The kernel gives the memory of what is deleted back in rounds, the next of
 * which is begun by a later deletion: should all end at once, what was deleted
 * since the last round would stay with its allocator. So a pass that finds more
 * than FEW leaves each SHARE-th for the next.
 */
#define FEW   256
#define SHARE 16

union value {
	union datapath_flow flow;
	struct colo_translation translation;
};

/* A table whose elements end some time after they were last used. */
struct table {
	enum datapath_map map;
	size_t size; /* of a value */
	enum colo_control_op op;
	/* Does one look as if it could go? The program decides. */
	bool (*looks_idle)(const struct datapath *dp, const void *value, __u64 now);
};

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

/* The next elements of the table. 1: these were the last; or -errno. */
static int sweep_batch(struct datapath *dp, const struct table *table,
		       struct datapath_cursor *cursor, __u64 now)
{
	struct work work = {.dp = dp, .op = table->op};
	static struct colo_flow_key keys[BATCH];
	static char values[BATCH * sizeof(union value)];
	__u32 count = BATCH, next = 0;
	int last;

	last = bpf_map_lookup_batch(dp->map_fd[table->map], cursor->valid ? &cursor->at : NULL,
				    &next, keys, values, &count, NULL);
	cursor->valid = !last;
	cursor->at = next;
	/* a bucket longer than the batch: begin anew */
	if (last == -ENOSPC || last == -EINVAL)
		return 1;
	if (last && last != -ENOENT)
		return last;
	for (__u32 i = 0; i < count; i++) {
		if (table->map == MAP_FLOWS)
			addresses_note(&dp->watch.addresses, &keys[i]);
		if (!table->looks_idle(dp, values + i * table->size, now))
			continue;
		cursor->found++;
		if (cursor->found <= FEW || cursor->found % SHARE)
			work_add(&work, &keys[i], 0);
	}
	return work_finish(&work) ? work.error : last == -ENOENT;
}

/* Often enough that a flow is not kept much longer than its time. */
static __u64 pass_pause_ns(const struct datapath *dp)
{
	const struct colo_config *c = dp->config;
	__u32 ms = c->flow_grace_ms < c->flow_idle_ms ? c->flow_grace_ms : c->flow_idle_ms;
	__u64 pause = ms * MS / 4;

	if (pause < PASS_MIN_NS)
		return PASS_MIN_NS;
	return pause < PASS_MAX_NS ? pause : PASS_MAX_NS;
}

static int sweep_table(struct datapath *dp, const struct table *table,
		       struct datapath_cursor *cursor, __u64 now)
{
	__u32 found;
	int ret;

	if (now < cursor->next_ns)
		return 0;
	/* deletions cost more later, where they are carried out: a batch a turn */
	do {
		found = cursor->found;
		ret = sweep_batch(dp, table, cursor, now);
	} while (!ret && cursor->found == found && clock_now() < now + TURN_NS);
	cursor->next_ns = clock_now() + (ret ? pass_pause_ns(dp) : PAUSE_NS);
	if (ret)
		cursor->found = 0;
	return ret < 0 ? ret : 0;
}

int sweep(struct datapath *dp, __u64 now)
{
	const bool primary = dp->abi.role == COLO_ROLE_PRIMARY;
	const struct table flows = {
		.map = MAP_FLOWS,
		.size = datapath_flow_size(dp->abi.role),
		.op = COLO_CONTROL_RECLAIM,
		.looks_idle = primary ? flow_looks_idle : rewrite_looks_idle,
	};
	const struct table translations = {
		.map = MAP_TRANSLATIONS,
		.size = sizeof(struct colo_translation),
		.op = COLO_CONTROL_EXPIRE,
		.looks_idle = translation_looks_idle,
	};
	int err, late = 0;

	err = sweep_table(dp, &flows, &dp->watch.flows, now);
	if (dp->session->translations)
		late = sweep_table(dp, &translations, &dp->watch.translations, now);
	return err ? err : late;
}

__u64 sweep_next(const struct datapath *dp)
{
	__u64 flows = dp->watch.flows.next_ns, translations = dp->watch.translations.next_ns;

	return dp->session->translations && translations < flows ? translations : flows;
}
