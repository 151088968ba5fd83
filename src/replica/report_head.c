/*
 * What: the timestamp of the message at the head of a queue, for reports that ask for it: that of
 * the next message, or of the oldest one that a consumer has if that is earlier, as RabbitMQ's
 * classic queues tell it. Happy path: the bytes are in memory. If not, a group reads them; reports
 * wait meanwhile, and what was read is remembered, so that a head that stays is read once. Failure
 * modes: a read that does not end (it is tried again for as long as it takes): after HEAD_READ_MS
 * reports go without; a head that has moved on when the bytes come: the answer is of the new one,
 * if it is in memory. Ownership: the home's. Threads: the host's shard.
 */
#include "host_internal.h"
#include "load.h"
#include "report_head.h"
#include "warren/wire_props.h"

#define HEADS        2u /* ready, unacked */
#define HEAD_READ_MS 1000u

struct head {
    uint64_t position; /* 0: nothing was read */
    bool has_timestamp;
    uint64_t timestamp;
};
struct heads {
    struct head read[HEADS];
    uint32_t reading; /* under way */
    uint64_t serial;  /* of these; what earlier ones bring is too late */
    uint64_t since_ms;
    heads_fn ready;
    VEC(struct report_wait) waits;
};

static struct head head_of(uint64_t position, const struct slice *record)
{
    struct head head = {.position = position};
    const struct message message = {*record};
    head.has_timestamp =
        wire_props_get_number(message_props(&message), WIRE_PROP_TIMESTAMP, &head.timestamp);
    return head;
}

/* From memory, or read before. */
static bool find(const struct home *home, uint64_t position, struct head *ret_head)
{
    const struct slice *record;
    if (store_run(&home->store, position, 1, &record) > 0) {
        *ret_head = head_of(position, record);
        return true;
    }
    for (uint32_t i = 0; home->heads != NULL && i < HEADS; i++) {
        if (home->heads->read[i].position == position) {
            *ret_head = home->heads->read[i];
            return true;
        }
    }
    return false;
}

bool home_head_timestamp(struct home *home, uint64_t *ret_timestamp)
{
    uint64_t positions[HEADS];
    bool found = false;
    queue_heads(home->queue, &positions[0], &positions[1]);
    for (uint32_t i = 0; i < HEADS; i++) {
        struct head head;
        if (positions[i] != 0 && find(home, positions[i], &head) && head.has_timestamp &&
            (!found || head.timestamp < *ret_timestamp)) {
            *ret_timestamp = head.timestamp;
            found = true;
        }
    }
    return found;
}

static void on_fetched(struct group *group, uint64_t position, const struct fetched *items,
                       size_t count, uint64_t serial, uint64_t place)
{
    struct home *home = group->home;
    struct heads *heads = home->heads;
    if (serial != heads->serial) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (items[i].position == position) {
            heads->read[place] = head_of(position, &items[i].record);
        }
    }
    if (--heads->reading > 0) {
        return;
    }
    for (size_t i = 0; home->serving && i < heads->waits.count; i++) {
        heads->ready(home, &heads->waits.items[i]);
    }
    vec_deinit(&heads->waits);
}

static void read_begin(struct home *home, const uint64_t *positions)
{
    struct heads *heads = home->heads;
    struct head known[HEADS] = {{0}};
    heads->serial++;
    heads->since_ms = home->host->now_ms;
    for (uint32_t i = 0; i < HEADS; i++) {
        if (positions[i] != 0 && !find(home, positions[i], &known[i])) {
            heads->reading++;
            fetch_start(home->group, positions[i], FETCH_ONE, on_fetched, heads->serial, i);
        }
    }
    memcpy(heads->read, known, sizeof known);
}

bool heads_read(struct home *home, const struct report_wait *wait, heads_fn ready)
{
    uint64_t positions[HEADS];
    struct head head;
    bool missing = false;
    queue_heads(home->queue, &positions[0], &positions[1]);
    for (uint32_t i = 0; i < HEADS; i++) {
        missing = missing || (positions[i] != 0 && !find(home, positions[i], &head));
    }
    if (!missing || home->group == NULL) {
        return false;
    }
    if (home->heads == NULL) {
        home->heads = wr_calloc(1, sizeof *home->heads);
    }
    if (home->heads->reading == 0) {
        read_begin(home, positions);
    } else if (home->host->now_ms - home->heads->since_ms >= HEAD_READ_MS) {
        return false;
    }
    home->heads->ready = ready;
    vec_push(&home->heads->waits, *wait);
    return true;
}

void heads_free(struct home *home)
{
    if (home->heads != NULL) {
        vec_deinit(&home->heads->waits);
        wr_free(home->heads);
    }
}
