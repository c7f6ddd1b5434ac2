/* SPDX-License-Identifier: MIT */
/*
 * test_buffer_wait.c - buffer pools at their limits: waiting in order, by
 * priority, with a time; the reserve for senders; being told; limits that move.
 */
#include "buffer_common.h"

#include <weir/buffer_limit.h>
#include <weir/runtime.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MS UINT64_C(1000000)

static void
nap(uint64_t ns)
{
	struct timespec time = {.tv_nsec = (long)ns};

	nanosleep(&time, NULL);
}

static struct weir_buffer_pool *
waiting_pool(uint32_t bytes, size_t limit, uint64_t limit_bytes)
{
	return pool_make(&(struct weir_buffer_pool_config){
	    .tier = {{.bytes = bytes, .limit = limit}, {.bytes = bytes * 4}},
	    .tier_count = 2,
	    .limit_bytes = limit_bytes,
	    .policy = WEIR_LIMIT_WAIT,
	});
}

/* ---- waiting ------------------------------------------------------------- */

TEST(buffer_wait_ends_with_its_time)
{
	struct weir_buffer_pool *pool = waiting_pool(512, 2, 0);
	struct weir_buffer *a = weir_buffer_acquire(pool, 1);
	struct weir_buffer *b = weir_buffer_acquire(pool, 1);
	uint64_t begin = test_now_ns();

	CHECK_NULL(weir_buffer_acquire_for(pool,
	    &(struct weir_buffer_want){.bytes = 1, .timeout_ns = 30 * MS}));
	CHECK_GE(test_now_ns() - begin, 30 * MS);
	begin = test_now_ns();
	CHECK_NULL(
	    weir_buffer_acquire_for(pool, &(struct weir_buffer_want){.bytes = 1,
					      .flags = WEIR_BUFFER_NO_WAIT}));
	CHECK_LT(test_now_ns() - begin, 5000 * MS);

	struct weir_pool_stats stats = tier_stats(pool, 0);

	CHECK_EQ(stats.waits, 1);
	CHECK_EQ(stats.wait_timeouts, 1);
	CHECK_EQ(stats.waiting, 0);
	CHECK_EQ(stats.failures, 2);
	CHECK_EQ(stats.requests, 4);
	weir_buffer_release(a);
	weir_buffer_release(b);
	pool_end(pool);
}

/* How many threads of this process are not asleep, this one included. */
static unsigned
threads_awake(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned awake = 0;
	char path[300], line[300];

	CHECK_NOT_NULL(tasks);
	for (struct dirent *e; (e = readdir(tasks)) != NULL;) {
		snprintf(
		    path, sizeof(path), "/proc/self/task/%s/stat", e->d_name);

		FILE *stat = e->d_name[0] == '.' ? NULL : fopen(path, "r");

		if (stat == NULL)
			continue;
		if (fgets(line, sizeof(line), stat) != NULL)
			awake += strstr(line, ") S ") == NULL;
		fclose(stat);
	}
	closedir(tasks);
	return awake;
}

/* Until all other threads are where nothing but time or a wake-up moves them. */
static void
others_sleep(void)
{
	for (int quiet = 0; quiet < 3; nap(MS))
		quiet = threads_awake() == 1 ? quiet + 1 : 0;
}

/* Requests queue up one by one, so that their order is known. */
struct line {
	struct weir_buffer_pool *pool;
	struct weir_buffer_want want[8];
	size_t tier[8]; /* by which `waiting` is seen to grow */
	size_t order[8];
	size_t served;
	pthread_mutex_t lock;
	pthread_t thread[8];
	size_t count;
};

struct line_entry {
	struct line *line;
	size_t index;
};

static void *
line_run(void *argument)
{
	struct line_entry entry = *(struct line_entry *)argument;
	struct line *line = entry.line;
	struct weir_buffer *b =
	    weir_buffer_acquire_for(line->pool, &line->want[entry.index]);

	CHECK_NOT_NULL(b);
	pthread_mutex_lock(&line->lock);
	line->order[line->served++] = entry.index;
	pthread_mutex_unlock(&line->lock);
	weir_buffer_release(b);
	return NULL;
}

static void
line_add(struct line *line, struct line_entry *entry, size_t tier,
    struct weir_buffer_want want)
{
	uint64_t before = tier_stats(line->pool, tier).waiting;

