/*
 * What: the way of a client's ops to whoever leads its queue, and of the answers back.
 * Happy path: NEW: the first ops go to the likely leader -> effects come, numbered within the
 * session -> ops are settled. Failure modes: nothing answers, a number is missing, the leader
 * changed or its link broke: a new session is begun with RESUME; the leader says what is applied
 * and what it holds, delivers again what was not received, and the rest is sent again. A retry
 * timer (200 ms doubling to 1 s) runs while anything is pending: no op waits for an answer that was
 * lost. Invariants I1  Ops are sent in order; those not reported applied are kept (unless nothing
 * can be lost: own node's local queue). I2  Items of another session, or out of order, are never
 * acted on. I3  The sink sees each ordinal of a consumer once, ascending. (Ordinals may be skipped:
 * deliveries that were lost together with a node and returned to the queue, or lost no-ack ones.)
 * Threads: the host's shard. Spec: docs/replica.md, "Clients".
 */
#include "client_internal.h"

#include "warren/plant.h"

#define OPS_PER_BATCH 8192u
/* Most ops on their way: of those applied the leader remembers which were refused, up to a limit.
 */
#define OPS_SENT_MAX (QUEUE_NACKED_KEPT / 2)

/* --- settling -------------------------------------------------------------------------------- */

static void forget_consumer(struct queue_client *client, uint32_t consumer)
{
    for (size_t i = 0; i < client->consumers.count; i++) {
        if (client->consumers.items[i].consumer == consumer) {
            vec_remove(&client->consumers, i);
            return;
        }
    }
}

static void reply(struct queue_client *client, size_t at, enum queue_status status, uint64_t value,
                  uint64_t value2)
{
    const struct client_reply r = client->replies.items[at];
    vec_remove(&client->replies, at);
    if (r.kind == QUEUE_OP_GET) {
        if (status == QUEUE_OK && !client->got) {
            status = QUEUE_EMPTY; /* a no-ack message that was lost on its way: at most once */
        }
        client->got = false;
    } else if (r.kind == QUEUE_OP_TAKE) {
        client->got = false;
    } else if ((r.kind == QUEUE_OP_ATTACH && status != QUEUE_OK && status != QUEUE_EXISTS) ||
               r.kind == QUEUE_OP_DETACH) {
        forget_consumer(client, r.consumer);
    }
    if (!client->closing) {
        if (client->sink.on_reply != NULL) {
            client->sink.on_reply(client->ctx, r.seq, status, value, value2);
        }
    }
}

static void drop_ops(struct queue_client *client, uint64_t seq)
{
    size_t end = client->ops_first;
    while (end < client->ops_sent && client->ops.items[end].seq <= seq) {
        end++;
    }
    ops_release(client->ops.items + client->ops_first, end - client->ops_first);
    client->ops_first = end;
    if (client->ops_first == client->ops.count) {
        vec_clear(&client->ops);
        client->ops_first = client->ops_sent = 0;
    } else if (client->ops_first > 1024 && client->ops_first > client->ops.count / 2) {
        size_t left = client->ops.count - client->ops_first;
        memmove(client->ops.items, client->ops.items + client->ops_first,
                left * sizeof *client->ops.items);
        client->ops_sent -= client->ops_first;
        client->ops.count = left;
        client->ops_first = 0;
    }
}

static void drop_sent(struct queue_client *client, uint64_t seq)
{
    while (client->sent_first < client->sent.count &&
           client->sent.items[client->sent_first].last_seq <= seq) {
        uint64_t bytes = client->sent.items[client->sent_first++].bytes;
        client->bytes -= bytes;
        client->host->client_bytes -= bytes;
    }
    if (client->sent_first == client->sent.count) {
        vec_clear(&client->sent);
        client->sent_first = 0;
    } else if (client->sent_first > 256 && client->sent_first > client->sent.count / 2) {
        size_t left = client->sent.count - client->sent_first;
        memmove(client->sent.items, client->sent.items + client->sent_first,
                left * sizeof *client->sent.items);
        client->sent.count = left;
        client->sent_first = 0;
    }
}

