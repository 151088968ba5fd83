/* A naive queue: see model.h. Written from docs/queue-machine.md, not from src/queue. */
#include "model.h"

#include <criterion/criterion.h>

uint64_t model_client_id(uint32_t index)
{
    return (uint64_t)(index / MODEL_NUMBERS + 1) << 32 | (index % MODEL_NUMBERS + 1);
}

static uint32_t boot_of(uint32_t client)
{
    return client / MODEL_NUMBERS + 1;
}

void model_init(struct model *m, const struct queue_config *config)
{
    memset(m, 0, sizeof(*m));
    m->config = *config;
    m->sealed_by = -1;
    m->next_position = 1;
}

static bool sealed(const struct model *m)
{
    return m->unused || m->sealed_by >= 0;
}

static struct model_event *event(struct model *m, uint8_t kind, uint32_t client)
{
    cr_assert_lt(m->events->count, MODEL_EVENTS);
    struct model_event *e = &m->events->items[m->events->count++];
    *e = (struct model_event){.kind = kind, .client = model_client_id(client)};
    return e;
}

static uint32_t attached(const struct model *m)
{
    uint32_t count = 0;
    for (uint32_t c = 0; c < MODEL_CLIENTS; c++) {
        for (uint32_t i = 0; i < MODEL_CONSUMERS; i++) {
            count += m->clients[c].consumers[i].attached ? 1 : 0;
        }
    }
    return count;
}

static bool exclusively_used(const struct model *m)
{
    for (uint32_t c = 0; c < MODEL_CLIENTS; c++) {
        for (uint32_t i = 0; i < MODEL_CONSUMERS; i++) {
            if (m->clients[c].consumers[i].attached && m->clients[c].consumers[i].exclusive) {
                return true;
            }
        }
    }
    return false;
}

static uint64_t ready(const struct model *m)
{
    uint64_t count = 0;
    for (uint64_t p = 1; p < m->next_position; p++) {
        count += m->messages[p].place == MODEL_READY ? 1 : 0;
    }
    return count;
}

static uint64_t unacked(const struct model *m, uint32_t client, uint32_t consumer)
{
    uint64_t count = 0;
    for (uint64_t p = 1; p < m->next_position; p++) {
        const struct model_message *x = &m->messages[p];
        count += x->place == MODEL_UNACKED && x->client == client && x->consumer == consumer;
    }
    return count;
}

static bool can_take(const struct model *m, uint32_t c, uint32_t i)
{
    const struct model_client *client = &m->clients[c];
    const struct model_consumer *k = &client->consumers[i];
    if (!k->attached || m->suspended[boot_of(c)] || k->delivered >= k->limit) {
        return false;
    }
    if (k->no_ack) {
        return true;
    }
    if (k->prefetch > 0 && unacked(m, c, i) >= k->prefetch) {
        return false;
    }
    uint64_t held = 0;
    for (uint32_t j = 1; j < MODEL_CONSUMERS; j++) {
        held += unacked(m, c, j);
    }
    return client->limit == 0 || held < client->limit;
}

/* Whoever can take messages and could not before comes last in turn. */
static void update_turns(struct model *m)
{
    for (uint32_t c = 0; c < MODEL_CLIENTS; c++) {
        for (uint32_t i = 1; i < MODEL_CONSUMERS; i++) {
            struct model_consumer *k = &m->clients[c].consumers[i];
            const bool can = k->attached && can_take(m, c, i);
            if (can && !k->eligible) {
                k->turn = ++m->clock;
            }
            k->eligible = can;
        }
    }
}

static uint64_t next_message(const struct model *m)
{
    uint64_t best = 0;
    for (uint64_t p = m->next_position; p-- > 1;) {
        if (m->messages[p].place == MODEL_READY &&
            (best == 0 || m->messages[p].level >= m->messages[best].level)) {
            best = p;
        }
    }
    return best;
}

static void drop(struct model *m, uint64_t position)
{
    m->messages[position].place = MODEL_REMOVED;
    m->events->dropped[position] = 1;
}

static void put_back(struct model *m, uint64_t position, bool count)
{
    m->messages[position].place = MODEL_READY;
    m->messages[position].delivery_count += count ? 1 : 0;
}

static void give(struct model *m, uint64_t position, uint32_t c, uint32_t i, bool no_ack)
{
    struct model_message *x = &m->messages[position];
    struct model_consumer *k = &m->clients[c].consumers[i];
    struct model_event *e = event(m, QUEUE_EFFECT_DELIVER, c);
    e->consumer = i;
    e->ordinal = ++k->delivered;
    e->position = position;
    e->delivery_count = x->delivery_count;
    e->flags = no_ack ? QUEUE_NO_ACK : 0;
    m->delivered++;
    m->redelivered += x->delivery_count > 0 ? 1 : 0;
    if (no_ack) {
        drop(m, position);
    } else {
        x->place = MODEL_UNACKED;
        x->client = c;
        x->consumer = i;
        x->ordinal = k->delivered;
    }
}

