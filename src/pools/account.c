/* SPDX-License-Identifier: MIT */
/*
 * account.c - charging trees of accounts, strict to the byte.
 *
 * A charge goes up from the leaf, level by level, each by compare-and-exchange
 * against that level's limit; a level that refuses has what was charged below
 * it taken back.  So no level is ever above its limit, without a lock.  The
 * price is that a level may refuse a request for bytes that another request has
 * charged for a moment only.  Who takes such bytes back lets those who wait
 * look again, so that only a request that does not wait can suffer.
 *
 * An uncharge goes down from the root: the leaf's bytes keep the whole path in
 * being, and who sees its own account at 0 may end it at once.  After the
 * subtraction that may do so nothing of the level is touched.  A level with a
 * resume function has to be looked at again then; so it counts who is about to
 * look in the upper byte of the same word, and whoever finishes it waits for
 * them:
 *
 *     used:  | 8 bits: callers inside | 56 bits: bytes charged |
 *
 * (Should 256 be inside at once, bytes are still right, and a finish may come
 * too early.)
 *
 * Pausing: who is told to pause marks the level, fences, and looks again; who
 * uncharges subtracts, fences, and looks for the mark.  One of them sees the
 * other, and the mark is taken off by exchange, so the function is called once
 * for each time that anybody was told.
 *
 * Invariant A2 of account_tree.c: a charge never makes used more than limit, nor
 * more than limit - reserve unless it is to send.
 */
#include "pools/account.h"

#include "base/bits.h"
#include "guard/fault.h"
#include "pools/buffer_gate.h"

static_assert(sizeof(struct weir_account) == (size_t)2 * WEIRI_CACHE_LINE,
    "what a charge touches lies in the first line");
static_assert(offsetof(struct weir_account, first) == WEIRI_CACHE_LINE,
    "what a charge touches lies in the first line");

/* Bytes that may be charged to @level in all. */
static uint64_t
account_room(const struct weir_account *level, bool sending)
{
	/* Pairs with the release in weir_account_set_limit(): the reserve read
	 * next is not above it. */
	uint64_t limit = __atomic_load_n(&level->limit, __ATOMIC_ACQUIRE);

	return sending ? limit : limit - WEIRI_LOAD(&level->reserve);
}

/* ---- charging ------------------------------------------------------------ */

