/*
 * What: topic patterns: a table of what matches, the trie against a plain recursive matcher on
 * random patterns and keys, hostile patterns in bounded work.
 */
#include <criterion/criterion.h>

#include "internal.h"
#include "route_fixture.h"
#include "warren/prng.h"

static const struct {
    const char *pattern, *key;
    bool matches;
} cases[] = {
    {"", "", true},
    {"", "a", false},
    {"a", "a", true},
    {"a", "b", false},
    {"a", "a.b", false},
    {"*", "", false}, /* an empty key has no words */
    {"*", "a", true},
    {"*", "a.b", false},
    {"#", "", true},
    {"#", "a", true},
    {"#", "a.b.c", true},
    {"#", "..", true},
    {"a.*", "a.b", true},
    {"a.*", "a", false},
    {"a.*", "a.", true},
    {"a.*", "a.b.c", false},
    {"a.#", "a", true},
    {"a.#", "a.b.c", true},
    {"a.#", "ab", false},
    {"#.a", "a", true},
    {"#.a", "b.c.a", true},
    {"#.a", "a.b", false},
    {"a.#.b", "a.b", true},
    {"a.#.b", "a.x.y.b", true},
    {"a.#.b", "a.x.y.c", false},
    {"*.*", "a.b", true},
    {"*.*", "a", false},
    {"*.#", "", false},
    {"*.#", "a.b.c", true},
    {"#.*", "", false},
    {"#.*", "a", true},
    {"#.#", "", true},
    {"#.#", "a.b", true},
    {"#.#.#", "a", true},
    {"#.*.#", "", false},
    {"#.*.*.#", "a", false},
    {"#.*.*.#", "a.b", true},
    {"a..b", "a..b", true},
    {"a.*.b", "a..b", true},
    {"a.b", "a..b", false},
    {"*.stock.#", "usd.stock", true},
    {"*.stock.#", "usd.stock.db", true},
    {"*.stock.#", "stock.db", false},
    {"#.a.#.a.#", "a.a", true},
    {"#.a.#.a.#", "a", false},
    {"#.a.#.b.#", "b.a.c", false},
    {"a*", "ab", false}, /* only whole words are special */
    {"a*", "a*", true},
    {"#a", "xa", false},
    {"*", "*", true},
    {"#", "#", true},
    {"a.b.", "a.b.", true},
    {"a.b.", "a.b", false},
};

Test(topic, patterns_match_as_listed)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_assert_eq(route_topic_matches(B(cases[i].pattern), B(cases[i].key)), cases[i].matches,
                     "'%s' '%s'", cases[i].pattern, cases[i].key);
        struct fixture *f = fixture_new();
        queue(f, "q");
        bind_queue(f, "amq.topic", "q", cases[i].pattern);
        cr_assert_str_eq(route(f, "amq.topic", cases[i].key), cases[i].matches ? "q" : "",
                         "'%s' '%s'", cases[i].pattern, cases[i].key);
        unbind_queue(f, "amq.topic", "q", cases[i].pattern);
        cr_assert_str_eq(route(f, "amq.topic", cases[i].key), "");
        /* T2 of topic.c: nothing is left behind. */
        cr_assert_null(
            catalog_exchange(catalog_view_peek(f->catalog), B("/"), B("amq.topic"))->index);
        fixture_free(f);
    }
}

/* The definition, word by word. words: n of them. */
static bool naive(const char *const *pattern, int pattern_count, const char *const *key,
                  int key_count)
{
    if (pattern_count == 0) {
        return key_count == 0;
    }
    if (strcmp(pattern[0], "#") == 0) {
        return naive(pattern + 1, pattern_count - 1, key, key_count) ||
               (key_count > 0 && naive(pattern, pattern_count, key + 1, key_count - 1));
    }
    return key_count > 0 && (strcmp(pattern[0], "*") == 0 || strcmp(pattern[0], key[0]) == 0) &&
           naive(pattern + 1, pattern_count - 1, key + 1, key_count - 1);
}

#define WORDS     6
#define TEXT_SIZE 32

static int random_words(struct prng *p, const char *const *alphabet, uint64_t letters,
                        const char *words[WORDS], char text[TEXT_SIZE])
{
    const int count = 1 + (int)prng_below(p, WORDS);
    struct strbuf s;
    strbuf_init(&s, text, TEXT_SIZE);
    for (int i = 0; i < count; i++) {
        words[i] = alphabet[prng_below(p, letters)];
        strbuf_printf(&s, "%s%s", i == 0 ? "" : ".", words[i]);
    }
    return text[0] == 0 ? 0 : count; /* the empty text has no words */
}

