/* What: tests of field tables: letters, look-up, validation, comparison, building, text. */
#include <criterion/criterion.h>

#include "wire_test.h"

/* One field of each type, with the key a letter of its own, as a table's content in hex. */
static const char all_types[] = "01 74 74 01 "                      /* t bool true */
                                "01 62 62 ff "                      /* b int8 -1 */
                                "01 42 42 ff "                      /* B uint8 255 */
                                "01 73 73 ff fe "                   /* s int16 -2 */
                                "01 75 75 ff fe "                   /* u uint16 65534 */
                                "01 49 49 ff ff ff fd "             /* I int32 -3 */
                                "01 69 69 ff ff ff fd "             /* i uint32 4294967293 */
                                "01 6c 6c ff ff ff ff ff ff ff fc " /* l int64 -4 */
                                "01 4c 4c 00 00 00 00 00 00 00 05 " /* L int64 5 */
                                "01 66 66 3f c0 00 00 "             /* f 1.5 */
                                "01 64 64 3f f8 00 00 00 00 00 00 " /* d 1.5 */
                                "01 44 44 02 00 00 00 64 "          /* D 100e-2 */
                                "01 53 53 00 00 00 02 68 69 "       /* S "hi" */
                                "01 78 78 00 00 00 02 00 01 "       /* x */
                                "01 54 54 00 00 00 00 00 00 00 06 " /* T 6 */
                                "01 41 41 00 00 00 04 74 00 56 56 " /* A [false, void, void] */
                                "01 46 46 00 00 00 04 01 61 74 01 " /* F {a: true} */
                                "01 56 56";                         /* V */

static const char all_types_text[] =
    "{t=bool true, b=byte -1, B=unsignedbyte 255, s=short -2, u=unsignedshort 65534, "
    "I=signedint -3, i=unsignedint 4294967293, l=long -4, L=long 5, f=float 1.5, d=double 1.5, "
    "D=decimal 100e-2, S=longstr \"hi\", x=binary \"\\x00\\x01\", T=timestamp 6, "
    "A=array [bool false, void, void], F=table {a=bool true}, V=void}";

static const char *text_of(struct bytes table)
{
    static char array[2048];
    struct strbuf s;
    strbuf_init(&s, array, sizeof(array));
    wire_describe_table(&s, table);
    return array;
}

Test(table, every_type_letter_is_read_as_rabbitmq_reads_it)
{
    uint8_t raw[256];
    const struct bytes table = test_hex(all_types, raw, sizeof(raw));
    cr_assert_eq(wire_table_validate(table, NULL), WIRE_OK);
    cr_assert_str_eq(text_of(table), all_types_text);
}

Test(table, copying_values_keeps_every_byte_but_the_letter_L)
{
    uint8_t raw[256];
    const struct bytes table = test_hex(all_types, raw, sizeof(raw));
    struct writer w;
    writer_init(&w, 16);
    wire_table_put_without(&w, table, BYTES_LITERAL("no such key"));
    const struct bytes copy = writer_bytes(&w);
    cr_assert_eq(copy.size, table.size);
    size_t differing = 0;
    for (size_t i = 0; i < copy.size; i++) {
        differing += copy.data[i] != table.data[i];
    }
    cr_assert_eq(differing, 1);
    writer_clear(&w);
    wire_table_put_without(&w, table, BYTES_LITERAL("A"));
    struct wire_value value;
    cr_assert(!wire_table_find(writer_bytes(&w), "A", &value));
    cr_assert(wire_table_find(writer_bytes(&w), "V", &value));
    writer_deinit(&w);
}

Test(table, fields_are_sorted_by_name_and_those_of_one_name_stay_in_order)
{
    static const char *const keys[] = {"b", "a", "bb", "b", "", "a"};
    static const char *const sorted[] = {"", "a", "a", "b", "b", "bb"};
    static const int64_t values[] = {4, 1, 5, 0, 3, 2};
    struct writer table;
    struct writer w;
    struct wire_table_iter it;
    struct bytes key;
    struct wire_value value;
    uint32_t count = 0;
    writer_init(&table, 64);
    writer_init(&w, 64);
    for (uint32_t i = 0; i < 6; i++) {
        wire_table_put_int64(&table, keys[i], i);
    }
    wire_table_put_sorted(&w, writer_bytes(&table));
    cr_assert_eq(writer_size(&w), writer_size(&table));
    wire_table_iter_init(&it, writer_bytes(&w));
    for (; wire_table_iter_next(&it, &key, &value); count++) {
        cr_assert(bytes_eq_cstr(key, sorted[count]));
        cr_assert_eq(value.integer, values[count]);
    }
    cr_assert_eq(count, 6);
    /* Once more it is the same. */
    writer_deinit(&table);
    writer_init(&table, 64);
    wire_table_put_sorted(&table, writer_bytes(&w));
    cr_assert(bytes_eq(writer_bytes(&table), writer_bytes(&w)));
    writer_deinit(&table);
    writer_deinit(&w);
}