static void deliver(struct model *m)
{
    for (uint64_t p; !sealed(m) && (p = next_message(m)) != 0;) {
        struct model_consumer *best = NULL;
        uint32_t best_client = 0;
        uint32_t best_id = 0;
        for (uint32_t c = 0; c < MODEL_CLIENTS; c++) {
            for (uint32_t i = 1; i < MODEL_CONSUMERS; i++) {
                struct model_consumer *k = &m->clients[c].consumers[i];
                if (k->eligible && (best == NULL || k->priority > best->priority ||
                                    (k->priority == best->priority && k->turn < best->turn))) {
                    best = k;
                    best_client = c;
                    best_id = i;
                }
            }
        }
        if (best == NULL) {
            return;
        }
        give(m, p, best_client, best_id, best->no_ack);
        best->turn = ++m->clock;
        update_turns(m);
    }
}

/* Detached and without messages: as if it had never been. */
static void reap(struct model *m, uint32_t c, uint32_t i)
{
    struct model_consumer *k = &m->clients[c].consumers[i];
    if (i != 0 && k->there && !k->attached && unacked(m, c, i) == 0) {
        *k = (struct model_consumer){.there = false};
    }
}

static void leave(struct model *m, uint32_t c, uint32_t i)
{
    struct model_consumer *k = &m->clients[c].consumers[i];
    if (k->attached) {
        k->attached = false;
        k->eligible = false;
        if (attached(m) == 0 && m->config.auto_delete && !m->unused) {
            m->unused = true;
            m->unused_now = true;
        }
    }
}

static void return_all(struct model *m, uint32_t c, uint32_t i)
{
    for (uint64_t p = 1; p < m->next_position; p++) {
        const struct model_message *x = &m->messages[p];
        if (x->place == MODEL_UNACKED && x->client == c && x->consumer == i) {
            put_back(m, p, true);
        }
    }
}

static void break_seal(struct model *m, uint32_t c)
{
    if (m->sealed_by == (int)c) {
        m->sealed_by = -1;
    }
}

static void close_client(struct model *m, uint32_t c)
{
    for (uint32_t i = 0; i < MODEL_CONSUMERS; i++) {
        leave(m, c, i);
        return_all(m, c, i);
    }
    break_seal(m, c);
    m->clients[c] = (struct model_client){.state = MODEL_CLOSED};
    bool others = false;
    for (uint32_t o = 0; o < MODEL_CLIENTS; o++) {
        others = others || (m->clients[o].state == MODEL_OPEN && boot_of(o) == boot_of(c));
    }
    m->suspended[boot_of(c)] = m->suspended[boot_of(c)] && others;
}

static void reply(struct model *m, uint32_t c, uint64_t seq, uint8_t status, uint64_t value)
{
    struct model_event *e = event(m, QUEUE_EFFECT_REPLY, c);
    e->seq = seq;
    e->status = status;
    e->value = value;
    e->value2 = attached(m);
    m->clients[c].reply = *e;
    m->clients[c].reply_ordinal = 0;
}

static void enqueue(struct model *m, const struct queue_op *op)
{
    if (sealed(m)) {
        return;
    }
    cr_assert_lt(m->next_position, MODEL_MESSAGES);
    const uint8_t priority = message_priority(&op->message);
    m->messages[m->next_position++] = (struct model_message){
        .place = MODEL_READY,
        .size = message_body_size(&op->message),
        .level = priority < m->config.priority_max ? priority : m->config.priority_max,
    };
}

static void attach(struct model *m, uint32_t c, const struct queue_op *op)
{
    struct model_consumer *k = &m->clients[c].consumers[op->consumer];
    const bool exclusive = (op->flags & QUEUE_EXCLUSIVE_CONSUMER) != 0;
    uint8_t status = QUEUE_OK;
    if (sealed(m)) {
        status = QUEUE_SEALED;
    } else if (op->consumer == 0 || k->there) {
        status = QUEUE_EXISTS;
    } else if (exclusively_used(m) || (exclusive && attached(m) > 0)) {
        status = QUEUE_IN_EXCLUSIVE_USE;
    } else {
        *k = (struct model_consumer){
            .there = true,
            .attached = true,
            .no_ack = (op->flags & QUEUE_NO_ACK) != 0,
            .exclusive = exclusive,
            .prefetch = op->prefetch,
            .priority = op->priority,
            .limit = op->limit,
        };
    }
    reply(m, c, op->seq, status, ready(m));
}

