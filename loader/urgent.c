// SPDX-License-Identifier: GPL-2.0-only
#include <linux/pkt_sched.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <sys/socket.h>

#include "urgent.h"

#define CS6 0xc0 /* network control, RFC 4594 3.1 */

/* The first sets the priority, too, and to a lower one. */
void urgent(int fd, int family)
{
	int class = CS6, priority = TC_PRIO_CONTROL;

	if (family == AF_INET)
		setsockopt(fd, IPPROTO_IP, IP_TOS, &class, sizeof(class));
	else
		setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &class, sizeof(class));
	setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority, sizeof(priority));
}
