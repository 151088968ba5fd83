/*
 * What: the catalog's group (shard 0): its machine, proposals from this and other nodes, read
 * barriers, membership. Happy path: propose -> leader here: an entry / elsewhere: a parcel to the
 * leader -> committed and applied there -> outcome back -> applied here -> done. Failure modes: no
 * leader, lost parcels, leader change: asked again (numbered: however often it gets into the log,
 * it counts once) until the time limit, then WR_E_UNAVAILABLE. Not again in the log of one leader.
 * Invariants I1  done runs once per request, from a turn, after this node has applied the command.
 * I2  An outcome is told only for the very entry (term and index) that was proposed for it.
 * Ownership: the host owns requests; done's result is borrowed. Threads: shard 0.
 */
#include "group.h"
#include "host_internal.h"
#include "parcel.h"

#define SHARD_0_GRACE_MS 3000u /* more than SPREAD_MS */
#define LEADING_MS       5000u
#define SPREAD_MS        1500u /* longer than a node that died counts as one in reach */

enum request_kind { REQUEST_PROPOSE = 1, REQUEST_BARRIER };

struct catalog_request {
    struct host *host;
    uint64_t id;
    struct list link; /* PROPOSE: in the host's catalog_proposals, the oldest first */
    enum request_kind kind;
    struct buf *command; /* encoded entry */
    uint64_t until_ms;
    uint32_t backoff_ms;
    uint32_t candidate;
    struct timer timer;
    bool answered;            /* outcome known: waits until applied reaches it */
    bool asked;               /* another shard than 0: that one is working on it */
    bool leading;             /* PROPOSE: only as long as this node leads */
    bool spreads;             /* PROPOSE: its outcome is told when it is known everywhere, */
    uint64_t spread_until_ms; /* or then; 0: not applied here yet */
    uint64_t wait_index;
    int status;
    struct catalog_result result;
    catalog_done_fn done;
    void *ctx;
};

static struct group *catalog_group(struct host *host)
{
    return group_find(host, HOST_CATALOG_GROUP);
}

static void finish(struct catalog_request *request, int status)
{
    if (status == CATALOG_LATE) { /* this boot was ended by others before it came to be applied */
        status = WR_E_UNAVAILABLE;
    }
    struct host *host = request->host;
    umap_remove(&host->catalog_requests, request->id);
    list_remove(&request->link);
    timer_cancel(&host->timers, &request->timer);
    buf_unref(request->command);
    request->done(request->ctx, status, status < 0 ? NULL : &request->result);
    wr_free(request);
}

static void attempt(struct catalog_request *request);

static void on_timer(struct timer *timer)
{
    struct catalog_request *request = WR_CONTAINER_OF(timer, struct catalog_request, timer);
    const struct group *group = catalog_group(request->host);
    if (request->spread_until_ms != 0) {
        request->host->catalog_answers = true; /* the turn sees to it */
        host_mark_now(request->host);
        return;
    }
    bool leads = group != NULL && group->raft != NULL && raft_role(group->raft) == RAFT_LEADER;
    if (request->host->now_ms >= request->until_ms ||
        (request->leading && !request->answered && !leads)) {
        finish(request, WR_E_UNAVAILABLE);
        return;
    }
    if (!request->answered) {
        attempt(request);
    }
    uint64_t next = request->host->now_ms + request->backoff_ms;
    request->backoff_ms =
        request->backoff_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : request->backoff_ms * 2;
    timer_add(&request->host->timers, timer, next < request->until_ms ? next : request->until_ms,
              on_timer);
}

static struct catalog_request *request_new(struct host *host, enum request_kind kind,
                                           uint32_t timeout_ms, catalog_done_fn done, void *ctx)
{
    struct catalog_request *request = wr_calloc(1, sizeof *request);
    request->host = host;
    list_init(&request->link);
    request->id = ++host->request_counter;
    request->kind = kind;
    request->until_ms = host->now_ms + timeout_ms;
    request->backoff_ms = RETRY_FIRST_MS;
    request->done = done;
    request->ctx = ctx;
    timer_init(&request->timer);
    umap_put(&host->catalog_requests, request->id, request);
    timer_add(&host->timers, &request->timer, host->now_ms,
              on_timer); /* the first attempt: in the turn */
    host_mark_now(host);
    return request;
}

