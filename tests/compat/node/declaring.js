// Connections, channels, exchanges and queues.
'use strict';
const h = require('./harness');
const { Consumer, closed, closes, equal, expect } = h;

const noQueue = (name) => `NOT_FOUND - no queue '${name}' in vhost '/'`;
const noExchange = (name) => `NOT_FOUND - no exchange '${name}' in vhost '/'`;

async function missingQueue(t, name) {
  const channel = await t.channel();
  await closed(404, noQueue(name), () => channel.checkQueue(name));
}

async function missingExchange(t, name) {
  const channel = await t.channel();
  await closed(404, noExchange(name), () => channel.checkExchange(name));
}

async function refusedConnection(t, change, text) {
  let error;
  try {
    await t.connect(change);
  } catch (caught) {
    error = caught;
  }
  expect(error !== undefined && error.message.includes(text), `${error}`);
}

const connections = {
  'connect.good': async (t) => {
    const connection = await t.connect();
    await (await t.channelOf(connection)).close();
    await connection.close();
  },
  'connect.bad-password': (t) => refusedConnection(t, (uri) => uri.replace('guest@', 'wrong@'),
    'ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.'),
  // the library tells only that it was closed, not why
  'connect.bad-vhost': (t) => refusedConnection(t, (uri) => uri.replace(/\/?$/, '/no-such'), 'ConnectionClose'),
  'connect.properties': async (t) => {
    const properties = (await t.connect()).connection.serverProperties;
    expect(properties.product, 'no product');
    expect(/^\d+\.\d+\.\d+/.test(properties.version), `version ${properties.version}`);
    for (const name of ['publisher_confirms', 'exchange_exchange_bindings', 'basic.nack', 'consumer_cancel_notify',
      'connection.blocked', 'consumer_priorities', 'authentication_failure_close', 'per_consumer_qos',
      'direct_reply_to']) {
      equal(properties.capabilities[name], true, `capability ${name}`);
    }
  },
  'connect.frame-max': async (t) => {
    const channel = await t.channelOf(await t.connect((uri) => `${uri}?frameMax=8192`));
    const queue = await t.queue(channel);
    const body = Buffer.alloc(100000, '0123456789abcdefghi');
    channel.publish('', queue, body);
    expect((await h.get(channel, queue)).content.equals(body), 'body');
  },
  'connect.heartbeat': async (t) => {
    const connection = await t.connect((uri) => `${uri}?heartbeat=1`);
    let why = null;
    connection.on('close', (error) => { why = error || 'closed'; });
    await h.pause(4000);
    equal(why, null, 'closed');
    await t.queue(await t.channelOf(connection));
  },
  'channel.many': async (t) => {
    const connection = await t.connect();
    const channels = [];
    for (let i = 0; i < 100; i++) channels.push(await t.channelOf(connection));
    const queue = await t.queue(channels[0]);
    for (const channel of channels) h.publish(channel, '', queue, 'x');
    await h.waitCount(channels[50], queue, 100);
  },
  'channel.reopen': async (t) => {
    const connection = await t.connect();
    for (let i = 0; i < 200; i++) await (await t.channelOf(connection)).close();
    await t.queue(await t.channelOf(connection));
  },
  'channel.error-keeps-connection': async (t) => {
    const connection = await t.connect();
    const [one, other] = [await t.channelOf(connection), await t.channelOf(connection)];
    const name = t.queueName();
    await closed(404, noQueue(name), () => one.checkQueue(name));
    await t.queue(other);
    await t.queue(await t.channelOf(connection));
  },
};

