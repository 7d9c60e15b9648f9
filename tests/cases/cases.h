/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The packet cases: what a case file says, what a frame looks like, and what
 * a proxy under test has to offer. README.md has the language and the files.
 */
#ifndef CASES_H
#define CASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <colo/abi.h>

#define FRAME_MAX     65700 /* the largest GSO frame with tags and headers */
#define FRAME_MTU     1500  /* of the guest and of its clients */
#define FRAME_GSO     1448  /* gso_size of what is cut by the devices */
#define EXPECT_MS     100   /* an expectation waits that long */
#define QUIET_MS      20    /* `none` and `no request` look at that much quiet */
#define NSEC_PER_MSEC 1000000ULL

/* ---- a frame as it is written ------------------------------------------- */

enum kind {
	KIND_ANY,  /* `any` */
	KIND_OPEN, /* a pattern that names no protocol */
	KIND_TCP,
	KIND_UDP,
	KIND_ICMP,
	KIND_ICMP6,
	KIND_IP,
	KIND_ARP,
	KIND_RAW,
};

/* Which fields are written. */
enum field {
	FIELD_VLAN = 1 << 0,
	FIELD_FLOW = 1 << 1, /* addresses, and ports where there are any */
	FIELD_SEQ = 1 << 2,
	FIELD_ACK = 1 << 3,
	FIELD_FLAGS = 1 << 4,
	FIELD_WIN = 1 << 5,
	FIELD_OPT = 1 << 6,
	FIELD_DATA = 1 << 7,
	FIELD_CSUM = 1 << 8,
	FIELD_TYPE = 1 << 9,
	FIELD_CODE = 1 << 10,
	FIELD_ID = 1 << 11,
	FIELD_PROTO = 1 << 12,
	FIELD_TTL = 1 << 13,
	FIELD_TOS = 1 << 14,
	FIELD_IPID = 1 << 15,
	FIELD_IPOPT = 1 << 16,
	FIELD_FRAG = 1 << 17,
	FIELD_EXT = 1 << 18,
	FIELD_PAD = 1 << 19,
	FIELD_SMAC = 1 << 20,
	FIELD_DMAC = 1 << 21,
	FIELD_DOFF = 1 << 22,
	FIELD_OP = 1 << 23,
};

enum tcp_flag {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_PSH = 0x08,
	TCP_ACK = 0x10,
	TCP_URG = 0x20,
	TCP_ECE = 0x40,
	TCP_CWR = 0x80,
};

enum csum_want { CSUM_RIGHT, CSUM_ZERO, CSUM_BAD };

struct address {
	int family; /* AF_INET, AF_INET6 */
	uint8_t bytes[16];
};

struct flow {
	struct address src, dst;
	uint16_t sport, dport;
};

#define VLANS_MAX 2
#define EXTS_MAX  8

/* A FRAME or a PATTERN of the language. */
struct spec {
	enum kind kind;
	uint32_t set; /* enum field */
	unsigned int vlans;
	uint16_t vlan[VLANS_MAX]; /* outermost first */
	struct flow flow;
	uint32_t seq, ack; /* seq: of ICMP too */
	uint8_t flags;     /* enum tcp_flag */
	uint16_t win;
	uint8_t opt[40]; /* TCP options, not padded */
	unsigned int opt_len;
	uint8_t *data; /* or the whole frame (KIND_RAW) */
	unsigned int data_len;
	enum csum_want csum;
	uint8_t type, code, proto, ttl, tos;
	uint16_t id;   /* of ICMP */
	uint32_t ipid; /* of IPv4, or of IPv6's fragment header */
	uint8_t ipopt[40];
	unsigned int ipopt_len;
	unsigned int frag_off; /* in bytes */
	bool frag_more;
	unsigned int exts;
	uint8_t ext[EXTS_MAX]; /* next-header numbers, in order */
	unsigned int pad;
	uint8_t smac[6], dmac[6];
	uint8_t doff;
	uint16_t op; /* of ARP */
};

