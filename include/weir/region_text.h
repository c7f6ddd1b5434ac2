/* SPDX-License-Identifier: MIT */
/*
 * region_text.h - objects that change their size; zeroed objects, copies and
 * formatted strings in a region.
 *
 * Part of weir/region.h, which includes it.
 *
 * A region does not know how large its objects are: calls that change one are
 * told.  They look at what can be seen without a search, and report it as a
 * fault (weir/guard.h): a pointer that is no multiple of 16 bytes or outside of
 * the region's blocks, a size that the object cannot have, a pointer into an
 * object on pages of its own, a second free of an array that is free still.  A
 * multiple of 16 inside of an object is taken for one of its own.  Debug builds
 * look whether the block is this region's.
 *
 * An object that grows in place after weir_region_mark() has its old size again
 * after the rewind; one that moved is gone.
 */
#ifndef WEIR_REGION_TEXT_H
#define WEIR_REGION_TEXT_H

#include <weir/region.h>

#include <stdarg.h>

#ifdef __GNUC__
#define WEIR_SENTINEL __attribute__((sentinel))
#else
#define WEIR_SENTINEL
#endif

WEIR_BEGIN_DECLS

/**
 * weir_region_extend() - make an object larger where it lies.
 * @region:    a live region.
 * @object:    an object of @region, or NULL, which cannot grow.
 * @bytes:     its size.
 * @new_bytes: the size it should have.
 *
 * Returns:   true when it has @new_bytes now; false when others lie behind it,
 *            the block or the pages behind it have no room, or a limit says no:
 *            all is as it was.  A smaller size is true, and gives nothing back.
 * Ownership: as before.
 * Threads:   the region's owner.
 * Cost:      some 40 instructions for the newest object; for one on its own
 *            pages as weir_region_resize_large(); nothing is copied.
 * Errors:    faults as above.  A refusal is not counted: it is an answer.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD bool weir_region_extend(struct weir_region *region,
    void *object, size_t bytes, size_t new_bytes) WEIR_NOEXCEPT;

/**
 * weir_region_shrink() - give the end of an object back.
 * @region:    a live region.
 * @object:    an object of @region, or NULL for nothing to do.
 * @bytes:     its size.
 * @new_bytes: the size it should have; not below @bytes: nothing to do.
 *
 * Of the newest object the end is room again, of one on its own pages those
 * behind @new_bytes go back (one stays); else it is kept for
 * weir_region_realloc(), vectors and writers of this region.
 *
 * Ownership: the first @new_bytes stay the caller's; size 0 is an object of
 *            size 0.
 * Threads:   the region's owner.
 * Cost:      some 40 instructions; with pages a lock and O(log n).
 * Errors:    faults as above.
 * Since:     0.1
 */
WEIR_API void weir_region_shrink(struct weir_region *region, void *object,
    size_t bytes, size_t new_bytes) WEIR_NOEXCEPT;

/**
 * weir_region_realloc() - give an object another size, elsewhere if need be.
 * @region:    a live region.
 * @object:    an object of @region; NULL: as weir_region_alloc().
 * @bytes:     its size; 0 with NULL.
 * @new_bytes: any size; 0 leaves an object of size 0, not NULL.
 *
 * Returns:   the object with its first bytes, or NULL: then @object is as it
 *            was.  A smaller one stays where it is.  One that moves is aligned
 *            to 16, whatever it was before.
 * Ownership: @object is stale unless it was returned, or NULL was.
 * Threads:   the region's owner.
 * Cost:      weir_region_extend(), else an array that was given back or
 *            weir_region_alloc(), and a copy; what it leaves behind is kept as
 *            by weir_region_free().
 * Errors:    NULL as weir_region_alloc(); faults as above.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_region_realloc(struct weir_region *region,
    void *object, size_t bytes, size_t new_bytes) WEIR_NOEXCEPT;

/**
 * weir_region_free() - give an object back before its region ends.
 * @region: a live region.
 * @object: an object of @region, or NULL for nothing to do.
 * @bytes:  its size.
 *
 * The newest object is room again; pages go back; another is kept for
 * weir_region_realloc(), vectors and writers of this region, by its size.
 * Nothing has to be given back: it pays for arrays that grow by moving.
 *
 * Ownership: @object is stale.
 * Threads:   the region's owner.
 * Cost:      some 40 instructions for the newest object, 200 for another; no
 *            list is walked.
 * Errors:    faults as above.  Size 0 gives nothing back.
 * Since:     0.1
 */
