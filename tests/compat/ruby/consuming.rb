# Consuming, getting, expiry, limits, transactions, several nodes.
def bad_ack(tag, times)
  lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    t.fill(ch, q, 1)
    t.consume(ch, q).wait(1)
    t.closes(ch, 406, "PRECONDITION_FAILED - unknown delivery tag #{tag}") do
      times.times { ch.basic_ack(tag) }
    end
  end
end

def dead_lettered(t, ch, q, origin, reason, expiration = nil)
  _info, properties, body = t.get(ch, q)
  headers = properties[:headers]
  death = headers['x-death'][0]
  t.expect(death['time'].is_a?(Time), 'x-death time')
  wanted = { 'count' => 1, 'reason' => reason, 'queue' => origin, 'exchange' => '', 'routing-keys' => [origin] }
  wanted['original-expiration'] = expiration if expiration
  t.equal(death.reject { |key, _value| key == 'time' }, wanted, 'x-death')
  t.equal([headers['x-first-death-reason'], headers['x-first-death-queue']], [reason, origin], 'x-first-death')
  t.equal(properties[:expiration], nil, 'expiration')
  body
end

def with_dead_letters(t, ch, more = {})
  x, target = t.exchange(ch, 'fanout'), t.queue(ch)
  ch.queue_bind(target, x)
  [t.queue(ch, { 'x-dead-letter-exchange' => x }.merge(more)), target]
end

def redelivered(messages)
  messages.map { |info, _properties, _body| info.redelivered? }
end

