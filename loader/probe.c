// SPDX-License-Identifier: GPL-2.0-only
/* What this kernel, these devices and this QEMU can do, and what follows. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include <bpf/libbpf.h>

#include <colo/link.h>

#include "commands.h"
#include "daemon.h"
#include "datapath.h"
#include "options.h"
#include "output.h"
#include "qmp.h"
#include "tc.h"

#define QMP_MS 3000

/* --- kernel -------------------------------------------------------------- */

static int probe_kernel(json_t *object)
{
	static const struct {
		const char *name;
		enum bpf_func_id helper;
	} helpers[] = {
		{"bpf_loop", BPF_FUNC_loop},
		{"bpf_clone_redirect", BPF_FUNC_clone_redirect},
		{"bpf_skb_adjust_room", BPF_FUNC_skb_adjust_room},
		{"bpf_skb_change_tail", BPF_FUNC_skb_change_tail},
		{"bpf_skb_vlan_push", BPF_FUNC_skb_vlan_push},
		{"bpf_l4_csum_replace", BPF_FUNC_l4_csum_replace},
	};
	json_t *missing = json_array();
	struct utsname uts;

	uname(&uts);
	output_text(object, "kernel", uts.release);
	output_flag(object, "btf", !access("/sys/kernel/btf/vmlinux", R_OK));
	if (libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_SCHED_CLS, NULL) != 1)
		json_array_append_new(missing, json_string("tc programs"));
	if (libbpf_probe_bpf_map_type(BPF_MAP_TYPE_RINGBUF, NULL) != 1)
		json_array_append_new(missing, json_string("ring buffer"));
	if (libbpf_probe_bpf_map_type(BPF_MAP_TYPE_STACK, NULL) != 1)
		json_array_append_new(missing, json_string("stack map"));
	for (size_t i = 0; i < sizeof(helpers) / sizeof(*helpers); i++)
		if (libbpf_probe_bpf_helper(BPF_PROG_TYPE_SCHED_CLS, helpers[i].helper, NULL) !=
		    1)
			json_array_append_new(missing, json_string(helpers[i].name));
	output_flag(object, "primary_loads",
		    !datapath_probe_load(COLO_ROLE_PRIMARY, COLO_CONTEXT_TC));
	output_flag(object, "xdp_loads",
		    !datapath_probe_load(COLO_ROLE_PRIMARY, COLO_CONTEXT_XDP));
	output_flag(object, "secondary_loads",
		    !datapath_probe_load(COLO_ROLE_SECONDARY, COLO_CONTEXT_TC));
	output_set(object, "missing", missing);
	return json_array_size(missing) ||
	       !json_is_true(json_object_get(object, "primary_loads")) ||
	       !json_is_true(json_object_get(object, "secondary_loads"));
}

/* --- devices ------------------------------------------------------------- */

static int offload(const char *device, __u32 command)
{
	struct ethtool_value value = {.cmd = command};

	return !device_ethtool(device, &value) && value.data;
}

/* Drivers whose native XDP hooks are known; no kernel of the floor tells. */
static const char *xdp_of(const char *driver)
{
	static const char *const native[] = {
		"veth",      "tun",     "virtio_net", "bonding", "ena",       "mlx4_en",
		"mlx5_core", "ixgbe",   "ixgbevf",    "i40e",    "ice",       "igb",
		"igc",       "bnxt_en", "qede",       "sfc",     "hv_netvsc", "vmxnet3",
		"stmmac",    "mvneta",  "mvpp2",      "gve",     "nfp",       "thunder_nicvf",
	};

	for (size_t i = 0; i < sizeof(native) / sizeof(*native); i++)
		if (!strcmp(native[i], driver))
			return "native";
	return "generic";
}

/*
 * How many queues it sends from, 0 if this /sys is not of its namespace, and
 * whether one is chosen by the CPU (XPS).
 */