/* What founds a cluster or takes a boot number is proposed by who has none that runs. */
static bool counts_once(const struct catalog_command *command)
{
    return command->kind != CATALOG_CLUSTER_INIT && command->kind != CATALOG_NODE_BOOT;
}

static struct catalog_request *propose_new(struct host *host, const struct catalog_command *command,
                                           uint32_t timeout_ms, catalog_done_fn done, void *ctx)
{
    struct catalog_request *request = request_new(host, REQUEST_PROPOSE, timeout_ms, done, ctx);
    struct catalog_command numbered = *command; /* shallow: encoded at once */
    list_push_back(&host->catalog_proposals, &request->link);
    if (host->boot != 0 && counts_once(command)) {
        const struct catalog_request *oldest =
            WR_CONTAINER_OF(list_first(&host->catalog_proposals), struct catalog_request, link);
        numbered.by = (struct catalog_proposer){.boot = (uint32_t)host->boot,
                                                .shard = host->options.shard,
                                                .number = request->id,
                                                .settled = oldest->id};
        request->spreads = true;
    }
    request->command = buf_new(256);
    request->command->size = ENTRY_HEADER;
    request->command->data[0] = ENTRY_VERSION;
    bytes_store_le64(request->command->data + 1, host->env->ops->wall_ms(host->env));
    catalog_command_encode(&request->command, &numbered);
    return request;
}

void host_catalog_propose(struct host *host, const struct catalog_command *command,
                          uint32_t timeout_ms, catalog_done_fn done, void *ctx)
{
    (void)propose_new(host, command, timeout_ms, done, ctx);
}

void host_catalog_propose_leading(struct host *host, const struct catalog_command *command,
                                  catalog_done_fn done, void *ctx)
{
    WR_ASSERT(host->options.shard == 0);
    struct catalog_request *request = propose_new(host, command, LEADING_MS, done, ctx);
    request->leading = true;
    request->spreads = false;
}

void host_catalog_barrier(struct host *host, uint32_t timeout_ms, catalog_done_fn done, void *ctx)
{
    (void)request_new(host, REQUEST_BARRIER, timeout_ms, done, ctx);
}

/* --- sending --------------------------------------------------------------------------------- */

/* The very command is in this leader's log and its outcome will be told: a second copy could only
 * be applied after what others do meanwhile, and undo it. (Numbers of requests begin anew with each
 * start of a node, commands have their time.) */
static bool is_pending(const struct group *group, const struct buf *command,
                       const struct catalog_wait *wait)
{
    const struct host *host = group->host;
    for (size_t i = 0; i < host->catalog_waits.count; i++) {
        const struct catalog_wait *w = &host->catalog_waits.items[i];
        if (w->request != wait->request || w->shard != wait->shard ||
            !uid_eq(w->node, wait->node) || w->term != raft_term(group->raft).v) {
            continue;
        }
        const struct raft_entry *entry = raft_log_entry(group->raft, w->index);
        if (entry != NULL && entry->size == command->size &&
            memcmp(entry->data, command->data, command->size) == 0) {
            return true;
        }
    }
    return false;
}

static int propose_here(struct group *group, struct buf *command, struct catalog_wait *wait)
{
    if (is_pending(group, command, wait)) {
        return 0;
    }
    struct raft_entry entry = {
        .kind = RAFT_ENTRY_COMMAND, .size = command->size, .data = command->data, .owner = command};
    struct raft_event event = {.type = RAFT_EVENT_PROPOSE};
    event.u.propose.term = raft_term(group->raft);
    event.u.propose.count = 1;
    event.u.propose.entries = &entry;
    int rc = group_step(group, &event);
    if (rc == 0) {
        wait->index = raft_last_index(group->raft);
        wait->term = raft_term(group->raft).v;
        vec_push(&group->host->catalog_waits, *wait);
    }
    return rc;
}

