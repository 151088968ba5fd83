/* Backlogs larger than the log: retirement, checkpoints, cold reads, recovery; replicas that need a
 * snapshot; membership. */
#include "home.h"
#include "host_internal.h"
#include "users.h"

#include <stdio.h>

#include "checkpoint_internal.h"
#include "warren/wire_table.h"

struct scene {
    struct test_cluster *c;
    struct traffic *t;
    struct user *u;
    uint64_t queue, seed;
    uint32_t looked;
};

static struct scene scene_new(uint64_t seed, uint32_t nodes, uint32_t replicas)
{
    struct scene s = {.seed = seed};
    s.c = cluster_new(seed, nodes, 1);
    s.t = wr_calloc(1, sizeof *s.t);
    s.u = wr_calloc(3, sizeof *s.u);
    s.queue = cluster_declare(s.c, "q", (uint32_t[]){0, 1, 2}, replicas, -1);
    user_open(&s.u[0], s.c, 0, 0, s.queue, s.t);
    return s;
}

static void scene_free(struct scene *s)
{
    for (uint32_t i = 0; i < 3; i++) {
        user_close(&s->u[i]);
    }
    cluster_settle(s->c, 500);
    cluster_free(s->c);
    wr_free(s->u);
    wr_free(s->t);
}

static uint64_t retired(struct test_cluster *c, uint32_t node)
{
    struct log_statistics statistics;
    log_statistics(c->nodes[node].log, &statistics);
    return statistics.segments_retired;
}

static void publish(struct scene *s, uint32_t count, uint32_t size)
{
    for (uint32_t done = 0; done < count; done += 50) {
        user_publish(&s->u[0], 50, size);
        cr_assert(cluster_run(s->c, all_confirmed, &s->u[0], 20000), "%u of %u confirmed",
                  s->t->confirmed_count, s->t->published);
    }
}

static void restart(struct scene *s, uint32_t node)
{
    cluster_crash(s->c, node);
    cluster_restart(s->c, node, true);
}

static void consume_all(struct scene *s, struct user *u, uint32_t node)
{
    user_open(u, s->c, node, 0, s->queue, s->t);
    u->order = true;
    u->next_number = s->t->settled_count;
    user_consume(u, 1, 0, 100, UINT64_MAX);
    cr_assert(cluster_run(s->c, all_settled, s->t, 60000), "seed %llu: %u of %u settled",
              (unsigned long long)s->seed, s->t->settled_count, s->t->published);
}

static bool one_more(void *ctx)
{
    static const uint32_t step = 50;
    struct scene *s = ctx;
    return s->t->settled_count == s->t->published || s->t->settled_count >= s->looked + step;
}

Test(storage, backlog_outlives_its_segments)
{
    struct scene s = scene_new(1, 1, 1);
    publish(&s, 3000, 1000);
    cluster_settle(s.c, 1000);
    cr_assert_gt(retired(s.c, 0), 3);
    consume_all(&s, &s.u[1], 0);
    publish(&s, 2000, 1000);
    cluster_settle(s.c, 3000);
    cr_assert_lt(sim_kv_count(s.c->nodes[0].kv), 20);
    scene_free(&s);
}

Test(storage, backlog_is_recovered_from_log_and_store)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(6); seed++) {
        struct scene s = scene_new(10 + seed, 1, 1);
        publish(&s, 200 * (uint32_t)(seed % 7) * (uint32_t)(seed % 7), 1000);
        s.u[0].client = NULL;
        restart(&s, 0);
        user_open(&s.u[2], s.c, 0, 0, s.queue, s.t);
        consume_all(&s, &s.u[1], 0);
        scene_free(&s);
    }
}

Test(storage, crash_during_checkpoints)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(12); seed++) {
        struct scene s = scene_new(30 + seed, 1, 1);
        struct prng prng;
        prng_init(&prng, seed);
        for (uint32_t round = 0; round < 6; round++) {
            publish(&s, 300, 1000);
            for (uint32_t i = 0; i < prng_below(&prng, 60); i++) {
                cluster_step(s.c);
            }
            s.u[0].client = NULL;
            restart(&s, 0);
            struct traffic *t = s.t;
            user_close(&s.u[0]);
            user_open(&s.u[0], s.c, 0, 0, s.queue, t);
        }
        consume_all(&s, &s.u[1], 0);
        scene_free(&s);
    }
}

