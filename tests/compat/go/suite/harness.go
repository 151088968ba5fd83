// What the checks share: connections that rotate over the URIs, names, waiting, comparing errors.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"reflect"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const deadline = 10 * time.Second

type failure string

func fail(format string, args ...any) {
	panic(failure(fmt.Sprintf(format, args...)))
}

func must(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func equal(got, wanted any, what string) {
	if !reflect.DeepEqual(got, wanted) {
		text := fmt.Sprintf("%s: %v instead of %v", what, got, wanted)
		if len(text) > 600 {
			text = text[:600]
		}
		panic(failure(text))
	}
}

// test is one check: its connections, its names, and what it must clean up.
type test struct {
	uris      []string
	queueType string
	number    int
	serial    int
	opened    []*amqp.Connection
	queues    []string
	exchanges []string
}

func (t *test) uri() string {
	return t.uris[(t.number+len(t.opened))%len(t.uris)]
}

func (t *test) dial(config amqp.Config) (*amqp.Connection, error) {
	if config.Dial == nil {
		config.Dial = amqp.DefaultDial(deadline)
	}
	if config.Locale == "" {
		config.Locale = "en_US"
	}
	connection, err := amqp.DialConfig(t.uri(), config)
	if err == nil {
		t.opened = append(t.opened, connection)
	}
	return connection, err
}

func (t *test) connect() *amqp.Connection {
	connection, err := t.dial(amqp.Config{Heartbeat: 10 * time.Second})
	must(err)
	return connection
}

func channelOf(connection *amqp.Connection) *amqp.Channel {
	channel, err := connection.Channel()
	must(err)
	return channel
}

func (t *test) channel() *amqp.Channel {
	return channelOf(t.connect())
}

func (t *test) confirming() *amqp.Channel {
	channel := t.channel()
	must(channel.Confirm(false))
	return channel
}

func (t *test) newName(kind string) string {
	t.serial++
	return fmt.Sprintf("compat.go.%d.%d.%s%d", os.Getpid(), t.number, kind, t.serial)
}

func (t *test) queueName() string {
	name := t.newName("q")
	t.queues = append(t.queues, name)
	return name
}

func (t *test) exchangeName() string {
	name := t.newName("x")
	t.exchanges = append(t.exchanges, name)
	return name
}

func (t *test) args(more ...any) amqp.Table {
	args := amqp.Table{}
	if t.queueType == "quorum" {
		args["x-queue-type"] = "quorum"
	}
	for i := 0; i+1 < len(more); i += 2 {
		args[more[i].(string)] = more[i+1]
	}
	return args
}

// queue declares the queue: durable, of the type given on the command line.
func (t *test) queue(channel *amqp.Channel, more ...any) string {
	name := t.queueName()
	_, err := channel.QueueDeclare(name, true, false, false, false, t.args(more...))
	must(err)
	return name
}

func (t *test) classic(channel *amqp.Channel, more ...any) string {
	name := t.queueName()
	args := amqp.Table{}
	for i := 0; i+1 < len(more); i += 2 {
		args[more[i].(string)] = more[i+1]
	}
	_, err := channel.QueueDeclare(name, true, false, false, false, args)
	must(err)
	return name
}

func (t *test) exchange(channel *amqp.Channel, kind string) string {
	name := t.exchangeName()
	must(channel.ExchangeDeclare(name, kind, false, false, false, false, nil))
	return name
}

func (t *test) clean() {
	for _, connection := range t.opened {
		_ = connection.Close()
	}
	t.opened = nil
	if len(t.queues)+len(t.exchanges) == 0 {
		return
	}
	channel := t.channel()
	for _, name := range t.queues {
		_, err := channel.QueueDelete(name, false, false, false)
		must(err)
	}
	for _, name := range t.exchanges {
		must(channel.ExchangeDelete(name, false, false))
	}
	must(t.opened[0].Close())
}

// closed wants err to be the broker's closing with code and text ("…..." is a prefix, "...…" a part).
func closed(err error, code int, text string) {
	var closing *amqp.Error
	if !errors.As(err, &closing) || closing == nil {
		fail("no error %d but %v", code, err)
	}
	equal(closing.Code, code, "reply code")
	reason := closing.Reason
	switch {
	case strings.HasSuffix(text, "..."):
		if !strings.HasPrefix(reason, strings.TrimSuffix(text, "...")) {
			fail("reply text: %s", reason)
		}
	case strings.HasPrefix(text, "..."):
		if !strings.Contains(reason, strings.TrimPrefix(text, "...")) {
			fail("reply text: %s", reason)
		}
	default:
		equal(reason, text, "reply text")
	}
}

// closes runs what has no answer of its own and waits for the channel to be closed by the broker.
func closes(channel *amqp.Channel, code int, text string, act func() error) {
	notices := channel.NotifyClose(make(chan *amqp.Error, 1))
	must(act())
	select {
	case notice := <-notices:
		if notice == nil {
			fail("closed without an error")
		}
		closed(notice, code, text)
	case <-time.After(deadline):
		fail("no error %d", code)
	}
}

func until(what string, check func() bool) {
	end := time.Now().Add(deadline)
	for !check() {
		if time.Now().After(end) {
			fail("not within %v: %s", deadline, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func passive(channel *amqp.Channel, name string) (amqp.Queue, error) {
	return channel.QueueDeclarePassive(name, true, false, false, false, nil)
}

func count(channel *amqp.Channel, name string) int {
	queue, err := passive(channel, name)
	must(err)
	return queue.Messages
}

func waitCount(channel *amqp.Channel, name string, wanted int) {
	until(fmt.Sprintf("%d messages in %s", wanted, name), func() bool {
		return count(channel, name) == wanted
	})
}

func publish(channel *amqp.Channel, exchange, key, body string) {
	send(channel, exchange, key, amqp.Publishing{Body: []byte(body)})
}

func send(channel *amqp.Channel, exchange, key string, message amqp.Publishing) {
	must(channel.Publish(exchange, key, false, false, message))
}

// confirmed publishes and waits for the ack.
func confirmed(channel *amqp.Channel, exchange, key string, message amqp.Publishing) {
	if !accepted(channel, exchange, key, message) {
		fail("nacked")
	}
}

func accepted(channel *amqp.Channel, exchange, key string, message amqp.Publishing) bool {
	confirm, err := channel.PublishWithDeferredConfirm(exchange, key, true, false, message)
	must(err)
	select {
	case <-confirm.Done():
		return confirm.Acked()
	case <-time.After(deadline):
		fail("no confirm")
	}
	return false
}

func fill(channel *amqp.Channel, queue string, number int) {
	for i := 0; i < number; i++ {
		send(channel, "", queue, amqp.Publishing{DeliveryMode: 2, Body: []byte(fmt.Sprint(i))})
	}
	waitCount(channel, queue, number)
}

// get waits for a message of the queue and takes it.
func get(channel *amqp.Channel, queue string) amqp.Delivery {
	var got amqp.Delivery
	until("a message in "+queue, func() bool {
		delivery, found, err := channel.Get(queue, true)
		must(err)
		got = delivery
		return found
	})
	// RabbitMQ 3 adds it to what is taken from a quorum queue for the first time, 4 does not
	if counted, ok := got.Headers["x-delivery-count"]; ok && fmt.Sprint(counted) == "0" {
		delete(got.Headers, "x-delivery-count")
	}
	return got
}

// arrived takes all that is in the queue; to be called when all publishes are confirmed.
func arrived(channel *amqp.Channel, queue string) []string {
	bodies := []string{}
	for {
		delivery, found, err := channel.Get(queue, true)
		must(err)
		if !found {
			return bodies
		}
		bodies = append(bodies, string(delivery.Body))
	}
}

func empty(channel *amqp.Channel, queue string) {
	_, found, err := channel.Get(queue, true)
	must(err)
	if found {
		fail("a message is left")
	}
}

type consumer struct {
	tag string
	in  <-chan amqp.Delivery
	got []amqp.Delivery
}

func consume(channel *amqp.Channel, queue, tag string, autoAck bool, args amqp.Table) *consumer {
	in, err := channel.Consume(queue, tag, autoAck, false, false, false, args)
	must(err)
	return &consumer{tag: tag, in: in}
}

func (c *consumer) wait(number int) []amqp.Delivery {
	timeout := time.After(deadline)
	for len(c.got) < number {
		select {
		case delivery, open := <-c.in:
			if !open {
				fail("consumer ended after %d of %d deliveries", len(c.got), number)
			}
			c.got = append(c.got, delivery)
		case <-timeout:
			fail("%d of %d deliveries", len(c.got), number)
		}
	}
	return c.got
}

// quiet wants no delivery for a moment.
func (c *consumer) quiet() {
	select {
	case delivery, open := <-c.in:
		if open {
			fail("unexpected delivery %q", delivery.Body)
		}
	case <-time.After(300 * time.Millisecond):
	}
}

func bodies(deliveries []amqp.Delivery) []string {
	list := []string{}
	for _, delivery := range deliveries {
		list = append(list, string(delivery.Body))
	}
	return list
}

func redelivered(deliveries []amqp.Delivery, wanted bool) {
	for _, delivery := range deliveries {
		equal(delivery.Redelivered, wanted, "redelivered")
	}
}

func numbers(from, to int) []string {
	list := []string{}
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

func (t *test) run(name string, check func(*test)) (why string) {
	defer func() {
		if caught := recover(); caught != nil && why == "" {
			why = strings.Join(strings.Fields(fmt.Sprint(caught)), " ")
		}
	}()
	func() {
		defer func() {
			if caught := recover(); caught != nil {
				why = strings.Join(strings.Fields(fmt.Sprint(caught)), " ")
			}
		}()
		check(t)
	}()
	t.clean()
	return why
}

func main() {
	uris := flag.String("uris", "", "URIs, separated by commas")
	queueType := flag.String("queue-type", "classic", "classic or quorum")
	pattern := flag.String("check", "*", "only checks that match")
	flag.Parse()
	if *uris == "" || (*queueType != "classic" && *queueType != "quorum") {
		flag.Usage()
		os.Exit(2)
	}
	leftOut := " " + os.Getenv("COMPAT_EXCEPT") + " "
	wanted := func(name string) bool {
		matched, _ := path.Match(*pattern, name)
		return matched && !strings.Contains(leftOut, " "+name+" ")
	}
	chosen := 0
	for _, one := range checks {
		if wanted(one.name) {
			chosen++
		}
	}
	fmt.Printf("1..%d\n", chosen)
	code := 0
	for number, one := range checks {
		if !wanted(one.name) {
			continue
		}
		t := &test{uris: strings.Split(*uris, ","), queueType: *queueType, number: number}
		if why := t.run(one.name, one.run); why != "" {
			fmt.Printf("not ok %s: %s\n", one.name, why)
			code = 1
		} else {
			fmt.Printf("ok %s\n", one.name)
		}
	}
	os.Exit(code)
}
