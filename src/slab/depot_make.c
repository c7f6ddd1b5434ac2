/* SPDX-License-Identifier: MIT */
/*
 * depot_make.c - what a configuration makes of a depot: the size of its slabs
 * and magazines, what its limit allows; creation, change and end.
 */
#include "base/bits.h"
#include "pages/budget.h"
#include "slab/cursor.h"
#include "slab/shard.h"
#include "slab/stock.h"

#include <errno.h>

/* Below this many bytes a magazine trip costs more than it carries; above, a
 * thread would hold too much in its two: 4 to 126 slots. */
#define DEPOT_MAGAZINE_BYTES ((size_t)32 << 10)
#define DEPOT_ROUNDS_MIN 4

/* Magazines of so many rounds at most come to their edges often enough to be
 * worth having twice as large, without a spare; see room.c. */
#define DEPOT_ROUNDS_WIDEN 16

/* The first magazines of a depot: these bytes, or that many slots. */
#define DEPOT_START_BYTES ((size_t)4 << 10)
#define DEPOT_START_ROUNDS 8

/* The part of a limit that loaded magazines may withhold. */
#define DEPOT_LIMIT_SHARE 16

/* A limit that leaves less than a few such magazines leaves none: every call
 * takes the lock, and no slot is out of reach. */
#define DEPOT_CELL_LIMIT_MIN \
	((size_t)4 * WEIRI_ROUNDS_LIMITED_MIN * DEPOT_LIMIT_SHARE)

#define DEPOT_SLAB_BYTES_MIN ((size_t)64 << 10)
#define DEPOT_SLAB_SLOTS_MIN 4

static uint16_t
depot_rounds_start(const struct weiri_depot *depot)
{
	size_t rounds = weiri_min(
	    DEPOT_START_BYTES / depot->slot_bytes, DEPOT_START_ROUNDS);

	rounds = weiri_max(rounds, DEPOT_ROUNDS_MIN);
	return (uint16_t)weiri_min(rounds, depot->rounds_max);
}

/* The smallest slab that wastes an eighth at most and holds a few slots, else
 * the one that wastes least. */
static size_t
depot_choose_slab_bytes(size_t head_bytes, size_t slot_bytes)
{
	size_t best = WEIRI_SLAB_BYTES_MAX;
	size_t best_waste = SIZE_MAX;

	for (size_t bytes = DEPOT_SLAB_BYTES_MIN; bytes <= WEIRI_SLAB_BYTES_MAX;
	     bytes *= 2) {
		size_t slots = (bytes - head_bytes) / slot_bytes;

		if (slots == 0)
			continue;

		/* Waste as a share of 2^16, comparable over sizes. */
		size_t waste = ((bytes - slots * slot_bytes) << 16) / bytes;

		if (slots >= DEPOT_SLAB_SLOTS_MIN && waste <= (1 << 16) / 8)
			return bytes;
		if (waste < best_waste) {
			best = bytes;
			best_waste = waste;
		}
	}
	return best;
}

static uint16_t
depot_choose_rounds(const struct weiri_depot_config *config)
{
	size_t rounds = config->rounds;

	if (rounds == 0)
		rounds = weiri_max(DEPOT_MAGAZINE_BYTES / config->slot_bytes,
		    DEPOT_ROUNDS_MIN);
	rounds = weiri_min(rounds, WEIRI_ROUNDS_MAX);
	/* With a share of their own, depots that wait have nothing loaded. */
	if (config->wait != NULL && config->wait->policy == WEIRI_WAIT_TURN)
		rounds = weiri_min(rounds, config->limit / DEPOT_LIMIT_SHARE);
	return (uint16_t)weiri_max(rounds, 1);
}

/* What the owner or the policy made of the size of magazines stays. */
static uint16_t
depot_choose_wide(
    const struct weiri_depot *depot, const struct weiri_depot_config *config)
{
	if (config->rounds != 0 || depot->rounds_max > DEPOT_ROUNDS_WIDEN ||
	    depot->wait.config.policy == WEIRI_WAIT_TURN)
		return depot->rounds_max;
	return (uint16_t)(2 * depot->rounds_max);
}

