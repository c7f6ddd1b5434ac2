/* SPDX-License-Identifier: MIT */
/*
 * test_net_uring.c - what only the back end over io_uring has: features that
 * may be missing, a queue that may be full, sends in batches, buffers lent to
 * the kernel.
 */
#include "net_common.h"

#if WEIRI_HAVE_URING

#include "net/uring.h"

#include <weir/buffer_watch.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* Of a feature set; skips where io_uring is not to be had. */
static void
uring_start(struct rig *rig, struct weir_net_config config,
    const struct weir_handlers *handlers)
{
	struct weir_listen_config listen = {.handlers = *handlers};
	struct weir_listener *listener;
	int error;

	config.backend = WEIR_BACKEND_IO_URING;
	error = weir_net_create(&config, &rig->net);
	if (error == -EPERM || error == -ENOSYS)
		SKIP("no io_uring here: %d", error);
	CHECK_EQ(error, 0);
	CHECK_EQ(weir_loop_create(rig->net, &rig->loop), 0);
	CHECK_EQ(weir_listen(rig->loop, &listen, &listener), 0);
	rig->port = weir_listener_port(listener);
	CHECK_EQ(pthread_create(&rig->thread, NULL, rig_thread, rig), 0);
}

/* ---- whose a buffer is -------------------------------------------------- */

static bool lent_seen; /* atomic */

static void
lent_data(struct weir_conn *conn, struct weir_slice slice)
{
	CHECK_EQ(weir_buffer_state(slice.buffer), WEIR_BUFFER_APP);
	/* It has been the kernel's until now. */
	CHECK_EQ(slice.buffer->history & 15, WEIR_BUFFER_EVENT_BACK);
	__atomic_store_n(&lent_seen, true, __ATOMIC_RELEASE);
	CHECK_EQ(weir_conn_send(conn, &slice, 1, NULL), 0);
}

/* Buffers that are held, and not the program's. */
static size_t
lent_count(struct weir_buffer_holding *held, size_t most)
{
	const struct weir_buffer_query all = {.pool = NULL};
	size_t count = weir_buffer_held(&all, held, most);

	CHECK_LE(count, most);
	for (size_t i = 0; i < count; i++)
		if (held[i].state != WEIR_BUFFER_KERNEL_RX)
			return 0;
	return count;
}

TEST(net_buffers_lent_to_the_kernel_are_the_kernels)
{
	const struct weir_handlers handlers = {.on_data = lent_data};
	struct weir_net_config config = {.without = 0};
	static struct weir_buffer_holding held[1024];
	struct rig rig;
	int status;

	uring_start(&rig, config, &handlers);
	if (!(weir_net_features(rig.net) & WEIR_NET_BUFFER_RING))
		SKIP("receives do not pick their buffers here");
	int fd = client_connect(&rig);
	client_send(fd, "abc", 3);
	client_expect(fd, "abc", 3);
	CHECK(__atomic_load_n(&lent_seen, __ATOMIC_ACQUIRE));
	WAIT_FOR(lent_count(held, 1024) > 0);

	/* Whoever releases what it does not hold is told so. */
	pid_t child = fork();
	CHECK_GE(child, 0);
	if (child == 0) {
		close(STDERR_FILENO);
		weir_buffer_release(
		    (struct weir_buffer *)(uintptr_t)held[0].buffer);
		_exit(0);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	close(fd);
	rig_end(&rig);
}

/* ---- features --------------------------------------------------------- */

TEST(net_features_that_are_forbidden_are_not_used)
{
	const struct weir_handlers blocks = {.on_data = block_data};

	for (uint32_t bit = 0; bit <= WEIR_NET_FEATURES_ALL; bit++) {
		/* Each by itself, and all. */
		if ((bit & (bit - 1)) != 0 && bit != WEIR_NET_FEATURES_ALL)
			continue;
		struct weir_net_config config = {.without = bit};
		struct rig rig;
		uring_start(&rig, config, &echo_handlers);
		CHECK_EQ(weir_net_features(rig.net) & bit, 0);
		echo_client(&rig);
		test_threads(8, echo_many, &rig);
		rig_end(&rig);
		uring_start(&rig, config, &blocks);
		CHECK(fragile_client(&rig));
		rig_end(&rig);
	}
}

TEST(net_features_depend_on_each_other)
{
	const struct weir_net_config no_buffers = {
	    .without = WEIR_NET_BUFFER_RING};
	const struct weir_net_config not_deferred = {
	    .without = WEIR_NET_DEFERRED};
	const struct weir_net_config no_cap = {.without = WEIR_NET_TURN_CAP};
	struct rig rig;

	uring_start(&rig, no_buffers, &echo_handlers);
	CHECK_EQ(weir_net_features(rig.net) &
		     (WEIR_NET_MULTISHOT_RECEIVE | WEIR_NET_TURN_CAP),
	    0);
	rig_end(&rig);
	uring_start(&rig, not_deferred, &echo_handlers);
	CHECK_EQ(weir_net_features(rig.net) & WEIR_NET_RING_SEND, 0);
	rig_end(&rig);
	uring_start(&rig, no_cap, &echo_handlers);
	CHECK_EQ(weir_net_features(rig.net) & WEIR_NET_MULTISHOT_RECEIVE, 0);
	rig_end(&rig);
}

/* ---- a full queue ------------------------------------------------------ */

static struct {
	struct weir_conn *conn; /* atomic */
	int rounds;
} full;

/* No room for an entry, and the kernel takes none for @times attempts. */
static void
full_queue(struct weir_loop *loop, uint32_t times)
{
	struct weiri_ring *ring = &weiri_uring_of(loop)->ring;

	while (
	    ring->sq_tail - __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE) <=
	    ring->sq_mask)
		CHECK_NOT_NULL(weiri_uring_entry(
		    loop, IORING_OP_NOP, -1, NULL, URING_TAG_NONE));
	ring->refuse = times;
}

