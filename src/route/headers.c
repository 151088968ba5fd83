/*
 * What: headers exchanges: a message's headers are decoded once; most bindings are found by look-up
 * (headers_index.c), the others are compiled to a list of criteria and compared one by one.
 * Modes: x-match all (default), any: criteria whose names begin with "x-" do not count; all-with-x,
 * any-with-x: only x-match itself does not. A void value asks for presence only. With no criteria
 * all matches everything, any nothing. Failure modes: a broken headers table ends where it is
 * broken; broken arguments of a binding (never accepted by the broker) are criteria up to there.
 * Threads: indexes are immutable; any may read. Spec: AMQP reference §7.
 */
#include "headers.h"

#include <stdlib.h>

#include "warren/wire_props.h"

/* From this many fields on the message's headers are sorted. */
#define SORT_MIN 16

struct compiled {
    struct pref ref;
    struct catalog_binding *binding; /* Holds a reference; criteria are views into its arguments. */
    bool any;
    uint32_t count;
    struct criterion criteria[];
};

struct headers_bindings {
    struct pref ref;
    struct headers_index *found; /* by look-up */
    struct pmap *rest;           /* The others: binding id -> struct compiled. */
};

static bool parse_match(struct bytes text, bool *ret_any, bool *ret_with_x)
{
    static const struct {
        const char *text;
        bool any, with_x;
    } modes[] = {
        {"all", false, false},
        {"any", true, false},
        {"all-with-x", false, true},
        {"any-with-x", true, true},
    };
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (bytes_eq_cstr(text, modes[i].text)) {
            *ret_any = modes[i].any;
            *ret_with_x = modes[i].with_x;
            return true;
        }
    }
    return false;
}

static int headers_validate_binding(const struct route_binding *binding, struct strbuf *text)
{
    struct wire_value value;
    bool any = false;
    bool with_x = false;
    if (!wire_table_find(binding->arguments, "x-match", &value) ||
        (value.type == WIRE_FIELD_LONGSTR && parse_match(value.bytes, &any, &with_x))) {
        return 0;
    }
    if (value.type == WIRE_FIELD_LONGSTR) {
        strbuf_add_cstr(text, "Invalid x-match field value ");
        wire_describe_binary(text, value.bytes, value.bytes.size);
        strbuf_add_cstr(text, "; expected all, any, all-with-x, or any-with-x");
    } else {
        strbuf_printf(text, "Invalid x-match field type %s (value ", wire_field_name(value.type));
        if (value.type == WIRE_FIELD_VOID) {
            strbuf_add_cstr(text, "undefined");
        } else {
            wire_describe_value(text, &value);
        }
        strbuf_add_cstr(text, "); expected longstr");
    }
    return WR_E_INVALID;
}

static void compiled_free(struct pref *owned_ref)
{
    struct compiled *c = (struct compiled *)owned_ref;
    pref_unref(&c->binding->ref);
    wr_free(c);
}

struct headers_mode headers__mode(struct bytes arguments)
{
    struct headers_mode mode = {0};
    struct bytes match;
    if (wire_table_get_string(arguments, "x-match", &match)) {
        (void)parse_match(match, &mode.any, &mode.with_x);
    }
    return mode;
}

uint32_t headers__criteria(struct bytes arguments, struct headers_mode mode, struct criterion *out,
                           uint32_t max)
{
    uint32_t count = 0;
    struct wire_table_iter it;
    struct bytes key;
    struct wire_value value;
    wire_table_iter_init(&it, arguments);
    while (wire_table_iter_next(&it, &key, &value)) {
        const bool skipped = mode.with_x ? bytes_eq(key, BYTES_LITERAL("x-match"))
                                         : bytes_starts_with(key, BYTES_LITERAL("x-"));
        if (!skipped) {
            if (count < max) {
                out[count] = (struct criterion){key, value};
            }
            count++;
        }
    }
    return count;
}

static struct compiled *compile(struct catalog_binding *binding)
{
    const struct headers_mode mode = headers__mode(binding->arguments);
    const uint32_t count = headers__criteria(binding->arguments, mode, NULL, 0);
    struct compiled *c = wr_alloc(sizeof(*c) + count * sizeof(struct criterion));
    pref_init(&c->ref, compiled_free);
    (void)pref_ref(&binding->ref);
    c->binding = binding;
    c->any = mode.any;
    c->count = headers__criteria(binding->arguments, mode, c->criteria, count);
    return c;
}

static void bindings_free(struct pref *owned_ref)
{
    struct headers_bindings *index = (struct headers_bindings *)owned_ref;
    headers__index_unref(index->found);
    pmap_unref(index->rest);
    wr_free(index);
}