Test(topic, the_trie_agrees_with_the_definition, .timeout = 120)
{
    static const char *const alphabet[] = {"a", "b", "", "*", "#", "#"};
    enum { PATTERNS = 60 };
    struct {
        const char *words[WORDS];
        char text[TEXT_SIZE];
        int count;
        bool bound;
    } patterns[PATTERNS];
    struct prng p;
    prng_init(&p, 11);
    for (int round = 0; round < 12; round++) {
        struct fixture *f = fixture_new();
        char name[16];
        for (int i = 0; i < PATTERNS; i++) {
            snprintf(name, sizeof(name), "q%02d", i);
            queue(f, name);
            patterns[i].count = random_words(&p, alphabet, 6, patterns[i].words, patterns[i].text);
            patterns[i].bound = false;
        }
        for (int step = 0; step < 400; step++) {
            const int change = (int)prng_below(&p, PATTERNS);
            snprintf(name, sizeof(name), "q%02d", change);
            if (patterns[change].bound) {
                unbind_queue(f, "amq.topic", name, patterns[change].text);
            } else {
                bind_queue(f, "amq.topic", name, patterns[change].text);
            }
            patterns[change].bound = !patterns[change].bound;
            const char *key[WORDS];
            char key_text[TEXT_SIZE];
            const int count = random_words(&p, alphabet, 3, key, key_text);
            char expected[512];
            struct strbuf list;
            strbuf_init(&list, expected, sizeof(expected));
            for (int i = 0; i < PATTERNS; i++) {
                const bool matches = naive(patterns[i].words, patterns[i].count, key, count);
                cr_assert_eq(route_topic_matches(B(patterns[i].text), B(key_text)), matches,
                             "'%s' '%s'", patterns[i].text, key_text);
                if (matches && patterns[i].bound) {
                    snprintf(name, sizeof(name), "q%02d", i);
                    add_name(&list, name);
                }
            }
            cr_assert_str_eq(route(f, "amq.topic", key_text), expected, "key '%s'", key_text);
        }
        fixture_free(f);
    }
}

/* A hundred `#` in one pattern against a key that almost matches: hopeless for a backtracker. */
Test(topic, hostile_patterns_cost_little)
{
    struct fixture *f = fixture_new();
    queue(f, "q");
    queue(f, "r");
    char pattern[256];
    char key[256];
    struct strbuf pattern_text;
    struct strbuf key_text;
    strbuf_init(&pattern_text, pattern, sizeof(pattern));
    strbuf_init(&key_text, key, sizeof(key));
    for (int i = 0; i < 60; i++) {
        strbuf_add_cstr(&pattern_text, "#.a.");
        strbuf_add_cstr(&key_text, "a.a.");
    }
    strbuf_add_cstr(&pattern_text, "z");
    key[strlen(key) - 1] = '\0';
    bind_queue(f, "amq.topic", "q", pattern);
    bind_queue(f, "amq.topic", "r", "#.a.#");
    cr_assert_str_eq(route(f, "amq.topic", key), "r");
    key[strlen(key) - 1] = 'z';
    cr_assert_str_eq(route(f, "amq.topic", key), "q r");
    cr_assert(route_topic_matches(B(pattern), B(key)));
    fixture_free(f);
}

/* The queues that a key reaches, in the order of the result. */
static void order_of(struct fixture *f, const char *key, char text[512])
{
    struct strbuf list;
    (void)route(f, "amq.topic", key);
    strbuf_init(&list, text, 512);
    for (uint32_t i = 0; i < f->result.count; i++) {
        const struct bytes name = f->result.queues[i]->spec.name;
        strbuf_printf(&list, "%.*s ", (int)name.size, (const char *)name.data);
    }
}

/* T5: tails grow and are cut as bindings come and go; what is left has the shape, and so gives the
 * order, of a trie that was made of it in one go. */