	entry->line = line;
	entry->index = line->count;
	line->want[line->count] = want;
	CHECK_EQ(
	    pthread_create(&line->thread[line->count], NULL, line_run, entry),
	    0);
	line->count++;
	while (tier_stats(line->pool, tier).waiting == before)
		nap(MS / 10);
}

static void
line_join(struct line *line)
{
	for (size_t i = 0; i < line->count; i++)
		CHECK_EQ(pthread_join(line->thread[i], NULL), 0);
	CHECK_EQ(line->served, line->count);
}

TEST(buffer_wait_serves_in_order_of_arrival)
{
	struct line line = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct line_entry entry[6];

	line.pool = waiting_pool(512, 1, 0);

	struct weir_buffer *held = weir_buffer_acquire(line.pool, 1);

	for (size_t i = 0; i < 6; i++)
		line_add(
		    &line, &entry[i], 0, (struct weir_buffer_want){.bytes = 1});
	CHECK_EQ(tier_stats(line.pool, 0).waiting, 6);
	weir_buffer_release(held);
	line_join(&line);
	for (size_t i = 0; i < 6; i++)
		CHECK_EQ(line.order[i], i);
	CHECK_EQ(tier_stats(line.pool, 0).wait_turns_max, 5);
	pool_end(line.pool);
}

TEST(buffer_wait_serves_senders_then_control_then_receives)
{
	static const enum weir_buffer_use use[] = {WEIR_BUFFER_RECEIVE,
	    WEIR_BUFFER_CONTROL, WEIR_BUFFER_RECEIVE, WEIR_BUFFER_SEND,
	    WEIR_BUFFER_CONTROL, WEIR_BUFFER_SEND};
	static const size_t order[] = {3, 5, 1, 4, 0, 2};
	struct line line = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct line_entry entry[6];

	line.pool = waiting_pool(512, 1, 0);

	struct weir_buffer *held = weir_buffer_acquire(line.pool, 1);

	for (size_t i = 0; i < 6; i++)
		line_add(&line, &entry[i], 0,
		    (struct weir_buffer_want){.bytes = 1, .use = use[i]});
	weir_buffer_release(held);
	line_join(&line);
	for (size_t i = 0; i < 6; i++)
		CHECK_EQ(line.order[i], order[i]);
	pool_end(line.pool);
}

/* Small requests take each byte that comes back, were it not for the order. */
TEST(buffer_wait_for_bytes_is_not_overtaken_by_smaller_ones)
{
	struct line line = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct line_entry entry[2];
	struct weir_buffer *held[4];

	line.pool = waiting_pool(512, 0, 2048);
	for (size_t i = 0; i < 4; i++)
		held[i] = weir_buffer_acquire(line.pool, 512);
	line_add(&line, &entry[0], 1, (struct weir_buffer_want){.bytes = 2048});
	line_add(&line, &entry[1], 0, (struct weir_buffer_want){.bytes = 512});
	for (size_t i = 0; i < 3; i++) {
		weir_buffer_release(held[i]);
		/* Room for one of 512, but whose turn it is needs 2048. */
		CHECK_NULL(weir_buffer_acquire_for(
		    line.pool, &(struct weir_buffer_want){
				   .bytes = 1, .flags = WEIR_BUFFER_NO_WAIT}));
		CHECK_EQ(line.served, 0);
	}
	weir_buffer_release(held[3]);
	line_join(&line);
	CHECK_EQ(line.order[0], 0);
	CHECK_EQ(line.order[1], 1);
	pool_end(line.pool);
}

/* A full tier is not in the way of another. */
TEST(buffer_wait_for_one_tier_lets_others_pass)
{
	struct line line = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct line_entry entry;

	line.pool = waiting_pool(512, 1, 0);

	struct weir_buffer *held = weir_buffer_acquire(line.pool, 1);

	line_add(&line, &entry, 0, (struct weir_buffer_want){.bytes = 1});
	others_sleep();

	struct weir_buffer *other = weir_buffer_acquire_for(
	    line.pool, &(struct weir_buffer_want){
			   .bytes = 2000, .flags = WEIR_BUFFER_NO_WAIT});

	CHECK_NOT_NULL(other);
	weir_buffer_release(other);
	weir_buffer_release(held);
	line_join(&line);
	pool_end(line.pool);
}

