// Consuming, getting, expiry, limits, several nodes.
'use strict';
const h = require('./harness');
const { noQueue } = require('./declaring');
const { Consumer, closed, closes, equal, expect } = h;

const ack = (channel, tag, multiple = false) => channel.ack({ fields: { deliveryTag: tag } }, multiple);

const badAck = (tag, times) => async (t) => {
  const channel = await t.channel();
  const queue = await t.queue(channel);
  await h.fill(channel, queue, 1);
  await (await Consumer.start(channel, queue)).wait(1);
  await closes(channel, 406, `PRECONDITION_FAILED - unknown delivery tag ${tag}`, () => {
    for (let i = 0; i < times; i++) ack(channel, tag);
  });
};

async function deadLettered(channel, queue, origin, reason, expiration) {
  const got = await h.get(channel, queue);
  const headers = got.properties.headers;
  const death = headers['x-death'][0];
  expect(death.time && death.time['!'] === 'timestamp', 'x-death time');
  const { time, ...rest } = death;
  const wanted = { count: 1, reason, queue: origin, exchange: '', 'routing-keys': [origin] };
  if (expiration !== undefined) wanted['original-expiration'] = expiration;
  equal(h.plain(rest), wanted, 'x-death');
  equal(headers['x-first-death-reason'], reason, 'x-first-death-reason');
  equal(headers['x-first-death-queue'], origin, 'x-first-death-queue');
  equal(got.properties.expiration, undefined, 'expiration');
  return got.content.toString();
}

async function withDeadLetters(t, channel, more = {}) {
  const [exchange, target] = [await t.exchange(channel, 'fanout'), await t.queue(channel)];
  await channel.bindQueue(target, exchange, '');
  return [await t.queue(channel, { 'x-dead-letter-exchange': exchange, ...more }), target];
}

