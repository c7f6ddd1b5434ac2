/* SPDX-License-Identifier: MIT */
/*
 * payer.c - accounts of an engine: who pays for the buffers of a connection.
 *
 *     (the program's)  ->  engine  ->  listener  ->  connection
 *                                  \-> the program's, of a tenant -> listener
 *
 * A buffer is charged with all of its bytes, to the connection it was received
 * for, until its last release on whatever thread: while it is unfinished, in the
 * handler's hands, or unsent on any connection.  What is lent to the kernel to
 * be picked from, and what belongs to no connection, is the engine's.  A
 * multishot receive brings bytes that nobody asked about: its buffer is the
 * engine's until the connection can pay, and is not handed on before (the stash
 * of uring_conn.c).
 *
 * What happens as memory becomes scarce:
 *
 *   1  From three quarters of a limit on, whoever is below it stops receiving
 *      and joins loop->throttled.  It goes on when the account is down to half
 *      of that, or below the mark when others have been let go on.
 *   2  At the limit a request fails: a buffer for the program is NULL, bytes
 *      that have come wait.
 *   3  When those who are stopped by what others hold have not got on for
 *      PAYER_PATIENCE_NS, the connection that holds most below that account is
 *      ended, one each time.
 *
 * A connection may end before the last of its buffers does: its object stays on
 * net->ended until they have, and so does the listener's account.
 *
 * Threads: an account is told of room (payer_room) on the thread of the release.
 * A loop is named to other threads under net->lock only, and taken out of all
 * accounts under it before it goes.
 *
 * Invariants:
 *  Y1  waits: on loop->throttled, PAUSED, and the object's state is OPEN.
 *  Y2  An account's loop is NULL, or in net->loops.
 *  Y3  ended: on net->ended, with no connection that would use it.
 */
#include "net/payer.h"

#include "net/backend.h"
#include "pools/account.h"
#include "pools/buffer.h"

#include <errno.h>
#include <stdlib.h>

/* Between two looks at those who wait: the accounts of the program above ours
 * tell nobody of room. */
#define PAYER_TICK_NS (50 * WEIRI_MS)

/* As for the queue for buffers (patience.c). */
#define PAYER_PATIENCE_NS (500 * WEIRI_MS)

/* Ended connections looked at when another one ends. */
#define PAYER_SWEEP 8

static struct weir_conn *
payer_conn(struct weiri_payer *payer)
{
	return (struct weir_conn *)(void *)payer - 1;
}

/* ---- being told of room ------------------------------------------------- */

/* Under net->lock: @loop is there. */
static void
payer_wake(struct weir_loop *loop)
{
	/* Pairs with the exchange in weiri_payers_look().  The loop that runs
	 * here needs no system call. */
	if (!__atomic_exchange_n(&loop->room, true, __ATOMIC_RELEASE) &&
	    loop != weiri_loop_here())
		loop->backend->wake(loop);
}

static void
payer_room(struct weir_account *account)
{
	struct weiri_payer *payer =
	    WEIRI_CONTAINER_OF(account, struct weiri_payer, account);
	struct weir_net *net = account->user;

	weiri_mutex_lock(&net->lock);
	if (payer_conn(payer)->loop != NULL)
		payer_wake(payer_conn(payer)->loop);
	weiri_mutex_unlock(&net->lock);
}

static void
payer_listener_room(struct weir_account *account)
{
	struct weir_listener *listener =
	    WEIRI_CONTAINER_OF(account, struct weir_listener, account);
	struct weir_net *net = account->user;

	weiri_mutex_lock(&net->lock);
	if (listener->loop != NULL)
		payer_wake(listener->loop);
	weiri_mutex_unlock(&net->lock);
}

static void
payer_net_room(struct weir_account *account)
{
	struct weir_net *net = account->user;

	weiri_mutex_lock(&net->lock);
	WEIRI_LIST_FOR(node, &net->loops)
	{
		payer_wake(WEIRI_CONTAINER_OF(node, struct weir_loop, link));
	}
	weiri_mutex_unlock(&net->lock);
}

/* ---- stopping and going on ---------------------------------------------- */

void
weiri_payer_go_free(struct weir_conn *conn)
{
	struct weiri_payer *payer = weiri_payer_of(conn);

	if (!payer->waits)
		return;
	payer->waits = false;
	weiri_list_remove(&payer->throttled);
	WEIRI_COUNT(conn->loop, throttled_now, -1);
}

