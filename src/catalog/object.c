/*
 * What: making and freeing the catalog's objects. An object is one allocation: the struct, its
 * arrays, then its strings. Invariants: an object is complete before it is put into a table and
 * never changes afterwards; a copy is made to be changed before it is put in. Ownership: an object
 * owns its bytes and references of the maps and the index in it. Threads: freed on the thread that
 * drops the last view holding it.
 */
#include "internal.h"

/* Cursor over the memory behind a struct. */
struct tail {
    uint8_t *at;
};

static struct bytes tail_put(struct tail *tail, struct bytes b)
{
    const struct bytes copy = {tail->at, b.size};
    if (b.size > 0) {
        memcpy(tail->at, b.data, b.size);
        tail->at += b.size;
    }
    return copy;
}

static size_t tags_size(const struct catalog_tags *tags)
{
    size_t size = tags->count * sizeof(struct bytes);
    for (uint32_t i = 0; i < tags->count; i++) {
        size += tags->items[i].size;
    }
    return size;
}

/* Array and strings; the tail must be aligned for the array. */
static struct catalog_tags tail_put_tags(struct tail *tail, const struct catalog_tags *tags)
{
    struct bytes *items = (struct bytes *)(void *)tail->at;
    tail->at += tags->count * sizeof(struct bytes);
    for (uint32_t i = 0; i < tags->count; i++) {
        items[i] = tail_put(tail, tags->items[i]);
    }
    return (struct catalog_tags){tags->count, items};
}

static void plain_free(struct pref *owned_ref)
{
    wr_free(owned_ref); /* ref is the first member */
}

struct catalog_text *catalog__text_new(struct bytes text)
{
    struct catalog_text *t = wr_alloc(sizeof(*t) + text.size);
    struct tail tail = {(uint8_t *)(t + 1)};
    pref_init(&t->ref, plain_free);
    t->text = tail_put(&tail, text);
    return t;
}

static void binding_set_free(struct pref *owned_ref)
{
    struct binding_set *set = (struct binding_set *)owned_ref;
    pmap_unref(set->bindings);
    wr_free(set);
}

struct binding_set *catalog__binding_set_new(struct pmap *bindings)
{
    struct binding_set *set = wr_alloc(sizeof(*set));
    pref_init(&set->ref, binding_set_free);
    set->bindings = pmap_ref(bindings);
    return set;
}

struct catalog_node *catalog__node_new(const struct catalog_node_info *info)
{
    struct catalog_node *n = wr_alloc(sizeof(*n) + info->name.size + info->host.size);
    struct tail tail = {(uint8_t *)(n + 1)};
    memset(n, 0, sizeof(*n));
    pref_init(&n->ref, plain_free);
    n->info = *info;
    n->info.name = tail_put(&tail, info->name);
    n->info.host = tail_put(&tail, info->host);
    return n;
}

struct catalog_node *catalog__node_copy(const struct catalog_node *node)
{
    struct catalog_node *n = catalog__node_new(&node->info);
    n->boot = node->boot;
    n->running = node->running;
    n->start = node->start;
    n->joined = node->joined;
    n->replica_count = node->replica_count;
    n->leader_count = node->leader_count;
    n->local_count = node->local_count;
    return n;
}

static void ranking_unref(struct catalog_ranking *owned_ranking)
{
    pref_unref(owned_ranking == NULL ? NULL : &owned_ranking->ref);
}

static struct catalog_ranking *ranking_ref(struct catalog_ranking *ranking)
{
    if (ranking != NULL) {
        (void)pref_ref(&ranking->ref);
    }
    return ranking;
}

static void vhost_free(struct pref *owned_ref)
{
    struct catalog_vhost *v = (struct catalog_vhost *)owned_ref;
    pmap_unref(v->exchanges);
    pmap_unref(v->queues);
    pmap_unref(v->histories);
    pmap_unref(v->policies);
    pmap_unref(v->operator_policies);
    pmap_unref(v->parameters);
    ranking_unref(v->ranking);
    ranking_unref(v->operator_ranking);
    wr_free(v);
}

