/*
 * What: one Raft group's replica: the core's events in, its updates out to log, parcels and
 * machine. Happy path: proposal -> entries to the host's batch and messages to peers, in one step
 * -> completions and answers -> commit -> group_apply in the turn. Failure modes: an error of the
 * core that is no bug (bad message, late completion) is ignored or logged; a state that contradicts
 * itself makes the group stand still (group_fail) with a text that says so; nothing is deleted.
 * Invariants
 * I1  Updates are carried out in the order the core gave them, log work before the next step of the
 * group. I2  Nobody hears of an identity before the record of the group's creation is durable: the
 * core exists only then, except that of a member that is alone (group_is_alone), which has nobody
 * to talk to. Its hard state and first entry follow that record in the log. Ownership: the host
 * owns groups. Threads: the host's shard. Spec: raft/README.md; docs/replica.md, "Groups".
 */
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "parcel.h"

#include "warren/plant.h"

#include <stdio.h>

struct group *group_find(struct host *host, uint64_t id)
{
    return umap_get(&host->groups, id);
}

void group_mark(struct group *group)
{
    if (list_is_empty(&group->dirty)) {
        list_push_back(&group->host->dirty_groups, &group->dirty);
    }
}

struct group *group_new(struct host *host, uint64_t id, const struct machine_ops *ops,
                        struct raft_id self)
{
    struct group *group = wr_calloc(1, sizeof *group);
    group->host = host;
    group->id = id;
    group->incarnation = ++host->incarnations;
    group->ops = ops;
    group->self = self;
    group->index = log_index_new();
    group->compare_every = compare_every(host, id == HOST_CATALOG_GROUP);
    queue_config_default(&group->config);
    list_init(&group->dirty);
    timer_init(&group->tick);
    timer_init(&group->reconcile);
    timer_init(&group->read_again);
    WR_ASSERT(umap_get(&host->groups, id) == NULL);
    umap_put(&host->groups, id, group);
    return group;
}

void group_free(struct group *group)
{
    if (group == NULL) {
        return;
    }
    struct host *host = group->host;
    umap_remove(&host->groups, group->id);
    list_remove(&group->dirty);
    timer_cancel(&host->timers, &group->tick);
    timer_cancel(&host->timers, &group->reconcile);
    timer_cancel(&host->timers, &group->read_again);
    group_drop_proposals(group);
    for (size_t i = group->apply_cache_first; i < group->apply_cache.count; i++) {
        slice_unref(&group->apply_cache.items[i]);
    }
    for (size_t i = 0; i < group->waiting.count; i++) {
        parcel_free(group->waiting.items[i]);
    }
    for (size_t i = 0; i < group->unproven.count; i++) {
        parcel_free(group->unproven.items[i]);
    }
    snap_out_free(group);
    snap_abort(group);
    compare_free(group);
    home_free(group->home);
    raft_free(group->raft);
    log_index_free(group->index);
    vec_deinit(&group->peers);
    vec_deinit(&group->apply_cache);
    vec_deinit(&group->proposals);
    vec_deinit(&group->waiting);
    vec_deinit(&group->unproven);
    vec_deinit(&group->reports);
    wr_free(group);
}

void group_fail(struct group *group, const char *why)
{
    snprintf(group->failed, sizeof group->failed, "%s", why);
    wr_log(group->host->logger, LOG_LEVEL_ERROR, "queue", "group %llu stands still: %s",
           (unsigned long long)group->id, why);
}

/* --- who is where ---------------------------------------------------------------------------- */

void group_set_peer(struct group *group, struct raft_id member, struct uid node)
{
    for (size_t i = 0; i < group->peers.count; i++) {
        if (raft_id_equal(group->peers.items[i].member, member)) {
            group->peers.items[i].node = node;
            return;
        }
    }
    vec_push(&group->peers, (struct peer_node){member, node});
    if (group->raft != NULL && host_reach(group->host, node) == NODE_UP &&
        !raft_id_equal(member, group->self)) {
        group_step(group, &(struct raft_event){.type = RAFT_EVENT_PEER_UP, .u.peer = member});
    }
}

