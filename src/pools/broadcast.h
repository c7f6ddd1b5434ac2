/* SPDX-License-Identifier: MIT */
/*
 * broadcast.h - what a broadcast is made of, for broadcast.c and its check.
 */
#ifndef WEIRI_BROADCAST_H
#define WEIRI_BROADCAST_H

#include "base/list.h"

#include <weir/broadcast.h>

#define WEIRI_RECEIVER_NONE UINT32_MAX

/* Of a receiver: */
#define WEIRI_RECEIVER_USED 1u
#define WEIRI_RECEIVER_BLOCKED 2u
#define WEIRI_RECEIVER_NOTED 4u /* ready, said inside the driver */

struct weiri_message {
	struct weiri_list link; /* in messages, or in rests */
	struct weir_slice slice;
	uint64_t serial;
	uint32_t first; /* receivers; WEIRI_RECEIVER_NONE: nobody */
	uint32_t count;
	bool rest;
};

struct weiri_receiver {
	struct weiri_message *at; /* NULL: up to date, or free */
	void *user;
	uint32_t next, previous; /* in its list; next in the free list, too */
	uint32_t offset;         /* sent of the message */
	uint32_t flags;
};

static_assert(sizeof(struct weiri_receiver) == 32, "what a receiver costs");

struct weir_broadcast {
	struct weir_broadcast_config config;
	struct weiri_list messages; /* oldest first */
	struct weiri_list rests;
	struct weiri_receiver *table;
	uint32_t capacity;
	uint32_t free;       /* first free receiver */
	uint32_t up_to_date; /* first of them */
	uint32_t sending;    /* the driver is at work for it */
	uint32_t receivers;
	uint64_t rest_count;
	uint64_t message_count, pinned;
	uint64_t published; /* serial of the newest, too */
	uint64_t skipped, closed;
};

WEIRI_INLINE struct weiri_message *
weiri_message_of(struct weiri_list *node)
{
	return WEIRI_CONTAINER_OF(node, struct weiri_message, link);
}

WEIRI_INLINE uint64_t
weiri_message_pins(const struct weiri_message *message)
{
	return message->slice.buffer->bytes;
}

WEIRI_INLINE bool
weiri_broadcast_over(const struct weir_broadcast *b)
{
	/* The newest is what all are to get. */
	if (b->message_count < 2)
		return false;
	return b->message_count > b->config.limit_messages ||
	       (b->config.limit_bytes != 0 &&
		   b->pinned > b->config.limit_bytes);
}

#endif /* WEIRI_BROADCAST_H */
