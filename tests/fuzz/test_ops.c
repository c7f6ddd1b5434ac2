/* SPDX-License-Identifier: MIT */
/*
 * test_ops.c - inputs of operations on pools, without libFuzzer: those that are
 * kept in tests/fuzz/seeds, and random ones.
 *
 * WEIR_FUZZ_INPUT=FILE runs that input instead of the kept ones.
 */
#include "ops.h"
#include "test.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_BYTES ((size_t)64 << 10)

static uint8_t bytes[INPUT_BYTES];

static void
run_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	size_t count;

	if (file == NULL)
		FAIL("%s cannot be read", path);
	count = fread(bytes, 1, sizeof(bytes), file);
	(void)fclose(file);
	printf("%s: %zu bytes\n", path, count);
	(void)fflush(stdout);
	ops_run(bytes, count);
}

TEST(kept_inputs_find_no_difference)
{
	const char *one = getenv("WEIR_FUZZ_INPUT");
	struct dirent *entry;
	unsigned count = 0;
	char path[512];
	DIR *seeds;

	if (one != NULL) {
		run_file(one);
		return;
	}
	seeds = opendir(FUZZ_SEEDS);
	if (seeds == NULL)
		FAIL("no folder %s", FUZZ_SEEDS);
	while ((entry = readdir(seeds)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(
		    path, sizeof(path), "%s/%s", FUZZ_SEEDS, entry->d_name);
		run_file(path);
		count++;
	}
	(void)closedir(seeds);
	CHECK_GE(count, 4);
}

/* Of one pool, and of all together. */
static void
run_random(uint8_t which, size_t inputs)
{
	struct test_rng rng;

	test_rng_init(&rng, test_seed() + which);
	for (size_t i = 0; i < inputs; i++) {
		size_t count = 1 + (size_t)test_rand_below(&rng, 4000);

		for (size_t at = 0; at < count; at++)
			bytes[at] = (uint8_t)test_rand(&rng);
		bytes[0] = which;
		ops_run(bytes, count);
	}
}

TEST(random_operations_on_caches)
{
	run_random(0, test_count(60));
}

TEST(random_operations_on_a_heap)
{
	run_random(1, test_count(60));
}

TEST(random_operations_on_regions)
{
	run_random(2, test_count(60));
}

TEST(random_operations_on_buffers)
{
	run_random(3, test_count(60));
}

TEST(random_operations_on_all_pools)
{
	run_random(200, test_count(60));
}
