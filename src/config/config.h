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

#include <weir/runtime.h>

/* Effective options: limit_bytes and soft_bytes are never 0 here. */
const struct weir_config *weiri_config(void);

/* As weir_init(), without the environment having been read before. */
int weiri_config_set(const struct weir_config *config);

/* The options as weir_options_text() shows them. */
void weiri_config_text(struct weiri_text *text);

/* Notes what weir_set_limit() put in force. */
void weiri_config_set_limits(uint64_t limit_bytes, uint64_t soft_bytes);

void weiri_config_fork_lock(void);
void weiri_config_fork_unlock(void);

/* Supplied by runtime/: installs the fork handlers.  Runs before the options
 * are looked for, any number of times; no other call starts the library. */
void weiri_start(void);

/* True once the options are in force. */
bool weiri_config_started(void);

/* From here on messages go to standard error and no hook is called. */
void weiri_config_forget_hooks(void);

/* One line to the message hook or standard error; no lock may be held. */
void weiri_message(enum weir_message_level level, const char *line);

/* Calls the hooks if set; no lock may be held. */
bool weiri_hook_oom(size_t bytes);
void weiri_hook_soft(uint64_t charged_bytes, uint64_t soft_bytes);

#endif /* WEIRI_CONFIG_H */
