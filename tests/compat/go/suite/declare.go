// Connections, channels, exchanges and queues.
package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func noQueue(name string) string { return fmt.Sprintf("NOT_FOUND - no queue '%s' in vhost '/'", name) }

func noExchange(name string) string {
	return fmt.Sprintf("NOT_FOUND - no exchange '%s' in vhost '/'", name)
}

func connectGood(t *test) {
	connection := t.connect()
	must(channelOf(connection).Close())
	must(connection.Close())
}

func connectBadPassword(t *test) {
	_, err := t.dial(amqp.Config{SASL: []amqp.Authentication{&amqp.PlainAuth{Username: "guest", Password: "wrong"}}})
	var closing *amqp.Error
	if !errors.As(err, &closing) || closing.Code != 403 {
		fail("%v", err)
	}
}

func connectBadVhost(t *test) {
	_, err := t.dial(amqp.Config{Vhost: "no-such"})
	var closing *amqp.Error
	if !errors.As(err, &closing) {
		fail("%v", err)
	}
	// the library has its own text for whatever ends connection.open
	if closing.Code != 403 && closing.Code != 530 {
		fail("code %d", closing.Code)
	}
}

func connectProperties(t *test) {
	properties := t.connect().Properties
	if fmt.Sprint(properties["product"]) == "" || properties["product"] == nil {
		fail("no product")
	}
	if !regexp.MustCompile(`^\d+\.\d+\.\d+`).MatchString(fmt.Sprint(properties["version"])) {
		fail("version %v", properties["version"])
	}
	capabilities, _ := properties["capabilities"].(amqp.Table)
	for _, name := range []string{"publisher_confirms", "exchange_exchange_bindings", "basic.nack",
		"consumer_cancel_notify", "connection.blocked", "consumer_priorities",
		"authentication_failure_close", "per_consumer_qos", "direct_reply_to"} {
		equal(capabilities[name], true, "capability "+name)
	}
}

func connectFrameMax(t *test) {
	connection, err := t.dial(amqp.Config{FrameSize: 8192})
	must(err)
	channel := channelOf(connection)
	queue := t.queue(channel)
	body := strings.Repeat("0123456789", 10000)
	publish(channel, "", queue, body)
	equal(string(get(channel, queue).Body) == body, true, "body")
}

func connectHeartbeat(t *test) {
	connection, err := t.dial(amqp.Config{Heartbeat: time.Second})
	must(err)
	select {
	case reason := <-connection.NotifyClose(make(chan *amqp.Error, 1)):
		fail("closed: %v", reason)
	case <-time.After(4 * time.Second):
	}
	t.queue(channelOf(connection))
}

func channelMany(t *test) {
	connection := t.connect()
	channels := []*amqp.Channel{}
	for i := 0; i < 100; i++ {
		channels = append(channels, channelOf(connection))
	}
	queue := t.queue(channels[0])
	for _, channel := range channels {
		publish(channel, "", queue, "x")
	}
	waitCount(channels[50], queue, 100)
}

func channelReopen(t *test) {
	connection := t.connect()
	for i := 0; i < 200; i++ {
		must(channelOf(connection).Close())
	}
	t.queue(channelOf(connection))
}

func channelError(t *test) {
	connection := t.connect()
	one, other, name := channelOf(connection), channelOf(connection), t.queueName()
	_, err := passive(one, name)
	closed(err, 404, noQueue(name))
	t.queue(other)
	t.queue(channelOf(connection))
}

func missingExchange(t *test, name string) {
	closed(t.channel().ExchangeDeclarePassive(name, "direct", false, false, false, false, nil), 404, noExchange(name))
}

func exchangeTypes(t *test) {
	channel := t.channel()
	for _, kind := range []string{"direct", "fanout", "topic", "headers"} {
		name := t.exchangeName()
		for i := 0; i < 2; i++ {
			must(channel.ExchangeDeclare(name, kind, true, false, false, false, nil))
		}
		must(channel.ExchangeDelete(name, false, false))
		missingExchange(t, name)
	}
}

func exchangePassive(t *test) {
	channel := t.channel()
	must(channel.ExchangeDeclarePassive(t.exchange(channel, "direct"), "direct", false, false, false, false, nil))
	must(channel.ExchangeDeclarePassive("amq.topic", "topic", true, false, false, false, nil))
}

func exchangePassiveMissing(t *test) { missingExchange(t, t.exchangeName()) }

func exchangeInequivalent(t *test) {
	channel := t.channel()
	name := t.exchange(channel, "direct")
	closed(channel.ExchangeDeclare(name, "fanout", false, false, false, false, nil), 406,
		fmt.Sprintf("PRECONDITION_FAILED - inequivalent arg 'type' for exchange '%s' in vhost '/': "+
			"received 'fanout' but current is 'direct'", name))
}

