/*
 * What: x-delayed-message: routes as the type that the argument x-delayed-type names; what is
 * reached is marked as delayed. The queue machines keep the messages back.
 * Failure modes: without a known inner type (never accepted by the broker) nothing is routed.
 * Threads: constant data, pure functions. Spec: AMQP reference §7, "Plugin types".
 */
#include "internal.h"

#define DELAYED_NAME "x-delayed-message"
#define DELAYED(type)                                                                              \
    {                                                                                              \
        .name = DELAYED_NAME, .delays = true, .inner = &(type)                                     \
    }

/* One for each type that can be inside. */
static const struct exchange_type delayed_types[] = {
    DELAYED(route__direct),  DELAYED(route__fanout),          DELAYED(route__topic),
    DELAYED(route__headers), DELAYED(route__consistent_hash), DELAYED(route__modulus_hash),
    DELAYED(route__random),  DELAYED(route__local_random),
};

const struct exchange_type *route__delayed_find(struct bytes arguments)
{
    struct bytes name;
    if (!wire_table_get_string(arguments, "x-delayed-type", &name)) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof(delayed_types) / sizeof(delayed_types[0]); i++) {
        if (bytes_eq_cstr(name, delayed_types[i].inner->name)) {
            return &delayed_types[i];
        }
    }
    return NULL;
}

static int delayed_validate(struct bytes arguments, struct strbuf *text)
{
    struct bytes name;
    if (!wire_table_get_string(arguments, "x-delayed-type", &name)) {
        strbuf_add_cstr(text,
                        "Invalid argument, 'x-delayed-type' must be an existing exchange type");
        return WR_E_INVALID;
    }
    if (bytes_eq_cstr(name, DELAYED_NAME)) {
        strbuf_add_cstr(text,
                        "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'");
        return WR_E_INVALID;
    }
    const struct exchange_type *type = route__delayed_find(arguments);
    if (type == NULL) {
        strbuf_add_cstr(text, "unknown exchange type '");
        strbuf_add(text, name.data, name.size);
        strbuf_add_cstr(text, "'");
        return WR_E_INVALID;
    }
    return exchange_type_validate(type->inner, arguments, text);
}

const struct exchange_type route__delayed = {
    .name = DELAYED_NAME,
    .delays = true,
    .validate = delayed_validate,
};
