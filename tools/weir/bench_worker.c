/* SPDX-License-Identifier: MIT */
/*
 * bench_worker.c - a worker process: started, listened to, ended in time.
 *
 * A worker dies with its parent (PR_SET_PDEATHSIG) and is in a process group of
 * its own, so that Ctrl-C reaches the benchmark alone.  Its two outputs are read
 * while it runs, so that it never blocks on them, and when its time is over it
 * is killed: no opponent can hang the benchmark.
 */
#include "bench.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORKER_POLL_MS 100
#define WORKER_OUT_BYTES 65536
#define WORKER_ERR_BYTES 4096

/* ---- a child process ----------------------------------------------------- */

struct worker_stream {
	int fd;
	char *text;
	size_t bytes; /* room, with the NUL */
	size_t used;
};

static uint64_t
worker_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

_Noreturn static void
worker_become(char *const argv[], int out, int err, pid_t parent)
{
	int null = open("/dev/null", O_RDONLY);

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0UL, 0UL, 0UL);
	if (getppid() != parent)
		_exit(127); /* it died before the line above */
	signal(SIGPIPE, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
	    dup2(out, STDOUT_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0)
		_exit(127);
	execvp(argv[0], argv);
	fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* Takes what is there; what does not fit is dropped.  False at its end. */
static bool
worker_read(struct worker_stream *stream)
{
	char spill[4096];
	size_t room = stream->bytes - 1 - stream->used;
	ssize_t got =
	    read(stream->fd, room > 0 ? stream->text + stream->used : spill,
		room > 0 ? room : sizeof(spill));

	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	if (got <= 0) {
		close(stream->fd);
		stream->fd = -1;
		return false;
	}
	if (room > 0)
		stream->used += (size_t)got;
	return true;
}

/* 0 when both streams have ended, -ETIME, -EINTR. */
static int
worker_listen(struct worker_stream streams[2], uint64_t limit_ms)
{
	uint64_t end = worker_now_ms() + limit_ms;

	while (streams[0].fd >= 0 || streams[1].fd >= 0) {
		/* poll() overlooks negative descriptors. */
		struct pollfd ready[2] = {
		    {.fd = streams[0].fd, .events = POLLIN},
		    {.fd = streams[1].fd, .events = POLLIN},
		};

		if (bench_stop != 0)
			return -EINTR;
		if (worker_now_ms() >= end)
			return -ETIME;
		if (poll(ready, 2, WORKER_POLL_MS) <= 0)
			continue;
		for (int i = 0; i < 2; i++)
			if (ready[i].revents != 0)
				worker_read(&streams[i]);
	}
	return 0;
}

/* It may close its outputs and go on: the limit holds for its end, too. */
static int
worker_reap(pid_t child, int error, uint64_t limit_ms)
{
	uint64_t end = worker_now_ms() + limit_ms;
	int status = -1;

	while (error == 0) {
		const struct timespec pause = {.tv_nsec = 1000000};
		pid_t ended = waitpid(child, &status, WNOHANG);

		if (ended == child)
			return status;
		if (ended < 0 && errno != EINTR)
			return -errno;
		if (bench_stop != 0)
			error = -EINTR;
		else if (worker_now_ms() >= end)
			error = -ETIME;
		else
			nanosleep(&pause, NULL);
	}
	kill(-child, SIGKILL);
	kill(child, SIGKILL); /* before it had a group of its own */
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return error;
}

int
bench_process_run(char *const argv[], uint64_t limit_ms, char *out,
    size_t out_bytes, char *err, size_t err_bytes)
{
	struct worker_stream streams[2] = {
	    {.text = out, .bytes = out_bytes},
	    {.text = err, .bytes = err_bytes},
	};
	pid_t parent = getpid();
	uint64_t begun = worker_now_ms();
	uint64_t spent;
	int outs[2];
	int errs[2];
	int error;

	fflush(NULL); /* or the child would write it once more */
	if (pipe2(outs, O_CLOEXEC) != 0)
		return -errno;
	if (pipe2(errs, O_CLOEXEC) != 0) {
		error = -errno;
		close(outs[0]);
		close(outs[1]);
		return error;
	}
	pid_t child = fork();
	if (child == 0)
		worker_become(argv, outs[1], errs[1], parent);
	error = child < 0 ? -errno : 0;
	close(outs[1]);
	close(errs[1]);
	streams[0].fd = outs[0];
	streams[1].fd = errs[0];
	if (error == 0) {
		setpgid(child, child); /* whoever is first */
		error = worker_listen(streams, limit_ms);
		spent = worker_now_ms() - begun;
		error = worker_reap(
		    child, error, spent < limit_ms ? limit_ms - spent : 0);
	}
	for (int i = 0; i < 2; i++) {
		if (streams[i].fd >= 0)
			close(streams[i].fd);
		streams[i].text[streams[i].used] = '\0';
	}
	return error;
}

/* ---- what a worker says ---------------------------------------------------- */

bool
bench_worker_path(
    const char *directory, const char *peer, char path[BENCH_PATH_BYTES])
{
	snprintf(
	    path, BENCH_PATH_BYTES, "%s/bench/weir-bench-%s", directory, peer);
	return access(path, X_OK) == 0;
}

/* "case metric value unit"; false for a line that is none. */
static bool
worker_figure(char *line, bench_figure_fn figure, void *context)
{
	char *save;
	const char *name = strtok_r(line, " ", &save);
	const char *metric = strtok_r(NULL, " ", &save);
	const char *text = strtok_r(NULL, " ", &save);
	char *end;

	if (name == NULL || metric == NULL || text == NULL || *save == '\0')
		return false;
	double value = strtod(text, &end);
	if (*end != '\0')
		return false;
	figure(context, name, metric, value, save);
	return true;
}

static void
worker_line(char *line, bench_figure_fn figure, void *context,
    struct bench_worker_result *result)
{
	char copy[61];

	snprintf(copy, sizeof(copy), "%s", line);
	if (strncmp(line, "version ", 8) == 0) {
		/* The name first, as the worker knows itself. */
		const char *text = strchr(line + 8, ' ');

		snprintf(result->version, sizeof(result->version), "%s",
		    text != NULL ? text + 1 : line + 8);
	} else if (strncmp(line, "skip ", 5) == 0) {
		result->outcome = BENCH_SKIPPED;
		snprintf(result->text, sizeof(result->text), "%s", line + 5);
	} else if (!worker_figure(line, figure, context) &&
		   result->outcome == BENCH_PLAYED) {
		result->outcome = BENCH_FAILED;
		snprintf(result->text, sizeof(result->text),
		    "said '%s', which is no figure", copy);
	}
}

/* Adds the first line of what it complained, without control characters. */
static void
worker_complaint(const char *err, char *text, size_t bytes)
{
	size_t used = strlen(text);

	if (*err != '\0' && *err != '\n')
		used += (size_t)snprintf(text + used, bytes - used, ": ");
	while (*err != '\0' && *err != '\n' && used + 1 < bytes) {
		if (isprint((unsigned char)*err))
			text[used++] = *err;
		err++;
	}
	text[used] = '\0';
}

static void
worker_failed(struct bench_worker_result *result,
    const struct bench_worker_job *job, int status, const char *err)
{
	char *text = result->text;
	size_t bytes = sizeof(result->text);

	result->outcome = BENCH_FAILED;
	if (status == -EINTR)
		result->outcome = BENCH_INTERRUPTED;
	else if (status == -ETIME)
		snprintf(text, bytes, "took more than %" PRIu64 " s",
		    job->limit_ms / 1000);
	else if (status < 0)
		snprintf(text, bytes, "no process: %s", strerror(-status));
	else if (WIFSIGNALED(status))
		snprintf(text, bytes, "died of signal %d", WTERMSIG(status));
	else
		snprintf(text, bytes, "status %d", WEXITSTATUS(status));
	if (status > 0)
		worker_complaint(err, text, bytes);
}

void
bench_worker_run(const struct bench_worker_job *job, bench_figure_fn figure,
    void *context, struct bench_worker_result *result)
{
	static char out[WORKER_OUT_BYTES];
	static char err[WORKER_ERR_BYTES];
	static char path[BENCH_PATH_BYTES];
	char suite[BENCH_NAME_BYTES];
	char only[BENCH_NAME_BYTES];
	char numbers[3][24];
	char *argv[] = {
	    path, suite, numbers[0], only, numbers[1], numbers[2], NULL};
	char *save;

	memset(result, 0, sizeof(*result));
	bench_worker_path(job->directory, job->peer, path);
	snprintf(suite, sizeof(suite), "%s", job->suite);
	snprintf(only, sizeof(only), "%s", job->only != NULL ? job->only : "-");
	snprintf(numbers[0], sizeof(numbers[0]), "%" PRIu64, job->case_ms);
	snprintf(numbers[1], sizeof(numbers[1]), "%" PRIu64, job->decay_ops);
	snprintf(numbers[2], sizeof(numbers[2]), "%" PRIu64, job->live_bytes);
	int status = bench_process_run(
	    argv, job->limit_ms, out, sizeof(out), err, sizeof(err));
	/* A last line without an end was cut by the end of the process. */
	char *end = strrchr(out, '\n');
	if (end != NULL)
		*end = '\0';
	else
		out[0] = '\0';
	for (char *line = strtok_r(out, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save))
		worker_line(line, figure, context, result);
	if (status != 0)
		worker_failed(result, job, status, err);
}