static void
full_accepted(struct weir_conn *conn)
{
	__atomic_store_n(&full.conn, conn, __ATOMIC_RELEASE);
}

static void
full_abort(struct weir_loop *loop, struct weir_task *task)
{
	(void)task;
	full_queue(loop, 4);
	weir_conn_abort(full.conn, WEIR_CLOSE_LOCAL);
}

/* The peer does nothing that would end a receive by itself. */
TEST(net_full_queue_does_not_lose_the_end_of_a_connection)
{
	const struct weir_handlers handlers = {
	    .on_accept = full_accepted,
	    .on_data = echo_data,
	};
	const struct weir_net_config config = {.without = 0};
	struct weir_task task = {.run = full_abort};
	struct rig rig;
	int fd;

	uring_start(&rig, config, &handlers);
	fd = client_connect(&rig);
	WAIT_FOR(__atomic_load_n(&full.conn, __ATOMIC_ACQUIRE) != NULL);
	weir_loop_post(rig.loop, &task);
	WAIT_FOR(rig_stats(&rig).connections == 0);
	client_expect_end(fd);
	rig_end(&rig);
}

static void
full_tail(struct weir_loop *loop, struct weir_task *task)
{
	for (int i = 0; i < 256; i++) {
		struct weir_slice slice = {
		    weir_loop_buffer(loop, 65536), 0, 65536};
		(void)task;
		CHECK_NOT_NULL(slice.buffer);
		memset(slice.buffer->data, 0, 65536);
		CHECK_EQ(weir_conn_send(full.conn, &slice, 1, NULL), 0);
	}
}

/* One that waits for room to send has two things with the kernel. */
TEST(net_full_queue_does_not_lose_the_end_of_a_poll)
{
	const struct weir_handlers handlers = {
	    .on_accept = full_accepted,
	    .on_data = echo_data,
	};
	const struct weir_net_config config = {.without = 0};
	struct weir_task tail = {.run = full_tail};
	struct weir_task task = {.run = full_abort};
	struct rig rig;
	int fd;

	uring_start(&rig, config, &handlers);
	fd = client_connect(&rig);
	WAIT_FOR(__atomic_load_n(&full.conn, __ATOMIC_ACQUIRE) != NULL);
	weir_loop_post(rig.loop, &tail);
	WAIT_FOR(rig_stats(&rig).quota_pauses == 1);
	weir_loop_post(rig.loop, &task);
	WAIT_FOR(rig_stats(&rig).connections == 0);
	close(fd);
	rig_end(&rig);
}

static void
full_data(struct weir_conn *conn, struct weir_slice slice)
{
	full_queue(weir_conn_loop(conn), 1);
	echo_data(conn, slice);
}

