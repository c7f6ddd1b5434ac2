/* SPDX-License-Identifier: MIT */
/*
 * leaks.c - objects under guard that are in use: where they were taken, for how
 * long they have been, and whether that is unusual.
 *
 * In mode full these are all objects, and at the end of a program what is left is
 * leaked.  In production they are samples, and the program does not end.  What a
 * sample can tell there is its age: each pool has a count of lifetimes, in steps
 * of a half of a power of two, and one that is in use for several times as long
 * as 99 of 100 lived is a suspect.  No collector has to look for pointers to it,
 * and nothing is paid for objects that were not picked.
 *
 *     lifetimes   1us ... |   . : | # # : .   ... |
 *                                   99 %  ^   4 x  ^ suspects from here on
 *
 * Objects of one pool and one stack are one entry.  The entries are gathered
 * under the guard's lock into a table of fixed size, since a report of leaks is no
 * moment to allocate; what it has no room for is told as one entry without a
 * stack.  Those with the most bytes are told, after the lock.
 */
#include "guard/leaks.h"

#include "base/bits.h"
#include "base/text.h"
#include "config/config.h"
#include "guard/json.h"
#include "guard/runs.h"
#include "guard/state.h"
#include "os/guard.h"

#include <string.h>

#define S weiri_guard_state

/* Half powers of two of a nanosecond, up to some six hours. */
#define LEAKS_STEPS 90

/* Lifetimes that a quantile takes. */
#define LEAKS_LIVES_MIN 100

/* How many times the quantile is unusual. */
#define LEAKS_FACTOR 4

#define LEAKS_ENTRIES 1024u /* a power of two */
#define LEAKS_TOLD 32

#define LEAKS_LINE_BYTES 320
#define LEAKS_JSON_BYTES 3072

uint64_t (*weiri_leaks_clock)(void);

struct leaks_lives {
	uint32_t serial; /* of the pool that is counted; atomic */
	uint32_t count;
	uint32_t step[LEAKS_STEPS];
};

/* As the table of names. */
static struct leaks_lives leaks_lives[WEIRI_GUARD_NAMES];

struct leaks_entry {
	uint64_t objects, bytes, suspects; /* objects 0: free */
	uint64_t first_ns, last_ns;        /* born */
	uint32_t site;
	uint16_t named;
	uint8_t space;
};

/* Under the guard's lock; the last one is for what found no place. */
static struct leaks_entry leaks_table[LEAKS_ENTRIES + 1];

static uint64_t
leaks_now(void)
{
	return weiri_leaks_clock != NULL ? weiri_leaks_clock()
					 : weiri_os_now_ns();
}

/* ---- lifetimes ----------------------------------------------------------- */

/* 2^(step / 2) <= ns, but for the first. */
static unsigned
lives_step(uint64_t ns)
{
	unsigned whole = weiri_log2_floor((size_t)(ns | 1));
	bool half = whole > 0 && (ns >> (whole - 1) & 1) != 0;

	return (unsigned)weiri_min(2 * whole + half, LEAKS_STEPS - 1);
}

/* All of a step are shorter. */
static uint64_t
lives_step_end(unsigned step)
{
	uint64_t whole = UINT64_C(1) << (step / 2);

	return step % 2 == 0 ? whole + whole / 2 : 2 * whole;
}

void
weiri_leaks_note(const struct weiri_guarded *guarded)
{
	struct leaks_lives *lives = &leaks_lives[guarded->named];
	uint32_t serial = S.name[guarded->named].serial;
	uint64_t ns = guarded->ended_ns - guarded->born_ns;

	/* Another pool has the entry. */
	if (WEIR_UNLIKELY(WEIRI_LOAD(&lives->serial) != serial)) {
		weiri_mutex_lock(&S.lock);
		if (lives->serial != serial) {
			memset(lives, 0, sizeof(*lives));
			WEIRI_STORE(&lives->serial, serial);
		}
		weiri_mutex_unlock(&S.lock);
	}
	__atomic_fetch_add(&lives->step[lives_step(ns)], 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&lives->count, 1, __ATOMIC_RELAXED);
}

/* An age from which on an object is a suspect; UINT64_MAX: too few ended. */
static uint64_t
lives_unusual(unsigned named)
{
	const struct leaks_lives *lives = &leaks_lives[named];
	uint64_t count = WEIRI_LOAD(&lives->count), sum = 0;

	if (count < LEAKS_LIVES_MIN || lives->serial != S.name[named].serial)
		return UINT64_MAX;
	for (unsigned step = 0; step < LEAKS_STEPS; step++) {
		sum += WEIRI_LOAD(&lives->step[step]);
		if (sum * 100 >= count * 99)
			return LEAKS_FACTOR * lives_step_end(step);
	}
	return UINT64_MAX;
}

