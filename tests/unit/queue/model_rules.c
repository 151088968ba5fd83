/*
 * A naive queue: who gets which message when, and what time and limits do. See model.h. Written
 * from docs/queue-machine.md, not from src/queue.
 */
#include "model.h"

#include <criterion/criterion.h>

bool model_sealed(const struct model *m)
{
    return m->unused || m->sealed_by >= 0;
}

uint64_t model_client_id(uint32_t index)
{
    return (uint64_t)(index / MODEL_NUMBERS + 1) << 32 | (index % MODEL_NUMBERS + 1);
}

uint32_t model_boot_of(uint32_t client)
{
    return client / MODEL_NUMBERS + 1;
}

struct model_event *model_event(struct model *m, uint8_t kind, uint32_t client)
{
    cr_assert_lt(m->events->count, MODEL_EVENTS);
    struct model_event *e = &m->events->items[m->events->count++];
    *e = (struct model_event){.kind = kind, .client = model_client_id(client)};
    return e;
}

uint32_t model_attached(const struct model *m)
{
    uint32_t count = 0;
    for (uint32_t c = 0; c < MODEL_CLIENTS; c++) {
        for (uint32_t i = 0; i < MODEL_CONSUMERS; i++) {
            const struct model_consumer *k = &m->clients[c].consumers[i];
            count += k->attached && !k->dead ? 1 : 0;
        }
    }
    return count;
}

uint64_t model_ready(const struct model *m)
{
    uint64_t count = 0;
    for (uint64_t p = 1; p < m->next_position; p++) {
        count += m->messages[p].place == MODEL_READY ? 1 : 0;
    }
    return count;
}

uint64_t model_bytes(const struct model *m)
{
    uint64_t bytes = 0;
    for (uint64_t p = 1; p < m->next_position; p++) {
        bytes += m->messages[p].place == MODEL_READY ? m->messages[p].size : 0;
    }
    return bytes;
}

uint64_t model_unacked(const struct model *m, uint32_t client, uint32_t consumer)
{
    uint64_t count = 0;
    for (uint64_t p = 1; p < m->next_position; p++) {
        const struct model_message *x = &m->messages[p];
        count += x->place == MODEL_UNACKED && x->client == client && x->consumer == consumer;
    }
    return count;
}

/* The best consumer that may be the single active one: highest priority, longest attached. */
static struct model_consumer *best_consumer(struct model *m, uint32_t *ret_client, uint32_t *ret_id)
{
    struct model_consumer *best = NULL;
    for (uint32_t c = 0; c < MODEL_CLIENTS; c++) {
        for (uint32_t i = 1; i < MODEL_CONSUMERS; i++) {
            struct model_consumer *k = &m->clients[c].consumers[i];
            if (k->attached && !k->dead && !m->suspended[model_boot_of(c)] &&
                (best == NULL || k->priority > best->priority ||
                 (k->priority == best->priority && k->attach < best->attach))) {
                best = k;
                *ret_client = c;
                *ret_id = i;
            }
        }
    }
    return best;
}

void model_update_active(struct model *m)
{
    uint32_t client = 0;
    uint32_t id = 0;
    struct model_consumer *best = best_consumer(m, &client, &id);
    if (!m->config.single_active_consumer) {
        return;
    }
    if (m->active != NULL && m->active->attached &&
        !m->suspended[model_boot_of(m->active_client)] &&
        (m->config.active_stays || best->priority <= m->active->priority ||
         model_unacked(m, m->active_client, m->active_id) > 0)) {
        return;
    }
    m->active = best;
    m->active_client = client;
    m->active_id = id;
}

/* Where only one is active: not this one, or it, but a better one waits. */
static bool is_barred(const struct model *m, const struct model_consumer *k)
{
    uint32_t client;
    uint32_t id;
    const struct model_consumer *best = best_consumer((struct model *)(uintptr_t)m, &client, &id);
    return m->config.single_active_consumer &&
           (k != m->active ||
            (best != NULL && best->priority > k->priority && !m->config.active_stays));
}

static bool can_take(const struct model *m, uint32_t c, uint32_t i)
{
    const struct model_client *client = &m->clients[c];
    const struct model_consumer *k = &client->consumers[i];
    if (!k->attached || m->suspended[model_boot_of(c)] || k->delivered >= k->limit) {
        return false;
    }
    if (!k->dead && is_barred(m, k)) {
        return false;
    }
    if (k->no_ack) {
        return true;
    }
    if (k->prefetch > 0 && model_unacked(m, c, i) >= k->prefetch) {
        return false;
    }
    uint64_t held = 0;
    for (uint32_t j = 1; j < MODEL_CONSUMERS; j++) {
        const struct model_consumer *other = &client->consumers[j];
        held += other->dead || other->no_ack ? 0 : model_unacked(m, c, j);
    }
    return k->dead || client->limit == 0 || held < client->limit;
}

