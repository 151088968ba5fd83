/* Persistent map: against a model, with old versions kept and checked; equal hashes; canonical
 * order. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "pmap_internal.h"
#include "warren/prng.h"

struct number {
    struct pref ref;
    uint64_t value;
    int *alive;
};

static void number_free(struct pref *owned_ref)
{
    struct number *n = WR_CONTAINER_OF(owned_ref, struct number, ref);
    (*n->alive)--;
    wr_free(n);
}

static struct pref *number_new(uint64_t value, int *alive)
{
    struct number *n = wr_alloc(sizeof(*n));
    pref_init(&n->ref, number_free);
    n->value = value;
    n->alive = alive;
    (*alive)++;
    return &n->ref;
}

static uint64_t number_of(struct pref *ref)
{
    return ref == NULL ? 0 : WR_CONTAINER_OF(ref, struct number, ref)->value;
}

static struct bytes key_of(uint64_t number, char text[24])
{
    const int size = snprintf(text, 24, "k%llu", (unsigned long long)number);
    return bytes_make(text, (size_t)size);
}

enum { KEYS = 600, VERSIONS = 40 };

/* Hashes by which tests make keys collide: in all bits, in the low ones, or not at all. */
static uint64_t poor_hash(uint64_t key, int kind)
{
    switch (kind) {
    case 0:
        return 42;
    case 1:
        return key % 7;
    case 2:
        return (key % 5) << 60;
    default:
        return key * UINT64_C(0x9e3779b97f4a7c15);
    }
}

static void check_version(const struct pmap *root, const uint64_t *model, int kind)
{
    char text[24];
    size_t count = 0;
    for (uint64_t k = 0; k < KEYS; k++) {
        struct pref *value = pmap__get(root, poor_hash(k, kind), key_of(k, text));
        cr_assert_eq(number_of(value), model[k]);
        count += model[k] != 0;
    }
    cr_assert_eq(pmap_count(root), count);
    struct pmap_iter it;
    size_t visited = 0;
    for (bool more = pmap_first(&it, root); more; more = pmap_next(&it)) {
        visited++;
    }
    cr_assert_eq(visited, count);
}

struct difference {
    const uint64_t *before;
    const uint64_t *after;
    bool seen[KEYS];
    size_t count;
};

static void on_difference(void *ctx, struct bytes key, struct pref *before, struct pref *after)
{
    struct difference *d = ctx;
    uint64_t k = 0;
    for (size_t i = 1; i < key.size; i++) {
        k = k * 10 + (key.data[i] - '0');
    }
    cr_assert_lt(k, KEYS);
    cr_assert_not(d->seen[k]);
    cr_assert_eq(number_of(before), d->before[k]);
    cr_assert_eq(number_of(after), d->after[k]);
    d->seen[k] = true;
    d->count++;
}

/* Every key whose value differs is told once, and no other. */
static void check_diff(const struct pmap *before, const uint64_t *model_before,
                       const struct pmap *after, const uint64_t *model_after)
{
    struct difference d = {.before = model_before, .after = model_after};
    pmap_diff(before, after, on_difference, &d);
    size_t expected = 0;
    for (uint64_t k = 0; k < KEYS; k++) {
        expected += model_before[k] != model_after[k];
        cr_assert_eq(d.seen[k], model_before[k] != model_after[k]);
    }
    cr_assert_eq(d.count, expected);
}

static void run_model(int kind, uint64_t rounds)
{
    static uint64_t models[VERSIONS][KEYS];
    static uint64_t model[KEYS];
    struct pmap *versions[VERSIONS] = {0};
    struct pmap *root = NULL;
    struct prng p;
    int alive = 0;
    char text[24];
    memset(model, 0, sizeof(model));
    prng_init(&p, (uint64_t)kind);
    for (uint64_t round = 1; round <= rounds; round++) {
        const uint64_t k = prng_below(&p, KEYS);
        struct pmap *old = root;
        if (prng_ratio(&p, (round / 1000) % 2 == 0 ? 3 : 1, 4)) {
            struct pref *value = number_new(round, &alive);
            root = pmap__set(old, poor_hash(k, kind), key_of(k, text), value);
            pref_unref(value);
            model[k] = round;
        } else {
            root = pmap__remove(old, poor_hash(k, kind), key_of(k, text));
            model[k] = 0;
        }
        pmap_unref(old);
        if (prng_ratio(&p, 1, 100)) {
            const uint64_t v = prng_below(&p, VERSIONS);
            if (versions[v] != NULL) {
                check_version(versions[v], models[v], kind);
                check_diff(versions[v], models[v], root, model);
                check_diff(root, model, versions[v], models[v]);
            }
            pmap_unref(versions[v]);
            versions[v] = pmap_ref(root);
            memcpy(models[v], model, sizeof(model));
        }
    }
    static const uint64_t nothing[KEYS];
    check_version(root, model, kind);
    check_diff(NULL, nothing, root, model);
    check_diff(root, model, NULL, nothing);
    check_diff(root, model, root, model);
    pmap_unref(root);
    for (int v = 0; v < VERSIONS; v++) {
        if (versions[v] != NULL) {
            check_version(versions[v], models[v], kind);
        }
        pmap_unref(versions[v]);
    }
    cr_assert_eq(alive, 0, "%d values leaked", alive);
}

