// SPDX-License-Identifier: GPL-2.0-only
/* FRAME and PATTERN: one table of their options, and what belongs to which. */
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

#define OF_TCP  (1 << KIND_TCP)
#define OF_UDP  (1 << KIND_UDP)
#define OF_ICMP (1 << KIND_ICMP | 1 << KIND_ICMP6)
#define OF_IP   (1 << KIND_IP)
#define OF_ARP  (1 << KIND_ARP)
#define OF_RAW  (1 << KIND_RAW)
#define OF_L3   (OF_TCP | OF_UDP | OF_ICMP | OF_IP)
#define OF_ALL  (OF_L3 | OF_ARP | OF_RAW)
/* A pattern that names no protocol may ask for what every IP packet has. */
#define OF_OPEN (1 << KIND_OPEN | 1 << KIND_ANY)

static const struct {
	const char *name;
	enum kind kind;
} kinds[] = {
	{"tcp", KIND_TCP}, {"udp", KIND_UDP}, {"icmp", KIND_ICMP}, {"icmp6", KIND_ICMP6},
	{"ip", KIND_IP},   {"arp", KIND_ARP}, {"raw", KIND_RAW},   {"any", KIND_ANY},
};

const struct spec_ext spec_exts[] = {
	{"hop", IPPROTO_HOPOPTS},
	{"dst", IPPROTO_DSTOPTS},
	{"route", IPPROTO_ROUTING},
	{"frag", IPPROTO_FRAGMENT},
	{NULL, 0},
};

static const char flag_letters[] = "FSRPAUEC";

static int option_number(const char *value, uint64_t max, uint64_t *number)
{
	return text_number(value, max, number);
}

int spec_vlan(struct spec *spec, const char *value)
{
	char *copy = strdup(value), *rest = copy, *id;
	uint64_t number;
	int err = 0;

	spec->vlans = 0;
	while (!err && (id = strsep(&rest, ","))) {
		err = spec->vlans == VLANS_MAX || option_number(id, 4095, &number) ? -1 : 0;
		if (!err)
			spec->vlan[spec->vlans++] = number;
	}
	free(copy);
	return err;
}

static int set_seq(struct spec *spec, const char *value)
{
	return text_sequence(value, &spec->seq);
}

static int set_ack(struct spec *spec, const char *value)
{
	return text_sequence(value, &spec->ack);
}

static int set_flags(struct spec *spec, const char *value)
{
	spec->flags = 0;
	for (; *value; value++) {
		const char *letter = strchr(flag_letters, toupper((unsigned char)*value));
		char name[2] = {*value};

		if (!letter)
			return -1;
		spec->flags |= 1 << (letter - flag_letters);
		element("flag", name, name);
	}
	return 0;
}

#define SET_NUMBER(field, max)                                       \
	static int set_##field(struct spec *spec, const char *value) \
	{                                                            \
		uint64_t number;                                     \
                                                                     \
		if (option_number(value, max, &number))              \
			return -1;                                   \
		spec->field = number;                                \
		return 0;                                            \
	}

SET_NUMBER(win, 65535)
SET_NUMBER(type, 255)
SET_NUMBER(code, 255)
SET_NUMBER(id, 65535)
SET_NUMBER(proto, 255)
SET_NUMBER(ttl, 255)
SET_NUMBER(tos, 255)
SET_NUMBER(ipid, UINT32_MAX)
SET_NUMBER(pad, 2048)
SET_NUMBER(doff, 15)

static int set_opt(struct spec *spec, const char *value)
{
	return spec_options(value, spec->opt, &spec->opt_len);
}

static int set_data(struct spec *spec, const char *value)
{
	return text_bytes(value, &spec->data, &spec->data_len);
}

static int set_csum(struct spec *spec, const char *value)
{
	if (!strcmp(value, "bad"))
		spec->csum = CSUM_BAD;
	else if (!strcmp(value, "0") && spec->kind == KIND_UDP)
		spec->csum = CSUM_ZERO;
	else
		return -1;
	return 0;
}

