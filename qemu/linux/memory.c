/* Page protection, faults. */
#define _GNU_SOURCE
#include "bench.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096ul
/* How many pages prot100 and appel2 are about. */
#define SOME 100ul
/* How many pages each of the others goes through. */
#define MANY 1000ul

static char *base;

/* Pages at `base`, between two that nobody may touch, so that Linux has nothing to merge them
 * with. */
static void map(unsigned long count)
{
	char *all = mmap(0, (count + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check((long)all, "mmap");
	base = all + PAGE;
	check(mprotect(base, count * PAGE, PROT_READ | PROT_WRITE), "mprotect");
	check(madvise(base, count * PAGE, MADV_NOHUGEPAGE), "madvise");
}

static void unmap(unsigned long count)
{
	munmap(base - PAGE, (count + 2) * PAGE);
}

static void touched(unsigned long count)
{
	map(count);
	memset(base, 1, count * PAGE);
}

static void writable(unsigned long page, unsigned long count)
{
	check(mprotect(base + page * PAGE, count * PAGE, PROT_READ | PROT_WRITE), "mprotect");
}

static void read_only(unsigned long page, unsigned long count)
{
	check(mprotect(base + page * PAGE, count * PAGE, PROT_READ), "mprotect");
}

static void touch(unsigned long page)
{
	*(volatile char *)(base + page * PAGE) = 2;
}

static void unprotect(int number, siginfo_t *info, void *context)
{
	writable(((char *)info->si_addr - base) / PAGE, 1);
}

/* The only page that may be written to. */
static unsigned long open_page;

/* Protects the page that was open until then. */
static void unprotect_and_protect(int number, siginfo_t *info, void *context)
{
	unsigned long page = ((char *)info->si_addr - base) / PAGE;
	writable(page, 1);
	read_only(open_page, 1);
	open_page = page;
}

static void handle(void (*handler)(int, siginfo_t *, void *))
{
	struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER};
	check(sigaction(SIGSEGV, &action, 0), "sigaction");
}

static struct measurement bench_prot1(void)
{
	struct measurement measured;
	touched(SOME);
	REPEAT(10000, {
		if (i % 2)
			writable(0, 1);
		else
			read_only(0, 1);
	});
	unmap(SOME);
	return measured;
}

static struct measurement bench_prot100(void)
{
	struct measurement measured;
	touched(SOME);
	REPEAT(1000, {
		read_only(0, SOME);
		writable(0, SOME);
	});
	unmap(SOME);
	return measured;
}

static struct measurement bench_trap(void)
{
	struct measurement measured;
	touched(MANY);
	handle(unprotect);
	read_only(0, MANY);
	ONCE(MANY, for (unsigned long page = 0; page < MANY; page++) touch(page));
	unmap(MANY);
	return measured;
}

static struct measurement bench_appel1(void)
{
	struct measurement measured;
	touched(MANY);
	handle(unprotect_and_protect);
	read_only(0, MANY - 1);
	open_page = MANY - 1;
	REPEAT(MANY, touch(i));
	unmap(MANY);
	return measured;
}

static struct measurement bench_appel2(void)
{
	struct measurement measured;
	touched(SOME);
	handle(unprotect);
	REPEAT(20, {
		read_only(0, SOME);
		for (unsigned long page = 0; page < SOME; page++)
			touch(page);
	});
	unmap(SOME);
	return measured;
}

static struct measurement bench_fresh_page(void)
{
	struct measurement measured;
	map(MANY);
	ONCE(MANY, for (unsigned long page = 0; page < MANY; page++) touch(page));
	unmap(MANY);
	return measured;
}

const struct bench memory_benches[] = {
	{"prot1", bench_prot1},	  {"prot100", bench_prot100}, {"trap", bench_trap},
	{"appel1", bench_appel1}, {"appel2", bench_appel2},   {"fresh_page", bench_fresh_page},
	{0},
};
