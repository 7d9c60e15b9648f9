// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a case is made of: the parser names each statement, option and pattern
 * that it meets, and each that it knows. selftest compares the two, so nothing
 * that the parser takes is without a case that fails when it is altered.
 */
#include <stdio.h>

#include "cases.h"

bool elements;

void element(const char *group, const char *name, const char *value)
{
	if (elements)
		printf("%s %s\t%s\n", group, name, value);
}

void element_of(const char *group, const char *name)
{
	element(group, name, "");
}
