import type { StartServiceOptions } from '@backend.ai/client';
import { AppError } from '@backend.ai/core';

/** `-e NAME=VALUE` and `--arg NAME[=VALUE]` of commands that start services. */
export function parseServiceOptions(envs: readonly string[], args: readonly string[]): StartServiceOptions {
  const env: Record<string, string> = {};
  for (const text of envs) {
    const at = text.indexOf('=');
    if (at < 1) throw new AppError('invalid-input', `"${text}" is not of the form NAME=VALUE.`);
    env[text.slice(0, at)] = text.slice(at + 1);
  }
  const given: Record<string, string | null> = {};
  for (const text of args) {
    const at = text.indexOf('=');
    given[at < 0 ? text : text.slice(0, at)] = at < 0 ? null : text.slice(at + 1);
  }
  return {
    ...(envs.length > 0 ? { envs: env } : {}),
    ...(args.length > 0 ? { arguments: given } : {}),
  };
}
