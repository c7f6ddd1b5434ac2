/* SPDX-License-Identifier: MIT */
/*
 * engine.h - what the files of the engine share.
 *
 *   net.c      engines: configuration, memory, figures
 *   loop.c     the pass of a loop, tasks, stopping, stalls
 *   patience.c how long a connection may keep what it has
 *   maintain.c idle memory goes back
 *   preset.c   configurations for some sizes of servers
 *   conn.c     a connection's bytes: in, handed on, out
 *   room.c     where the next of them go
 *   tail.c     what one holds whose peer does not read
 *   view.c     parts of a buffer that is still being filled
 *   turn.c     the order of those who wait for buffers
 *   payer.c    accounts: who pays for what is held
 *   channel.c  messages to many connections
 *   close.c    the ways a connection ends
 *   listen.c   listeners and accepting
 *   timer.c    a heap of timers
 *   peers.c    how many connections each address has
 *   spare.c    the descriptor kept to turn connections away with
 *   socket.c   what back ends of Linux do in the same way
 *   epoll.c    a back end (backend.h)
 *   uring.c    another, with uring_conn.c (a connection), uring_stash.c,
 *              uring_send.c (the sends of a pass),
 *              uring_direct.c (sockets without a descriptor),
 *              uring_zero.c (sends without a copy), uring_left.c (those that
 *              outlive their connection, or the ring), over ring.c (one
 *              io_uring), supply.c (buffers the kernel picks from),
 *              ring_probe.c (what is there?)
 */
#ifndef WEIRI_ENGINE_H
#define WEIRI_ENGINE_H

#include "base/list.h"
#include "net/peers.h"
#include "net/spare.h"
#include "os/os.h"

#include <weir/account.h>
#include <weir/cache.h>
#include <weir/net.h>

#include <sys/types.h>

#define WEIRI_MS UINT64_C(1000000) /* nanoseconds */

struct weiri_backend;
struct channel_part;

/* First byte of everything a back end is told to watch. */
enum weiri_handle {
	WEIRI_HANDLE_CONN = 0,
	WEIRI_HANDLE_LISTENER = 1,
	WEIRI_HANDLE_WAKE = 2,
};

/* ---- counters -------------------------------------------------------- */

/* Words of weir_net_figures by their names: one writer, the loop; readers
 * sum. */
#define WEIRI_NET_COUNTERS(X) \
	X(connections)        \
	X(accepted)           \
	X(refused)            \
	X(no_descriptor)      \
	X(accept_pauses)      \
	X(receives)           \
	X(bytes_received)     \
	X(sends)              \
	X(bytes_sent)         \
	X(operations)         \
	X(starved)            \
	X(starved_now)        \
	X(quota_pauses)       \
	X(listeners_lost)     \
	X(throttled)          \
	X(throttled_now)      \
	X(closed_holding)     \
	X(zero_copies)        \
	X(zero_copies_copied) \
	X(zero_copies_reset)  \
	X(buffers_lost)

struct weiri_net_counters {
#define WEIRI_NET_COUNTER(name) uint64_t name;
	WEIRI_NET_COUNTERS(WEIRI_NET_COUNTER)
#undef WEIRI_NET_COUNTER
	uint64_t closed[WEIR_CLOSE_REASON_COUNT];
};

#define WEIRI_COUNT(loop, name, amount) \
	WEIRI_BUMP(&(loop)->counters.name, (uint64_t)(amount))

/* ---- sends ----------------------------------------------------------- */

#define WEIRI_OP_SLICES 2 /* header and payload; 56 bytes stay in one line */

/* Part of a send; the last part reports. */
struct weiri_op {
	struct weiri_op *next;
	void *context;
	uint16_t count;
	uint16_t done;
	bool reports;
	bool exact; /* its buffers are as small as can be (tail.c) */
	struct weir_slice slice[WEIRI_OP_SLICES];
};

static_assert(sizeof(struct weiri_op) <= WEIRI_CACHE_LINE, "one line per send");

/* ---- connections ----------------------------------------------------- */

enum weiri_conn_state {
	WEIRI_CONN_OPEN = 0,
	WEIRI_CONN_FLUSHING = 1, /* receives no more, closes when all is sent */
	WEIRI_CONN_LINGERING = 2, /* all sent; on loop->lingering */
	WEIRI_CONN_CLOSING = 3,   /* on loop->closing; only the reaper acts */
};

