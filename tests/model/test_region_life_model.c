/* SPDX-License-Identifier: MIT */
/*
 * test_region_life_model.c - random trees of regions against a plain twin.
 *
 * The twin of a region is a list of what is in it, in the order in which it
 * came: objects with their contents, cleanups in force, regions below,
 * savepoints.  A rewind takes the end of the list away, a merge appends one
 * list to another, a move takes one entry from one list to the end of another.
 * So the order of cleanups, what survives, and the sums of bytes follow from
 * the list alone, and are compared with what the library does.
 */
#include <weir/region.h>

#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REGIONS 24
#define ENTRIES 400
#define LOG_MAX 4096

enum entry_kind { OBJECT, CLEANUP, CHILD, MARK };

struct twin;

struct entry {
	enum entry_kind kind;
	unsigned char *address; /* of OBJECT */
	size_t bytes;
	uint64_t fill;
	struct weir_region_cleanup *handle; /* of CLEANUP */
	unsigned id;                        /* what it logs */
	struct twin *child;                 /* of CHILD */
	struct weir_region_savepoint savepoint;
};

struct twin {
	struct weir_region *region; /* NULL: not in use */
	struct twin *parent;
	bool has_limit;
	size_t count;
	struct entry entry[ENTRIES];
};

static struct weir_region_kind model_kind = WEIR_REGION_KIND("life");
static struct twin twins[REGIONS];
static struct test_rng rng;

/* What the cleanups did, and what the twin says they should. */
static unsigned actual[LOG_MAX], expected[LOG_MAX];
static size_t actual_count, expected_count;
static unsigned next_id = 1;

/* ---- contents ------------------------------------------------------------ */

static unsigned char
byte_of(uint64_t fill, size_t at)
{
	return (unsigned char)(fill + at * 31 + (at >> 8));
}

/* The ends of large objects and some between are enough to see a mix-up. */
static size_t
stride(size_t bytes)
{
	return bytes > 2000 ? 97 : 1;
}

static void
object_fill(const struct entry *entry)
{
	for (size_t i = 0; i < entry->bytes; i += stride(entry->bytes))
		entry->address[i] = byte_of(entry->fill, i);
}

static void
object_verify(const struct entry *entry)
{
	for (size_t i = 0; i < entry->bytes; i += stride(entry->bytes))
		CHECK_EQ(entry->address[i], byte_of(entry->fill, i));
}

/* ---- the twin -------------------------------------------------------------- */

static struct entry *
append(struct twin *twin, enum entry_kind kind)
{
	struct entry *entry = &twin->entry[twin->count++];

	CHECK_LE(twin->count, ENTRIES);
	*entry = (struct entry){.kind = kind};
	return entry;
}

static void
take_out(struct twin *twin, size_t index)
{
	twin->count--;
	memmove(&twin->entry[index], &twin->entry[index + 1],
	    (twin->count - index) * sizeof(twin->entry[0]));
}

/* Any entry of a kind; SIZE_MAX if there is none. */
static size_t
pick(const struct twin *twin, enum entry_kind kind)
{
	size_t seen = 0, picked = SIZE_MAX;

	for (size_t i = 0; i < twin->count; i++)
		if (twin->entry[i].kind == kind &&
		    test_rand_below(&rng, ++seen) == 0)
			picked = i;
	return picked;
}

static size_t
child_index(const struct twin *twin)
{
	const struct twin *parent = twin->parent;
	size_t index = 0;

	while (parent->entry[index].kind != CHILD ||
	       parent->entry[index].child != twin)
		index++;
	return index;
}

/* All from entry @from on ends: regions below newest first, then cleanups. */
static void
expect_end(struct twin *twin, size_t from)
{
	for (size_t i = twin->count; i-- > from;)
		if (twin->entry[i].kind == CHILD) {
			struct twin *child = twin->entry[i].child;

			expect_end(child, 0);
			child->region = NULL;
			child->parent = NULL;
		}
	for (size_t i = twin->count; i-- > from;)
		if (twin->entry[i].kind == CLEANUP) {
			CHECK_LT(expected_count, LOG_MAX);
			expected[expected_count++] = twin->entry[i].id;
		}
	twin->count = from;
}

