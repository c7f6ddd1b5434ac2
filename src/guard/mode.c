/* SPDX-License-Identifier: MIT */
/*
 * mode.c - which objects are put under guard, and since when.
 *
 * Each pool has its mode in a byte of its own, which its slow paths read.  What
 * is in force for the process is under the lock, and a pool takes it over when
 * it enters or when it changes.
 *
 * Samples are picked twice.  First by place: a visit to the slow path comes
 * after a random number of requests, so that no pattern of a program's requests
 * evades it.  Then by time: without a rate, a visit is a sample if the last one
 * is long enough ago, so that what samples cost is bounded whatever the traffic
 * (Linux's KFENCE draws the same line).  The moment moves by up to a half, which
 * no program is in step with.  Visits that come too early make the next ones
 * rarer, so that a thread has two for each sample whatever its speed.
 *
 * The names of pools lie in a table, because an object may be known for longer
 * than its pool.  The table is used in turn; an entry of a pool that is gone may
 * then name another one's, and the serial number tells.
 */
#include "base/assert.h"
#include "base/bits.h"
#include "config/config.h"
#include "config/invalid.h"
#include "guard/arena.h"
#include "guard/debug.h"
#include "guard/runs.h"
#include "guard/state.h"

#include <errno.h>
#include <string.h>

#define MODE_PER_S_DEFAULT 1000u

/* Mean requests between two visits: a rate above it has only some of them be
 * samples; by time, as many as it takes for every second one to be. */
#define MODE_STRIDE_RATE 1024u
#define MODE_STRIDE_MIN 64u
#define MODE_STRIDE_MAX 16384u

/* Intervals that are made up for. */
#define MODE_LATE 8
#define MODE_NS_PER_S UINT64_C(1000000000)

struct weiri_guard_state weiri_guard_state = {
    .lock = WEIRI_MUTEX_INITIALIZER,
    .list = WEIRI_LIST_INITIALIZER(weiri_guard_state.list),
    .names_used = 1,
};

#define S weiri_guard_state

bool weiri_guard_late;

/* ---- names ------------------------------------------------------------------- */

/* Under the lock: the next entry whose pool is gone, or was never used. */
static uint16_t
mode_name_free(void)
{
	if (S.names_used < WEIRI_GUARD_NAMES)
		return S.names_used++;
	for (size_t i = 1; i < WEIRI_GUARD_NAMES; i++) {
		S.name_turn =
		    (uint16_t)(S.name_turn % (WEIRI_GUARD_NAMES - 1) + 1);
		if (S.name[S.name_turn].gone)
			return S.name_turn;
	}
	return 0;
}

void
weiri_guard_name_need(struct weiri_guard_pool *pool)
{
	struct weiri_guard_name *name;

	if (pool->named != 0)
		return;
	pool->named = mode_name_free();
	name = &S.name[pool->named];
	name->serial = pool->serial = ++S.serial;
	name->kind = pool->kind;
	name->gone = false;
	strncpy(name->name, pool->name, sizeof(name->name) - 1);
	strncpy(name->type, pool->type != NULL ? pool->type : "",
	    sizeof(name->type) - 1);
}

const struct weiri_guard_name *
weiri_guard_name_of(const struct weiri_guarded *guarded)
{
	return &S.name[guarded->named];
}

/* ---- modes ------------------------------------------------------------------- */

bool
weiri_guard_lists(const char *list, const char *name)
{
	while (*list != '\0') {
		size_t length = strcspn(list, ",");

		if (length > 0 && list[length - 1] == '*') {
			if (strncmp(list, name, length - 1) == 0)
				return true;
		} else if (strlen(name) == length &&
			   strncmp(list, name, length) == 0) {
			return true;
		}
		list += length;
		list += *list == ',';
	}
	return false;
}

/* Under the lock. */
static void
mode_take_over(struct weiri_guard_pool *pool)
{
	unsigned debug = weiri_debug_bits(pool);
	enum weir_guard_mode mode = S.mode;

	if (S.pools[0] != '\0' && !weiri_guard_lists(S.pools, pool->name))
		mode = WEIR_GUARD_OFF;
	mode = weiri_debug_mode(pool, debug, mode);
	WEIRI_STORE(&pool->mode, (uint8_t)mode);
	WEIRI_STORE(&pool->debug, (uint16_t)debug);
	WEIRI_STORE(
	    &pool->bare, mode >= WEIR_GUARD_FULL || debug != 0 ||
			     (mode == WEIR_GUARD_SAMPLE && S.rate == 1));
}

