// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "log.h"
#include "pin.h"
#include "tc.h"
#include "xdp.h"

static bool is_veth(const char *device)
{
	struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};

	return !device_ethtool(device, &info) && !strcmp(info.driver, "veth");
}

/* Of a veth it is the other end that leaves a tag out of the frame. */
static bool strips_tags(const char *device)
{
	struct ethtool_value flags = {.cmd = ETHTOOL_GFLAGS};

	return !is_veth(device) && !device_ethtool(device, &flags) &&
	       flags.data & ETH_FLAG_RXVLAN;
}

int xdp_check(const struct datapath_options *o, struct colo_config *config)
{
	struct ethtool_value tso = {.cmd = ETHTOOL_GTSO};
	struct tc_state port;
	unsigned int mtu = 0;
	int err;

	config->xdp_frame_max = 0;
	if (o->context != COLO_CONTEXT_XDP)
		return 0;
	err = device_mtu(o->port, &mtu);
	if (err)
		return err;
	if (strips_tags(o->link)) {
		log_error(
			"--link %s: takes tags out of frames before XDP sees them: `ethtool -K %s rxvlan off`, or --context tc",
			o->link, o->link);
		return -EINVAL;
	}
	/* Frames of XDP and of tc would wait in two queues at its other end. */
	if (is_veth(o->port) && !device_ethtool(o->port, &tso) && tso.data) {
		log_error("--port %s: `ethtool -K %s tso off`, or --context tc", o->port,
			  o->port);
		return -EINVAL;
	}
	/* XDP's would overtake what tc has released and a queue keeps back. */
	err = tc_query(if_nametoindex(o->port), &port);
	if (err)
		return err;
	if (!port.unqueued) {
		log_error(
			"--port %s: `tc qdisc replace dev %s root noqueue`, which XDP passes by, or --context tc",
			o->port, o->port);
		return -EINVAL;
	}
	config->xdp_frame_max = mtu + ETH_HLEN;
	return 0;
}

/* ---------------------------------------------------------------- links --- */

static int attach_device(int prog_fd, __u32 ifindex)
{
	/* generic XDP comes behind the stack's own work, and gains nothing */
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = XDP_FLAGS_DRV_MODE);

	return bpf_link_create(prog_fd, ifindex, BPF_XDP, &opts);
}

static const char *reason(int err)
{
	switch (err) {
	case -EOPNOTSUPP:
		return "its driver has no XDP of its own";
	case -ERANGE:
		return "its MTU, or that of a veth's other end, is too large for XDP";
	case -EBUSY:
		return "another XDP program is there";
	}
	return strerror(-err);
}

static int attach_one(const struct datapath *dp, enum datapath_prog prog, const char *option,
		      const char *device, __u32 ifindex)
{
	int fd = dp->prog_fd[prog], link, err;
	char path[PIN_PATH_MAX];

	pin_path(path, dp->abi.name, "links", datapath_prog_names[prog]);
	if (!access(path, F_OK))
		return 0;
	link = device ? attach_device(fd, ifindex) : bpf_raw_tracepoint_open(NULL, fd);
	err = link < 0 ? link : bpf_obj_pin(link, path);
	if (link >= 0)
		close(link);
	if (err && device)
		log_error("%s %s: XDP cannot be attached: %s; --context tc needs none", option,
			  device, reason(err));
	else if (err)
		log_error("a tracepoint of XDP cannot be had: %s; --context tc needs none",
			  strerror(-err));
	return err;
}

int xdp_attach(const struct datapath *dp)
{
	const struct colo_abi *abi = &dp->abi;
	int err;

	if (!datapath_has_prog(abi->role, abi->context, PROG_GUEST_OUT_XDP))
		return 0;
	/* first who counts what the others send */
	err = attach_one(dp, PROG_XDP_FLUSHED, NULL, NULL, 0);
	if (!err)
		err = attach_one(dp, PROG_XDP_REFUSED, NULL, NULL, 0);
	if (!err)
		err = attach_one(dp, PROG_LINK_IN_XDP, "--link", abi->link, abi->link_ifindex);
	if (!err)
		err = attach_one(dp, PROG_GUEST_OUT_XDP, "--guest", abi->guest,
				 abi->guest_ifindex);
	return err;
}

void xdp_detach(const char *name)
{
	static const enum datapath_prog progs[] = {PROG_GUEST_OUT_XDP, PROG_LINK_IN_XDP};
	char path[PIN_PATH_MAX];

	for (size_t i = 0; i < sizeof(progs) / sizeof(*progs); i++) {
		int link;

		pin_path(path, name, "links", datapath_prog_names[progs[i]]);
		link = bpf_obj_get(path);
		if (link < 0)
			continue;
		bpf_link_detach(link);
		close(link);
	}
}
