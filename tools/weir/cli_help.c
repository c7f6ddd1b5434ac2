/* SPDX-License-Identifier: MIT */
/*
 * cli_help.c - the help page of a subcommand, from its option table.
 *
 *     usage: weir load [options]
 *     drive a server, verify every byte, measure latency
 *
 *       -p, --port N          TCP port of the server (7700)
 *           --protocol WORD   packet or raw: ... (packet)
 *
 * The default of an option is what its target holds, in brackets at the end;
 * nothing is shown for a string without one, for a flag that is off and for an
 * option marked no_default.
 */
#include "cli.h"

#include <string.h>

#define HELP_COLUMNS 79
#define HELP_LEFT_MAX 26 /* wider names push their text to the next line */

void
cli_wrap(FILE *out, const char *text, int column, int indent)
{
	bool first = true;

	while (*text != '\0') {
		size_t length = strcspn(text, " \n");

		if (!first && column + 1 + (int)length > HELP_COLUMNS) {
			fprintf(out, "\n%*s", indent, "");
			column = indent;
			first = true;
		}
		column +=
		    fprintf(out, "%s%.*s", first ? "" : " ", (int)length, text);
		first = false;
		text += length;
		if (*text == '\n') {
			fprintf(out, "\n%*s", text[1] == '\0' ? 0 : indent, "");
			column = indent;
			first = true;
		}
		if (*text != '\0')
			text++;
	}
	fputc('\n', out);
}

/* "  -p, --port N"; returns the width. */
static int
help_left(const struct cli_option *option, char *buffer, size_t bytes)
{
	const char *value = cli_value_name(option);
	const bool *flag = option->target;
	/* What can be asked for is the opposite of a default that is on. */
	const char *no = option->kind == CLI_FLAG && *flag ? "no-" : "";
	char letter[8] = "    ";

	if (option->letter != '\0')
		snprintf(letter, sizeof(letter), "-%c, ", option->letter);
	return snprintf(buffer, bytes, "  %s--%s%s%s%s", letter, no,
	    option->name, *value == '\0' ? "" : " ", value);
}

static void
help_choices(const struct cli_option *option, char *buffer, size_t bytes)
{
	size_t used = 0;

	for (int i = 0; option->choices[i] != NULL && used < bytes; i++)
		used += (size_t)snprintf(buffer + used, bytes - used, "%s%s",
		    i == 0 ? "" : " | ", option->choices[i]);
}

/* The help text with its choices and its default. */
static void
help_right(const struct cli_option *option, char *buffer, size_t bytes)
{
	char choices[128] = "";
	char value[128] = "";

	if (option->choices != NULL)
		help_choices(option, choices, sizeof(choices));
	if (option->kind != CLI_FLAG && !option->no_default)
		cli_value_text(option, value, sizeof(value));
	snprintf(buffer, bytes, "%s%s%s%s%s%s", option->help,
	    choices[0] != '\0' ? ": " : "", choices,
	    value[0] != '\0' ? " (" : "", value, value[0] != '\0' ? ")" : "");
}

void
cli_help(const struct cli_command *command, FILE *out)
{
	char left[64];
	char right[1024];
	int width = 0;

	fprintf(out, "usage: weir %s [options]\n\n", command->name);
	cli_wrap(out, command->summary, 0, 0);
	fputc('\n', out);
	for (size_t i = 0; i < command->option_count; i++) {
		int length =
		    help_left(&command->options[i], left, sizeof(left));
		if (length > width && length <= HELP_LEFT_MAX)
			width = length;
	}
	for (size_t i = 0; i < command->option_count; i++) {
		const struct cli_option *option = &command->options[i];
		int length = help_left(option, left, sizeof(left));

		help_right(option, right, sizeof(right));
		if (length > width)
			fprintf(out, "%s\n%*s", left, width + 2, "");
		else
			fprintf(out, "%-*s  ", width, left);
		cli_wrap(out, right, width + 2, width + 2);
	}
	fprintf(out, "%-*s  this page\n", width, "  -h, --help");
	if (command->details != NULL) {
		fputc('\n', out);
		cli_wrap(out, command->details, 0, 0);
	}
}
