/* SPDX-License-Identifier: MIT */
/*
 * buffer_acquire.c - taking buffers: the tier that fits, what it is charged to,
 * and where in the program it was.
 *
 * The common request pops a descriptor off the thread's magazine and writes one
 * line: count, flags, the pool's clock, and an event into the history.  The clock
 * is a word of the pool's that lies beside its flags, since reading the system's
 * would cost more than all the rest; one request in 128 of a thread sets it, and
 * remembers the place in the program it came from.  Counting those down is two
 * instructions.
 *
 * What has to be charged is charged before a buffer is taken, the account first,
 * and compared before it is added: an addition that is taken back when it was
 * too much would make smaller requests fail meanwhile.
 */
#include "base/bits.h"
#include "guard/fault.h"
#include "pools/account.h"
#include "pools/buffer.h"

/* How many acquires of a thread pass between two that are looked at. */
#define BUFFER_SAMPLE 128

/* The thread's first is one of them. */
static __thread uint32_t buffer_sample
    __attribute__((tls_model("initial-exec"))) = 1;

/* ---- charging ------------------------------------------------------------ */

bool
weiri_buffer_charge(struct weir_buffer_pool *pool, uint64_t bytes)
{
	uint64_t limit = WEIRI_LOAD(&pool->limit_bytes);
	uint64_t held = WEIRI_LOAD(&pool->held_bytes);

	/* Relaxed: the counter guards a number, not memory. */
	do {
		if (held > limit || bytes > limit - held)
			return false;
	} while (!__atomic_compare_exchange_n(&pool->held_bytes, &held,
	    held + bytes, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return true;
}

bool
weiri_buffer_uncharge(struct weir_buffer_pool *pool, uint64_t bytes)
{
	if (WEIR_LIKELY(__atomic_fetch_sub(&pool->held_bytes, bytes,
			    __ATOMIC_RELAXED) >= bytes))
		return true;
	__atomic_fetch_add(&pool->held_bytes, bytes, __ATOMIC_RELAXED);
	return false;
}

/* ---- FREE -> 1 ----------------------------------------------------------- */

/* Back first: a hook that leaves finds nothing held. */
static WEIRI_COLD WEIRI_NORETURN void
buffer_fault_written(struct weiri_buffer_tier *tier, struct weir_buffer *buffer,
    struct weir_account *account)
{
	if ((tier->pool->flags & WEIRI_BUFFER_CHARGED) != 0)
		(void)weiri_buffer_uncharge(tier->pool, tier->bytes);
	weiri_account_undo(account, tier->bytes);
	weiri_depot_put(&tier->depot, buffer);
	weiri_gate_abandon();
	weiri_buffer_fault_in(tier, WEIR_FAULT_CORRUPTION, buffer,
	    "free buffer %p was written to, or released twice at once");
}

/* Nobody else may look yet: these stores are published with the pointer, by
 * whatever the caller hands it on. */
WEIRI_INLINE struct weir_buffer *
buffer_begin(struct weiri_buffer_tier *tier, struct weir_buffer *buffer,
    struct weir_account *account)
{
	struct weir_buffer_pool *pool = tier->pool;
	uint32_t flags = pool->flags;

	if (WEIR_UNLIKELY(WEIRI_LOAD(&buffer->references) != 0) &&
	    WEIR_DETECTOR(buffer_written))
		buffer_fault_written(tier, buffer, account);
	WEIR_ASSERT(buffer->pool == pool && buffer->tier == tier->index);
	WEIR_ASSERT(buffer->kernel == 0);
	if (account != NULL) {
		flags |= WEIRI_BUFFER_ACCOUNT;
		WEIRI_STORE(&buffer->internal[WEIRI_BUFFER_ACCOUNT_WORD],
		    (uint64_t)(uintptr_t)account);
	}
	WEIRI_STORE(&buffer->flags, flags);
	WEIRI_STORE(&buffer->user, NULL);
	WEIRI_STORE(&buffer->internal[WEIRI_BUFFER_ORIGIN_WORD],
	    WEIRI_LOAD(&pool->stamp));
	weiri_buffer_note(buffer, WEIR_BUFFER_EVENT_ACQUIRE);
	WEIRI_STORE(&buffer->references, 1);
	return buffer;
}

/* A free buffer of the tier, charged to the pool, or NULL.  @visit: it is by a
 * visit to the depot. */
static struct weir_buffer *
buffer_take(
    struct weiri_buffer_tier *tier, struct weiri_refusal *refusal, bool *visit)
{
	struct weir_buffer_pool *pool = tier->pool;
	bool charged = (pool->flags & WEIRI_BUFFER_CHARGED) != 0;

	refusal->by = WEIRI_REFUSED_BY_BYTES;
	if (charged && !weiri_buffer_charge(pool, tier->bytes))
		return NULL;

	struct weir_buffer *buffer = weiri_cell_pop(
	    weiri_local_cell(weiri_local(), tier->depot.fast_offset));

	*visit = buffer == NULL;
	if (WEIR_UNLIKELY(buffer == NULL)) {
		buffer = weiri_depot_get_slow(&tier->depot);
		if (WEIR_UNLIKELY(buffer == NULL))
			buffer = weiri_buffer_guard_take(tier);
	}
	refusal->by = WEIRI_REFUSED_BY_TIER;
	if (buffer == NULL && charged)
		(void)weiri_buffer_uncharge(pool, tier->bytes);
	return buffer;
}

/* The same buffer; what buffer_take() said of the visit is @visit. */
WEIRI_INLINE struct weir_buffer *
buffer_guard(
    struct weiri_buffer_tier *tier, struct weir_buffer *buffer, bool visit)
{
	if (WEIR_UNLIKELY(visit) &&
	    weiri_guard_mode(&tier->guard) != WEIR_GUARD_OFF)
		weiri_buffer_guard_begin(tier, buffer);
	return buffer;
}

struct weir_buffer *
weiri_buffer_try(struct weiri_buffer_tier *tier, struct weir_account *account,
    enum weir_buffer_use use, struct weiri_refusal *refusal)
{
	bool sending = use == WEIR_BUFFER_SEND, visit = false;
	struct weir_buffer *buffer;

	refusal->level = weiri_account_charge(account, tier->bytes, sending);
	if (refusal->level != NULL) {
		refusal->by = WEIRI_REFUSED_BY_ACCOUNT;
		return NULL;
	}
	buffer = buffer_take(tier, refusal, &visit);
	if (buffer == NULL && sending) {
		buffer = weiri_gate_take_reserved(tier);
		/* The depot has counted a failure that is none. */
		if (buffer != NULL && refusal->by == WEIRI_REFUSED_BY_TIER)
			__atomic_fetch_add(
			    &tier->gate.rescued, 1, __ATOMIC_RELAXED);
	}
	if (buffer != NULL)
		return buffer_guard(
		    tier, buffer_begin(tier, buffer, account), visit);
	weiri_account_undo(account, tier->bytes);
	return NULL;
}

/* ---- requests ------------------------------------------------------------ */

/* The smallest tier that fits; @bytes is not above the largest. */
WEIRI_INLINE struct weiri_buffer_tier *
buffer_fit(struct weir_buffer_pool *pool, size_t bytes)
{
	struct weiri_buffer_tier *tier =
	    &pool->tier[pool->fit[weiri_log2_ceil(bytes)]];

	/* Tiers may share a power of two, so the table is only the start. */
	while (tier->bytes < bytes)
		tier++;
	return tier;
}

/* Here a request ends, too, that is made of a pool after its end. */
static WEIRI_COLD struct weir_buffer *
buffer_refuse(const struct weir_buffer_pool *pool, uint64_t *counter)
{
	if (pool->state != WEIRI_BUFFER_POOL_LIVE &&
	    WEIR_DETECTOR(buffer_pool_gone))
		weiri_buffer_pool_not_live(pool);
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
	return NULL;
}

uint32_t
weiri_buffer_fit_bytes(struct weir_buffer_pool *pool, size_t bytes)
{
	return bytes > pool->bytes_max ? 0 : buffer_fit(pool, bytes)->bytes;
}

static WEIRI_COLD struct weir_buffer *
buffer_refuse_size(struct weir_buffer_pool *pool)
{
	return buffer_refuse(
	    pool, &pool->tier[pool->tier_count - 1].refused_by_size);
}

/* At the edge of the thread's magazine, or with limit_bytes or a gate. */
static WEIRI_NOINLINE struct weir_buffer *
buffer_acquire_slow(struct weiri_buffer_tier *tier)
{
	struct weiri_refusal refusal;
	struct weir_buffer *buffer;
	bool visit = false;

	if ((tier->pool->flags & WEIRI_BUFFER_GATED) != 0)
		return weiri_gate_acquire(
		    tier, &(struct weir_buffer_want){.bytes = tier->bytes});
	buffer = buffer_take(tier, &refusal, &visit);
	if (WEIR_LIKELY(buffer != NULL))
		return buffer_guard(
		    tier, buffer_begin(tier, buffer, NULL), visit);
	return refusal.by == WEIRI_REFUSED_BY_BYTES
		   ? buffer_refuse(tier->pool, &tier->refused_by_bytes)
		   : NULL;
}

WEIRI_INLINE struct weir_buffer *
buffer_acquire(struct weir_buffer_pool *pool, size_t bytes)
{
	if (WEIR_UNLIKELY(bytes > pool->bytes_max))
		return buffer_refuse_size(pool);

	struct weiri_buffer_tier *tier = buffer_fit(pool, bytes);

	if ((pool->flags & (WEIRI_BUFFER_CHARGED | WEIRI_BUFFER_GATED)) != 0)
		return buffer_acquire_slow(tier);

	/* The inline half of weiri_depot_get(), its slow half being a tail
	 * call here: no register is saved on the way of a hit. */
	struct weir_buffer *buffer = weiri_cell_pop(
	    weiri_local_cell(weiri_local(), tier->depot.fast_offset));

	if (WEIR_UNLIKELY(buffer == NULL))
		return buffer_acquire_slow(tier);
	return buffer_begin(tier, buffer, NULL);
}

static void
buffer_set_site(struct weir_buffer *buffer, const void *site)
{
	uint64_t *origin = &buffer->internal[WEIRI_BUFFER_ORIGIN_WORD];

	WEIRI_STORE(origin,
	    WEIRI_LOAD(origin) | (uint64_t)weiri_buffer_site(site) << 32);
}

static WEIRI_COLD struct weir_buffer *
buffer_acquire_sampled(
    struct weir_buffer_pool *pool, size_t bytes, const void *site)
{
	struct weir_buffer *buffer;

	buffer_sample = BUFFER_SAMPLE;
	(void)weiri_buffer_tick(pool);
	buffer = buffer_acquire(pool, bytes);
	if (buffer != NULL)
		buffer_set_site(buffer, site);
	return buffer;
}

struct weir_buffer *
weir_buffer_acquire(struct weir_buffer_pool *pool, size_t bytes)
{
	if (WEIR_UNLIKELY(--buffer_sample == 0))
		return buffer_acquire_sampled(
		    pool, bytes, __builtin_return_address(0));
	return buffer_acquire(pool, bytes);
}

/* Without a gate: what is refused is refused at once. */
static struct weir_buffer *
buffer_acquire_charged(
    struct weiri_buffer_tier *tier, const struct weir_buffer_want *want)
{
	struct weiri_refusal refusal;
	struct weir_buffer *buffer =
	    weiri_buffer_try(tier, want->account, want->use, &refusal);

	if (WEIR_LIKELY(buffer != NULL))
		return buffer;
	/* What was charged for a moment may have been in somebody's way. */
	if (want->account != NULL)
		weiri_gate_look();
	if (refusal.by == WEIRI_REFUSED_BY_ACCOUNT)
		return buffer_refuse(tier->pool, &tier->refused_by_account);
	return refusal.by == WEIRI_REFUSED_BY_BYTES
		   ? buffer_refuse(tier->pool, &tier->refused_by_bytes)
		   : NULL;
}

struct weir_buffer *
weir_buffer_acquire_for(
    struct weir_buffer_pool *pool, const struct weir_buffer_want *want)
{
	bool sampled = --buffer_sample == 0;
	struct weir_buffer *buffer;

	if (WEIR_UNLIKELY(sampled)) {
		buffer_sample = BUFFER_SAMPLE;
		(void)weiri_buffer_tick(pool);
	}
	if (WEIR_UNLIKELY(want->bytes > pool->bytes_max))
		return buffer_refuse_size(pool);
	if (WEIR_UNLIKELY((unsigned)want->use >= WEIR_BUFFER_USES) &&
	    WEIR_DETECTOR(buffer_bad_use))
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_BAD_ARGUMENT,
		    .pool_kind = "buffer",
		    .pool_name = pool->name,
		    .number = (unsigned)want->use,
		    .detail = "there is no use %u of a buffer",
		});

	struct weiri_buffer_tier *tier = buffer_fit(pool, want->bytes);

	if ((pool->flags & WEIRI_BUFFER_GATED) != 0)
		buffer = weiri_gate_acquire(tier, want);
	else
		buffer = buffer_acquire_charged(tier, want);
	if (WEIR_UNLIKELY(sampled) && buffer != NULL)
		buffer_set_site(buffer, want->site != NULL
					    ? want->site
					    : __builtin_return_address(0));
	return buffer;
}

