// SPDX-License-Identifier: GPL-2.0-only
/*
 * A scenario on a secondary: clients speak with the primary's guest, its copy
 * answers in numbers of its own, and what the primary says of its SYNs comes
 * early or late.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generate.h"

#define CONNECTIONS 4

/* One tuple, and the life of it that goes on. */
struct connection {
	char out[100], in[100]; /* flow of the guest's frames, of the client's */
	char tag[16], ext[24];
	bool v6, gso;
	bool active; /* the guest opens */
	bool stamps, sack;
	/* the numbers of both guests and of the client */
	uint32_t p_isn, s_isn, c_isn, p_clock, s_clock, c_clock;
	bool begun, said, answered; /* the client's SYN, the primary's, the guest's were sent */
	bool same;                  /* the guest is the primary's copy: its numbers */
	bool own;                   /* ... alone, and it has told the client nothing else */
	bool dead;
	unsigned int sent, client_sent; /* bytes */
	unsigned int acked;             /* of the client's, by the guest */
	unsigned int time;              /* of all clocks */
	uint32_t told;                  /* the primary's clock, as far as the client knows */
};

static void draw_numbers(struct connection *c)
{
	c->p_isn = chance(20) ? 0U - below(3000) : any();
	c->s_isn = chance(20) ? 0U - below(3000) : any();
	if (chance(5))
		c->s_isn = c->p_isn;
	c->c_isn = chance(20) ? 0U - below(3000) : any();
	c->p_clock = chance(20) ? 0U - below(3000) : any();
	c->s_clock = any();
	c->c_clock = any();
}

/* The tuple again, with other numbers. */
static void next_life(struct connection *c)
{
	struct connection old = *c;

	memset(c, 0, sizeof(*c));
	memcpy(c->out, old.out, sizeof(c->out));
	memcpy(c->in, old.in, sizeof(c->in));
	memcpy(c->tag, old.tag, sizeof(c->tag));
	memcpy(c->ext, old.ext, sizeof(c->ext));
	c->v6 = old.v6;
	c->gso = old.gso;
	c->active = chance(30);
	c->stamps = chance(50);
	c->sack = chance(50);
	draw_numbers(c);
}

static void draw_connection(struct maker *m, struct connection *c, unsigned int i)
{
	static const char *const tags[] = {"", "", "", "vlan=5 ", "vlan=9,5 "};

	c->v6 = chance(30);
	c->gso = m->k.gso;
	snprintf(c->tag, sizeof(c->tag), "%s", tags[below(5)]);
	if (c->v6 && chance(20) && !c->gso)
		snprintf(c->ext, sizeof(c->ext), " ext=dst");
	else if (!c->v6 && chance(10) && !c->gso)
		snprintf(c->ext, sizeof(c->ext), " ipopt=94040000");
	snprintf(c->out, sizeof(c->out),
		 c->v6 ? "[fd00::10]:80>[fd00::1]:%u" : "10.9.0.10:80>10.9.0.1:%u", 5000 + i);
	snprintf(c->in, sizeof(c->in),
		 c->v6 ? "[fd00::1]:%u>[fd00::10]:80" : "10.9.0.1:%u>10.9.0.10:80", 5000 + i);
	next_life(c);
	/* Older than the epoch. */
	if (chance(20)) {
		c->begun = c->said = c->answered = c->same = true;
		c->sent = below(5000);
		c->client_sent = below(5000);
		c->told = c->p_clock;
	}
}

/* ---- frames ----------------------------------------------------------------------- */

static void options(const struct connection *c, uint32_t value, uint32_t echo, bool syn,
		    char *to, size_t size)
{
	const char *first = syn ? "mss:1460" : "";
	char stamp[40] = "";

	if (c->stamps)
		snprintf(stamp, sizeof(stamp), "%sts:%u,%u", syn ? "/" : "nop/nop/", value,
			 echo);
	snprintf(to, size, " opt=%s%s%s", first, syn && c->sack ? "/sackok" : "", stamp);
	if (!syn && !c->stamps)
		to[0] = 0;
}

/* Its clock, in the guest's numbers or in those that the client sees. */
static uint32_t guest_clock(const struct connection *c)
{
	return (c->same ? c->p_clock : c->s_clock) + c->time;
}

static void guest(struct maker *m, struct connection *c, uint32_t at, const char *flags,
		  unsigned int from, unsigned int until)
{
	uint32_t isn = c->same ? c->p_isn : c->s_isn;
	char opt[80], data[40] = "";

	options(c, guest_clock(c), c->c_clock + c->time, strchr(flags, 'S'), opt, sizeof(opt));
	if (until > from)
		snprintf(data, sizeof(data), " data=G[%u:%u]", from, until);
	fprintf(m->to, "G %stcp %s%s seq=%u ack=%u fl=%s win=%u%s%s\n", c->tag, c->out, c->ext,
		isn + at, strchr(flags, 'A') ? c->c_isn + 1 + c->acked : 0, flags, below(65536),
		opt, data);
	if (!m->alone)
		c->told = c->p_clock + c->time;
}