/* A mode is in force behind its space, and both change under the lock. */
uint8_t
weiri_guard_sites(const struct weiri_guard_pool *pool, bool *all)
{
	enum weir_guard_mode mode = weiri_guard_mode(pool);
	size_t space;

	*all = mode >= WEIR_GUARD_FULL || S.rate == 1;
	if (mode == WEIR_GUARD_OFF || mode > WEIR_GUARD_TOOL)
		return 0;
	space = *all ? WEIRI_GUARD_LARGE : WEIRI_GUARD_SMALL;
	if (mode == WEIR_GUARD_TOOL)
		space = WEIRI_GUARD_THROUGH;
	WEIR_ASSERT(S.space[space].sites.bucket != NULL);
	return (uint8_t)(space + 1);
}

/* Under the lock: the spaces there must be for a mode. */
static int
mode_make_space(enum weir_guard_mode mode)
{
	size_t i = mode == WEIR_GUARD_FULL || S.rate == 1;
	struct weiri_space *space = &S.space[i];
	int error;

	if (mode == WEIR_GUARD_TOOL) {
		error = weiri_through_start(&S.space[WEIRI_GUARD_THROUGH]);
		WEIRI_STORE(
		    &weiri_guard_through, weiri_guard_through || error == 0);
		return error;
	}
	if (mode == WEIR_GUARD_OFF || space->base != NULL)
		return 0;
	error = weiri_space_init(
	    space, i != 0 ? WEIRI_SPACE_LARGE : WEIRI_SPACE_SMALL);
	if (error != 0)
		return error;
	WEIRI_STORE(&weiri_guard_range[i].base, (uintptr_t)space->base);
	WEIRI_STORE(
	    &weiri_guard_range[i].bytes, (uintptr_t)(space->end - space->base));
	weiri_trap_start();
	return 0;
}

/* Under the lock. */
static int
mode_set(const struct weir_guard_config *config)
{
	uint32_t per_s = config->sample_per_s != 0 ? config->sample_per_s
						   : MODE_PER_S_DEFAULT;
	uint32_t rate_before = S.rate;
	int error;

	WEIRI_STORE(&S.rate, config->sample_rate);
	error = mode_make_space(config->mode);
	if (error != 0) {
		WEIRI_STORE(&S.rate, rate_before);
		return error;
	}
	WEIRI_STORE(&S.mode, config->mode);
	WEIRI_STORE(&weiri_guard_late,
	    config->mode >= WEIR_GUARD_FULL ||
		(config->mode == WEIR_GUARD_SAMPLE && S.rate == 1));
	memset(S.pools, 0, sizeof(S.pools));
	if (config->pools != NULL)
		strncpy(S.pools, config->pools, sizeof(S.pools) - 1);
	WEIRI_STORE(&S.interval_ns, MODE_NS_PER_S / per_s);
	WEIRI_LIST_FOR(node, &S.list)
	{
		mode_take_over(
		    WEIRI_CONTAINER_OF(node, struct weiri_guard_pool, link));
	}
	return 0;
}

/* Under the lock. */
static int
mode_set_debug(const struct weiri_debug_option *option)
{
	unsigned bits = weiri_debug_bits_of_all(option);
	struct weiri_space *space = &S.space[WEIRI_GUARD_PACKED];
	struct weiri_space_range *range =
	    &weiri_guard_range[WEIRI_GUARD_PACKED];
	int error = 0;

	if ((bits & WEIRI_DEBUG_PASS_THROUGH) != 0)
		error = mode_make_space(WEIR_GUARD_TOOL);
	if (error == 0 && space->base == NULL &&
	    (bits & (WEIRI_DEBUG_PLACES | WEIRI_DEBUG_FAILS)) != 0) {
		error = weiri_space_init(space, WEIRI_SPACE_PACKED);
		if (error == 0) {
			WEIRI_STORE(&range->base, (uintptr_t)space->base);
			WEIRI_STORE(&range->bytes,
			    (uintptr_t)(space->end - space->base));
		}
	}
	if (error != 0)
		return error;
	weiri_debug_put(option);
	WEIRI_LIST_FOR(node, &S.list)
	{
		mode_take_over(
		    WEIRI_CONTAINER_OF(node, struct weiri_guard_pool, link));
	}
	return 0;
}

/* Under the lock: what the options say, once. */
static void
mode_start(void)
{
	const struct weiri_guard_option *option = weiri_config_guard();
	int error;

	if (S.started)
		return;
	S.started = true;
	error = mode_set(&(struct weir_guard_config){
	    .mode = option->mode,
	    .pools = option->pools,
	    .sample_rate = option->rate,
	});
	if (error == 0 && weiri_config_debug()->count != 0)
		error = mode_set_debug(weiri_config_debug());
	if (error != 0)
		weiri_os_write_error(
		    "weir: warning: no address space for the guard: off\n", 52);
}

