# The publisher and the consumer of the kill test for Bunny; see tests/real/README.md.
require 'bunny'
require 'logger'
require 'set'
require 'timeout'

TICK_S = 0.02
RETRY_S = 0.2
TIMEOUT_S = 4

# Bunny raises connection errors in the thread that it is given: here they are only noted.
class Errors
  attr_reader :first

  def raise(error)
    @first ||= error
  end
end

# One connection at a time, to the next URI after each failure.
class Worker
  def initialize(options)
    @options, @epoch, @stopping, @number = options, 0, false, 0
    @uris = options['--uris'].split(',')
    @queue, @id = options.values_at('--queue', '--id')
    @lock = Mutex.new
    @next, @again, @pending, @returned = 1, [], {}, Set.new
    @begun = now
    Thread.new do
      $stdin.gets
      @stopping = true
    end
  end

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  def option(name)
    @options["--#{name}"].to_i
  end

  def say(*words)
    $stdout.write("#{words.join(' ')}\n")
  end

  def connect
    @epoch += 1
    @errors = Errors.new
    uri = @uris[(option('first') + @epoch) % @uris.length]
    session = Bunny.new(uri, recover_from_connection_close: false, automatically_recover: false,
                             connection_timeout: TIMEOUT_S, read_timeout: TIMEOUT_S, continuation_timeout: 15_000,
                             heartbeat: 4, logger: Logger.new(IO::NULL), session_error_handler: @errors)
    Timeout.timeout(2 * TIMEOUT_S) { session.start }
    raise "not open: #{@errors.first}" unless session.open?
    say('O', @epoch, uri)
    session
  end

  def healthy(session, channel)
    raise @errors.first.inspect if @errors.first
    raise 'closed' unless session.open? && channel.open?
  end

  def settle(epoch, tag, multiple, nack)
    @lock.synchronize do
      return if epoch != @epoch # late news of a connection that has been given up
      tags = multiple ? @pending.keys.select { |t| t <= tag } : [tag]
      tags.each do |one|
        seq = @pending.delete(one)
        next if seq.nil?
        if nack || @returned.delete?(seq)
          say('N', epoch, seq)
          @again << seq
        else
          say('C', epoch, seq)
        end
      end
    end
  end

  def send_one(channel, seq)
    body = "#{@id} #{@epoch} #{seq} ".ljust(option('size'), '.')
    @lock.synchronize do
      @tag += 1
      @pending[@tag] = seq
      say('A', @epoch, seq)
    end
    channel.basic_publish(body, '', @queue, mandatory: true, delivery_mode: 2)
  end

  # The next number to send, nil when there is none now: what was nacked or lost comes before anything new.
  def pick(due)
    @lock.synchronize do
      return nil if @pending.length >= option('window')
      return @again.shift unless @again.empty?
      return nil if @stopping || @next > due
      @next += 1
      @next - 1
    end
  end

  def publish_due(channel)
    due = ((now - @begun) * option('rate')).to_i
    option('window').times do
      seq = pick(due)
      break if seq.nil?
      send_one(channel, seq)
    end
    # no bursts after a long pause
    @begun = now - @next.to_f / option('rate') if @next < due - option('rate')
  end

  def publisher(session)
    epoch = @epoch
    channel = session.create_channel
    @tag = 0
    channel.confirm_select(->(tag, multiple, nack) { settle(epoch, tag, multiple, nack) })
    channel.default_exchange.on_return do |_info, _properties, body|
      @lock.synchronize { @returned << body.split[2].to_i }
    end
    loop do
      healthy(session, channel)
      publish_due(channel)
      $stdout.flush
      if @stopping && @lock.synchronize { @pending.empty? && @again.empty? }
        say('DONE', @next - 1)
        return true
      end
      sleep TICK_S
    end
  ensure
    @lock.synchronize do
      @again = (@again + @pending.values).uniq.sort
      @pending = {}
      @returned.clear
      @epoch = -@epoch # nothing of this connection counts any more
    end
  end

  def consumer(session)
    epoch, cancelled = @epoch, false
    channel = session.create_channel
    channel.prefetch(option('prefetch'))
    one = Bunny::Consumer.new(channel, @queue, channel.generate_consumer_tag, false)
    one.on_delivery do |info, _properties, body|
      words = body.split
      say('D', epoch, words[0], words[1], words[2], info.redelivered? ? 1 : 0)
      @number += 1
      channel.basic_ack(info.delivery_tag.to_i)
    end
    one.on_cancellation { cancelled = true }
    channel.basic_consume_with(one)
    loop do
      $stdout.flush
      healthy(session, channel)
      raise 'cancelled' if cancelled
      return true if @stopping
      sleep TICK_S
    end
  ensure
    @epoch = -@epoch
  end

  def drop(session)
    Timeout.timeout(TIMEOUT_S) { session.close(false) }
  rescue StandardError, Timeout::Error
    session.transport&.close
  end

  def run(mode)
    done = false
    until done
      session = nil
      begin
        @epoch = @epoch.abs
        session = connect
        done = mode == 'publisher' ? publisher(session) : consumer(session)
      rescue StandardError, Timeout::Error => error
        say('L', @epoch.abs, error.class, error.message.to_s.split.join(' ')[0, 200])
        done = mode == 'consumer' && @stopping
      end
      drop(session) if session
      sleep RETRY_S unless done
    end
    say('DONE', @number) if mode == 'consumer'
    $stdout.flush
    exit!(0)
  end
end

Thread.report_on_exception = false
defaults = { '--first' => '0', '--window' => '100', '--rate' => '300', '--size' => '64', '--prefetch' => '50' }
Worker.new(defaults.merge(Hash[*ARGV[1..]])).run(ARGV[0])
