/* What: helpers of the codec's tests: bytes from hex text, random values. */
#ifndef WR_WIRE_TEST_H
#define WR_WIRE_TEST_H

#include "warren/prng.h"
#include "warren/wire_frame.h"
#include "warren/wire_props.h"
#include "warren/wire_table.h"

/* Bytes of "01 0a ff" (blanks are skipped); the array must have room. */
struct bytes test_hex(const char *text, uint8_t *out, size_t capacity);

/* `size` random bytes that are ASCII letters, from a static pool that `p` chooses a place in. */
struct bytes test_text(struct prng *p, size_t size_max);

/* A method of the id with random fields; tables are valid ones. Views into static memory. */
struct wire_method test_random_method(struct prng *p, enum wire_method_id id);

/* True when all fields (reserved ones apart) are equal. */
bool test_method_equal(const struct wire_method *a, const struct wire_method *b);

/* Append random fields to a table, nested up to `depth` levels. */
void test_random_table(struct prng *p, struct writer *w, unsigned depth);

#endif
