/* SPDX-License-Identifier: MIT */
/*
 * space.h - places for objects under guard: pages between pages that trap, and
 * a record for each.
 */
#ifndef WEIRI_GUARD_SPACE_H
#define WEIRI_GUARD_SPACE_H

#include "guard/guard.h"
#include "guard/stack.h"

/* Places have 1, 2, 4, ... pages; the largest a GiB of pages of 4 KiB. */
#define WEIRI_SPACE_CLASSES 19

/* What a record keeps of an object that ended. */
#define WEIRI_GUARDED_KEPT 64

enum weiri_guarded_state {
	WEIRI_GUARDED_NONE, /* the place was never used, or waits for a use */
	WEIRI_GUARDED_LIVE,
	WEIRI_GUARDED_ENDING, /* claimed by the call that ends it */
	WEIRI_GUARDED_ENDED,  /* barred, and known */
};

/* A place, and the object that is or was in it. */
struct weiri_guarded {
	char *area; /* its pages; the page before and the one behind trap */
	char *start;
	size_t bytes;
	void *shadow; /* what the pool knows the object by */
	const struct weiri_guard_pool *pool; /* while it is live */
	uint64_t born_ns, ended_ns;
	uint32_t born_site, ended_site; /* in the space's table */
	uint32_t born_thread, ended_thread;
	uint32_t next;  /* in a list of its space; records count from 1 */
	uint16_t named; /* the pool's name; see mode.c */
	uint8_t class;
	uint8_t state; /* enum weiri_guarded_state; atomic */
	uint8_t how;   /* enum weiri_guard_how */
	bool kept_is;  /* kept[] holds the object's first bytes */
	bool open;     /* its pages could not be barred */
	bool let_in;   /* it traps no more, and nothing is there */
	bool ready;    /* its page is there, full of slack */
	uint8_t mode;  /* that it was put under guard in */
	bool quiet;    /* what its end finds is told later */
	bool bad; /* some page traps no more after a report; never used again */
	uint16_t debug; /* what was on the menu for it */
	/* Of what lies in no place: the space that has its stacks, plus 1. */
	uint8_t sites;
	/* No memory but numbers: from `shadow` on, as many as `bytes`. */
	bool is_run;
	uint64_t sum; /* of what it held at its end; 0: not kept */
	uint8_t kept[WEIRI_GUARDED_KEPT];
};

/* Records in the order they came to rest. */
struct weiri_space_list {
	uint32_t first, last, count;
};

struct weiri_space_class {
	struct weiri_space_list ended;
	uint32_t fresh, fresh_end; /* records whose places were never used */
};

/* Address space cut into units of 2 MiB, of which a run belongs to one class. */
struct weiri_space_unit {
	uint32_t record; /* of the first place in the run; 0: not used */
	uint32_t lead;   /* units of the run before this one */
};

struct weiri_space {
	char *base, *end; /* of the places; set before it is published */
	size_t grain;     /* the smallest place */
	size_t border;    /* that traps, before each place */
	char *committed;  /* up to here */
	struct weiri_space_unit *unit;
	struct weiri_guarded *record; /* [0] is nobody's */
	uint32_t record_count, record_max;
	size_t quarantine_max; /* ended ones of a page that are kept; larger
				  classes have fewer */
	size_t live_bytes_max; /* pages of live objects in all */
	struct weiri_sites sites;
	bool moves; /* a page may be moved to another place; atomic */
	/* Under the guard's lock. */
	size_t live_bytes;
	uint32_t live, ended;
	/* Places of one page that are ready, in the order of their use; those
	 * that a call is making so; and those that are to be, let in. */
	struct weiri_space_list ready, let_in;
	uint32_t readying;
	bool letting_in; /* a call is at it */
	struct weiri_space_class class[WEIRI_SPACE_CLASSES];
};

/* Small: for samples.  Large: for all objects.  Packed: for all objects, in places
 * that do not trap, from 128 bytes on, each aligned to its size. */
enum weiri_space_kind {
	WEIRI_SPACE_SMALL,
	WEIRI_SPACE_LARGE,
	WEIRI_SPACE_PACKED,
};

/* 0 or -ENOMEM. */
int weiri_space_init(struct weiri_space *space, enum weiri_space_kind kind);

/* Under the lock: a place of @grains, whose pages trap if any of its space do, or
 * NULL.  @late: one that ended long ago, rather than the last. */
struct weiri_guarded *weiri_space_take(
    struct weiri_space *space, size_t grains, bool late);

/* Under the lock: an ended object's place comes to rest, to be used again @late,
 * or as the next of its class. */
void weiri_space_rest(
    struct weiri_space *space, struct weiri_guarded *guarded, bool late);

/* Under the lock: a place that was taken, and is bad, is in no list from now on and
 * comes into none. */
void weiri_space_retire(
    struct weiri_space *space, struct weiri_guarded *guarded);

/* Under the lock: places of one page that are the next to be taken, the first for
 * the caller to make it ready.  It is let in, or else all of them are for the caller
 * to be, and the others to be given back.  0: as many are ready as may be. */
size_t weiri_space_ahead(
    struct weiri_space *space, struct weiri_guarded *ahead[], size_t count_max);

/* Under the lock: the others, whether they were `let_in` or not. */
void weiri_space_put_let_in(
    struct weiri_space *space, struct weiri_guarded *ahead[], size_t count);

/* Under the lock: the first is `ready` now, or is not to be. */
void weiri_space_put_ahead(
    struct weiri_space *space, struct weiri_guarded *guarded);

/* Under the lock: no page is moved any more, and what was let in for it traps. */
void weiri_space_stop_moving(struct weiri_space *space);

/* Under the lock, in the child of a fork. */
void weiri_space_fork_child(struct weiri_space *space);

/* The record whose place, or the page before, @address is in; NULL: none. */
struct weiri_guarded *weiri_space_find(
    const struct weiri_space *space, const void *address);

/* The neighbour whose place ends where the page before @guarded's begins. */
struct weiri_guarded *weiri_space_before(
    const struct weiri_space *space, const struct weiri_guarded *guarded);

WEIRI_INLINE size_t
weiri_space_area_bytes(const struct weiri_guarded *guarded, size_t grain)
{
	return grain << guarded->class;
}

#endif /* WEIRI_GUARD_SPACE_H */
