/*
 * What: costs of binding and routing, in nanoseconds per operation, on one thread. Not a test:
 * prints a table. `bench-route [bindings]`, default 100000. The second part routes through an
 * exchange of each type with 100 and with so many bindings, keys spread over all of them, and
 * prints the ratio of the rates; through topic exchanges with keys drawn in three ways, too. Of
 * several rounds the fastest counts, because a machine is never quite idle.
 */
#include "route_fixture.h"

#include "warren/prng.h"

#include <time.h>

enum { KEYS = 1024, ROUNDS = 40 };

/* Of this thread's own time: what others do meanwhile does not count. */
static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void report(const char *what, uint64_t begin, uint64_t count)
{
    printf("%-58s %10.1f ns\n", what, (double)(now_ns() - begin) / (double)count);
}

/* --- messages --------------------------------------------------------------------------------- */

struct messages {
    char keys[KEYS][64];
    struct writer props[KEYS];
    struct route_input inputs[KEYS];
};

/* Keys "<prefix><i % spread><suffix>", and the same number in the header n. */
static struct messages *messages_new(const char *prefix, const char *suffix, uint32_t spread)
{
    struct messages *m = wr_calloc(1, sizeof(*m));
    for (uint32_t i = 0; i < KEYS; i++) {
        const uint32_t number =
            (uint32_t)((i * UINT64_C(0x9e3779b97f4a7c15)) >> 33) % spread; /* no regular stride */
        struct writer headers;
        writer_init(&headers, 64);
        wire_table_put_cstr(&headers, "type", "order");
        wire_table_put_int32(&headers, "n", (int32_t)number);
        struct wire_props p = {.flags = WIRE_PROP_HEADERS, .headers = writer_bytes(&headers)};
        writer_init(&m->props[i], wire_props_size(&p));
        wire_props_put(&m->props[i], &p);
        writer_deinit(&headers);
        snprintf(m->keys[i], sizeof(m->keys[i]), "%s%u%s", prefix, number, suffix);
        m->inputs[i] =
            (struct route_input){.key = B(m->keys[i]), .props = writer_bytes(&m->props[i])};
    }
    return m;
}

static void messages_free(struct messages *m)
{
    for (uint32_t i = 0; i < KEYS; i++) {
        writer_deinit(&m->props[i]);
    }
    wr_free(m);
}

/* One round: nanoseconds per message, if that is the fastest yet. */
static void round_of(struct fixture *f, const struct catalog_view *view, const char *name,
                     const struct messages *m, uint32_t count, double *best)
{
    const struct catalog_exchange *e = catalog_exchange(view, B("/"), B(name));
    const uint64_t begin = now_ns();
    for (uint32_t i = 0; i < count; i++) {
        (void)route_message(view, e, &m->inputs[i % KEYS], &f->result);
    }
    const double each = (double)(now_ns() - begin) / count;
    *best = *best == 0 || each < *best ? each : *best;
}

static void bench(struct fixture *f, const char *what, const char *name, const struct messages *m,
                  uint32_t per_round)
{
    struct catalog_view *view = catalog_view_take(f->catalog);
    double best = 0;
    for (int i = 0; i < ROUNDS; i++) {
        round_of(f, view, name, m, per_round, &best);
    }
    printf("%-47s %10.1f ns\n", what, best);
    catalog_view_unref(view);
}

/* --- few and many bindings -------------------------------------------------------------------- */

/* The i-th binding of an exchange of that type, to one of 1,000 queues. */
static void bind_nth(struct fixture *f, const char *type, const char *name, uint32_t i, bool bind)
{
    char queue_name[16];
    char key[64] = "";
    struct writer args;
    writer_init(&args, 64);
    snprintf(queue_name, sizeof(queue_name), "%u", i % 1000);
    if (strcmp(type, "topic") == 0) {
        snprintf(key, sizeof(key), i % 10 == 0 ? "dev.%u.#" : "dev.%u.temperature", i);
    } else if (strcmp(type, "headers") == 0) {
        wire_table_put_cstr(&args, "x-match", i % 10 == 0 ? "any" : "all");
        wire_table_put_int32(&args, "n", (int32_t)i);
        if (i % 10 != 0) {
            wire_table_put_cstr(&args, "type", "order");
        }
    } else if (strcmp(type, "direct") == 0) {
        snprintf(key, sizeof(key), "dev.%u.temperature", i);
    } else {
        snprintf(key, sizeof(key), "%u", i / 1000 + 1); /* a weight, 1 for the first of a queue */
    }
    must(bind_any(f, bind, name, queue_name, B(key), writer_bytes(&args), CATALOG_TO_QUEUE));
    writer_deinit(&args);
}