/* Each receive is armed anew, and each time the queue is full. */
TEST(net_full_queue_delays_receives_and_closes_nobody)
{
	const struct weir_handlers handlers = {.on_data = full_data};
	const struct weir_net_config config = {
	    .without = WEIR_NET_MULTISHOT_RECEIVE,
	};
	struct rig rig;
	int fd;

	uring_start(&rig, config, &handlers);
	fd = client_connect(&rig);
	for (int i = 0; i < 20; i++) {
		client_send(fd, "full", 4);
		client_expect(fd, "full", 4);
	}
	close(fd);
	WAIT_FOR(rig_stats(&rig).connections == 0);
	CHECK_EQ(rig_stats(&rig).closed[WEIR_CLOSE_PEER], 1);
	rig_end(&rig);
}

/* ---- sends in batches -------------------------------------------------- */

#define BATCH_CLIENTS 40
#define BATCH_SLICES 80 /* more than one call takes */
#define BATCH_BYTES 50000u

/* What is sent is told apart by client and place. */
static unsigned char
batch_byte(unsigned salt, size_t at)
{
	return (unsigned char)(salt + at / 997 + at);
}

/* Answers a byte with megabytes that begin with it. */
static void
batch_data(struct weir_conn *conn, struct weir_slice slice)
{
	unsigned salt = slice.buffer->data[slice.offset];
	struct weir_slice many[BATCH_SLICES];
	size_t at = 0;

	weir_buffer_release(slice.buffer);
	for (size_t i = 0; i < BATCH_SLICES; i++) {
		struct weir_buffer *buffer =
		    weir_loop_buffer(weir_conn_loop(conn), BATCH_BYTES);
		CHECK_NOT_NULL(buffer);
		for (size_t k = 0; k < BATCH_BYTES; k++)
			buffer->data[k] = batch_byte(salt, at++);
		many[i] = (struct weir_slice){buffer, 0, BATCH_BYTES};
	}
	CHECK_EQ(weir_conn_send(conn, many, BATCH_SLICES, NULL), 0);
}

static void
batch_expect(int fd, unsigned salt)
{
	static unsigned char back[65536];
	size_t at = 0;

	while (at < (size_t)BATCH_SLICES * BATCH_BYTES) {
		ssize_t got = recv(fd, back, sizeof(back), 0);
		CHECK_GT(got, 0);
		for (ssize_t k = 0; k < got; k++, at++)
			if (back[k] != batch_byte(salt, at))
				FAIL("client %u: byte %zu differs", salt, at);
	}
}

TEST(net_sends_cut_short_in_a_batch_lose_nothing)
{
	const struct weir_handlers handlers = {.on_data = batch_data};
	const struct weir_net_config config = {
	    .send_quota_bytes = 16u << 20,
	};
	struct linger linger = {.l_onoff = 1, .l_linger = 0};
	int fd[BATCH_CLIENTS];
	struct rig rig;

	uring_start(&rig, config, &handlers);
	for (unsigned i = 0; i < BATCH_CLIENTS; i++)
		fd[i] = client_connect(&rig);
	for (unsigned i = 0; i < BATCH_CLIENTS; i++)
		client_send(fd[i], &(unsigned char){(unsigned char)i}, 1);
	/* Some are gone while their answers wait. */
	WAIT_FOR(rig_stats(&rig).operations >= BATCH_CLIENTS);
	for (unsigned i = 0; i < BATCH_CLIENTS; i += 5) {
		CHECK_EQ(setsockopt(fd[i], SOL_SOCKET, SO_LINGER, &linger,
			     sizeof(linger)),
		    0);
		close(fd[i]);
	}
	for (unsigned i = 0; i < BATCH_CLIENTS; i++) {
		if (i % 5 == 0)
			continue;
		batch_expect(fd[i], i);
		close(fd[i]);
	}
	WAIT_FOR(rig_stats(&rig).connections == 0);
	CHECK_EQ(rig_stats(&rig).closed[WEIR_CLOSE_PEER],
	    BATCH_CLIENTS - BATCH_CLIENTS / 5);
	rig_end(&rig);
}

/* ---- what idle loops withhold ------------------------------------------ */

#define LENT_LOOPS 48u

/* Each got and answered something, and is idle: what is lent to the kernel must
 * leave the memory to those who need it. */
