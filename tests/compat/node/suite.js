// The client suite of tests/compat/README.md for amqplib.
'use strict';
const { Test, Failed } = require('./harness');

const options = { '--queue-type': 'classic', '--check': '*' };
for (let i = 2; i + 1 < process.argv.length; i += 2) options[process.argv[i]] = process.argv[i + 1];
if (!options['--uris']) {
  console.error('usage: suite.js --uris URI,... [--queue-type classic|quorum] [--check PATTERN]');
  process.exit(2);
}

const checks = Object.entries({
  ...require('./declaring').checks, ...require('./messages').checks, ...require('./consuming').checks,
});
const parts = options['--check'].split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
const pattern = new RegExp(`^${parts.join('.*')}$`);
const leftOut = (process.env.COMPAT_EXCEPT || '').split(' ');
const wanted = (name) => pattern.test(name) && !leftOut.includes(name);

async function run(t, check) {
  let why = null;
  try {
    await check(t);
  } catch (error) {
    why = error instanceof Failed ? error.message : String(error);
  }
  try {
    await t.clean();
  } catch (error) {
    why = why || `cleaning up: ${error}`;
  }
  return why && why.replace(/\s+/g, ' ');
}

(async () => {
  console.log(`1..${checks.filter(([name]) => wanted(name)).length}`);
  let failures = 0;
  for (const [number, [name, check]] of checks.entries()) {
    if (!wanted(name)) continue;
    const why = await run(new Test(options['--uris'].split(','), options['--queue-type'], number), check);
    if (why) failures++;
    console.log(why ? `not ok ${name}: ${why}` : `ok ${name}`);
  }
  process.exit(failures ? 1 : 0);
})();
