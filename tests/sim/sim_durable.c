/*
 * What: the oracle of honesty: reads the durable image of a node's disk (sim_disk_get_durable: what
 * a power failure that drops everything unsynced would leave), not what anybody was told about it.
 *
 * An entry or vote is looked for as the bytes of its record, at the place where the node says that
 * it lies or, failing that, anywhere in its segments, and must verify (CRC, with the segment's
 * salt). So neither the log's own idea of what is durable is believed nor the core's.
 */
#include "sim_durable.h"

#include <string.h>

#include "sim.h"

#include "node/node_internal.h"
#include "replica/group.h"
#include "replica/host_internal.h"
#include "replica/parcel.h"
#include "storage/format.h"

#define LOG_DIR "/data/log/log"

struct group *sim_group_on(struct sim *sim, uint32_t node, uint64_t group)
{
    const struct sim_host *host = &sim->hosts[node];
    if (!host->running) {
        return NULL;
    }
    const uint32_t shard = host_shard_of_group(group, sim->options.shards);
    return group_find(node_shard_host(host->node, shard), group);
}

bool sim_links_are_up(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        for (uint32_t k = 0; k < sim->node_count && sim->hosts[i].running; k++) {
            for (uint32_t s = 0; s < sim->options.shards && k != i && sim->hosts[k].running; s++) {
                const struct host *host = node_shard_host(sim->hosts[i].node, s);
                if (host_reach(host, sim->hosts[k].node_id) != NODE_UP) {
                    return false;
                }
            }
        }
    }
    return true;
}

uint32_t sim_node_of_member(struct sim *sim, const struct group *group, struct raft_id member)
{
    struct uid id;
    if (group_node_of(group, member, &id)) {
        for (uint32_t i = 0; i < sim->node_count; i++) {
            if (uid_eq(sim->hosts[i].node_id, id)) {
                return i;
            }
        }
    }
    return UINT32_MAX;
}

/* --- records in a segment
 * ------------------------------------------------------------ */

struct wanted {
    uint64_t group, term, index;
    uint8_t vote[UID_SIZE];
    bool is_vote;
};

static bool is_wanted(const struct wanted *w, const uint8_t *at, uint64_t left, uint32_t seed)
{
    struct record_header h;
    if (left < RECORD_HEADER_SIZE) {
        return false;
    }
    record_header_decode(at, &h);
    if (h.group != w->group || h.size > left - RECORD_HEADER_SIZE) {
        return false;
    }
    const uint8_t *payload = at + RECORD_HEADER_SIZE;
    if (w->is_vote) {
        if (h.kind != LOG_HARD_STATE || h.size != UID_SIZE || h.term < w->term ||
            (h.term == w->term && memcmp(payload, w->vote, UID_SIZE) != 0)) {
            return false;
        }
    } else if (h.kind != LOG_ENTRY || h.term != w->term || h.index != w->index) {
        return false;
    }
    return record_crc(at, payload, h.size, seed) == h.crc;
}

static bool segment_has(const struct buf *file, const struct wanted *w)
{
    struct segment_header header;
    uint8_t pattern[24];
    if (file->size < SEGMENT_HEADER_SIZE || segment_header_decode(file->data, &header) != 0) {
        return false;
    }
    const uint32_t seed = record_seed(header.salt);
    bytes_store_le64(pattern, w->group);
    bytes_store_le64(pattern + 8, w->term);
    bytes_store_le64(pattern + 16, w->index);
    const size_t size = w->is_vote ? 8 : sizeof pattern;
    const uint8_t *end = file->data + file->size;
    const uint8_t *at = file->data + SEGMENT_HEADER_SIZE;
    while ((at = memmem(at, (size_t)(end - at), pattern, size)) != NULL) {
        const uint8_t *record = at - 16; /* where the group is in a record's header */
        if (is_wanted(w, record, (uint64_t)(end - record), seed)) {
            return true;
        }
        at++;
    }
    return false;
}

