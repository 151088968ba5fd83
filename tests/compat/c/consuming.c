/* Consuming, getting, expiry, limits, transactions, several nodes. */
#include "harness.h"

#include <stdio.h>
#include <string.h>

static void qos(struct test *t, struct conn *c, int prefetch, bool global)
{
    (void)amqp_basic_qos(c->state, 1, 0, (uint16_t)prefetch, global);
    good(t, c, "qos");
}

static void nack(struct test *t, struct conn *c, uint64_t tag, bool multiple, bool requeue)
{
    int rc = amqp_basic_nack(c->state, 1, tag, multiple, requeue);
    equal_int(t, rc, AMQP_STATUS_OK, "basic.nack");
}

static void cancel(struct test *t, struct conn *c, const char *tag)
{
    (void)amqp_basic_cancel(c->state, 1, amqp_cstring_bytes(tag));
    good(t, c, "cancel");
}

static void numbers(struct test *t, struct conn *c, const char *queue, int n)
{
    for (int i = 0; i < n; i++) {
        publish(t, c, "", queue, format("%d", i));
    }
}

static void consume_ack(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    fill(t, c, queue, 5);
    consume(t, c, queue, "tag", 0, NO_ARG);
    for (int i = 0; i < 5; i++) {
        struct event event;
        delivery(t, c, format("%d", i), &event);
        equal_int(t, (int64_t)event.tag, i + 1, "tag");
        equal_int(t, event.redelivered, false, "redelivered");
        equal_text(t, event.consumer, "tag", "consumer tag");
        ack(t, c, event.tag, false);
    }
    close_channel(t, c);
    empty(t, connect_new(t), queue);
}

static void consume_tag_reuse(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    consume(t, c, queue, "T", 0, NO_ARG);
    try_consume(c, 1, queue, "T", 0, NO_ARG);
    closed(t, c, 530, "NOT_ALLOWED - attempt to reuse consumer tag 'T'");
}

static void consume_exclusive(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_classic(t, c, NO_ARG);
    consume(t, c, queue, "", EXCLUSIVE_CONSUMER, NO_ARG);
    struct conn *other = connect_new(t);
    try_consume(other, 1, queue, "", 0, NO_ARG);
    closed(t, other, 403,
           format("ACCESS_REFUSED - queue '%s' in vhost '/' in exclusive use", queue));
}

static void consume_missing(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *name = queue_name(t);
    try_consume(c, 1, name, "", 0, NO_ARG);
    closed(t, c, 404, no_queue(name));
}

static void consume_cancel(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    fill(t, c, queue, 2);
    consume(t, c, queue, "c", 0, NO_ARG);
    deliveries(t, c, 2);
    cancel(t, c, "c");
    publish(t, c, "", queue, "late");
    wait_count(t, c, queue, 1);
    quiet(t, c);
    ack(t, c, 2, true);
    close_channel(t, c);
    wait_count(t, connect_new(t), queue, 1);
}

static void consume_ack_multiple(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    fill(t, c, queue, 10);
    consume(t, c, queue, "", 0, NO_ARG);
    deliveries(t, c, 10);
    ack(t, c, 7, true);
    close_channel(t, c);
    struct conn *other = connect_new(t);
    wait_count(t, other, queue, 3);
    arrived(t, other, queue, "7,8,9", "left");
}

static void bad_ack(struct test *t, uint64_t tag, int times)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    fill(t, c, queue, 1);
    consume(t, c, queue, "", 0, NO_ARG);
    deliveries(t, c, 1);
    for (int i = 0; i < times; i++) {
        ack(t, c, tag, false);
    }
    closes(t, c, 406, format("PRECONDITION_FAILED - unknown delivery tag %d", (int)tag));
}

static void consume_ack_unknown(struct test *t)
{
    bad_ack(t, 99, 1);
}

static void consume_ack_twice(struct test *t)
{
    bad_ack(t, 1, 2);
}

static void consume_nack_requeue(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    fill(t, c, queue, 1);
    consume(t, c, queue, "", 0, NO_ARG);
    deliveries(t, c, 1);
    nack(t, c, 1, false, true);
    struct event event;
    delivery(t, c, "0", &event);
    equal_int(t, (int64_t)event.tag, 2, "tag");
    equal_int(t, event.redelivered, true, "redelivered");
    ack(t, c, 2, false);
}

