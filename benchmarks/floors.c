/* Wake-up round trip between two processes: an eventfd signalled there, another one back.
 *
 * usage: floors <cpu of the one> <cpu of the other> <round trips>; CPU -1 leaves the process where the scheduler puts it.
 * Prints the median and the 99th percentile in nanoseconds.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

static void pin(int cpu)
{
    cpu_set_t set;
    if (cpu < 0) return;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) { perror("sched_setaffinity"); exit(1); }
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void ring(int fd)
{
    uint64_t one = 1;
    if (write(fd, &one, sizeof one) != sizeof one) exit(1);
}

static void await(int fd)
{
    uint64_t count;
    if (read(fd, &count, sizeof count) != sizeof count) exit(1);
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc != 4) { fprintf(stderr, "usage: %s cpu cpu round_trips\n", argv[0]); return 2; }
    long rounds = atol(argv[3]);
    if (rounds < 1) return 2;
    int there = eventfd(0, 0), back = eventfd(0, 0);
    int64_t *times = malloc(rounds * sizeof *times);
    if (there < 0 || back < 0 || times == NULL) { perror("floors"); return 1; }
    pid_t other = fork();
    if (other < 0) { perror("fork"); return 1; }
    if (other == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pin(atoi(argv[2]));
        for (;;) { await(there); ring(back); }
    }
    pin(atoi(argv[1]));
    for (long i = -100; i < rounds; i++) { /* the first hundred warm up */
        int64_t sent = now_ns();
        ring(there);
        await(back);
        if (i >= 0) times[i] = now_ns() - sent;
    }
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
    qsort(times, rounds, sizeof *times, ascending);
    printf("%lld %lld\n", (long long)times[rounds / 2], (long long)times[rounds * 99 / 100]);
    return 0;
}
