// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <linux/if_ether.h>
#include <linux/netlink.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <bpf/libbpf.h>

#include "log.h"
#include "tc.h"

#define UNQUEUED "noqueue"

static int netlink_open(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	return fd < 0 ? -errno : fd;
}

/*
 * Dump one kind of traffic control object of one device. Returns 0 or -errno;
 * ENOENT and the like mean that there is nothing to dump.
 */
static int netlink_dump(int fd, int type, int ifindex, __u32 parent,
			void (*found)(struct nlmsghdr *, void *), void *context)
{
	struct {
		struct nlmsghdr header;
		struct tcmsg message;
	} request = {
		.header.nlmsg_len = sizeof(request),
		.header.nlmsg_type = type,
		.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		.message.tcm_family = AF_UNSPEC,
		.message.tcm_ifindex = ifindex,
		.message.tcm_parent = parent,
	};
	_Alignas(struct nlmsghdr) char buffer[32768];

	if (send(fd, &request, sizeof(request), 0) < 0)
		return -errno;
	for (;;) {
		ssize_t length = recv(fd, buffer, sizeof(buffer), 0);
		struct nlmsghdr *header = (struct nlmsghdr *)buffer;

		if (length < 0)
			return -errno;
		for (; NLMSG_OK(header, (size_t)length); header = NLMSG_NEXT(header, length)) {
			struct nlmsgerr *error = NLMSG_DATA(header);

			if (header->nlmsg_type == NLMSG_DONE)
				return 0;
			if (header->nlmsg_type == NLMSG_ERROR)
				return error->error;
			found(header, context);
		}
	}
}

/* Make or delete a device's root qdisc; kind NULL: delete. */
static int netlink_root(int ifindex, const char *kind)
{
	struct {
		struct nlmsghdr header;
		struct tcmsg message;
		struct rtattr attribute;
		char kind[16];
	} request = {
		.header.nlmsg_len = NLMSG_LENGTH(sizeof(struct tcmsg)),
		.header.nlmsg_type = RTM_DELQDISC,
		.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
		.message.tcm_family = AF_UNSPEC,
		.message.tcm_ifindex = ifindex,
		.message.tcm_parent = TC_H_ROOT,
		.attribute.rta_type = TCA_KIND,
	};
	_Alignas(struct nlmsghdr) char buffer[1024];
	const struct nlmsghdr *header = (struct nlmsghdr *)buffer;
	const struct nlmsgerr *error = NLMSG_DATA(header);
	int fd = netlink_open(), err = 0;
	ssize_t length;

	if (fd < 0)
		return fd;
	if (kind) {
		strncpy(request.kind, kind, sizeof(request.kind) - 1);
		request.attribute.rta_len = RTA_LENGTH(strlen(request.kind) + 1);
		request.header.nlmsg_type = RTM_NEWQDISC;
		request.header.nlmsg_flags |= NLM_F_CREATE | NLM_F_REPLACE;
		request.header.nlmsg_len += RTA_ALIGN(request.attribute.rta_len);
	}
	if (send(fd, &request, request.header.nlmsg_len, 0) < 0)
		err = -errno;
	length = err ? 0 : recv(fd, buffer, sizeof(buffer), 0);
	if (length < 0)
		err = -errno;
	else if (!err)
		err = NLMSG_OK(header, (size_t)length) && header->nlmsg_type == NLMSG_ERROR ?
			      error->error :
			      -EPROTO;
	close(fd);
	return err;
}

struct query {
	int ifindex;
	struct tc_state *state;
};

static bool qdisc_is(struct nlmsghdr *header, const char *kind)
{
	size_t length = header->nlmsg_len - NLMSG_LENGTH(sizeof(struct tcmsg));
	struct rtattr *at =
		(struct rtattr *)((char *)header + NLMSG_SPACE(sizeof(struct tcmsg)));

	for (; RTA_OK(at, length); at = RTA_NEXT(at, length)) {
		if (at->rta_type == TCA_KIND)
			return !strcmp(RTA_DATA(at), kind);
	}
	return false;
}

static void found_qdisc(struct nlmsghdr *header, void *context)
{
	const struct tcmsg *message = NLMSG_DATA(header);
	struct query *query = context;

	/* The kernel dumps the qdiscs of all devices. */
	if (message->tcm_ifindex != query->ifindex)
		return;
	if (message->tcm_parent == TC_H_CLSACT)
		query->state->clsact = true;
	if (message->tcm_parent == TC_H_ROOT)
		query->state->unqueued = qdisc_is(header, UNQUEUED);
}

static void found_filter(struct nlmsghdr *header, void *context)
{
	const struct tcmsg *message = NLMSG_DATA(header);
	struct tc_state *state = ((struct query *)context)->state;
	enum tc_side side = TC_H_MIN(message->tcm_parent) == TC_H_MIN_EGRESS;

	/* A filter's head (its protocol and priority) comes as handle 0. */
	if (!message->tcm_handle)
		return;
	state->filters++;
	if (TC_H_MAJ(message->tcm_info) >> 16 == COLO_TC_PRIORITY &&
	    message->tcm_handle != COLO_TC_HANDLE)
		state->first_taken[side] = true;
}

