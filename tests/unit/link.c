// SPDX-License-Identifier: GPL-2.0-only
#include "unit.h"

#include <colo/link.h>

static void vid_is_legal(void **state)
{
	(void)state;
	for (unsigned int kind = COLO_LINK_INPUT; kind <= COLO_LINK_CONTROL; kind++) {
		for (unsigned long long epoch = 0; epoch < 3000; epoch++) {
			unsigned int vid = colo_link_vid(kind, epoch);

			assert_in_range(vid, 1, 4094);
			assert_int_equal(colo_link_kind(vid), kind);
		}
	}
}

static void priority_bits_do_not_matter(void **state)
{
	unsigned int vid = colo_link_vid(COLO_LINK_OUTPUT, 77);

	(void)state;
	assert_int_equal(colo_link_kind(vid | 0xf000), COLO_LINK_OUTPUT);
	assert_int_equal(colo_link_epoch_diff(vid | 0xf000, 77), 0);
}

static void diff_is_serial(void **state)
{
	(void)state;
	for (unsigned long long epoch = 600; epoch < 5000; epoch += 7) {
		for (int ahead = -511; ahead <= 511; ahead++) {
			unsigned int vid = colo_link_vid(COLO_LINK_OUTPUT, epoch + ahead);

			assert_int_equal(colo_link_epoch_diff(vid, epoch), ahead);
		}
	}
}

static void diff_at_the_wrap(void **state)
{
	static const struct {
		unsigned long long theirs, ours;
		int diff;
	} rows[] = {
		{1023, 1022, 1},         {1022, 1023, -1},
		{1024, 1022, 2},         {0, 0, 0},
		{2046, 2045, 1},         {1ULL << 40, (1ULL << 40) + 1, -1},
		{1023 + 511, 1023, 511},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_int_equal(
			colo_link_epoch_diff(colo_link_vid(COLO_LINK_OUTPUT, rows[i].theirs),
					     rows[i].ours),
			rows[i].diff);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(vid_is_legal),
	cmocka_unit_test(priority_bits_do_not_matter),
	cmocka_unit_test(diff_is_serial),
	cmocka_unit_test(diff_at_the_wrap),
};

UNIT_RUN(link, tests)
