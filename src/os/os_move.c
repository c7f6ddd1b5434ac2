/* SPDX-License-Identifier: MIT */
/*
 * os_move.c - pages that change places.
 *
 * Memory that one address gives back and another asks for goes through the
 * system's hands: zapped, uncharged, freed; taken, charged, cleared, and let in by
 * a fault.  Linux 6.8 can put the page itself elsewhere (UFFDIO_MOVE), for half of
 * the price, if the range was made known to a userfaultfd.  It is only that which
 * the descriptor is for: the mode it is registered with concerns pages that are
 * write-protected through it, of which there are none.  So every fault stays what
 * it is, and when the descriptor is gone - a daemon closes all it has, a fork has
 * none of its own - nothing is lost but the way to move.
 *
 * The descriptor is a number that the program may close, and have for a file of
 * its own afterwards.  A file that is no userfaultfd answers ENOTTY, one of another
 * process's memory EINVAL; after either no more is moved.
 */
#include "os/guard.h"
#include "os/impl.h"

static int move_refused; /* for tests: the system answers with this error */

void
weiri_os_refuse_moves(int error)
{
	WEIRI_STORE(&move_refused, error);
}

#ifdef __linux__

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of <linux/userfaultfd.h>, which is older than what is needed of it, or is not
 * there. */
#define MOVE_USER_MODE_ONLY 1 /* without privileges: Linux 5.11 */
#define MOVE_API UINT64_C(0xaa)
#define MOVE_FEATURE (UINT64_C(1) << 16)
#define MOVE_BY_PROTECTION (UINT64_C(1) << 1)

struct move_api {
	uint64_t api, features, calls;
};

struct move_register {
	uint64_t start, bytes, mode, calls;
};

struct move_page {
	uint64_t to, from, bytes, mode;
	int64_t moved;
};

#define MOVE_CALL_API _IOWR(0xaa, 0x3f, struct move_api)
#define MOVE_CALL_REGISTER _IOWR(0xaa, 0x00, struct move_register)
#define MOVE_CALL_PAGE _IOWR(0xaa, 0x05, struct move_page)

/* Out of the way of programs that count on the lowest numbers. */
#define MOVE_FILE_LEAST 256

static struct {
	int file; /* plus 1; 0: none; atomic */
	pid_t process;
	dev_t device;
	ino_t inode;
	int filter; /* of system calls, when it was opened; plus 1 */
} move;

/* Not ioctl(), whose second argument has a type in each C library. */
static int
move_call(int file, unsigned long call, void *argument)
{
	int refused = WEIRI_LOAD(&move_refused);

	if (refused != 0)
		return -refused;
	return syscall(SYS_ioctl, file, call, argument) < 0 ? -errno : 0;
}

static int
move_open(void)
{
	struct move_api api = {.api = MOVE_API, .features = MOVE_FEATURE};
	int file, error, high;

#ifdef SYS_userfaultfd
	file = (int)syscall(SYS_userfaultfd, O_CLOEXEC | MOVE_USER_MODE_ONLY);
#else
	file = -1;
	errno = ENOSYS;
#endif
	if (file < 0)
		return -errno;
	error = move_call(file, MOVE_CALL_API, &api);
	if (error != 0) {
		(void)close(file);
		return error;
	}
	high = fcntl(file, F_DUPFD_CLOEXEC, MOVE_FILE_LEAST);
	if (high >= 0)
		(void)close(file);
	return high >= 0 ? high : file;
}

/* Is the descriptor still the file that was opened, of whatever process? */
static bool
move_is_own(int file, struct stat *now)
{
	return fstat(file, now) == 0 && now->st_dev == move.device &&
	       now->st_ino == move.inode;
}

/* A descriptor for this process; 0 or -errno. */
static int
move_start(void)
{
	int filter = prctl(PR_GET_SECCOMP) + 1;
	int file = WEIRI_LOAD(&move.file) - 1;
	struct stat status;

	if (file >= 0 && move.process == getpid())
		return 0;
	WEIRI_STORE(&move.file, 0);
	/* What is left of a parent's keeps nothing here. */
	if (file >= 0 && move_is_own(file, &status))
		(void)close(file);
	/* A filter that came meanwhile may end who calls what it does not
	 * expect. */
	if (move.filter != 0 && move.filter != filter)
		return -EPERM;
	file = move_open();
	if (file < 0)
		return file;
	if (fstat(file, &status) != 0) {
		(void)close(file);
		return -EBADF;
	}
	move.process = getpid();
	move.device = status.st_dev;
	move.inode = status.st_ino;
	move.filter = filter;
	WEIRI_STORE(&move.file, file + 1);
	return 0;
}

int
weiri_os_movable(void *address, size_t bytes)
{
	struct move_register range = {
	    .start = (uintptr_t)address,
	    .bytes = weiri_os_whole(address, bytes),
	    .mode = MOVE_BY_PROTECTION,
	};
	int saved = errno;
	int error;

	if (weiri_os_injected())
		return -ENOMEM;
	error = move_start();
	if (error == 0)
		error = move_call(
		    WEIRI_LOAD(&move.file) - 1, MOVE_CALL_REGISTER, &range);
	errno = saved;
	return error;
}

int
weiri_os_move(void *to, void *from)
{
	struct move_page page = {
	    .to = (uintptr_t)to,
	    .from = (uintptr_t)from,
	    .bytes = weiri_os_page_bytes(),
	};
	int file = WEIRI_LOAD(&move.file) - 1;
	int saved = errno;
	int error;

	if (weiri_os_injected())
		return -ENOMEM;
	if (file < 0)
		return -EBADF;
	error = move_call(file, MOVE_CALL_PAGE, &page);
	errno = saved;
	return error;
}

#else

int
weiri_os_movable(void *address, size_t bytes)
{
	(void)address;
	(void)bytes;
	return -ENOSYS;
}

int
weiri_os_move(void *to, void *from)
{
	(void)to;
	(void)from;
	return -ENOSYS;
}

#endif