/* The head gives up, and what it was keeping others from is theirs. */
TEST(buffer_wait_given_up_opens_the_way)
{
	struct line line = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct line_entry entry;
	struct weir_buffer *held[3];

	line.pool = waiting_pool(512, 0, 2048);
	for (size_t i = 0; i < 3; i++)
		held[i] = weir_buffer_acquire(line.pool, 512);

	/* This thread is the head, and the other comes behind it. */
	pthread_t thread;
	struct weir_buffer *none;

	entry = (struct line_entry){&line, 0};
	line.want[0] = (struct weir_buffer_want){.bytes = 512};
	line.count = 0;
	none = weir_buffer_acquire_for(line.pool,
	    &(struct weir_buffer_want){.bytes = 2048, .timeout_ns = MS});
	CHECK_NULL(none);
	CHECK_EQ(pthread_create(&thread, NULL, line_run, &entry), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(line.served, 1);
	for (size_t i = 0; i < 3; i++)
		weir_buffer_release(held[i]);
	pool_end(line.pool);
}

static void *
give_up_run(void *argument)
{
	struct weir_buffer_pool *pool = argument;

	CHECK_NULL(weir_buffer_acquire_for(pool,
	    &(struct weir_buffer_want){.bytes = 2048, .timeout_ns = 200 * MS}));
	return NULL;
}

TEST(buffer_wait_behind_one_who_gives_up_is_served_then)
{
	struct line line = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct line_entry entry;
	struct weir_buffer *held[3];
	pthread_t thread;

	line.pool = waiting_pool(512, 0, 2048);
	for (size_t i = 0; i < 3; i++)
		held[i] = weir_buffer_acquire(line.pool, 512);
	CHECK_EQ(pthread_create(&thread, NULL, give_up_run, line.pool), 0);
	/* Counted for good: on a busy machine it may have given up by now. */
	while (tier_stats(line.pool, 1).waits == 0)
		nap(MS / 10);
	/* There is room for it, but it has to wait for the one before it. */
	entry = (struct line_entry){&line, 0};
	line.want[0] = (struct weir_buffer_want){.bytes = 512};
	CHECK_EQ(pthread_create(&line.thread[0], NULL, line_run, &entry), 0);
	line.count = 1;
	line_join(&line);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	for (size_t i = 0; i < 3; i++)
		weir_buffer_release(held[i]);
	pool_end(line.pool);
}

TEST(buffer_wait_ends_when_a_limit_is_raised)
{
	struct line line = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct line_entry entry[2];

	line.pool = waiting_pool(512, 1, 512);

	struct weir_buffer *held = weir_buffer_acquire(line.pool, 1);

	line_add(&line, &entry[0], 0, (struct weir_buffer_want){.bytes = 1});
	CHECK_EQ(weir_buffer_pool_set_tier_limit(line.pool, 0, 2), 0);
	nap(2 * MS);
	CHECK_EQ(line.served, 0);
	CHECK_EQ(weir_buffer_pool_set_limit_bytes(line.pool, 1024), 0);
	line_join(&line);
	weir_buffer_release(held);
	pool_end(line.pool);
}

/* The account is what is full, and another pool's buffer frees it. */
TEST(buffer_wait_for_an_account_is_ended_by_another_pool)
{
	struct line line = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct weir_buffer_pool *other = pool_make(NULL);
	struct line_entry entry;
	struct weir_account group, conn;

	line.pool = waiting_pool(512, 0, 0);
	CHECK_EQ(weir_account_init(&group,
		     &(struct weir_account_config){.limit_bytes = 2100}),
	    0);
	CHECK_EQ(weir_account_init(
		     &conn, &(struct weir_account_config){.parent = &group}),
	    0);

	struct weir_buffer *held = weir_buffer_acquire_for(other,
	    &(struct weir_buffer_want){.bytes = 2000, .account = &group});

	CHECK_NOT_NULL(held);
	line_add(&line, &entry, 0,
	    (struct weir_buffer_want){.bytes = 1, .account = &conn});
	/* Without that account there is no reason to wait. */
	weir_buffer_release(weir_buffer_acquire(line.pool, 1));
	CHECK_EQ(line.served, 0);
	weir_buffer_release(held);
	line_join(&line);
	weir_account_finish(&conn);
	weir_account_finish(&group);
	pool_end(other);
	pool_end(line.pool);
}

/* ---- the reserve --------------------------------------------------------- */

TEST(buffer_reserve_is_for_senders_and_filled_first)
{
	struct weir_buffer_pool *pool =
	    pool_make(&(struct weir_buffer_pool_config){
		.tier = {{.bytes = 512, .limit = 5, .reserve = 2}},
		.tier_count = 1,
		.limit_bytes = 5 * 512,
	    });
	struct weir_buffer_want send = {.bytes = 1, .use = WEIR_BUFFER_SEND};
	struct weir_buffer *held[5];

	CHECK_EQ(tier_stats(pool, 0).in_use, 0);
	CHECK_EQ(tier_stats(pool, 0).limit_bytes_used, 2 * 512);
	for (size_t i = 0; i < 3; i++)
		CHECK_NOT_NULL(held[i] = weir_buffer_acquire(pool, 1));
	CHECK_NULL(weir_buffer_acquire(pool, 1));
	CHECK_NULL(
	    weir_buffer_acquire_for(pool, &(struct weir_buffer_want){.bytes = 1,
					      .use = WEIR_BUFFER_CONTROL}));
	CHECK_NOT_NULL(held[3] = weir_buffer_acquire_for(pool, &send));
	CHECK_NOT_NULL(held[4] = weir_buffer_acquire_for(pool, &send));
	CHECK_NULL(weir_buffer_acquire_for(pool, &send));
	CHECK_EQ(tier_stats(pool, 0).in_use, 5);
	CHECK(weir_buffer_pool_check(pool));
	/* Two come back, and senders may have them; receives may not. */
	weir_buffer_release(held[0]);
	weir_buffer_release(held[1]);
	CHECK_NULL(weir_buffer_acquire(pool, 1));
	CHECK_NOT_NULL(held[0] = weir_buffer_acquire_for(pool, &send));
	CHECK_NOT_NULL(held[1] = weir_buffer_acquire_for(pool, &send));
	for (size_t i = 0; i < 5; i++)
		weir_buffer_release(held[i]);
	CHECK_EQ(tier_stats(pool, 0).in_use, 0);
	CHECK_EQ(tier_stats(pool, 0).limit_bytes_used, 2 * 512);
	for (size_t i = 0; i < 3; i++)
		CHECK_NOT_NULL(held[i] = weir_buffer_acquire(pool, 1));
	CHECK_NULL(weir_buffer_acquire(pool, 1));
	for (size_t i = 0; i < 3; i++)
		weir_buffer_release(held[i]);
	pool_end(pool);
}

TEST(buffer_reserve_of_an_account_is_for_senders)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_account account;
	struct weir_buffer_want want = {.bytes = 500, .account = &account};

	CHECK_EQ(weir_account_init(&account,
		     &(struct weir_account_config){
			 .limit_bytes = 1024, .reserve_bytes = 512}),
	    0);

	struct weir_buffer *a = weir_buffer_acquire_for(pool, &want);

	CHECK_NOT_NULL(a);
	CHECK_NULL(weir_buffer_acquire_for(pool, &want));
	want.use = WEIR_BUFFER_SEND;

	struct weir_buffer *b = weir_buffer_acquire_for(pool, &want);

	CHECK_NOT_NULL(b);
	CHECK_NULL(weir_buffer_acquire_for(pool, &want));
	CHECK_EQ(tier_stats(pool, 1).failures, 2);
	weir_buffer_release(a);
	weir_buffer_release(b);
	weir_account_finish(&account);
	pool_end(pool);
}

