/*
 * What: fuzz target of topic routing: lines of the input are binding keys ("+key" binds, "-key"
 * unbinds) and routing keys (all other lines). The trie must agree with the one-pattern matcher,
 * and be gone when all is unbound.
 */
#include "fuzz.h"

#include "warren/route.h"
#include "warren/str.h"

#define PATTERNS_MAX 64

struct topic_pattern {
    struct bytes key;
    uint64_t queue; /* id of the queue it is bound to */
    bool bound;
};

struct run {
    struct catalog *c;
    uint64_t index;
    struct topic_pattern patterns[PATTERNS_MAX];
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

static struct bytes queue_name(const struct topic_pattern *patterns,
                               const struct topic_pattern *pattern, char text[8])
{
    struct strbuf s;
    strbuf_init(&s, text, 8);
    strbuf_printf(&s, "q%u", (unsigned)(pattern - patterns));
    return strbuf_bytes(&s);
}

static void bind(struct run *r, struct topic_pattern *pattern, bool on)
{
    char text[8];
    const struct bytes name = queue_name(r->patterns, pattern, text);
    const struct catalog_command command = {.kind = on ? CATALOG_BIND : CATALOG_UNBIND,
                                            .u.binding = {.vhost = BYTES_LITERAL("/"),
                                                          .source = BYTES_LITERAL("amq.topic"),
                                                          .destination = name,
                                                          .key = pattern->key,
                                                          .destination_kind = CATALOG_TO_QUEUE}};
    WR_ASSERT(apply(r, &command).status == CATALOG_OK);
    pattern->bound = on;
}

/* The pattern of that key; a new one (with a queue of its own) when there is none and room. */
static struct topic_pattern *find(struct run *r, struct bytes key)
{
    for (uint32_t i = 0; i < r->count; i++) {
        if (bytes_eq(r->patterns[i].key, key)) {
            return &r->patterns[i];
        }
    }
    if (r->count == PATTERNS_MAX) {
        return NULL;
    }
    struct topic_pattern *pattern = &r->patterns[r->count++];
    char text[8];
    const struct catalog_command declare = {
        .kind = CATALOG_DECLARE_QUEUE,
        .u.queue = {.vhost = BYTES_LITERAL("/"),
                    .name = queue_name(r->patterns, pattern, text),
                    .type = CATALOG_CLASSIC,
                    .run = CATALOG_RUN_LOCAL,
                    .local = {{1, 1}, 1, 0}}};
    const struct catalog_result result = apply(r, &declare);
    WR_ASSERT(result.status == CATALOG_OK);
    *pattern = (struct topic_pattern){key, result.id, false};
    return pattern;
}

static bool was_routed(const struct run *r, uint64_t queue)
{
    bool found = false;
    for (uint32_t i = 0; i < r->result.count; i++) {
        if (r->result.queues[i]->id == queue) {
            WR_ASSERT(!found);
            found = true;
        }
    }
    return found;
}

static void route(struct run *r, struct bytes key)
{
    const struct catalog_view *view = catalog_view_peek(r->c);
    const struct route_input input = {.key = key};
    (void)route_message(view,
                        catalog_exchange(view, BYTES_LITERAL("/"), BYTES_LITERAL("amq.topic")),
                        &input, &r->result);
    for (uint32_t i = 0; i < r->count; i++) {
        const bool expected = r->patterns[i].bound && route_topic_matches(r->patterns[i].key, key);
        WR_ASSERT(was_routed(r, r->patterns[i].queue) == expected);
    }
}

static void line(struct run *r, struct bytes text)
{
    const bool on = text.size > 0 && text.data[0] == '+';
    if (on || (text.size > 0 && text.data[0] == '-')) {
        const struct bytes key = {text.data + 1, text.size - 1};
        struct topic_pattern *pattern = key.size > CATALOG_NAME_MAX ? NULL : find(r, key);
        if (pattern != NULL && pattern->bound != on) {
            bind(r, pattern, on);
        }
        return;
    }
    route(r, text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct run r;
    r = (struct run){0};
    set_up(&r);
    struct bytes rest = {data, size};
    struct bytes text;
    bool more = true;
    while (more) {
        more = str_split(rest, '\n', &text, &rest);
        line(&r, text);
    }
    for (uint32_t i = 0; i < r.count; i++) {
        if (r.patterns[i].bound) {
            bind(&r, &r.patterns[i], false);
        }
    }
    const struct catalog_view *view = catalog_view_peek(r.c);
    WR_ASSERT(catalog_exchange(view, BYTES_LITERAL("/"), BYTES_LITERAL("amq.topic"))->index ==
              NULL);
    catalog_check(r.c);
    route_result_deinit(&r.result);
    catalog_free(r.c);
    return 0;
}