/* Whoever can take messages and could not before comes last in turn. */
void model_update_turns(struct model *m)
{
    for (uint32_t c = 0; c < MODEL_CLIENTS; c++) {
        for (uint32_t i = 1; i < MODEL_CONSUMERS; i++) {
            struct model_consumer *k = &m->clients[c].consumers[i];
            const bool can = k->attached && !k->dead && can_take(m, c, i);
            if (can && !k->eligible) {
                k->turn = ++m->turns;
            }
            k->eligible = can;
        }
    }
}

/* Whether message p is delivered before message q, both ready. */
static bool is_before(const struct model *m, uint64_t p, uint64_t q)
{
    const struct model_message *a = &m->messages[p];
    const struct model_message *b = &m->messages[q];
    if (a->level != b->level) {
        return a->level > b->level;
    }
    if (a->release != 0 && b->release != 0) {
        return a->release < b->release;
    }
    if (a->release != 0) {
        return q >= a->before; /* Behind all that was enqueued before its release. */
    }
    return b->release != 0 ? p < b->before : p < q;
}

uint64_t model_next_message(const struct model *m)
{
    uint64_t best = 0;
    for (uint64_t p = 1; p < m->next_position; p++) {
        if (m->messages[p].place == MODEL_READY && (best == 0 || is_before(m, p, best))) {
            best = p;
        }
    }
    return best;
}

void model_drop(struct model *m, uint64_t position)
{
    m->messages[position].place = MODEL_REMOVED;
    m->events->dropped[position] = 1;
}

void model_die(struct model *m, uint64_t position, uint8_t death)
{
    struct model_message *x = &m->messages[position];
    m->expired += death == QUEUE_DIED_EXPIRED ? 1 : 0;
    m->dropped += death == QUEUE_DIED_MAXLEN ? 1 : 0;
    x->place = MODEL_DEAD;
    x->death = death;
    x->died = m->now;
    if (!m->config.dead_letter) {
        model_drop(m, position);
    }
}

void model_put_back(struct model *m, uint64_t position, bool count)
{
    struct model_message *x = &m->messages[position];
    if (x->death != 0) {
        x->place = MODEL_DEAD;
        if (!m->config.dead_letter) {
            model_drop(m, position);
        }
        return;
    }
    x->place = MODEL_READY;
    x->delivery_count += count ? 1 : 0;
    if (count && m->config.delivery_limit >= 0 && x->delivery_count > m->config.delivery_limit) {
        model_die(m, position, QUEUE_DIED_DELIVERY_LIMIT);
    } else if (x->expiry <= m->now) {
        model_die(m, position, QUEUE_DIED_EXPIRED);
    }
}

void model_give(struct model *m, uint64_t position, uint32_t c, uint32_t i, bool no_ack)
{
    struct model_message *x = &m->messages[position];
    struct model_consumer *k = &m->clients[c].consumers[i];
    struct model_event *e = model_event(m, QUEUE_EFFECT_DELIVER, c);
    e->consumer = i;
    e->ordinal = ++k->delivered;
    e->position = position;
    if (x->death != 0) {
        e->flags = QUEUE_DEAD;
        e->status = x->death;
        e->value = x->died;
    } else {
        e->flags = no_ack ? QUEUE_NO_ACK : 0;
        e->delivery_count = x->delivery_count;
        m->delivered++;
        m->redelivered += x->delivery_count > 0 ? 1 : 0;
    }
    x->release = 0;
    if (no_ack) {
        model_drop(m, position);
    } else {
        x->place = MODEL_UNACKED;
        x->client = c;
        x->consumer = i;
        x->ordinal = k->delivered;
    }
}

void model_deliver(struct model *m)
{
    for (uint64_t p; !model_sealed(m) && (p = model_next_message(m)) != 0;) {
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
        model_give(m, p, best_client, best_id, best->no_ack && !best->settles);
        best->turn = ++m->turns;
        model_update_turns(m);
    }
}

/* The dead-letter consumer that attached last, of those whose node is up. */
bool model_taker(const struct model *m, uint32_t *ret_client, uint32_t *ret_consumer)
{
    uint64_t attach = 0;
    for (uint32_t c = 0; c < MODEL_CLIENTS; c++) {
        for (uint32_t i = 1; i < MODEL_CONSUMERS; i++) {
            const struct model_consumer *k = &m->clients[c].consumers[i];
            if (k->attached && k->dead && !m->suspended[model_boot_of(c)] && k->attach > attach) {
                attach = k->attach;
                *ret_client = c;
                *ret_consumer = i;
            }
        }
    }
    return attach > 0;
}

static uint64_t first_dead(const struct model *m)
{
    uint64_t p = 1;
    while (p < m->next_position && m->messages[p].place != MODEL_DEAD) {
        p++;
    }
    return p < m->next_position ? p : 0;
}

bool model_dead_due(const struct model *m)
{
    uint32_t c;
    uint32_t i;
    return first_dead(m) != 0 && !model_sealed(m) && !model_taker(m, &c, &i);
}

