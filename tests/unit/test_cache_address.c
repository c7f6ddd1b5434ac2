/* SPDX-License-Identifier: MIT */
/*
 * test_cache_address.c - objects whose address says little: its lower half is 0.
 *
 * What a call may end in line is told by a mask over the object's address, and
 * such an object is the one in 2^32 that a mask of half a word lets through.  The
 * system gives addresses downwards, so what lies above one is taken first.
 */
#include "test.h"

#include <weir/cache.h>

#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define OBJECTS 128
#define OBJECT_BYTES ((size_t)32 << 10)

static unsigned made, ended;

static void
note_made(void *object, void *context)
{
	(void)object;
	(void)context;
	made++;
}

static void
note_ended(void *object, void *context)
{
	(void)object;
	(void)context;
	ended++;
}

/* Leaves @gap bytes above the next address of that kind. */
static void
leave_gap(size_t gap)
{
	char *lowest =
	    mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t above;

	CHECK(lowest != MAP_FAILED);
	above = (uint32_t)(uintptr_t)lowest;
	if (above > gap)
		(void)mmap(NULL, above - gap, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

/* Was there one among those of a cache like this? */
static bool
take_and_free(const struct weir_cache_config *config, bool hooks)
{
	static void *objects[OBJECTS];
	struct weir_cache *cache;
	bool met = false;

	CHECK_EQ(weir_cache_create("blocks", config, &cache), 0);
	for (int turn = 0; turn < 2; turn++) {
		made = ended = 0;
		for (size_t i = 0; i < OBJECTS; i++) {
			objects[i] = weir_cache_alloc(cache);
			CHECK_NOT_NULL(objects[i]);
			met |= (uint32_t)(uintptr_t)objects[i] == 0;
		}
		for (size_t i = 0; i < OBJECTS; i++)
			weir_cache_free(cache, objects[i]);
		CHECK_EQ(made, hooks ? OBJECTS : 0);
		CHECK_EQ(ended, hooks ? OBJECTS : 0);
	}
	weir_cache_destroy(cache);
	return met;
}

static void
find_such_objects(const struct weir_cache_config *config, bool hooks)
{
	bool met = false;

	for (size_t gap = 0; gap <= 8 * MIB; gap += MIB) {
		int status;
		pid_t child = fork();

		CHECK_GE(child, 0);
		if (child == 0) {
			leave_gap(gap);
			_exit(take_and_free(config, hooks) ? 17 : 0);
		}
		CHECK_EQ(waitpid(child, &status, 0), child);
		CHECK(WIFEXITED(status));
		CHECK(WEXITSTATUS(status) == 17 || WEXITSTATUS(status) == 0);
		met |= WEXITSTATUS(status) == 17;
	}
	if (!met)
		SKIP("the system gave no such address");
}

TEST(object_whose_lower_half_is_zero_is_marked_as_in_use)
{
	find_such_objects(
	    &(struct weir_cache_config){.object_bytes = OBJECT_BYTES}, false);
}

TEST(object_whose_lower_half_is_zero_is_constructed_at_each_use)
{
	find_such_objects(
	    &(struct weir_cache_config){.object_bytes = OBJECT_BYTES,
		.check = WEIR_CHECK_BATCH,
		.ctor = note_made,
		.dtor = note_ended},
	    true);
}
