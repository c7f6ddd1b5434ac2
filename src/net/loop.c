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
 * back before it gives a buffer to anybody else.  There is no order between the
 * queues of several loops; each gets on by the reserve of its own.
 *
 * While somebody waits, those who hold memory give way one by one: first who
 * made no progress for LOOP_STALL_PRESSURE_NS, then who held some for a period
 * of hold_ms without a break and moved fewer than hold_bytes in it.  The second
 * rule is for clients that drip a byte now and then to keep what they have.
 */
#include "net/backend.h"

#include "base/bits.h"
#include "base/text.h"
#include "config/config.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* How often a queue for buffers is looked at when nothing else happens. */
#define LOOP_FEED_NS (2 * WEIRI_MS)

/* Between two looks at who holds memory without progress. */
#define LOOP_STALL_TICK_NS (250 * WEIRI_MS)

/* How long one may do so while others wait for memory. */
#define LOOP_STALL_PRESSURE_NS (500 * WEIRI_MS)

/* Between two connections that have to give way. */
#define LOOP_SHED_NS (5 * WEIRI_MS)

/* How long to wait at a time for a back end to let go of connections. */
#define LOOP_CLEAR_NS (100 * WEIRI_MS)

/* Warnings of a loop are at least this far apart. */
#define LOOP_WARN_NS (1000 * WEIRI_MS)

/* on_sent handlers that send again may keep one flush busy for so many
 * rounds; what is left then waits for the next pass. */
#define LOOP_FLUSH_ROUNDS 4

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
			if (WEIR_LIKELY(conn->state != WEIRI_CONN_CLOSING)) {
				backend->conn_send(conn);
				weiri_conn_settle(conn);
			}
			conn = next;
		}
	}
}

void
weiri_loop_refill(struct weir_loop *loop)
{
	loop->reserve = weiri_net_buffer(loop->net, WEIR_NET_BUFFER_BYTES_MAX);
	loop->lent = loop->reserve == NULL;
}

