/* Policies: which one applies, how values merge, what a definition may be, what a change touches.
 */
#include "policy_fixture.h"

#include "warren/prng.h"
#include "warren/queue.h"

/* --- what is in force ------------------------------------------------------------------------- */

static void say(struct strbuf *s, const char *name, uint64_t value, uint64_t none)
{
    if (value != none) {
        strbuf_printf(s, "%s=%llu ", name, (unsigned long long)value);
    }
}

/* All that differs from "nothing said". */
static const char *settings_text(const struct catalog_queue *q, char *text, size_t size)
{
    const struct queue_settings *s = &q->settings;
    struct strbuf b;
    strbuf_init(&b, text, size);
    say(&b, "ttl", s->ttl_ms, UINT64_MAX);
    say(&b, "expires", s->expires_ms, UINT64_MAX);
    say(&b, "length", s->length_max, UINT64_MAX);
    say(&b, "bytes", s->bytes_max, UINT64_MAX);
    if (s->delivery_limit != (q->spec.type == CATALOG_QUORUM ? 20 : -1)) {
        strbuf_printf(&b, "delivery=%lld ", (long long)s->delivery_limit);
    }
    say(&b, "overflow", s->overflow, 0);
    say(&b, "strategy", s->dead_letter_strategy, 0);
    if (s->has_dead_letter_exchange) {
        strbuf_printf(&b, "dlx=%.*s ", NAME(s->dead_letter_exchange));
    }
    if (s->has_dead_letter_key) {
        strbuf_printf(&b, "dlk=%.*s ", NAME(s->dead_letter_key));
    }
    say(&b, "priority", s->priority_max, 0);
    say(&b, "single", s->single_active_consumer, 0);
    say(&b, "lazy", s->lazy, 0);
    say(&b, "timeout", s->consumer_timeout_ms, UINT64_MAX);
    say(&b, "dedup", s->dedup_window_ms, 0);
    say(&b, "delays", s->delays, 0);
    say(&b, "ha", s->ha_mode, 0);
    say(&b, "count", s->ha_count, 0);
    say(&b, "nodes", s->ha_nodes.size, 0);
    say(&b, "target", s->target_group_size, 0);
    if (b.size > 0) {
        text[b.size - 1] = 0;
    }
    return text;
}

struct merge_case {
    int type;
    const char *arguments, *policy, *operator_policy; /* "": none */
    const char *expected;
};

#define C CATALOG_CLASSIC
#define Q CATALOG_QUORUM

