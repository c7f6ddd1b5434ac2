/* SPDX-License-Identifier: MIT */
/*
 * debug_option.c - the debug menu as text.
 *
 *     item[,item ...]      item = word[:value][@pool]
 *
 * An item holds for all pools, or for one, or for those whose names begin as it
 * says before a star.  It may be there more than once, for several of them; the
 * values of fail, fail-nth and seed are the process's, so there is one of each.
 *
 * Who writes it is in the middle of a search, and a word that is silently
 * dropped costs hours.  So a text with one item that cannot be read is refused
 * as a whole, and the answer says which, what is nearest, and all there is.
 */
#include "base/bits.h"
#include "config/resolve.h"

#include <string.h>

/* Words and values are shorter; a longer one is none, and is shown cut. */
#define DEBUG_WORD_BYTES 24
#define DEBUG_DIGITS 18
#define DEBUG_PPM 1000000u
#define DEBUG_PPM_DIGITS 4 /* behind the point of a percentage */

struct debug_item {
	const char *word;
	const char *form; /* of its value; NULL: it takes none */
	unsigned bit;
};

static const struct debug_item debug_menu[] = {
#define X(symbol, word, form) {word, form, WEIRI_DEBUG_##symbol},
    WEIRI_DEBUG_ITEMS(X)
#undef X
};

/* A stretch of the text. */
struct debug_span {
	const char *at;
	size_t length;
};

struct debug_parse {
	struct weiri_debug_option *out;
	struct weiri_text *why;
	struct debug_span word, value, pool;
	bool has_value, has_pool;
};

/* ---- what is wrong ----------------------------------------------------- */

static void
debug_text_span(struct weiri_text *text, struct debug_span span)
{
	weiri_text_char(text, '"');
	for (size_t i = 0; i < span.length && i < DEBUG_WORD_BYTES; i++) {
		char shown = '?';

		if (span.at[i] >= ' ' && span.at[i] <= '~')
			shown = span.at[i];
		weiri_text_char(text, shown);
	}
	weiri_text_str(text, span.length > DEBUG_WORD_BYTES ? "...\"" : "\"");
}

static bool
debug_refuse(struct debug_parse *parse, const char *says)
{
	debug_text_span(parse->why, parse->word);
	weiri_text_char(parse->why, ' ');
	weiri_text_str(parse->why, says);
	return false;
}

