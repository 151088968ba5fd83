/* See cluster.h. */
#include "cluster.h"

#include "home.h"

#include <stdio.h>

/* Longer runs by hand: cc -DWR_TEST_MORE=30 -DWR_TEST_FROM=100 -DWR_TEST_LOG=1 */
#ifndef WR_TEST_MORE
#define WR_TEST_MORE 1
#endif
#ifndef WR_TEST_FROM
#define WR_TEST_FROM 1
#endif
#ifndef WR_TEST_LOG
#define WR_TEST_LOG 0
#endif

static struct uid node_uid(uint32_t node)
{
    return (struct uid){0xabc, node + 1};
}

static uint32_t node_index(struct uid id)
{
    return id.hi == node_uid(0).hi ? (uint32_t)id.lo - 1 : UINT32_MAX; /* none of them */
}

uint64_t cluster_seeds(uint64_t count)
{
    return count * WR_TEST_MORE;
}

uint64_t cluster_seed_first(void)
{
    return WR_TEST_FROM;
}

/* --- mail ------------------------------------------------------------------------------------ */

static void on_post(void *ctx, struct fake_env *from, uint32_t context, struct mail *mail)
{
    struct test_node *node = ctx;
    mail->from = from->env.context;
    struct mail_lane *lane = &node->mail[from->env.context][context];
    vec_push(&lane->mails, mail);
}

static struct mail *lane_take(struct mail_lane *lane)
{
    if (lane->first == lane->mails.count) {
        return NULL;
    }
    struct mail *mail = lane->mails.items[lane->first++];
    if (lane->first == lane->mails.count) {
        vec_clear(&lane->mails);
        lane->first = 0;
    }
    return mail;
}

static void parcel_mail_destroy(struct mail *mail)
{
    struct parcel_mail *m = (struct parcel_mail *)(void *)mail;
    parcel_free(m->parcel);
    wr_free(m);
}

/* --- shard sink ------------------------------------------------------------------------------ */

static void shard_on_mail(void *ctx, struct mail *mail)
{
    struct node_shard *s = ctx;
    if (mail->kind == 0x7777) {
        struct parcel_mail *m = (struct parcel_mail *)(void *)mail;
        host_on_parcel(s->host, m->parcel);
        wr_free(m);
        return;
    }
    cr_assert(host_on_mail(s->host, mail));
}

static void shard_on_file(void *ctx, uint64_t token, int64_t result)
{
    struct node_shard *s = ctx;
    cr_assert(host_on_file(s->host, token, result));
}

static void shard_on_kv(void *ctx, uint64_t token, int result, void *reply)
{
    struct node_shard *s = ctx;
    cr_assert(host_on_kv(s->host, token, result, reply));
}

static void shard_turn(void *ctx)
{
    struct node_shard *s = ctx;
    host_turn(s->host);
    s->env.env.ops->wake_at(&s->env.env, host_deadline_ns(s->host));
}

static const struct env_sink shard_sink = {
    .on_mail = shard_on_mail, .on_file = shard_on_file, .on_kv = shard_on_kv, .turn = shard_turn};

static void log_sink_mail(void *ctx, struct mail *mail)
{
    struct test_node *n = ctx;
    log_on_mail(n->log, mail);
}

static void log_sink_file(void *ctx, uint64_t token, int64_t result)
{
    struct test_node *n = ctx;
    log_on_file(n->log, token, result);
}

static void log_sink_turn(void *ctx)
{
    struct test_node *n = ctx;
    log_turn(n->log);
}

static const struct env_sink log_sink = {
    .on_mail = log_sink_mail, .on_file = log_sink_file, .turn = log_sink_turn};

/* The store takes the array over; the simulated one copies it. */
static void kv_write_owned(struct env *env, struct kv_op *ops, uint32_t count, uint64_t token)
{
    struct fake_env *fake = (struct fake_env *)(void *)env;
    sim_kv_write(fake->kv, env, ops, count, token);
    wr_free(ops);
}

