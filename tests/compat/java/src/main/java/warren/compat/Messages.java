package warren.compat;

import static warren.compat.T.*;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Date;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** Routing and publishing. */
final class Messages {
    private static final List<String> TOPIC_KEYS = list("", "a", "a.b", "a.b.c", "a..b", "b.a", "a.b.a.b", "x.y.z", ".");

    private Messages() {
    }

    private static Map<String, List<String>> topicTable() {
        Map<String, List<String>> table = new LinkedHashMap<>();
        table.put("#", TOPIC_KEYS);
        table.put("*", list("a")); // the empty key has no words at all
        table.put("a", list("a"));
        table.put("a.*", list("a.b"));
        table.put("a.#", list("a", "a.b", "a.b.c", "a..b", "a.b.a.b"));
        table.put("#.b", list("a.b", "a..b", "a.b.a.b"));
        table.put("*.b", list("a.b"));
        table.put("*.*", list("a.b", "b.a", "."));
        table.put("a.*.b", list("a..b"));
        table.put("#.a.#", list("a", "a.b", "a.b.c", "a..b", "b.a", "a.b.a.b"));
        table.put("*.#.*", list("a.b", "a.b.c", "a..b", "b.a", "a.b.a.b", "x.y.z", "."));
        table.put("", list(""));
        return table;
    }

    private static void headersMatch(T t, String match, List<String> wanted) throws Exception {
        Channel channel = t.confirming();
        String exchange = t.exchange(channel, "headers");
        String queue = t.queue(channel);
        channel.queueBind(queue, exchange, "", map("x-match", match, "a", 1, "b", "x"));
        Map<String, Map<String, Object>> cases = new LinkedHashMap<>();
        cases.put("both", map("a", 1L, "b", "x"));
        cases.put("one", map("a", 1));
        cases.put("other", map("b", "x"));
        cases.put("wrong", map("a", 2, "b", "y"));
        cases.put("mixed", map("a", (short) 1, "b", "y"));
        cases.put("more", map("a", 1, "b", "x", "c", true));
        cases.put("none", map());
        cases.put("type", map("a", "1", "b", "x"));
        for (Map.Entry<String, Map<String, Object>> one : cases.entrySet()) {
            channel.basicPublish(exchange, "", props().headers(one.getValue()).build(), bytes(one.getKey()));
        }
        channel.waitForConfirmsOrDie(DEADLINE_MS);
        equal(arrived(channel, queue), wanted, "bodies");
    }

    static void routing(Map<String, Suite.Check> checks) {
        checks.put("route.default", t -> {
            Channel channel = t.confirming();
            String one = t.queue(channel);
            String other = t.queue(channel);
            confirmed(channel, "", one, "1");
            equal(arrived(channel, one), list("1"), "bodies");
            equal(arrived(channel, other), list(), "bodies of the other");
        });
        checks.put("route.direct", t -> {
            Channel channel = t.confirming();
            String exchange = t.exchange(channel, "direct");
            List<String> keys = list("a", "a", "b");
            List<String> queues = new ArrayList<>();
            for (String key : keys) {
                queues.add(t.queue(channel));
                channel.queueBind(queues.get(queues.size() - 1), exchange, key);
            }
            for (String key : list("a", "b", "c", "A")) {
                confirmed(channel, exchange, key, key);
            }
            for (int i = 0; i < 3; i++) {
                equal(arrived(channel, queues.get(i)), list(keys.get(i)), "bodies");
            }
        });
        checks.put("route.fanout", t -> {
            Channel channel = t.confirming();
            String exchange = t.exchange(channel, "fanout");
            List<String> queues = list(t.queue(channel), t.queue(channel), t.queue(channel));
            for (String queue : queues) {
                channel.queueBind(queue, exchange, "ignored");
            }
            confirmed(channel, exchange, "any", "1");
            confirmed(channel, exchange, "", "2");
            for (String queue : queues) {
                equal(arrived(channel, queue), list("1", "2"), "bodies");
            }
        });
        checks.put("route.topic", t -> {
            Channel channel = t.confirming();
            String exchange = t.exchange(channel, "topic");
            Map<String, String> queues = new HashMap<>();
            for (String pattern : topicTable().keySet()) {
                queues.put(pattern, t.queue(channel));
                channel.queueBind(queues.get(pattern), exchange, pattern);
            }
            for (String key : TOPIC_KEYS) {
                confirmed(channel, exchange, key, key);
            }
            for (Map.Entry<String, List<String>> row : topicTable().entrySet()) {
                equal(arrived(channel, queues.get(row.getKey())), row.getValue(), "pattern " + row.getKey());
            }
        });
        checks.put("route.headers-all", t -> headersMatch(t, "all", list("both", "more")));
        checks.put("route.headers-any",
                t -> headersMatch(t, "any", list("both", "one", "other", "mixed", "more", "type")));
        checks.put("route.e2e", t -> {
            Channel channel = t.confirming();
            String source = t.exchange(channel, "topic");
            String target = t.exchange(channel, "fanout");
            String queue = t.queue(channel);
            channel.queueBind(queue, target, "");
            channel.exchangeBind(target, source, "a.*");
            confirmed(channel, source, "a.b", "1");
            confirmed(channel, source, "b.b", "2");
            channel.exchangeUnbind(target, source, "a.*");
            confirmed(channel, source, "a.b", "3");
            equal(arrived(channel, queue), list("1"), "bodies");
        });
        checks.put("route.one-copy", t -> {
            Channel channel = t.confirming();
            String exchange = t.exchange(channel, "topic");
            String queue = t.queue(channel);
            for (String key : list("a.*", "*.b", "#", "a.b")) {
                channel.queueBind(queue, exchange, key);
            }
            confirmed(channel, exchange, "a.b", "1");
            equal(arrived(channel, queue), list("1"), "bodies");
        });
        checks.put("route.cc-bcc", t -> {
            Channel channel = t.confirming();
            String to = t.queue(channel);
            String cc = t.queue(channel);
            String bcc = t.queue(channel);
            channel.basicPublish("", to, props().headers(map("CC", list(cc, to), "BCC", list(bcc))).build(), bytes("1"));
            for (String queue : list(to, cc, bcc)) {
                equal(headers(get(channel, queue).getProps()), map("CC", list(cc, to)), "headers in " + queue);
                empty(channel, queue);
            }
        });
    }