uint64_t host_client_room(const struct host *host)
{
    uint64_t max = host->options.client_bytes_max;
    return host->client_bytes < max ? max - host->client_bytes : 0;
}

/* Half of what is left for all: n that are stuck take n / (n + 2) of it and leave two parts, of
 * which the next may have one. So nobody is held back for ever by others, however many they are. */
static uint64_t bytes_max(const struct queue_client *client)
{
    uint64_t bytes = host_client_room(client->host) / 2;
    return bytes < CLIENT_BYTES_LEAST ? CLIENT_BYTES_LEAST
           : bytes > CLIENT_BYTES_MAX ? CLIENT_BYTES_MAX
                                      : bytes;
}

static void check_blocked(struct queue_client *client)
{
    uint64_t ops = client->next_seq - 1 - client->applied;
    uint64_t bytes = bytes_max(client);
    bool over = ops > CLIENT_OPS_MAX || client->bytes > bytes;
    bool under = ops <= CLIENT_OPS_MAX / 2 && client->bytes <= bytes / 2;
    if (client->blocked ? under : over) {
        client->blocked = !client->blocked;
        if (!client->closing) {
            if (client->sink.on_blocked != NULL) {
                client->sink.on_blocked(client->ctx, client->blocked);
            }
        }
    }
}

/* All ops up to seq are applied. */
void client_settle(struct queue_client *client, uint64_t seq)
{
    if (seq <= client->applied || seq >= client->next_seq) {
        return;
    }
    /* Replies come before; one that did not was asked for again and is no longer known: it went
     * well. */
    while (client->replies.count > 0 && client->replies.items[0].seq <= seq) {
        const struct client_reply *r = &client->replies.items[0];
        reply(client, 0, r->kind == QUEUE_OP_GET ? QUEUE_EMPTY : QUEUE_OK, r->next, 0);
    }
    client->applied = seq;
    drop_ops(client, seq);
    drop_sent(client, seq);
    if (client->closing) {
        if (seq == client->next_seq - 1) {
            client->gone = true;
            client_mark(client);
        }
        return;
    }
    if (client->sink.on_applied != NULL) {
        client->sink.on_applied(client->ctx, seq);
    }
    check_blocked(client);
    if (client->ops_sent < client->ops.count) {
        client_mark(client); /* what OPS_SENT_MAX held back */
    }
}

/* The enqueues first .. first + count - 1 are not taken. The same may be said again: by a leader
 * that does not know what was heard, and for ops that were sent again. */
static void refused(struct queue_client *client, uint64_t first, uint64_t count)
{
    uint64_t end = first + count < client->next_seq ? first + count : client->next_seq;
    uint64_t seq = first > client->refused ? first : client->refused + 1;
    for (seq = seq > client->applied ? seq : client->applied + 1; seq < end; seq++) {
        client->refused = seq;
        if (!client->closing) {
            if (client->sink.on_nacked != NULL) {
                client->sink.on_nacked(client->ctx, seq);
            }
        }
    }
}

/* --- sending --------------------------------------------------------------------------------- */

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

static void ops_dest_send(struct host *host, struct ops_dest *dest)
{
    struct parcel *parcel = parcel_make(host, PARCEL_OPS, 1, dest->queue, dest->node, dest->shard);
    if (host_is_self(host, dest->node)) {
        parcel->local = dest->bundle;
        parcel->local_free = ops_bundle_free;
    } else {
        ops_pack(parcel, dest->bundle);
    }
    dest->bundle = NULL;
    parcel_send(host, parcel);
}

void client_flush_dests(struct host *host)
{
    for (size_t i = 0; i < host->ops_dests.count; i++) {
        ops_dest_send(host, host->ops_dests.items[i]);
        wr_free(host->ops_dests.items[i]);
    }
    vec_clear(&host->ops_dests);
}

