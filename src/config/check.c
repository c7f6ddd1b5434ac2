/* SPDX-License-Identifier: MIT */
/*
 * check.c - is a config one that can be put in force?
 *
 * Its values are the programmer's, so that one which contradicts another or is
 * out of range is refused, and the sentence about it is all there is to read.
 */
#include "config/resolve.h"

#include "base/bits.h"
#include "config/invalid.h"

#include <errno.h>

/* Alignment of a caller's range; the page size of pages/, whatever the
 * system's may be. */
#define CHECK_RANGE_ALIGN ((uintptr_t)4096)

#define CHECK_SOURCE_FLAGS_ALL                               \
	((unsigned)WEIR_SOURCE_PREFAULT | WEIR_SOURCE_LOCK | \
	    WEIR_SOURCE_NO_DUMP | WEIR_SOURCE_NO_TRIM)
#define CHECK_FLAGS_ALL                                    \
	((unsigned)WEIR_REPORT_LEAKS | WEIR_SHOW_OPTIONS | \
	    WEIR_IGNORE_ENVIRONMENT)

/* What is wrong with the config becomes the only line of the warnings. */
static int
check_refuse(struct weiri_text *why, struct weiri_invalid invalid)
{
	invalid.call = "weir_init";
	weiri_invalid_text(why, &invalid);
	weiri_text_char(why, '\n');
	return -EINVAL;
}

static int
check_reserved(struct weiri_text *why, const char *field, const uint64_t *words,
    size_t count)
{
	size_t i = weiri_invalid_word(words, count);

	if (i == count)
		return 0;
	return check_refuse(why,
	    (struct weiri_invalid){
		.field = field, .index = i, .value = words[i], .allowed = "0"});
}

/* A range's base or size: page by page, not empty, not beyond the end. */
static int
check_range(struct weiri_text *why, const struct weir_page_source *source)
{
	uintptr_t base = (uintptr_t)source->base;
	uintptr_t most =
	    (UINTPTR_MAX - base) / CHECK_RANGE_ALIGN * CHECK_RANGE_ALIGN;

	if (base == 0 || base % CHECK_RANGE_ALIGN != 0)
		return check_refuse(
		    why, (struct weiri_invalid){.field = "source.base",
			     .value = base,
			     .bits = true,
			     .allowed = "an address that is a multiple of %u",
			     .bound = {CHECK_RANGE_ALIGN}});
	if (source->bytes == 0 || source->bytes % CHECK_RANGE_ALIGN != 0 ||
	    source->bytes > most)
		return check_refuse(why,
		    (struct weiri_invalid){.field = "source.bytes",
			.value = source->bytes,
			.allowed = "%u .. %u, a multiple of %u",
			.bound = {CHECK_RANGE_ALIGN, most, CHECK_RANGE_ALIGN}});
	return 0;
}

/* The kind, and what belongs to another kind than the one that is set. */
static int
check_kind(struct weiri_text *why, const struct weir_page_source *source)
{
	switch (source->kind) {
	case WEIR_SOURCE_ANONYMOUS:
	case WEIR_SOURCE_HUGE:
	case WEIR_SOURCE_MEMFD:
		if (source->base == NULL && source->bytes == 0 &&
		    source->take == NULL)
			return 0;
		/* A range or functions without the kind are a slip. */
		return check_refuse(why,
		    (struct weiri_invalid){.field = "source.kind",
			.value = (unsigned)source->kind,
			.allowed = source->take != NULL
				       ? "WEIR_SOURCE_CUSTOM (%u), as take "
					 "is set"
				       : "WEIR_SOURCE_RANGE (%u), as base or "
					 "bytes is set",
			.bound = {source->take != NULL ? WEIR_SOURCE_CUSTOM
						       : WEIR_SOURCE_RANGE}});
	case WEIR_SOURCE_RANGE:
		return check_range(why, source);
	case WEIR_SOURCE_CUSTOM:
		if (source->take != NULL)
			return 0;
		return check_refuse(
		    why, (struct weiri_invalid){.field = "source.take",
			     .allowed = "a function, as kind is "
					"WEIR_SOURCE_CUSTOM"});
	}
	return check_refuse(
	    why, (struct weiri_invalid){.field = "source.kind",
		     .value = (unsigned)source->kind,
		     .allowed = "%u .. %u, of enum weir_source_kind",
		     .bound = {WEIR_SOURCE_ANONYMOUS, WEIR_SOURCE_CUSTOM}});
}

static int
check_source(struct weiri_text *why, const struct weir_page_source *source)
{
	if ((source->flags & ~CHECK_SOURCE_FLAGS_ALL) != 0)
		return check_refuse(
		    why, (struct weiri_invalid){.field = "source.flags",
			     .value = source->flags,
			     .bits = true,
			     .allowed = "flags of enum weir_source_flags"});

	int error = check_reserved(why, "source.reserved[]", source->reserved,
	    WEIRI_COUNT_OF(source->reserved));

	return error != 0 ? error : check_kind(why, source);
}

/* A sentence of its own: of a text there is more to say than what is allowed. */
static bool
check_debug(struct weiri_text *why, const struct weir_config *config)
{
	char says[WEIRI_DEBUG_WHY_BYTES];
	struct weiri_text text = {says, sizeof(says), 0};
	struct weiri_debug_option option;

	if (weiri_debug_parse(config->debug, &option, &text))
		return true;
	weiri_text_str(why, "weir_init: debug: ");
	weiri_text_str(why, says);
	weiri_text_char(why, '\n');
	return false;
}

int
weiri_options_check(const struct weir_config *config, struct weiri_text *why)
{
	if ((config->flags & ~CHECK_FLAGS_ALL) != 0)
		return check_refuse(
		    why, (struct weiri_invalid){.field = "flags",
			     .value = config->flags,
			     .bits = true,
			     .allowed = "flags of enum weir_config_flags"});
	if (config->limit_bytes != 0 && config->soft_bytes != 0 &&
	    config->soft_bytes != UINT64_MAX &&
	    config->soft_bytes > config->limit_bytes)
		return check_refuse(why,
		    (struct weiri_invalid){.field = "soft_bytes",
			.value = config->soft_bytes,
			.allowed = "at most limit_bytes, %u, or UINT64_MAX "
				   "for none",
			.bound = {config->limit_bytes}});

	if (config->maintain_ms > WEIRI_MAINTAIN_MS_MAX)
		return check_refuse(
		    why, (struct weiri_invalid){.field = "maintain_ms",
			     .value = config->maintain_ms,
			     .allowed = "at most %u",
			     .bound = {WEIRI_MAINTAIN_MS_MAX}});

	struct weiri_guard_option option;

	if (config->guard != NULL && !weiri_guard_parse(config->guard, &option))
		return check_refuse(why,
		    (struct weiri_invalid){.field = "guard",
			.value = 0,
			.allowed = "NULL, \"off\", "
				   "\"sample[:rate]\", \"full\" or \"tool\", "
				   "and \":pool,...\" for some "
				   "pools"});

	if (config->debug != NULL && !check_debug(why, config))
		return -EINVAL;

	int error = check_reserved(why, "reserved[]", config->reserved,
	    WEIRI_COUNT_OF(config->reserved));

	return error != 0 ? error : check_source(why, &config->source);
}
