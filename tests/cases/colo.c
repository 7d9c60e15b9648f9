// SPDX-License-Identifier: GPL-2.0-only
/*
 * colo-bpf under test: the real programs on real devices, and what the daemon
 * does between frames. Programs are loaded once for each role and each kind of
 * offloads, and cleared between cases.
 */
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <jansson.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <colo/link.h>

#include "cases.h"
#include "config.h"
#include "datapath.h"
#include "link.h"
#include "release.h"
#include "settings.h"
#include "translations.h"

/* for two tags of a guest; IPv6 and options at a gso_size of FRAME_GSO */
#define PORT_ROOM 64
#define LINK_ROOM 100  /* for the link's tag and two of the guest's */
#define INPUTS    1024 /* client frames that are remembered */
#define SAY_NS    (5 * NSEC_PER_MSEC)
#define SETTLE_NS (20 * NSEC_PER_MSEC) /* as in loader/link.c */

struct rig {
	bool made, attached;
	enum colo_role role;
	struct wire guest, client, other;
	char near[3][16]; /* guest, port, link */
	char name[32];
	struct colo_config sizes; /* that it was attached with */
	struct colo_config base;  /* the options then */
	__u32 policy[COLO_CLASS_MAX];
	struct datapath dp;
	struct ring_buffer *ring;
	struct colo_counters before;    /* at the start or the last commit */
	unsigned int requests;          /* announced by the ring buffer since then */
	struct colo_link_count sent[2]; /* over the link by the other side, by epoch & 1 */
	uint64_t said_ns;               /* when the other side has told it last */
	struct colo_link_count got[2];  /* ... and what has come there */
	struct colo_link_count told;    /* what this side said last that it has sent */
	struct colo_link_count judged;  /* what of that is looked at */
	uint64_t judged_ns;             /* since then; 0: nothing */
	uint64_t missed_epoch;          /* in which the other side has missed something */
	struct frame *input[INPUTS];    /* the last client frames of a secondary */
	unsigned int inputs;            /* all */
	unsigned int old, fresh;        /* unread at the last commit, came since then */
	uint64_t mark;                  /* in the guest's tap */
	json_t *translations;           /* that the case has named */
	uint64_t tick_ns;
	int error; /* of the daemon's part */
};

bool colo_silent;
enum colo_context colo_context;

static struct rig rigs[2][2];
static struct rig *rig; /* of the case that runs */

/* ---- devices and programs ----------------------------------------------- */

static int make_devices(bool offloads)
{
	const char *role = rig->role == COLO_ROLE_PRIMARY ? "p" : "s";
	const char *how = offloads ? "o" : "";
	char client[16], other[16];
	int err;

	snprintf(rig->near[0], sizeof(rig->near[0]), "guest-%s%s", role, how);
	snprintf(rig->near[1], sizeof(rig->near[1]), "port-%s%s", role, how);
	snprintf(rig->near[2], sizeof(rig->near[2]), "link-%s%s", role, how);
	snprintf(client, sizeof(client), "client-%s%s", role, how);
	snprintf(other, sizeof(other), "other-%s%s", role, how);
	snprintf(rig->name, sizeof(rig->name), "cases-%d-%s%s", getpid(), role, how);
	err = devices_tap(&rig->guest, rig->near[0], offloads);
	if (!err)
		err = devices_veth(&rig->client, rig->near[1], client, wire_mtu + PORT_ROOM,
				   offloads);
	if (!err)
		err = devices_veth(&rig->other, rig->near[2], other, wire_mtu + LINK_ROOM,
				   offloads);
	if (!err && colo_context == COLO_CONTEXT_XDP && !offloads)
		err = devices_xdp(client);
	rig->made = !err;
	return err;
}

static int on_event(void *context, void *data, size_t size)
{
	const struct colo_event *event = data;
	__u64 next = rig->tick_ns;

	(void)context;
	if (size < sizeof(*event))
		return 0;
	if (event->type == COLO_EVENT_REQUEST && event->epoch == rig->dp.session->epoch)
		rig->requests++;
	rig->error = release_event(&rig->dp, event, &next);
	if (next < rig->tick_ns)
		rig->tick_ns = next;
	return 0;
}

