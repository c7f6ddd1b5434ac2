/* SPDX-License-Identifier: MIT */
/*
 * talloc.h - the calls of Samba's talloc, over weir.
 *
 * For code written against talloc.h: include this wherever that was; one file
 * of the program defines WEIR_COMPAT_IMPLEMENTATION before it does.
 *
 * Every object of talloc is freed, moved and resized by itself, which no region
 * can do.  Objects therefore come from the heap, each behind a header that holds
 * its place in the tree.  A talloc_pool() is a region: what is allocated below
 * it lies there, and the memory comes back when the last of it is freed.
 *
 * A tree is freed without recursion.  docs/MIGRATION.md tells what differs from
 * talloc, and what is left out.
 */
#ifndef WEIR_COMPAT_TALLOC_H
#define WEIR_COMPAT_TALLOC_H

#include <weir/heap.h>
#include <weir/region.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

WEIR_BEGIN_DECLS

typedef void TALLOC_CTX;

/* Whose calls these are. */
#define TALLOC_VERSION_MAJOR 2
#define TALLOC_VERSION_MINOR 4
int talloc_version_major(void);
int talloc_version_minor(void);

#define WEIR_TALLOC_TEXT_(line) #line
#define WEIR_TALLOC_TEXT(line) WEIR_TALLOC_TEXT_(line)
#ifndef __location__
#define __location__ __FILE__ ":" WEIR_TALLOC_TEXT(__LINE__)
#endif

#if defined(__GNUC__)
#define WEIR_TALLOC_TYPEOF(ptr) __typeof__(ptr)
#else
#define WEIR_TALLOC_TYPEOF(ptr) void *
#endif

/* ---- objects -------------------------------------------------------------- */

void *talloc_named(const void *ctx, size_t size, const char *fmt, ...)
    WEIR_PRINTF(3, 4);
void *talloc_named_const(const void *ctx, size_t size, const char *name);
void *talloc_init(const char *fmt, ...) WEIR_PRINTF(1, 2);
void *_talloc_zero(const void *ctx, size_t size, const char *name);
void *_talloc_memdup(
    const void *ctx, const void *p, size_t size, const char *name);
void *_talloc_array(
    const void *ctx, size_t el_size, unsigned count, const char *name);
void *_talloc_zero_array(
    const void *ctx, size_t el_size, unsigned count, const char *name);
void *_talloc_realloc(
    const void *ctx, void *ptr, size_t size, const char *name);
void *_talloc_realloc_array(const void *ctx, void *ptr, size_t el_size,
    unsigned count, const char *name);
void *talloc_realloc_fn(const void *ctx, void *ptr, size_t size);

#define talloc(ctx, type) (type *)talloc_named_const(ctx, sizeof(type), #type)
#define talloc_size(ctx, size) talloc_named_const(ctx, size, __location__)
#define talloc_ptrtype(ctx, ptr) \
	(WEIR_TALLOC_TYPEOF(ptr)) talloc_size(ctx, sizeof(*(ptr)))
