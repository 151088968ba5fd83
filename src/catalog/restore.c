/*
 * What: a view from the bytes of a snapshot. Nothing in them is believed: every invariant that the
 * machine later relies on is checked here, so bytes of a stranger give WR_E_CORRUPT, never a crash.
 * Happy path: nodes, vhosts with exchanges and queues, users with permissions, bindings; each
 * object is put in as the commands would have, but in place, because nobody else sees the view yet.
 * Failure modes: WR_E_VERSION for a newer format, WR_E_CORRUPT for the rest; the half-built view is
 * dropped.
 * Threads: the machine's. Spec: docs/catalog.md, "Snapshot".
 */
#include "internal.h"
#include "snapshot.h"

#include "warren/map.h"

struct restore {
    const struct catalog *c;
    struct catalog_view *v;
    struct walk k;
    uint64_t index;
    uint64_t version; /* layout */
    struct proposer_vec *proposers;
    struct umap vhost_ids; /* Ids seen: none may come twice. */
    struct umap exchange_ids;
    struct umap binding_ids;
    struct catalog_member members[CATALOG_REPLICAS_MAX];
    struct catalog_member founders[CATALOG_REPLICAS_MAX];
    struct bytes tags[CATALOG_TAGS_MAX];
};

static bool ok(const struct restore *r)
{
    return walk_ok(&r->k);
}

/* Fails unless the condition holds; returns whether all is well so far. */
static bool need(struct restore *r, bool condition)
{
    if (!condition) {
        walk_fail(&r->k);
    }
    return ok(r);
}

static void need_limit(struct restore *r, int64_t limit)
{
    (void)need(r, r->version > SNAPSHOT_VERSION_4 || limit >= CATALOG_LIMIT_UNSET);
}

/* An id of an object made at or before the snapshot's index, and not seen before. */
static bool need_id(struct restore *r, struct umap *seen, uint64_t id, uint64_t index)
{
    bool is_new = false;
    if (ok(r)) {
        (void)umap_entry(seen, id, &is_new);
    }
    return need(r, is_new && index >= 1 && index <= r->index);
}

static void get_node(struct restore *r)
{
    struct catalog_node node = {0};
    walk_snapshot_node(&r->k, &node);
    if (!need(r, node.boot < r->v->boot_next && (node.boot != 0 || !node.running)) ||
        !need(r, catalog_node(r->v, node.info.id) == NULL &&
                     catalog_node_by_name(r->v, node.info.name) == NULL &&
                     catalog_node_by_boot(r->v, node.boot) == NULL)) {
        return;
    }
    struct catalog_node *n = catalog__node_new(&node.info);
    n->boot = node.boot;
    n->running = node.running;
    n->start = node.start;
    n->joined = node.joined;
    catalog__put_node(r->v, n);
}

static void get_exchange(struct restore *r, struct catalog_vhost *vhost)
{
    uint64_t id = 0;
    bool predeclared = false;
    struct catalog_exchange_spec spec = {0};
    walk_snapshot_exchange(&r->k, &id, &predeclared, &spec);
    if (!need_id(r, &r->exchange_ids, id, id >> 4) ||
        !need(r,
              bytes_eq(spec.vhost, vhost->name) && pmap_get(vhost->exchanges, spec.name) == NULL)) {
        return;
    }
    struct catalog_exchange *e = catalog__exchange_new(id, vhost->id, &spec);
    e->predeclared = predeclared;
    catalog__find_router(r->c, e);
    catalog__match_exchange(vhost, e);
    pmap_set_in(&vhost->exchanges, e->name, &e->ref);
    r->v->exchange_count++;
    pref_unref(&e->ref);
}

/* Kept once others are wanted than it was declared with. */
static bool founders_valid(const struct catalog_queue_spec *spec,
                           const struct catalog_members *founders, bool as_declared)
{
    return founders->count == 0 || (spec->run == CATALOG_RUN_GROUP && !as_declared &&
                                    catalog__members_valid(founders->items, founders->count));
}

