/* SPDX-License-Identifier: MIT */
/*
 * report.c - what stands behind the first line of a fault.
 *
 *     weir: FAULT use-after-free: cache "conn": write at 0x7f81c2a43f48, ...
 *     weir:   object [0x7f81c2a43f38, 0x7f81c2a44000), 200 bytes; 16 bytes in
 *     weir:   type: struct conn
 *     weir:   the call, thread 41:
 *     weir:     #0 0x55d0c4a0f1a2 /usr/bin/server+0x121a2
 *     weir:   taken by thread 40, 1.204 s ago:
 *     weir:   ended by free, thread 40, 0.311 s ago:
 *     weir:   "conn" was made:
 *     weir:   its first bytes: 68 65 6c 6c 6f ...
 *     weir:   mode sample, 1 of 1000
 *     {"weir":"fault","class":"use-after-free", ...}
 *
 * A frame's file and the offset in it are what addr2line and `weir symbolize`
 * take; the JSON has addresses, and the files they are in.  Everything is read where it lies
 * and without a lock: a record may be changing, since another thread may be
 * ending the object at this moment.  What is torn then is a report, no pointer
 * is followed that could be.
 */
#include "guard/report.h"

#include "base/bits.h"
#include "guard/arena.h"
#include "guard/json.h"
#include "guard/state.h"
#include "os/guard.h"

/* A frame with a path of a hundred bytes, and some. */
#define REPORT_LINE_BYTES 320
#define REPORT_PATH_BYTES 256

const char *const weiri_guard_how_text[] = {
#define X(symbol, text) [WEIRI_GUARD_##symbol] = text,
    WEIRI_GUARD_HOWS(X)
#undef X
};

static const char *const report_mode[] = {
    "off", "sample", "full", "tool", "menu"};

/* ---- gathering ---------------------------------------------------------------- */

/* Where @address is, seen from the object. */
static void
report_measure(struct weiri_report *report, const void *address)
{
	const struct weiri_guarded *object = report->object;
	uintptr_t at = (uintptr_t)address, start = (uintptr_t)object->start;

	if (at < start) {
		report->where = "before";
		report->distance = (int64_t)(at - start);
	} else if (at < start + object->bytes) {
		report->where = "in";
		report->distance = (int64_t)(at - start);
	} else {
		report->where = "behind";
		report->distance = (int64_t)(at - start - object->bytes);
	}
}

static void
report_fill_object(struct weiri_report *report, const void *address)
{
	const struct weiri_guarded *object = report->site->object;
	struct weiri_space *space = NULL;

	if (object == NULL)
		object = weiri_guard_find(address, &space);
	else if (object->sites != 0)
		space = &weiri_guard_state.space[object->sites - 1];
	else
		(void)weiri_guard_find(object->start, &space);
	if (object == NULL || space == NULL ||
	    (object->start == NULL && !object->is_run))
		return;
	report->object = object;
	weiri_sites_get(&space->sites, object->born_site, &report->born);
	if (object->state >= WEIRI_GUARDED_ENDING)
		weiri_sites_get(
		    &space->sites, object->ended_site, &report->ended);
	report->made = weiri_guard_name_of(object)->made;
	report->mode = report_mode[object->mode];
	if (!object->is_run)
		report_measure(report, address);
}

/* The memory around the fault, as far as it is there. */
static void
report_fill_bytes(struct weiri_report *report, const void *address)
{
	const struct weiri_guarded *object = report->object;

	if (object != NULL && object->is_run)
		return;
	if (object != NULL && object->kept_is &&
	    object->state >= WEIRI_GUARDED_ENDED) {
		for (size_t i = 0; i < sizeof(report->bytes); i++)
			report->bytes[i] = object->kept[i];
		report->has_bytes = true;
		return;
	}
	if (object != NULL)
		address = object->start;
	report->has_bytes =
	    address != NULL &&
	    weiri_os_peek(address, report->bytes,
		object != NULL ? weiri_min(object->bytes, sizeof(report->bytes))
			       : sizeof(report->bytes));
}

void
weiri_report_fill(struct weiri_report *report,
    const struct weiri_fault_site *site, uintptr_t frame)
{
	report->site = site;
	report->mode = report_mode[WEIRI_LOAD(&weiri_guard_state.mode)];
	report->rate = WEIRI_LOAD(&weiri_guard_state.rate);
	report->now_ns = weiri_os_now_ns();
	if (site->trapped != NULL)
		weiri_stack_from(&report->here, site->trapped->pc,
		    site->trapped->frame, site->trapped->stack);
	else
		weiri_stack_from(&report->here, 0, frame, frame);
	report_fill_object(report, site->address);
	report_fill_bytes(report, site->address);
}

/* The type in question: of what the call was about, else none. */
static const char *
report_type(const struct weiri_report *report)
{
	const char *type = report->site->pool_type;

	return type != NULL && type[0] != '\0' ? type : NULL;
}

/* ---- text ------------------------------------------------------------------------ */

