/* SPDX-License-Identifier: MIT */
/*
 * test_net_account.c - who pays for memory: connections, listeners, engines;
 * what happens when one of them cannot.
 */
#include "net_common.h"

#define LIMIT (UINT64_C(2) * WEIR_NET_BUFFER_BYTES_MAX)

static struct weir_account_figures
account_stats(const struct weir_account *account)
{
	struct weir_account_figures stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_account_stats(account, &stats), 0);
	return stats;
}

/* ---- limits hold, and all are served ------------------------------------ */

#define CROWD 16
#define CROWD_BYTES 150000u

/* Sends all it has, reads nothing until then: so much is pinned at a time. */
static void
crowd_client(unsigned index, void *context)
{
	const struct rig *rig = context;
	unsigned char *data = calloc(1, CROWD_BYTES);
	int fd = client_connect(rig);

	CHECK_NOT_NULL(data);
	fill(data, CROWD_BYTES, index);
	for (unsigned round = 0; round < 3; round++) {
		client_send(fd, data, CROWD_BYTES);
		client_expect(fd, data, CROWD_BYTES);
	}
	free(data);
	close(fd);
}

static void
crowd_within(const struct weir_net_config *config)
{
	struct weir_account_figures stats;
	struct rig rig;

	rig_start(&rig, config, &echo_handlers);
	test_threads(CROWD, crowd_client, &rig);
	WAIT_FOR(rig_stats(&rig).connections == 0);
	stats = account_stats(weir_net_account(rig.net));
	CHECK_GT(stats.peak_bytes, 0);
	CHECK_LE(stats.peak_bytes, stats.limit_bytes);
	CHECK(weir_account_check(weir_net_account(rig.net)));
	rig_end(&rig);
}

TEST(net_account_of_the_engine_is_never_above_its_limit)
{
	crowd_within(&(struct weir_net_config){.account_limit_bytes = LIMIT});
}

TEST(net_account_of_each_connection_is_never_above_its_limit)
{
	crowd_within(&(struct weir_net_config){
	    .connection_limit_bytes = LIMIT, .send_quota_bytes = 1u << 20});
}

TEST(net_account_and_buffer_limit_hold_together)
{
	crowd_within(&(struct weir_net_config){.account_limit_bytes = LIMIT,
	    .connection_limit_bytes = LIMIT,
	    .buffer_limit_bytes = 2 * LIMIT});
}

/* ---- a handler that keeps what it gets ----------------------------------- */

#define KEPT_MAX 4096

static struct {
	struct weir_slice slice[KEPT_MAX];
	uint32_t count; /* atomic */
	uint64_t bytes; /* atomic: of the stream */
	uint64_t pins;  /* atomic: of the connections' accounts, at most */
	enum weir_close_reason reason;
	uint32_t closes; /* atomic */
	bool ends;       /* with the first connection that is closed */
} kept;

static uint64_t kept_release(void);

/* What says 'k' is kept, the rest is echoed. */
static void
kept_data(struct weir_conn *conn, struct weir_slice slice)
{
	struct weir_account_figures stats =
	    account_stats(weir_conn_account(conn));

	__atomic_store_n(&kept.pins, stats.peak_bytes, __ATOMIC_RELAXED);
	__atomic_fetch_add(&kept.bytes, slice.bytes, __ATOMIC_RELAXED);
	if (*weir_slice_data(slice) != 'k') {
		CHECK_EQ(weir_conn_send(conn, &slice, 1, NULL), 0);
		return;
	}
	CHECK_LT(kept.count, KEPT_MAX);
	kept.slice[kept.count] = slice;
	__atomic_store_n(&kept.count, kept.count + 1, __ATOMIC_RELEASE);
}

static void
kept_close(struct weir_conn *conn, enum weir_close_reason reason)
{
	(void)conn;
	/* Of the first, which is not written to any more when it is read. */
	if (__atomic_load_n(&kept.closes, __ATOMIC_RELAXED) == 0)
		kept.reason = reason;
	if (kept.ends)
		(void)kept_release();
	__atomic_fetch_add(&kept.closes, 1, __ATOMIC_RELEASE);
}

static const struct weir_handlers kept_handlers = {.on_data = kept_data,
    .on_close = kept_close};

/* On any thread.  The bytes there were in all. */
static uint64_t
kept_release(void)
{
	static uint32_t released;
	uint32_t count = __atomic_load_n(&kept.count, __ATOMIC_ACQUIRE);

	for (; released < count; released++)
		weir_slice_release(&kept.slice[released]);
	return __atomic_load_n(&kept.bytes, __ATOMIC_RELAXED);
}

/* What the handler got of all that was sent; no more comes for a while. */
static uint64_t
kept_settled(void)
{
	uint64_t now = __atomic_load_n(&kept.bytes, __ATOMIC_RELAXED), before;

	do {
		before = now;
		usleep(50000);
		now = __atomic_load_n(&kept.bytes, __ATOMIC_RELAXED);
	} while (now != before);
	return now;
}