WEIR_API void weir_region_free(
    struct weir_region *region, void *object, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_region_alloc_zeroed() - take an object that reads as zero.
 * @region: a live region.
 * @bytes:  as weir_region_alloc().
 *
 * Returns:   as weir_region_alloc(), every byte zero.
 * Ownership: as weir_region_alloc().
 * Threads:   the region's owner.
 * Cost:      as weir_region_alloc() and the zeroing, which large objects on
 *            fresh pages are spared.
 * Errors:    as weir_region_alloc().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_region_alloc_zeroed(
    struct weir_region *region, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_region_memdup() - copy bytes into a region.
 * @region: a live region.
 * @data:   @bytes bytes; may be NULL when @bytes is 0.
 * @bytes:  any size.
 *
 * Returns:   the copy, aligned to 16, or NULL.
 * Ownership: as weir_region_alloc().
 * Threads:   the region's owner.
 * Cost:      weir_region_alloc() and the copy.
 * Errors:    as weir_region_alloc().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_region_memdup(
    struct weir_region *region, const void *data, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_region_strdup() - copy a string into a region.
 * @region: a live region.
 * @string: NUL-terminated.
 *
 * Returns:   the copy, or NULL.
 * Ownership: as weir_region_alloc().
 * Threads:   the region's owner.
 * Cost:      weir_region_alloc(), one pass for the length, one for the copy.
 * Errors:    as weir_region_alloc().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD char *weir_region_strdup(
    struct weir_region *region, const char *string) WEIR_NOEXCEPT;

/**
 * weir_region_strndup() - copy at most some bytes of a string.
 * @region: a live region.
 * @string: at least @bytes bytes, or NUL-terminated before.
 * @bytes:  the most to copy, without the NUL that is always added.
 *
 * Returns:   the copy, or NULL.
 * Ownership: as weir_region_alloc().
 * Threads:   the region's owner.
 * Cost:      as weir_region_strdup().
 * Errors:    as weir_region_alloc().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD char *weir_region_strndup(
    struct weir_region *region, const char *string, size_t bytes) WEIR_NOEXCEPT;

/**
 * weir_region_strcat() - join strings in a region.
 * @region: a live region.
 *
 * Strings follow, and a null pointer of type const char * ends them:
 *
 *     path = weir_region_strcat(region, root, "/", name, (const char *)NULL);
 *
 * Returns:   the joined string, or NULL.
 * Ownership: as weir_region_alloc().
 * Threads:   the region's owner.
 * Cost:      weir_region_alloc(), one pass for the lengths, one for the copy.
 * Errors:    as weir_region_alloc().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD char *weir_region_strcat(
    struct weir_region *region, ...) WEIR_NOEXCEPT WEIR_SENTINEL;

/**
 * weir_region_printf() - format a string into a region.
 * @region: a live region.
 * @format: as printf().
 *
 * Returns:   the NUL-terminated text, or NULL.
 * Ownership: as weir_region_alloc().
 * Threads:   the region's owner.
 * Cost:      one formatting pass, straight into the current block; where that
 *            has less than 1 KiB left, into 1 KiB of the stack and copied.  A
 *            second pass for a text that fits neither: of 1024 bytes or more
 *            with its NUL, and more than the block has left.  C has no way
 *            to go on with the first.
 * Errors:    as weir_region_alloc(); also NULL, and counted, when the format
 *            fails (an unencodable wide character, a length above INT_MAX).
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD char *weir_region_printf(struct weir_region *region,
    const char *format, ...) WEIR_NOEXCEPT WEIR_PRINTF(2, 3);

/**
 * weir_region_vprintf() - weir_region_printf() with a va_list.
 * @region:    a live region.
 * @format:    as vprintf().
 * @arguments: left as vprintf() leaves them.
 *
 * Returns:   as weir_region_printf().
 * Ownership: as weir_region_alloc().
 * Threads:   the region's owner.
 * Cost:      as weir_region_printf().
 * Errors:    as weir_region_printf().
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD char *weir_region_vprintf(struct weir_region *region,
    const char *format, va_list arguments) WEIR_NOEXCEPT WEIR_PRINTF(2, 0);

WEIR_END_DECLS

#endif /* WEIR_REGION_TEXT_H */
