/* SPDX-License-Identifier: MIT */
/*
 * depot.h - the engine under caches, buffers and region blocks: slots of one
 * size, cut from slabs, travelling in magazines.
 *
 *     pages --(slab)--> depot --(magazine)--> one thread --(slot)--> caller
 *                  one lock per depot     no lock, no atomics
 *
 * depot.c holds the invariants; cursor.h the two calls that are inlined.
 */
#ifndef WEIRI_DEPOT_H
#define WEIRI_DEPOT_H

#include "base/decay.h"
#include "base/detector.h"
#include "base/mark.h"
#include "os/os.h"
#include "pages/pages.h"
#include "slab/local.h"
#include "slab/magazine.h"
#include "slab/quota.h"
#include "slab/wait.h"

struct weiri_depot;
struct weiri_shards;
struct weiri_guard_pool;

/*
 * Header of one slab, outside its pages.  The span comes first: what the page
 * map answers for a slot is its slab.
 */
struct weiri_slab {
	struct weiri_span span;
	struct weiri_list link; /* in depot->partial or depot->full */
	struct weiri_depot *depot;
	char *first;     /* slot 0; behind the pages' head and colour */
	void *companion; /* the owner's, set by slab_open */
	uint8_t *state;  /* one byte a slot if the depot asked, or NULL */
	struct weiri_slab *visit_next; /* during weiri_depot_visit() */
	uint32_t slot_count;
	uint32_t carved;     /* slots [0, carved) exist */
	uint32_t free_count; /* set bits of free_bits */
	uint32_t header_bytes;
	uint32_t voided;      /* pages whose memory is not there; compact.c */
	uint32_t void_below;  /*   is done when fewer slots than this are out */
	bool idle;            /* every slot rests; at the end of its list */
	uint8_t looked;       /* depot->void_turn at the last look for pages */
	uint32_t warm;        /* above the slots taken since that look */
	uint64_t free_bits[]; /* 1: carved and resting in the slab */
};

/* Called without locks, on the thread that needs or returns the memory. */
struct weiri_depot_hooks {
	/* A slab enters; may attach a companion; false refuses it. */
	bool (*slab_open)(struct weiri_slab *slab, void *owner);
	/* It is in the depot's list, or closed again. */
	void (*slab_settled)(void *owner);
	void (*slab_close)(struct weiri_slab *slab, void *owner);
	/* A slot comes into being, and ends with its slab. */
	void (*slot_init)(struct weiri_slab *slab, void *slot, void *owner);
	void (*slot_fini)(struct weiri_slab *slab, void *slot, void *owner);
	/* Pages whose slots rest may go back.  The memory of such a slot is there
	 * again: zeros.  Under the lock; maybe of a slot that stayed. */
	void (*slot_again)(struct weiri_slab *slab, void *slot, void *owner);
	/* A full magazine of @slots came into the stock. */
	void (*stocked)(void *owner, size_t slots);
	/* A pass of weir_maintain() has done with the depot's own: a bounded
	 * step of the owner's, number @step of this pass; true: there are more.
	 */
	bool (*maintain)(void *owner, uint32_t step);
};

struct weiri_depot_config {
	const char *kind;   /* for reports: "cache" */
	const char *name;   /* must live as long as the depot */
	size_t slot_bytes;  /* distance of slots; a multiple of slot_align */
	size_t slot_align;  /* power of two, 8 .. 4096 */
	size_t slab_bytes;  /* 0: chosen; else a power of two >= 4 KiB */
	size_t slab_slots;  /* 0: as many as fit; else at most that many */
	size_t rounds;      /* a magazine grows to; 0: by slot_bytes */
	size_t limit;       /* slots in being; SIZE_MAX: none */
	size_t head_bytes;  /* of a slab, before its slots; the owner's */
	size_t front_bytes; /* of a slot, at the end of the one before it */
	bool uncoloured;    /* slot 0 of each slab where the head ends */
	bool state_bytes;   /* a state byte per slot in the slab header */
	bool verify;     /* slots of a magazine that comes in (state_bytes) */
	uint64_t secret; /* of marks in free slots; 0: there are none */
	bool counted;    /* count requests exactly; see cursor.h */
	bool countdown;  /* inline gets count, exactly or not */
	const struct weiri_wait_config *wait; /* NULL: gets fail; copied */
	struct weiri_guard_pool *guard; /* of the pool; NULL: never guarded */
	struct weir_quota *quota;       /* slabs are charged to; or NULL */
	const struct weiri_depot_hooks *hooks; /* NULL: none */
	void *owner;                           /* handed to the hooks */
};

