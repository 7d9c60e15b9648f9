// SPDX-License-Identifier: GPL-2.0-only
/* What is pinned, as user space sees it. install.c puts it there. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/stat.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "datapath.h"
#include "log.h"
#include "pin.h"
#include "policy.h"
#include "pool.h"
#include "translations.h"

#define FLOW_BATCH 4096 /* more than any bucket of a hash map is long */

const char *const datapath_map_names[MAP_COUNT] = {
	[MAP_ABI] = "abi",
	[MAP_CONFIG] = "config",
	[MAP_SESSION] = "session",
	[MAP_COUNTERS] = "counters",
	[MAP_FLOWS] = "flows",
	[MAP_FRAMES] = "frames",
	[MAP_FRAME_MARKS] = "frame_marks",
	[MAP_POOL] = "pool",
	[MAP_FREE_FRAMES] = "free_frames",
	[MAP_FREE_SMALL] = "free_small",
	[MAP_FREE_BIG] = "free_big",
	[MAP_MAGAZINES] = "magazines",
	[MAP_POLICY] = "policy",
	[MAP_PASSTHROUGH] = "passthrough",
	[MAP_TRANSLATIONS] = "translations",
	[MAP_DIGEST_KEY] = "digest_key",
	[MAP_XDP_CPUS] = "xdp_cpus",
	[MAP_INPUTS] = "inputs",
	[MAP_INPUT_RING] = "input_ring",
	[MAP_GATES] = "gates",
	[MAP_LINK_SENT] = "link_sent",
	[MAP_LINK_RECEIVED] = "link_received",
	[MAP_LINK_PEER] = "link_peer",
	[MAP_CHECKPOINTS] = "checkpoints",
	[MAP_CONTROL_WORK] = "control_work",
	[MAP_EVENTS] = "events",
};

const char *const datapath_prog_names[PROG_COUNT] = {
	[PROG_GUEST_OUT] = "guest_out",     [PROG_PORT_IN] = "port_in",
	[PROG_LINK_IN] = "link_in",         [PROG_PORT_OUT] = "port_out",
	[PROG_CONTROL] = "control",         [PROG_GUEST_OUT_XDP] = "guest_out_xdp",
	[PROG_LINK_IN_XDP] = "link_in_xdp", [PROG_XDP_FLUSHED] = "xdp_flushed",
	[PROG_XDP_REFUSED] = "xdp_refused",
};

__u32 datapath_netns(void)
{
	struct stat st;

	return stat("/proc/thread-self/ns/net", &st) ? 0 : st.st_ino;
}

bool datapath_has_map(enum colo_role role, enum datapath_map map)
{
	if (map == MAP_DIGEST_KEY || map == MAP_XDP_CPUS)
		return role == COLO_ROLE_PRIMARY;
	if (map == MAP_INPUTS || map == MAP_INPUT_RING)
		return role == COLO_ROLE_SECONDARY;
	return true;
}

bool datapath_has_prog(enum colo_role role, enum colo_context context, enum datapath_prog prog)
{
	return prog < PROG_GUEST_OUT_XDP ||
	       (role == COLO_ROLE_PRIMARY && context == COLO_CONTEXT_XDP);
}

/* `abi` has the role, `flows` other values. */
bool datapath_map_is_shared(enum datapath_map map)
{
	return map != MAP_ABI && map != MAP_FLOWS && datapath_has_map(COLO_ROLE_PRIMARY, map) &&
	       datapath_has_map(COLO_ROLE_SECONDARY, map);
}

size_t datapath_flow_size(enum colo_role role)
{
	return role == COLO_ROLE_SECONDARY ? sizeof(struct colo_rewrite) :
					     sizeof(struct colo_flow);
}

static size_t page_round(size_t bytes)
{
	size_t page = sysconf(_SC_PAGESIZE);

	return (bytes + page - 1) / page * page;
}

static size_t frames_bytes(const struct datapath *dp)
{
	return page_round((size_t)dp->max_frames * sizeof(struct colo_frame));
}

