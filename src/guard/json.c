/* SPDX-License-Identifier: MIT */
/*
 * json.c - pieces of JSON, for reports.
 */
#include "guard/json.h"

#include "base/bits.h"
#include "os/guard.h"

#define JSON_PATH_BYTES 256

/* What must fit behind a module for the whole to end well. */
#define JSON_TAIL 8

void
weiri_json_key(struct weiri_text *text, const char *key)
{
	if (text->used > 0 && text->used < text->bytes &&
	    text->buffer[text->used - 1] != '{')
		weiri_text_char(text, ',');
	weiri_text_char(text, '"');
	weiri_text_str(text, key);
	weiri_text_str(text, "\":");
}

void
weiri_json_string(struct weiri_text *text, const char *key, const char *value)
{
	if (value == NULL)
		return;
	weiri_json_key(text, key);
	weiri_text_json(text, value);
}

void
weiri_json_number(struct weiri_text *text, const char *key, int64_t value)
{
	weiri_json_key(text, key);
	if (value < 0)
		weiri_text_char(text, '-');
	weiri_text_u64(text, value < 0 ? -(uint64_t)value : (uint64_t)value);
}

void
weiri_json_address(struct weiri_text *text, const char *key, uintptr_t address)
{
	weiri_json_key(text, key);
	weiri_text_char(text, '"');
	weiri_text_hex(text, address);
	weiri_text_char(text, '"');
}

void
weiri_json_stack(
    struct weiri_text *text, const char *key, const struct weiri_stack *stack)
{
	weiri_json_key(text, key);
	weiri_text_char(text, '[');
	for (uint32_t i = 0; i < stack->count; i++) {
		weiri_text_str(text, i > 0 ? ",\"" : "\"");
		weiri_text_hex(text, stack->frame[i]);
		weiri_text_char(text, '"');
	}
	weiri_text_char(text, ']');
}

/* ---- modules --------------------------------------------------------------- */

void
weiri_json_modules_begin(
    struct weiri_json_modules *modules, struct weiri_text *text)
{
	modules->text = text;
	modules->count = 0;
}

/* Between the base of one and a frame of it there is no other. */
static bool
modules_have(const struct weiri_json_modules *modules, uintptr_t frame)
{
	for (size_t i = 0; i < modules->count; i++)
		if (modules->base[i] <= frame && frame <= modules->seen[i])
			return true;
	return false;
}

/* As if it had never been, if it is too long. */
static bool
modules_write(
    struct weiri_json_modules *modules, const char *path, uintptr_t base)
{
	struct weiri_text *text = modules->text;
	size_t before = text->used;
	char id[WEIRI_OS_BUILD_ID_BYTES];

	if (modules->count == 0) {
		weiri_json_key(text, "modules");
		weiri_text_char(text, '[');
	} else {
		weiri_text_char(text, ',');
	}
	weiri_text_char(text, '{');
	weiri_json_string(text, "path", path);
	weiri_json_address(text, "base", base);
	if (weiri_os_build_id(base, id))
		weiri_json_string(text, "build_id", id);
	weiri_text_char(text, '}');
	if (text->used + JSON_TAIL <= text->bytes)
		return true;
	text->used = before;
	return false;
}

static void
modules_need(struct weiri_json_modules *modules, uintptr_t frame)
{
	char path[JSON_PATH_BYTES];
	uintptr_t base = 0;

	if (modules_have(modules, frame) ||
	    !weiri_os_module(frame, path, sizeof(path), &base))
		return;
	for (size_t i = 0; i < modules->count; i++)
		if (modules->base[i] == base) {
			modules->seen[i] = frame;
			return;
		}
	if (modules->count == WEIRI_JSON_MODULES ||
	    !modules_write(modules, path, base))
		return;
	modules->base[modules->count] = base;
	modules->seen[modules->count++] = frame;
}

void
weiri_json_modules_add(
    struct weiri_json_modules *modules, const struct weiri_stack *stack)
{
	for (uint32_t i = 0; i < stack->count; i++)
		modules_need(modules, stack->frame[i]);
}

void
weiri_json_modules_end(struct weiri_json_modules *modules)
{
	if (modules->count > 0)
		weiri_text_char(modules->text, ']');
}
