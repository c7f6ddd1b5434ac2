/* SPDX-License-Identifier: MIT */
/*
 * test_net_uring_zero.c - sends that the network reads from our buffers: whose
 * these are meanwhile, what holds them, and what becomes of them when the
 * connection, or the loop, ends before the notification.
 * What one leaves, and a ring that fails, are test_net_uring_left.c's.
 */
#include "net_zero_common.h"

#if WEIRI_HAVE_URING

/* ---- whose a buffer is ---------------------------------------------------- */

TEST(net_zero_copy_keeps_a_buffer_after_the_report_until_the_notification)
{
	const struct weir_net_config config = {.with = 0};
	struct rig rig;
	int fd;

	zero_start(&rig, config);
	fd = zero_client(&rig);
	zero_await(fd);
	CHECK_GT(rig_stats(&rig).zero_copies, 0);
	zero_expect_all(fd);
	WAIT_FOR(zero_in(WEIR_BUFFER_APP) == PIECES);
	CHECK_EQ(zero_reports(), PIECES);
	for (uint32_t i = 0; i < PIECES; i++)
		WAIT_FOR(weir_buffer_references(zero_piece(i)) == 1);
	zero_release();
	close(fd);
	rig_end(&rig);
}

/* There the copy is made all the same, and costs more. */
TEST(net_zero_copy_is_not_used_on_this_machine_unless_asked_for)
{
	struct weir_net_config config = {
	    .send_quota_bytes = 4u << 20,
	    .zero_copy_bytes = 1,
	};
	struct rig rig;
	int fd;

	if (rig_with() & WEIR_NET_ZERO_COPY)
		SKIP("asked for by the environment");
	memset(&zero, 0, sizeof(zero));
	rig_start(&rig, &config, &zero_handlers);
	fd = client_connect(&rig);
	client_send(fd, "?", 1);
	zero_expect_all(fd);
	CHECK_EQ(rig_stats(&rig).zero_copies, 0);
	zero_release();
	close(fd);
	rig_end(&rig);
}

TEST(net_zero_copy_counts_what_the_system_copied_after_all)
{
	const struct weir_net_config config = {.with = 0};
	struct weir_net_figures stats;
	struct rig rig;
	int fd;

	zero_start(&rig, config);
	fd = zero_client(&rig);
	client_send(fd, "?", 1);
	zero_expect_all(fd);
	WAIT_FOR(zero_in(WEIR_BUFFER_APP) == PIECES);
	stats = rig_stats(&rig);
	CHECK_GT(stats.zero_copies, 0);
	CHECK_EQ(stats.zero_copies_copied, stats.zero_copies);
	zero_release();
	close(fd);
	rig_end(&rig);
}

/* Small sends, and those in several pieces that are large together. */
TEST(net_zero_copy_begins_at_its_size)
{
	struct weir_net_config config = {.zero_copy_bytes = 3000};
	const struct weir_handlers blocks = {.on_data = block_data};
	static unsigned char data[100000];
	struct rig rig;
	int fd;

	config.with = WEIR_NET_ZERO_COPY;
	if (rig_backend() == WEIR_BACKEND_EPOLL)
		SKIP("for io_uring");
	rig_start(&rig, &config, &blocks);
	fd = client_connect(&rig);
	fill(data, sizeof(data), 1);
	for (int i = 0; i < 20; i++) {
		client_send(fd, data, 2000);
		client_expect(fd, data, 2000);
	}
	CHECK_EQ(rig_stats(&rig).zero_copies, 0);
	for (int i = 0; i < 20; i++) {
		client_send(fd, data, sizeof(data));
		client_expect(fd, data, sizeof(data));
	}
	if (weir_net_features(rig.net) & WEIR_NET_ZERO_COPY)
		CHECK_GT(rig_stats(&rig).zero_copies, 0);
	CHECK(fragile_client(&rig));
	close(fd);
	rig_end(&rig);
}

/* ---- ends before the notification ----------------------------------------- */

/* The peer sends no more, so the connection ends with its last send; but what was
 * sent is still due to the peer, and its end after that. */
TEST(net_zero_copy_outlives_a_connection_that_ended_in_order)
{
	const struct weir_net_config config = {.with = 0};
	struct rig rig;
	char byte;
	int fd;

	for (int how = 0; how < 2; how++) {
		zero_start(&rig, config);
		__atomic_store_n(&zero.close, how == 0, __ATOMIC_RELAXED);
		fd = zero_client(&rig);
		zero_await(fd);
		CHECK_EQ(shutdown(fd, SHUT_WR), 0);
		WAIT_FOR(zero_closed() == 1);
		CHECK_GE(zero_in(WEIR_BUFFER_ZC_NOTIFY), 1);
		CHECK_EQ(rig_stats(&rig).connections, 0);
		zero_expect_all(fd);
		CHECK_EQ(recv(fd, &byte, 1, 0), 0);
		WAIT_FOR(zero_in(WEIR_BUFFER_APP) == PIECES);
		zero_release();
		close(fd);
		rig_end(&rig);
	}
}

