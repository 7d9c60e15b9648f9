// SPDX-License-Identifier: GPL-2.0-only
/* Case files: one statement a line. What is wrong in a case makes it fail. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <colo/abi.h>

#include "cases.h"

const char *const outlet_names[OUTLETS] = {"out", "guest", "link"};

const char *const reason_names[COLO_REASON_MAX] = {
	[COLO_REASON_NONE] = "none",
	[COLO_REASON_PAYLOAD] = "payload",
	[COLO_REASON_LENGTH] = "length",
	[COLO_REASON_FLAGS] = "flags",
	[COLO_REASON_TIMEOUT] = "timeout",
	[COLO_REASON_QUEUE_FULL] = "queue_full",
	[COLO_REASON_FLOW_FULL] = "flow_full",
	[COLO_REASON_POOL_FULL] = "pool_full",
	[COLO_REASON_LINK_GAP] = "link_gap",
	[COLO_REASON_MALFORMED] = "malformed",
	[COLO_REASON_UNTRANSLATABLE] = "untranslatable",
	[COLO_REASON_OPERATOR] = "operator",
};

/* The reasons that a case can name are those that packets bring about. */
int reason_find(const char *name)
{
	for (int i = COLO_REASON_PAYLOAD; i < COLO_REASON_OPERATOR; i++) {
		if (!strcmp(reason_names[i], name))
			return i;
	}
	return -1;
}

const char *verb_name(enum verb verb)
{
	static const char *const names[] = {
		[VERB_P] = "P", [VERB_S] = "S", [VERB_C] = "C", [VERB_G] = "G", [VERB_I] = "I",
	};

	return verb <= VERB_I ? names[verb] : "?";
}

struct parser {
	struct testcase *test;
	struct statement *st;
	struct text text;
	bool frames;    /* a frame was put in: too late for `side` and `set` */
	enum side side; /* by `side` or the last `switch` */
};

static int parse_end(struct parser *parser)
{
	char *word = text_word(&parser->text);

	if (!word)
		return 0;
	text_fail(&parser->text, "%s: nothing is expected here", word);
	free(word);
	return -1;
}

/* The next word as a number, or, with a name, NAME=N. */
static int parse_number(struct parser *parser, const char *name, uint32_t *number)
{
	char *word = text_word(&parser->text);
	size_t skip = name ? strlen(name) : 0;
	int err = -1;

	if (word && (!name || (!strncmp(word, name, skip) && word[skip++] == '=')))
		err = text_sequence(word + skip, number);
	free(word);
	return err ? text_fail(&parser->text, "%s%sN is missing or wrong", name ? name : "",
			       name ? "=" : "") :
		     0;
}

static int parse_role(struct parser *parser, const char *statement)
{
	char *word = text_word(&parser->text);
	int err = 0;

	if (word && !strcmp(word, "secondary"))
		parser->side = SIDE_SECONDARY;
	else if (word && !strcmp(word, "primary"))
		parser->side = SIDE_PRIMARY;
	else
		err = text_fail(&parser->text, "%s primary or %s secondary", statement,
				statement);
	free(word);
	parser->st->side = parser->side;
	return err;
}

static int parse_side(struct parser *parser)
{
	int err = parse_role(parser, "side");

	if (!err && parser->frames)
		err = text_fail(&parser->text, "side comes before any frame");
	if (!err)
		parser->test->side = parser->side;
	return err;
}

static int parse_switch(struct parser *parser)
{
	element("switch", parser->text.at + strspn(parser->text.at, " \t"), "");
	return parse_role(parser, "switch");
}

/* lease [MS] */
static int parse_lease(struct parser *parser)
{
	parser->text.at += strspn(parser->text.at, " \t\r");
	parser->st->last = !*parser->text.at; /* as long as the first */
	return parser->st->last ? 0 : parse_number(parser, NULL, &parser->st->number);
}

