/* x-recent-history: as fanout, and into the history. */
#include <criterion/criterion.h>

#include "route_fixture.h"

#define HISTORY "x-recent-history"

static void history(struct fixture *f, const char *exchange_name)
{
    const struct catalog_member member = {.id = {7, f->index}, .node = {1, 1}};
    const struct catalog_command c = {.kind = CATALOG_DECLARE_QUEUE,
                                      .u.queue = {.vhost = B("/"),
                                                  .name = B(exchange_name),
                                                  .type = CATALOG_HISTORY,
                                                  .run = CATALOG_RUN_GROUP,
                                                  .group = {&member, 1, 1, {0, 0}}}};
    must(apply(f, &c));
}

static void kept(struct fixture *f, const char *names, uint32_t count)
{
    cr_assert_str_eq(route(f, "x", "k"), names);
    cr_assert_eq(f->result.kept, count);
}

Test(recent, everything_bound_and_the_history)
{
    struct fixture *f = fixture_new();
    queue(f, "q");
    queue(f, "r");
    exchange(f, "x", HISTORY);
    kept(f, "", 0); /* its history is not made yet */
    history(f, "x");
    kept(f, "x", 1);
    cr_assert_not(f->result.key_only);
    bind_queue(f, "x", "q", "k");
    bind_queue(f, "x", "r", "other");
    kept(f, "q r x", 1);
    cr_assert_not(f->result.key_only);
    unbind_queue(f, "x", "q", "k");
    kept(f, "r x", 1);
    fixture_free(f);
}

/* To be kept is not to be routed. */
Test(recent, the_alternate_exchange_gets_what_is_only_kept)
{
    struct fixture *f = fixture_new();
    queue(f, "q");
    queue(f, "r");
    exchange(f, "ae", "fanout");
    bind_queue(f, "ae", "r", "");
    exchange_ae(f, "x", HISTORY, "ae");
    kept(f, "r", 0);
    bind_queue(f, "x", "q", "");
    kept(f, "q", 0);
    fixture_free(f);
    f = fixture_new();
    exchange(f, "y", HISTORY); /* one behind the other: two histories */
    exchange(f, "x", HISTORY);
    history(f, "x");
    history(f, "y");
    bind_exchange(f, "x", "y", "");
    kept(f, "x y", 2);
    fixture_free(f);
}

/* As the plugin: the boolean alone says that it is not to be kept. */
Test(recent, no_store)
{
    struct fixture *f = fixture_new();
    exchange(f, "x", HISTORY);
    history(f, "x");
    for (int row = 0; row < 5; row++) {
        struct writer headers;
        struct writer raw;
        writer_init(&headers, 64);
        switch (row) {
        case 0:
            wire_table_put_bool(&headers, "x-recent-history-no-store", true);
            break;
        case 1:
            wire_table_put_bool(&headers, "x-recent-history-no-store", false);
            break;
        case 2:
            wire_table_put_int32(&headers, "x-recent-history-no-store", 1);
            break;
        case 3:
            wire_table_put_cstr(&headers, "x-recent-history-no-store", "true");
            break;
        default:
            break;
        }
        const struct wire_props props = {.flags = WIRE_PROP_HEADERS,
                                         .headers = writer_bytes(&headers)};
        writer_init(&raw, 64);
        wire_props_put(&raw, &props);
        const struct route_input input = {.key = B("k"), .props = writer_bytes(&raw)};
        cr_assert_str_eq(route_input(f, "x", &input), row == 0 ? "" : "x", "row %d", row);
        writer_deinit(&raw);
        writer_deinit(&headers);
    }
    fixture_free(f);
}

static const char *said_of(void (*put)(struct writer *w), int *ret)
{
    static char text[200];
    struct strbuf s;
    struct writer w;
    writer_init(&w, 64);
    put(&w);
    strbuf_init(&s, text, sizeof text);
    *ret = exchange_type_validate(exchange_type_find(B(HISTORY)), writer_bytes(&w), &s);
    writer_deinit(&w);
    return text;
}

static void put_nothing(struct writer *w)
{
    wire_table_put_cstr(w, "x-other", "value");
}

static void put_three(struct writer *w)
{
    wire_table_put_int32(w, CATALOG_HISTORY_LENGTH, 3);
}

static void put_long(struct writer *w)
{
    wire_table_put_int64(w, CATALOG_HISTORY_LENGTH, INT64_MAX);
}

static void put_zero(struct writer *w)
{
    wire_table_put_int32(w, CATALOG_HISTORY_LENGTH, 0);
}

static void put_text(struct writer *w)
{
    wire_table_put_cstr(w, CATALOG_HISTORY_LENGTH, "3");
}

static void put_true(struct writer *w)
{
    wire_table_put_bool(w, CATALOG_HISTORY_LENGTH, true);
}

Test(recent, lengths_are_checked)
{
    static const struct {
        void (*put)(struct writer *w);
        const char *value; /* NULL: it is fine */
    } rows[] = {{put_nothing, NULL}, {put_three, NULL},       {put_long, NULL},
                {put_zero, "0"},     {put_text, "<<\"3\">>"}, {put_true, "true"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char expected[200] = "";
        int status = 1;
        const char *said = said_of(rows[i].put, &status);
        if (rows[i].value != NULL) {
            snprintf(expected, sizeof expected,
                     "Invalid argument %s, 'x-recent-history-length' must be a positive integer",
                     rows[i].value);
        }
        cr_assert_eq(status, rows[i].value == NULL ? 0 : WR_E_INVALID);
        cr_assert_str_eq(said, expected);
    }
}
