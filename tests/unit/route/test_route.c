/*
 * What: direct, fanout, default, exchange-to-exchange, alternate exchanges, extra keys; every queue
 * at most once; views.
 */
#include <criterion/criterion.h>

#include "route_fixture.h"
#include "warren/prng.h"

Test(route, the_default_exchange_routes_to_the_queue_of_that_name)
{
    struct fixture *f = fixture_new();
    queue(f, "q");
    cr_assert_str_eq(route(f, "", "q"), "q");
    cr_assert_str_eq(route(f, "", "r"), "");
    queue(f, "r");
    cr_assert_str_eq(route(f, "", "r"), "r");
    const struct bytes extra[] = {B("q"), B("none"), B("r")};
    const struct route_input input = {.key = B("r"), .extra_keys = extra, .extra_count = 3};
    cr_assert_str_eq(route_input(f, "", &input), "q r");
    fixture_free(f);
}

Test(route, direct_matches_whole_keys)
{
    struct fixture *f = fixture_new();
    queue(f, "a");
    queue(f, "b");
    bind_queue(f, "amq.direct", "a", "k");
    bind_queue(f, "amq.direct", "b", "k");
    bind_queue(f, "amq.direct", "b", "l");
    bind_queue(f, "amq.direct", "a", "");
    cr_assert_str_eq(route(f, "amq.direct", "k"), "a b");
    cr_assert_str_eq(route(f, "amq.direct", "l"), "b");
    cr_assert_str_eq(route(f, "amq.direct", ""), "a");
    cr_assert_str_eq(route(f, "amq.direct", "K"), "");
    unbind_queue(f, "amq.direct", "b", "k");
    cr_assert_str_eq(route(f, "amq.direct", "k"), "a");
    unbind_queue(f, "amq.direct", "a", "k");
    cr_assert_str_eq(route(f, "amq.direct", "k"), "");
    fixture_free(f);
}

Test(route, a_queue_gets_one_copy_whatever_matches)
{
    struct fixture *f = fixture_new();
    queue(f, "q");
    bind_queue(f, "amq.direct", "q", "k");
    bind_queue(f, "amq.direct", "q", "l");
    must(bind_any(f, true, "amq.direct", "q", B("k"),
                  BYTES_LITERAL("\x01"
                                "at\x01"),
                  CATALOG_TO_QUEUE));
    const struct bytes extra[] = {B("l"), B("k")};
    const struct route_input input = {.key = B("k"), .extra_keys = extra, .extra_count = 2};
    cr_assert_str_eq(route_input(f, "amq.direct", &input), "q");
    /* One of the two equal targets goes: the other still routes. */
    unbind_queue(f, "amq.direct", "q", "k");
    cr_assert_str_eq(route(f, "amq.direct", "k"), "q");
    fixture_free(f);
}

Test(route, fanout_ignores_keys)
{
    struct fixture *f = fixture_new();
    queue(f, "a");
    queue(f, "b");
    bind_queue(f, "amq.fanout", "a", "x");
    bind_queue(f, "amq.fanout", "a", "y");
    bind_queue(f, "amq.fanout", "b", "");
    cr_assert_str_eq(route(f, "amq.fanout", "zzz"), "a b");
    unbind_queue(f, "amq.fanout", "a", "x");
    cr_assert_str_eq(route(f, "amq.fanout", ""), "a b");
    unbind_queue(f, "amq.fanout", "a", "y");
    unbind_queue(f, "amq.fanout", "b", "");
    cr_assert_str_eq(route(f, "amq.fanout", ""), "");
    fixture_free(f);
}

/* Sets change their form between 8 and 9 members, in both directions. */
Test(route, sets_of_targets_grow_and_shrink)
{
    struct fixture *f = fixture_new();
    char name[16];
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "q%02d", i);
        queue(f, name);
    }
    struct prng p;
    prng_init(&p, 1);
    bool bound[40] = {false};
    for (int round = 0; round < 3000; round++) {
        const int i = (int)prng_below(&p, round % 200 < 100 ? 40 : 12);
        snprintf(name, sizeof(name), "q%02d", i);
        if (bound[i]) {
            unbind_queue(f, "amq.fanout", name, "");
        } else {
            bind_queue(f, "amq.fanout", name, "");
        }
        bound[i] = !bound[i];
        char expected[512];
        struct strbuf list;
        strbuf_init(&list, expected, sizeof(expected));
        for (int k = 0; k < 40; k++) {
            if (bound[k]) {
                snprintf(name, sizeof(name), "q%02d", k);
                add_name(&list, name);
            }
        }
        cr_assert_str_eq(route(f, "amq.fanout", ""), expected);
    }
    fixture_free(f);
}

