/* SPDX-License-Identifier: MIT */
/*
 * buffer.c - taking buffers, counting their references, ending them.
 *
 * A buffer's life is its count: 0 while it is free (with the depot, in a
 * magazine or resting in its slab), 1 when acquired, and the holder who brings
 * it back to 0 ends it.
 *
 *     FREE --acquire--> 1 --retain--> n --release--> 1 --release--> FREE
 *
 * Who holds the only reference is alone with the count: nobody else may retain
 * what he does not hold.  So the common acquire, fill, send, release of a
 * server counts with plain stores and needs no locked instruction; only a
 * shared buffer pays for one.  (DPDK's mbufs do the same.)  The exception is
 * foreign memory, whose first reference is often a static's that any thread
 * may retain from; it is always counted up by an atomic.
 *
 * A count of 0 is checked at every call: the word is read anyway, so a second
 * release of a buffer that was not handed out again meanwhile never passes.
 *
 * Releases that race each other from different counts are seen by what the
 * subtraction returns.  Two that both find the count at 1 are one release too
 * many; they are seen where the end takes long anyway (wiping, a release
 * function: the count is exchanged) or an atomic is due anyway (limit_bytes:
 * less is held than the second gives back).  Elsewhere both pass, because a
 * locked instruction would double what a release costs; the second owner of the
 * buffer then finds the first one's count in it and reports that.
 *
 * A release asks the page map what it was given before it believes a seal, since
 * a copy of a descriptor has a good one, too.  That is 22 instructions of the 98
 * of an acquire and a release, and a tenth of their time.
 *
 * Memory order: each release that is not the last subtracts with release; the
 * last one reads the count with acquire, so that what every holder did with
 * the payload lies before the wipe, the release function and the next owner.
 */
#include "pools/buffer.h"

#include "base/bits.h"
#include "guard/fault.h"

#include <string.h>

/* Above this a count is a leak or a wild write, not a broadcast. */
#define BUFFER_REFERENCES_MAX UINT32_C(0x7fffffff)

/* Ends that take long enough for one locked instruction more to vanish. */
#define BUFFER_COSTLY_END ((uint32_t)WEIR_BUFFER_WIPE | WEIRI_BUFFER_EXTERNAL)

/* ---- faults ------------------------------------------------------------- */

static WEIRI_COLD WEIRI_NORETURN void
buffer_fault(enum weir_fault_class fault_class,
    const struct weir_buffer *buffer, uint64_t number, const char *detail)
{
	const char *name = NULL;

	if (buffer->pool != NULL)
		name = weiri_buffer_tier(buffer)->entry.name;
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = fault_class,
	    .pool_kind = "buffer",
	    .pool_name = name,
	    .address = buffer,
	    .number = number,
	    .detail = detail,
	});
}

/* Nothing more is read from @buffer than what told that it is none. */
static WEIRI_COLD WEIRI_NORETURN void
buffer_fault_foreign(const struct weir_buffer *buffer, const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = WEIR_FAULT_FOREIGN_POINTER,
	    .pool_kind = "buffer",
	    .address = buffer,
	    .detail = detail,
	});
}

/* Names the tier it came from: nothing in @buffer can be believed. */
static WEIRI_COLD WEIRI_NORETURN void
buffer_fault_in(const struct weiri_buffer_tier *tier,
    enum weir_fault_class fault_class, const struct weir_buffer *buffer,
    const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = fault_class,
	    .pool_kind = "buffer",
	    .pool_name = tier->entry.name,
	    .address = buffer,
	    .detail = detail,
	});
}

/* A count of none, or of more than can be. */
static WEIRI_COLD WEIRI_NORETURN void
buffer_fault_count(const struct weir_buffer *buffer, uint64_t references,
    uint32_t flags, const char *none)
{
	if (references != 0)
		buffer_fault(WEIR_FAULT_CORRUPTION, buffer, references,
		    "buffer %p has %u references");
	buffer_fault((flags & WEIRI_BUFFER_EXTERNAL) != 0
			 ? WEIR_FAULT_REF_UNDERFLOW
			 : WEIR_FAULT_DOUBLE_FREE,
	    buffer, references, none);
}

/* ---- is it a buffer at all? --------------------------------------------- */

