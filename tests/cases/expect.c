// SPDX-License-Identifier: GPL-2.0-only
/* Expectations: each waits for what it expects, or for quiet. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cases.h"

#define SAW_MAX   6
#define SETTLE_NS (NSEC_PER_MSEC / 2)

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

/* One more line on why the case fails. */
void run_fail(struct run *run, const char *format, ...)
{
	char *line, *both;
	va_list args;

	va_start(args, format);
	if (vasprintf(&line, format, args) < 0)
		line = NULL;
	va_end(args);
	if (asprintf(&both, "%s%s\n", run->error ? run->error : "", line ? line : "") < 0)
		both = NULL;
	free(line);
	free(run->error);
	run->error = both;
}

/* Says what has left there and was not looked at. */
void run_saw(struct run *run, enum outlet outlet)
{
	const struct frames *frames = &run->out[outlet];
	unsigned int shown = 0, more = 0;

	for (unsigned int i = 0; i < frames->count; i++) {
		char *text;

		if (frames->list[i]->seen != SEEN_NOT)
			continue;
		if (shown == SAW_MAX) {
			more++;
			continue;
		}
		text = decode_print(frames->list[i]);
		run_fail(run, "  saw %s: %s", outlet_names[outlet], text);
		free(text);
		shown++;
	}
	if (more)
		run_fail(run, "  and %u more", more);
	if (!shown)
		run_fail(run, "  saw %s: nothing %s", outlet_names[outlet],
			 frames->count ? "more" : "at all");
}

static void run_expected(struct run *run, const struct statement *st, const char *why)
{
	run_fail(run, "%s:%d: %s", st->file, st->line, st->text);
	if (why)
		run_fail(run, "  %s", why);
}

/* Long enough since the last frame for what it causes to be seen. */
static bool settled(const struct run *run)
{
	return now_ns() >= run->stirred_ns + SETTLE_NS;
}

/* Waits for something new; false when the time is up. */
static bool wait_more(struct run *run, uint64_t deadline)
{
	uint64_t settle = run->stirred_ns + SETTLE_NS, now = now_ns();

	if (now >= deadline)
		return false;
	run->proxy->poll(run, now < settle && settle < deadline ? settle : deadline);
	return true;
}

static uint64_t deadline_of(struct run *run)
{
	run->proxy->poll(run, 0);
	return now_ns() + EXPECT_MS * NSEC_PER_MSEC;
}

static struct frame *first_of(struct run *run, enum outlet outlet, enum seen seen)
{
	struct frames *frames = &run->out[outlet];

	for (unsigned int i = 0; i < frames->count; i++) {
		if (frames->list[i]->seen == (int)seen)
			return frames->list[i];
	}
	return NULL;
}

/* The next frame: NULL matched, else why not; *none: there is no next one yet. */
static char *try_next(struct run *run, const struct statement *st, bool *none)
{
	struct frame *next = first_of(run, st->outlet, SEEN_NOT);
	struct frame *noted = first_of(run, st->outlet, SEEN_ACK);
	char *why;

	*none = !next;
	why = next ? match_frame(&st->spec, next, &run->in) : strdup("nothing left");
	if (!why) {
		next->seen = SEEN_DONE;
		return NULL;
	}
	/* `expect ack` has looked at its ack only. */
	if (noted) {
		char *other = match_frame(&st->spec, noted, &run->in);

		if (!other) {
			noted->seen = SEEN_DONE;
			free(why);
			return NULL;
		}
		free(other);
	}
	return why;
}

static void expect_next(struct run *run, const struct statement *st)
{
	uint64_t deadline = deadline_of(run);
	bool none;
	char *why;

	while ((why = try_next(run, st, &none))) {
		if (!none || !wait_more(run, deadline))
			break;
		free(why);
	}
	if (!why)
		return;
	run_expected(run, st, why);
	run_saw(run, st->outlet);
	free(why);
}

static bool try_first(struct run *run, const struct statement *st, char **why)
{
	struct frames *frames = &run->out[st->outlet];

	*why = NULL;
	for (unsigned int i = 0; i < frames->count; i++) {
		if (frames->list[i]->seen == SEEN_DONE)
			continue;
		free(*why);
		*why = match_frame(&st->spec, frames->list[i], &run->in);
		if (*why)
			continue;
		for (unsigned int j = 0; j <= i; j++)
			frames->list[j]->seen = SEEN_DONE;
		return true;
	}
	return false;
}

static void expect_first(struct run *run, const struct statement *st)
{
	uint64_t deadline = deadline_of(run);
	char *why;

	while (!try_first(run, st, &why)) {
		if (!wait_more(run, deadline)) {
			run_expected(run, st, "no frame matches");
			run_saw(run, st->outlet);
			free(why);
			return;
		}
		free(why);
	}
}

