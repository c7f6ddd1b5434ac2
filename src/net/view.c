/* SPDX-License-Identifier: MIT */
/*
 * view.c - parts of a buffer that is still being filled, as buffers.
 *
 * Where receives consume a large buffer bit by bit (WEIR_NET_INCREMENTAL), each
 * brings bytes of a buffer that the kernel goes on writing to, and that others'
 * bytes lie in.  Nobody may be given that buffer: its size would say that there
 * is room behind the bytes, its state that it is the kernel's, its account that
 * one connection pays for all.  So each part gets a descriptor of its own, which
 * has exactly its bytes:
 *
 *     whole   | head | part | part | part |  the kernel's ...        |
 *                       ^      ^      ^
 *                     view   view   view          head: count, owner
 *
 * A view is foreign memory to the rest of the library, and pins the whole.  That
 * is cheap for what is sent and gone at the end of the pass, as most is.  What is
 * not - the tail of a peer that does not read, an unfinished packet, bytes put
 * aside - is copied into buffers of its own size (weiri_view_settle(), tail.c);
 * otherwise a few slow peers would pin a whole each with a few bytes.
 *
 * Views may be released on any thread, and after the loop has ended: their
 * descriptors are the engine's.
 *
 * Invariants:
 *  V1  count is the number of views, and one more until weiri_view_end().
 *  V2  The last to go releases the whole, with nothing of the kernel's in it.
 */
#include "net/view.h"

#include <string.h>

struct view_head {
	struct weir_buffer *whole;
	struct weir_cache *views;
	uint32_t count; /* atomic */
};

static_assert(sizeof(struct view_head) <= WEIRI_VIEW_HEAD, "it fits its line");

static struct view_head *
view_head(const struct weir_buffer *whole)
{
	return (void *)whole->data;
}

/* Pairs with the others': who frees the whole has seen their last reads. */
static void
view_put(struct view_head *head)
{
	if (__atomic_sub_fetch(&head->count, 1, __ATOMIC_ACQ_REL) == 0)
		weir_buffer_release(head->whole);
}

static void
view_release(struct weir_buffer *view, void *context)
{
	struct view_head *head = context;

	weir_cache_free(head->views, view);
	view_put(head);
}

void
weiri_view_begin(struct weir_net *net, struct weir_buffer *whole)
{
	*view_head(whole) =
	    (struct view_head){.whole = whole, .views = net->views, .count = 1};
}

struct weir_buffer *
weiri_view_make(struct weir_buffer *whole, uint32_t offset, uint32_t bytes)
{
	struct view_head *head = view_head(whole);
	struct weir_buffer *view = weir_cache_alloc(head->views);

	if (WEIR_UNLIKELY(view == NULL))
		return NULL;
	__atomic_fetch_add(&head->count, 1, __ATOMIC_RELAXED);
	weir_buffer_init_external(
	    view, whole->data + offset, bytes, view_release, head);
	return view;
}

void
weiri_view_end(struct weir_buffer *whole)
{
	view_put(view_head(whole));
}

bool
weiri_is_view(const struct weir_buffer *buffer)
{
	return buffer->pool == NULL &&
	       buffer->internal[0] == (uintptr_t)view_release;
}

void
weiri_view_settle(struct weir_loop *loop, struct weir_slice *slice)
{
	struct weir_buffer *copy;

	if (slice->buffer == NULL || !weiri_is_view(slice->buffer))
		return;
	copy = weiri_loop_acquire(loop, slice->bytes > 0 ? slice->bytes : 1);
	if (copy == NULL)
		return;
	memcpy(copy->data, slice->buffer->data + slice->offset, slice->bytes);
	weir_buffer_release(slice->buffer);
	*slice = (struct weir_slice){copy, 0, slice->bytes};
}