/* ---- being told ---------------------------------------------------------- */

struct told {
	unsigned calls;
	unsigned more; /* acquire and fail that often when called */
};

static void
told_call(struct weir_buffer_pool *pool, void *context)
{
	struct told *told = context;

	told->calls++;
	if (told->more > 0) {
		struct weir_buffer *b;

		told->more--;
		CHECK_NOT_NULL(b = weir_buffer_acquire(pool, 1));
		CHECK_NULL(weir_buffer_acquire(pool, 2048));
		weir_buffer_release(b);
	}
}

TEST(buffer_notify_tells_once_when_a_tier_has_room)
{
	struct told told = {0};
	struct weir_buffer_pool *pool =
	    pool_make(&(struct weir_buffer_pool_config){
		.tier = {{.bytes = 512, .limit = 16}},
		.tier_count = 1,
		.policy = WEIR_LIMIT_NOTIFY,
		.notify = told_call,
		.notify_context = &told,
	    });
	struct weir_buffer *held[16];

	for (size_t i = 0; i < 16; i++)
		CHECK_NOT_NULL(held[i] = weir_buffer_acquire(pool, 1));
	CHECK_NULL(weir_buffer_acquire(pool, 1));
	CHECK_NULL(weir_buffer_acquire(pool, 1));
	weir_buffer_release(held[0]);
	CHECK_EQ(told.calls, 0); /* 15 of 16 is more than 7/8 */
	weir_buffer_release(held[1]);
	CHECK_EQ(told.calls, 1);
	for (size_t i = 2; i < 16; i++)
		weir_buffer_release(held[i]);
	CHECK_EQ(told.calls, 1);
	pool_end(pool);
}

