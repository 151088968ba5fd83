/* What the host does for the rest of the queue machine: refusals that survive their leader,
 * configurations that follow the record, dead letters, takes and peeks, publishers' numbers. */
#include <stdio.h>

#include "home.h"
#include "users.h"

#include "client_internal.h"
#include "warren/wire_table.h"

struct scene {
    struct test_cluster *c;
    struct traffic *t;
    struct user *u; /* 0: publisher, 1: consumer */
    uint64_t queue;
};

struct argument {
    const char *key;
    int64_t value;
    const char *text; /* instead */
};

static uint64_t declare(struct test_cluster *c, uint32_t replicas, int local,
                        const struct argument *arguments, uint32_t count)
{
    struct writer w;
    writer_init(&w, 64);
    for (uint32_t i = 0; i < count; i++) {
        if (arguments[i].text != NULL) {
            wire_table_put_cstr(&w, arguments[i].key, arguments[i].text);
        } else {
            wire_table_put_int64(&w, arguments[i].key, arguments[i].value);
        }
    }
    struct buf *b = writer_take(&w);
    const uint64_t queue = cluster_declare_with(c, "q", (uint32_t[]){0, 1, 2}, replicas, local,
                                                bytes_make(b->data, b->size), false);
    buf_unref(b);
    return queue;
}

static struct scene scene_new(uint64_t seed, uint32_t nodes, uint32_t shards, uint32_t replicas,
                              int local, const struct argument *arguments, uint32_t count)
{
    struct scene s;
    s.c = cluster_new(seed, nodes, shards);
    s.t = wr_calloc(1, sizeof *s.t);
    s.u = wr_calloc(2, sizeof *s.u);
    s.queue = declare(s.c, replicas, local, arguments, count);
    return s;
}

static void scene_free(struct scene *s)
{
    user_close(&s->u[0]);
    user_close(&s->u[1]);
    cluster_settle(s->c, 300);
    cluster_free(s->c);
    wr_free(s->u);
    wr_free(s->t);
}

static uint32_t serving_node(const struct scene *s)
{
    const int leader = cluster_leader(s->c, s->queue);
    uint32_t node = leader >= 0 ? (uint32_t)leader : 0;
    while (!s->c->nodes[node].alive) { /* nobody leads: some replica */
        node++;
    }
    return node;
}

static struct queue *served(const struct scene *s)
{
    return cluster_home(s->c, serving_node(s), s->queue)->queue;
}

static struct queue_config config_of(const struct queue *queue)
{
    struct queue_config config;
    queue_get_config(queue, &config);
    return config;
}

static struct queue_totals totals(const struct scene *s)
{
    struct queue_totals t;
    queue_totals(served(s), &t);
    return t;
}

static void publish(struct scene *s, uint32_t count, uint32_t size)
{
    user_publish(&s->u[0], count, size);
    cr_assert(cluster_run(s->c, all_confirmed, &s->u[0], 10000), "%u of %u answered",
              s->t->confirmed_count + s->t->nacked_count, s->t->published);
}

static uint64_t peek_all(struct scene *s, struct user *u, uint64_t position, uint64_t count,
                         uint8_t places)
{
    u->replies = 0;
    queue_client_peek(u->client, position, count, places);
    (void)cluster_host(s->c, u->node, u->shard);
    cr_assert(cluster_run(s->c, replied, u, 20000));
    cr_assert_eq(u->status, QUEUE_OK);
    return u->value;
}

/* --- refused publishes ----------------------------------------------------------------------- */

static const struct argument full_at_five[] = {{"x-max-length", 5, NULL},
                                               {"x-overflow", 0, "reject-publish"}};

static void refuse_five(struct scene *s)
{
    cr_assert(cluster_run(s->c, all_confirmed, &s->u[0], 20000), "%u of %u answered",
              s->t->confirmed_count + s->t->nacked_count, s->t->published);
    cr_assert_eq(s->t->confirmed_count, 5);
    cr_assert_eq(s->t->nacked_count, s->t->published - 5);
    cr_assert_eq(totals(s).ready, 5);
    for (uint32_t i = 1; i <= 5; i++) {
        cr_assert(s->t->confirmed[i]);
    }
}

