package warren.compat;

import static warren.compat.T.*;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** Connections, channels, exchanges and queues. */
final class Declaring {
    private Declaring() {
    }

    static String noQueue(String name) {
        return "NOT_FOUND - no queue '" + name + "' in vhost '/'";
    }

    static String noExchange(String name) {
        return "NOT_FOUND - no exchange '" + name + "' in vhost '/'";
    }

    static void missingQueue(T t, String name) throws Exception {
        Channel channel = t.channel();
        closed(404, noQueue(name), () -> channel.queueDeclarePassive(name));
    }

    static void missingExchange(T t, String name) throws Exception {
        Channel channel = t.channel();
        closed(404, noExchange(name), () -> channel.exchangeDeclarePassive(name));
    }

    static void connections(Map<String, Suite.Check> checks) {
        checks.put("connect.good", t -> {
            Connection connection = t.connect();
            connection.createChannel().close();
            connection.close();
        });
        checks.put("connect.bad-password", t -> {
            ConnectionFactory factory = t.factory();
            factory.setPassword("wrong");
            try {
                t.connect(factory);
            } catch (AuthenticationFailureException error) {
                equal(error.getMessage(), "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
                        + "For details see the broker logfile.", "text");
                return;
            }
            throw new Failed("accepted");
        });
        checks.put("connect.bad-vhost", t -> {
            ConnectionFactory factory = t.factory();
            factory.setVirtualHost("no-such");
            closed(530, "NOT_ALLOWED - vhost no-such not found", () -> t.connect(factory));
        });
        checks.put("connect.properties", t -> {
            Map<String, Object> properties = t.connect().getServerProperties();
            expect(properties.get("product") != null, "no product");
            expect(String.valueOf(properties.get("version")).matches("\\d+\\.\\d+\\.\\d+.*"), "version");
            Map<?, ?> capabilities = (Map<?, ?>) properties.get("capabilities");
            for (String name : list("publisher_confirms", "exchange_exchange_bindings", "basic.nack",
                    "consumer_cancel_notify", "connection.blocked", "consumer_priorities",
                    "authentication_failure_close", "per_consumer_qos", "direct_reply_to")) {
                equal(capabilities.get(name), true, "capability " + name);
            }
        });
        checks.put("connect.frame-max", t -> {
            ConnectionFactory factory = t.factory();
            factory.setRequestedFrameMax(8192);
            Channel channel = t.connect(factory).createChannel();
            equal(channel.getConnection().getFrameMax(), 8192, "frame-max");
            String queue = t.queue(channel);
            byte[] body = new byte[100_000];
            new java.util.Random(1).nextBytes(body);
            channel.basicPublish("", queue, null, body);
            expect(java.util.Arrays.equals(get(channel, queue).getBody(), body), "body");
        });
        checks.put("connect.heartbeat", t -> {
            ConnectionFactory factory = t.factory();
            factory.setRequestedHeartbeat(1);
            Connection connection = t.connect(factory);
            Channel channel = connection.createChannel();
            Object never = new Object();
            synchronized (never) {
                never.wait(4000);
            }
            expect(connection.isOpen(), "closed: " + connection.getCloseReason());
            t.queue(channel);
        });
        checks.put("channel.many", t -> {
            Connection connection = t.connect();
            List<Channel> channels = new ArrayList<>();
            for (int i = 0; i < 100; i++) {
                channels.add(connection.createChannel());
            }
            String queue = t.queue(channels.get(0));
            for (Channel channel : channels) {
                publish(channel, "", queue, "x");
            }
            waitCount(channels.get(50), queue, 100);
        });
        checks.put("channel.reopen", t -> {
            Connection connection = t.connect();
            for (int i = 0; i < 200; i++) {
                connection.createChannel().close();
            }
            t.queue(connection.createChannel());
        });
        checks.put("channel.error-keeps-connection", t -> {
            Connection connection = t.connect();
            Channel one = connection.createChannel();
            Channel other = connection.createChannel();
            String name = t.queueName();
            closed(404, noQueue(name), () -> one.queueDeclarePassive(name));
            t.queue(other);
            t.queue(connection.createChannel());
        });
    }