static int parse_set(struct parser *parser)
{
	char *key = text_word(&parser->text), *value = NULL, *equals;
	struct statement *st = parser->st;
	int err = 0;

	/* KEY=VALUE says the same. */
	equals = key ? strchr(key, '=') : NULL;
	if (equals)
		*equals = 0, value = strdup(equals + 1);
	else
		value = text_word(&parser->text);
	if (!value || strlen(key) >= sizeof(st->key) || strlen(value) >= sizeof(st->value))
		err = text_fail(&parser->text, "set KEY VALUE");
	else if (parser->frames)
		err = text_fail(&parser->text, "set comes before any frame");
	else
		strcpy(st->key, key), strcpy(st->value, value), element("set", key, value);
	if (!err && !strcmp(key, "offloads")) {
		if (strcmp(value, "on") && strcmp(value, "off"))
			err = text_fail(&parser->text, "set offloads on or off");
		parser->test->offloads = !strcmp(value, "on");
	}
	free(key);
	free(value);
	return err;
}

static int parse_frame(struct parser *parser)
{
	parser->frames = true;
	return spec_parse(&parser->text, false, &parser->st->spec);
}

/* I [vlan=ID[,ID]] FLOW isn=N [tsval=N] */
static int parse_isn(struct parser *parser)
{
	struct spec *spec = &parser->st->spec;
	struct text *text = &parser->text;
	char *word = text_word(text);
	int err = 0;

	parser->frames = true;
	spec->kind = KIND_TCP;
	if (word && !strncmp(word, "vlan=", 5)) {
		err = spec_vlan(spec, word + 5);
		spec->set |= FIELD_VLAN;
		free(word);
		word = text_word(text);
	}
	if (err || !word || text_flow(word, true, &spec->flow))
		err = text_fail(text, "I FLOW isn=N [tsval=N]");
	free(word);
	while (!err && *(text->at += strspn(text->at, " \t\r"))) {
		bool isn = !(spec->set & FIELD_SEQ) && !strncmp(text->at, "isn=", 4);

		if (!isn && spec->set & FIELD_ACK)
			break;
		element("I", isn ? "isn" : "tsval", text->at);
		err = parse_number(parser, isn ? "isn" : "tsval",
				   isn ? &spec->seq : &spec->ack);
		spec->set |= isn ? FIELD_SEQ : FIELD_ACK;
	}
	if (!err && !(spec->set & FIELD_SEQ))
		err = text_fail(text, "I FLOW isn=N [tsval=N]");
	return err;
}

/* translation [vlan=ID[,ID]] FLOW seq=N [ts=N] [isn=N] [echo=N], in any order */
static int parse_translation(struct parser *parser)
{
	struct translation *t = &parser->st->translation;
	struct spec *spec = &parser->st->spec;
	const struct {
		const char *name;
		uint32_t *narrow;
		int64_t *wide;
	} members[] = {
		{"seq=", &t->seq, NULL},
		{"ts=", &t->ts, NULL},
		{"isn=", NULL, &t->isn},
		{"echo=", NULL, &t->echo},
	};
	struct text *text = &parser->text;
	char *word = text_word(text);
	int err = 0;

	spec->kind = KIND_TCP;
	t->isn = t->echo = -1;
	if (word && !strncmp(word, "vlan=", 5)) {
		err = spec_vlan(spec, word + 5);
		free(word);
		word = text_word(text);
	}
	if (err || !word || text_flow(word, true, &spec->flow))
		err = text_fail(text, "translation FLOW seq=N [ts=N] [isn=N] [echo=N]");
	free(word);
	while (!err && (word = text_word(text))) {
		uint32_t number;
		unsigned int i;

		err = -1;
		for (i = 0; err && i < sizeof(members) / sizeof(members[0]); i++) {
			size_t len = strlen(members[i].name);

			if (strncmp(word, members[i].name, len) ||
			    text_sequence(word + len, &number))
				continue;
			if (members[i].wide)
				*members[i].wide = number;
			else
				*members[i].narrow = number;
			element("translation", members[i].name, word + len);
			err = 0;
		}
		if (err)
			text_fail(text, "%s: not of a translation", word);
		free(word);
	}
	return err;
}

