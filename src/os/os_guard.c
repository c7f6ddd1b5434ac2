/* SPDX-License-Identifier: MIT */
/*
 * os_guard.c - pages that trap, and the fault they raise.
 *
 * Linux 6.13 has guard markers: an entry of the page table that says "no", set
 * and taken away by madvise().  A hundred thousand of them are one mapping, and
 * a marker costs half of what mprotect() does.  Where a kernel does not know
 * them pages are taken out by protection; then a process has its 65,530 mappings
 * at thirty thousand objects.  So it is under valgrind, too, which knows nothing of
 * markers: its search for leaks reads what it takes for memory, and gets a signal
 * for each page, which it takes milliseconds for.
 *
 * A program may have a handler of its own for SIGSEGV and SIGBUS, set before
 * ours.  It gets every fault that is not ours, in the way it asked for: with or
 * without siginfo.  One that is set after ours replaces it, as with any handler.
 *
 * Reading memory that may not be there is done by the kernel: process_vm_readv()
 * on the own process answers EFAULT where a load would trap.
 */
#include "os/guard.h"
#include "os/impl.h"

#include "base/annotate.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/syscall.h>
#include <sys/uio.h>
#endif

/* Younger than the headers; other kernels answer EINVAL. */
#define GUARD_INSTALL 102 /* MADV_GUARD_INSTALL, Linux 6.13 */
#define GUARD_REMOVE 103

/* Handlers of a program run on it too, so it has what a thread's own may. */
#define GUARD_STACK_BYTES ((size_t)64 << 10)

/* ---- pages that trap ---------------------------------------------------- */

enum guard_way {
	GUARD_UNKNOWN,
	GUARD_MARKERS,
	GUARD_PROTECTION,
	/* Markers were refused since, as for locked memory, and there are some:
	 * what traps from now on is protected. */
	GUARD_BOTH,
};

static int guard_way;      /* enum guard_way */
static bool guard_refused; /* for tests: the system refuses markers now */