enum weiri_conn_flags {
	WEIRI_CONN_SENDING = 1 << 0, /* on loop->sending */
	WEIRI_CONN_HOLDING = 1 << 1, /* on loop->holding */
	WEIRI_CONN_STARVED = 1 << 2, /* on loop->starved */
	WEIRI_CONN_PAUSED = 1 << 3,  /* receives when more is sent */
	WEIRI_CONN_ABORT = 1 << 4,   /* ends by reset */
	WEIRI_CONN_ENDED = 1 << 5,   /* the peer sends no more */
	WEIRI_CONN_HELD = 1 << 6,    /* on loop->held */
	WEIRI_CONN_CHARGED = 1 << 7, /* a payer follows (payer.h) */
};

struct weir_conn {
	/* All that an echo of one receive needs lies in the first line. */
	uint8_t handle; /* WEIRI_HANDLE_CONN */
	uint8_t state;
	uint8_t interest; /* the back end's */
	uint8_t flags;
	int fd;
	uint32_t hint;   /* size of the next receive */
	uint32_t need;   /* on_data waits for so many bytes; 0: any */
	uint64_t charge; /* bytes of the buffers in ops, not of the slices, and
			    of those in sends that are awaited */
	struct weir_loop *loop;
	struct weiri_op *ops; /* unsent, oldest first */
	struct weiri_op *ops_last;
	const struct weir_handlers *handlers;
	struct weir_conn *next_sending;

	struct weir_slice carry; /* handed back; valid if need > 0 */
	void *user;
	uint64_t received_ns; /* for idle_ms, and while it lingers */
	union {
		uint32_t progress_ms; /* joined loop->holding: what it holds
					 moved */
		uint32_t turn;        /* STARVED: its number (turn.c) */
	};
	uint32_t packet_ms;     /* the packet of its carry began */
	uint32_t held_ms;       /* joined loop->held: a period of hold_ms began;
				 or, while it lingers, when that began */
	uint32_t channel;       /* channel.c's: what it is a member of, or 0 */
	struct weiri_op *stash; /* the back end's: came while it could not be
				   handed on; oldest first, unsent slices */
	uint32_t held_moved;    /* bytes since held_ms, or more than fit */
	uint32_t reason : 5;    /* enum weir_close_reason */
	uint32_t awaited : 3;   /* sends whose buffers are still read, or
				   WEIRI_AWAITED_NEVER */
	uint32_t peer : 24;     /* weiri_peers_enter(), or 0 */
	struct weiri_list member;  /* loop->conns */
	struct weiri_list holding; /* loop->holding, lingering or closing */
	struct weiri_list held;    /* loop->held */
	struct weiri_list waiting; /* loop->starved */
};

static_assert(offsetof(struct weir_conn, carry) == WEIRI_CACHE_LINE,
    "the fast path touches one line of a connection");
static_assert(sizeof(struct weir_conn) <= (size_t)3 * WEIRI_CACHE_LINE,
    "three lines a connection");

#define WEIRI_REASON_MASK 31u /* of conn->reason */
static_assert(WEIR_CLOSE_REASON_COUNT <= WEIRI_REASON_MASK + 1, "it fits");

#define WEIRI_AWAITED_MAX 6u
#define WEIRI_AWAITED_NEVER 7u /* there is to be none */

/* Does the system still read what it has sent? */
WEIRI_INLINE bool
weiri_conn_awaits(const struct weir_conn *conn)
{
	return conn->awaited - 1u < WEIRI_AWAITED_MAX;
}

struct weir_listener {
	uint8_t handle; /* WEIRI_HANDLE_LISTENER */
	bool accepting;
	uint16_t port;
	int fd;
	struct weir_loop *loop;
	struct weir_handlers handlers;
	struct weir_timer resume;    /* after a pause */
	struct weiri_list link;      /* loop->listeners */
	struct weir_account account; /* if the engine keeps accounts */
};

/* ---- loops and engines ----------------------------------------------- */

struct weir_loop {
	struct weir_net *net;
	const struct weiri_backend *backend;
	struct weir_conn *sending;   /* newest first: its bytes are warmest */
	struct weir_buffer *reserve; /* for the head of starved */
	uint64_t now_ns;
	struct weiri_net_counters counters;

