# The client suite of tests/compat/README.md for Bunny.
require_relative 'harness'
require_relative 'declaring'
require_relative 'messages'
require_relative 'consuming'

$stdout.sync = true
Thread.report_on_exception = false
options = { '--queue-type' => 'classic', '--check' => '*' }.merge(Hash[*ARGV])
if options['--uris'].nil?
  warn 'usage: suite.rb --uris URI,... [--queue-type classic|quorum] [--check PATTERN]'
  exit 2
end

def run(check, body)
  why = nil
  begin
    body.call(check)
  rescue Failed => error
    why = error.message
  rescue StandardError, Timeout::Error => error
    why = "#{error.class} #{error.message}"
  end
  begin
    check.clean
  rescue StandardError, Timeout::Error => error
    why ||= "cleaning up: #{error.class} #{error.message}"
  end
  why&.split&.join(' ')
end

all = DECLARING.merge(MESSAGES).merge(CONSUMING)
left_out = ENV.fetch('COMPAT_EXCEPT', '').split
chosen = all.select { |name, _body| File.fnmatch(options['--check'], name) && !left_out.include?(name) }
puts "1..#{chosen.length}"
failures = 0
all.each_with_index do |(name, body), number|
  next unless chosen.key?(name)
  why = run(Check.new(options['--uris'].split(','), options['--queue-type'], number), body)
  failures += 1 if why
  puts(why ? "not ok #{name}: #{why}" : "ok #{name}")
end
exit!(failures.zero? ? 0 : 1)
