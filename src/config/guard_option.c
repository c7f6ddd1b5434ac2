/* SPDX-License-Identifier: MIT */
/*
 * guard_option.c - the guard's mode as text.
 *
 *     off | sample[:rate] | full | tool      and :pool,pool,... behind it
 *
 * What follows the mode is a rate if it is a number, else the pools; so a pool
 * whose name is a number is named after an empty rate, as in sample::42.
 */
#include "config/resolve.h"

#include <string.h>

#define OPTION_RATE_DIGITS 9

static const char *const option_mode[] = {
    [WEIR_GUARD_OFF] = "off",
    [WEIR_GUARD_SAMPLE] = "sample",
    [WEIR_GUARD_FULL] = "full",
    [WEIR_GUARD_TOOL] = "tool",
};

/* The mode whose word is the first @length bytes; -1 for none. */
static int
option_find_mode(const char *word, size_t length)
{
	for (int i = 0; i <= WEIR_GUARD_TOOL; i++)
		if (strlen(option_mode[i]) == length &&
		    strncmp(option_mode[i], word, length) == 0)
			return i;
	return -1;
}

/* A rate at *at, or none; steps over it and its colon.  False: none that is
 * allowed. */
static bool
option_take_rate(const char **at, uint32_t *rate)
{
	size_t digits = strspn(*at, "0123456789");
	char next = (*at)[digits];

	*rate = 0;
	if (next != '\0' && next != ':')
		return true;
	if (digits > OPTION_RATE_DIGITS)
		return false;
	for (size_t i = 0; i < digits; i++)
		*rate = *rate * 10 + (uint32_t)((*at)[i] - '0');
	*at += digits + (next == ':');
	return digits == 0 || *rate > 0;
}

bool
weiri_guard_parse(const char *text, struct weiri_guard_option *out)
{
	size_t length = strcspn(text, ":");
	int mode = option_find_mode(text, length);
	struct weiri_guard_option option = {0};
	const char *rest = text + length;

	if (mode < 0)
		return false;
	option.mode = (enum weir_guard_mode)mode;
	rest += *rest == ':';
	if (mode == WEIR_GUARD_SAMPLE && *rest != '\0' &&
	    !option_take_rate(&rest, &option.rate))
		return false;
	if (strlen(rest) >= sizeof(option.pools) ||
	    (mode == WEIR_GUARD_OFF && *rest != '\0'))
		return false;
	memcpy(option.pools, rest, strlen(rest) + 1);
	*out = option;
	return true;
}

void
weiri_guard_describe(
    struct weiri_text *text, const struct weiri_guard_option *option)
{
	weiri_text_str(text, option_mode[option->mode]);
	if (option->rate != 0) {
		weiri_text_char(text, ':');
		weiri_text_u64(text, option->rate);
	}
	if (option->pools[0] != '\0') {
		weiri_text_char(text, ':');
		weiri_text_str(text, option->pools);
	}
}
