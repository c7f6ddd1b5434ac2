/* SPDX-License-Identifier: MIT */
/*
 * ops.c - the input, the shadow, and one run.
 */
#include "ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of larger objects the ends are written and looked at. */
#define SHADOW_EDGE ((size_t)512)

static struct {
	const uint8_t *at, *end;
} input;

static struct {
	struct shadow_object object[SHADOW_OBJECTS]; /* by address */
	size_t count;
	uint64_t order;
} shadow;

_Noreturn void
ops_fail(const char *file, int line, const char *text)
{
	fprintf(stderr, "%s:%d: %s is false\n", file, line, text);
	abort();
}

/* ---- the input ---------------------------------------------------------------- */

bool
ops_more(void)
{
	return input.at < input.end;
}

uint8_t
ops_byte(void)
{
	return input.at < input.end ? *input.at++ : 0;
}

uint16_t
ops_word(void)
{
	unsigned low = ops_byte();

	return (uint16_t)(low | (unsigned)ops_byte() << 8);
}

unsigned
ops_below(unsigned bound)
{
	return ops_byte() % bound;
}

size_t
ops_size(void)
{
	unsigned kind = ops_byte();

	if (kind < 200)
		return ops_byte();
	if (kind < 246)
		return ops_word() % 5000;
	if (kind < 254)
		return ops_word();
	return (size_t)ops_word() * 16;
}

/* ---- the shadow ----------------------------------------------------------------- */

static uint8_t
shadow_byte(uint8_t seed, size_t at)
{
	return (uint8_t)(seed + at * 7 + (at >> 8));
}

static size_t
shadow_head(size_t bytes)
{
	return bytes < SHADOW_EDGE ? bytes : SHADOW_EDGE;
}

static size_t
shadow_tail(size_t bytes)
{
	return bytes < 2 * SHADOW_EDGE ? shadow_head(bytes)
				       : bytes - SHADOW_EDGE;
}

static void
shadow_write(const struct shadow_object *object)
{
	size_t bytes = object->bytes;

	for (size_t i = 0; i < shadow_head(bytes); i++)
		object->address[i] = shadow_byte(object->seed, i);
	for (size_t i = shadow_tail(bytes); i < bytes; i++)
		object->address[i] = shadow_byte(object->seed, i);
}

void
shadow_verify(const struct shadow_object *object)
{
	size_t bytes = object->bytes;

	for (size_t i = 0; i < shadow_head(bytes); i++)
		OPS_CHECK(object->address[i] == shadow_byte(object->seed, i));
	for (size_t i = shadow_tail(bytes); i < bytes; i++)
		OPS_CHECK(object->address[i] == shadow_byte(object->seed, i));
}

void
shadow_expect_zero(const void *address, size_t bytes)
{
	const unsigned char *byte = address;

	for (size_t i = 0; i < shadow_head(bytes); i++)
		OPS_CHECK(byte[i] == 0);
	for (size_t i = shadow_tail(bytes); i < bytes; i++)
		OPS_CHECK(byte[i] == 0);
}

bool
shadow_full(void)
{
	return shadow.count == SHADOW_OBJECTS;
}

uint64_t
shadow_now(void)
{
	return ++shadow.order;
}