static void detach(void)
{
	if (!rig->attached)
		return;
	ring_buffer__free(rig->ring);
	datapath_close(&rig->dp);
	datapath_detach(rig->name);
	rig->attached = false;
}

static void read_policy(const struct datapath *dp, __u32 *policy)
{
	for (__u32 i = 0; i < COLO_CLASS_MAX; i++)
		bpf_map_lookup_elem(dp->map_fd[MAP_POLICY], &i, &policy[i]);
}

static void write_policy(const struct datapath *dp, const __u32 *policy)
{
	for (__u32 i = 0; i < COLO_CLASS_MAX; i++)
		bpf_map_update_elem(dp->map_fd[MAP_POLICY], &i, &policy[i], 0);
}

static int attach(const struct colo_config *sizes, bool offloads)
{
	struct datapath_options how = {
		.name = rig->name,
		.role = rig->role,
		.guest = rig->near[0],
		.port = rig->near[1],
		.link = rig->near[2],
		.config = *sizes,
		/* what keeps its offloads is no frame for XDP */
		.context = offloads ? COLO_CONTEXT_TC : colo_context,
	};
	int err;

	if (rig->attached && !memcmp(&rig->sizes, sizes, sizeof(*sizes)))
		return 0;
	detach();
	err = datapath_attach(&how);
	if (!err)
		err = datapath_open(rig->name, &rig->dp);
	if (err)
		return err;
	rig->ring = ring_buffer__new(rig->dp.map_fd[MAP_EVENTS], on_event, NULL, NULL);
	rig->attached = true;
	rig->sizes = *sizes;
	rig->base = *rig->dp.config;
	read_policy(&rig->dp, rig->policy);
	return rig->ring ? 0 : -errno;
}

/* Pins of runs that were killed. */
static void remove_stale(void)
{
	DIR *dir = opendir(COLO_PIN_ROOT);
	struct dirent *entry;
	int pid;

	while (dir && (entry = readdir(dir))) {
		if (sscanf(entry->d_name, "cases-%d-", &pid) == 1 && kill(pid, 0) &&
		    errno == ESRCH)
			datapath_unpin(entry->d_name);
	}
	if (dir)
		closedir(dir);
}

/* ---- a case ------------------------------------------------------------- */

static void drain(struct wire *wire, bool tap)
{
	struct tpacket_stats stats;
	socklen_t len = sizeof(stats);
	struct frame *frame;
	int tci;

	while ((frame = wire_get(wire, tap, &tci)))
		frame_free(frame);
	if (!tap)
		getsockopt(wire->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len);
}

static int prepare(struct run *run)
{
	struct colo_config sizes = {
		.max_flows = 4096,
		.max_frames = 1024,
		.small_blocks = 1024,
		.big_blocks = 64,
	};
	struct passthrough_text text = {0}, none = {0};
	struct colo_passthrough rule;
	__u32 policy[COLO_CLASS_MAX];
	static bool cleaned;
	int err = 0;

	if (!cleaned)
		remove_stale();
	cleaned = true;
	if (set_options(run, &sizes, true, policy, &text))
		return -1;
	if (!rig->made)
		err = make_devices(run->test->offloads);
	if (!err)
		err = attach(&sizes, run->test->offloads);
	if (!err)
		err = datapath_reset(&rig->dp);
	if (err) {
		run_fail(run, "the programs cannot be attached or cleared: %s", strerror(-err));
		return err;
	}
	drain(&rig->guest, true);
	drain(&rig->client, false);
	drain(&rig->other, false);
	devices_lost();
	memcpy(policy, rig->policy, sizeof(policy));
	*rig->dp.config = rig->base;
	if (set_options(run, rig->dp.config, false, policy, &text))
		return -1;
	write_policy(&rig->dp, policy);
	if (memcmp(&text, &none, sizeof(text)) &&
	    (passthrough_parse(&text, &rule) || passthrough_add(&rig->dp, &rule) < 0)) {
		run_fail(run, "the passthrough rule is no good");
		return -1;
	}
	return 0;
}

static enum colo_role role_of(enum side side)
{
	return side == SIDE_PRIMARY ? COLO_ROLE_PRIMARY : COLO_ROLE_SECONDARY;
}

