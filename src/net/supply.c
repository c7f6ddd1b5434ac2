/* SPDX-License-Identifier: MIT */
/*
 * supply.c - buffers lent to the kernel, from which its receives pick.
 *
 * A connection that waits for bytes holds no buffer: the kernel takes one of
 * these when bytes are there.  They come from the engine's memory like all
 * others and leave for good with the bytes in them, so a slice a handler keeps
 * costs the supply nothing but a refill.
 *
 * The kernel goes round all that was published before it reuses a warm buffer,
 * and what was published cannot be withdrawn.  So only as many are as recent
 * passes used, times two; the rest stays with the thread's pool, which is last
 * in, first out.  A supply that runs dry costs a receive of its own each (the
 * back end's), and the window doubles.
 *
 * What a burst left in use lies anywhere, and a buffer that comes back from the
 * kernel is the next to be lent: the same ones would go round for ever, and each
 * keep a block of memory.  So where the pool has far more than is needed, all that
 * is published by then is to be replaced, by buffers from where most are in use:
 * before each fill what the thread has goes back to the slabs, until the kernel
 * has used the last of the old ones.
 *
 * Until it is taken, or the ring is closed, a buffer is the kernel's: it is in
 * the state WEIR_BUFFER_KERNEL_RX, and a release or a touch of it is a fault.
 *
 * Invariants:
 *  P1  published counts the non-NULL buffers; free_ids[0 .. entries-published)
 *      are the other ids.
 *  P2  published <= entries, so the shared ring cannot overrun.
 *  P3  With a limit for buffers, published <= supply_allowed() after each fill
 *      that published something.
 *  P4  stray of the published ones, those that the kernel picks first, were so
 *      when the engine's pool was last found to be too large.
 */
#include "net/ring.h"
#include "net/view.h"

#include "base/bits.h"
#include "pools/buffer_kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SUPPLY_WINDOW_MIN 16
#define SUPPLY_PARTS_MIN 2 /* of those that many receives share */

/* Passes after which a window that was too large shrinks. */
#define SUPPLY_PERIOD 512

/* Or so many tenths of a second, in a loop that has hardly any passes. */
#define SUPPLY_TICKS 10

/* Of a limited engine's memory, what the supplies of a size may withhold. */
#define SUPPLY_LIMIT_PART 8

static int
supply_register(struct weiri_supply *supply, const struct weiri_ring *ring,
    bool incremental)
{
	struct io_uring_buf_reg reg = {
	    .ring_addr = (uint64_t)(uintptr_t)supply->shared,
	    .ring_entries = supply->entries,
	    .bgid = supply->group,
	    /* Later headers name this field flags. */
	    .pad = incremental ? WEIRI_RING_INCREMENTAL : 0,
	};

	return syscall(__NR_io_uring_register, ring->fd,
		   IORING_REGISTER_PBUF_RING, &reg, 1) == 0
		   ? 0
		   : -errno;
}

int
weiri_supply_open(struct weiri_supply *supply, struct weiri_ring *ring,
    uint16_t group, uint16_t most, uint32_t bytes, bool incremental)
{
	uint16_t least = incremental ? SUPPLY_PARTS_MIN : SUPPLY_WINDOW_MIN;
	size_t page = weiri_os_page_bytes();
	size_t shared = most * sizeof(struct io_uring_buf);
	int error = -ENOMEM;

	*supply = (struct weiri_supply){
	    .shared = aligned_alloc(page, weiri_round_up(shared, page)),
	    .buffers = calloc(most, sizeof(struct weir_buffer *)),
	    .free_ids = calloc(most, sizeof(uint16_t)),
	    .entries = most,
	    .group = group,
	    .filled = incremental ? calloc(most, sizeof(uint32_t)) : NULL,
	    .window = most < least ? most : least,
	    .window_max = most,
	    .bytes = bytes,
	    .turn_bytes = bytes,
	};
	supply->window_min = supply->window;
	if (supply->shared != NULL && supply->buffers != NULL &&
	    supply->free_ids != NULL &&
	    (supply->filled != NULL || !incremental)) {
		memset(supply->shared, 0, shared);
		for (uint16_t id = 0; id < most; id++)
			supply->free_ids[id] = id;
		error = supply_register(supply, ring, incremental);
	}
	if (error != 0)
		weiri_supply_close(supply);
	return error;
}