struct weiri_depot {
	/* Read by every get and put, written at creation only. */
	uint32_t fast_offset; /* of the cell, in struct weir_local */
	uint32_t cell;        /* its index, or CELL_NONE */
	uint16_t index;       /* tag in the page map, unique in the process */
	uint16_t rounds_max;  /* what a magazine grows to */
	bool counted;
	bool countdown;
	bool uncoloured;
	bool state_bytes;
	bool verify;
	uint16_t rounds_wide; /*   and to what, if it is all a thread has */
	uint32_t slot_bytes;
	uint32_t head_bytes;
	uint32_t front_bytes;
	uint64_t slot_inverse; /* ceil(2^WEIRI_INVERSE_SHIFT / slot_bytes) */
	uint64_t secret;       /* see weiri_slot_written() */
	size_t slab_bytes;
	size_t slot_align;
	uint32_t slab_slots;    /* in each */
	size_t companion_bytes; /* pages a slab brings along, the owner's */
	size_t limit;           /* atomic: weiri_depot_set_limit() */
	struct weir_quota *quota;
	const struct weiri_depot_hooks *hooks;
	void *owner;
	const char *kind;
	const char *name;
	struct weiri_guard_pool *guard;
	struct weiri_shards *shards; /* shard.c; atomic */

	/* Written at magazine trips, without the lock. */
	WEIRI_ALIGNED(WEIRI_CACHE_LINE) int64_t spare_slots;
	int64_t withheld;     /* rounds of all loaded magazines */
	int64_t withheld_max; /* limit / 16 */
	uint64_t recall;      /* weiri_local_round: until it, all is due back */
	uint64_t given;       /* lower bound of gets, the loaded slots in it */
	uint64_t peak;
	uint16_t rounds;       /* what magazines are given now */
	uint16_t rounds_min;   /*   and at first */
	uint32_t window_swaps; /* for a spare, since swaps_ns */
	uint64_t swaps_ns;     /* when these were last thought over */

	/* Under the lock, which is a leaf: no hook, no page request under it. */
	WEIRI_ALIGNED(WEIRI_CACHE_LINE) struct weiri_mutex lock;
	struct weiri_magazine *full_list, *empty_list;
	uint32_t full_count, empty_count;
	uint64_t full_slots;       /* in full_list; racing reads */
	struct weiri_list partial; /* slabs with a slot to give */
	struct weiri_list full;    /* slabs without */
	uint64_t slab_count;
	uint64_t voided;  /* pages: sum over slabs; racing reads */
	uint64_t colours; /* slabs opened; atomic */
	uint64_t carved;  /* slots in being: sum of slab->carved */
	uint64_t resting; /* sum of slab->free_count */
	uint64_t inside;  /* resting + full_slots; racing reads */
	uint64_t outside; /* carved - resting - full_slots; racing reads */
	uint64_t misses;  /* gets that came to the lock; see shard.h */
	uint64_t failures;
	uint64_t requests_min;  /* highest lower bound reported so far */
	uint64_t requests_gone; /* counts of threads that ended or trimmed */
	struct weiri_decay_clock clock; /* see maintain.c */
	struct weiri_decay full_decay;  /* of full_count */
	struct weiri_decay empty_decay; /* of empty_count */
	struct weiri_decay idle_decay;  /* of idle_count */
	uint64_t idle_count;            /* slabs with every slot at rest */
	uint64_t idle_owed;             /* of them, by decay of magazines */
	uint64_t kept;                  /* slots not to decay: prepared ones */
	uint64_t lost;                  /* slots at most, by fork */
	uint64_t retire_misses;         /* misses at weiri_depot_retire() */
	uint64_t turn_misses;           /* misses when the epoch began */
	uint64_t turn_outside;          /* outside at most, in this epoch */
	bool large;         /* slots are many times what the last one needed */
	uint8_t void_turn;  /* of the look at all slabs that an epoch has */
	uint32_t visitors;  /* under weiri_local_lock() */
	bool leaving;       /*   takes no more of them */
	uint64_t window_ns; /* when trips were last thought over */
	uint32_t window_trips; /* misses since */
	uint32_t window_waits; /* trips since that found the lock taken */

	struct weiri_wait wait;
};

/* In a state byte of a depot that verifies: the slot rests in its slab or lies
 * in the depot's full magazines.  The other bits are the owner's. */