const acknowledging = {
  'consume.ack': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    await h.fill(channel, queue, 5);
    const consumer = await Consumer.start(channel, queue);
    await consumer.wait(5);
    equal(consumer.got.map((m) => m.fields.deliveryTag), [1, 2, 3, 4, 5], 'tags');
    equal(consumer.got.map((m) => m.fields.consumerTag), Array(5).fill(consumer.tag), 'consumer tags');
    equal(h.flags(consumer.got), Array(5).fill(false), 'redelivered');
    equal(h.bodies(consumer.got), h.numbers(0, 5), 'bodies');
    for (const message of consumer.got) channel.ack(message);
    await channel.close();
    await h.empty(await t.channel(), queue);
  },
  'consume.tag-reuse': async (t) => {
    const connection = await t.connect();
    const ending = new Promise((resolve) => connection.once('error', resolve));
    const channel = await t.channelOf(connection);
    const queue = await t.queue(channel);
    await Consumer.start(channel, queue, { consumerTag: 'T' });
    channel.consume(queue, () => {}, { consumerTag: 'T' }).catch(() => {});
    h.reason(await h.within(ending, 'error 530'), 530, "NOT_ALLOWED - attempt to reuse consumer tag 'T'");
  },
  'consume.exclusive': async (t) => {
    const channel = await t.channel();
    const queue = await t.classic(channel);
    await Consumer.start(channel, queue, { exclusive: true });
    const other = await t.channel();
    await closed(403, `ACCESS_REFUSED - queue '${queue}' in vhost '/' in exclusive use`,
      () => other.consume(queue, () => {}));
  },
  'consume.missing-queue': async (t) => {
    const [channel, name] = [await t.channel(), t.queueName()];
    await closed(404, noQueue(name), () => channel.consume(name, () => {}));
  },
  'consume.cancel': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    await h.fill(channel, queue, 2);
    const consumer = await Consumer.start(channel, queue);
    await consumer.wait(2);
    await channel.cancel(consumer.tag);
    h.publish(channel, '', queue, 'late');
    await h.waitCount(channel, queue, 1);
    await consumer.quiet();
    ack(channel, 2, true);
    await channel.close();
    await h.waitCount(await t.channel(), queue, 1);
  },
  'consume.cancel-notify': async (t) => {
    const [channel, other] = [await t.channel(), await t.channel()];
    const queue = await t.queue(channel);
    const consumer = await Consumer.start(channel, queue);
    await other.deleteQueue(queue);
    await h.until('a cancel', () => consumer.cancels > 0);
    await consumer.quiet();
    equal(consumer.cancels, 1, 'cancels');
  },
  'consume.ack-multiple': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    await h.fill(channel, queue, 10);
    await (await Consumer.start(channel, queue)).wait(10);
    ack(channel, 7, true);
    await channel.close();
    const other = await t.channel();
    await h.waitCount(other, queue, 3);
    equal(await h.arrived(other, queue), h.numbers(7, 10), 'left');
  },
  'consume.ack-unknown': badAck(99, 1),
  'consume.ack-twice': badAck(1, 2),
  'consume.nack-requeue': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    await h.fill(channel, queue, 1);
    const consumer = await Consumer.start(channel, queue);
    channel.nack((await consumer.wait(1))[0], false, true);
    const again = (await consumer.wait(2))[1];
    equal([again.fields.redelivered, again.fields.deliveryTag, again.content.toString()], [true, 2, '0'], 'again');
    channel.ack(again);
  },
  'consume.delivery-count': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    await h.fill(channel, queue, 1);
    const consumer = await Consumer.start(channel, queue);
    channel.nack((await consumer.wait(1))[0], false, true);
    const again = (await consumer.wait(2))[1];
    equal(again.properties.headers['x-delivery-count'], t.queueType === 'quorum' ? 1 : undefined, 'x-delivery-count');
    channel.ack(again);
  },
  'consume.nack-multiple': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    await h.fill(channel, queue, 5);
    const consumer = await Consumer.start(channel, queue);
    channel.nack((await consumer.wait(5))[4], true, true);
    const again = (await consumer.wait(10)).slice(5);
    equal(h.bodies(again).sort(), h.numbers(0, 5), 'bodies');
    equal(h.flags(again), Array(5).fill(true), 'redelivered');
  },
  'consume.reject-drop': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    await h.fill(channel, queue, 2);
    const got = await (await Consumer.start(channel, queue)).wait(2);
    channel.reject(got[0], false);
    channel.nack(got[1], false, false);
    await channel.close();
    await h.empty(await t.channel(), queue);
  },
  'consume.dead-letter': async (t) => {
    const channel = await t.channel();
    const [queue, target] = await withDeadLetters(t, channel);
    await h.fill(channel, queue, 1);
    channel.reject((await (await Consumer.start(channel, queue)).wait(1))[0], false);
    equal(await deadLettered(channel, target, queue, 'rejected'), '0', 'body');
  },
  'consume.redelivered-on-close': async (t) => {
    const connection = await t.connect();
    const channel = await t.channelOf(connection);
    const queue = await t.queue(channel);
    await h.fill(channel, queue, 5);
    await (await Consumer.start(channel, queue)).wait(5);
    await connection.close();
    const got = await (await Consumer.start(await t.channel(), queue)).wait(5);
    equal(h.bodies(got), h.numbers(0, 5), 'bodies');
    equal(h.flags(got), Array(5).fill(true), 'redelivered');
  },
  'consume.recover': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    await h.fill(channel, queue, 3);
    const consumer = await Consumer.start(channel, queue);
    await consumer.wait(3);
    ack(channel, 1);
    await channel.recover();
    const again = (await consumer.wait(5)).slice(3);
    equal(h.bodies(again).sort(), h.numbers(1, 3), 'bodies');
    equal(h.flags(again), [true, true], 'redelivered');
  },
};

