// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "history.h"
#include "names.h"
#include "output.h"

#define US_NS      1000ULL
#define PEER_DEPTH 16 /* so far behind the peer's figures may come */

const char *const history_end_names[COLO_CHECKPOINT_ENDS] = {
	[COLO_CHECKPOINT_STOPPED] = "stopped", [COLO_CHECKPOINT_COMMITTED] = "committed",
	[COLO_CHECKPOINT_DONE] = "done",       [COLO_CHECKPOINT_FAILED] = "failed",
	[COLO_CHECKPOINT_CUT] = "cut",
};

/* QEMU's figures: microseconds, and counts. */
struct figure {
	const char *name;
	size_t offset;
	__u64 scale;
};

#define TIME(name, member)                                            \
	{                                                             \
		name, offsetof(struct colo_checkpoint, member), US_NS \
	}
#define COUNT(name, member)                                       \
	{                                                         \
		name, offsetof(struct colo_checkpoint, member), 1 \
	}

static const struct figure checkpoint_figures[] = {
	TIME("request", primary_took_ns.request),
	TIME("stop", primary_took_ns.stop),
	TIME("device", primary_took_ns.device),
	TIME("ram", primary_took_ns.ram),
	TIME("transfer", primary_took_ns.transfer),
	TIME("commit", primary_took_ns.commit),
	TIME("load", primary_took_ns.load),
	TIME("resume", primary_took_ns.resume),
	COUNT("ram-bytes", ram_bytes),
	COUNT("ram-pages", ram_pages),
	COUNT("device-bytes", device_bytes),
	{NULL, 0, 0},
};

static const struct figure load_figures[] = {
	TIME("stop", secondary_took_ns.stop),
	TIME("receive", secondary_took_ns.receive),
	TIME("flush", secondary_took_ns.flush),
	TIME("load", secondary_took_ns.load),
	{NULL, 0, 0},
};

static void read_figures(struct colo_checkpoint *checkpoint, const struct figure *figure,
			 const json_t *object)
{
	for (; figure->name; figure++) {
		const json_t *value = json_object_get(object, figure->name);

		if (json_is_integer(value))
			*(__u64 *)((char *)checkpoint + figure->offset) =
				(__u64)json_integer_value(value) * figure->scale;
	}
}

static __u64 epoch_of(const json_t *figures)
{
	return json_integer_value(json_object_get(figures, "epoch"));
}

/* ---------------------------------------------------------------- ring --- */

static struct colo_checkpoint *slot(const struct history *h, __u64 number)
{
	return &h->ring[(number - 1) % COLO_CHECKPOINTS];
}

