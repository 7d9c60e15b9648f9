/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A device's clsact hooks, and what else the data path needs of a device. All return 0 or -errno and print nothing: the caller knows what the
 * device is for.
 */
#ifndef COLO_TC_H
#define COLO_TC_H

#include <stdbool.h>
#include <linux/types.h>

/*
 * First of all filters: a verdict of another filter before ours could let
 * something leave that is not vouched for. The handle says that it is ours.
 */
#define COLO_TC_PRIORITY 1
#define COLO_TC_HANDLE   0xc010

enum tc_side { TC_INGRESS, TC_EGRESS, TC_SIDES };

/* What is at the ingress and egress of a device. */
struct tc_state {
	bool clsact;                 /* the qdisc is there */
	bool unqueued;               /* the root qdisc is none */
	unsigned int ours[TC_SIDES]; /* program id of the filter with our handle, or 0 */
	bool first_taken[TC_SIDES];  /* a foreign filter has our priority */
	unsigned int filters;        /* all filters, ours included */
};

int tc_query(int ifindex, struct tc_state *state);

/* *made_clsact: the qdisc was not there and was made. */
int tc_attach(int ifindex, enum tc_side side, int prog_fd, bool *made_clsact);

/* Another program in our filter: each packet meets the one or the other. */
int tc_replace(int ifindex, enum tc_side side, int prog_fd);

/* Takes our filter away, and the qdisc if told to and if nothing else uses it. */
int tc_detach(int ifindex, enum tc_side side, bool remove_clsact);

/*
 * What is sent to the device is on it at once, in the order in which it is
 * sent: no qdisc keeps it back or puts another before it. *was: it was so before.
 */
int tc_unqueue(int ifindex, bool *was);

/* Again the qdisc that the kernel gives it by itself. */
int tc_queue(int ifindex);

/* `data`: a struct of linux/ethtool.h, its command set. 0 or -errno. */
int device_ethtool(const char *device, void *data);

int device_mtu(const char *device, unsigned int *mtu);
/* How many frames it queues: of a tap, those that nobody has read yet. */
int device_queue(const char *device, __u32 *length);
int device_set_queue(const char *device, __u32 length);
int device_mac(const char *device, __u8 mac[6]);

/* *was: what it was before. */
int device_set_promiscuous(const char *device, bool on, bool *was);

#endif
