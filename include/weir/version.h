/* SPDX-License-Identifier: MIT */
/*
 * version.h - the version of the headers a program was compiled with.
 *
 * The build reads the three numbers below; they exist nowhere else.  Until
 * 1.0 a new minor number may change the interface, a new patch number never
 * does.  From 1.0 on only a new major number may, and it changes the SONAME.
 */
#ifndef WEIR_VERSION_H
#define WEIR_VERSION_H

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

#endif /* WEIR_VERSION_H */
