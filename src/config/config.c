/* SPDX-License-Identifier: MIT */
/*
 * config.c - the options in force, found on first use, and the hooks.
 *
 * There is no constructor: whoever needs an option first starts the library.
 * resolve.c finds the options; this file sees to it that this happens once,
 * and delivers what it had to say after the lock is given back, because a
 * message goes to a hook that may use the library.
 *
 * Invariants:
 *
 *   C1  config_ready is set once, after the options are complete.  Afterwards
 *       only the two limits, the decay, the guard's mode and the debug menu
 *       change with their origins, by weir_set_limit(), weir_set_decay(),
 *       weir_guard_set() and weir_debug_set(), and at the end of the process the
 *       hooks, which become NULL.
 *   C2  config_mutex is a leaf: under it nothing but resolve.c runs, which
 *       reads the environment and the control group.
 *   C3  The fork handlers are in place before config_mutex is ever taken.
 */
#include "config/config.h"

#include "base/bits.h"
#include "config/resolve.h"
#include "os/os.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Longest message written to standard error; hooks get every line whole. */
#define CONFIG_LINE_BYTES 512

static struct weiri_mutex config_mutex = WEIRI_MUTEX_INITIALIZER;
static struct weiri_options config_options;
static bool config_ready;

static const char *
config_environment(const char *name)
{
	return getenv(name);
}

/* Under the lock: 0, -EALREADY when it had been done, or -EINVAL, for which
 * options->warnings says why. */
static int
config_start(const struct weir_config *config, struct weiri_options *options)
{
	if (WEIRI_LOAD(&config_ready))
		return -EALREADY;

	const struct weiri_inputs inputs = {
	    .environment = config_environment,
	    .memory_limit = weiri_os_memory_limit(),
	    .secure = weiri_os_secure(),
	};

	int result = weiri_options_resolve(options, config, &inputs);

	if (result != 0)
		return result;
	config_options = *options;
	/* Pairs with the acquire in weiri_config(). */
	__atomic_store_n(&config_ready, true, __ATOMIC_RELEASE);
	return 0;
}

static void config_deliver(const struct weir_config *config,
    enum weir_message_level level, const char *line);

/* Sends each line of @lines as a message of its own; they are cut apart. */
static void
config_send_lines(const struct weir_config *config,
    enum weir_message_level level, char *lines)
{
	for (char *end; (end = strchr(lines, '\n')) != NULL; lines = end + 1) {
		*end = '\0';
		config_deliver(config, level, lines);
	}
}

/* What the start has to say, with no lock held. */
static void
config_announce(void)
{
	char
	    text_bytes[1024 + WEIRI_GUARD_POOLS_BYTES + WEIRI_DEBUG_TEXT_BYTES];
	struct weiri_text text = {text_bytes, sizeof(text_bytes), 0};

	/* Only the thread that started the library comes here. */
	config_send_lines(&config_options.effective, WEIR_MESSAGE_WARNING,
	    config_options.warnings);
	if ((config_options.effective.flags & WEIR_SHOW_OPTIONS) == 0)
		return;
	weiri_config_text(&text);
	config_send_lines(
	    &config_options.effective, WEIR_MESSAGE_INFO, text_bytes);
}

int
weiri_config_set(const struct weir_config *config)
{
	struct weiri_options options;

	weiri_start();
	weiri_mutex_lock(&config_mutex);

	int result = config_start(config, &options);

	weiri_mutex_unlock(&config_mutex);
	if (result == 0) {
		config_announce();
		weiri_started();
	} else if (result == -EINVAL && config != NULL) {
		/* No options are in force yet, so the hook is the refused
		 * configuration's own. */
		config_send_lines(config, WEIR_MESSAGE_ERROR, options.warnings);
	}
	return result;
}

const struct weir_config *
weiri_config(void)
{
	/* Pairs with the release in config_start(). */
	if (WEIR_UNLIKELY(!__atomic_load_n(&config_ready, __ATOMIC_ACQUIRE)))
		(void)weiri_config_set(NULL); /* cannot be invalid */
	return &config_options.effective;
}

const struct weiri_guard_option *
weiri_config_guard(void)
{
	(void)weiri_config();
	return &config_options.guard_option;
}

const struct weiri_debug_option *
weiri_config_debug(void)
{
	(void)weiri_config();
	return &config_options.debug_option;
}

bool
weiri_config_started(void)
{
	return __atomic_load_n(&config_ready, __ATOMIC_ACQUIRE);
}

