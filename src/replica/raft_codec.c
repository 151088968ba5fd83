/*
 * What: Raft messages as parcels: msgpack head, then the raw payloads of entries (or of a snapshot
 * chunk) by reference. Failure modes: bounds are checked here; what a message claims is judged by
 * the core (RAFT_E_BAD_MESSAGE). Ownership: unpacked entries point into the parcel's buffer and
 * name it as owner: the core takes its own references.
 */
#include "warren/mem.h"
#include "warren/pack.h"

#include "parcel.h"

#define BODY_VERSION 1u

static void put_id(struct pack_writer *w, struct raft_id id)
{
    pack_put_uid(w, uid_of_raft(id));
}

static void put_meta(struct pack_writer *w, const struct raft_snapshot_meta *meta)
{
    uint8_t bytes[RAFT_MEMBERSHIP_BYTES_MAX];
    size_t size = raft_membership_encode(&meta->membership, bytes);
    pack_put_uint(w, meta->index);
    pack_put_uint(w, meta->term.v);
    pack_put_bin(w, bytes_make(bytes, size));
}

static void put_append(struct pack_writer *w, const struct raft_message *m)
{
    pack_put_uint(w, m->u.append.prev_index);
    pack_put_uint(w, m->u.append.prev_term.v);
    pack_put_uint(w, m->u.append.commit);
    pack_put_uint(w, m->u.append.probe);
    pack_put_array(w, m->u.append.entry_count);
    for (uint32_t i = 0; i < m->u.append.entry_count; i++) {
        const struct raft_entry *e = &m->u.append.entries[i];
        pack_put_uint(w, e->term.v);
        pack_put_uint(w, e->kind);
        pack_put_uint(w, e->size);
    }
}

static void put_body(struct pack_writer *w, const struct raft_message *m)
{
    switch (m->type) {
    case RAFT_MSG_APPEND:
        put_append(w, m);
        break;
    case RAFT_MSG_APPEND_RESPONSE:
        pack_put_bool(w, m->u.append_response.reject);
        pack_put_uint(w, m->u.append_response.match);
        pack_put_uint(w, m->u.append_response.verified);
        pack_put_uint(w, m->u.append_response.commit);
        pack_put_uint(w, m->u.append_response.probe);
        pack_put_uint(w, m->u.append_response.rejected_index);
        pack_put_uint(w, m->u.append_response.hint_index);
        pack_put_uint(w, m->u.append_response.hint_term.v);
        break;
    case RAFT_MSG_PREVOTE:
    case RAFT_MSG_VOTE:
        pack_put_uint(w, m->u.vote.last_index);
        pack_put_uint(w, m->u.vote.last_term.v);
        pack_put_bool(w, m->u.vote.transfer);
        break;
    case RAFT_MSG_PREVOTE_RESPONSE:
    case RAFT_MSG_VOTE_RESPONSE:
        pack_put_bool(w, m->u.vote_response.granted);
        pack_put_uint(w, m->u.vote_response.vote_term.v);
        break;
    case RAFT_MSG_TIMEOUT_NOW:
    case RAFT_MSG_RESIGN:
        break;
    case RAFT_MSG_SNAPSHOT_CHUNK:
        put_meta(w, &m->u.snapshot.meta);
        pack_put_uint(w, m->u.snapshot.offset);
        pack_put_bool(w, m->u.snapshot.done);
        break;
    case RAFT_MSG_SNAPSHOT_RESPONSE:
        pack_put_uint(w, m->u.snapshot_response.index);
        pack_put_uint(w, m->u.snapshot_response.offset);
        pack_put_uint(w, m->u.snapshot_response.match);
        if (m->u.snapshot_response.note > 0) {
            pack_put_uint(w, m->u.snapshot_response.note); /* is not there in older versions */
        }
        break;
    case RAFT_MSG_READ:
        pack_put_uint(w, m->u.read.context);
        break;
    case RAFT_MSG_READ_RESPONSE:
        pack_put_uint(w, m->u.read_response.context);
        pack_put_uint(w, m->u.read_response.index);
        pack_put_bool(w, m->u.read_response.ok);
        break;
    }
}

