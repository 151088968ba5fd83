/* What may be shared between threads: references of buffers, and versions of a persistent map that
 * are read and dropped elsewhere than they were made. Most telling under the thread sanitizer. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>

#include "warren/buf.h"
#include "warren/pmap.h"

enum { THREADS = 4, SLICES = 20000, ROUNDS = 300, KEYS = 64 };

struct dropper {
    pthread_t thread;
    struct slice slices[SLICES];
};

static void *drop_slices(void *arg)
{
    struct dropper *d = arg;
    for (int i = 0; i < SLICES; i++) {
        struct slice again = slice_ref(&d->slices[i]);
        slice_unref(&d->slices[i]);
        slice_unref(&again);
    }
    return NULL;
}

/* Every chunk's slices are spread over all threads; whoever is last frees, exactly once (ASan). */
Test(threads, slices_of_one_chunk_are_dropped_anywhere)
{
    static struct dropper droppers[THREADS];
    struct chunk_arena arena = {0};
    for (int i = 0; i < SLICES; i++) {
        for (int t = 0; t < THREADS; t++) {
            chunk_alloc(&arena, 40, &droppers[t].slices[i]);
        }
    }
    for (int t = 0; t < THREADS; t++) {
        cr_assert_eq(pthread_create(&droppers[t].thread, NULL, drop_slices, &droppers[t]), 0);
    }
    chunk_arena_deinit(&arena);
    for (int t = 0; t < THREADS; t++) {
        cr_assert_eq(pthread_join(droppers[t].thread, NULL), 0);
    }
}

static _Atomic int alive;

struct number {
    struct pref ref;
    uint64_t value;
};

static void number_free(struct pref *owned_ref)
{
    atomic_fetch_sub(&alive, 1);
    wr_free(WR_CONTAINER_OF(owned_ref, struct number, ref));
}

static struct pref *number_new(uint64_t value)
{
    struct number *n = wr_alloc(sizeof(*n));
    pref_init(&n->ref, number_free);
    n->value = value;
    atomic_fetch_add(&alive, 1);
    return &n->ref;
}

static struct bytes key_of(uint64_t key, char text[24])
{
    return bytes_make(text, (size_t)snprintf(text, 24, "%llu", (unsigned long long)key));
}

struct reader_of_versions {
    pthread_t thread;
    struct pmap *versions[ROUNDS];
    int wrong;
};

/* Version r holds r for key r % KEYS, and r - KEYS < value <= r for every other key. */
static void *read_versions(void *arg)
{
    struct reader_of_versions *reader = arg;
    char text[24];
    for (uint64_t r = 0; r < ROUNDS; r++) {
        for (uint64_t k = 0; k < KEYS && k <= r; k++) {
            struct pref *ref = pmap_get(reader->versions[r], key_of(k, text));
            const uint64_t expected = r - (r - k) % KEYS;
            reader->wrong +=
                ref == NULL || WR_CONTAINER_OF(ref, struct number, ref)->value != expected;
        }
        pmap_unref(reader->versions[r]);
    }
    return NULL;
}

Test(threads, versions_of_a_map_are_read_and_dropped_anywhere)
{
    static struct reader_of_versions readers[THREADS];
    struct pmap *root = NULL;
    char text[24];
    for (uint64_t r = 0; r < ROUNDS; r++) {
        struct pref *value = number_new(r);
        pmap_set_in(&root, key_of(r % KEYS, text), value);
        pref_unref(value);
        for (int t = 0; t < THREADS; t++) {
            readers[t].versions[r] = pmap_ref(root);
        }
    }
    for (int t = 0; t < THREADS; t++) {
        cr_assert_eq(pthread_create(&readers[t].thread, NULL, read_versions, &readers[t]), 0);
    }
    pmap_unref(root);
    for (int t = 0; t < THREADS; t++) {
        cr_assert_eq(pthread_join(readers[t].thread, NULL), 0);
        cr_assert_eq(readers[t].wrong, 0);
    }
    cr_assert_eq(atomic_load(&alive), 0);
}