static void
zero_abort(struct weir_loop *loop, struct weir_task *task)
{
	(void)loop;
	(void)task;
	weir_conn_abort(zero.conn, WEIR_CLOSE_LOCAL);
}

TEST(net_zero_copy_gives_buffers_back_after_a_reset)
{
	const struct weir_net_config config = {.with = 0};
	struct linger linger = {.l_onoff = 1, .l_linger = 0};
	struct weir_task task = {.run = zero_abort};
	struct rig rig;
	int fd;

	for (int how = 0; how < 2; how++) {
		zero_start(&rig, config);
		fd = zero_client(&rig);
		zero_await(fd);
		if (how == 0) {
			weir_loop_post(rig.loop, &task);
		} else {
			CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger,
				     sizeof(linger)),
			    0);
			close(fd);
		}
		WAIT_FOR(rig_stats(&rig).connections == 0);
		WAIT_FOR(zero_in(WEIR_BUFFER_APP) == PIECES);
		WAIT_FOR(zero_reports() + __atomic_load_n(&zero.cancelled,
					      __ATOMIC_ACQUIRE) ==
			 PIECES);
		zero_release();
		if (how == 0)
			close(fd);
		rig_end(&rig);
	}
}

/* The peer never reads: the loop ends with its grace, and nothing is out. */
TEST(net_zero_copy_does_not_keep_a_loop_from_its_end)
{
	const struct weir_net_config config = {.with = 0};
	struct rig rig;
	int fd;

	for (int how = 0; how < 2; how++) {
		zero_start(&rig, config);
		fd = zero_client(&rig);
		zero_await(fd);
		if (how == 0) {
			/* Its connection is gone before the loop stops. */
			CHECK_EQ(shutdown(fd, SHUT_WR), 0);
			WAIT_FOR(rig_stats(&rig).connections == 0);
		}
		weir_loop_stop(rig.loop, 50);
		CHECK_EQ(pthread_join(rig.thread, NULL), 0);
		CHECK_EQ(zero_in(WEIR_BUFFER_APP), PIECES);
		weir_loop_destroy(rig.loop);
		zero_release();
		check_nothing_out();
		weir_net_destroy(rig.net);
		close(fd);
	}
}

/* ---- limits ------------------------------------------------------------------ */

/* What is awaited counts: a peer that asks and does not read is not heard any
 * more, and is given up when it takes nothing. */
TEST(net_zero_copy_is_held_by_the_connection)
{
	const struct weir_net_config config = {
	    .send_quota_bytes = PIECE,
	    .stall_ms = 400,
	};
	struct rig rig;
	int fd;

	zero_start(&rig, config);
	fd = zero_client(&rig);
	zero_await(fd);
	WAIT_FOR(rig_stats(&rig).quota_pauses >= 1);
	WAIT_FOR(rig_stats(&rig).closed[WEIR_CLOSE_STALLED] == 1);
	WAIT_FOR(zero_in(WEIR_BUFFER_APP) == PIECES);
	zero_release();
	close(fd);
	rig_end(&rig);
}

/* One that takes a little now and then has not stalled, long before a whole send
 * is there. */
TEST(net_zero_copy_to_a_slow_peer_makes_progress)
{
	static unsigned char back[16384];
	const struct weir_net_config config = {.stall_ms = 1000};
	struct rig rig;
	size_t at = 0;
	int fd;

	zero_start(&rig, config);
	fd = zero_client(&rig);
	zero_await(fd);
	uint64_t end = test_now_ns() + 2600000000;
	while (test_now_ns() < end) {
		ssize_t got = recv(fd, back, sizeof(back), 0);
		CHECK_GT(got, 0);
		for (ssize_t k = 0; k < got; k++, at++)
			if (back[k] != zero_byte(at))
				FAIL("byte %zu differs", at);
		usleep(200000);
	}
	CHECK_EQ(rig_stats(&rig).connections, 1);
	close(fd);
	WAIT_FOR(zero_in(WEIR_BUFFER_APP) == PIECES);
	zero_release();
	rig_end(&rig);
}

/* Large enough for a send without a copy are two of them together. */
#define HALF (PIECE / 2)

