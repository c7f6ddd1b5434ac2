/* SPDX-License-Identifier: MIT */
/*
 * text.h - strings.
 *
 * Part of weir/compat/talloc.h, which includes it where its functions are
 * compiled.
 */
#ifndef WEIR_COMPAT_TALLOC_TEXT_H
#define WEIR_COMPAT_TALLOC_TEXT_H

static char *
weir_talloc_text(const void *ctx, const char *p, size_t length)
{
	char *text = (char *)talloc_named_const(ctx, length + 1, NULL);

	if (text == NULL)
		return NULL;
	memcpy(text, p, length);
	text[length] = '\0';
	talloc_set_name_const(text, text);
	return text;
}

char *
talloc_strdup(const void *ctx, const char *p)
{
	return p == NULL ? NULL : weir_talloc_text(ctx, p, strlen(p));
}

static size_t
weir_talloc_strnlen(const char *p, size_t n)
{
	const char *end = (const char *)memchr(p, '\0', n);

	return end != NULL ? (size_t)(end - p) : n;
}

char *
talloc_strndup(const void *ctx, const char *p, size_t n)
{
	return p == NULL ? NULL
			 : weir_talloc_text(ctx, p, weir_talloc_strnlen(p, n));
}

/* Room for so many characters more behind the first @used; its name follows. */
static char *
weir_talloc_longer(char *s, size_t used, size_t more)
{
	char *text = (char *)_talloc_realloc(NULL, s, used + more + 1, NULL);

	if (text != NULL)
		talloc_set_name_const(text, text);
	return text;
}

static size_t
weir_talloc_used(const char *s)
{
	size_t bytes = talloc_get_size(s);

	return bytes == 0 ? 0 : bytes - 1;
}

static char *
weir_talloc_append(char *s, size_t used, const char *a, size_t length)
{
	char *text = weir_talloc_longer(s, used, length);

	if (text == NULL)
		return NULL;
	memcpy(text + used, a, length);
	text[used + length] = '\0';
	return text;
}

char *
talloc_strdup_append(char *s, const char *a)
{
	if (s == NULL)
		return talloc_strdup(NULL, a);
	return a == NULL ? s : weir_talloc_append(s, strlen(s), a, strlen(a));
}

char *
talloc_strdup_append_buffer(char *s, const char *a)
{
	if (s == NULL)
		return talloc_strdup(NULL, a);
	return a == NULL
		   ? s
		   : weir_talloc_append(s, weir_talloc_used(s), a, strlen(a));
}

char *
talloc_strndup_append(char *s, const char *a, size_t n)
{
	if (s == NULL)
		return talloc_strndup(NULL, a, n);
	return a == NULL ? s
			 : weir_talloc_append(
			       s, strlen(s), a, weir_talloc_strnlen(a, n));
}

char *
talloc_strndup_append_buffer(char *s, const char *a, size_t n)
{
	if (s == NULL)
		return talloc_strndup(NULL, a, n);
	return a == NULL ? s
			 : weir_talloc_append(s, weir_talloc_used(s), a,
			       weir_talloc_strnlen(a, n));
}

/* What is longer is formatted twice, as in talloc. */
#define WEIR_TALLOC_ASIDE ((size_t)1024)

static int weir_talloc_first(char *aside, const char *fmt, va_list ap)
    WEIR_PRINTF(2, 0);

/* The length of the whole text; shorter ones are at @aside then. */
static int
weir_talloc_first(char *aside, const char *fmt, va_list ap)
{
	va_list again;
	int length;

	va_copy(again, ap);
	length = vsnprintf(aside, WEIR_TALLOC_ASIDE, fmt, again);
	va_end(again);
	return length;
}

static void weir_talloc_second(char *text, size_t length, const char *aside,
    const char *fmt, va_list ap) WEIR_PRINTF(4, 0);

static void
weir_talloc_second(
    char *text, size_t length, const char *aside, const char *fmt, va_list ap)
{
	if (length < WEIR_TALLOC_ASIDE)
		memcpy(text, aside, length + 1);
	else
		vsnprintf(text, length + 1, fmt, ap);
}

char *
talloc_vasprintf(const void *ctx, const char *fmt, va_list ap)
{
	char aside[WEIR_TALLOC_ASIDE], *text;
	int length = weir_talloc_first(aside, fmt, ap);

	if (length < 0)
		return NULL;
	text = (char *)talloc_named_const(ctx, (size_t)length + 1, NULL);
	if (text == NULL)
		return NULL;
	weir_talloc_second(text, (size_t)length, aside, fmt, ap);
	talloc_set_name_const(text, text);
	return text;
}

static char *weir_talloc_print(
    char *s, size_t used, const char *fmt, va_list ap) WEIR_PRINTF(3, 0);

static char *
weir_talloc_print(char *s, size_t used, const char *fmt, va_list ap)
{
	char aside[WEIR_TALLOC_ASIDE], *text;
	int length = weir_talloc_first(aside, fmt, ap);

	/* Nothing to add: as in talloc, the string as it is. */
	if (length <= 0)
		return s;
	text = weir_talloc_longer(s, used, (size_t)length);
	if (text != NULL)
		weir_talloc_second(text + used, (size_t)length, aside, fmt, ap);
	return text;
}

char *
talloc_vasprintf_append(char *s, const char *fmt, va_list ap)
{
	if (s == NULL)
		return talloc_vasprintf(NULL, fmt, ap);
	return weir_talloc_print(s, strlen(s), fmt, ap);
}

char *
talloc_vasprintf_append_buffer(char *s, const char *fmt, va_list ap)
{
	if (s == NULL)
		return talloc_vasprintf(NULL, fmt, ap);
	return weir_talloc_print(s, weir_talloc_used(s), fmt, ap);
}

char *
talloc_asprintf(const void *ctx, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	char *text = talloc_vasprintf(ctx, fmt, ap);
	va_end(ap);
	return text;
}

char *
talloc_asprintf_append(char *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	char *text = talloc_vasprintf_append(s, fmt, ap);
	va_end(ap);
	return text;
}

char *
talloc_asprintf_append_buffer(char *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	char *text = talloc_vasprintf_append_buffer(s, fmt, ap);
	va_end(ap);
	return text;
}

/* What was there is freed when there is no memory: *ps is NULL from then on. */
void
talloc_asprintf_addbuf(char **ps, const char *fmt, ...)
{
	char *text;
	va_list ap;

	if (*ps == NULL)
		return;
	va_start(ap, fmt);
	text = talloc_vasprintf_append_buffer(*ps, fmt, ap);
	va_end(ap);
	if (text == NULL)
		talloc_free(*ps);
	*ps = text;
}

#endif /* WEIR_COMPAT_TALLOC_TEXT_H */
