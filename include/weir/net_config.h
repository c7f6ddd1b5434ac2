/* SPDX-License-Identifier: MIT */
/*
 * net_config.h - what an engine is made with: limits, features, memory.
 *
 * Included by weir/net.h.  Zero means the default in each field, so a program
 * names what it wants to be different, or begins with weir_net_preset().
 *
 * Limits of different kinds work together.  buffer_limit_bytes is of the memory
 * that buffers take from the system, the accounts' are of what is pinned: by
 * each connection, by each listener, by all.  send_quota_bytes says when a
 * connection whose peer does not read is no longer read from, stall_ms and
 * hold_ms how long it keeps what it pins.
 *
 * What is idle goes back to the system without a call of the program's: loops
 * call weir_maintain() themselves, ten times a second while there is traffic
 * and until what a burst left is gone.  weir_config.decay_ms (weir/runtime.h)
 * says how long memory is idle before that, for loops as for everybody; they
 * never turn it off, nor change it, and a program that does, by
 * WEIR_DECAY_NEVER, has nothing given back.
 */
#ifndef WEIR_NET_CONFIG_H
#define WEIR_NET_CONFIG_H

#include <weir/account.h>
#include <weir/buffer.h>

WEIR_BEGIN_DECLS

/* ---- memory ---------------------------------------------------------- */

/** The objects the engine allocates beside buffers. */
enum weir_net_object {
	WEIR_NET_CONNECTION = 0,
	WEIR_NET_OPERATION = 1, /* one send on its way */
	WEIR_NET_OBJECT_COUNT
};

/**
 * struct weir_net_memory - where the engine's memory comes from.
 *
 * Each call may come from every loop's thread at once, returns NULL when there
 * is no memory, and is used in place of weir's pools.  Buffers go back through
 * weir_buffer_release().  object_bytes is the same for every call of a kind.
 */
struct weir_net_memory {
	struct weir_buffer *(*buffer_acquire)(size_t bytes, void *context);
	void *(*object_alloc)(
	    enum weir_net_object kind, size_t object_bytes, void *context);
	void (*object_free)(
	    enum weir_net_object kind, void *object, void *context);
	void *context;
};

/* ---- back ends and their features ------------------------------------ */

enum weir_net_backend {
	WEIR_BACKEND_AUTO = 0,
	WEIR_BACKEND_EPOLL = 1,
	WEIR_BACKEND_IO_URING = 2,
};

/**
 * What the back end over io_uring uses where the kernel has it: name, bit,
 * word.  Each is tried at weir_net_create() and can be forbidden there.
 */
#define WEIR_NET_FEATURES(X)                                                     \
	/* Completions are made when the loop asks for them, by its thread.
	 * */      \
	X(DEFERRED, 0, "deferred")                                               \
	/* Receives pick their buffers from a ring when bytes are there.
	 * */         \
	X(BUFFER_RING, 1, "buffer-ring")                                         \
	X(MULTISHOT_ACCEPT, 2, "multishot-accept")                               \
	X(MULTISHOT_RECEIVE, 3, "multishot-receive")                             \
	/* One ends its turn, and itself, after so many bytes; without that    \
	 * there is none, since it could bring more than a quota. */ \
	X(TURN_CAP, 4, "turn-cap")                                               \
	/* The sends of a pass go to the kernel in one call.
	 * */                     \
	X(RING_SEND, 5, "ring-send")                                             \
	/* Connections have no descriptor, but a place in a table of the loop. \
	 * Asked for only: see weir_net_config.with. */ \
	X(DIRECT, 6, "direct")                                                   \
	/* The network reads large sends from their buffers, if             \
	 * weir_net_config.zero_copy_bytes says from what size on; to peers \
	 * on this machine, where they are copied all the same, only if     \
	 * that is in weir_net_config.with. */    \
	X(ZERO_COPY, 7, "zero-copy")                                             \
	/* Small receives share large buffers, each taking what it fills; a
	 * \ slice that the program keeps pins 64 KiB then.  Asked for only,
	 * and  \ of no use with limits of memory, which could not count that.
	 * */      \
	X(INCREMENTAL, 8, "incremental")

enum weir_net_feature {
#define WEIR_NET_FEATURE_ENUM(name, bit, word) WEIR_NET_##name = 1 << (bit),
	WEIR_NET_FEATURES(WEIR_NET_FEATURE_ENUM)
#undef WEIR_NET_FEATURE_ENUM
	    WEIR_NET_FEATURES_ALL = (1 << 9) - 1,
	/* Those that are used only if they are in weir_net_config.with. */
	WEIR_NET_FEATURES_ASKED = WEIR_NET_DIRECT | WEIR_NET_INCREMENTAL
};

