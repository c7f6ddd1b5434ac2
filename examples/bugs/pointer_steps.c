/* SPDX-License-Identifier: MIT */
/*
 * pointer_steps.c - a pointer is moved by bytes where it moves by elements.
 *
 * What it looks like: `first + i * sizeof(*first)`.  The compiler multiplies by
 * the size as well, so of 92 ports of two bytes the second is written where the
 * third belongs, and the second half behind the array: to the neighbour.
 *
 * What weir says: as such, the access is a plain one.  What is always on sees
 * what was written where only the library writes, when the object is freed whose
 * state it was:
 *
 *     $ build/release/examples/bugs/pointer_steps
 *     weir: FAULT corruption: cache "ports": the word before object 0x... was
 *     overwritten; find the write past an end or after a free: watch this
 *     address
 *
 * In full mode the access itself ends the program, with the object it belongs
 * to and the distance from its end:
 *
 *     $ WEIR_GUARD=full build/release/examples/bugs/pointer_steps
 *     weir: FAULT overflow: cache "ports"
 *
 *     $ build/release/examples/bugs/pointer_steps mended
 *     ports: 7000 .. 7091
 *
 * Write first[i]; where bytes are meant, say so with a char pointer.
 */
#include <weir/cache.h>

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define PORTS 92

struct ports {
	uint16_t number[PORTS];
};

/* As a function, so that no compiler checks the index against the array. */
__attribute__((noinline)) static uint16_t *
port_wrongly(uint16_t *first, size_t i)
{
	return first + i * sizeof(*first);
}

__attribute__((noinline)) static uint16_t *
port(uint16_t *first, size_t i)
{
	return first + i;
}

int
main(int argc, char **argv)
{
	bool mended = argc > 1 && strcmp(argv[1], "mended") == 0;
	struct weir_cache *cache;
	struct ports *one, *other, *ports;

	if (weir_cache_create("ports",
		&(struct weir_cache_config){
		    .object_bytes = sizeof(struct ports)},
		&cache) != 0)
		return 1;
	one = weir_cache_alloc(cache);
	other = weir_cache_alloc(cache);
	if (one == NULL || other == NULL)
		return 1;
	/* Which of the two has the other behind it is the library's affair. */
	ports = one < other ? one : other;
	for (size_t i = 0; i < PORTS; i++)
		*(mended ? port : port_wrongly)(ports->number, i) =
		    (uint16_t)(7000 + i);
	if (mended)
		printf("ports: %d .. %d\n", ports->number[0],
		    ports->number[PORTS - 1]);
	weir_cache_free(cache, one);
	weir_cache_free(cache, other);
	weir_cache_destroy(cache);
	return 0;
}
