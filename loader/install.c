// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attach and detach: load the objects, pin them, hook them to the devices, and
 * take all of that away again.
 *
 * tc of Linux 6.1 has no links. A filter persists by itself; what else attach
 * did to a device is marked by empty directories in links/: `clsact-IFINDEX`
 * (the qdisc was made) and `promisc-IFINDEX` (the device was not promiscuous).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <net/if.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <colo/link.h>

#include "datapath.h"
#include "log.h"
#include "pin.h"
#include "policy.h"
#include "pool.h"
#include "release.h"
#include "tc.h"

#include "primary.skel.h"
#include "secondary.skel.h"

/* One of the two objects. */
struct image {
	struct primary_bpf *primary;
	struct secondary_bpf *secondary;
	struct bpf_object *object;
};

#define VERIFIER_STATISTICS 4 /* the kernel's BPF_LOG_STATS */

static int image_open(struct image *image, enum colo_role role, bool statistics)
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
	return 0;
}

static void image_close(struct image *image)
{
	primary_bpf__destroy(image->primary);
	secondary_bpf__destroy(image->secondary);
	memset(image, 0, sizeof(*image));
}

static struct bpf_map *image_map(const struct image *image, enum datapath_map map)
{
	return bpf_object__find_map_by_name(image->object, datapath_map_names[map]);
}

static int image_map_fd(const struct image *image, enum datapath_map map)
{
	return bpf_map__fd(image_map(image, map));
}

static int image_sizes(const struct image *image, const struct colo_config *config)
{
	const __u32 entries[MAP_COUNT] = {
		[MAP_FLOWS] = config->max_flows,
		[MAP_FRAMES] = config->max_frames,
		[MAP_POOL] = pool_entries(config),
		[MAP_FREE_FRAMES] = config->max_frames,
		[MAP_FREE_SMALL] = config->small_blocks,
		[MAP_FREE_BIG] = config->big_blocks ? config->big_blocks : 1,
		[MAP_GATES] = libbpf_num_possible_cpus(),
	};
	int err = 0;

	for (int i = 0; !err && i < MAP_COUNT; i++) {
		if (!image_map(image, i)) {
			if (!datapath_has_map(image->primary ? COLO_ROLE_PRIMARY :
							       COLO_ROLE_SECONDARY,
					      i))
				continue;
			log_error("the BPF object has no map \"%s\"", datapath_map_names[i]);
			return -EPROTO;
		}
		if (entries[i])
			err = bpf_map__set_max_entries(image_map(image, i), entries[i]);
	}
	return err;
}

static int image_try(struct image *image, enum colo_role role, const struct colo_config *config,
		     bool statistics)
{
	int err = image_open(image, role, statistics);

	if (err) {
		log_error("the BPF object cannot be read: %s", strerror(-err));
		return err;
	}
	err = image_sizes(image, config);
	return err ? err : bpf_object__load(image->object);
}

static int image_load(struct image *image, enum colo_role role, struct colo_config *config)
{
	bool statistics = log_max_level >= LOG_LEVEL_DEBUG;
	int err;

	if (!pool_entries(config)) {
		log_error(
			"%u small and %u big blocks are a pool of more than 1 GB: ask for fewer",
			config->small_blocks, config->big_blocks);
		return -EINVAL;
	}
	err = image_try(image, role, config, statistics);
	if (err && statistics) {
		/* Why it was refused libbpf shows only where no log was asked for. */
		image_close(image);
		err = image_try(image, role, config, false);
	}
	if (err)
		log_error("the BPF programs cannot be loaded: %s%s", strerror(-err),
			  err == -EPERM ? " (run as root)" :
					  "; `colo-bpf probe` says what this kernel lacks");
	return err;
}

int datapath_probe_load(enum colo_role role)
{
	struct colo_config config = {
		.max_flows = 16, .max_frames = 16, .small_blocks = 16, .big_blocks = 1};
	struct image image = {};
	int err;

	log_libbpf(log_max_level >= LOG_LEVEL_DEBUG);
	pool_config_defaults(&config);
	err = image_load(&image, role, &config);
	image_close(&image);
	log_libbpf(1);
	return err;
}

static void copy_name(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from ? from : "");
}

