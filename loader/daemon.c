// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>
#include <time.h>

#include "daemon.h"
#include "log.h"
#include "names.h"
#include "output.h"
#include "release.h"
#include "status.h"

#define ASK_AGAIN_NS   (100 * MS_NS)  /* a checkpoint that does not come */
#define TAKE_NS        (1000 * MS_NS) /* for the peer to yield */
#define TRY_NS         (400 * MS_NS)  /* a frame waits, and the peer's daemon is gone */
#define TRY_AGAIN_NS   (1000 * MS_NS)
#define LINGER_NS      (60000 * MS_NS) /* to tell the peer that the guest is gone */
#define ADOPT_GRACE_NS (1000 * MS_NS)  /* for the first heartbeat after a restart */

__u64 daemon_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

void daemon_end(struct daemon *d, int status)
{
	if (!d->ending)
		d->status = status;
	d->ending = true;
}

/* ---------------------------------------------------------------- peer --- */

void daemon_heartbeat(struct daemon *d)
{
	struct peer_message message = {
		.role = d->session.role,
		.state = d->session.state,
		.flags = (d->qemu_gone ? PEER_QEMU_GONE : 0) | (d->leaving ? PEER_LEAVING : 0),
		.epoch = d->dp.session->epoch,
	};

	strncpy(message.name, d->options.name, sizeof(message.name) - 1);
	peer_send(&d->peer, &message);
	d->heartbeat_ns = daemon_now() + d->options.heartbeat_ms * MS_NS;
}

static void peer_message(struct daemon *d)
{
	const struct peer_message *last = &d->peer.last;

	if (last->role == d->session.role && !d->peer.warned) {
		d->peer.warned = true;
		log_error("peer: %s is a %s, too: one of the two must be the other role",
			  last->name, name_role(last->role));
	}
	if (last->state == SESSION_COLO)
		d->peer_joined = true;
	/* What it says of an earlier COLO is not about this one. */
	if (!d->peer_joined)
		return;
	if (last->flags & PEER_QEMU_GONE)
		daemon_event(d, EVENT_PEER_QEMU_GONE);
	else if (last->state == SESSION_TAKING)
		daemon_event(d, EVENT_PEER_TAKING);
	else if (last->state == SESSION_FAILING || last->state == SESSION_ALONE)
		daemon_event(d, EVENT_PEER_ACTIVE);
	else if (last->state == SESSION_LOST)
		daemon_event(d, EVENT_PEER_YIELDED);
}

void daemon_peer_input(struct daemon *d)
{
	while (peer_receive(&d->peer, daemon_now()) == 1)
		peer_message(d);
}

static bool peer_goes_on(const struct daemon *d)
{
	return d->peer.last.state == SESSION_FAILING || d->peer.last.state == SESSION_ALONE;
}

static void peer_changed(struct daemon *d, enum peer_health health, __u64 now)
{
	enum peer_health from = d->peer.health;

	d->peer.health = health;
	if (health == PEER_ALIVE)
		log_info("peer: %s is alive", d->peer.last.name);
	else if (health == PEER_DOWN)
		log_warning("peer: its daemon is gone, its host lives");
	else if (health == PEER_LOST)
		log_warning("peer: lost, nothing was heard for %llu ms",
			    (now - d->peer.heard_ns) / MS_NS);
	server_publish(d,
		       json_pack("{s:s, s:s, s:s}", "event", "peer", "from",
				 peer_health_names[from], "health", peer_health_names[health]));
}

/*
 * The peer's host lives, its daemon does not. Its guest may: then frames match
 * and nothing waits. If something does, a checkpoint tries QEMU's channel to
 * it, for an idle primary does not notice that a secondary is gone.
 */
static void try_channel(struct daemon *d, __u64 now)
{
	__u64 oldest;

	if (d->session.role != COLO_ROLE_PRIMARY || d->session.state != SESSION_COLO ||
	    d->options.peer_lost != LOST_FAILOVER || now < d->tried_ns + TRY_AGAIN_NS)
		return;
	oldest = release_oldest(&d->dp);
	if (!oldest || now < oldest + TRY_NS)
		return;
	d->tried_ns = now;
	hooks_ask(d, d->dp.session->epoch, "peer");
}

