/* SPDX-License-Identifier: MIT */
/*
 * cli.h - options of a subcommand, as a table.
 *
 * A subcommand fills its settings with the defaults, describes them in an
 * array of struct cli_option that points at them, and calls cli_parse().  The
 * same table makes the help page (defaults are read from the targets), checks
 * ranges and, after a misspelt option or value, names the nearest one.
 *
 *	static const char *const backends[] = { "auto", "epoll", NULL };
 *	struct serve_settings set = { .port = 7700 };
 *	const struct cli_option options[] = {
 *		{ .name = "port", .letter = 'p', .kind = CLI_U64,
 *		    .target = &set.port, .max = 65535,
 *		    .help = "TCP port, 0 for any free one" },
 *		{ .name = "backend", .kind = CLI_ENUM, .target = &set.backend,
 *		    .choices = backends, .help = "event interface" },
 *	};
 *	const struct cli_command command = { .name = "serve",
 *		.summary = "run the packet server", .options = options,
 *		.option_count = sizeof(options) / sizeof(options[0]) };
 *	int status = cli_parse(&command, argc, argv);
 *	if (status != CLI_GO_ON)
 *		return status;
 *
 * On the command line a value follows as `--name value`, `--name=value`,
 * `-n value` or `-nvalue`; a flag is set by `--name` and cleared by
 * `--no-name`; the last mention wins; `--` is accepted at the end.  --help and
 * -h are answered by the parser.
 */
#ifndef WEIR_TOOL_CLI_H
#define WEIR_TOOL_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/** Exit statuses of every subcommand. */
enum cli_exit {
	CLI_GO_ON = -1, /* cli_parse(): run the command; never an exit status */
	CLI_OK = 0,
	CLI_FAILED = 1, /* the run had errors, or could not be made */
	CLI_USAGE = 2,  /* the command line makes no sense */
};

/** What a value looks like, and the type behind cli_option.target. */
enum cli_kind {
	CLI_FLAG,  /* bool */
	CLI_U64,   /* uint64_t; k, M, G are powers of 1000 */
	CLI_BYTES, /* uint64_t; k, M, G are powers of 1024, "iB" may follow */
	CLI_TIME,  /* uint64_t, ns; 1.5, 20ms, 3us, 5ns, 2m; plain is seconds */
	CLI_STRING, /* const char *, points into argv; NULL: not given */
	CLI_ENUM,   /* int, index into choices */
	CLI_SET,    /* uint64_t, bit per index into choices; a,b,c */
};

struct cli_option {
	const char *name; /* without the dashes */
	char letter;      /* one-letter form, or 0 */
	enum cli_kind kind;
	void *target;
	uint64_t min; /* CLI_U64, CLI_BYTES, CLI_TIME: inclusive */
	uint64_t max; /* 0: no upper limit */
	const char *const *choices; /* CLI_ENUM, CLI_SET: NULL-terminated */
	const char *value_name;     /* in the help; NULL: chosen by kind */
	const char *help;           /* wrapped by the help page */
	bool *given;     /* set true when the option is present; may be NULL */
	bool no_default; /* the help text tells what happens without it */
};

struct cli_command {
	const char *name; /* as typed after "weir" */
	const char *summary;
	const struct cli_option *options;
	size_t option_count;
	const char *details; /* free text under the options; may be NULL */
};

/**
 * cli_parse() - read a command line into the targets of its options.
 *
 * Prints help on stdout, and on a fault one message on stderr that says what
 * is wrong, why, and what to do.  Returns CLI_GO_ON, or the exit status:
 * CLI_OK after --help, CLI_USAGE after a fault.
 */
int cli_parse(const struct cli_command *command, int argc, char **argv);

/** cli_parse_to() - cli_parse() with the two streams named. */
int cli_parse_to(const struct cli_command *command, int argc, char **argv,
    FILE *out, FILE *err);

/** cli_help() - print the help page of a command. */
void cli_help(const struct cli_command *command, FILE *out);

/**
 * cli_usage() - report a fault that the table cannot express, such as two
 * options that exclude each other; returns CLI_USAGE.
 */
int cli_usage(const struct cli_command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/**
 * cli_nearest() - the entry of a NULL-terminated list closest to a word.
 *
 * Returns NULL when none is near enough to be what was meant.
 */
const char *cli_nearest(const char *word, const char *const *list);

/**
 * cli_value_parse() - read one value into its target.
 * @why: on failure receives what a valid value is, e.g. "expected 1 to 64".
 *
 * Returns 0, or -EINVAL (not of its kind) or -ERANGE (outside min..max).
 */
int cli_value_parse(const struct cli_option *option, const char *text,
    char *why, size_t why_bytes);

/** cli_value_text() - format the target of an option for the help page. */
void cli_value_text(
    const struct cli_option *option, char *buffer, size_t bytes);

/** cli_value_name() - the placeholder of an option's value, "" for a flag. */
const char *cli_value_name(const struct cli_option *option);

/** cli_wrap() - print a text at an indent, broken at spaces by column 79. */
void cli_wrap(FILE *out, const char *text, int column, int indent);

#endif /* WEIR_TOOL_CLI_H */