static unsigned int queues_of(const char *device, bool *by_cpu)
{
	unsigned int count = 0;

	*by_cpu = false;
	for (;; count++) {
		char path[128], mask[256] = "";
		FILE *file;

		snprintf(path, sizeof(path), "/sys/class/net/%s/queues/tx-%u/xps_cpus", device,
			 count);
		file = fopen(path, "re");
		if (!file)
			break;
		/* of a single queue it cannot be read */
		if (fgets(mask, sizeof(mask), file))
			*by_cpu |= mask[strspn(mask, "0,\n")] != 0;
		fclose(file);
	}
	return count;
}

static int probe_device(json_t *object, const char *device, bool port, unsigned int *mtu)
{
	struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
	char driver[32] = "unknown";
	struct tc_state state;
	int index = if_nametoindex(device);
	unsigned int queues;
	bool taken, by_cpu;

	output_flag(object, "exists", index != 0);
	if (!index)
		return 1;
	if (!device_ethtool(device, &info) && info.driver[0])
		snprintf(driver, sizeof(driver), "%.31s", info.driver);
	device_mtu(device, mtu);
	output_text(object, "driver", driver);
	output_number(object, "mtu", *mtu);
	output_flag(object, "tso", offload(device, ETHTOOL_GTSO));
	output_flag(object, "gso", offload(device, ETHTOOL_GGSO));
	output_flag(object, "gro", offload(device, ETHTOOL_GGRO));
	output_flag(object, "tx_checksum", offload(device, ETHTOOL_GTXCSUM));
	output_text(object, "xdp", xdp_of(driver));
	queues = queues_of(device, &by_cpu);
	output_number(object, "tx_queues", queues);
	output_flag(object, "tx_queue_by_cpu", by_cpu && queues > 1);
	if (tc_query(index, &state))
		return 1;
	output_flag(object, "attached", state.ours[TC_INGRESS] != 0);
	taken = state.first_taken[TC_INGRESS] || (port && state.first_taken[TC_EGRESS]);
	output_flag(object, "first_filter_taken", taken);
	return taken;
}

/* --- QEMU ---------------------------------------------------------------- */

struct qemu {
	bool done;
	bool oob;
	bool colo;
	json_t *missing; /* of our hooks */
	char error[128];
};

static void got_commands(void *context, json_t *value, const char *error)
{
	struct qemu *qemu = context;
	json_t *entry;
	size_t i;

	qemu->done = true;
	if (error)
		snprintf(qemu->error, sizeof(qemu->error), "%s", error);
	json_array_foreach(value, i, entry) {
		const char *name = json_string_value(json_object_get(entry, "name"));

		qemu->colo |= name && !strcmp(name, "x-colo-lost-heartbeat");
	}
	if (value)
		qemu->missing = hooks_missing(value);
}

static void qemu_ready(void *context, bool oob)
{
	((struct qemu *)context)->oob = oob;
}

static void qemu_closed(void *context, int error, const char *text)
{
	struct qemu *qemu = context;

	(void)error;
	if (!qemu->done)
		snprintf(qemu->error, sizeof(qemu->error), "%s", text);
	qemu->done = true;
}

static int probe_qemu(json_t *object, const char *path)
{
	static const struct qmp_handler handler = {
		.ready = qemu_ready,
		.closed = qemu_closed,
	};
	struct qemu qemu = {};
	int fd = qmp_connect(path);
	struct qmp *qmp = fd < 0 ? NULL : qmp_new(fd, &handler, &qemu);

	if (!qmp) {
		output_text(object, "error", strerror(fd < 0 ? -fd : ENOMEM));
		return 1;
	}
	qmp_execute(qmp, false, "query-commands", NULL, got_commands, &qemu);
	while (!qemu.done) {
		struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

		if (poll(&poll_fd, 1, QMP_MS) <= 0) {
			snprintf(qemu.error, sizeof(qemu.error),
				 "no answer in %d ms: has it another client?", QMP_MS);
			break;
		}
		qmp_input(qmp);
		qmp_output(qmp);
	}
	qmp_free(qmp);
	if (*qemu.error) {
		output_text(object, "error", qemu.error);
		return 1;
	}
	output_flag(object, "oob", qemu.oob);
	output_flag(object, "colo", qemu.colo);
	output_set(object, "hooks_missing", qemu.missing);
	return !qemu.oob || !qemu.colo;
}

