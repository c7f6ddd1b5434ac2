/* SPDX-License-Identifier: MIT */
/*
 * local.c - threads: their cells, their birth, their end, and fork.
 *
 * A thread's state is made at its first slow call and listed, so that others
 * can read its cursors (statistics), take its spares (exhaustion, trim) and,
 * in the child of a fork, inherit what it held.  The initial state of every
 * thread is weiri_local_none, whose cursors are all at the dummy: the inline
 * path needs no test for "has this thread been seen before".
 *
 * Invariants (weiri_depot_check() tests L2 and L3):
 *
 *   L1  A cell's cursor is written by its thread only.  Two exceptions, both
 *       without that thread running in the depot: destroying a depot, which
 *       happens after all its uses, and the child of a fork.
 *   L2  cursor[c] is the dummy or lies in a magazine that belongs to cell c.
 *   L3  spare[c] is 0, or a magazine and the number of its slots: none or all,
 *       and in depots that wait any.
 *   L4  A depot's index is given to another only after its cells in all threads
 *       went back to the dummy.
 *
 * Frees after a thread's exit hook ran (other destructors may hold objects)
 * find weiri_local_none again and go through the depot's lock; a new state
 * would never be collected.
 */
#include "slab/local.h"

#include "guard/guard.h"
#include "os/os.h"
#include "pages/pages.h"
#include "slab/stock.h"

#define D &weiri_magazine_dummy.word[WEIRI_MAGAZINE_LAST]
#define D8 D, D, D, D, D, D, D, D
#define D56 D8, D8, D8, D8, D8, D8, D8
#define D336 D56, D56, D56, D56, D56, D56

WEIRI_ALIGNED(WEIRI_MAGAZINE_BYTES)
struct weiri_magazine weiri_magazine_dummy = {
    .word = {[WEIRI_MAGAZINE_LAST] = WEIRI_MAGAZINE_TAG},
};

static_assert(WEIRI_CELLS == 480, "the initialiser below fills every cell");

struct weir_local weiri_local_none = {
    .cursor = {D336, D56, D56, D8, D8, D8, D8},
    .link = WEIRI_LIST_INITIALIZER(weiri_local_none.link),
};

__thread struct weir_local *weiri_local_tls = &weiri_local_none;

/* Set by the exit hook; keeps late frees from making a state anew. */
static __thread bool local_ended __attribute__((tls_model("initial-exec")));

static struct weiri_mutex local_mutex = WEIRI_MUTEX_INITIALIZER;
static struct weiri_list local_threads = WEIRI_LIST_INITIALIZER(local_threads);
static weiri_once local_once = WEIRI_ONCE_INITIALIZER;
static int local_hook_error;

/* Index 0 is nobody's: page map entries of other spans carry tag 0. */
#define LOCAL_DEPOTS 65536
static struct weiri_depot *local_depots[LOCAL_DEPOTS];
static uint32_t local_depots_end = 1;  /* indices from here were never used */
static uint32_t local_depots_hint = 1; /* none below is free */

void
weiri_local_lock(void)
{
	weiri_mutex_lock(&local_mutex);
}

void
weiri_local_unlock(void)
{
	weiri_mutex_unlock(&local_mutex);
}

struct weir_local *
weiri_local_next(const struct weir_local *local)
{
	struct weiri_list *node = local->link.next;

	if (node == &local_threads)
		return NULL;
	return WEIRI_CONTAINER_OF(node, struct weir_local, link);
}

struct weir_local *
weiri_local_first(void)
{
	if (weiri_list_empty(&local_threads))
		return NULL;
	return WEIRI_CONTAINER_OF(local_threads.next, struct weir_local, link);
}

/* A slot that no depot would take back, reported once no lock is held. */
struct local_bad {
	struct weiri_depot *depot;
	void *slot;
};