/* The first object that does not lie below @address. */
static size_t
shadow_search(const unsigned char *address)
{
	size_t low = 0, high = shadow.count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (shadow.object[middle].address < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void
shadow_insert(struct shadow_object object, size_t align)
{
	size_t at = shadow_search(object.address);
	struct shadow_object *place = &shadow.object[at];

	OPS_CHECK(object.address != NULL);
	OPS_CHECK((uintptr_t)object.address % align == 0);
	/* One of no bytes may lie where another begins. */
	if (object.bytes == 0)
		return;
	OPS_CHECK(!shadow_full());
	if (at > 0)
		OPS_CHECK(
		    place[-1].address + place[-1].bytes <= object.address);
	if (at < shadow.count)
		OPS_CHECK(object.address + object.bytes <= place->address);
	memmove(place + 1, place, (shadow.count - at) * sizeof(*place));
	*place = object;
	shadow.count++;
	shadow_write(place);
}

void
shadow_add(const void *owner, void *address, size_t bytes, size_t align)
{
	uint64_t order = shadow_now();

	shadow_insert(
	    (struct shadow_object){
		.address = address,
		.bytes = bytes,
		.owner = owner,
		.order = order,
		.seed = (uint8_t)(order * 37),
	    },
	    align);
}

static void
shadow_drop(struct shadow_object *object)
{
	size_t at = (size_t)(object - shadow.object);

	shadow.count--;
	memmove(object, object + 1, (shadow.count - at) * sizeof(*object));
}

void
shadow_remove(struct shadow_object *object)
{
	shadow_verify(object);
	shadow_drop(object);
}

void
shadow_move(
    struct shadow_object *object, void *address, size_t bytes, size_t align)
{
	struct shadow_object moved = *object;
	size_t kept = bytes < object->bytes ? bytes : object->bytes;

	/* What came along, at its new place. */
	moved.address = address;
	for (size_t i = 0; i < shadow_head(kept); i++)
		OPS_CHECK(moved.address[i] == shadow_byte(moved.seed, i));
	for (size_t i = shadow_tail(object->bytes); i < kept; i++)
		OPS_CHECK(moved.address[i] == shadow_byte(moved.seed, i));
	moved.bytes = bytes;
	if (address != object->address)
		moved.order = shadow_now();
	shadow_drop(object);
	shadow_insert(moved, align);
}

struct shadow_object *
shadow_pick(const void *owner, unsigned number)
{
	size_t count = shadow_count(owner);

	if (count == 0)
		return NULL;
	number %= (unsigned)count;
	for (size_t i = 0;; i++)
		if (shadow.object[i].owner == owner && number-- == 0)
			return &shadow.object[i];
}

size_t
shadow_count(const void *owner)
{
	size_t count = 0;

	for (size_t i = 0; i < shadow.count; i++)
		count += shadow.object[i].owner == owner;
	return count;
}

void
shadow_end(const void *owner, uint64_t since)
{
	size_t kept = 0;

	for (size_t i = 0; i < shadow.count; i++) {
		struct shadow_object *object = &shadow.object[i];

		if (object->owner == owner && object->order >= since)
			shadow_verify(object);
		else
			shadow.object[kept++] = *object;
	}
	shadow.count = kept;
}

void
shadow_give(const void *owner, const void *to)
{
	uint64_t now = shadow_now();

	for (size_t i = 0; i < shadow.count; i++) {
		if (shadow.object[i].owner != owner)
			continue;
		shadow.object[i].owner = to;
		shadow.object[i].order = now;
	}
}

void
shadow_verify_all(void)
{
	for (size_t i = 0; i < shadow.count; i++)
		shadow_verify(&shadow.object[i]);
}

/* ---- one input ---------------------------------------------------------------------- */

void
ops_run(const uint8_t *data, size_t bytes)
{
	static const struct ops_pool *const pool[] = {
	    &ops_cache, &ops_heap, &ops_region, &ops_buffer};
	const size_t pools = sizeof(pool) / sizeof(pool[0]);
	unsigned which, steps = 0;

	input.at = data;
	input.end = data + bytes;
	shadow.count = 0;
	shadow.order = 0;
	/* One pool alone, so that its states are reached soon, or all. */
	which = ops_byte();
	for (size_t i = 0; i < pools; i++)
		pool[i]->begin();
	while (ops_more()) {
		unsigned i = which < 128 ? which : ops_byte();

		pool[i % pools]->step();
		if (++steps % 64 == 0) {
			shadow_verify_all();
			pool[i % pools]->check();
		}
	}
	shadow_verify_all();
	for (size_t i = 0; i < pools; i++)
		pool[i]->check();
	for (size_t i = 0; i < pools; i++)
		pool[i]->end();
	OPS_CHECK(shadow.count == 0);
}