static const struct merge_case merge_cases[] = {
    {C, "", "", "", ""},
    {Q, "", "", "", ""},
    /* Numbers: the lowest of the three. */
    {C, "message-ttl=5", "", "", "ttl=5"},
    {C, "message-ttl=5", "message-ttl=3", "", "ttl=3"},
    {C, "message-ttl=5", "message-ttl=9", "", "ttl=5"},
    {C, "message-ttl=5", "message-ttl=9", "message-ttl=2", "ttl=2"},
    {C, "", "message-ttl=9", "message-ttl=12", "ttl=9"},
    {C, "", "message-ttl=0", "", "ttl=0"},
    {Q, "expires=50", "expires=60", "expires=40", "expires=40"},
    {Q, "max-length=1", "max-length=2", "", "length=1"},
    {C, "max-length-bytes=4", "max-length-bytes=2", "max-length-bytes=3", "bytes=2"},
    {Q, "", "max-length=7", "max-length-bytes=3", "length=7 bytes=3"},
    {Q, "consumer-timeout=9", "consumer-timeout=0", "", "timeout=0"},
    /* What makes no sense counts as not said. */
    {C, "message-ttl=-1 max-length=x expires=true", "", "", ""},
    {C, "max-length=x", "max-length=4", "", "length=4"},
    /* Delivery limit: negative is no limit; quorum queues only, 20 when nobody says. */
    {Q, "delivery-limit=5", "", "", "delivery=5"},
    {Q, "delivery-limit=-1", "", "", "delivery=-1"},
    {Q, "delivery-limit=-7", "delivery-limit=-2", "", "delivery=-1"},
    {Q, "delivery-limit=5", "delivery-limit=3", "", "delivery=3"},
    {Q, "delivery-limit=-1", "delivery-limit=3", "", "delivery=3"},
    {Q, "delivery-limit=50", "delivery-limit=-1", "", "delivery=50"},
    {Q, "", "delivery-limit=-1", "delivery-limit=30", "delivery=30"},
    {Q, "", "delivery-limit=40", "delivery-limit=-1", "delivery=40"},
    {Q, "", "delivery-limit=0", "", "delivery=0"},
    {C, "delivery-limit=5", "", "", ""},
    /* Overflow: quorum: the policy; classic: the argument. Operators before policies. */
    {C, "overflow=reject-publish", "overflow=drop-head", "", "overflow=1"},
    {C, "overflow=drop-head", "overflow=reject-publish", "", ""},
    {Q, "overflow=reject-publish", "overflow=drop-head", "", ""},
    {Q, "overflow=drop-head", "overflow=reject-publish", "", "overflow=1"},
    {Q, "", "overflow=drop-head", "overflow=reject-publish", "overflow=1"},
    {C, "", "overflow=reject-publish", "overflow=drop-head", ""},
    {C, "", "overflow=reject-publish-dlx", "", "overflow=2"},
    {Q, "", "overflow=reject-publish-dlx", "", ""},
    {Q, "overflow=reject-publish-dlx", "", "", ""},
    {Q, "overflow=reject-publish", "", "", "overflow=1"},
    /* Dead letters: the argument. */
    {C, "dead-letter-exchange=a", "dead-letter-exchange=b", "", "dlx=a"},
    {Q, "", "dead-letter-exchange=b dead-letter-routing-key=k", "", "dlx=b dlk=k"},
    {Q, "dead-letter-exchange=a dead-letter-routing-key=x",
     "dead-letter-exchange=b dead-letter-routing-key=k", "", "dlx=a dlk=x"},
    {Q, "dead-letter-exchange=a", "dead-letter-routing-key=k", "", "dlx=a dlk=k"},
    {Q, "", "dead-letter-routing-key=k", "", ""},
    {Q, "dead-letter-strategy=at-most-once", "dead-letter-strategy=at-least-once", "",
     "strategy=1"},
    {Q, "", "dead-letter-strategy=at-least-once", "", "strategy=2"},
    {C, "dead-letter-strategy=at-least-once", "", "", ""},
    /* Arguments only. */
    {C, "max-priority=7 single-active-consumer=true", "", "", "priority=7 single=1"},
    {C, "max-priority=0", "", "", ""},
    {C, "max-priority=300", "", "", "priority=255"},
    {Q, "single-active-consumer=true", "", "", "single=1"},
    {C, "queue-mode=default", "queue-mode=lazy", "", ""},
    {C, "", "queue-mode=lazy", "", "lazy=1"},
    {Q, "queue-mode=lazy", "", "", ""},
    {C, "dedup-window=9 delayed-messages=true", "", "", "dedup=9 delays=1"},
    {Q, "dedup-window=9", "dedup-window=4 delayed-messages=true", "", "dedup=9 delays=1"},
    {C, "delayed-messages=false", "delayed-messages=true", "", ""},
    /* Mirrors. */
    {C, "", "ha-mode=all", "", "ha=1"},
    {C, "", "ha-mode=exactly ha-params=2", "", "ha=2 count=2"},
    {C, "", "ha-mode=nodes ha-params=[a,bb]", "", "ha=3 nodes=13"},
    {C, "", "ha-mode=exactly ha-params=2", "ha-mode=all", "ha=1"},
    {C, "", "ha-mode=all", "ha-mode=exactly ha-params=2", "ha=1"},
    {C, "", "ha-mode=nodes ha-params=[a,bb]", "ha-mode=exactly ha-params=2", "ha=2 count=2"},
    {C, "", "ha-mode=exactly ha-params=3", "ha-mode=exactly ha-params=2", "ha=2 count=3"},
    {C, "", "ha-mode=exactly ha-params=2", "ha-mode=exactly ha-params=3", "ha=2 count=3"},
    {C, "", "ha-mode=nodes ha-params=[a,b,c]", "ha-mode=nodes ha-params=[a,b]", "ha=3 nodes=18"},
    {C, "", "ha-mode=exactly", "", ""},
    /* Target size of a group: the largest. */
    {Q, "quorum-target-group-size=3", "target-group-size=5", "", "target=5"},
    {Q, "quorum-target-group-size=7", "target-group-size=5", "target-group-size=6", "target=7"},
    {Q, "", "target-group-size=5", "target-group-size=3", "target=5"},
};

