/*
 * What: invariants checked from inside, after every step of a shard: one leader per (group, term),
 * commit and applied indexes that never fall while a process lives, machines that are equal at
 * equal applied index (Raft's other properties: sim_log.c); and, at the end, that every group has
 * one leader and equal replicas.
 *
 * It looks into src/replica (host_internal.h and what it includes) so that nothing has to be added
 * to the product for it.
 */
#include <inttypes.h>

#include "sim.h"

#include "warren/plant.h"

#include "sim_check.h"

#include "node/node_internal.h"
#include "replica/client_internal.h"
#include "replica/host_internal.h"
#include "replica/home.h"
#include "replica/group.h"

#define BODIES_EVERY 64u
#define BODIES_MANY  200u
#define OVERDUE_NS   (5 * SIM_S)
#define HASH_EVERY   8u /* machines are compared at applied indexes divisible by this */

struct sim_check {
    struct map leaders;             /* (group, term) -> host + 1 */
    struct map hashes;              /* (group, applied) -> hash of the machine, never 0 */
    struct map seen[SIM_NODES_MAX]; /* group -> struct seen, of the running incarnation */
    struct sim_log_check *logs;
    struct map ever; /* group -> struct seen: the highest of any replica at any time */
};

struct seen {
    uint64_t term, commit, applied;
    uint64_t incarnation; /* of the replica: one may end and another begin in one process */
    uint64_t drifted;     /* ever: index of the newest planted drift */
};

struct step {
    struct sim *sim;
    struct sim_host *host;
    struct host *replicas;
};

static struct bytes key_of(uint8_t out[16], uint64_t a, uint64_t b)
{
    bytes_store_le64(out, a);
    bytes_store_le64(out + 8, b);
    return bytes_make(out, 16);
}

void sim_check_init(struct sim *sim)
{
    const struct hash_seed seed = {3, 4};
    sim->check = wr_calloc(1, sizeof *sim->check);
    sim->check->logs = sim_log_check_new();
    map_init(&sim->check->leaders, seed);
    map_init(&sim->check->hashes, seed);
    map_init(&sim->check->ever, seed);
    for (uint32_t i = 0; i < SIM_NODES_MAX; i++) {
        map_init(&sim->check->seen[i], seed);
    }
}

static void seen_clear(struct map *seen)
{
    struct map_iter it = map_iterate(seen);
    while (map_next(&it)) {
        wr_free(it.value);
    }
    const struct hash_seed seed = seen->seed;
    map_deinit(seen);
    map_init(seen, seed);
}

void sim_check_deinit(struct sim *sim)
{
    sim_log_check_free(sim->check->logs);
    map_deinit(&sim->check->leaders);
    map_deinit(&sim->check->hashes);
    seen_clear(&sim->check->ever);
    for (uint32_t i = 0; i < SIM_NODES_MAX; i++) {
        seen_clear(&sim->check->seen[i]);
    }
    wr_free(sim->check);
}

static void note_ahead(struct sim *sim, const struct host *replicas)
{
    struct umap_iter it = umap_iterate((struct umap *)(uintptr_t)&replicas->groups);
    while (umap_next(&it)) {
        const struct group *group = it.value;
        SIM_SOMETIMES(sim, group->home != NULL && group->home->ahead_out > 0, SIM_SEEN_AHEAD_LOST);
    }
}

void sim_check_node_gone(struct sim *sim, struct sim_host *host)
{
    for (uint32_t i = 0; i < sim->options.shards; i++) {
        note_ahead(sim, node_shard_host(host->node, i));
    }
    seen_clear(&sim->check->seen[host->index]);
    sim_log_check_node_gone(sim->check->logs, host->index);
}

static struct seen *seen_of(struct map *map, uint64_t group)
{
    uint8_t key[16];
    struct seen *seen = map_get(map, key_of(key, group, 0));
    if (seen == NULL) {
        seen = wr_calloc(1, sizeof *seen);
        (void)map_put(map, key_of(key, group, 0), seen);
    }
    return seen;
}

