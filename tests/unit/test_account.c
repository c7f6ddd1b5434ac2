/* SPDX-License-Identifier: MIT */
/*
 * test_account.c - trees of accounts: strict limits, verdicts, the largest leaf.
 */
#include "buffer_common.h"

#include <weir/buffer_limit.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void
account_make(
    struct weir_account *account, struct weir_account *parent, uint64_t limit)
{
	CHECK_EQ(
	    weir_account_init(account,
		&(struct weir_account_config){
		    .name = "conn", .parent = parent, .limit_bytes = limit}),
	    0);
}

static struct weir_account_figures
figures(const struct weir_account *account)
{
	struct weir_account_figures out = {.size = sizeof(out)};

	CHECK_EQ(weir_account_stats(account, &out), 0);
	return out;
}

static uint64_t
used(const struct weir_account *account)
{
	return figures(account).used_bytes;
}

TEST(account_charges_all_levels_or_none)
{
	struct weir_account process, group, a, b;

	account_make(&process, NULL, 1000);
	account_make(&group, &process, 0);
	account_make(&a, &group, 600);
	account_make(&b, &group, 0);
	CHECK(weir_account_charge(&a, 600));
	CHECK(!weir_account_charge(&a, 1));
	CHECK(weir_account_charge(&b, 400));
	CHECK(!weir_account_charge(&b, 1));
	CHECK_EQ(used(&a), 600);
	CHECK_EQ(used(&b), 400);
	CHECK_EQ(used(&group), 1000);
	CHECK_EQ(used(&process), 1000);
	CHECK_EQ(figures(&a).refusals, 1);
	CHECK_EQ(figures(&b).refusals, 0);
	CHECK_EQ(figures(&process).refusals, 1);
	CHECK_EQ(figures(&group).children, 2);
	CHECK(!weir_account_charge(&b, UINT64_MAX));
	CHECK(!weir_account_charge(&process, UINT64_MAX));
	CHECK(weir_account_check(&process));
	weir_account_uncharge(&a, 100);
	CHECK(weir_account_charge(&b, 100));
	weir_account_uncharge(&a, 500);
	weir_account_uncharge(&b, 500);
	CHECK_EQ(used(&process), 0);
	CHECK_EQ(figures(&process).peak_bytes, 1000);
	weir_account_finish(&b);
	weir_account_finish(&a);
	CHECK_EQ(figures(&group).children, 0);
	weir_account_finish(&group);
	weir_account_finish(&process);
	weir_account_finish(NULL);
	CHECK(weir_account_charge(NULL, 1));
	weir_account_uncharge(NULL, 1);
}

TEST(account_pays_for_what_a_slice_pins)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_account a, b;

	account_make(&a, NULL, 0);
	account_make(&b, NULL, 2048);

	struct weir_buffer *buffer = weir_buffer_acquire_for(
	    pool, &(struct weir_buffer_want){.bytes = 1500, .account = &a});
	struct weir_slice slice =
	    weir_slice_retain(weir_slice_make(buffer, 0, 10));

	weir_buffer_release(buffer);
	CHECK_EQ(used(&a), 2048);
	CHECK(weir_buffer_set_account(slice.buffer, &b));
	CHECK_EQ(used(&a), 0);
	CHECK_EQ(used(&b), 2048);
	CHECK(weir_buffer_set_account(slice.buffer, &b));
	weir_slice_release(&slice);
	CHECK_EQ(used(&b), 0);

	/* An unpaid one, paid for by who has no room, then by who has. */
	buffer = weir_buffer_acquire(pool, 5000);
	CHECK(!weir_buffer_set_account(buffer, &b));
	CHECK(weir_buffer_set_account(buffer, &a));
	CHECK_EQ(used(&a), 8192);
	CHECK(weir_buffer_set_account(buffer, NULL));
	CHECK_EQ(used(&a), 0);
	weir_buffer_release(buffer);

	/* The next one in its place is nobody's. */
	buffer = weir_buffer_acquire(pool, 5000);
	weir_buffer_release(buffer);
	CHECK_EQ(used(&a), 0);
	weir_account_finish(&a);
	weir_account_finish(&b);
	pool_end(pool);
}

