/* SPDX-License-Identifier: MIT */
/*
 * test_account_model.c - random charges to a tree of accounts against plain sums,
 * and against threads that only look whether a limit is ever passed.
 *
 * A million steps, ten with --long.  Every level's sum is compared after each
 * step that could change it; memory is refused to the pools now and then, so that
 * what was charged already has to be taken back.
 */
#include "test.h"

#include "os/os.h"

#include <weir/buffer_limit.h>
#include <weir/runtime.h>

#include <stdlib.h>
#include <string.h>

#define GROUPS 3
#define CONNS 24
#define LEVELS (1 + GROUPS + CONNS)
#define HELD_MAX 600

/* One level beside its twin. */
struct level {
	struct weir_account account;
	struct level *parent;
	uint64_t used;
	uint64_t limit; /* UINT64_MAX: none */
	uint64_t reserve;
};

struct held {
	struct weir_buffer *buffer; /* NULL: bytes of the program's own */
	struct level *level;        /* NULL: nobody pays */
	uint64_t bytes;
};

struct model {
	struct test_rng rng;
	struct weir_buffer_pool *pool;
	struct level level[LEVELS]; /* process, groups, connections */
	struct held held[HELD_MAX];
	size_t count;
	size_t served, refused, out_of_memory;
};

static size_t
below(struct model *m, size_t bound)
{
	return (size_t)test_rand_below(&m->rng, bound);
}

static void
level_init(struct model *m, size_t at, struct level *parent)
{
	struct level *level = &m->level[at];

	level->parent = parent;
	/* Some levels have no limit, some hardly any. */
	level->limit =
	    below(m, 5) == 0 ? UINT64_MAX : (uint64_t)1000 << below(m, 8);
	level->reserve = level->limit == UINT64_MAX || below(m, 2) == 0
			     ? 0
			     : below(m, (size_t)level->limit / 2);
	CHECK_EQ(weir_account_init(&level->account,
		     &(struct weir_account_config){
			 .parent = parent == NULL ? NULL : &parent->account,
			 .user = level,
			 .limit_bytes =
			     level->limit == UINT64_MAX ? 0 : level->limit,
			 .reserve_bytes = level->reserve}),
	    0);
}

static bool
fits(const struct level *level, uint64_t bytes, bool sending)
{
	for (; level != NULL; level = level->parent) {
		uint64_t room = level->limit;

		if (room == UINT64_MAX)
			continue;
		room -= sending ? 0 : level->reserve;
		if (level->used > room || bytes > room - level->used)
			return false;
	}
	return true;
}

/* Those that pay already pay no more. */
static bool
fits_instead(struct level *level, const struct level *from, uint64_t bytes)
{
	for (; level != NULL; level = level->parent) {
		const struct level *at = from;
		while (at != NULL && at != level)
			at = at->parent;
		if (at != NULL)
			return true;
		if (level->used > level->limit - level->reserve ||
		    bytes > level->limit - level->reserve - level->used)
			return false;
	}
	return true;
}

static void
add(struct level *level, uint64_t bytes)
{
	for (; level != NULL; level = level->parent)
		level->used += bytes;
}

static uint64_t
used(const struct level *level)
{
	struct weir_account_figures out = {.size = sizeof(out)};

	CHECK_EQ(weir_account_stats(&level->account, &out), 0);
	return out.used_bytes;
}

static void
verify(const struct level *level)
{
	for (; level != NULL; level = level->parent)
		CHECK_EQ(used(level), level->used);
}

static struct level *
pick(struct model *m)
{
	/* Mostly a connection; now and then a level above pays itself. */
	return &m->level[below(m, 16) == 0 ? below(m, LEVELS)
					   : 1 + GROUPS + below(m, CONNS)];
}

static void
hold(
    struct model *m, struct weir_buffer *b, struct level *level, uint64_t bytes)
{
	m->held[m->count++] = (struct held){b, level, bytes};
	m->served++;
}

static size_t
tier_bytes(size_t bytes)
{
	size_t tier = 64;

	while (tier < bytes)
		tier *= 4;
	return tier;
}