Test(machine, refused_publishes_are_nacked)
{
    for (uint32_t round = 0; round < 8; round++) {
        const bool local = round % 2 == 0;
        struct scene s =
            scene_new(round, 2, 2, 1, local ? 0 : -1, full_at_five, WR_ARRAY_SIZE(full_at_five));
        user_open(&s.u[0], s.c, round / 2 % 2, round / 4 % 2, s.queue, s.t);
        user_publish(&s.u[0], 12, 50);
        refuse_five(&s);
        scene_free(&s);
    }
}

/* The leader applied, and died before it could say so: to whoever leads then, to a client on its
 * shard, on another one, on another node. A refused publish must not become a confirmed one. */
Test(machine, refusals_survive_the_leader_that_did_not_tell)
{
    uint32_t silent = 0;
    uint32_t runs = 0;
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(24); seed++) {
        struct scene s =
            scene_new(100 + seed, 3, 2, 3, -1, full_at_five, WR_ARRAY_SIZE(full_at_five));
        user_open(&s.u[0], s.c, 1 + (uint32_t)seed % 2, (uint32_t)seed / 2 % 2, s.queue, s.t);
        user_publish(&s.u[0], 5, 50);
        cr_assert(cluster_run(s.c, all_confirmed, &s.u[0], 5000));
        cr_assert_eq(serving_node(&s), 0);
        s.c->lose_kind = PARCEL_EFFECTS;
        user_publish(&s.u[0], 7, 50);
        cluster_settle(s.c, 100);
        silent += s.t->nacked_count == 0 && totals(&s).refused == 7;
        runs++;
        cluster_crash(s.c, 0);
        s.c->lose_kind = 0;
        user_publish(&s.u[0], 3, 50);
        refuse_five(&s);
        scene_free(&s);
    }
    cr_assert_eq(silent, runs, "the leader told, or did not apply: this test tests nothing");
}

/* The link breaks instead, and the same leader is asked; or it is a local queue of another node. */
Test(machine, refusals_survive_a_link)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(24); seed++) {
        const bool local = seed % 2 == 0;
        struct scene s = scene_new(200 + seed, 3, 2, 3, local ? (int)(seed / 2 % 2) : -1,
                                   full_at_five, WR_ARRAY_SIZE(full_at_five));
        user_open(&s.u[0], s.c, 1, (uint32_t)seed / 4 % 2, s.queue, s.t);
        user_publish(&s.u[0], 5, 50);
        cr_assert(cluster_run(s.c, all_confirmed, &s.u[0], 5000));
        s.c->lose_kind = PARCEL_EFFECTS;
        user_publish(&s.u[0], 7, 50);
        cluster_settle(s.c, 50);
        cr_assert_eq(s.t->nacked_count, 0);
        cluster_cut(s.c, 0, 1);
        s.c->lose_kind = 0;
        cluster_join(s.c, 0, 1);
        user_publish(&s.u[0], 3, 50);
        refuse_five(&s);
        scene_free(&s);
    }
}

struct window {
    struct user *u;
    uint64_t most, last;
};

static bool all_applied(void *ctx)
{
    struct window *w = ctx;
    const uint64_t sent = w->u->client->ops_sent - w->u->client->ops_first;
    w->most = sent > w->most ? sent : w->most;
    return w->u->applied == w->last;
}

/* Of more ops than a queue remembers refusals of, some wait in the client. */
Test(machine, no_more_ops_are_on_their_way_than_refusals_are_remembered)
{
    for (uint32_t node = 0; node < 2; node++) {
        struct scene s = scene_new(290 + node, 2, 1, 2, -1, full_at_five, 2);
        user_open(&s.u[0], s.c, node, 0, s.queue, s.t);
        user_consume(&s.u[0], 1, 0, 0, 0);
        struct window w = {.u = &s.u[0]};
        for (uint64_t i = 0; i < QUEUE_NACKED_KEPT / 2 + 6000; i++) {
            w.last = queue_client_credit(s.u[0].client, 1, 0);
        }
        (void)cluster_host(s.c, node, 0);
        cr_assert(cluster_run(s.c, all_applied, &w, 60000));
        cr_assert(w.most > 0 && w.most <= QUEUE_NACKED_KEPT / 2, "%llu",
                  (unsigned long long)w.most);
        scene_free(&s);
    }
}

