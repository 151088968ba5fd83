/*
 * What: one page of looking through a queue: PEEK, filter, and for what matches: publish to the
 * target (copy), TAKE + publish + settle (move), TAKE with no_ack (delete).
 *
 * Happy path: report (how much there is) -> peek -> on_peek collects what matches -> on_reply of
 * the peek: takes for runs of positions -> their messages go to the target -> confirmed: acked ->
 * when nothing is outstanding: done.
 *
 * Failure modes: the queue or the target goes: 404; the time is up: 541. Either way the client is
 * closed, which returns what is taken. Invariants: `waiting` = replies and confirms outstanding;
 * the page is freed in the turn only, never inside an upcall. Spec: docs/messages.md.
 */
#include "warren/broker_messages.h"

#include "broker_internal.h"
#include "filter.h"
#include "warren/plant.h"

struct match {
    uint64_t position;
    enum queue_place place;
};

struct moved { /* seqs of the target's client, ascending */
    uint64_t seq, ordinal;
    bool refused;
};

struct broker_page {
    struct list link;  /* broker->pages */
    struct list dirty; /* broker->pages_done */
    struct broker *broker;
    const struct broker_page_sink *sink;
    void *ctx;
    struct broker_page_options options; /* its views are not used after the start */
    struct filter *filter;
    struct queue_client *source, *target;
    uint64_t queue_id;
    VEC(struct match) matches;
    VEC(struct moved) moved; /* from `moved_first` on */
    size_t moved_first;
    uint64_t peek_seq;
    uint32_t waiting;
    bool reporting; /* the host has it: must not be freed */
    bool over;
    struct broker_fault fault;
    struct broker_page_result result;
    struct timer timeout;
};

static void end(struct broker_page *page)
{
    page->over = true;
    if (list_is_empty(&page->dirty)) {
        list_push_back(&page->broker->pages_done, &page->dirty);
    }
}

static void check_end(struct broker_page *page)
{
    if (page->waiting == 0) {
        end(page);
    }
}

static void answered(struct broker_page *page)
{
    WR_ASSERT_OP(page->waiting, >, 0);
    page->waiting--;
    check_end(page);
}

static void fail(struct broker_page *page, uint16_t code, const char *text)
{
    if (page->fault.code == 0) {
        fault_set(&page->fault, code, false, "%s", text);
    }
    end(page);
}

/* --- the target ------------------------------------------------------------------------------- */

static void target_applied(void *ctx, uint64_t seq)
{
    struct broker_page *page = ctx;
    while (page->moved_first < page->moved.count &&
           page->moved.items[page->moved_first].seq <= seq) {
        const struct moved m = page->moved.items[page->moved_first++];
        if (page->options.what == BROKER_PAGE_MOVE) {
            (void)queue_client_settle(page->source, 0, m.ordinal, 1,
                                      m.refused ? QUEUE_RELEASE : QUEUE_ACK);
        }
        page->result.done += !m.refused;
        page->result.refused += m.refused;
        answered(page);
    }
}

static void target_nacked(void *ctx, uint64_t seq)
{
    struct broker_page *page = ctx;
    for (size_t i = page->moved_first; i < page->moved.count; i++) {
        if (page->moved.items[i].seq == seq) {
            page->moved.items[i].refused = true;
        }
    }
}

static void target_gone(void *ctx, bool lost)
{
    (void)lost;
    fail(ctx, 404, "the target queue is gone");
}

static const struct queue_client_sink target_sink = {
    .on_applied = target_applied,
    .on_nacked = target_nacked,
    .on_gone = target_gone,
};

static void give(struct broker_page *page, const struct message *message, uint64_t ordinal)
{
    const struct moved m = {.seq = queue_client_publish(page->target, *message),
                            .ordinal = ordinal};
    vec_push(&page->moved, m);
    page->waiting++;
    if (wr_planted(WR_PLANT_move_early) && page->options.what == BROKER_PAGE_MOVE) {
        (void)queue_client_settle(page->source, 0, ordinal, 1, QUEUE_ACK);
    }
}

/* --- the queue -------------------------------------------------------------------------------- */

