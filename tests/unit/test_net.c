/* SPDX-License-Identifier: MIT */
/*
 * test_net.c - the engine in this process, driven over loopback.
 *
 * Each test runs its loop on a thread and speaks to it with plain blocking
 * sockets, so that what is seen is what any client sees.  A rig brings its own
 * memory, which counts what is out and can fail at the n-th call.
 */
#include "net/peers.h"
#include "support/test.h"

#include <weir/net.h>
#include <weir/runtime.h>
#include <weir/stats.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- memory that counts and fails ------------------------------------ */

static int64_t memory_out;      /* atomic */
static int64_t memory_calls;    /* atomic */
static int64_t memory_fail_nth; /* 0: never */
static bool memory_no_buffers;  /* atomic */

static bool
memory_fails(void)
{
	int64_t call = __atomic_add_fetch(&memory_calls, 1, __ATOMIC_RELAXED);

	return call == memory_fail_nth;
}

static void
memory_release(struct weir_buffer *buffer, void *context)
{
	(void)context;
	__atomic_fetch_sub(&memory_out, 1, __ATOMIC_RELAXED);
	free(buffer);
}

static struct weir_buffer *
memory_acquire(size_t bytes, void *context)
{
	struct weir_buffer *buffer;

	(void)context;
	if (memory_fails() ||
	    __atomic_load_n(&memory_no_buffers, __ATOMIC_RELAXED))
		return NULL;
	buffer = malloc(sizeof(*buffer) + bytes);
	CHECK_NOT_NULL(buffer);
	__atomic_fetch_add(&memory_out, 1, __ATOMIC_RELAXED);
	weir_buffer_init_external(
	    buffer, buffer + 1, bytes, memory_release, NULL);
	return buffer;
}

static void *
memory_object(enum weir_net_object kind, size_t object_bytes, void *context)
{
	void *object;

	(void)kind;
	(void)context;
	if (memory_fails())
		return NULL;
	object = malloc(object_bytes);
	CHECK_NOT_NULL(object);
	__atomic_fetch_add(&memory_out, 1, __ATOMIC_RELAXED);
	return object;
}

static void
memory_object_free(enum weir_net_object kind, void *object, void *context)
{
	(void)kind;
	(void)context;
	__atomic_fetch_sub(&memory_out, 1, __ATOMIC_RELAXED);
	free(object);
}

static const struct weir_net_memory memory = {
    .buffer_acquire = memory_acquire,
    .object_alloc = memory_object,
    .object_free = memory_object_free,
};

/* ---- a rig: engine, loop, thread ------------------------------------- */

struct rig {
	struct weir_net *net;
	struct weir_loop *loop;
	uint16_t port;
	pthread_t thread;
};

static void *
rig_thread(void *argument)
{
	struct rig *rig = argument;

	CHECK_EQ(weir_loop_run(rig->loop), 0);
	return NULL;
}

/* The back end to test, or the engine's choice. */
static enum weir_net_backend
rig_backend(void)
{
	const char *name = getenv("WEIR_TEST_BACKEND");

	if (name == NULL)
		return WEIR_BACKEND_AUTO;
	if (strcmp(name, "epoll") == 0)
		return WEIR_BACKEND_EPOLL;
	CHECK_STR(name, "io_uring");
	return WEIR_BACKEND_IO_URING;
}

static void
rig_net_create(struct rig *rig, const struct weir_net_config *config)
{
	struct weir_net_config with_backend = {.backend = WEIR_BACKEND_AUTO};

	if (config != NULL)
		with_backend = *config;
	with_backend.backend = rig_backend();
	CHECK_EQ(weir_net_create(&with_backend, &rig->net), 0);
}

static void
rig_create(struct rig *rig, const struct weir_net_config *config,
    const struct weir_handlers *handlers)
{
	struct weir_listen_config listen = {.handlers = *handlers};
	struct weir_listener *listener;

	rig_net_create(rig, config);
	CHECK_EQ(weir_loop_create(rig->net, &rig->loop), 0);
	CHECK_EQ(weir_listen(rig->loop, &listen, &listener), 0);
	rig->port = weir_listener_port(listener);
}

static void
rig_start(struct rig *rig, const struct weir_net_config *config,
    const struct weir_handlers *handlers)
{
	rig_create(rig, config, handlers);
	CHECK_EQ(pthread_create(&rig->thread, NULL, rig_thread, rig), 0);
}

static struct weir_net_figures
rig_stats(struct rig *rig)
{
	struct weir_net_figures stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_net_stats(rig->net, &stats), 0);
	return stats;
}

/* Nothing may be out of a pool, nor of the memory above. */
static void
check_nothing_out(void)
{
	static struct weir_pool_stats pools[32];
	size_t count;

	pools[0].size = sizeof(pools[0]);
	count = weir_stats_pools(pools, 32);
	CHECK_LE(count, 32);
	for (size_t i = 0; i < count; i++)
		CHECK_EQ(pools[i].in_use, 0);
	CHECK_EQ(__atomic_load_n(&memory_out, __ATOMIC_RELAXED), 0);
}