    static void exchanges(Map<String, Suite.Check> checks) {
        checks.put("exchange.types", t -> {
            Channel channel = t.channel();
            for (String kind : list("direct", "fanout", "topic", "headers")) {
                String name = t.exchangeName();
                channel.exchangeDeclare(name, kind, true);
                channel.exchangeDeclare(name, kind, true);
                channel.exchangeDelete(name);
                missingExchange(t, name);
            }
        });
        checks.put("exchange.passive", t -> {
            Channel channel = t.channel();
            channel.exchangeDeclarePassive(t.exchange(channel, "direct"));
            channel.exchangeDeclarePassive("amq.topic");
        });
        checks.put("exchange.passive-missing", t -> missingExchange(t, t.exchangeName()));
        checks.put("exchange.inequivalent", t -> {
            Channel channel = t.channel();
            String name = t.exchange(channel, "direct");
            closed(406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange '" + name
                    + "' in vhost '/': received 'fanout' but current is 'direct'",
                    () -> channel.exchangeDeclare(name, "fanout"));
        });
        checks.put("exchange.unknown-type", t -> {
            Channel channel = t.channel();
            try {
                channel.exchangeDeclare(t.exchangeName(), "no-such-type");
            } catch (IOException error) {
                ShutdownSignalException signal = (ShutdownSignalException) error.getCause();
                reason(signal, signal.isHardError() ? 503 : 406, "...exchange type");
                return;
            }
            throw new Failed("accepted");
        });
        checks.put("exchange.reserved-name", t -> {
            Channel channel = t.channel();
            closed(403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'",
                    () -> channel.exchangeDeclare("amq.mine", "direct"));
        });
        checks.put("exchange.default-refused", t -> {
            Channel channel = t.channel();
            String queue = t.queue(channel);
            closed(403, "ACCESS_REFUSED - operation not permitted on the default exchange",
                    () -> channel.queueBind(queue, "", "k"));
        });
        checks.put("exchange.delete-missing", t -> t.channel().exchangeDelete(t.exchangeName()));
        checks.put("exchange.delete-if-unused", t -> {
            Channel channel = t.channel();
            String name = t.exchange(channel, "direct");
            String queue = t.queue(channel);
            channel.queueBind(queue, name, "k");
            closed(406, "PRECONDITION_FAILED - exchange '" + name + "' in vhost '/' in use",
                    () -> channel.exchangeDelete(name, true));
            Channel other = t.channel();
            other.queueUnbind(queue, name, "k");
            other.exchangeDelete(name, true);
            missingExchange(t, name);
        });
        checks.put("exchange.auto-delete", t -> {
            Channel channel = t.channel();
            String name = t.exchangeName();
            String queue = t.queue(channel);
            channel.exchangeDeclare(name, "direct", false, true, null);
            channel.exchangeDeclarePassive(name);
            channel.queueBind(queue, name, "k");
            channel.queueUnbind(queue, name, "k");
            missingExchange(t, name);
        });
        checks.put("exchange.publish-missing", t -> {
            Channel channel = t.channel();
            String name = t.exchangeName();
            closes(channel, 404, noExchange(name), () -> publish(channel, name, "k", "x"));
        });
        checks.put("exchange.internal", t -> {
            Channel channel = t.channel();
            String name = t.exchangeName();
            channel.exchangeDeclare(name, "direct", false, false, true, null);
            closes(channel, 403, "ACCESS_REFUSED - cannot publish to internal exchange '" + name + "' in vhost '/'",
                    () -> publish(channel, name, "k", "x"));
        });
        checks.put("exchange.alternate", t -> {
            Channel channel = t.confirming();
            List<String> returns = new ArrayList<>();
            channel.addReturnListener(r -> returns.add(r.getReplyText()));
            String alternate = t.exchange(channel, "fanout");
            String queue = t.queue(channel);
            String name = t.exchangeName();
            channel.queueBind(queue, alternate, "");
            channel.exchangeDeclare(name, "direct", false, false, map("alternate-exchange", alternate));
            confirmed(channel, name, "nowhere", "x");
            equal(returns, list(), "returns");
            equal(arrived(channel, queue), list("x"), "bodies");
        });
    }

