/* SPDX-License-Identifier: GPL-2.0-only */
/* The groups of unit tests; each returns how many of its tests failed. */
#ifndef COLO_UNIT_H
#define COLO_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define UNIT_GROUPS(X) \
	X(link)        \
	X(peer)        \
	X(session)     \
	X(options)     \
	X(qmp)         \
	X(status) X(translations) X(loop) X(config) X(channel) X(grant) X(task) X(history)

/* What is logged (on stderr) goes into a file, and from there into `text`. */
void unit_capture_begin(void);
void unit_capture_end(char *text, size_t size);

/* CLOCK_MONOTONIC, in ns. */
unsigned long long unit_now(void);

/* Run `loop` until the condition holds, for 5 s at most. */
#define run_until(condition)                                          \
	do {                                                          \
		__u64 end_ns = unit_now() + 5000000000ULL;            \
                                                                      \
		while (!(condition) && unit_now() < end_ns)           \
			assert_int_equal(loop_once(loop, end_ns), 0); \
		assert_true(condition);                               \
	} while (0)

struct unit_result {
	unsigned int tests;
	int failed;
};

#define UNIT_GROUP(name) struct unit_result unit_##name(void);
UNIT_GROUPS(UNIT_GROUP)
#undef UNIT_GROUP

/* The function of the group `group` that runs `tests`. */
#define UNIT_RUN(group, tests)                                                          \
	struct unit_result unit_##group(void)                                           \
	{                                                                               \
		struct unit_result result = {sizeof(tests) / sizeof(*(tests)), 0};      \
                                                                                        \
		result.failed = cmocka_run_group_tests_name(#group, tests, NULL, NULL); \
		return result;                                                          \
	}

#endif