/* Letters to put in, leave out or change to make one word of the other. */
static size_t
debug_distance(struct debug_span a, const char *b)
{
	size_t row[DEBUG_WORD_BYTES + 1];
	size_t columns = strlen(b);

	for (size_t j = 0; j <= columns; j++)
		row[j] = j;
	for (size_t i = 1; i <= a.length; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= columns; j++) {
			size_t change = diagonal + (a.at[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = weiri_min(
			    change, weiri_min(row[j], row[j - 1]) + 1);
		}
	}
	return row[columns];
}

static const struct debug_item *
debug_nearest(struct debug_span word)
{
	const struct debug_item *nearest = &debug_menu[0];
	size_t least = SIZE_MAX;

	word.length = weiri_min(word.length, DEBUG_WORD_BYTES);
	for (size_t i = 0; i < WEIRI_COUNT_OF(debug_menu); i++) {
		size_t distance = debug_distance(word, debug_menu[i].word);

		if (distance < least) {
			least = distance;
			nearest = &debug_menu[i];
		}
	}
	return nearest;
}

static bool
debug_refuse_word(struct debug_parse *parse)
{
	struct weiri_text *why = parse->why;

	debug_text_span(why, parse->word);
	weiri_text_str(why, " is not on the menu, the nearest is \"");
	weiri_text_str(why, debug_nearest(parse->word)->word);
	weiri_text_str(why, "\"; the menu: ");
	for (size_t i = 0; i < WEIRI_COUNT_OF(debug_menu); i++) {
		weiri_text_str(why, i > 0 ? ", " : "");
		weiri_text_str(why, debug_menu[i].word);
		if (debug_menu[i].form != NULL) {
			weiri_text_char(why, ':');
			weiri_text_str(why, debug_menu[i].form);
		}
	}
	weiri_text_str(why, "; and @pool behind an item for some pools");
	return false;
}

/* ---- values ------------------------------------------------------------ */

/* Digits at the span's beginning, which they leave; false: none, or too many. */
static bool
debug_take_number(struct debug_span *span, uint64_t *number)
{
	size_t digits = 0;

	*number = 0;
	for (; digits < span->length && span->at[digits] >= '0' &&
	       span->at[digits] <= '9';
	     digits++) {
		if (digits == DEBUG_DIGITS)
			return false;
		*number = *number * 10 + (uint64_t)(span->at[digits] - '0');
	}
	span->at += digits;
	span->length -= digits;
	return digits > 0;
}

static bool
debug_take_percent(struct debug_span span, uint32_t *ppm)
{
	uint64_t whole, part = 0;

	if (!debug_take_number(&span, &whole) || whole > 100)
		return false;
	if (span.length > 0 && span.at[0] == '.') {
		struct debug_span digits = {span.at + 1, span.length - 1};
		size_t before = digits.length;

		if (!debug_take_number(&digits, &part) ||
		    before - digits.length > DEBUG_PPM_DIGITS)
			return false;
		for (size_t i = before - digits.length; i < DEBUG_PPM_DIGITS;
		     i++)
			part *= 10;
		span = digits;
	}
	whole = whole * (DEBUG_PPM / 100) + part;
	*ppm = (uint32_t)whole;
	return span.length == 1 && span.at[0] == '%' && whole > 0 &&
	       whole <= DEBUG_PPM;
}

static bool
debug_take_nth(struct debug_span span, struct weiri_debug_option *out)
{
	if (!debug_take_number(&span, &out->fail_nth) || out->fail_nth == 0)
		return false;
	out->fail_on = span.length == 1 && span.at[0] == '+';
	return span.length == 0 || out->fail_on;
}

static bool
debug_take_seed(struct debug_span span, struct weiri_debug_option *out)
{
	out->has_seed = true;
	return debug_take_number(&span, &out->seed) && span.length == 0;
}

/* ---- items -------------------------------------------------------------- */

/* What there is one of for the process. */
static bool
debug_once(struct debug_parse *parse, unsigned bit, bool *good)
{
	struct weiri_debug_option *out = parse->out;
	struct weiri_debug_option before = *out;

	switch (bit) {
	case WEIRI_DEBUG_FAIL:
		*good = debug_take_percent(parse->value, &out->fail_ppm);
		return before.fail_ppm == 0 || before.fail_ppm == out->fail_ppm;
	case WEIRI_DEBUG_FAIL_NTH:
		*good = debug_take_nth(parse->value, out);
		return before.fail_nth == 0 ||
		       (before.fail_nth == out->fail_nth &&
			   before.fail_on == out->fail_on);
	case WEIRI_DEBUG_SEED:
		*good = debug_take_seed(parse->value, out);
		return !before.has_seed || before.seed == out->seed;
	default:
		*good = true;
		return true;
	}
}

static bool
debug_add(struct debug_parse *parse, unsigned bit)
{
	struct weiri_debug_option *out = parse->out;
	struct weiri_debug_entry *entry = &out->entry[out->count];

	if (out->count == WEIRI_DEBUG_ENTRIES)
		return debug_refuse(parse, "is one item too many");
	if (parse->has_pool && parse->pool.length == 0)
		return debug_refuse(parse, "has no pool behind its @");
	if (parse->pool.length >= sizeof(entry->pool))
		return debug_refuse(parse, "is for a pool of too long a name");
	entry->bit = bit;
	memcpy(entry->pool, parse->pool.at, parse->pool.length);
	entry->pool[parse->pool.length] = '\0';
	out->count++;
	return true;
}

static bool
debug_take_item(struct debug_parse *parse)
{
	const struct debug_item *item = NULL;
	bool good = true;

	for (size_t i = 0; i < WEIRI_COUNT_OF(debug_menu); i++)
		if (strlen(debug_menu[i].word) == parse->word.length &&
		    memcmp(debug_menu[i].word, parse->word.at,
			parse->word.length) == 0)
			item = &debug_menu[i];
	if (item == NULL)
		return debug_refuse_word(parse);
	if (item->form == NULL && parse->has_value)
		return debug_refuse(parse, "takes no value");
	if (!debug_once(parse, item->bit, &good))
		return debug_refuse(parse, "is there twice, and not the same");
	if (!good && item->bit == WEIRI_DEBUG_FAIL)
		return debug_refuse(
		    parse, "expects a share of 0.0001% to 100%, as in fail:1%");
	if (!good && item->bit == WEIRI_DEBUG_FAIL_NTH)
		return debug_refuse(parse,
		    "expects a number from 1, as in fail-nth:7, or fail-nth:7+ "
		    "for all from there on");
	if (!good)
		return debug_refuse(
		    parse, "expects a number of 18 digits at most");
	if (item->bit != WEIRI_DEBUG_SEED)
		return debug_add(parse, item->bit);
	return !parse->has_pool || debug_refuse(parse, "is for all pools");
}

/* Cuts @item into word, value and pool. */
static void
debug_cut(struct debug_parse *parse, struct debug_span item)
{
	const char *at = memchr(item.at, '@', item.length);
	size_t length = at != NULL ? (size_t)(at - item.at) : item.length;
	const char *colon = memchr(item.at, ':', length);

	parse->has_pool = at != NULL;
	parse->has_value = colon != NULL;
	parse->pool = parse->value = (struct debug_span){item.at, 0};
	if (at != NULL)
		parse->pool =
		    (struct debug_span){at + 1, item.length - length - 1};
	parse->word = (struct debug_span){item.at, length};
	if (colon == NULL)
		return;
	parse->word.length = (size_t)(colon - item.at);
	parse->value =
	    (struct debug_span){colon + 1, length - parse->word.length - 1};
}

bool
weiri_debug_parse(
    const char *text, struct weiri_debug_option *out, struct weiri_text *why)
{
	struct weiri_debug_option option = {0};
	struct debug_parse parse = {.out = &option, .why = why};

	if (strcmp(text, "off") == 0)
		text = "";
	while (*text != '\0') {
		size_t length = strcspn(text, ",");

		debug_cut(&parse, (struct debug_span){text, length});
		if (!debug_take_item(&parse))
			return false;
		text += length;
		/* A comma at the very end is none that was forgotten. */
		text += *text == ',';
	}
	*out = option;
	return true;
}

/* ---- as text ------------------------------------------------------------ */

static void
debug_text_value(struct weiri_text *text,
    const struct weiri_debug_option *option, unsigned bit)
{
	unsigned decimals = DEBUG_PPM_DIGITS;
	uint64_t ppm = option->fail_ppm;

	if (bit == WEIRI_DEBUG_FAIL_NTH) {
		weiri_text_char(text, ':');
		weiri_text_u64(text, option->fail_nth);
		weiri_text_str(text, option->fail_on ? "+" : "");
	}
	if (bit != WEIRI_DEBUG_FAIL)
		return;
	for (; decimals > 0 && ppm % 10 == 0; decimals--)
		ppm /= 10;
	weiri_text_char(text, ':');
	weiri_text_fixed(text, ppm, decimals);
	weiri_text_char(text, '%');
}

void
weiri_debug_describe(
    struct weiri_text *text, const struct weiri_debug_option *option)
{
	if (option->count == 0)
		weiri_text_str(text, "off");
	for (unsigned i = 0; i < option->count; i++) {
		const struct weiri_debug_entry *entry = &option->entry[i];

		weiri_text_str(text, i > 0 ? "," : "");
		for (size_t j = 0; j < WEIRI_COUNT_OF(debug_menu); j++)
			if (debug_menu[j].bit == entry->bit)
				weiri_text_str(text, debug_menu[j].word);
		debug_text_value(text, option, entry->bit);
		if (entry->pool[0] != '\0') {
			weiri_text_char(text, '@');
			weiri_text_str(text, entry->pool);
		}
	}
	if (option->count > 0 && option->has_seed) {
		weiri_text_str(text, ",seed:");
		weiri_text_u64(text, option->seed);
	}
}
