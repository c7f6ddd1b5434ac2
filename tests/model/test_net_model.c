/* SPDX-License-Identifier: MIT */
/*
 * test_net_model.c - the engine over a system that is simulated (net_sim.h),
 * against a model of what every peer is owed (net_model.h).
 *
 * A failure is replayed by its seed, step by step.
 */
#include <weir/net.h>

#include "net_sim.h"

TEST_LIMIT(net_model_from_memory_that_fails, 600)
{
	const struct weir_net_config config = {
	    .memory = &sim_memory,
	    .receive_bytes_min = 512,
	    .send_quota_bytes = 20000,
	    .stall_ms = 2000,
	    .idle_ms = 5000,
	    .packet_ms = 4000,
	};

	sim_run(test_seed(), test_count(100000), config);
}

TEST_LIMIT(net_model_from_limited_pools, 600)
{
	const struct weir_net_config config = {
	    .buffer_limit_bytes = WEIR_NET_BUFFER_LIMIT_BYTES_MIN,
	    .hold_ms = 300,
	    .hold_bytes = 5000,
	};

	sim_run(test_seed() + 1, test_count(100000), config);
}

TEST_LIMIT(net_model_from_plenty, 600)
{
	const struct weir_net_config config = {
	    .idle_ms = 300,
	    .packet_ms = 500,
	};

	sim_run(test_seed() + 2, test_count(100000), config);
}
