/* SPDX-License-Identifier: MIT */
/*
 * bug.h - a set of programs with one bug each, and what is to be said of it.
 *
 *     BUG(cache_double_free, ROW(DOUBLE_FREE), POOL(CACHE), NAMES("conn"),
 *         ALWAYS(NOW, "double-free"))
 *     {
 *             struct weir_cache *cache = bug_cache("conn", 200);
 *             void *object = weir_cache_alloc(cache);
 *
 *             weir_cache_free(cache, object);
 *             BUG_HERE(weir_cache_free(cache, object));
 *             weir_cache_destroy(cache);
 *     }
 *
 * Each block is a program, run in a process of its own, with the public headers
 * and nothing else.  Run with `bug` false it is its own mended twin: what
 * BUG_HERE() holds is left out, what MENDED() holds is done instead.  Marks on
 * standard error before and after the bug tell the runner when a report came.
 *
 * What is expected is stated for each mode of the library:
 *
 *   A  always on    no environment
 *   S  sampled      WEIR_GUARD=sample:1
 *   D  full         WEIR_GUARD=full
 *
 * A twin, and a GOOD() program, must stay silent in all of them.
 */
#ifndef WEIR_FAULT_BUG_H
#define WEIR_FAULT_BUG_H

#include <weir/weir.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- what a program is about --------------------------------------------- */

/* Kinds of bugs; the rows of docs/SECURITY-MODEL.md. */
/* clang-format off */
#define BUG_ROWS(X)                                                   \
	X(DOUBLE_FREE, "freed twice")                                 \
	X(STALE_FREE, "freed again after its memory was reused")      \
	X(WILD, "an interior, misaligned, foreign or wild pointer "   \
	    "freed")                                                  \
	X(WRONG_POOL, "freed to the wrong pool or with a wrong size") \
	X(STATE, "freed with its constructed state broken")           \
	X(READ_FREED, "read after it was freed or ended")             \
	X(WRITE_FREED, "written after it was freed or ended")         \
	X(GONE, "a pool used or destroyed after its end")             \
	X(OVERFLOW, "written past its end")                           \
	X(OVERREAD, "read past its end")                              \
	X(UNDERFLOW, "written before its start")                      \
	X(FORGED, "free memory overwritten to have an address forged") \
	X(PRODUCT, "count times size overflows")                      \
	X(LIVE, "pool destroyed with objects in use")                 \
	X(LEAK, "never freed")                                        \
	X(UNSET, "read before it was written")                        \
	X(OWNER, "used by a thread that does not own it")             \
	X(STACK, "a thread's stack overflows")                        \
	X(CALL, "another call against its contract")

/* The columns. */
#define BUG_POOLS(X)                    \
	X(CACHE, "cache")               \
	X(BATCH, "cache, `batch`")      \
	X(HEAP, "heap")                 \
	X(REGION, "region")             \
	X(VM, "region_vm")              \
	X(BUFFER, "buffer")             \
	X(BUDDY, "buddy")               \
	X(BOUNDED, "bounded")
/* clang-format on */

enum bug_row {
#define X(symbol, text) BUG_ROW_##symbol,
	BUG_ROWS(X)
#undef X
	    BUG_ROW_COUNT
};

enum bug_pool {
#define X(symbol, text) BUG_POOL_##symbol,
	BUG_POOLS(X)
#undef X
	    BUG_POOL_COUNT
};

/* When a report comes. */
enum bug_when {
	BUG_NEVER,   /* the program ends as if nothing had been */
	BUG_NOW,     /* in the faulty statement */
	BUG_LATER,   /* in a later call */
	BUG_EXIT,    /* when the program ends */
	BUG_REFUSED, /* no report: the call answers that it cannot be */
	BUG_PATTERN, /* no report: what is read is a pattern, not old data */
	BUG_DIES,    /* no report: the system ends the program */
};

enum bug_mode {
	BUG_MODE_A,
	BUG_MODE_S,
	BUG_MODE_D,
	BUG_MODE_COUNT,
};

struct bug_goal {
	enum bug_when when;
	const char *class_text; /* NULL: what is reported is no fault */
};

/* What of a report's stacks must be there, where a mode keeps any. */
enum bug_stack {
	BUG_STACK_ALLOC = 1 << 0,
	BUG_STACK_FREE = 1 << 1,
};

