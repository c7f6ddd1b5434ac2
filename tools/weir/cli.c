/* SPDX-License-Identifier: MIT */
/*
 * cli.c - reads a command line into the targets of an option table.
 *
 * getopt_long() is not used: it accepts unambiguous prefixes of an option,
 * which turns every later option into a possible change of an old script, it
 * reports faults in its own words, and it does not know the values.
 *
 * Every fault is one message of two lines on the error stream:
 *
 *     weir load: unknown option '--conections'; did you mean '--connections'?
 *     Run 'weir load --help' for the options.
 */
#include "cli.h"

#include <stdarg.h>
#include <string.h>

#define CLI_WHY_BYTES 256 /* the longest reason cli_value_parse() gives */
#define CLI_NAMES_MAX 96  /* options whose names are compared after a typo */

/* One pass over a command line. */
struct cli_scan {
	const struct cli_command *command;
	char **argv;
	int argc;
	int at; /* next argument to read */
	FILE *err;
};

__attribute__((format(printf, 3, 0))) static int
cli_fault_list(const struct cli_command *command, FILE *err, const char *format,
    va_list arguments)
{
	fprintf(err, "weir %s: ", command->name);
	vfprintf(err, format, arguments);
	fprintf(
	    err, "\nRun 'weir %s --help' for the options.\n", command->name);
	return CLI_USAGE;
}

__attribute__((format(printf, 2, 3))) static int
cli_fault(const struct cli_scan *scan, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	int status =
	    cli_fault_list(scan->command, scan->err, format, arguments);
	va_end(arguments);
	return status;
}

int
cli_usage(const struct cli_command *command, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	int status = cli_fault_list(command, stderr, format, arguments);
	va_end(arguments);
	return status;
}

static const struct cli_option *
cli_find(const struct cli_command *command, const char *name, size_t length)
{
	for (size_t i = 0; i < command->option_count; i++) {
		const struct cli_option *option = &command->options[i];
		if (strncmp(option->name, name, length) == 0 &&
		    option->name[length] == '\0')
			return option;
	}
	return NULL;
}

static const struct cli_option *
cli_find_letter(const struct cli_command *command, char letter)
{
	for (size_t i = 0; i < command->option_count; i++)
		if (letter != '\0' && command->options[i].letter == letter)
			return &command->options[i];
	return NULL;
}

static int
cli_unknown(const struct cli_scan *scan, const char *name, size_t length)
{
	const char *names[CLI_NAMES_MAX + 2];
	char word[64];
	size_t count = 0;

	for (size_t i = 0; i < scan->command->option_count; i++)
		if (count < CLI_NAMES_MAX)
			names[count++] = scan->command->options[i].name;
	names[count++] = "help";
	names[count] = NULL;

	snprintf(word, sizeof(word), "%.*s", (int)length, name);
	const char *near = cli_nearest(word, names);
	if (near == NULL)
		return cli_fault(scan, "unknown option '--%s'", word);
	return cli_fault(
	    scan, "unknown option '--%s'; did you mean '--%s'?", word, near);
}

static int
cli_store(const struct cli_scan *scan, const struct cli_option *option,
    const char *text)
{
	char why[CLI_WHY_BYTES];

	if (cli_value_parse(option, text, why, sizeof(why)) != 0)
		return cli_fault(scan, "'%s' is no value for --%s: %s", text,
		    option->name, why);
	if (option->given != NULL)
		*option->given = true;
	return CLI_GO_ON;
}

static int
cli_store_flag(const struct cli_option *option, bool value)
{
	bool *flag = option->target;

	*flag = value;
	if (option->given != NULL)
		*option->given = true;
	return CLI_GO_ON;
}

/* The value of an option that has none attached: the next argument. */
static int
cli_store_next(struct cli_scan *scan, const struct cli_option *option)
{
	if (scan->at >= scan->argc)
		return cli_fault(scan, "--%s needs a value: --%s %s",
		    option->name, option->name, cli_value_name(option));
	return cli_store(scan, option, scan->argv[scan->at++]);
}

static int
cli_long(struct cli_scan *scan, const char *name)
{
	const char *equals = strchr(name, '=');
	size_t length = equals != NULL ? (size_t)(equals - name) : strlen(name);
	const struct cli_option *option = cli_find(scan->command, name, length);
	bool clear = false;

	if (option == NULL && strncmp(name, "no-", 3) == 0 && length > 3) {
		option = cli_find(scan->command, name + 3, length - 3);
		clear = option != NULL;
		if (clear && option->kind != CLI_FLAG)
			return cli_fault(scan,
			    "--%s takes a value and cannot be negated",
			    option->name);
	}
	if (option == NULL)
		return cli_unknown(scan, name, length);
	if (option->kind == CLI_FLAG) {
		if (equals != NULL)
			return cli_fault(scan,
			    "--%s takes no value; write --%s or --no-%s",
			    option->name, option->name, option->name);
		return cli_store_flag(option, !clear);
	}
	if (equals != NULL)
		return cli_store(scan, option, equals + 1);
	return cli_store_next(scan, option);
}

/* "-xyz": flags may share a dash; a value ends the group. */
static int
cli_letters(struct cli_scan *scan, const char *letters)
{
	for (; *letters != '\0'; letters++) {
		const struct cli_option *option =
		    cli_find_letter(scan->command, *letters);
		int status;

		if (option == NULL)
			return cli_fault(
			    scan, "unknown option '-%c'", *letters);
		if (option->kind != CLI_FLAG && letters[1] != '\0')
			return cli_store(scan, option, letters + 1);
		if (option->kind != CLI_FLAG)
			return cli_store_next(scan, option);
		status = cli_store_flag(option, true);
		if (status != CLI_GO_ON)
			return status;
	}
	return CLI_GO_ON;
}

/* Help is looked for first, so that it shows the untouched defaults. */
static bool
cli_wants_help(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--help") == 0 ||
		    strcmp(argv[i], "-h") == 0)
			return true;
	return false;
}

int
cli_parse_to(const struct cli_command *command, int argc, char **argv,
    FILE *out, FILE *err)
{
	struct cli_scan scan = {
	    .command = command,
	    .argv = argv,
	    .argc = argc,
	    .at = 1,
	    .err = err,
	};

	if (cli_wants_help(argc, argv)) {
		cli_help(command, out);
		return CLI_OK;
	}
	while (scan.at < argc) {
		const char *argument = argv[scan.at++];
		int status;

		if (strcmp(argument, "--") == 0 && scan.at == argc)
			break;
		if (argument[0] != '-' || argument[1] == '\0' ||
		    strcmp(argument, "--") == 0)
			return cli_fault(&scan, "unexpected argument '%s'",
			    strcmp(argument, "--") == 0 ? argv[scan.at]
							: argument);
		if (argument[1] == '-')
			status = cli_long(&scan, argument + 2);
		else
			status = cli_letters(&scan, argument + 1);
		if (status != CLI_GO_ON)
			return status;
	}
	return CLI_GO_ON;
}

int
cli_parse(const struct cli_command *command, int argc, char **argv)
{
	return cli_parse_to(command, argc, argv, stdout, stderr);
}