/* Under the lock: what is in force, as an option. */
static void
mode_note(struct weiri_guard_option *option)
{
	static_assert(sizeof(option->pools) == sizeof(S.pools), "both whole");
	option->mode = S.mode;
	option->rate = S.rate;
	memcpy(option->pools, S.pools, sizeof(option->pools));
}

int
weiri_guard_apply(const struct weir_guard_config *config)
{
	struct weiri_guard_option option;
	static const struct weir_guard_config off;
	size_t word;
	int error;

	if (config == NULL)
		config = &off;
	word = weiri_invalid_word(
	    config->reserved, WEIRI_COUNT_OF(config->reserved));
	if ((unsigned)config->mode > WEIR_GUARD_TOOL)
		return weiri_invalid(
		    &(struct weiri_invalid){.call = "weir_guard_set",
			.field = "mode",
			.value = (unsigned)config->mode,
			.allowed = "0 .. %u, of enum weir_guard_mode",
			.bound = {WEIR_GUARD_TOOL}});
	if (config->pools != NULL &&
	    strlen(config->pools) >= WEIRI_GUARD_LIST_BYTES)
		return weiri_invalid(
		    &(struct weiri_invalid){.call = "weir_guard_set",
			.field = "pools",
			.value = strlen(config->pools),
			.allowed = "names of at most %u bytes in all",
			.bound = {WEIRI_GUARD_LIST_BYTES - 1}});
	if (word < WEIRI_COUNT_OF(config->reserved))
		return weiri_invalid(
		    &(struct weiri_invalid){.call = "weir_guard_set",
			.field = "reserved[]",
			.index = word,
			.value = config->reserved[word],
			.allowed = "0"});
	(void)weiri_config(); /* starts the library: options come first */
	weiri_mutex_lock(&S.lock);
	mode_start();
	error = mode_set(config);
	if (error == 0)
		mode_note(&option);
	weiri_mutex_unlock(&S.lock);
	/* Not under the lock, which is a leaf. */
	if (error == 0)
		weiri_config_set_guard(&option);
	return error;
}

int
weiri_guard_put_debug(const struct weiri_debug_option *option)
{
	int error;

	weiri_mutex_lock(&S.lock);
	mode_start();
	error = mode_set_debug(option);
	weiri_mutex_unlock(&S.lock);
	return error;
}

/* ---- pools -------------------------------------------------------------------- */

bool
weiri_guard_is_full(void)
{
	(void)weiri_config_guard(); /* whose lock comes before this one */
	weiri_mutex_lock(&S.lock);
	mode_start();
	weiri_mutex_unlock(&S.lock);
	return WEIRI_LOAD(&S.mode) >= WEIR_GUARD_FULL;
}

bool
weiri_guard_is_tool(void)
{
	return weiri_guard_is_full() && WEIRI_LOAD(&S.mode) == WEIR_GUARD_TOOL;
}

void
weiri_guard_enter(
    struct weiri_guard_pool *pool, const char *kind, const char *name)
{
	struct weiri_stack made = {0};

	weiri_mutex_lock(&S.lock);
	mode_start();
	weiri_mutex_unlock(&S.lock);
	if (WEIRI_LOAD(&S.mode) != WEIR_GUARD_OFF ||
	    weiri_guard_range[WEIRI_GUARD_PACKED].bytes != 0) {
		(void)weiri_guard_thread();
		weiri_stack_here(&made);
	}
	pool->kind = kind;
	pool->name = name;
	weiri_mutex_lock(&S.lock);
	weiri_list_append(&S.list, &pool->link);
	pool->entered = true;
	mode_take_over(pool);
	if (pool->mode != WEIR_GUARD_OFF) {
		weiri_guard_name_need(pool);
		S.name[pool->named].made = made;
	}
	weiri_mutex_unlock(&S.lock);
}

void
weiri_guard_leave(struct weiri_guard_pool *pool)
{
	if (!pool->entered)
		return;
	if (pool->named != 0)
		weiri_debug_look(pool);
	weiri_mutex_lock(&S.lock);
	weiri_list_remove(&pool->link);
	if (pool->named != 0)
		S.name[pool->named].gone = true;
	pool->entered = false;
	pool->named = 0;
	weiri_mutex_unlock(&S.lock);
}

/* ---- samples ------------------------------------------------------------------ */

uint64_t (*weiri_guard_clock)(void);