/* ---- another payer ------------------------------------------------------- */

bool
weir_buffer_set_account(
    struct weir_buffer *buffer, struct weir_account *account)
{
	uint32_t flags = weiri_buffer_flags(buffer);
	uint32_t references = WEIRI_LOAD(&buffer->references);
	uint64_t *word = &buffer->internal[WEIRI_BUFFER_ACCOUNT_WORD];
	struct weir_account *before = NULL;

	if (weiri_buffer_count_bad(references) &&
	    WEIR_DETECTOR(buffer_charge_dead))
		weiri_buffer_fault_count(buffer, references, flags,
		    "charged, but %p has no reference");
	if ((flags & WEIRI_BUFFER_EXTERNAL) != 0)
		return account == NULL;
	if ((flags & WEIRI_BUFFER_ACCOUNT) != 0)
		before = (struct weir_account *)(uintptr_t)WEIRI_LOAD(word);
	if (before == account)
		return true;
	if (!weiri_account_charge_instead(account, before, buffer->bytes)) {
		weiri_gate_look();
		return false;
	}
	weiri_buffer_note(buffer, WEIR_BUFFER_EVENT_ACCOUNT);
	/* Seen by the last holder, since this one releases before. */
	WEIRI_STORE(word, (uint64_t)(uintptr_t)account);
	__atomic_fetch_or(
	    &buffer->flags, WEIRI_BUFFER_ACCOUNT, __ATOMIC_RELAXED);
	weiri_account_uncharge_instead(account, before, buffer->bytes);
	return true;
}
