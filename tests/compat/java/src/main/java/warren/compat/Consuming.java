package warren.compat;

import static warren.compat.Declaring.noQueue;
import static warren.compat.T.*;

import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** Consuming, getting, expiry, limits, transactions, several nodes. */
final class Consuming {
    private Consuming() {
    }

    private static void badAck(T t, long tag, int times) throws Exception {
        Channel channel = t.channel();
        String queue = t.queue(channel);
        fill(channel, queue, 1);
        Consumer.start(channel, queue).wait(1);
        closes(channel, 406, "PRECONDITION_FAILED - unknown delivery tag " + tag, () -> {
            for (int i = 0; i < times; i++) {
                channel.basicAck(tag, false);
            }
        });
    }

    private static String deadLettered(Channel channel, String queue, String origin, String reason, String expiration)
            throws Exception {
        GetResponse got = get(channel, queue);
        Map<String, Object> headers = headers(got.getProps());
        Map<?, ?> death = (Map<?, ?>) ((List<?>) headers.get("x-death")).get(0);
        equal(death.get("count"), 1L, "x-death count");
        equal(death.get("reason"), reason, "x-death reason");
        equal(death.get("queue"), origin, "x-death queue");
        equal(death.get("exchange"), "", "x-death exchange");
        equal(death.get("routing-keys"), list(origin), "x-death routing-keys");
        equal(death.get("original-expiration"), expiration, "x-death original-expiration");
        expect(death.get("time") instanceof Date, "x-death time");
        equal(headers.get("x-first-death-reason"), reason, "x-first-death-reason");
        equal(headers.get("x-first-death-queue"), origin, "x-first-death-queue");
        equal(got.getProps().getExpiration(), null, "expiration");
        return body(got.getBody());
    }

    /** {a queue with dead letters, the queue where they arrive} */
    private static String[] withDeadLetters(T t, Channel channel, Object... pairs) throws Exception {
        String exchange = t.exchange(channel, "fanout");
        String target = t.queue(channel);
        channel.queueBind(target, exchange, "");
        List<Object> all = new ArrayList<>(List.of("x-dead-letter-exchange", exchange));
        all.addAll(List.of(pairs));
        return new String[] {t.queue(channel, all.toArray()), target};
    }