TEST(net_idle_loops_withhold_an_eighth_of_a_small_limit)
{
	const uint64_t reserved =
	    (uint64_t)LENT_LOOPS * WEIR_NET_BUFFER_BYTES_MAX;
	struct weir_net_config config = {
	    .backend = WEIR_BACKEND_IO_URING,
	    .buffer_limit_bytes = reserved + 65536,
	};
	struct weir_listen_config listen = {.handlers = echo_handlers};
	static struct rig rigs[LENT_LOOPS];
	int fd[LENT_LOOPS];
	struct weir_net *net;
	int error = weir_net_create(&config, &net);

	if (error == -EPERM || error == -ENOSYS)
		SKIP("no io_uring here: %d", error);
	CHECK_EQ(error, 0);
	for (unsigned i = 0; i < LENT_LOOPS; i++)
		CHECK_EQ(weir_loop_create(net, &rigs[i].loop), 0);
	for (unsigned i = 0; i < LENT_LOOPS; i++) {
		struct weir_listener *listener;
		rigs[i].net = net;
		CHECK_EQ(weir_listen(rigs[i].loop, &listen, &listener), 0);
		rigs[i].port = weir_listener_port(listener);
		CHECK_EQ(
		    pthread_create(&rigs[i].thread, NULL, rig_thread, &rigs[i]),
		    0);
		fd[i] = client_connect(&rigs[i]);
	}
	for (int round = 0; round < 3; round++) {
		for (unsigned i = 0; i < LENT_LOOPS; i++)
			client_send(fd[i], "lent", 4);
		for (unsigned i = 0; i < LENT_LOOPS; i++)
			client_expect(fd[i], "lent", 4);
	}
	WAIT_FOR(rig_stats(&rigs[0]).operations == 0);
	CHECK_LE(buffers_in_use(), reserved + 65536 / 8);
	for (unsigned i = 0; i < LENT_LOOPS; i++) {
		close(fd[i]);
		weir_loop_stop(rigs[i].loop, 1000);
		CHECK_EQ(pthread_join(rigs[i].thread, NULL), 0);
		weir_loop_destroy(rigs[i].loop);
	}
	check_nothing_out();
	weir_net_destroy(net);
}

/* ---- what is lent after a burst ------------------------------------------ */

#define STRAY_BYTES 2048
#define STRAY_BUFFERS 8192
#define STRAY_CLIENTS 16 /* a buffer for each is lent from the start */
#define STRAY_LIMIT_NS UINT64_C(30000000000)

static struct weir_buffer *stray[STRAY_BUFFERS];
static struct weir_slice stray_first[STRAY_CLIENTS];
static uint32_t stray_count; /* of the first receives */
static bool stray_go;        /* atomic */

/* They come from eight blocks, and what is released last lies in any of them. */
static void
stray_burst(struct weir_loop *loop)
{
	struct test_rng rng;

	test_rng_init(&rng, test_seed());
	for (size_t i = 0; i < STRAY_BUFFERS; i++) {
		size_t at = (size_t)test_rand_below(&rng, i + 1);

		stray[i] = stray[at];
		stray[at] = weir_loop_buffer(loop, STRAY_BYTES);
		CHECK_NOT_NULL(stray[at]);
	}
	for (size_t i = 0; i < STRAY_BUFFERS; i++)
		weir_buffer_release(stray[i]);
}

/* The first ones stay, so that such are lent in their place.  From then on what
 * the kernel had is the next to be lent. */
static void
stray_data(struct weir_conn *conn, struct weir_slice slice)
{
	if (stray_count < STRAY_CLIENTS) {
		stray_first[stray_count++] = slice;
		if (stray_count == STRAY_CLIENTS)
			stray_burst(weir_conn_loop(conn));
		return;
	}
	weir_slice_release(&slice);
	for (; stray_count == STRAY_CLIENTS; stray_count++)
		for (size_t i = 0; i < STRAY_CLIENTS; i++)
			weir_slice_release(&stray_first[i]);
}

/* Whoever sends meanwhile is received from in one pass. */
static void
stray_wait(struct weir_loop *loop, struct weir_task *task)
{
	(void)loop;
	(void)task;
	while (!__atomic_load_n(&stray_go, __ATOMIC_ACQUIRE))
		usleep(1000);
}

static uint64_t
stray_mapped(void)
{
	static struct weir_pool_stats pools[32];
	size_t count;

	pools[0].size = sizeof(pools[0]);
	count = weir_stats_pools(pools, 32);
	CHECK_LE(count, 32);
	for (size_t i = 0; i < count; i++)
		if (strcmp(pools[i].name, "net.buffers/2048") == 0)
			return pools[i].bytes_mapped;
	return 0;
}

