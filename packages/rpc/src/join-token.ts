import { randomBytes } from 'node:crypto';
import { AppError } from '@backend.ai/core';

/**
 * What an operator carries from the managers to a new peer: a secret that is spent at the first connection, and the
 * public keys by which the peer knows the managers again. Text form: `bai1.KEY[~KEY…].SECRET`, all base64url.
 */
export interface JoinToken {
  readonly text: string;
  readonly managerKeys: readonly string[];
}

const pattern = /^bai1\.([A-Za-z0-9_-]{43}(?:~[A-Za-z0-9_-]{43})*)\.[A-Za-z0-9_-]{16,}$/;

export function newJoinToken(managerKeys: readonly string[]): JoinToken {
  const secret = randomBytes(24).toString('base64url');
  return { text: `bai1.${managerKeys.join('~')}.${secret}`, managerKeys };
}

/** @throws AppError `config-invalid` */
export function parseJoinToken(text: string): JoinToken {
  const [, keys] = pattern.exec(text) ?? [];
  if (keys === undefined) {
    throw new AppError('config-invalid', 'The join token is not one: it is incomplete or was changed.', {
      hint: 'Copy the whole line that `./backend.ai mgr peers token` printed.',
    });
  }
  return { text, managerKeys: keys.split('~') };
}
