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

#define KERNEL_STEPS 40000 /* of each test; 400,000 in a long run */

static void
kernel_run(uint64_t more, struct weir_net_config config)
{
	sim_run(test_seed() + more, test_count(KERNEL_STEPS), config);
#if WEIRI_HAVE_URING
	if (kernel_backend == WEIR_BACKEND_IO_URING)
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
	kernel_backend = backend;
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
