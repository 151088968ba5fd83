/*
 * What: x-delayed-message: routes as the inner type; what is reached from it, by whatever way, is
 * marked; what is refused.
 */
#include <criterion/criterion.h>

#include "route_fixture.h"

static void delayed_exchange(struct fixture *f, const char *name, const char *inner)
{
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_cstr(&w, "x-delayed-type", inner);
    exchange_args(f, name, "x-delayed-message", writer_bytes(&w));
    writer_deinit(&w);
}

/* "q r*": the queues in the order of the result, with a star behind those that are delayed. */
static const char *delays(struct fixture *f, const char *exchange_name, const char *key)
{
    static char text[1024];
    struct strbuf list;
    (void)route(f, exchange_name, key);
    strbuf_init(&list, text, sizeof(text));
    bool any = false;
    for (uint32_t i = 0; i < f->result.count; i++) {
        const struct bytes name = f->result.queues[i]->spec.name;
        any |= f->result.delayed[i];
        strbuf_printf(&list, "%s%.*s%s", i == 0 ? "" : " ", (int)name.size, (const char *)name.data,
                      f->result.delayed[i] ? "*" : "");
    }
    cr_assert(!any || !f->result.key_only);
    return text;
}

Test(delayed, routes_as_the_inner_type)
{
    static const char *const types[] = {"direct", "topic", "x-modulus-hash", "fanout"};
    for (int i = 0; i < 4; i++) {
        struct fixture *f = fixture_new();
        queue(f, "q");
        queue(f, "r");
        delayed_exchange(f, "x", types[i]);
        cr_assert_str_eq(delays(f, "x", "k.l"), "");
        bind_queue(f, "x", "q", "k.l");
        cr_assert_str_eq(delays(f, "x", "k.l"), "q*");
        cr_assert_str_eq(delays(f, "x", "k.m"), i < 2 ? "" : "q*");
        bind_queue(f, "x", "r", "k.*");
        cr_assert_str_eq(delays(f, "x", "k.m"), i == 0   ? ""
                                                : i == 1 ? "r*"
                                                : i == 2 ? delays(f, "x", "k.m")
                                                         : "q* r*");
        unbind_queue(f, "x", "q", "k.l");
        unbind_queue(f, "x", "r", "k.*");
        cr_assert_str_eq(delays(f, "x", "k.l"), "");
        fixture_free(f);
    }
}

Test(delayed, every_type_but_itself_and_the_history_can_be_inside)
{
    const struct exchange_type *type = exchange_type_find(B("x-delayed-message"));
    cr_assert_not_null(type);
    for (uint32_t i = 0; exchange_type_at(i) != NULL; i++) {
        struct fixture *f = fixture_new();
        char buffer[300];
        struct strbuf text;
        struct writer w;
        const char *inner = exchange_type_name(exchange_type_at(i));
        if (strcmp(inner, "x-recent-history") == 0) {
            fixture_free(f);
            continue; /* refused: below */
        }
        const bool self = strcmp(inner, "x-delayed-message") == 0;
        strbuf_init(&text, buffer, sizeof(buffer));
        writer_init(&w, 64);
        wire_table_put_cstr(&w, "x-delayed-type", inner);
        cr_assert_eq(exchange_type_validate(type, writer_bytes(&w), &text),
                     self ? WR_E_INVALID : 0);
        writer_deinit(&w);
        cr_assert_str_eq(
            buffer,
            self ? "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'" : "");
        queue(f, "q");
        delayed_exchange(f, "x", inner);
        bind_queue(f, "x", "q", "1");
        const struct route_input input = {.key = B("1"), .node = {1, 1}};
        cr_assert_str_eq(route_input(f, "x", &input), self ? "" : "q", "%s", inner);
        const struct catalog_view *view = catalog_view_peek(f->catalog);
        const struct exchange_type *router = catalog_exchange(view, B("/"), B("x"))->router;
        cr_assert(self ? router == NULL
                       : strcmp(exchange_type_name(router), "x-delayed-message") == 0);
        fixture_free(f);
    }
}

Test(delayed, declarations_are_checked)
{
    const struct exchange_type *type = exchange_type_find(B("x-delayed-message"));
    for (int row = 0; row < 5; row++) {
        static const char *const expected[] = {
            "Invalid argument, 'x-delayed-type' must be an existing exchange type",
            "Invalid argument, 'x-delayed-type' must be an existing exchange type",
            "unknown exchange type 'x-none'",
            "unknown exchange type ''",
            "unknown exchange type 'x-recent-history'",
        };
        char buffer[300];
        struct strbuf text;
        struct writer w;
        writer_init(&w, 64);
        strbuf_init(&text, buffer, sizeof(buffer));
        if (row == 1) {
            wire_table_put_int32(&w, "x-delayed-type", 1);
        } else if (row > 1) {
            wire_table_put_cstr(&w, "x-delayed-type",
                                row == 2   ? "x-none"
                                : row == 3 ? ""
                                           : "x-recent-history");
        }
        cr_assert_eq(exchange_type_validate(type, writer_bytes(&w), &text), WR_E_INVALID);
        cr_assert_str_eq(buffer, expected[row]);
        writer_deinit(&w);
    }
}

