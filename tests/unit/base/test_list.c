/* Intrusive lists. */
#include <criterion/criterion.h>

#include "warren/list.h"

struct element {
    int value;
    struct list link;
};

static int values(const struct list *head)
{
    int digits = 0;
    LIST_FOREACH(link, head) {
        digits = digits * 10 + WR_CONTAINER_OF(link, struct element, link)->value;
    }
    return digits;
}

Test(list, push_pop_insert_splice)
{
    struct element e[6];
    struct list head;
    struct list other;
    list_init(&head);
    list_init(&other);
    for (int i = 0; i < 6; i++) {
        e[i].value = i + 1;
        list_init(&e[i].link);
    }
    cr_assert(list_is_empty(&head));
    cr_assert_null(list_first(&head));
    cr_assert_null(list_pop_back(&head));
    list_push_back(&head, &e[1].link);
    list_push_front(&head, &e[0].link);
    list_insert_after(&e[1].link, &e[3].link);
    list_insert_before(&e[3].link, &e[2].link);
    cr_assert_eq(values(&head), 1234);
    cr_assert_eq(list_next(&head, &e[2].link), &e[3].link);
    cr_assert_null(list_next(&head, &e[3].link));
    list_splice_back(&head, &other);
    list_push_back(&other, &e[4].link);
    list_push_back(&other, &e[5].link);
    list_splice_back(&head, &other);
    cr_assert(list_is_empty(&other));
    cr_assert_eq(values(&head), 123456);
    list_remove(&e[2].link);
    list_remove(&e[2].link);
    cr_assert_eq(values(&head), 12456);
    cr_assert_eq(list_pop_front(&head), &e[0].link);
    cr_assert_eq(list_pop_back(&head), &e[5].link);
    cr_assert_eq(list_last(&head), &e[4].link);
    LIST_FOREACH_SAFE(link, &head) {
        list_remove(link);
    }
    cr_assert(list_is_empty(&head));
}
