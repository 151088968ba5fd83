// Routing and publishing.
package main

import (
	"fmt"
	"math/rand"
	"reflect"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func text(body string) amqp.Publishing { return amqp.Publishing{Body: []byte(body)} }

func routeDefault(t *test) {
	channel := t.confirming()
	one, other := t.queue(channel), t.queue(channel)
	confirmed(channel, "", one, text("1"))
	equal(arrived(channel, one), []string{"1"}, "bodies")
	equal(arrived(channel, other), []string{}, "bodies of the other")
}

func routeDirect(t *test) {
	channel := t.confirming()
	exchange := t.exchange(channel, "direct")
	keys := []string{"a", "a", "b"}
	queues := []string{}
	for _, key := range keys {
		queue := t.queue(channel)
		must(channel.QueueBind(queue, key, exchange, false, nil))
		queues = append(queues, queue)
	}
	for _, key := range []string{"a", "b", "c", "A"} {
		confirmed(channel, exchange, key, text(key))
	}
	for i, queue := range queues {
		equal(arrived(channel, queue), []string{keys[i]}, "bodies")
	}
}

func routeFanout(t *test) {
	channel := t.confirming()
	exchange := t.exchange(channel, "fanout")
	queues := []string{t.queue(channel), t.queue(channel), t.queue(channel)}
	for _, queue := range queues {
		must(channel.QueueBind(queue, "ignored", exchange, false, nil))
	}
	confirmed(channel, exchange, "any", text("1"))
	confirmed(channel, exchange, "", text("2"))
	for _, queue := range queues {
		equal(arrived(channel, queue), []string{"1", "2"}, "bodies")
	}
}

var topicKeys = []string{"", "a", "a.b", "a.b.c", "a..b", "b.a", "a.b.a.b", "x.y.z", "."}

var topicTable = map[string][]string{
	"#":     topicKeys,
	"*":     {"a"}, // the empty key has no words at all
	"a":     {"a"},
	"a.*":   {"a.b"},
	"a.#":   {"a", "a.b", "a.b.c", "a..b", "a.b.a.b"},
	"#.b":   {"a.b", "a..b", "a.b.a.b"},
	"*.b":   {"a.b"},
	"*.*":   {"a.b", "b.a", "."},
	"a.*.b": {"a..b"},
	"#.a.#": {"a", "a.b", "a.b.c", "a..b", "b.a", "a.b.a.b"},
	"*.#.*": {"a.b", "a.b.c", "a..b", "b.a", "a.b.a.b", "x.y.z", "."},
	"":      {""},
}

func routeTopic(t *test) {
	channel := t.confirming()
	exchange := t.exchange(channel, "topic")
	queues := map[string]string{}
	for pattern := range topicTable {
		queues[pattern] = t.queue(channel)
		must(channel.QueueBind(queues[pattern], pattern, exchange, false, nil))
	}
	for _, key := range topicKeys {
		confirmed(channel, exchange, key, text(key))
	}
	for pattern, wanted := range topicTable {
		equal(arrived(channel, queues[pattern]), wanted, fmt.Sprintf("pattern %q", pattern))
	}
}

func routeHeaders(match string, wanted []string) func(*test) {
	return func(t *test) {
		channel := t.confirming()
		exchange, queue := t.exchange(channel, "headers"), t.queue(channel)
		must(channel.QueueBind(queue, "", exchange, false, amqp.Table{"x-match": match, "a": int32(1), "b": "x"}))
		for _, one := range []struct {
			name    string
			headers amqp.Table
		}{
			{"both", amqp.Table{"a": int64(1), "b": "x"}}, {"one", amqp.Table{"a": int32(1)}}, {"other", amqp.Table{"b": "x"}},
			{"wrong", amqp.Table{"a": int32(2), "b": "y"}}, {"mixed", amqp.Table{"a": int16(1), "b": "y"}},
			{"more", amqp.Table{"a": int32(1), "b": "x", "c": true}}, {"none", nil}, {"type", amqp.Table{"a": "1", "b": "x"}},
		} {
			must(channel.Publish(exchange, "", false, false, amqp.Publishing{Headers: one.headers, Body: []byte(one.name)}))
		}
		confirmed(channel, "", queue, text("end"))
		equal(arrived(channel, queue), append(wanted, "end"), "bodies")
	}
}

func routeE2E(t *test) {
	channel := t.confirming()
	source, target, queue := t.exchange(channel, "topic"), t.exchange(channel, "fanout"), t.queue(channel)
	must(channel.QueueBind(queue, "", target, false, nil))
	must(channel.ExchangeBind(target, "a.*", source, false, nil))
	confirmed(channel, source, "a.b", text("1"))
	confirmed(channel, source, "b.b", text("2"))
	must(channel.ExchangeUnbind(target, "a.*", source, false, nil))
	confirmed(channel, source, "a.b", text("3"))
	equal(arrived(channel, queue), []string{"1"}, "bodies")
}

func routeOneCopy(t *test) {
	channel := t.confirming()
	exchange, queue := t.exchange(channel, "topic"), t.queue(channel)
	for _, key := range []string{"a.*", "*.b", "#", "a.b"} {
		must(channel.QueueBind(queue, key, exchange, false, nil))
	}
	confirmed(channel, exchange, "a.b", text("1"))
	equal(arrived(channel, queue), []string{"1"}, "bodies")
}

func routeCC(t *test) {
	channel := t.confirming()
	to, cc, bcc := t.queue(channel), t.queue(channel), t.queue(channel)
	confirmed(channel, "", to, amqp.Publishing{Headers: amqp.Table{"CC": []any{cc, to}, "BCC": []any{bcc}}})
	for _, queue := range []string{to, cc, bcc} {
		equal(get(channel, queue).Headers, amqp.Table{"CC": []any{cc, to}}, "headers in "+queue)
		empty(channel, queue)
	}
}

func confirmSingle(t *test) {
	channel := t.confirming()
	queue := t.queue(channel)
	for i := 0; i < 20; i++ {
		confirmed(channel, "", queue, amqp.Publishing{DeliveryMode: uint8(1 + i%2), Body: []byte(fmt.Sprint(i))})
	}
	equal(arrived(channel, queue), numbers(0, 20), "bodies")
}

func confirmBatch(t *test) {
	const number = 10000
	channel := t.confirming()
	queue := t.queue(channel)
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, number))
	for i := 0; i < number; i++ {
		send(channel, "", queue, amqp.Publishing{DeliveryMode: 2, Body: []byte(fmt.Sprint(i))})
	}
	timeout := time.After(60 * time.Second)
	for i := 1; i <= number; i++ {
		select {
		case confirm := <-confirms:
			equal(confirm, amqp.Confirmation{DeliveryTag: uint64(i), Ack: true}, "confirm")
		case <-timeout:
			fail("%d of %d confirms", i-1, number)
		}
	}
	waitCount(channel, queue, number)
}

