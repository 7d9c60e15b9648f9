// SPDX-License-Identifier: GPL-2.0-only
/*
 * The other role, under load. The new programs and maps are pinned beside the
 * instance, in a directory that no command sees, which is then exchanged with
 * the instance's own; after that the filters get the programs that are pinned.
 * Who dies on the way leaves pins of one role or of the other, never of both,
 * and datapath_repair() makes the filters follow them.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "image.h"
#include "install.h"
#include "log.h"
#include "names.h"
#include "pin.h"
#include "xdp.h"

/* Marks are of the devices, whoever is attached to them. */
static int copy_marks(const struct datapath *dp, const char *to)
{
	struct hook hook[HOOKS];
	char mark[64];
	int err = 0;

	hooks_from(hook, &dp->abi);
	for (int i = 0; i < HOOKS * MARKS; i++) {
		hook_mark(mark, hook_marks[i % MARKS], hook[i / MARKS].ifindex);
		if (!pin_marked(dp->abi.name, mark))
			continue;
		err = pin_mark(to, mark);
		if (err && err != -EEXIST)
			return err;
	}
	return 0;
}

static int pin_beside(struct datapath *dp, enum colo_role role, const char *hidden)
{
	struct colo_abi abi = dp->abi;
	struct image image;
	__u32 zero = 0;
	int err;

	abi.role = role;
	err = image_load(&image, role, abi.context, dp->config, dp);
	if (!err)
		err = bpf_map_update_elem(image_map_fd(&image, MAP_ABI), &zero, &abi, 0);
	if (!err)
		err = pin_make(hidden);
	if (!err)
		err = image_pin(&image, hidden);
	if (!err)
		err = copy_marks(dp, hidden);
	image_close(&image);
	return err;
}

/* What is pinned now, but for the maps that are the same: others may wait on these. */
static int open_again(struct datapath *dp)
{
	struct datapath now;
	int err = datapath_open(dp->abi.name, &now);

	if (err)
		return err;
	for (int i = 0; i < MAP_COUNT; i++) {
		int fd = dp->map_fd[i];

		if (datapath_map_is_shared(i))
			continue;
		dp->map_fd[i] = now.map_fd[i];
		now.map_fd[i] = fd;
	}
	for (int i = 0; i < PROG_COUNT; i++) {
		int fd = dp->prog_fd[i];

		dp->prog_fd[i] = now.prog_fd[i];
		now.prog_fd[i] = fd;
	}
	dp->abi = now.abi;
	memset(&dp->watch, 0, sizeof(dp->watch));
	datapath_close(&now);
	return 0;
}

/*
 * Each filter runs the program that is pinned. XDP's are attached where the role has
 * them; they go with the pins of one that had.
 */
static int filters_follow(const struct datapath *dp)
{
	struct hook hook[HOOKS];
	struct tc_state state;
	int err = 0;

	hooks_from(hook, &dp->abi);
	for (int i = 0; !err && i < HOOKS; i++) {
		int fd = dp->prog_fd[hook[i].prog];

		err = tc_query(hook[i].ifindex, &state);
		if (!err && state.ours[hook[i].side] == hook_prog_id(fd))
			continue;
		if (!err)
			err = tc_replace(hook[i].ifindex, hook[i].side, fd);
		if (err)
			log_error("%s %s: its tc filter cannot be replaced: %s", hook[i].option,
				  hook[i].device, strerror(-err));
	}
	return err ? err : xdp_attach(dp);
}

static int check_switch(const struct datapath *dp, enum colo_role role)
{
	enum colo_mode mode = dp->session->mode;

	if (dp->abi.netns_ino != datapath_netns()) {
		log_error("%s was attached in another network namespace", dp->abi.name);
		return -EXDEV;
	}
	if (mode != COLO_MODE_WIRE && mode != COLO_MODE_ACTIVE && mode != COLO_MODE_SHUT) {
		log_error("%s: cannot become a %s in mode %s: COLO runs", dp->abi.name,
			  name_role(role), name_mode(mode));
		return -EBUSY;
	}
	for (__u32 i = 0; i < dp->max_frames; i++) {
		if (dp->frames[i].state == COLO_FRAME_FREE)
			continue;
		log_error("%s: cannot become a %s: frames of COLO still wait", dp->abi.name,
			  name_role(role));
		return -EBUSY;
	}
	return 0;
}

/* The pins of the instance and those beside it change places, and all follows. */
static int exchange(struct datapath *dp, const char *hidden)
{
	int err = pin_exchange(dp->abi.name, hidden);

	if (err)
		return err;
	err = open_again(dp);
	if (!err)
		err = filters_follow(dp);
	if (!err)
		return 0;
	if (pin_exchange(dp->abi.name, hidden) || open_again(dp) || filters_follow(dp))
		log_error("%s: the switch of its role cannot be undone: detach it",
			  dp->abi.name);
	return err;
}

static void settle_mode(struct datapath *dp)
{
	if (dp->abi.role == COLO_ROLE_PRIMARY && dp->session->mode == COLO_MODE_ACTIVE)
		dp->session->mode = COLO_MODE_WIRE;
}

int datapath_switch_role(struct datapath *dp, enum colo_role role)
{
	char hidden[64];
	int err;

	if (dp->abi.role == role)
		return 0;
	err = check_switch(dp, role);
	if (err)
		return err;
	pin_hidden(hidden, dp->abi.name);
	pin_remove(hidden); /* of a switch that did not come to its end */
	err = pin_beside(dp, role, hidden);
	if (!err)
		err = exchange(dp, hidden);
	xdp_detach(hidden);
	pin_remove(hidden);
	settle_mode(dp);
	return err;
}

int datapath_repair(struct datapath *dp)
{
	char path[PIN_PATH_MAX], hidden[64];
	int err;

	pin_hidden(hidden, dp->abi.name);
	pin_path(path, hidden, "", "");
	if (access(path, F_OK))
		return 0;
	log_warning("%s: its role was being switched: it is a %s", dp->abi.name,
		    name_role(dp->abi.role));
	err = filters_follow(dp);
	xdp_detach(hidden);
	if (!err)
		err = pin_remove(hidden);
	settle_mode(dp);
	return err;
}
