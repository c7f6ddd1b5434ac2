/* SPDX-License-Identifier: MIT */
/*
 * loop.c - one thread's loop: passes, tasks, stopping, stalls.
 *
 *   wait and receive   the back end; handlers queue their sends
 *   timers, tasks      may queue more
 *   flush              everything queued is sent, buffers come back
 *   reap               connections that ended in this pass are freed
 *   feed               connections that waited for a buffer, in turn; flush
 *   reap               those that ended in that
 *
 * No connection is freed while the back end goes through what it was told of,
 * so that may name any.  What those that ended held is fed in the same pass:
 * before the next event, whose bytes would take it from those who wait.
 *
 * A wait for a buffer ends by turn: while the queue is not empty, nobody who
 * needs a buffer receives outside it.  (Who has room for the rest of a packet
 * does, or the queue might wait for memory that only this packet's end gives
 * back.)  Buffers this loop releases are noticed at once, because the queue is
 * served at the end of each pass; those released elsewhere within LOOP_FEED_NS.
 *
 * Connections in the queue may themselves hold what the others wait for, each
 * a piece of an unfinished packet.  So a loop whose buffers are limited keeps
 * one of the largest size in reserve, for the head of the queue when there is
 * nothing else: its packet gets complete, goes out, and the loop takes as much
 * back before it gives a buffer to anybody else.  The queues of all loops are one
 * (turn.c), and each gets on by the reserve of its own, whoever's turn it is.
 *
 * Who holds memory too long, or is silent too long, is in patience.c; what is idle
 * goes back to the system by maintain.c.
 */
#include "net/backend.h"

#include "base/bits.h"
#include "base/text.h"
#include "config/config.h"
#include "net/channel.h"
#include "net/payer.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* How often a queue for buffers is looked at when nothing else happens. */
#define LOOP_FEED_NS (2 * WEIRI_MS)

/* How long to wait at a time for a back end to let go of connections. */
#define LOOP_CLEAR_NS (100 * WEIRI_MS)

/* Warnings of a loop are at least this far apart. */
#define LOOP_WARN_NS (1000 * WEIRI_MS)

/* on_sent handlers that send again may keep one flush busy for so many
 * rounds; what is left then waits for the next pass. */
#define LOOP_FLUSH_ROUNDS 4

static __thread const struct weir_loop *loop_here;

const struct weir_loop *
weiri_loop_here(void)
{
	return loop_here;
}

/* ---- sending --------------------------------------------------------- */

void
weiri_loop_flush(struct weir_loop *loop)
{
	const struct weiri_backend *backend = loop->backend;

	for (int round = 0; round < LOOP_FLUSH_ROUNDS; round++) {
		struct weir_conn *conn = loop->sending;
		if (conn == NULL)
			return;
		loop->sending = NULL;
		while (conn != NULL) {
			struct weir_conn *next = conn->next_sending;
			conn->flags &= (uint8_t)~WEIRI_CONN_SENDING;
			if (WEIR_LIKELY(conn->state != WEIRI_CONN_CLOSING) &&
			    backend->conn_send(conn))
				weiri_conn_settle(conn);
			conn = next;
		}
		backend->sends_end(loop);
	}
}

void
weiri_loop_refill(struct weir_loop *loop)
{
	loop->reserve = weiri_net_buffer(loop->net, WEIR_NET_BUFFER_BYTES_MAX);
	loop->lent = loop->reserve == NULL;
	loop->careful = loop->lent || loop->net->accounting;
}

/* Of an engine that keeps accounts. */
static struct weir_buffer *
loop_charged(struct weir_net *net, size_t bytes, enum weir_buffer_use use)
{
	return weir_buffer_acquire_for(
	    net->buffers, &(struct weir_buffer_want){
			      .bytes = bytes,
			      .account = &net->account,
			      .use = use,
			  });
}

struct weir_buffer *
weiri_loop_acquire_careful(struct weir_loop *loop, size_t bytes)
{
	struct weir_net *net = loop->net;

	if (loop->lent)
		weiri_loop_refill(loop);
	if (loop->borrowing)
		return NULL;
	return net->accounting ? loop_charged(net, bytes, WEIR_BUFFER_RECEIVE)
			       : weiri_net_buffer(net, bytes);
}

/* The reserve, if all else fails; or at once, while it is others' turn. */
static bool
loop_lend(struct weir_loop *loop, struct weir_conn *conn, bool ours)
{
	bool fed;

	if (loop->reserve == NULL)
		return false;
	loop->lending = true;
	loop->borrowing = !ours;
	loop->careful = loop->careful || !ours;
	fed = loop->backend->conn_feed(conn);
	loop->lending = loop->borrowing = false;
	loop->careful = loop->lent || loop->net->accounting;
	return fed;
}

