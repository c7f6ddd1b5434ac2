/* SPDX-License-Identifier: MIT */
/*
 * mark.h - the word that free memory begins with, where a pool puts one there.
 *
 * It is a secret mixed with the address of the memory, so that no copy of one is
 * another's and what a program writes there by chance is none.  Memory that begins
 * with 0 has none: it is fresh, went back to the system, or was left as it was.
 * So a write to the first word of free memory is seen, unless it is of 0.
 *
 * A secret is odd, so that no mark of an aligned address is 0.
 */
#ifndef WEIRI_MARK_H
#define WEIRI_MARK_H

#include "base/compiler.h"

#include <stdint.h>

WEIRI_INLINE uint64_t
weiri_mark(uint64_t secret, const void *start)
{
	return secret ^ (uintptr_t)start;
}

/* Of free memory: was its first word written to? */
WEIRI_INLINE bool
weiri_mark_is_gone(uint64_t secret, const void *start)
{
	uint64_t word = *(const uint64_t *)start;

	return word != 0 && word != weiri_mark(secret, start);
}

#endif /* WEIRI_MARK_H */