    static void acknowledging(Map<String, Suite.Check> checks) {
        checks.put("consume.ack", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            fill(channel, queue, 5);
            List<Delivery> got = Consumer.start(channel, queue).wait(5);
            for (int i = 0; i < 5; i++) {
                equal(got.get(i).getEnvelope().getDeliveryTag(), i + 1L, "tag");
                channel.basicAck(i + 1, false);
            }
            redelivered(got, false);
            equal(bodies(got), numbers(0, 5), "bodies");
            channel.close();
            empty(t.channel(), queue);
        });
        checks.put("consume.tag-reuse", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            Consumer.start(channel, queue, "T", false, map());
            closed(530, "NOT_ALLOWED - attempt to reuse consumer tag 'T'",
                    () -> Consumer.start(channel, queue, "T", false, map()));
        });
        checks.put("consume.exclusive", t -> {
            Channel channel = t.channel();
            String queue = t.classic(channel);
            channel.basicConsume(queue, false, "", false, true, map(), new Consumer(channel));
            closed(403, "ACCESS_REFUSED - queue '" + queue + "' in vhost '/' in exclusive use",
                    () -> Consumer.start(t.channel(), queue));
        });
        checks.put("consume.missing-queue", t -> {
            String name = t.queueName();
            closed(404, noQueue(name), () -> Consumer.start(t.channel(), name));
        });
        checks.put("consume.cancel", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            fill(channel, queue, 2);
            Consumer consumer = Consumer.start(channel, queue);
            consumer.wait(2);
            channel.basicCancel(consumer.tag);
            publish(channel, "", queue, "late");
            waitCount(channel, queue, 1);
            consumer.quiet();
            channel.basicAck(2, true);
            channel.close();
            waitCount(t.channel(), queue, 1);
        });
        checks.put("consume.cancel-notify", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            Consumer consumer = Consumer.start(channel, queue, "c", false, map());
            t.channel().queueDelete(queue);
            equal(consumer.cancels.poll(DEADLINE_MS, TimeUnit.MILLISECONDS), "c", "cancel");
            equal(consumer.cancels.poll(300, TimeUnit.MILLISECONDS), null, "another cancel");
        });
        checks.put("consume.ack-multiple", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            fill(channel, queue, 10);
            Consumer.start(channel, queue).wait(10);
            channel.basicAck(7, true);
            channel.close();
            Channel other = t.channel();
            waitCount(other, queue, 3);
            equal(arrived(other, queue), numbers(7, 10), "left");
        });
        checks.put("consume.ack-unknown", t -> badAck(t, 99, 1));
        checks.put("consume.ack-twice", t -> badAck(t, 1, 2));
        checks.put("consume.nack-requeue", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            fill(channel, queue, 1);
            Consumer consumer = Consumer.start(channel, queue);
            consumer.wait(1);
            channel.basicNack(1, false, true);
            Delivery again = consumer.wait(2).get(1);
            equal(again.getEnvelope().getDeliveryTag() + body(again.getBody()), "20", "second delivery");
            equal(again.getEnvelope().isRedeliver(), true, "redelivered");
            channel.basicAck(2, false);
        });
        checks.put("consume.delivery-count", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            fill(channel, queue, 1);
            Consumer consumer = Consumer.start(channel, queue);
            consumer.wait(1);
            channel.basicNack(1, false, true);
            Map<String, Object> headers = consumer.wait(2).get(1).getProperties().getHeaders();
            equal(headers == null ? "null" : String.valueOf(headers.get("x-delivery-count")),
                    t.queueType.equals("quorum") ? "1" : "null", "x-delivery-count");
            channel.basicAck(2, false);
        });
        checks.put("consume.nack-multiple", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            fill(channel, queue, 5);
            Consumer consumer = Consumer.start(channel, queue);
            consumer.wait(5);
            channel.basicNack(5, true, true);
            List<Delivery> again = consumer.wait(10).subList(5, 10);
            equal(sorted(bodies(again)), numbers(0, 5), "bodies");
            redelivered(again, true);
        });
        checks.put("consume.reject-drop", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            fill(channel, queue, 2);
            Consumer.start(channel, queue).wait(2);
            channel.basicReject(1, false);
            channel.basicNack(2, false, false);
            channel.close();
            empty(t.channel(), queue);
        });
        checks.put("consume.dead-letter", t -> {
            Channel channel = t.channel();
            String[] queues = withDeadLetters(t, channel);
            fill(channel, queues[0], 1);
            Consumer.start(channel, queues[0]).wait(1);
            channel.basicReject(1, false);
            equal(deadLettered(channel, queues[1], queues[0], "rejected", null), "0", "body");
        });
        checks.put("consume.redelivered-on-close", t -> {
            Connection connection = t.connect();
            Channel channel = connection.createChannel();
            String queue = t.queue(channel);
            fill(channel, queue, 5);
            Consumer.start(channel, queue).wait(5);
            connection.close();
            List<Delivery> got = Consumer.start(t.channel(), queue).wait(5);
            equal(bodies(got), numbers(0, 5), "bodies");
            redelivered(got, true);
        });
        checks.put("consume.recover", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            fill(channel, queue, 3);
            Consumer consumer = Consumer.start(channel, queue);
            consumer.wait(3);
            channel.basicAck(1, false);
            channel.basicRecover(true);
            List<Delivery> again = consumer.wait(5).subList(3, 5);
            equal(sorted(bodies(again)), numbers(1, 3), "bodies");
            redelivered(again, true);
        });
    }

    private static void qosChannel(T t) throws Exception {
        Channel channel = t.channel();
        String[] queues = {t.classic(channel), t.classic(channel)};
        for (String queue : queues) {
            fill(channel, queue, 5);
        }
        channel.basicQos(4, true);
        Consumer a = Consumer.start(channel, queues[0]);
        Consumer b = Consumer.start(channel, queues[1]);
        until("4 deliveries", () -> a.next(10) == b.next(10) && a.got.size() + b.got.size() >= 4);
        a.quiet();
        b.quiet();
        equal(a.got.size() + b.got.size(), 4, "deliveries");
        channel.basicAck(1, false);
        until("5 deliveries", () -> a.next(10) == b.next(10) && a.got.size() + b.got.size() >= 5);
        a.quiet();
        b.quiet();
    }

    private static void roundRobin(T t) throws Exception {
        Channel channel = t.channel();
        String queue = t.queue(channel);
        channel.basicQos(1);
        List<Consumer> consumers = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            consumers.add(Consumer.start(channel, queue));
        }
        for (int i = 0; i < 30; i++) {
            publish(channel, "", queue, i);
        }
        until("30 deliveries", () -> {
            int total = 0;
            for (Consumer consumer : consumers) {
                Delivery delivery = consumer.next(1);
                if (delivery != null) {
                    channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
                }
                total += consumer.got.size();
            }
            return total == 30;
        });
        for (Consumer consumer : consumers) {
            expect(consumer.got.size() >= 5, "a share of " + consumer.got.size());
        }
    }

    static void choosing(Map<String, Suite.Check> checks) {
        checks.put("consume.qos-consumer", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            fill(channel, queue, 6);
            channel.basicQos(3);
            Consumer consumer = Consumer.start(channel, queue);
            consumer.wait(3);
            consumer.quiet();
            channel.basicAck(2, false);
            consumer.wait(4);
            consumer.quiet();
            channel.basicAck(4, true);
            consumer.wait(6);
        });
        checks.put("consume.qos-channel", Consuming::qosChannel);
        checks.put("consume.auto-ack", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            fill(channel, queue, 5);
            Consumer.start(channel, queue, "", true, map()).wait(5);
            channel.close();
            empty(t.channel(), queue);
        });
        checks.put("consume.priority", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            Consumer low = Consumer.start(channel, queue, "", true, map("x-priority", -1));
            Consumer high = Consumer.start(channel, queue, "", true, map("x-priority", 10));
            for (int i = 0; i < 20; i++) {
                publish(channel, "", queue, i);
            }
            high.wait(20);
            low.quiet();
            channel.basicCancel(high.tag);
            publish(channel, "", queue, "x");
            low.wait(1);
        });
        checks.put("consume.single-active", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel, "x-single-active-consumer", true);
            Consumer first = Consumer.start(channel, queue);
            Consumer second = Consumer.start(channel, queue);
            for (int i = 0; i < 5; i++) {
                publish(channel, "", queue, i);
            }
            first.wait(5);
            second.quiet();
            channel.basicAck(5, true);
            channel.basicCancel(first.tag);
            publish(channel, "", queue, "x");
            second.wait(1);
        });
        checks.put("consume.round-robin", Consuming::roundRobin);
        checks.put("get.message", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            fill(channel, queue, 3);
            GetResponse got = channel.basicGet(queue, false);
            equal(got.getEnvelope().getDeliveryTag(), 1L, "tag");
            equal(got.getEnvelope().getExchange() + got.getEnvelope().getRoutingKey(), queue, "exchange and key");
            equal(got.getEnvelope().isRedeliver(), false, "redelivered");
            equal(got.getMessageCount() + body(got.getBody()), "20", "count and body");
            channel.basicAck(1, false);
            channel.close();
            waitCount(t.channel(), queue, 2);
        });
        checks.put("get.empty", t -> {
            Channel channel = t.channel();
            empty(channel, t.queue(channel));
        });
        checks.put("get.no-ack", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            fill(channel, queue, 1);
            equal(body(get(channel, queue).getBody()), "0", "body");
            channel.close();
            empty(t.channel(), queue);
        });
    }

    static void limits(Map<String, Suite.Check> checks) {
        checks.put("ttl.message", t -> {
            Channel channel = t.channel();
            String[] queues = withDeadLetters(t, channel);
            channel.basicPublish("", queues[0], props().expiration("50").build(), bytes("x"));
            equal(deadLettered(channel, queues[1], queues[0], "expired", "50"), "x", "body");
            waitCount(channel, queues[0], 0);
        });
        checks.put("ttl.queue", t -> {
            Channel channel = t.channel();
            String[] queues = withDeadLetters(t, channel, "x-message-ttl", 50);
            publish(channel, "", queues[0], "x");
            equal(deadLettered(channel, queues[1], queues[0], "expired", null), "x", "body");
            waitCount(channel, queues[0], 0);
        });
        checks.put("ttl.expires", t -> {
            Connection connection = t.connect();
            String queue = t.queue(connection.createChannel(), "x-expires", 300);
            until("the queue to expire", () -> {
                try {
                    connection.createChannel().queueDeclarePassive(queue);
                } catch (java.io.IOException error) {
                    reason((com.rabbitmq.client.ShutdownSignalException) error.getCause(), 404, noQueue(queue));
                    return true;
                }
                // a passive declare is a use of the queue: leave it alone for longer than its lease
                Thread.sleep(600);
                return false;
            });
        });
        checks.put("limit.drop-head", t -> {
            Channel channel = t.confirming();
            String[] queues = withDeadLetters(t, channel, "x-max-length", 3);
            for (int i = 0; i < 5; i++) {
                confirmed(channel, "", queues[0], i);
            }
            for (int i = 0; i < 2; i++) {
                equal(deadLettered(channel, queues[1], queues[0], "maxlen", null), String.valueOf(i), "dead letter");
            }
            equal(arrived(channel, queues[0]), numbers(2, 5), "left");
        });
        checks.put("limit.reject-publish", t -> {
            Channel channel = t.confirming();
            String queue = t.queue(channel, "x-max-length", 3, "x-overflow", "reject-publish");
            int number = 0;
            while (number < 200 && accepted(channel, "", queue, null, number)) {
                number++;
            }
            expect(number >= 3 && number < 200, number + " accepted");
            equal(arrived(channel, queue), numbers(0, number), "bodies");
        });
        checks.put("priority.levels", t -> {
            Channel channel = t.confirming();
            String queue = t.classic(channel, "x-max-priority", 5);
            Integer[] priorities = {0, 5, 1, 9, null, 1};
            for (int i = 0; i < priorities.length; i++) {
                expect(accepted(channel, "", queue, props().priority(priorities[i]).build(), i), "nacked");
            }
            equal(arrived(channel, queue), list("1", "3", "2", "5", "0", "4"), "order");
        });
    }

    static void rest(Map<String, Suite.Check> checks) {
        checks.put("tx.commit", t -> {
            Channel channel = t.channel();
            Channel other = t.channel();
            String queue = t.queue(channel);
            channel.txSelect();
            for (int i = 0; i < 3; i++) {
                publish(channel, "", queue, i);
            }
            count(channel, queue);
            equal(count(other, queue), 0, "messages before commit");
            channel.txCommit();
            waitCount(other, queue, 3);
        });
        checks.put("tx.rollback", t -> {
            Channel channel = t.channel();
            Channel other = t.channel();
            String queue = t.queue(channel);
            channel.txSelect();
            publish(channel, "", queue, "no");
            channel.txRollback();
            publish(channel, "", queue, "yes");
            channel.txCommit();
            equal(body(get(other, queue).getBody()), "yes", "body");
            empty(other, queue);
        });
        checks.put("tx.confirm-refused", t -> {
            Channel channel = t.channel();
            channel.txSelect();
            closed(406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode", channel::confirmSelect);
        });
        checks.put("tx.returns", t -> {
            Channel channel = t.channel();
            String exchange = t.exchange(channel, "direct");
            List<String> returns = Collections.synchronizedList(new ArrayList<>());
            channel.addReturnListener(r -> returns.add(r.getReplyCode() + body(r.getBody())));
            channel.txSelect();
            channel.basicPublish(exchange, "nowhere", true, null, bytes("body"));
            t.queue(channel);
            equal(returns.size(), 0, "returns before commit");
            channel.txCommit();
            until("a return", () -> !returns.isEmpty());
            equal(returns, list("312body"), "returns");
        });
        checks.put("tx.acks", t -> {
            Connection connection = t.connect();
            Channel other = t.channel();
            String queue = t.queue(other);
            fill(other, queue, 2);
            for (int left : new int[] {2, 0}) {
                Channel channel = connection.createChannel();
                channel.txSelect();
                long[] last = {0};
                for (int i = 0; i < 2; i++) {
                    until("a message", () -> {
                        GetResponse got = channel.basicGet(queue, false);
                        last[0] = got == null ? 0 : got.getEnvelope().getDeliveryTag();
                        return got != null;
                    });
                }
                channel.basicAck(last[0], true);
                if (left == 2) {
                    channel.txRollback();
                } else {
                    channel.txCommit();
                }
                channel.close();
                waitCount(other, queue, left);
            }
        });
        checks.put("tx.not-selected", t -> {
            Channel channel = t.channel();
            closed(406, "PRECONDITION_FAILED - channel is not transactional", channel::txCommit);
        });
        checks.put("rpc.direct-reply-to", t -> {
            Channel client = t.channel();
            Channel server = t.channel();
            String queue = t.queue(server);
            Consumer replies = Consumer.start(client, "amq.rabbitmq.reply-to", "", true, map());
            client.basicPublish("", queue, props().replyTo("amq.rabbitmq.reply-to").correlationId("7").build(),
                    bytes("ping"));
            String replyTo = get(server, queue).getProps().getReplyTo();
            expect(replyTo.startsWith("amq.rabbitmq.reply-to."), replyTo);
            server.basicPublish("", replyTo, props().correlationId("7").build(), bytes("pong"));
            Delivery reply = replies.wait(1).get(0);
            equal(reply.getProperties().getCorrelationId() + body(reply.getBody()) + reply.getEnvelope().getExchange(),
                    "7pong", "reply");
        });
        checks.put("rpc.reply-gone", t -> {
            Channel client = t.channel();
            Channel server = t.channel();
            String queue = t.queue(server);
            Consumer.start(client, "amq.rabbitmq.reply-to", "", true, map());
            client.basicPublish("", queue, props().replyTo("amq.rabbitmq.reply-to").build(), bytes("ping"));
            String name = get(server, queue).getProps().getReplyTo();
            equal(server.queueDeclarePassive(name).getConsumerCount(), 1, "consumers");
            client.close();
            closed(404, noQueue(name), () -> server.queueDeclarePassive(name));
        });
        checks.put("rpc.refused", t -> {
            Channel acking = t.channel();
            closed(406, "PRECONDITION_FAILED - reply consumer cannot acknowledge",
                    () -> acking.basicConsume("amq.rabbitmq.reply-to", false, (tag, d) -> { }, tag -> { }));
            Channel channel = t.channel();
            String queue = t.queue(channel);
            closes(channel, 406, "PRECONDITION_FAILED - fast reply consumer does not exist",
                    () -> channel.basicPublish("", queue, props().replyTo("amq.rabbitmq.reply-to").build(), bytes("x")));
        });
        checks.put("error.qos-size", t -> {
            Channel channel = t.channel();
            closed(540, "NOT_IMPLEMENTED - prefetch_size!=0 (10)", () -> channel.basicQos(10, 0, false));
        });
        checks.put("error.recover-no-requeue", t -> {
            Channel channel = t.channel();
            closed(540, "NOT_IMPLEMENTED - requeue=false", () -> channel.basicRecover(false));
        });
        checks.put("error.immediate", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            closes(channel, 540, "NOT_IMPLEMENTED - immediate=true",
                    () -> channel.basicPublish("", queue, false, true, null, bytes("x")));
        });
        checks.put("cluster.declare-there", t -> {
            Channel[] channels = {t.channel(), t.channel()};
            for (int i = 0; i < 20; i++) {
                channels[1 - i % 2].queueDeclarePassive(t.queue(channels[i % 2]));
            }
        });
        checks.put("cluster.bind-there", t -> {
            Channel one = t.confirming();
            Channel other = t.confirming();
            List<String> returns = new ArrayList<>();
            other.addReturnListener(r -> returns.add(r.getRoutingKey()));
            String exchange = t.exchange(one, "direct");
            String queue = t.queue(other);
            for (int i = 0; i < 20; i++) {
                one.queueBind(queue, exchange, String.valueOf(i));
                confirmed(other, exchange, String.valueOf(i), i);
            }
            equal(returns, list(), "returns");
            equal(arrived(one, queue), numbers(0, 20), "bodies");
        });
        checks.put("cluster.consume-there", t -> {
            Channel one = t.channel();
            Channel other = t.channel();
            Channel third = t.channel();
            String queue = t.queue(third);
            Consumer consumer = Consumer.start(other, queue);
            for (int i = 0; i < 2000; i++) {
                one.basicPublish("", queue, props().deliveryMode(2).build(), bytes(i));
            }
            expect(bodies(consumer.wait(2000)).equals(numbers(0, 2000)), "order");
            other.basicAck(0, true);
            other.close();
            empty(third, queue);
        });
        checks.put("cluster.delete-there", t -> {
            Channel one = t.channel();
            Connection other = t.connect();
            for (int i = 0; i < 10; i++) {
                String queue = t.queue(one);
                one.queueDelete(queue);
                closed(404, noQueue(queue), () -> other.createChannel().queueDeclarePassive(queue));
            }
        });
    }

    static void add(Map<String, Suite.Check> checks) {
        acknowledging(checks);
        choosing(checks);
        limits(checks);
        rest(checks);
    }
}
