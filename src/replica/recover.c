/*
 * What: from what is stored to running replicas, at start.
 * Happy path: log_open feeds every record in order; per group the last creation, hard state and
 * entries are noted (payloads stay on disk, except memberships); host_recovered reads each group's
 * snapshot from the checkpoint store, makes the core, gives it the entries that follow, and starts
 * it. Entries up to the commit hint are then applied by the ordinary way, read from the log.
 * Failure modes: a group with entries but without creation, or whose state contradicts itself, is
 * named in errmsg and the node does not start (nothing is deleted because files look odd).
 * Invariants
 * I1  An entry that is written again with the same index and term is the same entry: it does not
 * void what follows it (segments are retired that way). One of another term does. I2  The snapshot
 * in the store may be newer than the last LOG_CHECKPOINT: it is used, being complete when it is
 * there. I3  Of entries written again while the log went on, some may come before, others after
 * entries that follow them: holes are filled as they come, and one that stays lies before the
 * snapshot. I4  A snapshot of a higher term than the hard state raises it (with no vote: none was
 * answered). Ownership: struct recover lives from the first record to host_recovered.
 */
#include "checkpoint.h"
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "parcel.h"
#include "store.h"

#include <stdio.h>

struct recovered_entry {
    uint64_t term;
    struct log_location location;
    VEC(struct log_location) older; /* its copies before, oldest first */
    struct slice payload;           /* CONFIG only */
};
struct recovered_group {
    uint64_t id;
    bool created, ended, has_hard, damaged, quarantined;
    struct slice creation;
    struct raft_hard_state hard;
    uint32_t segment_group, segment_hard, segment_checkpoint;
    uint64_t first; /* index of entries.items[0] */
    VEC(struct recovered_entry) entries;
};
struct recover {
    struct umap groups;
    VEC(struct peer_node) catalog_members; /* in the order they were named */
};

#define HOLES_MAX (UINT64_C(1) << 20)

static bool is_hole(const struct recovered_entry *e)
{
    return e->location.position.segment == 0;
}

static struct recover *recover_of(struct host *host)
{
    if (host->recover == NULL) {
        host->recover = wr_calloc(1, sizeof *host->recover);
        umap_init(&host->recover->groups, host->hash);
    }
    return host->recover;
}

static void truncate_entries(struct recovered_group *g, uint64_t from)
{
    size_t keep = from <= g->first ? 0 : (size_t)(from - g->first);
    while (g->entries.count > keep) {
        struct recovered_entry e = vec_pop(&g->entries);
        slice_unref(&e.payload);
        vec_deinit(&e.older);
    }
}

static void reset_group(struct recovered_group *g)
{
    truncate_entries(g, 0);
    slice_unref(&g->creation);
    uint64_t id = g->id;
    vec_deinit(&g->entries);
    *g = (struct recovered_group){.id = id};
}

void recover_free(struct host *host)
{
    if (host->recover == NULL) {
        return;
    }
    struct umap_iter it = umap_iterate(&host->recover->groups);
    while (umap_next(&it)) {
        reset_group(it.value);
        wr_free(it.value);
    }
    umap_deinit(&host->recover->groups);
    vec_deinit(&host->recover->catalog_members);
    wr_free(host->recover);
    host->recover = NULL;
}

static struct slice payload_copy(const struct slice *s)
{
    return s->size == 0 ? SLICE_NONE : slice_copy(slice_data(s), s->size);
}

/* Room for indexes not seen yet, as holes, between what is known and `index`; false: too far away.
 */
static bool reach_index(struct recovered_group *g, uint64_t index)
{
    uint64_t end = g->first + g->entries.count;
    uint64_t missing = index < g->first ? g->first - index : index >= end ? index + 1 - end : 0;
    if (missing > HOLES_MAX) {
        return false;
    }
    if (missing == 0) {
        return true;
    }
    vec_reserve(&g->entries, missing);
    struct recovered_entry *items = g->entries.items;
    if (index < g->first) {
        memmove(items + missing, items, g->entries.count * sizeof *items);
        memset(items, 0, missing * sizeof *items);
        g->first = index;
    } else {
        memset(items + g->entries.count, 0, missing * sizeof *items);
    }
    g->entries.count += missing;
    return true;
}

/* Entries after `at` of a lower term were replaced together with what is at `at`. */
static void drop_replaced(struct recovered_group *g, size_t at)
{
    for (size_t i = at + 1; i < g->entries.count; i++) {
        if (!is_hole(&g->entries.items[i])) {
            if (g->entries.items[i].term < g->entries.items[at].term) {
                truncate_entries(g, g->first + at + 1);
            }
            return;
        }
    }
}

