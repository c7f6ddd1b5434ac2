/* SPDX-License-Identifier: MIT */
/*
 * kernel_calls.h - the system calls of the engine and of its back ends, linked to
 * the kernel of kernel_sim.h (ld --wrap).
 *
 * Numbers below KERNEL_FD are the system's, whose calls go on to it.
 */
#ifndef KERNEL_CALLS_H
#define KERNEL_CALLS_H

#include "kernel_sim.h"

#include <sys/resource.h>

/* ---- calls -------------------------------------------------------------------- */

static void
kernel_call(void)
{
	kernel.calls++;
	if (kernel.look != NULL)
		kernel.look();
	kernel_interrupt();
}

static int
kernel_result(ssize_t result)
{
	if (result >= 0)
		return (int)result;
	errno = (int)-result;
	return -1;
}

/* clang-format off */
#define KERNEL_WRAP(type, name, ...) \
	type __real_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__)
/* clang-format on */

uint64_t __real_weiri_os_now_ns(void);
uint64_t __wrap_weiri_os_now_ns(void);

uint64_t
__wrap_weiri_os_now_ns(void)
{
	return kernel.on ? kernel.now_ns : __real_weiri_os_now_ns();
}

KERNEL_WRAP(ssize_t, recv, int fd, void *to, size_t room, int flags)
{
	struct kernel_file *file = kernel_file(fd);

	if (file == NULL)
		return __real_recv(fd, to, room, flags);
	kernel_call();
	return kernel_result(
	    kernel_fault(30) ? -EINTR : kernel_receive(file, to, room));
}

KERNEL_WRAP(ssize_t, send, int fd, const void *from, size_t bytes, int flags)
{
	struct kernel_file *file = kernel_file(fd);
	struct iovec iov = {.iov_len = bytes};

	if (file == NULL)
		return __real_send(fd, from, bytes, flags);
	memcpy(&iov.iov_base, &from, sizeof(from));
	kernel_call();
	return kernel_result(
	    kernel_fault(30) ? -EINTR : kernel_send(file, &iov, 1));
}

KERNEL_WRAP(ssize_t, sendmsg, int fd, const struct msghdr *message, int flags)
{
	struct kernel_file *file = kernel_file(fd);

	if (file == NULL)
		return __real_sendmsg(fd, message, flags);
	kernel_call();
	return kernel_result(
	    kernel_fault(30)
		? -EINTR
		: kernel_send(file, message->msg_iov, message->msg_iovlen));
}

KERNEL_WRAP(
    int, accept4, int fd, struct sockaddr *address, socklen_t *bytes, int flags)
{
	struct kernel_file *file = kernel_file(fd);

	if (file == NULL)
		return __real_accept4(fd, address, bytes, flags);
	kernel_call();
	return kernel_result(kernel_accept(file));
}

KERNEL_WRAP(int, shutdown, int fd, int how)
{
	struct kernel_file *file = kernel_file(fd);

	if (file == NULL)
		return __real_shutdown(fd, how);
	kernel_call();
	CHECK_EQ(how, SHUT_WR);
	return kernel_result(kernel_shut(file));
}

KERNEL_WRAP(int, close, int fd)
{
	if (kernel_file(fd) == NULL)
		return __real_close(fd);
	kernel_call();
	kernel_close(fd);
	return 0;
}

KERNEL_WRAP(int, socket, int family, int type, int protocol)
{
	return kernel.on ? kernel_open(KERNEL_LISTENER, NULL)
			 : __real_socket(family, type, protocol);
}

KERNEL_WRAP(int, bind, int fd, const struct sockaddr *address, socklen_t bytes)
{
	return kernel_file(fd) != NULL ? 0 : __real_bind(fd, address, bytes);
}

KERNEL_WRAP(int, listen, int fd, int backlog)
{
	return kernel_file(fd) != NULL ? 0 : __real_listen(fd, backlog);
}

KERNEL_WRAP(
    int, getsockname, int fd, struct sockaddr *address, socklen_t *bytes)
{
	const struct sockaddr_in name = {
	    .sin_family = AF_INET, .sin_port = htons(1)};

	if (kernel_file(fd) == NULL)
		return __real_getsockname(fd, address, bytes);
	memcpy(address, &name, sizeof(name));
	*bytes = sizeof(name);
	return 0;
}

KERNEL_WRAP(
    int, getpeername, int fd, struct sockaddr *address, socklen_t *bytes)
{
	const struct kernel_file *file = kernel_file(fd);
	struct sockaddr_in name;

	if (file == NULL)
		return __real_getpeername(fd, address, bytes);
	kernel_name_peer(file, &name);
	memcpy(address, &name, sizeof(name));
	*bytes = sizeof(name);
	return 0;
}

