/*
 * What: the fields of every encoded structure of the catalog, once (walk.h).
 * Failure modes: reading: sticky failure of the pack reader; checking: `bad`. Writing asserts
 * nothing itself: commands are checked before they are written. Threads: none involved. Spec:
 * docs/catalog.md, "Encoding".
 */
#include "walk.h"

struct walk walk_put(struct buf **out)
{
    return (struct walk){.mode = WALK_PUT, .writer = pack_writer_make(out)};
}

struct walk walk_get(struct bytes input, struct catalog_member *members, struct bytes *tags)
{
    return (struct walk){
        .mode = WALK_GET, .reader = pack_reader_make(input), .members = members, .tags = tags};
}

struct walk walk_check(void)
{
    return (struct walk){.mode = WALK_CHECK};
}

bool walk_ok(const struct walk *k)
{
    return !k->bad && !pack_failed(&k->reader);
}

void walk_fail(struct walk *k)
{
    k->bad = true;
    pack_fail(&k->reader);
}

void walk_record(struct walk *k, uint32_t count)
{
    if (k->mode == WALK_PUT) {
        pack_put_array(&k->writer, count);
    } else if (k->mode == WALK_GET) {
        pack_expect_array(&k->reader, count);
    }
}

void walk_list(struct walk *k, uint32_t *count, uint32_t count_max)
{
    if (k->mode == WALK_PUT) {
        pack_put_array(&k->writer, *count);
    } else if (k->mode == WALK_GET) {
        *count = pack_get_array(&k->reader, count_max);
    } else if (*count > count_max) {
        walk_fail(k);
    }
}

void walk_bool(struct walk *k, bool *value)
{
    if (k->mode == WALK_PUT) {
        pack_put_bool(&k->writer, *value);
    } else if (k->mode == WALK_GET) {
        *value = pack_get_bool(&k->reader);
    }
}

static void walk_number(struct walk *k, uint64_t *value, uint64_t min, uint64_t max)
{
    if (k->mode == WALK_PUT) {
        pack_put_uint(&k->writer, *value);
    } else if (k->mode == WALK_GET) {
        *value = pack_get_uint(&k->reader, max);
    }
    if (*value < min || *value > max) {
        walk_fail(k);
    }
}

void walk_u8(struct walk *k, uint8_t *value, uint8_t min, uint8_t max)
{
    uint64_t wide = *value;
    walk_number(k, &wide, min, max);
    *value = (uint8_t)wide;
}

void walk_u16(struct walk *k, uint16_t *value)
{
    uint64_t wide = *value;
    walk_number(k, &wide, 0, UINT16_MAX);
    *value = (uint16_t)wide;
}

void walk_u32(struct walk *k, uint32_t *value)
{
    uint64_t wide = *value;
    walk_number(k, &wide, 0, UINT32_MAX);
    *value = (uint32_t)wide;
}

void walk_u64(struct walk *k, uint64_t *value)
{
    walk_number(k, value, 0, UINT64_MAX);
}

void walk_i64(struct walk *k, int64_t *value)
{
    if (k->mode == WALK_PUT) {
        pack_put_int(&k->writer, *value);
    } else if (k->mode == WALK_GET) {
        *value = pack_get_int(&k->reader);
    }
}

void walk_uid(struct walk *k, struct uid *value)
{
    if (k->mode == WALK_PUT) {
        pack_put_uid(&k->writer, *value);
    } else if (k->mode == WALK_GET) {
        *value = pack_get_uid(&k->reader);
    }
}

void walk_bytes(struct walk *k, struct bytes *value, size_t size_max)
{
    if (k->mode == WALK_PUT) {
        pack_put_bin(&k->writer, *value);
    } else if (k->mode == WALK_GET) {
        *value = pack_get_bin(&k->reader, size_max);
    } else if (value->size > size_max) {
        walk_fail(k);
    }
}

void walk_name(struct walk *k, struct bytes *value)
{
    walk_bytes(k, value, CATALOG_NAME_MAX);
    if (value->size == 0) {
        walk_fail(k);
    }
}

void walk_node_info(struct walk *k, struct catalog_node_info *info)
{
    walk_record(k, 7);
    walk_uid(k, &info->id);
    walk_uid(k, &info->member);
    walk_name(k, &info->name);
    walk_name(k, &info->host);
    walk_u16(k, &info->cluster_port);
    walk_u16(k, &info->amqp_port);
    walk_bool(k, &info->ram);
    if (uid_is_zero(info->id)) {
        walk_fail(k);
    }
}

static void walk_tags(struct walk *k, struct catalog_tags *tags)
{
    walk_list(k, &tags->count, CATALOG_TAGS_MAX);
    if (k->mode == WALK_GET) {
        tags->items = k->tags;
    }
    for (uint32_t i = 0; i < tags->count && walk_ok(k); i++) {
        struct bytes item = k->mode == WALK_GET ? BYTES_NONE : tags->items[i];
        walk_bytes(k, &item, CATALOG_NAME_MAX);
        if (k->mode == WALK_GET) {
            k->tags[i] = item;
        }
    }
}

void walk_vhost_spec(struct walk *k, struct catalog_vhost_spec *spec)
{
    walk_record(k, 5);
    walk_name(k, &spec->name);
    walk_bytes(k, &spec->description, CATALOG_TEXT_MAX);
    walk_bytes(k, &spec->default_queue_type, CATALOG_NAME_MAX);
    walk_tags(k, &spec->tags);
    walk_bool(k, &spec->create);
}

