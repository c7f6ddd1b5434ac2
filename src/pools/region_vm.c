/* SPDX-License-Identifier: MIT */
/*
 * region_vm.c - regions in one range of addresses.
 *
 *     base                 next        touched    end      limit    reserved
 *      | objects            | was in use | untouched | may be   | never
 *      |<------------------ committed, charged ----->| committed|
 *
 * What is committed doubles, up to steps of 64 MiB, so that growing costs a
 * system call for each doubling and what is charged beyond what is in use stays
 * bounded.  If twice as much cannot be had, what is needed may be: a limit never
 * refuses what fits.
 *
 * Giving back is by turns of 16 resets: at the end of one, what neither it nor
 * the turn before needed goes.  A server whose uses differ from one to the next
 * makes no system call for that; one spike is gone after 48 resets at most.
 *
 * The record lies apart from the objects, so that neither an overrun of theirs
 * nor a use of memory that went back reaches it.
 *
 * Invariants (weir_region_vm_check()):
 *
 *   N1  base <= next <= end, all multiples of 16; end is base + committed, or
 *       next where a tool is told of each object (region_vm.h), or the end of
 *       what does not trap (region_vm_guard.c).
 *   N2  committed <= limit <= reserved, all whole pages.
 *   N3  Objects are behind one another: next is the end of the newest, rounded
 *       up to 16.
 *
 * Threads: the owner writes; statistics and the list of live regions
 * (region_vm_view.c) read from any thread, each word by itself, hence relaxed
 * loads and stores of what changes.
 * Hooks run while the range grows (weiri_range_grow()) and may use the region
 * they run for, so that nothing read before is used after it.
 */
#include "pools/region_vm.h"

#include "base/assert.h"
#include "base/bits.h"
#include "config/config.h"
#include "config/invalid.h"
#include "guard/fault.h"
#include "guard/guard.h"
#include "pages/pages.h"
#include "pools/region_kind.h"
#include "pools/region_watch.h"

#include <errno.h>
#include <string.h>

#define VM_LIVE UINT64_C(0x766d2d7265676e31)
#define VM_DEAD UINT64_C(0x766d2d6465616431)

#define VM_FIRST ((size_t)64 << 10)
/* More than this at once would save little: a call to the system takes less
 * than to bring in two of its 16384 pages. */
#define VM_STEP_MAX ((size_t)64 << 20)
#define VM_TURN 16u

#ifdef WEIR_DEBUG
#define VM_OWNER_DEBUG (WEIR_DEBUG >= 1)
#else
#define VM_OWNER_DEBUG 0
#endif

static_assert(offsetof(struct weiri_region_vm, bump) >= 64,
    "a free record's list does not reach what tells a destroyed region");

/* ---- whose it is ---------------------------------------------------------- */

static WEIRI_COLD WEIRI_NORETURN void
vm_fault(const struct weiri_region_vm *vm, enum weir_fault_class fault_class,
    const void *address, size_t number, const char *detail)
{
	bool named = vm->magic == (VM_LIVE ^ (uintptr_t)vm) ||
		     vm->magic == (VM_DEAD ^ (uintptr_t)vm);

	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = fault_class,
	    .pool_kind = "region",
	    .pool_name = named ? vm->pool.name : NULL,
	    .address = address,
	    .number = number,
	    .detail = detail,
	});
}

static struct weiri_region_vm *
vm_of(const struct weir_region_vm *bump)
{
	uintptr_t base =
	    (uintptr_t)bump - offsetof(struct weiri_region_vm, bump);

	return (struct weiri_region_vm *)base;
}

static struct weiri_region_vm *
vm_live(const struct weir_region_vm *bump)
{
	struct weiri_region_vm *vm = vm_of(bump);

	if (WEIR_UNLIKELY(vm->magic == (VM_DEAD ^ (uintptr_t)vm)) &&
	    WEIR_DETECTOR(vm_gone))
		vm_fault(vm, WEIR_FAULT_USE_AFTER_DESTROY, bump, 0,
		    "%p is used, but was destroyed");
	if (WEIR_UNLIKELY(vm->magic != (VM_LIVE ^ (uintptr_t)vm)) &&
	    WEIR_DETECTOR(vm_foreign))
		vm_fault(vm, WEIR_FAULT_FOREIGN_POINTER, bump, 0,
		    "%p is no region in a range of addresses");
	return vm;
}