static struct ops_dest *ops_dest_of(struct queue_client *client, bool encoded)
{
    struct host *host = client->host;
    struct ops_dest *dest = NULL;
    for (size_t i = host->ops_dests.count; i-- > 0 && dest == NULL;) {
        struct ops_dest *d = host->ops_dests.items[i];
        if (d->queue == client->queue && d->shard == client->shard &&
            uid_eq(d->node, client->node)) {
            dest = d;
        }
    }
    if (dest != NULL && encoded && dest->bundle->encoded->size > ENTRY_BYTES_WANTED) {
        ops_dest_send(host, dest);
    }
    if (dest == NULL) {
        dest = wr_calloc(1, sizeof *dest);
        dest->node = client->node;
        dest->shard = client->shard;
        dest->queue = client->queue;
        vec_push(&host->ops_dests, dest);
    }
    if (dest->bundle == NULL) {
        dest->bundle = wr_calloc(1, sizeof *dest->bundle);
        if (encoded) {
            dest->bundle->encoded = buf_new(4096);
            memset(dest->bundle->encoded->data, 0, ENTRY_HEADER); /* travels as it is */
            dest->bundle->encoded->size = ENTRY_HEADER;
        }
    }
    return dest;
}

static void sent_bytes(struct queue_client *client, uint64_t last_seq)
{
    if (client->unsent_bytes > 0) {
        vec_push(&client->sent, (struct client_sent){last_seq, client->unsent_bytes});
        client->unsent_bytes = 0;
    }
}

static bool asks_what_is_ready(const struct queue_op *op)
{
    return op->kind == QUEUE_OP_GET || op->kind == QUEUE_OP_PURGE || op->kind == QUEUE_OP_SEAL ||
           op->kind == QUEUE_OP_TAKE || op->kind == QUEUE_OP_PEEK;
}

/*
 * Where the batch that begins at `begin` ends. The machine hands messages out after each batch: an
 * op that looks at what is ready begins one of its own, or a basic.get would take what was
 * published just before it, past a consumer that waits.
 */
static size_t batch_end(const struct queue_op *ops, size_t begin, size_t count)
{
    uint64_t bytes = 0;
    size_t end = begin;
    while (end < count && end - begin < OPS_PER_BATCH && bytes < ENTRY_BYTES_WANTED &&
           (end == begin || !asks_what_is_ready(&ops[end]))) {
        bytes += ops[end++].message.record.size;
    }
    return end;
}

/* A local queue of this shard: its ops are applied now; nothing is kept. */
static void flush_here(struct queue_client *client, struct home *home)
{
    struct op_vec ops = client->ops;
    size_t first = client->ops_first;
    uint64_t last = client->next_seq - 1;
    client->ops = (struct op_vec){0};
    client->ops_first = client->ops_sent = 0;
    struct ops_section section = {
        .client = client->id, .session = client->session, .fresh = client->state == CLIENT_NEW};
    client->state = CLIENT_CONNECTED;
    sent_bytes(client, last);
    struct host *host = client->host;
    for (size_t begin = first; begin < ops.count;) {
        size_t end = batch_end(ops.items, begin, ops.count);
        home_take_ops(home, host->options.node_id, host->options.shard, &section, ops.items + begin,
                      (uint32_t)(end - begin));
        begin = end;
    }
    ops_release(ops.items + first, ops.count - first);
    if (client->ops.items == NULL) {
        vec_clear(&ops);
        client->ops = ops; /* the memory again */
    } else {
        vec_deinit(&ops);
    }
}