static void
stray_start(struct rig *rig, int fd[STRAY_CLIENTS])
{
	struct weir_task task = {.run = stray_wait};

	CHECK_EQ(pthread_create(&rig->thread, NULL, rig_thread, rig), 0);
	for (size_t i = 0; i < STRAY_CLIENTS; i++)
		fd[i] = client_connect(rig);
	WAIT_FOR(rig_stats(rig).connections == STRAY_CLIENTS);
	weir_loop_post(rig->loop, &task);
	for (size_t i = 0; i < STRAY_CLIENTS; i++)
		client_send(fd[i], "x", 1);
	__atomic_store_n(&stray_go, true, __ATOMIC_RELEASE);
	WAIT_FOR(rig_stats(rig).bytes_received == STRAY_CLIENTS);
}

/* Those that the kernel had at the end of a burst would be lent to it again and
 * again, and each keep a block. */
TEST(net_buffers_lent_since_a_burst_make_room_for_others)
{
	const uint64_t block = STRAY_BUFFERS / 8 * (STRAY_BYTES + 64);
	const struct weir_net_config config = {
	    .backend = WEIR_BACKEND_IO_URING,
	    .receive_bytes_min = STRAY_BYTES,
	    .without = WEIR_NET_INCREMENTAL | rig_without(),
	};
	struct weir_listen_config listen = {.handlers.on_data = stray_data};
	uint64_t sent = STRAY_CLIENTS;
	uint64_t end = test_now_ns() + STRAY_LIMIT_NS;
	struct weir_listener *listener;
	int fd[STRAY_CLIENTS];
	struct rig rig;
	int error;

	NOT_UNDER_GUARD("each buffer has pages of its own");
	weir_set_decay(100);
	error = weir_net_create(&config, &rig.net);
	if (error == -EPERM || error == -ENOSYS)
		SKIP("no io_uring here: %d", error);
	CHECK_EQ(error, 0);
	CHECK_EQ(weir_loop_create(rig.net, &rig.loop), 0);
	CHECK_EQ(weir_listen(rig.loop, &listen, &listener), 0);
	rig.port = weir_listener_port(listener);
	stray_start(&rig, fd);
	do {
		client_send(fd[0], "x", 1);
		sent++;
		WAIT_FOR(rig_stats(&rig).bytes_received == sent);
	} while (stray_mapped() > 2 * block && test_now_ns() < end);
	CHECK_LE(stray_mapped(), 2 * block);
	for (size_t i = 0; i < STRAY_CLIENTS; i++)
		close(fd[i]);
	rig_end(&rig);
}

/* ---- where it is not permitted -------------------------------------------- */

static unsigned refused_told;

static void
refused_hear(enum weir_message_level level, const char *line, void *context)
{
	(void)level;
	(void)context;
	refused_told += strstr(line, "io_uring cannot be used here") != NULL;
}

/* As containers have it: from here on this thread, and those it makes, get none. */
static bool
refuse_rings(void)
{
	struct sock_filter filter[] = {
	    BPF_STMT(
		BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {
	    sizeof(filter) / sizeof(filter[0]), filter};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST(net_without_permission_for_io_uring_uses_epoll_and_says_so)
{
	const struct weir_net_config asked = {.backend = WEIR_BACKEND_IO_URING};
	struct weir_listen_config listen = {.handlers = echo_handlers};
	struct weir_listener *listener;
	const struct weir_config config = {.message = refused_hear};
	struct rig rig;

	CHECK_EQ(weir_init(&config), 0);
	if (!refuse_rings())
		SKIP("seccomp is not available");
	CHECK_EQ(weir_net_create(&asked, &rig.net), -EPERM);
	CHECK_NULL(rig.net);
	CHECK_EQ(weir_net_create(NULL, &rig.net), 0);
	CHECK_STR(weir_net_backend(rig.net), "epoll");
	CHECK_EQ(weir_net_features(rig.net), 0);
	CHECK_EQ(refused_told, 2);
	CHECK_EQ(weir_loop_create(rig.net, &rig.loop), 0);
	CHECK_EQ(weir_listen(rig.loop, &listen, &listener), 0);
	rig.port = weir_listener_port(listener);
	CHECK_EQ(pthread_create(&rig.thread, NULL, rig_thread, &rig), 0);
	echo_client(&rig);
	rig_end(&rig);
}

#else

TEST(net_uring_is_left_out_of_this_build)
{
	SKIP("io_uring is left out of this build");
}

#endif