func exchangeUnknownType(t *test) {
	err := t.channel().ExchangeDeclare(t.exchangeName(), "no-such-type", false, false, false, false, nil)
	var closing *amqp.Error
	if !errors.As(err, &closing) || (closing.Code != 503 && closing.Code != 406) ||
		!strings.Contains(closing.Reason, "exchange type") {
		fail("%v", err)
	}
}

func exchangeReserved(t *test) {
	closed(t.channel().ExchangeDeclare("amq.mine", "direct", false, false, false, false, nil), 403,
		"ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'")
}

func exchangeDefault(t *test) {
	channel := t.channel()
	closed(channel.QueueBind(t.queue(channel), "k", "", false, nil), 403,
		"ACCESS_REFUSED - operation not permitted on the default exchange")
}

func exchangeDeleteMissing(t *test) { must(t.channel().ExchangeDelete(t.exchangeName(), false, false)) }

func exchangeIfUnused(t *test) {
	channel := t.channel()
	name, queue := t.exchange(channel, "direct"), t.queue(channel)
	must(channel.QueueBind(queue, "k", name, false, nil))
	closed(channel.ExchangeDelete(name, true, false), 406,
		fmt.Sprintf("PRECONDITION_FAILED - exchange '%s' in vhost '/' in use", name))
	channel = t.channel()
	must(channel.QueueUnbind(queue, "k", name, nil))
	must(channel.ExchangeDelete(name, true, false))
	missingExchange(t, name)
}

func exchangeAutoDelete(t *test) {
	channel := t.channel()
	name, queue := t.exchangeName(), t.queue(channel)
	must(channel.ExchangeDeclare(name, "direct", false, true, false, false, nil))
	must(channel.QueueBind(queue, "k", name, false, nil))
	must(channel.QueueUnbind(queue, "k", name, nil))
	missingExchange(t, name)
}

func exchangePublishMissing(t *test) {
	channel, name := t.channel(), t.exchangeName()
	closes(channel, 404, noExchange(name), func() error {
		return channel.Publish(name, "k", false, false, amqp.Publishing{})
	})
}

func exchangeInternal(t *test) {
	channel, name := t.channel(), t.exchangeName()
	must(channel.ExchangeDeclare(name, "direct", false, false, true, false, nil))
	closes(channel, 403, fmt.Sprintf("ACCESS_REFUSED - cannot publish to internal exchange '%s' in vhost '/'", name),
		func() error { return channel.Publish(name, "k", false, false, amqp.Publishing{}) })
}

func exchangeAlternate(t *test) {
	channel := t.confirming()
	returns := channel.NotifyReturn(make(chan amqp.Return, 1))
	alternate, queue, name := t.exchange(channel, "fanout"), t.queue(channel), t.exchangeName()
	must(channel.QueueBind(queue, "", alternate, false, nil))
	must(channel.ExchangeDeclare(name, "direct", false, false, false, false, amqp.Table{"alternate-exchange": alternate}))
	confirmed(channel, name, "nowhere", amqp.Publishing{Body: []byte("x")})
	equal(len(returns), 0, "returns")
	equal(arrived(channel, queue), []string{"x"}, "bodies")
}

func queueNamed(t *test) {
	channel, name := t.channel(), t.queueName()
	for i := 0; i < 2; i++ {
		queue, err := channel.QueueDeclare(name, true, false, false, false, t.args())
		must(err)
		equal(queue, amqp.Queue{Name: name}, "declare-ok")
	}
}

func queueServerNamed(t *test) {
	channel := t.channel()
	one, err := channel.QueueDeclare("", false, false, true, false, nil)
	must(err)
	other, err := channel.QueueDeclare("", false, false, true, false, nil)
	must(err)
	if one.Name == other.Name || !strings.HasPrefix(one.Name, "amq.gen-") || !strings.HasPrefix(other.Name, "amq.gen-") {
		fail("names %s %s", one.Name, other.Name)
	}
}

func missingQueue(t *test, name string) {
	_, err := passive(t.channel(), name)
	closed(err, 404, noQueue(name))
}

func queuePassiveMissing(t *test) { missingQueue(t, t.queueName()) }

func queueInequivalent(t *test) {
	name := t.classic(t.channel())
	_, err := t.channel().QueueDeclare(name, false, false, false, false, nil)
	closed(err, 406, fmt.Sprintf("PRECONDITION_FAILED - inequivalent arg 'durable' for queue '%s' in vhost '/': "+
		"received 'false' but current is 'true'", name))
}

