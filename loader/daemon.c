// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "announce.h"
#include "clock.h"
#include "daemon.h"
#include "log.h"
#include "names.h"
#include "output.h"
#include "pair.h"
#include "release.h"
#include "status.h"

#define ASK_AGAIN_NS   (100 * MS_NS)  /* a checkpoint that does not come */
#define TAKE_NS        (1000 * MS_NS) /* for the peer to yield */
#define TRY_NS         (100 * MS_NS)  /* a frame waits, and the peer's daemon is gone */
#define TRY_AGAIN_NS   (1000 * MS_NS)
#define ADOPT_GRACE_NS (1000 * MS_NS) /* for the first heartbeat after a restart */
#define LATE_NS        (2 * MS_NS)    /* a heartbeat may be */

void daemon_end(struct daemon *d, int status)
{
	if (!d->ending)
		d->status = status;
	d->ending = true;
}

/* ---------------------------------------------------------------- peer --- */

void daemon_heartbeat(struct daemon *d)
{
	__u64 now = clock_now();
	struct heartbeat beat = {
		.role = d->session.role,
		.state = d->session.state,
		.epoch = d->dp.session->epoch,
	};

	if (d->qemu_gone)
		beat.flags |= HEARTBEAT_QEMU_GONE;
	if (d->leaving)
		beat.flags |= HEARTBEAT_LEAVING;
	if (d->dp.session->mode == COLO_MODE_SHUT)
		beat.flags |= HEARTBEAT_SHUT;
	if (takeover_promises(d))
		beat.flags |= HEARTBEAT_PROMISE;
	if (d->peer.health == PEER_LINK_DOWN)
		beat.flags |= HEARTBEAT_LINK_DOWN;
	for (int i = 0; i < SESSION_ID_BYTES; i++)
		beat.session[i] = d->dp.session->id[i];
	snprintf(beat.name, sizeof(beat.name), "%s", d->options.name);
	peer_send(&d->peer, &beat, now);
	d->heartbeat_ns = now + d->config->heartbeat_ms * MS_NS;
}

/* What a peer says that is in the same session. */
static void peer_says(struct daemon *d, const struct heartbeat *last)
{
	if (last->flags & HEARTBEAT_QEMU_GONE) {
		daemon_event(d, EVENT_PEER_QEMU_GONE);
		return;
	}
	switch (last->state) {
	case SESSION_COLO:
	case SESSION_EXITED:
	case SESSION_CLAIMING:
		/* A secondary's start: the primary has begun. */
		daemon_event(d, EVENT_BEGUN);
		break;
	case SESSION_TAKING:
	case SESSION_FORCING:
		daemon_event(d, EVENT_BEGUN);
		daemon_event(d, EVENT_PEER_TAKING);
		break;
	case SESSION_FAILING:
	case SESSION_ALONE:
		daemon_event(d, EVENT_PEER_ACTIVE);
		break;
	case SESSION_LOST:
		daemon_event(d, EVENT_PEER_YIELDED);
		break;
	default:
		break;
	}
}

/*
 * What one says that is in no session, or in another. If it has heard that this
 * side is in COLO, its own part in that is over: its host came back.
 */
static void stranger_says(struct daemon *d, const struct heartbeat *last)
{
	if (last->state == SESSION_FAILING || last->state == SESSION_ALONE)
		daemon_event(d, EVENT_PEER_SURVIVOR);
	if (!takeover_has_session(d) || last->echo_ns < d->joined_ns)
		return;
	daemon_event(d, last->flags & HEARTBEAT_SHUT ? EVENT_PEER_YIELDED : EVENT_PEER_OUT);
}

static void peer_message(void *context)
{
	struct daemon *d = context;
	const struct heartbeat *last = &d->peer.last;

	if (last->role == d->session.role && !d->peer.warned) {
		d->peer.warned = true;
		log_error("peer: %s is a %s, too: one of the two must be the other role",
			  last->name, name_role(last->role));
	}
	if (takeover_same_session(d, last)) {
		takeover_lease_renew(d);
		peer_says(d, last);
	} else {
		stranger_says(d, last);
	}
}

void daemon_peer_input(struct daemon *d)
{
	peer_receive(&d->peer, clock_now(), peer_message, d);
}