void
weiri_config_forget_hooks(void)
{
	WEIRI_STORE(&config_options.effective.message, NULL);
	WEIRI_STORE(&config_options.effective.oom, NULL);
	WEIRI_STORE(&config_options.effective.soft, NULL);
}

void
weiri_config_set_limits(uint64_t limit_bytes, uint64_t soft_bytes)
{
	(void)weiri_config();
	weiri_mutex_lock(&config_mutex);
	WEIRI_STORE(&config_options.effective.limit_bytes, limit_bytes);
	WEIRI_STORE(&config_options.effective.soft_bytes, soft_bytes);
	config_options.limit = WEIRI_ORIGIN_SET_LIMIT;
	config_options.soft = WEIRI_ORIGIN_SET_LIMIT;
	weiri_mutex_unlock(&config_mutex);
}

void
weiri_config_set_decay(uint64_t decay_ms)
{
	(void)weiri_config();
	weiri_mutex_lock(&config_mutex);
	WEIRI_STORE(&config_options.effective.decay_ms, decay_ms);
	config_options.decay = WEIRI_ORIGIN_SET_DECAY;
	weiri_mutex_unlock(&config_mutex);
}

void
weiri_config_set_guard(const struct weiri_guard_option *option)
{
	(void)weiri_config();
	weiri_mutex_lock(&config_mutex);
	config_options.guard_option = *option;
	config_options.guard = WEIRI_ORIGIN_SET_GUARD;
	weiri_mutex_unlock(&config_mutex);
}

void
weiri_config_set_debug(const struct weiri_debug_option *option, bool by_call)
{
	(void)weiri_config();
	weiri_mutex_lock(&config_mutex);
	config_options.debug_option = *option;
	if (by_call)
		config_options.debug = WEIRI_ORIGIN_SET_DEBUG;
	weiri_mutex_unlock(&config_mutex);
}

void
weiri_config_text(struct weiri_text *text)
{
	(void)weiri_config();
	weiri_mutex_lock(&config_mutex);
	weiri_options_describe(&config_options, text);
	weiri_mutex_unlock(&config_mutex);
}

void
weiri_config_fork_lock(void)
{
	weiri_mutex_lock(&config_mutex);
}

void
weiri_config_fork_unlock(void)
{
	weiri_mutex_unlock(&config_mutex);
}

/* ---- hooks ------------------------------------------------------------- */

/*
 * The program's hooks may do anything; an alloc leaves errno alone all the same,
 * so each call keeps it.  Each reads its hook once: when the process ends it may
 * be forgotten between a test and the call.
 */

static void
config_write_message(enum weir_message_level level, const char *line)
{
	char buffer[CONFIG_LINE_BYTES];
	/* One byte is kept back for the newline. */
	struct weiri_text text = {buffer, sizeof(buffer) - 1, 0};

	weiri_text_str(&text, "weir: ");
	if (level == WEIR_MESSAGE_WARNING)
		weiri_text_str(&text, "warning: ");
	else if (level == WEIR_MESSAGE_ERROR)
		weiri_text_str(&text, "error: ");
	weiri_text_str(&text, line);

	size_t used = weiri_min(text.used, sizeof(buffer) - 2);

	buffer[used] = '\n';
	weiri_os_write_error(buffer, used + 1);
}

static void
config_deliver(const struct weir_config *config, enum weir_message_level level,
    const char *line)
{
	weir_message_fn hook = WEIRI_LOAD(&config->message);
	int kept = errno;

	if (hook != NULL)
		hook(level, line, config->message_context);
	else
		config_write_message(level, line);
	errno = kept;
}

/* Does not start the library: a call that is refused must not take the choice
 * of options from the weir_init() after it.  Until then there is no hook. */
void
weiri_message(enum weir_message_level level, const char *line)
{
	static const struct weir_config none;

	config_deliver(
	    weiri_config_started() ? &config_options.effective : &none, level,
	    line);
}

bool
weiri_hook_oom(size_t bytes)
{
	const struct weir_config *config = weiri_config();
	weir_oom_fn hook = WEIRI_LOAD(&config->oom);
	int kept = errno;
	bool again = hook != NULL && hook(bytes, config->oom_context);

	errno = kept;
	return again;
}

void
weiri_hook_soft(uint64_t charged_bytes, uint64_t soft_bytes)
{
	const struct weir_config *config = weiri_config();
	weir_soft_fn hook = WEIRI_LOAD(&config->soft);
	int kept = errno;

	if (hook != NULL)
		hook(charged_bytes, soft_bytes, config->soft_context);
	errno = kept;
}
