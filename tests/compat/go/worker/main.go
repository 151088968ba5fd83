// The publisher and the consumer of the kill test; see tests/real/README.md.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	tick        = 20 * time.Millisecond
	retryAfter  = 200 * time.Millisecond
	dialTimeout = 4 * time.Second
)

var (
	uris     = flag.String("uris", "", "URIs, separated by commas")
	queue    = flag.String("queue", "", "the queue")
	id       = flag.String("id", "", "name of this worker")
	first    = flag.Int("first", 0, "which URI to begin with")
	window   = flag.Int("window", 100, "unconfirmed messages")
	rate     = flag.Int("rate", 300, "messages per second")
	size     = flag.Int("size", 64, "bytes per message")
	prefetch = flag.Int("prefetch", 50, "prefetch count")
)

type worker struct {
	out     *bufio.Writer
	stop    chan struct{}
	stopped bool
	epoch   int
}

func (w *worker) say(words ...any) { fmt.Fprintln(w.out, words...) }

func (w *worker) poll() {
	select {
	case <-w.stop:
		w.stopped = true
	default:
	}
}

func oneLine(err error) string {
	text := strings.Join(strings.Fields(fmt.Sprint(err)), " ")
	if len(text) > 200 {
		text = text[:200]
	}
	return text
}

// connect opens the next connection and a channel on it.
func (w *worker) connect() (*amqp.Connection, *amqp.Channel, error) {
	w.epoch++
	list := strings.Split(*uris, ",")
	dial := func(network, address string) (net.Conn, error) {
		connection, err := net.DialTimeout(network, address, dialTimeout)
		if err == nil {
			// a process that is stopped accepts in the kernel and never answers
			err = connection.SetDeadline(time.Now().Add(dialTimeout))
		}
		return connection, err
	}
	connection, err := amqp.DialConfig(list[(*first+w.epoch)%len(list)],
		amqp.Config{Heartbeat: 4 * time.Second, Locale: "en_US", Dial: dial})
	if err != nil {
		return nil, nil, err
	}
	channel, err := connection.Channel()
	if err != nil {
		_ = connection.Close()
		return nil, nil, err
	}
	w.say("O", w.epoch, list[(*first+w.epoch)%len(list)])
	return connection, channel, nil
}

// forever runs one session after the other until one says that the worker is done.
func (w *worker) forever(session func(*amqp.Connection, *amqp.Channel) (bool, error), finish func()) {
	for {
		connection, channel, err := w.connect()
		done := false
		if err == nil {
			done, err = session(connection, channel)
			closed := make(chan struct{})
			go func() {
				_ = connection.CloseDeadline(time.Now().Add(dialTimeout))
				close(closed)
			}()
			select {
			case <-closed:
			case <-time.After(2 * dialTimeout):
			}
		}
		if done {
			_ = w.out.Flush()
			return
		}
		w.say("L", w.epoch, oneLine(err))
		if w.poll(); w.stopped && finish != nil {
			finish() // a consumer may stop without a connection, a publisher not without its confirms
			_ = w.out.Flush()
			return
		}
		_ = w.out.Flush()
		time.Sleep(retryAfter)
	}
}

type publisher struct {
	worker
	next     int
	again    []int
	pending  map[uint64]int
	returned map[int]bool
	begun    time.Time
}

func (p *publisher) send(channel *amqp.Channel, seq int, tag uint64) error {
	body := fmt.Sprintf("%s %d %d ", *id, p.epoch, seq)
	if len(body) < *size {
		body += strings.Repeat(".", *size-len(body))
	}
	p.pending[tag] = seq
	p.say("A", p.epoch, seq)
	return channel.Publish("", *queue, true, false, amqp.Publishing{DeliveryMode: 2, Body: []byte(body)})
}

func (p *publisher) confirm(c amqp.Confirmation) {
	seq, known := p.pending[c.DeliveryTag]
	if !known {
		return
	}
	delete(p.pending, c.DeliveryTag)
	if c.Ack && !p.returned[seq] {
		p.say("C", p.epoch, seq)
		return
	}
	delete(p.returned, seq)
	p.say("N", p.epoch, seq)
	p.again = append(p.again, seq)
}

