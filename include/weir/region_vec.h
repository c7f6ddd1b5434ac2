/* SPDX-License-Identifier: MIT */
/*
 * region_vec.h - what grows in a region: text written piece by piece, vectors.
 *
 * Part of weir/region.h, which includes it.
 *
 * Both are the caller's structs over an array in a region.  It grows in place
 * while nothing was taken behind it, or on pages of its own; else it doubles,
 * moves, and what it leaves serves the next one.  Ending the region, a reset or
 * a rewind ends the array; the struct needs no end of its own, and is to be
 * initialised anew.  After weir_region_merge() its `region` is to be set to the
 * region that has the array now.
 */
#ifndef WEIR_REGION_VEC_H
#define WEIR_REGION_VEC_H

#include <weir/region.h>

#include <stdarg.h>

WEIR_BEGIN_DECLS

/* ---- writers ------------------------------------------------------------ */

/**
 * struct weir_region_writer - one piece of text or data under construction.
 *
 *     struct weir_region_writer out = WEIR_REGION_WRITER(region);
 *
 *     while ((room = weir_region_writer_reserve(&out, 4096)) != NULL &&
 *         (got = read(fd, room, 4096)) > 0)
 *             weir_region_writer_commit(&out, (size_t)got);
 *     body = weir_region_writer_finish(&out, &length);
 *
 * A call that could not do its work sets `failed`, and nothing is added from
 * then on: a sequence of calls needs one test, that of the last.  The fields
 * are for reading.  What is added must not lie in the writer's own array.
 */
struct weir_region_writer {
	struct weir_region *region;
	char *data;      /* moves as it grows; NULL: nothing yet */
	size_t length;   /* written */
	size_t capacity; /* of data */
	size_t reserved; /* behind length, to be committed */
	bool failed;
};

/* clang-format off */
#define WEIR_REGION_WRITER(region) { (region), NULL, 0, 0, 0, false }
/* clang-format on */

/**
 * weir_region_writer_reserve() - ask for room to write into.
 * @writer: a writer of a live region.
 * @bytes:  any number.
 *
 * Returns:   where to write up to @bytes, or NULL.
 * Ownership: the room is the caller's to write until the next call with
 *            @writer; it counts once it is committed.
 * Threads:   the region's owner.
 * Cost:      a comparison while there is room; else growth, amortised O(1) a
 *            byte.
 * Errors:    NULL as weir_region_alloc(), and after an earlier failure.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD char *weir_region_writer_reserve(
    struct weir_region_writer *writer, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_region_writer_commit() - what was written into the room counts.
 * @writer: the writer.
 * @bytes:  at most what was reserved and not committed yet.
 *
 * Ownership: as before; the rest of the room stays reserved.
 * Threads:   the region's owner.
 * Cost:      a few instructions.
 * Errors:    more than was reserved is a fault (weir/guard.h).
 * Since:     0.1
 */
