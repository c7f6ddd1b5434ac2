/* SPDX-License-Identifier: MIT */
/*
 * source.c - the five page sources and their flags.
 *
 *   kind       a block is                      decommit  give    zeroed
 *   anonymous  a mapping                       yes       yes     yes
 *   huge       a hugetlb mapping, else as      no        yes     yes
 *              anonymous with transparent
 *              huge pages asked for
 *   memfd      a memory file of its own,       yes       yes     yes
 *              its descriptor closed again
 *   range      the range, or the part of it    no        no      no
 *              that may be made resident
 *   custom     what the functions return       if set    if set  no
 *
 * Blocks of prefault, lock and hugetlb are resident: all of their memory is in
 * use from the start, so they are charged whole and never decommitted; trim
 * gives them back as a whole or not at all.  They are charged first: the flags
 * are carried out by weiri_source_prepare(), after which nothing can fail, so
 * no page comes in that the budget has not granted.  A range larger than the
 * budget is used in parts as the budget allows.
 *
 * A memory file is shared with the children of a fork: what one process writes
 * or decommits, all do.  So a child hands out nothing of what it inherited; see
 * weiri_pages_fork_child().
 *
 * A mapping for one span alone is reserved with 2 MiB of addresses more, which are
 * never made usable: so the kernel, which places mappings downwards from one
 * another, finds 2 MiB of alignment as without, and the border costs no call.
 * Blocks in general have none, for neighbours are to be one mapping to the system,
 * whose number of them is limited.
 *
 * What goes wrong but need not stop the program is a message.  The take runs
 * under the supply's mutex, where no hook may be called, so messages wait as bits
 * and each is said once.
 *
 * Lock: all functions but give and deliver run under the supply's mutex.
 */
#include "base/bits.h"
#include "base/detector.h"
#include "config/config.h"
#include "os/os.h"
#include "pages/supply.h"

#include <unistd.h>

enum source_notice {
	NOTICE_NO_HUGE = 1 << 0,
	NOTICE_NO_LOCK = 1 << 1,
	NOTICE_MISALIGNED = 1 << 2,
	NOTICE_TOO_HIGH = 1 << 3,
	NOTICE_NO_PREFAULT = 1 << 4,
};

static unsigned source_said; /* enum source_notice; under the supply's mutex */
static unsigned source_due;  /* read without it */
static size_t source_range_used; /* of the range, from its start */

/* A range is cut where a page of any system may begin. */
#define SOURCE_RANGE_CUT WEIRI_SYSTEM_PAGE_MAX

static const struct weir_page_source *
source(void)
{
	return &weiri_config()->source;
}

static void
source_notice(unsigned notice)
{
	if (source_said & notice)
		return;
	source_said |= notice;
	__atomic_fetch_or(&source_due, notice, __ATOMIC_RELAXED);
}

void
weiri_source_deliver(void)
{
	if (WEIR_LIKELY(WEIRI_LOAD(&source_due) == 0))
		return;

	unsigned due = __atomic_exchange_n(&source_due, 0, __ATOMIC_RELAXED);

	if (due & NOTICE_NO_HUGE)
		weiri_message(WEIR_MESSAGE_WARNING,
		    "page source huge: the system has no huge pages free "
		    "(vm.nr_hugepages); using anonymous memory with "
		    "transparent huge pages");
	if (due & NOTICE_NO_LOCK)
		weiri_message(WEIR_MESSAGE_WARNING,
		    "page source: memory could not be locked (ulimit -l); "
		    "using it unlocked");
	if (due & NOTICE_NO_PREFAULT)
		weiri_message(WEIR_MESSAGE_WARNING,
		    "page source: memory could not be brought in ahead; it "
		    "comes when it is touched");
	if (due & NOTICE_MISALIGNED)
		weiri_message(WEIR_MESSAGE_ERROR,
		    "page source custom: take() returned memory that is not "
		    "aligned as asked; refused");
	if (due & NOTICE_TOO_HIGH)
		weiri_message(WEIR_MESSAGE_ERROR,
		    "page source: memory above the 48 bits of address that the "
		    "page map covers; refused");
}

/* ---- one block of each kind -------------------------------------------- */