/* ---- statements --------------------------------------------------------- */

enum side { SIDE_PRIMARY, SIDE_SECONDARY };

enum verb {
	VERB_SIDE,
	VERB_SET,
	VERB_P,
	VERB_S,
	VERB_C,
	VERB_G,
	VERB_I,
	VERB_WAIT,
	VERB_COMMIT,
	VERB_DROP,
	VERB_FAILOVER,
	VERB_LEASE,
	VERB_SWITCH,
	VERB_TRANSLATION,
	VERB_EXPECT_NEXT,  /* out, guest, link PATTERN */
	VERB_EXPECT_FIRST, /* out*, guest*, link* PATTERN */
	VERB_EXPECT_NONE,
	VERB_EXPECT_STREAM,
	VERB_EXPECT_ACK,
	VERB_EXPECT_REQUEST,
	VERB_EXPECT_NO_REQUEST,
	VERB_EXPECT_HELD,
	VERB_EXPECT_ENDS,
};

/* How far a client's numbers are ahead of the guest's; -1 in isn, echo: not said. */
struct translation {
	uint32_t seq, ts;
	int64_t isn, echo;
};

/* Where frames are seen. */
enum outlet { OUTLET_PORT, OUTLET_GUEST, OUTLET_LINK, OUTLETS };

struct statement {
	enum verb verb;
	const char *file;
	int line;
	char *text;
	struct spec spec; /* VERB_I: flow, tags, seq = isn, ack = tsval (if set) */
	struct translation translation; /* of spec's flow and tags */
	enum outlet outlet;
	enum side side;
	int epoch_diff;        /* S@, C@ */
	uint32_t number, last; /* wait, drop, unread, ack, held; A..B */
	int reason;            /* enum colo_reason, -1: any */
	char key[32];
	char value[32];
	struct statement *next;
};

struct testcase {
	char *title;
	const char *file;
	int line;
	enum side side;
	bool offloads;
	char *error; /* what is wrong with the text of this case */
	struct statement *first, **end;
	struct testcase *next;
};

/* ---- frames ------------------------------------------------------------- */

/* A frame on a device, complete: tags in place, checksums finished. */
struct frame {
	uint8_t *bytes;
	unsigned int len;
	bool gso;     /* in: cut by the device. out: came uncut */
	bool partial; /* the L4 checksum is the device's to finish */
	unsigned int l4_off;
	bool bad_csum; /* in: a checksum of it is wrong */
	char *fault;   /* out: what the runner has against it */
	int seen;      /* enum seen */
};

enum seen {
	SEEN_NOT,
	SEEN_ACK, /* looked at by `expect ack`: nothing new for `none` */
	SEEN_DONE,
};

/* A frame's fields, found by its headers. */
struct view {
	const uint8_t *bytes;
	unsigned int len;
	enum kind kind; /* KIND_OPEN: neither IP nor ARP */
	unsigned int vlans;
	uint16_t vlan[VLANS_MAX];
	uint16_t ethertype;
	struct flow flow;
	bool has_l4; /* ports and all behind them hold */
	uint32_t seq, ack;
	uint8_t flags;
	uint16_t win;
	const uint8_t *opt;
	unsigned int opt_len;
	const uint8_t *data;
	unsigned int data_len;
	uint16_t csum;     /* L4's, as it stands there */
	uint16_t csum_sum; /* over all of L4: 0xffff is right */
	bool csum_known, csum_good, ip_csum_good;
	uint8_t type, code, proto, ttl, tos, doff;
	uint16_t id;
	uint32_t ipid;
	const uint8_t *ipopt;
	unsigned int ipopt_len;
	bool fragment;
	unsigned int frag_off;
	bool frag_more;
	unsigned int exts;
	uint8_t ext[EXTS_MAX];
	unsigned int pad;
	uint16_t op;
	const uint8_t *l4;
	unsigned int l4_len;
};

