/* What: tests of warren-perf's histogram and command line. */
#include <criterion/criterion.h>

#include "warren/prng.h"
#include "warren/wire_props.h"
#include "warren/wire_table.h"

#include "hist.h"
#include "options.h"
#include "uri.h"

#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

Test(hist, quantiles_are_within_two_percent_of_the_exact_ones)
{
    static const uint64_t nums[] = {1, 50, 75, 95, 99, 100};
    struct prng p;
    prng_init(&p, 1);
    static uint64_t values[5000];
    static struct hist h;
    for (int round = 0; round < 20; round++) {
        hist_clear(&h);
        for (size_t i = 0; i < WR_ARRAY_SIZE(values); i++) {
            values[i] = prng_u64(&p) >> prng_below(&p, 64);
            hist_record(&h, values[i]);
        }
        qsort(values, WR_ARRAY_SIZE(values), sizeof(values[0]), by_value);
        cr_assert_eq(h.min, values[0]);
        cr_assert_eq(h.max, values[WR_ARRAY_SIZE(values) - 1]);
        for (size_t i = 0; i < WR_ARRAY_SIZE(nums); i++) {
            const uint64_t exact = values[nums[i] * WR_ARRAY_SIZE(values) / 100 - 1];
            const uint64_t found = hist_quantile(&h, nums[i], 100);
            cr_assert(found >= exact && found - exact <= exact / 50);
        }
    }
}

Test(hist, empty_and_merged)
{
    static struct hist a;
    static struct hist b;
    hist_clear(&a);
    hist_clear(&b);
    cr_assert_eq(hist_quantile(&a, 1, 2), 0);
    cr_assert_eq(hist_mean(&a), 0);
    hist_record(&a, 10);
    hist_record(&b, 30);
    hist_record(&b, UINT64_MAX / 2);
    hist_merge(&a, &b);
    cr_assert(a.count == 3 && a.min == 10 && a.max == UINT64_MAX / 2);
    cr_assert_eq(hist_quantile(&a, 1, 3), 10);
    cr_assert_eq(hist_quantile(&a, 2, 3), 30);
    cr_assert_eq(hist_quantile(&a, 1, 1), UINT64_MAX / 2);
    hist_clear(&b);
    hist_merge(&a, &b);
    cr_assert_eq(a.count, 3);
}

static struct options o;

static void parse(char **argv, int argc)
{
    options_parse(&o, argc, argv);
}

#define PARSE(...)                                                                                 \
    do {                                                                                           \
        char *args[] = {"warren-perf", __VA_ARGS__};                                               \
        parse(args, (int)WR_ARRAY_SIZE(args));                                                     \
    } while (0)

Test(options, values_may_be_joined_or_separate)
{
    PARSE("-x2", "-y", "3", "-s16", "-a", "-z5", "--qos=7", "-r", "0.5", "-c", "100");
    cr_assert(o.producers == 2 && o.consumers == 3 && o.size == 16 && o.autoack);
    cr_assert(o.seconds == 5 && o.qos == 7 && o.confirm_window == 100);
    cr_assert_eq(o.send_interval_ns, UINT64_C(2000000000));
    cr_assert_eq(o.uri_count, 1);
    cr_assert_str_eq(o.uris[0].text, "127.0.0.1:5672");
    cr_assert_str_eq(o.exchange, "amq.direct");
    options_deinit(&o);
}

Test(options, uris_are_taken_apart)
{
    PARSE("-H", "amqp://127.0.0.1,amqp://u%40x:p%3aw@127.0.0.2:99/v%2fh", "-h",
          "amqp://user@[::1]:7/", "-x", "1");
    cr_assert_eq(o.uri_count, 3);
    cr_assert_str_eq(o.uris[0].user, "guest");
    cr_assert_str_eq(o.uris[0].vhost, "/");
    cr_assert_str_eq(o.uris[1].user, "u@x");
    cr_assert_str_eq(o.uris[1].password, "p:w");
    cr_assert_str_eq(o.uris[1].vhost, "v/h");
    cr_assert_str_eq(o.uris[1].text, "127.0.0.2:99");
    cr_assert_str_eq(o.uris[2].user, "user");
    cr_assert_str_eq(o.uris[2].text, "::1:7");
    options_deinit(&o);
}

Test(options, quorum_queues_are_durable_and_their_messages_persistent)
{
    PARSE("--quorum-queue", "-u", "q", "-qa", "x-max-length=10,x-overflow=reject-publish", "-mp",
          "priority=4,colour=red");
    cr_assert(o.durable && o.persistent);
    const struct bytes args = writer_bytes(&o.queue_args);
    struct bytes text;
    int64_t number = 0;
    cr_assert(wire_table_get_string(args, "x-queue-type", &text));
    cr_assert(bytes_eq_cstr(text, "quorum"));
    cr_assert(wire_table_get_integer(args, "x-max-length", &number) && number == 10);
    struct wire_props props;
    cr_assert_eq(wire_props_validate(writer_bytes(&o.props), NULL, &props), WIRE_OK);
    cr_assert(props.delivery_mode == 2 && props.priority == 4);
    cr_assert(wire_table_get_string(props.headers, "colour", &text));
    char name[256];
    options_routing_key(&o, 0, name);
    cr_assert_str_eq(name, "q");
    options_deinit(&o);
}

Test(options, a_pattern_names_many_queues)
{
    PARSE("-qp", "a-%d-b", "-qpf", "3", "-qpt", "5");
    cr_assert_eq(options_queue_count(&o), 3);
    char name[256];
    options_queue_name(&o, 2, name);
    cr_assert_str_eq(name, "a-5-b");
    options_routing_key(&o, 1, name);
    cr_assert_str_eq(name, "a-4-b");
    options_deinit(&o);
}