	struct weiri_list conns;
	struct weiri_list closing;   /* reaped at the end of the pass */
	struct weiri_list lingering; /* sent all; the peer may not have it */
	struct weiri_list holding;   /* holds memory; least progress first */
	struct weiri_list held;      /* the same; oldest period first */
	struct weiri_list starved;   /* waiting for a buffer; oldest first */
	struct weiri_list listeners;
	struct weiri_list throttled; /* payers: stopped by an account; oldest
					first */
	struct weiri_list condemned; /* payers: to be ended; net->lock */
	struct channel_part **parts; /* by number of the channel */
	uint32_t parts_count;
	struct weir_timer *timers;
	struct weir_timer stall_timer;
	struct weir_timer linger_timer;
	struct weir_timer idle_timer;
	struct weir_timer packet_timer;
	struct weir_timer grace_timer;
	struct weir_timer account_timer;
	struct weir_timer maintain_timer;
	uint64_t let_go_ns;   /* one of throttled last got on */
	uint64_t moved_ns;    /* a holder or waiter last got on */
	uint64_t behind_ns;   /* of turn.c: waits so long for a loop whose */
	uint32_t behind_turn; /* first has this number */
	uint64_t message_ns;  /* when a warning was last written */
	uint64_t traffic;     /* of maintain.c: all there was until ... */
	uint64_t traffic_ns;  /* ... the tick at which it had last grown */
	bool stopping;
	bool running;   /* now_ns is kept up */
	bool lending;   /* weiri_conn_room() may take the reserve */
	bool lent;      /* and has: the next free memory replaces it */
	bool borrowing; /* while lending: the reserve or nothing */
	bool careful;   /* lent, borrowing, or somebody pays for each buffer */

	int poll_fd;              /* the back end's */
	WEIRI_ALIGNED(8) struct { /* low bits are the back end's */
		uint8_t handle;   /* WEIRI_HANDLE_WAKE */
		int fd;
	} wake;
	void *events; /* the back end's, net->config.batch of them */

	/* Written by other threads. */
	WEIRI_ALIGNED(WEIRI_CACHE_LINE) struct weir_task *tasks;
	uint64_t stop_request;  /* 0: none, else grace in ms + 1 */
	bool room;              /* look at throttled and condemned */
	bool called;            /* to come for its turn */
	uint64_t first_turn;    /* the loop's, for others: of starved */
	struct weiri_list link; /* net->loops */
};

struct weir_net {
	struct weir_net_config config; /* defaults filled in */
	struct weir_net_memory memory;
	const struct weiri_backend *backend;
	uint32_t features; /* in use: enum weir_net_feature */
	uint64_t stall_ns, hold_ns, idle_ns, packet_ns;

	/* weir's pools, unless the program brought its own memory. */
	struct weir_buffer_pool *buffers;
	struct weir_cache *objects[WEIR_NET_OBJECT_COUNT];
	struct weir_cache *views; /* view.c: with WEIR_NET_INCREMENTAL */

	bool accounting;             /* each connection has a payer */
	size_t conn_bytes;           /* of its object */
	struct weir_account account; /* of all */

	struct weiri_mutex lock; /* loops, retired, ended, listeners_ended */
	struct weiri_list loops;
	struct weiri_list ended; /* payers whose connection is no more */
	uint32_t ended_count;
	struct weiri_list listeners_ended; /* which those are below */
	uint64_t loop_count; /* of the list; loops read it without the lock */
	struct weiri_net_counters retired; /* of destroyed loops */
	struct weiri_spare spare;
	struct weiri_peers peers; /* used if there is a limit for each */

	uint8_t channels[512]; /* bit n: number n + 1 is taken */
	bool lossy;            /* buffers_lost > 0 */

	WEIRI_ALIGNED(WEIRI_CACHE_LINE) uint64_t connections; /* atomic */
	uint64_t starving; /* atomic: waiting connections of all loops */
	uint32_t turn;     /* atomic: the last number given */
};

/* ---- memory ---------------------------------------------------------- */

WEIRI_INLINE struct weir_buffer *
weiri_net_buffer(struct weir_net *net, size_t bytes)
{
	return net->memory.buffer_acquire(bytes, net->memory.context);
}

WEIRI_INLINE void *
weiri_net_object(struct weir_net *net, enum weir_net_object kind, size_t bytes)
{
	return net->memory.object_alloc(kind, bytes, net->memory.context);
}

WEIRI_INLINE void
weiri_net_object_free(
    struct weir_net *net, enum weir_net_object kind, void *object)
{
	net->memory.object_free(kind, object, net->memory.context);
}

/* ---- time in milliseconds -------------------------------------------- */

/* For what is kept with each connection; it wraps after 49 days, so that times
 * are compared by their distance only. */
