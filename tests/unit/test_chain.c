/* SPDX-License-Identifier: MIT */
/*
 * test_chain.c - chains of slices against a plain array of bytes; and what is
 * copied out because it pins too much.
 */
#include "buffer_common.h"

#include <weir/buffer_limit.h>
#include <weir/buffer_watch.h>
#include <weir/chain.h>
#include <weir/guard.h>

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static struct weir_slice
text_slice(struct weir_buffer_pool *pool, const char *text)
{
	struct weir_buffer *b = weir_buffer_acquire(pool, 200);

	memcpy(b->data + 50, text, strlen(text));
	return weir_slice_make(b, 50, strlen(text));
}

static size_t
in_use(struct weir_buffer_pool *pool)
{
	size_t sum = 0;

	for (size_t t = 0; t < weir_buffer_pool_tier_count(pool); t++)
		sum += tier_stats(pool, t).in_use;
	return sum;
}

TEST(chain_goes_out_as_one_message)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_chain chain;
	struct weir_wsabuf wsa[8];
	struct iovec iov[8];
	char read_back[64] = "";
	int fd[2];

	weir_chain_init(&chain, pool);
	CHECK(weir_chain_append(&chain, text_slice(pool, "hello")));
	CHECK(weir_chain_append(&chain, (struct weir_slice){0}));
	CHECK(weir_chain_append(&chain, text_slice(pool, ", ")));
	CHECK(weir_chain_append(&chain, text_slice(pool, "world")));
	CHECK_EQ(chain.bytes, 12);
	CHECK_EQ(chain.count, 3);
	memcpy(weir_chain_prepend_bytes(&chain, 4), "say ", 4);
	CHECK_EQ(chain.count, 3); /* in the room before the first */
	CHECK_EQ(weir_chain_iovec(&chain, iov, 2), 2);
	CHECK_EQ(weir_chain_iovec(&chain, iov, 8), 3);
	CHECK_EQ(weir_chain_wsabuf(&chain, wsa, 8), 3);
	for (int i = 0; i < 3; i++) {
		CHECK_PTR(wsa[i].data, iov[i].iov_base);
		CHECK_EQ(wsa[i].bytes, iov[i].iov_len);
	}
	CHECK_EQ(pipe(fd), 0);
	CHECK_EQ(writev(fd[1], iov, 3), 16);
	CHECK_EQ(read(fd[0], read_back, sizeof(read_back)), 16);
	CHECK_STR(read_back, "say hello, world");
	weir_chain_consume(&chain, 10); /* ends inside a slice */
	CHECK_EQ(chain.count, 2);
	CHECK_EQ(weir_chain_iovec(&chain, iov, 8), 2);
	CHECK_EQ(iov[0].iov_len, 1);
	CHECK_MEM(iov[0].iov_base, " ", 1);
	weir_chain_clear(&chain);
	CHECK_EQ(chain.bytes, 0);
	CHECK_EQ(in_use(pool), 0);
	close(fd[0]);
	close(fd[1]);
	pool_end(pool);
}

TEST(chain_does_not_write_before_what_others_hold)
{
	static unsigned char constant[] = "static text";
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_buffer fixed;
	struct weir_chain chain;
	struct weir_slice body = text_slice(pool, "body");

	memset(body.buffer->data, '#', 50);
	weir_chain_init(&chain, pool);
	CHECK(weir_chain_append(&chain, weir_slice_retain(body)));
	memcpy(weir_chain_prepend_bytes(&chain, 5), "head:", 5);
	CHECK_EQ(chain.count, 2);
	CHECK(all_bytes(body.buffer->data, 50, '#'));
	/* The new front has room: many headers, one buffer. */
	memcpy(
	    weir_chain_prepend_bytes(&chain, 20), "twenty bytes of text", 20);
	CHECK_EQ(chain.count, 2);
	weir_chain_clear(&chain);
	weir_slice_release(&body);

	weir_buffer_init_external(
	    &fixed, constant, sizeof(constant) - 1, NULL, NULL);
	CHECK(weir_chain_append(
	    &chain, weir_slice_retain(weir_slice_make(&fixed, 7, 4))));
	CHECK_NOT_NULL(weir_chain_prepend_bytes(&chain, 3));
	CHECK_EQ(chain.count, 2);
	CHECK_STR((char *)constant, "static text");
	weir_chain_clear(&chain);
	CHECK_EQ(weir_buffer_references(&fixed), 1);
	CHECK_EQ(in_use(pool), 0);
	pool_end(pool);
}

/* ---- against an array ---------------------------------------------------- */

