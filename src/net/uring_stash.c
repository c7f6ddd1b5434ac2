/* SPDX-License-Identifier: MIT */
/*
 * uring_stash.c - bytes that came while they could not be handed on.
 *
 * A list of slices, oldest first, each in an operation object: a stash is rare,
 * and short when there is one (uring_conn.c).  A slice without a buffer is an
 * error that came behind the bytes; its count is the errno.
 */
#include "net/uring.h"
#include "net/view.h"

void
weiri_uring_stash(struct weir_conn *conn, struct weir_slice slice)
{
	struct weir_net *net = conn->loop->net;
	struct weiri_op **end = &conn->stash;
	struct weiri_op *node =
	    weiri_net_object(net, WEIR_NET_OPERATION, sizeof(*node));

	weiri_view_settle(conn->loop, &slice);
	if (node == NULL) {
		weir_buffer_release(slice.buffer);
		weir_conn_abort(conn, WEIR_CLOSE_NO_MEMORY);
		return;
	}
	node->next = NULL;
	node->slice[0] = slice;
	while (*end != NULL)
		end = &(*end)->next;
	*end = node;
}

struct weir_slice
weiri_uring_unstash(struct weir_conn *conn)
{
	struct weiri_op *node = conn->stash;
	struct weir_slice slice = node->slice[0];

	conn->stash = node->next;
	weiri_net_object_free(conn->loop->net, WEIR_NET_OPERATION, node);
	return slice;
}

void
weiri_uring_restash(struct weir_conn *conn, struct weir_slice slice)
{
	struct weiri_op *rest = conn->stash;

	conn->stash = NULL;
	weiri_uring_stash(conn, slice);
	if (conn->stash != NULL)
		conn->stash->next = rest;
	else
		conn->stash = rest; /* aborted; dropped when it is stopped */
}
