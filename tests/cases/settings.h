/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CASES_SETTINGS_H
#define CASES_SETTINGS_H

#include <linux/types.h>

#include <colo/abi.h>

#include "cases.h"
#include "policy.h"

/*
 * All `set` of a case into config (only what sizes a map, or only the rest) and
 * policy and a passthrough rule. 0, or -1 with the case failed.
 */
int set_options(struct run *run, struct colo_config *config, bool sizes, __u32 *policy,
		struct passthrough_text *rule);

#endif
