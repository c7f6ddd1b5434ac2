/* SPDX-License-Identifier: MIT */
/*
 * kernel_run.h - a run of an engine over the kernel of kernel_sim.h.
 *
 * Which features a kernel has is part of the seed, and so is the size of its
 * queues; a test may take some away.
 */
#ifndef KERNEL_RUN_H
#define KERNEL_RUN_H

#if WEIRI_HAVE_URING
#include "kernel_ring.h"
#else
#include "kernel_sim.h"

static void
kernel_interrupt(void)
{
}
#endif

static enum weir_net_backend kernel_backend;
static bool kernel_has_all; /* features, and queues of the usual size */

static void
kernel_choose_ring(void)
{
#if WEIRI_HAVE_URING
	memset(&kring, 0, sizeof(kring));
	kring.features = WEIR_NET_FEATURES_ALL;
	if (kernel_has_all)
		return;
	if (sim_chance(500))
		kring.features &= (uint32_t)test_rand(&sim.rng);
	kring.small = sim_chance(300);
#endif
}

static void
sim_system_begin(struct weir_net_config *config)
{
	void (*look)(void) = kernel.look;

	memset(&kernel, 0, sizeof(kernel));
	kernel.look = look;
	kernel.now_ns = 1000 * WEIRI_MS;
	kernel.on = true;
	kernel_choose_ring();
	config->backend = kernel_backend;
	config->zero_copy_bytes = 32768;
}

static void
sim_system_ready(void)
{
}

static struct sim_peer *
sim_system_peer(const struct weir_conn *conn)
{
#if WEIRI_HAVE_URING
	if (weiri_fd_is_direct(conn->fd))
		return kring.slot[weiri_fd_direct(conn->fd)]->peer;
#endif
	return kernel_file(conn->fd)->peer;
}

/* Everything was closed, and nothing is held. */
static void
sim_system_end(void)
{
#if WEIRI_HAVE_URING
	kring_end();
#endif
	for (int i = 0; i < KERNEL_FILES; i++)
		CHECK_NULL(kernel.number[i]);
	kernel.on = false;
}

#endif /* KERNEL_RUN_H */