/* Under the lock: every depot takes back what @local holds. */
static void
local_collect(struct weir_local *local, struct local_bad *bad)
{
	for (uint32_t i = 1; i < local_depots_end && i < WEIRI_CELLS; i++) {
		struct weiri_depot *depot = local_depots[i];
		void *slot =
		    depot != NULL ? weiri_depot_adopt(depot, local) : NULL;

		if (slot != NULL)
			*bad = (struct local_bad){depot, slot};
	}
}

static void
local_thread_exit(void *argument)
{
	struct weir_local *local = argument;
	struct local_bad bad = {NULL, NULL};

	weiri_local_tls = &weiri_local_none;
	local_ended = true;
	weiri_local_lock();
	local_collect(local, &bad);
	weiri_list_remove(&local->link);
	weiri_local_unlock();
	weiri_meta_free(local, sizeof(*local));
	if (bad.slot != NULL)
		weiri_stock_report(bad.depot, bad.slot);
}

static void
local_install_hook(void)
{
	local_hook_error = weiri_os_thread_exit_hook(local_thread_exit);
}

static WEIRI_COLD struct weir_local *
local_create(void)
{
	weiri_os_once(&local_once, local_install_hook);
	if (local_hook_error != 0)
		return NULL;

	struct weir_local *local = weiri_meta_alloc(sizeof(*local));

	if (local == NULL)
		return NULL;
	for (size_t i = 0; i < WEIRI_CELLS; i++)
		local->cursor[i] = WEIRI_CURSOR_DUMMY;
	/* Armed before it is listed: a listed state is always collected. */
	if (weiri_os_thread_exit_arm(local) != 0) {
		weiri_meta_free(local, sizeof(*local));
		return NULL;
	}
	weiri_local_lock();
	weiri_list_append(&local_threads, &local->link);
	weiri_local_unlock();
	weiri_local_tls = local;
	return local;
}

struct weir_local *
weiri_local_own(void)
{
	struct weir_local *local = weiri_local_tls;

	if (WEIR_LIKELY(local != &weiri_local_none))
		return local;
	return local_ended ? NULL : local_create();
}

struct weir_local *
weir_abi_4(void) WEIR_NOEXCEPT
{
	struct weir_local *local = weiri_local_own();

	return local != NULL ? local : &weiri_local_none;
}

bool
weiri_local_enter(struct weiri_depot *depot, bool wants_cell)
{
	weiri_local_lock();

	uint32_t index = local_depots_hint;

	while (index < local_depots_end && local_depots[index] != NULL)
		index++;
	if (index < LOCAL_DEPOTS) {
		/* Whoever finds the depot in the table finds these set. */
		depot->index = (uint16_t)index;
		depot->cell =
		    wants_cell && index < WEIRI_CELLS ? index : WEIRI_CELL_NONE;
		local_depots[index] = depot;
		local_depots_hint = index + 1;
		if (index == local_depots_end)
			local_depots_end++;
	}
	weiri_local_unlock();
	return index < LOCAL_DEPOTS;
}

void
weiri_local_leave(uint16_t index)
{
	weiri_local_lock();
	WEIR_ASSERT(index > 0 && local_depots[index] != NULL);
	local_depots[index] = NULL;
	if (index < local_depots_hint)
		local_depots_hint = index;
	weiri_local_unlock();
}

/* ---- visits ------------------------------------------------------------- */

/* Steps of maintain.c take microseconds; as in registry.c. */
#define LOCAL_WAIT_NS UINT64_C(50000)

/* The depots this thread has pinned, one in a hook of another: the only pins
 * that live on in a fork's child. */
#define LOCAL_PINS 4
static __thread struct weiri_depot *local_pinned[LOCAL_PINS]
    __attribute__((tls_model("initial-exec")));
static __thread unsigned local_pins __attribute__((tls_model("initial-exec")));

