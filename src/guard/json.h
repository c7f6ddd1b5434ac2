/* SPDX-License-Identifier: MIT */
/*
 * json.h - pieces of JSON, into a buffer of fixed size: async-signal-safe.
 *
 * Each appends a member of the object that is open, with a comma where one is
 * needed.
 */
#ifndef WEIRI_GUARD_JSON_H
#define WEIRI_GUARD_JSON_H

#include "base/text.h"
#include "guard/stack.h"

void weiri_json_key(struct weiri_text *text, const char *key);
/* Nothing for NULL. */
void weiri_json_string(
    struct weiri_text *text, const char *key, const char *value);
void weiri_json_number(struct weiri_text *text, const char *key, int64_t value);
/* As a string: numbers of 64 bits are none in JSON. */
void weiri_json_address(
    struct weiri_text *text, const char *key, uintptr_t address);
void weiri_json_stack(
    struct weiri_text *text, const char *key, const struct weiri_stack *stack);

/*
 * "modules": the files that frames are in, each once, with the address it begins
 * at and its build id.  What names the frames later needs no more, neither the
 * process nor its addresses.  A file that there is no room for is left out.
 */
#define WEIRI_JSON_MODULES 16

struct weiri_json_modules {
	struct weiri_text *text;
	size_t count;
	/* Of those told: from the base to the last frame met. */
	uintptr_t base[WEIRI_JSON_MODULES], seen[WEIRI_JSON_MODULES];
};

void weiri_json_modules_begin(
    struct weiri_json_modules *modules, struct weiri_text *text);
void weiri_json_modules_add(
    struct weiri_json_modules *modules, const struct weiri_stack *stack);
void weiri_json_modules_end(struct weiri_json_modules *modules);

#endif /* WEIRI_GUARD_JSON_H */