// fillWindow sends what was nacked or lost before anything new.
func (p *publisher) fillWindow(channel *amqp.Channel, tag *uint64) error {
	for len(p.again) > 0 && len(p.pending) < *window {
		seq := p.again[0]
		p.again = p.again[1:]
		*tag++
		if err := p.send(channel, seq, *tag); err != nil {
			return err
		}
	}
	due := int(time.Since(p.begun).Seconds() * float64(*rate))
	for !p.stopped && len(p.again) == 0 && p.next <= due && len(p.pending) < *window {
		*tag++
		seq := p.next
		p.next++
		if err := p.send(channel, seq, *tag); err != nil {
			return err
		}
	}
	if p.next < due-*rate { // no bursts after a long pause
		p.begun = time.Now().Add(-time.Duration(float64(p.next) / float64(*rate) * float64(time.Second)))
	}
	return nil
}

// lost keeps what was not confirmed for the next connection.
func (p *publisher) lost() {
	for _, seq := range p.pending {
		p.again = append(p.again, seq)
	}
	sort.Ints(p.again)
	p.pending = map[uint64]int{}
}

func (p *publisher) session(_ *amqp.Connection, channel *amqp.Channel) (bool, error) {
	defer p.lost()
	p.pending, p.returned = map[uint64]int{}, map[int]bool{}
	closing := channel.NotifyClose(make(chan *amqp.Error, 1))
	// returns come before their confirm; buffers hold whatever can be outstanding
	returns := channel.NotifyReturn(make(chan amqp.Return, *window))
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, *window))
	if err := channel.Confirm(false); err != nil {
		return false, err
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	tag := uint64(0)
	takeReturns := func() {
		for {
			select {
			case back, open := <-returns:
				if !open {
					return
				}
				seq, _ := strconv.Atoi(strings.Fields(string(back.Body))[2])
				p.returned[seq] = true
			default:
				return
			}
		}
	}
	for {
		select {
		case err := <-closing:
			return false, fmt.Errorf("closed: %v", err)
		case c, open := <-confirms:
			takeReturns()
			if open {
				p.confirm(c)
			} else {
				return false, fmt.Errorf("closed: %v", <-closing)
			}
		case <-ticker.C:
			p.poll()
			if err := p.fillWindow(channel, &tag); err != nil {
				return false, err
			}
			_ = p.out.Flush()
			if p.stopped && len(p.pending) == 0 && len(p.again) == 0 {
				p.say("DONE", p.next-1)
				return true, nil
			}
		}
	}
}

type consumer struct {
	worker
	number int
}

func (c *consumer) session(_ *amqp.Connection, channel *amqp.Channel) (bool, error) {
	if err := channel.Qos(*prefetch, 0, false); err != nil {
		return false, err
	}
	deliveries, err := channel.Consume(*queue, "", false, false, false, false, nil)
	if err != nil {
		return false, err
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case delivery, open := <-deliveries:
			if !open {
				return false, fmt.Errorf("cancelled or closed")
			}
			words := strings.Fields(string(delivery.Body))
			flag := 0
			if delivery.Redelivered {
				flag = 1
			}
			c.say("D", c.epoch, words[0], words[1], words[2], flag)
			c.number++
			if err := delivery.Ack(false); err != nil {
				return false, err
			}
		case <-ticker.C:
			_ = c.out.Flush()
			c.poll()
			if c.stopped {
				c.say("DONE", c.number)
				return true, nil
			}
		}
	}
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: worker publisher|consumer --uris ... --queue ... --id ...")
		os.Exit(2)
	}
	mode := os.Args[1]
	_ = flag.CommandLine.Parse(os.Args[2:])
	base := worker{out: bufio.NewWriter(os.Stdout), stop: make(chan struct{})}
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		close(base.stop)
	}()
	if mode == "publisher" {
		p := &publisher{worker: base, next: 1, begun: time.Now()}
		p.forever(p.session, nil)
	} else {
		c := &consumer{worker: base}
		c.forever(c.session, func() { c.say("DONE", c.number) })
	}
}