struct weiri_depot *
weiri_local_pin(uint32_t *index)
{
	struct weiri_depot *depot = NULL;

	weiri_local_lock();
	for (; *index < local_depots_end; (*index)++) {
		depot = local_depots[*index];
		if (depot != NULL && !depot->leaving)
			break;
		depot = NULL;
	}
	if (depot != NULL)
		depot->visitors++;
	weiri_local_unlock();
	if (depot != NULL) {
		if (local_pins < LOCAL_PINS)
			local_pinned[local_pins] = depot;
		local_pins++;
	}
	return depot;
}

void
weiri_local_unpin(struct weiri_depot *depot)
{
	weiri_local_lock();
	depot->visitors--;
	weiri_local_unlock();
	local_pins--;
}

static uint32_t
local_own_pins(const struct weiri_depot *depot)
{
	uint32_t pins = 0;

	for (unsigned i = 0; i < weiri_min(local_pins, LOCAL_PINS); i++)
		pins += local_pinned[i] == depot;
	return pins;
}

void
weiri_local_evict(struct weiri_depot *depot)
{
	weiri_local_lock();
	depot->leaving = true;
	while (depot->visitors > 0) {
		weiri_local_unlock();
		weiri_os_sleep_ns(LOCAL_WAIT_NS);
		weiri_local_lock();
	}
	weiri_local_unlock();
}

/* ---- idle cells of this thread ------------------------------------------- */

/* Each takes a depot's lock and some microseconds; others wait that long for
 * the list. */
#define LOCAL_SHED_STEP 8

uint64_t weiri_local_round;

void
weiri_local_recall(struct weiri_depot *depot)
{
	/* Under the lock: of two at once, the later has the higher round. */
	weiri_local_lock();
	WEIRI_STORE(&depot->recall, WEIRI_LOAD(&weiri_local_round) + 1);
	__atomic_fetch_add(&weiri_local_round, 1, __ATOMIC_RELEASE);
	weiri_local_unlock();
}

void
weiri_local_recall_all(void)
{
	struct weiri_depot *depot;

	for (uint32_t i = 1; (depot = weiri_local_pin(&i)) != NULL; i++) {
		weiri_local_recall(depot);
		weiri_local_unpin(depot);
	}
}

/* Under the lock, which keeps the depots from ending: from *cell on, until a
 * step is full.  @since is the round the thread was last here. */
static void
local_shed_step(struct weir_local *local, uint64_t since, uint32_t *cell,
    struct local_bad *bad)
{
	unsigned count = 0;

	for (; *cell < local_depots_end && *cell < WEIRI_CELLS &&
	       count < LOCAL_SHED_STEP;
	     (*cell)++) {
		struct weiri_depot *depot = local_depots[*cell];
		uintptr_t *cursor = local->cursor[*cell];

		if (depot == NULL || cursor == WEIRI_CURSOR_DUMMY)
			continue;
		/* Looked at in any case: it notes where the cursor is. */
		if (!weiri_cursor_idle(cursor, local->requests[*cell]) &&
		    since >= WEIRI_LOAD(&depot->recall))
			continue;

		void *slot = weiri_depot_adopt(depot, local);

		if (slot != NULL)
			*bad = (struct local_bad){depot, slot};
		count++;
	}
}

void
weiri_local_shed(void)
{
	struct weir_local *local = weiri_local_tls;
	struct local_bad bad = {NULL, NULL};
	uint64_t since = local->round;
	uint32_t cell = 1;
	bool more = true;

	if (local == &weiri_local_none)
		return;
	/* Pairs with weiri_local_recall(). */
	local->round = __atomic_load_n(&weiri_local_round, __ATOMIC_ACQUIRE);
	while (more) {
		weiri_local_lock();
		local_shed_step(local, since, &cell, &bad);
		more = cell < local_depots_end && cell < WEIRI_CELLS;
		weiri_local_unlock();
	}
	if (bad.slot != NULL)
		weiri_stock_report(bad.depot, bad.slot);
}

/* ---- fork ---------------------------------------------------------------- */

