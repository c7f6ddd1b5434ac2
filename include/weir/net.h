/* SPDX-License-Identifier: MIT */
/*
 * net.h - connections served from pools, in completion style.
 *
 * An engine (weir_net) holds limits and memory; loops, one per thread, serve
 * connections; a listener on a loop feeds it.  The program supplies handlers
 * and is told what has happened: bytes arrived in a buffer, a send is done, a
 * connection ended.  It never asks whether a socket is ready, so the same
 * program runs on readiness (epoll) and on completion (io_uring, IOCP).
 *
 *     listener --on_accept--> conn --on_data(slice)--> handler
 *                              ^                          |
 *                              +--- weir_conn_send(slices) ---> on_sent
 *
 * Slices move: on_data gives the handler one reference, weir_conn_send() takes
 * one from it.  An echo copies nothing and touches no count.
 *
 * Memory follows the load: a connection holds a buffer only between the
 * arrival of bytes and the end of their way.  One whose peer does not read is
 * no longer read from once it pins send_quota_bytes; one that finds no buffer
 * waits its turn in one queue; one that holds memory without any
 * progress is closed after stall_ms.  While others wait for memory, half a
 * second without progress is enough, and so is a period of hold_ms in which a
 * connection held memory without a break and moved fewer than hold_bytes: a
 * client that drips bytes to look alive keeps its memory no longer than that.
 * What a closed one gives back goes to the head of the queue.  A crowd that
 * comes first still has its turns first, so whoever serves strangers limits
 * the connections of each (address_max).
 *
 * Memory that is idle goes back to the system by itself: loops call weir_maintain()
 * (weir/net_config.h).
 *
 * With accounts (weir_net_config.accounting and its limits) each connection pays
 * for the buffers it received until their last release, whoever holds them, and
 * so do its listener and the engine, none above its limit by a byte.  Near a
 * limit connections stop receiving; at it requests fail; when that does not help
 * within half a second, who holds most is closed.
 *
 * Loops and engines must not be used in the child of a fork, nor destroyed
 * there: it shares the parent's sockets and its epoll instance.  A child that
 * lives on without exec keeps the sockets it inherited open.
 *
 * Everything about a loop and its connections happens on the thread that runs
 * it, except weir_loop_post() and weir_loop_stop().
 */
#ifndef WEIR_NET_H
#define WEIR_NET_H

#include <weir/account.h>
#include <weir/buffer.h>
#include <weir/net_config.h>

WEIR_BEGIN_DECLS

struct weir_net;
struct weir_loop;
struct weir_listener;
struct weir_conn;

/* ---- the program's side ---------------------------------------------- */

/** Why a connection ended: name, text. */
#define WEIR_CLOSE_REASONS(X)                          \
	X(PEER, "peer closed")                         \
	X(RESET, "reset by peer")                      \
	X(LOCAL, "closed by the handler")              \
	X(MALFORMED, "malformed input")                \
	X(STALLED, "held memory without progress")     \
	X(IDLE, "idle too long")                       \
	X(NO_MEMORY, "no memory for a send or object") \
	X(STOPPED, "loop stopped")                     \
	X(ERROR, "socket error")                       \
	X(SLOW, "held memory too long for its bytes")  \
	X(PACKET, "packet not complete in time")       \
	X(LARGEST, "held most of a full account")      \
	X(BEHIND, "too far behind its channel")

enum weir_close_reason {
#define WEIR_CLOSE_ENUM(name, text) WEIR_CLOSE_##name,
	WEIR_CLOSE_REASONS(WEIR_CLOSE_ENUM)
#undef WEIR_CLOSE_ENUM
	    WEIR_CLOSE_REASON_COUNT
};

/**
 * struct weir_handlers - what a listener calls; on_data is required.
 *
 * on_accept: a new connection; before anything else on it.
 * on_data:   bytes of the stream, in order.  The slice's reference is the
 *            handler's: send it, keep it, or release it.
 * on_sent:   once for each weir_conn_send() that returned 0, in order, with
 *            its context; status is 0 or -ECANCELED.  The slices are released,
 *            but what went without a copy the system may still read: see
 *            weir_net_config.zero_copy_bytes.
 * on_close:  the last call for this connection; it is stale afterwards.
 *
 * A handler may call anything here on any connection of its loop.
 */