static void flush_local_shard(struct queue_client *client)
{
    struct ops_dest *dest = ops_dest_of(client, false);
    size_t count = client->ops.count - client->ops_first;
    struct ops_section section = {
        .client = client->id, .session = client->session, .fresh = client->state == CLIENT_NEW};
    uint32_t base = (uint32_t)dest->bundle->ops.count;
    for (size_t begin = 0; begin < count; begin = section.end - base) {
        section.begin = base + (uint32_t)begin;
        section.end =
            base + (uint32_t)batch_end(client->ops.items + client->ops_first, begin, count);
        vec_push(&dest->bundle->sections, section);
    }
    vec_reserve(&dest->bundle->ops, count);
    memcpy(dest->bundle->ops.items + dest->bundle->ops.count, client->ops.items + client->ops_first,
           count * sizeof *client->ops.items);
    dest->bundle->ops.count += count;
    vec_clear(&client->ops);
    client->ops_first = client->ops_sent = 0;
    client->state = CLIENT_CONNECTED;
    sent_bytes(client, client->next_seq - 1);
}

/* Up to where ops may be on their way now. */
static size_t window_end(const struct queue_client *client)
{
    const size_t end = client->ops_first + OPS_SENT_MAX;
    return end < client->ops.count ? end : client->ops.count;
}

static void flush_encoded(struct queue_client *client)
{
    struct ops_section section = {
        .client = client->id, .session = client->session, .fresh = client->state == CLIENT_NEW};
    const size_t window = window_end(client);
    while (client->ops_sent < window) {
        struct ops_dest *dest = ops_dest_of(client, true);
        struct ops_bundle *bundle = dest->bundle;
        size_t end = batch_end(client->ops.items, client->ops_sent, window);
        const struct queue_batch batch = {client->id, (uint32_t)(end - client->ops_sent),
                                          client->ops.items + client->ops_sent};
        section.begin = bundle->encoded->size;
        queue_batch_encode(&bundle->encoded, &batch);
        section.end = bundle->encoded->size;
        section.last_seq = client->ops.items[end - 1].seq;
        vec_push(&bundle->sections, section);
        client->ops_sent = end;
    }
    client->state = CLIENT_CONNECTED;
    sent_bytes(client, client->next_seq - 1);
}

/* The leader is on this very shard: straight into its entry. */
static void flush_group_here(struct queue_client *client, struct home *home)
{
    struct host *host = client->host;
    struct ops_section section = {
        .client = client->id, .session = client->session, .fresh = client->state == CLIENT_NEW};
    client->state = CLIENT_CONNECTED;
    sent_bytes(client, client->next_seq - 1);
    const size_t window = window_end(client);
    while (client->ops_sent < window && client->state == CLIENT_CONNECTED) {
        size_t begin = client->ops_sent;
        client->ops_sent = batch_end(client->ops.items, begin, window);
        home_take_ops(home, host->options.node_id, host->options.shard, &section,
                      client->ops.items + begin, (uint32_t)(client->ops_sent - begin));
    }
}

static bool is_here(const struct queue_client *client)
{
    const struct host_options *o = &client->host->options;
    if (!host_is_self(client->host, client->node)) {
        return false;
    }
    return client->shard == o->shard ||
           (client->shard == HOST_SHARD_BY_GROUP &&
            host_shard_of_group(client->queue, o->shard_count) == o->shard);
}

static void flush(struct queue_client *client)
{
    size_t unsent = client->ops.count - client->ops_sent;
    if (client->state == CLIENT_RESUMING) {
        return;
    }
    if (unsent > 0 && uid_is_zero(client->node)) {
        client_seek(client);
        if (uid_is_zero(client->node) || client->state == CLIENT_RESUMING) {
            return;
        }
    }
    if (unsent == 0) {
        return;
    }
    if (is_here(client)) {
        struct home *home = home_find(client->host, client->queue);
        if (client->local && home != NULL) {
            flush_here(client, home);
            return;
        }
        if (home != NULL && home->serving) {
            client->shard = client->host->options.shard;
            flush_group_here(client, home);
            return;
        }
        if (client->local) {
            return; /* it is gone: the view says so in a moment */
        }
    }
    if (client->local && client->own_node) {
        flush_local_shard(client);
    } else {
        flush_encoded(client);
    }
}

