/* SPDX-License-Identifier: MIT */
/*
 * broadcast.c - one list of messages, and a cursor into it for each receiver.
 *
 *     oldest                                    newest
 *     [ m4 ] ------> [ m5 ] ------> [ m6 ] ------> [ m7 ]      up to date
 *      r2, r9         -              r5             -           r0, r1, r3 ...
 *
 * Each message has a list of the receivers whose cursor is there, linked by
 * their numbers, so that a cursor fills 32 bytes: 10,000 receivers are 320 KB,
 * whatever they wait for.  A message is released when it is the oldest and has
 * no receiver: none can come back to it.
 *
 * Beyond the bounds the oldest message has to go.  Receivers that have not begun
 * it move on to the newest, or are given up.  One that is in the middle has to
 * get the rest - a stream that breaks off there is of no use - so the message
 * leaves the list with those receivers as a "rest", and each of them goes on with
 * the newest when it is through; that one is kept for them.  A rest is one message at most for each
 * receiver, and the program bounds those by the policy for its connections.
 *
 * The driver is called for receivers that are up to date, at a publication, and
 * for one that is said to be ready; a receiver that did not take all is blocked
 * until then, and costs nothing.
 *
 * Invariants (weir_broadcast_check()):
 *
 *   R1  A receiver is in one list: up to date, or that of a message, or free.
 *   R2  A message's count is the length of its list; the oldest message, and
 *       each rest, has a receiver, or it is the newest and there are rests.
 *   R3  Messages in the list have serials that grow by one; a rest is older than
 *       all of them.
 *   R4  A receiver at a rest has begun it.
 *   R5  messages and pinned are what the list has; of more than one message they
 *       are within the bounds.
 */
#include "pools/broadcast.h"

#include "base/bits.h"
#include "config/invalid.h"
#include "guard/fault.h"
#include "pages/pages.h"

#include <errno.h>
#include <string.h>

#define BROADCAST_MESSAGES 1024u
#define BROADCAST_TABLE_MIN 64u

/* ---- lists of receivers -------------------------------------------------- */

static uint32_t *
broadcast_head(struct weir_broadcast *b, struct weiri_message *at)
{
	return at == NULL ? &b->up_to_date : &at->first;
}

static void
broadcast_link(
    struct weir_broadcast *b, uint32_t index, struct weiri_message *at)
{
	struct weiri_receiver *r = &b->table[index];
	uint32_t *head = broadcast_head(b, at);

	r->at = at;
	r->previous = WEIRI_RECEIVER_NONE;
	r->next = *head;
	if (*head != WEIRI_RECEIVER_NONE)
		b->table[*head].previous = index;
	*head = index;
	if (at != NULL)
		at->count++;
}

static void
broadcast_unlink(struct weir_broadcast *b, uint32_t index)
{
	struct weiri_receiver *r = &b->table[index];

	if (r->previous != WEIRI_RECEIVER_NONE)
		b->table[r->previous].next = r->next;
	else
		*broadcast_head(b, r->at) = r->next;
	if (r->next != WEIRI_RECEIVER_NONE)
		b->table[r->next].previous = r->previous;
	if (r->at != NULL)
		r->at->count--;
}

/* ---- messages ------------------------------------------------------------ */

static void
broadcast_drop(struct weir_broadcast *b, struct weiri_message *message)
{
	weiri_list_remove(&message->link);
	if (message->rest) {
		b->rest_count--;
	} else {
		b->message_count--;
		b->pinned -= weiri_message_pins(message);
	}
	weir_slice_release(&message->slice);
	weiri_meta_free(message, sizeof(*message));
}

static struct weiri_message *
broadcast_newest(struct weir_broadcast *b)
{
	return weiri_list_empty(&b->messages)
		   ? NULL
		   : weiri_message_of(b->messages.prev);
}

/* Oldest messages that nobody waits for any more, and the newest only if nobody
 * will come to it from a rest. */
static void
broadcast_settle(struct weir_broadcast *b)
{
	while (!weiri_list_empty(&b->messages)) {
		struct weiri_message *oldest =
		    weiri_message_of(b->messages.next);

		if (oldest->count > 0 ||
		    (b->rest_count > 0 && oldest == broadcast_newest(b)))
			break;
		broadcast_drop(b, oldest);
	}
}

