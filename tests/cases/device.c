// SPDX-License-Identifier: GPL-2.0-only
/*
 * The devices of the cases: a tap that plays the guest's, veth pairs whose far
 * ends play the client network and the other host. All in a network namespace
 * of the runner's own, in which the kernel's stack says nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "cases.h"

#define RCVBUF (64 << 20)

static int control_fd = -1; /* for ioctls on devices */
unsigned int wire_mtu = FRAME_MTU;

static int fail(const char *what, const char *on)
{
	int err = -errno;

	fprintf(stderr, "cases: %s %s: %s\n", what, on, strerror(-err));
	return err;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t len = strlen(text);
	int err = fd < 0 || write(fd, text, len) != len ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return err;
}

/*
 * Only the network namespace is new: /sys/fs/bpf stays what it is. IPv6 is
 * off, so that no device that comes up says anything of its own.
 */
int devices_enter(void)
{
	if (unshare(CLONE_NEWNET))
		return fail("unshare", "(root is needed)");
	write_file("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
	write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
	write_file("/proc/sys/net/ipv4/ip_forward", "0");
	control_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return control_fd < 0 ? fail("socket", "") : 0;
}

static int ip_batch(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int ip_batch(const char *format, ...)
{
	FILE *ip = popen("ip -batch -", "w");
	va_list args;

	if (!ip)
		return fail("ip", "-batch");
	va_start(args, format);
	vfprintf(ip, format, args);
	va_end(args);
	return pclose(ip) ? -EIO : 0;
}

/* Old, but each is one number and every kernel has them. */
static void offload(const char *name, uint32_t command, bool on)
{
	struct ethtool_value value = {.cmd = command, .data = on};
	struct ifreq request = {.ifr_data = (void *)&value};

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	ioctl(control_fd, SIOCETHTOOL, &request);
}

/* GRO would cut the frames anew on their way to us. */
static void set_offloads(const char *name, bool on)
{
	offload(name, ETHTOOL_STSO, on);
	offload(name, ETHTOOL_SGSO, on);
	offload(name, ETHTOOL_STXCSUM, on);
	offload(name, ETHTOOL_SGRO, false);
}

int devices_tap(struct wire *tap, const char *name, bool offloads)
{
	unsigned int features =
		offloads ? TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN : 0;
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int header = sizeof(struct virtio_net_hdr);

	snprintf(tap->name, sizeof(tap->name), "%s", name);
	memcpy(request.ifr_name, tap->name, sizeof(tap->name));
	tap->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (tap->fd < 0 || ioctl(tap->fd, TUNSETIFF, &request) ||
	    ioctl(tap->fd, TUNSETVNETHDRSZ, &header) ||
	    ioctl(tap->fd, TUNSETOFFLOAD, features) || ioctl(tap->fd, TUNSETPERSIST, 1))
		return fail("/dev/net/tun", name);
	tap->ifindex = if_nametoindex(name);
	return ip_batch("link set %s mtu %u txqueuelen 10000 arp off multicast off up\n", name,
			wire_mtu);
}

static int open_far(struct wire *far)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int on = 1, buffer = RCVBUF;

	far->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	far->ifindex = if_nametoindex(far->name);
	to.sll_ifindex = far->ifindex;
	if (far->fd < 0 || setsockopt(far->fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) ||
	    setsockopt(far->fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)) ||
	    setsockopt(far->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) ||
	    setsockopt(far->fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer)) ||
	    bind(far->fd, (struct sockaddr *)&to, sizeof(to)))
		return fail("packet socket", far->name);
	return 0;
}

int devices_veth(struct wire *far, const char *near_name, const char *far_name, int mtu,
		 bool offloads)
{
	int err = ip_batch("link add %s mtu %d type veth peer name %s mtu %d\n"
			   "link set %s arp off multicast off up\n"
			   "link set %s arp off multicast off up\n",
			   near_name, mtu, far_name, mtu, near_name, far_name);

	if (err)
		return err;
	set_offloads(near_name, offloads);
	set_offloads(far_name, offloads);
	snprintf(far->name, sizeof(far->name), "%s", far_name);
	return open_far(far);
}

/* A veth takes frames of XDP only where its other end has XDP, too: one that passes all. */
int devices_xdp(const char *name)
{
	const struct bpf_insn pass[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
		{.code = BPF_JMP | BPF_EXIT},
	};
	int prog = bpf_prog_load(BPF_PROG_TYPE_XDP, "pass", "GPL", pass, 2, NULL);

	if (prog < 0 || bpf_xdp_attach(if_nametoindex(name), prog, XDP_FLAGS_DRV_MODE, NULL))
		return fail("XDP", name);
	close(prog);
	offload(name, ETHTOOL_SGRO, false); /* which it has switched on */
	return 0;
}

