/* Patterns: what is found in what, what is not allowed to take long, what the cache keeps apart. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "warren/pattern.h"

static struct bytes B(const char *text) {
    return bytes_from_cstr(text);
}

Test(pattern, searches_anywhere)
{
    static const struct {
        const char *pattern, *subject;
        bool found;
    } cases[] = {
        {"", "", true},          {"", "a", false},
        {".*", "", true},        {".*", "a\nb", true},
        {"^", "x", true},        {"^.*", "x", true},
        {"b", "abc", true},      {"^b", "abc", false},
        {"c$", "abc", true},     {"a.c", "abc", true},
        {"a.c", "ac", false},    {"(", "(", false},
        {"[", "[", false},       {"^$", "", true},
        {"^$", "a", false},      {"^(a|b)+$", "abba", true},
        {"A", "a", false},       {"(?i)A", "a", true},
        {"\\.", "a.b", true},    {"\\.", "ab", false},
        {"^q\\d+$", "q7", true}, {"\xff", "a\xff", true},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(cases); i++) {
        struct pattern *p = pattern_new(B(cases[i].pattern));
        cr_assert(bytes_eq_cstr(p->text, cases[i].pattern));
        cr_assert_eq(pattern_matches(p, B(cases[i].subject)), cases[i].found, "'%s' in '%s'",
                     cases[i].pattern, cases[i].subject);
        pattern_unref(p);
    }
    struct pattern *p = pattern_new(BYTES_NONE);
    cr_assert(pattern_matches(p, BYTES_NONE));
    pattern_unref(pattern_ref(p));
    pattern_unref(p);
    pattern_unref(NULL);
}

/* Without a limit each of these takes longer than anybody lives. */
Test(pattern, hostile_ones_end, .timeout = 10)
{
    static const char *const patterns[] = {"(a+)+$", "(?:(?:(?:a*)*)*)*b", "(a|aa)+$",
                                           "^(([a-z])+.)+[A-Z]([a-z])+$"};
    for (size_t i = 0; i < WR_ARRAY_SIZE(patterns); i++) {
        struct pattern *p = pattern_new(B(patterns[i]));
        cr_assert_not(pattern_matches(
            p, B("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac")));
        pattern_unref(p);
    }
}

Test(pattern, checking_says_why)
{
    char text[100];
    struct strbuf s;
    strbuf_init(&s, text, sizeof text);
    cr_assert(pattern_check(B(""), &s));
    cr_assert(pattern_check(B("^a$"), &s));
    cr_assert_str_empty(text);
    cr_assert_not(pattern_check(B("ab("), NULL));
    cr_assert_not(pattern_check(B("ab("), &s));
    cr_assert_str_eq(text, "missing closing parenthesis at offset 3");
}

Test(pattern, the_cache_keeps_patterns_apart)
{
    struct pattern_cache cache = {0};
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 4 * PATTERN_CACHE_SLOTS; i++) { /* more than it has room for */
            char pattern[16];
            char subject[16];
            (void)snprintf(pattern, sizeof pattern, "^x%u$", i);
            (void)snprintf(subject, sizeof subject, "x%u", i);
            cr_assert(pattern_cache_matches(&cache, B(pattern), B(subject)));
            cr_assert_not(pattern_cache_matches(&cache, B(pattern), B("x")));
        }
    }
    pattern_cache_deinit(&cache);
    pattern_cache_deinit(&cache);
}