static void on_entry(struct recovered_group *g, const struct log_item *item)
{
    if (g->entries.count == 0) {
        g->first = item->index;
    }
    if (item->index == 0 || !reach_index(g, item->index)) {
        g->damaged = true;
        return;
    }
    size_t at = (size_t)(item->index - g->first);
    struct recovered_entry *e = &g->entries.items[at];
    const struct log_location location = {item->position, item->payload.size, item->term,
                                          item->flags};
    if (!is_hole(e) && e->term == item->term) { /* I1 */
        vec_push(&e->older, e->location);
        e->location = location;
        return;
    }
    if (!is_hole(e)) {
        truncate_entries(g, item->index + 1);
        slice_unref(&e->payload);
        vec_deinit(&e->older);
    }
    *e = (struct recovered_entry){.term = item->term, .location = location};
    if (item->flags == RAFT_ENTRY_CONFIG) {
        e->payload = payload_copy(&item->payload);
    }
    drop_replaced(g, at);
}

/* A snapshot came from another member over a log of another history: that history is void. */
static void on_checkpoint(struct recovered_group *g, const struct log_item *item)
{
    if (g->entries.count == 0 || item->index < g->first) {
        return;
    }
    if (item->index - g->first >= g->entries.count) {
        truncate_entries(g, 0); /* the log goes on behind the snapshot */
        return;
    }
    const struct recovered_entry *e = &g->entries.items[item->index - g->first];
    if (!is_hole(e) && e->term != item->term) {
        truncate_entries(g, 0);
    }
}

/* Where the catalog's members are is in its own commands: known before they are applied, or after a
 * loss of all nodes nobody could be asked for a vote. */
static void note_catalog_member(struct recover *recover, const struct log_item *item)
{
    if (item->group != HOST_CATALOG_GROUP || item->flags != RAFT_ENTRY_COMMAND ||
        item->payload.size <= ENTRY_HEADER) {
        return;
    }
    struct catalog_command *command = wr_alloc(sizeof *command);
    const struct bytes encoded =
        bytes_make(slice_data(&item->payload) + ENTRY_HEADER, item->payload.size - ENTRY_HEADER);
    const struct catalog_node_info *node = NULL;
    if (catalog_command_decode(encoded, command) == 0) {
        node = command->kind == CATALOG_CLUSTER_INIT ? &command->u.init.node
               : command->kind == CATALOG_JOIN_NODE  ? &command->u.join
               : command->kind == CATALOG_NODE_BOOT  ? &command->u.boot.node
                                                     : NULL;
    }
    if (node != NULL && !uid_is_zero(node->member)) {
        vec_push(&recover->catalog_members,
                 (struct peer_node){raft_of_uid(node->member), node->id});
    }
    wr_free(command);
}

/* Zero: not known. */
static struct raft_id ended_member(const struct log_item *item)
{
    struct reader r = reader_from(bytes_from_slice(&item->payload));
    const struct uid member = rd_uid(&r);
    return raft_of_uid(r.failed ? UID_NONE : member);
}

void host_recover_record(struct host *host, const struct log_item *item)
{
    struct recover *recover = recover_of(host);
    struct recovered_group *g = umap_get(&recover->groups, item->group);
    if (g == NULL) {
        g = wr_calloc(1, sizeof *g);
        g->id = item->group;
        umap_put(&recover->groups, item->group, g);
    }
    if (g->ended && item->kind != LOG_GROUP) {
        return; /* of the replica that ended */
    }
    switch (item->kind) {
    case LOG_GROUP:
        if (g->ended) {
            reset_group(g);
        }
        g->created = true;
        g->quarantined = (item->flags & GROUP_QUARANTINED) != 0;
        slice_unref(&g->creation);
        g->creation = payload_copy(&item->payload);
        g->segment_group = item->position.segment;
        break;
    case LOG_HARD_STATE: {
        struct reader r = reader_from(bytes_from_slice(&item->payload));
        g->hard.term.v = item->term;
        g->hard.commit = item->index;
        g->hard.vote = raft_of_uid(rd_uid(&r));
        g->has_hard = true;
        g->segment_hard = item->position.segment;
        break;
    }
    case LOG_ENTRY:
        note_catalog_member(recover, item);
        on_entry(g, item);
        break;
    case LOG_TRUNCATE:
        truncate_entries(g, item->index);
        break;
    case LOG_CHECKPOINT:
        g->segment_checkpoint = item->position.segment;
        on_checkpoint(g, item);
        break;
    case LOG_GROUP_END:
        replica_ended(host, g->id, ended_member(item));
        reset_group(g);
        g->ended = true;
        break;
    default:
        break;
    }
}

