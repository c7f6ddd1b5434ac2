/* SPDX-License-Identifier: MIT */
/*
 * buffer_fault.c - what is said when a pointer is no buffer, or a count is wrong.
 *
 * The calls test with one comparison on the line they read anyway; here it is
 * found out what was wrong, so that a report names the pool and the kind of
 * mistake.  Of a pointer that is no buffer nothing is read: the page map tells
 * what it points into.
 */
#include "guard/fault.h"
#include "pools/buffer.h"

void
weiri_buffer_fault(enum weir_fault_class fault_class,
    const struct weir_buffer *buffer, uint64_t number, const char *detail)
{
	const char *name = NULL;

	if (buffer->pool != NULL)
		name = weiri_buffer_tier(buffer)->entry.name;
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = fault_class,
	    .pool_kind = "buffer",
	    .pool_name = name,
	    .address = buffer,
	    .number = number,
	    .detail = detail,
	});
}

/* Nothing more is read from @buffer than what told that it is none. */
static WEIRI_COLD WEIRI_NORETURN void
fault_foreign(const struct weir_buffer *buffer, const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = WEIR_FAULT_FOREIGN_POINTER,
	    .pool_kind = "buffer",
	    .address = buffer,
	    .detail = detail,
	});
}

void
weiri_buffer_fault_in(const struct weiri_buffer_tier *tier,
    enum weir_fault_class fault_class, const struct weir_buffer *buffer,
    const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = fault_class,
	    .pool_kind = "buffer",
	    .pool_name = tier->entry.name,
	    .address = buffer,
	    .detail = detail,
	});
}

void
weiri_buffer_fault_count(const struct weir_buffer *buffer, uint64_t references,
    uint32_t flags, const char *none)
{
	if (references != 0 && WEIR_DETECTOR(buffer_absurd_count))
		weiri_buffer_fault(WEIR_FAULT_CORRUPTION, buffer, references,
		    "buffer %p has %u references");
	if ((flags & WEIRI_BUFFER_EXTERNAL) != 0 &&
	    WEIR_DETECTOR(buffer_external_count))
		weiri_buffer_fault(WEIR_FAULT_REF_UNDERFLOW, buffer, 0, none);
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = WEIR_FAULT_DOUBLE_FREE,
	    .pool_kind = "buffer",
	    .pool_name = weiri_buffer_tier(buffer)->entry.name,
	    .address = buffer,
	    .detail = none,
	    .object = weiri_buffer_guard_record(buffer, flags),
	});
}

/* The tier whose slab of descriptors @buffer points into, or NULL. */
static const struct weiri_buffer_tier *
fault_home(const struct weir_buffer *buffer)
{
	struct weiri_span *span = weiri_span_of(buffer);

	if (span == NULL || span->kind != WEIRI_SPAN_SLAB)
		return NULL;

	const struct weiri_slab *slab = (const struct weiri_slab *)span;

	if (slab->depot->hooks != &weiri_buffer_hooks)
		return NULL;
	return slab->depot->owner;
}

void
weiri_buffer_fault_pointer(const struct weir_buffer *buffer)
{
	const struct weiri_buffer_tier *home = fault_home(buffer);

	if (home == NULL && WEIR_DETECTOR(buffer_foreign))
		fault_foreign(buffer, weir_buffer_of(buffer) != NULL
					  ? "%p is in the payload of a buffer"
					  : "%p is not a buffer");
	if ((uintptr_t)buffer % sizeof(*buffer) != 0 &&
	    WEIR_DETECTOR(buffer_interior))
		weiri_buffer_fault_in(home, WEIR_FAULT_INTERIOR_POINTER, buffer,
		    "%p is not the start of a buffer");
	weiri_buffer_fault_in(home, WEIR_FAULT_CORRUPTION, buffer,
	    "the descriptor of buffer %p was written to");
}
