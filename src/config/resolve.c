/* SPDX-License-Identifier: MIT */
/*
 * resolve.c - options from the config, else the environment, else defaults.
 *
 * A bad value in the environment must not stop a program that its operator
 * cannot rebuild, nor pass in silence: the option keeps its default and a
 * warning says the variable, its value and what would have been accepted.  A
 * bad value in the config is the programmer's, who gets -EINVAL
 * (check.c).
 *
 * The limits are where sources meet.  The program's own wish wins: an
 * environment that contradicts it is refused with a warning, and a soft limit
 * above the limit that the system sets is lowered to it.
 */
#include "config/resolve.h"

#include "base/bits.h"
#include "config/config.h"

#include <string.h>

#define RESOLVE_NONE UINT64_MAX

/* Long enough that a load with a period of some seconds keeps its memory. */
#define RESOLVE_DECAY_MS UINT64_C(10000)
#define RESOLVE_MS_DIGITS 10

/* Longer values are not ones of ours; a warning shows their beginning. */
#define RESOLVE_VALUE_SHOWN 64

static const struct weiri_word resolve_kinds[] = {
    {"anonymous", WEIR_SOURCE_ANONYMOUS},
    {"huge", WEIR_SOURCE_HUGE},
    {"memfd", WEIR_SOURCE_MEMFD},
};

const struct weiri_word weiri_source_flags[WEIRI_SOURCE_FLAGS] = {
    {"prefault", WEIR_SOURCE_PREFAULT},
    {"lock", WEIR_SOURCE_LOCK},
    {"nodump", WEIR_SOURCE_NO_DUMP},
    {"notrim", WEIR_SOURCE_NO_TRIM},
};

struct resolve {
	struct weiri_options *out;
	const struct weiri_inputs *inputs;
	struct weiri_text warnings;
};

/* ---- the environment --------------------------------------------------- */

/* NULL when it is unset, empty or not to be read. */
static const char *
resolve_variable(const struct resolve *resolve, const char *name)
{
	const char *value = NULL;

	if (resolve->out->environment_read)
		value = resolve->inputs->environment(name);
	return value != NULL && *value != '\0' ? value : NULL;
}

static void
resolve_warn(struct resolve *resolve, const char *name, const char *value,
    const char *why)
{
	struct weiri_text *text = &resolve->warnings;

	weiri_text_str(text, name);
	weiri_text_char(text, '=');
	for (size_t i = 0; value[i] != '\0' && i < RESOLVE_VALUE_SHOWN; i++) {
		char shown = '?';

		if (value[i] >= ' ' && value[i] <= '~')
			shown = value[i];
		weiri_text_char(text, shown);
	}
	if (strlen(value) > RESOLVE_VALUE_SHOWN)
		weiri_text_str(text, "...");
	weiri_text_str(text, " is ignored: ");
	weiri_text_str(text, why);
	weiri_text_char(text, '\n');
}

/* "none", or digits with at most one suffix; above 0, below 2^64 - 1. */
static bool
resolve_parse_size(const char *value, uint64_t *out)
{
	const char *at = value;
	uint64_t size = 0;
	unsigned shift = 0;

	if (strcmp(value, "none") == 0) {
		*out = RESOLVE_NONE;
		return true;
	}
	for (; *at >= '0' && *at <= '9'; at++)
		if (__builtin_mul_overflow(size, 10u, &size) ||
		    __builtin_add_overflow(size, (uint64_t)(*at - '0'), &size))
			return false;
	if (at == value)
		return false;

	switch (*at) {
	case 'k':
		shift = 10;
		break;
	case 'M':
		shift = 20;
		break;
	case 'G':
		shift = 30;
		break;
	default:
		break;
	}
	at += shift != 0;
	if (*at != '\0' || size == 0 || size > (RESOLVE_NONE - 1) >> shift)
		return false;
	*out = size << shift;
	return true;
}

/* True and *out when @name holds a size; warns when it holds something else. */
static bool
resolve_size(struct resolve *resolve, const char *name, uint64_t *out)
{
	const char *value = resolve_variable(resolve, name);

	if (value == NULL)
		return false;
	if (resolve_parse_size(value, out))
		return true;
	resolve_warn(resolve, name, value,
	    "expected a size above 0 such as 4096, 64k, 512M or 2G, or none");
	return false;
}

static const struct weiri_word *
resolve_find(const struct weiri_word *words, size_t count, const char *word,
    size_t length)
{
	for (size_t i = 0; i < count; i++)
		if (strlen(words[i].word) == length &&
		    memcmp(words[i].word, word, length) == 0)
			return &words[i];
	return NULL;
}

static bool
resolve_parse_flags(const char *value, unsigned *out)
{
	*out = 0;
	for (const char *at = value;; at++) {
		size_t length = strcspn(at, ",");
		const struct weiri_word *found =
		    resolve_find(weiri_source_flags,
			WEIRI_COUNT_OF(weiri_source_flags), at, length);

		if (found == NULL)
			return false;
		*out |= found->value;
		at += length;
		if (*at == '\0')
			return true;
	}
}

