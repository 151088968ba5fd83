/*
 * What: carries dead letters from their queue to the queues of its dead-letter exchange. A worker
 * is a consumer like any other, of one queue, for its dead letters only: what it has not settled
 * when it or its node goes is handed to the next worker. A dead letter is settled when all queues
 * that it was routed to have confirmed it (for a replicated one: committed by a majority), so it is
 * never in no queue at all; it may come twice.
 *
 * Happy path: the host says that a queue served here has dead letters and nobody takes them ->
 * worker, ATTACH -> on_dead -> dead_letter_make, route, publish to each target -> on_applied of all
 * -> settle. A worker that has had nothing to do for a while closes.
 *
 * Failure modes: not routable by what is known here: looked up again behind a read barrier (those
 * that come while one is under way share the next), then dropped; with strategy at-least-once tried
 * again until it is routable. No leader for the barrier: tried again. A target that refuses (it is
 * full): tried again, for that target only (dead_target.c); dropped with strategy at-most-once.
 * Another worker is attached already (that of the leader before): closes; the host says again
 * whether one is needed.
 *
 * Invariants: 1. flight->waiting = entries of targets' waits and parked that name it =
 * flight->busy; 2. a flight is in `looks` or `retries` only with waiting = 0; 3. the worker's
 * unsettled ordinals are its flights; 4. while `retries` has any, the timer is pending; 5. while
 * `looks` has any, a barrier is under way.
 * Threads: the shard's. Spec: docs/dead-letters.md.
 */
#include "broker_internal.h"
#include "dead.h"
#include "dead_internal.h"
#include "publish_internal.h"

#define WORKER_CONSUMER   1u
#define WORKER_PREFETCH   512u
#define WORKER_WINDOW     64u /* before sizes are known */
#define WORKER_IDLE_MS    10000u
#define WORKER_RETRY_MS   1000u
#define WORKER_BARRIER_MS 5000u

void dead__mark(struct dead_worker *w)
{
    if (list_is_empty(&w->dirty)) {
        list_push_back(&w->broker->dead_dirty, &w->dirty);
    }
}

/* --- settling --------------------------------------------------------------------------------- */

static void settle_flush(struct dead_worker *w)
{
    if (w->settle_count > 0) {
        (void)queue_client_settle(w->client, WORKER_CONSUMER, w->settle_first, w->settle_count,
                                  QUEUE_ACK);
        w->settle_count = 0;
    }
}

static void flight_free(struct dead_flight *flight)
{
    list_remove(&flight->link);
    list_remove(&flight->retry);
    message_unref(flight->message);
    vec_deinit(&flight->done);
    vec_deinit(&flight->busy);
    wr_free(flight);
}

/* The dead letter may leave its queue. */
static void finish(struct dead_worker *w, struct dead_flight *flight)
{
    if (w->settle_count > 0 && w->settle_first + w->settle_count == flight->ordinal) {
        w->settle_count++;
    } else {
        settle_flush(w);
        w->settle_first = flight->ordinal;
        w->settle_count = 1;
    }
    flight_free(flight);
    dead__mark(w);
}

/* --- when it is routed ------------------------------------------------------------------------ */

static void on_barrier(void *ctx, int status, const struct catalog_result *result);

static void begin_barrier(struct dead_worker *w)
{
    if (!w->barrier && !list_is_empty(&w->looks)) {
        w->barrier = true;
        w->barriers++;
        host_catalog_barrier(w->broker->host, WORKER_BARRIER_MS, on_barrier, w);
    }
}

/* What another node declared or bound a moment ago counts: only a barrier that begins now tells. */
static void look(struct dead_worker *w, struct dead_flight *flight)
{
    WR_ASSERT_OP(flight->waiting, ==, 0);
    flight->refused = false;
    flight->look = w->barriers + 1;
    list_push_back(&w->looks, &flight->retry);
    begin_barrier(w);
}

static void on_barrier(void *ctx, int status, const struct catalog_result *result)
{
    struct dead_worker *w = ctx;
    (void)result;
    w->barrier = false;
    dead__mark(w);
    if (w->ending) {
        return;
    }
    if (status == 0) {
        w->looked = w->barriers;
    }
    struct list work; /* those that came before it began */
    list_init(&work);
    LIST_FOREACH_SAFE(link, &w->looks) {
        if (WR_CONTAINER_OF(link, struct dead_flight, retry)->look > w->barriers) {
            break;
        }
        list_remove(link);
        list_push_back(&work, link);
    }
    for (struct list *link; (link = list_pop_front(&work)) != NULL;) {
        dead__attempt(w, WR_CONTAINER_OF(link, struct dead_flight, retry));
    }
    begin_barrier(w);
}

