/* SPDX-License-Identifier: MIT */
/*
 * payer.h - who pays for what a connection has others hold.
 *
 * Of an engine that keeps accounts each connection's object is followed by a
 * payer; WEIRI_CONN_CHARGED says so.
 */
#ifndef WEIRI_PAYER_H
#define WEIRI_PAYER_H

#include "net/engine.h"

#include <weir/buffer_limit.h>

struct weiri_payer {
	struct weir_account account;
	struct weir_account *level;  /* that had it stop */
	struct weiri_list throttled; /* loop->throttled; or net->ended */
	struct weiri_list condemned; /* loop->condemned */
	bool waits;                  /* on loop->throttled */
	bool ended;                  /* the connection is no more */
};

WEIRI_INLINE struct weiri_payer *
weiri_payer_of(struct weir_conn *conn)
{
	WEIR_ASSERT(conn->flags & WEIRI_CONN_CHARGED);
	return (struct weiri_payer *)(conn + 1);
}

/* Does an account, and not the connection, keep it from receiving? */
WEIRI_INLINE bool
weiri_payer_waits(struct weir_conn *conn)
{
	return (conn->flags & WEIRI_CONN_CHARGED) != 0 &&
	       weiri_payer_of(conn)->waits;
}

/* ---- a connection's life: of engines that keep accounts --------------- */

void weiri_payer_begin(struct weir_conn *conn, struct weir_listener *listener);

/* False: buffers that it received are still held; the object stays until they
 * are not. */
bool weiri_payer_end(struct weir_conn *conn);

/* The connection ends or receives no more for other reasons. */
void weiri_payer_go_free(struct weir_conn *conn);

/* ---- receiving --------------------------------------------------------- */

/* True: before it has paid for @bytes more it must not receive, and will be
 * told to go on.  0: asks how things stand. */
bool weiri_payer_stops(struct weir_conn *conn, uint32_t bytes);

/* The least that its next receive takes. */
uint32_t weiri_payer_wants(const struct weir_conn *conn);

/* On its account; NULL: no room there, or no memory. */
struct weir_buffer *weiri_payer_buffer(
    struct weir_conn *conn, size_t bytes, enum weir_buffer_use use);

/* Has it pay for @buffer; false: it cannot, and was stopped. */
bool weiri_payer_pays(struct weir_conn *conn, struct weir_buffer *buffer);

/* ---- of a loop, a listener, an engine ---------------------------------- */

int weiri_payer_net_begin(struct weir_net *net);
void weiri_payer_net_end(struct weir_net *net);

int weiri_payer_listener_begin(
    struct weir_listener *listener, const struct weir_listen_config *config);

/* After its last connection: what nobody holds any more is freed. */
void weiri_payer_loop_end(struct weir_loop *loop);

/* Its loop ends; false: it is still charged, and the engine's from now on. */
bool weiri_payer_listener_end(struct weir_listener *listener);

/* Some account has room again, or somebody has to give way. */
void weiri_payers_look(struct weir_loop *loop);

/* Of loop->account_timer. */
void weiri_payer_tick(struct weir_loop *loop, struct weir_timer *timer);

#endif /* WEIRI_PAYER_H */