static bool leader_node(struct catalog_request *request, struct group *group, struct uid *ret_node)
{
    if (group_node_of(group, raft_leader(group->raft), ret_node) &&
        !host_is_self(group->host, *ret_node)) {
        return true;
    }
    for (size_t i = 0; i < group->peers.count; i++) {
        struct uid node = group->peers.items[request->candidate++ % group->peers.count].node;
        if (!host_is_self(group->host, node) && host_reach(group->host, node) == NODE_UP) {
            *ret_node = node;
            return true;
        }
    }
    return false;
}

/* --- from other shards of this node to shard 0, and back: within the process nothing is lost -- */

struct catalog_ask {
    enum request_kind kind;
    uint64_t id;
    uint32_t timeout_ms;
    bool spreads;
    struct buf *command; /* a reference of its own; NULL for a barrier */
};

struct catalog_asker { /* on shard 0: who is told */
    struct host *host;
    uint64_t id;
    uint32_t shard;
};

struct catalog_told {
    uint64_t id;
    int status;
    struct catalog_result result;
};

static void ask_free(void *local)
{
    struct catalog_ask *ask = local;
    buf_unref(ask->command);
    wr_free(ask);
}

static void ask_shard_0(struct catalog_request *request)
{
    struct host *host = request->host;
    struct catalog_ask *ask = wr_calloc(1, sizeof *ask);
    struct parcel *parcel =
        parcel_make(host, PARCEL_CATALOG_ASK, 1, HOST_CATALOG_GROUP, host->options.node_id, 0);
    ask->kind = request->kind;
    ask->id = request->id;
    ask->spreads = request->spreads;
    ask->timeout_ms = (uint32_t)(request->until_ms - host->now_ms);
    ask->command = request->command == NULL ? NULL : buf_ref(request->command);
    parcel->local = ask;
    parcel->local_free = ask_free;
    request->asked = true;
    request->until_ms += SHARD_0_GRACE_MS; /* its own time limit comes first */
    parcel_send(host, parcel);
}

static void on_shard_0_done(void *ctx, int status, const struct catalog_result *result)
{
    struct catalog_asker *asker = ctx;
    struct catalog_told *told = wr_calloc(1, sizeof *told);
    struct parcel *parcel = parcel_make(asker->host, PARCEL_CATALOG_TOLD, 1, HOST_CATALOG_GROUP,
                                        asker->host->options.node_id, asker->shard);
    told->id = asker->id;
    told->status = status;
    if (result != NULL) {
        told->result = *result;
    }
    parcel->local = told;
    parcel->local_free = wr_free;
    parcel_send(asker->host, parcel);
    wr_free(asker);
}

void catalog_on_ask(struct host *host, struct parcel *parcel)
{
    struct catalog_ask *ask = parcel->local;
    if (ask == NULL) {
        return; /* only ever sent within a node */
    }
    struct catalog_asker *asker = wr_calloc(1, sizeof *asker);
    asker->host = host;
    asker->id = ask->id;
    asker->shard = parcel->from_shard;
    struct catalog_request *request =
        request_new(host, ask->kind, ask->timeout_ms, on_shard_0_done, asker);
    request->spreads = ask->spreads;
    request->command = ask->command == NULL ? NULL : buf_ref(ask->command);
}

void catalog_on_told(struct host *host, struct parcel *parcel)
{
    struct catalog_told *told = parcel->local;
    struct catalog_request *request =
        told == NULL ? NULL : umap_get(&host->catalog_requests, told->id);
    if (request != NULL) {
        request->result = told->result;
        finish(request, told->status);
    }
}

