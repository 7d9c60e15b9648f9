// SPDX-License-Identifier: GPL-2.0-only
/* Loses frames at random: LOSS_PERMILLE of 1000. For a tc egress hook. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

SEC("tc")
int lossy(struct __sk_buff *ctx)
{
	(void)ctx;
	return bpf_get_prandom_u32() % 1000 < LOSS_PERMILLE ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "GPL";
