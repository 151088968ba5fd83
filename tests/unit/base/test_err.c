/* Codes are negative, distinct, and all have a name and a text. */
#include <criterion/criterion.h>

#include "warren/err.h"

struct row {
    int value;
    const char *name;
    const char *text;
};

static const struct row rows[] = {
#define ROW(name, number, text) {number, #name, text},
    WR_ERR_TABLE(ROW)
#undef ROW
};

Test(err, every_code_is_negative_and_distinct)
{
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        cr_assert_lt(rows[i].value, 0);
        for (size_t j = 0; j < i; j++) {
            cr_assert_neq(rows[i].value, rows[j].value, "%s and %s", rows[i].name, rows[j].name);
        }
    }
}

Test(err, names_and_texts_come_from_the_table)
{
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        cr_assert_str_eq(wr_err_name(rows[i].value), rows[i].name);
        cr_assert_str_eq(wr_err_text(rows[i].value), rows[i].text);
    }
    cr_assert_str_eq(wr_err_name(0), "WR_OK");
    cr_assert_str_eq(wr_err_text(0), "success");
}

Test(err, foreign_values_have_a_name_too)
{
    cr_assert_str_eq(wr_err_name(-9999), "WR_E_?");
    cr_assert_str_eq(wr_err_name(7), "WR_E_?");
    cr_assert_str_eq(wr_err_text(-9999), "unknown error");
}
