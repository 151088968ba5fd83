/*
 * What: the history of an x-recent-history exchange: a queue that the catalog keeps under the
 * exchange's name, and its replay to what is newly bound.
 *
 * Happy path of a replay: the binding is made and in the view -> PEEK of the history by the
 * channel's own queue client of it, so behind all that the channel has published -> each message is
 * published to the queue, or to those that are reached through the exchange -> each of them answers
 * an empty PEEK, so it has them -> bind-ok.
 *
 * Failure modes: whatever cuts a replay short (the history or a queue goes, no leader within the
 * time limit) ends it, and the bind is answered as if all had gone well: the binding is made.
 * Spec: docs/routing.md, "x-recent-history".
 */
#include "broker_internal.h"
#include "warren/plant.h"

#define REPLAY_PAGE 256u
#define NOWHERE     ((uint64_t)INT64_MAX) /* a position that no message has */

struct history_replay {
    uint64_t history_id;
    uint64_t queue_id; /* 0: to what the exchange leads to */
    uint64_t next;     /* position; 0: that was all */
    uint64_t left;     /* of what may be in the history: what comes meanwhile came by the binding */
    VEC(uint64_t) reached;
};

void history_free(struct history_replay *owned_replay)
{
    if (owned_replay != NULL) {
        vec_deinit(&owned_replay->reached);
        wr_free(owned_replay);
    }
}

/* --- making it -------------------------------------------------------------------------------- */

static void history_made(struct request *r)
{
    if (request_unavailable(r)) {
        return;
    }
    switch (r->status) {
    case CATALOG_OK:
    case CATALOG_EXISTS:
    case CATALOG_NO_VHOST: /* the exchange went, or is another one: that one has its own */
    case CATALOG_NO_EXCHANGE:
    case CATALOG_STALE:
        request_defer_finish(r);
        break;
    default:
        request_fail(r, 541, true, "the history of an exchange in vhost '%s' could not be made: %s",
                     r->channel->session->vhost, catalog_status_text(r->status));
        break;
    }
}

bool history_make(struct request *r, const struct catalog_exchange *x)
{
    struct catalog_member members[CATALOG_REPLICAS_MAX];
    const struct catalog_vhost *vhost = catalog_vhost(r->broker->view, x->vhost);
    if (!bytes_eq_cstr(x->type, CATALOG_HISTORY_EXCHANGE) || vhost == NULL ||
        catalog_vhost_history(vhost, x->name) != NULL) {
        return false;
    }
    struct catalog_command command = {.kind = CATALOG_DECLARE_QUEUE};
    struct catalog_queue_spec *spec = &command.u.queue;
    *spec = (struct catalog_queue_spec){.vhost = x->vhost,
                                        .name = x->name,
                                        .arguments = x->arguments,
                                        .type = CATALOG_HISTORY,
                                        .run = CATALOG_RUN_GROUP,
                                        .durable = x->durable};
    queue_place_group(r, spec, members);
    if (spec->group.member_count == 0) {
        request_fail(r, 541, true, "no node can take a replica of the history of exchange '%.*s'",
                     FMT(x->name));
    } else {
        request_propose(r, &command, history_made);
    }
    return true;
}

/* --- replay ----------------------------------------------------------------------------------- */

static void next_page(struct request *r);

static void replay_to(struct request *r, const struct catalog_queue *queue,
                      const struct message *message)
{
    struct history_replay *replay = r->replay;
    if (queue->id == replay->history_id) {
        return; /* the exchange leads back to itself */
    }
    struct ch_queue *q = ch_queue_open(r->channel, queue);
    ch_queue_note_publish(q, publish_replayed(q, *message));
    for (size_t i = 0; i < replay->reached.count; i++) {
        if (replay->reached.items[i] == queue->id) {
            return;
        }
    }
    vec_push(&replay->reached, queue->id);
}

