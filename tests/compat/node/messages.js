// Routing and publishing.
'use strict';
const h = require('./harness');
const { Consumer, closes, equal, expect } = h;

const TOPIC_KEYS = ['', 'a', 'a.b', 'a.b.c', 'a..b', 'b.a', 'a.b.a.b', 'x.y.z', '.'];
const TOPIC_TABLE = {
  '#': TOPIC_KEYS,
  '*': ['a'], // the empty key has no words at all
  'a': ['a'],
  'a.*': ['a.b'],
  'a.#': ['a', 'a.b', 'a.b.c', 'a..b', 'a.b.a.b'],
  '#.b': ['a.b', 'a..b', 'a.b.a.b'],
  '*.b': ['a.b'],
  '*.*': ['a.b', 'b.a', '.'],
  'a.*.b': ['a..b'],
  '#.a.#': ['a', 'a.b', 'a.b.c', 'a..b', 'b.a', 'a.b.a.b'],
  '*.#.*': ['a.b', 'a.b.c', 'a..b', 'b.a', 'a.b.a.b', 'x.y.z', '.'],
  '': [''],
};

const headersMatch = (match, wanted) => async (t) => {
  const channel = await t.confirming();
  const [exchange, queue] = [await t.exchange(channel, 'headers'), await t.queue(channel)];
  await channel.bindQueue(queue, exchange, '', { 'x-match': match, a: 1, b: 'x' });
  const cases = {
    both: { a: 1, b: 'x' }, one: { a: 1 }, other: { b: 'x' }, wrong: { a: 2, b: 'y' }, mixed: { a: 1, b: 'y' },
    more: { a: 1, b: 'x', c: true }, none: {}, type: { a: '1', b: 'x' },
  };
  for (const [name, headers] of Object.entries(cases)) h.publish(channel, exchange, '', name, { headers });
  await h.within(channel.waitForConfirms(), 'confirms');
  equal(await h.arrived(channel, queue), wanted, 'bodies');
};

const routing = {
  'route.default': async (t) => {
    const channel = await t.confirming();
    const [one, other] = [await t.queue(channel), await t.queue(channel)];
    await h.confirmed(channel, '', one, '1');
    equal([await h.arrived(channel, one), await h.arrived(channel, other)], [['1'], []], 'bodies');
  },
  'route.direct': async (t) => {
    const channel = await t.confirming();
    const exchange = await t.exchange(channel, 'direct');
    const keys = ['a', 'a', 'b'];
    const queues = [];
    for (const key of keys) {
      queues.push(await t.queue(channel));
      await channel.bindQueue(queues[queues.length - 1], exchange, key);
    }
    for (const key of ['a', 'b', 'c', 'A']) await h.confirmed(channel, exchange, key, key);
    for (let i = 0; i < 3; i++) equal(await h.arrived(channel, queues[i]), [keys[i]], 'bodies');
  },
  'route.fanout': async (t) => {
    const channel = await t.confirming();
    const exchange = await t.exchange(channel, 'fanout');
    const queues = [];
    for (let i = 0; i < 3; i++) {
      queues.push(await t.queue(channel));
      await channel.bindQueue(queues[i], exchange, 'ignored');
    }
    await h.confirmed(channel, exchange, 'any', '1');
    await h.confirmed(channel, exchange, '', '2');
    for (const queue of queues) equal(await h.arrived(channel, queue), ['1', '2'], 'bodies');
  },
  'route.topic': async (t) => {
    const channel = await t.confirming();
    const exchange = await t.exchange(channel, 'topic');
    const queues = {};
    for (const pattern of Object.keys(TOPIC_TABLE)) {
      queues[pattern] = await t.queue(channel);
      await channel.bindQueue(queues[pattern], exchange, pattern);
    }
    for (const key of TOPIC_KEYS) await h.confirmed(channel, exchange, key, key);
    for (const [pattern, wanted] of Object.entries(TOPIC_TABLE)) {
      equal(await h.arrived(channel, queues[pattern]), wanted, `pattern '${pattern}'`);
    }
  },
  'route.headers-all': headersMatch('all', ['both', 'more']),
  'route.headers-any': headersMatch('any', ['both', 'one', 'other', 'mixed', 'more', 'type']),
  'route.e2e': async (t) => {
    const channel = await t.confirming();
    const [source, target] = [await t.exchange(channel, 'topic'), await t.exchange(channel, 'fanout')];
    const queue = await t.queue(channel);
    await channel.bindQueue(queue, target, '');
    await channel.bindExchange(target, source, 'a.*');
    await h.confirmed(channel, source, 'a.b', '1');
    await h.confirmed(channel, source, 'b.b', '2');
    await channel.unbindExchange(target, source, 'a.*');
    await h.confirmed(channel, source, 'a.b', '3');
    equal(await h.arrived(channel, queue), ['1'], 'bodies');
  },
  'route.one-copy': async (t) => {
    const channel = await t.confirming();
    const [exchange, queue] = [await t.exchange(channel, 'topic'), await t.queue(channel)];
    for (const key of ['a.*', '*.b', '#', 'a.b']) await channel.bindQueue(queue, exchange, key);
    await h.confirmed(channel, exchange, 'a.b', '1');
    equal(await h.arrived(channel, queue), ['1'], 'bodies');
  },
  'route.cc-bcc': async (t) => {
    const channel = await t.confirming();
    const [to, cc, bcc] = [await t.queue(channel), await t.queue(channel), await t.queue(channel)];
    await h.confirmed(channel, '', to, '1', { CC: [cc, to], BCC: [bcc] });
    for (const queue of [to, cc, bcc]) {
      equal(h.plain((await h.get(channel, queue)).properties.headers), { CC: [cc, to] }, `headers in ${queue}`);
      await h.empty(channel, queue);
    }
  },
};

