// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "log.h"
#include "pool.h"

static void set_default(__u32 *field, __u32 value)
{
	if (!*field)
		*field = value;
}

void pool_config_defaults(struct colo_config *config)
{
	set_default(&config->compare_timeout_ms, 3000);
	set_default(&config->reorder_ms, 2);
	set_default(&config->reorder_window, 8);
	set_default(&config->queue_max, 4096);
	set_default(&config->flow_grace_ms, 10000);
	set_default(&config->flow_idle_ms, 600000);
	set_default(&config->max_flows, 1000000);
	set_default(&config->max_frames, 32768);
	set_default(&config->small_blocks, 8192);
	set_default(&config->big_blocks, 768);
}

__u32 pool_entries(const struct colo_config *config)
{
	__u64 entries = (__u64)COLO_SMALL_ENTRIES(config->small_blocks) + config->big_blocks;

	return entries <= POOL_ENTRIES_MAX ? entries : 0;
}

struct list {
	int fd;
	__u32 base;
	__u32 step;
	__u32 count;
};

static int list_push(const struct list *list, __u32 below)
{
	/* The highest first, so that the lowest is on top. */
	for (__u32 i = below; i-- > 0;) {
		__u32 value = list->base + i * list->step;
		int err = bpf_map_update_elem(list->fd, NULL, &value, 0);

		if (err)
			return err;
	}
	return 0;
}

static int list_refill(const struct list *list, __u64 taken)
{
	__u32 depth = taken < list->count ? taken : list->count;
	__u32 value;

	/*
	 * What was never popped lies below, in its first order: values of
	 * `depth` and above. All above it is put anew.
	 */
	while (!bpf_map_lookup_elem(list->fd, NULL, &value)) {
		if (depth < list->count && value >= list->base + depth * list->step)
			break;
		if (bpf_map_lookup_and_delete_elem(list->fd, NULL, &value))
			return -errno;
	}
	return list_push(list, depth);
}

__u32 pool_frame_shift(const struct colo_config *config)
{
	__u32 shift = 0;

	while ((config->max_frames - 1) >> shift >= 64)
		shift++;
	return shift;
}

/* All of them together have an eighth of what there is at most. */
static __u32 magazine_depth(const struct colo_config *config, int cpus)
{
	__u32 least = config->max_frames < config->small_blocks ? config->max_frames :
								  config->small_blocks;
	__u32 depth = least / (8 * cpus);

	return depth < COLO_MAGAZINE ? depth : COLO_MAGAZINE;
}

int pool_magazines(int magazines, const struct colo_config *config)
{
	int cpus = libbpf_num_possible_cpus(), err = cpus < 0 ? cpus : 0;
	struct colo_magazine empty = {};

	if (err)
		return err;
	empty.depth = magazine_depth(config, cpus);
	for (__u32 i = 0; !err && i < COLO_MAGAZINES * (__u32)cpus; i++)
		err = bpf_map_update_elem(magazines, &i, &empty, 0);
	return err;
}

static void lists(struct list list[3], int free_frames, int free_small, int free_big,
		  const struct colo_config *config)
{
	list[0] = (struct list){free_frames, 0, 1, config->max_frames};
	list[1] = (struct list){free_small, 0, COLO_SMALL_SIZE, config->small_blocks};
	list[2] = (struct list){free_big,
				COLO_SMALL_ENTRIES(config->small_blocks) * COLO_BIG_SIZE,
				COLO_BIG_SIZE, config->big_blocks};
}

int pool_fill(int free_frames, int free_small, int free_big, const struct colo_config *config)
{
	struct list list[3];
	int err = 0;

	lists(list, free_frames, free_small, free_big, config);
	for (int i = 0; !err && i < 3; i++)
		err = list_push(&list[i], list[i].count);
	return err;
}

int pool_refill(int free_frames, int free_small, int free_big, const struct colo_config *config,
		__u64 taken)
{
	/* A program pops before it counts: some more on each CPU. */
	__u64 depth = taken + 256;
	struct list list[3];
	int err = 0;

	lists(list, free_frames, free_small, free_big, config);
	for (int i = 0; !err && i < 3; i++)
		err = list_refill(&list[i], depth);
	return err;
}