struct weir_handlers {
	void (*on_accept)(struct weir_conn *conn);
	void (*on_data)(struct weir_conn *conn, struct weir_slice slice);
	void (*on_sent)(struct weir_conn *conn, void *context, int status);
	void (*on_close)(struct weir_conn *conn, enum weir_close_reason reason);
	void *context; /* the program's: weir_conn_context() */
};

/* ---- the engine ------------------------------------------------------ */

#define WEIR_NET_STATS_VERSION 1u

/** struct weir_net_figures - all loops of an engine together. */
struct weir_net_figures {
	uint32_t size;        /* bytes of this struct, set by the reader */
	uint32_t version;     /* WEIR_NET_STATS_VERSION, set by the library */
	uint64_t connections; /* open now */
	uint64_t accepted;
	uint64_t refused;       /* reset at once: connections_max or
				   address_max reached, no memory for the
				   object, or not watchable */
	uint64_t no_descriptor; /* reset at once: none left for them */
	uint64_t accept_pauses; /* accepting stopped for a moment */
	uint64_t receives;
	uint64_t bytes_received;
	uint64_t sends; /* calls that wrote */
	uint64_t bytes_sent;
	uint64_t operations;     /* sends on their way now */
	uint64_t starved;        /* receives put off for want of a buffer, or
				  behind others that wait for one */
	uint64_t starved_now;    /* connections waiting now */
	uint64_t quota_pauses;   /* receiving stopped: the peer does not read */
	uint64_t listeners_lost; /* accepting ended: the socket is no more */
	uint64_t throttled;      /* receiving stopped: an account is full */
	uint64_t throttled_now;  /* connections stopped so */
	uint64_t closed_holding; /* ended, and somebody still held what they
				    had received */
	uint64_t account_bytes;  /* pinned now, if accounts are kept */
	uint64_t account_bytes_peak;
	uint64_t closed[WEIR_CLOSE_REASON_COUNT + 4];
	uint64_t zero_copies;        /* sends read from their buffers ... */
	uint64_t zero_copies_copied; /* ... and those the system copied in the
					end, as it says */
	uint64_t zero_copies_reset;  /* ended connections whose peer did not
					take what was left of them in time */
	uint64_t buffers_lost;       /* the system's for good, with an io_uring
					that failed; never reused */
};

/**
 * weir_net_create() - make an engine.
 * @config: copied; NULL for defaults.
 * @out:    receives the engine, NULL on failure.
 *
 * Returns:   0; -EINVAL (a field out of range, a reserved field set, a feature
 *            without a name, a hook of the memory missing, or a limit or an
 *            account for memory that is not weir's);
 *            -ENOSYS or what the system says (-EPERM) when the back end asked
 *            for does not work here; -ENOMEM.
 * Ownership: the caller's until weir_net_destroy().
 * Threads:   any thread.
 * Cost:      makes a buffer pool and two caches, preallocated as asked.
 * Errors:    on failure nothing is kept.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_net_create(
    const struct weir_net_config *config, struct weir_net **out) WEIR_NOEXCEPT;

/**
 * weir_net_backend() - the name of the back end in use.
 * @net: a live engine.
 *
 * Returns:   "epoll" or "io_uring".
 * Ownership: a constant.
 * Threads:   any thread.
 * Cost:      a load.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API const char *weir_net_backend(const struct weir_net *net) WEIR_NOEXCEPT;

/**
 * weir_net_features() - what the back end uses of its system.
 * @net: a live engine.
 *
 * Returns:   a set of enum weir_net_feature; 0 over epoll.
 * Ownership: none.
 * Threads:   any thread.
 * Cost:      a load.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API uint32_t weir_net_features(const struct weir_net *net) WEIR_NOEXCEPT;

/**
 * weir_net_stats() - read the figures of all loops.
 * @net: a live engine.
 * @out: filled whole; set out->size to sizeof(*out) first.
 *
 * Returns:   0, or -EINVAL when out->size is none this library knows.
 * Ownership: copies into the caller's storage.
 * Threads:   any thread; exact when the loops are quiet.
 * Cost:      linear in the loops; takes the engine's lock, no allocation.
 * Errors:    none beside the return value.
 * Since:     0.1
 */
