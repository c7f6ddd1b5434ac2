/* SPDX-License-Identifier: MIT */
/*
 * quota.c - a hard limit of memory that several pools share.
 *
 * Charged is what a pool takes from the page supply: slabs, whole.  An object
 * is charged by its slab and not by itself, so calls that find a free slot
 * never come here, and the bound holds for the memory, with all that pools keep
 * free in it, not for a part.  A charge that does not fit is undone before
 * anybody is told of it: `used` never exceeds the limit, not for a moment.
 *
 * Invariants:
 *
 *   Q1  used is the sum of the slabs of all members, and those being opened.
 *   Q2  A charge leaves used <= limit.  (Lowering the limit may not.)
 *   Q3  starved is set while a pool that would wait for memory, or wants to be
 *       told of it, was refused and nobody looked again since (wait.c).
 */
#include "slab/quota.h"

#include "guard/fault.h"
#include "pages/pages.h"
#include "slab/wait.h"
#include "watch/registry.h"

#include <errno.h>
#include <string.h>

struct weir_quota {
	uint64_t used, peak, limit, failures;
	uint32_t members;
	uint32_t starved; /* atomic */
	char name[WEIRI_NAME_BYTES];
};

static_assert(
    sizeof(((struct weir_quota_figures *)0)->name) == WEIRI_NAME_BYTES,
    "a name is copied whole");

/* As weiri_quota_charge(), uncounted; *used is what it was, then what it is. */
static bool
quota_take(struct weir_quota *quota, size_t bytes, uint64_t *used)
{
	*used = __atomic_load_n(&quota->used, __ATOMIC_SEQ_CST);
	do {
		uint64_t limit =
		    __atomic_load_n(&quota->limit, __ATOMIC_SEQ_CST);

		if (*used > limit || bytes > limit - *used)
			return false;
	} while (!__atomic_compare_exchange_n(&quota->used, used, *used + bytes,
	    true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	*used += bytes;
	return true;
}

bool
weiri_quota_charge(struct weir_quota *quota, size_t bytes, bool waits)
{
	uint64_t used;
	bool taken;

	if (quota == NULL)
		return true;
	taken = quota_take(quota, bytes, &used);
	if (!taken && waits) {
		/* Written first and looked at then, as it is the other way
		 * round in quota_has_room(). */
		__atomic_store_n(&quota->starved, 1, __ATOMIC_SEQ_CST);
		taken = quota_take(quota, bytes, &used);
	}
	if (!taken) {
		__atomic_fetch_add(&quota->failures, 1, __ATOMIC_RELAXED);
		return false;
	}

	uint64_t peak = WEIRI_LOAD(&quota->peak);

	while (
	    used > peak && !__atomic_compare_exchange_n(&quota->peak, &peak,
			       used, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	return true;
}

/* After `used` fell or the limit rose. */
static void
quota_has_room(struct weir_quota *quota)
{
	if (__atomic_load_n(&quota->starved, __ATOMIC_SEQ_CST) != 0 &&
	    __atomic_exchange_n(&quota->starved, 0, __ATOMIC_SEQ_CST) != 0)
		weiri_wait_look_again();
}

void
weiri_quota_undo(struct weir_quota *quota, size_t bytes)
{
	if (quota != NULL)
		__atomic_fetch_sub(&quota->used, bytes, __ATOMIC_SEQ_CST);
}

void
weiri_quota_return(struct weir_quota *quota, size_t bytes)
{
	weiri_quota_undo(quota, bytes);
	if (quota != NULL)
		quota_has_room(quota);
}

bool
weiri_quota_starved(const struct weir_quota *quota)
{
	return quota != NULL &&
	       __atomic_load_n(&quota->starved, __ATOMIC_SEQ_CST) != 0;
}

void
weiri_quota_join(struct weir_quota *quota)
{
	if (quota != NULL)
		__atomic_fetch_add(&quota->members, 1, __ATOMIC_RELAXED);
}

void
weiri_quota_leave(struct weir_quota *quota)
{
	/* Pairs with the acquire in weir_quota_destroy(). */
	if (quota != NULL)
		__atomic_fetch_sub(&quota->members, 1, __ATOMIC_RELEASE);
}

int
weir_quota_create(
    const char *name, uint64_t limit_bytes, struct weir_quota **out)
{
	struct weir_quota *quota = weiri_meta_need(sizeof(*quota));

	*out = NULL;
	if (quota == NULL)
		return -ENOMEM;
	quota->limit = limit_bytes;
	weiri_name_set(quota->name, name);
	*out = quota;
	return 0;
}

void
weir_quota_set_limit(struct weir_quota *quota, uint64_t limit_bytes)
{
	__atomic_store_n(&quota->limit, limit_bytes, __ATOMIC_SEQ_CST);
	quota_has_room(quota);
}

int
weir_quota_stats(const struct weir_quota *quota, struct weir_quota_figures *out)
{
	if (out->size != sizeof(*out))
		return -EINVAL;
	*out = (struct weir_quota_figures){
	    .size = sizeof(*out),
	    .pools = __atomic_load_n(&quota->members, __ATOMIC_ACQUIRE),
	    .limit_bytes = WEIRI_LOAD(&quota->limit),
	    .used_bytes = WEIRI_LOAD(&quota->used),
	    .peak_bytes = WEIRI_LOAD(&quota->peak),
	    .failures = WEIRI_LOAD(&quota->failures),
	};
	memcpy(out->name, quota->name, sizeof(out->name));
	return 0;
}

void
weir_quota_destroy(struct weir_quota *quota)
{
	if (quota == NULL)
		return;

	uint32_t members = __atomic_load_n(&quota->members, __ATOMIC_ACQUIRE);

	if (members != 0 && WEIR_DETECTOR(quota_live))
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_LIVE_OBJECTS,
		    .pool_kind = "quota",
		    .pool_name = quota->name,
		    .number = members,
		    .detail = "%u %{pool is|pools are} still charged to it"});
	weiri_meta_free(quota, sizeof(*quota));
}