void model_deliver_dead(struct model *m)
{
    uint32_t c;
    uint32_t i;
    if (model_sealed(m) || !model_taker(m, &c, &i)) {
        return;
    }
    for (uint64_t p; (p = first_dead(m)) != 0 && can_take(m, c, i);) {
        model_give(m, p, c, i, false);
    }
}

void model_drop_over(struct model *m)
{
    while (m->config.overflow == QUEUE_DROP_HEAD &&
           (model_ready(m) > m->config.length_max || model_bytes(m) > m->config.bytes_max)) {
        model_die(m, model_next_message(m), QUEUE_DIED_MAXLEN);
    }
}

void model_expire(struct model *m)
{
    for (;;) {
        uint64_t next = 0;
        for (uint64_t p = 1; p < m->next_position; p++) {
            const struct model_message *x = &m->messages[p];
            if (x->place == MODEL_READY && x->expiry <= m->now &&
                (next == 0 || x->expiry < m->messages[next].expiry)) {
                next = p;
            }
        }
        if (next == 0) {
            return;
        }
        model_die(m, next, QUEUE_DIED_EXPIRED);
    }
}

static void release_due(struct model *m)
{
    for (;;) {
        uint64_t next = 0;
        for (uint64_t p = 1; p < m->next_position; p++) {
            const struct model_message *x = &m->messages[p];
            if (x->place == MODEL_DELAYED && x->due <= m->now &&
                (next == 0 || x->due < m->messages[next].due)) {
                next = p;
            }
        }
        if (next == 0) {
            return;
        }
        struct model_message *x = &m->messages[next];
        x->place = MODEL_READY;
        x->release = ++m->releases;
        x->before = m->next_position;
        x->expiry = x->ttl == MODEL_NEVER ? MODEL_NEVER : x->due + x->ttl;
    }
}

void model_forget_ids(struct model *m)
{
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        if (m->id_time[i] != MODEL_NEVER && m->now - m->id_time[i] >= m->config.dedup_window_ms) {
            m->id_time[i] = MODEL_NEVER;
        }
    }
}

static uint64_t lease_end(const struct model *m)
{
    if (m->unused || model_attached(m) > 0 || m->config.expires_ms == MODEL_NEVER) {
        return MODEL_NEVER;
    }
    return m->now == 0 ? 0 : m->used + m->config.expires_ms;
}

void model_check_lease(struct model *m)
{
    if (m->now > 0 && lease_end(m) <= m->now) {
        m->unused = true;
        m->unused_now = true;
    }
}

void model_pass_time(struct model *m, uint64_t now)
{
    if (now > m->now) {
        m->used = m->now == 0 ? now : m->used;
        m->now = now;
        release_due(m);
        model_expire(m);
        model_forget_ids(m);
    }
}

/* Whoever looks at the ready messages does not see expired ones: of those just published consumers
 * are given theirs, and the rest goes. */
void model_see_ready(struct model *m)
{
    for (uint64_t p = 1; p < m->next_position; p++) {
        if (m->messages[p].place == MODEL_READY && m->messages[p].expiry <= m->now) {
            model_deliver(m);
            model_expire(m);
            return;
        }
    }
}

uint64_t model_deadline(const struct model *m)
{
    uint64_t deadline = lease_end(m);
    for (uint64_t p = 1; p < m->next_position; p++) {
        const struct model_message *x = &m->messages[p];
        const uint64_t when = x->place == MODEL_READY     ? x->expiry
                              : x->place == MODEL_DELAYED ? x->due
                                                          : MODEL_NEVER;
        deadline = when < deadline ? when : deadline;
    }
    return deadline;
}

static void add_message(const struct model_message *x, struct queue_totals *t)
{
    if (x->place == MODEL_READY) {
        t->ready++;
        t->bytes_ready += x->size;
    } else if (x->place == MODEL_DELAYED) {
        t->delayed++;
    } else if (x->place != MODEL_REMOVED && x->death != 0) {
        t->dead++;
    } else if (x->place == MODEL_UNACKED) {
        t->unacked++;
        t->bytes_unacked += x->size;
    }
}

void model_totals(const struct model *m, struct queue_totals *ret_totals)
{
    struct queue_totals t = {
        .consumers = model_attached(m),
        .expired = m->expired,
        .dropped = m->dropped,
        .refused = m->refused,
        .duplicates = m->duplicates,
        .next_position = m->next_position,
        .lowest_position = m->next_position,
        .published = m->next_position - 1,
        .delivered = m->delivered,
        .acked = m->acked,
        .redelivered = m->redelivered,
    };
    for (uint64_t p = m->next_position; p-- > 1;) {
        add_message(&m->messages[p], &t);
        t.lowest_position = m->messages[p].place == MODEL_REMOVED ? t.lowest_position : p;
    }
    *ret_totals = t;
}