static int parse_commit(struct parser *parser)
{
	parser->text.at += strspn(parser->text.at, " \t\r");
	if (!*parser->text.at)
		return 0;
	element("commit", "unread", parser->text.at);
	return parse_number(parser, "unread", &parser->st->number);
}

static int parse_drop(struct parser *parser)
{
	char *word = text_word(&parser->text);
	bool drop = word && !strcmp(word, "drop");

	free(word);
	if (!drop)
		return text_fail(&parser->text, "link drop N");
	return parse_number(parser, NULL, &parser->st->number);
}

static int parse_wait(struct parser *parser)
{
	return parse_number(parser, NULL, &parser->st->number);
}

static int parse_no_more(struct parser *parser)
{
	return parser->text.error ? -1 : 0;
}

static int parse_bytes_left(struct parser *parser)
{
	struct statement *st = parser->st;
	char *flow = text_word(&parser->text), *range = text_word(&parser->text);
	char *dots = range ? strstr(range, "..") : NULL;
	int err = 0;

	st->verb = VERB_EXPECT_STREAM;
	if (dots)
		*dots = 0;
	if (!dots || text_flow(flow, true, &st->spec.flow) ||
	    text_sequence(range, &st->number) || text_sequence(dots + 2, &st->last))
		err = text_fail(&parser->text, "expect stream FLOW A..B");
	free(flow);
	free(range);
	return err;
}

static int parse_ack(struct parser *parser)
{
	char *flow = text_word(&parser->text);
	int err = 0;

	parser->st->verb = VERB_EXPECT_ACK;
	if (!flow || text_flow(flow, true, &parser->st->spec.flow))
		err = text_fail(&parser->text, "expect ack FLOW N");
	free(flow);
	return err ? err : parse_number(parser, NULL, &parser->st->number);
}

static int parse_request(struct parser *parser)
{
	char *word = text_word(&parser->text);
	int err = 0;

	parser->st->verb = VERB_EXPECT_REQUEST;
	parser->st->reason = word ? reason_find(word) : 0;
	if (!word || (parser->st->reason < 0 && strcmp(word, "any")))
		err = text_fail(&parser->text, "%s: not a reason", word ? word : "");
	else
		element("reason", word, word);
	free(word);
	return err;
}

static int parse_no(struct parser *parser)
{
	char *word = text_word(&parser->text);
	bool request = word && !strcmp(word, "request");

	free(word);
	parser->st->verb = VERB_EXPECT_NO_REQUEST;
	return request ? 0 : text_fail(&parser->text, "expect no request");
}

static int parse_held(struct parser *parser)
{
	parser->st->verb = VERB_EXPECT_HELD;
	return parse_number(parser, NULL, &parser->st->number);
}

static int parse_none(struct parser *parser)
{
	parser->st->verb = VERB_EXPECT_NONE;
	return 0;
}

static int parse_ends(struct parser *parser)
{
	parser->st->verb = VERB_EXPECT_ENDS;
	return 0;
}

/* out, guest, link, with or without a star: PATTERN or none */
static int parse_outlet(struct parser *parser, const char *name)
{
	struct statement *st = parser->st;
	size_t len = strcspn(name, "*");
	struct text ahead = parser->text;
	char *word;
	bool none;

	for (st->outlet = 0; st->outlet < OUTLETS; st->outlet++) {
		if (strlen(outlet_names[st->outlet]) == len &&
		    !strncmp(outlet_names[st->outlet], name, len))
			break;
	}
	if (st->outlet == OUTLETS || (name[len] && name[len + 1]))
		return text_fail(&parser->text, "expect %s: not known", name);
	word = text_word(&ahead);
	none = word && !strcmp(word, "none");
	free(word);
	if (none && !name[len]) {
		parser->text = ahead;
		element("none", name, "");
		st->verb = VERB_EXPECT_NONE;
		return 0;
	}
	st->verb = name[len] ? VERB_EXPECT_FIRST : VERB_EXPECT_NEXT;
	element("expect", name, parser->text.at);
	return spec_parse(&parser->text, true, &st->spec);
}