static void send_parcel(void *ctx, struct parcel *parcel)
{
    struct node_shard *s = ctx;
    struct test_cluster *c = s->cluster;
    c->parcels++;
    uint32_t to = node_index(parcel->to_node);
    if (to == s->node) {
        struct parcel_mail *m = wr_calloc(1, sizeof *m);
        m->mail.kind = 0x7777;
        m->mail.destroy = parcel_mail_destroy;
        m->parcel = parcel;
        uint32_t shard = parcel->to_shard == HOST_SHARD_BY_GROUP
                             ? host_shard_of_group(parcel->group, c->shard_count)
                             : parcel->to_shard;
        cr_assert_lt(shard, c->shard_count);
        s->env.env.ops->post(&s->env.env, shard, &m->mail);
        return;
    }
    cr_assert_null(parcel->local);
    if (to >= c->node_count || !c->nodes[to].alive || c->cut[s->node][to]) {
        parcel_free(parcel);
        return;
    }
    if (parcel->kind == c->lose_kind) {
        parcel_free(parcel);
        return;
    }
    if (c->lose_percent > 0 && prng_below(&c->prng, 100) < c->lose_percent) {
        parcel_free(parcel);
        return;
    }
    for (uint32_t i = 0; i < parcel->slice_count; i++) {
        c->wire_bytes += parcel->slices[i].size;
    }
    vec_push(&c->lanes[s->node][s->shard][to].parcels, parcel);
}

static size_t backlog(void *ctx, struct uid node)
{
    (void)ctx;
    (void)node;
    return 0;
}

static void log_line(void *ctx, enum log_level level, const char *component, const char *line)
{
    struct test_cluster *c = ctx;
    c->snapshots_begun += strstr(line, "sending a snapshot") != NULL;
    c->snapshots_refused += strstr(line, "snapshot is refused") != NULL;
    if (WR_TEST_LOG) {
        fprintf(stderr, "[%s] %s: %s\n", log_level_name(level), component, line);
    }
}

/* --- nodes ----------------------------------------------------------------------------------- */

static void on_record(void *ctx, const struct log_item *item)
{
    struct test_node *n = ctx;
    struct test_cluster *c = n->shards[0].cluster;
    host_recover_record(n->shards[host_shard_of_group(item->group, c->shard_count)].host, item);
}

static void on_replica_divergent(void *ctx, uint64_t queue, struct uid member)
{
    struct node_shard *s = ctx;
    s->cluster->divergent_told++;
    s->cluster->divergent_queue = queue;
    s->cluster->divergent_member = member;
}

static void on_queue_unused(void *ctx, uint64_t queue)
{
    struct node_shard *s = ctx;
    (void)queue;
    s->cluster->unused_told++;
    s->cluster->unused_at_ms = cluster_now_ms(s->cluster);
}

static void on_queue_dead(void *ctx, uint64_t queue)
{
    struct node_shard *s = ctx;
    (void)queue;
    s->cluster->dead_told++;
}

static uint64_t wall_of(const struct test_cluster *c, uint32_t node)
{
    return 100000000 + c->now_ns / 1000000 + (uint64_t)c->wall_offset_ms[node];
}

static void node_start(struct test_cluster *c, uint32_t node)
{
    struct test_node *n = &c->nodes[node];
    uint32_t contexts = c->shard_count + 1;
    for (uint32_t i = 0; i < c->shard_count; i++) {
        struct node_shard *s = &n->shards[i];
        s->cluster = c;
        s->node = node;
        s->shard = i;
        fake_env_init(&s->env, prng_u64(&c->prng), i, contexts, n->disk, n->kv);
        s->env.mono_ns = c->now_ns;
        s->env.wall_ms = wall_of(c, node);
        s->env.post = on_post;
        s->env.post_ctx = n;
        s->env.ops.kv_write = kv_write_owned;
        fake_env_set_sink(&s->env, &shard_sink, s);
        s->reader = log_reader_new(&s->env.env, "data");
        const struct host_options options = {.node_id = n->id,
                                             .shard = i,
                                             .shard_count = c->shard_count,
                                             .election_min_ms = 50,
                                             .election_max_ms = 150,
                                             .seed = prng_u64(&c->prng),
                                             .transport = {send_parcel, backlog, s},
                                             .reader = s->reader,
                                             .logger = &c->logger,
                                             .compare_queue_every = COMPARE_EVERY,
                                             .compare_catalog_every = COMPARE_EVERY};
        s->host = host_new(&s->env.env, &options);
        const struct host_sink sink = {.on_replica_divergent = on_replica_divergent,
                                       .on_queue_unused = on_queue_unused,
                                       .on_queue_dead = on_queue_dead,
                                       .ctx = s};
        host_set_sink(s->host, &sink);
    }
    fake_env_init(&n->log_env, prng_u64(&c->prng), c->shard_count, contexts, n->disk, n->kv);
    n->log_env.mono_ns = c->now_ns;
    n->log_env.post = on_post;
    n->log_env.post_ctx = n;
    fake_env_set_sink(&n->log_env, &log_sink, n);
    const struct log_options options = {.segment_size = c->segment_size,
                                        .segments_max = c->segments_max,
                                        .recycle_max = 1,
                                        .shard_count = c->shard_count,
                                        .sync = true,
                                        .node_id = n->id};
    const struct log_recovery_sink sink = {.record = on_record, .ctx = n};
    char error[256] = "";
    int rc = log_open(&n->log_env.env, "data", &options, &sink, &n->log, error);
    cr_assert_eq(rc, 0, "%s", error);
    for (uint32_t i = 0; i < c->shard_count; i++) {
        rc = host_recovered(n->shards[i].host, error);
        cr_assert((rc == 0) != c->refuses, "%s", error);
        if (rc != 0) {
            snprintf(c->refusal, sizeof c->refusal, "%s", error);
        }
    }
    n->alive = true;
}

