/* SPDX-License-Identifier: MIT */
/*
 * net/view.h - parts of a buffer that is still being filled, as buffers.
 */
#ifndef WEIRI_NET_VIEW_H
#define WEIRI_NET_VIEW_H

#include "net/engine.h"

/* At the front of the payload, before what is received. */
#define WEIRI_VIEW_HEAD WEIRI_CACHE_LINE

/* @whole, whose reference it takes, is to be filled part by part. */
void weiri_view_begin(struct weir_net *net, struct weir_buffer *whole);

/* The next @bytes of @whole, at @offset; NULL: no memory. */
struct weir_buffer *weiri_view_make(
    struct weir_buffer *whole, uint32_t offset, uint32_t bytes);

/* @whole gets no more; it ends with the last view. */
void weiri_view_end(struct weir_buffer *whole);

bool weiri_is_view(const struct weir_buffer *buffer);

/* Copies what outlasts a pass into a buffer of its own, so that it pins no more
 * than its size; without memory it stays. */
void weiri_view_settle(struct weir_loop *loop, struct weir_slice *slice);

#endif /* WEIRI_NET_VIEW_H */
