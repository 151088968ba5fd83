/*
 * What: patterns (include/warren/pattern.h) with PCRE2. Failure modes: none that is returned: what
 * does not compile, and what takes too long, does not match. Ownership: a pattern owns its text and
 * its compiled form.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "warren/map.h"
#include "warren/mem.h"
#include "warren/pattern.h"

/* Enough for any pattern people write; a pattern that backtracks without end is cut off after
 * milliseconds. */
#define STEPS_MAX 100000
#define DEPTH_MAX 1000

static pcre2_code *compile(struct bytes text, int *ret_error, PCRE2_SIZE *ret_at)
{
    /* The library takes no NULL, not even for nothing. */
    return pcre2_compile(text.size == 0 ? (PCRE2_SPTR) "" : text.data, text.size, 0, ret_error,
                         ret_at, NULL);
}

static void pattern_free(struct pref *owned_ref)
{
    struct pattern *p = (struct pattern *)owned_ref; /* ref is the first member */
    pcre2_code_free(p->code);
    wr_free(p);
}

struct pattern *pattern_new(struct bytes text)
{
    int error = 0;
    PCRE2_SIZE at = 0;
    struct pattern *p = wr_alloc(sizeof *p + text.size);
    uint8_t *copy = (uint8_t *)(p + 1);
    if (text.size > 0) {
        memcpy(copy, text.data, text.size);
    }
    pref_init(&p->ref, pattern_free);
    p->text = bytes_make(copy, text.size);
    p->everything =
        bytes_eq_cstr(text, ".*") || bytes_eq_cstr(text, "^.*") || bytes_eq_cstr(text, "^");
    p->code = p->everything || text.size == 0 ? NULL : compile(text, &error, &at);
    p->broken = p->code == NULL && !p->everything && text.size > 0;
    return p;
}

void pattern_unref(struct pattern *owned_pattern)
{
    if (owned_pattern != NULL) {
        pref_unref(&owned_pattern->ref);
    }
}

bool pattern_matches(const struct pattern *pattern, struct bytes subject)
{
    if (pattern->everything) {
        return true;
    }
    if (pattern->text.size == 0) {
        return subject.size == 0;
    }
    if (pattern->broken) {
        return false;
    }
    pcre2_match_data *match = pcre2_match_data_create(1, NULL); /* what matched is not asked for */
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    (void)pcre2_set_match_limit(limits, STEPS_MAX);
    (void)pcre2_set_depth_limit(limits, DEPTH_MAX);
    int rc = pcre2_match(pattern->code, subject.size == 0 ? (PCRE2_SPTR) "" : subject.data,
                         subject.size, 0, 0, match, limits);
    pcre2_match_context_free(limits);
    pcre2_match_data_free(match);
    return rc >= 0;
}

bool pattern_check(struct bytes pattern, struct strbuf *text)
{
    int error = 0;
    PCRE2_SIZE at = 0;
    pcre2_code *code = compile(pattern, &error, &at);
    if (code != NULL) {
        pcre2_code_free(code);
        return true;
    }
    if (text != NULL) {
        PCRE2_UCHAR message[256] = {0};
        (void)pcre2_get_error_message(error, message, sizeof message);
        strbuf_printf(text, "%s at offset %zu", (const char *)message, (size_t)at);
    }
    return false;
}

/* --- cache ------------------------------------------------------------------------------------ */

void pattern_cache_deinit(struct pattern_cache *cache)
{
    for (size_t i = 0; i < PATTERN_CACHE_SLOTS; i++) {
        pattern_unref(cache->slots[i]);
        cache->slots[i] = NULL;
    }
}

bool pattern_cache_matches(struct pattern_cache *cache, struct bytes pattern, struct bytes subject)
{
    static const struct hash_seed seed = {UINT64_C(0x7061747465726e), 1};
    struct pattern **slot = &cache->slots[hash_bytes(seed, pattern) % PATTERN_CACHE_SLOTS];
    if (*slot == NULL || !bytes_eq((*slot)->text, pattern)) {
        pattern_unref(*slot);
        *slot = pattern_new(pattern);
    }
    return pattern_matches(*slot, subject);
}