/* COLO begins, with the programs that there are. */
static int start(struct run *run)
{
	int err;

	rig->requests = 0;
	rig->tick_ns = 0;
	rig->error = 0;
	memset(rig->sent, 0, sizeof(rig->sent));
	memset(rig->got, 0, sizeof(rig->got));
	rig->said_ns = 0;
	memset(&rig->told, 0, sizeof(rig->told));
	rig->judged_ns = 0;
	rig->missed_epoch = 0;
	rig->inputs = rig->old = rig->fresh = 0;
	rig->mark = 0;
	run->epoch = 1;
	err = release_start(&rig->dp, run->epoch);
	if (err)
		run_fail(run, "release_start: %s", strerror(-err));
	datapath_counters(&rig->dp, &rig->before);
	return err;
}

static int colo_begin(struct run *run)
{
	int err;

	rig = &rigs[run->test->side][run->test->offloads];
	rig->role = role_of(run->test->side);
	if (prepare(run))
		return -1;
	json_decref(rig->translations);
	rig->translations = json_array();
	err = start(run);
	if (!err && run->lease_ms)
		rig->dp.session->lease_ns = now_ns() + run->lease_ms * NSEC_PER_MSEC;
	return err;
}

/* The other side counts what it sends and what comes, as the programs do. */
static void count_frame(struct colo_link_count slots[2], uint64_t epoch,
			const struct frame *frame)
{
	struct colo_link_count *count = &slots[epoch & 1];
	struct view v;

	if (count->epoch > epoch)
		return;
	if (count->epoch < epoch)
		*count = (struct colo_link_count){.epoch = epoch};
	decode_frame(frame, &v);
	if (v.kind == KIND_TCP && v.has_l4 && !v.fragment && v.data_len)
		count->tcp_bytes += v.data_len;
	else
		count->frames++;
}

/* A control frame of this side: what it has sent, if it says that. */
static void hear_sent(const struct frame *frame)
{
	struct colo_link_counts counts;

	if (frame->len < 14 + sizeof(counts) ||
	    memcmp(frame->bytes + 12,
		   (uint8_t[]){COLO_LINK_ETHERTYPE >> 8, COLO_LINK_ETHERTYPE & 255}, 2))
		return;
	memcpy(&counts, frame->bytes + 14, sizeof(counts));
	rig->told.epoch = be64toh(counts.epoch);
	rig->told.tcp_bytes = be64toh(counts.tcp_bytes);
	rig->told.frames = be64toh(counts.frames);
}

/* Has the other side missed something of it? */
static void judge_sent(const struct run *run, uint64_t now)
{
	struct colo_link_count got = rig->got[run->epoch & 1];

	if (!rig->judged_ns) {
		rig->judged = rig->told;
		rig->judged_ns = now;
	}
	if (now < rig->judged_ns + SETTLE_NS)
		return;
	rig->judged_ns = 0;
	if (got.epoch != run->epoch)
		got = (struct colo_link_count){0};
	if (rig->judged.epoch == run->epoch &&
	    (got.tcp_bytes < rig->judged.tcp_bytes || got.frames < rig->judged.frames))
		rig->missed_epoch = run->epoch;
}

/* The other side says what it has sent, and whether it has missed something. */
void colo_say(struct run *run)
{
	struct colo_link_count sent = rig->sent[run->epoch & 1];
	unsigned char bytes[LINK_COUNTS_LEN];
	struct frame *frame;

	if (run->failed_over)
		return;
	if (sent.epoch != run->epoch && rig->missed_epoch != run->epoch)
		return;
	if (sent.epoch != run->epoch)
		sent = (struct colo_link_count){.epoch = run->epoch};
	link_counts_frame(bytes, &sent, rig->missed_epoch, COLO_REASON_LINK_GAP);
	frame = frame_new(bytes, sizeof(bytes));
	wire_put(&rig->other, false, frame, -1);
	frame_free(frame);
}

static void say_in_time(struct run *run, uint64_t now)
{
	if (colo_silent || run->failed_over || now < rig->said_ns + SAY_NS)
		return;
	rig->said_ns = now;
	judge_sent(run, now);
	colo_say(run);
}

