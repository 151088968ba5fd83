/*
 * What: exchanges of all types bound to each other at random, with alternates, cycles, auto-delete
 * and internal ones, against a model that does what the words say: lists that are searched. Where
 * an exchange picks one binding, the model tries every choice: the router must have made one of
 * them. What the router says of its results (key_only, delayed) is checked as well.
 */
#include <criterion/criterion.h>

#include "route_fixture.h"
#include "warren/prng.h"

enum { EXCHANGES = 9, QUEUES = 10, BINDINGS = 48, PICKS_MAX = 4, HEADERS = 3 };

enum type {
    DIRECT,
    FANOUT,
    TOPIC,
    MATCH,
    HASH,
    MODULUS,
    RANDOM,
    LOCAL,
    TYPES,
};

static const char *const type_names[TYPES] = {
    "direct",         "fanout",   "topic",          "headers", "x-consistent-hash",
    "x-modulus-hash", "x-random", "x-local-random",
};

static const char *const keys[] = {"a", "a.b", "b", "a.*", "#", "*.b", "1", ""};
static const char *const header_names[HEADERS] = {"h", "x-h", "n"};

enum { KEYS = sizeof(keys) / sizeof(keys[0]) };

struct m_exchange {
    bool there, auto_delete, delayed;
    enum type type; /* Of a delayed one: what is inside. */
    int alternate;  /* -1: none */
};

/* h: for each header nothing (0), a value (1, 2) or presence (3). match: of modes[]. */
struct m_binding {
    bool there, to_queue;
    int source, destination, key, match;
    uint8_t h[HEADERS];
};

static const struct {
    const char *text; /* NULL: no x-match */
    bool any, with_x;
} modes[] = {
    {NULL, false, false},        {"all", false, false},      {"any", true, false},
    {"all-with-x", false, true}, {"any-with-x", true, true},
};

struct model {
    struct fixture *f;
    struct prng p;
    struct m_exchange x[EXCHANGES];
    bool q[QUEUES];
    struct m_binding b[BINDINGS];
};

struct m_message {
    int keys[3];
    uint32_t key_count;
    uint8_t h[HEADERS];
};

/* What a choice of the model leads to: a set of queues, and which of them can be (un)delayed. */
struct m_result {
    uint32_t queues, plain, late;
};

static const char *x_name(int i)
{
    static const char *const names[EXCHANGES] = {"x0", "x1", "x2", "x3", "x4",
                                                 "x5", "x6", "x7", "x8"};
    return names[i];
}

static const char *q_name(int i)
{
    static const char *const names[QUEUES] = {"q0", "q1", "q2", "q3", "q4",
                                              "q5", "q6", "q7", "q8", "q9"};
    return names[i];
}

/* --- changes, in the catalog and in the model ------------------------------------------------- */

static void put_headers(struct writer *w, const uint8_t h[HEADERS])
{
    for (int i = 0; i < HEADERS; i++) {
        if (h[i] == 3) {
            wire_put_key(w, B(header_names[i]));
            wire_value_put_void(w);
        } else if (h[i] != 0) {
            wire_table_put_int32(w, header_names[i], h[i]);
        }
    }
}

static void m_remove_binding(struct model *m, int i);

/* The exchange goes, with all bindings at both ends; those it was the destination of may have been
 * the last of an auto-delete exchange. */
static void m_remove_exchange(struct model *m, int x)
{
    m->x[x].there = false;
    for (int i = 0; i < BINDINGS; i++) {
        struct m_binding *b = &m->b[i];
        if (b->there && (b->source == x || (!b->to_queue && b->destination == x))) {
            m_remove_binding(m, i);
        }
    }
}

static void m_remove_binding(struct model *m, int i)
{
    const int source = m->b[i].source;
    m->b[i].there = false;
    bool last = m->x[source].there && m->x[source].auto_delete;
    for (int k = 0; k < BINDINGS; k++) {
        last = last && !(m->b[k].there && m->b[k].source == source);
    }
    if (last) {
        m_remove_exchange(m, source);
    }
}

