/* SPDX-License-Identifier: MIT */
/*
 * buffer.h - what a buffer pool is made of: tiers, their payload, descriptors.
 *
 *   buffer_pool.c    pools: creation, figures, end; the invariants
 *   buffer_config.c  what a configuration may say
 *   buffer_memory.c  slabs of descriptors and their payload
 *   buffer_idle.c    pages of payload that no buffer in use lies in
 *   buffer_limits.c  limits and stocks that change while the pool is in use
 *   buffer_acquire.c taking buffers
 *   buffer_gate.c    waiting for them, in order
 *   buffer_notify.c  being told that there is room
 *   buffer_reserve.c buffers set apart for sending
 *   buffer.c         counting references, ending buffers
 *   buffer_kernel.c  buffers that the kernel reads or writes
 *   buffer_fault.c   what is said of a wrong pointer or count
 *   buffer_guard.c   payload under guard
 *   buffer_check.c   the invariants, walked
 *   buffer_watch.c   who holds what, since when, taken where
 *   buffer_slice.c   parts of buffers
 *   account.c, chain.c, chunk.c, compact.c, broadcast.c: built on all this
 */
#ifndef WEIRI_BUFFER_H
#define WEIRI_BUFFER_H

#include "base/detector.h"
#include "guard/guard.h"
#include "pools/buffer_gate.h"
#include "slab/cursor.h"
#include "watch/registry.h"

#include <weir/account.h>
#include <weir/buffer_limit.h>
#include <weir/buffer_watch.h>

/*
 * The upper half of a descriptor's flags says that it is one; a pointer to
 * anything else is recognised on the line a release reads anyway.  A release
 * has a short way for flags without a bit in the lower half.
 */
#define WEIRI_BUFFER_SEAL 0xb1fe0000u
#define WEIRI_BUFFER_SEAL_MASK 0xffff0000u
#define WEIRI_BUFFER_EXTERNAL 0x0100u /* over foreign memory, no pool */
#define WEIRI_BUFFER_CHARGED 0x0200u  /* counted in held_bytes of its pool */
#define WEIRI_BUFFER_GATED 0x0400u /* its end may be what somebody waits for */
#define WEIRI_BUFFER_ACCOUNT 0x0800u /* charged to the account in its word */
#define WEIRI_BUFFER_KERNEL 0x1000u  /* was lent: see weir_buffer.kernel */
#define WEIRI_BUFFER_CHUNK 0x2000u   /* a send chunk; user is the library's */
#define WEIRI_BUFFER_GUARDED \
	0x4000u /* data is the guard's; see buffer_guard.c */
#define WEIRI_BUFFER_PUBLIC_FLAGS ((uint32_t)WEIR_BUFFER_WIPE)

/* Words of weir_buffer.internal. */
#define WEIRI_BUFFER_RELEASE_WORD 0 /* external: its release function */
#define WEIRI_BUFFER_CONTEXT_WORD 1 /* external: the argument for it */
#define WEIRI_BUFFER_ORIGIN_WORD 0  /* a pool's: site << 32 | stamp */
#define WEIRI_BUFFER_ACCOUNT_WORD 1 /* with BUFFER_ACCOUNT: its account */
#define WEIRI_BUFFER_GUARDED_WORD 1 /* free, BUFFER_GUARDED: its last payload */

/* The whole struct is one slot of a depot and one cache line. */
static_assert(sizeof(struct weir_buffer) == WEIRI_CACHE_LINE,
    "a descriptor fills one line");
static_assert(sizeof(struct weir_slice) == 16, "two slices half a line");

#define WEIRI_BUFFER_NO_LIMIT UINT64_MAX

/* "weir liv": what a pool's state is between creation and end. */
#define WEIRI_BUFFER_POOL_LIVE UINT64_C(0x77656972206c6976)

/* Above this a count is a leak or a wild write, not a broadcast. */
#define WEIRI_BUFFER_REFERENCES_MAX UINT32_C(0x7fffffff)

/* Payload of one slab of descriptors; slab->companion points here. */
struct weiri_payload {
	struct weiri_span span; /* first: the page map answers with it */
	struct weiri_slab *slab;
	struct weiri_buffer_tier *tier;
	uint32_t void_free; /* slots that rested at the last look, or fewer
				 since; see buffer_idle.c */
};