static void
rig_end(struct rig *rig)
{
	struct weir_net_figures stats;

	weir_loop_stop(rig->loop, 5000);
	CHECK_EQ(pthread_join(rig->thread, NULL), 0);
	weir_loop_destroy(rig->loop);
	stats = rig_stats(rig);
	CHECK_EQ(stats.connections, 0);
	CHECK_EQ(stats.operations, 0);
	CHECK_EQ(stats.starved_now, 0);
	check_nothing_out();
	weir_net_destroy(rig->net);
}

/* ---- a client -------------------------------------------------------- */

static int
client_connect(const struct rig *rig)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET,
	    .sin_port = htons(rig->port),
	    .sin_addr = {htonl(INADDR_LOOPBACK)},
	};
	struct timeval limit = {.tv_sec = 20};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK_GE(fd, 0);
	CHECK_EQ(
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	CHECK_EQ(connect(fd, (void *)&address, sizeof(address)), 0);
	return fd;
}

static void
client_send(int fd, const void *data, size_t bytes)
{
	const char *at = data;

	while (bytes > 0) {
		ssize_t sent = send(fd, at, bytes, MSG_NOSIGNAL);
		CHECK_GT(sent, 0);
		at += sent;
		bytes -= (size_t)sent;
	}
}

static void
client_expect(int fd, const void *data, size_t bytes)
{
	unsigned char *back = calloc(1, bytes);
	size_t have = 0;

	CHECK_NOT_NULL(back);
	while (have < bytes) {
		ssize_t received = recv(fd, back + have, bytes - have, 0);
		CHECK_GT(received, 0);
		have += (size_t)received;
	}
	CHECK_MEM(back, data, bytes);
	free(back);
}

static void
client_expect_end(int fd)
{
	char byte;
	ssize_t received = recv(fd, &byte, 1, 0);

	CHECK(received == 0 || (received < 0 && errno == ECONNRESET));
	close(fd);
}

static void
fill(unsigned char *data, size_t bytes, unsigned salt)
{
	for (size_t i = 0; i < bytes; i++)
		data[i] = (unsigned char)(i * 31 + i / 256 + salt);
}

/* Waits for something a loop's thread does. */
#define WAIT_FOR(condition)                                  \
	do {                                                 \
		uint64_t end_ = test_now_ns() + 20000000000; \
		while (!(condition) && test_now_ns() < end_) \
			usleep(1000);                        \
		CHECK(condition);                            \
	} while (0)

/* ---- echo ------------------------------------------------------------ */

static void
echo_data(struct weir_conn *conn, struct weir_slice slice)
{
	CHECK_EQ(weir_conn_send(conn, &slice, 1, NULL), 0);
}

static const struct weir_handlers echo_handlers = {.on_data = echo_data};

static void
echo_client(const struct rig *rig)
{
	size_t bytes = 300000;
	unsigned char *data = calloc(1, bytes);
	int fd = client_connect(rig);

	CHECK_NOT_NULL(data);
	fill(data, bytes, 7);
	for (size_t size = 1; size < bytes; size = size * 3 + 1) {
		client_send(fd, data, size);
		client_expect(fd, data, size);
	}
	free(data);
	close(fd);
}

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

