# Routing and publishing.
TOPIC_KEYS = ['', 'a', 'a.b', 'a.b.c', 'a..b', 'b.a', 'a.b.a.b', 'x.y.z', '.'].freeze
TOPIC_TABLE = {
  '#' => TOPIC_KEYS,
  '*' => ['a'], # the empty key has no words at all
  'a' => ['a'],
  'a.*' => ['a.b'],
  'a.#' => ['a', 'a.b', 'a.b.c', 'a..b', 'a.b.a.b'],
  '#.b' => ['a.b', 'a..b', 'a.b.a.b'],
  '*.b' => ['a.b'],
  '*.*' => ['a.b', 'b.a', '.'],
  'a.*.b' => ['a..b'],
  '#.a.#' => ['a', 'a.b', 'a.b.c', 'a..b', 'b.a', 'a.b.a.b'],
  '*.#.*' => ['a.b', 'a.b.c', 'a..b', 'b.a', 'a.b.a.b', 'x.y.z', '.'],
  '' => ['']
}.freeze
HEADER_CASES = {
  'both' => { 'a' => 1, 'b' => 'x' }, 'one' => { 'a' => 1 }, 'other' => { 'b' => 'x' },
  'wrong' => { 'a' => 2, 'b' => 'y' }, 'mixed' => { 'a' => 1, 'b' => 'y' },
  'more' => { 'a' => 1, 'b' => 'x', 'c' => true }, 'none' => {}, 'type' => { 'a' => '1', 'b' => 'x' }
}.freeze

def headers_match(match, wanted)
  lambda do |t|
    ch = t.confirming
    x, q = t.exchange(ch, 'headers'), t.queue(ch)
    ch.queue_bind(q, x, arguments: { 'x-match' => match, 'a' => 1, 'b' => 'x' })
    HEADER_CASES.each { |name, headers| t.confirmed(ch, x, '', name, headers: headers, mandatory: false) }
    t.equal(t.arrived(ch, q), wanted, 'bodies')
  end
end

