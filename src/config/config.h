/* SPDX-License-Identifier: MIT */
/*
 * config.h - the options in force and the hooks into the program.
 *
 * Resolved once, on first use, from weir_init()'s config, the environment and
 * the defaults, in this order.
 */
#ifndef WEIRI_CONFIG_H
#define WEIRI_CONFIG_H

#include "base/text.h"

#include <weir/guard.h>
#include <weir/runtime.h>

/* What maintain_ms may be at most: an hour. */
#define WEIRI_MAINTAIN_MS_MAX UINT64_C(3600000)

/* Effective options: limit_bytes, soft_bytes and decay_ms are never 0 here. */
const struct weir_config *weiri_config(void);

/* What weir_config.guard or WEIR_GUARD says. */
#define WEIRI_GUARD_POOLS_BYTES 256

struct weiri_guard_option {
	enum weir_guard_mode mode;
	uint32_t rate;                       /* 0: by time */
	char pools[WEIRI_GUARD_POOLS_BYTES]; /* empty: all */
};

/* The debug menu: symbol, word, and the form of its value. */
/* clang-format off */
#define WEIRI_DEBUG_ITEMS(X)                   \
	X(FAIL, "fail", "P%")                  \
	X(FAIL_NTH, "fail-nth", "N[+]")        \
	X(SEED, "seed", "N")                   \
	X(POISON, "poison", NULL)              \
	X(TAG, "tag", NULL)                    \
	X(CALLER, "caller", NULL)              \
	X(COLD_FIRST, "cold-first", NULL)      \
	X(NO_CACHE, "no-cache", NULL)          \
	X(INTEGRITY, "integrity", NULL)        \
	X(PASS_THROUGH, "pass-through", NULL)
/* clang-format on */

enum weiri_debug_number {
#define X(symbol, word, form) WEIRI_DEBUG_NUMBER_##symbol,
	WEIRI_DEBUG_ITEMS(X)
#undef X
};

/* A bit each. */
enum weiri_debug_bit {
#define X(symbol, word, form) \
	WEIRI_DEBUG_##symbol = 1 << WEIRI_DEBUG_NUMBER_##symbol,
	WEIRI_DEBUG_ITEMS(X)
#undef X
};

#define WEIRI_DEBUG_ENTRIES 24
#define WEIRI_DEBUG_POOL_BYTES 48

/* What weir_config.debug or WEIR_DEBUG says. */
struct weiri_debug_option {
	struct weiri_debug_entry {
		unsigned bit;
		char pool[WEIRI_DEBUG_POOL_BYTES]; /* empty: all */
	} entry[WEIRI_DEBUG_ENTRIES];
	unsigned count;
	uint32_t fail_ppm; /* 0: no such item */
	uint64_t fail_nth; /* likewise */
	bool fail_on;      /* the n-th and all behind it */
	bool has_seed;
	uint64_t seed;
};

/* Longer than any option is as text. */
#define WEIRI_DEBUG_TEXT_BYTES \
	(WEIRI_DEBUG_ENTRIES * (WEIRI_DEBUG_POOL_BYTES + 40) + 40)

const struct weiri_debug_option *weiri_config_debug(void);
/* Notes what is in force: the seed it was given, or what weir_debug_set() said. */
void weiri_config_set_debug(
    const struct weiri_debug_option *option, bool by_call);

/* What it was at the start; to be read before it can change. */
const struct weiri_guard_option *weiri_config_guard(void);
/* Notes what weir_guard_set() put in force. */
void weiri_config_set_guard(const struct weiri_guard_option *option);

/* As weir_init(), without the environment having been read before. */
int weiri_config_set(const struct weir_config *config);

/* The options as weir_options_text() shows them. */
void weiri_config_text(struct weiri_text *text);

/* Notes what weir_set_limit() put in force. */
void weiri_config_set_limits(uint64_t limit_bytes, uint64_t soft_bytes);

/* Notes what weir_set_decay() put in force; not 0. */
void weiri_config_set_decay(uint64_t decay_ms);

void weiri_config_fork_lock(void);
void weiri_config_fork_unlock(void);

/* Supplied by runtime/: installs the fork handlers.  Runs before the options
 * are looked for, any number of times; no other call starts the library. */
void weiri_start(void);

/* Supplied by runtime/: the options are in force.  Runs once, with no lock held,
 * on the thread that started the library. */
void weiri_started(void);

/* True once the options are in force. */
bool weiri_config_started(void);

/* From here on messages go to standard error and no hook is called. */
void weiri_config_forget_hooks(void);

/* One line to the message hook or standard error; no lock may be held.  Does
 * not start the library. */
void weiri_message(enum weir_message_level level, const char *line);

/* Calls the hooks if set; no lock may be held. */
bool weiri_hook_oom(size_t bytes);
void weiri_hook_soft(uint64_t charged_bytes, uint64_t soft_bytes);

#endif /* WEIRI_CONFIG_H */