Test(pmap, versions_with_equal_hashes)
{
    run_model(0, 3000);
}

Test(pmap, versions_with_hashes_equal_in_most_bits)
{
    run_model(1, 5000);
    run_model(2, 5000);
}

Test(pmap, versions_with_good_hashes)
{
    run_model(3, 20000);
}

/* The same content gives the same order, whatever the way to it. */
Test(pmap, order_depends_on_content_only)
{
    int alive = 0;
    char text[24];
    struct pmap *a = NULL;
    struct pmap *b = NULL;
    struct pref *value = number_new(1, &alive);
    for (uint64_t k = 0; k < 2000; k++) {
        pmap_set_in(&a, key_of(k, text), value);
    }
    for (uint64_t k = 6000; k-- > 0;) {
        pmap_set_in(&b, key_of(k, text), value);
    }
    for (uint64_t k = 2000; k < 6000; k++) {
        pmap_remove_in(&b, key_of(k, text));
    }
    cr_assert_eq(pmap_count(a), 2000);
    cr_assert_eq(pmap_count(b), 2000);
    struct pmap_iter ia;
    struct pmap_iter ib;
    bool more = pmap_first(&ia, a);
    cr_assert(pmap_first(&ib, b));
    while (more) {
        cr_assert(bytes_eq(ia.key, ib.key));
        more = pmap_next(&ia);
        cr_assert_eq(pmap_next(&ib), more);
    }
    pmap_unref(a);
    pmap_unref(b);
    pref_unref(value);
    cr_assert_eq(alive, 0);
}

/* Keys that agree in all bits hang 14 nodes deep; when one is left it comes up to the top again. */
Test(pmap, removal_undoes_the_depth_that_insertion_made)
{
    int alive = 0;
    struct pref *value = number_new(1, &alive);
    struct pmap *one = pmap__set(NULL, 42, BYTES_LITERAL("a"), value);
    struct pmap *two = pmap__set(one, 42, BYTES_LITERAL("b"), value);
    struct pmap *rest = pmap__remove(two, 42, BYTES_LITERAL("a"));
    struct pmap_iter it;
    cr_assert(pmap_first(&it, one));
    cr_assert_eq(it.depth, 1);
    cr_assert(pmap_first(&it, two));
    cr_assert_eq(it.depth, 14);
    cr_assert(pmap_first(&it, rest));
    cr_assert_eq(it.depth, 1);
    cr_assert(bytes_eq_cstr(it.key, "b"));
    pmap_unref(one);
    pmap_unref(two);
    pmap_unref(rest);
    pref_unref(value);
    cr_assert_eq(alive, 0);
}

Test(pmap, empty_map)
{
    struct pmap_iter it;
    cr_assert_null(pmap_get(NULL, BYTES_LITERAL("a")));
    cr_assert_eq(pmap_count(NULL), 0);
    cr_assert_not(pmap_first(&it, NULL));
    cr_assert_null(pmap_remove(NULL, BYTES_LITERAL("a")));
    pmap_unref(NULL);
    int alive = 0;
    struct pref *value = number_new(1, &alive);
    struct pmap *root = pmap_set(NULL, BYTES_NONE, value);
    pref_unref(value);
    cr_assert_eq(number_of(pmap_get(root, BYTES_LITERAL(""))), 1);
    struct pmap *same = pmap_remove(root, BYTES_LITERAL("other"));
    cr_assert_eq(same, root);
    pmap_unref(same);
    pmap_remove_in(&root, BYTES_NONE);
    cr_assert_null(root);
    cr_assert_eq(alive, 0);
}
