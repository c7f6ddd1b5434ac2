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
#include <ifaddrs.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

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

static void
direct_net_create(struct rig *rig, struct weir_net_config config)
{
	if (rig_backend() == WEIR_BACKEND_EPOLL)
		SKIP("for io_uring");
	config.with |= WEIR_NET_DIRECT;
	rig_net_create(rig, &config);
	if (!(weir_net_features(rig->net) & WEIR_NET_DIRECT)) {
		weir_net_destroy(rig->net);
		SKIP("no direct descriptors here");
	}
}

static void
direct_listen(struct rig *rig, struct weir_listen_config listen)
{
	struct weir_listener *listener;

	CHECK_EQ(weir_listen(rig->loop, &listen, &listener), 0);
	rig->port = weir_listener_port(listener);
	CHECK_EQ(pthread_create(&rig->thread, NULL, rig_thread, rig), 0);
}

/* A table of so many places: no more than descriptors at this moment. */
static void
direct_start_as(struct rig *rig, struct weir_net_config config,
    const struct weir_handlers *handlers, rlim_t places)
{
	struct weir_listen_config listen = {.handlers = *handlers};
	struct rlimit limit, low;

	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	if (places != 0)
		low.rlim_cur = places;
	direct_net_create(rig, config);
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
	CHECK_EQ(weir_loop_create(rig->net, &rig->loop), 0);
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	if (places != 0)
		CHECK_EQ(weiri_uring_of(rig->loop)->table, places);
	direct_listen(rig, listen);
}

static void
direct_start(
    struct rig *rig, const struct weir_handlers *handlers, rlim_t places)
{
	const struct weir_net_config config = {.with = 0};

