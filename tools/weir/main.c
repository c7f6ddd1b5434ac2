/* SPDX-License-Identifier: MIT */
/*
 * main.c - the command-line tool: finds the subcommand and runs it.
 */
#include "cli.h"
#include "cmd.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <weir/version.h>

struct main_command {
	const char *name;
	const char *summary;
	int (*run)(int argc, char **argv);
};

#define MAIN_ROW(name, summary) {#name, summary, weir_cmd_##name},
static const struct main_command main_commands[] = {WEIR_COMMANDS(MAIN_ROW)};
#undef MAIN_ROW

/* The same names as words for the guess after a misspelt one. */
#define MAIN_NAME(name, summary) #name,
static const char *const main_names[] = {WEIR_COMMANDS(MAIN_NAME) "help", NULL};
#undef MAIN_NAME

#define MAIN_COMMAND_COUNT (sizeof(main_commands) / sizeof(main_commands[0]))

static void
main_usage(FILE *out)
{
	fputs("usage: weir COMMAND [options]\n\n"
	      "weir " WEIR_VERSION_STRING
	      " - memory pools for high-performance servers\n\n",
	    out);
	for (size_t i = 0; i < MAIN_COMMAND_COUNT; i++)
		fprintf(out, "  %-9s  %s\n", main_commands[i].name,
		    main_commands[i].summary);
	fputs("\n  --help     this page; 'weir COMMAND --help' lists options\n"
	      "  --version  the version\n\n"
	      "Exit status: 0 all went well, 1 the run failed, 2 the command\n"
	      "line makes no sense.  NO_COLOR turns colours off.\n",
	    out);
}

static const struct main_command *
main_find(const char *name)
{
	for (size_t i = 0; i < MAIN_COMMAND_COUNT; i++)
		if (strcmp(main_commands[i].name, name) == 0)
			return &main_commands[i];
	return NULL;
}

static int
main_unknown(const char *name)
{
	static const char *const options[] = {"--help", "--version", NULL};
	bool option = name[0] == '-';
	const char *near = cli_nearest(name, option ? options : main_names);

	fprintf(stderr, "weir: unknown %s '%s'", option ? "option" : "command",
	    name);
	if (near != NULL)
		fprintf(stderr, "; did you mean '%s'?", near);
	fputs("\nRun 'weir --help' for the commands.\n", stderr);
	return CLI_USAGE;
}

/* "weir help load" is "weir load --help". */
static int
main_help(int argc, char **argv)
{
	static char help[] = "--help";
	const struct main_command *command;

	if (argc < 3) {
		main_usage(stdout);
		return CLI_OK;
	}
	command = main_find(argv[2]);
	if (command == NULL)
		return main_unknown(argv[2]);
	char *arguments[] = {argv[2], help, NULL};
	return command->run(2, arguments);
}

/* A full disk or a closed pipe must not look like success. */
static int
main_finish(int status)
{
	if ((fflush(stdout) != 0 || ferror(stdout)) && status == CLI_OK) {
		perror("weir: cannot write the output");
		return CLI_FAILED;
	}
	return status;
}

int
main(int argc, char **argv)
{
	const struct main_command *command;

	/* A peer that went away is an error code, never the end. */
	signal(SIGPIPE, SIG_IGN);
	if (argc < 2) {
		main_usage(stderr);
		return CLI_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0)
		return main_finish(main_help(argc, argv));
	if (strcmp(argv[1], "--version") == 0) {
		puts("weir " WEIR_VERSION_STRING);
		return main_finish(CLI_OK);
	}
	command = main_find(argv[1]);
	if (command == NULL)
		return main_unknown(argv[1]);
	return main_finish(command->run(argc - 1, argv + 1));
}
