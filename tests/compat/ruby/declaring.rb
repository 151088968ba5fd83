# Connections, channels, exchanges and queues.
DECLARING = {
  'connect.good' => lambda do |t|
    connection = t.connect
    connection.create_channel.close
    connection.close
  end,
  'connect.bad-password' => lambda do |t|
    begin
      t.connect(password: 'wrong')
    rescue Bunny::AuthenticationFailureError
      next
    end
    raise Failed, 'accepted'
  end,
  'connect.bad-vhost' => lambda do |t|
    begin
      t.connect({ session_error_handler: Thread.current }, '/no-such')
    rescue Bunny::NotAllowedError => error
      t.expect(error.message.include?('NOT_ALLOWED - vhost no-such not found'), error.message)
      next
    end
    raise Failed, 'accepted'
  end,
  'connect.properties' => lambda do |t|
    properties = t.connect.server_properties
    t.expect(properties['product'], 'no product')
    t.expect(properties['version'] =~ /\A\d+\.\d+\.\d+/, 'no version')
    %w[publisher_confirms exchange_exchange_bindings basic.nack consumer_cancel_notify connection.blocked
       consumer_priorities authentication_failure_close per_consumer_qos direct_reply_to].each do |name|
      t.equal(properties['capabilities'][name], true, "capability #{name}")
    end
  end,
  'connect.frame-max' => lambda do |t|
    ch = t.connect(frame_max: 8192).create_channel
    q = t.queue(ch)
    body = Random.new(1).bytes(100_000)
    t.publish(ch, '', q, body)
    t.expect(t.get(ch, q)[2].b == body, 'body')
  end,
  'connect.heartbeat' => lambda do |t|
    connection = t.connect(heartbeat: 1)
    sleep 4
    t.expect(connection.open?, 'closed')
    t.queue(connection.create_channel)
  end,
  'channel.many' => lambda do |t|
    connection = t.connect
    channels = Array.new(100) { connection.create_channel }
    q = t.queue(channels[0])
    channels.each { |ch| t.publish(ch, '', q, 'x') }
    t.wait_count(channels[50], q, 100)
  end,
  'channel.reopen' => lambda do |t|
    connection = t.connect
    200.times { connection.create_channel.close }
    t.queue(connection.create_channel)
  end,
  'channel.error-keeps-connection' => lambda do |t|
    connection = t.connect
    one, other, name = connection.create_channel, connection.create_channel, t.queue_name
    t.closed(404, t.no_queue(name)) { one.queue_declare(name, passive: true) }
    t.queue(other)
    t.queue(connection.create_channel)
  end,

  'exchange.types' => lambda do |t|
    ch = t.channel
    %w[direct fanout topic headers].each do |kind|
      x = t.exchange(ch, kind, durable: true)
      ch.exchange_declare(x, kind, durable: true)
      ch.exchange_delete(x)
      t.missing_exchange(x)
    end
  end,
  'exchange.passive' => lambda do |t|
    ch = t.channel
    ch.exchange_declare(t.exchange(ch, 'direct'), 'direct', passive: true)
    ch.exchange_declare('amq.topic', 'topic', passive: true)
  end,
  'exchange.passive-missing' => ->(t) { t.missing_exchange(t.exchange_name) },
  'exchange.inequivalent' => lambda do |t|
    ch = t.channel
    x = t.exchange(ch, 'direct')
    t.closed(406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange '#{x}' in vhost '/': " \
                  "received 'fanout' but current is 'direct'") { ch.exchange_declare(x, 'fanout') }
  end,
  'exchange.unknown-type' => lambda do |t|
    errors = Check::QuietThread.new
    connection = t.connect(session_error_handler: errors, continuation_timeout: 3000)
    begin
      connection.create_channel.exchange_declare(t.exchange_name, 'no-such-type')
    rescue Bunny::PreconditionFailed => error
      t.expect(error.message.include?('exchange type'), error.message)
      next
    rescue Timeout::Error, Bunny::Exception
      t.wait_until('a connection error') { !errors.errors.empty? || connection.closed? }
      error = errors.errors.empty? ? nil : errors.errors.pop
      t.expect(error.nil? || error.message.include?('exchange type') || error.is_a?(Bunny::Exception), error.inspect)
      next
    end
    raise Failed, 'accepted'
  end,
  'exchange.reserved-name' => lambda do |t|
    ch = t.channel
    t.closed(403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'") do
      ch.exchange_declare('amq.mine', 'direct')
    end
  end,
  'exchange.default-refused' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    t.closed(403, 'ACCESS_REFUSED - operation not permitted on the default exchange') do
      ch.queue_bind(q, '', routing_key: 'k')
    end
  end,
  'exchange.delete-missing' => ->(t) { t.channel.exchange_delete(t.exchange_name) },
  'exchange.delete-if-unused' => lambda do |t|
    ch = t.channel
    x, q = t.exchange(ch, 'direct'), t.queue(ch)
    ch.queue_bind(q, x, routing_key: 'k')
    t.closed(406, "PRECONDITION_FAILED - exchange '#{x}' in vhost '/' in use") { ch.exchange_delete(x, if_unused: true) }
    ch = t.channel
    ch.queue_unbind(q, x, routing_key: 'k')
    ch.exchange_delete(x, if_unused: true)
    t.missing_exchange(x)
  end,
  'exchange.auto-delete' => lambda do |t|
    ch = t.channel
    x, q = t.exchange(ch, 'direct', auto_delete: true), t.queue(ch)
    ch.queue_bind(q, x, routing_key: 'k')
    ch.queue_unbind(q, x, routing_key: 'k')
    t.missing_exchange(x)
  end,
  'exchange.publish-missing' => lambda do |t|
    ch, x = t.channel, t.exchange_name
    t.closes(ch, 404, t.no_exchange(x)) { t.publish(ch, x, 'k', 'x') }
  end,
  'exchange.internal' => lambda do |t|
    ch = t.channel
    x = t.exchange(ch, 'direct', internal: true)
    t.closes(ch, 403, "ACCESS_REFUSED - cannot publish to internal exchange '#{x}' in vhost '/'") do
      t.publish(ch, x, 'k', 'x')
    end
  end,
  'exchange.alternate' => lambda do |t|
    ch = t.confirming
    alternate, q = t.exchange(ch, 'fanout'), t.queue(ch)
    ch.queue_bind(q, alternate)
    x = t.exchange(ch, 'direct', arguments: { 'alternate-exchange' => alternate })
    returns = []
    back = Bunny::Exchange.new(ch, :direct, x, no_declare: true)
    back.on_return { |*r| returns << r }
    t.confirmed(ch, x, 'nowhere', 'x')
    t.equal(returns, [], 'returns')
    t.equal(t.arrived(ch, q), ['x'], 'bodies')
  end,

  'queue.named' => lambda do |t|
    ch, q = t.channel, t.queue_name
    2.times do
      ok = ch.queue_declare(q, durable: true, arguments: t.args)
      t.equal([ok.queue, ok.message_count, ok.consumer_count], [q, 0, 0], 'declare-ok')
    end
  end,
  'queue.server-named' => lambda do |t|
    ch = t.channel
    names = Array.new(2) { ch.queue_declare('', exclusive: true).queue }
    t.expect(names[0] != names[1] && names.all? { |n| n.start_with?('amq.gen-') }, names.inspect)
  end,
  'queue.passive-missing' => ->(t) { t.missing_queue(t.queue_name) },
  'queue.inequivalent' => lambda do |t|
    ch = t.channel
    q = t.classic(ch)
    t.closed(406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '#{q}' in vhost '/': " \
                  "received 'false' but current is 'true'") { ch.queue_declare(q, durable: false) }
  end,
  'queue.inequivalent-arg' => lambda do |t|
    ch = t.channel
    q = t.queue(ch, 'x-max-length' => 10)
    t.closed(406, "...inequivalent arg 'x-max-length' for queue '#{q}' in vhost '/'") do
      ch.queue_declare(q, durable: true, arguments: t.args('x-max-length' => 11))
    end
  end,
  'queue.bad-arg' => lambda do |t|
    ch, q = t.channel, t.queue_name
    t.closed(406, "...invalid arg 'x-message-ttl' for queue '#{q}' in vhost '/'") do
      ch.queue_declare(q, durable: true, arguments: t.args('x-message-ttl' => 'soon'))
    end
  end,
  'queue.exclusive-locked' => lambda do |t|
    q = t.name('q')
    t.channel.queue_declare(q, exclusive: true)
    other = t.connect
    [->(ch) { ch.queue_declare(q, exclusive: true) }, ->(ch) { ch.queue_declare(q, passive: true) },
     ->(ch) { ch.basic_consume(q) }, ->(ch) { ch.queue_purge(q) }, ->(ch) { ch.queue_delete(q) }].each do |act|
      ch = other.create_channel
      t.closed(405, 'RESOURCE_LOCKED - cannot obtain exclusive access to locked queue ' \
                    "'#{q}' in vhost '/'...") { act.call(ch) }
    end
  end,
  'queue.exclusive-gone' => lambda do |t|
    owner, q = t.connect, t.queue_name
    owner.create_channel.queue_declare(q, exclusive: true)
    owner.close
    t.missing_queue(q)
  end,
  'queue.auto-delete' => lambda do |t|
    ch, q = t.channel, t.queue_name
    ch.queue_declare(q, auto_delete: true)
    ch.queue_declare(q, passive: true)
    t.consume(ch, q).cancel
    t.missing_queue(q)
  end,
  'queue.reserved-name' => lambda do |t|
    ch = t.channel
    t.closed(403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'") { ch.queue_declare('amq.mine') }
  end,
  'queue.delete-missing' => ->(t) { t.equal(t.channel.queue_delete(t.queue_name).message_count, 0, 'messages') },
  'queue.delete-if-unused' => lambda do |t|
    q = t.classic(t.channel)
    t.consume(t.channel, q)
    ch = t.channel
    t.closed(406, "PRECONDITION_FAILED - queue '#{q}' in vhost '/' in use") { ch.queue_delete(q, if_unused: true) }
  end,
  'queue.delete-if-empty' => lambda do |t|
    ch = t.channel
    q = t.classic(ch)
    t.fill(ch, q, 1)
    t.closed(406, "PRECONDITION_FAILED - queue '#{q}' in vhost '/' not empty") { ch.queue_delete(q, if_empty: true) }
  end,
  'queue.purge' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    t.fill(ch, q, 3)
    t.equal(ch.queue_purge(q).message_count, 3, 'purged')
    t.empty(ch, q)
  end,
  'queue.counts' => lambda do |t|
    ch, other = t.channel, t.channel
    q = t.queue(ch)
    ch.basic_qos(1)
    t.fill(ch, q, 4)
    t.consume(ch, q).wait(1)
    t.wait_until('3 messages, 1 consumer') do
      ok = other.queue_declare(q, passive: true)
      [ok.message_count, ok.consumer_count] == [3, 1]
    end
  end,
  'queue.bind-missing' => lambda do |t|
    q, x, missing = t.queue(t.channel), t.exchange_name, t.queue_name
    one, other = t.channel, t.channel
    t.closed(404, t.no_exchange(x)) { one.queue_bind(q, x, routing_key: 'k') }
    t.closed(404, t.no_queue(missing)) { other.queue_bind(missing, 'amq.direct', routing_key: 'k') }
  end,
  'queue.unbind' => lambda do |t|
    ch = t.confirming
    q, x = t.queue(ch), t.exchange(ch, 'direct')
    ch.queue_bind(q, x, routing_key: 'k')
    %w[k k never].each { |key| ch.queue_unbind(q, x, routing_key: key) }
    t.confirmed(ch, x, 'k', 'x')
    t.equal(t.count(ch, q), 0, 'messages')
  end
}.freeze
