/* SPDX-License-Identifier: MIT */
/*
 * test_cli.c - the option parser of the command-line tool.
 */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../tools/weir/cli.c"
#include "../../tools/weir/cli_help.c"
#include "../../tools/weir/cli_nearest.c"
#include "../../tools/weir/cli_value.c"

static const char *const colours[] = {"red", "green", "blue", NULL};

static struct {
	uint64_t count;
	uint64_t size;
	uint64_t time;
	uint64_t set;
	const char *name;
	int colour;
	bool quick;
	bool check;
	bool given;
} set;

static const struct cli_option options[] = {
    {.name = "connections",
	.letter = 'c',
	.kind = CLI_U64,
	.target = &set.count,
	.min = 1,
	.max = 100000,
	.given = &set.given,
	.help = "how many"},
    {.name = "size",
	.letter = 's',
	.kind = CLI_BYTES,
	.target = &set.size,
	.max = 1 << 20,
	.help = "how large"},
    {.name = "seconds",
	.kind = CLI_TIME,
	.target = &set.time,
	.help = "how long"},
    {.name = "name",
	.letter = 'n',
	.kind = CLI_STRING,
	.target = &set.name,
	.help = "a name"},
    {.name = "colour",
	.kind = CLI_ENUM,
	.target = &set.colour,
	.choices = colours,
	.help = "which"},
    {.name = "colours",
	.kind = CLI_SET,
	.target = &set.set,
	.choices = colours,
	.help = "which ones"},
    {.name = "quick",
	.letter = 'q',
	.kind = CLI_FLAG,
	.target = &set.quick,
	.help = "faster"},
    {.name = "check",
	.letter = 'k',
	.kind = CLI_FLAG,
	.target = &set.check,
	.help = "do not check"},
};

static const struct cli_command command = {
    .name = "test",
    .summary = "Try the parser.",
    .options = options,
    .option_count = sizeof(options) / sizeof(options[0]),
};

static char *out_text;
static char *err_text;

/* Parses a line of words; leaves what was printed in out_text, err_text. */
static int
parse(const char *line)
{
	static char words[256];
	char *argv[32] = {words};
	size_t out_bytes;
	size_t err_bytes;
	int argc = 1;
	FILE *out;
	FILE *err;

	free(out_text);
	free(err_text);
	out = open_memstream(&out_text, &out_bytes);
	err = open_memstream(&err_text, &err_bytes);
	CHECK(out != NULL && err != NULL);
	memset(&set, 0, sizeof(set));
	set.count = 10;
	set.size = 2048;
	set.time = 1500000000;
	set.check = true;
	snprintf(words, sizeof(words), "%s", line);
	for (char *word = strtok(words, " "); word != NULL && argc < 31;
	     word = strtok(NULL, " "))
		argv[argc++] = word;
	argv[argc] = NULL;
	int status = cli_parse_to(&command, argc, argv, out, err);
	fclose(out);
	fclose(err);
	return status;
}

static void
check_fault(const char *line, const char *message)
{
	CHECK_EQ(parse(line), CLI_USAGE);
	CHECK_CONTAINS(err_text, message);
	CHECK_CONTAINS(err_text, "Run 'weir test --help'");
	CHECK_STR(out_text, "");
}

TEST(cli_reads_every_form_of_a_value)
{
	static const char *const lines[] = {"--connections 77",
	    "--connections=77", "-c 77", "-c77", "-qc77", "-qc 77",
	    "--connections 5 --connections 77"};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		CHECK_EQ(parse(lines[i]), CLI_GO_ON);
		CHECK_EQ(set.count, 77);
		CHECK(set.given);
		CHECK_STR(err_text, "");
	}
	CHECK_EQ(parse("--name=a=b -q --no-check"), CLI_GO_ON);
	CHECK_STR(set.name, "a=b");
	CHECK(set.quick && !set.check && !set.given);
	CHECK_EQ(parse("--quick --no-quick --"), CLI_GO_ON);
	CHECK(!set.quick);
	CHECK_EQ(parse(""), CLI_GO_ON);
	CHECK_EQ(set.count, 10);
}

TEST(cli_value_suffixes_scale)
{
	static const struct {
		const char *line;
		uint64_t *target;
		uint64_t value;
	} rows[] = {
	    {"-c 10k", &set.count, 10000},
	    {"-c 1.5k", &set.count, 1500},
	    {"-s 64k", &set.size, 65536},
	    {"-s 0.5M", &set.size, 524288},
	    {"-s 1MiB", &set.size, 1048576},
	    {"-s 12B", &set.size, 12},
	    {"-s 0", &set.size, 0},
	    {"--seconds 0.6", &set.time, 600000000},
	    {"--seconds 20ms", &set.time, 20000000},
	    {"--seconds 3us", &set.time, 3000},
	    {"--seconds 7ns", &set.time, 7},
	    {"--seconds 2m", &set.time, 120000000000},
	    {"--seconds 5s", &set.time, 5000000000},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CHECK_EQ(parse(rows[i].line), CLI_GO_ON);
		CHECK_EQ(*rows[i].target, rows[i].value);
	}
}