TEST(buffer_notify_tells_of_bytes_that_another_tier_gave_back)
{
	struct told told = {0};
	struct weir_buffer_pool *pool =
	    pool_make(&(struct weir_buffer_pool_config){
		.tier = {{.bytes = 512}, {.bytes = 2048}},
		.tier_count = 2,
		.limit_bytes = 4096,
		.policy = WEIR_LIMIT_NOTIFY,
		.notify = told_call,
		.notify_context = &told,
	    });
	struct weir_buffer *held[8];

	for (size_t i = 0; i < 8; i++)
		CHECK_NOT_NULL(held[i] = weir_buffer_acquire(pool, 512));
	CHECK_NULL(weir_buffer_acquire(pool, 2048));
	for (size_t i = 0; i < 3; i++)
		weir_buffer_release(held[i]);
	CHECK_EQ(told.calls, 0); /* not yet room for what was refused */
	weir_buffer_release(held[3]);
	CHECK_EQ(told.calls, 1);
	CHECK_NOT_NULL(held[0] = weir_buffer_acquire(pool, 2048));
	CHECK_NULL(weir_buffer_acquire(pool, 2048));
	CHECK_EQ(told.calls, 1);
	CHECK_EQ(weir_buffer_pool_set_limit_bytes(pool, 8192), 0);
	CHECK_EQ(told.calls, 2);
	weir_buffer_release(held[0]);
	for (size_t i = 4; i < 8; i++)
		weir_buffer_release(held[i]);
	CHECK_EQ(told.calls, 2);
	pool_end(pool);
}

/* What is refused inside the call, and given back there, is told of later. */
TEST(buffer_notify_inside_its_own_call_is_not_lost)
{
	struct told told = {.more = 1};
	struct weir_buffer_pool *pool =
	    pool_make(&(struct weir_buffer_pool_config){
		.tier = {{.bytes = 512}, {.bytes = 2048}},
		.tier_count = 2,
		.limit_bytes = 2048,
		.policy = WEIR_LIMIT_NOTIFY,
		.notify = told_call,
		.notify_context = &told,
	    });
	struct weir_buffer *b = weir_buffer_acquire(pool, 2048);

	CHECK_NULL(weir_buffer_acquire(pool, 1));
	weir_buffer_release(b);
	CHECK_EQ(told.calls, 2);
	pool_end(pool);
}

/* ---- limits that move ---------------------------------------------------- */

TEST(buffer_limits_change_while_the_pool_is_in_use)
{
	struct weir_buffer_pool *pool =
	    pool_make(&(struct weir_buffer_pool_config){
		.tier = {{.bytes = 512, .limit = 2}, {.bytes = 4096}},
		.tier_count = 2,
		.limit_bytes = 1 << 20,
	    });
	struct weir_buffer *held[8];

	held[0] = weir_buffer_acquire(pool, 1);
	held[1] = weir_buffer_acquire(pool, 1);
	CHECK_NULL(weir_buffer_acquire(pool, 1));
	CHECK_EQ(weir_buffer_pool_set_tier_limit(pool, 0, 8), 0);
	CHECK_EQ(tier_stats(pool, 0).limit, 8);
	for (size_t i = 2; i < 8; i++)
		CHECK_NOT_NULL(held[i] = weir_buffer_acquire(pool, 1));
	CHECK_NULL(weir_buffer_acquire(pool, 1));
	CHECK_EQ(weir_buffer_pool_set_tier_limit(pool, 0, 7), -EBUSY);
	CHECK_EQ(weir_buffer_pool_set_tier_limit(pool, 2, 7), -EINVAL);
	/* Below what is held: nothing more until enough came back. */
	CHECK_EQ(weir_buffer_pool_set_limit_bytes(pool, 5000), 0);
	CHECK_NULL(weir_buffer_acquire(pool, 4096));
	CHECK(weir_buffer_pool_check(pool));
	for (size_t i = 0; i < 8; i++)
		weir_buffer_release(held[i]);
	CHECK_NOT_NULL(held[0] = weir_buffer_acquire(pool, 4096));
	CHECK_NULL(weir_buffer_acquire(pool, 4096));
	CHECK_EQ(weir_buffer_pool_set_limit_bytes(pool, 0), 0);
	CHECK_NOT_NULL(held[1] = weir_buffer_acquire(pool, 4096));
	weir_buffer_release(held[0]);
	weir_buffer_release(held[1]);
	CHECK_EQ(weir_buffer_pool_set_tier_limit(pool, 0, 1), 0);
	CHECK_NOT_NULL(held[0] = weir_buffer_acquire(pool, 1));
	CHECK_NULL(weir_buffer_acquire(pool, 1));
	weir_buffer_release(held[0]);
	pool_end(pool);
}

