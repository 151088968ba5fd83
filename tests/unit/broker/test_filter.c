/* Message filters: the language by table, and what is not one. */
#include "filter.h"
#include "rig.h"

static struct message sample(void)
{
    struct writer headers;
    struct writer raw;
    writer_init(&headers, 128);
    wire_table_put_int64(&headers, "n", 5);
    wire_table_put_cstr(&headers, "colour", "it's red");
    wire_table_put_bool(&headers, "yes", true);
    wire_table_put_cstr(&headers, "x-retry-count", "two");
    wire_table_put_cstr(&headers, "odd name", "o");
    wire_table_put_int64(&headers, "big", (INT64_C(1) << 53) + 1);
    wire_table_put_int64(&headers, "least", INT64_MIN);
    wire_put_key(&headers, B("when"));
    wire_value_put_timestamp(&headers, UINT64_MAX);
    wire_put_key(&headers, B("x-death"));
    wire_value_put_array(&headers, BYTES_LITERAL("t\x01"));
    wire_put_key(&headers, B("table"));
    wire_value_put_table(&headers, BYTES_NONE);
    wire_put_key(&headers, B("void"));
    wire_value_put_void(&headers);
    struct wire_props p = {.flags = WIRE_PROP_HEADERS | WIRE_PROP_PRIORITY | WIRE_PROP_TYPE |
                                    WIRE_PROP_DELIVERY_MODE | WIRE_PROP_CLUSTER_ID,
                           .priority = 7,
                           .delivery_mode = 2,
                           .type = B("order.created"),
                           .cluster_id = B("c"),
                           .headers = writer_bytes(&headers)};
    writer_init(&raw, wire_props_size(&p));
    wire_props_put(&raw, &p);
    struct message m = rig_message("x", "the.key", writer_bytes(&raw), "four");
    writer_deinit(&raw);
    writer_deinit(&headers);
    return m;
}

struct row {
    const char *text;
    bool matches;
};

static void check_rows(const struct row *rows, size_t count)
{
    struct message m = sample();
    for (size_t i = 0; i < count; i++) {
        char text[128];
        struct strbuf why;
        strbuf_init(&why, text, sizeof text);
        struct filter *f = filter_parse(B(rows[i].text), &why);
        cr_assert(f != NULL, "%s: %s", rows[i].text, text);
        cr_expect_eq(filter_matches(f, &m, 3), rows[i].matches, "%s", rows[i].text);
        filter_free(f);
    }
    message_unref(m);
}

Test(filter, matches)
{
    static const struct row rows[] = {
        {"true", true},
        {"FALSE", false},
        {"priority = 7", true},
        {"priority == 7 and type = 'order.created'", true},
        {"priority <> 7", false},
        {"priority != 8", true},
        {"7 < priority", false},
        {"priority >= 7 AND priority <= 7", true},
        {"priority between 1 and 7", true},
        {"priority not between 1 and 6", true},
        {"priority in (1, 3+4)", true},
        {"priority not in (1, 2)", true},
        {"type in ('a', 'order.created')", true},
        {"type like 'order.%'", true},
        {"type like '%created%'", true},
        {"type like 'order_created'", true},
        {"type like 'order'", false},
        {"type not like 'x%'", true},
        {"type like '%%%e%d'", true},
        {"type ~ '^order\\.(created|paid)$'", true},
        {"type ~ 'paid'", false},
        {"headers.n = 5", true},
        {"headers.n * 2 - 1 = 9", true},
        {"-headers.n = 0 - 5", true},
        {"headers.n / 0 = 1", false},
        {"(headers.n / 0) is null", true},
        {"headers.colour = 'it''s red'", true},
        {"headers['odd name'] = 'o'", true},
        {"headers.x-retry-count = 'two'", true},
        {"headers.yes", true},
        {"not headers.yes", false},
        {"headers.none is null", true},
        {"headers.n is not null", true},
        {"message_id is null", true},
        {"headers.none = 5", false},
        {"not (headers.none = 5)", false}, /* unknown stays unknown */
        {"headers.none = 5 or priority = 7", true},
        {"priority = 7 or headers.none = 5", true},
        {"headers.none = 5 and priority = 8", false},
        {"not (headers.none = 5 and priority = 8)", true},
        {"headers.none not in (1)", false},
        {"cluster_id = 'c'", true},
        {"headers.n = '5'", false}, /* other kinds do not compare */
        {"not (headers.n = '5')", false},
        {"priority", false}, /* not a truth value */
        {"exchange = 'x' and routing_key = 'the.key' and size = 4", true},
        {"delivery_count = 3 and delivery_mode = 2", true},
        {"1e3 = 1000 and .5 = 0.5", true},
        {"not not priority = 7", true},
        {"1 = 2 or 1 = 1 and 1 = 2", false}, /* and binds more than or */
        {"  priority\t=\n7  ", true},
    };
    check_rows(rows, WR_ARRAY_SIZE(rows));
}

