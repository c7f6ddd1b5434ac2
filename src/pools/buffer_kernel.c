/* SPDX-License-Identifier: MIT */
/*
 * buffer_kernel.c - buffers that the kernel reads or writes meanwhile.
 *
 *                 to_kernel(RX)                 from_kernel
 *     FREE -> APP -------------> KERNEL_RX --------------------> APP
 *              |  to_kernel(TX)                 from_kernel
 *              +---------------> KERNEL_TX --------------------> APP
 *                                    |  sent            from_kernel
 *                                    +-----> ZC_NOTIFY --------> APP
 *
 * The back ends differ in how they hear of an end - a completion, a return value,
 * a notification - and not in what it means, so there is one machine for all.  A
 * back end that lends a buffer hands over a reference: the buffer cannot end
 * while the kernel has it, whoever releases what, and what is due with the end -
 * the wipe, the account, the place in the pool - waits for the kernel by itself.
 *
 * A payload may go to many connections at once, so the operations under way are
 * counted; which of them await a notification is not told apart.  All that is
 * known lies in 16 bits beside the count of references:
 *
 *     kernel:  | RX | NOTIFY | 14 bits: operations |
 *
 * Who holds the only reference is alone with the buffer and writes plainly, as
 * in buffer.c; a receive costs no locked instruction.
 *
 * Invariants:
 *
 *   N1  Operations <= references, in what any holder may observe.
 *   N2  RX: one operation, which nobody else may hold the buffer beside.
 *   N3  0 operations: neither mark is set.
 *   N4  Operations > 0: the flag BUFFER_KERNEL is set, so that a release takes
 *       the long way.  It may outlast them.
 */
#include "base/assert.h"
#include "guard/fault.h"
#include "pools/buffer.h"

static WEIRI_COLD WEIRI_NORETURN void
kernel_fault(
    const struct weir_buffer *buffer, uint64_t number, const char *detail)
{
	weiri_buffer_fault(WEIR_FAULT_BAD_ARGUMENT, buffer, number, detail);
}

/* With no other holder, and none that could come from a static. */
WEIRI_INLINE bool
kernel_alone(uint32_t flags, uint32_t references)
{
	return references == 1 && (flags & WEIRI_BUFFER_EXTERNAL) == 0;
}