static void node_free(struct test_cluster *c, uint32_t node)
{
    struct test_node *n = &c->nodes[node];
    for (uint32_t i = 0; i <= c->shard_count; i++) {
        for (uint32_t k = 0; k <= c->shard_count; k++) {
            struct mail *mail;
            while ((mail = lane_take(&n->mail[i][k])) != NULL) {
                if (mail->destroy != NULL) {
                    mail->destroy(mail);
                }
            }
            vec_deinit(&n->mail[i][k].mails);
        }
    }
    for (uint32_t i = 0; i < c->shard_count; i++) {
        host_free(n->shards[i].host);
        log_reader_free(n->shards[i].reader);
        fake_env_deinit(&n->shards[i].env);
    }
    log_close(n->log);
    fake_env_deinit(&n->log_env);
    n->alive = false;
}

static void drop_lanes(struct test_cluster *c, uint32_t a, uint32_t b)
{
    for (uint32_t s = 0; s < SHARDS_MAX; s++) {
        struct lane *lane = &c->lanes[a][s][b];
        for (size_t i = lane->first; i < lane->parcels.count; i++) {
            parcel_free(lane->parcels.items[i]);
        }
        vec_deinit(&lane->parcels);
        lane->first = 0;
    }
}

static void wake_all(struct test_cluster *c)
{
    for (uint32_t i = 0; i < c->node_count; i++) {
        for (uint32_t s = 0; c->nodes[i].alive && s < c->shard_count; s++) {
            c->nodes[i].shards[s].env.wake_at = 0;
        }
    }
}

static void tell(struct test_cluster *c, uint32_t node, uint32_t about,
                 void (*fn)(struct host *, struct uid))
{
    for (uint32_t s = 0; c->nodes[node].alive && s < c->shard_count; s++) {
        fn(c->nodes[node].shards[s].host, c->nodes[about].id);
        c->nodes[node].shards[s].env.wake_at = 0;
    }
}

void cluster_cut(struct test_cluster *c, uint32_t a, uint32_t b)
{
    c->cut[a][b] = c->cut[b][a] = true;
    drop_lanes(c, a, b);
    drop_lanes(c, b, a);
    tell(c, a, b, host_node_lost);
    tell(c, b, a, host_node_lost);
}

void cluster_suspend(struct test_cluster *c, uint32_t node)
{
    for (uint32_t i = 0; i < c->node_count; i++) {
        if (i != node) {
            c->cut[i][node] = c->cut[node][i] = true;
            drop_lanes(c, i, node);
            drop_lanes(c, node, i);
            tell(c, i, node, host_node_lost);
        }
    }
}

void cluster_wake(struct test_cluster *c, uint32_t node)
{
    for (uint32_t i = 0; i < c->node_count; i++) {
        if (i != node) {
            c->cut[i][node] = c->cut[node][i] = false;
            tell(c, i, node, host_node_up);
        }
    }
}

void cluster_join(struct test_cluster *c, uint32_t a, uint32_t b)
{
    c->cut[a][b] = c->cut[b][a] = false;
    if (c->nodes[a].alive && c->nodes[b].alive) {
        tell(c, a, b, host_node_up);
        tell(c, b, a, host_node_up);
    }
}