#define OTHERS 8u

/* What several groups have goes to the store together: when there is no room for it, all of them
 * are begun again. */
Test(storage, no_room_for_what_several_queues_have)
{
    for (uint32_t nth = 1; nth <= 12; nth++) {
        struct scene s = scene_new(300 + nth, 1, 1);
        struct traffic *traffic[OTHERS];
        uint64_t queues[OTHERS];
        struct user *u = wr_calloc(OTHERS, sizeof *u);
        for (uint32_t i = 0; i < OTHERS; i++) {
            char name[8];
            (void)snprintf(name, sizeof name, "q%u", i);
            queues[i] = cluster_declare(s.c, name, (uint32_t[]){0}, 1, -1);
            traffic[i] = wr_calloc(1, sizeof **traffic);
            user_open(&u[i], s.c, 0, 0, queues[i], traffic[i]);
            user_publish(&u[i], 5, 100);
            cr_assert(cluster_run(s.c, all_confirmed, &u[i], 20000));
        }
        sim_kv_fail(s.c->nodes[0].kv, SIM_KV_WRITE, nth, 2, WR_E_NOSPACE);
        publish(&s, 2000, 1000);
        cluster_settle(s.c, 3000);
        cr_assert_gt(retired(s.c, 0), 3);
        s.u[0].client = NULL;
        for (uint32_t i = 0; i < OTHERS; i++) {
            u[i].client = NULL;
        }
        restart(&s, 0);
        consume_all(&s, &s.u[1], 0);
        for (uint32_t i = 0; i < OTHERS; i++) {
            user_open(&u[i], s.c, 0, 0, queues[i], traffic[i]);
            user_consume(&u[i], 1, 0, 100, UINT64_MAX);
            cr_assert(cluster_run(s.c, all_settled, traffic[i], 60000), "%u: queue %u", nth, i);
            user_close(&u[i]);
            wr_free(traffic[i]);
        }
        wr_free(u);
        scene_free(&s);
    }
}

static bool reads_the_log_to_copy(void *ctx)
{
    const struct scene *s = ctx;
    const struct checkpoint_job *job = cluster_host(s->c, 0, 0)->checkpoint;
    return job != NULL && job->fetching;
}

static void forget_bytes(struct scene *s)
{
    struct store *store = &cluster_home(s->c, 0, s->queue)->store;
    const uint64_t much = UINT64_C(1) << 40; /* as if others had all the memory */
    *store->host_bytes += much;
    store_make_room(store, UINT64_MAX);
    *store->host_bytes -= much;
}

/* The machine has done with what goes out without acknowledgements, while it waits to be read from
 * a log whose segments go. */
Test(storage, what_was_taken_and_not_read_yet_stays)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(10); seed++) {
        struct scene s = scene_new(340 + seed, 1, 1);
        struct traffic *t = wr_calloc(1, sizeof *t);
        struct user *hot = wr_calloc(1, sizeof *hot);
        publish(&s, 200 + 50 * (uint32_t)(seed % 4), 1000);
        forget_bytes(&s);
        struct home *home = cluster_home(s.c, 0, s.queue);
        home->loading = true; /* a slow disk: a read is under way all the time */
        user_open(&s.u[1], s.c, 0, 0, s.queue, s.t);
        user_consume(&s.u[1], 1, QUEUE_NO_ACK, 0, UINT64_MAX);
        const uint64_t other = cluster_declare(s.c, "hot", (uint32_t[]){0}, 1, -1);
        user_open(hot, s.c, 0, 0, other, t);
        const uint64_t before = retired(s.c, 0);
        while (retired(s.c, 0) < before + 3 + seed % 3) {
            cr_assert_lt(t->published, 5000);
            user_publish(hot, 50, 1000);
            cr_assert(cluster_run(s.c, all_confirmed, hot, 20000));
        }
        cr_assert_lt(s.t->seen_count, s.t->published);
        (void)cluster_host(s.c, 0, 0);
        home->loading = false;
        home_mark(home);
        cr_assert(cluster_run(s.c, all_seen, s.t, 20000), "seed %llu: %u of %u came",
                  (unsigned long long)seed, s.t->seen_count, s.t->published);
        user_close(hot);
        cluster_settle(s.c, 3000);
        cr_assert_eq(rangemap_keys(&home->held_drops), 0);
        wr_free(hot);
        wr_free(t);
        scene_free(&s);
    }
}

