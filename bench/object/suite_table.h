/* SPDX-License-Identifier: MIT */
/*
 * suite_table.h - malloc or a pool?  The comparison text books make in words,
 * with every cell measured.
 *
 *   when memory is taken  taken_first_kib: resident by a pool made for 10,000
 *                         objects of 256 bytes, before the first is taken;
 *                         steady_faults: pages the system has to give in
 *                         400,000 further operations
 *   speed                 ns_op of replacing a random one of 10,000
 *   predictability        p99.9 of alloc over its median
 *   fragmentation         resident over live bytes at full load, after that
 *   flexibility           sizes_served: of 17 sizes, 16 B to 1 MiB, those that
 *                         one pool of 256-byte objects serves
 *   waste                 resident over live bytes at a tenth of the load
 *   design effort         values_needed: what must be known before the first
 *                         object can be taken
 */
#ifndef BENCH_OBJECT_SUITE_TABLE_H
#define BENCH_OBJECT_SUITE_TABLE_H

#include <sys/resource.h>

#define TABLE_OBJECTS 10000u
#define TABLE_BYTES 256u
#define TABLE_OPS 400000u
#define TABLE_SIZES 17u

static void *table_slots[TABLE_OBJECTS];

static double
table_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)usage.ru_minflt;
}

static void
table_fill(struct peer_pool *pool, unsigned from, unsigned to)
{
	struct peer_local local = peer_thread_begin();

	for (unsigned i = from; i < to; i++) {
		table_slots[i] =
		    bench_check(peer_alloc(local, pool, TABLE_BYTES));
		memset(table_slots[i], 0x5a, TABLE_BYTES);
	}
}

/* Replaces random objects; with a histogram each alloc is timed. */
static void
table_churn(struct peer_pool *pool, struct tail_hist *hist)
{
	struct peer_local local = peer_thread_begin();
	uint64_t random = 5;

	for (unsigned i = 0; i < TABLE_OPS; i++) {
		size_t at = bench_random(&random) % TABLE_OBJECTS;
		uint64_t begun;

		peer_free(local, pool, table_slots[at], TABLE_BYTES);
		begun = hist != NULL ? tail_stamp() : 0;
		table_slots[at] = peer_alloc(local, pool, TABLE_BYTES);
		if (hist != NULL)
			tail_add(hist, tail_stamp() - begun);
		bench_use(bench_check(table_slots[at]), i);
	}
}

/* Those that one pool serves; a pool of one size serves what fits its half. */
static unsigned
table_sizes_served(struct peer_pool *pool)
{
	struct peer_local local = peer_thread_begin();
	unsigned served = 0;

	for (unsigned i = 0; i < TABLE_SIZES; i++) {
		size_t bytes = (size_t)16 << i;

		if (!(PEER_FLAGS & PEER_ANY_SIZE)) {
			served +=
			    bytes <= TABLE_BYTES && 2 * bytes > TABLE_BYTES;
			continue;
		}
		void *object = peer_alloc(local, pool, bytes);
		served += object != NULL;
		if (object != NULL)
			peer_free(local, pool, object, bytes);
	}
	return served;
}

static void
table_measure(struct peer_pool *pool, double resident)
{
	static struct tail_hist hist;
	double unit = tail_unit_ns();
	double faults;
	uint64_t begun;

	table_fill(pool, 0, TABLE_OBJECTS / 10);
	bench_emit("256", "waste_ratio",
	    (bench_resident() - resident) /
		(TABLE_OBJECTS / 10.0 * TABLE_BYTES),
	    "x");
	table_fill(pool, TABLE_OBJECTS / 10, TABLE_OBJECTS);
	table_churn(pool, NULL);
	faults = table_faults();
	begun = bench_now();
	table_churn(pool, NULL);
	bench_emit(
	    "256", "ns_op", (double)(bench_now() - begun) / TABLE_OPS, "ns");
	bench_emit("256", "steady_faults", table_faults() - faults, "pages");
	bench_emit("256", "rss_ratio",
	    (bench_resident() - resident) /
		((double)TABLE_OBJECTS * TABLE_BYTES),
	    "x");
	tail_clear(&hist);
	table_churn(pool, &hist);
	double median = tail_quantile(&hist, 0.5);
	bench_emit("256", "p50_ns", median * unit, "ns");
	bench_emit("256", "p99.9_ns", tail_quantile(&hist, 0.999) * unit, "ns");
	bench_emit(
	    "256", "p99.9_over_p50", tail_quantile(&hist, 0.999) / median, "x");
}

static void
suite_table(void)
{
	struct peer_local local = peer_thread_begin();
	struct peer_pool *pool;
	double resident;

	if (PEER_FLAGS & PEER_FREES_ALL) {
		bench_skip("frees only all objects of a pool at once");
		return;
	}
	bench_pin(0);
	/* The harness's own pages are not the opponent's. */
	memset(table_slots, 0xff, sizeof(table_slots));
	resident = bench_resident();
	pool = peer_pool_open(
	    PEER_FLAGS & PEER_ANY_SIZE ? 0 : TABLE_BYTES, TABLE_OBJECTS);
	bench_emit("256", "taken_first_kib",
	    (bench_resident() - resident) / 1024.0, "KiB");
	table_measure(pool, resident);
	bench_emit("256", "sizes_served", table_sizes_served(pool), "of 17");
	bench_emit("256", "values_needed", PEER_VALUES, "values");
	for (unsigned i = 0; i < TABLE_OBJECTS; i++)
		peer_free(local, pool, table_slots[i], TABLE_BYTES);
	peer_pool_close(pool);
}

#endif /* BENCH_OBJECT_SUITE_TABLE_H */