/* ---- limits ---------------------------------------------------------- */

/** Largest piece weir_conn_need() gathers and one receive takes. */
#define WEIR_NET_BUFFER_BYTES_MAX 65536u

/** Least buffer_limit_bytes, with one loop; each further loop adds
 * WEIR_NET_BUFFER_BYTES_MAX, since each keeps a buffer of that in reserve, so
 * that somebody's packet can always be completed. */
#define WEIR_NET_BUFFER_LIMIT_BYTES_MIN \
	((uint64_t)2 * WEIR_NET_BUFFER_BYTES_MAX)

/** struct weir_net_config - limits of an engine; zero means default. */
struct weir_net_config {
	enum weir_net_backend backend;        /* auto */
	uint32_t connections_max;             /* 0: what descriptors allow */
	const struct weir_net_memory *memory; /* NULL: weir's pools; copied */
	uint64_t buffer_limit_bytes;          /* of weir's pools; 0: none */
	uint32_t receive_bytes_min;           /* 2048: size of a receive ... */
	uint32_t receive_bytes_max;           /* 65536: ... and of a busy one;
						 not above the quota, if that is
						 more than receive_bytes_min */
	uint32_t send_quota_bytes;            /* 65536: pinned by sends */
	uint32_t stall_ms; /* 30000; UINT32_MAX: only when others wait */
	uint32_t idle_ms;  /* 0: never */
	uint32_t batch;    /* 256: readiness events a pass, at most 1024 */
	uint32_t connections_prealloc; /* objects made ready at creation */
	uint32_t buffers_prealloc;     /* of receive_bytes_min */
	/* While others wait for memory, who holds some for hold_ms without a
	 * break and moves fewer bytes than hold_bytes in it is closed. */
	uint32_t hold_ms;    /* 5000; UINT32_MAX: for as long as it likes */
	uint32_t hold_bytes; /* 65536; the bytes of what it holds */
	/* Connections of one IPv4 address or IPv6 network of 64 bits; 0: as
	 * many as it likes.  More are reset at once. */
	uint32_t address_max;
	uint32_t without; /* enum weir_net_feature: do not use them */
	/* From the first byte of a packet to its last, as weir_conn_need()
	 * tells them; 0: any time.  Time spent waiting for memory does not
	 * count. */
	uint32_t packet_ms;
	/* Accounts (weir/account.h), kept if one of these is not zero; only of
	 * weir's pools, and at least WEIR_NET_BUFFER_LIMIT_BYTES_MIN each. */
	uint32_t accounting;             /* 1: without a limit, too */
	struct weir_account *account;    /* above the engine's; or NULL */
	uint64_t account_limit_bytes;    /* pinned by all together; 0: none */
	uint64_t connection_limit_bytes; /* pinned by each; 0: none */
	/* enum weir_net_feature: of WEIR_NET_FEATURES_ASKED, use these where
	 * the system has them, and zero copy to whomever.  What is in without,
	 * too, is not used. */
	uint32_t with;
	/* Over io_uring sends of so many bytes or more are not copied, but to
	 * peers on this machine; 0: none, or 32768 with WEIR_NET_ZERO_COPY.
	 * The system reads them until it says so, also after on_sent: they must
	 * not change until the last reference to their buffer is released.  Of
	 * a connection that ended, too, until its peer has taken them, or none
	 * of them for stall_ms, at most 30 s: then it is reset. */
	uint32_t zero_copy_bytes;
	uint64_t reserved[3]; /* must be zero */
};

/** How many connections a server is made for: weir_net_preset(). */
enum weir_net_preset {
	WEIR_NET_PRESET_100 = 1,
	WEIR_NET_PRESET_1000 = 2,
	WEIR_NET_PRESET_10000 = 3, /* or more */
};

/**
 * weir_net_preset() - a configuration for a size of server.
 * @preset: about how many connections there are at a time.
 * @out:    filled whole; change what you know better.
 *
 * What connections may hold at worst grows with their number, so each may hold
 * less: 256 KiB of unsent bytes with 100, 64 KiB with 1,000, 16 KiB with
 * 10,000, which are 25, 64 and 160 MB.  Connections and a first share of
 * buffers are made ready; time limits get shorter.
 *
 * Returns:   0, or -EINVAL for no preset.
 * Ownership: copies into the caller's storage.
 * Threads:   any thread.
 * Cost:      a copy.
 * Errors:    on failure @out holds the defaults.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD int weir_net_preset(
    enum weir_net_preset preset, struct weir_net_config *out) WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_NET_CONFIG_H */