/* No descriptor is left for the log's files: nothing is passed over, whoever wants it. */
Test(storage, what_cannot_be_read_now_is_not_lost)
{
    for (uint32_t prefetch = 0; prefetch < 2; prefetch++) {
        struct scene s = scene_new(360 + prefetch, 1, 1);
        publish(&s, 200, 1000);
        forget_bytes(&s);
        sim_disk_fail(s.c->nodes[0].disk, SIM_FILE_OPEN, 1, 8, WR_E_FILES);
        user_open(&s.u[1], s.c, 0, 0, s.queue, s.t);
        user_consume(&s.u[1], 1, prefetch == 0 ? QUEUE_NO_ACK : 0, prefetch * 200, UINT64_MAX);
        cr_assert(cluster_run(s.c, all_seen, s.t, 20000), "%u of %u came", s.t->seen_count,
                  s.t->published);
        scene_free(&s);
    }
}

/* The same of what is committed and was not applied before a start: the replica stands still only
 * as long as there is none. */
Test(storage, what_cannot_be_applied_now_is_applied_later)
{
    for (uint32_t nodes = 1; nodes <= 3; nodes += 2) {
        struct scene s = scene_new(370 + nodes, nodes, nodes);
        publish(&s, 200, 1000);
        s.u[0].client = NULL;
        for (uint32_t node = 0; node < nodes; node++) {
            cluster_crash(s.c, node);
        }
        for (uint32_t node = 0; node < nodes; node++) {
            cluster_restart(s.c, node, true);
            sim_disk_fail(s.c->nodes[node].disk, SIM_FILE_OPEN, 1, 8, WR_E_FILES);
        }
        cluster_settle(s.c, 1000);
        for (uint32_t node = 0; node < nodes; node++) {
            sim_disk_fail(s.c->nodes[node].disk, SIM_FILE_OPEN, 0, 0, 0);
            cr_assert_lt(group_find(cluster_host(s.c, node, 0), s.queue)->applied, 50);
        }
        consume_all(&s, &s.u[1], 0);
        cluster_settle(s.c, 500);
        for (uint32_t node = 0; node < nodes; node++) {
            const struct group *group = group_find(cluster_host(s.c, node, 0), s.queue);
            cr_assert_str_empty(group->failed);
            cr_assert_gt(group->applied, 1);
        }
        scene_free(&s);
    }
}

/* Nor does it end the group when what is to be written again for a release cannot be read now. */
Test(storage, what_cannot_be_written_again_now_waits)
{
    struct scene s = scene_new(380, 1, 1);
    struct relog r = {0};
    publish(&s, 200, 1000);
    s.u[0].client = NULL;
    restart(&s, 0);
    sim_disk_fail(s.c->nodes[0].disk, SIM_FILE_OPEN, 1, 8, WR_E_FILES);
    cluster_settle(s.c, 500);
    struct group *group = group_find(cluster_host(s.c, 0, 0), s.queue);
    cr_assert_lt(group->applied, 50);
    timer_cancel(&group->host->timers, &group->read_again); /* it is asked for first */
    relog_begin(group, &r, group->applied + 1);
    cr_assert_str_empty(group->failed);
    cr_assert(!r.reading && !relog_is_done(&r));
    sim_disk_fail(s.c->nodes[0].disk, SIM_FILE_OPEN, 0, 0, 0);
    relog_go_on(group, &r);
    cr_assert(!r.reading, "not before its time");
    cluster_settle(s.c, 500);
    relog_go_on(group, &r);
    cr_assert(r.reading);
    consume_all(&s, &s.u[1], 0);
    relog_deinit(&r);
    scene_free(&s);
}

/* The queue is deleted while its messages are read for the store: others' segments go all the
 * same. */
