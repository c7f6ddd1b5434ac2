/* SPDX-License-Identifier: MIT */
/*
 * test_net_slow.c - peers that do not read: what they hold, and what others
 * have to bear for it.
 */
#include "net_common.h"

/* ---- a crowd ------------------------------------------------------------ */

#define SLOW_CLIENTS 64
#define SLOW_QUOTA 65536u

static int
slow_connect(const struct rig *rig)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET,
	    .sin_port = htons(rig->port),
	    .sin_addr = {htonl(INADDR_LOOPBACK)},
	};
	int small = 4096;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK_GE(fd, 0);
	CHECK_EQ(
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	CHECK_EQ(connect(fd, (void *)&address, sizeof(address)), 0);
	CHECK_EQ(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

/* As much as is taken, in packets of a kilobyte. */
static size_t
slow_push(int fd)
{
	static unsigned char packet[1028];
	size_t pushed = 0;
	ssize_t sent;

	while ((sent = send(fd, packet, sizeof(packet), MSG_NOSIGNAL)) > 0)
		pushed += (size_t)sent;
	CHECK_EQ(errno, EAGAIN);
	return pushed;
}

static struct {
	bool held; /* atomic: the loop is, so that bytes gather */
	bool go;   /* atomic */
} slow_gate;

static void
slow_hold(struct weir_loop *loop, struct weir_task *task)
{
	(void)loop;
	(void)task;
	__atomic_store_n(&slow_gate.held, true, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&slow_gate.go, __ATOMIC_ACQUIRE))
		usleep(500);
}

/* All push while the loop is held, and then it finds much of each at once. */
static size_t
slow_round(struct rig *rig, const int *slow)
{
	struct weir_task task = {.run = slow_hold};
	size_t pushed = 0;

	/* The last round's echo says that its task is over. */
	__atomic_store_n(&slow_gate.held, false, __ATOMIC_RELAXED);
	__atomic_store_n(&slow_gate.go, false, __ATOMIC_RELAXED);
	weir_loop_post(rig->loop, &task);
	WAIT_FOR(__atomic_load_n(&slow_gate.held, __ATOMIC_ACQUIRE));
	for (int i = 0; i < SLOW_CLIENTS; i++)
		pushed += slow_push(slow[i]);
	__atomic_store_n(&slow_gate.go, true, __ATOMIC_RELEASE);
	return pushed;
}

/* Until nothing more is received. */
static void
slow_settle(struct rig *rig)
{
	uint64_t before, now = rig_stats(rig).bytes_received;

	do {
		before = now;
		usleep(10000);
		now = rig_stats(rig).bytes_received;
	} while (now != before);
}

/*
 * What they hold is bounded by their quotas, a tenth more for what is just on its
 * way; 1 MiB of small buffers and half of that in large ones may be lent to the
 * kernel.
 */
static uint64_t
slow_most(const struct rig *rig, uint32_t quota, bool large)
{
	uint32_t used = weir_net_features(rig->net);
	uint64_t most = SLOW_CLIENTS * (uint64_t)quota * 11 / 10;

	if (used & WEIR_NET_BUFFER_RING)
		most += large ? 3u << 19 : 1u << 20;
	return most;
}

static void
slow_crowd(uint32_t quota, uint32_t receive_bytes_max, uint32_t without)
{
	struct weir_net_config config = {
	    .send_quota_bytes = quota,
	    .without = without,
	    .receive_bytes_max = receive_bytes_max,
	};
	static unsigned char data[1028];
	int slow[SLOW_CLIENTS];
	struct rig rig;
	int good;

	rig_start(&rig, &config, &echo_handlers);
	good = client_connect(&rig);
	for (int i = 0; i < SLOW_CLIENTS; i++)
		slow[i] = slow_connect(&rig);
	size_t pushed = 1;
	for (unsigned round = 0;
	     pushed > 0 || rig_stats(&rig).quota_pauses < SLOW_CLIENTS / 2;
	     round++) {
		CHECK_LT(round, 1000);
		pushed = slow_round(&rig, slow);
		fill(data, sizeof(data), round);
		client_send(good, data, sizeof(data));
		client_expect(good, data, sizeof(data));
		slow_settle(&rig);
	}
	CHECK_LE(
	    buffers_in_use(), slow_most(&rig, quota, receive_bytes_max == 0));
	for (int i = 0; i < SLOW_CLIENTS; i++)
		close(slow[i]);
	close(good);
	rig_end(&rig);
}

TEST(net_slow_readers_hold_no_more_than_their_quotas)
{
	slow_crowd(SLOW_QUOTA, 0, 0);
}

TEST(net_slow_readers_hold_no_more_in_small_buffers)
{
	slow_crowd(SLOW_QUOTA, 2048, 0);
}

/* Less than the largest receive. */
TEST(net_slow_readers_hold_no_more_than_small_quotas)
{
	slow_crowd(SLOW_QUOTA / 4, 0, 0);
}

TEST(net_slow_readers_hold_no_more_where_receives_cannot_be_capped)
{
	slow_crowd(SLOW_QUOTA, 0, WEIR_NET_TURN_CAP);
}

/* ---- tails in buffers larger than they ---------------------------------- */

#define REST_FULL 128u   /* buffers that fill the sockets */
#define REST_SMALL 100u  /* buffers with little in them */
#define REST_BYTES 3000u /* of the little; some of it shares its buffer */

static unsigned char
rest_byte(size_t at)
{
	return (unsigned char)(at * 7 + at / 251);
}

static void
rest_send(struct weir_conn *conn, uint32_t bytes, size_t *at)
{
	struct weir_buffer *buffer =
	    weir_loop_buffer(weir_conn_loop(conn), 65536);

	CHECK_NOT_NULL(buffer);
	for (uint32_t i = 0; i < bytes; i++)
		buffer->data[i] = rest_byte((*at)++);
	/* In two slices, the second of which is one byte. */
	struct weir_slice cut[2] = {
	    {buffer, 0, bytes - 1}, {buffer, bytes - 1, 1}};
	if (bytes == 65536) {
		cut[0].bytes = bytes;
		CHECK_EQ(weir_conn_send(conn, cut, 1, NULL), 0);
	} else if (bytes % 2 == 0) {
		weir_buffer_retain(buffer);
		CHECK_EQ(weir_conn_send(conn, cut, 2, NULL), 0);
	} else {
		cut[0].bytes = bytes;
		CHECK_EQ(weir_conn_send(conn, cut, 1, NULL), 0);
	}
}

static void
rest_data(struct weir_conn *conn, struct weir_slice slice)
{
	size_t at = 0;

	weir_buffer_release(slice.buffer);
	for (unsigned i = 0; i < REST_FULL; i++)
		rest_send(conn, 65536, &at);
	for (unsigned i = 0; i < REST_SMALL; i++)
		rest_send(conn, REST_BYTES + i % 4 * 9001, &at);
}

static size_t rest_reports; /* atomic */

static void
rest_sent(struct weir_conn *conn, void *context, int status)
{
	(void)conn;
	(void)context;
	CHECK_EQ(status, 0);
	__atomic_fetch_add(&rest_reports, 1, __ATOMIC_RELAXED);
}

TEST(net_tail_that_rests_leaves_buffers_it_does_not_fill)
{
	struct weir_handlers handlers = {
	    .on_data = rest_data,
	    .on_sent = rest_sent,
	};
	const struct weir_net_config config = {.receive_bytes_max = 2048};
	size_t total = (size_t)REST_FULL * 65536;
	unsigned char *back;
	struct rig rig;
	size_t have = 0;
	int fd;

	for (unsigned i = 0; i < REST_SMALL; i++)
		total += REST_BYTES + i % 4 * 9001;
	back = calloc(1, total);
	CHECK_NOT_NULL(back);
	rig_start(&rig, &config, &handlers);
	fd = slow_connect(&rig);
	CHECK_EQ(send(fd, "x", 1, MSG_NOSIGNAL), 1);
	WAIT_FOR(rig_stats(&rig).quota_pauses == 1);
	/* Half of the small ones are shared, and stay. */
	WAIT_FOR(buffers_in_use() < total - rig_stats(&rig).bytes_sent +
					(uint64_t)(REST_SMALL / 2 + 8) * 65536);
	CHECK_EQ(fcntl(fd, F_SETFL, 0), 0);
	while (have < total) {
		ssize_t got = recv(fd, back + have, total - have, 0);
		CHECK_GT(got, 0);
		have += (size_t)got;
	}
	for (size_t i = 0; i < total; i++)
		if (back[i] != rest_byte(i))
			FAIL("byte %zu differs", i);
	WAIT_FOR(rig_stats(&rig).operations == 0);
	CHECK_EQ(__atomic_load_n(&rest_reports, __ATOMIC_RELAXED),
	    REST_FULL + REST_SMALL);
	free(back);
	close(fd);
	rig_end(&rig);
}
