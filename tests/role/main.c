// SPDX-License-Identifier: GPL-2.0-only
/*
 * datapath_switch_role() on real devices: no frame is lost while it works, and
 * who dies on the way leaves an instance that datapath_repair() makes whole.
 * TAP on stdout, the last line "N passed, N failed". Root.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <net/if.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "cases.h"
#include "datapath.h"
#include "install.h"
#include "log.h"
#include "pin.h"
#include "policy.h"
#include "release.h"
#include "translations.h"

#define SWITCHES 6
#define LOST_MS  2000 /* a frame that has not come by then is lost */
#define SHIFT    100  /* the client's number - the guest's, of the translated flow */
#define STEP     61   /* system calls between two deaths */

bool verbose;

static struct wire guest, client, other;
static char name[32];
static unsigned int number, failed;

static void result(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void result(bool ok, const char *format, ...)
{
	va_list args;

	printf("%sok %u - ", ok ? "" : "not ", ++number);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	failed += !ok;
}

/* --- frames -------------------------------------------------------------- */

static struct frame *make(bool from_guest, const char *format, uint32_t n)
{
	struct spec spec;
	struct frame *frame;
	char *error = NULL;
	char words[256];
	struct text text = {.at = words};

	snprintf(words, sizeof(words), format, n);
	if (spec_parse(&text, false, &spec))
		return NULL;
	frame = build_frame(&spec, from_guest, false, &error);
	free(error);
	free(spec.data);
	return frame;
}

/* The next frame there, NULL: none in time. */
static struct frame *get(struct wire *wire, bool tap)
{
	struct pollfd fd = {wire->fd, POLLIN, 0};
	struct frame *frame;
	int tci;

	do
		frame = wire_get(wire, tap, &tci);
	while (!frame && poll(&fd, 1, LOST_MS) > 0);
	return frame;
}

/*
 * One frame in at `from`, and it must come out at `to` as the next, with these
 * numbers. NULL, or what is wrong.
 */
static const char *pass(bool out, const char *format, uint32_t n, uint32_t seq, uint32_t ack)
{
	struct frame *frame = make(out, format, n), *there;
	const char *fault = NULL;
	struct view v;
	int err = -EIO;

	if (frame)
		err = out ? wire_put(&guest, true, frame, -1) :
			    wire_put(&client, false, frame, -1);
	frame_free(frame);
	if (err)
		return "a frame cannot be put in";
	there = out ? get(&client, false) : get(&guest, true);
	if (!there)
		return out ? "a frame of the guest was lost" : "a frame of the client was lost";
	decode_frame(there, &v);
	if (v.seq != seq || v.ack != ack || !v.csum_good)
		fault = "another frame came, or it was not translated";
	frame_free(there);
	return fault;
}

/* Both ways, of the flow that is translated and of one that is not. */
static const char *pass_all(uint32_t n)
{
	const char *fault;

	fault = pass(true, "tcp 10.9.0.10:80>10.9.0.1:5000 seq=%u ack=7 fl=A data=A:20", n,
		     n + SHIFT, 7);
	if (!fault)
		fault = pass(false, "tcp 10.9.0.1:5000>10.9.0.10:80 seq=7 ack=%u fl=A data=B:5",
			     n + SHIFT, 7, n);
	if (!fault)
		fault = pass(true, "tcp 10.9.0.10:80>10.9.0.1:6000 seq=%u ack=7 fl=A data=A:20",
			     n, n, 7);
	if (!fault)
		fault = pass(false, "tcp 10.9.0.1:6000>10.9.0.10:80 seq=7 ack=%u fl=A data=B:5",
			     n, 7, n);
	return fault;
}

static atomic_bool stop;
static const char *load_fault;
static unsigned long load_frames;

static void *load(void *arg)
{
	(void)arg;
	while (!stop && !load_fault) {
		load_fault = pass_all(load_frames + 1);
		load_frames += 4;
	}
	return NULL;
}

/* --- the instance -------------------------------------------------------- */

static int attach(enum colo_role role)
{
	struct datapath_options how = {
		.name = name,
		.role = role,
		.guest = "role-guest",
		.port = "role-port",
		.link = "role-link",
		.context = colo_context,
		.config = {.max_flows = 1024,
			   .max_frames = 256,
			   .small_blocks = 256,
			   .big_blocks = 4,
			   .reorder_ms = 7},
	};
	static const char entry[] =
		"[{\"guest\": \"10.9.0.10\", \"guest_port\": 80, \"client\": \"10.9.0.1\","
		" \"client_port\": 5000, \"seq_delta\": 100, \"ts_delta\": 0, \"idle_ms\": 0}]";
	struct datapath dp;
	json_t *list;
	int err;

	err = datapath_attach(&how);
	if (!err)
		err = datapath_open(name, &dp);
	if (err)
		return err;
	list = json_loads(entry, 0, NULL);
	err = translations_import(&dp, list);
	json_decref(list);
	dp.session->mode = role == COLO_ROLE_PRIMARY ? COLO_MODE_WIRE : COLO_MODE_ACTIVE;
	datapath_close(&dp);
	return err;
}

static enum colo_role turned(enum colo_role role)
{
	return role == COLO_ROLE_PRIMARY ? COLO_ROLE_SECONDARY : COLO_ROLE_PRIMARY;
}

/* The instance, or what is made beside it. */
static bool is_pinned(bool beside)
{
	char path[PIN_PATH_MAX], hidden[64];

	pin_hidden(hidden, name);
	pin_path(path, beside ? hidden : name, "", "");
	return !access(path, F_OK);
}

/* XDP is where it is pinned, and nowhere else. */
static bool xdp_is(const char *device, int prog_fd)
{
	__u32 id = ~0U;

	return !bpf_xdp_query_id(if_nametoindex(device), 0, &id) && id == hook_prog_id(prog_fd);
}

/* Each filter runs what is pinned, and nothing is left beside it. */
static bool is_whole(const struct datapath *dp)
{
	struct hook hook[HOOKS];
	struct tc_state state;
	bool whole = true;

	hooks_from(hook, &dp->abi);
	for (int i = 0; i < HOOKS; i++)
		whole &= !tc_query(hook[i].ifindex, &state) &&
			 state.ours[hook[i].side] == hook_prog_id(dp->prog_fd[hook[i].prog]);
	whole &= xdp_is(dp->abi.guest, dp->prog_fd[PROG_GUEST_OUT_XDP]) &&
		 xdp_is(dp->abi.link, dp->prog_fd[PROG_LINK_IN_XDP]) &&
		 (dp->prog_fd[PROG_LINK_IN_XDP] >= 0) ==
			 datapath_has_prog(dp->abi.role, colo_context, PROG_LINK_IN_XDP);
	return whole && !is_pinned(true);
}

/* --- under load ---------------------------------------------------------- */

static void switch_under_load(void)
{
	struct passthrough_text text = {.protocol = "udp"};
	const __u32 class = COLO_CLASS_UDP, drop = COLO_ACTION_DROP;
	struct colo_passthrough rule;
	struct datapath dp;
	pthread_t thread;
	int events, err;
	__u64 id;

	if (attach(COLO_ROLE_SECONDARY) || datapath_open(name, &dp)) {
		result(false, "attach");
		return;
	}
	events = dp.map_fd[MAP_EVENTS];
	passthrough_parse(&text, &rule);
	passthrough_add(&dp, &rule);
	bpf_map_update_elem(dp.map_fd[MAP_POLICY], &class, &drop, 0);
	id = dp.session->epoch = 7;
	pthread_create(&thread, NULL, load, NULL);
	for (int i = 0; i < SWITCHES && !load_fault; i++) {
		unsigned long before = load_frames;

		err = datapath_switch_role(&dp, turned(dp.abi.role));
		result(!err && is_whole(&dp), "it becomes a %s, %lu frames meanwhile",
		       dp.abi.role == COLO_ROLE_PRIMARY ? "primary" : "secondary",
		       load_frames - before);
	}
	stop = true;
	pthread_join(thread, NULL);
	result(!load_fault, "of %lu frames in both directions none was lost: %s", load_frames,
	       load_fault ? load_fault : "each came as it should");
	result(dp.session->epoch == id && dp.config->reorder_ms == 7 &&
		       dp.config->passthrough == 1 &&
		       policy_get(&dp, COLO_CLASS_UDP) == COLO_ACTION_DROP &&
		       dp.session->translations == 1 && dp.map_fd[MAP_EVENTS] == events,
	       "options, policy, rules, session, translations and events are what they were");
	result(dp.session->mode == COLO_MODE_WIRE, "ACTIVE has become WIRE");
	result(!datapath_switch_role(&dp, dp.abi.role), "the role that it has");

	err = datapath_switch_role(&dp, COLO_ROLE_PRIMARY);
	if (!err)
		err = release_start(&dp, 1);
	result(!err && datapath_switch_role(&dp, COLO_ROLE_SECONDARY) == -EBUSY &&
		       is_whole(&dp) && dp.abi.role == COLO_ROLE_PRIMARY,
	       "not while COLO runs");
	result(!release_failover(&dp) && !pass_all(1), "it is a wire again");
	datapath_close(&dp);
	result(!datapath_detach(name), "detach");
}

/* --- killed on the way --------------------------------------------------- */

static void die_switching(void)
{
	struct datapath dp;

	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	if (!datapath_open(name, &dp))
		datapath_switch_role(&dp, turned(dp.abi.role));
	_exit(0);
}

/*
 * Run a switch up to `after` system calls behind the nth of that number, and
 * kill it there. False: it came to its end before.
 */
static bool kill_switch(__u64 call, int nth, int after)
{
	struct __ptrace_syscall_info info;
	int status, seen = 0;
	pid_t pid = fork();

	if (!pid)
		die_switching();
	waitpid(pid, &status, 0);
	ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
	for (;;) {
		ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
		waitpid(pid, &status, 0);
		if (WIFEXITED(status) || WIFSIGNALED(status))
			return false;
		if (WSTOPSIG(status) != (SIGTRAP | 0x80))
			continue;
		if (seen < nth) {
			ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info);
			seen += info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == call;
		}
		if (seen == nth && after-- == 0)
			break;
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return true;
}

static void check_repaired(const char *when, int after)
{
	struct datapath dp;
	const char *fault;
	int err;

	/* what is there without a daemon works, whichever programs it is of */
	fault = pass_all(1);
	err = datapath_open(name, &dp);
	if (err) {
		result(false, "killed %s + %d: it cannot be opened", when, after);
		return;
	}
	err = datapath_repair(&dp);
	if (!fault)
		fault = pass_all(2);
	result(!err && !fault && is_whole(&dp), "killed %s + %d: it is whole, a %s%s%s", when,
	       after, dp.abi.role == COLO_ROLE_PRIMARY ? "primary" : "secondary",
	       fault ? ": " : "", fault ? fault : "");
	datapath_close(&dp);
}

static void killed_on_the_way(void)
{
	int after;

	/* that it was being switched is warned of */
	log_max_level = LOG_LEVEL_ERROR;
	if (attach(COLO_ROLE_SECONDARY)) {
		result(false, "attach");
		return;
	}
	/* the directories beside it, and then the pins in them */
	kill_switch(SYS_mkdir, 2, 0);
	check_repaired("at the second directory", 0);
	for (after = 0; after < 60; after += 29) {
		kill_switch(SYS_mkdir, 4, after);
		check_repaired("at the last directory", after);
	}
	for (after = 0; kill_switch(SYS_renameat2, 1, after); after += STEP)
		check_repaired("at the exchange", after);
	result(after > 3 * STEP, "a switch that comes to its end after %d more calls", after);
	check_repaired("never", 0);
	/* and detached by who finds it half done */
	kill_switch(SYS_renameat2, 1, 2 * STEP);
	result(!datapath_detach(name) && !is_pinned(false) && !is_pinned(true),
	       "detach leaves nothing");
}

static int make_devices(void)
{
	int err = devices_enter();

	if (!err)
		err = devices_tap(&guest, "role-guest", false);
	if (!err)
		err = devices_veth(&client, "role-port", "client", FRAME_MTU, false);
	if (!err)
		err = devices_veth(&other, "role-link", "other", FRAME_MTU + 4, false);
	if (!err && colo_context == COLO_CONTEXT_XDP)
		err = devices_xdp("client");
	return err;
}

int main(int argc, char **argv)
{
	if (argc > 1 && colo_find_context(argv[1])) {
		fprintf(stderr, "usage: role [tc|xdp]\n");
		return 2;
	}
	snprintf(name, sizeof(name), "role-%d", getpid());
	if (make_devices()) {
		printf("Bail out! no devices\n");
		return 1;
	}
	switch_under_load();
	killed_on_the_way();
	printf("1..%u\n%u passed, %u failed\n", number, number - failed, failed);
	return failed != 0;
}
