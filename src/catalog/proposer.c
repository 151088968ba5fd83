/*
 * What: who proposed what, so that a command counts once. A proposal whose outcome was not heard is
 * proposed again, and after a change of leader both copies may be in the log, the second one after
 * what others did meanwhile: applied again it would bring back a queue, a binding or a user that
 * was deleted since.
 *
 * Happy path: a command names its proposer (boot and shard), its number there, and the lowest
 * number that the proposer still waits for. A number that was applied answers what it answered then
 * and changes nothing; outcomes below the lowest are forgotten. Failure modes: a copy below it, or
 * of a boot that is over: LATE; nobody waits for its answer.
 *
 * Invariants: P1 proposers are sorted by boot and shard, their outcomes by number. P2 no outcome is
 * below its proposer's `settled`. P3 a proposer's boot runs.
 * Ownership: the machine owns the table. Threads: the machine's. Spec: docs/catalog.md, "Once";
 * Raft thesis 6.3.
 */
#include "internal.h"
#include "snapshot.h"
#include "walk.h"

static size_t place_of(const struct proposer_vec *all, uint32_t boot, uint32_t shard)
{
    size_t low = 0;
    size_t high = all->count;
    while (low < high) {
        const size_t mid = (low + high) / 2;
        const struct proposer *p = &all->items[mid];
        if (p->boot < boot || (p->boot == boot && p->shard < shard)) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* The first outcome with this number or a higher one. */
static size_t outcome_place(const struct proposer *p, uint64_t number)
{
    size_t low = 0;
    size_t high = p->outcomes.count;
    while (low < high) {
        const size_t mid = (low + high) / 2;
        if (p->outcomes.items[mid].number < number) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static struct proposer *proposer_of(struct proposer_vec *all, const struct catalog_proposer *by)
{
    const size_t at = place_of(all, by->boot, by->shard);
    if (at == all->count || all->items[at].boot != by->boot || all->items[at].shard != by->shard) {
        vec_insert(all, at, (struct proposer){.boot = by->boot, .shard = by->shard});
    }
    return &all->items[at];
}

static void settle(struct proposer *p, uint64_t settled)
{
    if (settled <= p->settled) {
        return;
    }
    const size_t gone = outcome_place(p, settled);
    p->settled = settled;
    if (gone > 0) { /* else there may be no outcomes at all, and nothing to move */
        p->outcomes.count -= gone;
        memmove(p->outcomes.items, p->outcomes.items + gone,
                p->outcomes.count * sizeof *p->outcomes.items);
    }
}

bool catalog__proposer_answers(struct catalog *c, const struct catalog_proposer *by,
                               struct catalog_result *ret_result)
{
    const struct catalog_node *node = catalog_node_by_boot(c->view, by->boot);
    ret_result->status = CATALOG_LATE;
    ret_result->id = 0;
    if (node == NULL || !node->running) {
        return true;
    }
    struct proposer *p = proposer_of(&c->proposers, by);
    settle(p, by->settled);
    if (by->number < p->settled) {
        return true;
    }
    const size_t at = outcome_place(p, by->number);
    if (at == p->outcomes.count || p->outcomes.items[at].number != by->number) {
        return false;
    }
    ret_result->status = p->outcomes.items[at].status;
    ret_result->id = p->outcomes.items[at].id;
    return true;
}

void catalog__proposer_note(struct catalog *c, const struct catalog_proposer *by,
                            const struct catalog_result *result)
{
    const struct catalog_node *node = catalog_node_by_boot(c->view, by->boot);
    if (node == NULL || !node->running) {
        return; /* its own command ended it */
    }
    struct proposer *p = proposer_of(&c->proposers, by);
    const size_t at = outcome_place(p, by->number);
    vec_insert(&p->outcomes, at,
               (struct outcome){by->number, result->id, (uint32_t)result->status});
}

void catalog__proposers_end(struct catalog *c, uint32_t boot)
{
    size_t at = place_of(&c->proposers, boot, 0);
    while (at < c->proposers.count && c->proposers.items[at].boot == boot) {
        vec_deinit(&c->proposers.items[at].outcomes);
        vec_remove(&c->proposers, at);
    }
}

void catalog__proposers_free(struct proposer_vec *proposers)
{
    for (size_t i = 0; i < proposers->count; i++) {
        vec_deinit(&proposers->items[i].outcomes);
    }
    vec_deinit(proposers);
}

/* --- snapshot -------------------------------------------------------------------------------- */

static void walk_head(struct walk *k, struct proposer *p)
{
    walk_record(k, 4);
    walk_u32(k, &p->boot);
    walk_u32(k, &p->shard);
    walk_u64(k, &p->settled);
}

static void walk_outcome(struct walk *k, struct outcome *o)
{
    walk_record(k, 3);
    walk_u64(k, &o->number);
    walk_u32(k, &o->status);
    walk_u64(k, &o->id);
}

void catalog__proposers_put(struct walk *k, const struct proposer_vec *proposers)
{
    pack_put_array(&k->writer, (uint32_t)proposers->count);
    for (size_t i = 0; i < proposers->count; i++) {
        struct proposer head = proposers->items[i];
        walk_head(k, &head);
        pack_put_array(&k->writer, (uint32_t)head.outcomes.count);
        for (size_t n = 0; n < head.outcomes.count; n++) {
            struct outcome copy = head.outcomes.items[n];
            walk_outcome(k, &copy);
        }
    }
}

static bool get_outcomes(struct walk *k, struct proposer *p)
{
    const uint32_t count = pack_get_array(&k->reader, UINT32_MAX);
    uint64_t lowest = p->settled;
    for (uint32_t i = 0; i < count && walk_ok(k); i++) {
        struct outcome o = {0};
        walk_outcome(k, &o);
        if (o.number < lowest || o.number == UINT64_MAX || o.status > INT32_MAX) {
            return false;
        }
        lowest = o.number + 1;
        vec_push(&p->outcomes, o);
    }
    return walk_ok(k);
}

/* P1 to P3 are checked: the bytes are believed no more than any others. */
bool catalog__proposers_get(struct walk *k, const struct catalog_view *v,
                            struct proposer_vec *ret_proposers)
{
    const uint32_t count = pack_get_array(&k->reader, UINT32_MAX);
    for (uint32_t i = 0; i < count && walk_ok(k); i++) {
        struct proposer head = {0};
        walk_head(k, &head);
        const struct catalog_node *node = walk_ok(k) ? catalog_node_by_boot(v, head.boot) : NULL;
        const size_t at = place_of(ret_proposers, head.boot, head.shard);
        const bool sorted = i == 0 || at == i;
        const struct proposer *last = i > 0 ? &ret_proposers->items[i - 1] : NULL;
        const bool twice = last != NULL && last->boot == head.boot && last->shard == head.shard;
        if (node == NULL || !node->running || !sorted || twice) {
            return false;
        }
        vec_push(ret_proposers, head);
        if (!get_outcomes(k, &ret_proposers->items[i])) {
            return false;
        }
    }
    return walk_ok(k);
}

void catalog__proposers_check(const struct catalog *c)
{
    for (size_t i = 0; i < c->proposers.count; i++) {
        const struct proposer *p = &c->proposers.items[i];
        const struct catalog_node *node = catalog_node_by_boot(c->view, p->boot);
        WR_ASSERT(node != NULL && node->running);
        WR_ASSERT_OP(place_of(&c->proposers, p->boot, p->shard), ==, i);
        for (size_t n = 0; n < p->outcomes.count; n++) {
            WR_ASSERT_OP(p->outcomes.items[n].number, >=, p->settled);
            WR_ASSERT_OP(outcome_place(p, p->outcomes.items[n].number), ==, n);
        }
    }
}