/* Room comes and goes, links break, leaders die: what is confirmed is there, what is refused is
 * not. */
Test(machine, a_full_queue_under_faults)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(20); seed++) {
        struct scene s = scene_new(300 + seed, 3, 1 + (uint32_t)seed % 2, 3, -1, full_at_five,
                                   WR_ARRAY_SIZE(full_at_five));
        struct prng prng;
        prng_init(&prng, seed);
        user_open(&s.u[0], s.c, 2, 0, s.queue, s.t);
        user_open(&s.u[1], s.c, 2, 0, s.queue, s.t);
        user_consume(&s.u[1], 1, 0, 2, UINT64_MAX);
        for (uint32_t round = 0; round < 10; round++) {
            const uint32_t victim = (uint32_t)prng_below(&prng, 2);
            user_publish(&s.u[0], 20, seed % 3 == 0 ? 3000 : 50);
            for (uint64_t i = prng_below(&prng, 300); i > 0; i--) {
                if (!cluster_step(s.c)) {
                    cluster_sleep(s.c, 10);
                }
            }
            if (round % 3 == 2) {
                cluster_crash(s.c, victim);
                cluster_restart(s.c, victim, true);
            } else {
                cluster_cut(s.c, 2, victim);
                cluster_join(s.c, 2, victim);
            }
        }
        cr_assert(cluster_run(s.c, all_confirmed, &s.u[0], 30000));
        cluster_settle(s.c, 5000);
        for (uint32_t i = 1; i <= s.t->published; i++) {
            cr_assert_eq(s.t->delivered[i] > 0, s.t->confirmed[i],
                         "seed %u: message %u was %s and %s", (unsigned)seed, i,
                         s.t->confirmed[i] ? "confirmed" : "refused",
                         s.t->delivered[i] > 0 ? "came" : "did not come");
        }
        cr_assert_gt(s.t->nacked_count, 0);
        scene_free(&s);
    }
}

/* --- configuration --------------------------------------------------------------------------- */

static uint64_t last_index(const struct scene *s)
{
    struct group_status status;
    cr_assert(host_group_status(s->c->nodes[serving_node(s)].shards[0].host, s->queue, &status));
    return status.last;
}

Test(machine, the_configuration_is_that_of_the_record)
{
    static const struct argument arguments[] = {{"x-message-ttl", 60000, NULL},
                                                {"x-max-length", 7, NULL},
                                                {"x-dead-letter-exchange", 0, "dlx"},
                                                {"x-dedup-window", 9, NULL}};
    for (uint32_t round = 0; round < 2; round++) {
        struct scene s = scene_new(400 + round, 3, 1, 3, round == 0 ? 0 : -1, arguments,
                                   WR_ARRAY_SIZE(arguments));
        user_open(&s.u[0], s.c, 0, 0, s.queue, s.t);
        publish(&s, 1, 50);
        const struct queue_config config = config_of(served(&s));
        cr_assert_eq(config.ttl_ms, 60000);
        cr_assert_eq(config.length_max, 7);
        cr_assert_eq(config.dedup_window_ms, 9);
        cr_assert(config.dead_letter);
        if (round == 1) {
            const uint64_t before = last_index(&s);
            cluster_crash(s.c, 0);
            s.u[0].client = NULL;
            cluster_settle(s.c, 3000);
            cr_assert_eq(config_of(served(&s)).ttl_ms, 60000);
            cr_assert_leq(last_index(&s), before + 3, "proposed again though nothing differs");
        }
        scene_free(&s);
    }
}

static void put_policy(struct test_cluster *c, const char *pattern, const char *key, int64_t value)
{
    struct catalog_command command = {.kind = CATALOG_PUT_POLICY};
    struct catalog_result result;
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_int64(&w, key, value);
    struct buf *definition = writer_take(&w);
    command.u.policy =
        (struct catalog_policy_spec){.vhost = BYTES_LITERAL("/"),
                                     .name = BYTES_LITERAL("p"),
                                     .pattern = bytes_from_cstr(pattern),
                                     .definition = bytes_make(definition->data, definition->size),
                                     .apply_to = CATALOG_APPLY_QUEUES};
    cluster_apply(c, &command, &result);
    cr_assert_eq(result.status, CATALOG_OK, "%s", catalog_status_text(result.status));
    buf_unref(definition);
    cluster_views(c);
}

