/*
 * What: headers bindings by look-up. Of x-match=any each criterion is a key of its own, (name,
 * value) or (name, presence). Those of x-match=all are grouped by shape, that is by the names they
 * ask for; in a shape the values together are the key. So a message costs two look-ups for each of
 * its headers and one for each shape, however many bindings there are.
 *
 * A key is made so that equal bytes are equal values, as wire_value_equal has it, and the reverse.
 * That is easily said for integers, booleans and strings; a binding with a criterion of another
 * kind (fractions, nested tables ...), with a name twice, or with very much in it is not taken: the
 * caller compares it one by one.
 * Invariants: H1 what a binding's keys are follows from its arguments alone. H2 a shape is there
 * while it has bindings. Threads: immutable; any may read and drop. Spec: docs/routing.md.
 */
#include "headers.h"

#include "keyed_targets.h"

#define CRITERIA_MAX 16u
#define KEY_MAX      1024u

struct key_text {
    size_t size;
    uint8_t data[KEY_MAX];
};

/* What a binding asks for: criteria by name. */
struct plan {
    struct headers_mode mode;
    uint32_t count;
    struct criterion criteria[CRITERIA_MAX];
};

/* The bindings that ask for the same names; the key of the map of shapes are these, and for which
 * of them only presence is asked. */
struct shape {
    struct pref ref;
    struct keymap *values; /* The values asked for, in the order of the names -> bindings. */
};

struct headers_index {
    struct pref ref;
    struct keymap *any;  /* name and value -> bindings */
    struct pmap *shapes; /* names -> struct shape */
};

/* --- keys ------------------------------------------------------------------------------------- */

static bool put(struct key_text *key, const void *data, size_t size)
{
    if (size > sizeof(key->data) - key->size) {
        return false;
    }
    if (size > 0) {
        memcpy(key->data + key->size, data, size);
    }
    key->size += size;
    return true;
}

static bool put_name(struct key_text *key, struct bytes name)
{
    const uint8_t size = (uint8_t)name.size; /* A table's keys have 255 bytes at most. */
    return put(key, &size, 1) && put(key, name.data, name.size);
}

static bool put_integer(struct key_text *key, int64_t number)
{
    uint8_t data[9] = {'i'};
    bytes_store_be64(data + 1, (uint64_t)number);
    return put(key, data, sizeof(data));
}

/* 1.0 equals 1: which integer a real is. */
static bool real_as_integer(const struct wire_value *value, int64_t *ret_number)
{
    if (!(value->real >= -0x1p63 && value->real < 0x1p63)) {
        return false;
    }
    const struct wire_value whole = {.type = WIRE_FIELD_INT64, .integer = (int64_t)value->real};
    *ret_number = whole.integer;
    return wire_value_equal(&whole, value);
}

/* False: this value equals none that is in an index. */
static bool put_value(struct key_text *key, const struct wire_value *value)
{
    int64_t number = 0;
    uint8_t head[5];
    if (wire_value_is_integer(value)) {
        return put_integer(key, value->integer);
    }
    switch (value->type) {
    case WIRE_FIELD_TIMESTAMP:
        return value->timestamp <= INT64_MAX && put_integer(key, (int64_t)value->timestamp);
    case WIRE_FIELD_FLOAT:
    case WIRE_FIELD_DOUBLE:
        return real_as_integer(value, &number) && put_integer(key, number);
    case WIRE_FIELD_BOOL:
        head[0] = value->boolean ? 't' : 'f';
        return put(key, head, 1);
    case WIRE_FIELD_LONGSTR:
    case WIRE_FIELD_BINARY:
        head[0] = 's';
        bytes_store_be32(head + 1, (uint32_t)value->bytes.size);
        return put(key, head, sizeof(head)) && put(key, value->bytes.data, value->bytes.size);
    default:
        return false;
    }
}

/* A real that is no integer equals other reals: nothing that an index can tell. */
static bool can_be_key(const struct wire_value *value)
{
    int64_t number = 0;
    switch (value->type) {
    case WIRE_FIELD_FLOAT:
    case WIRE_FIELD_DOUBLE:
        return real_as_integer(value, &number);
    case WIRE_FIELD_TIMESTAMP:
        return value->timestamp <= INT64_MAX;
    case WIRE_FIELD_DECIMAL:
    case WIRE_FIELD_ARRAY:
    case WIRE_FIELD_TABLE:
        return false;
    default:
        return true;
    }
}