/* The tier whose slab of descriptors @buffer points into, or NULL. */
static const struct weiri_buffer_tier *
buffer_home(const struct weir_buffer *buffer)
{
	struct weiri_span *span = weiri_span_of(buffer);

	if (span == NULL || span->kind != WEIRI_SPAN_SLAB)
		return NULL;

	const struct weiri_slab *slab = (const struct weiri_slab *)span;

	if (slab->depot->hooks != &weiri_buffer_hooks)
		return NULL;
	return slab->depot->owner;
}

/* Says what is wrong with a pointer that failed a check below; reads nothing
 * behind it. */
static WEIRI_COLD WEIRI_NORETURN void
buffer_fault_pointer(const struct weir_buffer *buffer)
{
	const struct weiri_buffer_tier *home = buffer_home(buffer);

	if (home == NULL)
		buffer_fault_foreign(
		    buffer, weir_buffer_of(buffer) != NULL
				? "%p is in the payload of a buffer"
				: "%p is not a buffer");
	if ((uintptr_t)buffer % sizeof(*buffer) != 0)
		buffer_fault_in(home, WEIR_FAULT_INTERIOR_POINTER, buffer,
		    "%p is not the start of a buffer");
	buffer_fault_in(home, WEIR_FAULT_CORRUPTION, buffer,
	    "the descriptor of buffer %p was written to");
}

/* Reads flags, and dies if @buffer is no descriptor by its seal. */
WEIRI_INLINE uint32_t
buffer_flags(const struct weir_buffer *buffer)
{
	uint32_t flags = WEIRI_LOAD(&buffer->flags);

	if (WEIR_UNLIKELY(
		(flags & WEIRI_BUFFER_SEAL_MASK) != WEIRI_BUFFER_SEAL))
		buffer_fault_pointer(buffer);
	return flags;
}

/*
 * What the page map says of @buffer: the index of the depot it is a slot of, or
 * 0 for what is at no slot's start.  Only foreign memory's descriptors are the
 * program's to place, so only they are believed elsewhere.
 */
WEIRI_INLINE uint32_t
buffer_depot(const struct weir_buffer *buffer)
{
	if (WEIR_UNLIKELY((uintptr_t)buffer % sizeof(*buffer) != 0))
		return 0;
	return weiri_entry_tag(weiri_page_entry(buffer));
}

/* True for 0 and for absurd counts, by one comparison. */
WEIRI_INLINE bool
buffer_count_bad(uint32_t references)
{
	return WEIR_UNLIKELY(references - 1 >= BUFFER_REFERENCES_MAX);
}

/* ---- limit_bytes -------------------------------------------------------- */