static void on_peek(void *ctx, uint64_t position, enum queue_place place, uint64_t at_ms,
                    uint32_t delivery_count, const struct message *messages, uint32_t count)
{
    struct broker_page *page = ctx;
    const struct broker_page_options *o = &page->options;
    for (uint32_t i = 0; i < count && position + i < page->result.end; i++) {
        if (page->over || page->result.matched == o->limit) {
            return;
        }
        page->result.seen++;
        if (page->filter != NULL && !filter_matches(page->filter, &messages[i], delivery_count)) {
            continue;
        }
        page->result.matched++;
        if (o->what == BROKER_PAGE_PEEK && page->sink->on_message != NULL) {
            page->sink->on_message(page->ctx, position + i, place, at_ms, delivery_count,
                                   &messages[i]);
        } else if (o->what == BROKER_PAGE_COPY && !o->dry_run) {
            give(page, &messages[i], 0);
        } else if (o->what == BROKER_PAGE_MOVE || o->what == BROKER_PAGE_DELETE) {
            vec_push(&page->matches, ((struct match){position + i, place}));
        }
    }
}

/* Asks for what matched, in runs of positions. */
static void take_matches(struct broker_page *page)
{
    const bool removes = page->options.what == BROKER_PAGE_DELETE;
    for (size_t i = 0; i < page->matches.count;) {
        const struct match first = page->matches.items[i];
        uint64_t run = 1;
        while (i + run < page->matches.count &&
               page->matches.items[i + run].position == first.position + run &&
               page->matches.items[i + run].place == first.place) {
            run++;
        }
        (void)queue_client_take(page->source, first.position, run, removes ? QUEUE_NO_ACK : 0,
                                (uint8_t)first.place);
        page->waiting++;
        i += run;
    }
    vec_clear(&page->matches);
}

static void on_reply(void *ctx, uint64_t seq, enum queue_status status, uint64_t value,
                     uint64_t value2)
{
    struct broker_page *page = ctx;
    (void)value2;
    if (page->over) {
        return;
    }
    if (status != QUEUE_OK) {
        fail(page, 404, "the queue is being deleted");
        return;
    }
    if (seq != page->peek_seq) {
        page->result.done += page->options.what == BROKER_PAGE_DELETE ? value : 0;
        answered(page);
        return;
    }
    const bool full = page->result.matched == page->options.limit;
    page->result.next = full || value >= page->result.end ? 0 : value;
    if (!page->options.dry_run) {
        take_matches(page);
    }
    answered(page);
}

/* What a TAKE gave: to the target. */
static void on_deliver(void *ctx, uint32_t consumer, uint64_t first_ordinal,
                       uint32_t delivery_count, uint8_t flags, const struct message *messages,
                       uint32_t count)
{
    struct broker_page *page = ctx;
    (void)delivery_count;
    (void)flags;
    WR_ASSERT_OP(consumer, ==, 0);
    for (uint32_t i = 0; i < count && !page->over; i++) {
        give(page, &messages[i], first_ordinal + i);
    }
}

static void on_gone(void *ctx, bool lost)
{
    (void)lost;
    fail(ctx, 404, "the queue is gone");
}

static const struct queue_client_sink source_sink = {
    .on_reply = on_reply,
    .on_deliver = on_deliver,
    .on_peek = on_peek,
    .on_gone = on_gone,
};

/* --- life ------------------------------------------------------------------------------------- */

static void page_free(struct broker_page *page)
{
    if (page->target != NULL) {
        queue_client_close(page->target);
    }
    if (page->source != NULL) {
        queue_client_close(page->source); /* what is taken goes back */
    }
    timer_cancel(&page->broker->timers, &page->timeout);
    list_remove(&page->link);
    list_remove(&page->dirty);
    vec_deinit(&page->matches);
    vec_deinit(&page->moved);
    filter_free(page->filter);
    wr_free(page);
}