static void get_queue(struct restore *r, struct catalog_vhost *vhost)
{
    uint64_t id = 0;
    uint64_t version = 0;
    struct catalog_queue_spec spec = {0};
    struct catalog_members founders = {0};
    walk_snapshot_queue(&r->k, &id, &version, &spec,
                        r->version > SNAPSHOT_VERSION_3 ? &founders : NULL, r->founders);
    if (!need(r, id >= 1 && id <= r->index && version >= id && version <= r->index) ||
        !need(r, catalog_queue_by_id(r->v, id) == NULL && bytes_eq(spec.vhost, vhost->name) &&
                     pmap_get(*catalog__queue_table(vhost, spec.type), spec.name) == NULL) ||
        !need(r, catalog__check_history(vhost, &spec) == CATALOG_OK &&
                     catalog__check_home(r->v, &spec) == CATALOG_OK) ||
        !need(r, founders_valid(&spec, &founders, version == id))) {
        return;
    }
    struct catalog_queue *q = catalog__queue_new(id, vhost->id, version, &spec, founders);
    catalog__match_queue(vhost, q);
    const struct catalog_key key = catalog__key_id(id);
    catalog__count_load(r->v, q, 1);
    pmap_set_in(catalog__queue_table(vhost, q->spec.type), q->spec.name, &q->ref);
    pmap_set_in(&r->v->queues, catalog__key_bytes(&key), &q->ref);
    pref_unref(&q->ref);
}

static void get_policies(struct restore *r, struct catalog_vhost *vhost, bool operator_policy)
{
    struct pmap **policies = operator_policy ? &vhost->operator_policies : &vhost->policies;
    uint32_t count = 0;
    walk_list(&r->k, &count, UINT32_MAX);
    for (uint32_t i = 0; i < count && ok(r); i++) {
        struct catalog_policy_spec spec = {0};
        walk_policy_spec(&r->k, &spec);
        if (need(r, bytes_eq(spec.vhost, vhost->name) && spec.operator_policy == operator_policy &&
                        pmap_get(*policies, spec.name) == NULL) &&
            need(r, catalog__policy_valid(&spec))) {
            struct catalog_policy *policy = catalog__policy_new(&spec);
            pmap_set_in(policies, policy->spec.name, &policy->ref);
            pref_unref(&policy->ref);
        }
    }
    catalog__rank(vhost, operator_policy);
}

static void get_parameters(struct restore *r, struct bytes vhost, struct pmap **parameters)
{
    uint32_t count = 0;
    walk_list(&r->k, &count, UINT32_MAX);
    for (uint32_t i = 0; i < count && ok(r); i++) {
        struct catalog_parameter_spec spec = {0};
        walk_parameter_spec(&r->k, &spec);
        const size_t before = pmap_count(*parameters);
        if (need(r, bytes_eq(spec.vhost, vhost) && catalog__parameter_valid(spec.value))) {
            catalog__add_parameter(parameters, &spec);
            (void)need(r, pmap_count(*parameters) == before + 1);
        }
    }
}

static void get_vhost(struct restore *r)
{
    uint64_t id = 0;
    struct catalog_vhost_spec spec = {0};
    walk_record(&r->k, r->version == SNAPSHOT_VERSION_1 ? 4 : 8);
    walk_u64(&r->k, &id);
    walk_vhost_spec(&r->k, &spec);
    if (!need_id(r, &r->vhost_ids, id, id) || !need(r, catalog_vhost(r->v, spec.name) == NULL)) {
        return;
    }
    struct catalog_vhost *vhost = catalog__vhost_new(id, &spec);
    uint32_t count = 0;
    if (r->version > SNAPSHOT_VERSION_1) {
        walk_vhost_limits(&r->k, &vhost->limits);
        need_limit(r, vhost->limits.connections_max);
        need_limit(r, vhost->limits.queues_max);
        get_policies(r, vhost, false);
        get_policies(r, vhost, true);
        get_parameters(r, vhost->name, &vhost->parameters);
    }
    walk_list(&r->k, &count, UINT32_MAX);
    for (uint32_t i = 0; i < count && ok(r); i++) {
        get_exchange(r, vhost);
    }
    count = 0;
    walk_list(&r->k, &count, UINT32_MAX);
    for (uint32_t i = 0; i < count && ok(r); i++) {
        get_queue(r, vhost);
    }
    catalog__put_vhost(r->v, vhost);
}