static void attempt(struct catalog_request *request)
{
    struct host *host = request->host;
    struct group *group = catalog_group(host);
    struct uid node;
    if (host->options.shard != 0) {
        if (!request->asked) {
            ask_shard_0(request);
        }
        return;
    }
    if (group == NULL || group->raft == NULL) {
        return;
    }
    if (request->kind == REQUEST_BARRIER) { /* again too: the question may have been lost */
        (void)group_step(
            group, &(struct raft_event){.type = RAFT_EVENT_READ_INDEX, .u.context = request->id});
        return;
    }
    if (raft_role(group->raft) == RAFT_LEADER) {
        struct catalog_wait wait = {
            .node = host->options.node_id, .shard = host->options.shard, .request = request->id};
        (void)propose_here(group, request->command, &wait);
    } else if (leader_node(request, group, &node)) {
        struct parcel *parcel =
            parcel_make(host, PARCEL_PROPOSE, 1, HOST_CATALOG_GROUP, node, HOST_SHARD_BY_GROUP);
        struct slice raw = {buf_ref(request->command), 0, request->command->size};
        numbers_pack(parcel, &request->id, 1, raw);
        parcel_send(host, parcel);
    }
}

/* A core's answer to READ_INDEX. Only the state is changed here; done runs from the turn. */
void catalog_on_read(struct host *host, const struct raft_read *read)
{
    struct catalog_request *request = umap_get(&host->catalog_requests, read->context);
    if (request == NULL || request->kind != REQUEST_BARRIER || request->answered) {
        return;
    }
    if (read->status == 0) {
        request->answered = true;
        request->wait_index = read->index;
    } else {
        timer_add(&host->timers, &request->timer, host->now_ms + 20, on_timer);
    }
    host->catalog_answers = true;
    host_mark_now(host);
}

/* --- the leader's side ----------------------------------------------------------------------- */

static void answer(struct host *host, const struct catalog_wait *wait, int status,
                   const struct catalog_result *result)
{
    if (host_is_self(host, wait->node)) {
        struct catalog_request *request = umap_get(&host->catalog_requests, wait->request);
        if (request == NULL || request->kind != REQUEST_PROPOSE || request->answered) {
            return;
        }
        if (status == 0) {
            request->answered = true;
            request->wait_index = result->index;
            request->result = *result;
            host->catalog_answers = true;
        } else {
            timer_add(&host->timers, &request->timer, host->now_ms + 20, on_timer);
        }
        return;
    }
    struct parcel *parcel =
        parcel_make(host, PARCEL_PROPOSED, 1, HOST_CATALOG_GROUP, wait->node, wait->shard);
    const uint64_t numbers[] = {
        wait->request, (uint64_t)-status, result != NULL ? (uint64_t)result->status : 0,
        result != NULL ? result->id : 0, result != NULL ? result->index : 0};
    numbers_pack(parcel, numbers, 5, SLICE_NONE);
    parcel_send(host, parcel);
}

/* PARCEL_PROPOSE: another node's command. Checked before it gets into the log. */
void catalog_on_propose(struct group *group, struct parcel *parcel)
{
    struct host *host = group->host;
    uint64_t id;
    struct slice raw;
    int error = numbers_unpack(parcel, &id, 1, &raw);
    if (error != 0 || raw.size <= ENTRY_HEADER) {
        parcel_refused(host, parcel, "a proposal", error != 0 ? error : WR_E_CORRUPT);
        return;
    }
    struct catalog_wait wait = {
        .node = parcel->from_node, .shard = parcel->from_shard, .request = id};
    int rc = RAFT_E_NOT_LEADER;
    struct catalog_command *command = wr_alloc(sizeof *command);
    struct bytes encoded = bytes_make(slice_data(&raw) + ENTRY_HEADER, raw.size - ENTRY_HEADER);
    bool good =
        slice_data(&raw)[0] == ENTRY_VERSION && catalog_command_decode(encoded, command) == 0;
    wr_free(command);
    if (good && group->raft != NULL && raft_role(group->raft) == RAFT_LEADER) {
        struct buf *copy = buf_from(slice_data(&raw), raw.size);
        rc = propose_here(group, copy, &wait);
        buf_unref(copy);
    }
    if (rc != 0) {
        answer(host, &wait, WR_E_NOTLEADER, NULL);
    }
}

