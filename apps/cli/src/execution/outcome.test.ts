import type { RunOutcome } from '@backend.ai/client';
import { AppError, type ErrorCode } from '@backend.ai/core';
import { expect, it } from 'vitest';
import { noticesOf } from './outcome.ts';

function codesOf(outcome: Pick<RunOutcome, 'exitCode' | 'status'>, ...told: ErrorCode[]): string[] {
  const notices = told.map((code) => new AppError(code, 'Told by the agent.').toBody('r-one'));
  return noticesOf({ ...outcome, notices } as RunOutcome, 'r-one').map(({ code }) => code);
}

it('a program that failed is told by its exit code, unless something else says why', () => {
  expect(codesOf({ status: 'finished', exitCode: 0 })).toEqual([]);
  expect(codesOf({ status: 'finished', exitCode: 3 })).toEqual(['program-failed']);
  expect(codesOf({ status: 'finished', exitCode: 137 }, 'program-killed')).toEqual(['program-killed']);
  expect(codesOf({ status: 'finished', exitCode: 3 }, 'output-limit-exceeded')).toEqual([
    'output-limit-exceeded',
    'program-failed',
  ]);
});

it('a time limit is told whatever else happened, and once', () => {
  expect(codesOf({ status: 'exec-timeout', exitCode: null })).toEqual(['execution-timeout']);
  expect(codesOf({ status: 'exec-timeout', exitCode: null }, 'execution-timeout')).toEqual(['execution-timeout']);
  expect(codesOf({ status: 'exec-timeout', exitCode: null }, 'out-of-memory')).toEqual([
    'out-of-memory',
    'execution-timeout',
  ]);
});