static void check_leader(struct step *step, const struct group_status *s)
{
    uint8_t key[16];
    void *mine = (void *)(uintptr_t)(step->host->index + 1);
    void *before = map_put(&step->sim->check->leaders, key_of(key, s->group, s->term), mine);
    if (before == NULL) {
        sim_trace(step->sim, "node %u leads group %" PRIu64 " in term %" PRIu64, step->host->index,
                  s->group, s->term);
        SIM_SOMETIMES(step->sim, true, SIM_SEEN_LEADER);
        SIM_SOMETIMES(step->sim, s->term > 1, SIM_SEEN_LEADER_AGAIN);
        step->sim->leader_changed_at = s->term > 1 ? step->sim->now : step->sim->leader_changed_at;
        sim_log_check_leader(step->sim, step->sim->check->logs, step->host->index,
                             group_find(step->replicas, s->group));
    } else if (before != mine) {
        sim_fail(step->sim, "two leaders of group %" PRIu64 " in term %" PRIu64 ": nodes %u and %u",
                 s->group, s->term, (uint32_t)(uintptr_t)before - 1, step->host->index);
    }
}

static uint64_t machine_hash(struct host *replicas, uint64_t id)
{
    struct group *group = group_find(replicas, id);
    if (group == NULL || group->installing) {
        return 0;
    }
    uint64_t hash =
        group->home != NULL ? queue_hash(group->home->queue) : catalog_hash(replicas->catalog);
    return hash == 0 ? 1 : hash;
}

static bool is_quarantined(const struct host *replicas, uint64_t id)
{
    const struct group *group = umap_get(&replicas->groups, id);
    return group != NULL && group->quarantined[0] != 0;
}

static void check_machine(struct sim *sim, uint32_t node, struct host *replicas,
                          const struct group_status *s)
{
    uint8_t key[16];
    uint64_t hash = machine_hash(replicas, s->group);
    if (hash == 0 || (wr_planted_drift() && is_quarantined(replicas, s->group))) {
        return;
    }
    void *before =
        map_put(&sim->check->hashes, key_of(key, s->group, s->applied), (void *)(uintptr_t)hash);
    if (before != NULL && before != (void *)(uintptr_t)hash) {
        sim_fail(sim,
                 "the machine of group %" PRIu64 " at index %" PRIu64
                 " on node %u differs from another replica's",
                 s->group, s->applied, node);
    }
}

static void note_drift(struct step *step, const struct group_status *s, const struct group *group,
                       struct seen *ever)
{
    ever->drifted = group->drifted_at > ever->drifted ? group->drifted_at : ever->drifted;
    if (!wr_planted_drift() && group->quarantined[0] != 0) {
        sim_fail(step->sim, "group %" PRIu64 " on node %u is quarantined: %s", s->group,
                 step->host->index, s->why);
    }
}

static void check_group(void *ctx, const struct group_status *s)
{
    struct step *step = ctx;
    if (!s->exists) {
        return;
    }
    struct seen *seen = seen_of(&step->sim->check->seen[step->host->index], s->group);
    struct seen *ever = seen_of(&step->sim->check->ever, s->group);
    struct group *group = group_find(step->replicas, s->group);
    if (seen->incarnation != group->incarnation) {
        *seen = (struct seen){.incarnation = group->incarnation};
    }
    note_drift(step, s, group, ever);
    if (s->commit < seen->commit || s->applied < seen->applied || s->term < seen->term) {
        sim_fail(step->sim,
                 "group %" PRIu64 " on node %u went from term %" PRIu64 " commit %" PRIu64
                 " applied %" PRIu64 " to %" PRIu64 ", %" PRIu64 ", %" PRIu64,
                 s->group, step->host->index, seen->term, seen->commit, seen->applied, s->term,
                 s->commit, s->applied);
    }
    sim_log_check_group(step->sim, step->sim->check->logs, step->host->index, group, s->leading);
    if (s->leading && sim_log_leads(step->sim, step->host->index, group)) {
        check_leader(step, s);
    }
    if (group->home != NULL && group->home->ahead_out > 0) {
        SIM_SOMETIMES(step->sim, true, SIM_SEEN_AHEAD);
        sim_faults_ahead(step->sim, step->host->index);
    }
    if (!wr_planted_drift() && s->applied != seen->applied && s->applied % HASH_EVERY == 0 &&
        ahead_is_settled(group)) {
        check_machine(step->sim, step->host->index, step->replicas, s);
    }
    seen->term = s->term;
    seen->commit = s->commit;
    seen->applied = s->applied;
    ever->applied = s->applied > ever->applied ? s->applied : ever->applied;
}

/* --- a live message's bytes are somewhere
 * ------------------------------------------------------------ */

struct bodies {
    struct step *step;
    struct group *group;
};

static bool in_store_or_log(const struct group *group, uint64_t position)
{
    const struct slice *first;
    struct log_location location;
    const struct where_run *run = store_where(&group->home->store, position);
    return store_run(&group->home->store, position, 1, &first) > 0 ||
           (run != NULL && log_index_find(group->index, run->index, &location));
}