static void delete_policy(struct test_cluster *c)
{
    struct catalog_command command = {.kind = CATALOG_DELETE_POLICY};
    struct catalog_result result;
    command.u.policy.vhost = BYTES_LITERAL("/");
    command.u.policy.name = BYTES_LITERAL("p");
    cluster_apply(c, &command, &result);
    cr_assert_eq(result.status, CATALOG_OK);
    cluster_views(c);
}

Test(machine, a_policy_reaches_queues_that_run)
{
    static const struct argument arguments[] = {{"x-max-length", 7, NULL}};
    for (uint32_t round = 0; round < 3; round++) {
        struct scene s = scene_new(420 + round, 3, 1, 3, round == 0 ? 0 : -1, arguments, 1);
        user_open(&s.u[0], s.c, 2, 0, s.queue, s.t);
        publish(&s, 1, 50);
        put_policy(s.c, "q", "message-ttl", 7777);
        cluster_settle(s.c, 200);
        cr_assert_eq(config_of(served(&s)).ttl_ms, 7777);
        cr_assert_eq(config_of(served(&s)).length_max, 7);
        const uint64_t before = round == 0 ? 0 : last_index(&s);
        put_policy(s.c, "^q$", "message-ttl", 7777); /* says the same */
        cluster_settle(s.c, 200);
        cr_assert(round == 0 || last_index(&s) == before, "proposed though nothing differs");
        if (round == 2) { /* nobody leads while it changes */
            cluster_crash(s.c, 0);
            put_policy(s.c, "q", "message-ttl", 8888);
            cr_assert_lt(cluster_leader(s.c, s.queue), 0);
            cluster_settle(s.c, 2000);
            cr_assert_eq(config_of(served(&s)).ttl_ms, 8888);
        }
        put_policy(s.c, "^q$", "message-ttl", 1);
        put_policy(s.c, "^q$", "message-ttl", 2);
        delete_policy(s.c);
        cluster_settle(s.c, 200);
        cr_assert_eq(config_of(served(&s)).ttl_ms, UINT64_MAX);
        cr_assert_eq(cluster_home(s.c, serving_node(&s), s.queue)->configs_asked, 0);
        scene_free(&s);
    }
}

/* What is published once the view has the policy, is under it: also where the group is just being
 * made. */
Test(machine, a_policy_holds_from_the_first_message_on)
{
    static const struct argument arguments[] = {{"x-max-length", 7, NULL}};
    struct scene s = {.c = cluster_new(425, 3, 1)};
    put_policy(s.c, "q", "message-ttl", 100000);
    s.t = wr_calloc(1, sizeof *s.t);
    s.u = wr_calloc(2, sizeof *s.u);
    s.queue = declare(s.c, 3, -1, arguments, 1);
    user_open(&s.u[0], s.c, 1, 0, s.queue, s.t);
    publish(&s, 1, 50);
    cr_assert_eq(peek_all(&s, &s.u[0], 0, 10, QUEUE_PLACE_READY), 0);
    cr_assert_eq(s.u[0].peeked.count, 1);
    cr_assert_leq(s.u[0].peeked.items[0].at_ms, user_now_ms(&s.u[0]) + 100000);
    scene_free(&s);
}

