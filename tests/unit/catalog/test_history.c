/*
 * What: properties over thousands of random commands: invariants hold, equal histories and restored
 * snapshots give equal states, views that are held never change, differences between views are
 * exact.
 */
#include "policy_fixture.h"
#include "warren/map.h"
#include "warren/prng.h"

static const char *const vhosts[] = {"/", "v", "w"};
static const char *const queues[] = {"q0", "q1", "q2", "q3", "q4", "q5"};
static const char *const exchanges[] = {"x0", "x1", "x2", "amq.topic", "amq.fanout"};
static const char *const keys[] = {"", "a", "a.b", "#"};
static const char *const types[] = {"direct", "topic", "fanout", "strange", "x-recent-history"};

#define PICK(p, list) (list[prng_below((p), sizeof(list) / sizeof(list[0]))])

static const char *const groups[] = {"1", "2", "12", "321", "234", "4", "43"};

static void random_replicas(struct fixture *f, struct prng *p)
{
    const struct catalog_queue *q =
        catalog_queue(view_of(f), B(PICK(p, vhosts)), B(PICK(p, queues)));
    if (q == NULL) {
        return;
    }
    struct catalog_member members[4];
    uint32_t count = 0;
    for (uint64_t n = 1; n <= 4; n++) {
        if (prng_ratio(p, 1, 2)) {
            struct catalog_member *m = &members[count++];
            *m = (struct catalog_member){{f->index, n}, node_id(n), prng_ratio(p, 1, 3)};
            for (uint32_t i = 0; i < q->spec.group.member_count && q->spec.run == CATALOG_RUN_GROUP;
                 i++) {
                if (uid_eq(q->spec.group.members[i].node, m->node) && prng_ratio(p, 3, 4)) {
                    m->id = q->spec.group.members[i].id;
                }
            }
        }
    }
    const struct catalog_command c = {
        .kind = CATALOG_SET_REPLICAS,
        .u.replicas = {q->id, q->replicas_version - prng_below(p, 2) * prng_below(p, 2), members,
                       count, 3, node_id(prng_below(p, 5))}};
    (void)apply(f, &c);
}

static void random_node_command(struct fixture *f, struct prng *p)
{
    const uint64_t n = 1 + prng_below(p, 4);
    const struct catalog_node *node = catalog_node(view_of(f), node_id(n));
    switch (prng_below(p, 8)) {
    case 0:
        (void)do_join(f, n);
        break;
    case 1:
        if (prng_ratio(p, 1, 6)) {
            (void)do_forget(f, n);
        }
        break;
    case 2:
        (void)do_down(f, n, node == NULL ? 0 : node->boot);
        break;
    default:
        (void)do_boot(f, n, prng_below(p, 1000));
        break;
    }
}

static void random_binding(struct fixture *f, struct prng *p, bool bind)
{
    const bool to_queue = prng_ratio(p, 2, 3);
    static const struct bytes arguments[] = {{NULL, 0},
                                             BYTES_INIT("\x01"
                                                        "at\x01")};
    (void)do_bind_args(f, bind, PICK(p, vhosts), PICK(p, exchanges),
                       to_queue ? PICK(p, queues) : PICK(p, exchanges), PICK(p, keys),
                       to_queue ? CATALOG_TO_QUEUE : CATALOG_TO_EXCHANGE, PICK(p, arguments));
}

static void random_user_command(struct fixture *f, struct prng *p)
{
    static const char *const users[] = {"u0", "u1"};
    switch (prng_below(p, 4)) {
    case 0: {
        const struct catalog_command c = {.kind = CATALOG_DELETE_USER,
                                          .u.delete_user = {B(PICK(p, users))}};
        (void)apply(f, &c);
        break;
    }
    case 1:
        (void)do_permission(f, PICK(p, users), PICK(p, vhosts), prng_ratio(p, 3, 4));
        break;
    default:
        (void)do_user(f, PICK(p, users), PICK(p, keys), (uint8_t)prng_below(p, 16));
        break;
    }
}