/* ---- receivers ----------------------------------------------------------- */

static void
broadcast_free(struct weir_broadcast *b, uint32_t index)
{
	struct weiri_receiver *r = &b->table[index];
	struct weiri_message *at = r->at;

	broadcast_unlink(b, index);
	*r = (struct weiri_receiver){.next = b->free};
	b->free = index;
	b->receivers--;
	if (at != NULL && at->rest && at->count == 0)
		broadcast_drop(b, at);
}

static void
broadcast_end(
    struct weir_broadcast *b, uint32_t index, enum weir_receiver_end end)
{
	void *user = b->table[index].user;

	broadcast_free(b, index);
	b->closed += end == WEIR_RECEIVER_SLOW;
	if (b->config.end != NULL)
		b->config.end(user, end, b->config.context);
}

static WEIRI_COLD WEIRI_NORETURN void
broadcast_fault(
    const struct weir_broadcast *b, uint64_t number, const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = WEIR_FAULT_BAD_ARGUMENT,
	    .pool_kind = "broadcast",
	    .address = b,
	    .number = number,
	    .detail = detail,
	});
}

static struct weiri_receiver *
broadcast_receiver(struct weir_broadcast *b, uint32_t index)
{
	if (WEIR_UNLIKELY(index >= b->capacity ||
			  (b->table[index].flags & WEIRI_RECEIVER_USED) == 0) &&
	    WEIR_DETECTOR(broadcast_no_receiver))
		broadcast_fault(b, index, "%p has no receiver %u");
	return &b->table[index];
}

/* Twice as many, or the first ones; the new are free, the lowest first. */
static bool
broadcast_grow(struct weir_broadcast *b)
{
	uint32_t more = b->capacity == 0 ? BROADCAST_TABLE_MIN : b->capacity;
	size_t bytes = b->capacity * sizeof(struct weiri_receiver);
	struct weiri_receiver *table;

	if (b->capacity > WEIRI_RECEIVER_NONE / 4)
		return false;
	table = weiri_meta_need(bytes + more * sizeof(struct weiri_receiver));
	if (table == NULL)
		return false;
	if (b->table != NULL) {
		memcpy(table, b->table, bytes);
		weiri_meta_free(b->table, bytes);
	}
	for (uint32_t i = b->capacity + more; i-- > b->capacity;) {
		table[i] = (struct weiri_receiver){.next = b->free};
		b->free = i;
	}
	b->table = table;
	b->capacity += more;
	return true;
}

/* ---- sending ------------------------------------------------------------- */

/* All of its message is sent. */
static void
broadcast_advance(struct weir_broadcast *b, uint32_t index)
{
	struct weiri_receiver *r = &b->table[index];
	struct weiri_message *at = r->at, *next;

	broadcast_unlink(b, index);
	r->offset = 0;
	if (at->rest) {
		next = broadcast_newest(b);
		b->skipped += next->serial - at->serial - 1;
	} else {
		next = at->link.next == &b->messages
			   ? NULL
			   : weiri_message_of(at->link.next);
	}
	broadcast_link(b, index, next);
	if (at->rest && at->count == 0)
		broadcast_drop(b, at);
}

/* One call of the driver; false: no more now, or the receiver is gone. */
static bool
broadcast_send(struct weir_broadcast *b, uint32_t index)
{
	struct weiri_receiver *r = &b->table[index];
	struct weir_slice slice = r->at->slice;
	uint32_t taken, left = slice.bytes - r->offset;
	bool noted;

	slice.offset += r->offset;
	slice.bytes = left;
	b->sending = index;
	taken = b->config.send(r->user, slice, b->config.context);
	b->sending = WEIRI_RECEIVER_NONE;
	if (taken == WEIR_SEND_FAILED) {
		broadcast_end(b, index, WEIR_RECEIVER_FAILED);
		return false;
	}
	if (WEIR_UNLIKELY(taken > left) && WEIR_DETECTOR(broadcast_took_more))
		broadcast_fault(b, taken,
		    "the driver of %p says it took %u %{byte|bytes}, more than "
		    "there were");
	noted = (r->flags & WEIRI_RECEIVER_NOTED) != 0;
	r->flags &= ~WEIRI_RECEIVER_NOTED;
	r->offset += taken;
	if (taken == left) {
		broadcast_advance(b, index);
		return true;
	}
	/* Ready again meanwhile, unless it takes nothing for ever. */
	if (noted && taken > 0)
		return true;
	r->flags |= WEIRI_RECEIVER_BLOCKED;
	return false;
}