Test(table, what_is_true_is_sorted_as_one_and_the_same)
{
    static const char given[] = "\1bt\2\1at\0";
    struct writer w;
    writer_init(&w, 16);
    wire_table_put_sorted(&w, bytes_make(given, sizeof given - 1));
    cr_assert(bytes_eq(writer_bytes(&w), bytes_make("\1at\0\1bt\1", 8)));
    writer_deinit(&w);
}

Test(table, lookup_takes_the_first_of_a_name_and_checks_the_type)
{
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_int32(&w, "n", 1);
    wire_table_put_int32(&w, "n", 2);
    wire_table_put_cstr(&w, "s", "text");
    wire_table_put_bool(&w, "b", true);
    wire_table_put_timestamp(&w, "when", 9);
    const uint32_t array = wire_table_put_array_begin(&w, "a");
    wire_value_put_int64(&w, -1);
    wire_value_put_end(&w, array);
    const uint32_t inner = wire_table_put_table_begin(&w, "t");
    wire_table_put_int64(&w, "deep", INT64_MIN);
    wire_value_put_end(&w, inner);
    const struct bytes table = writer_bytes(&w);
    cr_assert_eq(wire_table_validate(table, NULL), WIRE_OK);

    int64_t number = 0;
    bool flag = false;
    struct bytes view;
    cr_assert(wire_table_get_integer(table, "n", &number));
    cr_assert_eq(number, 1);
    cr_assert(!wire_table_get_integer(table, "s", &number));
    cr_assert(!wire_table_get_integer(table, "when", &number));
    cr_assert(!wire_table_get_integer(table, "absent", &number));
    cr_assert(wire_table_get_string(table, "s", &view));
    cr_assert(bytes_eq_cstr(view, "text"));
    cr_assert(!wire_table_get_string(table, "n", &view));
    cr_assert(wire_table_get_bool(table, "b", &flag) && flag);
    cr_assert(wire_table_get_array(table, "a", &view));
    struct wire_table_iter it;
    struct bytes key;
    struct wire_value value;
    wire_array_iter_init(&it, view);
    cr_assert(wire_table_iter_next(&it, &key, &value));
    cr_assert(key.size == 0 && value.type == 'l' && value.integer == -1);
    cr_assert(!wire_table_iter_next(&it, &key, &value));
    cr_assert_eq(it.fault, WIRE_OK);
    cr_assert(wire_table_get_table(table, "t", &view));
    cr_assert(wire_table_get_integer(view, "deep", &number));
    cr_assert_eq(number, INT64_MIN);
    cr_assert(!wire_table_get_table(table, "a", &view));
    writer_deinit(&w);
}

Test(table, broken_tables_are_faults_and_end_early)
{
    static const struct {
        const char *hex;
        enum wire_fault fault;
    } rows[] = {
        {"05 61", WIRE_FAULT_TABLE_TRUNCATED},
        {"01 61", WIRE_FAULT_TABLE_TRUNCATED},
        {"01 61 49 00 00", WIRE_FAULT_TABLE_TRUNCATED},
        {"01 61 53 ff ff ff ff 61", WIRE_FAULT_TABLE_TRUNCATED},
        {"01 61 7a 00", WIRE_FAULT_TABLE_TYPE},
        {"01 61 46 00 00 00 03 01 62 7a", WIRE_FAULT_TABLE_TYPE},
        {"01 61 41 00 00 00 02 49 00", WIRE_FAULT_TABLE_TRUNCATED},
        /* The inner length ends inside a field although the outer table goes on. */
        {"01 61 41 00 00 00 01 74 01", WIRE_FAULT_TABLE_TRUNCATED},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        uint8_t raw[64];
        const struct bytes table = test_hex(rows[i].hex, raw, sizeof(raw));
        cr_assert_eq(wire_table_validate(table, NULL), rows[i].fault, "%s", rows[i].hex);
        cr_assert_not_null(strstr(text_of(table), "..."));
    }
    cr_assert_eq(wire_table_validate(BYTES_NONE, NULL), WIRE_OK);
    cr_assert_str_eq(text_of(BYTES_NONE), "{}");
}

