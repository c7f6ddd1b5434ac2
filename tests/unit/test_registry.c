/* SPDX-License-Identifier: MIT */
/*
 * test_registry.c - the registry of pools: who is listed, walks beside pools that
 * come and go, and forks.
 */
#include "fake_pool.h"

#include <sys/wait.h>
#include <unistd.h>

TEST(pools_are_listed_oldest_first_with_rising_ids)
{
	struct weir_pool_stats out[4] = {{.size = sizeof(out[0])}};
	struct fake a, b, c, hidden;

	CHECK_EQ(weir_stats_pools(NULL, 0), 0);
	fake_enter(&a, "a");
	fake_enter(&b, "b");
	memset(&hidden, 0, sizeof(hidden));
	weiri_pool_register(
	    &hidden.pool, WEIR_POOL_CACHE, "hidden", &fake_ops, true);
	fake_enter(&c, NULL);
	CHECK_EQ(weir_stats_pools(NULL, 0), 3);
	CHECK_EQ(weir_stats_pools(out, 4), 3);
	CHECK_STR(out[0].name, "a");
	CHECK_STR(out[1].name, "b");
	CHECK_STR(out[2].name, "unnamed");
	CHECK_LT(out[0].id, out[1].id);
	CHECK_LT(out[1].id, out[2].id);
	CHECK_EQ(out[2].size, sizeof(out[2]));
	CHECK_EQ(out[2].version, WEIR_STATS_VERSION);
	CHECK_EQ(out[2].kind, WEIR_POOL_CACHE);

	/* More pools than room: all are counted, the first are filled. */
	memset(out, 0, sizeof(out));
	out[0].size = sizeof(out[0]);
	CHECK_EQ(weir_stats_pools(out, 1), 3);
	CHECK_STR(out[0].name, "a");
	CHECK_EQ(out[1].size, 0);
	/* A struct of unknown size is not written to. */
	out[0].size = sizeof(out[0]) + 8;
	out[0].name[0] = 'x';
	CHECK_EQ(weir_stats_pools(out, 4), 0);
	CHECK_EQ(out[0].name[0], 'x');

	fake_leave(&b);
	CHECK_EQ(weir_stats_pools(NULL, 0), 2);
	fake_leave(&a);
	fake_leave(&c);
	weiri_pool_unregister(&hidden.pool);
	CHECK_EQ(weir_stats_pools(NULL, 0), 0);
}

TEST(name_is_cut_at_a_character_and_cleaned)
{
	static const struct {
		const char *given, *kept;
	} names[] = {
	    {"plain \"quoted\" \\", "plain \"quoted\" \\"},
	    {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x92\xa7",
		"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x92\xa7"},
	    {"a\nb\x7f", "a?b?"},
	    {"\xff\xc3", "??"},
	    {"\xc0\xaf\xe0\x80\xaf", "?????"}, /* overlong */
	    {"\xed\xa0\x80", "???"},           /* surrogate */
	    {"\xf4\x90\x80\x80", "????"},      /* beyond Unicode */
	    {"0123456789012345678901234567890123456789012345\xc3\xa9",
		"0123456789012345678901234567890123456789012345"},
	    {"01234567890123456789012345678901234567890123456xyz",
		"01234567890123456789012345678901234567890123456"},
	    {"", ""},
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct fake fake;

		fake_enter(&fake, names[i].given);
		CHECK_STR(fake.pool.name, names[i].kept);
		fake_leave(&fake);
	}
}

static struct fake first, second, third, newcomer;

static void
change_the_list(struct fake *fake)
{
	if (fake->visits > 1)
		return;
	fake_leave(&first); /* already visited */
	fake_leave(&third); /* would come next */
	fake_enter(&newcomer, "newcomer");
}

static bool
read_pool(struct weiri_pool *pool, void *context)
{
	struct weir_pool_stats stats;

	weiri_pool_stats(pool, &stats);
	strcat(context, stats.name);
	strcat(context, " ");
	return true;
}

TEST(visit_may_create_and_destroy_other_pools)
{
	char names[256] = "";

	fake_enter(&first, "first");
	fake_enter(&second, "second");
	fake_enter(&third, "third");
	second.visit = change_the_list;
	weiri_pool_walk(read_pool, names);
	CHECK_STR(names, "first second newcomer ");
	CHECK_EQ(weiri_pool_count(), 2);
}

static bool
stop_at_second(struct weiri_pool *pool, void *context)
{
	++*(int *)context;
	return pool != &second.pool;
}

TEST(walk_stops_when_told_and_lets_go)
{
	int visited = 0;

	fake_enter(&first, "first");
	fake_enter(&second, "second");
	fake_enter(&third, "third");
	weiri_pool_walk(stop_at_second, &visited);
	CHECK_EQ(visited, 2);
	fake_leave(&second); /* would wait for ever for a forgotten visitor */
	fake_leave(&first);
	fake_leave(&third);
}

