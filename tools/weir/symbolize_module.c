/* SPDX-License-Identifier: MIT */
/*
 * symbolize_module.c - names for addresses in a file of code.
 *
 * Nothing here reads debug information: that is addr2line's of binutils or
 * llvm-symbolizer's trade, which is run as a child, without a shell, once for a
 * module.  What is done here is to see to it that the right file is asked: where
 * the report has a build id, the file of the path must have the same, else the
 * one that separate debug information is found by,
 *
 *     DIRECTORY/.build-id/ab/cdef0123.debug
 *
 * is taken.  Names from another build of the program would be worse than none.
 */
#include "symbolize.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MODULE_DIRECTORY "/usr/lib/debug"
#define MODULE_NOTES_MAX ((size_t)1 << 20)
#define MODULE_ID_MAX 64

/* Beyond it the arguments may be too long for one call. */
#define MODULE_FRAMES_MAX 4096

/* ---- modules and frames ------------------------------------------------------ */

struct symbolize_module *
symbolize_need_module(
    struct symbolize_module **modules, const char *path, size_t length)
{
	struct symbolize_module **at = modules;

	for (; *at != NULL; at = &(*at)->next)
		if (strlen((*at)->path) == length &&
		    memcmp((*at)->path, path, length) == 0)
			return *at;
	*at = calloc(1, sizeof(**at));
	if (*at == NULL)
		return NULL;
	(*at)->path = strndup(path, length);
	if ((*at)->path != NULL)
		return *at;
	free(*at);
	*at = NULL;
	return NULL;
}

struct symbolize_frame *
symbolize_need(struct symbolize_module **modules, const char *path,
    size_t length, uint64_t offset)
{
	struct symbolize_module *module =
	    symbolize_need_module(modules, path, length);

	if (module == NULL)
		return NULL;
	for (size_t i = 0; i < module->count; i++)
		if (module->frame[i].offset == offset)
			return &module->frame[i];
	if (module->count == module->room) {
		size_t room = module->room == 0 ? 16 : module->room * 2;
		struct symbolize_frame *more =
		    realloc(module->frame, room * sizeof(*more));

		if (more == NULL)
			return NULL;
		module->frame = more;
		module->room = room;
	}
	module->frame[module->count] =
	    (struct symbolize_frame){.offset = offset};
	return &module->frame[module->count++];
}

void
symbolize_free(struct symbolize_module *modules)
{
	while (modules != NULL) {
		struct symbolize_module *next = modules->next;

		for (size_t i = 0; i < modules->count; i++)
			free(modules->frame[i].text);
		free(modules->frame);
		free(modules->why);
		free(modules->build_id);
		free(modules->path);
		free(modules);
		modules = next;
	}
}

static void module_tell(struct symbolize_module *module, const char *format,
    ...) __attribute__((format(printf, 2, 3)));

static void
module_tell(struct symbolize_module *module, const char *format, ...)
{
	va_list arguments;

	free(module->why);
	va_start(arguments, format);
	if (vasprintf(&module->why, format, arguments) < 0)
		module->why = NULL;
	va_end(arguments);
}

/* ---- build ids ----------------------------------------------------------------- */

/* In a segment of notes; true if it has the id. */
static bool
notes_find_id(const unsigned char *notes, size_t bytes, char *hex)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t at = 0; at + sizeof(Elf64_Nhdr) <= bytes;) {
		Elf64_Nhdr note;
		size_t name, text, next;

		memcpy(&note, notes + at, sizeof(note));
		name = at + sizeof(note);
		text = name + (((size_t)note.n_namesz + 3) & ~(size_t)3);
		next = text + (((size_t)note.n_descsz + 3) & ~(size_t)3);
		if (next > bytes || next <= at)
			return false;
		at = next;
		if (note.n_type != NT_GNU_BUILD_ID || note.n_namesz != 4 ||
		    memcmp(notes + name, "GNU", 4) != 0 ||
		    note.n_descsz > MODULE_ID_MAX)
			continue;
		for (size_t i = 0; i < note.n_descsz; i++) {
			*hex++ = digits[notes[text + i] >> 4];
			*hex++ = digits[notes[text + i] & 15];
		}
		*hex = '\0';
		return true;
	}
	return false;
}

