/*
 * What: the keys that a policy may have: for which queue types, for operators or not, how two
 * values merge, which values will do. One table, used by validation and by what is in force.
 */
#ifndef WR_CATALOG_POLICY_KEYS_H
#define WR_CATALOG_POLICY_KEYS_H

#include "warren/catalog.h"
#include "warren/wire_table.h"

enum policy_merge {                 /* of a policy's value and an operator policy's */
                    MERGE_OPERATOR, /* the operator's */
                    MERGE_MIN,
                    MERGE_MAX,
                    MERGE_LIMIT, /* the lower one; negative = no limit */
                    MERGE_HA_MODE,
                    MERGE_HA_PARAMS,
};

enum policy_check {
    CHECK_INTEGER, /* min .. max */
    CHECK_TEXT,
    CHECK_ENUM, /* one of `values` */
    CHECK_BOOL,
    CHECK_AGE, /* "7D" */
    CHECK_HA,  /* with the other ha-... keys, all at once */
};

struct policy_key {
    const char *name;
    uint8_t types; /* 1 << enum catalog_queue_type: types that have it; others: it does not apply */
    bool operator_allowed;
    uint8_t merge; /* enum policy_merge */
    uint8_t check; /* enum policy_check */
    int64_t min, max;
    const char *values; /* CHECK_ENUM: separated by spaces */
    const char *what;   /* "-1 is not a valid <what>"; with a leading '=': "x <what>" */
};

/* NULL: no such key. */
const struct policy_key *policy_key_find(struct bytes name);

/* The value in force of one key, merged from both definitions (either may be NULL). */
bool policy_get(const struct catalog_policy *policy, const struct catalog_policy *operator_policy,
                const char *key, struct wire_value *ret_value);
/* The same of two values that are there. */
struct wire_value policy_merge_values(const struct policy_key *key, const struct wire_value *value,
                                      const struct wire_value *operator_value);

#endif