/* And so many of them wait when there is no room for more. */
#define HALVES 4

static int halves; /* that wait */

/* Answers each time with a half, or tries again to send those that wait. */
static void
half_data(struct weir_conn *conn, struct weir_slice slice)
{
	struct weir_buffer *buffer;

	weir_buffer_release(slice.buffer);
	if (conn->ops != NULL && halves++ >= HALVES) {
		weiri_conn_queue(conn);
		return;
	}
	buffer = weir_loop_buffer(weir_conn_loop(conn), HALF);
	CHECK_NOT_NULL(buffer);
	memset(buffer->data, 'h', HALF);
	slice = (struct weir_slice){buffer, 0, HALF};
	CHECK_EQ(weir_conn_send(conn, &slice, 1, NULL), 0);
}

/* A send for which the peer has no window is notified of, too: that it sent nothing,
 * which is neither progress nor a copy. */
TEST(net_zero_copy_that_sends_nothing_is_no_progress)
{
	const struct weir_handlers handlers = {.on_data = half_data};
	const struct weir_net_config config = {
	    .send_quota_bytes = 256u << 20,
	    .zero_copy_bytes = PIECE,
	    .stall_ms = 300,
	    .with = WEIR_NET_ZERO_COPY,
	};
	struct weir_net_figures stats;
	struct rig rig;
	int fd;

	if (rig_backend() == WEIR_BACKEND_EPOLL)
		SKIP("for io_uring");
	rig_start(&rig, &config, &handlers);
	if (!(weir_net_features(rig.net) & WEIR_NET_ZERO_COPY)) {
		rig_end(&rig);
		SKIP("no sends without a copy here");
	}
	fd = zero_client(&rig);
	uint64_t end = test_now_ns() + 20000000000;
	while (test_now_ns() < end && send(fd, "?", 1, MSG_NOSIGNAL) == 1)
		usleep(3000);
	stats = rig_stats(&rig);
	CHECK_EQ(stats.closed[WEIR_CLOSE_STALLED], 1);
	CHECK_LE(stats.zero_copies_copied, stats.zero_copies);
	close(fd);
	rig_end(&rig);
}

/* ---- patience ------------------------------------------------------------------- */

static bool hold_enough; /* atomic: the reader may end */

/* Takes 160 KB a second: more than hold_bytes in hold_ms. */
static void *
hold_read(void *argument)
{
	static unsigned char back[16384];
	const int *fd = argument;

	while (!__atomic_load_n(&hold_enough, __ATOMIC_ACQUIRE)) {
		if (recv(*fd, back, sizeof(back), 0) <= 0)
			break;
		usleep(100000);
	}
	return NULL;
}

/* One send, whose notification comes long after hold_ms.  False: the reader was kept
 * from reading, and its connection has ended for that. */
static bool
hold_round(void)
{
	const struct weir_net_config config = {
	    .memory = &memory, .hold_ms = 1000, .hold_bytes = 16384};
	struct weir_net_figures stats;
	pthread_t reader;
	struct rig rig;
	int fd, other;

	zero_start(&rig, config);
	__atomic_store_n(&zero.once, true, __ATOMIC_RELAXED);
	__atomic_store_n(&zero.together, true, __ATOMIC_RELAXED);
	fd = zero_client(&rig);
	client_send(fd, "?", 1);
	WAIT_FOR(zero_in(WEIR_BUFFER_ZC_NOTIFY) == PIECES);
	__atomic_store_n(&hold_enough, false, __ATOMIC_RELAXED);
	CHECK_EQ(pthread_create(&reader, NULL, hold_read, &fd), 0);
	usleep(1200000); /* a period of hold_ms is over */
	other = client_connect(&rig);
	__atomic_store_n(&memory_no_buffers, true, __ATOMIC_RELAXED);
	while (rig_stats(&rig).starved_now == 0) {
		CHECK_EQ(send(other, "x", 1, MSG_NOSIGNAL), 1);
		usleep(1000);
	}
	usleep(600000); /* which is looked at now */
	stats = rig_stats(&rig);
	__atomic_store_n(&memory_no_buffers, false, __ATOMIC_RELAXED);
	__atomic_store_n(&hold_enough, true, __ATOMIC_RELEASE);
	CHECK_EQ(pthread_join(reader, NULL), 0);
	close(other);
	close(fd);
	WAIT_FOR(rig_stats(&rig).connections == 0);
	WAIT_FOR(zero_in(WEIR_BUFFER_APP) == PIECES);
	zero_release();
	rig_end(&rig);
	CHECK_EQ(stats.closed[WEIR_CLOSE_SLOW], 0);
	return stats.closed[WEIR_CLOSE_STALLED] == 0;
}

