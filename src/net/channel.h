/* SPDX-License-Identifier: MIT */
/*
 * net/channel.h - what connections and loops tell channels.
 */
#ifndef WEIRI_CHANNEL_H
#define WEIRI_CHANNEL_H

#include "net/engine.h"

/* conn->channel: which of the loop's parts, and which receiver of that, + 1 */
#define WEIRI_CHANNEL_BITS 20

/* The connection holds no unsent bytes, or may take more; it is a member. */
void weiri_channel_ready(struct weir_conn *conn);

/* It is not open any more; it is a member. */
void weiri_channel_left(struct weir_conn *conn);

/* The loop ends: it gets no more tasks; and has run the last. */
void weiri_channels_close(struct weir_loop *loop);
void weiri_channels_free(struct weir_loop *loop);

#endif /* WEIRI_CHANNEL_H */