Test(machine, a_policy_over_many_queues_is_no_storm)
{
    enum { QUEUES = 500 };
    struct test_cluster *c = cluster_new(430, 1, 1);
    uint64_t queues[QUEUES];
    for (uint32_t i = 0; i < QUEUES; i++) {
        char name[16];
        snprintf(name, sizeof name, "q%u", i);
        queues[i] = cluster_declare(c, name, (uint32_t[]){0}, 1, -1);
    }
    cluster_settle(c, 2000);
    put_policy(c, ".*", "message-ttl", 7777);
    struct host *host = cluster_host(c, 0, 0);
    host_turn(host);
    uint32_t asked = 0;
    for (uint32_t i = 0; i < QUEUES; i++) {
        asked += cluster_home(c, 0, queues[i])->configs_asked;
    }
    cr_assert(asked > 0 && asked <= 64, "%u in one turn", asked);
    cluster_settle(c, 2000);
    for (uint32_t i = 0; i < QUEUES; i++) {
        cr_assert_eq(config_of(cluster_home(c, 0, queues[i])->queue).ttl_ms, 7777);
    }
    cluster_free(c);
}

static bool somebody_leads(void *ctx)
{
    const struct scene *s = ctx;
    return cluster_leader(s->c, s->queue) >= 0;
}

static bool told_unused(void *ctx)
{
    return ((struct test_cluster *)ctx)->unused_told > 0;
}

/* Nobody leads for longer than the lease, and its policy changes meanwhile: what the new leader
 * proposes first must not find that the lease has ended. */
Test(machine, a_lease_outlives_a_time_without_a_leader)
{
    static const struct argument arguments[] = {{"x-expires", 1000, NULL}};
    struct scene s = scene_new(428, 3, 1, 3, -1, arguments, 1);
    user_open(&s.u[0], s.c, 1, 0, s.queue, s.t);
    publish(&s, 1, 50);
    cluster_crash(s.c, 0);
    cluster_cut(s.c, 1, 2);
    cluster_settle(s.c, 3000);
    put_policy(s.c, "q", "message-ttl", 100000);
    cluster_join(s.c, 1, 2);
    cr_assert(cluster_run(s.c, somebody_leads, &s, 5000));
    cluster_settle(s.c, 800);
    cr_assert_eq(s.c->unused_told, 0);
    cr_assert_eq(config_of(served(&s)).ttl_ms, 100000);
    cr_assert(cluster_run(s.c, told_unused, s.c, 1000));
    scene_free(&s);
}

/* A replica that comes later begins where the first ones began, and applies the same log. */
Test(machine, a_replica_that_comes_later_is_equal)
{
    static const struct argument arguments[] = {{"x-message-ttl", 60000, NULL},
                                                {"x-max-priority", 3, NULL}};
    struct scene s = scene_new(410, 3, 1, 1, -1, arguments, WR_ARRAY_SIZE(arguments));
    user_open(&s.u[0], s.c, 0, 0, s.queue, s.t);
    s.u[0].priorities = 4;
    publish(&s, 20, 50);
    cluster_set_replicas(s.c, s.queue, (uint32_t[]){0, 1, 2}, 3, 5);
    cluster_settle(s.c, 5000);
    publish(&s, 20, 50);
    cluster_settle(s.c, 200);
    for (uint32_t i = 1; i < 3; i++) {
        cr_assert_eq(queue_hash(cluster_home(s.c, i, s.queue)->queue), queue_hash(served(&s)));
    }
    scene_free(&s);
}

/* --- dead letters ---------------------------------------------------------------------------- */

static const struct argument dies_soon[] = {{"x-message-ttl", 100, NULL},
                                            {"x-dead-letter-exchange", 0, "dlx"}};

static bool told_dead(void *ctx)
{
    return ((struct test_cluster *)ctx)->dead_told > 0;
}

struct dead_wait {
    const struct user *u;
    uint32_t count;
};

static bool dead_came(void *ctx)
{
    const struct dead_wait *wait = ctx;
    return wait->u->dead.count >= wait->count;
}

static bool no_dead(void *ctx)
{
    return totals(ctx).dead == 0;
}

