/* SPDX-License-Identifier: MIT */
/*
 * demo_server.c - the process of a contender: start, figures, stop.
 *
 * A server dies with its parent (PR_SET_PDEATHSIG), so that not even a killed
 * demo leaves one behind, and is in a process group of its own, so that Ctrl-C
 * reaches the demo alone, which then ends the servers in order.
 */
#include "demo.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERVER_START_MS 5000
#define SERVER_STOP_MS 2000
#define SERVER_POLL_MS 10
#define SERVER_CPU 0
#define SERVER_ARGUMENTS_MAX 24

#define WEIR(backend, memory) NULL, NULL, backend, memory
#define OTHER(program, package) program, package, NULL, NULL
#define SERVER_ROW(id, name, usual, kind, text) {name, text, kind, usual},
const struct demo_contender demo_contenders[DEMO_ID_COUNT] = {
    DEMO_CONTENDERS(SERVER_ROW)};
#undef SERVER_ROW
#undef OTHER
#undef WEIR

static void
server_path(const struct demo_settings *set, const char *program, char *path)
{
	if (program == NULL)
		snprintf(path, DEMO_PATH_BYTES, "/proc/self/exe");
	else
		snprintf(
		    path, DEMO_PATH_BYTES, "%s/%s", set->directory, program);
}

void
demo_server_where(const struct demo_settings *set, const char *package,
    char *why, size_t why_bytes)
{
	char built[96] = "";

	if (package != NULL)
		snprintf(built, sizeof(built),
		    "; it is built only where %s is installed", package);
	snprintf(why, why_bytes,
	    "not %s%.200s%s: run script/demo in the source tree, or name the "
	    "build directory with --directory%s",
	    set->directory_given ? "in " : "beside this program (",
	    set->directory, set->directory_given ? "" : ")", built);
}

bool
demo_server_exists(const struct demo_settings *set, enum demo_id id, char *why,
    size_t why_bytes)
{
	const struct demo_contender *contender = &demo_contenders[id];
	char path[DEMO_PATH_BYTES];

	server_path(set, contender->program, path);
	if (access(path, X_OK) == 0)
		return true;
	demo_server_where(set, contender->package, why, why_bytes);
	return false;
}

static void
server_preload(const struct demo_settings *set, const char *count_file)
{
	char path[DEMO_PATH_BYTES];

	if (count_file == NULL)
		return;
	server_path(set, "weir-count.so", path);
	setenv("LD_PRELOAD", path, 1);
	setenv(COUNT_FILE_VARIABLE, count_file, 1);
}

/* In the child: becomes the server; never returns. */
_Noreturn static void
server_become(const struct demo_settings *set, enum demo_id id,
    const char *count_file, int output, int log, pid_t parent)
{
	const struct demo_contender *contender = &demo_contenders[id];
	const char *own[] = {"weir", "serve", "--address", "127.0.0.1",
	    "--port", "0", "--threads", "1", "--memory", contender->memory,
	    "--backend", contender->backend, NULL};
	const char *other[] = {contender->program, "--address", "127.0.0.1",
	    "--port", "0", "--threads", "1", NULL};
	const char *const *more = set->serve_options;
	char *arguments[SERVER_ARGUMENTS_MAX + 1] = {NULL};
	size_t count = 0;
	const char **from = contender->program == NULL ? own : other;
	char path[DEMO_PATH_BYTES];

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0UL, 0UL, 0UL);
	if (getppid() != parent)
		_exit(127); /* it died before the line above */
	signal(SIGPIPE, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	if (set->pinned)
		demo_pin(SERVER_CPU);
	if (dup2(output, STDOUT_FILENO) < 0 ||
	    (log >= 0 && dup2(log, STDERR_FILENO) < 0))
		_exit(127);
	server_preload(set, count_file);
	server_path(set, contender->program, path);
	for (size_t i = 0; from[i] != NULL; i++)
		arguments[count++] = strdup(from[i]);
	for (size_t i = 0; from == own && more != NULL && more[i] != NULL &&
			   count < SERVER_ARGUMENTS_MAX;
	     i++)
		arguments[count++] = strdup(more[i]);
	execv(path, arguments);
	fprintf(
	    stderr, "weir demo: cannot run %s: %s\n", path, strerror(errno));
	_exit(127);
}

