// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attach and detach: load the objects, pin them, hook them to the devices, and
 * take all of that away again.
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

#include "image.h"
#include "install.h"
#include "log.h"
#include "pin.h"
#include "policy.h"
#include "pool.h"
#include "release.h"
#include "xdp.h"

static void copy_name(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from ? from : "");
}

/* What there is to say before the devices are looked at. */
static struct colo_abi abi_from(const struct datapath_options *o)
{
	struct colo_abi abi = {
		.version = COLO_ABI_VERSION,
		.role = o->role,
		.netns_ino = datapath_netns(),
		.context = o->context,
	};

	copy_name(abi.name, sizeof(abi.name), o->name);
	copy_name(abi.guest, sizeof(abi.guest), o->guest);
	copy_name(abi.port, sizeof(abi.port), o->port);
	copy_name(abi.link, sizeof(abi.link), o->link);
	copy_name(abi.peer, sizeof(abi.peer), o->peer);
	return abi;
}

static int fill_maps(const struct image *image, const struct colo_abi *abi,
		     const struct colo_config *config)
{
	struct colo_session session = {
		.mode = COLO_MODE_SHUT,
		.frame_shift = pool_frame_shift(config),
	};
	__u32 zero = 0;
	int err;

	err = bpf_map_update_elem(image_map_fd(image, MAP_ABI), &zero, abi, 0);
	if (!err)
		err = bpf_map_update_elem(image_map_fd(image, MAP_CONFIG), &zero, config, 0);
	if (!err)
		err = bpf_map_update_elem(image_map_fd(image, MAP_SESSION), &zero, &session, 0);
	if (!err)
		err = policy_fill(image_map_fd(image, MAP_POLICY));
	if (!err)
		err = pool_magazines(image_map_fd(image, MAP_MAGAZINES), config);
	if (!err)
		err = pool_fill(image_map_fd(image, MAP_FREE_FRAMES),
				image_map_fd(image, MAP_FREE_SMALL),
				image_map_fd(image, MAP_FREE_BIG), config);
	if (err)
		log_error("the maps cannot be filled: %s", strerror(-err));
	return err;
}

/* ------------------------------------------------------------- devices --- */

const char *const hook_marks[MARKS] = {"clsact", "promisc", "qdisc"};

void hooks_from(struct hook hook[HOOKS], const struct colo_abi *abi)
{
	hook[0] = (struct hook){"--guest", abi->guest, abi->guest_ifindex, TC_INGRESS,
				PROG_GUEST_OUT};
	hook[1] =
		(struct hook){"--port", abi->port, abi->port_ifindex, TC_INGRESS, PROG_PORT_IN};
	hook[2] =
		(struct hook){"--link", abi->link, abi->link_ifindex, TC_INGRESS, PROG_LINK_IN};
	hook[3] =
		(struct hook){"--port", abi->port, abi->port_ifindex, TC_EGRESS, PROG_PORT_OUT};
}

static const char *const side_names[TC_SIDES] = {"ingress", "egress"};

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
	if (state.ours[hook->side]) {
		log_error(
			"%s %s: has a filter of an instance whose pins are gone: `tc filter del dev %s %s pref %d` takes it away",
			hook->option, hook->device, hook->device, side_names[hook->side],
			COLO_TC_PRIORITY);
		return -EBUSY;
	}
	if (state.first_taken[hook->side]) {
		log_error(
			"%s %s: another tc filter has preference %d at %s; the proxy's must be the first: give the other a higher number",
			hook->option, hook->device, COLO_TC_PRIORITY, side_names[hook->side]);
		return -EBUSY;
	}
	return 0;
}

static int find_devices(const struct datapath_options *o, __u32 *const index[3])
{
	const struct {
		const char *option;
		const char *device;
	} device[3] = {{"--guest", o->guest}, {"--port", o->port}, {"--link", o->link}};

	for (int i = 0; i < 3; i++) {
		*index[i] = if_nametoindex(device[i].device);
		if (!*index[i]) {
			log_error("%s %s: no such device in this network namespace",
				  device[i].option, device[i].device);
			return -ENODEV;
		}
		for (int j = 0; j < i; j++) {
			if (*index[i] != *index[j])
				continue;
			log_error("%s and %s are both %s: three devices are needed",
				  device[j].option, device[i].option, device[i].device);
			return -EINVAL;
		}
	}
	return 0;
}