/* ---- gathering ------------------------------------------------------------- */

static struct leaks_entry *
leaks_entry_of(uint8_t space, uint16_t named, uint32_t site)
{
	uint32_t hash = (site * 31 + named) * 2654435761u + space;

	for (unsigned i = 0; i < 16; i++) {
		struct leaks_entry *entry =
		    &leaks_table[((hash >> 8) + i) & (LEAKS_ENTRIES - 1)];

		if (entry->objects == 0) {
			entry->space = space;
			entry->named = named;
			entry->site = site;
			return entry;
		}
		if (entry->site == site && entry->named == named &&
		    entry->space == space)
			return entry;
	}
	return &leaks_table[LEAKS_ENTRIES];
}

static void
leaks_add(uint8_t space, const struct weiri_guarded *guarded, uint64_t objects,
    uint64_t bytes, uint64_t now)
{
	uint64_t born = guarded->born_ns;
	struct leaks_entry *entry =
	    leaks_entry_of(space, guarded->named, guarded->born_site);

	if (entry->objects == 0)
		entry->first_ns = entry->last_ns = born;
	entry->objects += objects;
	entry->first_ns = weiri_min(entry->first_ns, born);
	entry->last_ns = weiri_max(entry->last_ns, born);
	entry->bytes += bytes;
	if (now > born && now - born > lives_unusual(guarded->named))
		entry->suspects += objects;
}

/* A pool's object is a unit of the run. */
static void
leaks_add_run(const struct weiri_runs *runs, const struct weiri_guarded *run,
    void *context)
{
	leaks_add((uint8_t)(run->sites - 1), run, run->bytes,
	    run->bytes * runs->unit_bytes, *(const uint64_t *)context);
}

/* Under the lock. */
static void
leaks_gather(uint64_t now)
{
	memset(leaks_table, 0, sizeof(leaks_table));
	for (size_t i = 0; i < WEIRI_COUNT_OF(S.space); i++) {
		const struct weiri_space *space = &S.space[i];

		for (uint32_t n = 1; n < space->record_count; n++)
			/* Pairs with the release in object_begin(). */
			if (__atomic_load_n(&space->record[n].state,
				__ATOMIC_ACQUIRE) == WEIRI_GUARDED_LIVE)
				leaks_add((uint8_t)i, &space->record[n], 1,
				    space->record[n].bytes, now);
	}
	weiri_runs_for_live(leaks_add_run, &now);
}

/* Those with the most bytes, in order. */
static size_t
leaks_pick(enum weir_leaks which, struct leaks_entry told[LEAKS_TOLD])
{
	size_t count = 0;

	for (unsigned i = 0; i <= LEAKS_ENTRIES; i++) {
		const struct leaks_entry *entry = &leaks_table[i];
		size_t at = count;

		if (entry->objects == 0 ||
		    (which == WEIR_LEAKS_SUSPECTS && entry->suspects == 0))
			continue;
		while (at > 0 && told[at - 1].bytes < entry->bytes)
			at--;
		if (at == LEAKS_TOLD)
			continue;
		count = weiri_min(count + 1, LEAKS_TOLD);
		memmove(&told[at + 1], &told[at],
		    (count - 1 - at) * sizeof(told[0]));
		told[at] = *entry;
	}
	return count;
}

/* ---- telling --------------------------------------------------------------- */

static void
leaks_text(struct weiri_text *text, const struct weir_leak *leak)
{
	weiri_text_str(text, "leak: ");
	weiri_text_str(text, leak->pool_kind);
	weiri_text_str(text, " \"");
	weiri_text_str(text, leak->pool_name);
	weiri_text_str(text, "\": ");
	weiri_text_u64(text, leak->objects);
	weiri_text_str(text, leak->objects == 1 ? " object, " : " objects, ");
	weiri_text_u64(text, leak->bytes);
	weiri_text_str(
	    text, leak->bytes == 1 ? " byte, taken " : " bytes, taken ");
	weiri_text_fixed(text, leak->age_ns_min / 1000, 6);
	if (leak->objects > 1) {
		weiri_text_str(text, " to ");
		weiri_text_fixed(text, leak->age_ns_max / 1000, 6);
	}
	weiri_text_str(text, " s ago");
	if (leak->suspects > 0) {
		weiri_text_str(text, ", ");
		weiri_text_u64(text, leak->suspects);
		weiri_text_str(text, " suspect: few live for ");
		weiri_text_fixed(text, leak->suspect_ns / 1000, 6);
		weiri_text_str(text, " s");
	}
	if (leak->stack_count > 0)
		weiri_text_str(text, ", by:");
}

