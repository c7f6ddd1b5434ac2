/* SPDX-License-Identifier: MIT */
/*
 * ops_buffer.c - buffers with references, slices of them, and a chain, which is
 * compared with a plain string of bytes.
 */
#include "ops.h"

#include <weir/buffer.h>
#include <weir/chain.h>

#include <string.h>

#define HELD 24
#define SLICES 24
#define TEXT ((size_t)16384)
#define CHAIN_SLICES 128

struct held_buffer {
	struct weir_buffer *buffer; /* NULL: not there */
	unsigned references;        /* of this holder, slices included */
	uint8_t seed;
};

struct held_slice {
	struct weir_slice slice;
	struct held_buffer *of; /* NULL: not there */
};

static struct weir_buffer_pool *buffers;
static struct held_buffer held[HELD];
static struct held_slice slices[SLICES];
static struct weir_chain chain;
static uint8_t text[TEXT]; /* what the chain holds */
static size_t text_bytes;

/* ---- buffers ------------------------------------------------------------------ */

static uint8_t
buffer_byte(const struct held_buffer *one, size_t at)
{
	return (uint8_t)(one->seed + at * 5);
}

static void
buffer_verify(const struct held_buffer *one)
{
	for (size_t i = 0; i < weir_buffer_usable(one->buffer); i++)
		OPS_CHECK(one->buffer->data[i] == buffer_byte(one, i));
	OPS_CHECK(weir_buffer_references(one->buffer) >= one->references);
	OPS_CHECK(weir_buffer_of(one->buffer->data) == one->buffer);
}

static void
buffer_acquire(struct held_buffer *one)
{
	size_t bytes = ops_word() % 2100;

	one->buffer = weir_buffer_acquire(buffers, bytes);
	OPS_CHECK((one->buffer != NULL) == (bytes <= 2048));
	if (one->buffer == NULL)
		return;
	OPS_CHECK(weir_buffer_usable(one->buffer) >= bytes);
	OPS_CHECK(weir_buffer_references(one->buffer) == 1);
	one->references = 1;
	one->seed = (uint8_t)shadow_now();
	for (size_t i = 0; i < weir_buffer_usable(one->buffer); i++)
		one->buffer->data[i] = buffer_byte(one, i);
	/* Nobody's bytes are another's. */
	for (size_t i = 0; i < HELD; i++)
		if (held[i].buffer != NULL)
			buffer_verify(&held[i]);
}

static void
buffer_retain(struct held_buffer *one)
{
	unsigned count = 1 + ops_below(3);

	(void)weir_buffer_retain_many(one->buffer, count);
	one->references += count;
}

/* A reference that is no slice's. */
static unsigned
buffer_own_references(const struct held_buffer *one)
{
	unsigned own = one->references;

	for (size_t i = 0; i < SLICES; i++)
		own -= slices[i].of == one;
	return own;
}

static void
buffer_gone(struct held_buffer *one)
{
	if (--one->references == 0)
		one->buffer = NULL;
}

static void
buffer_release(struct held_buffer *one)
{
	buffer_verify(one);
	if (buffer_own_references(one) == 0)
		return;
	weir_buffer_release(one->buffer);
	buffer_gone(one);
}

/* ---- slices -------------------------------------------------------------------- */

static void
slice_verify(const struct held_slice *one)
{
	const unsigned char *data = weir_slice_data(one->slice);

	for (size_t i = 0; i < one->slice.bytes; i++)
		OPS_CHECK(
		    data[i] == buffer_byte(one->of, one->slice.offset + i));
}

static void
slice_make(struct held_slice *one)
{
	struct held_buffer *of = &held[ops_below(HELD)];
	size_t usable, offset, bytes;

	if (of->buffer == NULL)
		return;
	usable = weir_buffer_usable(of->buffer);
	offset = ops_word() % usable;
	bytes = 1 + ops_word() % (usable - offset);
	one->slice =
	    weir_slice_retain(weir_slice_make(of->buffer, offset, bytes));
	one->of = of;
	of->references++;
	slice_verify(one);
}

