/* SPDX-License-Identifier: MIT */
/*
 * main.c - a user's program: takes one object from a cache and gives it back.
 */
#include <weir/cache.h>
#include <weir/version.h>

#include <stdio.h>
#include <string.h>

int
main(void)
{
	struct weir_cache_config config = {.object_bytes = 100};
	struct weir_cache *cache;
	int error = weir_cache_create("outside", &config, &cache);
	void *object;

	if (error != 0) {
		fprintf(stderr, "weir_cache_create: %s\n", strerror(-error));
		return 1;
	}
	object = weir_cache_alloc(cache);
	if (object == NULL)
		return 1;
	memset(object, 0x5a, config.object_bytes);
	weir_cache_free(cache, object);
	weir_cache_destroy(cache);
	puts("weir " WEIR_VERSION_STRING);
	return 0;
}
