/* SPDX-License-Identifier: MIT */
/*
 * chain.c - queues of slices.
 *
 *     chain  | . | a | b | c | . |  -> node | d | e | ... |  -> node | ... | . |
 *                  first, own                first, count
 *
 * The slices in the chain come first, those in nodes behind them; each part is a
 * window in its array, so that both ends grow.  A response is a header and a
 * body or two and never needs a node.  A node is a buffer of the pool: the pool
 * keeps it for reuse, limits it, and tells of it if it leaks.
 *
 * A node is taken as for sending and never waited for: a chain is what a loop
 * has to send, and a loop that slept here could not make room.
 *
 * Invariants:
 *
 *   C1  count == own + the sum of count over the nodes; bytes is the sum over
 *       all slices; no slice is empty.
 *   C2  first + own <= WEIR_CHAIN_INLINE; first + count <= room in each node.
 *   C3  No node is empty but between two calls inside this file.
 */
#include "base/bits.h"
#include "guard/fault.h"
#include "pools/buffer.h"

#include <weir/chain.h>

#include <string.h>
#include <sys/uio.h>

/* Fewer are no node: 24 bytes before 16 of them leave a tier of 512 room for
 * 30, and one of 280 is the least that will do. */
#define CHAIN_NODE_SLICES 16

/* More would pin more than they save. */
#define CHAIN_NODE_SLICES_MAX 254

struct weir_chain_node {
	struct weir_chain_node *next;
	struct weir_buffer *buffer; /* this node is its payload */
	uint16_t first;
	uint16_t count;
	uint16_t room; /* of slice */
	struct weir_slice slice[];
};

static_assert(sizeof(struct weir_chain) == (size_t)2 * WEIRI_CACHE_LINE,
    "two lines a chain");
static_assert(sizeof(struct weir_chain_node) == 24, "see CHAIN_NODE_SLICES");
static_assert(sizeof(struct weir_wsabuf) == 16, "as Windows has it");

void
weir_chain_init(struct weir_chain *chain, struct weir_buffer_pool *pool)
{
	*chain = (struct weir_chain){.pool = pool};
}

/* ---- nodes --------------------------------------------------------------- */

static struct weir_chain_node *
chain_node_new(struct weir_chain *chain)
{
	struct weir_buffer *buffer = weir_buffer_acquire_for(chain->pool,
	    &(struct weir_buffer_want){
		.bytes = sizeof(struct weir_chain_node) +
			 CHAIN_NODE_SLICES * sizeof(struct weir_slice),
		.use = WEIR_BUFFER_SEND,
		.flags = WEIR_BUFFER_NO_WAIT,
	    });
	struct weir_chain_node *node;

	if (buffer == NULL)
		return NULL;
	node = (struct weir_chain_node *)(void *)buffer->data;
	node->next = NULL;
	node->buffer = buffer;
	node->first = node->count = 0;
	node->room = (uint16_t)weiri_min(
	    (buffer->bytes - sizeof(*node)) / sizeof(struct weir_slice),
	    CHAIN_NODE_SLICES_MAX);
	return node;
}

static struct weir_chain_node *
chain_add_tail(struct weir_chain *chain)
{
	struct weir_chain_node *node = chain_node_new(chain);

	if (node == NULL)
		return NULL;
	if (chain->tail == NULL)
		chain->head = node;
	else
		chain->tail->next = node;
	return chain->tail = node;
}

/* It is empty. */
static void
chain_drop_head(struct weir_chain *chain)
{
	struct weir_chain_node *node = chain->head;

	chain->head = node->next;
	if (chain->head == NULL)
		chain->tail = NULL;
	weir_buffer_release(node->buffer);
}

/* Free places behind the last slice, without a node more. */
static size_t
chain_room(const struct weir_chain *chain)
{
	const struct weir_chain_node *tail = chain->tail;

	if (tail != NULL)
		return (size_t)tail->room - tail->first - tail->count;
	return WEIR_CHAIN_INLINE - (size_t)chain->own;
}

/* ---- the ends ------------------------------------------------------------ */

/* There is room. */
static void
chain_put_last(struct weir_chain *chain, struct weir_slice slice)
{
	struct weir_chain_node *tail = chain->tail;

	chain->bytes += slice.bytes;
	chain->count++;
	if (tail != NULL) {
		tail->slice[tail->first + tail->count++] = slice;
		return;
	}
	if (chain->first + chain->own == WEIR_CHAIN_INLINE) {
		memmove(chain->slice, &chain->slice[chain->first],
		    chain->own * sizeof(slice));
		chain->first = 0;
	}
	chain->slice[chain->first + chain->own++] = slice;
}

