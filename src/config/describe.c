/* SPDX-License-Identifier: MIT */
/*
 * describe.c - the effective options as text: name, value, where it is from.
 */
#include "config/resolve.h"

static const char *
describe_origin_text(enum weiri_origin origin)
{
	static const char *const text[] = {
	    [WEIRI_ORIGIN_DEFAULT] = " (default)\n",
	    [WEIRI_ORIGIN_CONFIG] = " (weir_init)\n",
	    [WEIRI_ORIGIN_ENVIRONMENT] = " (environment)\n",
	    [WEIRI_ORIGIN_CGROUP] = " (cgroup)\n",
	    [WEIRI_ORIGIN_SET_LIMIT] = " (weir_set_limit)\n",
	    [WEIRI_ORIGIN_SET_DECAY] = " (weir_set_decay)\n",
	    [WEIRI_ORIGIN_SET_GUARD] = " (weir_guard_set)\n",
	    [WEIRI_ORIGIN_SET_DEBUG] = " (weir_debug_set)\n",
	};

	return text[origin];
}

static void
describe_line(struct weiri_text *text, const char *name, const char *value,
    enum weiri_origin origin)
{
	weiri_text_str(text, name);
	weiri_text_str(text, " = ");
	weiri_text_str(text, value);
	weiri_text_str(text, describe_origin_text(origin));
}

static void
describe_size_line(struct weiri_text *text, const char *name, uint64_t size,
    enum weiri_origin origin)
{
	char digits[24];
	struct weiri_text value = {digits, sizeof(digits), 0};

	if (size == UINT64_MAX)
		weiri_text_str(&value, "none");
	else
		weiri_text_u64(&value, size);
	describe_line(text, name, digits, origin);
}

static void
describe_time_line(struct weiri_text *text, const char *name, uint64_t ms,
    enum weiri_origin origin)
{
	char digits[24];
	struct weiri_text value = {digits, sizeof(digits), 0};

	if (ms == WEIR_DECAY_NEVER)
		weiri_text_str(&value, "never");
	else
		weiri_text_u64(&value, ms == WEIR_DECAY_AT_ONCE ? 0 : ms);
	describe_line(text, name, digits, origin);
}

static void
describe_source_lines(
    const struct weiri_options *options, struct weiri_text *text)
{
	static const char *const kind[] = {
	    [WEIR_SOURCE_ANONYMOUS] = "anonymous",
	    [WEIR_SOURCE_HUGE] = "huge",
	    [WEIR_SOURCE_MEMFD] = "memfd",
	    [WEIR_SOURCE_RANGE] = "range",
	    [WEIR_SOURCE_CUSTOM] = "custom",
	};
	const struct weir_page_source *source = &options->effective.source;
	char words[64] = "none";
	struct weiri_text value = {words, sizeof(words), 0};

	describe_line(
	    text, "source.kind", kind[source->kind], options->source_kind);
	for (size_t i = 0; i < WEIRI_SOURCE_FLAGS; i++) {
		if ((source->flags & weiri_source_flags[i].value) == 0)
			continue;
		if (value.used > 0)
			weiri_text_char(&value, ',');
		weiri_text_str(&value, weiri_source_flags[i].word);
	}
	describe_line(text, "source.flags", words, options->source_flags);
}

static void
describe_guard_line(
    const struct weiri_options *options, struct weiri_text *text)
{
	char words[WEIRI_GUARD_POOLS_BYTES + 32];
	struct weiri_text value = {words, sizeof(words), 0};

	weiri_guard_describe(&value, &options->guard_option);
	describe_line(text, "guard", words, options->guard);
}

static void
describe_debug_line(
    const struct weiri_options *options, struct weiri_text *text)
{
	char words[WEIRI_DEBUG_TEXT_BYTES];
	struct weiri_text value = {words, sizeof(words), 0};

	weiri_debug_describe(&value, &options->debug_option);
	describe_line(text, "debug", words, options->debug);
}

void
weiri_options_describe(
    const struct weiri_options *options, struct weiri_text *text)
{
	const struct weir_config *effective = &options->effective;

	describe_size_line(
	    text, "limit_bytes", effective->limit_bytes, options->limit);
	describe_size_line(
	    text, "soft_bytes", effective->soft_bytes, options->soft);
	describe_source_lines(options, text);
	describe_time_line(
	    text, "decay_ms", effective->decay_ms, options->decay);
	describe_time_line(
	    text, "maintain_ms", effective->maintain_ms, options->maintain);
	describe_guard_line(options, text);
	describe_debug_line(options, text);
	describe_line(text, "report_leaks",
	    (effective->flags & WEIR_REPORT_LEAKS) != 0 ? "1" : "0",
	    options->report_leaks);
	describe_line(text, "show_options",
	    (effective->flags & WEIR_SHOW_OPTIONS) != 0 ? "1" : "0",
	    options->show_options);
	weiri_text_str(text, "message = ");
	weiri_text_str(
	    text, effective->message != NULL ? "hook\n" : "standard error\n");
	weiri_text_str(text, "oom = ");
	weiri_text_str(text, effective->oom != NULL ? "hook\n" : "none\n");
	weiri_text_str(text, "soft = ");
	weiri_text_str(text, effective->soft != NULL ? "hook\n" : "none\n");
	weiri_text_str(text, "environment = ");
	weiri_text_str(text, options->environment_read ? "read\n"
			     : options->secure ? "ignored (raised privileges)\n"
					       : "ignored (weir_init)\n");
}