void walk_user_spec(struct walk *k, struct catalog_user_spec *spec)
{
    walk_record(k, 5);
    walk_bytes(k, &spec->name, CATALOG_NAME_MAX);
    walk_bytes(k, &spec->password_hash, CATALOG_NAME_MAX);
    walk_u8(k, &spec->hashing, 0, CATALOG_HASHING_MD5);
    walk_u8(k, &spec->parts, 0, 15);
    walk_tags(k, &spec->tags);
}

void walk_exchange_spec(struct walk *k, struct catalog_exchange_spec *spec)
{
    walk_record(k, 7);
    walk_name(k, &spec->vhost);
    walk_bytes(k, &spec->name, CATALOG_NAME_MAX);
    walk_name(k, &spec->type);
    walk_bytes(k, &spec->arguments, CATALOG_ARGUMENTS_MAX);
    walk_bool(k, &spec->durable);
    walk_bool(k, &spec->auto_delete);
    walk_bool(k, &spec->internal);
}

void walk_members(struct walk *k, const struct catalog_member **members, uint32_t *count)
{
    walk_list(k, count, CATALOG_REPLICAS_MAX);
    if (k->mode == WALK_GET) {
        *members = k->members;
    }
    for (uint32_t i = 0; i < *count && walk_ok(k); i++) {
        struct catalog_member member = {0};
        if (k->mode != WALK_GET) {
            member = (*members)[i];
        }
        walk_record(k, 3);
        walk_uid(k, &member.id);
        walk_uid(k, &member.node);
        walk_bool(k, &member.learner);
        if (k->mode == WALK_GET) {
            k->members[i] = member;
        }
    }
}

/* Where the queue runs. */
static void walk_queue_home(struct walk *k, struct catalog_queue_spec *spec)
{
    walk_u8(k, &spec->run, CATALOG_RUN_LOCAL, CATALOG_RUN_GROUP);
    if (spec->run == CATALOG_RUN_LOCAL) {
        walk_record(k, 3);
        walk_uid(k, &spec->local.node);
        walk_u32(k, &spec->local.boot);
        walk_u32(k, &spec->local.shard);
        return;
    }
    walk_record(k, 3);
    walk_members(k, &spec->group.members, &spec->group.member_count);
    walk_u32(k, &spec->group.target_size);
    walk_uid(k, &spec->group.preferred);
}

void walk_queue_spec(struct walk *k, struct catalog_queue_spec *spec)
{
    walk_record(k, 10);
    walk_name(k, &spec->vhost);
    walk_name(k, &spec->name);
    walk_bytes(k, &spec->arguments, CATALOG_ARGUMENTS_MAX);
    walk_u8(k, &spec->type, CATALOG_CLASSIC, CATALOG_HISTORY);
    walk_bool(k, &spec->durable);
    walk_bool(k, &spec->auto_delete);
    walk_bool(k, &spec->exclusive);
    walk_record(k, spec->exclusive ? 2 : 0);
    if (spec->exclusive) {
        walk_u32(k, &spec->owner.boot);
        walk_u64(k, &spec->owner.connection);
    }
    walk_queue_home(k, spec);
}

void walk_binding_spec(struct walk *k, struct catalog_binding_spec *spec)
{
    walk_record(k, 6);
    walk_name(k, &spec->vhost);
    walk_bytes(k, &spec->source, CATALOG_NAME_MAX);
    walk_u8(k, &spec->destination_kind, CATALOG_TO_QUEUE, CATALOG_TO_EXCHANGE);
    walk_bytes(k, &spec->destination, CATALOG_NAME_MAX);
    walk_bytes(k, &spec->key, CATALOG_NAME_MAX);
    walk_bytes(k, &spec->arguments, CATALOG_ARGUMENTS_MAX);
}

void walk_policy_spec(struct walk *k, struct catalog_policy_spec *spec)
{
    walk_record(k, 7);
    walk_name(k, &spec->vhost);
    walk_name(k, &spec->name);
    walk_bool(k, &spec->operator_policy);
    walk_bytes(k, &spec->pattern, CATALOG_TEXT_MAX);
    walk_bytes(k, &spec->definition, CATALOG_DEFINITION_MAX);
    walk_i64(k, &spec->priority);
    walk_u8(k, &spec->apply_to, CATALOG_APPLY_ALL, CATALOG_APPLY_EXCHANGES);
}

void walk_parameter_spec(struct walk *k, struct catalog_parameter_spec *spec)
{
    walk_record(k, 4);
    walk_bytes(k, &spec->vhost, CATALOG_NAME_MAX);
    walk_bytes(k, &spec->component, CATALOG_NAME_MAX);
    walk_name(k, &spec->name);
    walk_bytes(k, &spec->value, CATALOG_ARGUMENTS_MAX);
}

void walk_vhost_limits(struct walk *k, struct catalog_vhost_limits *limits)
{
    walk_record(k, 2);
    walk_i64(k, &limits->connections_max);
    walk_i64(k, &limits->queues_max);
}

void walk_user_limits(struct walk *k, struct catalog_user_limits *limits)
{
    walk_record(k, 2);
    walk_i64(k, &limits->connections_max);
    walk_i64(k, &limits->channels_max);
}