struct twin {
	struct test_rng rng;
	struct weir_buffer_pool *pool;
	struct weir_chain chain[2];
	unsigned char bytes[2][1 << 16];
	size_t count[2];
	uint64_t next; /* byte pattern */
};

static void
twin_verify(struct twin *twin, size_t at)
{
	static struct weir_slice slices[4096];
	const struct weir_chain *chain = &twin->chain[at];
	size_t count = weir_chain_slices(chain, slices, 4096), seen = 0;

	CHECK_EQ(count, chain->count);
	CHECK_EQ(chain->bytes, twin->count[at]);
	for (size_t i = 0; i < count; i++) {
		CHECK_GT(slices[i].bytes, 0);
		CHECK_MEM(weir_slice_data(slices[i]), &twin->bytes[at][seen],
		    slices[i].bytes);
		seen += slices[i].bytes;
	}
	CHECK_EQ(seen, twin->count[at]);
}

static void
twin_append(struct twin *twin, size_t at)
{
	size_t bytes = test_rand_below(&twin->rng, 12);
	size_t offset = test_rand_below(&twin->rng, 20);
	struct weir_buffer *b = weir_buffer_acquire(twin->pool, 64);

	for (size_t i = 0; i < bytes; i++)
		twin->bytes[at][twin->count[at]++] = b->data[offset + i] =
		    (unsigned char)twin->next++;
	CHECK(weir_chain_append(
	    &twin->chain[at], weir_slice_make(b, offset, bytes)));
}

static void
twin_prepend(struct twin *twin, size_t at)
{
	uint32_t bytes = 1 + (uint32_t)test_rand_below(&twin->rng, 9);
	unsigned char *into = weir_chain_prepend_bytes(&twin->chain[at], bytes);

	memmove(&twin->bytes[at][bytes], twin->bytes[at], twin->count[at]);
	twin->count[at] += bytes;
	for (size_t i = 0; i < bytes; i++)
		twin->bytes[at][i] = into[i] = (unsigned char)twin->next++;
}

static void
twin_consume(struct twin *twin, size_t at)
{
	size_t most = twin->count[at];
	size_t bytes = test_rand_below(&twin->rng,
	    1 + (test_rand_below(&twin->rng, 4) == 0 ? most : most / 8));

	weir_chain_consume(&twin->chain[at], bytes);
	twin->count[at] -= bytes;
	memmove(twin->bytes[at], &twin->bytes[at][bytes], twin->count[at]);
}

static void
twin_join(struct twin *twin)
{
	CHECK(weir_chain_append_chain(&twin->chain[0], &twin->chain[1]));
	memcpy(&twin->bytes[0][twin->count[0]], twin->bytes[1], twin->count[1]);
	twin->count[0] += twin->count[1];
	twin->count[1] = 0;
}

TEST(chain_is_what_an_array_of_bytes_is)
{
	static struct twin twin;

	test_rng_init(&twin.rng, test_seed());
	twin.pool = pool_make(NULL);
	weir_chain_init(&twin.chain[0], twin.pool);
	weir_chain_init(&twin.chain[1], twin.pool);
	for (size_t i = 0; i < test_count(60000); i++) {
		size_t at = test_rand_below(&twin.rng, 2);
		size_t dice = test_rand_below(&twin.rng, 100);

		/* Waves of up to some hundred slices. */
		if (dice < (i / 512 % 2 == 0 ? 70 : 20) &&
		    twin.count[at] < 8000)
			twin_append(&twin, at);
		else if (dice < 80 && twin.count[at] < 8000)
			twin_prepend(&twin, at);
		else if (dice == 99 && twin.count[0] < 8000)
			twin_join(&twin);
		else
			twin_consume(&twin, at);
		if (i % 16 == 0)
			twin_verify(&twin, at);
	}
	for (size_t at = 0; at < 2; at++) {
		twin_verify(&twin, at);
		while (twin.chain[at].count > 0) {
			struct weir_slice s = weir_chain_take(&twin.chain[at]);

			CHECK_NOT_NULL(s.buffer);
			weir_slice_release(&s);
		}
		CHECK_NULL(weir_chain_take(&twin.chain[at]).buffer);
	}
	CHECK_EQ(in_use(twin.pool), 0);
	pool_end(twin.pool);
}