static void on_timer(struct timer *t)
{
    struct dead_worker *w = WR_CONTAINER_OF(t, struct dead_worker, timer);
    if (list_is_empty(&w->flights)) {
        w->ending = true;
    }
    for (struct list *link; (link = list_pop_front(&w->retries)) != NULL;) {
        look(w, WR_CONTAINER_OF(link, struct dead_flight, retry));
    }
    dead__mark(w);
}

/* What waits already must not wait longer because of this one. */
static void retry_later(struct dead_worker *w, struct dead_flight *flight)
{
    const uint64_t at = broker_now_ms(w->broker) + WORKER_RETRY_MS;
    WR_ASSERT_OP(flight->waiting, ==, 0);
    list_push_back(&w->retries, &flight->retry);
    if (!timer_is_pending(&w->timer) || w->timer.deadline_ms > at) {
        timer_add(&w->broker->timers, &w->timer, at, on_timer);
    }
}

/* --- answers of targets ----------------------------------------------------------------------- */

bool dead__keeps_refused(const struct dead_worker *w)
{
    struct dead_settings settings;
    const struct catalog_queue *queue = catalog_queue_by_id(w->broker->view, w->queue_id);
    return queue != NULL && dead_settings_of(queue, &settings) &&
           settings.strategy != DEAD_AT_MOST_ONCE;
}

void dead__answered(struct dead_worker *w, struct dead_flight *flight)
{
    if (flight->refused && dead__keeps_refused(w)) {
        retry_later(w, flight);
    } else {
        finish(w, flight);
    }
}

/* --- one dead letter -------------------------------------------------------------------------- */

static bool is_among(const uint64_t *ids, size_t count, uint64_t queue_id)
{
    for (size_t i = 0; i < count; i++) {
        if (ids[i] == queue_id) {
            return true;
        }
    }
    return false;
}

static void complain(struct dead_worker *w, const struct catalog_queue *queue, const char *what,
                     struct bytes name)
{
    if (!w->complained) {
        w->complained = true;
        wr_log(w->broker->logger, LOG_LEVEL_WARNING, "queue",
               "dead letters of queue '%.*s' in vhost '%.*s': %s '%.*s'", FMT(queue->spec.name),
               FMT(queue->spec.vhost), what, FMT(name));
    }
}

/* The key may name who waits for a direct reply: he gets it at once, if he is still there. */
static bool give_to_asker(struct broker *broker, const struct message *letter)
{
    if (!reply_is_name(message_key(letter))) {
        return false;
    }
    vec_clear(&broker->reply_to);
    reply_find(broker, message_key(letter));
    const bool found = broker->reply_to.count > 0;
    if (found) {
        reply_send(broker, &broker->reply_to.items[0], *letter);
    }
    vec_clear(&broker->reply_to);
    return found;
}

/* Of the message as it was published: RabbitMQ remembers them, too. */
static void add_bcc(struct broker *broker, const struct message *letter)
{
    struct reader r = reader_from(message_bcc(letter));
    while (rd_left(&r) > 0) {
        vec_push(&broker->extra_keys, rd_bytes(&r, rd_u8(&r)));
    }
}

/* What one target gets: where delays count, the letter as it is when its delay is over. */
static void give(struct dead_worker *w, struct dead_flight *flight, const struct catalog_queue *to,
                 bool through_delayed, const struct message *letter)
{
    struct dead_target *t = dead__target_of(w, to);
    const uint64_t delay_ms =
        (through_delayed || to->settings.delays) && to->spec.type != CATALOG_HISTORY
            ? publish_delay_ms(wire_props_headers(message_props(letter)))
            : 0;
    if (delay_ms == 0) {
        dead__target_give(t, flight, letter, 0);
        return;
    }
    const struct message late = publish_with_delay_over(*letter);
    dead__target_give(t, flight, &late, delay_ms);
    message_unref(late);
}

/* Gives it to the queues that do not have it and have not been given it yet; the number of queues
 * it was routed to. */
