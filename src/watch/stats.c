/* SPDX-License-Identifier: MIT */
/*
 * stats.c - the public calls that need nothing but pools.
 *
 * A program built against another version of the headers is recognised by the
 * size it states; a size this library does not know is refused rather than
 * guessed at.
 */
#include "watch/registry.h"
#include "watch/report.h"

struct stats_array {
	struct weir_pool_stats *out;
	size_t capacity;
	size_t count;
};

static bool
stats_collect(struct weiri_pool *pool, void *context)
{
	struct stats_array *array = context;

	if (pool->internal)
		return true;
	if (array->count < array->capacity)
		weiri_pool_stats(pool, &array->out[array->count]);
	array->count++;
	return true;
}

size_t
weir_stats_pools(struct weir_pool_stats *out, size_t capacity)
{
	struct stats_array array = {.out = out, .capacity = capacity};

	if (capacity == 0)
		return weiri_pool_count();
	if (out[0].size != sizeof(out[0]))
		return 0;
	weiri_pool_walk(stats_collect, &array);
	return array.count;
}

size_t
weir_stats_health(
    const struct weir_pool_stats *stats, char *buffer, size_t bytes)
{
	struct weiri_text text = {buffer, bytes, 0};

	if (bytes > 0)
		buffer[0] = '\0';
	weiri_report_health(&text, stats);
	return text.used;
}
