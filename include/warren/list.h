/*
 * What: intrusive doubly linked list. A `struct list` is either a list's head or the link inside an
 * element (WR_CONTAINER_OF gets the element). All O(1). Ownership: elements are the caller's.
 */
#ifndef WR_LIST_H
#define WR_LIST_H

#include "warren/assert.h"

struct list {
    struct list *prev;
    struct list *next;
};

/* Make an empty list, or a link that is in no list. */
static inline void list_init(struct list *l)
{
    l->prev = l;
    l->next = l;
}

/* True for an empty head and for a link that is in no list. */
static inline bool list_is_empty(const struct list *l)
{
    return l->next == l;
}

/* Put `link` (in no list) after `position`. */
static inline void list_insert_after(struct list *position, struct list *link)
{
    link->prev = position;
    link->next = position->next;
    position->next->prev = link;
    position->next = link;
}

static inline void list_insert_before(struct list *position, struct list *link)
{
    list_insert_after(position->prev, link);
}

static inline void list_push_front(struct list *head, struct list *link)
{
    list_insert_after(head, link);
}

static inline void list_push_back(struct list *head, struct list *link)
{
    list_insert_after(head->prev, link);
}

/* Take the link out of whatever list it is in (none is allowed); it is then in no list. */
static inline void list_remove(struct list *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    list_init(link);
}

/* First and last link, or NULL. */
static inline struct list *list_first(const struct list *head)
{
    return head->next == head ? NULL : head->next;
}

static inline struct list *list_last(const struct list *head)
{
    return head->prev == head ? NULL : head->prev;
}

/* The link after this one, or NULL at the end. */
static inline struct list *list_next(const struct list *head, const struct list *link)
{
    return link->next == head ? NULL : link->next;
}

static inline struct list *list_pop_front(struct list *head)
{
    struct list *link = list_first(head);
    if (link != NULL) {
        list_remove(link);
    }
    return link;
}

static inline struct list *list_pop_back(struct list *head)
{
    struct list *link = list_last(head);
    if (link != NULL) {
        list_remove(link);
    }
    return link;
}

/* Move all links of `from` to the end of `head`; `from` is then empty. */
static inline void list_splice_back(struct list *head, struct list *from)
{
    if (!list_is_empty(from)) {
        from->next->prev = head->prev;
        head->prev->next = from->next;
        from->prev->next = head;
        head->prev = from->prev;
        list_init(from);
    }
}

/* for-each; the SAFE form allows the body to remove (and free) the current link. */
#define LIST_FOREACH(link, head)                                                                   \
    for (struct list *link = (head)->next; link != (head); link = link->next)

#define LIST_FOREACH_SAFE(link, head)                                                              \
    for (struct list *link = (head)->next, *link##_next = link->next; link != (head);              \
         link = link##_next, link##_next = link->next)

#endif
