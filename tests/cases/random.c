// SPDX-License-Identifier: GPL-2.0-only
/* splitmix64: the same numbers everywhere. */
#include "random.h"

static uint64_t state;

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

void random_seed(uint64_t seed)
{
	state = mix(seed + 0x9e3779b97f4a7c15ULL);
}

uint32_t any(void)
{
	return mix(state += 0x9e3779b97f4a7c15ULL) >> 32;
}

unsigned int below(unsigned int n)
{
	return any() % n;
}

unsigned int between(unsigned int from, unsigned int to)
{
	return from + below(to - from + 1);
}

bool chance(unsigned int percent)
{
	return below(100) < percent;
}