Test(machine, dead_letters_are_told_and_handed_over)
{
    for (uint32_t round = 0; round < 6; round++) {
        const bool local = round % 2 == 0;
        struct scene s = scene_new(500 + round, 2, 2, local ? 1 : 2, local ? 0 : -1, dies_soon,
                                   WR_ARRAY_SIZE(dies_soon));
        user_open(&s.u[0], s.c, 0, 0, s.queue, s.t);
        /* Big ones go by position where there is a replica. */
        publish(&s, 10, round == 5 ? 8000 : 50);
        cluster_settle(s.c, 90);
        cr_assert_eq(s.c->dead_told, 0);
        cr_assert(cluster_run(s.c, told_dead, s.c, 1000));
        cluster_settle(s.c, 2500);
        cr_assert(s.c->dead_told >= 3 && s.c->dead_told <= 4, "%u times", s.c->dead_told);
        user_open(&s.u[1], s.c, round / 2 == 0 ? 0 : 1, round / 2 % 2, s.queue, s.t);
        user_consume(&s.u[1], 1, QUEUE_DEAD, 3, UINT64_MAX);
        struct dead_wait wait = {&s.u[1], 10};
        cr_assert(cluster_run(s.c, dead_came, &wait, 5000), "%zu came", s.u[1].dead.count);
        cr_assert(cluster_run(s.c, no_dead, &s, 1000));
        for (uint32_t i = 0; i < 10; i++) {
            cr_assert_eq(s.u[1].dead.items[i].number, i + 1);
            cr_assert_eq(s.u[1].dead.items[i].reason, QUEUE_DIED_EXPIRED);
            cr_assert_leq(s.u[1].dead.items[i].died_ms, s.u[1].dead.items[i].at_ms);
            cr_assert_geq(s.u[1].dead.items[i].died_ms, s.u[1].dead.items[i].at_ms - 3000);
        }
        const uint32_t told = s.c->dead_told;
        publish(&s, 5, 50);
        wait.count = 15;
        cr_assert(cluster_run(s.c, dead_came, &wait, 5000));
        cluster_settle(s.c, 3000);
        cr_assert_eq(s.c->dead_told, told, "somebody takes them");
        scene_free(&s);
    }
}

/* Who hands them over dies, the leader dies: nothing is lost, and the next leader says so. */
Test(machine, dead_letters_survive_leaders_and_takers)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(10); seed++) {
        struct scene s = scene_new(520 + seed, 3, 1, 3, -1, dies_soon, WR_ARRAY_SIZE(dies_soon));
        user_open(&s.u[0], s.c, 2, 0, s.queue, s.t);
        publish(&s, 10, 50);
        cluster_settle(s.c, 200);
        cr_assert_eq(serving_node(&s), 0);
        user_open(&s.u[1], s.c, 0, 0, s.queue, s.t);
        s.u[1].ack = false;
        user_consume(&s.u[1], 1, QUEUE_DEAD, 0, UINT64_MAX);
        struct dead_wait wait = {&s.u[1], 10};
        cr_assert(cluster_run(s.c, dead_came, &wait, 5000));
        for (uint32_t i = 0; i < 4; i++) { /* these have arrived */
            (void)queue_client_settle(s.u[1].client, 1, s.u[1].dead.items[i].ordinal, 1, QUEUE_ACK);
        }
        (void)cluster_host(s.c, 0, 0);
        cluster_settle(s.c, 100);
        s.c->dead_told = 0;
        cluster_crash(s.c, 0); /* leader and taker */
        s.u[1].client = NULL;
        user_close(&s.u[1]);
        cr_assert(cluster_run(s.c, told_dead, s.c, 20000));
        user_open(&s.u[1], s.c, 1, 0, s.queue, s.t);
        user_consume(&s.u[1], 1, QUEUE_DEAD, 0, UINT64_MAX);
        wait.count = 6;
        cr_assert(cluster_run(s.c, dead_came, &wait, 5000));
        cr_assert_eq(s.u[1].dead.items[0].number, 5);
        cr_assert(cluster_run(s.c, no_dead, &s, 5000));
        cr_assert_eq(s.u[1].dead.count, 6);
        scene_free(&s);
    }
}

