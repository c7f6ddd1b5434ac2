/* SPDX-License-Identifier: MIT */
/*
 * resolve.h - where each option comes from, as a function without side effects.
 *
 * config.c calls it once with the real environment; tests call it with one of
 * their own, raised privileges and control group included.
 */
#ifndef WEIRI_RESOLVE_H
#define WEIRI_RESOLVE_H

#include "base/text.h"
#include "config/config.h"

/* Where an option was found. */
enum weiri_origin {
	WEIRI_ORIGIN_DEFAULT,
	WEIRI_ORIGIN_CONFIG, /* weir_init() */
	WEIRI_ORIGIN_ENVIRONMENT,
	WEIRI_ORIGIN_CGROUP,
	WEIRI_ORIGIN_SET_LIMIT, /* weir_set_limit() */
	WEIRI_ORIGIN_SET_DECAY, /* weir_set_decay() */
	WEIRI_ORIGIN_SET_GUARD, /* weir_guard_set() */
	WEIRI_ORIGIN_SET_DEBUG, /* weir_debug_set() */
};

/* A word of an option, and what it stands for. */
struct weiri_word {
	const char *word;
	unsigned value;
};

/* The flags of a page source. */
#define WEIRI_SOURCE_FLAGS 4
extern const struct weiri_word weiri_source_flags[WEIRI_SOURCE_FLAGS];

/* What the world outside says. */
struct weiri_inputs {
	const char *(*environment)(const char *name); /* NULL: not set */
	uint64_t memory_limit; /* of the system; UINT64_MAX: none */
	bool secure;           /* raised privileges: no environment */
};

/* Lines about values that were not taken, each ended by a newline. */
#define WEIRI_WARNINGS_BYTES 1536

struct weiri_options {
	struct weir_config effective;
	enum weiri_origin limit, soft, source_kind, source_flags;
	enum weiri_origin decay, maintain, guard, debug;
	struct weiri_guard_option guard_option;
	struct weiri_debug_option debug_option;
	enum weiri_origin report_leaks, show_options;
	bool environment_read;
	bool secure;
	char warnings[WEIRI_WARNINGS_BYTES];
};

/*
 * Fills *out from @config (NULL: nothing set), then @inputs, then the
 * defaults.  Returns 0, or -EINVAL for a config that contradicts itself, which
 * out->warnings then names alone; values of the environment never fail, they
 * become warnings.
 */
int weiri_options_resolve(struct weiri_options *out,
    const struct weir_config *config, const struct weiri_inputs *inputs);

/* check.c: 0, or -EINVAL with a line appended to @why. */
int weiri_options_check(
    const struct weir_config *config, struct weiri_text *why);

/* guard_option.c: false for a text that is none; then *out is as it was. */
bool weiri_guard_parse(const char *text, struct weiri_guard_option *out);
/* The text that means the option. */
void weiri_guard_describe(
    struct weiri_text *text, const struct weiri_guard_option *option);

/* What is wrong with a menu takes no more. */
#define WEIRI_DEBUG_WHY_BYTES 320

/* debug_option.c: false for a text that is none; then *out is as it was, and
 * @why says what is wrong. */
bool weiri_debug_parse(
    const char *text, struct weiri_debug_option *out, struct weiri_text *why);
void weiri_debug_describe(
    struct weiri_text *text, const struct weiri_debug_option *option);

/* describe.c: one "name = value (origin)" a line. */
void weiri_options_describe(
    const struct weiri_options *options, struct weiri_text *text);

#endif /* WEIRI_RESOLVE_H */
