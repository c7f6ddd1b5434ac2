/* SPDX-License-Identifier: MIT */
/*
 * budget.h - how much memory the process may have through weir.
 */
#ifndef WEIRI_BUDGET_H
#define WEIRI_BUDGET_H

#include "base/compiler.h"

struct weiri_budget_figures {
	uint64_t charged_bytes, peak_bytes;
	uint64_t limit_bytes, soft_bytes; /* UINT64_MAX: none */
};

/* Reads the limits from the options at first use, which may start the library
 * and send its messages: call it before a lock is taken under which there will
 * be a charge. */
void weiri_budget_start(void);

/* Sets both limits; 0, or -EINVAL when the soft one is above the hard one. */
int weiri_budget_set(uint64_t limit_bytes, uint64_t soft_bytes);

/* Adds to the charge, or returns false and adds nothing when the sum would be
 * above the limit.  Any thread, any lock held: nothing is called. */
bool weiri_budget_charge(size_t bytes);
void weiri_budget_uncharge(size_t bytes);

/* What may still be charged; another thread may take it meanwhile. */
uint64_t weiri_budget_headroom(void);

/* Calls the soft hook once if the charge rose over the soft limit since the
 * last delivery.  No lock may be held. */
void weiri_budget_deliver(void);

void weiri_budget_read(struct weiri_budget_figures *out);

#endif /* WEIRI_BUDGET_H */
