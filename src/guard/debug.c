/* SPDX-License-Identifier: MIT */
/*
 * debug.c - the debug menu: which items are on for which pool, and the requests
 * that are made to fail.
 *
 * The menu adds no machine of its own.  An item that asks for a pool's objects
 * to lie elsewhere gives the pool a mode, and one that asks for its requests
 * makes it bare: threads keep nothing of it then, so that each request comes to
 * the slow path, as in mode full.  Where nothing is on the menu nothing is asked.
 *
 *     fail, fail-nth      bare; the slow path asks weiri_debug_refuses()
 *     no-cache            bare, and that is all of it
 *     pass-through        mode tool
 *     all others          mode menu: debug_object.c
 *
 * A request that is to fail does so where the pool would find that there is no
 * memory: the program's OOM hook is asked, the failure is counted, whoever called
 * gets NULL.  Which it is does not depend on time or addresses: requests of the
 * pools concerned are numbered, and a hash of the number and the seed decides.
 * So a program with one thread fails at the same places whenever it has the same
 * seed; with several, the same numbers fail, and the order they come in is
 * theirs.
 */
#include "base/bits.h"
#include "config/resolve.h"
#include "guard/debug.h"
#include "guard/state.h"

#include <errno.h>
#include <string.h>

#define DEBUG_PPM 1000000u

/* Drawn ones are short enough to be typed. */
#define DEBUG_SEEDS 1000000000u

static struct {
	struct weiri_debug_option option; /* under the guard's lock */
	/* Of it what requests look at; atomic. */
	uint32_t ppm;
	uint64_t nth, seed;
	bool on;
	/* Counts; atomic. */
	uint64_t requests, nth_requests, failed;
} debug;

/* ---- which items --------------------------------------------------------- */

unsigned
weiri_debug_bits(const struct weiri_guard_pool *pool)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < debug.option.count; i++) {
		const struct weiri_debug_entry *entry = &debug.option.entry[i];

		if (entry->pool[0] == '\0' ||
		    weiri_guard_lists(entry->pool, pool->name))
			bits |= entry->bit;
	}
	return bits;
}

unsigned
weiri_debug_bits_of_all(const struct weiri_debug_option *option)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < option->count; i++)
		bits |= option->entry[i].bit;
	return bits;
}

void
weiri_debug_put(const struct weiri_debug_option *option)
{
	unsigned bits = weiri_debug_bits_of_all(option);

	debug.option = *option;
	if ((bits & WEIRI_DEBUG_FAIL) != 0 && !option->has_seed) {
		debug.option.seed = weiri_os_random() % DEBUG_SEEDS;
		debug.option.has_seed = true;
	}
	WEIRI_STORE(&debug.ppm, option->fail_ppm);
	WEIRI_STORE(&debug.nth, option->fail_nth);
	WEIRI_STORE(&debug.on, option->fail_on);
	WEIRI_STORE(&debug.seed, debug.option.seed);
	WEIRI_STORE(&debug.requests, 0);
	WEIRI_STORE(&debug.nth_requests, 0);
}

enum weir_guard_mode
weiri_debug_mode(const struct weiri_guard_pool *pool, unsigned bits,
    enum weir_guard_mode mode)
{
	if (mode >= WEIR_GUARD_FULL)
		return mode;
	if ((bits & WEIRI_DEBUG_PASS_THROUGH) != 0)
		return WEIR_GUARD_TOOL;
	/* Only a region without room has each request come by. */
	if ((bits & WEIRI_DEBUG_PLACES) != 0 ||
	    ((bits & WEIRI_DEBUG_FAILS) != 0 &&
		strcmp(pool->kind, "region") == 0))
		return WEIRI_GUARD_MENU;
	return mode;
}

/* ---- requests that fail --------------------------------------------------- */

uint64_t
weiri_debug_failed(void)
{
	return WEIRI_LOAD(&debug.failed);
}

