/*
 * What: the memory that one thread's routing reuses from message to message. Two open-addressing
 * tables of ids do the de-duplication: an entry counts only when its epoch is the present one, so
 * nothing is cleared between messages. The queues' table also remembers where each queue is in the
 * view, so that a busy queue is looked up once per view.
 * Failure modes: none. Memory follows the number of queues and exchanges routed to.
 * Threads: each its own. Ids are log indexes, not chosen by clients: a fixed mix will do.
 */
#include "internal.h"

#define SLOTS_MIN 64u

static uint32_t mix(uint64_t id)
{
    return (uint32_t)((id * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

struct route_scratch *route__scratch_new(void)
{
    struct route_scratch *s = wr_calloc(1, sizeof(*s));
    s->slots = wr_calloc(SLOTS_MIN, sizeof(*s->slots));
    s->slot_mask = SLOTS_MIN - 1;
    return s;
}

void route__scratch_free(struct route_scratch *owned_scratch)
{
    struct route_scratch *s = owned_scratch;
    if (s == NULL) {
        return;
    }
    wr_free(s->slots);
    wr_free(s->visited.slots);
    wr_free(s->entered.slots);
    vec_deinit(&s->worklist);
    vec_deinit(&s->current);
    vec_deinit(&s->next);
    vec_deinit(&s->hashes);
    vec_deinit(&s->headers);
    vec_deinit(&s->candidates);
    wr_free(s);
}

void route__marks_clear(struct mark_set *set)
{
    set->epoch++;
}

static struct mark_slot *mark_find(struct mark_slot *slots, uint32_t mask, uint64_t id)
{
    uint32_t at = mix(id) & mask;
    while (slots[at].id != 0 && slots[at].id != id) {
        at = (at + 1) & mask;
    }
    return &slots[at];
}

/* Twice the slots, or as many when most are of former epochs. */
static void marks_rebuild(struct mark_set *set)
{
    const uint32_t old_count = set->slots == NULL ? 0 : set->mask + 1;
    uint32_t live = 0;
    for (uint32_t i = 0; i < old_count; i++) {
        live += set->slots[i].id != 0 && set->slots[i].epoch == set->epoch;
    }
    uint32_t count = SLOTS_MIN;
    while (count < live * 4) {
        count *= 2;
    }
    struct mark_slot *slots = wr_calloc(count, sizeof(*slots));
    for (uint32_t i = 0; i < old_count; i++) {
        if (set->slots[i].id != 0 && set->slots[i].epoch == set->epoch) {
            *mark_find(slots, count - 1, set->slots[i].id) = set->slots[i];
        }
    }
    wr_free(set->slots);
    set->slots = slots;
    set->mask = count - 1;
    set->used = live;
}

bool route__marks_add(struct mark_set *set, uint64_t id)
{
    WR_ASSERT(id != 0);
    if (set->slots == NULL || set->used * 2 > set->mask) {
        marks_rebuild(set);
    }
    struct mark_slot *slot = mark_find(set->slots, set->mask, id);
    if (slot->id == id && slot->epoch == set->epoch) {
        return false;
    }
    set->used += slot->id == 0;
    *slot = (struct mark_slot){id, set->epoch};
    return true;
}

static struct queue_slot *slot_find(struct queue_slot *slots, uint32_t mask, uint64_t id)
{
    uint32_t at = mix(id) & mask;
    while (slots[at].id != 0 && slots[at].id != id) {
        at = (at + 1) & mask;
    }
    return &slots[at];
}

/* More room, leaving out what was not seen in this view (deleted queues go that way). */
static void slots_rebuild(struct route_scratch *s)
{
    uint32_t live = 0;
    for (uint32_t i = 0; i <= s->slot_mask; i++) {
        live += s->slots[i].id != 0 && s->slots[i].serial == s->serial;
    }
    uint32_t count = SLOTS_MIN;
    while (count < live * 4) {
        count *= 2;
    }
    struct queue_slot *slots = wr_calloc(count, sizeof(*slots));
    for (uint32_t i = 0; i <= s->slot_mask; i++) {
        if (s->slots[i].id != 0 && s->slots[i].serial == s->serial) {
            *slot_find(slots, count - 1, s->slots[i].id) = s->slots[i];
        }
    }
    wr_free(s->slots);
    s->slots = slots;
    s->slot_mask = count - 1;
    s->slot_used = live;
}

static void push(struct route_result *result, const struct catalog_queue *queue)
{
    if (result->count == result->capacity) {
        result->capacity = result->capacity == 0 ? 16 : result->capacity * 2;
        result->queues =
            wr_realloc_array(result->queues, result->capacity, sizeof(*result->queues));
        result->delayed =
            wr_realloc_array(result->delayed, result->capacity, sizeof(*result->delayed));
    }
    result->queues[result->count] = queue;
    result->delayed[result->count++] = result->scratch->delayed;
}

/* The slot of a queue, made when it is not there. */
static struct queue_slot *slot_of(struct route_scratch *s, uint64_t id)
{
    struct queue_slot *slot = slot_find(s->slots, s->slot_mask, id);
    if (WR_LIKELY(slot->id == id)) {
        return slot;
    }
    if (s->slot_used * 2 > s->slot_mask) {
        slots_rebuild(s);
        slot = slot_find(s->slots, s->slot_mask, id);
    }
    s->slot_used++;
    *slot = (struct queue_slot){.id = id};
    return slot;
}

/* Where the queue is in the view of the message. */
static const struct catalog_queue *slot_queue(struct route_scratch *s, struct queue_slot *slot)
{
    if (slot->serial != s->serial) {
        slot->queue = catalog_queue_by_id(s->view, slot->id);
        slot->serial = s->serial;
        WR_ASSERT(slot->queue != NULL); /* I4 of catalog.h */
    }
    return slot->queue;
}

const struct catalog_queue *route__queue(struct route_scratch *s, uint64_t id)
{
    return slot_queue(s, slot_of(s, id));
}

void route__emit_queue(struct route_result *result, const struct catalog_queue *queue)
{
    struct route_scratch *s = result->scratch;
    struct queue_slot *slot = slot_of(s, queue->id);
    s->matched = true;
    if (slot->epoch != s->epoch) {
        slot->epoch = s->epoch;
        slot->serial = s->serial;
        slot->queue = queue;
        push(result, queue);
    }
}

void route__emit_to(struct route_result *result, uint64_t queue_id)
{
    struct route_scratch *s = result->scratch;
    struct queue_slot *slot = slot_of(s, queue_id);
    s->matched = true;
    if (slot->epoch != s->epoch) {
        slot->epoch = s->epoch;
        push(result, slot_queue(s, slot));
    }
}

void route__emit(struct route_result *result, const struct catalog_binding *binding)
{
    struct route_scratch *s = result->scratch;
    if (binding->destination_kind == CATALOG_TO_QUEUE) {
        route__emit_to(result, binding->destination_id);
        return;
    }
    s->matched = true;
    if (route__marks_add(&s->visited, binding->destination_id)) {
        const struct catalog_exchange *e = catalog_vhost_exchange(s->vhost, binding->destination);
        WR_ASSERT(e != NULL && e->id == binding->destination_id);
        vec_push(&s->worklist, (struct route_step){e, s->delayed});
    }
}