void
weiri_local_fork_lock(void)
{
	weiri_local_lock();
	for (uint32_t i = 1; i < local_depots_end; i++)
		if (local_depots[i] != NULL)
			weiri_mutex_lock(&local_depots[i]->lock);
}

void
weiri_local_fork_unlock(void)
{
	for (uint32_t i = local_depots_end; i-- > 1;)
		if (local_depots[i] != NULL)
			weiri_mutex_unlock(&local_depots[i]->lock);
	weiri_local_unlock();
}

/* Slots of cell @i that a thread's calls had in their hands, at most. */
static uint64_t
local_carried(const struct weir_local *local, uint32_t i)
{
	size_t calls = weiri_min(local->calls, WEIRI_LOCAL_CALLS);
	uint64_t slots = 0;

	for (size_t c = 0; c < calls; c++)
		if (local->call[c].cell == i)
			slots += local->call[c].slots != 0
				     ? local->call[c].slots
				     : local_depots[i]->rounds_max;
	if (local->copy_offset == local_depots[i]->fast_offset)
		slots += local->copy_slots;
	return slots;
}

/*
 * What a thread that does not exist here may have had in its hands: what its
 * calls say, and an object between its magazine and its caller.  Most had
 * neither; what is counted is a bound.
 */
static void
local_count_lost(const struct weir_local *local)
{
	for (uint32_t i = 1; i < local_depots_end && i < WEIRI_CELLS; i++) {
		struct weiri_depot *depot = local_depots[i];
		uint64_t carried;

		if (depot == NULL)
			continue;
		carried = local_carried(local, i);
		depot->lost += carried;
		depot->lost += local->cursor[i] != WEIRI_CURSOR_DUMMY ||
			       local->spare[i] != 0 ||
			       local->requests[i] != 0 || carried != 0 ||
			       weiri_guard_bare(depot->guard);
	}
}

/* What the child of a fork found in its parent's magazines, until it is told. */
static struct local_bad local_fork_bad;

/* A thread that was within a free had put the slot into its magazine, and not yet
 * its mark into the slot. */
static void
local_mark_newest(struct weir_local *local)
{
	for (uint32_t i = 1; i < local_depots_end && i < WEIRI_CELLS; i++) {
		const struct weiri_depot *depot = local_depots[i];
		const uintptr_t *cursor = local->cursor[i];

		if (depot != NULL && depot->secret != 0 &&
		    (*cursor & WEIRI_MAGAZINE_TAG) == 0)
			*(uint64_t *)*cursor = depot->secret ^ *cursor;
	}
}

/*
 * The other threads do not exist here.  Each of their cells and spares is whole
 * (one store changes one, and none is in both), so what they held goes back to
 * the depots; a magazine that such a thread had in a register at the fork, and
 * an object it was about to return, are lost to the child.
 */
void
weiri_local_fork_child(void)
{
	weiri_local_fork_unlock();
	weiri_local_lock();
	WEIRI_LIST_FOR_SAFE(node, &local_threads)
	{
		struct weir_local *local =
		    WEIRI_CONTAINER_OF(node, struct weir_local, link);

		if (local == weiri_local_tls)
			continue;
		local_count_lost(local);
		local_mark_newest(local);
		local_collect(local, &local_fork_bad);
		weiri_list_remove(&local->link);
		weiri_meta_free(local, sizeof(*local));
	}
	for (uint32_t i = 1; i < local_depots_end; i++) {
		struct weiri_depot *depot = local_depots[i];

		if (depot == NULL)
			continue;
		weiri_stock_recount_spares(depot);
		depot->visitors = local_own_pins(depot);
	}
	weiri_local_unlock();
}

void
weiri_local_fork_tell(void)
{
	struct local_bad bad = local_fork_bad;

	local_fork_bad = (struct local_bad){NULL, NULL};
	if (bad.slot != NULL)
		weiri_stock_report(bad.depot, bad.slot);
}
