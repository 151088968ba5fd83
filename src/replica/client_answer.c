/*
 * What: what comes back to a client: its ops are settled, its sink hears of it.
 * Happy path: effects come, numbered within the session -> replies, deliveries, refusals, then
 * "applied up to here" -> ops are settled. Failure modes: a number is missing: a new session is
 * begun with RESUME (client_seek.c); the leader says what is applied and what it holds, delivers
 * again what was not received, and the rest is sent again. Invariants I2  Items of another session,
 * or out of order, are never acted on. I3  The sink sees each ordinal of a consumer once,
 * ascending. (Ordinals may be skipped: deliveries that were lost together with a node and returned
 * to the queue, or lost no-ack ones.) Threads: the host's shard. Spec: docs/replica.md, "Clients".
 */
#include "client_internal.h"
#include "host_internal.h"
#include "parcel.h"

#include "warren/plant.h"

/* --- settling --------------------------------------------------------------------------------- */

static void forget_consumer(struct queue_client *client, uint32_t consumer)
{
    if (client_expects(client, consumer) != NULL) {
        vec_remove(&client->consumers, client_consumer_place(client, consumer));
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
    if (end > client->ops_first) { /* else there may be no memory for any */
        ops_release(client->ops.items + client->ops_first, end - client->ops_first);
    }
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

void client_check_blocked(struct queue_client *client)
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
     * well, unless others were under way with it (value2 says that it is not known). */
    while (client->replies.count > 0 && client->replies.items[0].seq <= seq) {
        const struct client_reply *r = &client->replies.items[0];
        reply(client, 0, r->kind == QUEUE_OP_GET ? QUEUE_EMPTY : QUEUE_OK, r->next, UINT64_MAX);
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
    client_check_blocked(client);
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

/* --- answers ---------------------------------------------------------------------------------- */

static void deliver(struct queue_client *client, const struct queue_effect *effect,
                    const struct message *messages, uint32_t count)
{
    struct consumer_expect *expect =
        effect->consumer == 0 ? NULL : client_expects(client, effect->consumer);
    uint64_t *next = effect->consumer == 0 ? &client->get_next
                     : expect != NULL      ? &expect->next
                                           : NULL;
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
            client_resume(client, client->node, client->shard); /* something got lost */
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
        if (effect->count == 0) {
            client->pace = effect->seq; /* pace.c: that is how an older release passes it over */
            break;
        }
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
    const bool moved = !uid_is_zero(client->served_by) && !uid_eq(client->served_by, node);
    if (moved) {
        client->patience_ms = CONNECTED_RETRY_MS; /* learned of a link to another node */
    }
    client->backoff_ms = client->patience_ms;
    client->soon = 0;
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
    client->served_by = node;
    if (moved && !client->closing && client->sink.on_moved != NULL) {
        client->sink.on_moved(client->ctx);
    }
    if (!client->closing && client->sink.on_resumed != NULL) {
        client->sink.on_resumed(client->ctx);
    }
    client_arm(client);
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