/* Takes @bytes from the pool's allowance; false: not a byte above it. */
static bool
buffer_charge(struct weir_buffer_pool *pool, uint64_t bytes)
{
	uint64_t held = WEIRI_LOAD(&pool->held_bytes);

	/* Compared before it is added: an add that is taken back when it was
	 * too much would make smaller requests fail meanwhile.  Relaxed: the
	 * counter guards a number, not memory. */
	do {
		if (bytes > pool->limit_bytes ||
		    held > pool->limit_bytes - bytes)
			return false;
	} while (!__atomic_compare_exchange_n(&pool->held_bytes, &held,
	    held + bytes, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return true;
}

/* False, and nothing changed: less is held than that. */
static bool
buffer_uncharge(struct weir_buffer_pool *pool, uint64_t bytes)
{
	if (WEIR_LIKELY(__atomic_fetch_sub(&pool->held_bytes, bytes,
			    __ATOMIC_RELAXED) >= bytes))
		return true;
	__atomic_fetch_add(&pool->held_bytes, bytes, __ATOMIC_RELAXED);
	return false;
}

/* ---- acquire ------------------------------------------------------------ */

/* The smallest tier that fits; @bytes is not above the largest. */
WEIRI_INLINE struct weiri_buffer_tier *
buffer_fit(struct weir_buffer_pool *pool, size_t bytes)
{
	struct weiri_buffer_tier *tier =
	    &pool->tier[pool->fit[weiri_log2_ceil(bytes)]];

	/* Tiers may share a power of two, so the table is only the start. */
	while (tier->bytes < bytes)
		tier++;
	return tier;
}

static WEIRI_COLD struct weir_buffer *
buffer_refuse(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* FREE -> 1.  Nobody else may look yet: these stores are published with the
 * pointer, by whatever the caller hands it on. */
WEIRI_INLINE struct weir_buffer *
buffer_begin(struct weiri_buffer_tier *tier, struct weir_buffer *buffer)
{
	if (WEIR_UNLIKELY(WEIRI_LOAD(&buffer->references) != 0)) {
		/* Back first: a hook that leaves finds nothing held. */
		if ((tier->pool->flags & WEIRI_BUFFER_CHARGED) != 0)
			(void)buffer_uncharge(tier->pool, tier->bytes);
		weiri_depot_put(&tier->depot, buffer);
		buffer_fault_in(tier, WEIR_FAULT_CORRUPTION, buffer,
		    "free buffer %p was written to, or released twice at once");
	}
	WEIR_ASSERT(buffer->pool == tier->pool && buffer->tier == tier->index);
	WEIRI_STORE(&buffer->flags, tier->pool->flags);
	buffer->user = NULL;
	WEIRI_STORE(&buffer->references, 1);
	return buffer;
}

/* At the edge of the thread's magazine, or with limit_bytes. */
static WEIRI_NOINLINE struct weir_buffer *
buffer_acquire_slow(struct weiri_buffer_tier *tier)
{
	struct weir_buffer_pool *pool = tier->pool;
	bool charged = (pool->flags & WEIRI_BUFFER_CHARGED) != 0;

	if (charged && !buffer_charge(pool, tier->bytes))
		return buffer_refuse(&tier->refused_by_bytes);

	struct weir_buffer *buffer = weiri_depot_get(&tier->depot);

	if (WEIR_LIKELY(buffer != NULL))
		return buffer_begin(tier, buffer);
	if (charged)
		(void)buffer_uncharge(pool, tier->bytes);
	return NULL;
}

struct weir_buffer *
weir_buffer_acquire(struct weir_buffer_pool *pool, size_t bytes)
{
	if (WEIR_UNLIKELY(bytes > pool->bytes_max))
		return buffer_refuse(
		    &pool->tier[pool->tier_count - 1].refused_by_size);

	struct weiri_buffer_tier *tier = buffer_fit(pool, bytes);

	if ((pool->flags & WEIRI_BUFFER_CHARGED) != 0)
		return buffer_acquire_slow(tier);

	/* The inline half of weiri_depot_get(), its slow half being a tail
	 * call here: no register is saved on the way of a hit. */
	struct weir_buffer *buffer = weiri_cell_pop(
	    weiri_local_cell(weiri_local(), tier->depot.fast_offset));

	if (WEIR_UNLIKELY(buffer == NULL))
		return buffer_acquire_slow(tier);
	return buffer_begin(tier, buffer);
}

/* ---- retain ------------------------------------------------------------- */

struct weir_buffer *
weir_buffer_retain_many(struct weir_buffer *buffer, uint32_t count)
{
	uint32_t flags = buffer_flags(buffer);
	/* Acquire, pairing with the subtraction in a release: the plain store
	 * below ends that release sequence, so who releases last after it sees
	 * earlier holders' work only through this thread. */
	uint32_t references =
	    __atomic_load_n(&buffer->references, __ATOMIC_ACQUIRE);
	uint64_t sum = (uint64_t)references + count;

	if (WEIR_UNLIKELY(references == 0 || sum > BUFFER_REFERENCES_MAX))
		buffer_fault_count(buffer, references == 0 ? 0 : sum, flags,
		    "retained, but %p has no reference");
	if (references == 1 && (flags & WEIRI_BUFFER_EXTERNAL) == 0)
		WEIRI_STORE(&buffer->references, 1 + count);
	else /* Relaxed: the caller's own reference keeps it alive. */
		__atomic_fetch_add(
		    &buffer->references, count, __ATOMIC_RELAXED);
	return buffer;
}

struct weir_buffer *
weir_buffer_retain(struct weir_buffer *buffer)
{
	return buffer == NULL ? NULL : weir_buffer_retain_many(buffer, 1);
}

/* ---- release ------------------------------------------------------------ */

/* Zeroes in a way the compiler cannot see through: it has to assume that the
 * statement after memset() reads the bytes. */
static void
buffer_wipe(struct weir_buffer *buffer)
{
	if (buffer->data == NULL)
		return;
	memset(buffer->data, 0, buffer->bytes);
	__asm__ volatile("" : : "r"(buffer->data) : "memory");
}

static WEIRI_NOINLINE void
buffer_end_external(struct weir_buffer *buffer)
{
	uint64_t word = buffer->internal[WEIRI_BUFFER_RELEASE_WORD];
	weir_buffer_release_fn release =
	    (weir_buffer_release_fn)(uintptr_t)word;
	void *context =
	    (void *)(uintptr_t)buffer->internal[WEIRI_BUFFER_CONTEXT_WORD];

	if (release != NULL)
		release(buffer, context); /* @buffer may be gone from here */
}

/* The last reference is gone; the caller is alone with @buffer. */
static WEIRI_NOINLINE void
buffer_end(struct weir_buffer *buffer, uint32_t flags)
{
	WEIRI_STORE(&buffer->references, 0);
	if ((flags & WEIR_BUFFER_WIPE) != 0)
		buffer_wipe(buffer);
	if ((flags & WEIRI_BUFFER_EXTERNAL) != 0) {
		buffer_end_external(buffer);
		return;
	}

	struct weiri_buffer_tier *tier = weiri_buffer_tier(buffer);

	if ((flags & WEIRI_BUFFER_CHARGED) != 0 &&
	    WEIR_UNLIKELY(!buffer_uncharge(buffer->pool, tier->bytes)))
		buffer_fault(WEIR_FAULT_DOUBLE_FREE, buffer, 0,
		    "%p was released by two at once");
	weiri_depot_put(&tier->depot, buffer);
}

/* Anything but the only reference of a buffer without marks; @depot is what
 * buffer_depot() said. */
static WEIRI_NOINLINE void
buffer_release_slow(struct weir_buffer *buffer, uint32_t count, uint32_t depot)
{
	uint32_t flags = buffer_flags(buffer);

	if ((flags & WEIRI_BUFFER_EXTERNAL) == 0 &&
	    (depot == 0 || depot != weiri_buffer_tier(buffer)->depot.index))
		buffer_fault_pointer(buffer);

	/* Pairs with the release in the subtraction below. */
	uint32_t references =
	    __atomic_load_n(&buffer->references, __ATOMIC_ACQUIRE);

	if (buffer_count_bad(references))
		buffer_fault_count(buffer, references, flags,
		    "released, but %p has no reference");
	if (WEIR_UNLIKELY(count == 0))
		return;
	if (references != count) {
		/* Acquire, too: this may turn out to be the last. */
		uint32_t before = __atomic_fetch_sub(
		    &buffer->references, count, __ATOMIC_ACQ_REL);

		if (WEIR_UNLIKELY(before < count)) {
			__atomic_fetch_add(
			    &buffer->references, count, __ATOMIC_RELAXED);
			buffer_fault(WEIR_FAULT_REF_UNDERFLOW, buffer, before,
			    "released too often: %p had %u "
			    "%{reference|references}");
		}
		if (before != count)
			return;
	} else if ((flags & BUFFER_COSTLY_END) != 0 &&
		   WEIR_UNLIKELY(__atomic_exchange_n(&buffer->references, 0,
				     __ATOMIC_ACQUIRE) != count)) {
		buffer_fault(WEIR_FAULT_REF_UNDERFLOW, buffer, 0,
		    "the last reference of %p was released by two at once");
	}
	/* Flags again: a holder may have marked the buffer before its release,
	 * and that is visible only now. */
	buffer_end(buffer, WEIRI_LOAD(&buffer->flags));
}

void
weir_buffer_release_many(struct weir_buffer *buffer, uint32_t count)
{
	buffer_release_slow(buffer, count, buffer_depot(buffer));
}

void
weir_buffer_release(struct weir_buffer *buffer)
{
	if (WEIR_UNLIKELY(buffer == NULL))
		return;

	uint32_t depot = buffer_depot(buffer);

	/* Pairs with the release in buffer_release_slow(); flags come second,
	 * so that a mark set before another's release is seen. */
	if (WEIR_LIKELY(
		depot != 0 &&
		__atomic_load_n(&buffer->references, __ATOMIC_ACQUIRE) == 1 &&
		WEIRI_LOAD(&buffer->flags) == WEIRI_BUFFER_SEAL)) {
		struct weiri_buffer_tier *tier = weiri_buffer_tier(buffer);

		if (WEIR_LIKELY(tier->depot.index == depot)) {
			WEIRI_STORE(&buffer->references, 0);
			weiri_depot_put(&tier->depot, buffer);
			return;
		}
	}
	buffer_release_slow(buffer, 1, depot);
}

void
weir_buffer_cleanup(struct weir_buffer **variable)
{
	struct weir_buffer *buffer = *variable;

	*variable = NULL;
	weir_buffer_release(buffer);
}

/* ---- questions and marks ------------------------------------------------ */

void
weir_buffer_set_wipe(struct weir_buffer *buffer)
{
	uint32_t flags = buffer_flags(buffer);
	uint32_t references = WEIRI_LOAD(&buffer->references);

	if (buffer_count_bad(references))
		buffer_fault_count(buffer, references, flags,
		    "marked, but %p has no reference");
	__atomic_fetch_or(
	    &buffer->flags, (uint32_t)WEIR_BUFFER_WIPE, __ATOMIC_RELAXED);
}

size_t
weir_buffer_usable(const struct weir_buffer *buffer)
{
	return buffer == NULL ? 0 : buffer->bytes;
}

uint32_t
weir_buffer_references(const struct weir_buffer *buffer)
{
	if (buffer == NULL)
		return 0;
	/* Pairs with the subtraction in weir_buffer_release_many(): who reads 1
	 * may write where others read before. */
	return __atomic_load_n(&buffer->references, __ATOMIC_ACQUIRE);
}

/*
 * A reference keeps the slab and so all that is read here; without one the
 * records may be freed between the look-up and the reads.  A lock, or records
 * that outlive their slab, would close that gap and be no help: the buffer
 * found without a reference may be gone when the answer arrives.  So the header
 * asks for memory that is not being given back.
 */
struct weir_buffer *
weir_buffer_of(const void *address)
{
	struct weiri_span *span = weiri_span_of(address);

	if (span == NULL || span->kind != WEIRI_SPAN_PAYLOAD)
		return NULL;

	const struct weiri_payload *payload =
	    WEIRI_CONTAINER_OF(span, struct weiri_payload, span);
	const struct weiri_buffer_tier *tier = payload->tier;
	size_t offset = (size_t)((const char *)address - span->base);
	size_t index = offset / tier->stride;
	size_t inside = offset % tier->stride;

	if (index >= payload->slab->slot_count || inside >= tier->bytes)
		return NULL;

	struct weir_buffer *buffer = weiri_slab_address(payload->slab, index);

	/* A slot that was never carved holds anything; that it looks like this
	 * very buffer, held, is out of the question. */
	if (WEIRI_LOAD(&buffer->references) == 0 ||
	    (WEIRI_LOAD(&buffer->flags) & WEIRI_BUFFER_SEAL_MASK) !=
		WEIRI_BUFFER_SEAL ||
	    WEIRI_LOAD(&buffer->data) !=
		(const unsigned char *)address - inside)
		return NULL;
	return buffer;
}

void
weir_buffer_init_external(struct weir_buffer *buffer, void *data, size_t bytes,
    weir_buffer_release_fn release, void *context)
{
	/* Not buffer_fault(): the descriptor is not filled yet. */
	if (WEIR_UNLIKELY(bytes > UINT32_MAX || (data == NULL && bytes > 0)))
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_BAD_ARGUMENT,
		    .pool_kind = "buffer",
		    .address = data,
		    .number = bytes,
		    .detail = "no external buffer of %u %{byte|bytes} at %p",
		});
	*buffer = (struct weir_buffer){
	    .data = data,
	    .bytes = (uint32_t)bytes,
	    .flags = WEIRI_BUFFER_SEAL | WEIRI_BUFFER_EXTERNAL,
	    .references = 1,
	};
	buffer->internal[WEIRI_BUFFER_RELEASE_WORD] = (uintptr_t)release;
	buffer->internal[WEIRI_BUFFER_CONTEXT_WORD] = (uintptr_t)context;
}
