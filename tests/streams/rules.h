/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef STREAMS_RULES_H
#define STREAMS_RULES_H

#include "packet.h"

/* From now on packet_dissect() goes by the policy and passthrough of this case; NULL: none. */
void rules_set(const struct testcase *test);

#endif