static const struct {
	const char *name;
	int (*parse)(struct parser *parser);
} what[] = {
	{"none", parse_none}, {"stream", parse_bytes_left}, {"ack", parse_ack},
	{"no", parse_no},     {"request", parse_request},   {"held", parse_held},
	{"ends", parse_ends},
};

static int parse_expect(struct parser *parser)
{
	char *word = text_word(&parser->text);
	int err = 1;

	if (!word)
		return text_fail(&parser->text, "expect what?");
	for (unsigned int i = 0; i < sizeof(what) / sizeof(what[0]); i++) {
		if (strcmp(what[i].name, word))
			continue;
		element("expect", word, parser->text.at);
		err = what[i].parse(parser);
	}
	if (err > 0)
		err = parse_outlet(parser, word);
	free(word);
	return err;
}

static const struct {
	const char *name;
	enum verb verb;
	int epoch_diff;
	int (*parse)(struct parser *parser);
} verbs[] = {
	{"side", VERB_SIDE, 0, parse_side},
	{"set", VERB_SET, 0, parse_set},
	{"P", VERB_P, 0, parse_frame},
	{"S", VERB_S, 0, parse_frame},
	{"S@-1", VERB_S, -1, parse_frame},
	{"S@+1", VERB_S, 1, parse_frame},
	{"C", VERB_C, 0, parse_frame},
	{"C@-1", VERB_C, -1, parse_frame},
	{"C@+1", VERB_C, 1, parse_frame},
	{"G", VERB_G, 0, parse_frame},
	{"I", VERB_I, 0, parse_isn},
	{"wait", VERB_WAIT, 0, parse_wait},
	{"commit", VERB_COMMIT, 0, parse_commit},
	{"link", VERB_DROP, 0, parse_drop},
	{"failover", VERB_FAILOVER, 0, parse_no_more},
	{"lease", VERB_LEASE, 0, parse_lease},
	{"switch", VERB_SWITCH, 0, parse_switch},
	{"translation", VERB_TRANSLATION, 0, parse_translation},
	{"expect", VERB_EXPECT_NEXT, 0, parse_expect},
};

static int check_side(struct parser *parser)
{
	bool primary = parser->side == SIDE_PRIMARY;
	enum verb verb = parser->st->verb;

	if (primary ? verb == VERB_G || verb == VERB_I : verb == VERB_P || verb == VERB_S)
		return text_fail(&parser->text, "%s is not of side %s", verb_name(verb),
				 primary ? "primary" : "secondary");
	return 0;
}

static int parse_statement(struct parser *parser)
{
	char *word = text_word(&parser->text);
	int err = 1;

	for (unsigned int i = 0; i < sizeof(verbs) / sizeof(verbs[0]) && err > 0; i++) {
		if (strcmp(verbs[i].name, word))
			continue;
		parser->st->verb = verbs[i].verb;
		parser->st->epoch_diff = verbs[i].epoch_diff;
		element("statement", word, parser->text.at);
		err = verbs[i].parse(parser);
	}
	if (err > 0)
		err = text_fail(&parser->text, "%s: not a statement", word);
	free(word);
	if (!err)
		err = parse_end(parser);
	return err ? err : check_side(parser);
}

static struct testcase *new_case(const char *file, int line, const char *title)
{
	struct testcase *test = calloc(1, sizeof(*test));

	title += strspn(title, " \t");
	test->title = strdup(*title ? title : "(no title)");
	test->file = file;
	test->line = line;
	test->end = &test->first;
	return test;
}

