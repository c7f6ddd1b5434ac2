/* SPDX-License-Identifier: MIT */
/*
 * stack.c - walks stacks by their frame pointers, and keeps what it saw.
 *
 *     frame --> | caller's frame | return address |   higher addresses follow
 *
 * Ten nanoseconds for sixteen frames, where unwinding by tables takes two
 * microseconds, allocates and is not safe in a handler.  The price: frames of
 * code that was compiled without frame pointers are missing.  In such code the
 * register holds anything, so each step must lead upwards, be aligned, and stay
 * within the thread's own stack; a walk that does not ends there.  The bounds of
 * the stack come from the system once a thread.  A handler that meets a thread
 * whose bounds are not known has the kernel read for it.
 *
 *     word:  | - | next | count | frame | frame | ... | next | count | ...
 *
 * A kept stack is found by a hash of its frames and pushed onto its bucket by
 * compare-and-exchange, complete before anyone can see it.  Two threads may keep
 * the same stack at once; then it is there twice, which costs its words alone.
 */
#include "guard/stack.h"

#include "base/assert.h"
#include "base/bits.h"
#include "os/guard.h"
#include "os/os.h"

/* A frame this far above the one before it is none. */
#define STACK_STEP_MAX ((uintptr_t)64 << 20)

__thread struct weiri_guard_thread weiri_guard_self;

/* ---- threads -------------------------------------------------------------- */

void
weiri_guard_thread_start(void)
{
	struct weiri_guard_thread *self = &weiri_guard_self;

	/* First: the system's answer may come by way of an allocator of ours. */
	self->ready = true;
	self->number = weiri_os_thread_number();
	self->random = weiri_os_random() | 1;
	self->stride = WEIRI_STRIDE_START;
	if (!weiri_os_stack(&self->low, &self->high))
		self->high = 0;
}

uint32_t
weiri_guard_thread_number(void)
{
	return weiri_guard_self.ready ? weiri_guard_self.number
				      : weiri_os_thread_number();
}

void
weiri_guard_thread_forked(void)
{
	if (weiri_guard_self.ready)
		weiri_guard_self.number = weiri_os_thread_number();
}

uint64_t
weiri_guard_random(struct weiri_guard_thread *thread)
{
	uint64_t x = thread->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	thread->random = x;
	return x;
}

uint32_t
weiri_guard_random_below(struct weiri_guard_thread *thread, uint32_t bound)
{
	return (uint32_t)((weiri_guard_random(thread) >> 32) * bound >> 32);
}

/* ---- walking --------------------------------------------------------------- */

/* The two words of a frame; false if they are not there to be read. */
__attribute__((no_sanitize("address", "thread"))) static bool
stack_read(uintptr_t frame, bool trusted, uintptr_t words[2])
{
	if (!trusted)
		return weiri_os_peek((const void *)frame, words, 16);
	words[0] = ((const volatile uintptr_t *)frame)[0];
	words[1] = ((const volatile uintptr_t *)frame)[1];
	return true;
}

void
weiri_stack_from(
    struct weiri_stack *stack, uintptr_t pc, uintptr_t frame, uintptr_t lowest)
{
	const struct weiri_guard_thread *self = &weiri_guard_self;
	bool known = self->ready && self->high != 0 && lowest >= self->low &&
		     lowest < self->high;
	uintptr_t high = known ? self->high : lowest + STACK_STEP_MAX;
	uintptr_t words[2];

	stack->count = 0;
	if (pc != 0)
		stack->frame[stack->count++] = pc;
	while (stack->count < WEIRI_STACK_FRAMES) {
		if (frame < lowest || frame % sizeof(words[0]) != 0 ||
		    frame > high - sizeof(words) ||
		    !stack_read(frame, known, words) || words[1] == 0)
			break;
		stack->frame[stack->count++] = words[1];
		lowest = frame + sizeof(words);
		frame = words[0];
	}
}

WEIRI_NOINLINE void
weiri_stack_here(struct weiri_stack *stack)
{
	uintptr_t frame = (uintptr_t)__builtin_frame_address(0);

	weiri_stack_from(stack, 0, frame, frame);
}

/* ---- keeping ----------------------------------------------------------------- */

#define STACK_HEAD_WORDS 2

static uint32_t
stack_hash(const struct weiri_stack *stack)
{
	uint64_t hash = stack->count;

	for (uint32_t i = 0; i < stack->count; i++)
		hash = (hash ^ stack->frame[i]) * UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)(hash >> 32);
}

static bool
sites_equal(const struct weiri_sites *sites, uint32_t site,
    const struct weiri_stack *stack)
{
	const uintptr_t *word = &sites->word[site];

	if (word[1] != stack->count)
		return false;
	for (uint32_t i = 0; i < stack->count; i++)
		if (word[STACK_HEAD_WORDS + i] != stack->frame[i])
			return false;
	return true;
}

/* In the chain that begins with @first. */
static uint32_t
sites_find(const struct weiri_sites *sites, uint32_t first,
    const struct weiri_stack *stack)
{
	for (uint32_t site = first; site != 0;
	     site = (uint32_t)sites->word[site])
		if (sites_equal(sites, site, stack))
			return site;
	return 0;
}

/* Words for a new entry, or 0. */
static uint32_t
sites_take(struct weiri_sites *sites, uint32_t words)
{
	uint32_t used = WEIRI_LOAD(&sites->used);
	uint32_t first;

	do {
		/* Number 0 is no stack. */
		first = used == 0 ? 1 : used;
		if (sites->word_count - first < words)
			return 0;
	} while (!__atomic_compare_exchange_n(&sites->used, &used,
	    first + words, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return first;
}

uint32_t
weiri_sites_keep(struct weiri_sites *sites, const struct weiri_stack *stack)
{
	uint32_t *bucket =
	    &sites->bucket[stack_hash(stack) & (sites->bucket_count - 1)];
	/* Pairs with the release below. */
	uint32_t first = __atomic_load_n(bucket, __ATOMIC_ACQUIRE);
	uint32_t site = sites_find(sites, first, stack);

	if (WEIR_LIKELY(site != 0))
		return site;
	site = sites_take(sites, STACK_HEAD_WORDS + stack->count);
	if (site == 0)
		return 0;

	uintptr_t *word = &sites->word[site];

	word[1] = stack->count;
	for (uint32_t i = 0; i < stack->count; i++)
		word[STACK_HEAD_WORDS + i] = stack->frame[i];
	do {
		word[0] = first;
	} while (!__atomic_compare_exchange_n(
	    bucket, &first, site, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
	return site;
}

void
weiri_sites_get(
    const struct weiri_sites *sites, uint32_t site, struct weiri_stack *stack)
{
	const uintptr_t *word = &sites->word[site];

	stack->count = 0;
	if (site == 0)
		return;
	stack->count = (uint32_t)weiri_min(word[1], WEIRI_STACK_FRAMES);
	for (uint32_t i = 0; i < stack->count; i++)
		stack->frame[i] = word[STACK_HEAD_WORDS + i];
}

const uintptr_t *
weiri_sites_frames(const struct weiri_sites *sites, uint32_t site)
{
	return site != 0 ? &sites->word[site + STACK_HEAD_WORDS] : NULL;
}