/* One connection of the queue; false when there is no memory for it. */
static bool
loop_feed_one(struct weir_loop *loop, struct weir_conn *conn)
{
	if (loop->backend->conn_feed(conn))
		return true;
	if (loop->sending != NULL) {
		weiri_loop_flush(loop);
		if (!(conn->flags & WEIRI_CONN_STARVED))
			return true; /* ended in the flush */
		if (loop->backend->conn_feed(conn))
			return true;
	}
	if (loop->reserve == NULL)
		return false;
	loop->lending = true;
	bool fed = loop->backend->conn_feed(conn);
	loop->lending = false;
	return fed;
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
		if (!loop_feed_one(loop, conn))
			break;
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

/* ---- stalls and idleness --------------------------------------------- */

/* The longest in the queue for buffers that itself holds some. */
static struct weir_conn *
loop_starved_holder(struct weir_loop *loop)
{
	WEIRI_LIST_FOR(node, &loop->starved)
	{
		struct weir_conn *conn =
		    WEIRI_CONTAINER_OF(node, struct weir_conn, waiting);
		if (conn->need > 0 || conn->ops != NULL)
			return conn;
	}
	return NULL;
}

/* Who has held memory longest without moving enough bytes in a period.  The
 * others found on the way have earned another. */
static struct weir_conn *
loop_slow_holder(struct weir_loop *loop)
{
	const struct weir_net *net = loop->net;

	while (!weiri_list_empty(&loop->held)) {
		struct weir_conn *conn =
		    WEIRI_CONTAINER_OF(loop->held.next, struct weir_conn, held);
		if (loop->now_ns - conn->held_ns < net->hold_ns)
			return NULL;
		if (conn->held_moved < net->config.hold_bytes)
			return conn;
		weiri_conn_hold_anew(conn);
	}
	return NULL;
}

/*
 * Who made no progress for a short time although nothing kept it from that; or,
 * when all who hold memory wait for more and nobody got on for that time, the
 * first of those.
 */
static struct weir_conn *
loop_stalled(struct weir_loop *loop)
{
	if (!weiri_list_empty(&loop->holding)) {
		struct weir_conn *oldest = WEIRI_CONTAINER_OF(
		    loop->holding.next, struct weir_conn, holding);
		bool stalled = loop->now_ns - oldest->progress_ns >=
			       LOOP_STALL_PRESSURE_NS;
		return stalled ? oldest : NULL;
	}
	if (!weiri_list_empty(&loop->starved) &&
	    loop->now_ns - loop->moved_ns >= LOOP_STALL_PRESSURE_NS)
		return loop_starved_holder(loop);
	return NULL;
}

/* Somebody has to give way; false: nobody deserves it. */
static bool
loop_shed(struct weir_loop *loop)
{
	enum weir_close_reason reason = WEIR_CLOSE_STALLED;
	struct weir_conn *victim;

	weiri_loop_flush(loop); /* who just got done holds nothing more */
	victim = loop_stalled(loop);
	if (victim == NULL) {
		victim = loop_slow_holder(loop);
		reason = WEIR_CLOSE_SLOW;
	}
	if (victim != NULL)
		weir_conn_abort(victim, reason);
	return victim != NULL;
}

static void
loop_stall_tick(struct weir_loop *loop, struct weir_timer *timer)
{
	struct weir_net *net = loop->net;
	uint64_t delay_ns = weiri_min(net->stall_ns, LOOP_STALL_TICK_NS);

	while (!weiri_list_empty(&loop->holding)) {
		struct weir_conn *conn = WEIRI_CONTAINER_OF(
		    loop->holding.next, struct weir_conn, holding);
		if (loop->now_ns - conn->progress_ns < net->stall_ns)
			break;
		weir_conn_abort(conn, WEIR_CLOSE_STALLED);
	}
	if (__atomic_load_n(&net->starving, __ATOMIC_RELAXED) > 0) {
		/* One at a time: it may have been enough. */
		if (loop_shed(loop))
			delay_ns = LOOP_SHED_NS;
	}
	if (!weiri_list_empty(&loop->holding) ||
	    !weiri_list_empty(&loop->starved))
		weir_timer_start(loop, timer, delay_ns);
}

void
weiri_loop_watch_memory(struct weir_loop *loop)
{
	if (loop->stall_timer.due_ns == 0)
		weir_timer_start(loop, &loop->stall_timer,
		    weiri_min(loop->net->stall_ns, LOOP_STALL_TICK_NS));
}

static void
loop_idle_tick(struct weir_loop *loop, struct weir_timer *timer)
{
	uint64_t idle_ns = loop->net->idle_ns;

	WEIRI_LIST_FOR(node, &loop->conns)
	{
		struct weir_conn *conn =
		    WEIRI_CONTAINER_OF(node, struct weir_conn, member);
		/* Who waits for memory is not asked to send. */
		if (conn->state == WEIRI_CONN_OPEN && conn->ops == NULL &&
		    !(conn->flags & WEIRI_CONN_STARVED) &&
		    loop->now_ns - conn->received_ns >= idle_ns)
			weir_conn_close(conn, WEIR_CLOSE_IDLE);
	}
	weir_timer_start(loop, timer, idle_ns / 4 + WEIRI_MS);
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

	if (loop->sending != NULL)
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
	if (WEIR_UNLIKELY(!weiri_list_empty(&loop->closing)))
		loop_reap(loop);
	if (WEIR_UNLIKELY(!weiri_list_empty(&loop->starved))) {
		loop_feed(loop);
		loop_reap(loop);
	}
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
	loop_pass_end(loop); /* what was asked for before it ran */
	while (!loop->stopping || !weiri_list_empty(&loop->conns) ||
	       !loop->backend->quiet(loop)) {
		error = loop->backend->wait(loop, loop_timeout_ns(loop));
		if (WEIR_UNLIKELY(error != 0))
			break;
		loop_pass_end(loop);
	}
	if (error != 0)
		loop_clear(loop);
	loop->running = false;
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
	    .stall_timer = {.expired = loop_stall_tick},
	    .linger_timer = {.expired = weiri_linger_tick},
	    .idle_timer = {.expired = loop_idle_tick},
	    .grace_timer = {.expired = loop_grace_over},
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
	weiri_list_init(&loop->link);
	error = loop_start(loop);
	if (error != 0) {
		loop_free(loop);
		return error;
	}
	if (net->idle_ns != 0)
		weir_timer_start(loop, &loop->idle_timer, net->idle_ns);
	weiri_mutex_lock(&net->lock);
	weiri_list_append(&net->loops, &loop->link);
	weiri_mutex_unlock(&net->lock);
	*out = loop;
	return 0;
}

void
weir_loop_destroy(struct weir_loop *loop)
{
	if (loop == NULL)
		return;
	/* Tasks and on_close may post. */
	do {
		loop_tasks(loop);
		loop_clear(loop);
	} while (WEIRI_LOAD(&loop->tasks) != NULL);
	weiri_net_retire(loop);
	WEIRI_LIST_FOR_SAFE(node, &loop->listeners)
	{
		free(WEIRI_CONTAINER_OF(node, struct weir_listener, link));
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
	return bytes <= WEIR_NET_BUFFER_BYTES_MAX
		   ? weiri_net_buffer(loop->net, bytes)
		   : NULL;
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