Test(policies, merge_as_the_rules_say)
{
    char text[500];
    for (size_t i = 0; i < WR_ARRAY_SIZE(merge_cases); i++) {
        const struct merge_case *m = &merge_cases[i];
        /* The policies are there before the queue; or come later, one by one. */
        for (int order = 0; order < 3; order++) {
            struct fixture *f = fixture_new(1);
            for (int step = 0; step < 3; step++) {
                const int what = (step + order) % 3;
                if (what == 0) {
                    cr_assert_eq(do_queue_args(f, "q", m->type, m->arguments, false), CATALOG_OK);
                } else if (what == 1 && m->policy[0] != 0) {
                    cr_assert_eq(do_policy(f, "p", "^q$", m->policy, 0), CATALOG_OK);
                } else if (what == 2 && m->operator_policy[0] != 0) {
                    cr_assert_eq(do_operator_policy(f, "o", "q", m->operator_policy), CATALOG_OK);
                }
            }
            cr_assert_str_eq(settings_text(find_queue(f, "q"), text, sizeof text), m->expected,
                             "case %zu: '%s'", i, text);
            fixture_free(f);
        }
    }
}

Test(policies, exclusive_queues_are_not_mirrored)
{
    char text[500];
    struct fixture *f = fixture_new(1);
    cr_assert_eq(do_policy(f, "p", "", "ha-mode=all max-length=4", 0), CATALOG_OK);
    cr_assert_eq(do_queue_args(f, "q", C, "", true), CATALOG_OK);
    cr_assert_str_eq(settings_text(find_queue(f, "q"), text, sizeof text), "length=4");
    fixture_free(f);
}

Test(policies, the_machine_gets_its_part)
{
    struct fixture *f = fixture_new(1);
    struct queue_config config;
    cr_assert_eq(do_queue_args(f, "q", Q, "max-length=8 message-ttl=4", false), CATALOG_OK);
    cr_assert_eq(do_policy(f, "p", "q", "max-length=5 delivery-limit=3", 0), CATALOG_OK);
    queue_settings_config(find_queue(f, "q"), &config);
    cr_assert_eq(config.length_max, 5);
    cr_assert_eq(config.ttl_ms, 4);
    cr_assert_eq(config.bytes_max, UINT64_MAX);
    cr_assert_eq(config.delivery_limit, 3);
    /* A machine is made with what can never change, so that all replicas are made alike. */
    queue_declared_config(find_queue(f, "q"), &config);
    cr_assert_eq(config.length_max, 8);
    cr_assert_eq(config.delivery_limit, 20);
    fixture_free(f);
}

static void check_effective(const char *policy, const char *operator_policy, const char *expected)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(do_policy(f, "p", "", policy, 0), CATALOG_OK);
    cr_assert_eq(do_operator_policy(f, "o", "", operator_policy), CATALOG_OK);
    struct writer w;
    struct writer wanted;
    writer_init(&w, 64);
    writer_init(&wanted, 64);
    put_definition(&wanted, "", expected);
    policy_put_effective(&w, catalog_policy(view_of(f), B("/"), B("p"), false),
                         catalog_policy(view_of(f), B("/"), B("o"), true));
    cr_assert(bytes_eq(writer_bytes(&w), writer_bytes(&wanted)));
    writer_deinit(&w);
    writer_deinit(&wanted);
    fixture_free(f);
}

