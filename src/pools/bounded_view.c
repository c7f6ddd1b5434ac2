/* SPDX-License-Identifier: MIT */
/*
 * bounded_view.c - a bounded pool in this process's list of pools.
 *
 * The pool may lie in shared memory, the list is of one process: its entry
 * lies apart, in storage the caller brings.  Two processes that show the same
 * pool have an entry each and see the same figures.
 */
#include "pools/bounded.h"
#include "watch/registry.h"

#define BOUNDED_VIEW_MAGIC UINT64_C(0x77656972626e6476)

struct bounded_view {
	struct weiri_pool pool;
	const struct weir_bounded *bounded;
	uint64_t magic;
};

static_assert(sizeof(struct bounded_view) <= sizeof(struct weir_bounded_view),
    "the caller's storage holds the entry");
static_assert(
    _Alignof(struct bounded_view) <= _Alignof(struct weir_bounded_view),
    "the caller's storage is aligned for the entry");
static_assert(BOUNDED_NAME_BYTES == WEIRI_NAME_BYTES, "a name fits both");

static void
bounded_view_stats(struct weiri_pool *pool, struct weir_pool_stats *out)
{
	const struct bounded_view *view =
	    WEIRI_CONTAINER_OF(pool, struct bounded_view, pool);

	/* Another process may have finished it. */
	if (weiri_bounded_live(view->bounded))
		weiri_bounded_figures(view->bounded, out);
}

static const struct weiri_pool_ops bounded_view_ops = {
    .stats = bounded_view_stats,
};

void
weir_bounded_show(struct weir_bounded *pool, struct weir_bounded_view *view)
{
	struct bounded_view *mine = (void *)view;

	WEIR_ASSERT(weiri_bounded_live(pool));
	/* From here on the options are in force, for all such pools. */
	(void)weiri_guard_is_full();
	memset(view, 0, sizeof(*view));
	mine->bounded = pool;
	mine->magic = BOUNDED_VIEW_MAGIC;
	weiri_pool_register(&mine->pool, WEIR_POOL_BOUNDED, pool->name,
	    &bounded_view_ops, false);
}

void
weir_bounded_hide(struct weir_bounded_view *view)
{
	struct bounded_view *mine = (void *)view;

	if (view == NULL)
		return;
	if (WEIR_UNLIKELY(mine->magic != BOUNDED_VIEW_MAGIC) &&
	    WEIR_DETECTOR(bounded_not_shown))
		weiri_fault(&(struct weiri_fault_site){
		    .fault_class = WEIR_FAULT_BAD_ARGUMENT,
		    .pool_kind = "bounded",
		    .address = view,
		    .detail = "view %p is not shown",
		});
	weiri_pool_unregister(&mine->pool);
	mine->magic = 0;
}
