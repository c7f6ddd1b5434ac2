/* SPDX-License-Identifier: MIT */
/*
 * symbolize_report.c - reports of faults, read and written.
 *
 * A frame in text is what it says it is, whatever stands before it:
 *
 *     weir:     #3 0x55d0c4a0f1a2 /usr/bin/server+0x121a2
 *
 * All else is copied, so that a whole log may come through here.  A line of JSON
 * has addresses, and a list of the modules they are in:
 *
 *     "modules":[{"path":"/usr/bin/server","base":"0x55d0c49fd000",
 *                 "build_id":"147011fc..."}]
 *
 * Behind its own text such a line is copied, too; alone it is written as text.
 *
 * An address is that of the instruction behind the call, which may belong to
 * the next line or, where a call does not return, to the next function; the byte
 * before it is asked for.  Only where an access trapped is the first one exact.
 */
#include "symbolize.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define REPORT_DEPTH 16
#define REPORT_MODULES 64

/* ---- frames in text ------------------------------------------------------------- */

struct text_frame {
	size_t head; /* bytes up to and with "#3 " */
	bool first;  /* #0 */
	const char *path;
	size_t path_bytes;
	uint64_t offset;
};

/* "#N 0xADDRESS PATH+0xOFFSET" from @at up to @end. */
static bool
text_parse_at(
    const char *line, const char *at, const char *end, struct text_frame *frame)
{
	const char *plus = NULL;
	char *rest;

	frame->first = strtoul(at + 1, &rest, 10) == 0;
	if (rest == at + 1 || end - rest < 4 || memcmp(rest, " 0x", 3) != 0)
		return false;
	frame->head = (size_t)(rest + 1 - line);
	(void)strtoull(rest + 1, &rest, 16);
	if (rest >= end || *rest != ' ')
		return false;
	frame->path = rest + 1;
	for (const char *c = frame->path; c + 3 < end; c++)
		if (memcmp(c, "+0x", 3) == 0)
			plus = c;
	if (plus == NULL || plus == frame->path)
		return false;
	frame->path_bytes = (size_t)(plus - frame->path);
	frame->offset = strtoull(plus + 1, &rest, 16);
	return rest == end;
}

/* A log may have set its own marks before it. */
static bool
text_parse(const char *line, size_t bytes, struct text_frame *frame)
{
	const char *end = line + bytes, *at = line;

	while ((at = memchr(at, '#', (size_t)(end - at))) != NULL) {
		if (text_parse_at(line, at, end, frame))
			return true;
		at++;
	}
	return false;
}

/* What the first stack behind a fault's line begins with. */
struct text_state {
	bool exact;  /* of the fault seen last: an access trapped */
	bool called; /* the stack is that of the call */
};

static bool
has(const char *line, size_t bytes, const char *part)
{
	return memmem(line, bytes, part, strlen(part)) != NULL;
}

static void
text_follow(struct text_state *state, const char *line, size_t bytes)
{
	if (has(line, bytes, "weir: FAULT "))
		state->exact = has(line, bytes, ": read at 0x") ||
			       has(line, bytes, ": write at 0x") ||
			       has(line, bytes, ": access at 0x") ||
			       has(line, bytes, "FAULT stack-overflow");
	else if (has(line, bytes, "the call, thread "))
		state->called = true;
	else if (!has(line, bytes, "#"))
		state->called = false;
}

static uint64_t
text_asked(const struct text_state *state, const struct text_frame *frame)
{
	bool exact = state->exact && state->called && frame->first;

	return exact || frame->offset == 0 ? frame->offset : frame->offset - 1;
}

/* ---- JSON ---------------------------------------------------------------------------- */

/*
 * The strings and numbers of one line of JSON, each told with the path of keys
 * to it: "object.taken.stack".  Elements of an array have the array's path.
 */
struct json_walk {
	const char *at, *end;
	char path[256];
	void (*visit)(
	    const char *path, const char *value, size_t bytes, void *context);
	void *context;
};

static void
json_space(struct json_walk *walk)
{
	while (walk->at < walk->end && strchr(" \t\r\n", *walk->at) != NULL)
		walk->at++;
}

/* Behind the opening quote; up to the closing one. */
static bool
json_string(struct json_walk *walk, const char **value, size_t *bytes)
{
	*value = walk->at;
	while (walk->at < walk->end && *walk->at != '"')
		walk->at += *walk->at == '\\' ? 2 : 1;
	if (walk->at >= walk->end)
		return false;
	*bytes = (size_t)(walk->at++ - *value);
	return true;
}

static bool json_value(struct json_walk *walk, unsigned depth);