static int set_ipopt(struct spec *spec, const char *value)
{
	uint8_t *bytes;

	if (text_hex(value, &bytes, &spec->ipopt_len))
		return -1;
	if (spec->ipopt_len <= sizeof(spec->ipopt))
		memcpy(spec->ipopt, bytes, spec->ipopt_len);
	free(bytes);
	return spec->ipopt_len <= sizeof(spec->ipopt) ? 0 : -1;
}

static int set_frag(struct spec *spec, const char *value)
{
	char *copy = strdup(value);
	char *more = strchr(copy, ',');
	uint64_t number;
	int err = 0;

	if (more) {
		*more++ = 0;
		element("frag", "more", value);
	}
	if (option_number(copy, 65528, &number) || number % 8 || (more && strcmp(more, "more")))
		err = -1;
	spec->frag_off = number;
	spec->frag_more = more;
	free(copy);
	return err;
}

static int set_ext(struct spec *spec, const char *value)
{
	char *copy = strdup(value), *rest = copy, *name;
	int err = 0;

	while (!err && (name = strsep(&rest, ",/+"))) {
		const struct spec_ext *ext = spec_exts;

		while (ext->name && strcmp(ext->name, name))
			ext++;
		if (!ext->name || spec->exts == EXTS_MAX - 1)
			err = -1;
		else
			spec->ext[spec->exts++] = ext->number, element("ext", name, name);
	}
	free(copy);
	return err;
}

static int set_smac(struct spec *spec, const char *value)
{
	return text_mac(value, spec->smac);
}

static int set_dmac(struct spec *spec, const char *value)
{
	return text_mac(value, spec->dmac);
}

static const struct option {
	const char *name;
	int (*set)(struct spec *spec, const char *value);
	enum field field;
	unsigned int kinds;
} options[] = {
	{"vlan", spec_vlan, FIELD_VLAN, OF_ALL | OF_OPEN},
	{"seq", set_seq, FIELD_SEQ, OF_TCP | OF_ICMP},
	{"ack", set_ack, FIELD_ACK, OF_TCP},
	{"fl", set_flags, FIELD_FLAGS, OF_TCP},
	{"win", set_win, FIELD_WIN, OF_TCP},
	{"opt", set_opt, FIELD_OPT, OF_TCP},
	{"data", set_data, FIELD_DATA, OF_L3},
	{"csum", set_csum, FIELD_CSUM, OF_TCP | OF_UDP | OF_ICMP},
	{"type", set_type, FIELD_TYPE, OF_ICMP},
	{"code", set_code, FIELD_CODE, OF_ICMP},
	{"id", set_id, FIELD_ID, OF_ICMP},
	{"proto", set_proto, FIELD_PROTO, OF_IP},
	{"ttl", set_ttl, FIELD_TTL, OF_L3 | OF_OPEN},
	{"tos", set_tos, FIELD_TOS, OF_L3 | OF_OPEN},
	{"ipid", set_ipid, FIELD_IPID, OF_L3 | OF_OPEN},
	{"ipopt", set_ipopt, FIELD_IPOPT, OF_L3 | OF_OPEN},
	{"frag", set_frag, FIELD_FRAG, OF_L3 | OF_OPEN},
	{"ext", set_ext, FIELD_EXT, OF_L3 | OF_OPEN},
	{"pad", set_pad, FIELD_PAD, OF_ALL | OF_OPEN},
	{"smac", set_smac, FIELD_SMAC, OF_ALL | OF_OPEN},
	{"dmac", set_dmac, FIELD_DMAC, OF_ALL | OF_OPEN},
	{"doff", set_doff, FIELD_DOFF, OF_TCP},
};

