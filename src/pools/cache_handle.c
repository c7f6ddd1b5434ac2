/* SPDX-License-Identifier: MIT */
/*
 * cache_handle.c - handles: an object's place and the generation of its use.
 *
 *      63             32 31                  12 11         0
 *     +-----------------+----------------------+------------+
 *     |   generation    |        table         |    slot    |
 *     +-----------------+----------------------+------------+
 *
 *     handle_tables[table] --> | cache | first | generation of slot 0, 1, ... |
 *                                         |
 *                                         +--> the slab's slots
 *
 * Each slab of a cache with handles has a table with a generation for each
 * slot; a free moves it on.  The generations lie outside the slab, because a
 * stale handle must find one after the slab went back to the system: tables are
 * never freed, and keep their number.  A slab that ends leaves its table to the
 * next one of about its size, in any cache, and the generations there begin
 * above all that were.  So a table's number, once used, always leads to a table,
 * and a generation never comes back before 2^32 frees.
 *
 * What stays of a slab is 4 bytes a slot.  Where they fill whole pages their
 * memory goes back to the system as well: it reads as zero then, which is no
 * generation.
 *
 *   H1  handle_tables[n] is NULL or, from then on for ever, table n; n > 0.
 *   H2  table->cache is NULL or the cache that has a slab at table->first.
 *   H3  A generation is 0 only where no slot is.
 *   H4  Where a slot begins, counted from the table's base, is a number of
 *       its own; the base moves on by the most that a slot of the ended slab
 *       did, and one.
 *
 * Memory order: a table is filled, then its first and its cache are stored with
 * release.  weir_cache_resolve() reads cache and first, each with acquire, and
 * the generation last.  Should the slab have changed in between, the generation
 * seen is one of the new slab, and fits no old handle; if it fits, cache and
 * first are those it belongs to.
 *
 * Why a table for each slab and not one for each cache: it needs no growing,
 * and it says whose a handle is without a bit of it spent on that.  The list of
 * idle tables is under the threads' lock, which is held around fork() already;
 * it is taken once for each slab that opens or ends.
 */
#include "pools/cache.h"

#include "base/bits.h"
#include "config/config.h"
#include "guard/fault.h"

#define HANDLE_SLOT_BITS 12
#define HANDLE_TABLE_BITS 20
#define HANDLE_SLOTS ((size_t)1 << HANDLE_SLOT_BITS)
#define HANDLE_TABLES ((size_t)1 << HANDLE_TABLE_BITS)

/* 2^32 over the golden ratio. */
#define HANDLE_SPREAD UINT32_C(0x9e3779b1)

/* Tables are of a power of two; the least fills half a line. */
#define HANDLE_CLASS_MIN 3
#define HANDLE_CLASSES (HANDLE_SLOT_BITS + 1)

static_assert(HANDLE_SLOTS * WEIRI_HANDLE_SLOT_MIN >= WEIR_ABI_TABLE_SLAB,
    "small objects have slabs of that size, larger ones fewer slots");

/* In the pointer to its cache: a slot of the table's slab stands for an object
 * under guard, or did. */
#define HANDLE_GUARDED ((uintptr_t)1)

struct handle_table {
	const struct weir_cache *cache;
	char *first;
	uint32_t *generation;
	uint32_t class; /* log2 of their number */
	uint32_t number;
	uint32_t base;  /* where the next slab's generations begin */
	void **guarded; /* what slots stand for; NULL: never any */
	struct handle_table *next;
};

static struct handle_table *handle_tables[HANDLE_TABLES];

/* Under weiri_local_lock(). */
static struct handle_table *handle_idle[HANDLE_CLASSES];
static uint32_t handle_tables_end = 1;

/* ---- tables ------------------------------------------------------------- */

/* Generation 0 is none. */
static uint32_t
handle_after(uint32_t generation)
{
	return generation + 1 == 0 ? 1 : generation + 1;
}

