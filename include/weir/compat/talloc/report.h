/* SPDX-License-Identifier: MIT */
/*
 * report.h - what is known of the tree, and who is told.
 *
 * Part of weir/compat/talloc.h, which includes it where its functions are
 * compiled.
 */
#ifndef WEIR_COMPAT_TALLOC_REPORT_H
#define WEIR_COMPAT_TALLOC_REPORT_H

void *
talloc_parent(const void *ptr)
{
	struct weir_talloc_chunk *parent =
	    ptr == NULL ? NULL : weir_talloc_of(ptr)->parent;

	return parent == NULL ? NULL : weir_talloc_object(parent);
}

const char *
talloc_parent_name(const void *ptr)
{
	const void *parent = talloc_parent(ptr);

	return parent == NULL ? NULL : talloc_get_name(parent);
}

/* Is @ptr the context itself or above it? */
int
talloc_is_parent(const void *ctx, const void *ptr)
{
	if (ctx == NULL || ptr == NULL)
		return 0;
	return weir_talloc_below(weir_talloc_of(ctx), weir_talloc_of(ptr));
}

void *
talloc_find_parent_byname(const void *ctx, const char *name)
{
	struct weir_talloc_chunk *chunk =
	    ctx == NULL ? NULL : weir_talloc_of(ctx);

	while (chunk != NULL &&
	       (chunk->name == NULL || strcmp(chunk->name, name) != 0))
		chunk = chunk->parent;
	return chunk == NULL ? NULL : weir_talloc_object(chunk);
}

/* The chunk after another in the tree below @top, parents first. */
static struct weir_talloc_chunk *
weir_talloc_next(
    struct weir_talloc_chunk *chunk, const struct weir_talloc_chunk *top)
{
	if (chunk->child != NULL)
		return chunk->child;
	while (chunk != top && chunk->older == NULL)
		chunk = chunk->parent;
	return chunk == top ? NULL : chunk->older;
}

size_t
talloc_total_size(const void *ptr)
{
	struct weir_talloc_chunk *top = weir_talloc_context(ptr);
	size_t bytes = 0;

	for (struct weir_talloc_chunk *chunk = top; chunk != NULL;
	     chunk = weir_talloc_next(chunk, top))
		if (chunk->destructor != weir_talloc_ref_end)
			bytes += chunk->bytes;
	return bytes;
}

size_t
talloc_total_blocks(const void *ptr)
{
	struct weir_talloc_chunk *top = weir_talloc_context(ptr);
	size_t blocks = 0;

	for (struct weir_talloc_chunk *chunk = top; chunk != NULL;
	     chunk = weir_talloc_next(chunk, top))
		blocks++;
	return blocks;
}

void
talloc_report_depth_cb(const void *ptr, int depth, int max_depth,
    void (*callback)(const void *ptr, int depth, int max_depth, int is_ref,
	void *private_data),
    void *private_data)
{
	struct weir_talloc_chunk *top = weir_talloc_context(ptr);
	struct weir_talloc_chunk *chunk = top;

	while (chunk != NULL) {
		bool is_ref = chunk->destructor == weir_talloc_ref_end;
		void *object = weir_talloc_object(chunk);

		if (is_ref)
			object = weir_talloc_object(
			    ((struct weir_talloc_ref *)object)->target);
		if (chunk == top || max_depth < 0 || depth <= max_depth)
			callback(
			    object, depth, max_depth, is_ref, private_data);
		/* One step, and what that does to the depth. */
		if (chunk->child != NULL) {
			chunk = chunk->child;
			depth++;
			continue;
		}
		while (chunk != top && chunk->older == NULL) {
			chunk = chunk->parent;
			depth--;
		}
		chunk = chunk == top ? NULL : chunk->older;
	}
}

