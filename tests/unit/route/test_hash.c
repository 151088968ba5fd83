/*
 * What: x-consistent-hash, x-modulus-hash, x-random, x-local-random: shares, stability, what is
 * hashed, what is refused.
 */
#include <criterion/criterion.h>

#include "route_fixture.h"
#include "warren/prng.h"

enum { QUEUES_MAX = 64 };

static uint32_t number_of(const struct catalog_queue *q)
{
    uint32_t number = 0;
    for (size_t i = 1; i < q->spec.name.size; i++) {
        number = number * 10 + (uint32_t)(q->spec.name.data[i] - '0');
    }
    cr_assert_lt(number, QUEUES_MAX);
    return number;
}

/* How many of `count` messages with keys "k0", "k1" ... (and so many random numbers) each of the
 * queues q0, q1 ... gets; every message goes to exactly one. */
static void spread(struct fixture *f, const char *exchange_name, uint32_t count,
                   uint32_t got[QUEUES_MAX])
{
    struct prng p;
    prng_init(&p, 7);
    memset(got, 0, QUEUES_MAX * sizeof(*got));
    const struct catalog_view *view = catalog_view_peek(f->catalog);
    const struct catalog_exchange *e = catalog_exchange(view, B("/"), B(exchange_name));
    for (uint32_t i = 0; i < count; i++) {
        char key[16];
        snprintf(key, sizeof(key), "k%u", i);
        const struct route_input input = {.key = B(key), .random = prng_u64(&p), .node = {1, 1}};
        cr_assert_eq(route_message(view, e, &input, &f->result), 1);
        got[number_of(f->result.queues[0])]++;
    }
}

static void expect_share(uint32_t got, uint32_t count, uint32_t part, uint32_t whole)
{
    const double expected = (double)count * part / whole;
    cr_assert(got > expected * 0.97 && got < expected * 1.03, "%u of %u for %u/%u", got, count,
              part, whole);
}

static void queues(struct fixture *f, uint32_t count)
{
    char name[16];
    for (uint32_t i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "q%u", i);
        queue(f, name);
    }
}

/* With "hash-header" or "hash-property". */
static void hash_exchange(struct fixture *f, const char *name, const char *argument,
                          const char *value)
{
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_cstr(&w, argument, value);
    exchange_args(f, name, "x-consistent-hash", writer_bytes(&w));
    writer_deinit(&w);
}

Test(hash, shares_are_as_weights)
{
    struct fixture *f = fixture_new();
    exchange(f, "x", "x-consistent-hash");
    queues(f, 5);
    bind_queue(f, "x", "q0", "1");
    bind_queue(f, "x", "q1", "2");
    bind_queue(f, "x", "q2", "30");
    bind_queue(f, "x", "q3", "+4");
    bind_queue(f, "x", "q4", "03");
    uint32_t got[QUEUES_MAX];
    spread(f, "x", 400000, got);
    static const uint32_t weights[] = {1, 2, 30, 4, 3};
    for (uint32_t i = 0; i < 5; i++) {
        expect_share(got[i], 400000, weights[i], 40);
    }
    fixture_free(f);
}

Test(hash, equal_weights_are_even_however_many)
{
    for (uint32_t count = 1; count <= QUEUES_MAX; count = count * 2 + 1) {
        struct fixture *f = fixture_new();
        exchange(f, "x", "x-consistent-hash");
        queues(f, count);
        char name[16];
        for (uint32_t i = 0; i < count; i++) {
            snprintf(name, sizeof(name), "q%u", i);
            bind_queue(f, "x", name, "10");
        }
        uint32_t got[QUEUES_MAX];
        spread(f, "x", 20000 * count, got);
        for (uint32_t i = 0; i < count; i++) {
            expect_share(got[i], 20000 * count, 1, count);
        }
        fixture_free(f);
    }
}

