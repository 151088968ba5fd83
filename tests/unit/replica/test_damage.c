/* Parcels that arrive damaged: refused or of no consequence, never an abort. */
#include "users.h"

#include "parcel.h"
#include "warren/wire_table.h"

/* A queue whose parcels have everything in them: refusals, dead letters, what a peek finds. */
static uint64_t declare_busy(struct test_cluster *c)
{
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_int64(&w, "x-message-ttl", 50);
    wire_table_put_int64(&w, "x-max-length", 30);
    wire_table_put_cstr(&w, "x-overflow", "reject-publish");
    wire_table_put_cstr(&w, "x-dead-letter-exchange", "");
    struct buf *b = writer_take(&w);
    const uint64_t queue = cluster_declare_with(c, "q", (uint32_t[]){0, 1, 2}, 3, -1,
                                                bytes_make(b->data, b->size), false);
    buf_unref(b);
    return queue;
}

static void run(uint64_t seed, uint8_t kind)
{
    struct test_cluster *c = cluster_new(seed, 3, 1 + seed % 2);
    struct traffic *t = wr_calloc(1, sizeof *t);
    struct user *u = wr_calloc(3, sizeof *u);
    const bool busy = seed % 4 < 2;
    uint64_t queue = busy ? declare_busy(c) : cluster_declare(c, "q", (uint32_t[]){0, 1, 2}, 3, -1);
    t->damaged = true;
    user_open(&u[0], c, 1, 0, queue, t);
    user_open(&u[1], c, 2, 0, queue, t);
    user_consume(&u[1], 1, 0, busy ? 1 : 20, UINT64_MAX);
    user_open(&u[2], c, 2, 0, queue, t);
    user_consume(&u[2], 1, QUEUE_DEAD, 5, UINT64_MAX);
    c->damage = 1 + (uint32_t)seed % 8;
    c->damage_kind = kind;
    for (uint32_t i = 0; i < 20; i++) {
        u[0].more.delay_ms = i % 5 == 0 ? 100 : 0;
        u[0].more.publisher = i % 2 == 0 ? BYTES_LITERAL("p") : BYTES_NONE;
        user_publish(&u[0], busy ? 25 : 10, i % 3 == 0 ? 20000 : 100);
        queue_client_peek(u[2].client, 1, 20, QUEUE_PLACE_READY | QUEUE_PLACE_DELAYED);
        queue_client_take(u[2].client, 1, 3, 0, QUEUE_PLACE_READY);
        for (uint32_t k = 0; k < 100; k++) {
            if (!cluster_step(c)) {
                cluster_sleep(c, 10);
            }
        }
        if (i == 10) {
            cluster_crash(c, 0); /* no client is there */
        } else if (i == 13) {
            cluster_restart(c, 0, false);
        }
    }
    c->damage = 0;
    user_close(&u[0]);
    user_close(&u[1]);
    user_close(&u[2]);
    cluster_settle(c, 1000);
    cluster_free(c);
    wr_free(u);
    wr_free(t);
}

#define KIND(name, kind)                                                                           \
    Test(damage, name)                                                                             \
    {                                                                                              \
        for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(20); seed++) {            \
            run(seed, kind);                                                                       \
        }                                                                                          \
    }

KIND(ops, PARCEL_OPS)
KIND(effects, PARCEL_EFFECTS)
KIND(resume, PARCEL_RESUME)
KIND(resumed, PARCEL_RESUMED)
KIND(leader, PARCEL_LEADER)
KIND(raft, PARCEL_RAFT)
KIND(any, 0)

static uint32_t lines_refused;

static void count_refused(void *ctx, enum log_level level, const char *component, const char *line)
{
    (void)ctx;
    (void)level;
    (void)component;
    lines_refused += strstr(line, "refused") != NULL;
}

Test(damage, a_leader_on_a_shard_that_is_not_there)
{
    struct test_cluster *c = cluster_new(1, 2, 1);
    struct traffic *t = wr_calloc(1, sizeof *t);
    struct user *u = wr_calloc(1, sizeof *u);
    uint64_t queue = cluster_declare(c, "q", (uint32_t[]){0, 1}, 2, -1);
    user_open(u, c, 1, 0, queue, t);
    user_publish(u, 1, 100);
    cr_assert(cluster_run(c, all_confirmed, u, 5000));
    const struct uid own = c->nodes[1].id;
    const uint64_t numbers[] = {own.hi, own.lo, 7};
    struct parcel *parcel = parcel_make(cluster_host(c, 0, 0), PARCEL_LEADER, 1, queue, own, 0);
    numbers_pack(parcel, numbers, 3, SLICE_NONE);
    c->logger.sink = count_refused;
    host_on_parcel(cluster_host(c, 1, 0), parcel);
    user_publish(u, 10, 100);
    cr_assert(cluster_run(c, all_confirmed, u, 5000));
    cr_assert_eq(lines_refused, 1);
    user_close(u);
    cluster_settle(c, 500);
    cluster_free(c);
    wr_free(u);
    wr_free(t);
}

/* A report of an earlier version has fewer numbers, one of a later version more than we know. */
Test(damage, numbers_of_other_versions)
{
    struct test_cluster *c = cluster_new(1, 1, 1);
    const uint64_t sent[] = {1, 2, 3};
    const struct {
        uint32_t least, most;
        int error;
    } cases[] = {{3, 3, 0}, {3, 5, 0}, {1, 3, 0}, {4, 5, WR_E_CORRUPT}, {1, 2, WR_E_CORRUPT}};
    for (size_t i = 0; i < WR_ARRAY_SIZE(cases); i++) {
        uint64_t got[5] = {0, 0, 0, 7, 8};
        struct slice raw;
        struct parcel *parcel =
            parcel_make(cluster_host(c, 0, 0), PARCEL_REPORTED, 1, 1, c->nodes[0].id, 0);
        numbers_pack(parcel, sent, 3, SLICE_NONE);
        cr_assert_eq(numbers_unpack_some(parcel, got, cases[i].least, cases[i].most, &raw),
                     cases[i].error, "case %zu", i);
        if (cases[i].error == 0) {
            cr_assert_eq(memcmp(got, sent, sizeof sent), 0);
            cr_assert(got[3] == 7 && got[4] == 8);
        }
        parcel_free(parcel);
    }
    cluster_free(c);
}
