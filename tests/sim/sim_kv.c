/*
 * What: the simulated checkpoint store (model and contract in sim_kv.h).
 *
 * The visible pairs are a skip list in key order. What is not durable yet is kept as an undo list:
 * per completed write the values it replaced; a crash undoes a suffix of them.
 *
 * Invariants
 * I1  `undo` holds, in order of completion, exactly the writes that no completed flush covers.
 * I2  Undoing all of `undo` from the back gives the durable state.
 */
#include "sim_kv.h"

#include <string.h>

#include "warren/crc32c.h"
#include "warren/err.h"
#include "warren/list.h"
#include "warren/vec.h"

#define LEVEL_MAX 20u

struct node {
    struct slice key, value;
    uint32_t levels;
    struct node *next[];
};

/* One replaced value: `value` was there before (buf NULL: nothing was). */
struct undo_item {
    struct slice key, value;
};

struct undo {
    struct list link;
    uint64_t sequence;
    VEC(struct undo_item) items;
};

struct op {
    struct list link;
    void *user;
    uint64_t token, sequence;
    enum sim_kv_op kind;
    struct kv_op *ops;  /* write */
    struct slice *keys; /* get: keys; scan: begin, end */
    uint32_t count, limit, bytes;
};

struct fault {
    uint32_t in, repeat;
    int error;
};

struct sim_kv {
    struct prng prng;
    struct node *head; /* sentinel with LEVEL_MAX levels */
    uint64_t count, sequence;
    struct list undos, ops;
    uint32_t pending;
    struct fault faults[SIM_KV_OP_COUNT];
};

/* --- the map ------------------------------------------------------------ */

static struct node *node_new(uint32_t levels)
{
    struct node *node = wr_calloc(1, sizeof(*node) + levels * sizeof(node->next[0]));
    node->levels = levels;
    return node;
}

/* The last node before `key` at each level. */
static void map_path(const struct sim_kv *kv, struct bytes key, struct node *path[LEVEL_MAX])
{
    struct node *at = kv->head;
    for (uint32_t level = LEVEL_MAX; level-- > 0;) {
        while (at->next[level] != NULL &&
               bytes_cmp(bytes_from_slice(&at->next[level]->key), key) < 0) {
            at = at->next[level];
        }
        path[level] = at;
    }
}

/* The first node with a key >= `key`. */
static struct node *map_seek(const struct sim_kv *kv, struct bytes key)
{
    struct node *path[LEVEL_MAX];
    map_path(kv, key, path);
    return path[0]->next[0];
}

static struct node *map_find(const struct sim_kv *kv, struct bytes key)
{
    struct node *node = map_seek(kv, key);
    return node != NULL && bytes_eq(bytes_from_slice(&node->key), key) ? node : NULL;
}

/* Stores a copy of the references; value.buf NULL removes. Returns the old value, moved out. */
static struct slice map_set(struct sim_kv *kv, const struct slice *key, const struct slice *value)
{
    struct node *path[LEVEL_MAX];
    map_path(kv, bytes_from_slice(key), path);
    struct node *node = path[0]->next[0];
    struct slice old = SLICE_NONE;
    if (node != NULL && bytes_eq(bytes_from_slice(&node->key), bytes_from_slice(key))) {
        old = node->value;
        node->value = slice_ref(value);
        if (value->buf == NULL) {
            for (uint32_t level = 0; level < node->levels; level++) {
                path[level]->next[level] = node->next[level];
            }
            slice_unref(&node->key);
            wr_free(node);
            kv->count--;
        }
    } else if (value->buf != NULL) {
        uint32_t levels = 1;
        while (levels < LEVEL_MAX && prng_ratio(&kv->prng, 1, 4)) {
            levels++;
        }
        node = node_new(levels);
        node->key = slice_ref(key);
        node->value = slice_ref(value);
        for (uint32_t level = 0; level < levels; level++) {
            node->next[level] = path[level]->next[level];
            path[level]->next[level] = node;
        }
        kv->count++;
    }
    return old;
}

/* --- life ------------------------------------------------------------ */

