import { AppError, type RequestId } from '@backend.ai/core';
import { describe, expect, it } from 'vitest';
import { createLogger } from './logger.ts';
import { runWithRequest } from './request-context.ts';

function collect() {
  const lines: string[] = [];
  const logger = createLogger({
    component: 'test',
    level: 'debug',
    destination: { write: (line) => void lines.push(line) },
  });
  return { logger, lines, last: () => JSON.parse(lines.at(-1) ?? 'null') as Record<string, unknown> };
}

describe('a log record', () => {
  it('carries component, request id, actor and fields', () => {
    const { logger, last } = collect();
    runWithRequest({ requestId: 'req-1' as RequestId, actor: 'AKIA' }, () => logger.info('done', { session_id: 's' }));
    expect(last()).toMatchObject({
      component: 'test',
      level: 'info',
      msg: 'done',
      request_id: 'req-1',
      actor: 'AKIA',
      session_id: 's',
    });
    logger.warn('outside');
    expect(last().request_id).toBeNull();
  });

  it('carries the fields of its logger', () => {
    const { logger, last } = collect();
    logger.with({ agent_id: 'i-1' }).with({ kernel_id: 'k' }).info('both');
    expect(last()).toMatchObject({ agent_id: 'i-1', kernel_id: 'k' });
  });

  it('never shows a secret, however deep fields are nested or bound', () => {
    const { logger, lines } = collect();
    logger.info('top', { password: 'hidden', token: 'hidden' });
    logger.info('nested', { keypair: { secretKey: 'hidden', secret_key: 'hidden' } });
    logger.info('deeper', { request: { headers: { authorization: 'hidden' } } });
    logger.with({ ticket: 'hidden' }).info('bound');
    logger.error('failed', { error: new AppError('internal', 'm', { detail: { privateKey: 'hidden' } }) });
    expect(lines).toHaveLength(5);
    expect(lines.join('')).not.toContain('hidden');
    expect(lines.join('')).toContain('***');
  });

  it('shows an error with its code, detail and chain of causes', () => {
    const { logger, last } = collect();
    const error = new AppError('no-agent', 'm', { detail: { tried: 2 }, cause: new Error('inner', { cause: 'text' }) });
    logger.error('failed', { error });
    expect(last().error).toMatchObject({
      code: 'no-agent',
      detail: { tried: 2 },
      cause: { message: 'inner', cause: 'text' },
    });
  });
});
