/* SPDX-License-Identifier: MIT */
/*
 * echo_uring.c - an echo server on a bare io_uring, without any safety.
 *
 *     weir-echo-uring --port 7700 &
 *     weir load --port 7700
 *
 * A contender of `weir demo` and of `weir bench net`: what the interface gives
 * when nothing is asked of it but speed.  One multishot accept, one multishot
 * receive a connection out of one ring of buffers, and each piece sent from the
 * buffer it arrived in, which returns to the ring when the send is complete.
 *
 * There is no limit to what a peer that does not read may hold: some of them
 * are enough to keep all buffers, and then everybody's receives end with
 * ENOBUFS and are armed again, for ever.  Nor is there one send at a time: a
 * peer that sends much and reads late may get its pieces in the wrong order.
 */
#include "echo.h"

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define ECHO_ENTRIES 4096u
#define ECHO_COMPLETIONS 32768u
#define ECHO_BUFFERS 4096u
#define ECHO_BUFFER_BYTES 2048u
#define ECHO_PAGE 4096u

enum echo_operation { ECHO_ACCEPT, ECHO_RECEIVE, ECHO_SEND };

struct echo_ring {
	int fd;
	unsigned *sq_head;
	unsigned *sq_tail;
	unsigned *cq_head;
	unsigned *cq_tail;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	unsigned tail;      /* of entries filled */
	unsigned submitted; /* of those, known to the kernel */
	struct io_uring_buf_ring *buffers;
	unsigned short buffers_tail;
	unsigned char *memory;
};

static struct echo_ring echo;

