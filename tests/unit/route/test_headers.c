/*
 * What: headers exchanges: modes, criteria, value equality, validation texts.
 */
#include <criterion/criterion.h>

#include "route_fixture.h"
#include "warren/prng.h"

/* A table from a text: "a=1 b=foo c" (integer, string, void); "a:1" is a 64-bit integer. */
static struct buf *table(const char *text)
{
    struct writer w;
    writer_init(&w, 64);
    struct bytes rest = B(text);
    while (rest.size > 0) {
        struct bytes word;
        (void)str_split(rest, ' ', &word, &rest);
        char field[64];
        snprintf(field, sizeof(field), "%.*s", (int)word.size, (const char *)word.data);
        char *equals = strpbrk(field, "=:");
        if (word.size == 0) {
            continue;
        }
        if (equals == NULL) {
            wire_put_key(&w, B(field));
            wire_value_put_void(&w);
            continue;
        }
        const bool wide = *equals == ':';
        *equals = '\0';
        char *end = NULL;
        const long number = strtol(equals + 1, &end, 10);
        if (*end != '\0' || end == equals + 1) {
            wire_table_put_cstr(&w, field, equals + 1);
        } else if (wide) {
            wire_table_put_int64(&w, field, number);
        } else {
            wire_table_put_int32(&w, field, (int32_t)number);
        }
    }
    return writer_take(&w);
}

static struct bytes content(const struct buf *b)
{
    return bytes_make(b->data, b->size);
}

static void bind_headers(struct fixture *f, const char *name, const char *arguments)
{
    struct buf *t = table(arguments);
    must(bind_any(f, true, "amq.headers", name, B(""), content(t), CATALOG_TO_QUEUE));
    buf_unref(t);
}

static void unbind_headers(struct fixture *f, const char *name, const char *arguments)
{
    struct buf *t = table(arguments);
    must(bind_any(f, false, "amq.headers", name, B(""), content(t), CATALOG_TO_QUEUE));
    buf_unref(t);
}

/* Routes a message with these headers. */
static const char *send(struct fixture *f, const char *headers)
{
    struct buf *t = table(headers);
    struct wire_props props = {.flags = WIRE_PROP_HEADERS, .headers = content(t)};
    struct writer w;
    writer_init(&w, 64);
    wire_props_put(&w, &props);
    const struct route_input input = {.key = B("ignored"), .props = writer_bytes(&w)};
    const char *result = route_input(f, "amq.headers", &input);
    writer_deinit(&w);
    buf_unref(t);
    return result;
}

static const struct {
    const char *arguments, *headers;
    bool matches;
} cases[] = {
    /* all is the default */
    {"a=1 b=x", "a=1 b=x c=9", true},
    {"a=1 b=x", "a=1", false},
    {"a=1 b=x", "a=1 b=y", false},
    {"x-match=all a=1 b=x", "b=x a=1", true},
    {"x-match=any a=1 b=x", "b=x", true},
    {"x-match=any a=1 b=x", "a=2 b=z", false},
    {"x-match=any a=1", "", false},
    /* nothing to compare: all matches everything, any nothing */
    {"", "", true},
    {"", "a=1", true},
    {"x-match=all", "", true},
    {"x-match=any", "a=1", false},
    {"x-match=any x-y=1", "x-y=1", false},
    {"x-match=all x-y=1", "", true},
    /* -with-x */
    {"x-match=all-with-x x-y=1", "x-y=1", true},
    {"x-match=all-with-x x-y=1", "x-y=2", false},
    {"x-match=all-with-x x-y=1 a=1", "a=1", false},
    {"x-match=any-with-x x-y=1 a=1", "x-y=1", true},
    {"x-match=any-with-x", "a=1", false},
    {"x-match=all-with-x", "", true},
    /* presence */
    {"a", "a=7", true},
    {"a", "a=text", true},
    {"a", "a", true},
    {"a", "b=1", false},
    {"x-match=any a b=1", "a=0", true},
    /* values: numbers are equal whatever their width, other kinds never */
    {"a=1", "a:1", true},
    {"a:1", "a=1", true},
    {"a=1", "a=1x", false},
    {"a=01x", "a=1", false},
    {"a=-1", "a:-1", true},
    /* names are case-sensitive; the first field of a name counts */
    {"A=1", "a=1", false},
    {"a=1", "a=1 a=2", true},
    {"a=2", "a=1 a=2", false},
};

Test(headers, bindings_match_as_listed)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fixture *f = fixture_new();
        queue(f, "q");
        bind_headers(f, "q", cases[i].arguments);
        cr_assert_str_eq(send(f, cases[i].headers), cases[i].matches ? "q" : "", "'%s' '%s'",
                         cases[i].arguments, cases[i].headers);
        unbind_headers(f, "q", cases[i].arguments);
        cr_assert_str_eq(send(f, cases[i].headers), "");
        fixture_free(f);
    }
}