void daemon_channel_changed(struct daemon *d, bool up)
{
	server_publish(d, json_pack("{s:s, s:b}", "event", "channel", "up", up));
}

/* Is it heard, over whatever path, and in this session? */
static bool peer_answers(const struct daemon *d)
{
	return (d->peer.health == PEER_ALIVE || d->peer.health == PEER_LINK_DOWN) &&
	       takeover_same_session(d, &d->peer.last);
}

static void peer_changed(struct daemon *d, enum peer_health health, __u64 now)
{
	enum peer_health from = d->peer.health;

	d->peer.health = health;
	if (health == PEER_ALIVE)
		log_info("peer: %s is alive", d->peer.last.name);
	else if (health == PEER_LINK_DOWN)
		log_warning("peer: %s is alive, but not heard over the link",
			    d->peer.last.name);
	else if (health == PEER_DOWN)
		log_warning("peer: its daemon is gone, its host lives");
	else if (health == PEER_LOST)
		log_warning("peer: lost, nothing was heard for %llu ms",
			    (now - peer_heard_ns(&d->peer)) / MS_NS);
	if (health == PEER_LOST)
		channel_lost(d->channel);
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
	    now < d->tried_ns + TRY_AGAIN_NS)
		return;
	oldest = release_oldest(&d->dp);
	if (!oldest || now < oldest + TRY_NS)
		return;
	d->tried_ns = now;
	history_asked(&d->history, d->dp.session->epoch, COLO_REASON_PEER, oldest, now);
	hooks_ask(d, d->dp.session->epoch, name_reason(COLO_REASON_PEER));
}

/* Under a lease nothing leaves meanwhile: that must not last for ever. */
static bool daemon_stays_away(const struct daemon *d, __u64 now)
{
	return takeover_leased(d) &&
	       now > peer_heard_ns(&d->peer) + d->config->takeover.daemon_timeout_ms * MS_NS;
}

/*
 * The socket's messages are read before: a silence of ours, when this process
 * did not run, is none of the peer's.
 */
static void judge_peer(struct daemon *d, __u64 now)
{
	enum peer_health health;

	daemon_peer_input(d);
	peer_watch_paths(&d->peer, now);
	peer_probe(&d->peer, now);
	health = peer_judge(&d->peer, now);
	if (health != d->peer.health)
		peer_changed(d, health, now);
	takeover_lease_watch(d, now);
	switch (health) {
	case PEER_UNKNOWN:
		break;
	case PEER_ALIVE:
		/* a link that is dead in one direction is seen at its other end only */
		if (peer_answers(d))
			daemon_event(d, d->peer.last.flags & HEARTBEAT_LINK_DOWN ?
						EVENT_PEER_LINK_DOWN :
						EVENT_PEER_ALIVE);
		break;
	case PEER_LINK_DOWN:
		if (peer_answers(d))
			daemon_event(d, EVENT_PEER_LINK_DOWN);
		break;
	case PEER_DOWN:
		try_channel(d, now);
		daemon_event(d, daemon_stays_away(d, now) ? EVENT_PEER_LOST : EVENT_PEER_DOWN);
		break;
	case PEER_LOST:
		daemon_event(d, EVENT_PEER_LOST);
		break;
	}
}

/* ------------------------------------------------------------- actions --- */

/* The answer to a stage: done, or QEMU leaves COLO at once. */
static int stage_done(struct daemon *d, int err)
{
	if (err)
		log_error("%s, epoch %llu: %s: QEMU is told to leave COLO", d->stage.name,
			  d->stage.epoch, strerror(-err));
	hooks_ack(d, err ? strerror(-err) : NULL);
	return err;
}

static int act_stop(struct daemon *d)
{
	struct stage *stage = &d->stage;
	int err = 0;

	if (stage->marks)
		err = release_stop(&d->dp, stage->epoch, &stage->marked);
	return stage_done(d, err);
}

static int act_reset(struct daemon *d)
{
	struct stage *stage = &d->stage;

	return stage_done(d, release_reset(&d->dp, stage->epoch,
					   stage->marks ? &stage->marked : NULL));
}