static void change_exchange(struct model *m)
{
    const int i = (int)prng_below(&m->p, EXCHANGES);
    struct m_exchange *x = &m->x[i];
    if (x->there) {
        const struct catalog_command c = {.kind = CATALOG_DELETE_EXCHANGE,
                                          .u.delete_exchange = {B("/"), B(x_name(i)), false}};
        must(apply(m->f, &c));
        m_remove_exchange(m, i);
        return;
    }
    uint32_t picks = 0;
    for (int k = 0; k < EXCHANGES; k++) {
        picks += m->x[k].there && m->x[k].type >= HASH;
    }
    const uint64_t types = picks < PICKS_MAX ? TYPES : HASH;
    *x = (struct m_exchange){.there = true,
                             .auto_delete = prng_ratio(&m->p, 1, 3),
                             .delayed = prng_ratio(&m->p, 1, 5),
                             .type = (enum type)prng_below(&m->p, types),
                             .alternate = (int)prng_below(&m->p, 2 * EXCHANGES) - EXCHANGES};
    struct writer w;
    writer_init(&w, 64);
    if (x->alternate >= 0) {
        wire_table_put_cstr(&w, "alternate-exchange", x_name(x->alternate));
    }
    if (x->delayed) {
        wire_table_put_cstr(&w, "x-delayed-type", type_names[x->type]);
    }
    const struct catalog_command c = {
        .kind = CATALOG_DECLARE_EXCHANGE,
        .u.exchange = {.vhost = B("/"),
                       .name = B(x_name(i)),
                       .type = B(x->delayed ? "x-delayed-message" : type_names[x->type]),
                       .arguments = writer_bytes(&w),
                       .auto_delete = x->auto_delete,
                       .internal = prng_ratio(&m->p, 1, 4)}};
    must(apply(m->f, &c));
    writer_deinit(&w);
}

static void change_queue(struct model *m)
{
    const int i = (int)prng_below(&m->p, QUEUES);
    if (!m->q[i]) {
        queue(m->f, q_name(i));
        m->q[i] = true;
        return;
    }
    const struct catalog_view *view = catalog_view_peek(m->f->catalog);
    const struct catalog_command c = {
        .kind = CATALOG_DELETE_QUEUE,
        .u.delete_queue = {catalog_queue(view, B("/"), B(q_name(i)))->id}};
    must(apply(m->f, &c));
    m->q[i] = false;
    for (int k = 0; k < BINDINGS; k++) {
        if (m->b[k].there && m->b[k].to_queue && m->b[k].destination == i) {
            m_remove_binding(m, k);
        }
    }
}

static int apply_binding(struct model *m, const struct m_binding *b, bool bind)
{
    struct writer w;
    writer_init(&w, 64);
    if (modes[b->match].text != NULL) {
        wire_table_put_cstr(&w, "x-match", modes[b->match].text);
    }
    put_headers(&w, b->h);
    const int status =
        bind_any(m->f, bind, x_name(b->source),
                 b->to_queue ? q_name(b->destination) : x_name(b->destination), B(keys[b->key]),
                 writer_bytes(&w), b->to_queue ? CATALOG_TO_QUEUE : CATALOG_TO_EXCHANGE);
    writer_deinit(&w);
    return status;
}

static void change_binding(struct model *m)
{
    const int i = (int)prng_below(&m->p, BINDINGS);
    struct m_binding *b = &m->b[i];
    if (b->there) {
        must(apply_binding(m, b, false));
        m_remove_binding(m, i);
        return;
    }
    struct m_binding fresh = {.there = true,
                              .to_queue = prng_ratio(&m->p, 1, 2),
                              .source = (int)prng_below(&m->p, EXCHANGES),
                              .key = (int)prng_below(&m->p, KEYS),
                              .match = (int)prng_below(&m->p, 5)};
    fresh.destination = (int)prng_below(&m->p, fresh.to_queue ? QUEUES : EXCHANGES);
    for (int k = 0; k < HEADERS; k++) {
        fresh.h[k] = (uint8_t)(prng_ratio(&m->p, 1, 2) ? 0 : prng_below(&m->p, 4));
    }
    if (!m->x[fresh.source].there ||
        !(fresh.to_queue ? m->q[fresh.destination] : m->x[fresh.destination].there)) {
        return;
    }
    if (m->x[fresh.source].type == HASH) {
        fresh.key = 6; /* "1" */
    }
    const int status = apply_binding(m, &fresh, true);
    cr_assert(status == CATALOG_OK || status == CATALOG_EXISTS);
    if (status == CATALOG_OK) {
        *b = fresh;
    }
}