void
weiri_supply_close(struct weiri_supply *supply)
{
	for (uint16_t id = 0; supply->buffers != NULL && id < supply->entries;
	     id++) {
		struct weir_buffer *buffer = supply->buffers[id];
		if (buffer == NULL)
			continue;
		weiri_buffer_take_back(buffer);
		if (supply->net != NULL)
			weiri_view_end(buffer);
		else
			weir_buffer_release(buffer);
	}
	free(supply->filled);
	free(supply->buffers);
	free(supply->free_ids);
	free(supply->shared);
	*supply = (struct weiri_supply){.shared = NULL};
}

static struct weir_buffer *
supply_take(struct weiri_supply *supply, uint16_t id)
{
	struct weir_buffer *buffer = supply->buffers[id];

	WEIR_ASSERT(buffer != NULL);
	weiri_buffer_take_back(buffer);
	supply->buffers[id] = NULL;
	supply->free_ids[supply->entries - supply->published] = id;
	supply->published--;
	supply->used++;
	if (WEIR_UNLIKELY(supply->stray > 0))
		supply->stray--;
	return buffer;
}

static struct weir_buffer *
supply_take_part(
    struct weiri_supply *supply, uint16_t id, const struct io_uring_cqe *cqe)
{
	struct weir_buffer *whole = supply->buffers[id];
	uint32_t offset = supply->filled[id];
	uint32_t bytes = cqe->res > 0 ? (uint32_t)cqe->res : 0;
	struct weir_buffer *part;

	WEIR_ASSERT(whole != NULL && bytes <= whole->bytes - offset);
	part = weiri_view_make(whole, offset, bytes);
	supply->filled[id] = offset + bytes;
	if (!(cqe->flags & WEIRI_RING_BUF_MORE))
		weiri_view_end(supply_take(supply, id));
	return part;
}

struct weir_buffer *
weiri_supply_take(struct weiri_supply *supply, const struct io_uring_cqe *cqe)
{
	uint16_t id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);

	return WEIR_LIKELY(supply->net == NULL)
		   ? supply_take(supply, id)
		   : supply_take_part(supply, id, cqe);
}

void
weiri_supply_ran_out(struct weiri_supply *supply)
{
	supply->peak = supply->window;
	supply->window = (uint16_t)weiri_min(
	    (uint64_t)supply->window * 2, (uint64_t)supply->window_max);
}

/* Twice the most that a pass of this period used. */
void
weiri_supply_adapt(struct weiri_supply *supply)
{
	uint16_t wanted;

	if (supply->used > supply->peak)
		supply->peak = supply->used;
	supply->used = 0;
	wanted = (uint16_t)weiri_max(supply->window_min,
	    weiri_min((uint64_t)supply->peak * 2, supply->window_max));
	if (wanted > supply->window)
		supply->window = wanted;
	if (++supply->passes < SUPPLY_PERIOD)
		return;
	supply->window = wanted;
	supply->passes = supply->ticks = 0;
	supply->peak = 0;
}

/* Without a receive armed there is none that could have filled a buffer which
 * nobody has looked at: what lies in them is old. */
static void
supply_rest(struct weiri_supply *supply)
{
	if (supply->armed > 0 || supply->rested == supply->tail ||
	    supply->net != NULL) /* others read what is in those */
		return;
	supply->rested = supply->tail;
	for (uint16_t id = 0; id < supply->entries; id++)
		if (supply->buffers[id] != NULL)
			weiri_buffer_forget(supply->buffers[id]);
}

/* Any one of the published buffers, of which there are some. */
static struct weir_buffer *
supply_any(const struct weiri_supply *supply)
{
	uint16_t id = 0;

	while (supply->buffers[id] == NULL)
		id++;
	return supply->buffers[id];
}

static void
supply_look_for_strays(
    struct weiri_supply *supply, const struct weir_loop *loop)
{
	const struct weir_buffer *buffer;