WEIR_API int weir_net_stats(struct weir_net *net, struct weir_net_figures *out)
    WEIR_NOEXCEPT;

/**
 * weir_net_account() - what all connections of an engine pay into.
 * @net: a live engine.
 *
 * Returns:   the account, or NULL if the engine keeps none.
 * Ownership: the engine's; a program's account may be below it (a tenant's, see
 *            struct weir_listen_config) until weir_net_destroy().
 * Threads:   any thread.
 * Cost:      a load.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API struct weir_account *weir_net_account(struct weir_net *net)
    WEIR_NOEXCEPT;

/**
 * weir_close_reason_text() - words for a reason.
 * @reason: an enum weir_close_reason.
 *
 * Returns:   a constant text; "unknown" outside the enum.
 * Ownership: a constant.
 * Threads:   any thread.
 * Cost:      a table.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API const char *weir_close_reason_text(enum weir_close_reason reason)
    WEIR_NOEXCEPT;

/**
 * weir_net_destroy() - end an engine.
 * @net: an engine whose loops are destroyed and buffers back, or NULL.
 *
 * Ownership: the pools are destroyed.
 * Threads:   one thread, after every other use.
 * Cost:      that of destroying the pools.
 * Errors:    buffers a handler still holds are faults of the pool.  With
 *            buffers_lost the pool stays, for good.
 * Since:     0.1
 */
WEIR_API void weir_net_destroy(struct weir_net *net) WEIR_NOEXCEPT;

/* ---- loops ----------------------------------------------------------- */

/**
 * weir_loop_create() - make a loop; a thread of the caller's will run it.
 * @net: its engine; it must outlive the loop.
 * @out: receives the loop, NULL on failure.
 *
 * Returns:   0; -EMFILE, -ENFILE; -ENOMEM, also when buffer_limit_bytes has no
 *            room for another loop's reserve; -EAGAIN: no thread for an
 *            io_uring to be made on.
 * Ownership: the caller's until weir_loop_destroy().
 * Threads:   any thread; the loop belongs to none until it runs.
 * Cost:      two descriptors and a few allocations; over io_uring also a
 *            thread that ends before this returns.
 * Errors:    on failure nothing is kept.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_loop_create(
    struct weir_net *net, struct weir_loop **out) WEIR_NOEXCEPT;

/**
 * weir_loop_run() - serve until stopped.
 * @loop: a loop no other thread runs.
 *
 * Returns:   0 after weir_loop_stop(), when every connection has ended;
 *            -errno when the system takes the back end away.
 * Ownership: the calling thread is the loop's until this returns.
 * Threads:   one thread at a time.
 * Cost:      no allocation by itself beyond the pools.
 * Errors:    after a failure all connections are closed.  Buffers that the
 *            system may use even then are not released, ever: they are counted
 *            (weir_net_figures.buffers_lost), and nobody pays for them.
 * Since:     0.1
 */
WEIR_API int weir_loop_run(struct weir_loop *loop) WEIR_NOEXCEPT;

/**
 * weir_loop_stop() - end a loop gracefully.
 * @loop:     a loop.
 * @grace_ms: how long sends on their way may take; 0: drop them.
 *
 * Listeners close, nothing more is received, sends finish, connections close
 * as weir_conn_close() does it, all within @grace_ms.
 *
 * Ownership: nothing changes hands.
 * Threads:   any thread and signal handlers; the first call counts, except
 *            that a later one may shorten the time.
 * Cost:      at most one system call.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_loop_stop(struct weir_loop *loop, uint32_t grace_ms)
    WEIR_NOEXCEPT;

/** struct weir_task - work for a loop, in the poster's storage. */
struct weir_task {
	void (*run)(struct weir_loop *loop, struct weir_task *task);
	void *context;
	struct weir_task *internal_next;
};