const choosing = {
  'consume.qos-consumer': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    await h.fill(channel, queue, 6);
    await channel.prefetch(3);
    const consumer = await Consumer.start(channel, queue);
    await consumer.wait(3);
    await consumer.quiet();
    ack(channel, 2);
    await consumer.wait(4);
    await consumer.quiet();
    ack(channel, 4, true);
    await consumer.wait(6);
  },
  'consume.qos-channel': async (t) => {
    const channel = await t.channel();
    const queues = [await t.classic(channel), await t.classic(channel)];
    for (const queue of queues) await h.fill(channel, queue, 5);
    await channel.prefetch(4, true);
    const got = [];
    for (const queue of queues) await channel.consume(queue, (m) => got.push(m));
    for (const number of [4, 5]) {
      await h.until(`${number} deliveries`, () => got.length >= number);
      await h.pause(300);
      equal(got.length, number, 'deliveries');
      channel.ack(got[number - 4]);
    }
  },
  'consume.auto-ack': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    await h.fill(channel, queue, 5);
    await (await Consumer.start(channel, queue, { noAck: true })).wait(5);
    await channel.close();
    await h.empty(await t.channel(), queue);
  },
  'consume.priority': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    const low = await Consumer.start(channel, queue, { noAck: true, priority: -1 });
    const high = await Consumer.start(channel, queue, { noAck: true, priority: 10 });
    for (let i = 0; i < 20; i++) h.publish(channel, '', queue, i);
    await high.wait(20);
    equal(low.got.length, 0, 'deliveries to the lower priority');
    await channel.cancel(high.tag);
    h.publish(channel, '', queue, 'x');
    await low.wait(1);
  },
  'consume.single-active': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel, { 'x-single-active-consumer': true });
    const [first, second] = [await Consumer.start(channel, queue), await Consumer.start(channel, queue)];
    for (let i = 0; i < 5; i++) h.publish(channel, '', queue, i);
    await first.wait(5);
    await second.quiet();
    equal(second.got.length, 0, 'deliveries to the second');
    ack(channel, 5, true);
    await channel.cancel(first.tag);
    h.publish(channel, '', queue, 'x');
    await second.wait(1);
  },
  'consume.round-robin': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    await channel.prefetch(1);
    const shares = [0, 0, 0];
    for (let i = 0; i < 3; i++) {
      await channel.consume(queue, (m) => { shares[i]++; channel.ack(m); });
    }
    for (let i = 0; i < 30; i++) h.publish(channel, '', queue, i);
    await h.until('30 deliveries', () => shares[0] + shares[1] + shares[2] === 30);
    expect(Math.min(...shares) >= 5, `shares ${shares}`);
  },
  'get.message': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    await h.fill(channel, queue, 3);
    const got = await channel.get(queue);
    equal({ ...got.fields }, { deliveryTag: 1, redelivered: false, exchange: '', routingKey: queue, messageCount: 2 },
      'get-ok');
    equal(got.content.toString(), '0', 'body');
    channel.ack(got);
    await channel.close();
    await h.waitCount(await t.channel(), queue, 2);
  },
  'get.empty': async (t) => {
    const channel = await t.channel();
    await h.empty(channel, await t.queue(channel));
  },
  'get.no-ack': async (t) => {
    const channel = await t.channel();
    const queue = await t.queue(channel);
    await h.fill(channel, queue, 1);
    equal((await h.get(channel, queue)).content.toString(), '0', 'body');
    await channel.close();
    await h.empty(await t.channel(), queue);
  },
};

const limits = {
  'ttl.message': async (t) => {
    const channel = await t.channel();
    const [queue, target] = await withDeadLetters(t, channel);
    h.publish(channel, '', queue, 'x', { expiration: '50' });
    equal(await deadLettered(channel, target, queue, 'expired', '50'), 'x', 'body');
    await h.waitCount(channel, queue, 0);
  },
  'ttl.queue': async (t) => {
    const channel = await t.channel();
    const [queue, target] = await withDeadLetters(t, channel, { 'x-message-ttl': 50 });
    h.publish(channel, '', queue, 'x');
    equal(await deadLettered(channel, target, queue, 'expired'), 'x', 'body');
    await h.waitCount(channel, queue, 0);
  },
  'ttl.expires': async (t) => {
    const connection = await t.connect();
    const queue = await t.queue(await t.channelOf(connection), { 'x-expires': 300 });
    await h.until('the queue to expire', async () => {
      const channel = await t.channelOf(connection);
      try {
        await channel.checkQueue(queue);
      } catch (error) {
        h.reason(error, 404, noQueue(queue));
        return true;
      }
      // a passive declare is a use of the queue: leave it alone for longer than its lease
      await h.pause(600);
      return false;
    });
  },
  'limit.drop-head': async (t) => {
    const channel = await t.confirming();
    const [queue, target] = await withDeadLetters(t, channel, { 'x-max-length': 3 });
    for (let i = 0; i < 5; i++) await h.confirmed(channel, '', queue, i);
    for (let i = 0; i < 2; i++) equal(await deadLettered(channel, target, queue, 'maxlen'), String(i), 'dead letter');
    equal(await h.arrived(channel, queue), h.numbers(2, 5), 'left');
  },
  'limit.reject-publish': async (t) => {
    const channel = await t.confirming();
    const queue = await t.queue(channel, { 'x-max-length': 3, 'x-overflow': 'reject-publish' });
    let number = 0;
    while (number < 200 && await h.accepted(channel, '', queue, number)) number++;
    expect(number >= 3 && number < 200, `${number} accepted`);
    equal(await h.arrived(channel, queue), h.numbers(0, number), 'bodies');
  },
  'priority.levels': async (t) => {
    const channel = await t.confirming();
    const queue = await t.classic(channel, { 'x-max-priority': 5 });
    const priorities = [0, 5, 1, 9, undefined, 1];
    for (let i = 0; i < 6; i++) await h.confirmed(channel, '', queue, i, { priority: priorities[i] });
    equal(await h.arrived(channel, queue), ['1', '3', '2', '5', '0', '4'], 'order');
  },
};

