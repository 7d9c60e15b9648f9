// SPDX-License-Identifier: GPL-2.0-only
/*
 * Instances of the real programs on devices of a namespace of our own, as the
 * cases have them (tests/cases/device.c).
 */
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "cases.h"
#include "pin.h"
#include "release.h"
#include "scaling.h"
#include "sink.skel.h"

#define LINK_ROOM 4
#define SYSFS     "/mnt" /* in our mount namespace: that of our devices */

unsigned int rig_queues = 1;
bool rig_offloads, rig_counts_only;
enum colo_context rig_context;
bool rig_refuses;

int rig_enter(void)
{
	int err = devices_enter();

	if (err)
		return err;
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("sysfs", SYSFS, "sysfs", 0, NULL)) {
		perror("scale: " SYSFS);
		return -errno;
	}
	return 0;
}

/* ---- the devices' far ends -------------------------------------------------- */

static int sink_attach(int ifindex, enum bpf_tc_attach_point point,
		       const struct bpf_program *prog)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
	/* behind the proxy's own at the port */
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = bpf_program__fd(prog), .handle = 1,
		    .priority = 2);
	libbpf_print_fn_t print = libbpf_set_print(NULL);
	int err = bpf_tc_hook_create(&hook); /* it may be there already */

	libbpf_set_print(print);
	return err && err != -EEXIST ? err : bpf_tc_attach(&hook, &opts);
}

/* What leaves leaves by the port, of a secondary by the link. */
static int sink_open(struct rig *rig, const char *near, int far)
{
	int err;

	rig->sink = sink_bpf__open_and_load();
	if (!rig->sink)
		return -errno;
	if (rig_counts_only)
		return sink_attach(far, BPF_TC_INGRESS, rig->sink->progs.at_far_counted);
	err = sink_attach(if_nametoindex(near), BPF_TC_EGRESS, rig->sink->progs.at_near);
	return err ? err : sink_attach(far, BPF_TC_INGRESS, rig->sink->progs.at_far);
}

/* Nothing is received on it, and no queue is between it and the device. */
static int sender_open(int ifindex)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = ifindex};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), on = 1;

	if (fd < 0 || bind(fd, (struct sockaddr *)&to, sizeof(to)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)))
		return -errno;
	return fd;
}

static int port_open(struct wire *client, const char *near, const char *far)
{
	char line[512];

	if (rig_queues == 1)
		return devices_veth(client, near, far, wire_mtu, rig_offloads);
	snprintf(line, sizeof(line),
		 "ip link add %s numtxqueues %u type veth peer name %s numrxqueues %u && "
		 "ip link set %s arp off multicast off up && "
		 "ip link set %s arp off multicast off up && tc qdisc add dev %s root mq",
		 near, rig_queues, far, rig_queues, near, far, near);
	client->fd = -1;
	return system(line) ? -EIO : 0;
}

static int devices_open(struct rig *rig, char near[3][16], char far[2][16])
{
	struct wire guest = {}, client = {}, other = {};
	int err;

	err = devices_tap(&guest, near[0], rig_offloads);
	if (!err)
		err = port_open(&client, near[1], far[0]);
	if (!err)
		err = devices_veth(&other, near[2], far[1], wire_mtu + LINK_ROOM, rig_offloads);
	if (!err && rig_context == COLO_CONTEXT_XDP && !rig_refuses)
		err = devices_xdp(far[0]);
	if (err)
		return err;
	close(client.fd);
	close(other.fd);
	rig->guest = guest.fd;
	rig->port = if_nametoindex(near[1]);
	rig->client = if_nametoindex(far[0]);
	rig->link = if_nametoindex(near[2]);
	rig->other = sender_open(other.ifindex);
	return rig->other < 0 ? rig->other : 0;
}

/* ---- an instance ------------------------------------------------------------ */

static int on_event(void *context, void *data, size_t size)
{
	const struct colo_event *event = data;
	struct rig *rig = context;
	__u64 next = rig->tick_ns;

	if (size < sizeof(*event))
		return 0;
	rig->requests += event->type == COLO_EVENT_REQUEST;
	release_event(&rig->dp, event, &next);
	if (next < rig->tick_ns)
		rig->tick_ns = next;
	return 0;
}

int rig_daemon(struct rig *rig)
{
	int err = 0;
	__u64 now;

	ring_buffer__consume(rig->ring);
	now = scale_now();
	if (now >= rig->tick_ns)
		err = release_tick(&rig->dp, now, &rig->tick_ns);
	return err;
}

