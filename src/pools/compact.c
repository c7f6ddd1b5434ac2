/* SPDX-License-Identifier: MIT */
/*
 * compact.c - slices that pin too much get a buffer of their own.
 *
 * One message of 64 bytes that a slow peer does not take keeps 64 KiB.  No count
 * of messages shows that; what shows it is what they pin.  A copy is worth its
 * time where the slice is a small part of its buffer, or so old that it will be
 * there for long.
 *
 * The copy is by the same rules as its origin: wiped if that is to be wiped.  A
 * buffer that the kernel has stays: it reads this memory and no other.
 */
#include "pools/buffer.h"

#include <weir/chain.h>

#include <string.h>

/* A slice below a quarter of its buffer is copied. */
#define COMPACT_SHARE 4

static bool
compact_wanted(
    const struct weir_slice *slice, const struct weir_compact_rule *rule)
{
	const struct weir_buffer *buffer = slice->buffer;
	uint64_t share = rule->share == 0 ? COMPACT_SHARE : rule->share;

	if (buffer == NULL || buffer->pool == NULL ||
	    (WEIRI_LOAD(&buffer->kernel) & WEIRI_KERNEL_COUNT) != 0)
		return false;
	if (weiri_buffer_fit_bytes(rule->pool, slice->bytes) >= buffer->bytes)
		return false;
	if (slice->bytes * share < buffer->bytes)
		return true;
	return rule->older_ns != 0 &&
	       weiri_buffer_age(buffer, weiri_buffer_tick(buffer->pool)) >=
		   rule->older_ns;
}

uint64_t
weir_slice_compact(
    struct weir_slice *slice, const struct weir_compact_rule *rule)
{
	struct weir_buffer *buffer = slice->buffer, *copy;
	uint64_t less;

	if (!compact_wanted(slice, rule))
		return 0;
	/* Not to be waited for: without memory all stays as it is. */
	copy = weir_buffer_acquire_for(
	    rule->pool, &(struct weir_buffer_want){
			    .bytes = slice->bytes,
			    .account = rule->account,
			    .use = WEIR_BUFFER_CONTROL,
			    .flags = WEIR_BUFFER_NO_WAIT,
			});
	if (copy == NULL)
		return 0;
	memcpy(copy->data, buffer->data + slice->offset, slice->bytes);
	if ((WEIRI_LOAD(&buffer->flags) & WEIR_BUFFER_WIPE) != 0)
		weir_buffer_set_wipe(copy);
	less = buffer->bytes - copy->bytes;
	__atomic_fetch_add(&buffer->pool->compactions, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(
	    &buffer->pool->compacted_bytes, buffer->bytes, __ATOMIC_RELAXED);
	slice->buffer = copy;
	slice->offset = 0;
	weir_buffer_release(buffer);
	return less;
}