static void consume_delivery_count(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    fill(t, c, queue, 1);
    consume(t, c, queue, "", 0, NO_ARG);
    deliveries(t, c, 1);
    nack(t, c, 1, false, true);
    struct event event;
    delivery(t, c, "0", &event);
    const amqp_basic_properties_t *p = &event.message->properties;
    const amqp_field_value_t *counted =
        (p->_flags & AMQP_BASIC_HEADERS_FLAG) != 0 ? header(&p->headers, "x-delivery-count") : NULL;
    bool quorum = strcmp(t->queue_type, "quorum") == 0;
    equal_int(t, counted == NULL ? 0 : counted->value.i64, quorum ? 1 : 0, "x-delivery-count");
    ack(t, c, 2, false);
}

/* So many deliveries, each a different number from `first` on, all redelivered. */
static void again(struct test *t, struct conn *c, int first, int number)
{
    unsigned seen = 0;
    for (int i = 0; i < number; i++) {
        struct event event;
        delivery(t, c, NULL, &event);
        equal_int(t, event.redelivered, true, "redelivered");
        const char *body = body_of(event.message);
        expect(t, strlen(body) == 1 && body[0] >= '0' + first && body[0] < '0' + first + number,
               format("body '%s'", body));
        seen |= 1U << (unsigned)(body[0] - '0');
    }
    equal_int(t, seen, ((1U << (unsigned)number) - 1U) << (unsigned)first, "bodies");
}

static void consume_nack_multiple(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    fill(t, c, queue, 5);
    consume(t, c, queue, "", 0, NO_ARG);
    deliveries(t, c, 5);
    nack(t, c, 5, true, true);
    again(t, c, 0, 5);
}

static void consume_reject(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    fill(t, c, queue, 2);
    consume(t, c, queue, "", 0, NO_ARG);
    deliveries(t, c, 2);
    equal_int(t, amqp_basic_reject(c->state, 1, 1, 0), AMQP_STATUS_OK, "basic.reject");
    nack(t, c, 2, false, false);
    close_channel(t, c);
    empty(t, connect_new(t), queue);
}

static void dead_lettered(struct test *t, struct conn *c, const char *queue, const char *origin,
                          const char *reason, const char *expiration, const char *body)
{
    struct got got;
    get(t, c, queue, &got);
    const amqp_basic_properties_t *p = &got.message->properties;
    const amqp_field_value_t *deaths = header(&p->headers, "x-death");
    expect(t,
           deaths != NULL && deaths->kind == AMQP_FIELD_KIND_ARRAY &&
               deaths->value.array.num_entries == 1 &&
               deaths->value.array.entries[0].kind == AMQP_FIELD_KIND_TABLE,
           "x-death");
    const amqp_table_t *death = &deaths->value.array.entries[0].value.table;
    const amqp_field_value_t *number = header(death, "count");
    const amqp_field_value_t *when = header(death, "time");
    const amqp_field_value_t *keys = header(death, "routing-keys");
    expect(t, number != NULL && number->kind == AMQP_FIELD_KIND_I64 && number->value.i64 == 1,
           "x-death count");
    expect(t, when != NULL && when->kind == AMQP_FIELD_KIND_TIMESTAMP, "x-death time");
    expect(t,
           keys != NULL && keys->kind == AMQP_FIELD_KIND_ARRAY &&
               keys->value.array.num_entries == 1,
           "x-death routing-keys");
    equal_text(t, bytes_text(keys->value.array.entries[0].value.bytes), origin, "routing key");
    equal_text(t, header_text(death, "reason"), reason, "x-death reason");
    equal_text(t, header_text(death, "queue"), origin, "x-death queue");
    equal_text(t, header_text(death, "exchange"), "", "x-death exchange");
    equal_text(t, header_text(death, "original-expiration"), expiration, "original-expiration");
    equal_text(t, header_text(&p->headers, "x-first-death-reason"), reason, "first-death-reason");
    equal_text(t, header_text(&p->headers, "x-first-death-queue"), origin, "first-death-queue");
    expect(t, (p->_flags & AMQP_BASIC_EXPIRATION_FLAG) == 0, "expiration");
    equal_text(t, body_of(got.message), body, "body");
}