/* Descriptors that go back to the depot later: a ring.  Nothing in them can be
 * believed meanwhile. */
#define WEIRI_BUFFER_REST_MAX 32u
struct weiri_buffer_rest {
	struct weir_buffer *buffer[WEIRI_BUFFER_REST_MAX];
	uint32_t oldest, count;
};

struct weiri_buffer_tier {
	struct weiri_depot depot;
	struct weiri_guard_pool guard;
	struct weiri_pool entry; /* "<pool>/<bytes>" in the registry */
	struct weir_buffer_pool *pool;
	uint32_t bytes;  /* of payload, as configured */
	uint32_t stride; /* bytes rounded up to its alignment */
	uint32_t index;
	uint32_t slab_slots;
	uint64_t refused_by_bytes; /* limit_bytes said no, not the depot */
	uint64_t refused_by_size;  /* larger than any tier; in the last one */
	uint64_t refused_by_account;
	struct weiri_mutex lock; /* guards the lists; a leaf */
	struct weiri_list payloads;
	uint64_t payload_bytes; /* sum over the list; racing reads */
	/* Of buffer_idle.c: the epoch of the last look at all slabs, and the
	 * depot's misses then. */
	uint64_t idle_turn_ns, idle_misses;
	unsigned idle_steps; /* slabs this pass may still pass over */
	struct weiri_gate_tier gate;
	struct weiri_buffer_rest rest;
	bool has_chunks; /* since some time: see chunk.c */
};

struct weir_buffer_pool {
	uint32_t flags;     /* of a buffer just acquired */
	uint32_t bytes_max; /* of the largest tier */
	/* fit[ceil(log2(bytes))]: the first tier that may fit */
	uint8_t fit[24];
	uint64_t stamp; /* the time, in units of WEIRI_BUFFER_STAMP_SHIFT */
	uint64_t limit_bytes; /* WEIRI_BUFFER_NO_LIMIT: held is not kept */
	uint32_t tier_count;
	bool prefault; /* slot_init touches the payload: while creating */
	bool lowered;  /* limit_bytes, below what was held */
	char name[WEIRI_NAME_BYTES];
	/* Not at the front, which the free list of metadata uses once the
	 * record is given back: a second destroy still reads it. */
	uint64_t state; /* WEIRI_BUFFER_POOL_LIVE, or it is no pool any more */
	struct weiri_gate gate;
	uint64_t compactions, compacted_bytes; /* see compact.c */

	/* Payload in callers' hands; alone on its line. */
	WEIRI_ALIGNED(WEIRI_CACHE_LINE) uint64_t held_bytes;

	WEIRI_ALIGNED(WEIRI_CACHE_LINE) struct weiri_buffer_tier tier[];
};

/* A request was made of a pool that is none, or none any more. */
WEIRI_COLD WEIRI_NORETURN void weiri_buffer_pool_not_live(
    const struct weir_buffer_pool *pool);

/* Of every tier's depot, and of no other: tells a slab of descriptors. */
extern const struct weiri_depot_hooks weiri_buffer_hooks;

/* buffer_idle.c: pages of payload in which every buffer rests go back, where that
 * is new: step @step of a pass of weir_maintain(), a slab at most, true if there
 * are more; and all of them. */
bool weiri_buffer_maintain(struct weiri_buffer_tier *tier, uint32_t step);
void weiri_buffer_trim_pages(struct weiri_buffer_tier *tier);

/* Of every tier's entry in the registry. */
extern const struct weiri_pool_ops weiri_buffer_ops;

/* The descriptor's place in its pool; @buffer is a pool's. */
WEIRI_INLINE struct weiri_buffer_tier *
weiri_buffer_tier(const struct weir_buffer *buffer)
{
	return &buffer->pool->tier[buffer->tier];
}

WEIRI_INLINE struct weiri_buffer_tier *
weiri_buffer_entry_tier(struct weiri_pool *entry)
{
	return WEIRI_CONTAINER_OF(entry, struct weiri_buffer_tier, entry);
}

/* ---- history and age --------------------------------------------------- */

/* A unit is 17 ms, and 32 bits of them last for two years. */
#define WEIRI_BUFFER_STAMP_SHIFT 24

/*
 * One event of 4 bits, the newest lowest.  No locked instruction: of two
 * holders that write at once, one is not heard.
 */
