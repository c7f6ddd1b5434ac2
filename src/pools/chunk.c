/* SPDX-License-Identifier: MIT */
/*
 * chunk.c - messages one behind the other in one buffer.
 *
 *     chunk  | message | message | gap | message | open ...        |
 *                                                  used
 *
 * A chunk is a buffer of the pool like any other: its slices count references,
 * its last release gives it back.  The writer has one of them; while that is the
 * only one nothing of the chunk is in use, and it begins again at the front.
 *
 * What is alive in a chunk cannot be told from its count: slices are cut and
 * retained as anybody likes, and a release tells no length.  So a chunk knows how
 * many messages of how many bytes it was given since it began, and as many of
 * them as it has references are taken to be alive.  That is exact for messages
 * of one length, for a chunk with all of them and for one with none, costs
 * nothing at a release, and never says more than was written.
 *
 *     weir_buffer.user:  | 32 bits: bytes | 31 bits: messages | writer has it |
 */
#include "base/bits.h"
#include "config/invalid.h"
#include "guard/fault.h"
#include "pools/buffer.h"

#include <weir/chunk.h>

#include <errno.h>

#define CHUNK_BYTES (UINT32_C(64) << 10)
#define CHUNK_ALIGN 8
#define CHUNK_ALIGN_MAX 4096

#define CHUNK_WRITER UINT64_C(1)
#define CHUNK_MESSAGE UINT64_C(2)
#define CHUNK_BYTE (UINT64_C(1) << 32)

/* ---- the word ------------------------------------------------------------ */

static uint64_t
chunk_word(const struct weir_buffer *buffer)
{
	return (uint64_t)(uintptr_t)WEIRI_LOAD(&buffer->user);
}

/* By the writer; read by walks. */
static void
chunk_set_word(struct weir_buffer *buffer, uint64_t word)
{
	WEIRI_STORE(&buffer->user, (void *)(uintptr_t)word);
}

/* ---- setup --------------------------------------------------------------- */

static int
chunk_refuse(const struct weir_buffer_pool *pool, struct weiri_invalid invalid)
{
	invalid.call = "weir_chunk_init";
	invalid.kind = "buffer";
	invalid.name = pool->name;
	return weiri_invalid(&invalid);
}

static int
chunk_check_config(
    const struct weir_buffer_pool *pool, const struct weir_chunk_config *config)
{
	if (config->bytes > pool->bytes_max)
		return chunk_refuse(
		    pool, (struct weiri_invalid){.field = "bytes",
			      .value = config->bytes,
			      .allowed = "0 .. %u, the largest tier",
			      .bound = {pool->bytes_max}});
	if (config->align != 0 &&
	    (!weiri_is_pow2(config->align) || config->align > CHUNK_ALIGN_MAX))
		return chunk_refuse(
		    pool, (struct weiri_invalid){.field = "align",
			      .value = config->align,
			      .allowed = "0 or a power of two up to %u",
			      .bound = {CHUNK_ALIGN_MAX}});
	if ((unsigned)config->use >= WEIR_BUFFER_USES)
		return chunk_refuse(pool,
		    (struct weiri_invalid){.field = "use",
			.value = (unsigned)config->use,
			.allowed = "0 .. %u, those of enum weir_buffer_use",
			.bound = {WEIR_BUFFER_USES - 1}});
	if (config->reserved0 != 0)
		return chunk_refuse(
		    pool, (struct weiri_invalid){.field = "reserved0",
			      .value = config->reserved0,
			      .allowed = "0"});
	return 0;
}

int
weir_chunk_init(struct weir_chunk *chunk, struct weir_buffer_pool *pool,
    const struct weir_chunk_config *config)
{
	static const struct weir_chunk_config none;
	int error;

	if (config == NULL)
		config = &none;
	error = chunk_check_config(pool, config);
	if (error != 0)
		return error;
	*chunk = (struct weir_chunk){
	    .pool = pool,
	    .account = config->account,
	    .bytes = config->bytes != 0
			 ? config->bytes
			 : (uint32_t)weiri_min(CHUNK_BYTES, pool->bytes_max),
	    .align = config->align != 0 ? config->align : CHUNK_ALIGN,
	    .use = config->use,
	};
	return 0;
}

/* ---- chunks -------------------------------------------------------------- */

/* The writer's reference ends; its messages stay. */
static void
chunk_leave(struct weir_chunk *chunk)
{
	struct weir_buffer *buffer = chunk->buffer;

	if (buffer == NULL)
		return;
	chunk->buffer = NULL;
	chunk->used = 0;
	chunk_set_word(buffer, chunk_word(buffer) & ~CHUNK_WRITER);
	weir_buffer_release(buffer);
}

static struct weir_buffer *
chunk_acquire(const struct weir_chunk *chunk, uint32_t bytes)
{
	struct weir_buffer *buffer = weir_buffer_acquire_for(chunk->pool,
	    &(struct weir_buffer_want){
		.bytes = bytes, .account = chunk->account, .use = chunk->use});
	struct weiri_buffer_tier *tier;

	if (buffer == NULL)
		return NULL;
	tier = weiri_buffer_tier(buffer);
	if (!WEIRI_LOAD(&tier->has_chunks))
		WEIRI_STORE(&tier->has_chunks, true);
	/* Nobody else has it yet. */
	WEIRI_STORE(
	    &buffer->flags, WEIRI_LOAD(&buffer->flags) | WEIRI_BUFFER_CHUNK);
	chunk_set_word(buffer, CHUNK_WRITER);
	return buffer;
}

