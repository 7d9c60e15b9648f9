// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <stdbool.h>

#include <bpf/bpf.h>

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
	set_default(&config->max_flows, 65536);
	set_default(&config->max_frames, 32768);
	set_default(&config->small_blocks, 8192);
	set_default(&config->big_blocks, 768);
}

static __u64 pool_bytes(const struct colo_config *config)
{
	return (__u64)config->small_blocks * COLO_SMALL_SIZE +
	       (__u64)config->big_blocks * COLO_BIG_SIZE;
}

/* Can the kernel make an array whose value has that many bytes? */
static bool value_size_works(__u32 bytes)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "colo_probe", sizeof(__u32), bytes, 1,
				&opts);

	if (fd < 0)
		return fd != -E2BIG;
	close(fd);
	return true;
}

__u32 pool_fit(struct colo_config *config)
{
	__u64 wanted = pool_bytes(config), size = 4096;
	__u64 small, big = config->big_blocks;

	while (size < wanted)
		size *= 2;
	if (size > 1ULL << 30)
		return 0;
	if (!value_size_works(size + COLO_POOL_SLACK)) {
		__u64 full = size;

		while (size > 1 << 20 && !value_size_works(size + COLO_POOL_SLACK))
			size /= 2;
		config->big_blocks = big * size / full;
		log_warning(
			"this kernel bounds the value of a BPF array: the pool has %llu KB instead of %llu",
			size >> 10, full >> 10);
	}
	small = (size - (__u64)config->big_blocks * COLO_BIG_SIZE) / COLO_SMALL_SIZE;
	if (config->small_blocks > small)
		config->small_blocks = small;
	return size;
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

static void lists(struct list list[3], int free_frames, int free_small, int free_big,
		  const struct colo_config *config)
{
	list[0] = (struct list){free_frames, 0, 1, config->max_frames};
	list[1] = (struct list){free_small, 0, COLO_SMALL_SIZE, config->small_blocks};
	list[2] = (struct list){free_big, config->small_blocks * COLO_SMALL_SIZE, COLO_BIG_SIZE,
				config->big_blocks};
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