/**
 * weir_loop_post() - have a loop's thread do something.
 * @loop: a loop that is not destroyed before the task ran.
 * @task: run and context set; lent to the loop until run is called.
 *
 * Tasks run in the order they were posted, before the loop sleeps.  Those a
 * loop has not run when it ends are run by weir_loop_destroy(), and so are
 * those that these or on_close post meanwhile: a task must not post itself for
 * ever.
 *
 * Ownership: the storage is the poster's again when run is called.
 * Threads:   any thread.
 * Cost:      one atomic exchange; a system call if the loop may sleep.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_loop_post(struct weir_loop *loop, struct weir_task *task)
    WEIR_NOEXCEPT;

/** struct weir_timer - a moment to be called at, in the caller's storage. */
struct weir_timer {
	void (*expired)(struct weir_loop *loop, struct weir_timer *timer);
	void *context;
	uint64_t due_ns; /* of weir_loop_now_ns(); 0: not running */
	struct weir_timer *internal_child, *internal_next, *internal_back;
};

/**
 * weir_timer_start() - call timer->expired once, after a time.
 * @loop:     the loop.
 * @timer:    expired and context set, the rest zero before its first start;
 *            lent to the loop while it runs.  A running one starts anew.
 * @delay_ns: from weir_loop_now_ns() on; from this call on while the loop
 *            does not run.
 *
 * Ownership: the caller's storage.
 * Threads:   the loop's thread, or any while the loop does not run.
 * Cost:      O(1), amortised O(log n) at expiry.  Precision: 1 ms, late.
 * Errors:    none.  Timers left when a loop ends are forgotten.
 * Since:     0.1
 */
WEIR_API void weir_timer_start(struct weir_loop *loop, struct weir_timer *timer,
    uint64_t delay_ns) WEIR_NOEXCEPT;

/**
 * weir_timer_stop() - stop a timer.
 * @loop:  the loop.
 * @timer: a timer of @loop; one that is not running is left alone.
 *
 * Ownership: the storage is the caller's again.
 * Threads:   as weir_timer_start().
 * Cost:      amortised O(log n).
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_timer_stop(struct weir_loop *loop, struct weir_timer *timer)
    WEIR_NOEXCEPT;

/**
 * weir_loop_now_ns() - the loop's clock.
 * @loop: the loop.
 *
 * Returns:   monotonic nanoseconds, read once a pass; while the loop does not
 *            run, when it was made, ran or had a timer started last.
 * Ownership: none.
 * Threads:   the loop's thread.
 * Cost:      a load.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API uint64_t weir_loop_now_ns(const struct weir_loop *loop) WEIR_NOEXCEPT;

/**
 * weir_loop_buffer() - a buffer from the engine's memory, for a send.
 * @loop:  the loop.
 * @bytes: at least this many, up to WEIR_NET_BUFFER_BYTES_MAX.
 *
 * Returns:   a buffer with one reference, or NULL.
 * Ownership: the caller's until sent or released.
 * Threads:   any thread.
 * Cost:      that of weir_buffer_acquire().
 * Errors:    NULL at the limit; errno is left as it was.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD struct weir_buffer *weir_loop_buffer(
    struct weir_loop *loop, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_loop_destroy() - end a loop that does not run.
 * @loop: the loop, or NULL.
 *
 * Ownership: what is left of its connections is closed, with on_close.
 * Threads:   one thread, after weir_loop_run() returned.
 * Cost:      linear in the connections left.
 * Errors:    none.  Over io_uring a blocking call of the thread that ran the
 *            loop may soon after end with EINTR, once.
 * Since:     0.1
 */
WEIR_API void weir_loop_destroy(struct weir_loop *loop) WEIR_NOEXCEPT;

/* ---- listeners ------------------------------------------------------- */

