/* Calls, signals, two processes. */
#define _GNU_SOURCE
#include "bench.h"

#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

/* From linux/futex.h, which musl does not bring. */
#define FUTEX_WAIT 0
#define FUTEX_WAKE 1

/* Runs `work` in a second process until the first ends it with stop(). */
#define SECOND(child, work)                                                                        \
	pid_t child = check(fork(), "fork");                                                       \
	if (child == 0)                                                                            \
		for (;;)                                                                           \
			work;

static void stop(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, 0, 0);
}

static struct measurement bench_getppid(void)
{
	struct measurement measured;
	REPEAT(20000, getppid());
	return measured;
}

/* Goes on behind the instruction, which is two bytes long. */
static void skip(int number, siginfo_t *info, void *context)
{
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

static struct measurement bench_signal(void)
{
	struct sigaction action = {.sa_sigaction = skip, .sa_flags = SA_SIGINFO | SA_NODEFER};
	struct measurement measured;
	check(sigaction(SIGILL, &action, 0), "sigaction");
	REPEAT(10000, __asm__ volatile("ud2"));
	return measured;
}

static struct measurement bench_pipe(void)
{
	struct measurement measured;
	int there[2], back[2];
	char byte = 0;
	check(pipe(there), "pipe");
	check(pipe(back), "pipe");
	SECOND(child, {
		read(there[0], &byte, 1);
		write(back[1], &byte, 1);
	});
	REPEAT(5000, {
		write(there[1], &byte, 1);
		read(back[0], &byte, 1);
	});
	stop(child);
	for (int end = 0; end < 2; end++) {
		close(there[end]);
		close(back[end]);
	}
	return measured;
}

/* Wakes who waits for the other's turn, then waits for one's own. */
static void hand_over(int *turn, int own)
{
	*(volatile int *)turn = !own;
	syscall(SYS_futex, turn, FUTEX_WAKE, 1, 0, 0, 0);
	while (*(volatile int *)turn != own)
		syscall(SYS_futex, turn, FUTEX_WAIT, !own, 0, 0, 0);
}

static struct measurement bench_futex(void)
{
	struct measurement measured;
	int *turn = shared(4096);
	SECOND(child, {
		while (*(volatile int *)turn != 1)
			syscall(SYS_futex, turn, FUTEX_WAIT, 0, 0, 0, 0);
		hand_over(turn, 1);
	});
	REPEAT(5000, hand_over(turn, 0));
	stop(child);
	return measured;
}

/* Counts how often it was really the other's turn in between. */
static void yield(volatile long *last, long own)
{
	sched_yield();
	if (last[0] != own) {
		last[0] = own;
		last[1]++;
	}
}

static struct measurement bench_sched_yield(void)
{
	struct measurement measured;
	volatile long *last = shared(4096);
	SECOND(child, yield(last, 1));
	for (int i = 0; i < 1000; i++)
		yield(last, 0);
	long before = last[1];
	ONCE(last[1] - before, for (int i = 0; i < 10000; i++) yield(last, 0));
	stop(child);
	return measured;
}

const struct bench processor_benches[] = {
	{"getppid", bench_getppid},
	{"signal", bench_signal},
	{"pipe", bench_pipe},
	{"futex", bench_futex},
	{"sched_yield", bench_sched_yield},
	{0},
};
