// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "image.h"
#include "log.h"
#include "pin.h"
#include "pool.h"

#include "port.skel.h"
#include "primary.skel.h"
#include "secondary.skel.h"
#include "xdp.skel.h"

#define VERIFIER_STATISTICS 4 /* the kernel's BPF_LOG_STATS */

static int image_open(struct image *image, enum colo_role role, enum colo_context context,
		      bool statistics)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts,
		    .kernel_log_level = statistics ? VERIFIER_STATISTICS : 0);

	memset(image, 0, sizeof(*image));
	if (role == COLO_ROLE_PRIMARY) {
		image->primary = primary_bpf__open_opts(&opts);
		if (!image->primary)
			return -errno;
		image->object = image->primary->obj;
	} else {
		image->secondary = secondary_bpf__open_opts(&opts);
		if (!image->secondary)
			return -errno;
		image->object = image->secondary->obj;
	}
	image->port = port_bpf__open_opts(&opts);
	if (!image->port)
		return -errno;
	if (!datapath_has_prog(role, context, PROG_GUEST_OUT_XDP))
		return 0;
	image->xdp = xdp_bpf__open_opts(&opts);
	return image->xdp ? 0 : -errno;
}

void image_close(struct image *image)
{
	xdp_bpf__destroy(image->xdp);
	port_bpf__destroy(image->port);
	primary_bpf__destroy(image->primary);
	secondary_bpf__destroy(image->secondary);
	memset(image, 0, sizeof(*image));
}

static struct bpf_map *image_map(const struct image *image, enum datapath_map map)
{
	return bpf_object__find_map_by_name(image->object, datapath_map_names[map]);
}

int image_map_fd(const struct image *image, enum datapath_map map)
{
	struct bpf_map *found = image_map(image, map);

	return found ? bpf_map__fd(found) : -1;
}

/* NULL: it is not there. */
static struct bpf_program *image_prog(const struct image *image, enum datapath_prog prog)
{
	const struct bpf_object *object = image->object;

	if (prog == PROG_PORT_OUT)
		object = image->port->obj;
	else if (prog >= PROG_GUEST_OUT_XDP)
		object = image->xdp ? image->xdp->obj : NULL;
	return object ? bpf_object__find_program_by_name(object, datapath_prog_names[prog]) :
			NULL;
}

static int image_sizes(const struct image *image, enum colo_role role,
		       const struct colo_config *config)
{
	const __u32 entries[MAP_COUNT] = {
		[MAP_FLOWS] = config->max_flows,
		[MAP_TRANSLATIONS] = config->max_flows,
		[MAP_FRAMES] = config->max_frames,
		[MAP_FRAME_MARKS] = config->max_frames,
		[MAP_POOL] = pool_entries(config),
		[MAP_XDP_CPUS] = libbpf_num_possible_cpus(),
		[MAP_FREE_FRAMES] = config->max_frames,
		[MAP_FREE_SMALL] = config->small_blocks,
		[MAP_FREE_BIG] = config->big_blocks ? config->big_blocks : 1,
		[MAP_MAGAZINES] = COLO_MAGAZINES * libbpf_num_possible_cpus(),
		[MAP_GATES] = libbpf_num_possible_cpus(),
	};
	int err = 0;

	for (int i = 0; !err && i < MAP_COUNT; i++) {
		if (!image_map(image, i)) {
			if (!datapath_has_map(role, i))
				continue;
			log_error("the BPF object has no map \"%s\"", datapath_map_names[i]);
			return -EPROTO;
		}
		if (entries[i])
			err = bpf_map__set_max_entries(image_map(image, i), entries[i]);
	}
	return err;
}

/* What is of both roles stays as it is. */
static int image_take_over(const struct image *image, const struct datapath *from)
{
	int err = 0;

	for (int i = 0; !err && i < MAP_COUNT; i++)
		if (datapath_map_is_shared(i))
			err = bpf_map__reuse_fd(image_map(image, i), from->map_fd[i]);
	return err;
}

/* All maps of another object but its scratch are those of the role's, which is loaded. */
static int image_share(const struct image *image, struct bpf_object *object)
{
	struct bpf_map *map;
	int err = 0;

	for (int i = 0; !err && i < MAP_COUNT; i++) {
		map = bpf_object__find_map_by_name(object, datapath_map_names[i]);
		if (map)
			err = bpf_map__reuse_fd(map, image_map_fd(image, i));
	}
	return err ? err : bpf_object__load(object);
}

static int image_try(struct image *image, enum colo_role role, enum colo_context context,
		     const struct colo_config *config, const struct datapath *from,
		     bool statistics)
{
	int err = image_open(image, role, context, statistics);

	if (err) {
		log_error("the BPF object cannot be read: %s", strerror(-err));
		return err;
	}
	err = image_sizes(image, role, config);
	if (!err && from)
		err = image_take_over(image, from);
	if (!err)
		err = bpf_object__load(image->object);
	if (!err)
		err = image_share(image, image->port->obj);
	if (!err && image->xdp)
		err = image_share(image, image->xdp->obj);
	return err;
}

int image_load(struct image *image, enum colo_role role, enum colo_context context,
	       const struct colo_config *config, const struct datapath *from)
{
	bool statistics = log_max_level >= LOG_LEVEL_DEBUG;
	int err;

	memset(image, 0, sizeof(*image));
	if (!pool_entries(config)) {
		log_error(
			"%u small and %u big blocks are a pool of more than 1 GB: ask for fewer",
			config->small_blocks, config->big_blocks);
		return -EINVAL;
	}
	err = image_try(image, role, context, config, from, statistics);
	if (err && statistics) {
		/* Why it was refused libbpf shows only where no log was asked for. */
		image_close(image);
		err = image_try(image, role, context, config, from, false);
	}
	if (err)
		log_error("the BPF programs cannot be loaded: %s%s", strerror(-err),
			  err == -EPERM ? " (run as root)" :
					  "; `colo-bpf probe` says what this kernel lacks");
	return err;
}

int image_pin(const struct image *image, const char *folder)
{
	char path[PIN_PATH_MAX];
	struct bpf_program *prog;
	int err = 0;

	for (int i = 0; !err && i < MAP_COUNT; i++) {
		if (!image_map(image, i))
			continue;
		pin_path(path, folder, "maps", datapath_map_names[i]);
		err = bpf_obj_pin(image_map_fd(image, i), path);
	}
	for (int i = 0; !err && i < PROG_COUNT; i++) {
		pin_path(path, folder, "progs", datapath_prog_names[i]);
		prog = image_prog(image, i);
		if (i < PROG_GUEST_OUT_XDP || image->xdp)
			err = prog ? bpf_obj_pin(bpf_program__fd(prog), path) : -ENOENT;
	}
	if (err)
		log_error("%s: cannot be pinned: %s", path, strerror(-err));
	return err;
}

int datapath_probe_load(enum colo_role role, enum colo_context context)
{
	struct colo_config config = {
		.max_flows = 16, .max_frames = 16, .small_blocks = 16, .big_blocks = 1};
	struct image image = {};
	int err;

	log_libbpf(log_max_level >= LOG_LEVEL_DEBUG);
	pool_config_defaults(&config);
	err = image_load(&image, role, context, &config, NULL);
	image_close(&image);
	log_libbpf(1);
	return err;
}