static const char *with_dead_letters(struct test *t, struct conn *c, amqp_table_entry_t more,
                                     const char **ret_target)
{
    const char *exchange = new_exchange(t, c, "fanout");
    *ret_target = new_queue(t, c);
    bind_queue(c, *ret_target, exchange, "");
    good(t, c, "bind");
    return queue_of(t, c, arg_text("x-dead-letter-exchange", exchange), more);
}

static void consume_dead_letter(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *target = NULL;
    const char *queue = with_dead_letters(t, c, NO_ARG, &target);
    fill(t, c, queue, 1);
    consume(t, c, queue, "", 0, NO_ARG);
    deliveries(t, c, 1);
    equal_int(t, amqp_basic_reject(c->state, 1, 1, 0), AMQP_STATUS_OK, "basic.reject");
    dead_lettered(t, c, target, queue, "rejected", "(none)", "0");
}

static void consume_redelivered(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    fill(t, c, queue, 5);
    consume(t, c, queue, "", 0, NO_ARG);
    deliveries(t, c, 5);
    close_connection(t, c);
    struct conn *other = connect_new(t);
    consume(t, other, queue, "", 0, NO_ARG);
    for (int i = 0; i < 5; i++) {
        struct event event;
        delivery(t, other, format("%d", i), &event);
        equal_int(t, event.redelivered, true, "redelivered");
    }
}

static void consume_recover(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    fill(t, c, queue, 3);
    consume(t, c, queue, "", 0, NO_ARG);
    deliveries(t, c, 3);
    ack(t, c, 1, false);
    (void)amqp_basic_recover(c->state, 1, 1);
    good(t, c, "recover");
    again(t, c, 1, 2);
}

static void consume_qos(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    struct event event;
    fill(t, c, queue, 6);
    qos(t, c, 3, false);
    consume(t, c, queue, "", 0, NO_ARG);
    deliveries(t, c, 3);
    quiet(t, c);
    ack(t, c, 2, false);
    delivery(t, c, "3", &event);
    quiet(t, c);
    ack(t, c, 4, true);
    delivery(t, c, "4", &event);
    delivery(t, c, "5", &event);
}

static void consume_qos_channel(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queues[2] = {new_classic(t, c, NO_ARG), new_classic(t, c, NO_ARG)};
    struct event event;
    for (int i = 0; i < 2; i++) {
        fill(t, c, queues[i], 5);
    }
    qos(t, c, 4, true);
    for (int i = 0; i < 2; i++) {
        consume(t, c, queues[i], "", 0, NO_ARG);
    }
    for (int i = 0; i < 4; i++) {
        delivery(t, c, NULL, &event);
    }
    quiet(t, c);
    ack(t, c, 1, false);
    delivery(t, c, NULL, &event);
    quiet(t, c);
}

static void consume_auto_ack(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    fill(t, c, queue, 5);
    consume(t, c, queue, "", NO_ACK, NO_ARG);
    deliveries(t, c, 5);
    close_channel(t, c);
    empty(t, connect_new(t), queue);
}

static void consume_priority(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    struct event event;
    consume(t, c, queue, "low", NO_ACK, arg_i32("x-priority", -1));
    consume(t, c, queue, "high", NO_ACK, arg_i32("x-priority", 10));
    numbers(t, c, queue, 20);
    for (int i = 0; i < 20; i++) {
        delivery(t, c, format("%d", i), &event);
        equal_text(t, event.consumer, "high", "consumer");
    }
    cancel(t, c, "high");
    publish(t, c, "", queue, "x");
    delivery(t, c, "x", &event);
    equal_text(t, event.consumer, "low", "consumer");
}

static void consume_single_active(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = queue_of(t, c, arg_bool("x-single-active-consumer", true), NO_ARG);
    struct event event;
    consume(t, c, queue, "1", 0, NO_ARG);
    consume(t, c, queue, "2", 0, NO_ARG);
    numbers(t, c, queue, 5);
    for (int i = 0; i < 5; i++) {
        delivery(t, c, format("%d", i), &event);
        equal_text(t, event.consumer, "1", "consumer");
    }
    ack(t, c, 5, true);
    cancel(t, c, "1");
    publish(t, c, "", queue, "x");
    delivery(t, c, "x", &event);
    equal_text(t, event.consumer, "2", "consumer");
}

