/* SPDX-License-Identifier: MIT */
/*
 * test_net_end.c - how the engine, its loops and connections end.
 */
#include "net_common.h"

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
	    {.reserved = {1}},
	    {.accounting = 2},
	    {.without = WEIR_NET_FEATURES_ALL + 1},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK_EQ(weir_net_create(&bad[i], &net), -EINVAL);
		CHECK_NULL(net);
	}
	CHECK_STR(weir_close_reason_text(WEIR_CLOSE_RESET), "reset by peer");
	CHECK_STR(
	    weir_close_reason_text((enum weir_close_reason)99), "unknown");
}

/* Each is a configuration that works; more connections may hold less each. */
TEST(net_presets_bound_what_a_server_may_hold)
{
	const enum weir_net_preset presets[] = {
	    WEIR_NET_PRESET_100, WEIR_NET_PRESET_1000, WEIR_NET_PRESET_10000};
	uint32_t quota = UINT32_MAX;
	struct weir_net_config config;

	for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++) {
		struct rig rig;
		CHECK_EQ(weir_net_preset(presets[i], &config), 0);
		CHECK_LT(config.send_quota_bytes, quota);
		quota = config.send_quota_bytes;
		rig_start(&rig, &config, &echo_handlers);
		echo_client(&rig);
		rig_end(&rig);
	}
	CHECK_EQ(weir_net_preset((enum weir_net_preset)4, &config), -EINVAL);
	CHECK_EQ(weir_net_preset((enum weir_net_preset)0, &config), -EINVAL);
	CHECK_EQ(config.send_quota_bytes, 0);
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
	/* A place in a ring's table the child does not hold. */
	if (*how == 'a' && !(weir_net_features(rig.net) & WEIR_NET_DIRECT))
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
		/* By an accept of many, whose connections find no entry. */
		if (weir_net_features(rig.net) & WEIR_NET_MULTISHOT_ACCEPT)
			CHECK_GT(rig_stats(&rig).refused, 0);
		CHECK_EQ(rig_stats(&rig).connections, 0);
	}
	weir_loop_destroy(rig.loop);
	check_nothing_out();
	weir_net_destroy(rig.net);
	for (int i = 0; broken_fd >= 0 && i < BROKEN_CLIENTS; i++)
		client_expect_end(fds[i]);
}
