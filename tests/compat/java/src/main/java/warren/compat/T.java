package warren.compat;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DefaultConsumer;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.Envelope;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.LongString;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** One check: its connections, which rotate over the URIs, its names, and what it must clean up. */
final class T {
    static final long DEADLINE_MS = 10_000;

    interface Action {
        void run() throws Exception;
    }

    interface Test {
        boolean holds() throws Exception;
    }

    static final class Failed extends RuntimeException {
        Failed(String why) {
            super(why);
        }
    }

    private final List<String> uris;
    final String queueType;
    private final int number;
    private final List<Connection> opened = new ArrayList<>();
    private final List<String> queues = new ArrayList<>();
    private final List<String> exchanges = new ArrayList<>();
    private int serial;

    T(List<String> uris, String queueType, int number) {
        this.uris = uris;
        this.queueType = queueType;
        this.number = number;
    }

    static void expect(boolean condition, String why) {
        if (!condition) {
            throw new Failed(why);
        }
    }

    static void equal(Object got, Object wanted, String what) {
        if (!Objects.deepEquals(got, wanted)) {
            String text = what + ": " + got + " instead of " + wanted;
            throw new Failed(text.substring(0, Math.min(600, text.length())));
        }
    }

    ConnectionFactory factory() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(uris.get((number + opened.size()) % uris.size()));
        factory.setAutomaticRecoveryEnabled(false);
        factory.setConnectionTimeout((int) DEADLINE_MS);
        factory.setHandshakeTimeout((int) DEADLINE_MS);
        factory.setChannelRpcTimeout(20_000);
        return factory;
    }

    Connection connect(ConnectionFactory factory) throws Exception {
        Connection connection = factory.newConnection();
        opened.add(connection);
        return connection;
    }

    Connection connect() throws Exception {
        return connect(factory());
    }

    Channel channel() throws Exception {
        return connect().createChannel();
    }

    Channel confirming() throws Exception {
        Channel channel = channel();
        channel.confirmSelect();
        return channel;
    }

    String name(String kind) {
        serial++;
        return "compat.java." + ProcessHandle.current().pid() + "." + number + "." + kind + serial;
    }

    String queueName() {
        String name = name("q");
        queues.add(name);
        return name;
    }

    String exchangeName() {
        String name = name("x");
        exchanges.add(name);
        return name;
    }

    static Map<String, Object> map(Object... pairs) {
        Map<String, Object> map = new HashMap<>();
        for (int i = 0; i + 1 < pairs.length; i += 2) {
            map.put((String) pairs[i], pairs[i + 1]);
        }
        return map;
    }

    Map<String, Object> args(Object... pairs) {
        Map<String, Object> args = map(pairs);
        if (queueType.equals("quorum")) {
            args.put("x-queue-type", "quorum");
        }
        return args;
    }

    /** The queue: durable, of the type given on the command line. */
    String queue(Channel channel, Object... pairs) throws IOException {
        String name = queueName();
        channel.queueDeclare(name, true, false, false, args(pairs));
        return name;
    }

    String classic(Channel channel, Object... pairs) throws IOException {
        String name = queueName();
        channel.queueDeclare(name, true, false, false, map(pairs));
        return name;
    }

    String exchange(Channel channel, String kind) throws IOException {
        String name = exchangeName();
        channel.exchangeDeclare(name, kind);
        return name;
    }

    void clean() throws Exception {
        for (Connection connection : opened) {
            try {
                connection.close();
            } catch (IOException | ShutdownSignalException e) {
                // closed already
            }
        }
        opened.clear();
        if (queues.isEmpty() && exchanges.isEmpty()) {
            return;
        }
        Connection connection = connect();
        Channel channel = connection.createChannel();
        for (String name : queues) {
            channel.queueDelete(name);
        }
        for (String name : exchanges) {
            channel.exchangeDelete(name);
        }
        connection.close();
    }

    static void until(String what, Test test) throws Exception {
        long end = System.nanoTime() + DEADLINE_MS * 1_000_000;
        while (!test.holds()) {
            expect(System.nanoTime() < end, "not within " + DEADLINE_MS + " ms: " + what);
            Thread.sleep(20);
        }
    }

    private static ShutdownSignalException signal(Throwable error) {
        for (Throwable e = error; e != null; e = e.getCause()) {
            if (e instanceof ShutdownSignalException) {
                return (ShutdownSignalException) e;
            }
        }
        return null;
    }

    static void reason(ShutdownSignalException signal, int code, String text) {
        Object reason = signal.getReason();
        int gotCode;
        String gotText;
        if (reason instanceof AMQP.Channel.Close) {
            gotCode = ((AMQP.Channel.Close) reason).getReplyCode();
            gotText = ((AMQP.Channel.Close) reason).getReplyText();
        } else if (reason instanceof AMQP.Connection.Close) {
            gotCode = ((AMQP.Connection.Close) reason).getReplyCode();
            gotText = ((AMQP.Connection.Close) reason).getReplyText();
        } else {
            throw new Failed("closed without a reason: " + signal);
        }
        equal(gotCode, code, "reply code");
        if (text.endsWith("...")) {
            expect(gotText.startsWith(text.substring(0, text.length() - 3)), "reply text: " + gotText);
        } else if (text.startsWith("...")) {
            expect(gotText.contains(text.substring(3)), "reply text: " + gotText);
        } else {
            equal(gotText, text, "reply text");
        }
    }

    /** The action must end with the broker closing the channel or connection with code and text. */
    static void closed(int code, String text, Action action) throws Exception {
        try {
            action.run();
        } catch (IOException | AlreadyClosedException error) {
            ShutdownSignalException signal = signal(error);
            if (signal == null) {
                throw error;
            }
            reason(signal, code, text);
            return;
        }
        throw new Failed("no error " + code);
    }

    /** For what has no answer of its own: the channel must be closed after it. */
    static void closes(Channel channel, int code, String text, Action action) throws Exception {
        action.run();
        until("error " + code, () -> channel.getCloseReason() != null);
        reason(channel.getCloseReason(), code, text);
    }

    static int count(Channel channel, String queue) throws IOException {
        return channel.queueDeclarePassive(queue).getMessageCount();
    }

    static void waitCount(Channel channel, String queue, int wanted) throws Exception {
        until(wanted + " messages in " + queue, () -> count(channel, queue) == wanted);
    }

    static AMQP.BasicProperties.Builder props() {
        return new AMQP.BasicProperties.Builder();
    }

    static byte[] bytes(Object body) {
        return String.valueOf(body).getBytes(StandardCharsets.UTF_8);
    }

    static void publish(Channel channel, String exchange, String key, Object body) throws IOException {
        channel.basicPublish(exchange, key, null, bytes(body));
    }

    /** Publishes and waits for the ack; false when it is nacked. */
    static boolean accepted(Channel channel, String exchange, String key, AMQP.BasicProperties properties, Object body)
            throws Exception {
        channel.basicPublish(exchange, key, true, properties, bytes(body));
        return channel.waitForConfirms(DEADLINE_MS);
    }

    static void confirmed(Channel channel, String exchange, String key, Object body) throws Exception {
        expect(accepted(channel, exchange, key, null, body), "nacked");
    }

    static void fill(Channel channel, String queue, int number) throws Exception {
        for (int i = 0; i < number; i++) {
            channel.basicPublish("", queue, props().deliveryMode(2).build(), bytes(i));
        }
        waitCount(channel, queue, number);
    }

    static String body(byte[] body) {
        return new String(body, StandardCharsets.UTF_8);
    }

    /** Headers with long strings as strings; without what RabbitMQ 3 adds to a first get from a quorum queue. */
    static Object plain(Object value) {
        if (value instanceof LongString) {
            return value.toString();
        }
        if (value instanceof List) {
            List<Object> list = new ArrayList<>();
            ((List<?>) value).forEach(v -> list.add(plain(v)));
            return list;
        }
        if (value instanceof Map) {
            Map<String, Object> map = new HashMap<>();
            ((Map<?, ?>) value).forEach((k, v) -> {
                if (!(k.equals("x-delivery-count") && String.valueOf(v).equals("0"))) {
                    map.put((String) k, plain(v));
                }
            });
            return map;
        }
        return value;
    }

    @SuppressWarnings("unchecked")
    static Map<String, Object> headers(AMQP.BasicProperties properties) {
        return properties.getHeaders() == null ? new HashMap<>() : (Map<String, Object>) plain(properties.getHeaders());
    }

    /** Waits for a message of the queue and takes it. */
    static GetResponse get(Channel channel, String queue) throws Exception {
        GetResponse[] got = new GetResponse[1];
        until("a message in " + queue, () -> (got[0] = channel.basicGet(queue, true)) != null);
        return got[0];
    }

    static void empty(Channel channel, String queue) throws IOException {
        expect(channel.basicGet(queue, true) == null, "a message is left");
    }

    /** Takes all that is in the queue; to be called when all publishes are confirmed. */
    static List<String> arrived(Channel channel, String queue) throws IOException {
        List<String> bodies = new ArrayList<>();
        for (GetResponse got = channel.basicGet(queue, true); got != null; got = channel.basicGet(queue, true)) {
            bodies.add(body(got.getBody()));
        }
        return bodies;
    }

    static List<String> numbers(int from, int to) {
        List<String> list = new ArrayList<>();
        for (int i = from; i < to; i++) {
            list.add(String.valueOf(i));
        }
        return list;
    }

    static List<String> list(String... items) {
        return Arrays.asList(items);
    }

    /** Collects deliveries. */
    static final class Consumer extends DefaultConsumer {
        final List<Delivery> got = new ArrayList<>();
        final LinkedBlockingQueue<String> cancels = new LinkedBlockingQueue<>();
        private final LinkedBlockingQueue<Delivery> in = new LinkedBlockingQueue<>();
        String tag;

        Consumer(Channel channel) {
            super(channel);
        }

        static Consumer start(Channel channel, String queue, String tag, boolean autoAck, Map<String, Object> args)
                throws IOException {
            Consumer consumer = new Consumer(channel);
            consumer.tag = channel.basicConsume(queue, autoAck, tag, false, false, args, consumer);
            return consumer;
        }

        static Consumer start(Channel channel, String queue) throws IOException {
            return start(channel, queue, "", false, map());
        }

        @Override
        public void handleDelivery(String tag, Envelope envelope, AMQP.BasicProperties properties, byte[] body) {
            in.add(new Delivery(envelope, properties, body));
        }

        @Override
        public void handleCancel(String tag) {
            cancels.add(tag);
        }

        Delivery next(long ms) throws InterruptedException {
            Delivery delivery = in.poll(ms, TimeUnit.MILLISECONDS);
            if (delivery != null) {
                got.add(delivery);
            }
            return delivery;
        }

        List<Delivery> wait(int number) throws InterruptedException {
            long end = System.nanoTime() + DEADLINE_MS * 1_000_000;
            while (got.size() < number) {
                long left = (end - System.nanoTime()) / 1_000_000;
                expect(left > 0 && next(left) != null, got.size() + " of " + number + " deliveries");
            }
            return got;
        }

        void quiet() throws InterruptedException {
            expect(next(300) == null, "unexpected delivery");
        }
    }

    static List<String> bodies(List<Delivery> deliveries) {
        List<String> bodies = new ArrayList<>();
        deliveries.forEach(d -> bodies.add(body(d.getBody())));
        return bodies;
    }

    static List<String> sorted(List<String> items) {
        List<String> list = new ArrayList<>(items);
        list.sort(null);
        return list;
    }

    static void redelivered(List<Delivery> deliveries, boolean wanted) {
        deliveries.forEach(d -> equal(d.getEnvelope().isRedeliver(), wanted, "redelivered"));
    }
}