/* A thread without a state of its own is told apart from no other. */
static void
vm_expect_own(struct weiri_region_vm *vm)
{
	if (WEIR_LIKELY(vm->owner == weiri_local()))
		return;
	if (!VM_OWNER_DEBUG && !weiri_guard_is_full()) {
		/* Not asked again before another one comes. */
		WEIRI_STORE(&vm->owner, weiri_local());
		return;
	}
	if (weiri_local() == &weiri_local_none)
		(void)weiri_local_own();
	if (vm->owner == weiri_local())
		return;
	if (vm->owner == NULL && WEIR_DETECTOR(vm_handed_off))
		vm_fault(vm, WEIR_FAULT_WRONG_THREAD, &vm->bump, 0,
		    "%p was handed off and not taken over");
	if (vm->owner != &weiri_local_none &&
	    weiri_local() != &weiri_local_none && WEIR_DETECTOR(vm_other_owner))
		vm_fault(vm, WEIR_FAULT_WRONG_THREAD, &vm->bump, 0,
		    "%p is another thread's");
}

/* The live region of the calling thread. */
static struct weiri_region_vm *
vm_own(const struct weir_region_vm *bump)
{
	struct weiri_region_vm *vm = vm_live(bump);

	vm_expect_own(vm);
	return vm;
}

void
weir_region_vm_hand_off(struct weir_region_vm *bump)
{
	WEIRI_STORE(&vm_own(bump)->owner, NULL);
}

void
weir_region_vm_take_over(struct weir_region_vm *bump)
{
	struct weiri_region_vm *vm = vm_live(bump);

	if (vm->owner != NULL)
		vm_expect_own(vm);
	if (weiri_local() == &weiri_local_none)
		(void)weiri_local_own();
	WEIRI_STORE(&vm->owner, weiri_local());
}

/* ---- room ----------------------------------------------------------------- */

static size_t
vm_used(const struct weiri_region_vm *vm)
{
	return (size_t)(vm->bump.next - vm->range.base);
}

/* Before the end of the objects goes back. */
static void
vm_note_use(struct weiri_region_vm *vm)
{
	size_t used = vm_used(vm);

	if (used > vm->touched_bytes)
		WEIRI_STORE(&vm->touched_bytes, used);
	vm->high_now = weiri_max(vm->high_now, used);
	vm->peak_bytes = weiri_max(vm->peak_bytes, used);
}

static void
vm_move(struct weiri_region_vm *vm, size_t used)
{
	if (used < vm_used(vm))
		vm_note_use(vm);
	weiri_region_vm_set_next(vm, vm->range.base + used);
}

/* Has room for @used bytes of objects, which the limit allows. */
static bool
vm_commit(struct weiri_region_vm *vm, size_t used)
{
	size_t old = vm->range.committed_bytes;
	size_t need = weiri_round_up(used, weiri_range_page());
	size_t want = old + weiri_min(old, VM_STEP_MAX);
	int error = 0;

	WEIR_ASSERT(used <= vm->limit_bytes);
	if (WEIR_LIKELY(used > old)) {
		want = weiri_max(want, vm->first_bytes);
		want = weiri_min(want, vm->limit_bytes);
		error = weiri_range_grow(&vm->range, need, want);
		weiri_region_vm_set_end(vm, old);
		if (vm->range.committed_bytes > vm->committed_peak)
			WEIRI_STORE(
			    &vm->committed_peak, vm->range.committed_bytes);
	}
	return error == 0;
}

static size_t
vm_shrink_range(struct weiri_region_vm *vm, size_t keep)
{
	size_t gone = weiri_range_shrink(
	    &vm->range, weiri_round_up(keep, weiri_range_page()));

	weiri_region_vm_set_end(vm, vm->range.committed_bytes);
	if (vm->touched_bytes > vm->range.committed_bytes)
		WEIRI_STORE(&vm->touched_bytes, vm->range.committed_bytes);
	return gone;
}

static void *
vm_refuse(struct weiri_region_vm *vm)
{
	WEIRI_BUMP(&vm->failures, 1);
	return NULL;
}