static unsigned int put32(uint8_t *to, uint32_t value)
{
	to[0] = value >> 24;
	to[1] = value >> 16;
	to[2] = value >> 8;
	to[3] = value;
	return 4;
}

/* `A,B` or `A-B` after a TCP option's name. */
static int two_numbers(const char *text, char between, uint32_t *a, uint32_t *b)
{
	char *copy = strdup(text);
	char *second = strchr(copy, between);
	int err = -1;

	if (second) {
		*second++ = 0;
		err = text_sequence(copy, a) || text_sequence(second, b) ? -1 : 0;
	}
	free(copy);
	return err;
}

static int sack_option(const char *value, uint8_t *to, unsigned int *len)
{
	char *copy = strdup(value ? value : ""), *rest = copy, *block;
	unsigned int at = 2;
	uint32_t a, b;
	int err = 0;

	while (!err && (block = strsep(&rest, ","))) {
		err = at > 26 || two_numbers(block, '-', &a, &b) ? -1 : 0;
		if (!err) {
			at += put32(to + at, a);
			at += put32(to + at, b);
		}
	}
	to[0] = 5;
	to[1] = at;
	*len = at;
	free(copy);
	return err;
}

/* Options that have no name here, byte by byte. */
static int hex_option(const char *value, uint8_t *to, unsigned int *len)
{
	uint8_t *bytes;

	if (!value || text_hex(value, &bytes, len))
		return -1;
	if (*len <= 40)
		memcpy(to, bytes, *len);
	free(bytes);
	return *len && *len <= 40 ? 0 : -1;
}

static int nop_option(const char *value, uint8_t *to, unsigned int *len)
{
	to[0] = 1;
	*len = 1;
	return value ? -1 : 0;
}

static int sackok_option(const char *value, uint8_t *to, unsigned int *len)
{
	memcpy(to, "\x04\x02", *len = 2);
	return value ? -1 : 0;
}

static int mss_option(const char *value, uint8_t *to, unsigned int *len)
{
	uint64_t number;

	if (!value || text_number(value, 65535, &number))
		return -1;
	memcpy(to, (uint8_t[]){2, 4, number >> 8, number}, *len = 4);
	return 0;
}

static int ws_option(const char *value, uint8_t *to, unsigned int *len)
{
	uint64_t number;

	if (!value || text_number(value, 255, &number))
		return -1;
	memcpy(to, (uint8_t[]){3, 3, number}, *len = 3);
	return 0;
}

static int ts_option(const char *value, uint8_t *to, unsigned int *len)
{
	uint32_t a, b;

	if (!value || two_numbers(value, ',', &a, &b))
		return -1;
	memcpy(to, "\x08\x0a", 2);
	*len = 2 + put32(to + 2, a);
	*len += put32(to + *len, b);
	return 0;
}

static const struct tcp_option {
	const char *name;
	int (*put)(const char *value, uint8_t *to, unsigned int *len);
} tcp_options[] = {
	{"mss", mss_option}, {"ws", ws_option},     {"sackok", sackok_option},
	{"ts", ts_option},   {"sack", sack_option}, {"nop", nop_option},
	{"hex", hex_option},
};

static int one_option(const char *name, const char *value, uint8_t *to, unsigned int *len)
{
	for (unsigned int i = 0; i < sizeof(tcp_options) / sizeof(tcp_options[0]); i++) {
		if (strcmp(tcp_options[i].name, name))
			continue;
		element("opt", name, value ? value : "");
		return tcp_options[i].put(value, to, len);
	}
	return -1;
}

int spec_options(const char *list, uint8_t *opt, unsigned int *opt_len)
{
	char *copy = strdup(list), *rest = copy, *item;
	uint8_t bytes[64];
	unsigned int len;
	int err = 0;

	*opt_len = 0;
	/* `opt=` alone: none */
	if (!*list)
		rest = NULL;
	while (!err && (item = strsep(&rest, "/"))) {
		char *value = strchr(item, ':');

		if (value)
			*value++ = 0;
		err = one_option(item, value, bytes, &len);
		if (err || *opt_len + len > 40) {
			err = -1;
			break;
		}
		memcpy(opt + *opt_len, bytes, len);
		*opt_len += len;
	}
	free(copy);
	return err;
}