static void
walk_inside(struct fake *fake)
{
	char names[256] = "";

	if (fake->visits == 1)
		weiri_pool_walk(read_pool, names);
}

TEST(walk_inside_a_visit_of_the_same_pool_works)
{
	char names[256] = "";

	fake_enter(&first, "first");
	fake_enter(&second, "second");
	first.visit = walk_inside;
	weiri_pool_walk(read_pool, names);
	CHECK_STR(names, "first second ");
	CHECK_EQ(first.visits, 2);
	fake_leave(&first);
	fake_leave(&second);
}

static bool inside;

static void
linger(struct fake *fake)
{
	__atomic_store_n(&inside, true, __ATOMIC_RELEASE);
	weiri_os_sleep_ns(20000000);
	CHECK(!WEIRI_LOAD(&fake->gone));
}

static void
linger_or_leave(unsigned index, void *context)
{
	char names[256] = "";

	(void)context;
	if (index == 0) {
		weiri_pool_walk(read_pool, names);
		return;
	}
	while (!__atomic_load_n(&inside, __ATOMIC_ACQUIRE))
		weiri_os_sleep_ns(1000);
	fake_leave(&first);
}

TEST(unregister_waits_for_the_visitor)
{
	fake_enter(&first, "first");
	first.visit = linger;
	test_threads(2, linger_or_leave, NULL);
	CHECK_EQ(weiri_pool_count(), 0);
}

/* Some come and go, some walk; every visit must find a live pool. */
static void
come_go_walk(unsigned index, void *context)
{
	struct test_rng rng;
	size_t rounds = test_count(2000);

	test_rng_init(&rng, *(uint64_t *)context + index);
	for (size_t i = 0; i < rounds; i++) {
		if (index % 2 == 0) {
			struct weir_pool_stats out[8] = {
			    {.size = sizeof(out[0])}};
			size_t met = weir_stats_pools(out, 8);

			for (size_t p = 0; p < met && p < 8; p++)
				CHECK_EQ(strncmp(out[p].name, "mine", 4), 0);
			continue;
		}

		struct fake mine[2];

		fake_enter(&mine[0], "mine");
		fake_enter(&mine[1], "mine too");
		fake_leave(&mine[test_rand_below(&rng, 2)]);
		for (int j = 0; j < 2; j++)
			if (!WEIRI_LOAD(&mine[j].gone))
				fake_leave(&mine[j]);
	}
}

TEST(pools_come_and_go_while_others_walk)
{
	uint64_t seed = test_seed();

	test_threads(6, come_go_walk, &seed);
	CHECK_EQ(weiri_pool_count(), 0);
}

static void
fork_inside(struct fake *fake)
{
	int status;
	pid_t pid;

	if (fake->visits > 1)
		return;
	pid = fork();
	CHECK_NE(pid, -1);
	if (pid == 0) {
		/* Only this thread's own visit is still one. */
		CHECK_EQ(first.pool.visitors, 1);
		CHECK_EQ(second.pool.visitors, 0);
		CHECK(!first.locked && !second.locked);
		fake_leave(&second);
		fake_enter(&third, "third");
		CHECK_EQ(weiri_pool_count(), 2);
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void
linger_or_fork(unsigned index, void *context)
{
	char names[256] = "";
	struct weir_pool_stats stats;

	(void)context;
	if (index == 0) {
		weiri_pool_walk(read_pool, names); /* lingers in second */
		return;
	}
	while (!__atomic_load_n(&inside, __ATOMIC_ACQUIRE))
		weiri_os_sleep_ns(1000);
	first.visit = fork_inside;
	first.visits = 0;
	CHECK_EQ(weir_stats_pools((stats.size = sizeof(stats), &stats), 1), 2);
}

TEST(child_of_a_fork_during_walks_can_destroy_what_they_visited)
{
	fake_enter(&first, "first");
	fake_enter(&second, "second");
	second.visit = linger;
	test_threads(2, linger_or_fork, NULL);
	CHECK(!first.locked && !second.locked);
	fake_leave(&first);
	fake_leave(&second);
}

TEST(name_of_each_kind_is_known)
{
	CHECK_STR(weiri_pool_kind_text(WEIR_POOL_CACHE), "cache");
	CHECK_STR(weiri_pool_kind_text(WEIR_POOL_REGION), "region");
	CHECK_STR(weiri_pool_kind_text(WEIR_POOL_BUFFER), "buffer");
	CHECK_STR(weiri_pool_kind_text(WEIR_POOL_BUDDY), "buddy");
	CHECK_STR(weiri_pool_kind_text(WEIR_POOL_HEAP), "heap");
	CHECK_STR(weiri_pool_kind_text(WEIR_POOL_BOUNDED), "bounded");
	CHECK_STR(weiri_pool_kind_text(0), "pool");
	CHECK_STR(weiri_pool_kind_text(99), "pool");
}
