/* SPDX-License-Identifier: MIT */
/*
 * quota.h - memory that several pools share: what a pool asks of it.
 */
#ifndef WEIRI_QUOTA_H
#define WEIRI_QUOTA_H

#include "base/compiler.h"

#include <weir/limit.h>

/* @quota may be NULL: then everything is allowed.  No lock is needed. */
bool weiri_quota_charge(struct weir_quota *quota, size_t bytes);
void weiri_quota_return(struct weir_quota *quota, size_t bytes);

/* A pool joins, and leaves with all its bytes returned. */
void weiri_quota_join(struct weir_quota *quota);
void weiri_quota_leave(struct weir_quota *quota);

#endif /* WEIRI_QUOTA_H */