WEIRI_INLINE uint32_t
weiri_loop_now_ms(const struct weir_loop *loop)
{
	return (uint32_t)(loop->now_ns / WEIRI_MS);
}

WEIRI_INLINE uint32_t
weiri_loop_since_ms(const struct weir_loop *loop, uint32_t then_ms)
{
	return weiri_loop_now_ms(loop) - then_ms;
}

WEIRI_INLINE uint64_t
weiri_loop_since_ns(const struct weir_loop *loop, uint32_t then_ms)
{
	return weiri_loop_since_ms(loop, then_ms) * WEIRI_MS;
}

/* Takes a loop off the list and keeps its figures. */
void weiri_net_retire(struct weir_loop *loop);

/* After that: of the loop's buffers, @count stay the system's for good. */
void weiri_net_lose(struct weir_loop *loop, uint64_t count);

/* ---- loop.c ---------------------------------------------------------- */

/* Replaces the reserve if there is memory for it. */
void weiri_loop_refill(struct weir_loop *loop);

/* For what belongs to no connection: the reserve comes first, and the engine's
 * account pays. */
struct weir_buffer *weiri_loop_acquire_careful(
    struct weir_loop *loop, size_t bytes);

WEIRI_INLINE struct weir_buffer *
weiri_loop_acquire(struct weir_loop *loop, size_t bytes)
{
	if (WEIR_UNLIKELY(loop->careful))
		return weiri_loop_acquire_careful(loop, bytes);
	return weiri_net_buffer(loop->net, bytes);
}

/* The loop that the calling thread runs, or NULL. */
const struct weir_loop *weiri_loop_here(void);

/* Sends everything queued so far; buffers come back. */
void weiri_loop_flush(struct weir_loop *loop);

/* A warning, at most one a second and loop: "<what>: <count> so far". */
void weiri_loop_warn(struct weir_loop *loop, const char *what, uint64_t count);

/* ---- turn.c ------------------------------------------------------------ */

/* A number for one that begins to wait. */
uint32_t weiri_turn_take(struct weir_net *net);

/* loop->starved has changed. */
void weiri_turn_note(struct weir_loop *loop);

/* Is the first of loop->starved the first of all? */
bool weiri_turn_is_ours(struct weir_loop *loop);

/* Buffers may have come back: wakes the loop whose turn it is. */
void weiri_turn_call(struct weir_loop *loop);

/* Does anybody wait for a buffer? */
WEIRI_INLINE bool
weiri_net_is_short(const struct weir_loop *loop)
{
	return WEIRI_LOAD(&loop->net->starving) > 0;
}

/* ---- maintain.c ------------------------------------------------------ */

/* Of loop->maintain_timer. */
void weiri_maintain_tick(struct weir_loop *loop, struct weir_timer *timer);

/* The timer does not run: has there been traffic? */
void weiri_maintain_wake(struct weir_loop *loop);

/* ---- patience.c ------------------------------------------------------ */

/* Somebody holds memory or waits for it: starts the stall timer. */
void weiri_loop_watch_memory(struct weir_loop *loop);

/* As long one may hold memory, as things are, of which not a byte moves. */
uint64_t weiri_patience_ns(const struct weir_loop *loop);

/* Of the loop's timers: end those who have had their time. */
void weiri_stall_tick(struct weir_loop *loop, struct weir_timer *timer);
void weiri_idle_tick(struct weir_loop *loop, struct weir_timer *timer);
void weiri_packet_tick(struct weir_loop *loop, struct weir_timer *timer);

/* ---- room.c ------------------------------------------------------------ */

#define WEIRI_HINT_STEP 4 /* 2K, 8K, 32K, 64K: the tiers of a buffer pool */

/*
 * Where the next bytes go: a buffer, the offset in it and the room behind; or
 * NULL when there is no memory, and the connection should wait.
 */
struct weir_buffer *weiri_conn_room(
    struct weir_conn *conn, uint32_t *offset, uint32_t *room);

/* True when the rest of a carry's packet needs no further buffer. */
bool weiri_conn_has_room(const struct weir_conn *conn);

/* Copies the carry into @to, and keeps it there; false without one. */
bool weiri_conn_move_carry(struct weir_conn *conn, struct weir_buffer *to);

/* A buffer that the connection's account pays for if it has one; NULL: no room
 * or no memory. */
struct weir_buffer *weiri_conn_acquire(
    struct weir_conn *conn, size_t bytes, bool sending);