static int parse_option(struct text *text, char *word, struct spec *spec, bool pattern)
{
	char *value = strchr(word, '=');

	*value++ = 0;
	for (unsigned int i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		const struct option *option = &options[i];

		if (strcmp(option->name, word))
			continue;
		if (!(option->kinds & 1 << spec->kind))
			return text_fail(text, "%s= does not belong here", word);
		if (spec->set & option->field && option->field != FIELD_EXT)
			return text_fail(text, "%s= is written twice", word);
		if (option->set(spec, value))
			return text_fail(text, "%s=%s: not a value of it", word, value);
		element(pattern ? "pattern" : "frame", word, value);
		if (option->field == FIELD_CSUM)
			element("csum", value, value);
		if (pattern && spec->csum == CSUM_BAD)
			return text_fail(text, "csum=bad is for input only");
		spec->set |= option->field;
		return 0;
	}
	return text_fail(text, "no option %s=", word);
}

static int parse_arp(struct text *text, struct spec *spec, bool pattern)
{
	const char *before = text->at;
	char *op = text_word(text), *from = NULL, *to = NULL;
	int err = 0;

	if (pattern && (!op || strchr(op, '='))) {
		text->at = before;
		free(op);
		return 0;
	}
	if (op && !strcmp(op, "request"))
		spec->op = 1;
	else if (op && !strcmp(op, "reply"))
		spec->op = 2;
	else
		err = text_fail(text, "arp: request or reply");
	spec->set |= FIELD_OP;
	element("arp", op, op);
	before = text->at;
	from = err ? NULL : text_word(text);
	to = from ? text_word(text) : NULL;
	/* A pattern may stop behind the operation. */
	if (pattern && from && strchr(from, '=')) {
		text->at = before;
		free(from);
		free(to);
		from = to = NULL;
	}
	if (!err &&
	    (!to ? !pattern || from :
		   text_address(from, &spec->flow.src) || text_address(to, &spec->flow.dst) ||
			     spec->flow.src.family != AF_INET ||
			     spec->flow.dst.family != AF_INET))
		err = text_fail(text, "arp: two IPv4 addresses");
	if (to)
		spec->set |= FIELD_FLOW;
	free(op);
	free(from);
	free(to);
	return err;
}

/* A whole frame in hex, in one word or in several. */
static int parse_raw(struct text *text, const char *word, struct spec *spec)
{
	char *all = strdup(word ? word : ""), *more, *both;
	const char *before = text->at;
	int err;

	while ((more = text_word(text)) && !strchr(more, '=')) {
		if (asprintf(&both, "%s%s", all, more) < 0)
			both = strdup("");
		free(all);
		free(more);
		all = both;
		before = text->at;
	}
	free(more);
	text->at = before;
	err = text_hex(all, &spec->data, &spec->data_len) || spec->data_len < 14;
	free(all);
	return err ? text_fail(text, "raw: a whole frame in hex, 14 bytes or more") : 0;
}

/* The word behind the protocol's name, which is a flow (or raw's bytes). */
static int parse_flow(struct text *text, struct spec *spec, bool pattern)
{
	bool ports = spec->kind == KIND_TCP || spec->kind == KIND_UDP;
	const char *before = text->at;
	char *word = text_word(text);
	int err = 0;

	if (spec->kind == KIND_RAW) {
		err = parse_raw(text, word, spec);
	} else if (word && strchr(word, '>')) {
		element(pattern ? "pattern" : "frame", "FLOW", word);
		if (text_flow(word, ports, &spec->flow))
			err = text_fail(text, "%s: not %s", word,
					ports ? "ADDR:PORT>ADDR:PORT" : "ADDR>ADDR");
		spec->set |= FIELD_FLOW;
	} else if (pattern) {
		text->at = before;
	} else {
		err = text_fail(text, "a flow is missing");
	}
	free(word);
	return err;
}

