/*
 * What: costs of binding and routing, in nanoseconds per operation, on one thread. Not a test:
 * prints a table. `bench-route [bindings]`, default 100000.
 */
#include "route_fixture.h"

#include <time.h>

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void report(const char *what, uint64_t begin, uint64_t count)
{
    printf("%-58s %10.1f ns\n", what, (double)(now_ns() - begin) / (double)count);
}

static const struct catalog_exchange *find(const struct catalog_view *view, const char *name)
{
    return catalog_exchange(view, B("/"), B(name));
}

/* Routes `count` messages with keys "<prefix><i % spread><suffix>". */
static void bench_keys(struct fixture *f, const char *what, const char *name, const char *prefix,
                       const char *suffix, uint32_t spread)
{
    enum { KEYS = 1024, COUNT = 1000000 };
    static char keys[KEYS][64];
    struct bytes views[KEYS];
    for (uint32_t i = 0; i < KEYS; i++) {
        snprintf(keys[i], sizeof(keys[i]), "%s%u%s", prefix, (i * 97) % spread, suffix);
        views[i] = B(keys[i]);
    }
    struct catalog_view *view = catalog_view_take(f->catalog);
    const struct catalog_exchange *e = find(view, name);
    uint64_t routed = 0;
    for (int warm = 0; warm < 2; warm++) {
        const uint64_t begin = now_ns();
        routed = 0;
        for (uint32_t i = 0; i < COUNT; i++) {
            const struct route_input input = {.key = views[i % KEYS]};
            routed += route_message(view, e, &input, &f->result);
        }
        if (warm == 1) {
            report(what, begin, COUNT);
        }
    }
    printf("    %.2f queues per message\n", (double)routed / COUNT);
    catalog_view_unref(view);
}

int main(int argc, char **argv)
{
    const uint32_t bindings = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 100000;
    const uint32_t queues = 1000;
    struct fixture *f = fixture_new();
    char name[64];
    char key[64];
    uint64_t begin = now_ns();
    for (uint32_t i = 0; i < queues; i++) {
        snprintf(name, sizeof(name), "%u", i);
        queue(f, name);
    }
    report("declare a queue", begin, queues);
    /* A view is taken for every change, as shards do: nothing is changed in place. */
    begin = now_ns();
    for (uint32_t i = 0; i < bindings; i++) {
        struct catalog_view *held = catalog_view_take(f->catalog);
        snprintf(name, sizeof(name), "%u", i % queues);
        snprintf(key, sizeof(key), i % 10 == 0 ? "dev.%u.#" : "dev.%u.temperature", i);
        bind_queue(f, "amq.topic", name, key);
        catalog_view_unref(held);
    }
    report("bind to a topic exchange", begin, bindings);
    begin = now_ns();
    for (uint32_t i = 0; i < bindings; i++) {
        snprintf(name, sizeof(name), "%u", i % queues);
        snprintf(key, sizeof(key), "k%u", i);
        bind_queue(f, "amq.direct", name, key);
    }
    report("bind to a direct exchange", begin, bindings);
    for (uint32_t i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "%u", i);
        bind_queue(f, "amq.fanout", name, "");
    }
    bench_keys(f, "default exchange", "", "", "", queues);
    bench_keys(f, "direct", "amq.direct", "k", "", bindings);
    bench_keys(f, "fanout to 100 queues", "amq.fanout", "", "", 1);
    bench_keys(f, "topic, literal words", "amq.topic", "dev.", ".temperature", bindings);
    bench_keys(f, "topic, no match", "amq.topic", "dev.", ".humidity.x", bindings);
    struct buf *snapshot = buf_new(1 << 20);
    begin = now_ns();
    catalog_snapshot(f->catalog, &snapshot);
    report("snapshot, per binding", begin, (uint64_t)bindings * 2);
    printf("    %u bytes\n", snapshot->size);
    begin = now_ns();
    if (catalog_restore(f->catalog, f->index, bytes_make(snapshot->data, snapshot->size)) != 0) {
        abort();
    }
    report("restore, per binding", begin, (uint64_t)bindings * 2);
    buf_unref(snapshot);
    begin = now_ns();
    for (uint32_t i = 0; i < bindings; i++) {
        snprintf(name, sizeof(name), "%u", i % queues);
        snprintf(key, sizeof(key), i % 10 == 0 ? "dev.%u.#" : "dev.%u.temperature", i);
        unbind_queue(f, "amq.topic", name, key);
    }
    report("unbind from a topic exchange", begin, bindings);
    fixture_free(f);
    return 0;
}