#define WEIRI_STATE_STOCKED 0x80
/* During weiri_depot_visit(): its turn comes. */
#define WEIRI_STATE_VISIT 0x40
/* Stands for an object under guard, whose address is in the slot's first word. */
#define WEIRI_STATE_SHADOW 0x20

/*
 * In a depot with a secret a free slot begins with secret ^ address, which its
 * owner puts there at each free, or with 0: never handed out, or its memory went
 * back to the system since.  So, of a free slot: was there a write to its first
 * word?  One of 0 is not seen.
 */
WEIRI_INLINE bool
weiri_slot_written(const struct weiri_depot *depot, const void *slot)
{
	return weiri_mark_is_gone(depot->secret, slot);
}

struct weiri_depot_stats {
	uint64_t total, in_use, cached, peak;
	uint64_t requests, hits, misses, failures; /* requests, hits: minimum
						      unless counted */
	uint64_t slabs, bytes_mapped;
	uint64_t lost; /* of in_use, at most, by fork */
	uint64_t waits, wait_timeouts, waiting, wait_longest;
};

/* 0, -EINVAL or -ENOMEM.  The depot is the caller's storage. */
int weiri_depot_init(
    struct weiri_depot *depot, const struct weiri_depot_config *config);

/* Before the end, when no thread uses the depot any more: what threads have in
 * magazines rests.  A slot that was there twice, or is none, for
 * weiri_stock_report(); NULL: all is well. */
void *weiri_depot_settle(struct weiri_depot *depot);

/* All slots must be back: weiri_depot_stats() said in_use == 0. */
void weiri_depot_finish(struct weiri_depot *depot);

/* The slow halves of weiri_depot_get() and weiri_depot_put(). */
WEIRI_COLD void *weiri_depot_get_slow(struct weiri_depot *depot);
WEIRI_COLD void weiri_depot_put_slow(struct weiri_depot *depot, void *slot);

/* As many gets as there are slots for, @count at most; their number.  What
 * comes behind them in @into is as it was.  @local is the thread's own, in a
 * call that weiri_local_begin() began, or NULL if it has none or no cell. */
size_t weiri_depot_get_bulk(struct weiri_depot *depot, struct weir_local *local,
    size_t count, void **into);

/* Calls @visit for each slot that is out: neither resting nor in a magazine.
 * @visit may put the slot it is given, and nothing else; false ends the walk.
 * Quiet depots with state bytes only.  Returns the number of calls. */
size_t weiri_depot_visit(struct weiri_depot *depot,
    bool (*visit)(void *slot, void *context), void *context);

/* A get that waits so long, if the depot's gets wait; by the long way only. */
WEIRI_COLD void *weiri_depot_get_within(
    struct weiri_depot *depot, uint64_t timeout_ns);

/* 0, or -EBUSY with the old limit: more slots are in being, even after a trim.
 * Gets that wait are served if there is room now. */
int weiri_depot_set_limit(struct weiri_depot *depot, size_t limit);

/* Makes at least @count slots exist and touches them; 0 or -ENOMEM. */
int weiri_depot_prepare(struct weiri_depot *depot, size_t count);

/* Takes this thread's magazines and all threads' spares, empties the depot's
 * magazines into the slabs and gives empty slabs back; returns their bytes. */
size_t weiri_depot_trim(struct weiri_depot *depot);

/*
 * Empties up to @magazines of the stock into the slabs and closes slabs that are
 * at rest; their bytes.  No lock may be held.
 */
size_t weiri_depot_compact(struct weiri_depot *depot, unsigned magazines);

/*
 * Of a depot with many times the slots that an epoch needed, so that those in use
 * may lie in any slab: where they should come from next.  What the calling thread
 * and the stock hold goes to the slabs, of which few are taken from.
 */
bool weiri_depot_is_large(struct weiri_depot *depot);
void weiri_depot_gather(struct weiri_depot *depot);

/*
 * What nobody used since this was called last: the calling thread's magazine,
 * and all threads' spares; and all there is if no get came to the lock.  Free
 * pages of slabs in use go back to the system then, too, unless slots have an
 * init hook.  Not within a call of the depot.  The bytes of the slabs closed.
 */
size_t weiri_depot_retire(struct weiri_depot *depot);

/* Nothing is to stay with threads: what this one has goes to the slabs. */
WEIRI_COLD void weiri_depot_lay_bare(struct weiri_depot *depot);

/* Of the calling thread, in a request on the slow path: its countdown begins
 * anew if it is at its end.  How many requests this one stands for as a sample;
 * 0: it is none. */
uint32_t weiri_depot_wind(struct weiri_depot *depot);

