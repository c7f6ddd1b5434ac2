/* SPDX-License-Identifier: MIT */
/*
 * account.h - charges, as the pools make them.
 */
#ifndef WEIRI_ACCOUNT_H
#define WEIRI_ACCOUNT_H

#include "base/compiler.h"

#include <weir/account.h>

/* Parts of weir_account.used. */
#define WEIRI_ACCOUNT_CALLER (UINT64_C(1) << 56)
#define WEIRI_ACCOUNT_BYTES (WEIRI_ACCOUNT_CALLER - 1)

WEIRI_INLINE uint64_t
weiri_account_used(const struct weir_account *level)
{
	return WEIRI_LOAD(&level->used) & WEIRI_ACCOUNT_BYTES;
}

/*
 * Charges @account and all above it; NULL, or the level that has no room, with
 * nothing charged any more.  What was charged below that level in between may
 * have been in somebody's way: call weiri_gate_look() after a refusal.
 */
struct weir_account *weiri_account_charge(
    struct weir_account *account, uint64_t bytes, bool sending);

/* Takes back a charge of this very call: tells nobody, see above. */
void weiri_account_undo(struct weir_account *account, uint64_t bytes);

/*
 * @to pays instead of @from, either of which may be NULL: first the levels of
 * @to that are not above @from, too, then the others of @from.  Those above both
 * are not touched, so a move within a full tree succeeds.  False: no room, and
 * nothing changed.
 */
bool weiri_account_charge_instead(
    struct weir_account *to, const struct weir_account *from, uint64_t bytes);
void weiri_account_uncharge_instead(
    const struct weir_account *to, struct weir_account *from, uint64_t bytes);

/* weir_account_largest() of the leaves that @counts says yes to; it is called
 * under a lock. */
struct weir_account *weiri_account_largest(struct weir_account *account,
    bool (*counts)(struct weir_account *leaf), uint64_t *bytes);

/* After the use of @level fell, or its limit moved: tells who was to pause, if
 * that is over.  The caller sees to it that @level stays. */
void weiri_account_look(struct weir_account *level);

/* Is @account @level, or below it? */
bool weiri_account_within(
    const struct weir_account *account, const struct weir_account *level);

#endif /* WEIRI_ACCOUNT_H */