TEST(account_verdicts_grow_more_urgent)
{
	struct weir_account group, conn, *level;

	CHECK_EQ(
	    weir_account_init(&group,
		&(struct weir_account_config){
		    .limit_bytes = 1000, .pause_bytes = 500, .close_after = 3}),
	    0);
	account_make(&conn, &group, 0);
	CHECK_EQ(weir_account_verdict(&conn, 1000, &level), WEIR_ACCOUNT_OK);
	CHECK(weir_account_charge(&conn, 500));
	CHECK_EQ(weir_account_verdict(&conn, 1, &level), WEIR_ACCOUNT_PAUSE);
	CHECK_PTR(level, &group);
	CHECK_EQ(weir_account_verdict(&conn, 501, NULL), WEIR_ACCOUNT_FULL);
	for (int i = 0; i < 2; i++)
		CHECK(!weir_account_charge(&conn, 501));
	CHECK_EQ(weir_account_verdict(&conn, 501, &level), WEIR_ACCOUNT_FULL);
	CHECK(!weir_account_charge(&conn, 501));
	CHECK_EQ(weir_account_verdict(&conn, 501, &level), WEIR_ACCOUNT_CLOSE);
	CHECK_PTR(level, &group);
	/* Something came back: it is not that bad. */
	weir_account_uncharge(&conn, 1);
	CHECK_EQ(weir_account_verdict(&conn, 600, NULL), WEIR_ACCOUNT_FULL);
	weir_account_uncharge(&conn, 499);
	CHECK_EQ(weir_account_verdict(&conn, 1000, NULL), WEIR_ACCOUNT_OK);
	weir_account_finish(&conn);
	weir_account_finish(&group);
}

static unsigned resumed;

static void
resume(struct weir_account *account)
{
	CHECK_PTR(account->user, &resumed);
	resumed++;
}

TEST(account_resumes_once_for_each_pause)
{
	struct weir_account account;

	CHECK_EQ(weir_account_init(
		     &account, &(struct weir_account_config){.user = &resumed,
				   .limit_bytes = 1000,
				   .pause_bytes = 600,
				   .resume = resume}),
	    0);
	CHECK(weir_account_charge(&account, 700));
	weir_account_uncharge(&account, 700);
	CHECK_EQ(resumed, 0); /* nobody was told to pause */
	CHECK(weir_account_charge(&account, 700));
	CHECK_EQ(weir_account_verdict(&account, 0, NULL), WEIR_ACCOUNT_PAUSE);
	CHECK_EQ(weir_account_verdict(&account, 0, NULL), WEIR_ACCOUNT_PAUSE);
	weir_account_uncharge(&account, 399);
	CHECK_EQ(resumed, 0);
	weir_account_uncharge(&account, 1);
	CHECK_EQ(resumed, 1);
	weir_account_uncharge(&account, 300);
	CHECK_EQ(resumed, 1);
	/* What can never fit is no reason to wait for. */
	CHECK_EQ(weir_account_verdict(&account, 1001, NULL), WEIR_ACCOUNT_FULL);
	CHECK(weir_account_charge(&account, 1));
	weir_account_uncharge(&account, 1);
	CHECK_EQ(resumed, 1);
	CHECK(weir_account_check(&account));
	weir_account_finish(&account);
}

/* A connection may end its accounts as soon as the lowest shows nothing: so those
 * above are credited before. */
static struct weir_account *credited_last;
static unsigned credited;

static void
credit_above(struct weir_account *account)
{
	CHECK_EQ(used(account), 0);
	CHECK_EQ(used(credited_last), 900);
	credited++;
}

TEST(account_is_credited_from_the_root_to_the_leaf)
{
	struct weir_account process, group, conn;
	struct weir_account_config config = {
	    .limit_bytes = 1000, .pause_bytes = 500, .resume = credit_above};

	credited_last = &conn;
	CHECK_EQ(weir_account_init(&process, &config), 0);
	config.parent = &process;
	CHECK_EQ(weir_account_init(&group, &config), 0);
	account_make(&conn, &group, 0);
	CHECK(weir_account_charge(&conn, 900));
	CHECK_EQ(weir_account_verdict(&conn, 0, NULL), WEIR_ACCOUNT_PAUSE);
	weir_account_uncharge(&conn, 900);
	CHECK_EQ(credited, 2);
	CHECK_EQ(used(&conn), 0);
	weir_account_finish(&conn);
	weir_account_finish(&group);
	weir_account_finish(&process);
}

TEST(account_names_the_largest_leaf)
{
	struct weir_account process, group[3], conn[3][4];
	uint64_t bytes;

	account_make(&process, NULL, 0);
	CHECK_NULL(weir_account_largest(&process, &bytes));
	CHECK_EQ(bytes, 0);
	for (size_t g = 0; g < 3; g++) {
		account_make(&group[g], &process, 0);
		for (size_t c = 0; c < 4; c++) {
			account_make(&conn[g][c], &group[g], 0);
			CHECK(weir_account_charge(
			    &conn[g][c], 100 + 10 * (g * 7 % 3) + c * 3 % 4));
		}
	}
	CHECK_PTR(weir_account_largest(&process, &bytes), &conn[2][1]);
	CHECK_EQ(bytes, 123);
	CHECK_PTR(weir_account_largest(&group[0], &bytes), &conn[0][1]);
	CHECK_PTR(weir_account_largest(&conn[1][2], &bytes), &conn[1][2]);
	for (size_t g = 0; g < 3; g++) {
		for (size_t c = 0; c < 4; c++) {
			weir_account_uncharge(&conn[g][c], used(&conn[g][c]));
			weir_account_finish(&conn[g][c]);
		}
		weir_account_finish(&group[g]);
	}
	weir_account_finish(&process);
}

