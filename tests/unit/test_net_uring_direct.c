/* SPDX-License-Identifier: MIT */
/*
 * test_net_uring_direct.c - connections in a table of the ring instead of that
 * of the process: none takes a descriptor, places come back, a full table turns
 * one away and serves the others.
 */
#include "net_common.h"

#if WEIRI_HAVE_URING

#include "net/uring.h"

#include <dirent.h>

static size_t
open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t count = 0;

	CHECK_NOT_NULL(dir);
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

/* A table of so many places: no more than descriptors at this moment. */
static void
direct_start(
    struct rig *rig, const struct weir_handlers *handlers, rlim_t places)
{
	const struct weir_net_config config = {.with = WEIR_NET_DIRECT};
	struct rlimit limit, low;

	if (rig_backend() == WEIR_BACKEND_EPOLL)
		SKIP("for io_uring");
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	if (places != 0)
		low.rlim_cur = places;
	rig_net_create(rig, &config);
	if (!(weir_net_features(rig->net) & WEIR_NET_DIRECT)) {
		weir_net_destroy(rig->net);
		SKIP("no direct descriptors here");
	}
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
	CHECK_EQ(weir_loop_create(rig->net, &rig->loop), 0);
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	if (places != 0)
		CHECK_EQ(weiri_uring_of(rig->loop)->table, places);

	struct weir_listen_config listen = {.handlers = *handlers};
	struct weir_listener *listener;
	CHECK_EQ(weir_listen(rig->loop, &listen, &listener), 0);
	rig->port = weir_listener_port(listener);
	CHECK_EQ(pthread_create(&rig->thread, NULL, rig_thread, rig), 0);
}

/* What the loop's thread counts; exact once it is idle. */
static uint32_t
direct_taken(const struct rig *rig)
{
	return __atomic_load_n(
	    &weiri_uring_of(rig->loop)->direct, __ATOMIC_RELAXED);
}

/* ---- descriptors ----------------------------------------------------------- */

#define MANY 20

TEST(net_direct_connections_take_no_descriptor)
{
	struct rig rig;
	int fd[MANY];
	size_t before;

	direct_start(&rig, &echo_handlers, 0);
	before = open_descriptors();
	for (int i = 0; i < MANY; i++) {
		fd[i] = client_connect(&rig);
		client_send(fd[i], "direct", 6);
		client_expect(fd[i], "direct", 6);
	}
	CHECK_EQ(open_descriptors(), before + MANY); /* the clients' */
	for (int i = 0; i < MANY; i++)
		close(fd[i]);
	WAIT_FOR(rig_stats(&rig).connections == 0);
	WAIT_FOR(direct_taken(&rig) == 0);
	rig_end(&rig);
}

/* They are asked for, and where an address counts they are not to be had. */
TEST(net_direct_descriptors_are_off_unless_asked_for)
{
	struct weir_net_config config = {.with = 0};
	struct rig rig;

	if (rig_with() & WEIR_NET_DIRECT)
		SKIP("asked for by the environment");
	rig_net_create(&rig, &config);
	CHECK_EQ(weir_net_features(rig.net) & WEIR_NET_DIRECT, 0);
	weir_net_destroy(rig.net);
	config.with = WEIR_NET_DIRECT;
	config.without = WEIR_NET_DIRECT;
	rig_net_create(&rig, &config);
	CHECK_EQ(weir_net_features(rig.net) & WEIR_NET_DIRECT, 0);
	weir_net_destroy(rig.net);
	config.without = 0;
	config.address_max = 3;
	rig_net_create(&rig, &config);
	CHECK_EQ(weir_net_features(rig.net) & WEIR_NET_DIRECT, 0);
	weir_net_destroy(rig.net);
	config.with = 1u << 31;
	CHECK_EQ(weir_net_create(&config, &rig.net), -EINVAL);
}

/* ---- a full table ------------------------------------------------------------ */

#define PLACES 16

/* 1: the byte came back; 0: the connection was ended. */
static int
direct_try(int fd)
{
	char byte = 'x';

	if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
		return 0;
	return recv(fd, &byte, 1, 0) == 1;
}

TEST(net_direct_full_table_turns_one_away_and_serves_the_others)
{
	struct rig rig;
	int fd[2 * PLACES];
	size_t before;
	int served = 0;

	direct_start(&rig, &echo_handlers, PLACES);
	before = open_descriptors();
	for (int i = 0; i < 2 * PLACES; i++) {
		fd[i] = client_connect(&rig);
		served += direct_try(fd[i]);
	}
	CHECK_EQ(direct_taken(&rig), PLACES);
	CHECK_EQ(rig_stats(&rig).no_descriptor, 2 * PLACES - served);
	CHECK_EQ(served, 2 * PLACES - 1);
	for (int i = 0; i < 2 * PLACES; i++)
		close(fd[i]);
	WAIT_FOR(rig_stats(&rig).connections == 0);
	WAIT_FOR(direct_taken(&rig) == 0);
	WAIT_FOR(open_descriptors() == before);
	rig_end(&rig);
}

/* All at once, again and again: nobody is left without an answer, no place and no
 * descriptor is lost. */