static uint32_t hand_out(struct dead_worker *w, struct dead_flight *flight,
                         const struct catalog_queue *queue, const struct message *letter)
{
    struct broker *broker = w->broker;
    const struct catalog_exchange *x =
        catalog_exchange(broker->view, queue->spec.vhost, message_exchange(letter));
    if (x == NULL) {
        return 0;
    }
    const struct bytes headers = wire_props_headers(message_props(letter));
    vec_clear(&broker->extra_keys);
    publish_add_keys(broker, headers, "CC");
    add_bcc(broker, letter);
    const struct route_input input = {.key = message_key(letter),
                                      .props = message_props(letter),
                                      .extra_keys = broker->extra_keys.items,
                                      .extra_count = (uint32_t)broker->extra_keys.count,
                                      .random = prng_u64(&broker->prng),
                                      .node = broker->options.node_id};
    const uint32_t count = route_message(broker->view, x, &input, &broker->route);
    const bool replied = x->name.size == 0 && give_to_asker(broker, letter);
    flight->waiting++; /* held: an answer may come at once */
    for (uint32_t i = 0; i < count; i++) {
        const struct catalog_queue *to = broker->route.queues[i];
        if (is_among(flight->done.items, flight->done.count, to->id) ||
            is_among(flight->busy.items, flight->busy.count, to->id)) {
            continue;
        }
        if (to->spec.type != CATALOG_HISTORY && flight->reason != QUEUE_DIED_REJECTED &&
            dead_letter_is_cycle(headers, to->spec.name)) {
            complain(w, queue, "would go round for ever and are dropped before queue",
                     to->spec.name);
            continue;
        }
        give(w, flight, to, broker->route.delayed[i], letter);
    }
    flight->waiting--;
    return count + replied;
}

void dead__attempt(struct dead_worker *w, struct dead_flight *flight)
{
    struct dead_settings settings;
    const struct catalog_queue *queue = catalog_queue_by_id(w->broker->view, w->queue_id);
    if (queue == NULL || !dead_settings_of(queue, &settings)) {
        /* The queue goes, or has no dead-letter exchange any more. */
        if (flight->waiting == 0) {
            finish(w, flight);
        }
        return;
    }
    const struct dead_letter death = {
        .queue = queue->spec.name,
        .reason = flight->reason,
        .time_s = flight->died_ms / 1000,
        .exchange = settings.exchange,
        .has_key = settings.has_key,
        .key = settings.key,
    };
    const struct message letter = dead_letter_make(&flight->message, &death);
    const uint32_t count = hand_out(w, flight, queue, &letter);
    message_unref(letter);
    if (flight->waiting > 0) {
        flight->look = 0; /* of this attempt: where it is parked it will be routed anew */
        return;
    }
    if (count > 0) {
        dead__answered(w, flight);
    } else if (flight->look == 0) {
        look(w, flight);
    } else if (flight->look > w->looked) {
        retry_later(w, flight);
    } else {
        complain(w, queue, "no queue is reached through exchange", settings.exchange);
        if (settings.strategy == DEAD_AT_LEAST_ONCE) {
            retry_later(w, flight);
        } else {
            finish(w, flight);
        }
    }
}

/* --- the source ------------------------------------------------------------------------------- */

static void on_dead(void *ctx, uint32_t consumer, uint64_t first_ordinal, enum queue_death reason,
                    uint64_t died_ms, const struct message *messages, uint32_t count)
{
    struct dead_worker *w = ctx;
    WR_ASSERT_OP(consumer, ==, WORKER_CONSUMER);
    if (list_is_empty(&w->retries)) {
        timer_cancel(&w->broker->timers, &w->timer); /* of a worker that was idle */
    }
    for (uint32_t i = 0; i < count; i++) {
        struct dead_flight *flight = wr_calloc(1, sizeof *flight);
        flight->message = messages[i];
        message_ref(flight->message);
        flight->ordinal = first_ordinal + i;
        flight->died_ms = died_ms;
        flight->reason = reason;
        list_push_back(&w->flights, &flight->link);
        list_init(&flight->retry);
        const uint32_t size = flight->message.record.size;
        w->average = w->average == 0 ? size : w->average - w->average / 8 + size / 8;
        dead__attempt(w, flight);
    }
    w->last = first_ordinal + count - 1;
    dead__mark(w);
}