CONSUMING = {
  'consume.ack' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    t.fill(ch, q, 5)
    consumer = t.consume(ch, q)
    consumer.wait(5)
    t.equal(consumer.got.map { |i, _p, _b| [i.delivery_tag.to_i, i.consumer_tag, i.redelivered?] },
            (1..5).map { |i| [i, consumer.consumer_tag, false] }, 'deliveries')
    t.equal(consumer.bodies, t.numbers(0, 5), 'bodies')
    (1..5).each { |tag| ch.basic_ack(tag) }
    ch.close
    t.empty(t.channel, q)
  end,
  'consume.tag-reuse' => lambda do |t|
    errors = Check::QuietThread.new
    connection = t.connect(session_error_handler: errors, continuation_timeout: 3000)
    ch = connection.create_channel
    q = t.queue(ch)
    t.consume(ch, q, tag: 'T')
    begin
      t.consume(ch, q, tag: 'T')
    rescue Timeout::Error, Bunny::Exception
      next # refused by the library or by the broker; how the broker's text arrives is a race in the library
    end
    t.wait_until('a connection error') { !errors.errors.empty? || connection.closed? }
  end,
  'consume.exclusive' => lambda do |t|
    ch = t.channel
    q = t.classic(ch)
    t.consume(ch, q, exclusive: true)
    other = t.channel
    t.closed(403, "ACCESS_REFUSED - queue '#{q}' in vhost '/' in exclusive use") { t.consume(other, q) }
  end,
  'consume.missing-queue' => lambda do |t|
    ch, q = t.channel, t.queue_name
    t.closed(404, t.no_queue(q)) { t.consume(ch, q) }
  end,
  'consume.cancel' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    t.fill(ch, q, 2)
    consumer = t.consume(ch, q)
    consumer.wait(2)
    # the library stops its worker threads with the last consumer: cancel by the method itself
    ch.basic_cancel(consumer.consumer_tag)
    t.publish(ch, '', q, 'late')
    t.wait_count(ch, q, 1)
    consumer.quiet
    ch.basic_ack(2, true)
    ch.close
    t.wait_count(t.channel, q, 1)
  end,
  'consume.cancel-notify' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    consumer = t.consume(ch, q)
    t.channel.queue_delete(q)
    t.wait_until('a cancel') { !consumer.cancels.empty? }
    consumer.quiet
    t.equal(consumer.cancels, [consumer.consumer_tag], 'cancels')
  end,
  'consume.ack-multiple' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    t.fill(ch, q, 10)
    t.consume(ch, q).wait(10)
    ch.basic_ack(7, true)
    ch.close
    ch = t.channel
    t.wait_count(ch, q, 3)
    t.equal(t.arrived(ch, q), t.numbers(7, 10), 'left')
  end,
  'consume.ack-unknown' => bad_ack(99, 1),
  'consume.ack-twice' => bad_ack(1, 2),
  'consume.nack-requeue' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    t.fill(ch, q, 1)
    consumer = t.consume(ch, q)
    consumer.wait(1)
    ch.basic_nack(1, false, true)
    info, _properties, body = consumer.wait(2)[1]
    t.equal([info.redelivered?, info.delivery_tag.to_i, body], [true, 2, '0'], 'second delivery')
    ch.basic_ack(2)
  end,
  'consume.delivery-count' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    t.fill(ch, q, 1)
    consumer = t.consume(ch, q)
    consumer.wait(1)
    ch.basic_nack(1, false, true)
    headers = consumer.wait(2)[1][1][:headers] || {}
    t.equal(headers['x-delivery-count'], t.args['x-queue-type'] ? 1 : nil, 'x-delivery-count')
    ch.basic_ack(2)
  end,
  'consume.nack-multiple' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    t.fill(ch, q, 5)
    consumer = t.consume(ch, q)
    consumer.wait(5)
    ch.basic_nack(5, true, true)
    again = consumer.wait(10)[5..]
    t.equal(again.map { |_i, _p, body| body }.sort, t.numbers(0, 5), 'bodies')
    t.equal(redelivered(again), [true] * 5, 'redelivered')
  end,
  'consume.reject-drop' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    t.fill(ch, q, 2)
    t.consume(ch, q).wait(2)
    ch.basic_reject(1, false)
    ch.basic_nack(2, false, false)
    ch.close
    t.empty(t.channel, q)
  end,
  'consume.dead-letter' => lambda do |t|
    ch = t.channel
    q, target = with_dead_letters(t, ch)
    t.fill(ch, q, 1)
    t.consume(ch, q).wait(1)
    ch.basic_reject(1, false)
    t.equal(dead_lettered(t, ch, target, q, 'rejected'), '0', 'body')
  end,
  'consume.redelivered-on-close' => lambda do |t|
    connection = t.connect
    ch = connection.create_channel
    q = t.queue(ch)
    t.fill(ch, q, 5)
    t.consume(ch, q).wait(5)
    connection.close
    consumer = t.consume(t.channel, q)
    consumer.wait(5)
    t.equal(consumer.bodies, t.numbers(0, 5), 'bodies')
    t.equal(redelivered(consumer.got), [true] * 5, 'redelivered')
  end,
  'consume.recover' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    t.fill(ch, q, 3)
    consumer = t.consume(ch, q)
    consumer.wait(3)
    ch.basic_ack(1)
    ch.basic_recover(true)
    again = consumer.wait(5)[3..]
    t.equal(again.map { |_i, _p, body| body }.sort, t.numbers(1, 3), 'bodies')
    t.equal(redelivered(again), [true] * 2, 'redelivered')
  end,
  'consume.qos-consumer' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    t.fill(ch, q, 6)
    ch.basic_qos(3)
    consumer = t.consume(ch, q)
    consumer.wait(3)
    consumer.quiet
    ch.basic_ack(2)
    consumer.wait(4)
    consumer.quiet
    ch.basic_ack(4, true)
    consumer.wait(6)
  end,
  'consume.qos-channel' => lambda do |t|
    ch = t.channel
    queues = Array.new(2) { t.classic(ch) }
    queues.each { |q| t.fill(ch, q, 5) }
    ch.basic_qos(4, true)
    consumers = queues.map { |q| t.consume(ch, q) }
    total = -> { consumers.sum { |c| c.got.length } }
    [4, 5].each do |number|
      t.wait_until("#{number} deliveries") { total.call >= number }
      consumers.each(&:quiet)
      t.equal(total.call, number, 'deliveries')
      ch.basic_ack(number - 3)
    end
  end,
  'consume.auto-ack' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    t.fill(ch, q, 5)
    t.consume(ch, q, manual_ack: false).wait(5)
    ch.close
    t.empty(t.channel, q)
  end,
  'consume.priority' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    low = t.consume(ch, q, manual_ack: false, arguments: { 'x-priority' => -1 })
    high = t.consume(ch, q, manual_ack: false, arguments: { 'x-priority' => 10 })
    20.times { |i| t.publish(ch, '', q, i) }
    high.wait(20)
    t.equal(low.got.length, 0, 'deliveries to the lower priority')
    high.cancel
    t.publish(ch, '', q, 'x')
    low.wait(1)
  end,
  'consume.single-active' => lambda do |t|
    ch = t.channel
    q = t.queue(ch, 'x-single-active-consumer' => true)
    first, second = t.consume(ch, q), t.consume(ch, q)
    5.times { |i| t.publish(ch, '', q, i) }
    first.wait(5)
    second.quiet
    t.equal(second.got.length, 0, 'deliveries to the second')
    ch.basic_ack(5, true)
    first.cancel
    t.publish(ch, '', q, 'x')
    second.wait(1)
  end,
  'consume.round-robin' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    ch.basic_qos(1)
    consumers = Array.new(3) do
      consumer = t.consume(ch, q)
      consumer
    end
    acked = 0
    30.times { |i| t.publish(ch, '', q, i) }
    t.wait_until('30 deliveries') do
      tags = consumers.flat_map { |c| c.got.map { |i, _p, _b| i.delivery_tag.to_i } }.sort
      (acked + 1..tags.length).each { |tag| ch.basic_ack(tag) if tags.include?(tag) }
      acked = tags.length
      acked == 30
    end
    shares = consumers.map { |c| c.got.length }
    t.expect(shares.min >= 5, "shares #{shares}")
  end,

  'get.message' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    t.fill(ch, q, 3)
    info, _properties, body = ch.basic_get(q, manual_ack: true)
    t.equal([info.delivery_tag.to_i, info.exchange, info.routing_key, info.redelivered, info.message_count, body],
            [1, '', q, false, 2, '0'], 'get-ok')
    ch.basic_ack(1)
    ch.close
    t.wait_count(t.channel, q, 2)
  end,
  'get.empty' => lambda do |t|
    ch = t.channel
    t.empty(ch, t.queue(ch))
  end,
  'get.no-ack' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    t.fill(ch, q, 1)
    t.equal(t.get(ch, q)[2], '0', 'body')
    ch.close
    t.empty(t.channel, q)
  end,

  'ttl.message' => lambda do |t|
    ch = t.channel
    q, target = with_dead_letters(t, ch)
    t.publish(ch, '', q, 'x', expiration: '50')
    t.equal(dead_lettered(t, ch, target, q, 'expired', '50'), 'x', 'body')
    t.wait_count(ch, q, 0)
  end,
  'ttl.queue' => lambda do |t|
    ch = t.channel
    q, target = with_dead_letters(t, ch, 'x-message-ttl' => 50)
    t.publish(ch, '', q, 'x')
    t.equal(dead_lettered(t, ch, target, q, 'expired'), 'x', 'body')
    t.wait_count(ch, q, 0)
  end,
  'ttl.expires' => lambda do |t|
    connection = t.connect
    q = t.queue(connection.create_channel, 'x-expires' => 300)
    t.wait_until('the queue to expire') do
      begin
        connection.create_channel.queue_declare(q, passive: true)
        # a passive declare is a use of the queue: leave it alone for longer than its lease
        sleep 0.6
        false
      rescue Bunny::NotFound => error
        t.compare(error.channel_close, 404, t.no_queue(q))
        true
      end
    end
  end,
  'limit.drop-head' => lambda do |t|
    ch = t.confirming
    q, target = with_dead_letters(t, ch, 'x-max-length' => 3)
    5.times { |i| t.confirmed(ch, '', q, i) }
    t.equal(Array.new(2) { dead_lettered(t, ch, target, q, 'maxlen') }, %w[0 1], 'dead letters')
    t.equal(t.arrived(ch, q), t.numbers(2, 5), 'left')
  end,
  'limit.reject-publish' => lambda do |t|
    ch = t.confirming
    q = t.queue(ch, 'x-max-length' => 3, 'x-overflow' => 'reject-publish')
    number = 0
    number += 1 while number < 200 && t.accepted(ch, '', q, number)
    t.expect(number >= 3 && number < 200, "#{number} accepted")
    t.equal(t.arrived(ch, q), t.numbers(0, number), 'bodies')
  end,
  'priority.levels' => lambda do |t|
    ch = t.confirming
    q = t.classic(ch, 'x-max-priority' => 5)
    [0, 5, 1, 9, nil, 1].each_with_index { |p, i| t.confirmed(ch, '', q, i, p ? { priority: p } : {}) }
    t.equal(t.arrived(ch, q), %w[1 3 2 5 0 4], 'order')
  end,

  'tx.commit' => lambda do |t|
    ch, other = t.channel, t.channel
    q = t.queue(ch)
    ch.tx_select
    3.times { |i| t.publish(ch, '', q, i) }
    t.count(ch, q)
    t.equal(t.count(other, q), 0, 'messages before commit')
    ch.tx_commit
    t.wait_count(other, q, 3)
  end,
  'tx.rollback' => lambda do |t|
    ch, other = t.channel, t.channel
    q = t.queue(ch)
    ch.tx_select
    t.publish(ch, '', q, 'no')
    ch.tx_rollback
    t.publish(ch, '', q, 'yes')
    ch.tx_commit
    t.equal(t.get(other, q)[2], 'yes', 'body')
    t.empty(other, q)
  end,
  'tx.confirm-refused' => lambda do |t|
    ch = t.channel
    ch.tx_select
    t.closed(406, 'PRECONDITION_FAILED - cannot switch from tx to confirm mode') { ch.confirm_select }
  end,
  'tx.returns' => lambda do |t|
    ch, returns = t.channel, []
    x = t.exchange(ch, 'direct')
    Bunny::Exchange.new(ch, :direct, x, no_declare: true).on_return { |info, _p, body| returns << [info.reply_code, body] }
    ch.tx_select
    t.publish(ch, x, 'nowhere', 'body', mandatory: true)
    t.queue(ch)
    t.equal(returns, [], 'returns before commit')
    ch.tx_commit
    t.wait_until('a return') { !returns.empty? }
    t.equal(returns, [[312, 'body']], 'returns')
  end,
  'tx.acks' => lambda do |t|
    connection, other = t.connect, t.channel
    q = t.queue(other)
    t.fill(other, q, 2)
    [2, 0].each do |left|
      ch, last = connection.create_channel, nil
      ch.tx_select
      2.times do
        t.wait_until('a message') do
          info, = ch.basic_get(q, manual_ack: true)
          last = info.delivery_tag.to_i if info
          info
        end
      end
      ch.basic_ack(last, true)
      left == 2 ? ch.tx_rollback : ch.tx_commit
      ch.close
      t.wait_count(other, q, left)
    end
  end,
  'tx.not-selected' => lambda do |t|
    ch = t.channel
    t.closed(406, 'PRECONDITION_FAILED - channel is not transactional') { ch.tx_commit }
  end,
  'rpc.direct-reply-to' => lambda do |t|
    client, server = t.channel, t.channel
    q = t.queue(server)
    replies = t.consume(client, 'amq.rabbitmq.reply-to', manual_ack: false)
    t.publish(client, '', q, 'ping', reply_to: 'amq.rabbitmq.reply-to', correlation_id: '7')
    reply_to = t.get(server, q)[1][:reply_to]
    t.expect(reply_to.start_with?('amq.rabbitmq.reply-to.'), reply_to)
    t.publish(server, '', reply_to, 'pong', correlation_id: '7')
    info, properties, body = replies.wait(1)[0]
    t.equal([properties[:correlation_id], body, info.exchange], ['7', 'pong', ''], 'reply')
  end,
  'rpc.reply-gone' => lambda do |t|
    client, server = t.channel, t.channel
    q = t.queue(server)
    t.consume(client, 'amq.rabbitmq.reply-to', manual_ack: false)
    t.publish(client, '', q, 'ping', reply_to: 'amq.rabbitmq.reply-to')
    name = t.get(server, q)[1][:reply_to]
    t.equal(server.queue_declare(name, passive: true).consumer_count, 1, 'consumers')
    client.close
    t.closed(404, t.no_queue(name)) { server.queue_declare(name, passive: true) }
  end,
  'rpc.refused' => lambda do |t|
    acking = t.channel
    t.closed(406, 'PRECONDITION_FAILED - reply consumer cannot acknowledge') do
      acking.basic_consume('amq.rabbitmq.reply-to', 'tag', false)
    end
    ch = t.channel
    q = t.queue(ch)
    t.closes(ch, 406, 'PRECONDITION_FAILED - fast reply consumer does not exist') do
      t.publish(ch, '', q, 'x', reply_to: 'amq.rabbitmq.reply-to')
    end
  end,

  'cluster.declare-there' => lambda do |t|
    channels = [t.channel, t.channel]
    20.times { |i| t.count(channels[1 - i % 2], t.queue(channels[i % 2])) }
  end,
  'cluster.bind-there' => lambda do |t|
    one, other = t.confirming, t.confirming
    x, q, returns = t.exchange(one, 'direct'), t.queue(other), []
    Bunny::Exchange.new(other, :direct, x, no_declare: true).on_return { |*r| returns << r }
    20.times do |i|
      one.queue_bind(q, x, routing_key: i.to_s)
      t.confirmed(other, x, i.to_s, i)
    end
    t.equal(returns, [], 'returns')
    t.equal(t.arrived(one, q), t.numbers(0, 20), 'bodies')
  end,
  'cluster.consume-there' => lambda do |t|
    one, other, third = t.channel, t.channel, t.channel
    q = t.queue(third)
    consumer = t.consume(other, q)
    2000.times { |i| t.publish(one, '', q, i, delivery_mode: 2) }
    consumer.wait(2000)
    t.expect(consumer.bodies == t.numbers(0, 2000), 'order')
    other.basic_ack(0, true)
    other.close
    t.empty(third, q)
  end,
  'cluster.delete-there' => lambda do |t|
    one, other = t.channel, t.connect
    10.times do
      q = t.queue(one)
      one.queue_delete(q)
      ch = other.create_channel
      t.closed(404, t.no_queue(q)) { ch.queue_declare(q, passive: true) }
    end
  end
}.freeze
