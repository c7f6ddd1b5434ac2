/* SPDX-License-Identifier: MIT */
/*
 * test_net.c - the engine in this process, driven over loopback.
 */
#include "net/peers.h"
#include "net_common.h"

/* ---- echo ------------------------------------------------------------ */

TEST(net_echo_from_pools)
{
	struct rig rig;
	struct weir_net_figures stats;

	rig_start(&rig, NULL, &echo_handlers);
	echo_client(&rig);
	WAIT_FOR(rig_stats(&rig).connections == 0);
	stats = rig_stats(&rig);
	CHECK_EQ(stats.accepted, 1);
	CHECK_EQ(stats.closed[WEIR_CLOSE_PEER], 1);
	CHECK_EQ(stats.bytes_received, stats.bytes_sent);
	if (getenv("WEIR_TEST_BACKEND") != NULL)
		CHECK_STR(
		    weir_net_backend(rig.net), getenv("WEIR_TEST_BACKEND"));
	rig_end(&rig);
}

TEST(net_echo_from_callers_memory)
{
	struct weir_net_config config = {.memory = &memory};
	struct rig rig;

	rig_start(&rig, &config, &echo_handlers);
	echo_client(&rig);
	rig_end(&rig);
	CHECK_GT(memory_calls, 0);
}

TEST(net_two_loops_share_an_engine)
{
	struct rig rigs[2];
	struct weir_listen_config listen = {.handlers = echo_handlers};
	struct weir_listener *listener;

	rig_net_create(&rigs[0], NULL);
	for (int i = 0; i < 2; i++) {
		rigs[i].net = rigs[0].net;
		CHECK_EQ(weir_loop_create(rigs[i].net, &rigs[i].loop), 0);
		listen.shared = true;
		CHECK_EQ(weir_listen(rigs[i].loop, &listen, &listener), 0);
		rigs[i].port = weir_listener_port(listener);
		listen.port = rigs[i].port;
		CHECK_EQ(
		    pthread_create(&rigs[i].thread, NULL, rig_thread, &rigs[i]),
		    0);
	}
	test_threads(8, echo_many, &rigs[0]);
	CHECK_EQ(rig_stats(&rigs[0]).accepted, 8);
	for (int i = 0; i < 2; i++) {
		weir_loop_stop(rigs[i].loop, 1000);
		CHECK_EQ(pthread_join(rigs[i].thread, NULL), 0);
		weir_loop_destroy(rigs[i].loop);
	}
	check_nothing_out();
	weir_net_destroy(rigs[0].net);
}

/* ---- sends ----------------------------------------------------------- */

#define SENDS 40

struct sends {
	size_t order[2 * SENDS];
	int status[2 * SENDS];
	size_t count;
	int closed; /* atomic: 1 + reason */
	bool abort;
};

static void
sends_reported(struct weir_conn *conn, void *context, int status)
{
	struct sends *sends = weir_conn_context(conn);

	CHECK_EQ(__atomic_load_n(&sends->closed, __ATOMIC_RELAXED), 0);
	CHECK_LT(sends->count, 2 * SENDS);
	sends->order[sends->count] = (size_t)(uintptr_t)context;
	sends->status[sends->count++] = status;
}

static void
sends_closed(struct weir_conn *conn, enum weir_close_reason reason)
{
	struct sends *sends = weir_conn_context(conn);

	__atomic_store_n(&sends->closed, 1 + (int)reason, __ATOMIC_RELEASE);
}