Test(policies, the_effective_definition_has_the_keys_of_both)
{
    check_effective("max-length=5 expires=9", "max-length=3 message-ttl=4",
                    "expires=9 max-length=3 message-ttl=4");
    check_effective("overflow=drop-head", "overflow=reject-publish", "overflow=reject-publish");
    check_effective("delivery-limit=-1", "delivery-limit=4", "delivery-limit=4");
    check_effective("ha-mode=all", "ha-mode=exactly ha-params=2", "ha-mode=all ha-params=2");
    check_effective("strange=1", "strange=2", "strange=2");
}

/* --- which one applies ------------------------------------------------------------------------ */

static const char *policy_of(const struct fixture *f, const char *queue)
{
    static char name[64];
    const struct catalog_policy *p = find_queue(f, queue)->policy;
    snprintf(name, sizeof name, "%.*s", p == NULL ? 4 : (int)p->spec.name.size,
             p == NULL ? "none" : (const char *)p->spec.name.data);
    return name;
}

Test(policies, the_highest_priority_that_matches_applies)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(do_queue_args(f, "orders.1", C, "", false), CATALOG_OK);
    cr_assert_eq(do_policy(f, "low", "^orders", "max-length=1", -5), CATALOG_OK);
    cr_assert_str_eq(policy_of(f, "orders.1"), "low");
    cr_assert_eq(do_policy(f, "high", "1$", "max-length=2", 5), CATALOG_OK);
    cr_assert_str_eq(policy_of(f, "orders.1"), "high");
    cr_assert_eq(do_policy(f, "higher", "^nothing", "max-length=3", 50), CATALOG_OK);
    cr_assert_str_eq(policy_of(f, "orders.1"), "high");
    cr_assert_eq(do_policy(f, "high", "1$", "max-length=2", -6), CATALOG_OK);
    cr_assert_str_eq(policy_of(f, "orders.1"), "low");
    cr_assert_eq(do_policy(f, "also", "r", "max-length=2", -5), CATALOG_OK); /* a tie: by name */
    cr_assert_str_eq(policy_of(f, "orders.1"), "also");
    cr_assert_eq(do_delete_policy(f, "/", "also", false), CATALOG_OK);
    cr_assert_eq(do_delete_policy(f, "/", "also", false), CATALOG_NOT_FOUND);
    cr_assert_eq(do_delete_policy(f, "/", "low", true), CATALOG_NOT_FOUND);
    cr_assert_str_eq(policy_of(f, "orders.1"), "low");
    cr_assert_eq(do_delete_policy(f, "/", "low", false), CATALOG_OK);
    cr_assert_str_eq(policy_of(f, "orders.1"), "high");
    cr_assert_eq(do_delete_policy(f, "/", "high", false), CATALOG_OK);
    cr_assert_str_eq(policy_of(f, "orders.1"), "none");
    fixture_free(f);
}