static void consume_round_robin(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    int shares[3] = {0};
    qos(t, c, 1, false);
    for (int i = 0; i < 3; i++) {
        consume(t, c, queue, format("%d", i), 0, NO_ARG);
    }
    numbers(t, c, queue, 30);
    for (int i = 0; i < 30; i++) {
        struct event event;
        delivery(t, c, NULL, &event);
        shares[event.consumer[0] - '0']++;
        ack(t, c, event.tag, false);
    }
    expect(t, shares[0] >= 5 && shares[1] >= 5 && shares[2] >= 5,
           format("shares %d %d %d", shares[0], shares[1], shares[2]));
}

static void get_message(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    fill(t, c, queue, 3);
    struct got got;
    expect(t, get_one(t, c, queue, false, &got), "get-empty");
    equal_int(t, (int64_t)got.tag, 1, "tag");
    equal_int(t, got.redelivered, false, "redelivered");
    equal_int(t, got.left, 2, "message count");
    equal_text(t, got.exchange, "", "exchange");
    equal_text(t, got.key, queue, "key");
    equal_text(t, body_of(got.message), "0", "body");
    ack(t, c, 1, false);
    close_channel(t, c);
    wait_count(t, connect_new(t), queue, 2);
}

static void get_empty(struct test *t)
{
    struct conn *c = connect_new(t);
    empty(t, c, new_queue(t, c));
}

static void get_no_ack(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    struct got got;
    fill(t, c, queue, 1);
    get(t, c, queue, &got);
    equal_text(t, body_of(got.message), "0", "body");
    close_channel(t, c);
    empty(t, connect_new(t), queue);
}

static void ttl_message(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *target = NULL;
    const char *queue = with_dead_letters(t, c, NO_ARG, &target);
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_EXPIRATION_FLAG,
                                 .expiration = amqp_cstring_bytes("50")};
    publish_with(t, c, "", queue, false, &p, amqp_cstring_bytes("x"));
    dead_lettered(t, c, target, queue, "expired", "50", "x");
    wait_count(t, c, queue, 0);
}

static void ttl_queue(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *target = NULL;
    const char *queue = with_dead_letters(t, c, arg_int("x-message-ttl", 50), &target);
    publish(t, c, "", queue, "x");
    dead_lettered(t, c, target, queue, "expired", "(none)", "x");
    wait_count(t, c, queue, 0);
}

static void ttl_expires(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = queue_of(t, c, arg_int("x-expires", 300), NO_ARG);
    for (int i = 0; i < 15; i++) {
        /* a passive declare is a use of the queue: leave it alone for longer than its lease */
        pause_ms(600);
        (void)declare(c, 1, queue, PASSIVE, NULL);
        if (amqp_get_rpc_reply(c->state).reply_type != AMQP_RESPONSE_NORMAL) {
            closed(t, c, 404, no_queue(queue));
            return;
        }
    }
    fail(t, "the queue did not expire");
}

static void limit_drop_head(struct test *t)
{
    struct conn *c = connect_confirm(t);
    const char *target = NULL;
    const char *queue = with_dead_letters(t, c, arg_int("x-max-length", 3), &target);
    for (int i = 0; i < 5; i++) {
        confirmed(t, c, "", queue, format("%d", i));
    }
    dead_lettered(t, c, target, queue, "maxlen", "(none)", "0");
    dead_lettered(t, c, target, queue, "maxlen", "(none)", "1");
    arrived(t, c, queue, "2,3,4", "left");
}

static void limit_reject_publish(struct test *t)
{
    struct conn *c = connect_confirm(t);
    const char *queue =
        queue_of(t, c, arg_int("x-max-length", 3), arg_text("x-overflow", "reject-publish"));
    char wanted[1024] = "";
    size_t size = 0;
    int number = 0;
    while (number < 200 && accepted(t, c, "", queue, format("%d", number), NULL)) {
        size += (size_t)snprintf(wanted + size, sizeof wanted - size, "%s%d",
                                 number == 0 ? "" : ",", number);
        number++;
    }
    expect(t, number >= 3 && number < 200, format("%d accepted", number));
    arrived(t, c, queue, wanted, "bodies");
}