/* A chunk with room for @bytes behind what is used; false without memory. */
static bool
chunk_make_room(struct weir_chunk *chunk, uint32_t bytes)
{
	if (chunk->buffer != NULL) {
		/* Acquire: what others read there was read. */
		if (chunk->used > 0 &&
		    weir_buffer_references(chunk->buffer) == 1) {
			chunk->used = 0;
			chunk_set_word(chunk->buffer, CHUNK_WRITER);
		}
		if (chunk->used + (uint64_t)bytes <= chunk->buffer->bytes)
			return true;
		chunk_leave(chunk);
	}
	chunk->buffer = chunk_acquire(chunk, chunk->bytes);
	return chunk->buffer != NULL;
}

static WEIRI_COLD WEIRI_NORETURN void
chunk_fault(const struct weir_chunk *chunk, uint64_t number, const char *detail)
{
	weiri_fault(&(struct weiri_fault_site){
	    .fault_class = WEIR_FAULT_BAD_ARGUMENT,
	    .pool_kind = "buffer",
	    .pool_name = chunk->pool->name,
	    .address = chunk,
	    .number = number,
	    .detail = detail,
	});
}

/* ---- messages ------------------------------------------------------------ */

unsigned char *
weir_chunk_open(struct weir_chunk *chunk, uint32_t bytes)
{
	uint32_t wanted = (uint32_t)weiri_max(bytes, 1);

	if (WEIR_UNLIKELY(chunk->opened != 0) &&
	    WEIR_DETECTOR(chunk_open_twice))
		chunk_fault(chunk, chunk->opened,
		    "a message of %u bytes is open already");
	if (WEIR_UNLIKELY(wanted > chunk->bytes)) {
		chunk->large = chunk_acquire(chunk, wanted);
		if (chunk->large == NULL)
			return NULL;
		chunk->opened = wanted;
		return chunk->large->data;
	}
	if (!chunk_make_room(chunk, wanted))
		return NULL;
	chunk->opened = wanted;
	return chunk->buffer->data + chunk->used;
}

/* The message's reference is the writer's. */
static struct weir_slice
chunk_close_large(struct weir_chunk *chunk, uint32_t bytes)
{
	struct weir_buffer *buffer = chunk->large;

	chunk->large = NULL;
	if (bytes == 0) {
		weir_buffer_release(buffer);
		return (struct weir_slice){0};
	}
	chunk_set_word(buffer, bytes * CHUNK_BYTE + CHUNK_MESSAGE);
	return weir_slice_make(buffer, 0, bytes);
}

struct weir_slice
weir_chunk_close(struct weir_chunk *chunk, uint32_t bytes)
{
	uint32_t opened = chunk->opened, at = chunk->used;
	struct weir_buffer *buffer = chunk->buffer;

	if (WEIR_UNLIKELY(opened == 0) && WEIR_DETECTOR(chunk_close_twice))
		chunk_fault(chunk, 0, "no message is open");
	if (WEIR_UNLIKELY(bytes > opened) && WEIR_DETECTOR(chunk_close_longer))
		chunk_fault(
		    chunk, bytes, "%u bytes were written to less than that");
	chunk->opened = 0;
	if (WEIR_UNLIKELY(chunk->large != NULL))
		return chunk_close_large(chunk, bytes);
	if (bytes == 0)
		return (struct weir_slice){0};
	chunk_set_word(
	    buffer, chunk_word(buffer) + bytes * CHUNK_BYTE + CHUNK_MESSAGE);
	chunk->used = (uint32_t)weiri_min(
	    weiri_round_up((size_t)at + bytes, chunk->align), buffer->bytes);
	return weir_slice_retain(weir_slice_make(buffer, at, bytes));
}

void
weir_chunk_finish(struct weir_chunk *chunk)
{
	if (chunk == NULL)
		return;
	weir_buffer_release(chunk->large);
	chunk->large = NULL;
	chunk->opened = 0;
	chunk_leave(chunk);
}

/* ---- figures ------------------------------------------------------------- */

static void
chunk_add(struct weiri_chunk_sums *sums, const struct weir_buffer *buffer)
{
	uint64_t word = chunk_word(buffer);
	uint64_t messages = (uint32_t)word >> 1;
	uint64_t references = WEIRI_LOAD(&buffer->references);

	sums->chunks++;
	sums->pinned += buffer->bytes;
	references -= weiri_min(references, word & CHUNK_WRITER);
	if (messages > 0)
		sums->live +=
		    (word >> 32) * weiri_min(references, messages) / messages;
}

static void
chunk_add_block(const struct weiri_payload *payload, void *context)
{
	size_t carved = WEIRI_LOAD(&payload->slab->carved);

	for (size_t i = 0; i < carved; i++) {
		const struct weir_buffer *buffer =
		    weiri_buffer_held(payload, i);

		if (buffer != NULL &&
		    (WEIRI_LOAD(&buffer->flags) & WEIRI_BUFFER_CHUNK) != 0)
			chunk_add(context, buffer);
	}
}

void
weiri_chunk_add(struct weiri_buffer_tier *tier, struct weiri_chunk_sums *sums)
{
	if (WEIRI_LOAD(&tier->has_chunks))
		weiri_buffer_walk(tier, chunk_add_block, sums);
}

int
weir_chunk_stats(struct weir_buffer_pool *pool, struct weir_chunk_figures *out)
{
	struct weiri_chunk_sums sums = {0};

	if (out->size != sizeof(*out))
		return -EINVAL;
	for (uint32_t i = 0; i < pool->tier_count; i++)
		weiri_chunk_add(&pool->tier[i], &sums);
	*out = (struct weir_chunk_figures){
	    .size = sizeof(*out),
	    .chunks = sums.chunks,
	    .bytes_pinned = sums.pinned,
	    .bytes_live = sums.live,
	    .compactions = WEIRI_LOAD(&pool->compactions),
	    .bytes_compacted = WEIRI_LOAD(&pool->compacted_bytes),
	};
	return 0;
}