struct catalog_vhost *catalog__vhost_new(uint64_t id, const struct catalog_vhost_spec *spec)
{
    struct catalog_vhost *v = wr_alloc(sizeof(*v) + tags_size(&spec->tags) + spec->name.size +
                                       spec->description.size + spec->default_queue_type.size);
    struct tail tail = {(uint8_t *)(v + 1)};
    memset(v, 0, sizeof(*v));
    pref_init(&v->ref, vhost_free);
    v->id = id;
    v->limits = (struct catalog_vhost_limits){-1, -1};
    v->tags = tail_put_tags(&tail, &spec->tags);
    v->name = tail_put(&tail, spec->name);
    v->description = tail_put(&tail, spec->description);
    v->default_queue_type = tail_put(&tail, spec->default_queue_type);
    return v;
}

struct catalog_vhost_spec catalog__vhost_spec(const struct catalog_vhost *vhost)
{
    return (struct catalog_vhost_spec){vhost->name, vhost->description, vhost->default_queue_type,
                                       vhost->tags, false};
}

struct catalog_vhost *catalog__vhost_with(const struct catalog_vhost *vhost,
                                          const struct catalog_vhost_spec *spec)
{
    struct catalog_vhost *v = catalog__vhost_new(vhost->id, spec);
    v->exchanges = pmap_ref(vhost->exchanges);
    v->queues = pmap_ref(vhost->queues);
    v->histories = pmap_ref(vhost->histories);
    v->limits = vhost->limits;
    v->policies = pmap_ref(vhost->policies);
    v->operator_policies = pmap_ref(vhost->operator_policies);
    v->parameters = pmap_ref(vhost->parameters);
    v->ranking = ranking_ref(vhost->ranking);
    v->operator_ranking = ranking_ref(vhost->operator_ranking);
    v->connection_count = vhost->connection_count;
    return v;
}

struct catalog_vhost *catalog__vhost_copy(const struct catalog_vhost *vhost)
{
    const struct catalog_vhost_spec spec = catalog__vhost_spec(vhost);
    return catalog__vhost_with(vhost, &spec);
}

static void user_free(struct pref *owned_ref)
{
    struct catalog_user *u = (struct catalog_user *)owned_ref;
    pmap_unref(u->permissions);
    pmap_unref(u->topic_permissions);
    wr_free(u);
}

struct catalog_user *catalog__user_new(const struct catalog_user_spec *spec)
{
    struct catalog_user *u =
        wr_alloc(sizeof(*u) + tags_size(&spec->tags) + spec->name.size + spec->password_hash.size);
    struct tail tail = {(uint8_t *)(u + 1)};
    memset(u, 0, sizeof(*u));
    pref_init(&u->ref, user_free);
    u->limits = (struct catalog_user_limits){-1, -1};
    u->tags = tail_put_tags(&tail, &spec->tags);
    u->name = tail_put(&tail, spec->name);
    u->password_hash = tail_put(&tail, spec->password_hash);
    u->hashing = spec->hashing;
    return u;
}

struct catalog_user_spec catalog__user_spec(const struct catalog_user *user)
{
    return (struct catalog_user_spec){user->name, user->password_hash, user->hashing, 0,
                                      user->tags};
}

struct catalog_user *catalog__user_with(const struct catalog_user *user,
                                        const struct catalog_user_spec *spec)
{
    struct catalog_user *u = catalog__user_new(spec);
    u->permissions = pmap_ref(user->permissions);
    u->created = user->created;
    u->limits = user->limits;
    u->topic_permissions = pmap_ref(user->topic_permissions);
    u->connection_count = user->connection_count;
    u->channel_count = user->channel_count;
    return u;
}

struct catalog_user *catalog__user_copy(const struct catalog_user *user)
{
    const struct catalog_user_spec spec = catalog__user_spec(user);
    return catalog__user_with(user, &spec);
}

