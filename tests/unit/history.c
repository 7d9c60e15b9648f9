// SPDX-License-Identifier: GPL-2.0-only
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "history.h"

#define MS 1000000ULL

static struct colo_checkpoint ring[COLO_CHECKPOINTS];

static struct history begin(enum colo_role role, __u64 now)
{
	struct history h;

	memset(ring, 0, sizeof(ring));
	history_open(&h, ring, role, 0, 0);
	history_stage(&h, role == COLO_ROLE_PRIMARY ? "primary-start" : "secondary-start", 1,
		      NULL, now);
	return h;
}

/* As QEMU's events have it; each part is of `us` microseconds. */
static json_t *primary_figures(__u64 epoch, json_int_t us, bool whole)
{
	json_t *stats = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "epoch",
				  (json_int_t)epoch, "request", us, "stop", us, "device", us,
				  "ram", us, "transfer", us, "ram-bytes", (json_int_t)4096,
				  "ram-pages", (json_int_t)1, "device-bytes", (json_int_t)777);

	if (whole) {
		json_object_set_new(stats, "commit", json_integer(us));
		json_object_set_new(stats, "load", json_integer(us));
		json_object_set_new(stats, "resume", json_integer(us));
	}
	return json_pack("{s:o}", "checkpoint", stats);
}

static json_t *load_figures(__u64 epoch)
{
	return json_pack("{s:{s:I, s:I, s:I, s:I, s:I}}", "load", "epoch", (json_int_t)epoch,
			 "stop", (json_int_t)1, "receive", (json_int_t)20, "flush",
			 (json_int_t)300, "load", (json_int_t)4000);
}

static void stop(struct history *h, __u64 epoch, __u64 now)
{
	history_stage(h, "primary-stop", epoch, NULL, now);
}

static void commit(struct history *h, __u64 epoch, json_int_t us, __u64 now)
{
	json_t *figures = primary_figures(epoch, us, false);

	history_stage(h, "primary-commit", epoch, figures, now);
	history_stage_end(h, "primary-commit", epoch + 1, now + 7);
	json_decref(figures);
}

static void resume(struct history *h, __u64 epoch, json_int_t us, __u64 now)
{
	json_t *figures = primary_figures(epoch, us, true);

	history_stage(h, "primary-resume", epoch, figures, now);
	json_decref(figures);
}

/* A checkpoint that ends at `now`, of eight parts of `us` microseconds. */
static void checkpoint(struct history *h, __u64 epoch, json_int_t us, __u64 now)
{
	stop(h, epoch, now - 6 * us * 1000);
	commit(h, epoch, us, now - 3 * us * 1000);
	resume(h, epoch, us, now);
}

static void primary_record(void **state)
{
	struct history h = begin(COLO_ROLE_PRIMARY, 10 * MS);
	const struct colo_checkpoint *c = &ring[0];

	(void)state;
	history_asked(&h, 1, COLO_REASON_LENGTH, 50 * MS, 60 * MS);
	history_asked(&h, 1, COLO_REASON_FLAGS, 55 * MS, 65 * MS);
	stop(&h, 1, 70 * MS);
	assert_int_equal(c->number, 1);
	assert_int_equal(c->end, COLO_CHECKPOINT_STOPPED);
	commit(&h, 1, 100, 80 * MS);
	assert_int_equal(c->end, COLO_CHECKPOINT_COMMITTED);
	assert_int_equal(c->release_ns, 7);
	resume(&h, 1, 100, 90 * MS);
	assert_int_equal(c->end, COLO_CHECKPOINT_DONE);
	assert_int_equal(c->role, COLO_ROLE_PRIMARY);
	assert_int_equal(c->epoch, 1);
	assert_int_equal(c->session_ns, 10 * MS);
	assert_int_equal(c->reason, COLO_REASON_LENGTH);
	assert_int_equal(c->requested_ns, 50 * MS);
	assert_int_equal(c->asked_ns, 60 * MS);
	assert_int_equal(c->stopped_ns, 70 * MS);
	assert_int_equal(c->ended_ns, 90 * MS);
	assert_int_equal(c->standstill_ns, 800000);
	assert_int_equal(c->primary_took_ns.request, 100000);
	assert_int_equal(c->primary_took_ns.resume, 100000);
	assert_int_equal(c->ram_bytes, 4096);
	assert_int_equal(c->ram_pages, 1);
	assert_int_equal(c->device_bytes, 777);

	/* nobody asked for the next one */
	checkpoint(&h, 2, 100, 200 * MS);
	assert_int_equal(ring[1].number, 2);
	assert_int_equal(ring[1].reason, COLO_REASON_PERIOD);
	assert_int_equal(ring[1].requested_ns, 0);
}

