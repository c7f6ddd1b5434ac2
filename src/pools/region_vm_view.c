/* SPDX-License-Identifier: MIT */
/*
 * region_vm_view.c - regions in one range of addresses, as others see them.
 *
 * Each is a pool of its own: statistics have a line of it, and lists of live
 * regions find it among all pools, by what it does.  A pool that is visited is
 * not gone before the visit ends (registry.c), so that its words are read where
 * they are, once: they need not agree, and what tells who it is never changes.
 */
#include "pools/region_vm.h"
#include "pools/region_watch.h"

static void
vm_view_stats(struct weiri_pool *pool, struct weir_pool_stats *out)
{
	const struct weiri_region_vm *vm =
	    WEIRI_CONTAINER_OF(pool, struct weiri_region_vm, pool);
	size_t committed = WEIRI_LOAD(&vm->range.committed_bytes);
	size_t used =
	    (uintptr_t)WEIRI_LOAD(&vm->bump.next) - (uintptr_t)vm->range.base;
	size_t touched = WEIRI_LOAD(&vm->touched_bytes);

	/* Read one by one from a region that moves: made to agree. */
	used = weiri_min(used, committed);
	touched = weiri_min(weiri_max(touched, used), committed);
	out->exact = WEIR_EXACT_COUNTS | WEIR_EXACT_PEAK;
	out->limit = UINT64_MAX;
	out->total = out->in_use = out->in_use_peak = out->hits = 1;
	out->misses = WEIRI_LOAD(&vm->misses);
	out->failures = WEIRI_LOAD(&vm->failures);
	out->requests = out->hits + out->misses + out->failures;
	out->limit_bytes = vm->limit_bytes;
	out->limit_bytes_used = used;
	out->bytes_mapped = committed;
	out->bytes_in_use = used;
	out->bytes_idle = touched - used;
	out->bytes_untouched = committed - touched;
}

const struct weiri_pool_ops weiri_region_vm_ops = {
    .stats = vm_view_stats,
};

/* ---- live regions ---------------------------------------------------------- */

struct vm_view_walk {
	weiri_region_visit_fn visit;
	void *context;
};

static void
vm_view_read(
    const struct weiri_region_vm *vm, struct weiri_region_record *record)
{
	uint64_t bytes = WEIRI_LOAD(&vm->range.committed_bytes);

	*record = (struct weiri_region_record){
	    /* Of the two structs the address alone is told. */
	    .region = (const struct weir_region *)(const void *)&vm->bump,
	    .kind = WEIRI_REGION_VM_KIND,
	    .name = vm->name,
	    .site = vm->site,
	    .owner = WEIRI_LOAD(&vm->owner),
	    .bytes = bytes,
	    .peak = weiri_max(WEIRI_LOAD(&vm->committed_peak), bytes),
	    .misses = WEIRI_LOAD(&vm->misses),
	    .failures = WEIRI_LOAD(&vm->failures),
	    .birth = vm->birth,
	    .is_vm = true,
	    .above = WEIRI_RECORD_NONE,
	    .child = WEIRI_RECORD_NONE,
	    .sibling = WEIRI_RECORD_NONE,
	};
}

static bool
vm_view_visit(struct weiri_pool *pool, void *context)
{
	const struct vm_view_walk *walk = context;
	struct weiri_region_record record;

	if (pool->ops != &weiri_region_vm_ops)
		return true;
	vm_view_read(
	    WEIRI_CONTAINER_OF(pool, struct weiri_region_vm, pool), &record);
	walk->visit(&record, walk->context);
	return true;
}

void
weiri_region_vm_walk(weiri_region_visit_fn visit, void *context)
{
	struct vm_view_walk walk = {visit, context};

	weiri_pool_walk(vm_view_visit, &walk);
}