/* The guest's addresses from number `from` on. Returns how many there are. */
static int announce_known(struct daemon *d, int from)
{
	const struct addresses *addresses = &d->dp.watch.addresses;
	static const __u8 unknown[sizeof(d->guest_mac)];
	int err;

	if (!memcmp(d->guest_mac, unknown, sizeof(unknown))) {
		log_warning(
			"failover: QEMU has not told the guest's MAC (one NIC, or `netdev` that names it): it is not announced");
		return 0;
	}
	err = announce(&d->dp, d->guest_mac, addresses, from);
	if (err)
		log_warning("failover: the guest is not announced on %s: %s", d->dp.abi.port,
			    strerror(-err));
	return addresses->count;
}

/* What takes as long as the flow table is large: nobody has waited for it. */
static void on_alone(void *context)
{
	struct daemon *d = context;
	int err;

	if (d->session.state != SESSION_ALONE)
		return;
	err = release_failover_end(&d->dp);
	if (err)
		log_error("failover: some of what was held could not be released: %s",
			  strerror(-err));
	addresses_scan(&d->dp.watch.addresses, &d->dp);
	d->announced = announce_known(d, d->announced);
	log_info("failover: this host goes on, %d address%s announced", d->announced,
		 d->announced == 1 ? "" : "es");
}

static int act_failover(struct daemon *d)
{
	int err;

	takeover_lease_end(d);
	err = release_failover(&d->dp);
	if (err)
		log_error("failover: some of what was held could not be released: %s",
			  strerror(-err));
	d->announced = announce_known(d, 0);
	/* QEMU would run the guest anyway. */
	hooks_ack(d, NULL);
	d->qemu_over = false;
	loop_timer_set(d->loop, &d->alone_timer, 0);
	return 0;
}

/* QEMU has failed over, and waits for an answer that it is not to get. */
static void refuse_over(struct daemon *d)
{
	if (!d->qemu_over)
		return;
	d->stage = d->over;
	d->qemu_over = false;
	hooks_ack(d, "the other side goes on alone");
}

static int act_shut(struct daemon *d, const char *why)
{
	int err = release_discard(&d->dp);

	takeover_settle(d);
	d->take_ns = NO_TIMER;
	log_warning("%s: %s: held frames are discarded, the port is shut", d->options.name,
		    why);
	if (err)
		log_error("discard: %s", strerror(-err));
	refuse_over(d);
	daemon_heartbeat(d);
	return 0;
}

static void start_session(struct daemon *d)
{
	takeover_settle(d);
	d->asked_epoch = 0;
	d->qemu_over = false;
	d->split = false;
}

/* A primary's session is told and known; a secondary's is not, yet. */
static int act_start(struct daemon *d)
{
	start_session(d);
	if (d->session.role == COLO_ROLE_PRIMARY) {
		takeover_lease_begin(d);
		return pair_start_stage(d);
	}
	takeover_forget(d);
	return stage_done(d, release_start(&d->dp, d->stage.epoch));
}

/* The stage that is waited for has been already: it comes from the loop. */
static void on_over(void *context)
{
	struct daemon *d = context;

	if (!d->qemu_over || d->session.state != SESSION_FAILING)
		return;
	d->stage = d->over;
	daemon_event(d, EVENT_FAILOVER);
}

static int act_fail_over_qemu(struct daemon *d)
{
	takeover_settle(d);
	d->take_ns = NO_TIMER;
	if (d->qemu_over)
		loop_timer_set(d->loop, &d->over_timer, 0);
	else
		hooks_fail_over(d);
	return 0;
}

/* Not sooner than the lease allows; a peer that answers has some time to yield. */
static int act_force(struct daemon *d)
{
	__u64 until = clock_now() + (peer_answers(d) ? TAKE_NS : 0);
	__u64 over = takeover_lease_over(d);

	takeover_settle(d);
	d->take_ns = over > until ? over : until;
	daemon_heartbeat(d);
	return 0;
}