TEST(net_zero_copy_to_a_peer_that_moves_is_not_slow)
{
	for (int i = 0; i < 10; i++)
		if (hold_round())
			return;
	SKIP("the peer was not let read");
}

/* Waiting for a buffer in between does not make anybody forget what it awaits. */
TEST(net_zero_copy_is_held_by_a_connection_that_has_starved)
{
	const struct weir_net_config config = {
	    .memory = &memory,
	    .stall_ms = 1200,
	    /* Whoever has no buffer waits. */
	    .without = WEIR_NET_BUFFER_RING,
	};
	struct rig rig;
	int fd;

	zero_start(&rig, config);
	__atomic_store_n(&zero.once, true, __ATOMIC_RELAXED);
	fd = zero_client(&rig);
	client_send(fd, "?", 1);
	/* All is with the system, so it may starve. */
	WAIT_FOR(zero_reports() == PIECES);
	CHECK_GE(zero_in(WEIR_BUFFER_ZC_NOTIFY), 1);
	__atomic_store_n(&memory_no_buffers, true, __ATOMIC_RELAXED);
	client_send(fd, "x", 1);
	WAIT_FOR(rig_stats(&rig).starved_now == 1);
	__atomic_store_n(&memory_no_buffers, false, __ATOMIC_RELAXED);
	WAIT_FOR(__atomic_load_n(&zero.asked, __ATOMIC_ACQUIRE) == 2);
	WAIT_FOR(rig_stats(&rig).closed[WEIR_CLOSE_STALLED] == 1);
	WAIT_FOR(zero_in(WEIR_BUFFER_APP) == PIECES);
	zero_release();
	close(fd);
	rig_end(&rig);
}

/* ---- wiping --------------------------------------------------------------------- */

static struct weir_buffer_pool *wipe_pool;
static unsigned char *wipe_bytes;

/* All references but the kernel's are gone when this returns. */
static void
wipe_data(struct weir_conn *conn, struct weir_slice slice)
{
	struct weir_slice many[8];

	weir_buffer_release(slice.buffer);
	for (size_t i = 0; i < 8; i++) {
		struct weir_buffer *buffer =
		    weir_buffer_acquire(wipe_pool, PIECE);
		CHECK_NOT_NULL(buffer);
		memset(buffer->data, 'w', PIECE);
		wipe_bytes = buffer->data; /* of the last */
		many[i] = (struct weir_slice){buffer, 0, PIECE};
	}
	CHECK_EQ(weir_conn_send(conn, many, 8, NULL), 0);
}

TEST(net_zero_copy_wipes_after_the_notification)
{
	const struct weir_handlers handlers = {
	    .on_data = wipe_data, .on_sent = zero_sent};
	const struct weir_buffer_pool_config pool = {
	    .tier_count = 1,
	    .tier = {{.bytes = PIECE}},
	    .flags = WEIR_BUFFER_WIPE,
	};
	struct weir_net_config config = {
	    .send_quota_bytes = 4u << 20,
	    .with = WEIR_NET_ZERO_COPY,
	};
	unsigned char *back = malloc((size_t)8 * PIECE);
	struct rig rig;
	size_t have = 0;
	int fd;

	if (rig_backend() == WEIR_BACKEND_EPOLL)
		SKIP("for io_uring");
	NOT_UNDER_GUARD("what is given back is looked at");
	memset(&zero, 0, sizeof(zero));
	CHECK_NOT_NULL(back);
	CHECK_EQ(weir_buffer_pool_create("wiped", &pool, &wipe_pool), 0);
	rig_start(&rig, &config, &handlers);
	fd = zero_client(&rig);
	client_send(fd, "?", 1);
	WAIT_FOR(zero_reports() == 1);
	while (have < (size_t)8 * PIECE) {
		ssize_t got =
		    recv(fd, back + have, (size_t)8 * PIECE - have, 0);
		CHECK_GT(got, 0);
		have += (size_t)got;
	}
	for (size_t i = 0; i < have; i++)
		if (back[i] != 'w')
			FAIL("byte %zu was wiped before it was sent", i);
	close(fd);
	rig_end(&rig);
	for (size_t i = 0; i < PIECE; i++)
		if (wipe_bytes[i] == 'w')
			FAIL("byte %zu was not wiped", i);
	weir_buffer_pool_destroy(wipe_pool);
	free(back);
}

#else

TEST(net_zero_copy_is_left_out_of_this_build)
{
	SKIP("io_uring is left out of this build");
}

#endif
