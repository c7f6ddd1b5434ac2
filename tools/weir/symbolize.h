/* SPDX-License-Identifier: MIT */
/*
 * symbolize.h - `weir symbolize`: between reading a report and asking for names.
 *
 * The report is read twice: first for the modules it has frames in, so that each
 * is asked for all of them at once, then to be written with the answers.
 */
#ifndef WEIR_TOOL_SYMBOLIZE_H
#define WEIR_TOOL_SYMBOLIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/** One frame that a report has, and what is known of it. */
struct symbolize_frame {
	uint64_t offset; /* in the file of its module */
	char *text;      /* "function at file:line\n..."; NULL: no answer */
};

struct symbolize_module {
	char *path;     /* as the report has it */
	char *build_id; /* in hexadecimal; NULL: the report has none */
	char *why;      /* no names: the reason; NULL: none */
	struct symbolize_frame *frame;
	size_t count, room;
	struct symbolize_module *next;
};

/** What to ask, and where to look. */
struct symbolize_tools {
	const char *program;   /* addr2line or llvm-symbolizer; NULL: found */
	const char *directory; /* holds .build-id/; NULL: /usr/lib/debug */
};

/** The frame at an offset of a module, entered where it is new; NULL without
 * memory.  @path has @length bytes. */
struct symbolize_frame *symbolize_need(struct symbolize_module **modules,
    const char *path, size_t length, uint64_t offset);

/** The module of that path, entered where it is new; NULL without memory. */
struct symbolize_module *symbolize_need_module(
    struct symbolize_module **modules, const char *path, size_t length);

/** Has a program name all frames of a module; sets text or why. */
void symbolize_ask(
    struct symbolize_module *module, const struct symbolize_tools *tools);

void symbolize_free(struct symbolize_module *modules);

/** Enters the frames of a report in text, JSON or both. */
int symbolize_collect(
    const char *report, size_t bytes, struct symbolize_module **modules);

/** Writes the report with names; how many frames got none. */
size_t symbolize_write(const char *report, size_t bytes,
    struct symbolize_module **modules, FILE *out);

#endif /* WEIR_TOOL_SYMBOLIZE_H */
