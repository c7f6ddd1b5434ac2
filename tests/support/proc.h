/* SPDX-License-Identifier: MIT */
/*
 * proc.h - what the system says of this process's memory.
 *
 * The sums come from /proc/self; a system without it skips the test.  errno is
 * anything afterwards.
 */
#ifndef WEIR_TEST_PROC_H
#define WEIR_TEST_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The address space that is mapped. */
uint64_t test_mapped_bytes(void);

/* Is all that is mapped the program's?  Sanitizers and valgrind map memory of
 * their own when they like; stdio does so at its first call, which this is. */
bool test_owns_memory(void);

/* Pages in memory, which the kernel counts in batches for each thread. */
uint64_t test_resident_bytes(void);

#endif /* WEIR_TEST_PROC_H */
