/* SPDX-License-Identifier: MIT */
/*
 * buddy_view.c - what there is in a buddy: runs, how free units lie, the check.
 */
#include "pools/buddy.h"

#include "config/config.h"
#include "pages/pages.h"

#include <errno.h>
#include <string.h>

/* Under the lock: units that rest are free for whoever asks how those lie. */
static void
view_wake_all(struct weir_buddy *buddy)
{
	while (WEIR_UNLIKELY(buddy->runs.runs > 0))
		(void)weiri_buddy_wake(buddy, false);
}

size_t
weir_buddy_run(struct weir_buddy *buddy, size_t first)
{
	uint32_t count;

	weiri_buddy_lock(buddy);

	enum weiri_buddy_result result =
	    weiri_buddy_core_query(&buddy->core, first, &count);

	if (weiri_runs_state(&buddy->runs, first) == WEIRI_RUNS_RESTING)
		result = WEIRI_BUDDY_FREE;
	weiri_buddy_unlock(buddy);
	return result == WEIRI_BUDDY_OK ? count : 0;
}

size_t
weir_buddy_largest(struct weir_buddy *buddy)
{
	weiri_buddy_lock(buddy);
	view_wake_all(buddy);

	size_t count = weiri_buddy_core_longest(&buddy->core);

	weiri_buddy_unlock(buddy);
	return count;
}

int
weir_buddy_stats(struct weir_buddy *buddy, struct weir_pool_stats *out)
{
	if (out->size != sizeof(*out))
		return -EINVAL;
	weiri_pool_stats(&buddy->pool, out);
	return 0;
}

static void
view_orders(
    struct weir_buddy_orders *out, const struct weiri_buddy_tally *tally)
{
	*out = (struct weir_buddy_orders){
	    .size = sizeof(*out),
	    .fragmentation_permille = weiri_buddy_fragmentation(tally),
	    .free_units = tally->free_units,
	    .largest_units = tally->largest_units,
	};
	memcpy(out->free_blocks, tally->blocks, sizeof(out->free_blocks));
}

int
weir_buddy_orders_read(struct weir_buddy *buddy, struct weir_buddy_orders *out)
{
	struct weiri_buddy_tally tally = {0};

	if (out->size != sizeof(*out))
		return -EINVAL;
	weiri_buddy_lock(buddy);
	view_wake_all(buddy);
	weiri_buddy_core_tally(&buddy->core, &tally);
	weiri_buddy_unlock(buddy);
	view_orders(out, &tally);
	return 0;
}

int
weir_pages_orders_read(struct weir_buddy_orders *out)
{
	struct weiri_buddy_tally tally = {0};

	if (out->size != sizeof(*out))
		return -EINVAL;
	weiri_pages_tally(&tally);
	view_orders(out, &tally);
	return 0;
}

bool
weir_buddy_check(struct weir_buddy *buddy)
{
	weiri_buddy_lock(buddy);

	const char *why = weiri_buddy_core_check(&buddy->core);
	uint64_t in_use = WEIRI_LOAD(&buddy->in_use);

	if (why == NULL &&
	    in_use + buddy->runs.resting + buddy->core.free_count !=
		buddy->core.unit_count)
		why = "U2: units in use, resting and free are not all";
	if (why == NULL && in_use > WEIRI_LOAD(&buddy->peak))
		why = "U2: the peak is below the units in use";
	if (why == NULL && !weiri_buddy_mark_check(buddy))
		why = "M2: a free unit was written to";
	weiri_buddy_unlock(buddy);
	if (why == NULL)
		return true;

	char line[160];
	struct weiri_text text = {line, sizeof(line), 0};

	weiri_text_str(&text, "buddy ");
	weiri_text_json(&text, buddy->pool.name);
	weiri_text_str(&text, ": ");
	weiri_text_str(&text, why);
	weiri_message(WEIR_MESSAGE_ERROR, line);
	return false;
}