Test(route, exchanges_lead_to_exchanges_once_each_and_cycles_end)
{
    struct fixture *f = fixture_new();
    exchange(f, "a", "fanout");
    exchange(f, "b", "topic");
    exchange(f, "c", "direct");
    queue(f, "q1");
    queue(f, "q2");
    queue(f, "q3");
    bind_exchange(f, "a", "b", "");
    bind_exchange(f, "a", "c", "");
    bind_exchange(f, "b", "c", "#");
    bind_exchange(f, "b", "a", "#"); /* a cycle */
    bind_exchange(f, "c", "c", "k"); /* and a short one */
    bind_queue(f, "a", "q1", "");
    bind_queue(f, "b", "q2", "*.x");
    bind_queue(f, "c", "q3", "k");
    bind_queue(f, "c", "q1", "k");
    cr_assert_str_eq(route(f, "a", "k"), "q1 q3");
    cr_assert_str_eq(route(f, "a", "k.x"), "q1 q2");
    cr_assert_str_eq(route(f, "b", "k"), "q1 q3");
    cr_assert_str_eq(route(f, "c", "k"), "q1 q3");
    cr_assert_str_eq(route(f, "c", "other"), "");
    fixture_free(f);
}

Test(route, alternate_exchanges_take_what_matched_nothing)
{
    struct fixture *f = fixture_new();
    queue(f, "q");
    queue(f, "lost");
    queue(f, "last");
    exchange_ae(f, "x", "direct", "y");
    exchange_ae(f, "y", "direct", "z");
    exchange(f, "z", "fanout");
    bind_queue(f, "x", "q", "k");
    bind_queue(f, "y", "lost", "l");
    bind_queue(f, "z", "last", "");
    cr_assert_str_eq(route(f, "x", "k"), "q");
    cr_assert_str_eq(route(f, "x", "l"), "lost");
    cr_assert_str_eq(route(f, "x", "m"), "last");
    cr_assert_str_eq(route(f, "y", "k"), "last");
    fixture_free(f);
}

Test(route, alternate_exchanges_may_be_missing_cyclic_or_of_the_wrong_type)
{
    struct fixture *f = fixture_new();
    queue(f, "q");
    exchange_ae(f, "x", "direct", "y");
    cr_assert_str_eq(route(f, "x", "k"), ""); /* y does not exist */
    exchange_ae(f, "y", "direct", "x");
    cr_assert_str_eq(route(f, "x", "k"), ""); /* a cycle */
    bind_queue(f, "y", "q", "k");
    cr_assert_str_eq(route(f, "x", "k"), "q"); /* made later: it counts */
    exchange_ae(f, "self", "direct", "self");
    cr_assert_str_eq(route(f, "self", "k"), "");
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_int32(&w, "alternate-exchange", 5);
    exchange_args(f, "odd", "direct", writer_bytes(&w));
    writer_deinit(&w);
    cr_assert_str_eq(route(f, "odd", "k"), "");
    fixture_free(f);
}

/* As RabbitMQ: it is the exchange that matched nothing whose alternate is used, anywhere on the
 * way; an exchange that led to another one has matched. */
Test(route, alternates_work_per_exchange_on_the_way)
{
    struct fixture *f = fixture_new();
    queue(f, "q");
    queue(f, "r");
    exchange_ae(f, "x", "fanout", "backup");
    exchange_ae(f, "y", "direct", "amq.fanout");
    exchange(f, "backup", "fanout");
    bind_exchange(f, "x", "y", "");
    bind_queue(f, "backup", "q", "");
    bind_queue(f, "amq.fanout", "r", "");
    cr_assert_str_eq(route(f, "x", "k"), "r");
    fixture_free(f);
}

/* The scratch remembers queues by view: a queue that was deleted and declared again is the new one.
 */