static bool
json_members(struct json_walk *walk, unsigned depth, char close)
{
	size_t length = strlen(walk->path);
	const char *key;
	size_t bytes;

	for (json_space(walk); walk->at < walk->end; json_space(walk)) {
		if (*walk->at == close) {
			walk->at++;
			return true;
		}
		if (*walk->at == ',') {
			walk->at++;
			continue;
		}
		if (close == '}') {
			if (*walk->at++ != '"' ||
			    !json_string(walk, &key, &bytes) ||
			    length + bytes + 2 > sizeof(walk->path))
				return false;
			(void)snprintf(walk->path + length,
			    sizeof(walk->path) - length, "%s%.*s",
			    length > 0 ? "." : "", (int)bytes, key);
			json_space(walk);
			if (walk->at >= walk->end || *walk->at++ != ':')
				return false;
		}
		if (!json_value(walk, depth))
			return false;
		walk->path[length] = '\0';
	}
	return false;
}

static bool
json_value(struct json_walk *walk, unsigned depth)
{
	const char *value;
	size_t bytes;

	json_space(walk);
	if (walk->at >= walk->end || depth == 0)
		return false;
	if (*walk->at == '{' || *walk->at == '[')
		return json_members(
		    walk, depth - 1, *walk->at++ == '{' ? '}' : ']');
	if (*walk->at == '"') {
		walk->at++;
		if (!json_string(walk, &value, &bytes))
			return false;
	} else {
		value = walk->at;
		while (
		    walk->at < walk->end && strchr(",]} \t", *walk->at) == NULL)
			walk->at++;
		bytes = (size_t)(walk->at - value);
		if (bytes == 0)
			return false;
	}
	walk->visit(walk->path, value, bytes, walk->context);
	return true;
}

/* ---- a report in JSON ------------------------------------------------------------------ */

struct json_module {
	const char *path, *id;
	size_t path_bytes, id_bytes;
	uint64_t base, limit; /* limit 0: not told */
};

struct json_report {
	struct symbolize_module **modules;
	FILE *out; /* NULL: collects */
	struct text_state state;
	struct json_module module[REPORT_MODULES];
	size_t module_count;
	char stack[256]; /* path of the stack that is being written */
	unsigned frame;
	size_t nameless;
	bool failed;
};

static bool
json_is_report(const char *line, size_t bytes)
{
	static const char *const begin[] = {
	    "{\"weir\":\"fault\"", "{\"weir\":\"leak\""};

	for (size_t i = 0; i < sizeof(begin) / sizeof(begin[0]); i++)
		if (bytes > strlen(begin[i]) &&
		    memcmp(line, begin[i], strlen(begin[i])) == 0)
			return true;
	return false;
}

static void
json_see_module(
    const char *path, const char *value, size_t bytes, void *context)
{
	struct json_report *report = context;
	struct json_module *module;

	if (strcmp(path, "modules.path") == 0 &&
	    report->module_count < REPORT_MODULES)
		report->module[report->module_count++] =
		    (struct json_module){.path = value, .path_bytes = bytes};
	if (report->module_count == 0 || strncmp(path, "modules.", 8) != 0)
		return;
	module = &report->module[report->module_count - 1];
	if (strcmp(path, "modules.base") == 0)
		module->base = strtoull(value, NULL, 16);
	else if (strcmp(path, "modules.end") == 0)
		module->limit = strtoull(value, NULL, 16);
	else if (strcmp(path, "modules.build_id") == 0) {
		module->id = value;
		module->id_bytes = bytes;
	}
}

/* Of those that begin below it the last. */
static const struct json_module *
json_module_of(const struct json_report *report, uint64_t address)
{
	const struct json_module *best = NULL;

	for (size_t i = 0; i < report->module_count; i++) {
		const struct json_module *module = &report->module[i];

		if (module->base <= address &&
		    (module->limit == 0 || address < module->limit) &&
		    (best == NULL || module->base > best->base))
			best = module;
	}
	return best;
}

static void frame_write(FILE *out, const char *path, size_t path_bytes,
    uint64_t offset, const struct symbolize_frame *frame, unsigned indent);

static const char *
json_stack_title(const char *path)
{
	if (strcmp(path, "stack") == 0)
		return "the call";
	if (strcmp(path, "object.taken.stack") == 0)
		return "taken";
	if (strcmp(path, "object.ended.stack") == 0)
		return "ended";
	return "its pool was made";
}

static void
json_see_frame(struct json_report *report, const char *path, uint64_t address)
{
	const struct json_module *module = json_module_of(report, address);
	struct text_frame text = {.first = report->frame == 0};
	struct symbolize_frame *frame = NULL;

	report->state.called = strcmp(path, "stack") == 0;
	if (module != NULL) {
		text.offset = address - module->base;
		frame = symbolize_need(report->modules, module->path,
		    module->path_bytes, text_asked(&report->state, &text));
		report->failed |= frame == NULL;
	}
	report->nameless += frame == NULL || frame->text == NULL;
	if (report->out == NULL)
		return;
	(void)fprintf(report->out, "weir:     #%u ", report->frame);
	if (module == NULL)
		(void)fprintf(report->out, "0x%" PRIx64 "\n", address);
	else
		frame_write(report->out, module->path, module->path_bytes,
		    text.offset, frame, 14);
}