void catalog_on_proposed(struct host *host, struct parcel *parcel)
{
    uint64_t n[5];
    struct slice raw;
    int error = numbers_unpack(parcel, n, 5, &raw);
    if (error != 0) {
        parcel_refused(host, parcel, "an answer to a proposal", error);
        return;
    }
    struct catalog_request *request = umap_get(&host->catalog_requests, n[0]);
    if (request == NULL || request->kind != REQUEST_PROPOSE || request->answered) {
        return;
    }
    if (n[1] != 0) {
        timer_add(&host->timers, &request->timer, host->now_ms + 50,
                  on_timer); /* not the leader: soon again */
        return;
    }
    request->answered = true;
    request->result = (struct catalog_result){.status = (int)n[2], .id = n[3], .index = n[4]};
    request->wait_index = n[4];
    host->catalog_answers = true;
}

/* --- the machine ----------------------------------------------------------------------------- */

static int catalog_machine_apply(struct group *group, uint64_t index, struct raft_term term,
                                 const struct slice *payload)
{
    struct host *host = group->host;
    const uint8_t *data = slice_data(payload);
    struct catalog_result result = {.status = CATALOG_INVALID, .index = index};
    if (payload->size >= ENTRY_HEADER) {
        if (data[0] != ENTRY_VERSION) {
            return WR_E_VERSION;
        }
        int rc = catalog_apply_bytes(host->catalog, index,
                                     bytes_make(data + ENTRY_HEADER, payload->size - ENTRY_HEADER),
                                     &result);
        if (rc != 0) {
            return rc;
        }
        result.index = index;
    }
    size_t at = 0;
    while (at < host->catalog_waits.count) {
        const struct catalog_wait wait = host->catalog_waits.items[at];
        if (wait.index > index) {
            at++;
            continue;
        }
        vec_remove(&host->catalog_waits, at);
        bool same = wait.index == index && wait.term == term.v;
        answer(host, &wait, same ? 0 : WR_E_NOTLEADER, same ? &result : NULL);
    }
    return 0;
}

static void catalog_machine_snapshot(struct group *group, struct buf **out)
{
    catalog_snapshot(group->host->catalog, out);
}

static int catalog_machine_restore(struct group *group, uint64_t index, struct bytes machine)
{
    group->host->catalog_changed = true;
    return catalog_restore(group->host->catalog, index, machine);
}

static void catalog_machine_serving(struct group *group, bool serving)
{
    struct host *host = group->host;
    if (!serving) {
        for (size_t i = 0; i < host->catalog_waits.count; i++) {
            answer(host, &host->catalog_waits.items[i], WR_E_NOTLEADER, NULL);
        }
        vec_clear(&host->catalog_waits);
    }
    if (host->sink.on_catalog_leader != NULL) {
        host->sink.on_catalog_leader(host->sink.ctx, serving);
    }
}

static void catalog_machine_applied(struct group *group)
{
    group->host->catalog_changed = true;
    group->host->catalog_answers = true;
}

static uint64_t catalog_machine_hash(const struct group *group)
{
    return compare_catalog_hash(group->host->catalog);
}

const struct machine_ops catalog_machine_ops = {
    .version = CATALOG_MACHINE_VERSION,
    .hash = catalog_machine_hash,
    .apply = catalog_machine_apply,
    .snapshot = catalog_machine_snapshot,
    .restore = catalog_machine_restore,
    .serving = catalog_machine_serving,
    .applied = catalog_machine_applied,
};

static void learn_peers(struct group *group)
{
    const struct catalog_node *nodes[CATALOG_NODES_MAX];
    uint32_t count = catalog_nodes(catalog_view_peek(group->host->catalog), nodes);
    for (uint32_t i = 0; i < count; i++) {
        if (!uid_is_zero(nodes[i]->info.member)) {
            group_set_peer(group, raft_of_uid(nodes[i]->info.member), nodes[i]->info.id);
        }
    }
}