/* One line, on its way. */
struct report_line {
	char bytes[REPORT_LINE_BYTES];
	struct weiri_text text;
};

static struct weiri_text *
line_begin(struct report_line *line, const char *first)
{
	line->text = (struct weiri_text){line->bytes, sizeof(line->bytes), 0};
	weiri_text_str(&line->text, "weir:   ");
	weiri_text_str(&line->text, first);
	return &line->text;
}

static void
line_end(struct report_line *line)
{
	size_t used = weiri_min(line->text.used, sizeof(line->bytes) - 2);

	line->bytes[used] = '\n';
	weiri_os_write_error(line->bytes, used + 1);
}

static void
report_write_stack(const struct weiri_stack *stack)
{
	struct report_line line;
	char path[REPORT_PATH_BYTES];

	for (uint32_t i = 0; i < stack->count; i++) {
		struct weiri_text *text = line_begin(&line, "  #");
		uintptr_t base = 0, frame = stack->frame[i];

		weiri_text_u64(text, i);
		weiri_text_char(text, ' ');
		weiri_text_hex(text, frame);
		if (weiri_os_module(frame, path, sizeof(path), &base)) {
			weiri_text_char(text, ' ');
			weiri_text_str(text, path);
			weiri_text_char(text, '+');
			weiri_text_hex(text, frame - base);
		}
		line_end(&line);
	}
}

static void
text_age(struct weiri_text *text, const struct weiri_report *report,
    uint64_t then_ns)
{
	uint64_t age = report->now_ns - then_ns;

	weiri_text_str(text, ", ");
	weiri_text_fixed(text, age / 1000, 6);
	weiri_text_str(text, " s ago:");
}

static void
report_write_run(const struct weiri_report *report)
{
	const struct weiri_guarded *run = report->object;
	struct report_line line;
	struct weiri_text *text = line_begin(&line, "units ");

	weiri_text_u64(text, (uintptr_t)run->shadow);
	weiri_text_str(text, " .. ");
	weiri_text_u64(text, (uintptr_t)run->shadow + run->bytes - 1);
	weiri_text_str(text, " of ");
	weiri_text_str(text, weiri_guard_name_of(run)->kind);
	weiri_text_str(text, " \"");
	weiri_text_str(text, weiri_guard_name_of(run)->name);
	weiri_text_str(text, "\"");
	line_end(&line);
}

static void
report_write_object(const struct weiri_report *report)
{
	const struct weiri_guarded *object = report->object;
	struct report_line line;
	struct weiri_text *text = line_begin(&line, "object [");
	uint64_t away = report->distance < 0 ? -(uint64_t)report->distance
					     : (uint64_t)report->distance;

	weiri_text_hex(text, (uintptr_t)object->start);
	weiri_text_str(text, ", ");
	weiri_text_hex(text, (uintptr_t)object->start + object->bytes);
	weiri_text_str(text, "), ");
	weiri_text_u64(text, object->bytes);
	weiri_text_str(text, " bytes, of ");
	weiri_text_str(text, weiri_guard_name_of(object)->kind);
	weiri_text_str(text, " \"");
	weiri_text_str(text, weiri_guard_name_of(object)->name);
	weiri_text_str(text, "\"; the address is ");
	weiri_text_u64(text, away);
	weiri_text_str(text, away == 1 ? " byte " : " bytes ");
	weiri_text_str(text, report->where);
	weiri_text_str(text, report->where[0] == 'i' ? "side it" : " it");
	line_end(&line);
}

static void
report_write_lives(const struct weiri_report *report)
{
	const struct weiri_guarded *object = report->object;
	struct report_line line;
	struct weiri_text *text = line_begin(&line, "taken by thread ");

	weiri_text_u64(text, object->born_thread);
	text_age(text, report, object->born_ns);
	line_end(&line);
	report_write_stack(&report->born);
	if (object->state < WEIRI_GUARDED_ENDING)
		return;
	text = line_begin(&line, "ended by ");
	weiri_text_str(text, weiri_guard_how_text[object->how]);
	weiri_text_str(text, ", thread ");
	weiri_text_u64(text, object->ended_thread);
	text_age(text, report, object->ended_ns);
	line_end(&line);
	report_write_stack(&report->ended);
}

static void
report_write_bytes(const struct weiri_report *report)
{
	static const char digits[] = "0123456789abcdef";
	struct report_line line;
	struct weiri_text *text = line_begin(&line,
	    report->object != NULL ? "its first bytes:" : "bytes there:");

	for (size_t i = 0; i < sizeof(report->bytes); i++) {
		if (report->object != NULL && i >= report->object->bytes)
			break;
		weiri_text_char(text, ' ');
		weiri_text_char(text, digits[report->bytes[i] >> 4]);
		weiri_text_char(text, digits[report->bytes[i] & 15]);
	}
	line_end(&line);
}