static void
account_note_peak(struct weir_account *level, uint64_t used)
{
	uint64_t peak = WEIRI_LOAD(&level->peak);

	while (
	    used > peak && !__atomic_compare_exchange_n(&level->peak, &peak,
			       used, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static bool
account_add(struct weir_account *level, uint64_t bytes, bool sending)
{
	uint64_t word = WEIRI_LOAD(&level->used);
	uint64_t room =
	    weiri_min(account_room(level, sending), WEIRI_ACCOUNT_BYTES);

	do {
		uint64_t used = word & WEIRI_ACCOUNT_BYTES;

		if (used > room || bytes > room - used) {
			__atomic_fetch_add(
			    &level->refusals, 1, __ATOMIC_RELAXED);
			__atomic_fetch_add(
			    &level->refused_run, 1, __ATOMIC_RELAXED);
			return false;
		}
	} while (!__atomic_compare_exchange_n(&level->used, &word, word + bytes,
	    true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	account_note_peak(level, (word & WEIRI_ACCOUNT_BYTES) + bytes);
	return true;
}

/* From @account up to the level below @end. */
static void
account_take_back(struct weir_account *account, const struct weir_account *end,
    uint64_t bytes)
{
	for (struct weir_account *level = account; level != end;
	     level = level->parent)
		__atomic_fetch_sub(&level->used, bytes, __ATOMIC_RELEASE);
}

/* From @account up to the level below @end; the level that refused, or NULL. */
static struct weir_account *
account_charge(struct weir_account *account, const struct weir_account *end,
    uint64_t bytes, bool sending)
{
	for (struct weir_account *level = account; level != end;
	     level = level->parent) {
		if (account_add(level, bytes, sending))
			continue;
		account_take_back(account, level, bytes);
		return level;
	}
	return NULL;
}

struct weir_account *
weiri_account_charge(struct weir_account *account, uint64_t bytes, bool sending)
{
	return account_charge(account, NULL, bytes, sending);
}

/* The lowest level that is both @one or above it and @other or above it. */
static const struct weir_account *
account_common(const struct weir_account *one, const struct weir_account *other)
{
	while (one != NULL && !weiri_account_within(other, one))
		one = one->parent;
	return one;
}

bool
weiri_account_charge_instead(
    struct weir_account *to, const struct weir_account *from, uint64_t bytes)
{
	return account_charge(to, account_common(to, from), bytes, false) ==
	       NULL;
}

void
weiri_account_undo(struct weir_account *account, uint64_t bytes)
{
	account_take_back(account, NULL, bytes);
}

bool
weir_account_charge(struct weir_account *account, uint64_t bytes)
{
	if (weiri_account_charge(account, bytes, false) == NULL)
		return true;
	weiri_gate_look();
	return false;
}

/* ---- uncharging ---------------------------------------------------------- */

void
weiri_account_look(struct weir_account *level)
{
	weiri_gate_fence();
	if (WEIRI_LOAD(&level->paused) == 0 ||
	    weiri_account_used(level) > WEIRI_LOAD(&level->pause) / 2)
		return;
	if (__atomic_exchange_n(&level->paused, 0, __ATOMIC_ACQ_REL) != 0)
		level->resume(level);
}

static void
account_sub(struct weir_account *level, uint64_t bytes)
{
	bool resume = level->resume != NULL;
	uint64_t change = (resume ? WEIRI_ACCOUNT_CALLER : 0) - bytes;

	if (WEIRI_LOAD(&level->refused_run) != 0)
		WEIRI_STORE(&level->refused_run, 0);
	/* Release: what was done with the memory lies before the finish. */
	uint64_t before =
	    __atomic_fetch_add(&level->used, change, __ATOMIC_RELEASE);

	if (WEIR_UNLIKELY((before & WEIRI_ACCOUNT_BYTES) < bytes) &&
	    WEIR_DETECTOR(account_underflow)) {
		__atomic_fetch_sub(&level->used, change, __ATOMIC_RELAXED);
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_REF_UNDERFLOW,
		    .pool_kind = "account",
		    .pool_name = level->name,
		    .address = level,
		    .number = bytes,
		    .detail = "%u %{byte|bytes} uncharged from %p, which has "
			      "less",
		});
	}
	if (!resume)
		return;
	weiri_account_look(level);
	__atomic_fetch_sub(
	    &level->used, WEIRI_ACCOUNT_CALLER, __ATOMIC_RELEASE);
}

/* From the level below @end down to @account. */
static void
account_uncharge(struct weir_account *account, const struct weir_account *end,
    uint64_t bytes)
{
	struct weir_account *path[WEIR_ACCOUNT_DEPTH_MAX];
	size_t depth = 0;

	if (account == NULL || bytes == 0)
		return;
	for (struct weir_account *level = account; level != end;
	     level = level->parent) {
		WEIR_ASSERT(depth < WEIR_ACCOUNT_DEPTH_MAX);
		path[depth++] = level;
	}
	while (depth > 0)
		account_sub(path[--depth], bytes);
	weiri_gate_look();
}

void
weir_account_uncharge(struct weir_account *account, uint64_t bytes)
{
	account_uncharge(account, NULL, bytes);
}

void
weiri_account_uncharge_instead(
    const struct weir_account *to, struct weir_account *from, uint64_t bytes)
{
	account_uncharge(from, account_common(to, from), bytes);
}

/* ---- verdicts ------------------------------------------------------------ */

static enum weir_account_verdict
account_judge(const struct weir_account *level, uint64_t bytes)
{
	uint64_t used = weiri_account_used(level);
	uint64_t room = account_room(level, false);
	uint32_t close_after = level->close_after;

	if (used > room || bytes > room - used)
		return close_after != 0 &&
			       WEIRI_LOAD(&level->refused_run) >= close_after
			   ? WEIR_ACCOUNT_CLOSE
			   : WEIR_ACCOUNT_FULL;
	return used >= WEIRI_LOAD(&level->pause) ? WEIR_ACCOUNT_PAUSE
						 : WEIR_ACCOUNT_OK;
}

/* One level's answer; the mark is set before the look that decides. */
static enum weir_account_verdict
account_ask(struct weir_account *level, uint64_t bytes)
{
	enum weir_account_verdict verdict = account_judge(level, bytes);
	uint32_t marks;

	if (verdict == WEIR_ACCOUNT_OK || level->resume == NULL)
		return verdict;
	/* A mark for each who asks; only its own does it take back. */
	marks = WEIRI_LOAD(&level->paused);
	while (!__atomic_compare_exchange_n(&level->paused, &marks,
	    marks < UINT32_MAX ? marks + 1 : marks, true, __ATOMIC_RELEASE,
	    __ATOMIC_RELAXED))
		;
	weiri_gate_fence();
	if (weiri_account_used(level) > WEIRI_LOAD(&level->pause) / 2)
		return verdict;
	/* So low that nobody may come by any more.  If the mark is gone, the
	 * function is called as for any other who was told to pause. */
	marks = WEIRI_LOAD(&level->paused);
	do {
		if (marks == 0)
			return verdict;
	} while (!__atomic_compare_exchange_n(&level->paused, &marks, marks - 1,
	    true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	verdict = account_judge(level, bytes);
	/* It cannot be marked: what is asked for never fits. */
	return verdict == WEIR_ACCOUNT_PAUSE ? WEIR_ACCOUNT_OK : verdict;
}

enum weir_account_verdict
weir_account_verdict(
    struct weir_account *account, uint64_t bytes, struct weir_account **level)
{
	enum weir_account_verdict worst = WEIR_ACCOUNT_OK;

	if (level != NULL)
		*level = account;
	for (struct weir_account *at = account; at != NULL; at = at->parent) {
		enum weir_account_verdict verdict = account_ask(at, bytes);

		if (verdict <= worst)
			continue;
		worst = verdict;
		if (level != NULL)
			*level = at;
	}
	return worst;
}
