/* SPDX-License-Identifier: MIT */
/*
 * version.h - the version a program was compiled with, and the one it runs on.
 *
 * The macros speak of the headers, the functions of the library that was
 * loaded: they differ when the library was exchanged without a new build.
 *
 * The build reads the three numbers below; they exist nowhere else.  Until 1.0
 * a new minor number may change the interface, a new patch number never does.
 * From 1.0 on only a new major number may, and it changes the SONAME.
 */
#ifndef WEIR_VERSION_H
#define WEIR_VERSION_H

#include <weir/export.h>

WEIR_BEGIN_DECLS

#define WEIR_VERSION_MAJOR 0
#define WEIR_VERSION_MINOR 1
#define WEIR_VERSION_PATCH 0

/** One number that orders versions, for use in #if. */
#define WEIR_VERSION_NUMBER                                      \
	(WEIR_VERSION_MAJOR * 10000 + WEIR_VERSION_MINOR * 100 + \
	    WEIR_VERSION_PATCH)

#define WEIR_VERSION_TEXT_(major, minor, patch) #major "." #minor "." #patch
#define WEIR_VERSION_TEXT_OF_(major, minor, patch) \
	WEIR_VERSION_TEXT_(major, minor, patch)

/** The version as "major.minor.patch". */
#define WEIR_VERSION_STRING    \
	WEIR_VERSION_TEXT_OF_( \
	    WEIR_VERSION_MAJOR, WEIR_VERSION_MINOR, WEIR_VERSION_PATCH)

/**
 * weir_version() - the version of the library in use, as text.
 *
 * Returns:   what WEIR_VERSION_STRING was when the library was built.
 * Ownership: static storage.
 * Threads:   any thread, also in signal handlers; does not start the library.
 * Cost:      a constant.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API const char *weir_version(void) WEIR_NOEXCEPT;

/**
 * weir_version_number() - the version of the library in use, as a number.
 *
 * Returns:   what WEIR_VERSION_NUMBER was when the library was built; equal to
 *            the macro when program and library are of one version.
 * Ownership: nothing changes hands.
 * Threads:   any thread, also in signal handlers; does not start the library.
 * Cost:      a constant.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API int weir_version_number(void) WEIR_NOEXCEPT;

WEIR_END_DECLS

#endif /* WEIR_VERSION_H */
