// SPDX-License-Identifier: GPL-2.0-only
/*
 * A scenario: both guests of a primary go on in turns, S's frames cross a link
 * that delays, loses, doubles and reorders them, and checkpoints make S P's copy.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generate.h"

const char *const domain_names[DOMAINS] = {
	[DOMAIN_TCP] = "TCP",
	[DOMAIN_LINK] = "TCP, a bad link",
	[DOMAIN_LIVES] = "TCP, SYN, FIN, RST, tuples again",
	[DOMAIN_GSO] = "TCP, up to 64 KB a frame",
	[DOMAIN_DATAGRAMS] = "datagrams of all kinds",
	[DOMAIN_FRAGMENTS] = "fragments",
	[DOMAIN_MIXED] = "all at once",
	[DOMAIN_TIME] = "time-outs, gaps, idle flows",
	[DOMAIN_FULL] = "full tables",
	[DOMAIN_RULES] = "policy and passthrough",
	[DOMAIN_SECONDARY] = "the secondary's numbers",
};

/* ---- frames --------------------------------------------------------------------- */

static void print_p(struct maker *m, const char *text)
{
	fprintf(m->to, "P %s\n", text);
}

static void send_p(struct maker *m, char *text)
{
	char *late = m->p_late;

	if (!late && !m->alone && chance(m->k.p_reorder)) {
		m->p_late = text;
		return;
	}
	print_p(m, text);
	free(text);
	if (late)
		print_p(m, late);
	m->p_late = NULL;
	free(late);
}

void flush_p(struct maker *m)
{
	if (m->p_late)
		print_p(m, m->p_late);
	free(m->p_late);
	m->p_late = NULL;
}

static void take_off(struct maker *m, unsigned int i)
{
	free(m->wire[i].text);
	m->on_wire--;
	memmove(&m->wire[i], &m->wire[i + 1], (m->on_wire - i) * sizeof(m->wire[0]));
}

/* One of S's frames comes; what is older than the epoch before nobody waits for. */
static void deliver(struct maker *m)
{
	unsigned int i = chance(m->k.reorder) ? below(m->on_wire) : 0;
	int diff = (int)m->wire[i].epoch - (int)m->epoch;

	if (diff >= -1) {
		if (!m->alone && chance(m->k.loss))
			fprintf(m->to, "link drop 1\n");
		fprintf(m->to, "S%s %s\n",
			diff < 0 ? "@-1" :
			diff     ? "@+1" :
				   "",
			m->wire[i].text);
		if (chance(m->k.twice))
			return;
	}
	take_off(m, i);
}

static void send_s(struct maker *m, char *text)
{
	if (m->on_wire == WIRE_MAX)
		deliver(m);
	if (m->on_wire == WIRE_MAX)
		take_off(m, 0);
	m->wire[m->on_wire].text = text;
	m->wire[m->on_wire++].epoch = m->epoch + m->stopped;
	if (!chance(m->k.delay))
		deliver(m);
}

void emit(struct maker *m, int side, const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		abort();
	va_end(args);
	if (side == OF_P)
		send_p(m, text);
	else
		send_s(m, text);
}

const char *free_fields(const struct flow_maker *f, bool with_id)
{
	static char text[120];
	int len = 0;

	text[0] = 0;
	if (!f->v6 && with_id && chance(60))
		len += snprintf(text + len, sizeof(text) - len, " ipid=%u", below(65536));
	if (chance(20))
		len += snprintf(text + len, sizeof(text) - len, " ttl=%u", between(2, 255));
	if (chance(10))
		snprintf(text + len, sizeof(text) - len, " tos=%u", below(256));
	return text;
}

/* ---- flows ------------------------------------------------------------------------ */

static void add_flow(struct maker *m)
{
	struct flow_maker *f = &m->flow[m->flows];

	memset(f, 0, sizeof(*f));
	f->tcp = chance(m->k.tcp);
	f->v6 = chance(30);
	f->name = 'A' + m->flows;
	f->fragments = chance(m->k.fragments);
	if (f->tcp)
		tcp_begin(m, f);
	else
		datagram_begin(f, m->flows);
	m->flows++;
}

static void send(struct maker *m, struct flow_maker *f, int side)
{
	if (f->tcp)
		tcp_send(m, f, side);
	else
		datagram_send(m, f, side);
}

static void copy(struct flow_maker *f)
{
	if (f->tcp)
		tcp_copy(f);
	f->sent[OF_S] = f->sent[OF_P];
	f->id[OF_S] = f->id[OF_P];
	f->difference = SAME;
	f->drawn = false;
}

/*
 * A checkpoint: P stops, S becomes its copy and may be heard of again before
 * the commit, frames of its life before may come at any time.
 */
static void checkpoint(struct maker *m)
{
	flush_p(m);
	for (unsigned int i = 0; i < m->flows; i++)
		copy(&m->flow[i]);
	m->stopped = true;
	while (chance(m->k.early)) {
		if (m->on_wire && chance(40))
			deliver(m);
		else
			send(m, &m->flow[below(m->flows)], OF_S);
	}
	fprintf(m->to, "commit\n");
	m->stopped = false;
	m->epoch++;
}

