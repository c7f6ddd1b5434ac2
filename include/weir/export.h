/* SPDX-License-Identifier: MIT */
/*
 * export.h - the few macros every public header needs: visibility, attributes
 * and the C/C++ differences.  Nothing here has a run-time cost.
 */
#ifndef WEIR_EXPORT_H
#define WEIR_EXPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(WEIR_SHARED)
#ifdef WEIR_BUILDING
#define WEIR_API __declspec(dllexport)
#else
#define WEIR_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define WEIR_API __attribute__((visibility("default")))
#else
#define WEIR_API
#endif

#ifdef __GNUC__
#define WEIR_NODISCARD __attribute__((warn_unused_result))
#define WEIR_UNUSED __attribute__((unused))
#define WEIR_PRINTF(format_index, first_arg) \
	__attribute__((format(printf, format_index, first_arg)))
#define WEIR_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define WEIR_UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#define WEIR_CLEANUP(function) __attribute__((cleanup(function)))
#define WEIR_NOINLINE __attribute__((noinline))
/* For weir_region_config.site, in a function that is WEIR_NOINLINE. */
#define WEIR_CALLER() __builtin_return_address(0)
#else
#define WEIR_NODISCARD
#define WEIR_UNUSED
#define WEIR_PRINTF(format_index, first_arg)
#define WEIR_LIKELY(condition) (condition)
#define WEIR_UNLIKELY(condition) (condition)
#define WEIR_NOINLINE
#define WEIR_CALLER() NULL
#endif

#ifdef __cplusplus
#define WEIR_ALIGNOF(type) alignof(type)
#define WEIR_NOEXCEPT noexcept
#define WEIR_BEGIN_DECLS extern "C" {
#define WEIR_END_DECLS }
#else
#define WEIR_ALIGNOF(type) _Alignof(type)
#define WEIR_NOEXCEPT
#define WEIR_BEGIN_DECLS
#define WEIR_END_DECLS
#endif

/** A limit that lets nothing through; in configurations 0 means no limit. */
#define WEIR_LIMIT_NOTHING SIZE_MAX

#endif /* WEIR_EXPORT_H */
