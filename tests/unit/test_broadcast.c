/* SPDX-License-Identifier: MIT */
/*
 * test_broadcast.c - one message to many receivers, fast, slow, failing.
 *
 * A receiver of the tests is a pipe with room for so many bytes; what goes in is
 * kept and compared.  Message i of `bytes` bytes is the byte i, all over.
 */
#include "buffer_common.h"

#include <weir/broadcast.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct pipe_end {
	struct weir_broadcast *broadcast;
	uint32_t number;
	uint32_t room;
	bool there;
	bool fails;
	bool greedy; /* says that it is ready while it is sent to */
	enum weir_receiver_end end;
	unsigned ends;
	/* What came: whole messages, by their byte, and a begun one. */
	unsigned char got[4096];
	size_t messages;
	uint32_t begun;
	unsigned char begun_value;
};

static uint32_t message_bytes = 100;

static uint32_t
pipe_send(void *user, struct weir_slice slice, void *context)
{
	struct pipe_end *pipe = user;
	const unsigned char *data = weir_slice_data(slice);
	uint32_t taken = slice.bytes < pipe->room ? slice.bytes : pipe->room;

	CHECK_PTR(context, &message_bytes);
	CHECK_EQ(slice.bytes + pipe->begun, message_bytes);
	CHECK(all_bytes(data, slice.bytes, data[0]));
	if (pipe->fails)
		return WEIR_SEND_FAILED;
	if (pipe->begun > 0)
		CHECK_EQ(data[0], pipe->begun_value);
	pipe->begun_value = data[0];
	pipe->begun += taken;
	pipe->room -= taken;
	if (pipe->begun == message_bytes) {
		pipe->got[pipe->messages++] = data[0];
		pipe->begun = 0;
	}
	if (pipe->greedy && taken < slice.bytes) {
		pipe->room += 30;
		weir_broadcast_ready(pipe->broadcast, pipe->number);
	}
	return taken;
}

static void
pipe_end(void *user, enum weir_receiver_end end, void *context)
{
	struct pipe_end *pipe = user;

	CHECK_PTR(context, &message_bytes);
	pipe->there = false;
	pipe->end = end;
	pipe->ends++;
}

static struct weir_broadcast *
broadcast_make(enum weir_slow_policy policy, uint32_t limit, uint64_t bytes)
{
	struct weir_broadcast *b;

	CHECK_EQ(weir_broadcast_create(
		     &(struct weir_broadcast_config){.send = pipe_send,
			 .end = pipe_end,
			 .context = &message_bytes,
			 .policy = policy,
			 .limit_messages = limit,
			 .limit_bytes = bytes},
		     &b),
	    0);
	return b;
}

static void
join(struct weir_broadcast *b, struct pipe_end *pipe, uint32_t room)
{
	memset(pipe, 0, sizeof(*pipe));
	pipe->broadcast = b;
	pipe->room = room;
	pipe->there = true;
	CHECK_EQ(weir_broadcast_join(b, pipe, &pipe->number), 0);
}

static void
publish(struct weir_broadcast *b, struct weir_buffer_pool *pool, unsigned value)
{
	struct weir_buffer *buffer = weir_buffer_acquire(pool, message_bytes);

	memset(buffer->data, (int)value, message_bytes);
	CHECK_EQ(weir_broadcast_publish(
		     b, weir_slice_make(buffer, 0, message_bytes)),
	    0);
	CHECK(weir_broadcast_check(b));
}

static struct weir_broadcast_figures
figures(const struct weir_broadcast *b)
{
	struct weir_broadcast_figures out = {.size = sizeof(out)};

	CHECK_EQ(weir_broadcast_stats(b, &out), 0);
	return out;
}

TEST(broadcast_is_one_payload_for_all)
{
	enum { COUNT = 1000 };
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_broadcast *b = broadcast_make(WEIR_SLOW_SKIP, 0, 0);
	struct pipe_end *pipe = calloc(COUNT, sizeof(*pipe));

	for (size_t i = 0; i < COUNT; i++)
		join(b, &pipe[i], i % 2 == 0 ? 1000000 : 150);
	for (unsigned m = 0; m < 5; m++)
		publish(b, pool, m);
	/* The slow half has 1 and a half; 4 messages wait, counted once. */
	CHECK_EQ(figures(b).messages, 4);
	CHECK_EQ(tier_stats(pool, 1).in_use, 4);
	CHECK_EQ(figures(b).receivers, COUNT);
	CHECK_LE(figures(b).receiver_bytes, 1024 * 32);
	for (size_t i = 0; i < COUNT; i++) {
		CHECK_EQ(pipe[i].messages, i % 2 == 0 ? 5 : 1);
		CHECK_EQ(pipe[i].begun, i % 2 == 0 ? 0 : 50);
	}
	for (size_t i = 1; i < COUNT; i += 2) {
		pipe[i].room = 1000;
		weir_broadcast_ready(b, pipe[i].number);
		CHECK_EQ(pipe[i].messages, 5);
		CHECK_MEM(pipe[i].got, "\0\1\2\3\4", 5);
	}
	CHECK_EQ(figures(b).messages, 0);
	CHECK_EQ(figures(b).skipped, 0);
	CHECK_EQ(tier_stats(pool, 1).in_use, 0);
	weir_broadcast_destroy(b);
	free(pipe);
	pool_end(pool);
}