/* Packets of which each ends up in a buffer of its own: the handler is slower
 * than the client. */
static size_t
kept_push(int fd, size_t most)
{
	unsigned char packet[1000];
	size_t pushed = 0;
	ssize_t sent = 1;

	memset(packet, 'k', sizeof(packet));
	while (pushed < most && sent > 0) {
		sent = send(
		    fd, packet, sizeof(packet), MSG_NOSIGNAL | MSG_DONTWAIT);
		pushed += sent > 0 ? (size_t)sent : 0;
		usleep(100);
	}
	return pushed;
}

TEST(net_account_stops_receiving_until_another_thread_releases)
{
	struct rig rig;
	uint64_t got;

	rig_start(&rig,
	    &(struct weir_net_config){.connection_limit_bytes = LIMIT},
	    &kept_handlers);
	int fd = client_connect(&rig);
	size_t pushed = 0;
	while (rig_stats(&rig).throttled == 0)
		pushed += kept_push(fd, 20000);
	pushed += kept_push(fd, 20000);
	got = kept_settled();
	CHECK_LT(got, pushed);
	CHECK_GE(rig_stats(&rig).throttled, 1);
	CHECK_EQ(rig_stats(&rig).throttled_now, 1);
	CHECK_LE(__atomic_load_n(&kept.pins, __ATOMIC_RELAXED), LIMIT);
	CHECK_LE(rig_stats(&rig).account_bytes_peak, LIMIT + (3u << 19));
	/* It goes on by that alone, again and again. */
	WAIT_FOR(kept_release() == pushed);
	close(fd);
	WAIT_FOR(rig_stats(&rig).connections == 0);
	(void)kept_release();
	rig_end(&rig);
}

TEST(net_account_lasts_until_the_last_buffer_is_released)
{
	struct rig rig;

	rig_start(
	    &rig, &(struct weir_net_config){.accounting = 1}, &kept_handlers);
	int fd = client_connect(&rig);
	client_send(fd, "k", 1);
	WAIT_FOR(__atomic_load_n(&kept.count, __ATOMIC_ACQUIRE) == 1);
	close(fd);
	WAIT_FOR(rig_stats(&rig).connections == 0);
	/* Counted after the connection is. */
	WAIT_FOR(rig_stats(&rig).closed_holding == 1);
	CHECK_GT(account_stats(weir_net_account(rig.net)).used_bytes, 0);
	/* Its loop goes first. */
	weir_loop_stop(rig.loop, 0);
	CHECK_EQ(pthread_join(rig.thread, NULL), 0);
	weir_loop_destroy(rig.loop);
	CHECK_EQ(account_stats(weir_net_account(rig.net)).used_bytes,
	    kept.slice[0].buffer->bytes);
	(void)kept_release();
	CHECK_EQ(account_stats(weir_net_account(rig.net)).used_bytes, 0);
	weir_net_destroy(rig.net);
	check_nothing_out();
}

/* ---- who gives way -------------------------------------------------------- */

TEST(net_account_full_closes_who_holds_most_and_serves_the_others)
{
	struct weir_listen_config listen = {
	    .handlers = kept_handlers, .account_limit_bytes = LIMIT};
	struct weir_listener *listener;
	unsigned char data[3000];
	struct rig rig;

	rig_net_create(&rig, &(struct weir_net_config){.accounting = 1});
	CHECK_EQ(weir_loop_create(rig.net, &rig.loop), 0);
	CHECK_EQ(weir_listen(rig.loop, &listen, &listener), 0);
	rig.port = weir_listener_port(listener);
	CHECK_EQ(pthread_create(&rig.thread, NULL, rig_thread, &rig), 0);

	/* At once, or in half a second the next one would have to go. */
	kept.ends = true;

	int small = client_connect(&rig);
	client_send(small, "k", 1);
	WAIT_FOR(__atomic_load_n(&kept.count, __ATOMIC_ACQUIRE) == 1);
	int large = client_connect(&rig);
	while (rig_stats(&rig).throttled == 0)
		(void)kept_push(large, 20000);
	/* Who comes now waits for memory that only `large` can give back. */
	int third = client_connect(&rig);
	fill(data, sizeof(data), 1);
	client_send(third, data, sizeof(data));
	WAIT_FOR(__atomic_load_n(&kept.closes, __ATOMIC_ACQUIRE) == 1);
	CHECK_EQ(kept.reason, WEIR_CLOSE_LARGEST);
	CHECK_EQ(rig_stats(&rig).closed[WEIR_CLOSE_LARGEST], 1);
	client_expect(third, data, sizeof(data));
	client_expect_end(large);
	client_send(small, data, sizeof(data));
	client_expect(small, data, sizeof(data));
	CHECK_LE(
	    account_stats(weir_listener_account(listener)).peak_bytes, LIMIT);
	close(small);
	close(third);
	rig_end(&rig);
}