/* Who reads the map meanwhile sees no checkpoint there, or a whole one. */
static void store(struct history *h)
{
	struct colo_checkpoint *to = slot(h, h->last.number);
	const size_t head = sizeof(to->number);

	__atomic_store_n(&to->number, 0, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	memcpy((char *)to + head, (const char *)&h->last + head, sizeof(*to) - head);
	__atomic_store_n(&to->number, h->last.number, __ATOMIC_RELEASE);
}

static bool under_way(const struct history *h)
{
	return h->last.number && (h->last.end == COLO_CHECKPOINT_STOPPED ||
				  h->last.end == COLO_CHECKPOINT_COMMITTED);
}

static bool is_last(const struct history *h, __u64 epoch)
{
	return h->last.number && h->last.session_ns == h->session_ns && h->last.epoch == epoch;
}

static void append(struct history *h, __u64 epoch, __u64 stopped_ns)
{
	__u64 number = h->last.number + 1;

	memset(&h->last, 0, sizeof(h->last));
	h->last.number = number;
	h->last.epoch = epoch;
	h->last.session_ns = h->session_ns;
	h->last.role = h->role;
	h->last.stopped_ns = stopped_ns;
	if (h->role != COLO_ROLE_PRIMARY)
		return;
	h->last.reason = COLO_REASON_PERIOD;
	if (h->asked_epoch != epoch)
		return;
	h->last.reason = h->reason;
	h->last.requested_ns = h->requested_ns;
	h->last.asked_ns = h->asked_ns;
}

void history_open(struct history *h, struct colo_checkpoint *ring, enum colo_role role,
		  __u64 epoch, __u64 epoch_ns)
{
	memset(h, 0, sizeof(*h));
	h->ring = ring;
	h->role = role;
	for (__u32 i = 0; i < COLO_CHECKPOINTS; i++)
		if (ring[i].number > h->last.number)
			h->last = ring[i];
	/* The last checkpoint led to the open epoch, or would have: the same COLO. */
	if (epoch == 1)
		h->session_ns = epoch_ns;
	else if (epoch && (h->last.epoch + 1 == epoch || h->last.epoch == epoch))
		h->session_ns = h->last.session_ns;
}

/* -------------------------------------------------------------- stages --- */

void history_asked(struct history *h, __u64 epoch, enum colo_reason reason, __u64 requested_ns,
		   __u64 now)
{
	/* Asked again: it is the first time that counts. */
	if (h->asked_epoch == epoch)
		return;
	h->asked_epoch = epoch;
	h->asked_ns = now;
	h->requested_ns = requested_ns;
	h->reason = reason;
}

/* The sum of the parts if QEMU has told them all, else how long it was for us. */
static __u64 standstill(const struct colo_checkpoint *c)
{
	const struct colo_checkpoint_parts *p = &c->primary_took_ns;
	const struct colo_load_parts *s = &c->secondary_took_ns;

	if (c->role == COLO_ROLE_PRIMARY && p->resume)
		return p->request + p->stop + p->device + p->ram + p->transfer + p->commit +
		       p->load + p->resume;
	if (c->role == COLO_ROLE_SECONDARY && s->load)
		return s->stop + s->receive + s->flush + s->load + c->release_ns;
	return c->stopped_ns ? c->ended_ns - c->stopped_ns : 0;
}

static void end(struct history *h, enum colo_checkpoint_end how, __u64 now)
{
	h->last.end = how;
	if (!h->last.ended_ns)
		h->last.ended_ns = now;
	h->last.standstill_ns = standstill(&h->last);
	store(h);
}

static void on_start(struct history *h, enum colo_role role, __u64 now)
{
	if (under_way(h))
		history_over(h, 0, now);
	h->role = role;
	h->session_ns = now;
	h->asked_epoch = 0;
}

static void on_commit(struct history *h, __u64 epoch, const json_t *figures, __u64 now)
{
	if (!is_last(h, epoch))
		append(h, epoch, now);
	h->last.end = COLO_CHECKPOINT_STOPPED;
	h->last.ended_ns = 0;
	read_figures(&h->last, checkpoint_figures, figures);
	store(h);
}

static void on_resume(struct history *h, __u64 epoch, const json_t *figures, __u64 now)
{
	if (!is_last(h, epoch))
		return;
	read_figures(&h->last, checkpoint_figures, figures);
	end(h, COLO_CHECKPOINT_DONE, now);
}

static void on_reset(struct history *h, __u64 epoch, const json_t *load, __u64 now)
{
	if (!is_last(h, epoch))
		append(h, epoch, now);
	read_figures(&h->last, load_figures, load);
	h->last.end = COLO_CHECKPOINT_STOPPED;
	store(h);
}

void history_stage(struct history *h, const char *stage, __u64 epoch, const json_t *figures,
		   __u64 now)
{
	h->stage_ns = now;
	if (!strcmp(stage, "primary-start")) {
		on_start(h, COLO_ROLE_PRIMARY, now);
	} else if (!strcmp(stage, "secondary-start")) {
		on_start(h, COLO_ROLE_SECONDARY, now);
	} else if (!strcmp(stage, "primary-stop")) {
		append(h, epoch, now);
		store(h);
	} else if (!strcmp(stage, "primary-commit")) {
		on_commit(h, epoch, json_object_get(figures, "checkpoint"), now);
	} else if (!strcmp(stage, "primary-resume")) {
		on_resume(h, epoch, json_object_get(figures, "checkpoint"), now);
	} else if (!strcmp(stage, "secondary-reset")) {
		on_reset(h, epoch, json_object_get(figures, "load"), now);
	}
}

void history_stage_end(struct history *h, const char *stage, __u64 epoch, __u64 now)
{
	bool commit = !strcmp(stage, "primary-commit");

	if (!under_way(h) || (!commit && strcmp(stage, "secondary-reset") != 0))
		return;
	h->last.release_ns = now - h->stage_ns;
	if (epoch <= h->last.epoch) {
		end(h, COLO_CHECKPOINT_FAILED, now);
	} else if (commit) {
		h->last.end = COLO_CHECKPOINT_COMMITTED;
		store(h);
	} else {
		end(h, COLO_CHECKPOINT_DONE, now);
	}
}

void history_running(struct history *h, __u64 now)
{
	if (h->role != COLO_ROLE_PRIMARY || !h->last.number ||
	    h->last.end != COLO_CHECKPOINT_COMMITTED)
		return;
	/* A QEMU that knows its figures tells the last ones just after this. */
	if (h->last.primary_took_ns.transfer)
		h->last.ended_ns = now;
	else
		end(h, COLO_CHECKPOINT_DONE, now);
}

void history_over(struct history *h, __u64 epoch, __u64 now)
{
	if (under_way(h)) {
		end(h,
		    h->last.end == COLO_CHECKPOINT_COMMITTED ? COLO_CHECKPOINT_CUT :
							       COLO_CHECKPOINT_FAILED,
		    now);
	} else if (epoch && h->asked_epoch == epoch && !is_last(h, epoch)) {
		/* It did not even come to a stop. */
		append(h, epoch, 0);
		end(h, COLO_CHECKPOINT_FAILED, now);
	}
}

void history_adopt(struct history *h, const json_t *info, __u64 now)
{
	const json_t *checkpoint = json_object_get(info, "checkpoint");

	if (!under_way(h) || epoch_of(info) <= h->last.epoch)
		return;
	/* Committed; without "resume" the guest does not run yet, or QEMU cannot tell. */
	if (!checkpoint || json_object_get(checkpoint, "resume"))
		on_resume(h, h->last.epoch, checkpoint, now);
}

int history_peer_load(struct history *h, const json_t *load)
{
	__u64 epoch = epoch_of(load), number = h->last.number;

	for (int i = 0; i < PEER_DEPTH && number; i++, number--) {
		struct colo_checkpoint *at = slot(h, number);

		if (at->number != number || at->session_ns != h->session_ns)
			break;
		if (at->epoch != epoch)
			continue;
		read_figures(at, load_figures, load);
		if (number == h->last.number)
			h->last.secondary_took_ns = at->secondary_took_ns;
		return 0;
	}
	return -ENOENT;
}

/* ---------------------------------------------------------------- pace --- */

__u64 history_allowed(const struct history *h, __u32 min_distance_ms, __u32 stop_percent)
{
	__u64 distance = min_distance_ms * 1000000ULL, run;

	if (under_way(h))
		return HISTORY_UNDER_WAY;
	if (!h->last.number || h->last.session_ns != h->session_ns)
		return 0;
	run = h->last.standstill_ns * (100 - stop_percent) / stop_percent;
	return h->last.ended_ns + (run > distance ? run : distance);
}

/* ---------------------------------------------------------------- JSON --- */

static json_t *describe_primary(const struct colo_checkpoint_parts *p)
{
	json_t *object = json_object();

	output_number(object, "request", p->request);
	output_number(object, "stop", p->stop);
	output_number(object, "device", p->device);
	output_number(object, "ram", p->ram);
	output_number(object, "transfer", p->transfer);
	output_number(object, "commit", p->commit);
	output_number(object, "load", p->load);
	output_number(object, "resume", p->resume);
	return object;
}

static json_t *describe_secondary(const struct colo_load_parts *s)
{
	json_t *object = json_object();

	output_number(object, "stop", s->stop);
	output_number(object, "receive", s->receive);
	output_number(object, "flush", s->flush);
	output_number(object, "load", s->load);
	return object;
}

json_t *history_describe(const struct colo_checkpoint *c)
{
	json_t *object = json_object();

	output_number(object, "number", c->number);
	output_number(object, "epoch", c->epoch);
	output_number(object, "session_ns", c->session_ns);
	output_text(object, "role", name_role(c->role));
	output_text(object, "end",
		    c->end < COLO_CHECKPOINT_ENDS ? history_end_names[c->end] : "unknown");
	output_text(object, "reason", name_reason(c->reason));
	output_number(object, "requested_ns", c->requested_ns);
	output_number(object, "asked_ns", c->asked_ns);
	output_number(object, "stopped_ns", c->stopped_ns);
	output_number(object, "ended_ns", c->ended_ns);
	output_number(object, "standstill_ns", c->standstill_ns);
	output_set(object, "primary_took_ns", describe_primary(&c->primary_took_ns));
	output_set(object, "secondary_took_ns", describe_secondary(&c->secondary_took_ns));
	output_number(object, "release_ns", c->release_ns);
	output_number(object, "ram_bytes", c->ram_bytes);
	output_number(object, "ram_pages", c->ram_pages);
	output_number(object, "device_bytes", c->device_bytes);
	return object;
}