struct catalog_permission *catalog__permission_new(struct bytes user, struct bytes vhost,
                                                   struct bytes configure, struct bytes write,
                                                   struct bytes read)
{
    struct catalog_permission *p =
        wr_alloc(sizeof(*p) + user.size + vhost.size + configure.size + write.size + read.size);
    struct tail tail = {(uint8_t *)(p + 1)};
    pref_init(&p->ref, plain_free);
    p->user = tail_put(&tail, user);
    p->vhost = tail_put(&tail, vhost);
    p->configure = tail_put(&tail, configure);
    p->write = tail_put(&tail, write);
    p->read = tail_put(&tail, read);
    return p;
}

struct catalog_topic_permission *
catalog__topic_permission_new(struct bytes user, struct bytes vhost, struct bytes exchange,
                              struct bytes write, struct bytes read)
{
    struct catalog_topic_permission *p =
        wr_alloc(sizeof(*p) + user.size + vhost.size + exchange.size + write.size + read.size);
    struct tail tail = {(uint8_t *)(p + 1)};
    pref_init(&p->ref, plain_free);
    p->user = tail_put(&tail, user);
    p->vhost = tail_put(&tail, vhost);
    p->exchange = tail_put(&tail, exchange);
    p->write = tail_put(&tail, write);
    p->read = tail_put(&tail, read);
    return p;
}

struct catalog_parameter *catalog__parameter_new(const struct catalog_parameter_spec *spec)
{
    struct catalog_parameter *p = wr_alloc(sizeof(*p) + spec->vhost.size + spec->component.size +
                                           spec->name.size + spec->value.size);
    struct tail tail = {(uint8_t *)(p + 1)};
    pref_init(&p->ref, plain_free);
    p->vhost = tail_put(&tail, spec->vhost);
    p->component = tail_put(&tail, spec->component);
    p->name = tail_put(&tail, spec->name);
    p->value = tail_put(&tail, spec->value);
    return p;
}

struct catalog_seat *catalog__seat_new(uint32_t boot, uint64_t connection, struct bytes vhost,
                                       struct bytes user, uint32_t channels)
{
    struct catalog_seat *s = wr_alloc(sizeof(*s) + vhost.size + user.size);
    struct tail tail = {(uint8_t *)(s + 1)};
    pref_init(&s->ref, plain_free);
    s->boot = boot;
    s->connection = connection;
    s->vhost = tail_put(&tail, vhost);
    s->user = tail_put(&tail, user);
    s->channels = channels;
    return s;
}

static void policy_free(struct pref *owned_ref)
{
    struct catalog_policy *p = (struct catalog_policy *)owned_ref;
    pattern_unref(p->pattern);
    wr_free(p);
}

struct catalog_policy *catalog__policy_new(const struct catalog_policy_spec *spec)
{
    struct catalog_policy *p = wr_alloc(sizeof(*p) + spec->vhost.size + spec->name.size +
                                        spec->pattern.size + spec->definition.size);
    struct tail tail = {(uint8_t *)(p + 1)};
    pref_init(&p->ref, policy_free);
    p->spec = *spec;
    p->spec.vhost = tail_put(&tail, spec->vhost);
    p->spec.name = tail_put(&tail, spec->name);
    p->spec.pattern = tail_put(&tail, spec->pattern);
    p->spec.definition = tail_put(&tail, spec->definition);
    /* The empty pattern of a policy is a search that always succeeds. */
    p->pattern = pattern_new(spec->pattern.size == 0 ? BYTES_LITERAL(".*") : spec->pattern);
    p->applicable = catalog__policy_applicable(p->spec.definition);
    return p;
}

static void ranking_free(struct pref *owned_ref)
{
    struct catalog_ranking *r = (struct catalog_ranking *)owned_ref;
    for (uint32_t i = 0; i < r->count; i++) {
        pref_unref(&r->items[i]->ref);
    }
    wr_free(r);
}

struct catalog_ranking *catalog__ranking_new(uint32_t count)
{
    struct catalog_ranking *r = wr_alloc(sizeof(*r) + count * sizeof(r->items[0]));
    pref_init(&r->ref, ranking_free);
    r->count = 0;
    return r;
}