static void send_client(struct maker *m)
{
	static const char *const frames[] = {
		"tcp 10.9.0.1:5000>10.9.0.10:80 seq=%u ack=1 fl=A data=C:%u",
		"udp 10.9.0.1:5000>10.9.0.10:53 ipid=%u data=C:%u",
		"tcp [fd00::1]:5000>[fd00::10]:80 seq=%u ack=1 fl=A data=C:%u",
		"vlan=5 icmp 10.9.0.1>10.9.0.10 type=8 code=0 id=%u data=C:%u",
	};
	char format[120];

	snprintf(format, sizeof(format), "C %s\n", frames[below(4)]);
	fprintf(m->to, format, below(65536), below(500));
}

/* What cannot be followed, and what passes. */
static void send_odd(struct maker *m)
{
	static const char *const frames[] = {
		"tcp 10.9.0.10:80>10.9.0.1:5000 seq=1 ack=1 fl=A doff=15 data=O:8",
		"tcp [fd00::10]:80>[fd00::1]:5000 seq=1 ack=1 fl=A doff=3",
		"raw 02000000000102000000001008004500ffff",
		"arp request 10.9.0.10 10.9.0.1",
		"vlan=7 arp reply 10.9.0.10 10.9.0.1",
		"icmp6 fd00::10>fd00::1 type=135 code=0 data=O:16",
		"ip 10.9.0.10>224.0.0.22 proto=2 data=O:8",
	};
	unsigned int which = below(sizeof(frames) / sizeof(frames[0]));

	emit(m, chance(70) ? OF_P : OF_S, "%s", frames[which]);
}

static void wait(struct maker *m)
{
	static const unsigned int long_ones[] = {20, 60, 120, 210};

	flush_p(m);
	fprintf(m->to, "wait %u\n", chance(40) ? 10 : long_ones[below(4)]);
}

static void step(struct maker *m)
{
	struct flow_maker *f = &m->flow[below(m->flows)];

	if (chance(m->k.commits)) {
		checkpoint(m);
	} else if (chance(m->k.waits)) {
		wait(m);
	} else if (chance(m->k.odd)) {
		send_odd(m);
	} else if (chance(2)) {
		send_client(m);
	} else if (m->on_wire && chance(30)) {
		deliver(m);
	} else {
		send(m, f, chance(50) ? OF_P : OF_S);
	}
}

/* Nothing stays on the link, and S shows what P has shown. */
static void catch_up(struct maker *m)
{
	flush_p(m);
	for (unsigned int i = 0; i < m->flows; i++) {
		struct flow_maker *f = &m->flow[i];

		for (unsigned int n = 0; n < 12; n++) {
			if (f->tcp ? !tcp_behind(f) : f->sent[OF_S] >= f->sent[OF_P])
				break;
			send(m, f, OF_S);
		}
	}
	for (unsigned int n = 0; m->on_wire && n < 2 * WIRE_MAX; n++)
		deliver(m);
}

static void fail_over(struct maker *m)
{
	flush_p(m);
	fprintf(m->to, "failover\n");
	m->alone = true;
	for (unsigned int n = below(8); n; n--) {
		if (m->on_wire && chance(40))
			deliver(m);
		else if (chance(10))
			send_client(m);
		else
			send(m, &m->flow[below(m->flows)], chance(80) ? OF_P : OF_S);
	}
}

/* ---- scenarios --------------------------------------------------------------------- */

static const struct knobs usual = {
	.flows = 2,
	.steps = 30,
	.delay = 35,
	.reorder = 15,
	.twice = 5,
	.p_reorder = 6,
	.again = 15,
	.differs = 15,
	.commits = 4,
	.early = 45,
	.failovers = 5,
	.handshakes = 40,
	.ends = 10,
	.lives = 1,
	.tcp = 100,
	.odd = 1,
	.catch_up = 60,
};

static struct knobs draw_knobs(enum domain domain)
{
	struct knobs k = usual;

