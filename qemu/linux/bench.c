/* bench: Linux's side of `cargo xtask bench --vs linux`. It is the only program of its machine, and
 * its first. Its argument is benches=NAME,...; it prints a line for each and ends QEMU.
 *
 * To add a bench: a function and a line in a table, in processor.c or memory.c. */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* QEMU's isa-debug-exit: what is written there ends the machine. Both numbers come from the host
 * tool. */
static void end_machine(int code)
{
	fflush(stdout);
	/* The line has to leave the serial port first. */
	fsync(1);
	if (ioperm(VERDICT_PORT, 4, 1) == 0)
		outb(VERDICT_BASE + code, VERDICT_PORT);
	for (;;)
		pause();
}

long check(long result, const char *what)
{
	if (result == -1) {
		printf("%s: %s\n", what, strerror(errno));
		end_machine(1);
	}
	return result;
}

uint64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

void *shared(unsigned long length)
{
	void *memory = mmap(0, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check((long)memory, "mmap");
	return memory;
}

static const struct bench *find(const struct bench *bench, const char *name)
{
	for (; bench->name; bench++)
		if (strcmp(bench->name, name) == 0)
			return bench;
	return 0;
}

static void measure(const char *name)
{
	const struct bench *bench = find(processor_benches, name);
	if (!bench)
		bench = find(memory_benches, name);
	if (!bench) {
		printf("bench %s unknown\n", name);
		return;
	}
	struct measurement measured = bench->run();
	printf("bench %s operations=%llu nanoseconds=%llu\n", name,
	       (unsigned long long)measured.operations, (unsigned long long)measured.nanoseconds);
}

int main(int count, char **words)
{
	/* Not in the first process: Linux logs each of its faults, handled or not. */
	if (check(fork(), "fork") != 0) {
		wait(0);
		end_machine(1);
	}
	for (int index = 1; index < count; index++) {
		if (strncmp(words[index], "benches=", 8) != 0)
			continue;
		for (char *name = strtok(words[index] + 8, ","); name; name = strtok(0, ","))
			measure(name);
	}
	end_machine(0);
}