void cluster_crash(struct test_cluster *c, uint32_t node)
{
    for (uint32_t i = 0; i < c->node_count; i++) {
        drop_lanes(c, i, node);
        drop_lanes(c, node, i);
    }
    node_free(c, node);
    sim_disk_crash(c->nodes[node].disk);
    sim_kv_crash(c->nodes[node].kv);
    for (uint32_t i = 0; i < c->node_count; i++) {
        if (i != node) {
            tell(c, i, node, host_node_lost);
            tell(c, i, node, host_node_down);
        }
    }
}

static void boot(struct test_cluster *c, uint32_t node, uint64_t start)
{
    struct catalog_command command = {.kind = CATALOG_NODE_BOOT};
    struct catalog_result result;
    char name[32];
    snprintf(name, sizeof name, "n%u@localhost", node);
    command.u.boot.node = (struct catalog_node_info){.id = c->nodes[node].id,
                                                     .member = {7, node + 1},
                                                     .name = bytes_from_cstr(name),
                                                     .host = BYTES_LITERAL("localhost"),
                                                     .cluster_port = 1,
                                                     .amqp_port = 2};
    command.u.boot.start = (struct uid){start, node + 1};
    cluster_apply(c, &command, &result);
    cr_assert_eq(result.status, CATALOG_OK);
    c->nodes[node].boot = (uint32_t)result.id;
}

void cluster_reboot(struct test_cluster *c, uint32_t node)
{
    boot(c, node, prng_u64(&c->prng));
    for (uint32_t s = 0; s < c->shard_count; s++) {
        host_set_boot(c->nodes[node].shards[s].host, c->nodes[node].boot);
    }
    cluster_views(c);
}

void cluster_restart_unbooted(struct test_cluster *c, uint32_t node)
{
    node_start(c, node);
    cluster_views(c);
}

void cluster_restart(struct test_cluster *c, uint32_t node, bool new_boot)
{
    node_start(c, node);
    if (new_boot) {
        boot(c, node, prng_u64(&c->prng));
    }
    for (uint32_t s = 0; s < c->shard_count; s++) {
        host_set_boot(c->nodes[node].shards[s].host, c->nodes[node].boot);
    }
    for (uint32_t s = 0; c->view_at_restart != NULL && s < c->shard_count; s++) {
        host_set_view(c->nodes[node].shards[s].host, c->view_at_restart);
    }
    if (c->view_at_restart == NULL) {
        cluster_views(c);
    }
    for (uint32_t i = 0; i < c->node_count; i++) {
        if (i != node && !c->cut[i][node]) {
            cluster_join(c, i, node);
        }
    }
    wake_all(c);
}

void cluster_apply(struct test_cluster *c, const struct catalog_command *command,
                   struct catalog_result *result)
{
    catalog_apply(c->catalog, ++c->catalog_index, command, result);
}

void cluster_views(struct test_cluster *c)
{
    struct catalog_view *view = catalog_view_take(c->catalog);
    for (uint32_t i = 0; i < c->node_count; i++) {
        for (uint32_t s = 0; c->nodes[i].alive && s < c->shard_count; s++) {
            host_set_view(c->nodes[i].shards[s].host, view);
        }
    }
    catalog_view_unref(view);
    wake_all(c);
}