Test(policies, apply_to_what_they_say_and_have_the_keys_for)
{
    static const struct {
        int apply_to;
        const char *definition;
        bool classic, quorum, exchange;
    } cases[] = {
        {CATALOG_APPLY_ALL, "max-length=1", true, true, true},
        {CATALOG_APPLY_QUEUES, "max-length=1", true, true, false},
        {CATALOG_APPLY_CLASSIC_QUEUES, "max-length=1", true, false, false},
        {CATALOG_APPLY_QUORUM_QUEUES, "max-length=1", false, true, false},
        {CATALOG_APPLY_STREAMS, "max-length-bytes=1", false, false, false},
        {CATALOG_APPLY_EXCHANGES, "alternate-exchange=a", false, false, true},
        {CATALOG_APPLY_ALL, "delivery-limit=1 max-length=1", false, true, true},
        {CATALOG_APPLY_ALL, "queue-mode=lazy", true, false, true},
        {CATALOG_APPLY_ALL, "ha-mode=all", true, false, true},
        {CATALOG_APPLY_QUEUES, "max-age=1D", false, false, false},
        {CATALOG_APPLY_QUEUES, "alternate-exchange=a", true, true, false},
        {CATALOG_APPLY_QUEUES, "strange=1", true, true, false},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(cases); i++) {
        struct fixture *f = fixture_new(1);
        cr_assert_eq(do_queue_args(f, "c", C, "", false), CATALOG_OK);
        cr_assert_eq(do_exchange(f, "/", "x", "direct", X_DURABLE), CATALOG_OK);
        cr_assert_eq(
            do_policy_in(f, "/", "p", ".", cases[i].definition, 0, cases[i].apply_to, false),
            CATALOG_OK);
        cr_assert_eq(do_queue_args(f, "q", Q, "", false), CATALOG_OK);
        cr_assert_eq(find_queue(f, "c")->policy != NULL, cases[i].classic, "case %zu", i);
        cr_assert_eq(find_queue(f, "q")->policy != NULL, cases[i].quorum, "case %zu", i);
        cr_assert_eq(find_exchange(f, "x")->policy != NULL, cases[i].exchange, "case %zu", i);
        fixture_free(f);
    }
}

Test(policies, are_of_one_vhost)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(do_vhost(f, "v", true), CATALOG_OK);
    cr_assert_eq(do_policy_in(f, "v", "p", "", "max-length=1", 0, CATALOG_APPLY_ALL, false),
                 CATALOG_OK);
    cr_assert_eq(do_policy_in(f, "w", "p", "", "max-length=1", 0, CATALOG_APPLY_ALL, false),
                 CATALOG_NO_VHOST);
    cr_assert_eq(do_delete_policy(f, "w", "p", false), CATALOG_NO_VHOST);
    cr_assert_eq(do_queue_args(f, "q", C, "", false), CATALOG_OK);
    cr_assert_str_eq(policy_of(f, "q"), "none");
    cr_assert_eq(do_delete_vhost(f, "v"), CATALOG_OK);
    cr_assert_eq(do_vhost(f, "v", true), CATALOG_OK);
    cr_assert_null(catalog_policy(view_of(f), B("v"), B("p"), false));
    fixture_free(f);
}

Test(policies, without_a_definition_or_with_a_broken_one_are_invalid)
{
    struct fixture *f = fixture_new(1);
    cr_assert_eq(do_policy(f, "p", "", "", 0), CATALOG_INVALID);
    const struct catalog_command c = {
        .kind = CATALOG_PUT_POLICY,
        .u.policy = {.vhost = B("/"), .name = B("p"), .definition = B("\x03xx")}};
    cr_assert_eq(apply(f, &c), CATALOG_INVALID);
    /* An operator policy for exchanges is possible, and applies to nothing. */
    cr_assert_eq(do_policy_in(f, "/", "o", "", "max-length=1", 0, CATALOG_APPLY_EXCHANGES, true),
                 CATALOG_OK);
    cr_assert_eq(do_policy(f, "p", "(", "max-length=1", 0), CATALOG_OK); /* matches nothing */
    cr_assert_eq(do_queue_args(f, "q", C, "", false), CATALOG_OK);
    cr_assert_null(find_queue(f, "q")->policy);
    cr_assert_null(find_queue(f, "q")->operator_policy);
    fixture_free(f);
}

