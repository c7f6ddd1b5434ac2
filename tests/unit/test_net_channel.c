/* SPDX-License-Identifier: MIT */
/*
 * test_net_channel.c - messages to many connections: all of them in order, none
 * cut, slow members passed over or closed, over several loops.
 */
#include "net_common.h"

#include <weir/channel.h>

#include <poll.h>

/* A packet: its number, and bytes that follow from it. */
#define PACKET_BYTES 1500u

static struct weir_channel *room;

static void
packet_fill(unsigned char *packet, uint32_t number)
{
	fill(packet, PACKET_BYTES, number * 7 + 3);
	memcpy(packet, &number, sizeof(number));
}

static void
room_accept(struct weir_conn *conn)
{
	CHECK_EQ(weir_channel_join(room, conn), 0);
	CHECK_EQ(weir_channel_join(room, conn), -EBUSY);
}

/* Packets are made whole, as many together as have come. */
static void
room_data(struct weir_conn *conn, struct weir_slice slice)
{
	struct weir_slice tail = slice;
	uint32_t whole = slice.bytes / PACKET_BYTES * PACKET_BYTES;

	tail.offset += whole;
	tail.bytes -= whole;
	if (tail.bytes > 0)
		weir_buffer_retain(slice.buffer);
	slice.bytes = whole;
	if (whole > 0)
		CHECK_EQ(weir_channel_publish(room, slice), 0);
	else
		weir_slice_release(&slice);
	if (tail.bytes > 0)
		(void)weir_conn_need(conn, tail, PACKET_BYTES);
}

static const struct weir_handlers room_handlers = {.on_accept = room_accept,
    .on_data = room_data};

/* ---- rigs of several loops ------------------------------------------------ */

#define LOOPS_MAX 3

static struct rig rigs[LOOPS_MAX];
static unsigned rig_count;

static void
rigs_start(unsigned loops, const struct weir_channel_config *config)
{
	struct weir_listen_config listen = {
	    .handlers = room_handlers, .shared = loops > 1};

	rig_net_create(&rigs[0], NULL);
	CHECK_EQ(weir_channel_create(rigs[0].net, config, &room), 0);
	rig_count = loops;
	for (unsigned i = 0; i < loops; i++) {
		struct weir_listener *listener;
		rigs[i].net = rigs[0].net;
		CHECK_EQ(weir_loop_create(rigs[0].net, &rigs[i].loop), 0);
		CHECK_EQ(weir_listen(rigs[i].loop, &listen, &listener), 0);
		rigs[i].port = listen.port = weir_listener_port(listener);
		CHECK_EQ(
		    pthread_create(&rigs[i].thread, NULL, rig_thread, &rigs[i]),
		    0);
	}
}

static struct weir_broadcast_figures
room_stats(void)
{
	struct weir_broadcast_figures stats = {.size = sizeof(stats)};

	CHECK_EQ(weir_channel_stats(room, &stats), 0);
	return stats;
}

static void
rigs_end(void)
{
	for (unsigned i = 0; i < rig_count; i++) {
		weir_loop_stop(rigs[i].loop, 5000);
		CHECK_EQ(pthread_join(rigs[i].thread, NULL), 0);
	}
	for (unsigned i = 0; i < rig_count; i++)
		weir_loop_destroy(rigs[i].loop);
	CHECK_EQ(room_stats().receivers, 0);
	CHECK_EQ(room_stats().bytes_pinned, 0);
	weir_channel_destroy(room);
	CHECK_EQ(rig_stats(&rigs[0]).connections, 0);
	CHECK_EQ(rig_stats(&rigs[0]).operations, 0);
	check_nothing_out();
	weir_net_destroy(rigs[0].net);
}

static void
members_are(uint32_t count)
{
	WAIT_FOR(room_stats().receivers == count);
}

/* ---- all get all ----------------------------------------------------------- */

#define MEMBERS 24
#define MESSAGES 200u

/* The next packet; false at the end. */
static bool
member_next(int fd, uint32_t *number)
{
	unsigned char packet[PACKET_BYTES], expected[PACKET_BYTES];
	size_t have = 0;

	while (have < sizeof(packet)) {
		ssize_t got = recv(fd, packet + have, sizeof(packet) - have, 0);
		if (got <= 0)
			return false;
		have += (size_t)got;
	}
	memcpy(number, packet, sizeof(*number));
	packet_fill(expected, *number);
	CHECK_MEM(packet, expected, sizeof(packet));
	return true;
}