struct test_cluster *cluster_new(uint64_t seed, uint32_t nodes, uint32_t shards)
{
    struct test_cluster *c = wr_calloc(1, sizeof *c);
    prng_init(&c->prng, seed);
    c->node_count = nodes;
    c->shard_count = shards;
    c->segment_size = 256 * 1024;
    c->segments_max = 3;
    c->now_ns = 1000000000;
    c->logger = (struct logger){.sink = log_line, .ctx = c, .level = LOG_LEVEL_DEBUG};
    c->catalog = catalog_new(&route_index_ops, NULL, NULL);
    c->catalog_index = 1;
    for (uint32_t i = 0; i < nodes; i++) {
        c->nodes[i].id = node_uid(i);
        c->nodes[i].disk = sim_disk_new(prng_u64(&c->prng));
        c->nodes[i].kv = sim_kv_new(prng_u64(&c->prng));
        node_start(c, i);
    }
    struct catalog_command command = {.kind = CATALOG_CLUSTER_INIT};
    struct catalog_result result;
    command.u.init.cluster = (struct uid){1, 2};
    command.u.init.name = BYTES_LITERAL("test");
    command.u.init.vhost = BYTES_LITERAL("/");
    command.u.init.node = (struct catalog_node_info){.id = node_uid(0),
                                                     .member = {7, 1},
                                                     .name = BYTES_LITERAL("n0@localhost"),
                                                     .host = BYTES_LITERAL("localhost"),
                                                     .cluster_port = 1,
                                                     .amqp_port = 2};
    cluster_apply(c, &command, &result);
    cr_assert_eq(result.status, CATALOG_OK);
    for (uint32_t i = 1; i < nodes; i++) {
        char name[32];
        snprintf(name, sizeof name, "n%u@localhost", i);
        command = (struct catalog_command){.kind = CATALOG_JOIN_NODE};
        command.u.join = (struct catalog_node_info){.id = node_uid(i),
                                                    .member = {7, i + 1},
                                                    .name = bytes_from_cstr(name),
                                                    .host = BYTES_LITERAL("localhost"),
                                                    .cluster_port = 1,
                                                    .amqp_port = 2};
        cluster_apply(c, &command, &result);
        cr_assert_eq(result.status, CATALOG_OK);
    }
    for (uint32_t i = 0; i < nodes; i++) {
        boot(c, i, 100 + i);
        for (uint32_t s = 0; s < shards; s++) {
            host_set_boot(c->nodes[i].shards[s].host, c->nodes[i].boot);
        }
    }
    cluster_views(c);
    for (uint32_t i = 0; i < nodes; i++) {
        for (uint32_t k = i + 1; k < nodes; k++) {
            cluster_join(c, i, k);
        }
    }
    return c;
}

void cluster_free(struct test_cluster *c)
{
    for (uint32_t i = 0; i < c->node_count; i++) {
        for (uint32_t k = 0; k < c->node_count; k++) {
            drop_lanes(c, i, k);
        }
    }
    for (uint32_t i = 0; i < c->node_count; i++) {
        if (c->nodes[i].alive) {
            node_free(c, i);
        }
        sim_disk_free(c->nodes[i].disk);
        sim_kv_free(c->nodes[i].kv);
    }
    catalog_free(c->catalog);
    wr_free(c);
}

struct host *cluster_host(struct test_cluster *c, uint32_t node, uint32_t shard)
{
    c->nodes[node].shards[shard].env.wake_at = 0; /* whatever is called on it wants a turn */
    return c->nodes[node].shards[shard].host;
}

/* --- running --------------------------------------------------------------------------------- */

static bool step_mail(struct test_cluster *c, struct test_node *n)
{
    uint32_t contexts = c->shard_count + 1;
    uint32_t start = (uint32_t)prng_below(&c->prng, contexts * contexts);
    for (uint32_t i = 0; i < contexts * contexts; i++) {
        uint32_t at = (start + i) % (contexts * contexts);
        uint32_t from = at / contexts;
        uint32_t to = at % contexts;
        struct mail *mail = lane_take(&n->mail[from][to]);
        if (mail != NULL) {
            fake_env_deliver(to == c->shard_count ? &n->log_env : &n->shards[to].env, from, mail);
            return true;
        }
    }
    return false;
}

static bool step_parcel(struct test_cluster *c)
{
    uint32_t total = NODES_MAX * SHARDS_MAX * NODES_MAX;
    uint32_t start = (uint32_t)prng_below(&c->prng, total);
    for (uint32_t i = 0; i < total; i++) {
        uint32_t at = (start + i) % total;
        uint32_t a = at / (SHARDS_MAX * NODES_MAX);
        uint32_t s = at / NODES_MAX % SHARDS_MAX;
        uint32_t b = at % NODES_MAX;
        struct lane *lane = &c->lanes[a][s][b];
        if (lane->first == lane->parcels.count || (c->held[a][b] && c->pass[a][b] == 0)) {
            continue;
        }
        c->pass[a][b] -= c->held[a][b] ? 1 : 0;
        struct parcel *parcel = lane->parcels.items[lane->first++];
        if (lane->first == lane->parcels.count) {
            vec_clear(&lane->parcels);
            lane->first = 0;
        }
        uint32_t shard = parcel->to_shard == HOST_SHARD_BY_GROUP
                             ? host_shard_of_group(parcel->group, c->shard_count)
                             : parcel->to_shard;
        c->damaged = c->damaged || c->damage > 0;
        if (c->damaged && shard >= c->shard_count) {
            parcel_free(parcel); /* as the node layer does */
            return true;
        }
        struct node_shard *to = &c->nodes[b].shards[shard];
        if (c->damage > 0 && prng_ratio(&c->prng, 1, c->damage) &&
            (c->damage_kind == 0 || c->damage_kind == parcel->kind)) {
            host_on_parcel(to->host, cluster_damaged_copy(c, parcel));
        }
        host_on_parcel(to->host, parcel);
        shard_turn(to);
        return true;
    }
    return false;
}

