/* SPDX-License-Identifier: MIT */
/*
 * demo_machine.c - processor time of other processes, and facts for a report.
 *
 * Processor time is read through the clocks of processes: nanoseconds, and
 * right up to the moment for a process that is running on another processor
 * (the figures in /proc are brought up to date by ticks).
 *
 * A loopback packet is received in the context of its sender, so it is charged
 * to the sending process - until the kernel has too much of it at once and
 * hands the rest to the thread ksoftirqd of that processor.  A server pinned to
 * a processor is charged with that thread's time too, else the server that
 * pushes more work there would look cheaper.
 */
#include "demo.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/utsname.h>
#include <unistd.h>

#define MACHINE_THREADS_MAX 1024 /* ksoftirqd threads that are looked up */

struct machine_softirq {
	int cpu;
	clockid_t clock;
};

static struct machine_softirq machine_softirqs[MACHINE_THREADS_MAX];
static unsigned machine_softirq_count;

static void
machine_copy_field(const char *path, const char *field, char *to, size_t bytes)
{
	FILE *file = fopen(path, "re");
	char line[256];

	snprintf(to, bytes, "unknown");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		char *value = strchr(line, ':');

		if (value == NULL || strncmp(line, field, strlen(field)) != 0)
			continue;
		value += 1 + strspn(value + 1, " \t");
		value[strcspn(value, "\n")] = '\0';
		snprintf(to, bytes, "%s", value);
		break;
	}
	if (file != NULL)
		fclose(file);
}

static void
machine_add_softirq(const char *pid)
{
	char path[64];
	char name[32] = "";
	FILE *file;
	struct machine_softirq *found =
	    &machine_softirqs[machine_softirq_count];

	snprintf(path, sizeof(path), "/proc/%.16s/comm", pid);
	file = fopen(path, "re");
	if (file == NULL)
		return;
	if (fgets(name, sizeof(name), file) != NULL &&
	    strncmp(name, "ksoftirqd/", 10) == 0 &&
	    clock_getcpuclockid((pid_t)strtol(pid, NULL, 10), &found->clock) ==
		0) {
		found->cpu = (int)strtol(name + 10, NULL, 10);
		machine_softirq_count++;
	}
	fclose(file);
}

/* In a container the kernel's threads are not visible: none is found. */
static void
machine_find_softirqs(void)
{
	DIR *directory = opendir("/proc");
	struct dirent *entry;

	if (directory == NULL)
		return;
	while ((entry = readdir(directory)) != NULL &&
	       machine_softirq_count < MACHINE_THREADS_MAX)
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
			machine_add_softirq(entry->d_name);
	closedir(directory);
}

void
demo_machine_read(struct demo_machine *machine)
{
	struct utsname name;

	memset(machine, 0, sizeof(*machine));
	machine_copy_field(
	    "/proc/cpuinfo", "model name", machine->cpu, sizeof(machine->cpu));
	if (uname(&name) == 0)
		snprintf(machine->kernel, sizeof(machine->kernel), "%s %s %s",
		    name.sysname, name.release, name.machine);
#if defined(__clang__)
	machine->compiler = __VERSION__;
#else
	machine->compiler = "gcc " __VERSION__;
#endif
	machine->processors = demo_processors();
	machine_find_softirqs();
	machine->softirq_seen = machine_softirq_count > 0;
}

unsigned
demo_processors(void)
{
	cpu_set_t cpus;

	if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0)
		return 1;
	return (unsigned)CPU_COUNT(&cpus);
}

void
demo_pin(unsigned cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
}

uint64_t
demo_clock_ns(clockid_t clock)
{
	struct timespec now;

	if (clock_gettime(clock, &now) != 0)
		return 0;
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) +
	       (uint64_t)now.tv_nsec;
}

/* "cpuN user nice system idle iowait irq softirq steal ...", in ticks. */
static uint64_t
machine_busy_ticks(const char *line)
{
	uint64_t ticks = 0;
	char *at;

	line += strcspn(line, " ");
	for (int field = 0; field < 8; field++) {
		uint64_t value = strtoull(line, &at, 10);

		if (field != 3 && field != 4)
			ticks += value;
		line = at;
	}
	return ticks;
}

uint64_t
demo_busy_ns(bool first_two)
{
	FILE *file = fopen("/proc/stat", "re");
	uint64_t ticks = 0;
	long rate = sysconf(_SC_CLK_TCK);
	char line[512];

	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		bool all = strncmp(line, "cpu ", 4) == 0;
		bool two = strncmp(line, "cpu0 ", 5) == 0 ||
			   strncmp(line, "cpu1 ", 5) == 0;

		if (strncmp(line, "cpu", 3) != 0)
			break;
		if (first_two ? two : all)
			ticks += machine_busy_ticks(line);
	}
	if (file != NULL)
		fclose(file);
	return rate > 0 ? ticks * (UINT64_C(1000000000) / (uint64_t)rate) : 0;
}

uint64_t
demo_softirq_ns(int cpu)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < machine_softirq_count; i++)
		if (cpu < 0 || machine_softirqs[i].cpu == cpu)
			sum += demo_clock_ns(machine_softirqs[i].clock);
	return sum;
}
