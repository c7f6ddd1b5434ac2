/* SPDX-License-Identifier: MIT */
/*
 * suite_handoff.h - What does an object cost that one thread takes and another
 * gives back?
 *
 * A producer takes objects, writes a word into each and passes them through a
 * ring to a consumer, which reads the word and frees them: requests that are
 * parsed on one thread and answered on another.  Designs whose objects must go
 * home to their owner pay per object; designs that carry free objects in
 * groups pay per group.
 *
 * ns_op is the wall time per object, both threads at work on a processor each.
 * The ring is as cheap as one can be - indices published 32 objects at a time,
 * the other side's cached - because every opponent pays for it alike.
 */
#ifndef BENCH_OBJECT_SUITE_HANDOFF_H
#define BENCH_OBJECT_SUITE_HANDOFF_H

#define HANDOFF_RING 1024u
#define HANDOFF_GROUP 32u
#define HANDOFF_CHUNK (BENCH_CHUNK_OPS / HANDOFF_GROUP * HANDOFF_GROUP)

struct handoff_item {
	void *object;
	size_t bytes;
};

static struct {
	unsigned head
	    __attribute__((aligned(BENCH_LINE))); /* of the producer */
	unsigned tail
	    __attribute__((aligned(BENCH_LINE))); /* of the consumer */
	struct handoff_item items[HANDOFF_RING]
	    __attribute__((aligned(BENCH_LINE)));
	/* Written between the cases only. */
	unsigned stop __attribute__((aligned(BENCH_LINE)));
	struct peer_pool *pool;
	size_t bytes;
} handoff;

/* Takes a group and publishes it; `mixed` is known when this is inlined. */
static BENCH_INLINE void
handoff_put_group(struct peer_local local, unsigned head, bool mixed)
{
	for (unsigned i = head; i != head + HANDOFF_GROUP; i++) {
		struct handoff_item *item = &handoff.items[i % HANDOFF_RING];
		size_t size =
		    mixed ? bench_sizes[i & (BENCH_SIZES - 1)] : handoff.bytes;

		item->object =
		    bench_check(peer_alloc(local, handoff.pool, size));
		if (mixed)
			item->bytes = size;
		bench_use(item->object, i);
	}
}

static BENCH_INLINE void
handoff_take_group(struct peer_local local, unsigned tail, bool mixed)
{
	for (unsigned i = tail; i != tail + HANDOFF_GROUP; i++) {
		struct handoff_item *item = &handoff.items[i % HANDOFF_RING];

		if (*(volatile uint64_t *)item->object != i)
			bench_fail("an object changed on its way");
		peer_free(local, handoff.pool, item->object,
		    mixed ? item->bytes : handoff.bytes);
	}
}

static void *
handoff_producer(void *unused)
{
	struct peer_local local;
	unsigned head = 0;
	unsigned tail = 0;
	unsigned spins = 0;

	bench_pin(1);
	local = peer_thread_begin();
	while (!__atomic_load_n(&handoff.stop, __ATOMIC_RELAXED)) {
		if (head - tail > HANDOFF_RING - HANDOFF_GROUP) {
			/* Pairs with the release in handoff_consume(). */
			tail = __atomic_load_n(&handoff.tail, __ATOMIC_ACQUIRE);
			if (head - tail > HANDOFF_RING - HANDOFF_GROUP) {
				bench_relax(&spins);
				continue;
			}
		}
		if (handoff.bytes != 0)
			handoff_put_group(local, head, false);
		else
			handoff_put_group(local, head, true);
		head += HANDOFF_GROUP;
		__atomic_store_n(&handoff.head, head, __ATOMIC_RELEASE);
	}
	peer_thread_end(local);
	return unused;
}

/* Waits for a group, frees it; false once stopped and empty. */
static BENCH_INLINE bool
handoff_consume(struct peer_local local, unsigned *head, unsigned tail)
{
	unsigned spins = 0;

	while (*head == tail) {
		/* Pairs with the release in handoff_producer(). */
		*head = __atomic_load_n(&handoff.head, __ATOMIC_ACQUIRE);
		if (*head == tail) {
			if (__atomic_load_n(&handoff.stop, __ATOMIC_RELAXED))
				return false;
			bench_relax(&spins);
		}
	}
	if (handoff.bytes != 0)
		handoff_take_group(local, tail, false);
	else
		handoff_take_group(local, tail, true);
	__atomic_store_n(&handoff.tail, tail + HANDOFF_GROUP, __ATOMIC_RELEASE);
	return true;
}

/* On the calling thread, until the time is over. */
static double
handoff_consumer(struct peer_local local)
{
	static struct bench_chunks chunks;
	unsigned head = 0;
	unsigned tail = 0;

	bench_chunks_begin(&chunks);
	do
		for (unsigned i = 0; i < HANDOFF_CHUNK; i += HANDOFF_GROUP) {
			handoff_consume(local, &head, tail);
			tail += HANDOFF_GROUP;
		}
	while (bench_chunks_next(&chunks));
	return bench_chunks_ns(&chunks) / HANDOFF_CHUNK;
}

/* What the producer still published when it saw the stop. */
static void
handoff_drain(struct peer_local local)
{
	unsigned head = __atomic_load_n(&handoff.head, __ATOMIC_ACQUIRE);
	unsigned tail = handoff.tail;

	while (handoff_consume(local, &head, tail))
		tail += HANDOFF_GROUP;
}

static void
handoff_case(size_t bytes, const char *name)
{
	struct peer_local local = peer_thread_begin();
	pthread_t producer;
	double ns;

	if (!bench_wanted(name))
		return;
	handoff.head = handoff.tail = handoff.stop = 0;
	handoff.bytes = bytes;
	handoff.pool = peer_pool_open(bytes, HANDOFF_RING);
	if (pthread_create(&producer, NULL, handoff_producer, NULL) != 0)
		bench_fail("no thread: %s", strerror(errno));
	ns = handoff_consumer(local);
	__atomic_store_n(&handoff.stop, 1, __ATOMIC_RELAXED);
	/* It may wait for room in the ring: the stop ends that too. */
	pthread_join(producer, NULL);
	handoff_drain(local);
	peer_pool_close(handoff.pool);
	bench_emit(name, "ns_op", ns, "ns");
}

static void
suite_handoff(void)
{
	if (!(PEER_FLAGS & PEER_REMOTE)) {
		bench_skip(
		    "an object must be freed by the thread that took it");
		return;
	}
	bench_pin(0);
	handoff_case(64, "64");
	handoff_case(256, "256");
	if (PEER_FLAGS & PEER_ANY_SIZE)
		handoff_case(0, "mixed");
}

#endif /* BENCH_OBJECT_SUITE_HANDOFF_H */