static void check_live(void *ctx, uint64_t position, uint64_t count)
{
    const struct bodies *b = ctx;
    for (uint64_t at = position; at < position + count; at++) {
        if (in_store_or_log(b->group, at)) {
            continue;
        }
        struct slice key = checkpoint_message_key(b->group->id, at);
        struct slice value = SLICE_NONE;
        const int rc = sim_kv_get_now(b->step->host->kv, key, &value);
        slice_unref(&key);
        slice_unref(&value);
        if (rc != 0) {
            sim_fail(b->step->sim,
                     "group %" PRIu64
                     " on node %u: the bytes of the live message at position %" PRIu64
                     " are neither in memory, nor in the log, nor in the store",
                     b->group->id, b->step->host->index, at);
        }
    }
}

/* A long backlog is not looked through as often: it would take most of the time. */
static bool is_due(const struct group *group, uint64_t steps)
{
    struct queue_totals t;
    queue_totals(group->home->queue, &t);
    return steps / BODIES_EVERY % (1 + (t.ready + t.unacked + t.dead) / BODIES_MANY) == 0;
}

static void check_bodies(struct step *step, uint64_t steps)
{
    struct umap_iter it = umap_iterate(&step->replicas->groups);
    while (umap_next(&it)) {
        struct bodies b = {step, it.value};
        /* A checkpoint, or a snapshot that is sent, leaves out what was consumed while it was made:
         * until the entries that say so are applied, such messages seem to live. */
        const struct seen *ever = seen_of(&step->sim->check->ever, b.group->id);
        if (b.group->applied >= ever->applied && b.group->home != NULL && !b.group->installing &&
            !b.group->ended && b.group->failed[0] == 0 && is_due(b.group, steps)) {
            queue_each_live(b.group->home->queue, check_live, &b);
        }
    }
}

static void count_active(void *ctx, const struct queue_consumer_info *info)
{
    uint32_t *active = ctx;
    *active += info->single_active && info->active ? 1 : 0;
}

/* What the machine wished to be told long ago (ms, quiet times), and who may get messages. */
static void check_upkeep(const struct step *step)
{
    const struct sim *sim = step->sim;
    const bool quiet = sim->quiet_since != UINT64_MAX && sim->now > sim->quiet_since + OVERDUE_NS;
    struct umap_iter it = umap_iterate(&step->replicas->groups);
    while (umap_next(&it)) {
        const struct group *group = it.value;
        uint32_t active = 0;
        if (group->home == NULL || !group->serving || group->ended || group->failed[0] != 0) {
            continue;
        }
        const uint64_t wish = queue_deadline_ms(group->home->queue);
        const uint64_t wall = sim_host_wall(step->host);
        if (quiet && wish != UINT64_MAX && wish + OVERDUE_NS / SIM_MS < wall) {
            sim_fail(step->sim,
                     "group %" PRIu64 " on node %u wished to be told the time %" PRIu64 " ms ago",
                     group->id, step->host->index, wall - wish);
        }
        queue_each_consumer(group->home->queue, count_active, &active);
        if (active > 1) {
            sim_fail(step->sim, "group %" PRIu64 " has %u single active consumers", group->id,
                     active);
        }
    }
}

static void look_at_clients(struct step *step)
{
    struct umap_iter it = umap_iterate(&step->replicas->clients);
    while (umap_next(&it)) {
        const struct queue_client *c = it.value;
        const bool resumed = c->session > 1 && c->state == CLIENT_CONNECTED;
        SIM_SOMETIMES(step->sim, resumed, SIM_SEEN_RESUMED);
        SIM_SOMETIMES(step->sim,
                      c->session > 1 && c->state == CLIENT_RESUMING && c->next_seq > c->applied + 1,
                      SIM_SEEN_RESUMED_PENDING);
    }
}

void sim_check_step(struct sim_context *context)
{
    struct sim_host *host = context->host;
    if (context->env.context + 1 >= host->context_count) {
        return; /* the log context */
    }
    struct step step = {context->sim, host, node_shard_host(host->node, context->env.context)};
    host_each_group(step.replicas, check_group, &step);
    if (context->steps % BODIES_EVERY == 1) {
        look_at_clients(&step);
        check_bodies(&step, context->steps);
        check_upkeep(&step);
    }
}

/* --- the end
 * ------------------------------------------------------------
 */

struct final {
    uint64_t group, applied, hash;
    uint32_t leaders, replicas, voters;
};