bool group_node_of(const struct group *group, struct raft_id member, struct uid *ret_node)
{
    if (raft_id_is_zero(member)) {
        return false;
    }
    if (raft_id_equal(member, group->self)) {
        *ret_node = group->host->options.node_id;
        return true;
    }
    for (size_t i = 0; i < group->peers.count; i++) {
        if (raft_id_equal(group->peers.items[i].member, member)) {
            *ret_node = group->peers.items[i].node;
            return true;
        }
    }
    return false;
}

void group_node_changed(struct group *group, struct uid node, bool up)
{
    for (size_t i = 0; group->raft != NULL && i < group->peers.count; i++) {
        const struct peer_node *peer = &group->peers.items[i];
        if (uid_eq(peer->node, node) && !raft_id_equal(peer->member, group->self)) {
            struct raft_event event = {.type = up ? RAFT_EVENT_PEER_UP : RAFT_EVENT_PEER_DOWN,
                                       .u.peer = peer->member};
            group_step(group, &event);
            if (!up && raft_id_equal(peer->member, group->leader)) {
                group->leader = (struct raft_id){0}; /* heard again, it counts as a new one */
            }
        }
    }
}

/* --- life ------------------------------------------------------------------------------------ */

static void payload_ref(void *ctx, void *owner)
{
    (void)ctx;
    buf_ref(owner);
}

static void payload_unref(void *ctx, void *owner)
{
    (void)ctx;
    buf_unref(owner);
}

static void *payload_create(void *ctx, const uint8_t *bytes, uint32_t size,
                            const uint8_t **ret_data)
{
    (void)ctx;
    struct buf *b = buf_from(bytes, size);
    *ret_data = b->data;
    return b;
}

/* Makes the core; entries are restored by the caller, who then calls group_started with
 * raft_start's update. */
void group_start(struct group *group, const struct raft_hard_state *hard,
                 const struct raft_snapshot_meta *meta)
{
    struct host *host = group->host;
    const struct host_options *o = &host->options;
    struct raft_config config = {
        .id = group->self,
        .seed = prng_u64(&host->prng),
        .payload = {payload_ref, payload_unref, payload_create, NULL},
        .election_min_ms = o->election_min_ms,
        .election_max_ms = o->election_max_ms,
        .abstains = group->quarantined[0] != 0,
        .commit_at_once = group->id == HOST_CATALOG_GROUP,
    };
    if (group->quick && o->election_min_ms > 1) {
        /* The preferred leader asks first, so that it usually leads. */
        config.election_min_ms = 1;
        config.election_max_ms = o->election_min_ms / 2 + 1;
    }
    group->raft = raft_new(&config, hard, meta, meta->index);
    group->applied = meta->index;
    group->apply_end = meta->index + 1;
    group->checkpoint_index = meta->index;
}

static void carry_out(struct group *group, struct raft_update *u);

void group_started(struct group *group, struct raft_update *update)
{
    struct host *host = group->host;
    carry_out(group, update);
    for (size_t i = 0; i < group->peers.count; i++) {
        const struct peer_node peer = group->peers.items[i];
        if (!raft_id_equal(peer.member, group->self) && host_reach(host, peer.node) == NODE_UP) {
            group_step(group,
                       &(struct raft_event){.type = RAFT_EVENT_PEER_UP, .u.peer = peer.member});
        }
    }
    group_mark(group);
}

bool group_is_alone(const struct group *group)
{
    struct raft_member members[RAFT_MEMBERS_MAX];
    uint32_t count = 0;
    int rc = raft_membership_decode(group->bootstrap, group->bootstrap_size, members, &count);
    WR_ASSERT(rc == 0);
    return count == 1 && members[0].role == RAFT_VOTER && raft_id_equal(members[0].id, group->self);
}

