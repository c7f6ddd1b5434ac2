/* SPDX-License-Identifier: MIT */
/*
 * cgroup.c - how much memory the control groups of Linux leave this process.
 *
 * /proc/self/cgroup names the group of the process, /proc/self/mountinfo the
 * place where its files can be read:
 *
 *     0::/system.slice/game.service                              version 2
 *     9:memory:/docker/4f1b                                      version 1
 *
 *     31 25 0:27 /docker/4f1b /sys/fs/cgroup/memory rw - cgroup cgroup memory
 *                ^ root       ^ mount point              ^ type        ^ options
 *
 * The mount shows the hierarchy from its root downward, so the group's files
 * are at mount point + (group - root); in a container with a name space of its
 * own both are "/".  A group cannot exceed its parents: the answer is the
 * lowest limit on the way up to the mount point.
 *
 * No allocation: this runs before there is a pool and perhaps inside the first
 * malloc of the process.  Lines beyond LINE_BYTES are cut; no path that long
 * can be opened anyway.
 */
#include "os/impl.h"

#include "base/text.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define CGROUP_PATH_BYTES 1024
#define CGROUP_LINE_BYTES 2048

/* Version 1 writes "no limit" as the largest multiple of a page that fits a
 * long; nothing near it is a limit anybody set. */
#define CGROUP_NO_LIMIT (UINT64_C(1) << 62)

struct cgroup_file {
	int fd;
	size_t at, end;
	char data[1024];
};

struct cgroup_search {
	const char *root; /* before every path */
	bool version_1;
	char group[CGROUP_PATH_BYTES];
	char directory[CGROUP_PATH_BYTES];
};

static bool
cgroup_open(struct cgroup_file *file, const char *root, const char *path)
{
	char name[2 * CGROUP_PATH_BYTES];
	struct weiri_text text = {name, sizeof(name), 0};

	weiri_text_str(&text, root);
	weiri_text_str(&text, path);
	file->at = file->end = 0;
	file->fd =
	    text.used < sizeof(name) ? open(name, O_RDONLY | O_CLOEXEC) : -1;
	return file->fd >= 0;
}

/* The next line without its newline; false at the end of the file. */
static bool
cgroup_line(struct cgroup_file *file, char *line, size_t bytes)
{
	size_t used = 0;
	bool any = false;

	for (;;) {
		if (file->at == file->end) {
			ssize_t got =
			    read(file->fd, file->data, sizeof(file->data));

			if (got <= 0)
				break;
			file->at = 0;
			file->end = (size_t)got;
		}

		char c = file->data[file->at++];

		any = true;
		if (c == '\n')
			break;
		if (used + 1 < bytes)
			line[used++] = c;
	}
	line[used] = '\0';
	return any;
}

/* Is @word one of the comma-separated words of @list? */
static bool
cgroup_has_word(const char *list, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = list; at != NULL; at = strchr(at, ',')) {
		at += *at == ',';
		if (strncmp(at, word, length) == 0 &&
		    (at[length] == ',' || at[length] == '\0'))
			return true;
	}
	return false;
}

static bool
cgroup_copy(char *into, size_t bytes, const char *from)
{
	struct weiri_text text = {into, bytes, 0};

	weiri_text_str(&text, from);
	return text.used < bytes;
}

/* Fills search->group: version 1 where it has the memory controller, since
 * version 2 then has not. */
static bool
cgroup_find_group(struct cgroup_search *search)
{
	struct cgroup_file file;
	char line[CGROUP_LINE_BYTES];
	bool found = false;

	if (!cgroup_open(&file, search->root, "/proc/self/cgroup"))
		return false;
	while (!search->version_1 && cgroup_line(&file, line, sizeof(line))) {
		char *controllers = strchr(line, ':');
		char *path =
		    controllers == NULL ? NULL : strchr(controllers + 1, ':');

		if (path == NULL)
			continue;
		*path++ = '\0';
		controllers++;
		search->version_1 = cgroup_has_word(controllers, "memory");
		if (search->version_1 || *controllers == '\0')
			found = cgroup_copy(
			    search->group, sizeof(search->group), path);
	}
	(void)close(file.fd);
	return found;
}

/* mountinfo writes blanks and backslashes as \ooo. */
static void
cgroup_unescape(char *path)
{
	char *to = path;

	for (char *from = path; *from != '\0';) {
		if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' &&
		    from[2] >= '0' && from[2] <= '7' && from[3] >= '0' &&
		    from[3] <= '7') {
			*to++ = (char)((from[1] - '0') * 64 +
				       (from[2] - '0') * 8 + (from[3] - '0'));
			from += 4;
		} else {
			*to++ = *from++;
		}
	}
	*to = '\0';
}