uint32_t
weiri_payer_wants(const struct weir_conn *conn)
{
	struct weir_net *net = conn->loop->net;
	uint32_t least = net->config.receive_bytes_min;

	return weiri_buffer_fit_bytes(
	    net->buffers, conn->need > least ? conn->need : least);
}

bool
weiri_payer_stops(struct weir_conn *conn, uint32_t bytes)
{
	struct weiri_payer *payer = weiri_payer_of(conn);
	struct weir_loop *loop = conn->loop;

	if (payer->waits)
		return true;
	if (conn->state != WEIRI_CONN_OPEN)
		return false;
	if (WEIR_LIKELY(weir_account_verdict(&payer->account, bytes,
			    &payer->level) == WEIR_ACCOUNT_OK))
		return false;
	if (weiri_list_empty(&loop->throttled))
		loop->let_go_ns = loop->now_ns;
	payer->waits = true;
	weiri_list_append(&loop->throttled, &payer->throttled);
	WEIRI_COUNT(loop, throttled, 1);
	WEIRI_COUNT(loop, throttled_now, 1);
	weiri_conn_pause(conn);
	if (loop->account_timer.due_ns == 0)
		weir_timer_start(loop, &loop->account_timer, PAYER_TICK_NS);
	return true;
}

struct weir_buffer *
weiri_payer_buffer(
    struct weir_conn *conn, size_t bytes, enum weir_buffer_use use)
{
	struct weir_loop *loop = conn->loop;

	if (WEIR_UNLIKELY(loop->lent))
		weiri_loop_refill(loop);
	if (WEIR_UNLIKELY(loop->borrowing))
		return NULL;
	return weir_buffer_acquire_for(
	    loop->net->buffers, &(struct weir_buffer_want){
				    .bytes = bytes,
				    .account = &weiri_payer_of(conn)->account,
				    .use = use,
				});
}

bool
weiri_payer_pays(struct weir_conn *conn, struct weir_buffer *buffer)
{
	struct weiri_payer *payer = weiri_payer_of(conn);

	/* Not stopped: there has come to be room in between. */
	do
		if (WEIR_LIKELY(
			weir_buffer_set_account(buffer, &payer->account)))
			return true;
	while (!weiri_payer_stops(conn, buffer->bytes));
	return false;
}

/* Those for whom there is room; in the order in which they were stopped. */
static void
payer_let_go(struct weir_loop *loop)
{
	WEIRI_LIST_FOR_SAFE(node, &loop->throttled)
	{
		struct weiri_payer *payer =
		    WEIRI_CONTAINER_OF(node, struct weiri_payer, throttled);
		struct weir_conn *conn = payer_conn(payer);
		if (weir_account_verdict(&payer->account,
			weiri_payer_wants(conn),
			&payer->level) != WEIR_ACCOUNT_OK)
			continue;
		weiri_payer_go_free(conn);
		conn->packet_ms = weiri_loop_now_ms(loop);
		loop->let_go_ns = loop->now_ns;
		weiri_conn_go_on(conn);
	}
}

/* ---- giving way --------------------------------------------------------- */

static bool
payer_may_give_way(struct weir_account *leaf)
{
	struct weiri_payer *payer =
	    WEIRI_CONTAINER_OF(leaf, struct weiri_payer, account);

	return leaf->resume == payer_room && !payer->ended &&
	       weiri_list_empty(&payer->condemned);
}

/* Ends who holds most below the account that has the first of those stop who
 * can do nothing about it. */
static void
payer_shed(struct weir_loop *loop)
{
	struct weir_net *net = loop->net;
	struct weir_account *leaf, *level = NULL;

	WEIRI_LIST_FOR(node, &loop->throttled)
	{
		struct weiri_payer *payer =
		    WEIRI_CONTAINER_OF(node, struct weiri_payer, throttled);
		level = payer->level == &payer->account ? NULL : payer->level;
		if (level != NULL)
			break;
	}
	if (level == NULL)
		return;
	weiri_mutex_lock(&net->lock);
	leaf = weiri_account_largest(level, payer_may_give_way, NULL);
	if (leaf != NULL) {
		struct weiri_payer *payer =
		    WEIRI_CONTAINER_OF(leaf, struct weiri_payer, account);
		struct weir_loop *its = payer_conn(payer)->loop;
		weiri_list_append(&its->condemned, &payer->condemned);
		payer_wake(its);
	}
	weiri_mutex_unlock(&net->lock);
}

