// SPDX-License-Identifier: GPL-2.0-only
#include "unit.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "pin.h"

struct values {
	const char *name;
	const char *text;
	__u32 number;
	int choice;
	bool flag;
};

static int parse(struct values *values, int argc, const char **argv)
{
	static const char *const choices[] = {"one", "two", NULL};
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .required = true, .value = &values->name},
		{OPTION_TEXT, .name = "text", .letter = 't', .argument = "T", .required = true,
		 .value = &values->text, .help = ""},
		{OPTION_NUMBER, .name = "number", .argument = "N", .value = &values->number,
		 .min = 2, .max = 64, .help = ""},
		{OPTION_CHOICE, .name = "choice", .argument = "C", .value = &values->choice,
		 .choices = choices, .help = ""},
		{OPTION_FLAG, .name = "flag", .letter = 'f', .value = &values->flag,
		 .help = ""},
		{OPTION_END},
	};
	int out = dup(STDERR_FILENO), status;
	int null = open("/dev/null", O_WRONLY);

	memset(values, 0, sizeof(*values));
	dup2(null, STDERR_FILENO);
	status = options_parse("test", "A test", rows, argc, (char **)argv);
	dup2(out, STDERR_FILENO);
	close(null);
	close(out);
	return status;
}

#define PARSE(values, ...)                                                            \
	parse(values, sizeof((const char *[]){"test", __VA_ARGS__}) / sizeof(char *), \
	      (const char *[]){"test", __VA_ARGS__, NULL})

static void good(void **state)
{
	struct values v;

	(void)state;
	assert_int_equal(PARSE(&v, "n1", "--text", "x"), -1);
	assert_string_equal(v.name, "n1");
	assert_string_equal(v.text, "x");
	assert_false(v.flag);
	assert_int_equal(
		PARSE(&v, "-f", "-t", "x", "n1", "--number=0x10", "--choice", "two", "-j"), -1);
	assert_true(v.flag && common.json);
	assert_int_equal(v.number, 16);
	assert_int_equal(v.choice, 1);
}

static void bad(void **state)
{
	struct values v;

	(void)state;
	assert_int_equal(PARSE(&v, "--text", "x"), EXIT_USAGE);
	assert_int_equal(PARSE(&v, "n1"), EXIT_USAGE);
	assert_int_equal(PARSE(&v, "n1", "n2", "-t", "x"), EXIT_USAGE);
	assert_int_equal(PARSE(&v, "n/1", "-t", "x"), EXIT_USAGE);
	assert_int_equal(PARSE(&v, "n1", "-t"), EXIT_USAGE);
	assert_int_equal(PARSE(&v, "n1", "-t", ""), EXIT_USAGE);
	assert_int_equal(PARSE(&v, "n1", "-t", "x", "--none"), EXIT_USAGE);
	assert_int_equal(PARSE(&v, "n1", "-t", "x", "-z"), EXIT_USAGE);
	assert_int_equal(PARSE(&v, "n1", "-t", "x", "--choice", "three"), EXIT_USAGE);
}

static void numbers(void **state)
{
	static const char *const refused[] = {
		"1", "65", "-3", "", "x", "3x", " 3", "99999999999999999999",
	};
	struct values v;

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++)
		assert_int_equal(PARSE(&v, "n1", "-t", "x", "--number", refused[i]),
				 EXIT_USAGE);
	assert_int_equal(PARSE(&v, "n1", "-t", "x", "--number", "2"), -1);
	assert_int_equal(PARSE(&v, "n1", "-t", "x", "--number", "64"), -1);
}

static void names(void **state)
{
	(void)state;
	assert_true(pin_name_valid("a"));
	assert_true(pin_name_valid("pair-1.web_x"));
	assert_true(pin_name_valid("1234567890123456789012345678901"));
	assert_false(pin_name_valid("12345678901234567890123456789012"));
	assert_false(pin_name_valid(""));
	assert_false(pin_name_valid("."));
	assert_false(pin_name_valid(".."));
	assert_false(pin_name_valid("-x"));
	assert_false(pin_name_valid("a/b"));
	assert_false(pin_name_valid("a b"));
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(good),
	cmocka_unit_test(bad),
	cmocka_unit_test(numbers),
	cmocka_unit_test(names),
};

UNIT_RUN(options, tests)
