/*
 * What: from an exchange to queues: the exchange, then breadth first the exchanges that it leads
 * to, each once; an exchange that matched nothing hands the message to its alternate exchange.
 * Failure modes: none. A type that this build does not know, and an alternate exchange that does
 * not exist, route nothing. Threads: each has its own result; the view is shared. Spec: AMQP
 * reference §7; docs/routing.md.
 */
#include "internal.h"

void route_result_init(struct route_result *result)
{
    *result = (struct route_result){.scratch = route__scratch_new()};
}

void route_result_deinit(struct route_result *result)
{
    wr_free(result->queues);
    wr_free(result->delayed);
    route__scratch_free(result->scratch);
    *result = (struct route_result){0};
}

bool route_alternate(const struct catalog_exchange *exchange, struct bytes *ret_name)
{
    *ret_name = exchange->alternate; /* of its arguments, or else of its policy */
    return exchange->has_alternate;
}

/* The default exchange: the key names the queue. */
static void route_default(struct route_result *result, const struct route_input *input)
{
    const struct catalog_vhost *vhost = result->scratch->vhost;
    for (uint32_t i = 0; i <= input->extra_count; i++) {
        const struct bytes key = i == 0 ? input->key : input->extra_keys[i - 1];
        const struct catalog_queue *queue = catalog_vhost_queue(vhost, key);
        if (queue != NULL) {
            route__emit_queue(result, queue);
        }
    }
}

static void route_exchange(struct route_result *result, const struct catalog_exchange *exchange,
                           const struct route_input *input)
{
    if (exchange->name.size == 0) {
        route_default(result, input);
        return;
    }
    if (exchange->router != NULL && exchange->router->keeps) {
        route__keep(result, exchange);
    }
    if (exchange->router == NULL || exchange->index == NULL) {
        return;
    }
    const struct exchange_type *type = route__core(exchange->router);
    type->route(exchange, input->key, result);
    for (uint32_t i = 0; i < input->extra_count && type->by_key; i++) {
        type->route(exchange, input->extra_keys[i], result);
    }
}

/* Puts the alternate exchange onto the worklist, if there is one that was not visited. The default
 * exchange is none: as in RabbitMQ only what is published to it reaches queues by their names. */
static void route_to_alternate(struct route_scratch *s, const struct catalog_exchange *exchange)
{
    struct bytes name;
    if (!route_alternate(exchange, &name) || name.size == 0) {
        return;
    }
    const struct catalog_exchange *alternate = catalog_vhost_exchange(s->vhost, name);
    if (alternate != NULL && route__marks_add(&s->visited, alternate->id)) {
        vec_push(&s->worklist, (struct route_step){alternate, s->delayed});
    }
}

/* One exchange of the worklist. What it leads to is delayed if it is, or was reached so. */
static void visit(struct route_result *result, const struct route_step *step,
                  const struct route_input *input)
{
    struct route_scratch *s = result->scratch;
    const struct exchange_type *router = step->exchange->router;
    s->matched = false;
    s->delayed = step->delayed || (router != NULL && router->delays);
    result->key_only = result->key_only && !s->delayed;
    route_exchange(result, step->exchange, input);
    if (!s->matched) {
        route_to_alternate(s, step->exchange);
    }
}

uint32_t route_message(const struct catalog_view *view, const struct catalog_exchange *exchange,
                       const struct route_input *input, struct route_result *result)
{
    struct route_scratch *s = result->scratch;
    result->count = 0;
    result->kept = 0;
    result->key_only = true;
    s->view = view;
    s->input = input;
    s->serial = catalog_view_serial(view);
    s->epoch++;
    if (s->vhost_serial != s->serial || s->vhost_id != exchange->vhost_id) {
        s->vhost = catalog_vhost(view, exchange->vhost);
        WR_ASSERT(s->vhost != NULL && s->vhost->id == exchange->vhost_id);
        s->vhost_id = exchange->vhost_id;
        s->vhost_serial = s->serial;
    }
    vec_clear(&s->worklist);
    vec_push(&s->worklist, (struct route_step){exchange, false});
    route__marks_clear(&s->visited);
    (void)route__marks_add(&s->visited, exchange->id);
    for (size_t i = 0; i < s->worklist.count; i++) {
        const struct route_step step = s->worklist.items[i]; /* The list may move. */
        visit(result, &step, input);
    }
    return result->count;
}