void *
weir_abi_region_vm_1(struct weir_region_vm *bump, size_t bytes, size_t align)
{
	struct weiri_region_vm *vm = vm_own(bump);

	if (!weiri_is_pow2(align) || align > WEIR_REGION_ALIGN_MAX)
		return vm_refuse(vm);
	align = weiri_max(align, WEIR_REGION_ALIGN);
	WEIRI_BUMP(&vm->misses, 1);
	for (size_t refused = SIZE_MAX;;) {
		size_t used = vm_used(vm);
		size_t pad = (size_t)(0 - (uintptr_t)bump->next) & (align - 1);
		size_t most = vm->limit_bytes - used;

		/* The limit is whole pages: what fits, fits rounded up. */
		if (pad > most || bytes > most - pad)
			return vm_refuse(vm);

		size_t end =
		    weiri_round_up(used + pad + bytes, WEIR_REGION_ALIGN);

		if (end <= vm->range.committed_bytes) {
			char *object = bump->next + pad;

			if (WEIR_UNLIKELY(vm->arena != NULL) &&
			    !weiri_region_vm_guard_open(vm, end))
				return vm_refuse(vm);

			weiri_region_vm_set_next(vm, vm->range.base + end);
			weiri_region_vm_show(vm, object, bytes);
			return object;
		}
		/* A hook may have rewound so far that less will do. */
		if (refused <= end)
			return vm_refuse(vm);
		refused = vm_commit(vm, end) ? SIZE_MAX : end;
	}
}

char *
weir_region_vm_base(const struct weir_region_vm *bump)
{
	return vm_live(bump)->range.base;
}

/* ---- the newest object ---------------------------------------------------- */

/* The distance of an object from the base. */
static size_t
vm_offset(const struct weiri_region_vm *vm, const void *object, size_t bytes)
{
	uintptr_t base = (uintptr_t)vm->range.base;
	/* What is behind an object of no bytes may be gone without it. */
	size_t used = bytes == 0 ? vm->limit_bytes : vm_used(vm);
	size_t offset = (uintptr_t)object - base;

	if (WEIR_UNLIKELY((uintptr_t)object < base || offset > used ||
			  bytes > used - offset) &&
	    WEIR_DETECTOR(vm_not_its_object))
		vm_fault(vm, WEIR_FAULT_FOREIGN_POINTER, object, bytes,
		    "%p, of %u bytes, is not among its objects");
	return offset;
}

static bool
vm_is_newest(const struct weiri_region_vm *vm, size_t offset, size_t bytes)
{
	return weiri_round_up(offset + bytes, WEIR_REGION_ALIGN) == vm_used(vm);
}

bool
weir_region_vm_extend(
    struct weir_region_vm *bump, void *object, size_t bytes, size_t new_bytes)
{
	struct weiri_region_vm *vm = vm_own(bump);

	if (object == NULL)
		return false;

	size_t offset = vm_offset(vm, object, bytes);

	if (new_bytes <= bytes)
		return true;
	if (!vm_is_newest(vm, offset, bytes) ||
	    new_bytes > vm->limit_bytes - offset)
		return false;

	size_t end = weiri_round_up(offset + new_bytes, WEIR_REGION_ALIGN);

	/* A hook may have taken another meanwhile, or given memory back. */
	while (end > vm->range.committed_bytes)
		if (!vm_commit(vm, end) || !vm_is_newest(vm, offset, bytes))
			return false;
	if (WEIR_UNLIKELY(vm->arena != NULL) &&
	    !weiri_region_vm_guard_open(vm, end))
		return false;
	vm_move(vm, end);
	weiri_region_vm_show(
	    vm, (const char *)object + bytes, new_bytes - bytes);
	return true;
}

void
weir_region_vm_shrink(
    struct weir_region_vm *bump, void *object, size_t bytes, size_t new_bytes)
{
	struct weiri_region_vm *vm = vm_own(bump);

	if (object == NULL)
		return;

	size_t offset = vm_offset(vm, object, bytes);

	if (new_bytes >= bytes || !vm_is_newest(vm, offset, bytes))
		return;
	vm->how = WEIRI_GUARD_SHRINK;
	vm_move(vm, weiri_round_up(offset + new_bytes, WEIR_REGION_ALIGN));
	if (WEIR_UNLIKELY(vm->watched))
		weiri_annotate_forbid(vm->range.base + offset + new_bytes,
		    vm_used(vm) - offset - new_bytes);
}

/* ---- going back ----------------------------------------------------------- */

struct weir_region_vm_point
weir_region_vm_mark(const struct weir_region_vm *bump)
{
	const struct weiri_region_vm *vm = vm_own(bump);

	return (struct weir_region_vm_point){bump, vm_used(vm), vm->resets};
}

bool
weir_region_vm_rewind(
    struct weir_region_vm *bump, struct weir_region_vm_point mark)
{
	struct weiri_region_vm *vm = vm_own(bump);

