/* SPDX-License-Identifier: MIT */
/*
 * budget.c - one number, compared with two limits.
 *
 * A charge is made before the memory is touched and taken back after it was
 * given up, so what the process really uses is at no moment above what is
 * charged.  The sum is raised by compare-and-swap: adding first and taking back
 * when it was too much would let another thread see, and be refused by, bytes
 * that nobody has.
 *
 * Invariants (tests/unit/test_budget.c, with threads):
 *
 *   G1  charged never exceeds the limit by a charge; it can only be above it
 *       because the limit was lowered.
 *   G2  Each rise of charged from at or below the soft limit to above it leads
 *       to a delivery; rises between two deliveries share one.
 *
 * Memory order: relaxed throughout.  These words guard no other memory; each
 * is exact by itself because it changes by atomic read-modify-write only.
 */
#include "pages/budget.h"

#include "base/assert.h"
#include "config/config.h"
#include "os/os.h"

#include <errno.h>

static WEIRI_ALIGNED(WEIRI_CACHE_LINE) uint64_t budget_charged;
static uint64_t budget_peak;
static uint64_t budget_limit;
static uint64_t budget_soft;
static bool budget_crossed;
static bool budget_ready;
static weiri_once budget_once = WEIRI_ONCE_INITIALIZER;

static void
budget_init(void)
{
	const struct weir_config *config = weiri_config();

	WEIRI_STORE(&budget_limit, config->limit_bytes);
	WEIRI_STORE(&budget_soft, config->soft_bytes);
	/* Pairs with the acquire in weiri_budget_start(). */
	__atomic_store_n(&budget_ready, true, __ATOMIC_RELEASE);
}

void
weiri_budget_start(void)
{
	/* Pairs with the release in budget_init(). */
	if (WEIR_LIKELY(__atomic_load_n(&budget_ready, __ATOMIC_ACQUIRE)))
		return;
	/* Ahead of the once: the first use of the options sends messages, and
	 * their hook may come here again. */
	(void)weiri_config();
	weiri_os_once(&budget_once, budget_init);
}

int
weiri_budget_set(uint64_t limit_bytes, uint64_t soft_bytes)
{
	if (soft_bytes != UINT64_MAX && soft_bytes > limit_bytes)
		return -EINVAL;
	weiri_budget_start();
	WEIRI_STORE(&budget_limit, limit_bytes);
	WEIRI_STORE(&budget_soft, soft_bytes);
	return 0;
}

static void
budget_raise_peak(uint64_t charged)
{
	uint64_t peak = WEIRI_LOAD(&budget_peak);

	while (charged > peak &&
	       !__atomic_compare_exchange_n(&budget_peak, &peak, charged, true,
		   __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		continue;
}

bool
weiri_budget_charge(size_t bytes)
{
	weiri_budget_start();

	uint64_t old = WEIRI_LOAD(&budget_charged);
	uint64_t sum;

	do {
		uint64_t limit = WEIRI_LOAD(&budget_limit);

		if (old > limit || bytes > limit - old)
			return false;
		sum = old + bytes;
	} while (!__atomic_compare_exchange_n(&budget_charged, &old, sum, true,
	    __ATOMIC_RELAXED, __ATOMIC_RELAXED));

	uint64_t soft = WEIRI_LOAD(&budget_soft);

	budget_raise_peak(sum);
	if (WEIR_UNLIKELY(old <= soft && sum > soft))
		WEIRI_STORE(&budget_crossed, true);
	return true;
}

void
weiri_budget_uncharge(size_t bytes)
{
	uint64_t old =
	    __atomic_fetch_sub(&budget_charged, bytes, __ATOMIC_RELAXED);

	WEIR_ASSERT(old >= bytes);
	(void)old;
}

uint64_t
weiri_budget_headroom(void)
{
	weiri_budget_start();

	uint64_t limit = WEIRI_LOAD(&budget_limit);
	uint64_t charged = WEIRI_LOAD(&budget_charged);

	return charged < limit ? limit - charged : 0;
}

void
weiri_budget_deliver(void)
{
	if (WEIR_LIKELY(!WEIRI_LOAD(&budget_crossed)))
		return;
	/* Cleared first: of racing threads one delivers, and a rise during the
	 * hook is delivered again. */
	if (__atomic_exchange_n(&budget_crossed, false, __ATOMIC_RELAXED))
		weiri_hook_soft(
		    WEIRI_LOAD(&budget_charged), WEIRI_LOAD(&budget_soft));
}

void
weiri_budget_read(struct weiri_budget_figures *out)
{
	weiri_budget_start();
	out->charged_bytes = WEIRI_LOAD(&budget_charged);
	out->peak_bytes = WEIRI_LOAD(&budget_peak);
	out->limit_bytes = WEIRI_LOAD(&budget_limit);
	out->soft_bytes = WEIRI_LOAD(&budget_soft);
}
