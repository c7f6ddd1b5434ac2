/* SPDX-License-Identifier: MIT */
/*
 * shim.h - put before every source of the library that the explorer runs.
 *
 * The sources stay as they are; what they ask of the compiler and of the system
 * is answered by the explorer instead:
 *
 *   atomic operations   steps of a schedule; see engine.c, memory.c
 *   locks, futex, time  the scheduler's
 *   thread-local words  a section, of which each thread has its image
 *   address space       an arena that every run finds as it was
 *
 * Plain loads and stores are announced by the compiler: the sources are built
 * with -fsanitize=thread, and memory.c defines the functions that this calls.
 *
 * Each operation names its site, the function it is in; a mutant weakens the
 * order of one site.
 */
#ifndef EXPLORE_SHIM_H
#define EXPLORE_SHIM_H

/* Before what is redefined below. */
#include "os/os.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sources that know ThreadSanitizer avoid what it does not understand.  The
 * explorer understands fences; assembler code nobody does. */
#undef __SANITIZE_THREAD__
#define BOUNDED_TSAN 1

/* ---- atomic operations --------------------------------------------------- */

enum explore_op {
	EXPLORE_LOAD,
	EXPLORE_STORE,
	EXPLORE_EXCHANGE,
	EXPLORE_COMPARE,
	EXPLORE_ADD,
	EXPLORE_SUB,
	EXPLORE_AND,
	EXPLORE_OR,
	EXPLORE_FENCE,
};

struct explore_site {
	const char *file, *function;
	enum explore_op op;
	int order;        /* as written */
	unsigned decided; /* serial of the mutant that `used` is for */
	int used;         /* the order it has in this run */
};

const char *site_op_name(enum explore_op op);

uint64_t explore_load(const volatile void *address, size_t bytes, int order,
    struct explore_site *site);
void explore_store(volatile void *address, size_t bytes, uint64_t value,
    int order, struct explore_site *site);
/* Exchange, add, ...: what was there before. */
uint64_t explore_change(volatile void *address, size_t bytes, uint64_t value,
    int order, struct explore_site *site);
bool explore_compare(volatile void *address, void *expected, size_t bytes,
    uint64_t desired, int order, int failure, struct explore_site *site);
void explore_fence(int order, struct explore_site *site);

/* Listed in a section, whether a run comes by or not. */
#define EXPLORE_SITE(operation, order_)                                       \
	({                                                                    \
		static struct explore_site site_ = {                          \
		    .file = __FILE__,                                         \
		    .function = __func__,                                     \
		    .op = operation,                                          \
		    .order = order_,                                          \
		};                                                            \
		static struct explore_site *const entry_                      \
		    __attribute__((section("explore_sites"), used)) = &site_; \
		&site_;                                                       \
	})

#define EXPLORE_BITS(value) ((uint64_t)(uintptr_t)(value))

#define __atomic_load_n(pointer, order)                                      \
	((__typeof__(*(pointer)))explore_load((pointer), sizeof(*(pointer)), \
	    (order), EXPLORE_SITE(EXPLORE_LOAD, (order))))
#define __atomic_store_n(pointer, value, order)                     \
	explore_store((pointer), sizeof(*(pointer)),                \
	    EXPLORE_BITS((__typeof__(*(pointer)))(value)), (order), \
	    EXPLORE_SITE(EXPLORE_STORE, (order)))
#define EXPLORE_CHANGE(operation, pointer, value, order)                       \
	((__typeof__(*(pointer)))explore_change((pointer), sizeof(*(pointer)), \
	    EXPLORE_BITS((value)), (order), EXPLORE_SITE(operation, (order))))
#define __atomic_exchange_n(pointer, value, order) \
	EXPLORE_CHANGE(EXPLORE_EXCHANGE, pointer, value, order)
#define __atomic_fetch_add(pointer, value, order) \
	EXPLORE_CHANGE(EXPLORE_ADD, pointer, value, order)
#define __atomic_fetch_sub(pointer, value, order) \
	EXPLORE_CHANGE(EXPLORE_SUB, pointer, value, order)
#define __atomic_fetch_and(pointer, value, order) \
	EXPLORE_CHANGE(EXPLORE_AND, pointer, value, order)
#define __atomic_fetch_or(pointer, value, order) \
	EXPLORE_CHANGE(EXPLORE_OR, pointer, value, order)
#define __atomic_add_fetch(pointer, value, order)                             \
	((__typeof__(*(pointer)))(__atomic_fetch_add(pointer, value, order) + \
				  (value)))
#define __atomic_compare_exchange_n(                               \
    pointer, expected, desired, weak, order, failure)              \
	explore_compare((pointer), (expected), sizeof(*(pointer)), \
	    EXPLORE_BITS(desired), (order), (failure),             \
	    EXPLORE_SITE(EXPLORE_COMPARE, (order)))
#define __atomic_thread_fence(order) \
	explore_fence((order), EXPLORE_SITE(EXPLORE_FENCE, (order)))
#define __atomic_signal_fence(order) __asm__ volatile("" : : : "memory")

/* ---- the system ----------------------------------------------------------- */

void explore_mutex_lock(struct weiri_mutex *mutex);
bool explore_mutex_try(struct weiri_mutex *mutex);
void explore_mutex_unlock(struct weiri_mutex *mutex);
bool explore_wait(const uint32_t *word, uint32_t value, uint64_t end_ns);
void explore_wake(const uint32_t *word);
void explore_once(weiri_once *once, void (*once_fn)(void));
uint64_t explore_now_ns(void);
void explore_sleep_ns(uint64_t ns);
int explore_exit_hook(void (*exit_fn)(void *argument));
int explore_exit_arm(void *argument);
uint64_t explore_random(void);
void explore_write_error(const char *text, size_t bytes);
void *explore_reserve(size_t bytes, size_t align);
int explore_commit(void *address, size_t bytes);
int explore_decommit(void *address, size_t bytes);

#define weiri_mutex_lock explore_mutex_lock
#define weiri_mutex_try explore_mutex_try
#define weiri_mutex_unlock explore_mutex_unlock
#define weiri_os_wait explore_wait
#define weiri_os_wake explore_wake
#define weiri_os_once explore_once
#define weiri_os_now_ns explore_now_ns
#define weiri_os_sleep_ns explore_sleep_ns
#define weiri_os_thread_exit_hook explore_exit_hook
#define weiri_os_thread_exit_arm explore_exit_arm
#define weiri_os_random explore_random
#define weiri_os_write_error explore_write_error
#define weiri_os_reserve explore_reserve
#define weiri_os_commit explore_commit
#define weiri_os_decommit explore_decommit
#define weiri_os_release(address, bytes) 0
#define weiri_os_drop(address, bytes) ((void)0)
#define weiri_os_prefault(address, bytes) 0
#define weiri_os_advise_huge(address, bytes) 0
#define weiri_os_advise_no_dump(address, bytes) 0

/* ---- memory ----------------------------------------------------------------- */

/* Announced first: the compiler does not look into these. */
void *explore_memset(void *into, int byte, size_t bytes);
void *explore_memcpy(void *into, const void *from, size_t bytes);
void *explore_memmove(void *into, const void *from, size_t bytes);
#undef memset
#undef memcpy
#undef memmove
#define memset explore_memset
#define memcpy explore_memcpy
#define memmove explore_memmove

/* A word of each thread: its image is put in place when the thread runs. */
#define __thread __attribute__((section("explore_tls")))
#define tls_model(model)

#endif /* EXPLORE_SHIM_H */
