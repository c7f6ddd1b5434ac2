/* SPDX-License-Identifier: MIT */
/*
 * test_net_uring_view.c - receives that share large buffers: what each brings is a
 * buffer of its own size, what outlasts a pass pins no more than that, and what a
 * program keeps may be released whenever and wherever.
 */
#include "net_common.h"

#if WEIRI_HAVE_URING

#include "net/uring.h"
#include "net/view.h"

#include <sched.h>

#define WHOLE 65536u

/* For what takes microseconds, thousands of times. */
#define WAIT_FOR_BUSY(condition)                             \
	do {                                                 \
		uint64_t end_ = test_now_ns() + 20000000000; \
		while (!(condition) && test_now_ns() < end_) \
			sched_yield();                       \
		CHECK(condition);                            \
	} while (0)

static void
view_start(struct rig *rig, const struct weir_handlers *handlers)
{
	const struct weir_net_config config = {.with = WEIR_NET_INCREMENTAL};

	if (rig_backend() == WEIR_BACKEND_EPOLL)
		SKIP("for io_uring");
	rig_start(rig, &config, handlers);
	if (!(weir_net_features(rig->net) & WEIR_NET_INCREMENTAL)) {
		rig_end(rig);
		SKIP("receives cannot share a buffer here");
	}
}

static uint64_t
views_in_use(void)
{
	static struct weir_pool_stats pools[32];
	size_t count;

	pools[0].size = sizeof(pools[0]);
	count = weir_stats_pools(pools, 32);
	CHECK_LE(count, 32);
	for (size_t i = 0; i < count; i++)
		if (strcmp(pools[i].name, "net.views") == 0)
			return pools[i].in_use;
	return 0;
}

/* ---- slices that are kept ------------------------------------------------- */

#define KEPT 200u

static struct {
	struct weir_slice slice[KEPT];
	uint32_t count; /* atomic */
} kept;

/* Keeps each and answers with a byte. */
static void
keep_data(struct weir_conn *conn, struct weir_slice slice)
{
	struct weir_slice answer = {weir_conn_buffer(conn, 1), 0, 1};

	CHECK_NOT_NULL(answer.buffer);
	answer.buffer->data[0] = 'k';
	CHECK_LT(kept.count, KEPT);
	kept.slice[kept.count] = slice;
	__atomic_store_n(&kept.count, kept.count + 1, __ATOMIC_RELEASE);
	CHECK_EQ(weir_conn_send(conn, &answer, 1, NULL), 0);
}

/* By turns, so that neighbours in a buffer belong to different connections. */
static void
keep_all(struct rig *rig, int fd[2])
{
	unsigned char data[100];

	memset(&kept, 0, sizeof(kept));
	fd[0] = client_connect(rig);
	fd[1] = client_connect(rig);
	for (uint32_t i = 0; i < KEPT; i++) {
		fill(data, sizeof(data), i);
		client_send(fd[i % 2], data, sizeof(data));
		client_expect(fd[i % 2], "k", 1);
	}
	CHECK_EQ(__atomic_load_n(&kept.count, __ATOMIC_ACQUIRE), KEPT);
}

static void
keep_check(void)
{
	unsigned char data[100];

	for (uint32_t i = 0; i < KEPT; i++) {
		const struct weir_slice *slice = &kept.slice[i];
		fill(data, sizeof(data), i);
		CHECK_EQ(slice->bytes, sizeof(data));
		CHECK_EQ(slice->buffer->bytes, sizeof(data));
		CHECK_MEM(
		    slice->buffer->data + slice->offset, data, sizeof(data));
	}
}

static void *
keep_release(void *argument)
{
	(void)argument;
	for (uint32_t i = 0; i < KEPT; i++)
		weir_buffer_release(kept.slice[i].buffer);
	return NULL;
}

