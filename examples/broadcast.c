/* SPDX-License-Identifier: MIT */
/*
 * broadcast.c - one payload sent to many connections, held once.
 *
 *     build/release/examples/broadcast           100 subscribers, 200 messages
 *     build/release/examples/broadcast 400 1000
 *     cc -o broadcast broadcast.c $(pkg-config --cflags --libs weir)
 *
 * A feed publishes messages of 32 KiB to every subscriber over a socket of its
 * own.  A message is one buffer: each subscriber's queue holds a slice of it,
 * which is also the cursor of what is still to be sent, and a header of its
 * own.  Every tenth subscriber does not read while the feed runs; when the
 * queue of one is full, messages are skipped for it and for nobody else, so
 * the slow ones cost a bounded number of references.  All of them then read
 * what they were sent, and every byte is checked.
 */
#include <weir/buffer.h>
#include <weir/stats.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define BODY_BYTES ((size_t)32 << 10)
#define QUEUE_MAX 8
#define SLOW_EVERY 10

struct header {
	uint32_t sequence; /* of the message in the feed */
	uint32_t bytes;    /* of the body behind */
};

struct entry {
	struct weir_slice header, body; /* what is still to be sent */
};

struct subscriber {
	int feed_fd, reader_fd;
	struct entry queue[QUEUE_MAX]; /* a ring */
	size_t first, count;
	bool slow;
	/* The reading side. */
	struct header expect;
	size_t got; /* bytes of the current message, header included */
	uint64_t messages;
};

static struct totals {
	uint64_t published, queued, skipped, received;
	uint64_t payload_peak, copies_peak; /* bytes */
} totals;

static void
die(const char *what)
{
	fprintf(stderr, "broadcast: %s: %s\n", what, strerror(errno));
	exit(1);
}

static unsigned char
body_byte(uint32_t sequence, size_t at)
{
	return (unsigned char)(sequence * 31 + at * 7 + (at >> 8));
}

/* ---- the feed ----------------------------------------------------------- */

static struct weir_buffer *
message_make(struct weir_buffer_pool *pool, uint32_t sequence)
{
	struct weir_buffer *message = weir_buffer_acquire(pool, BODY_BYTES);

	/* At the limit: the feed goes on without this message. */
	if (message == NULL)
		return NULL;
	for (size_t i = 0; i < BODY_BYTES; i++)
		message->data[i] = body_byte(sequence, i);
	return message;
}

static void
subscriber_queue(struct subscriber *s, struct weir_buffer_pool *pool,
    struct weir_buffer *message, uint32_t sequence)
{
	struct header header = {sequence, (uint32_t)BODY_BYTES};
	struct weir_buffer *small;
	struct entry *entry;

	if (s->count == QUEUE_MAX) {
		totals.skipped++;
		return;
	}
	small = weir_buffer_acquire(pool, sizeof(header));
	if (small == NULL) {
		totals.skipped++;
		return;
	}
	memcpy(small->data, &header, sizeof(header));
	entry = &s->queue[(s->first + s->count++) % QUEUE_MAX];
	/* The header's only reference moves into the slice; the message gets
	 * one more. */
	entry->header = weir_slice_make(small, 0, sizeof(header));
	entry->body =
	    weir_slice_retain(weir_slice_make(message, 0, BODY_BYTES));
	totals.queued++;
}

/* Cuts @sent bytes off the front; returns how many it could not use. */
static size_t
slice_consume(struct weir_slice *slice, size_t sent)
{
	size_t cut = sent < slice->bytes ? sent : slice->bytes;

	*slice = weir_slice_sub(*slice, cut, slice->bytes - cut);
	return sent - cut;
}

/* Sends what the socket takes; true when something moved. */
static bool
subscriber_send(struct subscriber *s)
{
	bool moved = false;

	while (s->count > 0) {
		struct entry *entry = &s->queue[s->first];
		struct iovec parts[2] = {
		    {weir_slice_data(entry->header), entry->header.bytes},
		    {weir_slice_data(entry->body), entry->body.bytes},
		};
		struct msghdr vector = {.msg_iov = parts, .msg_iovlen = 2};
		ssize_t sent =
		    sendmsg(s->feed_fd, &vector, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent < 0) {
			if (errno == EAGAIN || errno == EINTR)
				break;
			die("sendmsg");
		}
		moved = true;
		slice_consume(
		    &entry->body, slice_consume(&entry->header, (size_t)sent));
		if (entry->body.bytes > 0)
			break;
		weir_slice_release(&entry->header);
		weir_slice_release(&entry->body);
		s->first = (s->first + 1) % QUEUE_MAX;
		s->count--;
	}
	return moved;
}

/* ---- the readers -------------------------------------------------------- */

