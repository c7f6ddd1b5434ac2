/* SPDX-License-Identifier: MIT */
/*
 * region_alone.c - the inline calls' slow way where there are fixed regions only;
 * of the freestanding library.  The other one's is in region_grow.c.
 */
#include "pools/region_fixed.h"

void *
weir_abi_region_1(struct weir_region *region, size_t bytes, size_t align)
{
	(void)bytes;
	(void)align;
	return weiri_region_fixed_refuse(region);
}