struct sim_kv *sim_kv_new(uint64_t seed)
{
    struct sim_kv *kv = wr_calloc(1, sizeof(*kv));
    prng_init(&kv->prng, seed);
    kv->head = node_new(LEVEL_MAX);
    list_init(&kv->undos);
    list_init(&kv->ops);
    return kv;
}

static void undo_free(struct undo *undo)
{
    for (size_t i = 0; i < undo->items.count; i++) {
        slice_unref(&undo->items.items[i].key);
        slice_unref(&undo->items.items[i].value);
    }
    vec_deinit(&undo->items);
    list_remove(&undo->link);
    wr_free(undo);
}

static void op_free(struct sim_kv *kv, struct op *op)
{
    for (uint32_t i = 0; i < op->count; i++) {
        if (op->ops != NULL) {
            slice_unref(&op->ops[i].key);
            slice_unref(&op->ops[i].value);
        } else {
            slice_unref(&op->keys[i]);
        }
    }
    wr_free(op->ops);
    wr_free(op->keys);
    list_remove(&op->link);
    kv->pending--;
    wr_free(op);
}

static void drop_ops(struct sim_kv *kv)
{
    LIST_FOREACH_SAFE(link, &kv->ops) {
        op_free(kv, WR_CONTAINER_OF(link, struct op, link));
    }
}

static void drop_pairs(struct sim_kv *kv)
{
    struct node *node = kv->head->next[0];
    while (node != NULL) {
        struct node *next = node->next[0];
        slice_unref(&node->key);
        slice_unref(&node->value);
        wr_free(node);
        node = next;
    }
    memset(kv->head->next, 0, LEVEL_MAX * sizeof(kv->head->next[0]));
    kv->count = 0;
    LIST_FOREACH_SAFE(link, &kv->undos) {
        undo_free(WR_CONTAINER_OF(link, struct undo, link));
    }
}

void sim_kv_free(struct sim_kv *kv)
{
    if (kv != NULL) {
        drop_ops(kv);
        drop_pairs(kv);
        wr_free(kv->head);
        wr_free(kv);
    }
}

void sim_kv_fail(struct sim_kv *kv, enum sim_kv_op op, uint32_t nth, uint32_t repeat, int error)
{
    kv->faults[op] = (struct fault){nth, repeat, error};
}

static int fault(struct sim_kv *kv, enum sim_kv_op op)
{
    struct fault *f = &kv->faults[op];
    if (f->in == 0 || --f->in > 0) {
        return 0;
    }
    if (f->repeat > 1) {
        f->repeat--;
        f->in = 1;
    }
    return f->error;
}

/* --- operations ------------------------------------------------------------ */

static struct op *op_new(struct sim_kv *kv, void *user, enum sim_kv_op kind, uint64_t token)
{
    struct op *op = wr_calloc(1, sizeof(*op));
    op->user = user;
    op->token = token;
    op->kind = kind;
    op->sequence = kind == SIM_KV_WRITE ? ++kv->sequence : kv->sequence;
    list_push_back(&kv->ops, &op->link);
    kv->pending++;
    return op;
}

void sim_kv_write(struct sim_kv *kv, void *user, struct kv_op *owned_ops, uint32_t count,
                  uint64_t token)
{
    struct op *op = op_new(kv, user, SIM_KV_WRITE, token);
    op->ops = wr_memdup(owned_ops, count * sizeof(*owned_ops));
    op->count = count;
}

void sim_kv_flush(struct sim_kv *kv, void *user, uint64_t token)
{
    (void)op_new(kv, user, SIM_KV_FLUSH, token);
}

void sim_kv_get(struct sim_kv *kv, void *user, struct slice *owned_keys, uint32_t count,
                uint64_t token)
{
    struct op *op = op_new(kv, user, SIM_KV_GET, token);
    op->keys = wr_memdup(owned_keys, count * sizeof(*owned_keys));
    op->count = count;
}

