/* A naive queue: the ops. See model.h. Written from docs/queue-machine.md, not from src/queue. */
#include "model.h"

#include <criterion/criterion.h>

void model_init(struct model *m, const struct queue_config *config)
{
    memset(m, 0, sizeof(*m));
    m->config = *config;
    m->sealed_by = -1;
    m->next_position = 1;
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        m->id_time[i] = MODEL_NEVER;
    }
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

/* Detached and without messages: as if it had never been. */
static void reap(struct model *m, uint32_t c, uint32_t i)
{
    struct model_consumer *k = &m->clients[c].consumers[i];
    if (i != 0 && k->there && !k->attached && model_unacked(m, c, i) == 0) {
        *k = (struct model_consumer){.there = false};
    }
}

static void leave(struct model *m, uint32_t c, uint32_t i)
{
    struct model_consumer *k = &m->clients[c].consumers[i];
    if (k->attached) {
        k->attached = false;
        k->eligible = false;
        if (k->dead) {
            return;
        }
        m->used = m->now;
        if (model_attached(m) == 0 && m->config.auto_delete && !m->unused) {
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
            model_put_back(m, p, true);
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
        others =
            others || (m->clients[o].state == MODEL_OPEN && model_boot_of(o) == model_boot_of(c));
    }
    m->suspended[model_boot_of(c)] = m->suspended[model_boot_of(c)] && others;
}

static void reply(struct model *m, uint32_t c, uint64_t seq, uint8_t status, uint64_t value)
{
    struct model_event *e = model_event(m, QUEUE_EFFECT_REPLY, c);
    e->seq = seq;
    e->status = status;
    e->value = value;
    e->value2 = model_attached(m);
    m->clients[c].reply = *e;
    m->clients[c].reply_ordinal = 0;
    m->clients[c].reply_taken = 0;
}

static bool is_duplicate(const struct model *m, const struct queue_op *op)
{
    return ((op->flags & QUEUE_HAS_PUBLISHER) != 0 &&
            m->published[op->name.data[0] - 'A'][op->first]) ||
           ((op->flags & QUEUE_HAS_ID) != 0 && m->id_time[op->args.data[0] - 'a'] != MODEL_NEVER);
}

static bool has_room(const struct model *m, const struct queue_op *op)
{
    return model_ready(m) + 1 <= m->config.length_max &&
           model_bytes(m) + message_body_size(&op->message) <= m->config.bytes_max;
}

/* Judged as if all before had been handed out. */
static bool is_full(struct model *m, const struct queue_op *op)
{
    if (m->config.overflow == QUEUE_DROP_HEAD || (op->flags & QUEUE_HAS_DELAY) != 0 ||
        has_room(m, op)) {
        return false;
    }
    model_deliver(m);
    model_expire(m);
    return !has_room(m, op);
}

static void refuse(struct model *m, uint32_t c, const struct queue_op *op)
{
    m->refused++;
    m->clients[c].refused[op->seq] = 1;
    m->events->nacked[op->seq] = 1;
    if (m->config.overflow == QUEUE_REJECT_PUBLISH_DLX && m->config.dead_letter) {
        m->messages[m->next_position++] = (struct model_message){
            .place = MODEL_DEAD,
            .death = QUEUE_DIED_MAXLEN,
            .died = m->now,
            .expiry = MODEL_NEVER,
        };
    }
}

static void remember(struct model *m, const struct queue_op *op)
{
    if ((op->flags & QUEUE_HAS_PUBLISHER) != 0) {
        m->published[op->name.data[0] - 'A'][op->first] = true;
    }
    if ((op->flags & QUEUE_HAS_ID) != 0 && m->config.dedup_window_ms > 0) {
        m->id_time[op->args.data[0] - 'a'] = m->now;
    }
}

static void enqueue(struct model *m, uint32_t c, const struct queue_op *op)
{
    const uint8_t priority = message_priority(&op->message);
    const uint64_t own = message_ttl_ms(&op->message);
    const uint64_t ttl = own < m->config.ttl_ms ? own : m->config.ttl_ms;
    if (model_sealed(m)) {
        return;
    }
    cr_assert_lt(m->next_position, MODEL_MESSAGES);
    if (is_duplicate(m, op)) {
        m->duplicates++;
        return;
    }
    if (is_full(m, op)) {
        refuse(m, c, op);
        return;
    }
    remember(m, op);
    struct model_message *x = &m->messages[m->next_position++];
    *x = (struct model_message){
        .place = MODEL_READY,
        .size = message_body_size(&op->message),
        .level = priority < m->config.priority_max ? priority : m->config.priority_max,
        .expiry = ttl == MODEL_NEVER ? MODEL_NEVER : m->now + ttl,
    };
    if ((op->flags & QUEUE_HAS_DELAY) != 0) {
        x->place = MODEL_DELAYED;
        x->ttl = ttl;
        x->due = m->now + op->limit;
        x->expiry = MODEL_NEVER;
    }
}

static void attach(struct model *m, uint32_t c, const struct queue_op *op)
{
    struct model_consumer *k = &m->clients[c].consumers[op->consumer];
    const bool dead = (op->flags & QUEUE_DEAD) != 0;
    const bool exclusive = !dead && (op->flags & QUEUE_EXCLUSIVE_CONSUMER) != 0;
    uint32_t other_client;
    uint32_t other;
    uint8_t status = QUEUE_OK;
    m->used = dead ? m->used : m->now;
    if (model_sealed(m)) {
        status = QUEUE_SEALED;
    } else if (op->consumer == 0 || k->there) {
        status = QUEUE_EXISTS;
    } else if (dead ? model_taker(m, &other_client, &other)
                    : exclusively_used(m) || (exclusive && model_attached(m) > 0)) {
        status = QUEUE_IN_EXCLUSIVE_USE;
    } else {
        *k = (struct model_consumer){
            .there = true,
            .attached = true,
            .no_ack = !dead && (op->flags & QUEUE_NO_ACK) != 0,
            .settles = !dead && (op->flags & QUEUE_NO_ACK) != 0 && (op->flags & QUEUE_SETTLES) != 0,
            .exclusive = exclusive,
            .dead = dead,
            .attach = ++m->attaches,
            .prefetch = op->prefetch,
            .priority = op->priority,
            .limit = op->limit,
        };
    }
    reply(m, c, op->seq, status, model_ready(m));
}

static void detach(struct model *m, uint32_t c, const struct queue_op *op)
{
    m->used = m->clients[c].consumers[op->consumer].dead ? m->used : m->now;
    if (op->consumer != 0) {
        leave(m, c, op->consumer);
        if ((op->flags & QUEUE_DETACH_RETURN) != 0) {
            return_all(m, c, op->consumer);
        }
        reap(m, c, op->consumer);
    }
    reply(m, c, op->seq, QUEUE_OK, model_ready(m));
}

static void settle(struct model *m, uint32_t c, const struct queue_op *op)
{
    for (uint64_t p = 1; p < m->next_position; p++) {
        const struct model_message *x = &m->messages[p];
        if (x->place != MODEL_UNACKED || x->client != c || x->consumer != op->consumer ||
            x->ordinal < op->first || x->ordinal - op->first >= op->count) {
            continue;
        }
        if (op->outcome == QUEUE_ACK) {
            m->acked += x->death == 0 ? 1 : 0;
            model_drop(m, p);
        } else if (op->outcome == QUEUE_REJECT && x->death == 0) {
            model_die(m, p, QUEUE_DIED_REJECTED);
        } else {
            model_put_back(m, p, op->outcome == QUEUE_REQUEUE);
        }
    }
    reap(m, c, op->consumer);
}

static void get(struct model *m, uint32_t c, const struct queue_op *op)
{
    if (model_sealed(m)) {
        reply(m, c, op->seq, QUEUE_SEALED, 0);
        return;
    }
    m->used = m->now;
    model_see_ready(m);
    const uint64_t position = model_next_message(m);
    if (position == 0) {
        reply(m, c, op->seq, QUEUE_EMPTY, 0);
        return;
    }
    m->clients[c].consumers[0].there = true;
    model_give(m, position, c, 0, (op->flags & QUEUE_NO_ACK) != 0);
    reply(m, c, op->seq, QUEUE_OK, model_ready(m));
    m->clients[c].reply_ordinal = m->clients[c].consumers[0].delivered;
    m->clients[c].reply_taken = 1;
}

static void purge(struct model *m, uint32_t c, const struct queue_op *op)
{
    uint64_t count = 0;
    for (uint64_t p = 1; p < m->next_position && !model_sealed(m); p++) {
        if (m->messages[p].place == MODEL_READY || m->messages[p].place == MODEL_DELAYED) {
            model_drop(m, p);
            count++;
        }
    }
    reply(m, c, op->seq, model_sealed(m) ? QUEUE_SEALED : QUEUE_OK, count);
}

/* Whether the message is in one of the places. */
static bool is_in(const struct model *m, uint64_t position, uint8_t places)
{
    switch (m->messages[position].place) {
    case MODEL_READY:
        return (places & QUEUE_PLACE_READY) != 0;
    case MODEL_DELAYED:
        return (places & QUEUE_PLACE_DELAYED) != 0;
    case MODEL_DEAD:
        return (places & QUEUE_PLACE_DEAD) != 0;
    case MODEL_REMOVED:
    case MODEL_UNACKED:
    default:
        return false;
    }
}

static void take(struct model *m, uint32_t c, const struct queue_op *op)
{
    const bool remove = (op->flags & QUEUE_NO_ACK) != 0;
    uint64_t count = 0;
    if (model_sealed(m)) {
        reply(m, c, op->seq, QUEUE_SEALED, 0);
        return;
    }
    model_see_ready(m);
    for (uint64_t p = 1; p < m->next_position; p++) {
        if (p < op->first || p - op->first >= op->count ||
            !is_in(m, p, remove ? op->outcome : QUEUE_PLACE_READY)) {
            continue;
        }
        count++;
        if (remove) {
            model_drop(m, p);
        } else {
            m->clients[c].consumers[0].there = true;
            model_give(m, p, c, 0, false);
        }
    }
    reply(m, c, op->seq, QUEUE_OK, count);
    if (!remove && count > 0) {
        m->clients[c].reply_ordinal = m->clients[c].consumers[0].delivered - count + 1;
        m->clients[c].reply_taken = count;
    }
}

static void peek(struct model *m, uint32_t c, const struct queue_op *op)
{
    uint64_t left = op->count;
    uint64_t p = op->first > 1 ? op->first : 1;
    if (model_sealed(m)) {
        reply(m, c, op->seq, QUEUE_SEALED, 0);
        return;
    }
    model_see_ready(m);
    for (; p < m->next_position; p++) {
        const struct model_message *x = &m->messages[p];
        if (!is_in(m, p, op->outcome)) {
            continue;
        }
        if (left-- == 0) {
            break;
        }
        struct model_event *e = model_event(m, QUEUE_EFFECT_PEEK, c);
        e->position = p;
        e->delivery_count = x->place == MODEL_READY ? x->delivery_count : 0;
        e->value = x->place == MODEL_READY ? x->expiry : x->place == MODEL_DEAD ? x->died : x->due;
        e->status = x->place == MODEL_READY  ? QUEUE_PLACE_READY
                    : x->place == MODEL_DEAD ? QUEUE_PLACE_DEAD
                                             : QUEUE_PLACE_DELAYED;
    }
    reply(m, c, op->seq, QUEUE_OK, p < m->next_position ? p : 0);
}

static uint64_t delayed(const struct model *m)
{
    uint64_t count = 0;
    for (uint64_t p = 1; p < m->next_position; p++) {
        count += m->messages[p].place == MODEL_DELAYED ? 1 : 0;
    }
    return count;
}

static void seal(struct model *m, uint32_t c, const struct queue_op *op)
{
    uint8_t status = QUEUE_OK;
    if (m->unused || (m->sealed_by >= 0 && m->sealed_by != (int)c)) {
        status = QUEUE_SEALED;
    } else if ((op->flags & QUEUE_IF_UNUSED) != 0 && model_attached(m) > 0) {
        status = QUEUE_IN_USE;
    } else if ((op->flags & QUEUE_IF_EMPTY) != 0 && model_ready(m) + delayed(m) > 0) {
        status = QUEUE_NOT_EMPTY;
    } else if (!m->suspended[model_boot_of(c)]) {
        m->sealed_by = (int)c;
    }
    reply(m, c, op->seq, status, model_ready(m));
}

static void apply_op(struct model *m, uint32_t c, const struct queue_op *op)
{
    struct model_consumer *k = &m->clients[c].consumers[op->consumer];
    switch (op->kind) {
    case QUEUE_OP_ENQUEUE:
        enqueue(m, c, op);
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
    case QUEUE_OP_TAKE:
        take(m, c, op);
        break;
    case QUEUE_OP_PEEK:
        peek(m, c, op);
        break;
    case QUEUE_OP_TOUCH:
        m->used = m->now;
        break;
    case QUEUE_OP_CLOSE:
        close_client(m, c);
        break;
    default:
        cr_assert_fail("kind %d", op->kind);
    }
}

static void answer_again(struct model *m, uint32_t c, const struct queue_op *op)
{
    const struct model_client *client = &m->clients[c];
    if (op->kind == QUEUE_OP_ENQUEUE && client->refused[op->seq] != 0) {
        m->events->nacked[op->seq] = 1;
    }
    if (client->reply.seq != op->seq) {
        return;
    }
    if (op->kind == QUEUE_OP_PEEK) {
        peek(m, c, op);
        return;
    }
    for (uint64_t o = client->reply_ordinal; o < client->reply_ordinal + client->reply_taken; o++) {
        for (uint64_t p = 1; p < m->next_position; p++) {
            const struct model_message *x = &m->messages[p];
            if (x->place == MODEL_UNACKED && x->client == c && x->consumer == 0 &&
                x->ordinal == o) {
                struct model_event *e = model_event(m, QUEUE_EFFECT_DELIVER, c);
                e->ordinal = x->ordinal;
                e->position = p;
                e->delivery_count = x->delivery_count;
            }
        }
    }
    *model_event(m, QUEUE_EFFECT_REPLY, c) = client->reply;
}

/* What happens to ops of a client that is not open; false: nothing more. */
static bool admit(struct model *m, uint32_t c, const struct queue_batch *batch)
{
    if (m->gone[model_boot_of(c)]) {
        return false;
    }
    if (m->clients[c].state == MODEL_UNKNOWN && batch->ops[0].seq == 1) {
        m->clients[c].state = MODEL_OPEN;
        return true;
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        const bool last = i == batch->count - 1;
        if (m->clients[c].state == MODEL_CLOSED ? last : batch->ops[i].kind == QUEUE_OP_CLOSE) {
            model_event(m, QUEUE_EFFECT_APPLIED, c)->seq = batch->ops[i].seq;
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
            answer_again(m, c, op);
        } else {
            client->last_seq = op->seq;
            apply_op(m, c, op);
            model_update_active(m);
            model_update_turns(m);
        }
        seq = client->last_seq;
        if (client->state == MODEL_CLOSED) {
            seq = op->seq;
            break;
        }
    }
    if (seq > 0) {
        model_event(m, QUEUE_EFFECT_APPLIED, c)->seq = seq;
    }
}

static void apply_node(struct model *m, const struct queue_op *op)
{
    const uint32_t boot = (uint32_t)op->first;
    bool present = false;
    for (uint32_t c = 0; c < MODEL_CLIENTS; c++) {
        present = present || (model_boot_of(c) == boot && m->clients[c].state == MODEL_OPEN);
    }
    m->suspended[boot] = op->kind == QUEUE_OP_NODE_DOWN ? present : false;
    m->gone[boot] = m->gone[boot] || op->kind == QUEUE_OP_NODE_GONE;
    for (uint32_t c = 0; c < MODEL_CLIENTS; c++) {
        if (model_boot_of(c) != boot || m->clients[c].state != MODEL_OPEN) {
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

static void configure(struct model *m)
{
    struct queue_config config = m->next_config;
    config.auto_delete = m->config.auto_delete;
    config.single_active_consumer = m->config.single_active_consumer;
    config.active_stays = m->config.active_stays;
    config.priority_max = m->config.priority_max;
    m->used = config.expires_ms == m->config.expires_ms ? m->used : m->now;
    m->config = config;
    for (uint64_t p = 1; p < m->next_position && !config.dead_letter; p++) {
        if (m->messages[p].place == MODEL_DEAD) {
            model_drop(m, p);
        }
    }
    model_forget_ids(m);
}

/* As if the next ones had been handed out and had come back, unless that has happened before. */
static void suspect(struct model *m, uint64_t count)
{
    static bool picked[MODEL_MESSAGES];
    memset(picked, 0, sizeof(picked));
    model_see_ready(m);
    for (uint64_t p; count > 0 && (p = model_next_message(m)) != 0; count--) {
        picked[p] = true;
        m->messages[p].place = MODEL_REMOVED;
    }
    for (uint64_t p = 1; p < m->next_position; p++) {
        struct model_message *x = &m->messages[p];
        if (picked[p]) {
            x->place = MODEL_READY;
            x->delivery_count = x->delivery_count > 0 ? x->delivery_count : 1;
            x->release = x->before = 0;
        }
    }
}

static void apply_host(struct model *m, const struct queue_op *op)
{
    if (op->kind == QUEUE_OP_CONFIG) {
        configure(m);
    } else if (op->kind == QUEUE_OP_RENEW) {
        m->used = m->now;
    } else if (op->kind == QUEUE_OP_SUSPECT) {
        suspect(m, op->count);
    } else if (op->kind != QUEUE_OP_EXPIRE) {
        apply_node(m, op);
    }
}

void model_apply(struct model *m, uint64_t now, const struct queue_batch *batch,
                 struct model_events *events)
{
    events->count = 0;
    memset(events->dropped, 0, sizeof(events->dropped));
    memset(events->nacked, 0, sizeof(events->nacked));
    m->events = events;
    m->unused_now = false;
    const bool dead_due = model_dead_due(m);
    model_pass_time(m, now);
    if (batch->client != 0 || batch->ops[0].kind != QUEUE_OP_RENEW) {
        model_check_lease(m);
    }
    if (batch->client == 0) {
        for (uint32_t i = 0; i < batch->count; i++) {
            apply_host(m, &batch->ops[i]);
            model_update_active(m);
            model_update_turns(m);
        }
    } else {
        const uint32_t boot = (uint32_t)(batch->client >> 32);
        const uint32_t number = (uint32_t)batch->client;
        apply_client(m, (boot - 1) * MODEL_NUMBERS + number - 1, batch);
    }
    model_deliver(m);
    model_expire(m);
    model_drop_over(m);
    model_deliver_dead(m);
    model_check_lease(m);
    if (!dead_due && model_dead_due(m)) {
        model_event(m, QUEUE_EFFECT_DEAD, 0)->client = 0;
    }
    if (m->unused_now) {
        model_event(m, QUEUE_EFFECT_UNUSED, 0)->client = 0;
    }
}