Test(storage, queue_ends_while_it_is_copied)
{
    struct scene s = scene_new(320, 1, 1);
    publish(&s, 600, 1000);
    forget_bytes(&s);
    struct traffic *t = wr_calloc(1, sizeof *t);
    struct user *hot = wr_calloc(1, sizeof *hot);
    const uint64_t other = cluster_declare(s.c, "hot", (uint32_t[]){0}, 1, -1);
    user_open(hot, s.c, 0, 0, other, t);
    uint32_t rounds = 0;
    while (!reads_the_log_to_copy(&s)) {
        cr_assert_lt(++rounds, 100);
        user_publish(hot, 50, 1000);
        for (uint32_t i = 0; i < 2000 && !all_confirmed(hot) && !reads_the_log_to_copy(&s); i++) {
            cluster_step(s.c);
        }
    }
    cluster_delete(s.c, s.queue);
    cr_assert(cluster_run(s.c, all_confirmed, hot, 20000));
    const uint64_t before = retired(s.c, 0);
    for (uint32_t i = 0; i < 40; i++) {
        user_publish(hot, 50, 1000);
        cr_assert(cluster_run(s.c, all_confirmed, hot, 20000));
    }
    cluster_settle(s.c, 1000);
    cr_assert_gt(retired(s.c, 0), before + 3);
    user_close(hot);
    wr_free(hot);
    wr_free(t);
    scene_free(&s);
}

Test(storage, one_old_unacked_message_does_not_pin_the_log)
{
    struct scene s = scene_new(50, 1, 1);
    user_open(&s.u[2], s.c, 0, 0, s.queue, s.t);
    s.u[2].ack = false;
    user_consume(&s.u[2], 1, 0, 1, UINT64_MAX);
    publish(&s, 50, 1000);
    user_open(&s.u[1], s.c, 0, 0, s.queue, s.t);
    user_consume(&s.u[1], 1, 0, 0, UINT64_MAX);
    publish(&s, 4000, 1000);
    cr_assert(cluster_run(s.c, all_seen, s.t, 30000));
    cr_assert_gt(retired(s.c, 0), 5);
    cr_assert_eq(s.u[2].got, 1);
    user_ack_all(&s.u[2]);
    s.u[2].ack = true;
    cr_assert(cluster_run(s.c, all_settled, s.t, 30000));
    scene_free(&s);
}

Test(storage, requeued_old_messages_are_read_back)
{
    struct scene s = scene_new(55, 1, 1);
    user_open(&s.u[2], s.c, 0, 0, s.queue, s.t);
    s.u[2].ack = false;
    user_consume(&s.u[2], 1, 0, 30, UINT64_MAX);
    publish(&s, 3000, 1000);
    cr_assert_gt(retired(s.c, 0), 3);
    restart(&s, 0);
    s.u[0].client = s.u[2].client = NULL;
    memset(s.t->delivered, 0, sizeof s.t->delivered);
    s.t->seen_count = 0;
    consume_all(&s, &s.u[1], 0);
    scene_free(&s);
}

/* One node and a queue with ten priorities. */
static struct scene priorities_new(uint64_t seed)
{
    struct scene s = {.seed = seed};
    struct writer w;
    s.c = cluster_new(seed, 1, 1);
    s.c->segment_size = 4 << 20;
    s.t = wr_calloc(1, sizeof *s.t);
    s.u = wr_calloc(3, sizeof *s.u);
    writer_init(&w, 64);
    wire_table_put_int32(&w, "x-max-priority", 10);
    struct buf *arguments = writer_take(&w);
    s.queue = cluster_declare_with(s.c, "q", (uint32_t[]){0}, 1, -1,
                                   bytes_make(arguments->data, arguments->size), false);
    buf_unref(arguments);
    user_open(&s.u[0], s.c, 0, 0, s.queue, s.t);
    s.u[0].priorities = 10;
    return s;
}

/* A backlog that is not in memory, wanted in another order than that of its positions: what comes
 * along with each read must not stay until it is wanted. */
Test(storage, reading_in_another_order_keeps_little)
{
    struct scene s = priorities_new(57);
    publish(&s, 6000, 8000);
    restart(&s, 0);
    s.u[0].client = NULL;
    user_open(&s.u[1], s.c, 0, 0, s.queue, s.t);
    user_consume(&s.u[1], 1, 0, 20, UINT64_MAX);
    uint64_t most = 0;
    for (; s.looked < s.t->published; s.looked = s.t->settled_count) {
        cr_assert(cluster_run(s.c, one_more, &s, 10000));
        const struct group *group = group_find(cluster_host(s.c, 0, 0), s.queue);
        most = group->home->store.bytes > most ? group->home->store.bytes : most;
    }
    cr_assert_lt(most, STORE_QUEUE_BYTES + (4u << 20));
    scene_free(&s);
}