TEST(account_limit_moves)
{
	struct weir_account account;

	account_make(&account, NULL, 100);
	CHECK(weir_account_charge(&account, 100));
	weir_account_set_limit(&account, 50);
	CHECK(!weir_account_charge(&account, 1));
	CHECK_EQ(used(&account), 100);
	weir_account_uncharge(&account, 60);
	CHECK(weir_account_charge(&account, 10));
	CHECK(!weir_account_charge(&account, 1));
	weir_account_set_limit(&account, 0);
	CHECK(weir_account_charge(&account, 1 << 20));
	weir_account_set_limit(&account, WEIR_LIMIT_NOTHING);
	CHECK(!weir_account_charge(&account, 1));
	weir_account_uncharge(&account, used(&account));
	weir_account_finish(&account);
}

/* 3/4 of the limit that is, not of the first one. */
TEST(account_pauses_at_a_share_of_its_limit)
{
	struct weir_account account, named;

	account_make(&account, NULL, 100);
	CHECK(weir_account_charge(&account, 80));
	CHECK_EQ(weir_account_verdict(&account, 1, NULL), WEIR_ACCOUNT_PAUSE);
	weir_account_set_limit(&account, 200);
	CHECK_EQ(weir_account_verdict(&account, 1, NULL), WEIR_ACCOUNT_OK);
	weir_account_set_limit(&account, WEIR_LIMIT_NOTHING);
	CHECK_EQ(weir_account_verdict(&account, 1, NULL), WEIR_ACCOUNT_FULL);
	weir_account_set_limit(&account, 0);
	CHECK_EQ(weir_account_verdict(&account, 1, NULL), WEIR_ACCOUNT_OK);
	weir_account_uncharge(&account, 80);
	weir_account_finish(&account);

	CHECK_EQ(weir_account_init(
		     &named, &(struct weir_account_config){.limit_bytes = 100,
				 .pause_bytes = 60}),
	    0);
	weir_account_set_limit(&named, 200);
	CHECK(weir_account_charge(&named, 60));
	CHECK_EQ(weir_account_verdict(&named, 1, NULL), WEIR_ACCOUNT_PAUSE);
	weir_account_uncharge(&named, 60);
	weir_account_finish(&named);
}

/* Who holds the bytes may be the one that waits: no release would tell it. */
TEST(account_that_paused_is_told_of_a_higher_limit)
{
	struct weir_account account;

	resumed = 0;
	CHECK_EQ(
	    weir_account_init(&account,
		&(struct weir_account_config){
		    .user = &resumed, .limit_bytes = 100, .resume = resume}),
	    0);
	CHECK(weir_account_charge(&account, 80));
	weir_account_set_limit(&account, 400);
	CHECK_EQ(resumed, 0); /* nobody was told to pause */
	weir_account_set_limit(&account, 100);
	CHECK_EQ(weir_account_verdict(&account, 30, NULL), WEIR_ACCOUNT_FULL);
	weir_account_set_limit(&account, 120);
	CHECK_EQ(resumed, 0); /* 80 is more than half of 90 */
	weir_account_set_limit(&account, 400);
	CHECK_EQ(resumed, 1);
	weir_account_set_limit(&account, 800);
	CHECK_EQ(resumed, 1);
	weir_account_uncharge(&account, 80);
	CHECK_EQ(resumed, 1);
	weir_account_finish(&account);
}

TEST(account_that_makes_no_sense_is_refused)
{
	struct weir_account chain[WEIR_ACCOUNT_DEPTH_MAX], more;

	CHECK_EQ(weir_account_init(
		     &more, &(struct weir_account_config){.limit_bytes = 10,
				.pause_bytes = 11}),
	    -EINVAL);
	CHECK_EQ(weir_account_init(
		     &more, &(struct weir_account_config){.reserve_bytes = 1}),
	    -EINVAL);
	CHECK_EQ(weir_account_init(&more,
		     &(struct weir_account_config){.reserved = {0, 0, 1}}),
	    -EINVAL);
	for (size_t i = 0; i < WEIR_ACCOUNT_DEPTH_MAX; i++)
		account_make(&chain[i], i == 0 ? NULL : &chain[i - 1], 0);
	CHECK_EQ(weir_account_init(&more,
		     &(struct weir_account_config){
			 .parent = &chain[WEIR_ACCOUNT_DEPTH_MAX - 1]}),
	    -EINVAL);
	CHECK(weir_account_charge(&chain[WEIR_ACCOUNT_DEPTH_MAX - 1], 7));
	CHECK_EQ(used(&chain[0]), 7);
	weir_account_uncharge(&chain[WEIR_ACCOUNT_DEPTH_MAX - 1], 7);
	for (size_t i = WEIR_ACCOUNT_DEPTH_MAX; i-- > 0;)
		weir_account_finish(&chain[i]);
}

