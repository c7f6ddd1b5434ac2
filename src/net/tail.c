/* SPDX-License-Identifier: MIT */
/*
 * tail.c - what a connection holds because its peer does not read.
 *
 * What a socket did not take stays in the buffers it was received in, and those
 * may be larger than what is left: of 64 KiB received, the last few bytes pin
 * all.  So a tail that has not moved for TAIL_REST_MS, or any while others wait
 * for memory, is detached: copied into buffers of its own size, and the large
 * ones go back.  A peer that reads at all moves its tail sooner than that, and
 * pays nothing.
 *
 * Where a slice is part of a buffer that is shared (view.c), that is done at once,
 * since it pins more than its charge says.
 *
 * The bytes of one slice go into a few buffers of decreasing size, since the
 * smallest that holds all could be as large as the one it is in.  A buffer that
 * others hold too, as in a broadcast, stays: a copy of it would be more memory,
 * not less.
 *
 * Invariants:
 *  T1  Neither the order of the bytes, nor that of the reports, changes.
 *  T2  charge changes by what is taken less what is given back, or nothing changes
 *      at all.
 *  T3  exact: its slices are not worth a copy.
 */
#include "net/engine.h"
#include "net/view.h"

#include <string.h>

#define TAIL_REST_MS 200u

/* Sizes of the copies but the last, which is as large as the rest. */
static const uint32_t tail_sizes[] = {32768, 8192, 2048};

/* Of one slice: 1 + 3 + 3 and the rest. */
#define TAIL_PIECES 8

/* What an operation's slices become. */
struct tail_copy {
	struct weir_slice piece[WEIRI_OP_SLICES * TAIL_PIECES];
	struct weir_slice old[WEIRI_OP_SLICES]; /* copied */
	size_t count, old_count;
	uint64_t taken, given; /* bytes of buffers */
};

/* ---- copying slices ------------------------------------------------------ */

static bool
tail_is_worth_it(const struct weir_slice *slice)
{
	uint32_t pinned = slice->buffer->bytes;

	if (weiri_is_view(slice->buffer))
		return slice->bytes > 0 &&
		       weir_buffer_references(slice->buffer) == 1;
	if (slice->bytes == 0 || pinned > WEIR_NET_BUFFER_BYTES_MAX ||
	    weir_buffer_references(slice->buffer) != 1)
		return false;
	return slice->bytes <= pinned / 4 ||
	       (pinned > tail_sizes[WEIRI_COUNT_OF(tail_sizes) - 1] &&
		   slice->bytes <= pinned - pinned / 4);
}

static uint32_t
tail_piece_bytes(uint32_t rest)
{
	for (size_t i = 0; i < WEIRI_COUNT_OF(tail_sizes); i++)
		if (rest >= tail_sizes[i])
			return tail_sizes[i];
	return rest;
}

static void
tail_release(const struct weir_slice *slices, size_t count)
{
	for (size_t i = 0; i < count; i++)
		weir_buffer_release(slices[i].buffer);
}

/* The slice itself if there is no memory, or nothing to be had. */
static void
tail_copy_slice(struct weir_conn *conn, const struct weir_slice *slice,
    struct tail_copy *copy)
{
	const unsigned char *from = slice->buffer->data + slice->offset;
	struct weir_slice *piece = &copy->piece[copy->count];
	size_t count = 0;
	uint64_t taken = 0;
	uint32_t rest = tail_is_worth_it(slice) ? slice->bytes : 0;

	while (rest > 0) {
		uint32_t bytes = tail_piece_bytes(rest);
		struct weir_buffer *buffer =
		    weiri_conn_acquire(conn, bytes, true);
		if (buffer == NULL)
			break;
		memcpy(buffer->data, from, bytes);
		piece[count++] = (struct weir_slice){buffer, 0, bytes};
		from += bytes;
		rest -= bytes;
		taken += buffer->bytes;
	}
	if (count == 0 || rest > 0 ||
	    (taken >= slice->buffer->bytes && !weiri_is_view(slice->buffer))) {
		tail_release(piece, count);
		copy->piece[copy->count++] = *slice;
		return;
	}
	copy->count += count;
	copy->taken += taken;
	copy->given += slice->buffer->bytes;
	copy->old[copy->old_count++] = *slice;
}