struct frames {
	struct frame **list;
	unsigned int count, room;
};

/* ---- a run of one case -------------------------------------------------- */

struct run {
	const struct testcase *test;
	struct proxy *proxy;
	enum side side;             /* the role of the programs now */
	struct frames out[OUTLETS]; /* what left */
	struct frames in;           /* what was put in with a checksum that is wrong */
	uint64_t epoch;
	uint64_t stirred_ns; /* when something was last done to the proxy */
	unsigned int drop;   /* link frames still to be lost */
	bool failed_over;
	uint32_t lease_ms; /* 0: none is asked for */
	bool replay;       /* of a capture: who sent what is looked at there */
	char *error;       /* why the case fails, "expected", "saw" lines */
};

/* A proxy under test: ours, or QEMU's. */
struct proxy {
	const char *name;
	/* The statement that cannot run, or NULL. */
	const struct statement *(*cannot)(const struct testcase *test);
	int (*begin)(struct run *run);
	/* Takes everything down or makes it ready for another case; final checks. */
	void (*end)(struct run *run);
	/* A frame of `verb` (P, S, C, G, I) goes in; epoch_diff as in S@, C@. */
	int (*put)(struct run *run, enum verb verb, int epoch_diff, struct frame *frame);
	int (*commit)(struct run *run, unsigned int unread);
	int (*failover)(struct run *run);
	/* The lease ends in ms; the survivor gets a role; a translation of a resync. */
	int (*lease)(struct run *run, uint32_t ms);
	int (*switch_role)(struct run *run, enum side side);
	int (*translation)(struct run *run, const struct statement *st);
	/* Takes what has left, runs what the daemon runs. Sleeps until then, or less. */
	void (*poll)(struct run *run, uint64_t until_ns);
	/* Requests since the start or the last commit, and the reason (-1: it has none). */
	unsigned int (*requests)(struct run *run, int *reason);
	/* Held frames by the counters, by the records, and the text of both. */
	void (*held)(struct run *run, int64_t *counted, int64_t *found);
	void (*close)(void);
};

extern bool verbose;
extern struct proxy colo_proxy, qemu_proxy;
/* Of the case that runs on colo_proxy. */
struct datapath *colo_datapath(void);
/* What is put to QEMU is not waited for: whoever sets this has a way of his own. */
extern bool qemu_pipelined;
/* The other side says what it has sent only when colo_say() lets it. */
extern bool colo_silent;
void colo_say(struct run *run);
/* That a primary is attached with; where offloads stay on it is tc. */
extern enum colo_context colo_context;
int colo_find_context(const char *name); /* 0 or -1 */
/* What XDP has done so far; false: the context is XDP, and it has released nothing. */
bool colo_report_xdp(void);