/* {"k": {"k": … }} with `depth` levels, the outermost included. */
static void nested(struct writer *w, unsigned depth, bool arrays)
{
    uint32_t marks[64];
    for (unsigned i = 0; i + 1 < depth; i++) {
        if (i == 0 || !arrays) {
            wire_put_key(w, BYTES_LITERAL("k"));
        }
        marks[i] = arrays ? wire_value_put_array_begin(w) : wire_value_put_table_begin(w);
    }
    for (unsigned i = depth - 1; i-- > 0;) {
        wire_value_put_end(w, marks[i]);
    }
}

Test(table, limits_of_depth_items_and_size_are_enforced)
{
    struct writer w;
    writer_init(&w, 64);
    for (int arrays = 0; arrays < 2; arrays++) {
        writer_clear(&w);
        nested(&w, WIRE_TABLE_DEPTH_MAX, arrays != 0);
        cr_assert_eq(wire_table_validate(writer_bytes(&w), NULL), WIRE_OK);
        cr_assert_null(strstr(text_of(writer_bytes(&w)), "..."));
        writer_clear(&w);
        nested(&w, WIRE_TABLE_DEPTH_MAX + 1, arrays != 0);
        cr_assert_eq(wire_table_validate(writer_bytes(&w), NULL), WIRE_FAULT_TABLE_DEPTH);
        cr_assert_not_null(strstr(text_of(writer_bytes(&w)), "..."));
    }
    writer_clear(&w);
    for (int i = 0; i < 10; i++) {
        wire_table_put_bool(&w, "x", true);
    }
    struct wire_table_limits limits = {1, 10, writer_size(&w)};
    cr_assert_eq(wire_table_validate(writer_bytes(&w), &limits), WIRE_OK);
    limits.items_max = 9;
    cr_assert_eq(wire_table_validate(writer_bytes(&w), &limits), WIRE_FAULT_TABLE_ITEMS);
    limits = (struct wire_table_limits){1, 10, writer_size(&w) - 1};
    cr_assert_eq(wire_table_validate(writer_bytes(&w), &limits), WIRE_FAULT_TABLE_SIZE);
    writer_deinit(&w);
}

/* The value of the hex text "letter value…". */
static struct wire_value value_of(const char *hex, uint8_t *raw, size_t capacity)
{
    struct wire_table_iter it;
    struct bytes key;
    struct wire_value value;
    wire_array_iter_init(&it, test_hex(hex, raw, capacity));
    cr_assert(wire_table_iter_next(&it, &key, &value), "%s", hex);
    return value;
}