    static void queues(Map<String, Suite.Check> checks) {
        checks.put("queue.named", t -> {
            Channel channel = t.channel();
            String name = t.queueName();
            for (int i = 0; i < 2; i++) {
                AMQP.Queue.DeclareOk ok = channel.queueDeclare(name, true, false, false, t.args());
                equal(ok.getQueue() + " " + ok.getMessageCount() + " " + ok.getConsumerCount(), name + " 0 0", "ok");
            }
        });
        checks.put("queue.server-named", t -> {
            Channel channel = t.channel();
            String one = channel.queueDeclare().getQueue();
            String other = channel.queueDeclare().getQueue();
            expect(!one.equals(other) && one.startsWith("amq.gen-") && other.startsWith("amq.gen-"), one + other);
        });
        checks.put("queue.passive-missing", t -> missingQueue(t, t.queueName()));
        checks.put("queue.inequivalent", t -> {
            Channel channel = t.channel();
            String name = t.classic(channel);
            closed(406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '" + name
                    + "' in vhost '/': received 'false' but current is 'true'",
                    () -> channel.queueDeclare(name, false, false, false, null));
        });
        checks.put("queue.inequivalent-arg", t -> {
            Channel channel = t.channel();
            String name = t.queue(channel, "x-max-length", 10);
            closed(406, "...inequivalent arg 'x-max-length' for queue '" + name + "' in vhost '/'",
                    () -> channel.queueDeclare(name, true, false, false, t.args("x-max-length", 11)));
        });
        checks.put("queue.bad-arg", t -> {
            Channel channel = t.channel();
            String name = t.queueName();
            closed(406, "...invalid arg 'x-message-ttl' for queue '" + name + "' in vhost '/'",
                    () -> channel.queueDeclare(name, true, false, false, t.args("x-message-ttl", "soon")));
        });
        checks.put("queue.exclusive-locked", t -> {
            String name = t.name("q");
            t.channel().queueDeclare(name, false, true, false, null);
            String text = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '" + name
                    + "' in vhost '/'...";
            Connection other = t.connect();
            closed(405, text, () -> other.createChannel().queueDeclare(name, false, true, false, null));
            closed(405, text, () -> other.createChannel().queueDeclarePassive(name));
            closed(405, text, () -> Consumer.start(other.createChannel(), name));
            closed(405, text, () -> other.createChannel().queuePurge(name));
            closed(405, text, () -> other.createChannel().queueDelete(name));
            closed(405, text, () -> other.createChannel().basicGet(name, true));
        });
        checks.put("queue.exclusive-gone", t -> {
            Connection owner = t.connect();
            String name = t.queueName();
            owner.createChannel().queueDeclare(name, false, true, false, null);
            owner.close();
            missingQueue(t, name);
        });
        checks.put("queue.auto-delete", t -> {
            Channel channel = t.channel();
            String name = t.queueName();
            channel.queueDeclare(name, false, false, true, null);
            channel.queueDeclarePassive(name);
            channel.basicCancel(Consumer.start(channel, name).tag);
            missingQueue(t, name);
        });
        checks.put("queue.reserved-name", t -> {
            Channel channel = t.channel();
            closed(403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
                    () -> channel.queueDeclare("amq.mine", false, false, false, null));
        });
        checks.put("queue.delete-missing",
                t -> equal(t.channel().queueDelete(t.queueName()).getMessageCount(), 0, "messages"));
        checks.put("queue.delete-if-unused", t -> {
            String name = t.classic(t.channel());
            Consumer.start(t.channel(), name);
            Channel channel = t.channel();
            closed(406, "PRECONDITION_FAILED - queue '" + name + "' in vhost '/' in use",
                    () -> channel.queueDelete(name, true, false));
        });
        checks.put("queue.delete-if-empty", t -> {
            Channel channel = t.channel();
            String name = t.classic(channel);
            fill(channel, name, 1);
            closed(406, "PRECONDITION_FAILED - queue '" + name + "' in vhost '/' not empty",
                    () -> channel.queueDelete(name, false, true));
        });
        checks.put("queue.purge", t -> {
            Channel channel = t.channel();
            String name = t.queue(channel);
            fill(channel, name, 3);
            equal(channel.queuePurge(name).getMessageCount(), 3, "purged");
            empty(channel, name);
        });
        checks.put("queue.counts", t -> {
            Channel channel = t.channel();
            Channel other = t.channel();
            String name = t.queue(channel);
            channel.basicQos(1);
            fill(channel, name, 4);
            Consumer.start(channel, name).wait(1);
            until("3 messages, 1 consumer", () -> {
                AMQP.Queue.DeclareOk ok = other.queueDeclarePassive(name);
                return ok.getMessageCount() == 3 && ok.getConsumerCount() == 1;
            });
        });
        checks.put("queue.bind-missing", t -> {
            String queue = t.queue(t.channel());
            String exchange = t.exchangeName();
            String missing = t.queueName();
            closed(404, noExchange(exchange), () -> t.channel().queueBind(queue, exchange, "k"));
            closed(404, noQueue(missing), () -> t.channel().queueBind(missing, "amq.direct", "k"));
        });
        checks.put("queue.unbind", t -> {
            Channel channel = t.confirming();
            String queue = t.queue(channel);
            String exchange = t.exchange(channel, "direct");
            channel.queueBind(queue, exchange, "k");
            channel.queueUnbind(queue, exchange, "k");
            channel.queueUnbind(queue, exchange, "k");
            channel.queueUnbind(queue, exchange, "never");
            confirmed(channel, exchange, "k", "x");
            equal(count(channel, queue), 0, "messages");
        });
    }

    static void add(Map<String, Suite.Check> checks) {
        connections(checks);
        exchanges(checks);
        queues(checks);
    }
}