static void
log_clear(void)
{
	actual_count = expected_count = 0;
}

static void
log_compare(void)
{
	CHECK_EQ(actual_count, expected_count);
	for (size_t i = 0; i < actual_count; i++)
		CHECK_EQ(actual[i], expected[i]);
	log_clear();
}

/* ---- comparing -------------------------------------------------------------- */

static struct weir_region_figures
figures_of(const struct twin *twin)
{
	struct weir_region_figures figures = {.size = sizeof(figures)};

	CHECK_EQ(weir_region_stats(twin->region, &figures), 0);
	return figures;
}

static uint64_t
tree_bytes(const struct twin *twin)
{
	uint64_t bytes = figures_of(twin).bytes_charged;

	for (size_t i = 0; i < twin->count; i++)
		if (twin->entry[i].kind == CHILD)
			bytes += tree_bytes(twin->entry[i].child);
	return bytes;
}

static void
verify(const struct twin *twin)
{
	struct weir_region_figures figures = figures_of(twin);
	size_t count[4] = {0}, least = 0;

	CHECK(weir_region_check(twin->region));
	for (size_t i = 0; i < twin->count; i++) {
		count[twin->entry[i].kind]++;
		least += twin->entry[i].bytes;
		if (twin->entry[i].kind == OBJECT)
			object_verify(&twin->entry[i]);
	}
	CHECK_EQ(figures.cleanups, count[CLEANUP]);
	CHECK_EQ(figures.children, count[CHILD]);
	CHECK_GE(figures.bytes_charged, least);
	if (figures.bytes_below != 0)
		CHECK_EQ(figures.bytes_below, tree_bytes(twin));
}

static void
verify_all(void)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};
	uint64_t bytes = 0, live = 0;

	for (size_t i = 0; i < REGIONS; i++)
		if (twins[i].region != NULL) {
			verify(&twins[i]);
			bytes += figures_of(&twins[i]).bytes_charged;
			live++;
		}
	CHECK_EQ(weir_region_kind_stats(&model_kind, &stats), 0);
	CHECK_EQ(stats.in_use, live);
	CHECK_EQ(stats.bytes_mapped, bytes);
}

/* ---- what is done ------------------------------------------------------------ */

static void
log_run(void *context)
{
	CHECK_LT(actual_count, LOG_MAX);
	actual[actual_count++] = (unsigned)(uintptr_t)context;
}

/* A limit on the way up is the one reason for a refusal here. */
static void
expect_limited(const struct twin *twin)
{
	while (twin != NULL && !twin->has_limit)
		twin = twin->parent;
	CHECK_NOT_NULL(twin);
}

static void
do_object(struct twin *twin)
{
	size_t bytes = test_rand_below(&rng, 10) == 0
			   ? 33000 + test_rand_below(&rng, 60000)
			   : test_rand_below(&rng, 900);
	void *address = weir_region_alloc(twin->region, bytes);
	struct entry *entry;

	if (address == NULL) {
		expect_limited(twin);
		return;
	}
	entry = append(twin, OBJECT);
	entry->address = address;
	entry->bytes = bytes;
	entry->fill = test_rand(&rng);
	object_fill(entry);
}

/* Some are reserved first, with something between. */
static void
do_cleanup(struct twin *twin)
{
	struct weir_region_cleanup *handle;
	void *context = (void *)(uintptr_t)next_id;
	struct entry *entry;

	if (test_rand_below(&rng, 2) == 0) {
		handle =
		    weir_region_cleanup_add(twin->region, log_run, context);
	} else {
		handle = weir_region_cleanup_reserve(twin->region);
		if (handle != NULL) {
			do_object(twin);
			weir_region_cleanup_arm(
			    twin->region, handle, log_run, context);
		}
	}
	if (handle == NULL) {
		expect_limited(twin);
		return;
	}
	entry = append(twin, CLEANUP);
	entry->handle = handle;
	entry->id = next_id++;
}