static bool put_any(struct key_text *key, const struct criterion *criterion)
{
    key->size = 0;
    return put_name(key, criterion->name) &&
           (criterion->value.type == WIRE_FIELD_VOID ? put(key, "p", 1)
                                                     : put_value(key, &criterion->value));
}

static bool put_shape(struct key_text *key, const struct plan *plan)
{
    key->size = 0;
    for (uint32_t i = 0; i < plan->count; i++) {
        const bool presence = plan->criteria[i].value.type == WIRE_FIELD_VOID;
        if (!put(key, presence ? "p" : "v", 1) || !put_name(key, plan->criteria[i].name)) {
            return false;
        }
    }
    return true;
}

static bool put_values(struct key_text *key, const struct plan *plan)
{
    key->size = 0;
    for (uint32_t i = 0; i < plan->count; i++) {
        const struct wire_value *value = &plan->criteria[i].value;
        if (value->type != WIRE_FIELD_VOID && !put_value(key, value)) {
            return false;
        }
    }
    return true;
}

/* False: not by look-up. */
static bool plan_make(const struct catalog_binding *binding, struct plan *ret_plan)
{
    struct plan *plan = ret_plan;
    struct key_text key;
    plan->mode = headers__mode(binding->arguments);
    plan->count = headers__criteria(binding->arguments, plan->mode, plan->criteria, CRITERIA_MAX);
    if (plan->count > CRITERIA_MAX || (plan->mode.any && plan->count == 0)) {
        return false;
    }
    for (uint32_t i = 1; i < plan->count; i++) {
        const struct criterion moved = plan->criteria[i];
        uint32_t at = i;
        for (; at > 0 && bytes_cmp(plan->criteria[at - 1].name, moved.name) > 0; at--) {
            plan->criteria[at] = plan->criteria[at - 1];
        }
        plan->criteria[at] = moved;
    }
    for (uint32_t i = 0; i < plan->count; i++) {
        const bool twice = i > 0 && bytes_eq(plan->criteria[i - 1].name, plan->criteria[i].name);
        if (twice || !can_be_key(&plan->criteria[i].value) || !put_any(&key, &plan->criteria[i])) {
            return false;
        }
    }
    return plan->mode.any || (put_shape(&key, plan) && put_values(&key, plan));
}

static struct bytes key_bytes(const struct key_text *key)
{
    return (struct bytes){key->data, key->size};
}

/* --- changes ---------------------------------------------------------------------------------- */

static void index_free(struct pref *owned_ref)
{
    struct headers_index *index = (struct headers_index *)owned_ref;
    keymap_unref(index->any);
    pmap_unref(index->shapes);
    wr_free(index);
}

static struct headers_index *index_new(struct keymap *owned_any, struct pmap *owned_shapes)
{
    if (owned_any == NULL && owned_shapes == NULL) {
        return NULL;
    }
    struct headers_index *index = wr_alloc(sizeof(*index));
    pref_init(&index->ref, index_free);
    index->any = owned_any;
    index->shapes = owned_shapes;
    return index;
}

static void shape_free(struct pref *owned_ref)
{
    struct shape *shape = (struct shape *)owned_ref;
    keymap_unref(shape->values);
    wr_free(shape);
}

/* The shapes with other values for one of them; NULL: without it. */
static struct pmap *shapes_set(struct pmap *shapes, struct bytes names, struct keymap *owned_values)
{
    if (owned_values == NULL) {
        return pmap_remove(shapes, names);
    }
    struct shape *shape = wr_alloc(sizeof(*shape));
    pref_init(&shape->ref, shape_free);
    shape->values = owned_values;
    struct pmap *after = pmap_set(shapes, names, &shape->ref);
    pref_unref(&shape->ref);
    return after;
}

typedef struct keymap *(*change_fn)(struct keymap *map, struct bytes key,
                                    struct catalog_binding *binding);

static struct keymap *change_add(struct keymap *map, struct bytes key,
                                 struct catalog_binding *binding)
{
    return keyed_targets_add(map, key, binding);
}