/* Dead letters that are on disk only, after a restart of everything. */
Test(machine, dead_letters_outlive_segments_and_restarts)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(4); seed++) {
        struct scene s = scene_new(540 + seed, 3, 1, 3, -1, dies_soon, WR_ARRAY_SIZE(dies_soon));
        user_open(&s.u[0], s.c, 2, 0, s.queue, s.t);
        for (uint32_t i = 0; i < 40; i++) {
            publish(&s, 50, 1000);
        }
        cluster_settle(s.c, 1000);
        cr_assert_eq(totals(&s).dead, 2000);
        for (uint32_t i = 0; i < 3; i++) {
            cluster_crash(s.c, i);
        }
        s.u[0].client = NULL;
        for (uint32_t i = 0; i < 3; i++) {
            cluster_restart(s.c, i, true);
        }
        s.c->dead_told = 0;
        cr_assert(cluster_run(s.c, told_dead, s.c, 20000));
        user_open(&s.u[1], s.c, (uint32_t)seed % 3, 0, s.queue, s.t);
        user_consume(&s.u[1], 1, QUEUE_DEAD, 50, UINT64_MAX);
        struct dead_wait wait = {&s.u[1], 2000};
        cr_assert(cluster_run(s.c, dead_came, &wait, 60000), "%zu came", s.u[1].dead.count);
        for (uint32_t i = 0; i < 2000; i++) {
            cr_assert_eq(s.u[1].dead.items[i].number, i + 1);
        }
        cr_assert(cluster_run(s.c, no_dead, &s, 5000));
        scene_free(&s);
    }
}

static bool all_dead(void *ctx)
{
    return totals(ctx).dead == 10;
}

/* A queue is served before its node has a boot number, without which nobody can take dead letters:
 * they are told of as soon as there is one, and not a second later. */
Test(machine, dead_letters_are_told_when_the_boot_is_known)
{
    struct scene s = scene_new(550, 1, 1, 1, -1, dies_soon, WR_ARRAY_SIZE(dies_soon));
    user_open(&s.u[0], s.c, 0, 0, s.queue, s.t);
    publish(&s, 10, 50);
    cluster_settle(s.c, 50);
    cluster_crash(s.c, 0);
    s.u[0].client = NULL;
    s.c->dead_told = 0;
    cluster_restart_unbooted(s.c, 0);
    cr_assert(cluster_run(s.c, all_dead, &s, 20000));
    cluster_settle(s.c, 100);
    cr_assert_eq(s.c->dead_told, 0, "nobody could take them");
    cluster_reboot(s.c, 0);
    cr_assert(cluster_run(s.c, told_dead, s.c, 10));
    scene_free(&s);
}

/* --- take and peek --------------------------------------------------------------------------- */

Test(machine, peek_and_take)
{
    static const struct argument plain[] = {{"x-max-length", 100, NULL}};
    for (uint32_t round = 0; round < 8; round++) {
        const bool local = round % 2 == 0;
        struct scene s = scene_new(600 + round, 2, 2, 1, local ? 0 : -1, plain, 1);
        user_open(&s.u[0], s.c, round / 2 % 2, round / 4, s.queue, s.t);
        struct user *u = &s.u[0];
        publish(&s, 10, 50);
        u->more.delay_ms = 3600000;
        publish(&s, 2, 50);
        u->more.delay_ms = 0;
        cr_assert_eq(peek_all(&s, u, 0, 4, QUEUE_PLACE_READY), 5);
        cr_assert_eq(u->peeked.count, 4);
        cr_assert_eq(peek_all(&s, u, 5, 100, QUEUE_PLACE_READY | QUEUE_PLACE_DELAYED), 0);
        cr_assert_eq(u->peeked.count, 12);
        for (uint32_t i = 0; i < 12; i++) {
            cr_assert_eq(u->peeked.items[i].number, i + 1);
            cr_assert_eq(u->peeked.items[i].position, i + 1);
            cr_assert_eq(u->peeked.items[i].place,
                         i < 10 ? QUEUE_PLACE_READY : QUEUE_PLACE_DELAYED);
        }
        u->replies = 0;
        queue_client_take(u->client, 3, 2, 0, QUEUE_PLACE_READY);
        (void)cluster_host(s.c, u->node, u->shard);
        cr_assert(cluster_run(s.c, replied, u, 5000));
        cr_assert_eq(u->value, 2);
        cr_assert(s.t->settled[3] || s.t->delivered[3]);
        cr_assert_eq(s.t->delivered[4], 1);
        cr_assert_eq(u->got, 2);
        u->replies = 0;
        queue_client_take(u->client, 1, 100, QUEUE_NO_ACK, QUEUE_PLACE_DELAYED);
        (void)cluster_host(s.c, u->node, u->shard);
        cr_assert(cluster_run(s.c, replied, u, 5000));
        cr_assert_eq(u->value, 2);
        cr_assert_eq(totals(&s).delayed, 0);
        cr_assert_eq(totals(&s).ready, 8);
        scene_free(&s);
    }
}