Test(table, comparison_is_by_value_and_not_by_letter)
{
    static const struct {
        const char *a, *b;
        bool equal;
    } rows[] = {
        {"49 00 00 00 05", "6c 00 00 00 00 00 00 00 05", true},
        {"62 05", "42 05", true},
        {"62 ff", "42 ff", false}, /* -1 and 255 */
        {"49 00 00 00 05", "54 00 00 00 00 00 00 00 05", true},
        {"6c ff ff ff ff ff ff ff ff", "54 ff ff ff ff ff ff ff ff", false},
        {"54 ff ff ff ff ff ff ff ff", "54 ff ff ff ff ff ff ff ff", true},
        {"49 00 00 00 05", "53 00 00 00 01 35", false},
        {"53 00 00 00 01 35", "78 00 00 00 01 35", true},
        {"53 00 00 00 01 35", "53 00 00 00 01 36", false},
        {"74 01", "74 02", true},
        {"74 01", "62 01", false},
        {"66 3f c0 00 00", "64 3f f8 00 00 00 00 00 00", true},
        {"64 7f f8 00 00 00 00 00 00", "64 7f f8 00 00 00 00 00 00", false}, /* not a number */
        {"66 3f 80 00 00", "62 01", true},
        {"66 3f 80 00 00", "54 00 00 00 00 00 00 00 01", true},
        {"66 3f 80 00 00", "62 02", false},
        {"66 3f c0 00 00", "62 01", false},
        {"66 bf 80 00 00", "62 ff", true},
        {"66 bf 80 00 00", "54 ff ff ff ff ff ff ff ff", false},
        {"64 43 e0 00 00 00 00 00 00", "54 80 00 00 00 00 00 00 00", true},
        {"64 43 f0 00 00 00 00 00 00", "54 ff ff ff ff ff ff ff ff", false},
        {"64 c3 e0 00 00 00 00 00 00", "6c 80 00 00 00 00 00 00 00", true},
        {"64 7f f8 00 00 00 00 00 00", "62 00", false},
        {"64 7f f0 00 00 00 00 00 00", "62 00", false},
        {"44 02 00 00 00 64", "44 02 00 00 00 64", true},
        {"44 02 00 00 00 64", "44 01 00 00 00 0a", false},
        {"56", "56", true},
        {"56", "74 00", false},
        {"41 00 00 00 02 62 01", "41 00 00 00 02 62 01", true},
        {"41 00 00 00 02 62 01", "41 00 00 00 05 49 00 00 00 01", false}, /* another type */
        {"41 00 00 00 09 6c 00 00 00 00 00 00 00 01", "41 00 00 00 09 4c 00 00 00 00 00 00 00 01",
         true},
        {"41 00 00 00 09 6c 00 00 00 00 00 00 00 01", "41 00 00 00 09 54 00 00 00 00 00 00 00 01",
         false},
        {"41 00 00 00 05 66 3f 80 00 00", "41 00 00 00 09 64 3f f0 00 00 00 00 00 00", false},
        {"41 00 00 00 09 64 80 00 00 00 00 00 00 00", "41 00 00 00 09 64 00 00 00 00 00 00 00 00",
         true}, /* -0.0 and 0.0 */
        {"41 00 00 00 06 53 00 00 00 01 35", "41 00 00 00 06 78 00 00 00 01 35", false},
        {"41 00 00 00 01 56", "41 00 00 00 01 56", true},
        {"41 00 00 00 02 62 01", "41 00 00 00 04 62 01 62 01", false},
        {"41 00 00 00 02 62 01", "41 00 00 00 01 62", false},
        {"41 00 00 00 01 62", "41 00 00 00 01 62", false}, /* broken */
        {"46 00 00 00 04 01 61 62 01", "46 00 00 00 04 01 61 42 01", false},
        {"46 00 00 00 04 01 61 62 01", "46 00 00 00 04 01 61 62 01", true},
        {"46 00 00 00 04 01 61 62 01", "46 00 00 00 04 01 62 62 01", false},
        {"46 00 00 00 00", "41 00 00 00 00", true},
        {"41 00 00 00 05 46 00 00 00 00", "41 00 00 00 05 41 00 00 00 00", false},
        {"46 00 00 00 00", "53 00 00 00 00", false},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        uint8_t raw_a[64];
        uint8_t raw_b[64];
        const struct wire_value a = value_of(rows[i].a, raw_a, sizeof(raw_a));
        const struct wire_value b = value_of(rows[i].b, raw_b, sizeof(raw_b));
        cr_assert_eq(wire_value_equal(&a, &b), rows[i].equal, "%s / %s", rows[i].a, rows[i].b);
        cr_assert_eq(wire_value_equal(&b, &a), rows[i].equal, "%s / %s", rows[i].b, rows[i].a);
    }
}

Test(table, random_tables_are_valid_equal_to_themselves_and_copied_exactly)
{
    struct prng p;
    prng_init(&p, 5);
    struct writer w;
    struct writer copy;
    writer_init(&w, 256);
    writer_init(&copy, 256);
    for (int round = 0; round < 2000; round++) {
        writer_clear(&w);
        test_random_table(&p, &w, 6);
        const struct bytes table = writer_bytes(&w);
        cr_assert_eq(wire_table_validate(table, NULL), WIRE_OK);
        writer_clear(&copy);
        wire_value_put_table(&copy, table);
        wire_value_put_array(&copy, BYTES_NONE);
        struct wire_table_iter it;
        struct bytes key;
        struct wire_value value;
        wire_array_iter_init(&it, writer_bytes(&copy));
        cr_assert(wire_table_iter_next(&it, &key, &value));
        cr_assert(bytes_eq(value.bytes, table));
        cr_assert(wire_value_equal(&value, &value));
        /* Any cut is noticed or falls between two fields; never a crash. */
        const size_t cut = prng_below(&p, table.size + 1);
        uint8_t *part = wr_memdup(table.data, cut);
        (void)!wire_table_validate(bytes_make(part, cut), NULL);
        (void)text_of(bytes_make(part, cut));
        wr_free(part);
    }
    writer_deinit(&w);
    writer_deinit(&copy);
}

Test(table, values_print_alone_and_types_have_rabbitmqs_names)
{
    uint8_t raw[64];
    char array[128];
    struct strbuf s;
    strbuf_init(&s, array, sizeof(array));
    struct wire_value value = value_of("49 00 00 00 3c", raw, sizeof(raw));
    wire_describe_value(&s, &value);
    strbuf_add_char(&s, ' ');
    value = value_of("46 00 00 00 04 01 61 62 01", raw, sizeof(raw));
    wire_describe_value(&s, &value);
    cr_assert_str_eq(s.data, "60 [{<<\"a\">>,byte,1}]");
    cr_assert_str_eq(wire_field_name('S'), "longstr");
    cr_assert_str_eq(wire_field_name('I'), "signedint");
    cr_assert_str_eq(wire_field_name('?'), "unknown");
}