Test(options, unknown_ones_end_the_program, .exit_code = 2)
{
    PARSE("--no-such-option");
}

/* -x=1 as in PerfTest; what tunes PerfTest's threads does nothing, with or without its value. */
Test(options, perftests_tuning_is_taken)
{
    PARSE("-x=4", "-dcr", "-hst", "5", "--nio-threads=3", "-u=work", "-y", "2");
    cr_assert(o.producers == 4 && o.consumers == 2 && !o.reconnect);
    cr_assert_str_eq(o.queue, "work");
    cr_assert_neq(strcmp(o.id, "cr"), 0);
    options_deinit(&o);
}

/* Not an exchange called "nv". */
Test(options, perftests_others_are_refused, .exit_code = 2)
{
    PARSE("-env");
}

Test(options, perftests_others_are_refused_by_their_long_names, .exit_code = 2)
{
    PARSE("--variable-rate=100:2");
}

/* An option's value may look like an option of PerfTest. */
Test(options, values_are_not_options)
{
    PARSE("-d", "-env", "-k", "-K");
    cr_assert_str_eq(o.id, "-env");
    cr_assert_str_eq(o.key, "-K");
    options_deinit(&o);
}

Test(options, a_pattern_must_have_one_number, .exit_code = 2)
{
    PARSE("-qp", "a-%s", "-qpt", "5");
}

Test(options, a_gap_report_needs_confirms, .exit_code = 2)
{
    PARSE("--gap-report");
}

Test(options, keys_and_priorities_are_mixed)
{
    PARSE("-p", "-u", "q", "-k", "k.%d.x", "--routing-keys", "3", "--mixed-priorities", "11", "-mp",
          "expiration=60000,priority=77", "-f", "persistent");
    bool keys[3] = {false};
    bool priorities[11] = {false};
    const unsigned count = options_variant_count(&o);
    cr_assert(count > 33 && (count & (count - 1)) == 0);
    for (unsigned i = 0; i < count; i++) {
        char key[256];
        struct bytes raw;
        struct wire_props props;
        options_variant(&o, 0, i, key, &raw);
        cr_assert(strlen(key) == 5 && key[2] >= '0' && key[2] <= '2');
        keys[key[2] - '0'] = true;
        cr_assert_eq(wire_props_validate(raw, NULL, &props), WIRE_OK);
        cr_assert(props.delivery_mode == 2 && bytes_eq_cstr(props.expiration, "60000"));
        cr_assert(wire_props_has(&props, WIRE_PROP_PRIORITY) && props.priority < 11);
        priorities[props.priority] = true;
    }
    for (unsigned i = 0; i < 11; i++) {
        cr_assert(priorities[i] && keys[i % 3]);
    }
    options_deinit(&o);
}

Test(options, without_mixing_all_messages_are_alike)
{
    PARSE("-u", "q", "-mp", "priority=4");
    cr_assert_eq(options_variant_count(&o), 1);
    char key[256];
    struct bytes raw;
    options_variant(&o, 0, 0, key, &raw);
    cr_assert_str_eq(key, "q");
    cr_assert(bytes_eq(raw, writer_bytes(&o.props)));
    options_deinit(&o);
}

/* A queue would be bound with %d itself. */
Test(options, many_keys_are_not_declared, .exit_code = 2)
{
    PARSE("-u", "q", "-k", "k.%d", "--routing-keys", "3");
}

static const char *why(const char *text)
{
    struct uri_parts parts;
    const char *reason = uri_parse(bytes_from_cstr(text), &parts);
    return reason == NULL ? "" : reason;
}

Test(uri, parts_and_defaults)
{
    struct uri_parts p;
    cr_assert_null(uri_parse(BYTES_LITERAL("amqp://"), &p));
    cr_assert_str_eq(p.user, "guest");
    cr_assert_str_eq(p.password, "guest");
    cr_assert_str_eq(p.host, "127.0.0.1");
    cr_assert_str_eq(p.port, "5672");
    cr_assert_str_eq(p.vhost, "/");
    cr_assert_null(uri_parse(BYTES_LITERAL("amqp://u%40x:p%3aw@a@[::1]:99/v%2fh"), &p));
    cr_assert_str_eq(p.user, "u@x");
    cr_assert_str_eq(p.password, "p:w@a");
    cr_assert_str_eq(p.host, "::1");
    cr_assert_str_eq(p.port, "99");
    cr_assert_str_eq(p.vhost, "v/h");
    cr_assert_not(p.tls);
    cr_assert_null(uri_parse(BYTES_LITERAL("amqps://h/v"), &p));
    cr_assert(p.tls);
    cr_assert_str_eq(p.host, "h");
    cr_assert_str_eq(p.port, "5671");
    cr_assert_null(uri_parse(BYTES_LITERAL("amqps://h:1"), &p));
    cr_assert_str_eq(p.port, "1");
}

Test(uri, what_is_none_is_refused)
{
    char text[400] = "amqp://";
    cr_assert_str_eq(why("amqp://h:1/%zz"), "");
    cr_assert_str_neq(why("http://h"), "");
    cr_assert_str_neq(why("amqp://[::1"), "");
    cr_assert_str_neq(why("amqp://[::1]5672"), "");
    cr_assert_str_neq(why("amqp://a%00b@h"), "");
    memset(text + 7, 'h', 255);
    cr_assert_str_eq(why(text), "");
    text[7 + 255] = 'h';
    cr_assert_str_neq(why(text), "");
}