int rig_open(struct rig *rig, enum colo_role role, const struct colo_config *sizes)
{
	static unsigned int serial;
	char near[3][16], far[2][16];
	struct datapath_options how = {
		.name = rig->name,
		.role = role,
		.guest = near[0],
		.port = near[1],
		.link = near[2],
		.config = *sizes,
		.context = rig_context,
	};
	int err;

	memset(rig, 0, sizeof(*rig));
	serial++;
	snprintf(near[0], sizeof(near[0]), "guest%u", serial);
	snprintf(near[1], sizeof(near[1]), "port%u", serial);
	snprintf(near[2], sizeof(near[2]), "link%u", serial);
	snprintf(far[0], sizeof(far[0]), "client%u", serial);
	snprintf(far[1], sizeof(far[1]), "other%u", serial);
	snprintf(rig->name, sizeof(rig->name), "scale-%d-%u", getpid(), serial);
	err = devices_open(rig, near, far);
	if (!err)
		err = datapath_attach(&how);
	if (!err)
		err = datapath_open(rig->name, &rig->dp);
	if (err)
		return err;
	rig->open = true;
	err = role == COLO_ROLE_PRIMARY ? sink_open(rig, near[1], rig->client) :
					  sink_open(rig, near[2], if_nametoindex(far[1]));
	if (err)
		return err;
	rig->ring = ring_buffer__new(rig->dp.map_fd[MAP_EVENTS], on_event, rig, NULL);
	return rig->ring ? release_start(&rig->dp, 1) : -errno;
}

int rig_adopt(struct rig *rig, const char *name)
{
	int err;

	memset(rig, 0, sizeof(*rig));
	err = datapath_open(name, &rig->dp);
	if (err)
		return err;
	rig->ring = ring_buffer__new(rig->dp.map_fd[MAP_EVENTS], on_event, rig, NULL);
	return rig->ring ? release_start(&rig->dp, 1) : -errno;
}

void rig_close(struct rig *rig)
{
	ring_buffer__free(rig->ring);
	sink_bpf__destroy(rig->sink);
	if (rig->open) {
		datapath_close(&rig->dp);
		datapath_detach(rig->name);
	}
	close(rig->guest);
	close(rig->other);
	memset(rig, 0, sizeof(*rig));
}

static int remove_of(const char *name, void *context)
{
	const int *pid = context;
	int of;

	if (sscanf(name, "scale-%d-", &of) == 1 && of == *pid)
		datapath_unpin(name);
	return 0;
}

void rig_remove(int pid)
{
	pin_each(remove_of, &pid);
}

/* A mask of one CPU: receive packet steering hashes flows over one queue. */
int rig_steer(struct rig *rig, unsigned int cpu)
{
	char name[IF_NAMESIZE], path[128];
	FILE *file;

	if (!if_indextoname(rig->client, name))
		return -errno;
	snprintf(path, sizeof(path), SYSFS "/class/net/%s/queues/rx-0/rps_cpus", name);
	file = fopen(path, "w");
	if (!file)
		return -errno;
	fprintf(file, "%x\n", 1U << cpu);
	return fclose(file) ? -errno : 0;
}

/* The thread's name begins with the device's. */
static pid_t find_poller(const char *device)
{
	char want[64], name[64], path[300];
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	pid_t found = 0;

	snprintf(want, sizeof(want), "napi/%s-", device);
	while (dir && !found && (entry = readdir(dir))) {
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		file = atoi(entry->d_name) ? fopen(path, "r") : NULL;
		if (!file)
			continue;
		if (fgets(name, sizeof(name), file) && !strncmp(name, want, strlen(want)))
			found = atoi(entry->d_name);
		fclose(file);
	}
	if (dir)
		closedir(dir);
	return found;
}

int rig_thread_link(struct rig *rig, unsigned int cpu)
{
	char name[IF_NAMESIZE], path[128];
	cpu_set_t set;
	FILE *file;
	pid_t pid;

	if (!if_indextoname(rig->link, name))
		return -errno;
	snprintf(path, sizeof(path), SYSFS "/class/net/%s/threaded", name);
	file = fopen(path, "w");
	if (!file)
		return -errno;
	fprintf(file, "1\n");
	if (fclose(file))
		return -errno;
	pid = find_poller(name);
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (!pid)
		return -ESRCH;
	return sched_setaffinity(pid, sizeof(set), &set) ? -errno : 0;
}

int rig_queues_used(const struct rig *rig)
{
	char name[IF_NAMESIZE], line[256];
	unsigned long long packets;
	int used = 0;
	FILE *from;

	if (!if_indextoname(rig->port, name))
		return -errno;
	snprintf(line, sizeof(line), "tc -s class show dev %s", name);
	from = popen(line, "r");
	if (!from)
		return -errno;
	while (fgets(line, sizeof(line), from))
		used += sscanf(line, " Sent %*u bytes %llu pkt", &packets) == 1 && packets;
	return pclose(from) ? -EIO : used;
}

/* ---- what it says ------------------------------------------------------------ */

struct colo_counters rig_counters(const struct rig *rig)
{
	struct colo_counters counters = {};

	datapath_counters(&rig->dp, &counters);
	return counters;
}

__u64 rig_flows(const struct rig *rig)
{
	struct colo_counters c = rig_counters(rig);

	return c.flows_created - c.flows_closed;
}

uint64_t rig_arrived(const struct rig *rig)
{
	return __atomic_load_n(&rig->sink->bss->far_count.frames, __ATOMIC_RELAXED);
}

uint64_t rig_program_ns(const struct rig *rig)
{
	uint64_t sum = 0;

	for (int i = 0; i < PROG_COUNT; i++) {
		struct bpf_prog_info info = {};
		__u32 length = sizeof(info);

		if (rig->dp.prog_fd[i] < 0)
			continue;
		bpf_obj_get_info_by_fd(rig->dp.prog_fd[i], &info, &length);
		sum += info.run_time_ns;
	}
	return sum;
}