/* A part takes the place of the whole. */
static void
slice_narrow(struct held_slice *one)
{
	size_t offset = ops_word() % one->slice.bytes;
	size_t bytes = 1 + ops_word() % (one->slice.bytes - offset);
	struct weir_slice whole = one->slice;

	one->slice = weir_slice_retain(weir_slice_sub(whole, offset, bytes));
	OPS_CHECK(one->slice.bytes == bytes);
	weir_slice_release(&whole);
	slice_verify(one);
}

static void
slice_release(struct held_slice *one)
{
	slice_verify(one);
	weir_slice_release(&one->slice);
	OPS_CHECK(one->slice.buffer == NULL);
	buffer_gone(one->of);
	one->of = NULL;
}

static void
slice_compact(struct held_slice *one)
{
	const struct weir_compact_rule rule = {.pool = buffers, .share = 2};
	struct weir_buffer *before = one->slice.buffer;
	uint8_t bytes[2048];

	memcpy(bytes, weir_slice_data(one->slice), one->slice.bytes);
	(void)weir_slice_compact(&one->slice, &rule);
	OPS_CHECK(
	    memcmp(bytes, weir_slice_data(one->slice), one->slice.bytes) == 0);
	/* A copy is in a buffer of its own, which nobody here keeps. */
	if (one->slice.buffer != before) {
		weir_slice_release(&one->slice);
		buffer_gone(one->of);
		one->of = NULL;
	}
}

/* ---- the chain --------------------------------------------------------------------- */

static void
chain_verify(void)
{
	struct weir_slice out[CHAIN_SLICES];
	size_t count = weir_chain_slices(&chain, out, CHAIN_SLICES), at = 0;

	OPS_CHECK(count == chain.count);
	OPS_CHECK(chain.bytes == text_bytes);
	for (size_t i = 0; i < count; i++) {
		OPS_CHECK(at + out[i].bytes <= text_bytes);
		OPS_CHECK(memcmp(weir_slice_data(out[i]), text + at,
			      out[i].bytes) == 0);
		at += out[i].bytes;
	}
	OPS_CHECK(at == text_bytes);
}

/* The slice's reference goes with it. */
static void
chain_append(struct held_slice *one)
{
	size_t bytes = one->slice.bytes;

	if (text_bytes + bytes > TEXT || chain.count == CHAIN_SLICES)
		return;
	memcpy(text + text_bytes, weir_slice_data(one->slice), bytes);
	text_bytes += bytes;
	OPS_CHECK(weir_chain_append(&chain, one->slice));
	buffer_gone(one->of);
	one->of = NULL;
}

static void
chain_prepend(void)
{
	uint32_t bytes = 1u + ops_byte();
	unsigned char *front;

	if (text_bytes + bytes > TEXT || chain.count == CHAIN_SLICES)
		return;
	front = weir_chain_prepend_bytes(&chain, bytes);
	OPS_CHECK(front != NULL);
	memmove(text + bytes, text, text_bytes);
	for (uint32_t i = 0; i < bytes; i++)
		front[i] = text[i] = (uint8_t)(bytes * 3 + i);
	text_bytes += bytes;
}

static void
chain_drop(size_t bytes)
{
	text_bytes -= bytes;
	memmove(text, text + bytes, text_bytes);
}

static void
chain_consume(void)
{
	size_t bytes = ops_word() % (text_bytes + 1);

	weir_chain_consume(&chain, bytes);
	chain_drop(bytes);
}

static void
chain_take(void)
{
	struct weir_slice slice = weir_chain_take(&chain);

	OPS_CHECK((slice.buffer != NULL) == (text_bytes > 0));
	if (slice.buffer == NULL)
		return;
	OPS_CHECK(memcmp(weir_slice_data(slice), text, slice.bytes) == 0);
	chain_drop(slice.bytes);
	weir_slice_release(&slice);
}

