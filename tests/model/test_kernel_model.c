/* SPDX-License-Identifier: MIT */
/*
 * test_kernel_model.c - both back ends, as they are, over a kernel that is
 * simulated below them (kernel_sim.h, kernel_ring.h), against a model of what
 * every peer is owed and of who owns which buffer (net_model.h).
 *
 * A failure is replayed by its seed, step by step.
 */
#include <weir/net.h>

#include "kernel_run.h"

#include <inttypes.h>
#include <stdio.h>

/* Of each run; a long one has a million, under every tool.  In fewer than the
 * least something may not come to pass that a test asks about. */
#define KERNEL_STEPS 60000
#define KERNEL_FEATURE_STEPS 10000
#define KERNEL_STEPS_MIN 5000
#define KERNEL_STEPS_LONG 1000000

static uint64_t
kernel_steps(size_t steps)
{
	uint64_t count = test_count(steps);

	if (test_scale() > 1)
		return KERNEL_STEPS_LONG;
	return count > KERNEL_STEPS_MIN ? count : KERNEL_STEPS_MIN;
}

static void
kernel_run(uint64_t more, struct weir_net_config config)
{
	sim_run(test_seed() + more, kernel_steps(KERNEL_STEPS), config);
#if WEIRI_HAVE_URING
	if (kernel_case.backend == WEIR_BACKEND_IO_URING)
		CHECK_GT(kernel.calls, 0);
#endif
}

static void
kernel_over(enum weir_net_backend backend)
{
#if !WEIRI_HAVE_URING
	if (backend == WEIR_BACKEND_IO_URING)
		SKIP("built without io_uring");
#endif
	kernel_case.backend = backend;
}

static const struct weir_net_config memory_that_fails = {
    .memory = &sim_memory,
    .receive_bytes_min = 512,
    .send_quota_bytes = 20000,
    .stall_ms = 2000,
    .idle_ms = 5000,
    .packet_ms = 4000,
};

static const struct weir_net_config limited_pools = {
    .buffer_limit_bytes = WEIR_NET_BUFFER_LIMIT_BYTES_MIN,
    .hold_ms = 300,
    .hold_bytes = 5000,
};

static const struct weir_net_config accounts = {
    .buffer_limit_bytes = 8 * WEIR_NET_BUFFER_LIMIT_BYTES_MIN,
    .account_limit_bytes = 5 * WEIR_NET_BUFFER_LIMIT_BYTES_MIN + 1,
    .connection_limit_bytes = WEIR_NET_BUFFER_LIMIT_BYTES_MIN + 1,
    .hold_ms = 300,
    .hold_bytes = 5000,
};

static const struct weir_net_config plenty = {
    .idle_ms = 300,
    .packet_ms = 500,
};

TEST_LIMIT(kernel_epoll_from_memory_that_fails, 600)
{
	kernel_over(WEIR_BACKEND_EPOLL);
	kernel_run(0, memory_that_fails);
}

TEST_LIMIT(kernel_epoll_from_limited_pools, 600)
{
	kernel_over(WEIR_BACKEND_EPOLL);
	kernel_run(1, limited_pools);
}

TEST_LIMIT(kernel_epoll_with_accounts, 600)
{
	kernel_over(WEIR_BACKEND_EPOLL);
	kernel_run(2, accounts);
}

TEST_LIMIT(kernel_ring_from_memory_that_fails, 600)
{
	kernel_over(WEIR_BACKEND_IO_URING);
	kernel_run(3, memory_that_fails);
}

TEST_LIMIT(kernel_ring_from_limited_pools, 600)
{
	kernel_over(WEIR_BACKEND_IO_URING);
	kernel_run(4, limited_pools);
}

TEST_LIMIT(kernel_ring_with_accounts, 600)
{
	kernel_over(WEIR_BACKEND_IO_URING);
	kernel_run(5, accounts);
}

TEST_LIMIT(kernel_ring_from_plenty, 600)
{
	kernel_over(WEIR_BACKEND_IO_URING);
	kernel_run(6, plenty);
}

/* ---- each feature, on and off ---------------------------------------------- */

/* A feature with those it needs; see ring_probe.c. */
static uint32_t
kernel_needs(uint32_t feature)
{
	switch (feature) {
	case WEIR_NET_MULTISHOT_RECEIVE:
		return feature | WEIR_NET_TURN_CAP | WEIR_NET_BUFFER_RING;
	case WEIR_NET_TURN_CAP:
	case WEIR_NET_INCREMENTAL:
		return feature | WEIR_NET_BUFFER_RING;
	case WEIR_NET_RING_SEND:
		return feature | WEIR_NET_DEFERRED;
	case WEIR_NET_DIRECT:
	case WEIR_NET_ZERO_COPY:
		return feature | WEIR_NET_RING_SEND | WEIR_NET_DEFERRED;
	default:
		return feature;
	}
}