static void conclude(json_t *list, int condition, const char *text)
{
	if (condition)
		json_array_append_new(list, json_string(text));
}

/* What is weaker without the hooks: plain.h. */
static void conclude_hooks(json_t *list)
{
	static const char *const weaker[] = {
		"QEMU lacks hooks of colo-bpf's patches (or see `hooks` in colo-bpf.conf(5)): what it does is seen from its events, and it waits for nothing",
		"without hooks: what is held leaves only when the secondary's guest runs again, told by its daemon",
		"without hooks: what the secondary's guest sends before its daemon has seen it run again is lost, and repeated later",
		"without hooks: the input that the primary had not read at a checkpoint is not given to the secondary again",
		"without hooks: after a failover the guest may run before its port is open",
		"without hooks: a secondary's daemon that was restarted needs a checkpoint before it vouches for anything",
		"without hooks: the parts of a checkpoint are not known",
	};

	for (size_t i = 0; i < sizeof(weaker) / sizeof(*weaker); i++)
		conclude(list, 1, weaker[i]);
}

/* --- what follows -------------------------------------------------------- */

struct probe_options {
	const char *device[3];
	const char *qmp;
};

static int probe(const struct probe_options *o)
{
	static const char *const names[] = {"guest", "port", "link"};
	json_t *object = json_object(), *follows = json_array(), *part;
	unsigned int mtu[3] = {};
	int bad, failed, plain;

	part = json_object();
	failed = bad = probe_kernel(part);
	output_set(object, "system", part);
	conclude(follows, bad, "this kernel cannot run the data path");
	conclude(follows, !bad,
		 "the data path runs at tc hooks of all devices: guests keep their offloads");
	conclude(
		follows, json_is_true(json_object_get(part, "xdp_loads")),
		"--context xdp is for guests without checksum and segmentation offloads, on both hosts, and for devices with native XDP");
	for (int i = 0; i < 3; i++) {
		if (!o->device[i])
			continue;
		part = json_object();
		failed |= bad = probe_device(part, o->device[i], i == 1, &mtu[i]);
		output_set(object, names[i], part);
		conclude(follows, bad,
			 "a device is missing, or another tc filter has the first place on it");
		conclude(
			follows,
			i == 1 && json_is_true(json_object_get(part, "tx_queue_by_cpu")),
			"the port chooses its queue by the CPU: what is released on two can leave in another order; write 0 to its queues/tx-*/xps_cpus");
	}
	if (mtu[1] && mtu[2]) {
		bad = mtu[2] < mtu[1] + COLO_LINK_TAG_LEN;
		failed |= bad;
		conclude(follows, bad, "the link's MTU is too small: the port's + 4 is needed");
	}
	if (o->qmp) {
		part = json_object();
		failed |= bad = probe_qemu(part, o->qmp);
		output_set(object, "qemu", part);
		plain = !bad && json_array_size(json_object_get(part, "hooks_missing"));
		conclude(follows, bad,
			 "this QEMU cannot be driven: it has no COLO, or does not answer");
		conclude(follows, !bad && !plain,
			 "QEMU has the hooks: commit, reset and failover wait for the daemon");
		if (plain)
			conclude_hooks(follows);
	}
	output_set(object, "follows", follows);
	return output(object) || failed ? EXIT_FAILED : EXIT_OK;
}

int cmd_probe(int argc, char **argv)
{
	struct probe_options o = {};
	const struct option_row rows[] = {
		{OPTION_TEXT, .name = "guest", .argument = "DEV", .value = &o.device[0],
		 .help = "the guest's tap"},
		{OPTION_TEXT, .name = "port", .argument = "DEV", .value = &o.device[1],
		 .help = "the device where the clients are"},
		{OPTION_TEXT, .name = "link", .argument = "DEV", .value = &o.device[2],
		 .help = "the device to the other host"},
		{OPTION_TEXT, .name = "qmp", .argument = "SOCKET", .value = &o.qmp,
		 .help = "a QMP socket of QEMU"},
		{OPTION_END},
	};
	int status = options_parse("probe", command_summary("probe"), rows, argc, argv);

	return status == -1 ? probe(&o) : status;
}
