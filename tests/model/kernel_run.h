/* SPDX-License-Identifier: MIT */
/*
 * kernel_run.h - a run of an engine over the kernel of kernel_sim.h.
 *
 * Which features a kernel has, which of them a program asks for and how large its
 * queues are is part of the seed, unless a test fixes it.  How many descriptors
 * there may be, and so places in a table of direct ones, always is.
 */
#ifndef KERNEL_RUN_H
#define KERNEL_RUN_H

#include "kernel_calls.h"
#if WEIRI_HAVE_URING
#include "kernel_ring_calls.h"
#else
static void
kernel_interrupt(void)
{
}
#endif

#define KERNEL_ZERO_COPY_BYTES 4096

/* Those that are used only if a program asks for them. */
#define KERNEL_ASKED \
	((uint32_t)WEIR_NET_FEATURES_ASKED | (uint32_t)WEIR_NET_ZERO_COPY)

/* Set by a test before its run. */
static struct {
	enum weir_net_backend backend;
	bool fixed;    /* features and queues: all there, of the usual size */
	uint32_t with; /* asked for, if fixed */
} kernel_case;

/* What the latest run came to. */
static struct {
	uint32_t features;
	uint64_t direct, refused, notices, parts, received, overflown;
	uint64_t state; /* a hash of where it ended */
} kernel_done;

/* One of four sizes, of which 0 leaves it to the default. */
static void
kernel_draw(struct weir_net_config *config)
{
	static const uint32_t zero_copy_bytes[] = {0, 1, 4096, 32768};

	config->with = (uint32_t)test_rand(&sim.rng) & KERNEL_ASKED;
	config->zero_copy_bytes = zero_copy_bytes[sim_below(4)];
}

static void
kernel_choose_ring(void)
{
#if WEIRI_HAVE_URING
	memset(&kring, 0, sizeof(kring));
	kring.features = WEIR_NET_FEATURES_ALL;
	if (kernel_case.fixed)
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
	memset(&kernel_done, 0, sizeof(kernel_done));
	kernel.look = look;
	kernel.now_ns = 1000 * WEIRI_MS;
	kernel.on = true;
	kernel.descriptors = 8 + sim_below(2 * SIM_PEERS);
	kernel_choose_ring();
	config->backend = kernel_case.backend;
	if (kernel_case.fixed) {
		config->with = kernel_case.with;
		config->zero_copy_bytes = KERNEL_ZERO_COPY_BYTES;
	} else {
		kernel_draw(config);
	}
}

static void
sim_system_ready(void)
{
	kernel_done.features = sim.net->features;
}

static struct sim_peer *
sim_system_peer(const struct weir_conn *conn)
{
#if WEIRI_HAVE_URING
	if (weiri_fd_is_direct(conn->fd))
		return kernel_peer(kring.slot[weiri_fd_direct(conn->fd)]);
#endif
	return kernel_peer(kernel_file(conn->fd));
}

static void
kernel_note_done(void)
{
	uint64_t state = kernel.now_ns + kernel.calls;

#if WEIRI_HAVE_URING
	kernel_done.direct = kring.direct;
	kernel_done.refused = kring.refused;
	kernel_done.notices = kring.notices;
	kernel_done.parts = kring.parts;
	for (int i = 0; i < KERNEL_GROUPS; i++)
		kernel_done.received += kring.received[i];
	kernel_done.overflown = kring.overflown;
	state += kring.completions;
#endif
	for (int i = 0; i < 4; i++)
		state = (state ^ sim.rng.state[i]) * UINT64_C(0x100000001b3);
	kernel_done.state = state;
}

/* Everything was closed, and nothing is held. */
static void
sim_system_end(void)
{
	kernel_note_done();
#if WEIRI_HAVE_URING
	kring_end();
#endif
	for (int i = 0; i < KERNEL_FILES; i++) {
		CHECK_NULL(kernel.number[i]);
		CHECK_EQ(kernel.file[i].lent, 0);
	}
	kernel.on = false;
}

#endif /* KERNEL_RUN_H */