static void detach(struct model *m, uint32_t c, const struct queue_op *op)
{
    if (op->consumer != 0) {
        leave(m, c, op->consumer);
        if ((op->flags & QUEUE_DETACH_RETURN) != 0) {
            return_all(m, c, op->consumer);
        }
        reap(m, c, op->consumer);
    }
    reply(m, c, op->seq, QUEUE_OK, ready(m));
}

static void settle(struct model *m, uint32_t c, const struct queue_op *op)
{
    for (uint64_t p = 1; p < m->next_position; p++) {
        const struct model_message *x = &m->messages[p];
        if (x->place != MODEL_UNACKED || x->client != c || x->consumer != op->consumer ||
            x->ordinal < op->first || x->ordinal - op->first >= op->count) {
            continue;
        }
        if (op->outcome == QUEUE_ACK || op->outcome == QUEUE_REJECT) {
            m->acked += op->outcome == QUEUE_ACK ? 1 : 0;
            drop(m, p);
        } else {
            put_back(m, p, op->outcome == QUEUE_REQUEUE);
        }
    }
    reap(m, c, op->consumer);
}

static void get(struct model *m, uint32_t c, const struct queue_op *op)
{
    const uint64_t position = next_message(m);
    if (sealed(m) || position == 0) {
        reply(m, c, op->seq, sealed(m) ? QUEUE_SEALED : QUEUE_EMPTY, 0);
        return;
    }
    m->clients[c].consumers[0].there = true;
    give(m, position, c, 0, (op->flags & QUEUE_NO_ACK) != 0);
    reply(m, c, op->seq, QUEUE_OK, ready(m));
    m->clients[c].reply_ordinal = m->clients[c].consumers[0].delivered;
}

static void purge(struct model *m, uint32_t c, const struct queue_op *op)
{
    const uint64_t count = sealed(m) ? 0 : ready(m);
    for (uint64_t p = 1; p < m->next_position && !sealed(m); p++) {
        if (m->messages[p].place == MODEL_READY) {
            drop(m, p);
        }
    }
    reply(m, c, op->seq, sealed(m) ? QUEUE_SEALED : QUEUE_OK, count);
}

static void seal(struct model *m, uint32_t c, const struct queue_op *op)
{
    uint8_t status = QUEUE_OK;
    if (m->unused || (m->sealed_by >= 0 && m->sealed_by != (int)c)) {
        status = QUEUE_SEALED;
    } else if ((op->flags & QUEUE_IF_UNUSED) != 0 && attached(m) > 0) {
        status = QUEUE_IN_USE;
    } else if ((op->flags & QUEUE_IF_EMPTY) != 0 && ready(m) > 0) {
        status = QUEUE_NOT_EMPTY;
    } else if (!m->suspended[boot_of(c)]) {
        m->sealed_by = (int)c;
    }
    reply(m, c, op->seq, status, ready(m));
}

static void apply_op(struct model *m, uint32_t c, const struct queue_op *op)
{
    struct model_consumer *k = &m->clients[c].consumers[op->consumer];
    switch (op->kind) {
    case QUEUE_OP_ENQUEUE:
        enqueue(m, op);
        break;
    case QUEUE_OP_ATTACH:
        attach(m, c, op);
        break;
    case QUEUE_OP_DETACH:
        detach(m, c, op);
        break;
    case QUEUE_OP_CREDIT:
        if (k->attached) {
            k->limit = op->limit > k->delivered ? op->limit : k->delivered;
        }
        break;
    case QUEUE_OP_SETTLE:
        settle(m, c, op);
        break;
    case QUEUE_OP_GET:
        get(m, c, op);
        break;
    case QUEUE_OP_PURGE:
        purge(m, c, op);
        break;
    case QUEUE_OP_LIMIT:
        m->clients[c].limit = op->limit;
        break;
    case QUEUE_OP_SEAL:
        seal(m, c, op);
        break;
    case QUEUE_OP_UNSEAL:
        break_seal(m, c);
        break;
    case QUEUE_OP_CLOSE:
        close_client(m, c);
        break;
    default:
        cr_assert_fail("kind %d", op->kind);
    }
}

