/* SPDX-License-Identifier: MIT */
/*
 * assert.h - assertions about the library itself.
 *
 * WEIR_ASSERT       debug builds (WEIR_DEBUG >= 1), O(1) conditions
 * WEIR_ASSERT_SLOW  WEIR_DEBUG >= 2: walkers such as weiri_depot_check()
 *
 * A caller's mistake is never an assertion: those are faults (guard/fault.h)
 * and are reported in every build.
 */
#ifndef WEIRI_ASSERT_H
#define WEIRI_ASSERT_H

#include "base/compiler.h"

/* Supplied by os/: writes the line and aborts. */
void weiri_assert_failed(
    const char *condition, const char *file, int line) WEIRI_NORETURN;

#if defined(WEIR_DEBUG) && WEIR_DEBUG >= 1
#define WEIR_ASSERT(condition)  \
	(WEIR_LIKELY(condition) \
		? (void)0       \
		: weiri_assert_failed(#condition, __FILE__, __LINE__))
#else
#define WEIR_ASSERT(condition) ((void)sizeof(!(condition)))
#endif

#if defined(WEIR_DEBUG) && WEIR_DEBUG >= 2
#define WEIR_ASSERT_SLOW(condition) WEIR_ASSERT(condition)
#else
#define WEIR_ASSERT_SLOW(condition) ((void)sizeof(!(condition)))
#endif

#endif /* WEIRI_ASSERT_H */