static bool handed_out(void *ctx)
{
    const struct scene *s = ctx;
    return queue_ready(cluster_home(s->c, 0, s->queue)->queue) == s->t->published - s->looked;
}

/* What is done with before its bytes were read is looked through for each message that a read
 * brings: it is kept as runs of positions, whatever order it was taken in. */
Test(storage, what_was_taken_in_another_order_is_one_run)
{
    struct scene s = priorities_new(58);
    publish(&s, 300, 1000);
    forget_bytes(&s);
    struct home *home = cluster_home(s.c, 0, s.queue);
    home->loading = true; /* a slow disk: a read is under way all the time */
    user_open(&s.u[1], s.c, 0, 0, s.queue, s.t);
    user_consume(&s.u[1], 1, QUEUE_NO_ACK, 0, 0);
    while (s.looked < s.t->published) {
        s.looked += 10; /* a command each: the drops of one are joined already */
        (void)cluster_host(s.c, 0, 0);
        (void)queue_client_credit(s.u[1].client, 1, s.looked);
        cr_assert(cluster_run(s.c, handed_out, &s, 20000));
    }
    cr_assert_eq(rangemap_keys(&home->held_drops), 300);
    cr_assert_eq(rangemap_runs(&home->held_drops), 1);
    home->loading = false;
    home_mark(home);
    cr_assert(cluster_run(s.c, all_seen, s.t, 20000), "%u of %u came", s.t->seen_count,
              s.t->published);
    cr_assert_eq(rangemap_keys(&home->held_drops), 0);
    scene_free(&s);
}

/* Many shallow queues: each message came in an entry of its own, much smaller than the room that an
 * entry begins with, and a purge must not leave the payloads with the core. */
Test(storage, what_is_purged_leaves_memory)
{
    for (uint32_t replicas = 1; replicas <= 3; replicas += 2) {
        struct scene s = scene_new(61, replicas, replicas);
        for (uint32_t i = 0; i < 100; i++) {
            user_publish(&s.u[0], 1, 500);
            cr_assert(cluster_run(s.c, all_confirmed, &s.u[0], 20000));
        }
        cluster_settle(s.c, 500);
        for (uint32_t node = 0; node < replicas; node++) {
            const struct group *group = group_find(cluster_host(s.c, node, 0), s.queue);
            cr_assert_lt(raft_cached_bytes(group->raft), 1024);
            const struct store *store = &group->home->store;
            cr_assert_eq(store->live, 100);
            for (uint64_t p = store->base; node == 0 && p < store->end; p++) {
                const struct buf *b = store->ring[p & (store->capacity - 1)].buf;
                cr_assert_lt(b->capacity, 800, "message %llu holds %u bytes", (unsigned long long)p,
                             b->capacity);
            }
        }
        (void)queue_client_purge(s.u[0].client);
        cluster_settle(s.c, 500);
        for (uint32_t node = 0; node < replicas; node++) {
            const struct group *group = group_find(cluster_host(s.c, node, 0), s.queue);
            cr_assert_eq(group->home->store.bytes, 0);
            cr_assert_lt(raft_cached_bytes(group->raft), 1024);
        }
        s.t->settled_count = s.t->published;
        scene_free(&s);
    }
}

Test(storage, replica_that_was_away_gets_a_snapshot)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(4); seed++) {
        struct scene s = scene_new(60 + seed, 3, 3);
        publish(&s, 100, 1000);
        cluster_crash(s.c, 2);
        publish(&s, 2500, 1000);
        cluster_restart(s.c, 2, true);
        cluster_settle(s.c, 8000);
        struct group_status status, leader;
        cr_assert(host_group_status(cluster_host(s.c, 2, 0), s.queue, &status));
        cr_assert(host_group_status(cluster_host(s.c, (uint32_t)cluster_leader(s.c, s.queue), 0),
                                    s.queue, &leader));
        cr_assert_eq(status.applied, leader.applied, "%llu of %llu",
                     (unsigned long long)status.applied, (unsigned long long)leader.applied);
        /* The others go: what it has is what there is. */
        cluster_crash(s.c, 1);
        cluster_restart(s.c, 1, true);
        consume_all(&s, &s.u[1], 2);
        scene_free(&s);
    }
}

