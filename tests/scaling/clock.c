// SPDX-License-Identifier: GPL-2.0-only
/* Time, the CPU that a thread runs on, and medians. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "scaling.h"

uint64_t scale_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

uint64_t scale_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

void scale_cpu(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		perror("scale: sched_setaffinity");
}

void scale_precedence(bool daemon)
{
	struct sched_param param = {.sched_priority = daemon ? 1 : 0};

	if (sched_setscheduler(0, daemon ? SCHED_RR : SCHED_OTHER, &param))
		perror("scale: sched_setscheduler");
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double scale_median(double *values, unsigned int count)
{
	qsort(values, count, sizeof(*values), by_value);
	return count ? values[count / 2] : 0;
}
