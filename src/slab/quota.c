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
 */
#include "slab/quota.h"

#include "guard/fault.h"
#include "pages/pages.h"

#include <errno.h>
#include <string.h>

#define QUOTA_NAME_BYTES 48

struct weir_quota {
	uint64_t used, peak, limit, failures;
	uint32_t members;
	char name[QUOTA_NAME_BYTES];
};

bool
weiri_quota_charge(struct weir_quota *quota, size_t bytes)
{
	if (quota == NULL)
		return true;

	uint64_t used = WEIRI_LOAD(&quota->used);

	do {
		uint64_t limit = WEIRI_LOAD(&quota->limit);

		if (used > limit || bytes > limit - used) {
			__atomic_fetch_add(
			    &quota->failures, 1, __ATOMIC_RELAXED);
			return false;
		}
	} while (!__atomic_compare_exchange_n(&quota->used, &used, used + bytes,
	    true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	used += bytes;

	uint64_t peak = WEIRI_LOAD(&quota->peak);

	while (
	    used > peak && !__atomic_compare_exchange_n(&quota->peak, &peak,
			       used, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	return true;
}

void
weiri_quota_return(struct weir_quota *quota, size_t bytes)
{
	if (quota != NULL)
		__atomic_fetch_sub(&quota->used, bytes, __ATOMIC_RELAXED);
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
	(void)strncpy(quota->name, name != NULL ? name : "unnamed",
	    sizeof(quota->name) - 1);
	*out = quota;
	return 0;
}

void
weir_quota_set_limit(struct weir_quota *quota, uint64_t limit_bytes)
{
	WEIRI_STORE(&quota->limit, limit_bytes);
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

	if (members != 0)
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_LIVE_OBJECTS,
		    .pool_kind = "quota",
		    .pool_name = quota->name,
		    .number = members,
		    .detail = "%u %{pool is|pools are} still charged to it"});
	weiri_meta_free(quota, sizeof(*quota));
}