TEST(broadcast_skips_for_the_slow_but_never_cuts_a_message)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_broadcast *b = broadcast_make(WEIR_SLOW_SKIP, 2, 0);
	struct pipe_end fast, stuck, middle;

	join(b, &fast, 100000);
	join(b, &stuck, 0);
	join(b, &middle, 30);
	for (unsigned m = 1; m <= 9; m++)
		publish(b, pool, m);
	CHECK_EQ(fast.messages, 9);
	CHECK_LE(figures(b).messages, 2);
	CHECK_EQ(figures(b).rests, 1);
	CHECK_LE(tier_stats(pool, 1).in_use, 3);
	stuck.room = middle.room = 1000;
	weir_broadcast_ready(b, stuck.number);
	weir_broadcast_ready(b, middle.number);
	/* Old enough that only the last ones are left. */
	CHECK_GE(stuck.messages, 1);
	CHECK_LE(stuck.messages, 2);
	CHECK_EQ(stuck.got[stuck.messages - 1], 9);
	CHECK_EQ(middle.messages, 2);
	CHECK_MEM(middle.got, "\1\11", 2);
	CHECK_EQ(figures(b).skipped, 7 + (9 - stuck.messages));
	CHECK_EQ(figures(b).rests, 0);
	CHECK_EQ(figures(b).messages, 0);
	CHECK_EQ(tier_stats(pool, 1).in_use, 0);
	CHECK_EQ(fast.ends + stuck.ends + middle.ends, 0);
	weir_broadcast_destroy(b);
	pool_end(pool);
}

TEST(broadcast_closes_the_slow)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_broadcast *b = broadcast_make(WEIR_SLOW_CLOSE, 0, 1024);
	struct pipe_end fast, slow, late;

	join(b, &fast, 100000);
	join(b, &slow, 50);
	publish(b, pool, 1);
	join(b, &late, 100); /* gets 2, and not 3 */
	publish(b, pool, 2);
	CHECK_EQ(slow.ends, 0);
	CHECK_EQ(figures(b).bytes_pinned, 1024);
	publish(b, pool, 3);
	CHECK_EQ(slow.ends, 1);
	CHECK_EQ(slow.end, WEIR_RECEIVER_SLOW);
	CHECK(late.there);
	CHECK_EQ(figures(b).closed, 1);
	CHECK_EQ(figures(b).receivers, 2);
	CHECK_EQ(figures(b).messages, 1);
	late.room = 100;
	weir_broadcast_ready(b, late.number);
	CHECK_MEM(late.got, "\2\3", 2);
	EXPECT_ABORT(
	    "bad-argument: broadcast: ", weir_broadcast_ready(b, slow.number));
	weir_broadcast_destroy(b);
	CHECK_EQ(tier_stats(pool, 1).in_use, 0);
	pool_end(pool);
}

TEST(broadcast_gives_up_who_fails_and_goes_on)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_broadcast *b = broadcast_make(WEIR_SLOW_SKIP, 0, 0);
	struct pipe_end pipe[5];

	for (size_t i = 0; i < 5; i++)
		join(b, &pipe[i], 100000);
	pipe[0].fails = pipe[2].fails = pipe[4].fails = true;
	publish(b, pool, 1);
	for (size_t i = 0; i < 5; i++) {
		CHECK_EQ(pipe[i].ends, i % 2 == 0);
		CHECK_EQ(pipe[i].messages, i % 2);
	}
	CHECK_EQ(pipe[2].end, WEIR_RECEIVER_FAILED);
	weir_broadcast_leave(b, pipe[1].number);
	publish(b, pool, 2);
	CHECK_EQ(pipe[1].messages, 1);
	CHECK_EQ(pipe[3].messages, 2);
	weir_broadcast_leave(b, pipe[3].number);
	publish(b, pool, 3);
	CHECK_EQ(figures(b).published, 3);
	CHECK_EQ(tier_stats(pool, 1).in_use, 0);
	weir_broadcast_destroy(b);
	pool_end(pool);
}