static bool step_envs(struct test_cluster *c, struct test_node *n)
{
    uint32_t contexts = c->shard_count + 1;
    uint32_t start = (uint32_t)prng_below(&c->prng, contexts);
    for (uint32_t i = 0; i < contexts; i++) {
        uint32_t at = (start + i) % contexts;
        if (fake_env_step(at == c->shard_count ? &n->log_env : &n->shards[at].env)) {
            return true;
        }
    }
    return false;
}

static bool step_node(struct test_cluster *c, struct test_node *n)
{
    if (!n->alive) {
        return false;
    }
    bool mail_first = prng_ratio(&c->prng, 1, 2);
    return mail_first ? step_mail(c, n) || step_envs(c, n) : step_envs(c, n) || step_mail(c, n);
}

bool cluster_step(struct test_cluster *c)
{
    bool parcels_first = prng_ratio(&c->prng, 1, 2);
    if (parcels_first && step_parcel(c)) {
        return true;
    }
    uint32_t start = (uint32_t)prng_below(&c->prng, c->node_count);
    for (uint32_t i = 0; i < c->node_count; i++) {
        if (step_node(c, &c->nodes[(start + i) % c->node_count])) {
            return true;
        }
    }
    return !parcels_first && step_parcel(c);
}

static void set_time(struct test_cluster *c, uint64_t now_ns)
{
    c->now_ns = now_ns;
    for (uint32_t i = 0; i < c->node_count; i++) {
        struct test_node *n = &c->nodes[i];
        for (uint32_t s = 0; n->alive && s <= c->shard_count; s++) {
            struct fake_env *env = s == c->shard_count ? &n->log_env : &n->shards[s].env;
            env->mono_ns = now_ns;
            env->wall_ms = wall_of(c, i);
        }
    }
}

void cluster_sleep(struct test_cluster *c, uint64_t ms_max)
{
    uint64_t next = c->now_ns + ms_max * 1000000;
    for (uint32_t i = 0; i < c->node_count; i++) {
        struct test_node *n = &c->nodes[i];
        for (uint32_t s = 0; n->alive && s <= c->shard_count; s++) {
            struct fake_env *env = s == c->shard_count ? &n->log_env : &n->shards[s].env;
            next = env->wake_at < next ? env->wake_at : next;
        }
    }
    set_time(c, next > c->now_ns ? next : c->now_ns);
}

bool cluster_run(struct test_cluster *c, bool (*done)(void *ctx), void *ctx, uint64_t ms_max)
{
    uint64_t until = c->now_ns + ms_max * 1000000;
    uint64_t steps = 0;
    for (;;) {
        if (done(ctx)) {
            return true;
        }
        if (cluster_step(c)) {
            cr_assert_lt(++steps, 50000000);
            continue;
        }
        if (c->now_ns >= until) {
            return false;
        }
        cluster_sleep(c, (until - c->now_ns + 999999) / 1000000);
    }
}

static bool never(void *ctx)
{
    (void)ctx;
    return false;
}

void cluster_settle(struct test_cluster *c, uint64_t ms)
{
    cr_assert_not(cluster_run(c, never, NULL, ms));
}

int cluster_leader(struct test_cluster *c, uint64_t group)
{
    int found = -1;
    uint64_t term = 0;
    for (uint32_t i = 0; i < c->node_count; i++) {
        struct group_status status;
        if (!c->nodes[i].alive) {
            continue;
        }
        struct host *host = c->nodes[i].shards[host_shard_of_group(group, c->shard_count)].host;
        if (host_group_status(host, group, &status) && status.leading && status.why[0] == 0 &&
            status.term > term) {
            found = (int)i;
            term = status.term;
        }
    }
    return found;
}

struct home *cluster_home(struct test_cluster *c, uint32_t node, uint64_t queue)
{
    struct home *home = NULL;
    for (uint32_t s = 0; s < c->shard_count && home == NULL; s++) {
        home = home_find(c->nodes[node].shards[s].host, queue);
    }
    cr_assert_not_null(home);
    return home;
}

uint64_t cluster_now_ms(const struct test_cluster *c)
{
    return c->now_ns / 1000000;
}