typedef bool (*segment_fn)(const struct buf *file, const void *ctx);

static bool some_segment(struct sim *sim, uint32_t node, segment_fn fn, const void *ctx)
{
    struct sim_disk *disk = sim->hosts[node].disk;
    char **names = NULL;
    uint32_t count = 0;
    bool found = false;
    if (sim_dir_list(disk, LOG_DIR, &names, &count) != 0) {
        return false;
    }
    for (uint32_t i = count; i-- > 0;) { /* the newest first */
        char path[128];
        struct buf *file = NULL;
        if (!found && segment_name_parse(names[i], SEGMENT_PREFIX) != 0) {
            (void)snprintf(path, sizeof path, LOG_DIR "/%s", names[i]);
            file = sim_disk_get_durable(disk, path);
        }
        if (file != NULL) {
            found = fn(file, ctx);
            buf_unref(file);
        }
        wr_free(names[i]);
    }
    wr_free(names);
    return found;
}

static bool segment_has_wanted(const struct buf *file, const void *ctx)
{
    return segment_has(file, ctx);
}

/* At the place that the node gives: much cheaper than to look for it. */
static bool at_place(struct sim *sim, uint32_t node, const struct group *group,
                     const struct wanted *w)
{
    struct log_location location;
    char path[128];
    char name[SEGMENT_NAME_SIZE];
    uint8_t head[64];
    struct segment_header header;
    if (!log_index_find(group->index, w->index, &location)) {
        return false;
    }
    (void)snprintf(path, sizeof path, LOG_DIR "/%s",
                   segment_name(name, SEGMENT_PREFIX, location.position.segment));
    struct sim_disk *disk = sim->hosts[node].disk;
    const uint64_t size = RECORD_HEADER_SIZE + (uint64_t)location.size;
    uint8_t *record = wr_alloc(size);
    const uint64_t offset = location.position.offset - RECORD_HEADER_SIZE;
    const bool ok = sim_disk_read_durable(disk, path, 0, head, sizeof head) == sizeof head &&
                    segment_header_decode(head, &header) == 0 &&
                    sim_disk_read_durable(disk, path, offset, record, size) == size &&
                    is_wanted(w, record, size, record_seed(header.salt));
    wr_free(record);
    return ok;
}

bool sim_durable_entry(struct sim *sim, uint32_t node, uint64_t group, uint64_t term,
                       uint64_t index, bool anywhere)
{
    const struct wanted w = {.group = group, .term = term, .index = index};
    const struct group *g = sim_group_on(sim, node, group);
    if (g != NULL && g->raft != NULL &&
        (index <= g->checkpoint_index || at_place(sim, node, g, &w))) {
        return true;
    }
    return anywhere && some_segment(sim, node, segment_has_wanted, &w);
}

bool sim_durable_vote(struct sim *sim, uint32_t node, uint64_t group, uint64_t term,
                      struct raft_id member)
{
    struct wanted w = {.group = group, .term = term, .is_vote = true};
    struct writer writer;
    writer_init(&writer, UID_SIZE);
    put_uid(&writer, uid_of_raft(member));
    memcpy(w.vote, writer_bytes(&writer).data, UID_SIZE);
    writer_deinit(&writer);
    return some_segment(sim, node, segment_has_wanted, &w);
}

/* --- bodies
 * ------------------------------------------------------------ */

struct head {
    const uint8_t *bytes;
    uint32_t size;
};

static bool segment_has_head(const struct buf *file, const void *ctx)
{
    const struct head *head = ctx;
    return memmem(file->data, file->size, head->bytes, head->size) != NULL;
}

bool sim_durable_body(struct sim *sim, uint32_t node, const uint8_t *bytes, uint32_t size)
{
    const struct head head = {bytes, size};
    return some_segment(sim, node, segment_has_head, &head) ||
           sim_kv_durable_has(sim->hosts[node].kv, bytes_make(bytes, size));
}
