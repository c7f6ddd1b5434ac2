/* SPDX-License-Identifier: MIT */
/*
 * region_vm_guard.c - regions in one range of addresses, under guard.
 *
 *     base                   next   open           committed
 *      | objects               | fill | traps         | no memory yet |
 *
 * Objects lie behind one another there, and an object's distance from the base is
 * a name for it; so none can have pages of its own.  What can trap is every page
 * that no object is in: at a reset, a rewind or a shrink the pages behind the last
 * object, at the end all, and before that those that no object has reached.  The
 * rest of the last page is filled, so that what is read there is no old data.
 *
 * The room of such a region ends with the page that is open: the inline calls need
 * to know nothing.  It is decided when the region begins.
 *
 * Invariant: [base, base + open_bytes) is accessible, in whole pages, and `end` is
 * its end.  What is behind it traps, unless the system refused.
 */
#include "base/bits.h"
#include "guard/arena.h"
#include "os/guard.h"
#include "os/os.h"
#include "pools/region_vm.h"

#include <string.h>

/* In the slack of the last page; as other objects' slack. */
#define VM_FILL 0xb7

static size_t
vm_used(const struct weiri_region_vm *vm)
{
	return (size_t)(vm->bump.next - vm->range.base);
}

static size_t
vm_pages(size_t bytes)
{
	return weiri_round_up(bytes, weiri_range_page());
}

void
weiri_region_vm_guard_begin(struct weiri_region_vm *vm)
{
	weiri_guard_enter(&vm->guard, "region", vm->pool.name);
	vm->open_bytes = 0;
	vm->arena = weiri_arena_begin(
	    &vm->guard, vm->range.base, vm->range.reserved_bytes);
}

bool
weiri_region_vm_guard_open(struct weiri_region_vm *vm, size_t used)
{
	size_t open = vm_pages(used);

	if (open > vm->open_bytes) {
		char *from = vm->range.base + vm->open_bytes;
		size_t bytes = open - vm->open_bytes;
		int status = weiri_os_unbar(from, bytes);

		/* Short for a moment, perhaps. */
		if (status != 0)
			status = weiri_os_unbar(from, bytes);
		if (status != 0)
			return false;
		WEIRI_STORE(&vm->open_bytes, open);
	}
	vm->bump.end = vm->range.base + vm->open_bytes;
	weiri_arena_move(vm->arena, used);
	return true;
}

void
weiri_region_vm_guard_cut(struct weiri_region_vm *vm, const char *before)
{
	size_t used = vm_used(vm), open = vm_pages(used);
	size_t high = (size_t)(before - vm->range.base);

	weiri_arena_cut(vm->arena, used, high, vm->how);
	if (open < vm->open_bytes &&
	    weiri_os_bar(vm->range.base + open, vm->open_bytes - open) == 0) {
		WEIRI_STORE(&vm->open_bytes, open);
		vm->bump.end = vm->range.base + open;
	}
	memset(vm->bump.next, VM_FILL, open - used);
}

void
weiri_region_vm_guard_end(struct weiri_region_vm *vm)
{
	size_t committed = vm->range.committed_bytes;

	if (vm->open_bytes > committed)
		WEIRI_STORE(&vm->open_bytes, committed);
	/* What is not barred now is found to be accessible when it is opened. */
	if (committed > vm->open_bytes)
		(void)weiri_os_bar(vm->range.base + vm->open_bytes,
		    committed - vm->open_bytes);
	vm->bump.end = vm->range.base + vm->open_bytes;
}

/* Barred pages have no memory, so nothing but addresses stays; of what was never
 * used not even these. */
bool
weiri_region_vm_guard_finish(struct weiri_region_vm *vm)
{
	char *base = vm->range.base;
	size_t reserved = vm->range.reserved_bytes;
	size_t keep = vm_pages(weiri_max(vm->peak_bytes, vm_used(vm)));

	weiri_guard_leave(&vm->guard);
	if (vm->arena == NULL)
		return false;
	if (vm->open_bytes > 0 && weiri_os_bar(base, vm->open_bytes) != 0) {
		weiri_arena_forget(vm->arena);
		return false;
	}
	weiri_range_forget(&vm->range);
	if (keep > 0)
		weiri_arena_end(vm->arena, keep, WEIRI_GUARD_DESTROY);
	else
		weiri_arena_forget(vm->arena);
	if (keep < reserved)
		weiri_os_drop(base + keep, reserved - keep);
	return true;
}