struct weir_listen_config {
	const char *address; /* numeric IPv4 or IPv6; NULL: 127.0.0.1 */
	uint16_t port;       /* 0: the system's choice, weir_listener_port() */
	bool shared;      /* several loops listen on the port: SO_REUSEPORT */
	uint32_t backlog; /* 0: the system's largest */
	struct weir_handlers handlers;
	/* Of an engine that keeps accounts: the listener's is below this one of
	 * the program's, a tenant's, which is below weir_net_account(); NULL:
	 * below that itself. */
	struct weir_account *account;
	uint64_t account_limit_bytes; /* pinned by its connections; 0: none */
	uint64_t reserved[2];         /* must be zero */
};

/**
 * weir_listen() - accept connections on a loop.
 * @loop:   the loop, not running or on its own thread.
 * @config: copied.
 * @out:    receives the listener, NULL on failure.
 *
 * Returns:   0; -EINVAL (no on_data, not a numeric address, a reserved field
 *            set, an account without accounts, not below the engine's or too
 *            deep, a limit below WEIR_NET_BUFFER_LIMIT_BYTES_MIN); -ESHUTDOWN after weir_loop_stop(); -EADDRINUSE,
 *            -EADDRNOTAVAIL, -EACCES, -EMFILE, -ENOMEM and what else socket,
 *            bind and listen give.
 * Ownership: the loop's; it ends with weir_loop_stop().
 * Threads:   see @loop.
 * Cost:      a socket.
 * Errors:    with @config->shared, a port that a socket which does not share
 *            it holds is -EADDRINUSE; to find out whether another program
 *            shares it, listen unshared first.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_listen(struct weir_loop *loop,
    const struct weir_listen_config *config, struct weir_listener **out)
    WEIR_NOEXCEPT;

/**
 * weir_listener_port() - the port a listener got.
 * @listener: a listener whose loop has not been stopped.
 *
 * Returns:   the port in host order.
 * Ownership: none.
 * Threads:   any thread.
 * Cost:      a load.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API uint16_t weir_listener_port(const struct weir_listener *listener)
    WEIR_NOEXCEPT;

/**
 * weir_listener_account() - what a listener's connections pay into.
 * @listener: a live listener.
 *
 * Returns:   the account, or NULL if the engine keeps none.
 * Ownership: the engine's; it lasts as long as the loop.
 * Threads:   any thread.
 * Cost:      some loads.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API struct weir_account *weir_listener_account(
    struct weir_listener *listener) WEIR_NOEXCEPT;

/* ---- connections: on the loop's thread only -------------------------- */

/** Most slices one weir_conn_send() takes. */
#define WEIR_SEND_SLICES_MAX 1024

/**
 * weir_conn_send() - queue slices for sending, in order.
 * @conn:    the connection.
 * @slices:  their references pass to the engine, whatever is returned.
 * @count:   1 .. WEIR_SEND_SLICES_MAX.
 * @context: handed to on_sent.
 *
 * Nothing is written before the handler returns: the sends of a pass go out
 * together, those of a connection in one system call.
 *
 * Returns:   0: on_sent will be called once; -ESHUTDOWN: the connection is
 *            closing; -EINVAL: @count; -ENOMEM: the connection will close,
 *            since a stream cannot have holes.
 * Ownership: see @slices; the caller must not change their bytes.
 * Threads:   the loop's.
 * Cost:      one operation object for every two slices.
 * Errors:    see Returns; the references are gone in every case.
 * Since:     0.1
 */
WEIR_API int weir_conn_send(struct weir_conn *conn,
    const struct weir_slice *slices, size_t count, void *context) WEIR_NOEXCEPT;

/**
 * weir_conn_need() - hand bytes back until there are enough of them.
 * @conn:  the connection, in its on_data and at most once in each.
 * @slice: the end of what on_data was given; its reference passes.
 * @bytes: more than slice.bytes, at most WEIR_NET_BUFFER_BYTES_MAX.
 *
 * The next on_data gets a slice of at least @bytes that starts with @slice.
 * What is missing is received behind it, into a buffer of that size; the
 * handed back bytes are copied at most once or twice, and a buffer that is
 * mostly unused is not kept.
 *
 * Returns:   0; -EINVAL for a size out of range; -ESHUTDOWN when closing.
 * Ownership: the reference is gone in every case.
 * Threads:   the loop's.
 * Cost:      a buffer of @bytes until they are there.
 * Errors:    without a buffer the connection waits for one, in turn, without
 *            receiving; on -EINVAL the handler should close.
 * Since:     0.1
 */
