/*
 * What: a catalog with the real router, one node, and short commands; routing by names.
 */
#ifndef WR_TEST_ROUTE_FIXTURE_H
#define WR_TEST_ROUTE_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>

#include "warren/route.h"
#include "warren/wire_props.h"
#include "warren/wire_table.h"

struct fixture {
    struct catalog *catalog;
    uint64_t index;
    struct route_result result;
};

static inline struct bytes B(const char *text) {
    return bytes_from_cstr(text);
}

static inline int
apply(struct fixture *f, const struct catalog_command *c)
{
    struct catalog_result result;
    catalog_apply(f->catalog, ++f->index, c, &result);
    return result.status;
}

static inline void must(int status)
{
    if (status != CATALOG_OK) {
        fprintf(stderr, "catalog status %s\n", catalog_status_text(status));
        abort();
    }
}

static inline struct fixture *fixture_new(void)
{
    struct fixture *f = wr_calloc(1, sizeof(*f));
    f->catalog = catalog_new(&route_index_ops, NULL, NULL);
    route_result_init(&f->result);
    const struct catalog_node_info info = {
        .id = {1, 1}, .member = {2, 2}, .name = B("w1@h"), .host = B("h")};
    const struct catalog_command init = {
        .kind = CATALOG_CLUSTER_INIT,
        .u.init = {.cluster = {3, 3}, .name = B("c"), .node = info, .vhost = B("/")}};
    must(apply(f, &init));
    const struct catalog_command boot = {.kind = CATALOG_NODE_BOOT, .u.boot = {info, {4, 4}}};
    must(apply(f, &boot));
    return f;
}

static inline void fixture_free(struct fixture *f)
{
    route_result_deinit(&f->result);
    catalog_free(f->catalog);
    wr_free(f);
}

static inline void queue_args(struct fixture *f, const char *name)
{
    const struct catalog_command c = {.kind = CATALOG_DECLARE_QUEUE,
                                      .u.queue = {.vhost = B("/"),
                                                  .name = B(name),
                                                  .type = CATALOG_CLASSIC,
                                                  .run = CATALOG_RUN_LOCAL,
                                                  .local = {{1, 1}, 1, 0}}};
    must(apply(f, &c));
}

static inline void queue(struct fixture *f, const char *name)
{
    queue_args(f, name);
}

static inline void exchange_args(struct fixture *f, const char *name, const char *type,
                                 struct bytes arguments)
{
    const struct catalog_command c = {
        .kind = CATALOG_DECLARE_EXCHANGE,
        .u.exchange = {.vhost = B("/"), .name = B(name), .type = B(type), .arguments = arguments}};
    must(apply(f, &c));
}

static inline void exchange(struct fixture *f, const char *name, const char *type)
{
    exchange_args(f, name, type, BYTES_NONE);
}

/* An exchange with an alternate one. */
static inline void exchange_ae(struct fixture *f, const char *name, const char *type,
                               const char *alternate)
{
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_cstr(&w, "alternate-exchange", alternate);
    exchange_args(f, name, type, writer_bytes(&w));
    writer_deinit(&w);
}

static inline int bind_any(struct fixture *f, bool bind, const char *source,
                           const char *destination, struct bytes key, struct bytes arguments,
                           int kind)
{
    const struct catalog_command c = {
        .kind = bind ? CATALOG_BIND : CATALOG_UNBIND,
        .u.binding = {B("/"), B(source), B(destination), key, arguments, (uint8_t)kind}};
    return apply(f, &c);
}

static inline void bind_queue(struct fixture *f, const char *source, const char *name,
                              const char *key)
{
    must(bind_any(f, true, source, name, B(key), BYTES_NONE, CATALOG_TO_QUEUE));
}

static inline void bind_exchange(struct fixture *f, const char *source, const char *name,
                                 const char *key)
{
    must(bind_any(f, true, source, name, B(key), BYTES_NONE, CATALOG_TO_EXCHANGE));
}

static inline void unbind_queue(struct fixture *f, const char *source, const char *name,
                                const char *key)
{
    must(bind_any(f, false, source, name, B(key), BYTES_NONE, CATALOG_TO_QUEUE));
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Adds a name to a list of names with blanks between. */
static inline void add_name(struct strbuf *list, const char *name)
{
    strbuf_printf(list, "%s%s", list->size == 0 ? "" : " ", name);
}

/* The names of the queues, sorted, with blanks between: valid until the next call. */
static inline const char *route_input(struct fixture *f, const char *exchange_name,
                                      const struct route_input *input)
{
    static char text[4096];
    static char names[256][64];
    char *order[256];
    const struct catalog_view *view = catalog_view_peek(f->catalog);
    const struct catalog_exchange *e = catalog_exchange(view, B("/"), B(exchange_name));
    const uint32_t count = route_message(view, e, input, &f->result);
    for (uint32_t i = 0; i < count && i < 256; i++) {
        const struct bytes name = f->result.queues[i]->spec.name;
        snprintf(names[i], sizeof(names[i]), "%.*s", (int)name.size, (const char *)name.data);
        order[i] = names[i];
    }
    qsort(order, count, sizeof(order[0]), compare_names);
    struct strbuf list;
    strbuf_init(&list, text, sizeof(text));
    for (uint32_t i = 0; i < count; i++) {
        add_name(&list, order[i]);
    }
    return text;
}

static inline const char *route(struct fixture *f, const char *exchange_name, const char *key)
{
    const struct route_input input = {.key = B(key)};
    return route_input(f, exchange_name, &input);
}

#endif
