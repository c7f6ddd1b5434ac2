/* SPDX-License-Identifier: MIT */
/*
 * cmd.h - the subcommands of the command-line tool.
 *
 * One list feeds the prototypes, the dispatch table, the help page and the
 * guess after a misspelt name.  A subcommand named x is the function
 * weir_cmd_x(): it gets its own name as argv[0], parses the rest with cli.h
 * and returns the exit status of the process (enum cli_exit).
 */
#ifndef WEIR_TOOL_CMD_H
#define WEIR_TOOL_CMD_H

#define WEIR_COMMANDS(X)                                                 \
	X(demo, "compare pooled and malloc servers on real connections") \
	X(serve, "run the packet server on weir pools")                  \
	X(load, "drive a server, verify every byte, measure latency")    \
	X(bench, "measure pools and allocators side by side")            \
	X(symbolize, "put names to the addresses in a report of a fault")

#define WEIR_COMMAND_PROTOTYPE(name, summary) \
	int weir_cmd_##name(int argc, char **argv);
WEIR_COMMANDS(WEIR_COMMAND_PROTOTYPE)
#undef WEIR_COMMAND_PROTOTYPE

#endif /* WEIR_TOOL_CMD_H */
