/*
 * What: policies: put, delete, and which one applies to what. Happy path: a vhost keeps its
 * policies in the order in which they are tried (catalog_ranking); the first that matches applies.
 * A change of one policy looks only at what it applied to and at what it applies to now. Objects
 * whose policy changes are replaced, all others stay the same object.
 * Invariants: an object's policy is the first of its vhost's ranking that matches it
 * (catalog_check). The machine does not judge patterns and definitions: whether a pattern compiles
 * may depend on the library, and all nodes must answer alike. Threads: the machine's. Spec:
 * docs/policies.md.
 */
#include "internal.h"

#include "warren/wire_table.h"

static bool applies_to_queue(const struct catalog_policy *p, const struct catalog_queue *q)
{
    static const uint8_t kinds[] = {[CATALOG_CLASSIC] = CATALOG_APPLY_CLASSIC_QUEUES,
                                    [CATALOG_QUORUM] = CATALOG_APPLY_QUORUM_QUEUES,
                                    [CATALOG_STREAM] = CATALOG_APPLY_STREAMS};
    const uint8_t to = p->spec.apply_to;
    return (to == CATALOG_APPLY_ALL || to == CATALOG_APPLY_QUEUES || to == kinds[q->spec.type]) &&
           (p->applicable & (1u << q->spec.type)) != 0 && pattern_matches(p->pattern, q->spec.name);
}

static bool applies_to_exchange(const struct catalog_policy *p, const struct catalog_exchange *e)
{
    const uint8_t to = p->spec.apply_to;
    return (to == CATALOG_APPLY_ALL || to == CATALOG_APPLY_EXCHANGES) &&
           pattern_matches(p->pattern, e->name);
}

static struct catalog_policy *best_for_queue(const struct catalog_ranking *ranking,
                                             const struct catalog_queue *q)
{
    for (uint32_t i = 0; ranking != NULL && i < ranking->count; i++) {
        if (applies_to_queue(ranking->items[i], q)) {
            return ranking->items[i];
        }
    }
    return NULL;
}

static struct catalog_policy *best_for_exchange(const struct catalog_ranking *ranking,
                                                const struct catalog_exchange *e)
{
    for (uint32_t i = 0; ranking != NULL && i < ranking->count; i++) {
        if (applies_to_exchange(ranking->items[i], e)) {
            return ranking->items[i];
        }
    }
    return NULL;
}

void catalog__match_queue(const struct catalog_vhost *vhost, struct catalog_queue *queue)
{
    if (queue->spec.type != CATALOG_HISTORY &&
        (vhost->ranking != NULL || vhost->operator_ranking != NULL)) {
        catalog__queue_set_policies(queue, best_for_queue(vhost->ranking, queue),
                                    best_for_queue(vhost->operator_ranking, queue));
    }
}

void catalog_settings_of_new(const struct catalog_view *view, const struct catalog_queue_spec *spec,
                             struct queue_settings *ret)
{
    struct catalog_queue queue = {.spec = *spec};
    const struct catalog_vhost *vhost = catalog_vhost(view, spec->vhost);
    if (vhost != NULL && spec->type != CATALOG_HISTORY) {
        queue.policy = best_for_queue(vhost->ranking, &queue);
        queue.operator_policy = best_for_queue(vhost->operator_ranking, &queue);
    }
    catalog__settle(&queue);
    *ret = queue.settings;
}

void catalog__match_exchange(const struct catalog_vhost *vhost, struct catalog_exchange *exchange)
{
    if (vhost->ranking != NULL) {
        catalog__exchange_set_policy(exchange, best_for_exchange(vhost->ranking, exchange));
    }
}

static bool before_in_rank(const struct catalog_policy *a, const struct catalog_policy *b)
{
    return a->spec.priority != b->spec.priority ? a->spec.priority > b->spec.priority
                                                : bytes_cmp(a->spec.name, b->spec.name) < 0;
}

void catalog__rank(struct catalog_vhost *vhost, bool operator_policy)
{
    const struct pmap *policies = operator_policy ? vhost->operator_policies : vhost->policies;
    struct catalog_ranking **slot = operator_policy ? &vhost->operator_ranking : &vhost->ranking;
    struct catalog_ranking *ranking = NULL;
    if (policies != NULL) {
        ranking = catalog__ranking_new((uint32_t)pmap_count(policies));
        struct pmap_iter it;
        for (bool more = pmap_first(&it, policies); more; more = pmap_next(&it)) {
            struct catalog_policy *p = (struct catalog_policy *)it.value;
            uint32_t at = ranking->count++;
            for (; at > 0 && before_in_rank(p, ranking->items[at - 1]); at--) {
                ranking->items[at] = ranking->items[at - 1];
            }
            ranking->items[at] = p;
            (void)pref_ref(&p->ref);
        }
    }
    pref_unref(*slot == NULL ? NULL : &(*slot)->ref);
    *slot = ranking;
}

/* What changed: one policy of one kind; either side may be NULL. */
struct change {
    const struct catalog_policy *before;
    const struct catalog_policy *after;
    bool operator_policy;
};