void sim_kv_scan(struct sim_kv *kv, void *user, struct slice owned_begin, struct slice owned_end,
                 uint32_t limit, uint32_t bytes, uint64_t token)
{
    struct op *op = op_new(kv, user, SIM_KV_SCAN, token);
    const struct slice keys[2] = {owned_begin, owned_end};
    op->keys = wr_memdup(keys, sizeof(keys));
    op->count = 2;
    op->limit = limit;
    op->bytes = bytes;
}

int sim_kv_get_now(struct sim_kv *kv, struct slice key, struct slice *ret_value)
{
    const struct node *node = map_find(kv, bytes_from_slice(&key));
    if (node == NULL) {
        return WR_E_NOTFOUND;
    }
    *ret_value = slice_ref(&node->value);
    return 0;
}

uint32_t sim_kv_pending(const struct sim_kv *kv)
{
    return kv->pending;
}

static void set_with_undo(struct sim_kv *kv, struct undo *undo, const struct slice *key,
                          const struct slice *value)
{
    struct slice kept = slice_ref(key);
    const struct slice old = map_set(kv, key, value);
    vec_push(&undo->items, (struct undo_item){kept, old});
}

static void apply(struct sim_kv *kv, const struct op *op)
{
    struct undo *undo = wr_calloc(1, sizeof(*undo));
    undo->sequence = op->sequence;
    list_push_back(&kv->undos, &undo->link);
    for (uint32_t i = 0; i < op->count; i++) {
        const struct kv_op *o = &op->ops[i];
        if (o->kind == KV_PUT) {
            WR_ASSERT(o->value.buf != NULL);
            set_with_undo(kv, undo, &o->key, &o->value);
        } else if (o->kind == KV_DELETE) {
            set_with_undo(kv, undo, &o->key, &SLICE_NONE);
        } else {
            struct node *node;
            while ((node = map_seek(kv, bytes_from_slice(&o->key))) != NULL &&
                   bytes_cmp(bytes_from_slice(&node->key), bytes_from_slice(&o->value)) < 0) {
                struct slice key = slice_ref(&node->key);
                set_with_undo(kv, undo, &key, &SLICE_NONE);
                slice_unref(&key);
            }
        }
    }
}

static struct kv_reply *reply_new(uint32_t capacity)
{
    return wr_calloc(1, sizeof(struct kv_reply) + capacity * sizeof(struct kv_pair));
}

static struct kv_reply *get(const struct sim_kv *kv, struct op *op)
{
    struct kv_reply *reply = reply_new(op->count);
    reply->count = op->count;
    for (uint32_t i = 0; i < op->count; i++) {
        const struct node *node = map_find(kv, bytes_from_slice(&op->keys[i]));
        reply->pairs[i].key = slice_ref(&op->keys[i]);
        reply->pairs[i].value = node == NULL ? SLICE_NONE : slice_ref(&node->value);
    }
    return reply;
}

static struct kv_reply *scan(const struct sim_kv *kv, struct op *op)
{
    VEC(const struct node *) found;
    vec_init(&found);
    uint64_t bytes = 0;
    bool more = false;
    for (const struct node *node = map_seek(kv, bytes_from_slice(&op->keys[0]));
         node != NULL &&
         bytes_cmp(bytes_from_slice(&node->key), bytes_from_slice(&op->keys[1])) < 0;
         node = node->next[0]) {
        if (found.count == op->limit || (found.count > 0 && bytes >= op->bytes)) {
            more = true;
            break;
        }
        bytes += node->key.size + node->value.size;
        vec_push(&found, node);
    }
    struct kv_reply *reply = reply_new((uint32_t)found.count);
    reply->count = (uint32_t)found.count;
    reply->more = more;
    for (size_t i = 0; i < found.count; i++) {
        reply->pairs[i].key = slice_ref(&found.items[i]->key);
        reply->pairs[i].value = slice_ref(&found.items[i]->value);
    }
    vec_deinit(&found);
    return reply;
}

void kv_reply_free(struct kv_reply *reply)
{
    if (reply != NULL) {
        for (uint32_t i = 0; i < reply->count; i++) {
            slice_unref(&reply->pairs[i].key);
            slice_unref(&reply->pairs[i].value);
        }
        wr_free(reply);
    }
}