const publishing = {
  'publish.confirm-single': async (t) => {
    const channel = await t.confirming();
    const queue = await t.queue(channel);
    for (let i = 0; i < 20; i++) await h.confirmed(channel, '', queue, i, { deliveryMode: 1 + (i % 2) });
    equal(await h.arrived(channel, queue), h.numbers(0, 20), 'bodies');
  },
  'publish.confirm-batch': async (t) => {
    const channel = await t.confirming();
    const queue = await t.queue(channel);
    let [acks, nacks] = [0, 0];
    for (let i = 0; i < 10000; i++) {
      channel.publish('', queue, Buffer.from(String(i)), { deliveryMode: 2 }, (error) => (error ? nacks++ : acks++));
    }
    await h.within(channel.waitForConfirms(), 'confirms', 60000);
    equal([acks, nacks], [10000, 0], 'confirms and nacks');
    await h.waitCount(channel, queue, 10000);
  },
  'publish.confirm-unroutable': async (t) => {
    const channel = await t.confirming();
    await h.confirmed(channel, await t.exchange(channel, 'direct'), 'nowhere', 'x', { mandatory: false });
  },
  'publish.mandatory': async (t) => {
    const channel = await t.confirming();
    const exchange = await t.exchange(channel, 'direct');
    const events = [];
    channel.on('return', (m) => events.push([m.fields.replyCode, m.fields.replyText, m.fields.exchange,
      m.fields.routingKey, m.properties.messageId, m.content.toString()]));
    channel.publish(exchange, 'nowhere', Buffer.from('body'), { mandatory: true, messageId: 'm' },
      (error) => events.push(error ? 'nack' : 'ack'));
    await h.until('return and ack', () => events.length === 2);
    equal(events, [[312, 'NO_ROUTE', exchange, 'nowhere', 'm', 'body'], 'ack'], 'events');
  },
  'publish.mandatory-routed': async (t) => {
    const channel = await t.confirming();
    let returns = 0;
    channel.on('return', () => returns++);
    const queue = await t.queue(channel);
    await h.confirmed(channel, '', queue, 'x');
    equal(returns, 0, 'returns');
    equal(await h.arrived(channel, queue), ['x'], 'bodies');
  },
  'publish.user-id': async (t) => {
    const channel = await t.confirming();
    const queue = await t.queue(channel);
    await h.confirmed(channel, '', queue, 'x', { userId: 'guest' });
    await closes(channel, 406, "PRECONDITION_FAILED - user_id property set to 'other' but authenticated user was 'guest'",
      () => h.publish(channel, '', queue, 'x', { userId: 'other' }));
  },
  'publish.bad-expiration': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    await closes(channel, 406, "PRECONDITION_FAILED - invalid expiration '12x'...",
      () => h.publish(channel, '', queue, 'x', { expiration: '12x' }));
  },
  'publish.empty-body': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    h.publish(channel, '', queue, '', { messageId: 'm', headers: { a: 1 } });
    const got = await h.get(channel, queue);
    equal([got.content.length, got.properties.messageId, h.plain(got.properties.headers)], [0, 'm', { a: 1 }], 'message');
  },
  'publish.bodies': async (t) => {
    const connection = await t.connect((uri) => `${uri}?frameMax=16384`);
    const channel = await t.channelOf(connection);
    const queue = await t.queue(channel);
    const limit = connection.connection.frameMax;
    equal(limit, 16384, 'frame-max');
    const sizes = [1, 2, 3 * limit];
    for (let d = -9; d <= 1; d++) sizes.push(limit + d);
    for (const size of sizes) {
      const body = Buffer.from(Uint8Array.from({ length: size }, (_, i) => (i * 7919) >> 3));
      channel.publish('', queue, body);
      expect((await h.get(channel, queue)).content.equals(body), `body of ${size} bytes`);
    }
  },
  'publish.properties': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    const values = {
      contentType: 'text/plain', contentEncoding: 'utf-8', headers: { k: 'v' }, deliveryMode: 2, priority: 3,
      correlationId: 'c-1', replyTo: 'r', expiration: '60000', messageId: 'm-1', timestamp: 1700000000, type: 't',
      userId: 'guest', appId: 'app',
    };
    h.publish(channel, '', queue, 'x', values);
    const got = (await h.get(channel, queue)).properties;
    equal(h.plain({ ...got, clusterId: undefined }), values, 'properties');
  },
  'publish.headers': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    const headers = {
      bool: true, no: false, int: -5, long: -(2 ** 52), double: 1.5, text: 'h\u00e9llo', void: null,
      empty: {}, list: [], table: { a: { b: [1, 'two', { three: 3 }] } }, array: [1, 2.5, 'x', null, true],
      bytes: Buffer.from([0, 255]), time: { '!': 'timestamp', value: 1700000000 },
      decimal: { '!': 'decimal', value: { digits: 314, places: 2 } }, int8: { '!': 'byte', value: -3 },
      int16: { '!': 'short', value: -300 }, float: { '!': 'float', value: 1.5 },
      ['x'.repeat(128)]: 'long key', y: 'z'.repeat(3000), // the library asks for frames of 4096 bytes
    };
    h.publish(channel, '', queue, 'x', { headers });
    const got = (await h.get(channel, queue)).properties.headers;
    const wanted = { ...headers, int8: -3, int16: -300, float: 1.5 };
    equal(Object.keys(got).sort(), Object.keys(wanted).sort(), 'keys');
    for (const key of Object.keys(wanted)) equal(h.plain({ v: got[key] }), h.plain({ v: wanted[key] }), `header ${key}`);
  },
  'publish.order': async (t) => {
    const [channel, other] = [await t.channel(), await t.channel()];
    const queue = await t.queue(channel);
    const consumer = await Consumer.start(other, queue, { noAck: true });
    for (let i = 0; i < 5000; i++) h.publish(channel, '', queue, i);
    await consumer.wait(5000);
    equal(h.bodies(consumer.got), h.numbers(0, 5000), 'order');
  },
};

module.exports = { checks: { ...routing, ...publishing } };