static void get_topic_permissions(struct restore *r, struct catalog_user *user)
{
    uint32_t count = 0;
    walk_list(&r->k, &count, UINT32_MAX);
    for (uint32_t i = 0; i < count && ok(r); i++) {
        struct snapshot_topic_permission s = {0};
        walk_snapshot_topic_permission(&r->k, &s);
        const size_t before = pmap_count(user->topic_permissions);
        if (need(r, catalog_vhost(r->v, s.vhost) != NULL)) {
            catalog__add_topic_permission(
                user,
                catalog__topic_permission_new(user->name, s.vhost, s.exchange, s.write, s.read));
            (void)need(r, pmap_count(user->topic_permissions) == before + 1);
        }
    }
}

static void get_seat(struct restore *r)
{
    struct catalog_seat s = {0};
    walk_snapshot_seat(&r->k, &s);
    if (!ok(r)) {
        return;
    }
    const struct catalog_node *node = catalog_node_by_boot(r->v, s.boot);
    if (need(r, node != NULL && node->running && catalog__seat_wanted(r->v, s.vhost, s.user)) &&
        need(r, catalog_seat(r->v, s.boot, s.connection) == NULL)) {
        catalog__put_seat(r->v,
                          catalog__seat_new(s.boot, s.connection, s.vhost, s.user, s.channels));
    }
}

static void get_user(struct restore *r)
{
    struct catalog_user_spec spec = {0};
    walk_record(&r->k, r->version == SNAPSHOT_VERSION_1 ? 2 : 4);
    walk_user_spec(&r->k, &spec);
    if (!need(r, spec.name.size > 0 && catalog_user(r->v, spec.name) == NULL)) {
        return;
    }
    struct catalog_user *user = catalog__user_new(&spec);
    const struct catalog_user *before = catalog_user(r->c->view, spec.name);
    user->created = before == NULL ? r->index : before->created;
    uint32_t count = 0;
    if (r->version > SNAPSHOT_VERSION_1) {
        walk_user_limits(&r->k, &user->limits);
        need_limit(r, user->limits.connections_max);
        need_limit(r, user->limits.channels_max);
    }
    walk_list(&r->k, &count, UINT32_MAX);
    for (uint32_t i = 0; i < count && ok(r); i++) {
        struct snapshot_permission s = {0};
        walk_snapshot_permission(&r->k, &s);
        if (need(r, catalog_vhost(r->v, s.vhost) != NULL) &&
            need(r, pmap_get(user->permissions, s.vhost) == NULL)) {
            struct catalog_permission *p =
                catalog__permission_new(user->name, s.vhost, s.configure, s.write, s.read);
            pmap_set_in(&user->permissions, p->vhost, &p->ref);
            pref_unref(&p->ref);
        }
    }
    if (r->version > SNAPSHOT_VERSION_1) {
        get_topic_permissions(r, user);
    }
    catalog__put_user(r->v, user);
}

/* Into the destination's set, in place: nobody else has seen it. */
static void link_private(struct restore *r, struct catalog_binding *b)
{
    const struct catalog_key key = catalog__key_destination(b->destination_kind, b->destination_id);
    struct binding_set *set =
        (struct binding_set *)pmap_get(r->v->destinations, catalog__key_bytes(&key));
    if (set == NULL) {
        catalog__link_destination(r->v, b);
        return;
    }
    const struct catalog_key id = catalog__key_id(b->id);
    pmap_set_in(&set->bindings, catalog__key_bytes(&id), &b->ref);
}

static void get_binding(struct restore *r, struct writer *w)
{
    uint64_t id = 0;
    struct catalog_binding_spec spec = {0};
    walk_record(&r->k, 2);
    walk_u64(&r->k, &id);
    walk_binding_spec(&r->k, &spec);
    if (!need_id(r, &r->binding_ids, id, id)) {
        return;
    }
    const struct catalog_exchange *source = NULL;
    uint64_t destination_id = 0;
    bool durable = false;
    if (!need(r,
              catalog__find_ends(r->v, &spec, &source, &destination_id, &durable) == CATALOG_OK)) {
        return;
    }
    catalog__binding_identity(w, source->id, spec.destination_kind, destination_id, spec.key,
                              spec.arguments);
    if (!need(r, pmap_get(source->bindings, writer_bytes(w)) == NULL)) {
        return;
    }
    struct catalog_binding *b =
        catalog__binding_new(id, &spec, source->id, destination_id, durable);
    catalog__exchange_add(r->c, (struct catalog_exchange *)(uintptr_t)source, writer_bytes(w), b);
    link_private(r, b);
    r->v->binding_count++;
    pref_unref(&b->ref);
}