Test(table, reals_print_as_erlang_prints_them)
{
    static const struct {
        double real;
        const char *text;
    } cases[] = {
        {0.0, "0.0"},
        {-0.0, "-0.0"},
        {1.0, "1.0"},
        {100.0, "100.0"},
        {1000.0, "1.0e3"},
        {-1000.0, "-1.0e3"},
        {1234.0, "1234.0"},
        {12300.0, "1.23e4"},
        {123456789012.0, "123456789012.0"},
        {0.1, "0.1"},
        {0.0001, "0.0001"},
        {0.00123, "0.00123"},
        {0.0000123, "1.23e-5"},
        {5.0e-324, "5.0e-324"},
        {1.0e100, "1.0e100"},
        {9007199254740992.0, "9.007199254740992e15"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char array[64];
        struct strbuf s;
        strbuf_init(&s, array, sizeof(array));
        struct wire_value value = {.type = WIRE_FIELD_DOUBLE, .real = cases[i].real};
        wire_describe_value(&s, &value);
        cr_expect_str_eq(s.data, cases[i].text);
    }
}

static const char all_types_json[] =
    "[[\"t\",\"bool\",true],[\"b\",\"byte\",-1],[\"B\",\"unsignedbyte\",255],[\"s\",\"short\",-2],"
    "[\"u\",\"unsignedshort\",65534],[\"I\",\"signedint\",-3],[\"i\",\"unsignedint\",4294967293],"
    "[\"l\",\"long\",-4],[\"L\",\"long\",5],[\"f\",\"float\",1.5],[\"d\",\"double\",1.5],"
    "[\"D\",\"decimal\",[2,100]],[\"S\",\"longstr\",\"hi\"],[\"x\",\"binary\",\"\\u0000\\u0001\"],"
    "[\"T\",\"timestamp\",6],"
    "[\"A\",\"array\",[[\"bool\",false],[\"void\",\"undefined\"],[\"void\",\"undefined\"]]],"
    "[\"F\",\"table\",[[\"a\",\"bool\",true]]],[\"V\",\"void\",\"undefined\"]]";

static void check_json(const char *hex, const char *expected)
{
    uint8_t raw[256];
    struct writer w;
    writer_init(&w, 16);
    wire_put_table_json(&w, test_hex(hex, raw, sizeof(raw)));
    put_u8(&w, 0);
    cr_assert_str_eq((const char *)writer_bytes(&w).data, expected);
    writer_deinit(&w);
}

Test(table, as_json_types_and_order_survive)
{
    check_json("", "[]");
    check_json(all_types, all_types_json);
    /* a number that JSON cannot write; a string that is not UTF-8 */
    check_json("01 66 66 7f 80 00 00 01 53 53 00 00 00 01 ff",
               "[[\"f\",\"float\",null],[\"S\",\"longstr\",\"\xef\xbf\xbd\"]]");
    /* cut in the middle of its second field */
    check_json("01 74 74 01 01 49 49 00", "[[\"t\",\"bool\",true]]");
}

/* Deeper than any table that is let in: still JSON, and no more levels than there may be. */
Test(table, as_json_depth_is_bounded)
{
    struct writer w;
    uint32_t marks[WIRE_TABLE_DEPTH_MAX + 4];
    writer_init(&w, 16);
    for (size_t i = 0; i < WR_ARRAY_SIZE(marks); i++) {
        marks[i] = wire_table_put_table_begin(&w, "d");
    }
    for (size_t i = WR_ARRAY_SIZE(marks); i-- > 0;) {
        wire_value_put_end(&w, marks[i]);
    }
    struct writer json;
    writer_init(&json, 16);
    wire_put_table_json(&json, writer_bytes(&w));
    size_t open = 0;
    size_t depth = 0;
    const struct bytes text = writer_bytes(&json);
    for (size_t i = 0; i < text.size; i++) {
        open += text.data[i] == '[';
        open -= text.data[i] == ']';
        depth = open > depth ? open : depth;
    }
    cr_assert_eq(open, 0);
    cr_assert_eq(depth, 2 * WIRE_TABLE_DEPTH_MAX + 1);
    writer_deinit(&json);
    writer_deinit(&w);
}