/* Neighbours begin far from each other, so that a handle with one bit wrong is
 * not one of the next object. */
static uint32_t
handle_start(const struct handle_table *table, size_t slot)
{
	uint32_t start = table->base + (uint32_t)slot * HANDLE_SPREAD;

	return start == 0 ? 1 : start;
}

static size_t
handle_bytes(const struct handle_table *table)
{
	return sizeof(uint32_t) << table->class;
}

static struct handle_table *
handle_take_idle(unsigned class)
{
	struct handle_table *table;

	weiri_local_lock();
	table = handle_idle[class];
	if (table != NULL)
		handle_idle[class] = table->next;
	weiri_local_unlock();
	return table;
}

static void
handle_put_idle(struct handle_table *table)
{
	weiri_local_lock();
	table->next = handle_idle[table->class];
	handle_idle[table->class] = table;
	weiri_local_unlock();
}

/* NULL without memory, or when all numbers are in use. */
static struct handle_table *
handle_table_new(unsigned class)
{
	struct handle_table *table = weiri_meta_need(sizeof(*table));

	if (table == NULL)
		return NULL;
	table->class = class;
	table->base = (uint32_t)weiri_os_random();
	table->generation = weiri_meta_need(handle_bytes(table));
	if (table->generation == NULL)
		goto undo_table;
	weiri_local_lock();
	if (handle_tables_end < HANDLE_TABLES) {
		table->number = handle_tables_end++;
		/* Pairs with the acquire in weir_cache_resolve(). */
		__atomic_store_n(
		    &handle_tables[table->number], table, __ATOMIC_RELEASE);
	}
	weiri_local_unlock();
	if (table->number == 0)
		goto undo_generation;
	return table;

undo_generation:
	weiri_meta_free(table->generation, handle_bytes(table));
undo_table:
	weiri_meta_free(table, sizeof(*table));
	return NULL;
}

bool
weiri_handle_slab_open(struct weiri_slab *slab, void *owner)
{
	const struct weir_cache *cache = owner;
	unsigned class = (unsigned)weiri_max(
	    weiri_log2_ceil(slab->slot_count), HANDLE_CLASS_MIN);
	struct handle_table *table = handle_take_idle(class);

	WEIR_ASSERT(slab->slot_count <= HANDLE_SLOTS);
	if (table == NULL)
		table = handle_table_new(class);
	if (table == NULL)
		return false;
	for (size_t i = 0; i < (size_t)1 << class; i++)
		WEIRI_STORE(&table->generation[i],
		    i < slab->slot_count ? handle_start(table, i) : 0);
	__atomic_store_n(&table->first, slab->first, __ATOMIC_RELEASE);
	__atomic_store_n(&table->cache, cache, __ATOMIC_RELEASE);
	slab->companion = table;
	return true;
}

void
weiri_handle_slab_close(struct weiri_slab *slab, void *owner)
{
	struct handle_table *table = slab->companion;
	size_t most = 0;

	(void)owner;
	if (table->guarded != NULL)
		for (size_t i = 0; i < slab->carved; i++)
			WEIRI_STORE(&table->guarded[i], NULL);
	/* Under the lock, for who asks whose it is. */
	weiri_local_lock();
	WEIRI_STORE(&table->cache, NULL);
	weiri_local_unlock();
	for (size_t i = 0; i < slab->carved; i++)
		most = weiri_max(
		    most, (uint32_t)(WEIRI_LOAD(&table->generation[i]) -
				     handle_start(table, i)));
	table->base += (uint32_t)most + 1;
	/* What it does not take stays; either is right. */
	if (handle_bytes(table) % weiri_os_page_bytes() == 0)
		(void)weiri_os_decommit(table->generation, handle_bytes(table));
	handle_put_idle(table);
}

/* ---- one object ---------------------------------------------------------- */