    private static void confirmBatch(T t) throws Exception {
        int number = 10_000;
        Channel channel = t.confirming();
        String queue = t.queue(channel);
        boolean[] seen = new boolean[number + 1];
        long[] state = new long[3]; // lowest unseen, confirms, nacks
        state[0] = 1;
        channel.addConfirmListener((tag, multiple) -> {
            synchronized (state) {
                for (long i = multiple ? state[0] : tag; i <= tag; i++) {
                    state[1] += seen[(int) i] ? 0 : 1;
                    seen[(int) i] = true;
                }
                state[0] = multiple ? tag + 1 : state[0];
                state.notifyAll();
            }
        }, (tag, multiple) -> {
            synchronized (state) {
                state[2]++;
                state.notifyAll();
            }
        });
        for (int i = 0; i < number; i++) {
            channel.basicPublish("", queue, props().deliveryMode(2).build(), bytes(i));
        }
        long end = System.nanoTime() + 60_000_000_000L;
        synchronized (state) {
            while (state[1] < number && state[2] == 0 && System.nanoTime() < end) {
                state.wait(1000);
            }
            equal(state[1] + " " + state[2], number + " 0", "confirms and nacks");
        }
        waitCount(channel, queue, number);
    }

    private static void mandatory(T t) throws Exception {
        Channel channel = t.confirming();
        LinkedBlockingQueue<String> events = new LinkedBlockingQueue<>();
        channel.addReturnListener(r -> events.add("return " + r.getReplyCode() + r.getReplyText() + r.getExchange()
                + r.getRoutingKey() + r.getProperties().getMessageId() + body(r.getBody())));
        channel.addConfirmListener((tag, multiple) -> events.add("ack " + tag), (tag, multiple) -> events.add("nack"));
        String exchange = t.exchange(channel, "direct");
        channel.basicPublish(exchange, "nowhere", true, props().messageId("m").build(), bytes("body"));
        equal(events.poll(DEADLINE_MS, TimeUnit.MILLISECONDS), "return 312NO_ROUTE" + exchange + "nowherembody", "first");
        equal(events.poll(DEADLINE_MS, TimeUnit.MILLISECONDS), "ack 1", "second");
    }