	k.offloads = chance(25);
	k.flows = chance(60) ? 1 : between(2, 4);
	k.steps = between(8, 45);
	switch (domain) {
	case DOMAIN_LINK:
		k.delay = 60;
		k.reorder = 50;
		k.twice = 20;
		k.again = 40;
		k.loss = chance(50) ? 10 : 0;
		k.p_reorder = 15;
		k.differs = 8;
		k.waits = chance(30) ? 3 : 0;
		break;
	case DOMAIN_LIVES:
		k.handshakes = 90;
		k.ends = 70;
		k.lives = 30;
		k.s_first = 15;
		k.reorder = chance(50) ? 0 : 10;
		break;
	case DOMAIN_GSO:
		k.offloads = k.gso = true;
		k.flows = chance(80) ? 1 : 2;
		k.steps = between(6, 18);
		break;
	case DOMAIN_DATAGRAMS:
		k.tcp = 0;
		k.flows = between(1, 4);
		k.waits = chance(40) ? 5 : 0;
		break;
	case DOMAIN_FRAGMENTS:
		k.tcp = 20;
		k.fragments = 90;
		k.waits = chance(20) ? 4 : 0;
		break;
	case DOMAIN_MIXED:
		k.tcp = 55;
		k.fragments = 15;
		k.flows = between(3, 8);
		k.steps = between(20, 60);
		k.odd = 3;
		k.lives = 8;
		k.handshakes = 60;
		k.ends = 30;
		k.loss = chance(20) ? 4 : 0;
		k.waits = chance(20) ? 2 : 0;
		break;
	case DOMAIN_TIME:
		k.tcp = 60;
		k.waits = 15;
		k.loss = chance(50) ? 8 : 0;
		k.ends = 40;
		break;
	case DOMAIN_FULL:
		k.tcp = 65;
		k.fragments = 5;
		k.flows = between(1, FLOWS_MAX);
		k.steps = between(40, 110);
		k.delay = 70;
		k.commits = 2;
		k.differs = 30;
		break;
	case DOMAIN_SECONDARY:
		k.loss = chance(20) ? 5 : 0;
		k.offloads = chance(40);
		break;
	case DOMAIN_RULES:
		k.tcp = 50;
		k.flows = between(2, 6);
		k.fragments = 10;
		k.odd = 6;
		break;
	default:
		break;
	}
	return k;
}

/* Tables that the usual scenario does not fill. */
static void print_sizes(struct maker *m)
{
	fprintf(m->to, "set max_flows 16\nset max_frames 64\n");
	fprintf(m->to, "set small_blocks 48\nset big_blocks 12\n");
	fprintf(m->to, "set compare_timeout_ms 100\nset reorder_ms 10\n");
	fprintf(m->to, "set reorder_window %u\n", chance(60) ? 8 : between(1, 12));
	if (m->domain == DOMAIN_FULL && chance(60))
		fprintf(m->to, "set queue_max %u\n", between(2, 12));
	if (m->domain == DOMAIN_TIME && chance(40))
		fprintf(m->to, "set flow_grace_ms 50\nset flow_idle_ms 200\n");
	if (m->k.offloads)
		fprintf(m->to, "set offloads on\n");
}

static void print_rules(struct maker *m)
{
	static const char *const classes[] = {"tcp",   "udp",      "icmp",
					      "icmp6", "ip_other", "eth_other"};
	static const char *const through[] = {
		"passthrough.protocol 6",        "passthrough.protocol 17",
		"passthrough.protocol 47",       "passthrough.guest_port 80",
		"passthrough.guest_port 53-60",  "passthrough.client 10.9.0.0/31",
		"passthrough.client fd00::/127",
	};

	for (unsigned int i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		if (chance(25))
			fprintf(m->to, "set policy.%s %s\n", classes[i],
				chance(60) ? "pass" : "drop");
	}
	if (chance(40))
		fprintf(m->to, "set policy.arp %s\n", chance(60) ? "compare" : "drop");
	if (chance(60))
		fprintf(m->to, "set %s\n",
			through[below(sizeof(through) / sizeof(through[0]))]);
}

static enum domain draw_domain(void)
{
	static const struct {
		enum domain domain;
		unsigned int percent;
	} share[] = {
		{DOMAIN_TCP, 18},  {DOMAIN_LINK, 12},      {DOMAIN_LIVES, 16},
		{DOMAIN_GSO, 5},   {DOMAIN_DATAGRAMS, 11}, {DOMAIN_FRAGMENTS, 5},
		{DOMAIN_MIXED, 8}, {DOMAIN_TIME, 6},       {DOMAIN_FULL, 5},
		{DOMAIN_RULES, 4}, {DOMAIN_SECONDARY, 10},
	};
	unsigned int at = below(100), i = 0;

	while (at >= share[i].percent)
		at -= share[i++].percent;
	return share[i].domain;
}

static void make(struct maker *m, uint64_t seed)
{
	fprintf(m->to, "case seed %llu: %s\n", (unsigned long long)seed,
		domain_names[m->domain]);
	m->k = draw_knobs(m->domain);
	if (m->domain == DOMAIN_SECONDARY) {
		generate_secondary(m);
		return;
	}
	print_sizes(m);
	if (m->domain == DOMAIN_RULES)
		print_rules(m);
	while (m->flows < m->k.flows)
		add_flow(m);
	for (unsigned int i = 0; i < m->k.steps; i++)
		step(m);
	if (chance(m->k.catch_up))
		catch_up(m);
	if (chance(m->k.waits))
		wait(m);
	if (chance(m->k.failovers))
		fail_over(m);
	flush_p(m);
}

char *generate(uint64_t seed, enum domain *domain)
{
	struct maker *m = calloc(1, sizeof(*m));
	char *text = NULL;
	size_t size = 0;

	random_seed(seed);
	m->to = open_memstream(&text, &size);
	m->domain = *domain = draw_domain();
	m->epoch = 1;
	make(m, seed);
	fclose(m->to);
	while (m->on_wire)
		take_off(m, 0);
	free(m->p_late);
	free(m);
	return text;
}
