/* SPDX-License-Identifier: MIT */
/*
 * state.h - what the files of the guard share with each other and nobody else.
 */
#ifndef WEIRI_GUARD_STATE_H
#define WEIRI_GUARD_STATE_H

#include "config/config.h"
#include "guard/guard.h"
#include "guard/space.h"
#include "guard/through.h"
#include "os/os.h"

/* Of samples, of all objects in mode full, of places that do not trap. */
#define WEIRI_GUARD_SMALL 0
#define WEIRI_GUARD_LARGE 1
#define WEIRI_GUARD_PACKED 2

/* Behind the spaces of the guard's own addresses, that of blocks of malloc(),
 * which has none. */
#define WEIRI_GUARD_THROUGH WEIRI_GUARD_SPACES

#define WEIRI_GUARD_NAME_BYTES 48
#define WEIRI_GUARD_NAMES 4096
#define WEIRI_GUARD_LIST_BYTES 256

/* Of a pool, for as long as objects of it may be known: longer than it is. */
struct weiri_guard_name {
	char name[WEIRI_GUARD_NAME_BYTES];
	char type[WEIRI_GUARD_NAME_BYTES]; /* empty: not said */
	const char *kind;
	uint32_t serial; /* of the pool that has the entry */
	bool gone;
	struct weiri_stack made; /* who created the pool */
};

struct weiri_guard_state {
	struct weiri_mutex lock; /* a leaf */
	/* In force; the second half is read without the lock. */
	char pools[WEIRI_GUARD_LIST_BYTES];
	bool started;
	enum weir_guard_mode mode;
	uint32_t rate;
	uint64_t interval_ns;             /* between two samples; atomic */
	uint64_t next_ns;                 /* no sample before; atomic */
	uint8_t policy[WEIR_FAULT_COUNT]; /* atomic */
	struct weiri_list list;           /* of pools */
	struct weiri_space space[WEIRI_GUARD_SPACES + 1];
	/* Counts; atomic. */
	uint64_t guarded, refused, reports;
	uint32_t serial;
	uint16_t names_used, name_turn;
	struct weiri_guard_name name[WEIRI_GUARD_NAMES];
};

extern struct weiri_guard_state weiri_guard_state
    __attribute__((visibility("hidden")));

/* The space and the record that @address is in a place of; NULL: none. */
struct weiri_guarded *weiri_guard_find(
    const void *address, struct weiri_space **space);

WEIRI_INLINE enum weiri_guarded_state
weiri_guarded_state(const struct weiri_guarded *guarded)
{
	/* Pairs with the release in object_begin(): O3. */
	return (enum weiri_guarded_state)__atomic_load_n(
	    &guarded->state, __ATOMIC_ACQUIRE);
}

/* The name of a record's pool, which may be gone. */
const struct weiri_guard_name *weiri_guard_name_of(
    const struct weiri_guarded *guarded);

/* Is @name in the list: as a whole, or by its beginning and a star? */
bool weiri_guard_lists(const char *list, const char *name);

/* Puts a menu in force, in all pools; 0 or -ENOMEM. */
int weiri_guard_put_debug(const struct weiri_debug_option *option);

/* Under the lock: the pool has an entry in the table. */
void weiri_guard_name_need(struct weiri_guard_pool *pool);

/* Under the lock: where the stacks are kept of what the pool puts under guard now,
 * the number of a space plus 1; 0: it puts nothing there, or places of the debug
 * menu.  *all: it puts all there. */
uint8_t weiri_guard_sites(const struct weiri_guard_pool *pool, bool *all);

struct weiri_fault_site;

/* In the slack, and in what ended.  Unlikely in text, not the byte of any filler in
 * use. */
#define WEIRI_GUARD_SLACK 0xb7

/* The first byte in [@from, @to) that does not hold the slack's pattern, or
 * NULL. */
const char *weiri_guard_find_written(const char *from, const char *to);

/* An object ends whose pages are [@first, @end): tells of a write around it. */
void weiri_guard_verify(
    struct weiri_guarded *guarded, const char *first, const char *end);

/*
 * An object's page, which is all of its place, is moved to where the next object
 * is to be; the place of that, to be put ahead, or NULL: nothing moved.
 */
struct weiri_guarded *weiri_ready_make(
    struct weiri_space *space, const struct weiri_guarded *ending);

/* A place that was taken and is ready is as it was made.  False: somebody wrote
 * there, which was told; the place is retired. */
bool weiri_ready_is_whole(
    struct weiri_space *space, struct weiri_guarded *guarded);

/* Reports what is wrong with an object; returns if the program goes on. */
void weiri_guard_tell(
    const struct weiri_guarded *guarded, struct weiri_fault_site site);

/* Fills in what an access to the site's address was, seen from the object. */
void weiri_trap_judge(struct weiri_fault_site *site,
    const struct weiri_guarded *guarded, bool writes);

/* Faults of the guard's pages, and of threads out of stack; once. */
void weiri_trap_start(void);

/* Does the program go on after a fault of this class with an object put under
 * guard in @mode? */
bool weiri_guard_goes_on(
    enum weir_fault_class fault_class, enum weir_guard_mode mode);

#endif /* WEIRI_GUARD_STATE_H */
