/* SPDX-License-Identifier: MIT */
/*
 * region_vm.h - the inside of a region in one range of addresses.
 *
 *   region_vm.c        objects, memory, creation and end
 *   region_vm_view.c   what other threads are shown of it
 *   region_vm_guard.c  its objects under guard
 */
#ifndef WEIRI_REGION_VM_H
#define WEIRI_REGION_VM_H

#include "base/annotate.h"
#include "base/bits.h"
#include "guard/guard.h"
#include "pages/range.h"
#include "slab/local.h"
#include "watch/registry.h"

#include <weir/region_vm.h>

/*
 * A record of the library's (weiri_meta_alloc()).  A free record has its list
 * in its first bytes, where the link of the pool is here; what tells a
 * destroyed region lies behind and lasts until the record is used again.
 */
struct weiri_region_vm {
	struct weiri_pool pool;
	struct weir_region_vm bump; /* the public pointer points here */
	uint64_t magic;
	struct weir_local *owner; /* NULL: handed off */
	struct weiri_range range;
	size_t limit_bytes; /* whole pages, at most the reservation */
	size_t first_bytes;
	size_t touched_bytes; /* room up to here may have been written */
	size_t peak_bytes;    /* in use */
	size_t committed_peak;
	size_t high_now;    /* most in use in this turn of resets */
	size_t high_before; /* in the last turn */
	uint32_t turn;      /* resets in this turn */
	uint64_t resets, misses, failures;
	/* For lists of live regions; as it was made. */
	const char *name; /* for ever, as the pool's is not */
	const void *site; /* return address of the creating call */
	uint32_t birth;   /* weiri_region_tick then */
	/* A tool is told of each object: the room is none, so that the inline
	 * calls come here.  All behind `next` is forbidden. */
	bool watched;
	size_t watched_bytes; /* most that was ever committed then */
	/* Under guard (region_vm_guard.c), and what ends objects now. */
	struct weiri_guard_pool guard;
	struct weiri_arena *arena; /* NULL: it is not */
	size_t open_bytes;         /* of the range that do not trap */
	enum weiri_guard_how how;
};

/* ---- for others (region_vm_view.c) ---------------------------------------- */

extern const struct weiri_pool_ops weiri_region_vm_ops
    __attribute__((visibility("hidden")));

/* ---- guard (region_vm_guard.c) ------------------------------------------- */

/* A new one: is it to be under guard? */
void weiri_region_vm_guard_begin(struct weiri_region_vm *vm);

/* Objects may reach up to @used; false: the system will not have it. */
WEIRI_COLD bool weiri_region_vm_guard_open(
    struct weiri_region_vm *vm, size_t used);

/* Objects ended at @before, and end at `next` now, by vm->how. */
WEIRI_COLD void weiri_region_vm_guard_cut(
    struct weiri_region_vm *vm, const char *before);

/* What is committed has changed. */
WEIRI_COLD void weiri_region_vm_guard_end(struct weiri_region_vm *vm);

/* The region ends; true: its range is the guard's. */
bool weiri_region_vm_guard_finish(struct weiri_region_vm *vm);

/* ---- where objects end ----------------------------------------------------- */

/* Objects end at @next now; below, what they held before is room. */
WEIRI_INLINE void
weiri_region_vm_set_next(struct weiri_region_vm *vm, char *next)
{
	const char *before = vm->bump.next;

	weir_abi_region_vm_move(&vm->bump, next);
	if (WEIR_UNLIKELY(vm->arena != NULL) && next < before)
		weiri_region_vm_guard_cut(vm, before);
	if (WEIR_LIKELY(!vm->watched))
		return;
	vm->bump.end = next;
	if (next < before)
		weiri_annotate_forbid(next, (size_t)(before - next));
}

/* @bytes from @from on are an object's, or more of one. */
WEIRI_INLINE void
weiri_region_vm_show(
    const struct weiri_region_vm *vm, const char *from, size_t bytes)
{
	if (WEIR_UNLIKELY(vm->watched))
		weiri_annotate_allow(from, bytes);
}

/* What is committed has changed. */
WEIRI_INLINE void
weiri_region_vm_set_end(struct weiri_region_vm *vm, size_t committed_before)
{
	char *end = vm->range.base + vm->range.committed_bytes;
	/* Hooks that ran meanwhile may have taken some. */
	char *from = vm->range.base + committed_before;

	if (WEIR_UNLIKELY(vm->arena != NULL)) {
		weiri_region_vm_guard_end(vm);
		return;
	}
	if (WEIR_LIKELY(!vm->watched)) {
		vm->bump.end = end;
		return;
	}
	if (from < vm->bump.next)
		from = vm->bump.next;
	vm->bump.end = vm->bump.next;
	vm->watched_bytes =
	    weiri_max(vm->watched_bytes, vm->range.committed_bytes);
	if (from < end)
		weiri_annotate_forbid(from, (size_t)(end - from));
}

#endif /* WEIRI_REGION_VM_H */
