/* SPDX-License-Identifier: MIT */
/*
 * buffer_slice.c - parts of buffers, passed by value.
 *
 * A slice is 16 bytes and holds no state of its own, so cutting one is a
 * comparison, and a queue of slices is an array.  Making and cutting count
 * nothing: only what outlives the caller's reference needs one of its own,
 * and the call that takes it says so (weir_slice_retain()).  Counting in every
 * cut, as some libraries do, would make parsing a packet one atomic a field.
 *
 * Invariant: offset + bytes <= buffer->bytes, checked where a slice is born;
 * both fit 32 bits, because a buffer's size does.
 */
#include "guard/fault.h"
#include "pools/buffer.h"

static WEIRI_COLD WEIRI_NORETURN void
slice_fault(const struct weir_buffer *buffer, size_t offset, size_t bytes,
    const char *detail)
{
	const char *name = NULL;
	size_t end;

	/* What the reader wants to see is how far the part reaches. */
	if (__builtin_add_overflow(offset, bytes, &end))
		end = SIZE_MAX;
	if (buffer != NULL && buffer->pool != NULL)
		name = weiri_buffer_tier(buffer)->entry.name;
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = WEIR_FAULT_BAD_ARGUMENT,
	    .pool_kind = "buffer",
	    .pool_name = name,
	    .address = buffer,
	    .number = end,
	    .detail = detail,
	});
}

/* Written so that no sum can overflow. */
WEIRI_INLINE bool
slice_inside(size_t offset, size_t bytes, size_t whole)
{
	return offset <= whole && bytes <= whole - offset;
}

struct weir_slice
weir_slice_make(struct weir_buffer *buffer, size_t offset, size_t bytes)
{
	size_t whole = weir_buffer_usable(buffer);

	if (WEIR_UNLIKELY(!slice_inside(offset, bytes, whole)) &&
	    WEIR_DETECTOR(slice_outside))
		slice_fault(buffer, offset, bytes,
		    "slice to byte %u is outside buffer %p");
	if (buffer != NULL)
		weiri_buffer_demand_readable(buffer);
	return (struct weir_slice){
	    .buffer = buffer,
	    .offset = (uint32_t)offset,
	    .bytes = (uint32_t)bytes,
	};
}

struct weir_slice
weir_slice_sub(struct weir_slice slice, size_t offset, size_t bytes)
{
	if (WEIR_UNLIKELY(!slice_inside(offset, bytes, slice.bytes)) &&
	    WEIR_DETECTOR(slice_sub_outside))
		slice_fault(slice.buffer, offset, bytes,
		    "part to byte %u is outside a slice of buffer %p");
	slice.offset += (uint32_t)offset;
	slice.bytes = (uint32_t)bytes;
	return slice;
}

unsigned char *
weir_slice_data(struct weir_slice slice)
{
	if (slice.buffer == NULL)
		return NULL;
	weiri_buffer_demand_readable(slice.buffer);
	return slice.buffer->data + slice.offset;
}

struct weir_slice
weir_slice_retain(struct weir_slice slice)
{
	weir_buffer_retain(slice.buffer);
	return slice;
}

void
weir_slice_release(struct weir_slice *slice)
{
	struct weir_buffer *buffer = slice->buffer;

	*slice = (struct weir_slice){0};
	weir_buffer_release(buffer);
}