static int fill_maps(const struct image *image, const struct datapath_options *o,
		     const struct colo_config *config)
{
	struct colo_session session = {.mode = COLO_MODE_SHUT};
	struct colo_abi abi = {
		.version = COLO_ABI_VERSION,
		.role = o->role,
		.guest_ifindex = config->guest_ifindex,
		.port_ifindex = config->port_ifindex,
		.link_ifindex = config->link_ifindex,
		.netns_ino = datapath_netns(),
	};
	__u32 zero = 0;
	int err;

	copy_name(abi.name, sizeof(abi.name), o->name);
	copy_name(abi.guest, sizeof(abi.guest), o->guest);
	copy_name(abi.port, sizeof(abi.port), o->port);
	copy_name(abi.link, sizeof(abi.link), o->link);
	copy_name(abi.peer, sizeof(abi.peer), o->peer);

	err = bpf_map_update_elem(image_map_fd(image, MAP_ABI), &zero, &abi, 0);
	if (!err)
		err = bpf_map_update_elem(image_map_fd(image, MAP_CONFIG), &zero, config, 0);
	if (!err)
		err = bpf_map_update_elem(image_map_fd(image, MAP_SESSION), &zero, &session, 0);
	if (!err)
		err = policy_fill(image_map_fd(image, MAP_POLICY));
	if (!err)
		err = pool_fill(image_map_fd(image, MAP_FREE_FRAMES),
				image_map_fd(image, MAP_FREE_SMALL),
				image_map_fd(image, MAP_FREE_BIG), config);
	if (err)
		log_error("the maps cannot be filled: %s", strerror(-err));
	return err;
}

static int pin_all(const struct image *image, const char *name)
{
	char path[PIN_PATH_MAX];
	struct bpf_program *prog;
	int err = 0;

	for (int i = 0; !err && i < MAP_COUNT; i++) {
		if (!image_map(image, i))
			continue;
		pin_path(path, name, "maps", datapath_map_names[i]);
		err = bpf_map__pin(image_map(image, i), path);
	}
	for (int i = 0; !err && i < PROG_COUNT; i++) {
		pin_path(path, name, "progs", datapath_prog_names[i]);
		prog = bpf_object__find_program_by_name(image->object, datapath_prog_names[i]);
		err = prog ? bpf_program__pin(prog, path) : -ENOENT;
	}
	if (err)
		log_error("%s: cannot be pinned: %s", path, strerror(-err));
	return err;
}

/* ------------------------------------------------------------- devices --- */

struct hook {
	const char *option; /* how the user named it */
	const char *device;
	__u32 ifindex;
	enum datapath_prog prog;
};

#define HOOKS 3

static void hooks_from(struct hook hook[HOOKS], const char *guest, const char *port,
		       const char *link, const struct colo_config *config)
{
	hook[0] = (struct hook){"--guest", guest, config->guest_ifindex, PROG_GUEST_OUT};
	hook[1] = (struct hook){"--port", port, config->port_ifindex, PROG_PORT_IN};
	hook[2] = (struct hook){"--link", link, config->link_ifindex, PROG_LINK_IN};
}

struct owner {
	__u32 ifindex;
	char name[32];
};

static int find_owner(const char *name, void *context)
{
	struct owner *owner = context;
	struct colo_abi abi = {};
	struct bpf_map_info info = {};
	__u32 length = sizeof(info), zero = 0;
	char path[PIN_PATH_MAX];
	int fd, found = 0;

	pin_path(path, name, "maps", "abi");
	fd = bpf_obj_get(path);
	if (fd < 0)
		return 0;
	if (!bpf_obj_get_info_by_fd(fd, &info, &length) && info.value_size == sizeof(abi) &&
	    !bpf_map_lookup_elem(fd, &zero, &abi) && abi.netns_ino == datapath_netns() &&
	    (abi.guest_ifindex == owner->ifindex || abi.port_ifindex == owner->ifindex ||
	     abi.link_ifindex == owner->ifindex)) {
		copy_name(owner->name, sizeof(owner->name), name);
		found = 1;
	}
	close(fd);
	return found;
}