/* Contact is lost in the middle of peeks: each says where to go on, and in the end all were seen,
 * once. Most of them must be read from disk. */
Test(machine, peeks_go_on_where_contact_was_lost)
{
    static const struct argument plain[] = {{"x-max-length", 100000, NULL}};
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(8); seed++) {
        struct scene s = scene_new(620 + seed, 3, 1, 3, -1, plain, 1);
        user_open(&s.u[0], s.c, 1, 0, s.queue, s.t);
        for (uint32_t i = 0; i < 30; i++) {
            publish(&s, 50, 1000);
        }
        cluster_settle(s.c, 1000);
        for (uint32_t i = 0; i < 3; i++) {
            cluster_crash(s.c, i);
        }
        s.u[0].client = NULL;
        for (uint32_t i = 0; i < 3; i++) {
            cluster_restart(s.c, i, true);
        }
        user_open(&s.u[1], s.c, 2, 0, s.queue, s.t);
        struct user *u = &s.u[1];
        uint64_t position = 1;
        for (uint32_t round = 0; position != 0; round++) {
            u->replies = 0;
            queue_client_peek(u->client, position, 200, QUEUE_PLACE_READY);
            (void)cluster_host(s.c, 2, 0);
            for (uint64_t i = 0; i < 20 + seed * 7 && round < 10; i++) {
                cluster_step(s.c);
            }
            if (round < 10) {
                const uint32_t leader = serving_node(&s);
                cluster_cut(s.c, leader, leader == 2 ? 0 : 2);
                cluster_join(s.c, leader, leader == 2 ? 0 : 2);
            }
            cr_assert(cluster_run(s.c, replied, u, 20000));
            cr_assert(u->value == 0 || u->value >= position);
            position = u->value;
        }
        cr_assert_eq(u->peeked.count, 1500);
        for (uint32_t i = 0; i < 1500; i++) {
            cr_assert_eq(u->peeked.items[i].number, i + 1);
        }
        u->replies = 0;
        queue_client_take(u->client, 700, 20, 0, QUEUE_PLACE_READY);
        (void)cluster_host(s.c, 2, 0);
        cr_assert(cluster_run(s.c, replied, u, 20000));
        cr_assert_eq(u->value, 20);
        cr_assert_eq(u->got, 20);
        for (uint32_t i = 700; i < 720; i++) {
            cr_assert_eq(s.t->delivered[i], 1);
        }
        scene_free(&s);
    }
}

/* --- publishers' numbers --------------------------------------------------------------------- */

/* Who does not know what arrived sends it all again, from wherever it is then. */
Test(machine, a_publishers_number_is_stored_once)
{
    static const struct argument plain[] = {{"x-max-length", 100000, NULL}};
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(6); seed++) {
        struct scene s = scene_new(640 + seed, 3, 1, 3, -1, plain, 1);
        user_open(&s.u[0], s.c, 1, 0, s.queue, s.t);
        s.u[0].more.publisher = BYTES_LITERAL("orders");
        user_publish(&s.u[0], 100, 50);
        for (uint64_t i = 0; i < seed * 30; i++) {
            cluster_step(s.c);
        }
        cluster_crash(s.c, seed % 2 == 0 ? 1 : 0); /* the publisher, or the leader */
        if (seed % 2 == 0) {
            s.u[0].client = NULL;
        }
        user_close(&s.u[0]);
        struct traffic *again = wr_calloc(1, sizeof *again);
        user_open(&s.u[0], s.c, 2, 0, s.queue, again);
        s.u[0].more.publisher = BYTES_LITERAL("orders");
        user_publish(&s.u[0], 100, 50);
        cr_assert(cluster_run(s.c, all_confirmed, &s.u[0], 20000));
        cr_assert_eq(totals(&s).ready, 100);
        scene_free(&s);
        wr_free(again);
    }
}
