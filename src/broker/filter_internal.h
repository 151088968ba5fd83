/* What: the tree of a message filter, between the one who makes it (filter_parse.c) and the one who
 * walks it (filter.c). Nodes name each other by number. */
#ifndef WR_BROKER_FILTER_INTERNAL_H
#define WR_BROKER_FILTER_INTERNAL_H

#include "filter.h"
#include "warren/mem.h"
#include "warren/pattern.h"
#include "warren/vec.h"

#define NODE_NONE         UINT32_MAX
#define FILTER_HEIGHT_MAX 1000u

enum node_kind {
    NODE_VALUE,
    NODE_NAME,
    NODE_AND,
    NODE_OR,
    NODE_NOT,
    NODE_EQ,
    NODE_NE,
    NODE_LT,
    NODE_LE,
    NODE_GT,
    NODE_GE,
    NODE_IN, /* left; right: the first of a chain by `next` */
    NODE_LIKE,
    NODE_REGEX,
    NODE_IS_NULL,
    NODE_ADD,
    NODE_SUB,
    NODE_MUL,
    NODE_DIV,
};

/* X(name in NAME_..., spelling) */
#define FILTER_NAMES(X)                                                                            \
    X(EXCHANGE, "exchange")                                                                        \
    X(ROUTING_KEY, "routing_key")                                                                  \
    X(SIZE, "size")                                                                                \
    X(DELIVERY_COUNT, "delivery_count")                                                            \
    X(CONTENT_TYPE, "content_type")                                                                \
    X(CONTENT_ENCODING, "content_encoding")                                                        \
    X(DELIVERY_MODE, "delivery_mode")                                                              \
    X(PRIORITY, "priority")                                                                        \
    X(CORRELATION_ID, "correlation_id")                                                            \
    X(REPLY_TO, "reply_to")                                                                        \
    X(EXPIRATION, "expiration")                                                                    \
    X(MESSAGE_ID, "message_id")                                                                    \
    X(TIMESTAMP, "timestamp")                                                                      \
    X(TYPE, "type")                                                                                \
    X(USER_ID, "user_id")                                                                          \
    X(APP_ID, "app_id")                                                                            \
    X(CLUSTER_ID, "cluster_id")

enum filter_name {
    NAME_HEADER,
#define FILTER_NAME_ENUM(name, spelling) NAME_##name,
    FILTER_NAMES(FILTER_NAME_ENUM)
#undef FILTER_NAME_ENUM
};

/* OTHER: there, but nothing that compares: an array, a table, a decimal. */
enum value_kind { VALUE_NULL, VALUE_BOOL, VALUE_NUMBER, VALUE_TEXT, VALUE_OTHER };

struct value {
    enum value_kind kind;
    bool truth;
    bool whole; /* a number that is `integer`, too: above 2^53 `number` is only near it */
    int64_t integer;
    double number;
    struct bytes text;
};

struct node {
    enum node_kind kind;
    enum filter_name name;
    uint32_t left, right, next;
    uint32_t height;
    struct value value;
    struct bytes text; /* header's name, LIKE's pattern; in filter->storage */
    struct pattern *pattern;
};

struct filter {
    VEC(struct node) nodes;
    uint32_t root;
    uint8_t *storage; /* the text; quotes are undoubled in place */
};

#endif
