/* SPDX-License-Identifier: MIT */
/*
 * lend.h - buffers that a system call works with.
 *
 * A call that has ended when it returns needs no care from the thread that makes
 * it; but others may hold references, and touch what they have no business to
 * touch just then.  Debug builds mark such buffers for the time of the call, as
 * what is lent for longer is marked in every build (supply.c), so that they are
 * found by the same checks.
 */
#ifndef WEIRI_LEND_H
#define WEIRI_LEND_H

#include "net/engine.h"
#include "pools/buffer_kernel.h"

#if defined(WEIR_DEBUG) && WEIR_DEBUG >= 1
/* What is received behind a carry shares its buffer with what is being sent. */
WEIRI_INLINE bool
weiri_lend_receive(struct weir_buffer *buffer)
{
	bool alone = weir_buffer_references(buffer) == 1;

	if (alone)
		weiri_buffer_lend(buffer);
	return alone;
}

WEIRI_INLINE void
weiri_lend_received(struct weir_buffer *buffer, bool lent)
{
	if (lent)
		weiri_buffer_take_back(buffer);
}

/* The first @count unsent slices, of a call that sends them; and after it. */
WEIRI_INLINE void
weiri_lend_sends(const struct weir_conn *conn, size_t count, bool back)
{
	for (const struct weiri_op *op = conn->ops; op != NULL; op = op->next)
		for (size_t i = op->done; i < op->count; i++) {
			if (count-- == 0)
				return;
			if (back)
				weiri_buffer_from_kernel(op->slice[i].buffer);
			else
				(void)weiri_buffer_to_kernel(
				    op->slice[i].buffer, WEIR_BUFFER_KERNEL_TX);
		}
}
#else
WEIRI_INLINE bool
weiri_lend_receive(struct weir_buffer *buffer)
{
	(void)buffer;
	return false;
}

WEIRI_INLINE void
weiri_lend_received(struct weir_buffer *buffer, bool lent)
{
	(void)buffer;
	(void)lent;
}

WEIRI_INLINE void
weiri_lend_sends(const struct weir_conn *conn, size_t count, bool back)
{
	(void)conn;
	(void)count;
	(void)back;
}
#endif

#endif /* WEIRI_LEND_H */
