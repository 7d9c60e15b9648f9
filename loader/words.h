/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A command line without a shell: words between blanks; '...' and "..." keep
 * blanks together; in each word %X is replaced.
 */
#ifndef COLO_WORDS_H
#define COLO_WORDS_H

/* What %X stands for, ended by letter 0; %% is %. */
struct word_value {
	char letter;
	const char *value;
};

/*
 * NULL-terminated, to be freed with words_free(). NULL: *why says what is wrong
 * with the text.
 */
char **words_split(const char *text, const struct word_value *values, const char **why);
void words_free(char **words);

#endif
