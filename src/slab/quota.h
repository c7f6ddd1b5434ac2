/* SPDX-License-Identifier: MIT */
/*
 * quota.h - memory that several pools share: what a pool asks of it.
 */
#ifndef WEIRI_QUOTA_H
#define WEIRI_QUOTA_H

#include "base/compiler.h"

#include <weir/limit.h>

/* @quota may be NULL: then everything is allowed.  No lock is needed.  With
 * @waits, a refusal is remembered until there is room. */
bool weiri_quota_charge(struct weir_quota *quota, size_t bytes, bool waits);
/* What was in use has room for others now: no lock may be held. */
void weiri_quota_return(struct weir_quota *quota, size_t bytes);
/* What was charged a moment ago came to nothing. */
void weiri_quota_undo(struct weir_quota *quota, size_t bytes);

/* Was a pool refused that is to be told of room? */
bool weiri_quota_starved(const struct weir_quota *quota);

/* A pool joins, and leaves with all its bytes returned. */
void weiri_quota_join(struct weir_quota *quota);
void weiri_quota_leave(struct weir_quota *quota);

#endif /* WEIRI_QUOTA_H */
