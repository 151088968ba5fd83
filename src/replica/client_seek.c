/*
 * What: how a client finds whoever leads its queue, and begins anew there.
 * Happy path: a new client tries the likely leader; one that lost it asks the members of the group
 * in turn, with RESUME, until one answers (client_answer.c).
 * Failure modes: nothing answers, the leader changed or its link broke, a replica says that it does
 * not lead: a new session is begun elsewhere. A retry timer (200 ms doubling to 1 s; sooner at
 * first where a replica said that nobody leads) runs while anything is pending: no op waits for an
 * answer that was lost. Invariants: a session has one target; whatever comes of an earlier one is
 * of the past. Threads: the host's shard. Spec: docs/replica.md, "Clients".
 */
#include "client_internal.h"
#include "group.h"
#include "host_internal.h"
#include "parcel.h"

#define SOON_MS    1u /* doubling */
#define SOON_TRIES 8u

bool client_leader_of(const struct host *host, uint64_t queue, struct uid *ret_node)
{
    const struct client_link *of = umap_get(&host->queues, queue);
    if (of == NULL) {
        return false;
    }
    LIST_FOREACH(link, &of->clients) {
        const struct queue_client *client =
            WR_CONTAINER_OF_CONST(link, struct queue_client, of_queue);
        if (client->state == CLIENT_CONNECTED && !client->gone) {
            *ret_node = client->node;
            return true;
        }
    }
    return false;
}

static void on_retry(struct timer *timer);

void client_arm(struct queue_client *client)
{
    bool pending = client->applied + 1 < client->next_seq || client->state == CLIENT_RESUMING;
    if (client->own_node && client->local) {
        return;
    }
    if (!pending || client->gone) {
        timer_cancel(&client->host->timers, &client->retry);
    } else if (!timer_is_pending(&client->retry)) {
        timer_add(&client->host->timers, &client->retry, client->host->now_ms + client->backoff_ms,
                  on_retry);
    }
}

static void send_resume(struct queue_client *client)
{
    struct host *host = client->host;
    struct resume_body *body = wr_calloc(1, sizeof *body);
    body->client = client->id;
    body->session = client->session;
    body->inlined = client->inlined;
    body->applied = client->applied;
    for (size_t i = 0; i < client->consumers.count; i++) {
        vec_push(&body->consumers, client->consumers.items[i]);
    }
    vec_push(&body->consumers, (struct consumer_expect){0, client->get_next});
    struct parcel *parcel =
        parcel_make(host, PARCEL_RESUME, 1, client->queue, client->node, client->shard);
    if (host_is_self(host, client->node)) {
        parcel->local = body;
        parcel->local_free = resume_body_free;
    } else {
        resume_pack(parcel, body);
        resume_body_free(body);
    }
    parcel_send(host, parcel);
    client_arm(client);
}

void client_resume(struct queue_client *client, struct uid node, uint32_t shard)
{
    client->node = node;
    client->shard = shard;
    client->session++;
    client->number = 0;
    client->pace = 0;
    client->state = CLIENT_RESUMING;
    client->resuming_ms = client->host->now_ms;
    send_resume(client);
}

static bool reachable(const struct host *host, struct uid node)
{
    return !uid_is_zero(node) && (host_is_self(host, node) || host_reach(host, node) == NODE_UP);
}

/* The replica of this shard may know who leads. */
static bool own_hint(const struct queue_client *client, struct uid *ret_node)
{
    struct group *group = group_find(client->host, client->queue);
    return group != NULL && group->raft != NULL &&
           group_node_of(group, raft_leader(group->raft), ret_node) &&
           reachable(client->host, *ret_node);
}

static bool next_candidate(struct queue_client *client, struct uid *ret_node)
{
    struct host *host = client->host;
    const struct catalog_queue *record =
        host->view != NULL ? catalog_queue_by_id(host->view, client->queue) : NULL;
    if (record == NULL || record->spec.run != CATALOG_RUN_GROUP) {
        return false;
    }
    uint32_t count = record->spec.group.member_count;
    for (uint32_t tries = 0; tries < count + 2; tries++) {
        uint32_t at = client->candidate++ % (count + 2);
        struct uid node = UID_NONE;
        if (at == 0) {
            if (!own_hint(client, &node)) {
                continue;
            }
        } else {
            node = at == 1 ? record->spec.group.preferred : record->spec.group.members[at - 2].node;
        }
        if (reachable(host, node)) {
            *ret_node = node;
            return true;
        }
    }
    return false;
}

/* Somewhere to go: for a new client just a target, otherwise with RESUME. */
void client_seek(struct queue_client *client)
{
    struct uid node = client->node;
    uint32_t shard = client->shard;
    if (!client->local) {
        shard = HOST_SHARD_BY_GROUP;
        if (!next_candidate(client, &node)) {
            client->node = UID_NONE;
            client_arm(client);
            return;
        }
    } else if (!reachable(client->host, node)) {
        client_arm(client);
        return;
    }
    if (client->state == CLIENT_NEW) {
        client->node = node;
        client->shard = shard;
        client_mark(client);
    } else {
        client_resume(client, node, shard);
    }
}