static void random_policy(struct fixture *f, struct prng *p)
{
    static const char *const names[] = {"p1", "p2", "p3"};
    static const char *const patterns[] = {"", ".*", "^q", "1$", "(", "^a"};
    static const char *const definitions[] = {"max-length=5",
                                              "max-length=9 overflow=reject-publish",
                                              "delivery-limit=-1 expires=3",
                                              "ha-mode=exactly ha-params=2",
                                              "alternate-exchange=amq.fanout",
                                              "nonsense=true"};
    if (prng_ratio(p, 1, 3)) {
        (void)do_delete_policy(f, PICK(p, vhosts), PICK(p, names), prng_ratio(p, 1, 2));
    } else {
        (void)do_policy_in(f, PICK(p, vhosts), PICK(p, names), PICK(p, patterns),
                           PICK(p, definitions), (int64_t)prng_below(p, 3) - 1,
                           (int)prng_below(p, 6), prng_ratio(p, 1, 2));
    }
}

static void random_limit(struct fixture *f, struct prng *p)
{
    static const char *const users[] = {"u0", "u1"};
    const uint64_t n = 1 + prng_below(p, 4);
    const struct catalog_node *node = catalog_node(view_of(f), node_id(n));
    const uint32_t boot = node == NULL ? 1 : node->boot;
    switch (prng_below(p, 10)) {
    case 0:
        (void)do_vhost_limits(f, PICK(p, vhosts), (int64_t)prng_below(p, 5) - 1,
                              (int64_t)prng_below(p, 12) - 1);
        break;
    case 1:
        (void)do_vhost_limits(f, PICK(p, vhosts), -1, -1);
        break;
    case 2:
        (void)do_user_limits(f, PICK(p, users), (int64_t)prng_below(p, 4) - 1,
                             (int64_t)prng_below(p, 6) - 1);
        break;
    case 3:
        (void)do_topic_permission(f, PICK(p, users), PICK(p, vhosts), PICK(p, exchanges),
                                  prng_ratio(p, 2, 3));
        break;
    case 4:
        (void)do_topic_permission(f, PICK(p, users), PICK(p, vhosts), "", prng_ratio(p, 1, 2));
        break;
    case 5:
        (void)do_parameter(f, prng_ratio(p, 1, 2) ? "" : PICK(p, vhosts), "c", PICK(p, exchanges),
                           "[1,a]", prng_ratio(p, 2, 3));
        break;
    case 6:
        (void)do_drop_seat(f, boot, prng_below(p, 4));
        break;
    default:
        (void)do_seat(f, boot, prng_below(p, 4), PICK(p, vhosts), PICK(p, users),
                      (uint32_t)prng_below(p, 4), prng_ratio(p, 1, 5));
        break;
    }
}

static void random_command(struct fixture *f, struct prng *p)
{
    if (prng_ratio(p, 1, 5)) {
        if (prng_ratio(p, 1, 2)) {
            random_policy(f, p);
        } else {
            random_limit(f, p);
        }
        return;
    }
    const uint64_t kind = prng_below(p, 100);
    const char *vhost = PICK(p, vhosts);
    if (kind < 3) {
        (void)do_vhost(f, vhost, prng_ratio(p, 1, 2));
    } else if (kind < 4) {
        (void)do_delete_vhost(f, vhost);
    } else if (kind < 12) {
        random_user_command(f, p);
    } else if (kind < 22) {
        (void)do_exchange(f, vhost, PICK(p, exchanges), PICK(p, types), (int)prng_below(p, 4));
    } else if (kind < 26) {
        (void)do_delete_exchange(f, vhost, PICK(p, exchanges), prng_ratio(p, 1, 2));
    } else if (kind < 29) {
        (void)do_history(f, vhost, PICK(p, exchanges), PICK(p, groups), prng_ratio(p, 1, 2));
    } else if (kind < 36) {
        (void)do_group(f, vhost, PICK(p, queues), PICK(p, groups));
    } else if (kind < 46) {
        const uint64_t n = 1 + prng_below(p, 4);
        const struct catalog_node *node = catalog_node(view_of(f), node_id(n));
        (void)do_local(f, vhost, PICK(p, queues), n, node == NULL ? 1 : node->boot,
                       prng_below(p, 3));
    } else if (kind < 50) {
        const struct catalog_queue *q = catalog_queue(view_of(f), B(vhost), B(PICK(p, queues)));
        (void)do_delete_queue(f, q == NULL ? prng_below(p, 1000) : q->id);
    } else if (kind < 80) {
        random_binding(f, p, true);
    } else if (kind < 88) {
        random_binding(f, p, false);
    } else if (kind < 92) {
        random_replicas(f, p);
    } else {
        random_node_command(f, p);
    }
}

