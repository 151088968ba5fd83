// The publisher and the consumer of the kill test; see tests/real/README.md.
'use strict';
const amqp = require('amqplib');

const TICK_MS = 20;
const RETRY_MS = 200;
const TIMEOUT_MS = 4000;

const mode = process.argv[2];
const options = { first: '0', window: '100', rate: '300', size: '64', prefetch: '50' };
for (let i = 3; i + 1 < process.argv.length; i += 2) options[process.argv[i].slice(2)] = process.argv[i + 1];
const option = (name) => Number(options[name]);
const uris = options.uris.split(',');

let epoch = 0;
let stopping = false;
let lines = [];
process.stdin.on('data', () => { stopping = true; });
process.stdin.on('end', () => { stopping = true; });

const say = (...words) => lines.push(words.join(' '));
function flush() {
  if (lines.length > 0) process.stdout.write(`${lines.join('\n')}\n`);
  lines = [];
}
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function limited(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: no answer`)), 15000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function connect() {
  epoch++;
  const uri = uris[(option('first') + epoch) % uris.length];
  const connection = await amqp.connect(`${uri}?heartbeat=4`, { timeout: TIMEOUT_MS });
  const state = { connection, session: epoch, lost: null };
  const onLost = (why) => { state.lost = state.lost || why || new Error('closed'); };
  connection.on('error', onLost);
  connection.on('close', onLost);
  state.onLost = onLost;
  say('O', epoch, uri);
  return state;
}

let next = 1;
let again = []; // ascending
const begun = Date.now();
let skipped = 0; // what was due while nothing could be sent

async function publish(state) {
  const pending = new Set();
  const returned = new Set();
  const channel = await limited(state.connection.createConfirmChannel(), 'channel');
  channel.on('error', state.onLost);
  channel.on('close', state.onLost);
  channel.on('return', (m) => returned.add(Number(m.content.toString().split(' ')[2])));
  const send = (seq) => {
    const body = `${options.id} ${state.session} ${seq} `.padEnd(option('size'), '.');
    pending.add(seq);
    say('A', state.session, seq);
    channel.publish('', options.queue, Buffer.from(body), { persistent: true, mandatory: true }, (error) => {
      // when the connection ends, the library reports what is outstanding as failed: the outcome is unknown
      if (state.lost || !pending.delete(seq)) return;
      if (error === null && !returned.has(seq)) {
        say('C', state.session, seq);
      } else if (error && error.message !== 'message nacked') {
        pending.add(seq);
      } else {
        returned.delete(seq);
        say('N', state.session, seq);
        again.push(seq);
      }
    });
  };
  try {
    for (;;) {
      if (state.lost) throw state.lost;
      for (const seq of again.splice(0, Math.max(0, option('window') - pending.size))) send(seq);
      const due = Math.floor((Date.now() - begun) * option('rate') / 1000) - skipped;
      while (!stopping && again.length === 0 && next <= due && pending.size < option('window')) send(next++);
      if (next < due - option('rate')) skipped += due - next; // no bursts after a long pause
      flush();
      if (stopping && pending.size === 0 && again.length === 0) {
        say('DONE', next - 1);
        return;
      }
      await pause(TICK_MS);
    }
  } finally {
    again = [...new Set([...again, ...pending])].sort((a, b) => a - b);
    pending.clear();
  }
}

let number = 0;

async function consume(state) {
  const channel = await limited(state.connection.createChannel(), 'channel');
  channel.on('error', state.onLost);
  channel.on('close', state.onLost);
  await limited(channel.prefetch(option('prefetch')), 'qos');
  await limited(channel.consume(options.queue, (m) => {
    if (m === null) {
      state.onLost(new Error('cancelled'));
    } else if (!state.lost) {
      const words = m.content.toString().split(' ');
      say('D', state.session, words[0], words[1], words[2], m.fields.redelivered ? 1 : 0);
      number++;
      channel.ack(m);
    }
  }), 'consume');
  for (;;) {
    flush();
    if (state.lost) throw state.lost;
    if (stopping) {
      say('DONE', number);
      return;
    }
    await pause(TICK_MS);
  }
}

(async () => {
  for (let done = false; !done;) {
    let state = null;
    try {
      state = await connect();
      await (mode === 'publisher' ? publish(state) : consume(state));
      done = true;
    } catch (error) {
      say('L', epoch, String(error).replace(/\s+/g, ' ').slice(0, 200));
      if (stopping && mode === 'consumer') {
        say('DONE', number);
        done = true;
      }
    }
    if (state) {
      const ended = state.connection.close().catch(() => {});
      await Promise.race([ended, pause(TIMEOUT_MS)]);
      state.connection.connection.stream.destroy();
    }
    flush();
    if (!done) await pause(RETRY_MS);
  }
  process.stdout.write('', () => process.exit(0));
})();
