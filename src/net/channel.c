/* SPDX-License-Identifier: MIT */
/*
 * net/channel.c - messages to many connections.
 *
 *   publish --> part of this loop --> broadcast --> driver --> op of a member
 *          \--> task --> part of another loop --> ...
 *
 * A broadcast (weir/broadcast.h) is used by one thread at a time, so a channel
 * has one for each loop that has members, its part there.  The payload is shared
 * by its reference count, the lists of messages are not.
 *
 * The driver queues a message as an operation if the member holds no tail, and
 * takes it whole: what the socket does not take is a tail like any other, with
 * its limits.  A member with a tail is left alone, and costs a cursor, until that
 * is gone (weiri_channel_ready).  So no message is cut, a member is behind by its
 * cursor and one window of operations, and the sends of a pass go out together.
 *
 * A connection knows its part by number, in 32 bits with its receiver's number:
 * loop->parts has the parts by the channels' numbers.
 *
 * Invariants:
 *  L1  conn->channel != 0: the connection is OPEN and a receiver of that number
 *      in that part of its loop.
 *  L2  A receiver that is not up to date has a tail, or a full window, and is on
 *      the list of those who hold memory: settling it makes it ready.
 *  L3  A part is in its channel's list from its first member until its loop
 *      ends: only then tasks are posted to that loop.
 *
 * Locks: channel->lock guards the list of parts and the figures of gone ones;
 * net->lock the numbers of channels.  Neither is held in a call of the program.
 */
#include "net/channel.h"

#include "pools/broadcast.h"

#include <weir/channel.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Messages of a pass that are queued for a member at most: one call sends as
 * many. */
#define CHANNEL_WINDOW 16u

/* Words of the figures that are kept for readers. */
#define CHANNEL_FIGURES(X) \
	X(messages)        \
	X(bytes_pinned)    \
	X(rests)           \
	X(skipped)         \
	X(closed)          \
	X(receiver_bytes)

struct channel_part {
	struct weir_channel *channel;
	struct weir_loop *loop;
	struct weir_broadcast *broadcast;
	bool driving;                          /* inside the broadcast */
	struct weiri_list link;                /* channel->parts */
	struct weir_broadcast_figures figures; /* one writer, the loop */
};

struct weir_channel {
	struct weir_net *net;
	struct weir_channel_config config;
	uint32_t number; /* 1 .. WEIR_CHANNELS_MAX */
	struct weiri_mutex lock;
	struct weiri_list parts;
	uint64_t published;
	struct weir_broadcast_figures retired;
};

/* A message on its way to another loop; an operation object. */
struct channel_letter {
	struct weir_task task;
	struct channel_part *part;
	struct weir_slice slice;
};

static_assert(sizeof(struct channel_letter) <= sizeof(struct weiri_op),
    "a letter fits an operation object");

static struct channel_part *
channel_part_of(const struct weir_conn *conn)
{
	return conn->loop->parts[conn->channel >> WEIRI_CHANNEL_BITS];
}

static uint32_t
channel_receiver(const struct weir_conn *conn)
{
	return (conn->channel & ((1u << WEIRI_CHANNEL_BITS) - 1)) - 1;
}

/* ---- the driver ---------------------------------------------------------- */

/* Sends queued in this pass and not yet tried; no tail. */
static bool
channel_window_open(const struct weir_conn *conn)
{
	uint32_t count = 0;

	if (conn->ops == NULL)
		return true;
	if (!(conn->flags & WEIRI_CONN_SENDING) ||
	    conn->flags & (WEIRI_CONN_HOLDING | WEIRI_CONN_PAUSED))
		return false;
	for (const struct weiri_op *op = conn->ops;
	     op != NULL && count < CHANNEL_WINDOW; op = op->next)
		count++;
	return count < CHANNEL_WINDOW;
}

static uint32_t
channel_send(void *user, struct weir_slice slice, void *context)
{
	struct weir_conn *conn = user;

	(void)context;
	if (!channel_window_open(conn)) {
		weiri_conn_hold(conn);
		return 0;
	}
	/* Without memory it aborts the connection. */
	return weiri_conn_append(conn, weir_slice_retain(slice))
		   ? slice.bytes
		   : WEIR_SEND_FAILED;
}

static void
channel_end(void *user, enum weir_receiver_end end, void *context)
{
	struct weir_conn *conn = user;

	(void)context;
	conn->channel = 0;
	if (end == WEIR_RECEIVER_SLOW)
		weir_conn_abort(conn, WEIR_CLOSE_BEHIND);
}

/* What others may read of the figures. */
static void
channel_note(struct channel_part *part)
{
	struct weir_broadcast_figures now = {.size = sizeof(now)};

	(void)weir_broadcast_stats(part->broadcast, &now);
	WEIRI_STORE(&part->figures.receivers, now.receivers);
#define CHANNEL_NOTE(name) WEIRI_STORE(&part->figures.name, now.name);
	CHANNEL_FIGURES(CHANNEL_NOTE)
#undef CHANNEL_NOTE
}