Test(headers, messages_without_headers_or_with_broken_ones_are_safe)
{
    struct fixture *f = fixture_new();
    queue(f, "q");
    queue(f, "r");
    bind_headers(f, "q", "x-match=all");
    bind_headers(f, "r", "a=1");
    const struct route_input none = {.key = B("k")};
    cr_assert_str_eq(route_input(f, "amq.headers", &none), "q");
    const struct route_input empty = {.key = B("k"), .props = BYTES_LITERAL("\0\0")};
    cr_assert_str_eq(route_input(f, "amq.headers", &empty), "q");
    const struct route_input broken = {.key = B("k"),
                                       .props = BYTES_LITERAL("\x20\0\0\0\0\x08\x01"
                                                              "aI\0\0")};
    cr_assert_str_eq(route_input(f, "amq.headers", &broken), "q");
    fixture_free(f);
}

/* Above 16 fields the message's headers are sorted and searched: the same answers. */
Test(headers, many_fields_give_the_same_answers)
{
    struct prng p;
    prng_init(&p, 4);
    struct fixture *f = fixture_new();
    char name[16];
    for (int i = 0; i < 30; i++) {
        char arguments[64];
        snprintf(name, sizeof(name), "q%02d", i);
        snprintf(arguments, sizeof(arguments), "x-match=%s h%d=%d h%d=1", i % 2 ? "any" : "all", i,
                 i % 3, (i * 7) % 30);
        queue(f, name);
        bind_headers(f, name, arguments);
    }
    for (int round = 0; round < 300; round++) {
        int values[30];
        char headers[1024];
        struct strbuf header_list;
        strbuf_init(&header_list, headers, sizeof(headers));
        const bool many = round % 2 == 0;
        for (int i = 0; i < 30; i++) {
            values[i] = -1;
        }
        for (uint64_t k = many ? 25 : 8; k > 0; k--) {
            const int i = (int)prng_below(&p, 30);
            const int value = (int)prng_below(&p, 3);
            values[i] = values[i] < 0 ? value : values[i];
            strbuf_printf(&header_list, " h%d=%d", i, value);
        }
        char expected[512];
        struct strbuf list;
        strbuf_init(&list, expected, sizeof(expected));
        for (int i = 0; i < 30; i++) {
            const bool first = values[i] == i % 3;
            const bool second = values[(i * 7) % 30] == 1;
            if (i % 2 ? first || second : first && second) {
                snprintf(name, sizeof(name), "q%02d", i);
                add_name(&list, name);
            }
        }
        cr_assert_str_eq(send(f, headers), expected);
    }
    fixture_free(f);
}

Test(headers, x_match_is_validated_with_rabbitmqs_texts)
{
    static const struct {
        const char *arguments, *text;
    } table_cases[] = {
        {"", NULL},
        {"a=1", NULL},
        {"x-match=all", NULL},
        {"x-match=any", NULL},
        {"x-match=all-with-x", NULL},
        {"x-match=any-with-x", NULL},
        {"x-match=some",
         "Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, or "
         "any-with-x"},
        {"x-match=", "Invalid x-match field value <<>>; expected all, any, all-with-x, or "
                     "any-with-x"},
        {"x-match", "Invalid x-match field type void (value undefined); expected longstr"},
        {"x-match=5", "Invalid x-match field type signedint (value 5); expected longstr"},
    };
    const struct exchange_type *type = exchange_type_find(B("headers"));
    for (size_t i = 0; i < sizeof(table_cases) / sizeof(table_cases[0]); i++) {
        struct buf *t = table(table_cases[i].arguments);
        char memory[256];
        struct strbuf text;
        strbuf_init(&text, memory, sizeof(memory));
        const struct route_binding binding = {.key = B("k"), .arguments = content(t)};
        const int error = route_validate_binding(type, &binding, &text);
        cr_assert_eq(error, table_cases[i].text == NULL ? 0 : WR_E_INVALID);
        cr_assert_str_eq(memory, table_cases[i].text == NULL ? "" : table_cases[i].text);
        cr_assert_eq(route_validate_binding(exchange_type_find(B("direct")), &binding, &text), 0);
        buf_unref(t);
    }
}

/* --- look-ups against the definition ---------------------------------------------------------- */

enum { VALUES = 20 };

/* The n-th of a number of values, many of which are equal and many nearly so. */
static void put_value(struct writer *w, uint64_t n)
{
    static char large[3000];
    static const uint8_t raw[] = {0, 0, 0, 1, '1'};
    const struct wire_value binary = {.type = WIRE_FIELD_BINARY,
                                      .raw = bytes_make(raw, sizeof(raw))};
    memset(large, 'l', sizeof(large));
    switch (n) {
    case 0:
        wire_value_put_int32(w, 1);
        break;
    case 1:
        wire_value_put_int64(w, 1);
        break;
    case 2:
        wire_value_put_uint8(w, 1);
        break;
    case 3:
        wire_value_put_double(w, 1.0);
        break;
    case 4:
        wire_value_put_timestamp(w, 1);
        break;
    case 5:
        wire_value_put_double(w, 1.5);
        break;
    case 6:
        wire_value_put_double(w, -0.0);
        break;
    case 7:
        wire_value_put_int32(w, 0);
        break;
    case 8:
        wire_value_put_longstr(w, B("1"));
        break;
    case 9:
        wire_value_put(w, &binary);
        break;
    case 10:
        wire_value_put_bool(w, true);
        break;
    case 11:
        wire_value_put_bool(w, false);
        break;
    case 12:
        wire_value_put_timestamp(w, UINT64_MAX);
        break;
    case 13:
        wire_value_put_int64(w, -1);
        break;
    case 14:
        wire_value_put_double(w, 0x1p63);
        break;
    case 15:
        wire_value_put_timestamp(w, UINT64_C(1) << 63);
        break;
    case 16:
        wire_value_put_array(w, BYTES_LITERAL("t\x01"));
        break;
    case 17:
        wire_value_put_table(w, BYTES_NONE);
        break;
    case 18:
        wire_value_put_longstr(w, bytes_make(large, sizeof(large)));
        break;
    default:
        wire_value_put_void(w);
        break;
    }
}