/* Into another one and back: the same bytes. */
static void
chain_pass(void)
{
	struct weir_chain other;

	weir_chain_init(&other, buffers);
	OPS_CHECK(weir_chain_append_chain(&other, &chain));
	OPS_CHECK(chain.bytes == 0 && other.bytes == text_bytes);
	OPS_CHECK(weir_chain_append_chain(&chain, &other));
	weir_chain_clear(&other);
}

static void
chain_compact(void)
{
	const struct weir_compact_rule rule = {
	    .pool = buffers, .share = 1u + ops_below(4)};

	(void)weir_chain_compact(&chain, &rule);
}

/* ---- steps ------------------------------------------------------------------------------ */

static void
buffers_begin(void)
{
	const struct weir_buffer_pool_config config = {
	    .tier = {{.bytes = 64}, {.bytes = 512}, {.bytes = 2048}},
	    .tier_count = 3,
	};

	memset(held, 0, sizeof(held));
	memset(slices, 0, sizeof(slices));
	text_bytes = 0;
	OPS_CHECK(weir_buffer_pool_create("fuzzed", &config, &buffers) == 0);
	weir_chain_init(&chain, buffers);
}

static void
buffers_check(void)
{
	for (size_t i = 0; i < HELD; i++)
		if (held[i].buffer != NULL)
			buffer_verify(&held[i]);
	for (size_t i = 0; i < SLICES; i++)
		if (slices[i].of != NULL)
			slice_verify(&slices[i]);
	chain_verify();
	OPS_CHECK(weir_buffer_pool_check(buffers));
}

static void
slice_step(struct held_slice *one, unsigned what)
{
	if (one->of == NULL)
		slice_make(one);
	else if (what == 0)
		slice_compact(one);
	else if (what < 3)
		slice_release(one);
	else if (what < 6)
		slice_narrow(one);
	else
		chain_append(one);
}

static void
buffer_step(struct held_buffer *one, unsigned what)
{
	if (one->buffer == NULL)
		buffer_acquire(one);
	else if (what < 2)
		buffer_retain(one);
	else
		buffer_release(one);
}

static void
buffers_step(void)
{
	unsigned what = ops_byte();

	switch (what / 16) {
	case 0:
		chain_prepend();
		break;
	case 1:
	case 2:
		chain_consume();
		break;
	case 3:
		chain_take();
		break;
	case 4:
		if (what % 4 == 0)
			chain_pass();
		else if (what % 4 == 1)
			chain_compact();
		else if (what % 4 == 2)
			(void)weir_buffer_pool_trim(buffers);
		else
			buffers_check();
		break;
	case 5:
	case 6:
	case 7:
	case 8:
	case 9:
		buffer_step(&held[ops_below(HELD)], what % 6);
		break;
	default:
		slice_step(&slices[ops_below(SLICES)], what % 10);
		break;
	}
	chain_verify();
}

static void
buffers_end(void)
{
	struct weir_pool_stats stats = {.size = sizeof(stats)};

	for (size_t i = 0; i < SLICES; i++)
		if (slices[i].of != NULL)
			slice_release(&slices[i]);
	for (size_t i = 0; i < HELD; i++)
		while (held[i].buffer != NULL)
			buffer_release(&held[i]);
	weir_chain_clear(&chain);
	OPS_CHECK(chain.bytes == 0 && chain.count == 0);
	OPS_CHECK(weir_buffer_pool_check(buffers));
	for (size_t tier = 0; tier < 3; tier++) {
		OPS_CHECK(weir_buffer_pool_stats(buffers, tier, &stats) == 0);
		OPS_CHECK(stats.in_use == 0);
	}
	weir_buffer_pool_destroy(buffers);
}

const struct ops_pool ops_buffer = {
    buffers_begin, buffers_step, buffers_check, buffers_end};