static void
do_cancel(struct twin *twin)
{
	size_t index = pick(twin, CLEANUP);

	if (index == SIZE_MAX)
		return;
	weir_region_cleanup_cancel(twin->region, twin->entry[index].handle);
	take_out(twin, index);
}

static void
do_transfer(struct twin *twin, struct twin *to)
{
	size_t index = pick(twin, CLEANUP);
	struct weir_region_cleanup *handle;
	struct entry moved;

	if (index == SIZE_MAX)
		return;
	moved = twin->entry[index];
	handle = weir_region_cleanup_transfer(
	    twin->region, moved.handle, to->region);
	if (handle == NULL) {
		expect_limited(to);
		return;
	}
	take_out(twin, index);
	moved.handle = handle;
	*append(to, CLEANUP) = moved;
}

static void
begin(struct twin *twin, struct twin *parent)
{
	struct weir_region_config config = {
	    .first_bytes = (test_rand_below(&rng, 2) << 10)
			   << test_rand_below(&rng, 4),
	    .block_bytes_max = (test_rand_below(&rng, 2) << 13)
			       << test_rand_below(&rng, 4),
	    /* Handles and savepoints on pages of their own, sometimes. */
	    .large_bytes = test_rand_below(&rng, 20) == 0 ? 16 : 0,
	    .limit_bytes = test_rand_below(&rng, 4) == 0
			       ? 20000 + test_rand_below(&rng, 600000)
			       : 0,
	    .parent = parent != NULL ? parent->region : NULL,
	};
	int status = weir_region_create(&model_kind, &config, &twin->region);

	if (status != 0) {
		CHECK_EQ(status, -ENOMEM);
		expect_limited(parent);
		twin->region = NULL;
		return;
	}
	twin->has_limit = config.limit_bytes != 0;
	twin->parent = parent;
	twin->count = 0;
	if (parent != NULL)
		append(parent, CHILD)->child = twin;
}

static void
do_create(struct twin *parent)
{
	for (size_t i = 0; i < REGIONS; i++)
		if (twins[i].region == NULL) {
			begin(&twins[i], parent);
			return;
		}
}

static void
do_mark(struct twin *twin)
{
	struct weir_region_savepoint savepoint;

	if (weir_region_mark(twin->region, &savepoint) != 0) {
		expect_limited(twin);
		return;
	}
	append(twin, MARK)->savepoint = savepoint;
}

static void
do_rewind(struct twin *twin)
{
	size_t index = pick(twin, MARK);
	struct weir_region_savepoint savepoint;

	if (index == SIZE_MAX)
		return;
	savepoint = twin->entry[index].savepoint;
	expect_end(twin, index + 1);
	if (test_rand_below(&rng, 2) == 0) {
		weir_region_rewind(twin->region, &savepoint);
	} else {
		weir_region_unmark(twin->region, &savepoint);
		take_out(twin, index);
	}
	log_compare();
	verify(twin);
}

static void
do_detach(struct twin *twin)
{
	weir_region_detach(twin->region);
	if (twin->parent != NULL)
		take_out(twin->parent, child_index(twin));
	twin->parent = NULL;
	verify(twin);
}

static bool
is_above(const struct twin *twin, const struct twin *below)
{
	while (below != NULL && below != twin)
		below = below->parent;
	return below != NULL;
}

static void
do_adopt(struct twin *parent, struct twin *child)
{
	if (is_above(child, parent))
		return;
	if (weir_region_adopt(parent->region, child->region) != 0) {
		expect_limited(parent);
	} else if (child->parent != parent) {
		if (child->parent != NULL)
			take_out(child->parent, child_index(child));
		child->parent = parent;
		append(parent, CHILD)->child = child;
	}
	verify(parent);
	verify(child);
}

