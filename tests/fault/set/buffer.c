/* SPDX-License-Identifier: MIT */
/*
 * buffer.c - bugs with reference-counted buffers and slices of them.
 */
#include "bug.h"

#define BOTH (BUG_STACK_ALLOC | BUG_STACK_FREE)

static void
release(void *buffer)
{
	weir_buffer_release(buffer);
}

BUG(buffer_released_twice, ROW(DOUBLE_FREE), POOL(BUFFER), NAMES("io/512"),
    STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 100);

	weir_buffer_release(buffer);
	BUG_HERE(weir_buffer_release(buffer));
	weir_buffer_pool_destroy(pool);
}

BUG(buffer_released_twice_two_threads, ROW(DOUBLE_FREE), POOL(BUFFER),
    NAMES("io/512"), STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 100);

	bug_on_thread(release, buffer);
	BUG_HERE(weir_buffer_release(buffer));
	weir_buffer_pool_destroy(pool);
}

/* The slice counted nothing, and is released as if it did. */
BUG(buffer_slice_released_without_retain, ROW(DOUBLE_FREE), POOL(BUFFER),
    NAMES("io/512"), STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 100);
	struct weir_slice slice = weir_slice_make(buffer, 0, 10);

	MENDED(slice = weir_slice_retain(slice));
	weir_buffer_release(buffer);
	BUG_HERE(weir_slice_release(&slice));
	MENDED(weir_slice_release(&slice));
	weir_buffer_pool_destroy(pool);
}

BUG(buffer_released_more_than_retained, ROW(DOUBLE_FREE), POOL(BUFFER),
    NAMES("io/512"), ALWAYS(NOW, "reference-underflow"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 100);

	weir_buffer_retain_many(buffer, 2);
	BUG_HERE(weir_buffer_release_many(buffer, 4));
	weir_buffer_release_many(buffer, 3);
	weir_buffer_pool_destroy(pool);
}

BUG(buffer_external_released_twice, ROW(DOUBLE_FREE), POOL(BUFFER),
    ALWAYS(NOW, "reference-underflow"))
{
	static char page[100];
	struct weir_buffer buffer;

	weir_buffer_init_external(&buffer, page, sizeof(page), NULL, NULL);
	weir_buffer_release(&buffer);
	BUG_HERE(weir_buffer_release(&buffer));
}

