/*
 * What: publisher confirms: token ranges from the broker, in any order, become the fewest acks and
 * nacks that are legal.
 *
 * A "multiple" ack of N answers every number up to N that is still open, so it may be used only
 * when all of them are acked: the range must begin at confirmed_below. What was answered ahead of
 * it is remembered in confirmed_ahead and absorbed when the gap closes.
 *
 * Invariants: I1 every token in [1, confirmed_below) and in confirmed_ahead was answered exactly
 * once. I2 confirmed_ahead has no key below confirmed_below.
 */
#include <stdlib.h>

#include "amqp_internal.h"

void confirm_select(struct amqp_channel *ch, bool no_wait)
{
    if (ch->tx) {
        channel_fault(ch, 406, 85, 10, "cannot switch from tx to confirm mode");
        return;
    }
    ch->confirm = true;
    if (!no_wait) {
        struct wire_method ok = {.id = WIRE_CONFIRM_SELECT_OK};
        conn_send(ch->conn, ch->number, &ok);
    }
}

void confirm_add(struct amqp_channel *ch, uint64_t first, uint64_t count, bool ack)
{
    if (!ch->confirm || ch->closing || count == 0) {
        return;
    }
    if (ch->confirms.count > 0) {
        struct confirm_range *last = &vec_last(&ch->confirms);
        if (last->ack == ack && last->first + last->count == first) {
            last->count += count;
            return;
        }
    }
    vec_push(&ch->confirms, ((struct confirm_range){first, count, ack}));
    channel_touch(ch);
}

static int compare_ranges(const void *a, const void *b)
{
    const struct confirm_range *x = a;
    const struct confirm_range *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* confirmed_below moves over what was answered ahead of it. */
static void absorb(struct amqp_channel *ch)
{
    const struct range_run *run = rangemap_first(&ch->confirmed_ahead);
    while (run != NULL && run->first == ch->confirmed_below) {
        struct range_run piece;
        ch->confirmed_below += run->count;
        (void)rangemap_pop_front(&ch->confirmed_ahead, run->count, &piece);
        run = rangemap_first(&ch->confirmed_ahead);
    }
}

static void answer(struct amqp_channel *ch, const struct confirm_range *r)
{
    static const struct range_attr none = {0};
    struct amqp_conn *conn = ch->conn;
    uint64_t last = r->first + r->count - 1;
    bool multiple = r->first == ch->confirmed_below && r->count > 1;
    if (multiple) {
        if (r->ack) {
            wire_send_ack(&conn->out, ch->number, last, true);
        } else {
            wire_send_nack(&conn->out, ch->number, last, true, false);
        }
    } else {
        for (uint64_t token = r->first; token <= last; token++) {
            if (r->ack) {
                wire_send_ack(&conn->out, ch->number, token, false);
            } else {
                wire_send_nack(&conn->out, ch->number, token, false, false);
            }
        }
    }
    if (r->first == ch->confirmed_below) {
        ch->confirmed_below += r->count;
        absorb(ch);
    } else {
        struct range_attr attr = none;
        attr.value = r->first;
        rangemap_insert(&ch->confirmed_ahead, r->first, r->count, &attr);
    }
}

void confirm_flush(struct amqp_channel *ch)
{
    size_t count = ch->confirms.count;
    if (count == 0) {
        return;
    }
    struct confirm_range *items = ch->confirms.items;
    if (count > 1) {
        qsort(items, count, sizeof *items, compare_ranges);
    }
    for (size_t i = 0; i < count;) {
        struct confirm_range r = items[i++];
        while (i < count && items[i].ack == r.ack && items[i].first == r.first + r.count) {
            r.count += items[i++].count;
        }
        answer(ch, &r);
    }
    vec_clear(&ch->confirms);
    conn_dirty(ch->conn);
}