/* The last in the chain gives way to the first node. */
static bool
chain_spill(struct weir_chain *chain)
{
	struct weir_chain_node *head = chain->head;

	if (head == NULL || head->first == 0) {
		head = chain_node_new(chain);
		if (head == NULL)
			return false;
		head->first = head->room;
		head->next = chain->head;
		chain->head = head;
		if (chain->tail == NULL)
			chain->tail = head;
	}
	head->slice[--head->first] = chain->slice[WEIR_CHAIN_INLINE - 1];
	head->count++;
	chain->own--;
	return true;
}

static bool
chain_put_first(struct weir_chain *chain, struct weir_slice slice)
{
	if (chain->own == WEIR_CHAIN_INLINE && !chain_spill(chain))
		return false;
	if (chain->own == 0)
		chain->first = WEIR_CHAIN_INLINE;
	else if (chain->first == 0) {
		uint16_t gap = (uint16_t)(WEIR_CHAIN_INLINE - chain->own);

		memmove(&chain->slice[gap], chain->slice,
		    chain->own * sizeof(slice));
		chain->first = gap;
	}
	chain->slice[--chain->first] = slice;
	chain->own++;
	chain->bytes += slice.bytes;
	chain->count++;
	return true;
}

/* NULL: the chain is empty. */
static struct weir_slice *
chain_first(struct weir_chain *chain)
{
	if (chain->own > 0)
		return &chain->slice[chain->first];
	if (chain->head != NULL)
		return &chain->head->slice[chain->head->first];
	return NULL;
}

/* Off the front, whatever its reference. */
static void
chain_drop_first(struct weir_chain *chain)
{
	chain->bytes -= chain_first(chain)->bytes;
	chain->count--;
	if (chain->own > 0) {
		chain->first = --chain->own == 0 ? 0 : chain->first + 1;
		return;
	}
	chain->head->first++;
	if (--chain->head->count == 0)
		chain_drop_head(chain);
}

/* ---- building ------------------------------------------------------------ */

bool
weir_chain_append(struct weir_chain *chain, struct weir_slice slice)
{
	if (slice.bytes == 0) {
		weir_slice_release(&slice);
		return true;
	}
	if (chain_room(chain) == 0 && chain_add_tail(chain) == NULL)
		return false;
	chain_put_last(chain, slice);
	return true;
}

bool
weir_chain_append_chain(struct weir_chain *chain, struct weir_chain *other)
{
	/* One node at most; those of the other are linked. */
	if (chain_room(chain) < other->own && chain_add_tail(chain) == NULL)
		return false;
	for (uint16_t i = 0; i < other->own; i++)
		chain_put_last(chain, other->slice[other->first + i]);
	for (struct weir_chain_node *node = other->head; node != NULL;
	     node = node->next) {
		for (uint16_t i = 0; i < node->count; i++)
			chain->bytes += node->slice[node->first + i].bytes;
		chain->count += node->count;
	}
	if (other->head != NULL) {
		if (chain->tail == NULL)
			chain->head = other->head;
		else
			chain->tail->next = other->head;
		chain->tail = other->tail;
	}
	weir_chain_init(other, other->pool);
	return true;
}

/* Nobody else may read or write before the slice. */
static bool
chain_has_headroom(const struct weir_slice *slice, uint32_t bytes)
{
	return slice != NULL && slice->offset >= bytes &&
	       slice->buffer->pool != NULL &&
	       weir_buffer_references(slice->buffer) == 1;
}

unsigned char *
weir_chain_prepend_bytes(struct weir_chain *chain, uint32_t bytes)
{
	struct weir_slice *first = chain_first(chain);
	struct weir_buffer *buffer;

	if (chain_has_headroom(first, bytes)) {
		first->offset -= bytes;
		first->bytes += bytes;
		chain->bytes += bytes;
		return weir_slice_data(*first);
	}
	buffer = weir_buffer_acquire_for(
	    chain->pool, &(struct weir_buffer_want){.bytes = bytes,
			     .use = WEIR_BUFFER_SEND,
			     .flags = WEIR_BUFFER_NO_WAIT});
	if (buffer == NULL)
		return NULL;

	struct weir_slice slice =
	    weir_slice_make(buffer, buffer->bytes - bytes, bytes);

	if (chain_put_first(chain, slice))
		return weir_slice_data(slice);
	weir_buffer_release(buffer);
	return NULL;
}