Test(hash, the_largest_weights_add_up)
{
    struct fixture *f = fixture_new();
    exchange(f, "x", "x-consistent-hash");
    queues(f, 3);
    bind_queue(f, "x", "q0", "4294967295");
    bind_queue(f, "x", "q1", "4294967295");
    bind_queue(f, "x", "q2", "1");
    uint32_t got[QUEUES_MAX];
    spread(f, "x", 100000, got);
    expect_share(got[0], 100000, 1, 2);
    cr_assert_eq(got[2], 0);
    fixture_free(f);
}

/* Where each of a number of keys goes, as one text. */
static uint64_t fingerprint(struct fixture *f, const char *exchange_name, uint8_t where[4096])
{
    const struct catalog_view *view = catalog_view_peek(f->catalog);
    const struct catalog_exchange *e = catalog_exchange(view, B("/"), B(exchange_name));
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 4096; i++) {
        char key[16];
        snprintf(key, sizeof(key), "key.%u", i);
        const struct route_input input = {.key = B(key)};
        where[i] = 255;
        if (route_message(view, e, &input, &f->result) == 1) {
            where[i] = (uint8_t)number_of(f->result.queues[0]);
        }
        sum = sum * 31 + where[i];
    }
    return sum;
}

/* Binds and unbinds at random; what is left decides as if it had been bound in one go, in whatever
 * order, and after a restore. */
static void content_decides(const char *type, uint64_t seed)
{
    struct fixture *f = fixture_new();
    struct fixture *fresh = fixture_new();
    struct prng p;
    prng_init(&p, seed);
    bool bound[40] = {false};
    char name[16];
    char weight[16];
    uint8_t where[2][4096];
    exchange(f, "x", type);
    exchange(fresh, "other", type);
    queues(f, 40);
    queues(fresh, 40);
    for (int round = 0; round < 500; round++) {
        const uint32_t i = (uint32_t)prng_below(&p, 40);
        snprintf(name, sizeof(name), "q%u", i);
        snprintf(weight, sizeof(weight), "%u", i % 5 + 1);
        if (bound[i]) {
            unbind_queue(f, "x", name, weight);
        } else {
            bind_queue(f, "x", name, weight);
        }
        bound[i] = !bound[i];
    }
    for (uint32_t k = 40; k > 0; k--) {
        if (bound[k - 1]) {
            snprintf(name, sizeof(name), "q%u", k - 1);
            snprintf(weight, sizeof(weight), "%u", (k - 1) % 5 + 1);
            bind_queue(fresh, "other", name, weight);
        }
    }
    const uint64_t first = fingerprint(f, "x", where[0]);
    cr_assert_eq(fingerprint(fresh, "other", where[1]), first);
    struct buf *snapshot = buf_new(64);
    catalog_snapshot(f->catalog, &snapshot);
    cr_assert_eq(catalog_restore(f->catalog, f->index, bytes_make(snapshot->data, snapshot->size)),
                 0);
    cr_assert_eq(fingerprint(f, "x", where[0]), first);
    buf_unref(snapshot);
    fixture_free(fresh);
    fixture_free(f);
}

Test(hash, the_content_decides_not_its_history)
{
    for (uint64_t seed = 0; seed < 10; seed++) {
        content_decides("x-consistent-hash", seed);
        content_decides("x-modulus-hash", seed);
    }
}

/* Frozen: nodes of different versions must agree, and a partition must not move by an upgrade. */
Test(hash, what_is_where_does_not_change_between_versions)
{
    struct fixture *f = fixture_new();
    uint8_t where[4096];
    exchange(f, "x", "x-consistent-hash");
    exchange(f, "m", "x-modulus-hash");
    queues(f, 10);
    char name[16];
    for (uint32_t i = 0; i < 10; i++) {
        snprintf(name, sizeof(name), "q%u", i);
        bind_queue(f, "x", name, i % 2 == 0 ? "1" : "3");
        bind_queue(f, "m", name, "");
    }
    cr_assert_eq(fingerprint(f, "x", where), UINT64_C(17109011251027713919), "%llu",
                 (unsigned long long)fingerprint(f, "x", where));
    cr_assert_eq(fingerprint(f, "m", where), UINT64_C(15639132744247547974), "%llu",
                 (unsigned long long)fingerprint(f, "m", where));
    fixture_free(f);
}