static void few_and_many(struct fixture *f, const char *type, uint32_t bindings, uint32_t per_round)
{
    char few[32];
    char many[32];
    snprintf(few, sizeof(few), "few-%s", type);
    snprintf(many, sizeof(many), "many-%s", type);
    exchange(f, few, type);
    exchange(f, many, type);
    for (uint32_t i = 0; i < 100; i++) {
        bind_nth(f, type, few, i, true);
    }
    /* A view is taken for every change, as shards do: nothing is changed in place. */
    uint64_t begin = now_ns();
    for (uint32_t i = 0; i < bindings; i++) {
        struct catalog_view *held = catalog_view_take(f->catalog);
        bind_nth(f, type, many, i, true);
        catalog_view_unref(held);
    }
    const uint64_t bind_ns = (now_ns() - begin) / bindings;
    struct messages *m_few = messages_new("dev.", ".temperature", 100);
    struct messages *m_many = messages_new("dev.", ".temperature", bindings);
    struct catalog_view *view = catalog_view_take(f->catalog);
    double best[2] = {0};
    for (int i = 0; i < ROUNDS; i++) { /* In turns: what disturbs one disturbs the other. */
        round_of(f, view, few, m_few, per_round, &best[0]);
        round_of(f, view, many, m_many, per_round, &best[1]);
    }
    catalog_view_unref(view);
    begin = now_ns();
    for (uint32_t i = 0; i < bindings; i++) {
        struct catalog_view *held = catalog_view_take(f->catalog);
        bind_nth(f, type, many, i, false);
        catalog_view_unref(held);
    }
    printf("%-18s %8.1f ns %12.1f ns %8.0f %% %8lu ns %8lu ns\n", type, best[0], best[1],
           best[0] / best[1] * 100, (unsigned long)bind_ns,
           (unsigned long)((now_ns() - begin) / bindings));
    messages_free(m_few);
    messages_free(m_many);
}

/* --- keys of a topic exchange ----------------------------------------------------------------- */

enum { DRAWS = 100000 };

enum draw { DRAW_UNIFORM, DRAW_ZIPF, DRAW_DIFFERENT };

/* Numbers of bindings: at random; by Zipf's law (the n-th has a share of 1/n); each once, in no
 * order. */
static uint32_t *draw_numbers(enum draw how, uint32_t bindings)
{
    struct prng prng;
    uint32_t *numbers = wr_calloc(DRAWS, sizeof(*numbers));
    double *sums = wr_calloc(bindings, sizeof(*sums));
    double sum = 0;
    prng_init(&prng, 9);
    for (uint32_t i = 0; i < bindings; i++) {
        sum += 1.0 / (i + 1);
        sums[i] = sum;
    }
    for (uint32_t i = 0; i < DRAWS; i++) {
        numbers[i] = how == DRAW_UNIFORM ? (uint32_t)prng_below(&prng, bindings) : i % bindings;
        if (how == DRAW_ZIPF) {
            const double point = (double)prng_below(&prng, 1u << 30) / (1u << 30) * sum;
            uint32_t low = 0;
            for (uint32_t high = bindings - 1; low < high;) {
                const uint32_t middle = (low + high) / 2;
                low = sums[middle] < point ? middle + 1 : low;
                high = sums[middle] < point ? high : middle;
            }
            numbers[i] = (uint32_t)(low * UINT64_C(7919) % bindings); /* not the oldest */
        }
    }
    for (uint32_t i = DRAWS; how == DRAW_DIFFERENT && i > 1; i--) {
        const uint32_t other = (uint32_t)prng_below(&prng, i);
        const uint32_t swap = numbers[i - 1];
        numbers[i - 1] = numbers[other];
        numbers[other] = swap;
    }
    wr_free(sums);
    return numbers;
}

/* Each draw is routed once per round: what it touches has been driven out of the near caches by
 * the others, as far as it is many. */
static double bench_draws(struct fixture *f, const char *name, const char *format, enum draw how,
                          uint32_t bindings)
{
    struct catalog_view *view = catalog_view_take(f->catalog);
    const struct catalog_exchange *e = catalog_exchange(view, B("/"), B(name));
    uint32_t *numbers = draw_numbers(how, bindings);
    char(*keys)[32] = wr_calloc(DRAWS, sizeof(*keys));
    double best = 0;
    for (uint32_t i = 0; i < DRAWS; i++) {
        snprintf(keys[i], sizeof(keys[i]), format, numbers[i]);
    }
    for (int round = 0; round < ROUNDS / 4; round++) {
        const uint64_t begin = now_ns();
        for (uint32_t i = 0; i < DRAWS; i++) {
            const struct route_input input = {.key = B(keys[i])};
            (void)route_message(view, e, &input, &f->result);
        }
        const double each = (double)(now_ns() - begin) / DRAWS;
        best = best == 0 || each < best ? each : best;
    }
    wr_free(keys);
    wr_free(numbers);
    catalog_view_unref(view);
    return best;
}