static size_t marks_bytes(const struct datapath *dp)
{
	return page_round((size_t)dp->max_frames * sizeof(struct colo_frame_mark));
}

#define WORK_BYTES        (COLO_WORK_MAX * sizeof(struct colo_control))
#define CHECKPOINTS_BYTES (COLO_CHECKPOINTS * sizeof(struct colo_checkpoint))

/* Not ours: other key or value size. Counts are checked where they matter. */
static int check_map(const char *name, enum datapath_map map, int fd, enum colo_role role,
		     struct bpf_map_info *info)
{
	const size_t value_size[MAP_COUNT] = {
		[MAP_ABI] = sizeof(struct colo_abi),
		[MAP_CONFIG] = sizeof(struct colo_config),
		[MAP_SESSION] = sizeof(struct colo_session),
		[MAP_COUNTERS] = sizeof(struct colo_counters),
		[MAP_FLOWS] = datapath_flow_size(role),
		[MAP_FRAMES] = sizeof(struct colo_frame),
		[MAP_FRAME_MARKS] = sizeof(struct colo_frame_mark),
		[MAP_FREE_FRAMES] = sizeof(__u32),
		[MAP_FREE_SMALL] = sizeof(__u32),
		[MAP_FREE_BIG] = sizeof(__u32),
		[MAP_MAGAZINES] = sizeof(struct colo_magazine),
		[MAP_POLICY] = sizeof(__u32),
		[MAP_PASSTHROUGH] = sizeof(struct colo_passthrough),
		[MAP_TRANSLATIONS] = sizeof(struct colo_translation),
		[MAP_DIGEST_KEY] = sizeof(struct colo_digest_key),
		[MAP_XDP_CPUS] = sizeof(struct colo_xdp_cpu),
		[MAP_INPUTS] = sizeof(struct colo_input),
		[MAP_INPUT_RING] = sizeof(struct colo_input_ring),
		[MAP_GATES] = sizeof(struct colo_gate),
		[MAP_LINK_SENT] = sizeof(struct colo_link_count),
		[MAP_LINK_RECEIVED] = sizeof(struct colo_link_count),
		[MAP_LINK_PEER] = sizeof(struct colo_link_peer),
		[MAP_CHECKPOINTS] = sizeof(struct colo_checkpoint),
		[MAP_CONTROL_WORK] = sizeof(struct colo_control),
	};
	__u32 length = sizeof(*info);
	int err;

	memset(info, 0, sizeof(*info));
	err = bpf_obj_get_info_by_fd(fd, info, &length);
	if (err)
		return err;
	if (value_size[map] && info->value_size != value_size[map]) {
		log_error(
			"%s/%s/maps/%s: values of %u bytes, %zu expected: pinned by another program or build; detach it with that one",
			COLO_PIN_ROOT, name, datapath_map_names[map], info->value_size,
			value_size[map]);
		return -EPROTO;
	}
	return 0;
}

static int open_abi(const char *name, struct datapath *dp)
{
	union {
		struct colo_abi abi;
		__u32 version;
		char bytes[4096];
	} value = {};
	struct bpf_map_info info = {};
	__u32 length = sizeof(info), zero = 0;
	char path[PIN_PATH_MAX];
	int fd, err;

	pin_path(path, name, "", "");
	if (access(path, F_OK)) {
		log_error(
			"%s: no such instance%s", path,
			pin_mounted() ?
				"; `colo-bpf attach` makes one" :
				": /sys/fs/bpf is no BPF file system here (under `ip netns exec` it is hidden: use --netns)");
		return -ENOENT;
	}
	pin_path(path, name, "maps", "abi");
	fd = bpf_obj_get(path);
	if (fd < 0) {
		err = fd == -ENOENT ? -EPROTO : fd;
		log_error(
			"%s: %s: not an instance of colo-bpf, or half of one; remove %s/%s by hand if it is nothing else's",
			path, strerror(-fd), COLO_PIN_ROOT, name);
		return err;
	}
	dp->map_fd[MAP_ABI] = fd;
	err = bpf_obj_get_info_by_fd(fd, &info, &length);
	if (!err && (info.type != BPF_MAP_TYPE_ARRAY || info.max_entries != 1 ||
		     info.value_size < sizeof(__u32) || info.value_size > sizeof(value) ||
		     strcmp(info.name, "abi")))
		err = -EPROTO;
	if (!err)
		err = bpf_map_lookup_elem(fd, &zero, &value);
	if (err) {
		log_error("%s: a map of another program, not of colo-bpf", path);
		return -EPROTO;
	}
	if (value.version != COLO_ABI_VERSION) {
		log_error(
			"%s: ABI version %u, this colo-bpf speaks %u: use the colo-bpf that attached %s, or detach it with that one first",
			path, value.version, COLO_ABI_VERSION, name);
		return -EPROTO;
	}
	err = check_map(name, MAP_ABI, fd, COLO_ROLE_NONE, &info);
	if (!err)
		dp->abi = value.abi;
	return err;
}