static void
json_see(const char *path, const char *value, size_t bytes, void *context)
{
	struct json_report *report = context;
	const char *last = strrchr(path, '.');

	if (strcmp(path, "line") == 0) {
		text_follow(&report->state, value, bytes);
		if (report->out == NULL)
			return;
		/* As it was, but for the two escapes that it may have. */
		for (size_t i = 0; i < bytes; i++)
			if (value[i] != '\\' || ++i < bytes)
				(void)putc(value[i], report->out);
		(void)putc('\n', report->out);
		return;
	}
	last = last != NULL ? last + 1 : path;
	if (strcmp(last, "stack") != 0 && strcmp(last, "pool_made") != 0)
		return;
	if (strcmp(report->stack, path) != 0) {
		(void)snprintf(
		    report->stack, sizeof(report->stack), "%s", path);
		report->frame = 0;
		if (report->out != NULL)
			(void)fprintf(report->out, "weir:   %s:\n",
			    json_stack_title(path));
	}
	json_see_frame(report, path, strtoull(value, NULL, 16));
	report->frame++;
}

/* Enters the frames, or writes them with @out; false: it is no whole JSON, or
 * there is no memory. */
static bool
json_report(const char *line, size_t bytes, struct symbolize_module **modules,
    FILE *out, size_t *nameless)
{
	struct json_report report = {.modules = modules, .out = out};
	struct json_walk walk = {.at = line,
	    .end = line + bytes,
	    .visit = json_see_module,
	    .context = &report};

	if (!json_value(&walk, REPORT_DEPTH))
		return false;
	for (size_t i = 0; i < report.module_count; i++) {
		const struct json_module *seen = &report.module[i];
		struct symbolize_module *module = symbolize_need_module(
		    modules, seen->path, seen->path_bytes);

		if (module != NULL && module->build_id == NULL &&
		    seen->id_bytes > 0)
			module->build_id = strndup(seen->id, seen->id_bytes);
	}
	walk.at = line;
	walk.path[0] = '\0';
	walk.visit = json_see;
	(void)json_value(&walk, REPORT_DEPTH);
	*nameless += report.nameless;
	return !report.failed;
}

/* ---- the whole ----------------------------------------------------------------------------- */

static void
frame_write(FILE *out, const char *path, size_t path_bytes, uint64_t offset,
    const struct symbolize_frame *frame, unsigned indent)
{
	const char *text = frame != NULL ? frame->text : NULL;
	size_t line;

	if (text == NULL) {
		(void)fprintf(out, "?? (%.*s+0x%" PRIx64 ")\n", (int)path_bytes,
		    path, offset);
		return;
	}
	/* What was compiled in line, innermost first; all at one address. */
	while (text[line = strcspn(text, "\n")] == '\n') {
		(void)fprintf(out, "%.*s, in line in\n%*s", (int)line, text,
		    (int)indent, "");
		text += line + 1;
	}
	(void)fprintf(out, "%s (%.*s+0x%" PRIx64 ")\n", text, (int)path_bytes,
	    path, offset);
}

/* True if the text of the same report came just before. */
static bool
json_is_repeated(const char *line, size_t bytes, bool text_seen)
{
	return text_seen && json_is_report(line, bytes);
}

/* Calls for each line; with @out they are written. */
static int
walk_lines(const char *report, size_t bytes, struct symbolize_module **modules,
    FILE *out, size_t *nameless)
{
	struct text_state state = {false, false};
	const char *end = report + bytes;
	bool text_seen = false;

	for (const char *line = report; line < end;) {
		const char *stop = memchr(line, '\n', (size_t)(end - line));
		size_t length = (size_t)((stop != NULL ? stop : end) - line);
		struct text_frame text;
		struct symbolize_frame *frame;

		text_follow(&state, line, length);
		if (has(line, length, "weir: FAULT ") && line[0] != '{')
			text_seen = true;
		if (json_is_report(line, length) &&
		    !json_is_repeated(line, length, text_seen)) {
			if (!json_report(
				line, length, modules, out, nameless) &&
			    out != NULL)
				(void)fprintf(out, "%.*s\n", (int)length, line);
		} else if (text_parse(line, length, &text)) {
			frame = symbolize_need(modules, text.path,
			    text.path_bytes, text_asked(&state, &text));
			if (frame == NULL)
				return -1;
			*nameless += frame->text == NULL;
			if (out != NULL) {
				(void)fprintf(
				    out, "%.*s", (int)text.head, line);
				frame_write(out, text.path, text.path_bytes,
				    text.offset, frame, 14);
			}
		} else {
			if (json_is_report(line, length))
				text_seen = false;
			if (out != NULL)
				(void)fprintf(out, "%.*s\n", (int)length, line);
		}
		line += length + 1;
	}
	return 0;
}

int
symbolize_collect(
    const char *report, size_t bytes, struct symbolize_module **modules)
{
	size_t nameless = 0;

	return walk_lines(report, bytes, modules, NULL, &nameless);
}

size_t
symbolize_write(const char *report, size_t bytes,
    struct symbolize_module **modules, FILE *out)
{
	size_t nameless = 0;

	(void)walk_lines(report, bytes, modules, out, &nameless);
	return nameless;
}