/* --- building -------------------------------------------------------------------------------- */

static int read_creation(struct group *group, const struct slice *creation)
{
    struct reader r = reader_from(bytes_from_slice(creation));
    if (rd_u8(&r) != 1) {
        return WR_E_VERSION;
    }
    group->self = raft_of_uid(rd_uid(&r));
    uint32_t size = rd_le32(&r);
    struct bytes bootstrap = rd_bytes(&r, size);
    if (r.failed || size > RAFT_MEMBERSHIP_BYTES_MAX) {
        return WR_E_CORRUPT;
    }
    memcpy(group->bootstrap, bootstrap.data, size);
    group->bootstrap_size = size;
    uint32_t peers = rd_le32(&r);
    for (uint32_t i = 0; i < peers && !r.failed; i++) {
        struct raft_id member = raft_of_uid(rd_uid(&r));
        struct uid node = rd_uid(&r);
        if (!r.failed) {
            group_set_peer(group, member, node);
        }
    }
    queue_config_get(&r, &group->config);
    return rd_done(&r) ? 0 : WR_E_CORRUPT;
}

/* The newest of both locations, such that segments do not fall (a rewriting that the crash cut
 * short counts for nothing). */
static void settle_locations(struct recovered_group *g, size_t begin)
{
    uint32_t next = UINT32_MAX;
    for (size_t i = g->entries.count; i-- > begin;) {
        struct recovered_entry *e = &g->entries.items[i];
        while (e->location.position.segment > next && e->older.count > 0) {
            e->location = vec_pop(&e->older);
        }
        next = e->location.position.segment < next ? e->location.position.segment : next;
    }
}

static int restore_entries(struct group *group, struct recovered_group *g, uint64_t snapshot)
{
    size_t begin = 0;
    for (size_t i = 0; i < g->entries.count; i++) {
        begin = is_hole(&g->entries.items[i])
                    ? i + 1
                    : begin; /* what lies before a hole is older than the snapshot */
    }
    settle_locations(g, begin);
    uint32_t segment = 0;
    for (size_t i = begin; i < g->entries.count; i++) {
        struct recovered_entry *e = &g->entries.items[i];
        uint64_t index = g->first + i;
        if (i == begin && index > snapshot + 1) { /* what lies between is missing */
            wr_log(group->host->logger, LOG_LEVEL_ERROR, "recovery",
                   "group %llu: the log begins with entry %llu, but the checkpoint store has it up "
                   "to entry %llu only",
                   (unsigned long long)group->id, (unsigned long long)index,
                   (unsigned long long)snapshot);
            return WR_E_CORRUPT;
        }
        if (e->location.position.segment < segment) {
            /* no copy of the one before is where it should be */
            wr_log(group->host->logger, LOG_LEVEL_ERROR, "recovery",
                   "group %llu: entry %llu lies in segment %u, the one before it in segment %u",
                   (unsigned long long)group->id, (unsigned long long)index,
                   e->location.position.segment, segment);
            return WR_E_CORRUPT;
        }
        segment = e->location.position.segment;
        log_index_put(group->index, index, &e->location);
        struct raft_entry entry = {
            .term = {e->term}, .index = index, .kind = (enum raft_entry_kind)e->location.flags};
        if (entry.kind == RAFT_ENTRY_CONFIG) {
            entry.size = e->payload.size;
            entry.data = slice_data(&e->payload);
            entry.owner = e->payload.buf;
        } else {
            entry.trimmed = true;
            entry.size = e->location.size;
        }
        if (raft_restore_entry(group->raft, &entry) != 0) {
            wr_log(group->host->logger, LOG_LEVEL_ERROR, "recovery",
                   "group %llu: entry %llu of term %llu does not follow what comes before it "
                   "(snapshot at entry %llu)",
                   (unsigned long long)group->id, (unsigned long long)index,
                   (unsigned long long)e->term, (unsigned long long)snapshot);
            return WR_E_CORRUPT;
        }
    }
    return 0;
}