BUG(buffer_stale_release, ROW(STALE_FREE), POOL(BUFFER), NAMES("io/512"),
    STACKS(BOTH), GUARDED(NOW, "double-free"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *stale = weir_buffer_acquire(pool, 100), *next;

	weir_buffer_release(stale);
	next = weir_buffer_acquire(pool, 100);
	BUG_HERE(weir_buffer_release(stale));
	if (!bug || next != stale)
		weir_buffer_release(next);
	weir_buffer_pool_destroy(pool);
}

BUG(buffer_interior, ROW(WILD), POOL(BUFFER), ALWAYS(NOW, "interior-pointer"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 100);

	BUG_HERE(weir_buffer_release(bug_hide((char *)buffer + 16)));
	weir_buffer_release(buffer);
	weir_buffer_pool_destroy(pool);
}

/* Its data in place of itself. */
BUG(buffer_data_released, ROW(WILD), POOL(BUFFER),
    ALWAYS(NOW, "foreign-pointer"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 100);

	memset(buffer->data, 0, 100);
	BUG_HERE(weir_buffer_release(bug_hide(buffer->data)));
	weir_buffer_release(buffer);
	weir_buffer_pool_destroy(pool);
}

BUG(buffer_copy_released, ROW(WILD), POOL(BUFFER),
    ALWAYS(NOW, "foreign-pointer"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 100);
	struct weir_buffer copy = *buffer;

	BUG_HERE(weir_buffer_release(&copy));
	weir_buffer_release(buffer);
	weir_buffer_pool_destroy(pool);
}

BUG(buffer_retained_after_release, ROW(CALL), POOL(BUFFER), NAMES("io/512"),
    STACKS(BOTH), ALWAYS(NOW, "double-free"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 100);

	weir_buffer_release(buffer);
	BUG_HERE((void)!weir_buffer_retain(buffer));
	weir_buffer_pool_destroy(pool);
}

/* ---- accesses ------------------------------------------------------------------ */

BUG(buffer_read_released, ROW(READ_FREED), POOL(BUFFER), NAMES("io/512"),
    STACKS(BOTH), GUARDED(NOW, "use-after-free"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 100);
	unsigned char *data = buffer->data;

	memset(data, 1, 100);
	weir_buffer_release(buffer);
	BUG_HERE(bug_read(data, 1));
	weir_buffer_pool_destroy(pool);
}

/* The slice has no reference of its own. */
BUG(buffer_slice_outlives_buffer, ROW(READ_FREED), POOL(BUFFER),
    NAMES("io/8192"), STACKS(BOTH), GUARDED(NOW, "use-after-free"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 5000);
	struct weir_slice body = weir_slice_make(buffer, 4, 4000);
	unsigned char *data = weir_slice_data(body);

	memset(data, 1, 4000);
	weir_buffer_release(buffer);
	BUG_HERE(bug_read(data, 1));
	weir_buffer_pool_destroy(pool);
}

BUG(buffer_write_released, ROW(WRITE_FREED), POOL(BUFFER), NAMES("io/512"),
    STACKS(BOTH), GUARDED(NOW, "use-after-free"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 100);
	unsigned char *data = buffer->data;

	weir_buffer_release(buffer);
	BUG_HERE(bug_write(data, 100));
	weir_buffer_release(weir_buffer_acquire(pool, 100));
	weir_buffer_pool_destroy(pool);
}

BUG(buffer_free_payloads_overwritten, ROW(FORGED), POOL(BUFFER),
    NAMES("io/512"), STACKS(BOTH), IN_A(REFUSED, NULL),
    IN_S(NOW, "use-after-free"), IN_D(NOW, "use-after-free"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffers[32];
	void *data[32];

	for (size_t i = 0; i < 32; i++) {
		buffers[i] = weir_buffer_acquire(pool, 512);
		data[i] = buffers[i]->data;
	}
	for (size_t i = 0; i < 32; i++)
		weir_buffer_release(buffers[i]);
	BUG_HERE(for (size_t i = 0; i < 32; i++) bug_forge(data[i], 512, data));
	for (size_t i = 0; i < 32; i++) {
		buffers[i] = weir_buffer_acquire(pool, 512);
		data[i] = buffers[i]->data;
		NEED(weir_buffer_of(data[i]) == buffers[i]);
	}
	NEED(bug_distinct(data, 32));
	for (size_t i = 0; i < 32; i++)
		weir_buffer_release(buffers[i]);
	if (bug)
		bug_mark("refused");
	weir_buffer_pool_destroy(pool);
}

/* The descriptor itself, which is the library's, is written to. */
BUG(buffer_descriptor_written_while_free, ROW(WRITE_FREED), POOL(BUFFER),
    NAMES("io/512"), ALWAYS(LATER, "corruption"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 100);

	MENDED(buffer->user = pool);
	weir_buffer_release(buffer);
	BUG_HERE(bug_write(buffer, sizeof(*buffer)));
	weir_buffer_release(weir_buffer_acquire(pool, 100));
	weir_buffer_pool_destroy(pool);
}

BUG(buffer_overflow, ROW(OVERFLOW), POOL(BUFFER), NAMES("io/512"),
    STACKS(BUG_STACK_ALLOC), GUARDED(NOW, "overflow"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 512);

	BUG_HERE(bug_write(buffer->data + 512, 1));
	weir_buffer_release(buffer);
	weir_buffer_pool_destroy(pool);
}

BUG(buffer_overflow_of_pages, ROW(OVERFLOW), POOL(BUFFER), NAMES("io/8192"),
    STACKS(BUG_STACK_ALLOC), GUARDED(NOW, "overflow"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 8192);
	struct weir_buffer *next = weir_buffer_acquire(pool, 8192);

	unsigned char *low =
	    buffer->data < next->data ? buffer->data : next->data;

	BUG_HERE(bug_write(low + 8192, 1));
	weir_buffer_release(buffer);
	weir_buffer_release(next);
	weir_buffer_pool_destroy(pool);
}

BUG(buffer_overread, ROW(OVERREAD), POOL(BUFFER), NAMES("io/512"),
    STACKS(BUG_STACK_ALLOC), GUARDED(NOW, "overflow"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 512);

	memset(buffer->data, 1, 512);
	BUG_HERE(bug_read(buffer->data + 512, 1));
	weir_buffer_release(buffer);
	weir_buffer_pool_destroy(pool);
}

BUG(buffer_underflow, ROW(UNDERFLOW), POOL(BUFFER), NAMES("io/512"),
    STACKS(BUG_STACK_ALLOC), GUARDED(LATER, "underflow"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer, *other;
	unsigned char *high;

	buffer = weir_buffer_acquire(pool, 512);
	other = weir_buffer_acquire(pool, 512);
	high = buffer->data > other->data ? buffer->data : other->data;
	BUG_HERE(bug_write(high - 1, 1));
	weir_buffer_release(buffer);
	weir_buffer_release(other);
	weir_buffer_pool_destroy(pool);
}

BUG(buffer_slice_outside, ROW(OVERREAD), POOL(BUFFER), NAMES("io/512"),
    ALWAYS(NOW, "bad-argument"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 512);
	struct weir_slice slice = weir_slice_make(buffer, 12, 500);

	BUG_HERE(slice = weir_slice_make(buffer, 13, 500));
	NEED(slice.bytes == 500);
	weir_buffer_release(buffer);
	weir_buffer_pool_destroy(pool);
}

/* offset + bytes wraps. */
BUG(buffer_slice_sum_overflows, ROW(PRODUCT), POOL(BUFFER), NAMES("io/512"),
    ALWAYS(NOW, "bad-argument"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 512);
	struct weir_slice slice = weir_slice_make(buffer, 16, 16);

	BUG_HERE(slice = weir_slice_sub(slice, 16, SIZE_MAX - 8));
	NEED(slice.bytes == 16);
	weir_buffer_release(buffer);
	weir_buffer_pool_destroy(pool);
}

/* ---- the pool -------------------------------------------------------------------- */

BUG(buffer_pool_destroyed_twice, ROW(GONE), POOL(BUFFER), NAMES("io"),
    ALWAYS(NOW, "double-destroy"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");

	weir_buffer_pool_destroy(pool);
	BUG_HERE(weir_buffer_pool_destroy(pool));
}

BUG(buffer_acquired_after_destroy, ROW(GONE), POOL(BUFFER), NAMES("io"),
    ALWAYS(NOW, "use-after-destroy"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");

	weir_buffer_pool_destroy(pool);
	BUG_HERE((void)!weir_buffer_acquire(pool, 100));
}

BUG(buffer_live_at_destroy, ROW(LIVE), POOL(BUFFER), NAMES("io/512"),
    ALWAYS(NOW, "live-objects-at-destroy"))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 100);

	BUG_HERE(weir_buffer_pool_destroy(pool));
	weir_buffer_release(buffer);
	weir_buffer_pool_destroy(pool);
}

BUG(buffer_leak, ROW(LEAK), POOL(BUFFER), NAMES("io/512"),
    TEXT("leak: buffer \"io/512\": 1 object"), ENVIRONMENT("WEIR_LEAKS=1"),
    ALWAYS(EXIT, NULL))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 100);

	/* Retained once more than released. */
	BUG_HERE((void)!weir_buffer_retain(buffer));
	weir_buffer_release(buffer);
	MENDED(weir_buffer_pool_destroy(pool));
}

BUG(buffer_read_unset, ROW(UNSET), POOL(BUFFER), GUARDED(PATTERN, NULL))
{
	struct weir_buffer_pool *pool = bug_buffers("io");
	struct weir_buffer *buffer = weir_buffer_acquire(pool, 100);

	memset(buffer->data, 'k', 100);
	weir_buffer_release(buffer);
	buffer = weir_buffer_acquire(pool, 100);
	MENDED(memset(buffer->data, 0, 100));
	BUG_HERE(if (buffer->data[9] != 'k' &&
		     buffer->data[9] == buffer->data[60]) bug_mark("pattern"));
	weir_buffer_release(buffer);
	weir_buffer_pool_destroy(pool);
}