WEIRI_INLINE void
weiri_buffer_note(struct weir_buffer *buffer, enum weir_buffer_event event)
{
	WEIRI_STORE(&buffer->history,
	    WEIRI_LOAD(&buffer->history) << 4 | (uint64_t)event);
}

/* Sets the pool's clock; the time. */
uint64_t weiri_buffer_tick(struct weir_buffer_pool *pool);

/* The number of the place that acquires at @address, 1 .. ; 0: no room. */
uint32_t weiri_buffer_site(const void *address);

/* ---- limits ------------------------------------------------------------ */

/* What stood in the way of a request. */
enum weiri_refused_by {
	WEIRI_REFUSED_BY_TIER,
	WEIRI_REFUSED_BY_BYTES,
	WEIRI_REFUSED_BY_ACCOUNT,
};

struct weiri_refusal {
	enum weiri_refused_by by;
	const struct weir_account *level; /* of the account's */
};

/* FREE -> 1 without waiting; NULL, and why, with nothing charged. */
struct weir_buffer *weiri_buffer_try(struct weiri_buffer_tier *tier,
    struct weir_account *account, enum weir_buffer_use use,
    struct weiri_refusal *refusal);

/* 0 stands for no limit, WEIR_LIMIT_NOTHING for one that admits nothing. */
WEIRI_INLINE uint64_t
weiri_buffer_limit(uint64_t configured)
{
	if (configured == 0)
		return UINT64_MAX;
	return configured == WEIR_LIMIT_NOTHING ? 0 : configured;
}

/* Takes @bytes from the pool's allowance; false: not a byte above it. */
bool weiri_buffer_charge(struct weir_buffer_pool *pool, uint64_t bytes);

/* False, and nothing changed: less is held than that. */
bool weiri_buffer_uncharge(struct weir_buffer_pool *pool, uint64_t bytes);

/* What a buffer for @bytes would pin; 0: no tier has as many. */
uint32_t weiri_buffer_fit_bytes(struct weir_buffer_pool *pool, size_t bytes);

/* At most: see weir_buffer_pool_tick(). */
uint64_t weiri_buffer_age(const struct weir_buffer *buffer, uint64_t now_ns);

/* ---- configuration (buffer_config.c) ----------------------------------- */

/* Copies @given with the defaults filled in; 0 or -EINVAL. */
int weiri_buffer_config_resolve(const struct weir_buffer_pool_config *given,
    struct weir_buffer_pool_config *config);

/* ---- memory (buffer_memory.c) ------------------------------------------ */

/* What payload of @bytes is aligned to. */
size_t weiri_buffer_align(size_t bytes);

size_t weiri_buffer_block_bytes(
    const struct weiri_buffer_tier *tier, size_t slots);

/* The tier's depot, list and lock; 0, -EINVAL or -ENOMEM. */
int weiri_buffer_tier_init(struct weir_buffer_pool *pool, uint32_t index,
    const struct weir_buffer_pool_config *pool_config);
void weiri_buffer_tier_finish(struct weiri_buffer_tier *tier);

/* Calls @visit with each block of payload, under the tier's lock, a leaf. */
void weiri_buffer_walk(struct weiri_buffer_tier *tier,
    void (*visit)(const struct weiri_payload *payload, void *context),
    void *context);

/* Descriptor @index of a block if it is held, or NULL; it may be given back at
 * any moment. */
struct weir_buffer *weiri_buffer_held(
    const struct weiri_payload *payload, size_t index);

/* Sums over the tier's chunks; see chunk.c. */
struct weiri_chunk_sums {
	uint64_t chunks, pinned, live;
};

void weiri_chunk_add(
    struct weiri_buffer_tier *tier, struct weiri_chunk_sums *sums);

/* ---- payload under guard (buffer_guard.c) ------------------------------ */

/* @buffer has just been acquired by a visit to the depot: it may be the turn of
 * its payload. */
void weiri_buffer_guard_begin(
    struct weiri_buffer_tier *tier, struct weir_buffer *buffer);

/* The payload's end; the caller is alone with @buffer. */
void weiri_buffer_guard_end(
    struct weiri_buffer_tier *tier, struct weir_buffer *buffer);

/* After that @buffer comes to rest; what goes to the depot for it, or NULL. */
struct weir_buffer *weiri_buffer_guard_rest(
    struct weiri_buffer_tier *tier, struct weir_buffer *buffer);