/* Under net->lock. */
static struct weir_conn *
payer_next_condemned(struct weir_loop *loop)
{
	struct weiri_payer *payer;

	if (weiri_list_empty(&loop->condemned))
		return NULL;
	payer = WEIRI_CONTAINER_OF(
	    loop->condemned.next, struct weiri_payer, condemned);
	weiri_list_remove(&payer->condemned);
	return payer_conn(payer);
}

static void
payer_end_condemned(struct weir_loop *loop)
{
	struct weir_net *net = loop->net;
	struct weir_conn *conn;

	do {
		weiri_mutex_lock(&net->lock);
		conn = payer_next_condemned(loop);
		weiri_mutex_unlock(&net->lock);
		if (conn != NULL)
			weir_conn_abort(conn, WEIR_CLOSE_LARGEST);
	} while (conn != NULL);
}

void
weiri_payers_look(struct weir_loop *loop)
{
	/* Pairs with payer_wake(): what made room is seen below. */
	(void)__atomic_exchange_n(&loop->room, false, __ATOMIC_ACQUIRE);
	payer_end_condemned(loop);
	payer_let_go(loop);
}

void
weiri_payer_tick(struct weir_loop *loop, struct weir_timer *timer)
{
	weiri_payers_look(loop);
	if (weiri_list_empty(&loop->throttled))
		return;
	if (loop->now_ns - loop->let_go_ns >= PAYER_PATIENCE_NS) {
		loop->let_go_ns = loop->now_ns;
		payer_shed(loop);
	}
	weir_timer_start(loop, timer, PAYER_TICK_NS);
}

/* ---- a connection's begin and end --------------------------------------- */

void
weiri_payer_begin(struct weir_conn *conn, struct weir_listener *listener)
{
	struct weiri_payer *payer = (struct weiri_payer *)(conn + 1);
	struct weir_net *net = conn->loop->net;
	int error = weir_account_init(&payer->account,
	    &(struct weir_account_config){
		.name = "connection",
		.user = net,
		.parent = &listener->account,
		.limit_bytes = net->config.connection_limit_bytes,
		.resume = payer_room,
	    });

	WEIR_ASSERT(error == 0); /* the depth was tried for the listener */
	(void)error;
	conn->flags |= WEIRI_CONN_CHARGED;
	payer->level = NULL;
	payer->waits = payer->ended = false;
	weiri_list_init(&payer->throttled);
	weiri_list_init(&payer->condemned);
}

static void
payer_free(struct weir_net *net, struct weiri_payer *payer)
{
	weir_account_finish(&payer->account);
	weiri_net_object_free(net, WEIR_NET_CONNECTION, payer_conn(payer));
}

/* Frees of those that ended some that have nothing any more. */
static void
payer_sweep(struct weir_net *net, uint32_t most)
{
	struct weiri_list idle;

	weiri_list_init(&idle);
	weiri_mutex_lock(&net->lock);
	for (; most > 0 && !weiri_list_empty(&net->ended); most--) {
		struct weiri_list *first = net->ended.next;
		struct weiri_payer *payer =
		    WEIRI_CONTAINER_OF(first, struct weiri_payer, throttled);
		bool holds = weiri_account_used(&payer->account) != 0;
		weiri_list_remove(first);
		weiri_list_append(holds ? &net->ended : &idle, first);
		net->ended_count -= !holds;
	}
	weiri_mutex_unlock(&net->lock);
	/* Not under the lock: who is just being told of room wants it. */
	WEIRI_LIST_FOR_SAFE(node, &idle)
	{
		payer_free(net,
		    WEIRI_CONTAINER_OF(node, struct weiri_payer, throttled));
	}
}

bool
weiri_payer_end(struct weir_conn *conn)
{
	struct weiri_payer *payer = weiri_payer_of(conn);
	struct weir_loop *loop = conn->loop;
	struct weir_net *net = loop->net;
	bool free_now;

	weiri_payer_go_free(conn);
	weiri_mutex_lock(&net->lock);
	payer->ended = true;
	conn->loop = NULL;
	weiri_list_remove(&payer->condemned);
	/* Only this thread has it pay for more. */
	free_now = weiri_account_used(&payer->account) == 0;
	if (!free_now) {
		weiri_list_append(&net->ended, &payer->throttled);
		net->ended_count++;
		WEIRI_COUNT(loop, closed_holding, 1);
	}
	weiri_mutex_unlock(&net->lock);
	if (free_now)
		weir_account_finish(&payer->account);
	payer_sweep(net, PAYER_SWEEP);
	return free_now;
}