static int put_link(struct run *run, enum colo_link_kind kind, uint64_t epoch,
		    struct frame *frame)
{
	if (kind != COLO_LINK_CONTROL)
		count_frame(rig->sent, epoch, frame);
	if (run->drop) {
		run->drop--;
		return 0;
	}
	return wire_put(&rig->other, false, frame, colo_link_vid(kind, epoch));
}

static struct frame *frame_copy(const struct frame *frame)
{
	struct frame *copy = frame_new(frame->bytes, frame->len);

	copy->gso = frame->gso;
	copy->partial = frame->partial;
	copy->l4_off = frame->l4_off;
	return copy;
}

static void note_input(const struct frame *frame)
{
	struct frame **slot = &rig->input[rig->inputs++ % INPUTS];

	frame_free(*slot);
	*slot = frame_copy(frame);
	rig->fresh++;
}

static int colo_put(struct run *run, enum verb verb, int epoch_diff, struct frame *frame)
{
	switch (verb) {
	case VERB_P:
	case VERB_G:
		return wire_put(&rig->guest, true, frame, -1);
	case VERB_S:
		return put_link(run, COLO_LINK_OUTPUT, run->epoch + epoch_diff, frame);
	case VERB_I:
		return put_link(run, COLO_LINK_CONTROL, run->epoch, frame);
	default:
		/* After its failover a secondary has clients of its own. */
		if (run->side == SIDE_PRIMARY || run->failed_over)
			return wire_put(&rig->client, false, frame, -1);
		note_input(frame);
		return put_link(run, COLO_LINK_INPUT, run->epoch + epoch_diff, frame);
	}
}

/* A primary says nothing of its own: what leaves, P has sent, and by now. */
static void check_sent(struct run *run, struct frame *frame)
{
	struct view v;
	uint32_t seq;

	decode_frame(frame, &v);
	if (run->side != SIDE_PRIMARY || v.kind != KIND_TCP || !v.has_l4 || v.fragment)
		return;
	seq = v.seq + (v.flags & TCP_SYN ? 1 : 0);
	for (unsigned int i = 0; i < v.data_len && !frame->fault; i++, seq++) {
		if (!sent_ever(&v.flow, seq) &&
		    asprintf(&frame->fault, "byte %u left, which P has not sent", seq) < 0)
			frame->fault = NULL;
	}
}

static void take_wire(struct run *run, enum outlet outlet, struct frame *frame)
{
	static const char *const arrows[OUTLETS] = {"port", "guest", "link"};
	char *text;

	if (outlet == OUTLET_PORT && !run->replay)
		check_sent(run, frame);
	if (verbose && !run->replay) {
		text = decode_print(frame);
		printf("#   -> %-5s %s%s%s\n", arrows[outlet], text, frame->fault ? " !! " : "",
		       frame->fault ? frame->fault : "");
		free(text);
	}
	frames_add(&run->out[outlet], frame);
}

/* A frame of the link: the tag goes, control frames are not shown. */
static void take_link(struct run *run, struct frame *frame, int tci)
{
	enum colo_link_kind want = run->side == SIDE_PRIMARY ? COLO_LINK_INPUT :
							       COLO_LINK_OUTPUT;

	if (tci < 0) {
		frame->fault = strdup("it has no tag of the link");
		take_wire(run, OUTLET_LINK, frame);
		return;
	}
	memmove(frame->bytes + 12, frame->bytes + 16, frame->len - 16);
	frame->len -= 4;
	if (colo_link_kind(tci) == COLO_LINK_CONTROL) {
		hear_sent(frame);
		frame_free(frame);
		return;
	}
	if (run->drop) {
		run->drop--;
		frame_free(frame);
		return;
	}
	count_frame(rig->got, run->epoch, frame);
	if (colo_link_kind(tci) != want)
		frame->fault = strdup("the kind in its tag is not that of this side");
	else if (colo_link_epoch_diff(tci, run->epoch))
		frame->fault = strdup("the epoch in its tag is not the open one");
	take_wire(run, OUTLET_LINK, frame);
}

