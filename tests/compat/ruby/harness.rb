# What the checks share: connections that rotate over the URIs, names, waiting, comparing errors.
require 'bunny'
require 'logger'
require 'timeout'

DEADLINE_S = 10

class Failed < StandardError; end

# One check: its connections, its names, and what it must clean up.
class Check
  def initialize(uris, queue_type, number)
    @uris, @queue_type, @number = uris, queue_type, number
    @opened, @queues, @exchanges, @serial = [], [], [], 0
  end

  def expect(condition, why)
    raise Failed, why unless condition
  end

  def equal(got, wanted, what)
    raise Failed, "#{what}: #{got.inspect} instead of #{wanted.inspect}"[0, 600] unless got == wanted
  end

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  def wait_until(what)
    finish = now + DEADLINE_S
    loop do
      value = yield
      return value if value
      raise Failed, "not within #{DEADLINE_S} s: #{what}" if now > finish
      sleep 0.02
    end
  end

  def session(change = {}, path = '')
    uri = @uris[(@number + @opened.length) % @uris.length]
    Bunny.new(uri + path, { recover_from_connection_close: false, automatically_recover: false, connection_timeout: DEADLINE_S,
                     continuation_timeout: 20_000, heartbeat: 10, logger: Logger.new(IO::NULL),
                     session_error_handler: QuietThread.new }.merge(change))
  end

  # Bunny raises connection errors in the thread that it is given; ours must not be struck by them.
  class QuietThread
    attr_reader :errors

    def initialize
      @errors = Queue.new
    end

    def raise(error)
      @errors << error
    end
  end

  def connect(change = {}, path = '')
    one = session(change, path)
    one.start
    @opened << one
    one
  end

  def channel
    connect.create_channel
  end

  def confirming
    ch = channel
    ch.confirm_select
    ch
  end

  def name(kind)
    @serial += 1
    "compat.ruby.#{Process.pid}.#{@number}.#{kind}#{@serial}"
  end

  def queue_name
    @queues << name('q')
    @queues.last
  end

  def exchange_name
    @exchanges << name('x')
    @exchanges.last
  end

  def args(more = {})
    @queue_type == 'quorum' ? { 'x-queue-type' => 'quorum' }.merge(more) : more
  end

  # The queue: durable, of the type given on the command line.
  def queue(ch, more = {})
    q = queue_name
    ch.queue_declare(q, durable: true, arguments: args(more))
    q
  end

  def classic(ch, more = {})
    q = queue_name
    ch.queue_declare(q, durable: true, arguments: more)
    q
  end

  def exchange(ch, kind, options = {})
    x = exchange_name
    ch.exchange_declare(x, kind, options)
    x
  end

  def clean
    @opened.each do |one|
      begin
        one.close if one.open?
      rescue Bunny::Exception, IOError, SystemCallError
        next # closed already
      end
    end
    @opened = []
    return if @queues.empty? && @exchanges.empty?
    ch = channel
    @queues.each { |q| ch.queue_delete(q) }
    @exchanges.each { |x| ch.exchange_delete(x) }
    @opened.last.close
  end

  def compare(close, code, text)
    equal(close.reply_code, code, 'reply code')
    got = close.reply_text
    if text.end_with?('...')
      expect(got.start_with?(text.delete_suffix('...')), "reply text: #{got}")
    elsif text.start_with?('...')
      expect(got.include?(text.delete_prefix('...')), "reply text: #{got}")
    else
      equal(got, text, 'reply text')
    end
  end

  # The block must end with the broker closing the channel with code and text.
  def closed(code, text)
    yield
    raise Failed, "no error #{code}"
  rescue Bunny::ChannelLevelException => error
    compare(error.channel_close, code, text)
  end

  # For what has no answer of its own: the channel must be closed after it.
  def closes(ch, code, text)
    errors = Queue.new
    ch.on_error { |_ch, close| errors << close }
    yield
    # the library tells of a failed ack at once, of a failed publish in the next call that waits for an answer
    wait_until("error #{code}") { ch.closed? }
    begin
      ch.queue_declare('', exclusive: true) if errors.empty?
    rescue Bunny::ChannelLevelException => error
      errors << error.channel_close
    rescue Bunny::ChannelAlreadyClosed
      last = ch.instance_variable_get(:@last_channel_error)
      errors << last.channel_close if last && errors.empty?
    end
    expect(!errors.empty?, 'closed without an error')
    compare(errors.pop, code, text)
  end

  def publish(ch, exchange, key, body, options = {})
    ch.basic_publish(body.to_s, exchange, key, options)
  end

  # Publishes and waits for the ack; false when it is nacked.
  def accepted(ch, exchange, key, body, options = {})
    publish(ch, exchange, key, body, { mandatory: true }.merge(options))
    Timeout.timeout(DEADLINE_S, Failed, 'no confirm') { ch.wait_for_confirms }
  end

  def confirmed(ch, exchange, key, body, options = {})
    expect(accepted(ch, exchange, key, body, options), 'nacked')
  end

  def count(ch, q)
    ch.queue_declare(q, passive: true).message_count
  end

  def wait_count(ch, q, wanted)
    wait_until("#{wanted} messages in #{q}") { count(ch, q) == wanted }
  end

  def fill(ch, q, number)
    number.times { |i| publish(ch, '', q, i, delivery_mode: 2) }
    wait_count(ch, q, number)
  end

  # Waits for a message of the queue and takes it: [delivery info, properties, body]
  def get(ch, q)
    got = wait_until("a message in #{q}") do
      one = ch.basic_get(q, manual_ack: false)
      one[0] ? one : nil
    end
    # RabbitMQ 3 adds it to what is taken from a quorum queue for the first time, 4 does not
    headers = got[1][:headers]
    headers.delete('x-delivery-count') if headers && headers['x-delivery-count'] == 0
    got
  end

  def empty(ch, q)
    expect(ch.basic_get(q, manual_ack: false)[0].nil?, 'a message is left')
  end

  # Takes all that is in the queue; to be called when all publishes are confirmed.
  def arrived(ch, q)
    bodies = []
    loop do
      info, _properties, body = ch.basic_get(q, manual_ack: false)
      return bodies if info.nil?
      bodies << body
    end
  end

  def numbers(from, to)
    (from...to).map(&:to_s)
  end

  def no_queue(q)
    "NOT_FOUND - no queue '#{q}' in vhost '/'"
  end

  def no_exchange(x)
    "NOT_FOUND - no exchange '#{x}' in vhost '/'"
  end

  def missing_queue(q)
    ch = channel
    closed(404, no_queue(q)) { ch.queue_declare(q, passive: true) }
  end

  def missing_exchange(x)
    ch = channel
    closed(404, no_exchange(x)) { ch.exchange_declare(x, 'direct', passive: true) }
  end

  # Collects deliveries as [delivery info, properties, body].
  class Collector < Bunny::Consumer
    attr_reader :got, :cancels

    def self.start(check, ch, q, manual_ack: true, exclusive: false, arguments: {}, tag: nil)
      one = new(ch, q, tag || ch.generate_consumer_tag, !manual_ack, exclusive, arguments)
      one.prepare(check)
      ch.basic_consume_with(one)
      one
    end

    def prepare(check)
      @check, @got, @cancels = check, [], []
      on_delivery { |info, properties, body| @got << [info, properties, body] }
      on_cancellation { |cancel| @cancels << cancel.consumer_tag }
    end

    def wait(number)
      @check.wait_until("#{number} deliveries") { @got.length >= number }
      @got
    end

    def quiet
      before = @got.length
      sleep 0.3
      @check.equal(@got.length, before, 'deliveries')
    end

    def bodies
      @got.map { |_i, _p, body| body }
    end
  end

  def consume(ch, q, **options)
    Collector.start(self, ch, q, **options)
  end
end