TEST(account_misuse_is_a_fault)
{
	struct weir_account parent, child;

	account_make(&parent, NULL, 0);
	account_make(&child, &parent, 0);
	EXPECT_ABORT("live-objects-at-destroy: account \"conn\": 1 account is "
		     "still below",
	    weir_account_finish(&parent));
	CHECK(weir_account_charge(&child, 12));
	EXPECT_ABORT("live-objects-at-destroy: account \"conn\": 12 bytes are "
		     "still charged",
	    weir_account_finish(&child));
	EXPECT_ABORT("reference-underflow: account \"conn\": 13 bytes",
	    weir_account_uncharge(&child, 13));
	weir_account_uncharge(&child, 12);
	weir_account_finish(&child);
	EXPECT_ABORT("double-destroy: account", weir_account_finish(&child));
	weir_account_finish(&parent);
}

/* ---- threads ------------------------------------------------------------- */

/* Each thread a connection after the other; the last buffer of one is released
 * by a neighbour, and the account ends as soon as it is empty. */
#define RELAY_THREADS 4

struct relay {
	struct weir_buffer_pool *pool;
	struct weir_account process, group[2];
	struct weir_buffer *box[RELAY_THREADS]; /* atomic */
	size_t rounds;
	unsigned finished; /* atomic */
};

static void
relay_resume(struct weir_account *account)
{
	__atomic_fetch_add((unsigned *)account->user, 1, __ATOMIC_RELAXED);
}

static void
relay_drain(struct relay *relay, unsigned index)
{
	weir_buffer_release(
	    __atomic_exchange_n(&relay->box[index], NULL, __ATOMIC_ACQ_REL));
}

static void
relay_connection(struct relay *relay, unsigned index, struct test_rng *rng)
{
	unsigned to = (index + 1) % RELAY_THREADS, paused = 0;
	struct weir_account tenant, conn;

	account_make(&tenant, &relay->group[index % 2], 0);
	CHECK_EQ(weir_account_init(
		     &conn, &(struct weir_account_config){.parent = &tenant,
				.user = &paused,
				.limit_bytes = 10000,
				.pause_bytes = 3000,
				.resume = relay_resume}),
	    0);
	for (int i = 0; i < 5; i++) {
		struct weir_buffer *b = weir_buffer_acquire_for(relay->pool,
		    &(struct weir_buffer_want){
			.bytes = (size_t)64 << test_rand_below(rng, 8),
			.account = &conn});

		CHECK_LE(used(&conn), 10000);
		CHECK_LE(used(&relay->process), 30000);
		(void)weir_account_verdict(&conn, 100, NULL);
		if (b == NULL)
			continue;
		weir_buffer_release(
		    __atomic_exchange_n(&relay->box[to], b, __ATOMIC_ACQ_REL));
	}
	while (used(&conn) != 0) {
		relay_drain(relay, index);
		if (__atomic_load_n(&relay->finished, __ATOMIC_RELAXED) > 0)
			relay_drain(relay, to);
	}
	/* Empty below is empty above: both may end at once. */
	weir_account_finish(&conn);
	weir_account_finish(&tenant);
	memset(&conn, 0xdd, sizeof(conn));
}

static void
relay_run(unsigned index, void *context)
{
	struct relay *relay = context;
	struct test_rng rng;

	test_rng_init(&rng, test_seed() * 17 + index);
	for (size_t i = 0; i < relay->rounds; i++)
		relay_connection(relay, index, &rng);
	__atomic_fetch_add(&relay->finished, 1, __ATOMIC_RELAXED);
	while (
	    __atomic_load_n(&relay->finished, __ATOMIC_RELAXED) < RELAY_THREADS)
		relay_drain(relay, index);
}

TEST(account_ends_on_one_thread_while_another_gives_back)
{
	static struct relay relay;

	relay.rounds = test_count(500);
	relay.pool = pool_make(NULL);
	account_make(&relay.process, NULL, 30000);
	account_make(&relay.group[0], &relay.process, 20000);
	account_make(&relay.group[1], &relay.process, 0);
	test_threads(RELAY_THREADS, relay_run, &relay);
	for (unsigned i = 0; i < RELAY_THREADS; i++)
		relay_drain(&relay, i);
	CHECK_EQ(used(&relay.process), 0);
	CHECK_LE(figures(&relay.process).peak_bytes, 30000);
	weir_account_finish(&relay.group[0]);
	weir_account_finish(&relay.group[1]);
	weir_account_finish(&relay.process);
	pool_end(relay.pool);
}
