/* SPDX-License-Identifier: MIT */
/*
 * net_common.h - what the tests of the engine share.
 *
 * Each test runs its loop on a thread and speaks to it with plain blocking
 * sockets, so that what is seen is what any client sees.  A rig brings its own
 * memory, which counts what is out and can fail at the n-th call.
 */
#ifndef NET_COMMON_H
#define NET_COMMON_H

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

static inline bool
memory_fails(void)
{
	int64_t call = __atomic_add_fetch(&memory_calls, 1, __ATOMIC_RELAXED);

	return call == memory_fail_nth;
}

static inline void
memory_release(struct weir_buffer *buffer, void *context)
{
	(void)context;
	__atomic_fetch_sub(&memory_out, 1, __ATOMIC_RELAXED);
	free(buffer);
}

static inline struct weir_buffer *
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

static inline void *
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

static inline void
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

static inline void *
rig_thread(void *argument)
{
	struct rig *rig = argument;

	CHECK_EQ(weir_loop_run(rig->loop), 0);
	return NULL;
}

/* The back end to test, or the engine's choice. */
static inline enum weir_net_backend
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

/* The features that the environment's @variable names, or all. */
static inline uint32_t
rig_features(const char *variable)
{
	const char *names = getenv(variable);
	uint32_t features = 0;

	if (names == NULL)
		return 0;
	if (strcmp(names, "all") == 0)
		return WEIR_NET_FEATURES_ALL;
#define RIG_FEATURE(name, bit, word)     \
	if (strstr(names, word) != NULL) \
		features |= WEIR_NET_##name;
	WEIR_NET_FEATURES(RIG_FEATURE)
#undef RIG_FEATURE
	return features;
}

/* Features of the back end that are not to be used, and those asked for. */
static inline uint32_t
rig_without(void)
{
	return rig_features("WEIR_TEST_WITHOUT");
}

static inline uint32_t
rig_with(void)
{
	return rig_features("WEIR_TEST_WITH");
}

static inline void
rig_net_create(struct rig *rig, const struct weir_net_config *config)
{
	struct weir_net_config with_backend = {.backend = WEIR_BACKEND_AUTO};

	if (config != NULL)
		with_backend = *config;
	with_backend.backend = rig_backend();
	with_backend.without |= rig_without();
	with_backend.with |= rig_with();
	/* Where it is asked for, most sends are to be such. */
	if (with_backend.with & WEIR_NET_ZERO_COPY &&
	    with_backend.zero_copy_bytes == 0)
		with_backend.zero_copy_bytes = 1000;
	CHECK_EQ(weir_net_create(&with_backend, &rig->net), 0);
}

static inline void
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

static inline void
rig_start(struct rig *rig, const struct weir_net_config *config,
    const struct weir_handlers *handlers)
{
	rig_create(rig, config, handlers);
	CHECK_EQ(pthread_create(&rig->thread, NULL, rig_thread, rig), 0);
}

static inline struct weir_net_figures
rig_stats(struct rig *rig)
{
	struct weir_net_figures stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_net_stats(rig->net, &stats), 0);
	return stats;
}

/* Nothing may be out of a pool, nor of the memory above. */
static inline void
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

static inline void
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

static inline int
client_connect(const struct rig *rig)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET,
	    .sin_port = htons(rig->port),
	    .sin_addr = {htonl(INADDR_LOOPBACK)},
	};
	struct timeval limit = {.tv_sec = 45};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK_GE(fd, 0);
	CHECK_EQ(
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	CHECK_EQ(connect(fd, (void *)&address, sizeof(address)), 0);
	return fd;
}

static inline void
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

static inline void
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

static inline void
client_expect_end(int fd)
{
	char byte;
	ssize_t received;

	/* A ring that ends interrupts calls, once (weir_loop_destroy()). */
	do
		received = recv(fd, &byte, 1, 0);
	while (received < 0 && errno == EINTR);
	CHECK(received == 0 || (received < 0 && errno == ECONNRESET));
	close(fd);
}

static inline void
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

static inline void
echo_data(struct weir_conn *conn, struct weir_slice slice)
{
	CHECK_EQ(weir_conn_send(conn, &slice, 1, NULL), 0);
}

static const struct weir_handlers echo_handlers = {.on_data = echo_data};

static inline void
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

/* The body of a test thread: an echo client of struct rig *context. */
static inline void
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

/* ---- blocks ----------------------------------------------------------- */

/* A client that may be refused or cut off at any point; true: it got all. */
static inline bool
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
static inline void
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

/* Payload of the engine's buffers that is out of the pool. */
static inline uint64_t
buffers_in_use(void)
{
	static struct weir_pool_stats pools[32];
	uint64_t bytes = 0;
	size_t count;

	pools[0].size = sizeof(pools[0]);
	count = weir_stats_pools(pools, 32);
	CHECK_LE(count, 32);
	for (size_t i = 0; i < count; i++)
		if (strncmp(pools[i].name, "net.buffers", 11) == 0)
			bytes += pools[i].in_use * pools[i].object_bytes;
	return bytes;
}

#endif /* NET_COMMON_H */
