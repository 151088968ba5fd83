/*
 * What: x-recent-history: routes as fanout, and besides into the history of the exchange, a queue
 * that only the broker reads, unless the message says that it is not to be kept. Being kept is no
 * match: the alternate exchange gets what no binding took.
 * Failure modes: an exchange whose history is not made yet keeps nothing. Threads: constant data,
 * pure functions. Spec: AMQP reference §7, "Plugin types"; docs/routing.md.
 */
#include "internal.h"
#include "warren/wire_props.h"

/* RabbitMQ takes the integer types that have a sign, and no others. */
static bool is_length(const struct wire_value *value)
{
    switch (value->type) {
    case WIRE_FIELD_INT8:
    case WIRE_FIELD_INT16:
    case WIRE_FIELD_INT32:
    case WIRE_FIELD_INT64:
    case WIRE_FIELD_INT64_IN:
        return value->integer > 0;
    default:
        return false;
    }
}

static int history_validate(struct bytes arguments, struct strbuf *text)
{
    struct wire_value value;
    if (!wire_table_find(arguments, CATALOG_HISTORY_LENGTH, &value) || is_length(&value)) {
        return 0;
    }
    strbuf_add_cstr(text, "Invalid argument ");
    wire_describe_value(text, &value);
    strbuf_add_cstr(text, ", '" CATALOG_HISTORY_LENGTH "' must be a positive integer");
    return WR_E_INVALID;
}

static bool is_kept(const struct route_input *input)
{
    bool no_store = false;
    (void)wire_table_get_bool(wire_props_headers(input->props), "x-recent-history-no-store",
                              &no_store);
    return !no_store;
}

void route__keep(struct route_result *result, const struct catalog_exchange *exchange)
{
    struct route_scratch *s = result->scratch;
    const struct route_input *input = route__input(result);
    const struct catalog_queue *history = catalog_vhost_history(s->vhost, exchange->name);
    if (history == NULL || !is_kept(input)) {
        return;
    }
    const bool matched = s->matched;
    route__emit_queue(result, history);
    s->matched = matched;
    result->kept++;
}

static struct pref *history_add(struct pref *index, struct catalog_binding *binding)
{
    return route__fanout.add(index, binding);
}

static struct pref *history_remove(struct pref *index, struct catalog_binding *binding)
{
    return route__fanout.remove(index, binding);
}

static void history_route(const struct catalog_exchange *exchange, struct bytes key,
                          struct route_result *result)
{
    route__fanout.route(exchange, key, result);
}

const struct exchange_type route__recent_history = {
    .name = CATALOG_HISTORY_EXCHANGE,
    .keeps = true,
    .validate = history_validate,
    .add = history_add,
    .remove = history_remove,
    .route = history_route,
};