/* For a request that the depot refused; or NULL. */
struct weir_buffer *weiri_buffer_guard_take(struct weiri_buffer_tier *tier);

/* All that rest go to the depot.  Reports one that was written to. */
void weiri_buffer_guard_flush(struct weiri_buffer_tier *tier);

/* Is its data a live object of the guard's, and its own? */
bool weiri_buffer_guard_has(const struct weir_buffer *buffer);

/* The buffer whose payload under guard @address is in, or NULL. */
struct weir_buffer *weiri_buffer_guard_of(const void *address);

/* What the guard knows of the payload that free @buffer had, or NULL. */
const struct weiri_guarded *weiri_buffer_guard_record(
    const struct weir_buffer *buffer, uint32_t flags);

/* ---- faults (buffer_fault.c) ------------------------------------------- */

WEIRI_COLD WEIRI_NORETURN void weiri_buffer_fault(
    enum weir_fault_class fault_class, const struct weir_buffer *buffer,
    uint64_t number, const char *detail);

/* Names the tier it came from: nothing in @buffer can be believed. */
WEIRI_COLD WEIRI_NORETURN void weiri_buffer_fault_in(
    const struct weiri_buffer_tier *tier, enum weir_fault_class fault_class,
    const struct weir_buffer *buffer, const char *detail);

/* A count of none, or of more than can be. */
WEIRI_COLD WEIRI_NORETURN void weiri_buffer_fault_count(
    const struct weir_buffer *buffer, uint64_t references, uint32_t flags,
    const char *none);

/* Says what is wrong with a pointer that is no buffer; reads nothing behind
 * it. */
WEIRI_COLD WEIRI_NORETURN void weiri_buffer_fault_pointer(
    const struct weir_buffer *buffer);

/* Reads flags, and dies if @buffer is no descriptor by its seal. */
WEIRI_INLINE uint32_t
weiri_buffer_flags(const struct weir_buffer *buffer)
{
	uint32_t flags = WEIRI_LOAD(&buffer->flags);

	if (WEIR_UNLIKELY(
		(flags & WEIRI_BUFFER_SEAL_MASK) != WEIRI_BUFFER_SEAL) &&
	    WEIR_DETECTOR(buffer_seal))
		weiri_buffer_fault_pointer(buffer);
	return flags;
}

/* True for 0 and for absurd counts, by one comparison. */
WEIRI_INLINE bool
weiri_buffer_count_bad(uint32_t references)
{
	return WEIR_UNLIKELY(references - 1 >= WEIRI_BUFFER_REFERENCES_MAX);
}

/* ---- the kernel's buffers (buffer_kernel.c) ---------------------------- */

/* In weir_buffer.kernel. */
#define WEIRI_KERNEL_COUNT 0x3fffu  /* operations under way, a reference each */
#define WEIRI_KERNEL_NOTIFY 0x4000u /* one of them awaits its notification */
#define WEIRI_KERNEL_RX 0x8000u     /* it is a receive */

/*
 * The caller's reference becomes the kernel's, for one operation: @state is
 * WEIR_BUFFER_KERNEL_RX, with nobody else holding the buffer, or _KERNEL_TX.
 * False, and nothing changed: more operations than can be counted.
 */
bool weiri_buffer_to_kernel(
    struct weir_buffer *buffer, enum weir_buffer_state state);

/* A zero-copy send is done but for its notification. */
void weiri_buffer_kernel_sent(struct weir_buffer *buffer);

/* The kernel's reference is the caller's again; or ends. */
void weiri_buffer_from_kernel(struct weir_buffer *buffer);
void weiri_buffer_kernel_done(struct weir_buffer *buffer);

/* The last @count references of a buffer that was lent are being released: a
 * fault if the kernel is not done with it. */
void weiri_buffer_kernel_end(struct weir_buffer *buffer, uint32_t count);

/* Debug builds: the program may not look at what the kernel writes. */
#if defined(WEIR_DEBUG) && WEIR_DEBUG >= 1
void weiri_buffer_demand_readable(const struct weir_buffer *buffer);
#else
WEIRI_INLINE void
weiri_buffer_demand_readable(const struct weir_buffer *buffer)
{
	(void)buffer;
}
#endif

#endif /* WEIRI_BUFFER_H */