/* One of n queues that comes or goes moves some log2(n) / 2 times its share, not everything. */
Test(hash, a_queue_that_comes_or_goes_moves_little)
{
    struct fixture *f = fixture_new();
    uint8_t before[4096];
    uint8_t after[4096];
    char name[16];
    exchange(f, "x", "x-consistent-hash");
    queues(f, 33);
    for (uint32_t i = 0; i < 32; i++) {
        snprintf(name, sizeof(name), "q%u", i);
        bind_queue(f, "x", name, "1");
    }
    (void)fingerprint(f, "x", before);
    uint32_t all = 0;
    for (uint32_t gone = 0; gone < 32; gone++) {
        snprintf(name, sizeof(name), "q%u", gone);
        unbind_queue(f, "x", name, "1");
        (void)fingerprint(f, "x", after);
        for (uint32_t i = 0; i < 4096; i++) {
            cr_assert_neq(after[i], gone);
            all += before[i] != after[i];
        }
        bind_queue(f, "x", name, "1");
        (void)fingerprint(f, "x", after);
        cr_assert_arr_eq(before, after, 4096);
    }
    /* The least possible is 1/32 of the keys each time: 4096 in all. */
    cr_assert_lt(all, 4096 * 4, "%u", all);
    bind_queue(f, "x", "q32", "1");
    (void)fingerprint(f, "x", after);
    uint32_t moved = 0;
    for (uint32_t i = 0; i < 4096; i++) {
        moved += before[i] != after[i];
    }
    cr_assert_lt(moved, 4096 / 33 * 4);
    fixture_free(f);
}

Test(hash, a_destination_counts_once_by_its_oldest_binding)
{
    struct fixture *f = fixture_new();
    uint32_t got[QUEUES_MAX];
    exchange(f, "x", "x-consistent-hash");
    queues(f, 2);
    bind_queue(f, "x", "q0", "1");
    bind_queue(f, "x", "q1", "1");
    char weight[16];
    for (uint32_t i = 0; i < 20; i++) { /* Ignored, as long as the first is there. */
        snprintf(weight, sizeof(weight), "%u", 9 + i);
        bind_queue(f, "x", "q1", weight);
    }
    spread(f, "x", 100000, got);
    expect_share(got[1], 100000, 1, 2);
    unbind_queue(f, "x", "q1", "11");
    spread(f, "x", 100000, got);
    expect_share(got[1], 100000, 1, 2);
    unbind_queue(f, "x", "q1", "1");
    spread(f, "x", 100000, got);
    expect_share(got[1], 100000, 9, 10);
    unbind_queue(f, "x", "q1", "9");
    spread(f, "x", 100000, got);
    expect_share(got[1], 100000, 10, 11);
    fixture_free(f);
}

/* A queue and an exchange of one name are two destinations; without bindings nothing matches. */
Test(hash, destinations_are_of_two_kinds)
{
    struct fixture *f = fixture_new();
    exchange(f, "x", "x-consistent-hash");
    exchange(f, "same", "fanout");
    queue(f, "same");
    queue(f, "behind");
    cr_assert_str_eq(route(f, "x", "k"), "");
    bind_queue(f, "x", "same", "1");
    cr_assert_str_eq(route(f, "x", "k"), "same");
    bind_exchange(f, "x", "same", "1");
    bind_queue(f, "same", "behind", "");
    uint32_t behind = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        char key[16];
        snprintf(key, sizeof(key), "%u", i);
        behind += strcmp(route(f, "x", key), "behind") == 0;
        cr_assert(f->result.key_only);
    }
    cr_assert(behind > 400 && behind < 600, "%u", behind);
    fixture_free(f);
}

