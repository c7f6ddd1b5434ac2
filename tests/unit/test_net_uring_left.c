/* SPDX-License-Identifier: MIT */
/*
 * test_net_uring_left.c - what the kernel still uses of ours when nobody waits
 * for it any more: sends of a connection that ended, buffers of a ring that
 * failed.
 */
#include "net_zero_common.h"

#if WEIRI_HAVE_URING

#include <weir/account.h>

/* Without and with a descriptor. */
#define WAYS 2
static const uint32_t left_ways[WAYS] = {0, WEIR_NET_DIRECT};

/* ---- connections that ended ------------------------------------------------
 * */

/* A connection that has ended, and whose peer has not read what was sent. */
static int
left_client(struct rig *rig, int how)
{
	int fd;

	__atomic_store_n(&zero.close, how == 0, __ATOMIC_RELAXED);
	fd = zero_client(rig);
	zero_await(fd);
	CHECK_EQ(shutdown(fd, SHUT_WR), 0);
	WAIT_FOR(zero_closed() == 1);
	CHECK_EQ(rig_stats(rig).connections, 0);
	CHECK_GE(zero_in(WEIR_BUFFER_ZC_NOTIFY), 1);
	return fd;
}

/* It keeps its window shut and answers, for as long as it likes; neither the
 * socket nor the buffers are its for as long. */
TEST(net_left_sends_are_given_up_when_the_peer_takes_nothing)
{
	struct rig rig;

	for (int how = 0; how < 2; how++)
		for (int way = 0; way < WAYS; way++) {
			const struct weir_net_config config = {
			    .stall_ms = 200,
			    .with = left_ways[way],
			};
			zero_start(&rig, config);
			int fd = left_client(&rig, how);
			WAIT_FOR(zero_in(WEIR_BUFFER_APP) == PIECES);
			CHECK_EQ(rig_stats(&rig).zero_copies_reset, 1);
			zero_release();
			close(fd);
			rig_end(&rig);
		}
}

/* One that takes some of it now and then gets it all. */
TEST(net_left_sends_to_a_slow_peer_arrive)
{
	static unsigned char back[16384];
	const struct weir_net_config config = {.stall_ms = 1600};
	struct rig rig;
	size_t at = 0;

	zero_start(&rig, config);
	int fd = left_client(&rig, 0);
	while (at < (size_t)PIECES * PIECE) {
		ssize_t got = recv(fd, back, sizeof(back), 0);
		CHECK_GT(got, 0);
		for (ssize_t k = 0; k < got; k++, at++)
			if (back[k] != zero_byte(at))
				FAIL("byte %zu differs", at);
		usleep(30000);
	}
	CHECK_EQ(recv(fd, back, 1, 0), 0);
	CHECK_EQ(rig_stats(&rig).zero_copies_reset, 0);
	WAIT_FOR(zero_in(WEIR_BUFFER_APP) == PIECES);
	zero_release();
	close(fd);
	rig_end(&rig);
}

/* While others wait for memory it may be idle for half a second only. */
TEST(net_left_sends_give_way_when_others_wait_for_memory)
{
	const struct weir_net_config config = {
	    .memory = &memory,
	    .stall_ms = UINT32_MAX,
	    .hold_ms = UINT32_MAX,
	};
	struct rig rig;
	int fd, other;

	zero_start(&rig, config);
	__atomic_store_n(&zero.once, true, __ATOMIC_RELAXED);
	fd = left_client(&rig, 1);
	other = client_connect(&rig);
	__atomic_store_n(&memory_no_buffers, true, __ATOMIC_RELAXED);
	/* Until what is ready to be received into is used up. */
	while (rig_stats(&rig).starved_now == 0) {
		CHECK_EQ(send(other, "x", 1, MSG_NOSIGNAL), 1);
		usleep(1000);
	}
	WAIT_FOR(rig_stats(&rig).zero_copies_reset == 1);
	WAIT_FOR(zero_in(WEIR_BUFFER_APP) >= PIECES);
	__atomic_store_n(&memory_no_buffers, false, __ATOMIC_RELAXED);
	close(other);
	WAIT_FOR(rig_stats(&rig).connections == 0);
	zero_release();
	close(fd);
	rig_end(&rig);
}