static void secondary_record(void **state)
{
	struct history h = begin(COLO_ROLE_SECONDARY, 10 * MS);
	json_t *figures = load_figures(1);
	const struct colo_checkpoint *c = &ring[0];

	(void)state;
	history_stage(&h, "secondary-reset", 1, figures, 20 * MS);
	assert_int_equal(c->end, COLO_CHECKPOINT_STOPPED);
	history_stage_end(&h, "secondary-reset", 2, 20 * MS + 9);
	json_decref(figures);
	assert_int_equal(c->end, COLO_CHECKPOINT_DONE);
	assert_int_equal(c->secondary_took_ns.stop, 1000);
	assert_int_equal(c->secondary_took_ns.receive, 20000);
	assert_int_equal(c->secondary_took_ns.flush, 300000);
	assert_int_equal(c->secondary_took_ns.load, 4000000);
	assert_int_equal(c->release_ns, 9);
	assert_int_equal(c->standstill_ns, 4321009);
	assert_int_equal(c->reason, COLO_REASON_NONE);
}

/* A QEMU that has no figures: as long as it was for us. */
static void without_figures(void **state)
{
	struct history h = begin(COLO_ROLE_PRIMARY, 1);

	(void)state;
	stop(&h, 1, 10 * MS);
	history_stage(&h, "primary-commit", 1, NULL, 12 * MS);
	history_stage_end(&h, "primary-commit", 2, 13 * MS);
	history_running(&h, 15 * MS);
	assert_int_equal(ring[0].end, COLO_CHECKPOINT_DONE);
	assert_int_equal(ring[0].standstill_ns, 5 * MS);
	assert_int_equal(ring[0].primary_took_ns.request, 0);
	/* RESUME of another cause */
	history_running(&h, 99 * MS);
	assert_int_equal(ring[0].ended_ns, 15 * MS);
}

/* RESUME comes before the last figures: until those are there no other may begin. */
static void resumed_first(void **state)
{
	struct history h = begin(COLO_ROLE_PRIMARY, 1);

	(void)state;
	stop(&h, 1, 10 * MS);
	commit(&h, 1, 1000, 11 * MS);
	history_running(&h, 12 * MS);
	assert_int_equal(history_allowed(&h, 0, 50), HISTORY_UNDER_WAY);
	resume(&h, 1, 1000, 13 * MS);
	assert_int_equal(ring[0].ended_ns, 12 * MS);
	assert_int_equal(ring[0].standstill_ns, 8 * MS);
	assert_int_equal(history_allowed(&h, 0, 50), 20 * MS);
}

static void ends(void **state)
{
	struct history h = begin(COLO_ROLE_PRIMARY, 1);

	(void)state;
	/* before the commit, and after it */
	stop(&h, 1, 10 * MS);
	history_over(&h, 1, 11 * MS);
	assert_int_equal(ring[0].end, COLO_CHECKPOINT_FAILED);
	assert_int_equal(ring[0].ended_ns, 11 * MS);
	h = begin(COLO_ROLE_PRIMARY, 1);
	stop(&h, 1, 10 * MS);
	commit(&h, 1, 100, 11 * MS);
	history_over(&h, 2, 12 * MS);
	assert_int_equal(ring[0].end, COLO_CHECKPOINT_CUT);
	/* the daemon refused it: the epoch stays open */
	h = begin(COLO_ROLE_PRIMARY, 1);
	stop(&h, 1, 10 * MS);
	history_stage(&h, "primary-commit", 1, NULL, 11 * MS);
	history_stage_end(&h, "primary-commit", 1, 12 * MS);
	assert_int_equal(ring[0].end, COLO_CHECKPOINT_FAILED);
	/* asked for, and no more was heard; then nothing is known of a stop */
	h = begin(COLO_ROLE_PRIMARY, 1);
	history_asked(&h, 1, COLO_REASON_PEER, 0, 10 * MS);
	history_over(&h, 1, 30 * MS);
	assert_int_equal(ring[0].number, 1);
	assert_int_equal(ring[0].end, COLO_CHECKPOINT_FAILED);
	assert_int_equal(ring[0].reason, COLO_REASON_PEER);
	assert_int_equal(ring[0].stopped_ns, 0);
	assert_int_equal(ring[0].standstill_ns, 0);
	/* COLO ends between checkpoints: no checkpoint failed */
	h = begin(COLO_ROLE_PRIMARY, 1);
	checkpoint(&h, 1, 100, 100 * MS);
	history_over(&h, 2, 200 * MS);
	assert_int_equal(ring[0].end, COLO_CHECKPOINT_DONE);
	assert_int_equal(ring[1].number, 0);
}