void
weiri_channel_ready(struct weir_conn *conn)
{
	struct channel_part *part = channel_part_of(conn);

	if (conn->state != WEIRI_CONN_OPEN || part->driving)
		return;
	part->driving = true;
	weir_broadcast_ready(part->broadcast, channel_receiver(conn));
	part->driving = false;
	channel_note(part);
}

void
weiri_channel_left(struct weir_conn *conn)
{
	struct channel_part *part = channel_part_of(conn);

	if (part->driving)
		return; /* its driver has failed, and says so */
	weir_broadcast_leave(part->broadcast, channel_receiver(conn));
	conn->channel = 0;
	channel_note(part);
}

/* ---- parts --------------------------------------------------------------- */

static bool
channel_grow(struct weir_loop *loop, uint32_t number)
{
	uint32_t count = loop->parts_count == 0 ? 8 : loop->parts_count;
	struct channel_part **parts;

	if (number < loop->parts_count)
		return true;
	while (count <= number)
		count *= 2;
	parts = realloc(loop->parts, count * sizeof(struct channel_part *));
	if (parts == NULL)
		return false;
	for (uint32_t i = loop->parts_count; i < count; i++)
		parts[i] = NULL;
	loop->parts = parts;
	loop->parts_count = count;
	return true;
}

static struct channel_part *
channel_part_make(struct weir_channel *channel, struct weir_loop *loop)
{
	struct weir_broadcast_config config = {
	    .send = channel_send,
	    .end = channel_end,
	    .policy = channel->config.policy,
	    .limit_messages = channel->config.limit_messages,
	    .limit_bytes = channel->config.limit_bytes,
	};
	struct channel_part *part;

	if (!channel_grow(loop, channel->number))
		return NULL;
	part = calloc(1, sizeof(*part));
	if (part == NULL)
		return NULL;
	part->channel = channel;
	part->loop = loop;
	if (weir_broadcast_create(&config, &part->broadcast) != 0) {
		free(part);
		return NULL;
	}
	loop->parts[channel->number] = part;
	weiri_mutex_lock(&channel->lock);
	weiri_list_append(&channel->parts, &part->link);
	weiri_mutex_unlock(&channel->lock);
	return part;
}

/* NULL: none yet. */
static struct channel_part *
channel_part_on(
    const struct weir_channel *channel, const struct weir_loop *loop)
{
	return channel->number < loop->parts_count
		   ? loop->parts[channel->number]
		   : NULL;
}

void
weiri_channels_close(struct weir_loop *loop)
{
	for (uint32_t i = 0; i < loop->parts_count; i++) {
		struct channel_part *part = loop->parts[i];
		if (part == NULL)
			continue;
		weiri_mutex_lock(&part->channel->lock);
		weiri_list_remove(&part->link);
		weiri_mutex_unlock(&part->channel->lock);
	}
}

static void
channel_add(struct weir_broadcast_figures *to,
    const struct weir_broadcast_figures *from)
{
	to->receivers += WEIRI_LOAD(&from->receivers);
#define CHANNEL_ADD(name) to->name += WEIRI_LOAD(&from->name);
	CHANNEL_FIGURES(CHANNEL_ADD)
#undef CHANNEL_ADD
}

void
weiri_channels_free(struct weir_loop *loop)
{
	for (uint32_t i = 0; i < loop->parts_count; i++) {
		struct channel_part *part = loop->parts[i];
		if (part == NULL)
			continue;
		/* What counts what is there is zero from here on. */
		part->figures.messages = part->figures.bytes_pinned = 0;
		part->figures.rests = part->figures.receiver_bytes = 0;
		part->figures.receivers = 0;
		weiri_mutex_lock(&part->channel->lock);
		channel_add(&part->channel->retired, &part->figures);
		weiri_mutex_unlock(&part->channel->lock);
		weir_broadcast_destroy(part->broadcast);
		free(part);
	}
	free(loop->parts);
	loop->parts = NULL;
	loop->parts_count = 0;
}

/* ---- membership ---------------------------------------------------------- */

int
weir_channel_join(struct weir_channel *channel, struct weir_conn *conn)
{
	struct weir_loop *loop = conn->loop;
	struct channel_part *part = channel_part_on(channel, loop);
	uint32_t receiver;
	int error;

	WEIR_ASSERT(channel->net == loop->net);
	if (conn->state != WEIRI_CONN_OPEN)
		return -ESHUTDOWN;
	if (conn->channel != 0)
		return -EBUSY;
	if (part == NULL)
		part = channel_part_make(channel, loop);
	if (part == NULL)
		return -ENOMEM;
	error = weir_broadcast_join(part->broadcast, conn, &receiver);
	if (error != 0)
		return error;
	if (receiver >= WEIR_CHANNEL_MEMBERS_MAX) {
		weir_broadcast_leave(part->broadcast, receiver);
		return -ENOSPC;
	}
	conn->channel = channel->number << WEIRI_CHANNEL_BITS | (receiver + 1);
	channel_note(part);
	return 0;
}