/* A few fields; now and then many, or a name twice. */
static struct buf *random_table(struct prng *p, bool with_match)
{
    static const char *const names[] = {"a", "b", "x-c", "d", "e"};
    static const char *const texts[] = {"all", "any", "all-with-x", "any-with-x"};
    struct writer w;
    writer_init(&w, 64);
    if (with_match && prng_ratio(p, 4, 5)) {
        wire_table_put_cstr(&w, "x-match", texts[prng_below(p, 4)]);
    }
    bool used[5] = {false};
    const uint64_t count = prng_below(p, 4);
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t name = prng_below(p, 5);
        if (!used[name] || prng_ratio(p, 1, 10)) {
            used[name] = true;
            wire_put_key(&w, B(names[name]));
            put_value(&w, prng_ratio(p, 1, 2) ? prng_below(p, VALUES) : prng_below(p, 2) * 19);
        }
    }
    if (prng_ratio(p, 1, 20)) {
        for (int i = 0; i < 20; i++) {
            char name[8];
            snprintf(name, sizeof(name), "n%d", i);
            wire_put_key(&w, B(name));
            put_value(&w, 0);
        }
    }
    return writer_take(&w);
}

static bool by_definition(struct bytes arguments, struct bytes headers)
{
    struct bytes match = B("all");
    (void)wire_table_get_string(arguments, "x-match", &match);
    const bool with_x = match.size > 3;
    const bool any = bytes_starts_with(match, B("any"));
    struct wire_table_iter it;
    struct bytes name;
    struct wire_value wanted;
    struct wire_value value;
    wire_table_iter_init(&it, arguments);
    while (wire_table_iter_next(&it, &name, &wanted)) {
        if (with_x ? bytes_eq_cstr(name, "x-match") : bytes_starts_with(name, B("x-"))) {
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

Test(headers, look_ups_agree_with_the_definition, .timeout = 120)
{
    enum { BINDINGS = 100 };
    struct prng p;
    prng_init(&p, 17);
    uint32_t matched = 0;
    for (int round = 0; round < 20; round++) {
        struct fixture *f = fixture_new();
        struct buf *arguments[BINDINGS];
        bool bound[BINDINGS] = {false};
        char name[16];
        for (int i = 0; i < BINDINGS; i++) {
            snprintf(name, sizeof(name), "q%02d", i);
            queue(f, name);
            arguments[i] = random_table(&p, true);
        }
        for (int step = 0; step < 600; step++) {
            const int change = (int)prng_below(&p, BINDINGS);
            snprintf(name, sizeof(name), "q%02d", change);
            must(bind_any(f, !bound[change], "amq.headers", name, B(""), content(arguments[change]),
                          CATALOG_TO_QUEUE));
            bound[change] = !bound[change];
            struct buf *message = random_table(&p, false);
            struct wire_props props = {.flags = WIRE_PROP_HEADERS, .headers = content(message)};
            struct writer w;
            writer_init(&w, wire_props_size(&props));
            wire_props_put(&w, &props);
            char expected[1024];
            struct strbuf list;
            strbuf_init(&list, expected, sizeof(expected));
            for (int i = 0; i < BINDINGS; i++) {
                if (bound[i] && by_definition(content(arguments[i]), content(message))) {
                    snprintf(name, sizeof(name), "q%02d", i);
                    add_name(&list, name);
                    matched++;
                }
            }
            const struct route_input input = {.key = B("k"), .props = writer_bytes(&w)};
            cr_assert_str_eq(route_input(f, "amq.headers", &input), expected);
            writer_deinit(&w);
            buf_unref(message);
        }
        for (int i = 0; i < BINDINGS; i++) {
            snprintf(name, sizeof(name), "q%02d", i);
            if (bound[i]) {
                must(bind_any(f, false, "amq.headers", name, B(""), content(arguments[i]),
                              CATALOG_TO_QUEUE));
            }
            buf_unref(arguments[i]);
        }
        const struct catalog_view *view = catalog_view_peek(f->catalog);
        cr_assert_null(catalog_exchange(view, B("/"), B("amq.headers"))->index);
        fixture_free(f);
    }
    cr_assert_gt(matched, 10000);
}