struct finals {
    struct sim *sim;
    uint32_t node;
    struct host *replicas;
    VEC(struct final) groups;
    char *why;
    size_t size;
    bool ok;
};

/* All clients have settled all they got: nothing may be left with a consumer, or for one. */
static void check_empty(struct finals *f, const struct group_status *s)
{
    for (uint32_t i = 0; s->leading && i < SIM_QUEUES_MAX; i++) {
        const struct group *group = group_find(f->replicas, s->group);
        if (f->sim->ledger.queues[i].drained &&
            sim_group_of_queue(f->sim, &f->sim->ledger.queues[i]) == s->group) {
            struct queue_totals t;
            queue_totals(group->home->queue, &t);
            if (t.ready + t.unacked + t.delayed + t.dead > 0) {
                (void)snprintf(f->why, f->size,
                               "group %" PRIu64 ": %" PRIu64 " messages are ready, %" PRIu64
                               " unacked, %" PRIu64 " delayed and %" PRIu64
                               " dead, and nobody has them",
                               s->group, t.ready, t.unacked, t.delayed, t.dead);
                f->ok = false;
            }
        }
    }
}

/* The group's members are those of its record, in their roles. */
static void check_members(struct finals *f, const struct group_status *s)
{
    const struct group *group = group_find(f->replicas, s->group);
    if (!s->leading || s->group == HOST_CATALOG_GROUP || group->raft == NULL) {
        return;
    }
    const struct raft_membership members = raft_membership(group->raft);
    const struct catalog_queue *record = catalog_queue_by_id(f->replicas->view, s->group);
    uint32_t as_wanted = 0;
    for (uint32_t i = 0; record != NULL && i < record->spec.group.member_count; i++) {
        const struct catalog_member *wanted = &record->spec.group.members[i];
        for (uint32_t k = 0; k < members.count; k++) {
            as_wanted += raft_id_equal(members.members[k].id, raft_of_uid(wanted->id)) &&
                         (members.members[k].role == RAFT_LEARNER) == wanted->learner;
        }
    }
    if (record == NULL || as_wanted != members.count ||
        as_wanted != record->spec.group.member_count) {
        (void)snprintf(f->why, f->size,
                       "group %" PRIu64 ": %u of %u members are as the record wants them", s->group,
                       as_wanted, members.count);
        f->ok = false;
    }
}

/* Replicas that differ are waited for: the product is to find and replace them, where there is a
 * majority that says which (of two voters there is none: docs/replica.md, "Comparing replicas"). */
static void final_machine(struct finals *f, const struct group_status *s, struct final *final)
{
    const uint64_t hash = machine_hash(f->replicas, s->group);
    if (!wr_planted_drift()) {
        check_machine(f->sim, f->node, f->replicas, s);
    } else if (s->voters > 2 && final->hash != 0 && final->hash != hash) {
        (void)snprintf(f->why, f->size, "group %" PRIu64 " on node %u differs and is not replaced",
                       s->group, f->node);
        f->ok = false;
    }
    final->hash = hash;
}

static void final_group(void *ctx, const struct group_status *s)
{
    struct finals *f = ctx;
    struct final *final = NULL;
    if (!s->exists || !f->ok) {
        return;
    }
    for (size_t i = 0; i < f->groups.count; i++) {
        final = f->groups.items[i].group == s->group ? &f->groups.items[i] : final;
    }
    if (final == NULL) {
        final = vec_add(&f->groups);
        final->group = s->group;
        final->applied = s->applied;
    }
    final->leaders += s->leading ? 1 : 0;
    final->replicas++;
    final->voters = s->leading ? s->voters : final->voters;
    if (s->why[0] != 0 || s->applied != final->applied || s->applied != s->commit ||
        (s->leading && s->voters_up != s->voters)) {
        (void)snprintf(f->why, f->size,
                       "group %" PRIu64 " on node %u: applied %" PRIu64 " of %" PRIu64
                       ", elsewhere %" PRIu64 ", %u of %u voters up%s%.120s",
                       s->group, f->node, s->applied, s->commit, final->applied, s->voters_up,
                       s->voters, s->why[0] != 0 ? ": " : "", s->why);
        f->ok = false;
        return;
    }
    const struct seen *ever = seen_of(&f->sim->check->ever, s->group);
    if (ever->drifted == 0 || s->applied / SIM_COMPARE_EVERY > ever->drifted / SIM_COMPARE_EVERY) {
        final_machine(f, s, final);
    } /* else: no agreed index came since */
    check_members(f, s);
    check_empty(f, s);
}