/* Send i has i % 5 + 1 slices of 0, 1, ... bytes, all cut from one buffer. */
static void
sends_data(struct weir_conn *conn, struct weir_slice slice)
{
	struct sends *sends = weir_conn_context(conn);
	uint32_t offset = 0;

	for (size_t i = 0; i < SENDS; i++) {
		struct weir_slice cut[5];
		uint32_t count = (uint32_t)(i % 5) + 1;
		for (uint32_t k = 0; k < count; k++) {
			weir_buffer_retain(slice.buffer);
			cut[k] = (struct weir_slice){slice.buffer, offset, k};
			offset += k;
		}
		CHECK_EQ(
		    weir_conn_send(conn, cut, count, (void *)(uintptr_t)i), 0);
	}
	weir_buffer_release(slice.buffer);
	if (sends->abort)
		weir_conn_abort(conn, WEIR_CLOSE_LOCAL);
	else
		weir_conn_close(conn, WEIR_CLOSE_LOCAL);
	/* Too late, and the reference is gone all the same. */
	slice.buffer = weir_loop_buffer(weir_conn_loop(conn), 10);
	CHECK_NOT_NULL(slice.buffer);
	CHECK_EQ(weir_conn_send(conn, &slice, 1, NULL), -ESHUTDOWN);
}

static void
check_sends(struct sends *sends, int status)
{
	CHECK_EQ(sends->count, SENDS);
	for (size_t i = 0; i < SENDS; i++) {
		CHECK_EQ(sends->order[i], i);
		CHECK_EQ(sends->status[i], status);
	}
	CHECK_EQ(sends->closed, 1 + WEIR_CLOSE_LOCAL);
}

static void
run_sends(struct sends *sends)
{
	struct weir_handlers handlers = {
	    .on_data = sends_data,
	    .on_sent = sends_reported,
	    .on_close = sends_closed,
	    .context = sends,
	};
	struct rig rig;
	unsigned char data[160];
	int fd;

	rig_start(&rig, NULL, &handlers);
	fill(data, sizeof(data), 3);
	fd = client_connect(&rig);
	client_send(fd, data, sizeof(data));
	if (!sends->abort)
		client_expect(fd, data, sizeof(data));
	client_expect_end(fd);
	WAIT_FOR(__atomic_load_n(&sends->closed, __ATOMIC_ACQUIRE) != 0);
	rig_end(&rig);
}

TEST(net_close_sends_and_reports_in_order)
{
	struct sends sends = {.abort = false};

	run_sends(&sends);
	check_sends(&sends, 0);
}

TEST(net_abort_cancels_and_reports_in_order)
{
	struct sends sends = {.abort = true};

	run_sends(&sends);
	check_sends(&sends, -ECANCELED);
}

#define PUMP_ROUNDS 5000

static void
pump_next(struct weir_conn *conn, uintptr_t round)
{
	struct weir_slice slice = {
	    weir_loop_buffer(weir_conn_loop(conn), 100), 0, 100};

	CHECK_NOT_NULL(slice.buffer);
	memset(slice.buffer->data, (int)(round & 0x7f), 100);
	CHECK_EQ(weir_conn_send(conn, &slice, 1, (void *)round), 0);
}

static void
pump_sent(struct weir_conn *conn, void *context, int status)
{
	uintptr_t round = (uintptr_t)context;

	if (status != 0)
		return;
	if (round + 1 < PUMP_ROUNDS)
		pump_next(conn, round + 1);
	else
		weir_conn_close(conn, WEIR_CLOSE_LOCAL);
}

static void
pump_accept(struct weir_conn *conn)
{
	pump_next(conn, 0);
}

TEST(net_on_sent_may_send_again_and_starves_nobody)
{
	struct weir_handlers handlers = {
	    .on_accept = pump_accept,
	    .on_data = echo_data,
	    .on_sent = pump_sent,
	};
	struct rig rig;
	unsigned char data[100];
	int fd;

	rig_start(&rig, NULL, &handlers);
	fd = client_connect(&rig);
	for (int round = 0; round < PUMP_ROUNDS; round++) {
		memset(data, round & 0x7f, sizeof(data));
		client_expect(fd, data, sizeof(data));
	}
	client_expect_end(fd);
	rig_end(&rig);
}

/* ---- weir_conn_need -------------------------------------------------- */