static void priority_levels(struct test *t)
{
    static const int priorities[] = {0, 5, 1, 9, -1, 1};
    struct conn *c = connect_confirm(t);
    const char *queue = new_classic(t, c, arg_int("x-max-priority", 5));
    for (int i = 0; i < 6; i++) {
        amqp_basic_properties_t p = {._flags = priorities[i] < 0 ? 0 : AMQP_BASIC_PRIORITY_FLAG,
                                     .priority = (uint8_t)priorities[i]};
        expect(t, accepted(t, c, "", queue, format("%d", i), &p), "nacked");
    }
    arrived(t, c, queue, "1,3,2,5,0,4", "order");
}

static void tx_commit(struct test *t)
{
    struct conn *c = connect_new(t);
    struct conn *other = connect_new(t);
    const char *queue = new_queue(t, c);
    (void)amqp_tx_select(c->state, 1);
    good(t, c, "tx.select");
    numbers(t, c, queue, 3);
    (void)count(t, c, queue);
    equal_int(t, count(t, other, queue), 0, "messages before commit");
    (void)amqp_tx_commit(c->state, 1);
    good(t, c, "tx.commit");
    wait_count(t, other, queue, 3);
}

static void tx_rollback(struct test *t)
{
    struct conn *c = connect_new(t);
    struct conn *other = connect_new(t);
    const char *queue = new_queue(t, c);
    struct got got;
    (void)amqp_tx_select(c->state, 1);
    good(t, c, "tx.select");
    publish(t, c, "", queue, "no");
    (void)amqp_tx_rollback(c->state, 1);
    good(t, c, "tx.rollback");
    publish(t, c, "", queue, "yes");
    (void)amqp_tx_commit(c->state, 1);
    good(t, c, "tx.commit");
    get(t, other, queue, &got);
    equal_text(t, body_of(got.message), "yes", "body");
    empty(t, other, queue);
}

static void tx_confirm(struct test *t)
{
    struct conn *c = connect_new(t);
    (void)amqp_tx_select(c->state, 1);
    good(t, c, "tx.select");
    (void)amqp_confirm_select(c->state, 1);
    closed(t, c, 406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode");
}

static void tx_returns(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *exchange = new_exchange(t, c, "direct");
    struct event event;
    (void)amqp_tx_select(c->state, 1);
    good(t, c, "tx.select");
    publish_with(t, c, exchange, "nowhere", true, NULL, amqp_cstring_bytes("body"));
    quiet(t, c);
    (void)amqp_tx_commit(c->state, 1);
    good(t, c, "tx.commit");
    event_next(t, c, DEADLINE_MS, &event);
    equal_int(t, event.kind, RETURNED, "event");
    equal_int(t, event.code, 312, "code");
    equal_text(t, body_of(event.message), "body", "body");
}

static void tx_acks(struct test *t)
{
    struct conn *c = connect_new(t);
    struct conn *other = connect_new(t);
    const char *queue = new_queue(t, other);
    fill(t, other, queue, 2);
    for (int left = 2; left >= 0; left -= 2) {
        struct got got;
        (void)amqp_tx_select(c->state, 1);
        good(t, c, "tx.select");
        for (int i = 0; i < 2; i++) {
            expect(t, get_one(t, c, queue, false, &got), "a message");
        }
        ack(t, c, got.tag, true);
        if (left == 2) {
            (void)amqp_tx_rollback(c->state, 1);
        } else {
            (void)amqp_tx_commit(c->state, 1);
        }
        good(t, c, "the end of the transaction");
        close_channel(t, c);
        open_channel(t, c, 1);
        wait_count(t, other, queue, left);
    }
}

static void tx_not_selected(struct test *t)
{
    struct conn *c = connect_new(t);
    (void)amqp_tx_commit(c->state, 1);
    closed(t, c, 406, "PRECONDITION_FAILED - channel is not transactional");
}

/* A request of the client goes to the server; the name in its reply-to. */
static const char *rpc_request(struct test *t, struct conn *client, struct conn *server)
{
    const char *queue = new_queue(t, server);
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_REPLY_TO_FLAG,
                                 .reply_to = amqp_cstring_bytes("amq.rabbitmq.reply-to")};
    struct got got;
    publish_with(t, client, "", queue, false, &p, amqp_cstring_bytes("ping"));
    get(t, server, queue, &got);
    return bytes_text(got.message->properties.reply_to);
}