static int check_spec(struct text *text, const struct spec *spec, bool pattern)
{
	int family = spec->flow.src.family;

	if (!(spec->set & FIELD_FLOW))
		return 0;
	if ((spec->kind == KIND_ICMP && family != AF_INET) ||
	    (spec->kind == KIND_ICMP6 && family != AF_INET6))
		return text_fail(text, "icmp is of IPv4, icmp6 of IPv6");
	if (family == AF_INET6 ? spec->set & FIELD_IPOPT : spec->set & FIELD_EXT)
		return text_fail(text, "ipopt= is of IPv4, ext= of IPv6");
	if (spec->kind == KIND_IP && !pattern && !(spec->set & FIELD_PROTO))
		return text_fail(text, "ip: proto= is missing");
	if (family == AF_INET && spec->ipid > 65535)
		return text_fail(text, "ipid= of IPv4 has 16 bits");
	return 0;
}

static int parse_kind(struct text *text, const char *word, struct spec *spec, bool pattern)
{
	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(kinds[i].name, word))
			continue;
		spec->kind = kinds[i].kind;
		element(pattern ? "pattern" : "frame", word, "");
		if (spec->kind == KIND_ANY)
			return pattern ? 0 : text_fail(text, "any is a pattern, not a frame");
		if (spec->kind == KIND_ARP)
			return parse_arp(text, spec, pattern);
		return parse_flow(text, spec, pattern);
	}
	return text_fail(text, "%s: not a protocol or an option", word);
}

int spec_parse(struct text *text, bool pattern, struct spec *spec)
{
	bool named = false;
	char *word;
	int err = 0;

	memset(spec, 0, sizeof(*spec));
	spec->kind = KIND_OPEN;
	while (!err && (word = text_word(text))) {
		if (strchr(word, '=') && !strchr(word, '>'))
			err = parse_option(text, word, spec, pattern);
		else if (!named)
			err = parse_kind(text, word, spec, pattern), named = true;
		else
			err = text_fail(text, "%s: not an option", word);
		free(word);
	}
	if (!err && !named && (!pattern || !spec->set))
		err = text_fail(text, pattern ? "a pattern is missing" : "a frame is missing");
	return err ? err : check_spec(text, spec, pattern);
}

/* ---- for `--elements`: all that the tables above know -------------------- */

static void list_option(const struct option *option)
{
	element_of("frame", option->name);
	element_of("pattern", option->name);
	if (option->field != FIELD_CSUM)
		return;
	element_of("csum", "bad");
	element_of("csum", "0");
}

void spec_list(void)
{
	static const char *const rest[][2] = {
		{"arp", "request"}, {"arp", "reply"}, {"frag", "more"}, {"data", "A:N"},
		{"data", "A[i:j]"}, {"data", "hex"},  {"data", "+"},
	};

	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (kinds[i].kind != KIND_ANY)
			element_of("frame", kinds[i].name);
		element_of("pattern", kinds[i].name);
	}
	for (unsigned int i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		list_option(&options[i]);
	for (unsigned int i = 0; i < sizeof(rest) / sizeof(rest[0]); i++)
		element_of(rest[i][0], rest[i][1]);
	element_of("frame", "FLOW");
	element_of("pattern", "FLOW");
	for (unsigned int i = 0; i < sizeof(tcp_options) / sizeof(tcp_options[0]); i++)
		element_of("opt", tcp_options[i].name);
	for (const struct spec_ext *ext = spec_exts; ext->name; ext++)
		element_of("ext", ext->name);
	for (const char *letter = flag_letters; *letter; letter++)
		element_of("flag", (char[]){*letter, 0});
}