/* --- routing ---------------------------------------------------------------------------------- */

static bool headers_match(const struct m_binding *b, const uint8_t h[HEADERS])
{
    const bool any = modes[b->match].any;
    for (int i = 0; i < HEADERS; i++) {
        if (b->h[i] == 0 || (i == 1 && !modes[b->match].with_x)) {
            continue;
        }
        const bool met = h[i] != 0 && (b->h[i] == 3 || b->h[i] == h[i]);
        if (met == any) {
            return any;
        }
    }
    return !any;
}

/* For exchanges that pick, whether it can be picked. */
static bool m_matches(const struct model *m, const struct m_binding *b,
                      const struct m_message *message)
{
    switch (m->x[b->source].type) {
    case DIRECT:
    case TOPIC:
        for (uint32_t i = 0; i < message->key_count; i++) {
            const struct bytes key = B(keys[message->keys[i]]);
            if (m->x[b->source].type == TOPIC ? route_topic_matches(B(keys[b->key]), key)
                                              : bytes_eq_cstr(key, keys[b->key])) {
                return true;
            }
        }
        return false;
    case MATCH:
        return headers_match(b, message->h);
    case LOCAL:
        return b->to_queue;
    case FANOUT:
    case HASH:
    case MODULUS:
    case RANDOM:
    case TYPES:
        return true;
    }
    return false;
}

/* The bindings that can match, of one exchange. */
static uint32_t m_list(const struct model *m, int x, const struct m_message *message,
                       int list[BINDINGS])
{
    uint32_t count = 0;
    for (int i = 0; i < BINDINGS; i++) {
        if (m->b[i].there && m->b[i].source == x && m_matches(m, &m->b[i], message)) {
            list[count++] = i;
        }
    }
    return count;
}

/* Everything that can be reached when exchange x picks its choice[x]-th binding. Whether as
 * delayed, as not delayed or as both, depends on the ways there are. */
static struct m_result m_route(const struct model *m, int start, const struct m_message *message,
                               const uint32_t choice[EXCHANGES])
{
    struct m_result r = {0};
    struct {
        int x;
        bool late;
    } list[2 * EXCHANGES];
    bool seen[EXCHANGES][2] = {{false}};
    uint32_t count = 1;
    list[0].x = start;
    list[0].late = false;
    seen[start][0] = true;
    for (uint32_t at = 0; at < count; at++) {
        const int x = list[at].x;
        const bool late = list[at].late || m->x[x].delayed;
        int matching[BINDINGS];
        uint32_t matches = m_list(m, x, message, matching);
        if (m->x[x].type >= HASH && matches > 0) {
            matching[0] = matching[choice[x] % matches];
            matches = 1;
        }
        for (uint32_t i = 0; i < matches; i++) {
            const struct m_binding *b = &m->b[matching[i]];
            if (b->to_queue) {
                r.queues |= 1u << b->destination;
                *(late ? &r.late : &r.plain) |= 1u << b->destination;
            } else if (!seen[b->destination][late]) {
                seen[b->destination][late] = true;
                list[count].x = b->destination;
                list[count++].late = late;
            }
        }
        const int alternate = m->x[x].alternate;
        if (matches == 0 && alternate >= 0 && m->x[alternate].there && !seen[alternate][late]) {
            seen[alternate][late] = true;
            list[count].x = alternate;
            list[count++].late = late;
        }
    }
    return r;
}

/* The next combination of choices; false after the last. */
static bool m_next(const uint32_t count[EXCHANGES], uint32_t choice[EXCHANGES])
{
    for (int x = 0; x < EXCHANGES; x++) {
        if (count[x] > 1 && ++choice[x] < count[x]) {
            return true;
        }
        choice[x] = 0;
    }
    return false;
}