static void bind_patterns(struct fixture *f, const char *name, const char *format,
                          uint32_t bindings)
{
    exchange(f, name, "topic");
    for (uint32_t i = 0; i < bindings; i++) {
        char queue_name[16];
        char key[64];
        struct catalog_view *held = catalog_view_take(f->catalog);
        snprintf(queue_name, sizeof(queue_name), "%u", i % 1000);
        snprintf(key, sizeof(key), format, i);
        must(bind_any(f, true, name, queue_name, B(key), BYTES_NONE, CATALOG_TO_QUEUE));
        catalog_view_unref(held);
    }
}

static void topic_keys(struct fixture *f, uint32_t bindings)
{
    static const char *const shapes[][2] = {
        {"k.%u.*", "k.%u.x"}, {"%u.a.b", "%u.a.b"}, {"k.*.%u.#", "k.x.%u.y.z"}};
    static const char *const names[] = {"uniform", "Zipf", "all different"};
    for (size_t shape = 0; shape < WR_ARRAY_SIZE(shapes); shape++) {
        char few[16];
        char many[16];
        snprintf(few, sizeof(few), "few-%zu", shape);
        snprintf(many, sizeof(many), "many-%zu", shape);
        bind_patterns(f, few, shapes[shape][0], 100);
        bind_patterns(f, many, shapes[shape][0], bindings);
        for (enum draw how = DRAW_UNIFORM; how <= DRAW_DIFFERENT; how++) {
            const double a = bench_draws(f, few, shapes[shape][1], how, 100);
            const double b = bench_draws(f, many, shapes[shape][1], how, bindings);
            printf("topic %-10s %-14s %8.1f ns %12.1f ns %8.0f %%\n", shapes[shape][0], names[how],
                   a, b, a / b * 100);
        }
    }
}

/* --- the rest --------------------------------------------------------------------------------- */

static void bench_state(struct fixture *f, uint32_t bindings)
{
    for (uint32_t i = 0; i < bindings; i++) {
        bind_nth(f, "topic", "amq.topic", i, true);
    }
    struct messages *m = messages_new("dev.", ".humidity.x", bindings);
    bench(f, "topic, no match but of #", "amq.topic", m, 40000);
    messages_free(m);
    struct buf *snapshot = buf_new(1 << 20);
    uint64_t begin = now_ns();
    catalog_snapshot(f->catalog, &snapshot);
    report("snapshot, per binding", begin, bindings);
    printf("    %u bytes\n", snapshot->size);
    begin = now_ns();
    if (catalog_restore(f->catalog, f->index, bytes_make(snapshot->data, snapshot->size)) != 0) {
        abort();
    }
    report("restore, per binding", begin, bindings);
    buf_unref(snapshot);
}

int main(int argc, char **argv)
{
    const uint32_t bindings = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 100000;
    const uint32_t queues = 1000;
    struct fixture *f = fixture_new();
    char name[64];
    const uint64_t begin = now_ns();
    for (uint32_t i = 0; i < queues; i++) {
        snprintf(name, sizeof(name), "%u", i);
        queue(f, name);
    }
    report("declare a queue", begin, queues);
    for (uint32_t i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "%u", i);
        bind_queue(f, "amq.fanout", name, "");
    }
    struct messages *m = messages_new("", "", queues);
    bench(f, "default exchange", "", m, 40000);
    bench(f, "fanout to 100 queues", "amq.fanout", m, 1000);
    messages_free(m);
    printf("%-18s %11s %8u bindings %5s %11s %11s\n", "", "100", bindings, "rate", "bind",
           "unbind");
    topic_keys(f, bindings);
    few_and_many(f, "topic", bindings, 40000);
    few_and_many(f, "direct", bindings, 40000);
    few_and_many(f, "headers", bindings, 40000);
    few_and_many(f, "x-consistent-hash", bindings, 40000);
    few_and_many(f, "x-modulus-hash", bindings, 40000);
    few_and_many(f, "x-random", bindings, 40000);
    bench_state(f, bindings);
    fixture_free(f);
    return 0;
}