static const struct {
	enum bpf_tc_attach_point point;
	__u32 parent;
} sides[TC_SIDES] = {
	[TC_INGRESS] = {BPF_TC_INGRESS, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)},
	[TC_EGRESS] = {BPF_TC_EGRESS, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)},
};

static unsigned int query_ours(int ifindex, enum tc_side side)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = sides[side].point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = COLO_TC_HANDLE, .priority = COLO_TC_PRIORITY);
	int err;

	log_libbpf(0);
	err = bpf_tc_query(&hook, &opts);
	log_libbpf(1);
	return err ? 0 : opts.prog_id;
}

int tc_query(int ifindex, struct tc_state *state)
{
	struct query query = {.ifindex = ifindex, .state = state};
	int fd, err;

	memset(state, 0, sizeof(*state));
	fd = netlink_open();
	if (fd < 0)
		return fd;
	err = netlink_dump(fd, RTM_GETQDISC, ifindex, 0, found_qdisc, &query);
	for (int side = 0; !err && state->clsact && side < TC_SIDES; side++)
		err = netlink_dump(fd, RTM_GETTFILTER, ifindex, sides[side].parent,
				   found_filter, &query);
	close(fd);
	for (int side = 0; !err && state->clsact && side < TC_SIDES; side++)
		state->ours[side] = query_ours(ifindex, side);
	return err;
}

int tc_attach(int ifindex, enum tc_side side, int prog_fd, bool *made_clsact)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = sides[side].point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = COLO_TC_HANDLE, .priority = COLO_TC_PRIORITY,
		    .prog_fd = prog_fd);
	int err;

	log_libbpf(0);
	err = bpf_tc_hook_create(&hook);
	*made_clsact = !err;
	if (!err || err == -EEXIST)
		err = bpf_tc_attach(&hook, &opts);
	log_libbpf(1);
	return err;
}

int tc_replace(int ifindex, enum tc_side side, int prog_fd)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = sides[side].point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = COLO_TC_HANDLE, .priority = COLO_TC_PRIORITY,
		    .prog_fd = prog_fd, .flags = BPF_TC_F_REPLACE);
	int err;

	log_libbpf(0);
	err = bpf_tc_attach(&hook, &opts);
	log_libbpf(1);
	return err;
}

int tc_detach(int ifindex, enum tc_side side, bool remove_clsact)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = sides[side].point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = COLO_TC_HANDLE, .priority = COLO_TC_PRIORITY);
	struct tc_state state;
	int err;

	log_libbpf(0);
	err = bpf_tc_detach(&hook, &opts);
	if (remove_clsact && !tc_query(ifindex, &state) && !state.filters) {
		log_libbpf(0);
		hook.attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS;
		bpf_tc_hook_destroy(&hook);
	}
	log_libbpf(1);
	return err;
}

int tc_unqueue(int ifindex, bool *was)
{
	struct tc_state state;
	int err = tc_query(ifindex, &state);

	if (err)
		return err;
	*was = state.unqueued;
	return *was ? 0 : netlink_root(ifindex, UNQUEUED);
}

int tc_queue(int ifindex)
{
	struct tc_state state;
	int err = tc_query(ifindex, &state);

	return err || !state.unqueued ? err : netlink_root(ifindex, NULL);
}

static int device_ioctl(const char *device, unsigned long command, struct ifreq *request)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err = 0;

	if (fd < 0)
		return -errno;
	strncpy(request->ifr_name, device, IFNAMSIZ - 1);
	request->ifr_name[IFNAMSIZ - 1] = 0;
	if (ioctl(fd, command, request) < 0)
		err = -errno;
	close(fd);
	return err;
}

int device_ethtool(const char *device, void *data)
{
	struct ifreq request = {.ifr_data = data};

	return device_ioctl(device, SIOCETHTOOL, &request);
}

int device_mtu(const char *device, unsigned int *mtu)
{
	struct ifreq request = {};
	int err = device_ioctl(device, SIOCGIFMTU, &request);

	if (!err)
		*mtu = request.ifr_mtu;
	return err;
}

int device_queue(const char *device, __u32 *length)
{
	struct ifreq request = {};
	int err = device_ioctl(device, SIOCGIFTXQLEN, &request);

	if (!err)
		*length = request.ifr_qlen;
	return err;
}

int device_set_queue(const char *device, __u32 length)
{
	struct ifreq request = {.ifr_qlen = (int)length};

	return device_ioctl(device, SIOCSIFTXQLEN, &request);
}

int device_mac(const char *device, __u8 mac[6])
{
	struct ifreq request = {};
	int err = device_ioctl(device, SIOCGIFHWADDR, &request);

	if (!err)
		memcpy(mac, request.ifr_hwaddr.sa_data, 6);
	return err;
}

int device_set_promiscuous(const char *device, bool on, bool *was)
{
	struct ifreq request = {};
	int err = device_ioctl(device, SIOCGIFFLAGS, &request);

	if (err)
		return err;
	*was = request.ifr_flags & IFF_PROMISC;
	if (*was == on)
		return 0;
	request.ifr_flags ^= IFF_PROMISC;
	return device_ioctl(device, SIOCSIFFLAGS, &request);
}
