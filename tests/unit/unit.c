// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "unit.h"

static FILE *captured;
static int stderr_was = -1;

unsigned long long unit_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

void unit_capture_begin(void)
{
	captured = tmpfile();
	stderr_was = dup(STDERR_FILENO);
	if (!captured || stderr_was < 0 || dup2(fileno(captured), STDERR_FILENO) < 0)
		abort();
}

void unit_capture_end(char *text, size_t size)
{
	size_t length;

	fflush(stderr);
	dup2(stderr_was, STDERR_FILENO);
	close(stderr_was);
	rewind(captured);
	length = fread(text, 1, size - 1, captured);
	text[length] = 0;
	fclose(captured);
}

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
