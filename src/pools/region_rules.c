/* SPDX-License-Identifier: MIT */
/*
 * region_rules.c - budgets of regions and of all below them, and what happens
 * when a request cannot be served.
 *
 * A region with a soft limit or a handler of its own, or with a limit and others
 * below it, has a record of rules; all regions below share the pointer to it,
 * down to the next that has a record.  Records are linked upwards, so a block is charged
 * to as many sums as there are budgets above it and not to as many as there are
 * regions.
 *
 *     tenant [rules: 64 MiB] <---- request [rules: 1 MiB] <---- parse (none)
 *
 * A sum is never above its limit: it is raised by a compare-and-exchange that
 * looks first.  Of the sums above one another the nearest is raised first, and
 * lowered again when one further up says no; a thread that asks in between may
 * be refused early, by no more than that one block.
 *
 * Memory order: sums are counted in, nothing is published through them, so all
 * accesses are relaxed.
 */
#include "pools/region.h"

bool
weiri_region_rules_make(
    struct weiri_region *region, const struct weir_region_config *config)
{
	struct weiri_region_rules *rules = weiri_meta_need(sizeof(*rules));

	if (rules == NULL)
		return false;
	*rules = (struct weiri_region_rules){
	    .region = region,
	    .above = region->rules,
	    .configured = config != NULL,
	    .used_bytes = region->charged_bytes,
	    .peak_bytes = region->charged_bytes,
	    .limit_bytes = region->attention & WEIRI_HAS_LIMIT
			       ? region->limit_bytes
			       : UINT64_MAX,
	    .soft_bytes = UINT64_MAX,
	    .failures = region->failures,
	};
	if (config != NULL) {
		if (config->soft_bytes != 0)
			rules->soft_bytes = config->soft_bytes;
		rules->soft = config->soft;
		rules->soft_context = config->soft_context;
		rules->oom = config->oom;
		rules->oom_context = config->oom_context;
	}
	region->rules = rules;
	region->attention &= ~(uint32_t)WEIRI_HAS_LIMIT;
	region->attention |= WEIRI_HAS_RULES;
	return true;
}

void
weiri_region_rules_end(struct weiri_region *region)
{
	struct weiri_region_rules *rules = region->rules;

	WEIR_ASSERT(rules->region == region);
	WEIR_ASSERT(rules->used_bytes == region->charged_bytes);
	if (rules->limit_bytes != UINT64_MAX) {
		region->limit_bytes = rules->limit_bytes;
		region->attention |= WEIRI_HAS_LIMIT;
	}
	region->rules = rules->above;
	if (region->rules == NULL)
		region->attention &= ~(uint32_t)WEIRI_HAS_RULES;
	weiri_meta_free(rules, sizeof(*rules));
}

uint64_t
weiri_region_rules_left(const struct weiri_region *region)
{
	uint64_t left = UINT64_MAX;

	if (region->attention & WEIRI_HAS_LIMIT)
		left = region->limit_bytes - region->charged_bytes;
	for (const struct weiri_region_rules *rules = region->rules;
	     rules != NULL; rules = rules->above) {
		uint64_t used = WEIRI_LOAD(&rules->used_bytes);

		left = weiri_min(left,
		    used < rules->limit_bytes ? rules->limit_bytes - used : 0);
	}
	return left;
}

