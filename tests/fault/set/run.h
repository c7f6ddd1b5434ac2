/* SPDX-License-Identifier: MIT */
/*
 * run.h - how the runner of the set runs one of its programs.
 */
#ifndef WEIR_FAULT_RUN_H
#define WEIR_FAULT_RUN_H

#include "bug.h"

#include <sys/types.h>

#if defined(__SANITIZE_ADDRESS__)
#define ADDRESS_SANITIZED true
#elif defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ADDRESS_SANITIZED true
#elif __has_feature(thread_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef ADDRESS_SANITIZED
#define ADDRESS_SANITIZED false
#endif
#ifndef SANITIZED
#define SANITIZED ADDRESS_SANITIZED
#endif

#define RUN_LIMIT_S 60
#define RUN_LAUNCHER_MAX 12
#define OUTPUT_BYTES (256 << 10)

struct run_how {
	const char *environment; /* "NAME=value", or NULL */
	/* What stands before the program, up to a NULL; or NULL. */
	const char *const *launcher;
	/* Options of AddressSanitizer; NULL: no search for leaks of malloc(),
	 * which takes longer than the program. */
	const char *sanitizer;
};

struct outcome {
	enum bug_when when;
	bool reported;
	char class_text[64]; /* "" if the report is no fault */
	int status;          /* as from waitpid() */
	size_t bytes;
	char output[OUTPUT_BYTES + 1];
};

/* Of the program that ended last. */
extern struct outcome outcome;

/* By name. */
extern struct bug_program *programs;

struct child {
	pid_t pid; /* 0: none */
	int output;
};

struct child run_start(const struct bug_program *program,
    const struct run_how *how, bool bug, const char *self);

/* Waits for its end; what it said is in `outcome` then. */
void run_finish(struct child child);

/* Where a mark was set; NULL: it was not. */
const char *find_mark(const char *mark);

/* Is it among the names, which end with a NULL?  No names are all. */
bool is_wanted(const struct bug_program *program, char **names);

/* --cost; the exit status. */
int run_cost(void);

/* --tool; the exit status. */
int run_tool(const char *self, char **arguments);

#endif /* WEIR_FAULT_RUN_H */