static void
echo_many(unsigned index, void *context)
{
	const struct rig *rig = context;
	unsigned char data[1028];
	int fd = client_connect(rig);

	fill(data, sizeof(data), index);
	for (size_t i = 0; i < test_count(300); i++) {
		client_send(fd, data, sizeof(data));
		client_expect(fd, data, sizeof(data));
	}
	close(fd);
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

/* ---- start and end --------------------------------------------------- */

TEST(net_stop_before_run)
{
	struct rig rig;

	rig_create(&rig, NULL, &echo_handlers);
	weir_loop_stop(rig.loop, 1000);
	CHECK_EQ(weir_loop_run(rig.loop), 0);
	weir_loop_destroy(rig.loop);
	weir_loop_destroy(NULL);
	weir_net_destroy(rig.net);
	weir_net_destroy(NULL);
}

TEST(net_stop_closes_idle_connections)
{
	struct rig rig;
	int fd[20];

	rig_start(&rig, NULL, &echo_handlers);
	for (int i = 0; i < 20; i++)
		fd[i] = client_connect(&rig);
	WAIT_FOR(rig_stats(&rig).connections == 20);
	rig_end(&rig);
	for (int i = 0; i < 20; i++)
		client_expect_end(fd[i]);
}

TEST(net_bad_configurations_are_refused)
{
	struct weir_net *net = (void *)&net;
	struct weir_net_memory partial = {.buffer_acquire = memory_acquire};
	const struct weir_net_config bad[] = {
	    {.backend = (enum weir_net_backend)77},
	    {.receive_bytes_min = 4096, .receive_bytes_max = 1024},
	    {.receive_bytes_max = WEIR_NET_BUFFER_BYTES_MAX + 1},
	    {.batch = 1025},
	    {.buffer_limit_bytes = WEIR_NET_BUFFER_LIMIT_BYTES_MIN - 1},
	    {.memory = &partial},
	    {.memory = &memory, .buffer_limit_bytes = 1 << 20},
	    {.reserved = {0, 1}},
	    {.reserved32 = 1},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK_EQ(weir_net_create(&bad[i], &net), -EINVAL);
		CHECK_NULL(net);
	}
	CHECK_STR(weir_close_reason_text(WEIR_CLOSE_RESET), "reset by peer");
	CHECK_STR(
	    weir_close_reason_text((enum weir_close_reason)99), "unknown");
}

TEST(net_bad_listeners_are_refused)
{
	struct rig rig;
	struct weir_listener *listener;
	struct weir_listen_config config = {.handlers = echo_handlers};

	rig_create(&rig, NULL, &echo_handlers);
	config.address = "localhost";
	CHECK_EQ(weir_listen(rig.loop, &config, &listener), -EINVAL);
	CHECK_NULL(listener);
	config.address = "192.0.2.1";
	CHECK_EQ(weir_listen(rig.loop, &config, &listener), -EADDRNOTAVAIL);
	config.address = NULL;
	config.port = rig.port;
	CHECK_EQ(weir_listen(rig.loop, &config, &listener), -EADDRINUSE);
	config.shared = true;
	CHECK_EQ(weir_listen(rig.loop, &config, &listener), -EADDRINUSE);
	config.handlers.on_data = NULL;
	CHECK_EQ(weir_listen(rig.loop, &config, &listener), -EINVAL);
	weir_loop_destroy(rig.loop);
	weir_net_destroy(rig.net);
}

/* ---- closing loses nothing ------------------------------------------- */

struct flood {
	int fd;
	bool stop;     /* atomic */
	uint64_t sent; /* atomic: bytes the engine reported */
};

static void
flood_data(struct weir_conn *conn, struct weir_slice slice)
{
	void *bytes = (void *)(uintptr_t)slice.bytes;

	CHECK_EQ(weir_conn_send(conn, &slice, 1, bytes), 0);
}

static void
flood_sent(struct weir_conn *conn, void *context, int status)
{
	struct flood *flood = weir_conn_context(conn);

	if (status == 0)
		__atomic_fetch_add(
		    &flood->sent, (uintptr_t)context, __ATOMIC_RELAXED);
}

/* Sends without end, and ends its stream when told to. */
static void *
flood_thread(void *argument)
{
	struct flood *flood = argument;
	static const char data[1000];

	while (!__atomic_load_n(&flood->stop, __ATOMIC_RELAXED))
		if (send(flood->fd, data, sizeof(data), MSG_NOSIGNAL) <= 0)
			break;
	shutdown(flood->fd, SHUT_WR);
	return NULL;
}

static void
flood_start(struct flood *flood, struct rig *rig, pthread_t *thread)
{
	struct weir_handlers handlers = {
	    .on_data = flood_data,
	    .on_sent = flood_sent,
	    .context = flood,
	};

	rig_start(rig, NULL, &handlers);
	flood->fd = client_connect(rig);
	CHECK_EQ(pthread_create(thread, NULL, flood_thread, flood), 0);
	WAIT_FOR(rig_stats(rig).bytes_sent > 100000);
}

static void
flood_round(void)
{
	struct flood flood = {.stop = false};
	char back[4096];
	uint64_t have = 0;
	ssize_t got;
	struct rig rig;
	pthread_t thread;

	flood_start(&flood, &rig, &thread);
	weir_loop_stop(rig.loop, 20000);
	usleep(20000);
	while ((got = recv(flood.fd, back, sizeof(back), 0)) > 0)
		have += (uint64_t)got;
	CHECK_EQ(got, 0); /* the end, no reset */
	__atomic_store_n(&flood.stop, true, __ATOMIC_RELAXED);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	rig_end(&rig);
	CHECK_GT(have, 0);
	CHECK_EQ(have, flood.sent);
	close(flood.fd);
}

TEST(net_drain_delivers_what_it_reported_as_sent)
{
	for (int i = 0; i < 5; i++)
		flood_round();
}

TEST(net_drain_ends_with_the_grace)
{
	struct flood flood = {.stop = false};
	struct rig rig;
	pthread_t thread;
	uint64_t start_ns;

	/* Sends for ever, reads nothing. */
	flood_start(&flood, &rig, &thread);
	start_ns = test_now_ns();
	weir_loop_stop(rig.loop, 300);
	rig_end(&rig);
	CHECK_LT(test_now_ns() - start_ns, 4000000000);
	__atomic_store_n(&flood.stop, true, __ATOMIC_RELAXED);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	close(flood.fd);
}

TEST(net_drain_ends_before_the_grace_when_peers_are_quiet)
{
	uint64_t start_ns;
	struct rig rig;
	int fd;

	rig_start(&rig, NULL, &echo_handlers);
	fd = client_connect(&rig);
	client_send(fd, "abc", 3);
	client_expect(fd, "abc", 3);
	start_ns = test_now_ns();
	rig_end(&rig);
	CHECK_LT(test_now_ns() - start_ns, 3000000000);
	client_expect_end(fd);
}

static void
reason_data(struct weir_conn *conn, struct weir_slice slice)
{
	bool abort = slice.buffer->data[slice.offset] == 'a';

	weir_buffer_release(slice.buffer);
	if (abort)
		weir_conn_abort(conn, (enum weir_close_reason)1000);
	else
		weir_conn_close(conn, WEIR_CLOSE_REASON_COUNT);
}

TEST(net_unknown_reasons_count_as_local)
{
	struct weir_handlers handlers = {.on_data = reason_data};
	struct rig rig;

	rig_start(&rig, NULL, &handlers);
	for (int i = 0; i < 2; i++) {
		int fd = client_connect(&rig);
		client_send(fd, i == 0 ? "a" : "c", 1);
		client_expect_end(fd);
	}
	WAIT_FOR(rig_stats(&rig).connections == 0);
	CHECK_EQ(rig_stats(&rig).closed[WEIR_CLOSE_LOCAL], 2);
	rig_end(&rig);
}

TEST(net_listen_after_stop_is_refused)
{
	struct weir_listen_config config = {.handlers = echo_handlers};
	struct weir_listener *listener;
	struct rig rig;

	rig_create(&rig, NULL, &echo_handlers);
	weir_loop_stop(rig.loop, 1000);
	CHECK_EQ(weir_listen(rig.loop, &config, &listener), -ESHUTDOWN);
	CHECK_NULL(listener);
	CHECK_EQ(weir_loop_run(rig.loop), 0);
	CHECK_EQ(weir_listen(rig.loop, &config, &listener), -ESHUTDOWN);
	weir_loop_destroy(rig.loop);
	weir_net_destroy(rig.net);
}

/* ---- descriptors in the child of a fork ------------------------------ */

static uint64_t
thread_cpu_ns(pthread_t thread)
{
	struct timespec used;
	clockid_t clock;

	CHECK_EQ(pthread_getcpuclockid(thread, &clock), 0);
	CHECK_EQ(clock_gettime(clock, &used), 0);
	return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

/* What the child holds must not wake the loop, nor name the next connection. */
static void
fork_round(const char *how)
{
	struct weir_handlers handlers = {.on_data = reason_data};
	struct rig rig;
	uint64_t cpu_ns;
	pid_t child;
	int fd;
	int again;

	rig_start(&rig, NULL, &handlers);
	fd = client_connect(&rig);
	WAIT_FOR(rig_stats(&rig).connections == 1);
	child = fork();
	CHECK_GE(child, 0);
	while (child == 0)
		pause();
	client_send(fd, how, 1);
	if (*how == 'c')
		shutdown(fd, SHUT_RDWR);
	WAIT_FOR(rig_stats(&rig).connections == 0);
	again = client_connect(&rig); /* gets the object */
	WAIT_FOR(rig_stats(&rig).connections == 1);
	if (*how == 'a')
		client_send(fd, "later", 5); /* nobody reads it */
	cpu_ns = thread_cpu_ns(rig.thread);
	usleep(300000);
	CHECK_LT(thread_cpu_ns(rig.thread) - cpu_ns, 50000000);
	CHECK_EQ(rig_stats(&rig).connections, 1);
	CHECK_EQ(kill(child, SIGKILL), 0);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	close(fd);
	close(again);
	rig_end(&rig);
}

TEST(net_closed_connection_held_by_a_child_brings_no_event)
{
	fork_round("c");
	fork_round("a");
}

/* ---- failures -------------------------------------------------------- */

/* A client that may be refused or cut off at any point; true: it got all. */
static bool
fragile_client(const struct rig *rig)
{
	unsigned char data[9000], back[9000];
	size_t have = 0;
	int fd = client_connect(rig);

	fill(data, sizeof(data), 5);
	for (size_t at = 0; at < sizeof(data); at += 3000) {
		if (send(fd, data + at, 3000, MSG_NOSIGNAL) != 3000)
			break;
		usleep(500);
	}
	while (have < sizeof(data)) {
		ssize_t got = recv(fd, back + have, sizeof(data) - have, 0);
		if (got <= 0)
			break;
		have += (size_t)got;
	}
	CHECK_MEM(back, data, have);
	close(fd);
	return have == sizeof(data);
}

/* on_data of blocks of 1000 bytes, so that carries are in the game. */
static void
block_data(struct weir_conn *conn, struct weir_slice slice)
{
	struct weir_slice tail = slice;
	uint32_t whole = slice.bytes / 1000 * 1000;

	if (whole == slice.bytes) {
		(void)weir_conn_send(conn, &slice, 1, NULL);
		return;
	}
	tail.offset += whole;
	tail.bytes -= whole;
	slice.bytes = whole;
	if (whole > 0) {
		weir_buffer_retain(slice.buffer);
		(void)weir_conn_send(conn, &slice, 1, NULL);
	}
	(void)weir_conn_need(conn, tail, 1000);
}

TEST(net_every_failing_allocation_is_survived)
{
	struct weir_handlers handlers = {.on_data = block_data};
	struct weir_net_config config = {
	    .memory = &memory,
	    .receive_bytes_min = 512,
	};
	struct rig rig;
	int64_t used = 1;
	int64_t survived = 0;

	for (int64_t n = 1; n <= used + 1; n++) {
		memory_calls = 0;
		memory_fail_nth = n;
		rig_start(&rig, &config, &handlers);
		survived += fragile_client(&rig);
		/* The failure is over: the next client is served whole. */
		__atomic_store_n(&memory_calls, 1 << 20, __ATOMIC_RELAXED);
		CHECK(fragile_client(&rig));
		rig_end(&rig);
		if (n == 1) {
			memory_calls = 0;
			memory_fail_nth = -1;
			rig_start(&rig, &config, &handlers);
			CHECK(fragile_client(&rig));
			rig_end(&rig);
			used = memory_calls;
		}
	}
	/* Without a buffer one waits; only a lost operation or connection
	 * object ends a connection. */
	CHECK_GT(survived, 0);
}

TEST(net_buffer_limit_delays_but_loses_nothing)
{
	struct weir_net_config config = {
	    .buffer_limit_bytes = WEIR_NET_BUFFER_LIMIT_BYTES_MIN,
	};
	struct rig rig;

	rig_start(&rig, &config, &echo_handlers);
	test_threads(20, echo_many, &rig);
	rig_end(&rig);
}

/* ---- who holds memory while others wait ------------------------------ */

#define DRIPPERS 48 /* more than the limit has buffers for */

struct drip {
	struct rig *rig;
	int fd[DRIPPERS];
	bool stop; /* atomic */
};

/* A byte of a packet that never ends, over and over; whoever is thrown out
 * comes back at once. */
static void *
drip_thread(void *argument)
{
	struct drip *drip = argument;

	while (!__atomic_load_n(&drip->stop, __ATOMIC_RELAXED)) {
		for (int i = 0; i < DRIPPERS; i++) {
			if (send(drip->fd[i], "x", 1, MSG_NOSIGNAL) == 1)
				continue;
			close(drip->fd[i]);
			drip->fd[i] = client_connect(drip->rig);
			(void)send(drip->fd[i], "x", 1, MSG_NOSIGNAL);
		}
		usleep(50000);
	}
	for (int i = 0; i < DRIPPERS; i++)
		close(drip->fd[i]);
	return NULL;
}

static void
drip_start(struct drip *drip, struct rig *rig, pthread_t *thread)
{
	drip->rig = rig;
	drip->stop = false;
	for (int i = 0; i < DRIPPERS; i++) {
		drip->fd[i] = client_connect(rig);
		client_send(drip->fd[i], "x", 1);
	}
	WAIT_FOR(rig_stats(rig).starved_now > 0);
	CHECK_EQ(pthread_create(thread, NULL, drip_thread, drip), 0);
}

static void
drip_end(struct drip *drip, pthread_t thread)
{
	__atomic_store_n(&drip->stop, true, __ATOMIC_RELAXED);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	rig_end(drip->rig);
}

TEST(net_dripping_clients_give_way_to_who_waits_longest)
{
	struct weir_handlers handlers = {.on_data = block_data};
	struct weir_net_config config = {
	    .buffer_limit_bytes = WEIR_NET_BUFFER_LIMIT_BYTES_MIN,
	    .hold_ms = 600,
	    .idle_ms = 300, /* the wait for memory is not idleness */
	};
	unsigned char block[1000];
	struct drip drip;
	struct rig rig;
	pthread_t thread;

	fill(block, sizeof(block), 9);
	rig_start(&rig, &config, &handlers);
	drip_start(&drip, &rig, &thread);
	/* Each is served, and before long somebody had to give way. */
	uint64_t end_ns = test_now_ns() + 20000000000;
	for (int i = 0; i < 3 || rig_stats(&rig).closed[WEIR_CLOSE_SLOW] == 0;
	     i++) {
		int fd = client_connect(&rig);
		client_send(fd, block, sizeof(block));
		client_expect(fd, block, sizeof(block));
		close(fd);
		CHECK_LT(test_now_ns(), end_ns);
	}
	drip_end(&drip, thread);
}

TEST(net_who_moves_enough_bytes_keeps_what_it_holds)
{
	struct weir_handlers handlers = {.on_data = block_data};
	struct weir_net_config config = {
	    .buffer_limit_bytes = WEIR_NET_BUFFER_LIMIT_BYTES_MIN,
	    .hold_ms = 500,
	    .hold_bytes = 1000,
	};
	static unsigned char data[45000];
	struct drip drip;
	struct rig rig;
	pthread_t thread;
	int fd;

	fill(data, sizeof(data), 11);
	rig_start(&rig, &config, &handlers);
	fd = client_connect(&rig);
	drip_start(&drip, &rig, &thread);
	/* Never at the end of a block, so that it always holds a carry. */
	client_send(fd, data, 1);
	for (size_t at = 1; at < sizeof(data);) {
		size_t bytes =
		    at + 300 < sizeof(data) ? 300 : sizeof(data) - at;
		client_send(fd, data + at, bytes);
		at += bytes;
		usleep(10000);
	}
	client_expect(fd, data, sizeof(data));
	CHECK_GT(rig_stats(&rig).closed[WEIR_CLOSE_SLOW], 0);
	close(fd);
	drip_end(&drip, thread);
}

#define TAIL_BUFFERS 256 /* 16 MiB, more than two socket buffers */

/* 't': an answer nobody reads; 'n': a packet that is not complete. */
static void
tail_data(struct weir_conn *conn, struct weir_slice slice)
{
	unsigned char what = slice.buffer->data[slice.offset];

	if (what == 'n') {
		CHECK_EQ(weir_conn_need(conn, slice, slice.bytes + 1), 0);
		return;
	}
	weir_buffer_release(slice.buffer);
	for (int i = 0; what == 't' && i < TAIL_BUFFERS; i++) {
		struct weir_slice tail = {
		    weir_loop_buffer(weir_conn_loop(conn), 65536), 0, 65536};
		CHECK_NOT_NULL(tail.buffer);
		memset(tail.buffer->data, 0, 65536);
		CHECK_EQ(weir_conn_send(conn, &tail, 1, NULL), 0);
	}
}

TEST(net_idle_limit_does_not_hide_a_stall)
{
	struct weir_handlers handlers = {.on_data = tail_data};
	struct weir_net_config config = {
	    .idle_ms = 60000,
	    .stall_ms = 400,
	    .send_quota_bytes = 64u << 20,
	};
	struct rig rig;
	uint64_t end_ns;
	int deaf, silent;

	rig_start(&rig, &config, &handlers);
	deaf = client_connect(&rig);
	client_send(deaf, "t", 1);
	WAIT_FOR(rig_stats(&rig).operations > 0);
	silent = client_connect(&rig);
	client_send(silent, "n", 1);
	end_ns = test_now_ns() + 10000000000;
	/* What the deaf one sends moves nothing of what it holds. */
	while (rig_stats(&rig).closed[WEIR_CLOSE_STALLED] < 2) {
		CHECK_LT(test_now_ns(), end_ns);
		(void)send(deaf, "x", 1, MSG_NOSIGNAL);
		usleep(50000);
	}
	client_expect_end(silent);
	close(deaf);
	rig_end(&rig);
}

/* ---- a listener whose socket is lost --------------------------------- */

static char lost_line[128]; /* the last error */
static int lost_lines;      /* atomic */

static void
lost_message(enum weir_message_level level, const char *line, void *context)
{
	(void)context;
	if (level != WEIR_MESSAGE_ERROR)
		return;
	strncpy(lost_line, line, sizeof(lost_line) - 1);
	__atomic_fetch_add(&lost_lines, 1, __ATOMIC_RELEASE);
}

/* The descriptor of the only listener in this process. */
static int
lost_find(void)
{
	for (int fd = 3; fd < 1024; fd++) {
		int accepts = 0;
		socklen_t bytes = sizeof(accepts);
		if (getsockopt(
			fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &bytes) == 0 &&
		    accepts != 0)
			return fd;
	}
	FAIL("no listener");
}

TEST(net_lost_listener_is_told_of_and_does_not_spin)
{
	struct weir_config config = {
	    .message = lost_message,
	};
	struct rig rig;
	uint64_t cpu_ns;
	int fd;

	CHECK_EQ(weir_init(&config), 0);
	rig_start(&rig, NULL, &echo_handlers);
	fd = client_connect(&rig);
	client_send(fd, "a", 1);
	client_expect(fd, "a", 1);
	cpu_ns = thread_cpu_ns(rig.thread);
	CHECK_EQ(shutdown(lost_find(), SHUT_RDWR), 0);
	usleep(300000);
	CHECK_LT(thread_cpu_ns(rig.thread) - cpu_ns, 50000000);
	CHECK_EQ(rig_stats(&rig).listeners_lost, 1);
	CHECK_EQ(__atomic_load_n(&lost_lines, __ATOMIC_ACQUIRE), 1);
	CHECK_NOT_NULL(strstr(lost_line, "accepting on port"));
	/* The connections it brought are served on. */
	client_send(fd, "b", 1);
	client_expect(fd, "b", 1);
	close(fd);
	rig_end(&rig);
}

/* ---- sizes that no tier has ------------------------------------------ */

static uint32_t odd_most; /* atomic */

static void
odd_data(struct weir_conn *conn, struct weir_slice slice)
{
	(void)conn;
	if (slice.bytes > odd_most)
		__atomic_store_n(&odd_most, slice.bytes, __ATOMIC_RELAXED);
	weir_buffer_release(slice.buffer);
}

TEST(net_receives_grow_from_a_size_between_tiers)
{
	static const unsigned char bytes[30000]; /* fewer than ends a supply */
	struct weir_net_config config = {.receive_bytes_min = 3000};
	struct weir_handlers handlers = {.on_data = odd_data};
	struct rig rig;
	int fd;

	rig_start(&rig, &config, &handlers);
	fd = client_connect(&rig);
	for (size_t i = 1; i <= 16; i++) {
		client_send(fd, bytes, sizeof(bytes));
		WAIT_FOR(rig_stats(&rig).bytes_received == i * sizeof(bytes));
	}
	CHECK_GT(__atomic_load_n(&odd_most, __ATOMIC_RELAXED), 8192);
	close(fd);
	rig_end(&rig);
}

/* ---- what a stopped loop leaves behind ------------------------------- */

static void
leave_stop(struct weir_loop *loop, struct weir_timer *timer)
{
	size_t *count = timer->context;

	if ((*count)++ == 0)
		weir_timer_start(loop, timer, 0); /* after the first wait */
	else
		weir_loop_stop(loop, 0);
}

static void
leave_nothing(struct weir_loop *loop, struct weir_task *task)
{
	(void)loop;
	(void)task;
}

/* The loop stops when it has seen one event, its wake, and the system has
 * clients for it. */
TEST(net_stop_leaves_no_socket_open)
{
	enum { CLIENTS = 8 };
	struct weir_net_config config = {.batch = 1};
	struct weir_task task = {.run = leave_nothing};
	size_t count = 0;
	struct weir_timer timer = {.expired = leave_stop, .context = &count};
	struct timeval limit = {.tv_sec = 3};
	struct rig rig;
	int fds[CLIENTS];
	int again;

	rig_create(&rig, &config, &echo_handlers);
	for (int i = 0; i < CLIENTS; i++) {
		fds[i] = client_connect(&rig);
		CHECK_EQ(setsockopt(fds[i], SOL_SOCKET, SO_RCVTIMEO, &limit,
			     sizeof(limit)),
		    0);
	}
	weir_loop_post(rig.loop, &task);
	weir_timer_start(rig.loop, &timer, 0);
	CHECK_EQ(weir_loop_run(rig.loop), 0);
	/* It is not there for others while the loop is. */
	struct sockaddr_in address = {
	    .sin_family = AF_INET,
	    .sin_port = htons(rig.port),
	    .sin_addr = {htonl(INADDR_LOOPBACK)},
	};
	again = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_EQ(connect(again, (void *)&address, sizeof(address)), -1);
	CHECK_EQ(errno, ECONNREFUSED);
	close(again);
	for (int i = 0; i < CLIENTS; i++)
		client_expect_end(fds[i]);
	weir_loop_destroy(rig.loop);
	weir_net_destroy(rig.net);
}

/* ---- bytes that came while there was no memory ----------------------- */

#define LATE_PACKET 40000
#define LATE_SLICES 256

static struct {
	struct weir_conn *conn;
	struct weir_buffer *buffer;
	bool blocks;
	int needs;  /* atomic: packets begun */
	int sent;   /* atomic: tasks run */
	int reason; /* atomic: of the last close, and one */
	bool go;    /* atomic */
} late;

static void
late_data(struct weir_conn *conn, struct weir_slice slice)
{
	bool complete = slice.bytes >= LATE_PACKET;

	late.conn = conn;
	if (complete) {
		weir_buffer_release(slice.buffer);
		slice.buffer = weir_buffer_retain(late.buffer);
		slice.offset = 0;
		slice.bytes = 4;
		CHECK_EQ(weir_conn_send(conn, &slice, 1, NULL), 0);
		return;
	}
	__atomic_store_n(&memory_no_buffers, true, __ATOMIC_RELAXED);
	CHECK_EQ(weir_conn_need(conn, slice, LATE_PACKET), 0);
	__atomic_fetch_add(&late.needs, 1, __ATOMIC_RELEASE);
	while (late.blocks && !__atomic_load_n(&late.go, __ATOMIC_ACQUIRE))
		usleep(1000);
}

static void
late_closed(struct weir_conn *conn, enum weir_close_reason reason)
{
	(void)conn;
	__atomic_store_n(&late.reason, (int)reason + 1, __ATOMIC_RELEASE);
}

/* More than its quota and the system's buffers, to one that waits. */
static void
late_send(struct weir_loop *loop, struct weir_task *task)
{
	struct weir_slice slices[LATE_SLICES];

	(void)loop;
	(void)task;
	for (int i = 0; i < LATE_SLICES; i++) {
		weir_buffer_retain(late.buffer);
		slices[i] =
		    (struct weir_slice){late.buffer, 0, late.buffer->bytes};
	}
	CHECK_EQ(weir_conn_send(late.conn, slices, LATE_SLICES, NULL), 0);
	__atomic_fetch_add(&late.sent, 1, __ATOMIC_RELEASE);
}

static void
late_round(struct rig *rig)
{
	static const unsigned char bytes[LATE_PACKET];
	static unsigned char sink[65536];
	struct weir_task task = {.run = late_send};
	uint64_t paused = rig_stats(rig).quota_pauses;
	size_t left = (size_t)LATE_SLICES * late.buffer->bytes;
	int begun = __atomic_load_n(&late.needs, __ATOMIC_ACQUIRE);
	int sent = __atomic_load_n(&late.sent, __ATOMIC_ACQUIRE);
	int fd = client_connect(rig);

	client_send(fd, bytes, 100);
	WAIT_FOR(__atomic_load_n(&late.needs, __ATOMIC_ACQUIRE) > begun);
	client_send(fd, bytes, 100);
	WAIT_FOR(rig_stats(rig).starved_now == 1);
	weir_loop_post(rig->loop, &task);
	WAIT_FOR(__atomic_load_n(&late.sent, __ATOMIC_ACQUIRE) > sent);
	WAIT_FOR(rig_stats(rig).quota_pauses > paused);
	while (left > 0) {
		ssize_t received = recv(
		    fd, sink, left < sizeof(sink) ? left : sizeof(sink), 0);
		CHECK_GT(received, 0);
		left -= (size_t)received;
	}
	WAIT_FOR(rig_stats(rig).operations == 0);
	usleep(10000); /* several passes: it waits for memory only */
	CHECK_EQ(rig_stats(rig).starved_now, 1);
	__atomic_store_n(&memory_no_buffers, false, __ATOMIC_RELAXED);
	client_send(fd, bytes, LATE_PACKET - 200);
	client_expect(fd, late.buffer->data, 4);
	close(fd);
	WAIT_FOR(rig_stats(rig).connections == 0);
}

static void
late_start(struct rig *rig)
{
	static unsigned char data[65536];
	struct weir_net_config config = {.memory = &memory};
	struct weir_handlers handlers = {
	    .on_data = late_data,
	    .on_close = late_closed,
	};

	late.buffer = calloc(1, sizeof(*late.buffer));
	CHECK_NOT_NULL(late.buffer);
	__atomic_fetch_add(&memory_out, 1, __ATOMIC_RELAXED);
	fill(data, sizeof(data), 7);
	weir_buffer_init_external(
	    late.buffer, data, sizeof(data), memory_release, NULL);
	rig_start(rig, &config, &handlers);
}

TEST(net_who_waits_for_memory_may_be_sent_more_than_its_quota)
{
	struct rig rig;

	late_start(&rig);
	late_round(&rig);
	late_round(&rig);
	weir_buffer_release(late.buffer);
	rig_end(&rig);
}

/* A packet cut off by a reset must not look like an orderly end. */
TEST(net_reset_behind_bytes_without_memory_stays_a_reset)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 0};
	struct rig rig;
	int fd;

	late.blocks = true;
	late_start(&rig);
	fd = client_connect(&rig);
	client_send(fd, "begin", 5);
	WAIT_FOR(__atomic_load_n(&late.needs, __ATOMIC_ACQUIRE) == 1);
	client_send(fd, "more", 4);
	CHECK_EQ(
	    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	close(fd);
	__atomic_store_n(&late.go, true, __ATOMIC_RELEASE);
	WAIT_FOR(rig_stats(&rig).starved > 0);
	__atomic_store_n(&memory_no_buffers, false, __ATOMIC_RELAXED);
	WAIT_FOR(__atomic_load_n(&late.reason, __ATOMIC_ACQUIRE) != 0);
	CHECK_EQ(late.reason, WEIR_CLOSE_RESET + 1);
	weir_buffer_release(late.buffer);
	rig_end(&rig);
}

/* ---- a ring that fails ----------------------------------------------- */

#define BROKEN_CLIENTS 700 /* more than a ring has entries */

static int broken_fd = -1;

static void
broken_accept(struct weir_conn *conn)
{
	char path[64], target[64];

	(void)conn;
	for (int fd = 3; broken_fd < 0 && fd < 64; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		ssize_t bytes = readlink(path, target, sizeof(target) - 1);
		if (bytes < 0)
			continue;
		target[bytes] = '\0';
		if (strcmp(target, "anon_inode:[io_uring]") == 0)
			broken_fd = fd;
	}
	CHECK_GE(broken_fd, 3);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	CHECK_GE(null, 0);
	CHECK_EQ(dup2(null, broken_fd), broken_fd);
	close(null);
}

/* The queue is full of entries that nobody takes, and every call fails; what
 * the program gets is the error, and all connections closed. */
TEST(net_broken_ring_ends_the_loop_and_leaks_nothing)
{
	struct rlimit limit;
	struct weir_net_config config = {.memory = &memory, .batch = 1024};
	struct weir_handlers handlers = {
	    .on_accept = broken_accept,
	    .on_data = reason_data,
	};
	struct rig rig;
	int fds[BROKEN_CLIENTS] = {0};

	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = 2 * BROKEN_CLIENTS + 200;
	if (limit.rlim_max < limit.rlim_cur ||
	    setrlimit(RLIMIT_NOFILE, &limit) != 0)
		SKIP("too few descriptors");
	rig_create(&rig, &config, &handlers);
	if (strcmp(weir_net_backend(rig.net), "io_uring") == 0) {
		for (int i = 0; i < BROKEN_CLIENTS; i++)
			fds[i] = client_connect(&rig);
		CHECK_LT(weir_loop_run(rig.loop), 0);
		CHECK_GT(rig_stats(&rig).refused, 0);
		CHECK_EQ(rig_stats(&rig).connections, 0);
	}
	weir_loop_destroy(rig.loop);
	check_nothing_out();
	weir_net_destroy(rig.net);
	for (int i = 0; broken_fd >= 0 && i < BROKEN_CLIENTS; i++)
		client_expect_end(fds[i]);
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
