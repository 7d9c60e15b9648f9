// SPDX-License-Identifier: GPL-2.0-only
/* From a capture file, of whatever link type has Ethernet's payload, to Ethernet frames. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pcap/pcap.h>

#include "packet.h"

#define TYPE_IP   0x0800
#define TYPE_IPV6 0x86dd
#define TYPE_LLC  0x0004 /* of cooked captures: 802.3 without a length */
#define AF_IP     2

static const uint8_t guest_mac[6] = {2, 0, 0, 0, 0, 0x10};
static const uint8_t client_mac[6] = {2, 0, 0, 0, 0, 0x01};

/* What a link type's header says of the frame behind it. */
struct inner {
	unsigned int skip; /* bytes before the payload */
	uint16_t type;
	uint8_t source[6];
	const char *why; /* there is no Ethernet frame in it */
};

static uint16_t load16(const uint8_t *at)
{
	return at[0] << 8 | at[1];
}

static void from_raw(const uint8_t *bytes, unsigned int len, struct inner *in)
{
	in->type = len && bytes[0] >> 4 == 6 ? TYPE_IPV6 : TYPE_IP;
}

/* The address family in 4 bytes, in either order; that of IPv6 has no one number. */
static void from_null(const uint8_t *bytes, unsigned int len, struct inner *in)
{
	unsigned int family;

	if (len < 4) {
		in->why = "shorter than the header of its link type";
		return;
	}
	family = load16(bytes) ? bytes[0] : load16(bytes + 2);
	in->skip = 4;
	if (family == AF_IP)
		in->type = TYPE_IP;
	else if (family == 10 || family == 24 || family == 28 || family == 30)
		in->type = TYPE_IPV6;
	else
		in->why = "an address family that is not IP";
}

static void cooked_type(struct inner *in, uint16_t hardware, uint16_t type)
{
	if (hardware == 824) /* netlink */
		in->why = "netlink's, no frame of a network";
	else if (type == TYPE_LLC || type >= 1536)
		in->type = type;
	else
		in->why = "a cooked frame without an ethertype";
}

static void from_cooked(const uint8_t *bytes, unsigned int len, struct inner *in)
{
	if (len < 16) {
		in->why = "shorter than the header of its link type";
		return;
	}
	in->skip = 16;
	if (load16(bytes + 4) == 6)
		memcpy(in->source, bytes + 6, 6);
	cooked_type(in, load16(bytes + 2), load16(bytes + 14));
}

static void from_cooked2(const uint8_t *bytes, unsigned int len, struct inner *in)
{
	if (len < 20) {
		in->why = "shorter than the header of its link type";
		return;
	}
	in->skip = 20;
	if (bytes[11] == 6)
		memcpy(in->source, bytes + 12, 6);
	cooked_type(in, load16(bytes + 8), load16(bytes));
}

/* PPP, with or without HDLC's address and control bytes. */
static void from_ppp(const uint8_t *bytes, unsigned int len, struct inner *in)
{
	unsigned int at = len >= 2 && bytes[0] == 0xff && bytes[1] == 3 ? 2 : 0;
	unsigned int protocol;

	if (len < at + 2) {
		in->why = "shorter than the header of its link type";
		return;
	}
	protocol = bytes[at] & 1 ? bytes[at] : load16(bytes + at);
	in->skip = at + (bytes[at] & 1 ? 1 : 2);
	if (protocol == 0x21)
		in->type = TYPE_IP;
	else if (protocol == 0x57)
		in->type = TYPE_IPV6;
	else
		in->why = "of PPP, but not IP";
}

static void from_hdlc(const uint8_t *bytes, unsigned int len, struct inner *in)
{
	if (len < 4) {
		in->why = "shorter than the header of its link type";
		return;
	}
	in->skip = 4;
	in->type = load16(bytes + 2);
	if (in->type < 1536)
		in->why = "of HDLC, without an ethertype";
}

/* NULL: the frames are Ethernet's. */
static const struct link_type {
	int type;
	void (*inner)(const uint8_t *bytes, unsigned int len, struct inner *in);
} link_types[] = {
	{DLT_EN10MB, NULL},
	{DLT_RAW, from_raw},
	{101, from_raw}, /* LINKTYPE_RAW where DLT_RAW is another */
	{14, from_raw},  /* DLT_RAW of OpenBSD */
	{DLT_IPV4, from_raw},
	{DLT_IPV6, from_raw},
	{DLT_NULL, from_null},
	{DLT_LOOP, from_null},
	{DLT_LINUX_SLL, from_cooked},
	{DLT_LINUX_SLL2, from_cooked2},
	{DLT_PPP, from_ppp},
	{DLT_PPP_SERIAL, from_ppp},
	{DLT_C_HDLC, from_hdlc},
};