const exchanges = {
  'exchange.types': async (t) => {
    const channel = await t.channel();
    for (const kind of ['direct', 'fanout', 'topic', 'headers']) {
      const name = t.exchangeName();
      await channel.assertExchange(name, kind);
      await channel.assertExchange(name, kind);
      await channel.deleteExchange(name);
      await missingExchange(t, name);
    }
  },
  'exchange.passive': async (t) => {
    const channel = await t.channel();
    await channel.checkExchange(await t.exchange(channel, 'direct'));
    await channel.checkExchange('amq.topic');
  },
  'exchange.passive-missing': (t) => missingExchange(t, t.exchangeName()),
  'exchange.inequivalent': async (t) => {
    const channel = await t.channel();
    const name = await t.exchange(channel, 'direct');
    await closed(406, `PRECONDITION_FAILED - inequivalent arg 'type' for exchange '${name}' in vhost '/': ` +
      "received 'fanout' but current is 'direct'", () => channel.assertExchange(name, 'fanout', { durable: false }));
  },
  'exchange.unknown-type': async (t) => {
    const connection = await t.connect();
    const ending = new Promise((resolve) => connection.once('error', resolve));
    const channel = await t.channelOf(connection);
    const failure = channel.assertExchange(t.exchangeName(), 'no-such-type').then(() => null, (error) => error);
    const error = await h.within(Promise.race([ending, failure.then((e) => (e && e.code ? e : ending))]), 'an error');
    expect(error.code === 503 || error.code === 406, `code ${error.code}`);
    expect(error.message.includes('exchange type'), error.message);
  },
  'exchange.reserved-name': async (t) => {
    const channel = await t.channel();
    await closed(403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'",
      () => channel.assertExchange('amq.mine', 'direct'));
  },
  'exchange.default-refused': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    await closed(403, 'ACCESS_REFUSED - operation not permitted on the default exchange',
      () => channel.bindQueue(queue, '', 'k'));
  },
  'exchange.delete-missing': async (t) => { await (await t.channel()).deleteExchange(t.exchangeName()); },
  'exchange.delete-if-unused': async (t) => {
    const channel = await t.channel();
    const [name, queue] = [await t.exchange(channel, 'direct'), await t.queue(channel)];
    await channel.bindQueue(queue, name, 'k');
    await closed(406, `PRECONDITION_FAILED - exchange '${name}' in vhost '/' in use`,
      () => channel.deleteExchange(name, { ifUnused: true }));
    const other = await t.channel();
    await other.unbindQueue(queue, name, 'k');
    await other.deleteExchange(name, { ifUnused: true });
    await missingExchange(t, name);
  },
  'exchange.auto-delete': async (t) => {
    const channel = await t.channel();
    const [name, queue] = [t.exchangeName(), await t.queue(channel)];
    await channel.assertExchange(name, 'direct', { autoDelete: true });
    await channel.checkExchange(name);
    await channel.bindQueue(queue, name, 'k');
    await channel.unbindQueue(queue, name, 'k');
    await missingExchange(t, name);
  },
  'exchange.publish-missing': async (t) => {
    const [channel, name] = [await t.channel(), t.exchangeName()];
    await closes(channel, 404, noExchange(name), () => h.publish(channel, name, 'k', 'x'));
  },
  'exchange.internal': async (t) => {
    const [channel, name] = [await t.channel(), t.exchangeName()];
    await channel.assertExchange(name, 'direct', { internal: true });
    await closes(channel, 403, `ACCESS_REFUSED - cannot publish to internal exchange '${name}' in vhost '/'`,
      () => h.publish(channel, name, 'k', 'x'));
  },
  'exchange.alternate': async (t) => {
    const channel = await t.confirming();
    let returns = 0;
    channel.on('return', () => returns++);
    const [alternate, queue, name] = [await t.exchange(channel, 'fanout'), await t.queue(channel), t.exchangeName()];
    await channel.bindQueue(queue, alternate, '');
    await channel.assertExchange(name, 'direct', { alternateExchange: alternate });
    await h.confirmed(channel, name, 'nowhere', 'x');
    equal(returns, 0, 'returns');
    equal(await h.arrived(channel, queue), ['x'], 'bodies');
  },
};