/* The core of a replica that is new. */
void group_begin(struct group *group)
{
    struct raft_member members[RAFT_MEMBERS_MAX];
    struct raft_snapshot_meta meta = {0};
    const struct raft_hard_state hard = {0};
    struct raft_update update;
    int rc = raft_membership_decode(group->bootstrap, group->bootstrap_size, members,
                                    &meta.membership.count);
    WR_ASSERT(rc == 0);
    meta.membership.members = members;
    group_start(group, &hard, &meta);
    rc = raft_start(group->raft, group->host->now_ms, &update);
    WR_ASSERT(rc == 0);
    group_started(group, &update);
    group_step(group, &(struct raft_event){.type = RAFT_EVENT_TICK});
}

void group_hurry(struct group *group)
{
    if (group->lazy) {
        group->lazy = false;
        group->host->hurry = true;
    }
}

void group_log(struct group *group, uint8_t kind, struct raft_term term, uint64_t index,
               uint8_t flags, uint64_t generation, struct slice owned_payload)
{
    struct log_item item = {
        .group = group->id,
        .term = term.v,
        .index = index,
        .generation = generation,
        .kind = kind,
        .flags = flags,
        .pad2 = (uint32_t)group->incarnation,
        .payload = owned_payload,
    };
    if (kind == LOG_GROUP || kind == LOG_HARD_STATE || kind == LOG_CHECKPOINT) {
        group->meta_pending++;
    }
    host_log(group->host, &item, group->lazy);
}

/* Creation: version, member id, bootstrap membership, who is where, the queue as declared (catalog:
 * unused). */
void group_create_record(struct group *group)
{
    struct writer w;
    writer_init(&w, 64 + group->bootstrap_size + group->peers.count * 32);
    put_u8(&w, 1);
    put_uid(&w, uid_of_raft(group->self));
    put_le32(&w, group->bootstrap_size);
    memcpy(put_space(&w, group->bootstrap_size), group->bootstrap, group->bootstrap_size);
    put_le32(&w, (uint32_t)group->peers.count);
    for (size_t i = 0; i < group->peers.count; i++) {
        put_uid(&w, uid_of_raft(group->peers.items[i].member));
        put_uid(&w, group->peers.items[i].node);
    }
    queue_config_put(&w, &group->config);
    uint8_t flags = group->quarantined[0] != 0 ? GROUP_QUARANTINED : 0;
    group_log(group, LOG_GROUP, (struct raft_term){0}, 0, flags, 0, slice_of_buf(writer_take(&w)));
}

void group_log_hard_state(struct group *group, const struct raft_hard_state *hard,
                          uint64_t generation)
{
    struct writer w;
    writer_init(&w, UID_SIZE);
    put_uid(&w, wr_planted(WR_PLANT_vote_not_persisted) ? UID_NONE : uid_of_raft(hard->vote));
    group_log(group, LOG_HARD_STATE, hard->term, hard->commit, 0, generation,
              slice_of_buf(writer_take(&w)));
}

/* The catalog decided that this replica ends. What it stored goes once the record of the end is
 * durable. */
void group_end(struct group *group)
{
    if (group->ended) {
        return;
    }
    wr_log(group->host->logger, LOG_LEVEL_INFO, "queue", "group %llu: this replica ends",
           (unsigned long long)group->id);
    group->ended = true;
    group->lazy = false;
    if (group->home != NULL) {
        home_stop_serving(group->home);
        relay_give_up(group->home);
    }
    group->serving = false;
    group_drop_proposals(group);
    timer_cancel(&group->host->timers, &group->tick);
    timer_cancel(&group->host->timers, &group->reconcile);
    struct writer w;
    writer_init(&w, UID_SIZE);
    put_uid(&w, uid_of_raft(group->self));
    group_log(group, LOG_GROUP_END, (struct raft_term){0}, 0, 0, 0, slice_of_buf(writer_take(&w)));
}

/* --- updates --------------------------------------------------------------------------------- */

struct slice group_entry_slice(const struct raft_entry *entry)
{
    if (entry->size == 0) {
        return SLICE_NONE;
    }
    struct buf *b = entry->owner;
    WR_ASSERT(b != NULL && entry->data >= b->data);
    return (struct slice){b, (uint32_t)(entry->data - b->data), entry->size};
}

