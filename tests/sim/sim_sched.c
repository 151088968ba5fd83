/*
 * What: virtual time and the queue of events, the trace and its hash.
 *
 * Invariants: I1 events run in order of (time, sequence of scheduling). I2 an event bound to a
 * host's incarnation never runs after its end.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "sim.h"

static bool event_less(const struct heap_node *a, const struct heap_node *b)
{
    const struct sim_event *x = WR_CONTAINER_OF_CONST(a, struct sim_event, node);
    const struct sim_event *y = WR_CONTAINER_OF_CONST(b, struct sim_event, node);
    return x->at != y->at ? x->at < y->at : x->sequence < y->sequence;
}

void sim_sched_init(struct sim *sim)
{
    heap_init(&sim->heap, event_less);
}

static void event_free(struct sim_event *event, bool destroy)
{
    if (destroy && event->destroy != NULL) {
        event->destroy(event->arg);
    }
    wr_free(event);
}

void sim_sched_deinit(struct sim *sim)
{
    struct heap_node *node;
    while ((node = heap_pop(&sim->heap)) != NULL) {
        event_free(WR_CONTAINER_OF(node, struct sim_event, node), true);
    }
    heap_deinit(&sim->heap);
}

static struct sim_event *event_new(struct sim *sim, uint64_t at, sim_fn fn, void *arg, uint64_t a,
                                   uint64_t b)
{
    struct sim_event *event = wr_calloc(1, sizeof *event);
    heap_node_init(&event->node);
    event->at = at < sim->now ? sim->now : at;
    event->sequence = ++sim->sequence;
    event->fn = fn;
    event->arg = arg;
    event->a = a;
    event->b = b;
    return event;
}

void sim_at(struct sim *sim, uint64_t at, sim_fn fn, void *arg, uint64_t a, uint64_t b)
{
    heap_insert(&sim->heap, &event_new(sim, at, fn, arg, a, b)->node);
}

void sim_at_host(struct sim *sim, struct sim_host *host, uint64_t at, sim_fn fn, void *arg,
                 uint64_t a, uint64_t b, void (*destroy)(void *arg))
{
    struct sim_event *event = event_new(sim, at, fn, arg, a, b);
    event->host = host;
    event->incarnation = host->incarnation;
    event->destroy = destroy;
    heap_insert(&sim->heap, &event->node);
}

void sim_sched_drop_host(struct sim *sim, struct sim_host *host)
{
    VEC(struct sim_event *) gone = {0};
    for (uint32_t i = 0; i < sim->heap.count; i++) {
        struct sim_event *event = WR_CONTAINER_OF(sim->heap.nodes[i], struct sim_event, node);
        if (event->host == host) {
            vec_push(&gone, event);
        }
    }
    for (size_t i = 0; i < gone.count; i++) {
        heap_remove(&sim->heap, &gone.items[i]->node);
        event_free(gone.items[i], true);
    }
    vec_deinit(&gone);
}

bool sim_step(struct sim *sim)
{
    struct heap_node *node = heap_pop(&sim->heap);
    if (node == NULL) {
        return false;
    }
    struct sim_event *event = WR_CONTAINER_OF(node, struct sim_event, node);
    sim->now = event->at;
    sim->events++;
    if (event->host != NULL && event->incarnation != event->host->incarnation) {
        event_free(event, true);
        return true;
    }
    event->fn(sim, event->arg, event->a, event->b);
    event_free(event, false);
    return true;
}

/* --- trace ------------------------------------------------------------
 */

void sim_mix(struct sim *sim, uint64_t value)
{
    uint64_t h = (sim->hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    sim->hash = h ^ (h >> 29);
}

void sim_mix_bytes(struct sim *sim, const void *data, size_t size)
{
    const uint8_t *at = data;
    sim_mix(sim, size);
    while (size >= 8) {
        sim_mix(sim, bytes_load_le64(at));
        at += 8;
        size -= 8;
    }
    uint64_t rest = 0;
    for (size_t i = 0; i < size; i++) {
        rest = rest << 8 | at[i];
    }
    sim_mix(sim, rest);
}

void sim_trace(struct sim *sim, const char *fmt, ...)
{
    va_list args;
    char *line = sim->lines[sim->line_count++ % SIM_LINES];
    int n = snprintf(line, sizeof sim->lines[0], "[%4llu.%06llu] ",
                     (unsigned long long)(sim->now / SIM_S),
                     (unsigned long long)(sim->now % SIM_S / SIM_US));
    va_start(args, fmt);
    (void)vsnprintf(line + n, sizeof sim->lines[0] - (size_t)n, fmt, args);
    va_end(args);
    if (sim->options.trace) {
        (void)printf("%s\n", line);
    }
}

static void print_lines(const struct sim *sim)
{
    if (!sim->options.trace) {
        uint64_t first = sim->line_count > SIM_LINES ? sim->line_count - SIM_LINES : 0;
        for (uint64_t i = first; i < sim->line_count; i++) {
            (void)printf("%s\n", sim->lines[i % SIM_LINES]);
        }
    }
}

void sim_fail(struct sim *sim, const char *fmt, ...)
{
    va_list args;
    print_lines(sim);
    (void)printf("seed %llu FAILED at %llu.%06llu s: ", (unsigned long long)sim->options.seed,
                 (unsigned long long)(sim->now / SIM_S),
                 (unsigned long long)(sim->now % SIM_S / SIM_US));
    va_start(args, fmt);
    (void)vprintf(fmt, args);
    va_end(args);
    (void)printf("\n");
    (void)fflush(stdout);
    _exit(1);
}
