/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Serial numbers: TCP's sequence numbers and timestamps (RFC 1982).
 */
#ifndef COLO_BPF_SERIAL_H
#define COLO_BPF_SERIAL_H

#include "maps.h"

static __always_inline int seq_lt(__u32 a, __u32 b)
{
	return (__s32)(a - b) < 0;
}

static __always_inline int seq_leq(__u32 a, __u32 b)
{
	return (__s32)(a - b) <= 0;
}

#endif