static void
need_data(struct weir_conn *conn, struct weir_slice slice)
{
	/* Wants blocks of 1, 2, 3, ... bytes and sends each back by itself. */
	uintptr_t want = (uintptr_t)weir_conn_user(conn) + 1;

	while (slice.bytes >= want) {
		struct weir_slice block = slice;
		block.bytes = (uint32_t)want;
		weir_buffer_retain(block.buffer);
		CHECK_EQ(weir_conn_send(conn, &block, 1, NULL), 0);
		slice.offset += (uint32_t)want;
		slice.bytes -= (uint32_t)want;
		weir_conn_set_user(conn, (void *)want);
		want++;
	}
	if (slice.bytes == 0)
		weir_buffer_release(slice.buffer);
	else
		CHECK_EQ(weir_conn_need(conn, slice, (uint32_t)want), 0);
}

TEST(net_need_gathers_across_any_cut)
{
	struct weir_handlers handlers = {.on_data = need_data};
	struct weir_net_config config = {
	    .memory = &memory,
	    .receive_bytes_min = 64,
	    .receive_bytes_max = 4096,
	};
	size_t bytes = 300 * 301 / 2; /* blocks of 1 .. 300 */
	unsigned char *data = calloc(1, bytes);
	struct test_rng rng;
	struct rig rig;
	int fd;

	CHECK_NOT_NULL(data);
	test_rng_init(&rng, test_seed());
	fill(data, bytes, 1);
	rig_start(&rig, &config, &handlers);
	fd = client_connect(&rig);
	for (size_t at = 0; at < bytes;) {
		size_t piece = 1 + (size_t)test_rand_below(&rng, 700);
		if (piece > bytes - at)
			piece = bytes - at;
		client_send(fd, data + at, piece);
		if (test_rand_below(&rng, 4) == 0)
			usleep(200);
		at += piece;
	}
	client_expect(fd, data, bytes);
	close(fd);
	free(data);
	rig_end(&rig);
}

static void
need_wrong(struct weir_conn *conn, struct weir_slice slice)
{
	weir_buffer_retain(slice.buffer);
	CHECK_EQ(weir_conn_need(conn, slice, slice.bytes), -EINVAL);
	weir_buffer_retain(slice.buffer);
	CHECK_EQ(weir_conn_need(conn, slice, WEIR_NET_BUFFER_BYTES_MAX + 1),
	    -EINVAL);
	CHECK_EQ(weir_conn_send(conn, &slice, 0, NULL), -EINVAL);
	CHECK_EQ(weir_conn_send(conn, NULL, 0, NULL), -EINVAL);
	weir_conn_close(conn, WEIR_CLOSE_MALFORMED);
	CHECK_EQ(weir_conn_need(conn, slice, slice.bytes + 1), -ESHUTDOWN);
}

TEST(net_wrong_sizes_are_refused)
{
	struct weir_handlers handlers = {.on_data = need_wrong};
	struct rig rig;
	int fd;

	rig_start(&rig, NULL, &handlers);
	fd = client_connect(&rig);
	client_send(fd, "abc", 3);
	client_expect_end(fd);
	WAIT_FOR(rig_stats(&rig).closed[WEIR_CLOSE_MALFORMED] == 1);
	rig_end(&rig);
}

/* ---- slices that are kept -------------------------------------------- */

struct keep {
	struct weir_slice kept[16];
	size_t count;
};

/* Sends nothing before it has 16 slices, then all of them, newest first. */
static void
keep_data(struct weir_conn *conn, struct weir_slice slice)
{
	struct keep *keep = weir_conn_context(conn);

	CHECK_EQ(slice.bytes, 1);
	keep->kept[15 - keep->count++] = slice;
	if (keep->count == 16)
		CHECK_EQ(weir_conn_send(conn, keep->kept, 16, NULL), 0);
}