void
weiri_handle_retire(const struct weiri_slab *slab, size_t slot)
{
	const struct handle_table *table = slab->companion;
	uint32_t *generation = &table->generation[slot];

	/* Released: who sees it sees that the object was in use before. */
	__atomic_store_n(
	    generation, handle_after(WEIRI_LOAD(generation)), __ATOMIC_RELEASE);
}

static WEIRI_COLD WEIRI_NORETURN void
handle_refuse(const struct weir_cache *cache)
{
	weiri_fault(
	    &(struct weiri_fault_site){.fault_class = WEIR_FAULT_BAD_ARGUMENT,
		.pool_kind = "cache",
		.pool_name = cache->pool.name,
		.pool_type = cache->type,
		.detail = "it was created without WEIR_CACHE_HANDLES"});
}

/* Like the table it is never freed: who resolves may be reading it. */
static void **
handle_need_guarded(struct handle_table *table)
{
	void **guarded = __atomic_load_n(&table->guarded, __ATOMIC_ACQUIRE);
	void **made;

	if (guarded != NULL)
		return guarded;
	made = weiri_meta_need(sizeof(*made) << table->class);
	if (made != NULL &&
	    !__atomic_compare_exchange_n(&table->guarded, &guarded, made, false,
		__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		weiri_meta_free(made, sizeof(*made) << table->class);
		made = guarded;
	}
	return made;
}

bool
weiri_handle_set_guarded(struct weiri_slab *slab, size_t slot, void *object)
{
	struct handle_table *table = slab->companion;
	uintptr_t cache = (uintptr_t)WEIRI_LOAD(&table->cache);
	void **guarded = handle_need_guarded(table);

	if (guarded == NULL)
		return false;
	WEIRI_STORE(&guarded[slot], object);
	/* Pairs with the acquire in weir_cache_resolve(). */
	__atomic_store_n(&table->cache,
	    (const struct weir_cache *)(cache | HANDLE_GUARDED),
	    __ATOMIC_RELEASE);
	return true;
}

/* Of an object under guard it is the handle of what stands for it. */
static WEIRI_COLD struct weir_handle
handle_of_guarded(struct weir_cache *cache, const void *object)
{
	static const struct weir_handle none;
	const void *slot = weiri_cache_slot_of(cache, object);

	if (slot == NULL)
		return none;
	if (slot == object)
		weiri_depot_require(&cache->depot, object);
	return weir_cache_handle(cache, slot);
}

struct weir_handle
weir_cache_handle(struct weir_cache *cache, const void *object)
{
	struct weir_handle handle = {0};
	const struct handle_table *table;
	struct weiri_slab *slab;
	size_t slot = 0;

	if (!cache->handles) {
		weiri_cache_expect_live(cache);
		if (WEIR_DETECTOR(handle_not_enabled))
			handle_refuse(cache);
	}
	if (object == NULL)
		return handle;
	slab = weiri_cache_slab(cache, object, &slot);
	if (WEIR_UNLIKELY(slab == NULL))
		return handle_of_guarded(cache, object);
	if (!weiri_cache_is_live(cache, slab, slot, object) &&
	    WEIR_DETECTOR(handle_of_free))
		weiri_cache_report(cache, object);
	table = slab->companion;
	handle.bits = (uint64_t)WEIRI_LOAD(&table->generation[slot]) << 32 |
		      (uint64_t)table->number << HANDLE_SLOT_BITS | slot;
	return handle;
}

/* ---- resolving ------------------------------------------------------------ */

/* Writes the name of the cache a handle is live in, if it is another one. */
static bool
handle_find_other(const struct weir_cache *cache,
    const struct handle_table *table, const uint32_t *generation,
    uint32_t wanted, struct weiri_text *text)
{
	const struct weir_cache *other;
	bool found;

	/* The other cache cannot be destroyed meanwhile: its slabs cannot
	 * end. */
	weiri_local_lock();
	other =
	    (const struct weir_cache *)((uintptr_t)WEIRI_LOAD(&table->cache) &
					~HANDLE_GUARDED);
	found =
	    other != NULL && other != cache && WEIRI_LOAD(generation) == wanted;
	if (found)
		weiri_text_str(text, other->pool.name);
	weiri_local_unlock();
	return found;
}

/* A program that mixes up its caches should hear of it, but a peer that sends
 * back a handle it was given by another cache shall not fill a log. */
static WEIRI_COLD void
handle_tell(struct weir_cache *cache, const struct handle_table *table,
    const uint32_t *generation, uint32_t wanted)
{
	char line[256];
	struct weiri_text text = {line, sizeof(line), 0};

	weiri_text_str(&text, "weir_cache_resolve: cache \"");
	weiri_text_str(&text, cache->pool.name);
	weiri_text_str(&text, "\": the handle is one of cache \"");
	if (!handle_find_other(cache, table, generation, wanted, &text))
		return;
	weiri_text_str(&text, "\"; resolve it there");
	if (!__atomic_exchange_n(&cache->told, true, __ATOMIC_RELAXED))
		weiri_message(WEIR_MESSAGE_WARNING, line);
}

/* As below, in a slab with objects under guard.  The slab may be ending: it is
 * not looked at, and what was read counts if the generation is still there. */
static void *
handle_resolve_guarded(const struct weir_cache *cache,
    const struct handle_table *table, size_t slot, uint32_t wanted)
{
	char *first = __atomic_load_n(&table->first, __ATOMIC_ACQUIRE);
	void **guarded = __atomic_load_n(&table->guarded, __ATOMIC_ACQUIRE);
	void *object = NULL;

	if (__atomic_load_n(&table->generation[slot], __ATOMIC_ACQUIRE) !=
	    wanted)
		return NULL;
	if (guarded != NULL)
		object = __atomic_load_n(&guarded[slot], __ATOMIC_ACQUIRE);
	if (__atomic_load_n(&table->generation[slot], __ATOMIC_ACQUIRE) !=
	    wanted)
		return NULL;
	return object != NULL ? object : first + slot * cache->depot.slot_bytes;
}

/* Where the table is not plainly the cache's. */
static WEIRI_COLD void *
handle_resolve_other(struct weir_cache *cache, const struct handle_table *table,
    size_t slot, uint32_t wanted)
{
	uintptr_t owner =
	    (uintptr_t)__atomic_load_n(&table->cache, __ATOMIC_ACQUIRE);

	if (owner == ((uintptr_t)cache | HANDLE_GUARDED))
		return handle_resolve_guarded(cache, table, slot, wanted);
	weiri_cache_expect_live(cache);
	if (owner != 0 && !WEIRI_LOAD(&cache->told) &&
	    WEIRI_LOAD(&table->generation[slot]) == wanted &&
	    WEIR_DETECTOR(handle_of_other_cache))
		handle_tell(cache, table, &table->generation[slot], wanted);
	return NULL;
}

void *
weir_cache_resolve(struct weir_cache *cache, struct weir_handle handle)
{
	size_t number = handle.bits >> HANDLE_SLOT_BITS & (HANDLE_TABLES - 1);
	size_t slot = handle.bits & (HANDLE_SLOTS - 1);
	uint32_t wanted = (uint32_t)(handle.bits >> 32);
	const struct handle_table *table =
	    __atomic_load_n(&handle_tables[number], __ATOMIC_ACQUIRE);

	if (WEIR_UNLIKELY(
		table == NULL || slot >> table->class != 0 || wanted == 0))
		return NULL;

	const struct weir_cache *owner =
	    __atomic_load_n(&table->cache, __ATOMIC_ACQUIRE);
	char *first = __atomic_load_n(&table->first, __ATOMIC_ACQUIRE);

	if (WEIR_UNLIKELY(owner != cache))
		return handle_resolve_other(cache, table, slot, wanted);
	if (__atomic_load_n(&table->generation[slot], __ATOMIC_ACQUIRE) !=
	    wanted)
		return NULL;
	return first + slot * cache->depot.slot_bytes;
}
