/* SPDX-License-Identifier: MIT */
/*
 * load_output.h - what `weir load` was asked for and says.
 *
 *     cmd_load.c       options, and which mode is run
 *     load_output.c    echo and burst, for people and programs
 *     load_modes.c     the modes that do harm
 */
#ifndef WEIR_TOOL_LOAD_OUTPUT_H
#define WEIR_TOOL_LOAD_OUTPUT_H

#include <stdio.h>

#include "load.h"
#include "load_rude.h"

extern const char *const load_modes[];     /* by enum load_mode */
extern const char *const load_protocols[]; /* by enum load_protocol */

/* The command line; what the modes make of it is in their help. */
struct load_settings {
	const char *address;
	const char *json;
	uint64_t port;
	uint64_t connections;
	uint64_t active;
	uint64_t size;
	uint64_t duration_ns;
	uint64_t warmup_ns;
	uint64_t timeout_ns;
	uint64_t packets;
	uint64_t depth;
	uint64_t rate;
	uint64_t cpu;
	uint64_t bytes;
	uint64_t pause_ns;
	uint64_t seed;
	int mode;
	int protocol;
	bool verify;
	bool recover;
	bool allow_remote;
	bool seconds_given;
	bool warmup_given;
	bool active_given;
	bool cpu_given;
};

/* Bursts of one run; without any, it was no run of bursts. */
struct load_bursts {
	uint64_t count;
	struct hist times; /* from its first packet to its last answer, ns */
};

/**
 * load_output() - print or write a run of echo or burst.
 * @json: written to as well; stdout: instead of the text.  NULL: no JSON.
 *
 * Returns the exit status.
 */
int load_output(FILE *json, const struct load_settings *set,
    const struct load_config *config, const struct load_report *connect,
    const struct load_report *report, const struct load_bursts *bursts);

/** load_mode_run() - a mode that does harm, whole; the exit status. */
int load_mode_run(FILE *json, const struct load_settings *set,
    const struct rude_config *config);

#endif /* WEIR_TOOL_LOAD_OUTPUT_H */
