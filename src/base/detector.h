/* SPDX-License-Identifier: MIT */
/*
 * detector.h - a mark at each place where a bug of the program is recognised.
 *
 *     if (WEIR_UNLIKELY(mask != 0) && WEIR_DETECTOR(bounded_double_free))
 *             bounded_fault(...);
 *
 * It stands last in the condition, so that it is reached when the bug is there
 * and at no other time, and each name stands once.  In every library it is the
 * constant 1.  In the one that tests/mutants builds of the same sources it is a
 * question, and the answer is no for one detector, named in the environment: the
 * library is blind to one bug, and the tests of that bug must fail.  Where they
 * do not, nothing would have told that the detector is dead.
 */
#ifndef WEIRI_DETECTOR_H
#define WEIRI_DETECTOR_H

#include "base/compiler.h"

#if defined(WEIR_MUTANTS) && WEIR_MUTANTS
#include <stdbool.h>

/* tests/mutants/detector.c */
WEIRI_COLD bool weiri_detector_is_on(const char *name);
WEIRI_COLD void weiri_detector_reported(const char *detail);

#define WEIR_DETECTOR(name) weiri_detector_is_on(#name)
#define WEIR_DETECTOR_REPORTED(detail) weiri_detector_reported(detail)
#else
#define WEIR_DETECTOR(name) 1
#define WEIR_DETECTOR_REPORTED(detail) ((void)0)
#endif

#endif /* WEIRI_DETECTOR_H */