static void
do_acquire(struct model *m)
{
	struct level *level = below(m, 20) == 0 ? NULL : pick(m);
	struct weir_buffer_want want = {
	    .bytes = 1 + below(m, (size_t)64 << 2 * below(m, 5)),
	    .account = level == NULL ? NULL : &level->account,
	    .use = (enum weir_buffer_use)below(m, 3),
	};
	uint64_t bytes = tier_bytes(want.bytes);
	bool room = fits(level, bytes, want.use == WEIR_BUFFER_SEND);
	bool starved = below(m, 500) == 0;
	struct weir_buffer *b;

	if (starved) {
		weir_buffer_pool_trim(m->pool);
		weir_trim();
		weiri_os_fail_nth(1, true);
	}
	b = weir_buffer_acquire_for(m->pool, &want);
	if (starved)
		weiri_os_fail_nth(0, false);
	if (!room) {
		CHECK_NULL(b);
		m->refused++;
	} else if (b != NULL) {
		CHECK_EQ(b->bytes, bytes);
		add(level, bytes);
		hold(m, b, level, bytes);
	} else {
		CHECK(starved);
		m->out_of_memory++;
	}
	verify(level);
}

static void
do_charge(struct model *m)
{
	struct level *level = pick(m);
	uint64_t bytes = 1 + below(m, 3000);
	bool room = fits(level, bytes, false);

	CHECK_EQ(weir_account_verdict(&level->account, bytes, NULL) >=
		     WEIR_ACCOUNT_FULL,
	    !room);
	CHECK_EQ(weir_account_charge(&level->account, bytes), room);
	if (room) {
		add(level, bytes);
		hold(m, NULL, level, bytes);
	}
	verify(level);
}

static void
do_release(struct model *m)
{
	size_t at = below(m, m->count);
	struct held held = m->held[at];

	m->held[at] = m->held[--m->count];
	if (held.buffer != NULL)
		weir_buffer_release(held.buffer);
	else
		weir_account_uncharge(&held.level->account, held.bytes);
	for (struct level *l = held.level; l != NULL; l = l->parent)
		l->used -= held.bytes;
	verify(held.level);
}

static void
do_move(struct model *m)
{
	struct held *held = &m->held[below(m, m->count)];
	struct level *to = below(m, 8) == 0 ? NULL : pick(m);
	bool room = fits_instead(to, held->level, held->bytes);

	if (held->buffer == NULL)
		return;
	CHECK_EQ(weir_buffer_set_account(
		     held->buffer, to == NULL ? NULL : &to->account),
	    room);
	if (room && to != held->level) {
		for (struct level *l = held->level; l != NULL; l = l->parent)
			l->used -= held->bytes;
		add(to, held->bytes);
		verify(held->level);
		held->level = to;
	}
	verify(to);
}

static void
do_limit(struct model *m)
{
	struct level *level = &m->level[below(m, LEVELS)];

	level->limit =
	    below(m, 4) == 0 ? UINT64_MAX : (uint64_t)1000 << below(m, 8);
	if (level->reserve > level->limit)
		level->reserve = level->limit;
	/* Without a limit what was reserved means nothing, but stays. */
	weir_account_set_limit(
	    &level->account, level->limit == UINT64_MAX ? 0 : level->limit);
	verify(level);
}

static void
do_largest(struct model *m)
{
	struct level *root = &m->level[below(m, LEVELS)];
	uint64_t bytes, most = 0;
	struct weir_account *largest =
	    weir_account_largest(&root->account, &bytes);

	for (size_t i = 1 + GROUPS; i < LEVELS; i++)
		for (struct level *l = &m->level[i]; l != NULL; l = l->parent)
			if (l == root && m->level[i].used > most)
				most = m->level[i].used;
	CHECK_EQ(bytes, most);
	if (most > 0)
		CHECK_EQ(((struct level *)largest->user)->used, most);
	else
		CHECK_NULL(largest);
}