static void on_report(void *ctx, uint64_t queue_id, const struct queue_report *report)
{
    struct broker_page *page = ctx;
    page->reporting = false;
    const struct catalog_queue *queue = catalog_queue_by_id(page->broker->view, queue_id);
    if (page->over) {
        end(page);
        return;
    }
    if (queue == NULL || report->error == WR_E_NOTFOUND || (report->error == 0 && report->sealed)) {
        fail(page, 404, "the queue is gone");
        return;
    }
    if (report->error != 0) {
        fail(page, 541, report->why != NULL ? report->why : wr_err_text(report->error));
        return;
    }
    const uint8_t places = page->options.places;
    const struct queue_totals *t = &report->totals;
    page->result.total = ((places & QUEUE_PLACE_READY) != 0 ? t->ready : 0) +
                         ((places & QUEUE_PLACE_DELAYED) != 0 ? t->delayed : 0) +
                         ((places & QUEUE_PLACE_DEAD) != 0 ? t->dead : 0);
    if (page->result.end == 0) {
        page->result.end = t->next_position;
    }
    page->source = queue_client_open(page->broker->host, queue, &source_sink, page);
    page->waiting = 1;
    page->peek_seq =
        queue_client_peek(page->source, page->options.from, page->options.count, places);
}

static void on_timeout(struct timer *t)
{
    struct broker_page *page = WR_CONTAINER_OF(t, struct broker_page, timeout);
    fail(page, 541, "no answer within the time limit");
}

/* Opens what it needs; false with the fault. */
static bool prepare(struct broker_page *page, const struct broker_page_options *options)
{
    char text[200];
    struct strbuf why;
    struct broker *broker = page->broker;
    const struct catalog_queue *queue =
        broker->view == NULL ? NULL : catalog_queue(broker->view, options->vhost, options->queue);
    if (queue == NULL) {
        fault_set(&page->fault, 404, false, "no queue '%.*s' in vhost '%.*s'", FMT(options->queue),
                  FMT(options->vhost));
        return false;
    }
    page->queue_id = queue->id;
    strbuf_init(&why, text, sizeof text);
    if (options->filter.size > 0 && (page->filter = filter_parse(options->filter, &why)) == NULL) {
        fault_set(&page->fault, 406, false, "bad filter: %s", text);
        return false;
    }
    if (options->what != BROKER_PAGE_COPY && options->what != BROKER_PAGE_MOVE) {
        return true;
    }
    const struct catalog_queue *target =
        catalog_queue(broker->view, options->vhost, options->target);
    if (target == NULL) {
        fault_set(&page->fault, 404, false, "no queue '%.*s' in vhost '%.*s'", FMT(options->target),
                  FMT(options->vhost));
        return false;
    }
    page->target = queue_client_open(broker->host, target, &target_sink, page);
    return true;
}

struct broker_page *broker_page_start(struct broker *broker,
                                      const struct broker_page_options *options,
                                      const struct broker_page_sink *sink, void *ctx)
{
    struct broker_page *page = wr_calloc(1, sizeof *page);
    WR_ASSERT_OP(options->count, >, 0);
    WR_ASSERT_OP(options->count, <=, BROKER_PAGE_MAX);
    WR_ASSERT(options->what != BROKER_PAGE_MOVE || options->places == QUEUE_PLACE_READY);
    page->broker = broker;
    page->sink = sink;
    page->ctx = ctx;
    page->options = *options;
    page->result.end = options->end;
    list_init(&page->dirty);
    timer_init(&page->timeout);
    list_push_back(&broker->pages, &page->link);
    if (!prepare(page, options)) {
        end(page);
        return page;
    }
    timer_add(&broker->timers, &page->timeout, broker_now_ms(broker) + options->timeout_ms,
              on_timeout);
    page->reporting = true;
    host_queue_report(broker->host, page->queue_id, QUEUE_REPORT_TOTALS, options->timeout_ms,
                      on_report, page);
    return page;
}

void broker_page_abandon(struct broker_page *page)
{
    page->sink = NULL;
    end(page);
}

void pages_turn(struct broker *broker)
{
    struct list work;
    list_init(&work);
    list_splice_back(&work, &broker->pages_done);
    for (struct list *link; (link = list_pop_front(&work)) != NULL;) {
        struct broker_page *page = WR_CONTAINER_OF(link, struct broker_page, dirty);
        const struct broker_page_sink *sink = page->sink;
        page->sink = NULL;
        if (sink != NULL) {
            sink->on_done(page->ctx, &page->fault, &page->result);
        }
        if (!page->reporting) { /* else when the report comes */
            page_free(page);
        }
    }
}

void pages_free(struct broker *broker)
{
    LIST_FOREACH_SAFE(link, &broker->pages) {
        page_free(WR_CONTAINER_OF(link, struct broker_page, link));
    }
}