/*
 * The socket's messages are read before: a silence of ours, when this process
 * did not run, is none of the peer's.
 */
static void judge_peer(struct daemon *d, __u64 now)
{
	enum peer_health health;

	if (d->peer.fd < 0) {
		daemon_event(d, EVENT_PEER_UNKNOWN);
		return;
	}
	daemon_peer_input(d);
	peer_probe(&d->peer, now);
	health = peer_judge(&d->peer, now);
	if (health != d->peer.health)
		peer_changed(d, health, now);
	switch (health) {
	case PEER_UNKNOWN:
		daemon_event(d, EVENT_PEER_UNKNOWN);
		break;
	case PEER_ALIVE:
		daemon_event(d, EVENT_PEER_ALIVE);
		break;
	case PEER_DOWN:
		try_channel(d, now);
		if (d->options.peer_lost == LOST_FAILOVER)
			daemon_event(d, EVENT_PEER_DOWN);
		break;
	case PEER_LOST:
		if (d->options.peer_lost == LOST_FAILOVER)
			daemon_event(d, EVENT_PEER_LOST);
		break;
	}
}

/* ------------------------------------------------------------- actions --- */

/* The answer to a stage: done, or QEMU leaves COLO at once. */
static int stage_marked(struct daemon *d, int err, __u64 mark)
{
	if (err)
		log_error("%s, epoch %llu: %s: QEMU is told to leave COLO", d->stage.name,
			  d->stage.epoch, strerror(-err));
	hooks_ack(d, err ? strerror(-err) : NULL, mark);
	return err;
}

static int stage_done(struct daemon *d, int err)
{
	return stage_marked(d, err, 0);
}

static int act_stop(struct daemon *d)
{
	__u64 mark = 0;
	int err = 0;

	if (d->stage.mark)
		err = release_stop(&d->dp, d->stage.epoch, &mark);
	return stage_marked(d, err, mark);
}

static int act_reset(struct daemon *d)
{
	__u64 mark = 0;
	int err = release_reset(&d->dp, d->stage.epoch, d->stage.mark ? &mark : NULL);

	return stage_marked(d, err, mark);
}

static int act_failover(struct daemon *d)
{
	int err = release_failover(&d->dp);
	int announced;

	if (err)
		log_error("failover: some of what was held could not be released: %s",
			  strerror(-err));
	announced = announce_guest(&d->dp, d->guest_mac);
	if (announced < 0 && announced != -ENODATA)
		log_warning("failover: gratuitous ARP on %s: %s", d->dp.abi.port,
			    strerror(-announced));
	log_info("failover: this host goes on, %d address%s announced by ARP",
		 announced > 0 ? announced : 0, announced == 1 ? "" : "es");
	/* QEMU would run the guest anyway. */
	hooks_ack(d, NULL, 0);
	return 0;
}

static int act_shut(struct daemon *d, const char *why)
{
	int err = release_discard(&d->dp);

	log_warning("%s: %s: held frames are discarded, the port is shut", d->options.name,
		    why);
	if (err)
		log_error("discard: %s", strerror(-err));
	daemon_heartbeat(d);
	return 0;
}

static void start_session(struct daemon *d)
{
	d->peer_joined = false;
	d->asked_epoch = 0;
}