static void rpc_reply_gone(struct test *t)
{
    struct conn *client = connect_new(t);
    struct conn *server = connect_new(t);
    consume(t, client, "amq.rabbitmq.reply-to", "", NO_ACK, NO_ARG);
    const char *name = format("%s", rpc_request(t, client, server));
    struct declared found = declare(server, 1, name, PASSIVE, NULL);
    good(t, server, "passive declare");
    equal_int(t, found.consumers, 1, "consumers");
    close_channel(t, client);
    (void)declare(server, 1, name, PASSIVE, NULL);
    closed(t, server, 404, no_queue(name));
}

static void rpc_refused(struct test *t)
{
    struct conn *c = connect_new(t);
    try_consume(c, 1, "amq.rabbitmq.reply-to", "", 0, NO_ARG);
    closed(t, c, 406, "PRECONDITION_FAILED - reply consumer cannot acknowledge");
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_REPLY_TO_FLAG,
                                 .reply_to = amqp_cstring_bytes("amq.rabbitmq.reply-to")};
    const char *queue = new_queue(t, c);
    publish_with(t, c, "", queue, false, &p, amqp_cstring_bytes("x"));
    closes(t, c, 406, "PRECONDITION_FAILED - fast reply consumer does not exist");
}

static void rpc_direct(struct test *t)
{
    struct conn *client = connect_new(t);
    struct conn *server = connect_new(t);
    const char *queue = new_queue(t, server);
    amqp_basic_properties_t p = {._flags =
                                     AMQP_BASIC_REPLY_TO_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG,
                                 .reply_to = amqp_cstring_bytes("amq.rabbitmq.reply-to"),
                                 .correlation_id = amqp_cstring_bytes("7")};
    consume(t, client, "amq.rabbitmq.reply-to", "", NO_ACK, NO_ARG);
    publish_with(t, client, "", queue, false, &p, amqp_cstring_bytes("ping"));
    struct got got;
    get(t, server, queue, &got);
    const char *reply_to = bytes_text(got.message->properties.reply_to);
    expect(t, strncmp(reply_to, "amq.rabbitmq.reply-to.", 22) == 0, reply_to);
    amqp_basic_properties_t answer = {._flags = AMQP_BASIC_CORRELATION_ID_FLAG,
                                      .correlation_id = amqp_cstring_bytes("7")};
    publish_with(t, server, "", reply_to, false, &answer, amqp_cstring_bytes("pong"));
    struct event event;
    delivery(t, client, "pong", &event);
    equal_text(t, bytes_text(event.message->properties.correlation_id), "7", "correlation-id");
    equal_text(t, event.exchange, "", "exchange");
}

static void error_qos_size(struct test *t)
{
    struct conn *c = connect_new(t);
    (void)amqp_basic_qos(c->state, 1, 10, 0, 0);
    closed(t, c, 540, "NOT_IMPLEMENTED - prefetch_size!=0 (10)");
}

static void error_recover(struct test *t)
{
    struct conn *c = connect_new(t);
    (void)amqp_basic_recover(c->state, 1, 0);
    closed(t, c, 540, "NOT_IMPLEMENTED - requeue=false");
}

static void error_immediate(struct test *t)
{
    struct conn *c = connect_new(t);
    const char *queue = new_queue(t, c);
    int rc = amqp_basic_publish(c->state, 1, amqp_empty_bytes, amqp_cstring_bytes(queue), 0, 1,
                                NULL, amqp_cstring_bytes("x"));
    equal_int(t, rc, AMQP_STATUS_OK, "basic.publish");
    closes(t, c, 540, "NOT_IMPLEMENTED - immediate=true");
}