	direct_start_as(rig, config, handlers, places);
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

static bool direct_held, direct_go_on; /* atomic */

static void
direct_hold(struct weir_loop *loop, struct weir_task *task)
{
	(void)loop;
	(void)task;
	__atomic_store_n(&direct_held, true, __ATOMIC_RELEASE);
	WAIT_FOR(__atomic_load_n(&direct_go_on, __ATOMIC_ACQUIRE));
}

/* In one wait one connection ends and another finds the table full.  When the loop
 * hears of that, the close of the first is queued and not done; the second is lost
 * all the same, and nothing else is short. */
TEST(net_direct_table_is_full_until_a_close_is_done)
{
	const struct weir_net_config config = {.batch = 1};
	static struct weir_task task = {.run = direct_hold};
	struct rig rig;
	int fd[PLACES + 2];

	direct_start_as(&rig, config, &echo_handlers, PLACES);
	for (int i = 0; i < PLACES; i++) {
		fd[i] = client_connect(&rig);
		CHECK(direct_try(fd[i]));
	}
	weir_loop_post(rig.loop, &task);
	WAIT_FOR(__atomic_load_n(&direct_held, __ATOMIC_ACQUIRE));
	close(fd[0]);
	usleep(20000); /* until it is the server's system's news */
	fd[PLACES] = client_connect(&rig);
	usleep(20000);
	__atomic_store_n(&direct_go_on, true, __ATOMIC_RELEASE);
	CHECK_EQ(direct_try(fd[PLACES]), 0);
	WAIT_FOR(rig_stats(&rig).no_descriptor == 1);
	CHECK_EQ(rig_stats(&rig).accept_pauses, 0);
	fd[PLACES + 1] = client_connect(&rig);
	CHECK(direct_try(fd[PLACES + 1]));
	for (int i = 1; i < PLACES + 2; i++)
		close(fd[i]);
	WAIT_FOR(direct_taken(&rig) == 0);
	rig_end(&rig);
}

/* Not only until the first time that it was full. */
TEST(net_direct_places_are_taken_again_after_a_full_table)
{
	struct rig rig;
	int fd[PLACES + 2];

	direct_start(&rig, &echo_handlers, PLACES);
	for (int i = 0; i < PLACES + 2; i++) {
		fd[i] = client_connect(&rig);
		(void)direct_try(fd[i]);
	}
	for (int i = 0; i < PLACES + 2; i++)
		close(fd[i]);
	WAIT_FOR(direct_taken(&rig) == 0);
	/* The accept that was armed meanwhile is for a descriptor. */
	for (int i = 0; i < 3; i++) {
		fd[i] = client_connect(&rig);
		CHECK(direct_try(fd[i]));
	}
	CHECK_GE(direct_taken(&rig), 1);
	for (int i = 0; i < 3; i++)
		close(fd[i]);
	WAIT_FOR(direct_taken(&rig) == 0);
	rig_end(&rig);
}

/* From here on this thread, and those it makes, get no table registered. */
static bool
direct_refuse_tables(void)
{
	struct sock_filter filter[] = {
	    BPF_STMT(
		BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_register, 0, 3),
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
		offsetof(struct seccomp_data, args[1]) +
		    (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IORING_REGISTER_FILES2, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {
	    sizeof(filter) / sizeof(filter[0]), filter};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST(net_direct_without_memory_for_a_table_everybody_has_a_descriptor)
{
	const struct weir_net_config config = {.with = 0};
	struct weir_listen_config listen = {.handlers = echo_handlers};
	struct rig rig;
	size_t before;
	int fd[3];

	direct_net_create(&rig, config);
	if (!direct_refuse_tables()) {
		weir_net_destroy(rig.net);
		SKIP("seccomp is not available");
	}
	CHECK_EQ(weir_loop_create(rig.net, &rig.loop), 0);
	CHECK_EQ(weiri_uring_of(rig.loop)->table, 0);
	direct_listen(&rig, listen);
	before = open_descriptors();
	for (int i = 0; i < 3; i++) {
		fd[i] = client_connect(&rig);
		CHECK(direct_try(fd[i]));
	}
	CHECK_EQ(open_descriptors(), before + 6);
	CHECK_EQ(direct_taken(&rig), 0);
	for (int i = 0; i < 3; i++)
		close(fd[i]);
	WAIT_FOR(rig_stats(&rig).connections == 0);
	WAIT_FOR(open_descriptors() == before);
	rig_end(&rig);
}

/* ---- sends without a copy -------------------------------------------------------- */

#define LARGE 65536u

static uint32_t
    large_busy; /* atomic: answers to give while the queue is full */

/* A large send for each byte. */
static void
large_data(struct weir_conn *conn, struct weir_slice slice)
{
	struct weir_loop *loop = weir_conn_loop(conn);
	struct weiri_ring *ring = &weiri_uring_of(loop)->ring;
	struct weir_buffer *buffer = weir_loop_buffer(loop, LARGE);

	weir_buffer_release(slice.buffer);
	CHECK_NOT_NULL(buffer);
	memset(buffer->data, 'l', LARGE);
	slice = (struct weir_slice){buffer, 0, LARGE};
	CHECK_EQ(weir_conn_send(conn, &slice, 1, NULL), 0);
	if (__atomic_load_n(&large_busy, __ATOMIC_ACQUIRE) == 0)
		return;
	__atomic_fetch_sub(&large_busy, 1, __ATOMIC_RELAXED);
	while (weiri_ring_pending(ring) <= ring->sq_mask)
		CHECK_NOT_NULL(weiri_uring_entry(
		    loop, IORING_OP_NOP, -1, NULL, URING_TAG_NONE));
	ring->refuse = 1; /* the question who the peer is */
}

/* An address of this machine that does not say so by itself; of its own the system
 * is not asked for those without a descriptor. */
static bool
large_address(int family, struct sockaddr_storage *out, socklen_t *bytes)
{
	struct ifaddrs *all = NULL;
	bool found = false;

	*bytes = family == AF_INET ? sizeof(struct sockaddr_in)
				   : sizeof(struct sockaddr_in6);
	if (getifaddrs(&all) != 0)
		return false;
	for (struct ifaddrs *at = all; at != NULL && !found;
	     at = at->ifa_next) {
		if (at->ifa_addr == NULL || at->ifa_addr->sa_family != family)
			continue;
		memset(out, 0, sizeof(*out));
		memcpy(out, at->ifa_addr, *bytes);
		const struct sockaddr_in *v4 = (const void *)out;
		const struct sockaddr_in6 *v6 = (const void *)out;
		found = family == AF_INET
			    ? ntohl(v4->sin_addr.s_addr) >> 24 != 127
			    : !IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) &&
				  !IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr);
	}
	freeifaddrs(all);
	return found;
}

static void
large_answer(int fd)
{
	static unsigned char back[LARGE];
	size_t have = 0;

	CHECK_EQ(send(fd, "?", 1, MSG_NOSIGNAL), 1);
	while (have < LARGE) {
		ssize_t got = recv(fd, back, LARGE - have, 0);
		CHECK_GT(got, 0);
		have += (size_t)got;
	}
}

/* @local: it can be told from the address alone that there is no network.
 * @busy: who the peer is cannot be asked the first time. */
static void
large_round(
    const struct sockaddr_storage *peer, socklen_t bytes, bool local, bool busy)
{
	const struct weir_net_config config = {.zero_copy_bytes = LARGE};
	const struct weir_handlers handlers = {.on_data = large_data};
	struct weir_listen_config listen = {
	    .handlers = handlers,
	    .address = peer->ss_family == AF_INET ? "0.0.0.0" : "::",
	};
	struct sockaddr_storage to = *peer;
	struct rig rig;
	int fd = socket(peer->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK_GE(fd, 0);
	direct_net_create(&rig, config);
	if (!(weir_net_features(rig.net) & WEIR_NET_ZERO_COPY)) {
		weir_net_destroy(rig.net);
		SKIP("no sends without a copy here");
	}
	CHECK_EQ(weir_loop_create(rig.net, &rig.loop), 0);
	__atomic_store_n(&large_busy, busy, __ATOMIC_RELAXED);
	direct_listen(&rig, listen);
	((struct sockaddr_in *)(void *)&to)->sin_port = htons(rig.port);
	CHECK_EQ(connect(fd, (void *)&to, bytes), 0);
	large_answer(fd);
	CHECK_EQ(direct_taken(&rig), 1);
	if (busy || local) {
		CHECK_EQ(rig_stats(&rig).zero_copies, 0);
		large_answer(fd);
	}
	if (!local) {
		WAIT_FOR(rig_stats(&rig).zero_copies == 1);
		/* It was a copy in the end, so that is all. */
		WAIT_FOR(rig_stats(&rig).zero_copies_copied == 1);
	}
	large_answer(fd);
	CHECK_EQ(rig_stats(&rig).zero_copies, !local);
	close(fd);
	rig_end(&rig);
}

TEST(net_direct_sends_without_a_copy_to_other_addresses)
{
	static const int families[] = {AF_INET, AF_INET6};
	struct sockaddr_storage peer;
	socklen_t bytes;
	int count = 0;

	if (rig_with() & WEIR_NET_ZERO_COPY)
		SKIP("asked for by the environment");
	for (int i = 0; i < 2; i++) {
		if (!large_address(families[i], &peer, &bytes))
			continue;
		large_round(&peer, bytes, false, false);
		large_round(&peer, bytes, false, true);
		count++;
	}
	if (count == 0)
		SKIP("no address but that of loopback");
}

/* Of those of one kind half of the address says nothing. */
TEST(net_direct_sends_to_loopback_are_copied)
{
	struct sockaddr_storage peer = {.ss_family = AF_INET};
	struct sockaddr_in *v4 = (void *)&peer;
	struct sockaddr_in6 *v6 = (void *)&peer;
	int fd;

	if (rig_with() & WEIR_NET_ZERO_COPY)
		SKIP("asked for by the environment");
	v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	large_round(&peer, sizeof(*v4), true, false);
	*v6 = (struct sockaddr_in6){
	    .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (void *)v6, sizeof(*v6)) != 0)
		SKIP("no IPv6 here");
	close(fd);
	large_round(&peer, sizeof(*v6), true, false);
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
