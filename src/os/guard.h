/* SPDX-License-Identifier: MIT */
/*
 * guard.h - what the guard asks of the system: pages that trap, the fault they
 * raise, pages that move, the stack of a thread.  Implemented by os_guard.c and
 * os_move.c; all but the calls marked "setup" are async-signal-safe.
 */
#ifndef WEIRI_OS_GUARD_H
#define WEIRI_OS_GUARD_H

#include "base/compiler.h"

/* ---- pages that trap -------------------------------------------------- */

/*
 * Every access to these whole pages of committed memory traps from now on, and
 * what they held is gone.  Where the system has markers for it they make no
 * mapping of their own; else it is a matter of protection, and each border
 * splits one.  0 or -errno: then the pages are what they were, but may have lost
 * their contents.
 */
int weiri_os_bar(void *address, size_t bytes);
/* The pages read as zero; 0 or -errno. */
int weiri_os_unbar(void *address, size_t bytes);

/*
 * Single pages, as weiri_os_unbar(), by one call where there is a way, else the
 * first alone.  How many were let in, from the first on.
 */
size_t weiri_os_unbar_each(void *const pages[], size_t count);

/* At most, and for tests: there is no such way. */
#define WEIRI_OS_UNBAR_MAX 16
void weiri_os_refuse_unbar_each(bool refuse);

/* True where barred pages split no mapping.  Asks the system once. */
bool weiri_os_bars_merge(void);

/* For tests: as a system without markers, from now on. */
void weiri_os_set_bars_merge(bool merge);

/* For tests: the system answers EINVAL when it is asked for markers.  From the
 * first time on they are set no more. */
void weiri_os_refuse_bars(bool refuse);

/* A reservation that mlockall(MCL_FUTURE) shall not bring in.  Setup. */
void weiri_os_keep_out(void *address, size_t bytes);

/* ---- pages that change places ------------------------------------------ */

/*
 * Pages of this part of a reservation may be moved within it from now on, if
 * the system has a way.  It may take a file descriptor.  The child of a fork has to
 * ask again.  0 or -errno; setup, one thread at a time.
 */
int weiri_os_movable(void *address, size_t bytes);

/*
 * The page at @from, which was written to, is the one at @to from now on, with
 * what it holds, and @from reads as zero.  @to is accessible and was not touched
 * since weiri_os_unbar().  0 or -errno, and nothing moved: -EBADF, -ENOTTY,
 * -EINVAL, -EPERM, -ENOSYS where none ever will.
 */
int weiri_os_move(void *to, void *from);

/* For tests: the system answers @error when it is asked to move, or to be able to;
 * 0: as it is. */
void weiri_os_refuse_moves(int error);

/* ---- faults ------------------------------------------------------------ */

enum weiri_os_access {
	WEIRI_OS_ACCESS_ANY, /* the machine does not tell */
	WEIRI_OS_ACCESS_READ,
	WEIRI_OS_ACCESS_WRITE,
};

struct weiri_os_fault {
	const void *address;
	uintptr_t pc, frame, stack; /* of the thread, there; 0: not known */
	enum weiri_os_access access;
};

/* Called in the signal handler, on the faulting thread.  True: the access is to
 * be tried again.  False: the fault is another's. */
typedef bool (*weiri_os_fault_fn)(const struct weiri_os_fault *fault);

/* Has @trap see faults of memory accesses before the handler that is set now,
 * which gets those that are another's.  0 or -errno; setup. */
int weiri_os_catch_faults(weiri_os_fault_fn trap);

/* Gives the calling thread a stack for handlers, if it has none, until its end;
 * a fault for want of stack could not be handled on the same one.  Setup. */
void weiri_os_handler_stack(void);

/* ---- threads ------------------------------------------------------------ */

/* The calling thread's stack, [*low, *high); false: not known.  Setup. */
bool weiri_os_stack(uintptr_t *low, uintptr_t *high);

/* The system's number of the calling thread. */
uint32_t weiri_os_thread_number(void);

/* ---- looking around ----------------------------------------------------- */

/* Copies what can be read at @address; false if not all can, or the system has
 * no way to try. */
bool weiri_os_peek(const void *address, void *into, size_t bytes);

/* The file that is mapped around @address, and where it begins; false if none
 * is.  @path is cut to fit. */
bool weiri_os_module(
    uintptr_t address, char *path, size_t bytes, uintptr_t *base);

/* The build id, in hexadecimal, of the file that is mapped from @base on; false
 * if there is none to be found. */
#define WEIRI_OS_BUILD_ID_BYTES 65
bool weiri_os_build_id(uintptr_t base, char hex[WEIRI_OS_BUILD_ID_BYTES]);

#endif /* WEIRI_OS_GUARD_H */
