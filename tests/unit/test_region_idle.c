/* SPDX-License-Identifier: MIT */
/*
 * test_region_idle.c - what regions leave behind goes back without anybody's
 * clock: no maintenance runs here.
 */
#include "pools/region.h"
#include "slab/cursor.h"
#include "slab/shard.h"

#include "region_common.h"

#include <sys/wait.h>
#include <unistd.h>

#define BYTES 20000
#define LEARNED (24 << 10) /* the first block of regions that hold it */

static uint64_t
pages_held(void)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_stats_read(&stats), 0);
	uint64_t bytes = stats.bytes_in_spans + stats.bytes_retained;

	/* Pages of slabs in use whose memory went back stay charged. */
	for (unsigned i = 0; i < WEIRI_REGION_SUPPLIES; i++) {
		const struct weiri_depot *depot =
		    weiri_region_supply_depot(weiri_region_supply_now(), i);

		if (depot != NULL)
			bytes -= WEIRI_PAGE * depot->voided;
	}
	return bytes;
}

static void
fill(struct weir_region *region, size_t bytes)
{
	for (size_t done = 0; done < bytes; done += 500)
		memset(weir_region_alloc(region, 500), 1, 500);
}

static void
make(struct weir_region_kind *kind, struct weir_region **region)
{
	CHECK_EQ(weir_region_create(kind, NULL, region), 0);
	fill(*region, BYTES);
}

TEST(a_kind_that_takes_another_size_leaves_nothing)
{
	enum { LIVE = 400 };
	static struct weir_region_kind kind = WEIR_REGION_KIND("moved");
	static struct weir_region *regions[LIVE];

	NOT_UNDER_GUARD("what the guard holds is among the pages");
	/* Of four blocks each, as nothing is known. */
	for (int i = 0; i < LIVE; i++)
		make(&kind, &regions[i]);
	for (int i = 0; i < 3 * LIVE; i++) {
		weir_region_destroy(regions[i % LIVE]);
		make(&kind, &regions[i % LIVE]);
	}
	CHECK_EQ(figures(regions[0]).bytes_charged, LEARNED);
	CHECK_LE(pages_held(), (uint64_t)LIVE * LEARNED / 4 * 5);
	for (int i = 0; i < LIVE; i++)
		weir_region_destroy(regions[i]);
}

static void
end_small_ones(struct weir_region_kind *kind, int count)
{
	for (int i = 0; i < count; i++) {
		struct weir_region *region;

		CHECK_EQ(weir_region_create(kind, NULL, &region), 0);
		fill(region, 500);
		weir_region_destroy(region);
	}
}

/* Regions that were live when their kind took another size, and long after; they
 * end among so many others that it does not take the old one again. */
TEST(a_kind_asks_after_blocks_of_before)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	enum { LIVE = 100 };
	static struct weir_region_kind kind = WEIR_REGION_KIND("before");
	static struct weir_region *regions[LIVE];
	uint64_t before;

	for (int i = 0; i < 3 * LIVE; i++) {
		weir_region_destroy(regions[i % LIVE]);
		make(&kind, &regions[i % LIVE]);
	}
	end_small_ones(&kind, 1000);
	before = pages_held();
	CHECK_LE((uint64_t)LIVE * LEARNED, before);
	for (int i = 0; i < LIVE; i++) {
		weir_region_destroy(regions[i]);
		end_small_ones(&kind, 40);
	}
	end_small_ones(&kind, 400);
	CHECK_LE(pages_held(), before / 4);
}

TEST(a_spike_is_gone_after_64_resets)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	enum { LIVE = 16 };
	static struct weir_region_kind kind = WEIR_REGION_KIND("spike");
	struct weir_region *regions[LIVE];
	uint64_t before;

	for (int i = 0; i < LIVE; i++)
		make(&kind, &regions[i]);
	for (int i = 0; i < LIVE * 256; i++) {
		weir_region_reset(regions[i % LIVE]);
		fill(regions[i % LIVE], BYTES);
	}
	before = pages_held();
	for (int i = 0; i < LIVE; i++)
		fill(regions[i], 100 * BYTES);
	CHECK_LE(before * 20, pages_held());
	for (int i = 0; i < LIVE * 64; i++) {
		weir_region_reset(regions[i % LIVE]);
		fill(regions[i % LIVE], BYTES);
	}
	CHECK_LE(pages_held() * 10, before * 12);
	for (int i = 0; i < LIVE; i++)
		weir_region_destroy(regions[i]);
}

/* A batch is no reason: the next one would fault its pages in again. */
TEST(regions_made_and_ended_together_keep_their_blocks)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	enum { BATCH = 300 };
	static struct weir_region_kind kind = WEIR_REGION_KIND("batch");
	struct weir_region *regions[BATCH];

	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < BATCH; i++)
			make(&kind, &regions[i]);
		for (int i = 0; i < BATCH; i++)
			weir_region_destroy(regions[i]);
		if (round >= 10)
			CHECK_LE((uint64_t)BATCH * LEARNED, pages_held());
	}
}

/* Requests that end at a shard say that a depot is in use, as well as those that
 * come to its lock. */
TEST(blocks_that_go_through_shards_are_in_use)
{
	enum { HELD = 500, FREED = 200, BURST = 12 };
	static void *held[HELD];
	struct weiri_depot *depot;
	uint64_t stock;

	CHECK_EQ(weiri_region_supply_start(), 0);
	depot = weiri_region_supply_depot(weiri_region_supply_now(),
	    WEIRI_REGION_FIRSTS + WEIRI_REGION_DEPOTS - 1);
	weiri_shards_make(depot, 2);
	for (int i = 0; i < HELD; i++)
		CHECK_NOT_NULL(held[i] = weiri_depot_get(depot));
	for (int i = 0; i < FREED; i++)
		weiri_depot_put(depot, held[i]);
	CHECK_NOT_NULL(weiri_region_first_make(0, true));
	weiri_region_idle_moved(0);
	stock = depot->full_slots;
	CHECK_GT(stock, FREED / 2);
	for (int look = 0; look < 4; look++) {
		uint64_t misses = weiri_depot_misses(depot);

		weiri_region_idle_look();
		for (int i = 0; i < BURST; i++)
			CHECK_NOT_NULL(held[i] = weiri_depot_get(depot));
		for (int i = 0; i < BURST; i++)
			weiri_depot_put(depot, held[i]);
		CHECK_GT(weiri_depot_misses(depot), misses);
	}
	CHECK_GE(depot->full_slots, stock - BURST);
	for (int i = FREED; i < HELD; i++)
		weiri_depot_put(depot, held[i]);
}

/* The threads that learned and looked when the process forked are not in the
 * child. */
TEST(child_learns_though_its_parent_forked_meanwhile)
{
	NOT_UNDER_GUARD("a region has no room and no blocks");

	static struct weir_region_kind kind = WEIR_REGION_KIND("forked");
	struct weir_region *region;
	struct weiri_region_kind *record;
	pid_t pid;
	int status;

	make(&kind, &region);
	weir_region_destroy(region);
	record = kind.record;
	record->learning = true;
	weiri_region_supply_now()->looking = true;
	pid = fork();
	CHECK_NE(pid, -1);
	if (pid == 0) {
		for (int i = 0; i < 100; i++) {
			make(&kind, &region);
			weir_region_destroy(region);
		}
		CHECK(!weiri_region_supply_now()->looking);
		CHECK_EQ(weir_region_create(&kind, NULL, &region), 0);
		_exit(figures(region).bytes_charged == LEARNED ? 0 : 1);
	}
	record->learning = false;
	weiri_region_supply_now()->looking = false;
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
