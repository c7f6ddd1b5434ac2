/* SPDX-License-Identifier: MIT */
/*
 * buffer_guard.c - buffers whose payload is under guard.
 *
 * Such a buffer is one of its pool like any other: its descriptor is a slot of
 * the tier's depot and counts in all limits.  For as long as it is held its
 * data leads to an object of the guard in place of its own part of the block,
 * which nobody uses meanwhile; the last release ends the object, whose pages
 * trap from then on, and data is what it was.
 *
 * The descriptor itself stays readable, since calls tell by its count that a
 * buffer was released.  So that they still can after the next acquire, the
 * descriptor rests for some acquires before it goes back to the depot; while it
 * is free, its second word says which object it had, for the report.  Where
 * requests wait or somebody is told of room it does not rest: there the depot
 * has to know of all that is free.  Nor does it where requests are made to fail,
 * which it would serve.
 *
 * Invariants:
 *
 *   U1  Held with the flag BUFFER_GUARDED: data is the start of a live object
 *       that this descriptor is the shadow of.
 *   U2  Resting descriptors have no references and are charged to nothing but
 *       the depot.  No request is refused while one rests.
 */
#include "base/bits.h"
#include "guard/guard.h"
#include "pools/buffer.h"

/* Payload that may rest in a tier, or as many buffers. */
#define REST_BYTES ((size_t)1 << 20)
#define REST_MIN ((size_t)4)

/* ---- taking -------------------------------------------------------------- */

void
weiri_buffer_guard_begin(
    struct weiri_buffer_tier *tier, struct weir_buffer *buffer)
{
	uint32_t stride = weiri_depot_wind(&tier->depot);
	void *payload;

	if (stride == 0 || !weiri_guard_due(&tier->guard, stride))
		return;
	payload = weiri_guard_new(&tier->guard, tier->bytes,
	    weiri_buffer_align(tier->bytes), false, buffer);
	if (payload == NULL)
		return;
	WEIRI_STORE(&buffer->data, (unsigned char *)payload);
	WEIRI_STORE(
	    &buffer->flags, WEIRI_LOAD(&buffer->flags) | WEIRI_BUFFER_GUARDED);
}

/* ---- giving back --------------------------------------------------------- */

void
weiri_buffer_guard_end(
    struct weiri_buffer_tier *tier, struct weir_buffer *buffer)
{
	const struct weiri_slab *slab =
	    (const struct weiri_slab *)weiri_span_of(buffer);
	const struct weiri_payload *payload = slab->companion;
	unsigned char *guarded = buffer->data;
	size_t index = weiri_slab_slot(slab, buffer);

	if (WEIR_UNLIKELY(!weiri_buffer_guard_has(buffer)) &&
	    WEIR_DETECTOR(buffer_guard_descriptor))
		weiri_buffer_fault(WEIR_FAULT_CORRUPTION, buffer, 0,
		    "the descriptor of buffer %p was written to");
	WEIRI_STORE(&buffer->data,
	    (unsigned char *)payload->span.base + index * tier->stride);
	WEIRI_STORE(&buffer->internal[WEIRI_BUFFER_GUARDED_WORD],
	    (uint64_t)(uintptr_t)guarded);
	weiri_guard_finish(guarded, WEIRI_GUARD_UNREF);
}

/* Locked. */
static struct weir_buffer *
rest_oldest(struct weiri_buffer_rest *rest)
{
	struct weir_buffer *buffer = rest->buffer[rest->oldest];

	if (rest->count == 0)
		return NULL;
	rest->oldest = (rest->oldest + 1) % WEIRI_BUFFER_REST_MAX;
	WEIRI_STORE(&rest->count, rest->count - 1);
	return buffer;
}

struct weir_buffer *
weiri_buffer_guard_rest(
    struct weiri_buffer_tier *tier, struct weir_buffer *buffer)
{
	struct weiri_buffer_rest *rest = &tier->rest;
	size_t most = weiri_max(REST_BYTES / tier->bytes, REST_MIN);
	struct weir_buffer *gone = NULL;

	if ((tier->pool->flags & WEIRI_BUFFER_GATED) != 0 ||
	    !weiri_guard_rests(&tier->guard))
		return buffer;
	most = weiri_min(most, WEIRI_BUFFER_REST_MAX);
	weiri_mutex_lock(&tier->lock);
	if (rest->count == most)
		gone = rest_oldest(rest);
	rest->buffer[(rest->oldest + rest->count) % WEIRI_BUFFER_REST_MAX] =
	    buffer;
	WEIRI_STORE(&rest->count, rest->count + 1);
	weiri_mutex_unlock(&tier->lock);
	return gone;
}

struct weir_buffer *
weiri_buffer_guard_take(struct weiri_buffer_tier *tier)
{
	struct weir_buffer *buffer;

	if (WEIRI_LOAD(&tier->rest.count) == 0)
		return NULL;
	weiri_mutex_lock(&tier->lock);
	buffer = rest_oldest(&tier->rest);
	weiri_mutex_unlock(&tier->lock);
	/* The depot has counted a failure that is none. */
	if (buffer != NULL)
		__atomic_fetch_add(&tier->gate.rescued, 1, __ATOMIC_RELAXED);
	return buffer;
}

void
weiri_buffer_guard_flush(struct weiri_buffer_tier *tier)
{
	struct weir_buffer *buffer, *bad = NULL;

	while (WEIRI_LOAD(&tier->rest.count) != 0) {
		weiri_mutex_lock(&tier->lock);
		buffer = rest_oldest(&tier->rest);
		weiri_mutex_unlock(&tier->lock);
		if (buffer == NULL)
			break;
		/* An acquire looks at that, but this may be the pool's end. */
		if (WEIRI_LOAD(&buffer->references) != 0)
			bad = buffer;
		weiri_depot_put(&tier->depot, buffer);
	}
	if (WEIR_UNLIKELY(bad != NULL) && WEIR_DETECTOR(buffer_rest_written))
		weiri_buffer_fault_in(tier, WEIR_FAULT_CORRUPTION, bad,
		    "free buffer %p was written to");
}

/* ---- asking -------------------------------------------------------------- */

bool
weiri_buffer_guard_has(const struct weir_buffer *buffer)
{
	return (WEIRI_LOAD(&buffer->flags) & WEIRI_BUFFER_GUARDED) != 0 &&
	       weiri_guard_shadow_of(WEIRI_LOAD(&buffer->data)) == buffer;
}

struct weir_buffer *
weiri_buffer_guard_of(const void *address)
{
	void *shadow = weiri_guard_shadow_around(address);
	const struct weiri_span *span;

	if (shadow == NULL)
		return NULL;
	span = weiri_span_of(shadow);
	if (span == NULL || span->kind != WEIRI_SPAN_SLAB ||
	    ((const struct weiri_slab *)span)->depot->hooks !=
		&weiri_buffer_hooks)
		return NULL;
	return shadow;
}

const struct weiri_guarded *
weiri_buffer_guard_record(const struct weir_buffer *buffer, uint32_t flags)
{
	uint64_t word = buffer->internal[WEIRI_BUFFER_GUARDED_WORD];

	if ((flags & WEIRI_BUFFER_GUARDED) == 0)
		return NULL;
	return weiri_guard_ended((const void *)(uintptr_t)word, buffer);
}