static struct catalog_policy *policy_ref(struct catalog_policy *policy)
{
    if (policy != NULL) {
        (void)pref_ref(&policy->ref);
    }
    return policy;
}

static void policy_unref(struct catalog_policy *owned_policy)
{
    pref_unref(owned_policy == NULL ? NULL : &owned_policy->ref);
}

static void exchange_free(struct pref *owned_ref)
{
    struct catalog_exchange *e = (struct catalog_exchange *)owned_ref;
    policy_unref(e->policy);
    pmap_unref(e->bindings);
    pref_unref(e->index);
    wr_free(e);
}

struct catalog_exchange *catalog__exchange_new(uint64_t id, uint64_t vhost_id,
                                               const struct catalog_exchange_spec *spec)
{
    struct catalog_exchange *e = wr_alloc(sizeof(*e) + spec->vhost.size + spec->name.size +
                                          spec->type.size + spec->arguments.size);
    struct tail tail = {(uint8_t *)(e + 1)};
    pref_init(&e->ref, exchange_free);
    e->id = id;
    e->vhost_id = vhost_id;
    e->vhost = tail_put(&tail, spec->vhost);
    e->name = tail_put(&tail, spec->name);
    e->type = tail_put(&tail, spec->type);
    e->arguments = tail_put(&tail, spec->arguments);
    e->durable = spec->durable;
    e->auto_delete = spec->auto_delete;
    e->internal = spec->internal;
    e->predeclared = false;
    e->router = NULL;
    e->bindings = NULL;
    e->index = NULL;
    e->policy = NULL;
    e->has_alternate = catalog__alternate(e->arguments, NULL, &e->alternate);
    return e;
}

void catalog__exchange_set_policy(struct catalog_exchange *exchange, struct catalog_policy *policy)
{
    struct catalog_policy *before = exchange->policy;
    exchange->policy = policy_ref(policy);
    exchange->has_alternate = catalog__alternate(exchange->arguments, policy, &exchange->alternate);
    policy_unref(before);
}

struct catalog_exchange_spec catalog__exchange_spec(const struct catalog_exchange *exchange)
{
    return (struct catalog_exchange_spec){
        exchange->vhost,   exchange->name,        exchange->type,    exchange->arguments,
        exchange->durable, exchange->auto_delete, exchange->internal};
}

struct catalog_exchange *catalog__exchange_copy(const struct catalog_exchange *exchange)
{
    const struct catalog_exchange_spec spec = catalog__exchange_spec(exchange);
    struct catalog_exchange *e = catalog__exchange_new(exchange->id, exchange->vhost_id, &spec);
    e->predeclared = exchange->predeclared;
    e->router = exchange->router;
    e->bindings = pmap_ref(exchange->bindings);
    e->index = exchange->index == NULL ? NULL : pref_ref(exchange->index);
    catalog__exchange_set_policy(e, exchange->policy);
    return e;
}

/* Insertion sort by id: at most CATALOG_REPLICAS_MAX. */
static void members_sort(struct catalog_member *members, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        const struct catalog_member member = members[i];
        uint32_t at = i;
        for (; at > 0 && uid_cmp(members[at - 1].id, member.id) > 0; at--) {
            members[at] = members[at - 1];
        }
        members[at] = member;
    }
}

static void queue_free(struct pref *owned_ref)
{
    struct catalog_queue *q = (struct catalog_queue *)owned_ref;
    policy_unref(q->policy);
    policy_unref(q->operator_policy);
    wr_free(q);
}

void catalog__queue_set_policies(struct catalog_queue *queue, struct catalog_policy *policy,
                                 struct catalog_policy *operator_policy)
{
    struct catalog_policy *before = queue->policy;
    struct catalog_policy *operator_before = queue->operator_policy;
    queue->policy = policy_ref(policy);
    queue->operator_policy = policy_ref(operator_policy);
    catalog__settle(queue);
    policy_unref(before);
    policy_unref(operator_before);
}

