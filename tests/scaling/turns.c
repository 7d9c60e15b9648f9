// SPDX-License-Identifier: GPL-2.0-only
/* The daemon's loop, with its precedence, on the other CPU. */
#include <pthread.h>
#include <time.h>

#include "scaling.h"

static void *run(void *context)
{
	struct turns *turns = context;

	scale_cpu(1);
	scale_precedence(true);
	while (!turns->stop) {
		uint64_t begun = scale_now(), took;
		int err = rig_daemon(turns->rig);
		struct timespec until;

		took = scale_now() - begun;
		turns->error = turns->error ?: err;
		turns->count++;
		if (took > turns->longest_ns)
			turns->longest_ns = took;
		until = (struct timespec){turns->rig->tick_ns / 1000000000,
					  turns->rig->tick_ns % 1000000000};
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
	}
	turns->cpu_ns = scale_cpu_ns();
	return NULL;
}

int turns_begin(struct turns *turns, struct rig *rig)
{
	*turns = (struct turns){.rig = rig};
	return -pthread_create(&turns->thread, NULL, run, turns);
}

void turns_stop(struct turns *turns)
{
	turns->stop = true;
	pthread_join(turns->thread, NULL);
}