/* Reads the line "listening on ADDR:PORT"; 0 or -errno. */
static int
server_read_port(struct demo_server *server)
{
	char line[256];
	size_t used = 0;
	unsigned waited = 0;

	while (used < sizeof(line) - 1) {
		struct pollfd ready = {.fd = server->output, .events = POLLIN};
		int count = poll(&ready, 1, 100);

		if (demo_stop != 0)
			return -EINTR;
		if (count <= 0) {
			waited += 100;
			if (waited >= SERVER_START_MS)
				return -ETIMEDOUT;
			continue;
		}
		if (read(server->output, line + used, 1) != 1)
			return -EPIPE;
		if (line[used] == '\n')
			break;
		used++;
	}
	line[used] = '\0';
	const char *colon = strrchr(line, ':');
	unsigned long port = colon == NULL ? 0 : strtoul(colon + 1, NULL, 10);
	if (port == 0 || port > 65535)
		return -EPROTO;
	server->port = (uint16_t)port;
	return 0;
}

static const char *
server_explain(int error)
{
	switch (error) {
	case -ETIMEDOUT:
		return "it did not say that it listens within 5 s";
	case -EPIPE:
		return "it ended at once";
	case -EPROTO:
		return "its first line is not 'listening on ADDR:PORT'";
	case -EINTR:
		return "interrupted";
	default:
		return strerror(-error);
	}
}

int
demo_server_greeted(struct demo_server *server)
{
	int error = server_read_port(server);

	return error == 0 ? -clock_getcpuclockid(server->pid, &server->clock)
			  : error;
}

int
demo_server_start(struct demo_server *server, const struct demo_settings *set,
    enum demo_id id, const char *count_file, char *why, size_t why_bytes)
{
	int ends[2];
	pid_t parent = getpid();
	int error;

	memset(server, 0, sizeof(*server));
	server->log = memfd_create("weir-log", MFD_CLOEXEC);
	fflush(NULL); /* or the child would write it once more */
	if (pipe2(ends, O_CLOEXEC) != 0) {
		error = -errno;
		close(server->log);
		goto failed;
	}
	server->pid = fork();
	if (server->pid == 0)
		server_become(
		    set, id, count_file, ends[1], server->log, parent);
	error = server->pid < 0 ? -errno : 0;
	if (server->pid > 0)
		setpgid(server->pid, server->pid); /* whoever is first */
	close(ends[1]);
	server->output = ends[0];
	if (error == 0)
		error = demo_server_greeted(server);
	if (error == 0)
		return 0;
	if (server->pid < 0) {
		server->pid = 0;
		close(server->log);
		close(server->output);
	}
	demo_server_stop(server);
failed:
	snprintf(why, why_bytes, "did not start: %s", server_explain(error));
	return error;
}

static uint64_t
server_status_bytes(const struct demo_server *server, const char *field)
{
	char path[64];
	char line[128];
	uint64_t kib = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%ld/status", (long)server->pid);
	file = fopen(path, "re");
	if (file == NULL)
		return 0;
	while (fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, field, strlen(field)) == 0)
			kib = strtoull(line + strlen(field), NULL, 10);
	fclose(file);
	return kib * 1024;
}

uint64_t
demo_server_peak_rss(const struct demo_server *server)
{
	return server_status_bytes(server, "VmHWM:");
}

uint64_t
demo_server_memory(const struct demo_server *server)
{
	return server_status_bytes(server, "RssAnon:");
}

/*
 * What a server wrote to its standard error is of interest when it failed, and
 * noise in a table when it did not.
 */
static void
server_close_log(const struct demo_server *server, int status)
{
	bool failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
	char text[4096];
	ssize_t bytes;

	if (server->log < 0)
		return;
	lseek(server->log, 0, SEEK_SET);
	while (failed && (bytes = read(server->log, text, sizeof(text))) > 0)
		fwrite(text, 1, (size_t)bytes, stderr);
	close(server->log);
}

/* Takes what the server still says, so that it never blocks on its pipe. */
static void
server_drain_output(const struct demo_server *server)
{
	struct pollfd ready = {.fd = server->output, .events = POLLIN};
	char text[4096];

	while (poll(&ready, 1, 0) > 0 &&
	       read(server->output, text, sizeof(text)) > 0)
		;
}

/* Has it ended?  It stays a zombie, so that its number keeps its meaning. */
static bool
server_has_ended(const struct demo_server *server)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)server->pid, &info,
		   WEXITED | WNOHANG | WNOWAIT) != 0 ||
	       info.si_pid != 0;
}

bool
demo_server_stop(struct demo_server *server)
{
	const struct timespec pause = {.tv_nsec = SERVER_POLL_MS * 1000000L};
	int status = -1;

	if (server->pid == 0)
		return true;
	kill(server->pid, SIGTERM);
	for (int ms = 0; ms < SERVER_STOP_MS && !server_has_ended(server);
	     ms += SERVER_POLL_MS) {
		server_drain_output(server);
		nanosleep(&pause, NULL);
	}
	/* The group: a server may be a script that has left a child. */
	kill(-server->pid, SIGKILL);
	waitpid(server->pid, &status, 0);
	server_close_log(server, status);
	close(server->output);
	memset(server, 0, sizeof(*server));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