/* Writes come in order; anything else may come once all writes submitted before it are done. */
static struct op *choose(struct sim_kv *kv)
{
    uint64_t nth = prng_below(&kv->prng, kv->pending);
    LIST_FOREACH(link, &kv->ops) {
        struct op *op = WR_CONTAINER_OF(link, struct op, link);
        if (op->kind == SIM_KV_WRITE || nth-- == 0) {
            return op;
        }
    }
    WR_UNREACHABLE();
}

bool sim_kv_step(struct sim_kv *kv, struct sim_kv_done *ret_done)
{
    if (kv->pending == 0) {
        return false;
    }
    struct op *op = choose(kv);
    *ret_done = (struct sim_kv_done){op->user, op->token, op->kind, fault(kv, op->kind), NULL};
    if (ret_done->result == 0) {
        if (op->kind == SIM_KV_WRITE) {
            apply(kv, op);
        } else if (op->kind == SIM_KV_FLUSH) {
            LIST_FOREACH_SAFE(link, &kv->undos) {
                struct undo *undo = WR_CONTAINER_OF(link, struct undo, link);
                if (undo->sequence <= op->sequence) {
                    undo_free(undo);
                }
            }
        } else {
            ret_done->owned_reply = op->kind == SIM_KV_GET ? get(kv, op) : scan(kv, op);
        }
    }
    op_free(kv, op);
    return true;
}

/* --- faults ------------------------------------------------------------ */

void sim_kv_crash(struct sim_kv *kv)
{
    drop_ops(kv);
    uint64_t unsynced = 0;
    LIST_FOREACH(link, &kv->undos) {
        unsynced++;
    }
    uint64_t lost = prng_below(&kv->prng, unsynced + 1);
    while (lost-- > 0) {
        struct undo *undo = WR_CONTAINER_OF(list_last(&kv->undos), struct undo, link);
        for (size_t i = undo->items.count; i-- > 0;) {
            struct undo_item *item = &undo->items.items[i];
            struct slice dropped = map_set(kv, &item->key, &item->value);
            slice_unref(&dropped);
        }
        undo_free(undo);
    }
    LIST_FOREACH_SAFE(link, &kv->undos) {
        undo_free(WR_CONTAINER_OF(link, struct undo, link)); /* these made it: now durable */
    }
}

void sim_kv_kill(struct sim_kv *kv)
{
    sim_kv_crash(kv);
}

void sim_kv_wipe(struct sim_kv *kv)
{
    drop_ops(kv);
    drop_pairs(kv);
}

bool sim_kv_durable_has(const struct sim_kv *kv, struct bytes part)
{
    for (const struct node *node = kv->head->next[0]; node != NULL; node = node->next[0]) {
        if (memmem(slice_data(&node->value), node->value.size, part.data, part.size) == NULL) {
            continue;
        }
        /* Visible; durable unless some write that could be undone has put it there. */
        bool undoable = false;
        LIST_FOREACH(link, &kv->undos) {
            const struct undo *undo = WR_CONTAINER_OF_CONST(link, struct undo, link);
            for (size_t i = 0; i < undo->items.count && !undoable; i++) {
                undoable = bytes_eq(bytes_from_slice(&undo->items.items[i].key),
                                    bytes_from_slice(&node->key));
            }
        }
        if (!undoable) {
            return true;
        }
    }
    return false;
}

uint64_t sim_kv_count(const struct sim_kv *kv)
{
    return kv->count;
}

uint32_t sim_kv_hash(const struct sim_kv *kv)
{
    uint32_t crc = 0;
    for (const struct node *node = kv->head->next[0]; node != NULL; node = node->next[0]) {
        crc = crc32c(crc, &node->key.size, sizeof(node->key.size));
        crc = crc32c(crc, slice_data(&node->key), node->key.size);
        crc = crc32c(crc, &node->value.size, sizeof(node->value.size));
        crc = crc32c(crc, slice_data(&node->value), node->value.size);
    }
    return crc;
}
