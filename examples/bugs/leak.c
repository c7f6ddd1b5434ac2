/* SPDX-License-Identifier: MIT */
/*
 * leak.c - memory is not given back by one of the ways out.
 *
 * What it looks like: a request that is in order frees all it took; one that is
 * not returns in the middle.  The server grows with each of them, by days.
 *
 * What weir says: each pool knows what it has out.  At the end of the program,
 * or at weir_shutdown():
 *
 *     $ WEIR_LEAKS=1 build/release/examples/bugs/leak
 *     3 of 10 requests were in order
 *     weir: warning: leak: heap "requests": 7 objects, 448 bytes
 *
 * While it runs, the same number is weir_pool_stats.in_use, and a pool that is
 * destroyed with objects out dies by name (live-objects-at-destroy).
 *
 * The mended program has one owner of all that a request needs, and one end:
 *
 *     $ WEIR_LEAKS=1 build/release/examples/bugs/leak mended
 *     3 of 10 requests were in order
 *
 * What was lost long ago, in a server that must not stop: sample mode, whose
 * report tells what is older than its kind lives.
 */
#include <weir/heap.h>
#include <weir/region.h>

#include <stdio.h>
#include <string.h>

static bool
serve_wrongly(struct weir_heap *heap, int number)
{
	char *line = weir_heap_alloc(heap, 64);

	if (line == NULL)
		return false;
	(void)snprintf(line, 64, "%d", number);
	if (number % 4 != 0)
		return false; /* and the line? */
	weir_heap_free(heap, line);
	return true;
}

static bool
serve(int number)
{
	static struct weir_region_kind kind = WEIR_REGION_KIND("request");
	/* Ends with this block, by whatever way it is left. */
	WEIR_REGION_SCOPE struct weir_region *region = NULL;

	if (weir_region_create(&kind, NULL, &region) != 0 ||
	    weir_region_printf(region, "%d", number) == NULL)
		return false;
	if (number % 4 != 0)
		return false;
	return true;
}

int
main(int argc, char **argv)
{
	bool mended = argc > 1 && strcmp(argv[1], "mended") == 0;
	struct weir_heap *heap = NULL;
	int good = 0;

	if (!mended && weir_heap_create("requests", NULL, &heap) != 0)
		return 1;
	for (int i = 0; i < 10; i++)
		good += mended ? serve(i) : serve_wrongly(heap, i);
	printf("%d of 10 requests were in order\n", good);
	return 0;
}