/* Those that need none of @without. */
static uint32_t
kernel_features_left(uint32_t without)
{
	uint32_t features = 0;

#define KERNEL_LEFT(name, bit, word)                        \
	if ((kernel_needs(WEIR_NET_##name) & without) == 0) \
		features |= WEIR_NET_##name;
	WEIR_NET_FEATURES(KERNEL_LEFT)
#undef KERNEL_LEFT
	return features;
}

/* A feature that is there is used, and others are not. */
static void
kernel_check_use(uint32_t feature, uint64_t used)
{
	if (kernel_done.features & feature)
		CHECK_GT(used, 0);
	else
		CHECK_EQ(used, 0);
}

static void
kernel_feature_run(
    const char *name, const struct weir_net_config *config, uint32_t features)
{
	sim_run(test_seed(), kernel_steps(KERNEL_FEATURE_STEPS), *config);
	printf("%s: %" PRIu64 " steps, %" PRIu64 " buffers, %" PRIu64
	       " parts, %" PRIu64 " places, %" PRIu64 " refused, %" PRIu64
	       " notices\n",
	    name, sim.steps, kernel_done.received, kernel_done.parts,
	    kernel_done.direct, kernel_done.refused, kernel_done.notices);
	CHECK_EQ(kernel_done.features, features);
	kernel_check_use(WEIR_NET_BUFFER_RING, kernel_done.received);
	kernel_check_use(WEIR_NET_INCREMENTAL, kernel_done.parts);
	kernel_check_use(WEIR_NET_DIRECT, kernel_done.direct);
	kernel_check_use(WEIR_NET_ZERO_COPY, kernel_done.notices);
}

/* Twice: with memory enough for everything; and with limits, which leave no
 * room for parts of buffers. */
static void
kernel_without(const char *name, uint32_t without)
{
	uint32_t features = kernel_features_left(without);
	struct weir_net_config config = plenty;

	kernel_over(WEIR_BACKEND_IO_URING);
	kernel_case.fixed = true;
	kernel_case.with = KERNEL_ASKED;
	config.without = without;
	kernel_feature_run(name, &config, features);
	config = accounts;
	config.without = without;
	kernel_feature_run(
	    name, &config, features & ~(uint32_t)WEIR_NET_INCREMENTAL);
}

TEST_LIMIT(kernel_ring_with_all_features_and_with_none, 600)
{
	kernel_without("with all", 0);
	kernel_without("without all", WEIR_NET_FEATURES_ALL);
}

TEST_LIMIT(kernel_ring_without_any_one_feature, 600)
{
#define KERNEL_WITHOUT(name, bit, word) \
	kernel_without("without " word, WEIR_NET_##name);
	WEIR_NET_FEATURES(KERNEL_WITHOUT)
#undef KERNEL_WITHOUT
}

TEST_LIMIT(kernel_ring_with_any_one_feature, 600)
{
#define KERNEL_WITH(name, bit, word) \
	kernel_without("with " word, \
	    WEIR_NET_FEATURES_ALL & ~kernel_needs(WEIR_NET_##name));
	WEIR_NET_FEATURES(KERNEL_WITH)
#undef KERNEL_WITH
}

/* Receives one at a time, in a table, from memory that fails: who finds memory
 * only after the sends of its pass, which may have armed a receive, must not read
 * past that. */
TEST_LIMIT(kernel_ring_reads_in_order_when_memory_comes_late, 600)
{
	struct weir_net_config config = memory_that_fails;

	kernel_over(WEIR_BACKEND_IO_URING);
	kernel_case.fixed = true;
	kernel_case.with = KERNEL_ASKED;
	config.without = WEIR_NET_MULTISHOT_ACCEPT | WEIR_NET_TURN_CAP;
	config.receive_bytes_min = 256;
	/* It is rare; this seed has it, and assertions tell. */
	sim_run(201, kernel_steps(KERNEL_STEPS), config);
	sim_run(test_seed(), kernel_steps(KERNEL_STEPS), config);
}

/* ---- replays ---------------------------------------------------------------- */

/* Or a seed would be worth nothing. */
static void
kernel_replays(enum weir_net_backend backend)
{
	uint64_t state[2];

	kernel_over(backend);
	for (size_t i = 0; i < 2; i++) {
		(void)sim_once(test_seed(), test_count(5000), plenty);
		state[i] = kernel_done.state;
	}
	CHECK_EQ(state[0], state[1]);
	(void)sim_once(test_seed() + 1, test_count(5000), plenty);
	CHECK_NE(kernel_done.state, state[0]);
}

TEST(kernel_epoll_is_replayed_by_its_seed)
{
	kernel_replays(WEIR_BACKEND_EPOLL);
}

TEST(kernel_ring_is_replayed_by_its_seed)
{
	kernel_replays(WEIR_BACKEND_IO_URING);
}