Test(policies, alternate_exchanges_come_from_arguments_or_else_from_policies)
{
    struct fixture *f = fixture_new(1);
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_cstr(&w, "alternate-exchange", "mine");
    const struct catalog_command c = {
        .kind = CATALOG_DECLARE_EXCHANGE,
        .u.exchange = {
            .vhost = B("/"), .name = B("own"), .type = B("direct"), .arguments = writer_bytes(&w)}};
    cr_assert_eq(apply(f, &c), CATALOG_OK);
    writer_deinit(&w);
    cr_assert_eq(do_exchange(f, "/", "other", "direct", X_DURABLE), CATALOG_OK);
    cr_assert_not(find_exchange(f, "other")->has_alternate);
    cr_assert_eq(do_policy(f, "p", "", "alternate-exchange=theirs", 0), CATALOG_OK);
    cr_assert(bytes_eq_cstr(find_exchange(f, "own")->alternate, "mine"));
    cr_assert(bytes_eq_cstr(find_exchange(f, "other")->alternate, "theirs"));
    /* Bindings and the index go with the new object. */
    cr_assert_eq(do_group(f, "/", "q", "1"), CATALOG_OK);
    cr_assert_eq(do_bind(f, "other", "q", "k"), CATALOG_OK);
    cr_assert_eq(do_delete_policy(f, "/", "p", false), CATALOG_OK);
    cr_assert(find_exchange(f, "own")->has_alternate);
    cr_assert_not(find_exchange(f, "other")->has_alternate);
    check_indexes(f);
    fixture_free(f);
}

/* --- what a change touches -------------------------------------------------------------------- */

static void add_name(void *ctx, const struct catalog_queue *before,
                     const struct catalog_queue *after)
{
    cr_assert(before != NULL && after != NULL && before->id == after->id);
    strbuf_printf(ctx, "%.*s ", NAME(after->spec.name));
}

Test(policies, a_change_gives_new_objects_to_those_it_changes_only)
{
    struct fixture *f = fixture_new(1);
    char text[200];
    struct strbuf s;
    cr_assert_eq(do_queue_args(f, "a1", C, "", false), CATALOG_OK);
    cr_assert_eq(do_queue_args(f, "a2", C, "", false), CATALOG_OK);
    cr_assert_eq(do_queue_args(f, "b1", C, "", false), CATALOG_OK);
    cr_assert_eq(do_policy(f, "ones", "1$", "max-length=4", 5), CATALOG_OK);
    static const struct {
        const char *name, *pattern, *definition;
        int priority;
        const char *changed;
    } steps[] = {
        {"as", "^a", "max-length=1", 0, "a2 "}, /* a1 has a better one */
        {"as", "^a", "max-length=1", 0, ""},    /* the same again */
        {"as", "^a", "max-length=2", 0, "a2 "},
        {"as", "^b", "max-length=2", 0, "a2 "}, /* b1 has a better one */
        {"as", "^b", "max-length=2", 9, "b1 "},
        {"as", NULL, NULL, 0, "b1 "},
        {"as", "^z", "max-length=2", 9, ""},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(steps); i++) {
        struct catalog_view *before = catalog_view_take(f->catalog);
        if (steps[i].pattern == NULL) {
            cr_assert_eq(do_delete_policy(f, "/", steps[i].name, false), CATALOG_OK);
        } else {
            cr_assert_eq(do_policy(f, steps[i].name, steps[i].pattern, steps[i].definition,
                                   steps[i].priority),
                         CATALOG_OK);
        }
        strbuf_init(&s, text, sizeof text);
        catalog_diff_queues(before, view_of(f), add_name, &s);
        cr_assert_str_eq(text, steps[i].changed, "step %zu: '%s'", i, text);
        catalog_view_unref(before);
    }
    fixture_free(f);
}

Test(policies, stay_with_a_queue_whose_replicas_change)
{
    struct fixture *f = fixture_new(3);
    cr_assert_eq(do_policy(f, "p", "", "max-length=4", 0), CATALOG_OK);
    cr_assert_eq(do_group(f, "/", "q", "123"), CATALOG_OK);
    cr_assert_eq(do_forget(f, 3), CATALOG_OK);
    cr_assert_eq(find_queue(f, "q")->spec.group.member_count, 2);
    cr_assert_eq(find_queue(f, "q")->settings.length_max, 4);
    fixture_free(f);
}

/* --- validation ------------------------------------------------------------------------------- */