/* ---- conn.c: called by close.c, loop.c and back ends ----------------- */

/* @result bytes arrived there, 0: end of stream, < 0: -errno. */
void weiri_conn_received(struct weir_conn *conn, struct weir_buffer *buffer,
    uint32_t offset, uint32_t room, ssize_t result);

/* The next @bytes of the queue are with the system. */
void weiri_conn_sent(struct weir_conn *conn, size_t bytes);

/* The system goes on reading @bytes of buffers that were sent; conn->awaited
 * counts that already.  And it has ended that, which says that the peer's has
 * @moved bytes more than was known. */
void weiri_conn_await(struct weir_conn *conn, uint64_t bytes);
void weiri_conn_awaited(struct weir_conn *conn, uint64_t bytes, uint64_t moved);

/* After a try to send: what the outcome means for receiving and closing. */
void weiri_conn_settle(struct weir_conn *conn);

/* It holds memory between passes: on the lists of those that do. */
void weiri_conn_hold(struct weir_conn *conn);

/* Queues a slice without a report, and takes its reference; false: closing, or
 * aborted for want of memory. */
bool weiri_conn_append(struct weir_conn *conn, struct weir_slice slice);

/* Off the lists of those that hold memory, or linger. */
void weiri_conn_unhold(struct weir_conn *conn);

/* @bytes of what it holds moved, or some, 0. */
void weiri_conn_moved(struct weir_conn *conn, uint64_t bytes);

/* Still holding, and a new period of hold_ms begins. */
void weiri_conn_hold_anew(struct weir_conn *conn);

/* Gives up all that is queued; on_sent is told -ECANCELED. */
void weiri_conn_cancel(struct weir_conn *conn);

/* Joins the queue for buffers, or waits for its own sends; and leaves it. */
void weiri_conn_starve(struct weir_conn *conn);
void weiri_conn_unstarve(struct weir_conn *conn);

/* Receives no more for now; and again, unless its own sends are in the way. */
void weiri_conn_pause(struct weir_conn *conn);
void weiri_conn_go_on(struct weir_conn *conn);

/* Puts the connection on the list of those to send for. */
void weiri_conn_queue(struct weir_conn *conn);

/* ---- tail.c ---------------------------------------------------------- */

/* Copies unsent bytes out of buffers larger than they need. */
void weiri_tail_detach(struct weir_conn *conn);

/* Those in shared buffers at once. */
void weiri_tail_unshare(struct weir_conn *conn);

/* Those of all tails that have not moved for a while. */
void weiri_tails_rest(struct weir_loop *loop);

/* ---- close.c --------------------------------------------------------- */

void weiri_conn_failed(struct weir_conn *conn, int error); /* -errno */

/* All is sent: ends the stream, and the connection once the peer has it. */
void weiri_conn_linger(struct weir_conn *conn, enum weir_close_reason reason);

/* A lingering connection: bytes were thrown away; it has waited enough. */
void weiri_conn_discarded(struct weir_conn *conn);
void weiri_conn_linger_over(struct weir_conn *conn);

/* Of loop->linger_timer: ends those who have waited enough. */
void weiri_linger_tick(struct weir_loop *loop, struct weir_timer *timer);

/* Frees a connection on loop->closing, or leaves it to weiri_conn_stopped(). */
void weiri_conn_reap(struct weir_conn *conn);

/* The system has let go of a connection whose conn_stop said not yet. */
void weiri_conn_stopped(struct weir_conn *conn);

/* ---- listen.c -------------------------------------------------------- */

/* A back end has a new socket for @listener. */
void weiri_listener_accepted(struct weir_listener *listener, int fd);

/* The system closed one that it had no descriptor for. */
void weiri_listener_lost_one(struct weir_listener *listener);

/* Accepting failed with -errno; true: try again at once.  May close it. */
bool weiri_listener_failed(struct weir_listener *listener, int error);

/* Accepts no more for a moment, and warns of @what. */
void weiri_listener_pause(struct weir_listener *listener, const char *what);

/* Closes the socket; the object stays for its connections' handlers. */
void weiri_listener_close(struct weir_listener *listener);

/* ---- socket.c -------------------------------------------------------- */

/* Closes a socket so that the peer sees a reset. */
void weiri_socket_reset(int fd);

/* ---- timer.c --------------------------------------------------------- */

/* Runs what is due at loop->now_ns. */
void weiri_timers_run(struct weir_loop *loop);

#endif /* WEIRI_ENGINE_H */