TEST(broadcast_ready_inside_the_driver_goes_on)
{
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_broadcast *b = broadcast_make(WEIR_SLOW_SKIP, 0, 0);
	struct pipe_end pipe;

	join(b, &pipe, 10);
	pipe.greedy = true;
	publish(b, pool, 1);
	pipe.room = 10;
	publish(b, pool, 2);
	CHECK_MEM(pipe.got, "\1\2", 2);
	/* Ready, but it takes nothing: not for ever. */
	pipe.greedy = false;
	pipe.room = 0;
	publish(b, pool, 3);
	CHECK_EQ(pipe.messages, 2);
	weir_broadcast_destroy(b);
	CHECK_EQ(tier_stats(pool, 1).in_use, 0);
	weir_broadcast_destroy(NULL);
	pool_end(pool);
}

TEST(broadcast_that_makes_no_sense_is_refused)
{
	struct weir_broadcast *b = (struct weir_broadcast *)&b;

	CHECK_EQ(weir_broadcast_create(
		     &(struct weir_broadcast_config){.send = NULL}, &b),
	    -EINVAL);
	CHECK_NULL(b);
	CHECK_EQ(weir_broadcast_create(
		     &(struct weir_broadcast_config){
			 .send = pipe_send, .policy = (enum weir_slow_policy)2},
		     &b),
	    -EINVAL);
}

/* Random receivers against what each must have got: in order, whole, and under
 * WEIR_SLOW_CLOSE with nothing left out. */
static void
random_run(enum weir_slow_policy policy)
{
	enum { COUNT = 60 };
	static struct pipe_end pipe[COUNT];
	struct weir_buffer_pool *pool = pool_make(NULL);
	struct weir_broadcast *b = broadcast_make(policy, 8, 0);
	struct test_rng rng;
	uint64_t lost = 0, slow = 0;

	test_rng_init(&rng, test_seed());
	memset(pipe, 0, sizeof(pipe));
	for (size_t i = 0; i < test_count(20000); i++) {
		struct pipe_end *p = &pipe[test_rand_below(&rng, COUNT)];

		switch (test_rand_below(&rng, 8)) {
		case 0:
			publish(b, pool, (unsigned)figures(b).published + 1);
			break;
		case 1:
			if (!p->there) {
				slow +=
				    p->ends > 0 && p->end == WEIR_RECEIVER_SLOW;
				join(b, p, 0);
				p->begun_value = 0;
			} else if (test_rand_below(&rng, 8) == 0) {
				weir_broadcast_leave(b, p->number);
				p->there = false;
				p->ends = 0;
			} else if (test_rand_below(&rng, 8) == 0) {
				p->fails = true;
			}
			break;
		default:
			if (!p->there)
				break;
			p->room += (uint32_t)test_rand_below(&rng, 400);
			weir_broadcast_ready(b, p->number);
			break;
		}
		for (size_t m = 1; m < p->messages; m++) {
			unsigned char gap =
			    (unsigned char)(p->got[m] - p->got[m - 1]);

			CHECK_GT(gap, 0);
			lost += gap - 1;
		}
		/* Keep the last, which the next is compared with. */
		if (p->messages > 1) {
			p->got[0] = p->got[p->messages - 1];
			p->messages = 1;
		}
		CHECK_LE(figures(b).messages, 8);
		CHECK_LE(figures(b).rests, COUNT);
		CHECK_EQ(tier_stats(pool, 1).in_use,
		    figures(b).messages + figures(b).rests);
	}
	for (size_t i = 0; i < COUNT; i++)
		slow += pipe[i].ends > 0 && !pipe[i].there &&
			pipe[i].end == WEIR_RECEIVER_SLOW;
	CHECK_EQ(slow, figures(b).closed);
	if (policy == WEIR_SLOW_CLOSE) {
		CHECK_EQ(lost, 0);
		CHECK_GT(figures(b).closed, 0);
	} else {
		CHECK_GT(lost, 0);
		CHECK_LE(lost, figures(b).skipped);
	}
	weir_broadcast_destroy(b);
	CHECK_EQ(tier_stats(pool, 1).in_use, 0);
	pool_end(pool);
}

TEST(broadcast_random_receivers_with_skipping)
{
	random_run(WEIR_SLOW_SKIP);
}

TEST(broadcast_random_receivers_with_closing)
{
	random_run(WEIR_SLOW_CLOSE);
}