#define talloc_new(ctx) talloc_named_const(ctx, 0, "talloc_new: " __location__)
#define talloc_zero(ctx, type) (type *)_talloc_zero(ctx, sizeof(type), #type)
#define talloc_zero_size(ctx, size) _talloc_zero(ctx, size, __location__)
#define talloc_memdup(ctx, p, size) _talloc_memdup(ctx, p, size, __location__)
#define talloc_array(ctx, type, count) \
	(type *)_talloc_array(ctx, sizeof(type), count, #type)
#define talloc_array_size(ctx, size, count) \
	_talloc_array(ctx, size, count, __location__)
#define talloc_array_ptrtype(ctx, ptr, count) \
	(WEIR_TALLOC_TYPEOF(ptr)) talloc_array_size(ctx, sizeof(*(ptr)), count)
#define talloc_zero_array(ctx, type, count) \
	(type *)_talloc_zero_array(ctx, sizeof(type), count, #type)
#define talloc_array_length(ctx) (talloc_get_size(ctx) / sizeof(*(ctx)))
#define talloc_realloc(ctx, p, type, count) \
	(type *)_talloc_realloc_array(ctx, p, sizeof(type), count, #type)
#define talloc_realloc_size(ctx, ptr, size) \
	_talloc_realloc(ctx, ptr, size, __location__)

/* ---- ends ----------------------------------------------------------------- */

int _talloc_free(void *ptr, const char *location);
void talloc_free_children(void *ptr);
void _talloc_set_destructor(const void *ptr, int (*destructor)(void *));

#define talloc_free(ptr) _talloc_free(ptr, __location__)
#define TALLOC_FREE(ctx)                  \
	do {                              \
		if ((ctx) != NULL) {      \
			talloc_free(ctx); \
			(ctx) = NULL;     \
		}                         \
	} while (0)
#if defined(__GNUC__) && !defined(__cplusplus)
/* The destructor takes the type of the object. */
#define talloc_set_destructor(ptr, function)                               \
	__extension__({                                                    \
		int (*weir_talloc_fn)(WEIR_TALLOC_TYPEOF(ptr)) = function; \
		_talloc_set_destructor(                                    \
		    (ptr), (int (*)(void *))weir_talloc_fn);               \
	})
#else
#define talloc_set_destructor(ptr, function) \
	_talloc_set_destructor((ptr), (int (*)(void *))(function))
#endif

/* ---- the tree --------------------------------------------------------------- */

void *_talloc_steal_loc(
    const void *new_ctx, const void *ptr, const char *location);
void *_talloc_move(const void *new_ctx, const void *pptr);
void *_talloc_reference_loc(
    const void *ctx, const void *ptr, const char *location);
int talloc_unlink(const void *ctx, void *ptr);
int talloc_increase_ref_count(const void *ptr);
size_t talloc_reference_count(const void *ptr);
void *talloc_reparent(
    const void *old_parent, const void *new_parent, const void *ptr);
void *talloc_parent(const void *ptr);
const char *talloc_parent_name(const void *ptr);
int talloc_is_parent(const void *ctx, const void *ptr);
void *talloc_find_parent_byname(const void *ctx, const char *name);
size_t talloc_total_size(const void *ptr);
size_t talloc_total_blocks(const void *ptr);
size_t talloc_get_size(const void *ptr);

#define talloc_steal(ctx, ptr) \
	((WEIR_TALLOC_TYPEOF(ptr))_talloc_steal_loc((ctx), (ptr), __location__))
#define talloc_move(ctx, pptr) \
	((WEIR_TALLOC_TYPEOF(*(pptr)))_talloc_move((ctx), (const void *)(pptr)))
#define talloc_reference(ctx, ptr)                       \
	((WEIR_TALLOC_TYPEOF(ptr))_talloc_reference_loc( \
	    (ctx), (ptr), __location__))
#define talloc_find_parent_bytype(ptr, type) \
	(type *)talloc_find_parent_byname(ptr, #type)

void *talloc_pool(const void *ctx, size_t size);
void *_talloc_pooled_object(const void *ctx, size_t type_size,
    const char *type_name, unsigned subobjects, size_t subobjects_size);
#define talloc_pooled_object(ctx, type, subobjects, subobjects_size) \
	(type *)_talloc_pooled_object(                               \
	    (ctx), sizeof(type), #type, (subobjects), (subobjects_size))

/* ---- names ------------------------------------------------------------------- */

const char *talloc_set_name(const void *ptr, const char *fmt, ...)
    WEIR_PRINTF(2, 3);
void talloc_set_name_const(const void *ptr, const char *name);
const char *talloc_get_name(const void *ptr);
void *talloc_check_name(const void *ptr, const char *name);
void *_talloc_get_type_abort(
    const void *ptr, const char *name, const char *location);
#define talloc_set_type(ptr, type) talloc_set_name_const(ptr, #type)
#define talloc_get_type(ptr, type) (type *)talloc_check_name(ptr, #type)
#define talloc_get_type_abort(ptr, type) \
	(type *)_talloc_get_type_abort(ptr, #type, __location__)

/* ---- strings ------------------------------------------------------------------ */

char *talloc_strdup(const void *ctx, const char *p);
char *talloc_strndup(const void *ctx, const char *p, size_t n);
char *talloc_strdup_append(char *s, const char *a);
char *talloc_strdup_append_buffer(char *s, const char *a);
char *talloc_strndup_append(char *s, const char *a, size_t n);
char *talloc_strndup_append_buffer(char *s, const char *a, size_t n);
char *talloc_asprintf(const void *ctx, const char *fmt, ...) WEIR_PRINTF(2, 3);
char *talloc_vasprintf(const void *ctx, const char *fmt, va_list ap)
    WEIR_PRINTF(2, 0);
char *talloc_asprintf_append(char *s, const char *fmt, ...) WEIR_PRINTF(2, 3);
char *talloc_asprintf_append_buffer(char *s, const char *fmt, ...)
    WEIR_PRINTF(2, 3);
char *talloc_vasprintf_append(char *s, const char *fmt, va_list ap)
    WEIR_PRINTF(2, 0);
char *talloc_vasprintf_append_buffer(char *s, const char *fmt, va_list ap)
    WEIR_PRINTF(2, 0);
void talloc_asprintf_addbuf(char **ps, const char *fmt, ...) WEIR_PRINTF(2, 3);

/* ---- reports --------------------------------------------------------------------- */

void talloc_report_depth_cb(const void *ptr, int depth, int max_depth,
    void (*callback)(const void *ptr, int depth, int max_depth, int is_ref,
	void *private_data),
    void *private_data);
void talloc_report_depth_file(
    const void *ptr, int depth, int max_depth, FILE *f);
void talloc_report_full(const void *ptr, FILE *f);
void talloc_report(const void *ptr, FILE *f);
void talloc_show_parents(const void *ctx, FILE *f);
void talloc_enable_null_tracking(void);
void talloc_enable_null_tracking_no_autofree(void);
void talloc_disable_null_tracking(void);
void talloc_set_abort_fn(void (*abort_fn)(const char *reason));
void talloc_set_log_fn(void (*log_fn)(const char *message));
void talloc_set_log_stderr(void);
/* At the end of the program, to stderr: what has no parent, or all of it. */
void talloc_enable_leak_report(void);
void talloc_enable_leak_report_full(void);
void *talloc_autofree_context(void);

#ifdef WEIR_COMPAT_IMPLEMENTATION
#include <weir/compat/talloc/chunk.h>
#include <weir/compat/talloc/pool.h>
#include <weir/compat/talloc/free.h>
#include <weir/compat/talloc/move.h>
#include <weir/compat/talloc/report.h>
#include <weir/compat/talloc/text.h>
#endif

WEIR_END_DECLS

#endif /* WEIR_COMPAT_TALLOC_H */