static struct keymap *change_remove(struct keymap *map, struct bytes key,
                                    struct catalog_binding *binding)
{
    return keyed_targets_remove(map, key, binding);
}

static struct keymap *change_any(struct keymap *any, const struct plan *plan,
                                 struct catalog_binding *binding, change_fn change)
{
    struct keymap *after = keymap_ref(any);
    for (uint32_t i = 0; i < plan->count; i++) {
        struct key_text key;
        const bool fits = put_any(&key, &plan->criteria[i]);
        WR_ASSERT(fits); /* plan_make has tried. */
        struct keymap *next = change(after, key_bytes(&key), binding);
        keymap_unref(after);
        after = next;
    }
    return after;
}

static struct pmap *change_shape(struct pmap *shapes, const struct plan *plan,
                                 struct catalog_binding *binding, change_fn change)
{
    struct key_text names;
    struct key_text values;
    const bool fits = put_shape(&names, plan) && put_values(&values, plan);
    WR_ASSERT(fits);
    const struct shape *shape = (const struct shape *)pmap_get(shapes, key_bytes(&names));
    struct keymap *after =
        change(shape == NULL ? NULL : shape->values, key_bytes(&values), binding);
    return shapes_set(shapes, key_bytes(&names), after);
}

static bool index_change(struct headers_index *index, struct catalog_binding *binding,
                         change_fn change, struct headers_index **ret_index)
{
    struct plan plan;
    if (!plan_make(binding, &plan)) {
        return false;
    }
    struct keymap *any = index == NULL ? NULL : index->any;
    struct pmap *shapes = index == NULL ? NULL : index->shapes;
    *ret_index = plan.mode.any
                     ? index_new(change_any(any, &plan, binding, change), pmap_ref(shapes))
                     : index_new(keymap_ref(any), change_shape(shapes, &plan, binding, change));
    return true;
}

bool headers__index_add(struct headers_index *index, struct catalog_binding *binding,
                        struct headers_index **ret_index)
{
    return index_change(index, binding, change_add, ret_index);
}

bool headers__index_remove(struct headers_index *index, struct catalog_binding *binding,
                           struct headers_index **ret_index)
{
    return index_change(index, binding, change_remove, ret_index);
}

struct headers_index *headers__index_ref(struct headers_index *index)
{
    if (index != NULL) {
        (void)pref_ref(&index->ref);
    }
    return index;
}

void headers__index_unref(struct headers_index *owned_index)
{
    if (owned_index != NULL) {
        pref_unref(&owned_index->ref);
    }
}

/* --- routing ---------------------------------------------------------------------------------- */

/* The message's values for the names of a shape; false when one is not there or equals none. */
static bool message_values(const struct route_scratch *s, struct bytes names, struct key_text *key)
{
    key->size = 0;
    for (size_t at = 0; at < names.size;) {
        const struct bytes name = {names.data + at + 2, names.data[at + 1]};
        const struct wire_value *value = headers__find(s, name);
        if (value == NULL || (names.data[at] == 'v' && !put_value(key, value))) {
            return false;
        }
        at += 2 + name.size;
    }
    return true;
}

static void route_any(const struct keymap *any, struct route_result *result)
{
    const struct route_scratch *s = result->scratch;
    struct key_text key;
    for (size_t i = 0; i < s->headers.count; i++) {
        const struct header_field *field = &s->headers.items[i];
        if (headers__find(s, field->key) != &field->value) {
            continue; /* Of a name the first field counts. */
        }
        key.size = 0;
        (void)put_name(&key, field->key);
        const size_t size = key.size;
        (void)put(&key, "p", 1);
        keyed_targets_emit(any, key_bytes(&key), result);
        key.size = size;
        if (put_value(&key, &field->value)) {
            keyed_targets_emit(any, key_bytes(&key), result);
        }
    }
}

void headers__index_route(const struct headers_index *index, struct route_result *result)
{
    if (index == NULL) {
        return;
    }
    if (index->any != NULL) {
        route_any(index->any, result);
    }
    struct pmap_iter it;
    for (bool more = pmap_first(&it, index->shapes); more; more = pmap_next(&it)) {
        struct key_text key;
        if (message_values(result->scratch, it.key, &key)) {
            keyed_targets_emit(((const struct shape *)it.value)->values, key_bytes(&key), result);
        }
    }
}