/* Epochs begin anew in each session; the numbers do not. */
static void sessions(void **state)
{
	struct history h = begin(COLO_ROLE_PRIMARY, 5);

	(void)state;
	checkpoint(&h, 1, 100, 100 * MS);
	history_stage(&h, "primary-start", 1, NULL, 200 * MS);
	assert_int_equal(history_allowed(&h, 5, 50), 0);
	checkpoint(&h, 1, 100, 300 * MS);
	assert_int_equal(ring[1].number, 2);
	assert_int_equal(ring[1].epoch, 1);
	assert_int_equal(ring[1].session_ns, 200 * MS);

	/* the roles are changed */
	history_stage(&h, "secondary-start", 1, NULL, 400 * MS);
	history_stage(&h, "secondary-reset", 1, NULL, 500 * MS);
	history_stage_end(&h, "secondary-reset", 2, 501 * MS);
	assert_int_equal(ring[2].role, COLO_ROLE_SECONDARY);
	assert_int_equal(ring[2].end, COLO_CHECKPOINT_DONE);
}

static void the_ring_turns(void **state)
{
	struct history h = begin(COLO_ROLE_PRIMARY, 5), again;

	(void)state;
	for (__u64 n = 1; n <= COLO_CHECKPOINTS + 3; n++)
		checkpoint(&h, n, 100, n * 100 * MS);
	assert_int_equal(ring[2].number, COLO_CHECKPOINTS + 3);
	assert_int_equal(ring[2].epoch, COLO_CHECKPOINTS + 3);
	assert_int_equal(ring[3].number, 4);
	history_open(&again, ring, COLO_ROLE_PRIMARY, COLO_CHECKPOINTS + 4, 1);
	assert_int_equal(again.last.number, COLO_CHECKPOINTS + 3);
	assert_int_equal(again.session_ns, 5);
	checkpoint(&again, COLO_CHECKPOINTS + 4, 100, 1000000 * MS);
	assert_int_equal(ring[3].number, COLO_CHECKPOINTS + 4);
}

/* The daemon is restarted in the middle of a checkpoint. */
static void restarts(void **state)
{
	struct history h = begin(COLO_ROLE_PRIMARY, 5);
	json_t *info;

	(void)state;
	/* before the commit: the stage is pending at QEMU */
	checkpoint(&h, 1, 100, 100 * MS);
	stop(&h, 2, 200 * MS);
	history_open(&h, ring, COLO_ROLE_PRIMARY, 2, 100 * MS);
	assert_int_equal(history_allowed(&h, 5, 50), HISTORY_UNDER_WAY);
	commit(&h, 2, 100, 300 * MS);
	assert_int_equal(ring[1].number, 2);
	assert_int_equal(ring[1].stopped_ns, 200 * MS);
	assert_int_equal(ring[1].end, COLO_CHECKPOINT_COMMITTED);
	assert_int_equal(ring[2].number, 0);
	/* after it: the guest does not run yet */
	history_open(&h, ring, COLO_ROLE_PRIMARY, 3, 300 * MS);
	info = primary_figures(2, 100, false);
	json_object_set_new(info, "epoch", json_integer(3));
	history_adopt(&h, info, 310 * MS);
	json_decref(info);
	assert_int_equal(ring[1].end, COLO_CHECKPOINT_COMMITTED);
	/* it does */
	info = primary_figures(2, 100, true);
	json_object_set_new(info, "epoch", json_integer(3));
	history_adopt(&h, info, 320 * MS);
	json_decref(info);
	assert_int_equal(ring[1].end, COLO_CHECKPOINT_DONE);
	assert_int_equal(ring[1].standstill_ns, 800000);
	assert_int_equal(history_allowed(&h, 5, 50), 325 * MS);
	/* in epoch 1 there is no checkpoint that could tell when the session began */
	memset(ring, 0, sizeof(ring));
	history_open(&h, ring, COLO_ROLE_PRIMARY, 1, 77);
	assert_int_equal(h.session_ns, 77);
}