void
weiri_report_write(const struct weiri_report *report)
{
	struct report_line line;
	struct weiri_text *text;

	if (report->object != NULL && report->object->is_run)
		report_write_run(report);
	else if (report->object != NULL)
		report_write_object(report);
	if (report_type(report) != NULL) {
		text = line_begin(&line, "type: ");
		weiri_text_str(text, report_type(report));
		line_end(&line);
	}
	text = line_begin(&line, "the call, thread ");
	weiri_text_u64(text, weiri_os_thread_number());
	weiri_text_char(text, ':');
	line_end(&line);
	report_write_stack(&report->here);
	if (report->object != NULL)
		report_write_lives(report);
	if (report->made.count > 0) {
		(void)line_begin(&line, "its pool was made:");
		line_end(&line);
		report_write_stack(&report->made);
	}
	if (report->has_bytes)
		report_write_bytes(report);
	text = line_begin(&line, "mode ");
	weiri_text_str(text, report->mode);
	if (report->rate != 0) {
		weiri_text_str(text, ", one of ");
		weiri_text_u64(text, report->rate);
	}
	line_end(&line);
}

/* ---- JSON ------------------------------------------------------------------------- */

static void
json_life(struct weiri_text *text, const struct weiri_report *report,
    uint32_t thread, uint64_t then_ns, const struct weiri_stack *stack)
{
	weiri_json_number(text, "thread", thread);
	weiri_json_number(text, "age_ns", (int64_t)(report->now_ns - then_ns));
	weiri_json_stack(text, "stack", stack);
	weiri_text_char(text, '}');
}

static void
json_bytes(struct weiri_text *text, const struct weiri_report *report)
{
	static const char digits[] = "0123456789abcdef";

	weiri_json_key(text, "bytes_there");
	weiri_text_char(text, '"');
	for (size_t i = 0; i < sizeof(report->bytes); i++) {
		if (report->object != NULL && i >= report->object->bytes)
			break;
		weiri_text_char(text, digits[report->bytes[i] >> 4]);
		weiri_text_char(text, digits[report->bytes[i] & 15]);
	}
	weiri_text_char(text, '"');
}

static void
json_object(struct weiri_text *text, const struct weiri_report *report)
{
	const struct weiri_guarded *object = report->object;
	const struct weiri_guard_name *name = weiri_guard_name_of(object);

	weiri_json_key(text, "object");
	weiri_text_char(text, '{');
	if (object->is_run) {
		weiri_json_number(
		    text, "first", (int64_t)(uintptr_t)object->shadow);
		weiri_json_number(text, "units", (int64_t)object->bytes);
	} else {
		weiri_json_address(text, "start", (uintptr_t)object->start);
		weiri_json_number(text, "bytes", (int64_t)object->bytes);
		weiri_json_string(text, "where", report->where);
		weiri_json_number(text, "distance", report->distance);
	}
	weiri_json_string(text, "kind", name->kind);
	weiri_json_string(text, "pool", name->name);
	if (name->type[0] != '\0')
		weiri_json_string(text, "type", name->type);
	weiri_json_key(text, "taken");
	weiri_text_char(text, '{');
	json_life(
	    text, report, object->born_thread, object->born_ns, &report->born);
	if (object->state >= WEIRI_GUARDED_ENDING) {
		weiri_json_key(text, "ended");
		weiri_text_char(text, '{');
		weiri_json_string(
		    text, "how", weiri_guard_how_text[object->how]);
		json_life(text, report, object->ended_thread, object->ended_ns,
		    &report->ended);
	}
	if (report->made.count > 0)
		weiri_json_stack(text, "pool_made", &report->made);
	weiri_text_char(text, '}');
}

static void
json_modules(struct weiri_text *text, const struct weiri_report *report)
{
	const struct weiri_stack *const stacks[] = {
	    &report->here, &report->born, &report->ended, &report->made};
	struct weiri_json_modules modules;

	weiri_json_modules_begin(&modules, text);
	for (size_t s = 0; s < WEIRI_COUNT_OF(stacks); s++)
		weiri_json_modules_add(&modules, stacks[s]);
	weiri_json_modules_end(&modules);
}

void
weiri_report_json(struct weiri_text *text, const struct weiri_report *report)
{
	const struct weiri_fault_site *site = report->site;

	weiri_text_char(text, '{');
	weiri_json_string(text, "weir", "fault");
	weiri_json_string(text, "class", report->class_text);
	weiri_json_string(text, "operation", site->operation);
	weiri_json_string(text, "kind", site->pool_kind);
	weiri_json_string(text, "pool", site->pool_name);
	weiri_json_string(text, "type", report_type(report));
	weiri_json_string(text, "other", site->other);
	weiri_json_address(text, "address", (uintptr_t)site->address);
	weiri_json_string(text, "line", report->line);
	weiri_json_string(text, "mode", report->mode);
	weiri_json_number(text, "rate", report->rate);
	weiri_json_number(text, "thread", weiri_os_thread_number());
	weiri_json_stack(text, "stack", &report->here);
	if (report->object != NULL)
		json_object(text, report);
	if (report->has_bytes)
		json_bytes(text, report);
	json_modules(text, report);
	weiri_text_char(text, '}');
}
