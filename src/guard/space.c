/* SPDX-License-Identifier: MIT */
/*
 * space.c - address space for objects under guard.
 *
 *     | records, stacks, units |  unit   |  unit   |  run of units    | ...
 *                              +---------+---------+------------------+
 *     a place of class 0:      |#|o|#|o|# ... |#|o|    # traps, o the object's
 *     a place of class 2:                |#|o|o|o|o|#|o|o|o|o| ...
 *
 * One reservation holds everything, so that it is two mappings however many
 * objects there are: what is committed and what is not yet.  Places have a power
 * of two pages and a page before them that always traps; the one behind is the
 * next place's.  A run of units is committed when its class has no place left,
 * and all of it traps at first.
 *
 * The first use of a place takes a new one while the class keeps fewer ended
 * objects than it may, else the one that ended longest ago: an address is used
 * again as late as possible, and a stale pointer recognised as long.  The few
 * that come next may be ready: see ready.c.
 *
 * Invariants:
 *
 *   G1  All pages of a place trap unless its object is live or being ended, or
 *       it is bad, `open`, `let_in` or `ready`.  The page before it always
 *       does, but for bad ones'.
 *   G2  A record is in one list, or its state is LIVE or ENDING, or it is bad,
 *       or a call is making it ready.
 *   G3  unit[u].record - of the run's first unit - and what leads to it are
 *       written before the space's end covers the unit.
 *
 * The lists are under the guard's lock.  Finding a record by its address takes
 * none: it happens in signal handlers.
 */
#include "guard/space.h"

#include "base/annotate.h"
#include "base/bits.h"
#include "os/guard.h"
#include "os/os.h"

#include <errno.h>

#define SPACE_UNIT ((size_t)2 << 20)

struct space_size {
	size_t bytes; /* of places, a multiple of a unit */
	uint32_t buckets, words;
	size_t quarantine;
	size_t live_bytes;
};

/*
 * Samples: some 300 live objects are what 2 MiB of memory allow beside the
 * records, and 1,024 places remember what ended for the last second at the
 * default rate.
 */
static const struct space_size space_small = {
    .bytes = (size_t)64 << 20,
    .buckets = 4096,
    .words = 128 << 10,
    .quarantine = 1024,
    .live_bytes = (size_t)1280 << 10,
};

/* All objects: eight million of a page; a sixth of a GiB of records for each
 * million. */
static const struct space_size space_large = {
    .bytes = (size_t)64 << 30,
    .buckets = 64 << 10,
    .words = 8 << 20,
    .quarantine = 64 << 10,
    .live_bytes = SIZE_MAX,
};

/* The debug menu's: what an outgrown one costs is addresses, and the objects
 * beyond it lie in their pool. */
static const struct space_size space_packed = {
    .bytes = (size_t)8 << 30,
    .buckets = 64 << 10,
    .words = 8 << 20,
    .quarantine = 64 << 10,
    .live_bytes = SIZE_MAX,
};

#define SPACE_PACKED_GRAIN ((size_t)128)

/* Ready at a time: what programs free in a row before they take as many again, and
 * few beside the 65,536 places that trap. */
#define SPACE_READY_MAX 16

/* Valgrind's search for leaks reads all records there may be. */
#define SPACE_VALGRIND_RECORDS ((size_t)128 << 10)

/* ---- the reservation -------------------------------------------------------- */

struct space_layout {
	size_t units, records, buckets, words; /* offsets */
	size_t head;                           /* bytes before the places */
	size_t unit_count, record_max;
};

static struct space_layout
space_lay_out(const struct space_size *size, size_t stride)
{
	struct space_layout layout = {
	    .unit_count = size->bytes / SPACE_UNIT,
	    .record_max = size->bytes / stride + 1,
	};
	size_t at = 0;

	layout.units = at;
	at += layout.unit_count * sizeof(struct weiri_space_unit);
	layout.buckets = at;
	at += size->buckets * sizeof(uint32_t);
	layout.words = at = weiri_round_up(at, WEIRI_CACHE_LINE);
	at += size->words * sizeof(uintptr_t);
	layout.records = at;
	at += layout.record_max * sizeof(struct weiri_guarded);
	layout.head = weiri_round_up(at, SPACE_UNIT);
	return layout;
}