static void answer_again(struct model *m, uint32_t c, uint64_t seq)
{
    const struct model_client *client = &m->clients[c];
    if (client->reply.seq != seq) {
        return;
    }
    for (uint64_t p = 1; p < m->next_position; p++) {
        const struct model_message *x = &m->messages[p];
        if (x->place == MODEL_UNACKED && x->client == c && x->consumer == 0 &&
            x->ordinal == client->reply_ordinal) {
            struct model_event *e = event(m, QUEUE_EFFECT_DELIVER, c);
            e->ordinal = x->ordinal;
            e->position = p;
            e->delivery_count = x->delivery_count;
        }
    }
    *event(m, QUEUE_EFFECT_REPLY, c) = client->reply;
}

/* What happens to ops of a client that is not open; false: nothing more. */
static bool admit(struct model *m, uint32_t c, const struct queue_batch *batch)
{
    if (m->gone[boot_of(c)]) {
        return false;
    }
    if (m->clients[c].state == MODEL_UNKNOWN && batch->ops[0].seq == 1) {
        m->clients[c].state = MODEL_OPEN;
        return true;
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        const bool last = i == batch->count - 1;
        if (m->clients[c].state == MODEL_CLOSED ? last : batch->ops[i].kind == QUEUE_OP_CLOSE) {
            event(m, QUEUE_EFFECT_APPLIED, c)->seq = batch->ops[i].seq;
            break;
        }
    }
    return false;
}

static void apply_client(struct model *m, uint32_t c, const struct queue_batch *batch)
{
    struct model_client *client = &m->clients[c];
    if (client->state != MODEL_OPEN && !admit(m, c, batch)) {
        return;
    }
    uint64_t seq = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct queue_op *op = &batch->ops[i];
        if (op->seq > client->last_seq + 1) {
            break;
        }
        if (op->seq <= client->last_seq) {
            answer_again(m, c, op->seq);
        } else {
            client->last_seq = op->seq;
            apply_op(m, c, op);
            update_turns(m);
        }
        seq = client->last_seq;
        if (client->state == MODEL_CLOSED) {
            seq = op->seq;
            break;
        }
    }
    if (seq > 0) {
        event(m, QUEUE_EFFECT_APPLIED, c)->seq = seq;
    }
}

static void apply_host(struct model *m, const struct queue_op *op)
{
    const uint32_t boot = (uint32_t)op->first;
    bool present = false;
    for (uint32_t c = 0; c < MODEL_CLIENTS; c++) {
        present = present || (boot_of(c) == boot && m->clients[c].state == MODEL_OPEN);
    }
    m->suspended[boot] = op->kind == QUEUE_OP_NODE_DOWN ? present : false;
    m->gone[boot] = m->gone[boot] || op->kind == QUEUE_OP_NODE_GONE;
    for (uint32_t c = 0; c < MODEL_CLIENTS; c++) {
        if (boot_of(c) != boot || m->clients[c].state != MODEL_OPEN) {
            continue;
        }
        if (op->kind == QUEUE_OP_NODE_GONE) {
            close_client(m, c);
        } else if (op->kind == QUEUE_OP_NODE_DOWN) {
            for (uint32_t i = 0; i < MODEL_CONSUMERS; i++) {
                return_all(m, c, i);
                reap(m, c, i);
            }
            break_seal(m, c);
        }
    }
}

void model_apply(struct model *m, const struct queue_batch *batch, struct model_events *events)
{
    events->count = 0;
    memset(events->dropped, 0, sizeof(events->dropped));
    m->events = events;
    m->unused_now = false;
    if (batch->client == 0) {
        for (uint32_t i = 0; i < batch->count; i++) {
            apply_host(m, &batch->ops[i]);
            update_turns(m);
        }
    } else {
        const uint32_t boot = (uint32_t)(batch->client >> 32);
        const uint32_t number = (uint32_t)batch->client;
        apply_client(m, (boot - 1) * MODEL_NUMBERS + number - 1, batch);
    }
    deliver(m);
    if (m->unused_now) {
        event(m, QUEUE_EFFECT_UNUSED, 0)->client = 0;
    }
}

void model_totals(const struct model *m, struct queue_totals *ret_totals)
{
    struct queue_totals t = {
        .consumers = attached(m),
        .next_position = m->next_position,
        .lowest_position = m->next_position,
        .published = m->next_position - 1,
        .delivered = m->delivered,
        .acked = m->acked,
        .redelivered = m->redelivered,
    };
    for (uint64_t p = m->next_position; p-- > 1;) {
        const struct model_message *x = &m->messages[p];
        if (x->place == MODEL_READY) {
            t.ready++;
            t.bytes_ready += x->size;
        } else if (x->place == MODEL_UNACKED) {
            t.unacked++;
            t.bytes_unacked += x->size;
        }
        t.lowest_position = x->place == MODEL_REMOVED ? t.lowest_position : p;
    }
    *ret_totals = t;
}