	if (mark.region != bump || mark.resets != vm->resets ||
	    mark.bytes > vm_used(vm))
		return false;
	vm->how = WEIRI_GUARD_REWIND;
	vm_move(vm, (size_t)mark.bytes);
	return true;
}

/* What this turn and the one before needed. */
static size_t
vm_kept(const struct weiri_region_vm *vm)
{
	return weiri_max(
	    vm->first_bytes, weiri_max(vm->high_now, vm->high_before));
}

void
weir_region_vm_reset(struct weir_region_vm *bump)
{
	struct weiri_region_vm *vm = vm_own(bump);

	vm_note_use(vm);
	vm->how = WEIRI_GUARD_RESET;
	vm_move(vm, 0);
	vm->resets++;
	if (++vm->turn < VM_TURN)
		return;

	size_t keep = vm_kept(vm);

	vm->turn = 0;
	vm->high_before = vm->high_now;
	vm->high_now = 0;
	if (keep < vm->range.committed_bytes)
		(void)vm_shrink_range(vm, keep);
}

size_t
weir_region_vm_trim(struct weir_region_vm *bump)
{
	struct weiri_region_vm *vm = vm_own(bump);

	vm_note_use(vm);
	vm->high_now = vm->high_before = 0;
	return vm_shrink_range(vm, vm_used(vm));
}

/* ---- figures -------------------------------------------------------------- */

int
weir_region_vm_stats(
    const struct weir_region_vm *bump, struct weir_region_vm_figures *out)
{
	const struct weiri_region_vm *vm = vm_own(bump);
	size_t used = vm_used(vm);

	if (out->size != sizeof(*out))
		return -EINVAL;
	*out = (struct weir_region_vm_figures){
	    .size = sizeof(*out),
	    .version = WEIR_STATS_VERSION,
	    .bytes_reserved = vm->range.reserved_bytes,
	    .bytes_limit = vm->limit_bytes,
	    .bytes_committed = vm->range.committed_bytes,
	    .bytes_in_use = used,
	    .bytes_peak = weiri_max(vm->peak_bytes, used),
	    .bytes_kept = weiri_min(vm->range.committed_bytes,
		weiri_round_up(
		    weiri_max(vm_kept(vm), used), weiri_range_page())),
	    .resets = vm->resets,
	    .misses = vm->misses,
	    .failures = vm->failures,
	};
	return 0;
}

/* NULL, or the invariant that does not hold. */
static const char *
vm_broken(const struct weiri_region_vm *vm)
{
	const struct weiri_range *range = &vm->range;
	uintptr_t low = WEIR_REGION_ALIGN - 1;
	size_t page = weiri_range_page();

	if (vm->bump.next < range->base || vm->bump.next > vm->bump.end)
		return "N1: next is not between base and end";
	if (((uintptr_t)vm->bump.next & low) != 0)
		return "N1: next is no multiple of 16";
	if (vm->bump.end != (vm->watched ? vm->bump.next
				: vm->arena != NULL
				    ? range->base + vm->open_bytes
				    : range->base + range->committed_bytes))
		return "N1: end is not that of what is committed";
	if (range->committed_bytes > vm->limit_bytes ||
	    vm->limit_bytes > range->reserved_bytes)
		return "N2: more is committed than allowed";
	if ((range->committed_bytes | vm->limit_bytes | range->reserved_bytes) %
		page !=
	    0)
		return "N2: not whole pages";
	if (vm->touched_bytes > range->committed_bytes)
		return "N2: touched beyond what is committed";
	return NULL;
}

bool
weir_region_vm_check(const struct weir_region_vm *bump)
{
	const char *why = vm_broken(vm_own(bump));

	if (why != NULL)
		weiri_message(WEIR_MESSAGE_ERROR, why);
	return why == NULL;
}

/* ---- creation and end ----------------------------------------------------- */

static int
vm_refuse_field(const char *name, const char *field, size_t index,
    uint64_t value, const char *allowed, uint64_t low, uint64_t high)
{
	return weiri_invalid(&(struct weiri_invalid){
	    .call = "weir_region_vm_create",
	    .kind = "region",
	    .name = name,
	    .field = field,
	    .index = index,
	    .value = value,
	    .allowed = allowed,
	    .bound = {low, high},
	});
}

