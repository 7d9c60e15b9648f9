/* SPDX-License-Identifier: GPL-2.0-only */
/* Random numbers of what is drawn: the same of one seed, wherever it runs. */
#ifndef CASES_RANDOM_H
#define CASES_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

/* Of two seeds next to each other, neither is the other's tail. */
void random_seed(uint64_t seed);
uint32_t any(void);
unsigned int below(unsigned int n);                       /* 0 .. n - 1 */
unsigned int between(unsigned int from, unsigned int to); /* both included */
bool chance(unsigned int percent);

#endif
