/*
 * What: memory, asserts, error texts and the random generator of the core: all that it needs from
 * outside. Failure modes: exhaustion aborts (the heap hook must not return NULL); a failed assert
 * calls the hook. Determinism: raft__random depends on the configured seed and the number of draws
 * only.
 */
#include "raft_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The one global of the library: set once, before use, by the program (raft.h). */
static void (*assert_hook)(const char *expression, const char *file, int line);

void raft_set_assert_hook(void (*hook)(const char *expression, const char *file, int line))
{
    assert_hook = hook;
}

void raft__assert_failed(const char *expression, const char *file, int line)
{
    if (assert_hook != NULL) {
        assert_hook(expression, file, line);
    }
    fprintf(stderr, "raft: assertion failed: %s (%s:%d)\n", expression, file, line);
    abort();
}

void *raft__alloc(struct raft *r, size_t size)
{
    void *p = r->cfg.heap.realloc != NULL ? r->cfg.heap.realloc(r->cfg.heap.ctx, NULL, size)
                                          : realloc(NULL, size);
    RAFT_ASSERT(p != NULL);
    memset(p, 0, size);
    return p;
}

void raft__release(struct raft *r, void *p)
{
    if (p == NULL) {
        return;
    }
    if (r->cfg.heap.free != NULL) {
        r->cfg.heap.free(r->cfg.heap.ctx, p);
    } else {
        free(p);
    }
}

void raft__reserve(struct raft *r, void **array, uint32_t *capacity, uint32_t need, size_t size)
{
    if (need <= *capacity) {
        return;
    }
    RAFT_ASSERT(need <= UINT32_MAX / 2);
    uint32_t wanted = *capacity == 0 ? (need < 4 ? 4 : need) : *capacity * 2;
    if (wanted < need) {
        wanted = need;
    }
    RAFT_ASSERT(wanted <= SIZE_MAX / size);
    void *p = r->cfg.heap.realloc != NULL
                  ? r->cfg.heap.realloc(r->cfg.heap.ctx, *array, wanted * size)
                  : realloc(*array, wanted * size);
    RAFT_ASSERT(p != NULL);
    *array = p;
    *capacity = wanted;
}

/* splitmix64, reduced by multiplication; the tiny bias does not matter for jitter. bound >= 1. */
uint64_t raft__random(struct raft *r, uint64_t bound)
{
    RAFT_ASSERT(bound >= 1);
    RAFT_ASSERT(bound <= UINT32_MAX);
    r->random += 0x9e3779b97f4a7c15u;
    uint64_t z = r->random;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z = (z ^ (z >> 31)) >> 32;
    return (z * bound) >> 32;
}

void raft__ref(struct raft *r, void *owner)
{
    if (owner != NULL) {
        r->cfg.payload.ref(r->cfg.payload.ctx, owner);
    }
}

void raft__unref(struct raft *r, void *owner)
{
    if (owner != NULL) {
        r->cfg.payload.unref(r->cfg.payload.ctx, owner);
    }
}

const char *raft_strerror(int err)
{
    static const char *const texts[] = {
        "ok",
        "not leader",
        "stale term",
        "busy",
        "membership change pending",
        "leader not ready",
        "unknown member",
        "member exists",
        "member not caught up",
        "no reachable majority",
        "too many members",
        "bad message",
        "stored state is corrupt",
        "index compacted",
        "no longer applies",
        "voters not confirmed yet",
    };
    if (err > 0 || err < RAFT_E_UNCONFIRMED) {
        return "unknown error";
    }
    return texts[-err];
}
