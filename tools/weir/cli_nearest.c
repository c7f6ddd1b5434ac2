/* SPDX-License-Identifier: MIT */
/*
 * cli_nearest.c - which known word was meant by an unknown one.
 *
 * Damerau-Levenshtein distance in its restricted form: insertions, deletions,
 * substitutions and swaps of neighbours, each of cost 1.  Swaps count because
 * they are what fingers do ("--potr" for "--port").  A guess is offered up to
 * a distance of a third of the longer word.
 *
 * Before that, the only word that begins with all that was typed is the one
 * that was meant ("--prot" is "--protocol", though "--port" is one swap away);
 * of several such words each counts as near however long it is.
 */
#include "cli.h"

#include <string.h>

#define NEAREST_WORD_MAX 63  /* longer words are not compared: no typo */
#define NEAREST_PREFIX_MIN 3 /* fewer letters begin too many words */

static unsigned
nearest_min(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static unsigned
nearest_distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
	/* Three rows of the table: row[i - 2], row[i - 1] and row[i]. */
	unsigned rows[3][NEAREST_WORD_MAX + 1];

	for (size_t j = 0; j <= b_length; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= a_length; i++) {
		unsigned *row = rows[i % 3];
		const unsigned *above = rows[(i + 2) % 3];
		const unsigned *above2 = rows[(i + 1) % 3];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= b_length; j++) {
			unsigned cost = a[i - 1] != b[j - 1];

			row[j] = nearest_min(above[j], row[j - 1]) + 1;
			row[j] = nearest_min(row[j], above[j - 1] + cost);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
			    a[i - 2] == b[j - 1])
				row[j] = nearest_min(row[j], above2[j - 2] + 1);
		}
	}
	return rows[a_length % 3][b_length];
}

static bool
nearest_is_prefix(const char *word, size_t length, const char *of)
{
	return length >= NEAREST_PREFIX_MIN && strncmp(word, of, length) == 0;
}

/* The only word of the list that begins with this one, or NULL. */
static const char *
nearest_completion(const char *word, size_t length, const char *const *list)
{
	const char *found = NULL;

	for (; *list != NULL; list++) {
		if (!nearest_is_prefix(word, length, *list))
			continue;
		if (found != NULL)
			return NULL;
		found = *list;
	}
	return found;
}

const char *
cli_nearest(const char *word, const char *const *list)
{
	size_t length = strlen(word);
	const char *best = nearest_completion(word, length, list);
	unsigned best_distance = 0;

	if (best != NULL || length == 0 || length > NEAREST_WORD_MAX)
		return best;
	for (; *list != NULL; list++) {
		size_t list_length = strlen(*list);
		if (list_length > NEAREST_WORD_MAX)
			continue;
		size_t longer = length > list_length ? length : list_length;
		unsigned limit = longer < 4 ? 1 : (unsigned)(longer / 3);
		unsigned distance =
		    nearest_distance(word, length, *list, list_length);

		if (nearest_is_prefix(word, length, *list))
			distance = nearest_min(distance, limit);
		if (distance > limit)
			continue;
		if (best == NULL || distance < best_distance) {
			best = *list;
			best_distance = distance;
		}
	}
	return best;
}