struct bug_program {
	const char *name;
	void (*run)(bool bug);
	enum bug_row row;
	enum bug_pool pool;
	const char *names[3]; /* each in quotes in the report */
	const char *text;     /* what else is in it, or NULL */
	struct bug_goal goal[BUG_MODE_COUNT];
	unsigned stacks;         /* of enum bug_stack, in S and D */
	const char *environment; /* "NAME=value", or NULL */
	bool good;               /* has no bug */
	bool no_sanitizer;       /* its bug is one a sanitizer stops */
	struct bug_program *next;
};

void bug_register(struct bug_program *program);

#define BUG_PROGRAM(id, ...)                                        \
	static void bug_run_##id(bool bug);                         \
	__attribute__((constructor)) static void bug_add_##id(void) \
	{                                                           \
		static struct bug_program program = {               \
		    .name = #id, .run = bug_run_##id, __VA_ARGS__}; \
		bug_register(&program);                             \
	}                                                           \
	static void bug_run_##id(bool bug)

#define BUG(id, ...) BUG_PROGRAM(id, __VA_ARGS__)

#define GOOD(id)                          \
	BUG_PROGRAM(id, .good = true)     \
	{                                 \
		void bug_good_##id(void); \
		(void)bug;                \
		bug_good_##id();          \
	}                                 \
	void bug_good_##id(void);         \
	void bug_good_##id(void)

#define ROW(symbol) .row = BUG_ROW_##symbol
#define POOL(symbol) .pool = BUG_POOL_##symbol
#define NAMES(...) .names = {__VA_ARGS__}
#define TEXT(text_) .text = (text_)
#define STACKS(mask) .stacks = (mask)
#define ENVIRONMENT(text) .environment = (text)
#define NO_SANITIZER .no_sanitizer = true

#define IN_A(when_, class_) .goal[BUG_MODE_A] = {BUG_##when_, class_}
#define IN_S(when_, class_) .goal[BUG_MODE_S] = {BUG_##when_, class_}
#define IN_D(when_, class_) .goal[BUG_MODE_D] = {BUG_##when_, class_}
/* What debug builds of the library find in any mode. */
#if BUG_DEBUG >= 1
#define IN_DEBUG_AND_D(when_, class_) ALWAYS(when_, class_)
#else
#define IN_DEBUG_AND_D(when_, class_) \
	IN_A(NEVER, NULL), IN_S(NEVER, NULL), IN_D(when_, class_)
#endif
/* Where all modes say the same. */
#define ALWAYS(when_, class_) \
	IN_A(when_, class_), IN_S(when_, class_), IN_D(when_, class_)
/* What only a guarded object shows. */
#define GUARDED(when_, class_) \
	IN_A(NEVER, NULL), IN_S(when_, class_), IN_D(when_, class_)

/* ---- in a program ---------------------------------------------------------- */

void bug_mark(const char *mark);

/* The bug. */
#define BUG_HERE(...)                     \
	do {                              \
		if (bug) {                \
			bug_mark("op");   \
			__VA_ARGS__;      \
			bug_mark("past"); \
		}                         \
	} while (0)

/* What the mended program does in place of the bug, or beside it. */
#define MENDED(...)                  \
	do {                         \
		if (!bug) {          \
			__VA_ARGS__; \
		}                    \
	} while (0)

/* What no program of the set can go on without. */
#define NEED(condition)                                      \
	do {                                                 \
		if (!(condition))                            \
			bug_need_failed(__FILE__, __LINE__); \
	} while (0)

_Noreturn void bug_need_failed(const char *file, int line);

/* The same address; what the compiler knows of it is forgotten. */
void *bug_hide(const void *address);

/* Accesses that stay in the program. */
void bug_read(const void *address, size_t bytes);
void bug_write(void *address, size_t bytes);

/* Memory of which every word is an address that no pool gave. */
void bug_forge(void *address, size_t bytes, const void *fake);
/* No two of them are the same. */
bool bug_distinct(void *const *addresses, size_t count);

/* Runs a function on a thread of its own, to its end. */
void bug_on_thread(void (*run)(void *), void *context);

struct weir_cache *bug_cache(const char *name, size_t bytes);
struct weir_cache *bug_cache_batch(const char *name, size_t bytes);
struct weir_heap *bug_heap(const char *name);
struct weir_region *bug_region(struct weir_region *parent);
struct weir_region_vm *bug_region_vm(const char *name);
struct weir_buffer_pool *bug_buffers(const char *name);
void *bug_pages(size_t count); /* fresh ones, for good */
struct weir_buddy *bug_buddy(const char *name, void *base, size_t unit_bytes);

/* The name of every region made by bug_region(). */
#define BUG_REGION "request"

#endif /* WEIR_FAULT_BUG_H */
