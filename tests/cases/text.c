// SPDX-License-Identifier: GPL-2.0-only
/* Words of the case language: numbers, addresses, flows and byte patterns. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

#define NAMES_MAX 64

/* The names of patterns that were used, so that bytes can be printed by name. */
static struct {
	char name[32];
} names[NAMES_MAX];
static unsigned int names_count;

int text_fail(struct text *text, const char *format, ...)
{
	va_list args;

	if (text->error)
		return -1;
	va_start(args, format);
	if (vasprintf(&text->error, format, args) < 0)
		text->error = NULL;
	va_end(args);
	return -1;
}

char *text_word(struct text *text)
{
	size_t len;
	char *word;

	text->at += strspn(text->at, " \t\r");
	len = strcspn(text->at, " \t\r");
	if (!len)
		return NULL;
	word = strndup(text->at, len);
	text->at += len;
	return word;
}

int text_number(const char *word, uint64_t max, uint64_t *number)
{
	bool hex = word[0] == '0' && (word[1] == 'x' || word[1] == 'X');
	const char *digits = hex ? word + 2 : word;
	char *end;

	if (hex ? !isxdigit((unsigned char)*digits) : !isdigit((unsigned char)*digits))
		return -1;
	errno = 0;
	*number = strtoull(digits, &end, hex ? 16 : 10);
	return errno || *end || *number > max ? -1 : 0;
}

int text_sequence(const char *word, uint32_t *number)
{
	uint64_t wide;

	if (text_number(word, UINT64_MAX, &wide))
		return -1;
	*number = (uint32_t)wide;
	return 0;
}

int text_hex(const char *word, uint8_t **bytes, unsigned int *len)
{
	size_t digits = strlen(word);

	if (digits % 2 || digits > 2 * FRAME_MAX)
		return -1;
	*bytes = calloc(1, digits / 2 + 1);
	*len = digits / 2;
	for (unsigned int i = 0; i < digits / 2; i++) {
		char pair[3] = {word[2 * i], word[2 * i + 1]};

		if (!isxdigit((unsigned char)pair[0]) || !isxdigit((unsigned char)pair[1])) {
			free(*bytes);
			return -1;
		}
		(*bytes)[i] = strtoul(pair, NULL, 16);
	}
	return 0;
}

/*
 * Byte i of the pattern `name`. Two one-letter patterns differ at every i, and
 * no pattern repeats itself.
 */
uint8_t text_pattern(const char *name, size_t name_len, uint32_t i)
{
	uint32_t hash = (i + 1) * 2654435761U;
	uint32_t of_name = 0;

	hash ^= hash >> 15;
	hash *= 2246822519U;
	hash ^= hash >> 13;
	for (size_t n = 0; n < name_len; n++)
		of_name = of_name * 31 + (uint8_t)name[n];
	return (uint8_t)(hash + of_name * 37);
}

static void remember_name(const char *name, size_t len)
{
	if (len >= sizeof(names[0].name) || names_count == NAMES_MAX)
		return;
	for (unsigned int i = 0; i < names_count; i++) {
		if (strlen(names[i].name) == len && !memcmp(names[i].name, name, len))
			return;
	}
	memcpy(names[names_count].name, name, len);
	names[names_count++].name[len] = 0;
}

static int number_until(const char **at, char stop, uint64_t *number)
{
	const char *end = strchr(*at, stop);
	char digits[24];

	if (!end || end - *at >= (long)sizeof(digits))
		return -1;
	memcpy(digits, *at, end - *at);
	digits[end - *at] = 0;
	*at = stop ? end + 1 : end;
	return text_number(digits, UINT32_MAX, number);
}

/* One part between two `+`: A:N, A[i:j] or hex:.. */
static int add_piece(const char *piece, uint8_t *to, unsigned int *len)
{
	size_t name = strcspn(piece, ":[");
	const char *at = piece + name + 1;
	uint64_t from = 0, until;

	if (!name || !piece[name])
		return -1;
	if (name == 3 && !strncmp(piece, "hex:", 4)) {
		unsigned int hex_len;
		uint8_t *hex;

		if (text_hex(at, &hex, &hex_len))
			return -1;
		if (*len + hex_len <= FRAME_MAX)
			memcpy(to + *len, hex, hex_len);
		element("data", "hex", piece);
		*len += hex_len;
		free(hex);
		return *len <= FRAME_MAX ? 0 : -1;
	}
	for (size_t i = 0; i < name; i++) {
		if (!isalnum((unsigned char)piece[i]) && piece[i] != '_')
			return -1;
	}
	if (piece[name] == ':') {
		if (number_until(&at, 0, &until))
			return -1;
	} else if (number_until(&at, ':', &from) || number_until(&at, ']', &until) || *at) {
		return -1;
	}
	if (until < from || *len + (until - from) > FRAME_MAX)
		return -1;
	remember_name(piece, name);
	element("data", piece[name] == ':' ? "A:N" : "A[i:j]", piece);
	for (; from < until; from++)
		to[(*len)++] = text_pattern(piece, name, from);
	return 0;
}