/* Bindings are those of the inner type. */
Test(delayed, bindings_are_checked_as_the_inner_types)
{
    struct fixture *f = fixture_new();
    char buffer[300];
    struct strbuf text;
    strbuf_init(&text, buffer, sizeof(buffer));
    delayed_exchange(f, "x", "x-consistent-hash");
    const struct catalog_view *view = catalog_view_peek(f->catalog);
    const struct route_binding binding = {.key = B("0")};
    cr_assert_eq(
        route_validate_binding(catalog_exchange(view, B("/"), B("x"))->router, &binding, &text),
        WR_E_INVALID);
    cr_assert_str_eq(buffer, "The binding key must be greater than 0");
    fixture_free(f);
}

/* plain -> late (delayed) -> behind -> q3; alternates, too. */
Test(delayed, what_is_behind_a_delayed_exchange_is_delayed)
{
    struct fixture *f = fixture_new();
    exchange(f, "plain", "fanout");
    exchange(f, "behind", "topic");
    exchange_ae(f, "empty", "direct", "last");
    exchange(f, "last", "fanout");
    delayed_exchange(f, "late", "fanout");
    queue(f, "q1");
    queue(f, "q2");
    queue(f, "q3");
    queue(f, "q4");
    bind_queue(f, "plain", "q1", "");
    bind_exchange(f, "plain", "late", "");
    bind_queue(f, "late", "q2", "");
    bind_exchange(f, "late", "behind", "");
    bind_queue(f, "behind", "q3", "#");
    bind_exchange(f, "behind", "empty", "k");
    bind_queue(f, "last", "q4", "");
    cr_assert_str_eq(delays(f, "plain", "k"), "q1 q2* q3* q4*");
    cr_assert_str_eq(delays(f, "late", "l"), "q2* q3*");
    cr_assert_str_eq(delays(f, "behind", "k"), "q3 q4");
    cr_assert(f->result.key_only);
    fixture_free(f);
}

/* The first way counts: of a queue and of an exchange. */
Test(delayed, what_is_reached_both_ways_is_as_the_first_way_was)
{
    struct fixture *f = fixture_new();
    exchange(f, "plain", "fanout");
    exchange(f, "behind", "fanout");
    delayed_exchange(f, "late", "fanout");
    queue(f, "q");
    queue(f, "r");
    bind_queue(f, "plain", "q", "");
    bind_exchange(f, "plain", "late", "");
    bind_queue(f, "late", "q", "");
    cr_assert_str_eq(delays(f, "plain", ""), "q");
    bind_exchange(f, "plain", "behind", ""); /* on the list before late asks for it */
    bind_exchange(f, "late", "behind", "");
    bind_queue(f, "behind", "r", "");
    cr_assert_str_eq(delays(f, "plain", ""), "q r");
    cr_assert_str_eq(delays(f, "late", ""), "q* r*");
    fixture_free(f);
}

Test(delayed, an_alternate_of_a_delayed_exchange_is_behind_it)
{
    struct fixture *f = fixture_new();
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_cstr(&w, "alternate-exchange", "amq.fanout");
    wire_table_put_cstr(&w, "x-delayed-type", "direct");
    exchange_args(f, "late", "x-delayed-message", writer_bytes(&w));
    writer_deinit(&w);
    queue(f, "q");
    bind_queue(f, "amq.fanout", "q", "");
    cr_assert_str_eq(delays(f, "late", "k"), "q*");
    cr_assert_str_eq(delays(f, "amq.fanout", "k"), "q");
    fixture_free(f);
}

/* A catalog may hold what no broker of this version declares. */
Test(delayed, without_an_inner_type_nothing_is_routed)
{
    struct fixture *f = fixture_new();
    exchange(f, "x", "x-delayed-message");
    delayed_exchange(f, "y", "x-strange");
    queue(f, "q");
    bind_queue(f, "x", "q", "k");
    bind_queue(f, "y", "q", "k");
    cr_assert_str_eq(delays(f, "x", "k"), "");
    cr_assert_str_eq(delays(f, "y", "k"), "");
    unbind_queue(f, "x", "q", "k");
    fixture_free(f);
}
