/* SPDX-License-Identifier: MIT */
/*
 * test_limits_kernel_model.c - what an engine holds is never a byte above its
 * limits: over both back ends, and over io_uring with each of its features
 * forbidden, where peers, the system and memory fail at random.
 *
 * The library's sums are looked at whenever the engine calls the system, and now
 * and then beside a recount: every buffer that is out, by who pays for it.  A long
 * run has ten million steps; `weir bench net` reports it.
 */
#include <weir/net.h>

#include "kernel_run.h"

#include "net/payer.h"
#include "pools/account.h"
#include "pools/buffer.h"

#include <inttypes.h>
#include <stdio.h>

#include <weir/runtime.h>

/* Of each case; a long run has ten millions in all. */
#define LIMITS_CASES 12
#define LIMITS_STEPS 80000
#define LIMITS_STEPS_LONG ((10000000 + LIMITS_CASES - 1) / LIMITS_CASES)
#define LIMITS_RECOUNT 256 /* looks */
#define LIMITS_PAYERS 512

struct limits_payer {
	const struct weir_account *account;
	uint64_t bytes;
};

static struct {
	const struct weir_net_config *config;
	bool failing; /* the system has no memory */
	uint64_t looks, recounts, tight, failures;
	struct limits_payer payer[LIMITS_PAYERS];
	size_t payers;
	uint64_t out;
} limits;

static void
limits_at_most(const char *what, uint64_t bytes, uint64_t limit)
{
	if (bytes > limit)
		FAIL("step %" PRIu64 ": %s: %" PRIu64 " bytes above %" PRIu64,
		    sim.steps, what, bytes - limit, limit);
	/* Or the run would prove nothing. */
	limits.tight += bytes > limit - limit / 8;
}

static void
limits_conn(const struct weir_account *account)
{
	limits_at_most("a connection", weiri_account_used(account),
	    limits.config->connection_limit_bytes);
}

/* Those of connections that are there, and of those that are no more but whose
 * buffers somebody holds. */
static void
limits_look_at_sums(void)
{
	struct weir_net *net = sim.net;

	limits_at_most("all accounts", weiri_account_used(&net->account),
	    limits.config->account_limit_bytes);
	limits_at_most("the pool", WEIRI_LOAD(&net->buffers->held_bytes),
	    limits.config->buffer_limit_bytes);
	WEIRI_LIST_FOR(node, &sim.loop->conns)
	{
		struct weir_conn *conn =
		    WEIRI_CONTAINER_OF(node, struct weir_conn, member);
		if (conn->flags & WEIRI_CONN_CHARGED)
			limits_conn(&weiri_payer_of(conn)->account);
	}
}

/* ---- the recount -------------------------------------------------------------- */

static void
limits_add(const struct weir_account *account, uint64_t bytes)
{
	struct limits_payer *payer = limits.payer;

	while (
	    payer < limits.payer + limits.payers && payer->account != account)
		payer++;
	CHECK_LT(payer - limits.payer, LIMITS_PAYERS);
	if (payer == limits.payer + limits.payers)
		limits.payer[limits.payers++] =
		    (struct limits_payer){.account = account};
	payer->bytes += bytes;
}

static void
limits_visit(const struct weiri_payload *payload, void *context)
{
	(void)context;
	for (size_t i = 0; i < payload->tier->slab_slots; i++) {
		const struct weir_buffer *buffer =
		    weiri_buffer_held(payload, i);
		if (buffer == NULL)
			continue;
		limits.out += buffer->bytes;
		if (buffer->flags & WEIRI_BUFFER_ACCOUNT)
			limits_add((const struct weir_account *)buffer
				       ->internal[WEIRI_BUFFER_ACCOUNT_WORD],
			    buffer->bytes);
	}
}

/* What is charged is what is pinned; none is above its limit by that, either. */
static void
limits_recount(void)
{
	struct weir_buffer_pool *pool = sim.net->buffers;
	uint64_t charged = 0;

	limits.payers = 0;
	limits.out = 0;
	for (uint32_t i = 0; i < pool->tier_count; i++)
		weiri_buffer_walk(&pool->tier[i], limits_visit, NULL);
	CHECK_EQ(limits.out, WEIRI_LOAD(&pool->held_bytes));
	for (size_t i = 0; i < limits.payers; i++) {
		const struct limits_payer *payer = &limits.payer[i];
		charged += payer->bytes;
		if (payer->account == &sim.net->account)
			continue;
		CHECK_EQ(payer->bytes, weiri_account_used(payer->account));
		limits_conn(payer->account);
	}
	CHECK_EQ(charged, weiri_account_used(&sim.net->account));
	limits_at_most(
	    "a recount", charged, limits.config->account_limit_bytes);
	limits.recounts++;
}

/* ---- runs ------------------------------------------------------------------------ */

/* The system's memory fails for a while. */
static void
limits_fail(void)
{
	if (limits.failing ? !sim_chance(50) : !sim_chance(1))
		return;
	limits.failing = !limits.failing;
	limits.failures += limits.failing;
	if (limits.failing) {
		weir_buffer_pool_trim(sim.net->buffers);
		(void)weir_trim();
	}
	weiri_os_fail_nth(limits.failing, true);
}

static void
limits_look(void)
{
	if (sim.net == NULL || sim.loop == NULL || !sim.loop->running)
		return;
	limits_look_at_sums();
	if (limits.looks++ % LIMITS_RECOUNT == 0)
		limits_recount();
	if (!kernel.calm)
		limits_fail();
	else if (limits.failing)
		weiri_os_fail_nth(limits.failing = false, true);
}

static void
limits_run(enum weir_net_backend backend, uint32_t without, const char *name)
{
	struct weir_net_config config = {
	    .without = without,
	    .hold_ms = 300,
	    .hold_bytes = 5000,
	    .buffer_limit_bytes = 1000001,
	    .account_limit_bytes = 700001,
	    .connection_limit_bytes = WEIR_NET_BUFFER_LIMIT_BYTES_MIN + 1,
	};
	uint64_t steps =
	    test_scale() > 1 ? LIMITS_STEPS_LONG : test_count(LIMITS_STEPS);

	memset(&limits, 0, sizeof(limits));
	limits.config = &config;
	kernel_case.backend = backend;
	kernel_case.fixed = true;
	kernel_case.with = KERNEL_ASKED;
	kernel.look = limits_look;
	sim_run(test_seed(), steps, config);
	kernel.look = NULL;
	/* The line is read by bench_net_limits.c. */
	printf("limits %s: %" PRIu64 " steps, %" PRIu64 " looks, %" PRIu64
	       " near a limit, %" PRIu64 " failures of memory, 0 bytes above\n",
	    name, sim.steps, limits.looks, limits.tight, limits.failures);
	CHECK_GT(limits.recounts, 0);
}

TEST_LIMIT(limits_hold_over_epoll, 1200)
{
	limits_run(WEIR_BACKEND_EPOLL, 0, "epoll");
}

#if WEIRI_HAVE_URING
TEST_LIMIT(limits_hold_over_io_uring, 1200)
{
	limits_run(WEIR_BACKEND_IO_URING, 0, "io_uring");
}

TEST_LIMIT(limits_hold_without_any_feature, 1200)
{
#define LIMITS_WITHOUT(name, bit, word) \
	limits_run(WEIR_BACKEND_IO_URING, WEIR_NET_##name, "without " word);
	WEIR_NET_FEATURES(LIMITS_WITHOUT)
#undef LIMITS_WITHOUT
	limits_run(WEIR_BACKEND_IO_URING, WEIR_NET_FEATURES_ALL, "without all");
}
#endif