int text_bytes(const char *word, uint8_t **bytes, unsigned int *len)
{
	char *copy = strdup(word);
	char *rest = copy;
	char *piece;
	int err = 0;

	*bytes = malloc(FRAME_MAX);
	*len = 0;
	if (strchr(word, '+'))
		element("data", "+", word);
	/* `data=` alone: no bytes */
	if (!*word)
		rest = NULL;
	while (!err && (piece = strsep(&rest, "+")))
		err = add_piece(piece, *bytes, len);
	free(copy);
	*bytes = realloc(*bytes, *len + 1);
	return err;
}

int text_address(const char *word, struct address *address)
{
	memset(address, 0, sizeof(*address));
	address->family = strchr(word, ':') ? AF_INET6 : AF_INET;
	return inet_pton(address->family, word, address->bytes) == 1 ? 0 : -1;
}

int text_mac(const char *word, uint8_t mac[6])
{
	int used = 0;

	if (sscanf(word, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2],
		   &mac[3], &mac[4], &mac[5], &used) != 6)
		return -1;
	return word[used] ? -1 : 0;
}

/* ADDR:PORT, [ADDR]:PORT, or ADDR alone; cuts up `word`. */
static int end_point(char *word, bool ports, struct address *address, uint16_t *port)
{
	char *colon = strrchr(word, ':');
	uint64_t number;

	*port = 0;
	if (!ports && *word == '[' && word[strlen(word) - 1] == ']') {
		word[strlen(word) - 1] = 0;
		return text_address(word + 1, address) || address->family != AF_INET6 ? -1 : 0;
	}
	if (!ports)
		return text_address(word, address);
	if (!colon || text_number(colon + 1, 65535, &number))
		return -1;
	*port = number;
	*colon = 0;
	if (*word == '[') {
		if (colon[-1] != ']')
			return -1;
		colon[-1] = 0;
		return text_address(word + 1, address) || address->family != AF_INET6 ? -1 : 0;
	}
	return text_address(word, address) || address->family != AF_INET ? -1 : 0;
}

int text_flow(const char *word, bool ports, struct flow *flow)
{
	char *copy = strdup(word);
	char *to = strchr(copy, '>');
	int err = -1;

	memset(flow, 0, sizeof(*flow));
	if (to) {
		*to++ = 0;
		err = end_point(copy, ports, &flow->src, &flow->sport) ||
				      end_point(to, ports, &flow->dst, &flow->dport) ||
				      flow->src.family != flow->dst.family ?
			      -1 :
			      0;
	}
	free(copy);
	return err;
}

void text_print_flow(char *to, size_t size, const struct flow *flow, bool ports)
{
	const char *format = "%s:%u>%s:%u";
	char src[INET6_ADDRSTRLEN] = "?", dst[INET6_ADDRSTRLEN] = "?";

	inet_ntop(flow->src.family, flow->src.bytes, src, sizeof(src));
	inet_ntop(flow->dst.family, flow->dst.bytes, dst, sizeof(dst));
	if (!ports) {
		snprintf(to, size, "%s>%s", src, dst);
		return;
	}
	if (flow->src.family == AF_INET6)
		format = "[%s]:%u>[%s]:%u";
	snprintf(to, size, format, src, flow->sport, dst, flow->dport);
}

/* How many bytes from `bytes` on are pattern `name` from `from` on. */
static unsigned int run_of(const char *name, uint32_t from, const uint8_t *bytes,
			   unsigned int len)
{
	unsigned int i = 0;

	while (i < len && bytes[i] == text_pattern(name, strlen(name), from + i))
		i++;
	return i;
}

/* A short piece may be chance, unless it is all there is. */
static char *best_piece(const uint8_t *bytes, unsigned int len, bool all, unsigned int *used)
{
	unsigned int best = all && len < 4 ? len - 1 : 3, best_from = 0;
	const char *name = NULL;
	char *piece = NULL;
	int err;

	for (unsigned int n = 0; n < names_count && best < len; n++) {
		for (uint32_t from = 0; from < FRAME_MAX && best < len; from++) {
			unsigned int run = run_of(names[n].name, from, bytes, len);

			if (run <= best)
				continue;
			best = run;
			best_from = from;
			name = names[n].name;
		}
	}
	if (!name)
		return NULL;
	*used = best;
	if (best_from)
		err = asprintf(&piece, "%s[%u:%u]", name, best_from, best_from + best);
	else
		err = asprintf(&piece, "%s:%u", name, best);
	return err < 0 ? NULL : piece;
}

/* The bytes as the language would write them; free it. */
char *text_name_bytes(const uint8_t *bytes, unsigned int len)
{
	char *text = NULL;
	size_t size = 0;
	FILE *to = open_memstream(&text, &size);
	bool in_hex = false;

	for (unsigned int i = 0; i < len;) {
		unsigned int used = 1;
		char *piece = best_piece(bytes + i, len - i, !i, &used);

		if (ftell(to) > 200) {
			fprintf(to, "..");
			free(piece);
			break;
		}
		if (piece)
			fprintf(to, "%s%s", i ? "+" : "", piece);
		else
			fprintf(to, "%s%02x", in_hex ? "" : i ? "+hex:" : "hex:", bytes[i]);
		in_hex = !piece;
		free(piece);
		i += used;
	}
	fclose(to);
	return text;
}