static void on_source_reply(void *ctx, uint64_t seq, enum queue_status status, uint64_t value,
                            uint64_t value2)
{
    struct dead_worker *w = ctx;
    (void)seq;
    (void)value;
    (void)value2;
    if (status != QUEUE_OK) {
        w->ending = true;
        dead__mark(w);
    }
}

static void on_source_gone(void *ctx, bool lost)
{
    struct dead_worker *w = ctx;
    (void)lost;
    w->ending = true;
    dead__mark(w);
}

static void on_source_resumed(void *ctx)
{
    struct dead_worker *w = ctx;
    w->granted = 0; /* Ordinals may have been skipped, with their credit. */
    dead__mark(w);
}

static const struct queue_client_sink source_sink = {
    .on_reply = on_source_reply,
    .on_dead = on_dead,
    .on_gone = on_source_gone,
    .on_resumed = on_source_resumed,
};

/* --- life ------------------------------------------------------------------------------------- */

void broker_queue_dead(struct broker *broker, uint64_t queue_id)
{
    LIST_FOREACH(link, &broker->dead_workers) {
        if (WR_CONTAINER_OF(link, struct dead_worker, link)->queue_id == queue_id) {
            return;
        }
    }
    const struct catalog_queue *queue =
        broker->view == NULL ? NULL : catalog_queue_by_id(broker->view, queue_id);
    if (queue == NULL || broker->boot == 0) {
        return; /* The host says it again while it is so. */
    }
    struct dead_worker *w = wr_calloc(1, sizeof *w);
    w->broker = broker;
    w->queue_id = queue_id;
    list_init(&w->dirty);
    list_init(&w->flights);
    list_init(&w->looks);
    list_init(&w->retries);
    timer_init(&w->timer);
    list_push_back(&broker->dead_workers, &w->link);
    w->client = queue_client_open(broker->host, queue, &source_sink, w);
    w->granted = WORKER_WINDOW;
    (void)queue_client_attach(w->client, WORKER_CONSUMER, QUEUE_DEAD, WORKER_PREFETCH, w->granted,
                              0, BYTES_NONE, BYTES_NONE);
}

/* Its client's end returns what is not settled to the dead. */
static void worker_close(struct dead_worker *w)
{
    for (size_t i = 0; i < w->targets.count; i++) {
        dead__target_free(w->targets.items[i]);
    }
    vec_deinit(&w->targets);
    LIST_FOREACH_SAFE(link, &w->flights) {
        flight_free(WR_CONTAINER_OF(link, struct dead_flight, link));
    }
    settle_flush(w);
    queue_client_close(w->client);
    timer_cancel(&w->broker->timers, &w->timer);
    list_remove(&w->dirty);
    list_remove(&w->link);
    wr_free(w);
}

static void renew_credit(struct dead_worker *w)
{
    const uint64_t room = w->average == 0 ? WORKER_WINDOW : WINDOW_BYTES / w->average;
    const uint64_t window = room < 1 ? 1 : room > 2048 ? 2048 : room;
    if (w->blocked == 0 && w->granted <= w->last + window / 2) {
        w->granted = w->last + window;
        (void)queue_client_credit(w->client, WORKER_CONSUMER, w->granted);
    }
}

static void drop_gone_targets(struct dead_worker *w)
{
    for (size_t i = w->targets.count; i-- > 0;) {
        if (w->targets.items[i]->gone) {
            dead__target_free(w->targets.items[i]);
            vec_remove(&w->targets, i);
        }
    }
}

void dead_workers_turn(struct broker *broker)
{
    struct list work;
    list_init(&work);
    list_splice_back(&work, &broker->dead_dirty);
    for (struct list *link; (link = list_pop_front(&work)) != NULL;) {
        struct dead_worker *w = WR_CONTAINER_OF(link, struct dead_worker, dirty);
        if (w->ending && !w->barrier) {
            worker_close(w);
            continue;
        }
        settle_flush(w);
        drop_gone_targets(w);
        renew_credit(w);
        if (list_is_empty(&w->flights) && !timer_is_pending(&w->timer)) {
            timer_add(&broker->timers, &w->timer, broker_now_ms(broker) + WORKER_IDLE_MS, on_timer);
        }
    }
}

void dead_workers_free(struct broker *broker)
{
    LIST_FOREACH_SAFE(link, &broker->dead_workers) {
        worker_close(WR_CONTAINER_OF(link, struct dead_worker, link));
    }
}