static void
rules_note_peak(struct weiri_region_rules *rules, uint64_t used)
{
	uint64_t peak = WEIRI_LOAD(&rules->peak_bytes);

	while (used > peak &&
	       !__atomic_compare_exchange_n(&rules->peak_bytes, &peak, used,
		   true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static bool
rules_charge_one(struct weiri_region_rules *rules, uint64_t bytes)
{
	uint64_t used = WEIRI_LOAD(&rules->used_bytes);

	do {
		if (used > rules->limit_bytes ||
		    bytes > rules->limit_bytes - used)
			return false;
	} while (!__atomic_compare_exchange_n(&rules->used_bytes, &used,
	    used + bytes, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	rules_note_peak(rules, used + bytes);
	return true;
}

/* From @rules up to, and without, @end. */
static void
rules_uncharge_to(struct weiri_region_rules *rules,
    const struct weiri_region_rules *end, uint64_t bytes)
{
	for (; rules != end && rules != NULL; rules = rules->above)
		__atomic_fetch_sub(&rules->used_bytes, bytes, __ATOMIC_RELAXED);
}

static bool
rules_charge_to(struct weiri_region_rules *rules,
    const struct weiri_region_rules *end, uint64_t bytes)
{
	for (struct weiri_region_rules *at = rules; at != end && at != NULL;
	     at = at->above) {
		if (WEIR_LIKELY(rules_charge_one(at, bytes)))
			continue;
		rules_uncharge_to(rules, at, bytes);
		return false;
	}
	return true;
}

void
weiri_region_rules_fail(struct weiri_region_rules *rules)
{
	for (; rules != NULL; rules = rules->above)
		__atomic_fetch_add(&rules->failures, 1, __ATOMIC_RELAXED);
}

bool
weiri_region_rules_charge(struct weiri_region_rules *rules, uint64_t bytes)
{
	return rules_charge_to(rules, NULL, bytes);
}

void
weiri_region_rules_uncharge(struct weiri_region_rules *rules, uint64_t bytes)
{
	rules_uncharge_to(rules, NULL, bytes);
}

static void
rules_soft_to(struct weiri_region_rules *rules,
    const struct weiri_region_rules *end, uint64_t bytes)
{
	struct weiri_region_rules *above;

	/* The hook may end regions, but none of those above. */
	for (; rules != end; rules = above) {
		uint64_t used = WEIRI_LOAD(&rules->used_bytes);

		above = rules->above;
		if (used > rules->soft_bytes &&
		    used - weiri_min(bytes, used) <= rules->soft_bytes)
			rules->soft(
			    &rules->region->bump, used, rules->soft_context);
	}
}

void
weiri_region_rules_soft(struct weiri_region_rules *rules, uint64_t bytes)
{
	rules_soft_to(rules, NULL, bytes);
}

bool
weiri_region_rules_oom(struct weiri_region *region, size_t bytes)
{
	for (const struct weiri_region_rules *rules = region->rules;
	     rules != NULL; rules = rules->above)
		if (rules->oom != NULL)
			return rules->oom(
			    &region->bump, bytes, rules->oom_context);
	return false;
}

/* ---- regions that move --------------------------------------------------- */

static void
rules_set(struct weiri_region *region, struct weiri_region_rules *rules)
{
	region->rules = rules;
	if (rules != NULL)
		region->attention |= WEIRI_HAS_RULES;
	else
		region->attention &= ~(uint32_t)WEIRI_HAS_RULES;
}

/* What of @root and those below is charged to the rules above it alone. */
static uint64_t
rules_sum(struct weiri_region *root, const struct weiri_region_rules *old)
{
	uint64_t sum = 0;

	for (struct weiri_region *region = root; region != NULL;
	     region = weiri_region_next(root, region)) {
		if (region->rules == old)
			sum += region->charged_bytes;
		else if (weiri_region_rules_own(region) &&
			 region->rules->above == old)
			sum += WEIRI_LOAD(&region->rules->used_bytes);
	}
	return sum;
}

static void
rules_replace(struct weiri_region *root, const struct weiri_region_rules *old,
    struct weiri_region_rules *rules)
{
	for (struct weiri_region *region = root; region != NULL;
	     region = weiri_region_next(root, region)) {
		if (region->rules == old)
			rules_set(region, rules);
		else if (weiri_region_rules_own(region) &&
			 region->rules->above == old)
			region->rules->above = rules;
	}
}

static unsigned
rules_depth(const struct weiri_region_rules *rules)
{
	unsigned depth = 0;

	for (; rules != NULL; rules = rules->above)
		depth++;
	return depth;
}

/* The nearest that is above both or one of them, or NULL. */
static const struct weiri_region_rules *
rules_common(
    const struct weiri_region_rules *a, const struct weiri_region_rules *b)
{
	unsigned depth_a = rules_depth(a), depth_b = rules_depth(b);

	for (; a != NULL && depth_a > depth_b; depth_a--)
		a = a->above;
	for (; b != NULL && depth_b > depth_a; depth_b--)
		b = b->above;
	while (a != b && a != NULL && b != NULL) {
		a = a->above;
		b = b->above;
	}
	return a;
}

bool
weiri_region_rules_pass(struct weiri_region_rules *from,
    struct weiri_region_rules *to, uint64_t bytes,
    struct weiri_region_rise *rise)
{
	/* What is above both has the bytes already, and keeps them. */
	const struct weiri_region_rules *common = rules_common(from, to);

	if (!rules_charge_to(to, common, bytes))
		return false;
	rules_uncharge_to(from, common, bytes);
	*rise = (struct weiri_region_rise){to, common, bytes};
	return true;
}

void
weiri_region_rules_rose(const struct weiri_region_rise *rise)
{
	rules_soft_to(rise->rules, rise->end, rise->bytes);
}

bool
weiri_region_rules_move(struct weiri_region *root, struct weiri_region *parent,
    struct weiri_region_rise *rise)
{
	*rise = (struct weiri_region_rise){NULL, NULL, 0};
	if (parent != NULL && !weiri_region_rules_share(parent))
		return false;

	bool own = weiri_region_rules_own(root);
	struct weiri_region_rules *old = own ? root->rules->above : root->rules;
	struct weiri_region_rules *rules =
	    parent != NULL ? parent->rules : NULL;
	uint64_t bytes;

	if (old == rules)
		return true;
	bytes =
	    own ? WEIRI_LOAD(&root->rules->used_bytes) : rules_sum(root, old);
	if (!weiri_region_rules_pass(old, rules, bytes, rise))
		return false;
	if (own)
		root->rules->above = rules;
	else
		rules_replace(root, old, rules);
	return true;
}
