/* SPDX-License-Identifier: MIT */
/*
 * test_region_model.c - random operations on regions against a plain twin.
 *
 * The twin keeps, for each region, what a caller was told: every object with
 * its address, size and the bytes written to it, and the cleanups in force in
 * their order.  At every reset and destroy, and now and then between, all bytes
 * are compared, objects of all regions are shown not to overlap, the order of
 * cleanups is compared with the twin's, and the library's own walker runs.
 */
#include <weir/region.h>

#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REGIONS 6
#define OBJECTS_MAX 1500
#define CLEANUPS_MAX 200

struct object {
	unsigned char *address;
	size_t bytes;
	uint64_t fill; /* seed of its contents */
};

struct handler {
	struct weir_region_cleanup *handle;
	struct twin *twin;
	bool armed;
};

struct twin {
	struct weir_region *region;
	uint64_t limit_bytes; /* UINT64_MAX: none */
	uint64_t failures;
	size_t object_count;
	struct object object[OBJECTS_MAX];
	/* In order of arming; the address is the cleanup's context. */
	size_t handler_count;
	struct handler *handler[CLEANUPS_MAX];
	size_t ran_count; /* cleanups run by the end under way */
};

static struct weir_region_kind model_kind = WEIR_REGION_KIND("model");
static struct twin twins[REGIONS];
static struct test_rng rng;

/* ---- objects ----------------------------------------------------------- */

static unsigned char
byte_of(uint64_t fill, size_t at)
{
	return (unsigned char)(fill + at * 31 + (at >> 8));
}

static void
object_write(const struct object *object)
{
	for (size_t i = 0; i < object->bytes; i++)
		object->address[i] = byte_of(object->fill, i);
}

static void
object_verify(const struct object *object)
{
	for (size_t i = 0; i < object->bytes; i++)
		CHECK_EQ(object->address[i], byte_of(object->fill, i));
}

static void
object_add(struct twin *twin, void *address, size_t bytes)
{
	struct object *object = &twin->object[twin->object_count++];

	object->address = address;
	object->bytes = bytes;
	object->fill = test_rand(&rng);
	object_write(object);
}