TEST_LIMIT(account_is_never_a_byte_above_its_limit, 300)
{
	struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = 64}, {.bytes = 256}, {.bytes = 1024},
		{.bytes = 4096}, {.bytes = 16384}},
	    .tier_count = 5,
	};
	struct model *m = calloc(1, sizeof(*m));
	size_t steps = test_count(1000000);

	CHECK_NOT_NULL(m);
	test_rng_init(&m->rng, test_seed());
	CHECK_EQ(weir_buffer_pool_create("model", &config, &m->pool), 0);
	level_init(m, 0, NULL);
	for (size_t i = 0; i < GROUPS; i++)
		level_init(m, 1 + i, &m->level[0]);
	for (size_t i = 0; i < CONNS; i++)
		level_init(m, 1 + GROUPS + i, &m->level[1 + i % GROUPS]);
	for (size_t i = 0; i < steps; i++) {
		size_t dice = below(m, 1000);

		if (m->count == 0 || (dice < 450 && m->count < HELD_MAX))
			i % 16 == 0 ? do_charge(m) : do_acquire(m);
		else if (dice < 500)
			do_move(m);
		else if (dice == 999)
			do_limit(m);
		else if (dice >= 994)
			do_largest(m);
		else
			do_release(m);
		if (i % 8192 == 0) {
			CHECK(weir_account_check(&m->level[0].account));
			CHECK(weir_buffer_pool_check(m->pool));
		}
	}
	CHECK_GT(m->served, 0);
	CHECK_GT(m->refused, 0);
	CHECK_GT(m->out_of_memory, 0);
	while (m->count > 0)
		do_release(m);
	for (size_t i = LEVELS; i-- > 0;)
		weir_account_finish(&m->level[i].account);
	weir_buffer_pool_destroy(m->pool);
	free(m);
}

/* ---- threads ------------------------------------------------------------- */

#define THREADS 3

struct shared {
	struct weir_buffer_pool *pool;
	struct level process, group[2], conn[4];
	uint32_t working; /* atomic */
};

static void
shared_look(struct shared *shared)
{
	const struct level *all[] = {&shared->process, &shared->group[0],
	    &shared->group[1], &shared->conn[0], &shared->conn[1],
	    &shared->conn[2], &shared->conn[3]};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		CHECK_LE(used(all[i]), all[i]->limit);
}

static void
shared_run(unsigned index, void *context)
{
	struct shared *shared = context;
	struct weir_buffer *held[32] = {NULL};
	struct test_rng rng;

	if (index == THREADS) { /* looks on */
		while (__atomic_load_n(&shared->working, __ATOMIC_RELAXED) > 0)
			shared_look(shared);
		return;
	}
	test_rng_init(&rng, test_seed() * 13 + index);
	for (size_t i = test_count(150000); i > 0; i--) {
		size_t at = test_rand_below(&rng, 32);
		struct level *level = &shared->conn[test_rand_below(&rng, 4)];

		weir_buffer_release(held[at]);
		held[at] = weir_buffer_acquire_for(shared->pool,
		    &(struct weir_buffer_want){
			.bytes = (size_t)64 << test_rand_below(&rng, 6),
			.account = &level->account,
			.use = (enum weir_buffer_use)test_rand_below(&rng, 3)});
		CHECK_LE(used(level), level->limit);
	}
	for (size_t at = 0; at < 32; at++)
		weir_buffer_release(held[at]);
	__atomic_fetch_sub(&shared->working, 1, __ATOMIC_RELAXED);
}

static void
shared_level(struct level *level, struct level *parent, uint64_t limit)
{
	level->parent = parent;
	level->limit = limit;
	CHECK_EQ(weir_account_init(&level->account,
		     &(struct weir_account_config){
			 .parent = parent == NULL ? NULL : &parent->account,
			 .limit_bytes = limit}),
	    0);
}

TEST_LIMIT(account_of_many_threads_is_never_above_its_limit, 300)
{
	static struct shared shared;

	CHECK_EQ(weir_buffer_pool_create("model", NULL, &shared.pool), 0);
	shared.working = THREADS;
	shared_level(&shared.process, NULL, 30000);
	shared_level(&shared.group[0], &shared.process, 21001);
	shared_level(&shared.group[1], &shared.process, 16999);
	for (size_t i = 0; i < 4; i++)
		shared_level(
		    &shared.conn[i], &shared.group[i % 2], 9000 + 1111 * i);
	test_threads(THREADS + 1, shared_run, &shared);
	shared_look(&shared);
	CHECK_EQ(used(&shared.process), 0);
	for (size_t i = 0; i < 4; i++)
		weir_account_finish(&shared.conn[i].account);
	for (size_t i = 0; i < 2; i++)
		weir_account_finish(&shared.group[i].account);
	weir_account_finish(&shared.process.account);
	weir_buffer_pool_destroy(shared.pool);
}