static void
echo_fail(const char *what)
{
	fprintf(stderr, "weir-echo-uring: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- the ring ---------------------------------------------------------- */

static void *
echo_map(size_t bytes, int fd, off_t offset)
{
	int flags =
	    fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_POPULATE;
	void *map =
	    mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, offset);

	if (map == MAP_FAILED)
		echo_fail("no memory");
	return map;
}

static void
echo_setup(void)
{
	struct io_uring_params params = {
	    .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
		     IORING_SETUP_CQSIZE,
	    .cq_entries = ECHO_COMPLETIONS,
	};
	size_t bytes;
	char *map;
	unsigned *array;

	echo.fd = (int)syscall(__NR_io_uring_setup, ECHO_ENTRIES, &params);
	if (echo.fd < 0)
		echo_fail("no io_uring here");
	/* One map holds both queues since Linux 5.4, and this needs 6.1. */
	bytes =
	    params.cq_off.cqes + ECHO_COMPLETIONS * sizeof(struct io_uring_cqe);
	if (bytes < params.sq_off.array + ECHO_ENTRIES * sizeof(unsigned))
		bytes = params.sq_off.array + ECHO_ENTRIES * sizeof(unsigned);
	map = echo_map(bytes, echo.fd, IORING_OFF_SQ_RING);
	echo.sqes = echo_map(ECHO_ENTRIES * sizeof(struct io_uring_sqe),
	    echo.fd, IORING_OFF_SQES);
	echo.sq_head = (void *)(map + params.sq_off.head);
	echo.sq_tail = (void *)(map + params.sq_off.tail);
	echo.cq_head = (void *)(map + params.cq_off.head);
	echo.cq_tail = (void *)(map + params.cq_off.tail);
	echo.cqes = (void *)(map + params.cq_off.cqes);
	array = (void *)(map + params.sq_off.array);
	for (unsigned i = 0; i < ECHO_ENTRIES; i++)
		array[i] = i;
}

static void
echo_return_buffer(unsigned short id)
{
	struct io_uring_buf *entry =
	    &echo.buffers->bufs[echo.buffers_tail & (ECHO_BUFFERS - 1)];

	entry->addr = (uintptr_t)(echo.memory + (size_t)id * ECHO_BUFFER_BYTES);
	entry->len = ECHO_BUFFER_BYTES;
	entry->bid = id;
	echo.buffers_tail++;
}

static void
echo_publish(void)
{
	__atomic_store_n(
	    &echo.buffers->tail, echo.buffers_tail, __ATOMIC_RELEASE);
}

static void
echo_setup_buffers(void)
{
	struct io_uring_buf_reg reg = {.ring_entries = ECHO_BUFFERS};

	echo.memory = echo_map((size_t)ECHO_BUFFERS * ECHO_BUFFER_BYTES, -1, 0);
	echo.buffers =
	    echo_map(ECHO_BUFFERS * sizeof(struct io_uring_buf), -1, 0);
	reg.ring_addr = (uintptr_t)echo.buffers;
	if (syscall(__NR_io_uring_register, echo.fd, IORING_REGISTER_PBUF_RING,
		&reg, 1) != 0)
		echo_fail("no ring of buffers here");
	for (unsigned short id = 0; id < ECHO_BUFFERS; id++)
		echo_return_buffer(id);
	echo_publish();
}

static void
echo_enter(unsigned wait)
{
	unsigned count = echo.tail - echo.submitted;
	long done;

	__atomic_store_n(echo.sq_tail, echo.tail, __ATOMIC_RELEASE);
	done = syscall(__NR_io_uring_enter, echo.fd, count, wait,
	    IORING_ENTER_GETEVENTS, NULL, 0);
	if (done > 0)
		echo.submitted += (unsigned)done;
	else if (done < 0 && errno != EINTR && errno != EAGAIN &&
		 errno != EBUSY)
		echo_fail("the ring failed");
}

/* ---- requests ---------------------------------------------------------- */

/* What a completion is about: operation, buffer and descriptor. */
static uint64_t
echo_data(enum echo_operation operation, unsigned short id, int fd)
{
	return (uint64_t)operation << 48 | (uint64_t)id << 32 | (uint32_t)fd;
}

static struct io_uring_sqe *
echo_entry(uint8_t opcode, int fd, uint64_t data)
{
	struct io_uring_sqe *entry;

	while (echo.tail - echo.submitted == ECHO_ENTRIES)
		echo_enter(0);
	entry = &echo.sqes[echo.tail++ & (ECHO_ENTRIES - 1)];
	memset(entry, 0, sizeof(*entry));
	entry->opcode = opcode;
	entry->fd = fd;
	entry->user_data = data;
	return entry;
}

static void
echo_accept(int listener)
{
	struct io_uring_sqe *entry = echo_entry(
	    IORING_OP_ACCEPT, listener, echo_data(ECHO_ACCEPT, 0, listener));

	entry->ioprio = IORING_ACCEPT_MULTISHOT;
	entry->accept_flags = SOCK_CLOEXEC;
}

static void
echo_receive(int fd)
{
	struct io_uring_sqe *entry =
	    echo_entry(IORING_OP_RECV, fd, echo_data(ECHO_RECEIVE, 0, fd));

	entry->ioprio = IORING_RECV_MULTISHOT;
	entry->flags = IOSQE_BUFFER_SELECT;
}

static void
echo_send(int fd, unsigned short id, unsigned bytes)
{
	struct io_uring_sqe *entry =
	    echo_entry(IORING_OP_SEND, fd, echo_data(ECHO_SEND, id, fd));

	entry->addr = (uintptr_t)(echo.memory + (size_t)id * ECHO_BUFFER_BYTES);
	entry->len = bytes;
	entry->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
}

/* ---- completions ------------------------------------------------------- */

static void
echo_accepted(int listener, const struct io_uring_cqe *cqe)
{
	if (cqe->res >= 0) {
		echo_no_delay(cqe->res);
		echo_receive(cqe->res);
	}
	if ((cqe->flags & IORING_CQE_F_MORE) == 0)
		echo_accept(listener);
}

static void
echo_received(int fd, const struct io_uring_cqe *cqe)
{
	bool more = (cqe->flags & IORING_CQE_F_MORE) != 0;

	if (cqe->res > 0)
		echo_send(fd,
		    (unsigned short)(cqe->flags >> IORING_CQE_BUFFER_SHIFT),
		    (unsigned)cqe->res);
	if (cqe->res <= 0 && cqe->res != -ENOBUFS)
		close(fd);
	else if (!more)
		echo_receive(fd);
}

static void
echo_completed(const struct io_uring_cqe *cqe)
{
	int fd = (int)(uint32_t)cqe->user_data;

	switch (cqe->user_data >> 48) {
	case ECHO_SEND:
		echo_return_buffer((unsigned short)(cqe->user_data >> 32));
		break;
	case ECHO_RECEIVE:
		echo_received(fd, cqe);
		break;
	default:
		echo_accepted(fd, cqe);
	}
}

int
main(int argc, char **argv)
{
	int listener = echo_listen(argc, argv);

	echo_setup();
	echo_setup_buffers();
	echo_accept(listener);
	for (;;) {
		unsigned head, tail;

		echo_enter(1);
		head = *echo.cq_head;
		tail = __atomic_load_n(echo.cq_tail, __ATOMIC_ACQUIRE);
		for (; head != tail; head++)
			echo_completed(
			    &echo.cqes[head & (ECHO_COMPLETIONS - 1)]);
		__atomic_store_n(echo.cq_head, head, __ATOMIC_RELEASE);
		echo_publish();
	}
}