/* One connection of the queue; false when there is no memory for it. */
static bool
loop_feed_one(struct weir_loop *loop, struct weir_conn *conn)
{
	if (!weiri_turn_is_ours(loop))
		return loop_lend(loop, conn, false);
	if (loop->backend->conn_feed(conn))
		return true;
	if (loop->sending != NULL) {
		weiri_loop_flush(loop);
		if (!(conn->flags & WEIRI_CONN_STARVED))
			return true; /* ended in the flush */
		if (loop->backend->conn_feed(conn))
			return true;
	}
	return loop_lend(loop, conn, true);
}

/* It is its account that has no room: then others must not wait for it. */
static bool
loop_misplaced(struct weir_conn *conn)
{
	if (!(conn->flags & WEIRI_CONN_CHARGED) ||
	    !weiri_payer_stops(conn, weiri_payer_wants(conn)))
		return false;
	weiri_conn_unstarve(conn);
	if (conn->need > 0)
		weiri_conn_hold(conn); /* its carry counts again, too */
	return true;
}

/* Serves the queue for buffers until it is empty or there are none. */
static void
loop_feed(struct weir_loop *loop)
{
	/* Each of those waiting now once: whoever starves anew is served in
	 * the next pass. */
	uint64_t turns = loop->counters.starved_now;

	while (turns-- > 0 && !weiri_list_empty(&loop->starved)) {
		struct weir_conn *conn = WEIRI_CONTAINER_OF(
		    loop->starved.next, struct weir_conn, waiting);
		if (!loop_feed_one(loop, conn)) {
			if (!loop_misplaced(conn))
				break;
			continue;
		}
		loop->moved_ns = loop->now_ns;
	}
	weiri_loop_flush(loop);
}

static void
loop_reap(struct weir_loop *loop)
{
	while (!weiri_list_empty(&loop->closing)) {
		struct weir_conn *conn = WEIRI_CONTAINER_OF(
		    loop->closing.next, struct weir_conn, holding);
		if (WEIR_UNLIKELY(conn->flags & WEIRI_CONN_SENDING)) {
			/* A handler queued more than a flush takes. */
			weiri_loop_flush(loop);
			continue;
		}
		weiri_conn_reap(conn);
	}
}

/* ---- stopping -------------------------------------------------------- */

static void
loop_grace_over(struct weir_loop *loop, struct weir_timer *timer)
{
	(void)timer;
	WEIRI_LIST_FOR(node, &loop->conns)
	{
		struct weir_conn *conn =
		    WEIRI_CONTAINER_OF(node, struct weir_conn, member);
		/* What was reported as sent is not taken back. */
		if (conn->state == WEIRI_CONN_LINGERING)
			weiri_conn_linger_over(conn);
		else
			weir_conn_abort(conn, WEIR_CLOSE_STOPPED);
	}
}

static void
loop_stop_now(struct weir_loop *loop, uint64_t grace_ms)
{
	if (!loop->stopping) {
		loop->stopping = true;
		WEIRI_LIST_FOR(node, &loop->listeners)
		{
			weiri_listener_close(WEIRI_CONTAINER_OF(
			    node, struct weir_listener, link));
		}
		WEIRI_LIST_FOR(node, &loop->conns)
		{
			weir_conn_close(
			    WEIRI_CONTAINER_OF(node, struct weir_conn, member),
			    WEIR_CLOSE_STOPPED);
		}
	}
	if (grace_ms == 0) {
		weir_timer_stop(loop, &loop->grace_timer);
		loop_grace_over(loop, NULL);
		return;
	}
	uint64_t due_ns = loop->now_ns + grace_ms * WEIRI_MS;
	if (loop->grace_timer.due_ns == 0 || due_ns < loop->grace_timer.due_ns)
		weir_timer_start(loop, &loop->grace_timer, grace_ms * WEIRI_MS);
}