/* ---- using up ------------------------------------------------------------ */

void
weir_chain_consume(struct weir_chain *chain, uint64_t bytes)
{
	if (WEIR_UNLIKELY(bytes > chain->bytes) && WEIR_DETECTOR(chain_consume))
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_BAD_ARGUMENT,
		    .pool_kind = "chain",
		    .address = chain,
		    .number = bytes,
		    .detail = "%u %{byte|bytes} taken from chain %p, which has "
			      "less",
		});
	while (bytes > 0) {
		struct weir_slice *first = chain_first(chain);
		struct weir_buffer *buffer = first->buffer;

		if (bytes < first->bytes) {
			first->offset += (uint32_t)bytes;
			first->bytes -= (uint32_t)bytes;
			chain->bytes -= bytes;
			return;
		}
		bytes -= first->bytes;
		chain_drop_first(chain);
		weir_buffer_release(buffer);
	}
}

struct weir_slice
weir_chain_take(struct weir_chain *chain)
{
	const struct weir_slice *first = chain_first(chain);
	struct weir_slice slice = {0};

	if (first != NULL) {
		slice = *first;
		chain_drop_first(chain);
	}
	return slice;
}

void
weir_chain_clear(struct weir_chain *chain)
{
	while (chain->count > 0) {
		struct weir_slice slice = weir_chain_take(chain);

		weir_slice_release(&slice);
	}
}

/* ---- looking ------------------------------------------------------------- */

/* A walk from the front. */
struct chain_walk {
	struct weir_slice *at;
	size_t left; /* from `at` on, in this part */
	struct weir_chain_node *next;
};

static struct chain_walk
chain_walk(struct weir_chain *chain)
{
	return (struct chain_walk){
	    .at = &chain->slice[chain->first],
	    .left = chain->own,
	    .next = chain->head,
	};
}

static struct weir_slice *
chain_walk_next(struct chain_walk *walk)
{
	if (walk->left == 0) {
		if (walk->next == NULL)
			return NULL;
		walk->at = &walk->next->slice[walk->next->first];
		walk->left = walk->next->count;
		walk->next = walk->next->next;
	}
	walk->left--;
	return walk->at++;
}

/* The walk changes nothing that the caller does not. */
static struct chain_walk
chain_walk_const(const struct weir_chain *chain)
{
	return (struct chain_walk){
	    .at = (struct weir_slice *)(uintptr_t)&chain->slice[chain->first],
	    .left = chain->own,
	    .next = chain->head,
	};
}

size_t
weir_chain_slices(
    const struct weir_chain *chain, struct weir_slice *out, size_t count)
{
	struct chain_walk walk = chain_walk_const(chain);
	const struct weir_slice *slice;
	size_t given = 0;

	while (given < count && (slice = chain_walk_next(&walk)) != NULL)
		out[given++] = *slice;
	return given;
}

int
weir_chain_iovec(const struct weir_chain *chain, struct iovec *out, int count)
{
	struct chain_walk walk = chain_walk_const(chain);
	const struct weir_slice *slice;
	int given = 0;

	while (given < count && (slice = chain_walk_next(&walk)) != NULL)
		out[given++] = (struct iovec){
		    .iov_base = weir_slice_data(*slice),
		    .iov_len = slice->bytes,
		};
	return given;
}

int
weir_chain_wsabuf(
    const struct weir_chain *chain, struct weir_wsabuf *out, int count)
{
	struct chain_walk walk = chain_walk_const(chain);
	const struct weir_slice *slice;
	int given = 0;

	while (given < count && (slice = chain_walk_next(&walk)) != NULL)
		out[given++] = (struct weir_wsabuf){
		    .bytes = slice->bytes,
		    .data = (char *)weir_slice_data(*slice),
		};
	return given;
}

uint64_t
weir_chain_compact(
    struct weir_chain *chain, const struct weir_compact_rule *rule)
{
	struct chain_walk walk = chain_walk(chain);
	struct weir_slice *slice;
	uint64_t less = 0;

	while ((slice = chain_walk_next(&walk)) != NULL)
		less += weir_slice_compact(slice, rule);
	return less;
}