#ifdef __linux__
static bool
guard_try_markers(void)
{
	size_t page = weiri_os_page_bytes();
	int saved = errno;
	bool works = false;
	void *probe = mmap(NULL, page, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (probe != MAP_FAILED) {
		works = madvise(probe, page, GUARD_INSTALL) == 0;
		(void)munmap(probe, page);
	}
	errno = saved;
	return works;
}
#else
static bool
guard_try_markers(void)
{
	return false;
}
#endif

bool
weiri_os_bars_merge(void)
{
	int way = WEIRI_LOAD(&guard_way);

	if (way == GUARD_UNKNOWN) {
		way = guard_try_markers() && !weiri_annotate_is_valgrind()
			  ? GUARD_MARKERS
			  : GUARD_PROTECTION;
		WEIRI_STORE(&guard_way, way);
	}
	return way == GUARD_MARKERS;
}

void
weiri_os_set_bars_merge(bool merge)
{
	WEIRI_STORE(&guard_way, merge ? GUARD_MARKERS : GUARD_PROTECTION);
}

void
weiri_os_refuse_bars(bool refuse)
{
	WEIRI_STORE(&guard_refused, refuse);
}

/* 0, or the error of the system. */
static int
guard_mark(void *address, size_t bytes, int saved)
{
	if (WEIRI_LOAD(&guard_refused))
		return -EINVAL;
	return weiri_os_result(madvise(address, bytes, GUARD_INSTALL), saved);
}

int
weiri_os_bar(void *address, size_t bytes)
{
	bytes = weiri_os_whole(address, bytes);
	if (weiri_os_injected())
		return -ENOMEM;

	int saved = errno;

	if (weiri_os_bars_merge()) {
		int error = guard_mark(address, bytes, saved);

		if (error != -EINVAL)
			return error;
		WEIRI_STORE(&guard_way, GUARD_BOTH);
	}
	if (mprotect(address, bytes, PROT_NONE) != 0)
		return weiri_os_result(-1, saved);
	(void)madvise(address, bytes, MADV_DONTNEED);
	errno = saved;
	return 0;
}

int
weiri_os_unbar(void *address, size_t bytes)
{
	bytes = weiri_os_whole(address, bytes);
	if (weiri_os_injected())
		return -ENOMEM;

	int saved = errno;

	if (weiri_os_bars_merge())
		return weiri_os_result(
		    madvise(address, bytes, GUARD_REMOVE), saved);
	if (WEIRI_LOAD(&guard_way) == GUARD_BOTH)
		(void)madvise(address, bytes, GUARD_REMOVE);
	return weiri_os_result(
	    mprotect(address, bytes, PROT_READ | PROT_WRITE), saved);
}

/* Linux 6.15: the calling process, where a descriptor of one is asked for.  Before
 * 6.13 a process could not advise itself of anything by a list. */
#define GUARD_SELF (-10001) /* PIDFD_SELF_THREAD_GROUP */

static bool guard_no_lists; /* the system refused one */

void
weiri_os_refuse_unbar_each(bool refuse)
{
	WEIRI_STORE(&guard_no_lists, refuse);
}

#if defined(__linux__) && defined(SYS_process_madvise)
static size_t
guard_unmark_each(void *const pages[], size_t count)
{
	struct iovec list[WEIRI_OS_UNBAR_MAX];
	size_t page = weiri_os_page_bytes();
	int saved = errno;
	long advised;

	for (size_t i = 0; i < count; i++)
		list[i] = (struct iovec){pages[i], page};
	advised = syscall(
	    SYS_process_madvise, GUARD_SELF, list, count, GUARD_REMOVE, 0);
	if (advised < 0 && errno != ENOMEM && errno != EAGAIN)
		WEIRI_STORE(&guard_no_lists, true);
	errno = saved;
	return advised > 0 ? (size_t)advised / page : 0;
}
#else
static size_t
guard_unmark_each(void *const pages[], size_t count)
{
	(void)pages;
	(void)count;
	return 0;
}
#endif

size_t
weiri_os_unbar_each(void *const pages[], size_t count)
{
	size_t done = 0;

	WEIR_ASSERT(count > 0 && count <= WEIRI_OS_UNBAR_MAX);
	if (count > 1 && weiri_os_bars_merge() &&
	    !WEIRI_LOAD(&guard_no_lists) && !weiri_os_injected())
		done = guard_unmark_each(pages, count);
	if (done == 0 && weiri_os_unbar(pages[0], weiri_os_page_bytes()) == 0)
		done = 1;
	return done;
}

void
weiri_os_keep_out(void *address, size_t bytes)
{
	int saved = errno;

	(void)munlock(address, bytes);
	errno = saved;
}

/* ---- faults -------------------------------------------------------------- */

static const int guard_signals[] = {SIGSEGV, SIGBUS};

#define GUARD_SIGNALS (sizeof(guard_signals) / sizeof(guard_signals[0]))

static struct sigaction guard_before[GUARD_SIGNALS];
static weiri_os_fault_fn guard_trap;

static void
guard_read_context(struct weiri_os_fault *fault, const ucontext_t *context)
{
#if defined(__linux__) && defined(__x86_64__)
	const greg_t *regs = context->uc_mcontext.gregs;

	fault->pc = (uintptr_t)regs[REG_RIP];
	fault->frame = (uintptr_t)regs[REG_RBP];
	fault->stack = (uintptr_t)regs[REG_RSP];
	fault->access = (regs[REG_ERR] & 2) != 0 ? WEIRI_OS_ACCESS_WRITE
						 : WEIRI_OS_ACCESS_READ;
#elif defined(__linux__) && defined(__aarch64__)
	fault->pc = (uintptr_t)context->uc_mcontext.pc;
	fault->frame = (uintptr_t)context->uc_mcontext.regs[29];
	fault->stack = (uintptr_t)context->uc_mcontext.sp;
#else
	(void)fault;
	(void)context;
#endif
}

/* As if the program's own handler had been called. */
static void
guard_pass_on(int number, siginfo_t *info, void *context)
{
	const struct sigaction *before = &guard_before[0];

	for (size_t i = 0; i < GUARD_SIGNALS; i++)
		if (guard_signals[i] == number)
			before = &guard_before[i];
	if ((before->sa_flags & SA_SIGINFO) != 0) {
		before->sa_sigaction(number, info, context);
		return;
	}
	if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
		before->sa_handler(number);
		return;
	}
	/* The access is tried again, and ends the process as it would have;
	 * a signal that was sent is sent once more. */
	(void)signal(number, SIG_DFL);
	if (info->si_code <= 0)
		(void)raise(number);
}

static void
guard_handle(int number, siginfo_t *info, void *context)
{
	struct weiri_os_fault fault = {.address = info->si_addr};
	int saved = errno;
	bool ours = false;

	/* Others than the kernel's have no address. */
	if (info->si_code > 0) {
		guard_read_context(&fault, context);
		ours = guard_trap(&fault);
	}
	errno = saved;
	if (!ours)
		guard_pass_on(number, info, context);
}

int
weiri_os_catch_faults(weiri_os_fault_fn trap)
{
	struct sigaction action = {
	    .sa_sigaction = guard_handle,
	    /* Not masked meanwhile: a fault in a report is to end it. */
	    .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER,
	};
	int saved = errno;
	int error = 0;

	(void)sigemptyset(&action.sa_mask);
	guard_trap = trap;
	for (size_t i = 0; i < GUARD_SIGNALS && error == 0; i++)
		error = weiri_os_result(
		    sigaction(guard_signals[i], &action, &guard_before[i]),
		    saved);
	return error;
}

/* ---- stacks of handlers -------------------------------------------------- */

static pthread_key_t guard_stack_key;
static bool guard_stack_key_made;
static weiri_once guard_stack_once = WEIRI_ONCE_INITIALIZER;

static void
guard_stack_end(void *stack)
{
	const stack_t none = {.ss_flags = SS_DISABLE};

	(void)sigaltstack(&none, NULL);
	(void)munmap(stack, GUARD_STACK_BYTES);
}