Test(storage, replica_moves_to_a_new_node)
{
    struct scene s = scene_new(80, 3, 2);
    publish(&s, 1500, 1000);
    cluster_set_replicas(s.c, s.queue, (uint32_t[]){0, 2}, 2, 5);
    cluster_settle(s.c, 15000);
    struct group_status status;
    cr_assert(host_group_status(cluster_host(s.c, 2, 0), s.queue, &status));
    cr_assert(status.is_voter, "%s", status.why);
    cr_assert_eq(status.voters, 2);
    cr_assert_not(host_group_status(cluster_host(s.c, 1, 0), s.queue, &status));
    /* And then away from the first one, which leads. */
    cluster_set_replicas(s.c, s.queue, (uint32_t[]){2}, 1, 6);
    cluster_settle(s.c, 15000);
    cr_assert_not(host_group_status(cluster_host(s.c, 0, 0), s.queue, &status));
    cr_assert_eq(cluster_leader(s.c, s.queue), 2);
    consume_all(&s, &s.u[1], 1);
    scene_free(&s);
}

Test(storage, deleted_queue_leaves_nothing)
{
    struct scene s = scene_new(90, 3, 3);
    publish(&s, 1500, 1000);
    cr_assert_gt(sim_kv_count(s.c->nodes[0].kv), 0);
    cluster_delete(s.c, s.queue);
    cr_assert(s.u[0].gone);
    user_close(&s.u[0]);
    cluster_settle(s.c, 3000);
    for (uint32_t i = 0; i < 3; i++) {
        struct group_status status;
        cr_assert_not(host_group_status(cluster_host(s.c, i, 0), s.queue, &status));
        cr_assert_eq(sim_kv_count(s.c->nodes[i].kv), 0);
        cluster_crash(s.c, i);
        cluster_restart(s.c, i, true);
        cr_assert_not(host_group_status(cluster_host(s.c, i, 0), s.queue, &status));
    }
    scene_free(&s);
}

static bool moved(void *ctx)
{
    struct scene *s = ctx;
    const struct catalog_queue *record = cluster_queue(s->c, s->queue);
    struct group_status status;
    for (uint32_t i = 0; i < 3; i++) {
        bool named = false;
        for (uint32_t k = 0; k < record->spec.group.member_count; k++) {
            named = named || uid_eq(record->spec.group.members[k].node, s->c->nodes[i].id);
        }
        const bool there = host_group_status(s->c->nodes[i].shards[0].host, s->queue, &status);
        if (named ? !there || !status.is_voter || status.voters != record->spec.group.member_count
                  : there) {
            return false;
        }
    }
    return true;
}

/* Sim seed 7047: the leader is to go, and a node is to have a new replica in the place of its old
 * one, which only that leader can tell that it is no member any more. */
Test(storage, replicas_move_away_from_their_leader)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(10); seed++) {
        struct scene s = {.seed = seed};
        s.c = cluster_new(seed, 3, 1);
        s.t = wr_calloc(1, sizeof *s.t);
        s.u = wr_calloc(3, sizeof *s.u);
        s.queue = cluster_declare(s.c, "q", (uint32_t[]){1, 0}, 2, -1);
        user_open(&s.u[0], s.c, 2, 0, s.queue, s.t);
        publish(&s, 50, 100);
        cluster_set_replicas(s.c, s.queue, (uint32_t[]){2, 1}, 2,
                             5); /* at once after each other: */
        cluster_set_replicas(s.c, s.queue, (uint32_t[]){2}, 1, 5);
        cluster_set_replicas(s.c, s.queue, (uint32_t[]){2, 0}, 2, 7); /* 0 has a new id now */
        cr_assert(cluster_run(s.c, moved, &s, 30000), "seed %llu", (unsigned long long)seed);
        publish(&s, 50, 100);
        consume_all(&s, &s.u[1], 2);
        scene_free(&s);
    }
}

struct ready_of {
    uint32_t ready, version;
    bool answered;
};