static void on_retry(struct timer *timer)
{
    struct queue_client *client = WR_CONTAINER_OF(timer, struct queue_client, retry);
    if (client->gone) {
        return;
    }
    /* Items that come one after the other show that none got lost: the answer is behind them. To
     * begin anew would throw away all that is on its way, and what needs no acknowledgement does
     * not come again. */
    if (client->state == CLIENT_CONNECTED &&
        (client->progress != client->applied || client->heard != client->number)) {
        client->progress = client->applied;
        client->heard = client->number;
        client->backoff_ms = client->patience_ms;
        client_arm(client);
        return;
    }
    /* A session that hears nothing may be one whose first parcel takes longer than that to cross a
     * slow link: a next one of the same length would be given up at the same place, for ever. So
     * each is given more time than the one before, also when the last one did hear something. */
    if (client->state == CLIENT_CONNECTED && client->backoff_ms >= client->patience_ms) {
        client->patience_ms =
            client->patience_ms * 2 > PATIENCE_MAX_MS ? PATIENCE_MAX_MS : client->patience_ms * 2;
    }
    client->progress = client->applied;
    client->heard = client->number;
    /* What is on its way to or from a node in reach is not lost, only slow. To begin anew makes the
     * leader deliver everything again, and a link that is slow already would never get to the
     * answer: so the same is asked again for long, which costs nothing where it is being answered.
     */
    const bool slow = client->state == CLIENT_RESUMING && reachable(client->host, client->node);
    const bool same = slow && client->host->now_ms - client->resuming_ms < PATIENCE_MAX_MS;
    const uint32_t most =
        slow || client->state == CLIENT_CONNECTED ? RESUME_RETRY_MAX_MS : RETRY_MAX_MS;
    client->backoff_ms = client->backoff_ms * 2 > most ? most : client->backoff_ms * 2;
    if (same) {
        send_resume(client);
    } else if (client->state == CLIENT_CONNECTED && reachable(client->host, client->node)) {
        client_resume(client, client->node,
                      client->shard); /* the same leader: did anything get lost? */
    } else {
        client_seek(client);
    }
    client_arm(client);
}

/* A queue that was just declared begins within milliseconds, and does not know yet whom to tell. */
static void on_soon(struct timer *timer)
{
    struct queue_client *client = WR_CONTAINER_OF(timer, struct queue_client, retry);
    if (!client->gone) {
        client_seek(client);
        client_arm(client);
    }
}

/* --- what is heard of leaders and nodes ------------------------------------------------------- */

static void lost_contact(struct queue_client *client)
{
    if (client->gone || (client->local && client->own_node)) {
        return;
    }
    client->patience_ms = CONNECTED_RETRY_MS;
    if (client->state != CLIENT_NEW) {
        client->state = CLIENT_RESUMING;
        client->session++; /* whatever still comes is of the past */
    }
    if (!client->local) {
        client->node = UID_NONE;
    }
}

void client_on_not_here(struct host *host, uint64_t queue, uint64_t id, uint32_t session,
                        struct uid hint)
{
    struct queue_client *client = umap_get(&host->clients, id);
    if (client == NULL || client->gone || client->queue != queue || client->session != session ||
        (client->local && client->own_node)) {
        return;
    }
    struct uid asked = client->node;
    client->state = client->state == CLIENT_NEW ? CLIENT_NEW : CLIENT_RESUMING;
    if (client->local) {
        if (uid_eq(hint, client->node)) {
            client_resume(client, client->node,
                          client->shard); /* it is there but does not know us */
        } else {
            client_arm(client);
        }
        return;
    }
    bool knows_itself = uid_eq(hint, asked);
    if (reachable(host, hint) && (knows_itself || client->candidate < 8)) {
        client->candidate++;
        client_resume(client, hint, HOST_SHARD_BY_GROUP);
        return;
    }
    /* Nobody leads there: the announcement of a leader, or a timer, goes on. */
    client->candidate = client->candidate < 8 ? client->candidate : 0;
    client->session++;
    client->node = UID_NONE;
    if (client->soon < SOON_TRIES) {
        timer_cancel(&host->timers, &client->retry);
        timer_add(&host->timers, &client->retry, host->now_ms + (SOON_MS << client->soon), on_soon);
        client->soon++;
    }
    client_arm(client);
}

void client_on_leader(struct host *host, uint64_t queue, struct uid node, uint32_t shard)
{
    struct client_link *link = umap_get(&host->queues, queue);
    if (link == NULL) {
        return;
    }
    LIST_FOREACH(at, &link->clients) {
        struct queue_client *client = WR_CONTAINER_OF(at, struct queue_client, of_queue);
        if (client->gone || (client->local && client->own_node)) {
            continue;
        }
        if (client->state == CLIENT_NEW) {
            client->node = node;
            client->shard = shard;
            if (client->ops.count > client->ops_sent) {
                client_mark(client);
            }
        } else {
            client->inlined = false;
            client_resume(client, node, shard);
        }
    }
}

void client_node_lost(struct host *host, struct uid node)
{
    struct umap_iter it = umap_iterate(&host->clients);
    while (umap_next(&it)) {
        struct queue_client *client = it.value;
        if (uid_eq(client->node, node)) {
            lost_contact(client);
            client_arm(client);
        }
    }
}

void client_node_up(struct host *host, struct uid node)
{
    struct umap_iter it = umap_iterate(&host->clients);
    while (umap_next(&it)) {
        struct queue_client *client = it.value;
        bool stranded =
            !client->gone && (client->state == CLIENT_RESUMING || uid_is_zero(client->node));
        if (stranded && client->local ? uid_eq(client->node, node) : stranded) {
            if (client->state == CLIENT_RESUMING || client->ops.count > client->ops_sent) {
                client_seek(client);
            }
        }
    }
}
