// SPDX-License-Identifier: GPL-2.0-only
/* A scenario from its text to its outcome. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rules.h"
#include "scenario.h"

static const struct {
	void (*begin)(struct scenario *s);
	void (*step)(struct scenario *s);
	void (*end)(struct scenario *s);
} sides[] = {
	[SIDE_PRIMARY] = {primary_begin, primary_step, primary_end},
	[SIDE_SECONDARY] = {secondary_begin, secondary_step, secondary_end},
};

static void clear(struct scenario *s)
{
	for (enum outlet o = 0; o < OUTLETS; o++) {
		frames_clear(&s->run.out[o]);
		frame_free(s->late[o]);
	}
	while (s->kept) {
		struct kept *kept = s->kept;

		s->kept = kept->next;
		free(kept->memory);
		free(kept);
	}
	free(s->run.error);
	free(s->judge.first);
	if (s->judge.model)
		model_free(s->judge.model);
	if (s->ledger)
		ledger_free(s->ledger);
	rules_set(NULL);
	sent_clear();
}

static void step(struct scenario *s, enum side side)
{
	static const uint32_t steps = 1U << VERB_P | 1U << VERB_S | 1U << VERB_C |
				      1U << VERB_G | 1U << VERB_I | 1U << VERB_WAIT |
				      1U << VERB_COMMIT | 1U << VERB_DROP | 1U << VERB_FAILOVER;

	if (!(steps & 1U << s->at->verb))
		return;
	if (verbose)
		printf("# %s\n", s->at->text);
	s->outcome->steps++;
	if (s->at->verb == VERB_DROP)
		s->run.drop += s->at->number;
	else
		sides[side].step(s);
}

static void run(const struct testcase *test, enum spoil spoil, struct outcome *outcome)
{
	struct scenario *s = calloc(1, sizeof(*s));

	s->run.test = test;
	s->run.side = test->side;
	s->run.proxy = &colo_proxy;
	s->run.side = test->side;
	s->run.replay = true;
	s->run.epoch = 1;
	s->outcome = outcome;
	s->spoil = spoil;
	if (colo_proxy.begin(&s->run)) {
		fault(s, "%s", s->run.error);
	} else {
		s->dp = colo_datapath();
		sides[test->side].begin(s);
		for (s->at = test->first; s->at && !outcome->fault && !stopping();
		     s->at = s->at->next)
			step(s, test->side);
		if (!outcome->fault && !stopping())
			sides[test->side].end(s);
	}
	clear(s);
	free(s);
}

void scenario_case(const struct testcase *test, enum spoil spoil, struct outcome *outcome)
{
	memset(outcome, 0, sizeof(*outcome));
	if (test->error)
		outcome->fault = strdup(test->error);
	else
		run(test, spoil, outcome);
}

void scenario_run(const char *text, enum spoil spoil, struct outcome *outcome)
{
	FILE *from = fmemopen((void *)text, strlen(text), "r");
	struct testcase *test = parse_stream(from, "scenario");

	fclose(from);
	scenario_case(test, spoil, outcome);
	parse_free(test);
}
