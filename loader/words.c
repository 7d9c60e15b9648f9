// SPDX-License-Identifier: GPL-2.0-only
#include <stdlib.h>
#include <string.h>

#include "words.h"

#define BLANKS " \t\r\n"

struct splitter {
	const char *at;
	const struct word_value *values;
	const char *why;
	char *word;
	size_t length;
};

static void add(struct splitter *s, const char *text, size_t length)
{
	char *longer = realloc(s->word, s->length + length + 1);

	if (!longer) {
		s->why = "no memory for it";
		return;
	}
	s->word = longer;
	memcpy(longer + s->length, text, length);
	s->length += length;
	longer[s->length] = 0;
}

/* At a % */
static void add_value(struct splitter *s)
{
	char letter = *++s->at;

	if (letter)
		s->at++;
	if (letter == '%') {
		add(s, "%", 1);
		return;
	}
	for (const struct word_value *v = s->values; v && v->letter; v++) {
		if (v->letter != letter)
			continue;
		add(s, v->value, strlen(v->value));
		return;
	}
	s->why = "a % with an unknown letter is in it (%% is a %)";
}

/* One word: up to a blank that no quotes hold. */
static char *next_word(struct splitter *s)
{
	char quote = 0;

	s->word = NULL;
	s->length = 0;
	add(s, "", 0);
	while (!s->why && *s->at && (quote || !strchr(BLANKS, *s->at))) {
		if (*s->at == quote) {
			quote = 0;
			s->at++;
		} else if (!quote && strchr("'\"", *s->at)) {
			quote = *s->at++;
		} else if (*s->at == '%') {
			add_value(s);
		} else {
			add(s, s->at++, 1);
		}
	}
	if (quote)
		s->why = "a quote in it does not end";
	return s->word;
}

char **words_split(const char *text, const struct word_value *values, const char **why)
{
	struct splitter s = {.at = text + strspn(text, BLANKS), .values = values};
	char **words = calloc(strlen(text) / 2 + 2, sizeof(*words));
	size_t count = 0;

	if (!words)
		s.why = "no memory for it";
	else if (!*s.at)
		s.why = "is empty";
	while (!s.why && *s.at) {
		words[count++] = next_word(&s);
		s.at += strspn(s.at, BLANKS);
	}
	*why = s.why;
	if (!s.why)
		return words;
	words_free(words);
	return NULL;
}

void words_free(char **words)
{
	for (char **word = words; word && *word; word++)
		free(*word);
	free(words);
}
