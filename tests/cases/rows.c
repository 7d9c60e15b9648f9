// SPDX-License-Identifier: GPL-2.0-only
/*
 * What follows from the rows and rules of the behaviours (docs/design.md): by
 * which of them QEMU's verdict may differ. A case names its own in its title,
 * in brackets: [5], [R8], [rule 6].
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

static const struct {
	const char *name;
	const char *qemu; /* what QEMU does instead; NULL: the same */
} rows[] = {
	{"1", "QEMU releases before S's ack covers P's"},
	{"2", NULL},
	{"3", "QEMU asks for a spurious checkpoint after the release"},
	{"4", NULL},
	{"5", "QEMU asks for a checkpoint; P has to wait for S's ack"},
	{"6", "QEMU releases later: 50 after S1, 150 after S2"},
	{"7", "QEMU holds a pure ACK and asks for a checkpoint at the time-out"},
	{"9", "QEMU holds the second ACK, which S has covered"},
	{"11", "QEMU releases an ACK that S has not covered"},
	{"12", "QEMU holds a retransmission of what is vouched for"},
	{"14", "QEMU holds a retransmission with other cuts"},
	{"15", NULL},
	{"16", "QEMU asks for a checkpoint; the missing range is to be waited for"},
	{"17", "QEMU releases bytes at another place of the stream"},
	{"18", "QEMU asks for a checkpoint although the bytes are equal"},
	{"20", NULL},
	{"22", "QEMU does not look at the options of a SYN"},
	{"23", "QEMU releases a FIN that S has not shown"},
	{"24", NULL},
	{"25", "QEMU releases the RST"},
	{"26", "QEMU asks for a checkpoint for S frames that bring nothing new"},
	{"30", NULL},
	{"31", NULL},
	{"32", "QEMU reads past the packet"},
	{"33", NULL},
	{"34", NULL},
	{"35", "QEMU compares the checksum field"},
	{"37", "QEMU asks for a false checkpoint and reorders"},
	{"40", "QEMU's commit reverses the datagrams"},
	{"43", NULL},
	{"44", "QEMU compares the IP header of other protocols"},
	{"45", NULL},
	{"46", "QEMU passes IPv6 uncompared"},
	{"47", "QEMU passes tagged frames uncompared"},
	{"49", NULL},
	{"53", "QEMU drops in silence what its queue does not take"},
	{"54", "QEMU wipes its whole table"},
	{"55", "QEMU asks once for each mismatch"},
	{"56", "QEMU's commit does not keep the order"},
	{"57", "QEMU has no epochs: S of another one is compared like any"},
	{"60", "QEMU holds after a commit what it has sent before it"},
	{"R1", NULL},
	{"R2", NULL},
	{"R3", NULL},
	{"R7", "QEMU's rewriter leaves an RST alone"},
	{"R8", "QEMU's rewriter does nothing for active opens"},
	{"R9", "QEMU's rewriter does not translate SACK"},
	{"R11", "QEMU's rewriter does nothing for tags and IPv6"},
	{"R12", NULL},
	{"R14", "QEMU's rewriter keeps its entries for ever"},
	{"R17", "QEMU's rewriter goes on to track new flows"},
	{"M2", "QEMU's secondary sends by its own tap"},
	{"rule 1", "nothing unvouched leaves"},
	{"rule 2", "a held packet has exactly one end, counted"},
	{"rule 3", "data leave in order, datagrams in P's; retransmissions may overtake"},
	{"rule 4", "the client sees P's very frame, checksums valid"},
	{"rule 5", "TCP is a byte stream, whatever the cuts and retransmissions"},
	{"rule 6", "the client must not be told more than S knows"},
	{"rule 7", "RST, FIN, SYN and URG must agree"},
	{"rule 8", "lengths come from the headers; checksum fields are not compared"},
	{"rule 9", "datagrams: content per flow, a reordering window, fragments by id"},
	{"rule 10", "IPv6 and tags are compared; a table says what passes"},
	{"rule 11", "one checkpoint request per epoch"},
	{"rule 12", "fail safe: held and asked for, every wait bounded"},
	{"rule 13", "a commit: in order, S by its tag, what was sent is vouched for"},
	{"rule 14", "the rewriter translates whole packets and never guesses"},
	{"rule 15", "failover keeps the connections"},
	{"rule 16", "input is one stream across epochs"},
};

/* The row or rule that explains a difference; NULL: none, or it is to be equal. */
char *rows_explain(const char *title)
{
	const char *end = strchr(title, ']');
	size_t len = end ? end - title - 1 : 0;
	char *text;

	if (title[0] != '[' || !end)
		return NULL;
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strlen(rows[i].name) != len || strncmp(rows[i].name, title + 1, len))
			continue;
		if (!rows[i].qemu || asprintf(&text, "differs by %s%s: %s",
					      strncmp(rows[i].name, "rule", 4) ? "row " : "",
					      rows[i].name, rows[i].qemu) < 0)
			return NULL;
		return text;
	}
	return NULL;
}
