import { AppError, type RequestId, Secret } from '@backend.ai/core';
import { describe, expect, it } from 'vitest';
import { createLogger } from './logger.ts';
import { readableRecord } from './readable-log.ts';
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

  it('of a module has the level of that module, below it too', () => {
    const lines: string[] = [];
    const destination = { write: (line: string): void => void lines.push(line) };
    const logger = createLogger({
      component: 'test',
      level: 'warn',
      levels: { rpc: 'debug', http: 'error' },
      destination,
    });
    logger.info('no');
    logger.with({ module: 'rpc' }).with({ peer: 'p' }).debug('yes');
    logger.with({ module: 'http' }).warn('no');
    logger.with({ module: 'constructor' }).info('no');
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ msg: 'yes', module: 'rpc', peer: 'p' }]);
  });

  it('of an error that tells a URL does not tell the password in it', () => {
    const { logger, lines } = collect();
    logger.error('failed', {
      error: new Error('connect postgres://me:hunter2@db/x', { cause: new Error('redis://:hunter2@r') }),
    });
    logger.info('shown', { url: Secret.url('pg://u:hunter2@h') });
    expect(lines.join('')).not.toContain('hunter2');
    expect(lines.join('')).toContain('postgres://me:***@db/x');
  });
});

describe('a readable record', () => {
  const readable = (log: (logger: ReturnType<typeof createLogger>) => void): string => {
    const { logger, lines } = collect();
    log(logger);
    return readableRecord(lines[0] ?? '', { colour: false }).replace(/^\S+ /, '');
  };

  it('shows time, level, component and module, message, fields and request id', () => {
    const text = readable((logger) =>
      runWithRequest({ requestId: 'req-1' as RequestId }, () =>
        logger.with({ module: 'rpc' }).warn('slow call', { path: 'a.b', ms: 12, why: 'two words' }),
      ),
    );
    expect(text).toBe('WARN  test/rpc slow call path=a.b ms=12 why="two words" request_id=req-1\n');
  });

  it('shows errors with their causes', () => {
    const text = readable((logger) =>
      logger.error('failed', { error: new AppError('no-agent', 'm', { cause: new Error('inner') }) }),
    );
    expect(text).toMatch(/^ERROR test failed\n {2}error: AppError: m code=no-agent\n(.*\n)+ {2}cause: Error: inner\n/);
  });

  it('is the text itself where that is no record', () => {
    expect(readableRecord('boom\n', { colour: false })).toBe('boom\n');
  });
});