static bool
source_take_anonymous(struct weiri_block *block, size_t bytes, size_t behind)
{
	char *base = weiri_os_reserve(bytes + behind, WEIRI_EXTENT_ALIGN);

	if (base == NULL)
		return false;
	if (weiri_os_commit(base, bytes) != 0) {
		weiri_os_drop(base, bytes + behind);
		return false;
	}
	*block = (struct weiri_block){
	    .base = base,
	    .bytes = bytes,
	    .behind = behind,
	    .zeroed = true,
	    .may_trim = true,
	    .may_give = true,
	};
	return true;
}

static bool
source_take_huge(struct weiri_block *block, size_t bytes)
{
	char *base = weiri_os_map_huge(bytes);

	if (base == NULL)
		return false;
	*block = (struct weiri_block){
	    .base = base,
	    .bytes = bytes,
	    .zeroed = true,
	    .resident = true,
	    .may_give = true,
	};
	return true;
}

static bool
source_take_memfd(struct weiri_block *block, size_t bytes)
{
	int fd = weiri_os_memfd("weir", bytes);

	if (fd < 0)
		return false;

	char *base = weiri_os_reserve_file(fd, bytes, WEIRI_EXTENT_ALIGN);

	/* The mapping keeps the file; a program's descriptors are scarce. */
	(void)close(fd);
	if (base == NULL)
		return false;
	if (weiri_os_commit(base, bytes) != 0) {
		weiri_os_drop(base, bytes);
		return false;
	}
	*block = (struct weiri_block){
	    .base = base,
	    .bytes = bytes,
	    .zeroed = true,
	    .may_trim = true,
	    .may_give = true,
	    .shared = true,
	};
	return true;
}

static bool
source_take_range(struct weiri_block *block, size_t most)
{
	char *base = (char *)source()->base + source_range_used;
	size_t bytes =
	    (source()->bytes & ~(WEIRI_PAGE - 1)) - source_range_used;

	if (bytes > most) {
		uintptr_t end =
		    ((uintptr_t)base + most) & ~(SOURCE_RANGE_CUT - 1);

		bytes = end > (uintptr_t)base ? end - (uintptr_t)base : 0;
	}
	if (bytes == 0)
		return false;
	source_range_used += bytes;
	*block = (struct weiri_block){.base = base, .bytes = bytes};
	return true;
}

/* Gives back a block that the supply cannot use; it was never touched. */
static void
source_refuse(const struct weiri_block *block)
{
	if (!block->may_give)
		return;
	if (source()->kind == WEIR_SOURCE_CUSTOM)
		(void)weiri_source_give(block);
	else
		weiri_os_drop(block->base, block->bytes + block->behind);
}

static bool
source_take_custom(struct weiri_block *block, size_t bytes)
{
	const struct weir_page_source *from = source();
	char *base = from->take(from->context, bytes, WEIRI_EXTENT_ALIGN);

	if (base == NULL)
		return false;
	*block = (struct weiri_block){
	    .base = base,
	    .bytes = bytes,
	    .may_trim = from->decommit != NULL,
	    .may_give = from->give != NULL,
	};
	if (((uintptr_t)base & (WEIRI_EXTENT_ALIGN - 1)) != 0) {
		source_notice(NOTICE_MISALIGNED);
		source_refuse(block);
		return false;
	}
	return true;
}

static bool
source_take_kind(
    struct weiri_block *block, enum weir_source_kind kind, size_t bytes)
{
	switch (kind) {
	case WEIR_SOURCE_HUGE:
		return source_take_huge(block, bytes);
	case WEIR_SOURCE_MEMFD:
		return source_take_memfd(block, bytes);
	case WEIR_SOURCE_CUSTOM:
		return source_take_custom(block, bytes);
	case WEIR_SOURCE_ANONYMOUS:
	case WEIR_SOURCE_RANGE:
		break;
	}
	return source_take_anonymous(block, bytes, 0);
}

/* From the wish down to the need, halving: near a limit of address space or of
 * commit a smaller block may still be had. */
static bool
source_take_sizes(struct weiri_block *block, enum weir_source_kind kind,
    size_t need, size_t want)
{
	for (size_t bytes = weiri_max(need, want);;) {
		if (source_take_kind(block, kind, bytes))
			return true;
		if (bytes == need)
			return false;
		bytes = weiri_max(
		    need, weiri_round_up(bytes / 2, WEIRI_EXTENT_ALIGN));
	}
}

/* ---- flags ------------------------------------------------------------- */