static int
space_reserve(struct weiri_space *space, const struct space_size *size)
{
	struct space_layout layout =
	    space_lay_out(size, space->grain + space->border);
	char *all = weiri_os_reserve(layout.head + size->bytes, SPACE_UNIT);

	if (all == NULL)
		return -ENOMEM;
	weiri_os_keep_out(all, layout.head + size->bytes);
	if (weiri_os_commit(all, layout.head) != 0) {
		weiri_os_drop(all, layout.head + size->bytes);
		return -ENOMEM;
	}
	space->base = space->committed = all + layout.head;
	space->end = space->base + size->bytes;
	space->unit = (void *)(all + layout.units);
	space->record = (void *)(all + layout.records);
	space->record_count = 1;
	space->record_max = (uint32_t)layout.record_max;
	space->sites = (struct weiri_sites){
	    .bucket = (void *)(all + layout.buckets),
	    .bucket_count = size->buckets,
	    .word = (void *)(all + layout.words),
	    .word_count = size->words,
	};
	space->quarantine_max = size->quarantine;
	space->live_bytes_max = size->live_bytes;
	return 0;
}

/* The whole reservation, lest its two mappings become three. */
static bool
space_can_move(const struct weiri_space *space)
{
	char *all = (char *)space->unit;

	return weiri_os_bars_merge() &&
	       weiri_os_movable(all, (size_t)(space->end - all)) == 0;
}

int
weiri_space_init(struct weiri_space *space, enum weiri_space_kind kind)
{
	struct space_size size = kind == WEIRI_SPACE_SMALL   ? space_small
				 : kind == WEIRI_SPACE_LARGE ? space_large
							     : space_packed;
	bool packed = kind == WEIRI_SPACE_PACKED;
	int error;

	space->grain = packed ? SPACE_PACKED_GRAIN : weiri_os_page_bytes();
	space->border = packed ? 0 : weiri_os_page_bytes();
	while (weiri_annotate_is_valgrind() &&
	       size.bytes / (space->grain + space->border) >
		   SPACE_VALGRIND_RECORDS) {
		size.bytes /= 2;
		size.words = (uint32_t)weiri_max(size.words / 2, 256 << 10);
	}
	error = space_reserve(space, &size);

	/* A process may be short of addresses (RLIMIT_AS); some will do. */
	while (error != 0 && size.bytes > space_small.bytes) {
		size.bytes /= 4;
		size.words /= 2;
		error = space_reserve(space, &size);
	}
	/* Samples are too few for it to matter, and are taken in production,
	 * where a descriptor more may. */
	if (error == 0 && kind == WEIRI_SPACE_LARGE)
		space->moves = space_can_move(space);
	return error;
}

/* ---- lists -------------------------------------------------------------------- */

static void
space_append(struct weiri_space *space, struct weiri_space_list *list,
    struct weiri_guarded *guarded)
{
	uint32_t number = (uint32_t)(guarded - space->record);

	guarded->next = 0;
	if (list->last != 0)
		space->record[list->last].next = number;
	else
		list->first = number;
	list->last = number;
	list->count++;
}

static void
space_push(struct weiri_space *space, struct weiri_space_list *list,
    struct weiri_guarded *guarded)
{
	uint32_t number = (uint32_t)(guarded - space->record);

	guarded->next = list->first;
	list->first = number;
	if (list->last == 0)
		list->last = number;
	list->count++;
}

static struct weiri_guarded *
space_pop(struct weiri_space *space, struct weiri_space_list *list)
{
	struct weiri_guarded *guarded = &space->record[list->first];

	if (list->first == 0)
		return NULL;
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): of the table */
	list->first = guarded->next;
	if (list->first == 0)
		list->last = 0;
	list->count--;
	return guarded;
}

/* ---- places --------------------------------------------------------------------- */

/* From one place of a class to the next. */
static size_t
space_stride(const struct weiri_space *space, unsigned class)
{
	return (space->grain << class) + space->border;
}