/* ---- one option after the other ----------------------------------------- */

static void
resolve_limit(struct resolve *resolve)
{
	struct weiri_options *out = resolve->out;
	struct weir_config *effective = &out->effective;
	uint64_t soft = effective->soft_bytes;
	uint64_t size;

	if (effective->limit_bytes != 0) {
		out->limit = WEIRI_ORIGIN_CONFIG;
		return;
	}
	if (resolve_size(resolve, "WEIR_LIMIT", &size)) {
		if (soft == 0 || soft == RESOLVE_NONE || size >= soft) {
			effective->limit_bytes = size;
			out->limit = WEIRI_ORIGIN_ENVIRONMENT;
			return;
		}
		resolve_warn(resolve, "WEIR_LIMIT",
		    resolve->inputs->environment("WEIR_LIMIT"),
		    "it is below the soft limit that the program set");
	}
	effective->limit_bytes = resolve->inputs->memory_limit;
	out->limit = effective->limit_bytes != RESOLVE_NONE
			 ? WEIRI_ORIGIN_CGROUP
			 : WEIRI_ORIGIN_DEFAULT;
}

static void
resolve_soft(struct resolve *resolve)
{
	struct weiri_options *out = resolve->out;
	struct weir_config *effective = &out->effective;
	uint64_t limit = effective->limit_bytes;
	uint64_t size;

	if (effective->soft_bytes != 0) {
		out->soft = WEIRI_ORIGIN_CONFIG;
		if (effective->soft_bytes != RESOLVE_NONE &&
		    effective->soft_bytes > limit)
			effective->soft_bytes = limit;
		return;
	}
	if (resolve_size(resolve, "WEIR_SOFT", &size)) {
		if (size == RESOLVE_NONE || size <= limit) {
			effective->soft_bytes = size;
			out->soft = WEIRI_ORIGIN_ENVIRONMENT;
			return;
		}
		resolve_warn(resolve, "WEIR_SOFT",
		    resolve->inputs->environment("WEIR_SOFT"),
		    "it is above the limit");
	}
	out->soft = WEIRI_ORIGIN_DEFAULT;
	effective->soft_bytes =
	    limit == RESOLVE_NONE ? RESOLVE_NONE : limit - limit / 10;
}

static void
resolve_source(struct resolve *resolve)
{
	struct weiri_options *out = resolve->out;
	struct weir_page_source *source = &out->effective.source;
	const char *value;
	unsigned flags;

	if (source->kind != WEIR_SOURCE_ANONYMOUS) {
		out->source_kind = WEIRI_ORIGIN_CONFIG;
	} else if ((value = resolve_variable(resolve, "WEIR_SOURCE")) != NULL) {
		const struct weiri_word *found = resolve_find(resolve_kinds,
		    WEIRI_COUNT_OF(resolve_kinds), value, strlen(value));

		if (found != NULL) {
			source->kind = (enum weir_source_kind)found->value;
			out->source_kind = WEIRI_ORIGIN_ENVIRONMENT;
		} else {
			resolve_warn(resolve, "WEIR_SOURCE", value,
			    "expected anonymous, huge or memfd");
		}
	}

	if (source->flags != 0) {
		out->source_flags = WEIRI_ORIGIN_CONFIG;
		return;
	}
	value = resolve_variable(resolve, "WEIR_SOURCE_FLAGS");
	if (value == NULL)
		return;
	if (resolve_parse_flags(value, &flags)) {
		source->flags = flags;
		out->source_flags = WEIRI_ORIGIN_ENVIRONMENT;
	} else {
		resolve_warn(resolve, "WEIR_SOURCE_FLAGS", value,
		    "expected a list such as prefault,lock,nodump,notrim");
	}
}

/* Digits, milliseconds of less than a year. */
static bool
resolve_parse_ms(const char *value, uint64_t *out)
{
	size_t digits = strspn(value, "0123456789");

	*out = 0;
	for (size_t i = 0; i < digits && digits <= RESOLVE_MS_DIGITS; i++)
		*out = *out * 10 + (uint64_t)(value[i] - '0');
	return digits > 0 && digits <= RESOLVE_MS_DIGITS &&
	       value[digits] == '\0';
}

static void
resolve_decay(struct resolve *resolve)
{
	struct weiri_options *out = resolve->out;
	struct weir_config *effective = &out->effective;
	const char *value;
	uint64_t ms;

	if (effective->decay_ms != 0) {
		out->decay = WEIRI_ORIGIN_CONFIG;
		return;
	}
	effective->decay_ms = RESOLVE_DECAY_MS;
	value = resolve_variable(resolve, "WEIR_DECAY");
	if (value == NULL)
		return;
	if (strcmp(value, "never") == 0) {
		effective->decay_ms = WEIR_DECAY_NEVER;
	} else if (resolve_parse_ms(value, &ms)) {
		effective->decay_ms = ms > 0 ? ms : WEIR_DECAY_AT_ONCE;
	} else {
		resolve_warn(resolve, "WEIR_DECAY", value,
		    "expected milliseconds such as 10000, 0 for at once, or "
		    "never");
		return;
	}
	out->decay = WEIRI_ORIGIN_ENVIRONMENT;
}

