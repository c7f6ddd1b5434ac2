/* SPDX-License-Identifier: MIT */
/*
 * region_vm_common.h - what the tests of weir/region_vm.h share.
 */
#ifndef WEIR_REGION_VM_COMMON_H
#define WEIR_REGION_VM_COMMON_H

#include "pages_common.h"
#include "pools/region_vm.h"

#include <weir/region_vm.h>
#include <weir/runtime.h>

#include <pthread.h>

#define GIB (MIB * KIB)

static inline struct weir_region_vm *
create(uint64_t reserve, uint64_t limit, uint64_t first)
{
	struct weir_region_vm *region;

	CHECK_EQ(weir_region_vm_create("range",
		     &(struct weir_region_vm_config){.reserve_bytes = reserve,
			 .limit_bytes = limit,
			 .first_bytes = first},
		     &region),
	    0);
	CHECK_NOT_NULL(region);
	return region;
}

static inline struct weir_region_vm_figures
figures(const struct weir_region_vm *region)
{
	struct weir_region_vm_figures f = {.size = sizeof(f)};

	CHECK_EQ(weir_region_vm_stats(region, &f), 0);
	return f;
}

static inline uint64_t
committed(const struct weir_region_vm *region)
{
	return figures(region).bytes_committed;
}

static inline unsigned char *
fill(struct weir_region_vm *region, size_t bytes, int value)
{
	unsigned char *object = weir_region_vm_alloc(region, bytes);

	CHECK_NOT_NULL(object);
	memset(object, value, bytes);
	return object;
}

/* The laws of stats.h, to the byte. */
static inline uint64_t
check_laws(void)
{
	static struct weir_pool_stats pool[64];
	struct weir_stats stats = {.size = sizeof(stats)};
	uint64_t mapped = 0;
	size_t count;

	pool[0].size = sizeof(pool[0]);
	count = weir_stats_pools(pool, 64);
	CHECK_LE(count, 64);
	CHECK_EQ(weir_stats_read(&stats), 0);
	for (size_t i = 0; i < count; i++) {
		const struct weir_pool_stats *p = &pool[i];

		CHECK_EQ(p->bytes_mapped,
		    p->bytes_in_use + p->bytes_cached + p->bytes_idle +
			p->bytes_untouched + p->bytes_overhead);
		CHECK_EQ(p->total, p->in_use + p->available);
		mapped += p->bytes_mapped;
	}
	CHECK_EQ(stats.bytes_in_spans, stats.bytes_shared + mapped);
	CHECK_EQ(stats.bytes_charged,
	    stats.bytes_in_spans + stats.bytes_retained + stats.bytes_metadata);
	CHECK(weiri_pages_check());
	return mapped;
}

#endif /* WEIR_REGION_VM_COMMON_H */