	if (supply->stray > 0 || supply->published == 0)
		return;
	buffer = supply_any(supply);
	/* Those of the program's own memory are its own affair. */
	if (buffer->pool != loop->net->buffers ||
	    !weiri_buffer_is_stray(buffer))
		return;
	supply->stray = supply->published;
	supply->stray_tier = buffer->tier;
}

void
weiri_supply_maintain(struct weiri_supply *supply, const struct weir_loop *loop)
{
	if (supply->shared == NULL)
		return;
	supply_look_for_strays(supply, loop);
	if (++supply->ticks < SUPPLY_TICKS)
		return;
	supply->passes = SUPPLY_PERIOD - 1;
	weiri_supply_adapt(supply);
	supply_rest(supply);
}

/* 0: none. */
static uint64_t
supply_limit(const struct weir_net_config *config)
{
	uint64_t pool = config->buffer_limit_bytes;
	uint64_t account = config->account_limit_bytes;

	return pool == 0 || (account != 0 && account < pool) ? account : pool;
}

/*
 * Of a limited memory, what is not in reserve is for those who wait.  All loops
 * together withhold a part of that at most, be they idle; where this leaves
 * none for a loop, it waits for bytes with polls (uring_conn.c).
 */
static uint16_t
supply_allowed(const struct weiri_supply *supply, const struct weir_loop *loop)
{
	const struct weir_net *net = loop->net;
	uint64_t limit = supply_limit(&net->config);
	uint64_t loops = WEIRI_LOAD(&net->loop_count);
	uint64_t reserved = loops * WEIR_NET_BUFFER_BYTES_MAX;

	if (limit == 0 || supply->window == 0)
		return supply->window;
	limit = reserved < limit ? limit - reserved : 0;
	limit = limit / SUPPLY_LIMIT_PART / loops / supply->bytes;
	return (uint16_t)weiri_min(limit, supply->window);
}

static void
supply_publish(struct weiri_supply *supply, uint16_t tail, unsigned char *data,
    uint32_t bytes, uint16_t id)
{
	struct io_uring_buf *entry =
	    &supply->shared->bufs[tail & (supply->entries - 1)];

	/* Not the whole entry: the first one's end is the tail. */
	entry->addr = (uint64_t)(uintptr_t)data;
	entry->len = bytes;
	entry->bid = id;
}

void
weiri_supply_lend(struct weiri_supply *supply, unsigned char *data)
{
	supply_publish(supply, 0, data, supply->bytes, 0);
	__atomic_store_n(&supply->shared->tail, 1, __ATOMIC_RELEASE);
}

/* The front is view.c's. */
static void
supply_begin_parts(struct weiri_supply *supply, uint16_t tail, uint16_t id)
{
	struct weir_buffer *whole = supply->buffers[id];

	weiri_view_begin(supply->net, whole);
	supply->filled[id] = WEIRI_VIEW_HEAD;
	supply_publish(supply, tail, whole->data + WEIRI_VIEW_HEAD,
	    whole->bytes - WEIRI_VIEW_HEAD, id);
}

void
weiri_supply_fill(struct weiri_supply *supply, struct weir_loop *loop)
{
	uint16_t tail = supply->tail;
	uint16_t allowed = supply_allowed(supply, loop);

	if (WEIR_UNLIKELY(supply->stray > 0) && supply->published < allowed)
		weiri_buffer_gather(loop->net->buffers, supply->stray_tier);
	while (supply->published < allowed) {
		struct weir_buffer *buffer =
		    weiri_loop_acquire(loop, supply->bytes);
		if (WEIR_UNLIKELY(buffer == NULL))
			break;
		supply->published++;
		uint16_t id =
		    supply->free_ids[supply->entries - supply->published];
		supply->buffers[id] = buffer;
		weiri_buffer_lend(buffer);
		/* All of it, which may be more than was asked for: full is
		 * what tells of a peer that sends much. */
		supply_publish(supply, tail, buffer->data, buffer->bytes, id);
		if (WEIR_UNLIKELY(supply->net != NULL))
			supply_begin_parts(supply, tail, id);
		tail++;
	}
	if (tail != supply->tail) {
		supply->tail = tail;
		__atomic_store_n(&supply->shared->tail, tail, __ATOMIC_RELEASE);
	}
}