static void replay_through(struct request *r, const struct message *message)
{
    struct broker *broker = r->broker;
    const struct catalog_exchange *x =
        catalog_exchange(broker->view, session_vhost(r->channel->session), r->name);
    if (x == NULL) {
        return;
    }
    vec_clear(&broker->extra_keys);
    publish_add_keys(broker, wire_props_headers(message_props(message)), "CC");
    const struct route_input input = {.key = message_key(message),
                                      .props = message_props(message),
                                      .extra_keys = broker->extra_keys.items,
                                      .extra_count = (uint32_t)broker->extra_keys.count,
                                      .random = prng_u64(&broker->prng),
                                      .node = broker->options.node_id};
    const uint32_t count = route_message(broker->view, x, &input, &broker->route);
    for (uint32_t i = 0; i < count; i++) {
        replay_to(r, broker->route.queues[i], message);
    }
}

void history_on_peek(struct request *r, const struct message *messages, uint32_t count)
{
    struct history_replay *replay = r->replay;
    for (uint32_t i = 0; i < count && replay->left > 0; i++) {
        replay->left--;
        if (replay->queue_id == 0) {
            replay_through(r, &messages[i]);
            continue;
        }
        const struct catalog_queue *queue = catalog_queue_by_id(r->broker->view, replay->queue_id);
        if (queue != NULL) {
            replay_to(r, queue, &messages[i]);
        }
    }
}

/* Waits until what was reached has it, one queue after the other; then goes on. */
static void await_reached(struct request *r)
{
    struct history_replay *replay = r->replay;
    while (replay->reached.count > 0) {
        const uint64_t id = vec_pop(&replay->reached);
        struct ch_queue *q = umap_get(&r->channel->by_id, id);
        if (q != NULL) {
            request_await_reply(r, q, queue_client_peek(q->client, NOWHERE, 1, QUEUE_PLACE_READY),
                                history_on_answer);
            return;
        }
    }
    if (replay->next == 0 || replay->left == 0) {
        request_finish(r);
    } else {
        next_page(r);
    }
}

void history_on_answer(struct request *r, enum queue_status status, uint64_t value, uint64_t value2)
{
    (void)status; /* one that is gone: the others may not be */
    (void)value;
    (void)value2;
    await_reached(r);
}

static void on_page(struct request *r, enum queue_status status, uint64_t value, uint64_t value2)
{
    (void)value2;
    r->replay->next = status == QUEUE_OK ? value : 0;
    await_reached(r);
}

static void next_page(struct request *r)
{
    struct history_replay *replay = r->replay;
    const struct catalog_queue *history = catalog_queue_by_id(r->broker->view, replay->history_id);
    if (history == NULL) {
        request_finish(r);
        return;
    }
    const uint64_t count = replay->left < REPLAY_PAGE ? replay->left : REPLAY_PAGE;
    struct ch_queue *q = ch_queue_open(r->channel, history);
    request_await_reply(r, q, queue_client_peek(q->client, replay->next, count, QUEUE_PLACE_READY),
                        on_page);
}

bool history_replay(struct request *r, bool to_queue)
{
    const struct bytes name = session_vhost(r->channel->session);
    const struct catalog_vhost *vhost = catalog_vhost(r->broker->view, name);
    const struct catalog_queue *history =
        vhost == NULL ? NULL : catalog_vhost_history(vhost, r->exchange);
    const struct catalog_queue *queue =
        history == NULL || !to_queue ? NULL : catalog_vhost_queue(vhost, r->name);
    if (history == NULL || (to_queue && queue == NULL)) {
        return false;
    }
    r->replay = wr_calloc(1, sizeof *r->replay);
    r->replay->history_id = history->id;
    r->replay->queue_id = to_queue ? queue->id : 0;
    r->replay->next = 1;
    r->replay->left = history->settings.length_max - wr_planted(WR_PLANT_replay_short);
    next_page(r);
    return true;
}

void history_cut_short(struct request *r)
{
    struct broker *broker = r->broker;
    wr_log(broker->logger, LOG_LEVEL_WARNING, "exchange",
           "the history of exchange '%.*s' in vhost '%s' was not replayed to '%.*s', or in part "
           "only: no answer within %u ms",
           FMT(r->exchange), r->channel->session->vhost, FMT(r->name),
           broker->options.operation_timeout_ms);
    request_defer_finish(r);
}
