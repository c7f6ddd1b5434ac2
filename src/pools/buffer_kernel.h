/* SPDX-License-Identifier: MIT */
/*
 * buffer_kernel.h - lending buffers to the kernel, the short ways.
 *
 * For what a back end does with each packet, where the caller is alone with the
 * buffer: the same marks as weiri_buffer_to_kernel() and its counterparts set, a
 * few plain stores.  What is not as expected takes the long way, which says so.
 */
#ifndef WEIRI_BUFFER_KERNEL_H
#define WEIRI_BUFFER_KERNEL_H

#include "pools/buffer.h"

#define WEIRI_KERNEL_RECEIVING (uint16_t)(WEIRI_KERNEL_RX | 1)

/* The kernel may write to @buffer, which nobody else holds, from now on. */
WEIRI_INLINE void
weiri_buffer_lend(struct weir_buffer *buffer)
{
	uint32_t flags = WEIRI_LOAD(&buffer->flags);

	if (WEIR_UNLIKELY((flags & WEIRI_BUFFER_EXTERNAL) != 0)) {
		(void)weiri_buffer_to_kernel(buffer, WEIR_BUFFER_KERNEL_RX);
		return;
	}
	WEIRI_STORE(&buffer->kernel, WEIRI_KERNEL_RECEIVING);
	WEIRI_STORE(&buffer->flags, flags | WEIRI_BUFFER_KERNEL);
	weiri_buffer_note(buffer, WEIR_BUFFER_EVENT_RX);
}

/* It does not any more: @buffer is the caller's. */
WEIRI_INLINE void
weiri_buffer_take_back(struct weir_buffer *buffer)
{
	uint32_t flags = WEIRI_LOAD(&buffer->flags);

	if (WEIR_UNLIKELY(
		(flags & WEIRI_BUFFER_EXTERNAL) != 0 ||
		WEIRI_LOAD(&buffer->references) != 1 ||
		WEIRI_LOAD(&buffer->kernel) != WEIRI_KERNEL_RECEIVING)) {
		weiri_buffer_from_kernel(buffer);
		return;
	}
	WEIRI_STORE(&buffer->kernel, 0);
	WEIRI_STORE(&buffer->flags, flags & ~WEIRI_BUFFER_KERNEL);
	weiri_buffer_note(buffer, WEIR_BUFFER_EVENT_BACK);
}

/* buffer_idle.c: what is in @buffer is of no use to anybody; pages that it has to
 * itself go back to the system, and are zeros when next looked at. */
void weiri_buffer_forget(const struct weir_buffer *buffer);

/*
 * buffer_idle.c: a back end that lends buffers ahead gets those back last that lay
 * with the kernel for long, and lends them again: of what a burst left, each may
 * keep a block from its end.  True: this is so, and others should take their
 * place; until those come, what else the thread has of the tier is to be put
 * aside before each request, or they would come from there again.
 */
bool weiri_buffer_is_stray(const struct weir_buffer *buffer);
void weiri_buffer_gather(struct weir_buffer_pool *pool, uint32_t tier);

#endif /* WEIRI_BUFFER_KERNEL_H */
