import { describe, expect, it } from 'vitest';
import { checkFile } from './boundaries.ts';

const said = (text: string, file = 'apps/manager/src/services/sessions/example.ts'): string[] =>
  checkFile(file, text).map(({ message }) => message);

describe('timers', () => {
  it.each([
    'setTimeout(work, 1);',
    'setInterval(work, 1);',
    'setImmediate(work);',
    'globalThis.setInterval(work, 1);',
    "globalThis['setTimeout'](work, 1);",
    'global.setImmediate(work);',
    'const later = globalThis.setTimeout;',
    'await new Promise(setImmediate);',
    "import { setTimeout as pause } from 'node:timers/promises';",
    "import timers from 'timers';",
    'const later = setTimeout;',
    'const clock = { set: setInterval };',
    'const clock = { setTimeout };',
    'const { setTimeout: later } = globalThis;',
    'const { setTimeout } = globalThis;',
    "const { ['setTimeout']: later } = global;",
    '(globalThis as Timers).setTimeout(work, 1);',
    'const all = globalThis;',
    'globalThis[name](work, 1);',
    'clock ??= setTimeout;',
    'fetch(url, { signal: AbortSignal.timeout(1) });',
    'globalThis.AbortSignal.timeout(1);',
    'const { timeout } = AbortSignal;',
  ])('are refused: %s', (text) => {
    expect(said(text)).toEqual([expect.stringContaining('take a Clock')]);
  });

  it.each([
    ['setTimeout(work, 1);', 'packages/core/src/clock.ts'],
    ['setImmediate(work);', 'packages/rpc/src/outbox.ts'],
    ['setTimeout(work, 1);', 'apps/manager/src/services/sessions/example.test.ts'],
    ["import { setTimeout as pause } from 'node:timers/promises';", 'scripts/example.ts'],
    ['clock.setTimer(1, work); socket.setTimeout(1);', 'apps/manager/src/services/sessions/example.ts'],
    ['const clock = { setTimeout: set }; AbortSignal.any([]); globalThis.fetch(url);', 'packages/client/src/fetch.ts'],
    [
      'class Fake { setTimeout(): void {} } let timer: ReturnType<typeof setTimeout>;',
      'apps/manager/src/services/sessions/example.ts',
    ],
  ])('have their places: %s in %s', (text, file) => {
    expect(said(text, file)).toEqual([]);
  });

  it('are refused where only turns of the event loop are awaited', () => {
    expect(said('setTimeout(work, 1);', 'packages/rpc/src/outbox.ts')).toHaveLength(1);
  });
});

describe('work in the background', () => {
  it.each([
    'void (async () => {})();',
    '(async () => {})();',
    'void (async function () {})();',
    'void ((async () => {})());',
    'async function work() {} void work();',
    'void work(); const work = async () => {};',
    'class Loop { start() { void this.#work(); } async #work() {} }',
    'const loop = () => void work(); async function work() {}',
  ])('is refused unless it has a request id: %s', (text) => {
    expect(said(text)).toEqual([expect.stringContaining('take BackgroundTasks')]);
  });

  it.each([
    'await (async () => {})();',
    'const done = (async () => {})();',
    '(() => {})();',
    'function work() {} void work();',
    'async function work() {} void work().then(tell); await work();',
  ])('is not what somebody waits for: %s', (text) => {
    expect(said(text)).toEqual([]);
  });
});

it.each([
  ["import { eq } from 'drizzle-orm';", 'outside of its room'],
  ["import { x } from '@backend.ai/agent';", 'only standalone may import apps'],
  ["import { x } from '@backend.ai/core/src/ids.ts';", 'public entries'],
  ["import { x } from '../../http/problems.ts';", 'layer services imports http'],
  ['const home = process.env.HOME;', 'reads process.env'],
])('%s is refused in a service', (text, message) => {
  expect(said(text)).toEqual([expect.stringContaining(message)]);
});

describe('tests beside sources', () => {
  const text = "import { waitFor } from '@backend.ai/testing';";

  it('import what is made of their package only in a folder that is not built with it', () => {
    expect(said(text, 'packages/runtime/src/example.test.ts')).toEqual([
      expect.stringContaining('neither can be built first'),
    ]);
    expect(said(text, 'packages/database/tests/example.test.ts')).toEqual([]);
    expect(said(text, 'packages/rpc/src/example.test.ts')).toEqual([]);
  });
});
