/* SPDX-License-Identifier: MIT */
/*
 * words.c - a vector, and text written piece by piece, in one region.
 *
 *     script/build && build/release/examples/words
 *     build/release/examples/words 'to be or not to be'
 *
 * Or by hand, with the library installed:
 *
 *     cc examples/words.c $(pkg-config --cflags --libs weir) -o words
 *
 * The words of a text, each once, with how often it came.  Neither their number
 * nor the length of the answer is known beforehand: both grow in place while
 * nothing else is taken, and leave no array behind that is not used again.
 */
#include <weir/region.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct weir_region_kind words_kind = WEIR_REGION_KIND("words");

struct word {
	const char *text;
	unsigned count;
};

/* The word's entry, a new one if need be; NULL without memory. */
static struct word *
word_of(struct weir_region_vec *words, const char *text, size_t length)
{
	struct word *word = words->data;

	for (size_t i = 0; i < words->count; i++, word++)
		if (strncmp(word->text, text, length) == 0 &&
		    word->text[length] == '\0')
			return word;
	word = weir_region_vec_push(words);
	if (word == NULL)
		return NULL;
	word->count = 0;
	word->text = weir_region_strndup(words->region, text, length);
	return word->text != NULL ? word : NULL;
}

static const char *
count_words(struct weir_region *region, const char *text)
{
	struct weir_region_vec words = WEIR_REGION_VEC(region, struct word);
	struct weir_region_writer out = WEIR_REGION_WRITER(region);

	while (*(text += strspn(text, " \t\n")) != '\0') {
		size_t length = strcspn(text, " \t\n");
		struct word *word = word_of(&words, text, length);

		if (word == NULL)
			return NULL;
		word->count++;
		text += length;
	}
	for (size_t i = 0; i < words.count; i++) {
		const struct word *word = (struct word *)words.data + i;

		weir_region_writer_printf(
		    &out, "%3u %s\n", word->count, word->text);
	}
	/* One test for all of the above: a writer that failed stays so. */
	return weir_region_writer_finish(&out, NULL);
}

int
main(int argc, char **argv)
{
	struct weir_region *region;
	const char *answer;
	char shown[512];

	if (weir_region_create(&words_kind, NULL, &region) != 0)
		return EXIT_FAILURE;
	answer = count_words(
	    region, argc > 1 ? argv[1] : "a rose is a rose is a rose");
	if (answer != NULL)
		fputs(answer, stdout);

	/* Any thread may ask, at any time, which regions there are. */
	weir_region_text(NULL, shown, sizeof(shown));
	fputs(shown, stdout);
	weir_region_destroy(region);
	return answer != NULL ? EXIT_SUCCESS : EXIT_FAILURE;
}