static int start_core(struct group *group, struct recovered_group *g,
                      const struct raft_snapshot_meta *meta)
{
    struct raft_hard_state hard = g->hard;
    if (meta->term.v > hard.term.v) { /* I4 */
        hard = (struct raft_hard_state){.term = meta->term, .commit = meta->index};
    }
    group_start(group, &hard, meta);
    int error = restore_entries(group, g, meta->index);
    if (error != 0) {
        return error;
    }
    struct raft_update update;
    if (raft_start(group->raft, group->host->now_ms, &update) != 0) {
        wr_log(group->host->logger, LOG_LEVEL_ERROR, "recovery",
               "group %llu: term %llu, commit %llu and a log up to entry %llu do not fit together",
               (unsigned long long)group->id, (unsigned long long)hard.term.v,
               (unsigned long long)hard.commit, (unsigned long long)raft_last_index(group->raft));
        return WR_E_CORRUPT;
    }
    group_started(group, &update);
    return 0;
}

static int recover_machine(struct group *group, struct recovered_group *g)
{
    struct raft_member members[RAFT_MEMBERS_MAX];
    struct raft_snapshot_meta meta = {0};
    struct host *host = group->host;
    struct slice key = checkpoint_snapshot_key(group->id);
    struct slice value = SLICE_NONE;
    int error = host->env->ops->kv_get_now(host->env, key, &value);
    slice_unref(&key);
    if (error == WR_E_NOTFOUND) {
        error = raft_membership_decode(group->bootstrap, group->bootstrap_size, members,
                                       &meta.membership.count);
        meta.membership.members = members;
        return error != 0 ? WR_E_CORRUPT : start_core(group, g, &meta);
    }
    if (error != 0) {
        return error;
    }
    struct checkpoint c;
    error = checkpoint_decode(bytes_from_slice(&value), &c);
    if (error == 0 && raft_membership_decode(c.membership.data, c.membership.size, members,
                                             &meta.membership.count) != 0) {
        error = WR_E_CORRUPT;
    }
    if (error == 0) {
        error = stored_machine_decode(group, c.index, c.machine);
    }
    if (error != 0) {
        wr_log(host->logger, LOG_LEVEL_ERROR, "recovery",
               "group %llu: what the checkpoint store has of it cannot be read: %s",
               (unsigned long long)group->id, wr_err_text(error));
    }
    if (error == 0) {
        meta.index = c.index;
        meta.term.v = c.term;
        meta.membership.members = members;
        error = start_core(group, g, &meta);
    }
    slice_unref(&value);
    return error;
}

static int recover_group(struct host *host, struct recovered_group *g)
{
    if (g->ended) {
        purge_begin(host, g->id); /* perhaps again */
        return 0;
    }
    if (!g->created || g->damaged) {
        wr_log(host->logger, LOG_LEVEL_ERROR, "recovery", "group %llu: %s",
               (unsigned long long)g->id,
               g->damaged ? "numbers of its entries are far apart"
                          : "the log has entries of it, but not its creation");
        return WR_E_CORRUPT;
    }
    bool catalog = g->id == HOST_CATALOG_GROUP;
    struct group *group = group_new(
        host, g->id, catalog ? &catalog_machine_ops : &queue_machine_ops, (struct raft_id){1, 1});
    int error = read_creation(group, &g->creation);
    if (error != 0) {
        return error;
    }
    group->durable = true;
    group->segment_group = g->segment_group;
    group->segment_hard = g->segment_hard;
    group->segment_checkpoint = g->segment_checkpoint;
    for (size_t i = 0; catalog && i < host->recover->catalog_members.count; i++) {
        const struct peer_node *peer = &host->recover->catalog_members.items[i];
        group_set_peer(group, peer->member, peer->node);
    }
    if (g->quarantined) {
        compare_recovered(group);
    }
    if (g->quarantined && catalog) {
        return WR_E_CORRUPT;
    }
    if (!catalog) {
        group->home = home_new(host, g->id, queue_new(&group->config), group);
        group->recovered = true;
    }
    return recover_machine(group, g);
}

int host_recovered(struct host *host, char *errmsg)
{
    int error = 0;
    uint64_t id = 0;
    host_refresh(host);
    if (host->recover != NULL) {
        struct umap_iter it = umap_iterate(&host->recover->groups);
        while (error == 0 && umap_next(&it)) {
            id = it.key;
            error = recover_group(host, it.value);
        }
    }
    recover_free(host);
    const struct group *catalog = group_find(host, HOST_CATALOG_GROUP);
    if (error != 0 && catalog != NULL && catalog->quarantined[0] != 0) {
        compare_catalog_advice(catalog, errmsg, 256);
        return error;
    }
    if (error != 0) {
        snprintf(errmsg, 256, "group %llu cannot be recovered: %s; its files were left as they are",
                 (unsigned long long)id, wr_err_text(error));
        return error;
    }
    catalog_turn(host);
    return 0;
}