TEST(net_incremental_receives_share_buffers)
{
	const struct weir_handlers handlers = {.on_data = keep_data};
	struct rig rig;
	pthread_t thread;
	int fd[2];

	view_start(&rig, &handlers);
	keep_all(&rig, fd);
	keep_check();
	CHECK_EQ(views_in_use(), KEPT);
	/* 20,000 bytes; each by itself would pin 2 KiB. */
	for (uint32_t i = 1; i < KEPT; i++)
		CHECK_EQ(
		    kept.slice[i].buffer->data - kept.slice[0].buffer->data,
		    (ptrdiff_t)i * 100);
	CHECK_EQ(pthread_create(&thread, NULL, keep_release, NULL), 0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(views_in_use(), 0);
	close(fd[0]);
	close(fd[1]);
	rig_end(&rig);
}

TEST(net_incremental_slices_outlive_their_loop)
{
	const struct weir_handlers handlers = {.on_data = keep_data};
	struct rig rig;
	int fd[2];

	view_start(&rig, &handlers);
	keep_all(&rig, fd);
	close(fd[0]);
	close(fd[1]);
	weir_loop_stop(rig.loop, 1000);
	CHECK_EQ(pthread_join(rig.thread, NULL), 0);
	weir_loop_destroy(rig.loop);
	keep_check();
	(void)keep_release(NULL);
	check_nothing_out();
	weir_net_destroy(rig.net);
}

/* A buffer that is full goes when the last of its parts does. */
TEST(net_incremental_buffers_end_with_their_last_part)
{
	struct rig rig;
	unsigned char data[1500];
	uint64_t before;
	int fd;

	view_start(&rig, &echo_handlers);
	fd = client_connect(&rig);
	client_send(fd, "x", 1);
	client_expect(fd, "x", 1);
	before = buffers_in_use();
	fill(data, sizeof(data), 3);
	for (int i = 0; i < 500; i++) { /* more than ten buffers */
		client_send(fd, data, sizeof(data));
		client_expect(fd, data, sizeof(data));
	}
	WAIT_FOR(views_in_use() == 0);
	CHECK_LE(buffers_in_use(), before + (uint64_t)2 * WHOLE);
	close(fd);
	rig_end(&rig);
}

/* ---- what outlasts a pass ---------------------------------------------------- */

static struct {
	struct weir_conn *conn; /* atomic */
	uint32_t tails, shared;
	bool done; /* atomic */
} tail;

static void
tail_accept(struct weir_conn *conn)
{
	__atomic_store_n(&tail.conn, conn, __ATOMIC_RELEASE);
}

/* What was tried to send, and not taken. */
static void
tail_look(struct weir_loop *loop, struct weir_task *task)
{
	(void)loop;
	(void)task;
	for (struct weiri_op *op = tail.conn->ops;
	     op != NULL && !(tail.conn->flags & WEIRI_CONN_SENDING);
	     op = op->next) {
		tail.tails++;
		for (size_t i = op->done; i < op->count; i++)
			tail.shared += weiri_is_view(op->slice[i].buffer);
	}
	__atomic_store_n(&tail.done, true, __ATOMIC_RELEASE);
}

/* The peer sends small packets and does not read: its tail is ours. */
static size_t
tail_send(struct rig *rig, int fd, const unsigned char *data, size_t bytes)
{
	struct weir_task task = {.run = tail_look};
	size_t sent = 0;

	while (tail.tails == 0) {
		client_send(fd, data, bytes);
		sent += bytes;
		WAIT_FOR_BUSY(rig_stats(rig).bytes_received == sent);
		if (rig_stats(rig).operations == 0)
			continue;
		__atomic_store_n(&tail.done, false, __ATOMIC_RELAXED);
		weir_loop_post(rig->loop, &task);
		WAIT_FOR_BUSY(__atomic_load_n(&tail.done, __ATOMIC_ACQUIRE));
	}
	return sent;
}

TEST(net_incremental_tails_pin_no_shared_buffer)
{
	const struct weir_handlers handlers = {
	    .on_accept = tail_accept, .on_data = echo_data};
	struct rig rig;
	static unsigned char data[1900];
	size_t sent;
	int fd;

	NOT_UNDER_GUARD("its system calls make the wait for each send long");
	view_start(&rig, &handlers);
	memset(&tail, 0, sizeof(tail));
	fd = client_connect(&rig);
	fill(data, sizeof(data), 9);
	sent = tail_send(&rig, fd, data, sizeof(data));
	CHECK_EQ(tail.shared, 0);
	WAIT_FOR(views_in_use() == 0);
	for (; sent > 0; sent -= sizeof(data))
		client_expect(fd, data, sizeof(data));
	close(fd);
	rig_end(&rig);
}

TEST(net_incremental_unfinished_packets_pin_no_shared_buffer)
{
	const struct weir_handlers blocks = {.on_data = block_data};
	struct rig rig;
	unsigned char data[1000];
	int fd;

	view_start(&rig, &blocks);
	fd = client_connect(&rig);
	fill(data, sizeof(data), 4);
	for (size_t part = 100; part < sizeof(data); part += 300) {
		uint64_t bytes = rig_stats(&rig).bytes_received;
		client_send(fd, data, part);
		WAIT_FOR(rig_stats(&rig).bytes_received == bytes + part);
		WAIT_FOR(views_in_use() == 0);
		client_send(fd, data + part, sizeof(data) - part);
		client_expect(fd, data, sizeof(data));
	}
	CHECK(fragile_client(&rig));
	close(fd);
	rig_end(&rig);
}

/* ---- without memory, and with limits -------------------------------------------- */

#define TAKEN 4096

static struct {
	struct weir_cache *views;
	void *object[TAKEN];
	size_t count;
	bool done; /* atomic */
} taken;

/* On the loop's thread, whose magazines hold free ones. */
static void
take_all(struct weir_loop *loop, struct weir_task *task)
{
	(void)loop;
	(void)task;
	CHECK_EQ(weir_cache_set_limit(taken.views, 64), 0);
	while (taken.count < TAKEN) {
		taken.object[taken.count] = weir_cache_alloc(taken.views);
		if (taken.object[taken.count] == NULL)
			break;
		taken.count++;
	}
	CHECK_LT(taken.count, TAKEN);
	__atomic_store_n(&taken.done, true, __ATOMIC_RELEASE);
}

TEST(net_incremental_without_memory_ends_one_connection)
{
	struct weir_task task = {.run = take_all};
	struct rig rig;
	int fd[2];
	char byte;

	view_start(&rig, &echo_handlers);
	memset(&taken, 0, sizeof(taken));
	taken.views = rig.net->views;
	for (int i = 0; i < 2; i++) {
		fd[i] = client_connect(&rig);
		client_send(fd[i], "y", 1);
		client_expect(fd[i], "y", 1);
	}
	WAIT_FOR(views_in_use() == 0);
	weir_loop_post(rig.loop, &task);
	WAIT_FOR(__atomic_load_n(&taken.done, __ATOMIC_ACQUIRE));
	client_send(fd[0], "n", 1);
	CHECK_LE(recv(fd[0], &byte, 1, 0), 0);
	close(fd[0]);
	WAIT_FOR(rig_stats(&rig).closed[WEIR_CLOSE_NO_MEMORY] == 1);
	while (taken.count > 0)
		weir_cache_free(taken.views, taken.object[--taken.count]);
	client_send(fd[1], "z", 1);
	client_expect(fd[1], "z", 1);
	close(fd[1]);
	rig_end(&rig);
}

TEST(net_incremental_is_left_out_where_memory_is_counted)
{
	const struct weir_net_config configs[] = {
	    {.with = 0},
	    {.with = WEIR_NET_INCREMENTAL, .without = WEIR_NET_INCREMENTAL},
	    {.with = WEIR_NET_INCREMENTAL, .without = WEIR_NET_TURN_CAP},
	    {.with = WEIR_NET_INCREMENTAL, .buffer_limit_bytes = 1u << 20},
	    {.with = WEIR_NET_INCREMENTAL, .accounting = 1},
	    {.with = WEIR_NET_INCREMENTAL, .memory = &memory},
	};

	for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
		struct weir_net *net;
		CHECK_EQ(weir_net_create(&configs[i], &net), 0);
		CHECK_EQ(weir_net_features(net) & WEIR_NET_INCREMENTAL, 0);
		weir_net_destroy(net);
	}
}

#else

TEST(net_incremental_receives_are_left_out_of_this_build)
{
	SKIP("io_uring is left out of this build");
}

#endif