    private static void manyHeaders(T t) throws Exception {
        Channel channel = t.channel();
        String queue = t.queue(channel);
        Map<String, Object> headers = map("bool", true, "byte", (byte) -3, "short", (short) -300, "int", -5,
                "long", Long.MIN_VALUE / 2, "float", 1.5f, "double", 2.25, "decimal", new BigDecimal("3.14"),
                "text", "h\u00e9llo", "time", new Date(1_700_000_000_000L), "void", null,
                "table", map("a", map("b", Arrays.asList(1, "two"))), "list", Arrays.asList(1, 2.5, "x", null, true),
                "empty", map(), String.join("", Collections.nCopies(128, "x")), "long key",
                "y", String.join("", Collections.nCopies(5000, "z")));
        headers.put("bytes", new byte[] {0, -1});
        channel.basicPublish("", queue, props().headers(headers).build(), bytes("x"));
        Map<String, Object> got = headers(get(channel, queue).getProps());
        equal(got.keySet(), headers.keySet(), "keys");
        headers.forEach((key, value) -> equal(got.get(key), value, "header " + key));
    }

    static void publishing(Map<String, Suite.Check> checks) {
        checks.put("publish.confirm-single", t -> {
            Channel channel = t.confirming();
            String queue = t.queue(channel);
            for (int i = 0; i < 20; i++) {
                expect(accepted(channel, "", queue, props().deliveryMode(1 + i % 2).build(), i), "nacked");
            }
            equal(arrived(channel, queue), numbers(0, 20), "bodies");
        });
        checks.put("publish.confirm-batch", Messages::confirmBatch);
        checks.put("publish.confirm-unroutable", t -> {
            Channel channel = t.confirming();
            publish(channel, t.exchange(channel, "direct"), "nowhere", "x");
            expect(channel.waitForConfirms(DEADLINE_MS), "nacked");
        });
        checks.put("publish.mandatory", Messages::mandatory);
        checks.put("publish.mandatory-routed", t -> {
            Channel channel = t.confirming();
            List<String> returns = new ArrayList<>();
            channel.addReturnListener(r -> returns.add(r.getReplyText()));
            String queue = t.queue(channel);
            confirmed(channel, "", queue, "x");
            equal(returns, list(), "returns");
            equal(arrived(channel, queue), list("x"), "bodies");
        });
        checks.put("publish.user-id", t -> {
            Channel channel = t.confirming();
            String queue = t.queue(channel);
            expect(accepted(channel, "", queue, props().userId("guest").build(), "x"), "nacked");
            closes(channel, 406, "PRECONDITION_FAILED - user_id property set to 'other' but authenticated user was 'guest'",
                    () -> channel.basicPublish("", queue, props().userId("other").build(), bytes("x")));
        });
        checks.put("publish.bad-expiration", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            closes(channel, 406, "PRECONDITION_FAILED - invalid expiration '12x'...",
                    () -> channel.basicPublish("", queue, props().expiration("12x").build(), bytes("x")));
        });
        checks.put("publish.empty-body", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            channel.basicPublish("", queue, props().messageId("m").headers(map("a", 1)).build(), new byte[0]);
            GetResponse got = get(channel, queue);
            equal(got.getBody().length + got.getProps().getMessageId() + headers(got.getProps()), "0m{a=1}", "message");
        });
        checks.put("publish.bodies", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            int limit = channel.getConnection().getFrameMax();
            List<Integer> sizes = new ArrayList<>(Arrays.asList(1, 2, 3 * limit));
            for (int d = -9; d <= 1; d++) {
                sizes.add(limit + d);
            }
            for (int size : sizes) {
                byte[] body = new byte[size];
                new Random(size).nextBytes(body);
                channel.basicPublish("", queue, null, body);
                expect(Arrays.equals(get(channel, queue).getBody(), body), "body of " + size + " bytes");
            }
        });
        checks.put("publish.properties", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            AMQP.BasicProperties sent = props().contentType("text/plain").contentEncoding("utf-8").headers(map("k", "v"))
                    .deliveryMode(2).priority(3).correlationId("c-1").replyTo("r").expiration("60000").messageId("m-1")
                    .timestamp(new Date(1_700_000_000_000L)).type("t").userId("guest").appId("app").build();
            channel.basicPublish("", queue, sent, bytes("x"));
            AMQP.BasicProperties got = get(channel, queue).getProps();
            equal(got.builder().headers(headers(got)).build().toString(), sent.toString(), "properties");
        });
        checks.put("publish.headers", Messages::manyHeaders);
        checks.put("publish.order", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            Consumer consumer = Consumer.start(t.channel(), queue, "", true, map());
            for (int i = 0; i < 5000; i++) {
                publish(channel, "", queue, i);
            }
            List<Delivery> got = consumer.wait(5000);
            expect(bodies(got).equals(numbers(0, 5000)), "order");
        });
    }

    static void add(Map<String, Suite.Check> checks) {
        routing(checks);
        publishing(checks);
    }
}