static void on_ready(void *ctx, uint64_t queue, const struct queue_report *report)
{
    struct ready_of *r = ctx;
    (void)queue;
    cr_assert_eq(report->error, 0);
    *r = (struct ready_of){report->ready_count, report->replicas_version, true};
}

static bool ready_is_known(void *ctx)
{
    return ((struct ready_of *)ctx)->answered;
}

static struct ready_of ask_ready(struct scene *s)
{
    struct ready_of r = {0};
    host_queue_report(cluster_host(s->c, 0, 0), s->queue, QUEUE_REPORT_TOTALS, 5000, on_ready, &r);
    cr_assert(cluster_run(s->c, ready_is_known, &r, 10000));
    cr_assert_eq(r.version, cluster_queue(s->c, s->queue)->replicas_version);
    return r;
}

/* Sim seed 6001431: what is to be replaced on its own node was taken for what replaces it, so that
 * all others were let go; the last one could not make way then. */
Test(storage, who_is_to_make_way_is_not_ready)
{
    struct scene s = scene_new(8, 3, 2);
    publish(&s, 50, 100);
    cr_assert_eq(ask_ready(&s).ready, 2);
    cluster_cut(s.c, 0, 2);
    cluster_cut(s.c, 1, 2);
    /* 2 cannot come, so nothing is done; 0 and 1 have new ids at last. */
    cluster_set_replicas(s.c, s.queue, (uint32_t[]){0, 2}, 2, 5);
    cluster_set_replicas(s.c, s.queue, (uint32_t[]){2, 1}, 2, 6);
    cluster_set_replicas(s.c, s.queue, (uint32_t[]){2, 1, 0}, 3, 7);
    cr_assert_eq(ask_ready(&s).ready, 0);
    cluster_join(s.c, 0, 2);
    cluster_join(s.c, 1, 2);
    consume_all(&s, &s.u[1], 0);
    scene_free(&s);
}

static bool has_begun(void *ctx)
{
    struct scene *s = ctx;
    return group_find(cluster_host(s->c, 2, 0), s->queue) != NULL;
}

/* Sim seed 8000823: a node that is back may see the catalog as it was once, with a queue of whose
 * end its log says nothing any more: its replica would begin anew, empty, under the old id. */
Test(storage, no_replica_begins_before_its_node_has_a_boot)
{
    struct scene s = {.seed = 9};
    s.c = cluster_new(9, 3, 1);
    cluster_crash(s.c, 2);
    s.queue = cluster_declare(s.c, "q", (uint32_t[]){0, 1, 2}, 3, -1);
    cluster_restart_unbooted(s.c, 2);
    cluster_settle(s.c, 3000);
    cr_assert_not_null(catalog_queue_by_id(cluster_host(s.c, 2, 0)->view, s.queue));
    cr_assert_not(has_begun(&s));
    cluster_reboot(s.c, 2);
    cr_assert(cluster_run(s.c, has_begun, &s, 5000));
    cluster_free(s.c);
}

/* More is not applied than the log is to have segments: to write all of it again for each segment
 * that is to go would fill the next ones, and so on for ever. */
Test(storage, what_is_not_applied_is_not_written_again_and_again)
{
    struct scene s = scene_new(96, 3, 3);
    publish(&s, 50, 1000);
    s.c->held[0][1] = s.c->held[0][2] = true; /* nothing more is applied */
    for (uint32_t i = 0; i < 60; i++) {
        user_publish(&s.u[0], 20, 1000);
        cluster_settle(s.c, 20);
    }
    const uint64_t before = retired(s.c, 0);
    cluster_settle(s.c, 5000);
    cr_assert_eq(retired(s.c, 0), before);
    cr_assert_leq(before, 40, "%u segments were let go", (unsigned)before);
    s.c->held[0][1] = s.c->held[0][2] = false;
    cr_assert(cluster_run(s.c, all_confirmed, &s.u[0], 20000));
    cluster_settle(s.c, 5000);
    cr_assert_gt(retired(s.c, 0), before); /* what waited goes, also when nothing new comes */
    consume_all(&s, &s.u[1], 1);
    scene_free(&s);
}