/* As in RabbitMQ: x-consistent-hash looks at the key alone, x-modulus-hash at all of them. */
Test(hash, keys_of_cc)
{
    static const char *const types[] = {"x-consistent-hash", "x-modulus-hash"};
    for (int type = 0; type < 2; type++) {
        struct fixture *f = fixture_new();
        exchange(f, "x", types[type]);
        queues(f, 2);
        bind_queue(f, "x", "q0", "1");
        bind_queue(f, "x", "q1", "1");
        uint32_t differs = 0;
        for (uint32_t i = 0; i < 1000; i++) {
            char key[16];
            char alone[16];
            snprintf(key, sizeof(key), "%u", i);
            const struct bytes extra[] = {B("a"), B("b")};
            const struct route_input input = {.key = B(key), .extra_keys = extra, .extra_count = 2};
            snprintf(alone, sizeof(alone), "%.4s", route(f, "x", key));
            differs += strcmp(route_input(f, "x", &input), alone) != 0;
            cr_assert_eq(f->result.count, 1);
        }
        cr_assert(type == 0 ? differs == 0 : differs > 400 && differs < 600, "%u", differs);
        fixture_free(f);
    }
}

/* --- headers and properties ------------------------------------------------------------------- */

/* Routes with these headers, or with one property. The name of the one queue. */
static const char *route_headers(struct fixture *f, const char *name, struct bytes headers)
{
    struct wire_props p = {.flags = WIRE_PROP_HEADERS, .headers = headers};
    struct writer w;
    writer_init(&w, wire_props_size(&p));
    wire_props_put(&w, &p);
    const struct route_input input = {.key = B("same"), .props = writer_bytes(&w)};
    const char *text = route_input(f, name, &input);
    writer_deinit(&w);
    cr_assert(!f->result.key_only);
    return text;
}

enum { FORMS = 6 };

/* The header h in several forms; 0..2 and 3..4 are equal. */
static const char *route_form(struct fixture *f, const char *name, int form, uint32_t number)
{
    char text[16];
    struct writer w;
    writer_init(&w, 64);
    snprintf(text, sizeof(text), "%u", number);
    uint8_t raw[20];
    bytes_store_be32(raw, (uint32_t)strlen(text));
    memcpy(raw + 4, text, strlen(text));
    const struct wire_value binary = {.type = WIRE_FIELD_BINARY,
                                      .raw = bytes_make(raw, 4 + strlen(text))};
    switch (form) {
    case 0:
        wire_table_put_int32(&w, "h", (int32_t)number);
        break;
    case 1:
        wire_table_put_int64(&w, "h", (int64_t)number);
        break;
    case 2:
        wire_table_put_timestamp(&w, "h", number);
        break;
    case 3:
        wire_table_put_cstr(&w, "h", text);
        break;
    case 4:
        wire_put_key(&w, B("h"));
        wire_value_put(&w, &binary);
        break;
    default:
        wire_put_key(&w, B("h"));
        wire_value_put_double(&w, number + 0.5);
        break;
    }
    const char *to = route_headers(f, name, writer_bytes(&w));
    writer_deinit(&w);
    return to;
}

