import { describe, expect, it } from 'vitest';
import { AppError, type ErrorBody, errorCodes, hasCode } from './errors.ts';

describe('AppError', () => {
  it('crosses a link with its code, hint, data and request id, and without its private detail', () => {
    const error = new AppError('rate-limited', 'Too fast.', {
      data: { limit: 3 },
      detail: 'private',
      cause: new Error(),
    });
    const body = JSON.parse(JSON.stringify(error.toBody('req-1'))) as ErrorBody;
    expect(JSON.stringify(body)).not.toContain('private');
    expect(AppError.fromBody(body)).toMatchObject({
      code: 'rate-limited',
      category: 'wait',
      message: 'Too fast.',
      hint: errorCodes['rate-limited'].hint,
      data: { limit: 3 },
      requestId: 'req-1',
    });
  });

  it.each(['from-the-future', 'constructor'])('turns the unknown code %s into internal', (code) => {
    expect(AppError.fromBody({ code, message: 'm', hint: 'h' } as unknown as ErrorBody).code).toBe('internal');
  });

  it('keeps anything else that was thrown as the cause of internal', () => {
    const cause = new TypeError('x');
    const error = AppError.from(cause);
    expect(hasCode(error, 'internal')).toBe(true);
    expect(error.cause).toBe(cause);
    expect(AppError.from(error)).toBe(error);
  });

  it('finds the one that a library wrapped', () => {
    const known = new AppError('server-unreachable', 'The database cannot be reached.');
    expect(AppError.from(new Error('Failed query', { cause: known }))).toBe(known);
  });
});