const rest = {
  'rpc.direct-reply-to': async (t) => {
    const [client, server] = [await t.channel(), await t.channel()];
    const queue = await t.queue(server);
    const replies = await Consumer.start(client, 'amq.rabbitmq.reply-to', { noAck: true });
    h.publish(client, '', queue, 'ping', { replyTo: 'amq.rabbitmq.reply-to', correlationId: '7' });
    const { replyTo } = (await h.get(server, queue)).properties;
    expect(replyTo.startsWith('amq.rabbitmq.reply-to.'), replyTo);
    h.publish(server, '', replyTo, 'pong', { correlationId: '7' });
    const reply = (await replies.wait(1))[0];
    equal([reply.properties.correlationId, reply.content.toString(), reply.fields.exchange], ['7', 'pong', ''], 'reply');
  },
  'rpc.reply-gone': async (t) => {
    const [client, server] = [await t.channel(), await t.channel()];
    const queue = await t.queue(server);
    await Consumer.start(client, 'amq.rabbitmq.reply-to', { noAck: true });
    h.publish(client, '', queue, 'ping', { replyTo: 'amq.rabbitmq.reply-to' });
    const { replyTo } = (await h.get(server, queue)).properties;
    equal((await server.checkQueue(replyTo)).consumerCount, 1, 'consumers');
    await client.close();
    await closed(404, noQueue(replyTo), () => server.checkQueue(replyTo));
  },
  'rpc.refused': async (t) => {
    const acking = await t.channel();
    await closed(406, 'PRECONDITION_FAILED - reply consumer cannot acknowledge',
      () => acking.consume('amq.rabbitmq.reply-to', () => {}, { noAck: false }));
    const channel = await t.channel();
    const queue = await t.queue(channel);
    await h.closes(channel, 406, 'PRECONDITION_FAILED - fast reply consumer does not exist',
      () => h.publish(channel, '', queue, 'x', { replyTo: 'amq.rabbitmq.reply-to' }));
  },
  'cluster.declare-there': async (t) => {
    const channels = [await t.channel(), await t.channel()];
    for (let i = 0; i < 20; i++) await channels[1 - (i % 2)].checkQueue(await t.queue(channels[i % 2]));
  },
  'cluster.bind-there': async (t) => {
    const [one, other] = [await t.confirming(), await t.confirming()];
    let returns = 0;
    other.on('return', () => returns++);
    const [exchange, queue] = [await t.exchange(one, 'direct'), await t.queue(other)];
    for (let i = 0; i < 20; i++) {
      await one.bindQueue(queue, exchange, String(i));
      await h.confirmed(other, exchange, String(i), i);
    }
    equal(returns, 0, 'returns');
    equal(await h.arrived(one, queue), h.numbers(0, 20), 'bodies');
  },
  'cluster.consume-there': async (t) => {
    const [one, other, third] = [await t.channel(), await t.channel(), await t.channel()];
    const queue = await t.queue(third);
    const consumer = await Consumer.start(other, queue);
    for (let i = 0; i < 2000; i++) h.publish(one, '', queue, i, { deliveryMode: 2 });
    await consumer.wait(2000);
    equal(h.bodies(consumer.got), h.numbers(0, 2000), 'order');
    other.ackAll();
    await other.close();
    await h.empty(third, queue);
  },
  'cluster.delete-there': async (t) => {
    const [one, other] = [await t.channel(), await t.connect()];
    for (let i = 0; i < 10; i++) {
      const queue = await t.queue(one);
      await one.deleteQueue(queue);
      const channel = await t.channelOf(other);
      await closed(404, noQueue(queue), () => channel.checkQueue(queue));
    }
  },
};

module.exports = { checks: { ...acknowledging, ...choosing, ...limits, ...rest } };
