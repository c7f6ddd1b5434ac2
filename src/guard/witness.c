/* SPDX-License-Identifier: MIT */
/*
 * witness.c - AddressSanitizer's reports, told by the guard as well.
 *
 * An access that a tool stops has its stacks in the tool's report, and nothing
 * of pools: a block of malloc() has no name.  AddressSanitizer calls back when
 * it has told what it saw.  Then the object it saw is looked up here, and the
 * fault told once more as one of mode full would be: its class, the pool's name,
 * the distance, a line of JSON, the hook.  What becomes of the process is
 * AddressSanitizer's to say.
 *
 * There is one such call-back in a process: in mode `tool` it is this one.
 * Valgrind has none; its report stands alone.
 */
#include "base/annotate.h"
#include "base/bits.h"
#include "guard/fault.h"
#include "guard/state.h"
#include "os/guard.h"

#define S weiri_guard_state

#ifdef WEIRI_ANNOTATE_ASAN

typedef void (*witness_fn)(const char *report);

void weiri_asan_on_report(witness_fn told)
    WEIRI_ANNOTATE_WEAK("__asan_set_error_report_callback");
void *weiri_asan_report_address(void)
    WEIRI_ANNOTATE_WEAK("__asan_get_report_address");
void *weiri_asan_report_pc(void) WEIRI_ANNOTATE_WEAK("__asan_get_report_pc");
void *weiri_asan_report_frame(void) WEIRI_ANNOTATE_WEAK("__asan_get_report_bp");
void *weiri_asan_report_stack(void) WEIRI_ANNOTATE_WEAK("__asan_get_report_sp");
int weiri_asan_report_writes(void)
    WEIRI_ANNOTATE_WEAK("__asan_get_report_access_type");
const char *weiri_asan_locate(void *address, char *name, size_t name_bytes,
    void **region, size_t *region_bytes)
    WEIRI_ANNOTATE_WEAK("__asan_locate_address");

/* The object that @address is in or next to, as AddressSanitizer has it. */
static struct weiri_guarded *
witness_object(void *address)
{
	void *block = NULL;
	size_t bytes = 0;

	(void)weiri_asan_locate(address, NULL, 0, &block, &bytes);
	return block != NULL
		   ? weiri_through_find(&S.space[WEIRI_GUARD_THROUGH], block)
		   : NULL;
}

static void
witness_told(const char *report)
{
	char *address = weiri_asan_report_address();
	bool writes = weiri_asan_report_writes() != 0;
	const struct weiri_guarded *guarded = witness_object(address);
	const struct weiri_os_fault fault = {
	    .address = address,
	    .pc = (uintptr_t)weiri_asan_report_pc(),
	    .frame = (uintptr_t)weiri_asan_report_frame(),
	    .stack = (uintptr_t)weiri_asan_report_stack(),
	    .access = writes ? WEIRI_OS_ACCESS_WRITE : WEIRI_OS_ACCESS_READ,
	};
	struct weiri_fault_site site = {
	    .address = address,
	    .operation = writes ? "write" : "read",
	    .object = guarded,
	    .trapped = &fault,
	    .goes_on = true,
	};

	(void)report;
	if (guarded == NULL || weiri_guard_self.reporting)
		return;
	site.pool_kind = weiri_guard_name_of(guarded)->kind;
	site.pool_name = weiri_guard_name_of(guarded)->name;
	site.pool_type = weiri_guard_name_of(guarded)->type;
	/* It is told by its first byte; the first that is wrong is behind. */
	if (guarded->state == WEIRI_GUARDED_LIVE && address >= guarded->start &&
	    address < guarded->start + guarded->bytes)
		site.address = guarded->start + guarded->bytes;
	weiri_trap_judge(&site, guarded, writes);
	__atomic_fetch_add(&S.reports, 1, __ATOMIC_RELAXED);
	weiri_fault_tell(&site);
}

void
weiri_witness_start(void)
{
	if (weiri_asan_on_report != NULL && weiri_asan_locate != NULL)
		weiri_asan_on_report(witness_told);
}

#else

void
weiri_witness_start(void)
{
}

#endif
