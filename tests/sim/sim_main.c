/*
 * What: the program: runs seeds, each in a process of its own, so that a crash is caught and
 * belongs to its seed and memory starts clean; every twentieth seed runs twice and must end with
 * the same trace hash.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"

#include "warren/plant.h"
#include "warren/str.h"

#define FAILURES_MAX 100u

#ifdef WR_PLANTS
enum wr_plant wr_plant;
#endif

struct arguments {
    uint64_t seed, from, seeds, time_limit_s;
    bool one, trace, twice, coverage, until_failure;
    uint64_t nodes, events;
};

/* Chooses a planted bug. False: no such one, or not in this build. */
static bool plant(const char *name)
{
#ifdef WR_PLANTS
    static const char *const names[] = {"",
#define PLANT_NAME(id, text) #id,
                                        WR_PLANT_TABLE(PLANT_NAME)
#undef PLANT_NAME
    };
    for (uint32_t i = 1; i < WR_ARRAY_SIZE(names); i++) {
        if (strcmp(names[i], name) == 0) {
            wr_plant = (enum wr_plant)i;
            return true;
        }
    }
#endif
    (void)name;
    return false;
}

static void usage(void)
{
    (void)fprintf(stderr,
                  "Usage: warren-sim --seed N [--trace] [--nodes N] [--events N]\n"
                  "       warren-sim --seeds N [--from S] [--time-limit SECONDS] [--twice] "
                  "[--coverage] [--nodes N] [--events N]\n"
                  "  --seed N          run this seed\n"
                  "  --trace           print what happens\n"
                  "  --seeds N         run N seeds, from S (1) on\n"
                  "  --time-limit T    start no more seeds after T seconds\n"
                  "  --coverage        print how often rare events were met; 0 is a failure\n"
                  "  --plant NAME      with a planted bug (builds with -Dplants=true), until it is "
                  "found\n"
                  "  --twice           run each seed twice and compare, not only every twentieth\n"
                  "  --nodes N         so many nodes instead of what the seed draws\n"
                  "  --events N        at most so many faults (to find the least that fails)\n");
}

static bool parse(int argc, char **argv, struct arguments *a)
{
    *a = (struct arguments){.from = 1, .time_limit_s = UINT64_MAX, .events = UINT32_MAX};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0) {
            a->trace = true;
            continue;
        }
        if (strcmp(argv[i], "--twice") == 0) {
            a->twice = true;
            continue;
        }
        if (strcmp(argv[i], "--coverage") == 0) {
            a->coverage = true;
            continue;
        }
        if (strcmp(argv[i], "--plant") == 0 && i + 1 < argc) {
            if (!plant(argv[++i])) {
                return false;
            }
            a->until_failure = true;
            continue;
        }
        uint64_t *value = NULL;
        if (strcmp(argv[i], "--seed") == 0) {
            value = &a->seed;
            a->one = true;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            value = &a->seeds;
        } else if (strcmp(argv[i], "--from") == 0) {
            value = &a->from;
        } else if (strcmp(argv[i], "--time-limit") == 0) {
            value = &a->time_limit_s;
        } else if (strcmp(argv[i], "--nodes") == 0) {
            value = &a->nodes;
        } else if (strcmp(argv[i], "--events") == 0) {
            value = &a->events;
        }
        if (value == NULL || i + 1 == argc ||
            str_parse_u64(bytes_from_cstr(argv[++i]), UINT64_MAX, value) != 0) {
            return false;
        }
    }
    return (a->one || a->seeds > 0) && a->nodes <= SIM_NODES_MAX && a->events <= UINT32_MAX;
}

static struct sim_outcome run_here(const struct arguments *a, uint64_t seed)
{
    struct sim_options options;
    struct sim_outcome outcome = {0};
    sim_options_draw(&options, seed);
    options.trace = a->trace;
    options.events = (uint32_t)a->events;
    if (a->nodes > 0) {
        options.nodes = (uint32_t)a->nodes;
        options.late_nodes = options.nodes >= 3 ? options.late_nodes : 0;
    }
    sim_run(&options, &outcome);
    return outcome;
}