/* ---- an operation -------------------------------------------------------- */

/* Operations before @last for so many pieces, two each; NULL: no memory. */
static struct weiri_op *
tail_prepend(struct weir_conn *conn, const struct weir_slice *piece,
    size_t count, struct weiri_op *last)
{
	struct weir_net *net = conn->loop->net;
	struct weiri_op *first = last;

	for (size_t end = count; end > 0; end -= WEIRI_OP_SLICES) {
		struct weiri_op *op =
		    weiri_net_object(net, WEIR_NET_OPERATION, sizeof(*op));
		if (op == NULL) {
			while (first != last) {
				op = first->next;
				weiri_net_object_free(
				    net, WEIR_NET_OPERATION, first);
				first = op;
			}
			return NULL;
		}
		*op = (struct weiri_op){
		    .next = first, .count = WEIRI_OP_SLICES, .exact = true};
		memcpy(op->slice, &piece[end - WEIRI_OP_SLICES],
		    sizeof(op->slice));
		first = op;
	}
	WEIRI_COUNT(conn->loop, operations, count / WEIRI_OP_SLICES);
	return first;
}

/* The operation itself keeps the last pieces, and so the report. */
static bool
tail_replace(
    struct weir_conn *conn, struct weiri_op **link, struct tail_copy *copy)
{
	struct weiri_op *op = *link;
	size_t before = (copy->count - 1) / WEIRI_OP_SLICES * WEIRI_OP_SLICES;
	struct weiri_op *first = tail_prepend(conn, copy->piece, before, op);

	if (first == NULL)
		return false;
	op->done = 0;
	op->count = (uint16_t)(copy->count - before);
	memcpy(
	    op->slice, &copy->piece[before], op->count * sizeof(op->slice[0]));
	*link = first;
	conn->charge = conn->charge + copy->taken - copy->given;
	return true;
}

static void
tail_detach_op(struct weir_conn *conn, struct weiri_op **link)
{
	struct weiri_op *op = *link;
	struct tail_copy copy = {.count = 0};

	op->exact = true;
	for (size_t i = op->done; i < op->count; i++)
		tail_copy_slice(conn, &op->slice[i], &copy);
	if (copy.old_count == 0)
		return;
	if (tail_replace(conn, link, &copy)) {
		tail_release(copy.old, copy.old_count);
		return;
	}
	/* What is no piece of old is a copy. */
	for (size_t i = 0; i < copy.count; i++) {
		bool ours = true;
		for (size_t k = op->done; k < op->count; k++)
			if (copy.piece[i].buffer == op->slice[k].buffer)
				ours = false;
		if (ours)
			weir_buffer_release(copy.piece[i].buffer);
	}
}

void
weiri_tail_detach(struct weir_conn *conn)
{
	struct weiri_op **link = &conn->ops;

	/* The newest is exact only if all are, or it was shared. */
	if (conn->ops == NULL ||
	    (conn->ops_last->exact && conn->loop->net->views == NULL))
		return;
	while (*link != NULL) {
		struct weiri_op *op = *link;
		if (!op->exact)
			tail_detach_op(conn, link);
		link = &op->next;
	}
}

static bool
tail_is_shared(const struct weiri_op *op)
{
	for (size_t i = op->done; i < op->count; i++)
		if (weiri_is_view(op->slice[i].buffer))
			return true;
	return false;
}

void
weiri_tail_unshare(struct weir_conn *conn)
{
	struct weiri_op **link = &conn->ops;

	while (*link != NULL) {
		struct weiri_op *op = *link;
		if (!op->exact && tail_is_shared(op))
			tail_detach_op(conn, link);
		link = &op->next;
	}
}

/* ---- when ---------------------------------------------------------------- */

void
weiri_tails_rest(struct weir_loop *loop)
{
	WEIRI_LIST_FOR(node, &loop->holding)
	{
		struct weir_conn *conn =
		    WEIRI_CONTAINER_OF(node, struct weir_conn, holding);
		if (weiri_loop_since_ms(loop, conn->progress_ms) < TAIL_REST_MS)
			return; /* the rest of the list moved later */
		weiri_tail_detach(conn);
	}
}