Test(topic, the_shape_follows_from_the_content)
{
    static const char *const alphabet[] = {"a", "b", "c", "", "*", "#"};
    struct prng p;
    prng_init(&p, 23);
    for (int round = 0; round < 30; round++) {
        struct fixture *f = fixture_new();
        char patterns[40][TEXT_SIZE];
        bool bound[40] = {false};
        char name[16];
        const uint64_t letters = round % 2 == 0 ? 4 : 6;
        for (int i = 0; i < 40; i++) {
            const char *words[WORDS];
            snprintf(name, sizeof(name), "q%02d", i);
            queue(f, name);
            (void)random_words(&p, alphabet, letters, words, patterns[i]);
        }
        for (int step = 0; step < 300; step++) {
            const uint32_t i = (uint32_t)prng_below(&p, 40);
            snprintf(name, sizeof(name), "q%02u", i);
            if (bound[i]) {
                unbind_queue(f, "amq.topic", name, patterns[i]);
            } else {
                bind_queue(f, "amq.topic", name, patterns[i]);
            }
            bound[i] = !bound[i];
        }
        char before[40][512];
        char after[512];
        for (int i = 0; i < 40; i++) {
            order_of(f, patterns[i], before[i]);
        }
        struct buf *snapshot = buf_new(64);
        catalog_snapshot(f->catalog, &snapshot);
        cr_assert_eq(
            catalog_restore(f->catalog, f->index, bytes_make(snapshot->data, snapshot->size)), 0);
        buf_unref(snapshot);
        for (int i = 0; i < 40; i++) {
            order_of(f, patterns[i], after);
            cr_assert_str_eq(after, before[i]);
        }
        fixture_free(f);
    }
}

/* The bound of docs/routing.md: every node of the trie at most once for each word of the key. */
Test(topic, work_is_words_times_nodes)
{
    struct fixture *f = fixture_new();
    struct prng p;
    prng_init(&p, 5);
    char key[256];
    uint64_t words_bound = 0;
    for (int i = 0; i < 200; i++) {
        static const char *const letters[] = {"#", "*", "a"};
        char name[16];
        char pattern[256];
        struct strbuf text;
        strbuf_init(&text, pattern, sizeof(pattern));
        const int words = 1 + (int)prng_below(&p, 127);
        for (int k = 0; k < words; k++) {
            strbuf_printf(&text, "%s%s", k == 0 ? "" : ".", letters[prng_below(&p, 3)]);
        }
        words_bound += (uint64_t)words + 1; /* Nodes: at most one for each word, and the top. */
        snprintf(name, sizeof(name), "q%d", i);
        queue(f, name);
        bind_queue(f, "amq.topic", name, pattern);
    }
    for (int i = 0; i < 255; i++) {
        key[i] = i % 2 == 0 ? 'a' : '.';
    }
    key[255] = '\0';
    const uint64_t before = f->result.scratch->steps;
    (void)route(f, "amq.topic", key);
    const uint64_t steps = f->result.scratch->steps - before;
    cr_assert(steps > 0 && steps <= 128 * words_bound, "%lu", (unsigned long)steps);
    fixture_free(f);
}

/* The longest key: 256 words, all of them special or empty. */
Test(topic, the_longest_patterns_work)
{
    static const char *const letters[] = {".", "#", "*", "a"};
    struct fixture *f = fixture_new();
    queue(f, "q");
    char pattern[256];
    for (int kind = 0; kind < 4; kind++) {
        for (int i = 0; i < 255; i++) {
            pattern[i] = i % 2 == 0 ? letters[kind][0] : '.';
        }
        pattern[255] = '\0';
        bind_queue(f, "amq.topic", "q", pattern);
        cr_assert_str_eq(route(f, "amq.topic", pattern), "q");
        unbind_queue(f, "amq.topic", "q", pattern);
    }
    memset(pattern, '.', 255);
    bind_queue(f, "amq.topic", "q", pattern);
    cr_assert_str_eq(route(f, "amq.topic", pattern), "q");
    pattern[254] = '\0';
    cr_assert_str_eq(route(f, "amq.topic", pattern), "");
    fixture_free(f);
}

/* A view taken before keeps routing as it did, whatever is bound and unbound later. */
Test(topic, old_views_keep_their_trie)
{
    struct fixture *f = fixture_new();
    queue(f, "a");
    queue(f, "b");
    bind_queue(f, "amq.topic", "a", "x.*.#");
    struct catalog_view *old = catalog_view_take(f->catalog);
    bind_queue(f, "amq.topic", "b", "x.*.y");
    unbind_queue(f, "amq.topic", "a", "x.*.#");
    cr_assert_str_eq(route(f, "amq.topic", "x.1.y"), "b");
    const struct catalog_exchange *e = catalog_exchange(old, B("/"), B("amq.topic"));
    const struct route_input input = {.key = B("x.1.y")};
    cr_assert_eq(route_message(old, e, &input, &f->result), 1);
    cr_assert(bytes_eq_cstr(f->result.queues[0]->spec.name, "a"));
    fixture_free(f);
    catalog_view_unref(old);
}