/* ---- tenants -------------------------------------------------------------- */

TEST(net_account_of_a_tenant_lies_between_engine_and_listener)
{
	struct weir_account tenant, stranger;
	struct weir_listen_config listen = {
	    .handlers = kept_handlers, .account = &stranger};
	struct weir_listener *listener;
	struct rig rig;

	rig_net_create(&rig, &(struct weir_net_config){.accounting = 1});
	CHECK_EQ(weir_account_init(&stranger, NULL), 0);
	CHECK_EQ(
	    weir_account_init(&tenant,
		&(struct weir_account_config){
		    .parent = weir_net_account(rig.net), .limit_bytes = LIMIT}),
	    0);
	CHECK_EQ(weir_loop_create(rig.net, &rig.loop), 0);
	CHECK_EQ(weir_listen(rig.loop, &listen, &listener), -EINVAL);
	listen.account = &tenant;
	CHECK_EQ(weir_listen(rig.loop, &listen, &listener), 0);
	rig.port = weir_listener_port(listener);
	CHECK_EQ(pthread_create(&rig.thread, NULL, rig_thread, &rig), 0);
	int fd = client_connect(&rig);
	while (rig_stats(&rig).throttled == 0)
		(void)kept_push(fd, 20000);
	CHECK_LE(account_stats(&tenant).peak_bytes, LIMIT);
	/* A tenant's account tells nobody of room; and yet it goes on. */
	uint64_t before = kept_settled();
	weir_account_set_limit(&tenant, 8 * LIMIT);
	(void)kept_release();
	(void)kept_push(fd, 5000);
	WAIT_FOR(__atomic_load_n(&kept.bytes, __ATOMIC_RELAXED) > before);
	close(fd);
	WAIT_FOR(rig_stats(&rig).connections == 0);
	(void)kept_release();
	weir_loop_stop(rig.loop, 0);
	CHECK_EQ(pthread_join(rig.thread, NULL), 0);
	weir_loop_destroy(rig.loop);
	CHECK_EQ(account_stats(&tenant).used_bytes, 0);
	weir_account_finish(&tenant);
	weir_account_finish(&stranger);
	weir_net_destroy(rig.net);
	check_nothing_out();
}

/* ---- many loops ----------------------------------------------------------- */

#define LOOPS 3

TEST(net_account_of_the_engine_holds_over_several_loops)
{
	struct weir_listen_config listen = {
	    .handlers = echo_handlers, .shared = true};
	struct rig rig[LOOPS];

	rig_net_create(
	    &rig[0], &(struct weir_net_config){.account_limit_bytes = LIMIT});
	for (int i = 0; i < LOOPS; i++) {
		struct weir_listener *listener;
		rig[i].net = rig[0].net;
		CHECK_EQ(weir_loop_create(rig[0].net, &rig[i].loop), 0);
		CHECK_EQ(weir_listen(rig[i].loop, &listen, &listener), 0);
		rig[i].port = listen.port = weir_listener_port(listener);
		CHECK_EQ(
		    pthread_create(&rig[i].thread, NULL, rig_thread, &rig[i]),
		    0);
	}
	test_threads(CROWD, crowd_client, &rig[0]);
	for (int i = 0; i < LOOPS; i++) {
		weir_loop_stop(rig[i].loop, 5000);
		CHECK_EQ(pthread_join(rig[i].thread, NULL), 0);
		weir_loop_destroy(rig[i].loop);
	}
	CHECK_LE(account_stats(weir_net_account(rig[0].net)).peak_bytes, LIMIT);
	CHECK_EQ(rig_stats(&rig[0]).account_bytes, 0);
	weir_net_destroy(rig[0].net);
	check_nothing_out();
}

/* ---- configurations ------------------------------------------------------- */

TEST(net_account_needs_pools_of_its_own_and_room_to_work)
{
	static const struct weir_net_config bad[] = {
	    {.accounting = 2},
	    {.accounting = 1, .memory = &memory},
	    {.account_limit_bytes = LIMIT - 1},
	    {.connection_limit_bytes = LIMIT - 1},
	};
	struct weir_listen_config listen = {
	    .handlers = echo_handlers, .account_limit_bytes = LIMIT};
	struct weir_listener *listener;
	struct rig rig;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(weir_net_create(&bad[i], &rig.net), -EINVAL);
	rig_net_create(&rig, NULL);
	CHECK_NULL(weir_net_account(rig.net));
	CHECK_EQ(weir_loop_create(rig.net, &rig.loop), 0);
	CHECK_EQ(weir_listen(rig.loop, &listen, &listener), -EINVAL);
	weir_loop_destroy(rig.loop);
	weir_net_destroy(rig.net);
}
