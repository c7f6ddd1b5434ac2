/* SPDX-License-Identifier: MIT */
/*
 * cli_value.c - values of options: from text, to text.
 *
 * Numbers are decimal and exact: no sign, no blanks, no octal, and an overflow
 * is an error instead of a large number.  A fraction is accepted where the
 * unit makes it whole ("1.5M", "0.6" seconds), and refused where it does not
 * ("1.5" connections).
 */
#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

struct value_unit {
	const char *suffix;
	uint64_t factor;
};

/* In each list the first entry is the unit of a plain number. */
static const struct value_unit value_counts[] = {{"", 1}, {"k", 1000},
    {"K", 1000}, {"M", 1000000}, {"G", 1000000000}, {NULL, 0}};

static const struct value_unit value_bytes[] = {{"", 1}, {"B", 1},
    {"k", 1 << 10}, {"K", 1 << 10}, {"KiB", 1 << 10}, {"M", 1 << 20},
    {"MiB", 1 << 20}, {"G", 1 << 30}, {"GiB", 1 << 30}, {NULL, 0}};

static const struct value_unit value_times[] = {{"", 1000000000},
    {"s", 1000000000}, {"ms", 1000000}, {"us", 1000}, {"ns", 1},
    {"m", 60000000000}, {"h", 3600000000000}, {NULL, 0}};

__attribute__((format(printf, 3, 4))) static void
value_say(char *why, size_t bytes, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(why, bytes, format, arguments);
	va_end(arguments);
}

/*
 * Reads "12", "1.5" and a unit.  The number is kept as digits / scale, so no
 * binary fraction is involved.
 */
static int
value_scaled(const char *text, const struct value_unit *unit, uint64_t *out)
{
	uint64_t digits = 0;
	uint64_t scale = 1;
	bool any = false;
	bool fraction = false;

	for (; (*text >= '0' && *text <= '9') || *text == '.'; text++) {
		if (*text == '.') {
			if (fraction || !any)
				return -EINVAL;
			fraction = true;
			continue;
		}
		if (__builtin_mul_overflow(digits, (uint64_t)10, &digits) ||
		    __builtin_add_overflow(
			digits, (uint64_t)(*text - '0'), &digits) ||
		    (fraction &&
			__builtin_mul_overflow(scale, (uint64_t)10, &scale)))
			return -ERANGE;
		any = true;
	}
	if (!any || (fraction && text[-1] == '.'))
		return -EINVAL;
	while (unit->suffix != NULL && strcmp(unit->suffix, text) != 0)
		unit++;
	if (unit->suffix == NULL)
		return -EINVAL;
	if (__builtin_mul_overflow(digits, unit->factor, &digits))
		return -ERANGE;
	if (digits % scale != 0)
		return -EINVAL;
	*out = digits / scale;
	return 0;
}

/* A number in the largest unit that shows it whole; sizes and counts. */
static void
value_print_scaled(uint64_t value, uint64_t step, char *buffer, size_t bytes)
{
	static const char suffixes[] = {'\0', 'k', 'M', 'G'};
	size_t i = 0;

	/* "10000" reads better than "10k" where decimals rule. */
	while (value != 0 && value % step == 0 && i + 1 < sizeof(suffixes) &&
	       (step == 1024 || value >= 1000000)) {
		value /= step;
		i++;
	}
	if (i == 0)
		snprintf(buffer, bytes, "%" PRIu64, value);
	else
		snprintf(buffer, bytes, "%" PRIu64 "%c", value, suffixes[i]);
}

static void
value_print_time(uint64_t ns, char *buffer, size_t bytes)
{
	if (ns % 1000000000 == 0)
		snprintf(buffer, bytes, "%" PRIu64 "s", ns / 1000000000);
	else if (ns % 1000000 == 0)
		snprintf(buffer, bytes, "%" PRIu64 "ms", ns / 1000000);
	else if (ns % 1000 == 0)
		snprintf(buffer, bytes, "%" PRIu64 "us", ns / 1000);
	else
		snprintf(buffer, bytes, "%" PRIu64 "ns", ns);
}

static void
value_print_number(
    enum cli_kind kind, uint64_t value, char *buffer, size_t bytes)
{
	if (kind == CLI_TIME)
		value_print_time(value, buffer, bytes);
	else
		value_print_scaled(
		    value, kind == CLI_BYTES ? 1024 : 1000, buffer, bytes);
}

static void
value_say_range(const struct cli_option *option, char *why, size_t bytes)
{
	char low[32];
	char high[32];

	value_print_number(option->kind, option->min, low, sizeof(low));
	value_print_number(option->kind, option->max, high, sizeof(high));
	if (option->max == 0)
		value_say(why, bytes, "expected at least %s", low);
	else
		value_say(why, bytes, "expected %s to %s", low, high);
}

