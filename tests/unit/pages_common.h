/* SPDX-License-Identifier: MIT */
/*
 * pages_common.h - what the tests of the page supply share.
 */
#ifndef WEIR_PAGES_COMMON_H
#define WEIR_PAGES_COMMON_H

#include "proc.h"
#include "test.h"

#include "base/bits.h"
#include "config/config.h"
#include "os/os.h"
#include "pages/budget.h"
#include "pages/pages.h"

#include <weir/stats.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define KIB ((size_t)1024)
#define MIB (KIB * KIB)

static inline struct weir_stats
read_stats(void)
{
	struct weir_stats stats = {.size = sizeof(stats)};

	weiri_pages_stats(&stats);
	return stats;
}

static inline void
check_conserved(void)
{
	struct weir_stats s = read_stats();

	CHECK_EQ(s.bytes_charged,
	    s.bytes_in_spans + s.bytes_retained + s.bytes_metadata);
	CHECK(weiri_pages_check());
}

/* What a trim took of the pages that spans had; it may have found more in the
 * library's own records. */
static inline uint64_t
trim_retained(void)
{
	struct weir_stats before = read_stats();
	uint64_t bytes = weiri_pages_trim();
	struct weir_stats after = read_stats();

	CHECK_GE(bytes, before.bytes_retained - after.bytes_retained);
	CHECK_LE(bytes, before.bytes_charged - after.bytes_charged);
	return before.bytes_retained - after.bytes_retained;
}

static inline bool
reads_zero(const char *base, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if (base[i] != 0)
			return false;
	return true;
}

static inline struct weiri_span
span_of_tag(uint16_t tag)
{
	return (struct weiri_span){.kind = WEIRI_SPAN_OTHER, .tag = tag};
}

static inline void
use_source(const struct weir_page_source *source, uint64_t limit)
{
	struct weir_config config = {
	    .limit_bytes = limit,
	    .flags = WEIR_IGNORE_ENVIRONMENT,
	    .source = *source,
	};

	CHECK_EQ(weiri_config_set(&config), 0);
}

#endif /* WEIR_PAGES_COMMON_H */