static void rematch_queues(struct catalog *c, struct catalog_view *v, struct catalog_vhost *vhost,
                           const struct change *change)
{
    struct pmap *queues = pmap_ref(vhost->queues);
    struct pmap_iter it;
    for (bool more = pmap_first(&it, queues); more; more = pmap_next(&it)) {
        const struct catalog_queue *q = (const struct catalog_queue *)it.value;
        struct catalog_policy *had = change->operator_policy ? q->operator_policy : q->policy;
        if ((change->before == NULL || had != change->before) &&
            (change->after == NULL || !applies_to_queue(change->after, q))) {
            continue;
        }
        struct catalog_policy *now =
            best_for_queue(change->operator_policy ? vhost->operator_ranking : vhost->ranking, q);
        if (now == had) {
            continue;
        }
        struct catalog_queue *after = catalog__queue_with(q, q->replicas_version, &q->spec);
        catalog__queue_set_policies(after, change->operator_policy ? after->policy : now,
                                    change->operator_policy ? now : after->operator_policy);
        const struct catalog_key key = catalog__key_id(after->id);
        pmap_set_in(&vhost->queues, after->spec.name, &after->ref);
        pmap_set_in(&v->queues, catalog__key_bytes(&key), &after->ref);
        catalog__event(c, EVENT_QUEUE_POLICY_CHANGED, it.value, &after->ref);
        pref_unref(&after->ref);
    }
    pmap_unref(queues);
}

static void rematch_exchanges(struct catalog_vhost *vhost, const struct change *change)
{
    struct pmap *exchanges = pmap_ref(vhost->exchanges);
    struct pmap_iter it;
    for (bool more = pmap_first(&it, exchanges); more; more = pmap_next(&it)) {
        const struct catalog_exchange *e = (const struct catalog_exchange *)it.value;
        if ((change->before == NULL || e->policy != change->before) &&
            (change->after == NULL || !applies_to_exchange(change->after, e))) {
            continue;
        }
        struct catalog_policy *now = best_for_exchange(vhost->ranking, e);
        if (now != e->policy) {
            struct catalog_exchange *after = catalog__exchange_copy(e);
            catalog__exchange_set_policy(after, now);
            pmap_set_in(&vhost->exchanges, after->name, &after->ref);
            pref_unref(&after->ref);
        }
    }
    pmap_unref(exchanges);
}

/* Puts the policy in (after) or takes it out (NULL), with all that follows. */
static void replace(struct catalog *c, const struct catalog_vhost *before_vhost, struct bytes name,
                    bool operator_policy, struct catalog_policy *after)
{
    struct catalog_view *v = catalog__edit(c);
    struct catalog_vhost *vhost = catalog__vhost_copy(before_vhost);
    struct pmap **policies = operator_policy ? &vhost->operator_policies : &vhost->policies;
    struct catalog_policy *before = (struct catalog_policy *)pmap_get(*policies, name);
    if (before != NULL) {
        (void)pref_ref(&before->ref);
    }
    if (after != NULL) {
        pmap_set_in(policies, name, &after->ref);
    } else {
        pmap_remove_in(policies, name);
    }
    catalog__rank(vhost, operator_policy);
    const struct change change = {before, after, operator_policy};
    rematch_queues(c, v, vhost, &change);
    if (!operator_policy) {
        rematch_exchanges(vhost, &change);
    }
    catalog__put_vhost(v, vhost);
    pref_unref(before == NULL ? NULL : &before->ref);
}

bool catalog__policy_valid(const struct catalog_policy_spec *spec)
{
    return spec->definition.size > 0 && wire_table_validate(spec->definition, NULL) == WIRE_OK;
}

static bool same_policy(const struct catalog_policy_spec *a, const struct catalog_policy_spec *b)
{
    return bytes_eq(a->pattern, b->pattern) && bytes_eq(a->definition, b->definition) &&
           a->priority == b->priority && a->apply_to == b->apply_to;
}

int catalog__apply_put_policy(struct catalog *c, const struct catalog_policy_spec *spec)
{
    const struct catalog_vhost *vhost = catalog_vhost(c->view, spec->vhost);
    if (vhost == NULL) {
        return CATALOG_NO_VHOST;
    }
    if (!catalog__policy_valid(spec)) {
        return CATALOG_INVALID;
    }
    const struct catalog_policy *before =
        catalog_policy(c->view, spec->vhost, spec->name, spec->operator_policy);
    if (before != NULL && same_policy(&before->spec, spec)) {
        return CATALOG_OK;
    }
    struct catalog_policy *after = catalog__policy_new(spec);
    replace(c, vhost, spec->name, spec->operator_policy, after);
    pref_unref(&after->ref);
    return CATALOG_OK;
}

int catalog__apply_delete_policy(struct catalog *c, const struct catalog_policy_spec *spec)
{
    const struct catalog_vhost *vhost = catalog_vhost(c->view, spec->vhost);
    if (vhost == NULL) {
        return CATALOG_NO_VHOST;
    }
    if (catalog_policy(c->view, spec->vhost, spec->name, spec->operator_policy) == NULL) {
        return CATALOG_NOT_FOUND;
    }
    replace(c, vhost, spec->name, spec->operator_policy, NULL);
    return CATALOG_OK;
}
