/* SPDX-License-Identifier: MIT */
/*
 * stack.h - who is calling: a thread, its stack, and stacks kept for later.
 */
#ifndef WEIRI_GUARD_STACK_H
#define WEIRI_GUARD_STACK_H

#include "base/compiler.h"

/* Deeper callers are left out. */
#define WEIRI_STACK_FRAMES 16

struct weiri_stack {
	uint32_t count;
	uintptr_t frame[WEIRI_STACK_FRAMES]; /* innermost first */
};

/* What the guard knows of a thread; made at its first slow call. */
struct weiri_guard_thread {
	uintptr_t low, high; /* its stack; high 0: not known */
	uint64_t random;     /* state of xorshift */
	uint32_t number;     /* the system's */
	uint32_t stride;     /* mean of its countdowns, for samples by time */
	bool ready;
	bool handler_stack; /* was asked for */
	bool reporting;     /* a fault meanwhile is one of the report */
};

extern __thread struct weiri_guard_thread weiri_guard_self
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

#define WEIRI_STRIDE_START 256u

/* Under no lock, since the system's answer may take memory: not
 * async-signal-safe. */
WEIRI_COLD void weiri_guard_thread_start(void);

WEIRI_INLINE struct weiri_guard_thread *
weiri_guard_thread(void)
{
	if (WEIR_UNLIKELY(!weiri_guard_self.ready))
		weiri_guard_thread_start();
	return &weiri_guard_self;
}

/* Its number, for who may allocate nothing. */
uint32_t weiri_guard_thread_number(void);

/* The only thread of a fork's child has another number. */
void weiri_guard_thread_forked(void);

/* Even over all values, and over 0 .. bound - 1. */
uint64_t weiri_guard_random(struct weiri_guard_thread *thread);
uint32_t weiri_guard_random_below(
    struct weiri_guard_thread *thread, uint32_t bound);

/*
 * The function that calls this, who called that, and so on; or @pc and what is
 * behind the frame at @frame, which is above @lowest.  Async-signal-safe; reads
 * nothing outside the thread's stack.
 */
void weiri_stack_here(struct weiri_stack *stack);
void weiri_stack_from(
    struct weiri_stack *stack, uintptr_t pc, uintptr_t frame, uintptr_t lowest);

/* ---- stacks kept --------------------------------------------------------- */

/*
 * Equal stacks are kept once.  A table is the caller's zeroed memory; entries
 * are added without a lock by any thread and never leave.
 */
struct weiri_sites {
	uint32_t *bucket; /* of entries; a power of two of them */
	uint32_t bucket_count;
	uint32_t word_count;
	uintptr_t *word; /* entries: next and count, frames */
	uint32_t used;   /* of words; atomic */
};

/* The number of an equal stack in the table; 0 if there is no room. */
uint32_t weiri_sites_keep(
    struct weiri_sites *sites, const struct weiri_stack *stack);

/* Where a kept stack's frames lie, innermost first; NULL for 0. */
const uintptr_t *weiri_sites_frames(
    const struct weiri_sites *sites, uint32_t site);

/* Empty for 0. */
void weiri_sites_get(
    const struct weiri_sites *sites, uint32_t site, struct weiri_stack *stack);

#endif /* WEIRI_GUARD_STACK_H */