TEST(buffer_prepare_makes_what_the_limit_allows)
{
	struct weir_buffer_pool *pool =
	    pool_make(&(struct weir_buffer_pool_config){
		.tier = {{.bytes = 512, .limit = 40}}, .tier_count = 1});
	struct weir_buffer *b;

	CHECK_EQ(weir_buffer_pool_prepare(pool, 0, 30), 0);
	CHECK_GE(tier_stats(pool, 0).total, 30);
	CHECK_EQ(weir_buffer_pool_prepare(pool, 0, 41), -ENOSPC);
	CHECK_EQ(weir_buffer_pool_prepare(pool, 1, 1), -EINVAL);
	CHECK_NOT_NULL(b = weir_buffer_acquire(pool, 1));
	CHECK_EQ(weir_buffer_pool_prepare(pool, 0, 40), -ENOSPC);
	CHECK_EQ(weir_buffer_pool_prepare(pool, 0, 39), 0);
	CHECK_EQ(tier_stats(pool, 0).total, 40);
	weir_buffer_release(b);
	pool_end(pool);
}

static void
expect_refused(struct weir_buffer_pool_config config)
{
	struct weir_buffer_pool *pool = (struct weir_buffer_pool *)&pool;

	if (config.tier_count == 0) {
		config.tier[0] = (struct weir_buffer_tier){.bytes = 512};
		config.tier_count = 1;
	}
	CHECK_EQ(weir_buffer_pool_create("x", &config, &pool), -EINVAL);
	CHECK_NULL(pool);
}

TEST(buffer_policies_that_make_no_sense_are_refused)
{
	expect_refused((struct weir_buffer_pool_config){
	    .policy = (enum weir_limit_policy)3});
	expect_refused((struct weir_buffer_pool_config){.timeout_ns = 1});
	expect_refused(
	    (struct weir_buffer_pool_config){.policy = WEIR_LIMIT_NOTIFY});
	expect_refused((struct weir_buffer_pool_config){.notify = told_call});
	expect_refused((struct weir_buffer_pool_config){
	    .tier = {{.bytes = 512, .limit = 1, .reserve = 2}},
	    .tier_count = 1});
	expect_refused((struct weir_buffer_pool_config){
	    .tier = {{.bytes = 512, .reserve = 3}},
	    .tier_count = 1,
	    .limit_bytes = 1535});
}

/* ---- threads ------------------------------------------------------------- */

/* More threads than buffers: each is served, none twice, no wake-up is lost. */
struct crowd {
	struct weir_buffer_pool *pool;
	struct weir_account process, group[2];
	uint32_t out; /* atomic: buffers of tier 0 held */
	size_t rounds;
};

static void
crowd_run(unsigned index, void *context)
{
	struct crowd *crowd = context;
	struct test_rng rng;

	test_rng_init(&rng, test_seed() * 31 + index);
	for (size_t i = 0; i < crowd->rounds; i++) {
		size_t bytes = test_rand_below(&rng, 3) == 0 ? 2000 : 500;
		struct weir_buffer *b = weir_buffer_acquire_for(crowd->pool,
		    &(struct weir_buffer_want){
			.bytes = bytes,
			.account = test_rand_below(&rng, 2) != 0
				       ? &crowd->group[index % 2]
				       : NULL,
			.use = (enum weir_buffer_use)test_rand_below(&rng, 3),
			.timeout_ns = 20000 * MS,
		    });

		CHECK_NOT_NULL(b);
		if (bytes == 500)
			CHECK_LE(__atomic_add_fetch(
				     &crowd->out, 1, __ATOMIC_RELAXED),
			    2);
		memset(b->data, (int)index, b->bytes);
		if (test_rand_below(&rng, 4) == 0)
			nap(1000);
		CHECK(all_bytes(b->data, b->bytes, (unsigned char)index));
		if (bytes == 500)
			__atomic_fetch_sub(&crowd->out, 1, __ATOMIC_RELAXED);
		weir_buffer_release(b);
		if (index == 0 && i % 16 == 0)
			weir_buffer_pool_trim(crowd->pool);
	}
}

