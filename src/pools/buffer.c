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
 * Calls that race each other to the last reference are seen by what the
 * subtraction returns.
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

/* The seal is missing, so nothing else is read from @buffer. */
static WEIRI_COLD WEIRI_NORETURN void
buffer_fault_foreign(const struct weir_buffer *buffer)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = WEIR_FAULT_FOREIGN_POINTER,
	    .pool_kind = "buffer",
	    .address = buffer,
	    .detail = "%p is not a buffer",
	});
}

/* Names the tier it came from: nothing in @buffer can be believed. */
static WEIRI_COLD WEIRI_NORETURN void
buffer_fault_written(
    const struct weiri_buffer_tier *tier, const struct weir_buffer *buffer)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = WEIR_FAULT_CORRUPTION,
	    .pool_kind = "buffer",
	    .pool_name = tier->entry.name,
	    .address = buffer,
	    .detail = "free buffer %p was written to",
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

/* Reads flags, and dies if @buffer is no descriptor. */
WEIRI_INLINE uint32_t
buffer_flags(const struct weir_buffer *buffer)
{
	uint32_t flags = WEIRI_LOAD(&buffer->flags);

	if (WEIR_UNLIKELY(
		(flags & WEIRI_BUFFER_SEAL_MASK) != WEIRI_BUFFER_SEAL))
		buffer_fault_foreign(buffer);
	return flags;
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

static void
buffer_uncharge(struct weir_buffer_pool *pool, uint64_t bytes)
{
	__atomic_fetch_sub(&pool->held_bytes, bytes, __ATOMIC_RELAXED);
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
buffer_refuse(struct weiri_buffer_tier *tier)
{
	__atomic_fetch_add(&tier->refused, 1, __ATOMIC_RELAXED);
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
			buffer_uncharge(tier->pool, tier->bytes);
		weiri_depot_put(&tier->depot, buffer);
		buffer_fault_written(tier, buffer);
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
		return buffer_refuse(tier);

	struct weir_buffer *buffer = weiri_depot_get(&tier->depot);

	if (WEIR_LIKELY(buffer != NULL))
		return buffer_begin(tier, buffer);
	if (charged)
		buffer_uncharge(pool, tier->bytes);
	return NULL;
}

struct weir_buffer *
weir_buffer_acquire(struct weir_buffer_pool *pool, size_t bytes)
{
	if (WEIR_UNLIKELY(bytes > pool->bytes_max))
		return buffer_refuse(&pool->tier[pool->tier_count - 1]);

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

	if ((flags & WEIRI_BUFFER_CHARGED) != 0)
		buffer_uncharge(buffer->pool, tier->bytes);
	weiri_depot_put(&tier->depot, buffer);
}

/* Anything but the only reference of a buffer without marks. */
static WEIRI_NOINLINE void
buffer_release_slow(struct weir_buffer *buffer, uint32_t count)
{
	uint32_t flags = buffer_flags(buffer);
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
			    "released too often: %p had %u references");
		}
		if (before != count)
			return;
	}
	/* Flags again: a holder may have marked the buffer before its release,
	 * and that is visible only now. */
	buffer_end(buffer, WEIRI_LOAD(&buffer->flags));
}

void
weir_buffer_release_many(struct weir_buffer *buffer, uint32_t count)
{
	buffer_release_slow(buffer, count);
}

void
weir_buffer_release(struct weir_buffer *buffer)
{
	if (WEIR_UNLIKELY(buffer == NULL))
		return;
	/* Pairs with the release in buffer_release_slow(); flags come second,
	 * so that a mark set before another's release is seen. */
	if (WEIR_UNLIKELY(
		__atomic_load_n(&buffer->references, __ATOMIC_ACQUIRE) != 1 ||
		WEIRI_LOAD(&buffer->flags) != WEIRI_BUFFER_SEAL)) {
		buffer_release_slow(buffer, 1);
		return;
	}
	WEIRI_STORE(&buffer->references, 0);
	weiri_depot_put(&weiri_buffer_tier(buffer)->depot, buffer);
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
		    .detail = "no external buffer of %u bytes at %p",
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