static void vnet_header(struct virtio_net_hdr *vnet, const struct frame *frame,
			unsigned int tag_len)
{
	const uint8_t *l4 = frame->bytes + frame->l4_off;
	struct view v;

	memset(vnet, 0, sizeof(*vnet));
	if (!frame->partial)
		return;
	decode_frame(frame, &v);
	vnet->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	vnet->csum_start = frame->l4_off + tag_len;
	vnet->csum_offset = v.kind == KIND_UDP ? 6 : 16;
	if (!frame->gso)
		return;
	vnet->gso_type = v.flow.src.family == AF_INET6 ? VIRTIO_NET_HDR_GSO_TCPV6 :
							 VIRTIO_NET_HDR_GSO_TCPV4;
	vnet->hdr_len = vnet->csum_start + (l4[12] >> 4) * 4;
	vnet->gso_size = FRAME_GSO;
}

/* Puts a frame in; tci: a tag outside all others, -1 none. */
int wire_put(struct wire *wire, bool tap, const struct frame *frame, int tci)
{
	uint8_t tag[4] = {ETH_P_8021Q >> 8, ETH_P_8021Q & 255, tci >> 8, tci};
	struct virtio_net_hdr vnet;
	struct iovec parts[] = {
		{&vnet, sizeof(vnet)},
		{frame->bytes, 12},
		{tag, tci < 0 ? 0 : sizeof(tag)},
		{frame->bytes + 12, frame->len - 12},
	};
	size_t len = sizeof(vnet) + parts[2].iov_len + frame->len;
	ssize_t put;

	vnet_header(&vnet, frame, parts[2].iov_len);
	put = writev(wire->fd, parts, 4);
	(void)tap;
	if (put < 0)
		return -errno;
	return put == (ssize_t)len ? 0 : -EIO;
}

/* The tag that the kernel has taken out of the frame, put back or given to *tci. */
static struct frame *with_tag(const uint8_t *bytes, unsigned int len, struct msghdr *message,
			      int *tci)
{
	const struct tpacket_auxdata *aux = NULL;
	struct frame *frame;
	uint8_t *tagged;

	*tci = -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA)
			aux = (const void *)CMSG_DATA(c);
	}
	if (!aux || !(aux->tp_status & TP_STATUS_VLAN_VALID))
		return frame_new(bytes, len);
	if (!(aux->tp_status & TP_STATUS_VLAN_TPID_VALID) || aux->tp_vlan_tpid == ETH_P_8021Q)
		*tci = aux->tp_vlan_tci;
	tagged = malloc(len + 4);
	memcpy(tagged, bytes, 12);
	tagged[12] = aux->tp_vlan_tpid >> 8;
	tagged[13] = aux->tp_vlan_tpid;
	tagged[14] = aux->tp_vlan_tci >> 8;
	tagged[15] = aux->tp_vlan_tci;
	memcpy(tagged + 16, bytes + 12, len - 12);
	frame = frame_new(tagged, len + 4);
	free(tagged);
	return frame;
}

/* What the device was left to do: the sum over all, as the last device does it. */
static void finish_checksum(uint8_t *bytes, unsigned int len, const struct virtio_net_hdr *vnet)
{
	unsigned int at = vnet->csum_start + vnet->csum_offset;
	uint16_t csum;

	if (!(vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || at + 2 > len)
		return;
	csum = ~sum_fold(sum_add(0, bytes + vnet->csum_start, len - vnet->csum_start));
	if (!csum && vnet->csum_offset == 6)
		csum = 0xffff;
	bytes[at] = csum >> 8;
	bytes[at + 1] = csum;
}

struct frame *wire_pass(const struct frame *frame)
{
	struct frame *passed = frame_new(frame->bytes, frame->len);
	struct virtio_net_hdr vnet;

	vnet_header(&vnet, frame, 0);
	finish_checksum(passed->bytes, passed->len, &vnet);
	passed->gso = frame->gso;
	return passed;
}

struct frame *wire_get(struct wire *wire, bool tap, int *tci)
{
	static uint8_t bytes[FRAME_MAX + 1024];
	char control[CMSG_SPACE(sizeof(struct tpacket_auxdata)) + 64];
	struct virtio_net_hdr vnet;
	struct iovec parts[] = {{&vnet, sizeof(vnet)}, {bytes, sizeof(bytes)}};
	struct msghdr message = {
		.msg_iov = parts,
		.msg_iovlen = 2,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct frame *frame;
	ssize_t len;

	len = tap ? readv(wire->fd, parts, 2) : recvmsg(wire->fd, &message, 0);
	if (len < (ssize_t)sizeof(vnet) + 14)
		return NULL;
	len -= sizeof(vnet);
	finish_checksum(bytes, len, &vnet);
	if (tap) {
		*tci = -1;
		frame = frame_new(bytes, len);
	} else {
		frame = with_tag(bytes, len, &message, tci);
	}
	frame->gso = vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE;
	return frame;
}

/* Frames that a queue of a device has dropped, since the last call. */
long devices_lost(void)
{
	static long before;
	FILE *from = fopen("/proc/self/net/dev", "r");
	long all = 0, lost;
	char line[512];

	if (!from)
		return -1;
	while (fgets(line, sizeof(line), from)) {
		char *colon = strchr(line, ':');
		long dropped;

		if (colon &&
		    sscanf(colon + 1, "%*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %ld",
			   &dropped) == 1)
			all += dropped;
	}
	fclose(from);
	lost = all - before;
	before = all;
	return lost;
}