/* A queue that takes nothing does not turn a reset into an orderly end, after
 * which nobody could have the kernel let go. */
static void
left_abort_full(struct weir_loop *loop, struct weir_task *task)
{
	struct weiri_ring *ring = &weiri_uring_of(loop)->ring;

	(void)task;
	while (weiri_ring_pending(ring) <= ring->sq_mask)
		CHECK_NOT_NULL(weiri_uring_entry(
		    loop, IORING_OP_NOP, -1, NULL, URING_TAG_NONE));
	ring->refuse = 1000;
	weir_conn_abort(zero.conn, WEIR_CLOSE_LOCAL);
}

TEST(net_left_sends_are_reset_when_the_queue_has_room_again)
{
	const struct weir_net_config config = {
	    .send_quota_bytes = PIECE, .with = WEIR_NET_DIRECT};
	static struct weir_task task = {.run = left_abort_full};
	struct rig rig;
	int fd;

	zero_start(&rig, config);
	if (!(weir_net_features(rig.net) & WEIR_NET_DIRECT)) {
		rig_end(&rig);
		SKIP("no direct descriptors here");
	}
	fd = zero_client(&rig);
	zero_await(fd);
	/* Nothing is armed for it that would have to end first. */
	WAIT_FOR(zero_reports() == PIECES && rig_stats(&rig).quota_pauses == 1);
	weir_loop_post(rig.loop, &task);
	WAIT_FOR(zero_in(WEIR_BUFFER_APP) == PIECES);
	zero_release();
	close(fd);
	rig_end(&rig);
}

/* A second stop that allows no time takes back the time of the first. */
TEST(net_left_sends_do_not_outlast_a_shorter_stop)
{
	const struct weir_net_config config = {.stall_ms = UINT32_MAX};
	struct timespec limit;
	struct rig rig;
	int fd;

	zero_start(&rig, config);
	fd = left_client(&rig, 1);
	weir_loop_stop(rig.loop, 600000);
	usleep(20000);
	weir_loop_stop(rig.loop, 0);
	/* Sooner than what is left is given up by itself. */
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 20;
	CHECK_EQ(pthread_timedjoin_np(rig.thread, NULL, &limit), 0);
	CHECK_EQ(zero_in(WEIR_BUFFER_APP), PIECES);
	weir_loop_destroy(rig.loop);
	zero_release();
	check_nothing_out();
	weir_net_destroy(rig.net);
	close(fd);
}

/* ---- rings that fail
 * --------------------------------------------------------- */

static int left_error; /* of weir_loop_run(); atomic */

static void *
left_thread(void *argument)
{
	struct rig *rig = argument;

	__atomic_store_n(
	    &left_error, weir_loop_run(rig->loop), __ATOMIC_RELEASE);
	return NULL;
}

/* It has made an error, but what is with it can still be asked about. */
static void
left_declare_dead(struct weir_loop *loop, struct weir_task *task)
{
	(void)task;
	weiri_uring_of(loop)->ring.dead = true;
}

/* No call about it works any more. */
static void
left_take_away(struct weir_loop *loop, struct weir_task *task)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)task;
	CHECK_GE(null, 0);
	CHECK_EQ(dup2(null, weiri_uring_of(loop)->ring.fd),
	    weiri_uring_of(loop)->ring.fd);
	close(null);
}

/* A loop with such a connection, whose ring fails; returns the peer. */
static int
left_fail(
    struct rig *rig, struct weir_net_config config, struct weir_task *task)
{
	struct weir_listen_config listen = {.handlers = zero_handlers};
	struct weir_listener *listener;
	int fd;