static const struct {
    const char *definition;
    bool operator_policy;
    const char *text; /* "": it will do */
} validations[] = {
    {"max-length=0", false, ""},
    {"", false, "no policy provided"},
    {"", true, "no policy provided"},
    {"foo=1", false, "[{<<\"foo\">>,1}] are not recognised policy settings"},
    {"foo=1 bar=x", false,
     "[{<<\"bar\">>,<<\"x\">>},{<<\"foo\">>,1}] are not recognised policy settings"},
    {"max-length=-1", false, "-1 is not a valid maximum length"},
    {"max-length=a", false, "<<\"a\">> is not a valid maximum length"},
    {"max-length=1.5", false, "1.5 is not a valid maximum length"},
    {"max-length=1000.0", false, "1.0e3 is not a valid maximum length"},
    {"max-length=true", false, "true is not a valid maximum length"},
    {"max-length=null", false, "null is not a valid maximum length"},
    {"max-length=[1,a]", false, "[1,<<\"a\">>] is not a valid maximum length"},
    {"max-length={}", false, "#{} is not a valid maximum length"},
    {"max-length=\xc3\xa9", false, "<<\"\xc3\xa9\"/utf8>> is not a valid maximum length"},
    {"max-length=\xff", false, "<<255>> is not a valid maximum length"},
    {"max-length=a\"b\n", false, "<<\"a\\\"b\\n\">> is not a valid maximum length"},
    {"expires=0", false, "0 is not a valid queue expiry"},
    {"message-ttl=-1", false, "-1 is not a valid message TTL"},
    {"message-ttl=99999999999999", false, ""},
    {"max-length-bytes=-1", true, "-1 is not a valid maximum length in bytes"},
    {"max-in-memory-length=-1", false, "-1 is not a valid maximum memory in bytes"},
    {"max-in-memory-bytes=-1", false, "-1 is not a valid maximum memory in bytes"},
    {"overflow=x", false, "<<\"x\">> is not a valid overflow value"},
    {"overflow=reject-publish-dlx", true, ""},
    {"queue-mode=x", false, "<<\"x\">> is not a valid queue-mode value"},
    {"queue-version=3", false, "3 is not a valid queue-version value"},
    {"queue-version=2", false, ""},
    {"delivery-limit=-1", false, ""},
    {"delivery-limit=a", false, "<<\"a\">> is not a valid delivery limit"},
    {"dead-letter-exchange=1", false, "1 is not a valid dead letter exchange name"},
    {"dead-letter-routing-key=1", false, "1 is not a valid dead letter routing key"},
    {"dead-letter-strategy=x", false, "<<\"x\">> is not a valid dead letter strategy"},
    {"alternate-exchange=1", false, "1 is not a valid alternate exchange name"},
    {"dead-letter-exchange=a", true,
     "[{<<\"dead-letter-exchange\">>,<<\"a\">>}] are not recognised policy settings"},
    {"max-age=1x", false, "<<\"1x\">> is not a valid max age"},
    {"max-age=0D", false, "<<\"0D\">> is not a valid max age"},
    {"max-age=7D", false, ""},
    {"queue-leader-locator=x", false, "<<\"x\">> is not a valid queue leader locator value"},
    {"queue-leader-locator=balanced", false, ""},
    {"initial-cluster-size=-1", false, "-1 is not a valid cluster size"},
    {"stream-max-segment-size-bytes=-1", false, "-1 is not a valid segment size"},
    {"stream-max-segment-size-bytes=3000000000", false, ""},
    {"stream-max-segment-size-bytes=3000000001", false, "3000000001 is not a valid segment size"},
    {"queue-master-locator=x", false, "<<\"x\">> invalid queue-master-locator value"},
    {"target-group-size=0", true, "0 is not a valid qq target count value"},
    {"consumer-timeout=5", false, ""},
    {"federation-upstream-set=all", false, ""},
    {"max-priority=4", false, "[{<<\"max-priority\">>,4}] are not recognised policy settings"},
    {"overflow=x max-length=-1", false, "-1 is not a valid maximum length"},
    {"max-length=-1 foo=1", false, "-1 is not a valid maximum length"},
    {"max-length=1 max-length=2", false, "[<<\"max-length\">>] duplicate keys not allowed"},
    {"ha-mode=all", false, ""},
    {"ha-mode=all", true, ""},
    {"ha-mode=x", false, "<<\"x\">> is not a valid ha-mode value"},
    {"ha-mode=1", false, "1 is not a valid ha-mode value"},
    {"ha-mode=all ha-params=1", false, "ha-mode=\"all\" does not take parameters"},
    {"ha-mode=exactly", false, "ha-mode=\"exactly\" takes an integer, none given"},
    {"ha-mode=exactly ha-params=a", false, "ha-mode=\"exactly\" takes an integer, <<\"a\">> given"},
    {"ha-mode=exactly ha-params=0", false, "ha-mode=\"exactly\" takes an integer, 0 given"},
    {"ha-mode=exactly ha-params=2", false, ""},
    {"ha-mode=nodes", false, "ha-mode=\"nodes\" takes a list, none given"},
    {"ha-mode=nodes ha-params=[]", false, "ha-mode=\"nodes\" list must be non-empty"},
    {"ha-mode=nodes ha-params=[1]", false,
     "ha-mode=\"nodes\" takes a list of strings, [1] was not a string"},
    {"ha-mode=nodes ha-params=3", false, "ha-mode=\"nodes\" takes a list, 3 given"},
    {"ha-mode=nodes ha-params=[a]", false, ""},
    {"ha-params=1", false,
     "ha-mode must be specified to specify ha-params, ha-sync-mode or ha-promote-on-shutdown"},
    {"ha-promote-on-failure=always", false,
     "ha-mode must be specified to specify ha-params, ha-sync-mode or ha-promote-on-shutdown"},
    {"ha-mode=all ha-sync-mode=x", false,
     "ha-sync-mode must be \"manual\" or \"automatic\", got <<\"x\">>"},
    {"ha-mode=all ha-sync-batch-size=0", false,
     "ha-sync-batch-size takes an integer greater than 0, 0 given"},
    {"ha-mode=all ha-promote-on-shutdown=x", false,
     "ha-promote-on-shutdown must be \"always\" or \"when-synced\", got <<\"x\">>"},
    {"ha-mode=all ha-promote-on-failure=x", false,
     "ha-promote-on-failure must be \"always\" or \"when-synced\", got <<\"x\">>"},
};