static int act(void *context, enum session_action action, enum session_event event)
{
	struct daemon *d = context;

	switch (action) {
	case ACTION_START:
		start_session(d);
		return stage_done(d, release_start(&d->dp, d->stage.epoch));
	case ACTION_STOP:
		return act_stop(d);
	case ACTION_COMMIT:
		return stage_done(d, release_commit(&d->dp, d->stage.epoch));
	case ACTION_RESET:
		return act_reset(d);
	case ACTION_FAILOVER:
		return act_failover(d);
	case ACTION_FAIL_OVER_QEMU:
		d->take_ns = NO_TIMER;
		hooks_fail_over(d);
		return 0;
	case ACTION_TAKE:
		d->take_ns = daemon_now() + TAKE_NS;
		daemon_heartbeat(d);
		return 0;
	case ACTION_NOT_TAKEN:
		log_error("failover: the peer lives and does not yield: nothing was done");
		return 0;
	case ACTION_YIELD:
		return act_shut(d, "the peer goes on alone");
	case ACTION_GONE:
		d->linger_ns = daemon_now() + LINGER_NS;
		return act_shut(d, "the guest is gone");
	case ACTION_SPLIT:
		if (!d->split)
			log_error("both hosts are active: stop one of the two guests at once");
		d->split = true;
		return 0;
	case ACTION_REFUSE:
		log_error("QEMU: stage %s: refused, this side is %s", d->stage.name,
			  session_state_names[d->session.state]);
		hooks_ack(d, "the other side goes on alone", 0);
		return 0;
	case ACTION_NONE:
	case SESSION_ACTIONS:
		break;
	}
	(void)event;
	return 0;
}

static void changed(void *context, enum session_state from, enum session_event event)
{
	struct daemon *d = context;
	const char *to = session_state_names[d->session.state];

	log_info("%s: %s -> %s (%s)", d->options.name, session_state_names[from], to,
		 session_event_names[event]);
	server_publish(d, json_pack("{s:s, s:s, s:s, s:s}", "event", "state", "from",
				    session_state_names[from], "to", to, "cause",
				    session_event_names[event]));
	daemon_heartbeat(d);
}

void daemon_event(struct daemon *d, enum session_event event)
{
	int err = session_handle(&d->session, event);

	if (err == -ENOENT && event <= EVENT_FAILOVER) {
		log_error(
			"QEMU: stage %s is not expected in state %s: QEMU is told to leave COLO",
			d->stage.name, session_state_names[d->session.state]);
		hooks_ack(d, "not expected: the proxy's data path is not in COLO", 0);
	}
}

/* ------------------------------------------------------------ requests --- */

/* Ask QEMU while the flag of the open epoch stands (rule 11). */
static void ask_checkpoint(struct daemon *d, __u64 now)
{
	volatile struct colo_session *session = d->dp.session;

	d->ask_ns = NO_TIMER;
	if (d->session.role != COLO_ROLE_PRIMARY || d->session.state != SESSION_COLO ||
	    !session->epoch || session->request_epoch != session->epoch)
		return;
	hooks_ask(d, session->epoch, name_reason(session->request_reason));
	if (d->asked_epoch == session->epoch)
		log_debug("epoch %llu: asked again for a checkpoint", session->epoch);
	d->asked_epoch = session->epoch;
	d->ask_ns = now + ASK_AGAIN_NS;
}

static void publish_request(struct daemon *d, const struct colo_event *event)
{
	json_t *object = json_object();

	output_text(object, "event", "request");
	output_number(object, "ns", event->ns);
	output_number(object, "epoch", event->epoch);
	output_text(object, "reason", name_reason(event->reason));
	output_set(object, "flow", name_flow(&event->key));
	output_number(object, "seq", event->seq);
	server_publish(d, object);
}

int daemon_ring_event(void *context, void *data, size_t size)
{
	struct daemon *d = context;
	const struct colo_event *event = data;
	int err;

	if (size < sizeof(*event))
		return 0;
	if (event->type == COLO_EVENT_REQUEST) {
		publish_request(d, event);
		ask_checkpoint(d, daemon_now());
	}
	err = release_event(&d->dp, event, &d->tick_ns);
	if (err)
		log_warning("release: %s", strerror(-err));
	return 0;
}

const char *daemon_checkpoint(struct daemon *d)
{
	if (d->session.role != COLO_ROLE_PRIMARY)
		return "this is the secondary: ask the primary's daemon";
	if (d->session.state != SESSION_COLO)
		return "COLO does not run";
	if (release_request(&d->dp, COLO_REASON_OPERATOR) < 0)
		return "the program `control` could not be run";
	ask_checkpoint(d, daemon_now());
	return NULL;
}