/* QEMU takes its mark away. */
static bool is_mark(const struct frame *frame)
{
	uint64_t mark = htobe64(rig->mark);

	return rig->mark && frame->len >= ETH_HLEN + sizeof(mark) &&
	       !memcmp(frame->bytes + ETH_HLEN, &mark, sizeof(mark));
}

static void take_guest(struct run *run, struct frame *frame)
{
	if (is_mark(frame))
		frame_free(frame);
	else
		take_wire(run, OUTLET_GUEST, frame);
}

static bool take_frames(struct run *run)
{
	bool any = false;
	struct frame *frame;
	int tci;

	while ((frame = wire_get(&rig->client, false, &tci))) {
		take_wire(run, OUTLET_PORT, frame);
		any = true;
	}
	while ((frame = wire_get(&rig->guest, true, &tci))) {
		take_guest(run, frame);
		any = true;
	}
	while ((frame = wire_get(&rig->other, false, &tci))) {
		take_link(run, frame, tci);
		any = true;
	}
	return any;
}

/*
 * What the daemon does when it wakes up; its timers have their turn only where
 * a case lets time pass: frames that follow each other come at once, however
 * busy the machine is.
 */
static bool run_daemon(struct run *run, bool timers)
{
	int events = ring_buffer__consume(rig->ring);
	uint64_t now = now_ns();
	__u64 next = 0;

	if (timers && now >= rig->tick_ns) {
		int err = release_tick(&rig->dp, now, &next);

		rig->tick_ns = next;
		if (err && !rig->error)
			rig->error = err;
	}
	if (rig->error) {
		run_fail(run, "the daemon's part: %s", strerror(-rig->error));
		rig->error = 0;
	}
	return events > 0;
}

static void colo_poll(struct run *run, uint64_t until_ns)
{
	struct pollfd fds[] = {
		{rig->guest.fd, POLLIN, 0},
		{rig->client.fd, POLLIN, 0},
		{rig->other.fd, POLLIN, 0},
		{ring_buffer__epoll_fd(rig->ring), POLLIN, 0},
	};
	struct timespec wait = {0};
	uint64_t now;

	/* The events are the programs' own: the ring is not always rung. */
	if (run_daemon(run, until_ns) | take_frames(run) || !until_ns)
		return;
	now = now_ns();
	say_in_time(run, now);
	if (rig->tick_ns < until_ns)
		until_ns = rig->tick_ns;
	if (until_ns <= now)
		return;
	wait.tv_nsec = until_ns - now < NSEC_PER_MSEC ? until_ns - now : NSEC_PER_MSEC;
	ppoll(fds, 4, &wait, NULL);
	run_daemon(run, true);
	take_frames(run);
}

/*
 * What the primary has left unread more than once goes with its state, and
 * QEMU gives it.
 */
static void give_old(struct run *run, unsigned int unread)
{
	unsigned int most = rig->old + rig->fresh, n = unread < most ? unread : most;

	rig->old = n;
	for (n = n < INPUTS ? n : INPUTS; n > rig->fresh; n--) {
		const struct frame *frame = rig->input[(rig->inputs - n) % INPUTS];

		take_wire(run, OUTLET_GUEST, wire_pass(frame));
	}
	rig->fresh = 0;
}

/* A primary's guest has stopped, and the mark is set: then come the commits. */
static int colo_commit(struct run *run, unsigned int unread)
{
	uint64_t closed = run->epoch;
	__u64 mark;
	int err;

	colo_poll(run, 0);
	datapath_counters(&rig->dp, &rig->before);
	rig->requests = 0;
	rig->tick_ns = 0;
	run->epoch++;
	if (run->side == SIDE_PRIMARY) {
		err = release_stop(&rig->dp, closed, &mark);
		rig->mark = mark;
		return err ? err : release_commit(&rig->dp, closed);
	}
	give_old(run, unread);
	err = release_reset(&rig->dp, closed, &mark);
	rig->mark = mark;
	return err;
}

static int colo_failover(struct run *run)
{
	colo_poll(run, 0);
	rig->tick_ns = 0;
	return release_failover(&rig->dp) ?: release_failover_end(&rig->dp);
}

/* What the daemon does when it has heard of the other side again, or has not. */
static int colo_lease(struct run *run, uint32_t ms)
{
	colo_poll(run, 0);
	rig->dp.session->lease_ns = now_ns() + ms * NSEC_PER_MSEC;
	return ms ? release_lease(&rig->dp) : 0;
}

