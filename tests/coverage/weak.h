/* SPDX-License-Identifier: MIT */
/*
 * weak.h - weak compare-and-exchange that fails at times, as it may.
 *
 * Where a processor has load-linked and store-conditional, a weak one fails now
 * and then though nobody else was there; on others it never does, and the way
 * back to the loop's start is one that only a lost race takes.  Builds that count
 * what the tests run (WEIR_COVERAGE) have this put before every source of the
 * library: one in 16 fails.  What the caller expected is read anew, as always.
 *
 * A strong one fails for a reason alone, and is left as it is.
 */
#ifndef WEIR_COVERAGE_WEAK_H
#define WEIR_COVERAGE_WEAK_H

#include <stdbool.h>
#include <stdint.h>

__attribute__((unused)) static bool
weir_coverage_fails(void)
{
	static unsigned calls;

	return __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED) % 16 == 15;
}

#define WEIR_COVERAGE_WEAK(bytes, type)                                    \
	__attribute__((unused)) static bool weir_coverage_weak_##bytes(    \
	    type *at, type *expected, type desired)                        \
	{                                                                  \
		if (weir_coverage_fails()) {                               \
			*expected = __atomic_load_n(at, __ATOMIC_SEQ_CST); \
			return false;                                      \
		}                                                          \
		return __atomic_compare_exchange_n(at, expected, desired,  \
		    true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);             \
	}

WEIR_COVERAGE_WEAK(1, uint8_t)
WEIR_COVERAGE_WEAK(2, uint16_t)
WEIR_COVERAGE_WEAK(4, uint32_t)
WEIR_COVERAGE_WEAK(8, uint64_t)

/* Calls and no operators: a branch here would count where the macro stands. */
#define __atomic_compare_exchange_n(                                           \
    at, expected, desired, weak, order, failure)                               \
	__builtin_choose_expr(weak,                                            \
	    __builtin_choose_expr(sizeof(*(at)) == 8,                          \
		weir_coverage_weak_8(                                          \
		    (void *)(at), (void *)(expected), (uint64_t)(desired)),    \
		__builtin_choose_expr(sizeof(*(at)) == 4,                      \
		    weir_coverage_weak_4((void *)(at), (void *)(expected),     \
			(uint32_t)(uintptr_t)(desired)),                       \
		    __builtin_choose_expr(sizeof(*(at)) == 2,                  \
			weir_coverage_weak_2((void *)(at), (void *)(expected), \
			    (uint16_t)(uintptr_t)(desired)),                   \
			weir_coverage_weak_1((void *)(at), (void *)(expected), \
			    (uint8_t)(uintptr_t)(desired))))),                 \
	    weir_coverage_strong(at, expected, desired, order, failure))

/* The builtin itself: a macro is not expanded within itself. */
#define weir_coverage_strong(at, expected, desired, order, failure) \
	__atomic_compare_exchange_n(                                \
	    at, expected, desired, false, order, failure)

#endif /* WEIR_COVERAGE_WEAK_H */