Test(route, results_follow_the_view)
{
    struct fixture *f = fixture_new();
    queue(f, "q");
    bind_queue(f, "amq.direct", "q", "k");
    struct catalog_view *old = catalog_view_take(f->catalog);
    cr_assert_str_eq(route(f, "amq.direct", "k"), "q");
    const uint64_t first = f->result.queues[0]->id;
    const struct catalog_command del = {.kind = CATALOG_DELETE_QUEUE, .u.delete_queue = {first}};
    must(apply(f, &del));
    cr_assert_str_eq(route(f, "amq.direct", "k"), "");
    queue(f, "q");
    bind_queue(f, "amq.direct", "q", "k");
    cr_assert_str_eq(route(f, "amq.direct", "k"), "q");
    cr_assert_neq(f->result.queues[0]->id, first);
    /* The old view still routes to the old queue. */
    const struct route_input input = {.key = B("k")};
    const struct catalog_exchange *e = catalog_exchange(old, B("/"), B("amq.direct"));
    cr_assert_eq(route_message(old, e, &input, &f->result), 1);
    cr_assert_eq(f->result.queues[0]->id, first);
    cr_assert_eq(f->result.queues[0], catalog_queue_by_id(old, first));
    catalog_view_unref(old);
    fixture_free(f);
}

/* Changes in place (nobody holds the view) must not leave stale queues in the scratch. */
Test(route, scratch_survives_many_queues_coming_and_going)
{
    struct fixture *f = fixture_new();
    char name[16];
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof(name), "q%d", i);
        queue(f, name);
        bind_queue(f, "amq.fanout", name, "");
        const struct route_input input = {.key = B("")};
        const struct catalog_view *view = catalog_view_peek(f->catalog);
        const struct catalog_exchange *e = catalog_exchange(view, B("/"), B("amq.fanout"));
        const uint32_t count = route_message(view, e, &input, &f->result);
        cr_assert_eq(count, i < 20 ? (uint32_t)i + 1 : 21);
        for (uint32_t k = 0; k < count; k++) {
            cr_assert_eq(f->result.queues[k], catalog_queue_by_id(view, f->result.queues[k]->id));
        }
        if (i >= 20) {
            snprintf(name, sizeof(name), "q%d", i - 20);
            const uint64_t id = catalog_queue(view, B("/"), B(name))->id;
            const struct catalog_command del = {.kind = CATALOG_DELETE_QUEUE,
                                                .u.delete_queue = {id}};
            must(apply(f, &del));
        }
    }
    fixture_free(f);
}

Test(route, types_are_listed_and_found)
{
    uint32_t count = 0;
    for (const struct exchange_type *t; (t = exchange_type_at(count)) != NULL; count++) {
        cr_assert_eq(exchange_type_find(B(exchange_type_name(t))), t);
    }
    cr_assert_eq(count, 10);
    cr_assert_null(exchange_type_find(B("x-none")));
    cr_assert_null(exchange_type_find(BYTES_NONE));
}

Test(route, an_exchange_of_an_unknown_type_routes_nothing)
{
    struct fixture *f = fixture_new();
    queue(f, "q");
    exchange(f, "x", "x-strange");
    bind_queue(f, "x", "q", "k");
    cr_assert_str_eq(route(f, "x", "k"), "");
    unbind_queue(f, "x", "q", "k");
    fixture_free(f);
}

/* Indexes after a restore are what they were. */
Test(route, restored_catalogs_route_the_same)
{
    struct fixture *f = fixture_new();
    queue(f, "a");
    queue(f, "b");
    exchange(f, "t", "topic");
    bind_queue(f, "t", "a", "x.#");
    bind_queue(f, "t", "b", "*.y");
    bind_queue(f, "amq.direct", "b", "k");
    bind_exchange(f, "amq.direct", "t", "x.y");
    struct buf *snapshot = buf_new(64);
    catalog_snapshot(f->catalog, &snapshot);
    cr_assert_eq(catalog_restore(f->catalog, f->index, bytes_make(snapshot->data, snapshot->size)),
                 0);
    catalog_check(f->catalog);
    cr_assert_str_eq(route(f, "t", "x.y"), "a b");
    cr_assert_str_eq(route(f, "t", "x"), "a");
    cr_assert_str_eq(route(f, "amq.direct", "x.y"), "a b");
    unbind_queue(f, "t", "a", "x.#");
    cr_assert_str_eq(route(f, "t", "x.y"), "b");
    buf_unref(snapshot);
    fixture_free(f);
}