/* A run of units for the class; false without room for one. */
static bool
space_grow(struct weiri_space *space, unsigned class)
{
	struct weiri_space_class *own = &space->class[class];
	size_t stride = space_stride(space, class);
	size_t bytes =
	    weiri_round_up(weiri_max(stride, SPACE_UNIT), SPACE_UNIT);
	uint32_t count = (uint32_t)(bytes / stride);
	uint32_t first = space->record_count;
	char *run = space->committed;

	if (bytes > (size_t)(space->end - run) ||
	    count > space->record_max - first ||
	    weiri_os_commit(run, bytes) != 0)
		return false;
	if (space->border > 0 && weiri_os_bar(run, bytes) != 0)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		space->record[first + i].area =
		    run + i * stride + space->border;
		space->record[first + i].class = (uint8_t) class;
	}
	for (size_t u = 0; u < bytes / SPACE_UNIT; u++) {
		size_t unit = (size_t)(run - space->base) / SPACE_UNIT + u;

		space->unit[unit].lead = (uint32_t)u;
		space->unit[unit].record = first;
	}
	space->record_count = first + count;
	own->fresh = first;
	own->fresh_end = first + count;
	/* Pairs with the acquire in weiri_space_find(). */
	__atomic_store_n(&space->committed, run + bytes, __ATOMIC_RELEASE);
	return true;
}

/* How many ended objects of a class are kept before a place is used again. */
static size_t
space_keeps(const struct weiri_space *space, unsigned class)
{
	return weiri_max(space->quarantine_max >> class, 16);
}

static struct weiri_guarded *
space_take_fresh(struct weiri_space *space, unsigned class)
{
	struct weiri_space_class *own = &space->class[class];

	if (own->fresh == own->fresh_end && !space_grow(space, class))
		return NULL;
	return &space->record[own->fresh++];
}

static struct weiri_guarded *
space_take_ended(struct weiri_space *space, unsigned class)
{
	struct weiri_guarded *guarded;

	do {
		guarded = space_pop(space, &space->class[class].ended);
		if (guarded != NULL)
			space->ended -= guarded->state == WEIRI_GUARDED_ENDED;
	} while (guarded != NULL && WEIRI_LOAD(&guarded->bad));
	return guarded;
}

/* The next of a class. */
static struct weiri_guarded *
space_next(struct weiri_space *space, unsigned class, bool late)
{
	struct weiri_space_class *own = &space->class[class];
	struct weiri_guarded *guarded = NULL;

	if (late && own->ended.count < space_keeps(space, class))
		guarded = space_take_fresh(space, class);
	if (guarded == NULL)
		guarded = space_take_ended(space, class);
	if (guarded == NULL && !late)
		guarded = space_take_fresh(space, class);
	return guarded;
}

/* The first of a list that is no bad one. */
static struct weiri_guarded *
space_pop_good(struct weiri_space *space, struct weiri_space_list *list)
{
	struct weiri_guarded *guarded;

	do {
		guarded = space_pop(space, list);
	} while (guarded != NULL && WEIRI_LOAD(&guarded->bad));
	return guarded;
}

struct weiri_guarded *
weiri_space_take(struct weiri_space *space, size_t grains, bool late)
{
	unsigned class = weiri_log2_ceil(grains);
	size_t bytes = space->grain << class;
	struct weiri_guarded *guarded = NULL;

	if (class >= WEIRI_SPACE_CLASSES ||
	    bytes > space->live_bytes_max - space->live_bytes)
		return NULL;
	if (class == 0)
		guarded = space_pop_good(space, &space->ready);
	if (guarded == NULL)
		guarded = space_next(space, class, late);
	if (guarded == NULL)
		return NULL;
	space->live_bytes += bytes;
	space->live++;
	WEIRI_STORE(&guarded->state, (uint8_t)WEIRI_GUARDED_NONE);
	return guarded;
}

void
weiri_space_rest(
    struct weiri_space *space, struct weiri_guarded *guarded, bool late)
{
	struct weiri_space_class *own = &space->class[guarded->class];