static void
do_adopt_large(struct twin *to, struct twin *from)
{
	size_t index = pick(from, OBJECT);
	struct entry moved;
	int status;

	if (index == SIZE_MAX)
		return;
	moved = from->entry[index];
	status =
	    weir_region_adopt_large(to->region, from->region, moved.address);
	if (status == -EINVAL) {
		/* A block of those that regions here may have could hold it. */
		CHECK_LE(moved.bytes, 64 << 10);
	} else if (status != 0) {
		CHECK_EQ(status, -ENOMEM);
		expect_limited(to);
	} else if (to != from) {
		take_out(from, index);
		*append(to, OBJECT) = moved;
	}
}

/* The list of the region, but its savepoints, goes behind its parent's. */
static void
do_merge(struct twin *twin)
{
	struct twin *parent = twin->parent;

	if (parent == NULL || parent->count + twin->count > ENTRIES)
		return;
	take_out(parent, child_index(twin));
	for (size_t i = 0; i < twin->count; i++) {
		struct entry *entry = &twin->entry[i];

		if (entry->kind == MARK)
			continue;
		if (entry->kind == CHILD)
			entry->child->parent = parent;
		*append(parent, entry->kind) = *entry;
	}
	weir_region_merge(parent->region, twin->region);
	twin->region = NULL;
	twin->parent = NULL;
	verify(parent);
}

static void
do_end(struct twin *twin, bool reset)
{
	expect_end(twin, 0);
	if (reset) {
		weir_region_reset(twin->region);
		log_compare();
		verify(twin);
		return;
	}
	if (twin->parent != NULL)
		take_out(twin->parent, child_index(twin));
	weir_region_destroy(twin->region);
	twin->region = NULL;
	twin->parent = NULL;
	log_compare();
}

/* ---- steps --------------------------------------------------------------------- */

static struct twin *
any_live(void)
{
	for (;;) {
		struct twin *twin = &twins[test_rand_below(&rng, REGIONS)];

		if (twin->region != NULL)
			return twin;
	}
}

static void
step(void)
{
	struct twin *twin = any_live(), *other = any_live();
	uint64_t dice = test_rand_below(&rng, 1000);

	/* Two entries may come at once. */
	if (twin->count + 2 >= ENTRIES || other->count + 2 >= ENTRIES) {
		do_end(twin->count > other->count ? twin : other, true);
	} else if (dice < 450) {
		do_object(twin);
	} else if (dice < 580) {
		do_cleanup(twin);
	} else if (dice < 620) {
		do_cancel(twin);
	} else if (dice < 660) {
		do_transfer(twin, other);
	} else if (dice < 730) {
		do_create(test_rand_below(&rng, 4) == 0 ? NULL : twin);
	} else if (dice < 810) {
		do_mark(twin);
	} else if (dice < 860) {
		do_rewind(twin);
	} else if (dice < 870) {
		do_detach(twin);
	} else if (dice < 910) {
		do_adopt(twin, other);
	} else if (dice < 950) {
		do_adopt_large(twin, other);
	} else if (dice < 980) {
		do_merge(twin);
	} else {
		do_end(twin, dice < 990);
	}
}

TEST_LIMIT(trees_of_regions_behave_like_their_twins, 120)
{
	size_t steps = test_count(150000);

	test_rng_init(&rng, test_seed());
	for (size_t i = 0; i < steps; i++) {
		begin(&twins[0], NULL);
		/* Until nothing is left, which happens now and then. */
		for (bool live = true; live && i < steps; i++) {
			step();
			if (i % 1000 == 0)
				verify_all();
			live = false;
			for (size_t r = 0; r < REGIONS; r++)
				live |= twins[r].region != NULL;
		}
		for (size_t r = 0; r < REGIONS && i >= steps; r++)
			if (twins[r].region != NULL)
				do_end(&twins[r], false);
	}
	verify_all();
}