static void
weir_talloc_report_line(
    const void *ptr, int depth, int max_depth, int is_ref, void *private_data)
{
	FILE *file = (FILE *)private_data;
	const char *name = talloc_get_name(ptr);

	if (is_ref) {
		fprintf(file, "%*sreference to: %s\n", depth * 4, "", name);
		return;
	}
	if (depth == 0) {
		fprintf(file,
		    "%stalloc report on '%s' (total %6lu bytes in %3lu "
		    "blocks)\n",
		    max_depth < 0 ? "full " : "", name,
		    (unsigned long)talloc_total_size(ptr),
		    (unsigned long)talloc_total_blocks(ptr));
		return;
	}
	fprintf(file,
	    "%*s%-30s contains %6lu bytes in %3lu blocks (ref %lu) %p\n",
	    depth * 4, "", name, (unsigned long)talloc_total_size(ptr),
	    (unsigned long)talloc_total_blocks(ptr),
	    (unsigned long)talloc_reference_count(ptr), ptr);
}

void
talloc_report_depth_file(const void *ptr, int depth, int max_depth, FILE *f)
{
	if (f == NULL)
		return;
	talloc_report_depth_cb(
	    ptr, depth, max_depth, weir_talloc_report_line, f);
	fflush(f);
}

void
talloc_report_full(const void *ptr, FILE *f)
{
	talloc_report_depth_file(ptr, 0, -1, f);
}

void
talloc_report(const void *ptr, FILE *f)
{
	talloc_report_depth_file(ptr, 0, 1, f);
}

void
talloc_enable_null_tracking(void)
{
	if (weir_talloc_null == NULL)
		weir_talloc_null = talloc_named_const(NULL, 0, "null_context");
}

/* What is below it has no parent from now on. */
void
talloc_disable_null_tracking(void)
{
	void *null = weir_talloc_null;
	struct weir_talloc_chunk *chunk;

	if (null == NULL)
		return;
	weir_talloc_null = NULL;
	chunk = weir_talloc_of(null);
	while (chunk->child != NULL) {
		struct weir_talloc_chunk *child = chunk->child;

		weir_talloc_unlink(child);
		weir_talloc_link(child, NULL);
	}
	talloc_free(null);
}

void
talloc_enable_null_tracking_no_autofree(void)
{
	talloc_enable_null_tracking();
}

void
talloc_show_parents(const void *ctx, FILE *f)
{
	if (ctx == NULL) {
		fputs("talloc no parents for NULL\n", f);
		return;
	}
	fprintf(f, "talloc parents of '%s'\n", talloc_get_name(ctx));
	for (; ctx != NULL; ctx = talloc_parent(ctx))
		fprintf(f, "\t'%s'\n", talloc_get_name(ctx));
	fflush(f);
}

int
talloc_version_major(void)
{
	return TALLOC_VERSION_MAJOR;
}

int
talloc_version_minor(void)
{
	return TALLOC_VERSION_MINOR;
}

/* ---- at the end of the program ----------------------------------------------------- */

static void *weir_talloc_autofree;
static bool weir_talloc_reports;
static bool weir_talloc_reports_all;
static bool weir_talloc_leaves;

static void
weir_talloc_leave(void)
{
	talloc_free(weir_talloc_autofree);
	if (!weir_talloc_reports || weir_talloc_null == NULL ||
	    talloc_total_blocks(weir_talloc_null) <= 1)
		return;
	if (weir_talloc_reports_all)
		talloc_report_full(weir_talloc_null, stderr);
	else
		talloc_report(weir_talloc_null, stderr);
}

static void
weir_talloc_when_leaving(void)
{
	if (!weir_talloc_leaves)
		atexit(weir_talloc_leave);
	weir_talloc_leaves = true;
}

void
talloc_enable_leak_report(void)
{
	talloc_enable_null_tracking();
	weir_talloc_reports = true;
	weir_talloc_when_leaving();
}

void
talloc_enable_leak_report_full(void)
{
	talloc_enable_leak_report();
	weir_talloc_reports_all = true;
}

static int
weir_talloc_autofree_end(void *ptr)
{
	(void)ptr;
	weir_talloc_autofree = NULL;
	return 0;
}

void *
talloc_autofree_context(void)
{
	if (weir_talloc_autofree == NULL) {
		weir_talloc_autofree =
		    talloc_named_const(NULL, 0, "autofree_context");
		if (weir_talloc_autofree == NULL)
			return NULL;
		_talloc_set_destructor(
		    weir_talloc_autofree, weir_talloc_autofree_end);
		weir_talloc_when_leaving();
	}
	return weir_talloc_autofree;
}

#endif /* WEIR_COMPAT_TALLOC_REPORT_H */
