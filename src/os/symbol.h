/* SPDX-License-Identifier: MIT */
/*
 * symbol.h - code addresses in reports.
 */
#ifndef WEIRI_SYMBOL_H
#define WEIRI_SYMBOL_H

#include "base/text.h"

/*
 * Appends the place of the call that returns to @address: with the dynamic
 * linker's knowledge "program+0x1234", for addr2line -e program 0x1234, and
 * before it the function if it is exported; else the plain address.  The byte
 * before the return is meant, since what follows may be another line's.
 * Allocates nothing.
 */
void weiri_os_symbol(struct weiri_text *text, const void *address);

#endif /* WEIRI_SYMBOL_H */
