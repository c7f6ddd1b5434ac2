/* SPDX-License-Identifier: MIT */
/*
 * region_vm.h - the inside of a region in one range of addresses.
 */
#ifndef WEIRI_REGION_VM_H
#define WEIRI_REGION_VM_H

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
	size_t peak_bytes;
	size_t high_now;    /* most in use in this turn of resets */
	size_t high_before; /* in the last turn */
	uint32_t turn;      /* resets in this turn */
	uint64_t resets, misses, failures;
};

#endif /* WEIRI_REGION_VM_H */