static bool
segment_find_id(int fd, const Elf64_Phdr *segment, char *hex)
{
	unsigned char *notes;
	bool found = false;

	if (segment->p_type != PT_NOTE || segment->p_filesz > MODULE_NOTES_MAX)
		return false;
	notes = malloc((size_t)segment->p_filesz + 1);
	if (notes == NULL)
		return false;
	if (pread(fd, notes, (size_t)segment->p_filesz,
		(off_t)segment->p_offset) == (ssize_t)segment->p_filesz)
		found = notes_find_id(notes, (size_t)segment->p_filesz, hex);
	free(notes);
	return found;
}

/* The id of a file for 64-bit machines of this byte order; false: none. */
static bool
file_build_id(const char *path, char hex[2 * MODULE_ID_MAX + 1])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool found = false;
	Elf64_Ehdr head;

	if (fd < 0)
		return false;
	if (pread(fd, &head, sizeof(head), 0) == (ssize_t)sizeof(head) &&
	    memcmp(head.e_ident, ELFMAG, SELFMAG) == 0 &&
	    head.e_ident[EI_CLASS] == ELFCLASS64 &&
	    head.e_phentsize == sizeof(Elf64_Phdr))
		for (unsigned i = 0; i < head.e_phnum && !found; i++) {
			Elf64_Phdr segment;

			if (pread(fd, &segment, sizeof(segment),
				(off_t)(head.e_phoff + i * sizeof(segment))) !=
			    (ssize_t)sizeof(segment))
				break;
			found = segment_find_id(fd, &segment, hex);
		}
	(void)close(fd);
	return found;
}

/* The file to be asked for a module, to be freed; NULL: none, and why. */
static char *
module_file(
    struct symbolize_module *module, const struct symbolize_tools *tools)
{
	const char *id = module->build_id;
	char there[2 * MODULE_ID_MAX + 1] = "";
	char *debug = NULL;
	bool exists = access(module->path, R_OK) == 0;

	if (exists && (id == NULL || (file_build_id(module->path, there) &&
					 strcmp(id, there) == 0)))
		return strdup(module->path);
	if (id != NULL && strlen(id) > 2 &&
	    asprintf(&debug, "%s/.build-id/%.2s/%s.debug",
		tools->directory != NULL ? tools->directory : MODULE_DIRECTORY,
		id, id + 2) < 0)
		return NULL;
	if (debug != NULL && access(debug, R_OK) == 0)
		return debug;
	free(debug);
	if (!exists)
		module_tell(module, "%s", strerror(errno));
	else
		module_tell(module,
		    "the file is another build: its id is %s, not %s",
		    there[0] != '\0' ? there : "none", id);
	return NULL;
}

/* ---- the child ------------------------------------------------------------------- */

static bool
program_exists(const char *name)
{
	const char *path = getenv("PATH");
	char file[4096];

	while (path != NULL && *path != '\0') {
		size_t length = strcspn(path, ":");

		(void)snprintf(
		    file, sizeof(file), "%.*s/%s", (int)length, path, name);
		if (access(file, X_OK) == 0)
			return true;
		path += length + (path[length] == ':');
	}
	return false;
}

static const char *
program_find(const struct symbolize_tools *tools)
{
	static const char *const known[] = {
	    "addr2line", "llvm-addr2line", "llvm-symbolizer"};

	if (tools->program != NULL)
		return tools->program;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (program_exists(known[i]))
			return known[i];
	return NULL;
}

/* Its name is what tells llvm's two forms apart. */
static bool
program_is_llvm(const char *program)
{
	return strstr(program, "llvm-symbolizer") != NULL;
}

/* The arguments, with the addresses behind; NULL without memory. */
static char **
child_arguments(const struct symbolize_module *module, const char *program,
    const char *file, char (*addresses)[24])
{
	static const char *const gnu[] = {"-a", "-f", "-C", "-i", "-e"};
	static const char *const llvm[] = {
	    "--output-style=GNU", "-a", "-f", "-C", "-i", "-e"};
	bool is_llvm = program_is_llvm(program);
	size_t options = is_llvm ? 6 : 5, at = 0;
	char **all = calloc(options + module->count + 3, sizeof(*all));

	if (all == NULL)
		return NULL;
	/* What posix_spawn() takes is not written by it. */
	all[at++] = (char *)(uintptr_t)program;
	for (size_t i = 0; i < options; i++)
		all[at++] = (char *)(uintptr_t)(is_llvm ? llvm[i] : gnu[i]);
	all[at++] = (char *)(uintptr_t)file;
	for (size_t i = 0; i < module->count; i++) {
		(void)snprintf(addresses[i], sizeof(addresses[i]), "0x%" PRIx64,
		    module->frame[i].offset);
		all[at++] = addresses[i];
	}
	return all;
}

