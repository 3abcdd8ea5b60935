import { expect, it } from 'vitest';
import { daySpan, monthSpan } from './calendar.ts';

const days = (span: ReturnType<typeof daySpan>) => span && [span.from, span.to].map((at) => at.toISOString());

it('a month ends where the next one begins, also at the end of a year', () => {
  expect(days(monthSpan('202402'))).toEqual(['2024-02-01T00:00:00.000Z', '2024-03-01T00:00:00.000Z']);
  expect(days(monthSpan('202412'))).toEqual(['2024-12-01T00:00:00.000Z', '2025-01-01T00:00:00.000Z']);
});

it('a period includes its last day', () => {
  expect(days(daySpan('20250131', '20250131'))).toEqual(['2025-01-31T00:00:00.000Z', '2025-02-01T00:00:00.000Z']);
});

it.each(['202513', '2025', '2025-01', '20250', ''])('%s is no month', (text) => {
  expect(monthSpan(text)).toBeUndefined();
});

it.each([
  ['20250230', '20250301'],
  ['20250102', '20250101'],
  ['2025-01-01', '20250102'],
])('%s to %s are no days', (first, last) => {
  expect(daySpan(first, last)).toBeUndefined();
});
