/* SPDX-License-Identifier: MIT */
/*
 * shared.c - two processes pass messages through one pool, without a lock.
 *
 *   script/build && build/release/examples/shared
 *   cc shared.c $(pkg-config --cflags --libs weir) && ./a.out
 *
 * The pool and a ring of message numbers lie in memory that both map, each at
 * an address of its own.  The worker takes a message, fills it and puts its
 * number into the ring; the collector reads it there and gives the message
 * back.  When the pool is empty the worker has run ahead, and waits.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/bounded.h>

#define MESSAGES 16
#define TOTAL 20000

struct message {
	uint64_t number;
	char text[48];
};

struct channel {
	uint32_t ring[MESSAGES]; /* message number + 1; 0: empty */
	_Alignas(WEIR_BOUNDED_ALIGN) unsigned char pool[WEIR_BOUNDED_BYTES(
	    sizeof(struct message), 0, MESSAGES, 0)];
};

static struct channel *
channel_map(int file)
{
	void *address = mmap(NULL, sizeof(struct channel),
	    PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

	return address != MAP_FAILED ? address : NULL;
}

static int
worker(int file)
{
	struct channel *channel = channel_map(file);
	struct weir_bounded *pool;

	if (channel == NULL || weir_bounded_attach(channel->pool,
				   sizeof(channel->pool), &pool) != 0)
		return 1;
	for (uint64_t i = 0; i < TOTAL; i++) {
		struct message *message;

		while ((message = weir_bounded_alloc(pool)) == NULL)
			sched_yield();
		message->number = i;
		snprintf(message->text, sizeof(message->text), "message %llu",
		    (unsigned long long)i);
		/* At most MESSAGES are out, so the place is empty. */
		__atomic_store_n(&channel->ring[i % MESSAGES],
		    (uint32_t)weir_bounded_index(pool, message) + 1,
		    __ATOMIC_RELEASE);
	}
	return 0;
}

/* Has the worker ended, and not for having sent everything? */
static bool
worker_failed(pid_t child)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) !=
		   0 ||
	       (info.si_pid == child && info.si_status != 0);
}

static uint64_t
collect(struct channel *channel, struct weir_bounded *pool, pid_t child)
{
	uint64_t right = 0;

	for (uint64_t i = 0; i < TOTAL; i++) {
		uint32_t *place = &channel->ring[i % MESSAGES];
		uint32_t got;

		while ((got = __atomic_load_n(place, __ATOMIC_ACQUIRE)) == 0) {
			if (worker_failed(child))
				return right;
			sched_yield();
		}
		/* Before the message goes back, or the place may be taken. */
		__atomic_store_n(place, 0, __ATOMIC_RELAXED);

		struct message *message = weir_bounded_object(pool, got - 1);

		right += message->number == i;
		weir_bounded_free(pool, message);
	}
	return right;
}

int
main(void)
{
	struct weir_bounded_config config = {
	    .object_bytes = sizeof(struct message), .object_count = MESSAGES};
	int file = memfd_create("channel", 0);
	struct weir_bounded *pool;
	int status;

	if (file < 0 || ftruncate(file, sizeof(struct channel)) != 0)
		return 1;

	struct channel *channel = channel_map(file);

	if (channel == NULL ||
	    weir_bounded_init(channel->pool, sizeof(channel->pool), "message",
		&config, &pool) != 0)
		return 1;

	pid_t child = fork();

	if (child == 0)
		_exit(worker(file));

	uint64_t right = child > 0 ? collect(channel, pool, child) : 0;

	if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
		return 1;
	printf("%llu of %d messages came through %d places, %zu still out\n",
	    (unsigned long long)right, TOTAL, MESSAGES,
	    weir_bounded_in_use(pool));
	weir_bounded_finish(pool);
	return right == TOTAL ? 0 : 1;
}