/* All that a child writes, to be freed; NULL: it could not be had. */
static char *
child_read(const char *program, char **arguments, int *status)
{
	posix_spawn_file_actions_t actions;
	char *text = NULL;
	size_t bytes = 0;
	int ends[2], error;
	FILE *stream, *whole;
	pid_t pid;
	int c;

	if (pipe2(ends, O_CLOEXEC) != 0)
		return NULL;
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_adddup2(
	    &actions, ends[1], STDOUT_FILENO);
	(void)posix_spawn_file_actions_addopen(
	    &actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	error = posix_spawnp(&pid, program, &actions, NULL, arguments, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)close(ends[1]);
	if (error != 0) {
		(void)close(ends[0]);
		errno = error;
		return NULL;
	}
	stream = fdopen(ends[0], "r");
	whole = open_memstream(&text, &bytes);
	while (stream != NULL && whole != NULL && (c = getc(stream)) != EOF)
		(void)putc(c, whole);
	if (whole != NULL)
		(void)fclose(whole);
	if (stream != NULL)
		(void)fclose(stream);
	else
		(void)close(ends[0]);
	while (waitpid(pid, status, 0) < 0 && errno == EINTR)
		continue;
	return text;
}

/* ---- the answer -------------------------------------------------------------------- */

static char *
line_next(char **rest)
{
	char *line = *rest, *end;

	if (line == NULL || *line == '\0')
		return NULL;
	end = strchr(line, '\n');
	*rest = end != NULL ? end + 1 : NULL;
	if (end != NULL)
		*end = '\0';
	return line;
}

/* A function and a place, of which either may be "??". */
static void
answer_add(struct symbolize_frame *frame, const char *function, char *place)
{
	char *old = frame->text, *discriminator = strstr(place, " (discrim");
	bool known = strncmp(place, "??", 2) != 0;

	if (strcmp(function, "??") == 0 && !known)
		return;
	if (discriminator != NULL)
		*discriminator = '\0';
	if (asprintf(&frame->text, "%s%s%s%s%s", old != NULL ? old : "",
		old != NULL ? "\n" : "", function, known ? " at " : "",
		known ? place : "") < 0)
		frame->text = old;
	else
		free(old);
}

/* "0x..." opens the answer for the next frame, and pairs of lines follow. */
static void
answer_read(struct symbolize_module *module, char *text)
{
	size_t next = 0;
	struct symbolize_frame *frame = NULL;
	char *line, *place;

	while ((line = line_next(&text)) != NULL) {
		if (strncmp(line, "0x", 2) == 0 && next < module->count)
			frame = &module->frame[next++];
		else if (frame != NULL && (place = line_next(&text)) != NULL)
			answer_add(frame, line, place);
	}
}

static void
module_run(
    struct symbolize_module *module, const char *program, const char *file)
{
	char(*addresses)[24] = calloc(module->count, sizeof(*addresses));
	char **arguments = addresses != NULL ? child_arguments(module, program,
						   file, addresses)
					     : NULL;
	int status = 0;
	char *text = NULL;

	if (arguments != NULL)
		text = child_read(program, arguments, &status);
	if (text == NULL)
		module_tell(
		    module, "%s does not run: %s", program, strerror(errno));
	else
		answer_read(module, text);
	if (text != NULL && status != 0)
		module_tell(module, "%s cannot read %s", program, file);
	free(text);
	free(arguments);
	free(addresses);
}

void
symbolize_ask(
    struct symbolize_module *module, const struct symbolize_tools *tools)
{
	const char *program = program_find(tools);
	char *file;
	size_t without = 0;

	if (module->count == 0)
		return;
	if (program == NULL) {
		module_tell(module, "neither addr2line (package binutils) nor "
				    "llvm-symbolizer (llvm) is there");
		return;
	}
	if (module->count > MODULE_FRAMES_MAX) {
		module_tell(module, "more than %d frames", MODULE_FRAMES_MAX);
		return;
	}
	file = module_file(module, tools);
	if (file == NULL)
		return;
	module_run(module, program, file);
	for (size_t i = 0; i < module->count; i++)
		without += module->frame[i].text == NULL ||
			   strstr(module->frame[i].text, " at ") == NULL;
	if (module->why == NULL && without == module->count)
		module_tell(module,
		    "it has no line numbers: build with -g, or install its "
		    "debug symbols");
	free(file);
}
