import { AppError, maskUrls } from '@backend.ai/core';

/** What a record says of a failure: code and sentence of one that is known, everything of one that nobody expected. */
export function failureFields(thrown: unknown): Record<string, unknown> {
  const { code, message } = AppError.from(thrown);
  return code === 'internal' ? { error: thrown } : { code, reason: maskUrls(message) };
}