TEST(net_direct_places_come_back)
{
	struct rig rig;
	size_t before;

	direct_start(&rig, &echo_handlers, PLACES);
	before = open_descriptors();
	for (int round = 0; round < 20; round++) {
		int fd[2 * PLACES];
		uint64_t lost = rig_stats(&rig).no_descriptor;
		uint64_t served = 0;
		for (int i = 0; i < 2 * PLACES; i++)
			fd[i] = client_connect(&rig);
		for (int i = 0; i < 2 * PLACES; i++)
			served += (uint64_t)direct_try(fd[i]);
		CHECK_EQ(
		    served + rig_stats(&rig).no_descriptor - lost, 2 * PLACES);
		for (int i = 0; i < 2 * PLACES; i++)
			close(fd[i]);
		WAIT_FOR(rig_stats(&rig).connections == 0);
		WAIT_FOR(direct_taken(&rig) == 0);
	}
	WAIT_FOR(open_descriptors() == before);
	rig_end(&rig);
}

/* ---- ends ---------------------------------------------------------------------- */

static struct weir_conn *end_conn; /* atomic */
static uint32_t end_refuse;        /* atomic */

static void
end_accepted(struct weir_conn *conn)
{
	__atomic_store_n(&end_conn, conn, __ATOMIC_RELEASE);
}

/* While the queue takes nothing, if so asked. */
static void
end_abort(struct weir_loop *loop, struct weir_task *task)
{
	struct weiri_ring *ring = &weiri_uring_of(loop)->ring;
	uint32_t refuse = __atomic_load_n(&end_refuse, __ATOMIC_RELAXED);

	(void)task;
	while (refuse > 0 && weiri_ring_pending(ring) <= ring->sq_mask)
		CHECK_NOT_NULL(weiri_uring_entry(
		    loop, IORING_OP_NOP, -1, NULL, URING_TAG_NONE));
	ring->refuse = refuse;
	weir_conn_abort(
	    __atomic_load_n(&end_conn, __ATOMIC_ACQUIRE), WEIR_CLOSE_LOCAL);
}

static void
end_round(struct rig *rig, uint32_t refuse)
{
	static struct weir_task tasks[8]; /* the loop's for good */
	struct weir_task *task = &tasks[refuse];
	char byte;
	int fd;

	__atomic_store_n(&end_conn, NULL, __ATOMIC_RELEASE);
	__atomic_store_n(&end_refuse, refuse, __ATOMIC_RELAXED);
	fd = client_connect(rig);
	WAIT_FOR(__atomic_load_n(&end_conn, __ATOMIC_ACQUIRE) != NULL);
	task->run = end_abort;
	weir_loop_post(rig->loop, task);
	CHECK_LE(recv(fd, &byte, 1, 0), 0);
	if (refuse == 0)
		CHECK_EQ(errno, ECONNRESET);
	close(fd);
	WAIT_FOR(rig_stats(rig).connections == 0);
	WAIT_FOR(direct_taken(rig) == 0);
}

TEST(net_direct_abort_is_a_reset_and_a_full_queue_loses_no_place)
{
	const struct weir_handlers handlers = {
	    .on_accept = end_accepted,
	    .on_data = echo_data,
	};
	struct rig rig;

	direct_start(&rig, &handlers, PLACES);
	end_round(&rig, 0);
	for (uint32_t refuse = 1; refuse < 8; refuse++)
		end_round(&rig, refuse);
	/* All places are there. */
	int fd[PLACES];
	for (int i = 0; i < PLACES; i++) {
		fd[i] = client_connect(&rig);
		CHECK(direct_try(fd[i]));
	}
	CHECK_EQ(direct_taken(&rig), PLACES);
	for (int i = 0; i < PLACES; i++)
		close(fd[i]);
	rig_end(&rig);
}

static void
close_data(struct weir_conn *conn, struct weir_slice slice)
{
	slice.bytes = 1; /* what came with it is not answered */
	CHECK_EQ(weir_conn_send(conn, &slice, 1, NULL), 0);
	weir_conn_close(conn, WEIR_CLOSE_LOCAL);
}

/* The peer still sends, which turns a mere close into a reset. */
TEST(net_direct_close_lingers_until_the_peer_has_it_all)
{
	const struct weir_handlers handlers = {.on_data = close_data};
	struct rig rig;
	char byte;

	direct_start(&rig, &handlers, PLACES);
	for (int i = 0; i < 20; i++) {
		int fd = client_connect(&rig);
		client_send(fd, "z", 1);
		usleep(1000);
		(void)send(fd, "more", 4, MSG_NOSIGNAL);
		client_expect(fd, "z", 1);
		CHECK_EQ(recv(fd, &byte, 1, 0), 0);
		close(fd);
	}
	WAIT_FOR(rig_stats(&rig).connections == 0);
	CHECK_EQ(rig_stats(&rig).closed[WEIR_CLOSE_LOCAL], 20);
	rig_end(&rig);
}

#else

TEST(net_direct_descriptors_are_left_out_of_this_build)
{
	SKIP("io_uring is left out of this build");
}

#endif