void client_turn(struct host *host)
{
    struct list work;
    list_init(&work);
    list_splice_back(&work, &host->dirty_clients);
    for (struct list *link; (link = list_pop_front(&work)) != NULL;) {
        struct queue_client *client = WR_CONTAINER_OF(link, struct queue_client, dirty);
        if (client->gone) {
            if (client->closing) {
                client_free(client);
            }
            continue;
        }
        check_blocked(client);
        flush(client);
        if (!client->gone) {
            client_arm(client);
        }
    }
    client_flush_dests(host);
}

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

/* --- finding the leader ---------------------------------------------------------------------- */

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

static void resume(struct queue_client *client, struct uid node, uint32_t shard)
{
    client->node = node;
    client->shard = shard;
    client->session++;
    client->number = 0;
    client->state = CLIENT_RESUMING;
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
        resume(client, node, shard);
    }
}

static void on_retry(struct timer *timer)
{
    struct queue_client *client = WR_CONTAINER_OF(timer, struct queue_client, retry);
    if (client->gone) {
        return;
    }
    if (client->state == CLIENT_CONNECTED && client->progress != client->applied) {
        client->progress = client->applied;
        client->backoff_ms = CONNECTED_RETRY_MS;
        client_arm(client);
        return;
    }
    client->progress = client->applied;
    /* What is on its way to or from a node in reach is not lost, only slow. To begin anew makes the
     * leader deliver everything again, and a link that is slow already would never get to the
     * answer: so the same is asked again at first, which costs nothing where it is being answered.
     */
    const bool slow = client->state == CLIENT_RESUMING && reachable(client->host, client->node);
    const bool same = slow && client->backoff_ms < RESUME_RETRY_MAX_MS;
    const uint32_t most =
        slow || client->state == CLIENT_CONNECTED ? RESUME_RETRY_MAX_MS : RETRY_MAX_MS;
    client->backoff_ms = client->backoff_ms * 2 > most ? most : client->backoff_ms * 2;
    if (same) {
        send_resume(client);
    } else if (client->state == CLIENT_CONNECTED && reachable(client->host, client->node)) {
        resume(client, client->node, client->shard); /* the same leader: did anything get lost? */
    } else {
        client_seek(client);
    }
    client_arm(client);
}

static void lost_contact(struct queue_client *client)
{
    if (client->gone || (client->local && client->own_node)) {
        return;
    }
    if (client->state != CLIENT_NEW) {
        client->state = CLIENT_RESUMING;
        client->session++; /* whatever still comes is of the past */
    }
    if (!client->local) {
        client->node = UID_NONE;
    }
}

/* --- answers --------------------------------------------------------------------------------- */

static void deliver(struct queue_client *client, const struct queue_effect *effect,
                    const struct message *messages, uint32_t count)
{
    uint64_t *next = NULL;
    if (effect->consumer == 0) {
        next = &client->get_next;
    }
    for (size_t i = 0; i < client->consumers.count && next == NULL; i++) {
        if (client->consumers.items[i].consumer == effect->consumer) {
            next = &client->consumers.items[i].next;
        }
    }
    if (next == NULL || count == 0) {
        return;
    }
    uint64_t first = effect->ordinal;
    uint64_t skip = first < *next ? *next - first : 0; /* seen before */
    if (skip >= count) {
        return;
    }
    *next = first + count;
    if (effect->consumer == 0) {
        client->got = true;
    }
    if (client->closing) {
        return;
    }
    if ((effect->flags & QUEUE_DEAD) != 0) {
        if (client->sink.on_dead != NULL) {
            client->sink.on_dead(client->ctx, effect->consumer, first + skip,
                                 (enum queue_death)effect->status, effect->value, messages + skip,
                                 count - (uint32_t)skip);
        }
        return;
    }
    if (client->sink.on_deliver != NULL) {
        client->sink.on_deliver(client->ctx, effect->consumer, first + skip, effect->delivery_count,
                                effect->flags, messages + skip, count - (uint32_t)skip);
    }
}