/* A catalog with the state of the snapshot. */
static struct catalog *restored(const struct fixture *f, const struct buf *snapshot)
{
    struct catalog *c = catalog_new(&fake_ops, NULL, NULL);
    uint8_t *copy = wr_memdup(snapshot->data, snapshot->size);
    cr_assert_eq(catalog_restore(c, f->index, bytes_make(copy, snapshot->size)), 0);
    wr_free(copy);
    catalog_check(c);
    return c;
}

static bool same_bytes(const struct buf *a, const struct buf *b)
{
    return bytes_eq(bytes_make(a->data, a->size), bytes_make(b->data, b->size));
}

Test(history, invariants_hold_and_snapshots_restore_to_equal_states, .timeout = 120)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct prng p;
        prng_init(&p, seed);
        struct fixture *f = fixture_new(3);
        for (int i = 0; i < 1200; i++) {
            random_command(f, &p); /* catalog_check runs in apply */
            if (i % 50 != 0) {
                continue;
            }
            check_indexes(f);
            struct buf *snapshot = snapshot_of(f->catalog);
            struct catalog *other = restored(f, snapshot);
            struct buf *again = snapshot_of(other);
            cr_assert(same_bytes(snapshot, again), "seed %d command %d", (int)seed, i);
            cr_assert_eq(catalog_hash(other), catalog_hash(f->catalog));
            /* And it goes on from there: the rest of the history on the restored machine. */
            if (prng_ratio(&p, 1, 3)) {
                catalog_free(f->catalog);
                f->catalog = other;
            } else {
                catalog_free(other);
            }
            buf_unref(again);
            buf_unref(snapshot);
        }
        fixture_free(f);
    }
}

Test(history, equal_histories_give_equal_states_and_results)
{
    struct prng p;
    struct prng q;
    prng_init(&p, 77);
    prng_init(&q, 77);
    struct fixture *a = fixture_new(3);
    struct fixture *b = fixture_new(3);
    for (int i = 0; i < 2000; i++) {
        random_command(a, &p);
        /* One of the two gives out views, the other never does: no difference. */
        struct catalog_view *held = catalog_view_take(b->catalog);
        random_command(b, &q);
        catalog_view_unref(held);
        cr_assert_eq(a->result.status, b->result.status);
        cr_assert_eq(a->result.id, b->result.id);
        cr_assert_str_eq(a->log, b->log);
        if (i % 100 == 0) {
            cr_assert_eq(catalog_hash(a->catalog), catalog_hash(b->catalog));
        }
    }
    cr_assert_eq(catalog_hash(a->catalog), catalog_hash(b->catalog));
    fixture_free(a);
    fixture_free(b);
}

/* All that a view says, as one number. */
static uint64_t fingerprint(const struct catalog_view *view)
{
    struct writer w;
    writer_init(&w, 1024);
    struct catalog_iter it;
    catalog_iter_queues(&it, view, NULL);
    for (const struct catalog_queue *q; (q = catalog_iter_next(&it)) != NULL;) {
        put_be64(&w, q->id);
        put_be64(&w, q->replicas_version);
        put_be64(&w, q->settings.length_max);
        put_varbytes(&w, q->policy == NULL ? BYTES_NONE : q->policy->spec.definition);
        put_varbytes(&w, q->spec.vhost);
        put_varbytes(&w, q->spec.name);
    }
    catalog_iter_exchanges(&it, view, NULL);
    for (const struct catalog_exchange *e; (e = catalog_iter_next(&it)) != NULL;) {
        const struct fake_index *index = (const struct fake_index *)e->index;
        put_be64(&w, e->id);
        put_varbytes(&w, e->name);
        put_be64(&w, index == NULL ? 0 : index->sum);
    }
    catalog_iter_bindings(&it, view, NULL);
    for (const struct catalog_binding *b; (b = catalog_iter_next(&it)) != NULL;) {
        put_be64(&w, b->id);
        put_varbytes(&w, b->key);
        put_varbytes(&w, b->destination);
    }
    catalog_iter_vhosts(&it, view);
    for (const struct catalog_vhost *v; (v = catalog_iter_next(&it)) != NULL;) {
        put_varbytes(&w, v->name);
        put_be64(&w, (uint64_t)v->limits.queues_max);
        put_be32(&w, v->connection_count);
        put_be64(&w, pmap_count(v->policies));
    }
    catalog_iter_users(&it, view);
    for (const struct catalog_user *u; (u = catalog_iter_next(&it)) != NULL;) {
        put_varbytes(&w, u->name);
        put_varbytes(&w, u->password_hash);
        struct catalog_iter inner;
        catalog_iter_permissions_of(&inner, u);
        for (const struct catalog_permission *p; (p = catalog_iter_next(&inner)) != NULL;) {
            put_varbytes(&w, p->vhost);
        }
    }
    const struct catalog_node *nodes[CATALOG_NODES_MAX];
    const uint32_t count = catalog_nodes(view, nodes);
    for (uint32_t i = 0; i < count; i++) {
        put_be64(&w, nodes[i]->info.id.lo);
        put_be32(&w, nodes[i]->boot);
        put_be32(&w, nodes[i]->replica_count);
    }
    const uint64_t hash = hash_bytes((struct hash_seed){1, 2}, writer_bytes(&w));
    writer_deinit(&w);
    return hash;
}