WEIR_API void weir_region_writer_commit(
    struct weir_region_writer *writer, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_region_writer_add() - append bytes.
 * @writer: a writer of a live region.
 * @data:   @bytes bytes; may be NULL when @bytes is 0.
 * @bytes:  any number.
 *
 * Returns:   true when they were added, and nothing failed before.
 * Ownership: copied.
 * Threads:   the region's owner.
 * Cost:      as weir_region_writer_reserve(), and the copy.
 * Errors:    false, and @writer has failed.
 * Since:     0.1
 */
WEIR_API bool weir_region_writer_add(struct weir_region_writer *writer,
    const void *data, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_region_writer_str() - append a string without its NUL.
 * @writer: a writer of a live region.
 * @string: NUL-terminated.
 *
 * Returns:   as weir_region_writer_add().
 * Ownership: copied.
 * Threads:   the region's owner.
 * Cost:      as weir_region_writer_add(), and a pass for the length.
 * Errors:    as weir_region_writer_add().
 * Since:     0.1
 */
WEIR_API bool weir_region_writer_str(
    struct weir_region_writer *writer, const char *string) WEIR_NOEXCEPT;

/**
 * weir_region_writer_printf() - append formatted text.
 * @writer: a writer of a live region.
 * @format: as printf().
 *
 * Returns:   as weir_region_writer_add().
 * Ownership: as weir_region_writer_add().
 * Threads:   the region's owner.
 * Cost:      one formatting pass where the text fits what follows, up to the
 *            end of the block while nothing was taken behind, or is shorter
 *            than 1 KiB (weir_region_printf() says how); else two.
 * Errors:    as weir_region_writer_add(); also when the format fails, with
 *            nothing added and counted as weir_region_printf() does.
 * Since:     0.1
 */
WEIR_API bool weir_region_writer_printf(struct weir_region_writer *writer,
    const char *format, ...) WEIR_NOEXCEPT WEIR_PRINTF(2, 3);

/**
 * weir_region_writer_vprintf() - weir_region_writer_printf() with a va_list.
 * @writer:    a writer of a live region.
 * @format:    as vprintf().
 * @arguments: left as vprintf() leaves them.
 *
 * Returns:   as weir_region_writer_printf().
 * Ownership: as weir_region_writer_printf().
 * Threads:   the region's owner.
 * Cost:      as weir_region_writer_printf().
 * Errors:    as weir_region_writer_printf().
 * Since:     0.1
 */
WEIR_API bool weir_region_writer_vprintf(struct weir_region_writer *writer,
    const char *format, va_list arguments) WEIR_NOEXCEPT WEIR_PRINTF(2, 0);

/**
 * weir_region_writer_finish() - take what was written.
 * @writer: a writer of a live region; empty and ready for more afterwards.
 * @length: receives the length without the NUL; may be NULL.
 *
 * Returns:   what was written, in one piece, with a NUL behind it, or NULL.
 * Ownership: the region's, as from weir_region_alloc(), of @length + 1 bytes;
 *            what the array has beyond them is given back.
 * Threads:   the region's owner.
 * Cost:      as weir_region_shrink().
 * Errors:    NULL when a call failed before, or for want of memory for the NUL
 *            of a writer with nothing in it; then as after an abandon.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD char *weir_region_writer_finish(
    struct weir_region_writer *writer, size_t *length) WEIR_NOEXCEPT;

/**
 * weir_region_writer_abandon() - give up what was written.
 * @writer: a writer of a live region; empty and ready for more afterwards.
 *
 * Ownership: the array goes back, as by weir_region_free().
 * Threads:   the region's owner.
 * Cost:      as weir_region_free().
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_region_writer_abandon(struct weir_region_writer *writer)
    WEIR_NOEXCEPT;

/* ---- vectors ------------------------------------------------------------ */

/**
 * struct weir_region_vec - a growing array of elements of one size.
 *
 *     struct weir_region_vec lines = WEIR_REGION_VEC(region, struct line);
 *     struct line *line = weir_region_vec_push(&lines);
 *
 * `data` is the first of `count` elements, aligned to 16; it moves as the
 * vector grows.  The fields are for reading, but count may be made smaller.
 */
struct weir_region_vec {
	struct weir_region *region;
	void *data;
	size_t count;
	size_t capacity; /* elements */
	size_t element_bytes;
	size_t bytes; /* of data */
};

/* clang-format off */
#define WEIR_REGION_VEC(region, type) { (region), NULL, 0, 0, sizeof(type), 0 }
/* clang-format on */

/**
 * weir_region_vec_push_many() - append some elements.
 * @vec:   a vector in a live region.
 * @count: any number; 0 gives a pointer behind the last element.
 *
 * Returns:   the first of them, contents unspecified, or NULL: then the vector
 *            is as it was.
 * Ownership: the vector's.  Older pointers into it may be stale.
 * Threads:   the region's owner.
 * Cost:      amortised O(1) an element.
 * Errors:    NULL as weir_region_alloc(), also when the element size is 0.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_region_vec_push_many(
    struct weir_region_vec *vec, size_t count) WEIR_NOEXCEPT;

/**
 * weir_region_vec_push() - append one element.
 * @vec: a vector in a live region.
 *
 * Returns:   as weir_region_vec_push_many().
 * Ownership: as weir_region_vec_push_many().
 * Threads:   the region's owner.
 * Cost:      a few instructions while there is capacity.
 * Errors:    as weir_region_vec_push_many().
 * Since:     0.1
 */
WEIR_NODISCARD static inline void *
weir_region_vec_push(struct weir_region_vec *vec) WEIR_NOEXCEPT
{
	if (WEIR_UNLIKELY(vec->count == vec->capacity))
		return weir_region_vec_push_many(vec, 1);
	return (char *)vec->data + vec->count++ * vec->element_bytes;
}

/**
 * weir_region_vec_pop() - take the last element off.
 * @vec: a vector in a live region.
 *
 * Returns:   the element, or NULL when there is none.
 * Ownership: readable until the next push.
 * Threads:   the region's owner.
 * Cost:      a few instructions; no memory is given back.
 * Errors:    none.
 * Since:     0.1
 */
static inline void *
weir_region_vec_pop(struct weir_region_vec *vec) WEIR_NOEXCEPT
{
	if (vec->count == 0)
		return NULL;
	return (char *)vec->data + --vec->count * vec->element_bytes;
}

/**
 * weir_region_vec_reserve() - have capacity for some elements in all.
 * @vec:      a vector in a live region.
 * @capacity: as many pushes in all cannot fail then.
 *
 * Returns:   true when it has; false as weir_region_vec_push_many().
 * Ownership: older pointers into the vector may be stale.
 * Threads:   the region's owner.
 * Cost:      nothing when there is as much; else one growth.
 * Errors:    as weir_region_vec_push_many().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD bool weir_region_vec_reserve(
    struct weir_region_vec *vec, size_t capacity) WEIR_NOEXCEPT;

/**
 * weir_region_vec_finish() - take the elements as an array.
 * @vec:   a vector in a live region; empty and ready for more afterwards.
 * @count: receives their number; may be NULL.
 *
 * Returns:   the array; NULL when there are no elements.
 * Ownership: the region's, as from weir_region_alloc(); capacity beyond the
 *            elements is given back.
 * Threads:   the region's owner.
 * Cost:      as weir_region_shrink().
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void *weir_region_vec_finish(
    struct weir_region_vec *vec, size_t *count) WEIR_NOEXCEPT;

/**
 * weir_region_vec_abandon() - give the elements up.
 * @vec: a vector in a live region; empty and ready for more afterwards.
 *
 * Ownership: the array goes back, as by weir_region_free().
 * Threads:   the region's owner.
 * Cost:      as weir_region_free().
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_region_vec_abandon(struct weir_region_vec *vec)
    WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_REGION_VEC_H */