static void send_messages(struct group *group, const struct raft_update *u)
{
    for (uint32_t i = 0; i < u->message_count; i++) {
        struct uid node;
        if (!group_node_of(group, u->messages[i].to, &node)) {
            continue; /* where it is, is not known yet; to the core it is down */
        }
        struct parcel *parcel =
            parcel_make(group->host, PARCEL_RAFT, 0, group->id, node, HOST_SHARD_BY_GROUP);
        raft_message_pack(parcel, &u->messages[i]);
        parcel_send(group->host, parcel);
    }
}

static void write_log(struct group *group, const struct raft_update *u)
{
    struct raft_term none = {0};
    if (u->flags & RAFT_UPDATE_LOG_RESET) {
        /* What is before log_begin is over for the core, but message bytes may still be read from
         * there. */
        group_log(group, LOG_TRUNCATE, none, u->log_begin, 0, 0, SLICE_NONE);
        struct raft_term term;
        if (u->log_begin > 1 && raft_log_term(group->raft, u->log_begin - 1, &term) == 0) {
            group_log(group, LOG_CHECKPOINT, term, u->log_begin - 1, 0, 0, SLICE_NONE);
        }
    } else if (u->flags & RAFT_UPDATE_TRUNCATE) {
        WR_ASSERT_OP(u->truncate_from, >, group->ahead);
        group_log(group, LOG_TRUNCATE, none, u->truncate_from, 0, 0, SLICE_NONE);
    }
    if (u->flags & RAFT_UPDATE_HARD_STATE) {
        group_log_hard_state(group, &u->hard_state, u->hard_state_generation);
    }
    for (uint32_t i = 0; i < u->entry_count; i++) {
        const struct raft_entry *e = &u->entries[i];
        struct slice payload = group_entry_slice(e);
        group_log(group, LOG_ENTRY, e->term, e->index, (uint8_t)e->kind, u->generation,
                  slice_ref(&payload));
    }
}

static void carry_out(struct group *group, struct raft_update *u)
{
    send_messages(group, u);
    write_log(group, u);
    if (u->flags & RAFT_UPDATE_APPLY) {
        WR_ASSERT_OP(u->apply_end, >=, group->apply_end);
        group->apply_end = u->apply_end;
    }
    for (uint32_t i = 0; i < u->read_count; i++) {
        if (group->home != NULL) {
            proof_on_read(group, &u->reads[i]);
        } else {
            catalog_on_read(group->host, &u->reads[i]);
        }
    }
    if (u->flags & RAFT_UPDATE_SNAPSHOT_ABORT) {
        snap_abort(group);
    }
    /* The last three may step the core again, so what they need is copied first. */
    struct raft_snapshot_want wants[RAFT_MEMBERS_MAX];
    struct raft_entries_want entries[RAFT_MEMBERS_MAX];
    uint32_t want_count = u->snapshot_want_count;
    uint32_t entries_count = u->entries_want_count;
    WR_ASSERT(want_count <= RAFT_MEMBERS_MAX && entries_count <= RAFT_MEMBERS_MAX);
    for (uint32_t i = 0; i < want_count; i++) {
        wants[i] = u->snapshot_wants[i];
    }
    for (uint32_t i = 0; i < entries_count; i++) {
        entries[i] = u->entries_wants[i];
    }
    if (u->flags & RAFT_UPDATE_SNAPSHOT_CHUNK) {
        if (group->serving && raft_role(group->raft) != RAFT_LEADER) {
            group_set_serving(group, false); /* it led until this very message */
        }
        snap_chunk(group, u->snapshot_chunk);
    }
    for (uint32_t i = 0; i < entries_count; i++) {
        group_entries_want(group, &entries[i]);
    }
    for (uint32_t i = 0; i < want_count; i++) {
        snap_want(group, &wants[i]);
    }
    group_mark(group);
}