static void
resolve_maintain(struct resolve *resolve)
{
	struct weiri_options *out = resolve->out;
	const char *value;
	uint64_t ms;

	if (out->effective.maintain_ms != 0) {
		out->maintain = WEIRI_ORIGIN_CONFIG;
		return;
	}
	value = resolve_variable(resolve, "WEIR_MAINTAIN");
	if (value == NULL)
		return;
	if (resolve_parse_ms(value, &ms) && ms <= WEIRI_MAINTAIN_MS_MAX) {
		out->effective.maintain_ms = ms;
		out->maintain = WEIRI_ORIGIN_ENVIRONMENT;
	} else {
		resolve_warn(resolve, "WEIR_MAINTAIN", value,
		    "expected milliseconds, 1 to 3600000, or 0 for no helper "
		    "thread");
	}
}

static void
resolve_guard(struct resolve *resolve)
{
	struct weiri_options *out = resolve->out;
	const char *value;

	if (out->effective.guard != NULL) {
		/* Looked at before: see check.c. */
		(void)weiri_guard_parse(
		    out->effective.guard, &out->guard_option);
		out->guard = WEIRI_ORIGIN_CONFIG;
		return;
	}
	value = resolve_variable(resolve, "WEIR_GUARD");
	if (value == NULL)
		return;
	if (weiri_guard_parse(value, &out->guard_option))
		out->guard = WEIRI_ORIGIN_ENVIRONMENT;
	else
		resolve_warn(resolve, "WEIR_GUARD", value,
		    "expected off, sample[:rate], full or tool, and :pool,... "
		    "for "
		    "some pools");
}

static void
resolve_debug(struct resolve *resolve)
{
	struct weiri_options *out = resolve->out;
	char why_bytes[WEIRI_DEBUG_WHY_BYTES] = "";
	struct weiri_text why = {why_bytes, sizeof(why_bytes), 0};
	const char *value;

	if (out->effective.debug != NULL) {
		(void)weiri_debug_parse(
		    out->effective.debug, &out->debug_option, &why);
		out->debug = WEIRI_ORIGIN_CONFIG;
		return;
	}
	value = resolve_variable(resolve, "WEIR_DEBUG");
	if (value == NULL)
		return;
	if (weiri_debug_parse(value, &out->debug_option, &why))
		out->debug = WEIRI_ORIGIN_ENVIRONMENT;
	else
		resolve_warn(resolve, "WEIR_DEBUG", value, why_bytes);
}

static enum weiri_origin
resolve_flag(struct resolve *resolve, const char *name, unsigned bit)
{
	const char *value;

	if ((resolve->out->effective.flags & bit) != 0)
		return WEIRI_ORIGIN_CONFIG;
	value = resolve_variable(resolve, name);
	if (value == NULL)
		return WEIRI_ORIGIN_DEFAULT;
	if (strcmp(value, "1") == 0) {
		resolve->out->effective.flags |= bit;
		return WEIRI_ORIGIN_ENVIRONMENT;
	}
	if (strcmp(value, "0") == 0)
		return WEIRI_ORIGIN_ENVIRONMENT;
	resolve_warn(resolve, name, value, "expected 0 or 1");
	return WEIRI_ORIGIN_DEFAULT;
}

int
weiri_options_resolve(struct weiri_options *out,
    const struct weir_config *config, const struct weiri_inputs *inputs)
{
	struct resolve resolve = {
	    .out = out,
	    .inputs = inputs,
	    .warnings = {out->warnings, sizeof(out->warnings), 0},
	};

	memset(out, 0, sizeof(*out));
	if (config != NULL) {
		int error = weiri_options_check(config, &resolve.warnings);

		if (error != 0)
			return error;
		out->effective = *config;
	}
	out->secure = inputs->secure;
	out->environment_read =
	    !inputs->secure &&
	    (out->effective.flags & WEIR_IGNORE_ENVIRONMENT) == 0;

	resolve_limit(&resolve);
	resolve_soft(&resolve);
	resolve_source(&resolve);
	resolve_decay(&resolve);
	resolve_maintain(&resolve);
	resolve_guard(&resolve);
	resolve_debug(&resolve);
	out->report_leaks =
	    resolve_flag(&resolve, "WEIR_LEAKS", WEIR_REPORT_LEAKS);
	out->show_options =
	    resolve_flag(&resolve, "WEIR_SHOW", WEIR_SHOW_OPTIONS);
	return 0;
}