func queueInequivalentArg(t *test) {
	name := t.queue(t.channel(), "x-max-length", 10)
	_, err := t.channel().QueueDeclare(name, true, false, false, false, t.args("x-max-length", 11))
	closed(err, 406, fmt.Sprintf("...inequivalent arg 'x-max-length' for queue '%s' in vhost '/'", name))
}

func queueBadArg(t *test) {
	name := t.queueName()
	_, err := t.channel().QueueDeclare(name, true, false, false, false, t.args("x-message-ttl", "soon"))
	closed(err, 406, fmt.Sprintf("...invalid arg 'x-message-ttl' for queue '%s' in vhost '/'", name))
}

func queueExclusive(t *test) {
	name := t.newName("q")
	_, err := t.channel().QueueDeclare(name, false, false, true, false, nil)
	must(err)
	other := t.connect()
	text := fmt.Sprintf("RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '%s' in vhost '/'...", name)
	_, err = channelOf(other).QueueDeclare(name, false, false, true, false, nil)
	closed(err, 405, text)
	_, err = passive(channelOf(other), name)
	closed(err, 405, text)
	_, err = channelOf(other).Consume(name, "", true, false, false, false, nil)
	closed(err, 405, text)
	_, err = channelOf(other).QueuePurge(name, false)
	closed(err, 405, text)
	_, err = channelOf(other).QueueDelete(name, false, false, false)
	closed(err, 405, text)
	_, _, err = channelOf(other).Get(name, true)
	closed(err, 405, text)
}

func queueExclusiveGone(t *test) {
	owner, name := t.connect(), t.queueName()
	_, err := channelOf(owner).QueueDeclare(name, false, false, true, false, nil)
	must(err)
	must(owner.Close())
	missingQueue(t, name)
}

func queueAutoDelete(t *test) {
	channel, name := t.channel(), t.queueName()
	_, err := channel.QueueDeclare(name, false, true, false, false, nil)
	must(err)
	count(channel, name)
	consume(channel, name, "c", false, nil)
	must(channel.Cancel("c", false))
	missingQueue(t, name)
}

func queueReserved(t *test) {
	_, err := t.channel().QueueDeclare("amq.mine", false, false, false, false, nil)
	closed(err, 403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'")
}

func queueDeleteMissing(t *test) {
	number, err := t.channel().QueueDelete(t.queueName(), false, false, false)
	must(err)
	equal(number, 0, "messages")
}

func queueIfUnused(t *test) {
	channel := t.channel()
	name := t.classic(channel)
	consume(channel, name, "", false, nil)
	_, err := t.channel().QueueDelete(name, true, false, false)
	closed(err, 406, fmt.Sprintf("PRECONDITION_FAILED - queue '%s' in vhost '/' in use", name))
}

func queueIfEmpty(t *test) {
	channel := t.channel()
	name := t.classic(channel)
	fill(channel, name, 1)
	_, err := channel.QueueDelete(name, false, true, false)
	closed(err, 406, fmt.Sprintf("PRECONDITION_FAILED - queue '%s' in vhost '/' not empty", name))
}

func queuePurge(t *test) {
	channel := t.channel()
	name := t.queue(channel)
	fill(channel, name, 3)
	number, err := channel.QueuePurge(name, false)
	must(err)
	equal(number, 3, "purged")
	empty(channel, name)
}

func queueCounts(t *test) {
	channel, other := t.channel(), t.channel()
	name := t.queue(channel)
	must(channel.Qos(1, 0, false))
	fill(channel, name, 4)
	consume(channel, name, "", false, nil).wait(1)
	until("3 messages, 1 consumer", func() bool {
		queue, err := passive(other, name)
		must(err)
		return queue.Messages == 3 && queue.Consumers == 1
	})
}

func queueBindMissing(t *test) {
	queue, exchange, missing := t.queue(t.channel()), t.exchangeName(), t.queueName()
	closed(t.channel().QueueBind(queue, "k", exchange, false, nil), 404, noExchange(exchange))
	closed(t.channel().QueueBind(missing, "k", "amq.direct", false, nil), 404, noQueue(missing))
}

func queueUnbind(t *test) {
	channel := t.confirming()
	queue, exchange := t.queue(channel), t.exchange(channel, "direct")
	must(channel.QueueBind(queue, "k", exchange, false, nil))
	must(channel.QueueUnbind(queue, "k", exchange, nil))
	must(channel.QueueUnbind(queue, "k", exchange, nil))
	must(channel.QueueUnbind(queue, "never", exchange, nil))
	confirmed(channel, exchange, "k", amqp.Publishing{})
	equal(count(channel, queue), 0, "messages")
}