static void
subscriber_check(struct subscriber *s, const unsigned char *data, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		if (s->got < sizeof(s->expect)) {
			((unsigned char *)&s->expect)[s->got++] = data[i];
			continue;
		}
		if (data[i] !=
		    body_byte(s->expect.sequence, s->got - sizeof(s->expect))) {
			errno = EBADMSG;
			die("a subscriber got a wrong byte");
		}
		s->got++;
		if (s->got == sizeof(s->expect) + s->expect.bytes) {
			s->got = 0;
			s->messages++;
			totals.received++;
		}
	}
}

static bool
subscriber_read(struct subscriber *s, struct weir_buffer_pool *pool)
{
	/* Held only while there is something to read: an idle connection has
	 * no buffer. */
	WEIR_BUFFER_SCOPED struct weir_buffer *buffer =
	    weir_buffer_acquire(pool, BODY_BYTES);
	ssize_t got;

	if (buffer == NULL)
		return false;
	got = recv(s->reader_fd, buffer->data, buffer->bytes, MSG_DONTWAIT);
	if (got < 0 && errno != EAGAIN && errno != EINTR)
		die("recv");
	if (got <= 0)
		return false;
	subscriber_check(s, buffer->data, (size_t)got);
	return true;
}

/* ---- the whole ---------------------------------------------------------- */

static void
note_memory(
    struct weir_buffer_pool *pool, const struct subscriber *s, size_t count)
{
	uint64_t payload = 0, copies = 0;

	for (size_t t = 0; t < weir_buffer_pool_tier_count(pool); t++) {
		struct weir_pool_stats stats = {.size = sizeof(stats)};

		if (weir_buffer_pool_stats(pool, t, &stats) == 0)
			payload += stats.bytes_in_use;
	}
	for (size_t i = 0; i < count; i++)
		copies += s[i].count * (BODY_BYTES + sizeof(struct header));
	if (payload > totals.payload_peak)
		totals.payload_peak = payload;
	if (copies > totals.copies_peak)
		totals.copies_peak = copies;
}

static void
publish(struct weir_buffer_pool *pool, struct subscriber *s, size_t count,
    uint32_t sequence)
{
	struct weir_buffer *message = message_make(pool, sequence);

	if (message == NULL)
		return;
	totals.published++;
	for (size_t i = 0; i < count; i++)
		subscriber_queue(&s[i], pool, message, sequence);
	weir_buffer_release(message); /* the queues hold it from here */
}

/* One pass over all connections; false when nothing moved. */
static bool
pump(struct weir_buffer_pool *pool, struct subscriber *s, size_t count,
    bool slow_read)
{
	bool moved = false;

	for (size_t i = 0; i < count; i++) {
		moved |= subscriber_send(&s[i]);
		if (!s[i].slow || slow_read)
			moved |= subscriber_read(&s[i], pool);
	}
	return moved;
}

static void
report(void)
{
	char text[4096];

	printf("published %llu messages, queued %llu, skipped %llu for slow "
	       "subscribers, received %llu\n",
	    (unsigned long long)totals.published,
	    (unsigned long long)totals.queued,
	    (unsigned long long)totals.skipped,
	    (unsigned long long)totals.received);
	printf("payload held at the peak: %llu KiB, a copy for each queue "
	       "would be %llu KiB\n",
	    (unsigned long long)totals.payload_peak >> 10,
	    (unsigned long long)totals.copies_peak >> 10);
	weir_stats_text(text, sizeof(text));
	fputs(text, stdout);
}

int
main(int argc, char **argv)
{
	size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 100;
	size_t messages = argc > 2 ? strtoul(argv[2], NULL, 10) : 200;
	struct weir_buffer_pool_config config = {
	    .limit_bytes = 16 << 20,
	};
	struct weir_buffer_pool *pool;
	struct subscriber *s = calloc(count, sizeof(*s));
	int error;

	if (s == NULL || count == 0 || messages > UINT32_MAX) {
		fprintf(stderr, "usage: broadcast [subscribers [messages]]\n");
		return 2;
	}
	error = weir_buffer_pool_create("feed", &config, &pool);
	if (error != 0) {
		errno = -error;
		die("weir_buffer_pool_create");
	}
	for (size_t i = 0; i < count; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
			die("socketpair (two descriptors a subscriber)");
		s[i].feed_fd = pair[0];
		s[i].reader_fd = pair[1];
		s[i].slow = i % SLOW_EVERY == SLOW_EVERY - 1;
	}
	for (size_t m = 0; m < messages; m++) {
		publish(pool, s, count, (uint32_t)m);
		pump(pool, s, count, false);
		note_memory(pool, s, count);
	}
	while (pump(pool, s, count, true))
		;
	report();
	for (size_t i = 0; i < count; i++) {
		close(s[i].feed_fd);
		close(s[i].reader_fd);
	}
	free(s);
	weir_buffer_pool_destroy(pool);
	return totals.received == totals.queued ? 0 : 1;
}