/* Until there were QUIET_MS in which nothing was done to the proxy. */
static bool wait_quiet(struct run *run, bool (*broken)(struct run *, const struct statement *),
		       const struct statement *st)
{
	run->proxy->poll(run, 0);
	while (!broken(run, st)) {
		uint64_t until = run->stirred_ns + QUIET_MS * NSEC_PER_MSEC;

		if (now_ns() >= until)
			return true;
		run->proxy->poll(run, until);
	}
	return false;
}

static bool something_left(struct run *run, const struct statement *st)
{
	return first_of(run, st->outlet, SEEN_NOT);
}

static void expect_none(struct run *run, const struct statement *st)
{
	if (wait_quiet(run, something_left, st))
		return;
	run_expected(run, st, NULL);
	run_saw(run, st->outlet);
}

static void expect_sum(struct run *run, const struct statement *st,
		       int (*look)(struct run *, const struct statement *, char **))
{
	uint64_t deadline = deadline_of(run);
	char *why;
	int left;

	for (;; free(why)) {
		left = look(run, st, &why);
		if (!left && settled(run)) {
			free(why);
			return;
		}
		if (left < 0 || !wait_more(run, deadline))
			break;
	}
	run_expected(run, st, why);
	run_saw(run, OUTLET_PORT);
	free(why);
}

/* An empty range: that nothing leaves takes quiet to see. */
static bool byte_left(struct run *run, const struct statement *st)
{
	char *why = NULL;
	bool left = seen_stream(run, st, &why);

	free(why);
	return left;
}

static void expect_stream(struct run *run, const struct statement *st)
{
	if (st->number == st->last && wait_quiet(run, byte_left, st))
		return;
	expect_sum(run, st, seen_stream);
}

static const char *reason_text(int reason)
{
	return reason < 0 ? "any" : reason_names[reason];
}

static void expect_request(struct run *run, const struct statement *st)
{
	uint64_t deadline = deadline_of(run);
	unsigned int count;
	int reason;

	for (;;) {
		count = run->proxy->requests(run, &reason);
		if (count == 1 && (st->reason < 0 || reason < 0 || reason == st->reason)) {
			if (settled(run))
				return;
		} else if (count) {
			break;
		}
		if (!wait_more(run, deadline))
			break;
	}
	run_expected(run, st, NULL);
	if (count)
		run_fail(run, "  saw %u request%s, the first for %s", count,
			 count > 1 ? "s" : "", reason_text(reason));
	else
		run_fail(run, "  saw no request");
}

static bool is_requested(struct run *run, const struct statement *st)
{
	int reason;

	(void)st;
	return run->proxy->requests(run, &reason);
}

static void expect_no_request(struct run *run, const struct statement *st)
{
	unsigned int count;
	int reason;

	if (wait_quiet(run, is_requested, st))
		return;
	count = run->proxy->requests(run, &reason);
	run_expected(run, st, NULL);
	run_fail(run, "  saw %u request%s, the first for %s", count, count > 1 ? "s" : "",
		 reason_text(reason));
}

/* Both ways of counting agree, and on `number` where one is expected. */
static void expect_held(struct run *run, const struct statement *st, bool any)
{
	uint64_t deadline = deadline_of(run);
	int64_t counted, found;

	do {
		run->proxy->held(run, &counted, &found);
		if (counted == found && (any || found == st->number) && settled(run))
			return;
	} while (wait_more(run, deadline));
	run_expected(run, st, NULL);
	run_fail(run, "  saw %" PRId64 " held by the counters, %" PRId64 " frame records of P",
		 counted, found);
}

void expect(struct run *run, const struct statement *st)
{
	switch (st->verb) {
	case VERB_EXPECT_NEXT:
		expect_next(run, st);
		break;
	case VERB_EXPECT_FIRST:
		expect_first(run, st);
		break;
	case VERB_EXPECT_NONE:
		expect_none(run, st);
		break;
	case VERB_EXPECT_STREAM:
		expect_stream(run, st);
		break;
	case VERB_EXPECT_ACK:
		expect_sum(run, st, seen_ack);
		break;
	case VERB_EXPECT_REQUEST:
		expect_request(run, st);
		break;
	case VERB_EXPECT_NO_REQUEST:
		expect_no_request(run, st);
		break;
	case VERB_EXPECT_HELD:
		expect_held(run, st, false);
		break;
	case VERB_EXPECT_ENDS:
		expect_held(run, st, true);
		break;
	default:
		run_fail(run, "%s:%d: not an expectation", st->file, st->line);
	}
}
