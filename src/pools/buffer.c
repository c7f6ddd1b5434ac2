/* SPDX-License-Identifier: MIT */
/*
 * buffer.c - counting references to buffers, ending them.
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
 * What else there is to do at the end - uncharging, the kernel's operations, who
 * waits for a buffer - is a bit in flags: the short way is for buffers without
 * one.  The reserve comes first, then the depot, then the account, and only then
 * is it looked who waits: all he might need is in reach by then.
 *
 * Biased counts, with one of the owner's and another for all other threads,
 * were tried against this: see "Biased counts" in docs/ARCHITECTURE.md.
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
#include "pools/account.h"

#include <string.h>

/* Ends that take long enough for one locked instruction more to vanish. */
#define BUFFER_COSTLY_END                                     \
	((uint32_t)WEIR_BUFFER_WIPE | WEIRI_BUFFER_EXTERNAL | \
	    WEIRI_BUFFER_GUARDED)

/* ---- is it a buffer at all? --------------------------------------------- */

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

/* ---- retain ------------------------------------------------------------- */

struct weir_buffer *
weir_buffer_retain_many(struct weir_buffer *buffer, uint32_t count)
{
	uint32_t flags = weiri_buffer_flags(buffer);
	/* Acquire, pairing with the subtraction in a release: the plain store
	 * below ends that release sequence, so who releases last after it sees
	 * earlier holders' work only through this thread. */
	uint32_t references =
	    __atomic_load_n(&buffer->references, __ATOMIC_ACQUIRE);
	uint64_t sum = (uint64_t)references + count;

	if (WEIR_UNLIKELY(
		references == 0 || sum > WEIRI_BUFFER_REFERENCES_MAX) &&
	    WEIR_DETECTOR(buffer_retain_dead))
		weiri_buffer_fault_count(buffer, references == 0 ? 0 : sum,
		    flags, "retained, but %p has no reference");
	weiri_buffer_demand_readable(buffer);
	weiri_buffer_note(buffer, WEIR_BUFFER_EVENT_RETAIN);
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
	weiri_buffer_note(buffer, WEIR_BUFFER_EVENT_WIPE);
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

/* Back to the pool, and to all limits it counted in. */
static void
buffer_give_back(struct weir_buffer *buffer, uint32_t flags)
{
	struct weiri_buffer_tier *tier = weiri_buffer_tier(buffer);
	struct weir_account *account = NULL;

	if ((flags & WEIRI_BUFFER_ACCOUNT) != 0)
		account = (struct weir_account *)(uintptr_t)
			      buffer->internal[WEIRI_BUFFER_ACCOUNT_WORD];
	if (WEIR_UNLIKELY((flags & WEIRI_BUFFER_GUARDED) != 0))
		weiri_buffer_guard_end(tier, buffer);
	if ((flags & WEIRI_BUFFER_GATED) == 0 ||
	    !weiri_gate_put_reserved(tier, buffer)) {
		if ((flags & WEIRI_BUFFER_CHARGED) != 0 &&
		    WEIR_UNLIKELY(
			!weiri_buffer_uncharge(buffer->pool, tier->bytes)) &&
		    WEIR_DETECTOR(buffer_uncharged_twice))
			weiri_buffer_fault(WEIR_FAULT_DOUBLE_FREE, buffer, 0,
			    "%p was released by two at once");
		if (WEIR_UNLIKELY((flags & WEIRI_BUFFER_GUARDED) != 0))
			buffer = weiri_buffer_guard_rest(tier, buffer);
		if (buffer != NULL)
			weiri_depot_put(&tier->depot, buffer);
	}
	if (account != NULL)
		weir_account_uncharge(account, tier->bytes);
	if ((flags & WEIRI_BUFFER_GATED) != 0)
		weiri_gate_freed(tier);
}

/* The last reference is gone; the caller is alone with @buffer. */
static WEIRI_NOINLINE void
buffer_end(struct weir_buffer *buffer, uint32_t flags)
{
	WEIRI_STORE(&buffer->references, 0);
	weiri_buffer_note(buffer, WEIR_BUFFER_EVENT_END);
	if ((flags & WEIR_BUFFER_WIPE) != 0)
		buffer_wipe(buffer);
	if ((flags & WEIRI_BUFFER_EXTERNAL) != 0)
		buffer_end_external(buffer);
	else
		buffer_give_back(buffer, flags);
}

/* Anything but the only reference of a buffer without marks; @depot is what
 * buffer_depot() said. */
static WEIRI_NOINLINE void
buffer_release_slow(struct weir_buffer *buffer, uint32_t count, uint32_t depot)
{
	uint32_t flags = weiri_buffer_flags(buffer);

	if ((flags & WEIRI_BUFFER_EXTERNAL) == 0 &&
	    (depot == 0 || depot != weiri_buffer_tier(buffer)->depot.index) &&
	    WEIR_DETECTOR(buffer_not_its_depot))
		weiri_buffer_fault_pointer(buffer);

	/* Pairs with the release in the subtraction below. */
	uint32_t references =
	    __atomic_load_n(&buffer->references, __ATOMIC_ACQUIRE);

	if (weiri_buffer_count_bad(references) &&
	    WEIR_DETECTOR(buffer_double_release))
		weiri_buffer_fault_count(buffer, references, flags,
		    "released, but %p has no reference");
	if (WEIR_UNLIKELY(count == 0))
		return;
	if (references != count) {
		weiri_buffer_note(buffer, WEIR_BUFFER_EVENT_RELEASE);
		/* Acquire, too: this may turn out to be the last. */
		uint32_t before = __atomic_fetch_sub(
		    &buffer->references, count, __ATOMIC_ACQ_REL);

		if (WEIR_UNLIKELY(before < count) &&
		    WEIR_DETECTOR(buffer_ref_underflow)) {
			__atomic_fetch_add(
			    &buffer->references, count, __ATOMIC_RELAXED);
			weiri_buffer_fault(WEIR_FAULT_REF_UNDERFLOW, buffer,
			    before,
			    "released too often: %p had %u "
			    "%{reference|references}");
		}
		if (before != count)
			return;
	}
	/* Again: a holder may have marked the buffer before its release, and
	 * that is visible only now. */
	flags = WEIRI_LOAD(&buffer->flags);
	if (WEIR_UNLIKELY((flags & WEIRI_BUFFER_KERNEL) != 0))
		weiri_buffer_kernel_end(buffer, count);
	if (references == count && (flags & BUFFER_COSTLY_END) != 0 &&
	    WEIR_UNLIKELY(__atomic_exchange_n(&buffer->references, 0,
			      __ATOMIC_ACQUIRE) != count) &&
	    WEIR_DETECTOR(buffer_ended_twice))
		weiri_buffer_fault(WEIR_FAULT_REF_UNDERFLOW, buffer, 0,
		    "the last reference of %p was released by two at once");
	buffer_end(buffer, flags);
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
			weiri_buffer_note(buffer, WEIR_BUFFER_EVENT_END);
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
	uint32_t flags = weiri_buffer_flags(buffer);
	uint32_t references = WEIRI_LOAD(&buffer->references);

	if (weiri_buffer_count_bad(references) &&
	    WEIR_DETECTOR(buffer_wipe_dead))
		weiri_buffer_fault_count(buffer, references, flags,
		    "marked, but %p has no reference");
	weiri_buffer_demand_readable(buffer);
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

	if (span == NULL && weiri_guard_covers(address))
		return weiri_buffer_guard_of(address);
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
	return weiri_buffer_held(payload, index);
}

void
weir_buffer_init_external(struct weir_buffer *buffer, void *data, size_t bytes,
    weir_buffer_release_fn release, void *context)
{
	/* Not weiri_buffer_fault(): the descriptor is not filled yet. */
	if (WEIR_UNLIKELY(bytes > UINT32_MAX || (data == NULL && bytes > 0)) &&
	    WEIR_DETECTOR(buffer_bad_external))
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
	    .history = WEIR_BUFFER_EVENT_ACQUIRE,
	};
	buffer->internal[WEIRI_BUFFER_RELEASE_WORD] = (uintptr_t)release;
	buffer->internal[WEIRI_BUFFER_CONTEXT_WORD] = (uintptr_t)context;
}
