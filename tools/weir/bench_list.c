/* SPDX-License-Identifier: MIT */
/*
 * bench_list.c - who plays what.
 */
#include "bench.h"

#include <string.h>

#define LIST_PEER(name, kind, plays, package, text) \
	{name, BENCH_##kind, BENCH_##plays, package, text},
const struct bench_peer bench_peers[] = {BENCH_PEERS(LIST_PEER)};
#undef LIST_PEER

const unsigned bench_peer_count = sizeof(bench_peers) / sizeof(bench_peers[0]);

/* The questions stand, longer, on top of bench/object/suite_*.h and
 * bench/region/suite_region.h. */
const struct bench_suite bench_suites[] = {
    {"pair", "an object freed before the next is taken", "ns_op", 0,
	BENCH_OBJECTS},
    {"burst", "256 objects taken, then all freed", "ns_op", 0, BENCH_OBJECTS},
    {"random", "one of 4096 live objects replaced, or 32 of them", "ns_op", 0,
	BENCH_OBJECTS},
    {"handoff", "taken by one thread, freed by another", "ns_op", 0,
	BENCH_OBJECTS},
    {"oversub", "8 threads on 2 processors, processor time", "cpu_ns_op", 0,
	BENCH_OBJECTS},
    {"scaling", "1 to 8 threads on all processors", "cpu_ns_op mops_s", 0,
	BENCH_OBJECTS},
    {"buffers", "100,000 uses of 8 KiB buffers, 1 and 8 threads",
	"us_100k failures", 0, BENCH_OBJECTS},
    {"tail", "the slowest 1 % and 0.1 % of allocs, 16 to 4096 bytes",
	"p50_ns p99_ns p99.9_ns step_ns", 0, BENCH_OBJECTS},
    {"fragmentation", "resident over live bytes as sizes change",
	"rss_ratio internal_ratio kept_mib", 3, BENCH_OBJECTS},
    {"decay", "72 hours in short: p99 and memory, first and last",
	"p99_growth rss_growth p99_ns rss_ratio cpu_ns_op", 1, BENCH_OBJECTS},
    {"table", "malloc or a pool: each cell of the comparison",
	"taken_first_kib steady_faults ns_op p99.9_over_p50 rss_ratio "
	"sizes_served waste_ratio values_needed",
	0, BENCH_OBJECTS},
    {"region", "memory that ends with a request, of a given size and number",
	"ns_op rss_ratio p99_growth", 0, BENCH_REGIONS},
};

const unsigned bench_suite_count =
    sizeof(bench_suites) / sizeof(bench_suites[0]);

_Static_assert(sizeof(bench_peers) / sizeof(bench_peers[0]) <= BENCH_PEER_MAX,
    "a set of peers must fit, and tables of them");
_Static_assert(
    sizeof(bench_suites) / sizeof(bench_suites[0]) <= BENCH_SUITE_MAX,
    "tables of suites must fit");

bool
bench_plays(unsigned peer, unsigned suite)
{
	return (bench_peers[peer].plays & bench_suites[suite].plays) != 0;
}

bool
bench_plays_any(unsigned peer, uint64_t suites)
{
	for (unsigned i = 0; i < bench_suite_count; i++)
		if ((suites >> i & 1) != 0 && bench_plays(peer, i))
			return true;
	return false;
}

uint64_t
bench_peers_default(void)
{
	uint64_t set = 0;

	for (unsigned i = 0; i < bench_peer_count; i++)
		if (bench_peers[i].kind != BENCH_HIDDEN)
			set |= UINT64_C(1) << i;
	return set;
}

uint64_t
bench_suites_default(void)
{
	return (UINT64_C(1) << bench_suite_count) - 1;
}

int
bench_peer_find(const char *name)
{
	for (unsigned i = 0; i < bench_peer_count; i++)
		if (strcmp(bench_peers[i].name, name) == 0)
			return (int)i;
	return -1;
}

int
bench_suite_find(const char *name)
{
	for (unsigned i = 0; i < bench_suite_count; i++)
		if (strcmp(bench_suites[i].name, name) == 0)
			return (int)i;
	return -1;
}

const char *const *
bench_peer_names(void)
{
	static const char *names[BENCH_PEER_MAX + 1];

	for (unsigned i = 0; i < bench_peer_count; i++)
		names[i] = bench_peers[i].name;
	return names;
}

const char *const *
bench_suite_names(void)
{
	static const char *names[BENCH_SUITE_MAX + 1];

	for (unsigned i = 0; i < bench_suite_count; i++)
		names[i] = bench_suites[i].name;
	return names;
}
