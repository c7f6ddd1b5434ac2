/* SPDX-License-Identifier: MIT */
/*
 * maintain.h - giving idle slots, slabs and pages back, a step at a time.
 *
 * One pass visits every depot and then the page supply.  It may be left after
 * any step and gone on with later, by any thread, but by one at a time.  A step
 * is bounded: see maintain.c.
 */
#ifndef WEIRI_MAINTAIN_H
#define WEIRI_MAINTAIN_H

#include "slab/depot.h"

struct weiri_maintain {
	uint64_t now_ns;   /* of the latest step */
	uint64_t epoch_ns; /* see base/decay.h */
	uint32_t index;    /* of the depot to visit next */
	bool under_way;
	/* Of the depot being visited: */
	bool arrived;         /* the first step is done */
	bool owner_done;      /* its owner has no step left */
	uint32_t owner_steps; /*   and did so many */
	uint32_t gather;      /* magazines to be emptied before their time */
	unsigned looks;       /* at slabs for pages, that are left */
};

/* Does steps of a pass, a new one if none is under way, until @deadline_ns is
 * over or the pass is, and at least one; true: it is not.  No lock may be
 * held. */
bool weiri_maintain_run(struct weiri_maintain *maintain, uint64_t deadline_ns);

#endif /* WEIRI_MAINTAIN_H */