void
weiri_payer_loop_end(struct weir_loop *loop)
{
	struct weir_net *net = loop->net;
	uint32_t count;

	weiri_mutex_lock(&net->lock);
	count = net->ended_count;
	weiri_mutex_unlock(&net->lock);
	payer_sweep(net, count);
}

/* ---- listeners and engines ---------------------------------------------- */

int
weiri_payer_listener_begin(
    struct weir_listener *listener, const struct weir_listen_config *config)
{
	struct weir_net *net = listener->loop->net;
	struct weir_account *parent =
	    config->account != NULL ? config->account : &net->account;
	struct weir_account_config account = {
	    .name = "listener",
	    .user = net,
	    .parent = parent,
	    .limit_bytes = config->account_limit_bytes,
	    .resume = payer_listener_room,
	};
	size_t depth = 2; /* itself and a connection */

	if (!net->accounting)
		return config->account != NULL ||
			       config->account_limit_bytes != 0
			   ? -EINVAL
			   : 0;
	for (const struct weir_account *at = parent; at != NULL;
	     at = at->parent)
		depth++;
	if (depth > WEIR_ACCOUNT_DEPTH_MAX ||
	    !weiri_account_within(parent, &net->account) ||
	    (config->account_limit_bytes != 0 &&
		config->account_limit_bytes < WEIR_NET_BUFFER_LIMIT_BYTES_MIN))
		return -EINVAL;
	return weir_account_init(&listener->account, &account);
}

bool
weiri_payer_listener_end(struct weir_listener *listener)
{
	struct weir_net *net = listener->loop->net;
	bool ends;

	if (!net->accounting)
		return true;
	weiri_mutex_lock(&net->lock);
	ends = WEIRI_LOAD(&listener->account.children) == 0;
	listener->loop = NULL;
	if (!ends)
		weiri_list_append(&net->listeners_ended, &listener->link);
	weiri_mutex_unlock(&net->lock);
	if (ends)
		weir_account_finish(&listener->account);
	return ends;
}

int
weiri_payer_net_begin(struct weir_net *net)
{
	const struct weir_net_config *config = &net->config;

	return !net->accounting
		   ? 0
		   : weir_account_init(&net->account,
			 &(struct weir_account_config){
			     .name = "net",
			     .user = net,
			     .parent = config->account,
			     .limit_bytes = config->account_limit_bytes,
			     .resume = payer_net_room,
			 });
}

void
weiri_payer_net_end(struct weir_net *net)
{
	if (!net->accounting)
		return;
	/* What is still held is a fault, which names the account. */
	WEIRI_LIST_FOR_SAFE(node, &net->ended)
	{
		struct weiri_payer *payer =
		    WEIRI_CONTAINER_OF(node, struct weiri_payer, throttled);
		weiri_list_remove(node);
		payer_free(net, payer);
	}
	WEIRI_LIST_FOR_SAFE(node, &net->listeners_ended)
	{
		struct weir_listener *listener =
		    WEIRI_CONTAINER_OF(node, struct weir_listener, link);
		weiri_list_remove(node);
		weir_account_finish(&listener->account);
		free(listener);
	}
	weir_account_finish(&net->account);
}

/* ---- what the program asks ---------------------------------------------- */

struct weir_account *
weir_net_account(struct weir_net *net)
{
	return net->accounting ? &net->account : NULL;
}

struct weir_account *
weir_listener_account(struct weir_listener *listener)
{
	return listener->loop->net->accounting ? &listener->account : NULL;
}

struct weir_account *
weir_conn_account(struct weir_conn *conn)
{
	return conn->flags & WEIRI_CONN_CHARGED ? &weiri_payer_of(conn)->account
						: NULL;
}

struct weir_buffer *
weir_conn_buffer(struct weir_conn *conn, size_t bytes)
{
	if (bytes > WEIR_NET_BUFFER_BYTES_MAX)
		return NULL;
	return conn->flags & WEIRI_CONN_CHARGED
		   ? weiri_payer_buffer(conn, bytes, WEIR_BUFFER_SEND)
		   : weiri_net_buffer(conn->loop->net, bytes);
}