/* What must not be taken for absent, or for another number: messages are deleted by this. */
Test(filter, tells_what_is_there_and_which_number)
{
    static const struct row rows[] = {
        /* there, though it is nothing that compares */
        {"headers.x-death is not null", true},
        {"headers.x-death is null", false},
        {"headers.table is not null", true},
        {"headers.x-death = headers.x-death", false},
        {"not (headers.x-death = 'x')", false},
        {"headers.x-death not in ('x')", false},
        {"headers.void is null", true},
        /* whole numbers are compared as such */
        {"headers.big = 9007199254740993", true},
        {"headers.big = 9007199254740992", false},
        {"headers.big > 9007199254740992", true},
        {"headers.big - 1 = 9007199254740992", true},
        {"headers.big in (9007199254740992, 9007199254740994)", false},
        {"headers.big * headers.big > 8e31", true},
        {"headers.n / 2 = 2.5", true},
        {"headers.n = 5.0", true},
        {"headers.least = -9223372036854775808", true},
        {"headers.least - 1 < -9e18", true},
        {"headers.when > 18000000000000000000", true},
        {"headers.n not in ('a', 'b')", false}, /* nor can it be said that it is none of them */
    };
    check_rows(rows, WR_ARRAY_SIZE(rows));
}

Test(filter, refuses)
{
    static const struct {
        const char *text;
        const char *why;
    } rows[] = {
        {"", "expected an operand at 1"},
        {"priority =", "expected an operand at 11"},
        {"(priority = 1", "expected ) at 14"},
        {"priority = 1)", "expected the end at 13"},
        {"colour = 1", "no such property (a header is headers.NAME) at 1"},
        {"type = 'open", "a text without its closing quote at 13"},
        {"type like 5", "expected a text in single quotes at 11"},
        {"type ~ '('", "a regular expression that does not compile, before at 11"},
        {"priority in 5", "expected ( at 13"},
        {"priority in (5", "expected ) at 15"},
        {"priority not 5", "expected in, like or between at 14"},
        {"priority is 5", "expected null at 13"},
        {"priority between 5", "expected between A and B at 19"},
        {"headers = 5", "expected headers.NAME or headers['NAME'] at 9"},
        {"headers. = 5", "expected the name of a header at 10"},
        {"1x = 5", "not a number at 2"},
        {"1.2.3 = 5", "not a number at 6"},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        char text[128];
        struct strbuf why;
        strbuf_init(&why, text, sizeof text);
        struct filter *f = filter_parse(B(rows[i].text), &why);
        cr_expect(f == NULL, "%s", rows[i].text);
        cr_expect_str_eq(text, rows[i].why, "%s", rows[i].text);
        filter_free(f);
    }
}

static struct filter *repeated(const char *head, const char *piece, size_t count, const char *tail)
{
    static char text[FILTER_SIZE_MAX];
    char reason[128];
    struct strbuf s;
    struct strbuf why;
    strbuf_init(&s, text, sizeof text);
    strbuf_init(&why, reason, sizeof reason);
    strbuf_add_cstr(&s, head);
    for (size_t i = 0; i < count; i++) {
        strbuf_add_cstr(&s, piece);
    }
    strbuf_add_cstr(&s, tail);
    return filter_parse(strbuf_bytes(&s), &why);
}

/* A text from outside must not be able to use up the stack. */
Test(filter, depth_is_bounded)
{
    struct filter *f = repeated("", "(", 60, "true");
    cr_assert(f == NULL);
    cr_assert(repeated("", "(", 30000, "") == NULL);
    cr_assert(repeated("", "not ", 10000, "true") == NULL);
    cr_assert(repeated("1=", "-", 10000, "1") == NULL);
    cr_assert(repeated("true", " and true", 5000, "") == NULL);
    cr_assert(repeated("1", "+1", 5000, "=1") == NULL);
    f = repeated("true", " and true", 500, "");
    struct message m = sample();
    cr_assert(f != NULL && filter_matches(f, &m, 0));
    filter_free(f);
    f = repeated("priority in (7", ",1", 20000, ")");
    cr_assert(f != NULL && filter_matches(f, &m, 0));
    filter_free(f);
    message_unref(m);
}