static void
broadcast_pump(struct weir_broadcast *b, uint32_t index)
{
	const struct weiri_receiver *r = &b->table[index];

	while (r->at != NULL && broadcast_send(b, index))
		;
}

/* ---- bounds -------------------------------------------------------------- */

/* The oldest message is left as a rest to those who are in the middle of it. */
static void
broadcast_leave_rest(struct weir_broadcast *b, struct weiri_message *message)
{
	weiri_list_remove(&message->link);
	b->message_count--;
	b->pinned -= weiri_message_pins(message);
	message->rest = true;
	weiri_list_append(&b->rests, &message->link);
	b->rest_count++;
}

static void
broadcast_skip_oldest(struct weir_broadcast *b, struct weiri_message *oldest)
{
	struct weiri_message *newest = broadcast_newest(b);
	uint32_t index = oldest->first;

	while (index != WEIRI_RECEIVER_NONE) {
		uint32_t next = b->table[index].next;

		if (b->table[index].offset == 0) {
			broadcast_unlink(b, index);
			broadcast_link(b, index, newest);
			b->skipped += newest->serial - oldest->serial;
		}
		index = next;
	}
	if (oldest->count > 0)
		broadcast_leave_rest(b, oldest);
}

static void
broadcast_bound(struct weir_broadcast *b)
{
	while (weiri_broadcast_over(b)) {
		struct weiri_message *oldest =
		    weiri_message_of(b->messages.next);

		if (b->config.policy == WEIR_SLOW_SKIP)
			broadcast_skip_oldest(b, oldest);
		else
			while (oldest->first != WEIRI_RECEIVER_NONE)
				broadcast_end(
				    b, oldest->first, WEIR_RECEIVER_SLOW);
		broadcast_settle(b);
	}
}

/* ---- the calls ----------------------------------------------------------- */

static int
broadcast_refuse(struct weiri_invalid invalid)
{
	invalid.call = "weir_broadcast_create";
	return weiri_invalid(&invalid);
}

static int
broadcast_check_config(const struct weir_broadcast_config *config)
{
	size_t word = weiri_invalid_word(
	    config->reserved, WEIRI_COUNT_OF(config->reserved));

	if (config->send == NULL)
		return broadcast_refuse((struct weiri_invalid){
		    .field = "send", .allowed = "a function"});
	if ((unsigned)config->policy > WEIR_SLOW_CLOSE)
		return broadcast_refuse(
		    (struct weiri_invalid){.field = "policy",
			.value = (unsigned)config->policy,
			.allowed = "0 .. %u, those of enum weir_slow_policy",
			.bound = {WEIR_SLOW_CLOSE}});
	if (word < WEIRI_COUNT_OF(config->reserved))
		return broadcast_refuse(
		    (struct weiri_invalid){.field = "reserved[]",
			.index = word,
			.value = config->reserved[word],
			.allowed = "0"});
	return 0;
}

int
weir_broadcast_create(
    const struct weir_broadcast_config *config, struct weir_broadcast **out)
{
	struct weir_broadcast *b;
	int error;

	*out = NULL;
	error = broadcast_check_config(config);
	if (error != 0)
		return error;
	b = weiri_meta_need(sizeof(*b));
	if (b == NULL)
		return -ENOMEM;
	*b = (struct weir_broadcast){
	    .config = *config,
	    .free = WEIRI_RECEIVER_NONE,
	    .up_to_date = WEIRI_RECEIVER_NONE,
	    .sending = WEIRI_RECEIVER_NONE,
	};
	if (b->config.limit_messages == 0)
		b->config.limit_messages = BROADCAST_MESSAGES;
	weiri_list_init(&b->messages);
	weiri_list_init(&b->rests);
	*out = b;
	return 0;
}

