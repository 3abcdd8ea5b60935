import { AppError, withShownConfig } from '@backend.ai/core';
import type { RedisServer } from './redis-server.ts';

const unreachable = /ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|max retries|LOADING|READONLY/i;
const broken = /Connection is closed|ECONNRESET|EPIPE|aborted|Socket timeout|stream isn't writeable/i;
const refused = /^(WRONGPASS|NOAUTH|NOPERM)|without any password|invalid password/i;

/** What to do about a server that does not answer. */
export const unreachableRedisHint =
  'Start Redis, or correct redis.url-file (or redis.url). For development: ./scripts/run-dev.sh';

/**
 * What the client throws, as ours. Causes are left out: those of the client carry the arguments of commands, a password
 * among them.
 */
export function redisFailure(thrown: unknown, server: Pick<RedisServer, 'address' | 'showConfig'>): AppError {
  if (thrown instanceof AppError) return thrown;
  const { address, showConfig } = server;
  const detail = thrown instanceof Error ? thrown.message : String(thrown);
  if (refused.test(detail)) {
    return new AppError('config-invalid', `Redis at ${address} refuses this user or password.`, {
      hint: withShownConfig('Correct user and password in redis.url-file (or redis.url).', showConfig),
      detail,
    });
  }
  if (/timed out/i.test(detail) && !/connect/i.test(detail)) {
    return new AppError('deadline-exceeded', `Redis at ${address} did not answer in time.`, { detail });
  }
  if (unreachable.test(detail)) {
    return new AppError('server-unreachable', `Redis at ${address} cannot be reached.`, {
      hint: unreachableRedisHint,
      detail,
    });
  }
  if (broken.test(detail)) {
    return new AppError('connection-lost', `The connection to Redis at ${address} broke.`, { detail });
  }
  return new AppError('internal', `Redis at ${address} refused a command.`, {
    hint: 'Look at the log for what Redis answered, and at its memory and disk.',
    detail,
  });
}

/** A stream or its group is gone: Redis was emptied. */
export const isGroupGone = (thrown: unknown): boolean =>
  thrown instanceof Error && /NOGROUP|UNBLOCKED|no longer exists/.test(thrown.message);

export const isGroupThere = (thrown: unknown): boolean =>
  thrown instanceof Error && thrown.message.startsWith('BUSYGROUP');