static void peeked(struct queue_client *client, const struct queue_effect *effect,
                   const struct message *messages, uint32_t count)
{
    size_t at = 0;
    while (at < client->replies.count && client->replies.items[at].kind != QUEUE_OP_PEEK) {
        at++;
    }
    if (at == client->replies.count) {
        return;
    }
    /* One that was sent again begins where it began. */
    const uint64_t next = client->replies.items[at].next;
    const uint64_t skip = effect->position < next ? next - effect->position : 0;
    if (skip >= count) {
        return;
    }
    client->replies.items[at].next = effect->position + count;
    if (!client->closing && client->sink.on_peek != NULL) {
        client->sink.on_peek(client->ctx, effect->position + skip, (enum queue_place)effect->status,
                             effect->value, effect->delivery_count, messages + skip,
                             count - (uint32_t)skip);
    }
}

void client_on_effect(struct host *host, struct uid from, const struct effect_item *item,
                      const struct message *messages, bool counted)
{
    const struct queue_effect *effect = &item->effect;
    struct queue_client *client = umap_get(&host->clients, effect->client);
    (void)from;
    if (client == NULL || client->gone || item->session != client->session ||
        client->state != CLIENT_CONNECTED) {
        return;
    }
    if (counted && item->number != client->number) {
        if (item->number > client->number) {
            client->inlined = true;
            resume(client, client->node, client->shard); /* something got lost */
        }
        return;
    }
    client->number = item->number + 1;
    client->served_by = client->node;
    switch (effect->kind) {
    case QUEUE_EFFECT_APPLIED:
        client_settle(client, effect->seq);
        break;
    case QUEUE_EFFECT_NACKED:
        refused(client, effect->seq, effect->count);
        break;
    case QUEUE_EFFECT_REPLY:
        for (size_t i = 0; i < client->replies.count; i++) {
            if (client->replies.items[i].seq == effect->seq) {
                reply(client, i, (enum queue_status)effect->status, effect->value, effect->value2);
                break;
            }
        }
        break;
    case QUEUE_EFFECT_DELIVER:
        deliver(client, effect, messages, item->message_count);
        break;
    case QUEUE_EFFECT_PEEK:
        peeked(client, effect, messages, item->message_count);
        break;
    case QUEUE_EFFECT_CANCEL:
        if (!client->closing) {
            if (client->sink.on_cancel != NULL) {
                client->sink.on_cancel(client->ctx, effect->consumer);
            }
        }
        break;
    default:
        break;
    }
}

static void end(struct queue_client *client, bool lost)
{
    client->gone = true;
    timer_cancel(&client->host->timers, &client->retry);
    if (client->closing) {
        client_mark(client);
    } else {
        client->sink.on_gone(client->ctx, lost);
    }
}

/* The first op that must be sent again: applied, but its answer was lost. */
static uint64_t first_unanswered(const struct queue_client *client, uint64_t applied)
{
    return client->replies.count > 0 && client->replies.items[0].seq <= applied
               ? client->replies.items[0].seq
               : 0;
}

/* Bugs planted for the simulator, if any is. */
static void plant_resumed(struct queue_client *client, size_t at)
{
    for (size_t i = at; i < client->ops_sent && wr_planted(WR_PLANT_settle_lost); i++) {
        if (client->ops.items[i].kind == QUEUE_OP_SETTLE) {
            client->ops.items[i].first = client->ops.items[i].count = 1;
        }
    }
    if (wr_planted(WR_PLANT_reused_sequence) && client->applied > 1 &&
        client->applied + 1 == client->next_seq) {
        client->next_seq--;
        client->applied--;
    }
}

