/* SPDX-License-Identifier: GPL-2.0-only */
/* Whether the guest is an IPv6 router: who announces it must say so. */
#ifndef COLO_BPF_ROUTER_H
#define COLO_BPF_ROUTER_H

#include "parse.h"

#define ND_ROUTER_ADVERT 134
#define ND_LIFETIME      6 /* offset of the router's lifetime, 0: it is none */

static __always_inline void router_note(struct colo_session *ses, const struct packet *p)
{
	if (p->class == COLO_CLASS_ND && hdr8(p, p->l4_off) == ND_ROUTER_ADVERT)
		ses->guest_routes = hdr8(p, p->l4_off + ND_LIFETIME) ||
				    hdr8(p, p->l4_off + ND_LIFETIME + 1);
}

#endif