/* Or has waited for that long enough. */
static bool is_spread(struct catalog_request *request)
{
    struct host *host = request->host;
    if (spread_reached(host, request->wait_index)) {
        return true;
    }
    if (request->spread_until_ms == 0) {
        request->spread_until_ms = host->now_ms + SPREAD_MS;
        request->until_ms = request->spread_until_ms + SHARD_0_GRACE_MS;
        timer_add(&host->timers, &request->timer, request->spread_until_ms, on_timer);
    }
    spread_wants(host, request->wait_index);
    return host->now_ms >= request->spread_until_ms;
}

/* The catalog's part at the end of a turn: the newest view goes up, then outcomes. */
void catalog_turn(struct host *host)
{
    struct group *group = catalog_group(host);
    if (group == NULL) {
        return;
    }
    if (host->catalog_changed) {
        host->catalog_changed = false;
        learn_peers(group);
        if (host->sink.on_catalog_view != NULL) {
            host->sink.on_catalog_view(host->sink.ctx, catalog_view_take(host->catalog),
                                       group->applied);
        }
        spread_posted(host, group->applied);
    }
    if (!host->catalog_answers) {
        return;
    }
    host->catalog_answers = false;
    struct umap_iter it = umap_iterate(&host->catalog_requests);
    while (umap_next(&it)) {
        struct catalog_request *request = it.value;
        if (request->answered && request->wait_index <= group->applied &&
            (!request->spreads || is_spread(request))) {
            finish(request, request->kind == REQUEST_BARRIER ? 0 : request->result.status);
        }
    }
}

void catalog_requests_free(struct host *host)
{
    struct umap_iter it = umap_iterate(&host->catalog_requests);
    while (umap_next(&it)) {
        struct catalog_request *request = it.value;
        timer_cancel(&host->timers, &request->timer);
        buf_unref(request->command);
        if (request->done == on_shard_0_done) {
            wr_free(request->ctx);
        }
        wr_free(request);
    }
    vec_deinit(&host->catalog_waits);
}

/* --- creation and membership ----------------------------------------------------------------- */

static void create(struct host *host, struct raft_id member, bool sole)
{
    WR_ASSERT(host->options.shard == 0);
    WR_ASSERT(catalog_group(host) == NULL);
    struct group *group = group_new(host, HOST_CATALOG_GROUP, &catalog_machine_ops, member);
    const struct raft_member self = {member, RAFT_VOTER};
    const struct raft_membership membership = {sole ? 1 : 0, &self};
    group->bootstrap_size = (uint32_t)raft_membership_encode(&membership, group->bootstrap);
    group_set_peer(group, member, host->options.node_id);
    group_create_record(group);
    host_mark_now(host);
}

void host_catalog_bootstrap(struct host *host, struct uid cluster_id, struct raft_id member)
{
    (void)cluster_id; /* travels in CLUSTER_INIT, the first command */
    create(host, member, true);
}

void host_catalog_join(struct host *host, struct uid cluster_id, struct raft_id member)
{
    (void)cluster_id;
    create(host, member, false);
}

bool host_catalog_exists(const struct host *host, struct uid *ret_member)
{
    const struct group *group = umap_get(&host->groups, HOST_CATALOG_GROUP);
    if (group != NULL) {
        *ret_member = uid_of_raft(group->self);
    }
    return group != NULL;
}

void host_catalog_set_members(struct host *host, const struct raft_id *members,
                              const struct uid *nodes, uint32_t count)
{
    struct group *group = catalog_group(host);
    vec_clear(&host->wanted_members);
    host->wanted_set = true;
    for (uint32_t i = 0; i < count; i++) {
        vec_push(&host->wanted_members, (struct peer_node){members[i], nodes[i]});
        if (group != NULL) {
            group_set_peer(group, members[i], nodes[i]);
        }
    }
    if (group != NULL) {
        group_reconcile(group);
        host_mark_now(host);
    }
}