TEST(net_handler_may_keep_slices)
{
	struct keep keep = {.count = 0};
	struct weir_handlers handlers = {
	    .on_data = keep_data,
	    .context = &keep,
	};
	struct rig rig;
	int fd;

	rig_start(&rig, NULL, &handlers);
	fd = client_connect(&rig);
	for (int i = 0; i < 16; i++) {
		uint64_t before = rig_stats(&rig).receives;
		client_send(fd, &"abcdefghijklmnop"[i], 1);
		WAIT_FOR(rig_stats(&rig).receives == before + 1);
	}
	client_expect(fd, "ponmlkjihgfedcba", 16);
	close(fd);
	rig_end(&rig);
}

/* ---- tasks and timers ------------------------------------------------ */

#define POSTERS 4

struct post {
	struct weir_task task;
	size_t index;
};

struct posts {
	struct weir_loop *loop;
	struct post *posts;
	size_t count; /* of each poster */
	size_t next[POSTERS];
	size_t run; /* atomic */
};

static struct posts posts;

static void
post_run(struct weir_loop *loop, struct weir_task *task)
{
	struct post *post = task->context;
	size_t poster = post->index / posts.count;

	CHECK_PTR(loop, posts.loop);
	CHECK_EQ(post->index % posts.count, posts.next[poster]);
	posts.next[poster]++;
	__atomic_fetch_add(&posts.run, 1, __ATOMIC_RELEASE);
}

static void
post_all(unsigned index, void *context)
{
	(void)context;
	for (size_t i = 0; i < posts.count; i++) {
		struct post *post = &posts.posts[index * posts.count + i];
		post->index = index * posts.count + i;
		post->task.run = post_run;
		post->task.context = post;
		weir_loop_post(posts.loop, &post->task);
	}
}

TEST(net_tasks_run_once_and_in_order)
{
	struct rig rig;

	rig_start(&rig, NULL, &echo_handlers);
	posts.loop = rig.loop;
	posts.count = test_count(20000);
	posts.posts = calloc(POSTERS * posts.count, sizeof(*posts.posts));
	CHECK_NOT_NULL(posts.posts);
	test_threads(POSTERS, post_all, NULL);
	WAIT_FOR(__atomic_load_n(&posts.run, __ATOMIC_ACQUIRE) ==
		 POSTERS * posts.count);
	rig_end(&rig);
	CHECK_EQ(posts.run, POSTERS * posts.count);
	free(posts.posts);
}

TEST(net_tasks_left_run_at_destroy)
{
	struct rig rig;

	rig_create(&rig, NULL, &echo_handlers);
	posts.loop = rig.loop;
	posts.count = 10;
	posts.posts = calloc(posts.count, sizeof(*posts.posts));
	CHECK_NOT_NULL(posts.posts);
	post_all(0, NULL);
	weir_loop_destroy(rig.loop);
	CHECK_EQ(posts.run, 10);
	weir_net_destroy(rig.net);
	free(posts.posts);
}

struct chain {
	struct weir_task task;
	int left;
};

static void
chain_run(struct weir_loop *loop, struct weir_task *task)
{
	struct chain *chain = task->context;

	if (--chain->left > 0)
		weir_loop_post(loop, task);
}

TEST(net_tasks_posted_by_tasks_run_at_destroy)
{
	struct chain chain = {.left = 3};
	struct rig rig;

	chain.task.run = chain_run;
	chain.task.context = &chain;
	rig_create(&rig, NULL, &echo_handlers);
	weir_loop_post(rig.loop, &chain.task);
	weir_loop_destroy(rig.loop);
	CHECK_EQ(chain.left, 0);
	weir_net_destroy(rig.net);
}

#define TIMERS 500

static struct weir_timer timers[TIMERS];
static uint64_t timer_last_ns;
static size_t timer_expired_count;

static void
timer_expired(struct weir_loop *loop, struct weir_timer *timer)
{
	uint64_t *due_ns = timer->context;

	CHECK_NE(*due_ns, 0); /* not stopped, not expired before */
	CHECK_LE(*due_ns, weir_loop_now_ns(loop));
	CHECK_GE(*due_ns, timer_last_ns);
	timer_last_ns = *due_ns;
	*due_ns = 0;
	timer_expired_count++;
}