/* A resync gives the survivor its role, and copies the translations. */
static int colo_switch_role(struct run *run, enum side side)
{
	json_t *copy;
	int err;

	colo_poll(run, 0);
	err = datapath_switch_role(&rig->dp, role_of(side));
	if (err)
		return err;
	copy = translations_export(&rig->dp);
	err = copy ? translations_import(&rig->dp, copy) : -EIO;
	json_decref(copy);
	run->side = side;
	return err ? err : start(run);
}

static void text_of(char text[INET6_ADDRSTRLEN], const struct address *address)
{
	inet_ntop(address->family, address->bytes, text, INET6_ADDRSTRLEN);
}

/* All that the case has, as the other side would send them. */
static int colo_translation(struct run *run, const struct statement *st)
{
	char guest[INET6_ADDRSTRLEN], client[INET6_ADDRSTRLEN];
	const struct flow *flow = &st->spec.flow;
	json_t *entry;

	(void)run;
	text_of(guest, &flow->src);
	text_of(client, &flow->dst);
	entry = json_pack("{s:s, s:i, s:s, s:i, s:I, s:I, s:i}", "guest", guest, "guest_port",
			  flow->sport, "client", client, "client_port", flow->dport,
			  "seq_delta", (json_int_t)st->translation.seq, "ts_delta",
			  (json_int_t)st->translation.ts, "idle_ms", 0);
	if (st->translation.isn >= 0)
		json_object_set_new(entry, "isn", json_integer(st->translation.isn));
	if (st->translation.echo >= 0)
		json_object_set_new(entry, "echo", json_integer(st->translation.echo));
	for (unsigned int i = 0; i < st->spec.vlans; i++)
		json_object_set_new(entry, i ? "vlan_inner" : "vlan",
				    json_integer(st->spec.vlan[i]));
	json_array_append_new(rig->translations, entry);
	return translations_import(&rig->dp, rig->translations);
}

static uint64_t requests_of(const struct colo_counters *c)
{
	return c->req_payload + c->req_length + c->req_flags + c->req_timeout +
	       c->req_queue_full + c->req_flow_full + c->req_pool_full + c->req_link_gap +
	       c->req_malformed + c->req_untranslatable + c->req_operator;
}

static unsigned int colo_requests(struct run *run, int *reason)
{
	volatile struct colo_session *session = rig->dp.session;
	struct colo_counters now;

	datapath_counters(&rig->dp, &now);
	*reason = session->request_epoch == run->epoch ? (int)session->request_reason :
							 COLO_REASON_NONE;
	return requests_of(&now) - requests_of(&rig->before);
}

static int64_t count_frames(bool of_p)
{
	int64_t count = 0;

	for (__u32 i = 0; i < rig->dp.max_frames; i++) {
		enum colo_frame_state state = rig->dp.frames[i].state;

		count += of_p ? state == COLO_FRAME_P : state != COLO_FRAME_FREE;
	}
	return count;
}

static void colo_held(struct run *run, int64_t *counted, int64_t *found)
{
	struct colo_counters now;

	(void)run;
	datapath_counters(&rig->dp, &now);
	*counted = now.p_held - now.p_matched - now.p_committed - now.p_failed_over -
		   now.p_discarded;
	*found = count_frames(true);
}

/* ---- XDP ---------------------------------------------------------------- */

static struct {
	uint64_t held, matched, covered, waited, lost;
} xdp;

static void count_xdp(void)
{
	struct colo_counters now;

	datapath_counters(&rig->dp, &now);
	xdp.held += now.xdp_held;
	xdp.matched += now.xdp_matched;
	xdp.covered += now.xdp_covered;
	xdp.waited += now.xdp_waited;
	xdp.lost += now.xdp_lost;
}

int colo_find_context(const char *name)
{
	for (colo_context = COLO_CONTEXT_TC; config_context_names[colo_context];
	     colo_context++) {
		if (!strcmp(config_context_names[colo_context], name))
			return 0;
	}
	return -1;
}