static int
value_number(const struct cli_option *option, const char *text,
    const struct value_unit *units, const char *shape, char *why, size_t bytes)
{
	uint64_t value;
	int error = value_scaled(text, units, &value);

	if (error == -EINVAL) {
		value_say(why, bytes, "expected %s", shape);
		return error;
	}
	if (error != 0 || value < option->min ||
	    (option->max != 0 && value > option->max)) {
		value_say_range(option, why, bytes);
		return -ERANGE;
	}
	uint64_t *target = option->target;
	*target = value;
	return 0;
}

static int
value_choice(const struct cli_option *option, const char *text, int *index,
    char *why, size_t bytes)
{
	const char *near;
	size_t used = 0;

	for (int i = 0; option->choices[i] != NULL; i++)
		if (strcmp(option->choices[i], text) == 0) {
			*index = i;
			return 0;
		}
	near = cli_nearest(text, option->choices);
	if (near != NULL) {
		value_say(why, bytes, "did you mean '%s'?", near);
		return -EINVAL;
	}
	value_say(why, bytes, "expected one of");
	for (int i = 0; option->choices[i] != NULL; i++) {
		used = strlen(why);
		value_say(why + used, bytes - used, "%s %s", i == 0 ? "" : ",",
		    option->choices[i]);
	}
	return -EINVAL;
}

static int
value_set(
    const struct cli_option *option, const char *text, char *why, size_t bytes)
{
	uint64_t set = 0;

	for (;;) {
		size_t length = strcspn(text, ",");
		char word[64];
		int index;

		snprintf(word, sizeof(word), "%.*s", (int)length, text);
		if (value_choice(option, word, &index, why, bytes) != 0)
			return -EINVAL;
		set |= (uint64_t)1 << index;
		if (text[length] == '\0')
			break;
		text += length + 1;
	}
	uint64_t *target = option->target;
	*target = set;
	return 0;
}

int
cli_value_parse(const struct cli_option *option, const char *text, char *why,
    size_t why_bytes)
{
	const char **string = option->target;

	switch (option->kind) {
	case CLI_U64:
		return value_number(option, text, value_counts,
		    "a whole number such as 500, 10k or 2M", why, why_bytes);
	case CLI_BYTES:
		return value_number(option, text, value_bytes,
		    "a size such as 512, 64k or 1M", why, why_bytes);
	case CLI_TIME:
		return value_number(option, text, value_times,
		    "a time such as 5, 0.6, 20ms or 2m", why, why_bytes);
	case CLI_ENUM:
		return value_choice(
		    option, text, option->target, why, why_bytes);
	case CLI_SET:
		return value_set(option, text, why, why_bytes);
	case CLI_STRING:
		if (*text == '\0') {
			value_say(why, why_bytes, "it is empty");
			return -EINVAL;
		}
		*string = text;
		return 0;
	case CLI_FLAG:
		break;
	}
	value_say(why, why_bytes, "a flag takes no value");
	return -EINVAL;
}

static void
value_print_set(
    const struct cli_option *option, uint64_t set, char *buffer, size_t bytes)
{
	size_t used = 0;

	buffer[0] = '\0';
	for (int i = 0; option->choices[i] != NULL; i++) {
		if ((set >> i & 1) == 0)
			continue;
		snprintf(buffer + used, bytes - used, "%s%s",
		    used == 0 ? "" : ",", option->choices[i]);
		used = strlen(buffer);
	}
}

void
cli_value_text(const struct cli_option *option, char *buffer, size_t bytes)
{
	const uint64_t *number = option->target;
	const char *const *string = option->target;
	const bool *flag = option->target;
	const int *index = option->target;

	switch (option->kind) {
	case CLI_FLAG:
		snprintf(buffer, bytes, "%s", *flag ? "on" : "off");
		return;
	case CLI_STRING:
		snprintf(buffer, bytes, "%s", *string == NULL ? "" : *string);
		return;
	case CLI_ENUM:
		snprintf(buffer, bytes, "%s", option->choices[*index]);
		return;
	case CLI_SET:
		value_print_set(option, *number, buffer, bytes);
		return;
	case CLI_U64:
	case CLI_BYTES:
	case CLI_TIME:
		value_print_number(option->kind, *number, buffer, bytes);
		return;
	}
	buffer[0] = '\0';
}

const char *
cli_value_name(const struct cli_option *option)
{
	static const char *const names[] = {
	    [CLI_FLAG] = "",
	    [CLI_U64] = "N",
	    [CLI_BYTES] = "BYTES",
	    [CLI_TIME] = "TIME",
	    [CLI_STRING] = "TEXT",
	    [CLI_ENUM] = "WORD",
	    [CLI_SET] = "LIST",
	};

	if (option->value_name != NULL && option->kind != CLI_FLAG)
		return option->value_name;
	return names[option->kind];
}
