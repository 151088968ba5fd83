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
    struct umap vhost_ids; /* Ids seen: none may come twice. */
    struct umap exchange_ids;
    struct umap binding_ids;
    struct catalog_member members[CATALOG_REPLICAS_MAX];
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
    pmap_set_in(&vhost->exchanges, e->name, &e->ref);
    r->v->exchange_count++;
    pref_unref(&e->ref);
}

static void get_queue(struct restore *r, struct catalog_vhost *vhost)
{
    uint64_t id = 0;
    uint64_t version = 0;
    struct catalog_queue_spec spec = {0};
    walk_snapshot_queue(&r->k, &id, &version, &spec);
    if (!need(r, id >= 1 && id <= r->index && version >= id && version <= r->index) ||
        !need(r, catalog_queue_by_id(r->v, id) == NULL && bytes_eq(spec.vhost, vhost->name) &&
                     pmap_get(vhost->queues, spec.name) == NULL) ||
        !need(r, catalog__check_home(r->v, &spec) == CATALOG_OK)) {
        return;
    }
    struct catalog_queue *q = catalog__queue_new(id, vhost->id, version, &spec);
    const struct catalog_key key = catalog__key_id(id);
    catalog__count_load(r->v, q, 1);
    pmap_set_in(&vhost->queues, q->spec.name, &q->ref);
    pmap_set_in(&r->v->queues, catalog__key_bytes(&key), &q->ref);
    pref_unref(&q->ref);
}

static void get_vhost(struct restore *r)
{
    uint64_t id = 0;
    struct catalog_vhost_spec spec = {0};
    walk_record(&r->k, 4);
    walk_u64(&r->k, &id);
    walk_vhost_spec(&r->k, &spec);
    if (!need_id(r, &r->vhost_ids, id, id) || !need(r, catalog_vhost(r->v, spec.name) == NULL)) {
        return;
    }
    struct catalog_vhost *vhost = catalog__vhost_new(id, &spec);
    uint32_t count = 0;
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

static void get_user(struct restore *r)
{
    struct catalog_user_spec spec = {0};
    walk_record(&r->k, 2);
    walk_user_spec(&r->k, &spec);
    if (!need(r, spec.name.size > 0 && catalog_user(r->v, spec.name) == NULL)) {
        return;
    }
    struct catalog_user *user = catalog__user_new(&spec);
    uint32_t count = 0;
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
}

struct catalog_view *catalog__view_decode(const struct catalog *c, uint64_t index,
                                          struct bytes snapshot, int *ret_error)
{
    static const struct hash_seed seed = {UINT64_C(0x726573746f7265), UINT64_C(0x636174616c6f67)};
    struct restore r = {.c = c, .v = catalog__view_new(0), .index = index};
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
        if (need(&r, version == SNAPSHOT_VERSION && fields == (formed ? SNAPSHOT_FIELDS : 2)) &&
            formed) {
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