/* Of RLIMIT_NOFILE, by which the table of direct descriptors goes. */
KERNEL_WRAP(int, getrlimit, int what, struct rlimit *limit)
{
	if (!kernel.on)
		return __real_getrlimit(what, limit);
	limit->rlim_cur = limit->rlim_max = kernel.descriptors;
	return 0;
}

KERNEL_WRAP(int, setsockopt, int fd, int level, int name, const void *value,
    socklen_t bytes)
{
	return kernel_file(fd) != NULL
		   ? 0
		   : __real_setsockopt(fd, level, name, value, bytes);
}

int __wrap_ioctl(int fd, unsigned long request, void *value);
int __real_ioctl(int fd, unsigned long request, void *value);

/* SIOCOUTQ: has the peer's system everything? */
int
__wrap_ioctl(int fd, unsigned long request, void *value)
{
	if (kernel_file(fd) == NULL)
		return __real_ioctl(fd, request, value);
	kernel_call();
	*(int *)value = kernel_unacknowledged();
	return 0;
}

KERNEL_WRAP(int, eventfd, unsigned count, int flags)
{
	return kernel.on ? kernel_open(KERNEL_EVENT, NULL)
			 : __real_eventfd(count, flags);
}

KERNEL_WRAP(ssize_t, write, int fd, const void *from, size_t bytes)
{
	struct kernel_file *file = kernel_file(fd);

	if (file == NULL)
		return __real_write(fd, from, bytes);
	CHECK_EQ(file->kind, KERNEL_EVENT);
	file->count++;
	return (ssize_t)bytes;
}

KERNEL_WRAP(ssize_t, read, int fd, void *to, size_t bytes)
{
	struct kernel_file *file = kernel_file(fd);

	if (file == NULL)
		return __real_read(fd, to, bytes);
	CHECK_EQ(file->kind, KERNEL_EVENT);
	memcpy(to, &file->count, sizeof(file->count));
	file->count = 0;
	return (ssize_t)sizeof(file->count);
}

/* ---- epoll ----------------------------------------------------------------------- */

KERNEL_WRAP(int, epoll_create1, int flags)
{
	return kernel.on ? kernel_open(KERNEL_EPOLL, NULL)
			 : __real_epoll_create1(flags);
}

KERNEL_WRAP(
    int, epoll_ctl, int poll_fd, int what, int fd, struct epoll_event *event)
{
	struct kernel_file *file = kernel_file(fd);
	bool watched;

	if (file == NULL)
		return __real_epoll_ctl(poll_fd, what, fd, event);
	kernel_call();
	CHECK_EQ(kernel_file(poll_fd)->kind, KERNEL_EPOLL);
	watched = file->watch.data.ptr != NULL;
	if (what == EPOLL_CTL_ADD && watched)
		return kernel_result(-EEXIST);
	if (what != EPOLL_CTL_ADD && !watched)
		return kernel_result(-ENOENT);
	if (what == EPOLL_CTL_ADD && file->kind != KERNEL_EVENT &&
	    kernel_fault(5))
		return kernel_result(-ENOMEM);
	if (what == EPOLL_CTL_DEL)
		file->watch.data.ptr = NULL;
	else
		file->watch = *event;
	return 0;
}

/* What is ready, in an order of no meaning; some of it is not told yet, and some
 * of what is told is not so. */
KERNEL_WRAP(int, epoll_wait, int poll_fd, struct epoll_event *events, int most,
    int timeout_ms)
{
	uint32_t first = sim_below(KERNEL_FILES);
	int count = 0;

	if (kernel_file(poll_fd) == NULL)
		return __real_epoll_wait(poll_fd, events, most, timeout_ms);
	kernel_call();
	kernel_wait(
	    timeout_ms < 0 ? INT64_MAX : timeout_ms * (int64_t)WEIRI_MS);
	if (kernel_fault(10))
		return kernel_result(-EINTR);
	for (uint32_t i = 0; i < KERNEL_FILES && count < most; i++) {
		const struct kernel_file *file =
		    &kernel.file[(first + i) % KERNEL_FILES];
		uint32_t wanted = file->watch.events | EPOLLERR | EPOLLHUP;

		if (!file->open || file->watch.data.ptr == NULL ||
		    kernel_fault(200))
			continue;
		events[count] = file->watch;
		events[count].events = kernel_events(file) & wanted;
		if (kernel_fault(5))
			events[count].events |= file->watch.events & EPOLLIN;
		if (events[count].events != 0)
			count++;
	}
	return count;
}

#endif /* KERNEL_CALLS_H */
