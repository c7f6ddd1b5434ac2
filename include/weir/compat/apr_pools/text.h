/* SPDX-License-Identifier: MIT */
/*
 * text.h - strings.
 *
 * Part of weir/compat/apr_pools.h, which includes it where its functions are
 * compiled.
 */
#ifndef WEIR_COMPAT_APR_POOLS_TEXT_H
#define WEIR_COMPAT_APR_POOLS_TEXT_H

#ifdef APR_POOLS_H

#define WEIR_APR_TEXT_BYTES 512

/* Text of any length in the making: first in @start, then in the pool. */
struct weir_apr_text {
	apr_vformatter_buff_t buffer; /* curpos, endpos: room for a NUL after */
	apr_pool_t *pool;
	char *text;
	size_t room;
	char start[WEIR_APR_TEXT_BYTES];
};

static int
weir_apr_text_grow(apr_vformatter_buff_t *buffer)
{
	struct weir_apr_text *text = (struct weir_apr_text *)(void *)buffer;
	size_t used = (size_t)(buffer->curpos - text->text);
	char *more = (char *)apr_palloc(text->pool, 2 * text->room);

	if (more == NULL)
		return -1;
	memcpy(more, text->text, used);
	text->text = more;
	text->room *= 2;
	buffer->curpos = more + used;
	buffer->endpos = more + text->room - 1;
	return 0;
}

char *
apr_pvsprintf(apr_pool_t *pool, const char *format, va_list arguments)
{
	struct weir_apr_text text;

	text.pool = pool;
	text.text = text.start;
	text.room = sizeof(text.start);
	text.buffer.curpos = text.start;
	text.buffer.endpos = text.start + text.room - 1;
	if (apr_vformatter(
		weir_apr_text_grow, &text.buffer, format, arguments) == -1)
		return NULL;
	*text.buffer.curpos = '\0';
	if (text.text != text.start)
		return text.text;
	size_t bytes = (size_t)(text.buffer.curpos - text.start) + 1;
	char *copy = (char *)apr_palloc(pool, bytes);
	return copy == NULL ? NULL : (char *)memcpy(copy, text.start, bytes);
}

#else /* !APR_POOLS_H */

static void *
weir_apr_checked(apr_pool_t *pool, void *object)
{
	if (object == NULL)
		weir_apr_refused(pool->abort_fn);
	return object;
}

char *
apr_pstrdup(apr_pool_t *pool, const char *string)
{
	if (string == NULL)
		return NULL;
	return (char *)weir_apr_checked(
	    pool, weir_region_strdup(pool->region, string));
}

char *
apr_pstrndup(apr_pool_t *pool, const char *string, apr_size_t bytes)
{
	if (string == NULL)
		return NULL;
	return (char *)weir_apr_checked(
	    pool, weir_region_strndup(pool->region, string, bytes));
}

void *
apr_pmemdup(apr_pool_t *pool, const void *data, apr_size_t bytes)
{
	if (data == NULL)
		return NULL;
	return weir_apr_checked(
	    pool, weir_region_memdup(pool->region, data, bytes));
}

/* All the bytes, a NUL among them or not, and one NUL more. */
char *
apr_pstrmemdup(apr_pool_t *pool, const char *string, apr_size_t bytes)
{
	char *copy;

	if (string == NULL)
		return NULL;
	copy = bytes == SIZE_MAX ? NULL : (char *)apr_palloc(pool, bytes + 1);
	if (copy == NULL)
		return NULL;
	memcpy(copy, string, bytes);
	copy[bytes] = '\0';
	return copy;
}

char *
apr_pstrcat(apr_pool_t *pool, ...)
{
	va_list arguments;
	size_t bytes = 1;
	const char *part;
	char *text;

	va_start(arguments, pool);
	while ((part = va_arg(arguments, const char *)) != NULL)
		bytes += strlen(part);
	va_end(arguments);
	text = (char *)apr_palloc(pool, bytes);
	if (text == NULL)
		return NULL;
	char *at = text;
	va_start(arguments, pool);
	while ((part = va_arg(arguments, const char *)) != NULL) {
		size_t length = strlen(part);

		memcpy(at, part, length);
		at += length;
	}
	va_end(arguments);
	*at = '\0';
	return text;
}

char *
apr_pvsprintf(apr_pool_t *pool, const char *format, va_list arguments)
{
	return (char *)weir_apr_checked(
	    pool, weir_region_vprintf(pool->region, format, arguments));
}

#endif /* !APR_POOLS_H */

char *
apr_psprintf(apr_pool_t *pool, const char *format, ...)
{
	va_list arguments;
	char *text;

	va_start(arguments, format);
	text = apr_pvsprintf(pool, format, arguments);
	va_end(arguments);
	return text;
}

#endif /* WEIR_COMPAT_APR_POOLS_TEXT_H */
