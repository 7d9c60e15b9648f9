// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ask.h"
#include "clock.h"
#include "daemon.h"
#include "log.h"
#include "names.h"
#include "output.h"
#include "release.h"
#include "child.h"
#include "takeover.h"
#include "words.h"

#define ASK_MS         10000          /* for a witness: its disk may be slow */
#define ASK_AGAIN_NS   (200 * MS_NS)  /* one that was not reached */
#define FENCE_AGAIN_NS (1000 * MS_NS) /* one that has failed */
#define RELEASE_NS     (1000 * MS_NS) /* a session that is to be given back */
#define LEASE_PAUSED   1              /* long over */

/* Once: what is tried again and again. */
static void say(struct daemon *d, const char *text)
{
	if (!strcmp(text, d->takeover.said))
		return;
	snprintf(d->takeover.said, sizeof(d->takeover.said), "%s", text);
	log_warning("%s: %s", d->options.name, text);
}

/* ------------------------------------------------------------- session --- */

static void session_text(char text[2 * SESSION_ID_BYTES + 1], const volatile __u8 *id)
{
	for (int i = 0; i < SESSION_ID_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02x", id[i]);
}

static bool session_parse(__u8 id[SESSION_ID_BYTES], const char *text)
{
	if (!text || !grant_session_valid(text))
		return false;
	for (int i = 0; i < SESSION_ID_BYTES; i++)
		sscanf(text + 2 * i, "%2hhx", &id[i]);
	return true;
}

static void set_session(struct daemon *d, const __u8 id[SESSION_ID_BYTES], __u32 lease_ms)
{
	for (int i = 0; i < SESSION_ID_BYTES; i++)
		d->dp.session->id[i] = id[i];
	d->dp.session->lease_ms = lease_ms;
}

bool takeover_has_session(const struct daemon *d)
{
	for (int i = 0; i < SESSION_ID_BYTES; i++)
		if (d->dp.session->id[i])
			return true;
	return false;
}

bool takeover_same_session(const struct daemon *d, const struct heartbeat *theirs)
{
	for (int i = 0; i < SESSION_ID_BYTES; i++)
		if (d->dp.session->id[i] != theirs->session[i])
			return false;
	return takeover_has_session(d);
}

void takeover_forget(struct daemon *d)
{
	static const __u8 none[SESSION_ID_BYTES];

	set_session(d, none, 0);
}

static void begun(struct daemon *d, const char *error)
{
	struct takeover *t = &d->takeover;

	if (!t->begin_ns)
		return;
	d->stage = t->stage;
	if (error) {
		t->begin_ns = 0;
		log_error("%s: COLO does not begin: %s", d->options.name, error);
		snprintf(d->refusal, sizeof(d->refusal), "%s", error);
		daemon_event(d, EVENT_NOT_BEGUN);
	} else {
		daemon_event(d, EVENT_BEGUN);
		t->begin_ns = 0;
	}
}

static void answer_session(void *context, json_t *value, const char *error)
{
	struct daemon *d = context;
	char ours[2 * SESSION_ID_BYTES + 1];
	const char *theirs = json_string_value(value);

	session_text(ours, d->dp.session->id);
	/* That of a start before this one. */
	if (!error && (!theirs || strcmp(theirs, ours)))
		return;
	begun(d, error);
}

/* What both must have alike, or one takes over while the other goes on. */
static json_t *terms(const struct daemon *d)
{
	const struct config_takeover *t = &d->config->takeover;

	return json_pack("{s:s, s:I, s:s*}", "policy", config_policy_names[t->policy],
			 "lease_ms", (json_int_t)t->lease_ms, "witness",
			 t->policy == TAKEOVER_WITNESS ? t->witness : NULL);
}

int takeover_begin(struct daemon *d)
{
	struct takeover *t = &d->takeover;
	char text[2 * SESSION_ID_BYTES + 1];
	__u8 id[SESSION_ID_BYTES];
	int err;

	secret_random(id, sizeof(id));
	set_session(d, id, d->config->takeover.lease_ms);
	session_text(text, id);
	t->stage = d->stage;
	t->begin_ns = clock_now();
	err = channel_call(d->channel, "session",
			   json_pack("{s:s, s:o}", "session", text, "takeover", terms(d)),
			   d->config->ack_timeout_ms / 2, answer_session, d);
	if (!err)
		return 0;
	t->begin_ns = 0;
	log_error("%s: COLO cannot begin: the channel to the peer's daemon is not up",
		  d->options.name);
	hooks_ack(d, "the proxy's daemon does not reach that of the secondary");
	return err;
}

/* NULL, or what differs. */
static const char *compare_terms(const struct daemon *d, json_t *theirs, char *text,
				 size_t size)
{
	json_t *ours = terms(d), *value;
	const char *name;
	bool same = true;

	json_object_foreach(ours, name, value) {
		json_t *other = json_object_get(theirs, name);
		char *a, *b;

		if (json_equal(value, other))
			continue;
		same = false;
		a = json_dumps(value, JSON_ENCODE_ANY);
		b = other ? json_dumps(other, JSON_ENCODE_ANY) : NULL;
		snprintf(text, size,
			 "takeover.%s is %s on the secondary's host, %s on the primary's", name,
			 a, b ? b : "nothing");
		free(a);
		free(b);
		break;
	}
	json_decref(ours);
	return same ? NULL : text;
}

/*
 * The primary's stage waits for this. Whether COLO has begun the primary's
 * heartbeats say, for its start can still fail.
 */
static void on_session(struct daemon *d, json_t *arguments, struct channel_request *request)
{
	const char *text = json_string_value(json_object_get(arguments, "session"));
	json_t *takeover = json_object_get(arguments, "takeover");
	__u8 id[SESSION_ID_BYTES];
	char why[256];

	if (!session_parse(id, text)) {
		channel_refuse(request, "that is no session");
	} else if (d->session.role != COLO_ROLE_SECONDARY ||
		   (d->session.state != SESSION_STARTING &&
		    !(d->session.state == SESSION_COLO && d->dp.session->epoch == 1))) {
		channel_refuse(
			request,
			"the secondary's proxy is %s, and does not wait for COLO to begin",
			session_state_names[d->session.state]);
	} else if (compare_terms(d, takeover, why, sizeof(why))) {
		log_error("%s: COLO does not begin: %s", d->options.name, why);
		channel_refuse(request, "%s", why);
	} else {
		set_session(d, id, json_integer_value(json_object_get(takeover, "lease_ms")));
		d->takeover.promised_ns = clock_now();
		channel_reply(request, json_string(text));
	}
}

const struct channel_method takeover_methods[] = {
	{"session", on_session},
	{NULL, NULL},
};

/* --------------------------------------------------------------- lease --- */

bool takeover_leased(const struct daemon *d)
{
	return d->dp.session->lease_ms;
}

/* The programs look at it with each packet. */
static void lease_set(struct daemon *d, __u64 ns)
{
	d->takeover.lease_ns = ns;
	__atomic_store_n(&d->dp.session->lease_ns, d->takeover.paused ? LEASE_PAUSED : ns,
			 __ATOMIC_SEQ_CST);
}

void takeover_lease_pause(struct daemon *d)
{
	d->takeover.paused = true;
	lease_set(d, d->takeover.lease_ns);
}

int takeover_lease_go_on(struct daemon *d)
{
	d->takeover.paused = false;
	lease_set(d, d->takeover.lease_ns);
	return release_lease(&d->dp);
}

/* The secondary has promised from when it was told the session. */
void takeover_lease_begin(struct daemon *d)
{
	__u64 since = d->takeover.begin_ns ? d->takeover.begin_ns : clock_now();

	d->takeover.paused = false;
	lease_set(d, takeover_leased(d) ? since + d->dp.session->lease_ms * MS_NS : 0);
	d->takeover.lease_out = false;
}

void takeover_lease_end(struct daemon *d)
{
	d->takeover.paused = false;
	lease_set(d, 0);
	d->takeover.lease_out = false;
}

void takeover_lease_renew(struct daemon *d)
{
	const struct heartbeat *last = &d->peer.last;
	struct takeover *t = &d->takeover;
	__u64 until = last->echo_ns + d->dp.session->lease_ms * MS_NS;
	bool out;
	int err;

	if (d->session.role != COLO_ROLE_PRIMARY || !takeover_leased(d) ||
	    d->dp.session->mode != COLO_MODE_PRIMARY || until <= t->lease_ns ||
	    !(last->flags & HEARTBEAT_PROMISE))
		return;
	out = clock_now() >= t->lease_ns;
	lease_set(d, until);
	if (!out || clock_now() >= until)
		return;
	err = release_lease(&d->dp);
	if (err)
		log_warning("%s: some of what waits for the lease waits on: %s",
			    d->options.name, strerror(-err));
	if (t->lease_out)
		log_info("%s: the lease is renewed, what waited for it leaves",
			 d->options.name);
	t->lease_out = false;
}

void takeover_lease_watch(struct daemon *d, __u64 now)
{
	struct takeover *t = &d->takeover;

	if (d->session.role != COLO_ROLE_PRIMARY || !t->lease_ns || now < t->lease_ns ||
	    t->lease_out || d->dp.session->mode != COLO_MODE_PRIMARY)
		return;
	t->lease_out = true;
	log_warning("%s: the lease has run out: nothing leaves until the secondary is heard",
		    d->options.name);
}

bool takeover_promises(const struct daemon *d)
{
	enum session_state state = d->session.state;

	return d->session.role == COLO_ROLE_SECONDARY && takeover_has_session(d) &&
	       (state == SESSION_COLO || state == SESSION_EXITED ||
		(state == SESSION_CLAIMING && !d->takeover.asking));
}

__u64 takeover_lease_over(const struct daemon *d)
{
	__u64 lease = d->dp.session->lease_ms * MS_NS;

	if (d->session.role != COLO_ROLE_SECONDARY || !lease)
		return 0;
	return later(d->peer.promise_ns, d->takeover.promised_ns) + lease + lease / 16;
}

/* --------------------------------------------------------------- claim --- */

static void again(struct daemon *d, __u64 after_ns)
{
	loop_timer_set(d->loop, &d->takeover.timer, clock_now() + after_ns);
}

static void on_fenced(void *context, int status)
{
	struct daemon *d = context;
	char text[128];

	d->takeover.fence = NULL;
	if (!status) {
		log_info("%s: the fence has succeeded: the peer's host is off",
			 d->options.name);
		daemon_event(d, EVENT_GRANTED);
		return;
	}
	if (status < 0)
		snprintf(text, sizeof(text),
			 "the fence has not ended within %u ms; it is tried again",
			 d->config->takeover.fence_timeout_ms);
	else
		snprintf(text, sizeof(text),
			 "the fence has failed, exit status %d; it is tried again", status);
	say(d, text);
	again(d, FENCE_AGAIN_NS);
}

static void fence(struct daemon *d)
{
	const struct config_host *peer = config_peer(d->config);
	const struct word_value values[] = {
		{'h', peer->name}, {'a', peer->address}, {'n', d->options.name}, {}};
	const char *why;
	char **words = words_split(d->config->takeover.fence, values, &why);

	log_info("%s: fence: %s", d->options.name, d->config->takeover.fence);
	if (words)
		d->takeover.fence = child_start(
			d->loop, words, d->config->takeover.fence_timeout_ms, on_fenced, d);
	if (!d->takeover.fence) {
		log_error("%s: fence: %s", d->options.name, words ? strerror(errno) : why);
		again(d, FENCE_AGAIN_NS);
	}
	words_free(words);
}

static void on_asked(void *context, enum ask_result result, const char *why)
{
	struct daemon *d = context;
	char text[160];

	d->takeover.ask = NULL;
	switch (result) {
	case ASK_YES:
		log_info("%s: the witness lets this host go on", d->options.name);
		daemon_event(d, EVENT_GRANTED);
		break;
	case ASK_NO:
		log_warning("%s: the witness has let the other host go on", d->options.name);
		d->takeover.may_hold = false;
		daemon_event(d, EVENT_REFUSED);
		break;
	case ASK_NOTHING:
		snprintf(text, sizeof(text), "witness %s: %s; it is asked again",
			 d->config->takeover.witness, why);
		say(d, text);
		again(d, ASK_AGAIN_NS);
		break;
	}
}

static void ask_witness(struct daemon *d)
{
	char session[2 * SESSION_ID_BYTES + 1];

	session_text(session, d->dp.session->id);
	d->takeover.may_hold = true;
	d->takeover.ask = ask_start(d->loop, d->config->takeover.witness, ASK_CLAIM, session,
				    config_self(d->config)->name, ASK_MS, on_asked, d);
	if (!d->takeover.ask)
		again(d, ASK_AGAIN_NS);
}

/*
 * The lease first: a promise that this side has made stands, and none is made
 * from there on.
 */
static void work(void *context)
{
	struct daemon *d = context;
	struct takeover *t = &d->takeover;
	__u64 over = takeover_lease_over(d);

	if (!t->claiming || t->fence || t->ask)
		return;
	if (!t->asking && clock_now() < over) {
		loop_timer_set(d->loop, &t->timer, over);
		return;
	}
	if (!t->asking) {
		t->asking = true;
		daemon_heartbeat(d);
	}
	if (d->config->takeover.policy == TAKEOVER_FENCE)
		fence(d);
	else if (d->config->takeover.policy == TAKEOVER_WITNESS)
		ask_witness(d);
}

/*
 * Two hosts that live and do not hear each other must not fence each other: the
 * secondary begins later, and is off by then.
 */
void takeover_claim(struct daemon *d)
{
	const struct config_takeover *policy = &d->config->takeover;
	struct takeover *t = &d->takeover;
	__u64 after = 0;

	t->claiming = true;
	t->asking = false;
	*t->said = 0;
	if (policy->policy == TAKEOVER_MANUAL) {
		log_warning(
			"%s: the peer is lost and nobody goes on by itself (takeover.policy \"manual\"): if its host is surely off, `colo-bpf failover %s --force`",
			d->options.name, d->options.name);
		return;
	}
	if (policy->policy == TAKEOVER_FENCE && d->session.role == COLO_ROLE_SECONDARY)
		after = policy->fence_delay_ms * MS_NS;
	again(d, after);
}

static void stop(struct daemon *d)
{
	struct takeover *t = &d->takeover;

	if (t->fence)
		log_warning("%s: the fence is called back; what it has done so far stands",
			    d->options.name);
	child_kill(t->fence);
	ask_cancel(t->ask);
	t->fence = NULL;
	t->ask = NULL;
	t->claiming = false;
	t->asking = false;
	loop_timer_stop(d->loop, &t->timer);
}

static void release_later(struct daemon *d);

static void on_released(void *context, enum ask_result result, const char *why)
{
	struct daemon *d = context;

	(void)why;
	d->takeover.ask = NULL;
	if (result != ASK_NOTHING)
		d->takeover.may_hold = false;
	/* a claim that came meanwhile has waited for this */
	if (d->takeover.claiming)
		again(d, 0);
	else if (result == ASK_NOTHING)
		release_later(d);
}

static void release(void *context)
{
	struct daemon *d = context;
	struct takeover *t = &d->takeover;
	char session[2 * SESSION_ID_BYTES + 1];

	if (!t->may_hold || t->claiming || t->ask ||
	    d->config->takeover.policy != TAKEOVER_WITNESS)
		return;
	session_text(session, d->dp.session->id);
	t->ask = ask_start(d->loop, d->config->takeover.witness, ASK_RELEASE, session,
			   config_self(d->config)->name, ASK_MS, on_released, d);
}

static void release_later(struct daemon *d)
{
	loop_timer_set(d->loop, &d->takeover.release_timer, clock_now() + RELEASE_NS);
}

void takeover_unclaim(struct daemon *d)
{
	stop(d);
	release(d);
}

void takeover_settle(struct daemon *d)
{
	stop(d);
	d->takeover.may_hold = false;
}

/* --------------------------------------------------------------- whole --- */

void takeover_adopt(struct daemon *d)
{
	struct takeover *t = &d->takeover;

	t->timer.fire = work;
	t->timer.context = d;
	t->release_timer.fire = release;
	t->release_timer.context = d;
	/* What a daemon before this one has promised, and was given. */
	t->promised_ns = clock_now();
	t->lease_ns = d->dp.session->lease_ns;
	t->paused = t->lease_ns == LEASE_PAUSED;
	if (t->paused && !takeover_leased(d))
		t->lease_ns = 0;
	if (d->session.state == SESSION_COLO &&
	    d->config->takeover.policy == TAKEOVER_WITNESS) {
		t->may_hold = true;
		release_later(d);
	}
}

void takeover_close(struct daemon *d)
{
	stop(d);
	loop_timer_stop(d->loop, &d->takeover.release_timer);
}

static const char *describe_claim(const struct daemon *d)
{
	const struct takeover *t = &d->takeover;

	if (!t->claiming)
		return NULL;
	if (d->config->takeover.policy == TAKEOVER_MANUAL)
		return "waits for the operator";
	if (t->fence)
		return "the fence runs";
	if (t->ask)
		return "the witness is asked";
	return t->asking ? "is tried again" : "waits";
}

static const char *describe_lease(const struct daemon *d)
{
	if (d->session.role != COLO_ROLE_PRIMARY || !d->takeover.lease_ns)
		return NULL;
	return clock_now() < d->takeover.lease_ns ? "fresh" : "out";
}

json_t *takeover_describe(const struct daemon *d)
{
	json_t *object = json_object();
	char session[2 * SESSION_ID_BYTES + 1];

	session_text(session, d->dp.session->id);
	output_text(object, "policy", config_policy_names[d->config->takeover.policy]);
	output_text(object, "session", takeover_has_session(d) ? session : NULL);
	output_number(object, "lease_ms", d->dp.session->lease_ms);
	output_text(object, "lease", describe_lease(d));
	output_text(object, "claim", describe_claim(d));
	return object;
}
