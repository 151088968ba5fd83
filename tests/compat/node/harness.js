// What the checks share: connections that rotate over the URIs, names, waiting, comparing errors.
'use strict';
const amqp = require('amqplib');
const { isDeepStrictEqual, inspect } = require('util');

const DEADLINE_MS = 10000;

class Failed extends Error {}

function expect(condition, why) {
  if (!condition) throw new Failed(why);
}

function equal(got, wanted, what) {
  if (!isDeepStrictEqual(got, wanted)) {
    throw new Failed(`${what}: ${inspect(got)} instead of ${inspect(wanted)}`.slice(0, 600));
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(what, test) {
  const end = Date.now() + DEADLINE_MS;
  for (;;) {
    const value = await test();
    if (value) return value;
    expect(Date.now() < end, `not within ${DEADLINE_MS} ms: ${what}`);
    await pause(20);
  }
}

function within(promise, what, ms = DEADLINE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Failed(`not within ${ms} ms: ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// The error must be the broker's closing with code and text.
function reason(error, code, text) {
  equal(error.code, code, `reply code (${error.message})`);
  const got = /with message "([\s\S]*)"$/.exec(error.message);
  const reply = got ? got[1] : error.message;
  if (text.endsWith('...')) expect(reply.startsWith(text.slice(0, -3)), `reply text: ${reply}`);
  else if (text.startsWith('...')) expect(reply.includes(text.slice(3)), `reply text: ${reply}`);
  else equal(reply, text, 'reply text');
}

async function closed(code, text, act) {
  let error;
  try {
    await within(act(), `error ${code}`);
  } catch (caught) {
    error = caught;
  }
  if (error === undefined) throw new Failed(`no error ${code}`);
  if (error instanceof Failed) throw error;
  reason(error, code, text);
}

// For what has no answer of its own: the channel must be closed after it.
async function closes(channel, code, text, act) {
  const error = new Promise((resolve) => channel.once('error', resolve));
  act();
  reason(await within(error, `error ${code}`), code, text);
}

class Test {
  constructor(uris, queueType, number) {
    Object.assign(this, { uris, queueType, number, opened: [], queues: [], exchanges: [], serial: 0 });
  }

  uri() {
    return this.uris[(this.number + this.opened.length) % this.uris.length];
  }

  async connect(change = (uri) => uri) {
    const connection = await amqp.connect(change(this.uri()), { timeout: DEADLINE_MS });
    connection.on('error', () => {});
    connection.connection.setMaxListeners(0);
    this.opened.push(connection);
    return connection;
  }

  async channelOf(connection, confirm = false) {
    const channel = confirm ? await connection.createConfirmChannel() : await connection.createChannel();
    channel.on('error', () => {});
    return channel;
  }

  async channel() {
    return this.channelOf(await this.connect());
  }

  async confirming() {
    return this.channelOf(await this.connect(), true);
  }

  name(kind) {
    this.serial++;
    return `compat.node.${process.pid}.${this.number}.${kind}${this.serial}`;
  }

  queueName() {
    this.queues.push(this.name('q'));
    return this.queues[this.queues.length - 1];
  }

  exchangeName() {
    this.exchanges.push(this.name('x'));
    return this.exchanges[this.exchanges.length - 1];
  }

  args(more = {}) {
    return this.queueType === 'quorum' ? { 'x-queue-type': 'quorum', ...more } : { ...more };
  }

  // The queue: durable, of the type given on the command line.
  async queue(channel, more = {}) {
    const name = this.queueName();
    await channel.assertQueue(name, { durable: true, arguments: this.args(more) });
    return name;
  }

  async classic(channel, more = {}) {
    const name = this.queueName();
    await channel.assertQueue(name, { durable: true, arguments: more });
    return name;
  }

  async exchange(channel, kind) {
    const name = this.exchangeName();
    await channel.assertExchange(name, kind, { durable: false });
    return name;
  }

  async clean() {
    for (const connection of this.opened) {
      try {
        await within(connection.close(), 'close');
      } catch (error) {
        if (error instanceof Failed) throw error; // any other: it was closed already
      }
    }
    this.opened = [];
    if (this.queues.length + this.exchanges.length === 0) return;
    const connection = await this.connect();
    const channel = await this.channelOf(connection);
    for (const name of this.queues) await channel.deleteQueue(name);
    for (const name of this.exchanges) await channel.deleteExchange(name);
    await connection.close();
  }
}

class Consumer {
  constructor(channel) {
    Object.assign(this, { channel, got: [], cancels: 0 });
  }

  static async start(channel, queue, options = {}) {
    const consumer = new Consumer(channel);
    const ok = await channel.consume(queue, (message) => {
      if (message === null) consumer.cancels++;
      else consumer.got.push(message);
    }, options);
    consumer.tag = ok.consumerTag;
    return consumer;
  }

  async wait(number) {
    await until(`${number} deliveries`, () => this.got.length >= number);
    return this.got;
  }

  async quiet() {
    const before = this.got.length;
    await pause(300);
    equal(this.got.length, before, 'deliveries');
  }
}

const bodies = (messages) => messages.map((m) => m.content.toString());
const flags = (messages) => messages.map((m) => m.fields.redelivered);
const numbers = (from, to) => Array.from({ length: to - from }, (_, i) => String(from + i));
const count = async (channel, queue) => (await channel.checkQueue(queue)).messageCount;
const waitCount = (channel, queue, wanted) =>
  until(`${wanted} messages in ${queue}`, async () => (await count(channel, queue)) === wanted);
const publish = (channel, exchange, key, body, options) =>
  channel.publish(exchange, key, Buffer.from(String(body)), options);

// Publishes and waits for the ack; false when it is nacked.
function accepted(channel, exchange, key, body, options) {
  return within(new Promise((resolve) => {
    channel.publish(exchange, key, Buffer.from(String(body)), { mandatory: true, ...options }, (error) => resolve(!error));
  }), 'a confirm');
}

async function confirmed(channel, exchange, key, body, options) {
  expect(await accepted(channel, exchange, key, body, options), 'nacked');
}

async function fill(channel, queue, number) {
  for (let i = 0; i < number; i++) publish(channel, '', queue, i, { deliveryMode: 2 });
  await waitCount(channel, queue, number);
}

// Waits for a message of the queue and takes it.
async function get(channel, queue) {
  const got = await until(`a message in ${queue}`, () => channel.get(queue, { noAck: true }));
  // RabbitMQ 3 adds it to what is taken from a quorum queue for the first time, 4 does not
  const headers = got.properties.headers;
  if (headers && headers['x-delivery-count'] === 0) delete headers['x-delivery-count'];
  return got;
}

async function empty(channel, queue) {
  expect((await channel.get(queue, { noAck: true })) === false, 'a message is left');
}

// Takes all that is in the queue; to be called when all publishes are confirmed.
async function arrived(channel, queue) {
  const list = [];
  for (;;) {
    const got = await channel.get(queue, { noAck: true });
    if (got === false) return list;
    list.push(got.content.toString());
  }
}

const plain = (table) => JSON.parse(JSON.stringify(table));

module.exports = {
  DEADLINE_MS, Failed, Test, Consumer, expect, equal, pause, until, within, reason, closed, closes, bodies, flags,
  numbers, count, waitCount, publish, accepted, confirmed, fill, get, empty, arrived, plain,
};