static struct slice owner_slice(void *owner, const uint8_t *data, uint32_t size)
{
    if (size == 0) {
        return SLICE_NONE;
    }
    struct buf *b = owner;
    WR_ASSERT(b != NULL && data >= b->data);
    return (struct slice){buf_ref(b), (uint32_t)(data - b->data), size};
}

void raft_message_pack(struct parcel *parcel, const struct raft_message *m)
{
    struct buf *head = buf_new(128);
    struct pack_writer w = pack_writer_make(&head);
    pack_put_uint(&w, BODY_VERSION);
    pack_put_uint(&w, m->type);
    put_id(&w, m->from);
    put_id(&w, m->to);
    pack_put_uint(&w, m->term.v);
    put_body(&w, m);
    VEC(struct slice) raw = {0};
    if (m->type == RAFT_MSG_APPEND) {
        for (uint32_t i = 0; i < m->u.append.entry_count; i++) {
            const struct raft_entry *e = &m->u.append.entries[i];
            if (e->size > 0) {
                vec_push(&raw, owner_slice(e->owner, e->data, e->size));
            }
        }
    } else if (m->type == RAFT_MSG_SNAPSHOT_CHUNK && m->u.snapshot.size > 0) {
        vec_push(&raw, owner_slice(m->u.snapshot.owner, m->u.snapshot.data, m->u.snapshot.size));
    }
    parcel_set_body(parcel, head, raw.items, (uint32_t)raw.count);
    vec_deinit(&raw);
}

static struct raft_id get_id(struct pack_reader *r)
{
    return raft_of_uid(pack_get_uid(r));
}

static uint64_t get_u64(struct pack_reader *r)
{
    return pack_get_uint(r, UINT64_MAX);
}

static void get_append(struct pack_reader *r, struct raft_message *m, const struct slice *raw,
                       struct raft_entry **ret_entries)
{
    m->u.append.prev_index = get_u64(r);
    m->u.append.prev_term.v = get_u64(r);
    m->u.append.commit = get_u64(r);
    m->u.append.probe = get_u64(r);
    uint32_t count = pack_get_array(r, 65536);
    if (pack_failed(r) || m->u.append.prev_index > RAFT_INDEX_MAX) {
        pack_fail(r);
        return;
    }
    struct raft_entry *entries = count > 0 ? wr_calloc(count, sizeof *entries) : NULL;
    *ret_entries = entries;
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct raft_entry *e = &entries[i];
        e->term.v = get_u64(r);
        e->index = m->u.append.prev_index + 1 + i;
        uint64_t kind = pack_get_uint(r, UINT8_MAX);
        e->size = (uint32_t)pack_get_uint(r, UINT32_MAX);
        if (pack_failed(r) || kind < RAFT_ENTRY_COMMAND || kind > RAFT_ENTRY_CONFIG ||
            e->size > raw->size - at) {
            pack_fail(r);
            return;
        }
        e->kind = (enum raft_entry_kind)kind;
        if (e->size > 0) {
            e->data = slice_data(raw) + at;
            e->owner = raw->buf;
        }
        at += e->size;
    }
    if (at != raw->size) {
        pack_fail(r);
        return;
    }
    m->u.append.entry_count = count;
    m->u.append.entries = entries;
}

static void get_snapshot(struct pack_reader *r, struct raft_message *m, const struct slice *raw,
                         struct raft_member *members)
{
    struct raft_snapshot_meta *meta = &m->u.snapshot.meta;
    meta->index = get_u64(r);
    meta->term.v = get_u64(r);
    struct bytes encoded = pack_get_bin(r, RAFT_MEMBERSHIP_BYTES_MAX);
    uint32_t count = 0;
    if (pack_failed(r) ||
        raft_membership_decode(encoded.data, encoded.size, members, &count) != 0) {
        pack_fail(r);
        return;
    }
    meta->membership = (struct raft_membership){count, members};
    m->u.snapshot.offset = get_u64(r);
    m->u.snapshot.done = pack_get_bool(r);
    m->u.snapshot.size = raw->size;
    m->u.snapshot.data = slice_data(raw);
    m->u.snapshot.owner = raw->buf;
}