void client_on_resumed(struct host *host, struct uid node, uint32_t shard,
                       const struct resumed_body *body)
{
    struct queue_client *client = umap_get(&host->clients, body->client);
    if (client == NULL || client->gone || body->session != client->session ||
        client->state != CLIENT_RESUMING) {
        return;
    }
    if (body->applied < client->applied) {
        /* Its record is gone: the queue was rebuilt without it, or the cluster took this node for
         * dead. */
        end(client, true);
        return;
    }
    client->state = CLIENT_CONNECTED;
    client->node = node;
    client->shard = shard;
    client->number = 0;
    client->candidate = 0;
    client->backoff_ms = CONNECTED_RETRY_MS;
    for (size_t i = 0; i < body->refused.count; i++) {
        refused(client, body->refused.items[i].first, body->refused.items[i].count);
    }
    uint64_t again = first_unanswered(client, body->applied);
    uint64_t from = again != 0 ? again : body->received + 1;
    client_settle(client, again != 0 ? again - 1 : body->applied);
    size_t at = client->ops_first;
    while (at < client->ops.count && client->ops.items[at].seq < from) {
        at++;
    }
    plant_resumed(client, at);
    client->ops_sent = at;
    client_mark(client);
    timer_cancel(&host->timers, &client->retry);
    bool moved = !uid_is_zero(client->served_by) && !uid_eq(client->served_by, node);
    client->served_by = node;
    if (moved && !client->closing && client->sink.on_moved != NULL) {
        client->sink.on_moved(client->ctx);
    }
    if (!client->closing && client->sink.on_resumed != NULL) {
        client->sink.on_resumed(client->ctx);
    }
    client_arm(client);
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
            resume(client, client->node, client->shard); /* it is there but does not know us */
        } else {
            client_arm(client);
        }
        return;
    }
    bool knows_itself = uid_eq(hint, asked);
    if (reachable(host, hint) && (knows_itself || client->candidate < 8)) {
        client->candidate++;
        resume(client, hint, HOST_SHARD_BY_GROUP);
        return;
    }
    /* Nobody leads there: the announcement of a leader, or the timer, goes on. */
    client->candidate = client->candidate < 8 ? client->candidate : 0;
    client->session++;
    client->node = UID_NONE;
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
            resume(client, node, shard);
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

void client_queue_gone(struct host *host, uint64_t queue, bool lost)
{
    struct client_link *link = umap_get(&host->queues, queue);
    if (link == NULL) {
        return;
    }
    /* Upcalls may close clients, which only marks them: the list stays as it is. */
    LIST_FOREACH(at, &link->clients) {
        struct queue_client *client = WR_CONTAINER_OF(at, struct queue_client, of_queue);
        if (!client->gone) {
            end(client, lost);
        }
    }
    host_mark_now(host);
}

/* This node has a new boot: queues close the clients of the one before, or have done so, and ignore
 * what these say. Nothing would ever answer one of which nothing was applied. */
void clients_end_outlived(struct host *host)
{
    VEC(uint64_t) ids = {0};
    struct umap_iter it = umap_iterate(&host->clients);
    while (umap_next(&it)) {
        if (it.key >> 32 != host->boot) {
            vec_push(&ids, it.key);
        }
    }
    for (size_t i = 0; i < ids.count; i++) { /* upcalls may open others */
        struct queue_client *client = umap_get(&host->clients, ids.items[i]);
        if (client != NULL && !client->gone) {
            end(client, true);
        }
    }
    vec_deinit(&ids);
}

void clients_free(struct host *host)
{
    struct umap_iter it = umap_iterate(&host->clients);
    while (umap_next(&it)) {
        client_free(it.value);
    }
    for (size_t i = 0; i < host->ops_dests.count; i++) {
        ops_bundle_free(host->ops_dests.items[i]->bundle);
        wr_free(host->ops_dests.items[i]);
    }
    vec_clear(&host->ops_dests);
}