/* A limit too small for magazines allows none to be loaded any more. */
static void
depot_set_withheld_max(struct weiri_depot *depot)
{
	size_t limit = WEIRI_LOAD(&depot->limit);

	WEIRI_STORE(
	    &depot->withheld_max, limit < DEPOT_CELL_LIMIT_MIN
				      ? 0
				      : (int64_t)(limit / DEPOT_LIMIT_SHARE));
}

int
weiri_depot_init(
    struct weiri_depot *depot, const struct weiri_depot_config *config)
{
	if (config->slot_bytes == 0 ||
	    config->slot_bytes > WEIRI_SLOT_BYTES_MAX ||
	    !weiri_is_pow2(config->slot_align) ||
	    config->slot_bytes % config->slot_align != 0)
		return -EINVAL;

	*depot = (struct weiri_depot){
	    .rounds_max = depot_choose_rounds(config),
	    .counted =
		config->counted || (config->wait != NULL &&
				       config->wait->policy == WEIRI_WAIT_TURN),
	    .countdown = config->countdown,
	    .quota = config->quota,
	    .uncoloured = config->uncoloured,
	    .state_bytes = config->state_bytes,
	    .verify = config->verify,
	    .secret = config->secret,
	    .slot_bytes = (uint32_t)config->slot_bytes,
	    .head_bytes = (uint32_t)config->head_bytes,
	    .front_bytes = (uint32_t)config->front_bytes,
	    .slot_inverse = ((UINT64_C(1) << WEIRI_INVERSE_SHIFT) +
				config->slot_bytes - 1) /
			    config->slot_bytes,
	    .slab_bytes = config->slab_bytes != 0
			      ? config->slab_bytes
			      : depot_choose_slab_bytes(
				    config->head_bytes, config->slot_bytes),
	    .slot_align = config->slot_align,
	    .slab_slots = config->slab_slots != 0 ? (uint32_t)config->slab_slots
						  : UINT32_MAX,
	    .limit = config->limit,
	    .hooks = config->hooks,
	    .owner = config->owner,
	    .kind = config->kind,
	    .name = config->name,
	    .guard = config->guard,
	};
	weiri_mutex_init(&depot->lock);
	weiri_list_init(&depot->partial);
	weiri_list_init(&depot->full);
	weiri_wait_init(depot, config->wait);
	depot_set_withheld_max(depot);
	depot->rounds_wide = depot_choose_wide(depot, config);
	depot->rounds_min = depot_rounds_start(depot);
	weiri_depot_cool(depot);
	if (!weiri_local_enter(depot, config->limit >= DEPOT_CELL_LIMIT_MIN)) {
		weiri_mutex_destroy(&depot->lock);
		return -ENOMEM;
	}
	depot->fast_offset = depot->cell * (uint32_t)sizeof(uintptr_t *);
	weiri_quota_join(depot->quota);
	return 0;
}

void *
weiri_depot_settle(struct weiri_depot *depot)
{
	void *bad = NULL;

	if (depot->cell == WEIRI_CELL_NONE)
		return NULL;
	weiri_local_lock();
	WEIRI_LOCAL_FOR(local)
	{
		void *slot = weiri_depot_adopt(depot, local);

		bad = slot != NULL ? slot : bad;
	}
	weiri_local_unlock();
	return bad;
}

/* Threads that still have magazines of the depot have no use of it in flight
 * and see its successor at this index only through a later call. */
static void
depot_drop_cells(struct weiri_depot *depot)
{
	weiri_local_lock();
	WEIRI_LOCAL_FOR(local)
	{
		uintptr_t **cell = &local->cursor[depot->cell];
		uintptr_t spare = local->spare[depot->cell];

		if (*cell != WEIRI_CURSOR_DUMMY)
			weiri_stock_free_magazine(weiri_cursor_magazine(*cell));
		if (spare != 0)
			weiri_stock_free_magazine(weiri_spare_magazine(spare));
		WEIRI_STORE(cell, WEIRI_CURSOR_DUMMY);
		WEIRI_STORE(&local->spare[depot->cell], 0);
		WEIRI_STORE(&local->requests[depot->cell], 0);
	}
	weiri_local_unlock();
}

