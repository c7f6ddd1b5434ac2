/* SPDX-License-Identifier: MIT */
/*
 * test_net_uring_zero.c - sends that the network reads from our buffers: whose
 * these are meanwhile, what holds them, and what becomes of them when the
 * connection, or the loop, ends before the notification.
 *
 * On loopback the kernel copies when a packet leaves the sender's queue, and so
 * notifies only then: bytes that do not fit the peer's window stay ours.
 */
#include "net_common.h"

#if WEIRI_HAVE_URING

#include "net/uring.h"

#include <weir/buffer_watch.h>

#define PIECE 65536u
#define PIECES 16u /* more than the peer's window and less than the quota */

static struct {
	struct weir_conn *conn;            /* atomic */
	struct weir_buffer *piece[PIECES]; /* atomic */
	int sent;                          /* atomic: reports */
	int cancelled;                     /* atomic */
	int closed;                        /* atomic: ends */
	bool close;                        /* behind the answer; atomic */
} zero;

static unsigned char
zero_byte(size_t at)
{
	return (unsigned char)(at / 251 + at * 7);
}

/* Answers anything with PIECES buffers, each in a send of its own, and keeps a
 * reference to each. */
static void
zero_data(struct weir_conn *conn, struct weir_slice slice)
{
	size_t at = 0;

	weir_buffer_release(slice.buffer);
	for (uint32_t i = 0; i < PIECES; i++) {
		struct weir_buffer *buffer =
		    weir_loop_buffer(weir_conn_loop(conn), PIECE);
		CHECK_NOT_NULL(buffer);
		for (size_t k = 0; k < PIECE; k++)
			buffer->data[k] = zero_byte(at++);
		__atomic_store_n(&zero.piece[i], weir_buffer_retain(buffer),
		    __ATOMIC_RELEASE);
		slice = (struct weir_slice){buffer, 0, PIECE};
		CHECK_EQ(weir_conn_send(conn, &slice, 1, NULL), 0);
	}
	if (__atomic_load_n(&zero.close, __ATOMIC_RELAXED))
		weir_conn_close(conn, WEIR_CLOSE_LOCAL);
}

static void
zero_accept(struct weir_conn *conn)
{
	__atomic_store_n(&zero.conn, conn, __ATOMIC_RELEASE);
}

static void
zero_sent(struct weir_conn *conn, void *context, int status)
{
	(void)conn;
	(void)context;
	__atomic_fetch_add(
	    status == 0 ? &zero.sent : &zero.cancelled, 1, __ATOMIC_RELEASE);
}

static void
zero_close(struct weir_conn *conn, enum weir_close_reason reason)
{
	(void)conn;
	(void)reason;
	__atomic_fetch_add(&zero.closed, 1, __ATOMIC_RELEASE);
}

static const struct weir_handlers zero_handlers = {
    .on_accept = zero_accept,
    .on_data = zero_data,
    .on_sent = zero_sent,
    .on_close = zero_close,
};

static void
zero_start(struct rig *rig, struct weir_net_config config)
{
	memset(&zero, 0, sizeof(zero));
	if (rig_backend() == WEIR_BACKEND_EPOLL)
		SKIP("for io_uring");
	if (config.send_quota_bytes == 0)
		config.send_quota_bytes = 4u << 20;
	if (config.zero_copy_bytes == 0)
		config.zero_copy_bytes = PIECE;
	config.with |= WEIR_NET_ZERO_COPY;
	rig_start(rig, &config, &zero_handlers);
	if (!(weir_net_features(rig->net) & WEIR_NET_ZERO_COPY)) {
		rig_end(rig);
		SKIP("no sends without a copy here");
	}
}

/* A peer with a small window. */
static int
zero_client(const struct rig *rig)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET,
	    .sin_port = htons(rig->port),
	    .sin_addr = {htonl(INADDR_LOOPBACK)},
	};
	struct timeval limit = {.tv_sec = 45};
	int small = 65536;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK_GE(fd, 0);
	CHECK_EQ(
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	CHECK_EQ(
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	CHECK_EQ(connect(fd, (void *)&address, sizeof(address)), 0);
	return fd;
}

static void
zero_expect_all(int fd)
{
	static unsigned char back[65536];
	size_t at = 0;

	while (at < (size_t)PIECES * PIECE) {
		ssize_t got = recv(fd, back, sizeof(back), 0);
		CHECK_GT(got, 0);
		for (ssize_t k = 0; k < got; k++, at++)
			if (back[k] != zero_byte(at))
				FAIL("byte %zu differs", at);
	}
}

static int
zero_reports(void)
{
	return __atomic_load_n(&zero.sent, __ATOMIC_ACQUIRE);
}

static struct weir_buffer *
zero_piece(uint32_t index)
{
	return __atomic_load_n(&zero.piece[index], __ATOMIC_ACQUIRE);
}

static size_t
zero_in(enum weir_buffer_state state)
{
	size_t count = 0;

	for (uint32_t i = 0; i < PIECES; i++) {
		const struct weir_buffer *piece = zero_piece(i);
		count += piece != NULL && weir_buffer_state(piece) == state;
	}
	return count;
}

static void
zero_release(void)
{
	for (uint32_t i = 0; i < PIECES; i++) {
		weir_buffer_release(zero_piece(i));
	}
}

/* Sends that are reported, and whose buffers the kernel still reads. */
static void
zero_await(int fd)
{
	client_send(fd, "?", 1);
	WAIT_FOR(zero_reports() >= 2 && zero_in(WEIR_BUFFER_ZC_NOTIFY) >= 1);
}

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
		WAIT_FOR(__atomic_load_n(&zero.closed, __ATOMIC_ACQUIRE) == 1);
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