	memset(&zero, 0, sizeof(zero));
	if (rig_backend() == WEIR_BACKEND_EPOLL)
		SKIP("for io_uring");
	config.send_quota_bytes = 4u << 20;
	config.zero_copy_bytes = PIECE;
	config.with |= WEIR_NET_ZERO_COPY;
	rig_net_create(rig, &config);
	if (!(weir_net_features(rig->net) & WEIR_NET_ZERO_COPY)) {
		weir_net_destroy(rig->net);
		SKIP("no sends without a copy here");
	}
	CHECK_EQ(weir_loop_create(rig->net, &rig->loop), 0);
	CHECK_EQ(weir_listen(rig->loop, &listen, &listener), 0);
	rig->port = weir_listener_port(listener);
	CHECK_EQ(pthread_create(&rig->thread, NULL, left_thread, rig), 0);
	fd = zero_client(rig);
	zero_await(fd);
	weir_loop_post(rig->loop, task);
	CHECK_EQ(pthread_join(rig->thread, NULL), 0);
	CHECK_LT(__atomic_load_n(&left_error, __ATOMIC_ACQUIRE), 0);
	CHECK_EQ(zero_closed(), 1);
	return fd;
}

TEST(net_ring_that_fails_gives_back_what_the_kernel_is_done_with)
{
	struct weir_task task = {.run = left_declare_dead};
	struct rig rig;

	for (int way = 0; way < WAYS; way++) {
		const struct weir_net_config config = {.with = left_ways[way]};
		int fd = left_fail(&rig, config, &task);
		CHECK_EQ(zero_in(WEIR_BUFFER_APP), PIECES);
		weir_loop_destroy(rig.loop);
		CHECK_EQ(rig_stats(&rig).buffers_lost, 0);
		zero_release();
		check_nothing_out();
		weir_net_destroy(rig.net);
		close(fd);
	}
}

/* All of what the engine has to give, by another loop. */
static void
left_scribble(struct rig *rig)
{
	struct weir_buffer *buffer[4 * PIECES];
	struct weir_loop *loop;

	CHECK_EQ(weir_loop_create(rig->net, &loop), 0);
	for (size_t i = 0; i < 4 * PIECES; i++) {
		buffer[i] = weir_loop_buffer(loop, PIECE);
		CHECK_NOT_NULL(buffer[i]);
		memset(buffer[i]->data, 0xee, PIECE);
	}
	for (size_t i = 0; i < 4 * PIECES; i++)
		weir_buffer_release(buffer[i]);
	weir_loop_destroy(loop);
}

/* Sockets without a descriptor end with their ring, in order: what was sent
 * before is what their peers get, whatever the engine does meanwhile. */
TEST(net_ring_that_fails_does_not_have_its_buffers_used_again)
{
	struct weir_task task = {.run = left_take_away};
	static unsigned char back[65536];
	struct rig rig;

	for (int way = 0; way < WAYS; way++) {
		const struct weir_net_config config = {.with = left_ways[way]};
		int fd = left_fail(&rig, config, &task);
		size_t lent = zero_in(WEIR_BUFFER_ZC_NOTIFY);
		size_t at = 0;
		ssize_t got;
		CHECK_GE(lent, 1);
		weir_loop_destroy(rig.loop);
		CHECK_EQ(zero_in(WEIR_BUFFER_ZC_NOTIFY), lent);
		/* And those that its receives might fill. */
		CHECK_GT(rig_stats(&rig).buffers_lost, lent);
		zero_release();
		left_scribble(&rig);
		weir_net_destroy(rig.net);
		/* A reset ends it where there is a descriptor. */
		while ((got = recv(fd, back, sizeof(back), 0)) > 0)
			for (ssize_t k = 0; k < got; k++, at++)
				if (back[k] != zero_byte(at))
					FAIL("byte %zu is another one", at);
		close(fd);
	}
}

/* Nobody pays for what is lost: accounts end as they do without. */
TEST(net_ring_that_fails_leaves_no_account_charged)
{
	struct weir_task task = {.run = left_take_away};
	const struct weir_account_config above = {.name = "above"};
	static struct weir_account account;
	struct weir_net_config config = {.account = &account};
	struct rig rig;
	int fd;

	CHECK_EQ(weir_account_init(&account, &above), 0);
	fd = left_fail(&rig, config, &task);
	weir_loop_destroy(rig.loop);
	CHECK_GT(rig_stats(&rig).buffers_lost, 0);
	zero_release();
	CHECK_EQ(rig_stats(&rig).account_bytes, 0);
	weir_net_destroy(rig.net);
	weir_account_finish(&account);
	close(fd);
}

#else

TEST(net_left_sends_are_left_out_of_this_build)
{
	SKIP("io_uring is left out of this build");
}

#endif
