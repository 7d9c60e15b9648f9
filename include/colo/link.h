/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The link between the two hosts: every frame of the proxy carries one 802.1Q
 * tag whose VID says what it is and to which epoch it belongs (input: to which
 * life of the guest, see colo_session.input_epoch). Frames without
 * a tag are the host's own (peer, migration, NBD) and go to its stack.
 *
 *   VID   11..10 kind   9..0 epoch, low bits, compared serially
 *
 * One tag and nothing that differs from frame to frame, so that GSO stays
 * whole and GRO merges again (measured, docs/design.md).
 */
#ifndef COLO_LINK_H
#define COLO_LINK_H

#define COLO_LINK_PROTO   0x8100 /* ETH_P_8021Q */
#define COLO_LINK_TAG_LEN 4

enum colo_link_kind {
	COLO_LINK_NONE,
	COLO_LINK_INPUT,   /* a client's frame, for the secondary's guest */
	COLO_LINK_OUTPUT,  /* a frame of the secondary's guest, in P's numbers */
	COLO_LINK_CONTROL, /* a clone of the primary's own SYN or SYN-ACK, or counts */
};

/*
 * Counts: what their sender has sent over the link in an epoch, so that a loss
 * is found (rule 12). An Ethernet frame of this type, padded to 60 bytes, all
 * in network byte order.
 */
#define COLO_LINK_ETHERTYPE 0x88b5 /* IEEE 802 local experimental 1 */
#define COLO_LINK_MAGIC     0x434f4c4fU

struct colo_link_counts {
	unsigned int magic;
	unsigned short version;      /* COLO_ABI_VERSION */
	unsigned short asked_reason; /* enum colo_reason */
	unsigned long long epoch;
	unsigned long long tcp_bytes;
	unsigned long long frames;
	unsigned long long asked_epoch; /* the last one in which the sender wants a checkpoint */
};

#define COLO_LINK_EPOCH_BITS 10
#define COLO_LINK_EPOCH_MASK ((1U << COLO_LINK_EPOCH_BITS) - 1)

/*
 * Kind NONE is never sent, so VID 0 never is. VID 4095 (reserved by 802.1Q)
 * would be CONTROL with all epoch bits set: that epoch value is skipped by
 * colo_link_epoch(), which counts modulo 1023.
 */
#define COLO_LINK_EPOCH_MOD 1023U

static inline unsigned int colo_link_vid(enum colo_link_kind kind, unsigned long long epoch)
{
	return ((unsigned int)kind << COLO_LINK_EPOCH_BITS) |
	       (unsigned int)(epoch % COLO_LINK_EPOCH_MOD);
}

static inline unsigned int colo_link_kind(unsigned int tci)
{
	return (tci >> COLO_LINK_EPOCH_BITS) & 3;
}

/*
 * How many epochs a tag is ahead of `epoch`: -511 .. 511, the nearest of all
 * epochs with these low bits.
 */
static inline int colo_link_epoch_diff(unsigned int tci, unsigned long long epoch)
{
	unsigned int theirs = tci & COLO_LINK_EPOCH_MASK;
	unsigned int ours = (unsigned int)(epoch % COLO_LINK_EPOCH_MOD);
	int diff = (int)theirs - (int)ours;

	if (diff > 511)
		diff -= (int)COLO_LINK_EPOCH_MOD;
	if (diff < -511)
		diff += (int)COLO_LINK_EPOCH_MOD;
	return diff;
}

#endif