static int open_pins(const char *name, struct datapath *dp)
{
	struct bpf_map_info info;
	char path[PIN_PATH_MAX];
	int fd, err;

	for (int i = 0; i < MAP_COUNT; i++) {
		if (i == MAP_ABI || !datapath_has_map(dp->abi.role, i))
			continue;
		pin_path(path, name, "maps", datapath_map_names[i]);
		fd = bpf_obj_get(path);
		if (fd < 0)
			goto missing;
		dp->map_fd[i] = fd;
		err = check_map(name, i, fd, dp->abi.role, &info);
		if (err)
			return err;
		if (i == MAP_FRAMES)
			dp->max_frames = info.max_entries;
	}
	for (int i = 0; i < PROG_COUNT; i++) {
		if (!datapath_has_prog(dp->abi.role, dp->abi.context, i))
			continue;
		pin_path(path, name, "progs", datapath_prog_names[i]);
		fd = bpf_obj_get(path);
		if (fd < 0)
			goto missing;
		dp->prog_fd[i] = fd;
	}
	return 0;
missing:
	log_error("%s: %s: the instance is not whole; detach and attach it anew", path,
		  strerror(-fd));
	return -EPROTO;
}

static void *map_memory(int fd, size_t bytes)
{
	void *memory = mmap(NULL, page_round(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

int datapath_open(const char *name, struct datapath *dp)
{
	int err;

	memset(dp, 0, sizeof(*dp));
	memset(dp->map_fd, -1, sizeof(dp->map_fd));
	memset(dp->prog_fd, -1, sizeof(dp->prog_fd));
	dp->link.fd = -1;
	if (!pin_name_valid(name)) {
		log_error(
			"\"%s\": an instance's name has 1 to 31 of A-Z a-z 0-9 . _ - and begins with no . or -",
			name);
		return -EINVAL;
	}
	log_libbpf(1);
	err = open_abi(name, dp);
	if (!err)
		err = open_pins(name, dp);
	if (err)
		goto fail;
	dp->config = map_memory(dp->map_fd[MAP_CONFIG], sizeof(*dp->config));
	dp->session = map_memory(dp->map_fd[MAP_SESSION], sizeof(*dp->session));
	dp->frames = map_memory(dp->map_fd[MAP_FRAMES], frames_bytes(dp));
	dp->marks = map_memory(dp->map_fd[MAP_FRAME_MARKS], marks_bytes(dp));
	dp->work = map_memory(dp->map_fd[MAP_CONTROL_WORK], WORK_BYTES);
	dp->link_peer = map_memory(dp->map_fd[MAP_LINK_PEER], sizeof(*dp->link_peer));
	dp->checkpoints = map_memory(dp->map_fd[MAP_CHECKPOINTS], CHECKPOINTS_BYTES);
	if (!dp->config || !dp->session || !dp->frames || !dp->marks || !dp->work ||
	    !dp->link_peer || !dp->checkpoints) {
		err = -errno;
		log_error("%s/%s: the maps cannot be mapped into memory: %s", COLO_PIN_ROOT,
			  name, strerror(-err));
		goto fail;
	}
	return 0;
fail:
	datapath_close(dp);
	return err;
}

void datapath_close(struct datapath *dp)
{
	if (dp->config)
		munmap(dp->config, page_round(sizeof(*dp->config)));
	if (dp->session)
		munmap((void *)dp->session, page_round(sizeof(*dp->session)));
	if (dp->frames)
		munmap((void *)dp->frames, frames_bytes(dp));
	if (dp->marks)
		munmap((void *)dp->marks, marks_bytes(dp));
	if (dp->work)
		munmap(dp->work, page_round(WORK_BYTES));
	if (dp->link_peer)
		munmap((void *)dp->link_peer, page_round(sizeof(*dp->link_peer)));
	if (dp->checkpoints)
		munmap(dp->checkpoints, page_round(CHECKPOINTS_BYTES));
	if (dp->link.fd >= 0)
		close(dp->link.fd);
	free(dp->link.cpus);
	for (int i = 0; i < MAP_COUNT; i++)
		if (dp->map_fd[i] >= 0)
			close(dp->map_fd[i]);
	for (int i = 0; i < PROG_COUNT; i++)
		if (dp->prog_fd[i] >= 0)
			close(dp->prog_fd[i]);
	memset(dp, 0, sizeof(*dp));
	memset(dp->map_fd, -1, sizeof(dp->map_fd));
	memset(dp->prog_fd, -1, sizeof(dp->prog_fd));
	dp->link.fd = -1;
}

int datapath_counters(const struct datapath *dp, struct colo_counters *sum)
{
	const size_t fields = sizeof(*sum) / sizeof(__u64);
	int cpus = libbpf_num_possible_cpus();
	__u64 *all, *total = (__u64 *)sum;
	__u32 zero = 0;
	int err;

	if (cpus < 0)
		return cpus;
	all = calloc(fields * cpus, sizeof(*all));
	if (!all)
		return -ENOMEM;
	err = bpf_map_lookup_elem(dp->map_fd[MAP_COUNTERS], &zero, all);
	memset(sum, 0, sizeof(*sum));
	for (size_t i = 0; !err && i < fields * cpus; i++)
		total[i % fields] += all[i];
	free(all);
	return err;
}

static int reset_counters(struct datapath *dp)
{
	int cpus = libbpf_num_possible_cpus();
	__u32 zero = 0;
	void *zeros;
	int err;

	if (cpus < 0)
		return cpus;
	zeros = calloc(cpus, sizeof(struct colo_counters));
	if (!zeros)
		return -ENOMEM;
	err = bpf_map_update_elem(dp->map_fd[MAP_COUNTERS], &zero, zeros, 0);
	free(zeros);
	return err;
}

/* The events that nobody has read: the consumer's position moves to the end. */
static int reset_events(struct datapath *dp)
{
	size_t page = sysconf(_SC_PAGESIZE);
	int fd = dp->map_fd[MAP_EVENTS];
	unsigned long *consumer, *producer;

	consumer = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (consumer == MAP_FAILED)
		return -errno;
	producer = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, page);
	if (producer == MAP_FAILED) {
		int err = -errno;

		munmap(consumer, page);
		return err;
	}
	__atomic_store_n(consumer, __atomic_load_n(producer, __ATOMIC_ACQUIRE),
			 __ATOMIC_RELEASE);
	munmap(producer, page);
	munmap(consumer, page);
	return 0;
}

/* In batches: a walk by keys is a system call or two for each. */
int datapath_each_flow(const struct datapath *dp,
		       void (*each)(const struct colo_flow_key *key,
				    const union datapath_flow *value, void *context),
		       void *context)
{
	const size_t size = datapath_flow_size(dp->abi.role);
	struct colo_flow_key *keys = calloc(FLOW_BATCH, sizeof(*keys));
	char *values = calloc(FLOW_BATCH, size);
	int err = keys && values ? 0 : -ENOMEM;
	__u32 cursor = 0, count;

	for (bool first = true; !err; first = false) {
		count = FLOW_BATCH;
		err = bpf_map_lookup_batch(dp->map_fd[MAP_FLOWS], first ? NULL : &cursor,
					   &cursor, keys, values, &count, NULL);
		for (__u32 i = 0; i < count && (!err || err == -ENOENT); i++)
			each(&keys[i], (const union datapath_flow *)(values + i * size),
			     context);
	}
	free(keys);
	free(values);
	return err == -ENOENT ? 0 : err;
}

/* In batches: a walk by keys begins at the first bucket each time. */
int datapath_clear_flows(struct datapath *dp)
{
	union datapath_flow *values = calloc(FLOW_BATCH, sizeof(*values));
	struct colo_flow_key *keys = calloc(FLOW_BATCH, sizeof(*keys));
	__u32 cursor = 0, count;
	int err = keys && values ? 0 : -ENOMEM;

	for (bool first = true; !err; first = false) {
		count = FLOW_BATCH;
		err = bpf_map_lookup_and_delete_batch(dp->map_fd[MAP_FLOWS],
						      first ? NULL : &cursor, &cursor, keys,
						      values, &count, NULL);
	}
	free(keys);
	free(values);
	return err == -ENOENT ? 0 : err;
}

static void reset_frames(struct datapath *dp)
{
	struct colo_frame *frames = (struct colo_frame *)dp->frames;

	for (__u32 i = 0; i < dp->max_frames; i++)
		if (frames[i].state != COLO_FRAME_FREE || frames[i].held_ns)
			memset(&frames[i], 0, sizeof(frames[i]));
	memset((void *)dp->marks, 0, marks_bytes(dp));
	dp->session->frames_used = 0;
}

static int reset_inputs(struct datapath *dp)
{
	static const struct colo_input_ring ring;
	static const struct colo_input none;
	__u32 zero = 0;
	int err = 0;

	if (dp->abi.role != COLO_ROLE_SECONDARY)
		return 0;
	for (__u32 i = 0; !err && i < COLO_INPUTS; i++)
		err = bpf_map_update_elem(dp->map_fd[MAP_INPUTS], &i, &none, 0);
	return err ? err : bpf_map_update_elem(dp->map_fd[MAP_INPUT_RING], &zero, &ring, 0);
}

int datapath_reset(struct datapath *dp)
{
	struct colo_counters counters;
	int err;

	/* Nothing passes, so that nothing comes in while it is cleared. */
	dp->session->mode = COLO_MODE_SHUT;
	dp->session->epoch = 0;
	err = datapath_counters(dp, &counters);
	if (!err)
		err = datapath_clear_flows(dp);
	if (!err)
		err = pool_magazines(dp->map_fd[MAP_MAGAZINES], dp->config);
	if (!err)
		err = pool_refill(dp->map_fd[MAP_FREE_FRAMES], dp->map_fd[MAP_FREE_SMALL],
				  dp->map_fd[MAP_FREE_BIG], dp->config, counters.frames_taken);
	if (!err)
		err = reset_counters(dp);
	if (!err)
		err = reset_events(dp);
	if (!err)
		err = passthrough_clear(dp);
	if (!err)
		err = translations_clear(dp);
	if (!err)
		err = reset_inputs(dp);
	if (err) {
		log_error("%s/%s: cannot be cleared: %s", COLO_PIN_ROOT, dp->abi.name,
			  strerror(-err));
		return err;
	}
	reset_frames(dp);
	memset(dp->checkpoints, 0, CHECKPOINTS_BYTES);
	memset(&dp->watch, 0, sizeof(dp->watch));
	dp->session->request_epoch = 0;
	dp->session->request_reason = COLO_REASON_NONE;
	dp->session->request_ns = 0;
	dp->session->commit_ns = 0;
	dp->session->lease_ns = 0;
	dp->session->lease_ms = 0;
	memset((void *)dp->session->id, 0, sizeof(dp->session->id));
	dp->session->input_epoch = 0;
	dp->session->input_mark = 0;
	dp->session->mode = datapath_idle_mode(dp->abi.role);
	return 0;
}

enum colo_mode datapath_idle_mode(enum colo_role role)
{
	return role == COLO_ROLE_PRIMARY ? COLO_MODE_WIRE : COLO_MODE_SHUT;
}