static void case_error(struct testcase *test, int line, char *why)
{
	element("error", "", "");
	if (!test->error &&
	    asprintf(&test->error, "%s:%d: %s", test->file, line, why ? why : "no memory") < 0)
		test->error = NULL;
	free(why);
}

static void add_statement(struct parser *parser, const char *line, int number)
{
	struct testcase *test = parser->test;
	struct statement *st = calloc(1, sizeof(*st));

	st->file = test->file;
	st->line = number;
	st->text = strdup(line);
	parser->st = st;
	parser->text = (struct text){.at = line};
	if (parse_statement(parser))
		case_error(test, number, parser->text.error);
	*test->end = st;
	test->end = &st->next;
}

static bool is_case(const char *line)
{
	return !strncmp(line, "case", 4) && (!line[4] || line[4] == ' ' || line[4] == '\t');
}

/* A `#` starts a comment; within a word of a title it is a part of it. */
static char *strip(char *line)
{
	bool title;
	size_t len;

	line += strspn(line, " \t\r\n");
	title = is_case(line);
	for (char *at = line; *at; at++) {
		if (*at == '#' && (!title || at == line || at[-1] == ' ' || at[-1] == '\t'))
			*at = 0;
	}
	len = strlen(line);
	while (len && strchr(" \t\r\n", line[len - 1]))
		line[--len] = 0;
	return line;
}

/* Its cases; `path` names them. */
struct testcase *parse_stream(FILE *from, const char *path)
{
	struct testcase *first = NULL, **end = &first;
	struct parser parser = {0};
	char *buffer = NULL, *line;
	size_t size = 0;

	for (int number = 1; getline(&buffer, &size, from) >= 0; number++) {
		line = strip(buffer);
		if (!*line)
			continue;
		if (is_case(line) || !parser.test) {
			parser = (struct parser){0};
			parser.test = new_case(path, number, is_case(line) ? line + 4 : path);
			element("case", parser.test->title, "");
			*end = parser.test;
			end = &parser.test->next;
			if (!is_case(line))
				case_error(parser.test, number, strdup("no case begins here"));
		} else {
			add_statement(&parser, line, number);
		}
	}
	free(buffer);
	return first;
}

void parse_free(struct testcase *first)
{
	while (first) {
		struct testcase *test = first;

		while (test->first) {
			struct statement *st = test->first;

			test->first = st->next;
			free(st->spec.data);
			free(st->text);
			free(st);
		}
		first = test->next;
		free(test->title);
		free(test->error);
		free(test);
	}
}

struct testcase *parse_file(const char *path)
{
	FILE *from = fopen(path, "r");
	struct testcase *first;

	if (!from) {
		first = new_case(path, 0, path);
		case_error(first, 0, strdup(strerror(errno)));
		return first;
	}
	first = parse_stream(from, path);
	fclose(from);
	return first;
}

/* What the tables know. `statement expect` shows by its kinds. */
void parse_list(void)
{
	char name[16];

	for (unsigned int i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		element_of("statement", verbs[i].name);
	for (unsigned int i = 0; i < sizeof(what) / sizeof(what[0]); i++)
		element_of("expect", what[i].name);
	for (unsigned int i = 0; i < OUTLETS; i++) {
		element_of("expect", outlet_names[i]);
		snprintf(name, sizeof(name), "%s*", outlet_names[i]);
		element_of("expect", name);
		element_of("none", outlet_names[i]);
	}
	for (int i = COLO_REASON_PAYLOAD; i < COLO_REASON_OPERATOR; i++)
		element_of("reason", reason_names[i]);
	element_of("reason", "any");
	element_of("I", "isn");
	element_of("I", "tsval");
	element_of("commit", "unread");
	element_of("set", "offloads");
	element_of("switch", "primary");
	element_of("switch", "secondary");
	element_of("translation", "seq=");
	element_of("translation", "ts=");
	element_of("translation", "isn=");
	element_of("translation", "echo=");
	settings_list();
	spec_list();
}
