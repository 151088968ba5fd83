/*
 * What: fuzz target of headers routing: the input is a list of field tables, each with its size
 * (two bytes) in front; the highest bit of the size tells a binding's arguments from a message's
 * headers. Tables may be broken. Look-ups must find what comparing criterion by criterion finds,
 * and the index must be gone when all is unbound.
 */
#include "fuzz.h"

#include "warren/route.h"
#include "warren/wire_props.h"
#include "warren/wire_table.h"

#define BINDINGS_MAX 32

struct run {
    struct catalog *c;
    uint64_t index;
    struct bytes arguments[BINDINGS_MAX];
    uint64_t queues[BINDINGS_MAX];
    uint32_t count;
    struct route_result result;
};

static struct catalog_result apply(struct run *r, const struct catalog_command *command)
{
    struct catalog_result result;
    catalog_apply(r->c, ++r->index, command, &result);
    return result;
}

static void set_up(struct run *r)
{
    const struct catalog_node_info node = {
        .id = {1, 1}, .name = BYTES_LITERAL("n"), .host = BYTES_LITERAL("h")};
    const struct catalog_command init = {.kind = CATALOG_CLUSTER_INIT,
                                         .u.init = {.cluster = {1, 1},
                                                    .name = BYTES_LITERAL("c"),
                                                    .node = node,
                                                    .vhost = BYTES_LITERAL("/")}};
    const struct catalog_command boot = {.kind = CATALOG_NODE_BOOT, .u.boot = {node, {1, 2}}};
    r->c = catalog_new(&route_index_ops, NULL, NULL);
    WR_ASSERT(apply(r, &init).status == CATALOG_OK);
    WR_ASSERT(apply(r, &boot).status == CATALOG_OK);
    route_result_init(&r->result);
}

static struct catalog_result bind(struct run *r, uint32_t i, bool on)
{
    const uint8_t letter = (uint8_t)('A' + i);
    const struct catalog_command command = {.kind = on ? CATALOG_BIND : CATALOG_UNBIND,
                                            .u.binding = {.vhost = BYTES_LITERAL("/"),
                                                          .source = BYTES_LITERAL("amq.headers"),
                                                          .destination = bytes_make(&letter, 1),
                                                          .arguments = r->arguments[i],
                                                          .destination_kind = CATALOG_TO_QUEUE}};
    return apply(r, &command);
}

static void add(struct run *r, struct bytes arguments)
{
    if (r->count == BINDINGS_MAX) {
        return;
    }
    const uint8_t letter = (uint8_t)('A' + r->count);
    const struct catalog_command declare = {.kind = CATALOG_DECLARE_QUEUE,
                                            .u.queue = {.vhost = BYTES_LITERAL("/"),
                                                        .name = bytes_make(&letter, 1),
                                                        .type = CATALOG_CLASSIC,
                                                        .run = CATALOG_RUN_LOCAL,
                                                        .local = {{1, 1}, 1, 0}}};
    r->queues[r->count] = apply(r, &declare).id;
    r->arguments[r->count] = arguments;
    WR_ASSERT(bind(r, r->count, true).status == CATALOG_OK);
    r->count++;
}

/* What the words say, criterion by criterion. */
static bool matches(struct bytes arguments, struct bytes headers)
{
    struct bytes match = BYTES_LITERAL("all");
    struct bytes text;
    static const char *const modes[] = {"all", "any", "all-with-x", "any-with-x"};
    for (int i = 0; i < 4 && wire_table_get_string(arguments, "x-match", &text); i++) {
        match = bytes_eq_cstr(text, modes[i]) ? text : match;
    }
    const bool with_x = match.size > 3;
    const bool any = bytes_starts_with(match, BYTES_LITERAL("any"));
    struct wire_table_iter it;
    struct bytes name;
    struct wire_value wanted;
    struct wire_value value;
    wire_table_iter_init(&it, arguments);
    while (wire_table_iter_next(&it, &name, &wanted)) {
        if (with_x ? bytes_eq_cstr(name, "x-match")
                   : bytes_starts_with(name, BYTES_LITERAL("x-"))) {
            continue;
        }
        const bool met = wire_table_find_bytes(headers, name, &value) &&
                         (wanted.type == WIRE_FIELD_VOID || wire_value_equal(&wanted, &value));
        if (met == any) {
            return any;
        }
    }
    return !any;
}

static void route(struct run *r, struct bytes headers)
{
    struct wire_props props = {.flags = WIRE_PROP_HEADERS, .headers = headers};
    struct writer w;
    writer_init(&w, wire_props_size(&props));
    wire_props_put(&w, &props);
    const struct catalog_view *view = catalog_view_peek(r->c);
    const struct route_input input = {.props = writer_bytes(&w)};
    (void)route_message(view,
                        catalog_exchange(view, BYTES_LITERAL("/"), BYTES_LITERAL("amq.headers")),
                        &input, &r->result);
    for (uint32_t i = 0; i < r->count; i++) {
        bool found = false;
        for (uint32_t k = 0; k < r->result.count; k++) {
            found |= r->result.queues[k]->id == r->queues[i];
        }
        WR_ASSERT(found == matches(r->arguments[i], headers));
    }
    writer_deinit(&w);
}

static void tear_down(struct run *r)
{
    for (uint32_t i = 0; i < r->count; i++) {
        WR_ASSERT(bind(r, i, false).status == CATALOG_OK);
    }
    const struct catalog_view *view = catalog_view_peek(r->c);
    WR_ASSERT(catalog_exchange(view, BYTES_LITERAL("/"), BYTES_LITERAL("amq.headers"))->index ==
              NULL);
    route_result_deinit(&r->result);
    catalog_free(r->c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run r = {0};
    struct reader reader = reader_make(data, size);
    set_up(&r);
    while (rd_left(&reader) >= 2) {
        const uint16_t head = rd_be16(&reader);
        const size_t left = rd_left(&reader);
        const size_t wanted = head & 0x7fff;
        const struct bytes table = rd_bytes(&reader, wanted < left ? wanted : left);
        if ((head & 0x8000) != 0) {
            add(&r, table);
        } else {
            route(&r, table);
        }
    }
    tear_down(&r);
    return 0;
}
