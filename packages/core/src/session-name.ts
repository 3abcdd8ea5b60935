import { AppError } from './errors.ts';

const pattern = /^(?=.{4,64}$)[A-Za-z0-9_][A-Za-z0-9_.-]*[A-Za-z0-9_]$/;
const reserved = new Set(['from-template']);

/** @throws AppError `invalid-session-name` */
export function checkSessionName(name: string): string {
  if (!pattern.test(name) || reserved.has(name)) {
    throw new AppError('invalid-session-name', `"${name.slice(0, 80)}" cannot be the name of a session.`, {
      data: { fields: { name: 'cannot be the name of a session' } },
    });
  }
  return name;
}