bool sim_check_converged(struct sim *sim, char *why, size_t size)
{
    struct finals f = {.sim = sim, .why = why, .size = size, .ok = true};
    for (f.node = 0; f.node < sim->node_count && f.ok; f.node++) {
        struct sim_host *host = &sim->hosts[f.node];
        for (uint32_t shard = 0; host->running && shard < sim->options.shards; shard++) {
            f.replicas = node_shard_host(host->node, shard);
            host_each_group(f.replicas, final_group, &f);
        }
    }
    for (size_t i = 0; i < f.groups.count && f.ok; i++) {
        const struct final *final = &f.groups.items[i];
        if (final->leaders != 1 || final->replicas < final->voters) {
            (void)snprintf(why, size, "group %" PRIu64 " has %u leaders, %u replicas and %u voters",
                           final->group, final->leaders, final->replicas, final->voters);
            f.ok = false;
        }
    }
    vec_deinit(&f.groups);
    return f.ok;
}

/* --- for the report of a failure
 * ------------------------------------------------------------ */

static void describe_consumer(void *ctx, const struct queue_consumer_info *info)
{
    const struct finals *f = ctx;
    sim_trace(f->sim,
              "    consumer %u of client %" PRIx64 " (boot %" PRIu64 "): %" PRIu64
              " unacked, prefetch %u%s",
              info->consumer, info->client, info->client >> 32, info->unacked, info->prefetch,
              info->active ? "" : ", not active");
}

static void describe_routes(const struct finals *f, const struct home *home)
{
    LIST_FOREACH(link, &home->routes_list) {
        const struct route *r = WR_CONTAINER_OF_CONST(link, struct route, link);
        sim_trace(f->sim,
                  "    route of client %" PRIx64 ": session %u, next item %" PRIu64
                  ", received %" PRIu64 "%s",
                  r->client, r->session, r->number, r->received, r->blocked ? ", blocked" : "");
    }
}

static void describe_clients(const struct finals *f)
{
    struct umap_iter it = umap_iterate(&f->replicas->clients);
    while (umap_next(&it)) {
        const struct queue_client *c = it.value;
        sim_trace(
            f->sim,
            "  node %u: client %" PRIx64 " of queue %" PRIu64 ": %s, session %u, next item %" PRIu64
            ", applied %" PRIu64 " of %" PRIu64 ", timer %s%s",
            f->node, c->id, c->queue,
            c->state == CLIENT_CONNECTED  ? "connected"
            : c->state == CLIENT_RESUMING ? "resuming"
                                          : "new",
            c->session, c->number, c->applied, c->next_seq - 1,
            timer_is_pending(&c->retry) ? "runs" : "does not run", c->closing ? ", closing" : "");
    }
}

static void describe_group(void *ctx, const struct group_status *s)
{
    struct finals *f = ctx;
    char queue[160] = "";
    struct group *group = group_find(f->replicas, s->group);
    if (group != NULL && group->home != NULL && group->home->queue != NULL) {
        struct queue_totals t;
        queue_totals(group->home->queue, &t);
        (void)snprintf(queue, sizeof queue,
                       "; %" PRIu64 " ready, %" PRIu64 " unacked, %" PRIu64 " delayed, %" PRIu64
                       " dead, %" PRIu64 " consumers",
                       t.ready, t.unacked, t.delayed, t.dead, t.consumers);
    }
    sim_trace(f->sim,
              "  node %u group %" PRIu64 ": term %" PRIu64 " commit %" PRIu64 " applied %" PRIu64
              " last %" PRIu64 "%s%s, %u of %u voters up%s%s%s",
              f->node, s->group, s->term, s->commit, s->applied, s->last,
              s->leading ? " leads" : "", s->is_voter ? "" : " (no voter)", s->voters_up, s->voters,
              queue, s->why[0] != 0 ? "; " : "", s->why);
    if (s->leading && queue[0] != 0) {
        queue_each_consumer(group->home->queue, describe_consumer, f);
        describe_routes(f, group->home);
    }
}

void sim_check_describe(struct sim *sim)
{
    struct finals f = {.sim = sim};
    for (f.node = 0; f.node < sim->node_count; f.node++) {
        struct sim_host *host = &sim->hosts[f.node];
        if (!host->running) {
            sim_trace(sim, "  node %u is down", f.node);
            continue;
        }
        for (uint32_t shard = 0; shard < sim->options.shards; shard++) {
            f.replicas = node_shard_host(host->node, shard);
            host_each_group(f.replicas, describe_group, &f);
            describe_clients(&f);
        }
    }
}