bool colo_report_xdp(void)
{
	if (colo_context != COLO_CONTEXT_XDP)
		return true;
	printf("# XDP has held %" PRIu64 " frames, matched %" PRIu64 " of them, let %" PRIu64
	       " pass; for it %" PRIu64 " have waited\n",
	       xdp.held, xdp.matched, xdp.covered, xdp.waited);
	if (xdp.matched && xdp.covered && !xdp.lost)
		return true;
	printf("# FAILED: the fast path was not taken, or lost %" PRIu64 " frames\n", xdp.lost);
	return false;
}

/* ---- after a case ------------------------------------------------------- */

static void check_lost(struct run *run)
{
	const struct wire *far[] = {&rig->client, &rig->other};
	long lost = devices_lost();

	if (lost)
		run_fail(run, "%ld frames were lost by the test's own devices", lost);
	for (unsigned int i = 0; i < 2; i++) {
		struct tpacket_stats stats = {0};
		socklen_t len = sizeof(stats);

		getsockopt(far[i]->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len);
		if (stats.tp_drops)
			run_fail(run, "%u frames were lost by the test's own socket on %s",
				 stats.tp_drops, far[i]->name);
	}
}

/* No record may be lost, and every end of a held frame has been counted. */
static void check_counters(struct run *run)
{
	struct colo_counters now;
	int64_t counted, found, taken;

	datapath_counters(&rig->dp, &now);
	taken = now.frames_taken - now.frames_given;
	found = count_frames(false);
	if (taken != found)
		run_fail(run,
			 "a leak: %" PRId64 " frame records are taken by the counters, %" PRId64
			 " are not free",
			 taken, found);
	colo_held(run, &counted, &found);
	if (counted != found)
		run_fail(run,
			 "%" PRId64 " frames are held by the counters, %" PRId64 " records",
			 counted, found);
	counted = now.p_policy_pass + now.p_policy_drop + now.p_passthrough + now.p_covered +
		  now.p_at_once + now.p_held + now.p_unheld + now.p_unleased;
	if ((int64_t)now.p_frames != counted)
		run_fail(run,
			 "%llu frames of P came, %" PRId64
			 " are counted by what became of them",
			 now.p_frames, counted);
	if (rig->requests > 1)
		run_fail(run, "%u requests of one epoch were announced", rig->requests);
}

static void show_counters(void)
{
	struct colo_counters now;

	datapath_counters(&rig->dp, &now);
#define SHOW(name, text) \
	if (now.name)    \
		printf("#   %-20s %llu (" text ")\n", #name, now.name);
	COLO_COUNTERS(SHOW)
#undef SHOW
}

/* What may never leave fails a case that did not look at it, too. */
static void check_faults(struct run *run)
{
	for (enum outlet o = 0; o < OUTLETS && !run->error; o++) {
		for (unsigned int i = 0; i < run->out[o].count; i++) {
			const struct frame *frame = run->out[o].list[i];
			char *text;

			if (!frame->fault)
				continue;
			text = decode_print(frame);
			run_fail(run, "%s: %s: %s", outlet_names[o], frame->fault, text);
			free(text);
		}
	}
}

static void colo_end(struct run *run)
{
	if (!rig->attached)
		return;
	colo_poll(run, 0);
	if (verbose)
		show_counters();
	count_xdp();
	check_faults(run);
	check_lost(run);
	check_counters(run);
	if (rig->dp.abi.role != rig->role)
		detach();
}

static const struct statement *colo_cannot(const struct testcase *test)
{
	(void)test;
	return NULL;
}

struct datapath *colo_datapath(void)
{
	return &rig->dp;
}

static void colo_close(void)
{
	for (unsigned int i = 0; i < 4; i++) {
		rig = &rigs[i / 2][i % 2];
		detach();
	}
}

struct proxy colo_proxy = {
	.name = "colo-bpf",
	.cannot = colo_cannot,
	.begin = colo_begin,
	.end = colo_end,
	.put = colo_put,
	.commit = colo_commit,
	.failover = colo_failover,
	.lease = colo_lease,
	.switch_role = colo_switch_role,
	.translation = colo_translation,
	.poll = colo_poll,
	.requests = colo_requests,
	.held = colo_held,
	.close = colo_close,
};