/* In a child process. False: it failed (and printed why, unless it was killed). */
static bool run_child(const struct arguments *a, uint64_t seed, struct sim_outcome *ret_outcome)
{
    int fds[2];
    if (pipe(fds) != 0) {
        perror("pipe");
        exit(2);
    }
    (void)fflush(stdout);
    pid_t child = fork();
    if (child < 0) {
        perror("fork");
        exit(2);
    }
    if (child == 0) {
        (void)close(fds[0]);
        struct sim_outcome outcome = run_here(a, seed);
        (void)fflush(stdout);
        exit(write(fds[1], &outcome, sizeof outcome) == (ssize_t)sizeof outcome ? 0 : 2);
    }
    (void)close(fds[1]);
    struct sim_outcome outcome = {0};
    ssize_t n = read(fds[0], &outcome, sizeof outcome);
    (void)close(fds[0]);
    int status = 0;
    (void)waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) {
        (void)printf("seed %" PRIu64 " FAILED: ended by signal %d\n", seed, WTERMSIG(status));
    }
    *ret_outcome = outcome;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 && n == (ssize_t)sizeof outcome;
}

static void print_replay(uint64_t seed)
{
    (void)printf("replay: warren-sim --seed %" PRIu64 " --trace   (or ./dev sim --seed %" PRIu64
                 " --trace)\n",
                 seed, seed);
}

static uint64_t wall_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static const char *const seen_names[] = {
#define SEEN_NAME(name, text) text,
    SIM_SEEN_TABLE(SEEN_NAME)
#undef SEEN_NAME
};

/* False: something was never met. */
static bool print_coverage(const uint64_t *runs, const uint64_t *times)
{
    bool all = true;
    (void)printf("%10s %8s  event\n", "times", "in seeds");
    for (uint32_t i = 0; i < SIM_SEEN_COUNT; i++) {
        (void)printf("%10" PRIu64 " %8" PRIu64 "  %s%s\n", times[i], runs[i], seen_names[i],
                     runs[i] == 0 ? ": NEVER" : "");
        all = all && runs[i] > 0;
    }
    return all;
}

static int run_many(const struct arguments *a)
{
    VEC(uint64_t) failed = {0};
    const uint64_t begun = wall_ms();
    uint64_t told = begun, done = 0, sim_ns = 0;
    uint64_t runs[SIM_SEEN_COUNT] = {0};
    uint64_t times[SIM_SEEN_COUNT] = {0};
    for (uint64_t i = 0; i < a->seeds && wall_ms() - begun < a->time_limit_s * 1000; i++) {
        const uint64_t seed = a->from + i;
        struct sim_outcome first;
        struct sim_outcome second;
        bool ok = run_child(a, seed, &first);
        if (ok && (a->twice || seed % 20 == 0)) {
            ok = run_child(a, seed, &second);
            if (ok && first.hash != second.hash) {
                (void)printf("seed %" PRIu64 " FAILED: it ran twice and took two ways\n", seed);
                ok = false;
            }
        }
        if (!ok) {
            vec_push(&failed, seed);
            print_replay(seed);
        }
        done++;
        sim_ns += first.sim_ns;
        for (uint32_t k = 0; k < SIM_SEEN_COUNT; k++) {
            runs[k] += first.seen[k] > 0 ? 1 : 0;
            times[k] += first.seen[k];
        }
        if (wall_ms() - told > 10000) {
            told = wall_ms();
            (void)printf("%" PRIu64 " of %" PRIu64 " seeds, %zu failed\n", done, a->seeds,
                         failed.count);
            (void)fflush(stdout);
        }
        if (failed.count == FAILURES_MAX || (a->until_failure && failed.count > 0)) {
            break;
        }
    }
    uint64_t ms = wall_ms() - begun + 1;
    (void)printf("%" PRIu64 " seeds from %" PRIu64 ", %zu failed; %" PRIu64 ".%" PRIu64
                 " seeds/s, %" PRIu64 " simulated seconds per second\n",
                 done, a->from, failed.count, done * 1000 / ms, done * 10000 / ms % 10,
                 sim_ns / SIM_MS / ms);
    for (size_t i = 0; i < failed.count; i++) {
        (void)printf("%s%" PRIu64 "%s", i == 0 ? "failing seeds: " : " ", failed.items[i],
                     i + 1 == failed.count ? "\n" : "");
    }
    const bool covered = !a->coverage || print_coverage(runs, times);
    int code = failed.count == 0 && covered ? 0 : 1;
    vec_deinit(&failed);
    return code;
}

int main(int argc, char **argv)
{
    struct arguments a;
    if (!parse(argc, argv, &a)) {
        usage();
        return 64;
    }
    if (!a.one) {
        return run_many(&a);
    }
    struct sim_outcome outcome = run_here(&a, a.seed);
    (void)printf("seed %" PRIu64 " passed; hash %016" PRIx64 ", %" PRIu64 " simulated seconds\n",
                 a.seed, outcome.hash, outcome.sim_ns / SIM_S);
    return 0;
}