static struct catalog_queue *queue_new(uint64_t id, uint64_t vhost_id, uint64_t version,
                                       const struct catalog_queue_spec *spec,
                                       struct catalog_members founders)
{
    const bool group = spec->run == CATALOG_RUN_GROUP;
    const uint32_t member_count = group ? spec->group.member_count : 0;
    const size_t members_size = (member_count + founders.count) * sizeof(struct catalog_member);
    struct catalog_queue *q = wr_alloc(sizeof(*q) + members_size + spec->vhost.size +
                                       spec->name.size + spec->arguments.size);
    struct catalog_member *members = (struct catalog_member *)(void *)(q + 1);
    struct tail tail = {(uint8_t *)(q + 1) + members_size};
    WR_ASSERT(founders.count == 0 || (group && version != id));
    memset(q, 0, sizeof(*q));
    pref_init(&q->ref, queue_free);
    q->id = id;
    q->vhost_id = vhost_id;
    q->replicas_version = version;
    q->spec.vhost = tail_put(&tail, spec->vhost);
    q->spec.name = tail_put(&tail, spec->name);
    q->spec.arguments = tail_put(&tail, spec->arguments);
    q->spec.type = spec->type;
    q->spec.run = spec->run;
    q->spec.durable = spec->durable;
    q->spec.exclusive = spec->exclusive;
    q->spec.auto_delete = spec->auto_delete;
    if (spec->exclusive) {
        q->spec.owner = spec->owner;
    }
    if (!group) {
        q->spec.local = spec->local;
        return q;
    }
    memcpy(members, spec->group.members, member_count * sizeof *members);
    members_sort(members, member_count);
    q->spec.group = spec->group;
    q->spec.group.members = members;
    if (founders.count > 0) {
        memcpy(members + member_count, founders.items, founders.count * sizeof *members);
        members_sort(members + member_count, founders.count);
        q->founders = (struct catalog_members){members + member_count, founders.count};
    }
    return q;
}

struct catalog_queue *catalog__queue_new(uint64_t id, uint64_t vhost_id, uint64_t version,
                                         const struct catalog_queue_spec *spec,
                                         struct catalog_members founders)
{
    struct catalog_queue *q = queue_new(id, vhost_id, version, spec, founders);
    catalog__settle(q);
    return q;
}

struct catalog_queue *catalog__queue_with(const struct catalog_queue *queue, uint64_t version,
                                          const struct catalog_queue_spec *spec)
{
    const struct catalog_members founders =
        version == queue->id ? (struct catalog_members){0} : catalog_queue_founders(queue);
    struct catalog_queue *q = queue_new(queue->id, queue->vhost_id, version, spec, founders);
    catalog__queue_set_policies(q, queue->policy, queue->operator_policy);
    return q;
}

struct catalog_binding_spec catalog__binding_spec(const struct catalog_binding *binding)
{
    return (struct catalog_binding_spec){binding->vhost,       binding->source,
                                         binding->destination, binding->key,
                                         binding->arguments,   binding->destination_kind};
}

struct catalog_binding *catalog__binding_new(uint64_t id, const struct catalog_binding_spec *spec,
                                             uint64_t source_id, uint64_t destination_id,
                                             bool durable)
{
    struct catalog_binding *b =
        wr_alloc(sizeof(*b) + spec->vhost.size + spec->source.size + spec->destination.size +
                 spec->key.size + spec->arguments.size);
    struct tail tail = {(uint8_t *)(b + 1)};
    pref_init(&b->ref, plain_free);
    b->id = id;
    b->source_id = source_id;
    b->destination_id = destination_id;
    b->destination_kind = spec->destination_kind;
    b->durable = durable;
    b->vhost = tail_put(&tail, spec->vhost);
    b->source = tail_put(&tail, spec->source);
    b->destination = tail_put(&tail, spec->destination);
    b->key = tail_put(&tail, spec->key);
    b->arguments = tail_put(&tail, spec->arguments);
    return b;
}