static void on_tick(struct timer *timer)
{
    struct group *group = WR_CONTAINER_OF(timer, struct group, tick);
    group_step(group, &(struct raft_event){.type = RAFT_EVENT_TICK});
}

static void arm(struct group *group)
{
    uint64_t deadline = raft_deadline(group->raft);
    struct timers *timers = &group->host->timers;
    if (deadline == UINT64_MAX) {
        timer_cancel(timers, &group->tick);
    } else if (!timer_is_pending(&group->tick) || group->tick.deadline_ms != deadline) {
        timer_add(timers, &group->tick, deadline, on_tick);
    }
}

int group_step(struct group *group, struct raft_event *event)
{
    if (group->raft == NULL || group->ended || group->failed[0] != 0) {
        return RAFT_E_IGNORED;
    }
    struct raft_update update;
    event->now_ms = group->host->now_ms;
    int rc = raft_step(group->raft, event, &update);
    carry_out(group, &update);
    if (group->failed[0] == 0) {
        arm(group);
    }
    return rc;
}

/* --- messages -------------------------------------------------------------------------------- */

/* A leader that is sure of it tells a replica that it is no member. */
void group_tell_not_member(struct group *group, struct raft_id member, struct uid node)
{
    if (group->raft == NULL) {
        return;
    }
    struct raft_membership members = raft_membership(group->raft);
    if (!group->serving || raft_membership_index(group->raft) > raft_commit_index(group->raft)) {
        return;
    }
    for (uint32_t i = 0; i < members.count; i++) {
        if (raft_id_equal(members.members[i].id, member)) {
            return;
        }
    }
    struct parcel *parcel =
        parcel_make(group->host, PARCEL_NOT_MEMBER, 2, group->id, node, HOST_SHARD_BY_GROUP);
    const uint64_t numbers[] = {member.hi, member.lo};
    numbers_pack(parcel, numbers, 2, SLICE_NONE);
    parcel_send(group->host, parcel);
}

void group_on_message(struct group *group, struct parcel *parcel)
{
    struct raft_message message;
    struct raft_entry *entries = NULL;
    struct raft_member members[RAFT_MEMBERS_MAX];
    int error = raft_message_unpack(parcel, &message, &entries, members);
    if (error != 0) {
        wr_log(group->host->logger, LOG_LEVEL_WARNING, "raft",
               "group %llu: a message is refused: %s", (unsigned long long)group->id,
               wr_err_text(error));
    } else if (group->raft != NULL && raft_id_equal(message.to, group->self) &&
               !raft_id_is_zero(message.from)) {
        group_set_peer(group, message.from, parcel->from_node);
        error = group_step(group,
                           &(struct raft_event){.type = RAFT_EVENT_RECEIVE, .u.message = &message});
        if (error == RAFT_E_BAD_MESSAGE) {
            wr_log(group->host->logger, LOG_LEVEL_WARNING, "raft", "group %llu: %s",
                   (unsigned long long)group->id, raft_strerror(error));
        }
        if (message.type == RAFT_MSG_PREVOTE || message.type == RAFT_MSG_VOTE) {
            group_tell_not_member(group, message.from, parcel->from_node);
        }
    }
    wr_free(entries);
}

/* --- leadership ------------------------------------------------------------------------------ */

