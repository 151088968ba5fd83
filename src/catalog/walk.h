/*
 * What: one description of each encoded structure, walked in three ways: to write it, to read it,
 * to check its limits. So what is written and what is read cannot drift apart. Happy path: walk_put
 * / walk_get / walk_check, then the walk_* functions field by field; at the end walk_ok(). Failure
 * is sticky. Reading: strings are views into the input; arrays go into the storage that the caller
 * gave.
 */
#ifndef WR_CATALOG_WALK_H
#define WR_CATALOG_WALK_H

#include "warren/catalog_command.h"
#include "warren/pack.h"

enum walk_mode { WALK_PUT, WALK_GET, WALK_CHECK };

struct walk {
    enum walk_mode mode;
    bool bad; /* WALK_CHECK: a limit is passed. */
    struct pack_writer writer;
    struct pack_reader reader;
    struct catalog_member *members; /* WALK_GET: room for CATALOG_REPLICAS_MAX */
    struct bytes *tags;             /* WALK_GET: room for CATALOG_TAGS_MAX */
};

struct walk walk_put(struct buf **out);
struct walk walk_get(struct bytes input, struct catalog_member *members, struct bytes *tags);
struct walk walk_check(void);
bool walk_ok(const struct walk *k);
void walk_fail(struct walk *k);

/* `count` fields follow. */
void walk_record(struct walk *k, uint32_t count);
/* A list: writes *count; or reads it. */
void walk_list(struct walk *k, uint32_t *count, uint32_t count_max);
void walk_bool(struct walk *k, bool *value);
void walk_u8(struct walk *k, uint8_t *value, uint8_t min, uint8_t max);
void walk_u16(struct walk *k, uint16_t *value);
void walk_u32(struct walk *k, uint32_t *value);
void walk_u64(struct walk *k, uint64_t *value);
void walk_uid(struct walk *k, struct uid *value);
void walk_bytes(struct walk *k, struct bytes *value, size_t size_max);
/* At least one byte, at most CATALOG_NAME_MAX. */
void walk_name(struct walk *k, struct bytes *value);

void walk_node_info(struct walk *k, struct catalog_node_info *info);
void walk_vhost_spec(struct walk *k, struct catalog_vhost_spec *spec);
void walk_user_spec(struct walk *k, struct catalog_user_spec *spec);
void walk_exchange_spec(struct walk *k, struct catalog_exchange_spec *spec);
void walk_queue_spec(struct walk *k, struct catalog_queue_spec *spec);
void walk_binding_spec(struct walk *k, struct catalog_binding_spec *spec);
void walk_policy_spec(struct walk *k, struct catalog_policy_spec *spec);
void walk_parameter_spec(struct walk *k, struct catalog_parameter_spec *spec);
/* Limits: -1 or more. */
void walk_vhost_limits(struct walk *k, struct catalog_vhost_limits *limits);
void walk_user_limits(struct walk *k, struct catalog_user_limits *limits);
void walk_i64(struct walk *k, int64_t *value);
void walk_members(struct walk *k, const struct catalog_member **members, uint32_t *count);

#endif