void
weiri_depot_finish(struct weiri_depot *depot)
{
	weiri_local_evict(depot);
	if (depot->cell != WEIRI_CELL_NONE)
		depot_drop_cells(depot);
	weiri_shards_free(depot);
	weiri_stock_free_magazines(depot->full_list);
	weiri_stock_free_magazines(depot->empty_list);
	weiri_stock_close_slabs(&depot->partial);
	weiri_stock_close_slabs(&depot->full);
	weiri_local_leave(depot->index);
	weiri_quota_leave(depot->quota);
	weiri_mutex_destroy(&depot->lock);
}

/* Could there ever be as many slots?  Beyond what the machine has, touching them
 * would end the process and not the call. */
static bool
depot_may_prepare(const struct weiri_depot *depot, size_t count)
{
	struct weiri_budget_figures budget;
	size_t bytes = count * depot->slot_bytes;

	weiri_budget_read(&budget);
	if (count > PTRDIFF_MAX / depot->slot_bytes ||
	    bytes > budget.limit_bytes)
		return false;
	return bytes == 0 || bytes <= weiri_os_memory_bytes();
}

int
weiri_depot_prepare(struct weiri_depot *depot, size_t count)
{
	size_t made = 0;

	/* Said now rather than after touching all there is. */
	if (!depot_may_prepare(depot, count))
		return -ENOMEM;
	while (made < count) {
		struct weiri_slab *slab = weiri_slab_open(depot);

		if (slab == NULL)
			return -ENOMEM;

		size_t fresh = weiri_min(count - made, slab->slot_count);

		/* Best effort: a system without it faults the pages later. */
		(void)weiri_os_prefault(
		    slab->span.base, (size_t)(slab->first - slab->span.base) +
					 fresh * depot->slot_bytes);
		slab->carved = (uint32_t)fresh;
		for (size_t i = 0; i < fresh; i++) {
			uintptr_t word = (uintptr_t)weiri_slab_address(slab, i);

			weiri_stock_init_slots(depot, &word, 1);
			weiri_slab_rest(slab, i);
		}
		weiri_mutex_lock(&depot->lock);
		weiri_stock_list_slab(depot, slab);
		depot->kept += fresh;
		weiri_mutex_unlock(&depot->lock);
		made += fresh;
	}
	return 0;
}

int
weiri_depot_set_limit(struct weiri_depot *depot, size_t limit)
{
	bool fits;

	weiri_mutex_lock(&depot->lock);
	fits = limit >= depot->carved;
	if (!fits) {
		/* Slots that nobody uses are no reason to refuse. */
		weiri_mutex_unlock(&depot->lock);
		(void)weiri_depot_trim(depot);
		weiri_mutex_lock(&depot->lock);
		fits = limit >= depot->carved;
	}
	if (fits) {
		WEIRI_STORE(&depot->limit, limit);
		depot_set_withheld_max(depot);
	}
	weiri_mutex_unlock(&depot->lock);
	/* What other threads have loaded is theirs to give back: of a limit that
	 * is refused, that may be the reason. */
	if (depot->cell != WEIRI_CELL_NONE &&
	    (!fits || WEIRI_LOAD(&depot->withheld) >
			  WEIRI_LOAD(&depot->withheld_max)))
		weiri_local_recall(depot);
	if (!fits)
		return -EBUSY;
	if (depot->wait.config.policy == WEIRI_WAIT_TURN)
		weiri_wait_serve(depot);
	else if (depot->wait.config.policy == WEIRI_WAIT_NOTIFY)
		weiri_wait_freed(depot);
	return 0;
}