/* What a thread's word of requests counts is the depot's now, and it counts from
 * 0 again. */
WEIRI_COLD void weiri_depot_move_requests(
    struct weiri_depot *depot, uint64_t *requests);

/* Magazines start small again; for a depot that is idle. */
void weiri_depot_cool(struct weiri_depot *depot);

void weiri_depot_stats(
    struct weiri_depot *depot, struct weiri_depot_stats *out);

/* Adds what a depot's memory is to the figures of its pool; objects have
 * @object_bytes of each slot, or of each part of the slab's companion. */
struct weir_pool_stats;
void weiri_depot_add_bytes(const struct weiri_depot *depot,
    const struct weiri_depot_stats *stats, uint64_t object_bytes,
    struct weir_pool_stats *out);

/* Walks all invariants; quiet depots only.  On failure *why names one. */
bool weiri_depot_check(struct weiri_depot *depot, const char **why);

/* Reports a pointer that is no slot of the depot; returns if it is one, used or
 * free.  Reads nothing at @slot.  No lock. */
WEIRI_COLD void weiri_depot_require(
    const struct weiri_depot *depot, const void *slot);

/* ---- for the end of threads ------------------------------------------- */

/* Puts what @local holds for the depot back; by its thread, or under
 * weiri_local_lock() when that thread is no more.  Returns a slot that could
 * not rest, for weiri_stock_report() once no lock is held, or NULL. */
void *weiri_depot_adopt(struct weiri_depot *depot, struct weir_local *local);

/* ---- slabs ------------------------------------------------------------ */

/* 44 bits keep the quotient exact for offsets below 2^21 and slots of little
 * over 2^20 bytes: the error term, offset * slot_bytes, stays below 2^44. */
#define WEIRI_INVERSE_SHIFT 44
#define WEIRI_SLAB_BYTES_MAX ((size_t)2 << 20)
#define WEIRI_SLOT_BYTES_MAX (((size_t)1 << 20) + 4096)

/* Which slot @address is in; for addresses from slot 0 to the slab's end. */
WEIRI_INLINE size_t
weiri_slab_slot(const struct weiri_slab *slab, const void *address)
{
	uint64_t offset = (uint64_t)((const char *)address - slab->first);

	return (size_t)((offset * slab->depot->slot_inverse) >>
			WEIRI_INVERSE_SHIFT);
}

WEIRI_INLINE void *
weiri_slab_address(const struct weiri_slab *slab, size_t slot)
{
	return slab->first + slot * slab->depot->slot_bytes;
}

/* Index of the slot that starts at @address, or SIZE_MAX if none does. */
size_t weiri_slab_index(const struct weiri_slab *slab, const void *address);

/* How many slots a slab has. */
size_t weiri_slab_slots(const struct weiri_depot *depot);

/* A new slab with no slot carved, in no list; NULL without memory. */
struct weiri_slab *weiri_slab_open(struct weiri_depot *depot);
/* Ends its carved slots and gives the pages back. */
void weiri_slab_close(struct weiri_slab *slab);

/* Takes up to @count slots: resting ones, lowest first, then up to @carve_max
 * new ones; *carved tells how many of the last are new. */
size_t weiri_slab_take(struct weiri_slab *slab, uintptr_t *into, size_t count,
    size_t carve_max, size_t *carved);
/* Slots of it are about to be used: their pages will be there. */
WEIRI_COLD void weiri_slab_unvoid(
    struct weiri_slab *slab, const uintptr_t *words, size_t count);
/* Pages of it in which all slots rest are given back; under the lock, of slabs
 * that have no init hook, or one to make slots again. */
void weiri_slab_void(struct weiri_slab *slab);
/* Pages of slabs that stay, and that no slot was taken from in an epoch, go back
 * if the depot's owner allows it: a step, which takes what it looks at off *looks.
 * True: there may be more. */
bool weiri_depot_void_idle(struct weiri_depot *depot, unsigned *looks);
/* Did the memory of this slot, which is no larger than a page, go? */
bool weiri_slab_is_voided(const struct weiri_slab *slab, const void *slot);
/* K1 of compact.c. */
bool weiri_slab_check_voided(const struct weiri_slab *slab);
/* Lets one slot rest; false if the depot has it already. */
bool weiri_slab_rest(struct weiri_slab *slab, size_t slot);

WEIRI_INLINE bool
weiri_slab_has_slots(const struct weiri_slab *slab)
{
	return slab->free_count > 0 || slab->carved < slab->slot_count;
}

#endif /* WEIRI_DEPOT_H */