static int act(void *context, enum session_action action, enum session_event event)
{
	struct daemon *d = context;

	switch (action) {
	case ACTION_BEGIN:
		start_session(d);
		return takeover_begin(d);
	case ACTION_START:
		return act_start(d);
	case ACTION_END:
		return act_shut(d, "COLO did not begin");
	case ACTION_STOP:
		return act_stop(d);
	case ACTION_COMMIT:
		return stage_done(d, d->plain.on ? plain_commit(d) :
						   release_commit(&d->dp, d->stage.epoch));
	case ACTION_RESET:
		return act_reset(d);
	case ACTION_OVER:
		log_warning("%s: QEMU has failed over, and not on this daemon's word",
			    d->options.name);
		d->qemu_over = true;
		d->over = d->stage;
		return 0;
	case ACTION_FAILOVER:
		return act_failover(d);
	case ACTION_FAIL_OVER_QEMU:
		return act_fail_over_qemu(d);
	case ACTION_TAKE:
		d->take_ns = clock_now() + TAKE_NS;
		daemon_heartbeat(d);
		return 0;
	case ACTION_NOT_TAKEN:
		log_error("failover: the peer lives and does not yield: nothing was done");
		return 0;
	case ACTION_CLAIM:
		d->take_ns = NO_TIMER;
		takeover_claim(d);
		return 0;
	case ACTION_UNCLAIM:
		log_info("%s: the peer is heard again, the pair goes on", d->options.name);
		takeover_unclaim(d);
		return 0;
	case ACTION_FORCE:
		return act_force(d);
	case ACTION_YIELD:
		return act_shut(d, event == EVENT_REFUSED ? "the other host may go on" :
							    "the peer goes on alone");
	case ACTION_GONE:
		return act_shut(d, "the guest is gone");
	case ACTION_SPLIT:
		if (!d->split)
			log_error("both hosts are active: stop one of the two guests at once");
		d->split = true;
		return 0;
	case ACTION_REFUSE:
		if (event == EVENT_NOT_BEGUN) {
			hooks_ack(d, d->refusal);
			return 0;
		}
		log_error("QEMU: stage %s: refused, this side is %s", d->stage.name,
			  session_state_names[d->session.state]);
		hooks_ack(d, "the other side goes on alone");
		return 0;
	case ACTION_NONE:
	case SESSION_ACTIONS:
		break;
	}
	return 0;
}

static bool is_over(enum session_state state)
{
	return state == SESSION_EXITED || state == SESSION_FAILING || state == SESSION_ALONE ||
	       state == SESSION_LOST;
}

static void changed(void *context, enum session_state from, enum session_event event)
{
	struct daemon *d = context;
	const char *to = session_state_names[d->session.state];

	if (is_over(d->session.state))
		history_over(&d->history, d->dp.session->epoch, clock_now());
	log_info("%s: %s -> %s (%s)", d->options.name, session_state_names[from], to,
		 session_event_names[event]);
	server_publish(d, json_pack("{s:s, s:s, s:s, s:s}", "event", "state", "from",
				    session_state_names[from], "to", to, "cause",
				    session_event_names[event]));
	daemon_heartbeat(d);
	/* What is known of the peer says who goes on. */
	if (d->session.state == SESSION_EXITED)
		d->heartbeat_ns = 0;
	if (d->session.state == SESSION_COLO && from == SESSION_STARTING)
		d->joined_ns = d->peer.sent_ns;
}

void daemon_event(struct daemon *d, enum session_event event)
{
	int err = session_handle(&d->session, event);

	if (err == -ENOENT && event <= EVENT_FAILOVER) {
		log_error(
			"QEMU: stage %s is not expected in state %s: QEMU is told to leave COLO",
			d->stage.name, session_state_names[d->session.state]);
		hooks_ack(d, "not expected: the proxy's data path is not in COLO");
	}
}

/* ------------------------------------------------------------ requests --- */

/*
 * Ask QEMU while the flag of the open epoch stands (rule 11), but leave the
 * guest time to run: what is held waits.
 */
static void ask_checkpoint(struct daemon *d, __u64 now)
{
	const struct config_checkpoint *pace = &d->config->checkpoint;
	volatile struct colo_session *session = d->dp.session;
	__u64 allowed;

	d->ask_ns = NO_TIMER;
	if (d->session.role != COLO_ROLE_PRIMARY || d->session.state != SESSION_COLO ||
	    !session->epoch || session->request_epoch != session->epoch)
		return;
	allowed = history_allowed(&d->history, pace->min_distance_ms, pace->stop_percent);
	if (now < allowed) {
		d->ask_ns = allowed == HISTORY_UNDER_WAY ? now + ASK_AGAIN_NS : allowed;
		return;
	}
	history_asked(&d->history, session->epoch, session->request_reason, session->request_ns,
		      now);
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
		ask_checkpoint(d, clock_now());
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
	ask_checkpoint(d, clock_now());
	return NULL;
}

