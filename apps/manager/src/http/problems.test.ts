import { AppError, type ErrorCode, errorCodes } from '@backend.ai/core';
import { describe, expect, test } from 'vitest';
import { asAppError, toProblem } from './problems.ts';

const codes = Object.keys(errorCodes) as ErrorCode[];

describe('errors as the REST API shows them', () => {
  test.each(codes)('%s has a status, a type and a title', (code) => {
    const { status, body } = toProblem(
      new AppError(code, 'What happened.', { detail: 'PRIVATE', cause: 'PRIVATE' }),
      'r1',
    );
    expect(status).toBeGreaterThanOrEqual(400);
    expect(status).toBeLessThan(600);
    expect(body.type).toMatch(/^https:\/\/api\.backend\.ai\/probs\/[a-z-]+$/);
    expect(body.title).not.toBe('');
    expect(body).toMatchObject({ error_code: code, hint: errorCodes[code].hint, request_id: 'r1' });
    expect(JSON.stringify(body)).not.toMatch(/PRIVATE|\bat .*\.ts/);
  });

  test.each<[ErrorCode, number, string, string]>([
    ['auth-missing', 401, 'auth-failed', 'Unauthorized access'],
    ['forbidden', 401, 'auth-failed', 'Unauthorized access'],
    ['auth-unknown-key', 401, 'auth-failed', 'Access key not found'],
    ['auth-bad-signature', 401, 'auth-failed', 'Signature mismatch'],
    ['auth-clock-skew', 400, 'invalid-auth-params', 'Date/time sync error'],
    ['malformed-body', 400, 'invalid-api-params', 'Malformed body'],
    ['rate-limited', 429, 'rate-limit-exceeded', 'x'],
    ['method-not-allowed', 405, 'method-not-allowed', 'x'],
  ])('%s is %i %s: %s', (code, status, slug, msg) => {
    const problem = toProblem(new AppError(code, 'x'), 'r1');
    expect(problem.status).toBe(status);
    expect(problem.body.type.endsWith(`/${slug}`)).toBe(true);
    expect(problem.body.msg).toBe(msg);
  });

  test('the two types that clients expect data with always have it', () => {
    expect(toProblem(new AppError('session-exists', 'x', { data: { existingSessionId: 'i' } }), 'r').body.data).toEqual(
      {
        existingSessionId: 'i',
      },
    );
    expect(toProblem(new AppError('session-exists', 'x'), 'r').body.data).toEqual({ existingSessionId: null });
    expect(toProblem(new AppError('too-many-matches', 'x'), 'r').body.data).toEqual({ matches: [] });
  });

  test('field errors are the data of a validation failure', () => {
    const { body } = toProblem(new AppError('invalid-input', 'x', { data: { fields: { name: 'is required' } } }), 'r');
    expect(body).toMatchObject({ msg: 'Input validation error', data: { name: 'is required' } });
  });

  test('field errors of any code are its data, beside what else it tells', () => {
    const fields = { name: 'cannot be the name of a session' };
    const name = toProblem(new AppError('invalid-session-name', 'No name.', { data: { fields } }), 'r').body;
    expect(name).toMatchObject({ msg: 'No name.', data: fields });
    const data = { fields: { 'resources.mem': 'is too much' }, slots: { mem: {} } };
    const capacity = toProblem(new AppError('insufficient-capacity', 'x', { data }), 'r').body;
    expect(capacity.data).toEqual({ 'resources.mem': 'is too much', slots: { mem: {} } });
  });

  test('a missing session is named', () => {
    expect(toProblem(new AppError('session-not-found', 'x'), 'r').body.title).toBe('No such session.');
  });

  test('what is not known says nothing of itself', () => {
    const { status, body } = toProblem(asAppError(new Error('password=123')), 'r');
    expect(status).toBe(500);
    expect(JSON.stringify(body)).not.toContain('123');
  });
});
