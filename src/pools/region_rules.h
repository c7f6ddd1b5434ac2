/* SPDX-License-Identifier: MIT */
/*
 * region_rules.h - budgets, and what happens without memory; region_rules.c says
 * how.
 */
#ifndef WEIRI_REGION_RULES_H
#define WEIRI_REGION_RULES_H

#include "base/compiler.h"

#include <weir/region.h>

struct weiri_region;

/*
 * A budget and an answer to a lack of memory; of the region that was configured
 * with either, in force for all below it.  Metadata, since neither is there in
 * most regions: the limit of one that has none below lies in its header.
 * Regions below may be other threads': the sum is atomic.
 */
struct weiri_region_rules {
	struct weiri_region *region;
	struct weiri_region_rules *above;
	bool configured;     /* not made for the regions below only */
	uint64_t used_bytes; /* of the region and all below it */
	uint64_t peak_bytes;
	uint64_t limit_bytes; /* UINT64_MAX: none */
	uint64_t soft_bytes;  /* likewise */
	uint64_t failures; /* requests refused to the region and those below */
	weir_region_soft_fn soft;
	void *soft_context;
	weir_region_oom_fn oom;
	void *oom_context;
};

/* Rules of its own for @region, with its limit and what @config says; false
 * without memory.  Other regions' rules are above them. */
struct weir_region_config;
bool weiri_region_rules_make(
    struct weiri_region *region, const struct weir_region_config *config);
/* Ends the region's own; its limit is in the header again. */
void weiri_region_rules_end(struct weiri_region *region);

/* What the limit and the rules leave: for a block that may be smaller than
 * wanted. */
uint64_t weiri_region_rules_left(const struct weiri_region *region);
/* A request of a region right below @rules, which may be NULL, was refused. */
WEIRI_COLD void weiri_region_rules_fail(struct weiri_region_rules *rules);
/* Charges @rules and all above, or none of them. */
bool weiri_region_rules_charge(
    struct weiri_region_rules *rules, uint64_t bytes);
void weiri_region_rules_uncharge(
    struct weiri_region_rules *rules, uint64_t bytes);
/* Calls the soft hooks of those that rose over it by the last @bytes. */
WEIRI_COLD void weiri_region_rules_soft(
    struct weiri_region_rules *rules, uint64_t bytes);
/* Asks the nearest handler; true: try again. */
WEIRI_COLD bool weiri_region_rules_oom(
    struct weiri_region *region, size_t bytes);
/* What a move charged, for the soft hooks once it is done: @rules up to, and
 * without, @end. */
struct weiri_region_rise {
	struct weiri_region_rules *rules;
	const struct weiri_region_rules *end;
	uint64_t bytes;
};

/* Charges those above @to instead of those above @from; false: a limit says
 * no, all is as it was. */
bool weiri_region_rules_pass(struct weiri_region_rules *from,
    struct weiri_region_rules *to, uint64_t bytes,
    struct weiri_region_rise *rise);
/* Calls the soft hooks of those that rose over it. */
void weiri_region_rules_rose(const struct weiri_region_rise *rise);
/* Moves @region and all below it from the rules it was under to those above
 * @parent, NULL for none, which always works; false: as above, or without
 * memory.  Nothing to do, in O(1), when both are the same or @region has its
 * own. */
bool weiri_region_rules_move(struct weiri_region *region,
    struct weiri_region *parent, struct weiri_region_rise *rise);

#endif /* WEIRI_REGION_RULES_H */
