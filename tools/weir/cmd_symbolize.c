/* SPDX-License-Identifier: MIT */
/*
 * cmd_symbolize.c - `weir symbolize`: a report of a fault, with names.
 *
 *     build/release/examples/bugs/use_after_free 2>&1 | weir symbolize
 *     weir symbolize server.log
 *     weir symbolize --debug-directory ~/symbols report.json
 */
#include "cmd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "symbolize.h"

#define SYMBOLIZE_BYTES_MAX ((size_t)256 << 20)

static const char symbolize_details[] =
    "Reads what weir wrote to standard error when a program misused a pool, as "
    "text, as a line of JSON, or a whole log with both, from the file that is "
    "named or from standard input, and writes it with the function, file and "
    "line of each frame. All other lines are copied.\n\n"
    "The names come from addr2line (binutils) or llvm-symbolizer, which is run "
    "for each program and library that the report has frames in. Where the "
    "report has a build id, a file of another build is not asked; separate "
    "debug information is found by the id. A frame without an answer keeps its "
    "file and offset, and what is missing is told at the end.\n\n"
    "Exit status: 0 the report was written, 1 it could not be read or no frame "
    "of it got a name, 2 wrong usage.";

/* All of a stream, with a NUL behind; NULL and a message: it cannot be had. */
static char *
read_whole(const char *path, size_t *bytes)
{
	FILE *in = path != NULL ? fopen(path, "r") : stdin;
	size_t room = 1 << 16, got;
	char *text = NULL, *more;

	*bytes = 0;
	if (in == NULL) {
		fprintf(stderr, "weir: %s: %s\n", path, strerror(errno));
		return NULL;
	}
	while ((more = realloc(text, room + 1)) != NULL) {
		text = more;
		got = fread(text + *bytes, 1, room - *bytes, in);
		*bytes += got;
		if (got == 0 || room >= SYMBOLIZE_BYTES_MAX)
			break;
		if (*bytes == room)
			room *= 2;
	}
	if (more == NULL || ferror(in)) {
		fprintf(stderr, "weir: %s: %s\n",
		    path != NULL ? path : "standard input", strerror(errno));
		free(text);
		text = NULL;
	} else {
		text[*bytes] = '\0';
	}
	if (path != NULL)
		(void)fclose(in);
	return text;
}

/* Once for each module; how many frames there are in all. */
static size_t
tell_missing(const struct symbolize_module *modules)
{
	size_t frames = 0;

	for (; modules != NULL; modules = modules->next) {
		frames += modules->count;
		if (modules->why != NULL)
			fprintf(stderr, "weir: no names for %s: %s\n",
			    modules->path, modules->why);
	}
	return frames;
}

static int
symbolize(const char *path, const struct symbolize_tools *tools)
{
	struct symbolize_module *modules = NULL;
	size_t bytes, frames, nameless;
	char *report = read_whole(path, &bytes);

	if (report == NULL)
		return CLI_FAILED;
	if (symbolize_collect(report, bytes, &modules) != 0) {
		fprintf(stderr, "weir: no memory for so many frames\n");
		symbolize_free(modules);
		free(report);
		return CLI_FAILED;
	}
	for (struct symbolize_module *m = modules; m != NULL; m = m->next)
		symbolize_ask(m, tools);
	nameless = symbolize_write(report, bytes, &modules, stdout);
	(void)fflush(stdout);
	frames = tell_missing(modules);
	if (frames == 0)
		fprintf(stderr,
		    "weir: there is no frame in it that names its file\n");
	symbolize_free(modules);
	free(report);
	return frames == 0 || nameless >= frames ? CLI_FAILED : CLI_OK;
}

/* Options are "--name value", "--name=value" or "-nvalue"; what is last and none
 * of it is the file. */
static bool
takes_next(const char *word)
{
	if (word[0] != '-' || strchr(word, '=') != NULL)
		return false;
	return word[1] == '-' || word[2] == '\0';
}

int
weir_cmd_symbolize(int argc, char **argv)
{
	struct symbolize_tools tools = {NULL, NULL};
	const struct cli_option options[] = {
	    {.name = "program",
		.letter = 'p',
		.kind = CLI_STRING,
		.target = &tools.program,
		.value_name = "PROGRAM",
		.help = "addr2line or llvm-symbolizer, by name or path; what "
			"is there unless given"},
	    {.name = "debug-directory",
		.letter = 'd',
		.kind = CLI_STRING,
		.target = &tools.directory,
		.value_name = "DIR",
		.help = "holds .build-id/; /usr/lib/debug unless given"},
	};
	const struct cli_command command = {
	    .name = "symbolize",
	    .summary = "[options] [FILE]: names for the addresses in a report",
	    .options = options,
	    .option_count = sizeof(options) / sizeof(options[0]),
	    .details = symbolize_details,
	};
	const char *path = NULL;
	int status;

	if (argc >= 2 && argv[argc - 1][0] != '-' &&
	    !takes_next(argc > 2 ? argv[argc - 2] : ""))
		path = argv[--argc];
	status = cli_parse(&command, argc, argv);
	if (status != CLI_GO_ON)
		return status;
	return symbolize(path, &tools);
}