const char *daemon_failover(struct daemon *d, bool force)
{
	bool manual = d->config->takeover.policy == TAKEOVER_MANUAL;

	switch (d->session.state) {
	case SESSION_IDLE:
	case SESSION_STARTING:
		return "COLO does not run";
	case SESSION_ALONE:
		return "this side is alone already";
	case SESSION_LOST:
		return "this side gave way: its guest is not the pair's any more";
	default:
		break;
	}
	if (force)
		daemon_event(d, EVENT_OPERATOR_FORCE);
	else if (peer_answers(d))
		daemon_event(d, EVENT_OPERATOR_TAKE);
	else if (!manual || d->session.state == SESSION_FAILING)
		daemon_event(d, EVENT_OPERATOR_CLAIM);
	else
		return "the peer is not heard, and cannot yield: if its host is surely off, --force";
	return NULL;
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
	__u64 now = clock_now();
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
		daemon_event(d, d->session.state == SESSION_FORCING ? EVENT_FORCED :
								      EVENT_TAKE_TIMEOUT);
	replica_watch(d, now);
}

/* A little late with a tick: that saves a wake-up. */
static __u64 heartbeat_next(const struct daemon *d)
{
	bool soon = d->tick_ns > d->heartbeat_ns && d->tick_ns - d->heartbeat_ns < LATE_NS;

	return soon ? d->tick_ns : d->heartbeat_ns;
}

__u64 daemon_next(const struct daemon *d)
{
	const __u64 timers[] = {d->tick_ns, heartbeat_next(d), d->ask_ns,
				d->take_ns, d->replica.ask_ns, tasks_next(&d->tasks)};
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
	d->replica.ask_ns = NO_TIMER;
	d->peer.probe_fd = -1;
	d->over_timer.fire = on_over;
	d->over_timer.context = d;
	d->alone_timer.fire = on_alone;
	d->alone_timer.context = d;
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
	record_open(d);
	d->session.role = d->dp.abi.role;
	d->session.state = states[mode];
	/* Epoch 0: no COLO since it was attached. */
	if (!d->dp.session->epoch && mode == datapath_idle_mode(d->dp.abi.role))
		d->session.state = SESSION_IDLE;
	/* The one before may have renewed it, and no more. */
	if (mode == COLO_MODE_PRIMARY && release_lease(&d->dp))
		log_warning("release: some of what has waited for the lease waits on");
	/* The primary has not told the session yet, or its COLO did not begin. */
	if (d->session.state == SESSION_COLO && !takeover_has_session(d))
		d->session.state = SESSION_STARTING;
	takeover_adopt(d);
	if (d->session.state == SESSION_COLO) {
		/* The peer was there: its silence from now on is a loss. */
		d->peer.health = PEER_ALIVE;
		d->peer.known = true;
		d->peer.path[0].heard_ns = clock_now() + ADOPT_GRACE_NS;
	}
	return 0;
}

static json_t *describe_paths(const struct daemon *d)
{
	__u64 now = clock_now();
	json_t *list = json_array();

	for (__u32 i = 0; i < d->peer.paths; i++) {
		const struct peer_path *path = &d->peer.path[i];
		json_t *row = json_object();

		output_text(row, "address", path->address);
		output_flag(row, "heard",
			    d->peer.known && now <= path->heard_ns + d->peer.lost_ns);
		json_array_append_new(list, row);
	}
	return list;
}

json_t *daemon_status(struct daemon *d)
{
	json_t *object = status_describe(&d->dp), *part = json_object();

	output_text(part, "state", session_state_names[d->session.state]);
	output_text(part, "config", d->config->path);
	output_text(part, "qmp", config_self(d->config)->qmp);
	output_flag(part, "qemu", d->qmp && qmp_is_open(d->qmp));
	output_text(part, "peer", peer_health_names[d->peer.health]);
	output_text(part, "peer_state",
		    d->peer.last.sent_ns ? session_state_names[d->peer.last.state] : NULL);
	output_flag(part, "channel", channel_is_up(d->channel));
	output_set(part, "takeover", takeover_describe(d));
	output_set(part, "paths", describe_paths(d));
	output_set(object, "daemon", part);
	return object;
}