static void cluster_declare(struct test *t)
{
    struct conn *c[2] = {connect_new(t), connect_new(t)};
    for (int i = 0; i < 20; i++) {
        (void)count(t, c[1 - i % 2], new_queue(t, c[i % 2]));
    }
}

static void cluster_bind(struct test *t)
{
    struct conn *one = connect_confirm(t);
    struct conn *other = connect_confirm(t);
    const char *exchange = new_exchange(t, one, "direct");
    const char *queue = new_queue(t, other);
    for (int i = 0; i < 5; i++) {
        bind_queue(one, queue, exchange, format("%d", i));
        good(t, one, "bind");
        publish_with(t, other, exchange, format("%d", i), true, NULL,
                     amqp_cstring_bytes(format("%d", i)));
        struct event event;
        event_next(t, other, DEADLINE_MS, &event);
        equal_int(t, event.kind, ACK, "event");
    }
    arrived(t, one, queue, "0,1,2,3,4", "bodies");
}

static void cluster_consume(struct test *t)
{
    struct conn *one = connect_new(t);
    struct conn *other = connect_new(t);
    struct conn *third = connect_new(t);
    const char *queue = new_queue(t, third);
    consume(t, other, queue, "", 0, NO_ARG);
    numbers(t, one, queue, 2000);
    deliveries(t, other, 2000);
    ack(t, other, 0, true);
    close_channel(t, other);
    empty(t, third, queue);
}

static void cluster_delete(struct test *t)
{
    struct conn *one = connect_new(t);
    struct conn *other = connect_new(t);
    for (int i = 0; i < 10; i++) {
        const char *queue = new_queue(t, one);
        (void)amqp_queue_delete(one->state, 1, amqp_cstring_bytes(queue), 0, 0);
        good(t, one, "delete");
        (void)declare(other, 1, queue, PASSIVE, NULL);
        closed(t, other, 404, no_queue(queue));
    }
}

const struct check consuming_checks[] = {
    {"consume.ack", consume_ack},
    {"consume.tag-reuse", consume_tag_reuse},
    {"consume.exclusive", consume_exclusive},
    {"consume.missing-queue", consume_missing},
    {"consume.cancel", consume_cancel},
    {"consume.ack-multiple", consume_ack_multiple},
    {"consume.ack-unknown", consume_ack_unknown},
    {"consume.ack-twice", consume_ack_twice},
    {"consume.nack-requeue", consume_nack_requeue},
    {"consume.delivery-count", consume_delivery_count},
    {"consume.nack-multiple", consume_nack_multiple},
    {"consume.reject-drop", consume_reject},
    {"consume.dead-letter", consume_dead_letter},
    {"consume.redelivered-on-close", consume_redelivered},
    {"consume.recover", consume_recover},
    {"consume.qos-consumer", consume_qos},
    {"consume.qos-channel", consume_qos_channel},
    {"consume.auto-ack", consume_auto_ack},
    {"consume.priority", consume_priority},
    {"consume.single-active", consume_single_active},
    {"consume.round-robin", consume_round_robin},
    {"get.message", get_message},
    {"get.empty", get_empty},
    {"get.no-ack", get_no_ack},
    {"ttl.message", ttl_message},
    {"ttl.queue", ttl_queue},
    {"ttl.expires", ttl_expires},
    {"limit.drop-head", limit_drop_head},
    {"limit.reject-publish", limit_reject_publish},
    {"priority.levels", priority_levels},
    {"tx.commit", tx_commit},
    {"tx.rollback", tx_rollback},
    {"tx.confirm-refused", tx_confirm},
    {"tx.returns", tx_returns},
    {"tx.acks", tx_acks},
    {"tx.not-selected", tx_not_selected},
    {"rpc.direct-reply-to", rpc_direct},
    {"rpc.reply-gone", rpc_reply_gone},
    {"rpc.refused", rpc_refused},
    {"error.qos-size", error_qos_size},
    {"error.recover-no-requeue", error_recover},
    {"error.immediate", error_immediate},
    {"cluster.declare-there", cluster_declare},
    {"cluster.bind-there", cluster_bind},
    {"cluster.consume-there", cluster_consume},
    {"cluster.delete-there", cluster_delete},
    {NULL, NULL},
};
