/* SPDX-License-Identifier: MIT */
/*
 * statistics.c - what the statistics of a small server look like.
 *
 *     script/build && build/release/examples/statistics
 *     build/release/examples/statistics verbose
 *
 * Or by hand, with the library installed:
 *
 *     cc examples/statistics.c $(pkg-config --cflags --libs weir) -o statistics
 *
 * Its output is the example that docs/STATISTICS.md explains line by line.  So
 * it does the same each time: one thread, a budget of its own, no environment.
 */
#include <weir/weir.h>

#include <stdio.h>
#include <string.h>

#define SESSIONS 95
#define PACKETS 40

static struct weir_region_kind request_kind = WEIR_REGION_KIND("request");

/* Ninety-five of at most a hundred sessions: the health line says so. */
static bool
use_sessions(void)
{
	struct weir_cache_config config = {.object_bytes = 240, .limit = 100};
	struct weir_cache *sessions;

	if (weir_cache_create("session", &config, &sessions) != 0)
		return false;
	for (int i = 0; i < SESSIONS; i++)
		if (weir_cache_alloc(sessions) == NULL)
			return false;
	return true;
}

/* Thirty-six buffers of 2 KiB fit into the allowance, the rest is refused. */
static bool
use_buffers(void)
{
	struct weir_buffer_pool_config config = {.limit_bytes = 72 << 10};
	struct weir_buffer_pool *net;
	int refused = 0;

	if (weir_buffer_pool_create("net", &config, &net) != 0)
		return false;
	for (int i = 0; i < PACKETS; i++)
		refused += weir_buffer_acquire(net, 1500) == NULL;
	return refused == PACKETS - 36;
}

static bool
use_regions(void)
{
	for (int i = 0; i < 1000; i++) {
		struct weir_region *request;

		if (weir_region_create(&request_kind, NULL, &request) != 0)
			return false;
		if (weir_region_alloc(request, 700) == NULL)
			return false;
		weir_region_destroy(request);
	}
	return true;
}

int
main(int count, char **words)
{
	bool verbose = count > 1 && strcmp(words[1], "verbose") == 0;
	struct weir_config config = {
	    .limit_bytes = 64 << 20,
	    .soft_bytes = 48 << 20,
	    .flags = WEIR_IGNORE_ENVIRONMENT,
	};
	static char text[8192];

	if (weir_init(&config) != 0 || !use_sessions() || !use_buffers() ||
	    !use_regions())
		return 1;
	if (verbose)
		weir_stats_text_verbose(text, sizeof(text));
	else
		weir_stats_text(text, sizeof(text));
	fputs(text, stdout);
	return 0;
}