/* I2: whatever is applied later, what is held stays as it was; dropping in any order frees all. */
Test(history, held_views_never_change)
{
    enum { HELD = 40 };
    struct {
        struct catalog_view *view;
        uint64_t fingerprint;
    } held[HELD] = {0};
    struct prng p;
    prng_init(&p, 5);
    struct fixture *f = fixture_new(3);
    for (int i = 0; i < 4000; i++) {
        random_command(f, &p);
        if (prng_ratio(&p, 1, 10)) {
            const uint64_t at = prng_below(&p, HELD);
            if (held[at].view != NULL) {
                cr_assert_eq(fingerprint(held[at].view), held[at].fingerprint);
                catalog_view_unref(held[at].view);
            }
            held[at].view = catalog_view_take(f->catalog);
            held[at].fingerprint = fingerprint(held[at].view);
        }
    }
    fixture_free(f); /* Views outlive the machine. */
    for (int i = 0; i < HELD; i++) {
        if (held[i].view != NULL) {
            cr_assert_eq(fingerprint(held[i].view), held[i].fingerprint);
        }
        catalog_view_unref(held[i].view);
    }
}

struct diff_state {
    struct umap ids; /* queues as the follower knows them */
    uint64_t changes;
};

static void follow(void *ctx, const struct catalog_queue *before, const struct catalog_queue *after)
{
    struct diff_state *s = ctx;
    const uint64_t id = before == NULL ? after->id : before->id;
    cr_assert(before == NULL || after == NULL || before->id == after->id);
    cr_assert_eq(umap_get(&s->ids, id), before);
    if (after == NULL) {
        (void)umap_remove(&s->ids, id);
    } else {
        (void)umap_put(&s->ids, id, (void *)(uintptr_t)after);
    }
    s->changes++;
}

static void count_nodes(void *ctx, const struct catalog_node *before,
                        const struct catalog_node *after)
{
    cr_assert(before != NULL || after != NULL);
    ++*(int *)ctx;
}

