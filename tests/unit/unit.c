// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>

#include "log.h"
#include "unit.h"

int main(void)
{
	unsigned int tests = 0;
	int failed = 0;

	cmocka_set_message_output(CM_OUTPUT_TAP);
#define UNIT_GROUP(name)                                   \
	do {                                               \
		struct unit_result result = unit_##name(); \
                                                           \
		tests += result.tests;                     \
		failed += result.failed;                   \
	} while (0);
	UNIT_GROUPS(UNIT_GROUP)
#undef UNIT_GROUP
	fflush(stderr);
	printf("%d passed, %d failed, 0 skipped\n", (int)tests - failed, failed);
	return failed != 0;
}