func confirmUnroutable(t *test) {
	channel := t.confirming()
	confirm, err := channel.PublishWithDeferredConfirm(t.exchange(channel, "direct"), "nowhere", false, false, text("x"))
	must(err)
	select {
	case <-confirm.Done():
		equal(confirm.Acked(), true, "acked")
	case <-time.After(deadline):
		fail("no confirm")
	}
}

func publishMandatory(t *test) {
	channel := t.confirming()
	// no buffers: the order in which the two can be taken is the order in which they came
	returns := channel.NotifyReturn(make(chan amqp.Return))
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation))
	exchange := t.exchange(channel, "direct")
	must(channel.Publish(exchange, "nowhere", true, false, amqp.Publishing{MessageId: "m", Body: []byte("body")}))
	select {
	case back := <-returns:
		equal([]any{back.ReplyCode, back.ReplyText, back.Exchange, back.RoutingKey, back.MessageId, string(back.Body)},
			[]any{uint16(312), "NO_ROUTE", exchange, "nowhere", "m", "body"}, "return")
	case <-confirms:
		fail("confirmed before it was returned")
	case <-time.After(deadline):
		fail("not returned")
	}
	select {
	case confirm := <-confirms:
		equal(confirm.Ack, true, "ack")
	case <-time.After(deadline):
		fail("no confirm")
	}
}