WEIR_API int weir_conn_need(struct weir_conn *conn, struct weir_slice slice,
    uint32_t bytes) WEIR_NOEXCEPT;

/**
 * weir_conn_close() - receive no more, send what is queued, then close.
 * @conn:   the connection.
 * @reason: for on_close and the statistics; WEIR_CLOSE_LOCAL if it is none.
 *
 * The peer reads all that was reported as sent, then the end of the stream.
 * Unless it ended first, the connection stays until the peer ends too, what
 * arrives being thrown away; or until the peer's system has it all and sent
 * nothing for 100 ms; or for stall_ms, at most 30 s.
 *
 * Ownership: on_close follows; until then the connection is valid.
 * Threads:   the loop's.
 * Cost:      none now.
 * Errors:    none; a second call changes nothing.
 * Since:     0.1
 */
WEIR_API void weir_conn_close(
    struct weir_conn *conn, enum weir_close_reason reason) WEIR_NOEXCEPT;

/**
 * weir_conn_abort() - close without sending what is queued.
 * @conn:   the connection.
 * @reason: as for weir_conn_close().
 *
 * The peer sees a reset; no port is left in TIME_WAIT.
 *
 * Ownership: on_sent (-ECANCELED) and on_close follow, not from this call.
 * Threads:   the loop's.
 * Cost:      none now.
 * Errors:    none; a second call changes nothing.
 * Since:     0.1
 */
WEIR_API void weir_conn_abort(
    struct weir_conn *conn, enum weir_close_reason reason) WEIR_NOEXCEPT;

/**
 * weir_conn_buffer() - a buffer for a send, on the connection's account.
 * @conn:  the connection.
 * @bytes: at least this many, up to WEIR_NET_BUFFER_BYTES_MAX.
 *
 * Returns:   a buffer with one reference, or NULL.
 * Ownership: the caller's until sent or released; the connection pays until the
 *            last release, be it after its end.
 * Threads:   the loop's.
 * Cost:      that of weir_buffer_acquire_for().
 * Errors:    NULL at a limit; errno is left as it was.  An engine without
 *            accounts serves it as weir_loop_buffer() does.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD struct weir_buffer *weir_conn_buffer(
    struct weir_conn *conn, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_conn_account() - what a connection pays with.
 * @conn: the connection.
 *
 * Returns:   the account, or NULL if the engine keeps none.
 * Ownership: the engine's, until on_close has returned.
 * Threads:   the loop's.
 * Cost:      a load.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API struct weir_account *weir_conn_account(struct weir_conn *conn)
    WEIR_NOEXCEPT;

/**
 * weir_conn_loop() - the loop that serves a connection.
 * @conn: the connection.
 *
 * Returns:   its loop.
 * Ownership: none.
 * Threads:   the loop's.
 * Cost:      a load.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API struct weir_loop *weir_conn_loop(const struct weir_conn *conn)
    WEIR_NOEXCEPT;

/**
 * weir_conn_context() - the context of the listener's handlers.
 * @conn: the connection.
 *
 * Returns:   weir_handlers.context.
 * Ownership: none.
 * Threads:   the loop's.
 * Cost:      two loads.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void *weir_conn_context(const struct weir_conn *conn) WEIR_NOEXCEPT;

/**
 * weir_conn_user() - what weir_conn_set_user() kept.
 * @conn: the connection.
 *
 * Returns:   the pointer, NULL at first.
 * Ownership: none.
 * Threads:   the loop's.
 * Cost:      a load.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void *weir_conn_user(const struct weir_conn *conn) WEIR_NOEXCEPT;

/**
 * weir_conn_set_user() - keep a pointer of the program's with a connection.
 * @conn: the connection.
 * @user: anything.
 *
 * Ownership: none; on_close is the place to free what it points to.
 * Threads:   the loop's.
 * Cost:      a store.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_conn_set_user(struct weir_conn *conn, void *user)
    WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_NET_H */