static void get_append_response(struct pack_reader *r, struct raft_message *m)
{
    m->u.append_response.reject = pack_get_bool(r);
    m->u.append_response.match = get_u64(r);
    m->u.append_response.verified = get_u64(r);
    m->u.append_response.commit = get_u64(r);
    m->u.append_response.probe = get_u64(r);
    m->u.append_response.rejected_index = get_u64(r);
    m->u.append_response.hint_index = get_u64(r);
    m->u.append_response.hint_term.v = get_u64(r);
}

static void get_body(struct pack_reader *r, struct raft_message *m, const struct slice *raw,
                     struct raft_entry **ret_entries, struct raft_member *members)
{
    switch (m->type) {
    case RAFT_MSG_APPEND:
        get_append(r, m, raw, ret_entries);
        break;
    case RAFT_MSG_APPEND_RESPONSE:
        get_append_response(r, m);
        break;
    case RAFT_MSG_PREVOTE:
    case RAFT_MSG_VOTE:
        m->u.vote.last_index = get_u64(r);
        m->u.vote.last_term.v = get_u64(r);
        m->u.vote.transfer = pack_get_bool(r);
        break;
    case RAFT_MSG_PREVOTE_RESPONSE:
    case RAFT_MSG_VOTE_RESPONSE:
        m->u.vote_response.granted = pack_get_bool(r);
        m->u.vote_response.vote_term.v = get_u64(r);
        break;
    case RAFT_MSG_TIMEOUT_NOW:
    case RAFT_MSG_RESIGN:
        break;
    case RAFT_MSG_SNAPSHOT_CHUNK:
        get_snapshot(r, m, raw, members);
        break;
    case RAFT_MSG_SNAPSHOT_RESPONSE:
        m->u.snapshot_response.index = get_u64(r);
        m->u.snapshot_response.offset = get_u64(r);
        m->u.snapshot_response.match = get_u64(r);
        m->u.snapshot_response.note = pack_done(r) ? 0 : get_u64(r);
        break;
    case RAFT_MSG_READ:
        m->u.read.context = get_u64(r);
        break;
    case RAFT_MSG_READ_RESPONSE:
        m->u.read_response.context = get_u64(r);
        m->u.read_response.index = get_u64(r);
        m->u.read_response.ok = pack_get_bool(r);
        break;
    }
}

/* The caller frees *ret_entries (wr_free), also after an error. `members` has room for
 * RAFT_MEMBERS_MAX. */
int raft_message_unpack(struct parcel *parcel, struct raft_message *ret,
                        struct raft_entry **ret_entries, struct raft_member *members)
{
    struct bytes head;
    struct slice raw;
    *ret_entries = NULL;
    int error = parcel_body(parcel, &head, &raw);
    if (error != 0) {
        return error;
    }
    struct pack_reader r = pack_reader_make(head);
    if (pack_get_uint(&r, UINT32_MAX) != BODY_VERSION) {
        return WR_E_VERSION;
    }
    struct raft_message m = {0};
    uint64_t type = pack_get_uint(&r, UINT8_MAX);
    if (type < RAFT_MSG_APPEND || type > RAFT_MSG_READ_RESPONSE) {
        return WR_E_CORRUPT;
    }
    m.type = (enum raft_message_type)type;
    m.from = get_id(&r);
    m.to = get_id(&r);
    m.term.v = get_u64(&r);
    get_body(&r, &m, &raw, ret_entries, members);
    if (!pack_done(&r)) {
        return WR_E_CORRUPT;
    }
    *ret = m;
    return 0;
}