static void peer_figures(void **state)
{
	struct history h = begin(COLO_ROLE_PRIMARY, 5);
	json_t *figures = load_figures(1), *load = json_object_get(figures, "load");

	(void)state;
	assert_int_equal(history_peer_load(&h, load), -ENOENT);
	/* before the guest runs again, and some checkpoints later */
	stop(&h, 1, 10 * MS);
	assert_int_equal(history_peer_load(&h, load), 0);
	commit(&h, 1, 100, 20 * MS);
	resume(&h, 1, 100, 30 * MS);
	assert_int_equal(ring[0].secondary_took_ns.flush, 300000);
	checkpoint(&h, 2, 100, 200 * MS);
	json_object_set_new(load, "flush", json_integer(5));
	assert_int_equal(history_peer_load(&h, load), 0);
	assert_int_equal(ring[0].secondary_took_ns.flush, 5000);
	assert_int_equal(ring[1].secondary_took_ns.flush, 0);
	/* what is left of the session before is not this one's */
	history_stage(&h, "primary-start", 1, NULL, 300 * MS);
	assert_int_equal(history_peer_load(&h, load), -ENOENT);
	json_decref(figures);
}

static void pace(void **state)
{
	struct history h = begin(COLO_ROLE_PRIMARY, 5);

	(void)state;
	assert_int_equal(history_allowed(&h, 5, 50), 0);
	checkpoint(&h, 1, 1000, 100 * MS); /* 8 ms */
	assert_int_equal(history_allowed(&h, 5, 50), 108 * MS);
	assert_int_equal(history_allowed(&h, 5, 20), 132 * MS);
	assert_int_equal(history_allowed(&h, 5, 80), 105 * MS);
	assert_int_equal(history_allowed(&h, 0, 100), 100 * MS);
	assert_int_equal(history_allowed(&h, 20, 50), 120 * MS);
	stop(&h, 2, 110 * MS);
	assert_int_equal(history_allowed(&h, 0, 100), HISTORY_UNDER_WAY);
	commit(&h, 2, 1000, 111 * MS);
	assert_int_equal(history_allowed(&h, 0, 100), HISTORY_UNDER_WAY);
}

/*
 * A guest that always differs: between the ends of any two checkpoints it
 * stands still for no more than its share, however long each one is.
 */
static void storm(void **state)
{
	static const __u32 percents[] = {1, 10, 50, 90};
	struct history h;

	(void)state;
	for (size_t p = 0; p < sizeof(percents) / sizeof(*percents); p++) {
		__u64 now = 100 * MS, first = 0, stood = 0;

		h = begin(COLO_ROLE_PRIMARY, 5);
		srand(1);
		for (__u64 n = 1; n <= 500; n++) {
			json_int_t us = 50 + rand() % 3000;
			__u64 allowed = history_allowed(&h, 5, percents[p]);

			now = allowed > now ? allowed : now;
			now += 8 * us * 1000;
			checkpoint(&h, n, us, now);
			if (n == 1) {
				first = now;
				continue;
			}
			stood += ring[(n - 1) % COLO_CHECKPOINTS].standstill_ns;
			/* The last one's own share comes after it. */
			assert_true((stood - ring[n - 1].standstill_ns) * 100 <=
				    (now - first) * percents[p]);
		}
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(primary_record),
	cmocka_unit_test(secondary_record),
	cmocka_unit_test(without_figures),
	cmocka_unit_test(resumed_first),
	cmocka_unit_test(ends),
	cmocka_unit_test(sessions),
	cmocka_unit_test(the_ring_turns),
	cmocka_unit_test(restarts),
	cmocka_unit_test(peer_figures),
	cmocka_unit_test(pace),
	cmocka_unit_test(storm),
};

UNIT_RUN(history, tests)