int
weir_broadcast_join(struct weir_broadcast *b, void *user, uint32_t *receiver)
{
	uint32_t index;

	if (b->free == WEIRI_RECEIVER_NONE && !broadcast_grow(b))
		return -ENOMEM;
	index = b->free;
	b->free = b->table[index].next;
	b->table[index].user = user;
	b->table[index].offset = 0;
	b->table[index].flags = WEIRI_RECEIVER_USED;
	broadcast_link(b, index, NULL);
	b->receivers++;
	*receiver = index;
	return 0;
}

void
weir_broadcast_leave(struct weir_broadcast *b, uint32_t receiver)
{
	(void)broadcast_receiver(b, receiver);
	broadcast_free(b, receiver);
	broadcast_settle(b);
}

/* The list of those who are up to date becomes the message's, one by one: each
 * may fail, or be up to date again at once. */
static void
broadcast_deliver(struct weir_broadcast *b, struct weiri_message *message)
{
	uint32_t index = b->up_to_date;

	b->up_to_date = WEIRI_RECEIVER_NONE;
	while (index != WEIRI_RECEIVER_NONE) {
		uint32_t next = b->table[index].next;

		broadcast_link(b, index, message);
		if ((b->table[index].flags & WEIRI_RECEIVER_BLOCKED) == 0)
			broadcast_pump(b, index);
		index = next;
	}
}

int
weir_broadcast_publish(struct weir_broadcast *b, struct weir_slice slice)
{
	struct weiri_message *message;

	if (slice.bytes == 0 || b->receivers == 0) {
		b->published += slice.bytes != 0;
		weir_slice_release(&slice);
		return 0;
	}
	message = weiri_meta_need(sizeof(*message));
	if (message == NULL)
		return -ENOMEM;
	*message = (struct weiri_message){
	    .slice = slice,
	    .serial = ++b->published,
	    .first = WEIRI_RECEIVER_NONE,
	};
	weiri_list_append(&b->messages, &message->link);
	b->message_count++;
	b->pinned += weiri_message_pins(message);
	broadcast_deliver(b, message);
	broadcast_settle(b);
	broadcast_bound(b);
	return 0;
}

void
weir_broadcast_ready(struct weir_broadcast *b, uint32_t receiver)
{
	struct weiri_receiver *r = broadcast_receiver(b, receiver);

	if (b->sending == receiver) {
		r->flags |= WEIRI_RECEIVER_NOTED;
		return;
	}
	if (WEIR_UNLIKELY(b->sending != WEIRI_RECEIVER_NONE) &&
	    WEIR_DETECTOR(broadcast_nested))
		broadcast_fault(
		    b, receiver, "%p is sending to another receiver than %u");
	r->flags &= ~WEIRI_RECEIVER_BLOCKED;
	broadcast_pump(b, receiver);
	broadcast_settle(b);
}

int
weir_broadcast_stats(
    const struct weir_broadcast *b, struct weir_broadcast_figures *out)
{
	if (out->size != sizeof(*out))
		return -EINVAL;
	*out = (struct weir_broadcast_figures){
	    .size = sizeof(*out),
	    .receivers = b->receivers,
	    .messages = b->message_count,
	    .bytes_pinned = b->pinned,
	    .rests = b->rest_count,
	    .published = b->published,
	    .skipped = b->skipped,
	    .closed = b->closed,
	    .receiver_bytes = b->capacity * sizeof(struct weiri_receiver),
	};
	return 0;
}

void
weir_broadcast_destroy(struct weir_broadcast *b)
{
	if (b == NULL)
		return;
	WEIRI_LIST_FOR_SAFE(node, &b->messages)
	broadcast_drop(b, weiri_message_of(node));
	WEIRI_LIST_FOR_SAFE(node, &b->rests)
	broadcast_drop(b, weiri_message_of(node));
	if (b->table != NULL)
		weiri_meta_free(
		    b->table, b->capacity * sizeof(struct weiri_receiver));
	weiri_meta_free(b, sizeof(*b));
}