void
weir_channel_leave(struct weir_conn *conn)
{
	if (conn->channel != 0)
		weiri_channel_left(conn);
}

/* ---- publishing ---------------------------------------------------------- */

static int
channel_publish_here(struct channel_part *part, struct weir_slice slice)
{
	int error;

	WEIR_ASSERT(!part->driving);
	part->driving = true;
	error = weir_broadcast_publish(part->broadcast, slice);
	part->driving = false;
	if (error != 0)
		weir_slice_release(&slice);
	channel_note(part);
	return error;
}

static void
channel_letter_run(struct weir_loop *loop, struct weir_task *task)
{
	struct channel_letter *letter =
	    WEIRI_CONTAINER_OF(task, struct channel_letter, task);
	struct channel_part *part = letter->part;
	struct weir_slice slice = letter->slice;

	weiri_net_object_free(loop->net, WEIR_NET_OPERATION, letter);
	(void)channel_publish_here(part, slice);
}

/* Under channel->lock, so the loop is there. */
static int
channel_post(struct channel_part *part, struct weir_slice slice)
{
	struct weir_net *net = part->channel->net;
	struct channel_letter *letter =
	    weiri_net_object(net, WEIR_NET_OPERATION, sizeof(struct weiri_op));

	if (letter == NULL)
		return -ENOMEM;
	*letter = (struct channel_letter){
	    .task = {.run = channel_letter_run},
	    .part = part,
	    .slice = weir_slice_retain(slice),
	};
	weir_loop_post(part->loop, &letter->task);
	return 0;
}

int
weir_channel_publish(struct weir_channel *channel, struct weir_slice slice)
{
	const struct weir_loop *here = weiri_loop_here();
	struct channel_part *own = NULL;
	int error = 0;

	weiri_mutex_lock(&channel->lock);
	channel->published++;
	WEIRI_LIST_FOR(node, &channel->parts)
	{
		struct channel_part *part =
		    WEIRI_CONTAINER_OF(node, struct channel_part, link);
		/* A handler of a broadcast's own call cannot be here; who is
		 * told of an end may publish, after it. */
		if (part->loop == here && !part->driving)
			own = part;
		else if (channel_post(part, slice) != 0)
			error = -ENOMEM;
	}
	weiri_mutex_unlock(&channel->lock);
	if (own == NULL)
		weir_slice_release(&slice);
	else if (channel_publish_here(own, slice) != 0)
		error = -ENOMEM;
	return error;
}

/* ---- life ---------------------------------------------------------------- */

/* Under net->lock; the lowest that is free, or 0. */
static uint32_t
channel_number(struct weir_net *net)
{
	for (uint32_t i = 0; i < WEIR_CHANNELS_MAX; i++)
		if (!(net->channels[i / 8] & 1u << i % 8)) {
			net->channels[i / 8] |= (uint8_t)(1u << i % 8);
			return i + 1;
		}
	return 0;
}

int
weir_channel_create(struct weir_net *net,
    const struct weir_channel_config *config, struct weir_channel **out)
{
	static const struct weir_channel_config none;
	struct weir_channel *channel;

	*out = NULL;
	if (config == NULL)
		config = &none;
	for (size_t i = 0; i < WEIRI_COUNT_OF(config->reserved); i++)
		if (config->reserved[i] != 0)
			return -EINVAL;
	if ((unsigned)config->policy > WEIR_SLOW_CLOSE)
		return -EINVAL;
	channel = calloc(1, sizeof(*channel));
	if (channel == NULL)
		return -ENOMEM;
	channel->net = net;
	channel->config = *config;
	weiri_mutex_lock(&net->lock);
	channel->number = channel_number(net);
	weiri_mutex_unlock(&net->lock);
	if (channel->number == 0) {
		free(channel);
		return -ENOSPC;
	}
	weiri_mutex_init(&channel->lock);
	weiri_list_init(&channel->parts);
	*out = channel;
	return 0;
}

int
weir_channel_stats(
    struct weir_channel *channel, struct weir_broadcast_figures *out)
{
	if (out->size != sizeof(*out))
		return -EINVAL;
	weiri_mutex_lock(&channel->lock);
	*out = channel->retired;
	out->published = channel->published;
	WEIRI_LIST_FOR(node, &channel->parts)
	{
		channel_add(
		    out, &WEIRI_CONTAINER_OF(node, struct channel_part, link)
			      ->figures);
	}
	weiri_mutex_unlock(&channel->lock);
	out->size = sizeof(*out);
	return 0;
}

void
weir_channel_destroy(struct weir_channel *channel)
{
	struct weir_net *net;
	uint32_t index;

	if (channel == NULL)
		return;
	WEIR_ASSERT(weiri_list_empty(&channel->parts));
	net = channel->net;
	index = channel->number - 1;
	weiri_mutex_lock(&net->lock);
	net->channels[index / 8] &= (uint8_t) ~(1u << index % 8);
	weiri_mutex_unlock(&net->lock);
	weiri_mutex_destroy(&channel->lock);
	free(channel);
}