/* Steele's and others' splitmix64: neighbours have nothing in common. */
static uint64_t
debug_hash(uint64_t number)
{
	number *= UINT64_C(0x9e3779b97f4a7c15);
	number = (number ^ (number >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	number = (number ^ (number >> 27)) * UINT64_C(0x94d049bb133111eb);
	return number ^ (number >> 31);
}

static void
debug_tell_nth(const struct weiri_guard_pool *pool, uint64_t number)
{
	char line[192];
	struct weiri_text text = {line, sizeof(line), 0};

	weiri_text_str(&text, "debug menu: request ");
	weiri_text_u64(&text, number);
	weiri_text_str(&text, ", of ");
	weiri_text_str(&text, pool->kind);
	weiri_text_str(&text, " \"");
	weiri_text_str(&text, pool->name);
	weiri_text_str(&text, "\", fails");
	weiri_message(WEIR_MESSAGE_INFO, line);
}

/* Numbers a request, which is to fail or not. */
static bool
debug_draw(const struct weiri_guard_pool *pool, unsigned bits)
{
	bool fails = false;

	if ((bits & WEIRI_DEBUG_FAIL_NTH) != 0) {
		uint64_t nth = WEIRI_LOAD(&debug.nth);
		uint64_t number = __atomic_add_fetch(
		    &debug.nth_requests, 1, __ATOMIC_RELAXED);

		fails =
		    number == nth || (number > nth && WEIRI_LOAD(&debug.on));
		if (number == nth)
			debug_tell_nth(pool, number);
	}
	if ((bits & WEIRI_DEBUG_FAIL) != 0) {
		uint64_t number =
		    __atomic_add_fetch(&debug.requests, 1, __ATOMIC_RELAXED);
		uint64_t seed = debug_hash(WEIRI_LOAD(&debug.seed) + 1);

		fails |= (debug_hash(seed + number) >> 32) * DEBUG_PPM >> 32 <
			 WEIRI_LOAD(&debug.ppm);
	}
	return fails;
}

bool
weiri_debug_refuses(const struct weiri_guard_pool *pool, size_t bytes)
{
	unsigned bits = WEIRI_LOAD(&pool->debug);

	if ((bits & WEIRI_DEBUG_FAILS) == 0 || weiri_guard_self.reporting ||
	    !debug_draw(pool, bits))
		return false;
	/* Asked once, since what it frees does not help the next draw. */
	if (weiri_hook_oom(bytes) && !debug_draw(pool, bits))
		return false;
	__atomic_fetch_add(&debug.failed, 1, __ATOMIC_RELAXED);
	return true;
}

bool
weiri_guard_rests(const struct weiri_guard_pool *pool)
{
	return (WEIRI_LOAD(&pool->debug) & WEIRI_DEBUG_FAILS) == 0;
}

/* ---- the process ----------------------------------------------------------- */

/* What is in force, with its seed: to repeat it takes no more than this line. */
static void
debug_announce(bool by_call)
{
	char line[WEIRI_DEBUG_TEXT_BYTES + 16];
	struct weiri_text text = {line, sizeof(line), 0};
	struct weiri_debug_option option;

	weiri_mutex_lock(&weiri_guard_state.lock);
	option = debug.option;
	weiri_mutex_unlock(&weiri_guard_state.lock);
	weiri_config_set_debug(&option, by_call);
	if (option.count == 0)
		return;
	weiri_text_str(&text, "debug menu: ");
	weiri_debug_describe(&text, &option);
	weiri_message(WEIR_MESSAGE_INFO, line);
}

void
weiri_debug_start(void)
{
	if (weiri_config_debug()->count == 0)
		return;
	(void)weiri_guard_is_full(); /* puts it in force, if nothing did */
	debug_announce(false);
}

int
weiri_debug_apply(const char *menu)
{
	char why_bytes[WEIRI_DEBUG_WHY_BYTES] = "";
	char line[WEIRI_DEBUG_WHY_BYTES + 24];
	struct weiri_text why = {why_bytes, sizeof(why_bytes), 0};
	struct weiri_text text = {line, sizeof(line), 0};
	struct weiri_debug_option option;
	int error;

	if (!weiri_debug_parse(menu != NULL ? menu : "", &option, &why)) {
		weiri_text_str(&text, "weir_debug_set: ");
		weiri_text_str(&text, why_bytes);
		weiri_message(WEIR_MESSAGE_ERROR, line);
		return -EINVAL;
	}
	(void)weiri_config(); /* starts the library: options come first */
	error = weiri_guard_put_debug(&option);
	if (error == 0)
		debug_announce(true);
	return error;
}
