/* SPDX-License-Identifier: MIT */
/*
 * version.c - which library this is.
 *
 * Functions beside the macros, because a macro is the compiler's answer: only
 * code inside the library knows what the loader found.
 */
#include <weir/version.h>

const char *
weir_version(void)
{
	return WEIR_VERSION_STRING;
}

int
weir_version_number(void)
{
	return WEIR_VERSION_NUMBER;
}