/* Is it time, and nobody else's sample? */
static bool
mode_is_time(struct weiri_guard_thread *self)
{
	uint64_t now =
	    weiri_guard_clock != NULL ? weiri_guard_clock() : weiri_os_now_ns();
	uint64_t next = WEIRI_LOAD(&S.next_ns);
	uint64_t interval = WEIRI_LOAD(&S.interval_ns);

	uint64_t from = next;

	if (now < next)
		return false;
	/* What is late by a few has the next ones come on time all the same. */
	if (now - next > MODE_LATE * interval)
		from = now;
	interval =
	    interval / 2 + weiri_guard_random(self) % weiri_max(interval, 1);
	return __atomic_compare_exchange_n(&S.next_ns, &next, from + interval,
	    false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

bool
weiri_guard_due(const struct weiri_guard_pool *pool, uint32_t requests)
{
	enum weir_guard_mode mode = weiri_guard_mode(pool);
	uint32_t rate = WEIRI_LOAD(&S.rate);

	if (mode != WEIR_GUARD_SAMPLE)
		return mode >= WEIR_GUARD_FULL;

	struct weiri_guard_thread *self = weiri_guard_thread();

	if (self->reporting)
		return false;
	if (rate == 0) {
		bool is_time = mode_is_time(self);

		self->stride =
		    (uint32_t)(is_time ? weiri_max(
					     self->stride / 2, MODE_STRIDE_MIN)
				       : weiri_min((size_t)self->stride * 2,
					     MODE_STRIDE_MAX));
		return is_time;
	}
	return requests >= rate ||
	       weiri_guard_random_below(self, rate) < requests;
}

uint32_t
weiri_guard_stride(const struct weiri_guard_pool *pool)
{
	uint32_t rate = WEIRI_LOAD(&S.rate);

	if (weiri_guard_mode(pool) != WEIR_GUARD_SAMPLE || rate == 0)
		return weiri_guard_thread()->stride;
	return (uint32_t)weiri_min(rate, MODE_STRIDE_RATE);
}

uint32_t
weiri_guard_skip(const struct weiri_guard_pool *pool)
{
	struct weiri_guard_thread *self;

	if (weiri_guard_mode(pool) == WEIR_GUARD_OFF)
		return WEIRI_GUARD_SKIP_MAX;
	self = weiri_guard_thread();
	return 1 +
	       weiri_guard_random_below(self, 2 * weiri_guard_stride(pool) - 1);
}

/* ---- figures, policies ----------------------------------------------------------- */

int
weir_guard_set_policy(
    enum weir_fault_class fault_class, enum weir_guard_policy policy)
{
	if ((unsigned)fault_class > WEIR_FAULT_COUNT ||
	    (unsigned)policy > WEIR_GUARD_GO_ON)
		return -EINVAL;
	for (unsigned i = 0; i < WEIR_FAULT_COUNT; i++)
		if (fault_class == i || fault_class == WEIR_FAULT_COUNT)
			WEIRI_STORE(&S.policy[i], (uint8_t)policy);
	return 0;
}

bool
weiri_guard_goes_on(
    enum weir_fault_class fault_class, enum weir_guard_mode mode)
{
	uint8_t policy = WEIRI_LOAD(&S.policy[fault_class]);

	if (policy == WEIR_GUARD_BY_MODE)
		return mode == WEIR_GUARD_SAMPLE;
	return policy == WEIR_GUARD_GO_ON;
}

int
weir_guard_read(struct weir_guard_stats *out)
{
	if (out->size != sizeof(*out))
		return -EINVAL;
	*out = (struct weir_guard_stats){
	    .size = sizeof(*out),
	    .guarded = WEIRI_LOAD(&S.guarded),
	    .refused = WEIRI_LOAD(&S.refused),
	    .reports = WEIRI_LOAD(&S.reports),
	    .failed = weiri_debug_failed(),
	};
	weiri_mutex_lock(&S.lock);
	for (size_t i = 0; i < WEIRI_COUNT_OF(S.space); i++) {
		const struct weiri_space *space = &S.space[i];

		out->live += WEIRI_LOAD(&space->live);
		out->quarantined += WEIRI_LOAD(&space->ended);
		out->bytes +=
		    WEIRI_LOAD(&space->live_bytes) +
		    space->ready.count * space->grain +
		    WEIRI_LOAD(&space->record_count) * sizeof(*space->record) +
		    space->sites.used * sizeof(*space->sites.word);
	}
	weiri_runs_add(out);
	weiri_mutex_unlock(&S.lock);
	return 0;
}

/* ---- fork ---------------------------------------------------------------------------- */

void
weiri_guard_fork_lock(void)
{
	weiri_mutex_lock(&S.lock);
	weiri_through_fork_lock();
}

void
weiri_guard_fork_unlock(void)
{
	weiri_through_fork_unlock();
	weiri_mutex_unlock(&S.lock);
}

void
weiri_guard_fork_child(void)
{
	weiri_guard_thread_forked();
	weiri_arena_fork_child();
	weiri_space_fork_child(&S.space[WEIRI_GUARD_LARGE]);
	weiri_through_fork_unlock();
	weiri_mutex_unlock(&S.lock);
}