/* What the flags mean for the block; nothing is done to its memory. */
static void
source_mark(struct weiri_block *block, unsigned flags)
{
	if (flags & (WEIR_SOURCE_PREFAULT | WEIR_SOURCE_LOCK))
		block->resident = true;
	if (flags & WEIR_SOURCE_NO_TRIM)
		block->may_trim = block->may_give = false;
	if (block->resident)
		block->may_trim = false;
}

/*
 * The pages of the system that the block touches, or those that lie wholly
 * within: only a range of the caller's has others.
 */
static bool
source_pages(
    const struct weiri_block *block, bool touched, char **first, size_t *bytes)
{
	size_t page = weiri_os_page_bytes();
	size_t before = (uintptr_t)block->base & (page - 1);
	size_t end = before + block->bytes;

	*first = block->base - before;
	*bytes = touched ? weiri_round_up(end, page) : end & ~(page - 1);
	if (before > 0 && !touched) {
		*first += page;
		*bytes -= weiri_min(*bytes, page);
	}
	return *bytes > 0;
}

/* ---- interface --------------------------------------------------------- */

void
weiri_source_prepare(const struct weiri_block *block)
{
	unsigned flags = source()->flags;
	char *first;
	size_t bytes;

	if ((flags & WEIR_SOURCE_NO_DUMP) &&
	    source_pages(block, false, &first, &bytes))
		(void)weiri_os_advise_no_dump(first, bytes);
	(void)source_pages(block, true, &first, &bytes);
	if ((flags & WEIR_SOURCE_PREFAULT) &&
	    weiri_os_prefault(first, bytes) != 0)
		source_notice(NOTICE_NO_PREFAULT);
	if ((flags & WEIR_SOURCE_LOCK) && weiri_os_lock(first, bytes) != 0)
		source_notice(NOTICE_NO_LOCK);
}

bool
weiri_source_take(struct weiri_block *block, size_t need, size_t want,
    size_t most, bool alone)
{
	const struct weir_page_source *from = source();
	enum weir_source_kind kind = from->kind;
	bool taken = false;

	want = weiri_min(want, most & ~(WEIRI_EXTENT_ALIGN - 1));
	if (kind == WEIR_SOURCE_RANGE)
		taken = source_take_range(block, most);
	else if (need <= most)
		taken = (alone && kind == WEIR_SOURCE_ANONYMOUS &&
			    WEIR_DETECTOR(source_behind) &&
			    source_take_anonymous(
				block, need, WEIRI_EXTENT_ALIGN)) ||
			source_take_sizes(block, kind, need, want);
	if (!taken && kind == WEIR_SOURCE_HUGE && need <= most) {
		source_notice(NOTICE_NO_HUGE);
		taken =
		    source_take_sizes(block, WEIR_SOURCE_ANONYMOUS, need, want);
		if (taken)
			(void)weiri_os_advise_huge(block->base, block->bytes);
	}
	if (!taken)
		return false;
	if (((uintptr_t)block->base + block->bytes - 1) >> WEIRI_MAP_BITS) {
		source_notice(NOTICE_TOO_HIGH);
		source_refuse(block);
		return false;
	}
	source_mark(block, from->flags);
	return true;
}

bool
weiri_source_undo(const struct weiri_block *block)
{
	if (source()->kind != WEIR_SOURCE_RANGE)
		return block->may_give && weiri_source_give(block);
	source_range_used -= block->bytes;
	return true;
}

bool
weiri_source_decommit(const struct weiri_block *block, char *base, size_t bytes)
{
	const struct weir_page_source *from = source();

	WEIR_ASSERT(block->may_trim);
	if (from->kind != WEIR_SOURCE_CUSTOM)
		return weiri_os_decommit(base, bytes) == 0;
	from->decommit(from->context, base, bytes);
	return true;
}

bool
weiri_source_give(const struct weiri_block *block)
{
	const struct weir_page_source *from = source();

	WEIR_ASSERT(block->may_give);
	if (from->kind != WEIR_SOURCE_CUSTOM)
		return weiri_os_release(
			   block->base, block->bytes + block->behind) == 0;
	from->give(from->context, block->base, block->bytes);
	return true;
}

bool
weiri_source_give_locked(void)
{
	return source()->kind == WEIR_SOURCE_CUSTOM;
}

bool
weiri_source_resident(void)
{
	return source()->kind == WEIR_SOURCE_HUGE ||
	       (source()->flags & (WEIR_SOURCE_PREFAULT | WEIR_SOURCE_LOCK)) !=
		   0;
}