static void
leaks_json(struct weiri_text *text, const struct weir_leak *leak,
    const struct weiri_stack *stack)
{
	struct weiri_json_modules modules;

	weiri_text_char(text, '{');
	weiri_json_string(text, "weir", "leak");
	weiri_json_string(text, "kind", leak->pool_kind);
	weiri_json_string(text, "pool", leak->pool_name);
	weiri_json_number(text, "objects", (int64_t)leak->objects);
	weiri_json_number(text, "bytes", (int64_t)leak->bytes);
	weiri_json_number(text, "age_ns_min", (int64_t)leak->age_ns_min);
	weiri_json_number(text, "age_ns_max", (int64_t)leak->age_ns_max);
	weiri_json_number(text, "suspects", (int64_t)leak->suspects);
	if (leak->suspect_ns != 0)
		weiri_json_number(
		    text, "suspect_ns", (int64_t)leak->suspect_ns);
	weiri_json_string(text, "line", leak->line);
	weiri_json_stack(text, "stack", stack);
	weiri_json_modules_begin(&modules, text);
	weiri_json_modules_add(&modules, stack);
	weiri_json_modules_end(&modules);
	weiri_text_char(text, '}');
}

static void
leaks_write_stack(const struct weiri_stack *stack)
{
	for (uint32_t i = 0; i < stack->count; i++) {
		char line[LEAKS_LINE_BYTES], path[256];
		struct weiri_text text = {line, sizeof(line), 0};
		uintptr_t base = 0;

		weiri_text_str(&text, "  #");
		weiri_text_u64(&text, i);
		weiri_text_char(&text, ' ');
		weiri_text_hex(&text, stack->frame[i]);
		if (weiri_os_module(
			stack->frame[i], path, sizeof(path), &base)) {
			weiri_text_char(&text, ' ');
			weiri_text_str(&text, path);
			weiri_text_char(&text, '+');
			weiri_text_hex(&text, stack->frame[i] - base);
		}
		weiri_message(WEIR_MESSAGE_WARNING, line);
	}
}

/* False: no more of them. */
static bool
leaks_tell(const struct leaks_entry *entry, uint64_t now, weir_leak_fn tell,
    void *context)
{
	const struct weiri_guard_name *name = &S.name[entry->named];
	char line[LEAKS_LINE_BYTES], json[LEAKS_JSON_BYTES];
	struct weiri_text text = {line, sizeof(line), 0};
	struct weiri_text object = {json, sizeof(json) - 1, 0};
	uint64_t unusual = lives_unusual(entry->named);
	const void *frames[WEIRI_STACK_FRAMES];
	struct weiri_stack stack;
	struct weir_leak leak = {
	    .pool_kind = name->kind != NULL ? name->kind : "pool",
	    .pool_name = name->name,
	    .objects = entry->objects,
	    .bytes = entry->bytes,
	    .age_ns_min = now - weiri_min(now, entry->last_ns),
	    .age_ns_max = now - weiri_min(now, entry->first_ns),
	    .suspects = entry->suspects,
	    .suspect_ns = unusual != UINT64_MAX ? unusual : 0,
	    .stack = frames,
	    .line = line,
	    .json = json,
	};

	if (entry->named == 0)
		leak.pool_name = "all others";
	weiri_sites_get(&S.space[entry->space].sites, entry->site, &stack);
	leak.stack_count = stack.count;
	for (uint32_t i = 0; i < stack.count; i++)
		frames[i] = (const void *)stack.frame[i];
	leaks_text(&text, &leak);
	leaks_json(&object, &leak, &stack);
	if (tell != NULL)
		return tell(&leak, context);
	weiri_message(WEIR_MESSAGE_WARNING, line);
	leaks_write_stack(&stack);
	object.used = weiri_min(object.used, sizeof(json) - 2);
	json[object.used] = '\n';
	weiri_os_write_error(json, object.used + 1);
	return true;
}

size_t
weir_guard_leaks(enum weir_leaks which, weir_leak_fn tell, void *context)
{
	struct leaks_entry told[LEAKS_TOLD + 1];
	uint64_t now = leaks_now();
	size_t count, i = 0;

	weiri_mutex_lock(&S.lock);
	leaks_gather(now);
	count = leaks_pick(which, told);
	weiri_mutex_unlock(&S.lock);
	while (i < count && leaks_tell(&told[i], now, tell, context))
		i++;
	return count;
}
