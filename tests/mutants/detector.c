/* SPDX-License-Identifier: MIT */
/*
 * detector.c - the library's detectors in the build that can do without one.
 *
 *     WEIR_MUTANT_OFF=NAME   the detector of this name sees nothing
 *     WEIR_MUTANT_LOG=FILE   the names of those that saw something are appended
 *                            to it, each once a process, and "!DETAIL" for each
 *                            report that no detector led to
 *
 * Asked in signal handlers and in children of forks, so it takes no lock and no
 * memory.
 */
#include "base/detector.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEEN_MAX 512

static const char *seen[SEEN_MAX];
static __thread bool led; /* a detector said yes since the last report */

static void
detector_log(const char *mark, const char *text)
{
	const char *path = getenv("WEIR_MUTANT_LOG");
	char line[256];
	int fd, length, saved_errno = errno;

	if (path == NULL)
		return;
	length = snprintf(line, sizeof(line), "%s%s\n", mark, text);
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	/* A log that cannot be written would pass for a bug nobody sees. */
	if (fd < 0 || write(fd, line, (size_t)length) != length)
		_exit(124);
	(void)close(fd);
	errno = saved_errno;
}

/* True the first time; of two threads at once both may be the first. */
static bool
detector_is_new(const char *name)
{
	for (size_t i = 0; i < SEEN_MAX; i++) {
		const char *at = __atomic_load_n(&seen[i], __ATOMIC_RELAXED);

		if (at == NULL) {
			__atomic_store_n(&seen[i], name, __ATOMIC_RELAXED);
			return true;
		}
		if (strcmp(at, name) == 0)
			return false;
	}
	_exit(123); /* make the table larger */
}

bool
weiri_detector_is_on(const char *name)
{
	const char *off = getenv("WEIR_MUTANT_OFF");

	if (off != NULL && strcmp(off, name) == 0)
		return false;
	if (detector_is_new(name))
		detector_log("", name);
	led = true;
	return true;
}

void
weiri_detector_reported(const char *detail)
{
	if (!led)
		detector_log("!", detail);
	led = false;
}