/* Some choice of the model gives this. */
static bool m_allows(const struct model *m, int start, const struct m_message *message,
                     uint32_t queues, uint32_t late)
{
    uint32_t count[EXCHANGES] = {0};
    uint32_t choice[EXCHANGES] = {0};
    for (int x = 0; x < EXCHANGES; x++) {
        int list[BINDINGS];
        if (m->x[x].there && m->x[x].type >= HASH) {
            count[x] = m_list(m, x, message, list);
        }
    }
    do {
        const struct m_result r = m_route(m, start, message, choice);
        if (r.queues == queues && (late & ~r.late) == 0 && ((queues & ~late) & ~r.plain) == 0) {
            return true;
        }
    } while (m_next(count, choice));
    return false;
}

struct routed {
    uint32_t queues, late;
    bool key_only;
};

static struct routed route_it(struct model *m, int x, const struct m_message *message)
{
    struct routed r = {0};
    struct writer headers;
    struct writer w;
    writer_init(&headers, 64);
    put_headers(&headers, message->h);
    struct wire_props p = {.flags = WIRE_PROP_HEADERS, .headers = writer_bytes(&headers)};
    writer_init(&w, wire_props_size(&p));
    wire_props_put(&w, &p);
    struct bytes extra[2];
    for (uint32_t i = 1; i < message->key_count; i++) {
        extra[i - 1] = B(keys[message->keys[i]]);
    }
    const struct route_input input = {.key = B(keys[message->keys[0]]),
                                      .props = writer_bytes(&w),
                                      .extra_keys = extra,
                                      .extra_count = message->key_count - 1,
                                      .random = prng_u64(&m->p),
                                      .node = {1, 1}};
    const struct catalog_view *view = catalog_view_peek(m->f->catalog);
    const uint32_t count =
        route_message(view, catalog_exchange(view, B("/"), B(x_name(x))), &input, &m->f->result);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t bit = 1u << (m->f->result.queues[i]->spec.name.data[1] - '0');
        cr_assert_eq(r.queues & bit, 0); /* once each */
        r.queues |= bit;
        r.late |= m->f->result.delayed[i] ? bit : 0;
    }
    r.key_only = m->f->result.key_only;
    writer_deinit(&w);
    writer_deinit(&headers);
    return r;
}

static void check_message(struct model *m, int x)
{
    struct m_message message = {.key_count = 1 + (uint32_t)prng_below(&m->p, 5) / 3};
    for (int i = 0; i < 3; i++) {
        message.keys[i] = (int)prng_below(&m->p, KEYS);
    }
    for (int i = 0; i < HEADERS; i++) {
        message.h[i] = (uint8_t)prng_below(&m->p, 3);
    }
    const struct routed r = route_it(m, x, &message);
    cr_assert(m_allows(m, x, &message, r.queues, r.late), "%x %x", r.queues, r.late);
    if (!r.key_only) {
        return;
    }
    cr_assert_eq(r.late, 0);
    for (int other = 0; other < 4; other++) {
        for (int i = 0; i < HEADERS; i++) {
            message.h[i] = (uint8_t)prng_below(&m->p, 3);
        }
        const struct routed same = route_it(m, x, &message);
        cr_assert(same.key_only);
        cr_assert_eq(same.queues, r.queues);
    }
}

static void check_catalog(const struct model *m)
{
    const struct catalog_view *view = catalog_view_peek(m->f->catalog);
    for (int i = 0; i < EXCHANGES; i++) {
        cr_assert_eq(catalog_exchange(view, B("/"), B(x_name(i))) != NULL, m->x[i].there);
    }
}

static void run(uint64_t seed)
{
    struct model m = {.f = fixture_new()};
    prng_init(&m.p, seed);
    for (int round = 0; round < 600; round++) {
        const uint64_t what = prng_below(&m.p, 20);
        if (what < 2) {
            change_exchange(&m);
        } else if (what < 4) {
            change_queue(&m);
        } else {
            change_binding(&m);
        }
        check_catalog(&m);
        const int x = (int)prng_below(&m.p, EXCHANGES);
        if (m.x[x].there) {
            check_message(&m, x);
        }
    }
    catalog_check(m.f->catalog);
    fixture_free(m.f);
}

Test(model, all_types_at_once, .timeout = 300)
{
    for (uint64_t seed = 0; seed < 40; seed++) {
        run(seed);
    }
}