	space->live_bytes -= space->grain << guarded->class;
	space->live--;
	space->ended += guarded->state == WEIRI_GUARDED_ENDED;
	if (late)
		space_append(space, &own->ended, guarded);
	else
		space_push(space, &own->ended, guarded);
}

void
weiri_space_retire(struct weiri_space *space, struct weiri_guarded *guarded)
{
	WEIRI_STORE(&guarded->bad, true);
	WEIRI_STORE(&guarded->state, (uint8_t)WEIRI_GUARDED_ENDED);
	space->live_bytes -= weiri_space_area_bytes(guarded, space->grain);
	space->live--;
}

/* ---- places that are ready ------------------------------------------------------- */

size_t
weiri_space_ahead(
    struct weiri_space *space, struct weiri_guarded *ahead[], size_t count_max)
{
	size_t count = 0;

	if (space->ready.count + space->readying >= SPACE_READY_MAX)
		return 0;
	ahead[0] = space_pop_good(space, &space->let_in);
	if (ahead[0] != NULL) {
		space->readying++;
		return 1;
	}
	/* One call at a time lets in more than it needs. */
	if (space->letting_in)
		count_max = 1;
	while (count < count_max &&
	       (ahead[count] = space_next(space, 0, true)) != NULL)
		count++;
	space->readying += count > 0;
	space->letting_in = space->letting_in || count > 1;
	return count;
}

/* It traps, and is the next to be taken of those that ended. */
static void
space_put_back(struct weiri_space *space, struct weiri_guarded *guarded)
{
	space->ended += guarded->state == WEIRI_GUARDED_ENDED;
	space_push(space, &space->class[0].ended, guarded);
}

void
weiri_space_put_let_in(
    struct weiri_space *space, struct weiri_guarded *ahead[], size_t count)
{
	for (size_t i = 0; i < count && ahead[i]->let_in; i++)
		space_append(space, &space->let_in, ahead[i]);
	while (count > 0 && !ahead[count - 1]->let_in)
		space_put_back(space, ahead[--count]);
	space->letting_in = false;
	if (!space->moves)
		weiri_space_stop_moving(space);
}

void
weiri_space_put_ahead(struct weiri_space *space, struct weiri_guarded *guarded)
{
	space->readying--;
	if (guarded->ready)
		space_append(space, &space->ready, guarded);
	else
		space_put_back(space, guarded);
}

void
weiri_space_stop_moving(struct weiri_space *space)
{
	struct weiri_guarded *guarded;

	WEIRI_STORE(&space->moves, false);
	while ((guarded = space_pop_good(space, &space->let_in)) != NULL) {
		guarded->let_in = false;
		guarded->open = weiri_os_bar(guarded->area, space->grain) != 0;
		space_put_back(space, guarded);
	}
}

void
weiri_space_fork_child(struct weiri_space *space)
{
	/* Who was at it is in another process. */
	space->readying = 0;
	space->letting_in = false;
	if (space->moves && !space_can_move(space))
		weiri_space_stop_moving(space);
}

/* ---- looking up ------------------------------------------------------------------ */

struct weiri_guarded *
weiri_space_find(const struct weiri_space *space, const void *address)
{
	const char *end = __atomic_load_n(&space->committed, __ATOMIC_ACQUIRE);
	const char *at = address;

	if (at < space->base || at >= end)
		return NULL;

	size_t unit = (size_t)(at - space->base) / SPACE_UNIT;
	const struct weiri_space_unit *run =
	    &space->unit[unit - space->unit[unit].lead];
	struct weiri_guarded *first = &space->record[run->record];
	size_t stride = space_stride(space, first->class);
	size_t place = (size_t)(at - (first->area - space->border)) / stride;

	/* What a run has left behind its last place is the next one's border. */
	if (place >= (size_t)weiri_max(stride, SPACE_UNIT) / stride)
		place--;
	return first + place;
}

struct weiri_guarded *
weiri_space_before(
    const struct weiri_space *space, const struct weiri_guarded *guarded)
{
	const char *border = guarded->area - space->border;
	struct weiri_guarded *before;

	if (border == space->base)
		return NULL;
	before = weiri_space_find(space, border - 1);
	return before != guarded ? before : NULL;
}