static int
vm_check_config(const char *name, const struct weir_region_vm_config *config)
{
	size_t word = weiri_invalid_word(
	    config->reserved, WEIRI_COUNT_OF(config->reserved));
	size_t page = weiri_range_page();

	if (config->reserve_bytes == 0 ||
	    config->reserve_bytes > WEIR_REGION_VM_MAX)
		return vm_refuse_field(name, "reserve_bytes", 0,
		    config->reserve_bytes, "%u .. %u", 1, WEIR_REGION_VM_MAX);
	if (config->limit_bytes != 0 && config->limit_bytes < page)
		return vm_refuse_field(name, "limit_bytes", 0,
		    config->limit_bytes, "0, and from %u", page, 0);
	if (config->first_bytes > config->reserve_bytes)
		return vm_refuse_field(name, "first_bytes", 0,
		    config->first_bytes, "0 .. %u", config->reserve_bytes, 0);
	if (config->flags != 0)
		return vm_refuse_field(
		    name, "flags", 0, config->flags, "0", 0, 0);
	if (word < WEIRI_COUNT_OF(config->reserved))
		return vm_refuse_field(name, "reserved[]", word,
		    config->reserved[word], "0", 0, 0);
	return 0;
}

/* @vm reads as zero. */
static void
vm_set_up(struct weiri_region_vm *vm, const char *name, const void *site,
    const struct weir_region_vm_config *config)
{
	size_t page = weiri_range_page();
	size_t limit = vm->range.reserved_bytes;
	size_t first = VM_FIRST;

	if (config->limit_bytes != 0 && config->limit_bytes < limit)
		limit = (size_t)config->limit_bytes & ~(page - 1);
	if (config->first_bytes != 0)
		first = (size_t)config->first_bytes;
	vm->limit_bytes = limit;
	vm->first_bytes = weiri_min(weiri_round_up(first, page), limit);
	vm->bump.next = vm->bump.end = vm->range.base;
	vm->watched = weiri_guard_is_tool() && weiri_annotate_is_watched();
	vm->magic = VM_LIVE ^ (uintptr_t)vm;
	/* Told apart in debug builds and in mode full, which may come later. */
	(void)weiri_local_own();
	vm->owner = weiri_local();
	weiri_region_tick_now();
	vm->birth = WEIRI_LOAD(&weiri_region_tick);
	vm->site = site;
	vm->name = weiri_region_vm_name_keep(name);
	weiri_pool_register(
	    &vm->pool, WEIR_POOL_REGION, name, &weiri_region_vm_ops, false);
	weiri_region_vm_guard_begin(vm);
}

int
weir_region_vm_create(const char *name,
    const struct weir_region_vm_config *config, struct weir_region_vm **out)
{
	const void *site = __builtin_return_address(0);
	char checked[WEIRI_NAME_BYTES];
	struct weiri_region_vm *vm;
	int error;

	*out = NULL;
	weiri_name_set(checked, name);
	error = vm_check_config(checked, config);
	if (error != 0)
		return error;
	vm = weiri_meta_need(sizeof(*vm));
	if (vm == NULL)
		return -ENOMEM;

	size_t bytes =
	    weiri_round_up((size_t)config->reserve_bytes, weiri_range_page());
	/* Huge pages can back what begins like one. */
	size_t align = bytes < WEIR_REGION_ALIGN_MAX ? weiri_range_page()
						     : WEIR_REGION_ALIGN_MAX;

	if (!weiri_range_reserve(&vm->range, bytes, align)) {
		weiri_meta_free(vm, sizeof(*vm));
		return -ENOMEM;
	}
	vm_set_up(vm, name, site, config);
	*out = &vm->bump;
	return 0;
}

void
weir_region_vm_destroy(struct weir_region_vm *bump)
{
	if (bump == NULL)
		return;

	struct weiri_region_vm *vm = vm_of(bump);

	if (vm->magic == (VM_DEAD ^ (uintptr_t)vm) &&
	    WEIR_DETECTOR(vm_double_destroy))
		vm_fault(vm, WEIR_FAULT_DOUBLE_DESTROY, bump, 0,
		    "%p was destroyed before");
	vm = vm_own(bump);
	weiri_pool_unregister(&vm->pool);

	bool kept = weiri_region_vm_guard_finish(vm);

	/* No room is left, and the slow way tells what it is asked for. */
	bump->next = bump->end = NULL;
	vm->magic = VM_DEAD ^ (uintptr_t)vm;
	/* Whoever has these addresses next knows nothing of it. */
	if (WEIR_UNLIKELY(vm->watched))
		weiri_annotate_allow(vm->range.base, vm->watched_bytes);
	if (!kept)
		weiri_range_release(&vm->range);
	weiri_grave_put(vm, sizeof(*vm));
}