Test(hash, by_header)
{
    struct fixture *f = fixture_new();
    queues(f, 8);
    hash_exchange(f, "x", "hash-header", "h");
    char name[16];
    for (uint32_t i = 0; i < 8; i++) {
        snprintf(name, sizeof(name), "q%u", i);
        bind_queue(f, "x", name, "1");
    }
    char seen[FORMS][16];
    uint32_t to_first[FORMS] = {0};
    uint32_t differs = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        for (int form = 0; form < FORMS; form++) {
            snprintf(seen[form], sizeof(seen[form]), "%.4s", route_form(f, "x", form, i));
            to_first[form] += strcmp(seen[form], "q0") == 0;
        }
        cr_assert_str_eq(seen[0], seen[1]);
        cr_assert_str_eq(seen[0], seen[2]);
        cr_assert_str_eq(seen[3], seen[4]);
        differs += strcmp(seen[0], seen[3]) != 0;
    }
    for (int form = 0; form < FORMS; form++) {
        cr_assert(to_first[form] > 90 && to_first[form] < 160, "%u", to_first[form]);
    }
    cr_assert(differs > 800);
    /* Without the header, or without any: all to one queue. */
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_cstr(&w, "H", "other");
    snprintf(seen[0], sizeof(seen[0]), "%.4s", route_headers(f, "x", writer_bytes(&w)));
    cr_assert_str_eq(route_headers(f, "x", BYTES_NONE), seen[0]);
    cr_assert_str_eq(route(f, "x", "k"), seen[0]);
    cr_assert_str_eq(route(f, "x", "l"), seen[0]);
    writer_deinit(&w);
    fixture_free(f);
}

Test(hash, by_property)
{
    static const char *const names[] = {"correlation_id", "message_id", "timestamp"};
    struct fixture *f = fixture_new();
    queues(f, 8);
    for (int which = 0; which < 3; which++) {
        char name[16];
        hash_exchange(f, names[which], "hash-property", names[which]);
        for (uint32_t i = 0; i < 8; i++) {
            snprintf(name, sizeof(name), "q%u", i);
            bind_queue(f, names[which], name, "1");
        }
        uint32_t got[8] = {0};
        for (uint32_t i = 0; i < 8000; i++) {
            struct wire_props p = {.flags = WIRE_PROP_CORRELATION_ID | WIRE_PROP_MESSAGE_ID |
                                            WIRE_PROP_TIMESTAMP};
            char text[16];
            snprintf(text, sizeof(text), "id-%u", i);
            p.correlation_id = which == 0 ? B(text) : B("c");
            p.message_id = which == 1 ? B(text) : B("m");
            p.timestamp = which == 2 ? i : 5;
            struct writer w;
            writer_init(&w, wire_props_size(&p));
            wire_props_put(&w, &p);
            const struct route_input input = {.key = B("same"), .props = writer_bytes(&w)};
            got[route_input(f, names[which], &input)[1] - '0']++;
            cr_assert(!f->result.key_only);
            writer_deinit(&w);
        }
        for (int i = 0; i < 8; i++) {
            cr_assert(got[i] > 880 && got[i] < 1120, "%u", got[i]);
        }
        snprintf(name, sizeof(name), "%.4s", route(f, names[which], "a"));
        cr_assert_str_eq(route(f, names[which], "b"), name);
    }
    fixture_free(f);
}

/* --- picking ---------------------------------------------------------------------------------- */

Test(hash, modulus_and_random_count_bindings)
{
    static const char *const types[] = {"x-modulus-hash", "x-random"};
    for (int i = 0; i < 2; i++) {
        struct fixture *f = fixture_new();
        uint32_t got[QUEUES_MAX];
        exchange(f, "x", types[i]);
        queues(f, 4);
        cr_assert_str_eq(route(f, "x", "k"), "");
        bind_queue(f, "x", "q0", "a");
        bind_queue(f, "x", "q1", "b");
        bind_queue(f, "x", "q2", "");
        bind_queue(f, "x", "q2", "twice");
        spread(f, "x", 200000, got);
        expect_share(got[0], 200000, 1, 4);
        expect_share(got[2], 200000, 2, 4);
        cr_assert_eq(got[3], 0);
        cr_assert_eq(f->result.key_only, i == 0);
        unbind_queue(f, "x", "q2", "");
        spread(f, "x", 200000, got);
        expect_share(got[2], 200000, 1, 3);
        fixture_free(f);
    }
}