static void client(struct maker *m, struct connection *c, uint32_t seq, uint32_t at,
		   const char *flags, unsigned int from, unsigned int until)
{
	uint32_t isn = c->own ? c->s_isn : c->p_isn, echo = c->told - below(3);
	char opt[160], data[40] = "";
	unsigned int len;

	options(c, c->c_clock + c->time, strchr(flags, 'A') ? echo : 0, strchr(flags, 'S'), opt,
		sizeof(opt));
	if (c->sack && strcmp(flags, "A") == 0 && from == until && chance(40)) {
		len = strlen(opt);
		snprintf(opt + len, sizeof(opt) - len, "%snop/nop/sack:%u-%u",
			 len ? "/" : " opt=", isn + at + 100, isn + at + 300);
		len = strlen(opt);
		if (chance(50))
			snprintf(opt + len, sizeof(opt) - len, ",%u-%u", isn + at + 500,
				 isn + at + 501);
	}
	if (until > from)
		snprintf(data, sizeof(data), " data=C[%u:%u]", from, until);
	if (!m->alone && chance(m->k.loss))
		fprintf(m->to, "link drop 1\n");
	fprintf(m->to, "C %stcp %s%s seq=%u ack=%u fl=%s win=%u%s%s\n", c->tag, c->in, c->ext,
		seq, strchr(flags, 'A') ? isn + at : 0, flags, below(65536), opt, data);
}

static void say(struct maker *m, struct connection *c)
{
	if (chance(m->k.loss))
		fprintf(m->to, "link drop 1\n");
	fprintf(m->to, "I %s%s isn=%u", c->tag, c->out, c->p_isn);
	if (c->stamps)
		fprintf(m->to, " tsval=%u", c->p_clock + below(3));
	fprintf(m->to, "\n");
	c->said = true;
}

/* ---- what goes on ------------------------------------------------------------------ */

static void open_more(struct maker *m, struct connection *c)
{
	if (!c->begun && !c->active) {
		client(m, c, c->c_isn, 0, "S", 0, 0);
		c->begun = true;
		/* Nothing listens there. */
		if (chance(5)) {
			fprintf(m->to, "G %stcp %s%s seq=0 ack=%u fl=RA\n", c->tag, c->out,
				c->ext, c->c_isn + 1);
			next_life(c);
		}
		return;
	}
	if (!c->said && !m->alone && chance(50)) {
		say(m, c);
		return;
	}
	if (!c->answered) {
		guest(m, c, 0, c->active ? "S" : "SA", 0, 0);
		c->answered = true;
		c->own = m->alone;
		return;
	}
	/* Said again, asked again; the client's may be early, which it cannot be. */
	if (chance(30) && !m->alone)
		say(m, c);
	else if (chance(40))
		guest(m, c, 0, c->active ? "S" : "SA", 0, 0);
	else if (!c->active && chance(50))
		client(m, c, c->c_isn, 0, "S", 0, 0);
	else if (chance(30))
		client(m, c, c->c_isn + (c->active ? 0 : 1), 1, c->active ? "SA" : "A", 0,
		       c->active ? 0 : below(2) * 10);
}

static unsigned int draw_len(const struct connection *c, bool offloads)
{
	return c->gso && offloads && chance(50) ? between(1, 60000) : between(1, 1300);
}

static void talk(struct maker *m, struct connection *c)
{
	unsigned int len = draw_len(c, m->k.offloads), from;

	c->time += below(20);
	switch (below(8)) {
	case 0:
	case 1:
		guest(m, c, 1 + c->sent, chance(30) ? "PA" : "A", c->sent, c->sent + len);
		c->sent += len;
		break;
	case 2: /* again, cut in another way */
		from = c->sent < 2000 ? 0 : c->sent - below(2000);
		len = c->sent - from > 1300 ? 1300 : c->sent - from;
		guest(m, c, 1 + from, "A", from, from + len);
		break;
	case 3:
		c->acked = between(c->acked, c->client_sent);
		guest(m, c, 1 + c->sent, "A", 0, 0);
		break;
	case 4:
	case 5:
		client(m, c, c->c_isn + 1 + c->client_sent, 1 + below(c->sent + 1),
		       chance(30) ? "PA" : "A", c->client_sent, c->client_sent + len);
		c->client_sent += len;
		break;
	case 6:
		from = c->client_sent < 1000 ? 0 : c->client_sent - below(1000);
		client(m, c, c->c_isn + 1 + from, 1 + below(c->sent + 1), "A", from,
		       c->client_sent > from + 1300 ? from + 1300 : c->client_sent);
		break;
	default:
		client(m, c, c->c_isn + 1 + c->client_sent, 1 + below(c->sent + 1), "A", 0, 0);
	}
}

/* Either side ends it; the tuple may be used again. */
static void close_it(struct maker *m, struct connection *c)
{
	const char *how = chance(50) ? "FA" : chance(50) ? "RA" : "R";

	if (chance(50))
		guest(m, c, 1 + c->sent, how, 0, 0);
	else
		client(m, c, c->c_isn + 1 + c->client_sent, 1 + below(c->sent + 1), how, 0, 0);
	if (*how == 'F' && chance(60)) {
		guest(m, c, 2 + c->sent, "A", 0, 0);
		client(m, c, c->c_isn + 2 + c->client_sent, 1 + c->sent, "FA", 0, 0);
	}
	next_life(c);
}