static void get_all(struct restore *r)
{
    struct catalog_view *v = r->v;
    struct pack_reader *in = &r->k.reader;
    v->cluster = pack_get_uid(in);
    const struct bytes name = pack_get_bin(in, CATALOG_NAME_MAX);
    v->name = catalog__text_new(name);
    v->boot_next = (uint32_t)pack_get_uint(in, UINT32_MAX);
    (void)need(r, !uid_is_zero(v->cluster) && name.size > 0 && v->boot_next > 0);
    uint32_t count = pack_get_array(in, CATALOG_NODES_MAX);
    (void)need(r, count > 0);
    for (uint32_t i = 0; i < count && ok(r); i++) {
        get_node(r);
    }
    count = pack_get_array(in, UINT32_MAX);
    for (uint32_t i = 0; i < count && ok(r); i++) {
        get_vhost(r);
    }
    count = pack_get_array(in, UINT32_MAX);
    for (uint32_t i = 0; i < count && ok(r); i++) {
        get_user(r);
    }
    struct writer w;
    writer_init(&w, 256);
    count = pack_get_array(in, UINT32_MAX);
    for (uint32_t i = 0; i < count && ok(r); i++) {
        get_binding(r, &w);
    }
    writer_deinit(&w);
    if (r->version > SNAPSHOT_VERSION_1) {
        get_parameters(r, BYTES_NONE, &v->parameters);
        count = pack_get_array(in, UINT32_MAX);
        for (uint32_t i = 0; i < count && ok(r); i++) {
            get_seat(r);
        }
    }
    if (r->version > SNAPSHOT_VERSION_2 && ok(r)) {
        (void)need(r, catalog__proposers_get(&r->k, v, r->proposers));
    }
}

struct catalog_view *catalog__view_decode(const struct catalog *c, uint64_t index,
                                          struct bytes snapshot, struct proposer_vec *ret_proposers,
                                          int *ret_error)
{
    static const struct hash_seed seed = {UINT64_C(0x726573746f7265), UINT64_C(0x636174616c6f67)};
    struct restore r = {
        .c = c, .v = catalog__view_new(0), .index = index, .proposers = ret_proposers};
    r.k = walk_get(snapshot, r.members, r.tags);
    umap_init(&r.vhost_ids, seed);
    umap_init(&r.exchange_ids, seed);
    umap_init(&r.binding_ids, seed);
    int error = 0;
    const uint32_t fields = pack_get_array(&r.k.reader, UINT32_MAX);
    const uint64_t version = pack_get_uint(&r.k.reader, UINT64_MAX);
    if (ok(&r) && version > SNAPSHOT_VERSION) {
        error = WR_E_VERSION;
    } else {
        const bool formed = pack_get_bool(&r.k.reader);
        const uint32_t wanted = version == SNAPSHOT_VERSION_1   ? SNAPSHOT_FIELDS_1
                                : version == SNAPSHOT_VERSION_2 ? SNAPSHOT_FIELDS_2
                                                                : SNAPSHOT_FIELDS;
        r.version = version;
        if (need(&r, version >= SNAPSHOT_VERSION_1 && fields == (formed ? wanted : 2)) && formed) {
            get_all(&r);
        }
        error = ok(&r) && pack_done(&r.k.reader) ? 0 : WR_E_CORRUPT;
    }
    umap_deinit(&r.vhost_ids);
    umap_deinit(&r.exchange_ids);
    umap_deinit(&r.binding_ids);
    if (error != 0) {
        *ret_error = error;
        catalog_view_unref(r.v);
        return NULL;
    }
    return r.v;
}