static void
guard_stack_init(void)
{
	guard_stack_key_made =
	    pthread_key_create(&guard_stack_key, guard_stack_end) == 0;
}

static void
guard_stack_set(void)
{
	stack_t stack = {.ss_size = GUARD_STACK_BYTES};

	stack.ss_sp = mmap(NULL, GUARD_STACK_BYTES, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack.ss_sp != MAP_FAILED &&
	    (pthread_setspecific(guard_stack_key, stack.ss_sp) != 0 ||
		sigaltstack(&stack, NULL) != 0)) {
		(void)pthread_setspecific(guard_stack_key, NULL);
		(void)munmap(stack.ss_sp, GUARD_STACK_BYTES);
	}
}

void
weiri_os_handler_stack(void)
{
	int saved = errno;
	stack_t before;

	weiri_os_once(&guard_stack_once, guard_stack_init);
	if (guard_stack_key_made && sigaltstack(NULL, &before) == 0 &&
	    (before.ss_flags & SS_DISABLE) != 0)
		guard_stack_set();
	errno = saved;
}

/* ---- threads ------------------------------------------------------------- */

#ifdef __linux__
bool
weiri_os_stack(uintptr_t *low, uintptr_t *high)
{
	pthread_attr_t attr;
	void *base = NULL;
	size_t bytes = 0;
	int saved = errno;
	bool known = false;

	if (pthread_getattr_np(pthread_self(), &attr) == 0) {
		known = pthread_attr_getstack(&attr, &base, &bytes) == 0;
		(void)pthread_attr_destroy(&attr);
	}
	errno = saved;
	*low = (uintptr_t)base;
	*high = (uintptr_t)base + bytes;
	return known;
}

uint32_t
weiri_os_thread_number(void)
{
	return (uint32_t)syscall(SYS_gettid);
}

bool
weiri_os_peek(const void *address, void *into, size_t bytes)
{
	/* Not the pointer of a const: the call takes one type for both. */
	struct iovec from = {(void *)(uintptr_t)address, bytes};
	struct iovec to = {into, bytes};
	int saved = errno;
	ssize_t got = process_vm_readv(getpid(), &to, 1, &from, 1, 0);

	errno = saved;
	return got == (ssize_t)bytes;
}
#else
bool
weiri_os_stack(uintptr_t *low, uintptr_t *high)
{
	*low = *high = 0;
	return false;
}

uint32_t
weiri_os_thread_number(void)
{
	return (uint32_t)getpid();
}

bool
weiri_os_peek(const void *address, void *into, size_t bytes)
{
	(void)address;
	(void)into;
	(void)bytes;
	return false;
}
#endif

/* ---- modules ------------------------------------------------------------- */

/* One line of /proc/self/maps: "first-end rwxp offset dev inode    path". */
struct guard_line {
	uintptr_t first, end;
	unsigned field;
	char path[256];
	size_t path_used;
};

/* What the lines so far say: the mapping that @address is in, and the first one
 * of the same file. */
struct guard_search {
	uintptr_t address;
	char *path;
	size_t bytes;
	uintptr_t base;
	char file[256];
	bool found;
};

static void
guard_line_char(struct guard_line *line, char c)
{
	unsigned digit = 16;

	if (c >= '0' && c <= '9')
		digit = (unsigned)(c - '0');
	else if (c >= 'a' && c <= 'f')
		digit = (unsigned)(c - 'a') + 10;
	if (line->field == 0 && digit < 16)
		line->first = line->first << 4 | digit;
	else if (line->field == 1 && digit < 16)
		line->end = line->end << 4 | digit;
	else if (c == '/' || line->path_used > 0) {
		if (line->path_used < sizeof(line->path) - 1)
			line->path[line->path_used++] = c;
	} else if (c == '-' || c == ' ') {
		line->field++;
	}
}

static void
guard_line_end(struct guard_line *line, struct guard_search *search)
{
	line->path[line->path_used] = '\0';
	if (line->path_used > 0 && strcmp(line->path, search->file) != 0) {
		memcpy(search->file, line->path, line->path_used + 1);
		search->base = line->first;
	}
	search->found = line->path_used > 0 && search->address >= line->first &&
			search->address < line->end;
	*line = (struct guard_line){0};
}

bool
weiri_os_module(uintptr_t address, char *path, size_t bytes, uintptr_t *base)
{
	struct guard_search search = {.address = address};
	struct guard_line line = {0};
	char part[256];
	ssize_t got;
	int saved = errno;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		errno = saved;
		return false;
	}
	while (!search.found && (got = read(fd, part, sizeof(part))) > 0)
		for (ssize_t i = 0; i < got && !search.found; i++) {
			if (part[i] != '\n')
				guard_line_char(&line, part[i]);
			else
				guard_line_end(&line, &search);
		}
	(void)close(fd);
	errno = saved;
	if (!search.found)
		return false;

	size_t length = strlen(search.file);

	if (length >= bytes)
		length = bytes - 1;
	memcpy(path, search.file, length);
	path[length] = '\0';
	*base = search.base;
	return true;
}