MESSAGES = {
  'route.default' => lambda do |t|
    ch = t.confirming
    one, other = t.queue(ch), t.queue(ch)
    t.confirmed(ch, '', one, '1')
    t.equal([t.arrived(ch, one), t.arrived(ch, other)], [['1'], []], 'bodies')
  end,
  'route.direct' => lambda do |t|
    ch = t.confirming
    x, keys = t.exchange(ch, 'direct'), %w[a a b]
    queues = keys.map do |key|
      q = t.queue(ch)
      ch.queue_bind(q, x, routing_key: key)
      q
    end
    %w[a b c A].each { |key| t.confirmed(ch, x, key, key, mandatory: false) }
    t.equal(queues.map { |q| t.arrived(ch, q) }, keys.map { |k| [k] }, 'bodies')
  end,
  'route.fanout' => lambda do |t|
    ch = t.confirming
    x, queues = t.exchange(ch, 'fanout'), Array.new(3) { t.queue(ch) }
    queues.each { |q| ch.queue_bind(q, x, routing_key: 'ignored') }
    t.confirmed(ch, x, 'any', '1')
    t.confirmed(ch, x, '', '2')
    t.equal(queues.map { |q| t.arrived(ch, q) }, [%w[1 2]] * 3, 'bodies')
  end,
  'route.topic' => lambda do |t|
    ch = t.confirming
    x = t.exchange(ch, 'topic')
    queues = TOPIC_TABLE.to_h do |pattern, _keys|
      q = t.queue(ch)
      ch.queue_bind(q, x, routing_key: pattern)
      [pattern, q]
    end
    TOPIC_KEYS.each { |key| t.confirmed(ch, x, key, key) }
    TOPIC_TABLE.each { |pattern, keys| t.equal(t.arrived(ch, queues[pattern]), keys, "pattern #{pattern}") }
  end,
  'route.headers-all' => headers_match('all', %w[both more]),
  'route.headers-any' => headers_match('any', %w[both one other mixed more type]),
  'route.e2e' => lambda do |t|
    ch = t.confirming
    source, target, q = t.exchange(ch, 'topic'), t.exchange(ch, 'fanout'), t.queue(ch)
    ch.queue_bind(q, target)
    ch.exchange_bind(source, target, routing_key: 'a.*')
    t.confirmed(ch, source, 'a.b', '1')
    t.confirmed(ch, source, 'b.b', '2', mandatory: false)
    ch.exchange_unbind(source, target, routing_key: 'a.*')
    t.confirmed(ch, source, 'a.b', '3', mandatory: false)
    t.equal(t.arrived(ch, q), ['1'], 'bodies')
  end,
  'route.one-copy' => lambda do |t|
    ch = t.confirming
    x, q = t.exchange(ch, 'topic'), t.queue(ch)
    %w[a.* *.b # a.b].each { |key| ch.queue_bind(q, x, routing_key: key) }
    t.confirmed(ch, x, 'a.b', '1')
    t.equal(t.arrived(ch, q), ['1'], 'bodies')
  end,
  'route.cc-bcc' => lambda do |t|
    ch = t.confirming
    to, cc, bcc = t.queue(ch), t.queue(ch), t.queue(ch)
    t.confirmed(ch, '', to, '1', headers: { 'CC' => [cc, to], 'BCC' => [bcc] })
    [to, cc, bcc].each do |q|
      t.equal(t.get(ch, q)[1][:headers], { 'CC' => [cc, to] }, "headers in #{q}")
      t.empty(ch, q)
    end
  end,

  'publish.confirm-single' => lambda do |t|
    ch = t.confirming
    q = t.queue(ch)
    20.times { |i| t.confirmed(ch, '', q, i, delivery_mode: 1 + i % 2) }
    t.equal(t.arrived(ch, q), t.numbers(0, 20), 'bodies')
  end,
  'publish.confirm-batch' => lambda do |t|
    ch = t.confirming
    q = t.queue(ch)
    10_000.times { |i| t.publish(ch, '', q, i, delivery_mode: 2) }
    t.expect(Timeout.timeout(60, Failed, 'no confirms') { ch.wait_for_confirms }, 'nacked')
    t.equal(ch.unconfirmed_set.size, 0, 'unconfirmed')
    t.wait_count(ch, q, 10_000)
  end,
  'publish.confirm-unroutable' => lambda do |t|
    ch = t.confirming
    t.confirmed(ch, t.exchange(ch, 'direct'), 'nowhere', 'x', mandatory: false)
  end,
  'publish.mandatory' => lambda do |t|
    events = Queue.new
    ch = t.channel
    ch.confirm_select(->(tag, _multiple, nack) { events << [nack ? 'nack' : 'ack', tag] })
    x = t.exchange(ch, 'direct')
    Bunny::Exchange.new(ch, :direct, x, no_declare: true).on_return do |info, properties, body|
      events << [info.reply_code, info.reply_text, info.exchange, info.routing_key, properties[:message_id], body]
    end
    t.publish(ch, x, 'nowhere', 'body', mandatory: true, message_id: 'm')
    t.wait_until('return and ack') { events.size == 2 }
    t.equal([events.pop, events.pop], [[312, 'NO_ROUTE', x, 'nowhere', 'm', 'body'], ['ack', 1]], 'events')
  end,
  'publish.mandatory-routed' => lambda do |t|
    ch = t.confirming
    q, returns = t.queue(ch), []
    ch.default_exchange.on_return { |*r| returns << r }
    t.confirmed(ch, '', q, 'x')
    t.equal(returns, [], 'returns')
    t.equal(t.arrived(ch, q), ['x'], 'bodies')
  end,
  'publish.user-id' => lambda do |t|
    ch = t.confirming
    q = t.queue(ch)
    t.confirmed(ch, '', q, 'x', user_id: 'guest')
    t.closes(ch, 406, "PRECONDITION_FAILED - user_id property set to 'other' but authenticated user was 'guest'") do
      t.publish(ch, '', q, 'x', user_id: 'other')
    end
  end,
  'publish.bad-expiration' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    t.closes(ch, 406, "PRECONDITION_FAILED - invalid expiration '12x'...") { t.publish(ch, '', q, 'x', expiration: '12x') }
  end,
  'publish.empty-body' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    t.publish(ch, '', q, '', message_id: 'm', headers: { 'a' => 1 })
    _info, properties, body = t.get(ch, q)
    t.equal([body, properties[:message_id], properties[:headers]], ['', 'm', { 'a' => 1 }], 'message')
  end,
  'publish.bodies' => lambda do |t|
    connection = t.connect
    ch = connection.create_channel
    q, limit = t.queue(ch), connection.frame_max
    ([1, 2, 3 * limit] + (-9..1).map { |d| limit + d }).each do |size|
      body = Random.new(size).bytes(size)
      t.publish(ch, '', q, body)
      t.expect(t.get(ch, q)[2].b == body, "body of #{size} bytes")
    end
  end,
  'publish.properties' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    values = { content_type: 'text/plain', content_encoding: 'utf-8', headers: { 'k' => 'v' }, delivery_mode: 2,
               priority: 3, correlation_id: 'c-1', reply_to: 'r', expiration: '60000', message_id: 'm-1',
               timestamp: Time.at(1_700_000_000), type: 't', user_id: 'guest', app_id: 'app' }
    t.publish(ch, '', q, 'x', values.merge(timestamp: 1_700_000_000))
    t.equal(t.get(ch, q)[1].to_hash.slice(*values.keys), values, 'properties')
  end,
  'publish.headers' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    headers = { 'bool' => true, 'no' => false, 'int' => -5, 'long' => 2**40, 'double' => 1.5, 'text' => 'h\u00e9llo',
                'time' => Time.at(1_700_000_000), 'void' => nil, 'empty' => {}, 'list' => [],
                'table' => { 'a' => { 'b' => [1, 'two', { 'three' => 3 }] } }, 'array' => [1, 2.5, 'x', { 'k' => true }],
                'x' * 127 => 'long key', 'y' => 'z' * 5000 }
    t.publish(ch, '', q, 'x', headers: headers)
    got = t.get(ch, q)[1][:headers]
    t.equal(got.keys.sort, headers.keys.sort, 'keys')
    headers.each { |key, value| t.equal(got[key], value, "header #{key}") }
  end,
  'publish.order' => lambda do |t|
    ch = t.channel
    q = t.queue(ch)
    consumer = t.consume(t.channel, q, manual_ack: false)
    5000.times { |i| t.publish(ch, '', q, i) }
    consumer.wait(5000)
    t.expect(consumer.bodies == t.numbers(0, 5000), 'order')
  end
}.freeze