static int check_free(const struct hook *hook)
{
	struct owner owner = {.ifindex = hook->ifindex};
	struct tc_state state;
	int err = tc_query(hook->ifindex, &state);

	if (err) {
		log_error("%s %s: its tc filters cannot be listed: %s", hook->option,
			  hook->device, strerror(-err));
		return err;
	}
	if (pin_each(find_owner, &owner)) {
		log_error("%s %s: belongs to instance %s: detach that first", hook->option,
			  hook->device, owner.name);
		return -EBUSY;
	}
	if (state.ours) {
		log_error(
			"%s %s: has a filter of an instance whose pins are gone: `tc filter del dev %s ingress pref %d` takes it away",
			hook->option, hook->device, hook->device, COLO_TC_PRIORITY);
		return -EBUSY;
	}
	if (state.first_taken) {
		log_error(
			"%s %s: another tc filter has preference %d at ingress; the proxy's must be the first: give the other a higher number",
			hook->option, hook->device, COLO_TC_PRIORITY);
		return -EBUSY;
	}
	return 0;
}

static int find_devices(const struct datapath_options *o, struct colo_config *config)
{
	struct hook hook[HOOKS];
	__u32 *index[HOOKS] = {&config->guest_ifindex, &config->port_ifindex,
			       &config->link_ifindex};

	hooks_from(hook, o->guest, o->port, o->link, config);
	for (int i = 0; i < HOOKS; i++) {
		*index[i] = if_nametoindex(hook[i].device);
		if (!*index[i]) {
			log_error("%s %s: no such device in this network namespace",
				  hook[i].option, hook[i].device);
			return -ENODEV;
		}
		for (int j = 0; j < i; j++) {
			if (*index[i] != *index[j])
				continue;
			log_error("%s and %s are both %s: three devices are needed",
				  hook[j].option, hook[i].option, hook[i].device);
			return -EINVAL;
		}
	}
	return 0;
}

static int check_devices(const struct datapath_options *o, struct colo_config *config)
{
	unsigned int port_mtu = 0, link_mtu = 0;
	struct hook hook[HOOKS];
	int err;

	err = find_devices(o, config);
	if (err)
		return err;
	hooks_from(hook, o->guest, o->port, o->link, config);
	err = device_mtu(o->port, &port_mtu);
	if (!err)
		err = device_mtu(o->link, &link_mtu);
	if (err) {
		log_error("the MTU of %s and %s cannot be read: %s", o->port, o->link,
			  strerror(-err));
		return err;
	}
	if (link_mtu < port_mtu + COLO_LINK_TAG_LEN) {
		log_error(
			"--link %s: MTU %u is too small, frames of --port %s need %u: `ip link set %s mtu %u`, on both hosts",
			o->link, link_mtu, o->port, port_mtu + COLO_LINK_TAG_LEN, o->link,
			port_mtu + COLO_LINK_TAG_LEN);
		return -EMSGSIZE;
	}
	for (int i = 0; !err && i < HOOKS; i++)
		err = check_free(&hook[i]);
	return err;
}

static void mark_name(char mark[64], const char *what, __u32 ifindex)
{
	snprintf(mark, 64, "%s-%u", what, ifindex);
}

/* What attach did to the devices, as far as it came. */
static void hooks_detach(const char *name, const struct hook hook[HOOKS],
			 const __u32 prog_id[HOOKS])
{
	char mark[64];
	bool was;

	for (int i = HOOKS - 1; i >= 0; i--) {
		struct tc_state state;

		/* A device that is gone took its filters along. */
		if (tc_query(hook[i].ifindex, &state))
			continue;
		mark_name(mark, "clsact", hook[i].ifindex);
		if (state.ours && state.ours == prog_id[i])
			tc_detach(hook[i].ifindex, pin_marked(name, mark));
		else if (state.ours)
			log_warning(
				"%s: its filter is not the one that %s attached, left alone",
				hook[i].device, name);
		mark_name(mark, "promisc", hook[i].ifindex);
		if (pin_marked(name, mark))
			device_set_promiscuous(hook[i].device, false, &was);
	}
}

static int hook_attach(const char *name, const struct hook *hook, int prog_fd)
{
	bool made = false;
	char mark[64];
	int err;

	err = tc_attach(hook->ifindex, prog_fd, &made);
	if (made) {
		mark_name(mark, "clsact", hook->ifindex);
		pin_mark(name, mark);
	}
	if (err)
		log_error("%s %s: the tc filter cannot be attached: %s", hook->option,
			  hook->device, strerror(-err));
	return err;
}

/* Frames on the port and on the link are for the guest's MAC, not for the device's. */
static int hook_promiscuous(const char *name, const struct hook *hook)
{
	bool was = true;
	char mark[64];
	int err = device_set_promiscuous(hook->device, true, &was);

	if (err) {
		log_error("%s %s: cannot be made promiscuous: %s", hook->option, hook->device,
			  strerror(-err));
		return err;
	}
	mark_name(mark, "promisc", hook->ifindex);
	return was ? 0 : pin_mark(name, mark);
}