const queues = {
  'queue.named': async (t) => {
    const [channel, name] = [await t.channel(), t.queueName()];
    for (let i = 0; i < 2; i++) {
      const ok = await channel.assertQueue(name, { durable: true, arguments: t.args() });
      equal({ ...ok }, { queue: name, messageCount: 0, consumerCount: 0 }, 'declare-ok');
    }
  },
  'queue.server-named': async (t) => {
    const channel = await t.channel();
    const names = [];
    for (let i = 0; i < 2; i++) names.push((await channel.assertQueue('', { exclusive: true })).queue);
    expect(names[0] !== names[1] && names.every((n) => n.startsWith('amq.gen-')), `${names}`);
  },
  'queue.passive-missing': (t) => missingQueue(t, t.queueName()),
  'queue.inequivalent': async (t) => {
    const channel = await t.channel();
    const name = await t.classic(channel);
    await closed(406, `PRECONDITION_FAILED - inequivalent arg 'durable' for queue '${name}' in vhost '/': ` +
      "received 'false' but current is 'true'", () => channel.assertQueue(name, { durable: false }));
  },
  'queue.inequivalent-arg': async (t) => {
    const channel = await t.channel();
    const name = await t.queue(channel, { 'x-max-length': 10 });
    await closed(406, `...inequivalent arg 'x-max-length' for queue '${name}' in vhost '/'`,
      () => channel.assertQueue(name, { arguments: t.args({ 'x-max-length': 11 }) }));
  },
  'queue.bad-arg': async (t) => {
    const [channel, name] = [await t.channel(), t.queueName()];
    await closed(406, `...invalid arg 'x-message-ttl' for queue '${name}' in vhost '/'`,
      () => channel.assertQueue(name, { arguments: t.args({ 'x-message-ttl': 'soon' }) }));
  },
  'queue.exclusive-locked': async (t) => {
    const name = t.name('q');
    await (await t.channel()).assertQueue(name, { exclusive: true, durable: false });
    // a failed get has its error only on the channel, the others have it as their result too
    const text = `RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '${name}' in vhost '/'...`;
    const other = await t.connect();
    for (const act of [
      (c) => c.assertQueue(name, { exclusive: true, durable: false }), (c) => c.checkQueue(name),
      (c) => c.consume(name, () => {}), (c) => c.purgeQueue(name), (c) => c.deleteQueue(name), (c) => c.get(name),
    ]) {
      const channel = await t.channelOf(other);
      await closes(channel, 405, text, () => { act(channel).catch(() => {}); });
    }
  },
  'queue.exclusive-gone': async (t) => {
    const [owner, name] = [await t.connect(), t.queueName()];
    await (await t.channelOf(owner)).assertQueue(name, { exclusive: true, durable: false });
    await owner.close();
    await missingQueue(t, name);
  },
  'queue.auto-delete': async (t) => {
    const [channel, name] = [await t.channel(), t.queueName()];
    await channel.assertQueue(name, { autoDelete: true, durable: false });
    await channel.checkQueue(name);
    await channel.cancel((await Consumer.start(channel, name)).tag);
    await missingQueue(t, name);
  },
  'queue.reserved-name': async (t) => {
    const channel = await t.channel();
    await closed(403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
      () => channel.assertQueue('amq.mine'));
  },
  'queue.delete-missing': async (t) => {
    equal((await (await t.channel()).deleteQueue(t.queueName())).messageCount, 0, 'messages');
  },
  'queue.delete-if-unused': async (t) => {
    const name = await t.classic(await t.channel());
    await Consumer.start(await t.channel(), name);
    const channel = await t.channel();
    await closed(406, `PRECONDITION_FAILED - queue '${name}' in vhost '/' in use`,
      () => channel.deleteQueue(name, { ifUnused: true }));
  },
  'queue.delete-if-empty': async (t) => {
    const channel = await t.channel();
    const name = await t.classic(channel);
    await h.fill(channel, name, 1);
    await closed(406, `PRECONDITION_FAILED - queue '${name}' in vhost '/' not empty`,
      () => channel.deleteQueue(name, { ifEmpty: true }));
  },
  'queue.purge': async (t) => {
    const channel = await t.channel();
    const name = await t.queue(channel);
    await h.fill(channel, name, 3);
    equal((await channel.purgeQueue(name)).messageCount, 3, 'purged');
    await h.empty(channel, name);
  },
  'queue.counts': async (t) => {
    const [channel, other] = [await t.channel(), await t.channel()];
    const name = await t.queue(channel);
    await channel.prefetch(1);
    await h.fill(channel, name, 4);
    await (await Consumer.start(channel, name)).wait(1);
    await h.until('3 messages, 1 consumer', async () => {
      const ok = await other.checkQueue(name);
      return ok.messageCount === 3 && ok.consumerCount === 1;
    });
  },
  'queue.bind-missing': async (t) => {
    const queue = await t.queue(await t.channel());
    const [exchange, missing] = [t.exchangeName(), t.queueName()];
    const [one, other] = [await t.channel(), await t.channel()];
    await closed(404, noExchange(exchange), () => one.bindQueue(queue, exchange, 'k'));
    await closed(404, noQueue(missing), () => other.bindQueue(missing, 'amq.direct', 'k'));
  },
  'queue.unbind': async (t) => {
    const channel = await t.confirming();
    const [queue, exchange] = [await t.queue(channel), await t.exchange(channel, 'direct')];
    await channel.bindQueue(queue, exchange, 'k');
    for (const key of ['k', 'k', 'never']) await channel.unbindQueue(queue, exchange, key);
    await h.confirmed(channel, exchange, 'k', 'x');
    equal(await h.count(channel, queue), 0, 'messages');
  },
};

module.exports = { checks: { ...connections, ...exchanges, ...queues }, noQueue };