/* One operation more; false when they cannot be counted. */
static bool
kernel_add(struct weir_buffer *buffer)
{
	uint16_t word = WEIRI_LOAD(&buffer->kernel);

	do {
		if ((word & WEIRI_KERNEL_COUNT) == WEIRI_KERNEL_COUNT)
			return false;
	} while (!__atomic_compare_exchange_n(&buffer->kernel, &word,
	    (uint16_t)(word + 1), true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return true;
}

bool
weiri_buffer_to_kernel(struct weir_buffer *buffer, enum weir_buffer_state state)
{
	uint32_t references =
	    __atomic_load_n(&buffer->references, __ATOMIC_ACQUIRE);
	/* Second, so that a mark set before another's release is seen: what is
	 * stored below would take it away. */
	uint32_t flags = weiri_buffer_flags(buffer);
	bool receives = state == WEIR_BUFFER_KERNEL_RX;
	uint16_t word = WEIRI_LOAD(&buffer->kernel);

	WEIR_ASSERT(receives || state == WEIR_BUFFER_KERNEL_TX);
	if (weiri_buffer_count_bad(references) && WEIR_DETECTOR(kernel_dead))
		weiri_buffer_fault_count(buffer, references, flags,
		    "lent to the kernel, but %p has no reference");
	if (WEIR_UNLIKELY(receives && references != 1) &&
	    WEIR_DETECTOR(kernel_rx_shared))
		kernel_fault(buffer, references,
		    "received into, but %p has %u references");
	if (WEIR_UNLIKELY(references == 1 && word != 0) &&
	    WEIR_DETECTOR(kernel_lent_twice))
		kernel_fault(buffer, 0,
		    "lent to the kernel, which has the only reference of %p");
	if (kernel_alone(flags, references)) {
		WEIRI_STORE(&buffer->kernel,
		    (uint16_t)(1 | (receives ? WEIRI_KERNEL_RX : 0)));
		WEIRI_STORE(&buffer->flags, flags | WEIRI_BUFFER_KERNEL);
	} else {
		if ((flags & WEIRI_BUFFER_KERNEL) == 0)
			__atomic_fetch_or(&buffer->flags, WEIRI_BUFFER_KERNEL,
			    __ATOMIC_RELAXED);
		if (!kernel_add(buffer))
			return false;
		if (receives)
			__atomic_fetch_or(&buffer->kernel,
			    (uint16_t)WEIRI_KERNEL_RX, __ATOMIC_RELAXED);
	}
	weiri_buffer_note(
	    buffer, receives ? WEIR_BUFFER_EVENT_RX : WEIR_BUFFER_EVENT_TX);
	return true;
}

static void
kernel_demand_lent(const struct weir_buffer *buffer, uint16_t word)
{
	if (WEIR_UNLIKELY((word & WEIRI_KERNEL_COUNT) == 0) &&
	    WEIR_DETECTOR(kernel_not_lent))
		kernel_fault(
		    buffer, 0, "%p comes from the kernel, which has it not");
}

void
weiri_buffer_kernel_sent(struct weir_buffer *buffer)
{
	uint16_t word = __atomic_fetch_or(
	    &buffer->kernel, (uint16_t)WEIRI_KERNEL_NOTIFY, __ATOMIC_RELAXED);

	kernel_demand_lent(buffer, word);
	weiri_buffer_note(buffer, WEIR_BUFFER_EVENT_SENT);
}

void
weiri_buffer_from_kernel(struct weir_buffer *buffer)
{
	uint32_t references =
	    __atomic_load_n(&buffer->references, __ATOMIC_ACQUIRE);
	uint32_t flags = weiri_buffer_flags(buffer); /* second, as above */
	uint16_t word = WEIRI_LOAD(&buffer->kernel);

	kernel_demand_lent(buffer, word);
	weiri_buffer_note(buffer, WEIR_BUFFER_EVENT_BACK);
	if (kernel_alone(flags, references)) {
		WEIRI_STORE(&buffer->kernel, 0);
		WEIRI_STORE(&buffer->flags, flags & ~WEIRI_BUFFER_KERNEL);
		return;
	}

	uint16_t less;

	do {
		less =
		    (word & WEIRI_KERNEL_COUNT) == 1 ? 0 : (uint16_t)(word - 1);
	} while (!__atomic_compare_exchange_n(&buffer->kernel, &word, less,
	    true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

void
weiri_buffer_kernel_done(struct weir_buffer *buffer)
{
	weiri_buffer_from_kernel(buffer);
	weir_buffer_release(buffer);
}

void
weiri_buffer_kernel_end(struct weir_buffer *buffer, uint32_t count)
{
	uint16_t word = WEIRI_LOAD(&buffer->kernel);

	if (WEIR_LIKELY((word & WEIRI_KERNEL_COUNT) == 0) ||
	    !WEIR_DETECTOR(kernel_released))
		return;
	/* As it was before the release, for a hook that leaves. */
	WEIRI_STORE(&buffer->references, count);
	weiri_buffer_fault(WEIR_FAULT_REF_UNDERFLOW, buffer,
	    word & WEIRI_KERNEL_COUNT,
	    "released, but what is left of %p is the kernel's");
}

#if defined(WEIR_DEBUG) && WEIR_DEBUG >= 1
void
weiri_buffer_demand_readable(const struct weir_buffer *buffer)
{
	if (WEIR_UNLIKELY((WEIRI_LOAD(&buffer->kernel) & WEIRI_KERNEL_RX) != 0))
		kernel_fault(
		    buffer, 0, "touched, but the kernel is writing buffer %p");
}
#endif

enum weir_buffer_state
weir_buffer_state(const struct weir_buffer *buffer)
{
	uint16_t word = WEIRI_LOAD(&buffer->kernel);

	if (WEIRI_LOAD(&buffer->references) == 0)
		return WEIR_BUFFER_FREE;
	if (word == 0)
		return WEIR_BUFFER_APP;
	if ((word & WEIRI_KERNEL_RX) != 0)
		return WEIR_BUFFER_KERNEL_RX;
	return (word & WEIRI_KERNEL_NOTIFY) != 0 ? WEIR_BUFFER_ZC_NOTIFY
						 : WEIR_BUFFER_KERNEL_TX;
}
