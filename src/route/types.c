/*
 * What: the table of exchange types, and how the catalog reaches it.
 * To add a type: a struct exchange_type in a file of its own, and a line here.
 * Threads: constant data, pure functions.
 */
#include "internal.h"

static const struct exchange_type *const types[] = {
    &route__direct,          &route__fanout,       &route__topic,  &route__headers,
    &route__consistent_hash, &route__modulus_hash, &route__random, &route__local_random,
    &route__recent_history,  &route__delayed,
};

#define TYPE_COUNT (sizeof(types) / sizeof(types[0]))

const struct exchange_type *exchange_type_find(struct bytes name)
{
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        if (bytes_eq_cstr(name, types[i]->name)) {
            return types[i];
        }
    }
    return NULL;
}

const struct exchange_type *exchange_type_at(uint32_t i)
{
    return i < TYPE_COUNT ? types[i] : NULL;
}

const char *exchange_type_name(const struct exchange_type *type)
{
    return type->name;
}

int exchange_type_validate(const struct exchange_type *type, struct bytes arguments,
                           struct strbuf *text)
{
    return type->validate == NULL ? 0 : type->validate(arguments, text);
}

int route_validate_binding(const struct exchange_type *type, const struct route_binding *binding,
                           struct strbuf *text)
{
    const struct exchange_type *core = route__core(type);
    return core->validate_binding == NULL ? 0 : core->validate_binding(binding, text);
}

static const struct exchange_type *find_router(struct bytes type, struct bytes arguments)
{
    const struct exchange_type *found = exchange_type_find(type);
    return found == &route__delayed ? route__delayed_find(arguments) : found;
}

static struct pref *index_add(const struct exchange_type *type, struct pref *index,
                              struct catalog_binding *binding)
{
    return route__core(type)->add(index, binding);
}

static struct pref *index_remove(const struct exchange_type *type, struct pref *index,
                                 struct catalog_binding *binding)
{
    return route__core(type)->remove(index, binding);
}

const struct catalog_index_ops route_index_ops = {
    .find_type = find_router,
    .add = index_add,
    .remove = index_remove,
};
