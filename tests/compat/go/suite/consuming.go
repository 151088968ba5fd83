// Consuming, getting, expiry, limits, transactions, several nodes.
package main

import (
	"fmt"
	"sort"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func consumeAck(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	fill(channel, queue, 5)
	got := consume(channel, queue, "tag", false, nil).wait(5)
	for i, delivery := range got {
		equal([]any{delivery.DeliveryTag, delivery.ConsumerTag}, []any{uint64(i + 1), "tag"}, "delivery")
		must(delivery.Ack(false))
	}
	redelivered(got, false)
	equal(bodies(got), numbers(0, 5), "bodies")
	must(channel.Close())
	empty(t.channel(), queue)
}

func consumeTagReuse(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	consume(channel, queue, "T", false, nil)
	_, err := channel.Consume(queue, "T", false, false, false, false, nil)
	closed(err, 530, "NOT_ALLOWED - attempt to reuse consumer tag 'T'")
}

func consumeExclusive(t *test) {
	channel := t.channel()
	queue := t.classic(channel)
	_, err := channel.Consume(queue, "", false, true, false, false, nil)
	must(err)
	_, err = t.channel().Consume(queue, "", false, false, false, false, nil)
	closed(err, 403, fmt.Sprintf("ACCESS_REFUSED - queue '%s' in vhost '/' in exclusive use", queue))
}

func consumeMissing(t *test) {
	name := t.queueName()
	_, err := t.channel().Consume(name, "", false, false, false, false, nil)
	closed(err, 404, noQueue(name))
}

func consumeCancel(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	fill(channel, queue, 2)
	c := consume(channel, queue, "c", false, nil)
	c.wait(2)
	must(channel.Cancel("c", false))
	publish(channel, "", queue, "late")
	waitCount(channel, queue, 1)
	c.quiet()
	must(channel.Ack(2, true))
	must(channel.Close())
	waitCount(t.channel(), queue, 1)
}

func consumeCancelNotify(t *test) {
	channel, other := t.channel(), t.channel()
	queue := t.queue(channel)
	cancels := channel.NotifyCancel(make(chan string, 2))
	consume(channel, queue, "c", false, nil)
	_, err := other.QueueDelete(queue, false, false, false)
	must(err)
	select {
	case tag := <-cancels:
		equal(tag, "c", "tag")
	case <-time.After(deadline):
		fail("no cancel")
	}
	select {
	case tag := <-cancels:
		fail("another cancel %q", tag)
	case <-time.After(300 * time.Millisecond):
	}
}

func consumeAckMultiple(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	fill(channel, queue, 10)
	consume(channel, queue, "", false, nil).wait(10)
	must(channel.Ack(7, true))
	must(channel.Close())
	channel = t.channel()
	waitCount(channel, queue, 3)
	equal(arrived(channel, queue), numbers(7, 10), "left")
}

func badAck(tag uint64, times int) func(*test) {
	return func(t *test) {
		channel := t.channel()
		queue := t.queue(channel)
		fill(channel, queue, 1)
		consume(channel, queue, "", false, nil).wait(1)
		closes(channel, 406, fmt.Sprintf("PRECONDITION_FAILED - unknown delivery tag %d", tag), func() error {
			for i := 0; i < times; i++ {
				must(channel.Ack(tag, false))
			}
			return nil
		})
	}
}

func consumeNackRequeue(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	fill(channel, queue, 1)
	c := consume(channel, queue, "", false, nil)
	must(c.wait(1)[0].Nack(false, true))
	again := c.wait(2)[1]
	equal([]any{again.Redelivered, again.DeliveryTag, string(again.Body)}, []any{true, uint64(2), "0"}, "second delivery")
	must(again.Ack(false))
}

func consumeDeliveryCount(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	fill(channel, queue, 1)
	c := consume(channel, queue, "", false, nil)
	must(c.wait(1)[0].Nack(false, true))
	again := c.wait(2)[1]
	wanted := "<nil>"
	if t.queueType == "quorum" {
		wanted = "1"
	}
	equal(fmt.Sprint(again.Headers["x-delivery-count"]), wanted, "x-delivery-count")
	must(again.Ack(false))
}

func consumeNackMultiple(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	fill(channel, queue, 5)
	c := consume(channel, queue, "", false, nil)
	must(c.wait(5)[4].Nack(true, true))
	again := c.wait(10)[5:]
	list := bodies(again)
	sort.Strings(list)
	equal(list, numbers(0, 5), "bodies")
	redelivered(again, true)
}

func consumeReject(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	fill(channel, queue, 2)
	got := consume(channel, queue, "", false, nil).wait(2)
	must(got[0].Reject(false))
	must(got[1].Nack(false, false))
	must(channel.Close())
	empty(t.channel(), queue)
}

func deadLettered(channel *amqp.Channel, queue, origin, reason string, expiration any) string {
	got := get(channel, queue)
	deaths, _ := got.Headers["x-death"].([]any)
	if len(deaths) == 0 {
		fail("headers %v", got.Headers)
	}
	death := deaths[0].(amqp.Table)
	equal([]any{death["count"], death["reason"], death["queue"], death["exchange"], death["routing-keys"],
		death["original-expiration"]}, []any{int64(1), reason, origin, "", []any{origin}, expiration}, "x-death")
	if _, ok := death["time"].(time.Time); !ok {
		fail("x-death time %v", death["time"])
	}
	equal(got.Headers["x-first-death-reason"], reason, "x-first-death-reason")
	equal(got.Headers["x-first-death-queue"], origin, "x-first-death-queue")
	equal(got.Expiration, "", "expiration")
	return string(got.Body)
}

func (t *test) withDeadLetters(channel *amqp.Channel, more ...any) (queue, target string) {
	exchange := t.exchange(channel, "fanout")
	target = t.queue(channel)
	must(channel.QueueBind(target, "", exchange, false, nil))
	return t.queue(channel, append(more, "x-dead-letter-exchange", exchange)...), target
}

func consumeDeadLetter(t *test) {
	channel := t.channel()
	queue, target := t.withDeadLetters(channel)
	fill(channel, queue, 1)
	must(consume(channel, queue, "", false, nil).wait(1)[0].Reject(false))
	equal(deadLettered(channel, target, queue, "rejected", nil), "0", "body")
}

func consumeRedelivered(t *test) {
	connection := t.connect()
	channel := channelOf(connection)
	queue := t.queue(channel)
	fill(channel, queue, 5)
	consume(channel, queue, "", false, nil).wait(5)
	must(connection.Close())
	got := consume(t.channel(), queue, "", false, nil).wait(5)
	equal(bodies(got), numbers(0, 5), "bodies")
	redelivered(got, true)
}

func consumeRecover(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	fill(channel, queue, 3)
	c := consume(channel, queue, "", false, nil)
	c.wait(3)
	must(channel.Ack(1, false))
	must(channel.Recover(true))
	again := c.wait(5)[3:]
	list := bodies(again)
	sort.Strings(list)
	equal(list, numbers(1, 3), "bodies")
	redelivered(again, true)
}

func consumeQos(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	fill(channel, queue, 6)
	must(channel.Qos(3, 0, false))
	c := consume(channel, queue, "", false, nil)
	c.wait(3)
	c.quiet()
	must(channel.Ack(2, false))
	c.wait(4)
	c.quiet()
	must(channel.Ack(4, true))
	c.wait(6)
}

func consumeQosChannel(t *test) {
	channel := t.channel()
	one, other := t.classic(channel), t.classic(channel)
	fill(channel, one, 5)
	fill(channel, other, 5)
	must(channel.Qos(4, 0, true))
	a, b := consume(channel, one, "a", false, nil), consume(channel, other, "b", false, nil)
	total := func(wanted int) {
		end := time.After(deadline)
		for len(a.got)+len(b.got) < wanted {
			select {
			case delivery := <-a.in:
				a.got = append(a.got, delivery)
			case delivery := <-b.in:
				b.got = append(b.got, delivery)
			case <-end:
				fail("%d of %d deliveries", len(a.got)+len(b.got), wanted)
			}
		}
		a.quiet()
		b.quiet()
	}
	total(4)
	must(channel.Ack(1, false))
	total(5)
}

func consumeAutoAck(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	fill(channel, queue, 5)
	consume(channel, queue, "", true, nil).wait(5)
	must(channel.Close())
	empty(t.channel(), queue)
}

func consumePriority(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	low := consume(channel, queue, "low", true, amqp.Table{"x-priority": int32(-1)})
	high := consume(channel, queue, "high", true, amqp.Table{"x-priority": int32(10)})
	for i := 0; i < 20; i++ {
		publish(channel, "", queue, fmt.Sprint(i))
	}
	high.wait(20)
	low.quiet()
	must(channel.Cancel("high", false))
	publish(channel, "", queue, "x")
	low.wait(1)
}

func consumeSingleActive(t *test) {
	channel := t.channel()
	queue := t.queue(channel, "x-single-active-consumer", true)
	first, second := consume(channel, queue, "1", false, nil), consume(channel, queue, "2", false, nil)
	for i := 0; i < 5; i++ {
		publish(channel, "", queue, fmt.Sprint(i))
	}
	first.wait(5)
	second.quiet()
	must(channel.Ack(5, true))
	must(channel.Cancel("1", false))
	publish(channel, "", queue, "x")
	second.wait(1)
}

func consumeRoundRobin(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	must(channel.Qos(1, 0, false))
	all := make(chan amqp.Delivery)
	for i := 0; i < 3; i++ {
		c := consume(channel, queue, fmt.Sprint(i), false, nil)
		go func() {
			for delivery := range c.in {
				all <- delivery
			}
		}()
	}
	for i := 0; i < 30; i++ {
		publish(channel, "", queue, fmt.Sprint(i))
	}
	// Acks go out in the order of the deliveries: which of the goroutines above runs first must not
	// decide who is ready for the next message.
	shares, waiting := map[string]int{}, map[uint64]amqp.Delivery{}
	for tag := uint64(1); tag <= 30; {
		select {
		case delivery := <-all:
			waiting[delivery.DeliveryTag] = delivery
		case <-time.After(deadline):
			fail("%d of 30 deliveries", tag-1)
		}
		for delivery, found := waiting[tag]; found; delivery, found = waiting[tag] {
			shares[delivery.ConsumerTag]++
			must(delivery.Ack(false))
			tag++
		}
	}
	for i := 0; i < 3; i++ {
		if shares[fmt.Sprint(i)] < 5 {
			fail("shares %v", shares)
		}
	}
}

func getMessage(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	fill(channel, queue, 3)
	got, found, err := channel.Get(queue, false)
	must(err)
	equal([]any{found, got.DeliveryTag, got.Exchange, got.RoutingKey, got.Redelivered, got.MessageCount, string(got.Body)},
		[]any{true, uint64(1), "", queue, false, uint32(2), "0"}, "get-ok")
	must(got.Ack(false))
	must(channel.Close())
	waitCount(t.channel(), queue, 2)
}

func getEmpty(t *test) {
	channel := t.channel()
	empty(channel, t.queue(channel))
}

func getNoAck(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	fill(channel, queue, 1)
	equal(string(get(channel, queue).Body), "0", "body")
	must(channel.Close())
	empty(t.channel(), queue)
}

func ttlMessage(t *test) {
	channel := t.channel()
	queue, target := t.withDeadLetters(channel)
	send(channel, "", queue, amqp.Publishing{Expiration: "50", Body: []byte("x")})
	equal(deadLettered(channel, target, queue, "expired", "50"), "x", "body")
	waitCount(channel, queue, 0)
}

func ttlQueue(t *test) {
	channel := t.channel()
	queue, target := t.withDeadLetters(channel, "x-message-ttl", 50)
	publish(channel, "", queue, "x")
	equal(deadLettered(channel, target, queue, "expired", nil), "x", "body")
	waitCount(channel, queue, 0)
}

func ttlExpires(t *test) {
	connection := t.connect()
	queue := t.queue(channelOf(connection), "x-expires", 300)
	until("the queue to expire", func() bool {
		_, err := passive(channelOf(connection), queue)
		if err != nil {
			closed(err, 404, noQueue(queue))
			return true
		}
		// a passive declare is a use of the queue: leave it alone for longer than its lease
		<-time.After(600 * time.Millisecond)
		return false
	})
}

func limitDropHead(t *test) {
	channel := t.confirming()
	queue, target := t.withDeadLetters(channel, "x-max-length", 3)
	for i := 0; i < 5; i++ {
		confirmed(channel, "", queue, text(fmt.Sprint(i)))
	}
	for i := 0; i < 2; i++ {
		equal(deadLettered(channel, target, queue, "maxlen", nil), fmt.Sprint(i), "dead letter")
	}
	equal(arrived(channel, queue), numbers(2, 5), "left")
}

func limitRejectPublish(t *test) {
	channel := t.confirming()
	queue := t.queue(channel, "x-max-length", 3, "x-overflow", "reject-publish")
	number := 0
	for number < 200 && accepted(channel, "", queue, text(fmt.Sprint(number))) {
		number++
	}
	if number < 3 || number == 200 {
		fail("%d accepted", number)
	}
	equal(arrived(channel, queue), numbers(0, number), "bodies")
}

func priorityLevels(t *test) {
	channel := t.confirming()
	queue := t.classic(channel, "x-max-priority", 5)
	for i, priority := range []uint8{0, 5, 1, 9, 0, 1} {
		confirmed(channel, "", queue, amqp.Publishing{Priority: priority, Body: []byte(fmt.Sprint(i))})
	}
	equal(arrived(channel, queue), []string{"1", "3", "2", "5", "0", "4"}, "order")
}

func txCommit(t *test) {
	channel, other := t.channel(), t.channel()
	queue := t.queue(channel)
	must(channel.Tx())
	for i := 0; i < 3; i++ {
		publish(channel, "", queue, fmt.Sprint(i))
	}
	count(channel, queue)
	equal(count(other, queue), 0, "messages before commit")
	must(channel.TxCommit())
	waitCount(other, queue, 3)
}

func txRollback(t *test) {
	channel, other := t.channel(), t.channel()
	queue := t.queue(channel)
	must(channel.Tx())
	publish(channel, "", queue, "no")
	must(channel.TxRollback())
	publish(channel, "", queue, "yes")
	must(channel.TxCommit())
	equal(string(get(other, queue).Body), "yes", "body")
	empty(other, queue)
}

func txConfirm(t *test) {
	channel := t.channel()
	must(channel.Tx())
	closed(channel.Confirm(false), 406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode")
}

func txReturns(t *test) {
	channel := t.channel()
	exchange := t.exchange(channel, "direct")
	returns := channel.NotifyReturn(make(chan amqp.Return, 2))
	must(channel.Tx())
	must(channel.Publish(exchange, "nowhere", true, false, amqp.Publishing{Body: []byte("body")}))
	_, err := channel.QueueDeclare(t.queueName(), true, false, false, false, nil)
	must(err)
	equal(len(returns), 0, "returns before commit")
	must(channel.TxCommit())
	select {
	case back := <-returns:
		equal([]any{back.ReplyCode, string(back.Body)}, []any{uint16(312), "body"}, "return")
	case <-time.After(deadline):
		fail("not returned")
	}
}

func txAcks(t *test) {
	connection, other := t.connect(), t.channel()
	queue := t.queue(other)
	fill(other, queue, 2)
	for _, left := range []int{2, 0} {
		channel := channelOf(connection)
		must(channel.Tx())
		var last uint64
		for i := 0; i < 2; i++ {
			until("a message", func() bool {
				got, found, err := channel.Get(queue, false)
				must(err)
				last = got.DeliveryTag
				return found
			})
		}
		must(channel.Ack(last, true))
		if left == 2 {
			must(channel.TxRollback())
		} else {
			must(channel.TxCommit())
		}
		must(channel.Close())
		waitCount(other, queue, left)
	}
}

func txNotSelected(t *test) {
	closed(t.channel().TxCommit(), 406, "PRECONDITION_FAILED - channel is not transactional")
}

func rpcReplyGone(t *test) {
	client, server := t.channel(), t.channel()
	queue := t.queue(server)
	consume(client, "amq.rabbitmq.reply-to", "", true, nil)
	send(client, "", queue, amqp.Publishing{ReplyTo: "amq.rabbitmq.reply-to", Body: []byte("ping")})
	name := get(server, queue).ReplyTo
	found, err := passive(server, name)
	must(err)
	equal(found.Consumers, 1, "consumers")
	must(client.Close())
	_, err = passive(server, name)
	closed(err, 404, noQueue(name))
}

func rpcRefused(t *test) {
	_, err := t.channel().Consume("amq.rabbitmq.reply-to", "", false, false, false, false, nil)
	closed(err, 406, "PRECONDITION_FAILED - reply consumer cannot acknowledge")
	channel := t.channel()
	queue := t.queue(channel)
	closes(channel, 406, "PRECONDITION_FAILED - fast reply consumer does not exist", func() error {
		return channel.Publish("", queue, false, false, amqp.Publishing{ReplyTo: "amq.rabbitmq.reply-to"})
	})
}

func rpcDirect(t *test) {
	client, server := t.channel(), t.channel()
	queue := t.queue(server)
	replies := consume(client, "amq.rabbitmq.reply-to", "", true, nil)
	send(client, "", queue, amqp.Publishing{ReplyTo: "amq.rabbitmq.reply-to", CorrelationId: "7", Body: []byte("ping")})
	request := get(server, queue)
	if !strings.HasPrefix(request.ReplyTo, "amq.rabbitmq.reply-to.") {
		fail("reply-to %s", request.ReplyTo)
	}
	send(server, "", request.ReplyTo, amqp.Publishing{CorrelationId: "7", Body: []byte("pong")})
	reply := replies.wait(1)[0]
	equal([]any{reply.CorrelationId, string(reply.Body), reply.Exchange}, []any{"7", "pong", ""}, "reply")
}

func errorQosSize(t *test) {
	closed(t.channel().Qos(0, 10, false), 540, "NOT_IMPLEMENTED - prefetch_size!=0 (10)")
}

func errorRecover(t *test) {
	closed(t.channel().Recover(false), 540, "NOT_IMPLEMENTED - requeue=false")
}

func errorImmediate(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	closes(channel, 540, "NOT_IMPLEMENTED - immediate=true", func() error {
		return channel.Publish("", queue, false, true, amqp.Publishing{})
	})
}

func clusterDeclare(t *test) {
	channels := []*amqp.Channel{t.channel(), t.channel()}
	for i := 0; i < 20; i++ {
		count(channels[1-i%2], t.queue(channels[i%2]))
	}
}

func clusterBind(t *test) {
	one, other := t.confirming(), t.confirming()
	exchange, queue := t.exchange(one, "direct"), t.queue(other)
	returns := other.NotifyReturn(make(chan amqp.Return, 20))
	for i := 0; i < 20; i++ {
		must(one.QueueBind(queue, fmt.Sprint(i), exchange, false, nil))
		confirmed(other, exchange, fmt.Sprint(i), text(fmt.Sprint(i)))
	}
	equal(len(returns), 0, "returns")
	equal(arrived(one, queue), numbers(0, 20), "bodies")
}

func clusterConsume(t *test) {
	one, other, third := t.channel(), t.channel(), t.channel()
	queue := t.queue(third)
	c := consume(other, queue, "", false, nil)
	for i := 0; i < 2000; i++ {
		send(one, "", queue, amqp.Publishing{DeliveryMode: 2, Body: []byte(fmt.Sprint(i))})
	}
	equal(bodies(c.wait(2000)), numbers(0, 2000), "order")
	must(other.Ack(0, true))
	must(other.Close())
	empty(third, queue)
}

func clusterDelete(t *test) {
	one, other := t.channel(), t.connect()
	for i := 0; i < 10; i++ {
		queue := t.queue(one)
		_, err := one.QueueDelete(queue, false, false, false)
		must(err)
		_, err = passive(channelOf(other), queue)
		closed(err, 404, noQueue(queue))
	}
}