static int
by_address(const void *a, const void *b)
{
	const struct object *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

static void
verify_no_overlap(void)
{
	static struct object all[REGIONS * OBJECTS_MAX];
	size_t count = 0;

	for (size_t r = 0; r < REGIONS; r++)
		for (size_t i = 0; i < twins[r].object_count; i++)
			if (twins[r].object[i].bytes > 0)
				all[count++] = twins[r].object[i];
	qsort(all, count, sizeof(all[0]), by_address);
	for (size_t i = 1; i < count; i++)
		CHECK(all[i - 1].address + all[i - 1].bytes <= all[i].address);
}

/* ---- one region against its twin ---------------------------------------- */

static void
verify(struct twin *twin)
{
	struct weir_region_figures figures = {.size = sizeof(figures)};
	size_t armed = 0;

	for (size_t i = 0; i < twin->object_count; i++)
		object_verify(&twin->object[i]);
	for (size_t i = 0; i < twin->handler_count; i++)
		armed += twin->handler[i]->armed;
	CHECK(weir_region_check(twin->region));
	CHECK_EQ(weir_region_stats(twin->region, &figures), 0);
	CHECK_EQ(figures.failures, twin->failures);
	CHECK_EQ(figures.cleanups, armed);
	CHECK_LE(figures.bytes_charged, twin->limit_bytes);
	CHECK_EQ(figures.bytes_limit, twin->limit_bytes);
}

static size_t
random_bytes(void)
{
	switch (test_rand_below(&rng, 20)) {
	case 0:
		return 0;
	case 1:
		return test_rand_below(&rng, 100000);
	case 2:
	case 3:
		return test_rand_below(&rng, 9000);
	default:
		return test_rand_below(&rng, 300);
	}
}

/* Only a limit or a size no one can have makes a request fail here. */
static void
refused(struct twin *twin)
{
	CHECK_NE(twin->limit_bytes, UINT64_MAX);
	twin->failures++;
}

static void
do_alloc(struct twin *twin)
{
	size_t bytes = random_bytes();
	size_t align = 16;
	unsigned char *address;

	if (test_rand_below(&rng, 4) == 0) {
		align = (size_t)1 << test_rand_below(&rng, 14);
		address = weir_region_alloc_aligned(twin->region, bytes, align);
	} else {
		address = weir_region_alloc(twin->region, bytes);
	}
	if (address == NULL) {
		refused(twin);
		return;
	}
	CHECK_EQ((uintptr_t)address % align, 0);
	CHECK_EQ((uintptr_t)address % 16, 0);
	object_add(twin, address, bytes);
}

static void
do_zeroed(struct twin *twin)
{
	size_t bytes = random_bytes();
	unsigned char *address = weir_region_alloc_zeroed(twin->region, bytes);

	if (address == NULL) {
		refused(twin);
		return;
	}
	for (size_t i = 0; i < bytes; i++)
		CHECK_EQ(address[i], 0);
	object_add(twin, address, bytes);
}

static void
do_text(struct twin *twin)
{
	int width =
	    (int)(test_rand_below(&rng, 8) == 0 ? test_rand_below(&rng, 6000)
						: test_rand_below(&rng, 100));
	char *expected = NULL, *text;

	CHECK_GE(asprintf(&expected, "<%*u>", width, 12345u), 0);
	switch (test_rand_below(&rng, 3)) {
	case 0:
		text = weir_region_printf(twin->region, "<%*u>", width, 12345u);
		break;
	case 1:
		text = weir_region_strdup(twin->region, expected);
		break;
	default:
		text = weir_region_strndup(
		    twin->region, expected, strlen(expected));
		break;
	}
	if (text == NULL) {
		refused(twin);
	} else {
		CHECK_STR(text, expected);
		object_add(twin, text, strlen(expected) + 1);
	}
	free(expected);
}

static void
do_bad(struct twin *twin)
{
	size_t huge = SIZE_MAX - test_rand_below(&rng, 64);

	if (test_rand_below(&rng, 2) == 0)
		CHECK_NULL(weir_region_alloc(twin->region, huge));
	else
		CHECK_NULL(weir_region_alloc_aligned(
		    twin->region, 10, 3 + 4 * test_rand_below(&rng, 10)));
	twin->failures++;
}

/* ---- cleanups ----------------------------------------------------------- */

static void
handler_drop(struct twin *twin, size_t index)
{
	free(twin->handler[index]);
	twin->handler_count--;
	memmove(&twin->handler[index], &twin->handler[index + 1],
	    (twin->handler_count - index) * sizeof(twin->handler[0]));
}

/* The newest armed handler must be the one that runs. */
static void
cleanup_run(void *context)
{
	struct handler *handler = context;
	struct twin *twin = handler->twin;
	size_t newest = twin->handler_count;

	while (newest > 0 && !twin->handler[newest - 1]->armed)
		newest--;
	CHECK_GT(newest, 0);
	CHECK_PTR(twin->handler[newest - 1], handler);
	/* Every object is still what it was. */
	if (test_rand_below(&rng, 50) == 0)
		for (size_t i = 0; i < twin->object_count; i++)
			object_verify(&twin->object[i]);
	if (test_rand_below(&rng, 4) == 0 && twin->object_count < OBJECTS_MAX)
		do_alloc(twin);
	handler_drop(twin, newest - 1);
	twin->ran_count++;
}

static void
do_cleanup(struct twin *twin)
{
	struct handler *handler;

	if (twin->handler_count == CLEANUPS_MAX)
		return;
	handler = calloc(1, sizeof(*handler));
	CHECK_NOT_NULL(handler);
	handler->twin = twin;
	handler->armed = test_rand_below(&rng, 2) == 0;
	handler->handle =
	    handler->armed
		? weir_region_cleanup_add(twin->region, cleanup_run, handler)
		: weir_region_cleanup_reserve(twin->region);
	if (handler->handle == NULL) {
		free(handler);
		refused(twin);
		return;
	}
	twin->handler[twin->handler_count++] = handler;
}

/* Arms a reserved handler, which makes it the newest; or cancels any. */
static void
do_handle(struct twin *twin)
{
	size_t index;
	struct handler *handler;

	if (twin->handler_count == 0)
		return;
	index = test_rand_below(&rng, twin->handler_count);
	handler = twin->handler[index];
	if (handler->armed || test_rand_below(&rng, 3) == 0) {
		weir_region_cleanup_cancel(twin->region, handler->handle);
		handler_drop(twin, index);
		return;
	}
	weir_region_cleanup_arm(
	    twin->region, handler->handle, cleanup_run, handler);
	handler->armed = true;
	memmove(&twin->handler[index], &twin->handler[index + 1],
	    (twin->handler_count - 1 - index) * sizeof(handler));
	twin->handler[twin->handler_count - 1] = handler;
}

/* ---- life --------------------------------------------------------------- */

static void
begin(struct twin *twin)
{
	struct weir_region_config config = {
	    .first_bytes = (test_rand_below(&rng, 2) << 10)
			   << test_rand_below(&rng, 4),
	    .block_bytes_max = (test_rand_below(&rng, 2) << 13)
			       << test_rand_below(&rng, 6),
	    .large_bytes = test_rand_below(&rng, 3) * 2000,
	    .limit_bytes = test_rand_below(&rng, 3) == 0
			       ? 1024 + test_rand_below(&rng, 300000)
			       : 0,
	};

	CHECK_EQ(weir_region_create(&model_kind, &config, &twin->region), 0);
	twin->limit_bytes =
	    config.limit_bytes != 0 ? config.limit_bytes : UINT64_MAX;
	twin->failures = 0;
}

static void
end(struct twin *twin, bool reset)
{
	size_t armed = 0;

	verify(twin);
	verify_no_overlap();
	for (size_t i = 0; i < twin->handler_count; i++)
		armed += twin->handler[i]->armed;
	twin->ran_count = 0;
	if (reset)
		weir_region_reset(twin->region);
	else
		weir_region_destroy(twin->region);
	CHECK_EQ(twin->ran_count, armed);
	/* Those left were reserved and never armed. */
	while (twin->handler_count > 0) {
		CHECK(!twin->handler[0]->armed);
		handler_drop(twin, 0);
	}
	twin->object_count = 0;
	if (reset)
		verify(twin);
	else
		begin(twin);
}

static void
step(void)
{
	struct twin *twin = &twins[test_rand_below(&rng, REGIONS)];
	uint64_t dice = test_rand_below(&rng, 1000);

	if (twin->object_count + CLEANUPS_MAX >= OBJECTS_MAX)
		end(twin, dice % 2 == 0);
	else if (dice < 600)
		do_alloc(twin);
	else if (dice < 680)
		do_zeroed(twin);
	else if (dice < 760)
		do_text(twin);
	else if (dice < 770)
		do_bad(twin);
	else if (dice < 880)
		do_cleanup(twin);
	else if (dice < 985)
		do_handle(twin);
	else if (dice < 990)
		verify(twin);
	else
		end(twin, dice < 995);
}

TEST_LIMIT(regions_behave_like_their_twins, 120)
{
	size_t steps = test_count(100000);
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	test_rng_init(&rng, test_seed());
	for (size_t r = 0; r < REGIONS; r++)
		begin(&twins[r]);
	for (size_t i = 0; i < steps; i++)
		step();
	for (size_t r = 0; r < REGIONS; r++) {
		end(&twins[r], false);
		weir_region_destroy(twins[r].region);
	}
	CHECK_EQ(weir_region_kind_stats(&model_kind, &stats), 0);
	CHECK_EQ(stats.in_use, 0);
	CHECK_EQ(stats.bytes_mapped, 0);
	CHECK_GE(stats.in_use_peak, REGIONS);
}
