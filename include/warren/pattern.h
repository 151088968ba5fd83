/*
 * What: regular expressions (PCRE2) as permissions and policies have them: an unanchored search in
 * bytes, with limits, so that a hostile pattern cannot hold a thread. A pattern never changes once
 * it is made. Failure modes: a pattern that does not compile is made all the same and matches
 * nothing; a search that reaches a limit counts as no match. Threads: a pattern may be used by any
 * number of threads; a cache belongs to one. Spec: docs/access.md, "Patterns".
 */
#ifndef WR_PATTERN_H
#define WR_PATTERN_H

#include <stdbool.h>

#include "warren/bytes.h"
#include "warren/pmap.h"
#include "warren/str.h"

struct pattern {
    struct pref ref;
    struct bytes text; /* as given; the pattern owns it */
    bool broken;       /* does not compile */
    bool everything;   /* ".*" and its like: no search is needed */
    void *code;        /* private */
};

/* One reference, the caller's. text is copied. */
struct pattern *pattern_new(struct bytes text) __attribute__((returns_nonnull));
static inline struct pattern *pattern_ref(struct pattern *pattern)
{
    (void)pref_ref(&pattern->ref);
    return pattern;
}
void pattern_unref(struct pattern *owned_pattern); /* NULL is allowed. */

/* The empty pattern matches the empty subject only, which no name is. */
bool pattern_matches(const struct pattern *pattern, struct bytes subject);

/* Does it compile? If not, appends the library's text and the offset: "missing closing parenthesis
 * at offset 2". text NULL: nobody wants it. */
bool pattern_check(struct bytes pattern, struct strbuf *text);

/* --- a cache of the patterns last used -------------------------------------------------------- */

#define PATTERN_CACHE_SLOTS 64u

struct pattern_cache {
    struct pattern *slots[PATTERN_CACHE_SLOTS]; /* by a hash of the text */
};
void pattern_cache_deinit(struct pattern_cache *cache); /* all zero = empty */
bool pattern_cache_matches(struct pattern_cache *cache, struct bytes pattern, struct bytes subject);

#endif