/* text.c: words, numbers, addresses, bytes. 0 or -1 with *error set. */
struct text {
	const char *at; /* what is left of the line */
	char *error;
};
char *text_word(struct text *text); /* NULL at the end; free it */
int text_number(const char *word, uint64_t max, uint64_t *number);
int text_sequence(const char *word, uint32_t *number);
int text_bytes(const char *word, uint8_t **bytes, unsigned int *len);
int text_hex(const char *word, uint8_t **bytes, unsigned int *len);
int text_address(const char *word, struct address *address);
int text_mac(const char *word, uint8_t mac[6]);
int text_flow(const char *word, bool ports, struct flow *flow);
int text_fail(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
uint8_t text_pattern(const char *name, size_t name_len, uint32_t i);
char *text_name_bytes(const uint8_t *bytes, unsigned int len);
void text_print_flow(char *to, size_t size, const struct flow *flow, bool ports);

/* spec.c: FRAME and PATTERN */
int spec_parse(struct text *text, bool pattern, struct spec *spec);
int spec_vlan(struct spec *spec, const char *value);
int spec_options(const char *list, uint8_t *opt, unsigned int *len);
void spec_list(void);
extern const struct spec_ext {
	const char *name;
	uint8_t number;
} spec_exts[];

/* parse.c: files */
struct testcase *parse_file(const char *path);
struct testcase *parse_stream(FILE *from, const char *path);
void parse_free(struct testcase *first);
/* Every element of the language that the tables know, for `--elements`. */
void parse_list(void);
void settings_list(void);

/* elements.c: what a case is made of, a line each, for selftest */
extern bool elements;
void element(const char *group, const char *name, const char *value);
void element_of(const char *group, const char *name);

/* build.c: from a spec to a frame; NULL with *error */
struct frame *build_frame(const struct spec *spec, bool from_guest, bool offloads,
			  char **error);
struct frame *frame_new(const uint8_t *bytes, unsigned int len);
void frame_free(struct frame *frame);

/* decode.c: from a frame to its fields */
void decode_frame(const struct frame *frame, struct view *view);
char *decode_print(const struct frame *frame);
uint32_t sum_add(uint32_t sum, const uint8_t *bytes, unsigned int len);
uint16_t sum_fold(uint32_t sum);
uint32_t sum_pseudo(const struct flow *flow, uint8_t proto, uint32_t len);

/* match.c: does a frame match a pattern; NULL, or why not (free it) */
char *match_frame(const struct spec *pattern, const struct frame *frame,
		  const struct frames *bad);

/* seen.c: what was seen so far */
void frames_add(struct frames *frames, struct frame *frame);
void frames_clear(struct frames *frames);
/* 0, or 1: not (yet), or -1: it cannot become true. *why tells (free it). */
int seen_stream(struct run *run, const struct statement *st, char **why);
int seen_ack(struct run *run, const struct statement *st, char **why);
bool flow_equal(const struct flow *a, const struct flow *b);

/* sent.c: what the guests and clients of this case have sent, by flow */
void sent_clear(void);
void sent_note(enum verb verb, const struct spec *spec, const struct frame *frame);
/* What the primary's guest sends leaves in other numbers. */
void sent_translated(const struct statement *st);
void sent_commit(void);
/* How many epochs its tag is ahead of the open one. */
int sent_epoch_diff(const struct statement *st);
/* 0: no byte of P there; 1: P sent `byte` there; -1: P sent another one */
int sent_check(const struct flow *flow, uint32_t seq, uint8_t byte);
bool sent_ever(const struct flow *flow, uint32_t seq);
/* The flow of P has had an earlier life; its latest began with *isn. */
bool sent_life(const struct flow *flow, uint32_t *isn);
/* P's SYN or SYN-ACK that an `I` stands for. */
struct frame *sent_control(const struct testcase *test, const struct statement *st,
			   char **error);

/* expect.c */
void expect(struct run *run, const struct statement *st);
void run_fail(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
void run_saw(struct run *run, enum outlet outlet);
uint64_t now_ns(void);
extern const char *const outlet_names[OUTLETS];
extern const char *const reason_names[];
int reason_find(const char *name);
const char *verb_name(enum verb verb);

/* device.c */
struct wire {
	int fd;
	char name[16];
	int ifindex;
};
int devices_enter(void);
int devices_tap(struct wire *tap, const char *name, bool offloads);
int devices_veth(struct wire *far, const char *near_name, const char *far_name, int mtu,
		 bool offloads);
/* As it would come out where it goes in. */
struct frame *wire_pass(const struct frame *frame);
int devices_xdp(const char *name);
int wire_put(struct wire *wire, bool tap, const struct frame *frame, int tci);
/* A frame, NULL when there is none. *tci: the outer tag, -1 none, taken off. */
struct frame *wire_get(struct wire *wire, bool tap, int *tci);
/* Frames that the devices have lost since the last call, -1 if unknown. */
long devices_lost(void);
extern unsigned int wire_mtu; /* of devices that are made from now on */

/* rows.c: what BEHAVIOUR.md says of QEMU */
char *rows_explain(const char *title);

#endif