void
weir_loop_stop(struct weir_loop *loop, uint32_t grace_ms)
{
	uint64_t request = (uint64_t)grace_ms + 1;
	uint64_t pending = WEIRI_LOAD(&loop->stop_request);

	/* The shortest counts.  Pairs with the exchange in loop_external. */
	while (pending == 0 || pending > request)
		if (__atomic_compare_exchange_n(&loop->stop_request, &pending,
			request, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
			break;
	loop->backend->wake(loop);
}

/* ---- tasks ----------------------------------------------------------- */

void
weir_loop_post(struct weir_loop *loop, struct weir_task *task)
{
	struct weir_task *first = WEIRI_LOAD(&loop->tasks);

	do
		task->internal_next = first;
	while (!__atomic_compare_exchange_n(&loop->tasks, &first, task, true,
	    __ATOMIC_RELEASE, __ATOMIC_RELAXED)); /* pairs with loop_tasks */
	/* Whoever finds tasks there knows that somebody woke the loop, and
	 * that it has not fetched them since. */
	if (first == NULL)
		loop->backend->wake(loop);
}

static void
loop_tasks(struct weir_loop *loop)
{
	struct weir_task *newest;
	struct weir_task *oldest = NULL;

	if (WEIR_LIKELY(WEIRI_LOAD(&loop->tasks) == NULL))
		return;
	newest = __atomic_exchange_n(&loop->tasks, NULL, __ATOMIC_ACQUIRE);
	while (newest != NULL) {
		struct weir_task *next = newest->internal_next;
		newest->internal_next = oldest;
		oldest = newest;
		newest = next;
	}
	while (oldest != NULL) {
		struct weir_task *task = oldest;
		oldest = task->internal_next; /* run may free the task */
		task->run(loop, task);
	}
}

/* What other threads asked for. */
static void
loop_external(struct weir_loop *loop)
{
	loop_tasks(loop);
	if (WEIR_LIKELY(WEIRI_LOAD(&loop->stop_request) == 0))
		return;
	uint64_t request =
	    __atomic_exchange_n(&loop->stop_request, 0, __ATOMIC_ACQUIRE);
	if (request != 0)
		loop_stop_now(loop, request - 1);
}

/* ---- running --------------------------------------------------------- */

static int64_t
loop_timeout_ns(const struct weir_loop *loop)
{
	int64_t timeout_ns = INT64_MAX;

	if (loop->sending != NULL || WEIRI_LOAD(&loop->room))
		return 0;
	if (loop->timers != NULL) {
		uint64_t due_ns = loop->timers->due_ns;
		timeout_ns =
		    due_ns <= loop->now_ns
			? 0
			: (int64_t)weiri_min(due_ns - loop->now_ns, INT64_MAX);
	}
	if (!weiri_list_empty(&loop->starved) &&
	    timeout_ns > (int64_t)LOOP_FEED_NS)
		timeout_ns = LOOP_FEED_NS;
	return timeout_ns;
}

static void
loop_pass_end(struct weir_loop *loop)
{
	weiri_timers_run(loop);
	loop_external(loop);
	weiri_loop_flush(loop);
	if (WEIR_UNLIKELY(WEIRI_LOAD(&loop->room)))
		weiri_payers_look(loop);
	if (WEIR_UNLIKELY(!weiri_list_empty(&loop->closing)))
		loop_reap(loop);
	if (WEIR_UNLIKELY(!weiri_list_empty(&loop->starved))) {
		loop_feed(loop);
		loop_reap(loop);
	}
	if (WEIR_UNLIKELY(weiri_net_is_short(loop)))
		weiri_turn_call(loop);
	if (WEIR_UNLIKELY(loop->maintain_timer.due_ns == 0))
		weiri_maintain_wake(loop);
}

/* The back end is broken: it will not report the end of anything. */
static void
loop_give_up(struct weir_loop *loop)
{
	WEIRI_LIST_FOR(node, &loop->conns)
	{
		struct weir_conn *conn =
		    WEIRI_CONTAINER_OF(node, struct weir_conn, member);
		weiri_list_remove(&conn->holding);
		weiri_conn_stopped(conn);
	}
}

/* Ends every connection and listener at once. */
static void
loop_clear(struct weir_loop *loop)
{
	loop_stop_now(loop, 0);
	weiri_loop_flush(loop);
	loop_reap(loop);
	/* What the system still holds of them comes back in further passes. */
	while (!weiri_list_empty(&loop->conns)) {
		if (loop->backend->wait(loop, LOOP_CLEAR_NS) != 0)
			loop_give_up(loop);
		weiri_loop_flush(loop);
		loop_reap(loop);
	}
}

int
weir_loop_run(struct weir_loop *loop)
{
	int error = 0;

	loop->now_ns = weiri_os_now_ns();
	loop->running = true;
	loop_here = loop;
	loop_pass_end(loop); /* what was asked for before it ran */
	while (!loop->stopping || !weiri_list_empty(&loop->conns) ||
	       !loop->backend->quiet(loop)) {
		error = loop->backend->wait(loop, loop_timeout_ns(loop));
		if (WEIR_UNLIKELY(error != 0))
			break;
		loop_pass_end(loop);
	}
	if (error != 0) {
		loop_clear(loop);
		(void)loop->backend->quiet(loop);
	}
	loop->running = false;
	loop_here = NULL;
	return error;
}

static int
loop_start(struct weir_loop *loop)
{
	struct weir_net *net = loop->net;

	if (net->config.buffer_limit_bytes != 0) {
		weiri_loop_refill(loop);
		if (loop->lent)
			return -ENOMEM;
	}
	return loop->backend->loop_start(loop);
}

static void
loop_free(struct weir_loop *loop)
{
	weir_buffer_release(loop->reserve);
	free(loop);
}

int
weir_loop_create(struct weir_net *net, struct weir_loop **out)
{
	struct weir_loop *loop =
	    aligned_alloc(WEIRI_CACHE_LINE, sizeof(struct weir_loop));
	int error;

	*out = NULL;
	if (loop == NULL)
		return -ENOMEM;
	*loop = (struct weir_loop){
	    .net = net,
	    .backend = net->backend,
	    .now_ns = weiri_os_now_ns(),
	    .stall_timer = {.expired = weiri_stall_tick},
	    .linger_timer = {.expired = weiri_linger_tick},
	    .idle_timer = {.expired = weiri_idle_tick},
	    .packet_timer = {.expired = weiri_packet_tick},
	    .grace_timer = {.expired = loop_grace_over},
	    .account_timer = {.expired = weiri_payer_tick},
	    .maintain_timer = {.expired = weiri_maintain_tick},
	    .careful = net->accounting,
	    .poll_fd = -1,
	    .wake = {.handle = WEIRI_HANDLE_WAKE, .fd = -1},
	};
	weiri_list_init(&loop->conns);
	weiri_list_init(&loop->closing);
	weiri_list_init(&loop->lingering);
	weiri_list_init(&loop->holding);
	weiri_list_init(&loop->held);
	weiri_list_init(&loop->starved);
	weiri_list_init(&loop->listeners);
	weiri_list_init(&loop->throttled);
	weiri_list_init(&loop->condemned);
	weiri_list_init(&loop->link);
	error = loop_start(loop);
	if (error != 0) {
		loop_free(loop);
		return error;
	}
	if (net->idle_ns != 0)
		weir_timer_start(loop, &loop->idle_timer, net->idle_ns);
	if (net->packet_ns != 0)
		weir_timer_start(loop, &loop->packet_timer, net->packet_ns);
	weiri_mutex_lock(&net->lock);
	weiri_list_append(&net->loops, &loop->link);
	WEIRI_STORE(&net->loop_count, net->loop_count + 1);
	weiri_mutex_unlock(&net->lock);
	*out = loop;
	return 0;
}

void
weir_loop_destroy(struct weir_loop *loop)
{
	if (loop == NULL)
		return;
	weiri_channels_close(loop);
	/* Tasks and on_close may post. */
	do {
		loop_tasks(loop);
		loop_clear(loop);
	} while (WEIRI_LOAD(&loop->tasks) != NULL);
	weiri_channels_free(loop);
	weiri_net_retire(loop);
	weiri_payer_loop_end(loop);
	WEIRI_LIST_FOR_SAFE(node, &loop->listeners)
	{
		struct weir_listener *listener =
		    WEIRI_CONTAINER_OF(node, struct weir_listener, link);
		weiri_list_remove(node);
		if (weiri_payer_listener_end(listener))
			free(listener);
	}
	loop->backend->loop_finish(loop);
	loop_free(loop);
}

/* ---- small things ---------------------------------------------------- */

uint64_t
weir_loop_now_ns(const struct weir_loop *loop)
{
	return loop->now_ns;
}

struct weir_buffer *
weir_loop_buffer(struct weir_loop *loop, size_t bytes)
{
	struct weir_net *net = loop->net;

	if (bytes > WEIR_NET_BUFFER_BYTES_MAX)
		return NULL;
	return net->accounting ? loop_charged(net, bytes, WEIR_BUFFER_SEND)
			       : weiri_net_buffer(net, bytes);
}

void
weiri_loop_warn(struct weir_loop *loop, const char *what, uint64_t count)
{
	char line[128];
	struct weiri_text text = {line, sizeof(line), 0};

	if (loop->message_ns != 0 &&
	    loop->now_ns - loop->message_ns < LOOP_WARN_NS)
		return;
	loop->message_ns = loop->now_ns;
	weiri_text_str(&text, "net: ");
	weiri_text_str(&text, what);
	weiri_text_str(&text, ": ");
	weiri_text_u64(&text, count);
	weiri_text_str(&text, " so far");
	weiri_message(WEIR_MESSAGE_WARNING, line);
}