static int check_devices(const struct datapath_options *o, struct colo_abi *abi)
{
	__u32 *const index[3] = {&abi->guest_ifindex, &abi->port_ifindex, &abi->link_ifindex};
	unsigned int port_mtu = 0, link_mtu = 0;
	struct hook hook[HOOKS];
	int err;

	err = find_devices(o, index);
	if (err)
		return err;
	hooks_from(hook, abi);
	err = device_queue(o->guest, &abi->guest_queue);
	if (err) {
		log_error("--guest %s: the length of its queue cannot be read: %s", o->guest,
			  strerror(-err));
		return err;
	}
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

void hook_mark(char mark[64], const char *what, __u32 ifindex)
{
	snprintf(mark, 64, "%s-%u", what, ifindex);
}

/*
 * A mark in the guest's input must not be overtaken, nor be late (bpf/gate.h);
 * and what comes while the guest stands still must have room.
 */
static int hook_queue(const char *name, const struct hook *hook, __u32 length)
{
	bool was = true;
	char mark[64];
	int err = tc_unqueue(hook->ifindex, &was);

	if (!err && !was) {
		hook_mark(mark, "qdisc", hook->ifindex);
		err = pin_mark(name, mark);
	}
	if (!err && length < COLO_GUEST_QUEUE)
		err = device_set_queue(hook->device, COLO_GUEST_QUEUE);
	if (err)
		log_error("%s %s: its queue cannot be set: %s", hook->option, hook->device,
			  strerror(-err));
	return err;
}

static void hook_queue_back(const char *name, const struct hook *hook, __u32 length)
{
	char mark[64];

	hook_mark(mark, "qdisc", hook->ifindex);
	if (pin_marked(name, mark))
		tc_queue(hook->ifindex);
	if (length < COLO_GUEST_QUEUE)
		device_set_queue(hook->device, length);
}

/* What attach did to the devices, as far as it came. */
static void hooks_detach(const char *name, const struct hook hook[HOOKS],
			 const __u32 prog_id[HOOKS], __u32 guest_queue)
{
	char mark[64];
	bool was;

	hook_queue_back(name, &hook[0], guest_queue);
	for (int i = HOOKS - 1; i >= 0; i--) {
		struct tc_state state;

		/* A device that is gone took its filters along. */
		if (tc_query(hook[i].ifindex, &state))
			continue;
		hook_mark(mark, "clsact", hook[i].ifindex);
		if (state.ours[hook[i].side] && state.ours[hook[i].side] == prog_id[i])
			tc_detach(hook[i].ifindex, hook[i].side, pin_marked(name, mark));
		else if (state.ours[hook[i].side])
			log_warning(
				"%s: its filter is not the one that %s attached, left alone",
				hook[i].device, name);
		hook_mark(mark, "promisc", hook[i].ifindex);
		if (pin_marked(name, mark))
			device_set_promiscuous(hook[i].device, false, &was);
	}
}

static int hook_attach(const char *name, const struct hook *hook, int prog_fd)
{
	bool made = false;
	char mark[64];
	int err;

	err = tc_attach(hook->ifindex, hook->side, prog_fd, &made);
	if (made) {
		hook_mark(mark, "clsact", hook->ifindex);
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
	hook_mark(mark, "promisc", hook->ifindex);
	return was ? 0 : pin_mark(name, mark);
}

__u32 hook_prog_id(int fd)
{
	struct bpf_prog_info info = {};
	__u32 length = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &length) ? 0 : info.id;
}

/* ------------------------------------------------------ attach, detach --- */

static int remove_pins(const char *name)
{
	xdp_detach(name);
	return pin_remove(name);
}

static int attach_pinned(const struct datapath_options *o)
{
	__u32 id[HOOKS] = {};
	struct hook hook[HOOKS];
	struct datapath dp;
	int err;

	err = datapath_open(o->name, &dp);
	if (err)
		return err;
	hooks_from(hook, &dp.abi);
	for (int i = 0; i < HOOKS; i++)
		id[i] = hook_prog_id(dp.prog_fd[hook[i].prog]);
	err = hook_queue(o->name, &hook[0], dp.abi.guest_queue);
	if (!err)
		err = hook_promiscuous(o->name, &hook[1]);
	if (!err)
		err = hook_promiscuous(o->name, &hook[2]);
	for (int i = 0; !err && i < HOOKS; i++)
		err = hook_attach(o->name, &hook[i], dp.prog_fd[hook[i].prog]);
	if (!err)
		err = xdp_attach(&dp);
	if (!err)
		dp.session->mode = datapath_idle_mode(dp.abi.role);
	else
		hooks_detach(o->name, hook, id, dp.abi.guest_queue);
	datapath_close(&dp);
	return err;
}

static int load_and_pin(const struct colo_abi *abi, const struct colo_config *config)
{
	struct image image;
	int err;

	err = image_load(&image, abi->role, abi->context, config, NULL);
	if (!err)
		err = fill_maps(&image, abi, config);
	if (!err)
		err = image_pin(&image, abi->name);
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
	struct colo_abi abi = abi_from(o);
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
		err = check_devices(o, &abi);
	if (!err)
		err = xdp_check(o, &config);
	if (err)
		return err;
	config.guest_ifindex = abi.guest_ifindex;
	config.port_ifindex = abi.port_ifindex;
	config.link_ifindex = abi.link_ifindex;

	/* Half an instance is no use to anybody: Ctrl-C waits until it is whole. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	err = pin_make(o->name);
	if (err != -EEXIST) {
		if (!err)
			err = load_and_pin(&abi, &config);
		if (!err)
			err = attach_pinned(o);
		if (err)
			remove_pins(o->name);
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
	datapath_repair(&dp);
	hooks_from(hook, &dp.abi);
	for (int i = 0; i < HOOKS; i++)
		id[i] = hook_prog_id(dp.prog_fd[hook[i].prog]);
	/* From here on the guest is cut off; what is held has its end. */
	err = release_discard(&dp);
	if (err)
		log_warning("%s: what was held could not be discarded one by one: %s", name,
			    strerror(-err));
	hooks_detach(name, hook, id, dp.abi.guest_queue);
	datapath_close(&dp);
	return datapath_unpin(name);
}

int datapath_unpin(const char *name)
{
	char path[PIN_PATH_MAX], hidden[64];
	int err;

	if (!pin_name_valid(name))
		return -EINVAL;
	pin_hidden(hidden, name);
	remove_pins(hidden);
	err = remove_pins(name);
	if (err) {
		pin_path(path, name, "", "");
		log_error("%s: cannot be removed: %s", path, strerror(-err));
	}
	return err;
}