static __u32 prog_id(int fd)
{
	struct bpf_prog_info info = {};
	__u32 length = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &length) ? 0 : info.id;
}

/* ------------------------------------------------------ attach, detach --- */

static int attach_pinned(const struct datapath_options *o)
{
	__u32 id[HOOKS] = {};
	struct hook hook[HOOKS];
	struct datapath dp;
	int err;

	err = datapath_open(o->name, &dp);
	if (err)
		return err;
	hooks_from(hook, dp.abi.guest, dp.abi.port, dp.abi.link, dp.config);
	for (int i = 0; i < HOOKS; i++)
		id[i] = prog_id(dp.prog_fd[hook[i].prog]);
	err = hook_promiscuous(o->name, &hook[1]);
	if (!err)
		err = hook_promiscuous(o->name, &hook[2]);
	for (int i = 0; !err && i < HOOKS; i++)
		err = hook_attach(o->name, &hook[i], dp.prog_fd[hook[i].prog]);
	if (!err)
		dp.session->mode = datapath_idle_mode(dp.abi.role);
	else
		hooks_detach(o->name, hook, id);
	datapath_close(&dp);
	return err;
}

static int load_and_pin(const struct datapath_options *o, struct colo_config *config)
{
	struct image image = {};
	int err;

	err = image_load(&image, o->role, config);
	if (!err)
		err = fill_maps(&image, o, config);
	if (!err)
		err = pin_all(&image, o->name);
	image_close(&image);
	return err;
}

static int check_new(const char *name)
{
	char path[PIN_PATH_MAX];
	struct datapath dp;
	int err;

	pin_path(path, name, "", "");
	if (access(path, F_OK))
		return 0;
	err = datapath_open(name, &dp);
	if (err)
		return err;
	datapath_close(&dp);
	log_error("%s: is attached already; `colo-bpf detach %s` first", path, name);
	return -EEXIST;
}

int datapath_attach(const struct datapath_options *o)
{
	struct colo_config config = o->config;
	sigset_t all, before;
	int err;

	if (!pin_name_valid(o->name)) {
		log_error(
			"\"%s\": an instance's name has 1 to 31 of A-Z a-z 0-9 . _ - and begins with no . or -",
			o->name);
		return -EINVAL;
	}
	log_libbpf(1);
	pool_config_defaults(&config);
	err = pin_mount();
	if (!err)
		err = check_new(o->name);
	if (!err)
		err = check_devices(o, &config);
	if (err)
		return err;

	/* Half an instance is no use to anybody: Ctrl-C waits until it is whole. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	err = pin_make(o->name);
	if (err != -EEXIST) {
		if (!err)
			err = load_and_pin(o, &config);
		if (!err)
			err = attach_pinned(o);
		if (err)
			pin_remove(o->name);
	} else { /* another attach of this name, at this moment */
		err = check_new(o->name);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return err;
}

int datapath_detach(const char *name)
{
	__u32 id[HOOKS] = {};
	struct hook hook[HOOKS];
	struct datapath dp;
	int err;

	err = datapath_open(name, &dp);
	if (err)
		return err;
	if (dp.abi.netns_ino != datapath_netns()) {
		log_error(
			"%s was attached in another network namespace: run this there, or with --netns; if that is gone: detach --force",
			name);
		datapath_close(&dp);
		return -EXDEV;
	}
	hooks_from(hook, dp.abi.guest, dp.abi.port, dp.abi.link, dp.config);
	for (int i = 0; i < HOOKS; i++)
		id[i] = prog_id(dp.prog_fd[hook[i].prog]);
	/* From here on the guest is cut off; what is held has its end. */
	err = release_discard(&dp);
	if (err)
		log_warning("%s: what was held could not be discarded one by one: %s", name,
			    strerror(-err));
	hooks_detach(name, hook, id);
	datapath_close(&dp);
	return datapath_unpin(name);
}

int datapath_unpin(const char *name)
{
	char path[PIN_PATH_MAX];
	int err;

	if (!pin_name_valid(name))
		return -EINVAL;
	err = pin_remove(name);
	if (err) {
		pin_path(path, name, "", "");
		log_error("%s: cannot be removed: %s", path, strerror(-err));
	}
	return err;
}