const char *daemon_failover(struct daemon *d)
{
	bool alive = d->peer.fd >= 0 && d->peer.health == PEER_ALIVE;

	switch (d->session.state) {
	case SESSION_IDLE:
		return "COLO does not run";
	case SESSION_ALONE:
		return "this side is alone already";
	case SESSION_LOST:
		return "this side gave way: its guest is not the pair's any more";
	default:
		daemon_event(d, alive ? EVENT_OPERATOR_TAKE : EVENT_OPERATOR_FAILOVER);
		return NULL;
	}
}

/* -------------------------------------------------------------- timers --- */

static bool due(__u64 *timer, __u64 now)
{
	if (now < *timer)
		return false;
	*timer = NO_TIMER;
	return true;
}

void daemon_timers(struct daemon *d)
{
	__u64 now = daemon_now();
	int err;

	if (now >= d->heartbeat_ns) {
		judge_peer(d, now);
		daemon_heartbeat(d);
	}
	if (now >= d->tick_ns) {
		err = release_tick(&d->dp, now, &d->tick_ns);
		if (err)
			log_warning("release: %s", strerror(-err));
		/* A request whose event was lost. */
		if (d->ask_ns == NO_TIMER)
			ask_checkpoint(d, now);
	}
	if (due(&d->ask_ns, now))
		ask_checkpoint(d, now);
	if (due(&d->take_ns, now))
		daemon_event(d, EVENT_TAKE_TIMEOUT);
	if (d->linger_ns != NO_TIMER &&
	    (now >= d->linger_ns || d->peer.fd < 0 || peer_goes_on(d)))
		daemon_end(d, 1);
}

__u64 daemon_next(const struct daemon *d)
{
	const __u64 timers[] = {d->tick_ns, d->heartbeat_ns, d->ask_ns, d->take_ns};
	__u64 next = timers[0];

	for (size_t i = 1; i < sizeof(timers) / sizeof(*timers); i++)
		if (timers[i] < next)
			next = timers[i];
	return next;
}

/* --------------------------------------------------------------- start --- */

void daemon_init(struct daemon *d)
{
	d->session.act = act;
	d->session.changed = changed;
	d->session.context = d;
	d->tick_ns = 0;
	d->heartbeat_ns = 0;
	d->ask_ns = 0;
	d->take_ns = NO_TIMER;
	d->linger_ns = NO_TIMER;
	d->peer.fd = -1;
	d->peer.probe_fd = -1;
}

int daemon_adopt(struct daemon *d)
{
	static const enum session_state states[] = {
		[COLO_MODE_SHUT] = SESSION_LOST,    [COLO_MODE_WIRE] = SESSION_ALONE,
		[COLO_MODE_PRIMARY] = SESSION_COLO, [COLO_MODE_SECONDARY] = SESSION_COLO,
		[COLO_MODE_ACTIVE] = SESSION_ALONE,
	};
	enum colo_mode mode = d->dp.session->mode;

	if (mode > COLO_MODE_ACTIVE)
		return -EPROTO;
	d->session.role = d->dp.abi.role;
	d->session.state = states[mode];
	/* Epoch 0: no COLO since it was attached. */
	if (!d->dp.session->epoch && mode == datapath_idle_mode(d->dp.abi.role))
		d->session.state = SESSION_IDLE;
	if (d->session.state == SESSION_COLO && d->peer.fd >= 0) {
		/* The peer was there: its silence from now on is a loss. */
		d->peer_joined = true;
		d->peer.health = PEER_ALIVE;
		d->peer.heard_ns = daemon_now() + ADOPT_GRACE_NS;
	}
	return 0;
}

json_t *daemon_status(struct daemon *d)
{
	json_t *object = status_describe(&d->dp), *part = json_object();

	output_text(part, "state", session_state_names[d->session.state]);
	output_text(part, "qmp", d->options.qmp);
	output_flag(part, "qemu", d->qmp && qmp_is_open(d->qmp));
	output_text(part, "peer", d->peer.fd < 0 ? "none" : peer_health_names[d->peer.health]);
	output_text(part, "peer_state",
		    d->peer.last.sequence ? session_state_names[d->peer.last.state] : NULL);
	output_text(part, "peer_lost",
		    d->options.peer_lost == LOST_MANUAL ? "manual" : "failover");
	output_set(object, "daemon", part);
	return object;
}
