/* SPDX-License-Identifier: MIT */
/*
 * fault.c - the one reporter of a caller's bugs.
 *
 * The heap may be in ruins and this may be a signal handler, so the report is
 * built on the stack and each line leaves in one write(2): lines of several
 * threads, or of a program's own log, do not mix.  Bytes that would break the
 * line, which only a pool's name can hold, become '?'.
 *
 * A fault inside the hook is reported too but gets no hook: it aborts at once,
 * where calling the hook again might go on for ever.  "Inside" cannot be a
 * flag, since a hook may leave by longjmp and would leave the flag behind.  So
 * the reporter marks its frame and a fault counts as inside when
 *
 *   - it happens deeper in the stack than the marked frame, and
 *   - the mark is still there: callers that came after a longjmp have used
 *     that part of the stack for something else.
 *
 * The marked frame is kept small, so that a later one covers it with frames
 * that were written to.  Should a dead mark survive all the same, a fault loses
 * its hook, never its line nor its abort.
 */
#include "guard/fault.h"

#include "base/bits.h"
#include "guard/report.h"
#include "guard/state.h"

#include <stdlib.h>

/* A name of 47 bytes, two pointers and two clauses take under 300. */
#define FAULT_LINE_BYTES 512

/* Four stacks of sixteen frames, the line, and the files they are in as far as
 * there is room. */
#define FAULT_JSON_BYTES 4608

struct fault_mark {
	const volatile struct fault_mark *self;
	uint64_t serial;
};

struct fault_thread {
	const volatile struct fault_mark *mark; /* of the last call of a hook */
	uint64_t serial;
};

static __thread struct fault_thread fault_thread
    __attribute__((tls_model("initial-exec")));

static weir_fault_fn fault_hook;
static void *fault_hook_context;

static const char *const fault_class_text[] = {
#define X(symbol, text, advice) [WEIR_FAULT_##symbol] = text,
    WEIR_FAULT_CLASSES(X)
#undef X
};

static const char *const fault_class_advice[] = {
#define X(symbol, text, advice) [WEIR_FAULT_##symbol] = advice,
    WEIR_FAULT_CLASSES(X)
#undef X
};

static_assert(WEIRI_COUNT_OF(fault_class_text) == WEIR_FAULT_COUNT,
    "every class has its text");

void
weir_guard_set_hook(weir_fault_fn hook, void *context)
{
	WEIRI_STORE(&fault_hook_context, context);
	WEIRI_STORE(&fault_hook, hook);
}

/* Appends a string from outside, whatever it holds, as part of one line. */
static void
fault_text_safe(struct weiri_text *text, const char *string)
{
	for (; *string != '\0'; string++) {
		unsigned char byte = (unsigned char)*string;
		char shown = *string;

		if (byte < 0x20 || byte == 0x7f)
			shown = '?';
		weiri_text_char(text, shown);
	}
}

/*
 * Of "one|many}" the part that goes with @number; returns the closing brace,
 * or the end of a clause that lacks it.
 */
static const char *
fault_text_plural(struct weiri_text *text, const char *c, uint64_t number)
{
	bool many = false;

	for (; *c != '\0' && *c != '}'; c++) {
		if (*c == '|')
			many = true;
		else if (many == (number != 1))
			weiri_text_char(text, *c);
	}
	return c;
}

static void
fault_text_detail(struct weiri_text *text, const struct weiri_fault_site *site)
{
	const char *c = site->detail;

	for (; *c != '\0'; c++) {
		if (c[0] == '%' && c[1] == '{') {
			c = fault_text_plural(text, c + 2, site->number);
			if (*c == '\0')
				return;
			continue;
		}
		if (c[0] == '%' && c[1] == 'p')
			weiri_text_hex(text, (uintptr_t)site->address);
		else if (c[0] == '%' && c[1] == 'u')
			weiri_text_u64(text, site->number);
		else if (c[0] == '%' && c[1] == 's')
			fault_text_safe(
			    text, site->other != NULL ? site->other : "?");
		else {
			weiri_text_char(text, *c);
			continue;
		}
		c++;
	}
}

