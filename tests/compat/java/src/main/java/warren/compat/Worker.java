package warren.compat;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DefaultConsumer;
import com.rabbitmq.client.Envelope;
import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;

/** The publisher and the consumer of the kill test; see tests/real/README.md. */
public final class Worker {
    private static final int TICK_MS = 20;
    private static final int RETRY_MS = 200;
    private static final int TIMEOUT_MS = 4000;

    private final PrintStream out = new PrintStream(new BufferedOutputStream(System.out, 65536), false);
    private final Map<String, String> options = new HashMap<>(Map.of("--first", "0", "--window", "100", "--rate", "300",
            "--size", "64", "--prefetch", "50"));
    private final TreeSet<Long> again = new TreeSet<>();
    private final TreeMap<Long, Long> pending = new TreeMap<>(); // delivery tag -> seq
    private final Set<Long> returned = new HashSet<>();
    private volatile boolean stopping;
    private long next = 1;
    private long number;
    private int epoch;
    private boolean cancelled;

    private Worker(String[] arguments) {
        for (int i = 1; i + 1 < arguments.length; i += 2) {
            options.put(arguments[i], arguments[i + 1]);
        }
    }

    private int option(String name) {
        return Integer.parseInt(options.get("--" + name));
    }

    private synchronized void say(String line) {
        out.println(line);
    }

    private Connection connect() throws Exception {
        epoch++;
        String[] uris = options.get("--uris").split(",");
        String uri = uris[(option("first") + epoch) % uris.length];
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(uri);
        factory.setAutomaticRecoveryEnabled(false);
        factory.setRequestedHeartbeat(4);
        factory.setConnectionTimeout(TIMEOUT_MS);
        factory.setHandshakeTimeout(TIMEOUT_MS);
        factory.setChannelRpcTimeout(15_000);
        factory.setShutdownTimeout(TIMEOUT_MS);
        Connection connection = factory.newConnection();
        say("O " + epoch + " " + uri);
        return connection;
    }

    private synchronized void confirm(int session, long tag, boolean multiple, boolean ack) {
        if (session != epoch) {
            return; // late news of a connection that has been given up
        }
        Map<Long, Long> done = new TreeMap<>(multiple ? pending.headMap(tag, true) : new TreeMap<>());
        if (!multiple && pending.containsKey(tag)) {
            done.put(tag, pending.get(tag));
        }
        for (Map.Entry<Long, Long> one : done.entrySet()) {
            pending.remove(one.getKey());
            long seq = one.getValue();
            if (ack && !returned.contains(seq)) {
                say("C " + epoch + " " + seq);
            } else {
                returned.remove(seq);
                say("N " + epoch + " " + seq);
                again.add(seq);
            }
        }
    }

    private void send(Channel channel, long seq) throws IOException {
        StringBuilder body = new StringBuilder(options.get("--id") + " " + epoch + " " + seq + " ");
        while (body.length() < option("size")) {
            body.append('.');
        }
        synchronized (this) {
            pending.put(channel.getNextPublishSeqNo(), seq);
            say("A " + epoch + " " + seq);
        }
        channel.basicPublish("", options.get("--queue"), true, new AMQP.BasicProperties.Builder().deliveryMode(2).build(),
                body.toString().getBytes(StandardCharsets.UTF_8));
    }

    /** The next number to send: what was nacked or lost comes before anything new; 0 = none now. */
    private synchronized long pick(long due) {
        if (pending.size() >= option("window")) {
            return 0;
        }
        if (!again.isEmpty()) {
            return again.pollFirst();
        }
        return !stopping && next <= due ? next++ : 0;
    }

    private boolean publish(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        int session = epoch;
        channel.addReturnListener(r -> {
            synchronized (this) {
                returned.add(Long.parseLong(new String(r.getBody(), StandardCharsets.UTF_8).split(" ")[2]));
            }
        });
        channel.addConfirmListener((tag, multiple) -> confirm(session, tag, multiple, true),
                (tag, multiple) -> confirm(session, tag, multiple, false));
        channel.confirmSelect();
        long begun = System.nanoTime();
        long base = next - 1;
        while (true) {
            if (!channel.isOpen()) {
                throw new IOException("closed: " + channel.getCloseReason());
            }
            long due = base + (System.nanoTime() - begun) * option("rate") / 1_000_000_000L;
            int budget = option("window"); // what is nacked at once must not keep us here
            for (long seq = pick(due); seq != 0; seq = --budget > 0 ? pick(due) : 0) {
                send(channel, seq);
            }
            synchronized (this) {
                out.flush();
                if (stopping && pending.isEmpty() && again.isEmpty()) {
                    say("DONE " + (next - 1));
                    return true;
                }
            }
            Thread.sleep(TICK_MS);
        }
    }

    private boolean consume(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        channel.basicQos(option("prefetch"));
        cancelled = false;
        int session = epoch;
        channel.basicConsume(options.get("--queue"), false, new DefaultConsumer(channel) {
            @Override
            public void handleDelivery(String tag, Envelope envelope, AMQP.BasicProperties properties, byte[] body)
                    throws IOException {
                String[] words = new String(body, StandardCharsets.UTF_8).split(" ");
                synchronized (Worker.this) {
                    say("D " + session + " " + words[0] + " " + words[1] + " " + words[2]
                            + (envelope.isRedeliver() ? " 1" : " 0"));
                    number++;
                }
                channel.basicAck(envelope.getDeliveryTag(), false);
            }

            @Override
            public void handleCancel(String tag) {
                cancelled = true;
            }
        });
        while (channel.isOpen() && !cancelled) {
            Thread.sleep(TICK_MS);
            synchronized (this) {
                out.flush();
            }
            if (stopping) {
                connection.close(TIMEOUT_MS);
                say("DONE " + number);
                return true;
            }
        }
        throw new IOException("cancelled or closed: " + channel.getCloseReason());
    }

    private void run(boolean publisher) throws InterruptedException {
        boolean done = false;
        while (!done) {
            Connection connection = null;
            try {
                connection = connect();
                done = publisher ? publish(connection) : consume(connection);
            } catch (Exception error) {
                say("L " + epoch + " " + error.toString().replaceAll("\\s+", " "));
                if (stopping && !publisher) {
                    say("DONE " + number);
                    done = true;
                }
            }
            if (connection != null) {
                connection.abort(TIMEOUT_MS);
            }
            synchronized (this) {
                again.addAll(pending.values());
                pending.clear();
                returned.clear();
                out.flush();
            }
            Thread.sleep(done ? 0 : RETRY_MS);
        }
        System.exit(0);
    }

    public static void main(String[] arguments) throws InterruptedException {
        Worker worker = new Worker(arguments);
        Thread listener = new Thread(() -> {
            try {
                System.in.read();
            } catch (IOException error) {
                System.err.println(error);
            }
            worker.stopping = true;
        });
        listener.setDaemon(true);
        listener.start();
        worker.run(arguments[0].equals("publisher"));
    }
}
