/* SPDX-License-Identifier: MIT */
/*
 * test_net_memory.c - connections that find no memory, or hold it.
 */
#include "net_common.h"

#include <weir/buffer_watch.h>

/* ---- failures -------------------------------------------------------- */

#if WEIR_DEBUG >= 1
static void
marked_data(struct weir_conn *conn, struct weir_slice slice)
{
	/* Lent for the receive and back, whatever the back end. */
	CHECK_EQ(slice.buffer->history & 15, WEIR_BUFFER_EVENT_BACK);
	CHECK_EQ(slice.buffer->history >> 4 & 15, WEIR_BUFFER_EVENT_RX);
	weir_conn_set_user(conn, weir_buffer_retain(slice.buffer));
	CHECK_EQ(weir_conn_send(conn, &slice, 1, NULL), 0);
}

static void
marked_sent(struct weir_conn *conn, void *context, int status)
{
	struct weir_buffer *buffer = weir_conn_user(conn);
	uint64_t history = buffer->history;
	bool lent = false;

	(void)context;
	CHECK_EQ(status, 0);
	for (; history != 0; history >>= 4)
		if ((history & 15) == WEIR_BUFFER_EVENT_TX)
			lent = true;
	CHECK(lent);
	CHECK_EQ(weir_buffer_state(buffer), WEIR_BUFFER_APP);
	weir_buffer_release(buffer);
}

TEST(net_buffers_are_marked_while_a_call_works_with_them)
{
	static const struct weir_handlers handlers = {
	    .on_data = marked_data, .on_sent = marked_sent};
	struct rig rig;

	rig_start(&rig, NULL, &handlers);
	int fd = client_connect(&rig);
	for (int i = 0; i < 10; i++) {
		client_send(fd, "abc", 3);
		client_expect(fd, "abc", 3);
	}
	close(fd);
	rig_end(&rig);
}
#endif

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
	/*
	 * Never at the end of a block, so that it always holds a carry, until
	 * the time of others was up over and over.
	 */
	client_send(fd, data, 1);
	for (size_t at = 1, rounds = 0;; rounds++) {
		size_t bytes =
		    at + 300 < sizeof(data) ? 300 : sizeof(data) - at;

		client_send(fd, data + at, bytes);
		at += bytes;
		usleep(10000);
		if (at < sizeof(data))
			continue;
		client_expect(fd, data, sizeof(data));
		if (rig_stats(&rig).closed[WEIR_CLOSE_SLOW] > 0)
			break;
		CHECK_LT(rounds, 3000);
		client_send(fd, data, 1);
		at = 1;
	}
	close(fd);
	drip_end(&drip, thread);
}

/* A byte now and then is progress; it is the packet that does not end.  Who is
 * slow with many small ones may be. */
TEST(net_packet_that_does_not_end_is_closed_in_time)
{
	struct weir_handlers handlers = {.on_data = block_data};
	struct weir_net_config config = {.packet_ms = 400};
	unsigned char block[1000];
	uint64_t start_ns = test_now_ns();
	struct rig rig;
	int dripping, steady;

	fill(block, sizeof(block), 3);
	rig_start(&rig, &config, &handlers);
	dripping = client_connect(&rig);
	steady = client_connect(&rig);
	while (rig_stats(&rig).closed[WEIR_CLOSE_PACKET] == 0) {
		CHECK_LT(test_now_ns() - start_ns, 20000000000);
		(void)send(dripping, "x", 1, MSG_NOSIGNAL);
		/* Ends one packet and begins the next, without a break. */
		client_send(steady, block + 500, 500);
		client_send(steady, block, 500);
		usleep(10000);
	}
	CHECK_GE(test_now_ns() - start_ns, 400000000);
	client_expect_end(dripping);
	CHECK_EQ(rig_stats(&rig).connections, 1);
	close(steady);
	rig_end(&rig);
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

/* ---- one queue over all loops --------------------------------------------- */

#define TURN_LOOPS 2
#define TURN_CONNS 3 /* of each loop */

static int64_t turn_budget; /* atomic: buffers to be had */
static uint32_t turn_order[TURN_LOOPS * TURN_CONNS];
static uint32_t turn_count; /* atomic */

static struct weir_buffer *
turn_acquire(size_t bytes, void *context)
{
	if (__atomic_sub_fetch(&turn_budget, 1, __ATOMIC_RELAXED) < 0) {
		__atomic_fetch_add(&turn_budget, 1, __ATOMIC_RELAXED);
		return NULL;
	}
	return memory_acquire(bytes, context);
}

/* The first byte says who it is. */
static void
turn_data(struct weir_conn *conn, struct weir_slice slice)
{
	uint32_t at = __atomic_load_n(&turn_count, __ATOMIC_RELAXED);

	(void)conn;
	CHECK_LT(at, TURN_LOOPS * TURN_CONNS);
	turn_order[at] = *weir_slice_data(slice);
	weir_slice_release(&slice);
	__atomic_store_n(&turn_count, at + 1, __ATOMIC_RELEASE);
}

TEST(net_waiting_connections_of_all_loops_are_served_in_their_order)
{
	static const struct weir_handlers handlers = {.on_data = turn_data};
	static const struct weir_net_memory few = {
	    .buffer_acquire = turn_acquire,
	    .object_alloc = memory_object,
	    .object_free = memory_object_free,
	};
	/* Nothing lent ahead, so that each buffer is for somebody. */
	const struct weir_net_config config = {
	    .memory = &few, .without = WEIR_NET_BUFFER_RING};
	const struct weir_listen_config listen = {.handlers = handlers};
	struct rig rig[TURN_LOOPS];
	int fds[TURN_LOOPS * TURN_CONNS];

	rig_net_create(&rig[0], &config);
	for (unsigned i = 0; i < TURN_LOOPS; i++) {
		struct weir_listener *listener;
		rig[i].net = rig[0].net;
		CHECK_EQ(weir_loop_create(rig[0].net, &rig[i].loop), 0);
		CHECK_EQ(weir_listen(rig[i].loop, &listen, &listener), 0);
		rig[i].port = weir_listener_port(listener);
		CHECK_EQ(
		    pthread_create(&rig[i].thread, NULL, rig_thread, &rig[i]),
		    0);
	}
	for (unsigned i = 0; i < TURN_LOOPS * TURN_CONNS; i++) {
		unsigned char name = (unsigned char)i;
		fds[i] = client_connect(&rig[i % TURN_LOOPS]);
		client_send(fds[i], &name, 1);
		WAIT_FOR(rig_stats(&rig[0]).starved_now == i + 1);
	}
	/* One at a time: whose turn it is gets it, on whichever loop. */
	for (uint32_t i = 0; i < TURN_LOOPS * TURN_CONNS; i++) {
		__atomic_fetch_add(&turn_budget, 1, __ATOMIC_RELAXED);
		WAIT_FOR(
		    __atomic_load_n(&turn_count, __ATOMIC_ACQUIRE) == i + 1);
		CHECK_EQ(turn_order[i], i);
	}
	CHECK_EQ(rig_stats(&rig[0]).starved_now, 0);
	for (unsigned i = 0; i < TURN_LOOPS * TURN_CONNS; i++)
		close(fds[i]);
	for (unsigned i = 0; i < TURN_LOOPS; i++) {
		weir_loop_stop(rig[i].loop, 5000);
		CHECK_EQ(pthread_join(rig[i].thread, NULL), 0);
		weir_loop_destroy(rig[i].loop);
	}
	check_nothing_out();
	weir_net_destroy(rig[0].net);
}