/* What a router or the guest has to say of a segment. */
static void complain(struct maker *m, const struct connection *c)
{
	uint32_t isn = c->own ? c->s_isn : c->p_isn, guests = c->same ? c->p_isn : c->s_isn;
	unsigned int port = 5000 + (atoi(strrchr(c->out, ':') + 1) - 5000);
	char v6[200];

	if (c->v6) {
		snprintf(v6, sizeof(v6),
			 "600000000014 0640fd00000000000000000000000000%s"
			 "fd00000000000000000000000000%s",
			 "0010", "0001");
		/* the same without its space */
		memmove(v6 + 12, v6 + 13, strlen(v6 + 13) + 1);
		fprintf(m->to,
			"C %sicmp6 fd00::1>fd00::10 type=2 code=0 data=hex:%s0050%04x%08x\n",
			c->tag, v6, port, isn + 1 + below(c->sent + 1));
	} else if (chance(70)) {
		fprintf(m->to,
			"C %sicmp 10.9.0.1>10.9.0.10 type=3 code=4 data=hex:"
			"450005dc000000004006609b0a09000a0a0900010050%04x%08x\n",
			c->tag, port, isn + 1 + below(c->sent + 1));
	} else {
		fprintf(m->to,
			"G %sicmp 10.9.0.10>10.9.0.1 type=3 code=3 data=hex:"
			"450005dc000000004006609b0a0900010a09000a%04x0050%08x%08x\n",
			c->tag, port, c->c_isn + 5, guests + 1 + below(c->sent + 1));
	}
}

static void send_other(struct maker *m)
{
	static const char *const frames[] = {
		"C udp 10.9.0.1:6000>10.9.0.10:53 data=U:40",
		"G udp 10.9.0.10:53>10.9.0.1:6000 data=U[40:90]",
		"C icmp 10.9.0.1>10.9.0.10 type=8 code=0 id=7 seq=1 data=U:8",
		"G icmp 10.9.0.10>10.9.0.1 type=0 code=0 id=7 seq=1 data=U:8",
		"G arp request 10.9.0.10 10.9.0.1",
		"C arp reply 10.9.0.1 10.9.0.10",
		"C vlan=5 udp [fd00::1]:6000>[fd00::10]:53 data=U:3",
		"G ip 10.9.0.10>10.9.0.1 proto=47 data=U:30",
		"G tcp 10.9.0.10:80>10.9.0.1:7000 seq=5 ack=1 fl=A doff=15",
	};

	fprintf(m->to, "%s\n", frames[below(sizeof(frames) / sizeof(frames[0]))]);
}

/* The guest becomes the primary's copy: what that has begun it has begun. */
static void become_copy(struct connection *c)
{
	if (c->said && c->begun + c->active) {
		c->same = true;
		/* ... and a SYN that was not acked it sends again. */
		return;
	}
	c->answered = c->said = c->same = false;
	if (c->active)
		c->begun = false;
	draw_numbers(c);
}

static void checkpoint(struct maker *m, struct connection *all, unsigned int count)
{
	if (!m->k.loss && chance(40))
		fprintf(m->to, "commit unread=%u\n", below(8));
	else
		fprintf(m->to, "commit\n");
	for (unsigned int i = 0; i < count; i++) {
		uint32_t c_isn = all[i].c_isn;

		become_copy(&all[i]);
		/* The client's number is what it was. */
		if (all[i].begun)
			all[i].c_isn = c_isn;
	}
}

static void fail_over(struct maker *m, struct connection *all, unsigned int count)
{
	fprintf(m->to, "failover\n");
	m->alone = true;
	for (unsigned int i = 0; i < count; i++)
		all[i].own = !all[i].said && !all[i].same;
}

void generate_secondary(struct maker *m)
{
	struct connection all[CONNECTIONS];
	unsigned int count = chance(60) ? 1 : between(2, CONNECTIONS);

	memset(all, 0, sizeof(all));
	m->k.gso = m->k.offloads && chance(50);
	fprintf(m->to, "side secondary\nset max_frames 256\nset small_blocks 160\n"
		       "set big_blocks 24\nset max_flows 32\n");
	if (m->k.offloads)
		fprintf(m->to, "set offloads on\n");
	for (unsigned int i = 0; i < count; i++)
		draw_connection(m, &all[i], i);
	for (unsigned int n = between(10, 60); n; n--) {
		struct connection *c = &all[below(count)];
		bool open = c->said && c->answered;

		if (chance(m->k.commits) && !m->alone)
			checkpoint(m, all, count);
		else if (chance(1) && !m->alone)
			fail_over(m, all, count);
		else if (chance(5))
			send_other(m);
		else if (chance(2))
			fprintf(m->to, "wait 10\n");
		else if (!open && !c->own)
			open_more(m, c);
		else if (chance(4))
			complain(m, c);
		else if (chance(6))
			close_it(m, c);
		else
			talk(m, c);
	}
}