/* What of @group lies below @root, "" when it is @root itself or elsewhere. */
static const char *
cgroup_below(const char *group, const char *root)
{
	size_t length = strcmp(root, "/") == 0 ? 0 : strlen(root);

	if (strncmp(group, root, length) != 0 ||
	    (group[length] != '/' && group[length] != '\0'))
		return "";
	return strcmp(group + length, "/") == 0 ? "" : group + length;
}

/* Is @line of mountinfo the mount of our hierarchy?  Fills the directory. */
static bool
cgroup_match_mount(struct cgroup_search *search, char *line)
{
	char *field[5]; /* id, parent, device, root, mount point */
	char *at = line;

	for (size_t i = 0; i < WEIRI_COUNT_OF(field); i++) {
		field[i] = at;
		at = strchr(at, ' ');
		if (at == NULL)
			return false;
		*at++ = '\0';
	}

	char *type = strstr(at, " - ");

	if (type == NULL)
		return false;
	type += 3;

	char *options = strrchr(type, ' ');
	bool version_1 = strncmp(type, "cgroup ", 7) == 0;

	if (options == NULL || version_1 != search->version_1)
		return false;
	if (version_1 ? !cgroup_has_word(options + 1, "memory")
		      : strncmp(type, "cgroup2 ", 8) != 0)
		return false;
	cgroup_unescape(field[3]);
	cgroup_unescape(field[4]);

	struct weiri_text text = {
	    search->directory, sizeof(search->directory), 0};

	weiri_text_str(&text, field[4]);
	weiri_text_str(&text, cgroup_below(search->group, field[3]));
	/* The walk upward ends here. */
	search->group[0] = '\0';
	return text.used < sizeof(search->directory) &&
	       cgroup_copy(search->group, sizeof(search->group), field[4]);
}

/* Fills search->directory and leaves the mount point in search->group. */
static bool
cgroup_find_directory(struct cgroup_search *search)
{
	struct cgroup_file file;
	char line[CGROUP_LINE_BYTES];
	bool found = false;

	if (!cgroup_open(&file, search->root, "/proc/self/mountinfo"))
		return false;
	while (!found && cgroup_line(&file, line, sizeof(line)))
		found = cgroup_match_mount(search, line);
	(void)close(file.fd);
	return found;
}

/* The number in the limit file of @directory; "max" and no file: no limit. */
static uint64_t
cgroup_read_limit(const struct cgroup_search *search)
{
	struct cgroup_file file;
	char path[CGROUP_PATH_BYTES + 32];
	char line[32];
	struct weiri_text text = {path, sizeof(path), 0};
	uint64_t limit = 0;

	weiri_text_str(&text, search->directory);
	weiri_text_str(&text,
	    search->version_1 ? "/memory.limit_in_bytes" : "/memory.max");
	if (!cgroup_open(&file, search->root, path))
		return UINT64_MAX;

	bool any = cgroup_line(&file, line, sizeof(line));
	const char *digit = line;

	(void)close(file.fd);
	for (; any && *digit >= '0' && *digit <= '9'; digit++) {
		if (limit >= CGROUP_NO_LIMIT)
			return UINT64_MAX;
		limit = limit * 10 + (uint64_t)(*digit - '0');
	}
	if (!any || digit == line || *digit != '\0')
		return UINT64_MAX;
	return limit >= CGROUP_NO_LIMIT ? UINT64_MAX : limit;
}

static uint64_t
cgroup_lowest(struct cgroup_search *search)
{
	size_t top = strlen(search->group); /* of the mount point */
	uint64_t lowest = UINT64_MAX;

	for (;;) {
		uint64_t limit = cgroup_read_limit(search);
		char *slash = strrchr(search->directory, '/');

		if (limit < lowest)
			lowest = limit;
		if (slash == NULL || (size_t)(slash - search->directory) < top)
			return lowest;
		*slash = '\0';
	}
}

uint64_t
weiri_os_cgroup_limit(const char *root)
{
	struct cgroup_search search = {.root = root};
	int saved = errno;
	uint64_t limit = UINT64_MAX;

	if (cgroup_find_group(&search) && cgroup_find_directory(&search))
		limit = cgroup_lowest(&search);
	errno = saved;
	return limit;
}
