// SPDX-License-Identifier: GPL-2.0-only
/*
 * The egress of the port, of either role: what the guest sends, once it may
 * leave, in the numbers that its client knows.
 *
 * An object of its own: the program runs inside the helper by which the others
 * send, on the same CPU, and must not use their scratch. All other maps are
 * theirs.
 */
#include "translate.h"

char _license[] SEC("license") = "GPL";

SEC("tc")
int port_out(struct __sk_buff *ctx)
{
	struct colo_session *ses = session_get();
	int ret;

	if (!ses || !ses->translations || packet_parse(ctx, FROM_GUEST) != PARSE_OK)
		return CTX_NEXT;
	ret = translate(ctx, FROM_GUEST);
	if (ret > 0)
		COUNT(tr_out);
	if (ret >= 0)
		return CTX_NEXT;
	COUNT(tr_failed);
	return CTX_DROP;
}
