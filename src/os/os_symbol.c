/* SPDX-License-Identifier: MIT */
/*
 * os_symbol.c - code addresses in reports, as the dynamic linker knows them.
 */
#include "os/symbol.h"

#include <dlfcn.h>
#include <string.h>

static const char *
symbol_file(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

void
weiri_os_symbol(struct weiri_text *text, const void *address)
{
	const char *call = (const char *)address - 1;
	Dl_info info;

	if (dladdr(call, &info) == 0 || info.dli_fname == NULL) {
		weiri_text_hex(text, (uintptr_t)address);
		return;
	}
	if (info.dli_sname != NULL) {
		weiri_text_str(text, info.dli_sname);
		weiri_text_str(text, " in ");
	}
	weiri_text_str(text, symbol_file(info.dli_fname));
	weiri_text_char(text, '+');
	weiri_text_hex(text, (uintptr_t)call - (uintptr_t)info.dli_fbase);
}