/* Someone who follows by differences only knows exactly the queues of the newest view. */
Test(history, differences_are_exact)
{
    struct prng p;
    prng_init(&p, 6);
    struct fixture *f = fixture_new(3);
    struct diff_state state = {0};
    umap_init(&state.ids, (struct hash_seed){1, 2});
    struct catalog_view *seen = NULL;
    for (int i = 0; i < 3000; i++) {
        random_command(f, &p);
        if (!prng_ratio(&p, 1, 5)) {
            continue;
        }
        struct catalog_view *now = catalog_view_take(f->catalog);
        catalog_diff_queues(seen, now, follow, &state);
        struct catalog_totals totals;
        catalog_count(now, &totals);
        cr_assert_eq(state.ids.count, totals.queues + totals.histories);
        struct catalog_iter it;
        catalog_iter_machines(&it, now);
        for (const struct catalog_queue *q; (q = catalog_iter_next(&it)) != NULL;) {
            cr_assert_eq(umap_get(&state.ids, q->id), q);
        }
        catalog_view_unref(seen);
        seen = now;
    }
    const uint64_t changes = state.changes;
    catalog_diff_queues(seen, seen, follow, &state);
    cr_assert_eq(state.changes, changes);
    catalog_diff_queues(seen, NULL, follow, &state);
    cr_assert_eq(state.ids.count, 0);
    int node_changes = 0;
    (void)do_join(f, 1); /* Both may have gone. */
    (void)do_vhost(f, "/", false);
    cr_assert_eq(do_boot(f, 1, 5000), CATALOG_OK);
    cr_assert_eq(do_local(f, "/", "extra", 1, (uint32_t)f->result.id, 0), CATALOG_OK);
    catalog_diff_nodes(seen, view_of(f), count_nodes, &node_changes);
    cr_assert_eq(node_changes, 1); /* The load of the node does not count. */
    catalog_view_unref(seen);
    umap_deinit(&state.ids);
    fixture_free(f);
}

/* Two ways to the same state: the bytes are the same. */
Test(history, equal_states_have_equal_snapshots_whatever_came_before)
{
    struct fixture *f = fixture_new(2);
    struct buf *empty = snapshot_of(f->catalog);
    for (int i = 0; i < 200; i++) {
        char name[16];
        snprintf(name, sizeof(name), "q%d", i);
        cr_assert_eq(do_group(f, "/", name, "12"), CATALOG_OK);
        cr_assert_eq(do_bind(f, "amq.topic", name, name), CATALOG_OK);
    }
    for (int i = 199; i >= 0; i--) {
        char name[16];
        snprintf(name, sizeof(name), "q%d", (i * 7) % 200);
        cr_assert_eq(do_delete_queue(f, find_queue(f, name)->id), CATALOG_OK);
    }
    struct buf *after = snapshot_of(f->catalog);
    cr_assert(same_bytes(empty, after));
    buf_unref(empty);
    buf_unref(after);
    fixture_free(f);
}

Test(history, damaged_snapshots_are_refused_or_restore_to_a_sound_state, .timeout = 120)
{
    struct prng p;
    prng_init(&p, 8);
    struct fixture *f = fixture_new(3);
    for (int i = 0; i < 400; i++) {
        random_command(f, &p);
    }
    struct buf *snapshot = snapshot_of(f->catalog);
    struct catalog *victim = catalog_new(&fake_ops, NULL, NULL);
    for (uint32_t size = 0; size < snapshot->size; size++) {
        cr_assert_eq(catalog_restore(victim, f->index, bytes_make(snapshot->data, size)),
                     WR_E_CORRUPT);
    }
    uint32_t accepted = 0;
    for (int round = 0; round < 6000; round++) {
        uint8_t *copy = wr_memdup(snapshot->data, snapshot->size);
        for (uint64_t k = 1 + prng_below(&p, 2); k > 0; k--) {
            copy[prng_below(&p, snapshot->size)] ^= (uint8_t)(1u << prng_below(&p, 8));
        }
        if (catalog_restore(victim, f->index, bytes_make(copy, snapshot->size)) == 0) {
            catalog_check(victim);
            accepted++;
        }
        wr_free(copy);
    }
    cr_assert_gt(accepted, 0); /* Bytes of names and hashes may be anything. */
    /* An index before objects of the snapshot is a contradiction. */
    cr_assert_eq(catalog_restore(victim, 1, bytes_make(snapshot->data, snapshot->size)),
                 WR_E_CORRUPT);
    cr_assert_eq(catalog_restore(victim, UINT64_MAX, bytes_make(snapshot->data, snapshot->size)),
                 WR_E_CORRUPT);
    cr_assert_eq(catalog_restore(victim, 9, BYTES_LITERAL("\x92\x06\xc2")), WR_E_VERSION);
    cr_assert_eq(catalog_restore(victim, 9, BYTES_LITERAL("\x92\x04\xc2")), 0);
    cr_assert_eq(catalog_restore(victim, 9, BYTES_LITERAL("\x92\x01\xc2")), 0); /* not formed */
    cr_assert(uid_is_zero(catalog_cluster_id(catalog_view_peek(victim))));
    catalog_free(victim);
    buf_unref(snapshot);
    fixture_free(f);
}