/* Two random exchanges on the way of a message do not choose alike. */
Test(hash, each_random_exchange_has_its_own_chance)
{
    struct fixture *f = fixture_new();
    struct prng p;
    prng_init(&p, 3);
    queues(f, 2);
    exchange(f, "a", "x-random");
    exchange(f, "b", "x-random");
    exchange(f, "all", "fanout");
    for (int i = 0; i < 2; i++) {
        bind_queue(f, i == 0 ? "a" : "b", "q0", "");
        bind_queue(f, i == 0 ? "a" : "b", "q1", "");
        bind_exchange(f, "all", i == 0 ? "a" : "b", "");
    }
    uint32_t both = 0;
    for (int i = 0; i < 10000; i++) {
        const struct route_input input = {.key = B("k"), .random = prng_u64(&p)};
        both += strcmp(route_input(f, "all", &input), "q0 q1") == 0;
    }
    cr_assert(both > 4700 && both < 5300, "%u", both);
    fixture_free(f);
}

static void queue_on(struct fixture *f, const char *name, struct uid node, struct uid preferred)
{
    const struct catalog_member members[] = {{.id = {9, 1}, .node = {1, 1}}};
    struct catalog_command c = {.kind = CATALOG_DECLARE_QUEUE,
                                .u.queue = {.vhost = B("/"),
                                            .name = B(name),
                                            .type = CATALOG_CLASSIC,
                                            .run = CATALOG_RUN_GROUP,
                                            .durable = true}};
    (void)node;
    c.u.queue.group.members = members;
    c.u.queue.group.member_count = 1;
    c.u.queue.group.target_size = 1;
    c.u.queue.group.preferred = preferred;
    must(apply(f, &c));
}

Test(hash, local_random_takes_what_runs_here)
{
    struct fixture *f = fixture_new();
    struct prng p;
    prng_init(&p, 5);
    exchange(f, "x", "x-local-random");
    queues(f, 20);
    queue_on(f, "here", (struct uid){1, 1}, UID_NONE);
    queue_on(f, "wanted", (struct uid){1, 1}, (struct uid){1, 1});
    const struct route_input here = {.key = B("k"), .node = {1, 1}};
    const struct route_input there = {.key = B("k"), .node = {1, 2}};
    cr_assert_str_eq(route_input(f, "x", &here), "");
    bind_queue(f, "x", "here", "");
    cr_assert_str_eq(route_input(f, "x", &here), "here");
    cr_assert_str_eq(route_input(f, "x", &there), "");
    cr_assert_str_eq(route(f, "x", "k"), ""); /* nobody says who asks */
    bind_queue(f, "x", "wanted", "");
    char name[16];
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "q%d", i);
        bind_queue(f, "x", name, "");
    }
    uint32_t got = 0;
    for (int i = 0; i < 22000; i++) {
        struct route_input input = here;
        input.random = prng_u64(&p);
        got += strcmp(route_input(f, "x", &input), "wanted") == 0;
        cr_assert_eq(f->result.count, 1);
        cr_assert(!f->result.key_only);
    }
    cr_assert(got > 900 && got < 1100, "%u", got);
    cr_assert_str_eq(route_input(f, "x", &there), "");
    fixture_free(f);
}

/* --- what is refused -------------------------------------------------------------------------- */

Test(hash, weights_are_checked)
{
    static const struct {
        const char *key, *text;
    } rows[] = {
        {"1", NULL},
        {"+7", NULL},
        {"007", NULL},
        {"4294967295", NULL},
        {"", "The binding key must be an integer: <<>>"},
        {"\x01\xff", "The binding key must be an integer: <<1,255>>"},
        {"a\"\\", "The binding key must be an integer: <<\"a\\\"\\\\\">>"},
        {"a", "The binding key must be an integer: <<\"a\">>"},
        {"1.5", "The binding key must be an integer: <<\"1.5\">>"},
        {" 1", "The binding key must be an integer: <<\" 1\">>"},
        {"1 ", "The binding key must be an integer: <<\"1 \">>"},
        {"-", "The binding key must be an integer: <<\"-\">>"},
        {"+-1", "The binding key must be an integer: <<\"+-1\">>"},
        {"0", "The binding key must be greater than 0"},
        {"-0", "The binding key must be greater than 0"},
        {"-5", "The binding key must be greater than 0"},
        {"4294967296", "The binding key must not be greater than 4294967295"},
        {"99999999999999999999999999999999", "The binding key must not be greater than 4294967295"},
        {"9999999999999999999999999999999x",
         "The binding key must be an integer: <<\"9999999999999999999999999999999x\">>"},
    };
    const struct exchange_type *type = exchange_type_find(B("x-consistent-hash"));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char buffer[300];
        struct strbuf text;
        strbuf_init(&text, buffer, sizeof(buffer));
        const struct route_binding binding = {.key = B(rows[i].key)};
        const int error = route_validate_binding(type, &binding, &text);
        cr_assert_eq(error, rows[i].text == NULL ? 0 : WR_E_INVALID, "%s", rows[i].key);
        cr_assert_str_eq(buffer, rows[i].text == NULL ? "" : rows[i].text);
    }
}