TEST(chain_without_memory_for_a_node_is_as_it_was)
{
	struct weir_buffer_pool *pool =
	    pool_make(&(struct weir_buffer_pool_config){
		.tier = {{.bytes = 64}, {.bytes = 512, .limit = 1}},
		.tier_count = 2});
	struct weir_chain chain, other;
	struct weir_slice last;
	size_t count = 0;

	weir_chain_init(&chain, pool);
	for (;;) {
		last = weir_slice_make(weir_buffer_acquire(pool, 1), 0, 1);
		if (!weir_chain_append(&chain, last))
			break;
		count++;
	}
	CHECK_EQ(count, WEIR_CHAIN_INLINE + 30);
	CHECK_EQ(chain.count, count);
	weir_chain_init(&other, pool);
	CHECK(weir_chain_append(&other, last));
	CHECK(!weir_chain_append_chain(&chain, &other));
	CHECK_EQ(other.count, 1);
	CHECK_EQ(chain.count, count);
	/* No place in front either, but room before nobody's bytes. */
	CHECK_NULL(weir_chain_prepend_bytes(&chain, 9));
	CHECK_EQ(chain.bytes, count);
	weir_chain_consume(&chain, 1);
	CHECK_NOT_NULL(weir_chain_prepend_bytes(&chain, 9));
	EXPECT_ABORT("bad-argument: chain: ",
	    weir_chain_consume(&chain, chain.bytes + 1));
	weir_chain_clear(&chain);
	weir_chain_clear(&other);
	CHECK_EQ(in_use(pool), 0);
	pool_end(pool);
}

/* ---- what slices pin ----------------------------------------------------- */

TEST(slice_that_pins_too_much_is_copied_out)
{
	/* It reads what was released. */
	CHECK_EQ(weir_guard_set(&(struct weir_guard_config){0}), 0);

	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_compact_rule rule = {.pool = pool};
	struct weir_buffer *b = weir_buffer_acquire(pool, 8192);
	struct weir_slice small = weir_slice_retain(weir_slice_make(b, 8, 100));
	struct weir_slice large;

	memset(b->data, 0x31, b->bytes);
	large = weir_slice_make(b, 100, 4000);
	weir_buffer_set_wipe(b);
	CHECK_EQ(weir_slice_compact(&large, &rule), 0);
	CHECK_PTR(large.buffer, b);
	CHECK_EQ(weir_slice_compact(&small, &rule), 8192 - 512);
	CHECK_EQ(small.buffer->bytes, 512);
	CHECK_EQ(small.bytes, 100);
	CHECK(all_bytes(weir_slice_data(small), 100, 0x31));
	CHECK_EQ(weir_buffer_references(b), 1);
	/* As small as can be. */
	CHECK_EQ(weir_slice_compact(&small, &rule), 0);
	/* What was secret stays so. */
	unsigned char *copy = small.buffer->data;

	weir_slice_release(&small);
	CHECK(all_bytes(copy, 100, 0));
	/* 2100 of 8192 is more than a quarter, and less than a half; both need
	 * the same tier. */
	rule.share = 2;
	large.bytes = 2100;
	CHECK_EQ(weir_slice_compact(&large, &rule), 0);
	large.bytes = 2040;
	CHECK_EQ(weir_slice_compact(&large, &rule), 8192 - 2048);
	weir_slice_release(&large);
	CHECK_EQ(in_use(pool), 0);
	pool_end(pool);
}

TEST(slice_that_is_old_is_copied_out)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_account account;
	struct weir_compact_rule rule = {.pool = pool,
	    .account = &account,
	    .older_ns = UINT64_C(3600000000000)};
	struct weir_chain chain;
	struct timespec time = {.tv_nsec = 100000000};

	CHECK_EQ(weir_account_init(&account,
		     &(struct weir_account_config){.limit_bytes = 2048}),
	    0);
	weir_chain_init(&chain, pool);
	weir_buffer_pool_tick(pool);
	for (int i = 0; i < 3; i++)
		CHECK(weir_chain_append(
		    &chain, weir_slice_make(
				weir_buffer_acquire(pool, 8192), 0, 2048 - 4)));
	CHECK_EQ(chain.bytes, 3 * 2044);
	rule.share = 1000;
	CHECK_EQ(weir_chain_compact(&chain, &rule), 0);
	nanosleep(&time, NULL);
	rule.older_ns = 60000000;
	/* The account has room for one copy. */
	CHECK_EQ(weir_chain_compact(&chain, &rule), 6144);
	weir_account_set_limit(&account, 0);
	CHECK_EQ(weir_chain_compact(&chain, &rule), 2 * 6144);
	CHECK_EQ(chain.bytes, 3 * 2044);
	CHECK_EQ(tier_stats(pool, 3).in_use, 0);
	CHECK_EQ(tier_stats(pool, 2).in_use, 3);
	weir_chain_clear(&chain);
	weir_account_finish(&account);
	pool_end(pool);
}