static void
fault_text(struct weiri_text *text, const struct weiri_fault_site *site)
{
	weiri_text_str(text, "weir: FAULT ");
	weiri_text_str(text, fault_class_text[site->fault_class]);
	weiri_text_str(text, ": ");
	if (site->pool_kind != NULL)
		weiri_text_str(text, site->pool_kind);
	if (site->pool_kind != NULL && site->pool_name != NULL)
		weiri_text_char(text, ' ');
	if (site->pool_name != NULL) {
		weiri_text_char(text, '"');
		fault_text_safe(text, site->pool_name);
		weiri_text_char(text, '"');
	}
	if (site->pool_kind != NULL || site->pool_name != NULL)
		weiri_text_str(text, ": ");
	fault_text_detail(text, site);
	weiri_text_str(text, "; ");
	weiri_text_str(text, fault_class_advice[site->fault_class]);
}

/* All but the first line, for people and for programs; @json is @site's report
 * afterwards. */
static WEIRI_NOINLINE void
fault_write_rest(const struct weiri_fault_site *site, uintptr_t frame,
    const char *line, struct weiri_report *report, char json[FAULT_JSON_BYTES])
{
	struct weiri_text text = {json, FAULT_JSON_BYTES - 1, 0};

	*report = (struct weiri_report){
	    .class_text = fault_class_text[site->fault_class],
	    .advice = fault_class_advice[site->fault_class],
	    .line = line,
	};
	weiri_report_fill(report, site, frame);
	weiri_report_write(report);
	weiri_report_json(&text, report);

	size_t used = weiri_min(text.used, FAULT_JSON_BYTES - 2);

	json[used] = '\n';
	weiri_os_write_error(json, used + 1);
	json[used] = '\0';
}

static WEIRI_NOINLINE void
fault_report(
    const struct weiri_fault_site *site, uintptr_t frame, weir_fault_fn hook)
{
	char line[FAULT_LINE_BYTES], json[FAULT_JSON_BYTES];
	/* One byte is kept back for the newline. */
	struct weiri_text text = {line, sizeof(line) - 1, 0};
	struct weiri_report report;

	weiri_guard_self.reporting = true;
	fault_text(&text, site);

	size_t used = weiri_min(text.used, sizeof(line) - 2);

	line[used] = '\n';
	weiri_os_write_error(line, used + 1);
	line[used] = '\0';
	fault_write_rest(site, frame, line, &report, json);
	weiri_guard_self.reporting = false;
	if (hook == NULL)
		return;

	struct weir_fault fault = {
	    .fault_class = site->fault_class,
	    .class_text = fault_class_text[site->fault_class],
	    .pool_kind = site->pool_kind,
	    .pool_name = site->pool_name,
	    .address = site->address,
	    .line = line,
	    .advice = fault_class_advice[site->fault_class],
	    .json = json,
	    .goes_on = site->goes_on,
	};

	if (report.object != NULL && !report.object->is_run) {
		fault.object = report.object->start;
		fault.object_bytes = report.object->bytes;
	}
	hook(&fault, WEIRI_LOAD(&fault_hook_context));
}

/* Stacks of all systems weir runs on grow downward.  The mark may lie in a dead
 * frame, which AddressSanitizer would object to. */
__attribute__((no_sanitize("address"))) static bool
fault_is_inside(const volatile struct fault_mark *here)
{
	const volatile struct fault_mark *mark = fault_thread.mark;

	return mark != NULL && (uintptr_t)mark > (uintptr_t)here &&
	       mark->self == mark && mark->serial == fault_thread.serial;
}

__attribute__((no_sanitize("address"))) void
weiri_fault_tell(const struct weiri_fault_site *site)
{
	volatile struct fault_mark mark = {NULL, 0};
	weir_fault_fn hook = WEIRI_LOAD(&fault_hook);
	bool inside = fault_is_inside(&mark);

	WEIR_DETECTOR_REPORTED(site->detail);
	if (inside)
		hook = NULL;
	mark.self = &mark;
	mark.serial = ++fault_thread.serial;
	fault_thread.mark = &mark;
	fault_report(site, (uintptr_t)__builtin_frame_address(0), hook);
	if (inside || !site->goes_on)
		abort();
	fault_thread.mark = NULL;
	mark.self = NULL;
}

void
weiri_fault(const struct weiri_fault_site *site)
{
	weiri_fault_tell(site);
	abort(); /* a site that goes on has no business here */
}