static void expect_declare(const char *type, struct bytes arguments, const char *expected)
{
    char buffer[300];
    struct strbuf text;
    strbuf_init(&text, buffer, sizeof(buffer));
    const int error = exchange_type_validate(exchange_type_find(B(type)), arguments, &text);
    cr_assert_eq(error, expected[0] == 0 ? 0 : WR_E_INVALID, "%s", expected);
    cr_assert_str_eq(buffer, expected);
}

Test(hash, declarations_are_checked)
{
    static const struct {
        const char *header, *property, *text;
    } rows[] = {
        {NULL, NULL, ""},
        {"h", NULL, ""},
        {NULL, "message_id", ""},
        {NULL, "timestamp", ""},
        {NULL, "app_id", "Unsupported property: app_id"},
        {NULL, "", "Unsupported property: "},
        {"h", "message_id", "hash-header and hash-property are mutually exclusive"},
        {"h", "app_id", "hash-header and hash-property are mutually exclusive"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct writer w;
        writer_init(&w, 64);
        if (rows[i].header != NULL) {
            wire_table_put_cstr(&w, "hash-header", rows[i].header);
        }
        if (rows[i].property != NULL) {
            wire_table_put_cstr(&w, "hash-property", rows[i].property);
        }
        expect_declare("x-consistent-hash", writer_bytes(&w), rows[i].text);
        /* Inside a delayed exchange the same. */
        wire_table_put_cstr(&w, "x-delayed-type", "x-consistent-hash");
        expect_declare("x-delayed-message", writer_bytes(&w), rows[i].text);
        writer_deinit(&w);
    }
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_int32(&w, "hash-header", 5);
    expect_declare("x-consistent-hash", writer_bytes(&w),
                   "Invalid argument, 'hash-header' must be of type longstr");
    expect_declare("direct", writer_bytes(&w), "");
    writer_deinit(&w);
}

Test(hash, local_random_bindings_are_checked)
{
    struct fixture *f = fixture_new();
    queue(f, "q");
    const struct exchange_type *type = exchange_type_find(B("x-local-random"));
    const struct catalog_queue *q = catalog_queue(catalog_view_peek(f->catalog), B("/"), B("q"));
    struct catalog_queue quorum = *q;
    quorum.spec.type = CATALOG_QUORUM;
    const struct {
        struct route_binding binding;
        const char *text;
    } rows[] = {
        {{.queue = q}, ""},
        {{.queue = q, .key = B("k")}, "Non empty binding 'k' key not permitted"},
        {{.queue = NULL}, "Destination not found"},
        {{.queue = &quorum}, "Queue type rabbit_quorum_queue not valid for this exchange type"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char buffer[300];
        struct strbuf text;
        strbuf_init(&text, buffer, sizeof(buffer));
        const int error = route_validate_binding(type, &rows[i].binding, &text);
        cr_assert_eq(error, rows[i].text[0] == 0 ? 0 : WR_E_INVALID);
        cr_assert_str_eq(buffer, rows[i].text);
    }
    fixture_free(f);
}