TEST(net_timers_expire_in_order)
{
	static uint64_t due_ns[TIMERS];
	struct test_rng rng;
	struct rig rig;
	size_t running = 0;

	test_rng_init(&rng, test_seed());
	rig_create(&rig, NULL, &echo_handlers);
	for (size_t i = 0; i < TIMERS; i++) {
		timers[i].expired = timer_expired;
		timers[i].context = &due_ns[i];
	}
	/* Starts, starts anew and stops at random, against an array. */
	for (int step = 0; step < 20000; step++) {
		size_t i = (size_t)test_rand_below(&rng, TIMERS);
		uint64_t delay_ns = test_rand_below(&rng, 20000000) + 1;
		if (test_rand_below(&rng, 3) == 0) {
			weir_timer_stop(rig.loop, &timers[i]);
			due_ns[i] = 0;
		} else {
			weir_timer_start(rig.loop, &timers[i], delay_ns);
			due_ns[i] = weir_loop_now_ns(rig.loop) + delay_ns;
		}
		CHECK_EQ(timers[i].due_ns, due_ns[i]);
	}
	for (size_t i = 0; i < TIMERS; i++)
		running += due_ns[i] != 0;
	CHECK_GT(running, 0);
	CHECK_EQ(pthread_create(&rig.thread, NULL, rig_thread, &rig), 0);
	usleep(60000);
	rig_end(&rig);
	CHECK_EQ(timer_expired_count, running);
	for (size_t i = 0; i < TIMERS; i++)
		CHECK_EQ(timers[i].due_ns, 0);
}

static void
timer_again(struct weir_loop *loop, struct weir_timer *timer)
{
	size_t *count = timer->context;

	if (++*count < 20)
		weir_timer_start(loop, timer, 0);
	else
		weir_loop_stop(loop, 0);
}

TEST(net_timer_may_start_itself_and_stop_the_loop)
{
	size_t count = 0;
	struct weir_timer timer = {.expired = timer_again, .context = &count};
	struct rig rig;

	rig_create(&rig, NULL, &echo_handlers);
	weir_timer_start(rig.loop, &timer, 0);
	CHECK_EQ(weir_loop_run(rig.loop), 0);
	CHECK_EQ(count, 20);
	weir_loop_destroy(rig.loop);
	weir_net_destroy(rig.net);
}

static void
timer_note(struct weir_loop *loop, struct weir_timer *timer)
{
	*(uint64_t *)timer->context = test_now_ns();
	weir_loop_stop(loop, 0);
}

TEST(net_timer_counts_from_its_start_before_the_loop_runs)
{
	uint64_t expired_ns = 0;
	struct weir_timer timer = {
	    .expired = timer_note,
	    .context = &expired_ns,
	};
	struct rig rig;
	uint64_t start_ns;

	rig_create(&rig, NULL, &echo_handlers);
	usleep(120000);
	start_ns = test_now_ns();
	weir_timer_start(rig.loop, &timer, 200000000);
	CHECK_EQ(weir_loop_run(rig.loop), 0);
	CHECK_GE(expired_ns - start_ns, 200000000);
	weir_loop_destroy(rig.loop);
	weir_net_destroy(rig.net);
}

/* ---- the hash of addresses ------------------------------------------- */

TEST(net_networks_of_one_owner_spread_over_the_buckets)
{
	enum { ROOM = 4096 };
	static uint8_t count[ROOM];

	/* Any two bytes of a key are the owner's to choose: of a /48, say. */
	for (unsigned shift = 0; shift <= 48; shift += 8) {
		unsigned most = 0;
		memset(count, 0, sizeof(count));
		for (uint64_t i = 0; i < ROOM; i++) {
			uint64_t key = 0x0120 | i << shift;
			unsigned at =
			    weiri_peers_hash(key, 0x123456789abcdef) % ROOM;
			if (++count[at] > most)
				most = count[at];
		}
		CHECK_LE(most, 16);
	}
}
