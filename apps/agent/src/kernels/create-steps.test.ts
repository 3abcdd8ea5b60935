import { deferred, systemClock, Turns } from '@backend.ai/core';
import { expect, it } from 'vitest';
import type { CreateStep } from '../backends/backend.ts';
import { runSteps } from './create-steps.ts';

const signal = new AbortController().signal;

it('steps after one another have one turn together, which the next ones after them leave to others', async () => {
  const turns = new Turns(1);
  const begun: string[] = [];
  const [crowded, after] = [deferred(), deferred()];
  const plan = (name: string): CreateStep[] => [
    { name: 'before', run: () => void begun.push(`${name} before`), undo() {} },
    { name: 'make', turns, run: () => void begun.push(`${name} make`), undo() {} },
    { name: 'launch', turns, run: () => crowded.promise, undo() {} },
    { name: 'after', run: () => after.promise, undo() {} },
  ];
  const runs = ['a', 'b'].map((name) => runSteps(plan(name), { signal, clock: systemClock }));
  await new Promise(setImmediate);
  expect(begun).toEqual(['a before', 'b before', 'a make']);
  crowded.resolve();
  await new Promise(setImmediate);
  expect(begun.at(-1)).toBe('b make');
  after.resolve();
  const stepsOf = ({ timings }: Awaited<(typeof runs)[number]>): string[] => timings.map(({ step }) => step);
  expect((await Promise.all(runs)).map(stepsOf)).toEqual([
    ['before', 'make', 'launch', 'after'],
    ['before', 'await-turn', 'make', 'launch', 'after'],
  ]);
});

it('a step that fails gives its turn back before anything is undone', async () => {
  const turns = new Turns(1);
  const fail = (): never => {
    throw new Error('no');
  };
  const { failure } = await runSteps([{ name: 'make', turns, run: fail, undo() {} }], { signal, clock: systemClock });
  expect(failure?.step).toBe('make');
  expect(turns.isFree).toBe(true);
});