TEST(buffer_wait_loses_no_wake_up)
{
	struct crowd crowd = {.rounds = test_count(1500)};

	crowd.pool = waiting_pool(512, 2, 4000);
	CHECK_EQ(weir_account_init(&crowd.process,
		     &(struct weir_account_config){.limit_bytes = 3000}),
	    0);
	for (size_t i = 0; i < 2; i++)
		CHECK_EQ(
		    weir_account_init(&crowd.group[i],
			&(struct weir_account_config){
			    .parent = &crowd.process, .limit_bytes = 2048}),
		    0);
	test_threads(6, crowd_run, &crowd);

	struct weir_pool_stats stats = tier_stats(crowd.pool, 0);

	CHECK_EQ(stats.failures, 0);
	CHECK_EQ(stats.waiting, 0);
	CHECK(weir_account_check(&crowd.process));
	for (size_t i = 0; i < 2; i++)
		weir_account_finish(&crowd.group[i]);
	weir_account_finish(&crowd.process);
	pool_end(crowd.pool);
}

/* The child of a fork has none of those who wait, and a gate that works.  They
 * sleep by then: what one is about to take would stay charged in the child. */
TEST(buffer_wait_is_forgotten_in_the_child_of_a_fork)
{
	struct line line = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct line_entry entry[2];
	struct weir_account account;
	int status;

	CHECK_EQ(weir_account_init(&account, NULL), 0);
	line.pool = waiting_pool(512, 1, 0);

	struct weir_buffer *held = weir_buffer_acquire(line.pool, 1);

	for (size_t i = 0; i < 2; i++)
		line_add(&line, &entry[i], 0,
		    (struct weir_buffer_want){
			.bytes = 1, .account = i == 0 ? &account : NULL});

	others_sleep();

	pid_t pid = fork();

	CHECK_GE(pid, 0);
	if (pid == 0) {
		struct weir_buffer_want want = {.bytes = 1, .timeout_ns = MS};

		CHECK_EQ(tier_stats(line.pool, 0).waiting, 0);
		CHECK_NULL(weir_buffer_acquire_for(line.pool, &want));
		weir_buffer_release(held);
		CHECK_NOT_NULL(held = weir_buffer_acquire(line.pool, 1));
		weir_buffer_release(held);
		weir_buffer_pool_destroy(line.pool);
		weir_account_finish(&account);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
	weir_buffer_release(held);
	line_join(&line);
	weir_account_finish(&account);
	pool_end(line.pool);
}

/* The owner of all slices ends; those who hold them release, and a waiter gets
 * the buffer at once. */
struct gone {
	struct weir_buffer_pool *pool;
	struct weir_slice slice[4];
};

static void *
gone_owner(void *argument)
{
	struct gone *gone = argument;

	for (size_t i = 0; i < 4; i++) {
		struct weir_buffer *b = weir_buffer_acquire(gone->pool, 512);

		gone->slice[i] = weir_slice_retain(weir_slice_make(b, i, 100));
		weir_buffer_release(b);
	}
	return NULL;
}

TEST(buffer_slices_of_an_ended_thread_go_to_who_waits)
{
	struct line line = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct line_entry entry;
	struct gone gone;
	pthread_t thread;

	line.pool = gone.pool = waiting_pool(512, 4, 0);
	CHECK_EQ(pthread_create(&thread, NULL, gone_owner, &gone), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(tier_stats(gone.pool, 0).in_use, 4);
	line_add(&line, &entry, 0, (struct weir_buffer_want){.bytes = 1});
	weir_slice_release(&gone.slice[2]);
	line_join(&line);
	for (size_t i = 0; i < 4; i++)
		weir_slice_release(&gone.slice[i]);
	pool_end(gone.pool);
}