static void
member_get_all(unsigned index, void *context)
{
	const int *fds = context;

	for (uint32_t i = 0; i < MESSAGES; i++) {
		uint32_t number = UINT32_MAX;
		CHECK(member_next(fds[index], &number));
		CHECK_EQ(number, i);
	}
}

struct speaker {
	int fd;
	uint32_t messages;
};

static void *
speaker_thread(void *context)
{
	const struct speaker *speaker = context;
	unsigned char packet[PACKET_BYTES];

	for (uint32_t i = 0; i < speaker->messages; i++) {
		packet_fill(packet, i);
		client_send(speaker->fd, packet, sizeof(packet));
	}
	return NULL;
}

static void
all_get_all(unsigned loops)
{
	struct speaker speaker = {.messages = MESSAGES};
	pthread_t thread;
	int fds[MEMBERS];

	rigs_start(loops, NULL);
	for (int i = 0; i < MEMBERS; i++)
		fds[i] = client_connect(&rigs[0]);
	members_are(MEMBERS);
	speaker.fd = fds[0];
	CHECK_EQ(pthread_create(&thread, NULL, speaker_thread, &speaker), 0);
	test_threads(MEMBERS, member_get_all, fds);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	/* A cursor each, in tables that double; nothing else is left. */
	CHECK_EQ(room_stats().receiver_bytes % 32, 0);
	CHECK_LE(room_stats().receiver_bytes, (uint64_t)loops * 64 * 32);
	WAIT_FOR(room_stats().messages == 0);
	CHECK_EQ(room_stats().skipped, 0);
	for (int i = 0; i < MEMBERS; i++)
		close(fds[i]);
	members_are(0);
	rigs_end();
}

TEST(net_channel_members_get_all_messages_in_order)
{
	all_get_all(1);
}

TEST(net_channel_reaches_the_members_of_all_loops)
{
	all_get_all(LOOPS_MAX);
}

/* ---- slow members ----------------------------------------------------------- */

#define SLOW_MESSAGES 4000u
#define SLOW_LIMIT 32u
#define SLOW_AHEAD 16u /* messages of the speaker that it has not heard */

/* With a small window; not so small where all is sent without a copy: on loopback
 * Linux drops such packets, which are larger than they look, and sends them again one
 * by one, 10 KB a second. */
static int
slow_member(void)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET,
	    .sin_port = htons(rigs[0].port),
	    .sin_addr = {htonl(INADDR_LOOPBACK)},
	};
	int small = rig_with() & WEIR_NET_ZERO_COPY ? 65536 : 4096;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK_EQ(
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	CHECK_EQ(connect(fd, (void *)&address, sizeof(address)), 0);
	return fd;
}

/* The speaker is never far behind, one member reads nothing meanwhile. */
static int
slow_round(enum weir_slow_policy policy, uint64_t *pinned)
{
	struct weir_channel_config config = {
	    .policy = policy, .limit_messages = SLOW_LIMIT};
	unsigned char packet[PACKET_BYTES];
	uint32_t number;

	rigs_start(1, &config);
	int speaker = client_connect(&rigs[0]);
	int slow = slow_member();
	members_are(2);
	*pinned = 0;
	for (uint32_t i = 0; i < SLOW_MESSAGES; i++) {
		packet_fill(packet, i);
		client_send(speaker, packet, sizeof(packet));
		if (i % SLOW_AHEAD != SLOW_AHEAD - 1)
			continue;
		for (uint32_t k = i + 1 - SLOW_AHEAD; k <= i; k++) {
			CHECK(member_next(speaker, &number));
			CHECK_EQ(number, k);
		}
		uint64_t bytes = room_stats().bytes_pinned;
		*pinned = bytes > *pinned ? bytes : *pinned;
	}
	close(speaker);
	return slow;
}

TEST(net_channel_passes_over_who_does_not_read)
{
	uint64_t pinned;
	int slow = slow_round(WEIR_SLOW_SKIP, &pinned);
	uint32_t number = 0, before = 0;

	CHECK_GT(room_stats().skipped, 0);
	CHECK_EQ(room_stats().closed, 0);
	/* A receive of 64 KiB is a message of many packets, at most. */
	CHECK_LE(pinned, (uint64_t)(SLOW_LIMIT + 1) * 65536);
	/* What it reads now are whole packets, each newer than the last, up to
	 * the newest. */
	for (uint32_t count = 0; number < SLOW_MESSAGES - 1; count++) {
		CHECK(member_next(slow, &number));
		CHECK(count == 0 || number > before);
		before = number;
	}
	close(slow);
	members_are(0);
	rigs_end();
}