TEST(cli_refuses_values_that_make_no_sense)
{
	static const char *const lines[] = {"-c x", "-c -5", "-c +5", "-c 1.5",
	    "-c 5kk", "-c 0x10", "-c 5.", "-c .5", "-c 1e3", "-s 1.0.0",
	    "--seconds 5x", "--seconds 0.5ns", "--seconds=", "-s k"};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		check_fault(lines[i], ": expected a ");
	check_fault("-c 0", "expected 1 to 100000");
	check_fault("-c 100001", "expected 1 to 100000");
	check_fault("-s 2M", "expected 0 to 1M");
	/* Overflow is out of range and never a small number. */
	check_fault("-c 18446744073709551616", "expected 1 to 100000");
	check_fault("-c 18446744073709551G", "expected 1 to 100000");
	check_fault("--seconds 99999999999999999999", "expected at least 0s");
	check_fault("--name=", "it is empty");
}

TEST(cli_names_the_nearest_option)
{
	check_fault("--conections 5", "did you mean '--connections'?");
	check_fault("--connectoins 5", "did you mean '--connections'?");
	check_fault("--conn=5", "did you mean '--connections'?");
	check_fault("--sise 5", "did you mean '--size'?");
	check_fault("--hlep", "did you mean '--help'?");
	check_fault("--colour gren", "did you mean 'green'?");
	check_fault("--colours red,bleu", "did you mean 'blue'?");
	check_fault("--colour octarine", "expected one of red, green, blue");
	check_fault("--xyzzy", "unknown option '--xyzzy'\n");
	check_fault("-x", "unknown option '-x'");
}

TEST(cli_refuses_what_is_not_an_option)
{
	check_fault("word", "unexpected argument 'word'");
	check_fault("-- word", "unexpected argument 'word'");
	check_fault("-", "unexpected argument '-'");
	check_fault("--connections", "--connections needs a value");
	check_fault("-c", "--connections needs a value");
	check_fault("--quick=1", "--quick takes no value");
	check_fault("--no-size", "--size takes a value and cannot be negated");
}

TEST(cli_enums_and_sets_give_indexes_and_bits)
{
	CHECK_EQ(parse("--colour blue --colours blue,red"), CLI_GO_ON);
	CHECK_EQ(set.colour, 2);
	CHECK_EQ(set.set, 5);
	check_fault("--colours red,,blue", "'red,,blue' is no value");
}

TEST(cli_help_shows_defaults_and_fits_the_terminal)
{
	CHECK_EQ(parse("--connections 99 --help --nonsense"), CLI_OK);
	CHECK_STR(err_text, "");
	CHECK_CONTAINS(out_text, "-c, --connections N  how many (10)\n");
	CHECK_CONTAINS(out_text, "--size BYTES     how large (2k)\n");
	CHECK_CONTAINS(out_text, "how long (1500ms)\n");
	CHECK_CONTAINS(out_text, "which: red | green | blue (red)\n");
	CHECK_CONTAINS(out_text, "--no-check");
	CHECK_CONTAINS(out_text, "-h, --help");
	for (const char *line = out_text; *line != '\0';) {
		size_t length = strcspn(line, "\n");
		CHECK_LT(length, 80);
		line += length + (line[length] == '\n');
	}
}

TEST(cli_nearest_prefers_the_smallest_distance)
{
	static const char *const words[] = {
	    "serve", "server", "load", "demo", NULL};

	CHECK_STR(cli_nearest("serve", words), "serve");
	CHECK_STR(cli_nearest("servr", words), "serve");
	CHECK_STR(cli_nearest("severr", words), "server");
	CHECK_STR(cli_nearest("laod", words), "load");
	CHECK_STR(cli_nearest("dem", words), "demo");
	CHECK_NULL(cli_nearest("", words));
	CHECK_NULL(cli_nearest("quit", words));
}

TEST(cli_nearest_completes_before_it_corrects)
{
	static const char *const words[] = {
	    "port", "protocol", "connections", "connections-max", NULL};

	CHECK_STR(cli_nearest("prot", words), "protocol");
	CHECK_STR(cli_nearest("potr", words), "port");
	CHECK_STR(cli_nearest("connections-", words), "connections-max");
	/* Two words begin so: the nearer one. */
	CHECK_STR(cli_nearest("connection", words), "connections");
}

/* The distance by its definition, without the three rolling rows. */
static unsigned
distance_slow(const char *a, size_t a_length, const char *b, size_t b_length)
{
	unsigned best;
	unsigned other;

	if (a_length == 0 || b_length == 0)
		return (unsigned)(a_length + b_length);
	best = distance_slow(a, a_length - 1, b, b_length) + 1;
	other = distance_slow(a, a_length, b, b_length - 1) + 1;
	best = other < best ? other : best;
	other = distance_slow(a, a_length - 1, b, b_length - 1) +
		(a[a_length - 1] != b[b_length - 1]);
	best = other < best ? other : best;
	if (a_length > 1 && b_length > 1 &&
	    a[a_length - 1] == b[b_length - 2] &&
	    a[a_length - 2] == b[b_length - 1]) {
		other = distance_slow(a, a_length - 2, b, b_length - 2) + 1;
		best = other < best ? other : best;
	}
	return best;
}

TEST(cli_distance_agrees_with_its_definition)
{
	struct test_rng rng;
	char words[2][8];

	test_rng_init(&rng, test_seed());
	for (size_t round = 0; round < test_count(2000); round++) {
		size_t length[2];

		for (int w = 0; w < 2; w++) {
			length[w] = (size_t)test_rand_below(&rng, 7);
			for (size_t i = 0; i < length[w]; i++)
				words[w][i] =
				    (char)('a' + test_rand_below(&rng, 3));
		}
		CHECK_EQ(
		    nearest_distance(words[0], length[0], words[1], length[1]),
		    distance_slow(words[0], length[0], words[1], length[1]));
	}
}