func publishMandatoryRouted(t *test) {
	channel := t.confirming()
	returns := channel.NotifyReturn(make(chan amqp.Return, 1))
	queue := t.queue(channel)
	confirmed(channel, "", queue, text("x"))
	equal(len(returns), 0, "returns")
	equal(arrived(channel, queue), []string{"x"}, "bodies")
}

func publishUserID(t *test) {
	channel := t.confirming()
	queue := t.queue(channel)
	confirmed(channel, "", queue, amqp.Publishing{UserId: "guest"})
	closes(channel, 406, "PRECONDITION_FAILED - user_id property set to 'other' but authenticated user was 'guest'",
		func() error { return channel.Publish("", queue, false, false, amqp.Publishing{UserId: "other"}) })
}

func publishBadExpiration(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	closes(channel, 406, "PRECONDITION_FAILED - invalid expiration '12x'...",
		func() error { return channel.Publish("", queue, false, false, amqp.Publishing{Expiration: "12x"}) })
}

func publishEmpty(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	send(channel, "", queue, amqp.Publishing{MessageId: "m", Headers: amqp.Table{"a": int32(1)}})
	got := get(channel, queue)
	equal(len(got.Body), 0, "length")
	equal([]any{got.MessageId, got.Headers}, []any{"m", amqp.Table{"a": int32(1)}}, "properties")
}

func publishBodies(t *test) {
	connection := t.connect()
	channel := channelOf(connection)
	queue := t.queue(channel)
	limit := connection.Config.FrameSize
	sizes := []int{1, 2, 3 * limit}
	for d := -9; d <= 1; d++ {
		sizes = append(sizes, limit+d)
	}
	random := rand.New(rand.NewSource(1))
	for _, size := range sizes {
		body := make([]byte, size)
		random.Read(body)
		send(channel, "", queue, amqp.Publishing{Body: body})
		equal(reflect.DeepEqual(get(channel, queue).Body, body), true, fmt.Sprintf("body of %d bytes", size))
	}
}

func publishProperties(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	message := amqp.Publishing{ContentType: "text/plain", ContentEncoding: "utf-8", Headers: amqp.Table{"k": "v"},
		DeliveryMode: 2, Priority: 3, CorrelationId: "c-1", ReplyTo: "r", Expiration: "60000", MessageId: "m-1",
		Timestamp: time.Unix(1700000000, 0), Type: "t", UserId: "guest", AppId: "app", Body: []byte("x")}
	send(channel, "", queue, message)
	d := get(channel, queue)
	equal(amqp.Publishing{ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, Headers: d.Headers,
		DeliveryMode: d.DeliveryMode, Priority: d.Priority, CorrelationId: d.CorrelationId, ReplyTo: d.ReplyTo,
		Expiration: d.Expiration, MessageId: d.MessageId, Timestamp: d.Timestamp, Type: d.Type, UserId: d.UserId,
		AppId: d.AppId, Body: d.Body}, message, "properties")
}

func publishHeaders(t *test) {
	channel := t.channel()
	queue := t.queue(channel)
	headers := amqp.Table{"bool": true, "byte": byte(200), "int8": int8(-3), "int16": int16(-300),
		"int32": int32(-5), "int64": int64(-1) << 62, "float32": float32(1.5), "float64": 2.25,
		"decimal": amqp.Decimal{Scale: 2, Value: 314}, "text": "h\u00e9llo", "bytes": []byte{0, 255},
		"time": time.Unix(1700000000, 0), "void": nil, "table": amqp.Table{"a": amqp.Table{"b": []any{int32(1), "two"}}},
		"array": []any{int32(1), 2.5, "x", nil, true}, strings.Repeat("x", 128): "long key", "y": strings.Repeat("z", 5000)}
	send(channel, "", queue, amqp.Publishing{Headers: headers})
	got := get(channel, queue).Headers
	equal(len(got), len(headers), "number of headers")
	for key, value := range headers {
		equal(got[key], value, "header "+key)
	}
}

func publishOrder(t *test) {
	channel, other := t.channel(), t.channel()
	queue := t.queue(channel)
	got := consume(other, queue, "", true, nil)
	for i := 0; i < 5000; i++ {
		publish(channel, "", queue, fmt.Sprint(i))
	}
	equal(bodies(got.wait(5000)), numbers(0, 5000), "order")
}