static struct pref *bindings_new(struct headers_index *owned_found, struct pmap *owned_rest)
{
    if (owned_found == NULL && owned_rest == NULL) {
        return NULL;
    }
    struct headers_bindings *index = wr_alloc(sizeof(*index));
    pref_init(&index->ref, bindings_free);
    index->found = owned_found;
    index->rest = owned_rest;
    return &index->ref;
}

static struct pref *headers_add(struct pref *index, struct catalog_binding *binding)
{
    const struct headers_bindings *before = (const struct headers_bindings *)index;
    struct headers_index *found = before == NULL ? NULL : before->found;
    struct pmap *rest = before == NULL ? NULL : before->rest;
    struct headers_index *after = NULL;
    if (headers__index_add(found, binding, &after)) {
        return bindings_new(after, pmap_ref(rest));
    }
    uint8_t id[8];
    bytes_store_be64(id, binding->id);
    struct compiled *c = compile(binding);
    struct pmap *changed = pmap_set(rest, bytes_make(id, sizeof(id)), &c->ref);
    pref_unref(&c->ref);
    return bindings_new(headers__index_ref(found), changed);
}

static struct pref *headers_remove(struct pref *index, struct catalog_binding *binding)
{
    WR_ASSERT(index != NULL);
    const struct headers_bindings *before = (const struct headers_bindings *)index;
    struct headers_index *after = NULL;
    if (headers__index_remove(before->found, binding, &after)) {
        return bindings_new(after, pmap_ref(before->rest));
    }
    uint8_t id[8];
    bytes_store_be64(id, binding->id);
    return bindings_new(headers__index_ref(before->found),
                        pmap_remove(before->rest, bytes_make(id, sizeof(id))));
}

static int compare_fields(const void *a, const void *b)
{
    const struct header_field *x = a;
    const struct header_field *y = b;
    const int order = bytes_cmp(x->key, y->key);
    /* The first field of a name counts. */
    return order != 0 ? order : (x->position > y->position) - (x->position < y->position);
}

static void decode_headers(struct route_scratch *s, struct bytes props)
{
    vec_clear(&s->headers);
    struct wire_table_iter it;
    struct bytes key;
    struct wire_value value;
    wire_table_iter_init(&it, wire_props_headers(props));
    while (wire_table_iter_next(&it, &key, &value)) {
        const uint32_t position = (uint32_t)s->headers.count;
        vec_push(&s->headers, (struct header_field){key, value, position});
    }
    if (s->headers.count >= SORT_MIN) {
        qsort(s->headers.items, s->headers.count, sizeof(*s->headers.items), compare_fields);
    }
}

const struct wire_value *headers__find(const struct route_scratch *s, struct bytes name)
{
    const struct header_field *items = s->headers.items;
    size_t begin = 0;
    size_t end = s->headers.count;
    if (end < SORT_MIN) {
        for (size_t i = 0; i < end; i++) {
            if (bytes_eq(items[i].key, name)) {
                return &items[i].value;
            }
        }
        return NULL;
    }
    while (begin < end) { /* the first that is not less */
        const size_t middle = begin + (end - begin) / 2;
        if (bytes_cmp(items[middle].key, name) < 0) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    const bool found = begin < s->headers.count && bytes_eq(items[begin].key, name);
    return found ? &items[begin].value : NULL;
}

static bool matches(const struct route_scratch *s, const struct compiled *c)
{
    for (uint32_t i = 0; i < c->count; i++) {
        const struct criterion *criterion = &c->criteria[i];
        const struct wire_value *value = headers__find(s, criterion->name);
        const bool met = value != NULL && (criterion->value.type == WIRE_FIELD_VOID ||
                                           wire_value_equal(&criterion->value, value));
        if (met == c->any) {
            return c->any;
        }
    }
    return !c->any;
}

static void headers_route(const struct catalog_exchange *exchange, struct bytes key,
                          struct route_result *result)
{
    (void)key;
    decode_headers(result->scratch, route__input(result)->props);
    const struct headers_bindings *index = (const struct headers_bindings *)exchange->index;
    headers__index_route(index->found, result);
    struct pmap_iter it;
    for (bool more = pmap_first(&it, index->rest); more; more = pmap_next(&it)) {
        const struct compiled *c = (const struct compiled *)it.value;
        if (matches(result->scratch, c)) {
            route__emit(result, c->binding);
        }
    }
}

const struct exchange_type route__headers = {
    .name = "headers",
    .by_key = false,
    .validate_binding = headers_validate_binding,
    .add = headers_add,
    .remove = headers_remove,
    .route = headers_route,
};