Test(policies, definitions_are_judged_with_the_texts_of_rabbitmq)
{
    for (size_t i = 0; i < WR_ARRAY_SIZE(validations); i++) {
        char text[400];
        struct strbuf s;
        struct writer w;
        strbuf_init(&s, text, sizeof text);
        writer_init(&w, 64);
        put_definition(&w, "", validations[i].definition);
        const bool ok = policy_validate(writer_bytes(&w), validations[i].operator_policy, &s);
        cr_assert_str_eq(text, validations[i].text, "'%s': '%s'", validations[i].definition, text);
        cr_assert_eq(ok, validations[i].text[0] == 0);
        writer_deinit(&w);
    }
}

Test(policies, any_bytes_have_an_answer)
{
    struct prng p;
    prng_init(&p, 3);
    uint8_t bytes[64];
    char text[200];
    for (int i = 0; i < 20000; i++) {
        struct strbuf s;
        const size_t size = 1 + prng_below(&p, sizeof bytes - 1);
        strbuf_init(&s, text, sizeof text);
        for (size_t k = 0; k < size; k++) {
            bytes[k] = (uint8_t)prng_below(&p, prng_ratio(&p, 1, 2) ? 256 : 8);
        }
        bytes[0] = (uint8_t)prng_below(&p, 4);
        cr_assert_eq(policy_validate(bytes_make(bytes, size), false, &s), s.size == 0);
    }
}
