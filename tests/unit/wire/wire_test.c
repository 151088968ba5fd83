/* What: see wire_test.h. Random methods and their comparison are generated from the table too. */
#include "wire_test.h"

struct bytes test_hex(const char *text, uint8_t *out, size_t capacity)
{
    size_t size = 0;
    while (*text != '\0') {
        if (*text == ' ') {
            text++;
            continue;
        }
        WR_ASSERT(size < capacity);
        WR_ASSERT(str_parse_hex(bytes_make(text, 2), out + size, 1) == 0);
        size++;
        text += 2;
    }
    return bytes_make(out, size);
}

static const char letters[] =
    "the quick brown fox jumps over the lazy dog and then it goes on and on through the warren, "
    "hole after hole, burrow after burrow, until the lamp goes out and nobody can tell any longer "
    "which of the hundred ways leads up to the grass and which leads further down to the roots of "
    "the old oak tree";

struct bytes test_text(struct prng *p, size_t size_max)
{
    const size_t size = prng_below(p, size_max + 1);
    WR_ASSERT(size < sizeof(letters));
    return bytes_make(letters + prng_below(p, sizeof(letters) - size), size);
}

static void random_value(struct prng *p, struct writer *w, unsigned depth);

static void random_nested(struct prng *p, struct writer *w, unsigned depth, bool is_array)
{
    const uint32_t mark = is_array ? wire_value_put_array_begin(w) : wire_value_put_table_begin(w);
    const uint64_t count = prng_below(p, 4);
    for (uint64_t i = 0; i < count; i++) {
        if (!is_array) {
            wire_put_key(w, test_text(p, 20));
        }
        random_value(p, w, depth);
    }
    wire_value_put_end(w, mark);
}

static void random_value(struct prng *p, struct writer *w, unsigned depth)
{
    switch (prng_below(p, depth > 0 ? 10 : 8)) {
    case 0:
        wire_value_put_bool(w, prng_ratio(p, 1, 2));
        break;
    case 1:
        wire_value_put_int32(w, (int32_t)prng_u64(p));
        break;
    case 2:
        wire_value_put_int64(w, (int64_t)prng_u64(p));
        break;
    case 3:
        wire_value_put_uint8(w, (uint8_t)prng_u64(p));
        break;
    case 4:
        wire_value_put_double(w, (double)(int32_t)prng_u64(p) / 4);
        break;
    case 5:
        wire_value_put_timestamp(w, prng_u64(p));
        break;
    case 6:
        wire_value_put_longstr(w, test_text(p, 100));
        break;
    case 7:
        wire_value_put_void(w);
        break;
    case 8:
        random_nested(p, w, depth - 1, false);
        break;
    default:
        random_nested(p, w, depth - 1, true);
        break;
    }
}

void test_random_table(struct prng *p, struct writer *w, unsigned depth)
{
    const uint64_t count = prng_below(p, 5);
    for (uint64_t i = 0; i < count; i++) {
        wire_put_key(w, test_text(p, 30));
        random_value(p, w, depth);
    }
}

/* A table in memory that lives for the test. */
static struct bytes random_table(struct prng *p)
{
    static struct writer kept[64];
    static unsigned next;
    struct writer *w = &kept[next++ % WR_ARRAY_SIZE(kept)];
    if (w->buf != NULL) {
        writer_deinit(w);
    }
    writer_init(w, 64);
    test_random_table(p, w, 3);
    return writer_bytes(w);
}

#define METHOD(upper, lower, name, class_id, method_id, flags)                                     \
    static void random_##lower(struct prng *p, struct wire_##lower *a)                             \
    {
#define METHOD_END(upper, lower) }
#define OCTET(name)              a->name = (uint8_t)prng_u64(p);
#define SHORT(name)              a->name = (uint16_t)prng_u64(p);
#define LONG(name)               a->name = (uint32_t)prng_u64(p);
#define LONGLONG(name)           a->name = prng_u64(p);
#define SHORTSTR(name)           a->name = test_text(p, 255);
#define LONGSTR(name)            a->name = test_text(p, 255);
#define TABLE(name)              a->name = random_table(p);
#define BIT(name)                a->name = prng_ratio(p, 1, 2);
#include "warren/wire_spec.def"

struct wire_method test_random_method(struct prng *p, enum wire_method_id id)
{
    struct wire_method m = {.id = id};
    switch ((uint32_t)id) {
#define METHOD(upper, lower, name, class_id, method_id, flags)                                     \
    case WIRE_##upper:                                                                             \
        random_##lower(p, &m.lower);                                                               \
        break;
#include "warren/wire_spec.def"
    default:
        break;
    }
    return m;
}

#define METHOD(upper, lower, name, class_id, method_id, flags)                                     \
    static bool equal_##lower(const struct wire_##lower *a, const struct wire_##lower *b)          \
    {                                                                                              \
        return true
#define METHOD_END(upper, lower)                                                                   \
    ;                                                                                              \
    }
#define OCTET(name)    &&a->name == b->name
#define SHORT(name)    &&a->name == b->name
#define LONG(name)     &&a->name == b->name
#define LONGLONG(name) &&a->name == b->name
#define BIT(name)      &&a->name == b->name
#define SHORTSTR(name) &&bytes_eq(a->name, b->name)
#define LONGSTR(name)  &&bytes_eq(a->name, b->name)
#define TABLE(name)    &&bytes_eq(a->name, b->name)
#include "warren/wire_spec.def"

bool test_method_equal(const struct wire_method *a, const struct wire_method *b)
{
    if (a->id != b->id) {
        return false;
    }
    switch ((uint32_t)a->id) {
#define METHOD(upper, lower, name, class_id, method_id, flags)                                     \
    case WIRE_##upper:                                                                             \
        return equal_##lower(&a->lower, &b->lower);
#include "warren/wire_spec.def"
    default:
        return true;
    }
}
