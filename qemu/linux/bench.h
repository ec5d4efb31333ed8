/* What a bench is, and how it is measured: as in apps/bench, with the same marks. */
#ifndef BENCH_H
#define BENCH_H

#include <stdint.h>

/* Marks for the instruction counter (qemu/plugin): instructions that do nothing. */
#define BEGIN __asm__ volatile("nopl 0x65786f01(%%rax)" ::: "memory")
#define END __asm__ volatile("nopl 0x65786f02(%%rax)" ::: "memory")

struct measurement {
	uint64_t operations, nanoseconds;
};

struct bench {
	const char *name;
	/* Returns what the bench has measured; ends the program where Linux refuses something. */
	struct measurement (*run)(void);
};

/* The benches of each file; a name of 0 ends them. */
extern const struct bench processor_benches[], memory_benches[];

uint64_t now(void);
/* Ends the program with a message, if what Linux has returned means failure. */
long check(long result, const char *what);
/* Memory for two processes. */
void *shared(unsigned long length);

/* How often everything is done; once is counted. */
#define BATCHES 5

#define TIMES(count, work)                                                                         \
	for (uint64_t i = 0; i < (count); i++) {                                                   \
		work;                                                                              \
	}

/* Does `work` BATCHES times `count` times, the last of them between the marks, and keeps the time of
 * the fastest: whatever else the host does only ever adds. `i` counts. */
#define REPEAT(count, work)                                                                        \
	do {                                                                                       \
		uint64_t fastest = UINT64_MAX;                                                     \
		for (int batch = 1; batch < BATCHES; batch++) {                                    \
			uint64_t begin = now();                                                    \
			TIMES(count, work)                                                         \
			uint64_t passed = now() - begin;                                           \
			fastest = passed < fastest ? passed : fastest;                             \
		}                                                                                  \
		ONCE(count, TIMES(count, work));                                                   \
		if (fastest < measured.nanoseconds)                                                \
			measured.nanoseconds = fastest;                                            \
	} while (0)

/* Does `work` once between the marks: that is `count` operations. */
#define ONCE(count, work)                                                                          \
	do {                                                                                       \
		uint64_t start = now();                                                            \
		BEGIN;                                                                             \
		work;                                                                              \
		END;                                                                               \
		measured.nanoseconds = now() - start;                                              \
		measured.operations = (count);                                                     \
	} while (0)

#endif