TEST(net_channel_closes_who_does_not_read)
{
	uint64_t pinned;
	int slow = slow_round(WEIR_SLOW_CLOSE, &pinned);
	uint32_t number;

	WAIT_FOR(rig_stats(&rigs[0]).closed[WEIR_CLOSE_BEHIND] >= 1);
	CHECK_GE(room_stats().closed, 1);
	while (member_next(slow, &number))
		;
	close(slow);
	members_are(0);
	rigs_end();
}

/* ---- other threads, leaving, sends between ---------------------------------- */

static void
mixed_accept(struct weir_conn *conn)
{
	CHECK_EQ(weir_channel_join(room, conn), 0);
}

/* What was received, a byte or several that came together, is answered by a
 * packet of its own, an 'l' among it by leaving. */
static void
mixed_data(struct weir_conn *conn, struct weir_slice slice)
{
	bool leave = memchr(weir_slice_data(slice), 'l', slice.bytes) != NULL;
	struct weir_buffer *buffer = weir_conn_buffer(conn, PACKET_BYTES);

	weir_slice_release(&slice);
	CHECK_NOT_NULL(buffer);
	packet_fill(buffer->data, 1000000);
	slice = weir_slice_make(buffer, 0, PACKET_BYTES);
	CHECK_EQ(weir_conn_send(conn, &slice, 1, NULL), 0);
	if (leave) {
		weir_channel_leave(conn);
		weir_channel_leave(conn);
	}
}

TEST(net_channel_is_published_to_by_any_thread)
{
	static const struct weir_handlers handlers = {
	    .on_accept = mixed_accept, .on_data = mixed_data};
	uint32_t own = 0, next = 0, number;
	struct rig rig;

	rig_net_create(&rig, NULL);
	CHECK_EQ(weir_channel_create(rig.net, NULL, &room), 0);
	struct weir_listen_config listen = {.handlers = handlers};
	struct weir_listener *listener;
	CHECK_EQ(weir_loop_create(rig.net, &rig.loop), 0);
	CHECK_EQ(weir_listen(rig.loop, &listen, &listener), 0);
	rig.port = weir_listener_port(listener);
	CHECK_EQ(pthread_create(&rig.thread, NULL, rig_thread, &rig), 0);
	int fd = client_connect(&rig);
	members_are(1);
	for (uint32_t i = 0; i < 500; i++) {
		struct weir_buffer *buffer =
		    weir_loop_buffer(rig.loop, PACKET_BYTES);
		CHECK_NOT_NULL(buffer);
		packet_fill(buffer->data, i);
		CHECK_EQ(weir_channel_publish(
			     room, weir_slice_make(buffer, 0, PACKET_BYTES)),
		    0);
		if (i % 50 == 0)
			client_send(fd, "x", 1);
	}
	while (next < 500 || own < 1) {
		CHECK(member_next(fd, &number));
		own += number == 1000000;
		if (number != 1000000) {
			CHECK_EQ(number, next);
			next++;
		}
	}
	client_send(fd, "l", 1);
	members_are(0);
	close(fd);
	weir_loop_stop(rig.loop, 0);
	CHECK_EQ(pthread_join(rig.thread, NULL), 0);
	weir_loop_destroy(rig.loop);
	weir_channel_destroy(room);
	weir_net_destroy(rig.net);
	check_nothing_out();
}

TEST(net_channel_bad_configurations_are_refused)
{
	static const struct weir_channel_config bad[] = {
	    {.policy = (enum weir_slow_policy)2},
	    {.reserved = {0, 1}},
	};
	struct weir_net *net;
	struct weir_channel *channel, *other;

	CHECK_EQ(weir_net_create(NULL, &net), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(weir_channel_create(net, &bad[i], &channel), -EINVAL);
	CHECK_NULL(channel);
	CHECK_EQ(weir_channel_create(net, NULL, &channel), 0);
	CHECK_EQ(weir_channel_create(net, NULL, &other), 0);
	weir_channel_destroy(channel);
	CHECK_EQ(weir_channel_create(net, NULL, &channel), 0);
	weir_channel_destroy(channel);
	weir_channel_destroy(other);
	weir_channel_destroy(NULL);
	weir_net_destroy(net);
}