static const struct link_type *find_link_type(int type)
{
	for (unsigned int i = 0; i < sizeof(link_types) / sizeof(link_types[0]); i++) {
		if (link_types[i].type == type)
			return &link_types[i];
	}
	return NULL;
}

static struct packet *add_packet(struct capture *capture)
{
	struct packet *packet;

	if (capture->count == capture->room) {
		capture->room = capture->room ? 2 * capture->room : 256;
		capture->packets =
			realloc(capture->packets, capture->room * sizeof(*capture->packets));
	}
	packet = &capture->packets[capture->count++];
	memset(packet, 0, sizeof(*packet));
	packet->number = capture->count;
	return packet;
}

/* Cooked, raw and the like get the Ethernet header that they have lost. */
static void wrap(struct packet *packet, const struct inner *in, const uint8_t *bytes,
		 unsigned int len)
{
	static const uint8_t none[6];
	uint16_t type = in->type == TYPE_LLC ? len : in->type;

	packet->len = 14 + len;
	packet->bytes = malloc(packet->len + 1);
	memcpy(packet->bytes, client_mac, 6);
	memcpy(packet->bytes + 6, memcmp(in->source, none, 6) ? in->source : guest_mac, 6);
	packet->bytes[12] = type >> 8;
	packet->bytes[13] = type;
	memcpy(packet->bytes + 14, bytes, len);
}

static void take(struct capture *capture, const struct link_type *type, const uint8_t *bytes,
		 const struct pcap_pkthdr *header)
{
	struct packet *packet = add_packet(capture);
	unsigned int len = header->caplen;
	struct inner in = {0};

	if (type->inner)
		type->inner(bytes, len, &in);
	if (in.skip > len)
		in.why = "shorter than the header of its link type";
	if (header->len > header->caplen)
		packet->cut = header->len - header->caplen;
	if (in.why) {
		packet->class = PACKET_UNFIT;
		packet->why = strdup(in.why);
		return;
	}
	if (type->inner) {
		wrap(packet, &in, bytes + in.skip, len - in.skip);
	} else {
		packet->bytes = malloc(len + 1);
		packet->len = len;
		memcpy(packet->bytes, bytes, len);
	}
	packet_dissect(packet);
	packet_prepare(packet);
}

static int fail(char **error, const char *what)
{
	*error = strdup(what);
	return -1;
}

int capture_read(const char *path, struct capture *capture, char **error)
{
	char text[PCAP_ERRBUF_SIZE + 128] = "";
	const struct link_type *type;
	struct pcap_pkthdr *header;
	const uint8_t *bytes;
	const char *name;
	pcap_t *file;
	int ret, number;

	memset(capture, 0, sizeof(*capture));
	capture->path = path;
	file = pcap_open_offline(path, text);
	if (!file)
		return fail(error, text);
	number = pcap_datalink(file);
	type = find_link_type(number);
	if (!type) {
		name = pcap_datalink_val_to_name(number);
		snprintf(text, sizeof(text),
			 "link type %d (%s): no frames that a guest's network card can send",
			 number, name ? name : "unknown");
		pcap_close(file);
		return fail(error, text);
	}
	while ((ret = pcap_next_ex(file, &header, &bytes)) == 1)
		take(capture, type, bytes, header);
	if (ret == PCAP_ERROR) {
		capture->note = strdup(pcap_geterr(file));
		capture->broken = !strstr(capture->note, "truncated");
	}
	pcap_close(file);
	if (capture->count)
		return 0;
	snprintf(text, sizeof(text), "no frame in it%s%s", capture->note ? ": " : "",
		 capture->note ? capture->note : "");
	capture_free(capture);
	return fail(error, text);
}

void capture_free(struct capture *capture)
{
	for (unsigned int i = 0; i < capture->count; i++)
		packet_free(&capture->packets[i]);
	free(capture->packets);
	free(capture->note);
	memset(capture, 0, sizeof(*capture));
}
