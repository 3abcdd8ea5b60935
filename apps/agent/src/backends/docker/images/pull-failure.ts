import { AppError } from '@backend.ai/core';

/** Engines put the registry's answer into their own words, and 20.10 under the status 500. */
const denied = /no basic auth credentials|unauthorized|authentication required|denied|forbidden/i;
const absent = /manifest unknown|not found|repository does not exist|name unknown/i;

/** What an engine said of a fetch that failed, for people and programs. */
export function pullFailure(reference: string, message: string, cause?: unknown): AppError {
  const options = { data: { image: reference, reason: reasonOf(message) }, detail: { message }, cause };
  // "denied" first: registries hide from strangers whether something exists.
  if (denied.test(message)) {
    return new AppError(
      'image-pull-denied',
      `The registry does not give out ${reference} to these credentials.`,
      options,
    );
  }
  if (absent.test(message)) {
    return new AppError('image-not-found', `The registry does not have ${reference}.`, options);
  }
  return new AppError('image-pull-failed', `${reference} could not be fetched: ${message}`, options);
}

function reasonOf(message: string): string {
  if (denied.test(message)) return 'denied';
  if (absent.test(message)) return 'not-found';
  if (/connection refused|no such host|i\/o timeout|network is unreachable/i.test(message))
    return 'registry-unreachable';
  if (/no space left/i.test(message)) return 'no-space';
  if (/EOF|unexpected|checksum|digest/i.test(message)) return 'transfer-broken';
  return 'other';
}