Test(storage, group_without_majority_lets_segments_go)
{
    struct scene s = scene_new(95, 2, 2);
    publish(&s, 50, 1000);
    uint64_t other = cluster_declare(s.c, "other", (uint32_t[]){0}, 1, -1);
    struct traffic *t2 = wr_calloc(1, sizeof *t2);
    user_open(&s.u[1], s.c, 0, 0, other, t2);
    cluster_crash(s.c, 1);
    user_publish(&s.u[0], 50, 1000); /* cannot commit */
    for (uint32_t i = 0; i < 40; i++) {
        user_publish(&s.u[1], 50, 1000);
        cr_assert(cluster_run(s.c, all_confirmed, &s.u[1], 20000));
    }
    cr_assert_gt(retired(s.c, 0), 2);
    cr_assert_lt(s.t->confirmed_count, s.t->published);
    cluster_restart(s.c, 1, true);
    cr_assert(cluster_run(s.c, all_confirmed, &s.u[0], 20000));
    user_close(&s.u[1]);
    consume_all(&s, &s.u[2], 1);
    scene_free(&s);
    wr_free(t2);
}

struct head_of {
    bool answered, has_timestamp;
    uint64_t timestamp;
};

static void on_head(void *ctx, uint64_t queue, const struct queue_report *report)
{
    struct head_of *h = ctx;
    (void)queue;
    cr_assert_eq(report->error, 0);
    *h = (struct head_of){true, report->has_head_timestamp, report->head_timestamp};
}

static bool head_is_known(void *ctx)
{
    return ((struct head_of *)ctx)->answered;
}

/* 0: it has none, or it is not known. */
static uint64_t ask_head(struct scene *s)
{
    struct head_of h = {0};
    host_queue_report(cluster_host(s->c, 0, 0), s->queue, QUEUE_REPORT_HEAD, 5000, on_head, &h);
    cr_assert(cluster_run(s->c, head_is_known, &h, 10000));
    return h.has_timestamp ? h.timestamp : 0;
}

static bool is_in_memory(struct scene *s, uint64_t position)
{
    const struct slice *record;
    return store_run(&cluster_home(s->c, 0, s->queue)->store, position, 1, &record) > 0;
}

Test(storage, the_head_is_read_for_a_report)
{
    struct scene s = scene_new(380, 1, 1);
    cr_assert_eq(ask_head(&s), 0);
    s.u[0].stamped = true;
    publish(&s, 200, 1000);
    cr_assert_eq(ask_head(&s), 1);
    forget_bytes(&s);
    cr_assert_not(is_in_memory(&s, 1));
    cr_assert_eq(ask_head(&s), 1);
    cr_assert_not(is_in_memory(&s, 1)); /* nobody wants it but for its timestamp */
    /* It was read, and stays the head: the disk is not needed again. */
    sim_disk_fail(s.c->nodes[0].disk, SIM_FILE_OPEN, 1, UINT32_MAX, WR_E_FILES);
    cr_assert_eq(ask_head(&s), 1);
    sim_disk_fail(s.c->nodes[0].disk, SIM_FILE_OPEN, 0, 0, 0);
    /* One that was handed out and not acknowledged is still the oldest; afterwards it is not. */
    user_open(&s.u[1], s.c, 0, 0, s.queue, s.t);
    s.u[1].ack = false;
    user_consume(&s.u[1], 1, 0, 10, UINT64_MAX);
    cluster_settle(s.c, 500);
    forget_bytes(&s);
    cr_assert_eq(ask_head(&s), 1);
    user_ack_all(&s.u[1]);
    cluster_settle(s.c, 500);
    cr_assert_eq(ask_head(&s), 11);
    scene_free(&s);
}

/* A report is not held up by a disk that cannot be read now. */
Test(storage, a_head_that_cannot_be_read_is_not_waited_for)
{
    struct scene s = scene_new(381, 1, 1);
    s.u[0].stamped = true;
    publish(&s, 200, 1000);
    forget_bytes(&s);
    sim_disk_fail(s.c->nodes[0].disk, SIM_FILE_OPEN, 1, UINT32_MAX, WR_E_FILES);
    cr_assert_eq(ask_head(&s), 0);
    sim_disk_fail(s.c->nodes[0].disk, SIM_FILE_OPEN, 0, 0, 0);
    cluster_settle(s.c, 1000);
    cr_assert_eq(ask_head(&s), 1);
    scene_free(&s);
}