static void announce(struct group *group)
{
    struct host *host = group->host;
    struct uid told[CATALOG_NODES_MAX + 1];
    uint32_t count = 0;
    told[count++] = host->options.node_id;
    for (size_t i = 0; i < group->peers.count && count < CATALOG_NODES_MAX; i++) {
        told[count++] = group->peers.items[i].node;
    }
    uint64_t boots[CATALOG_NODES_MAX];
    uint32_t boot_count = queue_boots(group->home->queue, boots, CATALOG_NODES_MAX);
    for (uint32_t i = 0; i < boot_count && i < CATALOG_NODES_MAX && count <= CATALOG_NODES_MAX;
         i++) {
        const struct catalog_node *node =
            host->view != NULL ? catalog_node_by_boot(host->view, (uint32_t)boots[i]) : NULL;
        if (node != NULL) {
            told[count++] = node->info.id;
        } else {
            home_note_untold(group->home, boots[i]);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        bool again = false;
        for (uint32_t k = 0; k < i; k++) {
            again = again || uid_eq(told[i], told[k]);
        }
        if (!again) {
            home_announce_to(group->home, told[i]);
        }
    }
}

void group_readmit(struct group *group)
{
    /* One by one through the inbox: served, or refused with a hint. */
    for (size_t i = 0; i < group->waiting.count; i++) {
        vec_push(&group->host->inbox, group->waiting.items[i]);
    }
    if (group->waiting.count > 0) {
        host_mark_now(group->host);
    }
    vec_clear(&group->waiting);
}

void group_set_serving(struct group *group, bool serving)
{
    group->serving = serving;
    if (group->home != NULL) {
        if (serving) {
            relay_drop(group->home);
            group->home->serving = true;
            home_upkeep_begin(group->home);
            home_check_boots(group->home);
            if (queue_auto_delete_due(group->home->queue) &&
                group->host->sink.on_queue_unused != NULL) {
                group->home->unused_told = true;
                group->host->sink.on_queue_unused(group->host->sink.ctx, group->id);
            }
            announce(group);
        } else if (!wr_planted(WR_PLANT_follower_serves)) {
            home_stop_serving(group->home);
        }
    }
    if (!serving) {
        group_drop_proposals(group);
        snap_out_free(group);
        proof_drop(group);
    }
    group->ops->serving(group, serving);
    group_readmit(group);
}

static void check_role(struct group *group)
{
    enum raft_role role = raft_role(group->raft);
    struct raft_term term = raft_term(group->raft);
    bool leads = role == RAFT_LEADER;
    if (group->serving && (!leads || term.v != group->term.v)) {
        group_set_serving(group, false);
    }
    if (!leads || term.v != group->term.v) {
        group->ready_seen = false;
    }
    struct raft_id leader = raft_leader(group->raft);
    if (!raft_id_equal(leader, group->leader) || role != group->role) {
        group->leader = leader;
        if (!leads) {
            group_readmit(group);
        }
        compare_leader_changed(group);
    }
    group->role = role;
    group->term = term;
    if (leads && !group->ready_seen && raft_is_ready(group->raft)) {
        group->ready_seen = true;
        group->serve_at = raft_commit_index(group->raft);
        if (group->serving) {
            group_reconcile(group); /* it was not ready to */
        }
    }
    /* One that began alone has nothing to apply first: it serves before its creation is durable.
     * What is asked of it goes behind that in the log, and is answered when it is applied. */
    const bool begins = leads && !group->durable;
    if ((begins || (group->ready_seen && group->applied >= group->serve_at)) && !group->serving &&
        group->quarantined[0] == 0) {
        group_set_serving(group, true);
        group_reconcile(group);
    }
}

bool group_has_quorum_of_nodes(const struct group *group, uint32_t *ret_voters, uint32_t *ret_up)
{
    *ret_voters = *ret_up = 0;
    struct raft_membership members = raft_membership(group->raft);
    for (uint32_t i = 0; i < members.count; i++) {
        if (members.members[i].role != RAFT_VOTER) {
            continue;
        }
        ++*ret_voters;
        struct uid node;
        if (group_node_of(group, members.members[i].id, &node) &&
            (host_is_self(group->host, node) || host_reach(group->host, node) == NODE_UP)) {
            ++*ret_up;
        }
    }
    return *ret_up > *ret_voters / 2;
}

/* The group's part of a turn. */
void group_work(struct group *group)
{
    if (group->raft == NULL || group->ended || group->failed[0] != 0) {
        return;
    }
    check_role(group);
    group_apply(group);
    if (group->failed[0] != 0) {
        return;
    }
    check_role(group);
    group_propose(group);
    ahead_apply(group);
    reports_ready(group);
    group_trim(group);
}
